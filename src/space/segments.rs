//! All segments of a store: the map of each one that is in memory, and a summary of every other.
//!
//! A segment whose map is not in memory still takes changes: they wait and are applied when it is
//! loaded. Counts of sectors in use are exact for loaded segments and as of the last checkpoint's
//! summary, with what changed since, for others. [`Space`](super::Space) calls it under its lock;
//! [`crate::format::space`] has the summary's bytes.

use std::collections::BTreeSet;

use super::geometry::{Geometry, Range};
use super::map::{Change, Map};
use super::tail::Tail;
use crate::error::{Error, ErrorKind, Result};
use crate::format::bytes::{put_varint, read_varint};

/// The segments that one block of the summary tells of.
pub(crate) const SUMMARY_SEGMENTS: u32 = 1024;

#[derive(Debug)]
pub(super) enum State {
    /// Nothing is in use, and the loader need not be asked.
    Fresh,
    /// The loader knows the map; these changes come on top of it.
    Unloaded(Vec<(Change, Range)>),
    /// The map is in memory.
    Loaded(Box<Map>),
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) state: State,
    /// Sectors within the disk's capacity that may be allocated.
    pub(super) free: u32,
    /// Sectors of the durable view in use.
    pub(super) durable: u32,
    /// Sectors in use outside the durable view.
    pub(super) held: u32,
    /// No run of free sectors is longer.
    pub(super) longest: u32,
    /// Counts how often the map left the memory, so that a load begun before is not used after.
    pub(super) unloads: u32,
    /// It is being given back to the disk: nothing may be allocated in it.
    pub(super) withheld: bool,
    /// It was given back to the disk and nothing was allocated in it since.
    pub(super) punched: bool,
}

impl Segment {
    fn new(state: State, limit: u32) -> Self {
        Self {
            state,
            free: limit,
            durable: 0,
            held: 0,
            longest: limit,
            unloads: 0,
            withheld: false,
            punched: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.durable == 0 && self.held == 0 && !matches!(self.state, State::Unloaded(_))
    }
}

/// Sectors in use, over all segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) durable: u64,
    pub(super) held: u64,
}

#[derive(Debug)]
pub(super) struct Segments {
    pub(super) geometry: Geometry,
    /// In blocks, so that a damaged count of segments takes no memory to speak of.
    blocks: Vec<Option<Box<[Segment]>>>,
    count: u32,
    /// Segments below this number may have a map that the loader knows.
    on_disk: u32,
    pub(super) totals: Totals,
    /// Segments whose durable view changed since this was last taken.
    pub(super) changed: BTreeSet<u32>,
    pub(super) tail: Option<Tail>,
    /// No loaded segment has a run of this many free sectors.
    pub(super) exhausted: u32,
    /// Numbers of sectors that fit nowhere closely, as far as segments are loaded.
    pub(super) unfit: BTreeSet<u32>,
}

impl Segments {
    pub(super) fn new(geometry: Geometry, count: u32) -> Self {
        Self {
            blocks: (0..count.div_ceil(SUMMARY_SEGMENTS))
                .map(|_| None)
                .collect(),
            geometry,
            count,
            on_disk: count,
            totals: Totals::default(),
            changed: BTreeSet::new(),
            tail: None,
            exhausted: u32::MAX,
            unfit: BTreeSet::new(),
        }
    }

    /// There is more room than before, or other.
    pub(super) fn has_more_room(&mut self) {
        self.exhausted = u32::MAX;
        self.unfit.clear();
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A segment; `None` if it does not exist or nothing was ever said of it.
    pub(super) fn get(&self, number: u32) -> Option<&Segment> {
        if number >= self.count {
            return None;
        }
        let block = self.blocks.get((number / SUMMARY_SEGMENTS) as usize)?;
        block.as_ref()?.get((number % SUMMARY_SEGMENTS) as usize)
    }

    /// A segment that exists.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Segment> {
        if number >= self.count {
            return None;
        }
        let index = number / SUMMARY_SEGMENTS;
        let (geometry, on_disk) = (&self.geometry, self.on_disk);
        let exhausted = &mut self.exhausted;
        let block = self.blocks.get_mut(index as usize)?.get_or_insert_with(|| {
            *exhausted = u32::MAX;
            let first = index * SUMMARY_SEGMENTS;
            (first..first + SUMMARY_SEGMENTS)
                .map(|segment| {
                    let state = if segment < on_disk {
                        State::Unloaded(Vec::new())
                    } else {
                        State::Fresh
                    };
                    Segment::new(state, geometry.limit(segment))
                })
                .collect()
        });
        block.get_mut((number % SUMMARY_SEGMENTS) as usize)
    }

    /// The first segment from `from` to before `to` that fits.
    pub(super) fn find(
        &self,
        from: u32,
        to: u32,
        fits: impl Fn(u32, &Segment) -> bool,
    ) -> Option<u32> {
        let to = to.min(self.count);
        let mut at = from;
        while at < to {
            let index = at / SUMMARY_SEGMENTS;
            let end = to.min((index + 1) * SUMMARY_SEGMENTS);
            if let Some(block) = &self.blocks[index as usize] {
                let found = (at..end)
                    .zip(&block[(at % SUMMARY_SEGMENTS) as usize..])
                    .find(|(number, segment)| fits(*number, segment));
                if let Some((number, _)) = found {
                    return Some(number);
                }
            }
            at = end;
        }
        None
    }

