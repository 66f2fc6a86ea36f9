//! [`Held`]: the locks that are held, each owner's joined.
//!
//! Invariant: those of one owner do not overlap, and none touches another of the same mode. So they are
//! as few as the outline of what it locked needs. A lock that was granted to somebody who does not
//! know of it yet stands for itself, so that it can be taken back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::LockMode;
use super::owner::OwnerId;
use super::range::{End, LockRange, Wanted, compare_ends};
use super::tree::{Entry, IntervalTree, Place};

/// An owner's range, in the order of owners and keys.
#[derive(Debug)]
struct Owned {
    owner: u64,
    range: LockRange,
}

impl Owned {
    fn key(&self) -> (u64, &[u8]) {
        (self.owner, self.range.low())
    }
}

impl PartialEq for Owned {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Owned {}

impl PartialOrd for Owned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Owned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What an owner's own locks say to its request.
pub(super) enum Own {
    /// It has all of that already.
    Enough,
    /// Some of it is shared, and asked for exclusively.
    Weaker(LockRange),
    Nothing,
}

/// See the module.
pub(super) struct Held {
    pub(super) tree: IntervalTree,
    by_owner: BTreeMap<Owned, Place>,
    next_number: u64,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            tree: IntervalTree::new(),
            by_owner: BTreeMap::new(),
            next_number: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether an owner has any lock that it knows of.
    pub(super) fn has_any(&self, owner: OwnerId) -> bool {
        self.touching(owner, &Self::everything()).next().is_some()
    }

    fn everything() -> LockRange {
        LockRange::new(&[], None).expect("it is not empty")
    }

