//! Batches cut to the bounds of children, and batches read back from slices.

use std::borrow::Cow;
use std::ops::Range;

use super::operation::{Batch, Operation};
use super::page::Page;
use super::pages::{Expect, Pages};
use super::slice::Slice;
use crate::cache::Handle;
use crate::error::Result;
use crate::format::PagePointer;

/// Cuts a batch at the lower bounds of children; the last child ends at `end`.
pub(super) fn partition<'a>(
    batch: &Batch<'a>,
    lows: &'a [Vec<u8>],
    end: Option<&'a [u8]>,
) -> Vec<Batch<'a>> {
    if batch.is_empty() {
        return lows.iter().map(|_| Batch::default()).collect();
    }
    // The first child takes what is below its bound too: the batch has nothing there.
    let mut rest = &batch.points[..];
    lows.iter()
        .enumerate()
        .map(|(child, low)| {
            let end = lows.get(child + 1).map(Vec::as_slice).or(end);
            let (points, after) = rest.split_at(end.map_or(rest.len(), |end| below(rest, end)));
            rest = after;
            let deletes = batch.deletes.iter();
            Batch {
                deletes: deletes.filter_map(|it| it.within(low, end)).collect(),
                points: points.to_vec(),
            }
        })
        .collect()
}

/// How many of some points are below a key. It looks near the first ones: they are many more than
/// those that one child gets, and each look at a key is a miss of the processor's cache.
fn below(points: &[Operation<'_>], end: &[u8]) -> usize {
    let mut reach = 1;
    while reach <= points.len() && points[reach - 1].key < end {
        reach *= 2;
    }
    let known = reach / 2;
    let near = &points[known..points.len().min(reach)];
    known + near.partition_point(|operation| operation.key < end)
}

/// A slice with some of its keys made whole.
pub(super) struct SliceContents {
    handle: Handle,
    /// The first slot whose key is.
    first: usize,
    keys: Keys,
}

/// The whole keys of slots of a page, in one buffer.
pub(super) struct Keys {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(super) fn of(page: &Page<'_>) -> Self {
        Self::of_slots(page, 0..page.slots())
    }

    fn of_slots(page: &Page<'_>, slots: Range<usize>) -> Self {
        let share = page.bytes().len() * slots.len() / page.slots().max(1);
        let mut buffer = Vec::with_capacity(share);
        let mut ends = Vec::with_capacity(slots.len());
        for index in slots {
            page.append_key(index, &page.slot(index), &mut buffer);
            ends.push(buffer.len());
        }
        Self { buffer, ends }
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.buffer[start..self.ends[index]]
    }
}

impl SliceContents {
    /// A slice, to be asked for what lies within some bounds.
    pub(super) fn load(
        pages: &Pages,
        pointer: &PagePointer,
        low: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Self> {
        let handle = pages.load_waiting(pointer, Expect::Slice)?;
        let page = Page::new(handle.bytes());
        let slots = slots_within(&page, low, end);
        let first = slots.start;
        let keys = Keys::of_slots(&page, slots);
        Ok(Self {
            handle,
            first,
            keys,
        })
    }

    /// How many operations lie within some bounds.
    pub(super) fn operations(&self, low: &[u8], end: Option<&[u8]>) -> usize {
        super::flush::slice_operations(&Slice::new(self.handle.bytes()), low, end)
    }

    /// The operations within some bounds, which lie within those it was loaded for.
    pub(super) fn batch<'a>(&'a self, low: &'a [u8], end: Option<&'a [u8]>) -> Batch<'a> {
        let slice = Slice::new(self.handle.bytes());
        let page = slice.page;
        let points = slots_within(&page, low, end)
            .map(|index| {
                let slot = page.slot(index);
                Operation {
                    key: self.keys.get(index - self.first),
                    sequence: page.sequence(&slot),
                    tag: Page::tag(&slot),
                    payload: Cow::Borrowed(slot.payload),
                }
            })
            .collect();
        let deletes = slice
            .range_deletes()
            .filter_map(|delete| delete.within(low, end))
            .collect();
        Batch { deletes, points }
    }
}

/// The slots of a page whose keys lie within some bounds.
fn slots_within(page: &Page<'_>, low: &[u8], end: Option<&[u8]>) -> Range<usize> {
    let first = page.at_or_after(low);
    let last = end.map_or(page.slots(), |end| page.at_or_after(end));
    first..last.max(first)
}
