//! The journal against a sorted map of lists, and against readers beside its writer.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use super::*;
use crate::format::record::{USER_TREE, range_end_payload};

const NEWEST: SequenceNumber = SequenceNumber(u64::MAX);

fn buffer(records: &[(Tag, &[u8], &[u8])]) -> Bytes {
    let mut out = Vec::new();
    for &(tag, key, payload) in records {
        let tree = USER_TREE;
        Record {
            tag,
            tree,
            key,
            payload,
        }
        .append_to(&mut out);
    }
    out.into()
}

/// Sequence, stamp, tag, payload.
type Version = (u64, u64, Tag, Vec<u8>);

/// Low, end, sequence, stamp.
type Range = (Vec<u8>, Option<Vec<u8>>, u64, u64);

#[derive(Default)]
struct Model {
    points: BTreeMap<Vec<u8>, Vec<Version>>,
    ranges: Vec<Range>,
    stamp: u64,
}

impl Model {
    fn apply(&mut self, sequence: u64, tag: Tag, key: &[u8], payload: &[u8]) {
        self.stamp += 1;
        if tag == Tag::DeleteRange {
            let end = read_range_end(payload).unwrap().map(<[u8]>::to_vec);
            self.ranges.push((key.to_vec(), end, sequence, self.stamp));
        } else {
            let versions = self.points.entry(key.to_vec()).or_default();
            versions.insert(0, (sequence, self.stamp, tag, payload.to_vec()));
        }
    }

    fn visible(&self, key: &[u8], bound: u64) -> Vec<Version> {
        let versions = self.points.get(key).into_iter().flatten();
        versions
            .filter(|version| version.0 <= bound)
            .cloned()
            .collect()
    }

    fn covering(&self, key: &[u8], bound: u64) -> Option<u64> {
        let covers = |low: &[u8], end: &Option<Vec<u8>>| {
            low <= key && end.as_deref().is_none_or(|end| key < end)
        };
        let all = self.ranges.iter().filter(|range| range.2 <= bound);
        all.filter(|range| covers(&range.0, &range.1))
            .map(|range| range.3)
            .max()
    }
}

/// Few keys, many of them beginnings of each other, some equal for longer than a node's head.
fn random_key(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut key = match random.u8(..6) {
        0 => vec![0; random.usize(..30)],
        1 => b"a long beginning that many share"[..random.usize(..33)].to_vec(),
        _ => Vec::new(),
    };
    let rest = 0..random.usize(..4);
    key.extend(rest.map(|_| [0, 1, b'a', 255][random.usize(..4)]));
    key
}

fn version(entry: JournalEntry<'_>) -> Version {
    (
        entry.sequence.0,
        entry.stamp,
        entry.tag,
        entry.payload.to_vec(),
    )
}

fn check_key(journal: &Journal, model: &Model, key: &[u8], bound: u64) {
    let expected = model.visible(key, bound);
    let at = SequenceNumber(bound);
    let entries: Vec<_> = journal.entries_of(key, at).map(version).collect();
    assert_eq!(entries, expected);
    let covering = model.covering(key, bound);
    assert_eq!(journal.covering(key, at), covering);
    assert!(expected.is_empty() || journal.may_contain(hash_key(key)));

    let mut found = Found::new();
    let outcome = journal.lookup(key, at, &mut found);
    let mut decides = Vec::new();
    let mut ends = covering.is_some();
    for version in expected {
        if Some(version.1) < covering {
            break;
        }
        let tag = version.2;
        decides.push(version);
        if tag != Tag::Merge {
            ends = true;
            break;
        }
    }
    assert_eq!(found.into_iter().map(version).collect::<Vec<_>>(), decides);
    assert_eq!(outcome == Outcome::Ends, ends);
}

