//! Which pages a scan will need next and has not in memory: leaves, and what is pending for them.
//!
//! Asked for when a scan has to wait for a page anyway. Like [`super::reach`] it goes down once to
//! the node above the leaves, whose children are the pages in question; where they end, once more
//! to the node after it. What is not in memory on the way is named in the place of what is below it.

use std::ops::Bound;

use super::interior::Interior;
use super::key_buffer::KeyBuffer;
use super::page::Page;
use super::pages::{Expect, Pages};
use super::reach::Seek;
use crate::cache::{FrameHint, Guard};
use crate::format::PagePointer;

/// How many nodes above leaves are looked at.
const NODES_MAX: usize = 4;

/// The pages that a scan needs next, in the order in which it needs them.
pub(crate) struct Upcoming {
    pub(crate) pages: Vec<(PagePointer, Expect)>,
    /// How many bytes they may have.
    bytes_left: usize,
    pages_max: usize,
}

impl Upcoming {
    /// Nothing yet: room for so many bytes and pages.
    pub(crate) fn new(bytes_max: usize, pages_max: usize) -> Self {
        Self {
            pages: Vec::new(),
            bytes_left: bytes_max,
            pages_max,
        }
    }

    /// Adds a page that is not in memory; says whether there is room for it.
    fn add(
        &mut self,
        pages: &Pages,
        entry: (PagePointer, Expect),
        hint: &FrameHint,
        guard: &Guard,
    ) -> bool {
        let (pointer, _) = entry;
        let frames = &pages.frames;
        let known = self.pages.contains(&entry)
            || (frames.lookup(pointer.address, pointer.birth, hint, guard)).is_some();
        if known {
            return true;
        }
        let Some(left) = self.bytes_left.checked_sub(pointer.length as usize) else {
            return false;
        };
        if self.pages.len() == self.pages_max {
            return false;
        }
        self.bytes_left = left;
        self.pages.push(entry);
        true
    }

    /// Finds them, from a leaf on, forward or backward, as far as a bound.
    pub(crate) fn find(
        &mut self,
        pages: &Pages,
        root: (&PagePointer, &FrameHint),
        seek: Seek<'_>,
        forward: bool,
        far: Bound<&[u8]>,
        guard: &Guard,
    ) {
        let mut next = KeyBuffer::new();
        if !self.find_in_node(pages, root, seek, forward, far, &mut next, guard) {
            return;
        }
        for _ in 1..NODES_MAX {
            let key = next.clone();
            let seek = match forward {
                true => Seek::Of(key.as_slice()),
                false => Seek::Before(key.as_slice()),
            };
            if !self.find_in_node(pages, root, seek, forward, far, &mut next, guard) {
                return;
            }
        }
    }

    /// The same in one node above leaves. Whether to go on at the key that it leaves in `next`.
    #[expect(clippy::too_many_arguments, reason = "one step of one loop")]
    fn find_in_node(
        &mut self,
        pages: &Pages,
        (root, root_hint): (&PagePointer, &FrameHint),
        seek: Seek<'_>,
        forward: bool,
        far: Bound<&[u8]>,
        next: &mut KeyBuffer,
        guard: &Guard,
    ) -> bool {
        let mut expect = Expect::Root;
        let found = pages
            .frames
            .lookup(root.address, root.birth, root_hint, guard);
        let Some(mut frame) = found else {
            return false;
        };
        let mut bounded = false;
        loop {
            let page = Page::new(frame.bytes());
            if !expect.admits(&page) || page.level() == 0 {
                return false;
            }
            let node = Interior::new(frame.bytes());
            let child = match seek {
                Seek::Of(key) => node.child_of(key),
                Seek::Before(key) => node.child_before(key),
                Seek::Last => node.children() - 1,
            };
            expect = Expect::Level(page.level() - 1);
            if page.level() == 1 {
                let children = match forward {
                    true => child..node.children(),
                    false => 0..child + 1,
                };
                for step in 0..children.len() {
                    let child = match forward {
                        true => child + step,
                        false => child - step,
                    };
                    if is_beyond(&node, child, forward, far) {
                        return false;
                    }
                    for run in node.runs().filter(|run| run.pending_units(child) > 0) {
                        let Some((index, slice)) = run.slice_of(child) else {
                            continue;
                        };
                        let hint = frame.hint(node.children() + run.slices_before + index);
                        if !self.add(pages, (slice.pointer(), Expect::Slice), hint, guard) {
                            return false;
                        }
                    }
                    if !self.add(
                        pages,
                        (node.pointer(child), expect),
                        frame.hint(child),
                        guard,
                    ) {
                        return false;
                    }
                }
                return bounded;
            }
            // Where the neighbour of the node below begins or ends.
            let separator = match forward {
                true => Some(child).filter(|child| child + 1 < node.children()),
                false => child.checked_sub(1),
            };
            if let Some(separator) = separator {
                node.page.read_key(separator, next);
                bounded = true;
            }
            let pointer = node.pointer(child);
            let hint = frame.hint(child);
            let below = pages
                .frames
                .lookup(pointer.address, pointer.birth, hint, guard);
            let Some(below) = below else {
                self.add(pages, (pointer, expect), hint, guard);
                return false;
            };
            frame = below;
        }
    }
}

/// Whether a child has nothing on this side of a bound.
fn is_beyond(node: &Interior<'_>, child: usize, forward: bool, far: Bound<&[u8]>) -> bool {
    let (Bound::Included(far) | Bound::Excluded(far)) = far else {
        return false;
    };
    match forward {
        true => child > 0 && *node.page.key(child - 1) > *far,
        false => child + 1 < node.children() && *node.page.key(child) <= *far,
    }
}
