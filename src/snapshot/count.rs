//! Exact counts, and the entry at a rank.
//!
//! Pointers know how many entries are settled below them. What is pending changes that by as much as
//! each operation does to what stands below it, so a count descends only where something is
//! unresolved, and a node whose count was found out remembers it in its frame.
//!
//! The count of some keys under a layer of operations is: the count, without the layer, of what its
//! deleted ranges leave over, and for each point operation plus one if the key is there after it,
//! less one if it was there, outside the deleted ranges, before it. Layers are taken newest first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::version::{Layer, Version};
use crate::cache::Handle;
use crate::error::Result;
use crate::format::PagePointer;
use crate::tree::interior::Interior;
use crate::tree::page::Page;
use crate::tree::pages::{Expect, Pages};
use crate::tree::slice::Slice;

/// A range of keys: from the first on, below the second.
pub(crate) type Keys<'k> = (&'k [u8], Option<&'k [u8]>);

type Counted<'a> = Pin<Box<dyn Future<Output = Result<u64>> + Send + 'a>>;
type Present<'a> = Pin<Box<dyn Future<Output = Result<bool>> + Send + 'a>>;

const UNKNOWN: u64 = u64::MAX;

fn cut<'k>(a: Keys<'k>, b: Keys<'k>) -> Option<Keys<'k>> {
    let low = a.0.max(b.0);
    let end = match (a.1, b.1) {
        (None, end) | (end, None) => end,
        (Some(a), Some(b)) => Some(a.min(b)),
    };
    end.is_none_or(|end| low < end).then_some((low, end))
}

/// What of a range some ascending, disjoint ranges leave over.
fn gaps<'k>(range: Keys<'k>, taken: &'k [(Vec<u8>, Option<Vec<u8>>)]) -> Vec<Keys<'k>> {
    let mut gaps = Vec::with_capacity(taken.len() + 1);
    let mut low = Some(range.0);
    for (from, end) in taken {
        if let Some(low) = low
            && low < from.as_slice()
        {
            gaps.push((low, Some(from.as_slice())));
        }
        low = end.as_deref();
    }
    if let Some(low) = low
        && range.1.is_none_or(|end| low < end)
    {
        gaps.push((low, range.1));
    }
    gaps
}

/// Operations of one layer within a range, made whole: range deletes that are disjoint, then point
/// operations with whether the key is there after them.
#[derive(Default)]
struct Effects {
    deletes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    points: Vec<(Vec<u8>, bool)>,
}

impl Effects {
    fn covers(&self, key: &[u8]) -> bool {
        self.deletes
            .iter()
            .any(|(low, end)| low.as_slice() <= key && end.as_deref().is_none_or(|end| key < end))
    }

    fn of_slice(handle: &Handle, range: Keys<'_>) -> Self {
        let slice = Slice::new(handle.bytes());
        let page = slice.page;
        let first = page.at_or_after(range.0);
        let last = range.1.map_or(page.slots(), |end| page.at_or_after(end));
        let points = (first..last)
            .map(|at| (page.key(at), Page::tag(&page.slot(at)).is_present()))
            .collect();
        let deletes = slice
            .range_deletes()
            .filter_map(|delete| cut((delete.low, delete.end), range))
            .map(|(low, end)| (low.to_vec(), end.map(<[u8]>::to_vec)))
            .collect();
        Self { deletes, points }
    }

    fn of_journal((journal, bound): &Layer, range: Keys<'_>) -> Self {
        let mut deletes: Vec<(Vec<u8>, Option<Vec<u8>>)> = journal
            .range_deletes(*bound)
            .into_iter()
            .filter_map(|delete| cut((delete.low, delete.end), range))
            .map(|(low, end)| (low.to_vec(), end.map(<[u8]>::to_vec)))
            .collect();
        deletes.sort();
        let mut united: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
        for (low, end) in deletes {
            match united.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| low <= *last) => {
                    *last = match (last.take(), end) {
                        (Some(a), Some(b)) => Some(a.max(b)),
                        _ => None,
                    };
                }
                _ => united.push((low, end)),
            }
        }
        let mut points = Vec::new();
        let mut position = journal.seek_at_or_after(range.0);
        while let Some(at) = position {
            let key = journal.entry(at).key;
            if range.1.is_some_and(|end| key >= end) {
                break;
            }
            if let Some(newest) = journal.visible(at, *bound) {
                let entry = journal.entry(newest);
                // One that a later range delete covers is as if it were not there.
                let dead = journal
                    .covering(key, *bound)
                    .is_some_and(|stamp| stamp > entry.stamp);
                if !dead {
                    points.push((key.to_vec(), entry.tag.is_present()));
                }
            }
            position = journal.next_key(at);
        }
        Self {
            deletes: united,
            points,
        }
    }
}

/// What a count is taken of: some layers over a version's tree.
#[derive(Clone)]
pub(crate) struct Counter {
    version: Arc<Version>,
    layers: Arc<[Layer]>,
}

