//! The upper levels of the index as a sorted array: where to enter the skip list.
//!
//! Going down a skip list costs a cache miss a step. The nodes of one of its levels, written out as
//! an array of heads, are searched in a few; the heads are taken after the prefix that all keys
//! share, so that they tell apart keys with long common beginnings. A directory is never changed:
//! a new one is made whenever the list has doubled. It names some nodes only, so that nothing
//! depends on how old it is but the number of steps that follow.

use super::skip_list::key_head;

/// Nodes of a list with the heads of their keys, ascending.
pub(super) struct Directory {
    prefix: Box<[u8]>,
    heads: Box<[u64]>,
    nodes: Box<[u32]>,
}

impl Directory {
    /// A directory of nodes with their keys, ascending.
    pub(super) fn new<'k>(nodes: Vec<u32>, key: impl Fn(u32) -> &'k [u8]) -> Self {
        let first = nodes.first().map_or(&[][..], |&node| key(node));
        let last = nodes.last().map_or(&[][..], |&node| key(node));
        let same = first
            .iter()
            .zip(last)
            .take_while(|(left, right)| left == right);
        let prefix = same.count();
        Self {
            prefix: first[..prefix].into(),
            heads: (nodes.iter())
                .map(|&node| key_head(&key(node)[prefix..]))
                .collect(),
            nodes: nodes.into(),
        }
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
        let directory = Directory::new((0..5).collect(), |node| keys[node as usize].as_bytes());
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
        assert_eq!(Directory::new(Vec::new(), |_| &[]).before(b"a"), None);
    }
}
