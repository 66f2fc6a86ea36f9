//! [`check`]: whether a disk model does what the store expects of it.
//!
//! Crashes cannot be tried from here: what a model owes after one stands in the docs of
//! [`DiskModel`], and is for its author to test. Everything else is tried: places, sizes, space
//! given back, roots, many callers at once, awaited and waited for, and callers that go away.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{join_all, try_join_all};

use super::{Buffer, DiskModel, Page, Release, block_on};
use crate::error::ErrorKind;
use crate::format::{Address, Extent, ROOT_RECORD_BYTES, RootVersion};

/// Tries a disk model; panics where it does not conform, saying what was expected.
///
/// `make` makes an empty, writable disk each time. At most 4 MiB are saved to each, spread over the
/// first four segments. Takes well under a second for a model that is fast.
///
/// ```
/// use thunderhead::disk::{MemoryDisk, conformance};
///
/// conformance::check(MemoryDisk::new);
/// ```
pub fn check<D: DiskModel>(mut make: impl FnMut() -> D) {
    properties_keep_their_limits(&make());
    a_new_disk_has_no_root(&make());
    what_was_saved_is_read_back(&make());
    nothing_is_read_or_saved_past_a_segment(&make());
    prepared_space_is_zero_and_takes_saves(&make());
    released_space_is_saved_again_and_its_neighbours_stay(&make());
    the_last_two_roots_are_kept(&make());
    a_deposed_writer_is_fenced(&make());
    threads_do_not_disturb_each_other(&make());
    futures_do_not_disturb_each_other(&make());
    dropped_futures_do_no_harm(&make());
}

fn properties_keep_their_limits(disk: &impl DiskModel) {
    let properties = disk.properties();
    let segment = properties.segment_bytes;
    assert!(
        segment.is_power_of_two() && ((64 << 10)..=(1 << 30)).contains(&segment),
        "segment_bytes is {segment}, but must be a power of two from 64 KiB to 1 GiB"
    );
    let sector = properties.sector_bytes;
    assert!(
        matches!(sector, 512 | 4096),
        "sector_bytes is {sector}, but must be 512 or 4096"
    );
    assert!(properties.concurrency > 0, "concurrency must not be zero");
    assert!(!properties.read_only, "the disk to check must be writable");
    assert_eq!(
        properties,
        disk.properties(),
        "properties do not change while the disk is open"
    );
}

fn a_new_disk_has_no_root(disk: &impl DiskModel) {
    let roots = block_on(disk.load_root()).expect("load_root of a new disk succeeds");
    assert!(
        roots.records.is_empty(),
        "a disk that never had a root gives none"
    );
}

fn what_was_saved_is_read_back(disk: &impl DiskModel) {
    let segment_bytes = disk.properties().segment_bytes;
    save(disk, vec![], false);
    save(disk, vec![], true);
    let mut saved = Vec::new();
    for segment in 0..4 {
        let offsets = [0, 512, 4096, 10_000, 33_333, segment_bytes - 9_000];
        for (index, offset) in offsets.into_iter().enumerate() {
            let lengths = [100, 511, 4097, 777, 20_000, 9_000];
            saved.push(page(segment, offset, lengths[index]));
        }
    }
    // Alone, and several in no order, with an empty one among them; durable or not.
    let (alone, together) = saved.split_at(6);
    for (index, page) in alone.iter().enumerate() {
        save(disk, vec![page.clone()], index % 2 == 0);
    }
    let mut together = together.to_vec();
    together.reverse();
    together.push(page(0, 300, 0));
    save(disk, together, true);
    sync(disk);
    for page in &saved {
        assert_reads(disk, page.at, &page.bytes);
        let middle = page.bytes.len() / 2;
        assert_reads(
            disk,
            page.at.plus(middle as u32),
            &page.bytes[middle..][..1],
        );
        assert_reads(disk, page.at.plus(1), &page.bytes[1..middle]);
    }
    assert_reads(disk, saved[0].at, &[]);
}

fn nothing_is_read_or_saved_past_a_segment(disk: &impl DiskModel) {
    let segment_bytes = disk.properties().segment_bytes;
    let last = page(0, segment_bytes - 512, 512);
    save(disk, vec![last.clone(), page(1, 0, 512)], false);
    let read = block_on(disk.read(last.at, Buffer::zeroed(513)));
    assert!(read.is_err(), "a read past the end of a segment fails");
    let past = page(0, segment_bytes - 512, 513);
    let saved = block_on(disk.save(vec![past], false));
    assert!(saved.is_err(), "a save past the end of a segment fails");
    assert_reads(disk, Address::new(1, 0), &page(1, 0, 512).bytes);
    let empty = Address::new(3, segment_bytes - 512);
    let read = block_on(disk.read(empty, Buffer::zeroed(512)));
    assert!(
        read.is_err(),
        "a read of a segment to which nothing was saved fails"
    );
}

