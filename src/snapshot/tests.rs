//! The tree, its journals and everything that reads them, against a `BTreeMap`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::cache::{FrameTable, pin};
use crate::disk::{Disk, MemoryDisk, block_on};
use crate::format::record::{Record, Tag, range_end_payload};
use crate::format::{Birth, PagePointer, SequenceNumber, Settings, StoreId};
use crate::space::{Space, Urgency};
use crate::tree::flush::Flush;
use crate::tree::frozen_batch;
use crate::tree::journal::Journal;
use crate::tree::merge::Operators;
use crate::tree::pages::Pages;
use crate::tree::testing::Append;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

struct Fixture {
    pages: Arc<Pages>,
    root: PagePointer,
    birth: Birth,
    sequence: u64,
    map: Map,
    random: fastrand::Rng,
    keys: Vec<Vec<u8>>,
}

fn keys(random: &mut fastrand::Rng, count: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut key = vec![0; random.usize(0..8)];
            key.iter_mut()
                .for_each(|byte| *byte = b"abc\0\xff"[random.usize(0..5)]);
            if random.usize(0..20) == 0 {
                key.resize(random.usize(8..400), b'x');
            }
            key
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

impl Fixture {
    fn new(seed: u64, settings: Settings, key_count: usize) -> Self {
        let disk = Disk::new(MemoryDisk::new()).unwrap();
        let mut operators = Operators::default();
        operators.register(Arc::new(Append)).unwrap();
        let space = Space::new(disk.properties());
        let mut random = fastrand::Rng::with_seed(seed);
        Self {
            pages: Arc::new(Pages {
                disk,
                frames: FrameTable::new(64 << 20),
                space,
                store: StoreId([1; 16]),
                settings,
                operators,
                readahead: Default::default(),
                compression: Default::default(),
            }),
            root: PagePointer::NOTHING,
            birth: Birth(0),
            sequence: 0,
            map: Map::new(),
            keys: keys(&mut random, key_count),
            random,
        }
    }

    fn key(&mut self) -> Vec<u8> {
        self.keys[self.random.usize(0..self.keys.len())].clone()
    }

    /// Some random operations, as one commit, in a journal and in the map.
    fn commit(&mut self, journal: &Journal, operations: usize) {
        let mut records = Vec::new();
        for _ in 0..operations {
            let key = self.key();
            let mut put = |tag, payload: &[u8]| {
                Record {
                    tag,
                    tree: 0,
                    key: &key,
                    payload,
                }
                .append_to(&mut records);
            };
            match self.random.usize(0..20) {
                0..=9 => {
                    let mut value = vec![0; self.random.usize(0..40)];
                    self.random.fill(&mut value);
                    put(Tag::Inline, &value);
                    self.map.insert(key, value);
                }
                10..=14 => {
                    put(Tag::Delete, &[]);
                    self.map.remove(&key);
                }
                15..=18 => {
                    let operand = [self.random.u8(..)];
                    put(
                        Tag::Merge,
                        &self.pages.operators.chain_of("append", &operand).unwrap(),
                    );
                    self.map.entry(key).or_default().extend_from_slice(&operand);
                }
                _ => {
                    let end = self.key();
                    let end = (self.random.usize(0..8) > 0).then_some(end);
                    if end.as_ref().is_some_and(|end| *end <= key) {
                        continue;
                    }
                    put(Tag::DeleteRange, &range_end_payload(end.as_deref()));
                    self.map
                        .retain(|k, _| *k < key || end.as_ref().is_some_and(|end| k >= end));
                }
            }
        }
        self.sequence += 1;
        journal
            .append(Bytes::from(records), 0, SequenceNumber(self.sequence))
            .unwrap();
    }

    fn flush(&mut self, journal: &Journal, settle: bool) {
        self.birth = Birth(self.birth.0 + 1);
        let operators = &self.pages.operators;
        let bound = SequenceNumber(u64::MAX);
        let batch = frozen_batch(journal, bound, operators, &mut |_| {});
        let mut flush = Flush::new(&self.pages, self.birth, Urgency::Ordinary);
        if settle {
            flush = flush.settling(usize::MAX);
        }
        let outcome = flush.run(&self.root, batch).unwrap();
        self.root = outcome.root;
    }

    fn version(&self, journals: Vec<Arc<Journal>>) -> Arc<Version> {
        let through = SequenceNumber(self.sequence);
        Version::new(
            Arc::clone(&self.pages),
            self.root,
            self.birth,
            journals,
            through,
        )
    }
}

fn value_of(version: &Arc<Version>, key: &[u8], tag: Tag, payload: &[u8]) -> Vec<u8> {
    block_on(load_value(version.pages(), key, tag, payload))
        .unwrap()
        .to_vec()
}

fn get(version: &Arc<Version>, key: &[u8]) -> Option<Vec<u8>> {
    let guard = pin();
    match lookup(version, SequenceNumber(u64::MAX), key, &guard).unwrap() {
        Lookup::Absent => None,
        Lookup::Stored(tag, payload) => Some(value_of(version, key, tag, payload)),
        Lookup::Folded(tag, payload) => Some(value_of(version, key, tag, &payload)),
        Lookup::Need(..) => panic!("everything is in memory"),
    }
}

fn walk(version: &Arc<Version>, direction: Direction, start: Start) -> Vec<(Vec<u8>, Vec<u8>)> {
    let over = Layered::whole(Arc::clone(version));
    let mut cursor = Cursor::new(direction, start);
    let mut out = Vec::new();
    loop {
        match cursor.step(&over).unwrap() {
            Stop::Entry => {
                let (tag, payload) = cursor.stored(&over);
                out.push((
                    cursor.key().to_vec(),
                    value_of(version, cursor.key(), tag, payload),
                ));
            }
            Stop::End => return out,
            Stop::Need(..) => panic!("everything is in memory"),
        }
    }
}

fn check(fixture: &mut Fixture, version: &Arc<Version>, context: &str) {
    let map = fixture.map.clone();
    for key in fixture.keys.clone() {
        assert_eq!(
            get(version, &key),
            map.get(&key).cloned(),
            "{context} key {key:?}"
        );
    }
    let all: Vec<_> = map.clone().into_iter().collect();
    assert_eq!(
        walk(version, Direction::Forward, Start::Outermost),
        all,
        "{context}"
    );
    let mut reversed = all.clone();
    reversed.reverse();
    assert_eq!(
        walk(version, Direction::Backward, Start::Outermost),
        reversed,
        "{context}"
    );
    let key = fixture.key();
    let from: Vec<_> = map
        .range(key.clone()..)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(
        walk(version, Direction::Forward, Start::At(key.clone())),
        from,
        "{context}"
    );
    let past = (Bound::Excluded(key.clone()), Bound::Unbounded);
    let from: Vec<_> = map
        .range::<Vec<u8>, _>(past)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(
        walk(version, Direction::Forward, Start::Past(key.clone())),
        from,
        "{context}"
    );
    let below: Vec<_> = map
        .range(..key.clone())
        .rev()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(
        walk(version, Direction::Backward, Start::Past(key.clone())),
        below,
        "{context}"
    );
    let below: Vec<_> = map
        .range(..=key.clone())
        .rev()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    assert_eq!(
        walk(version, Direction::Backward, Start::At(key)),
        below,
        "{context}"
    );

    let layers = Layered::whole(Arc::clone(version)).layers();
    let layers: Arc<[_]> = layers.into_iter().collect();
    let total = block_on(count(Arc::clone(version), Arc::clone(&layers), (&[], None))).unwrap();
    assert_eq!(total, map.len() as u64, "{context}");
    for _ in 0..4 {
        let (a, b) = (fixture.key(), fixture.key());
        let (low, end) = (a.clone().min(b.clone()), a.max(b));
        let expected = map.range(low.clone()..end.clone()).count() as u64;
        let range = (low.as_slice(), Some(end.as_slice()));
        let counted = block_on(count(Arc::clone(version), Arc::clone(&layers), range)).unwrap();
        assert_eq!(counted, expected, "{context} count {low:?} {end:?}");
        if total > 0 {
            let rank = fixture.random.u64(0..total + 1);
            let found = block_on(nth(
                Arc::clone(version),
                Arc::clone(&layers),
                (&[], None),
                rank,
            ))
            .unwrap();
            let entry = found.and_then(|(from, skip)| {
                walk(version, Direction::Forward, Start::At(from))
                    .into_iter()
                    .nth(skip as usize)
            });
            assert_eq!(
                entry,
                all.get(rank as usize).cloned(),
                "{context} rank {rank}"
            );
        }
    }
}

fn run(seed: u64, settings: Settings, key_count: usize, rounds: usize, operations: usize) {
    let mut fixture = Fixture::new(seed, settings, key_count);
    for round in 0..rounds {
        let context = format!("seed {seed} round {round}");
        let frozen = Arc::new(Journal::new(1000));
        for _ in 0..fixture.random.usize(1..4) {
            let operations = fixture.random.usize(1..=operations);
            fixture.commit(&frozen, operations);
        }
        // With the journal in front, then with everything in the tree.
        let version = fixture.version(vec![Arc::clone(&frozen)]);
        check(
            &mut fixture,
            &version,
            &format!("{context} before the flush"),
        );
        let settle = fixture.random.usize(0..10) == 0;
        fixture.flush(&frozen, settle);
        let version = fixture.version(Vec::new());
        check(
            &mut fixture,
            &version,
            &format!("{context} after the flush, settled: {settle}"),
        );
        if settle {
            assert_eq!(fixture.root.unresolved, 0, "{context}");
            assert_eq!(fixture.root.entries, fixture.map.len() as u64, "{context}");
        }
    }
}

#[test]
fn tiny_nodes_agree_with_a_map() {
    for seed in 0..30 {
        run(seed, Settings::tiny(), 60, 25, 8);
    }
}

#[test]
fn tiny_nodes_with_large_batches_agree_with_a_map() {
    for seed in 100..110 {
        run(seed, Settings::tiny(), 400, 12, 150);
    }
}

#[test]
fn larger_nodes_agree_with_a_map() {
    for seed in 200..206 {
        let settings = Settings {
            page_bytes: 1024,
            leaf_slots_max: 16,
            children_max: 6,
            slice_slots_max: 16,
            slice_bytes: 600,
            push_bytes: 300,
            journal_bytes_max: 1500,
            runs_max: 3,
            ..Settings::tiny()
        };
        run(seed, settings, 600, 12, 200);
    }
}
