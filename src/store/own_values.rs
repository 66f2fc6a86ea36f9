//! [`OwnValues`]: the off-tree values that a transaction wrote, which are nobody else's until it commits.

use std::collections::HashSet;

use super::maintenance::LoggedValue;
use crate::format::Address;

/// Values by the addresses of their roots, in the order in which they were written.
#[derive(Default)]
pub(super) struct OwnValues {
    values: Vec<(Address, LoggedValue)>,
    roots: HashSet<Address>,
}

impl OwnValues {
    pub(super) fn push(&mut self, root: Address, value: LoggedValue) {
        self.roots.insert(root);
        self.values.push((root, value));
    }

    pub(super) fn contains(&self, root: Address) -> bool {
        self.roots.contains(&root)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Takes out all but the first so many.
    pub(super) fn split_off(&mut self, at: usize) -> Vec<(Address, LoggedValue)> {
        let taken = self.values.split_off(at);
        for (root, _) in &taken {
            self.roots.remove(root);
        }
        taken
    }

    /// Takes out all.
    pub(super) fn take(&mut self) -> Vec<(Address, LoggedValue)> {
        std::mem::take(self).values
    }
}
