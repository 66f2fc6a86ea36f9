//! What differs between versions of many keys: how long it takes, and how many pages it reads.
//!
//! `cargo bench --bench diff`, with `-- 10000000` for another number of keys than a million. Of that
//! many keys 1, 100 and 10,000 are changed, spread over all of them. The diff is taken as they are in
//! the journal, then after a checkpoint, then after a flush of everything down to the leaves; each
//! with all pages in memory, and again, in a second store, with hardly any, where the pages that are
//! read are counted. Beside it both versions are scanned and compared, as one would have to without a
//! diff. Times are medians of five.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thunderhead::disk::{
    Buffer, DiskModel, FileDisk, FileDiskOptions, Page, Properties, Release, Roots,
};
use thunderhead::format::{Address, Extent, RootVersion};
use thunderhead::{Maintenance, Options, Snapshot, Store};

const ROUNDS: usize = 5;
const COUNTS: [u64; 3] = [1, 100, 10_000];
const WARM_BYTES: usize = 4 << 30;
const COLD_BYTES: usize = 16 << 20;

/// A file whose reads are counted.
struct Counting {
    file: FileDisk,
    reads: Arc<AtomicU64>,
}

impl DiskModel for Counting {
    fn properties(&self) -> Properties {
        self.file.properties()
    }

    async fn read(&self, at: Address, into: Buffer) -> thunderhead::Result<Buffer> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.file.read(at, into).await
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> thunderhead::Result<()> {
        self.file.save(pages, sync).await
    }

    async fn sync(&self) -> thunderhead::Result<()> {
        self.file.sync().await
    }

    async fn prepare(&self, extent: Extent) -> thunderhead::Result<()> {
        self.file.prepare(extent).await
    }

    async fn release(&self, releases: Vec<Release>) -> thunderhead::Result<()> {
        self.file.release(releases).await
    }

    async fn load_root(&self) -> thunderhead::Result<Roots> {
        self.file.load_root().await
    }

    async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> thunderhead::Result<()> {
        self.file.publish_root(expected, version, record).await
    }
}

/// Spread over everything in an order of its own.
fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

/// A store of some keys, in a file of its own.
struct Filled {
    store: Store,
    reads: Arc<AtomicU64>,
    keys: u64,
    _directory: tempfile::TempDir,
}

impl Filled {
    fn new(keys: u64, cache_bytes: usize) -> Result<Self, Box<dyn Error>> {
        let directory = tempfile::tempdir()?;
        let reads = Arc::new(AtomicU64::new(0));
        let file = FileDiskOptions::default().create(directory.path().join("store"))?;
        let disk = Counting {
            file,
            reads: Arc::clone(&reads),
        };
        let options = Options::new()
            .cache_bytes(cache_bytes)
            .maintenance(Maintenance::Caller);
        let store = options.open_disk(disk)?;
        let mut all: Vec<[u8; 8]> = (0..keys).map(key).collect();
        all.sort_unstable();
        let mut transaction = store.begin_alone().wait()?;
        for key in all {
            transaction.put(key, [7; 50]).wait()?;
        }
        transaction.commit().wait()?;
        store.checkpoint().wait()?;
        Ok(Self {
            store,
            reads,
            keys,
            _directory: directory,
        })
    }

    fn change(&self, count: u64) -> Result<(), Box<dyn Error>> {
        let mut batch = self.store.batch();
        for number in 0..count {
            let number = number * (self.keys / count);
            match number % 3 {
                0 => batch.delete(key(number)).wait()?,
                1 => batch.put(key(number), [8; 50]).wait()?,
                _ => batch.put(key(self.keys + number), [9; 50]).wait()?,
            }
        }
        batch.commit().wait()?;
        Ok(())
    }

    /// Undoes it, so that the next changes begin with what there was.
    fn restore(&self, before: &Snapshot) -> Result<(), Box<dyn Error>> {
        let mut batch = self.store.batch();
        for difference in self.store.snapshot().diff(before)? {
            let difference = difference?;
            match difference.new() {
                Some(value) => batch.put(difference.key(), value.load().wait()?).wait()?,
                None => batch.delete(difference.key()).wait()?,
            }
        }
        batch.commit().wait()?;
        self.store.compact().wait()?;
        Ok(())
    }
}

