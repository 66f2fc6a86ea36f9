//! Looking into a store without changing it.
//!
//! [`verify`](verify::verify) reads everything that a root reaches and says what is wrong with it,
//! also in a file that was damaged, or made by somebody hostile. It believes nothing that it has
//! not checked, reads from the disk and not from the cache, and writes nothing.
//!
//! * [`Finding`]: one thing that was found, how bad it is, and where.
//! * [`Summary`]: what the store consists of.
//! * [`Event`]: what the caller sees while it lasts; answering with a break ends it.

mod node;
mod report;
mod space;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod verify;
mod walk;

pub use report::{Event, Finding, Severity, Summary, TreeSummary};
