//! Bytes as calls of a store with nodes of three slots, compared with a map.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{Durability, Maintenance, Options};

fuzz_target!(|bytes: &[u8]| {
    let disk = MemoryDisk::new().with_segment_bytes(256 << 10);
    let options = Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .durability(Durability::Buffered)
        .journal_bytes(256)
        .checkpoint_log_bytes(4 << 10)
        .cache_bytes(1 << 20);
    let mut store = options.open_disk(disk.clone()).expect("an empty disk");
    let mut map: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut snapshot = (store.snapshot(), map.clone());
    let mut bytes = bytes.iter().copied();
    while let Some(operation) = bytes.next() {
        let (first, second) = (bytes.next().unwrap_or(0), bytes.next().unwrap_or(0));
        // Keys of one to three bytes, many of them prefixes of others.
        let key = |number: u8| vec![number & 7; 1 + usize::from(number >> 6)];
        let (low, high) = (key(first), key(second));
        match operation % 12 {
            0..=3 => {
                let length = usize::from(second) * if operation & 64 == 0 { 1 } else { 9 };
                let value = vec![operation; length];
                store.put(&low, &value).wait().expect("room");
                map.insert(low, value);
            }
            4 | 5 => {
                store.delete(&low).wait().expect("room");
                map.remove(&low);
            }
            6 => {
                let range = low.as_slice()..high.as_slice();
                store.delete_range(range).wait().expect("room");
                map.retain(|key, _| *key < low || *key >= high);
            }
            7 => {
                let _ = store.maintain().wait().expect("no damage");
            }
            8 => {
                let found = store.get(&low).wait().expect("no damage");
                assert_eq!(found.as_deref(), map.get(&low).map(Vec::as_slice));
                let count = store.count(low.as_slice()..).wait().expect("no damage");
                assert_eq!(count, map.range(low..).count() as u64);
            }
            9 => {
                let mut transaction = store.begin().wait().expect("an open store");
                transaction.put(&high, "written").wait().expect("room");
                let range = ..low.as_slice();
                transaction.delete_range(range).wait().expect("room");
                if operation & 64 == 0 {
                    transaction.commit().wait().expect("room");
                    map.insert(high, b"written".to_vec());
                    map.retain(|key, _| *key >= low);
                }
            }
            10 => {
                let (taken, content) =
                    std::mem::replace(&mut snapshot, (store.snapshot(), map.clone()));
                same(taken.iter(), &content);
            }
            _ => {
                same(snapshot.0.iter(), &snapshot.1);
                match operation & 64 {
                    0 => drop(store),
                    _ => store.close().wait().expect("no damage"),
                }
                store = options.open_disk(disk.clone()).expect("no damage");
                snapshot = (store.snapshot(), map.clone());
            }
        }
    }
    same(snapshot.0.iter(), &snapshot.1);
    same(store.iter(), &map);
    assert_eq!(store.len().wait().expect("no damage"), map.len() as u64);
});

fn same(found: thunderhead::Range<'_>, map: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut expected = map.iter();
    for entry in found {
        let (key, value) = entry.expect("no damage");
        assert_eq!(Some((&key, &value.to_vec())), expected.next());
    }
    assert!(expected.next().is_none());
}
