//! The leaf at a place in the order of keys, with everything that is pending for it.
//!
//! Cursors move from leaf to leaf this way: one descent a leaf, no stack to keep, so that a page that
//! has to be loaded only means doing the descent again. What is found is borrowed under the guard:
//! short ranges would pay more for counted references than for the descent, so the caller takes
//! those that it needs.

use smallvec::SmallVec;

use super::interior::{Interior, SliceEntry};
use super::key_buffer::KeyBuffer;
use super::page::Page;
use super::pages::{Expect, Pages};
use crate::cache::{Frame, FrameHint, Guard};
use crate::error::{Error, Result};
use crate::format::PagePointer;

/// Which leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seek<'k> {
    /// The one that has a key, or would have it.
    Of(&'k [u8]),
    /// The one that has the keys just below a key.
    Before(&'k [u8]),
    /// The last one.
    Last,
}

/// A leaf and what is pending for it.
pub(crate) struct Reach<'g> {
    /// `None` in an empty tree.
    pub(crate) leaf: Option<&'g Frame>,
    /// Newest first. They may hold operations for other leaves too.
    pub(crate) slices: SmallVec<[&'g Frame; 8]>,
    /// The nodes and separators that bound the leaf most narrowly.
    low: Option<(&'g Frame, usize)>,
    end: Option<(&'g Frame, usize)>,
}

impl Reach<'_> {
    /// Puts the lower bound of the leaf's keys into a buffer; says whether there is one.
    pub(crate) fn read_low(&self, into: &mut KeyBuffer) -> bool {
        Self::read(self.low, into)
    }

    /// The same with the first key past the leaf.
    pub(crate) fn read_end(&self, into: &mut KeyBuffer) -> bool {
        Self::read(self.end, into)
    }

    fn read(place: Option<(&Frame, usize)>, into: &mut KeyBuffer) -> bool {
        if let Some((frame, slot)) = place {
            Page::new(frame.bytes()).read_key(slot, into);
        }
        place.is_some()
    }
}

/// Where a descent ended.
pub(crate) enum Reached<'g> {
    /// At the leaf.
    At(Reach<'g>),
    /// At a page that is not in memory.
    Need(PagePointer, Expect),
}

/// Goes down to a leaf.
pub(crate) fn reach<'g>(
    pages: &Pages,
    root: &PagePointer,
    root_hint: &FrameHint,
    seek: Seek<'_>,
    guard: &'g Guard,
) -> Result<Reached<'g>> {
    let mut reach = Reach {
        leaf: None,
        slices: SmallVec::new(),
        low: None,
        end: None,
    };
    if root.is_nothing() {
        return Ok(Reached::At(reach));
    }
    let mut pointer = *root;
    let mut expect = Expect::Root;
    let found = pages
        .frames
        .lookup(pointer.address, pointer.birth, root_hint, guard);
    let Some(mut frame) = found else {
        return Ok(Reached::Need(pointer, expect));
    };
    loop {
        let page = Page::new(frame.bytes());
        if !expect.admits(&page) {
            return Err(Error::corrupt_at(
                pointer.extent(),
                format!("a page is not what its pointer promises: {expect:?}"),
            ));
        }
        if page.level() == 0 {
            reach.leaf = Some(frame);
            return Ok(Reached::At(reach));
        }
        let node = Interior::new(frame.bytes());
        let child = match seek {
            Seek::Of(key) => node.child_of(key),
            Seek::Before(key) => node.child_before(key),
            Seek::Last => node.children() - 1,
        };
        if child > 0 {
            reach.low = Some((frame, child - 1));
        }
        if child + 1 < node.children() {
            reach.end = Some((frame, child));
        }
        // What is pending and the child are looked up one after the other, but waited for together.
        pages.frames.prefetch(frame.hint(child));
        let mut slices: SmallVec<[(SliceEntry<'g>, &FrameHint); 8]> = SmallVec::new();
        for run in node.runs() {
            if run.pending_units(child) == 0 {
                continue;
            }
            let Some((index, entry)) = run.slice_of(child) else {
                continue;
            };
            let hint = frame.hint(node.children() + run.slices_before + index);
            pages.frames.prefetch(hint);
            slices.push((entry, hint));
        }
        let before = reach.slices.len();
        for (entry, hint) in &slices {
            let (address, birth) = (entry.pointer().address, entry.pointer().birth);
            let Some(slice) = pages.frames.lookup(address, birth, hint, guard) else {
                return Ok(Reached::Need(entry.pointer(), Expect::Slice));
            };
            slice.prefetch();
            reach.slices.push(slice);
        }
        pointer = node.pointer(child);
        expect = Expect::Level(page.level() - 1);
        match pages
            .frames
            .lookup(pointer.address, pointer.birth, frame.hint(child), guard)
        {
            Some(next) => frame = next,
            None => return Ok(Reached::Need(pointer, expect)),
        }
        frame.prefetch();
        for (slice, (entry, _)) in reach.slices[before..].iter().zip(&slices) {
            if !Expect::Slice.admits(&Page::new(slice.bytes())) {
                return Err(Error::corrupt_at(
                    entry.pointer().extent(),
                    "a slice is something else",
                ));
            }
        }
    }
}
