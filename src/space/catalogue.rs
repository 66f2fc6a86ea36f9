//! How the system tree stores what is known about space: the keys, and pending items as bytes.
//!
//! Maps, blocks of the summary and pending items stand there in pieces; [`crate::format::space`] has
//! the bytes. A piece has at most as many bytes as a leaf keeps inline: pieces are never off-tree
//! values, so that finding space takes none. Checkpoints write the catalogue, opening, the loading of
//! maps and `verify` read it.
//!
//! Old pieces are overwritten or deleted **one by one, never by a range delete**: a flush under a
//! range delete drops whole subtrees, which then are pending, but the checkpoint that writes this
//! catalogue has listed what is pending already. After a crash they would have leaked.

use std::ops::RangeInclusive;

use super::recycle::{Dropped, PendingItem};
use crate::error::{Error, Result};
use crate::format::bytes::read_u64;
use crate::format::{Birth, PagePointer};

const SEGMENT: u8 = 1;
const SUMMARY: u8 = 2;
const PENDING: u8 = 3;
/// The first kind that does not tell of space.
pub(crate) const KINDS_END: u8 = 4;

const SUBTREE: u8 = 1;
const VALUE: u8 = 2;
const ITEM_HEADER_BYTES: usize = 25;

/// The longest payload of a value: more than any version of the format needs.
const VALUE_PAYLOAD_BYTES_MAX: usize = 256;

/// A range of keys: the first, and the first one past it.
pub(crate) type KeyRange = (Vec<u8>, Vec<u8>);

/// What a key of the catalogue names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CatalogueKey {
    /// A piece of the map of a segment.
    Segment { segment: u32, piece: u32 },
    /// A piece of a block of the summary.
    Summary { block: u32, piece: u32 },
    /// A piece of a pending item.
    Pending { number: u64, piece: u32 },
}

fn key(kind: u8, number: &[u8], piece: u32) -> Vec<u8> {
    [&[kind], number, &piece.to_be_bytes()].concat()
}

/// All pieces of the things of a kind that have numbers within some bounds.
fn range(kind: u8, numbers: RangeInclusive<&[u8]>) -> KeyRange {
    let low = key(kind, numbers.start(), 0);
    let mut end = key(kind, numbers.end(), u32::MAX);
    // No key is longer, so this is the next one there can be.
    end.push(0);
    (low, end)
}

/// The key of a piece of the map of a segment.
pub(crate) fn segment_key(segment: u32, piece: u32) -> Vec<u8> {
    key(SEGMENT, &segment.to_be_bytes(), piece)
}

/// All pieces of the map of a segment.
pub(crate) fn segment_range(segment: u32) -> KeyRange {
    let number = segment.to_be_bytes();
    range(SEGMENT, &number..=&number)
}

/// All pieces of all maps.
pub(crate) fn segments_range() -> KeyRange {
    range(SEGMENT, &[0; 4]..=&[0xff; 4])
}

/// The key of a piece of a block of the summary.
pub(crate) fn summary_key(block: u32, piece: u32) -> Vec<u8> {
    key(SUMMARY, &block.to_be_bytes(), piece)
}

/// All pieces of a block of the summary.
pub(crate) fn summary_range(block: u32) -> KeyRange {
    let number = block.to_be_bytes();
    range(SUMMARY, &number..=&number)
}

/// The key of a piece of a pending item. Numbers only serve to tell items apart.
pub(crate) fn pending_key(number: u64, piece: u32) -> Vec<u8> {
    key(PENDING, &number.to_be_bytes(), piece)
}

/// All pieces of all pending items.
pub(crate) fn all_pending_range() -> KeyRange {
    range(PENDING, &[0; 8]..=&[0xff; 8])
}

/// What a key names; `None` if it is not a key of this catalogue.
pub(crate) fn parse_key(key: &[u8]) -> Option<CatalogueKey> {
    let (&kind, rest) = key.split_first()?;
    let (number, piece) = rest.split_at_checked(rest.len().checked_sub(4)?)?;
    let piece = u32::from_be_bytes(piece.try_into().ok()?);
    Some(match kind {
        SEGMENT => CatalogueKey::Segment {
            segment: u32::from_be_bytes(number.try_into().ok()?),
            piece,
        },
        SUMMARY => CatalogueKey::Summary {
            block: u32::from_be_bytes(number.try_into().ok()?),
            piece,
        },
        PENDING => CatalogueKey::Pending {
            number: u64::from_be_bytes(number.try_into().ok()?),
            piece,
        },
        _ => return None,
    })
}

/// Cuts something into numbered pieces of at most `bytes_max` bytes (`Settings::inline_bytes_max`).
pub(crate) fn pieces(bytes: &[u8], bytes_max: u32) -> impl Iterator<Item = (u32, &[u8])> {
    (0..).zip(bytes.chunks(bytes_max.max(1) as usize))
}

