//! A disk whose reads take their time: what asks for several things at once waits for them together.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use thunderhead::disk::{Buffer, DiskModel, MemoryDisk, Page, Properties, Release, Roots};
use thunderhead::format::{Address, Extent, RootVersion};
use thunderhead::{Options, Result, Store};

/// Counts how many reads are under way at once. Each goes on when it has been polled a few times,
/// which others have a chance to use.
#[derive(Clone)]
struct SlowDisk {
    memory: MemoryDisk,
    reading: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl DiskModel for SlowDisk {
    fn properties(&self) -> Properties {
        let mut properties = self.memory.properties();
        properties.concurrency = 8;
        properties
    }

    async fn read(&self, at: Address, into: Buffer) -> Result<Buffer> {
        let now = self.reading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..20 {
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
        self.reading.fetch_sub(1, Ordering::SeqCst);
        self.memory.read(at, into).await
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        self.memory.save(pages, sync).await
    }

    async fn sync(&self) -> Result<()> {
        self.memory.sync().await
    }

    async fn prepare(&self, extent: Extent) -> Result<()> {
        self.memory.prepare(extent).await
    }

    async fn release(&self, releases: Vec<Release>) -> Result<()> {
        self.memory.release(releases).await
    }

    async fn load_root(&self) -> Result<Roots> {
        self.memory.load_root().await
    }

    async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Result<()> {
        self.memory.publish_root(expected, version, record).await
    }
}

impl SlowDisk {
    /// With a closed store of so many entries on it.
    fn filled(entries: u32) -> Result<Self> {
        let disk = Self {
            memory: MemoryDisk::new(),
            reading: Arc::default(),
            most: Arc::default(),
        };
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
    let disk = SlowDisk::filled(20_000)?;
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
    let disk = SlowDisk::filled(ENTRIES)?;
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
