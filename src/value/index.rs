//! Index pages: which extents the blocks of a value are in.
//!
//! Pages of level 1 name data extents and have a checksum for each block; those above name pages. The
//! end of one entry is the beginning of the next, so the entry of a block is found by binary search.
//! The writer encodes pages, readers and whoever frees values look into them.
//! [`crate::format::values`] has the bytes.
//!
//! [`IndexPage`] is a view that checks its outline when made and every entry when it is looked at;
//! a page that passed its checksum but was made with ill intent gives errors, nothing worse.

use crate::error::{Error, Result};
use crate::format::bytes::{read_u32, read_u64};
use crate::format::{Address, Birth, Extent};

use super::codec::Codec;
use super::payload::{ExtentPointer, OffTree};

/// The blocks of a page of level 1 and the entries of one above, at most: with blocks of 32 KiB a
/// page of level 1 stands for 32 MiB in about 5 KiB, and three levels for 32 TiB.
pub(crate) const FAN_OUT: u32 = 1024;

/// The largest index page: above that of any page with [`FAN_OUT`] entries.
pub(super) const INDEX_PAGE_BYTES_MAX: u32 = 64 << 10;

/// The deepest index: enough for the longest value in the smallest blocks at a fan-out of two.
pub(super) const DEPTH_MAX: u8 = 32;

const MAGIC: [u8; 4] = *b"VIDX";
const HEADER_BYTES: usize = 24;
const DATA_ENTRY_BYTES: usize = 24;
const CHILD_ENTRY_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 4;
/// Of a value with a codec: checksum, where in its extent the block begins, how long it is there.
const STORED_BLOCK_BYTES: usize = 12;

/// A data extent: consecutive blocks of the value, back to back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DataExtent {
    pub(super) extent: Extent,
    pub(super) birth: Birth,
    /// Its first block, counted from the first block of the page.
    pub(super) first: u64,
    pub(super) blocks: u64,
}

/// A block as it stands on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StoredBlock {
    pub(crate) checksum: u32,
    /// Where in its extent it begins.
    pub(crate) offset: u32,
    /// How many bytes it has there: as many as in the value, unless it is compressed.
    pub(crate) length: u32,
}

fn encode_header(
    out: &mut Vec<u8>,
    (level, codec): (u8, Codec),
    block_bytes: u32,
    entries: usize,
    blocks: u64,
) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[level, codec as u8, 0, 0]);
    out.extend_from_slice(&block_bytes.to_le_bytes());
    out.extend_from_slice(&(entries as u32).to_le_bytes());
    out.extend_from_slice(&blocks.to_le_bytes());
}

fn block_entry_bytes(codec: Codec) -> usize {
    match codec {
        Codec::None => CHECKSUM_BYTES,
        Codec::Lz4 | Codec::Zstd => STORED_BLOCK_BYTES,
    }
}

/// Encodes a page of level 1. The extents follow one another, and so do the blocks.
pub(super) fn encode_data_page(
    block_bytes: u32,
    codec: Codec,
    extents: &[DataExtent],
    blocks: &[StoredBlock],
) -> Vec<u8> {
    let tables = extents.len() * DATA_ENTRY_BYTES + blocks.len() * block_entry_bytes(codec);
    let mut out = Vec::with_capacity(HEADER_BYTES + tables);
    let count = blocks.len() as u64;
    encode_header(&mut out, (1, codec), block_bytes, extents.len(), count);
    for data in extents {
        let end = (data.first + data.blocks) as u32;
        out.extend_from_slice(&data.extent.address.to_bits().to_le_bytes());
        out.extend_from_slice(&data.birth.0.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&data.extent.length.to_le_bytes());
    }
    for block in blocks {
        out.extend_from_slice(&block.checksum.to_le_bytes());
        if codec != Codec::None {
            out.extend_from_slice(&block.offset.to_le_bytes());
            out.extend_from_slice(&block.length.to_le_bytes());
        }
    }
    out
}

/// Encodes a page above level 1 over pages of the level below.
pub(super) fn encode_child_page(
    block_bytes: u32,
    codec: Codec,
    level: u8,
    children: &[OffTree],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + children.len() * CHILD_ENTRY_BYTES);
    let blocks = children.iter().map(OffTree::blocks).sum();
    encode_header(
        &mut out,
        (level, codec),
        block_bytes,
        children.len(),
        blocks,
    );
    let mut end = 0;
    for child in children {
        end += child.blocks();
        out.extend_from_slice(&child.root.extent.address.to_bits().to_le_bytes());
        out.extend_from_slice(&child.root.birth.0.to_le_bytes());
        out.extend_from_slice(&child.root.extent.length.to_le_bytes());
        out.extend_from_slice(&child.root.checksum.to_le_bytes());
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&child.disk_bytes.to_le_bytes());
    }
    out
}

/// A view of an index page, together with the value or part of a value that it is the root of.
pub(super) struct IndexPage<'p> {
    bytes: &'p [u8],
    value: &'p OffTree,
    entries: usize,
}

impl<'p> IndexPage<'p> {
    /// Checks that a page can be the root of `value`.
    pub(super) fn new(bytes: &'p [u8], value: &'p OffTree) -> Result<Self> {
        let page = || {
            let entries = read_u32(bytes, 12)? as usize;
            let blocks = read_u64(bytes, 16)?;
            let agrees = bytes.starts_with(&MAGIC)
                && bytes.get(4..8)? == [value.depth, value.codec as u8, 0, 0]
                && read_u32(bytes, 8)? == value.block_bytes
                && blocks == value.blocks();
            let tables = match value.depth {
                1 => entries.checked_mul(DATA_ENTRY_BYTES)?.checked_add(
                    usize::try_from(blocks)
                        .ok()?
                        .checked_mul(block_entry_bytes(value.codec))?,
                )?,
                _ => entries.checked_mul(CHILD_ENTRY_BYTES)?,
            };
            let whole = tables.checked_add(HEADER_BYTES)? == bytes.len();
            let page = Self {
                bytes,
                value,
                entries,
            };
            (agrees && whole && page.end(entries.checked_sub(1)?)? == blocks).then_some(page)
        };
        page().ok_or_else(|| {
            Error::corrupt_at(
                value.root.extent,
                "an index page of an off-tree value is malformed",
            )
        })
    }

