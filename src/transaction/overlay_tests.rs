//! The overlay against a list of operations searched from its end.

use std::collections::BTreeSet;

use super::*;
use crate::format::record::USER_TREE;

const NEWEST: SequenceNumber = SequenceNumber(u64::MAX);

pub(in crate::transaction) fn random_key(random: &mut fastrand::Rng) -> Vec<u8> {
    let length = if random.u8(..4) == 0 {
        random.usize(..14)
    } else {
        random.usize(..4)
    };
    (0..length)
        .map(|_| [0, b'a', 255][random.usize(..3)])
        .collect()
}

/// Performs an operation and returns its key.
pub(in crate::transaction) fn random_operation(
    random: &mut fastrand::Rng,
    prefix: &[u8],
    overlay: &mut Overlay,
) -> Vec<u8> {
    let mut key = || [prefix, &random_key(random)].concat();
    let (key, other) = (key(), key());
    let value = random.u32(..).to_le_bytes();
    match random.u8(..60) {
        0 => overlay.delete_range(&key, None),
        1 | 2 => overlay.delete_range(&key, Some(&other)),
        3..10 => overlay.delete(&key),
        10..20 => overlay.merge(&key, &value),
        20..30 => overlay
            .put_reserved(&key, value.len())
            .copy_from_slice(&value),
        30 => overlay.put(&key, Tag::Inline, &vec![value[0]; random.usize(..9000)]),
        31..35 => overlay.put(&key, Tag::Reference, &value),
        _ => overlay.put(&key, Tag::Inline, &value),
    }
    key
}

type Operation = (Tag, Vec<u8>, Vec<u8>);

fn read(buffers: &[Bytes], tree: u64) -> Vec<Operation> {
    let mut operations = Vec::new();
    for buffer in buffers {
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let (record, taken) = Record::read(rest).unwrap();
            assert_eq!(record.tree, tree);
            operations.push((record.tag, record.key.to_vec(), record.payload.to_vec()));
            rest = &rest[taken..];
        }
    }
    operations
}

/// What decides about a key, newest first, and whether older layers are hidden.
fn expected(operations: &[Operation], key: &[u8]) -> (Vec<(Tag, Vec<u8>)>, bool) {
    let mut found = Vec::new();
    for (tag, of, payload) in operations.iter().rev() {
        if *tag == Tag::DeleteRange {
            let end = crate::format::record::read_range_end(payload).unwrap();
            if &of[..] <= key && end.is_none_or(|end| key < end) {
                return (found, true);
            }
        } else if of == key {
            found.push((*tag, payload.clone()));
            if *tag != Tag::Merge {
                return (found, true);
            }
        }
    }
    (found, false)
}

fn simple(found: &Found<'_>, outcome: Outcome) -> (Vec<(Tag, Vec<u8>)>, bool) {
    assert!(found.is_sorted_by(|newer, older| newer.stamp > older.stamp));
    let entries = found
        .iter()
        .map(|entry| (entry.tag, entry.payload.to_vec()));
    (entries.collect(), outcome == Outcome::Ends)
}

/// All operations so far, by an overlay that replays the same random numbers and is never read.
fn replay(seed: u64, count: usize) -> Vec<Operation> {
    let mut overlay = Overlay::new(USER_TREE);
    for number in 0..count {
        let mut random = fastrand::Rng::with_seed(seed * 10_000 + number as u64);
        random_operation(&mut random, b"", &mut overlay);
    }
    read(&overlay.into_buffers(), USER_TREE)
}

