//! [`TreeWalk`]: where a tree may have changed after a sequence.
//!
//! It goes down where `newest` says so, and holds the nodes on its way with the slices that have newer
//! operations for the child below which it is. Of a child that has not changed itself, only the newer
//! operations that are pending for it anywhere above are regions. Does no I/O: a page that is not in
//! memory is asked for, and the step is tried again.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::super::cursor::Direction;
use super::super::version::Version;
use super::region::{Region, Window};
use crate::cache::{Frame, FrameHint, Guard, Handle, pin};
use crate::error::{Error, Result};
use crate::format::{PagePointer, SequenceNumber};
use crate::tree::interior::{Interior, Run};
use crate::tree::page::Page;
use crate::tree::pages::{Expect, Pages};
use crate::tree::slice::Slice;

/// How a step ended.
pub(super) enum Walked {
    /// There are more regions.
    Found,
    End,
    Need(PagePointer, Expect),
}

/// A walk over a tree in one direction.
pub(super) struct TreeWalk {
    since: SequenceNumber,
    direction: Direction,
    began: bool,
    /// From the root down.
    way: Vec<Level>,
}

/// The slice of a run with newer operations for some child.
struct Newer {
    run: usize,
    slice: usize,
    page: Handle,
}

/// A node on the way.
struct Level {
    node: Handle,
    low: Vec<u8>,
    end: Option<Vec<u8>>,
    /// Going forward, the next child; going backward, the children still before it.
    at: usize,
    /// The runs that have newer operations.
    runs: SmallVec<[usize; 8]>,
    /// Of the child below which the walk is, or was last.
    slices: SmallVec<[Newer; 4]>,
}

/// Where a page is found, or that it is not.
enum Lookup<'g> {
    Here(&'g Frame),
    Need(PagePointer, Expect),
}

fn look_up<'g>(
    pages: &Pages,
    pointer: PagePointer,
    expect: Expect,
    hint: &FrameHint,
    guard: &'g Guard,
) -> Result<Lookup<'g>> {
    let frames = &pages.frames;
    let Some(frame) = frames.lookup(pointer.address, pointer.birth, hint, guard) else {
        return Ok(Lookup::Need(pointer, expect));
    };
    if !expect.admits(&Page::new(frame.bytes())) {
        return Err(Error::corrupt_at(
            pointer.extent(),
            format!("a page is not what its pointer promises: {expect:?}"),
        ));
    }
    Ok(Lookup::Here(frame))
}

impl TreeWalk {
    pub(super) fn new(since: SequenceNumber, direction: Direction) -> Self {
        Self {
            since,
            direction,
            began: false,
            way: Vec::new(),
        }
    }

    /// Goes on to where the tree may have changed next within a window, and adds regions.
    pub(super) fn step(
        &mut self,
        version: &Version,
        window: &Window,
        found: &mut VecDeque<Region>,
    ) -> Result<Walked> {
        let guard = pin();
        if !self.began {
            match self.begin(version, found, &guard)? {
                Walked::Found if found.is_empty() => {}
                walked => return Ok(walked),
            }
        }
        loop {
            let Some(level) = self.way.last() else {
                return Ok(Walked::End);
            };
            if window.has_some(&level.low, level.end.as_deref())
                && let Some(walked) = self.step_in_node(version.pages(), window, found, &guard)?
            {
                match walked {
                    Walked::Found if found.is_empty() => {}
                    walked => return Ok(walked),
                }
                continue;
            }
            self.way.pop();
        }
    }

    /// Goes to the root. `Found` without a region: there is something below it.
    fn begin(
        &mut self,
        version: &Version,
        found: &mut VecDeque<Region>,
        guard: &Guard,
    ) -> Result<Walked> {
        let root = version.root;
        let whole = Region::Span(Vec::new(), None);
        if root.is_nothing() && version.tree_through > self.since {
            // Nothing is left to say what was deleted.
            self.began = true;
            found.push_back(whole);
            return Ok(Walked::Found);
        }
        if root.is_nothing() || root.newest <= self.since {
            self.began = true;
            return Ok(Walked::End);
        }
        let hint = &version.root_hint;
        let frame = match look_up(version.pages(), root, Expect::Root, hint, guard)? {
            Lookup::Here(frame) => frame,
            Lookup::Need(pointer, expect) => return Ok(Walked::Need(pointer, expect)),
        };
        self.began = true;
        match Page::new(frame.bytes()).level() {
            0 => found.push_back(whole),
            _ => self.enter(frame.handle(guard), Vec::new(), None),
        }
        Ok(Walked::Found)
    }

