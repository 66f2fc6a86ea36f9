//! Finding one key: the way down from a root, under an epoch guard, without I/O.
//!
//! At each interior node the runs that have something pending for the key's child are asked, newest
//! first; then the child. The first put or delete ends the search; merge operands are collected on
//! the way. A page that is not in memory stops the descent: the caller loads it and starts again.

use super::interior::{Interior, Run};
use super::merge::needs_below;
use super::page::Page;
use super::pages::{Expect, Pages};
use super::slice::Slice;
use super::{filter, interior};
use crate::cache::{Frame, FrameHint, Guard};
use crate::error::{Error, Result};
use crate::format::PagePointer;
use crate::format::record::{Tag, hash_key};

/// Where a descent ended.
pub(crate) enum Step<'g> {
    /// At a stored value, or a chain of operands that needs nothing below it.
    Found { tag: Tag, payload: &'g [u8] },
    /// At a deletion, or at a leaf without the key.
    Absent,
    /// At a page that is not in memory.
    Need(PagePointer, Expect),
}

/// Merge operands that stand above what a search finds, newest first.
pub(crate) type Chains = Vec<Vec<u8>>;

/// What becomes of the merge operands that a search passes.
pub(crate) trait Operands {
    fn pass(&mut self, chain: &[u8]);
}

impl Operands for Chains {
    fn pass(&mut self, chain: &[u8]) {
        self.push(chain.to_vec());
    }
}

/// Whether there were any, for those who give up then.
pub(crate) struct Passed(pub(crate) bool);

impl Operands for Passed {
    #[inline]
    fn pass(&mut self, _chain: &[u8]) {
        self.0 = true;
    }
}

/// Looks for a key below a root. `operands` gets what it passes; it is to be emptied before a retry.
#[inline]
pub(crate) fn search<'g>(
    pages: &Pages,
    root: &PagePointer,
    root_hint: &FrameHint,
    key: &[u8],
    operands: &mut impl Operands,
    guard: &'g Guard,
) -> Result<Step<'g>> {
    if root.is_nothing() {
        return Ok(Step::Absent);
    }
    let mut expect = Expect::Root;
    let found = pages
        .frames
        .lookup(root.address, root.birth, root_hint, guard);
    let Some(mut frame) = found else {
        return Ok(Step::Need(*root, expect));
    };
    // Where the pointer to the page stands.
    let mut above: Option<(&Frame, usize)> = None;
    loop {
        let page = Page::new(frame.bytes());
        if !expect.admits(&page) {
            let pointer = above.map_or(*root, |(above, child)| {
                Interior::new(above.bytes()).pointer(child)
            });
            return Err(misplaced(&pointer, expect));
        }
        if page.level() == 0 {
            return Ok(match page.find(key) {
                None => Step::Absent,
                Some((tag, payload)) => Step::Found { tag, payload },
            });
        }
        let node = Interior::of(page);
        let child = node.child_of(key);
        let hint = frame.hint(child);
        if node.has_runs() {
            pages.frames.prefetch(hint);
            let step = ask_runs(pages, frame, &node, child, key, operands, guard)?;
            if let Some(step) = step {
                return Ok(step);
            }
        }
        let (address, birth) = node.place(child);
        expect = Expect::Level(page.level() - 1);
        let Some(next) = pages.frames.lookup(address, birth, hint, guard) else {
            return Ok(Step::Need(node.pointer(child), expect));
        };
        above = Some((frame, child));
        frame = next;
        frame.prefetch();
    }
}

fn misplaced(pointer: &PagePointer, expect: Expect) -> Error {
    Error::corrupt_at(
        pointer.extent(),
        format!("a page is not what its pointer promises: {expect:?}"),
    )
}

/// Asks a node's runs, newest first. `None`: look below.
fn ask_runs<'g>(
    pages: &Pages,
    frame: &'g Frame,
    node: &Interior<'g>,
    child: usize,
    key: &[u8],
    operands: &mut impl Operands,
    guard: &'g Guard,
) -> Result<Option<Step<'g>>> {
    let mut hash = None;
    for run in node.runs() {
        if run.pending_units(child) == 0 {
            continue;
        }
        let hash = *hash.get_or_insert_with(|| hash_key(key));
        let step = ask_run(pages, frame, node, &run, child, key, hash, operands, guard)?;
        if step.is_some() {
            return Ok(step);
        }
    }
    Ok(None)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one step of one loop, apart to keep it readable"
)]
fn ask_run<'g>(
    pages: &Pages,
    frame: &'g Frame,
    node: &Interior<'g>,
    run: &Run<'g>,
    child: usize,
    key: &[u8],
    hash: u64,
    operands: &mut impl Operands,
    guard: &'g Guard,
) -> Result<Option<Step<'g>>> {
    let Some((index, entry)) = run.slice_of(child) else {
        return Ok(None);
    };
    let ranges = entry.flags() & interior::HAS_RANGE_DELETES != 0;
    if !ranges && !filter::may_contain(run.filter(index), hash) {
        return Ok(None);
    }
    let pointer = entry.pointer();
    let hint = frame.hint(node.children() + run.slices_before + index);
    let Some(slice) = pages
        .frames
        .lookup(pointer.address, pointer.birth, hint, guard)
    else {
        return Ok(Some(Step::Need(pointer, Expect::Slice)));
    };
    let slice = Slice::new(slice.bytes());
    if !Expect::Slice.admits(&slice.page) {
        return Err(misplaced(&pointer, Expect::Slice));
    }
    if let Some((tag, payload)) = slice.page.find(key) {
        match tag {
            Tag::Delete => return Ok(Some(Step::Absent)),
            Tag::Merge if needs_below(payload) => operands.pass(payload),
            tag => return Ok(Some(Step::Found { tag, payload })),
        }
    }
    Ok((ranges && slice.covers(key)).then_some(Step::Absent))
}
