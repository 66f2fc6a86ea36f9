//! What the gate, the signals, the queue of commits and what shows versions take their locks and their
//! atomics from, under the model checker.

pub(super) use shuttle::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};
pub(super) use std::sync::PoisonError;
