//! What happens between the time something is dropped and the time its sectors are free.
//!
//! 0. *Listed*: a version that is kept by name reaches it, or it belongs to a value that shares extents
//!    with values under other keys. It stays in the durable view until the next checkpoint has found
//!    out, and goes on a list in the system tree ([`kept`](super::kept)) until no such version is left.
//! 1. *Dropped*: it stands on the list of a kept generation ([`Pins`]). An extent is held, that is,
//!    not in the durable view any more. A subtree or value, of which only the root is known, is
//!    *pending*: its extents remain in the durable view, so every checkpoint writes the list of
//!    pending items, lest they leak.
//! 2. *Collected*: nothing pins it. A pending item is handed to the caller for *expansion* into its
//!    parts, which are dropped in its stead.
//! 3. *Guarded*: a root may still name a pending item on its list, although the item has been
//!    expanded since, and opening that root would read its pages again. So what comes out of a
//!    listed item waits until every root that may list it is kept no longer.
//! 4. *Waiting*: the generation that gave birth to the extent is the present one. Its address must
//!    not come up again in the same generation.

use std::collections::BTreeMap;

use super::allocate::Cursor;
use super::face::{Owner, Space};
use super::geometry::Range;
use super::kept::{DESTROYED, Listed};
use super::map::Change;
use super::pins::{Entry, Held, Item, Pins};
use super::segments::Segments;
use crate::error::{Error, Result};
use crate::format::{Birth, Extent, PagePointer};

/// The line of what belongs to no line of the user's tree.
pub(crate) const NO_LINE: u64 = u64::MAX;

/// How many items are freed in one go, while others wait for the lock.
const STEP_ITEMS: usize = 4096;

/// Something that the newest version no longer reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Dropped {
    /// An extent.
    Extent(Extent),
    /// A page with everything below it.
    Subtree(PagePointer),
    /// An off-tree value: the payload of its record.
    Value(Vec<u8>),
}

/// A subtree or value that was dropped and not yet expanded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PendingItem {
    pub(crate) item: Dropped,
    pub(crate) birth: Birth,
    /// The first generation that does not reach it, and its line.
    pub(crate) dropped_at: Birth,
    pub(crate) line: u64,
    /// The first generation that nothing can have been kept of that reaches it.
    pub(crate) free_from: Birth,
}

impl From<PendingItem> for Listed {
    fn from(pending: PendingItem) -> Self {
        Self {
            item: pending.item,
            birth: pending.birth,
            dropped_at: pending.dropped_at,
            line: pending.line,
        }
    }
}

/// A subtree or value that nothing pins at its root. The caller reads the root and calls
/// [`Space::expanded`], or, if it could not, [`Space::expand_later`]. Until then it stays pending.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "an expansion that is forgotten occupies space until the store is opened again"]
pub(crate) struct Expansion {
    number: u64,
    /// What is to be expanded.
    pub(crate) pending: PendingItem,
}

/// What is no longer pinned.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Collected {
    /// Extents that are free now or when the present generation ends, with their births: no page of
    /// that address and birth will be read again.
    pub(crate) freed: Vec<(Extent, Birth)>,
    /// Subtrees and values, for the caller to expand.
    pub(crate) expand: Vec<Expansion>,
}

#[derive(Debug, Default)]
pub(super) struct Recycling {
    pins: Pins,
    pending: BTreeMap<u64, PendingItem>,
    pending_next: u64,
    /// Sectors that are held because they were dropped or abandoned.
    held_sectors: u64,
    /// How often the pending items were listed.
    listings: u64,
    /// Nothing dropped after this generation was ever listed.
    listed_through: Birth,
    /// The durable roots that are kept, and after how many listings each was published.
    roots: Vec<(Birth, u64)>,
    guarded: BTreeMap<u64, Vec<(Birth, Extent)>>,
    waiting: BTreeMap<Birth, Vec<Range>>,
    current: Birth,
    /// No version that is kept by name is of a later generation.
    kept_through: Option<Birth>,
    /// No value that shares extents with values under other keys is of a later generation.
    cloned_through: Option<Birth>,
    /// What such versions may reach, for the next checkpoint to find out and to list.
    listed: Vec<Listed>,
    /// Some of that comes of a version that is being taken apart.
    lists_destroyed: bool,
    /// Some of that is there only because other values may have parts of it.
    lists_cloned: bool,
}

impl Recycling {
    pub(super) fn held_sectors(&self) -> u64 {
        self.held_sectors
    }

    pub(super) fn pending_items(&self) -> usize {
        self.pending.len()
    }

