//! Compaction: what only the newest version reaches moves together, and the disk gets the rest back.
//!
//! Everything pending is pushed down first, so that nothing is stored twice. Then the segments that
//! lie highest are emptied into the others by ordinary copying, in steps between which commits
//! and flushes go on; two checkpoints later no root needs the old places, and whole segments, and
//! runs of free sectors in the others, are given back. What snapshots still reach stays where it is.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Store;
use super::commit::Entry;
use super::core::Core;
use super::gate::{Inside, Pass, lock};
use super::maintenance::{Maintaining, Pace};
use super::operation::Operation;
use super::options::Durability;
use bytes::Bytes;

use crate::disk::Release;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Birth;
use crate::space::Urgency;
use crate::tree::operation::Batch;
use crate::tree::relocate::Relocation;

/// How many pages are read or copied between two moments at which others can work.
const STEP_PAGES: usize = 512;
/// How often segments are chosen and emptied.
const ROUNDS: usize = 2;
/// The smallest run of free sectors that is given back.
const VACANT_BYTES: u32 = 64 << 10;

/// How far a compaction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// Segments that are being emptied.
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

/// While it lives, nothing is allocated in the segments that are being emptied.
struct Avoiding {
    core: Arc<Core>,
}

impl Avoiding {
    fn new(core: &Arc<Core>, segments: &BTreeSet<u32>) -> Self {
        core.pages.space.avoid(segments.clone());
        Self {
            core: Arc::clone(core),
        }
    }
}

impl Drop for Avoiding {
    fn drop(&mut self) {
        self.core.pages.space.avoid(BTreeSet::new());
    }
}

impl Core {
    async fn compact(
        self: &Arc<Self>,
        mut progress: impl FnMut(&Compaction) -> ControlFlow<()>,
    ) -> Result<Compaction> {
        let mut report = Compaction::default();
        self.exclusively(|core, mut state| async move {
            core.settle(&mut state)?;
            core.settle_space(&mut state).await
        })
        .await?;
        // The second round finds what the first one's own garbage hid.
        for _ in 0..ROUNDS {
            let segments = self.victims();
            if segments.is_empty() {
                break;
            }
            report.segments += segments.len() as u64;
            let _avoiding = Avoiding::new(self, &segments);
            let inside = self.gate.enter(Pass::Shared).await;
            self.exclusively(|core, _state| async move { core.move_log(inside).await })
                .await?;
            self.relocate(&segments, &mut report, &mut progress).await?;
            self.exclusively(|core, mut state| async move { core.settle_space(&mut state).await })
                .await?;
        }
        // Nothing is published while free space is given back: it stays free.
        report.bytes_released = self
            .exclusively(|core, _state| async move { core.give_back().await })
            .await?;
        // The caller's last word is not asked for: there is nothing left to stop.
        let _ = progress(&report);
        Ok(report)
    }

    /// Lets the commit log go on in a chunk outside the segments that are being emptied.
    ///
    /// Inside the gate: a large transaction counts on nobody else taking a sequence.
    async fn move_log(self: &Arc<Self>, inside: Inside) -> Result<()> {
        let spares = lock(self.log()?).writer.leave_chunks();
        for chunk in spares {
            self.pages.space.abandon(chunk)?;
        }
        // A commit of nothing: it is what moves.
        let entry = Entry {
            records: vec![Bytes::new()],
            durability: Durability::Immediate,
            values: Vec::new(),
            urgency: Urgency::Emergency,
            elsewhere: None,
            inside: Some(inside),
        };
        self.commit(entry).await.map(|_| ())
    }

    /// Pushes everything that is pending down to the leaves.
    fn settle(&self, state: &mut Maintaining) -> Result<()> {
        self.freeze();
        while self.flush_oldest(state)? {}
        let version = self.current.load_full();
        if version.root.unresolved == 0 {
            return Ok(());
        }
        let outcome = self.flush(state, &version.root, Batch::default(), true)?;
        self.install(state, outcome, version.tree_through, 0)
    }

