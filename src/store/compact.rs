//! Compaction: what only the newest version reaches moves together, and the disk gets the rest back.
//!
//! Everything pending is pushed down first, so that nothing is stored twice, and leaves that are not
//! full are packed anew. Then what lies behind the place where the store could end is moved before it,
//! into what is free there, and the log and the reserve go on right there. Of large values only the extents
//! that lie behind move, cut into shorter ones where no run of free sectors is long enough: a store of few
//! values of many mebibytes could not end anywhere else before its largest one. All of that is ordinary
//! copying in bounded steps, between which commits and flushes go on. After a checkpoint no root needs
//! the old places, and whole segments, and runs of free sectors in the others, are given back.
//!
//! What snapshots still reach stays where it is, and so does what values share with clones of them. It could
//! be copied, and its segment have a table that leads readers to the copies. That was measured
//! (`cargo bench --bench versions -- pinning`) with three snapshots kept, and a tenth left of what is newest:
//! the file stays 1.26 to 1.36 times as long as all that is in use, but takes 1.03 to 1.04 times that of
//! the disk, because holes are given back. So such tables would make files shorter and next to nothing
//! more free, for a look-up before every read of the disk: there are none. New data goes into the holes.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::smallvec;

use super::Store;
use super::commit::Entry;
use super::core::Core;
use super::gate::{Inside, Pass, lock};
use super::maintenance::{Maintaining, Pace};
use super::operation::Operation;
use super::options::Durability;
use crate::disk::{Release, block_on};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Birth};
use crate::log::writer::NeedChunk;
use crate::space::{Hopes, Urgency};
use crate::trace::{self, Began};
use crate::tree::operation::Batch;
use crate::tree::pages::Pages;
use crate::tree::relocate::{Relocation, Spared};
use crate::value::OffTree;

/// How many pages are read or copied at most between two moments at which others can work.
const STEP_PAGES: usize = 512;
/// How many pages are made at most at a time when what is pending is pushed down.
const SETTLE_PAGES: usize = 2048;
/// What is made at a time stays in memory until it is written: it has this share of the cache at most.
const STEP_SHARE: usize = 8;
/// Fewer pages at a time would make the nodes above them anew for little.
const STEP_PAGES_MIN: usize = 32;
/// An end is chosen and what lies behind it moved, at most so often: each time less is expected of the
/// room before it, so that what found none, large values above all, finds some the next time.
const ROUNDS: [Hopes; 5] = [
    Hopes::new(14, 0),
    Hopes::new(10, 1),
    Hopes::new(5, 4),
    Hopes::new(0, 8),
    Hopes::new(0, 16),
];
/// The smallest run of free sectors that is given back.
const VACANT_BYTES: u32 = 64 << 10;
/// The chunk in which the log goes on: this share of the store, and so many bytes at least.
const LOG_SHARE: u64 = 64;
const LOG_BYTES_MIN: u64 = 256 << 10;
/// Room for pages of checkpoints that found none before the chosen end.
const SLACK_BYTES: u32 = 128 << 10;

/// How far a compaction is.
/// It adds up while it lasts: [`Store::compact_with`] has an example.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// Segments that were to be emptied.
    pub segments: u64,
    /// Pages looked at.
    pub pages_seen: u64,
    /// Pages and values moved.
    pub pages_moved: u64,
    /// Bytes moved.
    pub bytes_moved: u64,
    /// Bytes given back to the disk.
    pub bytes_released: u64,
}

/// How many checkpoints in a row are made for what was dropped to be free.
const SETTLING_MAX: usize = 64;

/// While it lives, extents are allocated for compactness.
struct Compacting {
    core: Arc<Core>,
}

impl Compacting {
    fn new(core: &Arc<Core>) -> Self {
        core.pages.space.fit_closely(true);
        Self {
            core: Arc::clone(core),
        }
    }

    /// From now on nothing is allocated at the end of the store, which is being emptied.
    fn avoid(&self, from: Address) {
        self.core.pages.space.avoid(Some(from));
    }
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.core.pages.space.avoid(None);
        self.core.pages.space.fit_closely(false);
    }
}

