//! Looking into a store without changing it.
//!
//! [`Store::verify`](crate::Store::verify) and [`verify_file`] read everything that a root reaches and say what is wrong with it,
//! also in a file that was damaged, or made by somebody hostile. They believe nothing that was not
//! checked, read from the disk and not from the cache, and write nothing. References that lead to no
//! value are told, too, as notes: nothing is wrong with the file then.
//!
//! * [`Finding`]: one thing that was found, how bad it is, and where.
//! * [`Summary`]: what the store consists of.
//! * [`Event`]: what the caller sees while it lasts; answering with a break ends it.

mod clones;
mod kept;
mod names;
mod node;
mod references;
mod report;
mod space;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod verify;
mod walk;

pub use crate::store::{verify_disk, verify_file};
pub use report::{Event, Finding, Severity, Summary, TreeSummary};
