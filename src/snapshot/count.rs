//! Exact counts, and the entry at a rank.
//!
//! Pointers know how many entries are settled below them. What is pending changes that by as much as
//! each operation does to what stands below it, so a count descends only where something is
//! unresolved, and a node whose count was found out remembers it in its frame.
//!
//! What several layers of operations do together is put into one list, ascending: ranges whose older
//! keys are gone, and the keys that were written since. The count of some keys under it is: the count
//! of what the deleted ranges leave over below, and for each key of the list plus one if it is there
//! after the operation, less one if it was there, outside the deleted ranges, before it. So a descent
//! takes sorted keys along and asks each page once for all that concern it; no key is looked up alone.

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

const UNKNOWN: u64 = u64::MAX;

pub(super) fn cut<'k>(a: Keys<'k>, b: Keys<'k>) -> Option<Keys<'k>> {
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

/// Operations within a range, of layers that are added from the newest to the oldest, made whole:
/// disjoint, ascending ranges that were deleted, and over them the keys that were written, ascending,
/// with whether they are there.
#[derive(Default)]
struct Effects {
    deletes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Where in `bytes` the key ends that began where the one before ended.
    points: Vec<(usize, bool)>,
    bytes: Vec<u8>,
}

impl Effects {
    fn covers(&self, key: &[u8]) -> bool {
        let after = self
            .deletes
            .partition_point(|(low, _)| low.as_slice() <= key);
        let last = after.checked_sub(1).map(|last| &self.deletes[last].1);
        last.is_some_and(|end| end.as_deref().is_none_or(|end| key < end))
    }

    /// Adds a key that begins at a place of the bytes, unless a newer layer deleted it.
    fn push(&mut self, begin: usize, present: bool) {
        if self.deletes.is_empty() || !self.covers(&self.bytes[begin..]) {
            self.points.push((self.bytes.len(), present));
        } else {
            self.bytes.truncate(begin);
        }
    }

    /// Adds the deleted ranges of a layer, once its points were added.
    fn delete<'k>(&mut self, ranges: impl Iterator<Item = Keys<'k>>) {
        let before = self.deletes.len();
        let owned = ranges.map(|(low, end)| (low.to_vec(), end.map(<[u8]>::to_vec)));
        self.deletes.extend(owned);
        if self.deletes.len() == before {
            return;
        }
        self.deletes.sort();
        self.deletes.dedup_by(|(low, end), (_, last)| {
            let joins = last.as_ref().is_none_or(|last| *low <= *last);
            if joins {
                *last = match (last.take(), end.take()) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            joins
        });
    }

    fn push_slot(&mut self, page: &Page<'_>, at: usize) {
        let begin = self.bytes.len();
        let slot = page.slot(at);
        page.append_key(at, &slot, &mut self.bytes);
        self.push(begin, Page::tag(&slot).is_present());
    }

    /// Adds a slice; of its keys only some, if these are given.
    fn add_slice(&mut self, slice: &Slice<'_>, range: Keys<'_>, only: Option<&[&[u8]]>) {
        let page = &slice.page;
        match only {
            Some(keys) => {
                let found = keys.iter().filter_map(|key| page.search(key).ok());
                found.for_each(|at| self.push_slot(page, at));
            }
            None => {
                let first = page.at_or_after(range.0);
                let last = range.1.map_or(page.slots(), |end| page.at_or_after(end));
                (first..last).for_each(|at| self.push_slot(page, at));
            }
        }
        let deletes = slice.range_deletes();
        self.delete(deletes.filter_map(|delete| cut((delete.low, delete.end), range)));
    }

    fn add_journal(&mut self, (journal, bound): &Layer, range: Keys<'_>) {
        let mut position = journal.seek_at_or_after(range.0);
        while let Some(at) = position {
            let key = journal.entry(at).key;
            if range.1.is_some_and(|end| key >= end) {
                break;
            }
            if let Some(newest) = journal.visible(at, *bound) {
                let entry = journal.entry(newest);
                // One that a later range delete covers is as if it were not there.
                let dead = journal.has_range_deletes()
                    && (journal.covering(key, *bound)).is_some_and(|stamp| stamp > entry.stamp);
                if !dead {
                    let begin = self.bytes.len();
                    self.bytes.extend_from_slice(key);
                    self.push(begin, entry.tag.is_present());
                }
            }
            position = journal.next_key(at);
        }
        let deletes = journal.range_deletes(*bound);
        let deletes = deletes.iter().map(|delete| (delete.low, delete.end));
        self.delete(deletes.filter_map(|delete| cut(delete, range)));
    }

    /// The keys, ascending, each as its newest operation leaves it.
    fn points(&self) -> Vec<(&[u8], bool)> {
        let mut begin = 0;
        let mut points = Vec::with_capacity(self.points.len());
        for &(end, present) in &self.points {
            points.push((&self.bytes[begin..end], present));
            begin = end;
        }
        // Equal keys stay in the order in which they were added: the newest first.
        points.sort_by_key(|(key, _)| *key);
        points.dedup_by_key(|(key, _)| *key);
        points
    }

    /// Answers of what is asked as much as the points do, which are those of [`Self::points`].
    fn merge<'k>(&self, points: &[(&'k [u8], bool)], asked: &mut Asked<'k>) -> Merged<'k> {
        let most = points.len() + asked.keys.len();
        let mut merged = Merged {
            count: 0,
            keys: Vec::with_capacity(most),
            askers: Vec::with_capacity(most),
        };
        let (mut point, mut number) = (0, 0);
        while point < points.len() || number < asked.keys.len() {
            let (next, wanted) = (points.get(point), asked.keys.get(number));
            let key = match (next, wanted) {
                (Some((key, _)), Some(wanted)) => (*key).min(*wanted),
                (Some((key, _)), None) => *key,
                (None, wanted) => wanted.expect("one of the two is not at its end"),
            };
            let written = next.filter(|next| next.0 == key).map(|next| next.1);
            let wanted = wanted.is_some_and(|wanted| *wanted == key);
            let counts = written.filter(|_| asked.counted);
            let open = wanted && written.is_none();
            if wanted {
                asked.present[number] = written.unwrap_or(false);
            }
            if (counts.is_some() || open) && !self.covers(key) {
                merged.keys.push(key);
                merged.askers.push((counts, open.then_some(number)));
            } else {
                merged.count += u64::from(counts == Some(true));
            }
            point += usize::from(written.is_some());
            number += usize::from(wanted);
        }
        merged
    }
}

