//! What locks exclude, who comes first, and how an owner's locks are joined.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::testing::{Asked, Exclusive, Shared, is_free, point, range, take};
use super::{LockRange, LockTable, Wanted};
use crate::error::ErrorKind;

#[test]
fn shared_locks_are_shared_and_exclusive_ones_are_not() {
    let table = LockTable::new();
    let (one, other) = (table.owner(), table.owner());
    take(&table, &one, range("b", "d"), Shared);
    take(&table, &other, range("c", "e"), Shared);
    assert!(!is_free(&table, point("c"), Exclusive));
    assert!(is_free(&table, range("a", "b"), Exclusive));
    assert!(is_free(&table, range("e", ""), Exclusive));
    drop(one);
    assert!(is_free(&table, range("b", "c"), Exclusive));
    assert!(!is_free(&table, point("d"), Exclusive));
    drop(other);
    assert!(table.is_idle());
    table.check();
}

#[test]
fn points_prefixes_and_open_ends_meet_where_they_should() {
    let table = LockTable::new();
    let owner = table.owner();
    take(&table, &owner, point("b"), Exclusive);
    take(&table, &owner, range("p/", "p0"), Exclusive);
    take(&table, &owner, range("x", ""), Exclusive);
    let others = [
        ("a", true),
        ("b", false),
        ("b\0", true),
        ("p", true),
        ("p/", false),
        ("p/\u{7f}", false),
        ("p0", true),
        ("w", true),
        ("x", false),
        ("zzz", false),
    ];
    for (key, free) in others {
        assert_eq!(is_free(&table, point(key), Shared), free, "{key}");
        let holder = table.holder(None, Wanted::Key(key.as_bytes()));
        assert_eq!(holder.is_none(), free, "{key}");
    }
    assert!(!is_free(&table, range("", ""), Shared));
    assert!(is_free(&table, range("", "b"), Shared));
    assert!(LockRange::new(b"b", Some(b"b")).is_none());
    assert!(LockRange::new(b"c", Some(b"b")).is_none());
}

#[test]
fn who_asked_first_comes_first_and_readers_do_not_starve_writers() {
    let table = LockTable::new();
    let [first, writer, reader, elsewhere] = [(); 4].map(|()| table.owner());
    take(&table, &first, range("a", "c"), Shared);
    let mut writing = Asked::new(&table, &writer, range("b", "d"), Exclusive).waits();
    // It could share what is held, but not before the writer had its turn.
    let mut reading = Asked::new(&table, &reader, point("b"), Shared).waits();
    assert!(!is_free(&table, point("c"), Shared));
    // What meets neither goes at once.
    take(&table, &elsewhere, point("a"), Shared);
    table.check();
    drop(first);
    assert!(!reading.is_woken());
    writing.assert_granted();
    drop(writing);
    drop(writer);
    reading.assert_granted();
    table.check();
}

#[test]
fn all_readers_behind_a_writer_go_together() {
    let table = LockTable::new();
    let writer = table.owner();
    take(&table, &writer, range("", ""), Exclusive);
    let readers = [(); 5].map(|()| table.owner());
    let mut readings: Vec<Asked<'_>> = readers
        .iter()
        .map(|reader| Asked::new(&table, reader, point("k"), Shared).waits())
        .collect();
    drop(writer);
    readings.iter_mut().for_each(Asked::assert_granted);
    table.check();
}

#[test]
fn locking_again_is_free_and_upgrading_is_refused() {
    let table = LockTable::new();
    let owner = table.owner();
    let other = table.owner();
    take(&table, &owner, range("a", "m"), Exclusive);
    // A queue of others does not matter to one who has it.
    let _waits = Asked::new(&table, &other, point("c"), Exclusive).waits();
    take(&table, &owner, range("b", "d"), Exclusive);
    take(&table, &owner, range("a", "m"), Shared);
    assert_eq!(table.ranges_held(), 1);
    // Partly had, exclusively: the rest is shared.
    take(&table, &owner, range("k", "z"), Shared);
    assert_eq!(table.ranges_held(), 2);
    let error = table
        .try_lock(&owner, &range("l", "n"), Exclusive)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UpgradeRefused);
    assert!(error.to_string().contains("deadlock in waiting"), "{error}");
    let error = Asked::new(&table, &owner, point("n"), Exclusive).error();
    assert_eq!(error.kind(), ErrorKind::UpgradeRefused);
    take(&table, &owner, point("z"), Exclusive);
    table.check();
}

#[test]
fn an_owners_ranges_are_joined() {
    let table = LockTable::new();
    let owner = table.owner();
    for number in 0..1000_u32 {
        let key = (number * 7919 % 1000).to_be_bytes();
        let end = (number * 7919 % 1000 + 1).to_be_bytes();
        let range = LockRange::new(&key, Some(&end)).unwrap();
        take(&table, &owner, range, Exclusive);
    }
    assert_eq!(table.ranges_held(), 1);
    take(&table, &owner, range("x", ""), Shared);
    take(&table, &owner, range("y", ""), Shared);
    take(&table, &owner, range("", ""), Shared);
    // What is exclusive, and what is shared before and behind it.
    assert_eq!(table.ranges_held(), 3);
    table.check();
    owner.release_all();
    assert!(table.is_idle());
    take(&table, &owner, point("a"), Shared);
    assert_eq!(table.ranges_held(), 1);
}

