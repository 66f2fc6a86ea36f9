//! [`CursorMut`]: a cursor that edits the entry on which it stands.
//!
//! What it goes over does not change under it: its edits go into the memory of the transaction, of
//! which the cursor has a view. It has no need of a newer one while it goes on in one direction, since
//! all that it edited is behind it; one that turns, seeks or asks for a value that it put takes one.
//! So going through a range and editing costs what reading it costs, and the edits.

use std::fmt;
use std::future::Future;

use super::cursor::Cursor;
use super::key_range::KeyRange;
use super::operation::Operation;
use super::transaction::Transaction;
use super::value::ValueKind;
use crate::error::{Error, Result};
use crate::snapshot::{Direction, Layered};

/// What of the edits a cursor has not in its view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unseen {
    Nothing,
    /// Edits of entries that it has left, or stands on.
    Behind,
    /// The transaction went to the disk, and the view with it.
    All,
}

/// A [`Cursor`] of a [`Transaction`] that can put and delete where it stands, and goes on from there.
///
/// Its edits are those of the transaction: nobody else sees them before its commit.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// for key in ["a", "b", "c"] {
///     store.put(key, "old").wait()?;
/// }
/// let mut transaction = store.begin().wait()?;
/// let mut cursor = transaction.cursor_mut();
/// while cursor.next().wait()? {
///     match cursor.key() {
///         Some(b"b") => cursor.delete().wait()?,
///         _ => cursor.put("new").wait()?,
///     }
/// }
/// drop(cursor);
/// transaction.commit().wait()?;
/// assert_eq!(store.len().wait()?, 2);
/// assert_eq!(store.get("c").wait()?.unwrap(), "new");
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "a cursor does nothing before it is moved"]
pub struct CursorMut<'t> {
    transaction: &'t mut Transaction,
    cursor: Cursor<'static>,
    unseen: Unseen,
}

impl Transaction {
    /// A cursor over all entries that can edit them. It stands nowhere yet, and nothing is
    /// read before it is moved.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("k", "old").wait()?;
    /// let mut cursor = transaction.cursor_mut();
    /// while cursor.next().wait()? {
    ///     cursor.put("new").wait()?;
    /// }
    /// drop(cursor);
    /// assert_eq!(transaction.get("k").wait()?.unwrap(), "new");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn cursor_mut(&mut self) -> CursorMut<'_> {
        self.cursor_mut_in(..)
    }

    /// A cursor that can edit entries and does not leave a range of keys: past either end of it
    /// there is nothing. Nothing is read before it is moved.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// for key in ["a", "b"] {
    ///     transaction.put(key, "…").wait()?;
    /// }
    /// let mut cursor = transaction.cursor_mut_in("b"..);
    /// while cursor.next().wait()? {
    ///     cursor.delete().wait()?;
    /// }
    /// drop(cursor);
    /// assert_eq!(transaction.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn cursor_mut_in(&mut self, range: impl KeyRange) -> CursorMut<'_> {
        let (low, high) = range.to_bounds();
        CursorMut {
            cursor: self.reader.cursor(low, high),
            transaction: self,
            unseen: Unseen::Nothing,
        }
    }
}

