//! Group commit: everybody who commits at the same time shares one write and one sync.
//!
//! Who finds nobody else, on a thread that waits, writes and publishes at once: such a thread cannot
//! lose interest half-way. Everybody else enters the [queue](super::queue), where whoever finds no
//! group under way makes one of all that wait; on a thread that waits, the write and the sync happen
//! inline. The group belongs to the store, so dropping a commit's future after it entered the queue
//! does not cancel the commit; some other commit, the maintenance or `close` finishes it.
//!
//! A panic of the disk poisons the store, as a failed sync does, and goes to one who committed; the
//! others get an error.
//!
//! In order: validate transactions, write, sync if somebody asked for it, enter the journal, publish.
//! What was not published when a sync fails is never seen. Groups come one after the other, so what
//! a transaction is validated against is what was published, and those before it in its group.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use futures::future::{Either, select};
use futures::lock::OwnedMutexGuard;
use smallvec::SmallVec;

use super::core::{Core, Log};
use super::current::Changing;
use super::gate::{Inside, Pass, lock};
use super::job::Exclusive;
use super::maintenance::{LoggedValue, Maintaining};
use super::naming::Naming;
use super::open::prepared;
use super::options::Durability;
use super::queue::{Queue, Turn, Write};
use super::single::Small;
use super::validation::Validation;
use crate::disk::{Page, block_on, in_blocking_face};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::USER_TREE;
use crate::format::{Address, Birth, Extent, PagePointer, SequenceNumber};
use crate::log::writer::{LogWriter, NeedChunk};
use crate::snapshot::Version;
use crate::space::{Owner, Urgency};
use crate::trace::{self, Began};
use crate::transaction::locks;
use crate::tree::journal::Journal;

/// The record buffers of one commit.
pub(super) type Records = SmallVec<[Bytes; 1]>;

/// How much of deferred commits is kept in memory.
const DEFERRED_BYTES_MAX: usize = 256 << 10;

/// How many commits go by until the maintenance is told again of work that is still to be done.
const COMMITS_UNTOLD: u32 = 64;

/// A commit on its way.
pub(crate) struct Entry {
    /// Empty: nothing to log, only to sync what came before.
    pub(super) records: Records,
    pub(super) durability: Durability,
    /// Off-tree values that the records name: their roots and all their extents.
    pub(super) values: Vec<(Address, LoggedValue)>,
    /// Only deletes: may use the reserve.
    pub(super) urgency: Urgency,
    /// The records are a mark: what was committed is in the tree already.
    pub(super) elsewhere: Option<Box<Elsewhere>>,
    /// What it does to names of snapshots. Becomes records when its sequence is known.
    pub(super) naming: Option<Box<Naming>>,
    /// Locks that are held until it is published, or refused.
    pub(super) locks: Vec<locks::Owner>,
    /// What must not have changed, or it is refused.
    pub(super) validation: Option<Box<Validation>>,
    /// Why it was refused, the only one of its group.
    pub(super) refused: Option<Error>,
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
    pub(super) _state: Exclusive<OwnedMutexGuard<Maintaining>>,
}

impl Entry {
    /// What writes some records and nothing else, and may use the reserve.
    pub(super) fn new(records: Records, durability: Durability) -> Self {
        Self {
            records,
            durability,
            values: Vec::new(),
            urgency: Urgency::Emergency,
            elsewhere: None,
            naming: None,
            locks: Vec::new(),
            validation: None,
            refused: None,
            inside: None,
        }
    }

    fn bytes(&self) -> usize {
        let names = self.naming.as_ref();
        let names = names.map_or(0, |naming| naming.bytes_to_come());
        self.records.iter().map(Bytes::len).sum::<usize>() + names
    }

    /// The same with the large values that they name.
    fn committed_bytes(&self) -> u64 {
        let extents = self.values.iter().flat_map(|(_, value)| &value.extents);
        let values: u64 = extents.map(|extent| u64::from(extent.length)).sum();
        self.bytes() as u64 + values
    }
}

/// What came of a commit, or the panic that it met.
pub(crate) type Outcome = thread::Result<Result<SequenceNumber>>;