impl Counter {
    fn pages(&self) -> &Arc<Pages> {
        self.version.pages()
    }

    /// The entries of a range under the layers from `layer` on.
    fn under_layers<'a>(&'a self, layer: usize, range: Keys<'a>) -> Counted<'a> {
        Box::pin(async move {
            let Some(top) = self.layers.get(layer) else {
                return self.in_tree(range).await;
            };
            if top.0.is_empty() {
                return self.under_layers(layer + 1, range).await;
            }
            let effects = Effects::of_journal(top, range);
            let mut count = 0u64;
            for gap in gaps(range, &effects.deletes) {
                count = count.saturating_add(self.under_layers(layer + 1, gap).await?);
            }
            for (key, present) in &effects.points {
                let before = !effects.covers(key) && self.is_present(layer + 1, key).await?;
                count = (count + u64::from(*present)).saturating_sub(u64::from(before));
            }
            Ok(count)
        })
    }

    /// Whether a key is there under the layers from `layer` on.
    fn is_present<'a>(&'a self, layer: usize, key: &'a [u8]) -> Present<'a> {
        Box::pin(async move {
            for (journal, bound) in &self.layers[layer..] {
                let mut found = Default::default();
                let outcome = journal.lookup(key, *bound, &mut found);
                if let Some(entry) = found.first() {
                    return Ok(entry.tag.is_present());
                }
                if outcome == crate::tree::journal::Outcome::Ends {
                    return Ok(false);
                }
            }
            self.is_in_tree(&self.version.root, Expect::Root, key).await
        })
    }

    async fn in_tree(&self, range: Keys<'_>) -> Result<u64> {
        if self.version.root.is_nothing() {
            return Ok(0);
        }
        self.in_node(&self.version.root, Expect::Root, (&[], None), range)
            .await
    }

