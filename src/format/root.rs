//! The root record: from its at most 512 bytes, which fit one sector, everything else is found.
//!
//! A checkpoint ends by publishing one; see [`DiskModel::publish_root`] and
//! [`crate::format::protocol`]. It carries a checksum of its own at a place that no version moves, so
//! that damage is told from another version.
//!
//! [`DiskModel::publish_root`]: crate::disk::DiskModel::publish_root

use super::address::{Address, Birth, Extent, SequenceNumber, StoreId};
use super::bytes::{read_u32, read_u64};
use super::pointer::{POINTER_BYTES, PagePointer};
use super::settings::{SETTINGS_BYTES, Settings};
use crate::error::{Error, ErrorKind, Result};

/// The version of the format that this build reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// The bytes of an encoded root record.
pub const ROOT_RECORD_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"THUNDER\0";

/// Counts the published roots of a store, from 1. Zero stands for none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RootVersion(pub u64);

impl RootVersion {
    /// The version of the next root.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where replay of the commit log starts. See [`crate::format::log`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPosition {
    /// The chunk of the log.
    pub chunk: Extent,
    /// The salt of the chunk's present use.
    pub salt: u64,
    /// The offset in the chunk of the first group to read.
    pub offset: u32,
    /// The chain of that group: the header checksum of the group before it, 0 for none.
    pub chain: u32,
    /// The sequence of the first commit in that group.
    pub sequence: SequenceNumber,
}

/// The extents that writing the space maps themselves took and gave back, which the maps
/// therefore do not show. See [`crate::format::space`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceTail {
    /// Where the list is. A length of zero: there is none.
    pub extent: Extent,
    /// Its checksum, as of a page.
    pub checksum: u32,
    /// Its birth.
    pub birth: Birth,
}

/// The durable state of a store as of one checkpoint.
///
/// | offset | bytes | field |
/// | --- | --- | --- |
/// | 0 | 8 | `THUNDER` and a zero |
/// | 8 | 4 | format version |
/// | 12 | 4 | zero |
/// | 16 | 8 | features that a reader must know |
/// | 24 | 8 | features that a writer must know |
/// | 32 | 16 | store id |
/// | 48 | 8 | root version |
/// | 56 | 8 | epoch: the number of times the store was opened for writing |
/// | 64 | 8 | applied through: the newest sequence that the trees contain |
/// | 72 | 8 | birth: the newest generation that the trees contain |
/// | 80 | 8 | milliseconds since 1970 |
/// | 88 | 4 | bytes of a segment: those of the disk |
/// | 92 | 4 | bytes of a sector: those of the disk |
/// | 96 | 48 | [`Settings`] |
/// | 144 | 64 | [`PagePointer`] of the user's tree |
/// | 208 | 64 | [`PagePointer`] of the system tree |
/// | 272 | 24 | space tail: address 8, length 4, checksum 4, birth 8 |
/// | 296 | 8 | log: address of the chunk |
/// | 304 | 4 | log: length of the chunk |
/// | 308 | 4 | log: offset in the chunk |
/// | 312 | 8 | log: salt |
/// | 320 | 8 | log: sequence of the first commit in the group there |
/// | 328 | 4 | log: chain of the group there |
/// | 332 | 4 | 1 after a clean close: nothing follows in the log; else 0 |
/// | 336 | 8 | segments: all that the trees use have lower numbers |
/// | 344 | 8 | the line of the newest version: see [`versions`](crate::format::versions) |
/// | 352 | 8 | address of the table of moved segments (none yet: 0) |
/// | 360 | 8 | the sequence since which the user's tree is what it is |
/// | 368 | 140 | zero |
/// | 508 | 4 | CRC-32 of the 508 bytes before |
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootRecord {
    /// The store that this root belongs to.
    pub store: StoreId,
    /// Which root it is.
    pub version: RootVersion,
    /// How often the store was opened for writing.
    pub epoch: u64,
    /// The newest sequence that the trees contain.
    pub applied_through: SequenceNumber,
    /// The newest generation that the trees contain.
    pub birth: Birth,
    /// When it was published, in milliseconds since 1970.
    pub time_ms: u64,
    /// The bytes of a segment.
    pub segment_bytes: u32,
    /// The bytes of a sector.
    pub sector_bytes: u32,
    /// The file's settings.
    pub settings: Settings,
    /// The root of the user's tree.
    pub user: PagePointer,
    /// The root of the system tree.
    pub system: PagePointer,
    /// What the space maps leave out.
    pub tail: SpaceTail,
    /// Where replay starts.
    pub log: LogPosition,
    /// Whether the store was closed with nothing after this root in the log.
    pub clean: bool,
    /// How many segments there are: all that the trees use have lower numbers.
    pub segments: u64,
    /// The line of the newest version.
    pub line: u64,
    /// The user's tree is that of what was committed through this sequence: nothing after it, through
    /// the newest that the trees contain, changed anything.
    pub since: SequenceNumber,
}

