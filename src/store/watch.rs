//! [`Watch`]: what is committed in a range of keys, commit by commit.
//!
//! It reads the root journals, where operations stand in the order of commits, and marks its place as
//! an open transaction does: so the history keeps what it has not seen, as far as there is room, and
//! nobody who commits waits for it or does anything for it but wake it. One that is too slow is told
//! so, with a snapshot from which it can begin anew: nothing is missed unnoticed.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;

use super::core::Core;
use super::history::{Recent, Since};
use super::key_range::KeyRange;
use super::operation::Operation;
use super::pending::Pending;
use super::reader::{Reader, half_open};
use super::value::{Value, ValueKind};
use super::{Snapshot, Store};
use crate::disk::block_on;
use crate::error::Result;
use crate::format::SequenceNumber;
use crate::format::record::{Tag, read_range_end};
use crate::tree::journal::JournalEntry;

/// How many operations are looked at in one go, commits being whole.
const OPERATIONS_AT_ONCE: u32 = 4096;

/// What a [`Watch`] gives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Watched {
    /// A commit that changed the range.
    Commit {
        /// Which one.
        sequence: SequenceNumber,
        /// What it did there, in its order.
        changes: Vec<Change>,
    },
    /// Commits that are not kept in memory, up to the one of the snapshot; what there is by then is
    /// in it. Later ones follow.
    Missed(Snapshot),
}

/// What a commit did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// A value was put, or a reference, which [`Value::kind`] tells.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value. `None` if it is too large for a leaf: to be read, as it is by then.
        value: Option<Value>,
    },
    /// An operand was merged: what came of it is to be read, as it is by then.
    Merge {
        /// The key.
        key: Vec<u8>,
    },
    /// A key was deleted, if it was there.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
    /// All keys of a range were deleted, here as far as it is watched.
    DeleteRange {
        /// The first.
        low: Vec<u8>,
        /// Where it ends.
        end: Bound<Vec<u8>>,
    },
}

/// The commits that change a range of keys, in their order, none left out: see [`Store::watch`]. A
/// [`Stream`] that is awaited, and an [`Iterator`] that waits; both end after an error only.
#[must_use = "nothing is seen before it is asked for"]
pub struct Watch {
    reader: Reader,
    low: Vec<u8>,
    end: Option<Vec<u8>>,
    since: Since,
    /// What was seen and not given.
    seen: VecDeque<Watched>,
    waiting: Option<Pending<()>>,
    failed: bool,
    _watcher: Watcher,
}

/// Counted as long as it lives.
struct Watcher(Arc<Core>);

impl Watcher {
    fn new(core: &Arc<Core>) -> Self {
        core.watchers.fetch_add(1, Ordering::AcqRel);
        // Who publishes does so under this lock, and either has done or will see the watcher.
        drop(core.current.change());
        Self(Arc::clone(core))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Store {
    /// The commits after a sequence that change a range of keys: those there were, then those to come,
    /// when they come. From [`sequence`](Self::sequence) on, for what is new.
    ///
    /// They are given as soon as readers see them; whether they survive a crash by then is what their
    /// [durability](crate::Durability) says. Nobody waits for a watch. What it has not seen is kept in
    /// memory, up to [`Options::history_bytes`](crate::Options::history_bytes) together with that of
    /// transactions. If more than that was committed meanwhile, or a transaction that was too large for
    /// the log, or the sequence is from before the store was opened, it gives
    /// [`Watched::Missed`], with a snapshot to read instead, and goes on from there.
    ///
    /// It ends with an error when the store is closed or writes no more, or its last clone is dropped:
    /// a watch does not keep a store open, but its file locked until it is dropped itself. Batches and transactions that outlive the store, and are
    /// committed after the watch has ended, are not in it.
    ///
    /// Costs: each watch looks at every operation that is committed, and copies those in its range.
    ///
    /// ```
    /// use thunderhead::{Change, Prefix, Store, Watched};
    ///
    /// let store = Store::in_memory()?;
    /// let mut watch = store.watch(Prefix("fruit/"), store.sequence());
    /// store.put("other", "…").wait()?;
    /// store.put("fruit/plum", "blue").wait()?;
    /// if let Some(Watched::Commit { changes, .. }) = watch.next().transpose()? {
    ///     let key = b"fruit/plum".to_vec();
    ///     let value = store.get(&key).wait()?;
    ///     assert_eq!(changes, [Change::Put { key, value }]);
    /// }
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn watch(&self, range: impl KeyRange, from: SequenceNumber) -> Watch {
        let core = &self.shared.core;
        let (low, high) = range.to_bounds();
        let (low, high) = self.reader.base.bounds(low, high);
        // Nothing is in an empty range, nor will be.
        let (low, end) = half_open(low, high).unwrap_or((Vec::new(), Some(Vec::new())));
        Watch {
            reader: self.reader.clone(),
            low,
            end,
            since: core.since(from),
            seen: VecDeque::new(),
            waiting: None,
            failed: false,
            _watcher: Watcher::new(core),
        }
    }
}

impl Watch {
    /// The next commit that changes the range, when there is one. Dropping the future loses nothing.
    ///
    /// Errors, once everything that was committed before is given: `Closed`, also where no
    /// [`Store`] is left; `Poisoned`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::Watched;
    ///
    /// let mut watch = store.watch(.., store.sequence());
    /// let sequence = store.put("k", "v").wait()?;
    /// match watch.next_commit().wait()? {
    ///     Watched::Commit { sequence: seen, .. } => assert_eq!(seen, sequence),
    ///     Watched::Missed(snapshot) => println!("to be read anew: {snapshot:?}"),
    ///     _ => {}
    /// }
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_commit(&mut self) -> Operation<impl Future<Output = Result<Watched>> + Send> {
        Operation::new(poll_fn(|context| self.poll_watched(context)))
    }

    /// Everything up to this commit was given or did not change the range: where to
    /// [watch](Store::watch) from to go on. Free.
    pub fn sequence(&self) -> SequenceNumber {
        match self.seen.front() {
            Some(Watched::Commit { sequence, .. }) => SequenceNumber(sequence.0 - 1),
            _ => self.since.sequence(),
        }
    }

    fn poll_watched(&mut self, context: &mut Context<'_>) -> Poll<Result<Watched>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(Pin::new(waiting).poll(context));
                self.waiting = None;
            }
            let core = Arc::clone(&self.reader.core);
            let count = core.watched.count();
            // Before it looks: what was committed until the end is there to be seen then.
            let goes_on = core.check_watchable();
            self.look();
            if let Some(watched) = self.seen.pop_front() {
                return Poll::Ready(Ok(watched));
            }
            if core.published() > self.since.sequence() {
                continue;
            }
            goes_on?;
            self.waiting = Some(Pending::new(async move { core.watched.after(count).await }));
        }
    }