/// What is left to ask below some operations.
struct Merged<'k> {
    /// What is counted already.
    count: u64,
    keys: Vec<&'k [u8]>,
    /// Of each key whether it is there after its operation, if that is to be counted, and which of
    /// the asked ones it is.
    askers: Vec<(Option<bool>, Option<usize>)>,
}

/// What is to be found out in and below a node.
struct Asked<'a> {
    range: Keys<'a>,
    /// The entries of the range are to be counted.
    counted: bool,
    /// Ascending keys of the range, of which is to be said whether they are there.
    keys: &'a [&'a [u8]],
    present: &'a mut [bool],
}

/// Where a node is.
struct Target<'a> {
    pointer: PagePointer,
    expect: Expect,
    bounds: Keys<'a>,
}

/// What a count is taken of: some layers over a version's tree.
#[derive(Clone)]
pub(crate) struct Counter {
    pub(super) version: Arc<Version>,
    pub(super) layers: Arc<[Layer]>,
}

impl Counter {
    pub(super) fn pages(&self) -> &Arc<Pages> {
        self.version.pages()
    }

    /// The entries of a range.
    async fn in_range(&self, range: Keys<'_>) -> Result<u64> {
        let mut effects = Effects::default();
        for layer in self.layers.iter() {
            effects.add_journal(layer, range);
        }
        let root = Target {
            pointer: self.version.root,
            expect: Expect::Root,
            bounds: (&[], None),
        };
        let asked = Asked {
            range,
            counted: true,
            keys: &[],
            present: &mut [],
        };
        self.under(&effects, &root, asked).await
    }

    /// Answers what is asked about a node with some operations over it.
    async fn under(
        &self,
        effects: &Effects,
        node: &Target<'_>,
        mut asked: Asked<'_>,
    ) -> Result<u64> {
        let points = effects.points();
        let Merged {
            mut count,
            keys,
            askers,
        } = effects.merge(&points, &mut asked);
        let mut present = vec![false; keys.len()];
        let mut from = 0;
        for gap in gaps(asked.range, &effects.deletes) {
            let rest = &keys[from..];
            let to = from + (gap.1).map_or(rest.len(), |end| rest.partition_point(|k| *k < end));
            let inner = Asked {
                range: gap,
                counted: asked.counted,
                keys: &keys[from..to],
                present: &mut present[from..to],
            };
            count = count.saturating_add(self.in_node(node, inner).await?);
            from = to;
        }
        for ((counts, number), before) in askers.into_iter().zip(present) {
            if let Some(after) = counts {
                count = (count + u64::from(after)).saturating_sub(u64::from(before));
            }
            if let Some(number) = number {
                asked.present[number] = before;
            }
        }
        Ok(count)
    }

