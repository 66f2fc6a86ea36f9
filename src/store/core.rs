//! What all handles of an open store share.

use std::collections::HashMap;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::BytesMut;

use super::bases::Bases;
use super::catalogue::Catalogue;
use super::commit::{Entry, Outcome};
use super::current::Current;
use super::gate::{Gate, lock};
use super::history::History;
use super::job::Jobs;
use super::kept::Kept;
use super::maintenance::{LoggedValue, Maintaining};
use super::options::{Maintenance, Options};
use super::queue::Queue;
use super::signal::Signal;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Birth, PagePointer, SequenceNumber};
use crate::log::writer::LogWriter;
use crate::snapshot::{Version, View};
use crate::trace;
use crate::transaction::locks::LockTable;
use crate::tree::pages::Pages;

/// How many frozen journals may wait before those who commit wait for them.
pub(super) const FROZEN_MAX: usize = 5;

/// The commit log of a store that is open for writing.
pub(super) struct Log {
    pub(super) writer: LogWriter,
    /// The sequence of the next commit.
    pub(super) next: SequenceNumber,
    /// Commits that are published and not yet written.
    pub(super) deferred: Vec<super::commit::Records>,
    pub(super) deferred_bytes: usize,
    /// Something was written that no sync covers.
    pub(super) unsynced: bool,
    /// Bytes written since the last checkpoint began.
    pub(super) since_checkpoint: u64,
    /// Commits that go by until the maintenance is told of the work that they leave.
    pub(super) until_told: u32,
}

impl Log {
    /// Adds to a counter that nobody adds to without the log.
    #[inline]
    pub(super) fn count(&self, counter: &AtomicU64, more: u64) {
        counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }
}

/// Counters for `stats()`.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) commits: AtomicU64,
    pub(super) committed_bytes: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) log_bytes: AtomicU64,
    pub(super) page_bytes: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
}

/// What a store is made of when it is opened.
pub(super) struct Parts {
    pub(super) pages: Arc<Pages>,
    pub(super) options: Options,
    pub(super) version: Arc<Version>,
    pub(super) published: SequenceNumber,
    pub(super) log: Option<Log>,
    pub(super) maintaining: Maintaining,
    pub(super) system: Arc<Mutex<PagePointer>>,
    pub(super) catalogue: Catalogue,
    pub(super) kept: Kept,
}

