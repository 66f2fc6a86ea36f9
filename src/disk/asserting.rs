//! [`AssertingDisk`]: a disk that panics where its user breaks the protocol of [`DiskModel`].
//!
//! The rules stand in its docs; the [`Ledger`] remembers what was done, over reopenings too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Buffer, DiskModel, Page, Properties, Release, Roots};
use crate::error::Result;
use crate::format::{Address, Extent, RootVersion};

/// What was done to a disk. Clones are the same ledger: it outlives the disk, as the bytes do.
#[derive(Clone, Default)]
pub struct Ledger {
    entries: Arc<Mutex<Entries>>,
}

#[derive(Default)]
struct Entries {
    /// When, counted in published roots, each byte was saved.
    saved: Ranges,
    prepared: Ranges,
    protected: Ranges,
    published: u64,
    saves: u64,
    /// Saves that completed and that no sync covered.
    unsynced: BTreeSet<u64>,
    allow_rewrites: bool,
    allow_unknown_reads: bool,
    allow_unsynced_publish: bool,
}

/// Disjoint ranges of positions, each with a number.
#[derive(Default)]
struct Ranges {
    by_start: BTreeMap<u64, (u64, u64)>,
}

impl Ranges {
    fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, u64)> {
        let first = self.by_start.range(..=range.start).next_back();
        let from = first.map_or(range.start, |(start, _)| *start);
        self.by_start
            .range(from..range.end.max(from))
            .map(|(start, (end, number))| (*start..*end, *number))
            .filter(move |(found, _)| found.end > range.start && found.start < range.end)
    }

    fn remove(&mut self, range: Range<u64>) {
        let found: Vec<_> = self.overlapping(range.clone()).collect();
        for (found, number) in found {
            self.by_start.remove(&found.start);
            if found.start < range.start {
                self.by_start.insert(found.start, (range.start, number));
            }
            if found.end > range.end {
                self.by_start.insert(range.end, (found.end, number));
            }
        }
    }

    fn insert(&mut self, range: Range<u64>, number: u64) {
        self.remove(range.clone());
        if !range.is_empty() {
            self.by_start.insert(range.start, (range.end, number));
        }
    }
}

/// Positions of an extent: the segment in the upper half, as in an address.
fn positions(extent: Extent) -> Range<u64> {
    let start = extent.address.to_bits();
    start..start + u64::from(extent.length)
}

fn shown(range: &Range<u64>) -> Extent {
    let length = range.end - range.start;
    Extent::new(Address::from_bits(range.start), length as u32)
}

impl Ledger {
    /// A ledger for a disk on which nothing was saved yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether bytes may be saved again at any time, unless they are protected.
    pub fn allow_rewrites(&self, allow: bool) {
        self.entries().allow_rewrites = allow;
    }

    /// Whether bytes may be read of which the ledger knows nothing: for disks older than it.
    pub fn allow_unknown_reads(&self, allow: bool) {
        self.entries().allow_unknown_reads = allow;
    }

    /// Whether a root may be published while there are saves that no sync covered.
    pub fn allow_unsynced_publish(&self, allow: bool) {
        self.entries().allow_unsynced_publish = allow;
    }

    /// From now on these extents, and no others, must be left as they are.
    pub fn protect(&self, extents: impl IntoIterator<Item = Extent>) {
        let mut protected = Ranges::default();
        for extent in extents {
            protected.insert(positions(extent), 0);
        }
        self.entries().protected = protected;
    }

    /// An extent was given up before anything named it: it may be saved again.
    pub fn forget(&self, extent: Extent) {
        self.entries().saved.remove(positions(extent));
    }

