//! The pin rule: something born at *b* and dropped at *d* may go when no kept generation *k* has
//! *b* ≤ *k* < *d*.
//!
//! Every dropped thing stands on the list of the newest kept generation that reaches it, as in the
//! dead lists of ZFS. When that one is kept no longer, the thing moves to the next older kept
//! generation, or, born after it, is free. A list is grouped by birth, so that what becomes free is
//! split off and the rest spliced, at a cost in the number of different births, not of things.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::format::{Birth, Extent};

/// What was dropped, as far as the pin rule cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An extent that is held until it may go.
    Extent(Extent),
    /// The number of a subtree or value whose root alone is known.
    Pending(u64),
}

/// Something dropped; its birth stands where it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) dropped_at: Birth,
    /// The number of the last listing of pending items that may lead to it: see `Space`.
    pub(super) guard: Option<u64>,
    pub(super) bytes: u64,
}

#[derive(Debug, Default)]
struct Group {
    items: Vec<Item>,
    bytes: u64,
}

impl Group {
    fn push(&mut self, item: Item) {
        // What pointers of a damaged file say may add up to anything.
        self.bytes = self.bytes.saturating_add(item.bytes);
        self.items.push(item);
    }

    fn splice(&mut self, mut other: Self) {
        if self.items.len() < other.items.len() {
            std::mem::swap(self, &mut other);
        }
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.items.append(&mut other.items);
    }
}

/// A generation that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) generation: Birth,
    /// How often it is kept.
    pub(crate) count: u64,
    /// The bytes that stand on its list.
    pub(crate) bytes: u64,
    /// When it was kept first: when it was the newest.
    pub(crate) since: Instant,
}

#[derive(Debug)]
struct Kept {
    count: u64,
    since: Instant,
    by_birth: BTreeMap<Birth, Group>,
}

/// Which generations are kept, and what each of them pins.
#[derive(Debug, Default)]
pub(super) struct Pins {
    kept: BTreeMap<Birth, Kept>,
    freed: VecDeque<(Birth, Group)>,
    newest_drop: Birth,
}

impl Pins {
    /// Adds something dropped.
    pub(super) fn add(&mut self, item: Item, birth: Birth) {
        self.newest_drop = self.newest_drop.max(item.dropped_at);
        match self.kept.range_mut(..item.dropped_at).next_back() {
            Some((&at, kept)) if at >= birth => kept.by_birth.entry(birth).or_default().push(item),
            _ => match self.freed.back_mut() {
                Some((same, group)) if *same == birth => group.push(item),
                _ => {
                    let mut group = Group::default();
                    group.push(item);
                    self.freed.push_back((birth, group));
                }
            },
        }
    }

    /// Keeps a generation, once more if it is kept already.
    pub(super) fn keep(&mut self, at: Birth) {
        if let Some(kept) = self.kept.get_mut(&at) {
            kept.count += 1;
            return;
        }
        let mut by_birth = BTreeMap::new();
        // Usually the newest generation is kept, of which nothing was dropped yet.
        if at < self.newest_drop
            && let Some((_, older)) = self.kept.range_mut(..at).next_back()
        {
            for (&birth, group) in older.by_birth.range_mut(..=at) {
                let (mut moved, mut left) = (Group::default(), Group::default());
                for item in group.items.drain(..) {
                    if item.dropped_at > at {
                        moved.push(item);
                    } else {
                        left.push(item);
                    }
                }
                *group = left;
                if !moved.items.is_empty() {
                    by_birth.insert(birth, moved);
                }
            }
        }
        let kept = Kept {
            count: 1,
            since: Instant::now(),
            by_birth,
        };
        self.kept.insert(at, kept);
    }

