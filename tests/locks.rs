//! Range locks and commits: who waits for whom, and what locks may be relied on.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use futures::executor::block_on;
use futures::future::join_all;
use thunderhead::disk::MemoryDisk;
use thunderhead::{
    Durability, ErrorKind, LockMode, Maintenance, Options, Prefix, RangeGuard, Store,
};

const SHORT: Duration = Duration::from_millis(20);

fn store() -> Store {
    let options = Options::new().durability(Durability::Buffered);
    options.open_disk(MemoryDisk::new()).unwrap()
}

/// Whether a future is not done after a poll; it is dropped then.
fn waits<T>(future: impl Future<Output = T>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    std::pin::pin!(future).poll(&mut context).is_pending()
}

fn exclusive(store: &Store, range: &str) -> RangeGuard {
    store
        .lock(Prefix(range), LockMode::Exclusive)
        .wait()
        .unwrap()
}

#[test]
fn whoever_writes_waits_for_locks_of_others_and_passes_those_of_the_own_family() {
    for mode in [LockMode::Exclusive, LockMode::Shared] {
        let store = store();
        store.put("a/1", "1").wait().unwrap();
        let guard = store.lock(Prefix("a/"), mode).wait().unwrap();
        assert!(waits(store.put("a/1", "2")));
        assert!(waits(store.delete("a/2")));
        assert!(waits(store.delete_range("a".."b")));
        assert!(waits(store.insert("a/1", "2")));
        let mut batch = store.batch();
        batch.put("b", "1").wait().unwrap();
        batch.put("a/3", "1").wait().unwrap();
        assert!(waits(batch.commit()));
        let mut transaction = store.begin().wait().unwrap();
        transaction.put("a/4", "1").wait().unwrap();
        assert!(waits(transaction.commit()));
        // Others are not concerned, and reading is free.
        store.put("b", "2").wait().unwrap();
        assert_eq!(store.get("a/1").wait().unwrap().unwrap(), "1");
        guard.store().put("a/1", "own").wait().unwrap();
        let mut own = guard.store().begin().wait().unwrap();
        own.delete_range(Prefix("a/")).wait().unwrap();
        own.commit().wait().unwrap();
        assert_eq!(
            store.len().wait().unwrap(),
            1,
            "what was dropped is not done"
        );
        let (sender, done) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                store.put("a/1", "late").wait().unwrap();
                sender.send(()).unwrap();
            });
            assert!(done.recv_timeout(SHORT).is_err());
            drop(guard);
            done.recv().unwrap();
        });
        assert_eq!(store.get("a/1").wait().unwrap().unwrap(), "late");
    }
}

#[test]
fn a_lock_of_a_transaction_is_of_what_it_sees() {
    let store = store();
    store.put("a", "1").wait().unwrap();
    // One that has read nothing begins anew.
    let mut fresh = store.begin().wait().unwrap();
    store.put("a", "2").wait().unwrap();
    fresh.lock("a"..="a", LockMode::Exclusive).wait().unwrap();
    assert_eq!(fresh.get("a").wait().unwrap().unwrap(), "2");
    // One that has read is refused where something was changed, and only there.
    let mut reader = store.begin().wait().unwrap();
    assert_eq!(reader.get("b").wait().unwrap(), None);
    store.put("c", "1").wait().unwrap();
    reader.lock("b".."c", LockMode::Shared).wait().unwrap();
    let refused = reader.lock("c".."d", LockMode::Shared).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.conflict().is_some());
    drop(reader);
    // Nobody commits to what is locked, so it is not refused; and the lock ends with it.
    assert!(waits(store.put("a", "3")));
    fresh.put("a", "mine").wait().unwrap();
    fresh.commit().wait().unwrap();
    store.put("a", "3").wait().unwrap();
    // Neither does one that is dropped keep anything.
    let mut dropped = store.begin().wait().unwrap();
    dropped.lock(.., LockMode::Exclusive).wait().unwrap();
    drop(dropped);
    store.put("a", "4").wait().unwrap();
    let guard = exclusive(&store, "a");
    let mut alone = store.begin_alone().wait().unwrap();
    let refused = alone.lock(.., LockMode::Exclusive).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(!alone.try_lock("a".."b", LockMode::Shared).wait().unwrap());
    alone.lock("b".., LockMode::Exclusive).wait().unwrap();
    drop((alone, guard));
}

#[test]
fn locks_are_tried_and_waited_for_so_long_at_most() {
    let store = store();
    let guard = exclusive(&store, "a");
    let tried = store.try_lock("a".."b", LockMode::Shared).wait().unwrap();
    assert!(tried.is_none());
    assert!(
        store
            .try_lock("b".."c", LockMode::Exclusive)
            .wait()
            .unwrap()
            .is_some()
    );
    let late = store.lock_within("a".."b", LockMode::Shared, SHORT);
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    let late = block_on(store.lock_within("a".."b", LockMode::Shared, SHORT));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    let mut transaction = store.begin().wait().unwrap();
    let late = transaction.lock_within("a".."b", LockMode::Shared, SHORT);
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(
        !transaction
            .try_lock("a".."b", LockMode::Shared)
            .wait()
            .unwrap()
    );
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let long = Duration::from_secs(1000);
            store
                .lock_within("a".."b", LockMode::Shared, long)
                .wait()
                .unwrap();
        });
        thread::sleep(SHORT);
        drop(guard);
        waiting.join().unwrap();
    });
    assert!(
        transaction
            .try_lock("a".."b", LockMode::Shared)
            .wait()
            .unwrap()
    );
    let refused = transaction.lock("a".."b", LockMode::Exclusive).wait();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::UpgradeRefused);
    // Nothing is in an empty range.
    drop(store.lock("b".."a", LockMode::Exclusive).wait().unwrap());
}

