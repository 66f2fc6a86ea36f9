//! How a store is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use crate::disk::{Disk, DiskModel, FileDiskOptions, Properties, block_on};
use crate::error::{Error, Result};
use crate::format::Settings;
use crate::tree::MergeOperator;
use crate::tree::merge::Operators;
use crate::tree::pages::Readahead;
use crate::value::Compression;

/// What a scan reads ahead on slow disks, what the reader of a value does on all, and the greatest share
/// of the cache's bytes that it may be.
const SCAN_AHEAD_BYTES: usize = 1 << 20;
const VALUE_AHEAD_BYTES: usize = 2 << 20;
const READAHEAD_SHARE: usize = 8;

/// A journal has this share of the cache's bytes at most, or so many bytes: below that, a commit of
/// usual size would not fit.
const JOURNAL_SHARE: usize = 16;
const JOURNAL_BYTES_LEAST: usize = 256 << 10;

/// The index of a journal is made when it is, for as much as it may hold.
const JOURNAL_BYTES_MOST: usize = 256 << 20;

/// Each checkpoint takes what is missing of the reserve, as far as the disk has it.
const RESERVE_BYTES_MOST: u64 = 1 << 30;

/// Less of log or journal would make a checkpoint or a journal of every commit, or of none.
const DUE_BYTES_LEAST: usize = 256;

/// When a commit is safe.
///
/// | durability | on return | lost by a crash of the process | lost by a power failure |
/// | --- | --- | --- | --- |
/// | `Immediate` | on the disk: one write and one sync, shared by all who commit meanwhile | nothing | nothing |
/// | `Buffered` | handed to the operating system: one write | nothing | what was not synced |
/// | `Deferred` | in memory, to be written and synced within [`Options::deferred_interval`] | what was not written | what was not synced |
///
/// Whatever is lost is the newest: commits never overtake each other. [`Store::sync`] makes all
/// before it safe.
///
/// ```
/// use thunderhead::{Durability, Options, disk::MemoryDisk};
///
/// let options = Options::new().durability(Durability::Deferred);
/// let store = options.open_disk(MemoryDisk::new())?;
/// store.put("k", "v").wait()?;
/// let sure = store.with_durability(Durability::Immediate);
/// // It and all before it are on the disk.
/// sure.put("l", "w").wait()?;
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Durability {
    /// Survives a power failure, on return.
    #[default]
    Immediate,
    /// In memory; ordered; durable soon.
    Deferred,
    /// Survives the death of the process, on return.
    Buffered,
}

/// What a commit of a transaction makes sure of.
///
/// | isolation | refused | not noticed |
/// | --- | --- | --- |
/// | `Serializable` | if anything that it read was changed since it began | nothing: it is as if it had run alone, at the moment of its commit |
/// | `Snapshot` | if a key that it put or deleted was changed since it began | decisions of two transactions, each on what the other one changes: *write skew* |
///
/// With either, a transaction reads the store as it was when it began, and what it wrote itself;
/// one that wrote nothing is never refused; and deleted ranges and operands of merges conflict with
/// nothing. [`Transaction::set_isolation`](crate::Transaction::set_isolation) has an example.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Isolation {
    /// As if transactions ran one after the other.
    #[default]
    Serializable,
    /// The first one that commits a key wins; what was read only may have changed.
    Snapshot,
}

/// Who does the work that commits leave behind: flushes and checkpoints.
/// [`Store::maintain`] has an example.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Maintenance {
    /// A thread of the store's own.
    #[default]
    Background,
    /// The caller, by [`Store::maintain`]; when too much has piled up, whoever commits. Nothing
    /// happens at other times, which makes a store's use of its disk repeatable.
    Caller,
}