/// A pending item as bytes, to be cut into pieces. `None` for an extent, which is never pending.
pub(crate) fn encode_pending(pending: &PendingItem) -> Option<Vec<u8>> {
    let (kind, rest) = match &pending.item {
        Dropped::Extent(_) => return None,
        Dropped::Subtree(pointer) => (SUBTREE, pointer.to_bytes().to_vec()),
        Dropped::Value(payload) => (VALUE, payload.clone()),
    };
    let mut out = vec![kind];
    out.extend_from_slice(&pending.birth.0.to_le_bytes());
    out.extend_from_slice(&pending.dropped_at.0.to_le_bytes());
    out.extend_from_slice(&pending.line.to_le_bytes());
    out.extend_from_slice(&rest);
    Some(out)
}

/// Decodes a pending item that may be damaged. What it points to is checked when it is read.
pub(crate) fn decode_pending(bytes: &[u8]) -> Result<PendingItem> {
    let decode = || {
        let birth = Birth(read_u64(bytes, 1)?);
        let dropped_at = Birth(read_u64(bytes, 9)?);
        let line = read_u64(bytes, 17)?;
        let rest = bytes.get(ITEM_HEADER_BYTES..)?;
        let item = match *bytes.first()? {
            SUBTREE => {
                let pointer = PagePointer::from_bytes(rest.try_into().ok()?);
                if pointer.is_nothing() {
                    return None;
                }
                Dropped::Subtree(pointer)
            }
            VALUE if rest.len() <= VALUE_PAYLOAD_BYTES_MAX => Dropped::Value(rest.to_vec()),
            _ => return None,
        };
        Some(PendingItem {
            item,
            birth,
            dropped_at,
            line,
            // Nothing is being read that began before the store was opened.
            free_from: dropped_at,
        })
    };
    decode().ok_or_else(|| Error::corrupt("a pending item of the system tree is malformed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Address;

    #[test]
    fn keys_sort_by_number_then_piece_and_stay_within_their_ranges() {
        let mut keys = Vec::new();
        for number in [0u32, 1, 255, 256, u32::MAX] {
            for piece in [0, 1, 255, 256, u32::MAX] {
                let key = segment_key(number, piece);
                let (low, end) = segment_range(number);
                assert!(low <= key && key < end);
                let (low, end) = segments_range();
                assert!(low <= key && key < end);
                let parsed = CatalogueKey::Segment {
                    segment: number,
                    piece,
                };
                assert_eq!(parse_key(&key), Some(parsed));
                keys.push(key);
            }
        }
        keys.push(summary_key(0, 0));
        keys.push(summary_key(u32::MAX, 7));
        keys.push(pending_key(0, 0));
        keys.push(pending_key(u64::MAX, 3));
        assert!(keys.is_sorted());
        let (low, end) = all_pending_range();
        assert!(
            keys[keys.len() - 2..]
                .iter()
                .all(|key| low <= *key && *key < end)
        );
        assert!(keys[..keys.len() - 2].iter().all(|key| *key < low));
        for key in [&[][..], &[1], &[4; 9], &[1; 10], &[3; 9]] {
            assert_eq!(parse_key(key), None);
        }
    }

    #[test]
    fn pending_items_round_trip() {
        let pointer = PagePointer {
            address: Address::new(3, 512),
            length: 100,
            birth: Birth(4),
            ..PagePointer::NOTHING
        };
        for item in [Dropped::Subtree(pointer), Dropped::Value(vec![7; 48])] {
            let pending = PendingItem {
                item,
                birth: Birth(4),
                dropped_at: Birth(9),
                line: 3,
                free_from: Birth(9),
            };
            let bytes = encode_pending(&pending).unwrap();
            let cut: Vec<_> = pieces(&bytes, 16).collect();
            assert!(cut.iter().map(|(piece, _)| *piece).eq(0..cut.len() as u32));
            assert!(cut.iter().all(|(_, piece)| piece.len() <= 16));
            let joined: Vec<u8> = cut.iter().flat_map(|(_, piece)| piece.to_vec()).collect();
            assert_eq!(decode_pending(&joined).unwrap(), pending);
            if matches!(pending.item, Dropped::Subtree(_)) {
                assert!(decode_pending(&bytes[..bytes.len() - 1]).is_err());
            }
        }
    }

    #[test]
    fn hostile_pending_items_are_refused_or_decode() {
        for seed in 0..5000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = vec![0; *random.choice(&[0, 1, 24, 25, 73, 89, 90, 300]).unwrap()];
            random.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first %= 4;
            }
            if let Ok(pending) = decode_pending(&bytes) {
                assert_eq!(encode_pending(&pending).unwrap(), bytes, "seed {seed}");
            }
        }
    }
}
