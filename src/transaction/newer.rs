//! Whether a journal has operations that are newer than a sequence in some ranges.
//!
//! A journal numbers its operations in the order of commits, so that those after a sequence are its
//! end: they are looked up in the ranges, or the ranges in the journal, whichever is less work. Costs,
//! with n newer operations and m ranges, about `min(n log m, m log n)`.

use std::ops::Bound;

use super::reads::{KeySpan, Ranges};
use crate::format::SequenceNumber;
use crate::format::record::{Record, Tag, read_range_end};
use crate::tree::journal::Journal;

/// A commit that changed what a transaction relies on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Newer {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Bound<Vec<u8>>,
    /// The commit; `None`: one of the same group.
    pub(crate) sequence: Option<SequenceNumber>,
}

impl Newer {
    pub(crate) fn new(span: KeySpan<'_>, sequence: Option<SequenceNumber>) -> Self {
        Self {
            low: span.low.to_vec(),
            high: span.high.map(<[u8]>::to_vec),
            sequence,
        }
    }
}

/// The range that an operation touches.
fn touched<'r>(ranges: &'r Ranges, tag: Tag, key: &[u8], payload: &[u8]) -> Option<KeySpan<'r>> {
    match tag {
        Tag::DeleteRange => ranges.overlapping(key, read_range_end(payload).unwrap_or_default()),
        _ => ranges.containing(key),
    }
}

/// An operation of a journal after a sequence, in one of the ranges.
pub(crate) fn newer_in_journal(
    journal: &Journal,
    since: SequenceNumber,
    ranges: &Ranges,
) -> Option<Newer> {
    if ranges.is_empty() || journal.last_sequence().is_none_or(|last| last <= since) {
        return None;
    }
    let first = journal.first_stamp_after(since);
    let newer = journal.stamps().end - first;
    // Where all of the journal is newer, the first key in a range decides.
    let all = first == journal.stamps().start;
    if newer as usize <= 2 * ranges.len() || (!all && ranges.iter().any(|range| !range.is_key())) {
        let mut stamps = first..journal.stamps().end;
        return stamps.find_map(|stamp| {
            let entry = journal.entry_at(stamp);
            let span = touched(ranges, entry.tag, entry.key, entry.payload)?;
            Some(Newer::new(span, Some(entry.sequence)))
        });
    }
    let deletes = journal.range_deletes(SequenceNumber(u64::MAX));
    let deleted = deletes
        .iter()
        .filter(|delete| delete.sequence > since)
        .find_map(|delete| {
            let span = ranges.overlapping(delete.low, delete.end)?;
            Some(Newer::new(span, Some(delete.sequence)))
        });
    deleted.or_else(|| {
        let mut ranges = ranges.iter();
        ranges.find_map(|range| {
            let entry = journal.entry(journal.seek_at_or_after(range.low)?);
            let inside = !range.ends_before(entry.key);
            (inside && entry.sequence > since).then(|| Newer::new(range, Some(entry.sequence)))
        })
    })
}

/// An operation among the records of a commit, in one of the ranges.
pub(crate) fn newer_in_records(records: &[u8], ranges: &Ranges) -> Option<Newer> {
    let mut at = 0;
    while let Ok((record, taken)) = Record::read(&records[at..]) {
        at += taken;
        if let Some(span) = touched(ranges, record.tag, record.key, record.payload) {
            return Some(Newer::new(span, None));
        }
        if at >= records.len() {
            break;
        }
    }
    None
}