    /// The locks of an owner that overlap a range or stand beside it, in the order of keys.
    fn touching<'h>(
        &'h self,
        owner: OwnerId,
        range: &LockRange,
    ) -> impl Iterator<Item = Place> + use<'h> {
        let wanted = Owned {
            owner: owner.number,
            range: range.clone(),
        };
        let touches = move |owned: &Owned, wanted: &Owned| {
            owned.owner == wanted.owner && owned.range.touches(&wanted.range)
        };
        // Of those that begin before it only the last one can: they do not overlap.
        let before = self.by_owner.range(..&wanted).next_back();
        let before = before.filter(|(owned, _)| touches(owned, &wanted));
        let behind = self.by_owner.range(&wanted..);
        let behind = behind.take_while(move |(owned, _)| touches(owned, &wanted));
        before.into_iter().chain(behind).map(|(_, place)| *place)
    }

    /// What an owner has of a range that it asks for.
    pub(super) fn own(&self, owner: OwnerId, range: &LockRange, mode: LockMode) -> Own {
        for place in self.touching(owner, range) {
            let entry = self.tree.entry(place);
            if entry.mode >= mode && entry.range.contains(range) {
                return Own::Enough;
            }
            if entry.mode < mode && entry.range.intersection(range).is_some() {
                return Own::Weaker(entry.range.clone());
            }
        }
        Own::Nothing
    }

    /// Whether a family has all keys of a range in a mode or a stronger one.
    pub(super) fn family_has(&self, family: u64, low: &[u8], end: End<'_>, mode: LockMode) -> bool {
        let exclusive_only = mode == LockMode::Exclusive;
        let mut at = low;
        loop {
            // How far the family's locks that have this key go.
            let mut reached: Option<End<'_>> = None;
            let _: ControlFlow<()> =
                self.tree
                    .visit(Wanted::Key(at), exclusive_only, &mut |_, entry| {
                        let here = entry.range.end();
                        let is_further =
                            reached.is_none_or(|reached| compare_ends(here, reached).is_gt());
                        if entry.owner.family == family && is_further {
                            reached = Some(here);
                        }
                        ControlFlow::Continue(())
                    });
            match reached {
                None => return false,
                Some(None) => return true,
                Some(Some(reached)) if end.is_some_and(|end| end <= reached) => return true,
                Some(Some(reached)) => at = reached,
            }
        }
    }

    /// Something of a range that a family has shared, and not exclusively as well.
    pub(super) fn family_shares(&self, family: u64, range: &LockRange) -> Option<LockRange> {
        let found = self.tree.visit(range.wanted(), false, &mut |_, entry| {
            let is_own = entry.owner.family == family && entry.mode == LockMode::Shared;
            let common = entry.range.intersection(range).filter(|_| is_own);
            let shares = common
                .is_some_and(|(low, end)| !self.family_has(family, low, end, LockMode::Exclusive));
            match shares {
                true => ControlFlow::Break(entry.range.clone()),
                false => ControlFlow::Continue(()),
            }
        });
        found.break_value()
    }

    /// Gives an owner a range, joined with what it has. Of what it has shared and now gets
    /// exclusively, only the latter stays.
    pub(super) fn add(&mut self, owner: OwnerId, range: LockRange, mode: LockMode) {
        let touching: Vec<Place> = self.touching(owner, &range).collect();
        let mut joined = range.clone();
        let mut stronger = Vec::new();
        for place in touching {
            let entry = self.tree.entry(place);
            if entry.mode > mode {
                stronger.push(entry.range.clone());
                continue;
            }
            let entry = self.remove(place);
            if entry.mode == mode {
                joined = joined.hull(&entry.range);
            } else {
                // It is to be exclusive; what was shared on both sides stays so.
                let around = [entry.range.before(&range), entry.range.behind(&range)];
                for left in around.into_iter().flatten() {
                    self.insert(owner, left, entry.mode);
                }
            }
        }
        // What is shared stands between what is exclusive.
        let mut left = Some(joined);
        for stronger in stronger {
            let Some(range) = left.take() else { break };
            if let Some(before) = range.before(&stronger) {
                self.insert(owner, before, mode);
            }
            left = range.behind(&stronger);
        }
        if let Some(range) = left {
            self.insert(owner, range, mode);
        }
    }

    /// Keeps a lock for somebody who does not know of it yet.
    pub(super) fn keep_apart(&mut self, owner: OwnerId, range: LockRange, mode: LockMode) -> Place {
        let number = self.next_number;
        self.next_number += 1;
        self.tree.insert(Entry {
            range,
            mode,
            owner,
            number,
        })
    }

    /// Takes a lock that was kept apart.
    pub(super) fn take_apart(&mut self, place: Place) -> Entry {
        self.tree.remove(place)
    }

    fn insert(&mut self, owner: OwnerId, range: LockRange, mode: LockMode) {
        let place = self.keep_apart(owner, range.clone(), mode);
        let owner = owner.number;
        self.by_owner.insert(Owned { owner, range }, place);
    }

    fn remove(&mut self, place: Place) -> Entry {
        let entry = self.tree.remove(place);
        self.by_owner.remove(&Owned {
            owner: entry.owner.number,
            range: entry.range.clone(),
        });
        entry
    }

    /// Takes all that an owner knows of from it; says whether there was anything.
    pub(super) fn remove_all(&mut self, owner: OwnerId) -> bool {
        let places: Vec<Place> = self.touching(owner, &Self::everything()).collect();
        for place in &places {
            self.remove(*place);
        }
        !places.is_empty()
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        self.tree.check();
        let all: Vec<&Owned> = self.by_owner.keys().collect();
        for pair in all.windows(2) {
            let [one, other] = [pair[0], pair[1]];
            if one.owner != other.owner {
                continue;
            }
            assert!(
                one.range.intersection(&other.range).is_none(),
                "{one:?} {other:?}"
            );
            let mode = |owned: &Owned| self.tree.entry(self.by_owner[owned]).mode;
            let joined = mode(one) != mode(other) || !one.range.touches(&other.range);
            assert!(joined, "{one:?} {other:?}");
        }
    }

    /// That so many locks are kept apart.
    #[cfg(test)]
    pub(super) fn check_apart(&self, apart: usize) {
        assert_eq!(self.tree.len(), self.by_owner.len() + apart);
    }
}
