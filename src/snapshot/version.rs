//! A version: a root, and the journals that are newer than its tree.
//!
//! Versions are what readers hold. As long as one lives, whatever it reaches is neither overwritten
//! nor reused (**I1**); that costs one entry in a table of kept generations.
//!
//! A look-up of one key in memory holds nothing: it reads the [`Parts`] of a version, which keep
//! neither extents nor the disk, so that it does no harm if they are let go of late.

use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use super::learnt::Learnt;
use crate::cache::FrameHint;
use crate::format::{Birth, PagePointer, SequenceNumber};
use crate::tree::journal::Journal;
use crate::tree::pages::Pages;

/// What a version is made of: a tree, and the operations that are newer than it.
pub(crate) struct Parts {
    pub(crate) root: PagePointer,
    pub(crate) root_hint: FrameHint,
    /// The generation of the tree.
    pub(crate) birth: Birth,
    /// Newest first. The first one may still grow; bounds hide what it gets.
    pub(crate) journals: SmallVec<[Arc<Journal>; 2]>,
    /// The newest sequence in the tree.
    pub(crate) tree_through: SequenceNumber,
    pub(crate) learnt: Learnt,
}

/// The parts of a version, and the promise that all they reach stays.
pub(crate) struct Version {
    pages: Arc<Pages>,
    parts: Arc<Parts>,
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
        let parts = Arc::new(Parts {
            root,
            root_hint,
            birth,
            journals,
            tree_through,
            learnt: Learnt::default(),
        });
        Arc::new(Self { pages, parts })
    }

    pub(crate) fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    pub(crate) fn parts(&self) -> &Arc<Parts> {
        &self.parts
    }
}

impl Deref for Version {
    type Target = Parts;

    #[inline]
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        self.pages.space.release(self.birth);
    }
}

/// A journal as far as it is visible, kept alive.
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

/// What ranges and cursors go over: a view, and over it what a transaction wrote itself.
#[derive(Clone)]
pub(crate) struct Layered {
    pub(crate) view: View,
    pub(crate) overlay: Option<Arc<Journal>>,
}

impl Layered {
    /// A version with everything that is in it.
    pub(crate) fn whole(version: Arc<Version>) -> Self {
        let bound = SequenceNumber(u64::MAX);
        Self {
            view: View { version, bound },
            overlay: None,
        }
    }

    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.view.version
    }

    /// How many journals there are, empty ones included.
    pub(crate) fn journals(&self) -> usize {
        usize::from(self.overlay.is_some()) + self.version().journals.len()
    }

    /// A journal by its number, newest first, and as of when to read it.
    #[inline]
    pub(crate) fn journal(&self, index: usize) -> (&Journal, SequenceNumber) {
        match (&self.overlay, index) {
            (Some(overlay), 0) => (overlay, SequenceNumber(u64::MAX)),
            (Some(_), index) => (&self.version().journals[index - 1], self.view.bound),
            (None, index) => (&self.version().journals[index], self.view.bound),
        }
    }

    /// The journals, newest first, each with a count of its own.
    pub(crate) fn layers(&self) -> SmallVec<[Layer; 3]> {
        let overlay = self.overlay.iter();
        let overlay = overlay.map(|journal| (Arc::clone(journal), SequenceNumber(u64::MAX)));
        overlay.chain(self.view.layers()).collect()
    }
}
