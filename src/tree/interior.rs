//! Interior nodes: children, and the journal of what is pending for them.
//!
//! [`Interior`] is a view of a node, [`Run`] of one run of its journal, [`SliceEntry`] of a slice's
//! place in the run; [`NodeParts`] is the same taken apart, to be changed and encoded again.
//! Searches, cursors and counts read through the views, flushes take nodes apart.
//! [`crate::format::journals`] has the bytes.
//!
//! Invariant kept: what a slice holds for a child without pending bytes is dead. That mark stands in
//! the node and not in the slice: consuming writes the node only. **It is why children change their
//! bounds only when nothing is pending for them**: else dead operations would come back to life.

use super::page::{HEADER_BYTES, Kind, NewPage, NewSlot, Page, encode_table, finish};
use crate::error::{Error, Result};
use crate::format::bytes::{read_u16, read_u32};
use crate::format::{Address, Birth, POINTER_BYTES, PagePointer, SequenceNumber};

const RUN_HEADER_BYTES: usize = 16;
const SLICE_BYTES: usize = 80;
pub(crate) const PENDING_UNIT_BYTES: usize = 32;

/// Flag of a slice: it has range deletes.
pub(crate) const HAS_RANGE_DELETES: u32 = 1;
/// Flag of a slice: operations of it put off-tree values.
pub(crate) const HAS_OFF_TREE: u32 = 2;

/// A view of a checked interior node.
#[derive(Clone, Copy)]
pub(crate) struct Interior<'p> {
    pub(crate) page: Page<'p>,
    children: usize,
    pointers_at: usize,
}

/// A view of one run of a node's journal.
#[derive(Clone, Copy)]
pub(crate) struct Run<'p> {
    bytes: &'p [u8],
    children: usize,
    pub(crate) slices: usize,
    /// The number of slices of the node before this run's.
    pub(crate) slices_before: usize,
}

/// A view of one slice's entry in a run.
#[derive(Clone, Copy)]
pub(crate) struct SliceEntry<'p> {
    bytes: &'p [u8; SLICE_BYTES],
}

impl<'p> Interior<'p> {
    #[inline]
    pub(crate) fn new(bytes: &'p [u8]) -> Self {
        Self::of(Page::new(bytes))
    }

    /// The same of a page that is viewed already.
    #[inline]
    pub(crate) fn of(page: Page<'p>) -> Self {
        Self {
            page,
            children: page.extra_count(),
            pointers_at: page.records_end().next_multiple_of(8),
        }
    }

    /// Checks a node that was read from the disk.
    pub(crate) fn check(bytes: &'p [u8], pointer: &PagePointer) -> Result<Self> {
        let page = Page::check(bytes, pointer, Kind::Interior)?;
        let node = Self {
            page,
            children: page.extra_count(),
            pointers_at: page.records_end().next_multiple_of(8),
        };
        node.check_rest().ok_or_else(|| {
            Error::corrupt_at(
                pointer.extent(),
                "an interior node with malformed children or runs",
            )
        })?;
        Ok(node)
    }

    fn check_rest(&self) -> Option<()> {
        let bytes = self.page.bytes();
        if self.children != self.page.slots() + 1 {
            return None;
        }
        for child in 0..self.children {
            let at = self.pointers_at + child * POINTER_BYTES;
            let pointer = PagePointer::from_bytes(bytes.get(at..)?.first_chunk()?);
            if (pointer.length as usize) < HEADER_BYTES {
                return None;
            }
        }
        let mut at = self.pointers_at + self.children * POINTER_BYTES;
        let mut slices = 0usize;
        for _ in 0..self.page.runs() {
            let section = read_u32(bytes, at)? as usize;
            let run = Run::parse(bytes.get(at..at.checked_add(section)?)?, self.children)?;
            if run.slices_before != slices {
                return None;
            }
            run.check()?;
            slices += run.slices;
            at += section;
        }
        (at == bytes.len()).then_some(())
    }

    #[inline]
    pub(crate) fn children(&self) -> usize {
        self.children
    }

    /// The child that has a key.
    #[inline]
    pub(crate) fn child_of(&self, key: &[u8]) -> usize {
        self.page.after(key)
    }

    /// The child that has the keys just below a key.
    pub(crate) fn child_before(&self, key: &[u8]) -> usize {
        self.page.at_or_after(key)
    }

    #[inline]
    pub(crate) fn pointer(&self, child: usize) -> PagePointer {
        PagePointer::from_bytes(self.pointer_bytes(child))
    }

    /// Where a child is, and of which generation: what it takes to find it in memory.
    #[inline]
    pub(crate) fn place(&self, child: usize) -> (Address, Birth) {
        PagePointer::place_from_bytes(self.pointer_bytes(child))
    }

