//! The table as a whole: identity, lifetimes, capacity, dirtiness.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::arena::Arena;
use super::{CacheStatistics, FrameHint, FrameTable, Handle, Install, pin};
use crate::format::{Address, Birth};

const DIRTY: Install = Install {
    level: 0,
    hints: 0,
    dirty: true,
};
const CLEAN: Install = Install {
    level: 0,
    hints: 0,
    dirty: false,
};

/// A page whose every word says which page it is.
fn page(address: Address, birth: Birth, bytes: usize) -> Vec<u8> {
    let word = address.to_bits() ^ birth.0.rotate_left(20);
    word.to_le_bytes().repeat(bytes / 8)
}

fn check(address: Address, birth: Birth, bytes: &[u8]) {
    let expected = page(address, birth, 8);
    assert!(!bytes.is_empty());
    let mut words = bytes.chunks(8);
    assert!(
        words.all(|word| word == expected),
        "the bytes of {address} {birth:?}"
    );
}

fn install(table: &FrameTable, number: u32, bytes: usize, options: Install) -> Handle {
    let (address, birth) = (Address::new(1, number * 512), Birth(7));
    table.install(address, birth, page(address, birth, bytes), options)
}

fn is_there(table: &FrameTable, number: u32) -> bool {
    table.get(Address::new(1, number * 512), Birth(7)).is_some()
}

/// Collects what no guard keeps. Other tests' threads have guards, too, and may wait for a processor.
fn let_others_unpin(attempt: u32) {
    pin().flush();
    match attempt < 5000 {
        true => std::thread::yield_now(),
        false => std::thread::sleep(std::time::Duration::from_millis(2)),
    }
}

/// Lets garbage be collected until the statistics satisfy a condition.
fn settle(table: &FrameTable, done: impl Fn(CacheStatistics) -> bool) {
    for attempt in 0..10_000 {
        if done(table.stats()) {
            return;
        }
        let_others_unpin(attempt);
    }
    panic!("{:?}", table.stats());
}

/// Installs other pages until some are gone. How many that takes depends on the guards of other
/// tests, since slots become free only after them.
fn crowd_out(table: &FrameTable, numbers: Range<u32>) {
    for number in 1000..100_000 {
        install(table, number, 1024, CLEAN);
        if !numbers.clone().any(|number| is_there(table, number)) {
            return;
        }
        pin().flush();
        std::thread::yield_now();
    }
    panic!("still there: {:?}", table.stats());
}

#[test]
fn a_page_is_found_by_hint_and_by_map_and_only_as_itself() {
    let table = FrameTable::new(1 << 20);
    let address = Address::new(3, 4096);
    let hint = FrameHint::new();
    let guard = pin();
    assert!(table.lookup(address, Birth(1), &hint, &guard).is_none());
    table.install(address, Birth(1), page(address, Birth(1), 800), CLEAN);
    for _ in 0..3 {
        let frame = table.lookup(address, Birth(1), &hint, &guard).unwrap();
        check(address, Birth(1), frame.bytes());
        assert_eq!((frame.address(), frame.birth()), (address, Birth(1)));
        assert_eq!(frame.memo().load(Ordering::Relaxed), u64::MAX);
    }
    assert!(table.lookup(address, Birth(2), &hint, &guard).is_none());
    let other = Address::new(3, 8192);
    assert!(table.lookup(other, Birth(1), &hint, &guard).is_none());
    // Positions beyond anything that exists are no hints.
    for position in [1, 3, 1 << 20, u32::MAX] {
        hint.point_to(position);
        assert!(table.lookup(address, Birth(1), &hint, &guard).is_some());
    }
    assert_eq!(table.stats().misses, 3);
}

#[test]
fn hints_stand_behind_bytes_of_any_length() {
    let table = FrameTable::new(1 << 20);
    for length in 0..70 {
        let address = Address::new(0, length * 512);
        let options = Install {
            level: 1,
            hints: 5,
            dirty: false,
        };
        let frame = table.install(address, Birth(0), vec![0xff; length as usize], options);
        for index in 0..5 {
            assert_eq!(frame.hint(index).position(), 0);
            frame.hint(index).point_to(u32::MAX);
        }
        assert_eq!(frame.bytes(), vec![0xff; length as usize]);
    }
}

