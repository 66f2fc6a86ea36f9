//! What a dropped subtree or value consists of, found one page at a time, so that its space can be
//! used again.
//!
//! [`free_some`] is what the maintenance of a store calls. A page names what stands directly below
//! it: children, slices, off-tree values. What is *consumed* in a slice is not named by it any more:
//! it went down to the children, and freeing it here would free it twice. Each step reads one page
//! of a tree with its slices, or one index page of a value, past the cache: it is needed only once.

use std::ops::Range;

use super::interior::{HAS_OFF_TREE, Interior, Run, SliceEntry};
use super::operation::lose;
use super::page::{Kind, Page};
use super::pages::{Expect, Pages, check};
use crate::cache::Handle;
use crate::error::{Error, Result};
use crate::format::{Birth, Extent, PagePointer};
use crate::space::{Dropped, Expansion, Space};
use crate::value::{DiskPages, OffTree};

/// A page that is needed only once.
pub(super) enum PassingPage {
    Cached(Handle),
    Read(Vec<u8>),
}

impl PassingPage {
    /// The page that a pointer names, verified and checked. If it has to be read, it is not kept in
    /// the frame table.
    pub(super) async fn load(pages: &Pages, pointer: &PagePointer, expect: Expect) -> Result<Self> {
        let page = match pages.frames.get(pointer.address, pointer.birth) {
            Some(handle) => Self::Cached(handle),
            None => Self::Read(pages.disk.read(pointer.extent()).await?),
        };
        // What is cached too: a file made by somebody hostile can name one extent as two things.
        pointer.verify(pages.store, page.bytes())?;
        check(pointer, page.bytes())?;
        if !expect.admits(&Page::new(page.bytes())) {
            return Err(Error::corrupt_at(
                pointer.extent(),
                format!("a page is not what its pointer promises: {expect:?}"),
            ));
        }
        Ok(page)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Cached(handle) => handle.bytes(),
            Self::Read(bytes) => bytes,
        }
    }
}

/// Where in a page stand the payloads of the off-tree values that some of its slots hold, be it
/// under merge operands.
fn values_in(page: &Page<'_>, slots: Range<usize>, found: &mut Vec<Range<usize>>) {
    let start = page.bytes().as_ptr().addr();
    for index in slots {
        let slot = page.slot(index);
        lose(Page::tag(&slot), slot.payload, &mut |payload| {
            let at = payload.as_ptr().addr() - start;
            found.push(at..at + payload.len());
        });
    }
}

/// Where in a leaf stand the payloads of off-tree values.
pub(super) fn values_in_leaf(page: &Page<'_>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    values_in(page, 0..page.slots(), &mut found);
    found
}

/// Where in a slice stand the payloads of off-tree values, as far as they are still pending.
pub(super) fn values_in_slice(
    node: &Interior<'_>,
    run: &Run<'_>,
    entry: &SliceEntry<'_>,
    slice: &Page<'_>,
) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for child in entry.first_child()..=entry.last_child() {
        if run.pending_units(child) == 0 {
            continue;
        }
        let first = match child {
            0 => 0,
            _ => slice.at_or_after(&node.page.key(child - 1)),
        };
        let last = match child + 1 < node.children() {
            true => slice.at_or_after(&node.page.key(child)),
            false => slice.slots(),
        };
        values_in(slice, first..last, &mut found);
    }
    found
}

/// Adds the values whose payloads stand at some places of a page. A payload that does not decode
/// names nothing that could be freed; `verify` reports it.
fn push_values(bytes: &[u8], places: Vec<Range<usize>>, parts: &mut Vec<(Dropped, Birth)>) {
    for place in places {
        let payload = &bytes[place];
        if let Ok(value) = OffTree::from_payload(payload) {
            parts.push((Dropped::Value(payload.to_vec()), value.root.birth));
        }
    }
}

/// What stands directly below the root of a dropped item, and the extent of the root itself, each
/// with its birth.
pub(crate) async fn expand(pages: &Pages, item: &Dropped) -> Result<Vec<(Dropped, Birth)>> {
    match item {
        Dropped::Extent(extent) => Err(Error::invalid(format!(
            "the extent {extent} has no parts to be expanded into"
        ))),
        Dropped::Subtree(pointer) => expand_subtree(pages, pointer).await,
        Dropped::Value(payload) => expand_value(pages, payload).await,
    }
}

