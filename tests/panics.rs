//! Panics in the background: whoever writes is told, nobody waits for ever, and nothing durable is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use thunderhead::disk::{Buffer, DiskModel, MemoryDisk, Page, Properties, Release, Roots};
use thunderhead::format::{Address, Extent, RootVersion};
use thunderhead::{Durability, ErrorKind, Options, Result, Store};

/// Panics when the store's own thread writes, while it is armed.
#[derive(Clone)]
struct PanickingDisk {
    memory: MemoryDisk,
    armed: Arc<AtomicBool>,
}

impl PanickingDisk {
    fn new() -> Self {
        Self {
            memory: MemoryDisk::new(),
            armed: Arc::default(),
        }
    }

    fn check(&self) {
        let own = thread::current().name() == Some("thunderhead");
        assert!(
            !own || !self.armed.load(Ordering::SeqCst),
            "the disk panics"
        );
    }
}

impl DiskModel for PanickingDisk {
    fn properties(&self) -> Properties {
        self.memory.properties()
    }

    async fn read(&self, at: Address, into: Buffer) -> Result<Buffer> {
        self.memory.read(at, into).await
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        self.check();
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
        self.check();
        self.memory.publish_root(expected, version, record).await
    }
}

fn options() -> Options {
    Options::new()
        .journal_bytes(64 << 10)
        .checkpoint_log_bytes(256 << 10)
        .reserve_bytes(0)
}

/// Puts until that fails; gives the number of those that did not.
fn put_until_refused(store: &Store, writer: u32) -> (u32, thunderhead::Error) {
    for number in 0.. {
        let key = format!("{writer}/{number:08}");
        if let Err(error) = store.put(key, [7; 1000]).wait() {
            return (number, error);
        }
    }
    unreachable!("a panic of the store's thread is noticed");
}

#[test]
fn writers_are_told_that_the_thread_panicked() {
    let disk = PanickingDisk::new();
    let store = options().open_disk(disk.clone()).unwrap();
    disk.armed.store(true, Ordering::SeqCst);
    let refused: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || put_until_refused(store, writer))
            })
            .collect();
        let joined = writers.into_iter().map(|writer| writer.join().unwrap());
        joined.collect()
    });
    for (_, error) in &refused {
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    // What was there can still be read, and who awaits the maintenance is told, too.
    assert_eq!(store.get("0/00000000").wait().unwrap().unwrap(), [7; 1000]);
    for awaited in [false, true] {
        let error = match awaited {
            true => futures::executor::block_on(store.checkpoint()).unwrap_err(),
            false => store.checkpoint().wait().unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    }
    drop(store);

    disk.armed.store(false, Ordering::SeqCst);
    let store = options().open_disk(disk).unwrap();
    for (writer, (count, _)) in refused.iter().enumerate() {
        for number in 0..*count {
            let key = format!("{writer}/{number:08}");
            assert!(store.contains_key(&key).wait().unwrap(), "{key}");
        }
    }
    store.put("after", "all").wait().unwrap();
    store.close().wait().unwrap();
}

#[test]
fn a_task_whose_job_panics_on_the_store_s_thread_is_told() {
    let disk = PanickingDisk::new();
    let store = options()
        .durability(Durability::Immediate)
        .open_disk(disk.clone())
        .unwrap();
    store.put("key", "value").wait().unwrap();
    disk.armed.store(true, Ordering::SeqCst);
    let error = futures::executor::block_on(store.checkpoint()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    let error = store.put("key", "other").wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    assert!(error.to_string().contains("panicked"), "{error}");
}
