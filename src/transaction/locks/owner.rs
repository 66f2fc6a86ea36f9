//! [`Owner`]: somebody who holds locks, until it is dropped.

use std::fmt;

use super::table::Shared;
use crate::transaction::sync::Arc;

/// Who holds a lock or asks for one.
///
/// Owners of one family do not stand in each other's way: what is written in the name of a guard, or
/// by a transaction under it, passes the locks of that guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OwnerId {
    /// In the order in which owners came to be.
    pub(super) number: u64,
    pub(super) family: u64,
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "owner {}", self.number)
    }
}

/// Somebody who holds locks. They are released when it is dropped.
pub(crate) struct Owner {
    pub(super) shared: Arc<Shared>,
    pub(super) id: OwnerId,
}

impl Owner {
    pub(crate) fn id(&self) -> OwnerId {
        self.id
    }

    /// Releases all its locks. It stays as old as it is, and may lock again: whoever tries again with
    /// the same owner is the youngest in a deadlock ever less often.
    #[cfg(test)]
    pub(crate) fn release_all(&self) {
        self.shared.release_all(self.id);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end(self.id);
    }
}
