//! [`Value`]: the bytes of a value, owned by whoever reads them.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
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
///
/// What a range gives may be a reference to another key instead; then the bytes are that key:
/// [`kind`](Self::kind) tells.
#[derive(Clone, Default)]
pub struct Value {
    bytes: Bytes,
    names: Names,
}

/// What the bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Names {
    #[default]
    Nothing,
    KeyInView,
    KeyOutside,
}

/// Whether something is a value or a reference: see
/// [`Store::put_reference`](crate::Store::put_reference).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueKind<'v> {
    /// The bytes of a value.
    Bytes(&'v [u8]),
    /// A reference to this key of the view that is read.
    Reference(&'v [u8]),
    /// A reference that leaves the view that is read. The key is one of the whole store; it is not
    /// followed.
    ReferenceOutside(&'v [u8]),
}

impl<'v> ValueKind<'v> {
    /// A reference to a key of the whole store, as it is seen in a view with this prefix.
    pub(super) fn reference(target: &'v [u8], view: &[u8]) -> Self {
        match target.strip_prefix(view) {
            Some(key) => Self::Reference(key),
            None => Self::ReferenceOutside(target),
        }
    }

    /// The bytes of the value, or of the key that it names.
    pub(super) fn bytes(self) -> &'v [u8] {
        match self {
            Self::Bytes(bytes) | Self::Reference(bytes) | Self::ReferenceOutside(bytes) => bytes,
        }
    }
}

impl Value {
    pub(crate) fn new(bytes: Bytes) -> Self {
        let names = Names::Nothing;
        Self { bytes, names }
    }

    #[inline]
    pub(super) fn copied(bytes: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(bytes))
    }

    /// The same, owned.
    pub(super) fn of(kind: ValueKind<'_>) -> Self {
        let names = match kind {
            ValueKind::Bytes(_) => Names::Nothing,
            ValueKind::Reference(_) => Names::KeyInView,
            ValueKind::ReferenceOutside(_) => Names::KeyOutside,
        };
        let bytes = Bytes::copy_from_slice(kind.bytes());
        Self { bytes, names }
    }

    /// Whether these are the bytes of a value, or of a key to which there is a reference. Only what
    /// a range gives that does not follow can be the latter.
    ///
    /// ```
    /// use thunderhead::ValueKind;
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("2026/report", "…").wait()?;
    /// store.put_reference("newest", "2026/report").wait()?;
    /// let (_, value) = store.last().wait()?.unwrap();
    /// assert_eq!(value.kind(), ValueKind::Reference(b"2026/report"));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn kind(&self) -> ValueKind<'_> {
        match self.names {
            Names::Nothing => ValueKind::Bytes(&self.bytes),
            Names::KeyInView => ValueKind::Reference(&self.bytes),
            Names::KeyOutside => ValueKind::ReferenceOutside(&self.bytes),
        }
    }

    /// The bytes, shared: nothing is copied.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes, copied. `Vec::from` takes them without a copy where nobody shares them.
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

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}
