//! A shared value that readers follow with one atomic load and a writer replaces.
//!
//! Invariant: the cell always points to a whole `Arc`; one that was replaced is dropped only after
//! every guard that could have seen it. The current version of a store stands in one.
#![expect(
    unsafe_code,
    reason = "pointers that only the epoch keeps valid have to be followed"
)]

use crossbeam_epoch::{Atomic, Guard, Owned};

use super::sync::{Arc, Ordering};

/// Holds an `Arc<T>` that can be read without waiting and replaced at any time.
pub(crate) struct EpochCell<T> {
    current: Atomic<Arc<T>>,
}

impl<T: Send + Sync + 'static> EpochCell<T> {
    /// A cell that holds a value.
    pub fn new(value: Arc<T>) -> Self {
        Self {
            current: Atomic::new(value),
        }
    }

    /// The present value: one atomic load.
    #[inline]
    pub fn load<'g>(&self, guard: &'g Guard) -> &'g Arc<T> {
        let current = self.current.load(Ordering::Acquire, guard);
        // SAFETY: the cell is never null (`new` and `store` put in whole values), and what was in
        // it at any time during the guard is destroyed only after the guard is dropped.
        unsafe { current.deref() }
    }

    /// The present value, kept alive without a guard.
    pub fn load_full(&self) -> Arc<T> {
        Arc::clone(self.load(&crossbeam_epoch::pin()))
    }

    /// Replaces the value. The cell's own count of the former one is given up after the guards
    /// that are held now, so its drop may come later and on another thread.
    pub fn store(&self, value: Arc<T>) {
        let guard = crossbeam_epoch::pin();
        let former = self
            .current
            .swap(Owned::new(value), Ordering::AcqRel, &guard);
        // SAFETY: the swap took the only path to the former value; it is destroyed after every
        // guard that could have loaded it before. `T` is `Send + Sync + 'static`, so any thread
        // may drop it at any time.
        unsafe { guard.defer_destroy(former) };
        guard.flush();
    }
}

impl<T> Drop for EpochCell<T> {
    fn drop(&mut self) {
        let guard = crossbeam_epoch::pin();
        let last = self.current.load(Ordering::Acquire, &guard);
        // SAFETY: nobody can load from the cell any more, but what was loaded from it may be
        // borrowed under a guard still: hence deferred. A cell of values other than
        // `Send + Sync + 'static` cannot be made.
        unsafe { guard.defer_destroy(last) };
        guard.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    struct Counted(u64, Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn readers_see_values_that_only_grow_and_every_value_is_dropped_once() {
        let rounds: u64 = if cfg!(miri) { 20 } else { 2000 };
        let drops = Arc::new(AtomicUsize::new(0));
        let cell = EpochCell::new(Arc::new(Counted(0, drops.clone())));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while last < rounds {
                        let guard = crossbeam_epoch::pin();
                        let seen = cell.load(&guard).0;
                        assert!(seen >= last);
                        last = seen;
                        assert!(cell.load_full().0 >= last);
                    }
                });
            }
            for round in 1..=rounds {
                cell.store(Arc::new(Counted(round, drops.clone())));
            }
        });
        let kept = cell.load_full();
        drop(cell);
        for _ in 0..10_000 {
            if drops.load(Ordering::SeqCst) as u64 == rounds {
                break;
            }
            crossbeam_epoch::pin().flush();
            std::thread::yield_now();
        }
        assert_eq!(drops.load(Ordering::SeqCst) as u64, rounds);
        assert_eq!(kept.0, rounds);
        drop(kept);
    }
}
