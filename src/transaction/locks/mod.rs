//! Range locks: who may change which keys, or must not see them change, until it lets go.
//!
//! A [`LockTable`] knows who holds which ranges and who waits for which. It is one structure under
//! one mutex, which is held for a few searches at a time and never while anybody is woken. It knows
//! nothing of the store: keys are bytes, and that commits respect locks is up to those who commit.
//!
//! # Rules
//!
//! * [Shared](LockMode::Shared) locks exclude exclusive ones and writes of others;
//!   [exclusive](LockMode::Exclusive) ones exclude all of others.
//! * **First come, first served**: a request waits for conflicting locks that are held, and for
//!   conflicting requests that wait already. So no stream of readers starves a writer.
//! * **Again is free**: an owner that has a range may lock it, or a part of it, again in the same mode
//!   or a weaker one. What it has overlapping or side by side in one mode is joined, so that it needs
//!   the memory of its outline.
//! * **Upgrading is refused**: an owner that has a range shared and asks for it exclusively waits for
//!   all others who share it; as soon as one of them does the same, neither ever goes on. Instead of
//!   a deadlock that comes now and then there is an error that always comes.
//! * **Deadlocks are noticed at once**: whoever has to wait looks whether somebody it waits for waits
//!   for it, directly or not, queues included. Then the *youngest* owner of the cycle gets an error
//!   that names the cycle, be it the one that asked or one that waits already.
//! * An owner's locks are released **all at once**. So joined ranges need not be taken apart, and
//!   two-phase locking is kept.
//!
//! # Dropping a future
//!
//! A future that is dropped before it was polled has done nothing. Later its request leaves the queue,
//! and those behind it move up; if the lock was granted and the future not yet polled again, that lock
//! is released. What the owner had before stays.
//!
//! # Costs
//!
//! A lock that nobody contends, and its release, take O(log n) steps for n ranges held, and two
//! allocations. A request that waits does so without being woken until it is granted or fails; the
//! release looks only at those who wait for that owner. Looking for a deadlock takes time in
//! proportion to the waits that follow from the new one, or to those that lead to who it is, whichever are
//! fewer.
//!
//! | module | idea |
//! | --- | --- |
//! | `range` | [`LockRange`], and what is asked of ranges |
//! | `mode` | [`LockMode`] |
//! | `tree` | which of many ranges overlap one |
//! | `held` | the locks that are held, joined by owner |
//! | `owner` | who holds locks |
//! | `table` | [`LockTable`]: granting, queueing, releasing |
//! | `deadlock` | who waits for whom |
//! | `future` | waiting for a lock |
//! | `writes` | what commits ask |

mod deadlock;
mod future;
mod held;
mod mode;
mod owner;
mod range;
mod table;
mod tree;
mod writes;

#[cfg(test)]
mod cancellation_tests;
#[cfg(test)]
mod deadlock_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use mode::LockMode;
pub(crate) use owner::{Owner, OwnerId};
pub(crate) use range::{LockRange, Wanted};
pub(crate) use table::{Blocker, LockTable};