    /// The value or part of a value that it is the root of.
    pub(super) fn value(&self) -> &OffTree {
        self.value
    }

    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    fn entry_bytes(&self) -> usize {
        match self.value.depth {
            1 => DATA_ENTRY_BYTES,
            _ => CHILD_ENTRY_BYTES,
        }
    }

    fn end(&self, index: usize) -> Option<u64> {
        let at = HEADER_BYTES + index * self.entry_bytes();
        match self.value.depth {
            1 => read_u32(self.bytes, at + 16).map(u64::from),
            _ => read_u64(self.bytes, at + 24),
        }
    }

    fn malformed(&self) -> Error {
        Error::corrupt_at(
            self.value.root.extent,
            "an entry of an index page of an off-tree value is malformed",
        )
    }

    /// The place and blocks of an entry: where it stands, its first block, how many.
    fn range(&self, index: usize) -> Option<(usize, u64, u64)> {
        let first = match index {
            0 => 0,
            _ => self.end(index - 1)?,
        };
        let end = self.end(index)?;
        let blocks = end.checked_sub(first)?;
        let possible = index < self.entries && blocks > 0 && end <= self.value.blocks();
        let at = HEADER_BYTES + index * self.entry_bytes();
        possible.then_some((at, first, blocks))
    }

    /// The entry that a block is in.
    pub(super) fn entry_of(&self, block: u64) -> Result<usize> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.end(middle).ok_or_else(|| self.malformed())? > block {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        if low == self.entries {
            return Err(self.malformed());
        }
        Ok(low)
    }

    /// An entry of a page of level 1.
    pub(super) fn data(&self, index: usize) -> Result<DataExtent> {
        let data = || {
            let (at, first, blocks) = self.range(index)?;
            let address = Address::from_bits(read_u64(self.bytes, at)?);
            let length = read_u32(self.bytes, at + 20)?;
            let possible = (u64::from(length) == self.value.bytes_of(first, blocks)
                || (self.value.codec != Codec::None && length > 0))
                && address.offset().checked_add(length).is_some();
            possible.then_some(DataExtent {
                extent: Extent::new(address, length),
                birth: Birth(read_u64(self.bytes, at + 8)?),
                first,
                blocks,
            })
        };
        data().ok_or_else(|| self.malformed())
    }

    /// A block of a data extent, numbered as on the page.
    fn block(&self, data: &DataExtent, block: u64) -> Option<StoredBlock> {
        let codec = self.value.codec;
        let index = usize::try_from(block).ok()?;
        let tables = HEADER_BYTES + self.entries * DATA_ENTRY_BYTES;
        let at = index
            .checked_mul(block_entry_bytes(codec))?
            .checked_add(tables)?;
        let length = self.value.bytes_of(block, 1) as u32;
        let checksum = read_u32(self.bytes, at)?;
        if codec == Codec::None {
            let skip = block.checked_sub(data.first)? * u64::from(self.value.block_bytes);
            let offset = u32::try_from(skip).ok()?;
            return Some(StoredBlock {
                checksum,
                offset,
                length,
            });
        }
        let stored = StoredBlock {
            checksum,
            offset: read_u32(self.bytes, at + 4)?,
            length: read_u32(self.bytes, at + 8)?,
        };
        let end = stored.offset.checked_add(stored.length)?;
        let possible = (1..=length).contains(&stored.length) && end <= data.extent.length;
        possible.then_some(stored)
    }

    /// Some blocks of a data extent, numbered as on the page, as an extent of their own.
    pub(super) fn part(
        &self,
        data: &DataExtent,
        first: u64,
        blocks: u64,
    ) -> Result<(Extent, Vec<StoredBlock>)> {
        let part = || {
            let mut found = Vec::new();
            let start = self.block(data, first)?.offset;
            let mut end = start;
            for block in first..first.checked_add(blocks)? {
                let block = self.block(data, block)?;
                if block.offset < end {
                    return None;
                }
                end = block.offset + block.length;
                let offset = block.offset - start;
                found.push(StoredBlock { offset, ..block });
            }
            let extent = Extent::new(data.extent.address.plus(start), end - start);
            Some((extent, found))
        };
        part().ok_or_else(|| self.malformed())
    }

    /// An entry of a page above level 1: its first block, and what is below it as a value of its
    /// own.
    pub(super) fn child(&self, index: usize) -> Result<(u64, OffTree)> {
        let child = || {
            let (at, first, blocks) = self.range(index)?;
            let address = Address::from_bits(read_u64(self.bytes, at)?);
            let value = OffTree {
                length: self.value.bytes_of(first, blocks),
                disk_bytes: read_u64(self.bytes, at + 32)?,
                root: ExtentPointer {
                    extent: Extent::new(address, read_u32(self.bytes, at + 16)?),
                    checksum: read_u32(self.bytes, at + 20)?,
                    birth: Birth(read_u64(self.bytes, at + 8)?),
                },
                block_bytes: self.value.block_bytes,
                depth: self.value.depth.checked_sub(1)?,
                codec: self.value.codec,
            };
            Some((first, value))
        };
        let (first, value) = child().ok_or_else(|| self.malformed())?;
        Ok((first, value.check()?))
    }
}
