//! [`Audit`]: what was found to be in use, sector by sector, against what the durable maps say.
//!
//! `verify` reports every extent that it comes to. That two of them share a sector is noticed at
//! once; what the maps have in addition or lack, when the map of a segment is compared. Takes one
//! bit of memory for each sector of the segments in which something was found.

use std::collections::BTreeMap;

use super::bitmap::Bitmap;
use super::geometry::{Geometry, Range};
use super::map::{Change, Map};
use super::tail::Tail;
use crate::disk::Properties;
use crate::error::Result;
use crate::format::Extent;

/// Who has an extent in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    /// What a durable root reaches: the maps show it.
    Root,
    /// The log, and what its records name and no tree contains yet: the maps do not show it, as
    /// opening the store finds it in the log.
    Log,
}

/// Why an extent cannot be in use as claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It is outside of the store.
    NoSuchExtent,
    /// Something that was found before has a part of it.
    Shared,
}

/// How sectors differ from what the maps say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Difference {
    /// Nothing was found there, but they are not free.
    Unreached,
    /// A root reaches them, but they are free.
    Free,
    /// The log has them, and so does a root according to the maps.
    InUse,
}

#[derive(Default)]
struct Found {
    root: Option<Bitmap>,
    log: Option<Bitmap>,
    /// Of these, what off-tree values have: of which versions may have different parts.
    values: Option<Bitmap>,
}

/// Collects what is in use.
pub(crate) struct Audit {
    geometry: Geometry,
    segments: u32,
    found: BTreeMap<u32, Found>,
    tail: BTreeMap<u32, Vec<(Range, bool)>>,
}

impl Audit {
    /// For a store that has `segments` segments: a number that may be damaged.
    pub(crate) fn new(properties: &Properties, segments: u64) -> Self {
        let geometry = Geometry::new(properties);
        let segments = u32::try_from(segments).unwrap_or(u32::MAX);
        Self {
            segments: segments.min(geometry.segments_max),
            geometry,
            found: BTreeMap::new(),
            tail: BTreeMap::new(),
        }
    }

    /// The tail of the maps, which may be damaged.
    pub(crate) fn set_tail(&mut self, bytes: &[u8]) -> Result<()> {
        self.tail.clear();
        for (range, taken) in Tail::decode(bytes, &self.geometry, self.segments)? {
            let entries = self.tail.entry(range.segment).or_default();
            entries.push((range, taken));
        }
        Ok(())
    }

    /// An extent is in use. It counts as such even if it is refused as shared.
    pub(crate) fn reach(&mut self, extent: Extent, holder: Holder) -> Result<(), Refusal> {
        let range = self.geometry.range(extent).ok();
        // What only the log knows may lie behind what the last root knew.
        let range = range.filter(|range| range.segment < self.segments || holder == Holder::Log);
        let Some(range) = range else {
            return Err(Refusal::NoSuchExtent);
        };
        let found = self.found.entry(range.segment).or_default();
        let shared = [&found.root, &found.log]
            .into_iter()
            .flatten()
            .any(|bitmap| !bitmap.none(range.start, range.sectors));
        let bitmap = match holder {
            Holder::Root => &mut found.root,
            Holder::Log => &mut found.log,
        };
        bitmap
            .get_or_insert_with(|| Bitmap::new(self.geometry.sectors))
            .fill(range.start, range.sectors, true);
        if shared { Err(Refusal::Shared) } else { Ok(()) }
    }

    /// An extent that was reached belongs to an off-tree value.
    pub(crate) fn is_of_value(&mut self, extent: Extent) {
        if let Ok(range) = self.geometry.range(extent) {
            let found = self.found.entry(range.segment).or_default();
            found
                .values
                .get_or_insert_with(|| Bitmap::new(self.geometry.sectors))
                .fill(range.start, range.sectors, true);
        }
    }

    /// Whether whatever was found in an extent are parts of off-tree values that a root reaches.
    pub(crate) fn has_only_values(&self, extent: Extent) -> bool {
        let Ok(range) = self.geometry.range(extent) else {
            return false;
        };
        let Some(found) = self.found.get(&range.segment) else {
            return true;
        };
        let nothing = Bitmap::new(self.geometry.sectors);
        let values = found.values.as_ref().unwrap_or(&nothing);
        let root = found.root.as_ref().unwrap_or(&nothing);
        let log = found.log.as_ref().unwrap_or(&nothing);
        log.none(range.start, range.sectors)
            && root.without(values).none(range.start, range.sectors)
    }

    /// The bytes in whole sectors that were found in use.
    pub(crate) fn bytes(&self) -> u64 {
        let sectors = self.geometry.sectors;
        let of = |bitmap: &Option<Bitmap>| {
            let bitmap = bitmap.as_ref();
            bitmap.map_or(0, |bitmap| u64::from(bitmap.count(0, sectors)))
        };
        let found = self.found.values();
        let sectors = found.map(|found| of(&found.root) + of(&found.log)).sum();
        self.geometry.bytes(sectors)
    }

