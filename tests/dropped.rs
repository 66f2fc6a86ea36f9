//! Futures that are dropped before their end, at every poll: nothing hangs, nothing is half done.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use thunderhead::{Durability, ErrorKind, LockMode, Maintenance, Options, Result, Store};

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

/// Polls several futures in turn, each so many times at most, and drops them then; gives what those
/// gave that ended.
fn polled_in_turn<T>(futures: Vec<(usize, LocalBoxFuture<'_, T>)>) -> Vec<Option<T>> {
    let count = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut given: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    while futures.iter().any(Option::is_some) {
        let before = count.0.load(Ordering::Acquire);
        for (slot, given) in futures.iter_mut().zip(&mut given) {
            let Some((polls, future)) = slot else {
                continue;
            };
            *polls -= 1;
            let left = *polls;
            if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
                *given = Some(value);
                *slot = None;
            } else if left == 0 {
                *slot = None;
            }
        }
        // As long as any is left: some of those that were dropped may have been what others wait for,
        // so that these are only woken when they go on by themselves.
        let until = Instant::now() + Duration::from_millis(20);
        while count.0.load(Ordering::Acquire) == before && Instant::now() < until {
            thread::yield_now();
        }
    }
    given
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

/// A store of more than its cache, with nothing of it in memory, whose keys are paths.
fn with_paths(options: &Options, path: &std::path::Path) -> Store {
    let options = options.clone().cache_bytes(1 << 20);
    let store = options.create(path).unwrap();
    let mut batch = store.batch();
    for number in 0..6000u32 {
        let value = vec![number as u8; if number % 500 == 7 { 9000 } else { 300 }];
        batch.put(a_path(number), value).wait().unwrap();
    }
    batch.commit().wait().unwrap();
    store.close().wait().unwrap();
    options.open(path).unwrap()
}

fn a_path(number: u32) -> Vec<u8> {
    format!(
        "directory {:03}/a file with a number: {number:06}",
        number / 20
    )
    .into_bytes()
}

#[test]
fn an_entry_that_is_extracted_is_given_however_often_nobody_waits_for_it() {
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let store = with_paths(&options(maintenance), &directory.path().join("store"));
        let mut given_up = 0;
        for (polls, streamed) in [(1, false), (2, true), (3, false), (1, true)] {
            let mut transaction = store.begin().wait().unwrap();
            let chosen = |number: u32| number % 7 != 3;
            let choose = |key: &[u8], value: &[u8]| {
                let number = std::str::from_utf8(&key[key.len() - 6..]).unwrap();
                let number: u32 = number.parse().unwrap();
                assert_eq!(value[0], number as u8);
                chosen(number)
            };
            let mut extract = transaction.extract_if(.., choose);
            let mut taken = Vec::new();
            loop {
                let mut found = None;
                let one = async {
                    found = Some(match streamed {
                        true => futures::StreamExt::next(&mut extract).await.transpose(),
                        false => extract.next_entry().await,
                    });
                };
                given_up += u32::from(!polled_at_most(polls, one));
                match found.map(Result::unwrap) {
                    Some(Some((key, _))) => taken.push(key),
                    Some(None) => break,
                    None => {}
                }
            }
            drop(extract);
            let expected: Vec<_> = (0..6000).filter(|it| chosen(*it)).map(a_path).collect();
            assert!(taken == expected, "{} entries, {polls} polls", taken.len());
            assert_eq!(transaction.len().wait().unwrap(), 6000 - taken.len() as u64);
            // It is not committed, and the next one finds all of it.
        }
        assert!(given_up > 0);
        assert_eq!(store.len().wait().unwrap(), 6000);
        assert_sound(&store);
    }
}

