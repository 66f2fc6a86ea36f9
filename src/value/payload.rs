//! [`OffTree`]: the 48 bytes by which a leaf, a journal or a log record names an off-tree value.
//!
//! A value that was made by changing a part of another shares extents with it. While it was not put
//! into the other's place in the tree, its payload says so: behind its own 48 bytes stand those of
//! the other, its *base*. Whoever drops one of the two knows by that what the other still needs.
//!
//! Invariant kept: every `OffTree` that exists has passed [`OffTree::check`], so that what is computed
//! from it cannot overflow. Whether the disk agrees with it shows when its root is read.
//! [`crate::format::values`] has the bytes.

use crate::error::{Error, ErrorKind, Result};
use crate::format::bytes::{read_u32, read_u64};
use crate::format::{Address, Birth, Extent, StoreId, page_checksum};

use super::codec::Codec;
use super::index::{DEPTH_MAX, INDEX_PAGE_BYTES_MAX, StoredBlock};

/// The bytes of an encoded [`OffTree`].
pub(crate) const PAYLOAD_BYTES: usize = 48;

/// The longest value: 1 TiB.
pub(crate) const VALUE_BYTES_MAX: u64 = 1 << 40;

/// The block sizes that [`Settings`](crate::format::Settings) allow.
pub(crate) const BLOCK_BYTES_LEAST: u32 = 512;
pub(crate) const BLOCK_BYTES_MOST: u32 = 1 << 20;

/// Where bytes are and what they must add up to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ExtentPointer {
    pub(crate) extent: Extent,
    /// The [`page_checksum`] of the whole extent.
    pub(crate) checksum: u32,
    pub(crate) birth: Birth,
}

impl ExtentPointer {
    /// The pointer of an empty value.
    pub(crate) const NOTHING: Self = Self {
        extent: Extent::new(Address::new(0, 0), 0),
        checksum: 0,
        birth: Birth(0),
    };

    /// Checks that `bytes` are what the pointer names.
    pub(crate) fn verify(&self, store: StoreId, bytes: &[u8]) -> Result<()> {
        if bytes.len() != self.extent.length as usize {
            return Err(Error::corrupt_at(
                self.extent,
                "a page of an off-tree value has another length",
            ));
        }
        if page_checksum(store, self.extent.address, self.birth, bytes) != self.checksum {
            return Err(Error::corrupt_at(
                self.extent,
                "the checksum of an off-tree value does not match",
            ));
        }
        Ok(())
    }
}

/// An off-tree value, or the part of one that an index page stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OffTree {
    pub(crate) length: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) root: ExtentPointer,
    pub(crate) block_bytes: u32,
    pub(crate) depth: u8,
    pub(crate) codec: Codec,
}

impl OffTree {
    /// How many blocks the value has.
    pub(crate) fn blocks(&self) -> u64 {
        self.length.div_ceil(u64::from(self.block_bytes))
    }

    /// The root as the only block of the value.
    pub(super) fn root_block(&self) -> StoredBlock {
        StoredBlock {
            checksum: self.root.checksum,
            offset: 0,
            length: self.root.extent.length,
        }
    }

    /// The bytes of `blocks` blocks from block `first` on, of which the value's last may be short.
    /// The caller has checked that the value has these blocks.
    pub(super) fn bytes_of(&self, first: u64, blocks: u64) -> u64 {
        let block = u64::from(self.block_bytes);
        ((first + blocks) * block)
            .min(self.length)
            .saturating_sub(first * block)
    }

    pub(crate) fn to_payload(self) -> [u8; PAYLOAD_BYTES] {
        let mut out = [0; PAYLOAD_BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.length.to_le_bytes());
        put(8, &self.disk_bytes.to_le_bytes());
        put(16, &self.root.extent.address.to_bits().to_le_bytes());
        put(24, &self.root.extent.length.to_le_bytes());
        put(28, &self.root.checksum.to_le_bytes());
        put(32, &self.root.birth.0.to_le_bytes());
        put(40, &self.block_bytes.to_le_bytes());
        put(44, &[self.depth, self.codec as u8]);
        out
    }

    /// The payload of this value as long as it has a base.
    pub(crate) fn to_payload_over(self, base: Self) -> Vec<u8> {
        [self.to_payload(), base.to_payload()].concat()
    }

