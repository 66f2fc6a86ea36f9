//! Versions of a store and how they are read: point reads, cursors, counts.
//!
//! A [`Version`] is a root and the journals that are newer than its tree; a [`View`] is a version as
//! of a sequence, which is all that a reader or a snapshot holds. Taking one costs a reference count,
//! keeping one an entry in the table of kept generations. Everything here reads only, from the newest
//! journal down to the leaves, and does no I/O of its own: what is not in memory is named to the
//! caller, who loads it and starts again.
//!
//! | module | idea |
//! | --- | --- |
//! | `version` | [`Version`], [`View`], and what they keep from being reused |
//! | `get` | one key |
//! | `learnt` | what many operands gave, for those who read a key again |
//! | `cursor` | keys in order, in both directions ([`Cursor`]) |
//! | `count` | exact counts, and the entry at a rank |
//! | `estimate` | bounds of counts, from the ends of a range alone |
//! | `value` | from what is stored to the bytes that a reader sees |
//! | `reference` | values that name another key ([`follow`]) |
//! | [`diff`] | what differs between two versions |
//! | `catalogue` | what the system tree says of space, put together |
//! | `names` | what it says of snapshots that have a name |

mod catalogue;
mod count;
mod cursor;
pub(crate) mod diff;
mod estimate;
mod get;
mod learnt;
pub(crate) mod names;
mod reference;
#[cfg(test)]
mod tests;
mod value;
mod version;

pub(crate) use catalogue::{
    each_entry, each_pending, each_pending_from, first_thing, last_thing, read_pieces,
};
pub(crate) use count::{count, nth};
pub(crate) use cursor::{Cursor, Direction, Start, Stop};
pub(crate) use estimate::{Interval, estimate};
#[cfg(test)]
pub(crate) use get::lookup;
pub(crate) use get::{Glance, Lookup, fold_chains, glance, lookup_below};
pub(crate) use reference::{Find, Settled, follow, target_of, way_of};
pub(crate) use value::{CachedPages, load_value, off_tree_reader, read_part, stored_length};
pub(crate) use version::{Layered, Parts, Version, View};
