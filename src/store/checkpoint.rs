//! Checkpoints: making the trees durable, so that the log before them is not needed.
//!
//! In order: freeze and flush the journals, if somebody asked for it; write the pages; write the space
//! maps into the system tree, and its pages; write the tail, which says what writing the maps itself
//! took and gave; sync; publish the root, into both slots. Until the last step nothing that the two
//! newest roots reach was touched, so a crash anywhere before it leaves the store as it was (**I1**).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::compact::give_back_vacant;
use super::core::Core;
use super::gate::lock;
use super::maintenance::{Maintaining, Pace};
use super::open::prepared;
use super::open::system_version;
use crate::disk::{Page, Release};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::Tag;
use crate::format::{
    Birth, LogPosition, PagePointer, RootRecord, SequenceNumber, SpaceTail, StoreId, page_checksum,
};
use crate::snapshot::{Version, each_entry};
use crate::space::{Dropped, Owner, SUMMARY_SEGMENTS, Urgency, catalogue};
use crate::trace::{self, Began};
use crate::tree::flush::NewPage;
use crate::tree::operation::{Batch, Operation};

/// How many maps of segments stay in memory.
const MAPS_MAX: usize = 4096;
/// How many bytes of spare chunks of the log are kept for recycling at least, and which share of the
/// tree's: making a chunk anew costs as much as filling it, and breaks up the space of pages.
const SPARE_BYTES_MIN: u64 = 8 << 20;
const SPARE_SHARE: u64 = 8;
/// Less than this, which file systems give out at a time, cannot be given back to a disk.
pub(super) const DISK_BLOCK_BYTES: u32 = 4 << 10;

/// What a root record says beside what every checkpoint knows.
pub(super) struct NewRoot {
    pub(super) user: PagePointer,
    pub(super) applied_through: SequenceNumber,
    pub(super) log: LogPosition,
    pub(super) clean: bool,
}

impl Core {
    /// A checkpoint of everything that is published, if anything is new.
    pub(super) async fn checkpoint(
        self: &Arc<Self>,
        state: &mut Maintaining,
        pace: Pace,
    ) -> Result<()> {
        let log = self.log()?;
        let log_bytes = lock(log).since_checkpoint;
        let version = self.current.load_full();
        let nothing_new = version.journals.iter().all(|journal| journal.is_empty())
            && self.catalogue.is_flushed()
            && !self.kept_is_due()
            && state.checkpointed == Some((version.root, version.tree_through));
        if nothing_new {
            self.sync().await?;
            // What the log got was a mark of what the root has: no reason for a checkpoint.
            lock(log).since_checkpoint -= log_bytes;
            return self.refill_reserve().await;
        }
        self.checkpoint_anyway(state, pace, false).await
    }

    /// A checkpoint, whether anything is new or not. `clean`: nothing will follow in the log.
    pub(super) async fn checkpoint_anyway(
        self: &Arc<Self>,
        state: &mut Maintaining,
        pace: Pace,
        clean: bool,
    ) -> Result<()> {
        self.freeze();
        // Others go on committing: what they freeze meanwhile is for the next one.
        let through = self.published();
        while self.frozen() > 0 && self.current.load().tree_through < through {
            if self.tree_is_due(state) {
                self.checkpoint_tree(state, pace, false).await?;
            }
            self.flush_oldest(state)?;
        }
        self.checkpoint_tree(state, pace, clean).await
    }

    /// A checkpoint of what was flushed into the tree so far; the log keeps what is newer.
    pub(super) async fn checkpoint_tree(
        self: &Arc<Self>,
        state: &mut Maintaining,
        pace: Pace,
        clean: bool,
    ) -> Result<()> {
        self.pass_by_nothing();
        self.keep_for_many_names(state);
        self.freeze_names();
        let version = self.current.load_full();
        let (user, through) = (version.root, version.tree_through);
        let unflushed: usize = version.journals.iter().map(|journal| journal.bytes()).sum();
        drop(version);
        // Until its end there may be in memory, of branches above all, what no root has.
        state.checkpointed = None;
        // The log must reach as far as the root on the disk will say: replay counts on it, and the
        // root before it may have to be continued by it.
        self.sync().await?;
        let log = self.log()?;
        let position = {
            let mut log = lock(log);
            log.since_checkpoint = unflushed as u64;
            log.writer.position_at_or_before(through.next())
        };
        // Damage in what nobody needs any more is no reason not to save what somebody does.
        if let Err(error) = self.free(state).await {
            self.report(&Err(error));
        }
        self.write_journals(state, pace).await?;
        self.write_pages(state, pace).await?;
        let root = NewRoot {
            user,
            applied_through: through,
            log: position,
            clean,
        };
        self.write_root(state, root).await
    }

