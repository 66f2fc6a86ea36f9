//! Arguments beyond what is possible are refused with an error that says so, and change nothing;
//! arguments just within are not refused. Ranges go on where a failure stopped them.

use std::ops::Bound;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::executor::block_on;
use futures::{Stream, StreamExt};
use thunderhead::disk::{Fails, FileDisk, FileDiskOptions, SimulatedMachine};
use thunderhead::format::Settings;
use thunderhead::{ErrorKind, Maintenance, Options, Store};

use crate::append::Append;

fn store() -> Store {
    let options = Options::new().merge_operator(Append);
    options
        .open_disk(thunderhead::disk::MemoryDisk::new())
        .expect("a disk without faults")
}

#[test]
fn arguments_beyond_the_limits_are_refused_and_change_nothing() {
    let store = store();
    store.put("key", "value").wait().unwrap();
    let before = store.sequence();
    let long = vec![b'k'; (32 << 10) + 1];
    let invalid = ErrorKind::InvalidArgument;
    let errors = [
        (store.put(&long, "v").wait().unwrap_err(), invalid),
        (
            store.put_reserved(&long, 3, |_| ()).wait().unwrap_err(),
            invalid,
        ),
        (store.delete(&long).wait().unwrap_err(), invalid),
        (
            store.delete_range(long.as_slice()..).wait().unwrap_err(),
            invalid,
        ),
        (
            store.delete_range(..long.as_slice()).wait().unwrap_err(),
            invalid,
        ),
        (
            store.delete_range(..=long.as_slice()).wait().unwrap_err(),
            invalid,
        ),
        (
            store.merge(&long, "append", "v").wait().unwrap_err(),
            invalid,
        ),
        (store.get(&long).wait().unwrap_err(), invalid),
        (store.get_with(&long, |_| ()).wait().unwrap_err(), invalid),
        (store.get_part(&long, 0, 1).wait().unwrap_err(), invalid),
        (store.value_length(&long).wait().unwrap_err(), invalid),
        (store.contains_key(&long).wait().unwrap_err(), invalid),
        (
            store
                .merge("key", "append", vec![0; (64 << 10) + 1])
                .wait()
                .unwrap_err(),
            invalid,
        ),
        (
            store.merge("key", "nobody", "x").wait().unwrap_err(),
            ErrorKind::OperatorMissing,
        ),
    ];
    for (number, (error, kind)) in errors.iter().enumerate() {
        assert_eq!(error.kind(), *kind, "number {number}: {error}");
    }
    assert!(errors[0].0.to_string().contains("32769 bytes"));
    assert!(errors[13].0.to_string().contains("nobody"));
    let mut transaction = store.begin().wait().unwrap();
    assert!(transaction.put(&long, "v").wait().is_err());
    assert!(transaction.merge("key", "nobody", "x").wait().is_err());
    assert!(transaction.delete_range(..long.as_slice()).wait().is_err());
    assert_eq!(transaction.commit().wait().unwrap(), before);
    assert_eq!(store.sequence(), before);
    assert_eq!(store.len().wait().unwrap(), 1);
    assert_eq!(
        store.get("key").wait().unwrap().as_deref(),
        Some(&b"value"[..])
    );
}

#[test]
fn ranks_beyond_all_entries_have_none() {
    let store = store();
    for key in ["a", "b", "c"] {
        assert!(store.nth(u64::MAX).wait().unwrap().is_none());
        store.put(key, key).wait().unwrap();
    }
    for flushed in [false, true] {
        if flushed {
            store.checkpoint().wait().unwrap();
        }
        assert_eq!(store.nth(2).wait().unwrap().unwrap().0, b"c");
        for rank in [3, 4, u64::MAX] {
            assert!(store.nth(rank).wait().unwrap().is_none());
        }
    }
}

