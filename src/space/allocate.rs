//! Where the next extent goes.
//!
//! Next-fit: each kind of owner continues behind its last extent, so that the pages of a checkpoint
//! lie side by side. When the segment is used up, the next loaded one with a long enough run of free
//! sectors follows, around to the first; then a map is loaded; then the store grows. Full segments
//! are passed by with one comparison, since each knows a bound on its longest run.

use super::face::{Inner, Owner, Urgency};
use super::geometry::Range;
use super::segments::{Segment, State};
use crate::error::{Error, ErrorKind};

/// How many maps one allocation loads before the store rather grows.
const LOADS_MAX: usize = 4;

/// A segment that is not loaded is worth loading if at least one sector in so many is free.
const WORTH_LOADING: u32 = 64;

/// While the store is being compacted, an extent goes where it leaves nothing, or so many sectors at
/// least: less would hardly ever be used.
const SPARE_SECTORS: u32 = 96;

/// Where the last extent of an owner ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    pub(super) segment: u32,
    sector: u32,
}

pub(super) enum Attempt {
    Done(Range),
    /// Load this segment's map and try again.
    Load(u32),
    Full,
}

pub(super) fn full(bytes: u32) -> Error {
    Error::new(
        ErrorKind::StorageFull,
        format!("the disk has no room for an extent of {bytes} bytes"),
    )
}

impl Inner {
    pub(super) fn allocate(
        &mut self,
        sectors: u32,
        owner: Owner,
        urgency: Urgency,
        (loads, anywhere): (usize, bool),
    ) -> Attempt {
        if self.fits_closely && !self.segments.unfit.contains(&sectors) {
            match self.search_fitting(sectors, owner) {
                Some(range) => return self.done(range, owner),
                None => self.segments.unfit.insert(sectors),
            };
        }
        let mut attempt = self.search(sectors, owner, loads, true);
        if !anywhere && matches!(attempt, Attempt::Full) {
            return attempt;
        }
        if matches!(attempt, Attempt::Full) && self.avoided_from.is_some() {
            attempt = self.search(sectors, owner, loads, false);
        }
        if matches!(attempt, Attempt::Full)
            && urgency == Urgency::Emergency
            && owner != Owner::Reserve
            && let Some(range) = self.take_reserve(sectors)
        {
            self.own(range, owner);
            if matches!(owner, Owner::Tree) {
                let attached = self.segments.change(range, super::map::Change::Attach);
                debug_assert!(attached.is_ok(), "the reserve is held");
            }
            return Attempt::Done(range);
        }
        match attempt {
            Attempt::Done(range) => self.done(range, owner),
            attempt => attempt,
        }
    }

    fn done(&mut self, range: Range, owner: Owner) -> Attempt {
        self.segments.take(range, owner != Owner::Tree);
        self.own(range, owner);
        self.cursors[owner as usize] = Cursor {
            segment: range.segment,
            sector: range.start + range.sectors,
        };
        Attempt::Done(range)
    }

    /// Finds free sectors in loaded segments that an extent fits closely.
    fn search_fitting(&self, sectors: u32, owner: Owner) -> Option<Range> {
        let cursor = self.cursors[owner as usize];
        let (segment, sector, count) = (cursor.segment, cursor.sector, self.segments.count());
        for (from, to) in [(segment, count), (0, (segment + 1).min(count))] {
            let mut next = from;
            while let Some(number) = self.find_candidate(next, to, true, |segment| {
                matches!(segment.state, State::Loaded(_)) && segment.longest >= sectors
            }) {
                let begin = if number == segment && from == segment {
                    sector
                } else {
                    0
                };
                let limit = self.limit(number, true);
                if let Some(found) = self.segments.get(number)
                    && let State::Loaded(map) = &found.state
                    && let Some(start) = map.used.find_fitting(sectors, SPARE_SECTORS, begin, limit)
                {
                    return Some(Range {
                        segment: number,
                        start,
                        sectors,
                    });
                }
                next = number + 1;
            }
        }
        None
    }

    fn own(&mut self, range: Range, owner: Owner) {
        if matches!(owner, Owner::Log | Owner::Reserve) {
            let address = self.segments.geometry.address(range);
            self.fixed.insert(address, (range.sectors, owner));
        }
    }

