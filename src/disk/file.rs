//! [`FileDisk`]: a disk that is one file, and how it is opened.
//!
//! The file is whole or absent: it is made under a temporary name and gets its own with the first
//! root. It is locked while it is open. Here it is decided where the blocking calls of
//! [`OpenFile`] are made: on the caller's own thread or on another.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::layout::Header;
use super::open_file::OpenFile;
use super::pool::Pool;
use super::raw::{OperatingSystemFile, RawFile};
use super::{Buffer, DiskModel, Page, Properties, Release, Roots, in_blocking_face};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Extent, RootVersion};

/// How a [`FileDisk`] is opened or created.
///
/// ```
/// # fn main() -> thunderhead::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("store");
/// use thunderhead::disk::FileDiskOptions;
///
/// let mut options = FileDiskOptions::default();
/// options.segment_bytes = 1 << 20;
/// let disk = options.open_or_create(&path)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileDiskOptions {
    /// The bytes of a segment of a new file: a power of two from 64 KiB to 1 GiB, 16 MiB by
    /// default. No page, log chunk or part of a value is larger. A file that exists keeps its own.
    pub segment_bytes: u32,
    /// The unit in which a crash damages what is being written, for a new file: 512, the default,
    /// or 4096 for devices that say so. A file that exists keeps its own.
    pub sector_bytes: u32,
    /// Whether every write is refused. Any number of such openers share a file, without a writer.
    pub read_only: bool,
    /// The threads for callers that await instead of waiting: at most so many, 4 by default,
    /// started when first needed.
    pub threads_max: usize,
}

impl Default for FileDiskOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            sector_bytes: 512,
            read_only: false,
            threads_max: 4,
        }
    }
}

impl FileDiskOptions {
    /// Opens a file that exists. Cost and errors: those of [`FileDisk::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> Result<FileDisk> {
        let path = path.as_ref();
        let raw = OperatingSystemFile::open(path, self.read_only)?;
        FileDisk::over_existing(Box::new(raw), path.display().to_string(), self)
    }

    /// Begins a file that does not exist. Cost and errors: those of [`FileDisk::create`].
    pub fn create(&self, path: impl AsRef<Path>) -> Result<FileDisk> {
        let path = path.as_ref();
        // Before anything touches the directory.
        self.header(random_number())?;
        let raw = OperatingSystemFile::create(path)?;
        let name = path.display().to_string();
        FileDisk::over_new(Box::new(raw), name, random_number(), self)
    }

    /// Opens a file, or begins it if it does not exist. Cost and errors: those of
    /// [`FileDisk::open_or_create`].
    pub fn open_or_create(&self, path: impl AsRef<Path>) -> Result<FileDisk> {
        let path = path.as_ref();
        match self.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !self.read_only => {
                self.create(path)
            }
            outcome => outcome,
        }
    }

    /// The header of a new file.
    fn header(&self, file: [u8; 16]) -> Result<Header> {
        if self.read_only {
            return Err(Error::invalid(
                "a file cannot be created for reading only".to_owned(),
            ));
        }
        let header = Header {
            segment_bytes: self.segment_bytes,
            sector_bytes: self.sector_bytes,
            file,
        };
        header.check()?;
        Ok(header)
    }
}

/// A disk that is one file: segments behind each other after a header and two root slots.
///
/// # Costs
///
/// A read is one positioned read. A save is one gathering write for each run of adjacent pages;
/// with `sync`, and if there is but one run, Linux makes it durable within the same call. Nothing
/// is cached here beyond what the operating system caches.
///
/// Callers that wait (`.wait()`) make these calls on their own thread. For callers that await, a
/// few threads of the disk's own make them; dropping the disk waits for calls that are running,
/// then unlocks the file.
///
/// # Failures
///
/// Operations on a file opened for reading only give [`ErrorKind::ReadOnly`]; a full disk gives
/// [`ErrorKind::StorageFull`], in `prepare` or in the first save to a place; a file that ends too
/// early [`ErrorKind::Corrupt`]; whatever else the operating system says [`ErrorKind::Io`]. A sync
/// that failed is never tried again.
///
/// Versions of published roots have no gaps: they alternate between the two slots.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// use thunderhead::{Options, disk::FileDisk};
///
/// let disk = FileDisk::open_or_create(&path)?;
/// let store = Options::new().open_disk(disk)?;
/// store.put("k", "v").wait()?;
/// store.close().wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FileDisk {
    // In this order: the threads end before the file is unlocked.
    pool: Pool,
    file: Arc<OpenFile>,
}

