//! A root journal as a batch: per key what its operations come to.

use std::borrow::Cow;

use super::journal::Journal;
use super::lineage::{LostValue, supersede};
use super::merge::{Base, Operators, fold, needs_below};
use super::operation::{Batch, Operation, RangeDelete, lose};
use crate::format::SequenceNumber;
use crate::format::record::Tag;
use crate::transaction::KeyOperations;

/// The operations of a journal up to a sequence, folded. Off-tree values that nobody
/// will see in the tree are handed to `lost`.
pub(crate) fn frozen_batch<'j>(
    journal: &'j Journal,
    bound: SequenceNumber,
    operators: &Operators,
    lost: &mut dyn FnMut(LostValue),
) -> Batch<'j> {
    let deletes = disjoint(journal, bound);
    let mut points = Vec::with_capacity(journal.operations());
    let mut position = journal.first();
    while let Some(at) = position {
        position = journal.next_key(at);
        let Some(newest) = journal.visible(at, bound) else {
            continue;
        };
        let key = journal.entry(at).key;
        let covered = match deletes.is_empty() {
            true => None,
            false => journal.covering(key, bound),
        };
        points.extend(fold_key(journal, newest, covered, operators, lost));
    }
    Batch { deletes, points }
}

/// What the operations on one key come to.
fn fold_key<'j>(
    journal: &'j Journal,
    newest: super::journal::JournalPosition,
    covered: Option<u64>,
    operators: &Operators,
    lost: &mut dyn FnMut(LostValue),
) -> Option<Operation<'j>> {
    let alive = |stamp: u64| covered.is_none_or(|covered| covered < stamp);
    let first = journal.entry(newest);
    let mut chains: Vec<&[u8]> = Vec::new();
    let mut passed: Vec<(Tag, &[u8])> = Vec::new();
    let mut base = None;
    let mut ended = false;
    let mut position = Some(newest);
    while let Some(at) = position {
        position = journal.older(at);
        let entry = journal.entry(at);
        if ended || !alive(entry.stamp) {
            // Only to free what it held.
            passed.push((entry.tag, entry.payload));
            continue;
        }
        match entry.tag {
            Tag::Merge => {
                chains.push(entry.payload);
                ended = !needs_below(entry.payload);
            }
            tag => {
                base = Some((tag, entry.payload));
                ended = true;
            }
        }
    }
    if !alive(first.stamp) {
        for (tag, payload) in passed {
            lose(tag, payload, &mut |payload| {
                LostValue::of(payload, None)
                    .into_iter()
                    .for_each(&mut *lost);
            });
        }
        return None;
    }
    let (mut tag, mut payload) = match base {
        Some((tag, payload)) => (tag, Cow::Borrowed(payload)),
        None => (Tag::Delete, Cow::Borrowed(&[][..])),
    };
    let mut under = match base {
        Some((Tag::Delete, _)) => Base::Absent,
        Some((tag, payload)) => Base::Stored(tag, payload),
        None if covered.is_some() => Base::Absent,
        None => Base::Below,
    };
    let mut folded;
    for (index, chain) in chains.iter().rev().enumerate() {
        if index == 0 && matches!(under, Base::Below) && chains.len() == 1 {
            (tag, payload) = (Tag::Merge, Cow::Borrowed(*chain));
            break;
        }
        folded = fold(operators, first.key, under, chain);
        tag = folded.0;
        payload = Cow::Owned(folded.1);
        under = Base::Stored(tag, &payload);
    }
    for older in passed {
        supersede(tag, &mut payload, older, lost);
    }
    Some(Operation {
        key: first.key,
        sequence: first.sequence,
        tag,
        payload,
    })
}

/// The range deletes of a journal, united where they overlap.
fn disjoint(journal: &Journal, bound: SequenceNumber) -> Vec<RangeDelete<'_>> {
    if !journal.has_range_deletes() {
        return Vec::new();
    }
    let mut all: Vec<RangeDelete<'_>> = journal
        .range_deletes(bound)
        .into_iter()
        .map(|delete| RangeDelete {
            low: delete.low,
            end: delete.end,
            sequence: delete.sequence,
        })
        .collect();
    all.sort_by(|a, b| a.low.cmp(b.low));
    super::operation::unite_sorted(all)
}

/// What the operations of one key of a transaction come to; they are newest first, and none of them
/// is dead.
pub(crate) fn fold_entries<'s>(
    operators: &Operators,
    key: &KeyOperations<'s>,
) -> (Tag, Cow<'s, [u8]>) {
    let mut folded: Option<(Tag, Cow<'s, [u8]>)> = None;
    for entry in key.entries().rev() {
        folded = Some(match (entry.tag, folded) {
            (Tag::Merge, None) => (Tag::Merge, Cow::Borrowed(entry.payload)),
            (Tag::Merge, Some((tag, payload))) => {
                let base = match tag {
                    Tag::Delete => Base::Absent,
                    tag => Base::Stored(tag, &payload),
                };
                let (tag, payload) = fold(operators, key.key(), base, entry.payload);
                (tag, Cow::Owned(payload))
            }
            (tag, _) => (tag, Cow::Borrowed(entry.payload)),
        });
    }
    folded.unwrap_or((Tag::Delete, Cow::Borrowed(&[])))
}