impl Core {
    async fn compact(
        self: &Arc<Self>,
        mut progress: impl FnMut(&Compaction) -> ControlFlow<()>,
    ) -> Result<Compaction> {
        let began = Began::now();
        let mut report = Compaction::default();
        self.exclusively(|core, _state| async move {
            core.freeze();
            Ok(())
        })
        .await?;
        while !self
            .exclusively(|core, mut state| async move { core.settle(&mut state).await })
            .await?
        {}
        let compacting = Compacting::new(self);
        self.relocate(Relocation::packing, &mut report, &mut progress)
            .await?;
        self.exclusively(|core, mut state| async move { core.settle_space(&mut state).await })
            .await?;
        // The chunks that the log leaves are room for what moves.
        let log_bytes = self.compact_log_bytes();
        self.move_log_and_reserve(log_bytes).await?;
        for hopes in ROUNDS {
            if !self
                .shorten(&compacting, hopes, &mut report, &mut progress)
                .await?
            {
                break;
            }
        }
        drop(compacting);
        // Nothing is published while free space is given back: it stays free.
        report.bytes_released = self
            .exclusively(|core, _state| async move { core.give_back().await })
            .await?;
        trace::compacted(began, report.bytes_moved, report.bytes_released);
        // The caller's last word is not asked for: there is nothing left to stop.
        let _ = progress(&report);
        Ok(report)
    }

    /// Chooses where the store could end and moves what lies behind; says whether anything did.
    async fn shorten(
        self: &Arc<Self>,
        compacting: &Compacting,
        hopes: Hopes,
        report: &mut Compaction,
        progress: &mut impl FnMut(&Compaction) -> ControlFlow<()>,
    ) -> Result<bool> {
        let space = &self.pages.space;
        let Some(end) = space.end_for_all(hopes)? else {
            return Ok(false);
        };
        let log_bytes = self.compact_log_bytes();
        let reserve_bytes = space.statistics().reserve_bytes as u32;
        // Behind the pages, where next to nothing else is, the log and the reserve find room in one
        // piece.
        let log_end = space.place_behind(end, log_bytes + SLACK_BYTES);
        let whole_end = space.place_behind(log_end, reserve_bytes);
        if !space.is_used_from(whole_end)? {
            return Ok(false);
        }
        report.segments += space.segments().saturating_sub(end.segment().into());
        compacting.avoid(end);
        let emptying = || Relocation::emptying(end);
        let moved = self.relocate(emptying, report, progress).await;
        match moved {
            // Room was left over in pieces too small: what was moved is moved.
            Err(error) if error.kind() == ErrorKind::StorageFull => {}
            moved => moved?,
        }
        self.exclusively(|core, mut state| async move { core.settle_space(&mut state).await })
            .await?;
        compacting.avoid(whole_end);
        self.move_log_and_reserve(log_bytes).await?;
        Ok(true)
    }

    /// Lets the log go on, in a chunk of so many bytes, and the reserve be where there is room now.
    async fn move_log_and_reserve(self: &Arc<Self>, log_bytes: u32) -> Result<()> {
        let inside = self.gate.enter(Pass::Shared).await;
        self.exclusively(|core, mut state| async move {
            core.pages.space.set_reserve(0);
            core.move_log(inside, log_bytes).await?;
            core.settle_space(&mut state).await
        })
        .await
    }

    /// How long the chunk is in which the log of a compacted store goes on.
    fn compact_log_bytes(&self) -> u32 {
        let usual = self.pages.settings.log_chunk_bytes;
        let share = self.pages.space.statistics().tree_bytes / LOG_SHARE;
        let sector_bytes = u64::from(self.pages.disk.properties().sector_bytes);
        let bytes = share.max(LOG_BYTES_MIN).next_multiple_of(sector_bytes);
        bytes.min(usual.into()) as u32
    }

    /// Lets the commit log go on in another, short chunk.
    ///
    /// Inside the gate: a large transaction counts on nobody else taking a sequence.
    async fn move_log(self: &Arc<Self>, inside: Inside, bytes: u32) -> Result<()> {
        let log = self.log()?;
        let spares = lock(log).writer.leave_chunks();
        for chunk in spares {
            self.pages.space.abandon(chunk)?;
        }
        let bytes = u64::from(bytes);
        self.add_chunk(log, NeedChunk { bytes }, Urgency::Emergency)
            .await?;
        // A commit of nothing: it is what moves.
        let entry = Entry {
            inside: Some(inside),
            ..Entry::new(smallvec![Bytes::new()], Durability::Immediate)
        };
        self.commit(entry).await.map(|_| ())
    }