    /// Checkpoints until neither root pins what was dropped, and frees it.
    async fn settle_space(self: &Arc<Self>, state: &mut Maintaining) -> Result<()> {
        for _ in 0..3 {
            state.more_to_free = true;
            while state.more_to_free {
                self.free(state).await?;
            }
            self.checkpoint_anyway(state, Pace::Hurried, false).await?;
        }
        state.more_to_free = true;
        while state.more_to_free {
            self.free(state).await?;
        }
        // What was freed in a generation can be used in the next.
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        Ok(())
    }

    /// The segments to be emptied: all above those that can take everything, with a sixteenth and a
    /// segment to spare for copies and fragments.
    fn victims(&self) -> BTreeSet<u32> {
        let properties = self.pages.disk.properties();
        let sectors = u64::from(properties.segment_bytes / properties.sector_bytes);
        let used = self.pages.space.utilisation();
        let total: u64 = used.iter().map(|(_, used)| u64::from(*used)).sum();
        let enough = (total + total / 16).div_ceil(sectors) + 1;
        let numbers = used.iter().map(|(segment, _)| *segment);
        numbers
            .filter(|segment| u64::from(*segment) >= enough)
            .collect()
    }

    /// Moves both trees out of some segments.
    async fn relocate(
        self: &Arc<Self>,
        segments: &BTreeSet<u32>,
        report: &mut Compaction,
        progress: &mut impl FnMut(&Compaction) -> ControlFlow<()>,
    ) -> Result<()> {
        let before = *report;
        let mut user = Relocation::new(segments.clone());
        let mut system = Relocation::new(segments.clone());
        while !(user.is_finished() && system.is_finished()) {
            (user, system) = self
                .exclusively(|core, mut state| async move {
                    match user.is_finished() {
                        true => core.relocate_system(&mut state, &mut system)?,
                        false => core.relocate_user(&mut state, &mut user)?,
                    }
                    if core.pages.frames.dirty_bytes() > core.options.cache_bytes / 4 {
                        core.write_pages(&mut state, Pace::Paced).await?;
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
        let outcome = relocation.step(&self.pages, &root, birth, urgency, STEP_PAGES)?;
        match outcome {
            Some(outcome) => self.install(state, outcome, version.tree_through, 0),
            None => Ok(()),
        }
    }

    fn relocate_system(&self, state: &mut Maintaining, relocation: &mut Relocation) -> Result<()> {
        let root = *lock(&self.system);
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        let birth = state.birth;
        let urgency = Urgency::Emergency;
        let outcome = relocation.step(&self.pages, &root, birth, urgency, STEP_PAGES)?;
        let Some(outcome) = outcome else {
            return Ok(());
        };
        *lock(&self.system) = outcome.root;
        self.take_over(state, outcome.pages, outcome.dropped, birth)
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
        for segment in (0..space.segments() as u32).rev() {
            let vacant = space.take_vacant(segment, VACANT_BYTES)?;
            // From the end on, so that the file is cut as far as possible.
            let releases: Vec<Release> = vacant
                .iter()
                .rev()
                .map(|extent| Release { extent: *extent })
                .collect();
            let released = self.pages.disk.release(releases).await;
            for extent in &vacant {
                bytes += u64::from(extent.length);
                space.abandon(*extent)?;
            }
            released?;
        }
        Ok(bytes)
    }
}

impl Store {
    /// Brings the store's file down to about what the newest version needs, while reads and writes go
    /// on. Costs reading all interior nodes and rewriting what lies in the highest segments.
    /// Errors: those of a checkpoint. What snapshots still reach is not moved.
    pub fn compact(&self) -> Operation<impl Future<Output = Result<Compaction>> + Send + use<'_>> {
        self.compact_with(|_| ControlFlow::Continue(()))
    }

    /// The same, with a function that is told how far it is, and can stop it (`Cancelled`); what was
    /// moved so far stays moved.
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
