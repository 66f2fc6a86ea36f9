//! [`Value`]: the bytes of a value, owned by whoever reads them.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// The bytes of a value. Cheap to clone and to send; keeps nothing of the store alive.
#[derive(Clone, Default)]
pub struct Value {
    bytes: Bytes,
}

impl Value {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// The bytes, shared.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes, copied.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        self.bytes == other.as_ref()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}
