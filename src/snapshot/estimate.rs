//! Estimates: bounds between which the number of entries of a range lies for sure, and the bytes that
//! it takes, from the pages on the way to its two ends.
//!
//! What lies wholly inside the range is summed up by the pointers to it: so many entries are settled
//! there, so many operations are pending. Each of these adds an entry at most or takes one away,
//! unless ranges are deleted among them: then nobody knows how many are left, and the lower bound
//! begins anew. At the ends of the range, leaves and slices are looked into.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::count::{Counter, Keys, cut};
use super::version::{Layer, Version};
use crate::cache::Handle;
use crate::error::Result;
use crate::format::PagePointer;
use crate::format::record::Tag;
use crate::tree::interior::{HAS_RANGE_DELETES, Interior};
use crate::tree::page::Page;
use crate::tree::pages::Expect;
use crate::tree::slice::Slice;
use crate::value::OffTree;

/// How many keys of a journal in memory are looked at. Of more, it is only known how many there are.
const JOURNAL_KEYS_MAX: usize = 1024;

/// A number that is at least this and at most that.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Interval {
    pub(crate) low: u64,
    pub(crate) high: u64,
}

impl Interval {
    fn exactly(number: u64) -> Self {
        Self {
            low: number,
            high: number,
        }
    }

    fn add(&mut self, other: Self) {
        self.low = self.low.saturating_add(other.low);
        self.high = self.high.saturating_add(other.high);
    }

    fn add_at_most(&mut self, number: u64) {
        self.high = self.high.saturating_add(number);
    }
}

/// What is known of a range.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Estimated {
    pub(crate) entries: Interval,
    pub(crate) bytes: Interval,
}

/// Operations that come upon what is estimated already.
#[derive(Default)]
struct Pending {
    /// Keys that are there after them, for sure.
    present: u64,
    /// Operations that leave a key.
    puts: u64,
    /// Operations that may take one away.
    deletes: u64,
    /// Ranges are deleted before the others.
    ranges: bool,
}

impl Estimated {
    /// All that a pointer leads to.
    fn below(pointer: &PagePointer) -> Self {
        let (settled, open) = (pointer.entries, pointer.unresolved);
        let low = match pointer.deletes_ranges {
            true => 0,
            false => settled.saturating_sub(open),
        };
        Self {
            entries: Interval {
                low,
                high: settled.saturating_add(open),
            },
            bytes: Interval {
                // Slices count values, too, that were pushed down since, or are gone.
                low: match open {
                    0 => bytes_of(pointer),
                    _ => pointer.bytes,
                },
                high: bytes_of(pointer),
            },
        }
    }

    fn add(&mut self, other: &Self) {
        self.entries.add(other.entries);
        self.bytes.add(other.bytes);
    }

    fn put_under(&mut self, pending: &Pending) {
        let entries = &mut self.entries;
        let kept = match pending.ranges {
            true => 0,
            false => entries.low.saturating_sub(pending.deletes),
        };
        entries.low = kept.max(pending.present);
        entries.add_at_most(pending.puts);
    }
}

fn bytes_of(pointer: &PagePointer) -> u64 {
    pointer.bytes.saturating_add(pointer.off_tree_bytes)
}

impl Pending {
    fn of_slice(slice: &Slice<'_>, range: Keys<'_>) -> Self {
        let page = &slice.page;
        let first = page.at_or_after(range.0);
        let last = range.1.map_or(page.slots(), |end| page.at_or_after(end));
        let mut pending = Self::default();
        for at in first..last {
            match Page::tag(&page.slot(at)).is_present() {
                true => pending.puts += 1,
                false => pending.deletes += 1,
            }
        }
        pending.present = pending.puts;
        pending.ranges =
            (slice.range_deletes()).any(|delete| cut((delete.low, delete.end), range).is_some());
        pending
    }

    /// Also says how many bytes of records there are, at most.
    fn of_journal((journal, bound): &Layer, range: Keys<'_>) -> (Self, u64) {
        let mut pending = Self::default();
        let mut bytes = 0;
        let has_ranges = journal.has_range_deletes();
        pending.ranges = has_ranges
            && (journal.range_deletes(*bound).iter())
                .any(|delete| cut((delete.low, delete.end), range).is_some());
        let mut position = journal.seek_at_or_after(range.0);
        for _ in 0..JOURNAL_KEYS_MAX {
            let next = position.map(|at| (at, journal.entry(at).key));
            let Some((at, key)) = next.filter(|(_, key)| range.1.is_none_or(|end| *key < end))
            else {
                pending.present = pending.puts;
                return (pending, bytes);
            };
            if let Some(newest) = journal.visible(at, *bound) {
                let entry = journal.entry(newest);
                bytes += (key.len() + entry.payload.len()) as u64;
                let dead = pending.ranges
                    && (journal.covering(key, *bound)).is_some_and(|stamp| stamp > entry.stamp);
                match entry.tag.is_present() && !dead {
                    true => pending.puts += 1,
                    false => pending.deletes += 1,
                }
            }
            position = journal.next_key(at);
        }
        // What was seen is there all the same.
        pending.present = pending.puts;
        let operations = journal.operations() as u64;
        (pending.puts, pending.deletes) = (operations, operations);
        (pending, journal.bytes() as u64)
    }
}

type Estimating<'a> = Pin<Box<dyn Future<Output = Result<Estimated>> + Send + 'a>>;

