//! Room within segments that nobody uses, taken out of use while it is given back to the disk.

use super::face::{Owner, Space};
use super::geometry::Range;
use super::map::Map;
use super::segments::State;
use crate::error::Result;
use crate::format::{Address, Extent};

/// How precisely the end of the store is chosen, in sectors.
const END_STEP: u32 = 16;

/// The longest page, and the shortest part that large values are cut into, in sectors: about what finds
/// no room in a shorter run.
const PAGE_SECTORS: u32 = 24;
const BLOCK_SECTORS: u32 = 64;
/// Runs of so many sectors are filled for sure, but for what is less than a block.
const LONG_SECTORS: u32 = 512;
/// For pages above those that move, and the indexes of values.
const UNFORESEEN: u32 = 64;

/// What is expected of the room before the end of a store that is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hopes {
    /// So many sixteenths of short runs of free sectors will be filled.
    short: u32,
    /// What moves takes so many sixty-fourths more than it has.
    more: u32,
}

impl Hopes {
    pub(crate) const fn new(short: u32, more: u32) -> Self {
        Self { short, more }
    }

    /// How much of a run of free sectors will be filled.
    fn fillable(self, run: u32) -> u64 {
        let short = |run: u32| run / 16 * self.short;
        u64::from(match run {
            0..PAGE_SECTORS => 0,
            PAGE_SECTORS..LONG_SECTORS => short(run),
            _ => run - run % BLOCK_SECTORS - run / UNFORESEEN + short(run % BLOCK_SECTORS),
        })
    }

    /// The room that so many sectors need that move.
    fn needed(self, sectors: u64) -> u64 {
        sectors + sectors * u64::from(self.more) / 64 + u64::from(self.more * BLOCK_SECTORS)
    }
}

/// What a part of the store holds, in sectors.
#[derive(Clone, Copy, Default)]
struct Filling {
    used: u64,
    fillable: u64,
}

impl Filling {
    fn of(map: &Map, end: u32, hopes: Hopes) -> Self {
        let mut filling = Self::default();
        let mut at = 0;
        while at < end {
            let zero = map.used.next_zero(at, end);
            filling.used += u64::from(zero - at);
            at = map.used.next_one(zero, end);
            filling.fillable += hopes.fillable(at - zero);
        }
        filling
    }
}

impl Space {
    /// The place nearest to the beginning that has room enough before it for all that lies behind
    /// it, other than the log and the reserve; none if nothing does. Loads all maps, one by one.
    pub(crate) fn end_for_all(&self, hopes: Hopes) -> Result<Option<Address>> {
        let count = self.lock().segments.count();
        let mut fillings = Vec::new();
        for segment in 0..count {
            let inner = self.loaded(segment)?;
            let state = inner.segments.get(segment).map(|segment| &segment.state);
            let limit = self.geometry.limit(segment);
            fillings.push(match state {
                Some(State::Loaded(map)) => Filling::of(map, limit, hopes),
                _ => Filling {
                    used: 0,
                    fillable: hopes.fillable(limit),
                },
            });
        }
        let fixed = self.lock().fixed_in_segments();
        let movable = |segment: u32| {
            let fixed = fixed.get(&segment).copied().unwrap_or(0);
            fillings[segment as usize].used.saturating_sub(fixed)
        };
        let mut above: u64 = (0..count).map(movable).sum();
        let mut room = 0;
        for segment in 0..count {
            let filling = fillings[segment as usize];
            if hopes.needed(above - movable(segment)) > room + filling.fillable {
                above -= movable(segment);
                room += filling.fillable;
                continue;
            }
            let inner = self.loaded(segment)?;
            let state = inner.segments.get(segment).map(|segment| &segment.state);
            let Some(State::Loaded(map)) = state else {
                let limit = self.geometry.limit(segment);
                let sectors = hopes.needed(above).min(limit.into()) as u32;
                return Ok((above > 0).then(|| self.place(segment, sectors)));
            };
            let suffices = |end| {
                let here = Filling::of(map, end, hopes);
                hopes.needed(above.saturating_sub(here.used)) <= room + here.fillable
            };
            let (mut short, mut end) = (0, self.geometry.limit(segment));
            while end - short > END_STEP {
                let middle = short + (end - short) / 2;
                match suffices(middle) {
                    true => end = middle,
                    false => short = middle,
                }
            }
            return Ok(Some(self.place(segment, end)));
        }
        Ok(None)
    }

    fn place(&self, segment: u32, sectors: u32) -> Address {
        let next = sectors >= self.geometry.sectors;
        match next {
            true => Address::new(segment + 1, 0),
            false => Address::new(segment, sectors * self.geometry.sector_bytes),
        }
    }

    /// A place behind another, with so many bytes between them that lie in one segment.
    pub(crate) fn place_behind(&self, address: Address, bytes: u32) -> Address {
        let end = u64::from(address.offset()) + u64::from(bytes);
        match end < u64::from(self.geometry.segment_bytes) {
            true => Address::new(address.segment(), end as u32),
            false => Address::new(address.segment() + 1, bytes),
        }
    }

    /// Whether anything is in use from a place on.
    pub(crate) fn is_used_from(&self, from: Address) -> Result<bool> {
        let count = self.lock().segments.count();
        for segment in from.segment()..count {
            let inner = self.loaded(segment)?;
            let state = inner.segments.get(segment).map(|segment| &segment.state);
            let start = match segment == from.segment() {
                true => from.offset() / self.geometry.sector_bytes,
                false => 0,
            };
            if let Some(State::Loaded(map)) = state
                && map.used.next_one(start, self.geometry.sectors) < self.geometry.sectors
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the reserve apart, for the disk to have its room back: each extent is given to
    /// [`Self::abandon`] after that.
    pub(crate) fn take_whole_reserve(&self) -> Vec<Extent> {
        let mut inner = self.lock();
        let ranges = std::mem::take(&mut inner.reserve);
        let mut extents = Vec::with_capacity(ranges.len());
        for range in ranges {
            let bytes = self.geometry.bytes(range.sectors.into()) as u32;
            let extent = Extent::new(self.geometry.address(range), bytes);
            let owned = (range.sectors, Owner::Reserve);
            inner.fixed.insert(extent.address, owned);
            extents.push(extent);
        }
        extents
    }

    /// Takes all runs of free sectors of a segment that have some length at least: nothing is
    /// allocated there until each is given to [`Self::abandon`], which must follow. Asked for by
    /// compaction and on a full disk only, as the map of the segment is loaded.
    pub(crate) fn take_vacant(&self, segment: u32, bytes_least: u32) -> Result<Vec<Extent>> {
        let least = bytes_least.div_ceil(self.geometry.sector_bytes).max(1);
        let mut inner = self.loaded(segment)?;
        let limit = self.geometry.limit(segment);
        let mut ranges = Vec::new();
        if let Some(found) = inner.segments.get(segment)
            && let State::Loaded(map) = &found.state
        {
            let mut start = map.used.next_zero(0, limit);
            while start < limit {
                let end = map.used.next_one(start, limit);
                if end - start >= least {
                    ranges.push(Range {
                        segment,
                        start,
                        sectors: end - start,
                    });
                }
                start = map.used.next_zero(end, limit);
            }
        }
        let mut extents = Vec::with_capacity(ranges.len());
        for range in ranges {
            inner.segments.take(range, true);
            let bytes = self.geometry.bytes(range.sectors.into()) as u32;
            let extent = Extent::new(self.geometry.address(range), bytes);
            inner
                .fixed
                .insert(extent.address, (range.sectors, Owner::Reserve));
            extents.push(extent);
        }
        Ok(extents)
    }
}
