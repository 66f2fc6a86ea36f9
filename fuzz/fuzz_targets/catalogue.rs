//! Bytes as what is done to versions that are kept: names, branches, restored versions, clones; compared with
//! maps. Or as entries of the system tree, and as what somebody hostile did to those of a store.
#![no_main]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{Durability, ErrorKind, Maintenance, Options, Snapshot, Store, Transaction};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a store has; for each name the sequence, the bytes beside it, and the content.
#[derive(Default)]
struct Model {
    now: Map,
    names: BTreeMap<Vec<u8>, (u64, Vec<u8>, Map)>,
    branches: BTreeMap<Vec<u8>, Map>,
}

fuzz_target!(|bytes: &[u8]| {
    let Some((what, bytes)) = bytes.split_first() else {
        return;
    };
    match what % 4 {
        0 => thunderhead::fuzzing::name(bytes),
        1 => thunderhead::fuzzing::catalogue(bytes),
        _ => operations(bytes),
    }
});

fn operations(bytes: &[u8]) {
    let disk = MemoryDisk::new().with_segment_bytes(256 << 10);
    let options = Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .durability(Durability::Buffered)
        .journal_bytes(256)
        .checkpoint_log_bytes(4 << 10)
        .reserve_bytes(0)
        .cache_bytes(1 << 20);
    let mut store = options.open_disk(disk.clone()).expect("an empty disk");
    let mut model = Model::default();
    let mut bytes = bytes.iter().copied();
    while let Some(operation) = bytes.next() {
        let (first, second) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
        let name = |number: u8| vec![number & 7; 1 + usize::from(number >> 5)];
        let (one, other) = (name(first), name(second));
        let branch = vec![b'b', first & 1];
        let snapshots = store.snapshots();
        let branches = store.branches();
        let names = &mut model.names;
        match operation % 20 {
            0..=2 => {
                let beside = vec![second; usize::from(second) % 41];
                let saved = snapshots.save_with(&one, &beside).wait();
                match names.contains_key(&one) {
                    true => refused(saved, ErrorKind::AlreadyExists),
                    false => {
                        let info = saved.expect("room");
                        names.insert(one, (info.sequence.0, beside, model.now.clone()));
                    }
                }
            }
            3 => {
                let renamed = snapshots.rename(&one, &other).wait();
                match (names.contains_key(&one), names.contains_key(&other)) {
                    (false, _) => refused(renamed, ErrorKind::NotFound),
                    (true, true) => refused(renamed, ErrorKind::AlreadyExists),
                    (true, false) => {
                        renamed.expect("room");
                        let named = names.remove(&one);
                        names.extend(named.map(|named| (other, named)));
                    }
                }
            }
            4 => {
                let deleted = snapshots.delete(&one).wait().expect("room");
                assert_eq!(deleted, names.remove(&one).is_some());
            }
            5 => {
                let mut transaction = store.begin().wait().expect("an open store");
                let mut map = model.now.clone();
                put(&mut transaction, &mut map, first, second);
                transaction.save_snapshot(&one, "").expect("a name");
                let committed = transaction.commit().wait();
                match names.contains_key(&one) {
                    true => refused(committed, ErrorKind::AlreadyExists),
                    false => {
                        let sequence = committed.expect("room");
                        model.now.clone_from(&map);
                        names.insert(one, (sequence.0, Vec::new(), map));
                    }
                }
            }
            6 | 7 => {
                let mut transaction = store.begin().wait().expect("an open store");
                put(&mut transaction, &mut model.now, first, second);
                transaction.commit().wait().expect("room");
            }
            8 => {
                let (low, end) = ([first.min(second) & 7], [first.max(second) & 7]);
                let deleted = store.delete_range(&low[..]..&end[..]).wait();
                deleted.expect("room");
                let within = low.to_vec()..end.to_vec();
                model.now.retain(|key, _| !within.contains(key));
            }
            9 => {
                let mut transaction = store.begin().wait().expect("an open store");
                clone(&mut transaction, &mut model.now, first, second);
                transaction.commit().wait().expect("room");
            }
            10 | 11 => {
                let restored = snapshots.restore(&one, &other).wait();
                match (names.get(&one), names.contains_key(&other)) {
                    (None, _) => refused(restored, ErrorKind::NotFound),
                    (Some(_), true) => refused(restored, ErrorKind::AlreadyExists),
                    (Some((_, _, map)), false) => {
                        restored.expect("room");
                        let was = std::mem::replace(&mut model.now, map.clone());
                        let info = snapshots.get(&other).wait().expect("no damage");
                        let sequence = info.expect("it was just given").sequence.0;
                        names.insert(other, (sequence, Vec::new(), was));
                    }
                }
            }
            12 => {
                let created = branches.create(&branch, &other).wait();
                match (names.get(&other), model.branches.contains_key(&branch)) {
                    (_, true) => refused(created, ErrorKind::AlreadyExists),
                    (None, _) => refused(created, ErrorKind::NotFound),
                    (Some((_, _, map)), false) => {
                        created.expect("room");
                        model.branches.insert(branch, map.clone());
                    }
                }
            }
            13 | 14 => {
                let opened = branches.open(&branch).wait();
                let Some(map) = model.branches.get_mut(&branch) else {
                    refused(opened, ErrorKind::NotFound);
                    continue;
                };
                let opened = opened.expect("no damage");
                let mut transaction = opened.begin().wait().expect("room");
                match operation & 32 {
                    0 => put(&mut transaction, map, first, second),
                    _ => clone(&mut transaction, map, first, second),
                }
                transaction.commit().wait().expect("room");
            }
            15 => {
                if let Some(map) = model.branches.get(&branch) {
                    let opened = branches.open(&branch).wait().expect("no damage");
                    let saved = opened.save(&other).wait();
                    match names.contains_key(&other) {
                        true => refused(saved, ErrorKind::AlreadyExists),
                        false => {
                            let sequence = saved.expect("room").sequence.0;
                            names.insert(other, (sequence, Vec::new(), map.clone()));
                        }
                    }
                }
            }
            16 => {
                let deleted = branches.delete(&branch).wait().expect("room");
                assert_eq!(deleted, model.branches.remove(&branch).is_some());
            }
            17 => match operation & 96 {
                0 => drop(store.compact().wait().expect("no damage")),
                32 => store.checkpoint().wait().expect("no damage"),
                _ => drop(store.maintain().wait().expect("no damage")),
            },
            18 => same(&store, &model),
            _ => {
                drop((snapshots, branches));
                match operation & 64 {
                    0 => drop(store),
                    _ => store.close().wait().expect("no damage"),
                }
                store = options.open_disk(disk.clone()).expect("no damage");
            }
        }
    }
    same(&store, &model);
}

