//! [`IntervalTree`]: ranges that may overlap, and which of them overlap one that is given, in
//! O(log n) for each that is found.
//!
//! A treap in one array, ordered by where ranges begin. Each node knows which node of its subtree
//! ends last, and which of the exclusive ones does: a search leaves out subtrees that end too early,
//! so that one for exclusive locks does not look at any number of shared ones.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::LockMode;
use super::owner::OwnerId;
use super::range::{End, LockRange, Wanted, compare_ends};

/// A lock that somebody holds or waits for.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) range: LockRange,
    pub(super) mode: LockMode,
    pub(super) owner: OwnerId,
    /// Greater than that of all entries before.
    pub(super) number: u64,
}

/// Where an entry is; it stays there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u32);

impl Place {
    const NONE: Self = Self(u32::MAX);

    fn exists(self) -> bool {
        self != Self::NONE
    }
}

struct Node {
    entry: Entry,
    priority: u32,
    left: Place,
    right: Place,
    /// Whose end is the last in this subtree: of all, and of the exclusive ones.
    last: [Place; 2],
}

const ALL: usize = 0;
const EXCLUSIVE: usize = 1;

/// See the module.
pub(super) struct IntervalTree {
    /// `None`: vacant.
    nodes: Vec<Option<Node>>,
    vacant: Vec<Place>,
    root: Place,
    random: u32,
}

