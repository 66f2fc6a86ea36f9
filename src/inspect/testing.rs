//! A small store made by hand, and the means to forge its pages so that their checksums hold.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::report::{Event, Finding, Severity, Summary};
use super::verify::{VerifyInput, verify};
use crate::cache::FrameTable;
use crate::disk::{Disk, MemoryDisk, Page as DiskPage, block_on};
use crate::error::{ErrorKind, Result};
use crate::format::record::{Record, Tag, range_end_payload};
use crate::format::{
    Address, Birth, Extent, LogPosition, PagePointer, RootRecord, RootVersion, SequenceNumber,
    Settings, SpaceTail, StoreId, page_checksum,
};
use crate::space::catalogue::{encode_pending, pending_key, pieces, segment_key, summary_key};
use crate::space::{Dropped, Owner, SUMMARY_SEGMENTS, Space, Urgency};
use crate::tree::flush::Flush;
use crate::tree::frozen_batch;
use crate::tree::interior::Interior;
use crate::tree::journal::Journal;
use crate::tree::merge::Operators;
use crate::tree::page::Page;
use crate::tree::pages::{Pages, check};
use crate::tree::testing::Append;

pub(super) const STORE: StoreId = StoreId([1; 16]);

/// A disk with a root whose trees are being made.
pub(super) struct Fixture {
    pub(super) pages: Pages,
    pub(super) disk: Disk,
    pub(super) root: RootRecord,
    pub(super) sequence: u64,
    pub(super) random: fastrand::Rng,
}