/// How a store is opened. The defaults are right for most programs.
///
/// ```
/// use thunderhead::{Durability, Options};
///
/// # let directory = tempfile::tempdir()?;
/// let store = Options::new()
///     .cache_bytes(64 << 20)
///     .durability(Durability::Buffered)
///     .open_or_create(directory.path().join("store"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) cache_bytes: usize,
    pub(crate) transaction_bytes: usize,
    pub(crate) journal_bytes: usize,
    pub(crate) history_bytes: usize,
    pub(crate) checkpoint_log_bytes: u64,
    pub(crate) deferred_interval: Duration,
    pub(crate) durability: Durability,
    pub(crate) maintenance: Maintenance,
    pub(crate) reserve_bytes: Option<u64>,
    readahead_bytes: Option<usize>,
    pub(crate) compression: Compression,
    pub(crate) settings: Settings,
    pub(crate) operators: Operators,
    pub(crate) files: FileDiskOptions,
    pub(crate) read_only: bool,
    operator_error: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults. Each of the others gives the same options with one thing set, and is free.
    pub fn new() -> Self {
        Self {
            cache_bytes: 256 << 20,
            transaction_bytes: 256 << 20,
            journal_bytes: 4 << 20,
            history_bytes: 16 << 20,
            checkpoint_log_bytes: 32 << 20,
            deferred_interval: Duration::from_millis(100),
            durability: Durability::default(),
            maintenance: Maintenance::default(),
            reserve_bytes: None,
            readahead_bytes: None,
            compression: Compression::default(),
            settings: Settings::default(),
            operators: Operators::default(),
            files: FileDiskOptions::default(),
            read_only: false,
            operator_error: None,
        }
    }

    /// The memory for pages, in bytes. Default: 256 MiB. At least 1 MiB is used. It is taken
    /// as pages are read, and kept. More of the store in memory means fewer reads.
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes.max(1 << 20);
        self
    }

    /// The memory for the writes of one transaction, in bytes. What exceeds it goes to the disk
    /// before the commit. Default: 256 MiB. At least 64 KiB is used. It is
    /// taken as a transaction grows. What it knows of each value that it put out of the tree is not
    /// counted, and stays in memory until the commit: some 250 bytes a value.
    pub fn transaction_bytes(mut self, bytes: usize) -> Self {
        self.transaction_bytes = bytes.max(64 << 10);
        self
    }

    /// How many bytes of commits are gathered in memory before they are flushed into the tree.
    /// Larger saves work, and costs memory, up to seven times as much under load, and half of it
    /// more for their index. Default: 4 MiB. At most a sixteenth of [`Self::cache_bytes`] is used,
    /// or 256 KiB, and at most 256 MiB; at least 256 bytes.
    pub fn journal_bytes(mut self, bytes: usize) -> Self {
        self.journal_bytes = bytes.clamp(DUE_BYTES_LEAST, JOURNAL_BYTES_MOST);
        self
    }

    /// How much memory may be kept of what was committed since the oldest open transaction began, in
    /// bytes. A transaction that is older than what is kept is validated by reading again what it
    /// read. Nothing is kept where no transaction is open. Default: 16 MiB. At most an eighth of
    /// [`Self::cache_bytes`] is used.
    pub fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// After how many bytes of log a checkpoint is due. Opening after a crash replays at most about
    /// twice as much, into memory. Default: 32 MiB. At most [`Self::cache_bytes`] are used, at least 256
    /// bytes. Larger saves writing pages that change often, and takes room on the disk.
    pub fn checkpoint_log_bytes(mut self, bytes: u64) -> Self {
        self.checkpoint_log_bytes = bytes.max(DUE_BYTES_LEAST as u64);
        self
    }

    /// Within what time [`Durability::Deferred`] commits become durable. Default: 100 ms. Only a
    /// store with [`Maintenance::Background`] keeps time: a sync for each interval in which
    /// something was committed. [`Duration::MAX`]: not by time.
    pub fn deferred_interval(mut self, interval: Duration) -> Self {
        self.deferred_interval = interval;
        self
    }

    /// The durability of commits that name none. Default: [`Durability::Immediate`], which costs a
    /// sync.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Who flushes and checkpoints. Default: [`Maintenance::Background`], which has a thread
    /// of its own.
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// How many bytes of the disk are kept ready so that a full disk can still be deleted from.
    /// Default: a sixty-fourth of the store, 1 to 64 MiB. More than 1 GiB is an error when the store is
    /// opened. Where the disk has not so much room, it counts as full: only deletions are taken.
    pub fn reserve_bytes(mut self, bytes: u64) -> Self {
        self.reserve_bytes = Some(bytes);
        self
    }

    /// How many bytes may be read ahead, as many reads at a time as
    /// [the disk serves at once](crate::disk::Properties::concurrency). 0: nothing. At most an eighth of
    /// [`Self::cache_bytes`] is used.
    ///
    /// * A range or a cursor that had to wait for the disk twice reads pages ahead, in memory of the
    ///   cache. Default: 1 MiB on disks that say that
    ///   [their reads are slow](crate::disk::Properties::slow_reads), on others nothing. Files do so
    ///   only if this is set: for those on a network, or on disks that turn.
    /// * A [`ValueReader`](crate::ValueReader) that goes on from one piece to the next reads those
    ///   after that ahead, in memory of its own. Default: 2 MiB.
    pub fn readahead_bytes(mut self, bytes: usize) -> Self {
        self.readahead_bytes = Some(bytes);
        self
    }

    /// How much is read ahead on a disk.
    pub(super) fn readahead_on(&self, disk: &Properties) -> Readahead {
        if disk.concurrency <= 1 {
            return Readahead::default();
        }
        let most = self.cache_bytes / READAHEAD_SHARE;
        let bytes = |default| self.readahead_bytes.unwrap_or(default).min(most);
        Readahead {
            scan_bytes: bytes(if disk.slow_reads { SCAN_AHEAD_BYTES } else { 0 }),
            value_bytes: bytes(VALUE_AHEAD_BYTES),
        }
    }

    /// The shape of pages and journals of a store that is created: for tests, and for those who
    /// measured. One that exists keeps its own. Where segments are smaller than a chunk of the log,
    /// chunks of a quarter of a segment are used.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// How values out of the tree are compressed when they are written. Default: not at all.
    ///
    /// Each block (32 KiB by default) is compressed by itself, and kept so where that saves an eighth:
    /// reading or overwriting a part costs a block still. Values that are there stay as they are, and
    /// one of which a part is changed keeps its codec.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Makes a merge operator known. Every operator that the data needs has to be registered each
    /// time the store is opened, else reading it is an error (`OperatorMissing`). A name that is
    /// empty, longer than 255 bytes or taken is an error (`InvalidArgument`) when the store is
    /// opened.
    pub fn merge_operator(mut self, operator: impl MergeOperator) -> Self {
        if let Err(error) = self.operators.register(Arc::new(operator)) {
            self.operator_error.get_or_insert_with(|| error.to_string());
        }
        self
    }

    /// The bytes of a segment of a file that is created: a power of two, 64 KiB to 1 GiB. Default:
    /// 16 MiB. The file grows by them; no page, chunk of the log or part of a value is larger.
    /// Others are an error (`InvalidArgument`) when the store is opened.
    pub fn segment_bytes(mut self, bytes: u32) -> Self {
        self.files.segment_bytes = bytes;
        self
    }

    /// The sectors of the disk on which a file is created: 512 (the default) or 4096 bytes. Each
    /// commit that is synced begins another one. Others are an error (`InvalidArgument`) when the
    /// store is opened.
    pub fn sector_bytes(mut self, bytes: u32) -> Self {
        self.files.sector_bytes = bytes;
        self
    }

    /// Opens for reading only: nothing is written, not even to finish what a crash interrupted.
    /// Costs memory for what is in the log and not in the tree. What would write gives `ReadOnly`.
    /// Any number of such openers share a file, while nobody writes to it.
    pub fn read_only(mut self) -> Self {
        self.files.read_only = true;
        self.read_only = true;
        self
    }

    /// Who gives a small cache wants little memory used: what else takes some goes by it.
    fn scale_down(&mut self) {
        let journal_bytes_max = (self.cache_bytes / JOURNAL_SHARE).max(JOURNAL_BYTES_LEAST);
        self.journal_bytes = self.journal_bytes.min(journal_bytes_max);
        self.checkpoint_log_bytes = self.checkpoint_log_bytes.min(self.cache_bytes as u64);
        self.history_bytes = self.history_bytes.min(self.cache_bytes / 8);
    }

    /// Refuses what could be meant by nobody, before there is a file.
    fn check(&self) -> Result<()> {
        if let Some(message) = &self.operator_error {
            return Err(Error::invalid(message.clone()));
        }
        match self.reserve_bytes {
            Some(bytes) if bytes > RESERVE_BYTES_MOST => Err(Error::invalid(format!(
                "a reserve of {bytes} bytes: at most {RESERVE_BYTES_MOST} are possible"
            ))),
            _ => Ok(()),
        }
    }

    /// Opens a store in a file. Costs some reads after a [close](Store::close); after a crash,
    /// reading the log, about [`checkpoint_log_bytes`](Self::checkpoint_log_bytes), whatever the
    /// size of the store. It waits for that: on an asynchronous executor, open where blocking is
    /// allowed.
    ///
    /// Errors: `NotFound`; `Locked` if it is open elsewhere, in this process too; `UnsupportedVersion`;
    /// `Corrupt`; `InvalidArgument` for options that are none; `Io`.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// use thunderhead::{Options, Store};
    ///
    /// Store::create(&path)?.close().wait()?;
    /// let store = Options::new().cache_bytes(16 << 20).open(path)?;
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Store> {
        self.check()?;
        self.open_disk(self.files.open(path)?)
    }

    /// Creates a store in a new file. It has its name once there is a whole store in it: a
    /// crash leaves none or that. Errors: `AlreadyExists`; `StorageFull`; otherwise as [`Self::open`].
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// let store = thunderhead::Options::new().segment_bytes(1 << 20).create(path)?;
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(&self, path: impl AsRef<Path>) -> Result<Store> {
        self.check()?;
        self.open_disk(self.files.create(path)?)
    }

    /// Opens the store in a file, or creates it. Cost and errors: those of the two.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("store");
    /// let store = thunderhead::Options::new().open_or_create(path)?;
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<Store> {
        self.check()?;
        self.open_disk(self.files.open_or_create(path)?)
    }

    /// Opens the store on a disk, or creates it where the disk has none. Cost and errors: those of
    /// [`open`](Self::open) but `NotFound`; those of the disk.
    ///
    /// ```
    /// use thunderhead::{Options, disk::MemoryDisk};
    ///
    /// let disk = MemoryDisk::new();
    /// let store = Options::new().open_disk(disk.clone())?;
    /// store.put("k", "v").wait()?;
    /// store.close().wait()?;
    /// let store = Options::new().open_disk(disk)?;
    /// assert_eq!(store.get("k").wait()?.unwrap(), "v");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn open_disk(&self, disk: impl DiskModel) -> Result<Store> {
        self.check()?;
        let (disk, mut options) = (Disk::new(disk)?, self.clone());
        let segment_bytes = disk.properties().segment_bytes;
        if options.settings.log_chunk_bytes > segment_bytes {
            options.settings.log_chunk_bytes = segment_bytes / 4;
        }
        options.scale_down();
        block_on(super::open::open(disk, options))
    }
}