impl IntervalTree {
    pub(super) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            vacant: Vec::new(),
            root: Place::NONE,
            random: 0x9e37_79b9,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.vacant.len()
    }

    fn node(&self, place: Place) -> &Node {
        self.nodes[place.0 as usize]
            .as_ref()
            .expect("places that are linked are taken")
    }

    fn node_mut(&mut self, place: Place) -> &mut Node {
        self.nodes[place.0 as usize]
            .as_mut()
            .expect("places that are linked are taken")
    }

    pub(super) fn entry(&self, place: Place) -> &Entry {
        &self.node(place).entry
    }

    /// Heaps of such numbers are trees of logarithmic height. Whoever chooses the keys does not see
    /// them.
    fn next_random(&mut self) -> u32 {
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Place {
        let priority = self.next_random();
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            Place(u32::try_from(self.nodes.len() - 1).expect("the limit of locks is smaller"))
        });
        let exclusive = match entry.mode {
            LockMode::Exclusive => place,
            LockMode::Shared => Place::NONE,
        };
        self.nodes[place.0 as usize] = Some(Node {
            entry,
            priority,
            left: Place::NONE,
            right: Place::NONE,
            last: [place, exclusive],
        });
        self.root = self.insert_below(self.root, place);
        place
    }

    fn insert_below(&mut self, root: Place, new: Place) -> Place {
        if !root.exists() {
            return new;
        }
        if self.node(new).priority > self.node(root).priority {
            let (left, right) = self.split(root, new);
            let node = self.node_mut(new);
            (node.left, node.right) = (left, right);
            self.look_below(new);
            return new;
        }
        if self.order(new, root).is_lt() {
            let left = self.insert_below(self.node(root).left, new);
            self.node_mut(root).left = left;
        } else {
            let right = self.insert_below(self.node(root).right, new);
            self.node_mut(root).right = right;
        }
        self.note_last(root, ALL, new);
        if self.node(new).entry.mode == LockMode::Exclusive {
            self.note_last(root, EXCLUSIVE, new);
        }
        root
    }

    /// What comes before a node, and what comes behind it.
    fn split(&mut self, root: Place, at: Place) -> (Place, Place) {
        if !root.exists() {
            return (Place::NONE, Place::NONE);
        }
        if self.order(root, at).is_lt() {
            let (middle, right) = self.split(self.node(root).right, at);
            self.node_mut(root).right = middle;
            self.look_below(root);
            (root, right)
        } else {
            let (left, middle) = self.split(self.node(root).left, at);
            self.node_mut(root).left = middle;
            self.look_below(root);
            (left, root)
        }
    }

    pub(super) fn remove(&mut self, place: Place) -> Entry {
        self.root = self.remove_below(self.root, place);
        self.vacant.push(place);
        let node = self.nodes[place.0 as usize].take();
        if self.vacant.len() == self.nodes.len() {
            // What one great holder needed is not kept for ever.
            self.nodes = Vec::new();
            self.vacant = Vec::new();
        }
        node.expect("it was in the tree").entry
    }

    fn remove_below(&mut self, root: Place, gone: Place) -> Place {
        if root == gone {
            let node = self.node(root);
            return self.join(node.left, node.right);
        }
        if self.order(gone, root).is_lt() {
            let left = self.remove_below(self.node(root).left, gone);
            self.node_mut(root).left = left;
        } else {
            let right = self.remove_below(self.node(root).right, gone);
            self.node_mut(root).right = right;
        }
        if self.node(root).last.contains(&gone) {
            self.look_below(root);
        }
        root
    }

    /// All of `left` comes before all of `right`.
    fn join(&mut self, left: Place, right: Place) -> Place {
        if !left.exists() {
            return right;
        }
        if !right.exists() {
            return left;
        }
        let root = if self.node(left).priority > self.node(right).priority {
            let below = self.join(self.node(left).right, right);
            self.node_mut(left).right = below;
            left
        } else {
            let below = self.join(left, self.node(right).left);
            self.node_mut(right).left = below;
            right
        };
        self.look_below(root);
        root
    }

    fn order(&self, one: Place, other: Place) -> Ordering {
        let (one, other) = (self.entry(one), self.entry(other));
        one.range
            .low()
            .cmp(other.range.low())
            .then(one.number.cmp(&other.number))
    }

    /// Finds out anew which entries end last.
    fn look_below(&mut self, place: Place) {
        let node = self.node_mut(place);
        let exclusive = match node.entry.mode {
            LockMode::Exclusive => place,
            LockMode::Shared => Place::NONE,
        };
        node.last = [place, exclusive];
        for child in [node.left, node.right] {
            if child.exists() {
                let [all, exclusive] = self.node(child).last;
                self.note_last(place, ALL, all);
                if exclusive.exists() {
                    self.note_last(place, EXCLUSIVE, exclusive);
                }
            }
        }
    }

    fn note_last(&mut self, place: Place, which: usize, other: Place) {
        let last = self.node(place).last[which];
        let is_later = !last.exists() || compare_ends(self.end(other), self.end(last)).is_gt();
        if is_later {
            self.node_mut(place).last[which] = other;
        }
    }

    fn end(&self, place: Place) -> End<'_> {
        self.entry(place).range.end()
    }

    /// Calls the function for each entry that has some of the keys, those that begin last first;
    /// with `exclusive_only`, for the exclusive ones alone. The function may end it.
    pub(super) fn visit<'t, B>(
        &'t self,
        wanted: Wanted<'_>,
        exclusive_only: bool,
        function: &mut impl FnMut(Place, &'t Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let which = if exclusive_only { EXCLUSIVE } else { ALL };
        self.visit_below(self.root, wanted, which, function)
    }

    fn visit_below<'t, B>(
        &'t self,
        root: Place,
        wanted: Wanted<'_>,
        which: usize,
        function: &mut impl FnMut(Place, &'t Entry) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if !root.exists() {
            return ControlFlow::Continue(());
        }
        let node = self.node(root);
        let last = node.last[which];
        let ends_before = |place| {
            self.end(place)
                .is_some_and(|end: &[u8]| end <= wanted.low())
        };
        if !last.exists() || ends_before(last) {
            return ControlFlow::Continue(());
        }
        if wanted.reaches(node.entry.range.low()) {
            self.visit_below(node.right, wanted, which, function)?;
            let counts = which == ALL || node.entry.mode == LockMode::Exclusive;
            if counts && !ends_before(root) {
                function(root, &node.entry)?;
            }
        }
        self.visit_below(node.left, wanted, which, function)
    }

    /// Order, heap and what is known of the ends.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let found = self.check_below(self.root);
        assert_eq!(found.len(), self.len());
        for pair in found.windows(2) {
            assert!(self.order(pair[0], pair[1]).is_lt());
        }
    }

    #[cfg(test)]
    fn check_below(&self, root: Place) -> Vec<Place> {
        if !root.exists() {
            return Vec::new();
        }
        let node = self.node(root);
        for child in [node.left, node.right] {
            assert!(!child.exists() || self.node(child).priority <= node.priority);
        }
        let mut found = self.check_below(node.left);
        found.push(root);
        found.extend(self.check_below(node.right));
        for (which, last) in node.last.into_iter().enumerate() {
            let counted = found
                .iter()
                .copied()
                .filter(|place| which == ALL || self.entry(*place).mode == LockMode::Exclusive);
            let greatest =
                counted.max_by(|one, other| compare_ends(self.end(*one), self.end(*other)));
            assert_eq!(
                greatest.map(|place| self.end(place)),
                last.exists().then(|| self.end(last))
            );
        }
        found
    }
}
