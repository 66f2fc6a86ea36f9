//! [`ValueWriter`]: writes a value of unknown length as its bytes come.
//!
//! It holds at most one extent's worth of data (1 MiB), one open index page for each level, and 16
//! bytes for each extent, which the owner needs in the end: 16 MiB for a terabyte. Data goes to the
//! disk in one save for each extent, index pages with the data that completes them; the last save
//! takes the rest of the data and the index at once, so that a small value costs one write.
//!
//! An extent is written by one save and never again. Every extent is in the writer's list from the
//! moment it is allocated, so none is lost when a save or an allocation fails or a future is
//! dropped: [`ValueWriter::abandon`] tells which can be used again at once and which cannot.

use std::mem;

use bytes::{Bytes, BytesMut};

use crate::disk::{Disk, Page};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Birth, Extent, StoreId, page_checksum};

use super::codec::{Codec, Compression, Encoder};
use super::index::{DataExtent, FAN_OUT, StoredBlock, encode_child_page, encode_data_page};
use super::payload::{
    BLOCK_BYTES_LEAST, BLOCK_BYTES_MOST, ExtentPointer, OffTree, VALUE_BYTES_MAX,
};

/// The largest data extent, and so the largest save and what a writer holds back at most.
const EXTENT_BYTES_MAX: u32 = 1 << 20;

/// Gives out extents of exactly so many bytes, at the beginning of a sector, not straddling
/// segments. [`ErrorKind::StorageFull`] makes the writer ask for less.
pub(crate) trait Allocate: Send {
    fn allocate(&mut self, bytes: u32) -> Result<Extent>;
}

impl<F: FnMut(u32) -> Result<Extent> + Send> Allocate for F {
    fn allocate(&mut self, bytes: u32) -> Result<Extent> {
        self(bytes)
    }
}

/// How a value is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    /// What one checksum covers.
    pub(super) block_bytes: u32,
    /// The largest data extent: whole blocks.
    extent_bytes: u32,
    /// The blocks of a page of level 1 and the entries of one above, at most.
    fan_out: u32,
    /// What the value says of its blocks, and how those that are written are compressed.
    pub(super) codec: Codec,
    compression: Compression,
}

impl Shape {
    /// Cuts a value into such blocks, for a disk with such segments.
    pub(crate) fn new(block_bytes: u32, segment_bytes: u32) -> Result<Self> {
        Self::with_fan_out(block_bytes, segment_bytes, FAN_OUT)
    }

    /// The same with smaller index pages.
    pub(crate) fn with_fan_out(block_bytes: u32, segment_bytes: u32, fan_out: u32) -> Result<Self> {
        let blocks_possible = BLOCK_BYTES_LEAST..=BLOCK_BYTES_MOST.min(segment_bytes);
        if !blocks_possible.contains(&block_bytes) || !(2..=FAN_OUT).contains(&fan_out) {
            return Err(Error::invalid(format!(
                "blocks of {block_bytes} bytes and an index of {fan_out} entries a page \
                 are not possible in segments of {segment_bytes} bytes"
            )));
        }
        // A quarter of a segment, so that what other extents leave over can be used.
        let bytes = EXTENT_BYTES_MAX.min(segment_bytes / 4);
        let blocks = (bytes / block_bytes).clamp(1, fan_out);
        Ok(Self {
            block_bytes,
            extent_bytes: blocks * block_bytes,
            fan_out,
            codec: Codec::None,
            compression: Compression::None,
        })
    }

    /// The same, with blocks compressed.
    pub(crate) fn compressed(self, compression: Compression) -> Self {
        Self {
            codec: compression.codec(),
            compression,
            ..self
        }
    }

    /// The same, for a value that takes over blocks of one with a codec.
    pub(crate) fn with_codec(self, codec: Codec, compression: Compression) -> Self {
        Self {
            codec,
            compression: compression.of(codec),
            ..self
        }
    }
}

/// A value that was written, not synced.
#[derive(Debug)]
pub(crate) struct WrittenValue {
    pub(crate) value: OffTree,
    /// Every extent of the value, data and index, as allocated.
    pub(crate) extents: Vec<Extent>,
}

/// What an unfinished value leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    /// Extents that nothing writes to: free at once.
    pub(crate) idle: Vec<Extent>,
    /// Extents of a save whose future was dropped: the disk may still write to them, so they must
    /// not be used again before the store is reopened.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "it is left alone, which is the point")
    )]
    pub(crate) in_flight: Vec<Extent>,
}

