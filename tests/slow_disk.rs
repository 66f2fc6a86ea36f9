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

fn key(number: u32) -> String {
    format!("key number {number:06}")
}

#[test]
fn many_keys_are_read_at_once() -> std::result::Result<(), Box<dyn Error>> {
    let disk = SlowDisk {
        memory: MemoryDisk::new(),
        reading: Arc::default(),
        most: Arc::default(),
    };
    let store = Options::new().open_disk(disk.clone())?;
    let mut batch = store.batch();
    for number in 0..20_000 {
        batch.put(key(number), vec![number as u8; 100]).wait()?;
    }
    batch.commit().wait()?;
    store.close().wait()?;
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
