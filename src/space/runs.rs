//! [`Runs`]: a set of bytes of the disk, as runs.

use std::collections::BTreeMap;

use crate::format::Extent;

/// Where runs of bytes begin and end: none touches another.
#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds the bytes of an extent; says whether none of them was there.
    pub(crate) fn add(&mut self, extent: Extent) -> bool {
        let (mut from, mut end) = bounds(extent);
        let is_new = self.is_disjoint(extent);
        while let Some((&before, &until)) = self.0.range(..=end).next_back()
            && until >= from
        {
            from = from.min(before);
            end = end.max(until);
            self.0.remove(&before);
        }
        self.0.insert(from, end);
        is_new
    }

    /// Whether no byte of an extent is there.
    pub(crate) fn is_disjoint(&self, extent: Extent) -> bool {
        let (from, end) = bounds(extent);
        let before = self.0.range(..end).next_back();
        before.is_none_or(|(_, until)| *until <= from)
    }

    /// Whether all bytes of an extent are.
    pub(crate) fn has_all(&self, extent: Extent) -> bool {
        let (from, end) = bounds(extent);
        let before = self.0.range(..=from).next_back();
        before.is_some_and(|(_, until)| *until >= end)
    }
}

/// Where an extent begins and ends, in bytes of addresses.
pub(crate) fn bounds(extent: Extent) -> (u64, u64) {
    let from = extent.address.to_bits();
    (from, from + u64::from(extent.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Address;

    #[test]
    fn runs_are_joined_and_overlaps_are_told() {
        let run = |from, end| Extent::new(Address::from_bits(from), (end - from) as u32);
        let mut runs = Runs::default();
        assert!(runs.add(run(10, 20)));
        assert!(runs.add(run(30, 40)));
        assert!(runs.is_disjoint(run(20, 30)) && !runs.is_disjoint(run(5, 11)));
        assert!(runs.add(run(20, 30)));
        assert!(runs.has_all(run(10, 40)));
        assert!(!runs.has_all(run(10, 41)) && !runs.has_all(run(9, 40)));
        assert!(!runs.add(run(5, 11)));
        assert!(!runs.add(run(12, 13)));
        assert!(runs.has_all(run(5, 40)));
        assert!(!runs.add(run(0, 50)));
        assert!(runs.has_all(run(0, 50)));
    }
}
