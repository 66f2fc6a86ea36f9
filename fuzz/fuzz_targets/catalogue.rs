//! Bytes as what is done to names of snapshots, compared with a map; and as entries of the system tree.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{Durability, ErrorKind, Maintenance, Options, Snapshots};

/// For each name the sequence, the bytes beside it, and the value of the one key.
type Names = BTreeMap<Vec<u8>, (u64, Vec<u8>, Option<Vec<u8>>)>;

fuzz_target!(|bytes: &[u8]| {
    thunderhead::fuzzing::name(bytes);
    let disk = MemoryDisk::new().with_segment_bytes(256 << 10);
    let options = Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .durability(Durability::Buffered)
        .journal_bytes(256)
        .checkpoint_log_bytes(4 << 10)
        .cache_bytes(1 << 20);
    let mut store = options.open_disk(disk.clone()).expect("an empty disk");
    let mut names = Names::new();
    let mut value: Option<Vec<u8>> = None;
    let mut bytes = bytes.iter().copied();
    while let Some(operation) = bytes.next() {
        let (first, second) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
        let name = |number: u8| vec![number & 7; 1 + usize::from(number >> 5)];
        let (one, other) = (name(first), name(second));
        let snapshots = store.snapshots();
        match operation % 10 {
            0..=2 => {
                let beside = vec![second; usize::from(second) % 41];
                let saved = snapshots.save_with(&one, &beside).wait();
                match names.contains_key(&one) {
                    true => refused(saved, ErrorKind::AlreadyExists),
                    false => {
                        let info = saved.expect("room");
                        names.insert(one, (info.sequence.0, beside, value.clone()));
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
                transaction.put("k", [second; 30]).wait().expect("room");
                transaction.save_snapshot(&one, "").expect("a name");
                let committed = transaction.commit().wait();
                match names.contains_key(&one) {
                    true => refused(committed, ErrorKind::AlreadyExists),
                    false => {
                        let sequence = committed.expect("room");
                        value = Some(vec![second; 30]);
                        names.insert(one, (sequence.0, Vec::new(), value.clone()));
                    }
                }
            }
            6 => {
                store.put("k", [first; 20]).wait().expect("room");
                store.put([first], [second; 20]).wait().expect("room");
                value = Some(vec![first; 20]);
            }
            7 => {
                let _ = store.maintain().wait().expect("no damage");
            }
            8 => same(&snapshots, &names),
            _ => {
                drop(snapshots);
                match operation & 64 {
                    0 => drop(store),
                    _ => store.close().wait().expect("no damage"),
                }
                store = options.open_disk(disk.clone()).expect("no damage");
            }
        }
    }
    same(&store.snapshots(), &names);
});

fn refused<T>(result: thunderhead::Result<T>, kind: ErrorKind) {
    assert!(result.is_err_and(|error| error.kind() == kind));
}

fn same(snapshots: &Snapshots, names: &Names) {
    let mut expected = names.iter();
    for info in snapshots.list() {
        let info = info.expect("no damage");
        let (name, (sequence, beside, value)) = expected.next().expect("no more names");
        assert_eq!((&info.name, &info.bytes), (name, beside));
        assert_eq!(info.sequence.0, *sequence);
        let snapshot = snapshots.open(name).wait().expect("a name that was listed");
        let found = snapshot.get("k").wait().expect("no damage");
        assert_eq!(found.as_deref(), value.as_deref());
    }
    assert!(expected.next().is_none());
    assert_eq!(snapshots.by_time(..).count(), names.len());
    let length = snapshots.len().wait().expect("no damage");
    assert_eq!(length, names.len() as u64);
}