    /// How many pages are made at a time, if there is the memory for so many.
    fn step_pages(&self, most: usize) -> usize {
        let share = self.options.cache_bytes / STEP_SHARE;
        let pages = share / self.pages.settings.page_bytes as usize;
        pages.clamp(STEP_PAGES_MIN, most)
    }

    /// Pushes some of what is pending down to the leaves; says whether nothing is left.
    async fn settle(self: &Arc<Self>, state: &mut Maintaining) -> Result<bool> {
        if self.tree_is_due(state) {
            self.checkpoint_tree(state, Pace::Hurried, false).await?;
        }
        if self.flush_oldest(state)? {
            return Ok(false);
        }
        let version = self.current.load_full();
        if version.root.unresolved == 0 {
            return Ok(true);
        }
        let pages = self.step_pages(SETTLE_PAGES);
        let outcome = self.flush(state, &version.root, Batch::default(), pages)?;
        self.install(state, outcome, version.tree_through, None, None)?;
        self.free(state).await?;
        Ok(false)
    }

    /// Checkpoints until no root keeps what was dropped from being used again. More than once where
    /// a root lists what it was the last to reach, where names were deleted, whose versions are taken apart
    /// step by step, or where others keep something.
    async fn settle_space(self: &Arc<Self>, state: &mut Maintaining) -> Result<()> {
        let mut before = u64::MAX;
        for _ in 0..SETTLING_MAX {
            self.free_all(state).await?;
            self.checkpoint_anyway(state, Pace::Hurried, false).await?;
            self.free_all(state).await?;
            let dropped = self.pages.space.statistics().dropped_bytes;
            if (dropped == 0 || dropped >= before) && !self.kept_is_due() {
                break;
            }
            before = dropped;
        }
        Ok(())
    }

    /// Frees all that nothing pins.
    async fn free_all(self: &Arc<Self>, state: &mut Maintaining) -> Result<()> {
        state.more_to_free = true;
        while state.more_to_free {
            self.free(state).await?;
        }
        // What was freed in a generation can be used in the next.
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        Ok(())
    }

    /// Goes through both trees.
    async fn relocate(
        self: &Arc<Self>,
        relocation: impl Fn() -> Relocation,
        report: &mut Compaction,
        progress: &mut impl FnMut(&Compaction) -> ControlFlow<()>,
    ) -> Result<()> {
        let before = *report;
        let mut user = relocation();
        let mut system = relocation();
        while !(user.is_finished() && system.is_finished()) {
            (user, system) = self
                .exclusively(|core, mut state| async move {
                    match user.is_finished() {
                        true => core.relocate_system(&mut state, &mut system)?,
                        false => core.relocate_user(&mut state, &mut user)?,
                    }
                    if core.tree_is_due(&state) {
                        core.checkpoint_tree(&mut state, Pace::Hurried, false)
                            .await?;
                    }
                    Ok((user, system))
                })
                .await?;
            let (user, system) = (user.progress(), system.progress());
            report.pages_seen = before.pages_seen + user.pages_seen + system.pages_seen;
            report.pages_moved = before.pages_moved + user.pages_moved + system.pages_moved;
            report.bytes_moved = before.bytes_moved + user.bytes_moved + system.bytes_moved;
            if progress(report).is_break() {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    "the compaction was stopped",
                ));
            }
        }
        Ok(())
    }

    fn relocate_user(&self, state: &mut Maintaining, relocation: &mut Relocation) -> Result<()> {
        while self.flush_oldest(state)? {}
        let version = self.current.load_full();
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        let (root, birth) = (version.root, state.birth);
        let urgency = Urgency::Emergency;
        // Until the step is published.
        let bases = self.bases.lock();
        let kept_through = self.kept_through();
        relocation.spare(kept_through.unwrap_or_default());
        let stays = |value: &OffTree| {
            Some(value.root.birth) <= kept_through || bases.contains_key(&value.root.extent.address)
        };
        let spared = Spared {
            stays: &stays,
            is_cloned: &|value| block_on(self.is_cloned(value)),
        };
        let pages = self.step_pages(STEP_PAGES);
        let outcome = relocation.step(&self.pages, &root, birth, urgency, pages, &spared)?;
        match outcome {
            Some(outcome) => self.install(state, outcome, version.tree_through, None, None),
            None => Ok(()),
        }
    }

    fn relocate_system(&self, state: &mut Maintaining, relocation: &mut Relocation) -> Result<()> {
        let root = *lock(&self.system);
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        let birth = state.birth;
        let urgency = Urgency::Emergency;
        let outcome = relocation.step(
            &self.pages,
            &root,
            birth,
            urgency,
            self.step_pages(STEP_PAGES),
            &Spared::NOTHING,
        )?;
        let Some(outcome) = outcome else {
            return Ok(());
        };
        self.install_system(outcome.root, birth, 0, self.published());
        self.take_over_system(state, outcome.pages, outcome.dropped)
    }

    /// Gives the disk what is free: whole segments, and long runs in the others.
    async fn give_back(&self) -> Result<u64> {
        let space = &self.pages.space;
        let mut bytes = 0;
        let whole = space.releasable()?;
        bytes += whole
            .iter()
            .map(|release| u64::from(release.extent.length))
            .sum::<u64>();
        let released = self.pages.disk.release(whole.clone()).await;
        space.released(&whole, released.is_ok());
        released?;
        Ok(bytes + give_back_vacant(&self.pages, VACANT_BYTES).await?)
    }
}