    /// The kept generations, oldest first, each with how often roots keep it.
    pub(super) fn pins(&self) -> Vec<(Held, u64)> {
        let roots = |at| self.roots.iter().filter(|(birth, _)| *birth == at).count();
        let held = self.pins.held();
        held.map(|held| (held, roots(held.generation) as u64))
            .collect()
    }

    /// A held range is free after the present generation.
    pub(super) fn abandon(&mut self, range: Range) {
        self.held_sectors += u64::from(range.sectors);
        self.waiting.entry(self.current).or_default().push(range);
    }

    /// Whether something of the user's tree may have to stay after its version dropped it: the next
    /// checkpoint finds out.
    fn may_stay(&self, item: &Dropped, birth: Birth) -> bool {
        // Of a subtree, only the values that are found in it.
        let is_cloned = Some(birth) <= self.cloned_through && !matches!(item, Dropped::Subtree(_));
        Some(birth) <= self.kept_through || is_cloned
    }

    /// The newest version of a line reaches this no longer; others that are kept may.
    fn drop_of_line(&mut self, segments: &mut Segments, listed: Listed) -> Result<()> {
        if !self.may_stay(&listed.item, listed.birth) {
            let free_from = listed.dropped_at;
            return self.drop_item(segments, listed, free_from);
        }
        if let Dropped::Extent(extent) = listed.item {
            segments.geometry.range(extent)?;
        }
        self.lists_cloned |= Some(listed.birth) > self.kept_through;
        self.lists_destroyed |= listed.dropped_at == DESTROYED;
        self.listed.push(listed);
        Ok(())
    }

    /// Nothing that is kept by name reaches this.
    fn drop_item(
        &mut self,
        segments: &mut Segments,
        dropped: Listed,
        free_from: Birth,
    ) -> Result<()> {
        let Listed {
            item,
            birth,
            dropped_at,
            line,
        } = dropped;
        let (entry, bytes) = match item {
            Dropped::Extent(extent) => {
                let range = segments.geometry.range(extent)?;
                segments.change(range, Change::Hold)?;
                self.held_sectors += u64::from(range.sectors);
                (
                    Entry::Extent(extent),
                    segments.geometry.bytes(range.sectors.into()),
                )
            }
            Dropped::Subtree(pointer) if pointer.is_nothing() => return Ok(()),
            Dropped::Subtree(_) | Dropped::Value(_) => {
                let bytes = match &item {
                    Dropped::Subtree(pointer) => {
                        pointer.bytes.saturating_add(pointer.off_tree_bytes)
                    }
                    Dropped::Extent(_) | Dropped::Value(_) => 0,
                };
                let number = self.pending_next;
                self.pending_next += 1;
                let pending = PendingItem {
                    item,
                    birth,
                    dropped_at,
                    line,
                    free_from,
                };
                self.pending.insert(number, pending);
                (Entry::Pending(number), bytes)
            }
        };
        let item = Item {
            entry,
            dropped_at: free_from,
            guard: (free_from <= self.listed_through).then_some(self.listings),
            bytes,
        };
        self.pins.add(item, birth);
        Ok(())
    }

    /// Whether every root that was published after so many listings is kept no longer. Two roots are
    /// always kept once the first was published: so if none is, the one that lists is yet to come.
    fn is_unlisted(&self, guard: u64) -> bool {
        let oldest = self.roots.iter().map(|(_, listings)| *listings).min();
        oldest.is_some_and(|oldest| guard < oldest)
    }

    /// Frees up to [`STEP_ITEMS`] items. Whether there may be more.
    fn collect_step(&mut self, segments: &mut Segments, out: &mut Collected) -> bool {
        let items = self.pins.take_freed(STEP_ITEMS);
        let more = items.len() == STEP_ITEMS;
        for (birth, item) in items {
            match (item.entry, item.guard) {
                (Entry::Pending(number), _) => {
                    if let Some(pending) = self.pending.get(&number) {
                        let pending = pending.clone();
                        out.expand.push(Expansion { number, pending });
                    }
                }
                (Entry::Extent(extent), Some(guard)) if !self.is_unlisted(guard) => {
                    self.guarded.entry(guard).or_default().push((birth, extent));
                }
                (Entry::Extent(extent), _) => self.free(segments, extent, birth, out),
            }
        }
        if more {
            return true;
        }
        while let Some((&guard, _)) = self.guarded.first_key_value()
            && self.is_unlisted(guard)
            && let Some((_, extents)) = self.guarded.pop_first()
        {
            for (birth, extent) in extents {
                self.free(segments, extent, birth, out);
            }
        }
        false
    }