/// A group that the log has.
#[derive(Clone, Copy)]
struct Written {
    /// Through which commit the log is synced, if this group was.
    synced_through: Option<SequenceNumber>,
}

/// The right to commit alone, until dropped.
pub(super) struct Alone<'c> {
    core: &'c Core,
    finished: bool,
    /// Given up after the store was poisoned.
    _turn: Turn<'c, Entry, Outcome>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.core.poison(&panicked());
        }
    }
}

/// Why nobody may write after a panic of a disk: nobody knows what it wrote.
fn panicked() -> Error {
    Error::new(
        ErrorKind::Poisoned,
        "a commit panicked while it was written",
    )
}

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

impl Write for Arc<Core> {
    type Entry = Entry;
    type Outcome = Outcome;

    fn queue(&self) -> &Queue<Entry, Outcome> {
        &self.queue
    }

    /// As many as one group of the log can hold.
    fn together<'e>(&self, waiting: impl Iterator<Item = &'e Entry>) -> usize {
        let properties = self.pages.disk.properties();
        let most =
            LogWriter::commit_bytes_max(properties.segment_bytes, properties.sector_bytes) / 2;
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += 16 + entry.bytes();
            bytes <= most
        };
        waiting.take_while(fits).count().max(1)
    }

    async fn write(&self, mut entries: Vec<Entry>) -> Vec<Outcome> {
        let result = AssertUnwindSafe(self.write_group(&mut entries)).catch_unwind();
        let (result, panic) = match result.await {
            Ok(result) => (result, None),
            Err(panic) => {
                let error = panicked();
                self.poison(&error);
                (Err(error), Some(panic))
            }
        };
        match result {
            Ok(sequences) => {
                let pairs = entries.iter_mut().zip(sequences);
                let outcomes = pairs
                    .map(|(entry, sequence)| Ok(entry.refused.take().map_or(Ok(sequence), Err)));
                outcomes.collect()
            }
            Err(error) => {
                self.abandon(&entries, &error);
                // It goes to one who committed, not to whoever happened to drive the group.
                let panic = panic.into_iter().map(Err);
                let errors = entries.iter().map(|_| Ok(Err(error.duplicate())));
                panic.chain(errors).take(entries.len()).collect()
            }
        }
    }
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
        match self.alone(&entry) {
            Some(alone) => self.commit_alone(alone, entry),
            None => Box::pin(self.commit_with_others(entry)).await,
        }
    }

    async fn commit_with_others(self: &Arc<Self>, entry: Entry) -> Result<SequenceNumber> {
        let mut left = LeftAlone {
            core: self,
            finished: false,
        };
        let outcome = Queue::enter(self, entry, in_blocking_face()).await;
        left.finished = true;
        outcome.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// The right to commit alone, if nobody else commits and this thread will see it through: it
    /// waits, or the commit only enters the journal, which takes no disk.
    fn alone(&self, entry: &Entry) -> Option<Alone<'_>> {
        if in_blocking_face() {
            return self.alone_waiting(entry.durability);
        }
        if entry.durability != Durability::Deferred {
            return None;
        }
        let turn = self.queue.turn(true)?;
        let log = self.log.as_ref()?;
        let written = self.is_full(lock(log).deferred_bytes + entry.bytes())
            || self.stopping.load(Ordering::Acquire);
        (!written).then(|| self.alone_with(turn))
    }

    /// The same for a thread that waits.
    pub(super) fn alone_waiting(&self, durability: Durability) -> Option<Alone<'_>> {
        let turn = self.queue.turn_soon(durability != Durability::Immediate)?;
        Some(self.alone_with(turn))
    }

    fn alone_with<'c>(&'c self, turn: Turn<'c, Entry, Outcome>) -> Alone<'c> {
        Alone {
            core: self,
            finished: false,
            _turn: turn,
        }
    }

    pub(super) fn commit_alone(
        self: &Arc<Self>,
        alone: Alone<'_>,
        entry: Entry,
    ) -> Result<SequenceNumber> {
        let mut entries = [entry];
        // After them, and so dropped before them: if anything panics, the store is poisoned before
        // others may go on.
        let mut alone = alone;
        let result = block_on(self.write_group(&mut entries));
        alone.finished = true;
        let sequences = result.inspect_err(|error| self.abandon(&entries, error))?;
        entries[0].refused.take().map_or(Ok(sequences[0]), Err)
    }

    /// Whether what is deferred has to be written with the next commit.
    fn is_full(&self, deferred_bytes: usize) -> bool {
        deferred_bytes > DEFERRED_BYTES_MAX.min(self.logged_bytes_max())
    }

    /// Drives groups that were left alone by those who began them.
    pub(super) async fn finish_groups(self: &Arc<Self>) {
        while Queue::advance(self).await {}
    }

    /// Waits to be alone inside the gate, driving groups that were left alone meanwhile.
    pub(super) async fn enter_alone(self: &Arc<Self>) -> Inside {
        let mut entering = self.gate.enter(Pass::Alone);
        loop {
            let count = self.work.count();
            let finishing = Box::pin(async {
                self.finish_groups().await;
                self.work.after(count).await;
            });
            // In this order: its place in the line keeps others from coming, of whom there might
            // always be one who commits.
            match select(entering, finishing).await {
                Either::Left((inside, _)) => return inside,
                Either::Right(((), waiting)) => entering = waiting,
            }
        }
    }

    /// Writes, syncs and publishes a group: the sequence of each entry.
    async fn write_group(
        self: &Arc<Self>,
        entries: &mut [Entry],
    ) -> Result<SmallVec<[SequenceNumber; 1]>> {
        self.check_poisoned()?;
        let log = self.log()?;
        self.validate_group(entries);
        if entries.iter().any(|entry| entry.naming.is_some()) {
            seal_names(entries, lock(log).next);
        }
        let with = |durability| {
            let mut entries = entries.iter();
            entries.any(|entry| entry.durability == durability)
        };
        // Once the store's thread has ended, nobody else would sync what is deferred.
        let ending = self.stopping.load(Ordering::Acquire);
        let sync = with(Durability::Immediate) || ending;
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        let write =
            sync || with(Durability::Buffered) || self.is_full(lock(log).deferred_bytes + bytes);
        let urgency = match entries
            .iter()
            .all(|entry| entry.urgency == Urgency::Emergency)
        {
            true => Urgency::Emergency,
            false => Urgency::Ordinary,
        };
        let began = Began::now();
        let written = match write {
            true => Some(self.write_log(log, entries, sync, urgency).await?),
            false => None,
        };
        let sequences = self.publish(log, entries, written);
        if self.watchers.load(Ordering::Acquire) > 0 {
            self.watched.give();
        }
        let sequences = sequences.inspect_err(|error| self.poison(error))?;
        trace::committed(began, entries.len(), bytes);
        Ok(sequences)
    }

    /// Writes what was deferred and the entries as one group of the log.
    async fn write_log(
        self: &Arc<Self>,
        log: &Mutex<Log>,
        entries: &[Entry],
        sync: bool,
        urgency: Urgency,
    ) -> Result<Written> {
        let has_values = entries.iter().any(|entry| !entry.values.is_empty());
        let (pages, synced, others_unsynced) = loop {
            let need = {
                let mut log = lock(log);
                let log = &mut *log;
                let commits: SmallVec<[&[Bytes]; 4]> = log
                    .deferred
                    .iter()
                    .chain(entries.iter().map(|entry| &entry.records))
                    .filter(|records| !records.is_empty())
                    .map(SmallVec::as_slice)
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
                        log.count(&self.counters.log_bytes, bytes as u64);
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
        Ok(Written {
            synced_through: sync.then_some(synced),
        })
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
        let is_full = |ready: &Result<Extent>| {
            let error = ready.as_ref().err();
            urgency == Urgency::Emergency
                && error.is_some_and(|error| error.kind() == ErrorKind::StorageFull)
        };
        let mut ready = prepared(&self.pages, bytes, Owner::Log, urgency).await;
        if is_full(&ready) && self.give_up_reserve().await? {
            ready = prepared(&self.pages, bytes, Owner::Log, urgency).await;
        }
        if is_full(&ready) && self.give_up_free_room().await? {
            ready = prepared(&self.pages, bytes, Owner::Log, urgency).await;
        }
        let extent = ready.map_err(|error| {
            self.poison_if_in_doubt(&error);
            error.while_doing("preparing a chunk of the commit log")
        })?;
        lock(log).writer.add_chunk(extent, super::random::number());
        Ok(())
    }

    /// Lets readers see the entries, and takes their records.
    fn publish(
        self: &Arc<Self>,
        log: &Mutex<Log>,
        entries: &mut [Entry],
        written: Option<Written>,
    ) -> Result<SmallVec<[SequenceNumber; 1]>> {
        let mut sequences = SmallVec::new();
        let mut log = lock(log);
        if let Some(Written { synced_through }) = written {
            log.unsynced = synced_through.is_none();
            if let Some(sequence) = synced_through {
                log.writer.synced_through(sequence);
            }
            log.deferred.clear();
            log.deferred_bytes = 0;
            log.count(&self.counters.groups, 1);
        }
        let mut current = self.current.change();
        let mut last = SequenceNumber(log.next.0 - 1);
        let bytes = entries.iter().map(Entry::committed_bytes).sum();
        (self.counters.committed_bytes).fetch_add(bytes, Ordering::Relaxed);
        for entry in entries {
            if entry.records.is_empty() {
                sequences.push(last);
                continue;
            }
            last = last.next();
            if !entry.values.is_empty() {
                lock(&self.values).extend(entry.values.iter().cloned());
                // What they replace can be used again after a checkpoint, and a crash before it makes
                // recovery read them.
                log.since_checkpoint += entry.committed_bytes();
            }
            if written.is_none() {
                // The sync that makes the commit durable has to cover what it names, too.
                log.unsynced |= !entry.values.is_empty();
                log.deferred_bytes += entry.bytes();
                log.deferred.push(entry.records.clone());
            }
            if let Some(naming) = &mut entry.naming {
                self.catalogue.enter(naming, last)?;
                self.catalogue.count(naming, last);
            }
            if let Some(elsewhere) = &entry.elsewhere {
                self.catalogue.show_ahead();
                self.history.break_at(last);
                let journals = current.parts().journals.clone();
                current.store(Version::new(
                    Arc::clone(&self.pages),
                    elsewhere.user,
                    elsewhere.birth,
                    journals,
                    last,
                ));
            } else {
                let journal = &current.parts().journals[0];
                for records in entry.records.drain(..) {
                    journal.append(records, USER_TREE, last)?;
                }
            }
            sequences.push(last);
        }
        self.show(&mut log, &mut current, last);
        Ok(sequences)
    }

    /// Shows readers what entered the journal, up to a commit, and tells the maintenance of work.
    fn show(&self, log: &mut Log, current: &mut Changing<'_>, last: SequenceNumber) {
        let committed = last.next().0 - log.next.0;
        log.count(&self.counters.commits, committed);
        log.next = last.next();
        self.published.store(last.0, Ordering::Release);
        if current.parts().journals[0].is_full(self.options.journal_bytes) {
            self.begin_journal(current);
        }
        let due = log.since_checkpoint >= self.options.checkpoint_log_bytes;
        if !due && !log.writer.wants_chunk() {
            log.until_told = 0;
            return;
        }
        // Now and then will do: until it is done, this is so after each commit.
        if log.until_told == 0 {
            log.until_told = COMMITS_UNTOLD;
            self.work.give();
        }
        log.until_told -= 1;
    }

    /// Commits so many bytes of records and asks for no sync, on a thread that waits. `None`: that
    /// takes more than one write to the log, and nothing was done.
    ///
    /// As [`Self::commit_alone`]; but this is what small writes cost, so that it keeps neither a
    /// queue nor the state of a future, and what is written is what the journal keeps.
    pub(super) fn commit_small(
        &self,
        alone: &mut Alone<'_>,
        written: &Small<'_>,
        bytes: usize,
    ) -> Result<Option<SequenceNumber>> {
        let result = self.write_small(written, bytes);
        alone.finished = !matches!(result, Ok(None));
        result
    }

    /// The same for a transaction.
    pub(super) fn commit_validated(
        &self,
        alone: &mut Alone<'_>,
        validation: Option<&mut Validation>,
        records: &[u8],
    ) -> Result<Option<SequenceNumber>> {
        let valid = validation.map_or(Ok(()), |validation| self.validate(validation, &[]));
        // Who is refused has written nothing.
        valid.inspect_err(|_| alone.finished = true)?;
        self.commit_small(alone, &Small::Encoded(records), records.len())
    }

    fn write_small(&self, written: &Small<'_>, bytes: usize) -> Result<Option<SequenceNumber>> {
        self.check_poisoned()?;
        let began = Began::now();
        let log = self.log()?;
        let page = {
            let mut log = lock(log);
            // Once the store's thread has ended, nobody else would sync.
            if !log.deferred.is_empty() || self.stopping.load(Ordering::Acquire) {
                return Ok(None);
            }
            debug_assert_eq!(log.next, log.writer.next_sequence(), "all are written");
            let Some(page) = self.encode_page(&mut log.writer, written, bytes) else {
                return Ok(None);
            };
            log.since_checkpoint += page.bytes.len() as u64;
            log.count(&self.counters.log_bytes, page.bytes.len() as u64);
            page
        };
        let mut kept = page.bytes.clone();
        if let Err(error) = self.pages.disk.save_waiting(vec![page]) {
            self.poison(&error);
            return Err(error);
        }
        let mut log = lock(log);
        log.unsynced = true;
        log.count(&self.counters.groups, 1);
        (self.counters.committed_bytes).fetch_add(bytes as u64, Ordering::Relaxed);
        let mut current = self.current.change();
        let sequence = log.next;
        let journal = &current.parts().journals[0];
        let entered = match written {
            Small::One(record) => journal.append_checked(record, kept, sequence),
            Small::Encoded(_) => {
                kept.advance(kept.len() - bytes);
                journal.append(kept, USER_TREE, sequence)
            }
        };
        entered.inspect_err(|error| self.poison(error))?;
        self.show(&mut log, &mut current, sequence);
        drop(current);
        drop(log);
        if self.watchers.load(Ordering::Acquire) > 0 {
            self.watched.give();
        }
        trace::committed(began, 1, bytes);
        Ok(Some(sequence))
    }

    /// Lets go of what commits that failed had.
    fn abandon(&self, entries: &[Entry], error: &Error) {
        if entries.iter().any(|entry| entry.elsewhere.is_some()) {
            // The root has what the log does not: a later commit must not take its sequence.
            self.poison(error);
        }
        let values = entries.iter().flat_map(|entry| &entry.values);
        values.for_each(|(_, value)| self.abandon_value(value));
    }

    /// Begins a new journal.
    fn begin_journal(&self, current: &mut Changing<'_>) {
        let parts = current.parts();
        self.history.push(Arc::clone(&parts.journals[0]));
        let new = Arc::new(Journal::new(self.options.journal_bytes));
        let journals = std::iter::once(new).chain(parts.journals.iter().cloned());
        let version = Version::new(
            Arc::clone(&self.pages),
            parts.root,
            parts.birth,
            journals,
            parts.tree_through,
        );
        current.store(version);
        self.work.give();
    }

    /// Begins a new journal unless the present one is empty.
    pub(super) fn freeze(&self) {
        let mut current = self.current.change();
        if !current.parts().journals[0].is_empty() {
            self.begin_journal(&mut current);
        }
    }
}

/// Makes what is done to names records of the commits, which will have sequences from `next` on.
fn seal_names(entries: &mut [Entry], mut next: SequenceNumber) {
    for entry in entries {
        if let Some(naming) = &mut entry.naming
            && naming.sealed.is_none()
        {
            entry.records.push(naming.seal(next));
        }
        if !entry.records.is_empty() {
            next = next.next();
        }
    }
}
