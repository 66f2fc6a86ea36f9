//! Moving what the newest version reaches away from the end of the store, so that it can be given back,
//! and packing leaves that are not full anew.
//!
//! A [`Relocation`] walks the tree in the order of keys and makes, step by step, generations in which
//! no page, slice or extent of an off-tree value lies behind some place. Pages move as they are: same
//! entries, same operations, same sums in their pointers, so that `newest` does not grow and a diff
//! of versions passes by what only moved. Only the birth in their headers changes, and the 48 bytes
//! that name a value which moved too. One that packs moves nothing else: neighbouring leaves for
//! which nothing is pending are written anew where that makes them fewer.
//!
//! Every step is a flush without operations: what it makes is published in the same way, and a step
//! that fails leaves nothing behind (**I1** holds as it does there). Flushes may come between steps.
//! Since the walk resumes at a key, and children give their keys to neighbours and not away, no page
//! that was there before is passed by.

use std::ops::Range;

use super::expand::{PassingPage, values_in_leaf, values_in_slice};
use super::flush::{Flush, Outcome};
use super::interior::{HAS_OFF_TREE, Interior, NodeParts};
use super::lineage::LostValue;
use super::page::{Kind, Page};
use super::pages::{Expect, Pages, level_of};
use crate::disk::block_on;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Birth, Extent, PagePointer};
use crate::space::Urgency;
use crate::value::{DiskPages, OffTree, ValueReader, ValueWriter, expand};

/// How many bytes of a value count as much as a page.
const PAGE_WORTH_BYTES: u64 = 16 << 10;

/// Where the birth stands in the header of a page.
const BIRTH_AT: Range<usize> = 8..16;

/// Leaves are packed anew where they fill, together, less than this share of themselves.
const FILL: (usize, usize) = (15, 16);

/// How far a relocation has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// Nodes looked at, in memory, on the disk, or just by their pointers. Those on the way to where
    /// a step begins are counted again.
    pub(crate) pages_seen: u64,
    /// Pages written elsewhere, those above a moved one included.
    pub(crate) pages_moved: u64,
    /// Bytes written elsewhere: pages and off-tree values.
    pub(crate) bytes_moved: u64,
}

/// The emptying of the end of the store, or the packing of leaves, as far as one tree is concerned.
///
/// The caller has told the space to avoid what is emptied. What is not in the tree when the walk passes, such
/// as values that only a journal names, is not moved.
#[derive(Debug)]
pub(crate) struct Relocation {
    task: Task,
    /// Where the next step begins; `None` at the end.
    from: Option<Vec<u8>>,
    progress: Progress,
    /// Versions that are kept have what was born in this generation or before: a copy would only be
    /// there in addition.
    kept_through: Birth,
    /// There was no room for so many bytes of a value: none is tried of which as many have to move.
    full_for: u64,
}

/// Values that are not moved.
pub(crate) struct Spared<'s> {
    pub(crate) stays: &'s dyn Fn(&OffTree) -> bool,
    /// Whether a value shares its data with values under other keys: a copy would be there in addition.
    /// Asked of those only that would be moved, as it may read their index.
    pub(crate) is_cloned: &'s dyn Fn(&OffTree) -> Result<bool>,
}

impl Spared<'_> {
    /// No value is.
    pub(crate) const NOTHING: Self = Self {
        stays: &|_| false,
        is_cloned: &|_| Ok(false),
    };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Task {
    Empty(Address),
    Pack,
}

impl Task {
    fn concerns(self, address: Address) -> bool {
        matches!(self, Self::Empty(from) if from <= address)
    }
}

/// Whether an extent of a value stays where it is.
fn stays(task: Task, kept_through: Birth, extent: Extent, birth: Birth) -> bool {
    !task.concerns(extent.address) || birth <= kept_through
}

impl Relocation {
    /// Moves what lies at or behind a place.
    pub(crate) fn emptying(from: Address) -> Self {
        Self::new(Task::Empty(from))
    }

    /// Packs leaves.
    pub(crate) fn packing() -> Self {
        Self::new(Task::Pack)
    }

    fn new(task: Task) -> Self {
        Self {
            task,
            from: Some(Vec::new()),
            progress: Progress::default(),
            kept_through: Birth(0),
            full_for: u64::MAX,
        }
    }

    /// Leaves what was born in a generation or before where it is, from now on.
    pub(crate) fn spare(&mut self, kept_through: Birth) {
        self.kept_through = kept_through;
    }