    /// The first segment of a block of which nothing was said yet.
    pub(super) fn first_unknown(&self) -> Option<u32> {
        let index = self.blocks.iter().position(Option::is_none)?;
        let first = index as u32 * SUMMARY_SEGMENTS;
        (first < self.count).then_some(first)
    }

    /// Adds segments until there are `count`.
    pub(super) fn grow(&mut self, count: u32) {
        let blocks = count.div_ceil(SUMMARY_SEGMENTS) as usize;
        if blocks > self.blocks.len() {
            self.blocks.resize_with(blocks, || None);
        }
        self.count = self.count.max(count);
        self.has_more_room();
    }

    /// Removes the last segment, which is empty.
    pub(super) fn shrink(&mut self) {
        let last = self.count - 1;
        let limit = self.geometry.limit(last);
        if let Some(segment) = self.get_mut(last) {
            let unloads = segment.unloads + 1;
            *segment = Segment::new(State::Fresh, limit);
            segment.unloads = unloads;
        }
        self.count = last;
        self.on_disk = self.on_disk.min(last);
        self.changed.insert(last);
    }

    /// Applies a change to sectors of a segment that exists.
    pub(super) fn change(&mut self, range: Range, change: Change) -> Result<()> {
        let (sectors, limit) = (self.geometry.sectors, self.geometry.limit(range.segment));
        let extent = self.geometry.extent(range);
        let wrong = || Error::corrupt_at(extent, "an extent is in use twice, or was freed twice");
        let segment = self.get_mut(range.segment).ok_or_else(wrong)?;
        let before = (segment.durable, segment.held);
        if matches!(segment.state, State::Fresh) && change == Change::Take {
            segment.state = State::Loaded(Box::new(Map::empty(sectors)));
        }
        match &mut segment.state {
            State::Fresh => return Err(wrong()),
            State::Loaded(map) => {
                let in_use = map.used.count(range.start, range.sectors);
                let held = map.held.count(range.start, range.sectors);
                if !map.apply(change, range.start, range.sectors) {
                    return Err(wrong());
                }
                segment.durable -= in_use - held;
                segment.held -= held;
                let end = limit.max(range.start + range.sectors);
                match change {
                    Change::Take | Change::Attach => segment.durable += range.sectors,
                    Change::Hold => segment.held += range.sectors,
                    Change::Give | Change::Free => {
                        let run = map.used.zeros_around(range.start, range.sectors, end);
                        segment.longest = segment.longest.max(run.min(limit));
                    }
                }
            }
            State::Unloaded(_) if change == Change::Attach => return Err(wrong()),
            State::Unloaded(waiting) => {
                waiting.push((change, range));
                match change {
                    // What a tail changes is known when the map is loaded.
                    Change::Take | Change::Give | Change::Attach => {}
                    Change::Hold => {
                        segment.durable = segment.durable.saturating_sub(range.sectors);
                        segment.held += range.sectors;
                    }
                    Change::Free => {
                        segment.held = segment.held.saturating_sub(range.sectors);
                        segment.longest = limit;
                    }
                }
            }
        }
        segment.free = limit.saturating_sub(segment.durable + segment.held);
        let after = (segment.durable, segment.held);
        self.recount(before, after);
        match change {
            Change::Free => self.has_more_room(),
            Change::Attach => self.durable_changed(range, true),
            Change::Hold => self.durable_changed(range, false),
            Change::Take | Change::Give => {
                self.has_more_room();
                self.changed.insert(range.segment);
            }
        }
        Ok(())
    }

    /// Takes free sectors of a loaded segment.
    pub(super) fn take(&mut self, range: Range, held: bool) {
        let sectors = self.geometry.sectors;
        let Some(segment) = self.get_mut(range.segment) else {
            return;
        };
        if matches!(segment.state, State::Fresh) {
            segment.state = State::Loaded(Box::new(Map::empty(sectors)));
        }
        let State::Loaded(map) = &mut segment.state else {
            return;
        };
        debug_assert!(
            map.used.none(range.start, range.sectors),
            "sectors in use were allocated again: {range:?}"
        );
        map.used.fill(range.start, range.sectors, true);
        segment.free = segment.free.saturating_sub(range.sectors);
        segment.punched = false;
        if held {
            map.held.fill(range.start, range.sectors, true);
            segment.held += range.sectors;
            self.totals.held += u64::from(range.sectors);
        } else {
            segment.durable += range.sectors;
            self.totals.durable += u64::from(range.sectors);
            self.durable_changed(range, true);
        }
    }

    fn durable_changed(&mut self, range: Range, taken: bool) {
        self.changed.insert(range.segment);
        if let Some(tail) = &mut self.tail {
            tail.record(range, taken);
        }
    }

