//! In the place of epochs: what was given up under a guard goes when no guard is left that may have
//! seen it, and not a step later.

#![expect(unsafe_code, reason = "as that which it stands for")]

use std::collections::BTreeSet;

use shuttle::lazy_static;
use shuttle::sync::Mutex;

/// What is done later.
struct Deferred(Box<dyn FnOnce()>);

// SAFETY: the tasks of a model run on one thread, one at a time.
unsafe impl Send for Deferred {}

#[derive(Default)]
struct Epochs {
    guards: BTreeSet<u64>,
    next: u64,
    /// With the first guard that cannot have seen it.
    deferred: Vec<(u64, Deferred)>,
}

lazy_static! {
    static ref EPOCHS: Mutex<Epochs> = Mutex::new(Epochs::default());
}

pub(crate) struct Guard(u64);

pub(crate) fn pin() -> Guard {
    let mut epochs = EPOCHS.lock().unwrap();
    let number = epochs.next;
    epochs.next += 1;
    epochs.guards.insert(number);
    Guard(number)
}

/// How much is still to be done.
pub(crate) fn deferred() -> usize {
    EPOCHS.lock().unwrap().deferred.len()
}

impl Guard {
    /// Does something when all guards are gone that were there before.
    ///
    /// # Safety
    ///
    /// It may be done at any time after that.
    pub(crate) unsafe fn defer_unchecked<R>(&self, work: impl FnOnce() -> R + 'static) {
        let mut epochs = EPOCHS.lock().unwrap();
        let after = epochs.next;
        let work = Deferred(Box::new(move || drop(work())));
        epochs.deferred.push((after, work));
    }

    pub(crate) fn flush(&self) {}
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut epochs = EPOCHS.lock().unwrap();
        epochs.guards.remove(&self.0);
        let oldest = epochs.guards.first().copied().unwrap_or(u64::MAX);
        let (due, left) = std::mem::take(&mut epochs.deferred)
            .into_iter()
            .partition(|(after, _)| *after <= oldest);
        epochs.deferred = left;
        drop(epochs);
        let due: Vec<(u64, Deferred)> = due;
        due.into_iter().for_each(|(_, work)| (work.0)());
    }
}