/// The page of level 1 that is being filled.
#[derive(Default)]
pub(super) struct OpenPage {
    pub(super) extents: Vec<DataExtent>,
    pub(super) blocks: Vec<StoredBlock>,
    pub(super) bytes: u64,
    pub(super) disk_bytes: u64,
}

/// Writes one value. After an error it takes no more.
pub(crate) struct ValueWriter<A: Allocate> {
    disk: Disk,
    pub(super) store: StoreId,
    pub(super) birth: Birth,
    pub(super) shape: Shape,
    encoder: Encoder,
    allocate: A,
    /// What was taken and not saved: at most one extent.
    pub(super) buffer: BytesMut,
    pub(super) length: u64,
    pub(super) open: OpenPage,
    /// For level 2 and those above, the entries of the page that is being filled.
    pub(super) levels: Vec<Vec<OffTree>>,
    extents: Vec<Extent>,
    /// From which extent on a save may be under way.
    saving_from: Option<usize>,
    pub(super) usable: bool,
}

impl<A: Allocate> ValueWriter<A> {
    /// A writer of a value of this birth: a generation not above the one that will name it.
    pub(crate) fn new(disk: Disk, store: StoreId, birth: Birth, shape: Shape, allocate: A) -> Self {
        Self {
            disk,
            store,
            birth,
            shape,
            encoder: Encoder::new(shape.compression),
            allocate,
            buffer: BytesMut::new(),
            length: 0,
            open: OpenPage::default(),
            levels: Vec::new(),
            extents: Vec::new(),
            saving_from: None,
            usable: true,
        }
    }

    /// How many bytes were taken.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether parts of extents in blocks of this size can be given back: they are whole sectors.
    pub(crate) fn can_share(&self, block_bytes: u32) -> bool {
        let sector_bytes = self.disk.properties().sector_bytes;
        block_bytes.is_multiple_of(sector_bytes)
    }

