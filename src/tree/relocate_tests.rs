//! Relocations and the freeing of what is dropped, against a map and an own walk of all extents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::cache::{FrameTable, pin};
use crate::disk::{Disk, MemoryDisk, Page as DiskPage};
use crate::format::record::{Record, Tag, range_end_payload};
use crate::format::{SequenceNumber, Settings, StoreId};
use crate::snapshot::{
    Cursor, Direction, Layered, Lookup, Start, Stop, Version, count, load_value, lookup,
};
use crate::space::{Dropped, Owner, Space};
use crate::tree::expand::free_some;
use crate::tree::frozen_batch;
use crate::tree::journal::Journal;
use crate::tree::merge::{Base, Operators, fold, stored_base};
use crate::tree::operation::Batch;
use crate::tree::testing::Append;
use crate::value::Shape;

const SEGMENT_BYTES: u32 = 64 << 10;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Extents = BTreeMap<Extent, Birth>;

struct Fixture {
    pages: Arc<Pages>,
    root: PagePointer,
    birth: Birth,
    sequence: u64,
    map: Map,
    random: fastrand::Rng,
    key_count: u32,
    /// What was allocated for the tree and not freed.
    alive: Extents,
    /// Room that is free when the end of the store is emptied.
    room: Vec<Extent>,
}

/// What a root reaches, found another way than by the code under test.
fn reachable(pages: &Arc<Pages>, root: &PagePointer) -> Extents {
    let mut found = Extents::new();
    if !root.is_nothing() {
        add_node(pages, root, Expect::Root, &mut found);
    }
    found
}

fn add(found: &mut Extents, extent: Extent, birth: Birth) {
    assert_eq!(found.insert(extent, birth), None, "{extent} reached twice");
}

fn add_value(pages: &Arc<Pages>, tag: Tag, payload: &[u8], found: &mut Extents) {
    let payload = match tag {
        Tag::OffTree => payload,
        Tag::Merge => match stored_base(payload) {
            Some((Tag::OffTree, payload)) => payload,
            _ => return,
        },
        _ => return,
    };
    let reader = ValueReader::new(pages.disk.clone(), pages.store, payload).unwrap();
    block_on(reader.verify(|extent, birth| {
        add(found, extent, birth);
        Ok(())
    }))
    .unwrap();
}

fn add_node(pages: &Arc<Pages>, pointer: &PagePointer, expect: Expect, found: &mut Extents) {
    add(found, pointer.extent(), pointer.birth);
    let handle = pages.load_waiting(pointer, expect).unwrap();
    let page = Page::new(handle.bytes());
    if page.level() == 0 {
        for index in 0..page.slots() {
            let slot = page.slot(index);
            add_value(pages, Page::tag(&slot), slot.payload, found);
        }
        return;
    }
    let node = Interior::new(handle.bytes());
    for child in 0..node.children() {
        let expect = Expect::Level(page.level() - 1);
        add_node(pages, &node.pointer(child), expect, found);
    }
    for run in node.runs() {
        for index in 0..run.slices {
            let pointer = run.slice(index).pointer();
            add(found, pointer.extent(), pointer.birth);
            let slice = pages.load_waiting(&pointer, Expect::Slice).unwrap();
            let slice = Page::new(slice.bytes());
            for index in 0..slice.slots() {
                let child = node.child_of(&slice.key(index));
                if run.pending_units(child) > 0 {
                    let slot = slice.slot(index);
                    add_value(pages, Page::tag(&slot), slot.payload, found);
                }
            }
        }
    }
}

