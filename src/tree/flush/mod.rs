//! Flushing: a batch of operations goes into the tree, and a new root comes out.
//!
//! One [`Flush`] makes one generation. It works from the root down: at an interior node, the
//! children with the most pending bytes get what is pending for them, straight on down; what is
//! left becomes a new run of the node's journal. Pages are never changed: new ones are made, in
//! memory, and the old ones are *dropped*, to be reused when no kept version reaches them. Nothing
//! is written to the disk here, and a flush that fails leaves nothing behind.
//!
//! Invariant kept: `newest` in a pointer is at or above every sequence whose operation changed
//! something in the keys below, deletions included, so that a diff may pass by what is older than
//! both versions; and it is no more than the leaves and slices below say, so that the diff finds them.
//! Where nothing is left of a node, the leaf that gets its keys gets its `newest` with them.

mod choose;
mod runs;

pub(in crate::tree) use runs::slice_flags;
pub(crate) use runs::slice_operations;

use std::collections::HashMap;

use crate::cache::{Handle, Install};
use crate::error::{Error, Result};
use crate::format::{Birth, Extent, PagePointer, SequenceNumber, page_checksum};
use crate::space::{Dropped, Owner, Urgency};
use crate::tree::batches::{SliceContents, partition};
use crate::tree::interior::{Child, Interior, NodeParts};
use crate::tree::lineage::LostValue;
use crate::tree::operation::{Batch, lose};
use crate::tree::page::Page;
use crate::tree::pages::{Expect, LEVEL_MAX, Pages};

/// The bytes of an interior node from which it is split, if it has four children or more.
pub(in crate::tree) const INTERIOR_BYTES_MAX: usize = 64 << 10;

/// A page that a flush made, and that is not on the disk yet.
pub(crate) struct NewPage {
    pub(crate) pointer: PagePointer,
    pub(crate) handle: Handle,
}

/// What a flush made and what it dropped, for its caller to publish.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) root: PagePointer,
    pub(crate) pages: Vec<NewPage>,
    pub(crate) dropped: Vec<(Dropped, Birth)>,
    /// Extents of values that outgrew their leaves.
    pub(crate) values: Vec<Extent>,
}

/// One generation being made.
pub(crate) struct Flush<'e> {
    pub(in crate::tree) pages: &'e Pages,
    pub(in crate::tree) birth: Birth,
    /// Push everything that is pending down to the leaves, until so many pages were made.
    settle_pages: usize,
    pub(in crate::tree) urgency: Urgency,
    /// Extents of values that outgrew their leaves.
    pub(in crate::tree) values: Vec<Extent>,
    made: HashMap<u64, NewPage>,
    dropped: Vec<(Dropped, Birth)>,
    /// Values of which others have a part.
    lost: Vec<LostValue>,
    /// The level of the root that operations come from.
    root_level: u8,
}

/// A child while its node is being changed.
struct Working<'a> {
    low: Vec<u8>,
    state: State<'a>,
}

enum State<'a> {
    /// As the node had it: its number there, and what is new for it.
    Kept {
        old: usize,
        pointer: PagePointer,
        new: Batch<'a>,
    },
    /// Made by this flush; nothing is pending for it.
    Made(PagePointer),
    /// Nothing is left of it; the highest sequence that was applied to it.
    Gone(SequenceNumber),
}

impl<'e> Flush<'e> {
    pub(crate) fn new(pages: &'e Pages, birth: Birth, urgency: Urgency) -> Self {
        Self {
            pages,
            birth,
            settle_pages: 0,
            urgency,
            values: Vec::new(),
            made: HashMap::new(),
            dropped: Vec::new(),
            lost: Vec::new(),
            root_level: 0,
        }
    }

    /// Pushes what is pending down to the leaves, until about so many pages were made: flushing so
    /// again and again settles everything.
    pub(crate) fn settling(mut self, pages: usize) -> Self {
        self.settle_pages = pages;
        self
    }