    /// Whether two payloads name the same value: roots are never shared.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.root == other.root
    }

    /// Reads the value that a payload names, be it with its base, and the base.
    pub(crate) fn with_base(payload: &[u8]) -> Result<(Self, Option<Self>)> {
        match payload.split_at_checked(PAYLOAD_BYTES) {
            Some((value, base)) if base.len() == PAYLOAD_BYTES => {
                let base = Self::from_own_payload(base)?;
                Ok((Self::from_own_payload(value)?, Some(base)))
            }
            _ => Ok((Self::from_own_payload(payload)?, None)),
        }
    }

    /// Reads the value that a payload names, be it with its base.
    pub(crate) fn from_payload(payload: &[u8]) -> Result<Self> {
        Ok(Self::with_base(payload)?.0)
    }

    /// Reads what [`Self::to_payload`] wrote. A codec that this build does not know is
    /// [`ErrorKind::UnsupportedVersion`]; anything else that cannot be is [`ErrorKind::Corrupt`].
    fn from_own_payload(payload: &[u8]) -> Result<Self> {
        let malformed = || Error::corrupt("the payload of an off-tree value is malformed");
        let payload: &[u8; PAYLOAD_BYTES] = payload.try_into().map_err(|_| malformed())?;
        let [.., depth, codec, zero, zero_too] = *payload;
        let codec = Codec::from_byte(codec).ok_or_else(|| {
            Error::new(
                ErrorKind::UnsupportedVersion,
                format!("reading an off-tree value: its codec {codec} is not known to this build"),
            )
        })?;
        if (zero, zero_too) != (0, 0) {
            return Err(malformed());
        }
        let value = || {
            let address = Address::from_bits(read_u64(payload, 16)?);
            Some(Self {
                length: read_u64(payload, 0)?,
                disk_bytes: read_u64(payload, 8)?,
                root: ExtentPointer {
                    extent: Extent::new(address, read_u32(payload, 24)?),
                    checksum: read_u32(payload, 28)?,
                    birth: Birth(read_u64(payload, 32)?),
                },
                block_bytes: read_u32(payload, 40)?,
                depth,
                codec,
            })
        };
        value().ok_or_else(malformed)?.check()
    }

    /// Checks what can be checked without the disk: the sizes agree and are within their limits.
    pub(super) fn check(self) -> Result<Self> {
        let root = self.root.extent;
        let wrong = |what: &str| Err(Error::corrupt_at(root, format!("an off-tree value {what}")));
        if self.length > VALUE_BYTES_MAX {
            return wrong("is longer than any can be");
        }
        if !(BLOCK_BYTES_LEAST..=BLOCK_BYTES_MOST).contains(&self.block_bytes) {
            return wrong("has blocks of an impossible size");
        }
        if self.depth > DEPTH_MAX {
            return wrong("has an index deeper than any can be");
        }
        if root.address.offset().checked_add(root.length).is_none() {
            return wrong("reaches past its segment");
        }
        if self.depth == 0 {
            if self.length > u64::from(self.block_bytes) {
                return wrong("of several blocks has no index");
            }
            let stored = u64::from(root.length);
            let possible = match self.codec {
                Codec::None => stored == self.length,
                _ => stored <= self.length && (stored > 0 || self.length == 0),
            };
            if !possible {
                return wrong("and its only extent have different lengths");
            }
        } else if self.length == 0 {
            return wrong("without content has an index");
        } else if root.length > INDEX_PAGE_BYTES_MAX {
            return wrong("has an index page larger than any can be");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> OffTree {
        OffTree {
            length: 100_000,
            disk_bytes: 103_000,
            root: ExtentPointer {
                extent: Extent::new(Address::new(2, 4096), 77),
                checksum: 0x1234_5678,
                birth: Birth(9),
            },
            block_bytes: 32 << 10,
            depth: 1,
            codec: Codec::None,
        }
    }

    #[test]
    fn a_payload_round_trips() {
        let payload = value().to_payload();
        assert_eq!(OffTree::from_payload(&payload).unwrap(), value());
        assert!(OffTree::from_payload(&payload[1..]).is_err());
        assert!(OffTree::from_payload(&[]).is_err());
    }

    #[test]
    fn a_payload_with_a_base_round_trips() {
        let mut base = value();
        base.length += 1;
        let payload = value().to_payload_over(base);
        let read = OffTree::with_base(&payload).unwrap();
        assert_eq!(read, (value(), Some(base)));
        assert_eq!(OffTree::from_payload(&payload).unwrap(), value());
        assert!(OffTree::from_payload(&payload[1..]).is_err());
        let alone = OffTree::with_base(&payload[..PAYLOAD_BYTES]).unwrap();
        assert_eq!(alone, (value(), None));
    }

    #[test]
    fn an_unknown_codec_is_an_unsupported_version_and_is_named() {
        let mut payload = value().to_payload();
        payload[45] = 7;
        let error = OffTree::from_payload(&payload).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
        assert!(error.to_string().contains("codec 7"));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let refused = |change: fn(&mut OffTree)| {
            let mut value = value();
            change(&mut value);
            let error = OffTree::from_payload(&value.to_payload()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{value:?}");
        };
        refused(|value| value.length = VALUE_BYTES_MAX + 1);
        refused(|value| value.length = 0);
        refused(|value| value.block_bytes = 0);
        refused(|value| value.block_bytes = u32::MAX);
        refused(|value| value.depth = 0);
        refused(|value| value.depth = u8::MAX);
        refused(|value| value.root.extent.length = u32::MAX);
        refused(|value| value.root.extent.address = Address::new(0, u32::MAX));
    }

    #[test]
    fn random_payloads_never_panic() {
        let seed = 0x0ff7_4ee0;
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..10_000 {
            let mut payload = value().to_payload();
            for _ in 0..random.usize(1..8) {
                payload[random.usize(..PAYLOAD_BYTES)] = random.u8(..);
            }
            if let Ok(value) = OffTree::from_payload(&payload) {
                assert_eq!(value.to_payload(), payload, "seed {seed}");
            }
        }
    }
}