    /// The entries of a range in and below a node with these bounds.
    fn in_node<'a>(
        &'a self,
        pointer: &'a PagePointer,
        expect: Expect,
        bounds: Keys<'a>,
        range: Keys<'a>,
    ) -> Counted<'a> {
        Box::pin(async move {
            let Some(range) = cut(bounds, range) else {
                return Ok(0);
            };
            let whole = range == bounds;
            if whole && pointer.unresolved == 0 {
                return Ok(pointer.entries);
            }
            let handle = self.pages().load(pointer, expect).await?;
            let page = Page::new(handle.bytes());
            if page.level() == 0 {
                let first = page.at_or_after(range.0);
                let last = range.1.map_or(page.slots(), |end| page.at_or_after(end));
                return Ok(last.saturating_sub(first) as u64);
            }
            if whole {
                let known = handle.memo().load(Ordering::Relaxed);
                if known != UNKNOWN {
                    return Ok(known);
                }
            }
            let count = self.under_runs(&handle, bounds, range).await?;
            if whole {
                handle.memo().store(count, Ordering::Relaxed);
            }
            Ok(count)
        })
    }

    /// The entries of a range below an interior node, its own runs considered.
    async fn under_runs(&self, handle: &Handle, bounds: Keys<'_>, range: Keys<'_>) -> Result<u64> {
        let node = Interior::new(handle.bytes());
        let first = node.child_of(range.0);
        let last = range
            .1
            .map_or(node.children() - 1, |end| node.child_before(end));
        let mut count = 0u64;
        for child in first..=last {
            let low = if child == 0 {
                bounds.0.to_vec()
            } else {
                node.page.key(child - 1)
            };
            let end = match child + 1 < node.children() {
                true => Some(node.page.key(child)),
                false => bounds.1.map(<[u8]>::to_vec),
            };
            let child_bounds = (low.as_slice(), end.as_deref());
            let Some(within) = cut(child_bounds, range) else {
                continue;
            };
            let slices = self.slices_for(handle, child).await?;
            let changed = self
                .in_child(handle, child, child_bounds, &slices, within)
                .await?;
            count = count.saturating_add(changed);
        }
        Ok(count)
    }

    /// The slices that hold something for a child, oldest first.
    async fn slices_for(&self, handle: &Handle, child: usize) -> Result<Vec<Handle>> {
        let pointers: Vec<PagePointer> = Interior::new(handle.bytes())
            .runs()
            .filter(|run| run.pending_units(child) > 0)
            .filter_map(|run| run.slice_of(child))
            .map(|(_, entry)| entry.pointer())
            .collect();
        let mut slices = Vec::with_capacity(pointers.len());
        for pointer in pointers.iter().rev() {
            slices.push(self.pages().load(pointer, Expect::Slice).await?);
        }
        Ok(slices)
    }

    /// The entries of a range of one child under some of its node's slices, oldest first.
    fn in_child<'a>(
        &'a self,
        handle: &'a Handle,
        child: usize,
        bounds: Keys<'a>,
        slices: &'a [Handle],
        range: Keys<'a>,
    ) -> Counted<'a> {
        Box::pin(async move {
            let Some((top, below)) = slices.split_last() else {
                let node = Interior::new(handle.bytes());
                let expect = Expect::Level(node.page.level() - 1);
                return self
                    .in_node(&node.pointer(child), expect, bounds, range)
                    .await;
            };
            let effects = Effects::of_slice(top, range);
            let mut count = 0u64;
            for gap in gaps(range, &effects.deletes) {
                let left = self.in_child(handle, child, bounds, below, gap).await?;
                count = count.saturating_add(left);
            }
            for (key, present) in &effects.points {
                let before =
                    !effects.covers(key) && self.is_below(handle, child, below, key).await?;
                count = (count + u64::from(*present)).saturating_sub(u64::from(before));
            }
            Ok(count)
        })
    }

    /// Whether a key is in one child under some of its node's slices, oldest first.
    fn is_below<'a>(
        &'a self,
        handle: &'a Handle,
        child: usize,
        slices: &'a [Handle],
        key: &'a [u8],
    ) -> Present<'a> {
        Box::pin(async move {
            for handle in slices.iter().rev() {
                let slice = Slice::new(handle.bytes());
                if let Ok(index) = slice.page.search(key) {
                    return Ok(Page::tag(&slice.page.slot(index)).is_present());
                }
                if slice.covers(key) {
                    return Ok(false);
                }
            }
            let node = Interior::new(handle.bytes());
            let expect = Expect::Level(node.page.level() - 1);
            let pointer = node.pointer(child);
            self.is_in_tree(&pointer, expect, key).await
        })
    }

    /// Whether a key is in or below a node, its runs considered.
    async fn is_in_tree(&self, pointer: &PagePointer, expect: Expect, key: &[u8]) -> Result<bool> {
        let (mut pointer, mut expect) = (*pointer, expect);
        if pointer.is_nothing() {
            return Ok(false);
        }
        loop {
            let handle = self.pages().load(&pointer, expect).await?;
            let page = Page::new(handle.bytes());
            if page.level() == 0 {
                return Ok(page.search(key).is_ok());
            }
            let node = Interior::new(handle.bytes());
            let child = node.child_of(key);
            for slice in self.slices_for(&handle, child).await?.iter().rev() {
                let slice = Slice::new(slice.bytes());
                if let Ok(index) = slice.page.search(key) {
                    return Ok(Page::tag(&slice.page.slot(index)).is_present());
                }
                if slice.covers(key) {
                    return Ok(false);
                }
            }
            pointer = node.pointer(child);
            expect = Expect::Level(page.level() - 1);
        }
    }

    /// The bounds of the children of the node that has a range, from the root down, that a rank
    /// within a range falls into.
    async fn narrow(&self, range: Keys<'_>, rank: u64) -> Result<Option<(Vec<u8>, u64)>> {
        let mut low = range.0.to_vec();
        let mut left = rank;
        let mut pointer = self.version.root;
        let mut expect = Expect::Root;
        let mut end: Option<Vec<u8>> = range.1.map(<[u8]>::to_vec);
        if pointer.is_nothing() {
            return Ok(Some((low, left)));
        }
        'levels: loop {
            let handle = self.pages().load(&pointer, expect).await?;
            let node = Interior::new(handle.bytes());
            let level = node.page.level();
            if level == 0 {
                return Ok(Some((low, left)));
            }
            for child in node.child_of(&low)..node.children() {
                let child_end = match child + 1 < node.children() {
                    true => Some(node.page.key(child)),
                    false => None,
                };
                let bound = match (&child_end, &end) {
                    (None, end) => end.clone(),
                    (Some(a), Some(b)) => Some(a.min(b).clone()),
                    (some, None) => some.clone(),
                };
                if bound.as_ref().is_some_and(|bound| *bound <= low) {
                    return Ok(None);
                }
                let count = self.under_layers(0, (&low, bound.as_deref())).await?;
                if left < count {
                    pointer = node.pointer(child);
                    expect = Expect::Level(level - 1);
                    end = bound;
                    continue 'levels;
                }
                left -= count;
                match bound {
                    Some(bound) => low = bound,
                    None => return Ok(None),
                }
            }
            return Ok(None);
        }
    }
}

/// The exact number of entries of a range. O(log n) where nothing is unresolved; else in proportion
/// to the operations that are, the first time.
pub(crate) async fn count(
    version: Arc<Version>,
    layers: Arc<[Layer]>,
    range: Keys<'_>,
) -> Result<u64> {
    Counter { version, layers }.under_layers(0, range).await
}

/// From which key on to walk, and past how many entries, to come to the entry of a rank in a range.
pub(crate) async fn nth(
    version: Arc<Version>,
    layers: Arc<[Layer]>,
    range: Keys<'_>,
    rank: u64,
) -> Result<Option<(Vec<u8>, u64)>> {
    Counter { version, layers }.narrow(range, rank).await
}