    fn recount(&mut self, before: (u32, u32), after: (u32, u32)) {
        let add = |total: &mut u64, before: u32, after: u32| {
            *total = (*total + u64::from(after)).saturating_sub(before.into());
        };
        add(&mut self.totals.durable, before.0, after.0);
        add(&mut self.totals.held, before.1, after.1);
    }

    /// Whether a segment's map must be loaded before the segment can be used, and the number that
    /// [`Self::install`] wants.
    pub(super) fn must_load(&mut self, number: u32) -> Option<u32> {
        let segment = self.get_mut(number)?;
        matches!(segment.state, State::Unloaded(_)).then_some(segment.unloads)
    }

    /// Brings a loaded map into memory, unless somebody else did or it is no longer the newest.
    pub(super) fn install(&mut self, number: u32, unloads: u32, mut map: Map) -> Result<()> {
        let (sectors, limit) = (self.geometry.sectors, self.geometry.limit(number));
        let Some(segment) = self.get_mut(number) else {
            return Ok(());
        };
        let State::Unloaded(waiting) = &segment.state else {
            return Ok(());
        };
        if segment.unloads != unloads {
            return Ok(());
        }
        for (change, range) in waiting {
            if !map.apply(*change, range.start, range.sectors) {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!(
                        "the space map of segment {number} does not show what was in use at sector {}",
                        range.start
                    ),
                ));
            }
        }
        let before = (segment.durable, segment.held);
        segment.held = map.held.count(0, sectors);
        segment.durable = map.used.count(0, sectors) - segment.held;
        segment.free = limit - map.used.count(0, limit);
        segment.longest = segment.longest.min(segment.free);
        segment.state = State::Loaded(Box::new(map));
        let after = (segment.durable, segment.held);
        self.recount(before, after);
        self.has_more_room();
        Ok(())
    }

    /// Forgets the maps of segments that equal what is on the disk, until at most `most` are in
    /// memory or no other may go.
    pub(super) fn evict(&mut self, most: usize, spared: &[u32]) {
        let mut loaded = self.loaded();
        let mut from = 0;
        while loaded > most {
            let changed = &self.changed;
            let found = self.find(from, self.count, |number, segment| {
                matches!(segment.state, State::Loaded(_))
                    && segment.held == 0
                    && !segment.withheld
                    && !spared.contains(&number)
                    && !changed.contains(&number)
            });
            let Some(number) = found else {
                return;
            };
            from = number + 1;
            if let Some(segment) = self.get_mut(number) {
                segment.unloads += 1;
                segment.state = State::Unloaded(Vec::new());
                loaded -= 1;
            }
        }
    }

    /// How many maps are in memory.
    pub(super) fn loaded(&self) -> usize {
        let segments = self.blocks.iter().flatten().flat_map(|block| block.iter());
        segments
            .filter(|segment| matches!(segment.state, State::Loaded(_)))
            .count()
    }

    pub(super) fn encode_summary(&self, block: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let first = block.saturating_mul(SUMMARY_SEGMENTS);
        let end = self.count.min(first.saturating_add(SUMMARY_SEGMENTS));
        let durable = |number| self.get(number).map_or(0, |segment| segment.durable);
        let mut at = first;
        while at < end {
            let same = (at..end).take_while(|&number| durable(number) == durable(at));
            let same = same.count() as u32;
            if at + same < end || durable(at) != 0 {
                put_varint(&mut out, durable(at).into());
                put_varint(&mut out, u64::from(same) - 1);
            }
            at += same;
        }
        out
    }

    /// Applies a block of the summary that may be damaged.
    pub(super) fn apply_summary(&mut self, block: u32, bytes: &[u8]) -> Result<()> {
        let malformed = || Error::corrupt("a block of the summary of space is malformed");
        let sectors = self.geometry.sectors;
        let mut next = block.checked_mul(SUMMARY_SEGMENTS).ok_or_else(malformed)?;
        let end = self.count.min(next.saturating_add(SUMMARY_SEGMENTS));
        let mut rest = bytes;
        while !rest.is_empty() {
            let (durable, taken) = read_varint(rest).ok_or_else(malformed)?;
            rest = &rest[taken..];
            let (further, taken) = read_varint(rest).ok_or_else(malformed)?;
            rest = &rest[taken..];
            if durable > sectors.into() || further >= u64::from(end.saturating_sub(next)) {
                return Err(malformed());
            }
            let durable = durable as u32;
            for number in next..=next + further as u32 {
                let limit = self.geometry.limit(number);
                let segment = self.get_mut(number).ok_or_else(malformed)?;
                if !matches!(&segment.state, State::Unloaded(_)) {
                    continue;
                }
                let before = segment.durable;
                segment.durable = durable;
                segment.free = limit.saturating_sub(durable + segment.held);
                segment.longest = segment.free;
                self.recount((before, 0), (durable, 0));
            }
            next += further as u32 + 1;
        }
        // The first segment stands for its block: it is known from now on.
        self.get_mut(block * SUMMARY_SEGMENTS);
        Ok(())
    }
}
