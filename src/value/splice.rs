//! Making a value of another: what stays of it is taken over, not copied.
//!
//! [`ValueWriter::take_front`] begins with the blocks of another value up to one, as though they had
//! been written; [`ValueWriter::take_back`] goes on with those from one on. Whole index pages are
//! taken over by their pointers. The pages on the way to the first and the last block that were
//! written are made anew, so that the root of what comes out is a page of its own.
//! [`ValueWriter::splice`] puts the two together; what cannot be shared it copies.
//!
//! [`ValueWriter::move_parts`] leaves all of a value as it is, but elsewhere in part.
//!
//! [`ValueWriter::take_anew`] makes a value that has all data of another one and nothing else of it:
//! its index is its own, and names the extents with its own birth.

use bytes::Bytes;

use crate::disk::Page;
use crate::error::{Error, Result};
use crate::format::{Birth, Extent, page_checksum_of_birth};

use super::index::{DataExtent, IndexPage, StoredBlock};
use super::payload::OffTree;
use super::reader::ValueReader;
use super::source::PageSource;
use super::writer::{Allocate, ValueWriter};

/// How much is copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// What becomes of a value: its beginning, zeros, other bytes, and its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Splice<'b> {
    /// How many of its first bytes stay.
    pub(crate) keep: u64,
    pub(crate) zeros: u64,
    pub(crate) bytes: &'b [u8],
    /// From which of its bytes on it stays again, at its place; its length if nothing does.
    pub(crate) resume: u64,
}

impl Splice<'_> {
    /// How long a value of some length becomes.
    pub(crate) fn length(&self, before: u64) -> u64 {
        let new = self.zeros.saturating_add(self.bytes.len() as u64);
        let rest = before.saturating_sub(self.resume);
        self.keep.saturating_add(new).saturating_add(rest)
    }
}

/// Where in a page of a value something begins.
struct Place<P> {
    page: P,
    part: OffTree,
    entry: usize,
}

impl<A: Allocate> ValueWriter<A> {
    /// Writes what becomes of a value; says whether it shares extents with it, which it does only if
    /// it `may`. Memory: a mebibyte besides the writer's own. Writes and reads about as much as
    /// changes, where blocks can be shared.
    pub(crate) async fn splice<P: PageSource>(
        &mut self,
        reader: &ValueReader<P>,
        splice: &Splice<'_>,
        may_share: bool,
    ) -> Result<bool> {
        let value = *reader.value();
        let block_bytes = u64::from(value.block_bytes);
        let shares = may_share
            && self.check_shareable(&value).is_ok()
            && splice.length(value.length) > block_bytes
            && (splice.keep >= block_bytes || splice.resume < value.length);
        let front = match shares {
            true => splice.keep / block_bytes,
            false => 0,
        };
        let back = match shares {
            true => splice
                .resume
                .next_multiple_of(block_bytes)
                .min(value.length),
            false => value.length,
        };
        if front == 0 && back == value.length {
            self.copy(reader, 0, splice.keep).await?;
            self.write_new(splice).await?;
            self.copy(reader, splice.resume, value.length).await?;
            return Ok(false);
        }
        self.take_front(&value, front, reader.pages()).await?;
        self.copy(reader, front * block_bytes, splice.keep).await?;
        self.write_new(splice).await?;
        self.copy(reader, splice.resume, back).await?;
        if back < value.length {
            self.take_back(&value, back / block_bytes, reader.pages())
                .await?;
        }
        Ok(true)
    }

    /// Writes the zeros and the bytes of a change.
    pub(crate) async fn write_new(&mut self, splice: &Splice<'_>) -> Result<()> {
        let zeros = Bytes::from_static(&[0; 64 << 10]);
        let mut left = splice.zeros;
        while left > 0 {
            let some = zeros.slice(..left.min(zeros.len() as u64) as usize);
            left -= some.len() as u64;
            self.write_bytes(some).await?;
        }
        self.write(splice.bytes).await
    }

