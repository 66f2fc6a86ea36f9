//! Snapshots that have names: saved, listed, renamed, deleted, across reopenings and crashes.
//!
//! `THUNDERHEAD_NAMES` says how many names the test of many has.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::executor::block_on_stream;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{
    Durability, ErrorKind, Maintenance, Options, Prefix, SnapshotInfo, SnapshotList, Store, inspect,
};

fn tiny() -> Options {
    let mut settings = Settings::tiny();
    settings.log_chunk_bytes = 16 << 10;
    Options::new()
        .settings(settings)
        .segment_bytes(64 << 10)
        .journal_bytes(1 << 10)
        .maintenance(Maintenance::Caller)
}

fn infos(list: SnapshotList) -> Vec<SnapshotInfo> {
    list.map(|info| info.unwrap()).collect()
}

fn names(list: SnapshotList) -> Vec<String> {
    let names = infos(list).into_iter();
    names
        .map(|info| String::from_utf8(info.name).unwrap())
        .collect()
}

/// Panics if anything is wrong with a store.
fn assert_sound(store: &Store) -> inspect::Summary {
    let mut findings = Vec::new();
    let summary = store.verify(|event| {
        if let inspect::Event::Finding(finding) = event {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    });
    let summary = summary.wait().unwrap();
    assert!(
        summary.is_sound() && findings.is_empty(),
        "{findings:#?} {summary:?}"
    );
    summary
}

#[test]
fn names_are_there_after_every_way_to_reopen() {
    for options in [Options::new(), tiny()] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let began = SystemTime::now() - Duration::from_millis(1);
        let store = options.create(&path).unwrap();
        let snapshots = store.snapshots();
        let mut saved = BTreeMap::new();
        for number in 0..40u8 {
            store.put([number], [number; 20]).wait().unwrap();
            let name = format!("name {}", u32::from(number) * 7 % 40);
            let info = snapshots.save_with(&name, [number; 16]).wait().unwrap();
            assert_eq!(info.sequence, store.sequence());
            assert_eq!(
                (&info.name[..], &info.bytes[..]),
                (name.as_bytes(), &[number; 16][..])
            );
            assert!((began..=SystemTime::now()).contains(&info.time));
            assert_eq!(snapshots.get(&name).wait().unwrap(), Some(info.clone()));
            saved.insert(name, info);
        }
        let check = |store: &Store| {
            let expected: Vec<_> = saved.values().cloned().collect();
            assert_eq!(infos(store.snapshots().list()), expected);
            assert_eq!(store.snapshots().len().wait().unwrap(), 40);
            let mut by_time = expected;
            by_time.sort_by_key(|info| (info.time, info.sequence));
            assert_eq!(infos(store.snapshots().by_time(..)), by_time);
            assert_eq!(store.snapshots().get("name 40").wait().unwrap(), None);
        };
        check(&store);
        drop((store, snapshots));
        for clean in [false, true, true, false] {
            let store = options.open(&path).unwrap();
            check(&store);
            assert_eq!(assert_sound(&store).snapshots, 40);
            while store.maintain().wait().unwrap() {}
            check(&store);
            match clean {
                true => store.close().wait().unwrap(),
                false => drop(store),
            }
            let store = options.clone().read_only().open(&path).unwrap();
            check(&store);
            let error = store.snapshots().save("more").wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnly);
            let error = store.snapshots().delete("name 1").wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ReadOnly);
        }
    }
}

