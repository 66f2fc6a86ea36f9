//! The one place from which the gate, the signals, the queue of commits and what shows versions to
//! readers take their locks, their atomics and their shared counts, so that a concurrency model checker
//! can be put behind them.

pub(super) use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