    /// Commits that did nothing leave nothing to be flushed: the tree has them too.
    fn pass_by_nothing(&self) {
        let mut current = self.current.change();
        let version = current.version();
        let through = self.published();
        if version.tree_through < through && version.journals.iter().all(|it| it.is_empty()) {
            current.store(Version::new(
                Arc::clone(&self.pages),
                version.root,
                version.birth,
                version.journals.iter().cloned(),
                through,
            ));
        }
    }

    /// The newest version has the same tree in the generation that wrote the space maps, too. As one of
    /// an older generation it would keep what that one dropped from being used again.
    fn renew_version(&self, birth: Birth, user: &PagePointer) {
        let mut current = self.current.change();
        let version = current.version();
        // A large transaction is published before readers see it.
        if version.root == *user && version.birth < birth {
            current.store(Version::new(
                Arc::clone(&self.pages),
                version.root,
                birth,
                version.journals.iter().cloned(),
                version.tree_through,
            ));
        }
    }

    /// Writes the space maps and publishes a root. All pages that `root` reaches are written.
    pub(super) async fn write_root(&self, state: &mut Maintaining, root: NewRoot) -> Result<()> {
        let began = Began::now();
        let through = root.applied_through;
        self.write_kept(state, through).await?;
        let space = &self.pages.space;
        let pending = space.pending_items();
        space.begin_tail();
        let changed = space.changed_segments();
        let result = self.write_root_with(state, root, &pending, &changed).await;
        match &result {
            Ok(()) => trace::checkpointed(began, through),
            Err(_) => space.put_back_changed(&changed),
        }
        result
    }

    async fn write_root_with(
        &self,
        state: &mut Maintaining,
        root: NewRoot,
        pending: &[crate::space::PendingItem],
        changed: &[u32],
    ) -> Result<()> {
        let space = &self.pages.space;
        let operations = self.map_operations(pending, changed).await?;
        let points = system_operations(&operations, root.applied_through).collect();
        self.flush_system(state, points, 0, root.applied_through)?;
        let birth = state.birth;
        let system = *lock(&self.system);
        if state.tail.extent.length > 0 {
            let old = Dropped::Extent(state.tail.extent);
            space.drop_item(old, state.tail.birth, birth)?;
            state.tail.extent.length = 0;
        }
        self.write_pages(state, Pace::Hurried).await?;
        let tail = self.write_tail(birth).await?;
        state.tail = tail;
        self.pages
            .disk
            .sync()
            .await
            .inspect_err(|error| self.poison(error))?;
        // Into both slots: from then on the root before keeps nothing from being used again, neither
        // pages nor chunks of the log.
        for _ in 0..2 {
            self.publish_root(state, &root, system).await?;
        }
        self.renew_version(birth, &root.user);
        state.checkpointed = Some((root.user, root.applied_through));
        state.flushed_bytes = 0;
        state.more_to_free = true;
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        space.evict(MAPS_MAX);
        self.refill_reserve().await
    }

    /// Changes the system tree. `names`: how many of the oldest journals of names are in it, too.
    pub(super) fn flush_system(
        &self,
        state: &mut Maintaining,
        points: Vec<Operation<'_>>,
        names: usize,
        through: SequenceNumber,
    ) -> Result<()> {
        let system = *lock(&self.system);
        let outcome = self.flush(state, &system, Batch::of(points), 0)?;
        for extent in &outcome.values {
            debug_assert!(false, "the catalogue's pieces fit their leaves: {extent}");
        }
        self.install_system(outcome.root, state.birth, names, through);
        self.take_over_system(state, outcome.pages, outcome.dropped)
    }

    /// Notes the pages that a generation of the system tree made and what it dropped: no version that is
    /// kept reaches that.
    pub(super) fn take_over_system(
        &self,
        state: &mut Maintaining,
        pages: Vec<NewPage>,
        dropped: Vec<(Dropped, Birth)>,
    ) -> Result<()> {
        for page in pages {
            state.unwritten.insert(page.pointer.address, page);
        }
        for (item, birth) in dropped {
            self.pages.space.drop_item(item, birth, state.birth)?;
        }
        state.more_to_free = true;
        Ok(())
    }

