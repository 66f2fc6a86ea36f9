//! Groups and links as bytes. The writer encodes them, replay decodes them; nobody else looks.
//!
//! A group is a header and a payload, without a gap. A header that decodes was written by this
//! store, for this place, in this use of the chunk. [`crate::format::log`] has the bytes.

use bytes::Bytes;

use crate::format::bytes::{read_u32, read_u64, read_varint};
use crate::format::{Address, Extent, SequenceNumber, StoreId};

/// The bytes of a group before its payload.
pub(super) const GROUP_HEADER_BYTES: usize = 52;

/// The bytes of a header that its own checksum, which comes last, is of.
const CHECKED_BYTES: usize = GROUP_HEADER_BYTES - 4;

/// The bytes of a link's payload.
pub(super) const LINK_BYTES: usize = 24;

/// How many sectors at the end of a chunk are kept for the link, one copy in each.
pub(super) const LINK_SECTORS: u32 = 2;

const MAGIC: [u8; 4] = *b"ThGr";

/// The payload holds commits.
pub(super) const KIND_COMMITS: u32 = 1;

/// The payload is a [`Link`].
pub(super) const KIND_LINK: u32 = 2;

/// The bytes of a chunk that groups may take: all but the sectors of the link.
pub(super) const fn usable_bytes(chunk_bytes: u32, sector_bytes: u32) -> u32 {
    chunk_bytes.saturating_sub(LINK_SECTORS * sector_bytes)
}

/// What precedes a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHeader {
    pub(super) kind: u32,
    pub(super) salt: u64,
    pub(super) first: SequenceNumber,
    pub(super) synced_through: SequenceNumber,
    pub(super) commits: u32,
    pub(super) payload_bytes: u32,
    pub(super) chain: u32,
    pub(super) payload_checksum: u32,
}

impl GroupHeader {
    /// Encodes the header of a group at an address: the bytes and the header checksum.
    pub(super) fn encode(&self, store: StoreId, at: Address) -> ([u8; GROUP_HEADER_BYTES], u32) {
        let mut out = [0; GROUP_HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.kind.to_le_bytes());
        out[8..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.synced_through.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.commits.to_le_bytes());
        out[36..40].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[40..44].copy_from_slice(&self.chain.to_le_bytes());
        out[44..48].copy_from_slice(&self.payload_checksum.to_le_bytes());
        let checked = out.first_chunk().expect("a part of the header");
        let checksum = header_checksum(store, at, checked);
        out[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        (out, checksum)
    }

    /// Decodes the header at the beginning of `bytes`, which stand at an address, and gives its
    /// checksum too. `None`: there is no header of this salt, or it is damaged.
    pub(super) fn decode(
        store: StoreId,
        at: Address,
        salt: u64,
        bytes: &[u8],
    ) -> Option<(Self, u32)> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        if bytes[..4] != MAGIC || read_u64(bytes, 8)? != salt {
            return None;
        }
        let checksum = read_u32(bytes, CHECKED_BYTES)?;
        if header_checksum(store, at, bytes.first_chunk()?) != checksum {
            return None;
        }
        let header = Self {
            kind: read_u32(bytes, 4)?,
            salt,
            first: SequenceNumber(read_u64(bytes, 16)?),
            synced_through: SequenceNumber(read_u64(bytes, 24)?),
            commits: read_u32(bytes, 32)?,
            payload_bytes: read_u32(bytes, 36)?,
            chain: read_u32(bytes, 40)?,
            payload_checksum: read_u32(bytes, 44)?,
        };
        Some((header, checksum))
    }
}

fn header_checksum(store: StoreId, at: Address, header: &[u8; CHECKED_BYTES]) -> u32 {
    // In one piece: short ones are added up byte by byte.
    let mut piece = [0; 16 + 8 + CHECKED_BYTES];
    piece[..16].copy_from_slice(&store.0);
    piece[16..24].copy_from_slice(&at.to_bits().to_le_bytes());
    piece[24..].copy_from_slice(header);
    crc32fast::hash(&piece)
}

/// The payload of a link: where the log goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Link {
    pub(super) chunk: Extent,
    pub(super) salt: u64,
}

impl Link {
    pub(super) fn to_bytes(self) -> [u8; LINK_BYTES] {
        let mut out = [0; LINK_BYTES];
        out[0..8].copy_from_slice(&self.chunk.address.to_bits().to_le_bytes());
        out[8..12].copy_from_slice(&self.chunk.length.to_le_bytes());
        out[16..24].copy_from_slice(&self.salt.to_le_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LINK_BYTES {
            return None;
        }
        let address = Address::from_bits(read_u64(bytes, 0)?);
        Some(Self {
            chunk: Extent::new(address, read_u32(bytes, 8)?),
            salt: read_u64(bytes, 16)?,
        })
    }
}

/// Takes the records of the next commit off a payload. `None`: malformed, or nothing is left.
pub(super) fn split_commit(payload: &mut Bytes) -> Option<Bytes> {
    let (length, taken) = read_varint(payload)?;
    let end = usize::try_from(length).ok()?.checked_add(taken)?;
    if end > payload.len() {
        return None;
    }
    let mut commit = payload.split_to(end);
    Some(commit.split_off(taken))
}

/// Whether a payload consists of exactly so many commits.
pub(super) fn holds_commits(payload: &[u8], commits: u32) -> bool {
    let mut rest = payload;
    for _ in 0..commits {
        let Some((length, taken)) = read_varint(rest) else {
            return false;
        };
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(taken));
        let Some(after) = end.and_then(|end| rest.get(end..)) else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([3; 16]);

    fn sample() -> GroupHeader {
        GroupHeader {
            kind: KIND_COMMITS,
            salt: 0x1122_3344_5566_7788,
            first: SequenceNumber(10),
            synced_through: SequenceNumber(9),
            commits: 3,
            payload_bytes: 700,
            chain: 5,
            payload_checksum: 6,
        }
    }

    #[test]
    fn a_header_round_trips_and_every_flipped_bit_is_noticed() {
        let at = Address::new(2, 1024);
        let (bytes, checksum) = sample().encode(STORE, at);
        let decoded = GroupHeader::decode(STORE, at, sample().salt, &bytes);
        assert_eq!(decoded, Some((sample(), checksum)));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHeader::decode(STORE, at, sample().salt, &bad), None);
        }
    }

    #[test]
    fn a_header_of_another_store_place_or_use_is_none() {
        let at = Address::new(2, 1024);
        let (bytes, _) = sample().encode(STORE, at);
        let salt = sample().salt;
        assert_eq!(
            GroupHeader::decode(StoreId([4; 16]), at, salt, &bytes),
            None
        );
        assert_eq!(GroupHeader::decode(STORE, at.plus(512), salt, &bytes), None);
        assert_eq!(GroupHeader::decode(STORE, at, salt + 1, &bytes), None);
    }

    #[test]
    fn payloads_that_do_not_hold_what_they_claim_are_refused() {
        assert!(holds_commits(&[2, 9, 9, 0], 2));
        assert!(!holds_commits(&[2, 9, 9, 0], 1));
        assert!(!holds_commits(&[2, 9, 9, 0], 3));
        assert!(!holds_commits(&[3, 9, 9], 1));
        assert!(!holds_commits(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            1
        ));
        let mut payload = Bytes::from_static(&[2, 8, 9, 0]);
        assert_eq!(split_commit(&mut payload).unwrap(), [8, 9].as_slice());
        assert_eq!(split_commit(&mut payload).unwrap(), [].as_slice());
        assert_eq!(split_commit(&mut payload), None);
    }
}
