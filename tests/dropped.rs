//! Futures that are dropped before their end, at every poll: nothing hangs, nothing is half done.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use thunderhead::{Durability, ErrorKind, Maintenance, Options, Store};

struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Polls a future, when it is woken, so many times at most, and drops it; says whether it ended.
fn polled_at_most(polls: usize, future: impl Future) -> bool {
    let count = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    for _ in 0..polls {
        let before = count.0.load(Ordering::Acquire);
        if future.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        let until = Instant::now() + Duration::from_secs(10);
        while count.0.load(Ordering::Acquire) == before {
            assert!(Instant::now() < until, "nobody wakes the future");
            thread::yield_now();
        }
    }
    false
}

fn assert_sound(store: &Store) {
    let summary = store.verify(|_| ControlFlow::Continue(())).wait().unwrap();
    assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
}

fn options(maintenance: Maintenance) -> Options {
    Options::new()
        .segment_bytes(256 << 10)
        .reserve_bytes(0)
        .transaction_bytes(64 << 10)
        .maintenance(maintenance)
}

const KINDS: [Maintenance; 2] = [Maintenance::Background, Maintenance::Caller];

#[test]
fn a_commit_that_nobody_waits_for_is_finished_and_holds_nobody_up() {
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let options = options(maintenance);
        let store = options.create(&path).unwrap();
        for polls in 1..4 {
            for key in 0..20u8 {
                polled_at_most(polls, store.put([polls as u8, key], [key; 100]));
            }
            let transaction = store.begin_alone().wait().unwrap();
            // Whoever polled once was in the queue: the commit is not called back.
            assert_eq!(transaction.len().wait().unwrap(), 20 * polls as u64);
        }
        store.close().wait().unwrap();
        let store = options.open(&path).unwrap();
        assert_eq!(store.len().wait().unwrap(), 60);
        assert_sound(&store);
    }
}

#[test]
fn checkpoints_and_compactions_that_nobody_waits_for_leave_a_sound_store() {
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let options = options(maintenance);
        let store = options.create(&path).unwrap();
        let buffered = store.with_durability(Durability::Buffered);
        for polls in 1..12usize {
            for key in 0..200u32 {
                let value = vec![polls as u8; if key % 50 == 0 { 9000 } else { 60 }];
                buffered.put(key.to_be_bytes(), value).wait().unwrap();
            }
            match polls % 3 {
                0 => polled_at_most(polls, store.compact()),
                _ => polled_at_most(polls, store.checkpoint()),
            };
        }
        assert_eq!(store.len().wait().unwrap(), 200);
        assert_sound(&store);
        drop((store, buffered));
        let store = options.open(&path).unwrap();
        assert_eq!(
            store.get(7u32.to_be_bytes()).wait().unwrap().unwrap(),
            [11; 60]
        );
        assert_sound(&store);
    }
}

#[test]
fn a_large_transaction_that_nobody_waits_for_is_whole_or_absent() {
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let options = options(maintenance);
        let store = options.create(&path).unwrap();
        for polls in 1..8usize {
            let mut transaction = store.begin().wait().unwrap();
            let before = transaction.len().wait().unwrap();
            for key in 0..1500u32 {
                let key = [&[polls as u8][..], &key.to_be_bytes()].concat();
                transaction.put(key, [1; 100]).wait().unwrap();
            }
            let finished = polled_at_most(polls, transaction.commit());
            let after = store.begin_alone().wait().unwrap().len().wait().unwrap();
            let grown = after - before;
            assert!(
                grown == 1500 || (grown == 0 && !finished),
                "{grown} entries"
            );
        }
        assert_sound(&store);
        store.close().wait().unwrap();
        assert_sound(&options.open(&path).unwrap());
    }
}

#[test]
fn a_cursor_whose_edits_nobody_waits_for_stands_on_no_other_entry() {
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let store = options(maintenance)
            .transaction_bytes(1 << 20)
            .cache_bytes(1 << 20)
            .create(directory.path().join("store"))
            .unwrap();
        for key in ["a", "z"] {
            store.put(key, "neighbour").wait().unwrap();
        }
        let mut lost = 0;
        for polls in 1.. {
            let mut transaction = store.begin().wait().unwrap();
            for number in 0..1000u16 {
                let key = [&b"m"[..], &number.to_be_bytes()].concat();
                transaction.put(key, "1").wait().unwrap();
            }
            let mut cursor = transaction.cursor_mut_in("m".."n");
            let edits = async {
                while cursor.next().await? {
                    cursor.put([7; 2000]).await?;
                }
                Ok::<(), thunderhead::Error>(())
            };
            if polled_at_most(polls, edits) {
                break;
            }
            // Where it stood is there, or nobody knows what is.
            let key = cursor.key().map(<[u8]>::to_vec);
            for _ in 0..2 {
                match cursor.value().wait() {
                    Ok(value) => assert_eq!(value.is_some(), key.is_some()),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Cancelled);
                        lost += 1;
                    }
                }
                assert_eq!(cursor.key(), key.as_deref());
            }
            for forward in [true, false] {
                let moved = match forward {
                    true => cursor.next().wait(),
                    false => cursor.previous().wait(),
                };
                match moved {
                    Ok(found) => assert_eq!(cursor.key().is_some(), found),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
                }
            }
        }
        assert!(lost > 0);
        assert_eq!(store.len().wait().unwrap(), 2);
        assert_sound(&store);
    }
}
