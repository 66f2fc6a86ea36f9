//! The log, what is pending, and the space maps against what was found to be in use.

use std::sync::Arc;

use super::verify::{Examiner, Part};
use super::walk::{fault_of, values_in};
use crate::cache::FrameTable;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Record, SYSTEM_TREE, Tag, read_range_end};
use crate::format::{Birth, PagePointer, SequenceNumber};
use crate::log::replay::{LoggedCommit, Replay};
use crate::snapshot::names::check_record;
use crate::snapshot::{Version, each_entry, each_pending_from, read_pieces, target_of};
use crate::space::audit::{Difference, Holder};
use crate::space::catalogue::{CatalogueKey, parse_key, segments_range, summary_range};
use crate::space::{Dropped, PendingItem, SUMMARY_SEGMENTS, Space};
use crate::tree::journal::Journal;
use crate::tree::merge::Operators;
use crate::tree::pages::Pages;

/// The memory for pages of a tree that is read as readers do.
const CACHE_BYTES: usize = 4 << 20;

/// How many pending items are taken out of the catalogue at a time.
const PENDING_STEP: usize = 1024;

impl Examiner<'_> {
    /// Reads the log from the disk. `None`: there is a finding instead.
    pub(super) async fn read_log(&mut self) -> Result<Option<Replay>> {
        let root = self.root;
        if root.log.chunk.length == 0 {
            self.note("the store has no log")?;
            return Ok(None);
        }
        // That the log has what the trees have is no condition: the trees have it.
        let synced = SequenceNumber(0);
        match Replay::read(self.disk, root.store, &root.log, synced).await {
            Ok(replay) => Ok(Some(replay)),
            Err(error) => {
                self.incomplete = true;
                self.failed(&error, Some(root.log.chunk))?;
                Ok(None)
            }
        }
    }

    /// What the log holds, and what its records name.
    pub(super) async fn log(&mut self, replay: &Replay) -> Result<()> {
        for chunk in replay.chunks() {
            self.reach((*chunk, Birth(0)), Holder::Log, "a chunk of the log")?;
        }
        self.summary.log_groups = replay.groups().len() as u64;
        let applied = self.root.applied_through;
        let first = replay.commits().next().map(|commit| commit.sequence);
        if first.is_some_and(|first| first > applied.next()) {
            self.damage(
                self.root.log.chunk,
                "the log begins after the first commit that the trees lack",
            )?;
        }
        if self.root.clean && replay.last_sequence() > applied {
            self.damage(
                self.root.log.chunk,
                "the log goes on, although the store was closed with nothing in it",
            )?;
        }
        let mut previous: Option<SequenceNumber> = None;
        for commit in replay.commits() {
            self.summary.log_commits += 1;
            if previous.is_some_and(|previous| previous.next() != commit.sequence) {
                self.damage(self.root.log.chunk, "the log lacks a commit")?;
            }
            previous = Some(commit.sequence);
            if commit.sequence <= applied {
                continue;
            }
            self.summary.log_commits_unapplied += 1;
            if let Err(error) = self.commit(&commit).await {
                if error.kind() == ErrorKind::Cancelled {
                    return Err(error);
                }
                self.incomplete = true;
                let error = error.while_doing(&format!("commit {} of the log", commit.sequence.0));
                if commit.synced {
                    self.failed(&error, None)?;
                } else {
                    // Recovery ends the log here, as if power had failed before this commit.
                    self.note(error.to_string())?;
                    break;
                }
            }
            self.progress()?;
        }
        Ok(())
    }

    /// The records of a commit that the trees do not contain.
    async fn commit(&mut self, commit: &LoggedCommit) -> Result<()> {
        let mut rest = &commit.records[..];
        while !rest.is_empty() {
            let (record, taken) = Record::read(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
            if record.tree == SYSTEM_TREE {
                check_record(&record)?;
                continue;
            }
            let ends = record.tag != Tag::DeleteRange || read_range_end(record.payload).is_some();
            if !ends {
                return Err(Error::corrupt("a range delete has a malformed end"));
            }
            if let Some(fault) = fault_of(record.tag, record.payload) {
                return Err(Error::corrupt(fault));
            }
            self.summary.user.references +=
                u64::from(target_of(record.tag, record.payload).is_some());
            for payload in values_in(record.tag, record.payload) {
                self.try_value(payload, Holder::Log).await?;
            }
        }
        Ok(())
    }

    /// The system tree as a version of its own.
    pub(super) fn catalogue(&self) -> Arc<Version> {
        self.version(self.root.system, None)
    }

    /// A tree, with what is newer, as a version with a cache of its own: nothing that the store has in
    /// memory is believed.
    pub(super) fn version(&self, tree: PagePointer, newer: Option<Arc<Journal>>) -> Arc<Version> {
        let pages = Pages {
            disk: self.disk.clone(),
            frames: FrameTable::new(CACHE_BYTES),
            space: Space::new(self.disk.properties()),
            store: self.root.store,
            settings: self.root.settings,
            operators: Operators::default(),
            readahead: Default::default(),
            compression: Default::default(),
        };
        let root = self.root;
        Version::new(
            Arc::new(pages),
            tree,
            root.birth,
            newer,
            root.applied_through,
        )
    }

    /// Subtrees and values that were dropped and still have their space.
    pub(super) async fn pending(&mut self) -> Result<()> {
        let version = self.catalogue();
        let mut from = 0;
        loop {
            // Taken in steps, as the list may be long and visiting it cannot wait for pages.
            let mut items: Vec<(u64, PendingItem)> = Vec::new();
            let full = "enough for one step";
            let read = each_pending_from(&version, from, |number, item| {
                items.push((number, item));
                match items.len() < PENDING_STEP {
                    true => Ok(()),
                    false => Err(Error::new(ErrorKind::Cancelled, full)),
                }
            })
            .await;
            let last = items.last().map(|(number, _)| *number);
            for (_, item) in items {
                self.summary.pending_items += 1;
                self.pending_item(&item).await?;
            }
            match (read, last.and_then(|last| last.checked_add(1))) {
                (Err(error), Some(next)) if error.kind() == ErrorKind::Cancelled => from = next,
                (Err(error), _) if error.kind() != ErrorKind::Cancelled => {
                    self.incomplete = true;
                    return self.failed(&error, None);
                }
                _ => return Ok(()),
            }
        }
    }

    async fn pending_item(&mut self, pending: &PendingItem) -> Result<()> {
        match &pending.item {
            Dropped::Subtree(pointer) => {
                if pointer.birth > self.root.birth || pointer.birth != pending.birth {
                    let message = "a dropped subtree is not as old as it is said to be";
                    self.damage(pointer.extent(), message)?;
                }
                self.walk(Part::Pending, pointer).await
            }
            Dropped::Value(payload) => {
                if let Some(value) = self.value(payload, Holder::Root, None).await? {
                    let tally = self.tally(Part::Pending);
                    tally.values += 1;
                    tally.value_bytes = tally.value_bytes.saturating_add(value.length);
                }
                self.progress()
            }
            Dropped::Extent(extent) => {
                self.damage(*extent, "an extent stands among what is pending")
            }
        }
    }

    /// Compares the maps with what was found.
    pub(super) async fn compare(&mut self) -> Result<()> {
        let version = self.catalogue();
        if self.incomplete {
            self.note("leaks are not looked for, as something could not be read")?;
        }
        self.summaries(&version).await?;
        let mut next = 0;
        let mut present: Option<(u32, u32, Vec<u8>)> = None;
        let (low, end) = segments_range();
        let read = each_entry(&version, &low, &end, |key, tag, payload| {
            let parsed = parse_key(key);
            let Some(CatalogueKey::Segment { segment, piece }) = parsed else {
                return Err(Error::corrupt("a key of the space maps is malformed"));
            };
            if present
                .as_ref()
                .is_some_and(|(before, ..)| *before != segment)
                && let Some((before, _, map)) = present.take()
            {
                self.compare_through(&mut next, before, &map)?;
            }
            let (_, pieces, map) = present.get_or_insert((segment, 0, Vec::new()));
            if tag != Tag::Inline || piece != *pieces || segment < next {
                let message = format!("the map of segment {segment} lacks a piece");
                return Err(Error::corrupt(message));
            }
            *pieces = pieces.wrapping_add(1);
            map.extend_from_slice(payload);
            Ok(())
        })
        .await;
        match read {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => return self.failed(&error, None),
        }
        if let Some((segment, _, map)) = present {
            self.compare_through(&mut next, segment, &map)?;
        }
        self.compare_unmapped(&mut next, u32::MAX)
    }

    /// Compares the segments from `next` on that have no map, then one that has.
    fn compare_through(&mut self, next: &mut u32, segment: u32, map: &[u8]) -> Result<()> {
        self.compare_unmapped(next, segment)?;
        *next = segment.saturating_add(1);
        if !self.audit.has_segment(segment) {
            let message = format!("there is a map for segment {segment}, which does not exist");
            return self.failed(&Error::corrupt(message), None);
        }
        self.compare_one(segment, map)
    }

    fn compare_unmapped(&mut self, next: &mut u32, end: u32) -> Result<()> {
        while let Some(segment) = self.audit.next_segment(*next)
            && segment < end
        {
            self.compare_one(segment, &[])?;
            *next = segment.saturating_add(1);
        }
        Ok(())
    }

    fn compare_one(&mut self, segment: u32, map: &[u8]) -> Result<()> {
        let differences = match self.audit.compare(segment, map) {
            Ok(differences) => differences,
            Err(error) => {
                let error = error.while_doing(&format!("reading the map of segment {segment}"));
                return self.failed(&error, None);
            }
        };
        for (extent, difference) in differences {
            match difference {
                Difference::Free => {
                    self.damage(extent, "the maps say that this is free, but it is in use")?;
                }
                Difference::InUse => self.damage(
                    extent,
                    "the maps say that the trees have this, but the log has it",
                )?,
                Difference::Unreached if self.incomplete => {}
                Difference::Unreached => {
                    self.leak(
                        extent,
                        "the maps say that this is in use, but nothing reaches it",
                    )?;
                }
            }
        }
        self.progress()
    }

    /// Whether the blocks of the summary can be read.
    async fn summaries(&mut self, version: &Arc<Version>) -> Result<()> {
        let properties = self.disk.properties();
        let no_maps = Box::new(|_| Ok(None));
        let space = match Space::open(properties, self.root.segments, no_maps) {
            Ok(space) => space,
            Err(error) => return self.failed(&error, None),
        };
        let blocks = self.root.segments.div_ceil(u64::from(SUMMARY_SEGMENTS));
        for block in 0..u32::try_from(blocks).unwrap_or(u32::MAX) {
            let (low, end) = summary_range(block);
            let read = read_pieces(version, &low, &end).await;
            if let Err(error) = read.and_then(|bytes| space.apply_summary(block, &bytes)) {
                let error = error.while_doing(&format!("reading block {block} of the summary"));
                self.failed(&error, None)?;
            }
        }
        Ok(())
    }
}
