//! The open store: commits, checkpoints, recovery, maintenance.
//!
//! Everything below this folder is a part without a will of its own; here it is decided what happens
//! when, and in which order things reach the disk. [`crate::format::protocol`] has that order step by
//! step. Invariant kept (**I1**): nothing that the two newest roots or any kept version reach is
//! overwritten, and nothing is shown to readers as durable before it is.
//!
//! | module | idea |
//! | --- | --- |
//! | `core`, `current` | what all handles of an open store share, and what readers see of it |
//! | `options`, `open` | how a store is opened, and what recovery does |
//! | `reader`, `many`, `range`, `key_range`, `snapshot`, `value` | reading |
//! | `estimate` | what is told without looking closely |
//! | `cursor`, `cursor_mut` | going to and fro among the entries, and editing there |
//! | `ahead` | what scans of slow disks read before they need it |
//! | `diff`, `stored_value` | what differs between two versions |
//! | `reconcile`, `clone_range` | bringing that into a third one; copies of subtrees |
//! | `subtree` | all of these narrowed to the keys with a prefix |
//! | `methods` | the methods that stores, snapshots and transactions have in common |
//! | `bare` | the least that a reader does, to measure against |
//! | `operation` | what every call returns: to be awaited or waited for |
//! | `single`, `transaction`, `bulk` | writing, small and large |
//! | `batch` | writing without a transaction |
//! | `history`, `validation` | what was committed lately, and whether a transaction still may |
//! | `lock` | locking ranges, and what commits do about that |
//! | `transact`, `savepoint` | trying a transaction again, and undoing a part of one |
//! | `modify` | writing what depends on what is there |
//! | `writing`, `value_writer`, `splice`, `bases` | values written as they come, and parts of them |
//! | `value_reader`, `value_ahead` | values read as they are wanted, and before they are |
//! | `commit`, `queue`, `gate` | group commit, whose turn it is, and who may write |
//! | `snapshots`, `naming`, `catalogue`, `kept` | snapshots that have names: the face, commits, what is known of them, and reading them |
//! | `maintenance`, `checkpoint` | what commits leave behind, and how it becomes durable pages |
//! | `compact` | moving things together and giving the rest back |
//! | `watch` | what is committed, as it comes |
//! | `verify`, `statistics`, `levels` | looking at a store |
//! | `signal`, `pending`, `random`, `sync` | what the others need: waking each other, waiting, salts, and locks |

mod ahead;
#[cfg(any(test, feature = "simulation"))]
mod bare;
mod bases;
mod batch;
mod branch;
mod bulk;
mod catalogue;
mod checkpoint;
mod clone_range;
mod commit;
mod compact;
mod core;
mod current;
#[cfg(test)]
mod current_tests;
mod cursor;
mod cursor_mut;
mod diff;
#[cfg(test)]
mod diff_tests;
mod estimate;
mod gate;
#[cfg(test)]
mod gate_tests;
mod history;
#[cfg(any(test, feature = "simulation"))]
mod hostile;
mod job;
mod kept;
mod key_range;
mod levels;
mod lock;
mod maintenance;
mod many;
mod methods;
mod modify;
mod naming;
mod open;
mod operation;
mod options;
mod own_values;
mod pending;
#[cfg(test)]
mod pending_tests;
mod queue;
mod random;
mod range;
mod reader;
mod reconcile;
mod savepoint;
mod signal;
#[cfg(test)]
mod signal_tests;
mod single;
mod snapshot;
mod snapshots;
mod splice;
mod statistics;
mod stored_value;
mod subtree;
mod sync;
mod transact;
mod transaction;
mod validation;
mod value;
mod value_ahead;
mod value_reader;
mod value_writer;
mod verify;
mod watch;
mod writes;
mod writing;

use std::future::Future;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

