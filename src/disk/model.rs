//! [`DiskModel`]: what the store asks of a disk, and the adapter through which it asks.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::blocking::{block_on, in_blocking_face};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Extent, RootVersion};

/// What a disk is like. It does not change while the disk is open.
///
/// ```
/// use thunderhead::disk::Properties;
///
/// let mut properties = Properties::new(16 << 20);
/// properties.concurrency = 32;
/// properties.slow_reads = true;
/// assert_eq!(properties.sector_bytes, 512);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// The bytes of a segment: a power of two, 64 KiB to 1 GiB, the same for the disk's whole life.
    pub segment_bytes: u32,
    /// The unit in which a crash can damage what is being written: 512 or 4096.
    pub sector_bytes: u32,
    /// How many reads in flight at once the disk makes good use of.
    pub concurrency: usize,
    /// Reads take so long, a tenth of a millisecond or more, that a scan should have several under
    /// way: see [`Options::readahead_bytes`](crate::Options::readahead_bytes).
    pub slow_reads: bool,
    /// The bytes that all segments together can hold, if there is a limit that is known.
    pub capacity_bytes: Option<u64>,
    /// Whether the disk refuses every write.
    pub read_only: bool,
}

impl Properties {
    /// Properties of a writable disk with these segments, sectors of 512 bytes, no known capacity.
    /// Reads are quick, one at a time.
    pub fn new(segment_bytes: u32) -> Self {
        Self {
            segment_bytes,
            sector_bytes: 512,
            concurrency: 1,
            slow_reads: false,
            capacity_bytes: None,
            read_only: false,
        }
    }
}

/// Memory that the store lends to a disk for a read: it wants it back filled.
///
/// ```
/// use thunderhead::disk::Buffer;
///
/// let mut buffer = Buffer::zeroed(4);
/// buffer.as_mut_slice()[0] = 7;
/// assert_eq!(buffer.as_slice(), [7, 0, 0, 0]);
/// assert_eq!(buffer.into_vec().len(), 4);
/// ```
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// A buffer of so many zeros. Allocates them.
    pub fn zeroed(length: usize) -> Self {
        Self {
            bytes: vec![0; length],
        }
    }

    /// How many bytes are to be read.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is to be read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes, to be filled.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes, to be kept, without a copy.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

/// Bytes to be written at an address. They lie within one segment.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where.
    pub at: Address,
    /// What.
    pub bytes: Bytes,
}

/// A range of bytes that holds nothing any more. The disk may forget it; it may be written again
/// later. The range has whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The range.
    pub extent: Extent,
}

/// The last two published roots as the disk holds them, in no order. Either may be damaged; the
/// store finds out by their checksums. A disk that never had a root gives none.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// At most two records of at most 512 bytes.
    pub records: Vec<Bytes>,
}