#[test]
fn a_snapshot_is_the_store_as_it_was_when_it_was_saved() {
    let store = Store::in_memory().unwrap();
    let snapshots = store.snapshots();
    store.put("k", "1").wait().unwrap();
    snapshots.save("one").wait().unwrap();
    store.put("k", "2").wait().unwrap();
    store.put("view/k", "3").wait().unwrap();
    let two = snapshots.save("two").wait().unwrap();
    store.delete_range(..).wait().unwrap();
    let one = snapshots.open("one").wait().unwrap();
    assert_eq!(one.get("k").wait().unwrap().unwrap(), "1");
    assert_eq!(one.len().wait().unwrap(), 1);
    let opened = snapshots.open("two").wait().unwrap();
    assert_eq!(opened.sequence(), two.sequence);
    assert_eq!(opened.get("k").wait().unwrap().unwrap(), "2");
    let view = store
        .subtree("view/")
        .snapshots()
        .open("two")
        .wait()
        .unwrap();
    assert_eq!(view.get("k").wait().unwrap().unwrap(), "3");
    assert_eq!(view.len().wait().unwrap(), 1);
    let error = snapshots.open("three").wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("\"three\""), "{error}");
    // It outlives its name.
    assert!(snapshots.delete("one").wait().unwrap());
    assert_eq!(one.get("k").wait().unwrap().unwrap(), "1");
}

#[test]
fn a_name_is_given_once() {
    let store = Store::in_memory().unwrap();
    let snapshots = store.snapshots();
    snapshots.save("a").wait().unwrap();
    let before = store.sequence();
    let error = snapshots.save("a").wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("\"a\""), "{error}");
    assert_eq!(store.sequence(), before);
    assert!(snapshots.delete("a").wait().unwrap());
    assert!(!snapshots.delete("a").wait().unwrap());
    snapshots.save("a").wait().unwrap();
    // Many at a time: one of them wins.
    for round in 0..20 {
        let winners: usize = thread::scope(|scope| {
            let saving = |number: usize| {
                let snapshots = store
                    .with_durability([Durability::Immediate, Durability::Deferred][number % 2])
                    .snapshots();
                scope.spawn(move || match snapshots.save(format!("{round}")).wait() {
                    Ok(_) => 1,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                        0
                    }
                })
            };
            let threads: Vec<_> = (0..4).map(saving).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(winners, 1);
    }
    assert_eq!(snapshots.len().wait().unwrap(), 21);
    assert_sound(&store);
}