    /// Flushes a batch into the tree of a root. On failure everything is as before.
    pub(crate) fn run(mut self, root: &PagePointer, batch: Batch<'_>) -> Result<Outcome> {
        let applied = self.apply_to_root(root, batch);
        self.conclude(applied)
    }

    /// Ends with a new root, or with an error and everything as before.
    pub(in crate::tree) fn conclude(mut self, root: Result<PagePointer>) -> Result<Outcome> {
        match root.and_then(|root| self.part_lost_values().map(|()| root)) {
            Ok(root) => Ok(Outcome {
                root,
                pages: self.made.into_values().collect(),
                dropped: self.dropped,
                values: self.values,
            }),
            Err(error) => {
                for page in self.made.into_values() {
                    self.pages
                        .frames
                        .forget(page.pointer.address, page.pointer.birth);
                    self.pages.space.abandon(page.pointer.extent())?;
                }
                for extent in self.values {
                    self.pages.space.abandon(extent)?;
                }
                Err(error)
            }
        }
    }

    /// Drops what nobody else has of the values that were lost.
    fn part_lost_values(&mut self) -> Result<()> {
        for lost in std::mem::take(&mut self.lost) {
            self.dropped.extend(lost.parts(self.pages)?);
        }
        Ok(())
    }

    fn apply_to_root(&mut self, root: &PagePointer, batch: Batch<'_>) -> Result<PagePointer> {
        let mut level = 0;
        if !root.is_nothing() {
            let handle = self.pages.load_waiting(root, Expect::Root)?;
            level = Page::new(handle.bytes()).level();
        }
        self.root_level = level;
        let covered = batch
            .deletes
            .iter()
            .any(|delete| delete.covers_all(&[], None));
        let mut nodes = if covered && !root.is_nothing() {
            self.dropped.push((Dropped::Subtree(*root), root.birth));
            level = 0;
            self.apply_to_leaf(&PagePointer::NOTHING, &[], batch)?
        } else {
            self.apply(root, level, &[], None, batch)?
        };
        while nodes.len() > 1 {
            level += 1;
            if level > LEVEL_MAX {
                return Err(Error::corrupt(
                    "the tree is deeper than any disk can make it",
                ));
            }
            nodes = self.emit(
                NodeParts {
                    children: nodes,
                    runs: Vec::new(),
                },
                level,
            )?;
        }
        let Some(only) = nodes.pop() else {
            return Ok(PagePointer::NOTHING);
        };
        self.without_idle_roots(only.pointer)
    }

    /// Replaces a root that has one child and nothing pending by that child.
    fn without_idle_roots(&mut self, mut root: PagePointer) -> Result<PagePointer> {
        loop {
            let handle = self.pages.load_waiting(&root, Expect::Root)?;
            let page = Page::new(handle.bytes());
            if page.level() == 0 {
                if page.slots() == 0 {
                    self.drop_page(&root);
                    return Ok(PagePointer::NOTHING);
                }
                return Ok(root);
            }
            let node = Interior::new(handle.bytes());
            if node.children() > 1 || node.has_runs() {
                return Ok(root);
            }
            self.drop_page(&root);
            root = node.pointer(0);
        }
    }

    /// Keeps a page that was just encoded; `summary` has everything but its place.
    pub(in crate::tree) fn make(
        &mut self,
        bytes: Vec<u8>,
        summary: PagePointer,
        level: u8,
        hints: usize,
    ) -> Result<PagePointer> {
        let length = u32::try_from(bytes.len())
            .map_err(|_| Error::invalid("a page would exceed four GiB"))?;
        let extent = self
            .pages
            .space
            .allocate(length, Owner::Tree, self.urgency)?;
        let pointer = PagePointer {
            address: extent.address,
            length,
            checksum: page_checksum(self.pages.store, extent.address, self.birth, &bytes),
            birth: self.birth,
            bytes: summary.bytes.saturating_add(u64::from(length)),
            ..summary
        };
        debug_assert!(
            crate::tree::pages::check(&pointer, &bytes).is_ok(),
            "a page is made as it is read"
        );
        let install = Install {
            level,
            hints,
            dirty: true,
        };
        let handle = self
            .pages
            .frames
            .install(pointer.address, pointer.birth, bytes, install);
        self.made
            .insert(pointer.address.to_bits(), NewPage { pointer, handle });
        Ok(pointer)
    }