#[test]
fn an_overlay_answers_as_its_operations_read_backwards_do() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let count = [20, 300][random.usize(..2)];
        // Seldom or often, so that there are small and large steps to catch up with.
        let pause = [3, 60][random.usize(..2)];
        let all = replay(seed, count);
        assert_eq!(all.len(), count);
        let mut overlay = Overlay::new(USER_TREE);
        let mut keys = BTreeSet::new();
        for number in 0..count {
            let mut operation = fastrand::Rng::with_seed(seed * 10_000 + number as u64);
            keys.insert(random_operation(&mut operation, b"", &mut overlay));
            let so_far = &all[..=number];
            assert_eq!(overlay.operations(), so_far.len());
            if random.u8(..pause) == 0 {
                for _ in 0..4 {
                    let key = random_key(&mut random);
                    let mut found = Found::new();
                    let outcome = overlay.lookup(&key, &mut found);
                    assert_eq!(simple(&found, outcome), expected(so_far, &key));
                }
            }
            if random.u8(..pause) == 0 {
                let journal = overlay.journal();
                let points = so_far
                    .iter()
                    .filter(|operation| operation.0 != Tag::DeleteRange);
                let names: BTreeSet<_> = points.map(|operation| &operation.1[..]).collect();
                let walk = std::iter::successors(journal.first(), |&at| journal.next_key(at));
                assert!(
                    walk.map(|at| journal.entry(at).key)
                        .eq(names.iter().copied())
                );
                for key in names {
                    let mut found = Found::new();
                    let outcome = journal.lookup(key, NEWEST, &mut found);
                    assert_eq!(simple(&found, outcome), expected(so_far, key));
                }
            }
        }
        for key in &keys {
            let mut found = Found::new();
            let outcome = overlay.lookup(key, &mut found);
            assert_eq!(simple(&found, outcome), expected(&all, key));
        }
        let ranges = all.iter().any(|operation| operation.0 == Tag::DeleteRange);
        assert_eq!(overlay.has_range_deletes(), ranges);
        assert!(overlay.memory_bytes() >= overlay.bytes());
        let bytes = overlay.bytes();
        let buffers = overlay.into_buffers();
        assert_eq!(buffers.iter().map(Bytes::len).sum::<usize>(), bytes);
        assert_eq!(read(&buffers, USER_TREE), all);
    }
}

#[test]
fn a_small_transaction_is_one_buffer_of_its_size() {
    let mut overlay = Overlay::new(7);
    assert!(overlay.is_empty());
    assert_eq!(overlay.lookup(b"a", &mut Found::new()), Outcome::Continue);
    overlay.put(b"a", Tag::Inline, b"1");
    assert_eq!(overlay.memory_bytes(), CHUNK_BYTES_AT_FIRST);
    assert_eq!(overlay.one_piece().map(<[u8]>::len), Some(overlay.bytes()));
    overlay.journal();
    assert_eq!(overlay.one_piece().map(<[u8]>::len), Some(overlay.bytes()));
    overlay.delete(b"b");
    assert_eq!(overlay.one_piece(), None);
    overlay.journal();
    overlay.put_reserved(b"c", 0);
    let buffers = overlay.into_buffers();
    assert_eq!(buffers.len(), 1);
    let operations = read(&buffers, 7);
    assert_eq!(operations[1], (Tag::Delete, b"b".to_vec(), Vec::new()));
    assert_eq!(operations[2], (Tag::Inline, b"c".to_vec(), Vec::new()));
    assert!(Overlay::new(7).into_buffers().is_empty());
}

#[test]
fn a_large_transaction_is_few_buffers_and_a_large_record_is_whole() {
    let mut overlay = Overlay::new(USER_TREE);
    for number in 0..20_000u32 {
        overlay.put(&number.to_be_bytes(), Tag::Inline, &[7; 150]);
    }
    overlay.put_reserved(b"large", 3 << 20).fill(9);
    overlay.delete(b"after");
    let buffers = overlay.into_buffers();
    assert!(buffers.len() < 20, "{}", buffers.len());
    let operations = read(&buffers, USER_TREE);
    assert_eq!(operations.len(), 20_002);
    let large = (Tag::Inline, b"large".to_vec(), vec![9; 3 << 20]);
    assert!(operations[20_000] == large);
}