    /// Undoes one [`Self::keep`].
    pub(super) fn release(&mut self, at: Birth) {
        let Some(kept) = self.kept.get_mut(&at) else {
            debug_assert!(false, "generation {at:?} was released but is not kept");
            return;
        };
        kept.count -= 1;
        if kept.count > 0 {
            return;
        }
        let mut by_birth = std::mem::take(&mut kept.by_birth);
        self.kept.remove(&at);
        let older = self.kept.range_mut(..at).next_back();
        let freed = match older {
            None => by_birth,
            Some((&older_at, older)) => {
                let freed = by_birth.split_off(&Birth(older_at.0 + 1));
                if older.by_birth.len() < by_birth.len() {
                    std::mem::swap(&mut older.by_birth, &mut by_birth);
                }
                for (birth, group) in by_birth {
                    older.by_birth.entry(birth).or_default().splice(group);
                }
                freed
            }
        };
        let freed = freed
            .into_iter()
            .filter(|(_, group)| !group.items.is_empty());
        self.freed.extend(freed);
    }

    /// Takes at most `most` things that nothing pins any more, each with its birth.
    pub(super) fn take_freed(&mut self, most: usize) -> Vec<(Birth, Item)> {
        let mut out = Vec::new();
        while let Some((birth, group)) = self.freed.front_mut() {
            while out.len() < most
                && let Some(item) = group.items.pop()
            {
                out.push((*birth, item));
            }
            if !group.items.is_empty() {
                break;
            }
            self.freed.pop_front();
        }
        out
    }

    /// The kept generations, oldest first.
    pub(super) fn held(&self) -> impl Iterator<Item = Held> {
        self.kept.iter().map(|(&generation, kept)| Held {
            generation,
            count: kept.count,
            bytes: (kept.by_birth.values())
                .fold(0, |bytes, group| bytes.saturating_add(group.bytes)),
            since: kept.since,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_agrees_with_the_rule_applied_to_every_generation() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut pins = Pins::default();
            let mut kept: Vec<u64> = Vec::new();
            let mut model: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let mut now = 1u64;
            for number in 0..300 {
                match random.u8(0..10) {
                    0..=4 => {
                        let birth = random.u64(now.saturating_sub(12)..now);
                        let dropped_at = random.u64(birth + 1..=now);
                        let item = Item {
                            entry: Entry::Pending(number),
                            dropped_at: Birth(dropped_at),
                            guard: None,
                            bytes: 1,
                        };
                        pins.add(item, Birth(birth));
                        model.insert(number, (birth, dropped_at));
                    }
                    5 | 6 => {
                        now += 1;
                        let at = if random.u8(0..4) == 0 {
                            random.u64(0..=now)
                        } else {
                            now
                        };
                        pins.keep(Birth(at));
                        kept.push(at);
                    }
                    _ if !kept.is_empty() => {
                        let at = kept.swap_remove(random.usize(..kept.len()));
                        pins.release(Birth(at));
                    }
                    _ => now += 1,
                }
                let pinned = |&(birth, dropped_at): &(u64, u64)| {
                    kept.iter().any(|&at| birth <= at && at < dropped_at)
                };
                let most = random.usize(1..8);
                loop {
                    let freed = pins.take_freed(most);
                    for (birth, item) in &freed {
                        let Entry::Pending(number) = item.entry else {
                            unreachable!("only numbers were added")
                        };
                        let was = model.remove(&number).expect("freed once");
                        assert_eq!(was, (birth.0, item.dropped_at.0), "seed {seed}");
                        assert!(!pinned(&was), "seed {seed}: {was:?} is pinned");
                    }
                    if freed.is_empty() {
                        break;
                    }
                }
                assert!(model.values().all(pinned), "seed {seed}: kept too long");
                let bytes: u64 = pins.held().map(|held| held.bytes).sum();
                assert_eq!(bytes, model.len() as u64, "seed {seed}");
            }
        }
    }

    #[test]
    fn bytes_that_a_damaged_file_makes_up_are_no_overflow() {
        let mut pins = Pins::default();
        for at in [2, 4] {
            pins.keep(Birth(at));
        }
        for (number, birth) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
            let item = Item {
                entry: Entry::Pending(number),
                dropped_at: Birth(5),
                guard: None,
                bytes: u64::MAX - 1,
            };
            pins.add(item, Birth(birth));
        }
        // What the one held goes to the other, or is free.
        pins.release(Birth(4));
        assert!(pins.held().all(|held| held.bytes == u64::MAX));
        pins.release(Birth(2));
        assert_eq!(pins.take_freed(9).len(), 4);
    }
}
