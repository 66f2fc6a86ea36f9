//! Maintenance: flushing frozen journals, checkpoints, freeing what nobody reaches any more.
//!
//! One at a time, whoever does it: the store's thread, or a caller. What it may not do is hold up
//! readers, who see one version or the next, or committers, who wait only when
//! [`FROZEN_MAX`](super::core::FROZEN_MAX) journals have piled up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bases::HeldBase;
use super::commit::{Entry, Records};
use super::core::Core;
use super::gate::lock;
use super::job::Exclusive;
use super::options::Durability;
use crate::disk::{Page, block_on};
use crate::error::{ErrorKind, Result};
use crate::format::record::{Tag, USER_TREE};
use crate::format::{
    Address, Birth, Extent, LogPosition, PagePointer, RootVersion, SequenceNumber, SpaceTail,
};
use crate::log::writer::NeedChunk;
use crate::snapshot::Version;
use crate::space::kept::Listed;
use crate::space::{Dropped, Urgency};
use crate::trace::{self, Began};
use crate::tree::expand::free_some;
use crate::tree::flush::{Flush, NewPage, Outcome};
use crate::tree::frozen_batch;
use crate::tree::journal::Journal;
use crate::tree::merge::stored_base;
use crate::tree::operation::Batch;
use crate::value::OffTree;

/// How many bytes of pages a paced checkpoint writes between syncs.
const STEP_BYTES: usize = 256 << 10;
/// How many bytes of pages are handed to the disk at once when nobody is to be spared.
const SAVE_BYTES: usize = 1 << 20;
/// How many dropped subtrees are taken apart at a time.
const FREE_STEPS: usize = 64;

/// A checkpoint is due when so much of the tree's size, and not less than so many bytes, cannot be used
/// again for the sake of the root on the disk alone.
const PINNED_SHARE: u64 = 8;
const PINNED_BYTES_MIN: u64 = 16 << 20;

/// Whether a checkpoint leaves the disk to others between its steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pace {
    /// A quarter of a megabyte, synced, then as long a rest. Measured: beside unpaced bursts a
    /// commit of 0.15 ms takes 80 to 170 ms.
    Paced,
    /// As fast as it goes: somebody waits for it.
    Hurried,
}

/// An off-tree value that a commit names and no tree does yet.
#[derive(Clone, Debug)]
pub(super) struct LoggedValue {
    pub(super) birth: Birth,
    /// All its extents but those that it shares with its base.
    pub(super) extents: Vec<Extent>,
    /// What it was made of stays where it is until this goes.
    pub(super) base: Option<Arc<HeldBase>>,
}

/// What only maintenance knows and changes.
pub(super) struct Maintaining {
    /// The newest generation there is or was tried.
    pub(super) birth: Birth,
    /// Pages that are not on the disk yet, in the order of their addresses.
    pub(super) unwritten: BTreeMap<Address, NewPage>,
    /// The last two published roots: version, birth, and where their logs begin.
    pub(super) roots: Vec<(RootVersion, Birth, LogPosition)>,
    pub(super) tail: SpaceTail,
    pub(super) epoch: u64,
    /// What the newest root has applied and names: nothing to do if nothing changed. `None`: a checkpoint
    /// after it failed.
    pub(super) checkpointed: Option<(PagePointer, SequenceNumber)>,
    /// Bytes of journals that were flushed since that root.
    pub(super) flushed_bytes: u64,
    /// Whether dropped subtrees wait to be taken apart.
    pub(super) more_to_free: bool,
}

impl Core {
    /// Does what is due; says whether there was anything.
    pub(super) async fn maintain(self: &Arc<Self>) -> Result<bool> {
        self.check_poisoned()?;
        self.exclusively(|core, mut state| async move { core.maintain_holding(&mut state).await })
            .await
    }

    async fn maintain_holding(self: &Arc<Self>, state: &mut Maintaining) -> Result<bool> {
        let result = self.maintain_step(state).await;
        self.report(&result);
        result
    }

    /// The same, unless somebody else is at it: for the store's thread, which must not wait for
    /// those whose jobs it does.
    fn maintain_unless_busy(self: &Arc<Self>) -> Result<bool> {
        self.check_poisoned()?;
        match self.maintaining.try_lock() {
            Some(state) => {
                let mut state = Exclusive::new(self, state);
                block_on(self.maintain_holding(&mut state))
            }
            None => Ok(false),
        }
    }