    /// The disk went through a crash or was closed: nothing is on its way any more.
    pub fn reopened(&self) {
        self.entries().unsynced.clear();
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A failed assertion must not hide behind a second panic of whoever goes on.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Checks that a range may be written, and sectors around it that belong to the same save.
    fn check_write(&self, doing: &str, range: &Range<u64>) {
        if let Some((found, _)) = self.protected.overlapping(range.clone()).next() {
            panic!(
                "{doing} {} touches {}, which is protected",
                shown(range),
                shown(&found)
            );
        }
        if self.allow_rewrites {
            return;
        }
        for (found, saved) in self.saved.overlapping(range.clone()) {
            assert!(
                self.published >= saved + 2,
                "{doing} {} touches {}, which was saved after root {saved} and not released since; \
                 only {} roots are published",
                shown(range),
                shown(&found),
                self.published,
            );
        }
    }
}

/// A disk model, watched: it panics where its user breaks the protocol.
///
/// **Not part of the stable interface.** What it checks needs no knowledge of the tree:
///
/// * A page lies within one segment, and pages of one save do not overlap.
/// * Nothing is read that was not saved or prepared, or that was released since.
/// * A byte is saved or prepared again only after its release, or after two roots were published
///   since it was saved: the first may name it, and must be replaced twice before it cannot be
///   fallen back to. Nor is a *sector* written again that holds such a byte outside the save, for a
///   crash could damage it. (An extent that was given up before any root or log record named it may
///   be used again at once: [`Ledger::forget`], or [`Ledger::allow_rewrites`] where a test cannot
///   tell.)
/// * A byte that the test knows to be needed, see [`Ledger::protect`], is neither saved nor
///   prepared again nor released.
/// * When a root is published, every save completed before was synced.
///   ([`Ledger::allow_unsynced_publish`] for stores with commits that do not wait for the disk.)
pub struct AssertingDisk<D> {
    disk: D,
    ledger: Ledger,
    properties: Properties,
}

impl<D: DiskModel> AssertingDisk<D> {
    /// Watches a disk, going on with what a ledger knows of it.
    pub fn new(disk: D, ledger: &Ledger) -> Self {
        Self {
            properties: disk.properties(),
            disk,
            ledger: ledger.clone(),
        }
    }

    /// The range of bytes, which must lie within a segment for the disk to accept them.
    fn range(&self, at: Address, length: usize) -> Option<Range<u64>> {
        let end = u64::from(at.offset()) + length as u64;
        let within = end <= u64::from(self.properties.segment_bytes);
        within.then(|| at.to_bits()..at.to_bits() + length as u64)
    }

    /// Enters a save, and gives its number.
    fn enter_save(&self, pages: &[Page]) -> u64 {
        let sector = u64::from(self.properties.sector_bytes);
        let mut ranges = Vec::with_capacity(pages.len());
        for page in pages {
            let range = self.range(page.at, page.bytes.len());
            // Left to the disk to refuse.
            ranges.extend(range.filter(|range| !range.is_empty()));
        }
        ranges.sort_by_key(|range| range.start);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match runs.last_mut() {
                Some(run) if range.start < run.end => panic!(
                    "the pages of one save overlap at {}",
                    shown(&(range.start..range.end.min(run.end)))
                ),
                // Neighbours, or two in one sector: they are damaged together or not at all.
                Some(run) if range.start < run.end.next_multiple_of(sector) => run.end = range.end,
                _ => runs.push(range),
            }
        }
        let mut entries = self.ledger.entries();
        for run in runs {
            let sectors = run.start - run.start % sector..run.end.next_multiple_of(sector);
            entries.check_write("a save to the sectors", &sectors);
            let published = entries.published;
            entries.saved.insert(run, published);
        }
        entries.saves += 1;
        entries.saves
    }

    fn enter_releases(&self, releases: &[Release]) {
        let sector = self.properties.sector_bytes;
        let mut entries = self.ledger.entries();
        for Release { extent } in releases {
            assert!(
                extent.address.offset().is_multiple_of(sector)
                    && extent.length.is_multiple_of(sector),
                "a release of {extent} has not whole sectors of {sector} bytes"
            );
            let range = positions(*extent);
            if let Some((found, _)) = entries.protected.overlapping(range.clone()).next() {
                panic!(
                    "a release of {extent} touches {}, which is protected",
                    shown(&found)
                );
            }
            entries.saved.remove(range.clone());
            entries.prepared.remove(range);
        }
    }

    fn check_publication(&self, version: RootVersion) {
        let entries = self.ledger.entries();
        assert!(
            entries.unsynced.is_empty() || entries.allow_unsynced_publish,
            "root {} is published while {} saves are not synced",
            version.0,
            entries.unsynced.len()
        );
    }
}

impl<D: DiskModel> DiskModel for AssertingDisk<D> {
    fn properties(&self) -> Properties {
        self.properties.clone()
    }

    async fn read(&self, at: Address, into: Buffer) -> Result<Buffer> {
        if let Some(range) = self.range(at, into.len()) {
            let entries = self.ledger.entries();
            let mut unknown = Ranges::default();
            unknown.insert(range.clone(), 0);
            for known in [&entries.saved, &entries.prepared] {
                for (found, _) in known.overlapping(range.clone()) {
                    unknown.remove(found);
                }
            }
            if let (false, Some((start, (end, _)))) = (
                entries.allow_unknown_reads,
                unknown.by_start.first_key_value(),
            ) {
                panic!(
                    "a read of {} touches {}, which was neither saved nor prepared",
                    shown(&range),
                    shown(&(*start..*end))
                );
            }
        }
        self.disk.read(at, into).await
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        let save = self.enter_save(&pages);
        self.disk.save(pages, sync).await?;
        if !sync {
            self.ledger.entries().unsynced.insert(save);
        }
        Ok(())
    }