#[test]
fn installing_twice_returns_the_first() {
    let table = FrameTable::new(1 << 20);
    let address = Address::new(0, 512);
    let first = table.install(address, Birth(1), vec![1; 10], CLEAN);
    let second = table.install(address, Birth(1), vec![2; 99], CLEAN);
    assert_eq!(first.bytes(), second.bytes());
    assert_eq!(table.stats().frames, 1);
    let bytes = table.stats().bytes;
    table.install(Address::new(0, 1024), Birth(1), vec![1; 10], CLEAN);
    assert_eq!(table.stats().bytes, 2 * bytes);
}

#[test]
fn only_what_is_written_can_be_let_go() {
    let table = FrameTable::new(1 << 20);
    let let_go = |number: u32| table.let_go(Address::new(1, number * 512), Birth(7));
    let held = install(&table, 0, 1000, CLEAN);
    drop(install(&table, 1, 1000, CLEAN));
    drop(install(&table, 2, 1000, DIRTY));
    (0..4).for_each(let_go);
    assert_eq!(
        [0, 1, 2].map(|number| is_there(&table, number)),
        [false, false, true]
    );
    check(held.address(), held.birth(), held.bytes());
    table.mark_written(Address::new(1, 2 * 512), Birth(7));
    let_go(2);
    assert!(!is_there(&table, 2));
    assert_eq!(table.stats().frames, 0);
}

#[test]
fn handles_and_guards_outlive_eviction_forgetting_and_the_table() {
    let table = FrameTable::new(4096);
    let address = Address::new(1, 0);
    let kept = install(&table, 0, 800, CLEAN);
    let hint = FrameHint::new();
    let guard = pin();
    let seen = table.lookup(address, Birth(7), &hint, &guard).unwrap();
    table.forget(address, Birth(7));
    assert!(table.lookup(address, Birth(7), &hint, &guard).is_none());
    assert_eq!(table.stats().frames, 0);
    assert!(table.stats().bytes >= 800, "a held page counts");
    for number in 1..100 {
        install(&table, number, 800, CLEAN);
    }
    assert!(table.stats().evictions > 90);
    check(address, Birth(7), seen.bytes());
    let copy = seen.handle(&guard);
    drop(table);
    check(address, Birth(7), seen.bytes());
    drop(guard);
    std::thread::spawn(move || drop(kept)).join().unwrap();
    let again = copy.clone();
    drop(copy);
    check(address, Birth(7), again.bytes());
}

#[test]
fn the_capacity_is_respected_and_interior_pages_leave_last() {
    let capacity = 64 << 10;
    let table = FrameTable::new(capacity);
    let interior = Install {
        level: 1,
        hints: 0,
        dirty: false,
    };
    install(&table, 0, 1024, interior);
    for number in 1..200 {
        install(&table, number, 1024, CLEAN);
        assert!(table.stats().bytes <= capacity);
        assert!(is_there(&table, 0), "gone after {number}");
        assert!(is_there(&table, number));
    }
    crowd_out(&table, 0..1);
    let stats = table.stats();
    assert!(stats.bytes <= capacity);
    assert!(stats.overflows <= stats.evictions / 100, "{stats:?}");
}

#[test]
fn a_scan_does_not_push_out_what_is_in_use() {
    let table = FrameTable::new(64 << 10);
    let hints: [FrameHint; 16] = Default::default();
    for number in 0..16 {
        install(&table, number, 1024, CLEAN);
    }
    for number in 16..if cfg!(miri) { 80 } else { 1000 } {
        install(&table, number, 1024, CLEAN);
        let guard = pin();
        for (used, hint) in (0..16).zip(&hints) {
            let address = Address::new(1, used * 512);
            assert!(table.lookup(address, Birth(7), hint, &guard).is_some());
        }
    }
}

#[test]
fn unwritten_and_held_pages_are_never_evicted() {
    let capacity = 32 << 10;
    let table = FrameTable::new(capacity);
    let footprint = Arena::footprint(1024);
    for number in 0..40 {
        install(&table, number, 1024, DIRTY);
    }
    let held = (40..80).map(|number| install(&table, number, 1024, CLEAN));
    let held: Vec<Handle> = held.collect();
    let stats = table.stats();
    assert_eq!((stats.frames, stats.evictions), (80, 0));
    assert_eq!(stats.dirty_bytes, 40 * footprint);
    assert!(stats.bytes > capacity && stats.overflows > 0);
    drop(held);
    for number in 0..20 {
        table.mark_written(Address::new(1, number * 512), Birth(7));
        table.mark_written(Address::new(1, number * 512), Birth(7));
    }
    for number in 20..30 {
        table.forget(Address::new(1, number * 512), Birth(7));
    }
    assert_eq!(table.dirty_bytes(), 10 * footprint);
    crowd_out(&table, 0..30);
    assert!(table.stats().bytes <= capacity);
    assert!((30..40).all(|number| is_there(&table, number)));
}