#[cfg(any(test, feature = "simulation"))]
pub use bare::{bare_descent, bare_search};
pub use batch::Batch;
pub use branch::{Branch, BranchInfo, Branches};
pub use compact::Compaction;
pub use cursor::Cursor;
pub use cursor_mut::CursorMut;
pub use diff::{Difference, Differences};
pub use estimate::Estimate;
pub use key_range::{KeyRange, Prefix};
pub use levels::Level;
pub use lock::RangeGuard;
pub use modify::{Exchanged, Extract};
pub use operation::Operation;
pub use options::{Durability, Isolation, Maintenance, Options};
pub use range::{Keys, Range};
pub use reconcile::{Collision, Decision, Reconciled};
pub use savepoint::Savepoint;
pub use snapshot::Snapshot;
pub use snapshots::{SnapshotInfo, SnapshotList, SnapshotSizes, Snapshots};
pub use statistics::{Pin, Statistics};
pub use stored_value::StoredValue;
pub use subtree::{Components, Narrow, Subtree};
pub use transact::Attempt;
pub use transaction::Transaction;
pub use value::{Entry, Value, ValueKind};
pub use value_reader::{ValueChunks, ValueReader};
pub use value_writer::ValueWriter;
pub use verify::{verify_disk, verify_file};
pub use watch::{Change, Watch, Watched};

use self::core::Core;
use gate::lock;
use maintenance::{Pace, Worker};
pub(crate) use methods::{reading_methods, writing_methods};
use reader::Reader;
use subtree::Base;

use crate::disk::{MemoryDisk, block_on};
use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::transaction::locks::OwnerId;

/// An ordered map from byte strings to byte strings on a disk.
///
/// Cheap to clone; clones are the same store. Every operation that may touch the disk gives an
/// [`Operation`], to be awaited or waited for.
///
/// When the last clone is dropped, what was committed is written and synced, and the store's thread
/// ends; errors of that are lost: [`close`](Self::close) tells them, and makes the next opening
/// faster. Dropping it in any other state, and any future of it, is safe.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// use thunderhead::Store;
///
/// let store = Store::open_or_create(path)?;
/// store.put("k", "v").wait()?;
/// let same = store.clone();
/// std::thread::spawn(move || same.put("l", "w").wait()).join().expect("it does not panic")?;
/// assert_eq!(store.len().wait()?, 2);
/// store.close().wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    reader: Reader,
    durability: Durability,
    /// In whose name it writes: whose locks it passes.
    party: Option<OwnerId>,
}

struct Shared {
    core: Arc<Core>,
    worker: Mutex<Option<Worker>>,
}

impl Store {
    fn new(core: Arc<Core>, worker: Option<Worker>) -> Self {
        let durability = core.options.durability;
        let reader = Reader {
            core: Arc::clone(&core),
            fixed: None,
            overlay: None,
            reads: None,
            base: Base::default(),
        };
        let shared = Arc::new(Shared {
            core,
            worker: Mutex::new(worker),
        });
        Self {
            shared,
            reader,
            durability,
            party: None,
        }
    }