    /// Whether the walk came to the end of the tree.
    pub(crate) fn is_finished(&self) -> bool {
        self.from.is_none()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// Goes on from where the step before ended, in the tree of the newest root, until about
    /// `pages_max` pages were read or copied; at least to the next leaf or value. `None`: nothing had
    /// to move, no generation came of it.
    ///
    /// Values that are `spared` are not moved.
    ///
    /// On failure the tree and the relocation are as before. `StorageFull` if there is no room
    /// before the place from which on the store is emptied.
    pub(crate) fn step(
        &mut self,
        pages: &Pages,
        root: &PagePointer,
        birth: Birth,
        urgency: Urgency,
        pages_max: usize,
        spared: &Spared<'_>,
    ) -> Result<Option<Outcome>> {
        let Some(from) = &self.from else {
            return Ok(None);
        };
        if root.is_nothing() || root.birth <= self.kept_through {
            self.from = None;
            return Ok(None);
        }
        let mut walk = Walk {
            flush: Flush::new(pages, birth, urgency),
            task: self.task,
            spared,
            kept_through: self.kept_through,
            from,
            costs_max: pages_max as u64,
            costs: 0,
            got_further: false,
            progress: self.progress,
            full_for: self.full_for,
            resume: None,
        };
        let visited = walk.visit(root, Expect::Root, &[]);
        let (progress, resume, full_for) = (walk.progress, walk.resume, walk.full_for);
        let outcome = walk.flush.conclude(visited)?;
        self.progress = progress;
        self.full_for = full_for;
        self.from = resume;
        Ok((outcome.root != *root).then_some(outcome))
    }
}

/// One step.
struct Walk<'r, 'e> {
    flush: Flush<'e>,
    task: Task,
    spared: &'r Spared<'r>,
    kept_through: Birth,
    from: &'r [u8],
    costs_max: u64,
    /// In pages read or written.
    costs: u64,
    /// A leaf was passed, or something was moved: the next step will not find it again.
    got_further: bool,
    progress: Progress,
    full_for: u64,
    /// The step is over, and the next one begins here.
    resume: Option<Vec<u8>>,
}

impl Walk<'_, '_> {
    fn is_inside(&self, address: Address) -> bool {
        self.task.concerns(address)
    }

    /// Whether the step ends before something in a node with this lower bound.
    fn ends_before(&mut self, low: &[u8]) -> bool {
        if self.resume.is_none() && self.got_further && self.costs >= self.costs_max {
            self.resume = Some(low.max(self.from).to_vec());
        }
        self.resume.is_some()
    }

    fn load(&mut self, pointer: &PagePointer, expect: Expect) -> Result<PassingPage> {
        self.costs += 1;
        block_on(PassingPage::load(self.flush.pages, pointer, expect))
    }

    /// Moves what has to be moved in and below a node: the pointer that takes its pointer's place.
    fn visit(&mut self, pointer: &PagePointer, expect: Expect, low: &[u8]) -> Result<PagePointer> {
        self.progress.pages_seen += 1;
        let page = self.load(pointer, expect)?;
        match Page::new(page.bytes()).kind_is(Kind::Leaf) {
            true => self.visit_leaf(pointer, &page, low),
            false => self.visit_interior(pointer, &page, low),
        }
    }

    fn visit_leaf(
        &mut self,
        pointer: &PagePointer,
        page: &PassingPage,
        low: &[u8],
    ) -> Result<PagePointer> {
        let places = values_in_leaf(&Page::new(page.bytes()));
        let moved = self.move_with_values(pointer, page.bytes(), places, low)?;
        self.got_further |= self.resume.is_none();
        Ok(moved.unwrap_or(*pointer))
    }

    fn visit_interior(
        &mut self,
        pointer: &PagePointer,
        page: &PassingPage,
        low: &[u8],
    ) -> Result<PagePointer> {
        let node = Interior::new(page.bytes());
        let mut parts = NodeParts::of(&node, low);
        let mut changed = self.is_inside(pointer.address);
        // On the way to where the step begins too: flushes may have joined nodes since.
        changed |= self.visit_slices(&node, &mut parts, low)?;
        let level = node.page.level();
        let first = node.child_of(self.from);
        if self.task == Task::Pack && level == 1 {
            if !self.ends_before(&parts.children[first].low) {
                changed |= self.pack_leaves(&mut parts, first)?;
                self.got_further = true;
            }
            return self.replace_interior(pointer, &parts, level, changed);
        }
        for child in first..node.children() {
            let (child_low, old) = (&parts.children[child].low, node.pointer(child));
            if self.ends_before(child_low) {
                break;
            }
            let stays = level == 1 && old.off_tree_bytes == 0 && !self.is_inside(old.address);
            if stays || old.birth <= self.kept_through {
                self.progress.pages_seen += 1;
                self.got_further = true;
                continue;
            }
            let new = self.visit(&old, Expect::Level(level - 1), child_low)?;
            changed |= new != old;
            parts.children[child].pointer = new;
        }
        self.replace_interior(pointer, &parts, level, changed)
    }

