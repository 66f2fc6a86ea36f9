//! [`LockMode`]: what a lock excludes.

use std::fmt;

/// What a range lock excludes.
/// [`Store::lock`](crate::Store::lock) has an example.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LockMode {
    /// Others may share the range; nobody else may write to it.
    Shared,
    /// Nobody else may lock the range or write to it.
    Exclusive,
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shared => "shared",
            Self::Exclusive => "exclusive",
        })
    }
}
