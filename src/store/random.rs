//! Random numbers for store ids and salts: unlike each other, not secret.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

static DRAWN: AtomicU64 = AtomicU64::new(0);

/// A number that no other call gives. Seeded by the operating system, once a thread.
pub(super) fn number() -> u64 {
    RandomState::new().hash_one(DRAWN.fetch_add(1, Ordering::Relaxed))
}