    fn replace_interior(
        &mut self,
        pointer: &PagePointer,
        parts: &NodeParts,
        level: u8,
        changed: bool,
    ) -> Result<PagePointer> {
        if !changed {
            return Ok(*pointer);
        }
        let bytes = parts.encode(level, self.flush.birth)?;
        let slices: usize = parts.runs.iter().map(|run| run.slices.len()).sum();
        let summary = PagePointer {
            newest: pointer.newest,
            ..parts.summary()
        };
        self.replace(pointer, bytes, summary, parts.children.len() + slices)
    }

    /// Writes the leaves of a node anew, from one on, if that makes them fewer; says whether it does.
    fn pack_leaves(&mut self, parts: &mut NodeParts, first: usize) -> Result<bool> {
        let count = parts.children.len() - first;
        self.progress.pages_seen += count as u64;
        // What is pending names children by their numbers. Seldom: everything was pushed down before.
        if !parts.runs.is_empty() {
            return Ok(false);
        }
        let kept_through = self.kept_through;
        let mut children = parts.children[first..].iter();
        if children.any(|child| child.pointer.birth <= kept_through) {
            return Ok(false);
        }
        let settings = &self.flush.pages.settings;
        let (page_bytes, slots_max) = (
            settings.page_bytes as usize,
            usize::from(settings.leaf_slots_max),
        );
        let is_full = |pointer: &PagePointer| {
            pointer.length as usize * FILL.1 >= page_bytes * FILL.0
                || pointer.entries as usize * FILL.1 >= slots_max * FILL.0
        };
        let mut range = first..parts.children.len();
        let full = |child: usize| is_full(&parts.children[child].pointer);
        while !range.is_empty() && full(range.start) {
            range.start += 1;
        }
        while !range.is_empty() && full(range.end - 1) {
            range.end -= 1;
        }
        let leaves = &parts.children[range.clone()];
        let bytes: usize = leaves.iter().map(|leaf| leaf.pointer.length as usize).sum();
        let entries: usize = leaves
            .iter()
            .map(|leaf| leaf.pointer.entries as usize)
            .sum();
        let needed = bytes.div_ceil(page_bytes).max(entries.div_ceil(slots_max));
        if leaves.len() < 2 || needed * FILL.1 > leaves.len() * FILL.0 {
            return Ok(false);
        }
        let mut pages = Vec::with_capacity(leaves.len());
        let pointers: Vec<_> = leaves.iter().map(|leaf| leaf.pointer).collect();
        for pointer in &pointers {
            pages.push(self.load(pointer, Expect::Level(0))?);
        }
        let views: Vec<_> = pages.iter().map(|page| Page::new(page.bytes())).collect();
        let low = &leaves[0].low;
        let packed = self.flush.join_leaves(&pointers, &views, low)?;
        for leaf in &packed {
            let length = u64::from(leaf.pointer.length);
            self.costs += 1;
            self.progress.pages_moved += 1;
            self.progress.bytes_moved += length;
        }
        parts.children.splice(range, packed);
        Ok(true)
    }

    /// Moves slices, and values that they hold for children; says whether any was moved.
    fn visit_slices(
        &mut self,
        node: &Interior<'_>,
        parts: &mut NodeParts,
        low: &[u8],
    ) -> Result<bool> {
        let mut changed = false;
        for (run, run_parts) in node.runs().zip(&mut parts.runs) {
            for (index, slice_parts) in run_parts.slices.iter_mut().enumerate() {
                let entry = run.slice(index);
                let pointer = entry.pointer();
                let has_values = entry.flags() & HAS_OFF_TREE != 0;
                let stays = !self.is_inside(pointer.address) || pointer.birth <= self.kept_through;
                if !has_values && stays {
                    continue;
                }
                if self.ends_before(low) {
                    return Ok(changed);
                }
                let page = self.load(&pointer, Expect::Slice)?;
                let places = match has_values {
                    true => values_in_slice(node, &run, &entry, &Page::new(page.bytes())),
                    false => Vec::new(),
                };
                if let Some(moved) = self.move_with_values(&pointer, page.bytes(), places, low)? {
                    slice_parts.pointer = moved;
                    self.got_further = true;
                    changed = true;
                }
            }
        }
        Ok(changed)
    }

    /// Moves a leaf or slice, if it lies behind the place or names a value that does.
    fn move_with_values(
        &mut self,
        pointer: &PagePointer,
        bytes: &[u8],
        places: Vec<Range<usize>>,
        low: &[u8],
    ) -> Result<Option<PagePointer>> {
        let mut moved = Vec::new();
        for place in places {
            if self.ends_before(low) {
                break;
            }
            let payload = &bytes[place.clone()];
            if let Some(copy) = self.move_value(payload)? {
                moved.push((place, copy));
            }
        }
        let stays = !self.is_inside(pointer.address) || pointer.birth <= self.kept_through;
        if moved.is_empty() && stays {
            return Ok(None);
        }
        let mut bytes = bytes.to_vec();
        bytes[BIRTH_AT].copy_from_slice(&self.flush.birth.0.to_le_bytes());
        for (place, copy) in moved {
            bytes[place].copy_from_slice(&copy);
        }
        debug_assert_eq!(
            bytes.len(),
            pointer.length as usize,
            "the keys are the same"
        );
        let length = u64::from(pointer.length);
        let summary = PagePointer {
            bytes: pointer.bytes.saturating_sub(length),
            ..*pointer
        };
        self.replace(pointer, bytes, summary, 0).map(Some)
    }