    async fn sync(&self) -> Result<()> {
        let covered = self.ledger.entries().unsynced.clone();
        self.disk.sync().await?;
        let mut entries = self.ledger.entries();
        entries.unsynced.retain(|save| !covered.contains(save));
        Ok(())
    }

    async fn prepare(&self, extent: Extent) -> Result<()> {
        if let Some(range) = self.range(extent.address, extent.length as usize) {
            let mut entries = self.ledger.entries();
            entries.check_write("preparing", &range);
            entries.saved.remove(range.clone());
            entries.prepared.insert(range, 0);
        }
        self.disk.prepare(extent).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<()> {
        self.enter_releases(&releases);
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
        self.check_publication(version);
        self.disk.publish_root(expected, version, record).await?;
        self.ledger.entries().published += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::{MemoryDisk, block_on};
    use super::*;

    fn disk() -> (AssertingDisk<MemoryDisk>, Ledger) {
        let ledger = Ledger::new();
        (AssertingDisk::new(MemoryDisk::new(), &ledger), ledger)
    }

    fn extent(offset: u32, length: u32) -> Extent {
        Extent::new(Address::new(0, offset), length)
    }

    fn save(disk: &AssertingDisk<MemoryDisk>, offset: u32, length: usize, sync: bool) {
        let at = Address::new(0, offset);
        let bytes = vec![1; length].into();
        block_on(disk.save(vec![Page { at, bytes }], sync)).unwrap();
    }

    fn publish(disk: &AssertingDisk<MemoryDisk>, version: u64) {
        let (expected, version) = (RootVersion(version - 1), RootVersion(version));
        block_on(disk.publish_root(expected, version, vec![0; 512].into())).unwrap();
    }

    fn panics(run: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the protocol was broken");
        match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(panic) => panic.downcast_ref::<&str>().unwrap().to_string(),
        }
    }

    #[test]
    fn a_byte_is_saved_again_after_two_roots_or_its_release() {
        let (disk, _) = disk();
        save(&disk, 0, 1024, true);
        block_on(disk.release(vec![Release {
            extent: extent(512, 512),
        }]))
        .unwrap();
        save(&disk, 512, 512, true);
        publish(&disk, 1);
        publish(&disk, 2);
        save(&disk, 0, 1024, true);
        publish(&disk, 3);
        let message = panics(|| save(&disk, 1000, 100, true));
        assert!(message.contains("saved after root 2"), "{message}");
    }

    #[test]
    fn a_sector_that_holds_needed_bytes_is_not_written_again() {
        let (disk, ledger) = disk();
        save(&disk, 0, 100, true);
        ledger.forget(extent(0, 100));
        save(&disk, 0, 100, true);
        let message = panics(|| save(&disk, 200, 100, true));
        assert!(
            message.contains("a save to the sectors 0:0x0+512"),
            "{message}"
        );
    }

    #[test]
    fn what_is_protected_is_neither_saved_again_nor_released() {
        let (disk, ledger) = disk();
        ledger.allow_rewrites(true);
        save(&disk, 0, 4096, true);
        save(&disk, 0, 4096, true);
        ledger.protect([extent(1024, 512)]);
        save(&disk, 0, 1024, true);
        let release = Release {
            extent: extent(512, 1024),
        };
        let message = panics(|| block_on(disk.release(vec![release])).unwrap());
        assert!(message.contains("protected"), "{message}");
    }

    #[test]
    fn nothing_unknown_is_read_and_nothing_unsynced_published() {
        let (first, _) = disk();
        block_on(first.prepare(extent(4096, 4096))).unwrap();
        save(&first, 3584, 512, false);
        block_on(first.read(Address::new(0, 3584), Buffer::zeroed(4608))).unwrap();
        block_on(first.sync()).unwrap();
        publish(&first, 1);
        let read = || block_on(first.read(Address::new(0, 3000), Buffer::zeroed(600)));
        let message = panics(|| drop(read()));
        assert!(message.contains("neither saved nor prepared"), "{message}");

        let (second, _) = disk();
        save(&second, 0, 512, false);
        let message = panics(|| publish(&second, 1));
        assert!(message.contains("1 saves are not synced"), "{message}");
    }
}
