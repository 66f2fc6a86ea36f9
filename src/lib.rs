//! An embedded, ordered key-value store: a map from byte strings to byte strings, on a disk.
//!
//! A [`Store`] is opened on a file, or on any [`DiskModel`](disk::DiskModel). It answers from the
//! newest version, or from a [`Snapshot`], which is taken in constant time and kept as long as one
//! likes. What is written is committed by itself, or together in a [`Transaction`]. Each call gives an
//! [`Operation`]: `.wait()` for it, or `.await` it on any executor.
//!
//! ```
//! use thunderhead::{Prefix, Store};
//!
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("store");
//! let store = Store::open_or_create(path)?;
//! store.put("fruit/apple", "red").wait()?;
//! store.put("fruit/pear", "green").wait()?;
//!
//! let before = store.snapshot();
//! let mut transaction = store.begin().wait()?;
//! transaction.delete("fruit/apple").wait()?;
//! transaction.put("fruit/plum", "blue").wait()?;
//! transaction.commit().wait()?;
//!
//! assert_eq!(store.get("fruit/apple").wait()?, None);
//! assert_eq!(before.get("fruit/apple").wait()?.as_deref(), Some(&b"red"[..]));
//! assert_eq!(store.count(Prefix("fruit/")).wait()?, 2);
//! for entry in store.prefix("fruit/").rev() {
//!     let (key, value) = entry?;
//!     println!("{key:?}: {value:?}");
//! }
//! store.close().wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! [`guide`] has chapters on durability, on memory, on sizing keys and values, on waiting and awaiting,
//! and for those who come from another store.
//!
//! | for | see |
//! | --- | --- |
//! | opening, and what can be set | [`Options`], [`Store::open`] |
//! | reading | [`Store::get`], [`Store::get_many`], [`Store::get_with`], [`Store::get_part`], [`Store::range`], [`Range`], [`Range::keys`] |
//! | seeking and stepping both ways, and editing there | [`Store::cursor`], [`Cursor`], [`Transaction::cursor_mut`] |
//! | ranges of keys | [`KeyRange`], [`Prefix`] |
//! | a part of the keys as a store of its own | [`Store::subtree`], [`Transaction::subtree`], [`Store::components`] |
//! | counting | [`Store::count`], [`Store::estimate`], [`Store::nth`], [`Store::len`] |
//! | writing | [`Store::put`], [`Store::delete_range`], [`Store::merge`], [`Batch`], [`Transaction`] |
//! | keys that stand for others | [`Store::put_reference`], [`Range::following`], [`ValueKind`] |
//! | writing what depends on what is there | [`Store::insert`], [`Store::put_if_absent`], [`Store::compare_exchange`], [`Store::update`], [`Store::pop_first`], [`Store::retain_in`], [`Transaction::extract_if`] |
//! | several writes and reads as one | [`Store::begin`], [`Store::transact`], [`Isolation`], [`Conflict`], [`Transaction::savepoint`], [`Store::begin_alone`] |
//! | keeping others from a range of keys | [`Store::lock`], [`Transaction::lock`], [`RangeGuard`], [`LockMode`] |
//! | what is committed, as it comes | [`Store::watch`], [`Watch`] |
//! | keys and values of other types than bytes | [`typed`] |
//! | versions | [`Snapshot`]; with names, which are kept: [`Store::snapshots`] |
//! | what differs between two of them | [`Snapshot::diff`], [`Difference`], [`Snapshot::is_same`] |
//! | bringing that together with what was changed elsewhere | [`Store::reconcile`], [`Transaction::reconcile`] |
//! | copies of subtrees | [`Store::clone_range`], [`Transaction::clone_range`] |
//! | what it does, in numbers | [`Store::stats`], [`Store::levels`] |
//! | whether a file is whole | [`Store::verify`], [`inspect`] |
//! | giving space back | [`Store::compact`] |
//! | errors | [`Error`], [`ErrorKind`] |
//! | the disk below, and one of your own | [`disk`] |
//! | bytes on the disk | [`mod@format`], [`disk::layout`] |
//!
//! # Durability
//!
//! A commit says what it waits for: the disk, the operating system, or nothing; see [`Durability`].
//! It survives whole or not at all, and never without those before it. What is damaged on the disk is
//! an error when it is read: pages and values are verified against checksums that stand elsewhere.
//! The one thing that cannot be told apart is a damaged last group of commits of a store that was not
//! closed from one that a crash interrupted: it reads as the latter.
//!
//! # Versions
//!
//! Pages are never changed in place, so a snapshot, an open range and a transaction each keep the
//! version that they began with, and no reader waits for a writer, nor a writer for readers. What they
//! see is not reused meanwhile: a snapshot that is kept costs as much space as was replaced since.
//! Snapshots end with the process, but for those that are [saved](Snapshots::save) under a name.
//!
//! What differs between two snapshots is told by [`Snapshot::diff`], at a cost in proportion to the
//! difference, whatever was flushed or moved between them; [`Store::reconcile`] brings that into a third
//! version, and asks about what was changed on both sides.
//!
//! # Limits
//!
//! Keys up to 32 KiB, values up to 1 TiB, operands of merges up to 64 KiB. Any number
//! of [`Transaction`]s are open at the same time; one that outgrows its memory has others wait to commit
//! until it is done. One process has a store open for writing, or any
//! number for reading only. Memory is bounded by [`Options::cache_bytes`],
//! [`Options::transaction_bytes`], [`Options::journal_bytes`] and [`Options::history_bytes`].
#![deny(missing_docs)]

mod cache;
pub mod disk;
mod error;
pub mod format;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
pub mod inspect;
mod log;
#[cfg(doctest)]
mod misuse;
mod snapshot;
mod space;
mod store;
mod trace;
mod transaction;
mod tree;
pub mod typed;
mod value;

pub use cache::CacheStatistics;
pub use error::{Conflict, Error, ErrorKind, Result};
pub use store::{
    Attempt, Batch, Branch, BranchInfo, Branches, Change, Collision, Compaction, Components,
    Cursor, CursorMut, Decision, Difference, Differences, Durability, Entry, Estimate, Exchanged,
    Extract, Isolation, KeyRange, Keys, Level, Maintenance, Narrow, Operation, Options, Pin,
    Prefix, Range, RangeGuard, Reconciled, Savepoint, Snapshot, SnapshotInfo, SnapshotList,
    SnapshotSizes, Snapshots, Statistics, Store, StoredValue, Subtree, Transaction, Value,
    ValueChunks, ValueKind, ValueReader, ValueWriter, Watch, Watched,
};
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub use store::{bare_descent, bare_search};
pub use transaction::locks::LockMode;
pub use tree::MergeOperator;
pub use value::Compression;

/// The programs of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