#[test]
fn keys_ascend_until_one_does_not_whatever_was_taken_between() {
    let ascending = || {
        let mut overlay = Overlay::new(USER_TREE);
        overlay.put(b"b", Tag::Inline, b"1");
        overlay.delete(b"c");
        let taken = overlay.take();
        assert!(taken.ascends() && overlay.is_empty() && overlay.ascends());
        overlay.merge(b"d", b"2");
        assert!(overlay.ascends());
        overlay
    };
    let breaks: [fn(&mut Overlay); 4] = [
        |overlay| overlay.put(b"a", Tag::Inline, b""),
        |overlay| overlay.delete(b"d"),
        |overlay| overlay.delete_range(b"e", None),
        |overlay| overlay.put_reserved(b"", 1).fill(1),
    ];
    for breaks in breaks {
        let mut overlay = ascending();
        breaks(&mut overlay);
        assert!(!overlay.ascends());
        overlay.take();
        overlay.put(b"z", Tag::Inline, b"");
        assert!(!overlay.ascends(), "it was broken before");
    }
}

#[test]
fn memory_is_used_again_unless_somebody_reads_it() {
    let value = vec![7; 100 << 10];
    let fill = |overlay: &mut Overlay| {
        for number in 0..60u32 {
            overlay.put(&number.to_be_bytes(), Tag::Inline, &value);
        }
    };
    let mut overlay = Overlay::new(USER_TREE);
    fill(&mut overlay);
    let done = overlay.take();
    overlay.reuse(done);
    let spare = overlay.arena.spare.len();
    assert!(spare >= 3, "{spare} chunks");
    fill(&mut overlay);
    assert!(overlay.arena.spare.is_empty());
    let keys: Vec<_> = overlay.records().map(|record| record.key).collect();
    assert_eq!(keys.len(), 60);
    assert!(overlay.records().all(|record| record.payload == value));
    let mut done = overlay.take();
    let reader = Arc::clone(done.journal());
    overlay.reuse(done);
    assert!(overlay.arena.spare.is_empty());
    assert!(reader.first().is_some());
}

#[test]
fn what_is_rolled_back_is_forgotten_however_it_was_indexed() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut overlay = Overlay::new(USER_TREE);
        // The seeds of the operations that it should have, and how many they were at each mark.
        let (mut kept, mut marks) = (Vec::new(), Vec::new());
        let looks = random.u8(1..4);
        for step in 0..250 {
            match random.u8(..16) {
                0 | 1 => marks.push((overlay.mark(), kept.len())),
                2 if !marks.is_empty() => {
                    marks.truncate(random.usize(..marks.len()) + 1);
                    let (mark, count) = &marks[marks.len() - 1];
                    overlay.roll_back(mark);
                    kept.truncate(*count);
                }
                3..6 => {
                    let mut only = Overlay::new(USER_TREE);
                    for number in &kept {
                        let mut random = fastrand::Rng::with_seed(*number);
                        random_operation(&mut random, b"", &mut only);
                    }
                    let operations = read(&only.into_buffers(), USER_TREE);
                    assert_eq!(overlay.operations(), operations.len());
                    let key = random_key(&mut random);
                    let expected = expected(&operations, &key);
                    if looks & 1 != 0 {
                        let mut found = Found::new();
                        let outcome = overlay.lookup(&key, &mut found);
                        assert_eq!(simple(&found, outcome), expected);
                    }
                    if looks & 2 != 0 {
                        let mut found = Found::new();
                        let outcome = overlay.journal().lookup(&key, NEWEST, &mut found);
                        assert_eq!(simple(&found, outcome), expected);
                    }
                }
                _ => {
                    let number = seed * 1000 + step;
                    let mut random = fastrand::Rng::with_seed(number);
                    random_operation(&mut random, b"", &mut overlay);
                    kept.push(number);
                }
            }
        }
    }
}
