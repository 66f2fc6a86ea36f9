//! What must hold of a page and of the pointer that names it, beyond what loading checks: the keys
//! lie within the fences, the sums are right, and what a node says of its journal is so.

use super::verify::{Examiner, Part};
use super::walk::{Fences, fault_of, values_in};
use crate::error::Result;
use crate::format::PagePointer;
use crate::format::SequenceNumber;
use crate::format::record::{Tag, hash_key};
use crate::snapshot::target_of;
use crate::tree::filter;
use crate::tree::interior::{HAS_OFF_TREE, HAS_RANGE_DELETES, Interior, NodeParts, Run};
use crate::tree::merge::needs_below;
use crate::tree::page::{Page, common_prefix};
use crate::tree::pages::Expect;
use crate::tree::slice::Slice;
use crate::value::OffTree;

/// What is wrong, each thing said once a page.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn unless(&mut self, holds: bool, fault: &str) {
        if !holds && !self.0.iter().any(|known| known == fault) {
            self.0.push(fault.to_owned());
        }
    }

    fn equal(&mut self, what: &str, said: u64, found: u64) {
        if said != found {
            self.0.push(format!(
                "the pointer to a page says {said} {what}, there are {found}"
            ));
        }
    }

    fn table(&mut self, page: &Page<'_>) {
        let longest = match page.slots() {
            0 => 0,
            1 => page.key(0).len(),
            slots => common_prefix(&page.key(0), &page.key(slots - 1)),
        };
        let is_longest = page.prefix().len() == longest;
        self.unless(
            is_longest,
            "the prefix of a page is not the longest that its keys share",
        );
    }
}

/// What the slices of one run hold.
struct Contents {
    /// For each child, the live operations.
    live: Vec<u64>,
    /// Payloads of live off-tree values.
    values: Vec<Vec<u8>>,
    references: u64,
}

impl Examiner<'_> {
    async fn conclude(&mut self, pointer: &PagePointer, faults: Faults) -> Result<()> {
        for fault in faults.0 {
            self.damage(pointer.extent(), fault)?;
        }
        Ok(())
    }

    pub(super) async fn leaf(
        &mut self,
        part: Part,
        pointer: &PagePointer,
        bytes: &[u8],
        fences: &Fences,
    ) -> Result<()> {
        let page = Page::new(bytes);
        let mut faults = Faults::default();
        faults.table(&page);
        let mut values = Vec::new();
        let mut off_tree_bytes = 0u64;
        let mut references = 0;
        for index in 0..page.slots() {
            let slot = page.slot(index);
            let tag = Page::tag(&slot);
            let within = fences.admit(&page.key(index));
            faults.unless(within, "a leaf has a key that belongs elsewhere");
            if let Some(fault) = fault_of(tag, slot.payload) {
                faults.unless(false, fault);
            }
            let open = tag == Tag::Merge && needs_below(slot.payload);
            faults.unless(!open, "operands in a leaf stand on nothing");
            references += u64::from(target_of(tag, slot.payload).is_some());
            for payload in values_in(tag, slot.payload) {
                let length = OffTree::from_payload(payload).map_or(0, |value| value.length);
                off_tree_bytes = off_tree_bytes.saturating_add(length);
                values.push(payload.to_vec());
            }
        }
        faults.equal("entries", pointer.entries, page.slots() as u64);
        faults.equal("unresolved operations", pointer.unresolved, 0);
        faults.equal("bytes", pointer.bytes, bytes.len() as u64);
        faults.equal("off-tree bytes", pointer.off_tree_bytes, off_tree_bytes);
        let tally = self.tally(part);
        tally.entries += page.slots() as u64;
        tally.references += references;
        self.conclude(pointer, faults).await?;
        self.values_of(part, pointer, &values).await?;
        Ok(())
    }

    pub(super) async fn node(
        &mut self,
        part: Part,
        pointer: &PagePointer,
        bytes: &[u8],
        fences: &Fences,
    ) -> Result<()> {
        let node = Interior::new(bytes);
        let mut faults = Faults::default();
        faults.table(&node.page);
        for separator in 0..node.page.slots() {
            let key = node.page.key(separator);
            let within = fences.admit(&key) && key != fences.low;
            faults.unless(within, "a node has a separator that belongs elsewhere");
        }
        let sum = NodeParts::of(&node, &fences.low).summary();
        let length = bytes.len() as u64;
        faults.equal("entries", pointer.entries, sum.entries);
        faults.equal("unresolved operations", pointer.unresolved, sum.unresolved);
        faults.unless(
            pointer.deletes_ranges == sum.deletes_ranges,
            "the pointer to a node is wrong about whether ranges are deleted below",
        );
        faults.equal("bytes", pointer.bytes, sum.bytes.saturating_add(length));
        faults.equal("off-tree bytes", pointer.off_tree_bytes, sum.off_tree_bytes);
        faults.unless(
            pointer.newest >= sum.newest,
            "the pointer to a node is older than something below it",
        );
        let children = (0..node.children()).map(|child| node.pointer(child));
        let slices = node
            .runs()
            .flat_map(|run| (0..run.slices).map(move |index| run.slice(index).pointer()));
        let mut births = children.chain(slices).map(|pointer| pointer.birth);
        faults.unless(
            births.all(|birth| birth <= pointer.birth),
            "a node is older than something below it",
        );
        self.conclude(pointer, faults).await?;
        let runs: Vec<Run<'_>> = node.runs().collect();
        for run in runs {
            self.run(part, pointer, &node, &run, fences).await?;
        }
        Ok(())
    }

    /// One run of a node's journal, with its slices.
    async fn run(
        &mut self,
        part: Part,
        pointer: &PagePointer,
        node: &Interior<'_>,
        run: &Run<'_>,
        fences: &Fences,
    ) -> Result<()> {
        let mut contents = Contents {
            live: vec![0; node.children()],
            values: Vec::new(),
            references: 0,
        };
        let mut whole = true;
        for index in 0..run.slices {
            let slice_pointer = run.slice(index).pointer();
            let Some(bytes) = self.page(&slice_pointer, Expect::Slice).await? else {
                whole = false;
                continue;
            };
            let tally = self.tally(part);
            tally.slices += 1;
            tally.page_bytes += bytes.len() as u64;
            let slice = Slice::new(&bytes);
            let faults = slice_faults(node, run, index, &slice, fences, &mut contents);
            self.conclude(&slice_pointer, faults).await?;
            let values = std::mem::take(&mut contents.values);
            self.values_of(part, &slice_pointer, &values).await?;
        }
        let tally = self.tally(part);
        tally.unresolved += contents.live.iter().sum::<u64>();
        tally.references += contents.references;
        let mut faults = Faults::default();
        if whole {
            for (child, &live) in contents.live.iter().enumerate() {
                faults.unless(
                    (run.pending_units(child) > 0) == (live > 0),
                    "a run claims that something is pending for a child for which it has nothing",
                );
            }
            let live: u64 = contents.live.iter().sum();
            let said = u64::from(run.live_operations());
            faults.unless(
                said == live,
                &format!("a run claims to have {said} live operations, it has {live}"),
            );
        }
        for index in 0..run.slices {
            let slice = run.slice(index);
            let mut span = slice.first_child()..=slice.last_child();
            let lives = span.any(|child| run.pending_units(child) > 0);
            faults.unless(lives, "a run keeps a slice without a live child");
        }
        self.conclude(pointer, faults).await
    }
}