#[test]
fn names_change_and_go() {
    let store = tiny()
        .open_disk(MemoryDisk::new().with_segment_bytes(64 << 10))
        .unwrap();
    let snapshots = store.snapshots();
    for name in ["b/1", "a/1", "a/2", "c"] {
        store.put("k", name).wait().unwrap();
        snapshots.save_with(name, name).wait().unwrap();
    }
    let before = snapshots.get("a/1").wait().unwrap().unwrap();
    for maintained in [false, true] {
        if maintained {
            store.checkpoint().wait().unwrap();
        }
        snapshots.rename("a/1", "z").wait().unwrap();
        assert_eq!(names(snapshots.list()), ["a/2", "b/1", "c", "z"]);
        assert_eq!(names(snapshots.by_time(..)), ["b/1", "z", "a/2", "c"]);
        let after = snapshots.get("z").wait().unwrap().unwrap();
        assert_eq!((after.sequence, after.time), (before.sequence, before.time));
        assert_eq!(after.bytes, b"a/1");
        assert_sound(&store);
        snapshots.rename("z", "a/1").wait().unwrap();
    }
    for (old, new, kind) in [
        ("no", "new", ErrorKind::NotFound),
        ("c", "a/1", ErrorKind::AlreadyExists),
        ("c", "", ErrorKind::InvalidArgument),
    ] {
        let error = snapshots.rename(old, new).wait().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    assert_eq!(names(snapshots.range(Prefix("a/"))), ["a/1", "a/2"]);
    assert_eq!(snapshots.delete_range(Prefix("a/")).wait().unwrap(), 2);
    assert_eq!(snapshots.delete_range(Prefix("a/")).wait().unwrap(), 0);
    assert_eq!(names(snapshots.list()), ["b/1", "c"]);
    let deleted = snapshots.retain(|info| info.name == b"c").wait().unwrap();
    assert_eq!(deleted, 1);
    assert_eq!(names(snapshots.by_time(..)), ["c"]);
    assert_eq!(assert_sound(&store).snapshots, 1);
    snapshots.delete("c").wait().unwrap();
    assert!(snapshots.is_empty().wait().unwrap());
    assert_eq!(assert_sound(&store).snapshots, 0);
}

#[test]
fn transactions_save_what_they_wrote_or_nothing() {
    let store = Store::in_memory().unwrap();
    let snapshots = store.snapshots();
    let mut transaction = store.begin().wait().unwrap();
    transaction.put("k", "1").wait().unwrap();
    transaction.save_snapshot("one", "bytes").unwrap();
    let twice = transaction.save_snapshot("one", "").unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    transaction.save_snapshot("the same", "").unwrap();
    let mut part = transaction.savepoint();
    part.save_snapshot("undone", "").unwrap();
    drop(part);
    assert!(snapshots.is_empty().wait().unwrap());
    let sequence = transaction.commit().wait().unwrap();
    assert_eq!(names(snapshots.list()), ["one", "the same"]);
    let info = snapshots.get("one").wait().unwrap().unwrap();
    assert_eq!((info.sequence, &info.bytes[..]), (sequence, &b"bytes"[..]));
    store.put("k", "2").wait().unwrap();
    let one = snapshots.open("one").wait().unwrap();
    assert_eq!(one.get("k").wait().unwrap().unwrap(), "1");

    // A name that others have: nothing of the transaction happens.
    let mut transaction = store.begin().wait().unwrap();
    transaction.put("k", "3").wait().unwrap();
    transaction.save_snapshot("two", "").unwrap();
    snapshots.save("two").wait().unwrap();
    let error = transaction.commit().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.get("k").wait().unwrap().unwrap(), "2");

    // One that is overtaken saves nothing, even if it wrote nothing else.
    let mut transaction = store.begin().wait().unwrap();
    transaction.get("k").wait().unwrap();
    transaction.save_snapshot("three", "").unwrap();
    store.put("k", "4").wait().unwrap();
    let error = transaction.commit().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(snapshots.get("three").wait().unwrap(), None);

    let mut batch = store.batch();
    batch.put("k", "5").wait().unwrap();
    batch.save_snapshot("three", "").unwrap();
    batch.commit().wait().unwrap();
    let three = snapshots.open("three").wait().unwrap();
    assert_eq!(three.get("k").wait().unwrap().unwrap(), "5");
    drop(store.begin_alone().wait().unwrap());
    let mut alone = store.begin_alone().wait().unwrap();
    alone.put("k", "6").wait().unwrap();
    alone.save_snapshot("four", "").unwrap();
    alone.commit().wait().unwrap();
    assert_eq!(snapshots.len().wait().unwrap(), 5);
    assert_sound(&store);
}

#[test]
fn a_transaction_too_large_for_the_log_saves_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = tiny().transaction_bytes(64 << 10);
    let store = options.create(&path).unwrap();
    store.snapshots().save("before").wait().unwrap();
    for (round, name) in ["one", "two", "before"].into_iter().enumerate() {
        let mut transaction = store.begin().wait().unwrap();
        for number in 0..3000u32 {
            let key = (number * 7919 % 3000).to_be_bytes();
            transaction.put(key, [round as u8; 30]).wait().unwrap();
        }
        transaction.save_snapshot(name, "large").unwrap();
        let committed = transaction.commit().wait();
        match name {
            "before" => {
                let error = committed.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            }
            name => {
                let info = store.snapshots().get(name).wait().unwrap().unwrap();
                assert_eq!(info.sequence, committed.unwrap());
            }
        }
    }
    assert_eq!(store.get([0; 4]).wait().unwrap().unwrap(), [1; 30]);
    // A save that nothing follows, and one in a transaction that only saves, but much.
    let mut transaction = store.begin().wait().unwrap();
    for number in 0..2000 {
        let name = format!("many/{number:04}");
        transaction.save_snapshot(name, [7; 40]).unwrap();
    }
    transaction.commit().wait().unwrap();
    assert_sound(&store);
    for _ in 0..2 {
        assert_eq!(store.snapshots().len().wait().unwrap(), 2003);
    }
    drop(store);
    let store = options.open(&path).unwrap();
    assert_eq!(store.snapshots().len().wait().unwrap(), 2003);
    let first = names(store.snapshots().range(.."many/0002"));
    assert_eq!(first, ["before", "many/0000", "many/0001"]);
    assert_sound(&store);
}

