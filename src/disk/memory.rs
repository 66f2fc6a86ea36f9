//! [`MemoryDisk`]: a disk in memory, shared by its clones.
//!
//! Segments are sparse: blocks of 4 KiB that exist from their first save, or from being prepared,
//! until they are released as a whole.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use super::{Buffer, DiskModel, Page, Properties, Release, Roots};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Extent, RootVersion};

const BLOCK_BYTES: usize = 4096;
const NO_PANIC: &str = "nobody panics with it held";

type Block = [u8; BLOCK_BYTES];

/// A disk in memory. Clones are the same disk, so that a store can be closed and opened again.
///
/// Nothing survives the last clone. Reads and saves copy; nothing ever waits but for a lock. Two
/// openers at once are not refused: the later to publish a root gets [`ErrorKind::Fenced`].
///
/// ```
/// use thunderhead::disk::MemoryDisk;
///
/// let disk = MemoryDisk::new();
/// let same = disk.clone();
/// assert_eq!(same.bytes_in_use(), 0);
/// ```
#[derive(Clone)]
pub struct MemoryDisk {
    segment_bytes: u32,
    capacity_bytes: Option<u64>,
    content: Arc<RwLock<Content>>,
}

#[derive(Default)]
struct Content {
    /// By segment and number of the block in it.
    blocks: HashMap<(u32, u32), Box<Block>>,
    roots: [Option<(RootVersion, Bytes)>; 2],
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDisk {
    /// An empty disk with segments of 16 MiB and no limit. Takes memory as it is written to.
    pub fn new() -> Self {
        Self {
            segment_bytes: 16 << 20,
            capacity_bytes: None,
            content: Arc::default(),
        }
    }

    /// The same disk with other segments: a power of two from 64 KiB to 1 GiB. To be chosen before
    /// anything is saved.
    ///
    /// ```
    /// use thunderhead::disk::{DiskModel, MemoryDisk};
    ///
    /// let disk = MemoryDisk::new().with_segment_bytes(1 << 20);
    /// assert_eq!(disk.properties().segment_bytes, 1 << 20);
    /// ```
    #[must_use]
    pub fn with_segment_bytes(self, segment_bytes: u32) -> Self {
        Self {
            segment_bytes,
            ..self
        }
    }

    /// The same disk, refusing with [`ErrorKind::StorageFull`] what would need more than so many
    /// bytes in blocks of 4 KiB. Clones made before keep their limit.
    ///
    /// ```
    /// use thunderhead::{ErrorKind, Options, disk::MemoryDisk};
    ///
    /// let disk = MemoryDisk::new().with_capacity_bytes(32 << 20);
    /// let store = Options::new().open_disk(disk)?;
    /// let error = store.put("k", vec![7; 32 << 20]).wait().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::StorageFull);
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[must_use]
    pub fn with_capacity_bytes(self, capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes: Some(capacity_bytes),
            ..self
        }
    }

    /// The bytes of all blocks that exist. O(1).
    pub fn bytes_in_use(&self) -> u64 {
        let content = self.content.read().expect(NO_PANIC);
        (content.blocks.len() * BLOCK_BYTES) as u64
    }

    fn check(&self, extent: Extent) -> Result<()> {
        let end = extent.address.offset().checked_add(extent.length);
        if end.is_none_or(|end| end > self.segment_bytes) {
            return Err(Error::invalid(format!(
                "{extent} reaches past a segment of {} bytes",
                self.segment_bytes
            )));
        }
        Ok(())
    }

    /// Fails before anything is changed if blocks are missing for which there is no room.
    fn check_room(&self, content: &Content, extents: impl Iterator<Item = Extent>) -> Result<()> {
        let Some(capacity) = self.capacity_bytes else {
            return Ok(());
        };
        let mut missing: Vec<_> = extents
            .flat_map(pieces)
            .map(|piece| piece.block)
            .filter(|block| !content.blocks.contains_key(block))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let blocks = (content.blocks.len() + missing.len()) as u64;
        if !missing.is_empty() && blocks * BLOCK_BYTES as u64 > capacity {
            return Err(Error::new(
                ErrorKind::StorageFull,
                format!("the memory disk holds at most {capacity} bytes"),
            ));
        }
        Ok(())
    }
}

/// The part of an extent that lies in one block.
struct Piece {
    block: (u32, u32),
    /// Where in the block it begins.
    offset: usize,
    /// Where in the extent it begins.
    from: usize,
    length: usize,
}

fn pieces(extent: Extent) -> impl Iterator<Item = Piece> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = extent.length as usize - from;
        if rest == 0 {
            return None;
        }
        let at = extent.address.offset() as usize + from;
        let offset = at % BLOCK_BYTES;
        let piece = Piece {
            block: (extent.address.segment(), (at / BLOCK_BYTES) as u32),
            offset,
            from,
            length: rest.min(BLOCK_BYTES - offset),
        };
        from += piece.length;
        Some(piece)
    })
}