#[test]
fn an_extraction_that_waits_for_its_turn_at_the_disk_loses_nothing_whoever_gives_up() {
    let disk = thunderhead::disk::MemoryDisk::new();
    let store = options(Maintenance::Caller).open_disk(disk).unwrap();
    for dropped_while_waiting in [false, true] {
        let mut batch = store.batch();
        for number in 0..6000 {
            batch.put(a_path(number), "…").wait().unwrap();
        }
        batch.commit().wait().unwrap();
        let mut transaction = store.begin().wait().unwrap();
        // Nobody else goes to the disk before the commit until it is dropped.
        let alone = store.begin_alone().wait().unwrap();
        let mut extract = transaction.extract_if(.., |_, _| true);
        let mut taken = 0;
        while let Some(found) = extract.next_entry().now_or_never() {
            assert_eq!(found.unwrap().unwrap().0, a_path(taken));
            taken += 1;
        }
        assert!((1..6000).contains(&taken));
        for _ in 0..3 {
            assert!(extract.next_entry().now_or_never().is_none());
        }
        if dropped_while_waiting {
            drop((extract, alone));
        } else {
            drop(alone);
            for entry in extract {
                assert_eq!(entry.unwrap().0, a_path(taken));
                taken += 1;
            }
            assert_eq!(taken, 6000);
        }
        transaction.commit().wait().unwrap();
        assert_eq!(store.len().wait().unwrap(), u64::from(6000 - taken));
    }
    assert_sound(&store);
}

#[test]
fn components_come_once_each_however_often_nobody_waits_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = with_paths(&options(Maintenance::Caller), &path);
    let mut given_up = 0;
    for streamed in [false, true] {
        let mut components = store.components(b'/');
        let mut names = Vec::new();
        loop {
            let mut found = None;
            let one = async {
                found = Some(match streamed {
                    true => futures::StreamExt::next(&mut components).await.transpose(),
                    false => components.next_component().await,
                });
            };
            given_up += u32::from(!polled_at_most(1, one));
            match found.map(Result::unwrap) {
                Some(Some(name)) => names.push(name),
                Some(None) => break,
                None => {}
            }
        }
        let expected = (0..300).map(|number| format!("directory {number:03}/").into_bytes());
        assert!(expected.eq(names));
    }
    assert!(given_up > 0);
}

/// Nobody holds any lock, and the store takes writes.
fn assert_free(store: &Store) {
    // Once it is alone, whatever was left alone is finished.
    drop(store.begin_alone().wait().unwrap());
    let everything = store.try_lock(.., LockMode::Exclusive).wait().unwrap();
    let everything = everything.expect("nobody holds a lock any more");
    everything.store().put("after", "1").wait().unwrap();
    drop(everything);
    store.delete("after").wait().unwrap();
}

#[test]
fn commits_of_contending_transactions_that_nobody_waits_for_are_whole_or_absent() {
    let durabilities = [
        Durability::Immediate,
        Durability::Buffered,
        Durability::Deferred,
    ];
    let key = |round: u8, number: u8, part: u8| [b'k', round, number, part];
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let options = options(maintenance);
        let store = options.create(&path).unwrap();
        let mut expected = Vec::new();
        for round in 0..24u8 {
            let mut commits: Vec<(usize, LocalBoxFuture<'_, Result<_>>)> = Vec::new();
            for number in 0..6u8 {
                let mut transaction = store.begin().wait().unwrap();
                transaction.set_durability(durabilities[usize::from(round + number) % 3]);
                // The last one is in nobody's way.
                if number < 5 {
                    transaction.get("last").wait().unwrap();
                    transaction.put("last", [round, number]).wait().unwrap();
                }
                if number % 2 == 1 {
                    let own = [key(round, number, 0), key(round, number, 9)];
                    let lock = transaction.lock(&own[0][..]..&own[1][..], LockMode::Exclusive);
                    lock.wait().unwrap();
                }
                for part in 0..2 {
                    let put = transaction.put(key(round, number, part), [number]);
                    put.wait().unwrap();
                }
                let polls = 1 + usize::from(round / 6 + (round + number) % 3);
                commits.push((polls, Box::pin(transaction.commit())));
            }
            let given = polled_in_turn(commits);
            assert_free(&store);
            let mut winner = None;
            for (number, given) in (0..6u8).zip(given) {
                let parts = [0, 1].map(|part| store.get(key(round, number, part)).wait().unwrap());
                let [one, other] = parts.map(|part| part.is_some());
                assert_eq!(one, other, "half of transaction {number} of round {round}");
                match given {
                    Some(Ok(_)) => assert!(one, "it was acknowledged"),
                    Some(Err(error)) => {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                        assert!(!one);
                    }
                    None => {}
                }
                if one {
                    expected.extend([0, 1].map(|part| key(round, number, part).to_vec()));
                    if number < 5 {
                        assert_eq!(winner.replace(number), None, "both relied on the same");
                    }
                }
            }
            // Whoever was polled once stood in the queue, and one of those had to win.
            let last = store.get("last").wait().unwrap().unwrap();
            assert_eq!(last.to_vec(), [round, winner.unwrap()]);
        }
        expected.sort();
        let keys = |store: &Store| -> Vec<Vec<u8>> {
            store.prefix("k").keys().map(|key| key.unwrap()).collect()
        };
        assert_eq!(keys(&store), expected);
        assert_sound(&store);
        store.close().wait().unwrap();
        let store = options.open(&path).unwrap();
        assert_eq!(keys(&store), expected);
    }
}