#[test]
fn lists_go_from_both_ends_and_stay_as_they_were() {
    let store = tiny()
        .open_disk(MemoryDisk::new().with_segment_bytes(64 << 10))
        .unwrap();
    let snapshots = store.snapshots();
    for number in 0..50 {
        snapshots
            .save(format!("{:02}", number * 3 % 50))
            .wait()
            .unwrap();
        if number % 9 == 0 {
            store.checkpoint().wait().unwrap();
        }
    }
    let expected: Vec<_> = (0..50).map(|number| format!("{number:02}")).collect();
    let mut list = snapshots.list();
    let by_time = snapshots.by_time(..);
    snapshots.delete_range("10".."40").wait().unwrap();
    store.checkpoint().wait().unwrap();
    let mut found = (Vec::new(), Vec::new());
    while let Some(info) = list.next() {
        found.0.push(info.unwrap().name);
        if let Some(info) = list.next_back() {
            found.1.push(info.unwrap().name);
        }
    }
    found.0.extend(found.1.into_iter().rev());
    assert!(
        found
            .0
            .iter()
            .eq(expected.iter().map(|name| name.as_bytes()))
    );
    let in_order = (0..50).map(|number| format!("{:02}", number * 3 % 50));
    let mut streamed: Vec<_> = block_on_stream(by_time).map(|info| info.unwrap()).collect();
    streamed.sort_by_key(|info| info.sequence);
    let streamed = streamed.into_iter().map(|info| info.name);
    assert!(streamed.eq(in_order.map(String::into_bytes)));
    assert_eq!(snapshots.len().wait().unwrap(), 20);
    let last = snapshots.range("05".."12").next_back().unwrap().unwrap();
    assert_eq!(last.name, b"09");
    let error = snapshots.list().next_info().now_or_never();
    assert!(error.is_some(), "what is in memory is there at once");
}

#[test]
fn times_are_bounds_to_the_millisecond() {
    let store = Store::in_memory().unwrap();
    let snapshots = store.snapshots();
    for name in ["a", "b", "c"] {
        snapshots.save(name).wait().unwrap();
        thread::sleep(Duration::from_millis(3));
    }
    let time = |name: &str| snapshots.get(name).wait().unwrap().unwrap().time;
    let (a, b, c) = (time("a"), time("b"), time("c"));
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(names(snapshots.by_time(b..)), ["b", "c"]);
    assert_eq!(names(snapshots.by_time(a..c)), ["a", "b"]);
    assert_eq!(names(snapshots.by_time(a..=c)), ["a", "b", "c"]);
    assert_eq!(names(snapshots.by_time(..=b)), ["a", "b"]);
    assert_eq!(names(snapshots.by_time(..b)), ["a"]);
    assert_eq!(names(snapshots.by_time(a + nanosecond..)), ["b", "c"]);
    assert_eq!(names(snapshots.by_time(..b + nanosecond)), ["a", "b"]);
    assert_eq!(names(snapshots.by_time(..b - nanosecond)), ["a"]);
    assert!(names(snapshots.by_time(..SystemTime::UNIX_EPOCH)).is_empty());
    let newest = snapshots.by_time(SystemTime::UNIX_EPOCH..).next_back();
    assert_eq!(newest.unwrap().unwrap().name, b"c");
}

