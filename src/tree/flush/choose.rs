//! Which children of a node get what is pending for them.

use super::Flush;
use crate::tree::interior::{NodeParts, PENDING_UNIT_BYTES};
use crate::tree::lineage::has_base;
use crate::tree::operation::Batch;

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

impl Flush<'_> {
    /// Which children get what is pending for them: the fat ones, and as many of the fattest others
    /// as it takes to keep the journal within its size.
    pub(super) fn choose(
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