/// Defines the methods by which it seeks.
macro_rules! seeking_methods {
    ($($(#[$documentation:meta])+ $name:ident, $direction:ident, $inclusive:literal;)+) => {
        $(
            $(#[$documentation])+
            pub fn $name<K: AsRef<[u8]> + Send>(
                &mut self,
                key: K,
            ) -> Operation<impl Future<Output = Result<bool>> + Send> {
                Operation::new(async move {
                    self.see_all()?;
                    let key = key.as_ref();
                    self.cursor.seek_to(key, Direction::$direction, $inclusive).await
                })
            }
        )+
    };
}

impl<'t> CursorMut<'t> {
    /// The key of the entry on which the cursor stands, if it stands on one. Lent from the cursor's own
    /// buffer: free.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.cursor.key()
    }

    /// The value of the entry on which the cursor stands, if it stands on one: see
    /// [`Cursor::value`]. Cost and errors are the same; where it was put through the cursor, a descent
    /// besides.
    pub fn value(&mut self) -> Operation<impl Future<Output = Result<Option<&[u8]>>> + Send> {
        Operation::new(async move {
            self.see_entry().await?;
            self.cursor.value().await
        })
    }

    /// The same, but of a reference the key that it names: see [`Cursor::kind`].
    pub fn kind(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<ValueKind<'_>>>> + Send> {
        Operation::new(async move {
            self.see_entry().await?;
            self.cursor.kind().await
        })
    }

    seeking_methods! {
        /// Goes to the first entry whose key is this one or greater: see [`Cursor::seek`], as for cost
        /// and errors.
        seek, Forward, true;
        /// Goes to the first entry whose key is greater: see [`Cursor::seek_after`].
        seek_after, Forward, false;
        /// Goes to the last entry whose key is this one or smaller: see [`Cursor::seek_back`].
        seek_back, Backward, true;
        /// Goes to the last entry whose key is smaller: see [`Cursor::seek_before`].
        seek_before, Backward, false;
    }

    /// Goes to the first entry; says whether there is one.
    /// Cost and errors: those of
    /// [`Cursor::first`].
    pub fn first(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.outermost(Direction::Forward)
    }

    /// Goes to the last entry; says whether there is one.
    /// Cost and errors: those of
    /// [`Cursor::last`].
    pub fn last(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.outermost(Direction::Backward)
    }

    /// Goes to the entry after this place; says whether there is one. If not, the cursor stands past
    /// the last entry.
    /// Cost and errors: those of
    /// [`Cursor::next`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// for key in ["a", "c"] {
    ///     transaction.put(key, "…").wait()?;
    /// }
    /// let mut cursor = transaction.cursor_mut();
    /// while cursor.next().wait()? {
    ///     cursor.put("new").wait()?;
    /// }
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    pub fn next(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.step(Direction::Forward)
    }

    /// Goes to the entry before this place; says whether there is one. If not, the cursor stands
    /// before the first entry.
    /// Cost and errors: those of
    /// [`Cursor::previous`].
    pub fn previous(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.step(Direction::Backward)
    }

    /// Puts another value for the key of the entry on which the cursor stands. It stays there.
    /// Costs a [`Transaction::put`](crate::Transaction::put).
    ///
    /// Errors: `InvalidArgument` where it stands on no entry; those of
    /// [`Transaction::put`](crate::Transaction::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// for key in ["a", "c"] {
    ///     transaction.put(key, "…").wait()?;
    /// }
    /// let mut cursor = transaction.cursor_mut();
    /// assert!(cursor.seek("a").wait()?);
    /// cursor.put("new").wait()?;
    /// assert_eq!(cursor.value().wait()?, Some(&b"new"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn put<V: AsRef<[u8]> + Send>(
        &mut self,
        value: V,
    ) -> Operation<impl Future<Output = Result<()>> + Send> {
        Operation::new(async move {
            let key = self.cursor.key().ok_or_else(nowhere)?;
            self.unseen = self.unseen.and_behind();
            let writes = &mut self.transaction.writes;
            writes.put(key, value.as_ref()).await?;
            self.edited().await
        })
    }

    /// Deletes the entry on which the cursor stands. It stands between its neighbours then.
    /// Costs a [`Transaction::delete`](crate::Transaction::delete).
    ///
    /// Errors: `InvalidArgument` where it stands on no entry; those of
    /// [`Transaction::delete`](crate::Transaction::delete).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// for key in ["a", "c"] {
    ///     transaction.put(key, "…").wait()?;
    /// }
    /// let mut cursor = transaction.cursor_mut();
    /// assert!(cursor.seek("a").wait()?);
    /// cursor.delete().wait()?;
    /// assert_eq!(cursor.key(), None);
    /// assert!(cursor.next().wait()?);
    /// assert_eq!(cursor.key(), Some(&b"c"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn delete(&mut self) -> Operation<impl Future<Output = Result<()>> + Send> {
        Operation::new(async move {
            let key = self.cursor.key().ok_or_else(nowhere)?;
            self.transaction.writes.delete(key)?;
            self.unseen = self.unseen.and_behind();
            self.cursor.forget_entry();
            self.edited().await
        })
    }

    fn step(
        &mut self,
        direction: Direction,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        Operation::new(async move {
            if self.unseen == Unseen::All || !self.cursor.goes_on(direction) {
                self.see_all()?;
            }
            self.cursor.step(direction).await
        })
    }

    fn outermost(
        &mut self,
        direction: Direction,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        Operation::new(async move {
            self.see_all()?;
            self.cursor.forget_place();
            self.cursor.step(direction).await
        })
    }

    /// After an edit.
    async fn edited(&mut self) -> Result<()> {
        if self.transaction.writes.is_large() {
            // What goes to the disk replaces the version that the cursor reads.
            self.unseen = Unseen::All;
            let view = self.transaction.writes.core.view();
            let overlay = None;
            self.cursor.renew(Layered { view, overlay });
            // What it has not come to is read when it is alone, or after it was begun anew.
            self.cursor.rest();
        }
        self.transaction.spill_if_large().await
    }

    fn newest(&self) -> Layered {
        self.transaction.reader.layered()
    }

    /// Takes the edits into its view, without leaving its entry.
    async fn see_entry(&mut self) -> Result<()> {
        if self.unseen != Unseen::Nothing && self.cursor.key().is_some() {
            self.check_whole()?;
            // Until it was found.
            self.unseen = Unseen::All;
            let over = self.newest();
            self.cursor.find_again(over).await?;
            self.unseen = Unseen::Nothing;
        }
        Ok(())
    }

    /// Takes the edits into its view.
    fn see_all(&mut self) -> Result<()> {
        if self.unseen != Unseen::Nothing {
            self.check_whole()?;
            self.cursor.renew(self.newest());
            self.unseen = Unseen::Nothing;
        }
        Ok(())
    }

    /// Of edits that got lost on their way to the disk there is nothing to see.
    fn check_whole(&self) -> Result<()> {
        self.transaction.writes.check_whole()
    }
}

impl Unseen {
    fn and_behind(self) -> Self {
        match self {
            Self::Nothing => Self::Behind,
            unseen => unseen,
        }
    }
}

fn nowhere() -> Error {
    Error::invalid("an edit at a cursor that stands on no entry")
}

impl fmt::Debug for CursorMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CursorMut")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
