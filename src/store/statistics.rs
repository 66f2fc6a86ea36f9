//! [`Statistics`]: what the store is doing, in numbers.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Store;
use crate::cache::CacheStatistics;
use crate::disk::DiskStatistics;
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
    /// Bytes that were committed: operations with their keys and values. Large transactions count
    /// as they are written, before their commit.
    pub committed_bytes: u64,
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
    /// The disk.
    pub disk: DiskStatistics,
    /// Segments that the store has. Now.
    pub segments: u64,
    /// Bytes of the trees and their values. Now.
    pub tree_bytes: u64,
    /// Bytes of the commit log's chunks. Now.
    pub log_space_bytes: u64,
    /// Bytes of pages and values that no durable tree has yet. Now.
    pub unattached_bytes: u64,
    /// Bytes kept ready for a full disk. Now.
    pub reserve_bytes: u64,
    /// Bytes that nothing newest reaches, and somebody else still does: see `pins`. Now.
    pub dropped_bytes: u64,
    /// Bytes that can be used. Now.
    pub free_bytes: u64,
    /// Who keeps how many bytes from being used again, oldest first. Now.
    pub pins: Vec<Pin>,
    /// Why the background work failed last, until it succeeds.
    pub trouble: Option<Error>,
}

/// A generation of the store that somebody keeps: the tree as one flush or checkpoint left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Pin {
    /// Its number.
    pub generation: Birth,
    /// How long ago it was new, or the store was opened. Whatever reads it is younger than that.
    pub age: Duration,
    /// The bytes that it, and perhaps an older one, keeps from being used again, but no newer one.
    pub bytes: u64,
    /// It is the newest one, which everybody reads.
    pub newest: bool,
    /// A root on the disk names it: until the next checkpoints.
    pub root: bool,
    /// Snapshots, transactions, open ranges or cursors read it. Of the newest one it is not known.
    pub readers: bool,
}

impl Statistics {
    /// Bytes written to the disk for each byte that was committed; `None` before the first commit.
    /// What is committed and still in memory has been written to the log alone, so this is of some
    /// meaning after many times [`journal_bytes`](crate::Options::journal_bytes). [`Store::stats`]
    /// has an example, as for the others.
    pub fn write_amplification(&self) -> Option<f64> {
        let committed = self.committed_bytes;
        (committed > 0).then(|| self.disk.written_bytes as f64 / committed as f64)
    }

    /// The oldest generation that snapshots, transactions, ranges or cursors keep, if they keep one
    /// that is not the newest: how old the oldest of them is at most, and what it costs.
    pub fn oldest_reader(&self) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.readers)
    }
}

impl Store {
    /// What the store is doing, in numbers. Cheap: nothing is read from the disk. How the tree is
    /// built is told by [`levels`](Self::levels), for more.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// let snapshot = store.snapshot();
    /// store.put("k", "w").wait()?;
    /// store.checkpoint().wait()?;
    /// let stats = store.stats();
    /// assert_eq!(stats.commits, 2);
    /// assert!(stats.write_amplification().unwrap() > 1.0);
    /// assert!(stats.oldest_reader().is_some());
    /// drop(snapshot);
    /// assert!(store.stats().oldest_reader().is_none());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn stats(&self) -> Statistics {
        let core = &self.shared.core;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let space = core.pages.space.statistics();
        let version = core.view().version;
        let catalogue = core.catalogue.birth();
        let pins = core.pages.space.pins().into_iter();
        let pins = pins.map(|(held, roots)| {
            let newest = held.generation == version.birth;
            // The store itself reads names in it.
            let own = u64::from(held.generation == catalogue);
            Pin {
                generation: held.generation,
                age: held.since.elapsed(),
                bytes: held.bytes,
                newest,
                root: roots > 0,
                readers: held.count > roots + own && !newest,
            }
        });
        Statistics {
            sequence: core.published(),
            commits: count(&core.counters.commits),
            committed_bytes: count(&core.counters.committed_bytes),
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
            disk: core.pages.disk.statistics(),
            segments: space.segments.into(),
            tree_bytes: space.tree_bytes,
            log_space_bytes: space.log_bytes,
            unattached_bytes: space.unattached_bytes,
            reserve_bytes: space.reserve_bytes,
            dropped_bytes: space.dropped_bytes,
            free_bytes: space.free_bytes,
            pins: pins.collect(),
            trouble: core.trouble(),
        }
    }
}
