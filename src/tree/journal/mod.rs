//! The root journal in memory: the newest operations, in order, over the log's own bytes.
//!
//! A [`Journal`] keeps the buffers of records that commits wrote to the log and an index over
//! them. One writer at a time appends; any number of readers look things up and iterate at the
//! same time without ever waiting. Nothing is removed or overwritten: a newer version of a key
//! stands *before* the older ones, and a reader's bound on the sequence hides what is too new.
//! When a journal has grown large enough it is flushed into the tree as a whole and dropped.
//!
//! ```text
//! buffers    [put b][delete a]      [put b][put c][delete b..d]       [merge c]
//!                 sequence 7                 sequence 8               sequence 9
//!                stamps 1, 2               stamps 3, 4, 5              stamp 6
//!
//! index      head ──▶ a:2 ─────────▶ b:3 ──▶ b:1 ──▶ c:6 ──▶ c:4      keys up, stamps down
//! ranges     b..d:5
//! ```
//!
//! The *stamp* of an operation is its place in the order of appending. It decides between a point
//! operation and a range delete of one commit: above, `c:6` counts and `b:3`, `b:1` and `c:4` are
//! dead.
//!
//! * `memory`: [`Journal`] itself: appending, looking up, iterating.
//! * `skip_list`: the ordered index.
//! * `directory`: where a search enters it.
//! * `ranges`: the range deletes.
//! * `filter`: tells quickly that a key has no operation.
//! * `chunks`: storage that grows while it is read.
//! * `set_once`: a place for a buffer there.

mod chunks;
mod directory;
mod filter;
mod memory;
mod ranges;
mod set_once;
mod skip_list;

pub(crate) use memory::{Found, Journal, JournalEntry, JournalPosition, Outcome};
pub(crate) use skip_list::key_head;
