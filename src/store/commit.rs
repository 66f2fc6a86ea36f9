//! Group commit: everybody who commits at the same time shares one write and one sync.
//!
//! A commit enters a queue. Whoever finds no group under way makes one of all that wait, and every
//! waiter drives it: on a thread that waits, the write and the sync happen inline. The group's
//! future belongs to the store, so dropping a commit's future after it entered the queue does not
//! cancel the commit; some other commit, the maintenance or `close` finishes it.
//!
//! In order: write, sync if somebody asked for it, enter the journal, publish. What was not
//! published when a sync fails is never seen.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, Shared, select};
use futures::lock::OwnedMutexGuard;
use smallvec::SmallVec;

use super::core::{Core, Log};
use super::gate::{Inside, Pass, lock};
use super::maintenance::{LoggedValue, Maintaining};
use super::open::prepared;
use super::options::Durability;
use crate::disk::Page;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::USER_TREE;
use crate::format::{Address, Birth, PagePointer, SequenceNumber};
use crate::log::writer::{LogWriter, NeedChunk};
use crate::snapshot::Version;
use crate::space::{Owner, Urgency};
use crate::tree::journal::Journal;

/// The record buffers of one commit.
pub(super) type Records = Vec<Bytes>;

/// How much of deferred commits is kept in memory.
const DEFERRED_BYTES_MAX: usize = 256 << 10;

/// A commit on its way.
pub(super) struct Entry {
    /// Empty: nothing to log, only to sync what came before.
    pub(super) records: Records,
    pub(super) durability: Durability,
    /// Off-tree values that the records name: their roots and all their extents.
    pub(super) values: Vec<(Address, LoggedValue)>,
    /// Only deletes: may use the reserve.
    pub(super) urgency: Urgency,
    /// The records are a mark: what was committed is in the tree already.
    pub(super) elsewhere: Option<Elsewhere>,
    /// Others who want to be alone wait until this is published.
    #[expect(
        dead_code,
        reason = "it is dropped with the entry, which is what it is for"
    )]
    pub(super) inside: Option<Inside>,
}

/// A tree that has what was committed, and that the newest root names.
pub(super) struct Elsewhere {
    pub(super) user: PagePointer,
    pub(super) birth: Birth,
    /// No other generation comes before readers see this one.
    pub(super) _state: OwnedMutexGuard<Maintaining>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

#[derive(Default)]
struct Done {
    result: Mutex<Option<Result<SequenceNumber>>>,
}

struct Waiting {
    entry: Entry,
    done: Arc<Done>,
}

type Group = Shared<BoxFuture<'static, ()>>;

/// A commit whose future was dropped: somebody else has to finish its group.
struct LeftAlone<'c> {
    core: &'c Core,
    finished: bool,
}

impl Drop for LeftAlone<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.core.work.give();
        }
    }
}

/// Commits that wait, and the group that is under way.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Vec<Waiting>,
    under_way: Option<Group>,
}

impl Core {
    /// The largest commit, in bytes of records, that goes through the log.
    pub(super) fn logged_bytes_max(&self) -> usize {
        let properties = self.pages.disk.properties();
        let most =
            LogWriter::commit_bytes_max(properties.segment_bytes, properties.sector_bytes) / 4;
        most.min(self.options.journal_bytes.max(64 << 10) * 2)
    }

    /// Commits. On return, the commit is as durable as it asked to be, and published.
    pub(super) async fn commit(self: &Arc<Self>, entry: Entry) -> Result<SequenceNumber> {
        let entry = match self.commit_in_memory(entry) {
            Ok(result) => return result,
            Err(entry) => entry,
        };
        let done = Arc::new(Done::default());
        let mut left = LeftAlone {
            core: self,
            finished: false,
        };
        lock(&self.queue).waiting.push(Waiting {
            entry,
            done: Arc::clone(&done),
        });
        loop {
            if let Some(result) = lock(&done.result).take() {
                left.finished = true;
                return result;
            }
            match self.join_group() {
                Some(group) => group.await,
                None => {
                    left.finished = true;
                    let lost = || Error::new(ErrorKind::Poisoned, "a commit group was torn down");
                    return lock(&done.result).take().unwrap_or_else(|| Err(lost()));
                }
            }
        }
    }

