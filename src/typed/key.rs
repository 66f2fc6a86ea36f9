//! [`EncodeKey`] and [`DecodeKey`]: what can be a key, in an order of its own.
//!
//! Two forms of the same key: *delimited*, where more may follow, and *last*, where nothing does.
//! They differ only for what has no fixed length.

use crate::error::{Error, Result};

/// Something that can be looked up as a key.
///
/// `K` is the type as which it is stored: `String` for `str`, the same type for most.
///
/// Encoded keys compare as the values do, delimited ones also when anything follows them. No
/// delimited encoding is the beginning of another one of the same type.
///
/// ```
/// use thunderhead::typed::{DecodeKey, EncodeKey, decode_key, encode_key};
///
/// /// Ordered by year, then by month.
/// #[derive(Debug, PartialEq)]
/// struct Month {
///     year: i32,
///     month: u8,
/// }
///
/// impl EncodeKey for Month {
///     fn append_delimited(&self, out: &mut Vec<u8>) {
///         (self.year, self.month).append_delimited(out);
///     }
/// }
///
/// impl DecodeKey for Month {
///     fn type_name() -> String {
///         "Month".to_owned()
///     }
///
///     fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
///         let (year, month) = <(i32, u8)>::take_delimited(bytes)?;
///         Some(Self { year, month })
///     }
/// }
///
/// let (may, june) = (Month { year: 2026, month: 5 }, Month { year: 2026, month: 6 });
/// assert!(encode_key(&may) < encode_key(&june));
/// assert_eq!(decode_key::<Month>(&encode_key(&may))?, may);
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub trait EncodeKey<K = Self> {
    /// Appends the key in the form that more may follow.
    fn append_delimited(&self, out: &mut Vec<u8>);

    /// Appends the key in the form that nothing follows.
    fn append_last(&self, out: &mut Vec<u8>) {
        self.append_delimited(out);
    }
}

/// Something that can be stored as a key, and read back.
/// [`EncodeKey`] has an example.
pub trait DecodeKey: EncodeKey<Self> + Sized {
    /// What a table notes of the type of its keys, to refuse others: the same name, the same bytes.
    fn type_name() -> String;

    /// Takes a delimited key from the front. `None` if that is not what the bytes begin with.
    fn take_delimited(bytes: &mut &[u8]) -> Option<Self>;

    /// Reads a key that nothing follows. `None` if that is not what the bytes are.
    fn read_last(mut bytes: &[u8]) -> Option<Self> {
        Self::take_delimited(&mut bytes).filter(|_| bytes.is_empty())
    }
}

/// The bytes of a key. O(length).
///
/// ```
/// use thunderhead::typed::{decode_key, encode_key};
///
/// let earlier = encode_key(&("berlin", -5i32));
/// let later = encode_key(&("berlin", 3i32));
/// assert!(earlier < later);
/// assert_eq!(decode_key::<(String, i32)>(&later)?, ("berlin".to_owned(), 3));
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub fn encode_key<K, Q: EncodeKey<K> + ?Sized>(key: &Q) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.append_last(&mut bytes);
    bytes
}

/// The key that bytes are. O(length). Errors: `TypeMismatch` if they are none of that type.
///
/// ```
/// use thunderhead::{ErrorKind, typed::decode_key};
///
/// assert_eq!(decode_key::<u16>(&[1, 2])?, 0x102);
/// assert_eq!(decode_key::<u16>(&[1]).unwrap_err().kind(), ErrorKind::TypeMismatch);
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub fn decode_key<K: DecodeKey>(bytes: &[u8]) -> Result<K> {
    K::read_last(bytes).ok_or_else(|| {
        Error::type_mismatch(format!(
            "a key of {} bytes is not a {}",
            bytes.len(),
            K::type_name()
        ))
    })
}

/// What all keys begin with whose first parts are these: for [`Prefix`](crate::Prefix).
///
/// ```
/// use thunderhead::{Prefix, Store, typed::{encode_key, prefix_of}};
///
/// let store = Store::in_memory()?;
/// for (city, day) in [("bern", 1u32), ("bern", 2), ("berne", 1)] {
///     store.put(encode_key(&(city, day)), "…").wait()?;
/// }
/// assert_eq!(store.count(Prefix(prefix_of(&("bern",)))).wait()?, 2);
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub fn prefix_of<K, Q: EncodeKey<K> + ?Sized>(first_parts: &Q) -> Vec<u8> {
    let mut bytes = Vec::new();
    first_parts.append_delimited(&mut bytes);
    bytes
}

impl<K, Q: EncodeKey<K> + ?Sized> EncodeKey<K> for &Q {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        (**self).append_delimited(out);
    }

    fn append_last(&self, out: &mut Vec<u8>) {
        (**self).append_last(out);
    }
}