    async fn write_tail(&self, birth: Birth) -> Result<SpaceTail> {
        let space = &self.pages.space;
        let length = u32::try_from(space.tail_bytes_max())
            .map_err(|_| Error::invalid("the list of changed space is larger than a segment"))?;
        let extent = space.allocate(length.max(1), Owner::Tree, Urgency::Emergency)?;
        let encoded = space
            .encode_tail(extent.length as usize)
            .ok_or_else(|| Error::invalid("the list of changed space outgrew its extent"));
        let saved = match encoded {
            Ok(bytes) => {
                let checksum = page_checksum(self.pages.store, extent.address, birth, &bytes);
                let page = Page {
                    at: extent.address,
                    bytes: bytes.into(),
                };
                self.save_all_the_same(vec![page]).await.map(|()| checksum)
            }
            Err(error) => Err(error),
        };
        match saved {
            Ok(checksum) => Ok(SpaceTail {
                extent,
                checksum,
                birth,
            }),
            Err(error) => {
                space.abandon(extent)?;
                Err(error)
            }
        }
    }

    /// Publishes a root record and lets go of what only the root that it replaces needed.
    pub(super) async fn publish_root(
        &self,
        state: &mut Maintaining,
        root: &NewRoot,
        system: PagePointer,
    ) -> Result<()> {
        let expected = state
            .roots
            .last()
            .map(|(version, ..)| *version)
            .unwrap_or_default();
        let properties = self.pages.disk.properties();
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (line, since) = {
            let kept = lock(&self.kept);
            (kept.line, kept.since)
        };
        let record = RootRecord {
            store: self.pages.store,
            version: expected.next(),
            epoch: state.epoch,
            applied_through: root.applied_through,
            birth: state.birth,
            time_ms: since_epoch.as_millis() as u64,
            segment_bytes: properties.segment_bytes,
            sector_bytes: properties.sector_bytes,
            settings: self.pages.settings,
            user: root.user,
            system,
            tail: state.tail,
            log: root.log,
            clean: root.clean,
            segments: self.pages.space.segments(),
            line,
            since,
        };
        let bytes = Bytes::copy_from_slice(&record.to_bytes());
        // Somebody else's failed sync may have lost pages that this root names.
        self.check_poisoned()?;
        // After a failure nobody knows which root a reopening would find: nothing may be reused.
        self.pages
            .disk
            .publish_root(expected, record.version, bytes)
            .await
            .inspect_err(|error| self.poison(error))?;
        self.pages.space.keep_root(state.birth);
        state.roots.push((record.version, state.birth, root.log));
        self.root_birth.store(state.birth.0, Ordering::Release);
        if state.roots.len() > 2 {
            let (_, oldest, _) = state.roots.remove(0);
            self.pages.space.release_root(oldest);
        }
        let log = self.log()?;
        let needed = state.roots[0].2;
        let spare_bytes_max = (self.pages.space.statistics().tree_bytes / SPARE_SHARE)
            .min(self.options.checkpoint_log_bytes)
            .max(SPARE_BYTES_MIN);
        let mut log = lock(log);
        if !log.writer.chunks().any(|chunk| chunk == needed.chunk) {
            // The root that was found at opening leads to a log of before.
            return Ok(());
        }
        for chunk in log.writer.release_before(&needed) {
            let compacting = self.pages.space.is_fitting_closely();
            let usual = chunk.length == self.pages.settings.log_chunk_bytes;
            if usual && !compacting && log.writer.spare_bytes() < spare_bytes_max {
                log.writer.add_chunk(chunk, super::random::number());
            } else {
                self.pages.space.abandon(chunk)?;
            }
        }
        Ok(())
    }

    /// The operations that bring the catalogue in the system tree up to date.
    ///
    /// Pieces that are left over are deleted one by one: a range delete could drop a subtree whole,
    /// and the list of what is still to be freed is already being written.
    async fn map_operations(
        &self,
        pending: &[crate::space::PendingItem],
        changed: &[u32],
    ) -> Result<BTreeMap<Vec<u8>, Option<Vec<u8>>>> {
        let space = &self.pages.space;
        let piece_bytes = self.pages.settings.inline_bytes_max;
        let system = system_version(&self.pages, *lock(&self.system));
        let mut operations = BTreeMap::new();
        let mut ranges = vec![catalogue::all_pending_range()];
        ranges.extend(
            changed
                .iter()
                .map(|segment| catalogue::segment_range(*segment)),
        );
        let blocks: BTreeSet<u32> = changed
            .iter()
            .map(|segment| segment / SUMMARY_SEGMENTS)
            .collect();
        ranges.extend(blocks.iter().map(|block| catalogue::summary_range(*block)));
        for (low, end) in ranges {
            each_entry(&system, &low, &end, |key, _, _| {
                operations.insert(key.to_vec(), None);
                Ok(())
            })
            .await?;
        }
        for &segment in changed {
            let map = space.encode_segment(segment)?;
            for (piece, bytes) in catalogue::pieces(&map, piece_bytes) {
                operations.insert(catalogue::segment_key(segment, piece), Some(bytes.to_vec()));
            }
        }
        for block in blocks {
            let summary = space.encode_summary(block);
            for (piece, bytes) in catalogue::pieces(&summary, piece_bytes) {
                operations.insert(catalogue::summary_key(block, piece), Some(bytes.to_vec()));
            }
        }
        for (number, item) in (0..).zip(pending) {
            let encoded = catalogue::encode_pending(item).unwrap_or_default();
            for (piece, bytes) in catalogue::pieces(&encoded, piece_bytes) {
                operations.insert(catalogue::pending_key(number, piece), Some(bytes.to_vec()));
            }
        }
        Ok(operations)
    }

