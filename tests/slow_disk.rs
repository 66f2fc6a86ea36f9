//! A disk whose reads take their time: what asks for several things at once waits for them together.

#[path = "fixtures/around.rs"]
mod around;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use around::{Around, Before};
use thunderhead::disk::{MemoryDisk, Properties};
use thunderhead::{ErrorKind, Maintenance, Options, Result, Store};

/// How often a read is polled before it goes on: what it takes, in a time that polls measure.
const READ_POLLS: u64 = 20;

/// Counts how many reads are under way at once. Each goes on when it has been polled some times,
/// which others have a chance to use.
#[derive(Clone, Default)]
struct Slow {
    reading: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
    most_bytes: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
}

type SlowDisk = Around<Slow>;

/// A read that is under way.
struct UnderWay<'d>(&'d Slow, usize);

impl<'d> UnderWay<'d> {
    fn new(disk: &'d Slow, bytes: usize) -> Self {
        let now = disk.reading.fetch_add(1, Ordering::SeqCst) + 1;
        disk.most.fetch_max(now, Ordering::SeqCst);
        let now = disk.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        disk.most_bytes.fetch_max(now, Ordering::SeqCst);
        disk.reads.fetch_add(1, Ordering::SeqCst);
        Self(disk, bytes)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.reading.fetch_sub(1, Ordering::SeqCst);
        self.0.bytes.fetch_sub(self.1, Ordering::SeqCst);
    }
}

impl Before for Slow {
    fn properties(&self, mut properties: Properties) -> Properties {
        properties.concurrency = 8;
        properties
    }

    async fn read(&self, bytes: usize) {
        let _under_way = UnderWay::new(self, bytes);
        for _ in 0..READ_POLLS {
            let mut polled = false;
            std::future::poll_fn(|context| {
                if std::mem::replace(&mut polled, true) {
                    return std::task::Poll::Ready(());
                }
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
        }
    }
}

impl Slow {
    /// With a closed store of so many entries on it.
    fn filled(entries: u32) -> Result<SlowDisk> {
        let disk = Around(MemoryDisk::new(), Self::default());
        let store = Options::new().open_disk(disk.clone())?;
        let mut batch = store.batch();
        for number in 0..entries {
            batch.put(key(number), vec![number as u8; 100]).wait()?;
        }
        batch.commit().wait()?;
        store.close().wait()?;
        Ok(disk)
    }
}

fn key(number: u32) -> String {
    format!("key number {number:06}")
}

#[test]
fn many_keys_are_read_at_once() -> std::result::Result<(), Box<dyn Error>> {
    let disk = Slow::filled(20_000)?;
    for awaited in [false, true] {
        let store: Store = Options::new().open_disk(disk.clone())?;
        disk.most.store(0, Ordering::SeqCst);
        let wanted = (0..30_000).step_by(777).map(key);
        let many = store.get_many(wanted);
        let found = match awaited {
            true => futures::executor::block_on(many)?,
            false => many.wait()?,
        };
        for (number, found) in (0..30_000).step_by(777).zip(&found) {
            let expected = (number < 20_000).then(|| vec![number as u8; 100]);
            assert_eq!(found.as_deref(), expected.as_deref(), "{number}");
        }
        assert_eq!(found.len(), (0..30_000).step_by(777).len());
        let most = disk.most.load(Ordering::SeqCst);
        assert!((2..=8).contains(&most), "{most} at once");
    }
    Ok(())
}

/// Polls a future some times and gives up on it.
fn poll_a_little<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    })
}