impl Counter {
    async fn estimate_range(&self, range: Keys<'_>) -> Result<Estimated> {
        let root = self.version.root;
        let mut sum = match root.is_nothing() {
            true => Estimated::default(),
            false => {
                self.estimate_node(root, Expect::Root, (&[], None), range)
                    .await?
            }
        };
        for layer in self.layers.iter().rev() {
            let (pending, bytes) = Pending::of_journal(layer, range);
            sum.put_under(&pending);
            sum.bytes.add_at_most(bytes);
        }
        Ok(sum)
    }

    fn estimate_node<'a>(
        &'a self,
        pointer: PagePointer,
        expect: Expect,
        bounds: Keys<'a>,
        range: Keys<'a>,
    ) -> Estimating<'a> {
        Box::pin(async move {
            let Some(range) = cut(bounds, range) else {
                return Ok(Estimated::default());
            };
            if range == bounds {
                return Ok(Estimated::below(&pointer));
            }
            let handle = self.pages().load(&pointer, expect).await?;
            let page = Page::new(handle.bytes());
            if page.level() > 0 {
                return self.estimate_children(&handle, bounds, range).await;
            }
            let first = page.at_or_after(range.0);
            let last = range.1.map_or(page.slots(), |end| page.at_or_after(end));
            let mut off_tree_bytes = 0u64;
            for at in first..last {
                let slot = page.slot(at);
                if Page::tag(&slot) == Tag::OffTree {
                    let value = OffTree::from_payload(slot.payload)?;
                    off_tree_bytes = off_tree_bytes.saturating_add(value.length);
                }
            }
            Ok(Estimated {
                entries: Interval::exactly(last.saturating_sub(first) as u64),
                bytes: Interval {
                    low: off_tree_bytes,
                    high: bytes_of(&pointer),
                },
            })
        })
    }

    /// What is below an interior node, of which only a part is in the range.
    async fn estimate_children(
        &self,
        handle: &Handle,
        bounds: Keys<'_>,
        range: Keys<'_>,
    ) -> Result<Estimated> {
        let node = Interior::new(handle.bytes());
        let expect = Expect::Level(node.page.level() - 1);
        let first = node.child_of(range.0);
        let last = (range.1).map_or(node.children() - 1, |end| node.child_before(end));
        let mut sum = Estimated::default();
        let mut whole: Option<(usize, usize)> = None;
        let mut slices = Vec::new();
        for child in first..=last {
            let low = match child {
                0 => bounds.0.to_vec(),
                _ => node.page.key(child - 1),
            };
            let end = match child + 1 < node.children() {
                true => Some(node.page.key(child)),
                false => bounds.1.map(<[u8]>::to_vec),
            };
            let around: Keys<'_> = (&low, end.as_deref());
            let pointer = node.pointer(child);
            let Some(within) = cut(around, range) else {
                continue;
            };
            if within == around {
                whole = Some((whole.map_or(child, |(first, _)| first), child));
                let mut below = Estimated::below(&pointer);
                if deletes_ranges(&node, child) {
                    below.entries.low = 0;
                }
                sum.add(&below);
                continue;
            }
            let mut below = self.estimate_node(pointer, expect, around, within).await?;
            self.load_slices(handle, child, &mut slices).await?;
            for (pointer, slice) in slices.iter().rev() {
                below.put_under(&Pending::of_slice(&Slice::new(slice.bytes()), within));
                below.bytes.add_at_most(bytes_of(pointer));
            }
            sum.add(&below);
        }
        if let Some(whole) = whole {
            put_runs_over(&mut sum, &node, whole);
        }
        sum.bytes.add_at_most(handle.bytes().len() as u64);
        Ok(sum)
    }
}

/// Whether a node has slices that delete ranges and hold something for a child.
fn deletes_ranges(node: &Interior<'_>, child: usize) -> bool {
    node.runs()
        .filter(|run| run.pending_units(child) > 0)
        .filter_map(|run| run.slice_of(child))
        .any(|(_, slice)| slice.flags() & HAS_RANGE_DELETES != 0)
}

/// Adds what a node's own runs may do to some children that are in the range with all they have.
fn put_runs_over(sum: &mut Estimated, node: &Interior<'_>, (first, last): (usize, usize)) {
    for run in node.runs() {
        let mut operations = 0u64;
        for index in 0..run.slices {
            let slice = run.slice(index);
            let children = slice.first_child().max(first)..=slice.last_child().min(last);
            if !children.clone().any(|child| run.pending_units(child) > 0) {
                continue;
            }
            let pointer = slice.pointer();
            operations = operations.saturating_add(pointer.entries);
            let inside = slice.first_child() >= first && slice.last_child() <= last;
            sum.bytes.add(Interval {
                low: if inside { pointer.bytes } else { 0 },
                high: bytes_of(&pointer),
            });
        }
        let operations = operations.min(run.live_operations().into());
        sum.entries.low = sum.entries.low.saturating_sub(operations);
        sum.entries.add_at_most(operations);
    }
}

/// Bounds of the entries of a range, and of the bytes that they take. O(log n), and at most
/// [`JOURNAL_KEYS_MAX`] steps in each journal.
pub(crate) async fn estimate(
    version: Arc<Version>,
    layers: Arc<[Layer]>,
    range: Keys<'_>,
) -> Result<Estimated> {
    Counter { version, layers }.estimate_range(range).await
}
