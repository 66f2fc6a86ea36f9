//! The runs of a node that is made anew: those of before for its new children, or in their place others.

use super::Flush;
use crate::error::{Error, Result};
use crate::tree::batches::SliceContents;
use crate::tree::interior::NodeParts;
use crate::tree::interior::{HAS_OFF_TREE, HAS_RANGE_DELETES, RunParts};
use crate::tree::operation::{Batch, lose};
use crate::tree::slice::Slice;

impl Flush<'_> {
    /// A run for the node's new children; slices without a live child are dropped.
    pub(super) fn remap(
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
    pub(super) fn limit_runs(
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
    pub(in crate::tree) fn rewrite(
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

/// The flags that a slice of a batch has in its node.
pub(in crate::tree) fn slice_flags(batch: &Batch<'_>) -> u32 {
    let mut flags = 0;
    if !batch.deletes.is_empty() {
        flags |= HAS_RANGE_DELETES;
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