    #[inline]
    fn pointer_bytes(&self, child: usize) -> &'p [u8; POINTER_BYTES] {
        let at = self.pointers_at + child * POINTER_BYTES;
        let bytes = self.page.bytes()[at..].first_chunk();
        bytes.expect("the node was checked when it was loaded")
    }

    /// The runs, newest first.
    #[inline]
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run<'p>> {
        let bytes = self.page.bytes();
        let children = self.children;
        let mut at = self.pointers_at + children * POINTER_BYTES;
        (0..self.page.runs()).map(move |_| {
            let section = read_u32(bytes, at).expect("the node was checked when it was loaded");
            let run = Run::parse(&bytes[at..at + section as usize], children)
                .expect("the node was checked when it was loaded");
            at += section as usize;
            run
        })
    }

    #[inline]
    pub(crate) fn has_runs(&self) -> bool {
        self.page.runs() > 0
    }

    /// The slices of all runs.
    pub(crate) fn slices(&self) -> usize {
        self.runs().map(|run| run.slices).sum()
    }
}

impl<'p> Run<'p> {
    fn parse(bytes: &'p [u8], children: usize) -> Option<Self> {
        Some(Self {
            bytes,
            children,
            slices: read_u32(bytes, 8)? as usize,
            slices_before: read_u32(bytes, 12)? as usize,
        })
    }

    fn entries_at(&self) -> usize {
        RUN_HEADER_BYTES + (2 * self.children).next_multiple_of(8)
    }

    fn check(&self) -> Option<()> {
        let filters_at = self
            .entries_at()
            .checked_add(self.slices.checked_mul(SLICE_BYTES)?)?;
        self.bytes.get(..filters_at)?;
        let mut filters_end = filters_at;
        let mut next_child = 0;
        let mut live = vec![false; self.children];
        for index in 0..self.slices {
            let slice = self.slice(index);
            let (first, last) = (slice.first_child(), slice.last_child());
            if first < next_child || last < first || last >= self.children {
                return None;
            }
            if (slice.pointer().length as usize) < HEADER_BYTES {
                return None;
            }
            live[first..=last].fill(true);
            next_child = last + 1;
            filters_end = filters_end.checked_add(8 * slice.filter_words())?;
        }
        let stray = (0..self.children).any(|child| self.pending_units(child) > 0 && !live[child]);
        (filters_end == self.bytes.len() && !stray).then_some(())
    }

    pub(crate) fn live_operations(&self) -> u32 {
        read_u32(self.bytes, 4).unwrap_or(0)
    }

    /// What is pending for a child, in units; 0 is nothing.
    #[inline]
    pub(crate) fn pending_units(&self, child: usize) -> u16 {
        read_u16(self.bytes, RUN_HEADER_BYTES + 2 * child).unwrap_or(0)
    }

    pub(crate) fn slice(&self, index: usize) -> SliceEntry<'p> {
        let at = self.entries_at() + index * SLICE_BYTES;
        let bytes = self.bytes[at..].first_chunk();
        SliceEntry {
            bytes: bytes.expect("the node was checked when it was loaded"),
        }
    }

    /// The slice that holds what is pending for a child.
    pub(crate) fn slice_of(&self, child: usize) -> Option<(usize, SliceEntry<'p>)> {
        let (mut low, mut high) = (0, self.slices);
        while low < high {
            let middle = low.midpoint(high);
            if self.slice(middle).last_child() < child {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (low < self.slices)
            .then(|| (low, self.slice(low)))
            .filter(|(_, slice)| slice.first_child() <= child)
    }

    /// The filter of a slice.
    pub(crate) fn filter(&self, index: usize) -> &'p [u8] {
        let before: usize = (0..index)
            .map(|index| self.slice(index).filter_words())
            .sum();
        let at = self.entries_at() + self.slices * SLICE_BYTES + 8 * before;
        &self.bytes[at..at + 8 * self.slice(index).filter_words()]
    }
}

impl SliceEntry<'_> {
    pub(crate) fn pointer(&self) -> PagePointer {
        PagePointer::from_bytes(
            self.bytes
                .first_chunk()
                .expect("an entry begins with a pointer"),
        )
    }

    pub(crate) fn first_child(&self) -> usize {
        u16::from_le_bytes([self.bytes[64], self.bytes[65]]) as usize
    }

    pub(crate) fn last_child(&self) -> usize {
        u16::from_le_bytes([self.bytes[66], self.bytes[67]]) as usize
    }

    pub(crate) fn flags(&self) -> u32 {
        read_u32(self.bytes, 68).unwrap_or(0)
    }

    fn filter_words(&self) -> usize {
        read_u32(self.bytes, 72).unwrap_or(0) as usize
    }
}

/// A child of a node that is being made.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    /// The separator before it; of no meaning in the first child of a node.
    pub(crate) low: Vec<u8>,
    pub(crate) pointer: PagePointer,
}

/// A slice of a node that is being made.
#[derive(Clone, Debug)]
pub(crate) struct SliceParts {
    pub(crate) pointer: PagePointer,
    pub(crate) first_child: usize,
    pub(crate) last_child: usize,
    pub(crate) flags: u32,
    pub(crate) filter: Vec<u8>,
}

/// A run of a node that is being made.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunParts {
    /// For each child, in units.
    pub(crate) pending: Vec<u16>,
    pub(crate) live_operations: u32,
    pub(crate) slices: Vec<SliceParts>,
}

/// A node that is being made: its children, and its runs, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeParts {
    pub(crate) children: Vec<Child>,
    pub(crate) runs: Vec<RunParts>,
}