fn check_order(journal: &Journal, model: &Model, key: &[u8]) {
    let position_key = |position: Option<JournalPosition>| {
        position.map(|position| {
            let entry = journal.entry(position);
            let newest = &model.points[entry.key][0];
            assert_eq!(entry.stamp, newest.1, "seeks find the newest operation");
            entry.key.to_vec()
        })
    };
    let points = &model.points;
    let first = |from| points.range::<[u8], _>((from, Unbounded)).next();
    let last = |to| points.range::<[u8], _>((Unbounded, to)).next_back();
    let name = |entry: Option<(&Vec<u8>, _)>| entry.map(|(key, _)| key.clone());
    use std::ops::Bound::Included;
    assert_eq!(
        position_key(journal.seek_at_or_after(key)),
        name(first(Included(key)))
    );
    assert_eq!(
        position_key(journal.seek_after(key)),
        name(first(Excluded(key)))
    );
    assert_eq!(
        position_key(journal.seek_at_or_before(key)),
        name(last(Included(key)))
    );
    assert_eq!(
        position_key(journal.seek_before(key)),
        name(last(Excluded(key)))
    );
}

fn check_all(journal: &Journal, model: &Model) {
    let forward = std::iter::successors(journal.first(), |&at| journal.next_key(at));
    let keys: Vec<_> = forward.map(|at| journal.entry(at).key.to_vec()).collect();
    assert!(keys.iter().eq(model.points.keys()));
    let back = std::iter::successors(journal.last(), |&at| journal.previous_key(at));
    let keys: Vec<_> = back.map(|at| journal.entry(at).key.to_vec()).collect();
    assert!(keys.iter().eq(model.points.keys().rev()));
    let ranges: Vec<_> = (journal.range_deletes(NEWEST).into_iter())
        .map(|range| {
            let end = range.end.map(<[u8]>::to_vec);
            (range.low.to_vec(), end, range.sequence.0, range.stamp)
        })
        .collect();
    assert_eq!(ranges, model.ranges);
    assert_eq!(journal.has_range_deletes(), !model.ranges.is_empty());
    assert_eq!(journal.operations() as u64, model.stamp);
}

#[test]
fn a_journal_answers_as_a_map_of_lists_does() {
    for seed in 0..30 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let journal = Journal::new(random.usize(..2) * 100_000);
        let mut model = Model::default();
        let mut sequence = 0;
        for _ in 0..60 {
            sequence += 1;
            let count = if random.u8(..5) == 0 {
                random.usize(..120)
            } else {
                random.usize(..6)
            };
            let mut out = Vec::new();
            for _ in 0..count {
                let tag = match random.u8(..40) {
                    0 => Tag::DeleteRange,
                    1..10 => Tag::Merge,
                    10..16 => Tag::Delete,
                    _ => Tag::Inline,
                };
                let key = random_key(&mut random);
                let payload = match tag {
                    Tag::DeleteRange => {
                        let end = random.bool().then(|| random_key(&mut random));
                        range_end_payload(end.as_deref())
                    }
                    Tag::Delete => Vec::new(),
                    _ => random.u32(..).to_le_bytes().to_vec(),
                };
                let other = random.u8(..10) == 0;
                let tree = USER_TREE + u64::from(other);
                let (key, payload) = (key.as_slice(), payload.as_slice());
                Record {
                    tag,
                    tree,
                    key,
                    payload,
                }
                .append_to(&mut out);
                if !other {
                    model.apply(sequence, tag, key, payload);
                }
            }
            journal
                .append(out.into(), USER_TREE, SequenceNumber(sequence))
                .unwrap();
            for _ in 0..10 {
                let key = random_key(&mut random);
                check_key(&journal, &model, &key, random.u64(..=sequence));
                check_order(&journal, &model, &key);
            }
        }
        for key in model.points.keys() {
            check_key(&journal, &model, key, random.u64(..=sequence));
            check_key(&journal, &model, key, u64::MAX);
        }
        check_all(&journal, &model);
        assert!(journal.last_sequence().unwrap().0 <= sequence);
    }
}