/// The extent of bytes at an address; longer than any segment if they are too many for an extent.
fn extent_of(at: Address, bytes: usize) -> Extent {
    Extent::new(at, u32::try_from(bytes).unwrap_or(u32::MAX))
}

impl DiskModel for MemoryDisk {
    fn properties(&self) -> Properties {
        Properties {
            capacity_bytes: self.capacity_bytes,
            ..Properties::new(self.segment_bytes)
        }
    }

    async fn read(&self, at: Address, mut into: Buffer) -> Result<Buffer> {
        let extent = extent_of(at, into.len());
        self.check(extent)?;
        let content = self.content.read().expect(NO_PANIC);
        for piece in pieces(extent) {
            let Some(block) = content.blocks.get(&piece.block) else {
                return Err(Error::corrupt_at(extent, "nothing was ever saved there"));
            };
            into.as_mut_slice()[piece.from..][..piece.length]
                .copy_from_slice(&block[piece.offset..][..piece.length]);
        }
        Ok(into)
    }

    async fn save(&self, pages: Vec<Page>, _sync: bool) -> Result<()> {
        let extents = || {
            pages
                .iter()
                .map(|page| extent_of(page.at, page.bytes.len()))
        };
        extents().try_for_each(|extent| self.check(extent))?;
        let mut content = self.content.write().expect(NO_PANIC);
        self.check_room(&content, extents())?;
        for (page, extent) in pages.iter().zip(extents()) {
            for piece in pieces(extent) {
                let block = content.blocks.entry(piece.block);
                block.or_insert_with(|| Box::new([0; BLOCK_BYTES]))[piece.offset..][..piece.length]
                    .copy_from_slice(&page.bytes[piece.from..][..piece.length]);
            }
        }
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn prepare(&self, extent: Extent) -> Result<()> {
        self.check(extent)?;
        let mut content = self.content.write().expect(NO_PANIC);
        self.check_room(&content, std::iter::once(extent))?;
        for piece in pieces(extent) {
            let block = content.blocks.entry(piece.block);
            block.or_insert_with(|| Box::new([0; BLOCK_BYTES]))[piece.offset..][..piece.length]
                .fill(0);
        }
        Ok(())
    }

    async fn release(&self, releases: Vec<Release>) -> Result<()> {
        for release in &releases {
            self.check(release.extent)?;
        }
        let mut content = self.content.write().expect(NO_PANIC);
        let whole = |piece: &Piece| piece.length == BLOCK_BYTES;
        for piece in releases.iter().flat_map(|release| pieces(release.extent)) {
            if whole(&piece) {
                content.blocks.remove(&piece.block);
            }
        }
        Ok(())
    }

    async fn load_root(&self) -> Result<Roots> {
        let content = self.content.read().expect(NO_PANIC);
        let records = content.roots.iter().flatten();
        Ok(Roots {
            records: records.map(|(_, record)| record.clone()).collect(),
        })
    }

    async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Result<()> {
        let mut content = self.content.write().expect(NO_PANIC);
        let newest = content.roots.iter().flatten().map(|(version, _)| *version);
        if newest.clone().any(|newest| expected < newest) {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "publishing root {} after root {}: a newer one is published already",
                    version.0, expected.0
                ),
            ));
        }
        let older = content.roots.iter_mut().min_by_key(|slot| match slot {
            Some((version, _)) => *version,
            None => RootVersion(0),
        });
        // A copy, for the record may be a small part of a large buffer.
        *older.expect("there are two slots") = Some((version, Bytes::copy_from_slice(&record)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::block_on;
    use super::*;

    #[test]
    fn a_full_memory_disk_refuses_and_changes_nothing() {
        let disk = MemoryDisk::new()
            .with_segment_bytes(64 << 10)
            .with_capacity_bytes(8192);
        let page = |offset, length| Page {
            at: Address::new(0, offset),
            bytes: vec![1; length].into(),
        };
        block_on(disk.save(vec![page(0, 8192)], false)).unwrap();
        let full = block_on(disk.save(vec![page(0, 10), page(8192, 1)], false)).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        block_on(disk.save(vec![page(4000, 100)], false)).unwrap();
        let extent = Extent::new(Address::new(0, 0), 4096);
        block_on(disk.release(vec![Release { extent }])).unwrap();
        assert_eq!(disk.bytes_in_use(), 4096);
        block_on(disk.save(vec![page(8192, 1)], false)).unwrap();
    }

    #[test]
    fn clones_are_the_same_disk() {
        let disk = MemoryDisk::new();
        let page = Page {
            at: Address::new(3, 4090),
            bytes: Bytes::from_static(b"over the edge"),
        };
        block_on(disk.save(vec![page.clone()], true)).unwrap();
        let buffer = block_on(disk.clone().read(page.at, Buffer::zeroed(13))).unwrap();
        assert_eq!(buffer.as_slice(), page.bytes);
    }
}