impl NodeParts {
    /// Takes a node apart. `low` becomes the lower bound of its first child.
    pub(crate) fn of(node: &Interior<'_>, low: &[u8]) -> Self {
        let children = (0..node.children())
            .map(|child| Child {
                low: if child == 0 {
                    low.to_vec()
                } else {
                    node.page.key(child - 1)
                },
                pointer: node.pointer(child),
            })
            .collect();
        let runs = node
            .runs()
            .map(|run| RunParts {
                pending: (0..node.children())
                    .map(|child| run.pending_units(child))
                    .collect(),
                live_operations: run.live_operations(),
                slices: (0..run.slices)
                    .map(|index| {
                        let slice = run.slice(index);
                        SliceParts {
                            pointer: slice.pointer(),
                            first_child: slice.first_child(),
                            last_child: slice.last_child(),
                            flags: slice.flags(),
                            filter: run.filter(index).to_vec(),
                        }
                    })
                    .collect(),
            })
            .collect();
        Self { children, runs }
    }

    /// About how many bytes the encoded node will have.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let separators: usize = self
            .children
            .iter()
            .skip(1)
            .map(|child| super::page::slot_bytes(child.low.len(), 0))
            .sum();
        let runs: usize = self
            .runs
            .iter()
            .map(|run| {
                let filters: usize = run.slices.iter().map(|slice| slice.filter.len()).sum();
                RUN_HEADER_BYTES + 2 * run.pending.len() + SLICE_BYTES * run.slices.len() + filters
            })
            .sum();
        HEADER_BYTES + separators + POINTER_BYTES * self.children.len() + runs
    }

    /// What a pointer to the node sums up; address, length and checksum are still to be filled in.
    pub(crate) fn summary(&self) -> PagePointer {
        let mut sum = PagePointer::NOTHING;
        let parts = self
            .children
            .iter()
            .map(|child| (&child.pointer, true))
            .chain(
                self.runs
                    .iter()
                    .flat_map(|run| &run.slices)
                    .map(|slice| (&slice.pointer, false)),
            );
        for (pointer, is_child) in parts {
            sum.newest = sum.newest.max(pointer.newest);
            sum.bytes = sum.bytes.saturating_add(pointer.bytes);
            sum.off_tree_bytes = sum.off_tree_bytes.saturating_add(pointer.off_tree_bytes);
            if is_child {
                sum.entries = sum.entries.saturating_add(pointer.entries);
                sum.unresolved = sum.unresolved.saturating_add(pointer.unresolved);
                sum.deletes_ranges |= pointer.deletes_ranges;
            }
        }
        let live: u64 = self
            .runs
            .iter()
            .map(|run| u64::from(run.live_operations))
            .sum();
        sum.unresolved = sum.unresolved.saturating_add(live);
        let mut slices = self.runs.iter().flat_map(|run| &run.slices);
        sum.deletes_ranges |= slices.any(|slice| slice.flags & HAS_RANGE_DELETES != 0);
        sum
    }

    /// Encodes the node.
    pub(crate) fn encode(&self, level: u8, birth: Birth) -> Result<Vec<u8>> {
        let slots: Vec<NewSlot<'_>> = self
            .children
            .iter()
            .skip(1)
            .map(|child| NewSlot {
                key: &child.low,
                tag: 0,
                payload: &[],
                sequence: SequenceNumber(0),
            })
            .collect();
        let new = NewPage {
            kind: Kind::Interior,
            level,
            birth,
            newest: SequenceNumber(0),
            extra_count: self.children.len(),
            runs: self.runs.len(),
        };
        let mut page = encode_table(&new, &slots)?;
        page.resize(page.len().next_multiple_of(8), 0);
        for child in &self.children {
            page.extend_from_slice(&child.pointer.to_bytes());
        }
        let mut slices_before = 0u32;
        for run in &self.runs {
            let start = page.len();
            page.extend_from_slice(&[0; 4]);
            page.extend_from_slice(&run.live_operations.to_le_bytes());
            page.extend_from_slice(&(run.slices.len() as u32).to_le_bytes());
            page.extend_from_slice(&slices_before.to_le_bytes());
            for pending in &run.pending {
                page.extend_from_slice(&pending.to_le_bytes());
            }
            page.resize(start + (page.len() - start).next_multiple_of(8), 0);
            for slice in &run.slices {
                page.extend_from_slice(&slice.pointer.to_bytes());
                page.extend_from_slice(&(slice.first_child as u16).to_le_bytes());
                page.extend_from_slice(&(slice.last_child as u16).to_le_bytes());
                page.extend_from_slice(&slice.flags.to_le_bytes());
                page.extend_from_slice(&((slice.filter.len() / 8) as u32).to_le_bytes());
                page.extend_from_slice(&[0; 4]);
            }
            for slice in &run.slices {
                page.extend_from_slice(&slice.filter);
            }
            let section = (page.len() - start) as u32;
            page[start..start + 4].copy_from_slice(&section.to_le_bytes());
            slices_before += run.slices.len() as u32;
        }
        Ok(finish(page))
    }
}