#[test]
fn a_future_of_a_lock_or_of_a_commit_that_is_dropped_leaves_nothing() {
    let store = store();
    let guard = exclusive(&store, "a");
    assert!(waits(store.lock("a".."b", LockMode::Exclusive)));
    let mut transaction = store.begin().wait().unwrap();
    assert!(waits(transaction.lock("a".."b", LockMode::Exclusive)));
    transaction.put("a", "1").wait().unwrap();
    assert!(waits(transaction.commit()));
    assert!(waits(store.put("a", "2")));
    drop(guard);
    assert_eq!(store.get("a").wait().unwrap(), None);
    let guard = store.try_lock(.., LockMode::Exclusive).wait().unwrap();
    assert!(guard.is_some());
}

#[test]
fn a_deadlock_is_an_error_for_one_and_tried_again() {
    let store = store();
    let attempts = AtomicU32::new(0);
    let cross = |first: &'static str, second: &'static str| {
        let (store, attempts) = (&store, &attempts);
        move || {
            let done = store.transact(|mut attempt| async move {
                attempts.fetch_add(1, Ordering::Relaxed);
                let one = |key: &'static str| key..=key;
                attempt.lock(one(first), LockMode::Exclusive).await?;
                thread::sleep(SHORT);
                attempt.lock(one(second), LockMode::Exclusive).await?;
                for key in [first, second] {
                    let old = attempt.get(key).await?.map_or(0, |old| old[0]);
                    attempt.put(key, [old + 1]).await?;
                }
                Ok(())
            });
            done.wait().unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(cross("a", "b"));
        scope.spawn(cross("b", "a"));
    });
    for key in ["a", "b"] {
        assert_eq!(store.get(key).wait().unwrap().unwrap(), [2]);
    }
    println!("{} attempts", attempts.into_inner());
}

#[test]
fn a_transaction_that_is_tried_again_is_older_than_those_who_came_since() {
    let store = store();
    let (keys, exclusive) = (["a"..="a", "b"..="b"], LockMode::Exclusive);
    let mut attempts = 0;
    let done = store.transact(|mut attempt| {
        attempts += 1;
        let (store, keys) = (&store, &keys);
        async move {
            // It comes first to lock, and each time there is a new one.
            let mut other = store.begin().await?;
            other.lock(&keys[1], exclusive).await?;
            attempt.lock(&keys[0], exclusive).await?;
            let mut waits = Box::pin(other.lock(&keys[0], exclusive));
            assert!(waits.as_mut().now_or_never().is_none());
            let mut own = Box::pin(attempt.lock(&keys[1], exclusive));
            if let Some(result) = own.as_mut().now_or_never() {
                return result;
            }
            assert_eq!(waits.await.unwrap_err().kind(), ErrorKind::Deadlock);
            drop(other);
            own.await?;
            attempt.put("c", "1").await
        }
    });
    done.wait().unwrap();
    assert_eq!(attempts, 2);
    assert_eq!(store.get("c").wait().unwrap().unwrap(), "1");
    assert!(store.try_lock(.., exclusive).wait().unwrap().is_some());
}

#[test]
fn who_is_alone_is_refused_what_others_have_locked() {
    let options = Options::new()
        .transaction_bytes(64 << 10)
        .maintenance(Maintenance::Caller);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let guard = exclusive(&store, "a");
    let mut alone = store.begin_alone().wait().unwrap();
    alone.put("a", "1").wait().unwrap();
    let refused = alone.commit().wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let mut alone = store.begin_alone().wait().unwrap();
    alone.put("b", "1").wait().unwrap();
    alone.commit().wait().unwrap();
    let mut large = guard.store().batch();
    for number in 0..2000u32 {
        let key = [&b"a"[..], &number.to_be_bytes()].concat();
        large.put(key, [0; 100]).wait().unwrap();
    }
    large.commit().wait().unwrap();
    assert_eq!(store.len().wait().unwrap(), 2001);
}

/// Threads and tasks that increment counters under locks, without any validation in the way.
#[test]
fn what_is_done_under_a_lock_is_done_by_nobody_else_meanwhile() {
    for durability in [
        Durability::Immediate,
        Durability::Buffered,
        Durability::Deferred,
    ] {
        let store = store().with_durability(durability);
        let increment = |store: Store, key: u8| async move {
            let guard = store
                .lock([key]..=[key], LockMode::Exclusive)
                .await
                .unwrap();
            let old = guard
                .store()
                .get([key])
                .await
                .unwrap()
                .map_or(0, |old| old[0]);
            guard.store().put([key], [old + 1]).await.unwrap();
        };
        let blind = |store: Store| async move {
            store.put([9], [0]).await.unwrap();
            store.delete_range([3]..[9]).await.unwrap();
        };
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for number in 0..60u8 {
                        block_on(increment(store.clone(), number % 3));
                        block_on(blind(store.clone()));
                    }
                });
            }
            scope.spawn(|| {
                let tasks = (0..30u8).map(|number| increment(store.clone(), number % 3));
                block_on(join_all(tasks));
            });
        });
        for key in 0..3u8 {
            assert_eq!(store.get([key]).wait().unwrap().unwrap(), [70]);
        }
    }
}
