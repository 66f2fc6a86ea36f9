//! [`MappedDisk`]: a file disk that is read through memory maps.
//!
//! Saves go through a [`FileDisk`] below; only reads differ. The file never becomes shorter while
//! it is mapped by us, for reading a map past the end of its file kills the process.
#![expect(
    unsafe_code,
    reason = "the bytes of a map of a file can change under it: only the caller can promise that they do not"
)]

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

use super::file::random_number;
use super::raw::OperatingSystemFile;
use super::{Buffer, DiskModel, FileDisk, FileDiskOptions, Page, Properties, Release, Roots};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Extent, RootVersion};

const NO_PANIC: &str = "nobody panics with it held";

/// A file disk whose reads copy from maps of whole segments instead of calling the operating
/// system: cheaper where the file is in the page cache, which then serves as a second, shared cache
/// below the store's own.
///
/// A read that has to wait for the device waits inside a page fault, on the caller's thread, in
/// both faces. An error of the device while reading is no [`ErrorKind::Io`]: the operating system
/// kills the process. Released space at the end of the file is kept, as a hole where possible.
/// The promise that damage is noticed does not hold for bytes that change under a map.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// use thunderhead::Options;
/// use thunderhead::disk::{FileDiskOptions, MappedDisk};
///
/// // SAFETY: nobody else knows of the file.
/// let disk = unsafe { MappedDisk::open_or_create(&path, &FileDiskOptions::default()) }?;
/// let store = Options::new().open_disk(disk)?;
/// store.put("k", "v").wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MappedDisk {
    disk: FileDisk,
    file: File,
    segment_bytes: u32,
    /// By segment. One that became too short, for the file has grown, is replaced.
    maps: RwLock<HashMap<u32, Arc<Mmap>>>,
}

impl MappedDisk {
    /// Opens the file of a disk, or begins it if there is none, as [`FileDiskOptions`] do.
    ///
    /// Errors: as of [`FileDisk::open`] and [`FileDisk::create`].
    ///
    /// # Safety
    ///
    /// While the disk is open, nothing but the disk itself may write to the file or shorten it, in
    /// this process or any other. The file's lock keeps other disks away, not other programs.
    pub unsafe fn open_or_create(
        path: impl AsRef<Path>,
        options: &FileDiskOptions,
    ) -> Result<Self> {
        let path = path.as_ref();
        // SAFETY: the caller promises the same.
        match unsafe { Self::open(path, options) } {
            Err(error) if error.kind() == ErrorKind::NotFound && !options.read_only => {}
            outcome => return outcome,
        }
        let raw = OperatingSystemFile::create(path)?;
        Self::over(raw, path, |raw, name| {
            FileDisk::over_new(Box::new(raw), name, random_number(), options)
        })
    }

    /// Opens the file of a disk that exists.
    ///
    /// Errors: as of [`FileDisk::open`].
    ///
    /// # Safety
    ///
    /// As of [`open_or_create`](Self::open_or_create).
    pub unsafe fn open(path: impl AsRef<Path>, options: &FileDiskOptions) -> Result<Self> {
        let path = path.as_ref();
        let raw = OperatingSystemFile::open(path, options.read_only)?;
        Self::over(raw, path, |raw, name| {
            FileDisk::over_existing(Box::new(raw), name, options)
        })
    }

    fn over(
        raw: OperatingSystemFile,
        path: &Path,
        disk: impl FnOnce(OperatingSystemFile, String) -> Result<FileDisk>,
    ) -> Result<Self> {
        let name = path.display().to_string();
        let file = raw.second();
        let file = file.map_err(|error| Error::io(format!("opening {name}"), error))?;
        let disk = disk(raw, name)?.never_cut();
        Ok(Self {
            segment_bytes: disk.properties().segment_bytes,
            disk,
            file,
            maps: RwLock::default(),
        })
    }

    /// A map of a segment at least so long, if the file is.
    fn map(&self, segment: u32, length: u64) -> Result<Option<Arc<Mmap>>> {
        let long_enough = |map: &&Arc<Mmap>| map.len() as u64 >= length;
        let maps = self.maps.read().expect(NO_PANIC);
        if let Some(map) = maps.get(&segment).filter(long_enough) {
            return Ok(Some(Arc::clone(map)));
        }
        drop(maps);
        let mapping = |error| Error::io(format!("mapping {}", self.disk.name()), error);
        let start = self.disk.position(Address::new(segment, 0));
        let file_bytes = self.file.metadata().map_err(mapping)?.len();
        let bytes = file_bytes.saturating_sub(start);
        let bytes = bytes.min(self.segment_bytes.into());
        if bytes < length || bytes == 0 {
            return Ok(None);
        }
        let mut options = MmapOptions::new();
        options.offset(start).len(bytes as usize);
        // SAFETY: who opened the disk promised that nobody else changes or shortens the file; we
        // never shorten it, and the engine reads nothing that is being written.
        let map = Arc::new(unsafe { options.map(&self.file) }.map_err(mapping)?);
        let mut maps = self.maps.write().expect(NO_PANIC);
        maps.insert(segment, Arc::clone(&map));
        Ok(Some(map))
    }
}

impl DiskModel for MappedDisk {
    fn properties(&self) -> Properties {
        Properties {
            // Whoever asks waits inside of the call.
            concurrency: 1,
            ..self.disk.properties()
        }
    }

    async fn read(&self, at: Address, mut into: Buffer) -> Result<Buffer> {
        let start = at.offset() as usize;
        let end = start.saturating_add(into.len());
        if let Some(map) = self.map(at.segment(), end as u64)?
            && let Some(bytes) = map.get(start..end)
        {
            into.as_mut_slice().copy_from_slice(bytes);
            return Ok(into);
        }
        // Past the end of the segment or the file: the file disk says so.
        self.disk.read(at, into).await
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        self.disk.save(pages, sync).await
    }

    async fn sync(&self) -> Result<()> {
        self.disk.sync().await
    }

    async fn prepare(&self, extent: Extent) -> Result<()> {
        self.disk.prepare(extent).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<()> {
        self.disk.release(releases).await
    }

    async fn load_root(&self) -> Result<Roots> {
        self.disk.load_root().await
    }

    async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Result<()> {
        self.disk.publish_root(expected, version, record).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::block_on;
    use super::*;

    #[test]
    fn a_map_follows_the_growth_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let options = FileDiskOptions {
            segment_bytes: 64 << 10,
            ..FileDiskOptions::default()
        };
        // SAFETY: nobody else knows of the file.
        let disk = unsafe { MappedDisk::open_or_create(&path, &options) }.unwrap();
        for (offset, byte) in [(0, 1u8), (5000, 2), (60_000, 3)] {
            let at = Address::new(1, offset);
            let early = block_on(disk.read(at, Buffer::zeroed(100))).unwrap_err();
            assert_eq!(early.kind(), ErrorKind::Corrupt);
            let bytes = vec![byte; 100].into();
            block_on(disk.save(vec![Page { at, bytes }], false)).unwrap();
            let back = block_on(disk.read(at, Buffer::zeroed(100))).unwrap();
            assert_eq!(back.as_slice(), [byte; 100]);
        }
        let tail = Extent::new(Address::new(1, 512), 65_024);
        block_on(disk.release(vec![Release { extent: tail }])).unwrap();
        let first = block_on(disk.read(Address::new(1, 0), Buffer::zeroed(60_100))).unwrap();
        assert_eq!(first.as_slice()[..100], [1; 100]);
    }
}