/// A disk: segments of a fixed size, readable and writable at byte offsets, and a root record that
/// is replaced atomically.
///
/// # The protocol that the store keeps
///
/// * Every saved page lies within one segment, and no byte is saved twice between the time it was
///   first needed and its [`release`](Self::release) or its reuse after two further roots.
/// * Nothing is read that was not saved or prepared.
/// * Before a root is published, everything that it names was saved and a `sync` covered it.
///
/// # What a disk owes the store
///
/// * `save`, on return, is seen by every later `read`. After a crash, each *sector* of a save that
///   no `sync` covered holds the old bytes, the new bytes, or anything, and no other sector has
///   changed.
/// * `sync`, on return, has made every save that *completed before the call* survive a crash. When
///   it fails, the store writes nothing more.
/// * `publish_root` replaces the older of the last two roots, durably on return, and leaves the
///   newer one intact whatever happens.
///
/// Implement it with `async fn`; the futures must be `Send`. A future may be dropped before its
/// end, and the call may then still take effect.
///
/// [`conformance`](crate::disk::conformance) tests an implementation.
///
/// ```
/// use bytes::Bytes;
/// use thunderhead::disk::{Buffer, DiskModel, MemoryDisk, Page, Properties, Release, Roots};
/// use thunderhead::format::{Address, RootVersion};
/// use thunderhead::{Error, ErrorKind, Options, Result};
///
/// /// A disk that nobody may write to.
/// struct Sealed(MemoryDisk);
///
/// impl DiskModel for Sealed {
///     fn properties(&self) -> Properties {
///         let mut properties = self.0.properties();
///         properties.read_only = true;
///         properties
///     }
///
///     async fn read(&self, at: Address, into: Buffer) -> Result<Buffer> {
///         self.0.read(at, into).await
///     }
///
///     async fn save(&self, _: Vec<Page>, _: bool) -> Result<()> {
///         Err(Error::new(ErrorKind::ReadOnly, "saving to a sealed disk"))
///     }
///
///     async fn sync(&self) -> Result<()> {
///         Ok(())
///     }
///
///     async fn release(&self, _: Vec<Release>) -> Result<()> {
///         Ok(())
///     }
///
///     async fn load_root(&self) -> Result<Roots> {
///         self.0.load_root().await
///     }
///
///     async fn publish_root(&self, _: RootVersion, _: RootVersion, _: Bytes) -> Result<()> {
///         Err(Error::new(ErrorKind::ReadOnly, "publishing on a sealed disk"))
///     }
/// }
///
/// let memory = MemoryDisk::new();
/// let store = Options::new().open_disk(memory.clone())?;
/// store.put("k", "v").wait()?;
/// store.close().wait()?;
/// let store = Options::new().read_only().open_disk(Sealed(memory))?;
/// assert_eq!(store.get("k").wait()?.unwrap(), "v");
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub trait DiskModel: Send + Sync + 'static {
    /// What the disk is like. Asked once, when a store is opened.
    fn properties(&self) -> Properties;

    /// Fills a buffer with the bytes at an address. Errors if they were never written or lie past
    /// the end of the segment.
    fn read(&self, at: Address, into: Buffer) -> impl Future<Output = Result<Buffer>> + Send;

    /// Writes pages. With `sync` these pages, and only these, are durable on return; the store
    /// never asks for that where it also needs an earlier save to be durable. Errors:
    /// `StorageFull`, after which the store goes on as before; others.
    fn save(&self, pages: Vec<Page>, sync: bool) -> impl Future<Output = Result<()>> + Send;

    /// Makes all saves completed before the call durable. After an error the store writes nothing more.
    fn sync(&self) -> impl Future<Output = Result<()>> + Send;

    /// Makes room for later saves to an extent, filled with zeros and durable, so that these cost
    /// no more than their own bytes and do not fail for want of space. A disk for which this makes
    /// no difference does nothing. Errors: `StorageFull`; others.
    fn prepare(&self, extent: Extent) -> impl Future<Output = Result<()>> + Send {
        let _ = extent;
        async { Ok(()) }
    }

    /// Gives ranges back to whatever the disk stands on. A disk that cannot does nothing. An error
    /// is told by [`Statistics::trouble`](crate::Statistics::trouble), and nothing else happens.
    fn release(&self, releases: Vec<Release>) -> impl Future<Output = Result<()>> + Send;

    /// The last two published roots. Asked when a store is opened, and by `verify`.
    fn load_root(&self) -> impl Future<Output = Result<Roots>> + Send;

    /// Publishes a root record of 512 bytes, durably, in the place of the older of the last two.
    ///
    /// `expected` is the version of the newest root that the caller knows of, zero for none. A disk
    /// that knows of a newer one refuses with [`ErrorKind::Fenced`]. `version` is above `expected`.
    fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> impl Future<Output = Result<()>> + Send;
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// [`DiskModel`] with its futures boxed: reached only after a cache miss or for a write.
trait BoxedModel: Send + Sync {
    fn read(&self, at: Address, into: Buffer) -> Boxed<'_, Buffer>;
    fn save(&self, pages: Vec<Page>, sync: bool) -> Boxed<'_, ()>;
    /// The same on a thread that waits, where nothing has to be boxed.
    fn save_waiting(&self, pages: Vec<Page>, sync: bool) -> Result<()>;
    fn sync(&self) -> Boxed<'_, ()>;
    fn prepare(&self, extent: Extent) -> Boxed<'_, ()>;
    fn release(&self, releases: Vec<Release>) -> Boxed<'_, ()>;
    fn load_root(&self) -> Boxed<'_, Roots>;
    fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Boxed<'_, ()>;
}

