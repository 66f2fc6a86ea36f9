//! [`Current`]: the version that readers see, to be held or only to be looked at.
//!
//! Whoever holds a version counts on it, which costs two shared writes. A look-up in memory needs it
//! for a moment and has a guard of the cache anyway: it reads the version's [`Parts`] through a plain
//! pointer. What they were replaced by is let go of when no guard is left that may have seen them;
//! the version itself, and with it what it keeps on the disk, goes at once.
#![expect(unsafe_code, reason = "the parts are borrowed for the life of a guard")]

use arc_swap::ArcSwap;

use super::gate::lock;
use super::sync::{Arc, AtomicPtr, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::cache::{Guard, pin};
use crate::format::SequenceNumber;
use crate::snapshot::{Parts, Version, View};

/// See the module.
pub(crate) struct Current {
    version: ArcSwap<Version>,
    /// A counted pointer to the parts of the version.
    parts: AtomicPtr<Parts>,
    /// How many journals the version has.
    journals: AtomicUsize,
    /// Held by those who change it.
    changing: Mutex<()>,
}

/// The right to change the version, and what goes with it: commits enter a journal and are published
/// under it.
pub(crate) struct Changing<'c> {
    current: &'c Current,
    lock: Option<MutexGuard<'c, ()>>,
    has_changed: bool,
}

/// How often the epoch has to advance until what was replaced goes, and once more to see to that.
const EPOCHS: usize = 3;

impl Current {
    pub(crate) fn new(version: Arc<Version>) -> Self {
        Self {
            parts: AtomicPtr::new(into_raw(&version)),
            journals: AtomicUsize::new(version.journals.len()),
            version: ArcSwap::new(version),
            changing: Mutex::new(()),
        }
    }

    /// Waits until nobody else changes it.
    pub(crate) fn change(&self) -> Changing<'_> {
        Changing {
            current: self,
            lock: Some(lock(&self.changing)),
            has_changed: false,
        }
    }

    /// The parts of the newest version. They may belong to an older one by the time they are read.
    #[inline]
    pub(crate) fn parts<'g>(&'g self, _guard: &'g Guard) -> &'g Parts {
        // Acquire: who sees the pointer sees what it points to.
        let parts = self.parts.load(Ordering::Acquire);
        // SAFETY: the pointer has a count of its own, which `Changing::store` gives up only after every
        // guard that may have seen it was dropped, and `drop` only when nobody borrows `self`.
        unsafe { &*parts }
    }

    /// The newest version, for a short time.
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Version>> {
        self.version.load()
    }

    /// The newest version, held.
    pub(crate) fn load_full(&self) -> Arc<Version> {
        self.version.load_full()
    }

    /// The newest version and the newest commit, which a function gives, as of one moment.
    pub(crate) fn view(&self, published: impl Fn() -> SequenceNumber) -> View {
        loop {
            let version = self.load_full();
            // A large commit is in a version's tree a moment before it is published.
            let bound = published().max(version.tree_through);
            // Commits enter the newest version's first journal: if it is still the newest, all
            // through the bound are in it.
            if Arc::ptr_eq(&version, &self.load()) {
                return View { version, bound };
            }
        }
    }

    /// How many journals the newest version has. One load.
    #[inline]
    pub(crate) fn journals(&self) -> usize {
        self.journals.load(Ordering::Acquire)
    }
}

impl Changing<'_> {
    /// The parts of the newest version, which it stays meanwhile.
    #[inline]
    pub(crate) fn parts(&self) -> &Parts {
        // Relaxed: who changed it last had the same lock.
        let parts = self.current.parts.load(Ordering::Relaxed);
        // SAFETY: only `store` gives up the count of the pointer, and it needs this whole.
        unsafe { &*parts }
    }

    /// The newest version, held.
    pub(crate) fn version(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// Shows readers another version.
    pub(crate) fn store(&mut self, version: Arc<Version>) {
        let current = self.current;
        let guard = pin();
        let replaced = current.parts.swap(into_raw(&version), Ordering::AcqRel);
        let journals = version.journals.len();
        current.journals.store(journals, Ordering::Release);
        current.version.store(version);
        // SAFETY: `replaced` came from `into_raw`, and this is the only one who took it out. It is
        // dropped after all guards that may have seen it; any thread may drop parts.
        unsafe { guard.defer_unchecked(move || drop(Arc::from_raw(replaced.cast_const()))) };
        self.has_changed = true;
    }
}

impl Drop for Changing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lock = None;
        if self.has_changed {
            // The parts have journals, whose memory goes now if no guard is in the way, and not
            // when somebody comes along who wanted to read a key.
            (0..EPOCHS).for_each(|_| pin().flush());
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        // SAFETY: it came from `into_raw`, and nobody else can take it out or borrow it any more.
        drop(unsafe { Arc::from_raw(self.parts.get_mut().cast_const()) });
    }
}

fn into_raw(version: &Version) -> *mut Parts {
    Arc::into_raw(Arc::clone(version.parts())).cast_mut()
}