fn prepared_space_is_zero_and_takes_saves(disk: &impl DiskModel) {
    let extent = Extent::new(Address::new(1, 8192), 40_960);
    let before = page(1, 0, 8192);
    save(disk, vec![before.clone()], false);
    block_on(disk.prepare(extent)).expect("preparing space succeeds");
    // Doing nothing is allowed, and then there is nothing to be read.
    if let Ok(read) = block_on(disk.read(extent.address, Buffer::zeroed(40_960))) {
        assert_eq!(read.as_slice(), [0; 40_960], "prepared space is zero");
    }
    let inside = page(1, 12_288, 5_000);
    save(disk, vec![inside.clone()], true);
    assert_reads(disk, inside.at, &inside.bytes);
    assert_reads(disk, before.at, &before.bytes);
}

fn released_space_is_saved_again_and_its_neighbours_stay(disk: &impl DiskModel) {
    let pages: Vec<_> = (0..8).map(|index| page(0, index * 8192, 8192)).collect();
    let release = |page: &Page| Release {
        extent: Extent::new(page.at, 8192),
    };
    save(disk, pages.clone(), false);
    sync(disk);
    block_on(disk.release(vec![])).expect("releasing nothing succeeds");
    // The last page is the end of what was ever saved; others lie between.
    let odd: Vec<_> = pages.iter().skip(1).step_by(2).collect();
    let releases = odd.iter().map(|page| release(page)).collect();
    block_on(disk.release(releases)).expect("releasing succeeds");
    for page in pages.iter().step_by(2) {
        assert_reads(disk, page.at, &page.bytes);
    }
    for page in odd {
        let bytes = page.bytes.iter().map(|byte| !byte).collect();
        let again = Page { at: page.at, bytes };
        save(disk, vec![again.clone()], true);
        assert_reads(disk, again.at, &again.bytes);
    }
    for page in pages.iter().step_by(2) {
        assert_reads(disk, page.at, &page.bytes);
    }
}

fn the_last_two_roots_are_kept(disk: &impl DiskModel) {
    for version in 1..=7 {
        publish(disk, version - 1, version).expect("publishing the next root succeeds");
        let roots = block_on(disk.load_root()).expect("loading roots succeeds");
        assert!(roots.records.len() <= 2, "load_root gives at most two");
        let has = |version: u64| {
            let mut records = roots.records.iter();
            records.any(|found| found.get(..ROOT_RECORD_BYTES) == Some(&record(version)[..]))
        };
        assert!(has(version), "load_root gives the root just published");
        assert!(
            version == 1 || has(version - 1),
            "load_root gives the root before the one just published"
        );
    }
}

fn a_deposed_writer_is_fenced(disk: &impl DiskModel) {
    publish(disk, 0, 1).expect("publishing the first root succeeds");
    publish(disk, 1, 2).expect("publishing the next root succeeds");
    for expected in [0, 1] {
        let error = publish(disk, expected, expected + 1).err();
        assert_eq!(
            error.map(|error| error.kind()),
            Some(ErrorKind::Fenced),
            "publishing after root {expected} is fenced once root 2 is published"
        );
    }
    let roots = block_on(disk.load_root()).expect("loading roots succeeds");
    let newest = record(2);
    assert!(
        roots.records.contains(&newest),
        "a fenced publication changes nothing"
    );
    publish(disk, 2, 3).expect("who knows the newest root publishes the next");
}

fn threads_do_not_disturb_each_other(disk: &impl DiskModel) {
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..24u32 {
                    let page = page(round % 3, (thread * 8 + round / 3) * 1536, 1536);
                    save(disk, vec![page.clone()], round % 5 == 0);
                    assert_reads(disk, page.at, &page.bytes);
                    if round % 7 == 0 {
                        sync(disk);
                    }
                }
            });
        }
    });
    for index in 0..4 * 8 {
        let page = page(2, index * 1536, 1536);
        assert_reads(disk, page.at, &page.bytes);
    }
}

fn futures_do_not_disturb_each_other(disk: &impl DiskModel) {
    let pages: Vec<_> = (0..32).map(|index| page(1, index * 2048, 2048)).collect();
    let saves = pages
        .iter()
        .map(|page| disk.save(vec![page.clone()], false));
    wait(try_join_all(saves)).expect("saves at the same time succeed");
    wait(disk.sync()).expect("syncing succeeds");
    let reads = pages
        .iter()
        .map(|page| disk.read(page.at, Buffer::zeroed(2048)));
    for (page, read) in pages.iter().zip(wait(join_all(reads))) {
        let read = read.expect("reads at the same time succeed");
        assert!(
            read.as_slice() == page.bytes,
            "each of several reads at the same time gets its own bytes"
        );
    }
    wait(disk.publish_root(RootVersion(0), RootVersion(1), record(1)))
        .expect("publishing succeeds when awaited");
    let roots = wait(disk.load_root()).expect("loading roots succeeds when awaited");
    assert!(roots.records.contains(&record(1)));
}

