//! Watches: what transactions and single writes committed, in order, and who was too slow for it.

use std::ops::Bound;
use std::thread;

use futures::executor::block_on;
use thunderhead::disk::MemoryDisk;
use thunderhead::{Change, ErrorKind, Maintenance, Prefix, Watched};

use super::{filled, options};

fn seen(watched: Watched) -> (u64, Vec<Change>) {
    match watched {
        Watched::Commit { sequence, changes } => (sequence.0, changes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_watch_gives_each_commit_of_its_range_in_order() {
    for journal_bytes in [1 << 20, 256] {
        let store = filled(&options().journal_bytes(journal_bytes));
        let mut watch = store.subtree("4").watch("1".."5", store.sequence());
        let key = |key: &str| key.as_bytes().to_vec();
        store.put("5", "outside").wait().unwrap();
        let mut transaction = store.begin().wait().unwrap();
        transaction.put("42", "1").wait().unwrap();
        transaction.put("49", "outside").wait().unwrap();
        transaction.delete("43").wait().unwrap();
        transaction.merge("44", "sum", [1]).wait().unwrap();
        transaction.delete_range("3".."43").wait().unwrap();
        transaction.commit().wait().unwrap();
        store.put("41", vec![7; 5000]).wait().unwrap();
        while store.maintain().wait().unwrap() {}
        store.delete_range("5"..).wait().unwrap();
        store.delete_range("44"..).wait().unwrap();
        let expected = [
            Change::Delete { key: key("3") },
            Change::Merge { key: key("4") },
            Change::DeleteRange {
                low: key("1"),
                end: Bound::Excluded(key("3")),
            },
        ];
        let (sequence, changes) = seen(watch.next().unwrap().unwrap());
        assert_eq!(sequence, 11);
        assert_eq!(changes[1..], expected);
        assert!(matches!(&changes[0], Change::Put { value: Some(value), .. } if *value == "1"));
        let large = Change::Put {
            key: key("1"),
            value: None,
        };
        assert_eq!(seen(watch.next_commit().wait().unwrap()), (12, vec![large]));
        let (sequence, changes) = seen(block_on(watch.next_commit()).unwrap());
        let end = Bound::Excluded(key("5"));
        let low = key("4");
        assert_eq!(
            (sequence, changes),
            (14, vec![Change::DeleteRange { low, end }])
        );
        store.close().wait().unwrap();
        let closed = watch.next().unwrap().unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
        assert!(watch.next().is_none());
    }
}

#[test]
fn a_watch_that_is_too_slow_is_told_so_and_goes_on() {
    let store = filled(&options().journal_bytes(256).history_bytes(0));
    let mut watch = store.watch(.., store.sequence());
    for number in 0..50u8 {
        store.put([number], [0; 100]).wait().unwrap();
    }
    let Watched::Missed(snapshot) = watch.next().unwrap().unwrap() else {
        panic!("it is not kept");
    };
    assert_eq!(snapshot.len().wait().unwrap(), 59);
    let after = store.put("after", "1").wait().unwrap();
    assert_eq!(seen(watch.next().unwrap().unwrap()).0, after.0);
    let mut old = store.watch(.., Default::default());
    assert!(matches!(old.next().unwrap().unwrap(), Watched::Missed(_)));
    let mut large = store.begin_alone().wait().unwrap();
    for number in 0..10_000u32 {
        large.put(number.to_be_bytes(), [0; 100]).wait().unwrap();
    }
    large.commit().wait().unwrap();
    assert!(matches!(watch.next().unwrap().unwrap(), Watched::Missed(_)));
}

#[test]
fn watches_beside_writers_see_every_commit_once() {
    let options = options()
        .journal_bytes(4 << 10)
        .maintenance(Maintenance::Background);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    thread::scope(|scope| {
        for waits in [false, true] {
            let mut watch = store.watch(Prefix("k"), store.sequence());
            scope.spawn(move || {
                let mut counts = [0u32; 3];
                let mut last = 0;
                while counts.iter().sum::<u32>() < 900 {
                    let next = match waits {
                        true => watch.next().unwrap().unwrap(),
                        false => block_on(watch.next_commit()).unwrap(),
                    };
                    let (sequence, changes) = seen(next);
                    assert!(sequence > last);
                    last = sequence;
                    for change in changes {
                        let Change::Put { key, value } = change else {
                            panic!("{change:?}");
                        };
                        let writer = usize::from(key[1] - b'0');
                        assert_eq!(value.unwrap(), counts[writer].to_be_bytes());
                        counts[writer] += 1;
                    }
                }
            });
        }
        for writer in 0..3 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..300u32 {
                    let key = format!("k{writer}");
                    store.put(key, number.to_be_bytes()).wait().unwrap();
                    store.put("other", "1").wait().unwrap();
                }
            });
        }
    });
}
