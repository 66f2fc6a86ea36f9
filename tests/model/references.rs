//! References against a map that holds them as what they are: random writes of all kinds, by a store,
//! a view of it, batches and transactions, and every way of reading, raw and following, each error
//! with its chain.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Bound;

use fastrand::Rng;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{
    Batch, Durability, ErrorKind, Maintenance, Options, Result, Snapshot, Store, Transaction,
    Value, ValueKind,
};

use crate::append::Append;

const VIEW: &[u8] = b"v/";

/// What a key has.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Held {
    Bytes(Vec<u8>),
    Reference(Vec<u8>),
    /// Operands over a reference, put together.
    Over(Vec<u8>, Vec<u8>),
}

type Map = BTreeMap<Vec<u8>, Held>;

/// A value, or the chain of keys that led to none.
type Read = std::result::Result<Option<Vec<u8>>, Vec<Vec<u8>>>;

/// What reading a key by name gives in a view.
fn read(map: &Map, view: &[u8], key: &[u8]) -> Read {
    let mut chain = vec![key.to_vec()];
    let mut operands = Vec::new();
    loop {
        let target = match map.get(&chain[chain.len() - 1]) {
            None if chain.len() == 1 => return Ok(None),
            None => return Err(chain),
            Some(Held::Bytes(bytes)) => {
                operands.push(bytes.clone());
                operands.reverse();
                return Ok(Some(operands.concat()));
            }
            Some(Held::Reference(target)) => target,
            Some(Held::Over(target, over)) => {
                operands.push(over.clone());
                target
            }
        };
        let broken = chain.contains(target) || chain.len() > 16 || !target.starts_with(view);
        chain.push(target.clone());
        if broken {
            return Err(chain);
        }
    }
}

/// A change of one key or of some.
#[derive(Clone, Debug)]
enum Write {
    Put(Vec<u8>, Vec<u8>),
    Refer(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
}

impl Write {
    fn random(random: &mut Rng, keys: &[Vec<u8>]) -> Self {
        let pick = |random: &mut Rng| keys[random.usize(..keys.len())].clone();
        let key = pick(random);
        match random.u32(..20) {
            0..5 => {
                let length = [0, 3, 20, 65, 700, 3000][random.usize(..6)];
                Self::Put(key, vec![random.u8(..); length])
            }
            5..13 => Self::Refer(key, pick(random)),
            13..16 => Self::Delete(key),
            16 => {
                let other = pick(random);
                Self::DeleteRange(key.clone().min(other.clone()), key.max(other))
            }
            _ => Self::Merge(key, vec![random.u8(..); random.usize(..5)]),
        }
    }

    /// The keys are those of a view; the map has whole ones.
    fn apply(&self, map: &mut Map, view: &[u8]) {
        let full = |key: &Vec<u8>| [view, key].concat();
        match self {
            Self::Put(key, bytes) => drop(map.insert(full(key), Held::Bytes(bytes.clone()))),
            Self::Refer(key, target) => {
                map.insert(full(key), Held::Reference(full(target)));
            }
            Self::Delete(key) => drop(map.remove(&full(key))),
            Self::DeleteRange(low, high) => {
                let (low, high) = (full(low), full(high));
                map.retain(|key, _| *key < low || *key >= high);
            }
            Self::Merge(key, operand) => {
                let after = match map.remove(&full(key)) {
                    None => Held::Bytes(operand.clone()),
                    Some(Held::Bytes(bytes)) => Held::Bytes([&bytes[..], operand].concat()),
                    Some(Held::Reference(target)) => Held::Over(target, operand.clone()),
                    Some(Held::Over(target, over)) => {
                        Held::Over(target, [&over[..], operand].concat())
                    }
                };
                map.insert(full(key), after);
            }
        }
    }
}

trait Writes {
    fn write(&mut self, write: &Write) -> Result<()>;
}

macro_rules! writes {
    ($($type:ty),*) => {$(
        impl Writes for $type {
            fn write(&mut self, write: &Write) -> Result<()> {
                match write {
                    Write::Put(key, bytes) => self.put(key, bytes).wait().map(drop),
                    Write::Refer(key, target) => self.put_reference(key, target).wait().map(drop),
                    Write::Delete(key) => self.delete(key).wait().map(drop),
                    Write::DeleteRange(low, high) => {
                        self.delete_range(low.as_slice()..high.as_slice()).wait().map(drop)
                    }
                    Write::Merge(key, operand) => {
                        self.merge(key, "append", operand).wait().map(drop)
                    }
                }
            }
        }
    )*};
}

writes!(Store, Batch, Transaction);

/// An answer as the map would give it.
fn plain<T>(found: Result<T>) -> std::result::Result<T, Vec<Vec<u8>>> {
    found.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::BrokenReference, "{error}");
        assert!(!error.chain().is_empty());
        error.chain().to_vec()
    })
}

fn same<T: PartialEq + Debug>(found: T, expected: T, what: &str) {
    assert!(
        found == expected,
        "{what}: found {found:?}, not {expected:?}"
    );
}