    /// Keeps a page that takes the place of another.
    fn replace(
        &mut self,
        pointer: &PagePointer,
        bytes: Vec<u8>,
        summary: PagePointer,
        hints: usize,
    ) -> Result<PagePointer> {
        let level = level_of(&bytes);
        let length = bytes.len() as u64;
        let new = self.flush.make(bytes, summary, level, hints)?;
        self.check_place(new.extent())?;
        self.flush.drop_page(pointer);
        self.costs += 1;
        self.progress.pages_moved += 1;
        self.progress.bytes_moved += length;
        Ok(new)
    }

    /// What was just allocated must not lie where everything is to be moved away from.
    fn check_place(&self, extent: Extent) -> Result<()> {
        if self.is_inside(extent.address) {
            return Err(Error::new(
                ErrorKind::StorageFull,
                "there is no room before the part of the store that is to be emptied",
            ));
        }
        Ok(())
    }

    /// Makes a value again that has extents behind the place, with these elsewhere: the payload of what
    /// takes its place. What lies before stays, so that no more room is needed than what moves takes.
    fn move_value(&mut self, payload: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = OffTree::from_payload(payload)?;
        if (self.spared.stays)(&value) {
            return Ok(None);
        }
        let bytes = self.bytes_inside(&value)?;
        if bytes == 0 || bytes >= self.full_for || (self.spared.is_cloned)(&value)? {
            return Ok(None);
        }
        let pages = self.flush.pages;
        let birth = self.flush.birth;
        let shape = pages.value_shape_of(&value)?;
        let reader = ValueReader::new(pages.disk.clone(), pages.store, payload)?;
        // Where no run is long enough, several shorter ones take an extent.
        let allocate = |bytes| pages.space.allocate_before_end(bytes);
        let mut writer = ValueWriter::new(pages.disk.clone(), pages.store, birth, shape, allocate);
        let (task, kept_through) = (self.task, self.kept_through);
        let written = block_on(async {
            let shares = writer
                .move_parts(&reader, |extent, birth| {
                    stays(task, kept_through, extent, birth)
                })
                .await?;
            Ok::<_, Error>((writer.finish().await?, shares))
        });
        let (written, shares) = match written {
            Ok(written) => written,
            Err(error) => {
                for extent in writer.abandon().idle {
                    pages.space.abandon(extent)?;
                }
                // What cannot be read here stays where it is, and so does what there is no room for.
                return match error.kind() {
                    ErrorKind::CodecMissing => Ok(None),
                    ErrorKind::StorageFull => {
                        self.full_for = bytes;
                        Ok(None)
                    }
                    _ => Err(error),
                };
            }
        };
        // First of all they are the flush's, which abandons them if this step fails.
        self.flush.values.extend(&written.extents);
        let heir = shares.then_some(written.value);
        if let Some(lost) = LostValue::of(payload, heir) {
            self.flush.drop_lost(lost);
        }
        let lengths = written.extents.iter().map(|it| u64::from(it.length));
        let moved: u64 = lengths.sum();
        self.costs += moved.div_ceil(PAGE_WORTH_BYTES);
        self.progress.bytes_moved += moved;
        self.got_further = true;
        Ok(Some(written.value.to_payload().to_vec()))
    }

    /// How many bytes of a value are to be moved. Reads its index.
    fn bytes_inside(&mut self, value: &OffTree) -> Result<u64> {
        let pages = self.flush.pages;
        let source = DiskPages::new(pages.disk.clone(), pages.store);
        let (task, kept_through) = (self.task, self.kept_through);
        let (mut parts, mut bytes) = (vec![*value], 0);
        while let Some(part) = parts.pop() {
            let root = part.root;
            if part.length > 0 && !stays(task, kept_through, root.extent, root.birth) {
                bytes += u64::from(root.extent.length);
            }
            if part.depth == 0 {
                continue;
            }
            self.costs += 1;
            let children = block_on(expand(&part, &source))?;
            for (extent, birth) in children.extents {
                if !stays(task, kept_through, extent, birth) {
                    bytes += u64::from(extent.length);
                }
            }
            parts.extend(children.values);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
#[path = "relocate_tests.rs"]
mod tests;
