//! Transactions: what they remember, how they are validated and committed.
//!
//! * `overlay`: [`Overlay`], the memory of one transaction, in the form of the log.
//! * `index`: finding the newest operations of a key in it.
//! * `sorted`: [`SortedOperations`](sorted::SortedOperations), a large transaction ready to be built into the tree.

mod index;
mod overlay;
mod sorted;

pub(crate) use overlay::Overlay;
pub(crate) use sorted::KeyOperations;
