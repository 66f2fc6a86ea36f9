//! Where things stand in a file: the header, the two root slots, the segments.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 512 | header |
//! | 512 | 3584 | zero |
//! | 4096 | 512 | root slot of even versions: a [`RootRecord`](crate::format::RootRecord) |
//! | 4608 | 3584 | zero |
//! | 8192 | 512 | root slot of odd versions |
//! | 8704 | 3584 | zero |
//! | 12288 | 512 | copy of the header |
//! | 12800 | 3584 | zero |
//! | 16384 + *i* × segment | segment | segment *i*, from 0 |
//!
//! The file ends after the last byte that was ever saved or prepared and not given back. Each part
//! has 4096 bytes to itself, so that damage to one sector, whatever its size, reaches only one.
//!
//! The first root record of a file is written into both slots; from then on its version says which,
//! see [`crate::format::protocol`]. Either header will do; an opener that may write mends a damaged
//! one from the other.
//!
//! The header:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | `THNDFILE` |
//! | 8 | 4 | version of the file format: 1 |
//! | 12 | 4 | bytes of a segment: a power of two from 64 KiB to 1 GiB |
//! | 16 | 4 | bytes of a sector: 512 or 4096 |
//! | 20 | 4 | zero |
//! | 24 | 16 | random number of the file |
//! | 40 | 468 | zero |
//! | 508 | 4 | CRC-32 of the 508 bytes before |
//!
//! Magic, version and checksum keep their places in every version to come, so that another version
//! is told from damage.

use crate::error::{Error, ErrorKind, Result};
use crate::format::bytes::read_u32;
use crate::format::{Address, RootVersion};

/// The version of the file's layout that this build reads and writes.
pub(super) const FILE_FORMAT_VERSION: u32 = 1;

/// The bytes of an encoded header.
pub(super) const HEADER_BYTES: usize = 512;

/// Where the header stands, and where its copy.
pub(super) const HEADER_AT: [u64; 2] = [0, 12288];

/// Where the segments begin, and the length of a file that has none.
pub(super) const SEGMENTS_AT: u64 = 16384;

const ROOTS_AT: [u64; 2] = [4096, 8192];
const MAGIC: [u8; 8] = *b"THNDFILE";

/// The slots of the roots.
pub(super) const fn root_slots() -> [u64; 2] {
    ROOTS_AT
}

/// The slot of a root. Versions without gaps alternate between the slots.
pub(super) const fn root_slot(version: RootVersion) -> u64 {
    ROOTS_AT[(version.0 % 2) as usize]
}

/// What a file is: decided when it is created, never changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) segment_bytes: u32,
    pub(super) sector_bytes: u32,
    pub(super) file: [u8; 16],
}

impl Header {
    /// The offset in the file of a byte of a segment.
    pub(super) fn position(&self, at: Address) -> u64 {
        SEGMENTS_AT
            + u64::from(at.segment()) * u64::from(self.segment_bytes)
            + u64::from(at.offset())
    }

    /// Checks the limits of what can be chosen.
    pub(super) fn check(&self) -> Result<()> {
        let (segment, sector) = (self.segment_bytes, self.sector_bytes);
        if !segment.is_power_of_two() || !((64 << 10)..=(1 << 30)).contains(&segment) {
            return Err(Error::invalid(format!(
                "segments of {segment} bytes: a power of two from 64 KiB to 1 GiB is needed"
            )));
        }
        if !matches!(sector, 512 | 4096) {
            return Err(Error::invalid(format!(
                "sectors of {sector} bytes: 512 or 4096 are possible"
            )));
        }
        Ok(())
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &FILE_FORMAT_VERSION.to_le_bytes());
        put(12, &self.segment_bytes.to_le_bytes());
        put(16, &self.sector_bytes.to_le_bytes());
        put(24, &self.file);
        let checksum = crc32fast::hash(&out[..508]);
        out[508..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Decodes a header that may be damaged, of another version, or no header at all. The message
    /// continues a sentence that names the file.
    pub(super) fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let cut = || Error::corrupt("its header is cut short");
        if bytes[..8] != MAGIC {
            return Err(Error::corrupt("it does not begin like a Thunderhead file"));
        }
        let u32_at = |at| read_u32(bytes, at).ok_or_else(cut);
        if crc32fast::hash(&bytes[..508]) != u32_at(508)? {
            return Err(Error::corrupt("the checksum of its header does not match"));
        }
        let version = u32_at(8)?;
        if version != FILE_FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "it has file format version {version}, this build knows version {FILE_FORMAT_VERSION}"
                ),
            ));
        }
        let header = Self {
            segment_bytes: u32_at(12)?,
            sector_bytes: u32_at(16)?,
            file: *bytes[24..].first_chunk().ok_or_else(cut)?,
        };
        header
            .check()
            .map_err(|error| Error::corrupt(format!("its header is out of limits: {error}")))?;
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        segment_bytes: 1 << 20,
        sector_bytes: 512,
        file: [7; 16],
    };

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let good = HEADER.to_bytes();
        assert_eq!(Header::from_bytes(&good).unwrap(), HEADER);
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = Header::from_bytes(&bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn segments_follow_each_other_after_the_fixed_parts() {
        assert_eq!(HEADER.position(Address::new(0, 0)), 16384);
        assert_eq!(
            HEADER.position(Address::new(3, 5)),
            16384 + 3 * (1 << 20) + 5
        );
        let last = Header {
            segment_bytes: 1 << 30,
            ..HEADER
        };
        assert!(last.position(Address::new(u32::MAX, (1 << 30) - 1)) < i64::MAX as u64);
    }
}
