//! Little-endian integers and variable-length integers, read from bytes that may be damaged.

/// Reads a `u16` at an offset, if it is there.
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a `u32` at an offset, if it is there.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Reads a `u64` at an offset, if it is there.
pub(crate) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The largest number of bytes that [`put_varint`] writes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Appends an integer in groups of seven bits, lowest first, the top bit set on all but the last.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let (varint, bytes) = varint(value);
    out.extend_from_slice(&varint[..bytes]);
}

/// The bytes that [`put_varint`] writes, and how many of them there are.
#[inline]
pub(crate) fn varint(mut value: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let mut varint = [0; VARINT_BYTES_MAX];
    let mut last = 0;
    while value >= 0x80 {
        varint[last] = value as u8 | 0x80;
        value >>= 7;
        last += 1;
    }
    varint[last] = value as u8;
    (varint, last + 1)
}

/// The number of bytes that [`put_varint`] writes for a value.
pub(crate) const fn varint_bytes(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads what [`put_varint`] wrote: the value and the number of bytes it takes.
/// `None` if it is cut short or does not fit 64 bits.
#[inline]
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((first as u64, 1));
    }
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let shift = 7 * index as u32;
        let part = (byte & 0x7f) as u64;
        if shift == 63 && part > 1 {
            return None;
        }
        value |= part << shift;
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_refuse_overflow() {
        for shift in 0..64 {
            for value in [(1u64 << shift) - 1, 1u64 << shift, (1u64 << shift) + 1] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_bytes(value));
                assert_eq!(read_varint(&out), Some((value, out.len())));
                assert_eq!(read_varint(&out[..out.len() - 1]), None);
            }
        }
        assert_eq!(read_varint(&[0xff; 10]), None);
    }
}
