//! Bringing what was changed elsewhere into the newest version, and copies of subtrees.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fastrand::Rng;
use futures::stream;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::inspect::{Event, Severity};
use thunderhead::{
    Collision, Decision, Difference, Error, ErrorKind, Maintenance, Options, Prefix, Result,
    Snapshot, Store, StoredValue,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn tiny() -> Store {
    let options = Options::new()
        .settings(Settings::tiny())
        .journal_bytes(700)
        .cache_bytes(1 << 20)
        .maintenance(Maintenance::Caller);
    let disk = MemoryDisk::new().with_segment_bytes(256 << 10);
    options.open_disk(disk).unwrap()
}

fn entries(store: &Store) -> Map {
    let entries = store.iter().map(|entry| {
        let (key, value) = entry.unwrap();
        (key, value.to_vec())
    });
    entries.collect()
}

fn fill(store: &Store, map: &Map) {
    for (key, value) in map {
        store.put(key, value).wait().unwrap();
    }
}

fn some(random: &mut Rng) -> Vec<u8> {
    vec![random.u8(..3); [0, 2, 8, 900, 5000][random.usize(..5)]]
}

fn change(map: &mut Map, random: &mut Rng) {
    for _ in 0..random.usize(..30) {
        let key = vec![b'k', random.u8(..40)];
        match random.u8(..3) {
            0 => drop(map.remove(&key)),
            _ => drop(map.insert(key, some(random))),
        }
    }
}

/// Makes a store have what a map has, and no more is written than that takes.
fn become_map(store: &Store, map: &Map) {
    for key in entries(store).keys() {
        if !map.contains_key(key) {
            store.delete(key).wait().unwrap();
        }
    }
    for (key, value) in map {
        if store.get(key).wait().unwrap().as_deref() != Some(value) {
            store.put(key, value).wait().unwrap();
        }
    }
}

/// What comes of three maps, where the function decides about collisions.
fn reconciled(
    base: &Map,
    ours: &Map,
    theirs: &Map,
    decide: impl Fn(&[u8]) -> u8,
) -> (Map, [u64; 4]) {
    let mut keys: Vec<_> = base.keys().chain(theirs.keys()).collect();
    keys.sort();
    keys.dedup();
    let mut result = ours.clone();
    let [mut differences, mut applied, mut agreed, mut collisions] = [0; 4];
    for key in keys {
        let [base, ours, theirs] = [base, ours, theirs].map(|map| map.get(key));
        if base == theirs {
            continue;
        }
        differences += 1;
        let new = match (ours == theirs, ours == base) {
            (true, _) => {
                agreed += 1;
                continue;
            }
            (_, true) => theirs.cloned(),
            _ => {
                collisions += 1;
                match decide(key) {
                    0 => continue,
                    1 => theirs.cloned(),
                    2 => None,
                    _ => Some(b"decided".to_vec()),
                }
            }
        };
        applied += 1;
        match new {
            Some(value) => drop(result.insert(key.clone(), value)),
            None => drop(result.remove(key)),
        }
    }
    (result, [differences, applied, agreed, collisions])
}

async fn decide(collision: Collision) -> Result<Decision> {
    Ok(match collision.key[1] % 4 {
        0 => Decision::Ours,
        1 => Decision::Theirs,
        2 => Decision::Delete,
        _ => Decision::Put("decided".into()),
    })
}

#[test]
fn three_versions_come_to_what_three_maps_come_to() {
    for seed in 0..80 {
        let mut random = Rng::with_seed(seed);
        let store = tiny();
        let mut base_map = Map::new();
        for number in 0..40 {
            base_map.insert(vec![b'k', number], some(&mut random));
        }
        change(&mut base_map, &mut random);
        fill(&store, &base_map);
        let base = store.snapshot();
        // The line of theirs: here on the way to ours.
        let mut their_map = base_map.clone();
        change(&mut their_map, &mut random);
        become_map(&store, &their_map);
        let theirs = store.snapshot();
        if random.bool() {
            store.compact().wait().unwrap();
        }
        let mut our_map = base_map.clone();
        change(&mut our_map, &mut random);
        become_map(&store, &our_map);
        if random.bool() {
            store.checkpoint().wait().unwrap();
        }
        let done = store.reconcile(&base, &theirs, decide).wait().unwrap();
        let (expected, counts) = reconciled(&base_map, &our_map, &their_map, |key| key[1] % 4);
        assert!(entries(&store) == expected, "seed {seed}");
        let told = [done.differences, done.applied, done.agreed, done.collisions];
        assert_eq!(told, counts, "seed {seed}");
    }
}

#[test]
fn what_another_store_tells_is_taken_as_from_a_version_of_ones_own() {
    for seed in 0..30 {
        let mut random = Rng::with_seed(seed);
        let (here, there) = (tiny(), tiny());
        let mut base = Map::new();
        change(&mut base, &mut random);
        fill(&here, &base);
        fill(&there, &base);
        let met = there.snapshot();
        let (mut ours, mut theirs) = (base.clone(), base.clone());
        change(&mut ours, &mut random);
        change(&mut theirs, &mut random);
        become_map(&here, &ours);
        become_map(&there, &theirs);
        let now = there.snapshot();
        let (expected, _) = reconciled(&base, &ours, &theirs, |key| key[1] % 4);
        if random.bool() {
            // Its versions as they are.
            here.reconcile(&met, &now, decide).wait().unwrap();
        } else {
            let given = |value: Option<&StoredValue>| {
                value.map(|value| StoredValue::from(value.load().wait().unwrap().to_vec()))
            };
            let received = met.diff(&now).unwrap().map(|difference| {
                let difference = difference?;
                let key = difference.key().to_vec();
                Ok(match (given(difference.old()), given(difference.new())) {
                    (Some(old), Some(new)) => Difference::Changed { key, old, new },
                    (Some(old), None) => Difference::Removed { key, old },
                    (None, Some(new)) => Difference::Added { key, new },
                    (None, None) => unreachable!("a difference has a side"),
                })
            });
            let received: Vec<_> = received.collect();
            let mut transaction = here.begin().wait().unwrap();
            let received = stream::iter(received);
            transaction.reconcile(received, decide).wait().unwrap();
            transaction.commit().wait().unwrap();
        }
        assert!(entries(&here) == expected, "seed {seed}");
    }
}

fn three() -> (Store, Snapshot, Snapshot) {
    let store = Store::in_memory().unwrap();
    store.put("a", "base").wait().unwrap();
    store.put("b", "base").wait().unwrap();
    let base = store.snapshot();
    store.put("a", "theirs").wait().unwrap();
    store.put("b", "theirs").wait().unwrap();
    let theirs = store.snapshot();
    store.put("a", "base").wait().unwrap();
    store.put("b", "ours").wait().unwrap();
    (store, base, theirs)
}

#[test]
fn who_decides_sees_all_three_and_can_end_it() {
    let (store, base, theirs) = three();
    let before = entries(&store);
    let done = store.reconcile(&base, &theirs, |collision| async move {
        assert_eq!(collision.key, b"b");
        for (value, expected) in [
            (&collision.base, "base"),
            (&collision.ours, "ours"),
            (&collision.theirs, "theirs"),
        ] {
            let value = value.as_ref().expect("all three are there");
            assert_eq!(value.load().await?, expected);
        }
        Ok(Decision::Abort)
    });
    assert_eq!(done.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(entries(&store), before, "nothing was changed");

    let refuse = |_| async { Err(Error::new(ErrorKind::Io, "no idea")) };
    let done = store.reconcile(&base, &theirs, refuse);
    assert_eq!(done.wait().unwrap_err().kind(), ErrorKind::Io);

    let mut transaction = store.begin().wait().unwrap();
    let mut told = Vec::new();
    let done = transaction.reconcile_with(
        base.diff(&theirs).unwrap(),
        |_| async { Ok(Decision::Theirs) },
        |progress| {
            told.push(progress.differences);
            match progress.differences {
                1 => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        },
    );
    assert_eq!(done.wait().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(told, [1, 2]);
    drop(transaction);
    assert_eq!(entries(&store), before);
}

#[test]
fn a_key_that_was_read_and_is_changed_meanwhile_is_looked_at_again() {
    let (store, base, theirs) = three();
    let mut asked = 0;
    let done = store.reconcile(&base, &theirs, |collision| {
        asked += 1;
        let first = asked == 1;
        let store = &store;
        async move {
            if first {
                // Somebody else, in between.
                store.put("a", "ours, too").await?;
            }
            assert!(first || collision.ours.is_some());
            Ok(Decision::Theirs)
        }
    });
    let done = done.wait().unwrap();
    assert_eq!((done.collisions, done.applied), (2, 2));
    assert_eq!(asked, 3, "once before it was refused, then for both");
    assert_eq!(store.get("a").wait().unwrap().unwrap(), "theirs");
}

#[test]
fn references_are_reconciled_as_they_are() {
    let store = Store::in_memory().unwrap();
    store.put("x", "1").wait().unwrap();
    store.put("y", "2").wait().unwrap();
    store.put_reference("r", "x").wait().unwrap();
    let base = store.snapshot();
    store.put_reference("r", "y").wait().unwrap();
    let theirs = store.snapshot();
    store.put_reference("r", "x").wait().unwrap();
    store.put("x", "3").wait().unwrap();
    let done = store
        .reconcile(&base, &theirs, |_| async { Ok(Decision::Abort) })
        .wait()
        .unwrap();
    assert_eq!(done.applied, 1);
    assert_eq!(store.get("r").wait().unwrap().unwrap(), "2");
}

#[test]
fn more_than_the_memory_of_a_transaction_is_reconciled() {
    let options = Options::new().transaction_bytes(64 << 10);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let key = |number: u32| format!("{number:06}");
    let base = store.snapshot();
    let mut batch = store.batch();
    for number in 0..5_000 {
        batch.put(key(number), [7; 60]).wait().unwrap();
    }
    batch.put("large", vec![3; 3_000_000]).wait().unwrap();
    batch.commit().wait().unwrap();
    let theirs = store.snapshot();
    store.delete_range(..).wait().unwrap();
    let done = store
        .reconcile(&base, &theirs, |_| async { Ok(Decision::Abort) })
        .wait()
        .unwrap();
    assert_eq!(done.applied, 5_001);
    assert!(theirs.is_same(&store.snapshot()).wait().unwrap());
    assert_eq!(
        store.get("large").wait().unwrap().unwrap(),
        vec![3; 3_000_000]
    );
}

#[test]
fn a_clone_has_what_its_origin_has_and_goes_its_own_way() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let store = tiny();
        let (from, to) = (store.subtree("from/"), store.subtree("to/"));
        let mut map = Map::new();
        change(&mut map, &mut random);
        change(&mut map, &mut random);
        fill(&from, &map);
        to.put("was there before", "x").wait().unwrap();
        store.put("from0", "beside").wait().unwrap();
        if random.bool() {
            store.compact().wait().unwrap();
        }
        let cloned = store.clone_range("from/", "to/").wait().unwrap();
        assert_eq!(cloned, map.len() as u64);
        assert!(entries(&to) == map, "seed {seed}");
        from.delete_range(..).wait().unwrap();
        store.compact().wait().unwrap();
        assert!(entries(&to) == map, "seed {seed}: its origin is gone");
        assert_eq!(store.get("from0").wait().unwrap().unwrap(), "beside");
    }
}

#[test]
fn clones_of_more_than_memory_and_of_what_cannot_be_cloned() {
    let options = Options::new().transaction_bytes(64 << 10);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let mut batch = store.batch();
    for number in 0..3_000u32 {
        let value = vec![number as u8; [10, 60, 9_000][number as usize % 3]];
        batch.put(format!("a/{number:05}"), value).wait().unwrap();
    }
    batch.commit().wait().unwrap();
    store.put_reference("a/r", "a/00001").wait().unwrap();
    let cloned = store.clone_range("a/", "b/").wait().unwrap();
    assert_eq!(cloned, 3_001);
    assert_eq!(store.get("b/02999").wait().unwrap().unwrap().len(), 9_000);
    let reference = store.prefix("b/r").next().unwrap().unwrap().1;
    assert_eq!(reference, "a/00001", "it leads where it led");
    for (from, to) in [("a/", "a/b/"), ("a/b/", "a/"), ("", "b/"), ("a/", "a/")] {
        let refused = store.clone_range(from, to).wait().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(store.clone_range("none/", "b/").wait().unwrap(), 0);
    assert!(store.subtree("b/").is_empty().wait().unwrap());
}

fn checked(store: &Store) {
    let mut findings = Vec::new();
    let summary = store.verify(|event| {
        if let Event::Finding(finding) = event
            && finding.severity != Severity::Note
        {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    });
    assert!(summary.wait().unwrap().is_sound());
    assert!(findings.is_empty(), "{findings:#?}");
}

/// The bytes in use, once all that was dropped is free.
fn tree_bytes(store: &Store) -> u64 {
    for _ in 0..6 {
        store.put("another", "generation").wait().unwrap();
        store.checkpoint().wait().unwrap();
        while store.maintain().wait().unwrap() {}
    }
    checked(store);
    store.stats().tree_bytes
}

#[test]
fn clones_of_large_values_share_their_data_for_as_long_as_they_live() {
    const LARGE: usize = 3_000_000;
    const SLACK: u64 = 200_000;
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let large: Vec<u8> = (0..LARGE).map(|at| (at * at / 7) as u8).collect();
    store.put("a/large", &large).wait().unwrap();
    store.put("a/small", "small").wait().unwrap();
    let alone = tree_bytes(&store);
    let close_to = |expected: u64| {
        let found = tree_bytes(&store);
        assert!(found.abs_diff(expected) < SLACK, "{found}, not {expected}");
    };

    // A clone, a clone of the clone, and two at once.
    assert_eq!(store.clone_range("a/", "b/").wait().unwrap(), 2);
    assert_eq!(store.clone_range("b/", "c/").wait().unwrap(), 2);
    let mut transaction = store.begin().wait().unwrap();
    transaction.clone_range("a/", "d/").wait().unwrap();
    transaction.clone_range("d/", "e/").wait().unwrap();
    transaction.clone_range("a/", "f/").wait().unwrap();
    transaction.commit().wait().unwrap();
    close_to(alone);

    // Clones in one range of keys, which share with each other.
    store.clone_range("a/", "g/1/").wait().unwrap();
    store.clone_range("a/", "g/2/").wait().unwrap();
    assert_eq!(store.clone_range("g/", "h/").wait().unwrap(), 4);
    close_to(alone);
    for key in [
        "a/large",
        "b/large",
        "c/large",
        "e/large",
        "f/large",
        "h/2/large",
    ] {
        assert!(store.get(key).wait().unwrap().unwrap() == large, "{key}");
    }

    // One that is changed has what it changed; the others stay.
    store
        .write_at("c/large", 1_500_000, &[7; 1000])
        .wait()
        .unwrap();
    store.append_to("c/large", &[8; 1000]).wait().unwrap();
    close_to(alone);
    let snapshots = store.snapshots();
    snapshots.save("with all").wait().unwrap();
    for prefix in ["a/", "b/", "d/", "e/", "g/"] {
        store.delete_range(Prefix(prefix)).wait().unwrap();
    }
    close_to(alone);
    store.compact().wait().unwrap();
    close_to(alone);
    assert!(store.get("f/large").wait().unwrap().unwrap() == large);
    let kept = snapshots.open("with all").wait().unwrap();
    assert!(kept.get("a/large").wait().unwrap().unwrap() == large);
    drop(kept);
    snapshots.delete("with all").wait().unwrap();
    store.delete_range(Prefix("h/")).wait().unwrap();
    store.delete("f/large").wait().unwrap();
    let changed = store.get("c/large").wait().unwrap().unwrap();
    assert!(changed[..1_500_000] == large[..1_500_000] && changed.len() == LARGE + 1000);
    close_to(alone);
    store.delete("c/large").wait().unwrap();
    close_to(alone - LARGE as u64);
}

#[test]
fn a_transaction_that_shares_and_is_dropped_leaves_nothing() {
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    store.put("a/large", vec![1; 2_000_000]).wait().unwrap();
    let before = tree_bytes(&store);
    let mut transaction = store.begin().wait().unwrap();
    transaction.put("a/own", vec![2; 1_000_000]).wait().unwrap();
    assert_eq!(transaction.clone_range("a/", "b/").wait().unwrap(), 2);
    let read = transaction.get("b/own").wait().unwrap().unwrap();
    assert!(read == vec![2; 1_000_000]);
    let read = transaction.get("b/large").wait().unwrap().unwrap();
    assert!(read == vec![1; 2_000_000]);
    drop(transaction);
    assert_eq!(tree_bytes(&store), before);

    // What is cloned and replaced before the commit, and a move.
    let mut transaction = store.begin().wait().unwrap();
    transaction.clone_range("a/", "b/").wait().unwrap();
    transaction.delete_range(Prefix("a/")).wait().unwrap();
    transaction.clone_range("b/", "c/").wait().unwrap();
    transaction.put("b/large", "small").wait().unwrap();
    transaction.commit().wait().unwrap();
    assert!(store.get("a/large").wait().unwrap().is_none());
    assert!(store.get("c/large").wait().unwrap().unwrap() == vec![1; 2_000_000]);
    assert!(tree_bytes(&store).abs_diff(before) < 100_000);
}
