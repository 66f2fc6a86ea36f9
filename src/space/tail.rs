//! What writing the space maps themselves changed in them.
//!
//! A checkpoint puts the changed maps into the system tree, which takes and gives back extents, so
//! that the maps just written are stale already. Rather than writing them until nothing changes,
//! the checkpoint writes these last changes as one list outside the tree, named by the root record.
//! [`crate::format::space`] has the bytes.
//!
//! Invariant kept: entries say what a range *became*, so that applying one to a map that shows it
//! already does nothing: a map may be encoded at any time between the beginning of the tail and its
//! end.

use super::geometry::{Geometry, Range};
use crate::error::{Error, Result};
use crate::format::bytes::{VARINT_BYTES_MAX, put_varint, read_varint};

/// The most bytes that one entry takes: three numbers of at most 33 bits.
const ENTRY_BYTES_MAX: usize = 15;

/// A list of changes being recorded.
#[derive(Debug, Default)]
pub(super) struct Tail {
    entries: Vec<(Range, bool)>,
}

impl Tail {
    /// Records that a range of the durable view was taken or given back.
    pub(super) fn record(&mut self, range: Range, taken: bool) {
        if let Some((last, same)) = self.entries.last_mut()
            && *same == taken
            && last.segment == range.segment
            && last.start + last.sectors == range.start
        {
            last.sectors += range.sectors;
            return;
        }
        self.entries.push((range, taken));
    }

    /// Bytes that suffice for these entries and one more.
    pub(super) fn bytes_max(&self) -> usize {
        VARINT_BYTES_MAX + (self.entries.len() + 1) * ENTRY_BYTES_MAX
    }

    /// The list, filled up with zeros to `length` bytes; `None` if it does not fit.
    pub(super) fn encode(&self, length: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(length.max(self.bytes_max()));
        put_varint(&mut out, self.entries.len() as u64);
        for (range, taken) in &self.entries {
            put_varint(&mut out, range.segment.into());
            put_varint(&mut out, range.start.into());
            put_varint(&mut out, u64::from(range.sectors) << 1 | u64::from(*taken));
        }
        if out.len() > length {
            return None;
        }
        out.resize(length, 0);
        Some(out)
    }

    /// Decodes a list that may be damaged, for a store of so many segments.
    pub(super) fn decode(
        bytes: &[u8],
        geometry: &Geometry,
        segments: u32,
    ) -> Result<Vec<(Range, bool)>> {
        Self::parse(bytes, geometry, segments)
            .ok_or_else(|| Error::corrupt("the tail of the space maps is malformed"))
    }

    fn parse(bytes: &[u8], geometry: &Geometry, segments: u32) -> Option<Vec<(Range, bool)>> {
        let mut rest = bytes;
        let mut next = || {
            let (value, taken) = read_varint(rest)?;
            rest = &rest[taken..];
            Some(value)
        };
        let count = usize::try_from(next()?).ok()?;
        // An entry has three bytes at least: no more memory is taken than the input accounts for.
        if count > bytes.len() / 3 {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = u32::try_from(next()?).ok()?;
            let start = u32::try_from(next()?).ok()?;
            let size = next()?;
            let sectors = u32::try_from(size >> 1).ok()?;
            let end = start.checked_add(sectors)?;
            if segment >= segments || sectors == 0 || end > geometry.sectors {
                return None;
            }
            let range = Range {
                segment,
                start,
                sectors,
            };
            entries.push((range, size & 1 == 1));
        }
        rest.iter().all(|&byte| byte == 0).then_some(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Properties;

    fn range(segment: u32, start: u32, sectors: u32) -> Range {
        Range {
            segment,
            start,
            sectors,
        }
    }

    #[test]
    fn a_tail_joins_neighbours_and_round_trips() {
        let geometry = Geometry::new(&Properties::new(64 << 10));
        let mut tail = Tail::default();
        tail.record(range(0, 0, 4), true);
        tail.record(range(0, 4, 4), true);
        tail.record(range(0, 8, 1), false);
        tail.record(range(2, 9, 1), false);
        let bytes = tail.encode(tail.bytes_max()).unwrap();
        let entries = Tail::decode(&bytes, &geometry, 3).unwrap();
        assert_eq!(
            entries,
            [
                (range(0, 0, 8), true),
                (range(0, 8, 1), false),
                (range(2, 9, 1), false)
            ]
        );
        assert!(Tail::decode(&bytes, &geometry, 2).is_err());
        assert!(tail.encode(3).is_none());
    }

    #[test]
    fn hostile_tails_are_refused_or_stay_within_bounds() {
        let geometry = Geometry::new(&Properties::new(64 << 10));
        let mut huge = Vec::new();
        put_varint(&mut huge, u64::MAX);
        assert!(Tail::decode(&huge, &geometry, 3).is_err());
        assert!(Tail::decode(&[], &geometry, 3).is_err());
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = vec![0; random.usize(0..16)];
            random.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first %= 4;
            }
            for (range, _) in Tail::decode(&bytes, &geometry, 3).unwrap_or_default() {
                assert!(range.segment < 3, "seed {seed}");
                assert!(
                    range.start + range.sectors <= geometry.sectors,
                    "seed {seed}"
                );
            }
        }
    }
}
