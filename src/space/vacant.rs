//! Room within segments that nobody uses, taken out of use while it is given back to the disk.

use super::face::{Owner, Space};
use super::geometry::Range;
use super::segments::State;
use crate::error::Result;
use crate::format::Extent;

impl Space {
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
    /// compaction only, as the map of the segment is loaded.
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
