//! Sound stores verify without a finding; each kind of damage has a store that shows it is found.

use super::report::Severity;
use super::testing::{Fixture, STORE, append, is_cancelled, is_subtree, replace, write};
use crate::format::record::{Tag, range_end_payload};
use crate::format::{Birth, Extent, LogPosition, PagePointer, SequenceNumber};
use crate::log::writer::LogWriter;
use crate::snapshot::names::Named;
use crate::space::{Dropped, Owner, Urgency};
use crate::tree::interior::Interior;
use crate::tree::operation::{Batch, Operation, RangeDelete};
use crate::tree::page::{HEADER_BYTES, Kind, NewPage, NewSlot, Page, encode_table, finish};
use crate::tree::slice;

/// What a finding says, and the change that it is about.
type Forgery<T> = (&'static str, fn(&mut T));

const ELSEWHERE: &str = "belongs elsewhere";

fn level_of(page: &[u8]) -> u8 {
    Page::new(page).level()
}

fn is_leaf(page: &[u8]) -> bool {
    Page::new(page).kind_is(Kind::Leaf)
}

fn is_slice(page: &[u8]) -> bool {
    Page::new(page).kind_is(Kind::Slice)
}

fn has_runs(page: &[u8]) -> bool {
    level_of(page) > 0 && Interior::new(page).has_runs()
}

/// Where the section of a node's newest run begins.
fn run_at(page: &[u8]) -> usize {
    let node = Interior::new(page);
    node.page.records_end().next_multiple_of(8) + 64 * node.children()
}

fn leaf(slots: &[(&[u8], Tag, &[u8])], birth: Birth) -> Vec<u8> {
    let slots: Vec<_> = slots
        .iter()
        .map(|(key, tag, payload)| NewSlot {
            key,
            tag: *tag as u8,
            payload,
            sequence: SequenceNumber(0),
        })
        .collect();
    let new = NewPage {
        kind: Kind::Leaf,
        level: 0,
        birth,
        newest: SequenceNumber(0),
        extra_count: 0,
        runs: 0,
    };
    finish(encode_table(&new, &slots).unwrap())
}

#[test]
fn sound_stores_of_tiny_nodes_have_no_finding() {
    for seed in 0..40 {
        let mut fixture = Fixture::new(seed);
        for round in 0..6 {
            fixture.step(40);
            fixture.checkpoint();
            let summary = fixture.assert_clean(&format!("seed {seed} round {round}"));
            assert_eq!(summary.user.entries, fixture.root.user.entries);
            assert_eq!(summary.user.unresolved, fixture.root.user.unresolved);
            assert_eq!(summary.user.page_bytes, fixture.root.user.bytes);
            let (again, findings) = fixture.verify_with(false);
            assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
            assert_eq!(again, summary, "seed {seed}");
        }
    }
}

#[test]
fn an_empty_store_has_no_finding() {
    Fixture::new(0).assert_clean("empty");
}

#[test]
fn every_flipped_bit_of_a_page_is_found() {
    let fixture = Fixture::filled(1, 12, 25);
    let mut random = fastrand::Rng::with_seed(1);
    let mut extents: Vec<Extent> = fixture
        .paths()
        .iter()
        .map(|path| path.last().unwrap().extent())
        .collect();
    extents.push(fixture.root.system.extent());
    extents.push(fixture.root.tail.extent);
    for _ in 0..400 {
        let extent = *random.choice(&extents).unwrap();
        let (at, bit) = (random.usize(..extent.length as usize), random.u8(..8));
        fixture.flip(extent, at, bit);
        let (summary, findings) = fixture.verify();
        assert!(!summary.is_sound(), "{extent} byte {at} bit {bit}");
        assert!(
            findings
                .iter()
                .any(|finding| finding.extent == Some(extent))
        );
        assert_eq!(summary.leaks, 0, "what is below counts as unknown");
        fixture.flip(extent, at, bit);
    }
    fixture.assert_clean("mended");
}

#[test]
fn a_flipped_bit_anywhere_on_the_disk_is_found_or_changes_nothing() {
    let fixture = Fixture::filled(2, 10, 25);
    let sound = fixture.assert_clean("before");
    let mut found = 0;
    for segment in 0..fixture.root.segments as u32 {
        for sector in (0..128).step_by(3) {
            let at = crate::format::Address::new(segment, sector * 512);
            let extent = Extent::new(at, 512);
            if !fixture.was_written(extent) {
                continue;
            }
            fixture.flip(extent, 40, 3);
            let (summary, findings) = fixture.verify();
            match findings.is_empty() {
                true => assert_eq!(summary, sound),
                false => found += usize::from(!summary.is_sound()),
            }
            fixture.flip(extent, 40, 3);
        }
    }
    assert!(found > 10);
}

#[test]
fn two_swapped_pointers_are_found() {
    let mut fixture = Fixture::filled(3, 12, 25);
    let path = fixture.path_to(|page| level_of(page) == 1 && Interior::new(page).children() > 1);
    fixture.forge(&path, |page, _| {
        let node = Interior::new(page);
        let (first, second) = (node.pointer(0).to_bytes(), node.pointer(1).to_bytes());
        replace(page, &first, &[0xee; 64]);
        replace(page, &second, &first);
        replace(page, &[0xee; 64], &second);
    });
    fixture.assert_finds(Severity::Damage, "a leaf has a key that belongs elsewhere");
}

#[test]
fn a_page_named_twice_is_found_and_read_once() {
    let mut fixture = Fixture::filled(3, 12, 25);
    let path = fixture.path_to(|page| level_of(page) == 1 && Interior::new(page).children() > 1);
    fixture.forge(&path, |page, _| {
        let node = Interior::new(page);
        let (first, second) = (node.pointer(0).to_bytes(), node.pointer(1).to_bytes());
        replace(page, &second, &first);
    });
    fixture.assert_finds(
        Severity::Damage,
        "a page has sectors that something else has",
    );
}

#[test]
fn every_wrong_count_of_a_pointer_is_found() {
    let edits: [Forgery<PagePointer>; 6] = [
        ("entries, there are", |pointer| pointer.entries += 1),
        ("unresolved operations, there are", |pointer| {
            pointer.unresolved += 1
        }),
        ("bytes, there are", |pointer| pointer.bytes += 1),
        ("off-tree bytes, there are", |pointer| {
            pointer.off_tree_bytes += 1
        }),
        ("is older than something", |pointer| pointer.newest.0 = 0),
        ("is older than something", |pointer| pointer.birth.0 = 0),
    ];
    for level in 0..2 {
        for (index, (words, edit)) in edits.iter().enumerate() {
            if level == 0 && index > 3 {
                continue;
            }
            let mut fixture = Fixture::filled(4, 12, 25);
            let path = fixture.path_to(|page| !is_slice(page) && level_of(page) == level);
            fixture.forge(&path, |page, pointer| {
                edit(pointer);
                page[8..16].copy_from_slice(&pointer.birth.0.to_le_bytes());
            });
            fixture.assert_finds(Severity::Damage, words);
        }
    }
    for (words, edit) in [
        (
            "operations, there are",
            (|pointer| pointer.entries += 1) as fn(&mut PagePointer),
        ),
        ("disagree on its newest", |pointer| pointer.newest.0 += 1),
    ] {
        let mut fixture = Fixture::filled(4, 12, 25);
        let path = fixture.path_to(is_slice);
        fixture.forge(&path, |_, pointer| edit(pointer));
        fixture.assert_finds(Severity::Damage, words);
    }
}

#[test]
fn a_root_that_is_younger_than_its_record_is_found() {
    let mut fixture = Fixture::filled(5, 6, 25);
    fixture.root.birth = Birth(1);
    fixture.root.applied_through = SequenceNumber(1);
    fixture.root.sector_bytes = 4096;
    fixture.assert_finds(Severity::Damage, "younger than the root record");
    fixture.assert_finds(Severity::Damage, "later commits than the root record says");
    fixture.assert_finds(Severity::Damage, "sectors of 4096");
}

#[test]
fn a_separator_outside_of_the_fences_is_found() {
    let mut fixture = Fixture::filled(6, 12, 30);
    let path = fixture.path_to(|page| level_of(page) == 1 && Interior::new(page).children() == 2);
    // A head of 0xff and another byte is above every fence but the last.
    let path = match path.len() {
        1 => panic!("the fixture is higher"),
        _ => path,
    };
    fixture.forge(&path, |page, _| {
        let node = Interior::new(page);
        let heads = HEADER_BYTES + node.page.prefix().len().next_multiple_of(4);
        let at = HEADER_BYTES;
        match node.page.prefix().len() {
            0 => page[heads..heads + 4].copy_from_slice(&i32::MIN.to_le_bytes()),
            _ => page[at] ^= 0x80,
        }
    });
    fixture.assert_finds(Severity::Damage, ELSEWHERE);
}

#[test]
fn a_prefix_that_is_too_short_is_found() {
    let mut fixture = Fixture::filled(7, 12, 25);
    let path = fixture.path_to(is_leaf);
    fixture.forge(&path, |page, pointer| {
        let whole = leaf(
            &[
                (b"ab", Tag::Inline, b""),
                (b"ac", Tag::Inline, b""),
                (b"b", Tag::Inline, b""),
            ],
            pointer.birth,
        );
        // The same without its last slot: the prefix stays empty.
        let heads = HEADER_BYTES;
        let mut cut = whole[..heads + 8].to_vec();
        cut.extend_from_slice(&whole[heads + 12..heads + 16]);
        cut.extend_from_slice(&whole[heads + 18..]);
        cut[2] = 2;
        let end = cut.len() as u32;
        cut[20..24].copy_from_slice(&end.to_le_bytes());
        *page = finish(cut);
    });
    fixture.assert_finds(Severity::Damage, "the prefix of a page");
}

#[test]
fn malformed_merges_and_values_in_a_leaf_are_found() {
    for (tag, payload, words) in [
        (Tag::Merge, &[9][..], "chain of merge operands is malformed"),
        (Tag::Merge, &[0], "operands in a leaf stand on nothing"),
        (Tag::OffTree, &[1; 48], "off-tree value"),
        (Tag::OffTree, &[], "payload of an off-tree value"),
    ] {
        let mut fixture = Fixture::filled(8, 12, 25);
        let path = fixture.path_to(is_leaf);
        fixture.forge(&path, |page, pointer| {
            *page = leaf(&[(b"a", tag, payload)], pointer.birth);
        });
        fixture.assert_finds(Severity::Damage, words);
    }
}

#[test]
fn wrong_claims_of_a_run_are_found() {
    let claims: [Forgery<Vec<u8>>; 4] = [
        ("live operations, it has", |page| {
            let at = run_at(page);
            page[at + 4] += 1;
        }),
        ("live operations, it has", |page| {
            // What is pending for the first child that has anything is forgotten.
            let node = Interior::new(page);
            let run = node.runs().next().unwrap();
            let child = (0..node.children()).find(|&child| run.pending_units(child) > 0);
            let at = run_at(page) + 16 + 2 * child.unwrap();
            page[at..at + 2].fill(0);
        }),
        ("the filter of a slice lacks a key", |page| {
            let node = Interior::new(page);
            let run = node.runs().next().unwrap();
            let filter = run.filter(0).to_vec();
            let section = run_at(page);
            let filters: usize = (0..run.slices).map(|index| run.filter(index).len()).sum();
            let length = crate::format::bytes::read_u32(page, section).unwrap() as usize;
            let at = section + length - filters;
            page[at..at + filter.len()].fill(0);
        }),
        ("the flags of a slice", |page| {
            let node = Interior::new(page);
            let run = node.runs().next().unwrap();
            let pointer = run.slice(0).pointer().to_bytes();
            let at = page.windows(64).position(|window| window == pointer);
            page[at.unwrap() + 68] ^= 3;
        }),
    ];
    for (words, edit) in claims {
        let mut fixture = Fixture::filled(9, 12, 25);
        let path = fixture.path_to(|page| {
            has_runs(page)
                && Interior::new(page)
                    .runs()
                    .next()
                    .is_some_and(|run| !run.filter(0).iter().all(|&byte| byte == 0))
        });
        fixture.forge(&path, |page, _| edit(page));
        fixture.assert_finds(Severity::Damage, words);
    }
}

#[test]
fn operations_outside_of_their_slices_bounds_are_found() {
    // A range delete over all keys is cut neither at the children's bounds nor at the fences.
    for (low, end, words) in [
        (&b""[..], None, "was not cut where the keys of a child end"),
        (b"zz", Some(&b"zzz"[..]), ELSEWHERE),
    ] {
        let mut fixture = Fixture::filled(10, 12, 25);
        let path = fixture.path_to(is_slice);
        fixture.forge(&path, |page, pointer| {
            let deletes = vec![RangeDelete {
                low,
                end,
                sequence: pointer.newest,
            }];
            let points = match end {
                None => Vec::new(),
                Some(_) => vec![Operation {
                    key: b"zz",
                    sequence: pointer.newest,
                    tag: Tag::Delete,
                    payload: b"".as_slice().into(),
                }],
            };
            *page = slice::encode(&Batch { deletes, points }, pointer.birth).unwrap();
        });
        let (_, findings) = fixture.verify();
        let found = findings
            .iter()
            .any(|finding| finding.message.contains(words));
        // The keys above all separators may rightly belong to this slice.
        let edge = end.is_some();
        assert!(found || edge, "{words:?} is not among {findings:#?}");
        assert!(
            findings
                .iter()
                .any(|finding| finding.severity == Severity::Damage)
        );
    }
}

#[test]
fn leaked_space_is_a_leak_and_no_damage() {
    let mut fixture = Fixture::filled(11, 6, 25);
    let leaked = fixture.allocate(1000);
    fixture.checkpoint();
    let (summary, findings) = fixture.verify();
    assert!(summary.is_sound());
    assert_eq!(summary.leaks, 1, "{findings:#?}");
    let leak = findings
        .iter()
        .find(|finding| finding.severity == Severity::Leak);
    assert_eq!(leak.unwrap().extent, Some(leaked.whole_sectors(512)));
}

#[test]
fn space_that_is_free_although_it_is_reached_is_damage() {
    let mut fixture = Fixture::filled(12, 6, 25);
    let reached = fixture.root.user;
    let later = Birth(fixture.root.birth.0 + 1);
    let item = Dropped::Extent(reached.extent());
    fixture
        .pages
        .space
        .drop_item(item, reached.birth, later)
        .unwrap();
    fixture.checkpoint();
    fixture.assert_finds(Severity::Damage, "this is free, but it is in use");
}

#[test]
fn dropped_subtrees_and_values_are_pending_and_no_leak() {
    let mut fixture = Fixture::filled(13, 12, 25);
    let mut records = Vec::new();
    append(&mut records, Tag::Inline, b"abc", &[5; 3000]);
    fixture.flush(false, records);
    let mut records = Vec::new();
    append(
        &mut records,
        Tag::DeleteRange,
        b"",
        &range_end_payload(None),
    );
    fixture.flush(false, records);
    fixture.checkpoint();
    let summary = fixture.assert_clean("pending");
    assert!(summary.pending_items > 0 && summary.pending.leaves > 0);
    assert_eq!(summary.user.pages(), 0);
    let items = fixture.pages.space.pending_items();
    let subtree = items.iter().find(|pending| is_subtree(&pending.item));
    let Some(Dropped::Subtree(pointer)) = subtree.map(|pending| &pending.item) else {
        panic!("deleting everything drops a subtree");
    };
    fixture.flip(pointer.extent(), 30, 1);
    fixture.assert_finds(Severity::Damage, "checksum");
}

#[test]
fn damaged_values_are_found_where_they_are_read() {
    let mut fixture = Fixture::filled(14, 6, 25);
    let mut records = Vec::new();
    append(
        &mut records,
        Tag::DeleteRange,
        b"",
        &range_end_payload(None),
    );
    append(&mut records, Tag::Inline, b"abc", &[5; 3000]);
    fixture.flush(false, records);
    fixture.checkpoint();
    let summary = fixture.assert_clean("before");
    assert_eq!((summary.user.values, summary.user.value_bytes), (1, 3000));
    let payload = {
        let page = fixture.read(fixture.root.user.extent());
        Page::new(&page).slot(0).payload.to_vec()
    };
    let value = crate::value::OffTree::from_payload(&payload).unwrap();
    assert!(value.depth > 0);
    fixture.flip(value.root.extent, 3, 0);
    for values in [true, false] {
        assert!(!fixture.verify_with(values).0.is_sound());
    }
    fixture.flip(value.root.extent, 3, 0);
    // The first block stands in the first data extent, which the index names after its header.
    let index = fixture.read(value.root.extent);
    let address = u64::from_le_bytes(*index[24..].first_chunk().unwrap());
    let block = Extent::new(crate::format::Address::from_bits(address), 512);
    fixture.flip(block, 100, 0);
    assert!(!fixture.verify_with(true).0.is_sound());
    assert!(
        fixture.verify_with(false).0.is_sound(),
        "content is not read"
    );
    fixture.flip(block, 100, 0);

    // A second entry that names the same value.
    let path = fixture.path_to(is_leaf);
    fixture.forge(&path, |page, pointer| {
        let slots = [
            (&b"abc"[..], Tag::OffTree, &payload[..]),
            (b"abd", Tag::OffTree, &payload),
        ];
        *page = leaf(&slots, pointer.birth);
    });
    fixture.assert_finds(
        Severity::Damage,
        "an extent of an off-tree value has sectors",
    );
}

/// A store with a log whose only commit names a value of no tree.
fn logged(seed: u64) -> (Fixture, Extent, Extent) {
    let mut fixture = Fixture::filled(seed, 6, 25);
    let space = &fixture.pages.space;
    let chunk = space
        .allocate(16 << 10, Owner::Log, Urgency::Ordinary)
        .unwrap();
    let extent = space
        .allocate(300, Owner::Unattached, Urgency::Ordinary)
        .unwrap();
    write(
        &fixture.disk,
        chunk.address,
        &vec![0; chunk.length as usize],
    );
    write(&fixture.disk, extent.address, &[6; 300]);
    let birth = fixture.root.birth;
    let value = crate::value::OffTree {
        codec: Default::default(),
        length: 300,
        disk_bytes: 512,
        root: crate::value::ExtentPointer {
            extent,
            checksum: crate::format::page_checksum(STORE, extent.address, birth, &[6; 300]),
            birth,
        },
        block_bytes: 512,
        depth: 0,
    };
    let next = fixture.root.applied_through.next();
    let mut writer = LogWriter::new(STORE, 512, 16 << 10, chunk, 77, next);
    let mut records = Vec::new();
    append(&mut records, Tag::OffTree, b"key", &value.to_payload());
    for (index, records) in [records, Vec::new()].into_iter().enumerate() {
        let sequence = SequenceNumber(next.0 + index as u64);
        let commit = [vec![bytes::Bytes::from(records)]];
        for page in writer.append(sequence, &commit, true).unwrap() {
            write(&fixture.disk, page.at, &page.bytes);
        }
        writer.synced_through(sequence);
    }
    fixture.root.log = LogPosition {
        chunk,
        salt: 77,
        offset: 0,
        chain: 0,
        sequence: next,
    };
    (fixture, chunk, extent)
}

#[test]
fn the_log_is_read_and_what_it_names_counts_as_reached() {
    let (mut fixture, chunk, extent) = logged(15);
    let summary = fixture.assert_clean("log");
    assert_eq!((summary.log_groups, summary.log_commits), (2, 2));
    assert_eq!(summary.log_commits_unapplied, 2);
    fixture.flip(extent, 5, 5);
    fixture.assert_finds(Severity::Damage, "of the log");
    fixture.flip(extent, 5, 5);
    fixture.flip(chunk, 40, 5);
    fixture.assert_finds(Severity::Damage, "was synced through");
    fixture.flip(chunk, 40, 5);
    fixture.root.clean = true;
    fixture.assert_finds(Severity::Damage, "although the store was closed");
    fixture.root.clean = false;
    fixture.root.applied_through = SequenceNumber(1);
    fixture.assert_finds(Severity::Damage, "the log begins after");
}

#[test]
fn a_log_that_has_what_the_trees_have_is_damage() {
    let (mut fixture, chunk, _) = logged(16);
    // The maps claim the chunk for the trees, as if it had been allocated for them.
    fixture.pages.space.attach(chunk).unwrap();
    let log = fixture.root.log;
    fixture.checkpoint();
    fixture.root.log = log;
    fixture.root.applied_through = SequenceNumber(log.sequence.0 - 1);
    fixture.root.user.newest = SequenceNumber(0);
    fixture.assert_finds(Severity::Damage, "but the log has it");
}

#[test]
fn a_map_that_cannot_be_read_is_damage() {
    for (key, payload) in [
        (crate::space::catalogue::segment_key(0, 0), &[9, 9, 9][..]),
        (crate::space::catalogue::segment_key(0, 500), &[1]),
        (crate::space::catalogue::segment_key(70_000, 0), &[1, 0, 1]),
        (crate::space::catalogue::summary_key(0, 0), &[0x80]),
        (crate::space::catalogue::pending_key(3, 0), &[9]),
    ] {
        let mut fixture = Fixture::filled(17, 6, 25);
        let mut records = Vec::new();
        append(&mut records, Tag::Inline, &key, payload);
        fixture.flush(true, records);
        let (summary, findings) = fixture.verify();
        let named = findings
            .iter()
            .any(|finding| finding.extent.is_none() && finding.severity == Severity::Damage);
        assert!(named && !summary.is_sound(), "{key:?}: {findings:#?}");
    }
}

#[test]
fn names_that_lack_an_entry_and_entries_that_lack_their_name_are_found() {
    let named = |line, sequence, bytes: &[u8]| Named {
        line,
        sequence: SequenceNumber(sequence),
        time_ms: 1000,
        bytes: bytes.to_vec(),
    };
    let entries = named(0, 3, b"mine").entries(b"a name");
    let others = named(0, 4, b"mine").entries(b"a name");
    let [by_name, by_time, by_sequence] = &entries;
    let lacks = "the name \"a name\" lacks an entry";
    let not_that = "an entry of the name \"a name\", but not that name";
    let nothing = Vec::new();
    for (present, words) in [
        (vec![by_name, by_time, by_sequence], None),
        (vec![by_name, by_time], Some(lacks)),
        (vec![by_name, by_sequence], Some(lacks)),
        (vec![by_time, by_sequence], Some(not_that)),
        (vec![by_name, &others[1], by_sequence], Some(lacks)),
        (vec![&others[0], by_time, by_sequence], Some(not_that)),
        (
            vec![&(by_name.0.clone(), vec![1; 23])],
            Some("is malformed"),
        ),
        (vec![&(by_time.0.clone(), vec![1; 23])], Some(not_that)),
        (vec![&(by_sequence.0.clone(), vec![1])], Some(not_that)),
        (vec![&(vec![16], nothing.clone())], Some("means nothing")),
        (
            vec![&(vec![18; 17], nothing.clone())],
            Some("means nothing"),
        ),
        (
            vec![&(vec![200; 9], nothing.clone())],
            Some("means nothing"),
        ),
    ] {
        let mut fixture = Fixture::filled(20, 6, 25);
        let mut records = Vec::new();
        for (key, value) in present {
            append(&mut records, Tag::Inline, key, value);
        }
        fixture.flush(true, records);
        fixture.checkpoint();
        match words {
            None => assert_eq!(fixture.assert_clean("a name").snapshots, 1),
            Some(words) => fixture.assert_finds(Severity::Damage, words),
        }
    }
}

#[test]
fn verifying_ends_when_its_caller_says_so() {
    let fixture = Fixture::filled(18, 6, 25);
    for events in [1, 2, 5, 20] {
        assert!(is_cancelled(&fixture.verify_until(events)));
    }
}

#[test]
fn hostile_pages_are_findings_and_never_panic() {
    for seed in 0..300 {
        let mut fixture = Fixture::filled(seed % 5, 8, 25);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..random.usize(1..4) {
            let paths = fixture.paths();
            let Some(path) = random.choice(&paths).cloned() else {
                break;
            };
            fixture.forge(&path, |page, pointer| {
                for _ in 0..random.usize(1..5) {
                    let at = random.usize(..page.len());
                    let any = random.u8(..);
                    page[at] = *random.choice(&[0, 1, 2, 3, 255, any]).unwrap();
                }
                if random.u8(..8) == 0 {
                    pointer.entries = random.u64(..);
                    pointer.bytes = u64::MAX;
                }
            });
            drop(fixture.verify());
        }
    }
}
