//! Typed keys and values: order-preserving encoders, and tables over them.
//!
//! Keys of a store are bytes and compare as bytes. The encoders here turn what programs have into
//! bytes that compare the same way, so that a range of values is a range of keys:
//!
//! | type | bytes |
//! | --- | --- |
//! | `u8` to `u128`, `bool`, `char` | big-endian; `bool` and `u8` take one byte, `char` four |
//! | `i8` to `i128` | big-endian, the sign bit flipped |
//! | `f32`, `f64` | big-endian; positive: the sign bit flipped, negative: all bits; ordered as by [`f64::total_cmp`] |
//! | `[u8; N]`, such as ids of 16 bytes | as they are |
//! | `String`, `str`, `Vec<u8>`, `[u8]` | as they are at the end of a key; before other parts, `00` becomes `00 FF`, and `00 00` ends them |
//! | `Option<T>` | `00` for none, which comes first; `01` and the value |
//! | `()` | nothing |
//! | tuples of up to eight | their parts, one after the other |
//!
//! A part of a tuple can be left out at its end to get a prefix of all keys that begin so: see
//! [`prefix_of`]. Where a type of one's own is to be a key, [`EncodeKey`] and [`DecodeKey`] are
//! implemented for it, usually by way of a tuple.
//!
//! | module | idea |
//! | --- | --- |
//! | `key` | the traits of keys, and what of theirs is a range or a prefix |
//! | `numbers`, `strings`, `composite` | the encoders |
//! | `value` | the traits of values, and the encoders that need no order |
//! | `table` | rows of two types in a subtree |
//! | `with_serde` | with the feature `serde`: whatever serde knows, as a value |

mod composite;
mod key;
mod numbers;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod value;
#[cfg(feature = "serde")]
mod with_serde;

pub use key::{DecodeKey, EncodeKey, decode_key, encode_key, prefix_of};
pub use table::{Rows, Table, TypedRange};
pub use value::{DecodeValue, EncodeValue};
#[cfg(feature = "serde")]
pub use with_serde::Serde;