    /// A page is no longer reached from the new root.
    pub(in crate::tree) fn drop_page(&mut self, pointer: &PagePointer) {
        if pointer.birth == self.birth {
            self.made.remove(&pointer.address.to_bits());
            self.pages.frames.forget(pointer.address, pointer.birth);
            if let Err(error) = self.pages.space.abandon(pointer.extent()) {
                debug_assert!(false, "an extent of this flush: {error}");
            }
        } else {
            self.dropped
                .push((Dropped::Extent(pointer.extent()), pointer.birth));
        }
    }

    /// An off-tree value is no longer reached from the new root.
    pub(in crate::tree) fn drop_value(&mut self, payload: &[u8]) {
        if let Some(lost) = LostValue::of(payload, None) {
            self.drop_lost(lost);
        }
    }

    /// The same, of a value of which others may have a part.
    pub(in crate::tree) fn drop_lost(&mut self, lost: LostValue) {
        if lost.is_shared() {
            self.lost.push(lost);
        } else {
            let payload = lost.value.to_payload().to_vec();
            self.dropped
                .push((Dropped::Value(payload), lost.value.root.birth));
        }
    }

    /// Applies a batch to a node: the nodes of the same level that take its place.
    pub(in crate::tree) fn apply(
        &mut self,
        pointer: &PagePointer,
        level: u8,
        low: &[u8],
        end: Option<&[u8]>,
        batch: Batch<'_>,
    ) -> Result<Vec<Child>> {
        if level == 0 {
            return self.apply_to_leaf(pointer, low, batch);
        }
        let handle = self.pages.load_waiting(pointer, Expect::Level(level))?;
        let node = Interior::new(handle.bytes());
        let parts = NodeParts::of(&node, low);
        let lows: Vec<Vec<u8>> = parts
            .children
            .iter()
            .map(|child| child.low.clone())
            .collect();
        let news = partition(&batch, &lows, end);
        let pushed = self.choose(level, &parts, &news, &lows, end);
        if batch.is_empty() && !pushed.contains(&true) {
            return Ok(vec![Child {
                low: low.to_vec(),
                pointer: *pointer,
            }]);
        }
        let mut change = NodeChange {
            level,
            end,
            lows: &lows,
            parts,
        };
        let mut slots = Vec::with_capacity(lows.len());
        for (old, (new, push)) in news.into_iter().zip(pushed).enumerate() {
            let pointer = change.parts.children[old].pointer;
            let low = lows[old].clone();
            if push {
                self.push(&mut change, old, &pointer, new, &mut slots)?;
            } else {
                slots.push(Working {
                    low,
                    state: State::Kept { old, pointer, new },
                });
            }
        }
        self.absorb_gone(&mut change, &mut slots)?;
        self.join_small(&mut change, &mut slots)?;
        let parts = self.reassemble(change, slots)?;
        self.drop_page(pointer);
        self.emit(parts, level)
    }