    /// A deferred commit that finds nobody else only enters the journal: it needs no group. The
    /// queue is held meanwhile, so that none begins. Gives the entry back where that is impossible.
    #[expect(
        clippy::result_large_err,
        reason = "the entry goes on to the queue, it is no error"
    )]
    fn commit_in_memory(
        self: &Arc<Self>,
        entry: Entry,
    ) -> std::result::Result<Result<SequenceNumber>, Entry> {
        let (Durability::Deferred, Some(log)) = (entry.durability, &self.log) else {
            return Err(entry);
        };
        let queue = lock(&self.queue);
        let alone = queue.waiting.is_empty() && queue.under_way.is_none();
        if !alone || self.check_poisoned().is_err() || self.deferred_is_full(log) {
            return Err(entry);
        }
        let published = self.publish(log, std::iter::once(&entry), false);
        drop(queue);
        Ok(match published {
            Ok(sequences) => Ok(sequences[0]),
            Err(error) => {
                self.poison(&error);
                entry
                    .values
                    .iter()
                    .for_each(|(_, value)| self.abandon_value(value));
                Err(error)
            }
        })
    }

    /// Whether what is deferred has to be written with the next commit.
    fn deferred_is_full(&self, log: &Mutex<Log>) -> bool {
        lock(log).deferred_bytes > DEFERRED_BYTES_MAX.min(self.logged_bytes_max())
    }

    /// Drives groups that were left alone by those who began them.
    pub(super) async fn finish_groups(self: &Arc<Self>) {
        while let Some(group) = self.join_group() {
            group.await;
        }
    }

    /// Waits to be alone inside the gate, driving groups that were left alone meanwhile.
    pub(super) async fn enter_alone(self: &Arc<Self>) -> Inside {
        let mut entering = self.gate.enter(Pass::Alone);
        loop {
            let count = self.work.count();
            self.finish_groups().await;
            match select(entering, Box::pin(self.work.after(count))).await {
                Either::Left((inside, _)) => return inside,
                Either::Right(((), waiting)) => entering = waiting,
            }
        }
    }

    /// The group under way, or a new one of those who wait.
    fn join_group(self: &Arc<Self>) -> Option<Group> {
        let mut queue = lock(&self.queue);
        if let Some(group) = &queue.under_way {
            return Some(group.clone());
        }
        if queue.waiting.is_empty() {
            return None;
        }
        let entries = self.take_entries(&mut queue.waiting);
        let group = run_group(Arc::clone(self), entries).boxed().shared();
        queue.under_way = Some(group.clone());
        Some(group)
    }

    /// As many of those who wait as one group of the log can hold.
    fn take_entries(&self, waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
        let properties = self.pages.disk.properties();
        let most =
            LogWriter::commit_bytes_max(properties.segment_bytes, properties.sector_bytes) / 2;
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += 16 + waiting.entry.bytes();
            bytes <= most
        };
        let count = waiting.iter().take_while(fits).count().max(1);
        waiting.drain(..count).collect()
    }

    /// Writes, syncs and publishes a group: the sequence of each entry.
    async fn write_group(
        self: &Arc<Self>,
        entries: &[Waiting],
    ) -> Result<SmallVec<[SequenceNumber; 1]>> {
        self.check_poisoned()?;
        let log = self.log()?;
        let with = |durability| {
            let mut entries = entries.iter();
            entries.any(|waiting| waiting.entry.durability == durability)
        };
        // Once the store's thread has ended, nobody else would sync what is deferred.
        let ending = self.stopping.load(Ordering::Acquire);
        let sync = with(Durability::Immediate) || ending;
        let bytes: usize = entries.iter().map(|waiting| waiting.entry.bytes()).sum();
        let deferred_bytes = lock(log).deferred_bytes + bytes;
        let write = sync
            || with(Durability::Buffered)
            || deferred_bytes > DEFERRED_BYTES_MAX.min(self.logged_bytes_max());
        let urgency = match entries
            .iter()
            .all(|waiting| waiting.entry.urgency == Urgency::Emergency)
        {
            true => Urgency::Emergency,
            false => Urgency::Ordinary,
        };
        if write {
            self.write_log(log, entries, sync, urgency).await?;
        }
        let entries = entries.iter().map(|waiting| &waiting.entry);
        self.publish(log, entries, write)
            .inspect_err(|error| self.poison(error))
    }

    /// Writes what was deferred and the entries as one group of the log.
    async fn write_log(
        self: &Arc<Self>,
        log: &Mutex<Log>,
        entries: &[Waiting],
        sync: bool,
        urgency: Urgency,
    ) -> Result<()> {
        let has_values = entries
            .iter()
            .any(|waiting| !waiting.entry.values.is_empty());
        let (pages, synced, others_unsynced) = loop {
            let need = {
                let mut log = lock(log);
                let log = &mut *log;
                let commits: Vec<&[Bytes]> = log
                    .deferred
                    .iter()
                    .chain(entries.iter().map(|waiting| &waiting.entry.records))
                    .filter(|records| !records.is_empty())
                    .map(Vec::as_slice)
                    .collect();
                let others_unsynced = log.unsynced || has_values;
                if commits.is_empty() {
                    break (Vec::new(), log.writer.begin_sync(), others_unsynced);
                }
                let first = log.writer.next_sequence();
                match log.writer.append(first, &commits, sync) {
                    Ok(pages) => {
                        let bytes: usize = pages.iter().map(|page| page.bytes.len()).sum();
                        log.since_checkpoint += bytes as u64;
                        self.counters
                            .log_bytes
                            .fetch_add(bytes as u64, Ordering::Relaxed);
                        let last = SequenceNumber(log.writer.next_sequence().0 - 1);
                        break (pages, last, others_unsynced);
                    }
                    Err(need) => need,
                }
            };
            self.add_chunk(log, need, urgency).await?;
        };
        if let Err(error) = self.save_group(pages, sync, others_unsynced).await {
            // What was handed to the disk may or may not be there: no later write can be ordered
            // behind it.
            self.poison(&error);
            return Err(error);
        }
        let mut log = lock(log);
        log.unsynced = !sync;
        if sync {
            log.writer.synced_through(synced);
        }
        log.deferred.clear();
        log.deferred_bytes = 0;
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    async fn save_group(&self, pages: Vec<Page>, sync: bool, others_unsynced: bool) -> Result<()> {
        let disk = &self.pages.disk;
        // One page alone: writing and syncing it in one call does not wait for what a checkpoint
        // has under way.
        if sync && pages.len() == 1 && !others_unsynced {
            return disk.save(pages, true).await;
        }
        let wrote = !pages.is_empty();
        if wrote {
            disk.save(pages, false).await?;
        }
        match sync && (wrote || others_unsynced) {
            true => disk.sync().await,
            false => Ok(()),
        }
    }

    /// Prepares a chunk of the log and adds it to the spare ones.
    pub(super) async fn add_chunk(
        &self,
        log: &Mutex<Log>,
        need: NeedChunk,
        urgency: Urgency,
    ) -> Result<()> {
        let bytes = u32::try_from(need.bytes)
            .map_err(|_| Error::invalid("a commit is larger than a segment"))?;
        let mut ready = prepared(&self.pages, bytes, Owner::Log, urgency).await;
        let full = ready
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::StorageFull);
        if full && urgency == Urgency::Emergency && self.give_up_reserve().await? {
            ready = prepared(&self.pages, bytes, Owner::Log, urgency).await;
        }
        let extent = ready.map_err(|error| {
            self.poison_if_in_doubt(&error);
            error.while_doing("preparing a chunk of the commit log")
        })?;
        lock(log).writer.add_chunk(extent, super::random::number());
        Ok(())
    }

    /// Lets readers see the entries.
    fn publish<'e>(
        self: &Arc<Self>,
        log: &Mutex<Log>,
        entries: impl Iterator<Item = &'e Entry>,
        written: bool,
    ) -> Result<SmallVec<[SequenceNumber; 1]>> {
        let mut sequences = SmallVec::new();
        let mut log = lock(log);
        let _versions = lock(&self.versions);
        let version = self.current.load_full();
        let journal = &version.journals[0];
        let mut last = SequenceNumber(log.next.0 - 1);
        for entry in entries {
            if entry.records.is_empty() {
                sequences.push(last);
                continue;
            }
            last = last.next();
            if !entry.values.is_empty() {
                lock(&self.values).extend(entry.values.iter().cloned());
            }
            if let Some(elsewhere) = &entry.elsewhere {
                self.current.store(Version::new(
                    Arc::clone(&self.pages),
                    elsewhere.user,
                    elsewhere.birth,
                    version.journals.iter().cloned(),
                    last,
                ));
            } else {
                for records in &entry.records {
                    journal.append(records.clone(), USER_TREE, last)?;
                }
            }
            if !written {
                // The sync that makes the commit durable has to cover what it names, too.
                log.unsynced |= !entry.values.is_empty();
                log.deferred_bytes += entry.records.iter().map(Bytes::len).sum::<usize>();
                log.deferred.push(entry.records.clone());
            }
            sequences.push(last);
        }
        let committed = last.next().0 - log.next.0;
        self.counters
            .commits
            .fetch_add(committed, Ordering::Relaxed);
        log.next = last.next();
        self.published.store(last.0, Ordering::Release);
        if journal.bytes() >= self.options.journal_bytes {
            self.freeze_locked(&self.current.load_full());
        }
        if log.since_checkpoint >= self.options.checkpoint_log_bytes || log.writer.wants_chunk() {
            self.work.give();
        }
        Ok(sequences)
    }

    /// Begins a new journal. The caller holds `versions`.
    pub(super) fn freeze_locked(&self, version: &Arc<Version>) {
        let new = Arc::new(Journal::new(self.options.journal_bytes));
        let journals = std::iter::once(new).chain(version.journals.iter().cloned());
        self.current.store(Version::new(
            Arc::clone(&self.pages),
            version.root,
            version.birth,
            journals,
            version.tree_through,
        ));
        self.work.give();
    }

    /// Begins a new journal unless the present one is empty.
    pub(super) fn freeze(&self) {
        let _versions = lock(&self.versions);
        let version = self.current.load_full();
        if !version.journals[0].is_empty() {
            self.freeze_locked(&version);
        }
    }
}

async fn run_group(core: Arc<Core>, entries: Vec<Waiting>) {
    let result = core.write_group(&entries).await;
    match result {
        Ok(sequences) => {
            for (waiting, sequence) in entries.iter().zip(sequences) {
                *lock(&waiting.done.result) = Some(Ok(sequence));
            }
        }
        Err(error) => {
            if entries
                .iter()
                .any(|waiting| waiting.entry.elsewhere.is_some())
            {
                // The root has what the log does not: a later commit must not take its sequence.
                core.poison(&error);
            }
            for waiting in &entries {
                for (_, value) in &waiting.entry.values {
                    core.abandon_value(value);
                }
                *lock(&waiting.done.result) = Some(Err(error.duplicate()));
            }
        }
    }
    // Only now: who finds no group under way finds the results.
    let finished = lock(&core.queue).under_way.take();
    drop(finished);
}
