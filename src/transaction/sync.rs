//! The one place from which the lock table takes its lock, its atomics and its shared counts, so that
//! a concurrency model checker can be put behind them.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