    fn free(&mut self, segments: &mut Segments, extent: Extent, birth: Birth, out: &mut Collected) {
        out.freed.push((extent, birth));
        let Ok(range) = segments.geometry.range(extent) else {
            return;
        };
        if birth < self.current {
            self.release(segments, range);
        } else {
            self.waiting.entry(birth).or_default().push(range);
        }
    }

    fn release(&mut self, segments: &mut Segments, range: Range) {
        self.held_sectors -= u64::from(range.sectors);
        let freed = segments.change(range, Change::Free);
        debug_assert!(freed.is_ok(), "what was dropped is held: {freed:?}");
    }

    fn set_current(&mut self, segments: &mut Segments, birth: Birth) {
        self.current = self.current.max(birth);
        while let Some((&born, _)) = self.waiting.first_key_value()
            && born < self.current
            && let Some((_, ranges)) = self.waiting.pop_first()
        {
            for range in ranges {
                self.release(segments, range);
            }
        }
    }
}

impl Space {
    /// The generation that extents are allocated for from now on. Called before the first of them
    /// is. What was freed in an earlier generation may be allocated from now on.
    pub(crate) fn set_current(&self, birth: Birth) {
        let inner = &mut *self.lock();
        inner.recycling.set_current(&mut inner.segments, birth);
    }

    /// The generation `dropped_at` does not reach this any more, which was born in `birth`, and no
    /// version that is kept by name does: it was part of the system tree, or belongs to no tree.
    ///
    /// `Corrupt` if an extent does not exist, is not in use, or was dropped before; nothing has
    /// changed then.
    pub(crate) fn drop_item(&self, item: Dropped, birth: Birth, dropped_at: Birth) -> Result<()> {
        let dropped = Listed {
            item,
            birth,
            dropped_at,
            line: NO_LINE,
        };
        self.free_kept(dropped, dropped_at)
    }

    /// The newest version of a line of the user's tree does not reach this any more. Versions that are
    /// kept by name may: then it stays as it is, for [`Self::take_listed`].
    ///
    /// `Corrupt` as [`Self::drop_item`].
    pub(crate) fn drop_of_line(&self, dropped: Listed) -> Result<()> {
        let inner = &mut *self.lock();
        let segments = &mut inner.segments;
        inner.recycling.drop_of_line(segments, dropped)
    }

    /// No version that is kept by name reaches this, as turned out: nor does anything that began to
    /// be read in the generation `free_from` or later.
    pub(crate) fn free_kept(&self, dropped: Listed, free_from: Birth) -> Result<()> {
        let inner = &mut *self.lock();
        let segments = &mut inner.segments;
        inner.recycling.drop_item(segments, dropped, free_from)
    }

    /// Versions that are kept by name are of this generation at most; `None`: there are none.
    pub(crate) fn set_kept_through(&self, generation: Option<Birth>) {
        self.lock().recycling.kept_through = generation;
    }

    /// Values that share extents with values under other keys are of this generation at most; `None`:
    /// there are none.
    pub(crate) fn set_cloned_through(&self, generation: Option<Birth>) {
        self.lock().recycling.cloned_through = generation;
    }

    /// What versions that are kept by name may reach and newer ones do not, to be listed.
    pub(crate) fn take_listed(&self) -> Vec<Listed> {
        let recycling = &mut self.lock().recycling;
        recycling.lists_destroyed = false;
        recycling.lists_cloned = false;
        std::mem::take(&mut recycling.listed)
    }

    /// Gives back what could not be listed now.
    pub(crate) fn put_back_listed(&self, listed: Vec<Listed>) {
        let recycling = &mut self.lock().recycling;
        let destroyed = |listed: &Listed| listed.dropped_at == DESTROYED;
        recycling.lists_destroyed |= listed.iter().any(destroyed);
        let kept_through = recycling.kept_through;
        let only_cloned = |listed: &Listed| Some(listed.birth) > kept_through;
        recycling.lists_cloned |= listed.iter().any(only_cloned);
        recycling.listed.extend(listed);
    }

    /// Whether a version is being taken apart: what of it others have is not known before the end.
    pub(crate) fn is_destroying(&self) -> bool {
        let recycling = &self.lock().recycling;
        let mut pending = recycling.pending.values();
        recycling.lists_destroyed || pending.any(|pending| pending.dropped_at == DESTROYED)
    }