    fn enter(&mut self, node: Handle, low: Vec<u8>, end: Option<Vec<u8>>) {
        let view = Interior::new(node.bytes());
        let at = match self.direction {
            Direction::Forward => 0,
            Direction::Backward => view.children(),
        };
        let is_newer = |run: &Run<'_>| {
            (0..run.slices).any(|slice| run.slice(slice).pointer().newest > self.since)
        };
        let runs = view.runs().enumerate().filter(|(_, run)| is_newer(run));
        let runs = runs.map(|(number, _)| number).collect();
        self.way.push(Level {
            node,
            low,
            end,
            at,
            runs,
            slices: SmallVec::new(),
        });
    }

    /// Goes on among the children of the last node of the way. `None`: it has no more; `Found` without
    /// a region: the way has become longer.
    fn step_in_node(
        &mut self,
        pages: &Pages,
        window: &Window,
        found: &mut VecDeque<Region>,
        guard: &Guard,
    ) -> Result<Option<Walked>> {
        let (since, direction) = (self.since, self.direction);
        let Some((level, above)) = self.way.split_last_mut() else {
            return Ok(None);
        };
        let page = level.node.clone();
        let node = Interior::new(page.bytes());
        let newer = |(number, _): &(usize, Run<'_>)| level.runs.contains(number);
        let runs: SmallVec<[(usize, Run<'_>); 8]> = match level.runs.is_empty() {
            true => SmallVec::new(),
            false => node.runs().enumerate().filter(newer).collect(),
        };
        let pending_above = above.iter().any(|level| !level.slices.is_empty());
        let pending = |child: usize| runs.iter().any(|(_, run)| run.pending_units(child) > 0);
        let changed = |child: usize| node.pointer(child).newest > since;
        while let Some(child) = level.next_child(&node, window, direction) {
            if !changed(child) && !pending(child) {
                let last = level.pass(child, direction, |child| {
                    level_has(&node, window, child, direction) && !changed(child) && !pending(child)
                });
                if pending_above {
                    let (first, last) = (child.min(last), child.max(last));
                    let (low, end) = (level.low_of(&node, first), level.end_of(&node, last));
                    let slices = above.iter().flat_map(|level| &level.slices);
                    gather(slices, since, (&low, end.as_deref()), direction, found);
                    if !found.is_empty() {
                        return Ok(Some(Walked::Found));
                    }
                }
                continue;
            }
            let mut slices = SmallVec::new();
            for (number, run) in &runs {
                let entry = match run.pending_units(child) {
                    0 => None,
                    _ => run.slice_of(child),
                };
                let Some((index, entry)) = entry else {
                    continue;
                };
                if entry.pointer().newest <= since {
                    continue;
                }
                let known = |newer: &&Newer| (newer.run, newer.slice) == (*number, index);
                let page = match level.slices.iter().find(known) {
                    Some(newer) => newer.page.clone(),
                    None => {
                        let hint = page.hint(node.children() + run.slices_before + index);
                        match look_up(pages, entry.pointer(), Expect::Slice, hint, guard)? {
                            Lookup::Here(frame) => frame.handle(guard),
                            Lookup::Need(pointer, expect) => {
                                return Ok(Some(Walked::Need(pointer, expect)));
                            }
                        }
                    }
                };
                slices.push(Newer {
                    run: *number,
                    slice: index,
                    page,
                });
            }
            let (low, end) = (level.low_of(&node, child), level.end_of(&node, child));
            if !changed(child) {
                level.slices = slices;
                level.pass(child, direction, |_| false);
                let own = level.slices.iter();
                let slices = own.chain(above.iter().flat_map(|level| &level.slices));
                gather(slices, since, (&low, end.as_deref()), direction, found);
                if !found.is_empty() {
                    return Ok(Some(Walked::Found));
                }
                continue;
            }
            let below = node.page.level() - 1;
            if below == 0 {
                level.slices = slices;
                level.pass(child, direction, |_| false);
                found.push_back(Region::Span(low, end));
                return Ok(Some(Walked::Found));
            }
            let expect = Expect::Level(below);
            let below = match look_up(pages, node.pointer(child), expect, page.hint(child), guard)?
            {
                Lookup::Here(frame) => frame.handle(guard),
                Lookup::Need(pointer, expect) => return Ok(Some(Walked::Need(pointer, expect))),
            };
            level.slices = slices;
            level.pass(child, direction, |_| false);
            self.enter(below, low, end);
            return Ok(Some(Walked::Found));
        }
        Ok(None)
    }
}

/// Whether a child has keys of a window that a walk in a direction comes to.
fn level_has(node: &Interior<'_>, window: &Window, child: usize, direction: Direction) -> bool {
    match (direction, window.end.as_deref()) {
        (Direction::Forward, None) => true,
        (Direction::Forward, Some(end)) => child <= node.child_before(end),
        (Direction::Backward, _) => child >= node.child_of(&window.low),
    }
}

impl Level {
    /// The next child that has keys of a window.
    fn next_child(
        &mut self,
        node: &Interior<'_>,
        window: &Window,
        direction: Direction,
    ) -> Option<usize> {
        let child = match direction {
            Direction::Forward => {
                self.at = self.at.max(node.child_of(&window.low));
                self.at
            }
            Direction::Backward => {
                if let Some(end) = &window.end {
                    self.at = self.at.min(node.child_before(end) + 1);
                }
                self.at.checked_sub(1)?
            }
        };
        (child < node.children() && level_has(node, window, child, direction)).then_some(child)
    }

    /// Passes by a child, and by those after it as long as a function says so; gives the last of them.
    fn pass(
        &mut self,
        child: usize,
        direction: Direction,
        mut also: impl FnMut(usize) -> bool,
    ) -> usize {
        let children = Interior::new(self.node.bytes()).children();
        let mut last = child;
        loop {
            let next = match direction {
                Direction::Forward => (last + 1 < children).then_some(last + 1),
                Direction::Backward => last.checked_sub(1),
            };
            match next {
                Some(next) if also(next) => last = next,
                _ => break,
            }
        }
        self.at = match direction {
            Direction::Forward => last + 1,
            Direction::Backward => last,
        };
        last
    }

    fn low_of(&self, node: &Interior<'_>, child: usize) -> Vec<u8> {
        match child {
            0 => self.low.clone(),
            _ => node.page.key(child - 1),
        }
    }

    fn end_of(&self, node: &Interior<'_>, child: usize) -> Option<Vec<u8>> {
        match child + 1 < node.children() {
            true => Some(node.page.key(child)),
            false => self.end.clone(),
        }
    }
}

/// Adds what slices have for some keys that is newer than a sequence.
fn gather<'s>(
    slices: impl Iterator<Item = &'s Newer>,
    since: SequenceNumber,
    (low, end): (&[u8], Option<&[u8]>),
    direction: Direction,
    found: &mut VecDeque<Region>,
) {
    let mut regions = Vec::new();
    for newer in slices {
        let slice = Slice::new(newer.page.bytes());
        let page = slice.page;
        let last = end.map_or(page.slots(), |end| page.at_or_after(end));
        for index in page.at_or_after(low)..last {
            if page.sequence(&page.slot(index)) > since {
                regions.push(Region::Key(page.key(index)));
            }
        }
        let deletes = slice.range_deletes().filter(|it| it.sequence > since);
        regions.extend(deletes.filter_map(|delete| {
            let within = delete.within(low, end)?;
            Some(Region::Span(
                within.low.to_vec(),
                within.end.map(<[u8]>::to_vec),
            ))
        }));
    }
    regions.sort_unstable_by(|a, b| a.compare(b, direction));
    regions.dedup();
    found.extend(regions);
}