#[test]
fn what_waits_for_locks_and_is_given_up_leaves_none() {
    for maintenance in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let store = options(maintenance)
            .create(directory.path().join("store"))
            .unwrap();
        for polls in 1..5usize {
            for released_at in 0..=polls {
                for what in 0..6 {
                    give_up_waiting(&store, what, polls, released_at);
                    assert_free(&store);
                    let [one, other] = ["a", "b"].map(|key| store.get(key).wait().unwrap());
                    // Of the single write there is only one.
                    let whole = one.is_some() == other.is_some() || what == 3;
                    assert!(whole, "{what}, {polls}, {released_at}");
                    store.delete_range(..).wait().unwrap();
                }
            }
        }
        assert_sound(&store);
    }
}

/// Has something wait for a lock that somebody holds, polls it a few times, and drops it. The lock is
/// released before one of the polls, or after all of them.
fn give_up_waiting(store: &Store, what: u8, polls: usize, released_at: usize) {
    let mut holder = Some(store.lock("a".."c", LockMode::Exclusive).wait().unwrap());
    let mut transaction = store.begin().wait().unwrap();
    let exclusive = LockMode::Exclusive;
    let hour = Duration::from_secs(3600);
    let mut future: Pin<Box<dyn Future<Output = Result<()>> + '_>> = match what {
        0 => Box::pin(async { store.lock("b".."d", exclusive).await.map(drop) }),
        1 => Box::pin(async { store.lock_within("b".."d", exclusive, hour).await.map(drop) }),
        2 => Box::pin(async { transaction.lock("b".."d", exclusive).await }),
        3 => Box::pin(async { store.put("b", "1").await.map(drop) }),
        4 => {
            transaction.put("a", "1").wait().unwrap();
            transaction.put("b", "1").wait().unwrap();
            let transaction = std::mem::replace(&mut transaction, store.begin().wait().unwrap());
            Box::pin(async { transaction.commit().await.map(drop) })
        }
        _ => {
            let mut batch = store.batch();
            batch.put("a", "1").wait().unwrap();
            batch.put("b", "1").wait().unwrap();
            Box::pin(async { batch.commit().await.map(drop) })
        }
    };
    let count = Arc::new(Count(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    for poll in 0..polls {
        if poll == released_at {
            drop(holder.take());
        }
        let before = count.0.load(Ordering::Acquire);
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => {
                assert!(holder.is_none(), "it passed the lock of another one");
                result.unwrap();
                break;
            }
            // Nothing happens as long as the lock is held.
            Poll::Pending if holder.is_some() => {}
            Poll::Pending => {
                let until = Instant::now() + Duration::from_secs(10);
                while count.0.load(Ordering::Acquire) == before {
                    assert!(Instant::now() < until, "nobody wakes the future");
                    thread::yield_now();
                }
            }
        }
    }
    drop(future);
    drop(holder);
    // What a transaction had before is its own still, and it can go on.
    if what == 2 {
        transaction.put("a", "1").wait().unwrap();
        transaction.put("b", "1").wait().unwrap();
        transaction.commit().wait().unwrap();
    }
}