    /// Looks at some of what was committed, unless something is left to be given.
    fn look(&mut self) {
        let core = Arc::clone(&self.reader.core);
        let (now, since) = (core.published(), self.since.sequence());
        if !self.seen.is_empty() || now <= since {
            return;
        }
        match core.committed_after(since) {
            Some(journals) => self.look_through(&journals, since, now),
            None => {
                let (view, since) = core.view_since();
                self.since = since;
                let mut reader = self.reader.clone();
                reader.fixed = Some(view);
                self.seen
                    .push_back(Watched::Missed(Snapshot { reader, line: None }));
            }
        }
    }

    fn look_through(&mut self, journals: &Recent, since: SequenceNumber, now: SequenceNumber) {
        let mut left = OPERATIONS_AT_ONCE;
        let mut last = since;
        for journal in journals.iter().rev() {
            for stamp in journal.first_stamp_after(since)..journal.stamps().end {
                let entry = journal.entry_at(stamp);
                if entry.sequence > now {
                    break;
                }
                if entry.sequence > last && left == 0 {
                    return self.since.advance(last);
                }
                last = entry.sequence;
                left = left.saturating_sub(1);
                if let Some(change) = self.change(&entry) {
                    self.see(entry.sequence, change);
                }
            }
        }
        self.since.advance(now);
    }

    fn see(&mut self, at: SequenceNumber, change: Change) {
        match self.seen.back_mut() {
            Some(Watched::Commit { sequence, changes }) if *sequence == at => changes.push(change),
            _ => self.seen.push_back(Watched::Commit {
                sequence: at,
                changes: vec![change],
            }),
        }
    }

    /// What an operation changes in the range.
    fn change(&self, entry: &JournalEntry<'_>) -> Option<Change> {
        let (low, end) = (self.low.as_slice(), self.end.as_deref());
        let stripped = self.reader.base.bytes().len();
        if entry.tag == Tag::DeleteRange {
            let other = read_range_end(entry.payload).unwrap_or_default();
            let low = low.max(entry.key);
            let end = match (end, other) {
                (None, end) | (end, None) => end,
                (Some(one), Some(other)) => Some(one.min(other)),
            };
            if end.is_some_and(|end| end <= low) {
                return None;
            }
            // The end of a view is not in it.
            let own = |end: &[u8]| end.starts_with(self.reader.base.bytes());
            return Some(Change::DeleteRange {
                low: low[stripped..].to_vec(),
                end: match end {
                    Some(end) if own(end) => Bound::Excluded(end[stripped..].to_vec()),
                    _ => Bound::Unbounded,
                },
            });
        }
        if entry.key < low || end.is_some_and(|end| entry.key >= end) {
            return None;
        }
        let key = entry.key[stripped..].to_vec();
        Some(match entry.tag {
            Tag::Delete => Change::Delete { key },
            Tag::Merge => Change::Merge { key },
            Tag::Inline => {
                let value = Some(Value::new(Bytes::copy_from_slice(entry.payload)));
                Change::Put { key, value }
            }
            Tag::Reference => {
                let kind = ValueKind::reference(entry.payload, self.reader.base.bytes());
                let value = Some(Value::of(kind));
                Change::Put { key, value }
            }
            _ => Change::Put { key, value: None },
        })
    }

    fn told<T>(&mut self, result: Result<T>) -> Option<Result<T>> {
        self.failed = result.is_err();
        Some(result)
    }
}

impl Iterator for Watch {
    type Item = Result<Watched>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = block_on(poll_fn(|context| self.poll_watched(context)));
        self.told(next)
    }
}

impl Stream for Watch {
    type Item = Result<Watched>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_watched(context));
        Poll::Ready(self.told(next))
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}
