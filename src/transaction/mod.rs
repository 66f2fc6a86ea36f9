//! Transactions: what they remember, how they are validated and committed.
//!
//! * `overlay`: [`Overlay`], the memory of one transaction, in the form of the log.
//! * `index`: finding the newest operations of a key in it.
//! * `locks`: range locks.
//! * `reads`: [`Reads`], what it asked for.
//! * `newer`: whether a journal has anything newer in that.
//! * `sorted`: [`SortedOperations`](sorted::SortedOperations), a large transaction ready to be built into the tree.
//!
//! # Merge commits, not pushdown rollbacks
//!
//! Two ways to have many transactions in a tree that carries journals of pending operations:
//!
//! * *Merge commits*: a transaction keeps what it writes to itself, and reads that over a version of the
//!   store. Its commit merges that into the newest version, provided that what it read is so still.
//! * *Pushdown rollbacks*: a transaction writes into the tree's journals at once, marked as its own.
//!   Readers pass over what is not committed; the marks, or what takes operations back, are pushed down
//!   after the operations when it ends.
//!
//! Here commits are merged. For that:
//!
//! * Aborting is to let memory go. Nothing that is not committed is ever in the log, in a journal or on a
//!   page, so neither readers nor recovery nor flushes need to know of transactions; a reader that
//!   finds an operation need not ask whether it counts.
//! * A commit writes what it would have to write anyway, once, to the log; the journals take its
//!   records as they are. When something reaches the disk is decided by commits alone.
//! * Merging is no more than appending: pending operations are what the tree carries by itself. Two that
//!   touched different keys commit without seeing each other, and operands of one key are both applied,
//!   in the order of the commits, whoever reads first.
//! * The sequences on the journals' operations are all the bookkeeping that validation needs.
//!
//! Against it:
//!
//! * Who reads much may be refused at the end, when the work is done. Hence attempts that are repeated,
//!   and a turn alone in the end. Pushdown rollbacks would notice a conflict when it arises, at the price
//!   of waiting for, or of deadlocks with, those who may yet roll back.
//! * What is written has to be kept apart until the commit. In memory that is what the log needs anyway.
//!   What is larger has to go somewhere: into private pages on top of the newest version, and then
//!   nobody else can commit before it. Pushdown rollbacks write large transactions where they belong
//!   as they come, and leave when to the tree.
//! * The merge must know what was read. Notes of that take memory, and too few of them cause conflicts
//!   that are none.
//!
//! What pushdown rollbacks have for them is that large transactions need nothing of their own, and that
//! no model of pending operations has to be settled first. Against them is that every reader pays for
//! transactions that are open, that a rollback costs as much again as what it takes back, and that a
//! crash leaves work to those who open the store.

mod index;
pub(crate) mod locks;
mod newer;
mod overlay;
mod reads;
mod sorted;
mod sync;

pub(crate) use newer::{Newer, newer_in_journal, newer_in_records};
pub(crate) use overlay::{Mark as OverlayMark, Overlay};
pub(crate) use reads::{KeySpan, Ranges, Reads};
pub(crate) use sorted::KeyOperations;
