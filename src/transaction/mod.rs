//! Transactions: what they remember, how they are validated and committed.
//!
//! * `overlay`: [`Overlay`], the memory of one transaction, in the form of the log.
//! * `index`: finding the newest operations of a key in it.
//! * `locks`: range locks.
//! * `sorted`: [`SortedOperations`](sorted::SortedOperations), a large transaction ready to be built into the tree.

mod index;
#[allow(
    dead_code,
    unused_imports,
    reason = "stores take it up in the next step"
)]
pub(crate) mod locks;
mod overlay;
mod sorted;
mod sync;

pub(crate) use overlay::Overlay;
pub(crate) use sorted::KeyOperations;