    /// Pushes to one child what is pending for it; what takes its place is appended to `slots`.
    fn push(
        &mut self,
        change: &mut NodeChange<'_>,
        old: usize,
        pointer: &PagePointer,
        new: Batch<'_>,
        slots: &mut Vec<Working<'_>>,
    ) -> Result<()> {
        let (low, end) = change.bounds(old);
        let contents = self.consume(change, old)?;
        let whole = new.deletes.iter().any(|delete| delete.covers_all(low, end));
        let mut newest = pointer.newest.max(new.newest());
        let children = if whole {
            for contents in &contents {
                for operation in contents.batch(low, end).points {
                    lose(operation.tag, &operation.payload, &mut |payload| {
                        self.drop_value(payload)
                    });
                }
            }
            self.dropped
                .push((Dropped::Subtree(*pointer), pointer.birth));
            let leaves = self.apply_to_leaf(&PagePointer::NOTHING, low, new)?;
            self.raise(leaves, change.level - 1)?
        } else {
            let operators = &self.pages.operators;
            let mut lost = Vec::new();
            let mut batch = Batch::default();
            for contents in &contents {
                let newer = contents.batch(low, end);
                batch = batch.then(newer, operators, &mut |value| lost.push(value));
            }
            batch = batch.then(new, operators, &mut |value| lost.push(value));
            for value in lost {
                self.drop_lost(value);
            }
            newest = newest.max(batch.newest());
            self.apply(pointer, change.level - 1, low, end, batch)?
        };
        if children.is_empty() {
            slots.push(Working {
                low: low.to_vec(),
                state: State::Gone(newest),
            });
        }
        for (index, child) in children.into_iter().enumerate() {
            let low = if index == 0 { low.to_vec() } else { child.low };
            slots.push(Working {
                low,
                state: State::Made(child.pointer),
            });
        }
        Ok(())
    }

    /// Takes what is pending for a child out of the node's runs: the slices that hold it, oldest
    /// first.
    fn consume(&self, change: &mut NodeChange<'_>, old: usize) -> Result<Vec<SliceContents>> {
        let mut contents = Vec::new();
        let (low, end) = change.bounds(old);
        for run in change.parts.runs.iter_mut().rev() {
            if run.pending[old] == 0 {
                continue;
            }
            let slice = run
                .slices
                .iter()
                .find(|slice| slice.first_child <= old && old <= slice.last_child)
                .ok_or_else(|| Error::corrupt("a run without the slice of a child"))?;
            let read = SliceContents::load(self.pages, &slice.pointer, low, end)?;
            run.pending[old] = 0;
            let operations = read.operations(low, end) as u32;
            run.live_operations = run.live_operations.saturating_sub(operations);
            contents.push(read);
        }
        Ok(contents)
    }

    /// Makes interior nodes of one child above leaves, up to a level.
    fn raise(&mut self, mut nodes: Vec<Child>, level: u8) -> Result<Vec<Child>> {
        for level in 1..=level {
            if nodes.is_empty() {
                break;
            }
            let low = nodes[0].low.clone();
            nodes = self.emit(
                NodeParts {
                    children: nodes,
                    runs: Vec::new(),
                },
                level,
            )?;
            nodes[0].low = low;
        }
        Ok(nodes)
    }

