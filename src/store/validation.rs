//! Whether a transaction may commit: what it read must still be so.
//!
//! Commits are validated in their order, when their group is about to be written: against what was
//! published since the transaction began, and against those before it in the group. Most of that is
//! done before, while others commit, so that only what came between is left for the group.
//!
//! What was committed since is in journals, whose operations carry their sequences: see `history` and
//! `newer`. Where the history does not reach back far enough, the version that the transaction began
//! with is compared with the newest one, range by range, until they differ: see
//! [`diff`](crate::snapshot::diff). That costs a descent a range and what was changed there, from the
//! disk if need be, and finds no difference where a key was written over with what it had. It takes
//! place before the commit enters the queue and holds nobody up.

use std::ops::Bound;
use std::sync::Arc;

use super::commit::Entry;
use super::core::Core;
use super::history::Since;
use crate::error::{Conflict, Error, Result};
use crate::format::SequenceNumber;
use crate::snapshot::diff::{Diff, Stop, keep_loaded};
use crate::snapshot::{Direction, View};
use crate::transaction::{KeySpan, Newer, Ranges, newer_in_journal, newer_in_records};

/// What must not have changed since a sequence.
pub(super) struct Validation {
    ranges: Ranges,
    began: SequenceNumber,
    /// Up to here it was found unchanged.
    checked: SequenceNumber,
    /// Keeps what was committed since then, and a little more.
    since: Since,
}

impl Validation {
    pub(super) fn new(ranges: Ranges, since: Since) -> Self {
        Self {
            ranges,
            began: since.sequence(),
            checked: since.sequence(),
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
        let since = self.checked;
        if now <= since || self.ranges.is_empty() {
            self.checked = now.max(since);
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
                self.checked = now;
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
        let place = |view: &View| (core.line_of(view.bound), view.bound);
        // A restoring may have come between them.
        let in_common = core.last_in_common(place(was), place(&view)).await?;
        for span in self.ranges.iter() {
            if differ(was, &view, in_common, span).await? {
                let newer = Newer::new(span, None);
                return Err(self.conflict(newer, view.bound));
            }
        }
        self.checked = since.sequence();
        self.since = since;
        Ok(())
    }
}

/// Whether two versions have different entries in a range.
async fn differ(
    was: &View,
    now: &View,
    in_common: SequenceNumber,
    span: KeySpan<'_>,
) -> Result<bool> {
    let bounds = (
        Bound::Included(span.low.to_vec()),
        span.high.map(<[u8]>::to_vec),
    );
    let mut diff = Diff::new(was.clone(), now.clone(), in_common, bounds);
    let mut loaded = Vec::new();
    loop {
        match diff.step(Direction::Forward)? {
            // What is stored under different addresses counts as different: that is rare, and safe.
            Stop::Found(_) | Stop::Doubt => return Ok(true),
            Stop::End => return Ok(false),
            Stop::Need(pointer, expect) => {
                let page = now.version.pages().load(&pointer, expect).await?;
                keep_loaded(&mut loaded, page);
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

    /// The same for one, with those before it in its group.
    pub(super) fn validate(&self, validation: &mut Validation, before: &[Entry]) -> Result<()> {
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
        // It writes nothing, and whoever it is may try again in the same name.
        entry.locks.clear();
        entry.durability = super::options::Durability::Deferred;
        for (_, value) in entry.values.drain(..) {
            self.abandon_value(&value);
        }
        entry.refused = Some(error);
    }
}
