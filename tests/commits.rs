//! Who commits alone, who arrives meanwhile, and what is left when a disk panics under a commit.

#[path = "fixtures/around.rs"]
mod around;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use around::{Around, Before};
use futures::executor::block_on;
use futures::future::join_all;
use thunderhead::disk::MemoryDisk;
use thunderhead::{Durability, ErrorKind, Maintenance, Options, Store};

/// What a disk does with the next save.
#[derive(Default)]
struct Orders {
    held: Mutex<bool>,
    changed: Condvar,
    /// How many saves wait to be let go.
    waiting: AtomicUsize,
    panics: AtomicBool,
}

impl Orders {
    fn hold(&self, held: bool) {
        *self.held.lock().unwrap() = held;
        self.changed.notify_all();
    }

    fn wait_until_one_waits(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn obey(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let held = self.held.lock().unwrap();
        drop(self.changed.wait_while(held, |held| *held).unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.panics.swap(false, Ordering::SeqCst) {
            panic!("a disk that panics on purpose");
        }
    }
}

/// A disk in memory obeys.
impl Before for Arc<Orders> {
    async fn save(&self, _: usize) {
        self.obey();
    }
}

const KINDS: [Maintenance; 2] = [Maintenance::Background, Maintenance::Caller];

fn store(maintenance: Maintenance) -> (Store, Arc<Orders>) {
    let orders = Arc::<Orders>::default();
    let disk = Around(MemoryDisk::new(), Arc::clone(&orders));
    let options = Options::new().maintenance(maintenance);
    (options.open_disk(disk).unwrap(), orders)
}

#[test]
fn those_who_arrive_while_one_commits_alone_share_the_next_group() {
    for maintenance in KINDS {
        let (store, orders) = store(maintenance);
        orders.hold(true);
        thread::scope(|scope| {
            let alone = scope.spawn(|| store.put("alone", "1").wait().unwrap());
            orders.wait_until_one_waits();
            let groups = store.stats().groups;
            let waited: Vec<_> = (0..3u8)
                .map(|number| {
                    let store = &store;
                    scope.spawn(move || store.put([number], "2").wait().unwrap())
                })
                .collect();
            let awaited = scope.spawn(|| {
                let puts = (3..6u8).map(|number| store.put([number], "3"));
                block_on(join_all(puts))
            });
            // Nothing of it is seen before it is written, nor does anybody overtake.
            thread::sleep(Duration::from_millis(50));
            assert_eq!(store.len().wait().unwrap(), 0);
            orders.hold(false);
            let first = alone.join().unwrap();
            let mut sequences: Vec<_> = waited.into_iter().map(|put| put.join().unwrap()).collect();
            let awaited = awaited.join().unwrap();
            sequences.extend(awaited.into_iter().map(|result| result.unwrap()));
            sequences.sort();
            sequences.dedup();
            assert_eq!(sequences.len(), 6);
            assert!(sequences.iter().all(|sequence| *sequence > first));
            assert!(store.stats().groups - groups <= 3, "they share");
        });
        assert_eq!(store.len().wait().unwrap(), 7);
        store.close().wait().unwrap();
    }
}

#[test]
fn a_commit_that_is_dropped_while_another_is_alone_is_finished() {
    for maintenance in KINDS {
        let (store, orders) = store(maintenance);
        orders.hold(true);
        thread::scope(|scope| {
            let alone = scope.spawn(|| store.put("alone", "1").wait().unwrap());
            orders.wait_until_one_waits();
            {
                let mut put = pin!(store.put("dropped", "2"));
                let mut context = Context::from_waker(Waker::noop());
                assert!(put.as_mut().poll(&mut context).is_pending());
            }
            orders.hold(false);
            alone.join().unwrap();
        });
        // Whoever wants to be alone finishes what was left.
        let transaction = store.begin_alone().wait().unwrap();
        assert_eq!(transaction.len().wait().unwrap(), 2);
        drop(transaction);
        store.close().wait().unwrap();
    }
}

#[test]
fn a_panic_of_the_disk_under_a_lone_commit_poisons_and_holds_nobody_up() {
    for maintenance in KINDS {
        let (store, orders) = store(maintenance);
        store.put("before", "0").wait().unwrap();
        orders.hold(true);
        orders.panics.store(true, Ordering::SeqCst);
        thread::scope(|scope| {
            let alone = scope.spawn(|| {
                let put = || store.put("alone", "1").wait();
                catch_unwind(AssertUnwindSafe(put)).is_err()
            });
            orders.wait_until_one_waits();
            let others: Vec<_> = [Durability::Immediate, Durability::Buffered]
                .into_iter()
                .map(|durability| {
                    let store = store.with_durability(durability);
                    scope.spawn(move || store.put("other", "2").wait().unwrap_err().kind())
                })
                .collect();
            thread::sleep(Duration::from_millis(20));
            orders.hold(false);
            assert!(alone.join().unwrap(), "the panic reaches who committed");
            for other in others {
                assert_eq!(other.join().unwrap(), ErrorKind::Poisoned);
            }
        });
        let refused = store.put("after", "3").wait().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Poisoned);
        assert_eq!(store.len().wait().unwrap(), 1, "what was committed is read");
        assert_eq!(
            store.close().wait().unwrap_err().kind(),
            ErrorKind::Poisoned
        );
    }
}

#[test]
fn a_panic_of_the_disk_under_a_group_poisons_and_holds_nobody_up() {
    for maintenance in KINDS {
        let (store, orders) = store(maintenance);
        orders.panics.store(true, Ordering::SeqCst);
        let put = || block_on(store.put("awaited", "1"));
        assert!(catch_unwind(AssertUnwindSafe(put)).is_err());
        let refused = store.put("after", "2").wait().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Poisoned);
        let refused = block_on(store.put("after", "2")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Poisoned);
        drop(store);
    }
}