impl Fixture {
    fn new(seed: u64, settings: Settings, key_count: u32, disk: MemoryDisk) -> Self {
        let disk = Disk::new(disk.with_segment_bytes(SEGMENT_BYTES)).unwrap();
        let mut operators = Operators::default();
        operators.register(Arc::new(Append)).unwrap();
        let space = Space::new(disk.properties());
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
            random: fastrand::Rng::with_seed(seed),
            key_count,
            alive: Extents::new(),
            room: Vec::new(),
        }
    }

    /// Takes room at the beginning of the store.
    fn take_room(&mut self) {
        let space = &self.pages.space;
        space.avoid(None);
        for _ in 0..24 {
            let extent = space.allocate(SEGMENT_BYTES / 2, Owner::Unattached, Urgency::Ordinary);
            self.room.push(extent.unwrap());
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.random.u32(0..self.key_count);
        // Keys of several lengths, in an order of their own.
        number.reverse_bits().to_be_bytes()[..1 + number as usize % 4].to_vec()
    }

    fn content(&mut self, lengths: std::ops::Range<usize>) -> Vec<u8> {
        let mut value = vec![0; self.random.usize(lengths)];
        self.random.fill(&mut value);
        value
    }

    fn begin(&mut self) {
        self.birth = Birth(self.birth.0 + 1);
        self.pages.space.set_current(self.birth);
    }

    /// Writes a value with an index of several levels, as a transaction does.
    fn write_value(&mut self, value: &[u8]) -> Vec<u8> {
        let pages = &self.pages;
        let allocate = |bytes| pages.space.allocate(bytes, Owner::Tree, Urgency::Ordinary);
        let fan_out = self.random.u32(2..6);
        let shape = Shape::with_fan_out(512, SEGMENT_BYTES, fan_out).unwrap();
        let disk = pages.disk.clone();
        let mut writer = ValueWriter::new(disk, pages.store, self.birth, shape, allocate);
        let written = block_on(async {
            writer.write(value).await?;
            writer.finish().await
        })
        .unwrap();
        for extent in written.extents {
            add(&mut self.alive, extent, self.birth);
        }
        written.value.to_payload().to_vec()
    }

    /// Random operations, flushed.
    fn change(&mut self, operations: usize) {
        self.begin();
        let mut records = Vec::new();
        for _ in 0..operations {
            let key = self.key();
            let (tag, payload) = match self.random.usize(0..40) {
                0..=15 => {
                    let value = self.content(0..40);
                    self.map.insert(key.clone(), value.clone());
                    (Tag::Inline, value)
                }
                16..=18 => {
                    let value = self.content(65..3000);
                    self.map.insert(key.clone(), value.clone());
                    (Tag::Inline, value)
                }
                19..=21 => {
                    let value = self.content(0..6000);
                    self.map.insert(key.clone(), value.clone());
                    (Tag::OffTree, self.write_value(&value))
                }
                22..=28 => {
                    self.map.remove(&key);
                    (Tag::Delete, Vec::new())
                }
                29..=31 => {
                    // What a transaction makes of a put and an operand.
                    let mut value = self.content(0..1000);
                    let stored = self.write_value(&value);
                    let operators = &self.pages.operators;
                    let chain = operators.chain_of("append", b"end").unwrap();
                    let base = Base::Stored(Tag::OffTree, &stored);
                    let folded = fold(operators, &key, base, &chain);
                    value.extend_from_slice(b"end");
                    self.map.insert(key.clone(), value);
                    folded
                }
                32..=38 => {
                    let operand = [self.random.u8(..)];
                    let entry = self.map.entry(key.clone()).or_default();
                    entry.extend_from_slice(&operand);
                    let chain = self.pages.operators.chain_of("append", &operand);
                    (Tag::Merge, chain.unwrap())
                }
                _ => {
                    let end = self.key();
                    if end <= key {
                        continue;
                    }
                    self.map.retain(|k, _| *k < key || *k >= end);
                    (Tag::DeleteRange, range_end_payload(Some(&end)))
                }
            };
            let record = Record {
                tag,
                tree: 0,
                key: &key,
                payload: &payload,
            };
            record.append_to(&mut records);
        }
        self.sequence += 1;
        let journal = Journal::new(1000);
        let sequence = SequenceNumber(self.sequence);
        journal.append(Bytes::from(records), 0, sequence).unwrap();
        let mut lost = Vec::new();
        let pages = Arc::clone(&self.pages);
        let batch = frozen_batch(&journal, sequence, &pages.operators, &mut |value| {
            lost.push(value);
        });
        let flush = Flush::new(&pages, self.birth, Urgency::Ordinary);
        let flush = match self.random.usize(0..20) {
            0 => flush.settling([1, 5, usize::MAX][self.random.usize(..3)]),
            _ => flush,
        };
        let mut outcome = flush.run(&self.root, batch).unwrap();
        for value in lost {
            let parts = value.parts(&pages).unwrap();
            outcome
                .dropped
                .extend(parts.into_iter().map(|(item, _)| (item, self.birth)));
        }
        self.publish(outcome);
    }

    fn publish(&mut self, outcome: Outcome) {
        self.root = outcome.root;
        for (item, birth) in outcome.dropped {
            let dropped = self.pages.space.drop_item(item, birth, self.birth);
            dropped.unwrap();
        }
        for (extent, birth) in reachable(&self.pages, &self.root) {
            let known = self.alive.insert(extent, birth);
            assert!(known.is_none_or(|known| known == birth));
        }
        // Some pages are written, and some of those leave the cache.
        if self.random.bool() {
            for page in outcome.pages {
                let pointer = page.pointer;
                let saved = DiskPage {
                    at: pointer.address,
                    bytes: page.handle.bytes().to_vec().into(),
                };
                block_on(self.pages.disk.save(vec![saved], false)).unwrap();
                let frames = &self.pages.frames;
                frames.mark_written(pointer.address, pointer.birth);
                if self.random.bool() {
                    frames.forget(pointer.address, pointer.birth);
                }
            }
        }
    }

    fn version(&self) -> Arc<Version> {
        let through = SequenceNumber(self.sequence);
        let pages = Arc::clone(&self.pages);
        Version::new(pages, self.root, self.birth, [], through)
    }

    /// Frees what can be freed, a few steps at a time.
    fn free(&mut self, context: &str) {
        loop {
            let freed = block_on(free_some(&self.pages, self.random.usize(0..4)));
            assert!(freed.failed.is_none(), "{context}: {:?}", freed.failed);
            for (extent, birth) in freed.extents {
                let known = self.alive.remove(&extent);
                assert_eq!(known, Some(birth), "{context}: {extent} freed");
                assert!(self.pages.frames.get(extent.address, birth).is_none());
            }
            if !freed.more {
                return;
            }
        }
    }

    /// Drops the whole tree.
    fn clear(&mut self) {
        self.begin();
        let root = std::mem::replace(&mut self.root, PagePointer::NOTHING);
        let (item, birth) = (Dropped::Subtree(root), root.birth);
        let space = &self.pages.space;
        space.drop_item(item, birth, self.birth).unwrap();
        self.map.clear();
    }

    /// With no version kept: what is not freed is what the newest root reaches.
    fn check_space(&mut self, context: &str) {
        self.free(context);
        let reached = reachable(&self.pages, &self.root);
        let lost: Vec<_> = self
            .alive
            .iter()
            .filter(|it| !reached.contains_key(it.0))
            .collect();
        assert!(lost.is_empty(), "{context}: {lost:?} leaked");
        assert_eq!(self.alive, reached, "{context}");
        self.begin();
        let statistics = self.pages.space.statistics();
        let sector = self.pages.disk.properties().sector_bytes;
        let bytes = |extent: &Extent| u64::from(extent.whole_sectors(sector).length);
        let sum: u64 = reached.keys().map(bytes).sum();
        assert_eq!(statistics.tree_bytes, sum, "{context}");
        assert_eq!(statistics.dropped_bytes, 0, "{context}");
        assert_eq!(statistics.pending_items, 0, "{context}");
    }

    /// Pushes everything down, some pages at a time.
    fn settle(&mut self) {
        while self.root.unresolved > 0 {
            self.begin();
            let flush = Flush::new(&self.pages, self.birth, Urgency::Ordinary);
            let outcome = flush.settling(3).run(&self.root, Batch::default());
            self.publish(outcome.unwrap());
        }
    }

    /// The beginning of one of the segments that are in use.
    fn place(&mut self) -> Address {
        let used = reachable(&self.pages, &self.root);
        let used: BTreeSet<u32> = used.keys().map(|extent| extent.address.segment()).collect();
        let chosen = self.random.usize(..used.len().max(1));
        Address::new(used.into_iter().nth(chosen).unwrap_or(0), 0)
    }

    /// Packs leaves, perhaps with changes in between.
    fn pack(&mut self, changes: bool, context: &str) {
        let mut relocation = Relocation::packing();
        let pages_max = self.random.usize(0..20);
        while !relocation.is_finished() {
            self.begin();
            let pages = Arc::clone(&self.pages);
            let (root, birth) = (self.root, self.birth);
            let step = relocation.step(
                &pages,
                &root,
                birth,
                Urgency::Ordinary,
                pages_max,
                &Spared::NOTHING,
            );
            if let Some(outcome) = step.unwrap() {
                self.publish(outcome);
            }
            let sums = |root: PagePointer| PagePointer {
                address: Address::default(),
                length: 0,
                checksum: 0,
                birth: Birth(0),
                bytes: 0,
                ..root
            };
            assert_eq!(sums(self.root), sums(root), "{context}");
            if self.random.bool() {
                self.free(context);
            }
            if changes && self.random.bool() {
                self.change(4);
            }
        }
    }

    /// Empties the end of the store, perhaps with changes in between.
    fn relocate(&mut self, changes: bool, context: &str) -> Progress {
        for extent in std::mem::take(&mut self.room) {
            self.pages.space.abandon(extent).unwrap();
        }
        let place = self.place();
        self.pages.space.avoid(Some(place));
        let (began, mut was_full) = (self.birth, false);
        let mut relocation = Relocation::emptying(place);
        let pages_max = self.random.usize(0..20);
        while !relocation.is_finished() {
            self.begin();
            let before = (self.root, relocation.progress());
            let pages = Arc::clone(&self.pages);
            let (root, birth) = (self.root, self.birth);
            let step = relocation.step(
                &pages,
                &root,
                birth,
                Urgency::Ordinary,
                pages_max,
                &Spared::NOTHING,
            );
            match step {
                Ok(Some(outcome)) => self.publish(outcome),
                Ok(None) => assert_eq!(before.1.pages_moved, relocation.progress().pages_moved),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull, "{context}");
                    was_full = true;
                    break;
                }
            }
            let sums = |root: PagePointer| PagePointer {
                address: Address::default(),
                checksum: 0,
                birth: Birth(0),
                ..root
            };
            assert_eq!(sums(self.root), sums(before.0), "{context}");
            if self.random.bool() {
                self.free(context);
            }
            if changes && self.random.bool() {
                self.change(4);
            }
        }
        self.pages.space.avoid(None);
        // Then values were left where they were.
        was_full |= relocation.full_for < u64::MAX;
        let left = reachable(&self.pages, &self.root);
        // What changes made meanwhile may have found no other room.
        let left = left
            .iter()
            .find(|(extent, birth)| place <= extent.address && **birth <= began);
        assert!(left.is_none() || was_full, "{context}: {left:?}");
        self.take_room();
        relocation.progress()
    }
}