fn dropped_futures_do_no_harm(disk: &impl DiskModel) {
    let kept = page(0, 0, 4096);
    save(disk, vec![kept.clone()], true);
    for round in 0..16 {
        // Never polled, then polled once; what a dropped save wrote is anybody's guess.
        let doubtful = || vec![page(0, 4096 + round * 512, 512)];
        drop(disk.save(doubtful(), true));
        let _ = disk.save(doubtful(), round % 2 == 0).now_or_never();
        let _ = disk.sync().now_or_never();
        let _ = disk.read(kept.at, Buffer::zeroed(4096)).now_or_never();
        let _ = disk.load_root().now_or_never();
    }
    let read = wait(disk.read(kept.at, Buffer::zeroed(4096)));
    let read = read.expect("a read after dropped futures succeeds");
    assert!(
        read.as_slice() == kept.bytes,
        "dropped futures change nothing else"
    );
    let after = page(1, 0, 4096);
    wait(disk.save(vec![after.clone()], true)).expect("a save after dropped futures succeeds");
    assert_reads(disk, after.at, &after.bytes);
}

/// A page whose bytes tell where they belong.
fn page(segment: u32, offset: u32, length: usize) -> Page {
    let byte = |at: usize| {
        let place = u64::from(segment) << 32 | (u64::from(offset) + at as u64);
        (place.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
    };
    Page {
        at: Address::new(segment, offset),
        bytes: (0..length).map(byte).collect(),
    }
}

fn record(version: u64) -> Bytes {
    vec![version as u8; ROOT_RECORD_BYTES].into()
}

fn publish(disk: &impl DiskModel, expected: u64, version: u64) -> crate::Result<()> {
    block_on(disk.publish_root(RootVersion(expected), RootVersion(version), record(version)))
}

fn save(disk: &impl DiskModel, pages: Vec<Page>, sync: bool) {
    block_on(disk.save(pages, sync)).expect("saving succeeds");
}

fn sync(disk: &impl DiskModel) {
    block_on(disk.sync()).expect("syncing succeeds");
}

fn assert_reads(disk: &impl DiskModel, at: Address, bytes: &[u8]) {
    let read = block_on(disk.read(at, Buffer::zeroed(bytes.len())));
    let read = read.unwrap_or_else(|error| {
        panic!(
            "reading {} bytes that were saved at {at} failed: {error}",
            bytes.len()
        )
    });
    assert!(
        read.as_slice() == bytes,
        "{} bytes read at {at} are not those that were saved",
        bytes.len()
    );
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits as an executor does, without telling the disk that blocking this thread is harmless.
fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::{
        AssertingDisk, FileDisk, FileDiskOptions, Ledger, MemoryDisk, Properties, Roots,
        SimulatedMachine,
    };
    use super::*;
    use crate::Result;

    fn small() -> FileDiskOptions {
        FileDiskOptions {
            segment_bytes: 64 << 10,
            ..FileDiskOptions::default()
        }
    }

    #[test]
    fn the_memory_disk_conforms() {
        check(MemoryDisk::new);
        check(|| MemoryDisk::new().with_segment_bytes(64 << 10));
    }

    #[test]
    fn the_file_disk_conforms() {
        let directory = tempfile::tempdir().unwrap();
        let mut count = 0;
        check(|| {
            count += 1;
            let path = directory.path().join(count.to_string());
            small().create(path).unwrap()
        });
        check(|| {
            count += 1;
            FileDisk::create(directory.path().join(count.to_string())).unwrap()
        });
    }

    #[test]
    fn the_simulated_file_conforms() {
        check(|| FileDisk::create_on(&SimulatedMachine::new(1), &small()).unwrap());
    }

    #[test]
    fn the_asserting_disk_conforms() {
        check(|| {
            let ledger = Ledger::new();
            ledger.allow_rewrites(true);
            ledger.allow_unknown_reads(true);
            AssertingDisk::new(MemoryDisk::new(), &ledger)
        });
    }

    #[cfg(feature = "mapped")]
    #[test]
    #[expect(unsafe_code, reason = "opening a mapped disk is unsafe")]
    fn the_mapped_disk_conforms() {
        let directory = tempfile::tempdir().unwrap();
        let mut count = 0;
        check(|| {
            count += 1;
            let path = directory.path().join(count.to_string());
            // SAFETY: nobody else knows of the file.
            unsafe { super::super::MappedDisk::open_or_create(path, &small()) }.unwrap()
        });
    }

    /// Forgets the fencing of roots.
    struct Unfenced(MemoryDisk);

    impl DiskModel for Unfenced {
        fn properties(&self) -> Properties {
            self.0.properties()
        }

        async fn read(&self, at: Address, into: Buffer) -> Result<Buffer> {
            self.0.read(at, into).await
        }

        async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
            self.0.save(pages, sync).await
        }

        async fn sync(&self) -> Result<()> {
            Ok(())
        }

        async fn release(&self, _: Vec<Release>) -> Result<()> {
            Ok(())
        }

        async fn load_root(&self) -> Result<Roots> {
            self.0.load_root().await
        }

        async fn publish_root(&self, _: RootVersion, new: RootVersion, root: Bytes) -> Result<()> {
            self.0.publish_root(RootVersion(u64::MAX), new, root).await
        }
    }

    #[test]
    fn a_disk_without_fencing_does_not_conform() {
        let make = || Unfenced(MemoryDisk::new());
        let panic = catch_unwind(AssertUnwindSafe(|| check(make))).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains("fenced"), "{message}");
    }
}
