//! What differs between two versions: applied to one, it gives the other, whatever shape they have.

#[path = "fixtures/append.rs"]
mod append;

use std::collections::BTreeMap;
use std::ops::Bound;

use append::Append;
use fastrand::Rng;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{
    Difference, ErrorKind, Maintenance, Options, Prefix, Result, Snapshot, Store, ValueKind,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(settings: Settings) -> Options {
    Options::new()
        .settings(settings)
        .journal_bytes(700)
        .cache_bytes(1 << 20)
        .maintenance(Maintenance::Caller)
        .merge_operator(Append)
}

fn tiny() -> Store {
    let disk = MemoryDisk::new().with_segment_bytes(256 << 10);
    options(Settings::tiny()).open_disk(disk).unwrap()
}

fn maintain(store: &Store) {
    while store.maintain().wait().unwrap() {}
}

/// Applies what differs to a map, and checks that it was as told.
fn applied(old: &Map, differences: impl Iterator<Item = Result<Difference>>) -> Map {
    let mut map = old.clone();
    for difference in differences {
        let difference = difference.unwrap();
        let load = |value: &thunderhead::StoredValue| value.load().wait().unwrap().to_vec();
        let was = match &difference {
            Difference::Added { key, new } => map.insert(key.clone(), load(new)),
            Difference::Changed { key, new, .. } => map.insert(key.clone(), load(new)),
            Difference::Removed { key, .. } => map.remove(key),
        };
        assert_eq!(was, difference.old().map(load));
        assert_ne!(was.as_deref(), difference.new().map(load).as_deref());
    }
    map
}

/// Ascending keys that are near each other.
fn key(number: usize) -> Vec<u8> {
    format!("k{number:03}").into_bytes()
}

/// Does something at random to a store and to a map.
fn change(store: &Store, map: &mut Map, random: &mut Rng) {
    let number = random.usize(..80);
    match random.u8(..24) {
        0..8 => {
            // Some values are out of the tree, and some are what was there before.
            let value = vec![random.u8(..3); [0, 3, 9, 40, 1500][random.usize(..5)]];
            store.put(key(number), &value).wait().unwrap();
            map.insert(key(number), value);
        }
        8..12 => {
            store.delete(key(number)).wait().unwrap();
            map.remove(&key(number));
        }
        12..15 => {
            store
                .merge(key(number), "append", [random.u8(..)])
                .wait()
                .unwrap();
            // What it gives is the operator's own doing.
            let value = store.get(key(number)).wait().unwrap().unwrap().to_vec();
            map.insert(key(number), value);
        }
        15 => {
            let end = key(number + random.usize(..20));
            store.delete_range(key(number)..end.clone()).wait().unwrap();
            map.retain(|it, _| *it < key(number) || *it >= end);
        }
        16 if random.u8(..8) == 0 => {
            store.delete_range(..).wait().unwrap();
            map.clear();
        }
        17 => store.checkpoint().wait().unwrap(),
        18 if random.bool() => drop(store.compact().wait().unwrap()),
        19 => {
            // A transaction that is so large that it goes into the tree by itself.
            let mut transaction = store.begin().wait().unwrap();
            for _ in 0..random.usize(1..30) {
                let number = random.usize(..80);
                transaction.put(key(number), [5; 30]).wait().unwrap();
                map.insert(key(number), vec![5; 30]);
            }
            transaction.commit().wait().unwrap();
        }
        _ => drop(store.maintain().wait().unwrap()),
    }
}

#[test]
fn a_difference_applied_to_the_old_version_gives_the_new_one() {
    for seed in 0..25 {
        let mut random = Rng::with_seed(seed);
        let store = tiny();
        let mut map = Map::new();
        let mut versions: Vec<(Snapshot, Map)> = Vec::new();
        for _ in 0..120 {
            for _ in 0..random.usize(..12) {
                change(&store, &mut map, &mut random);
            }
            if versions.len() > 5 {
                versions.swap_remove(random.usize(..versions.len()));
            }
            versions.push((store.snapshot(), map.clone()));
            let any = |random: &mut Rng| random.usize(..versions.len());
            let (old, new) = (&versions[any(&mut random)], &versions[any(&mut random)]);
            let forward = applied(&old.1, old.0.diff(&new.0).unwrap());
            assert!(forward == new.1, "seed {seed}, forward");
            let backward = applied(&old.1, old.0.diff(&new.0).unwrap().rev());
            assert!(backward == new.1, "seed {seed}, backward");
            let (low, high) = (key(random.usize(..80)), key(random.usize(..80)));
            let inside = old.0.diff_range(&new.0, &low..&high).unwrap();
            let keys: Vec<_> = inside.map(|it| it.unwrap().key().to_vec()).collect();
            let all = old
                .0
                .diff(&new.0)
                .unwrap()
                .map(|it| it.unwrap().key().to_vec());
            let expected: Vec<_> = all.filter(|key| low <= *key && *key < high).collect();
            assert_eq!(keys, expected, "seed {seed}: a range");
        }
    }
}

#[test]
fn equal_content_in_different_shape_does_not_differ() {
    for seed in 0..20 {
        let mut random = Rng::with_seed(seed);
        let store = tiny();
        let mut map = Map::new();
        for _ in 0..200 {
            change(&store, &mut map, &mut random);
        }
        let before = store.snapshot();
        // All of it is taken away and comes again, in another order.
        store.delete_range(..).wait().unwrap();
        if random.bool() {
            store.compact().wait().unwrap();
        }
        let mut entries: Vec<_> = map.iter().collect();
        random.shuffle(&mut entries);
        for (key, value) in entries {
            store.put(key, value).wait().unwrap();
            if random.u8(..10) == 0 {
                maintain(&store);
            }
        }
        for _ in 0..2 {
            let after = store.snapshot();
            assert!(before.is_same(&after).wait().unwrap(), "seed {seed}");
            assert!(after.is_same(&before).wait().unwrap(), "seed {seed}");
            assert_eq!(before.diff(&after).unwrap().rev().count(), 0, "seed {seed}");
            store.compact().wait().unwrap();
        }
    }
}

#[test]
fn what_was_removed_with_the_last_entry_of_a_node_is_told() {
    // Whole nodes go, one after the other, and what is left of the tree was there before.
    for (low, high) in [(20, 40), (0, 20), (60, 80), (0, 79)] {
        let store = tiny();
        for number in 0..80 {
            store.put(key(number), "v").wait().unwrap();
        }
        store.compact().wait().unwrap();
        let before = store.snapshot();
        for number in low..high {
            store.delete(key(number)).wait().unwrap();
        }
        for _ in 0..3 {
            let after = store.snapshot();
            let gone = before.diff(&after).unwrap();
            let gone: Vec<_> = gone.map(|it| it.unwrap().key().to_vec()).collect();
            assert_eq!(gone, (low..high).map(key).collect::<Vec<_>>());
            store.compact().wait().unwrap();
            // What is beside it is made anew.
            let beside = if low == 0 { high } else { 0 };
            store.put(key(beside), "v").wait().unwrap();
        }
    }
}

#[test]
fn large_values_are_the_same_if_their_bytes_are() {
    let store = Store::in_memory().unwrap();
    let large: Vec<u8> = (0..3_000_000u32).map(|at| (at / 7) as u8).collect();
    store.put("large", &large).wait().unwrap();
    store.put("small", "1").wait().unwrap();
    let before = store.snapshot();
    store.put("large", &large).wait().unwrap();
    store.checkpoint().wait().unwrap();
    let after = store.snapshot();
    assert!(before.is_same(&after).wait().unwrap());
    // Unread, one that was written anew may have changed.
    let unread = before.diff(&after).unwrap().without_reading();
    let unread: Vec<_> = unread.collect::<Result<_>>().unwrap();
    assert_eq!(unread.len(), 1);
    assert_eq!(unread[0].old().unwrap().length().wait().unwrap(), 3_000_000);
    assert_eq!(unread[0].old().unwrap().at_hand(), None);
    // The same value beside a change is not read.
    store.put("small", "2").wait().unwrap();
    store.checkpoint().wait().unwrap();
    let changed = after.diff(&store.snapshot()).unwrap().without_reading();
    assert_eq!(changed.total().wait().unwrap(), 1);

    store.write_at("large", 2_000_000, b"x").wait().unwrap();
    let newest = store.snapshot();
    let mut differences = after.diff_range(&newest, "large"..="large").unwrap();
    let Some(Difference::Changed { old, new, .. }) = differences.next_difference().wait().unwrap()
    else {
        panic!("a part of a value was changed");
    };
    let mut read = Vec::new();
    let mut reader = new.reader().wait().unwrap().unwrap();
    std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
    assert_eq!(read[2_000_000], b'x');
    assert!(old.load().wait().unwrap() == large);
}

#[test]
fn references_are_compared_as_they_are() {
    let store = Store::in_memory().unwrap();
    store.put("a", "1").wait().unwrap();
    store.put("b", "1").wait().unwrap();
    store.put_reference("r", "a").wait().unwrap();
    let before = store.snapshot();
    store.put_reference("r", "a").wait().unwrap();
    store.put("a", "2").wait().unwrap();
    let after = store.snapshot();
    let mut differences = before.diff(&after).unwrap();
    assert_eq!(differences.next().unwrap().unwrap().key(), b"a");
    assert!(
        differences.next().is_none(),
        "what it leads to is another key"
    );
    store.put_reference("r", "b").wait().unwrap();
    let mut differences = after.diff(&store.snapshot()).unwrap();
    let Some(Ok(Difference::Changed { old, new, .. })) = differences.next() else {
        panic!("another reference is a difference");
    };
    assert_eq!(old.reference(), Some(ValueKind::Reference(b"a")));
    assert_eq!(
        new.load().wait().unwrap().kind(),
        ValueKind::Reference(b"b")
    );
}

#[test]
fn subtrees_differ_in_what_is_in_them() {
    let store = Store::in_memory().unwrap();
    let before = store.snapshot();
    store.put("a/1", "x").wait().unwrap();
    store.put("b/1", "y").wait().unwrap();
    store.put("b/2", "z").wait().unwrap();
    let after = store.snapshot();
    let keys = |differences: thunderhead::Differences| -> Vec<Vec<u8>> {
        differences.map(|it| it.unwrap().key().to_vec()).collect()
    };
    let within = before.subtree("b/").diff(&after.subtree("b/")).unwrap();
    assert_eq!(keys(within), [b"1", b"2"]);
    let prefixed = before.diff_range(&after, Prefix("b/")).unwrap();
    assert_eq!(keys(prefixed), [b"b/1", b"b/2"]);
    let excluded = (Bound::Excluded("a/1"), Bound::Included("b/1"));
    assert_eq!(keys(before.diff_range(&after, excluded).unwrap()), [b"b/1"]);

    let error = before.subtree("a/").diff(&after.subtree("b/")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let other = Store::in_memory().unwrap().snapshot();
    let error = before.diff(&other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn differences_are_a_stream_and_outlive_the_store() {
    let store = tiny();
    let before = store.snapshot();
    for number in 0..50 {
        store.put(key(number), vec![1; number]).wait().unwrap();
    }
    let differences = before.diff(&store.snapshot()).unwrap();
    drop((store, before));
    let keys = futures::StreamExt::map(differences, |it| it.unwrap().key().to_vec());
    let keys = futures::StreamExt::collect::<Vec<_>>(keys);
    let keys = futures::executor::block_on(keys);
    assert_eq!(keys, (0..50).map(key).collect::<Vec<_>>());
}

#[test]
fn both_ends_meet_and_give_nothing_twice() {
    let store = tiny();
    for number in 0..60 {
        store.put(key(number), "old").wait().unwrap();
    }
    store.compact().wait().unwrap();
    let before = store.snapshot();
    for number in (0..60).step_by(2) {
        store.put(key(number), "new").wait().unwrap();
    }
    for seed in 0..50 {
        let mut random = Rng::with_seed(seed);
        if seed == 25 {
            store.compact().wait().unwrap();
        }
        let mut differences = before.diff(&store.snapshot()).unwrap();
        let mut found = Vec::new();
        loop {
            let next = match random.bool() {
                true => differences.next(),
                false => differences.next_back(),
            };
            let Some(next) = next else { break };
            found.push(next.unwrap().key().to_vec());
        }
        assert!(differences.next().is_none() && differences.next_back().is_none());
        found.sort();
        let expected: Vec<_> = (0..60).step_by(2).map(key).collect();
        assert_eq!(found, expected, "seed {seed}");
    }
}

#[test]
fn versions_of_different_lines_differ_in_what_was_changed_since_they_parted() {
    for seed in 0..30 {
        let mut random = Rng::with_seed(seed);
        let store = tiny();
        let mut map = Map::new();
        let mut versions: Vec<(Snapshot, Map)> = Vec::new();
        let mut names: Vec<(String, Map)> = Vec::new();
        let mut branches = Vec::new();
        for step in 0..60 {
            for _ in 0..random.usize(..6) {
                change(&store, &mut map, &mut random);
            }
            let name = format!("name {step}");
            match random.u8(..8) {
                0 | 1 => {
                    store.snapshots().save(&name).wait().unwrap();
                    names.push((name, map.clone()));
                }
                2 if !names.is_empty() => {
                    let (other, content) = names[random.usize(..names.len())].clone();
                    store.snapshots().restore(&other, &name).wait().unwrap();
                    names.push((name, map));
                    map = content;
                }
                3 if !names.is_empty() && branches.len() < 3 => {
                    let (other, content) = names[random.usize(..names.len())].clone();
                    let branch = store.branches().create(&name, &other).wait().unwrap();
                    branches.push((branch, content));
                }
                4 | 5 if !branches.is_empty() => {
                    let at = random.usize(..branches.len());
                    let (branch, content) = &mut branches[at];
                    let mut transaction = branch.begin().wait().unwrap();
                    for _ in 0..random.usize(1..8) {
                        let (number, value) = (random.usize(..80), vec![random.u8(..3); 20]);
                        transaction.put(key(number), &value).wait().unwrap();
                        content.insert(key(number), value);
                    }
                    transaction.commit().wait().unwrap();
                    versions.push((branch.snapshot().wait().unwrap(), content.clone()));
                }
                6 if !names.is_empty() => {
                    let (name, content) = &names[random.usize(..names.len())];
                    let named = store.snapshots().open(name).wait().unwrap();
                    versions.push((named, content.clone()));
                }
                _ => versions.push((store.snapshot(), map.clone())),
            }
            if versions.len() > 6 {
                versions.swap_remove(random.usize(..versions.len()));
            }
            let newest = (store.snapshot(), map.clone());
            let any = |random: &mut Rng| match random.usize(..=versions.len()) {
                0 => &newest,
                held => &versions[held - 1],
            };
            let (old, new) = (any(&mut random), any(&mut random));
            let found = applied(&old.1, old.0.diff(&new.0).unwrap());
            assert!(found == new.1, "seed {seed}, step {step}");
            let backward = applied(&new.1, new.0.diff(&old.0).unwrap().rev());
            assert!(backward == old.1, "seed {seed}, step {step}, backward");
        }
    }
}
