//! A version: a root, and the journals that are newer than its tree.
//!
//! Versions are what readers hold. As long as one lives, whatever it reaches is neither overwritten
//! nor reused (**I1**); that costs one entry in a table of kept generations.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::cache::FrameHint;
use crate::format::{Birth, PagePointer, SequenceNumber};
use crate::tree::journal::Journal;
use crate::tree::pages::Pages;

/// A tree, and the operations that are newer than it.
pub(crate) struct Version {
    pages: Arc<Pages>,
    pub(crate) root: PagePointer,
    pub(crate) root_hint: FrameHint,
    /// The generation of the tree.
    pub(crate) birth: Birth,
    /// Newest first. The first one may still grow; bounds hide what it gets.
    pub(crate) journals: SmallVec<[Arc<Journal>; 2]>,
    /// The newest sequence in the tree.
    pub(crate) tree_through: SequenceNumber,
}

impl Version {
    pub(crate) fn new(
        pages: Arc<Pages>,
        root: PagePointer,
        birth: Birth,
        journals: impl IntoIterator<Item = Arc<Journal>>,
        tree_through: SequenceNumber,
    ) -> Arc<Self> {
        pages.space.keep(birth);
        let journals = journals.into_iter().collect();
        let root_hint = FrameHint::new();
        Arc::new(Self {
            pages,
            root,
            root_hint,
            birth,
            journals,
            tree_through,
        })
    }

    pub(crate) fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        self.pages.space.release(self.birth);
    }
}

/// A journal as far as it is visible.
pub(crate) type Layer = (Arc<Journal>, SequenceNumber);

/// A version as of a sequence: all that a reader needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) version: Arc<Version>,
    pub(crate) bound: SequenceNumber,
}

impl View {
    /// The journals, newest first. What an empty one gets from here on is beyond the bound.
    pub(crate) fn layers(&self) -> SmallVec<[Layer; 3]> {
        let bound = self.bound;
        self.version
            .journals
            .iter()
            .filter(|journal| !journal.is_empty())
            .map(|journal| (Arc::clone(journal), bound))
            .collect()
    }
}