async fn expand_value(pages: &Pages, payload: &[u8]) -> Result<Vec<(Dropped, Birth)>> {
    let value = OffTree::from_payload(payload)?;
    // Index pages of values are on the disk as soon as the value is named.
    let source = DiskPages::new(pages.disk.clone(), pages.store);
    let children = crate::value::expand(&value, &source).await?;
    let extents = children.extents.into_iter();
    let values = children.values.into_iter();
    Ok(extents
        .map(|(extent, birth)| (Dropped::Extent(extent), birth))
        .chain(values.map(|value| {
            let item = Dropped::Value(value.to_payload().to_vec());
            (item, value.root.birth)
        }))
        .collect())
}

async fn expand_subtree(pages: &Pages, pointer: &PagePointer) -> Result<Vec<(Dropped, Birth)>> {
    let root = PassingPage::load(pages, pointer, Expect::Root).await?;
    let mut parts = vec![(Dropped::Extent(pointer.extent()), pointer.birth)];
    let page = Page::new(root.bytes());
    if page.kind_is(Kind::Leaf) {
        push_values(root.bytes(), values_in_leaf(&page), &mut parts);
        return Ok(parts);
    }
    let node = Interior::new(root.bytes());
    for child in 0..node.children() {
        let pointer = node.pointer(child);
        // A leaf without off-tree values consists of its page.
        let item = match page.level() == 1 && pointer.off_tree_bytes == 0 {
            true => Dropped::Extent(pointer.extent()),
            false => Dropped::Subtree(pointer),
        };
        parts.push((item, pointer.birth));
    }
    for run in node.runs() {
        for index in 0..run.slices {
            let entry = run.slice(index);
            let pointer = entry.pointer();
            parts.push((Dropped::Extent(pointer.extent()), pointer.birth));
            if entry.flags() & HAS_OFF_TREE != 0 {
                let slice = PassingPage::load(pages, &pointer, Expect::Slice).await?;
                let places = values_in_slice(&node, &run, &entry, &Page::new(slice.bytes()));
                push_values(slice.bytes(), places, &mut parts);
            }
        }
    }
    Ok(parts)
}

/// What [`free_some`] did.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    /// Extents that are free now, or when the present generation ends. The frame table has forgotten
    /// them; the caller forgets those that wait to be written.
    pub(crate) extents: Vec<(Extent, Birth)>,
    /// Whether there is more to expand now.
    pub(crate) more: bool,
    /// What first kept an item from being expanded. The item is not lost, unless its parts
    /// contradict the space maps: a later call tries it again.
    pub(crate) failed: Option<Error>,
}

/// Items taken from the space and not yet expanded: they go back if the work on them ends early, be
/// it because a future is dropped.
struct InHand<'s> {
    space: &'s Space,
    waiting: Vec<Expansion>,
    failed: Vec<Expansion>,
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        for expansion in self.waiting.drain(..).chain(self.failed.drain(..)) {
            self.space.expand_later(expansion);
        }
    }
}

/// Frees what nothing pins any more, and expands at most `steps_max` subtrees and values. Called by
/// one thread at a time, outside of a checkpoint's writing of pages.
///
/// Items that come out of one are expanded before others, so that the list of pending items, which
/// every checkpoint writes, stays short.
pub(crate) async fn free_some(pages: &Pages, steps_max: usize) -> Freed {
    let mut freed = Freed::default();
    let mut in_hand = InHand {
        space: &pages.space,
        waiting: Vec::new(),
        failed: Vec::new(),
    };
    for steps_left in (0..=steps_max).rev() {
        let collected = pages.space.collect();
        for (extent, birth) in &collected.freed {
            pages.frames.forget(extent.address, *birth);
        }
        freed.extents.extend(collected.freed);
        in_hand.waiting.extend(collected.expand);
        let Some(next) = in_hand.waiting.last() else {
            break;
        };
        if steps_left == 0 {
            freed.more = true;
            break;
        }
        let expanded = expand(pages, &next.pending.item).await;
        let Some(expansion) = in_hand.waiting.pop() else {
            break;
        };
        let result = match expanded {
            Ok(parts) => pages.space.expanded(expansion, parts),
            Err(error) => {
                in_hand.failed.push(expansion);
                Err(error)
            }
        };
        if let Err(error) = result {
            freed
                .failed
                .get_or_insert(error.while_doing("freeing what no version reaches"));
        }
    }
    freed
}
