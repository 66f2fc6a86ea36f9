//! [`ValueReader`]: reads any part of an off-tree value, and nothing that was not verified.
//!
//! A read goes down the index once for each page of level 1 that it needs, then reads the blocks
//! that it touches, those of one extent together in steps of up to 1 MiB. Memory is taken as blocks
//! turn out to exist, never because a length says so.

use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::{Birth, Extent, StoreId, page_checksum};

use super::codec::Codec;
use super::index::{IndexPage, StoredBlock};
use super::payload::OffTree;
use super::source::{DiskPages, PageSource};

/// The largest read.
const READ_BYTES_MAX: u64 = 1 << 20;

/// The most memory that a read takes before it has seen any of its bytes.
const RESERVE_BYTES_MAX: u64 = 4 << 20;

/// Blocks that stand back to back on the disk.
struct Run {
    extent: Extent,
    birth: Birth,
    /// Where its first byte is in the value.
    offset: u64,
    blocks: Vec<StoredBlock>,
    /// How many bytes of the value they are.
    length: u64,
}

/// A page of level 1 and the part of the value that it stands for.
struct Path<P> {
    page: P,
    part: OffTree,
    offset: u64,
}

/// Reads one value. Holds no memory but the payload.
pub(crate) struct ValueReader<P: PageSource = DiskPages> {
    disk: Disk,
    store: StoreId,
    value: OffTree,
    pages: P,
}

impl ValueReader {
    /// A reader that loads index pages from the disk each time.
    pub(crate) fn new(disk: Disk, store: StoreId, payload: &[u8]) -> Result<Self> {
        let pages = DiskPages::new(disk.clone(), store);
        Self::with_pages(disk, store, payload, pages)
    }
}

impl<P: PageSource> ValueReader<P> {
    /// A reader that has index pages from `pages`.
    pub(crate) fn with_pages(disk: Disk, store: StoreId, payload: &[u8], pages: P) -> Result<Self> {
        Ok(Self {
            disk,
            store,
            value: OffTree::from_payload(payload)?,
            pages,
        })
    }

    /// The value as its payload describes it.
    pub(crate) fn value(&self) -> &OffTree {
        &self.value
    }

    pub(super) fn pages(&self) -> &P {
        &self.pages
    }

    pub(super) fn sector_bytes(&self) -> u32 {
        self.disk.properties().sector_bytes
    }