    /// Answers what is asked about a node.
    fn in_node<'a>(&'a self, node: &'a Target<'a>, asked: Asked<'a>) -> Counted<'a> {
        Box::pin(async move {
            let pointer = &node.pointer;
            let Some(range) = cut(node.bounds, asked.range) else {
                return Ok(0);
            };
            let whole = range == node.bounds;
            let mut known = match asked.counted {
                true => (whole && pointer.unresolved == 0).then_some(pointer.entries),
                false => Some(0),
            };
            if let (true, Some(known)) = (asked.keys.is_empty(), known) {
                return Ok(known);
            }
            if pointer.is_nothing() {
                return Ok(0);
            }
            let handle = self.pages().load(pointer, node.expect).await?;
            let page = Page::new(handle.bytes());
            if page.level() == 0 {
                for (key, present) in asked.keys.iter().zip(asked.present) {
                    *present = page.search(key).is_ok();
                }
                return Ok(known.unwrap_or_else(|| {
                    let first = page.at_or_after(range.0);
                    let last = range.1.map_or(page.slots(), |end| page.at_or_after(end));
                    last.saturating_sub(first) as u64
                }));
            }
            if known.is_none() && whole {
                let memo = handle.memo().load(Ordering::Relaxed);
                known = (memo != UNKNOWN).then_some(memo);
            }
            if let (true, Some(known)) = (asked.keys.is_empty(), known) {
                return Ok(known);
            }
            let inner = Asked {
                range,
                counted: known.is_none(),
                ..asked
            };
            let count = self.in_children(&handle, node.bounds, inner).await?;
            if whole && known.is_none() {
                handle.memo().store(count, Ordering::Relaxed);
            }
            Ok(known.unwrap_or(count))
        })
    }

    /// Answers what is asked about what is below an interior node, its own runs considered.
    async fn in_children(
        &self,
        handle: &Handle,
        bounds: Keys<'_>,
        asked: Asked<'_>,
    ) -> Result<u64> {
        let node = Interior::new(handle.bytes());
        let expect = Expect::Level(node.page.level() - 1);
        let range = asked.range;
        let first = node.child_of(range.0);
        let last = range
            .1
            .map_or(node.children() - 1, |end| node.child_before(end));
        let mut slices = Vec::new();
        let mut count = 0u64;
        let mut from = 0;
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
            let target = Target {
                pointer: node.pointer(child),
                expect,
                bounds: (low.as_slice(), end.as_deref()),
            };
            let Some(within) = cut(target.bounds, range) else {
                continue;
            };
            let rest = &asked.keys[from..];
            let to = from + (within.1).map_or(rest.len(), |end| rest.partition_point(|k| *k < end));
            let inner = Asked {
                range: within,
                counted: asked.counted,
                keys: &asked.keys[from..to],
                present: &mut asked.present[from..to],
            };
            from = to;
            if !inner.counted && inner.keys.is_empty() {
                continue;
            }
            self.load_slices(handle, child, &mut slices).await?;
            let below = if slices.is_empty() {
                self.in_node(&target, inner).await?
            } else {
                let mut effects = Effects::default();
                let only = (!inner.counted).then_some(inner.keys);
                for (_, slice) in &slices {
                    effects.add_slice(&Slice::new(slice.bytes()), within, only);
                }
                self.under(&effects, &target, inner).await?
            };
            count = count.saturating_add(below);
        }
        Ok(count)
    }

    /// Loads the slices that hold something for a child, newest first. Those of the child before
    /// are given: most are the same.
    pub(super) async fn load_slices(
        &self,
        handle: &Handle,
        child: usize,
        slices: &mut Vec<(PagePointer, Handle)>,
    ) -> Result<()> {
        let mut before = std::mem::take(slices);
        let pointers: Vec<PagePointer> = Interior::new(handle.bytes())
            .runs()
            .filter(|run| run.pending_units(child) > 0)
            .filter_map(|run| run.slice_of(child))
            .map(|(_, entry)| entry.pointer())
            .collect();
        for pointer in pointers {
            let held = before.iter().position(|(held, _)| *held == pointer);
            slices.push(match held {
                Some(held) => before.swap_remove(held),
                None => (pointer, self.pages().load(&pointer, Expect::Slice).await?),
            });
        }
        Ok(())
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
                let count = self.in_range((&low, bound.as_deref())).await?;
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
    Counter { version, layers }.in_range(range).await
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