#[test]
fn a_cursor_whose_step_was_dropped_goes_on_both_ways() -> std::result::Result<(), Box<dyn Error>> {
    const ENTRIES: u32 = 3_000;
    /// Entries before the cursor; and whether it stands on the next one.
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Place(u32, bool);
    let disk = Slow::filled(ENTRIES)?;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut dropped, mut done) = (0, 0);
    for _ in 0..60 {
        // Nothing of it is in memory.
        let store = Options::new().open_disk(disk.clone())?;
        let mut cursor = store.cursor();
        let mut place = None;
        for _ in 0..40 {
            let polls = random.usize(..150);
            let kind = random.u8(..6);
            let wanted = random.u32(..ENTRIES);
            // Where it is behind what it leaves, and where it comes to.
            let (gap, target) = match (kind, place) {
                (0, _) => (wanted, Some(wanted)),
                (1, _) => (wanted, wanted.checked_sub(1)),
                (2 | 3, None) => (0, Some(0)),
                (2 | 3, Some(Place(before, on))) => {
                    let gap = before + u32::from(on);
                    (gap, Some(gap).filter(|gap| *gap < ENTRIES))
                }
                (_, None) => (ENTRIES, Some(ENTRIES - 1)),
                (_, Some(Place(before, _))) => (before, before.checked_sub(1)),
            };
            let found = match kind {
                0 => poll_a_little(cursor.seek(key(wanted)), polls),
                1 => poll_a_little(cursor.seek_before(key(wanted)), polls),
                2 | 3 => poll_a_little(cursor.next(), polls),
                _ => poll_a_little(cursor.previous(), polls),
            };
            match found {
                Some(found) => {
                    done += 1;
                    assert_eq!(found?, target.is_some());
                    place = Some(target.map_or(Place(gap, false), |on| Place(on, true)));
                }
                // A future that was never polled has moved nothing.
                None if polls == 0 => {}
                None => {
                    dropped += 1;
                    place = Some(Place(gap, false));
                }
            }
            let on = place.filter(|place| place.1).map(|place| key(place.0));
            assert_eq!(cursor.key(), on.as_deref().map(str::as_bytes));
            if random.bool()
                && on.is_some()
                && let Some(value) = poll_a_little(cursor.value(), polls)
            {
                assert_eq!(value?.map(<[u8]>::len), Some(100));
            }
        }
    }
    assert!(dropped > 100 && done > 100, "{dropped} dropped, {done} not");
    Ok(())
}

/// Drives a future to its end, and counts how often that takes a poll: its time.
fn polls<F: Future>(future: F) -> (F::Output, u64) {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut polls = 0;
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return (output, polls);
        }
        polls += 1;
    }
}

/// Ways to go over all of a store.
#[derive(Clone, Copy, Debug)]
enum Scan {
    Range,
    RangeBack,
    Cursor,
    CursorBack,
}

/// Goes over all of a store; counts the entries.
async fn scan(store: &Store, scan: Scan) -> Result<u32> {
    let mut count = 0;
    let mut range = store.range(..);
    let mut cursor = store.cursor();
    loop {
        let wanted = match scan {
            Scan::Range | Scan::Cursor => count,
            Scan::RangeBack | Scan::CursorBack => ENTRIES - 1 - count.min(ENTRIES - 1),
        };
        let is_wanted = |found: &[u8]| assert_eq!(found, key(wanted).as_bytes());
        let found = match scan {
            Scan::Range => range.next_key_with(is_wanted).await?.is_some(),
            Scan::RangeBack => range.next_back_key_with(is_wanted).await?.is_some(),
            Scan::Cursor => cursor.next().await?,
            Scan::CursorBack => cursor.previous().await?,
        };
        cursor.key().iter().for_each(|key| is_wanted(key));
        if !found {
            return Ok(count);
        }
        count += 1;
    }
}

const ENTRIES: u32 = 20_000;

#[test]
fn a_scan_reads_ahead_within_its_memory() -> std::result::Result<(), Box<dyn Error>> {
    const AHEAD_BYTES: usize = 80 << 10;
    let disk = Slow::filled(ENTRIES)?;
    for kind in [Scan::Range, Scan::RangeBack, Scan::Cursor, Scan::CursorBack] {
        let mut figures = Vec::new();
        for bytes in [0, AHEAD_BYTES] {
            let options = Options::new().readahead_bytes(bytes);
            let store = options.open_disk(disk.clone())?;
            let counters = [&disk.most, &disk.most_bytes, &disk.reads];
            for counter in counters {
                counter.store(0, Ordering::SeqCst);
            }
            let (count, time) = polls(scan(&store, kind));
            assert_eq!(count?, ENTRIES, "{kind:?}");
            let [most, most_bytes, reads] = counters.map(|counter| counter.load(Ordering::SeqCst));
            figures.push((time, most, most_bytes, reads));
            // What is in memory is asked for by nobody.
            let (count, time) = polls(scan(&store, kind));
            assert_eq!((count?, time), (ENTRIES, 0), "{kind:?}");
            assert_eq!(disk.reads.load(Ordering::SeqCst), reads);
        }
        let [(slow, alone, _, needed), (quick, most, most_bytes, reads)] = figures[..] else {
            unreachable!("two runs")
        };
        assert_eq!(alone, 1, "{kind:?}");
        assert_eq!(slow, needed as u64 * READ_POLLS, "{kind:?}");
        assert!((4..=8).contains(&most), "{kind:?}: {most} at once");
        assert!(
            most_bytes <= AHEAD_BYTES,
            "{kind:?}: {most_bytes} bytes under way"
        );
        assert_eq!(reads, needed, "{kind:?}: nothing is read in vain");
        assert!(
            quick * 3 < slow,
            "{kind:?}: {quick} polls instead of {slow}"
        );
    }
    Ok(())
}

