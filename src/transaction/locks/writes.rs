//! What commits ask: whether what they write is locked by others, and waiting until it is not.
//!
//! A write passes the locks of its own family and waits for all others, shared ones too. It does not
//! lock what it writes, as long as nobody holds it: that costs one load if nobody holds any lock, and
//! O(log n) for each key or range otherwise. A write that meets somebody's lock queues for an
//! exclusive one of its own and keeps it until it is published: so it waits fairly, is part of the
//! graph of waits, and does not meet the same lock again.

use super::owner::{Owner, OwnerId};
use super::range::{LockRange, Wanted};
use super::table::{Blocker, LockTable};
use crate::error::Result;

/// How many of the writes of a commit are looked at without letting others at the table.
const WRITES_AT_ONCE: usize = 64;

/// How many of the writes of a commit wait for locks before it looks again.
const MET_MAX: usize = 1024;

impl LockTable {
    /// A lock of another family that has some of the keys.
    pub(crate) fn holder(&self, party: Option<OwnerId>, keys: Wanted<'_>) -> Option<Blocker> {
        if self.is_idle() {
            return None;
        }
        let family = party.map_or(0, |party| party.family);
        self.shared.look(|state| state.holder(family, keys))
    }

    /// Which of some writes meet locks of other families: all of them, or the first thousand.
    pub(crate) fn met<'w>(
        &self,
        party: Option<OwnerId>,
        writes: impl IntoIterator<Item = Wanted<'w>>,
    ) -> Vec<LockRange> {
        let mut met = Vec::new();
        if self.is_idle() {
            return met;
        }
        let family = party.map_or(0, |party| party.family);
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() && met.len() < MET_MAX {
            self.shared.look(|state| {
                for keys in writes.by_ref().take(WRITES_AT_ONCE) {
                    if state.holder(family, keys).is_some() {
                        met.extend(keys.to_range());
                    }
                }
            });
        }
        met
    }

    /// Waits for the locks that writes have met. What this gives holds them until it is dropped,
    /// which is when the writes are published; it is of the party's family.
    ///
    /// Nobody may wait for this while others wait for him by other means than locks. Between two calls
    /// the writes have to be looked at again: pass on what the first gave.
    ///
    /// Errors: `Deadlock`, `TooManyLocks`.
    pub(crate) async fn pass(
        &self,
        party: Option<OwnerId>,
        before: Option<Owner>,
        met: Vec<LockRange>,
    ) -> Result<Owner> {
        let owner = before.unwrap_or_else(|| self.owner_for(party));
        for range in met {
            self.lock_to_write(&owner, range).await?;
        }
        Ok(owner)
    }
}