    /// The first segment from `from` on that has something to compare.
    pub(crate) fn next_segment(&self, from: u32) -> Option<u32> {
        let found = self.found.range(from..).next().map(|(&segment, _)| segment);
        let tail = self.tail.range(from..).next().map(|(&segment, _)| segment);
        match (found, tail) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Compares what was found in a segment with its map as it stands in the system tree, which may
    /// be damaged: runs of sectors that differ, and how.
    pub(crate) fn compare(&self, segment: u32, map: &[u8]) -> Result<Vec<(Extent, Difference)>> {
        let sectors = self.geometry.sectors;
        let mut map = Map::decode(map, sectors)?;
        for (range, taken) in self.tail.get(&segment).into_iter().flatten() {
            let change = if *taken { Change::Take } else { Change::Give };
            map.apply(change, range.start, range.sectors);
        }
        let nothing = Bitmap::new(sectors);
        let found = self.found.get(&segment);
        let root = found.and_then(|found| found.root.as_ref());
        let root = root.unwrap_or(&nothing);
        let log = found.and_then(|found| found.log.as_ref());
        let log = log.unwrap_or(&nothing);
        let unreached = map.used.without(root);
        let mut differences = Vec::new();
        let mut list = |bitmap: &Bitmap, difference| {
            let mut at = 0;
            loop {
                let start = bitmap.next_one(at, sectors);
                if start == sectors {
                    return;
                }
                at = bitmap.next_zero(start, sectors);
                let range = Range {
                    segment,
                    start,
                    sectors: at - start,
                };
                differences.push((self.geometry.extent(range), difference));
            }
        };
        list(&root.without(&map.used), Difference::Free);
        list(&unreached.without(log), Difference::Unreached);
        list(
            &unreached.without(&unreached.without(log)),
            Difference::InUse,
        );
        Ok(differences)
    }

    /// Whether a segment exists.
    pub(crate) fn has_segment(&self, segment: u32) -> bool {
        segment < self.segments
    }

    /// Whether an extent can be: asked before anything is read.
    pub(crate) fn has(&self, extent: Extent) -> bool {
        self.geometry.range(extent).is_ok() && self.has_segment(extent.address.segment())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Address;

    const PROPERTIES: fn() -> Properties = || Properties::new(64 << 10);

    fn extent(segment: u32, sector: u32, sectors: u32) -> Extent {
        Extent::new(Address::new(segment, sector * 512), sectors * 512)
    }

    fn map(ranges: &[(u32, u32)]) -> Vec<u8> {
        let mut map = Map::empty(128);
        for (start, sectors) in ranges {
            map.apply(Change::Take, *start, *sectors);
        }
        map.encode(128)
    }

    #[test]
    fn a_shared_sector_is_noticed_whoever_has_it() {
        let mut audit = Audit::new(&PROPERTIES(), 2);
        let part = Extent::new(Address::new(1, 512), 700);
        assert_eq!(audit.reach(part, Holder::Root), Ok(()));
        assert_eq!(audit.reach(extent(1, 3, 1), Holder::Root), Ok(()));
        let shared = Err(Refusal::Shared);
        assert_eq!(audit.reach(extent(1, 2, 1), Holder::Root), shared);
        assert_eq!(audit.reach(extent(1, 0, 9), Holder::Log), shared);
        let nowhere = Err(Refusal::NoSuchExtent);
        assert_eq!(audit.reach(extent(2, 0, 1), Holder::Root), nowhere);
        assert_eq!(audit.reach(extent(1, 127, 2), Holder::Root), nowhere);
        assert_eq!(
            audit.reach(Extent::new(Address::new(0, 5), 5), Holder::Root),
            nowhere
        );
        assert_eq!(audit.reach(extent(0, 5, 0), Holder::Root), nowhere);
    }

    #[test]
    fn every_difference_is_named_and_agreement_is_silent() {
        let mut audit = Audit::new(&PROPERTIES(), 3);
        audit.reach(extent(0, 10, 5), Holder::Root).unwrap();
        audit.reach(extent(0, 20, 5), Holder::Log).unwrap();
        let mut tail = Tail::default();
        let range = |start, sectors| Range {
            segment: 0,
            start,
            sectors,
        };
        tail.record(range(14, 1), true);
        tail.record(range(90, 2), false);
        audit
            .set_tail(&tail.encode(tail.bytes_max()).unwrap())
            .unwrap();
        assert_eq!(audit.compare(0, &map(&[(10, 4), (90, 2)])).unwrap(), []);
        assert_eq!(
            audit
                .compare(0, &map(&[(11, 3), (22, 9), (90, 2)]))
                .unwrap(),
            [
                (extent(0, 10, 1), Difference::Free),
                (extent(0, 25, 6), Difference::Unreached),
                (extent(0, 22, 3), Difference::InUse),
            ]
        );
        assert_eq!(audit.next_segment(0), Some(0));
        assert_eq!(audit.next_segment(1), None);
        assert!(audit.compare(0, &[9]).is_err());
    }
}
