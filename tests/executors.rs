//! The same work by every way to have it done: waiting, on the executors of `futures` and tokio, and on
//! one that is written here.

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use futures::TryStreamExt;
use thunderhead::{Durability, Options, Store};

type Outcome = Result<(), Box<dyn Error>>;

fn key(number: u32) -> String {
    format!("key {number:05}")
}

macro_rules! awaited {
    ($operation:expr) => {
        $operation.await?
    };
}

macro_rules! waited {
    ($operation:expr) => {
        $operation.wait()?
    };
}

/// Uses most of the interface, awaited or waited for.
macro_rules! work {
    ($store:ident, $done:ident) => {{
        for number in 0..200 {
            let durability = match number % 3 {
                0 => Durability::Immediate,
                1 => Durability::Buffered,
                _ => Durability::Deferred,
            };
            let store = $store.with_durability(durability);
            $done!(store.put(key(number), [number as u8; 40]));
        }
        let snapshot = $store.snapshot();
        let mut transaction = $done!($store.begin());
        $done!(transaction.delete_range(key(50)..key(100)));
        $done!(transaction.put(key(300), vec![3; 100_000]));
        let mut cursor = transaction.cursor_mut();
        while $done!(cursor.next()) {
            if $done!(cursor.value()) == Some(&[7; 40][..]) {
                $done!(cursor.delete());
            }
        }
        drop(cursor);
        $done!(transaction.commit());
        $done!($store.checkpoint());
        assert_eq!($done!(snapshot.len()), 200);
        assert_eq!($done!($store.get(key(7))), None);
        let large = $done!($store.get(key(300)));
        assert_eq!(large.map(|value| value.len()), Some(100_000));
        let found = $done!($store.get_many((0..10).map(key)));
        assert_eq!(found.iter().flatten().count(), 9);
        let mut backward = snapshot.cursor();
        assert!($done!(backward.last()) && $done!(backward.previous()));
        assert_eq!(backward.key(), Some(key(198).as_bytes()));
        let mut range = $store.range(key(40)..);
        let mut count = 0;
        while $done!(range.next_key_with(|_| ())).is_some() {
            count += 1;
        }
        assert_eq!(count, 111);
        drop((range, snapshot, backward));
        $done!($store.compact());
        let count = $done!($store.len());
        $done!($store.close());
        Ok(count)
    }};
}

async fn work(store: Store) -> thunderhead::Result<u64> {
    let streamed: Vec<_> = store.iter().keys().try_collect().await?;
    assert_eq!(streamed.len(), 0);
    let mut transaction = store.begin().await?;
    for path in ["a/1", "a/2", "b/1"] {
        transaction.put(path, "…").await?;
    }
    let components: Vec<_> = transaction.components(b'/').try_collect().await?;
    assert_eq!(components, [b"a/", b"b/"]);
    let taken = transaction.extract_if("a/2".., |_, _| true);
    let taken: Vec<_> = taken.map_ok(|(key, _)| key).try_collect().await?;
    assert_eq!(taken, [b"a/2", b"b/1"]);
    assert_eq!(transaction.len().await?, 1);
    drop(transaction);
    work!(store, awaited)
}

/// A store in a new file.
fn with_store(run: impl FnOnce(Store) -> thunderhead::Result<u64>) -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    // Little memory, so that something has to be read.
    let store = Options::new().cache_bytes(256 << 10).create(&path)?;
    assert_eq!(run(store)?, 150);
    assert_eq!(Store::open(&path)?.len().wait()?, 150);
    Ok(())
}

#[test]
fn waiting() -> Outcome {
    with_store(|store| work!(store, waited))
}

#[test]
fn on_the_executor_of_futures() -> Outcome {
    with_store(|store| futures::executor::block_on(work(store)))
}

#[test]
fn on_a_pool_of_futures() -> Outcome {
    let pool = futures::executor::ThreadPool::builder()
        .pool_size(2)
        .create()?;
    with_store(|store| {
        let (sender, receiver) = futures::channel::oneshot::channel();
        pool.spawn_ok(async move {
            let _ = sender.send(work(store).await);
        });
        futures::executor::block_on(receiver).expect("the task ends")
    })
}

#[test]
fn on_one_thread_of_tokio() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    with_store(|store| runtime.block_on(work(store)))
}

#[test]
fn on_threads_of_tokio() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    with_store(|store| {
        runtime.block_on(async { runtime.spawn(work(store)).await.expect("it ends") })
    })
}

#[test]
fn a_store_that_was_closed_can_be_opened_at_once() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    futures::executor::block_on(async {
        for round in 0..30 {
            let store = Store::open_or_create(&path)?;
            assert_eq!(store.len().await?, round);
            let quick = store.with_durability(Durability::Deferred);
            quick.put(key(round as u32), "a value").await?;
            drop(quick);
            store.close().await?;
        }
        Ok(())
    })
}

/// Wakes a thread that waits for a flag.
#[derive(Default)]
struct Flag {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// An executor that polls when it was woken, and never else: a waker that is forgotten would hang it.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        let mut woken = flag.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = flag.changed.wait(woken).unwrap();
        }
    }
}

#[test]
fn on_an_executor_of_ones_own() -> Outcome {
    with_store(|store| run(work(store)))
}

/// Polled by an executor that moves tasks about: each poll on another thread.
#[test]
fn each_poll_on_another_thread() -> Outcome {
    with_store(|store| {
        let mut future = Box::pin(work(store));
        let flag = Arc::new(Flag::default());
        loop {
            let waker = Waker::from(Arc::clone(&flag));
            let polled = std::thread::scope(|scope| {
                let future = &mut future;
                let poll = move || future.as_mut().poll(&mut Context::from_waker(&waker));
                scope.spawn(poll).join().expect("it does not panic")
            });
            if let Poll::Ready(output) = polled {
                return output;
            }
            let mut woken = flag.woken.lock().unwrap();
            while !std::mem::take(&mut *woken) {
                woken = flag.changed.wait(woken).unwrap();
            }
        }
    })
}