impl Fixture {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Disk::new(MemoryDisk::new().with_segment_bytes(64 << 10)).unwrap();
        let space = Space::open(disk.properties(), 0, Box::new(|_| Ok(None))).unwrap();
        let mut operators = Operators::default();
        operators.register(Arc::new(Append)).unwrap();
        let settings = Settings::tiny();
        let nowhere = Extent::new(Address::new(0, 0), 0);
        Self {
            pages: Pages {
                disk: disk.clone(),
                frames: FrameTable::new(16 << 20),
                space,
                store: STORE,
                settings,
                operators,
                readahead: Default::default(),
                compression: Default::default(),
            },
            root: RootRecord {
                store: STORE,
                version: RootVersion(1),
                epoch: 1,
                applied_through: SequenceNumber(0),
                birth: Birth(0),
                time_ms: 0,
                segment_bytes: disk.properties().segment_bytes,
                sector_bytes: disk.properties().sector_bytes,
                settings,
                user: PagePointer::NOTHING,
                system: PagePointer::NOTHING,
                tail: SpaceTail {
                    extent: nowhere,
                    checksum: 0,
                    birth: Birth(0),
                },
                log: LogPosition {
                    chunk: nowhere,
                    salt: 0,
                    offset: 0,
                    chain: 0,
                    sequence: SequenceNumber(1),
                },
                clean: false,
                segments: 0,
                line: 0,
                since: SequenceNumber(0),
            },
            disk,
            sequence: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// A store that went through some flushes, then a checkpoint.
    pub(super) fn filled(seed: u64, flushes: usize, operations: usize) -> Self {
        let mut fixture = Self::new(seed);
        for _ in 0..flushes {
            fixture.step(operations);
        }
        fixture.checkpoint();
        fixture
    }

    /// Flushes some random operations into the user's tree.
    pub(super) fn step(&mut self, operations: usize) {
        let count = self.random.usize(1..=operations);
        let records = self.random_records(count);
        self.flush(false, records);
    }

    fn random_records(&mut self, count: usize) -> Vec<u8> {
        let mut records = Vec::new();
        for _ in 0..count {
            let mut key = vec![0; self.random.usize(1..6)];
            key.iter_mut()
                .for_each(|byte| *byte = b"abc\0\xff"[self.random.usize(0..5)]);
            let (tag, payload) = match self.random.usize(0..20) {
                0..=9 => (Tag::Inline, vec![7; self.random.usize(0..40)]),
                10 => (Tag::Inline, vec![8; self.random.usize(65..4000)]),
                11..=14 => (Tag::Delete, Vec::new()),
                15..=18 => {
                    let chain = self.pages.operators.chain_of("append", b"x");
                    (Tag::Merge, chain.unwrap())
                }
                _ => {
                    let mut end = key.clone();
                    end.push(1);
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
        records
    }

    /// Flushes records into one of the trees, and writes the pages.
    pub(super) fn flush(&mut self, system: bool, records: Vec<u8>) {
        self.sequence += 1;
        let journal = Journal::new(1000);
        let sequence = SequenceNumber(self.sequence);
        journal.append(Bytes::from(records), 0, sequence).unwrap();
        self.root.birth = Birth(self.root.birth.0 + 1);
        let birth = self.root.birth;
        self.pages.space.set_current(birth);
        let batch = frozen_batch(&journal, sequence, &self.pages.operators, &mut |_| {});
        let root = match system {
            true => &mut self.root.system,
            false => &mut self.root.user,
        };
        let flush = Flush::new(&self.pages, birth, Urgency::Ordinary);
        let outcome = flush.run(root, batch).unwrap();
        *root = outcome.root;
        for page in &outcome.pages {
            write(&self.disk, page.pointer.address, page.handle.bytes());
        }
        for (item, born) in outcome.dropped {
            self.pages.space.drop_item(item, born, birth).unwrap();
        }
        self.root.applied_through = sequence;
    }

    /// Writes the maps as a checkpoint does.
    pub(super) fn checkpoint(&mut self) {
        self.pages.space.begin_tail();
        let old = self.root.tail;
        if old.extent.length > 0 {
            let later = Birth(self.root.birth.0 + 1);
            let item = Dropped::Extent(old.extent);
            self.pages.space.drop_item(item, old.birth, later).unwrap();
        }
        let bytes_max = self.pages.settings.inline_bytes_max;
        let mut records = Vec::new();
        // As many pieces as anything here ever had: the old ones are deleted one by one.
        let mut put = |bytes: &[u8], key: &dyn Fn(u32) -> Vec<u8>| {
            let mut count = 0;
            for (piece, bytes) in pieces(bytes, bytes_max) {
                append(&mut records, Tag::Inline, &key(piece), bytes);
                count = piece + 1;
            }
            for piece in count..2 {
                append(&mut records, Tag::Delete, &key(piece), &[]);
            }
        };
        let changed = self.pages.space.changed_segments();
        for &segment in &changed {
            let map = self.pages.space.encode_segment(segment).unwrap();
            put(&map, &|piece| segment_key(segment, piece));
        }
        let mut blocks: Vec<u32> = changed
            .iter()
            .map(|number| number / SUMMARY_SEGMENTS)
            .collect();
        blocks.dedup();
        for block in blocks {
            let summary = self.pages.space.encode_summary(block);
            put(&summary, &|piece| summary_key(block, piece));
        }
        // Nothing here ever ends to be pending.
        for (number, item) in (0..).zip(self.pages.space.pending_items()) {
            let bytes = encode_pending(&item).unwrap();
            put(&bytes, &|piece| pending_key(number, piece));
        }
        self.flush(true, records);
        let length = self.pages.space.tail_bytes_max();
        let extent = self.allocate(length as u32);
        let tail = self.pages.space.encode_tail(length).unwrap();
        write(&self.disk, extent.address, &tail);
        let birth = self.root.birth;
        self.root.tail = SpaceTail {
            extent,
            checksum: page_checksum(STORE, extent.address, birth, &tail),
            birth,
        };
        self.root.segments = self.pages.space.segments();
    }

    pub(super) fn allocate(&self, bytes: u32) -> Extent {
        let space = &self.pages.space;
        space
            .allocate(bytes, Owner::Tree, Urgency::Ordinary)
            .unwrap()
    }

    pub(super) fn read(&self, extent: Extent) -> Vec<u8> {
        block_on(self.disk.read(extent)).unwrap()
    }

    pub(super) fn was_written(&self, extent: Extent) -> bool {
        block_on(self.disk.read(extent)).is_ok()
    }

    pub(super) fn verify(&self) -> (Summary, Vec<Finding>) {
        self.verify_with(true)
    }

    pub(super) fn verify_with(&self, values: bool) -> (Summary, Vec<Finding>) {
        let mut findings = Vec::new();
        let input = VerifyInput {
            disk: &self.disk,
            root: &self.root,
            replay: None,
            values,
        };
        let summary = block_on(verify(&input, &mut |event| {
            if let Event::Finding(finding) = event
                && finding.message != "the store has no log"
            {
                findings.push(finding.clone());
            }
            ControlFlow::Continue(())
        }));
        (summary.unwrap(), findings)
    }

    /// Verifies, and ends at the n-th event.
    pub(super) fn verify_until(&self, mut events: usize) -> Result<Summary> {
        let input = VerifyInput {
            disk: &self.disk,
            root: &self.root,
            replay: None,
            values: true,
        };
        block_on(verify(&input, &mut |_| {
            events = events.saturating_sub(1);
            match events {
                0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }))
    }

    pub(super) fn assert_clean(&self, context: &str) -> Summary {
        let (summary, findings) = self.verify();
        assert!(findings.is_empty(), "{context}: {findings:#?}");
        summary
    }

    /// Asserts that a finding has these words.
    pub(super) fn assert_finds(&self, severity: Severity, words: &str) {
        let (_, findings) = self.verify();
        let found = findings
            .iter()
            .any(|finding| finding.severity == severity && finding.message.contains(words));
        assert!(found, "{severity:?} {words:?} is not among {findings:#?}");
    }

    /// The well-formed pages of the user's tree, each with the way to it from the root.
    pub(super) fn paths(&self) -> Vec<Vec<PagePointer>> {
        let mut paths = Vec::new();
        let mut waiting = match self.root.user.is_nothing() {
            true => Vec::new(),
            false => vec![vec![self.root.user]],
        };
        while let Some(path) = waiting.pop() {
            let pointer = path.last().unwrap();
            let bytes = match block_on(self.disk.read(pointer.extent())) {
                Ok(bytes) if check(pointer, &bytes).is_ok() && path.len() < 20 => bytes,
                _ => continue,
            };
            if Page::new(&bytes).level() > 0 {
                let node = Interior::new(&bytes);
                let children = (0..node.children()).map(|child| node.pointer(child));
                let slices = node
                    .runs()
                    .flat_map(|run| (0..run.slices).map(move |index| run.slice(index).pointer()));
                for pointer in children.chain(slices) {
                    waiting.push(path.iter().copied().chain([pointer]).collect());
                }
            }
            paths.push(path);
        }
        paths
    }

    /// A path to a page for which something holds.
    pub(super) fn path_to(&self, holds: impl Fn(&[u8]) -> bool) -> Vec<PagePointer> {
        let mut paths = self.paths().into_iter();
        let found = paths.find(|path| holds(&self.read(path.last().unwrap().extent())));
        found.expect("the fixture has such a page")
    }

    /// Changes a page, and all pointers on the way to it, so that all checksums hold. A page that
    /// grew is moved.
    pub(super) fn forge(
        &mut self,
        path: &[PagePointer],
        edit: impl FnOnce(&mut Vec<u8>, &mut PagePointer),
    ) {
        let mut old = *path.last().unwrap();
        let mut new = old;
        let mut bytes = self.read(old.extent());
        edit(&mut bytes, &mut new);
        for above in path[..path.len() - 1].iter().rev() {
            self.place(&mut bytes, &mut new);
            let mut parent = self.read(above.extent());
            replace(&mut parent, &old.to_bytes(), &new.to_bytes());
            (bytes, old, new) = (parent, *above, *above);
        }
        self.place(&mut bytes, &mut new);
        let _ = old;
        self.root.user = new;
    }

    fn place(&self, bytes: &mut [u8], pointer: &mut PagePointer) {
        let grown = bytes.len() > pointer.extent().whole_sectors(512).length as usize;
        if grown {
            pointer.address = self.allocate(bytes.len() as u32).address;
        }
        pointer.length = bytes.len() as u32;
        pointer.checksum = page_checksum(STORE, pointer.address, pointer.birth, bytes);
        write(&self.disk, pointer.address, bytes);
    }

    /// Flips a bit of the disk; flipping it again mends it.
    pub(super) fn flip(&self, extent: Extent, at: usize, bit: u8) {
        let mut bytes = self.read(extent);
        bytes[at] ^= 1 << bit;
        write(&self.disk, extent.address, &bytes);
    }
}

/// Replaces the only place where some bytes stand.
pub(super) fn replace(page: &mut [u8], old: &[u8], new: &[u8]) {
    let found = page.windows(old.len()).position(|window| window == old);
    let at = found.expect("the bytes are there");
    page[at..at + new.len()].copy_from_slice(new);
}

pub(super) fn append(out: &mut Vec<u8>, tag: Tag, key: &[u8], payload: &[u8]) {
    Record {
        tag,
        tree: 0,
        key,
        payload,
    }
    .append_to(out);
}

pub(super) fn write(disk: &Disk, at: Address, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let page = DiskPage {
        at,
        bytes: bytes.into(),
    };
    block_on(disk.save(vec![page], false)).unwrap();
}

pub(super) fn is_cancelled(result: &Result<Summary>) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Cancelled)
}

/// Whether a dropped thing is a subtree.
pub(super) fn is_subtree(item: &Dropped) -> bool {
    matches!(item, Dropped::Subtree(_))
}
