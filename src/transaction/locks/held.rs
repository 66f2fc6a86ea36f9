//! [`Held`]: the locks that are held, each owner's joined.
//!
//! Invariant: those of one owner do not overlap, and none touches another of the same mode. So they are
//! as few as the outline of what it locked needs. A lock that was granted to somebody who does not
//! know of it yet stands for itself, so that it can be taken back.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use smallvec::SmallVec;

use super::LockMode;
use super::owner::OwnerId;
use super::range::{End, LockRange, Wanted, compare_ends};
use super::tree::{Entry, IntervalTree, Place};

/// How many ranges of an owner are kept in a list.
const FEW: usize = if cfg!(test) { 3 } else { 32 };

/// The ranges of one owner, in the order of keys. They do not overlap.
enum Ranges {
    Few(SmallVec<[Place; 2]>),
    Many(BTreeMap<ByLow, Place>),
}

/// A range in the order of where it begins.
struct ByLow(LockRange);

impl PartialEq for ByLow {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByLow {}

impl PartialOrd for ByLow {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByLow {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.low().cmp(other.0.low())
    }
}

impl Ranges {
    /// Of a list, how many begin before a range.
    fn before(few: &[Place], tree: &IntervalTree, range: &LockRange) -> usize {
        few.partition_point(|place| tree.entry(*place).range.low() < range.low())
    }

    /// Those that overlap a range or stand beside it, in the order of keys.
    fn touching(&self, tree: &IntervalTree, range: &LockRange) -> Touching {
        let touches = |place: &Place| tree.entry(*place).range.touches(range);
        // Of those that begin before it only the last one can: they do not overlap.
        match self {
            Self::Few(few) => {
                let first = Self::before(few, tree, range);
                let before = few[..first].last().filter(|place| touches(place));
                let behind = few[first..].iter().take_while(|place| touches(place));
                before.into_iter().chain(behind).copied().collect()
            }
            Self::Many(many) => {
                let wanted = ByLow(range.clone());
                let before = many.range(..&wanted).next_back().map(|(_, place)| place);
                let before = before.filter(|place| touches(place));
                let behind = many.range(&wanted..).map(|(_, place)| place);
                let behind = behind.take_while(|place| touches(place));
                before.into_iter().chain(behind).copied().collect()
            }
        }
    }

    fn insert(&mut self, tree: &IntervalTree, range: &LockRange, place: Place) {
        match self {
            Self::Few(few) if few.len() < FEW => {
                let at = Self::before(few, tree, range);
                few.insert(at, place);
            }
            Self::Few(few) => {
                let keyed = few.iter().map(|place| {
                    let range = tree.entry(*place).range.clone();
                    (ByLow(range), *place)
                });
                let mut many: BTreeMap<ByLow, Place> = keyed.collect();
                many.insert(ByLow(range.clone()), place);
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                many.insert(ByLow(range.clone()), place);
            }
        }
    }

    /// Takes one out that is in the tree still; says whether any is left.
    fn remove(&mut self, tree: &IntervalTree, place: Place) -> bool {
        let range = &tree.entry(place).range;
        match self {
            Self::Few(few) => {
                let at = Self::before(few, tree, range);
                few.remove(at);
                !few.is_empty()
            }
            Self::Many(many) => {
                many.remove(&ByLow(range.clone()));
                !many.is_empty()
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few.iter()), None),
            Self::Many(many) => (None, Some(many.values())),
        };
        let few = few.into_iter().flatten();
        few.chain(many.into_iter().flatten()).copied()
    }
}

/// An owner's locks that a range of its own concerns.
pub(super) type Touching = SmallVec<[Place; 2]>;

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
    /// The ranges of each owner that has any that it knows of.
    by_owner: HashMap<u64, Ranges>,
    next_number: u64,
}

impl Held {
    pub(super) fn new() -> Self {
        Self {
            tree: IntervalTree::new(),
            by_owner: HashMap::new(),
            next_number: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether an owner has any lock that it knows of.
    pub(super) fn has_any(&self, owner: OwnerId) -> bool {
        self.by_owner.contains_key(&owner.number)
    }

    /// The locks of an owner that it knows of.
    pub(super) fn of_owner(&self, owner: u64) -> impl Iterator<Item = &Entry> {
        let ranges = self.by_owner.get(&owner);
        let places = ranges.into_iter().flat_map(Ranges::places);
        places.map(|place| self.tree.entry(place))
    }

    /// The locks of an owner that overlap a range or stand beside it, in the order of keys.
    pub(super) fn touching(&self, owner: OwnerId, range: &LockRange) -> Touching {
        let ranges = self.by_owner.get(&owner.number);
        ranges.map_or_else(Touching::new, |ranges| ranges.touching(&self.tree, range))
    }

    /// What an owner has of a range that it asks for, by its locks that this concerns.
    pub(super) fn own(&self, touching: &Touching, range: &LockRange, mode: LockMode) -> Own {
        for place in touching {
            let entry = self.tree.entry(*place);
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

    /// Gives an owner a range, joined with what it has of those that this concerns. Of what it has
    /// shared and now gets exclusively, only the latter stays.
    pub(super) fn add(
        &mut self,
        owner: OwnerId,
        range: LockRange,
        mode: LockMode,
        touching: Touching,
    ) {
        if touching.is_empty() {
            return self.insert(owner, range, mode);
        }
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
        let place = self.keep_apart(owner, range, mode);
        let ranges = self.by_owner.entry(owner.number);
        let ranges = ranges.or_insert_with(|| Ranges::Few(SmallVec::new()));
        ranges.insert(&self.tree, &self.tree.entry(place).range, place);
    }

    fn remove(&mut self, place: Place) -> Entry {
        let owner = self.tree.entry(place).owner.number;
        if let Some(ranges) = self.by_owner.get_mut(&owner)
            && !ranges.remove(&self.tree, place)
        {
            self.by_owner.remove(&owner);
        }
        self.tree.remove(place)
    }

    /// Takes all that an owner knows of from it; says whether there was anything.
    pub(super) fn remove_all(&mut self, owner: OwnerId) -> bool {
        let Some(ranges) = self.by_owner.remove(&owner.number) else {
            return false;
        };
        for place in ranges.places() {
            self.tree.remove(place);
        }
        if self.by_owner.is_empty() && self.by_owner.capacity() > FEW {
            // What many owners needed is not kept for ever.
            self.by_owner = HashMap::new();
        }
        true
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        self.tree.check();
        for (owner, ranges) in &self.by_owner {
            let all: Vec<&Entry> = ranges
                .places()
                .map(|place| self.tree.entry(place))
                .collect();
            assert!(!all.is_empty());
            assert!(all.iter().all(|entry| entry.owner.number == *owner));
            for pair in all.windows(2) {
                let [one, other] = [pair[0], pair[1]];
                assert!(one.range.low() < other.range.low(), "{one:?} {other:?}");
                let apart = one.range.intersection(&other.range).is_none();
                assert!(apart, "{one:?} {other:?}");
                let joined = one.mode != other.mode || !one.range.touches(&other.range);
                assert!(joined, "{one:?} {other:?}");
            }
        }
    }

    /// That so many locks are kept apart.
    #[cfg(test)]
    pub(super) fn check_apart(&self, apart: usize) {
        let known = self.by_owner.values().map(|ranges| ranges.places().count());
        assert_eq!(self.tree.len(), known.sum::<usize>() + apart);
    }
}
