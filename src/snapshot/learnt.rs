//! [`Learnt`]: what many operands gave for a key, for those who read it after whoever put them together.
//!
//! A key that operands are merged into is put together from all of them by whoever reads it, until they are
//! flushed. So that this is done once, and not by each reader again, a version keeps what came of it last.
//!
//! That is as of a sequence, of those only after which there is nothing but the first journal, the one that
//! grows: operands that were committed since are there, and are put on top. Readers of older commits are told
//! nothing. With the next version, a journal later, one begins anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use crate::format::record::hash_key;
use crate::format::{SequenceNumber, Settings};

/// How many operands somebody has to put together for what they give to be kept: 32 with ordinary leaves.
pub(crate) fn kept_from(settings: &Settings) -> usize {
    usize::from(settings.leaf_slots_max / 8).max(2)
}

/// How long the value of such a key is at most, in bytes.
const FOLDED_BYTES_MAX: usize = 4 << 10;

/// What the operands of a key gave.
struct Folded {
    key: Vec<u8>,
    value: Vec<u8>,
    as_of: SequenceNumber,
}

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Learnt {
    /// The hash of the key, or zero.
    hash: AtomicU64,
    folded: Mutex<Option<Folded>>,
}

/// Whether a sequence says which commits are seen.
fn is_bound(bound: SequenceNumber) -> bool {
    bound.0 != u64::MAX
}

impl Learnt {
    /// Who finds it taken does without.
    fn free(&self) -> Option<MutexGuard<'_, Option<Folded>>> {
        match self.folded.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Notes what many operands gave for a key, as of a sequence.
    #[cold]
    pub(crate) fn note_folded(&self, key: &[u8], bound: SequenceNumber, value: &[u8]) {
        if !is_bound(bound) || value.len() > FOLDED_BYTES_MAX {
            return;
        }
        let Some(mut folded) = self.free() else {
            return;
        };
        // Readers of older commits would take turns with those of newer ones.
        let is_older = |folded: &Folded| folded.key == key && folded.as_of > bound;
        if folded.as_ref().is_some_and(is_older) {
            return;
        }
        *folded = Some(Folded {
            key: key.to_vec(),
            value: value.to_vec(),
            as_of: bound,
        });
        self.hash.store(hash_key(key).max(1), Ordering::Release);
    }

    /// Whether there may be something for a key. One load, where nothing is kept.
    #[inline]
    pub(crate) fn may_have_folded(&self, key: &[u8]) -> bool {
        let hash = self.hash.load(Ordering::Acquire);
        hash != 0 && hash == hash_key(key).max(1)
    }

    /// What a key had as of a sequence that is no later than the one given.
    pub(crate) fn folded(
        &self,
        key: &[u8],
        bound: SequenceNumber,
    ) -> Option<(Vec<u8>, SequenceNumber)> {
        if !self.may_have_folded(key) {
            return None;
        }
        let folded = self.free()?;
        let folded = folded.as_ref()?;
        let fits = folded.key == key && folded.as_of <= bound && is_bound(bound);
        fits.then(|| (folded.value.clone(), folded.as_of))
    }
}