    /// Lets a neighbour have the keys of children of which nothing is left. What is pending for the
    /// neighbour is pushed first: its bounds are about to change.
    fn absorb_gone(
        &mut self,
        change: &mut NodeChange<'_>,
        slots: &mut Vec<Working<'_>>,
    ) -> Result<()> {
        let is_gone = |slot: &Working<'_>| match &slot.state {
            State::Gone(newest) => Some(*newest),
            _ => None,
        };
        while let Some((gone, newest)) = slots
            .iter()
            .enumerate()
            .find_map(|(at, slot)| Some((at, is_gone(slot)?)))
        {
            if slots.len() == 1 {
                slots.clear();
                return Ok(());
            }
            let neighbour = if gone > 0 { gone - 1 } else { 1 };
            if self.settle_slot(change, slots, neighbour)? {
                continue;
            }
            match &mut slots[neighbour].state {
                State::Kept { pointer, .. } | State::Made(pointer) => {
                    let level = change.level - 1;
                    *pointer = self.with_newest(pointer, level, gone > 0, newest)?;
                }
                State::Gone(other) => *other = newest.max(*other),
            }
            if gone == 0 {
                slots[1].low = std::mem::take(&mut slots[0].low);
            }
            slots.remove(gone);
        }
        Ok(())
    }

    /// A node whose last leaf, or first one, gets keys to which a sequence was applied.
    fn with_newest(
        &mut self,
        pointer: &PagePointer,
        level: u8,
        last: bool,
        newest: SequenceNumber,
    ) -> Result<PagePointer> {
        if level == 0 {
            let newest = newest.max(pointer.newest);
            return Ok(PagePointer { newest, ..*pointer });
        }
        let handle = self.pages.load_waiting(pointer, Expect::Level(level))?;
        let mut parts = NodeParts::of(&Interior::new(handle.bytes()), &[]);
        let edge = match last {
            true => parts.children.len() - 1,
            false => 0,
        };
        let child = &mut parts.children[edge].pointer;
        *child = self.with_newest(child, level - 1, last, newest)?;
        let slices: usize = parts.runs.iter().map(|run| run.slices.len()).sum();
        let page = parts.encode(level, self.birth)?;
        let hints = parts.children.len() + slices;
        let made = self.make(page, parts.summary(), level, hints)?;
        self.drop_page(pointer);
        Ok(made)
    }

    /// Pushes what is pending for a child, if anything is; says whether it did.
    fn settle_slot(
        &mut self,
        change: &mut NodeChange<'_>,
        slots: &mut Vec<Working<'_>>,
        index: usize,
    ) -> Result<bool> {
        let State::Kept { old, pointer, new } = &mut slots[index].state else {
            return Ok(false);
        };
        let (old, pointer) = (*old, *pointer);
        if new.is_empty() && change.parts.runs.iter().all(|run| run.pending[old] == 0) {
            return Ok(false);
        }
        let new = std::mem::take(new);
        let mut made = Vec::new();
        self.push(change, old, &pointer, new, &mut made)?;
        // A push keeps the lower bound; the slot's own may have been lowered already.
        if let Some(first) = made.first_mut() {
            first.low = std::mem::take(&mut slots[index].low);
        }
        // The lifetimes of what `push` makes are its caller's: it never makes `Kept`.
        let made = made.into_iter().map(|slot| Working {
            low: slot.low,
            state: match slot.state {
                State::Made(pointer) => State::Made(pointer),
                State::Gone(newest) => State::Gone(newest),
                State::Kept { pointer, .. } => State::Made(pointer),
            },
        });
        slots.splice(index..=index, made);
        Ok(true)
    }

    /// Joins neighbours that are small, where this flush made one of them.
    fn join_small(
        &mut self,
        change: &mut NodeChange<'_>,
        slots: &mut Vec<Working<'_>>,
    ) -> Result<()> {
        let mut index = 0;
        while index + 1 < slots.len() {
            let pointers = [pointer_of(&slots[index]), pointer_of(&slots[index + 1])];
            let made = [index, index + 1].map(|at| matches!(slots[at].state, State::Made(_)));
            let [Some(left), Some(right)] = pointers else {
                self.absorb_gone(change, slots)?;
                index = 0;
                continue;
            };
            if !(made[0] || made[1]) || !self.may_join(change.level - 1, &left, &right)? {
                index += 1;
                continue;
            }
            if self.settle_slot(change, slots, index)?
                || self.settle_slot(change, slots, index + 1)?
            {
                // Look again: what was pending may have changed their sizes.
                continue;
            }
            let low = slots[index].low.clone();
            let joined = self.join(change.level - 1, &left, &right, &low, &slots[index + 1].low)?;
            let made = joined.into_iter().enumerate().map(|(at, child)| Working {
                low: if at == 0 { low.clone() } else { child.low },
                state: State::Made(child.pointer),
            });
            let before = slots.len();
            slots.splice(index..index + 2, made);
            if slots.len() >= before {
                index += 1;
            }
        }
        Ok(())
    }

    fn may_join(&self, level: u8, left: &PagePointer, right: &PagePointer) -> Result<bool> {
        let settings = &self.pages.settings;
        let length = left.length as usize + right.length as usize;
        if level == 0 {
            let slots = left.entries.saturating_add(right.entries);
            return Ok(length * 4 <= settings.page_bytes as usize * 3
                && slots * 4 <= u64::from(settings.leaf_slots_max) * 3);
        }
        let children_max = settings.children_max as usize;
        if length > INTERIOR_BYTES_MAX / 2 || length > children_max * 64 {
            return Ok(false);
        }
        let mut children = 0;
        for pointer in [left, right] {
            let handle = self.pages.load_waiting(pointer, Expect::Level(level))?;
            children += Interior::new(handle.bytes()).children();
        }
        Ok(children * 3 <= children_max * 2)
    }

    fn join(
        &mut self,
        level: u8,
        left: &PagePointer,
        right: &PagePointer,
        low: &[u8],
        right_low: &[u8],
    ) -> Result<Vec<Child>> {
        if level == 0 {
            let handles = [
                self.pages.load_waiting(left, Expect::Level(0))?,
                self.pages.load_waiting(right, Expect::Level(0))?,
            ];
            let views = handles.each_ref().map(|handle| Page::new(handle.bytes()));
            return self.join_leaves(&[*left, *right], &views, low);
        }
        let handles = [
            self.pages.load_waiting(left, Expect::Level(level))?,
            self.pages.load_waiting(right, Expect::Level(level))?,
        ];
        let mut parts = NodeParts::of(&Interior::new(handles[0].bytes()), low);
        let other = NodeParts::of(&Interior::new(handles[1].bytes()), right_low);
        let (here, there) = (parts.children.len(), other.children.len());
        for run in &mut parts.runs {
            run.pending.resize(here + there, 0);
        }
        // Their keys are disjoint, so that it does not matter which runs count as newer.
        for mut run in other.runs {
            run.pending.splice(0..0, std::iter::repeat_n(0, here));
            for slice in &mut run.slices {
                slice.first_child += here;
                slice.last_child += here;
            }
            parts.runs.push(run);
        }
        parts.children.extend(other.children);
        self.drop_page(left);
        self.drop_page(right);
        let lows: Vec<Vec<u8>> = parts
            .children
            .iter()
            .map(|child| child.low.clone())
            .collect();
        self.limit_runs(&mut parts, &lows, None)?;
        self.emit(parts, level)
    }

    /// Puts the node together again: children, old runs as far as they live, the new run.
    fn reassemble(&mut self, change: NodeChange<'_>, slots: Vec<Working<'_>>) -> Result<NodeParts> {
        let mut new_of_old = vec![None; change.parts.children.len()];
        let mut children = Vec::with_capacity(slots.len());
        let mut news = Vec::with_capacity(slots.len());
        for slot in slots {
            let (pointer, new) = match slot.state {
                State::Kept { old, pointer, new } => {
                    new_of_old[old] = Some(children.len());
                    (pointer, new)
                }
                State::Made(pointer) => (pointer, Batch::default()),
                State::Gone(_) => continue,
            };
            if !new.is_empty() {
                news.push((children.len(), new));
            }
            children.push(Child {
                low: slot.low,
                pointer,
            });
        }
        let mut parts = NodeParts {
            children,
            runs: Vec::new(),
        };
        if !news.is_empty() {
            let run = self.build_run(news, parts.children.len())?;
            parts.runs.push(run);
        }
        for run in change.parts.runs {
            if let Some(run) = self.remap(run, &new_of_old, parts.children.len()) {
                parts.runs.push(run);
            }
        }
        let lows: Vec<Vec<u8>> = parts
            .children
            .iter()
            .map(|child| child.low.clone())
            .collect();
        self.limit_runs(&mut parts, &lows, change.end)?;
        Ok(parts)
    }
}

/// A node that is being changed.
struct NodeChange<'n> {
    level: u8,
    end: Option<&'n [u8]>,
    lows: &'n [Vec<u8>],
    parts: NodeParts,
}

impl<'n> NodeChange<'n> {
    /// The bounds that a child had when the node was made.
    fn bounds(&self, old: usize) -> (&'n [u8], Option<&'n [u8]>) {
        (
            &self.lows[old],
            self.lows.get(old + 1).map(Vec::as_slice).or(self.end),
        )
    }
}

fn pointer_of(slot: &Working<'_>) -> Option<PagePointer> {
    match &slot.state {
        State::Kept { pointer, .. } | State::Made(pointer) => Some(*pointer),
        State::Gone(_) => None,
    }
}