#[test]
fn there_is_a_limit() {
    let table = LockTable::with_limit(3);
    let owner = table.owner();
    for key in ["a", "b", "c"] {
        take(&table, &owner, point(key), Shared);
    }
    let error = table.try_lock(&owner, &point("d"), Shared).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyLocks);
    let error = Asked::new(&table, &owner, point("d"), Shared).error();
    assert_eq!(error.kind(), ErrorKind::TooManyLocks);
    take(&table, &owner, point("c"), Shared);
    owner.release_all();
    take(&table, &owner, point("d"), Shared);
}

#[test]
fn a_family_does_not_stand_in_its_own_way() {
    let table = LockTable::new();
    let guard = table.owner();
    let within = table.owner_within(guard.id());
    let other = table.owner();
    take(&table, &guard, range("a", "c"), Exclusive);
    let mut waits = Asked::new(&table, &other, range("b", "d"), Exclusive).waits();
    // The other one waits for the family: the family does not wait for the other one.
    take(&table, &within, point("b"), Exclusive);
    assert!(table.holder(Some(within.id()), Wanted::Key(b"a")).is_none());
    drop(guard);
    table.check();
    assert!(waits.poll().is_pending());
    drop(within);
    waits.assert_granted();
}

#[test]
fn writes_meet_the_locks_of_others_only() {
    let table = LockTable::new();
    let (reader, writer) = (table.owner(), table.owner());
    let writes = || ["a", "b", "c"].map(|key| Wanted::Key(key.as_bytes()));
    assert!(table.met(None, writes()).is_empty());
    take(&table, &reader, point("b"), Shared);
    take(&table, &writer, point("c"), Exclusive);
    assert_eq!(table.met(None, writes()).len(), 2);
    assert_eq!(table.met(Some(writer.id()), writes()).len(), 1);
    assert_eq!(table.met(Some(reader.id()), writes()).len(), 1);
    let all = [Wanted::Range(b"", None)];
    assert_eq!(table.met(Some(reader.id()), all).len(), 1);
    let nothing = [Wanted::Range(b"b", Some(b"a"))];
    assert!(table.met(None, nothing).is_empty());
    let many = vec![Wanted::Key(b"b"); 5000];
    assert_eq!(table.met(None, many).len(), 1024);
}

#[test]
fn a_write_that_met_a_lock_has_its_turn() {
    let table = LockTable::new();
    let [first, reader] = [(); 2].map(|()| table.owner());
    take(&table, &first, point("b"), Shared);
    let met = table.met(None, [Wanted::Key(b"b")]);
    let mut passing = Box::pin(table.pass(None, None, met));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(passing.as_mut().poll(&mut context).is_pending());
    let mut reading = Asked::new(&table, &reader, point("b"), Shared).waits();
    drop(first);
    let std::task::Poll::Ready(Ok(pass)) = passing.as_mut().poll(&mut context) else {
        panic!("it is its turn");
    };
    assert!(table.met(Some(pass.id()), [Wanted::Key(b"b")]).is_empty());
    assert!(reading.poll().is_pending());
    drop(pass);
    reading.assert_granted();
}

#[test]
fn threads_exclude_each_other_and_nobody_is_forgotten() {
    const KEYS: usize = 6;
    let table = LockTable::new();
    // How many readers, and a thousand for each writer.
    let inside = [(); KEYS].map(|()| AtomicUsize::new(0));
    let deadlocks = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 0..6 {
            let (table, inside, deadlocks) = (&table, &inside, &deadlocks);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..2000 {
                    let owner = table.owner();
                    let mut had = [0; KEYS];
                    for _ in 0..random.usize(1..3) {
                        let low = random.usize(0..KEYS);
                        let end = random.usize(low..KEYS) + 1;
                        let mode = if random.bool() { Shared } else { Exclusive };
                        let wanted = LockRange::new(&[low as u8], Some(&[end as u8])).unwrap();
                        match futures::executor::block_on(table.lock(&owner, wanted, mode)) {
                            Ok(()) => {}
                            Err(error) if error.kind() == ErrorKind::UpgradeRefused => continue,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Deadlock);
                                deadlocks.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                        }
                        let weight = if mode == Shared { 1 } else { 1000 };
                        for key in low..end {
                            let more = weight - weight.min(had[key]);
                            let before = inside[key].fetch_add(more, Ordering::SeqCst) - had[key];
                            had[key] += more;
                            let alone = if mode == Shared { 1000 } else { 1 };
                            assert!(before < alone, "{before} others at {key}, {mode}");
                        }
                    }
                    thread::yield_now();
                    for (key, had) in had.into_iter().enumerate() {
                        inside[key].fetch_sub(had, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!(table.is_idle());
    assert_eq!(table.requests(), 0);
    table.check();
}