fn value_of(version: &Arc<Version>, key: &[u8], tag: Tag, payload: &[u8]) -> Vec<u8> {
    let value = block_on(load_value(version.pages(), key, tag, payload));
    value.unwrap().to_vec()
}

fn get(version: &Arc<Version>, key: &[u8]) -> Option<Vec<u8>> {
    loop {
        let guard = pin();
        match lookup(version, SequenceNumber(u64::MAX), key, &guard).unwrap() {
            Lookup::Absent => return None,
            Lookup::Stored(tag, payload) => return Some(value_of(version, key, tag, payload)),
            Lookup::Folded(tag, payload) => return Some(value_of(version, key, tag, &payload)),
            Lookup::Need(pointer, expect) => {
                version.pages().load_waiting(&pointer, expect).unwrap();
            }
        }
    }
}

fn check(version: &Arc<Version>, map: &Map, context: &str) {
    let over = Layered::whole(Arc::clone(version));
    for (key, value) in map {
        assert!(get(version, key).as_ref() == Some(value), "{context}");
    }
    for direction in [Direction::Forward, Direction::Backward] {
        let mut cursor = Cursor::new(direction, Start::Outermost);
        let mut found = Vec::new();
        loop {
            match cursor.step(&over).unwrap() {
                Stop::Entry => {
                    let (tag, payload) = cursor.stored(&over);
                    let value = value_of(version, cursor.key(), tag, payload);
                    found.push((cursor.key().to_vec(), value));
                }
                Stop::End => break,
                Stop::Need(pointer, expect) => {
                    version.pages().load_waiting(&pointer, expect).unwrap();
                }
            }
        }
        if direction == Direction::Backward {
            found.reverse();
        }
        let expected = map.iter().map(|(key, value)| (key.clone(), value.clone()));
        assert!(found.into_iter().eq(expected), "{context} {direction:?}");
    }
    let layers = over.layers().into_iter().collect();
    let counted = block_on(count(Arc::clone(version), layers, (&[], None))).unwrap();
    assert_eq!(counted, map.len() as u64, "{context}");
}