fn kind_of(value: &Value, view: &[u8]) -> Held {
    match value.kind() {
        ValueKind::Bytes(bytes) => Held::Bytes(bytes.to_vec()),
        ValueKind::Reference(key) => Held::Reference([view, key].concat()),
        ValueKind::ReferenceOutside(key) => {
            assert!(!key.starts_with(view));
            Held::Reference(key.to_vec())
        }
        other => panic!("a new kind {other:?}"),
    }
}

macro_rules! checks {
    ($name:ident, $type:ty) => {
        /// Compares every way of reading with the map.
        fn $name(from: &$type, map: &Map, view: &[u8], keys: &[Vec<u8>], random: &mut Rng) {
            for key in keys {
                let expected = read(map, view, &[view, key].concat());
                let found = plain(from.get(key).wait());
                same(
                    found.map(|value| value.map(|value| value.to_vec())),
                    expected.clone(),
                    "get",
                );
                let found = plain(from.get_with(key, <[u8]>::to_vec).wait());
                same(found, expected.clone(), "get_with");
                let found = plain(from.contains_key(key).wait());
                let there = expected.as_ref().map(Option::is_some);
                same(found, there.map_err(Clone::clone), "contains_key");
                let found = plain(from.value_length(key).wait());
                let length = expected.clone();
                let length = length.map(|value| value.map(|value| value.len() as u64));
                same(found, length, "value_length");
                let (offset, length) = (random.usize(..70), random.usize(..900));
                let found = plain(from.get_part(key, offset as u64, length).wait());
                let part = expected.map(|value| {
                    value.map(|value| {
                        let start = offset.min(value.len());
                        value[start..(start + length).min(value.len())].to_vec()
                    })
                });
                same(
                    found.map(|value| value.map(|value| value.to_vec())),
                    part,
                    "get_part",
                );
            }
            let own: Vec<(Vec<u8>, Held)> = map
                .range((Bound::Included(view.to_vec()), Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(view))
                .map(|(key, held)| (key.clone(), held.clone()))
                .collect();
            same(from.len().wait().unwrap(), own.len() as u64, "len");
            let mut cursor = from.cursor();
            for (key, held) in &own {
                assert!(cursor.next().wait().unwrap());
                let expected = read(map, view, key);
                let found = plain(cursor.value().wait().map(|value| value.map(<[u8]>::to_vec)));
                same(found, expected.clone(), "value of a cursor");
                let expected = match held {
                    Held::Reference(target) => Ok(Some(target.clone())),
                    _ => expected,
                };
                let found = plain(cursor.kind().wait()).map(|kind| match kind {
                    Some(ValueKind::Bytes(bytes)) => Some(bytes.to_vec()),
                    Some(ValueKind::Reference(key)) => Some([view, key].concat()),
                    Some(ValueKind::ReferenceOutside(key)) => Some(key.to_vec()),
                    other => panic!("{other:?}"),
                });
                same(found, expected, "kind at a cursor");
            }
            for (following, backward) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let mut range = match following {
                    true => from.iter().following(),
                    false => from.iter(),
                };
                let mut entries = own.clone();
                if backward {
                    entries.reverse();
                }
                for (key, held) in entries {
                    let expected = match held {
                        Held::Over(..) => read(map, view, &key).map(|bytes| bytes.map(Held::Bytes)),
                        _ if following => read(map, view, &key).map(|bytes| bytes.map(Held::Bytes)),
                        held => Ok(Some(held)),
                    };
                    let found = match backward {
                        false => plain(range.next_entry().wait()),
                        true => plain(range.next_back_entry().wait()),
                    };
                    let stop = expected.is_err();
                    let found = found.map(|entry| {
                        entry.map(|(found, value)| {
                            assert_eq!([view, &found].concat(), key);
                            kind_of(&value, view)
                        })
                    });
                    let what = format!("range of {}", key.escape_ascii());
                    same(found, expected, &what);
                    if stop {
                        break;
                    }
                }
            }
        }
    };
}

checks!(check_store, Store);
checks!(check_snapshot, Snapshot);
checks!(check_transaction, Transaction);

/// What reads by name and writes: the reference goes, what it gave comes back.
fn modify(transaction: &mut Transaction, map: &mut Map, view: &[u8], key: &[u8], random: &mut Rng) {
    let full = [view, key].concat();
    let expected = read(map, view, &full);
    let bytes =
        |found: Result<Option<Value>>| plain(found).map(|value| value.map(|value| value.to_vec()));
    match random.u32(..4) {
        0 => {
            let found = bytes(transaction.insert(key, "inserted").wait());
            same(found, expected.clone(), "insert");
            if expected.is_ok() {
                map.insert(full, Held::Bytes(b"inserted".to_vec()));
            }
        }
        1 => {
            let found = bytes(transaction.remove(key).wait());
            same(found, expected.clone(), "remove");
            if expected.is_ok() {
                map.remove(&full);
            }
        }
        2 => {
            let found = bytes(transaction.put_if_absent(key, "new").wait());
            same(found, expected.clone(), "put_if_absent");
            if expected == Ok(None) {
                map.insert(full, Held::Bytes(b"new".to_vec()));
            }
        }
        _ => {
            let longer = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"+"].concat());
            let found = bytes(transaction.update(key, longer).wait());
            let expected = expected.map(|old| longer(old.as_deref()));
            same(found, expected.clone(), "update");
            if let Ok(Some(after)) = expected {
                map.insert(full, Held::Bytes(after));
            }
        }
    }
}

