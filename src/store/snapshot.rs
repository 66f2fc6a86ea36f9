//! [`Snapshot`]: the store as it was.

use super::reader::Reader;
use super::{Store, reading_methods};
use crate::format::SequenceNumber;

/// The store as it was at one moment. Taking one is O(1), whatever the size of the store; cloning it
/// too. It may be held as long as one likes, and read from any thread.
///
/// What it reaches is not reused while it lives: [`Store::stats`] says who holds how much. It also
/// keeps in memory the commits that were there, and not yet in the tree, when it was taken: up to
/// [`Options::journal_bytes`](crate::Options::journal_bytes), shared by all snapshots of the time.
/// It ends with the process; open files are held while a snapshot lives.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("k", "old").wait()?;
/// let before = store.snapshot();
/// store.put("k", "new").wait()?;
/// assert_eq!(before.get("k").wait()?.as_deref(), Some(&b"old"[..]));
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    pub(super) reader: Reader,
    /// The line that it is on. `None`: that which was the store's own at the time of its sequence.
    pub(super) line: Option<u64>,
}

impl Snapshot {
    /// The newest commit that the snapshot sees. Free.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let snapshot = store.snapshot();
    /// assert!(store.put("k", "v").wait()? > snapshot.sequence());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn sequence(&self) -> SequenceNumber {
        self.reader
            .fixed
            .as_ref()
            .map(|view| view.bound)
            .unwrap_or_default()
    }

    reading_methods!('static);
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("sequence", &self.sequence())
            .finish()
    }
}

impl Store {
    /// The store as it is now. O(1), and waits for nobody. See [`Snapshot`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let before = store.snapshot();
    /// store.put("k", "v").wait()?;
    /// assert!(before.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            reader: self.reader.held(),
            line: None,
        }
    }
}
