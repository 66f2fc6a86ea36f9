//! [`Bases`]: off-tree values of which others are being made, and which must not be moved meanwhile.
//!
//! A value that shares extents with its base has to find it in the tree as it was. Compaction would
//! move it, so it asks here, and holds the list while it moves and publishes: who adds a value
//! afterwards finds it moved, and copies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::gate::lock;
use crate::format::Address;
use crate::value::OffTree;

/// How often each value is held, by the address of its root.
type Held = HashMap<Address, usize>;

/// The values that must stay where they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Bases(Arc<Mutex<Held>>);

impl Bases {
    /// Keeps a value where it is until what this gives is dropped. Whether it is there still must be
    /// found out afterwards.
    pub(super) fn hold(&self, value: &OffTree) -> HeldBase {
        let root = value.root.extent.address;
        *lock(&self.0).entry(root).or_default() += 1;
        HeldBase {
            bases: self.clone(),
            root,
        }
    }

    /// Keeps in this list what is kept in another one.
    pub(super) fn hold_too(&self, held: &HeldBase) -> HeldBase {
        *lock(&self.0).entry(held.root).or_default() += 1;
        HeldBase {
            bases: self.clone(),
            root: held.root,
        }
    }

    /// Nobody adds to the list while this lives.
    pub(super) fn lock(&self) -> MutexGuard<'_, Held> {
        lock(&self.0)
    }
}

/// A value that stays where it is.
#[derive(Debug)]
pub(super) struct HeldBase {
    bases: Bases,
    root: Address,
}

impl Drop for HeldBase {
    fn drop(&mut self) {
        let mut held = lock(&self.bases.0);
        if let Some(count) = held.get_mut(&self.root) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.root);
            }
        }
    }
}
