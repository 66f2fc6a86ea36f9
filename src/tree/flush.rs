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

use std::collections::HashMap;

use super::batches::{SliceContents, partition};
use super::interior::{Child, HAS_OFF_TREE, Interior, NodeParts, PENDING_UNIT_BYTES, RunParts};
use super::lineage::{LostValue, has_base};
use super::operation::{Batch, lose};
use super::page::Page;
use super::pages::{Expect, LEVEL_MAX, Pages};
use super::slice::Slice;
use crate::cache::{Handle, Install};
use crate::error::{Error, Result};
use crate::format::{Birth, Extent, PagePointer, SequenceNumber, page_checksum};
use crate::space::{Dropped, Owner, Urgency};

/// The bytes of an interior node from which it is split, if it has four children or more.
pub(super) const INTERIOR_BYTES_MAX: usize = 64 << 10;

/// How many times as much as above leaves may be pending in a node above other nodes, and for one of
/// its children, in trees so high that each gets little at a time: what is pushed makes a node anew
/// there, and that is larger than a leaf. In lower trees readers would meet more for nothing.
const UPPER_SHARE: usize = 4;
/// The level of the root from which on trees are that high.
const HIGH_LEVEL: u8 = 3;

/// About how many bytes an operation takes that may hide an off-tree value.
const HIDING_OPERATION_BYTES: usize = 48;
/// Which share of the values below a node, and how many bytes of them, may be hidden there.
const HIDDEN_SHARE: u64 = 16;
const HIDDEN_BYTES_MIN: u64 = 1 << 20;

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
    pub(super) pages: &'e Pages,
    pub(super) birth: Birth,
    /// Push everything that is pending down to the leaves, until so many pages were made.
    settle_pages: usize,
    pub(super) urgency: Urgency,
    /// Extents of values that outgrew their leaves.
    pub(super) values: Vec<Extent>,
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
    pub(super) fn conclude(mut self, root: Result<PagePointer>) -> Result<Outcome> {
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
    pub(super) fn make(
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
            super::pages::check(&pointer, &bytes).is_ok(),
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
    pub(super) fn drop_page(&mut self, pointer: &PagePointer) {
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
    pub(super) fn drop_value(&mut self, payload: &[u8]) {
        if let Some(lost) = LostValue::of(payload, None) {
            self.drop_lost(lost);
        }
    }

    /// The same, of a value of which others may have a part.
    pub(super) fn drop_lost(&mut self, lost: LostValue) {
        if lost.is_shared() {
            self.lost.push(lost);
        } else {
            let payload = lost.value.to_payload().to_vec();
            self.dropped
                .push((Dropped::Value(payload), lost.value.root.birth));
        }
    }

    /// Applies a batch to a node: the nodes of the same level that take its place.
    pub(super) fn apply(
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

    /// Which children get what is pending for them: the fat ones, and as many of the fattest others
    /// as it takes to keep the journal within its size.
    fn choose(
        &self,
        level: u8,
        parts: &NodeParts,
        news: &[Batch<'_>],
        lows: &[Vec<u8>],
        end: Option<&[u8]>,
    ) -> Vec<bool> {
        let settings = &self.pages.settings;
        let settle = self.made.len() < self.settle_pages;
        let share = match level > 1 && self.root_level >= HIGH_LEVEL {
            true => UPPER_SHARE,
            false => 1,
        };
        let push_bytes = settings.push_bytes as usize * share;
        let journal_bytes_max = settings.journal_bytes_max as usize * share;
        let waiting: Vec<usize> = news
            .iter()
            .enumerate()
            .map(|(child, new)| {
                let units: usize = parts
                    .runs
                    .iter()
                    .map(|run| run.pending[child] as usize)
                    .sum();
                new.bytes() + PENDING_UNIT_BYTES * units
            })
            .collect();
        let mut pushed: Vec<bool> = (0..news.len())
            .map(|child| {
                let new = &news[child];
                let child_end = lows.get(child + 1).map(Vec::as_slice).or(end);
                let idle = waiting[child] == 0;
                let unresolved = parts.children[child].pointer.unresolved > 0;
                let whole = new
                    .deletes
                    .iter()
                    .any(|delete| delete.covers_all(&lows[child], child_end));
                let mut points = new.points.iter();
                let has_base = points.any(|point| has_base(point.tag, &point.payload));
                (settle && (!idle || unresolved))
                    || waiting[child] >= push_bytes
                    || new.operations() > settings.slice_slots_max as usize
                    || whole
                    || has_base
            })
            .collect();
        let left = |pushed: &[bool]| -> usize {
            waiting
                .iter()
                .zip(pushed)
                .filter(|(_, pushed)| !**pushed)
                .map(|(bytes, _)| bytes)
                .sum()
        };
        let mut total = left(&pushed);
        if total > journal_bytes_max {
            let mut order: Vec<usize> =
                (0..waiting.len()).filter(|child| !pushed[*child]).collect();
            order.sort_unstable_by_key(|child| std::cmp::Reverse(waiting[*child]));
            // Down to three quarters, so that not every flush has to push a few.
            for child in order {
                if total * 4 <= journal_bytes_max * 3 {
                    break;
                }
                pushed[child] = waiting[child] > 0;
                total -= waiting[child];
            }
        }
        for child in hiding_values(parts, &waiting) {
            pushed[child] = true;
        }
        pushed
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

    /// A run for the node's new children; slices without a live child are dropped.
    fn remap(
        &mut self,
        run: RunParts,
        new_of_old: &[Option<usize>],
        children: usize,
    ) -> Option<RunParts> {
        let mut pending = vec![0; children];
        for (old, &units) in run
            .pending
            .iter()
            .enumerate()
            .filter(|(_, units)| **units > 0)
        {
            let new = new_of_old[old].expect("children with something pending are kept");
            pending[new] = units;
        }
        let mut slices = Vec::with_capacity(run.slices.len());
        for mut slice in run.slices {
            let live = |old: &usize| run.pending[*old] > 0;
            let first = (slice.first_child..=slice.last_child).find(live);
            let last = (slice.first_child..=slice.last_child).rev().find(live);
            match (
                first.and_then(|old| new_of_old[old]),
                last.and_then(|old| new_of_old[old]),
            ) {
                (Some(first), Some(last)) => {
                    (slice.first_child, slice.last_child) = (first, last);
                    slices.push(slice);
                }
                _ => self.drop_page(&slice.pointer),
            }
        }
        let live_operations = run.live_operations;
        (!slices.is_empty()).then_some(RunParts {
            pending,
            live_operations,
            slices,
        })
    }

    /// Rewrites runs that are more than half dead, and joins all runs when there are too many.
    fn limit_runs(
        &mut self,
        parts: &mut NodeParts,
        lows: &[Vec<u8>],
        end: Option<&[u8]>,
    ) -> Result<()> {
        let too_many = parts.runs.len() > self.pages.settings.runs_max as usize;
        let all: Vec<usize> = (0..parts.runs.len()).collect();
        let groups: Vec<&[usize]> = if too_many {
            vec![&all[..]]
        } else {
            all.iter().map(std::slice::from_ref).collect()
        };
        let mut runs = Vec::new();
        for group in groups {
            let [only] = group else {
                let joined = self.rewrite(&parts.runs, lows, end, 0..lows.len())?;
                for run in &parts.runs {
                    run.slices
                        .iter()
                        .for_each(|slice| self.drop_page(&slice.pointer));
                }
                runs.extend(joined);
                continue;
            };
            let run = &parts.runs[*only];
            let stored: u64 = run.slices.iter().map(|slice| slice.pointer.entries).sum();
            if u64::from(run.live_operations) * 2 >= stored {
                runs.push(run.clone());
                continue;
            }
            let rewritten = self.rewrite(std::slice::from_ref(run), lows, end, 0..lows.len())?;
            run.slices
                .iter()
                .for_each(|slice| self.drop_page(&slice.pointer));
            runs.extend(rewritten);
        }
        parts.runs = runs;
        Ok(())
    }

    /// One run in the place of several (newest first) for some of a node's children. The old slices
    /// are left to the caller.
    pub(super) fn rewrite(
        &mut self,
        runs: &[RunParts],
        lows: &[Vec<u8>],
        end: Option<&[u8]>,
        children: std::ops::Range<usize>,
    ) -> Result<Option<RunParts>> {
        let mut contents = Vec::new();
        for run in runs.iter().rev() {
            let mut slices = Vec::new();
            for slice in &run.slices {
                let all = SliceContents::load(self.pages, &slice.pointer, &[], None)?;
                slices.push((slice, all));
            }
            contents.push((run, slices));
        }
        let mut lost = Vec::new();
        let mut items = Vec::new();
        for child in children.clone() {
            let child_end = lows.get(child + 1).map(Vec::as_slice).or(end);
            let mut batch = Batch::default();
            for (_, slices) in contents.iter().filter(|(run, _)| run.pending[child] > 0) {
                let found = slices
                    .iter()
                    .find(|(slice, _)| slice.first_child <= child && child <= slice.last_child)
                    .ok_or_else(|| Error::corrupt("a run without the slice of a child"))?;
                let newer = found.1.batch(&lows[child], child_end);
                let operators = &self.pages.operators;
                batch = batch.then(newer, operators, &mut |value| lost.push(value));
            }
            if !batch.is_empty() {
                items.push((child - children.start, batch));
            }
        }
        let run = match items.is_empty() {
            true => None,
            false => Some(self.build_run(items, children.len())?),
        };
        for value in lost {
            self.drop_lost(value);
        }
        Ok(run)
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

/// The flags that a slice of a batch has in its node.
pub(super) fn slice_flags(batch: &Batch<'_>) -> u32 {
    let mut flags = 0;
    if !batch.deletes.is_empty() {
        flags |= super::interior::HAS_RANGE_DELETES;
    }
    let mut off_tree = false;
    for operation in &batch.points {
        lose(operation.tag, &operation.payload, &mut |_| off_tree = true);
    }
    if off_tree {
        flags |= HAS_OFF_TREE;
    }
    flags
}

/// Whether a slice holds anything for a child: asked by `verify`.
pub(crate) fn slice_operations(slice: &Slice<'_>, low: &[u8], end: Option<&[u8]>) -> usize {
    let first = slice.page.at_or_after(low);
    let last = end.map_or(slice.page.slots(), |end| slice.page.at_or_after(end));
    let deletes = slice
        .range_deletes()
        .filter(|delete| delete.within(low, end).is_some())
        .count();
    last.saturating_sub(first) + deletes
}
/// Operations that wait may have deleted or replaced off-tree values, which keep their space until the
/// operations come to their leaves. So few that the journal takes no notice may hide gigabytes: the children
/// where most is to be expected, until it is little for this node. What a child has is taken to be spread
/// evenly over its entries.
fn hiding_values(parts: &NodeParts, waiting: &[usize]) -> Vec<usize> {
    let hidden = |child: usize| {
        let pointer = &parts.children[child].pointer;
        let operations = waiting[child].div_ceil(HIDING_OPERATION_BYTES) as u64;
        let each = pointer.off_tree_bytes / pointer.entries.max(1);
        each.saturating_mul(operations).min(pointer.off_tree_bytes)
    };
    let mut hiding: Vec<(u64, usize)> = (0..waiting.len())
        .filter(|child| waiting[*child] > 0)
        .map(|child| (hidden(child), child))
        .filter(|(hidden, _)| *hidden > 0)
        .collect();
    if hiding.is_empty() {
        return Vec::new();
    }
    let children = parts.children.iter();
    let values = children.fold(0u64, |sum, child| {
        sum.saturating_add(child.pointer.off_tree_bytes)
    });
    let most = (values / HIDDEN_SHARE).max(HIDDEN_BYTES_MIN);
    hiding.sort_unstable();
    let mut total = 0u64;
    let mut few = |&(hidden, _): &(u64, usize)| {
        total = total.saturating_add(hidden);
        total <= most
    };
    let spared = hiding.iter().take_while(|hiding| few(hiding)).count();
    hiding[spared..].iter().map(|(_, child)| *child).collect()
}
