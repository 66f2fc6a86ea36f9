//! The way over a tree: depth first, from the left, with no more in memory than the nodes above.

use super::verify::{Examiner, Part};
use crate::error::Result;
use crate::format::PagePointer;
use crate::format::record::{KEY_BYTES_MAX, Tag};
use crate::snapshot::target_of;
use crate::space::audit::Holder;
use crate::tree::interior::Interior;
use crate::tree::merge::{is_well_formed, off_tree_in};
use crate::tree::page::Page;
use crate::tree::pages::Expect;

/// The keys that a node may have: the first one, and the first one past it.
#[derive(Clone, Debug, Default)]
pub(super) struct Fences {
    pub(super) low: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

impl Fences {
    pub(super) fn admit(&self, key: &[u8]) -> bool {
        *self.low <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Those of a child of a node that has these.
    pub(super) fn of_child(&self, node: &Interior<'_>, child: usize) -> Self {
        Self {
            low: match child.checked_sub(1) {
                Some(separator) => node.page.key(separator),
                None => self.low.clone(),
            },
            end: match child + 1 < node.children() {
                true => Some(node.page.key(child)),
                false => self.end.clone(),
            },
        }
    }
}

/// A node on the way down.
struct Step {
    bytes: Vec<u8>,
    fences: Fences,
    next_child: usize,
}

/// The off-tree values that an operation or entry holds.
pub(super) fn values_in(tag: Tag, payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (own, chain) = match tag {
        Tag::OffTree => (Some(payload), None),
        Tag::Merge => (None, Some(payload)),
        _ => (None, None),
    };
    own.into_iter()
        .chain(chain.into_iter().flat_map(off_tree_in))
}

/// What is wrong with what is stored under a tag.
pub(super) fn fault_of(tag: Tag, payload: &[u8]) -> Option<&'static str> {
    match tag {
        Tag::Merge if !is_well_formed(payload) => Some("a chain of merge operands is malformed"),
        Tag::Delete if !payload.is_empty() => Some("a deletion has a payload"),
        _ if target_of(tag, payload).is_some_and(|target| target.len() > KEY_BYTES_MAX) => {
            Some("a reference names a key that is too long")
        }
        _ => None,
    }
}

impl Examiner<'_> {
    /// Reads a whole tree, or a subtree that was dropped.
    pub(super) async fn walk(&mut self, part: Part, root: &PagePointer) -> Result<()> {
        let mut path: Vec<Step> = Vec::new();
        if !root.is_nothing() {
            path.extend(
                self.enter(part, root, Expect::Root, Fences::default())
                    .await?,
            );
        }
        while let Some(step) = path.last_mut() {
            let node = Interior::new(&step.bytes);
            let child = step.next_child;
            if child == node.children() {
                path.pop();
                continue;
            }
            step.next_child += 1;
            let pointer = node.pointer(child);
            let expect = Expect::Level(node.page.level() - 1);
            let fences = step.fences.of_child(&node, child);
            path.extend(self.enter(part, &pointer, expect, fences).await?);
        }
        Ok(())
    }

    /// Reads and checks one node with what belongs to it alone. `None`: there is nothing below it.
    async fn enter(
        &mut self,
        part: Part,
        pointer: &PagePointer,
        expect: Expect,
        fences: Fences,
    ) -> Result<Option<Step>> {
        let Some(bytes) = self.page(pointer, expect).await? else {
            return Ok(None);
        };
        let level = Page::new(&bytes).level();
        let tally = self.tally(part);
        tally.levels = tally.levels.max(u32::from(level) + 1);
        tally.page_bytes += bytes.len() as u64;
        if level == 0 {
            tally.leaves += 1;
            self.leaf(part, pointer, &bytes, &fences).await?;
            self.progress()?;
            return Ok(None);
        }
        tally.interior_nodes += 1;
        self.node(part, pointer, &bytes, &fences).await?;
        self.progress()?;
        Ok(Some(Step {
            bytes,
            fences,
            next_child: 0,
        }))
    }

    /// Reads the off-tree values that a page holds; gives the sum of their lengths.
    pub(super) async fn values_of(
        &mut self,
        part: Part,
        pointer: &PagePointer,
        payloads: &[Vec<u8>],
    ) -> Result<u64> {
        let mut sum = 0u64;
        for payload in payloads {
            let at = pointer.extent();
            let Some(value) = self.value(payload, Holder::Root, Some(at)).await? else {
                continue;
            };
            if value.root.birth > pointer.birth {
                self.damage(
                    at,
                    "an off-tree value is younger than the page that names it",
                )?;
            }
            let tally = self.tally(part);
            tally.values += 1;
            tally.value_bytes = tally.value_bytes.saturating_add(value.length);
            sum = sum.saturating_add(value.length);
            self.progress()?;
        }
        Ok(sum)
    }
}