#[test]
fn names_and_bytes_have_limits() {
    let store = Store::in_memory().unwrap();
    let snapshots = store.snapshots();
    let longest = [255u8; 1024];
    snapshots.save_with(longest, longest).wait().unwrap();
    for (name, bytes) in [(&[][..], &[][..]), (&[1; 1025], &[]), (b"a", &[1; 1025])] {
        let error = snapshots.save_with(name, bytes).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let mut transaction = store.begin().wait().unwrap();
        let error = transaction.save_snapshot(name, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    store.checkpoint().wait().unwrap();
    let info = snapshots.get(longest).wait().unwrap().unwrap();
    assert_eq!(info.bytes, longest);
    assert_sound(&store);
    // Leaves that take little.
    for (inline_bytes_max, most) in [(64, Some(40)), (24, Some(0)), (16, None)] {
        let mut settings = Settings::tiny();
        settings.inline_bytes_max = inline_bytes_max;
        let options = Options::new().settings(settings);
        let store = options.open_disk(MemoryDisk::new()).unwrap();
        let save = |length: usize| store.snapshots().save_with("name", vec![0; length]).wait();
        match most {
            Some(most) => {
                save(most + 1).unwrap_err();
                save(most).unwrap();
            }
            None => drop(save(0).unwrap_err()),
        }
        store.checkpoint().wait().unwrap();
        assert_sound(&store);
    }
}

#[test]
fn a_save_that_nobody_waits_for_happens_or_not_and_keeps_nobody() {
    let store = Store::in_memory().unwrap();
    let snapshots = store.snapshots();
    for round in 0..50 {
        let name = format!("{round}");
        {
            let mut saving = Box::pin(snapshots.save(&name));
            let mut context = Context::from_waker(Waker::noop());
            let _ = saving.poll_unpin(&mut context);
        }
        let again = snapshots.save(&name).wait();
        if let Err(error) = again {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        assert!(snapshots.get(&name).wait().unwrap().is_some());
        assert!(snapshots.delete(&name).wait().unwrap());
    }
}

#[test]
fn compaction_moves_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let options = tiny();
    let store = options.create(&path).unwrap();
    for number in 0..300u32 {
        store.put(number.to_be_bytes(), [1; 60]).wait().unwrap();
        store
            .snapshots()
            .save(format!("{number:03}"))
            .wait()
            .unwrap();
    }
    store.delete_range(..).wait().unwrap();
    store.snapshots().delete_range("100"..).wait().unwrap();
    store.compact().wait().unwrap();
    assert_eq!(store.snapshots().len().wait().unwrap(), 100);
    assert_sound(&store);
    drop(store);
    let store = options.open(&path).unwrap();
    assert_eq!(store.snapshots().len().wait().unwrap(), 100);
    assert_sound(&store);
}

/// Saves, lists and deletes so many.
fn many(path: &Path, count: u64) {
    let mut settings = Settings::default();
    settings.log_chunk_bytes = 64 << 10;
    let options = Options::new()
        .settings(settings)
        .checkpoint_log_bytes(1 << 20);
    let store = options.create(path).unwrap();
    let deferred = store.with_durability(Durability::Deferred);
    for number in 0..count {
        let name = format!("{:016x}", number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        deferred.snapshots().save(name).wait().unwrap();
    }
    let snapshots = store.snapshots();
    assert_eq!(snapshots.len().wait().unwrap(), count);
    drop((snapshots, deferred));
    store.close().wait().unwrap();
    let store = options.open(path).unwrap();
    let snapshots = store.snapshots();
    // Neither opening nor finding one looks at all of them.
    let read = store.stats().disk.read_bytes;
    assert!(read < 1 << 20, "{read} bytes were read to open it");
    assert_eq!(snapshots.len().wait().unwrap(), count);
    let mut last = Vec::new();
    let mut counted = 0;
    for info in snapshots.list() {
        let name = info.unwrap().name;
        assert!(last < name);
        last = name;
        counted += 1;
    }
    assert_eq!(counted, count);
    assert_eq!(
        snapshots.delete_range("8"..).wait().unwrap() + snapshots.len().wait().unwrap(),
        count
    );
    assert_sound(&store);
}

#[test]
fn many_names_are_nothing_special() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::env::var("THUNDERHEAD_NAMES");
    let count = count.map_or(20_000, |count| count.parse().unwrap());
    many(&folder.path().join("store"), count);
}