    /// The bytes from `offset` on: `length` of them, or fewer at the end of the value.
    pub(crate) async fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = offset.saturating_add(length as u64).min(self.value.length);
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut out = Vec::new();
        let mut path = None;
        let mut at = offset;
        while at < end {
            let run = self.run_at(at, end, &mut path).await?;
            let mut bytes = self.load(&run).await?;
            // `run_at` gives blocks that contain `at`, so that every step gets further.
            let skip = (at - run.offset) as usize;
            let until = (end - run.offset).min(bytes.len() as u64) as usize;
            if at == offset && run.offset + until as u64 == end {
                bytes.truncate(until);
                bytes.drain(..skip);
                return Ok(bytes);
            }
            if out.capacity() == 0 {
                out.reserve((end - offset).min(RESERVE_BYTES_MAX) as usize);
            }
            out.extend_from_slice(bytes.get(skip..until).ok_or_else(|| self.malformed())?);
            at = run.offset + until as u64;
        }
        Ok(out)
    }

    /// The whole value, if it has at most `limit` bytes; else
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument).
    pub(crate) async fn read_all(&self, limit: usize) -> Result<Vec<u8>> {
        match usize::try_from(self.value.length) {
            Ok(length) if length <= limit => self.read(0, length).await,
            _ => Err(Error::invalid(format!(
                "reading a value of {} bytes: at most {limit} are allowed here",
                self.value.length
            ))),
        }
    }

    fn malformed(&self) -> Error {
        Error::corrupt_at(
            self.value.root.extent,
            "the index of an off-tree value does not fit together",
        )
    }

    /// The blocks from the one with byte `at` on, up to `end` and to [`READ_BYTES_MAX`], that stand
    /// together. `path` is the page of level 1 that was used last.
    async fn run_at(&self, at: u64, end: u64, path: &mut Option<Path<P::Page>>) -> Result<Run> {
        let value = &self.value;
        if value.depth == 0 {
            return Ok(Run {
                extent: value.root.extent,
                birth: value.root.birth,
                offset: 0,
                blocks: vec![value.root_block()],
                length: value.length,
            });
        }
        let here = |path: &Path<P::Page>| {
            (path.offset..path.offset.saturating_add(path.part.length)).contains(&at)
        };
        let path = match path.take().filter(here) {
            Some(known) => path.insert(known),
            None => path.insert(self.descend(at).await?),
        };
        let block_bytes = u64::from(value.block_bytes);
        let page = IndexPage::new(path.page.as_ref(), &path.part)?;
        let block = (at - path.offset) / block_bytes;
        let data = page.data(page.entry_of(block)?)?;
        let blocks_left = (data.first + data.blocks)
            .checked_sub(block)
            .filter(|left| *left > 0 && data.first <= block)
            .ok_or_else(|| self.malformed())?;
        let offset = path.offset + block * block_bytes;
        let blocks = blocks_left
            .min((end - offset).div_ceil(block_bytes))
            .min(READ_BYTES_MAX.div_ceil(block_bytes));
        let (mut extent, mut stored) = page.part(&data, block, blocks)?;
        // Only where somebody made it so do blocks take more room on the disk than in the value.
        while u64::from(extent.length) > 2 * READ_BYTES_MAX && stored.len() > 1 {
            stored.truncate(stored.len() / 2);
            let last = stored[stored.len() - 1];
            extent.length = last.offset + last.length;
        }
        Ok(Run {
            extent,
            birth: data.birth,
            offset,
            length: path.part.bytes_of(block, stored.len() as u64),
            blocks: stored,
        })
    }

    /// Goes down to the page of level 1 for a byte of the value.
    async fn descend(&self, at: u64) -> Result<Path<P::Page>> {
        let mut part = self.value;
        let mut offset = 0;
        loop {
            let page = self.pages.load(part.root, part.depth).await?;
            if part.depth <= 1 {
                return Ok(Path { page, part, offset });
            }
            let index = IndexPage::new(page.as_ref(), &part)?;
            let block_bytes = u64::from(part.block_bytes);
            let (first, child) = index.child(index.entry_of((at - offset) / block_bytes)?)?;
            offset += first * block_bytes;
            part = child;
        }
    }

    /// Reads blocks that stand together, verifies each, and gives what they stand for.
    async fn load(&self, run: &Run) -> Result<Vec<u8>> {
        let bytes = self.disk.read(run.extent).await?;
        self.check(run.extent, run.birth, &run.blocks, &bytes)?;
        if bytes.len() as u64 == run.length {
            // Nothing is compressed, and nothing stands between the blocks.
            return Ok(bytes);
        }
        let block_bytes = u64::from(self.value.block_bytes);
        let mut out = Vec::with_capacity(run.length as usize);
        for (index, block) in run.blocks.iter().enumerate() {
            let left = run.length.saturating_sub(index as u64 * block_bytes);
            let length = left.min(block_bytes) as usize;
            let (from, end) = (block.offset as usize, block.offset + block.length);
            let stored = bytes.get(from..end as usize);
            let stored = stored.ok_or_else(|| self.malformed())?;
            let codec = match stored.len() == length {
                true => Codec::None,
                false => self.value.codec,
            };
            codec.decompress(stored, length, &mut out)?;
        }
        Ok(out)
    }

    /// Verifies blocks that were read.
    fn check(
        &self,
        extent: Extent,
        birth: Birth,
        blocks: &[StoredBlock],
        bytes: &[u8],
    ) -> Result<()> {
        for block in blocks {
            let at = extent.address.plus(block.offset);
            let stored = bytes.get(block.offset as usize..(block.offset + block.length) as usize);
            let stored = stored.ok_or_else(|| self.malformed())?;
            if page_checksum(self.store, at, birth, stored) != block.checksum {
                return Err(Error::corrupt_at(
                    Extent::new(at, block.length),
                    "the checksum of a block of an off-tree value does not match",
                ));
            }
        }
        Ok(())
    }

    /// The blocks of a data extent in steps of about [`READ_BYTES_MAX`]: each is read, verified and
    /// forgotten.
    pub(super) async fn check_data(
        &self,
        extent: Extent,
        birth: Birth,
        blocks: &[StoredBlock],
    ) -> Result<()> {
        let mut rest = blocks;
        while let Some(first) = rest.first() {
            let fits = |block: &&StoredBlock| {
                u64::from(block.offset - first.offset + block.length) <= READ_BYTES_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, after) = rest.split_at(count);
            rest = after;
            let last = now[count - 1];
            let part = Extent::new(
                extent.address.plus(first.offset),
                last.offset + last.length - first.offset,
            );
            let blocks: Vec<_> = now
                .iter()
                .map(|block| StoredBlock {
                    offset: block.offset - first.offset,
                    ..*block
                })
                .collect();
            let bytes = self.disk.read(part).await?;
            self.check(part, birth, &blocks, &bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{BIRTH, STORE, TestDisk, content};
    use super::*;
    use crate::disk::block_on;
    use crate::error::ErrorKind;
    use crate::format::Address;
    use crate::value::payload::ExtentPointer;

    #[test]
    fn values_of_every_edge_length_read_back() {
        for fan_out in [2, 3, 8] {
            for blocks in [0, 1, 2, 3, 4, 8, 9, 16, 64] {
                for difference in [-1, 0, 1] {
                    let Ok(length) = usize::try_from(blocks * 512 + difference) else {
                        continue;
                    };
                    let disk = TestDisk::new();
                    let value = content(length as u64, length);
                    let reader = disk.reader(disk.write(fan_out, &value).value);
                    assert!(block_on(reader.read_all(length)).unwrap() == value);
                    block_on(reader.verify(|_, _| Ok(()))).unwrap();
                    if length > 0 {
                        let error = block_on(reader.read_all(length - 1)).unwrap_err();
                        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
                    }
                }
            }
        }
    }

    #[test]
    fn parts_read_as_they_were_written() {
        let seed = 0x9a27;
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = TestDisk::new();
        for fan_out in [2, 5, 100] {
            let value = content(fan_out.into(), 50_123);
            let written = disk.write(fan_out, &value).value;
            assert!(fan_out != 2 || written.depth >= 6);
            let reader = disk.reader(written);
            for _ in 0..300 {
                let from = random.usize(..value.len() + 100);
                let length = random.usize(..6000);
                let read = block_on(reader.read(from as u64, length)).unwrap();
                let until = (from + length).min(value.len());
                assert!(
                    read == value.get(from..until).unwrap_or_default(),
                    "seed {seed}: {length} bytes from {from}"
                );
            }
            assert!(
                block_on(reader.read(u64::MAX, usize::MAX))
                    .unwrap()
                    .is_empty()
            );
            assert!(block_on(reader.read(0, usize::MAX)).unwrap() == value);
        }
    }

    #[test]
    fn every_damaged_byte_of_data_or_index_is_an_error() {
        let disk = TestDisk::new();
        for (fan_out, length) in [(2, 400), (2, 3000), (8, 3000)] {
            let written = disk.write(fan_out, &content(1, length));
            let reader = disk.reader(written.value);
            for extent in written.extents {
                for at in 0..extent.length as usize {
                    disk.change(extent, |bytes| bytes[at] ^= 1 << (at % 8));
                    for result in [
                        block_on(reader.read_all(length)).map(drop),
                        block_on(reader.verify(|_, _| Ok(()))),
                    ] {
                        assert_eq!(result.unwrap_err().kind(), ErrorKind::Corrupt);
                    }
                    disk.change(extent, |bytes| bytes[at] ^= 1 << (at % 8));
                }
            }
            block_on(reader.read_all(length)).unwrap();
        }
    }

    #[test]
    fn a_huge_length_without_data_takes_no_memory() {
        let disk = TestDisk::new();
        let mut value = disk.write(8, &content(1, 3000)).value;
        value.length = 1 << 40;
        let reader = disk.reader(value);
        assert!(block_on(reader.read_all(usize::MAX)).is_err());
        assert!(block_on(reader.verify(|_, _| Ok(()))).is_err());
    }

    /// Pages that verify, with contents of an attacker's choice.
    #[test]
    fn hostile_index_pages_give_errors_and_never_panic() {
        let seed = 0x0b5e_55ed;
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = TestDisk::new();
        for round in 0..3000 {
            if round % 500 == 0 {
                disk.state().allocated.clear();
            }
            let value = content(round, random.usize(513..6000));
            let mut forged = disk.write(random.u32(2..6), &value).value;
            let root = forged.root.extent;
            let mut page = Vec::new();
            disk.change(root, |bytes| {
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..bytes.len());
                    let any = random.u8(..);
                    let number = random.choice([0, 1, 2, 255, any]).unwrap();
                    let until = (at + random.usize(1..9)).min(bytes.len());
                    bytes[at..until].fill(number);
                }
                page = bytes.to_vec();
            });
            if random.u8(..) < 20 {
                forged.length = random.u64(1..1 << 40);
            }
            if random.u8(..) < 20 {
                forged.depth = random.u8(1..8);
            }
            forged.root = ExtentPointer {
                extent: root,
                checksum: page_checksum(STORE, root.address, BIRTH, &page),
                birth: BIRTH,
            };
            let reader = disk.reader(forged);
            let offset = random.u64(..forged.length);
            // An answer is possible where the forgery left the path alone.
            let _ = block_on(reader.read(offset, 2000));
            let _ = block_on(reader.verify(|_, _| Ok(())));
            let pages = DiskPages::new(disk.disk(), STORE);
            let _ = block_on(crate::value::each_extent(&forged, &pages, |_, _| Ok(())));
        }
    }

    #[test]
    fn a_block_at_another_address_or_of_another_birth_does_not_verify() {
        let disk = TestDisk::new();
        let value = disk.write(8, &content(1, 300)).value;
        let other = disk.write(8, &content(1, 300)).value;
        let mut wrong = value;
        wrong.root.extent = other.root.extent;
        assert!(block_on(disk.reader(wrong).read_all(300)).is_err());
        let mut wrong = value;
        wrong.root.birth = Birth(4);
        assert!(block_on(disk.reader(wrong).read_all(300)).is_err());
        let mut wrong = value;
        wrong.root.extent.address = Address::new(900, 0);
        assert!(block_on(disk.reader(wrong).read_all(300)).is_err());
    }
}
