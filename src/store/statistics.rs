//! [`Statistics`]: what the store is doing, in numbers.

use std::sync::atomic::Ordering;

use super::Store;
use crate::cache::CacheStatistics;
use crate::error::Error;
use crate::format::{Birth, SequenceNumber};

/// What [`Store::stats`] gives. Bytes and counts since the store was opened, unless said otherwise.
#[derive(Debug)]
#[non_exhaustive]
pub struct Statistics {
    /// The newest commit that readers see.
    pub sequence: SequenceNumber,
    /// Commits.
    pub commits: u64,
    /// Groups in which commits were written: fewer than commits where several came at once.
    pub groups: u64,
    /// Bytes written to the commit log.
    pub log_bytes: u64,
    /// Bytes of pages written.
    pub page_bytes: u64,
    /// Journals flushed into the tree.
    pub flushes: u64,
    /// Roots published by checkpoints.
    pub checkpoints: u64,
    /// Bytes of commits that are in memory and in the log, not yet in the tree. Now.
    pub journal_bytes: u64,
    /// Journals that wait to be flushed. Now.
    pub frozen_journals: u64,
    /// The cache, now.
    pub cache: CacheStatistics,
    /// Segments that the store has. Now.
    pub segments: u64,
    /// Bytes of the trees and their values. Now.
    pub tree_bytes: u64,
    /// Bytes of the commit log's chunks. Now.
    pub log_space_bytes: u64,
    /// Bytes kept ready for a full disk. Now.
    pub reserve_bytes: u64,
    /// Bytes that nothing newest reaches, and somebody else still does: see `pins`. Now.
    pub dropped_bytes: u64,
    /// Bytes that can be used. Now.
    pub free_bytes: u64,
    /// Who keeps how many bytes from being used again: generations that snapshots, open ranges or
    /// the last two roots hold, oldest first. Now.
    pub pins: Vec<(Birth, u64)>,
    /// Why the background work failed last, until it succeeds.
    pub trouble: Option<Error>,
}

impl Store {
    /// What the store is doing, in numbers. Cheap: nothing is read from the disk.
    pub fn stats(&self) -> Statistics {
        let core = &self.shared.core;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let space = core.pages.space.statistics();
        let version = core.view().version;
        Statistics {
            sequence: core.published(),
            commits: count(&core.counters.commits),
            groups: count(&core.counters.groups),
            log_bytes: count(&core.counters.log_bytes),
            page_bytes: count(&core.counters.page_bytes),
            flushes: count(&core.counters.flushes),
            checkpoints: count(&core.counters.checkpoints),
            journal_bytes: version
                .journals
                .iter()
                .map(|journal| journal.bytes() as u64)
                .sum(),
            frozen_journals: core.frozen() as u64,
            cache: core.pages.frames.stats(),
            segments: space.segments.into(),
            tree_bytes: space.tree_bytes,
            log_space_bytes: space.log_bytes,
            reserve_bytes: space.reserve_bytes,
            dropped_bytes: space.dropped_bytes,
            free_bytes: space.free_bytes,
            pins: core.pages.space.pins(),
            trouble: core.trouble(),
        }
    }
}