    /// Opens the store in a file, with the default [`Options`]. Cost and errors: those of
    /// [`Options::open`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// use thunderhead::{ErrorKind, Store};
    ///
    /// assert_eq!(Store::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    /// Store::create(&path)?.close().wait()?;
    /// Store::open(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    /// Creates a store in a new file, with the default [`Options`]. Cost and errors: those of
    /// [`Options::create`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// use thunderhead::{ErrorKind, Store};
    ///
    /// let store = Store::create(&path)?;
    /// assert!(store.is_empty().wait()?);
    /// assert_eq!(Store::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().create(path)
    }

    /// Opens the store in a file, or creates it, with the default [`Options`]. Cost and errors:
    /// those of [`Options::open_or_create`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// let store = thunderhead::Store::open_or_create(path)?;
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open_or_create(path)
    }

    /// A store in memory, with the default [`Options`], which ends with its last clone: for tests,
    /// and for what need not be kept. With other options: [`Options::open_disk`] on a
    /// [`MemoryDisk`](crate::disk::MemoryDisk). Errors: none that can be expected.
    ///
    /// ```
    /// let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn in_memory() -> Result<Self> {
        Options::new().open_disk(MemoryDisk::new())
    }

    /// The same store, whose single writes and transactions have another durability unless they say
    /// otherwise. Free, as a clone is.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::Durability;
    ///
    /// let quick = store.with_durability(Durability::Deferred);
    /// for number in 0..100u32 {
    ///     quick.put(number.to_be_bytes(), "…").wait()?;
    /// }
    /// store.sync().wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn with_durability(&self, durability: Durability) -> Self {
        Self {
            durability,
            ..self.clone()
        }
    }

    reading_methods!('static);

    /// The newest commit that readers see: a number that grows with each. Costs reading an atomic
    /// number.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let before = store.sequence();
    /// store.put("k", "v").wait()?;
    /// assert!(store.sequence() > before);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn sequence(&self) -> SequenceNumber {
        self.shared.core.published()
    }

    /// Makes everything that was committed before durable. One sync at most, shared with others;
    /// none if everything is. Gives the newest commit that is durable now.
    ///
    /// Errors: `Poisoned`, also for the sync that fails: then the store writes nothing more, and
    /// tells what is there when it is opened again; `Closed`; `ReadOnly`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let quick = store.with_durability(thunderhead::Durability::Buffered);
    /// let last = quick.put("k", "v").wait()?;
    /// assert!(store.sync().wait()? >= last);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn sync(&self) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_open()?;
            core.sync().await
        })
    }

    /// Makes the trees durable, so that the log before them is not needed: what the background does
    /// now and then, done now. Costs a write of every page that was made since the last one. The
    /// next opening has nothing to replay then.
    ///
    /// Errors: `StorageFull`, `Io`: what was committed is in the log still, and the next one tries
    /// again; `Poisoned`; `Closed`; `ReadOnly`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// store.checkpoint().wait()?;
    /// assert!(store.stats().checkpoints > 0);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn checkpoint(&self) -> Operation<impl Future<Output = Result<()>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_open()?;
            core.check_poisoned()?;
            core.log()?;
            core.exclusively(|core, mut state| async move {
                let result = core.checkpoint(&mut state, Pace::Hurried).await;
                core.report(&result.as_ref().map(|()| true).map_err(Error::duplicate));
                result
            })
            .await
        })
    }

    /// Does what is due of flushes, checkpoints and freeing; says whether there was anything. For
    /// stores with [`Maintenance::Caller`]; call it until it says no. Costs what is due: up to writing
    /// every page since the last checkpoint. Errors: those of a [`checkpoint`](Self::checkpoint).
    ///
    /// ```
    /// use thunderhead::{Maintenance, Options, disk::MemoryDisk};
    ///
    /// let options = Options::new().maintenance(Maintenance::Caller);
    /// let store = options.open_disk(MemoryDisk::new())?;
    /// store.put("k", "v").wait()?;
    /// while store.maintain().wait()? {}
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn maintain(&self) -> Operation<impl Future<Output = Result<bool>> + Send + use<'_>> {
        Operation::new(async move {
            self.shared.core.check_open()?;
            self.shared.core.log()?;
            self.shared.core.maintain().await
        })
    }

    /// Ends the store in good order: waits for commits that are under way, and for a transaction that
    /// is [alone](Self::begin_alone), makes everything durable and notes that nothing follows. All
    /// clones are closed: they refuse writes (`Closed`), as other open transactions do when they are
    /// committed. What is left of clones, snapshots and transactions can still be read, and
    /// [watches](Self::watch) to their end; as long as there is any, the file stays open, and locked.
    ///
    /// Errors: whatever keeps it from doing so. Then the store is closed all the same, and what was
    /// committed durably is there when it is opened again.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// use thunderhead::{ErrorKind, Store};
    ///
    /// let store = Store::create(path)?;
    /// let clone = store.clone();
    /// store.close().wait()?;
    /// assert_eq!(clone.put("k", "v").wait().unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close(self) -> Operation<impl Future<Output = Result<()>> + Send> {
        Operation::new(async move {
            let core = &self.shared.core;
            if core.log.is_none() {
                core.mark_closed();
                return Ok(());
            }
            core.check_open()?;
            let _inside = core.enter_alone().await;
            core.check_open()?;
            let worker = lock(&self.shared.worker).take();
            let closing = core.exclusively(|core, mut state| async move {
                let result = match core.check_poisoned() {
                    Ok(()) => {
                        core.checkpoint_anyway(&mut state, Pace::Hurried, true)
                            .await
                    }
                    Err(error) => Err(error),
                };
                core.mark_closed();
                core.stopping.store(true, Ordering::Release);
                drop(state);
                Ok((result, worker))
            });
            let (result, worker) = closing.await?;
            // Here and not there: the store's thread, which may have done it, cannot wait for its own
            // end, and as long as it is there, nobody can open the file again.
            drop(worker);
            result
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        drop(lock(&self.worker).take());
        let core = &self.core;
        if core.log.is_some() && core.check_open().is_ok() && core.check_poisoned().is_ok() {
            // Nobody is there to be told of a failure.
            let _ = block_on(async {
                core.finish_groups().await;
                match core.has_unsynced() {
                    true => core.sync().await.map(|_| ()),
                    false => Ok(()),
                }
            });
        }
        core.mark_abandoned();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}
