//! The one error type: what was being done, to what, and what the caller can do.

use std::fmt;
use std::io;
use std::ops::Bound;

use crate::format::{Extent, SequenceNumber};

/// The result of every fallible operation of this crate.
///
/// ```
/// fn length(store: &thunderhead::Store) -> thunderhead::Result<usize> {
///     Ok(store.get("k").wait()?.map_or(0, |value| value.len()))
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How much of a key a message shows.
const KEY_BYTES_SHOWN: usize = 64;

/// What kind of thing went wrong, for programs that react to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Bytes on the disk are not what was written there. Nothing was changed; `verify` tells more.
    Corrupt,
    /// The disk or the operating system refused an operation. Trying again may help.
    Io,
    /// The disk has no room. Reading, deleting and compacting still work.
    StorageFull,
    /// Another opener, in this process or another one, holds the file.
    Locked,
    /// The file has a format version or a required feature that this build does not know.
    UnsupportedVersion,
    /// An argument is outside its documented limits.
    InvalidArgument,
    /// The store was opened for reading only.
    ReadOnly,
    /// An earlier write or sync failed, so what the disk holds is uncertain: close and reopen.
    Poisoned,
    /// The store was closed.
    Closed,
    /// There is nothing at the given place.
    NotFound,
    /// There is already something at the given place.
    AlreadyExists,
    /// Another writer published a root in the meantime.
    Fenced,
    /// A merge operator that the data needs is not registered.
    OperatorMissing,
    /// A value is compressed by a codec whose feature this build lacks; the message names it.
    CodecMissing,
    /// The caller asked for the work to be stopped.
    Cancelled,
    /// What is stored is not of the type as which it is read.
    TypeMismatch,
    /// A reference leads to no value: to a key that has none, in a circle, over too many others, or
    /// out of the view that is read. [`Error::chain`] has the keys.
    BrokenReference,
    /// Waiting for a lock would have been waiting for oneself. The message names everybody in the
    /// cycle; release what is held, or drop the transaction, and begin anew.
    Deadlock,
    /// A range that is held shared was to be locked exclusively: two who do so wait for each other.
    UpgradeRefused,
    /// As many ranges are locked as are possible at a time.
    TooManyLocks,
    /// It was not done within the time that was given to it.
    TimedOut,
    /// Another commit changed what the transaction relies on: begin again. See [`Conflict`].
    Conflict,
}

/// Why an operation failed.
///
/// The message names the operation and its object; [`Error::kind`] is for programs, and
/// [`Error::extent`] says where damage was found.
///
/// ```
/// use thunderhead::{ErrorKind, Options, disk::MemoryDisk};
///
/// let disk = MemoryDisk::new();
/// Options::new().open_disk(disk.clone())?.close().wait()?;
/// let store = Options::new().read_only().open_disk(disk)?;
/// match store.put("k", "v").wait() {
///     Err(error) if error.is_retryable() => println!("later, perhaps: {error}"),
///     Err(error) => assert_eq!(error.kind(), ErrorKind::ReadOnly),
///     Ok(_) => unreachable!("it is for reading only"),
/// }
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    extent: Option<Extent>,
    chain: Vec<Vec<u8>>,
    conflict: Option<Box<Conflict>>,
    source: Option<io::Error>,
}

/// Why a transaction could not be committed: what it read, and who changed it.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut transaction = store.begin().wait()?;
/// let before = transaction.get("a").wait()?;
/// transaction.put("b", before.unwrap_or_default()).wait()?;
/// store.put("a", "…").wait()?;
/// let error = transaction.commit().wait().unwrap_err();
/// let conflict = error.conflict().expect("it was refused for that");
/// assert_eq!((&conflict.low[..], conflict.age()), (&b"a"[..], 1));
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Conflict {
    /// The first key of the range that the transaction had asked for, and in which there was a change: as
    /// all keys here a whole key, also where it was asked for in a view.
    pub low: Vec<u8>,
    /// Where that range ends.
    pub high: Bound<Vec<u8>>,
    /// The newest commit that the transaction saw.
    pub began: SequenceNumber,
    /// The commit that changed the range, where it is known: neither if it shared a write with the
    /// transaction nor if it was so long ago that the range was read again.
    pub changed: Option<SequenceNumber>,
    /// The newest commit when that was found.
    pub now: SequenceNumber,
}

impl Conflict {
    /// How many commits there were since the transaction began.
    pub fn age(&self) -> u64 {
        self.now.0.saturating_sub(self.began.0)
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what the transaction had read was changed, in the range from \"")?;
        write!(f, "{}\"", self.low.escape_ascii())?;
        match &self.high {
            Bound::Unbounded => {}
            Bound::Included(last) => write!(f, " to \"{}\"", last.escape_ascii())?,
            Bound::Excluded(end) => write!(f, " to before \"{}\"", end.escape_ascii())?,
        }
        if let Some(changed) = self.changed {
            write!(f, " by commit {}", changed.0)?;
        }
        write!(
            f,
            ": it began at commit {}, {} commits ago",
            self.began.0,
            self.age()
        )
    }
}