    #[cfg(test)]
    /// The extents allocated until now.
    pub(crate) fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Appends bytes by copying them.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.begin(bytes.len())?;
        while !bytes.is_empty() {
            bytes = self.fill(bytes);
            if !bytes.is_empty() {
                self.save_buffer().await?;
            }
        }
        self.usable = true;
        Ok(())
    }

    /// Appends bytes; whole extents of them are saved without being copied.
    pub(crate) async fn write_bytes(&mut self, mut bytes: Bytes) -> Result<()> {
        self.begin(bytes.len())?;
        let extent_bytes = self.shape.extent_bytes as usize;
        while !bytes.is_empty() {
            if self.buffer.is_empty() && bytes.len() > extent_bytes {
                let part = bytes.split_to(extent_bytes);
                let mut pages = Vec::new();
                self.place(part, &mut pages)?;
                self.save(pages).await?;
                continue;
            }
            let rest = self.fill(&bytes).len();
            bytes = bytes.split_off(bytes.len() - rest);
            if rest > 0 {
                self.save_buffer().await?;
            }
        }
        self.usable = true;
        Ok(())
    }

    /// Takes as many bytes as fit what is held back; none if a save is due first.
    pub(crate) fn take_some(&mut self, bytes: &[u8]) -> Result<usize> {
        let room = self.shape.extent_bytes as usize - self.buffer.len();
        let taken = room.min(bytes.len());
        self.begin(taken)?;
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.usable = true;
        Ok(taken)
    }

    /// Saves what is held back.
    pub(crate) async fn save_taken(&mut self) -> Result<()> {
        self.begin(0)?;
        self.save_buffer().await?;
        self.usable = true;
        Ok(())
    }

    /// The whole value, if nothing of it was saved yet.
    pub(crate) fn held_back(&self) -> Option<&[u8]> {
        let whole = self.buffer.len() as u64 == self.length;
        (self.usable && whole).then_some(&self.buffer[..])
    }

    /// Saves what is left and the index. Afterwards the extents belong to the caller. The value is
    /// durable after a sync of the disk. On an error the extents are still the writer's.
    pub(crate) async fn finish(&mut self) -> Result<WrittenValue> {
        self.begin(0)?;
        let mut pages = Vec::new();
        let rest = mem::take(&mut self.buffer).freeze();
        self.place(rest, &mut pages)?;
        let value = self.close(&mut pages)?.check()?;
        self.save(pages).await?;
        Ok(WrittenValue {
            value,
            extents: mem::take(&mut self.extents),
        })
    }

    /// Gives up the value. The extents of a finished one are not among those returned.
    pub(crate) fn abandon(self) -> Abandoned {
        let mut idle = self.extents;
        let in_flight = match self.saving_from {
            Some(from) => idle.split_off(from),
            None => Vec::new(),
        };
        Abandoned { idle, in_flight }
    }

    /// Counts bytes to be taken; the writer is unusable until the caller says otherwise, so that
    /// neither an error nor a dropped future leaves a value with a hole.
    pub(super) fn begin(&mut self, more: usize) -> Result<()> {
        if !mem::replace(&mut self.usable, false) {
            return Err(Error::invalid(
                "writing to an off-tree value that is finished or failed before",
            ));
        }
        let length = self.length.checked_add(more as u64);
        self.length = length
            .filter(|length| *length <= VALUE_BYTES_MAX)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "writing an off-tree value: it has more than {VALUE_BYTES_MAX} bytes"
                ))
            })?;
        Ok(())
    }

    /// Fills the buffer up to one extent; the rest of the bytes.
    fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = self.shape.extent_bytes as usize - self.buffer.len();
        let (taken, rest) = bytes.split_at(room.min(bytes.len()));
        self.buffer.extend_from_slice(taken);
        rest
    }

    async fn save_buffer(&mut self) -> Result<()> {
        let bytes = mem::take(&mut self.buffer).freeze();
        let mut pages = Vec::new();
        self.place(bytes.clone(), &mut pages)?;
        self.save(pages).await?;
        // The same memory again, unless the disk keeps it.
        if let Ok(mut buffer) = bytes.try_into_mut() {
            buffer.clear();
            self.buffer = buffer;
        }
        Ok(())
    }

    pub(super) async fn save(&mut self, pages: Vec<Page>) -> Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        self.saving_from = Some(self.extents.len().saturating_sub(pages.len()));
        let saved = self.disk.save(pages, false).await;
        self.saving_from = None;
        saved
    }

    /// Allocates an extent for one page of the save being put together.
    fn allocate_exactly(&mut self, bytes: u32) -> Result<Extent> {
        let extent = self.allocate.allocate(bytes)?;
        debug_assert_eq!(extent.length, bytes);
        self.extents.push(extent);
        Ok(extent)
    }

    pub(super) fn disk_bytes(&self, extent: Extent) -> u64 {
        let sector = self.disk.properties().sector_bytes;
        extent.whole_sectors(sector).length.into()
    }

    /// Gives data a place on the disk and in the index.
    pub(super) fn place(&mut self, mut data: Bytes, pages: &mut Vec<Page>) -> Result<()> {
        while !data.is_empty() {
            let room = self.room(pages)? * self.shape.block_bytes as usize;
            let part = data.split_to(data.len().min(room));
            let stored = self.compress(&part);
            self.place_blocks(part, &stored, pages)?;
        }
        Ok(())
    }

    /// The blocks of some data as they are to be stored; none if all of them as they are.
    fn compress(&mut self, data: &Bytes) -> Vec<Bytes> {
        if self.shape.codec == Codec::None {
            return Vec::new();
        }
        let sector_bytes = self.disk.properties().sector_bytes;
        let blocks = data.chunks(self.shape.block_bytes as usize);
        blocks
            .map(|block| match self.encoder.compress(block, sector_bytes) {
                Some(compressed) => compressed.into(),
                None => data.slice_ref(block),
            })
            .collect()
    }

    /// Where blocks stand in an extent: one after the other, those of a value with a codec at the
    /// beginnings of sectors. The checksums are still to come.
    fn lay_out(&self, data: &Bytes, stored: &[Bytes]) -> Vec<StoredBlock> {
        let block_bytes = self.shape.block_bytes;
        let block = |offset, length| StoredBlock {
            checksum: 0,
            offset,
            length,
        };
        if stored.is_empty() {
            let blocks = data.chunks(block_bytes as usize);
            let offsets = (0..).step_by(block_bytes as usize);
            let laid = blocks.zip(offsets);
            return laid
                .map(|(bytes, at)| block(at, bytes.len() as u32))
                .collect();
        }
        let sector_bytes = self.disk.properties().sector_bytes;
        let mut end = 0u32;
        let mut blocks = Vec::with_capacity(stored.len());
        for bytes in stored {
            let offset = end.next_multiple_of(sector_bytes);
            blocks.push(block(offset, bytes.len() as u32));
            end = offset + bytes.len() as u32;
        }
        blocks
    }

    /// Places blocks, all that are wanted in one extent, or in several smaller ones while the disk
    /// has none as large.
    fn place_blocks(
        &mut self,
        mut data: Bytes,
        mut stored: &[Bytes],
        pages: &mut Vec<Page>,
    ) -> Result<()> {
        while !data.is_empty() {
            let mut blocks = self.lay_out(&data, stored);
            let extent = loop {
                let Some(last) = blocks.last() else {
                    return Err(Error::invalid("placing no blocks"));
                };
                match self.allocate_exactly(last.offset + last.length) {
                    Err(error) if error.kind() == ErrorKind::StorageFull && blocks.len() > 1 => {
                        blocks.truncate(blocks.len() / 2);
                    }
                    allocated => break allocated?,
                }
            };
            let bytes_max = blocks.len() * self.shape.block_bytes as usize;
            let part = data.split_to(data.len().min(bytes_max));
            let logical_bytes = part.len() as u64;
            let part = match stored.split_at_checked(blocks.len()) {
                Some((now, after)) => {
                    stored = after;
                    let mut joined = Vec::with_capacity(extent.length as usize);
                    for (block, bytes) in blocks.iter().zip(now) {
                        joined.resize(block.offset as usize, 0);
                        joined.extend_from_slice(bytes);
                    }
                    joined.into()
                }
                None => part,
            };
            self.open.extents.push(DataExtent {
                extent,
                birth: self.birth,
                first: self.open.blocks.len() as u64,
                blocks: blocks.len() as u64,
            });
            for block in &mut blocks {
                let at = extent.address.plus(block.offset);
                let end = (block.offset + block.length) as usize;
                let bytes = &part[block.offset as usize..end];
                block.checksum = page_checksum(self.store, at, self.birth, bytes);
            }
            self.open.blocks.extend(blocks);
            self.open.bytes += logical_bytes;
            self.open.disk_bytes += self.disk_bytes(extent);
            pages.push(Page {
                at: extent.address,
                bytes: part,
            });
        }
        Ok(())
    }

    /// How many blocks the open page still takes, one at least: a full one is closed first. So all
    /// pages but the last have as many blocks, and a block has its place in the index for ever.
    pub(super) fn room(&mut self, pages: &mut Vec<Page>) -> Result<usize> {
        let fan_out = self.shape.fan_out as usize;
        if self.open.blocks.len() >= fan_out {
            let full = self.close_open(pages)?;
            self.add_child(0, full, pages)?;
        }
        Ok(fan_out - self.open.blocks.len())
    }

    /// Gives an index page a place; what it stands for, as a value.
    fn place_index(
        &mut self,
        page: Vec<u8>,
        depth: u8,
        length: u64,
        below: u64,
        pages: &mut Vec<Page>,
    ) -> Result<OffTree> {
        let extent = self.allocate_exactly(page.len() as u32)?;
        let checksum = page_checksum(self.store, extent.address, self.birth, &page);
        pages.push(Page {
            at: extent.address,
            bytes: page.into(),
        });
        Ok(OffTree {
            length,
            disk_bytes: below + self.disk_bytes(extent),
            root: ExtentPointer {
                extent,
                checksum,
                birth: self.birth,
            },
            block_bytes: self.shape.block_bytes,
            depth,
            codec: self.shape.codec,
        })
    }

    pub(super) fn close_open(&mut self, pages: &mut Vec<Page>) -> Result<OffTree> {
        let open = mem::take(&mut self.open);
        let page = encode_data_page(
            self.shape.block_bytes,
            self.shape.codec,
            &open.extents,
            &open.blocks,
        );
        self.place_index(page, 1, open.bytes, open.disk_bytes, pages)
    }

    pub(super) fn close_level(
        &mut self,
        level: usize,
        children: &[OffTree],
        pages: &mut Vec<Page>,
    ) -> Result<OffTree> {
        let depth = level as u8 + 2;
        let page = encode_child_page(self.shape.block_bytes, self.shape.codec, depth, children);
        let length = children.iter().map(|child| child.length).sum();
        let below = children.iter().map(|child| child.disk_bytes).sum();
        self.place_index(page, depth, length, below, pages)
    }

    /// Adds an entry; a page that was full already is closed first and added one level up, so that
    /// no page is empty.
    pub(super) fn add_child(
        &mut self,
        mut level: usize,
        mut child: OffTree,
        pages: &mut Vec<Page>,
    ) -> Result<()> {
        loop {
            while level >= self.levels.len() {
                self.levels.push(Vec::new());
            }
            let entries = &mut self.levels[level];
            if entries.len() < self.shape.fan_out as usize {
                entries.push(child);
                return Ok(());
            }
            let full = mem::replace(entries, vec![child]);
            child = self.close_level(level, &full, pages)?;
            level += 1;
        }
    }

    /// Closes every open page, from below; the whole value.
    fn close(&mut self, pages: &mut Vec<Page>) -> Result<OffTree> {
        // Left empty by what was taken over from a longer value.
        while self.levels.last().is_some_and(Vec::is_empty) {
            self.levels.pop();
        }
        if self.levels.is_empty()
            && let (extents, blocks) = (&self.open.extents[..], &self.open.blocks[..])
            && let ([] | [_], [] | [_]) = (extents, blocks)
        {
            let root = match (extents, blocks) {
                (&[data], &[block]) => ExtentPointer {
                    extent: data.extent,
                    checksum: block.checksum,
                    birth: data.birth,
                },
                _ => ExtentPointer::NOTHING,
            };
            let is_compressed = u64::from(root.extent.length) < self.open.bytes;
            return Ok(OffTree {
                length: self.open.bytes,
                disk_bytes: self.open.disk_bytes,
                root,
                block_bytes: self.shape.block_bytes,
                depth: 0,
                codec: match is_compressed {
                    true => self.shape.codec,
                    false => Codec::None,
                },
            });
        }
        if !self.open.blocks.is_empty() {
            let last = self.close_open(pages)?;
            self.add_child(0, last, pages)?;
        }
        let mut level = 0;
        loop {
            let children = mem::take(&mut self.levels[level]);
            if children.is_empty() {
                level += 1;
                continue;
            }
            if level + 1 == self.levels.len()
                && let [root] = children[..]
            {
                return Ok(root);
            }
            let closed = self.close_level(level, &children, pages)?;
            level += 1;
            self.add_child(level, closed, pages)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::testing::{BIRTH, STORE, TestDisk, content};
    use super::*;
    use crate::disk::block_on;

    #[test]
    fn a_small_value_costs_one_save_and_no_index() {
        let disk = TestDisk::new();
        for length in [1, 511, 512] {
            let saves = disk.state().saves;
            let written = disk.write(4, &content(1, length));
            assert_eq!(disk.state().saves, saves + 1);
            assert_eq!((written.value.depth, written.extents.len()), (0, 1));
            assert_eq!(written.value.disk_bytes, 512);
        }
        let written = disk.write(4, b"");
        assert_eq!((written.value.depth, written.extents.len()), (0, 0));
        let written = disk.write(4, &content(1, 513));
        assert_eq!((written.value.depth, written.extents.len()), (1, 2));
        assert_eq!(disk.state().saves, 4);
    }

    #[test]
    fn a_large_value_is_saved_in_steps_of_a_mebibyte() {
        let disk = TestDisk::with_segments(16 << 20);
        let allocator = disk.clone();
        let shape = Shape::new(32 << 10, 16 << 20).unwrap();
        let mut writer = ValueWriter::new(disk.disk(), STORE, BIRTH, shape, move |bytes| {
            allocator.allocate(bytes)
        });
        let value = content(2, (5 << 20) + 1000);
        let written = block_on(async {
            writer.write_bytes(value.clone().into()).await?;
            writer.finish().await
        })
        .unwrap();
        assert_eq!(disk.state().saves, 6);
        assert_eq!(written.value.depth, 1);
        assert_eq!(written.extents.len(), 7);
        let reader = disk.reader(written.value);
        assert!(block_on(reader.read_all(usize::MAX)).unwrap() == value);
        assert!(disk.state().reads.iter().all(|read| *read <= 1 << 20));
        disk.state().reads.clear();
        let part = block_on(reader.read(3_000_000, 4096)).unwrap();
        assert!(part == value[3_000_000..3_004_096]);
        let index_bytes = written.value.root.extent.length;
        assert_eq!(disk.state().reads, [index_bytes, 32 << 10]);
    }

    #[test]
    fn pieces_of_any_size_lent_or_owned_make_the_same_value() {
        let seed = 0x7e11;
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..60 {
            let disk = TestDisk::new();
            let value = content(round, random.usize(..40_000));
            let mut writer = disk.writer(3);
            let mut rest = &value[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(random.usize(1..=rest.len().min(9000)));
                rest = after;
                block_on(async {
                    match random.bool() {
                        true => writer.write(piece).await,
                        false => writer.write_bytes(Bytes::copy_from_slice(piece)).await,
                    }
                })
                .unwrap();
            }
            assert_eq!(writer.length(), value.len() as u64);
            let written = block_on(writer.finish()).unwrap();
            assert_eq!(written.extents, disk.state().allocated);
            let read = block_on(disk.reader(written.value).read_all(usize::MAX)).unwrap();
            assert!(read == value, "seed {seed}, round {round}");
        }
    }

    #[test]
    fn where_room_is_scattered_extents_become_smaller() {
        let disk = TestDisk::new();
        disk.state().largest = 700;
        let value = content(3, 10_000);
        let written = disk.write(8, &value);
        let read = block_on(disk.reader(written.value).read_all(usize::MAX)).unwrap();
        assert!(read == value);
    }

    #[test]
    fn when_an_allocation_fails_everything_allocated_is_known() {
        let value = content(4, 20_000);
        let needed = TestDisk::new().write(2, &value).extents.len();
        for enough in 0..needed {
            let disk = TestDisk::new();
            disk.state().allocations_left = enough;
            let mut writer = disk.writer(2);
            let result = block_on(async {
                writer.write(&value).await?;
                writer.finish().await
            });
            assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
            assert!(block_on(writer.write(b"more")).is_err());
            assert!(block_on(writer.finish()).is_err());
            let abandoned = writer.abandon();
            assert_eq!(abandoned.idle, disk.state().allocated);
            assert_eq!(abandoned.idle.len(), enough);
            assert_eq!(abandoned.in_flight, []);
        }
    }

    #[test]
    fn extents_of_a_save_that_was_dropped_midway_are_told_apart() {
        let disk = TestDisk::new();
        let mut writer = disk.writer(2);
        block_on(writer.write(&content(5, 3000))).unwrap();
        let before = disk.state().allocated.len();
        disk.state().hang_saves = true;
        {
            let bytes = content(6, 3000);
            let mut write = pin!(writer.write(&bytes));
            let mut context = Context::from_waker(Waker::noop());
            assert!(write.as_mut().poll(&mut context).is_pending());
        }
        disk.state().hang_saves = false;
        assert!(block_on(writer.write(b"more")).is_err());
        let abandoned = writer.abandon();
        let allocated = disk.state().allocated.clone();
        assert_eq!(abandoned.idle, allocated[..before]);
        assert_eq!(abandoned.in_flight, allocated[before..]);
        assert!(!abandoned.in_flight.is_empty());
    }

    #[test]
    fn after_a_failed_save_the_writer_takes_no_more() {
        let disk = TestDisk::new();
        let mut writer = disk.writer(2);
        disk.state().fail_saves = true;
        block_on(writer.write(&content(7, 300))).unwrap();
        assert!(block_on(writer.finish()).is_err());
        disk.state().fail_saves = false;
        assert!(block_on(writer.finish()).is_err());
        assert_eq!(writer.extents(), disk.state().allocated);
    }

    #[test]
    fn reading_and_writing_can_move_between_threads() {
        fn can_move(_: impl Send) {}
        let disk = TestDisk::new();
        let mut writer = disk.writer(2);
        can_move(writer.write(b"bytes"));
        can_move(writer.write_bytes(Bytes::new()));
        can_move(writer.finish());
        let reader = disk.reader(disk.write(2, &content(8, 2000)).value);
        can_move(reader.read_all(10));
        can_move(reader.verify(|_, _| Ok(())));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert!(Shape::new(1 << 20, 64 << 10).is_err());
        assert!(Shape::new(100, 64 << 10).is_err());
        assert!(Shape::with_fan_out(512, 64 << 10, 1).is_err());
        assert!(Shape::new(1 << 20, 1 << 20).is_ok());
    }
}
