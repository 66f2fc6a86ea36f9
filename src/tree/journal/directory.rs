//! The upper levels of the index as a sorted array: where to enter the skip list.
//!
//! Going down a skip list costs a cache miss a step. The nodes of one of its levels, written out as
//! an array of heads, are searched in a few; the heads are taken after the prefix that all keys
//! share, so that they tell apart keys with long common beginnings. A directory is never changed:
//! a new one is made whenever the list has doubled. It names some nodes only, so that nothing
//! depends on how old it is but the number of steps that follow.
//!
//! A list that is searched over and over while nothing is added gets a directory of all its nodes,
//! which answers by itself for as long as nothing is.

use super::skip_list::key_head;

/// Nodes of a list with the heads of their keys, ascending.
pub(super) struct Directory {
    prefix: Box<[u8]>,
    heads: Box<[u64]>,
    nodes: Box<[u32]>,
}

impl Directory {
    /// A directory of nodes with their keys, ascending; `head` is asked for the head of a key
    /// without so many of its first bytes.
    pub(super) fn new<'k>(
        nodes: Vec<u32>,
        key: impl Fn(u32) -> &'k [u8],
        head: impl Fn(u32, usize) -> u64,
    ) -> Self {
        let first = nodes.first().map_or(&[][..], |&node| key(node));
        let last = nodes.last().map_or(&[][..], |&node| key(node));
        let same = first
            .iter()
            .zip(last)
            .take_while(|(left, right)| left == right);
        let prefix = same.count();
        Self {
            prefix: first[..prefix].into(),
            heads: nodes.iter().map(|&node| head(node, prefix)).collect(),
            nodes: nodes.into(),
        }
    }

    /// How many nodes it names.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The last node that certainly has a smaller key.
    #[inline]
    pub(super) fn before(&self, key: &[u8]) -> Option<u32> {
        let after = match key.strip_prefix(&*self.prefix) {
            Some(rest) => {
                let head = key_head(rest);
                self.heads.partition_point(|&other| other < head)
            }
            None if *key < *self.prefix => 0,
            None => self.heads.len(),
        };
        self.nodes.get(after.checked_sub(1)?).copied()
    }

    /// The last node that stands before a place, and the one after it, where all nodes of the list
    /// are named. The question is as in [`SkipList`](super::skip_list::SkipList)'s search.
    #[inline]
    pub(super) fn around(
        &self,
        key: &[u8],
        before: impl Fn(u32) -> bool,
    ) -> (Option<u32>, Option<u32>) {
        let (mut low, mut high) = match key.strip_prefix(&*self.prefix) {
            Some(rest) => {
                let head = key_head(rest);
                let low = self.heads.partition_point(|&other| other < head);
                let same = self.heads[low..].partition_point(|&other| other == head);
                (low, low + same)
            }
            None if *key < *self.prefix => (0, 0),
            None => (self.heads.len(), self.heads.len()),
        };
        while low < high {
            let middle = low.midpoint(high);
            match before(self.nodes[middle]) {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let at = |index: Option<usize>| index.and_then(|index| self.nodes.get(index)).copied();
        (at(low.checked_sub(1)), at(Some(low)))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.prefix.len() + size_of_val::<[u64]>(&self.heads) + size_of_val::<[u32]>(&self.nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_smaller_key_is_found_unless_heads_are_equal() {
        let keys = ["pre1", "pre2", "pre2\0", "pre312345678a", "pre312345678b"];
        let key = |node: u32| keys[node as usize].as_bytes();
        let head = |node, prefix: usize| key_head(&key(node)[prefix..]);
        let directory = Directory::new((0..5).collect(), key, head);
        for (key, expected) in [
            ("", None),
            ("pr", None),
            ("pre1", None),
            ("pre11", Some(0)),
            ("pre2", Some(0)),
            ("pre2\0", Some(0)),
            ("pre3", Some(2)),
            ("pre312345678b", Some(2)),
            ("pre4", Some(4)),
            ("prf", Some(4)),
        ] {
            assert_eq!(directory.before(key.as_bytes()), expected, "{key}");
        }
        for probe in [
            "",
            "pr",
            "pre1",
            "pre11",
            "pre2\0",
            "pre312345678a",
            "pre4",
            "prf",
        ] {
            let after = keys.partition_point(|key| *key <= probe);
            let expected = (
                after.checked_sub(1),
                Some(after).filter(|at| *at < keys.len()),
            );
            let found = directory.around(probe.as_bytes(), |node| keys[node as usize] <= probe);
            let found = (found.0.map(|at| at as usize), found.1.map(|at| at as usize));
            assert_eq!(found, expected, "{probe}");
        }
        let empty = Directory::new(Vec::new(), |_| &[], |_, _| 0);
        assert_eq!(empty.before(b"a"), None);
        assert_eq!(empty.around(b"a", |_| true), (None, None));
    }
}
