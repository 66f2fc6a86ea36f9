//! [`Recent`]: the keys that a journal in memory has newer operations for.
//!
//! Where these are few beside all that the journal has, they are put in order; where they are many,
//! one of them is always near in the journal's own order. Both ways the first one is found at once.

use std::collections::VecDeque;

use super::super::cursor::Direction;
use super::region::{Region, Window};
use crate::format::SequenceNumber;
use crate::format::record::Tag;
use crate::tree::journal::{Journal, JournalPosition};

/// The newer operations of one journal, in one direction.
pub(super) struct Recent {
    since: SequenceNumber,
    /// As of when the journal is read.
    bound: SequenceNumber,
    direction: Direction,
    keys: Keys,
}

enum Keys {
    Unknown,
    /// They were all given.
    Given,
    /// To be looked for in the order of the journal, after this.
    InOrder(Option<JournalPosition>),
}

impl Recent {
    pub(super) fn new(since: SequenceNumber, bound: SequenceNumber, direction: Direction) -> Self {
        Self {
            since,
            bound,
            direction,
            keys: Keys::Unknown,
        }
    }

    /// Adds more regions within a window, if there are any.
    pub(super) fn step(
        &mut self,
        journal: &Journal,
        window: &Window,
        found: &mut VecDeque<Region>,
    ) {
        if let Keys::Unknown = self.keys {
            self.begin(journal, window, found);
        }
        if !found.is_empty() {
            return;
        }
        let Keys::InOrder(after) = self.keys else {
            return;
        };
        let mut position = match after {
            Some(after) => self.next(journal, after),
            None => self.first(journal, window),
        };
        while let Some(at) = position {
            let key = journal.entry(at).key;
            if !window.has(key) {
                // Others have passed it, or it is beyond the end.
                let ahead = match self.direction {
                    Direction::Forward => key < &window.low[..],
                    Direction::Backward => key >= &window.low[..],
                };
                if !ahead {
                    break;
                }
                position = self.first(journal, window);
                continue;
            }
            let newest = journal.visible(at, self.bound);
            if newest.is_some_and(|newest| journal.entry(newest).sequence > self.since) {
                found.push_back(Region::Key(key.to_vec()));
                self.keys = Keys::InOrder(Some(at));
                return;
            }
            position = self.next(journal, at);
        }
        self.keys = Keys::Given;
    }

    fn first(&self, journal: &Journal, window: &Window) -> Option<JournalPosition> {
        match (self.direction, &window.end) {
            (Direction::Forward, _) => journal.seek_at_or_after(&window.low),
            (Direction::Backward, Some(end)) => journal.seek_before(end),
            (Direction::Backward, None) => journal.last(),
        }
    }

    fn next(&self, journal: &Journal, position: JournalPosition) -> Option<JournalPosition> {
        match self.direction {
            Direction::Forward => journal.next_key(position),
            Direction::Backward => journal.previous_key(position),
        }
    }

    /// Finds the keys if they are few.
    fn begin(&mut self, journal: &Journal, window: &Window, found: &mut VecDeque<Region>) {
        self.keys = Keys::Given;
        let newer = journal.first_stamp_after(self.since)..journal.first_stamp_after(self.bound);
        if newer.is_empty() {
            return;
        }
        if newer.len() * newer.len() > journal.operations() {
            self.keys = Keys::InOrder(None);
            return;
        }
        let entries = newer.map(|stamp| journal.entry_at(stamp));
        let keys = entries.filter(|it| it.tag != Tag::DeleteRange && window.has(it.key));
        let mut regions: Vec<_> = keys.map(|it| Region::Key(it.key.to_vec())).collect();
        regions.sort_unstable_by(|a, b| a.compare(b, self.direction));
        regions.dedup();
        found.extend(regions);
    }
}

/// The ranges of a journal that were deleted after a sequence, in their order.
pub(super) fn recent_deletes(
    journal: &Journal,
    (since, bound): (SequenceNumber, SequenceNumber),
    direction: Direction,
) -> VecDeque<Region> {
    if !journal.has_range_deletes() {
        return VecDeque::new();
    }
    let deletes = journal.range_deletes(bound).into_iter();
    let newer = deletes.filter(|delete| delete.sequence > since);
    let spans = newer.map(|it| Region::Span(it.low.to_vec(), it.end.map(<[u8]>::to_vec)));
    let mut regions: Vec<_> = spans.collect();
    regions.sort_unstable_by(|a, b| a.compare(b, direction));
    regions.into()
}
