//! Reading where much is pending: nobody goes over more of it than has to be.

use std::ops::Bound;

use super::Store;
use crate::disk::MemoryDisk;
use crate::snapshot::{Cursor, Direction, Start, Stop};
use crate::tree::testing::Append;
use crate::{Maintenance, Options};

/// From about so many on, what they gave is kept.
const OPERANDS: usize = 32;

fn store() -> Store {
    let options = Options::new()
        .maintenance(Maintenance::Caller)
        .merge_operator(Append);
    options.open_disk(MemoryDisk::new()).unwrap()
}

#[test]
fn nobody_goes_over_what_was_deleted_beyond_the_end_of_a_range() {
    let store = store();
    for number in 0..2000u16 {
        store.put(number.to_be_bytes(), "there").wait().unwrap();
    }
    store
        .delete_range(100u16.to_be_bytes()..1900u16.to_be_bytes())
        .wait()
        .unwrap();
    for number in 100..1900u16 {
        store.delete(number.to_be_bytes()).wait().unwrap();
    }
    let over = store.reader.layered();
    let middle = 1000u16.to_be_bytes().to_vec();
    for (direction, far) in [
        (Direction::Forward, 1010u16.to_be_bytes()),
        (Direction::Backward, 990u16.to_be_bytes()),
    ] {
        let mut cursor = Cursor::new(direction, Start::At(middle.clone()));
        let stop = cursor.step_within(&over, Bound::Excluded(&far)).unwrap();
        assert!(matches!(stop, Stop::End));
        assert_eq!(cursor.passed(), 11);
    }
    let bounds = || 1000u16.to_be_bytes()..1010u16.to_be_bytes();
    assert!(store.range(bounds()).next().is_none());
    assert!(store.range(bounds()).next_back().is_none());
    let mut cursor = store.cursor_in(bounds());
    assert!(!cursor.next().wait().unwrap() && !cursor.last().wait().unwrap());
    let keys = |range: crate::Range<'_>| range.map(|entry| entry.unwrap().0).collect::<Vec<_>>();
    let around = || 98u16.to_be_bytes()..=1901u16.to_be_bytes();
    let expected = [98u16, 99, 1900, 1901].map(|number| number.to_be_bytes().to_vec());
    assert_eq!(keys(store.range(around())), expected);
}

#[test]
fn a_key_of_many_operands_gives_what_all_of_them_give() {
    let store = store();
    let mut expected = Vec::new();
    let mut held = None;
    for number in 0..8 * OPERANDS {
        let operand = [number as u8];
        store.merge("k", "append", operand).wait().unwrap();
        expected.extend(operand);
        assert_eq!(store.get("k").wait().unwrap().unwrap(), expected);
        if number == 5 * OPERANDS {
            held = Some((store.snapshot(), expected.clone()));
        }
        if number == 6 * OPERANDS {
            store.delete_range(..).wait().unwrap();
            assert!(store.get("k").wait().unwrap().is_none());
            expected.clear();
        }
        if number == 7 * OPERANDS {
            store.put("k", "anew").wait().unwrap();
            expected = b"anew".to_vec();
        }
    }
    let (snapshot, then) = held.unwrap();
    assert_eq!(snapshot.get("k").wait().unwrap().unwrap(), then);
    let mut transaction = store.begin().wait().unwrap();
    transaction.merge("k", "append", "own").wait().unwrap();
    expected.extend(b"own");
    assert_eq!(transaction.get("k").wait().unwrap().unwrap(), expected);
}

#[test]
fn names_among_frozen_operands_read_those_before_them_and_no_more() {
    let options = Options::new()
        .maintenance(Maintenance::Caller)
        .journal_bytes(1500)
        .merge_operator(Append);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    for flushes in [false, true] {
        let mut expected = store
            .get("k")
            .wait()
            .unwrap()
            .map_or(Vec::new(), |it| it.to_vec());
        let mut saved = Vec::new();
        for number in 0..6 * OPERANDS {
            let operand = [number as u8];
            store.merge("k", "append", operand).wait().unwrap();
            expected.extend(operand);
            if number % 7 == 6 {
                let name = [flushes as u8, number as u8];
                store.snapshots().save(name).wait().unwrap();
                saved.push((name, expected.clone()));
            }
        }
        assert!(store.stats().frozen_journals > 2);
        if flushes {
            // Into one tree, with the commits of several journals before it.
            while store.maintain().wait().unwrap() {}
        }
        // As long as one of them is held, they share what is known of their version.
        let mut held = Vec::new();
        for (name, then) in saved.iter().chain(saved.iter().rev()) {
            let snapshot = store.snapshots().open(name).wait().unwrap();
            assert_eq!(snapshot.get("k").wait().unwrap().unwrap(), then[..]);
            held.push(snapshot);
        }
        assert_eq!(store.get("k").wait().unwrap().unwrap(), expected);
        store.checkpoint().wait().unwrap();
    }
}
