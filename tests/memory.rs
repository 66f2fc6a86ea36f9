//! What large transactions take of the memory of the process.
#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use thunderhead::{Maintenance, Options, Store, Transaction};

/// Counts the bytes that are in use, and the most that ever were.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let used = USED.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(used, Ordering::Relaxed);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn used() -> usize {
    USED.load(Ordering::Relaxed)
}

/// The most bytes that are in use at a time while a function runs, beside those that were before.
fn most_in_use(work: impl FnOnce()) -> usize {
    let before = used();
    MOST.store(before, Ordering::Relaxed);
    work();
    MOST.load(Ordering::Relaxed) - before
}

const TRANSACTION_BYTES: usize = 2 << 20;

fn store(path: &Path, transaction_bytes: usize) -> Store {
    let options = Options::new()
        .cache_bytes(4 << 20)
        .journal_bytes(64 << 10)
        .transaction_bytes(transaction_bytes)
        .segment_bytes(1 << 20)
        .maintenance(Maintenance::Caller);
    options.create(path).unwrap()
}

/// Puts so many times the memory of a transaction, in no order.
fn fill(transaction: &mut Transaction, times: usize) {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..times * TRANSACTION_BYTES / 200 {
        let key = random.u128(..).to_be_bytes();
        transaction.put(key, [7; 184]).wait().unwrap();
    }
}

/// One test, as the whole process is counted; but for the cache, whose memory is not the allocator's.
#[test]
fn large_transactions_take_the_memory_that_is_stated() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for commits in [true, false] {
        let most = [5, 20].map(|times| {
            let store = store(&path(&format!("{commits} {times}")), TRANSACTION_BYTES);
            most_in_use(|| {
                let mut transaction = store.begin().wait().unwrap();
                fill(&mut transaction, times);
                if commits {
                    transaction.commit().wait().unwrap();
                }
            })
        });
        println!("{most:?} bytes at most");
        // Thirty million bytes more were written.
        assert!(most[1] <= most[0] + 2 * TRANSACTION_BYTES, "{most:?}");
    }

    // What it knows of each value that is out of the tree stays until it commits.
    let store = store(&path("values"), 64 << 10);
    let mut transaction = store.begin_alone().wait().unwrap();
    let mut put = |from: u32, to: u32| {
        for number in from..to {
            let value = [7; 2100];
            transaction.put(number.to_be_bytes(), value).wait().unwrap();
        }
    };
    put(0, 2000);
    let before = used();
    put(2000, 34_000);
    let each = (used() - before) / 32_000;
    println!("{each} bytes a value");
    assert!(each < 400, "{each} bytes a value");
}
