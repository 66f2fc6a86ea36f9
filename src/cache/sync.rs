//! The one place from which this folder takes atomics, locks and shared counts, so that a
//! concurrency model checker can be put behind them.

pub(super) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(super) use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Locks, and takes what a panicking holder left: every structure of this folder is whole again
/// before anything that may panic is called.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
