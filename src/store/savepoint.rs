//! [`Savepoint`]: a part of a transaction that can be undone by itself.
//!
//! The memory of a transaction is append-only, so a savepoint is a place in it, and undoing is to
//! forget what comes after; indexes over it are made anew when they are asked for again.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::transaction::Transaction;
use super::writes::Mark;
use crate::error::Result;

/// What was written to a transaction through it is undone when it is dropped, unless it is
/// [kept](Self::keep). It is used as the transaction itself; so savepoints nest.
///
/// What was read counts as read, undone or not, and what was [locked](Transaction::lock) stays locked.
/// A transaction that outgrew its memory, and went to the
/// disk since the savepoint, cannot be undone in part: [`roll_back`](Self::roll_back) is an error, and
/// after a drop all of the transaction can only be dropped.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut transaction = store.begin().wait()?;
/// transaction.put("a", "1").wait()?;
/// let mut part = transaction.savepoint();
/// part.put("b", "2").wait()?;
/// let mut inner = part.savepoint();
/// inner.delete("a").wait()?;
/// drop(inner);
/// part.keep();
/// let mut other = transaction.savepoint();
/// other.delete_range(..).wait()?;
/// assert!(other.is_empty().wait()?);
/// other.roll_back()?;
/// assert_eq!(other.len().wait()?, 2);
/// drop(other);
/// transaction.commit().wait()?;
/// assert_eq!(store.len().wait()?, 2);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "what is written after it is undone when it is dropped"]
pub struct Savepoint<'t> {
    transaction: &'t mut Transaction,
    mark: Mark,
    kept: bool,
}

impl Savepoint<'_> {
    /// What was written since the savepoint stays with the transaction, or with the savepoint that
    /// this one is in. Free.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let mut part = transaction.savepoint();
    /// part.put("k", "v").wait()?;
    /// part.keep();
    /// assert_eq!(transaction.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Undoes what was written since the savepoint, which stays where it is. Costs in proportion to
    /// what is undone. But if ranges, cursors or counts have seen any of that, the next of these puts
    /// all that the transaction wrote in order again. Errors: `InvalidArgument` if the transaction went to the disk meanwhile.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let mut part = transaction.savepoint();
    /// part.put("k", "v").wait()?;
    /// part.roll_back()?;
    /// part.put("l", "w").wait()?;
    /// part.keep();
    /// assert!(!transaction.contains_key("k").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn roll_back(&mut self) -> Result<()> {
        self.transaction.writes.roll_back(&self.mark)
    }
}

impl Deref for Savepoint<'_> {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        self.transaction
    }
}

impl DerefMut for Savepoint<'_> {
    fn deref_mut(&mut self) -> &mut Transaction {
        self.transaction
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // If that is not possible, the transaction cannot be committed any more.
            let _ = self.roll_back();
        }
    }
}

impl fmt::Debug for Savepoint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").finish_non_exhaustive()
    }
}

impl Transaction {
    /// A place to come back to: what is written through it can be undone by itself. O(1).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("a", "1").wait()?;
    /// let mut part = transaction.savepoint();
    /// part.put("b", "2").wait()?;
    /// drop(part);
    /// assert_eq!(transaction.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn savepoint(&mut self) -> Savepoint<'_> {
        let mark = self.writes.mark();
        Savepoint {
            transaction: self,
            mark,
            kept: false,
        }
    }
}
