//! The disk under the tree: [`DiskModel`] and the models that come with the crate.
//!
//! A store needs little of a disk: segments that can be written and read at offsets, a way to make
//! what was written durable, and one small record, the root, that changes atomically. Whoever can
//! give that, a file, memory, an object store, can be a [`DiskModel`].
//!
//! * [`FileDisk`]: one file. [`layout`] draws it byte by byte.
//! * [`MemoryDisk`]: memory, for tests and caches.
//! * `MappedDisk`, with the feature `mapped`: one file, read through maps.
//! * [`conformance`]: tests for a model of your own. `examples/custom_disk.rs` is one.
//!
//! With the feature `simulation`, outside the stable interface: `SimulatedMachine`, under a file
//! disk, fails as told; `AssertingDisk`, over any disk, panics when its user breaks the protocol.

#[cfg(any(test, feature = "simulation"))]
mod asserting;
mod blocking;
pub mod conformance;
mod file;
pub mod layout;
#[cfg(feature = "mapped")]
mod mapped;
mod memory;
mod model;
mod open_file;
mod pool;
mod raw;
#[cfg(any(test, feature = "simulation"))]
mod simulated;

#[cfg(any(test, feature = "simulation"))]
pub use asserting::{AssertingDisk, Ledger};
pub(crate) use blocking::{block_on, in_blocking_face, overlapping};
pub use file::{FileDisk, FileDiskOptions};
#[cfg(feature = "mapped")]
pub use mapped::MappedDisk;
pub use memory::MemoryDisk;
pub(crate) use model::Disk;
pub use model::{Buffer, DiskModel, DiskStatistics, Page, Properties, Release, Roots};
#[cfg(any(test, feature = "simulation"))]
pub use simulated::{Fails, SimulatedMachine};