/// What is wrong with a slice and with what its node says about it. What it holds for children that
/// have something pending is added to `contents`; the rest is dead.
fn slice_faults(
    node: &Interior<'_>,
    run: &Run<'_>,
    index: usize,
    slice: &Slice<'_>,
    fences: &Fences,
    contents: &mut Contents,
) -> Faults {
    let page = &slice.page;
    let entry = run.slice(index);
    let pointer = entry.pointer();
    let span = entry.first_child()..=entry.last_child();
    let elsewhere = "a slice has an operation that belongs elsewhere";
    let mut faults = Faults::default();
    faults.table(page);
    let mut newest = SequenceNumber(0);
    let mut off_tree = false;
    let mut off_tree_bytes = 0u64;
    for slot_index in 0..page.slots() {
        let slot = page.slot(slot_index);
        let tag = Page::tag(&slot);
        let key = page.key(slot_index);
        newest = newest.max(page.sequence(&slot));
        faults.unless(fences.admit(&key), elsewhere);
        faults.unless(
            filter::may_contain(run.filter(index), hash_key(&key)),
            "the filter of a slice lacks a key",
        );
        if let Some(fault) = fault_of(tag, slot.payload) {
            faults.unless(false, fault);
        }
        for payload in values_in(tag, slot.payload) {
            off_tree = true;
            let length = OffTree::from_payload(payload).map_or(0, |value| value.length);
            off_tree_bytes = off_tree_bytes.saturating_add(length);
        }
        let child = node.child_of(&key);
        if run.pending_units(child) == 0 {
            continue;
        }
        faults.unless(span.contains(&child), elsewhere);
        contents.live[child] += 1;
        let values = values_in(tag, slot.payload);
        contents.values.extend(values.map(<[u8]>::to_vec));
        contents.references += u64::from(target_of(tag, slot.payload).is_some());
    }
    let mut deletes = 0u64;
    for delete in slice.range_deletes() {
        deletes += 1;
        newest = newest.max(delete.sequence);
        let first = node.child_of(delete.low);
        let last = match delete.end {
            Some(end) => node.child_before(end),
            None => node.children() - 1,
        };
        let ends_within = match (delete.end, &fences.end) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(end), Some(fence)) => end <= fence.as_slice(),
        };
        faults.unless(ends_within && fences.admit(delete.low), elsewhere);
        for child in (first..=last).filter(|&child| run.pending_units(child) > 0) {
            faults.unless(
                first == last,
                "a range delete was not cut where the keys of a child end",
            );
            faults.unless(span.contains(&child), elsewhere);
            contents.live[child] += 1;
        }
    }
    faults.unless(
        newest == page.newest() && newest == pointer.newest,
        "a slice and the pointer to it disagree on its newest operation",
    );
    faults.equal("operations", pointer.entries, page.slots() as u64 + deletes);
    faults.equal("bytes", pointer.bytes, page.bytes().len() as u64);
    faults.equal("unresolved operations", pointer.unresolved, 0);
    faults.equal("off-tree bytes", pointer.off_tree_bytes, off_tree_bytes);
    faults.unless(
        (entry.flags() & HAS_RANGE_DELETES != 0) == (deletes > 0)
            && (entry.flags() & HAS_OFF_TREE != 0) == off_tree,
        "the flags of a slice are not what it has",
    );
    faults
}