#[test]
fn reversed_ranges_are_empty() {
    let store = store();
    for key in ["a", "b", "c"] {
        store.put(key, key).wait().unwrap();
    }
    let reversed = [
        (Bound::Included("c"), Bound::Excluded("a")),
        (Bound::Included("b"), Bound::Excluded("b")),
        (Bound::Excluded("b"), Bound::Excluded("b")),
        (Bound::Excluded("b"), Bound::Included("b")),
        (Bound::Excluded("c"), Bound::Included("a")),
    ];
    for bounds in reversed {
        assert_eq!(Iterator::count(store.range(bounds)), 0);
        assert!(store.range(bounds).next_back().is_none());
        assert_eq!(store.count(bounds).wait().unwrap(), 0);
        store.delete_range(bounds).wait().unwrap();
        assert_eq!(store.len().wait().unwrap(), 3);
    }
}

#[test]
fn the_longest_key_bounds_ranges_of_every_kind() {
    let longest = vec![b'k'; 32 << 10];
    let bound = longest.as_slice();
    type Bounds<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);
    let kinds: [Bounds<'_>; 5] = [
        (Bound::Included(bound), Bound::Unbounded),
        (Bound::Excluded(bound), Bound::Unbounded),
        (Bound::Unbounded, Bound::Included(bound)),
        (Bound::Unbounded, Bound::Excluded(bound)),
        (Bound::Included(bound), Bound::Included(bound)),
    ];
    for (low, high) in kinds {
        for flushed in [false, true] {
            let store = store();
            for key in [b"a".as_slice(), bound, b"z"] {
                store.put(key, "v").wait().unwrap();
            }
            let inside = Iterator::count(store.range((low, high))) as u64;
            assert_eq!(store.count((low, high)).wait().unwrap(), inside);
            store.delete_range((low, high)).wait().unwrap();
            if flushed {
                store.checkpoint().wait().unwrap();
            }
            assert_eq!(store.len().wait().unwrap(), 3 - inside);
            assert_eq!(Iterator::count(store.iter()) as u64, 3 - inside);
            assert_eq!(Iterator::count(store.range((low, high))), 0);
        }
    }
}

