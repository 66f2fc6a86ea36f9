//! What was committed lately, for transactions that began before, and for watches.
//!
//! The root journals are that record already: ordered, with a sequence on every operation. So nothing
//! is written down for this purpose, whoever commits: a journal that is full goes into the history
//! when it is frozen, and stays there, flushed or not, as long as a transaction is open that is older
//! than its end; at most [`Options::history_bytes`](super::Options::history_bytes) of them. Who is
//! older than what is kept compares what it read with the newest version: see `validation`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use smallvec::{SmallVec, smallvec};

use super::core::Core;
use super::gate::lock;
use crate::format::SequenceNumber;
use crate::snapshot::View;
use crate::tree::journal::Journal;

/// The recent commits of a store.
pub(super) struct History {
    state: Mutex<State>,
    bytes_max: usize,
    /// Everything after this is here or in the newest journal. Changed with the lock.
    complete_after: AtomicU64,
    /// How many transactions were refused and tried again.
    retried: AtomicU64,
}

struct State {
    /// Since which sequences there are transactions, ascending, and how many.
    open: SmallVec<[(SequenceNumber, usize); 8]>,
    /// Frozen journals, oldest first, with the memory that each takes.
    journals: VecDeque<(Arc<Journal>, usize)>,
    bytes: usize,
}

impl State {
    fn add(&mut self, since: SequenceNumber) {
        match self.open.binary_search_by_key(&since, |(since, _)| *since) {
            Ok(at) => self.open[at].1 += 1,
            Err(at) => self.open.insert(at, (since, 1)),
        }
    }

    fn remove(&mut self, since: SequenceNumber) {
        let Ok(at) = self.open.binary_search_by_key(&since, |(since, _)| *since) else {
            return;
        };
        self.open[at].1 -= 1;
        if self.open[at].1 == 0 {
            self.open.remove(at);
        }
    }
}

/// The journals that have what was committed after a sequence.
pub(super) type Recent = SmallVec<[Arc<Journal>; 4]>;

impl History {
    pub(super) fn new(published: SequenceNumber, bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                open: SmallVec::new(),
                journals: VecDeque::new(),
                bytes: 0,
            }),
            bytes_max,
            complete_after: AtomicU64::new(published.0),
            retried: AtomicU64::new(0),
        }
    }

    /// Lets go of what nobody needs, and of what is too much.
    fn trim(&self, state: &mut State) {
        let oldest = state.open.first().map(|(since, _)| *since);
        while let Some((journal, bytes)) = state.journals.front() {
            let last = journal.last_sequence().unwrap_or_default();
            let needed = oldest.is_some_and(|oldest| oldest < last);
            if needed && state.bytes <= self.bytes_max {
                return;
            }
            state.bytes -= bytes;
            self.complete_after.fetch_max(last.0, Ordering::AcqRel);
            state.journals.pop_front();
        }
    }

    /// Counts one that is tried again.
    pub(super) fn next_number(&self) -> u64 {
        self.retried.fetch_add(1, Ordering::Relaxed)
    }

    /// A journal takes no more: called before the next one is shown to anybody.
    pub(super) fn push(&self, journal: Arc<Journal>) {
        let mut state = lock(&self.state);
        let bytes = journal.memory_bytes();
        state.bytes += bytes;
        state.journals.push_back((journal, bytes));
        self.trim(&mut state);
    }

    /// A commit went past the journals.
    pub(super) fn break_at(&self, sequence: SequenceNumber) {
        let mut state = lock(&self.state);
        self.complete_after.store(sequence.0, Ordering::Release);
        state.journals.clear();
        state.bytes = 0;
    }

    /// Everything after this is here or in the newest journal.
    fn complete_after(&self) -> SequenceNumber {
        SequenceNumber(self.complete_after.load(Ordering::Acquire))
    }

    /// The journals that have all that was committed after a sequence, newest first, with the one
    /// that was the newest a moment ago. `None`: they are not kept.
    fn after(&self, since: SequenceNumber, newest: Arc<Journal>) -> Option<Recent> {
        let state = lock(&self.state);
        if since < self.complete_after() {
            return None;
        }
        let newest_first = state.journals.iter().rev().map(|(journal, _)| journal);
        let after = newest_first.take_while(|journal| {
            let last = journal.last_sequence();
            last.is_some_and(|last| last > since)
        });
        let mut recent: Recent = after.cloned().collect();
        // Any number of journals may have been frozen meanwhile, it and newer ones: then it has its
        // place among them, or had nothing that is asked for.
        if !recent.iter().any(|journal| Arc::ptr_eq(journal, &newest)) {
            recent.insert(0, newest);
        }
        Some(recent)
    }

    #[cfg(test)]
    pub(super) fn journals(&self) -> usize {
        lock(&self.state).journals.len()
    }
}

