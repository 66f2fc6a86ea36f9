//! Slices: the pages of which the journals of interior nodes are made.
//!
//! A slice is a table of operations (see [`super::page`]), one a key, followed by range deletes.
//! Invariant kept: the range deletes are disjoint and ascending, come before the point operations,
//! and were cut at the bounds of the children that the node had. Flushes encode slices ([`encode`]),
//! searches and cursors look into them. [`crate::format::journals`] has the bytes.

use super::operation::{Batch, RangeDelete};
use super::page::{Kind, NewPage, NewSlot, Page, encode_table, finish};
use crate::error::{Error, Result};
use crate::format::bytes::{put_varint, read_varint};
use crate::format::{Birth, PagePointer, SequenceNumber};

/// A view of a checked slice.
#[derive(Clone, Copy)]
pub(crate) struct Slice<'p> {
    pub(crate) page: Page<'p>,
}

impl<'p> Slice<'p> {
    pub(crate) fn new(bytes: &'p [u8]) -> Self {
        Self {
            page: Page::new(bytes),
        }
    }

    /// Checks a slice that was read from the disk.
    pub(crate) fn check(bytes: &'p [u8], pointer: &PagePointer) -> Result<Self> {
        let page = Page::check(bytes, pointer, Kind::Slice)?;
        let slice = Self { page };
        let malformed =
            || Error::corrupt_at(pointer.extent(), "a slice with malformed range deletes");
        let mut at = page.records_end();
        let mut end_before: Option<&[u8]> = None;
        for index in 0..page.extra_count() {
            let (delete, taken) = slice.parse(at).ok_or_else(malformed)?;
            let apart = index == 0 || end_before.is_some_and(|end| end <= delete.low);
            if !apart || delete.end.is_some_and(|end| end <= delete.low) {
                return Err(malformed());
            }
            end_before = delete.end;
            at += taken;
        }
        if at != bytes.len() {
            return Err(malformed());
        }
        Ok(slice)
    }

    fn parse(&self, start: usize) -> Option<(RangeDelete<'p>, usize)> {
        let bytes = self.page.bytes();
        let mut at = start;
        let mut number = || {
            let (value, taken) = read_varint(bytes.get(at..)?)?;
            at += taken;
            usize::try_from(value).ok()
        };
        let (low, end, age) = (number()?, number()?, number()?);
        let low_end = at.checked_add(low)?;
        let end_end = low_end.checked_add(end.saturating_sub(1))?;
        let delete = RangeDelete {
            low: bytes.get(at..low_end)?,
            end: match end {
                0 => None,
                _ => Some(bytes.get(low_end..end_end)?),
            },
            sequence: SequenceNumber(self.page.newest().0.saturating_sub(age as u64)),
        };
        Some((delete, end_end - start))
    }

    /// Whether there are range deletes.
    #[inline]
    pub(crate) fn has_range_deletes(&self) -> bool {
        self.page.extra_count() > 0
    }

    /// The range deletes, ascending.
    pub(crate) fn range_deletes(self) -> impl Iterator<Item = RangeDelete<'p>> {
        let mut at = self.page.records_end();
        (0..self.page.extra_count()).map(move |_| {
            let (delete, taken) = self
                .parse(at)
                .expect("the slice was checked when it was loaded");
            at += taken;
            delete
        })
    }

    /// Whether a range delete covers a key.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.has_range_deletes() && self.range_deletes().any(|delete| delete.covers(key))
    }
}

/// Encodes a slice.
pub(crate) fn encode(batch: &Batch<'_>, birth: Birth) -> Result<Vec<u8>> {
    let newest = batch.newest();
    let slots: Vec<NewSlot<'_>> = batch
        .points
        .iter()
        .map(|operation| NewSlot {
            key: operation.key,
            tag: operation.tag as u8,
            payload: &operation.payload,
            sequence: operation.sequence,
        })
        .collect();
    let new = NewPage {
        kind: Kind::Slice,
        level: 0,
        birth,
        newest,
        extra_count: batch.deletes.len(),
        runs: 0,
    };
    let mut page = encode_table(&new, &slots)?;
    for delete in &batch.deletes {
        put_varint(&mut page, delete.low.len() as u64);
        put_varint(&mut page, delete.end.map_or(0, |end| 1 + end.len() as u64));
        put_varint(&mut page, newest.0 - delete.sequence.0);
        page.extend_from_slice(delete.low);
        page.extend_from_slice(delete.end.unwrap_or(&[]));
    }
    Ok(finish(page))
}
