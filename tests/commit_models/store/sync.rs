//! What the gate, the signals and the queue of commits take their locks and their atomics from, under
//! the model checker.

pub(super) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub(super) use shuttle::sync::{Arc, Mutex, MutexGuard};
pub(super) use std::sync::PoisonError;