/// Keeps what is committed after a sequence from being forgotten, as far as there is room.
pub(super) struct Since {
    core: Arc<Core>,
    sequence: SequenceNumber,
}

impl Since {
    pub(super) fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// From now on, what is committed after a later one.
    pub(super) fn advance(&mut self, sequence: SequenceNumber) {
        if sequence > self.sequence {
            let history = &self.core.history;
            let mut state = lock(&history.state);
            state.remove(self.sequence);
            state.add(sequence);
            history.trim(&mut state);
            self.sequence = sequence;
        }
    }
}

impl Drop for Since {
    fn drop(&mut self) {
        let history = &self.core.history;
        let mut state = lock(&history.state);
        state.remove(self.sequence);
        history.trim(&mut state);
    }
}

impl Core {
    /// The newest version, and a mark that keeps what will be committed after it.
    pub(super) fn view_since(self: &Arc<Self>) -> (View, Since) {
        let mut state = lock(&self.history.state);
        // Under the lock: nothing after it is forgotten before it is known to be wanted.
        let view = self.view();
        state.add(view.bound);
        let since = Since {
            core: Arc::clone(self),
            sequence: view.bound,
        };
        (view, since)
    }

    /// A mark that keeps what is committed after a sequence, as far as it is still there.
    pub(super) fn since(self: &Arc<Self>, sequence: SequenceNumber) -> Since {
        lock(&self.history.state).add(sequence);
        Since {
            core: Arc::clone(self),
            sequence,
        }
    }

    /// The journals that have all that was committed after a sequence, newest first. `None`: the
    /// history does not reach that far back.
    pub(super) fn committed_after(&self, since: SequenceNumber) -> Option<Recent> {
        // In this order: a journal goes into the history before the next version is shown.
        let newest = Arc::clone(&self.current.load().journals[0]);
        // Most who ask began a moment ago.
        let first = newest.first_sequence();
        if first.is_some_and(|first| first <= since.next())
            && since >= self.history.complete_after()
        {
            return Some(smallvec![newest]);
        }
        self.history.after(since, newest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::disk::MemoryDisk;
    use crate::format::SequenceNumber;
    use crate::{Maintenance, Options, Store};

    fn store(history_bytes: usize) -> Store {
        let options = Options::new()
            .journal_bytes(1 << 10)
            .history_bytes(history_bytes)
            .maintenance(Maintenance::Caller);
        options.open_disk(MemoryDisk::new()).unwrap()
    }

    fn put(store: &Store) {
        for number in 0..100u8 {
            store.put([number], [number; 100]).wait().unwrap();
        }
        while store.maintain().wait().unwrap() {}
    }

    #[test]
    fn what_was_committed_is_kept_as_long_as_somebody_began_before() {
        let store = store(1 << 20);
        let kept = || store.shared.core.history.journals();
        put(&store);
        assert_eq!(kept(), 0, "nobody needs it");
        let first = store.begin().wait().unwrap();
        put(&store);
        let one = kept();
        assert!(one > 0);
        let second = store.begin().wait().unwrap();
        put(&store);
        assert!(kept() > one);
        drop(first);
        assert!(kept() <= one + 1, "the second began later");
        drop(second);
        assert_eq!(kept(), 0);
    }

    #[test]
    fn journals_are_in_order_and_once_however_many_are_frozen_meanwhile() {
        for freezes in 0..4u64 {
            let store = store(1 << 20);
            let core = &store.shared.core;
            let since = core.since(store.sequence());
            store.put("0", "asked for").wait().unwrap();
            let newest = Arc::clone(&core.current.load().journals[0]);
            for number in 0..freezes {
                core.freeze();
                store.put([number as u8], "later").wait().unwrap();
            }
            let recent = core.history.after(since.sequence(), newest).unwrap();
            // Where anything was frozen, the very newest is not asked for yet.
            let lasts: Vec<_> = recent
                .iter()
                .map(|journal| journal.last_sequence())
                .collect();
            let expected = (1..=freezes.max(1)).rev();
            let expected: Vec<_> = expected.map(|last| Some(SequenceNumber(last))).collect();
            assert_eq!(lasts, expected);
        }
    }

    #[test]
    fn no_more_is_kept_than_was_asked_for() {
        let store = store(64 << 10);
        let _transaction = store.begin().wait().unwrap();
        for _ in 0..20 {
            put(&store);
        }
        let history = &store.shared.core.history;
        assert!(crate::store::lock(&history.state).bytes <= 64 << 10);
    }
}
