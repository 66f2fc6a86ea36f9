//! Extents that values under several keys have, because a range was cloned.
//!
//! A clone of a value has an index of its own, which names the data of the other with a birth of its
//! own. For all that goes on between versions the two are different things: each is dropped, listed and
//! freed as though the other were not there, by whatever has that birth. What counts is how many there
//! are: of an extent that several have, all but the last that are freed leave it where it is. As freeing
//! one is what a checkpoint does, exactly once, the number is exact in every root.
//!
//! So the table stands beside the lists, in the system tree: for every cloned run of bytes how many
//! values have it, cut as parts of values are freed. An extent without an entry belongs to one value. What
//! is dropped and may have an entry is not freed at once, but at the next checkpoint, as though a kept
//! version might reach it. Readers of a version that no name keeps are heeded as elsewhere, by births: the
//! last to be freed goes with the birth of the oldest.
//!
//! Births tell clones apart, so none of one generation have an extent in common: see
//! [`Bulk::share`](crate::store::bulk::Bulk).

use super::edit::Edit;
use super::plan::Plan;
use crate::error::Result;
use crate::format::{Address, Birth, Extent};
use crate::space::Dropped;
use crate::space::kept::{Cloned, Listed, cloned_between, cloned_range};
use crate::space::runs::bounds;
use crate::store::core::Core;
use crate::store::gate::lock;
use crate::store::open::system_version;
use crate::value::{DiskPages, OffTree, each_extent};

/// A run of bytes, as an extent.
fn run(from: u64, end: u64) -> Extent {
    Extent::new(Address::from_bits(from), (end - from) as u32)
}

/// The first entry that has something of a run of bytes.
async fn first_cloned(edit: &Edit, from: u64, end: u64) -> Result<Option<Cloned>> {
    let decode = |(key, value): (Vec<u8>, Vec<u8>)| Cloned::decode(&key, &value);
    let (low, at) = (
        cloned_range().0,
        cloned_between(from, from.saturating_add(1)).1,
    );
    if let Some(before) = edit.last(&low, &at).await? {
        let before = decode(before)?;
        if bounds(before.extent).1 > from {
            return Ok(Some(before));
        }
    }
    let (low, end) = cloned_between(from, end);
    edit.first(&low, &end).await?.map(decode).transpose()
}

impl Plan {
    /// Values have extents in common from now on with others, of these births.
    pub(super) async fn note_clones(&mut self, clones: &[(Extent, Birth)]) -> Result<()> {
        for (extent, birth) in clones {
            self.has_cloned = true;
            let (mut from, end) = bounds(*extent);
            self.cut_cloned(from).await?;
            self.cut_cloned(end).await?;
            while from < end {
                let found = first_cloned(&self.edit, from, end).await?;
                let until = found.map_or(end, |found| bounds(found.extent).0);
                if from < until {
                    self.put_cloned(&Cloned {
                        extent: run(from, until),
                        count: 2,
                        oldest: *birth,
                        has_oldest: true,
                    });
                    from = until;
                }
                if let Some(mut found) = found {
                    found.count = found.count.saturating_add(1);
                    self.put_cloned(&found);
                    from = bounds(found.extent).1;
                }
            }
        }
        Ok(())
    }

