//! What allocates nothing: counted, once everything that it needs is warm.
//!
//! `cargo test --release --test allocations`

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::error::Error;

use thunderhead::{Maintenance, Options, Store};

/// Counts the allocations of each thread: other threads, the store's own among them, do as they like.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `alloc_zeroed` asks for.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps what `realloc` asks for.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often some work allocates on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

fn key(number: u32) -> [u8; 16] {
    let mut key = *b"key             ";
    key[8..].copy_from_slice(&u64::from(number).to_be_bytes());
    key
}

const ENTRIES: u32 = 20_000;

/// A store of several levels, with something pending in its nodes and in its journal.
fn filled() -> thunderhead::Result<Store> {
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(thunderhead::disk::MemoryDisk::new())?;
    let mut batch = store.batch();
    for number in 0..ENTRIES {
        batch.put(key(number), [1; 100]).wait()?;
    }
    batch.commit().wait()?;
    store.checkpoint().wait()?;
    for number in (0..ENTRIES).step_by(7) {
        store.put(key(number), [2; 100]).wait()?;
    }
    store.checkpoint().wait()?;
    for number in (0..ENTRIES).step_by(101) {
        store.put(key(number), [3; 100]).wait()?;
        store.delete(key(number + 1)).wait()?;
    }
    // What checkpoints replaced is let go of by whoever reads a while later, a little at a time.
    for _ in 0..5 {
        for number in 0..ENTRIES {
            store.get_with(key(number), |_| ()).wait()?;
        }
    }
    Ok(store)
}

type Outcome = Result<(), Box<dyn Error>>;

#[test]
fn the_allocations_of_this_thread_are_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn a_cached_get_with_allocates_nothing() -> Outcome {
    let store = filled()?;
    let ask = || {
        let mut bytes = 0;
        for number in (0..ENTRIES + 100).step_by(3) {
            let found = store.get_with(key(number), <[u8]>::len).wait();
            bytes += found.expect("it is in memory").unwrap_or(0);
        }
        bytes
    };
    let expected = ask();
    let mut found = 0;
    assert_eq!(allocations(|| found = ask()), 0);
    assert_eq!(found, expected);
    let snapshot = store.snapshot();
    let ask = || {
        snapshot
            .get_with(key(5), <[u8]>::len)
            .wait()
            .expect("it is in memory")
    };
    ask();
    assert_eq!(allocations(|| assert_eq!(ask(), Some(100))), 0);
    Ok(())
}

#[test]
fn a_step_of_a_cursor_allocates_nothing() -> Outcome {
    let store = filled()?;
    let mut cursor = store.cursor();
    let mut round = |expected: u64| {
        let mut bytes = 0;
        let found = allocations(|| {
            let mut step = |forward: bool| {
                let stepped = match forward {
                    true => cursor.next().wait(),
                    false => cursor.previous().wait(),
                };
                let stepped = stepped.expect("it is in memory");
                let value = cursor.value().wait().expect("it is in memory");
                bytes += value.map_or(0, <[u8]>::len);
                stepped
            };
            // All of it forth, turning round now and then, and back.
            let mut steps = 0;
            while step(true) {
                steps += 1;
                if steps % 100 == 0 {
                    step(false);
                    step(true);
                }
            }
            while step(false) {}
        });
        assert!(found <= expected, "{found} allocations");
        bytes
    };
    let warm = round(u64::MAX);
    assert_eq!(round(0), warm);
    let mut seek = || {
        for number in (0..ENTRIES).step_by(501) {
            cursor.seek(key(number)).wait().expect("it is in memory");
            cursor
                .seek_before(key(number))
                .wait()
                .expect("it is in memory");
        }
    };
    seek();
    assert_eq!(allocations(seek), 0);
    Ok(())
}

#[test]
fn a_step_of_a_range_allocates_nothing() -> Outcome {
    let store = filled()?;
    let walk = |range: &mut thunderhead::Range<'_>| {
        let mut bytes = 0;
        while let Some(length) = range
            .next_with(|_, value| value.len())
            .wait()
            .expect("it is in memory")
        {
            bytes += length;
        }
        bytes
    };
    let expected = walk(&mut store.iter());
    let mut range = store.iter();
    // The cursor of an end, and the first key that it needs room for.
    for _ in 0..1000 {
        range.next_with(|_, _| ()).wait()?;
    }
    let mut found = 0;
    assert_eq!(allocations(|| found = walk(&mut range)), 0);
    assert!(found > 0 && found < expected);
    Ok(())
}

#[test]
fn a_small_put_into_a_warm_transaction_allocates_nothing() -> Outcome {
    let store = filled()?;
    let mut transaction = store.begin().wait()?;
    // Chunks grow with what they hold: after some, one takes ten thousand of these puts.
    for number in 0..ENTRIES {
        transaction.put(key(number), [4; 8]).wait()?;
    }
    let mut worst = 0;
    let mut chunks = 0;
    for number in 0..ENTRIES {
        let put = || {
            transaction
                .put(key(number), [5; 8])
                .wait()
                .expect("it is in memory")
        };
        let found = allocations(put);
        chunks += u64::from(found > 0);
        worst = worst.max(found);
    }
    // Now and then a chunk is full: its bytes become shareable, and another one begins.
    assert!(chunks <= 2, "{chunks} of {ENTRIES} puts allocated");
    assert!(worst <= 4, "{worst} allocations");
    let deleted = || transaction.delete(key(7)).wait().expect("it is in memory");
    assert_eq!(allocations(deleted), 0);
    transaction.commit().wait()?;
    Ok(())
}
