//! What the tests of this folder share: a disk in memory that counts, and an allocator in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::disk::{Buffer, Disk, DiskModel, Page, Properties, Release, Roots, block_on};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Birth, Extent, RootVersion, StoreId};

use super::{OffTree, Shape, ValueReader, ValueWriter, WrittenValue};

pub(super) const SEGMENT_BYTES: u32 = 64 << 10;
pub(super) const STORE: StoreId = StoreId([5; 16]);
pub(super) const BIRTH: Birth = Birth(3);

#[derive(Default)]
pub(super) struct State {
    segments: BTreeMap<u32, Vec<u8>>,
    segment_bytes: u32,
    /// The end of what was allocated.
    next: (u32, u32),
    pub(super) allocated: Vec<Extent>,
    /// How many further allocations succeed.
    pub(super) allocations_left: usize,
    /// The largest allocation that succeeds.
    pub(super) largest: u32,
    pub(super) saves: usize,
    pub(super) saved_pages: usize,
    pub(super) reads: Vec<u32>,
    pub(super) fail_saves: bool,
    pub(super) hang_saves: bool,
}

/// A disk in memory. Clones are the same disk.
#[derive(Clone)]
pub(super) struct TestDisk(Arc<Mutex<State>>);

impl TestDisk {
    pub(super) fn new() -> Self {
        Self::with_segments(SEGMENT_BYTES)
    }

    pub(super) fn with_segments(segment_bytes: u32) -> Self {
        Self(Arc::new(Mutex::new(State {
            segment_bytes,
            allocations_left: usize::MAX,
            largest: u32::MAX,
            ..State::default()
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn disk(&self) -> Disk {
        Disk::new(self.clone()).unwrap()
    }

    pub(super) fn allocate(&self, bytes: u32) -> Result<Extent> {
        let mut state = self.state();
        if state.allocations_left == 0 || bytes > state.largest {
            return Err(Error::new(ErrorKind::StorageFull, "no room"));
        }
        state.allocations_left -= 1;
        if state.next.1 + bytes > state.segment_bytes {
            state.next = (state.next.0 + 1, 0);
        }
        let extent = Extent::new(Address::new(state.next.0, state.next.1), bytes);
        state.next.1 += extent.whole_sectors(512).length;
        state.allocated.push(extent);
        Ok(extent)
    }

    /// A writer in blocks of 512 bytes.
    pub(super) fn writer(
        &self,
        fan_out: u32,
    ) -> ValueWriter<impl FnMut(u32) -> Result<Extent> + Send + use<>> {
        self.writer_of(Shape::with_fan_out(512, SEGMENT_BYTES, fan_out).unwrap())
    }

    pub(super) fn writer_of(
        &self,
        shape: Shape,
    ) -> ValueWriter<impl FnMut(u32) -> Result<Extent> + Send + use<>> {
        self.writer_with(shape, BIRTH)
    }

    /// A writer in blocks of 512 bytes of a value of some birth.
    pub(super) fn writer_born(
        &self,
        fan_out: u32,
        birth: Birth,
    ) -> ValueWriter<impl FnMut(u32) -> Result<Extent> + Send + use<>> {
        let shape = Shape::with_fan_out(512, SEGMENT_BYTES, fan_out).unwrap();
        self.writer_with(shape, birth)
    }

    fn writer_with(
        &self,
        shape: Shape,
        birth: Birth,
    ) -> ValueWriter<impl FnMut(u32) -> Result<Extent> + Send + use<>> {
        let allocator = self.clone();
        ValueWriter::new(self.disk(), STORE, birth, shape, move |bytes| {
            allocator.allocate(bytes)
        })
    }

    pub(super) fn write(&self, fan_out: u32, value: &[u8]) -> WrittenValue {
        let mut writer = self.writer(fan_out);
        block_on(async {
            writer.write(value).await?;
            writer.finish().await
        })
        .unwrap()
    }

    pub(super) fn reader(&self, value: OffTree) -> ValueReader {
        ValueReader::new(self.disk(), STORE, &value.to_payload()).unwrap()
    }

    /// Changes bytes of an extent, as rot does.
    pub(super) fn change(&self, extent: Extent, change: impl FnOnce(&mut [u8])) {
        let mut state = self.state();
        let segment = state.segments.get_mut(&extent.address.segment()).unwrap();
        let at = extent.address.offset() as usize;
        change(&mut segment[at..at + extent.length as usize]);
    }
}

impl DiskModel for TestDisk {
    fn properties(&self) -> Properties {
        Properties::new(self.state().segment_bytes)
    }

    async fn read(&self, at: Address, mut into: Buffer) -> Result<Buffer> {
        let mut state = self.state();
        state.reads.push(into.len() as u32);
        let from = at.offset() as usize;
        let bytes = state
            .segments
            .get(&at.segment())
            .and_then(|segment| segment.get(from..from + into.len()))
            .ok_or_else(|| Error::new(ErrorKind::Io, "reading what is not there"))?;
        into.as_mut_slice().copy_from_slice(bytes);
        Ok(into)
    }

    async fn save(&self, pages: Vec<Page>, _sync: bool) -> Result<()> {
        if self.state().hang_saves {
            futures::future::pending::<()>().await;
        }
        let mut state = self.state();
        if state.fail_saves {
            return Err(Error::new(ErrorKind::Io, "saving fails"));
        }
        state.saves += 1;
        state.saved_pages += pages.len();
        let length = state.segment_bytes as usize;
        for page in pages {
            let segment = state
                .segments
                .entry(page.at.segment())
                .or_insert_with(|| vec![0; length]);
            let at = page.at.offset() as usize;
            segment[at..at + page.bytes.len()].copy_from_slice(&page.bytes);
        }
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn release(&self, _releases: Vec<Release>) -> Result<()> {
        Ok(())
    }

    async fn load_root(&self) -> Result<Roots> {
        Ok(Roots::default())
    }

    async fn publish_root(&self, _: RootVersion, _: RootVersion, _: Bytes) -> Result<()> {
        Ok(())
    }
}

/// Bytes that differ everywhere and are the same for the same seed.
pub(super) fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}
