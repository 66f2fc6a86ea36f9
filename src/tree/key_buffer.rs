//! A key that is put together again and again: the buffer from which cursors lend their keys.
//!
//! Keys stand in pages in three parts: the page's prefix, the head in the table, the rest in the
//! record. Behind the key there is always room for a copy of constant length, so that the rest of
//! most keys is copied by a few instructions and not by a call.

use std::ops::Range;

use smallvec::{SmallVec, smallvec};

/// Rests up to this length are copied as if they had it.
const REST_BYTES: usize = 32;
/// The same for prefixes.
const PREFIX_BYTES: usize = 16;

/// See the module.
#[derive(Clone)]
pub(crate) struct KeyBuffer {
    /// At least [`REST_BYTES`] longer than the key.
    bytes: SmallVec<[u8; 80]>,
    length: usize,
}

impl KeyBuffer {
    /// The empty key.
    pub(crate) fn new() -> Self {
        Self {
            bytes: smallvec![0; 80],
            length: 0,
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    #[inline]
    fn make_room(&mut self, length: usize) {
        if self.bytes.len() < length + REST_BYTES {
            self.grow(length);
        }
    }

    #[cold]
    fn grow(&mut self, length: usize) {
        self.bytes.resize(2 * length + REST_BYTES, 0);
    }

    /// Makes it this key.
    #[inline]
    pub(crate) fn set(&mut self, key: &[u8]) {
        self.make_room(key.len());
        self.bytes[..key.len()].copy_from_slice(key);
        self.length = key.len();
    }

    /// Makes it a key of a page: the prefix, as much of the head as the key has, and of the bytes
    /// from `rest` on what is left of the key. `length` counts the key after the prefix.
    #[inline]
    pub(crate) fn join(
        &mut self,
        page: &[u8],
        prefix: Range<usize>,
        head: [u8; 4],
        rest: usize,
        length: usize,
    ) {
        let prefix_length = prefix.len();
        let rest_at = prefix_length + head.len();
        let rest_bytes = length.saturating_sub(head.len());
        self.make_room(rest_at + rest_bytes);
        let bytes = &mut self.bytes[..];
        match page[prefix.start..].first_chunk::<PREFIX_BYTES>() {
            Some(from) if prefix_length <= PREFIX_BYTES => {
                bytes[..PREFIX_BYTES].copy_from_slice(from);
            }
            _ => bytes[..prefix_length].copy_from_slice(&page[prefix]),
        }
        bytes[prefix_length..rest_at].copy_from_slice(&head);
        let bytes = &mut bytes[rest_at..];
        match page[rest..].first_chunk::<REST_BYTES>() {
            Some(from) if rest_bytes <= REST_BYTES => bytes[..REST_BYTES].copy_from_slice(from),
            _ => bytes[..rest_bytes].copy_from_slice(&page[rest..rest + rest_bytes]),
        }
        self.length = prefix_length + length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_are_joined_from_their_parts() {
        let page: Vec<u8> = (0..=255).collect();
        let mut buffer = KeyBuffer::new();
        for prefix in [
            0..0,
            0..1,
            3..18,
            3..19,
            3..20,
            100..200,
            255..256,
            256..256,
        ] {
            for length in (0..200usize).chain([3, 0]) {
                let rest_bytes = length.saturating_sub(4);
                for rest in [0, 30, 256 - rest_bytes] {
                    if rest + rest_bytes > page.len() {
                        continue;
                    }
                    buffer.join(&page, prefix.clone(), *b"head", rest, length);
                    let mut expected = page[prefix.clone()].to_vec();
                    expected.extend_from_slice(&b"head"[..length.min(4)]);
                    expected.extend_from_slice(&page[rest..rest + rest_bytes]);
                    assert_eq!(buffer.as_slice(), expected, "{length} at {rest}");
                }
            }
        }
        buffer.set(&[]);
        assert_eq!(buffer.as_slice(), b"");
        buffer.set(&page);
        assert_eq!(buffer.as_slice(), page);
    }
}
