//! [`Value`]: the bytes of a value, owned by whoever reads them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// A key and its value.
pub type Entry = (Vec<u8>, Value);

/// The bytes of a value. Cheap to clone and to send; keeps nothing of the store alive.
///
/// It is a slice of bytes to whoever reads it, and compares, orders and hashes as one.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("k", "value").wait()?;
/// let value = store.get("k").wait()?.unwrap_or_default();
/// assert_eq!(value, "value");
/// assert_eq!(value.len(), 5);
/// assert_eq!(&value[..3], b"val");
/// assert_eq!(std::str::from_utf8(&value), Ok("value"));
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, Default, Eq, PartialOrd, Ord, Hash)]
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

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Value> for Bytes {
    fn from(value: Value) -> Self {
        value.bytes
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.bytes.into()
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
