//! An embedded, ordered key-value store.
#![allow(dead_code)]

mod cache;
pub mod disk;
mod error;
pub mod format;
mod log;
mod snapshot;
mod space;
mod transaction;
mod tree;
mod value;

pub use error::{Error, ErrorKind, Result};
