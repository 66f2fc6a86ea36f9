//! The 64 bytes by which a page is named, found, verified and summed up without reading it.

use super::address::{Address, Birth, Extent, SequenceNumber, StoreId};
use crate::error::{Error, Result};

/// The bytes of an encoded [`PagePointer`].
pub const POINTER_BYTES: usize = 64;

/// In the count of unresolved operations.
const DELETES_RANGES: u64 = 1 << 63;

/// Names a page: where it is, what its bytes must add up to, and what stands below it.
///
/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 8 | address: segment in the upper 32 bits, byte offset in the lower |
/// | 8 | 4 | length in bytes, not rounded to sectors; 0 in a pointer to nothing |
/// | 12 | 4 | CRC-32 of the page, seeded (see [`page_checksum`]) |
/// | 16 | 8 | birth |
/// | 24 | 8 | newest sequence applied or pending in or below the page |
/// | 32 | 8 | entries settled in the leaves below; operations, in a slice |
/// | 40 | 8 | operations below whose effect on the number of entries is unknown; the highest bit says that ranges may be deleted among them |
/// | 48 | 8 | bytes of the pages in and below |
/// | 56 | 8 | bytes of off-tree values below |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PagePointer {
    /// Where the page is.
    pub address: Address,
    /// The length of the page in bytes.
    pub length: u32,
    /// The checksum of the page.
    pub checksum: u32,
    /// The generation that wrote the page.
    pub birth: Birth,
    /// The highest sequence applied or pending in or below the page, deletions included.
    pub newest: SequenceNumber,
    /// Entries settled in the leaves below; operations, in a slice.
    pub entries: u64,
    /// Operations below whose effect on the number of entries is unknown, fewer than 2^63.
    pub unresolved: u64,
    /// Whether these may delete ranges: then nobody knows how many entries one takes away.
    pub deletes_ranges: bool,
    /// Bytes of the pages in and below.
    pub bytes: u64,
    /// Bytes of off-tree values below; of those that are pending, as often as a slice names them.
    pub off_tree_bytes: u64,
}

impl PagePointer {
    /// A pointer to nothing: the root of an empty tree.
    pub const NOTHING: Self = Self {
        address: Address::new(0, 0),
        length: 0,
        checksum: 0,
        birth: Birth(0),
        newest: SequenceNumber(0),
        entries: 0,
        unresolved: 0,
        deletes_ranges: false,
        bytes: 0,
        off_tree_bytes: 0,
    };

    /// Whether it points to nothing.
    pub const fn is_nothing(&self) -> bool {
        self.length == 0
    }

    /// The bytes of the page.
    pub const fn extent(&self) -> Extent {
        Extent::new(self.address, self.length)
    }