impl RootRecord {
    /// Encodes the record.
    pub fn to_bytes(&self) -> [u8; ROOT_RECORD_BYTES] {
        let mut out = [0; ROOT_RECORD_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(32, &self.store.0);
        put(48, &self.version.0.to_le_bytes());
        put(56, &self.epoch.to_le_bytes());
        put(64, &self.applied_through.0.to_le_bytes());
        put(72, &self.birth.0.to_le_bytes());
        put(80, &self.time_ms.to_le_bytes());
        put(88, &self.segment_bytes.to_le_bytes());
        put(92, &self.sector_bytes.to_le_bytes());
        put(96, &self.settings.to_bytes());
        put(144, &self.user.to_bytes());
        put(208, &self.system.to_bytes());
        put(272, &self.tail.extent.address.to_bits().to_le_bytes());
        put(280, &self.tail.extent.length.to_le_bytes());
        put(284, &self.tail.checksum.to_le_bytes());
        put(288, &self.tail.birth.0.to_le_bytes());
        put(296, &self.log.chunk.address.to_bits().to_le_bytes());
        put(304, &self.log.chunk.length.to_le_bytes());
        put(308, &self.log.offset.to_le_bytes());
        put(312, &self.log.salt.to_le_bytes());
        put(320, &self.log.sequence.0.to_le_bytes());
        put(328, &self.log.chain.to_le_bytes());
        put(332, &u32::from(self.clean).to_le_bytes());
        put(336, &self.segments.to_le_bytes());
        put(344, &self.line.to_le_bytes());
        put(360, &self.since.0.to_le_bytes());
        let checksum = crc32fast::hash(&out[..508]);
        out[508..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Decodes a record that may be damaged, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::corrupt("the root record is cut short");
        let bytes = bytes.get(..ROOT_RECORD_BYTES).ok_or_else(cut)?;
        let u32_at = |at| read_u32(bytes, at).ok_or_else(cut);
        let u64_at = |at| read_u64(bytes, at).ok_or_else(cut);
        if crc32fast::hash(&bytes[..508]) != u32_at(508)? || bytes[..8] != MAGIC {
            return Err(Error::corrupt("the root record's checksum does not match"));
        }
        let version = u32_at(8)?;
        if version != FORMAT_VERSION {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "the store has format version {version}, this build knows version {FORMAT_VERSION}"
                ),
            ));
        }
        let features = u64_at(16)? | u64_at(24)?;
        if features != 0 {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "the store needs the features {features:#x}; format version {FORMAT_VERSION} of this build knows none"
                ),
            ));
        }
        let pointer = |at: usize| {
            let bytes = bytes[at..].first_chunk::<POINTER_BYTES>().ok_or_else(cut)?;
            Ok(PagePointer::from_bytes(bytes))
        };
        let extent = |at: usize| {
            Ok(Extent::new(
                Address::from_bits(u64_at(at)?),
                u32_at(at + 8)?,
            ))
        };
        let settings = Settings::from_bytes(&bytes[96..96 + SETTINGS_BYTES]).ok_or_else(cut)?;
        let segment_bytes = u32_at(88)?;
        settings.check(segment_bytes)?;
        Ok(Self {
            store: StoreId(*bytes[32..].first_chunk().ok_or_else(cut)?),
            version: RootVersion(u64_at(48)?),
            epoch: u64_at(56)?,
            applied_through: SequenceNumber(u64_at(64)?),
            birth: Birth(u64_at(72)?),
            time_ms: u64_at(80)?,
            segment_bytes,
            sector_bytes: u32_at(92)?,
            settings,
            user: pointer(144)?,
            system: pointer(208)?,
            tail: SpaceTail {
                extent: extent(272)?,
                checksum: u32_at(284)?,
                birth: Birth(u64_at(288)?),
            },
            log: LogPosition {
                chunk: extent(296)?,
                offset: u32_at(308)?,
                salt: u64_at(312)?,
                sequence: SequenceNumber(u64_at(320)?),
                chain: u32_at(328)?,
            },
            clean: u32_at(332)? == 1,
            segments: u64_at(336)?,
            line: u64_at(344)?,
            since: SequenceNumber(u64_at(360)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RootRecord {
        RootRecord {
            store: StoreId([5; 16]),
            version: RootVersion(3),
            epoch: 2,
            applied_through: SequenceNumber(77),
            birth: Birth(12),
            time_ms: 1_700_000_000_000,
            segment_bytes: 16 << 20,
            sector_bytes: 512,
            settings: Settings::default(),
            user: PagePointer {
                length: 9,
                ..PagePointer::NOTHING
            },
            system: PagePointer {
                length: 8,
                ..PagePointer::NOTHING
            },
            tail: SpaceTail {
                extent: Extent::new(Address::new(1, 512), 40),
                checksum: 5,
                birth: Birth(12),
            },
            log: LogPosition {
                chunk: Extent::new(Address::new(0, 0), 4 << 20),
                salt: 99,
                offset: 512,
                chain: 7,
                sequence: SequenceNumber(78),
            },
            clean: true,
            segments: 4,
            line: 3,
            since: SequenceNumber(70),
        }
    }

    #[test]
    fn a_root_record_round_trips() {
        let root = sample();
        assert_eq!(RootRecord::from_bytes(&root.to_bytes()).unwrap(), root);
    }

    #[test]
    fn every_flipped_bit_of_a_root_record_is_noticed() {
        let good = sample().to_bytes();
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                RootRecord::from_bytes(&bad).unwrap_err().kind(),
                ErrorKind::Corrupt
            );
        }
    }

    #[test]
    fn another_format_version_is_refused_and_both_are_named() {
        let mut bytes = sample().to_bytes();
        bytes[8] = 9;
        let checksum = crc32fast::hash(&bytes[..508]);
        bytes[508..].copy_from_slice(&checksum.to_le_bytes());
        let error = RootRecord::from_bytes(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
        assert!(error.to_string().contains("version 9") && error.to_string().contains("version 1"));
    }
}
