//! [`SimulatedMachine`]: one file on a machine that fails as told, crueller than any real one.
//!
//! **Not part of the stable interface**: it may change in any release. It is here so that the crash
//! tests of this crate, and of programs on top of it, can cut the power at every single call.
//!
//! Between the writes and the platter stands a page cache. A write is seen at once and durable
//! after a sync. Until then every sector keeps each content that it had since the last sync, along
//! with the call that gave it; a power loss decides for every *call* whether all of it, nothing of
//! it or a random choice of its sectors reached the platter, which also reorders calls, and torn
//! sectors may hold garbage. Everything is drawn from one seed: the same calls fail the same way.
//!
//! * `content`: bytes in blocks. `state`: platter, page cache and faults. `file`: the calls of a
//!   process. `machine`: what a test tells and asks.

mod content;
mod file;
mod machine;
mod state;
#[cfg(test)]
mod tests;

pub use machine::{Fails, SimulatedMachine};
