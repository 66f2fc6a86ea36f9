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
        for round in 0..5u8 {
            let mut transaction = store.begin().wait().unwrap();
            let read = transaction.range(..[200u8]).count();
            assert_eq!(read, 5_000);
            transaction.put([7, round], "read it all").wait().unwrap();
            transaction.delete([7, round]).wait().unwrap();
            transaction.put([200, round], "read it all").wait().unwrap();
            transaction.commit().wait().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
