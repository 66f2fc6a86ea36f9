//! Operations and stored values as bytes: the same in the commit log, in journals and in leaves.
//!
//! Commits and transactions write [`Record`]s, the journal and recovery read them. [`Tag`] says what an
//! operation does; pages keep the tag and the payload beside their own, shortened keys.
//! [`crate::format::records`] has the bytes.

use bytes::BufMut;

use super::bytes::{VARINT_BYTES_MAX, read_varint, varint, varint_bytes};
use crate::error::{Error, Result};

/// The tree that holds what users put.
pub(crate) const USER_TREE: u64 = 0;

/// The tree that holds what the store notes for itself. Of it only names of snapshots go through the
/// log: see [`crate::format::versions`].
pub(crate) const SYSTEM_TREE: u64 = 1;

/// The longest key.
pub(crate) const KEY_BYTES_MAX: usize = 32 << 10;

/// What an operation does, or what kind of value a leaf holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub(crate) enum Tag {
    /// The payload is the value.
    Inline = 1,
    /// The payload names an off-tree value: see [`crate::value`].
    OffTree = 2,
    /// The payload is the absolute key that the value stands for.
    Reference = 3,
    /// The key has no value. No payload. Not in leaves.
    Delete = 4,
    /// All keys from this key on have no value: the payload is `1` and the first key that is spared, or
    /// `0` if none is. Not in leaves.
    DeleteRange = 5,
    /// Operands to be merged into what is there, oldest first: see [`crate::tree::merge`].
    /// In a leaf: operands whose operator was not known, with the value under them.
    Merge = 6,
    /// In the log only, alone in its commit: what was committed is in the trees of a root that was
    /// published before the next commit. No key, no payload.
    Elsewhere = 7,
}

impl Tag {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Inline,
            2 => Self::OffTree,
            3 => Self::Reference,
            4 => Self::Delete,
            5 => Self::DeleteRange,
            6 => Self::Merge,
            7 => Self::Elsewhere,
            _ => return None,
        })
    }

    /// Whether the key has a value after the operation. Meaningless for [`Tag::DeleteRange`].
    pub(crate) fn is_present(self) -> bool {
        !matches!(self, Self::Delete | Self::DeleteRange | Self::Elsewhere)
    }
}

/// An operation as it stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) tag: Tag,
    pub(crate) tree: u64,
    pub(crate) key: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> Record<'a> {
    /// The bytes that [`Self::append_to`] appends.
    pub(crate) fn encoded_bytes(&self) -> usize {
        Self::bytes_of(self.tree, self.key.len(), self.payload.len())
    }

    /// The same for a key and a payload of some length.
    pub(crate) fn bytes_of(tree: u64, key: usize, payload: usize) -> usize {
        1 + varint_bytes(tree)
            + varint_bytes(key as u64)
            + varint_bytes(payload as u64)
            + key
            + payload
    }

    pub(crate) fn append_to(&self, out: &mut impl BufMut) {
        Self::append_head_to(out, self.tag, self.tree, self.key, self.payload.len());
        out.put_slice(self.payload);
    }

    /// Appends everything before the payload.
    pub(crate) fn append_head_to(
        out: &mut impl BufMut,
        tag: Tag,
        tree: u64,
        key: &[u8],
        payload_bytes: usize,
    ) {
        let mut head = [tag as u8; 1 + 3 * VARINT_BYTES_MAX];
        let mut end = 1;
        for value in [tree, key.len() as u64, payload_bytes as u64] {
            let (varint, bytes) = varint(value);
            head[end..end + VARINT_BYTES_MAX].copy_from_slice(&varint);
            end += bytes;
        }
        out.put_slice(&head[..end]);
        out.put_slice(key);
    }

    /// Reads the record that begins `bytes`: the record and the bytes it takes.
    #[inline]
    pub(crate) fn read(bytes: &'a [u8]) -> Result<(Self, usize)> {
        Self::parse(bytes).ok_or_else(|| Error::corrupt("a record of the log is malformed"))
    }

    #[inline]
    fn parse(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let tag = Tag::from_byte(*bytes.first()?)?;
        let mut at = 1;
        let mut number = || {
            let (value, taken) = read_varint(bytes.get(at..)?)?;
            at += taken;
            Some(value)
        };
        let tree = number()?;
        let key_bytes = usize::try_from(number()?).ok()?;
        let payload_bytes = usize::try_from(number()?).ok()?;
        let key_end = at.checked_add(key_bytes)?;
        let end = key_end.checked_add(payload_bytes)?;
        let key = bytes.get(at..key_end)?;
        let payload = bytes.get(key_end..end)?;
        Some((
            Self {
                tag,
                tree,
                key,
                payload,
            },
            end,
        ))
    }
}

/// The payload of a range delete: the first key that is spared, if any.
pub(crate) fn range_end_payload(end: Option<&[u8]>) -> Vec<u8> {
    match end {
        None => vec![0],
        Some(end) => {
            let mut out = Vec::with_capacity(1 + end.len());
            out.push(1);
            out.extend_from_slice(end);
            out
        }
    }
}

/// Reads what [`range_end_payload`] wrote. The outer `None`: malformed.
pub(crate) fn read_range_end(payload: &[u8]) -> Option<Option<&[u8]>> {
    match payload.split_first()? {
        (0, []) => Some(None),
        (1, end) => Some(Some(end)),
        _ => None,
    }
}

/// A hash of a key, for filters. Part of the format: see [`crate::format::journals`].
#[inline]
pub(crate) fn hash_key(key: &[u8]) -> u64 {
    const FACTOR: u128 = 0x9E37_79B9_7F4A_7C15;
    let combine = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * FACTOR;
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = (key.len() as u64).wrapping_add(0xA076_1D64_78BD_642F);
    let mut words = key.chunks_exact(8);
    for word in &mut words {
        state = combine(
            state,
            u64::from_le_bytes(*word.first_chunk().expect("eight bytes")),
        );
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        state = combine(state, u64::from_le_bytes(word));
    }
    combine(state, 0xE703_7ED1_A0B4_28DB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_and_truncated_ones_are_refused() {
        for (tag, key, payload) in [
            (Tag::Inline, b"key".as_slice(), b"value".as_slice()),
            (Tag::Delete, b"", b""),
            (Tag::DeleteRange, b"a", b"\x01b"),
        ] {
            let record = Record {
                tag,
                tree: 300,
                key,
                payload,
            };
            let mut out = Vec::new();
            record.append_to(&mut out);
            assert_eq!(out.len(), record.encoded_bytes());
            assert_eq!(Record::read(&out).unwrap(), (record, out.len()));
            for length in 0..out.len() {
                assert!(Record::read(&out[..length]).is_err());
            }
        }
    }

    #[test]
    fn the_hashes_in_the_description_of_the_format_are_right() {
        let text = include_str!("journals.md");
        for (name, key) in [
            ("(empty)", ""),
            ("`apple`", "apple"),
            ("`thunderhead`", "thunderhead"),
        ] {
            let row = format!("| {name} | `{:#018x}` |", hash_key(key.as_bytes()));
            assert!(text.contains(&row), "{row}");
        }
    }
}