#[test]
fn an_unknown_operator_keeps_its_operands_until_it_is_known_again() {
    let disk = thunderhead::disk::MemoryDisk::new();
    let without = Options::new()
        .settings(Settings::tiny())
        .journal_bytes(256)
        .maintenance(Maintenance::Caller);
    let with = without.clone().merge_operator(Append);
    let store = with.open_disk(disk.clone()).unwrap();
    for key in 0..20u8 {
        store.put([key], [key]).wait().unwrap();
        store.merge([key], "append", "1").wait().unwrap();
    }
    drop(store);
    let store = without.open_disk(disk.clone()).unwrap();
    let missing = |error: thunderhead::Error| {
        assert_eq!(error.kind(), ErrorKind::OperatorMissing);
        assert!(error.to_string().contains("append"), "{error}");
    };
    for _ in 0..3 {
        missing(store.get([3]).wait().unwrap_err());
        missing(Iterator::next(&mut store.iter()).unwrap().unwrap_err());
        missing(store.value_length([3]).wait().unwrap_err());
        assert!(store.contains_key([3]).wait().unwrap());
        assert_eq!(store.len().wait().unwrap(), 20);
        while store.maintain().wait().unwrap() {}
        store.checkpoint().wait().unwrap();
    }
    for key in 0..5u8 {
        store.put([key], "new").wait().unwrap();
        store.delete([key + 5]).wait().unwrap();
    }
    store.close().wait().unwrap();
    let store = with.open_disk(disk).unwrap();
    for key in 10..20u8 {
        store.merge([key], "append", "2").wait().unwrap();
    }
    while store.maintain().wait().unwrap() {}
    let mut found = Vec::new();
    for entry in store.iter() {
        let (key, value) = entry.unwrap();
        found.push((key[0], value.to_vec()));
    }
    let expected: Vec<_> = (0..5)
        .map(|key| (key, b"new".to_vec()))
        .chain((10..20).map(|key| (key, vec![key, b'1', b'2'])))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_range_goes_on_from_either_end_where_a_failure_stopped_it() {
    let options = Options::new()
        .settings(Settings::tiny())
        .cache_bytes(1 << 20)
        .maintenance(Maintenance::Caller);
    // Which end fails first, and which is asked next.
    for pattern in 0..8u32 {
        let machine = SimulatedMachine::new(pattern.into());
        let files = FileDiskOptions::default();
        let disk = FileDisk::create_on(&machine, &files).unwrap();
        let store = options.open_disk(disk).unwrap();
        for key in 0..4u8 {
            store.put([key], vec![key; 5000]).wait().unwrap();
        }
        let mut range = store.iter();
        let (mut front, mut back) = (Vec::new(), Vec::new());
        for turn in 0..3 {
            let from_back = pattern & (1 << turn) != 0;
            machine.fail_read(machine.reads(), Fails::Forever);
            // By the calls that lend: to those who iterate, an error is the end.
            let failed = match from_back {
                true => range.next_back_entry().wait(),
                false => range.next_entry().wait(),
            };
            assert!(failed.is_err());
            machine.clear_faults();
            let found = match from_back {
                true => range.next_entry().wait(),
                false => range.next_back_entry().wait(),
            };
            let (key, value) = found.unwrap().unwrap();
            assert_eq!(value, vec![key[0]; 5000]);
            match from_back {
                true => front.push(key[0]),
                false => back.push(key[0]),
            }
        }
        for entry in range {
            front.push(entry.unwrap().0[0]);
        }
        front.extend(back.into_iter().rev());
        assert_eq!(front, [0, 1, 2, 3], "pattern {pattern:b}");
    }
}

#[test]
fn iterating_ends_after_an_error() {
    let machine = SimulatedMachine::new(1);
    let disk = FileDisk::create_on(&machine, &FileDiskOptions::default()).unwrap();
    let store = Options::new().open_disk(disk).unwrap();
    store.put("a", vec![1; 5000]).wait().unwrap();
    machine.fail_read(machine.reads(), Fails::Forever);
    let mut range = store.iter();
    assert!(Iterator::next(&mut range).unwrap().is_err());
    assert!(Iterator::next(&mut range).is_none());
    let entries = Iterator::filter_map(store.iter(), Result::ok);
    assert_eq!(entries.count(), 0);
}

#[test]
fn a_stream_that_is_not_waited_for_leaves_nothing_to_the_next_entry() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new().settings(Settings::tiny());
    let store = options.create(directory.path().join("store")).unwrap();
    for key in 0..3u8 {
        store.put([key], vec![key; 5000]).wait().unwrap();
    }
    let mut range = store.iter();
    let mut context = Context::from_waker(Waker::noop());
    let polled = Pin::new(&mut range).poll_next(&mut context);
    let first = match polled {
        Poll::Pending => Iterator::next(&mut range),
        Poll::Ready(entry) => entry,
    };
    assert_eq!(first.unwrap().unwrap().0, [0]);
    for key in 1..3u8 {
        let (found, value) = block_on(StreamExt::next(&mut range)).unwrap().unwrap();
        assert_eq!(found, [key]);
        assert_eq!(value, vec![key; 5000]);
    }
}

#[test]
fn a_value_that_only_the_log_names_is_kept_until_a_checkpoint() {
    let disk = thunderhead::disk::MemoryDisk::new().with_segment_bytes(256 << 10);
    let options = Options::new()
        .settings(Settings::tiny())
        .journal_bytes(256)
        .maintenance(Maintenance::Caller);
    let store = options.open_disk(disk.clone()).unwrap();
    for round in 0..20u8 {
        // Overwritten and flushed again and again: nothing newest reaches the older values.
        for key in 0..3u8 {
            store.put([key], vec![round; 600]).wait().unwrap();
        }
        while store.maintain().wait().unwrap() {}
    }
    drop(store);
    let store = options.open_disk(disk).unwrap();
    for key in 0..3u8 {
        assert_eq!(store.get([key]).wait().unwrap().unwrap(), vec![19; 600]);
    }
}