    /// Gives the disk the room of the reserve back, because it is full and something has to be
    /// written. Says whether there was any.
    pub(super) async fn give_up_reserve(&self) -> Result<bool> {
        let extents = self.pages.space.take_whole_reserve();
        if extents.is_empty() {
            return Ok(false);
        }
        self.is_short.store(true, Ordering::Release);
        let releases = extents.iter().map(|extent| Release { extent: *extent });
        let released = self.pages.disk.release(releases.collect()).await;
        for extent in extents {
            self.pages.space.abandon(extent)?;
        }
        released.map(|()| true)
    }

    /// Gives the disk back what is free, because it is full and something has to be written where the
    /// file has a hole. Other free places may have their room on the disk still; nobody knows which.
    /// Says whether there was any.
    pub(super) async fn give_up_free_room(&self) -> Result<bool> {
        self.is_short.store(true, Ordering::Release);
        Ok(give_back_vacant(&self.pages, DISK_BLOCK_BYTES).await? > 0)
    }

    /// Saves pages that a checkpoint needs; on a full disk, in the room of the reserve, or of what is
    /// free elsewhere.
    pub(super) async fn save_all_the_same(&self, pages: Vec<Page>) -> Result<()> {
        let is_full = |saved: &Result<()>| {
            let error = saved.as_ref().err();
            error.is_some_and(|error| error.kind() == ErrorKind::StorageFull)
        };
        let disk = &self.pages.disk;
        let mut saved = disk.save(pages.clone(), false).await;
        if is_full(&saved) && self.give_up_reserve().await? {
            saved = disk.save(pages.clone(), false).await;
        }
        if is_full(&saved) && self.give_up_free_room().await? {
            saved = disk.save(pages, false).await;
        }
        saved
    }

    /// Keeps room ready for a full disk, as far as there is any.
    pub(super) async fn refill_reserve(&self) -> Result<()> {
        let space = &self.pages.space;
        let used = space.statistics().tree_bytes;
        let wanted = self
            .options
            .reserve_bytes
            .unwrap_or((used / 64).clamp(1 << 20, 64 << 20));
        space.set_reserve(wanted);
        let most = u64::from(self.pages.disk.properties().segment_bytes / 4);
        loop {
            let missing = space.reserve_missing();
            if missing == 0 {
                self.is_short.store(false, Ordering::Release);
                return Ok(());
            }
            let bytes = missing.min(most) as u32;
            let ready = prepared(&self.pages, bytes, Owner::Reserve, Urgency::Ordinary).await;
            let extent = match ready {
                Ok(extent) => extent,
                Err(error) => {
                    self.poison_if_in_doubt(&error);
                    // No failure of the checkpoint: but from now on only deletions are taken.
                    let full = error.kind() == ErrorKind::StorageFull;
                    self.is_short.store(full, Ordering::Release);
                    return Ok(());
                }
            };
            space.add_reserve(extent)?;
        }
    }
}

/// Operations on the system tree, as of a sequence.
pub(super) fn system_operations(
    operations: &BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    sequence: SequenceNumber,
) -> impl Iterator<Item = Operation<'_>> {
    operations.iter().map(move |(key, value)| Operation {
        key,
        sequence,
        tag: match value {
            Some(_) => Tag::Inline,
            None => Tag::Delete,
        },
        payload: Cow::Borrowed(value.as_deref().unwrap_or(&[])),
    })
}

/// Checks that bytes are the tail that a root names.
pub(super) fn verify_tail(tail: &SpaceTail, store: StoreId, bytes: &[u8]) -> Result<()> {
    if page_checksum(store, tail.extent.address, tail.birth, bytes) != tail.checksum {
        let message = "the list of changed space does not match its checksum";
        return Err(Error::corrupt_at(tail.extent, message));
    }
    Ok(())
}