#[test]
fn a_write_that_waited_for_a_close_is_refused() {
    for durability in [Durability::Deferred, Durability::Immediate] {
        let (store, _orders) = store(Maintenance::Caller);
        let store = store.with_durability(durability);
        let transaction = store.begin_alone().wait().unwrap();
        let mut close = pin!(store.clone().close());
        let mut put = pin!(store.put("late", "1"));
        let mut batch = store.batch();
        batch.put("late too", "2").wait().unwrap();
        let mut batch = pin!(batch.commit());
        let mut context = Context::from_waker(Waker::noop());
        assert!(close.as_mut().poll(&mut context).is_pending());
        assert!(put.as_mut().poll(&mut context).is_pending());
        assert!(batch.as_mut().poll(&mut context).is_pending());
        drop(transaction);
        block_on(close).unwrap();
        for late in [block_on(put), block_on(batch)] {
            assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
        }
    }
}

#[test]
fn batches_that_outlive_their_store_are_committed() {
    for maintenance in KINDS {
        let options = Options::new()
            .maintenance(maintenance)
            .journal_bytes(1 << 10);
        let disk = MemoryDisk::new();
        let store = options.open_disk(disk.clone()).unwrap();
        let batches: Vec<_> = (0..20u8).map(|_| store.batch()).collect();
        drop(store);
        let (sender, ended) = std::sync::mpsc::channel();
        thread::spawn(move || {
            for (number, mut batch) in (0u8..).zip(batches) {
                batch.put([number], [number; 1000]).wait().unwrap();
                batch.commit().wait().unwrap();
            }
            sender.send(()).unwrap();
        });
        ended
            .recv_timeout(Duration::from_secs(20))
            .expect("nobody waits for the store's thread, which has ended");
        let store = options.open_disk(disk).unwrap();
        assert_eq!(store.len().wait().unwrap(), 20);
    }
}

#[test]
fn maintenance_ends_after_a_large_commit_of_which_the_log_has_a_mark_alone() {
    let options = Options::new()
        .maintenance(Maintenance::Caller)
        .transaction_bytes(64 << 10)
        .checkpoint_log_bytes(256);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let mut transaction = store.begin().wait().unwrap();
    for number in 0..10_000u32 {
        let key = number.to_be_bytes();
        transaction.put(key, [7; 30]).wait().unwrap();
    }
    transaction.commit().wait().unwrap();
    let ends = (0..1000).any(|_| !store.maintain().wait().unwrap());
    assert!(ends, "there is always something to do");
}

#[test]
fn waited_and_awaited_commits_of_all_kinds_keep_their_order() {
    for maintenance in KINDS {
        let (store, _orders) = store(maintenance);
        thread::scope(|scope| {
            for writer in 0..6u8 {
                let durability = [
                    Durability::Immediate,
                    Durability::Buffered,
                    Durability::Deferred,
                ][usize::from(writer) % 3];
                let store = store.with_durability(durability);
                scope.spawn(move || {
                    let mut last = None;
                    for number in 0..200u32 {
                        let key = [writer; 1];
                        let put = store.put(key, number.to_be_bytes());
                        let sequence = match (u32::from(writer) + number) % 2 {
                            0 => put.wait(),
                            _ => block_on(put),
                        };
                        let sequence = Some(sequence.unwrap());
                        assert!(sequence > last, "commits of one writer are in order");
                        last = sequence;
                        let value = store.get(key).wait().unwrap().unwrap();
                        assert_eq!(&value[..], number.to_be_bytes(), "and are seen at once");
                    }
                });
            }
        });
        assert_eq!(store.stats().commits, 1200);
        store.close().wait().unwrap();
    }
}

#[test]
fn who_wants_to_be_alone_has_a_turn_while_others_commit_without_a_pause() {
    let directory = tempfile::tempdir().unwrap();
    let store = Options::new()
        .create(directory.path().join("store"))
        .unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..8u8 {
            let (store, done) = (&store, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    store.put([writer], [7; 100]).wait().unwrap();
                }
            });
        }
        for round in 0..5u8 {
            let transaction = store.begin_alone();
            let mut transaction = match round % 2 {
                0 => transaction.wait().unwrap(),
                _ => block_on(transaction).unwrap(),
            };
            transaction.put("round", [round]).wait().unwrap();
            transaction.commit().wait().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