    /// Cuts the range from the smallest part of the reserve that is large enough.
    fn take_reserve(&mut self, sectors: u32) -> Option<Range> {
        let (index, _) = self
            .reserve
            .iter()
            .enumerate()
            .filter(|(_, range)| range.sectors >= sectors)
            .min_by_key(|(_, range)| range.sectors)?;
        let part = &mut self.reserve[index];
        let taken = Range { sectors, ..*part };
        part.start += sectors;
        part.sectors -= sectors;
        if part.sectors == 0 {
            self.reserve.swap_remove(index);
        }
        Some(taken)
    }

    /// Finds free sectors, without taking them.
    fn search(&mut self, sectors: u32, owner: Owner, loads: usize, avoiding: bool) -> Attempt {
        let cursor = self.cursors[owner as usize];
        let count = self.segments.count();
        if let Some(range) = self.search_in(cursor.segment, cursor.sector, sectors, avoiding) {
            return Attempt::Done(range);
        }
        if sectors < self.segments.exhausted {
            for (from, to) in [(cursor.segment + 1, count), (0, cursor.segment + 1)] {
                let mut from = from;
                while let Some(number) = self.find_candidate(from, to, avoiding, |segment| {
                    !matches!(segment.state, State::Unloaded(_)) && segment.longest >= sectors
                }) {
                    if let Some(range) = self.search_in(number, 0, sectors, avoiding) {
                        return Attempt::Done(range);
                    }
                    from = number + 1;
                }
            }
            if !avoiding || self.avoided_from.is_none() {
                self.segments.exhausted = sectors;
            }
        }
        let worth = sectors.max(self.segments.geometry.sectors / WORTH_LOADING);
        let unloaded = |least: u32| {
            move |segment: &Segment| {
                matches!(segment.state, State::Unloaded(_))
                    && segment.free >= least
                    && segment.longest >= sectors
            }
        };
        if loads < LOADS_MAX {
            let found = self.find_candidate(0, count, avoiding, unloaded(worth));
            if let Some(number) = found.or_else(|| self.segments.first_unknown()) {
                return Attempt::Load(number);
            }
        }
        let geometry = &self.segments.geometry;
        let grows = !avoiding || self.avoided_from.is_none();
        if grows && count < geometry.segments_max && geometry.limit(count) >= sectors {
            self.segments.grow(count + 1);
            self.segments.get_mut(count);
            return Attempt::Done(Range {
                segment: count,
                start: 0,
                sectors,
            });
        }
        match self.find_candidate(0, count, avoiding, unloaded(sectors)) {
            Some(number) => Attempt::Load(number),
            None => self
                .segments
                .first_unknown()
                .map_or(Attempt::Full, Attempt::Load),
        }
    }

    fn find_candidate(
        &self,
        from: u32,
        to: u32,
        avoiding: bool,
        fits: impl Fn(&Segment) -> bool,
    ) -> Option<u32> {
        self.segments.find(from, to, |number, segment| {
            fits(segment) && !segment.withheld && self.limit(number, avoiding) > 0
        })
    }

    /// How many of a segment's sectors may be allocated.
    fn limit(&self, number: u32, avoiding: bool) -> u32 {
        let limit = self.segments.geometry.limit(number);
        match self.avoided_from.filter(|_| avoiding) {
            Some(from) if from.segment() < number => 0,
            Some(from) if from.segment() == number => {
                limit.min(from.offset() / self.segments.geometry.sector_bytes)
            }
            _ => limit,
        }
    }

    /// Searches one segment from a sector on; nothing if its map is not in memory.
    fn search_in(&mut self, number: u32, from: u32, sectors: u32, avoiding: bool) -> Option<Range> {
        let limit = self.limit(number, avoiding);
        let whole = limit == self.segments.geometry.limit(number);
        let segment = self.segments.get_mut(number)?;
        if segment.withheld || segment.longest < sectors {
            return None;
        }
        let found = match &segment.state {
            State::Fresh if limit.saturating_sub(from) >= sectors => Ok(from),
            State::Loaded(map) => map.used.find_zeros(sectors, from, limit),
            State::Fresh | State::Unloaded(_) => return None,
        };
        match found {
            Ok(start) => Some(Range {
                segment: number,
                start,
                sectors,
            }),
            Err(longest) => {
                if from == 0 && whole {
                    segment.longest = longest;
                }
                None
            }
        }
    }
}