#[test]
fn a_malformed_buffer_leaves_the_journal_as_it_was() {
    let journal = Journal::new(1000);
    assert_eq!((journal.first_sequence(), journal.first()), (None, None));
    let good = buffer(&[(Tag::Inline, b"a", b"1"), (Tag::Merge, b"b", b"2")]);
    journal
        .append(good.clone(), USER_TREE, SequenceNumber(3))
        .unwrap();
    let cut = good.slice(..good.len() - 1);
    let range = buffer(&[(Tag::Inline, b"c", b""), (Tag::DeleteRange, b"a", b"\x07")]);
    let long = buffer(&[(Tag::Inline, &vec![0; KEY_BYTES_MAX + 1], b"")]);
    for bad in [cut, range, long] {
        assert!(journal.append(bad, USER_TREE, SequenceNumber(4)).is_err());
        assert_eq!(journal.operations(), 2);
        assert_eq!(journal.bytes(), good.len());
        assert_eq!(journal.last_sequence(), Some(SequenceNumber(3)));
        assert_eq!(journal.seek_at_or_after(b"c"), None);
    }
    journal.append(good, USER_TREE, SequenceNumber(5)).unwrap();
    assert_eq!(journal.entries_of(b"a", NEWEST).count(), 2);
    assert_eq!(journal.first_sequence(), Some(SequenceNumber(3)));
    let newest = journal.first().unwrap();
    let older = journal.older(newest);
    assert_eq!(journal.visible(newest, SequenceNumber(4)), older);
    assert_eq!(journal.visible(newest, SequenceNumber(2)), None);
}

#[test]
fn a_record_that_was_checked_is_taken_in_as_any_other() {
    let (checked, read) = (Journal::new(1000), Journal::new(1000));
    for number in 0..300u64 {
        let key = (number * 7919 % 101).to_be_bytes();
        let record = Record {
            tag: Tag::Inline,
            tree: USER_TREE,
            key: &key[..1 + number as usize % 8],
            payload: &[number as u8; 40],
        };
        let mut bytes = vec![7; 3];
        record.append_to(&mut bytes);
        let (bytes, sequence) = (Bytes::from(bytes), SequenceNumber(number));
        let records = bytes.slice(3..);
        checked.append_checked(&record, bytes, sequence).unwrap();
        read.append(records, USER_TREE, sequence).unwrap();
    }
    let entries = |journal: &Journal| {
        let stamps = journal.stamps().collect::<Vec<_>>();
        let keys = std::iter::successors(journal.first(), |at| journal.next_key(*at));
        let keys = keys.map(|at| format!("{:?}", journal.entry(at)));
        (keys.collect::<Vec<_>>(), stamps, journal.bytes())
    };
    assert_eq!(entries(&checked), entries(&read));
    assert_eq!(checked.first_sequence(), read.first_sequence());
    assert_eq!(checked.last_sequence(), read.last_sequence());
}

#[test]
fn the_longest_key_is_taken_in() {
    let journal = Journal::new(1000);
    let key = vec![7; KEY_BYTES_MAX];
    let records = buffer(&[(Tag::Inline, &key, b"value")]);
    journal
        .append(records, USER_TREE, SequenceNumber(1))
        .unwrap();
    let entry = journal.entry(journal.first().unwrap());
    assert_eq!((entry.key, entry.payload), (&key[..], &b"value"[..]));
}

/// Each commit puts its number under all eight keys of one of many groups, sometimes as a large
/// batch; so whatever a reader's bound, the keys of a group must agree, and be those of the last
/// commit of that group.
#[test]
fn readers_beside_a_writer_see_whole_commits_in_order() {
    const GROUPS: u64 = 37;
    const COMMITS: u64 = 3000;
    let journal = Journal::new(1 << 20);
    let published = AtomicU64::new(0);
    let key = |group: u64, member: u64| (member * 1000 + group * 7 % GROUPS).to_be_bytes();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 1..=COMMITS {
                let group = sequence % GROUPS;
                let payload = sequence.to_le_bytes();
                let keys: Vec<_> = (0..8).map(|member| key(group, member)).collect();
                let repeat = if sequence % 100 == 0 { 8 } else { 1 };
                let records: Vec<_> = (0..repeat)
                    .flat_map(|_| keys.iter().map(|key| (Tag::Inline, &key[..], &payload[..])))
                    .collect();
                journal
                    .append(buffer(&records), USER_TREE, SequenceNumber(sequence))
                    .unwrap();
                published.store(sequence, Release);
            }
        });
        for seed in 0..2 {
            let (journal, published) = (&journal, &published);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                loop {
                    let bound = published.load(Acquire);
                    let group = random.u64(..GROUPS);
                    let expected = (bound.saturating_sub(GROUPS - 1).max(1)..=bound)
                        .find(|sequence| sequence % GROUPS == group);
                    for member in 0..8 {
                        let mut found = Found::new();
                        let at = SequenceNumber(bound);
                        let _ = journal.lookup(&key(group, member), at, &mut found);
                        let sequence = found.first().map(|entry| entry.sequence.0);
                        assert_eq!(sequence, expected, "seed {seed}");
                        let payload = found.first().map(|entry| entry.payload.to_vec());
                        assert_eq!(payload, expected.map(|at| at.to_le_bytes().to_vec()));
                    }
                    let all = std::iter::successors(journal.first(), |&at| journal.next_key(at));
                    let visible = all.filter_map(|at| journal.visible(at, SequenceNumber(bound)));
                    let keys: Vec<_> = visible.map(|at| journal.entry(at).key).collect();
                    assert!(keys.is_sorted_by(|left, right| left < right));
                    assert_eq!(keys.len() as u64, 8 * bound.min(GROUPS), "seed {seed}");
                    let back =
                        std::iter::successors(journal.last(), |&at| journal.previous_key(at));
                    let visible = back.filter_map(|at| journal.visible(at, SequenceNumber(bound)));
                    assert_eq!(visible.count(), keys.len());
                    if bound == COMMITS {
                        break;
                    }
                }
            });
        }
    });
}