/// Values within leaves, of one block, and of more than are copied when they are cloned.
fn put(transaction: &mut Transaction, map: &mut Map, first: u8, second: u8) {
    let length = [20, 300, 900, 5_000][usize::from(second & 3)];
    let (key, value) = (vec![first & 7, second >> 5], vec![second; length]);
    transaction.put(&key, &value).wait().expect("room");
    map.insert(key, value);
}

fn clone(transaction: &mut Transaction, map: &mut Map, first: u8, second: u8) {
    let (from, to) = (first & 7, second & 7);
    let cloned = transaction.clone_range([from], [to]).wait();
    if from == to {
        return refused(cloned, ErrorKind::InvalidArgument);
    }
    map.retain(|key, _| key[0] != to);
    let of = map.iter().filter(|(key, _)| key[0] == from);
    let clones: Vec<_> = of
        .map(|(key, value)| ([&[to], &key[1..]].concat(), value.clone()))
        .collect();
    assert_eq!(cloned.expect("room"), clones.len() as u64);
    map.extend(clones);
}

fn refused<T>(result: thunderhead::Result<T>, kind: ErrorKind) {
    assert!(result.is_err_and(|error| error.kind() == kind));
}

fn content(snapshot: &Snapshot) -> Map {
    let entries = snapshot.iter().map(|entry| entry.expect("no damage"));
    entries.map(|(key, value)| (key, value.to_vec())).collect()
}

fn same(store: &Store, model: &Model) {
    let snapshots = store.snapshots();
    assert!(content(&store.snapshot()) == model.now);
    let mut expected = model.names.iter();
    for info in snapshots.list() {
        let info = info.expect("no damage");
        let (name, (sequence, beside, map)) = expected.next().expect("no more names");
        assert_eq!((&info.name, &info.bytes), (name, beside));
        assert_eq!(info.sequence.0, *sequence);
        let snapshot = snapshots.open(name).wait().expect("a name that was listed");
        assert!(content(&snapshot) == *map);
    }
    assert!(expected.next().is_none());
    assert_eq!(snapshots.by_time(..).count(), model.names.len());
    let length = snapshots.len().wait().expect("no damage");
    assert_eq!(length, model.names.len() as u64);
    let listed = store.branches().list().wait().expect("no damage");
    assert!(
        listed
            .iter()
            .map(|info| &info.name)
            .eq(model.branches.keys())
    );
    for (name, map) in &model.branches {
        let branch = store.branches().open(name).wait().expect("no damage");
        assert!(content(&branch.snapshot().wait().expect("no damage")) == *map);
    }
    store.checkpoint().wait().expect("no damage");
    let verified = store.verify(|_| ControlFlow::Continue(())).wait();
    let summary = verified.expect("no damage");
    assert!(summary.is_sound() && summary.leaks == 0);
}