fn run(seed: u64, settings: Settings, key_count: u32, rounds: usize, operations: usize) {
    let mut fixture = Fixture::new(seed, settings, key_count, MemoryDisk::new());
    fixture.take_room();
    let mut kept: Vec<(Arc<Version>, Map)> = Vec::new();

    // Where no version is ever kept, every leak is found at the change that made it.
    let keeping = !seed.is_multiple_of(3);
    let mut moved = 0;
    for round in 0..rounds {
        let context = format!("seed {seed} round {round}");
        for _ in 0..fixture.random.usize(1..5) {
            let operations = fixture.random.usize(1..=operations);
            fixture.change(operations);
            if kept.is_empty() {
                fixture.check_space(&format!("{context} after a flush"));
            }
        }
        if keeping && fixture.random.usize(0..3) == 0 {
            kept.push((fixture.version(), fixture.map.clone()));
        }
        let changes = fixture.random.usize(0..3) == 0;
        if fixture.random.usize(0..3) == 0 {
            fixture.pack(changes, &context);
            check(&fixture.version(), &fixture.map, &context);
        }
        moved += fixture.relocate(changes, &context).pages_moved;
        check(&fixture.version(), &fixture.map, &context);
        fixture.free(&context);
        for (version, map) in &kept {
            check(version, map, &format!("{context}, a kept version"));
        }
        if fixture.random.usize(0..3) == 0 {
            kept.clear();
        }
        if fixture.random.usize(0..6) == 0 {
            fixture.clear();
        }
        if kept.is_empty() {
            fixture.check_space(&context);
        }
    }
    kept.clear();
    fixture.clear();
    fixture.check_space(&format!("seed {seed} at the end"));
    assert!(fixture.alive.is_empty());
    assert!(moved > 0, "seed {seed}: nothing was ever moved");
}

