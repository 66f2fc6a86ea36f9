//! Panics in the background: whoever writes is told, nobody waits for ever, and nothing durable is lost.

#[path = "fixtures/around.rs"]
mod around;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use around::{Around, Before};
use thunderhead::disk::MemoryDisk;
use thunderhead::{Durability, ErrorKind, Maintenance, Options, Store};

/// Panics when the store's own thread writes, while it is armed.
#[derive(Clone, Default)]
struct Panicking {
    armed: Arc<AtomicBool>,
}

type PanickingDisk = Around<Panicking>;

impl Panicking {
    fn disk() -> PanickingDisk {
        Around(MemoryDisk::new(), Self::default())
    }

    fn check(&self) {
        let own = thread::current().name() == Some("thunderhead");
        assert!(
            !own || !self.armed.load(Ordering::SeqCst),
            "the disk panics"
        );
    }
}

impl Before for Panicking {
    async fn save(&self, _: usize) {
        self.check();
    }

    fn publish(&self) {
        self.check();
    }
}

fn options() -> Options {
    Options::new()
        .journal_bytes(64 << 10)
        .checkpoint_log_bytes(256 << 10)
        .reserve_bytes(0)
}

/// Puts until that is refused; gives the number of those that did not fail.
fn put_until_refused(store: &Store, writer: u32) -> (u32, thunderhead::Error) {
    let mut done = 0;
    loop {
        let key = format!("{writer}/{done:08}");
        match catch_unwind(AssertUnwindSafe(|| store.put(key, [7; 1000]).wait())) {
            Ok(Ok(_)) => done += 1,
            Ok(Err(error)) => return (done, error),
            // The store's thread wrote for those who wait: one of them has the panic, and may not
            // write any more either.
            Err(panic) => {
                let message = panic.downcast_ref::<&str>();
                assert_eq!(message, Some(&"the disk panics"));
                let error = store.put("afterwards", "").wait().unwrap_err();
                return (done, error);
            }
        }
    }
}

#[test]
fn writers_are_told_that_the_thread_panicked() {
    let disk = Panicking::disk();
    let store = options().open_disk(disk.clone()).unwrap();
    store.put("before", "all").wait().unwrap();
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
    assert_eq!(store.get("before").wait().unwrap().unwrap(), "all");
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
    let disk = Panicking::disk();
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

/// Panics when a root is published, while it is armed.
#[derive(Clone, Default)]
struct PanickingRoot {
    armed: Arc<AtomicBool>,
}

impl Before for PanickingRoot {
    fn publish(&self) {
        assert!(!self.armed.load(Ordering::SeqCst), "the disk panics");
    }
}

/// Tries to write as soon as it is woken.
struct Next {
    store: Store,
    refused: Mutex<Vec<Option<ErrorKind>>>,
}

impl Wake for Next {
    fn wake(self: Arc<Self>) {
        let begun = self.store.begin().wait();
        let refused = begun.err().map(|error| error.kind());
        self.refused.lock().unwrap().push(refused);
    }
}

#[test]
fn who_waits_for_a_large_commit_that_panics_finds_the_store_poisoned() {
    let disk = Around(MemoryDisk::new(), PanickingRoot::default());
    let options = Options::new()
        .reserve_bytes(0)
        .transaction_bytes(64 << 10)
        .maintenance(Maintenance::Caller);
    let store = options.open_disk(disk.clone()).unwrap();
    let mut transaction = store.begin_alone().wait().unwrap();
    for number in 0..1000u32 {
        let key = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
        transaction.put(key, [7; 500]).wait().unwrap();
    }
    let next = Arc::new(Next {
        store: store.clone(),
        refused: Mutex::default(),
    });
    let waker = Waker::from(Arc::clone(&next));
    let mut waits = pin!(store.put("key", "value"));
    assert!(
        waits
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );

    disk.armed.store(true, Ordering::SeqCst);
    let panic = catch_unwind(AssertUnwindSafe(|| transaction.commit().wait())).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the disk panics"));
    assert_eq!(
        next.refused.lock().unwrap()[..],
        [Some(ErrorKind::Poisoned)]
    );
}