    /// Writes some bytes of a value.
    async fn copy<P: PageSource>(
        &mut self,
        reader: &ValueReader<P>,
        mut from: u64,
        end: u64,
    ) -> Result<()> {
        while from < end {
            let part = reader
                .read(from, (end - from).min(COPY_BYTES) as usize)
                .await?;
            if part.is_empty() {
                return Err(Error::corrupt_at(
                    reader.value().root.extent,
                    "an off-tree value ends before its end",
                ));
            }
            from += part.len() as u64;
            self.write_bytes(part.into()).await?;
        }
        Ok(())
    }

    /// Begins with the first `blocks` blocks of a value with an index, all of them whole. Reads one
    /// page of each level.
    pub(super) async fn take_front(
        &mut self,
        value: &OffTree,
        blocks: u64,
        pages: &impl PageSource,
    ) -> Result<()> {
        let length = blocks * u64::from(value.block_bytes);
        self.check_shareable(value)?;
        if self.length() > 0 || length > value.length {
            return Err(Error::invalid(
                "taking over the beginning of a value that is not there, or not at the beginning",
            ));
        }
        if blocks == 0 {
            return Ok(());
        }
        self.begin(0)?;
        let (mut part, mut first) = (*value, 0);
        while part.depth > 1 {
            let page = pages.load(part.root, part.depth).await?;
            let index = IndexPage::new(page.as_ref(), &part)?;
            let last = index.entry_of(blocks - 1 - first)?;
            let level = usize::from(part.depth) - 2;
            for entry in 0..last {
                let (_, child) = index.child(entry)?;
                while level >= self.levels.len() {
                    self.levels.push(Vec::new());
                }
                self.levels[level].push(child);
            }
            let (below, child) = index.child(last)?;
            first += below;
            part = child;
        }
        let page = pages.load(part.root, part.depth).await?;
        let index = IndexPage::new(page.as_ref(), &part)?;
        let mut saved = Vec::new();
        for entry in 0..=index.entry_of(blocks - 1 - first)? {
            let data = index.data(entry)?;
            let end = (data.first + data.blocks).min(blocks - first);
            self.take_blocks(&index, &data, data.first, end, &mut saved)?;
        }
        self.save(saved).await?;
        self.length = length;
        self.usable = true;
        Ok(())
    }

    /// Goes on with the blocks of a value with an index from one on, to its end. What was written
    /// before must have ended where that one begins. Reads one page of each level.
    pub(super) async fn take_back(
        &mut self,
        value: &OffTree,
        from: u64,
        pages: &impl PageSource,
    ) -> Result<()> {
        let start = from * u64::from(value.block_bytes);
        self.check_shareable(value)?;
        if self.length() != start || start >= value.length {
            return Err(Error::invalid(
                "taking over the end of a value that is not there, or at another place",
            ));
        }
        self.begin((value.length - start) as usize)?;
        let mut saved = Vec::new();
        let rest: Bytes = std::mem::take(&mut self.buffer).freeze();
        self.place(rest, &mut saved)?;
        // From the root down to the page of level 1: where the rest of each begins.
        let mut path = Vec::new();
        let (mut part, mut first) = (*value, 0);
        loop {
            let page = pages.load(part.root, part.depth).await?;
            let index = IndexPage::new(page.as_ref(), &part)?;
            let entry = index.entry_of(from - first)?;
            if part.depth <= 1 {
                path.push(Place { page, part, entry });
                break;
            }
            let (below, child) = index.child(entry)?;
            let begins = first + below == from;
            let entry = if begins { entry } else { entry + 1 };
            path.push(Place { page, part, entry });
            if begins {
                break;
            }
            first += below;
            part = child;
        }
        while let Some(Place { page, part, entry }) = path.pop() {
            let index = IndexPage::new(page.as_ref(), &part)?;
            for entry in entry..index.entries() {
                if part.depth > 1 {
                    self.take_page(index.child(entry)?.1, &mut saved)?;
                    continue;
                }
                let data = index.data(entry)?;
                let begin = data.first.max(from - first);
                self.take_blocks(&index, &data, begin, data.first + data.blocks, &mut saved)?;
            }
        }
        self.save(saved).await?;
        self.usable = true;
        Ok(())
    }