/// Gives the disk runs of free sectors of so many bytes at least: how many bytes. They can be allocated in
/// the next generation.
pub(super) async fn give_back_vacant(pages: &Pages, bytes_least: u32) -> Result<u64> {
    let space = &pages.space;
    let mut bytes = 0;
    for segment in (0..space.segments() as u32).rev() {
        let vacant = space.take_vacant(segment, bytes_least)?;
        // From the end on, so that the file is cut as far as possible.
        let releases: Vec<Release> = vacant
            .iter()
            .rev()
            .map(|extent| Release { extent: *extent })
            .collect();
        let released = pages.disk.release(releases).await;
        for extent in &vacant {
            bytes += u64::from(extent.length);
            space.abandon(*extent)?;
        }
        released?;
    }
    Ok(bytes)
}

impl Store {
    /// Brings the store's file down to about what the newest version needs, while reads and writes
    /// go on. Costs reading all interior nodes, rewriting what is pending and leaves that are not
    /// full, and moving what lies at the end of the file. What snapshots that have names
    /// reach is not moved, nor the data that values share with [clones](Self::clone_range) of them. If the future is dropped, what was moved so far stays moved.
    ///
    /// Errors: those of a [`checkpoint`](Self::checkpoint).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for number in 0..1000u32 {
    ///     store.put(number.to_be_bytes(), [7; 100]).wait()?;
    /// }
    /// store.delete_range(..).wait()?;
    /// let done = store.compact().wait()?;
    /// println!("{} bytes were given back", done.bytes_released);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn compact(&self) -> Operation<impl Future<Output = Result<Compaction>> + Send + use<'_>> {
        self.compact_with(|_| ControlFlow::Continue(()))
    }

    /// The same, with a function that is told how far it is, and can stop it (`Cancelled`); what was
    /// moved so far stays moved. Cost and errors: those of [`compact`](Self::compact) besides.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use std::ops::ControlFlow;
    /// use thunderhead::ErrorKind;
    ///
    /// store.put("k", "v").wait()?;
    /// let stopped = store.compact_with(|done| {
    ///     println!("{} pages moved", done.pages_moved);
    ///     ControlFlow::Break(())
    /// });
    /// if let Err(error) = stopped.wait() {
    ///     assert_eq!(error.kind(), ErrorKind::Cancelled);
    /// }
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn compact_with(
        &self,
        progress: impl FnMut(&Compaction) -> ControlFlow<()> + Send,
    ) -> Operation<impl Future<Output = Result<Compaction>> + Send> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_open()?;
            core.check_poisoned()?;
            core.log()?;
            core.compact(progress).await
        })
    }
}