    /// What is freed, but for extents that other values still have.
    pub(super) async fn without_cloned(&mut self, freed: Vec<Listed>) -> Result<Vec<Listed>> {
        if !self.has_cloned {
            return Ok(freed);
        }
        let is_extent = |listed: &Listed| matches!(listed.item, Dropped::Extent(_));
        let (mut extents, mut left): (Vec<_>, Vec<_>) = freed.into_iter().partition(is_extent);
        let address = |listed: &Listed| match listed.item {
            Dropped::Extent(extent) => extent.address.to_bits(),
            _ => 0,
        };
        extents.sort_by_key(address);
        // There are few entries beside what is freed: one that lies ahead is not looked for twice.
        let mut ahead: Option<u64> = None;
        for listed in extents {
            let Dropped::Extent(extent) = listed.item else {
                continue;
            };
            let (from, end) = bounds(extent);
            if ahead.is_none_or(|ahead| ahead < end) {
                let found = first_cloned(&self.edit, from, u64::MAX).await?;
                let begins = found.map_or(u64::MAX, |found| bounds(found.extent).0);
                ahead = Some(begins);
            }
            if ahead.is_some_and(|ahead| end <= ahead) {
                left.push(listed);
                continue;
            }
            ahead = None;
            self.release_cloned(extent, &listed, &mut left).await?;
        }
        let (low, end) = cloned_range();
        if self.edit.first(&low, &end).await?.is_none() {
            self.counters.cloned = None;
        }
        Ok(left)
    }

    /// One value has an extent no more: what of it nobody has.
    async fn release_cloned(
        &mut self,
        extent: Extent,
        listed: &Listed,
        left: &mut Vec<Listed>,
    ) -> Result<()> {
        let (mut from, end) = bounds(extent);
        self.cut_cloned(from).await?;
        self.cut_cloned(end).await?;
        let mut free = |extent: Extent, birth: Birth| {
            left.push(Listed {
                item: Dropped::Extent(extent),
                birth,
                ..listed.clone()
            });
        };
        while from < end {
            let found = first_cloned(&self.edit, from, end).await?;
            let until = found.map_or(end, |found| bounds(found.extent).0);
            if from < until {
                free(run(from, until), listed.birth);
                from = until;
            }
            let Some(mut found) = found else { continue };
            from = bounds(found.extent).1;
            found.count -= 1;
            found.has_oldest &= listed.birth != found.oldest;
            if found.count == 0 {
                free(found.extent, found.oldest.min(listed.birth));
            }
            // Alone, the oldest one says itself how old it is.
            match found.count > usize::from(found.has_oldest) as u64 {
                true => self.put_cloned(&found),
                false => self.edit.delete(found.key()),
            }
        }
        Ok(())
    }

    fn put_cloned(&mut self, cloned: &Cloned) {
        self.edit.put(cloned.key(), cloned.encode());
    }

    /// Where an entry goes on past a place, it ends there and another one begins.
    async fn cut_cloned(&mut self, at: u64) -> Result<()> {
        let Some(found) = first_cloned(&self.edit, at, at).await? else {
            return Ok(());
        };
        let (from, end) = bounds(found.extent);
        if from < at && at < end {
            for (from, end) in [(from, at), (at, end)] {
                let extent = run(from, end);
                self.put_cloned(&Cloned { extent, ..found });
            }
        }
        Ok(())
    }
}

impl Core {
    /// The tree that is about to be the newest, or that of a branch, has clones, the last of them born
    /// then: which extents they share, and the births of the values that they were cloned from.
    pub(in crate::store) fn note_clones(&self, clones: Vec<(Extent, Birth)>, born: Birth) {
        if clones.is_empty() {
            return;
        }
        let mut kept = lock(&self.kept);
        kept.clones.extend(clones);
        kept.counters.cloned = kept.counters.cloned.max(Some(born));
        self.pages.space.set_cloned_through(kept.counters.cloned);
    }

    /// Whether a value shares extents with values under other keys. Reads its index, if that may be.
    pub(in crate::store) async fn is_cloned(&self, value: &OffTree) -> Result<bool> {
        if lock(&self.kept).counters.cloned.is_none() {
            return Ok(false);
        }
        let edit = Edit::new(system_version(&self.pages, *lock(&self.system)));
        let source = DiskPages::new(self.pages.disk.clone(), self.pages.store);
        let mut extents = Vec::new();
        each_extent(value, &source, |extent, _| {
            extents.push(extent);
            Ok(())
        })
        .await?;
        for extent in extents {
            let (from, end) = bounds(extent);
            if first_cloned(&edit, from, end).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