impl FileDisk {
    /// Opens the file of a disk for reading and writing, and locks it. Reads its header.
    ///
    /// Errors: [`NotFound`](ErrorKind::NotFound) if there is none; [`Locked`](ErrorKind::Locked)
    /// while anybody else has it open, in this process too;
    /// [`UnsupportedVersion`](ErrorKind::UnsupportedVersion) for a file of a later format;
    /// [`Corrupt`](ErrorKind::Corrupt) for an empty or foreign file or a damaged header;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for what is no file. None of them changes
    /// anything. [`FileDiskOptions::open`] can open for reading only.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        FileDiskOptions::default().open(path)
    }

    /// Begins the file of a disk, with segments of 16 MiB.
    ///
    /// It gets its name when the first root is published, which a new store does at once. Until
    /// then it has the same name with `.creating` behind; a crash leaves at most that, and the next
    /// creator takes it over.
    ///
    /// Errors: [`AlreadyExists`](ErrorKind::AlreadyExists), here or when the first root is
    /// published; [`Locked`](ErrorKind::Locked) while somebody else is creating the file;
    /// `StorageFull`; `Io`.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        FileDiskOptions::default().create(path)
    }

    /// Opens the file of a disk as [`open`](Self::open) does, or begins it as
    /// [`create`](Self::create) does if it does not exist. Errors: those of the two.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self> {
        FileDiskOptions::default().open_or_create(path)
    }

    /// The random number that the file got when it was created. Free.
    pub fn file_number(&self) -> [u8; 16] {
        self.file.header().file
    }

    /// A disk over a file that has a header.
    pub(super) fn over_existing(
        raw: Box<dyn RawFile>,
        name: String,
        options: &FileDiskOptions,
    ) -> Result<Self> {
        let file = OpenFile::existing(raw, name, options.read_only)?;
        Ok(Self::over(file, options))
    }

    /// A disk over a file that is locked already and has no header.
    pub(super) fn over_new(
        raw: Box<dyn RawFile>,
        name: String,
        number: [u8; 16],
        options: &FileDiskOptions,
    ) -> Result<Self> {
        let file = OpenFile::new(raw, name, options.header(number)?)?;
        Ok(Self::over(file, options))
    }

    fn over(file: OpenFile, options: &FileDiskOptions) -> Self {
        Self {
            pool: Pool::new(options.threads_max),
            file: Arc::new(file),
        }
    }

    /// The same disk, but its file never becomes shorter: what was mapped stays in the file.
    #[cfg(feature = "mapped")]
    pub(super) fn never_cut(mut self) -> Self {
        let file = Arc::get_mut(&mut self.file);
        file.expect("no call was made yet").never_cut();
        self
    }

    /// The offset in the file of a byte of a segment.
    #[cfg(feature = "mapped")]
    pub(super) fn position(&self, at: Address) -> u64 {
        self.file.header().position(at)
    }

    /// The name for messages.
    #[cfg(feature = "mapped")]
    pub(super) fn name(&self) -> &str {
        self.file.name()
    }

    /// Makes a blocking call: here, if this thread waits anyway or there is nothing to wait for, else
    /// on a thread of the pool.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&OpenFile) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if in_blocking_face() || self.file.answers_at_once() {
            return call(&self.file);
        }
        let file = Arc::clone(&self.file);
        let outcome = self.pool.run(move || call(&file)).await;
        outcome.unwrap_or_else(|| {
            Err(Error::new(
                ErrorKind::Io,
                format!("a call on {} ended without an answer", self.file.name()),
            ))
        })
    }
}

impl DiskModel for FileDisk {
    fn properties(&self) -> Properties {
        Properties {
            sector_bytes: self.file.header().sector_bytes,
            concurrency: 16,
            read_only: self.file.is_read_only(),
            ..Properties::new(self.file.header().segment_bytes)
        }
    }

    async fn read(&self, at: Address, mut into: Buffer) -> Result<Buffer> {
        self.run(move |file| {
            file.read(at, into.as_mut_slice())?;
            Ok(into)
        })
        .await
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        self.run(move |file| file.save(pages, sync)).await
    }