#[test]
fn short_ranges_read_nothing_ahead() -> std::result::Result<(), Box<dyn Error>> {
    let disk = Slow::filled(ENTRIES)?;
    let mut reads = Vec::new();
    for bytes in [0, 1 << 20] {
        let store = Options::new()
            .readahead_bytes(bytes)
            .open_disk(disk.clone())?;
        let before = disk.reads.load(Ordering::SeqCst);
        for number in (0..ENTRIES).step_by(1000) {
            let range = store.range(key(number)..key(number + 10));
            assert_eq!(range.count(), 10);
        }
        // Longer than a leaf or two, but with an end.
        assert_eq!(store.range(key(500)..key(900)).rev().count(), 400);
        reads.push(disk.reads.load(Ordering::SeqCst) - before);
    }
    assert_eq!(reads[0], reads[1]);
    Ok(())
}

#[test]
fn a_scan_that_is_dropped_leaves_no_reads_behind() -> std::result::Result<(), Box<dyn Error>> {
    let disk = Slow::filled(ENTRIES)?;
    let store = Options::new()
        .readahead_bytes(1 << 20)
        .open_disk(disk.clone())?;
    let mut range = store.iter();
    while disk.reading.load(Ordering::SeqCst) < 6 {
        let _ = poll_a_little(range.next_entry(), 1);
    }
    drop(range);
    assert_eq!(disk.reading.load(Ordering::SeqCst), 0);
    assert_eq!(store.iter().count(), ENTRIES as usize);
    Ok(())
}

const VALUE_BYTES: usize = 12_345_678;

/// A store with one large value, whose bytes are all different from their neighbours.
fn with_large_value() -> Result<(SlowDisk, Vec<u8>)> {
    let disk = Slow::filled(10)?;
    let value: Vec<u8> = (0..VALUE_BYTES as u32)
        .flat_map(|at| [(at ^ (at >> 8) ^ (at >> 16)) as u8])
        .collect();
    let store = Options::new().open_disk(disk.clone())?;
    store.put("large", &value).wait()?;
    store.close().wait()?;
    Ok((disk, value))
}

#[test]
fn a_value_that_is_streamed_is_read_ahead_within_its_memory()
-> std::result::Result<(), Box<dyn Error>> {
    /// The most that is read at a time.
    const PIECE_BYTES: usize = 1 << 20;
    const AHEAD_BYTES: usize = 3 << 20;
    let (disk, value) = with_large_value()?;
    let mut figures = Vec::new();
    for bytes in [Some(0), Some(AHEAD_BYTES), None] {
        let options = Options::new();
        let options = match bytes {
            Some(bytes) => options.readahead_bytes(bytes),
            None => options,
        };
        let store = options.open_disk(disk.clone())?;
        let reader = store.value_reader("large").wait()?.ok_or("no value")?;
        let counters = [&disk.most, &disk.most_bytes, &disk.reads];
        for counter in counters {
            counter.store(0, Ordering::SeqCst);
        }
        let (read, time): (Result<_>, _) = polls(async {
            let (mut chunks, mut read) = (reader.chunks(), Vec::new());
            while let Some(chunk) = chunks.next_chunk().await? {
                assert!(chunk.len() <= PIECE_BYTES);
                read.extend_from_slice(&chunk);
            }
            thunderhead::Result::Ok(read)
        });
        assert!(read? == value);
        let [most, most_bytes, reads] = counters.map(|counter| counter.load(Ordering::SeqCst));
        assert!(
            most_bytes <= PIECE_BYTES + bytes.unwrap_or(2 << 20),
            "{most_bytes} bytes under way"
        );
        figures.push((time, most, reads));
    }
    let [(slow, alone, needed), ahead, by_default] = figures[..] else {
        unreachable!("three runs")
    };
    assert_eq!(alone, 1);
    for ((quick, most, reads), at_once) in [(ahead, 4), (by_default, 3)] {
        assert_eq!(most, at_once);
        assert_eq!(reads, needed, "nothing is read in vain");
        assert!(quick * 2 < slow, "{quick} polls instead of {slow}");
    }
    Ok(())
}

