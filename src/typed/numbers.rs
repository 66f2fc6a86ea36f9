//! Keys of a fixed length: integers, floats, `bool`, `char`, arrays of bytes.

use super::key::{DecodeKey, EncodeKey};

/// Takes so many bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// Keys that have an unsigned integer whose order is theirs.
macro_rules! by_unsigned {
    ($($type:ty as $unsigned:ty: $to:expr, $from:expr;)*) => {$(
        impl EncodeKey for $type {
            fn append_delimited(&self, out: &mut Vec<u8>) {
                let to: fn($type) -> $unsigned = $to;
                out.extend_from_slice(&to(*self).to_be_bytes());
            }
        }

        impl DecodeKey for $type {
            fn type_name() -> String {
                stringify!($type).into()
            }

            fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
                let from: fn($unsigned) -> Option<$type> = $from;
                from(<$unsigned>::from_be_bytes(take(bytes)?))
            }
        }
    )*};
}

const fn f32_to_ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 0 {
        bits ^ (1 << 31)
    } else {
        !bits
    }
}

const fn f32_from_ordered(ordered: u32) -> f32 {
    let bits = if ordered >> 31 == 1 {
        ordered ^ (1 << 31)
    } else {
        !ordered
    };
    f32::from_bits(bits)
}

const fn f64_to_ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 0 {
        bits ^ (1 << 63)
    } else {
        !bits
    }
}

const fn f64_from_ordered(ordered: u64) -> f64 {
    let bits = if ordered >> 63 == 1 {
        ordered ^ (1 << 63)
    } else {
        !ordered
    };
    f64::from_bits(bits)
}

by_unsigned! {
    u8 as u8: |value| value, Some;
    u16 as u16: |value| value, Some;
    u32 as u32: |value| value, Some;
    u64 as u64: |value| value, Some;
    u128 as u128: |value| value, Some;
    i8 as u8: |value| value.cast_unsigned() ^ (1 << 7), |ordered| Some((ordered ^ (1 << 7)).cast_signed());
    i16 as u16: |value| value.cast_unsigned() ^ (1 << 15), |ordered| Some((ordered ^ (1 << 15)).cast_signed());
    i32 as u32: |value| value.cast_unsigned() ^ (1 << 31), |ordered| Some((ordered ^ (1 << 31)).cast_signed());
    i64 as u64: |value| value.cast_unsigned() ^ (1 << 63), |ordered| Some((ordered ^ (1 << 63)).cast_signed());
    i128 as u128: |value| value.cast_unsigned() ^ (1 << 127), |ordered| Some((ordered ^ (1 << 127)).cast_signed());
    f32 as u32: f32_to_ordered, |ordered| Some(f32_from_ordered(ordered));
    f64 as u64: f64_to_ordered, |ordered| Some(f64_from_ordered(ordered));
    bool as u8: u8::from, |ordered| match ordered {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    char as u32: u32::from, char::from_u32;
}

impl<const N: usize> EncodeKey for [u8; N] {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl<const N: usize> DecodeKey for [u8; N] {
    fn type_name() -> String {
        format!("[u8; {N}]")
    }

    fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
        take(bytes)
    }
}
