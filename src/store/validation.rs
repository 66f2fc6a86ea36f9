//! Whether a transaction may commit: what it read must still be so.
//!
//! Commits are validated in their order, when their group is about to be written: against what was
//! published since the transaction began, and against those before it in the group. Most of that is
//! done before, while others commit, so that only what came between is left for the group.
//!
//! What was committed since is in journals, whose operations carry their sequences: see `history` and
//! `newer`. Where the history does not reach back far enough, the transaction reads again: both the
//! version that it began with and the newest one, range by range, until they differ. That costs as much
//! as reading did, from the disk if need be, and finds no difference where a key was written over with
//! what it had. It takes place before the commit enters the queue and holds nobody up.

use std::sync::Arc;

use super::commit::Entry;
use super::core::Core;
use super::history::Since;
use crate::cache::Handle;
use crate::error::{Conflict, Error, Result};
use crate::format::SequenceNumber;
use crate::snapshot::{Cursor, Direction, Layered, Start, Stop, View};
use crate::transaction::{KeySpan, Newer, Ranges, newer_in_journal, newer_in_records};

/// What must not have changed since a sequence.
pub(super) struct Validation {
    ranges: Ranges,
    began: SequenceNumber,
    /// Up to here it was found unchanged.
    since: Since,
}

impl Validation {
    pub(super) fn new(ranges: Ranges, since: Since) -> Self {
        Self {
            ranges,
            began: since.sequence(),
            since,
        }
    }

    fn conflict(&self, newer: Newer, now: SequenceNumber) -> Error {
        Error::conflict_of(Conflict {
            low: newer.low,
            high: newer.high,
            began: self.began,
            changed: newer.sequence,
            now,
        })
    }

    /// Looks at what was published meanwhile. `false`: the history does not reach back so far.
    pub(super) fn advance(&mut self, core: &Core) -> Result<bool> {
        let now = core.published();
        let since = self.since.sequence();
        if now <= since || self.ranges.is_empty() {
            self.since.advance(now);
            return Ok(true);
        }
        let Some(journals) = core.committed_after(since) else {
            return Ok(false);
        };
        let mut journals = journals.iter();
        let newer = journals.find_map(|journal| newer_in_journal(journal, since, &self.ranges));
        match newer {
            Some(newer) => Err(self.conflict(newer, now)),
            None => {
                self.since.advance(now);
                Ok(true)
            }
        }
    }

    /// The same, if need be by reading all of it again: in a version that is still as it was, and in
    /// the newest one. What is committed while that is read is left for another time, so that this ends
    /// however much that is.
    pub(super) async fn catch_up(&mut self, core: &Arc<Core>, was: &View) -> Result<()> {
        if self.advance(core)? {
            return Ok(());
        }
        let (view, since) = core.view_since();
        for span in self.ranges.iter() {
            if differ(was, &view, span).await? {
                let newer = Newer::new(span, None);
                return Err(self.conflict(newer, view.bound));
            }
        }
        self.since = since;
        Ok(())
    }
}

/// Whether two versions have different entries in a range.
async fn differ(was: &View, now: &View, span: KeySpan<'_>) -> Result<bool> {
    let over = [was, now].map(|view| Layered {
        view: view.clone(),
        overlay: None,
    });
    let start = || Start::At(span.low.to_vec());
    let mut cursors = [start(), start()].map(|start| Cursor::new(Direction::Forward, start));
    let mut loaded = Vec::new();
    loop {
        let mut inside = [false; 2];
        for ((cursor, over), inside) in cursors.iter_mut().zip(&over).zip(&mut inside) {
            let stop = step(cursor, over, &mut loaded).await?;
            *inside = stop && !span.ends_before(cursor.key());
        }
        let [left, right] = &cursors;
        match inside {
            [false, false] => return Ok(false),
            [true, true] if left.key() == right.key() => {}
            _ => return Ok(true),
        }
        // What is stored under different addresses counts as different: that is rare, and safe.
        if left.stored(&over[0]) != right.stored(&over[1]) {
            return Ok(true);
        }
    }
}

/// Goes to the next entry, if there is one.
async fn step(cursor: &mut Cursor, over: &Layered, loaded: &mut Vec<Handle>) -> Result<bool> {
    loop {
        match cursor.step(over)? {
            Stop::Entry => {
                loaded.clear();
                return Ok(true);
            }
            Stop::End => return Ok(false),
            Stop::Need(pointer, expect) => {
                loaded.push(over.version().pages().load(&pointer, expect).await?);
            }
        }
    }
}

impl Core {
    /// Refuses those of a group that rely on what has changed. Nobody else commits meanwhile.
    pub(super) fn validate_group(&self, entries: &mut [Entry]) {
        for at in 0..entries.len() {
            let (before, rest) = entries.split_at_mut(at);
            let entry = &mut rest[0];
            let Some(mut validation) = entry.validation.take() else {
                continue;
            };
            if let Err(error) = self.validate(&mut validation, before) {
                self.refuse(entry, error);
            }
        }
    }

    fn validate(&self, validation: &mut Validation, before: &[Entry]) -> Result<()> {
        if !validation.advance(self)? {
            // Only if more was committed than is kept since it last looked, a moment ago.
            let all = validation.ranges.iter().next();
            let newer = all.map(|span| Newer::new(span, None));
            return match newer {
                Some(newer) => Err(validation.conflict(newer, self.published())),
                None => Ok(()),
            };
        }
        let records = before.iter().flat_map(|entry| &entry.records);
        let mut newer = records.map(|records| newer_in_records(records, &validation.ranges));
        match newer.find_map(|newer| newer) {
            Some(newer) => Err(validation.conflict(newer, self.published())),
            None => Ok(()),
        }
    }

    /// Leaves nothing of an entry but why.
    fn refuse(&self, entry: &mut Entry, error: Error) {
        entry.records.clear();
        entry.naming = None;
        entry.durability = super::options::Durability::Deferred;
        for (_, value) in entry.values.drain(..) {
            self.abandon_value(&value);
        }
        entry.refused = Some(error);
    }
}