/// For readers and writers of values: the error is the source of the other one.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::StorageFull => io::ErrorKind::StorageFull,
            ErrorKind::InvalidArgument => io::ErrorKind::InvalidInput,
            ErrorKind::Corrupt => io::ErrorKind::InvalidData,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::UnsupportedVersion => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl Error {
    /// Makes an error of a kind, with a message that says what was being done to what.
    ///
    /// Implementations of [`DiskModel`](crate::disk::DiskModel) use it to report their failures.
    ///
    /// ```
    /// use thunderhead::{Error, ErrorKind};
    ///
    /// let error = Error::new(ErrorKind::Io, "reading page 7: the bucket does not answer");
    /// assert_eq!(error.kind(), ErrorKind::Io);
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            inner: Box::new(Inner {
                kind,
                message,
                extent: None,
                chain: Vec::new(),
                conflict: None,
                source: None,
            }),
        }
    }

    /// A transaction that cannot be committed.
    pub(crate) fn conflict_of(conflict: Conflict) -> Self {
        let mut error = Self::new(ErrorKind::Conflict, conflict.to_string());
        error.inner.conflict = Some(Box::new(conflict));
        error
    }

    /// Damage found at an extent.
    pub(crate) fn corrupt_at(extent: Extent, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Corrupt, message);
        error.inner.extent = Some(extent);
        error
    }

    /// Damage found in something that has no extent.
    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// A failed call of the operating system; a full disk gets its own kind.
    ///
    /// ```
    /// use std::io;
    /// use thunderhead::{Error, ErrorKind};
    ///
    /// let full = io::Error::from(io::ErrorKind::StorageFull);
    /// assert_eq!(Error::io("writing page 7", full).kind(), ErrorKind::StorageFull);
    /// ```
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            _ => ErrorKind::Io,
        };
        let mut error = Self::new(kind, doing);
        error.inner.source = Some(source);
        error
    }

    /// An argument outside its limits.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Something stored that is not of the type that was asked for.
    pub(crate) fn type_mismatch(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::TypeMismatch, message)
    }

    /// References that lead to no value; the chain begins with the key that was asked for.
    pub(crate) fn broken_reference(what: impl Into<String>, chain: Vec<Vec<u8>>) -> Self {
        let mut message = what.into() + ": ";
        for (number, key) in chain.iter().enumerate() {
            if number > 0 {
                message += " -> ";
            }
            let shown = &key[..key.len().min(KEY_BYTES_SHOWN)];
            message += &shown.escape_ascii().to_string();
            if shown.len() < key.len() {
                message += "…";
            }
        }
        let mut error = Self::new(ErrorKind::BrokenReference, message);
        error.inner.chain = chain;
        error
    }

    /// The kind, for programs that react to it.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Where the damage is, if the error is about damage at a known place.
    pub fn extent(&self) -> Option<Extent> {
        self.inner.extent
    }

    /// The keys of a chain of references that leads to no value, as the whole store has them: from
    /// the one that was asked for to the one at which it ended. Empty for errors of other kinds.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.inner.chain
    }

    /// What was changed, and by whom, if a transaction was refused for that.
    pub fn conflict(&self) -> Option<&Conflict> {
        self.inner.conflict.as_deref()
    }

    /// Whether the same call may succeed later without anything else being done; of a transaction, all
    /// of it from its beginning.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.inner.kind,
            ErrorKind::Io
                | ErrorKind::StorageFull
                | ErrorKind::Locked
                | ErrorKind::TooManyLocks
                | ErrorKind::TimedOut
                | ErrorKind::Conflict
        )
    }

    /// The same error for a second receiver: the message, without the source.
    pub(crate) fn duplicate(&self) -> Self {
        let message = match &self.inner.source {
            Some(source) => format!("{}: {source}", self.inner.message),
            None => self.inner.message.clone(),
        };
        let Inner { kind, extent, .. } = *self.inner;
        let conflict = self.inner.conflict.clone();
        Self {
            inner: Box::new(Inner {
                kind,
                message,
                extent,
                chain: self.inner.chain.clone(),
                conflict,
                source: None,
            }),
        }
    }

    /// The same error with what was being done in front.
    pub(crate) fn while_doing(mut self, doing: &str) -> Self {
        self.inner.message = format!("{doing}: {}", self.inner.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        if let Some(extent) = self.inner.extent {
            write!(f, " (at {extent})")?;
        }
        if let Some(source) = &self.inner.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.inner.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| source as _)
    }
}
