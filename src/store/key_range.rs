//! [`KeyRange`]: what stands for a range of keys in a call.
//!
//! `std::ops::RangeBounds` would leave open what `b"a"..b"b"` is a range of, and what `..` is: each
//! call would have to say so. Here a range is of one type of keys, and all of them are bytes.

use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use super::reader::prefix_end;

/// A range of keys: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b`, a pair of [`Bound`]s, of anything
/// that is bytes; or a [`Prefix`]. One that ends before it begins is empty.
///
/// ```
/// use thunderhead::{Prefix, Store};
///
/// let store = Store::in_memory()?;
/// let key = b"b/1".to_vec();
/// store.put(&key, "value").wait()?;
/// assert_eq!(store.range(..).count(), 1);
/// assert_eq!(store.range("a".."b").count(), 0);
/// assert_eq!(store.range(b"a"..=b"c").count(), 1);
/// assert_eq!(store.count(&key..).wait()?, 1);
/// store.delete_range(Prefix("b/")).wait()?;
/// assert!(store.is_empty().wait()?);
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub trait KeyRange {
    /// The first and the last key, or what they stand beside. Copies them.
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>);
}

/// All keys that begin with these bytes, as a [`KeyRange`].
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// use thunderhead::Prefix;
///
/// for key in ["fruit/apple", "fruit/pear", "root/carrot"] {
///     store.put(key, "…").wait()?;
/// }
/// assert_eq!(store.count(Prefix("fruit/")).wait()?, 2);
/// store.delete_range(Prefix("fruit/")).wait()?;
/// assert_eq!(store.len().wait()?, 1);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Prefix<K>(pub K);

impl<R: KeyRange + ?Sized> KeyRange for &R {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (**self).to_bounds()
    }
}

fn included<K: AsRef<[u8]>>(key: &K) -> Bound<Vec<u8>> {
    Bound::Included(key.as_ref().to_vec())
}

fn excluded<K: AsRef<[u8]>>(key: &K) -> Bound<Vec<u8>> {
    Bound::Excluded(key.as_ref().to_vec())
}

impl<K: AsRef<[u8]>> KeyRange for Prefix<K> {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (included(&self.0), prefix_end(self.0.as_ref()))
    }
}

impl KeyRange for RangeFull {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Unbounded, Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for Range<K> {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (included(&self.start), excluded(&self.end))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeInclusive<K> {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (included(self.start()), included(self.end()))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeFrom<K> {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (included(&self.start), Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeTo<K> {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Unbounded, excluded(&self.end))
    }
}

impl<K: AsRef<[u8]>> KeyRange for RangeToInclusive<K> {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (Bound::Unbounded, included(&self.end))
    }
}

impl<K: AsRef<[u8]>> KeyRange for (Bound<K>, Bound<K>) {
    fn to_bounds(&self) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        let owned = |bound: &Bound<K>| bound.as_ref().map(|key| key.as_ref().to_vec());
        (owned(&self.0), owned(&self.1))
    }
}
