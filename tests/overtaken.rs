//! Transactions that are swapped behind their savepoints, or overtaken without end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use thunderhead::disk::MemoryDisk;
use thunderhead::{Durability, ErrorKind, Options, Store};

#[test]
fn a_savepoint_undoes_nothing_of_another_transaction() {
    let store = Store::in_memory().unwrap();
    let mut first = store.begin().wait().unwrap();
    first.put("a", [1; 20]).wait().unwrap();
    let mut second = store.begin().wait().unwrap();
    for key in ["b", "c"] {
        second.put(key, [2; 100]).wait().unwrap();
        second
            .put([key, "large"].concat(), vec![2; 10_000])
            .wait()
            .unwrap();
    }
    let mut part = first.savepoint();
    part.put("d", [3; 50]).wait().unwrap();
    std::mem::swap(&mut *part, &mut second);
    assert_eq!(
        part.roll_back().unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    drop(part);
    // What is there instead cannot be undone in part, so it is not committed at all.
    assert_eq!(
        first.commit().wait().unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    second.commit().wait().unwrap();
    let keys: Vec<_> = store.iter().map(|entry| entry.unwrap().0).collect();
    assert_eq!(keys, [b"a", b"d"]);
    store.put("e", "later").wait().unwrap();
}

/// Ends the others, also when the test fails.
struct Stop<'d>(&'d AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_transaction_that_read_much_commits_beside_those_that_never_stop() {
    let store = Options::new()
        .history_bytes(0)
        .journal_bytes(4 << 10)
        .durability(Durability::Deferred)
        .open_disk(MemoryDisk::new())
        .unwrap();
    let mut batch = store.batch();
    for number in 0..5_000u32 {
        batch.put(number.to_be_bytes(), [0; 30]).wait().unwrap();
    }
    batch.commit().wait().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u64;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                let key = [&[255; 8][..], &(number % 1000).to_be_bytes()].concat();
                store.put(key, [1; 100]).wait().unwrap();
            }
        });
        let _stop = Stop(&done);
        for round in 0..5u8 {
            // Where nothing of the history is kept, the last moment may be too late to tell.
            let read = store.transact(|mut attempt| async move {
                let read = attempt.count(..[200u8]).await?;
                attempt.put([200, round], "read it all").await?;
                Ok(read)
            });
            assert_eq!(read.wait().unwrap(), 5_000);
        }
    });
}