    /// Makes a value again: takes over the extents that stay and copies the others, or where that cannot
    /// be, all of it. Says whether it shares extents with what it was. Its index is made anew. Memory:
    /// a mebibyte besides the writer's own.
    pub(crate) async fn move_parts<P: PageSource>(
        &mut self,
        reader: &ValueReader<P>,
        stays: impl Fn(Extent, Birth) -> bool + Send,
    ) -> Result<bool> {
        let value = *reader.value();
        let block_bytes = u64::from(value.block_bytes);
        if self.check_shareable(&value).is_err() || value.length <= block_bytes {
            self.copy(reader, 0, value.length).await?;
            return Ok(false);
        }
        let mut shares = false;
        let mut parts = vec![(value, 0)];
        while let Some((part, begins)) = parts.pop() {
            let page = reader.pages().load(part.root, part.depth).await?;
            let index = IndexPage::new(page.as_ref(), &part)?;
            for entry in (0..index.entries()).rev().filter(|_| part.depth > 1) {
                let (below, child) = index.child(entry)?;
                parts.push((child, begins + below));
            }
            for entry in (0..index.entries()).filter(|_| part.depth == 1) {
                let data = index.data(entry)?;
                let bytes = part.bytes_of(data.first, data.blocks);
                if !stays(data.extent, data.birth) {
                    let from = (begins + data.first) * block_bytes;
                    self.copy(reader, from, from + bytes).await?;
                    continue;
                }
                self.begin(bytes as usize)?;
                let mut saved = Vec::new();
                let rest: Bytes = std::mem::take(&mut self.buffer).freeze();
                self.place(rest, &mut saved)?;
                let end = data.first + data.blocks;
                self.take_blocks(&index, &data, data.first, end, &mut saved)?;
                self.save(saved).await?;
                self.usable = true;
                shares = true;
            }
        }
        Ok(shares)
    }

    /// Makes all of a value out of another one's data, of which nothing is read: the extents that the
    /// two share, with the births that they have in the other. Reads its index.
    pub(crate) async fn take_anew(
        &mut self,
        value: &OffTree,
        pages: &impl PageSource,
    ) -> Result<Vec<(Extent, Birth)>> {
        let shape = (self.shape.block_bytes, self.shape.codec);
        if self.length() > 0 || shape != (value.block_bytes, value.codec) {
            return Err(Error::invalid(
                "taking over a value in other blocks, or after something else",
            ));
        }
        self.begin(0)?;
        let mut shared = Vec::new();
        let mut parts = vec![*value];
        while let Some(part) = parts.pop() {
            let mut saved = Vec::new();
            if part.depth == 0 {
                self.take_extent(
                    (part.root.extent, part.root.birth),
                    vec![part.root_block()],
                    part.length,
                    &mut saved,
                )?;
                shared.push((part.root.extent, part.root.birth));
                continue;
            }
            let page = pages.load(part.root, part.depth).await?;
            let index = IndexPage::new(page.as_ref(), &part)?;
            for entry in (0..index.entries()).rev().filter(|_| part.depth > 1) {
                parts.push(index.child(entry)?.1);
            }
            for entry in (0..index.entries()).filter(|_| part.depth == 1) {
                let data = index.data(entry)?;
                let (mut from, end) = (data.first, data.first + data.blocks);
                while from < end {
                    let blocks = (end - from).min(self.room(&mut saved)? as u64);
                    let (extent, stored) = index.part(&data, from, blocks)?;
                    let bytes = part.bytes_of(from, blocks);
                    self.take_extent((extent, data.birth), stored, bytes, &mut saved)?;
                    shared.push((extent, data.birth));
                    from += blocks;
                }
            }
            self.save(saved).await?;
        }
        self.length = value.length;
        self.usable = true;
        Ok(shared)
    }