/// Two journals get the same; one is searched so often that it gets a directory of all its
/// operations, the other so seldom that it does not.
#[test]
fn a_directory_of_everything_answers_as_the_list_does() {
    for shared in [0, 5, 17, 40] {
        let mut random = fastrand::Rng::with_seed(shared as u64);
        let key = |number: u16| [&vec![9; shared][..], &number.to_be_bytes(), b"tail"].concat();
        let (searched, plain) = (Journal::new(1 << 20), Journal::new(1 << 20));
        let mut sequence = SequenceNumber(0);
        for round in 0..3 {
            for _ in 0..600 {
                sequence = sequence.next();
                let records = buffer(&[(Tag::Inline, &key(random.u16(..1500)), b"value")]);
                for journal in [&searched, &plain] {
                    journal
                        .append(records.clone(), USER_TREE, sequence)
                        .unwrap();
                }
            }
            for _ in 0..2000 {
                _ = searched.seek_at_or_after(&key(random.u16(..)));
            }
            assert!(searched.is_complete(), "{shared}, round {round}");
            assert!(!plain.is_complete());
            for number in 0..1500 {
                let probe = key(number);
                let (left, right) = (&searched, &plain);
                assert_eq!(
                    left.seek_at_or_after(&probe),
                    right.seek_at_or_after(&probe)
                );
                assert_eq!(left.seek_after(&probe), right.seek_after(&probe));
                assert_eq!(left.seek_before(&probe), right.seek_before(&probe));
                assert_eq!(
                    left.seek_at_or_before(&probe),
                    right.seek_at_or_before(&probe)
                );
                let bound = SequenceNumber(random.u64(..=sequence.0));
                assert_eq!(left.find(&probe, bound), right.find(&probe, bound));
                plain.forget_searches();
            }
            for probe in [&b""[..], &[8], &[9; 3], &[10], &[255; 30]] {
                assert_eq!(
                    searched.seek_at_or_after(probe),
                    plain.seek_at_or_after(probe)
                );
                assert_eq!(searched.seek_before(probe), plain.seek_before(probe));
            }
            assert_eq!(searched.last(), plain.last());
        }
    }
}

/// Deletions of short keys take more memory in the index than in their records.
#[test]
fn the_index_counts_where_records_are_short() {
    for (payload, by_records) in [(1000, true), (0, false)] {
        let limit = 64 << 10;
        let journal = Journal::new(0);
        let mut sequence = SequenceNumber(0);
        while !journal.is_full(limit) {
            sequence = sequence.next();
            let value = vec![0; payload];
            let records = match payload {
                0 => buffer(&[(Tag::Delete, &sequence.0.to_be_bytes(), b"")]),
                _ => buffer(&[(Tag::Inline, &sequence.0.to_be_bytes(), &value)]),
            };
            journal.append(records, USER_TREE, sequence).unwrap();
        }
        assert_eq!(journal.bytes() >= limit, by_records);
        assert!(journal.memory_bytes() < 4 * limit);
    }
}