struct Figures {
    found: u64,
    first: Duration,
    all: Duration,
    reads: u64,
}

/// One diff: the first difference, and all of them.
fn diff(filled: &Filled, old: &Snapshot, new: &Snapshot) -> Result<Figures, Box<dyn Error>> {
    let reads = filled.reads.load(Ordering::Relaxed);
    let began = Instant::now();
    let mut differences = old.diff(new)?;
    let mut found = u64::from(differences.next().transpose()?.is_some());
    let first = began.elapsed();
    for difference in differences {
        difference?;
        found += 1;
    }
    Ok(Figures {
        found,
        first,
        all: began.elapsed(),
        reads: filled.reads.load(Ordering::Relaxed) - reads,
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn told(when: &str, warm: [&Filled; 2], sides: [&[Snapshot; 2]; 2]) -> Result<(), Box<dyn Error>> {
    let [cached, cold] = warm;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(diff(cached, &sides[0][0], &sides[0][1])?);
    }
    // Whatever is in the small cache by now is something else.
    for entry in cold.store.iter().step_by(7) {
        entry?;
    }
    let uncached = diff(cold, &sides[1][0], &sides[1][1])?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{:>7} {when:<22} {:>11.1} {:>13.1} {:>12} {:>13.1}",
        rounds[0].found,
        micros(median(rounds.iter().map(|it| it.first).collect())),
        micros(median(rounds.iter().map(|it| it.all).collect())),
        uncached.reads,
        micros(uncached.all),
    );
    assert_eq!(rounds[0].found, uncached.found);
    Ok(())
}

/// Both versions side by side, entry by entry.
fn scan(old: &Snapshot, new: &Snapshot) -> Result<(u64, Duration), Box<dyn Error>> {
    let began = Instant::now();
    let (mut old, mut new) = (old.iter(), new.iter());
    let (mut left, mut right) = (old.next().transpose()?, new.next().transpose()?);
    let mut found = 0;
    loop {
        let ordering = match (&left, &right) {
            (None, None) => return Ok((found, began.elapsed())),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => left.0.cmp(&right.0),
        };
        found += u64::from(ordering.is_ne() || left != right);
        if ordering.is_le() {
            left = old.next().transpose()?;
        }
        if ordering.is_ge() {
            right = new.next().transpose()?;
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|it| !it.starts_with("--"));
    let keys = arguments
        .next()
        .map_or(Ok(1_000_000), |keys| keys.parse())?;
    let warm = [
        Filled::new(keys, WARM_BYTES)?,
        Filled::new(keys, COLD_BYTES)?,
    ];
    let warm = [&warm[0], &warm[1]];
    println!("{keys} keys of 8 bytes, values of 50; times in microseconds");
    println!(
        "{:>7} {:<22} {:>11} {:>13} {:>12} {:>13}",
        "differ", "", "first", "all", "pages read", "all, uncached"
    );
    for count in COUNTS {
        let before = warm.map(|filled| filled.store.snapshot());
        for filled in warm {
            filled.change(count)?;
        }
        let held = |before: &Snapshot, filled: &Filled| [before.clone(), filled.store.snapshot()];
        let journal = [held(&before[0], warm[0]), held(&before[1], warm[1])];
        told("in the journal", warm, [&journal[0], &journal[1]])?;
        for filled in warm {
            filled.store.checkpoint().wait()?;
        }
        let flushed = [held(&before[0], warm[0]), held(&before[1], warm[1])];
        told("after a checkpoint", warm, [&flushed[0], &flushed[1]])?;
        for filled in warm {
            filled.store.compact().wait()?;
        }
        let settled = [held(&before[0], warm[0]), held(&before[1], warm[1])];
        told("after a flush of all", warm, [&settled[0], &settled[1]])?;
        let (found, took) = scan(&settled[0][0], &settled[0][1])?;
        let micros = took.as_secs_f64() * 1e6;
        println!(
            "{found:>7} {:<22} {:>11} {micros:>13.1}",
            "both scanned", ""
        );
        for (filled, before) in warm.into_iter().zip(&before) {
            filled.restore(before)?;
        }
    }
    Ok(())
}
