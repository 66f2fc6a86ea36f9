//! The files of the lock table, without its own tests.

#[path = "../../../src/transaction/locks/deadlock.rs"]
mod deadlock;
#[path = "../../../src/transaction/locks/future.rs"]
mod future;
#[path = "../../../src/transaction/locks/held.rs"]
mod held;
#[path = "../../../src/transaction/locks/mode.rs"]
mod mode;
#[path = "../../../src/transaction/locks/owner.rs"]
mod owner;
#[path = "../../../src/transaction/locks/range.rs"]
mod range;
#[path = "../../../src/transaction/locks/table.rs"]
mod table;
#[path = "../../../src/transaction/locks/tree.rs"]
mod tree;
#[path = "../../../src/transaction/locks/writes.rs"]
mod writes;

pub use mode::LockMode;
pub(crate) use owner::Owner;
pub(crate) use range::{LockRange, Wanted};
pub(crate) use table::LockTable;
