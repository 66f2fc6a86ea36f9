//! Batches cut to the bounds of children, and batches read back from slices.

use std::borrow::Cow;

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
    lows.iter()
        .enumerate()
        .map(|(child, low)| {
            // The first child takes what is below its bound too: the batch has nothing there.
            batch.within(low, lows.get(child + 1).map(Vec::as_slice).or(end))
        })
        .collect()
}

/// A slice with its keys made whole.
pub(super) struct SliceContents {
    handle: Handle,
    keys: Keys,
}

/// The whole keys of a page's slots, in one buffer.
pub(super) struct Keys {
    buffer: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    pub(super) fn of(page: &Page<'_>) -> Self {
        let mut buffer = Vec::with_capacity(page.bytes().len());
        let mut ends = Vec::with_capacity(page.slots());
        for index in 0..page.slots() {
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
    pub(super) fn load(pages: &Pages, pointer: &PagePointer) -> Result<Self> {
        let handle = pages.load_waiting(pointer, Expect::Slice)?;
        let keys = Keys::of(&Page::new(handle.bytes()));
        Ok(Self { handle, keys })
    }

    /// How many operations lie within some bounds.
    pub(super) fn operations(&self, low: &[u8], end: Option<&[u8]>) -> usize {
        super::flush::slice_operations(&Slice::new(self.handle.bytes()), low, end)
    }

    /// The operations within some bounds.
    pub(super) fn batch<'a>(&'a self, low: &'a [u8], end: Option<&'a [u8]>) -> Batch<'a> {
        let slice = Slice::new(self.handle.bytes());
        let page = slice.page;
        let first = page.at_or_after(low);
        let last = end.map_or(page.slots(), |end| page.at_or_after(end));
        let points = (first..last)
            .map(|index| {
                let slot = page.slot(index);
                Operation {
                    key: self.keys.get(index),
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