fn play(seed: u64, settings: Settings, maintenance: Maintenance) {
    let mut random = Rng::with_seed(seed);
    let keys: Vec<Vec<u8>> = (0..random.usize(3..20))
        .map(|number| format!("k{number}").into_bytes())
        .collect();
    // In the whole store the keys of the view have its prefix.
    let in_view: Vec<Vec<u8>> = keys.iter().map(|key| [VIEW, key].concat()).collect();
    let all: Vec<Vec<u8>> = keys.iter().chain(&in_view).cloned().collect();
    let options = Options::new()
        .settings(settings)
        .maintenance(maintenance)
        .journal_bytes([300, 3000][random.usize(..2)])
        .merge_operator(Append);
    let disk = MemoryDisk::new();
    let open = || options.clone().open_disk(disk.clone()).unwrap();
    let mut store = open();
    let mut map = Map::new();
    let mut snapshots: Vec<(Snapshot, Map)> = Vec::new();
    for _ in 0..120 {
        let narrow = random.bool();
        let (view, names) = match narrow {
            true => (VIEW, &keys),
            false => (&b""[..], &all),
        };
        let mut of = store
            .subtree(view)
            .with_durability([Durability::Immediate, Durability::Deferred][random.usize(..2)]);
        match random.u32(..20) {
            0..10 => {
                let write = Write::random(&mut random, names);
                of.write(&write).unwrap();
                write.apply(&mut map, view);
            }
            10..12 => {
                let mut batch = of.batch();
                for _ in 0..random.usize(..8) {
                    let write = Write::random(&mut random, names);
                    batch.write(&write).unwrap();
                    write.apply(&mut map, view);
                }
                batch.commit().wait().unwrap();
            }
            12..15 => {
                let mut transaction = of.begin().wait().unwrap();
                let mut own = map.clone();
                for _ in 0..random.usize(..8) {
                    match random.bool() {
                        true => {
                            let write = Write::random(&mut random, names);
                            transaction.write(&write).unwrap();
                            write.apply(&mut own, view);
                        }
                        false => {
                            let key = &names[random.usize(..names.len())];
                            modify(&mut transaction, &mut own, view, key, &mut random);
                        }
                    }
                }
                check_transaction(&transaction, &own, view, names, &mut random);
                if random.u8(..4) > 0 {
                    transaction.commit().wait().unwrap();
                    map = own;
                }
            }
            15 if snapshots.len() < 4 => snapshots.push((store.snapshot(), map.clone())),
            15 | 16 => {
                for (snapshot, map) in snapshots.drain(..) {
                    check_snapshot(&snapshot, &map, b"", &all, &mut random);
                    let narrow = snapshot.subtree(VIEW);
                    check_snapshot(&narrow, &map, VIEW, &keys, &mut random);
                }
            }
            17 => store.checkpoint().wait().unwrap(),
            18 => while store.maintain().wait().unwrap() {},
            _ => {
                drop(of);
                snapshots.clear();
                match random.bool() {
                    true => store.close().wait().unwrap(),
                    false => drop(store),
                }
                store = open();
            }
        }
        check_store(&store, &map, b"", &all, &mut random);
        check_store(&store.subtree(VIEW), &map, VIEW, &keys, &mut random);
    }
    let mut broken = Vec::new();
    let summary = store
        .verify(|event| {
            if let thunderhead::inspect::Event::Finding(finding) = event {
                broken.push(finding.message.clone());
            }
            std::ops::ControlFlow::Continue(())
        })
        .wait()
        .unwrap();
    assert!(summary.is_sound(), "{broken:?}");
    let expected = map
        .keys()
        .filter(|key| read(&map, b"", key).is_err())
        .count();
    same(broken.len(), expected, "findings");
}

fn rounds(count: u64, settings: fn() -> Settings, maintenance: Maintenance) {
    let first = crate::from_environment("THUNDERHEAD_SEED");
    let count = count * crate::from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1);
    for seed in first.map_or(0..count, |seed| seed..seed + 1) {
        // Printed if it fails only.
        println!("references: THUNDERHEAD_SEED={seed}");
        play(seed, settings(), maintenance);
    }
}

#[test]
fn references_in_tiny_nodes_do_what_a_map_of_them_does() {
    rounds(100, Settings::tiny, Maintenance::Caller);
}

#[test]
fn references_beside_a_background_thread_do_what_a_map_of_them_does() {
    rounds(10, Settings::tiny, Maintenance::Background);
    rounds(3, Settings::default, Maintenance::Background);
}