#[test]
fn tiny_nodes_move_and_nothing_changes_leaks_or_is_freed_twice() {
    for seed in 0..24 {
        run(seed, Settings::tiny(), 60, 12, 12);
    }
}

#[test]
fn many_tiny_nodes_move_and_nothing_changes_leaks_or_is_freed_twice() {
    for seed in 100..103 {
        run(seed, Settings::tiny(), 600, 6, 150);
    }
}

#[test]
fn larger_nodes_move_and_nothing_changes_leaks_or_is_freed_twice() {
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
    for seed in 200..208 {
        run(seed, settings, 400, 8, 100);
    }
}

#[test]
fn a_relocation_without_room_fails_and_leaves_nothing_behind() {
    let mut failures = 0;
    for seed in 300..320 {
        let context = format!("seed {seed}");
        let disk = MemoryDisk::new().with_capacity_bytes(40 * u64::from(SEGMENT_BYTES));
        let mut fixture = Fixture::new(seed, Settings::tiny(), 100, disk);
        fixture.change(150);
        fixture.check_space(&context);
        // Everything else is taken, but for some of it.
        let room = fixture.random.u32(1..60) * 512;
        let space = &fixture.pages.space;
        let mut others = Vec::new();
        while let Ok(extent) = space.allocate(512, Owner::Unattached, Urgency::Ordinary) {
            others.push(extent);
        }
        for extent in others.split_off(others.len() - room as usize / 512) {
            space.abandon(extent).unwrap();
        }
        fixture.begin();
        let before = fixture.pages.space.statistics();
        let frames = fixture.pages.frames.stats().frames;
        let place = Address::new(0, 0);
        fixture.pages.space.avoid(Some(place));
        let mut relocation = Relocation::emptying(place);
        let (root, birth) = (fixture.root, fixture.birth);
        let result = relocation.step(
            &fixture.pages,
            &root,
            birth,
            Urgency::Ordinary,
            1000,
            &Spared::NOTHING,
        );
        let Err(error) = result else {
            continue;
        };
        failures += 1;
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{context}");
        assert_eq!(relocation.progress(), Progress::default());
        assert!(!relocation.is_finished());
        assert_eq!(fixture.pages.frames.stats().frames, frames, "{context}");
        fixture.begin();
        assert_eq!(fixture.pages.space.statistics(), before, "{context}");
        check(&fixture.version(), &fixture.map, &context);
    }
    assert!(failures > 0);
}