impl<D: DiskModel> BoxedModel for D {
    fn read(&self, at: Address, into: Buffer) -> Boxed<'_, Buffer> {
        Box::pin(DiskModel::read(self, at, into))
    }

    fn save(&self, pages: Vec<Page>, sync: bool) -> Boxed<'_, ()> {
        Box::pin(DiskModel::save(self, pages, sync))
    }

    fn save_waiting(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        block_on(DiskModel::save(self, pages, sync))
    }

    fn sync(&self) -> Boxed<'_, ()> {
        Box::pin(DiskModel::sync(self))
    }

    fn prepare(&self, extent: Extent) -> Boxed<'_, ()> {
        Box::pin(DiskModel::prepare(self, extent))
    }

    fn release(&self, releases: Vec<Release>) -> Boxed<'_, ()> {
        Box::pin(DiskModel::release(self, releases))
    }

    fn load_root(&self) -> Boxed<'_, Roots> {
        Box::pin(DiskModel::load_root(self))
    }

    fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Boxed<'_, ()> {
        Box::pin(DiskModel::publish_root(self, expected, version, record))
    }
}

/// Any disk model, so that the store need not be generic. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Disk {
    model: Arc<dyn BoxedModel>,
    properties: Arc<Properties>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
}

/// What a store asked of its disk since it was opened.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("k", "v").wait()?;
/// println!("{} bytes were written", store.stats().disk.written_bytes);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct DiskStatistics {
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Pages, groups of the log and pieces of values written.
    pub writes: u64,
    /// Bytes of these.
    pub written_bytes: u64,
    /// Syncs, roots not counted.
    pub syncs: u64,
}

impl Disk {
    /// Wraps a model, once its properties are found to be within their limits.
    pub(crate) fn new(model: impl DiskModel) -> Result<Self> {
        let properties = model.properties();
        let segment = properties.segment_bytes;
        if !segment.is_power_of_two() || !((64 << 10)..=(1 << 30)).contains(&segment) {
            return Err(Error::invalid(format!(
                "segments of {segment} bytes: a power of two from 64 KiB to 1 GiB is needed"
            )));
        }
        if !matches!(properties.sector_bytes, 512 | 4096) {
            return Err(Error::invalid(format!(
                "sectors of {} bytes: 512 or 4096 are possible",
                properties.sector_bytes
            )));
        }
        Ok(Self {
            model: Arc::new(model),
            properties: Arc::new(properties),
            counters: Arc::default(),
        })
    }

    pub(crate) fn statistics(&self) -> DiskStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStatistics {
            reads: read(&self.counters.reads),
            read_bytes: read(&self.counters.read_bytes),
            writes: read(&self.counters.writes),
            written_bytes: read(&self.counters.written_bytes),
            syncs: read(&self.counters.syncs),
        }
    }

    pub(crate) fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Reads an extent into memory of its own.
    pub(crate) async fn read(&self, extent: Extent) -> Result<Vec<u8>> {
        let within = extent.address.offset().checked_add(extent.length);
        if within.is_none_or(|end| end > self.properties.segment_bytes) {
            return Err(Error::corrupt_at(
                extent,
                "an extent reaches past its segment",
            ));
        }
        let length = extent.length as usize;
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        (self.counters.read_bytes).fetch_add(length as u64, Ordering::Relaxed);
        let buffer = self
            .model
            .read(extent.address, Buffer::zeroed(length))
            .await?;
        if buffer.len() != length {
            return Err(Error::new(
                ErrorKind::Io,
                "the disk gave back a buffer of another length",
            ));
        }
        Ok(buffer.into_vec())
    }

    pub(crate) async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        self.count_save(&pages, sync);
        match in_blocking_face() {
            true => self.model.save_waiting(pages, sync),
            false => self.model.save(pages, sync).await,
        }
    }

    /// The same without a sync on a thread that waits.
    pub(crate) fn save_waiting(&self, pages: Vec<Page>) -> Result<()> {
        self.count_save(&pages, false);
        self.model.save_waiting(pages, false)
    }

    fn count_save(&self, pages: &[Page], sync: bool) {
        let bytes: usize = pages.iter().map(|page| page.bytes.len()).sum();
        let counters = &self.counters;
        (counters.writes).fetch_add(pages.len() as u64, Ordering::Relaxed);
        (counters.written_bytes).fetch_add(bytes as u64, Ordering::Relaxed);
        if sync {
            counters.syncs.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) async fn sync(&self) -> Result<()> {
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.model.sync().await
    }

    pub(crate) async fn prepare(&self, extent: Extent) -> Result<()> {
        self.model.prepare(extent).await
    }

    pub(crate) async fn release(&self, releases: Vec<Release>) -> Result<()> {
        self.model.release(releases).await
    }

    pub(crate) async fn load_root(&self) -> Result<Roots> {
        self.model.load_root().await
    }

    pub(crate) async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Result<()> {
        self.model.publish_root(expected, version, record).await
    }
}