#[test]
fn everything_is_given_back() {
    let table = FrameTable::new(1 << 20);
    let handles: Vec<Handle> = (0..50)
        .map(|number| install(&table, number, 1 + 100 * number as usize + 8, CLEAN))
        .collect();
    let copies = handles.clone();
    for number in 0..50 {
        table.forget(Address::new(1, number * 512), Birth(7));
    }
    assert_eq!(table.stats().frames, 0);
    drop(handles);
    assert!(table.stats().bytes > 0);
    drop(copies);
    settle(&table, |stats| stats.bytes == 0);
    let pool = std::sync::Arc::downgrade(table.pool_for_test());
    assert_eq!(pool.strong_count(), 1);
    let last = install(&table, 0, 100, DIRTY);
    drop(table);
    assert!(pool.strong_count() > 0, "a handle keeps the memory");
    drop(last);
    for attempt in 0..10_000 {
        if pool.strong_count() == 0 {
            return;
        }
        let_others_unpin(attempt);
    }
    panic!("the pool is still there");
}

#[test]
fn identity_is_never_confused_while_slots_are_reused() {
    let (threads, rounds, pages) = if cfg!(miri) {
        (3, 25, 4)
    } else {
        (4, 60_000, 64)
    };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let capacity = pages * 640 / 2;
    let table = FrameTable::new(capacity);
    let hints: Vec<FrameHint> = (0..pages).map(|_| FrameHint::new()).collect();
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (table, hints, failed) = (&table, &hints, &failed);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed ^ thread);
                let mut handles: Vec<(Address, Birth, Handle)> = Vec::new();
                for _ in 0..rounds {
                    if failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        hammer(table, hints, &mut random, &mut handles);
                    }));
                    if let Err(panic) = outcome {
                        failed.store(true, Ordering::Relaxed);
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
    let births = 3;
    for number in 0..pages as u32 {
        for birth in 0..births {
            table.forget(Address::new(1, number * 512), Birth(birth));
        }
    }
    settle(&table, |stats| stats.bytes == 0);
    let stats = table.stats();
    assert_eq!((stats.frames, stats.dirty_bytes), (0, 0));
    assert!(cfg!(miri) || stats.evictions > 100, "{stats:?}");
}

fn hammer(
    table: &FrameTable,
    hints: &[FrameHint],
    random: &mut fastrand::Rng,
    handles: &mut Vec<(Address, Birth, Handle)>,
) {
    let number = random.usize(..hints.len());
    let address = Address::new(1, number as u32 * 512);
    let birth = Birth(random.u64(..3));
    match random.u32(..20) {
        0 => table.forget(address, birth),
        1 => {
            let options = Install {
                level: random.u8(..2),
                hints: random.usize(..3),
                dirty: true,
            };
            let bytes = page(address, birth, 8 * random.usize(1..80));
            let handle = table.install(address, birth, bytes, options);
            check(address, birth, handle.bytes());
            table.mark_written(address, birth);
        }
        2..6 => {
            let bytes = page(address, birth, 8 * random.usize(1..80));
            let handle = table.install(address, birth, bytes, CLEAN);
            check(address, birth, handle.bytes());
            if random.bool() {
                handles.push((address, birth, handle));
            }
        }
        6 => {
            if let Some(handle) = table.get(address, birth) {
                handles.push((address, birth, handle.clone()));
            }
        }
        7 => handles.clear(),
        _ => {
            let guard = pin();
            // Often another page's hint: what a reused slot looks like.
            let hint = &hints[if random.bool() { number } else { 0 }];
            if let Some(frame) = table.lookup(address, birth, hint, &guard) {
                check(address, birth, frame.bytes());
                if random.u8(..8) == 0 {
                    handles.push((address, birth, frame.handle(&guard)));
                }
                if random.u8(..8) == 0 {
                    table.forget(address, birth);
                    check(address, birth, frame.bytes());
                }
            }
        }
    }
    for (address, birth, handle) in handles.iter().rev().take(2) {
        assert_eq!((handle.address(), handle.birth()), (*address, *birth));
        check(*address, *birth, handle.bytes());
    }
    handles.truncate(8);
}