/// An open store.
pub(crate) struct Core {
    pub(crate) pages: Arc<Pages>,
    pub(super) options: Options,
    /// The version that readers see.
    pub(super) current: Current,
    /// The newest commit that readers see.
    pub(super) published: AtomicU64,
    /// The birth of the newest published root. See [`Self::value_birth`].
    pub(super) root_birth: AtomicU64,
    pub(super) gate: Gate,
    /// Who has locked which ranges.
    pub(super) locks: LockTable,
    /// Recent commits, for transactions that are older.
    pub(super) history: History,
    /// Where records of single writes are put together.
    pub(super) encoded: Mutex<BytesMut>,
    /// Who commits.
    pub(super) queue: Queue<Entry, Outcome>,
    /// `None` when open for reading only.
    pub(super) log: Option<Mutex<Log>>,
    pub(super) maintaining: Arc<futures::lock::Mutex<Maintaining>>,
    /// Extents of off-tree values that commits named and no tree contains yet, by the value's root.
    pub(super) values: Mutex<HashMap<Address, LoggedValue>>,
    /// Values that must stay where they are.
    pub(super) bases: Bases,
    /// Snapshots that have names.
    pub(super) catalogue: Catalogue,
    /// The versions that names keep.
    pub(super) kept: Mutex<Kept>,
    /// The root of the newest system tree, on the disk or not. Changed with the catalogue.
    pub(super) system: Arc<Mutex<PagePointer>>,
    /// The store's thread is to end.
    pub(super) stopping: AtomicBool,
    /// Why the store writes no more.
    poisoned: Mutex<Option<Error>>,
    is_poisoned: AtomicBool,
    /// Why maintenance failed last, until it succeeds.
    trouble: Mutex<Option<Error>>,
    is_troubled: AtomicBool,
    /// There is not even room for the reserve: nothing may grow.
    pub(super) is_short: AtomicBool,
    /// The trouble was told to nobody yet.
    trouble_is_news: AtomicBool,
    closed: AtomicBool,
    /// The last `Store` was dropped. Batches and transactions may still be committed.
    abandoned: AtomicBool,
    pub(super) jobs: Jobs,
    /// There is work for the maintenance.
    pub(super) work: Signal,
    /// How many watch what is committed.
    pub(super) watchers: AtomicUsize,
    /// Something was committed, and somebody watches, or nothing more is to be watched.
    pub(super) watched: Signal,
    /// Maintenance did something.
    pub(super) progress: Signal,
    pub(super) counters: Counters,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            pages,
            options,
            version,
            published,
            log,
            maintaining,
            system,
            catalogue,
            kept,
        } = parts;
        let root_birth = maintaining.roots.last().map_or(0, |(_, birth, _)| birth.0);
        let jobs = Jobs::new(options.maintenance);
        let history = History::new(published, options.history_bytes);
        Arc::new(Self {
            pages,
            options,
            history,
            locks: LockTable::new(),
            root_birth: AtomicU64::new(root_birth),
            current: Current::new(version),
            published: AtomicU64::new(published.0),
            gate: Gate::default(),
            encoded: Mutex::default(),
            queue: Queue::new(processors()),
            log: log.map(Mutex::new),
            maintaining: Arc::new(futures::lock::Mutex::new(maintaining)),
            values: Mutex::default(),
            bases: Bases::default(),
            catalogue,
            kept: Mutex::new(kept),
            system,
            stopping: AtomicBool::new(false),
            poisoned: Mutex::new(None),
            is_poisoned: AtomicBool::new(false),
            trouble: Mutex::new(None),
            is_troubled: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            trouble_is_news: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            jobs,
            watchers: AtomicUsize::new(0),
            watched: Signal::default(),
            work: Signal::default(),
            progress: Signal::default(),
            counters: Counters::default(),
        })
    }

    /// The newest commit that readers see.
    #[inline]
    pub(crate) fn published(&self) -> SequenceNumber {
        SequenceNumber(self.published.load(Ordering::Acquire))
    }

    /// The newest version and the newest commit, as of one moment.
    pub(crate) fn view(&self) -> View {
        self.current.view(|| self.published())
    }

    /// The birth of off-tree values that are written now: that of the newest published root, whose
    /// log will name them. So that root, and the next one, keep their extents even if what names
    /// them is overwritten before a checkpoint: recovery reads every value that the log names.
    pub(super) fn value_birth(&self) -> Birth {
        let root = Birth(self.root_birth.load(Ordering::Acquire));
        // The newest version may be older than the root, whose catalogue was a generation of its
        // own: snapshots of it will see the value.
        root.min(self.current.load().birth)
    }

    pub(super) fn log(&self) -> Result<&Mutex<Log>> {
        self.log
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the store was opened for reading only"))
    }

    /// Refuses everything after a close.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store was closed"));
        }
        Ok(())
    }

    /// Refuses everything from now on.
    pub(super) fn mark_closed(&self) {
        self.closed.store(true, Ordering::Release);
        self.watched.give();
    }

    /// Nobody has a `Store` any more.
    pub(super) fn mark_abandoned(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.watched.give();
    }

    /// Refuses to wait for what nobody will commit.
    pub(super) fn check_watchable(&self) -> Result<()> {
        self.check_open()?;
        self.check_poisoned()?;
        if self.abandoned.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the store was dropped"));
        }
        Ok(())
    }

    /// Refuses writes that cannot be done. `grows`: the write may need more space.
    pub(super) fn check_writable(&self, grows: bool) -> Result<()> {
        self.check_open()?;
        self.log()?;
        self.check_poisoned()?;
        if grows && self.is_short.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::StorageFull,
                "the disk has no room but for deletions",
            ));
        }
        if self.is_troubled.load(Ordering::Acquire) {
            let trouble = lock(&self.trouble);
            let Some(error) = &*trouble else {
                return Ok(());
            };
            let full = error.kind() == ErrorKind::StorageFull;
            if (full && grows) || (!full && self.trouble_is_news.swap(false, Ordering::AcqRel)) {
                return Err(error
                    .duplicate()
                    .while_doing("the store could not be maintained"));
            }
        }
        Ok(())
    }

    pub(super) fn check_poisoned(&self) -> Result<()> {
        if self.is_poisoned.load(Ordering::Acquire) {
            let cause = lock(&self.poisoned)
                .as_ref()
                .map(Error::to_string)
                .unwrap_or_default();
            return Err(Error::new(
                ErrorKind::Poisoned,
                format!("an earlier write failed, the store must be reopened: {cause}"),
            ));
        }
        Ok(())
    }

    /// After this nothing is written any more: what the disk holds is uncertain.
    pub(super) fn poison(&self, error: &Error) {
        lock(&self.poisoned).get_or_insert_with(|| {
            trace::poisoned(error);
            error.duplicate()
        });
        self.is_poisoned.store(true, Ordering::Release);
        self.progress.give();
        self.watched.give();
    }

    /// Does some work; a panic of it poisons the store.
    pub(super) fn poisoning<T>(&self, work: impl FnOnce() -> T) -> thread::Result<T> {
        catch_unwind(AssertUnwindSafe(work)).inspect_err(|_| self.poison_by_panic())
    }

    /// What a panic left half done is in memory, and nobody may write it.
    pub(super) fn poison_by_panic(&self) {
        self.poison(&Error::new(
            ErrorKind::Poisoned,
            "the maintenance of the store panicked",
        ));
    }

    /// Preparing space syncs. If that failed, and not for want of room, other things that were
    /// written and not yet synced are in doubt with it, and no later sync will tell.
    pub(super) fn poison_if_in_doubt(&self, error: &Error) {
        if error.kind() != ErrorKind::StorageFull {
            self.poison(error);
        }
    }

    /// Tells how maintenance went.
    pub(super) fn report(&self, result: &Result<bool>) {
        match result {
            Ok(_) => {
                if self.is_troubled.swap(false, Ordering::AcqRel) {
                    *lock(&self.trouble) = None;
                }
            }
            Err(error) => {
                trace::in_trouble(error);
                *lock(&self.trouble) = Some(error.duplicate());
                self.trouble_is_news.store(true, Ordering::Release);
                self.is_troubled.store(true, Ordering::Release);
            }
        }
        self.progress.give();
    }

    /// Why maintenance failed last, if it did.
    pub(super) fn trouble(&self) -> Option<Error> {
        lock(&self.poisoned)
            .as_ref()
            .map(Error::duplicate)
            .or_else(|| lock(&self.trouble).as_ref().map(Error::duplicate))
    }

    /// Whether there are commits that no sync covers.
    pub(super) fn has_unsynced(&self) -> bool {
        let Some(log) = &self.log else { return false };
        let log = lock(log);
        log.unsynced || !log.deferred.is_empty()
    }

    /// How many frozen journals wait to be flushed.
    pub(super) fn frozen(&self) -> usize {
        self.current.journals().saturating_sub(1)
    }

    /// Whether not too many journals wait to be flushed.
    pub(super) fn has_room(&self) -> bool {
        self.frozen() <= FROZEN_MAX
    }

    /// Waits until not too many journals wait to be flushed.
    pub(super) async fn wait_for_room(self: &Arc<Self>) -> Result<()> {
        self.wait_while(|core| !core.has_room()).await
    }

    /// Waits for the maintenance to change something.
    pub(super) async fn wait_while(
        self: &Arc<Self>,
        mut is_full: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        loop {
            let count = self.progress.count();
            if !is_full(self) {
                return Ok(());
            }
            self.check_poisoned()?;
            self.check_open()?;
            if let Some(error) = self.trouble() {
                return Err(error.while_doing("the store could not be maintained"));
            }
            // Batches may outlive the store, and with it its thread.
            let ended = self.stopping.load(Ordering::Acquire);
            match self.options.maintenance {
                Maintenance::Background if !ended => {
                    self.work.give();
                    self.progress.after(count).await;
                }
                _ => {
                    self.maintain().await?;
                }
            }
        }
    }
}

/// How many threads get anywhere at the same time.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}
