//! [`EncodeValue`] and [`DecodeValue`]: what can be the value of a typed table.

use bytes::Bytes;

/// Something that can be put as a value. `V` is the type as which it is stored: `String` for `str`,
/// the same type for most.
///
/// ```
/// use thunderhead::{Store, typed::{DecodeValue, EncodeValue, Table}};
///
/// #[derive(Debug, PartialEq)]
/// struct Point {
///     x: i32,
///     y: i32,
/// }
///
/// impl EncodeValue for Point {
///     fn append_value(&self, out: &mut Vec<u8>) {
///         self.x.append_value(out);
///         self.y.append_value(out);
///     }
/// }
///
/// impl DecodeValue for Point {
///     fn type_name() -> String {
///         "Point".to_owned()
///     }
///
///     fn read_value(bytes: &[u8]) -> Option<Self> {
///         let (x, y) = bytes.split_at_checked(4)?;
///         Some(Self { x: i32::read_value(x)?, y: i32::read_value(y)? })
///     }
/// }
///
/// const CORNERS: Table<u8, Point> = Table::new("corners");
///
/// let store = Store::in_memory()?;
/// let corners = CORNERS.of(&store).wait()?;
/// corners.put(&0, &Point { x: 3, y: -4 }).wait()?;
/// assert_eq!(corners.get(&0).wait()?, Some(Point { x: 3, y: -4 }));
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub trait EncodeValue<V = Self> {
    /// Appends the bytes of the value.
    fn append_value(&self, out: &mut Vec<u8>);
}

/// Something that can be stored as a value, and read back.
/// [`EncodeValue`] has an example.
pub trait DecodeValue: EncodeValue<Self> + Sized {
    /// What a table notes of the type of its values, to refuse others: the same name, the same
    /// bytes.
    fn type_name() -> String;

    /// Reads a value. `None` if that is not what the bytes are.
    fn read_value(bytes: &[u8]) -> Option<Self>;
}

impl<V, W: EncodeValue<V> + ?Sized> EncodeValue<V> for &W {
    fn append_value(&self, out: &mut Vec<u8>) {
        (**self).append_value(out);
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl EncodeValue for $type {
            fn append_value(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }

        impl DecodeValue for $type {
            fn type_name() -> String {
                stringify!($type).into()
            }

            fn read_value(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 }

/// What is stored as the bytes that it is.
macro_rules! bytes {
    ($($type:ty as $stored:ty,)*) => {$(
        impl EncodeValue<$stored> for $type {
            fn append_value(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_ref());
            }
        }
    )*};
}

bytes! {
    [u8] as Vec<u8>,
    Vec<u8> as Vec<u8>,
    Bytes as Bytes,
    str as String,
    String as String,
}

impl<const N: usize> EncodeValue for [u8; N] {
    fn append_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> DecodeValue for [u8; N] {
    fn type_name() -> String {
        format!("[u8; {N}]")
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

impl DecodeValue for Vec<u8> {
    fn type_name() -> String {
        "bytes".into()
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl DecodeValue for Bytes {
    fn type_name() -> String {
        "bytes".into()
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        Some(Self::copy_from_slice(bytes))
    }
}

impl DecodeValue for String {
    fn type_name() -> String {
        "string".into()
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        Some(std::str::from_utf8(bytes).ok()?.to_owned())
    }
}

impl EncodeValue for bool {
    fn append_value(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl DecodeValue for bool {
    fn type_name() -> String {
        "bool".into()
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl EncodeValue for () {
    fn append_value(&self, _: &mut Vec<u8>) {}
}

impl DecodeValue for () {
    fn type_name() -> String {
        "()".into()
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}