#[test]
fn a_reader_that_jumps_and_is_interrupted_reads_what_is_there()
-> std::result::Result<(), Box<dyn Error>> {
    use std::io::{Seek, SeekFrom};

    use futures::io::AsyncReadExt;

    let (disk, value) = with_large_value()?;
    let store = Options::new().open_disk(disk.clone())?;
    let mut random = fastrand::Rng::with_seed(11);
    let mut reader = store.value_reader("large").wait()?.ok_or("no value")?;
    let mut place = 0;
    let mut interrupted = 0;
    for _ in 0..400 {
        if random.u8(..4) == 0 {
            // Often to what may be under way.
            place = match random.bool() {
                true => random.usize(..value.len() + 10),
                false => (place + random.usize(..3 << 20)).min(value.len()),
            };
            reader.seek(SeekFrom::Start(place as u64))?;
        }
        let mut into = vec![0; random.usize(1..2 << 20)];
        let polls = random.usize(..100);
        match poll_a_little(AsyncReadExt::read(&mut reader, &mut into), polls) {
            None => interrupted += 1,
            Some(read) => {
                let read = read?;
                let rest = value.get(place..).unwrap_or_default();
                assert!(read > 0 || rest.is_empty());
                assert!(into[..read] == rest[..read], "{read} bytes from {place}");
                place += read;
            }
        }
    }
    assert!(interrupted > 20, "{interrupted}");
    drop(reader);
    assert_eq!(
        disk.reading.load(Ordering::SeqCst),
        0,
        "nothing is left behind"
    );
    Ok(())
}

/// A transaction of more than its memory may have: it read a key that another one changed.
fn refused_transaction(store: &Store, value: &[u8]) -> Result<thunderhead::Transaction> {
    let mut transaction = store.begin().wait()?;
    transaction.get(key(0)).wait()?;
    for number in 0..300 {
        transaction.put(key(number), [1; 100]).wait()?;
    }
    store.put(key(0), value).wait()?;
    // More than is kept of recent commits, so that all is read again.
    let mut batch = store.batch();
    for number in 0..5_000 {
        batch.put(format!("later {number:06}"), [2; 100]).wait()?;
    }
    batch.commit().wait()?;
    store.put("last", "1").wait()?;
    while store.maintain().wait()? {}
    // And nothing of that is in memory.
    assert!(store.iter().count() > ENTRIES as usize);
    Ok(transaction)
}

#[test]
fn a_transaction_whose_validation_was_given_up_is_not_committed()
-> std::result::Result<(), Box<dyn Error>> {
    let disk = Slow::filled(ENTRIES)?;
    let options = Options::new()
        .cache_bytes(1 << 20)
        .transaction_bytes(64 << 10)
        .history_bytes(0)
        .maintenance(Maintenance::Caller);
    let store = options.open_disk(disk)?;
    for polls in [1, 2, READ_POLLS as usize + 1, 100_000] {
        let value = polls.to_le_bytes();
        let mut transaction = refused_transaction(&store, &value)?;
        let mut ended = None;
        for number in 0..600 {
            ended = poll_a_little(transaction.put(key(number), [3; 100]), polls);
            if ended.is_none() || matches!(ended, Some(Err(_))) {
                break;
            }
        }
        let refused = |error: thunderhead::Error| assert_eq!(error.kind(), ErrorKind::Conflict);
        match ended {
            None => {}
            Some(result) => refused(result.expect_err("it has to be alone by now")),
        }
        // It keeps nobody out, although it is still there.
        store.put("others", "go on").wait()?;
        if let Err(error) = transaction.put("more", [3; 100]).wait() {
            refused(error);
        }
        store.put("others", "go on").wait()?;
        refused(
            transaction
                .commit()
                .wait()
                .expect_err("what it read was changed"),
        );
        assert_eq!(store.get(key(0)).wait()?.expect("it is there"), value);
    }
    Ok(())
}