    async fn sync(&self) -> Result<()> {
        self.run(OpenFile::sync).await
    }

    async fn prepare(&self, extent: Extent) -> Result<()> {
        self.run(move |file| file.prepare(extent)).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<()> {
        self.run(move |file| file.release(&releases)).await
    }

    async fn load_root(&self) -> Result<Roots> {
        self.run(OpenFile::load_root).await
    }

    async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Result<()> {
        self.run(move |file| file.publish_root(expected, version, &record))
            .await
    }
}

/// Sixteen bytes that no other file has, from the operating system's seed of the hash maps.
pub(super) fn random_number() -> [u8; 16] {
    let mut out = [0; 16];
    for half in out.chunks_exact_mut(8) {
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::block_on;
    use super::super::layout::SEGMENTS_AT;
    use super::*;
    use crate::format::ROOT_RECORD_BYTES;

    fn small() -> FileDiskOptions {
        FileDiskOptions {
            segment_bytes: 64 << 10,
            ..FileDiskOptions::default()
        }
    }

    fn place() -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        (directory, path)
    }

    fn created(path: &Path) -> FileDisk {
        let disk = small().create(path).unwrap();
        publish(&disk, 1).unwrap();
        disk
    }

    fn publish(disk: &FileDisk, version: u64) -> Result<()> {
        let (expected, version) = (RootVersion(version - 1), RootVersion(version));
        let record = vec![version.0 as u8; ROOT_RECORD_BYTES].into();
        block_on(disk.publish_root(expected, version, record))
    }

    fn extent(segment: u32, offset: u32, length: u32) -> Extent {
        Extent::new(Address::new(segment, offset), length)
    }

    fn page(segment: u32, offset: u32, bytes: Vec<u8>) -> Page {
        Page {
            at: Address::new(segment, offset),
            bytes: bytes.into(),
        }
    }

    #[test]
    fn a_file_has_no_name_before_its_first_root() {
        let (directory, path) = place();
        let disk = small().create(&path).unwrap();
        assert!(!path.exists());
        assert!(block_on(disk.load_root()).unwrap().records.is_empty());
        publish(&disk, 1).unwrap();
        assert!(path.exists());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        drop(disk);
        let again = small().create(&path).err().unwrap();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        let disk = FileDisk::open_or_create(&path).unwrap();
        assert_eq!(disk.properties().segment_bytes, 64 << 10);
        let roots = block_on(disk.load_root()).unwrap().records;
        assert_eq!(roots, [vec![1; 512], vec![1; 512]]);
    }

    #[test]
    fn a_name_taken_while_the_file_was_begun_is_not_overwritten() {
        let (_directory, path) = place();
        let disk = small().create(&path).unwrap();
        fs::write(&path, "another").unwrap();
        let error = publish(&disk, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"another");
    }

    #[test]
    fn a_second_opener_is_refused_and_the_path_named() {
        let (_directory, path) = place();
        let disk = created(&path);
        let mut reading = small();
        reading.read_only = true;
        for options in [small(), reading.clone()] {
            let error = options.open(&path).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Locked);
            assert!(error.to_string().contains(path.to_str().unwrap()));
        }
        drop(disk);
        let first = reading.open(&path).unwrap();
        let second = reading.open(&path).unwrap();
        assert_eq!(small().open(&path).err().unwrap().kind(), ErrorKind::Locked);
        drop(first);
        let refused = block_on(second.save(vec![page(0, 0, vec![1])], false));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ReadOnly);
        assert!(second.properties().read_only);
        drop(second);
        small().open(&path).unwrap();
    }

    #[test]
    fn what_is_no_store_is_refused_untouched_and_named() {
        let (directory, path) = place();
        let mut later = vec![0; SEGMENTS_AT as usize];
        let mut header = Header {
            segment_bytes: 64 << 10,
            sector_bytes: 512,
            file: [1; 16],
        }
        .to_bytes();
        header[8] = 7;
        let checksum = crc32fast::hash(&header[..508]);
        header[508..].copy_from_slice(&checksum.to_le_bytes());
        later[..512].copy_from_slice(&header);
        for (content, kind, says) in [
            (vec![], ErrorKind::Corrupt, "empty"),
            (vec![b'x'; 600], ErrorKind::Corrupt, "600 bytes"),
            (vec![b'x'; 20000], ErrorKind::Corrupt, "Thunderhead"),
            (later, ErrorKind::UnsupportedVersion, "version 7"),
        ] {
            fs::write(&path, &content).unwrap();
            let error = FileDisk::open_or_create(&path).err().unwrap();
            assert_eq!(error.kind(), kind, "{error}");
            let message = error.to_string();
            assert!(message.contains(says) && message.contains(path.to_str().unwrap()));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        let place = directory.path();
        for outcome in [FileDisk::open(place), FileDisk::create(place)] {
            let error = outcome.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().contains("directory"), "{error}");
        }
        let absent = FileDisk::open(directory.path().join("absent")).err();
        assert_eq!(absent.unwrap().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_damaged_header_is_mended_from_its_copy() {
        let (_directory, path) = place();
        drop(created(&path));
        let whole = fs::read(&path).unwrap();
        for at in [20, 12288 + 100] {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            fs::write(&path, &damaged).unwrap();
            drop(small().open(&path).unwrap());
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn adjacent_pages_arrive_and_the_end_of_the_file_is_noticed() {
        let (_directory, path) = place();
        let disk = created(&path);
        let bytes: Vec<u8> = (0..10_000u32).map(|at| (at % 251) as u8).collect();
        let pages = vec![
            page(1, 3000, bytes[3000..].to_vec()),
            page(0, 100, vec![7; 10]),
            page(1, 0, bytes[..3000].to_vec()),
            page(1, 500, vec![]),
        ];
        for sync in [false, true] {
            block_on(disk.save(pages.clone(), sync)).unwrap();
            let back = block_on(disk.read(Address::new(1, 0), Buffer::zeroed(10_000))).unwrap();
            assert_eq!(back.as_slice(), bytes);
        }
        let past = block_on(disk.read(Address::new(1, 9_999), Buffer::zeroed(2))).unwrap_err();
        assert_eq!(past.kind(), ErrorKind::Corrupt);
        assert_eq!(past.extent(), Some(extent(1, 9_999, 2)));
        assert!(past.to_string().contains(path.to_str().unwrap()));
        let straddling = block_on(disk.save(vec![page(0, 65_535, vec![1; 2])], false));
        assert_eq!(straddling.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn a_released_tail_shortens_the_file_and_a_released_middle_reads_as_zeros() {
        let (_directory, path) = place();
        let disk = created(&path);
        block_on(disk.prepare(extent(1, 0, 64 << 10))).unwrap();
        let end = SEGMENTS_AT + (128 << 10);
        assert_eq!(fs::metadata(&path).unwrap().len(), end);
        block_on(disk.save(vec![page(1, 0, vec![1; 64 << 10])], true)).unwrap();
        let releases = [
            (1, 48 << 10, 8 << 10),
            (1, 56 << 10, 8 << 10),
            (1, 512, 8192),
        ];
        let releases = releases.map(|(segment, offset, length)| Release {
            extent: extent(segment, offset, length),
        });
        block_on(disk.release(releases.to_vec())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), end - (16 << 10));
        let back = block_on(disk.read(Address::new(1, 0), Buffer::zeroed(16 << 10))).unwrap();
        let back = back.into_vec();
        assert!(back[..4096].iter().all(|byte| *byte == 1));
        assert!(back[8192..].iter().all(|byte| *byte == 1));
        // The one whole block of the third range is gone, where the file system can.
        let middle = &back[4096..8192];
        assert!(middle.iter().all(|byte| *byte == middle[0]));
    }

    #[test]
    fn a_deposed_writer_and_a_version_that_would_replace_the_newer_root_are_refused() {
        let (_directory, path) = place();
        let disk = created(&path);
        publish(&disk, 2).unwrap();
        let publish = |expected, version| {
            let record = Bytes::from_static(&[9; 512]);
            block_on(disk.publish_root(RootVersion(expected), RootVersion(version), record))
        };
        assert_eq!(publish(1, 2).unwrap_err().kind(), ErrorKind::Fenced);
        let error = publish(2, 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let roots = block_on(disk.load_root()).unwrap().records;
        assert_eq!(roots, [vec![2; 512], vec![1; 512]]);
    }
}
