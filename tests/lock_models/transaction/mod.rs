//! The lock table as it is in the library, over another `sync`.

pub mod locks;
pub mod sync;
