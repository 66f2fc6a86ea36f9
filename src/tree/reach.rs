//! The leaf at a place in the order of keys, with everything that is pending for it.
//!
//! Cursors and counts move from leaf to leaf this way: one descent a leaf, no stack to keep, so that
//! a page that has to be loaded only means doing the descent again.

use smallvec::SmallVec;

use super::interior::Interior;
use super::page::Page;
use super::pages::{Expect, Pages};
use crate::cache::{Frame, FrameHint, Guard, Handle};
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
#[derive(Clone)]
pub(crate) struct Reach {
    /// `None` in an empty tree.
    pub(crate) leaf: Option<Handle>,
    /// Newest first. They may hold operations for other leaves too.
    pub(crate) slices: SmallVec<[Handle; 4]>,
    /// The lower bound of the leaf's keys.
    pub(crate) low: Vec<u8>,
    /// The first key past the leaf; `None` after the last one.
    pub(crate) end: Option<Vec<u8>>,
}

/// Where a descent ended.
pub(crate) enum Reached {
    /// At the leaf.
    At(Reach),
    /// At a page that is not in memory.
    Need(PagePointer, Expect),
}

/// Goes down to a leaf.
pub(crate) fn reach(
    pages: &Pages,
    root: &PagePointer,
    root_hint: &FrameHint,
    seek: Seek<'_>,
    guard: &Guard,
) -> Result<Reached> {
    let mut slices = SmallVec::new();
    if root.is_nothing() {
        return Ok(Reached::At(Reach {
            leaf: None,
            slices,
            low: Vec::new(),
            end: None,
        }));
    }
    let mut pointer = *root;
    let mut expect = Expect::Root;
    let found = pages
        .frames
        .lookup(pointer.address, pointer.birth, root_hint, guard);
    let Some(mut frame) = found else {
        return Ok(Reached::Need(pointer, expect));
    };
    // The nodes and separators that bound the leaf most narrowly.
    let mut low: Option<(&Frame, usize)> = None;
    let mut end: Option<(&Frame, usize)> = None;
    loop {
        let page = Page::new(frame.bytes());
        if !expect.admits(&page) {
            return Err(Error::corrupt_at(
                pointer.extent(),
                format!("a page is not what its pointer promises: {expect:?}"),
            ));
        }
        if page.level() == 0 {
            let key = |(frame, slot): (&Frame, usize)| Page::new(frame.bytes()).key(slot);
            return Ok(Reached::At(Reach {
                leaf: Some(frame.handle(guard)),
                slices,
                low: low.map_or_else(Vec::new, key),
                end: end.map(key),
            }));
        }
        let node = Interior::new(frame.bytes());
        let child = match seek {
            Seek::Of(key) => node.child_of(key),
            Seek::Before(key) => node.child_before(key),
            Seek::Last => node.children() - 1,
        };
        if child > 0 {
            low = Some((frame, child - 1));
        }
        if child + 1 < node.children() {
            end = Some((frame, child));
        }
        for run in node.runs().filter(|run| run.pending_units(child) > 0) {
            let Some((index, entry)) = run.slice_of(child) else {
                continue;
            };
            let pointer = entry.pointer();
            let hint = frame.hint(node.children() + run.slices_before + index);
            match pages
                .frames
                .lookup(pointer.address, pointer.birth, hint, guard)
            {
                Some(slice) if Expect::Slice.admits(&Page::new(slice.bytes())) => {
                    slices.push(slice.handle(guard));
                }
                Some(_) => {
                    return Err(Error::corrupt_at(
                        pointer.extent(),
                        "a slice is something else",
                    ));
                }
                None => return Ok(Reached::Need(pointer, Expect::Slice)),
            }
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
    }
}