    /// Enters blocks of another value that make up an extent, as though they had been written now.
    fn take_extent(
        &mut self,
        (extent, birth): (Extent, Birth),
        mut blocks: Vec<StoredBlock>,
        bytes: u64,
        saved: &mut Vec<Page>,
    ) -> Result<()> {
        self.room(saved)?;
        for block in &mut blocks {
            block.checksum = page_checksum_of_birth(
                self.store,
                extent.address.plus(block.offset),
                (birth, self.birth),
                block.length,
                block.checksum,
            );
        }
        self.open.extents.push(DataExtent {
            extent,
            birth: self.birth,
            first: self.open.blocks.len() as u64,
            blocks: blocks.len() as u64,
        });
        self.open.blocks.extend(blocks);
        self.open.bytes += bytes;
        self.open.disk_bytes += self.disk_bytes(extent);
        Ok(())
    }

    /// Parts of extents can be given back alone only where blocks are whole sectors.
    fn check_shareable(&self, value: &OffTree) -> Result<()> {
        let possible = value.depth > 0
            && value.block_bytes == self.shape.block_bytes
            && value.codec == self.shape.codec
            && self.can_share(value.block_bytes);
        match possible {
            true => Ok(()),
            false => Err(Error::invalid("the blocks of the value cannot be shared")),
        }
    }

    /// Enters some blocks of a data extent, numbered as on their page.
    fn take_blocks(
        &mut self,
        index: &IndexPage<'_>,
        data: &DataExtent,
        mut from: u64,
        end: u64,
        saved: &mut Vec<Page>,
    ) -> Result<()> {
        while from < end {
            let blocks = (end - from).min(self.room(saved)? as u64);
            let (extent, stored) = index.part(data, from, blocks)?;
            self.open.extents.push(DataExtent {
                extent,
                birth: data.birth,
                first: self.open.blocks.len() as u64,
                blocks,
            });
            self.open.blocks.extend(stored);
            self.open.bytes += index.value().bytes_of(from, blocks);
            self.open.disk_bytes += self.disk_bytes(extent);
            from += blocks;
        }
        Ok(())
    }