    async fn maintain_step(self: &Arc<Self>, state: &mut Maintaining) -> Result<bool> {
        // Before what waits to be flushed: under load something always does.
        if self.tree_is_due(state) {
            self.checkpoint_tree(state, Pace::Paced, false).await?;
            return Ok(true);
        }
        if self.frozen() > 0 {
            self.flush_oldest(state)?;
            self.free(state).await?;
            return Ok(true);
        }
        let log = self.log()?;
        let (due, wants_chunk) = {
            let log = lock(log);
            let due = log.since_checkpoint >= self.options.checkpoint_log_bytes
                || self.names_are_due()
                || self.kept_is_due()
                || (self.is_short.load(Ordering::Acquire) && log.since_checkpoint > 0);
            (due, log.writer.wants_chunk())
        };
        if due || self.trouble().is_some() {
            self.checkpoint(state, Pace::Paced).await?;
            return Ok(true);
        }
        if state.more_to_free {
            self.free(state).await?;
            return Ok(true);
        }
        if self.is_short.load(Ordering::Acquire) {
            // Somebody may have made room meanwhile.
            self.refill_reserve().await?;
        }
        if !wants_chunk {
            return Ok(false);
        }
        let bytes = u64::from(self.pages.settings.log_chunk_bytes);
        match self
            .add_chunk(log, NeedChunk { bytes }, Urgency::Ordinary)
            .await
        {
            Ok(()) => Ok(true),
            // Ahead of time: who needs it will say so.
            Err(error) if error.kind() == ErrorKind::StorageFull => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether what was flushed should become durable, because it takes memory, or because the root on
    /// the disk keeps much from being used again, or much of the log.
    pub(super) fn tree_is_due(&self, state: &Maintaining) -> bool {
        let space = &self.pages.space;
        let pinned = || {
            let pins = space.pins();
            let roots = |at| state.roots.iter().any(|(_, birth, _)| *birth == at);
            let pinned = pins.iter().filter(|(held, _)| roots(held.generation));
            pinned.map(|(held, _)| held.bytes).sum::<u64>()
        };
        let version = self.current.load();
        state.checkpointed != Some((version.root, version.tree_through))
            && (state.flushed_bytes >= self.options.checkpoint_log_bytes
                || self.pages.frames.dirty_bytes() > self.options.cache_bytes / 3
                || pinned() > (space.statistics().tree_bytes / PINNED_SHARE).max(PINNED_BYTES_MIN))
    }

    /// Flushes the oldest frozen journal into the tree and publishes the version that comes of it.
    pub(super) fn flush_oldest(&self, state: &mut Maintaining) -> Result<bool> {
        let version = self.current.load_full();
        let Some((oldest, [_, ..])) = version.journals.split_last() else {
            return Ok(false);
        };
        let began = Began::now();
        let mut lost = Vec::new();
        let newest = oldest.last_sequence().unwrap_or(version.tree_through);
        let bound = self.flushed_at_once(oldest).unwrap_or(newest);
        let batch = frozen_batch(oldest, bound, &self.pages.operators, &mut |value| {
            lost.push(value);
        });
        let left = match newest > bound {
            true => Some(Arc::new(oldest.after(bound, USER_TREE)?)),
            false => None,
        };
        let reached = off_tree_payloads(&batch);
        // Before anything is made that would have to be given back.
        let lost = lost.into_iter().map(|lost| {
            let parts = match lost.is_shared() {
                true => Some(lost.parts(&self.pages)?),
                false => None,
            };
            Ok((lost.value, parts))
        });
        let lost: Vec<_> = lost.collect::<Result<_>>()?;
        let outcome = self.flush(state, &version.root, batch, 0)?;
        let bytes = oldest.bytes() - left.as_ref().map_or(0, |left| left.bytes());
        self.install(state, outcome, bound, Some(oldest), left)?;
        self.attach_values(&reached, state.birth)?;
        state.flushed_bytes += bytes as u64;
        for (value, parts) in lost {
            self.drop_lost_value(&value, parts, state.birth)?;
        }
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        trace::flushed(began, bytes);
        Ok(true)
    }

    /// Makes a generation, without publishing it. `settle_pages`: see [`Flush::settling`].
    pub(super) fn flush(
        &self,
        state: &mut Maintaining,
        root: &PagePointer,
        batch: Batch<'_>,
        settle_pages: usize,
    ) -> Result<Outcome> {
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        Flush::new(&self.pages, state.birth, Urgency::Emergency)
            .settling(settle_pages)
            .run(root, batch)
    }

    /// Makes a generation the newest version; `done`, the oldest journal, is in it, but for what is left
    /// of it.
    pub(super) fn install(
        &self,
        state: &mut Maintaining,
        outcome: Outcome,
        through: SequenceNumber,
        done: Option<&Arc<Journal>>,
        left: Option<Arc<Journal>>,
    ) -> Result<()> {
        let birth = state.birth;
        let next = done.map(|done| self.next_of(done, through));
        {
            let mut current = self.current.change();
            let version = current.version();
            let keep = version.journals.len() - usize::from(done.is_some());
            if next.is_some() {
                self.keep_tree(&version, next.as_ref(), through);
            }
            current.store(Version::new(
                Arc::clone(&self.pages),
                outcome.root,
                birth,
                version.journals[..keep].iter().cloned().chain(left),
                through,
            ));
        }
        self.take_over(state, outcome.pages, outcome.dropped, birth)?;
        self.progress.give();
        Ok(())
    }

    /// Notes the pages that a generation of the user's tree made and what it dropped.
    pub(super) fn take_over(
        &self,
        state: &mut Maintaining,
        pages: Vec<NewPage>,
        dropped: Vec<(Dropped, Birth)>,
        dropped_at: Birth,
    ) -> Result<()> {
        for page in pages {
            state.unwritten.insert(page.pointer.address, page);
        }
        for (item, birth) in dropped {
            self.drop_of_newest(item, birth, dropped_at)?;
        }
        state.more_to_free = true;
        Ok(())
    }

    /// The newest version does not reach this any more.
    fn drop_of_newest(&self, item: Dropped, birth: Birth, dropped_at: Birth) -> Result<()> {
        let (line, kept_through) = {
            let kept = lock(&self.kept);
            (kept.line, kept.through())
        };
        if Some(birth) <= kept_through
            && let Dropped::Extent(extent) = &item
        {
            self.pages.frames.let_go(extent.address, birth);
        }
        self.pages.space.drop_of_line(Listed {
            item,
            birth,
            dropped_at,
            line,
        })
    }

    /// Values that commits named are now named by the tree, and by none before a generation.
    pub(super) fn attach_values(&self, payloads: &[Vec<u8>], since: Birth) -> Result<()> {
        let mut values = lock(&self.values);
        for payload in payloads {
            let Ok(value) = OffTree::from_payload(payload) else {
                continue;
            };
            let Some(logged) = values.remove(&value.root.extent.address) else {
                continue;
            };
            self.note_ages(&logged.extents, logged.birth, since);
            for extent in logged.extents {
                self.pages.space.attach(extent)?;
            }
        }
        Ok(())
    }

    /// A value that a commit named was overwritten before any tree named it, and before a snapshot was
    /// given a name. Readers may still see it. `parts`: what of it others do not have, if some have anything.
    fn drop_lost_value(
        &self,
        value: &OffTree,
        parts: Option<Vec<(Dropped, Birth)>>,
        dropped_at: Birth,
    ) -> Result<()> {
        let space = &self.pages.space;
        let logged = lock(&self.values).remove(&value.root.extent.address);
        let birth = value.root.birth;
        if let Some(logged) = &logged {
            // Parts of it may be those of one that was made of it, and is in the tree.
            self.note_ages(&logged.extents, birth, dropped_at);
        }
        for extent in logged.into_iter().flat_map(|logged| logged.extents) {
            space.attach(extent)?;
            if parts.is_none() {
                space.drop_item(Dropped::Extent(extent), birth, dropped_at)?;
            }
        }
        for (item, birth) in parts.into_iter().flatten() {
            space.drop_item(item, birth, dropped_at)?;
        }
        Ok(())
    }

    /// Gives the extents of a value back that nobody but its owner knew of.
    pub(super) fn abandon_value(&self, value: &LoggedValue) {
        for extent in &value.extents {
            // Index pages of the value may be in memory under this address.
            self.pages.frames.forget(extent.address, value.birth);
            if let Err(error) = self.pages.space.abandon(*extent) {
                debug_assert!(false, "an extent that was allocated: {error}");
            }
        }
    }

    /// Frees what nothing pins any more, in bounded steps.
    pub(super) async fn free(&self, state: &mut Maintaining) -> Result<()> {
        let freed = free_some(&self.pages, FREE_STEPS).await;
        for (extent, birth) in &freed.extents {
            let unwritten = state.unwritten.get(&extent.address);
            if unwritten.is_some_and(|page| page.pointer.birth == *birth) {
                state.unwritten.remove(&extent.address);
            }
        }
        state.more_to_free = freed.more;
        freed.failed.map_or(Ok(()), Err)
    }

    /// Writes pages that are not on the disk yet.
    pub(super) async fn write_pages(&self, state: &mut Maintaining, pace: Pace) -> Result<()> {
        while !state.unwritten.is_empty() {
            let began = Instant::now();
            let step_bytes = self.step_bytes(pace);
            let mut bytes = 0;
            let mut written = Vec::new();
            let mut pages = Vec::new();
            for page in state.unwritten.values() {
                if bytes > 0 && bytes + page.handle.bytes().len() > step_bytes {
                    break;
                }
                bytes += page.handle.bytes().len();
                written.push(page.pointer);
                pages.push(Page {
                    at: page.pointer.address,
                    bytes: Bytes::from_owner(page.handle.clone()),
                });
            }
            self.save_all_the_same(pages).await?;
            for pointer in &written {
                state.unwritten.remove(&pointer.address);
                self.pages
                    .frames
                    .mark_written(pointer.address, pointer.birth);
            }
            self.counters
                .page_bytes
                .fetch_add(bytes as u64, Ordering::Relaxed);
            self.end_step(pace, began).await?;
        }
        Ok(())
    }

    /// How many bytes a checkpoint writes in one step.
    pub(super) fn step_bytes(&self, pace: Pace) -> usize {
        match pace {
            // The more waits to be flushed, the sooner committers wait for the end of this, which is
            // worse than a slow sync.
            Pace::Paced => STEP_BYTES << self.frozen().min(4),
            Pace::Hurried => SAVE_BYTES,
        }
    }

    /// Ends a step of a checkpoint that began then: where it is paced, what was written is pushed out, and
    /// the disk left to others for as long, unless something waits to be flushed.
    pub(super) async fn end_step(&self, pace: Pace, began: Instant) -> Result<()> {
        if pace == Pace::Hurried {
            return Ok(());
        }
        self.pages
            .disk
            .sync()
            .await
            .inspect_err(|error| self.poison(error))?;
        if self.frozen() == 0 && self.has_thread() {
            thread::sleep(began.elapsed().min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// A commit of nothing, which syncs all that was committed before.
    pub(super) async fn sync(self: &Arc<Self>) -> Result<SequenceNumber> {
        self.commit(Entry::new(Records::new(), Durability::Immediate))
            .await
    }

    fn has_thread(&self) -> bool {
        self.options.maintenance == super::options::Maintenance::Background
    }
}

/// The off-tree values that the operations of a batch name.
pub(super) fn off_tree_payloads(batch: &Batch<'_>) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for operation in &batch.points {
        match operation.tag {
            Tag::OffTree => payloads.push(operation.payload.to_vec()),
            Tag::Merge => {
                if let Some((Tag::OffTree, payload)) = stored_base(&operation.payload) {
                    payloads.push(payload.to_vec());
                }
            }
            _ => {}
        }
    }
    payloads
}

/// The store's own thread.
pub(super) struct Worker {
    thread: Option<thread::JoinHandle<()>>,
    core: Arc<Core>,
}

impl Worker {
    pub(super) fn start(core: &Arc<Core>) -> Result<Self> {
        let shared = Arc::clone(core);
        let thread = thread::Builder::new()
            .name("thunderhead".into())
            .spawn(move || work(&shared))
            .map_err(|error| {
                crate::error::Error::io("starting the thread that maintains the store", error)
            })?;
        Ok(Self {
            thread: Some(thread),
            core: Arc::clone(core),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.core.stopping.store(true, Ordering::Release);
        self.core.work.give();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // Panics were caught, and poisoned the store; there is nothing to add.
            let _ = thread.join();
        }
        // Who waits for the thread has to do without it.
        self.core.progress.give();
    }
}

fn work(core: &Arc<Core>) {
    // After a panic the store is poisoned. The thread goes on, so that nobody waits in vain for what
    // it does for them, be it an error.
    while core.poisoning(|| work_until_stopped(core)).is_err() {}
}

fn work_until_stopped(core: &Arc<Core>) {
    let mut deferred_since: Option<Instant> = None;
    loop {
        let count = core.work.count();
        if core.stopping.load(Ordering::Acquire) {
            core.jobs.end();
            return;
        }
        core.jobs.run();
        if core.stopping.load(Ordering::Acquire) {
            // Who closed the store waits for the thread, and may be the one that drives its disk.
            continue;
        }
        block_on(core.finish_groups());
        let worked = core.maintain_unless_busy();
        let deferred = core.has_unsynced();
        let interval = core.options.deferred_interval;
        match (deferred, deferred_since) {
            (false, _) => deferred_since = None,
            (true, None) => deferred_since = Some(Instant::now()),
            (true, Some(since)) if since.elapsed() >= interval => {
                deferred_since = None;
                // A failure poisons the store, and is told to whoever writes next.
                let _ = block_on(core.sync());
            }
            (true, Some(_)) => {}
        }
        let idle = match worked {
            Ok(true) => continue,
            Ok(false) if deferred_since.is_some() || deferred => interval,
            // Who is busy may leave something to do without saying so.
            Ok(false) if core.frozen() > 0 => Duration::from_millis(20),
            Ok(false) if core.is_short.load(Ordering::Acquire) => Duration::from_secs(1),
            Ok(false) => Duration::from_secs(3600),
            // Tried again now and then: somebody may make room.
            Err(_) => Duration::from_millis(200),
        };
        core.work.after_or_timeout(count, idle);
    }
}