    /// Whether taking a version apart waits for the next checkpoint.
    pub(crate) fn lists_destroyed(&self) -> bool {
        self.lock().recycling.lists_destroyed
    }

    /// Whether the next checkpoint may free what other values may have had parts of.
    pub(crate) fn lists_cloned(&self) -> bool {
        self.lock().recycling.lists_cloned
    }

    /// Whether there is something to be listed.
    pub(crate) fn has_listed(&self) -> bool {
        !self.lock().recycling.listed.is_empty()
    }

    /// Keeps what a generation reaches, until as many calls of [`Self::release`]. To be called while
    /// it is the newest one, or kept already.
    pub(crate) fn keep(&self, at: Birth) {
        self.lock().recycling.pins.keep(at);
    }

    /// Undoes one [`Self::keep`].
    pub(crate) fn release(&self, at: Birth) {
        self.lock().recycling.pins.release(at);
    }

    /// Keeps what a durable root reaches, both its trees and the pending items that it lists: called
    /// when it was published, or chosen when the store was opened.
    pub(crate) fn keep_root(&self, at: Birth) {
        let inner = &mut *self.lock();
        let recycling = &mut inner.recycling;
        recycling.pins.keep(at);
        // What comes next fills the store from its beginning, so that its end falls empty.
        inner.cursors[Owner::Tree as usize] = Cursor::default();
        recycling.listed_through = recycling.listed_through.max(at);
        let listings = recycling.listings;
        recycling.roots.push((at, listings));
    }

    /// Undoes one [`Self::keep_root`]: the root can be chosen no longer.
    pub(crate) fn release_root(&self, at: Birth) {
        let recycling = &mut self.lock().recycling;
        let found = recycling.roots.iter().position(|(birth, _)| *birth == at);
        debug_assert!(found.is_some(), "the root of {at:?} is not kept");
        if let Some(index) = found {
            recycling.roots.remove(index);
            recycling.pins.release(at);
        }
    }

    /// Takes what is no longer pinned. Called by one thread at a time, outside of a checkpoint's
    /// writing of pages.
    pub(crate) fn collect(&self) -> Collected {
        let mut out = Collected::default();
        loop {
            let inner = &mut *self.lock();
            let recycling = &mut inner.recycling;
            if !recycling.collect_step(&mut inner.segments, &mut out) {
                return out;
            }
        }
    }

    /// Puts the parts of an item in its place, each with its birth: what stands directly below its
    /// root, and the extent of the root itself. In one step, so that no checkpoint sees half of it.
    ///
    /// `Corrupt` if one of the extents is not in use; the parts before it are dropped then, and the
    /// item is pending no longer.
    pub(crate) fn expanded(
        &self,
        expansion: Expansion,
        parts: impl IntoIterator<Item = (Dropped, Birth)>,
    ) -> Result<()> {
        let parts: Vec<_> = parts.into_iter().collect();
        let PendingItem {
            dropped_at,
            line,
            free_from,
            ..
        } = expansion.pending;
        let inner = &mut *self.lock();
        let recycling = &mut inner.recycling;
        if recycling.pending.remove(&expansion.number).is_none() {
            return Err(Error::invalid("the item is not pending"));
        }
        for (item, birth) in parts {
            let part = Listed {
                item,
                birth,
                dropped_at,
                line,
            };
            // Older than its root, a part may be kept where the root is not.
            if line != NO_LINE && recycling.may_stay(&part.item, birth) {
                recycling.drop_of_line(&mut inner.segments, part)?;
            } else {
                recycling.drop_item(&mut inner.segments, part, free_from)?;
            }
        }
        Ok(())
    }

    /// Gives an item back that could not be expanded now: a later [`Self::collect`] returns it.
    pub(crate) fn expand_later(&self, expansion: Expansion) {
        let recycling = &mut self.lock().recycling;
        let item = Item {
            entry: Entry::Pending(expansion.number),
            dropped_at: expansion.pending.free_from,
            guard: None,
            bytes: 0,
        };
        recycling.pins.add(item, expansion.pending.birth);
    }

    /// Lists all subtrees and values that were not expanded yet, for the root that is published next
    /// to name: dropping them again after opening it resumes their destruction.
    pub(crate) fn pending_items(&self) -> Vec<PendingItem> {
        let recycling = &mut self.lock().recycling;
        recycling.listings += 1;
        let items: Vec<_> = recycling.pending.values().cloned().collect();
        let newest = items.iter().map(|pending| pending.free_from).max();
        recycling.listed_through = recycling.listed_through.max(newest.unwrap_or_default());
        items
    }
}
