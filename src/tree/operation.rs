//! Operations on their way down the tree, and how a newer batch of them goes over an older one.

use std::borrow::Cow;

use super::lineage::{LostValue, supersede};
use super::merge::{Base, Operators, fold, needs_below};
use crate::format::SequenceNumber;
use crate::format::record::Tag;

/// An operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) sequence: SequenceNumber,
    pub(crate) tag: Tag,
    pub(crate) payload: Cow<'a, [u8]>,
}

impl Operation<'_> {
    /// About what it takes in a page.
    pub(crate) fn bytes(&self) -> usize {
        super::page::slot_bytes(self.key.len(), self.payload.len()) + 2
    }
}

/// The deletion of all keys from `low` on and below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RangeDelete<'a> {
    pub(crate) low: &'a [u8],
    /// The first key that is spared; `None`: all keys from `low` on go.
    pub(crate) end: Option<&'a [u8]>,
    pub(crate) sequence: SequenceNumber,
}

impl<'a> RangeDelete<'a> {
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.low <= key && self.end.is_none_or(|end| key < end)
    }

    pub(crate) fn bytes(&self) -> usize {
        6 + self.low.len() + self.end.map_or(0, <[u8]>::len)
    }

    /// What of it lies within some bounds.
    pub(crate) fn within(&self, low: &'a [u8], end: Option<&'a [u8]>) -> Option<Self> {
        let low = self.low.max(low);
        let end = match (self.end, end) {
            (None, end) | (end, None) => end,
            (Some(a), Some(b)) => Some(a.min(b)),
        };
        end.is_none_or(|end| low < end).then_some(Self {
            low,
            end,
            sequence: self.sequence,
        })
    }

    /// Whether it covers all keys within some bounds.
    pub(crate) fn covers_all(&self, low: &[u8], end: Option<&[u8]>) -> bool {
        self.low <= low
            && match (self.end, end) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(mine), Some(end)) => end <= mine,
            }
    }
}

/// Operations in order: first the range deletes, which are disjoint and ascending, then the point
/// operations, ascending, one a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch<'a> {
    pub(crate) deletes: Vec<RangeDelete<'a>>,
    pub(crate) points: Vec<Operation<'a>>,
}

impl<'a> Batch<'a> {
    /// Point operations in order, and no range deletes.
    pub(crate) fn of(points: Vec<Operation<'a>>) -> Self {
        let deletes = Vec::new();
        Self { deletes, points }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.deletes.is_empty() && self.points.is_empty()
    }

    pub(crate) fn operations(&self) -> usize {
        self.deletes.len() + self.points.len()
    }

    pub(crate) fn newest(&self) -> SequenceNumber {
        let deletes = self.deletes.iter().map(|delete| delete.sequence);
        let points = self.points.iter().map(|operation| operation.sequence);
        deletes.chain(points).max().unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> usize {
        let deletes: usize = self.deletes.iter().map(RangeDelete::bytes).sum();
        let points: usize = self.points.iter().map(Operation::bytes).sum();
        deletes + points
    }

    /// Whether a range delete covers a key.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        let after = self.deletes.partition_point(|delete| delete.low <= key);
        after > 0 && self.deletes[after - 1].covers(key)
    }

    /// This batch with a newer one over it. Off-tree values that nobody will see are handed to
    /// `lost`.
    pub(crate) fn then(
        self,
        newer: Batch<'a>,
        operators: &Operators,
        lost: &mut dyn FnMut(LostValue),
    ) -> Batch<'a> {
        if self.is_empty() {
            return newer;
        }
        let mut points = Vec::with_capacity(self.points.len() + newer.points.len());
        let deletes = unite(&self.deletes, &newer.deletes);
        let mut older_points = self.points.into_iter().peekable();
        let covered = |key: &[u8]| {
            let after = newer.deletes.partition_point(|delete| delete.low <= key);
            after > 0 && newer.deletes[after - 1].covers(key)
        };
        let keep = |operation: Operation<'a>,
                    points: &mut Vec<Operation<'a>>,
                    lost: &mut dyn FnMut(LostValue)| {
            if covered(operation.key) {
                lose(operation.tag, &operation.payload, &mut |payload| {
                    LostValue::of(payload, None)
                        .into_iter()
                        .for_each(&mut *lost);
                });
            } else {
                points.push(operation);
            }
        };
        for mut operation in newer.points {
            while let Some(older) = older_points.next_if(|older| older.key < operation.key) {
                keep(older, &mut points, lost);
            }
            let older = older_points.next_if(|older| older.key == operation.key);
            if operation.tag != Tag::Merge {
                if let Some(older) = older {
                    let older = (older.tag, &*older.payload);
                    supersede(operation.tag, &mut operation.payload, older, lost);
                }
                points.push(operation);
                continue;
            }
            let base = match &older {
                _ if covered(operation.key) || !needs_below(&operation.payload) => {
                    if let Some(older) = &older {
                        let older = (older.tag, &*older.payload);
                        supersede(operation.tag, &mut operation.payload, older, lost);
                    }
                    Base::Absent
                }
                Some(older) if older.tag == Tag::Delete => Base::Absent,
                Some(older) => Base::Stored(older.tag, &older.payload),
                None => Base::Below,
            };
            let (tag, payload) = fold(operators, operation.key, base, &operation.payload);
            points.push(Operation {
                tag,
                payload: Cow::Owned(payload),
                ..operation
            });
        }
        for older in older_points {
            keep(older, &mut points, lost);
        }
        Batch { deletes, points }
    }
}

/// Hands over the payloads of the off-tree values that an operation or entry holds.
pub(crate) fn lose(tag: Tag, payload: &[u8], lost: &mut dyn FnMut(&[u8])) {
    match tag {
        Tag::OffTree => lost(payload),
        Tag::Merge => super::merge::off_tree_in(payload).for_each(lost),
        _ => {}
    }
}

/// The union of two ascending lists of disjoint range deletes; where both cover a key, the newer
/// sequence counts for the united range.
fn unite<'a>(older: &[RangeDelete<'a>], newer: &[RangeDelete<'a>]) -> Vec<RangeDelete<'a>> {
    if older.is_empty() || newer.is_empty() {
        return [older, newer].concat();
    }
    let mut all: Vec<RangeDelete<'a>> = [older, newer].concat();
    all.sort_by(|a, b| a.low.cmp(b.low));
    unite_sorted(all)
}

/// Unites range deletes that overlap or touch; they are in ascending order of their first keys.
pub(crate) fn unite_sorted(all: Vec<RangeDelete<'_>>) -> Vec<RangeDelete<'_>> {
    let mut united: Vec<RangeDelete<'_>> = Vec::with_capacity(all.len());
    for delete in all {
        match united.last_mut() {
            Some(last) if last.end.is_none_or(|end| delete.low <= end) => {
                last.end = match (last.end, delete.end) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
                last.sequence = last.sequence.max(delete.sequence);
            }
            _ => united.push(delete),
        }
    }
    united
}
