//! Extents that values under several keys have, against the table that says how many.
//!
//! Each of these values names them with a birth of its own, and everything that may still need them is
//! walked: so the table must say as many as births are come to, all along each of its entries. One too
//! many would keep the space for ever, one too few would give it away.

use std::collections::BTreeMap;

use super::verify::Examiner;
use crate::error::Result;
use crate::format::{Address, Birth, Extent};
use crate::snapshot::first_thing;
use crate::space::kept::{Cloned, cloned_range};
use crate::space::runs::Runs;

/// An entry of the table, and who was found to have something of it.
struct Entry {
    end: u64,
    count: u64,
    found: BTreeMap<Birth, Runs>,
}

/// See the module. Memory: in proportion to the table and to what it says.
#[derive(Default)]
pub(super) struct Clones(BTreeMap<u64, Entry>);

impl Clones {
    /// A value of some birth has an extent: its parts, and whether others may have each, too. For that it
    /// is in the table, and no value of that birth was found to have any of it.
    pub(super) fn reach(&mut self, extent: Extent, birth: Birth) -> Vec<(Extent, bool)> {
        let (mut at, mut parts) = (extent.address.to_bits(), Vec::new());
        let end = at + u64::from(extent.length);
        let part = |from: u64, end: u64| Extent::new(Address::from_bits(from), (end - from) as u32);
        let before = self.0.range(..at).next_back().map(|(from, _)| *from);
        for (from, entry) in self.0.range_mut(before.unwrap_or(at)..end.max(at)) {
            let (from, until) = ((*from).max(at), entry.end.min(end));
            if until <= from {
                continue;
            }
            if at < from {
                parts.push((part(at, from), false));
            }
            let part = part(from, until);
            parts.push((part, entry.found.entry(birth).or_default().add(part)));
            at = until;
        }
        if at < end || parts.is_empty() {
            parts.push((part(at, end), false));
        }
        parts
    }
}

impl Examiner<'_> {
    /// Reads the table.
    pub(super) async fn read_clones(&mut self) -> Result<Clones> {
        let system = self.catalogue();
        let mut clones = Clones::default();
        let (mut low, end) = cloned_range();
        // What cannot be read or decoded is found again, and told, when all that is kept is read.
        while let Ok(Some((key, value))) = first_thing(&system, &low, &end).await
            && let Ok(cloned) = Cloned::decode(&key, &value)
        {
            let from = cloned.extent.address.to_bits();
            let before = clones.0.range(..=from).next_back();
            if before.is_some_and(|(_, before)| before.end > from) {
                self.damage(cloned.extent, "two entries tell who cloned this")?;
            } else {
                let entry = Entry {
                    end: from + u64::from(cloned.extent.length),
                    count: cloned.count,
                    found: BTreeMap::new(),
                };
                clones.0.insert(from, entry);
            }
            low = key;
            low.extend_from_slice(&[0xff; 5]);
        }
        Ok(clones)
    }

    /// Compares the table with what was found.
    pub(super) fn compare_clones(&mut self) -> Result<()> {
        if self.incomplete {
            return Ok(());
        }
        let clones = std::mem::take(&mut self.clones);
        for (from, entry) in clones.0 {
            let length = (entry.end - from) as u32;
            let extent = Extent::new(Address::from_bits(from), length);
            let has_all = |runs: &&Runs| runs.has_all(extent);
            let values = entry.found.values().filter(has_all).count() as u64;
            let parts = entry.found.len() as u64 - values;
            let said = entry.count;
            if parts > 0 {
                self.damage(
                    extent,
                    "a value has a part of this, which was cloned as a whole",
                )?;
            } else if values > said {
                let message = format!("{values} values have this, of which {said} are known");
                self.damage(extent, message)?;
            } else if values < said {
                let message = format!("{said} values are said to have this, and {values} do");
                self.leak(extent, message)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_the_table_is_shared() {
        let extent = |from, length| Extent::new(Address::from_bits(from), length);
        let mut clones = Clones::default();
        for (from, end) in [(100, 110), (110, 130), (140, 150)] {
            let entry = Entry {
                end,
                count: 2,
                found: BTreeMap::new(),
            };
            clones.0.insert(from, entry);
        }
        let parts = clones.reach(extent(100, 30), Birth(1));
        assert_eq!(parts, [(extent(100, 10), true), (extent(110, 20), true)]);
        let parts = clones.reach(extent(105, 20), Birth(2));
        assert_eq!(parts, [(extent(105, 5), true), (extent(110, 15), true)]);
        let parts = clones.reach(extent(105, 5), Birth(2));
        assert_eq!(parts, [(extent(105, 5), false)]);
        let parts = clones.reach(extent(120, 35), Birth(3));
        let within = [(extent(120, 10), true), (extent(130, 10), false)];
        let behind = [(extent(140, 10), true), (extent(150, 5), false)];
        assert_eq!(parts, [within, behind].concat());
        let parts = clones.reach(extent(95, 10), Birth(4));
        assert_eq!(parts, [(extent(95, 5), false), (extent(100, 5), true)]);
        for beside in [extent(150, 10), extent(130, 10), extent(7, 0)] {
            assert_eq!(clones.reach(beside, Birth(5)), [(beside, false)]);
        }
    }
}
