//! An embedded, ordered key-value store.

mod cache;
pub mod disk;
mod error;
pub mod format;
pub mod inspect;
mod log;
mod snapshot;
mod space;
mod store;
mod transaction;
mod tree;
mod value;

pub use error::{Error, ErrorKind, Result};
pub use store::{
    Compaction, Durability, Entry, KeyRange, Maintenance, Operation, Options, Prefix, Range,
    Snapshot, Statistics, Store, Transaction, Value,
};
pub use tree::MergeOperator;
