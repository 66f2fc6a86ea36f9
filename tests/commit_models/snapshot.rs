//! Versions as far as showing them goes: what is in the tree, and journals that commits enter.

use std::ops::Deref;

use shuttle::sync::atomic::AtomicBool;
use shuttle::sync::{Arc, Mutex};
use std::sync::atomic::Ordering;

use crate::format::SequenceNumber;

/// The sequences of what it holds.
pub(crate) type Journal = Mutex<Vec<u64>>;

pub(crate) struct Parts {
    pub(crate) tree: Vec<u64>,
    pub(crate) tree_through: SequenceNumber,
    pub(crate) journals: Vec<Arc<Journal>>,
    /// Outlives it, to tell that it is gone.
    pub(crate) gone: Arc<AtomicBool>,
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

pub(crate) struct Version {
    parts: Arc<Parts>,
}

impl Version {
    pub(crate) fn new(tree: Vec<u64>, journals: Vec<Arc<Journal>>) -> Arc<Self> {
        let tree_through = SequenceNumber(tree.iter().copied().max().unwrap_or(0));
        let parts = Arc::new(Parts {
            tree,
            tree_through,
            journals,
            gone: Arc::default(),
        });
        Arc::new(Self { parts })
    }

    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }
}

impl Deref for Version {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

pub(crate) struct View {
    pub(crate) version: Arc<Version>,
    pub(crate) bound: SequenceNumber,
}
