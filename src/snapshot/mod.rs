//! Versions of a store and how they are read: point reads, cursors, counts.

mod catalogue;
mod count;
mod cursor;
mod get;
#[cfg(test)]
mod tests;
mod value;
mod version;

pub(crate) use catalogue::{each_entry, each_pending, each_pending_from, read_pieces};
pub(crate) use count::{count, nth};
pub(crate) use cursor::{Cursor, Direction, Start, Stop};
#[cfg(test)]
pub(crate) use get::lookup;
pub(crate) use get::{Lookup, fold_chains, lookup_below};
pub(crate) use value::{CachedPages, load_value, read_part, stored_length};
pub(crate) use version::{Layer, Version, View};