#[test]
fn an_item_whose_page_is_damaged_is_reported_and_not_lost() {
    let disk = MemoryDisk::new();
    let mut fixture = Fixture::new(7, Settings::tiny(), 100, disk);
    fixture.change(100);
    fixture.check_space("before");
    let space = &fixture.pages.space;
    let wrong = PagePointer {
        checksum: !fixture.root.checksum,
        ..fixture.root
    };
    let (birth, dropped_at) = (wrong.birth, fixture.birth);
    for pointer in [wrong, fixture.root] {
        let item = Dropped::Subtree(pointer);
        space.drop_item(item, birth, dropped_at).unwrap();
    }
    let freed = block_on(free_some(&fixture.pages, usize::MAX));
    let error = freed.failed.unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(!freed.more);
    let extents: Extents = freed.extents.into_iter().collect();
    assert_eq!(extents, fixture.alive);
    assert_eq!(space.statistics().pending_items, 1);
    let again = block_on(free_some(&fixture.pages, 1));
    assert!(again.failed.is_some() && again.extents.is_empty());
    assert_eq!(space.statistics().pending_items, 1);
}

#[test]
fn leaves_that_are_not_full_are_packed_and_full_ones_are_left_alone() {
    let settings = Settings {
        page_bytes: 1024,
        leaf_slots_max: 64,
        children_max: 16,
        ..Settings::tiny()
    };
    for seed in 500..510 {
        let mut fixture = Fixture::new(seed, settings, 5000, MemoryDisk::new());
        for _ in 0..30 {
            fixture.change(50);
        }
        fixture.settle();
        let (before, sums) = (reachable(&fixture.pages, &fixture.root), fixture.root);
        let context = format!("seed {seed}");
        fixture.pack(false, &context);
        let packed = reachable(&fixture.pages, &fixture.root);
        assert!(packed.len() < before.len(), "{context}");
        assert_eq!(fixture.root.entries, sums.entries, "{context}");
        check(&fixture.version(), &fixture.map, &context);
        let root = fixture.root;
        fixture.pack(false, &context);
        assert!(fixture.root.bytes <= root.bytes, "{context}");
        fixture.clear();
        fixture.check_space(&context);
    }
}

#[test]
fn values_of_consumed_operations_are_neither_moved_nor_freed_with_their_slice() {
    let settings = Settings {
        page_bytes: 1024,
        leaf_slots_max: 8,
        children_max: 12,
        slice_slots_max: 64,
        slice_bytes: 8000,
        push_bytes: 500,
        journal_bytes_max: 8000,
        runs_max: 6,
        ..Settings::tiny()
    };
    for seed in 400..420 {
        run(seed, settings, 120, 8, 40);
    }
}