    /// Encodes the pointer.
    pub fn to_bytes(&self) -> [u8; POINTER_BYTES] {
        let mut out = [0; POINTER_BYTES];
        out[0..8].copy_from_slice(&self.address.to_bits().to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12..16].copy_from_slice(&self.checksum.to_le_bytes());
        out[16..24].copy_from_slice(&self.birth.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.newest.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.entries.to_le_bytes());
        let flag = if self.deletes_ranges {
            DELETES_RANGES
        } else {
            0
        };
        let unresolved = self.unresolved.min(DELETES_RANGES - 1) | flag;
        out[40..48].copy_from_slice(&unresolved.to_le_bytes());
        out[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        out[56..64].copy_from_slice(&self.off_tree_bytes.to_le_bytes());
        out
    }

    /// Decodes a pointer. Every pattern of bytes decodes; the checksum of the page that holds the
    /// pointer is what vouches for it.
    #[inline]
    pub fn from_bytes(bytes: &[u8; POINTER_BYTES]) -> Self {
        let word = |at: usize| {
            u64::from_le_bytes(
                *bytes[at..]
                    .first_chunk()
                    .expect("eight bytes within sixty-four"),
            )
        };
        Self {
            address: Address::from_bits(word(0)),
            length: word(8) as u32,
            checksum: (word(8) >> 32) as u32,
            birth: Birth(word(16)),
            newest: SequenceNumber(word(24)),
            entries: word(32),
            unresolved: word(40) & !DELETES_RANGES,
            deletes_ranges: word(40) & DELETES_RANGES != 0,
            bytes: word(48),
            off_tree_bytes: word(56),
        }
    }

    /// Decodes the address and the birth only.
    #[inline]
    pub(crate) fn place_from_bytes(bytes: &[u8; POINTER_BYTES]) -> (Address, Birth) {
        let pointer = Self::from_bytes(bytes);
        (pointer.address, pointer.birth)
    }

    /// Checks that `page` is the page this pointer names.
    pub(crate) fn verify(&self, store: StoreId, page: &[u8]) -> Result<()> {
        if page.len() != self.length as usize {
            return Err(Error::corrupt_at(
                self.extent(),
                "the page has another length",
            ));
        }
        if page_checksum(store, self.address, self.birth, page) != self.checksum {
            return Err(Error::corrupt_at(
                self.extent(),
                "the page's checksum does not match",
            ));
        }
        Ok(())
    }
}

/// CRC-32 (IEEE) over the store's id, the address, the birth and the page, in this order, the
/// numbers little-endian: a page that was misdirected, is stale or belongs to another store never
/// verifies.
pub fn page_checksum(store: StoreId, address: Address, birth: Birth, page: &[u8]) -> u32 {
    let mut seed = [0u8; 32];
    seed[0..16].copy_from_slice(&store.0);
    seed[16..24].copy_from_slice(&address.to_bits().to_le_bytes());
    seed[24..32].copy_from_slice(&birth.0.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed);
    hasher.update(page);
    hasher.finalize()
}

/// What the [`page_checksum`] of a page of this length would be with another birth: nothing of the page
/// is read for that, as the checksum of what follows a seed is a linear function of the seed.
pub(crate) fn page_checksum_of_birth(
    store: StoreId,
    address: Address,
    (from, to): (Birth, Birth),
    length: u32,
    checksum: u32,
) -> u32 {
    let seeds = [from, to].map(|birth| page_checksum(store, address, birth, &[]));
    let mut difference = crc32fast::Hasher::new_with_initial(seeds[0] ^ seeds[1]);
    difference.combine(&crc32fast::Hasher::new_with_initial_len(0, length.into()));
    checksum ^ difference.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_another_birth_is_found_without_the_page() {
        let store = StoreId([9; 16]);
        let births = (Birth(3), Birth(0x0123_4567_89ab));
        for length in [0, 1, 511, 512, 40_000] {
            let page: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let address = Address::new(2, 1024);
            let checksum = page_checksum(store, address, births.0, &page);
            let length = page.len() as u32;
            let other = page_checksum_of_birth(store, address, births, length, checksum);
            assert_eq!(other, page_checksum(store, address, births.1, &page));
        }
    }

    #[test]
    fn a_pointer_round_trips() {
        let pointer = PagePointer {
            address: Address::new(3, 0x1200),
            length: 77,
            checksum: 0xdead_beef,
            birth: Birth(9),
            newest: SequenceNumber(10),
            entries: 11,
            unresolved: 12,
            deletes_ranges: true,
            bytes: 13,
            off_tree_bytes: u64::MAX,
        };
        assert_eq!(PagePointer::from_bytes(&pointer.to_bytes()), pointer);
    }

    #[test]
    fn a_page_at_another_address_or_of_another_birth_does_not_verify() {
        let store = StoreId([7; 16]);
        let page = b"some page".as_slice();
        let mut pointer = PagePointer {
            address: Address::new(1, 512),
            length: page.len() as u32,
            birth: Birth(4),
            ..PagePointer::NOTHING
        };
        pointer.checksum = page_checksum(store, pointer.address, pointer.birth, page);
        pointer.verify(store, page).unwrap();
        for wrong in [
            PagePointer {
                address: Address::new(1, 1024),
                ..pointer
            },
            PagePointer {
                birth: Birth(5),
                ..pointer
            },
        ] {
            assert!(wrong.verify(store, page).is_err());
        }
        assert!(pointer.verify(StoreId([8; 16]), page).is_err());
    }
}