    /// Enters a page with all that is below it. What is open below its level is closed first.
    fn take_page(&mut self, part: OffTree, saved: &mut Vec<Page>) -> Result<()> {
        let level = usize::from(part.depth) - 1;
        if !self.open.blocks.is_empty() {
            let last = self.close_open(saved)?;
            self.add_child(0, last, saved)?;
        }
        for below in 0..level.min(self.levels.len()) {
            let children = std::mem::take(&mut self.levels[below]);
            if !children.is_empty() {
                let closed = self.close_level(below, &children, saved)?;
                self.add_child(below + 1, closed, saved)?;
            }
        }
        self.add_child(level, part, saved)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::difference::{Unshared, each_unshared};
    use super::super::source::DiskPages;
    use super::super::testing::{STORE, TestDisk, content};
    use super::super::{WrittenValue, each_extent};
    use super::*;
    use crate::disk::block_on;
    use crate::format::Extent;

    const BLOCK: u64 = 512;

    fn sectors(extent: Extent) -> impl Iterator<Item = (u32, u32)> {
        let Extent { address, length } = extent;
        (0..length.div_ceil(512))
            .map(move |index| (address.segment(), address.offset() + index * 512))
    }

    fn all_sectors(disk: &TestDisk, value: &OffTree) -> BTreeSet<(u32, u32)> {
        let pages = DiskPages::new(disk.disk(), STORE);
        let mut found = BTreeSet::new();
        block_on(each_extent(value, &pages, |extent, _| {
            assert!(
                sectors(extent).all(|sector| found.insert(sector)),
                "twice: {extent}"
            );
            Ok(())
        }))
        .unwrap();
        found
    }

    fn unshared(disk: &TestDisk, value: &OffTree, others: &[OffTree]) -> BTreeSet<(u32, u32)> {
        let pages = DiskPages::new(disk.disk(), STORE);
        let mut found = BTreeSet::new();
        block_on(each_unshared(value, others, &pages, |part| {
            let all = match part {
                Unshared::Page(extent, _) | Unshared::Blocks(extent, ..) => {
                    sectors(extent).collect()
                }
                Unshared::Whole(value) => all_sectors(disk, &value),
            };
            for sector in all {
                assert!(found.insert(sector), "twice: {sector:?}");
            }
            Ok(())
        }))
        .unwrap();
        found
    }

    fn change(
        disk: &TestDisk,
        fan_out: u32,
        value: OffTree,
        splice: &Splice<'_>,
    ) -> (WrittenValue, bool) {
        let mut writer = disk.writer(fan_out);
        block_on(async {
            let shares = writer.splice(&disk.reader(value), splice, true).await?;
            Ok::<_, Error>((writer.finish().await?, shares))
        })
        .unwrap()
    }

    #[test]
    fn a_value_taken_anew_has_the_data_and_an_index_of_its_own() {
        for (fan_out, length) in [(2, 1), (2, 512), (2, 513), (2, 30_000), (7, 30_000)] {
            let disk = TestDisk::new();
            let content = content(1, length);
            let written = disk.write(fan_out, &content);
            let before: BTreeSet<_> = disk.state().allocated.iter().copied().collect();
            let mut writer = disk.writer_born(fan_out, Birth(77));
            let pages = DiskPages::new(disk.disk(), STORE);
            let (shared, anew) = block_on(async {
                let shared = writer.take_anew(&written.value, &pages).await?;
                Ok::<_, Error>((shared, writer.finish().await?))
            })
            .unwrap();
            assert_eq!(anew.value.length, written.value.length);
            assert!(anew.extents.iter().all(|extent| !before.contains(extent)));
            assert!(shared.iter().all(|(extent, _)| before.contains(extent)));
            assert_eq!(anew.extents.is_empty(), length <= 512);
            let reader = disk.reader(anew.value);
            assert_eq!(block_on(reader.read_all(usize::MAX)).unwrap(), content);
            let mut extents = BTreeSet::new();
            block_on(reader.verify(|extent, birth| {
                assert_eq!(birth, Birth(77));
                extents.insert(extent);
                Ok(())
            }))
            .unwrap();
            let own = anew.extents.iter().copied();
            let all: BTreeSet<_> = own
                .chain(shared.iter().map(|(extent, _)| *extent))
                .collect();
            assert_eq!(extents, all);
            // And once more, of this one.
            let mut writer = disk.writer_born(fan_out, Birth(99));
            block_on(writer.take_anew(&anew.value, &pages)).unwrap();
            let again = block_on(writer.finish()).unwrap();
            let read = block_on(disk.reader(again.value).read_all(usize::MAX));
            assert_eq!(read.unwrap(), content);
        }
    }

    fn applied(before: &[u8], splice: &Splice<'_>) -> Vec<u8> {
        let mut after = before[..splice.keep as usize].to_vec();
        after.extend(std::iter::repeat_n(0, splice.zeros as usize));
        after.extend_from_slice(splice.bytes);
        after.extend_from_slice(&before[splice.resume as usize..]);
        after
    }

    #[test]
    fn changed_values_read_right_and_share_what_the_difference_says() {
        for seed in 0..60 {
            let mut random = fastrand::Rng::with_seed(seed);
            let fan_out = random.u32(2..6);
            let disk = TestDisk::new();
            let mut content_now = content(seed, random.usize(600..60_000));
            let first = disk.write(fan_out, &content_now);
            let mut versions = vec![first.value];
            for step in 0..12 {
                let value = versions[versions.len() - 1];
                let length = content_now.len() as u64;
                let new = content(step, random.usize(1..3000));
                let splice = match random.u8(..5) {
                    0 => Splice {
                        keep: length,
                        zeros: 0,
                        bytes: &new,
                        resume: length,
                    },
                    1 => Splice {
                        keep: random.u64(length / 2..=length),
                        zeros: 0,
                        bytes: &[],
                        resume: length,
                    },
                    2 => Splice {
                        keep: length,
                        zeros: random.u64(..9000),
                        bytes: &new,
                        resume: length,
                    },
                    _ => {
                        let keep = random.u64(..=length);
                        let resume = (keep + new.len() as u64).min(length);
                        Splice {
                            keep,
                            zeros: 0,
                            bytes: &new,
                            resume,
                        }
                    }
                };
                let (written, shares) = change(&disk, fan_out, value, &splice);
                content_now = applied(&content_now, &splice);
                assert_eq!(splice.length(length), content_now.len() as u64);
                let reader = disk.reader(written.value);
                let read = block_on(reader.read_all(usize::MAX)).unwrap();
                assert!(read == content_now, "seed {seed}, step {step}: {splice:?}");
                block_on(reader.verify(|_, _| Ok(()))).unwrap();
                let old = all_sectors(&disk, &value);
                let all = all_sectors(&disk, &written.value);
                let made: BTreeSet<_> = written.extents.iter().copied().flat_map(sectors).collect();
                assert_eq!(
                    shares,
                    !all.is_disjoint(&old),
                    "seed {seed}, step {step}: {splice:?}"
                );
                assert_eq!(unshared(&disk, &written.value, &[value]), &all - &old);
                assert_eq!(unshared(&disk, &written.value, &[value]), made);
                assert_eq!(unshared(&disk, &value, &[written.value]), &old - &all);
                if let [.., before, _] = versions[..] {
                    let other = all_sectors(&disk, &before);
                    let rest = &(&old - &all) - &other;
                    assert_eq!(unshared(&disk, &value, &[before, written.value]), rest);
                }
                if written.value.length < 2 * BLOCK {
                    break;
                }
                versions.push(written.value);
            }
        }
    }

    #[test]
    fn a_value_that_moves_in_part_shares_what_stays() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let fan_out = random.u32(2..6);
            let disk = TestDisk::new();
            let content = content(seed, random.usize(1..60_000));
            let value = disk.write(fan_out, &content).value;
            let place = random.u32(..60_000);
            let stays = |extent: Extent, _| extent.address.offset() < place;
            let mut writer = disk.writer_born(fan_out, Birth(77));
            let (shares, moved) = block_on(async {
                let shares = writer.move_parts(&disk.reader(value), stays).await?;
                Ok::<_, Error>((shares, writer.finish().await?))
            })
            .unwrap();
            let reader = disk.reader(moved.value);
            assert!(block_on(reader.read_all(usize::MAX)).unwrap() == content);
            block_on(reader.verify(|_, _| Ok(()))).unwrap();
            let (old, all) = (all_sectors(&disk, &value), all_sectors(&disk, &moved.value));
            assert_eq!(shares, !all.is_disjoint(&old), "seed {seed}");
            let made: BTreeSet<_> = moved.extents.iter().copied().flat_map(sectors).collect();
            assert_eq!(&all - &old, made, "seed {seed}");
            if shares {
                assert_eq!(unshared(&disk, &value, &[moved.value]), &old - &all);
            }
        }
    }

    #[test]
    fn a_changed_block_costs_its_path_and_nothing_else() {
        let disk = TestDisk::new();
        let before = content(1, 64 * 512 * 8);
        let value = disk.write(8, &before).value;
        assert_eq!(value.depth, 3);
        disk.state().reads.clear();
        let splice = Splice {
            keep: 100_000,
            zeros: 0,
            bytes: b"new",
            resume: 100_003,
        };
        let (written, shares) = change(&disk, 8, value, &splice);
        assert!(shares);
        // A block, and a page of each level.
        assert_eq!(written.extents.len(), 4);
        let reads = disk.state().reads.len();
        // Down to the two ends of what is shared, and to the block for what stays on its two sides.
        assert!(reads <= 4 * 3 + 2, "{reads}");
        let read = block_on(disk.reader(written.value).read_all(usize::MAX)).unwrap();
        assert!(read == applied(&before, &splice));
    }
}
