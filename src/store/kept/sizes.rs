//! How much of the disk a version takes that a name keeps: what deleting the name would give back, and
//! what it shares.

use super::edit::Edit;
use super::plan::{Plan, Successor, missing};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Birth, SequenceNumber};
use crate::snapshot::each_entry;
use crate::snapshot::names::sequence_range;
use crate::space::Dropped;
use crate::space::kept::{JournalPart, ListSize, Node, NodeKey, lists_after, lists_of};
use crate::store::core::Core;
use crate::store::gate::lock;
use crate::tree::expand::expand;

/// See [`Core::sizes_at`].
pub(in crate::store) struct Sizes {
    pub(in crate::store) exclusive: u64,
    pub(in crate::store) content: u64,
}

impl Core {
    /// How many bytes of the disk only the version of a sequence reaches, and how many its content has.
    /// As of the last checkpoint.
    pub(in crate::store) async fn sizes_at(
        &self,
        line: u64,
        sequence: SequenceNumber,
    ) -> Result<Sizes> {
        let view = self.view_at(line, sequence).await?;
        let root = &view.version.root;
        let content = root.bytes.saturating_add(root.off_tree_bytes);
        let present = {
            let kept = lock(&self.kept);
            line == kept.line && sequence >= kept.since
        };
        if present {
            let exclusive = 0;
            return Ok(Sizes { exclusive, content });
        }
        let names = self.names().version().clone();
        let plan = Plan::new(Edit::new(names.clone()), Default::default(), 1);
        let exclusive = match plan.node_of(line, sequence).await? {
            Some(key) => {
                let node = plan.node(key).await?;
                let (low, mut end) = sequence_range(line, node.since);
                let next = plan.node_from(line, Birth(key.generation.0 + 1)).await?;
                if let Some(next) = next {
                    end = sequence_range(line, plan.node(next).await?.since).0;
                }
                let mut others = 0;
                let counted = each_entry(&names, &low, &end, |_, _, _| {
                    others += 1;
                    match others < 2 {
                        true => Ok(()),
                        false => Err(Error::new(ErrorKind::Cancelled, "two are enough")),
                    }
                });
                match counted.await {
                    Err(error) if error.kind() != ErrorKind::Cancelled => return Err(error),
                    _ if others >= 2 => 0,
                    _ => self.exclusive_of(&plan, key, &node).await?,
                }
            }
            None => 0,
        };
        Ok(Sizes { exclusive, content })
    }

    /// What would be given back without a node.
    async fn exclusive_of(&self, plan: &Plan, key: NodeKey, node: &Node) -> Result<u64> {
        let sector_bytes = u64::from(self.pages.disk.properties().sector_bytes);
        let mut bytes = 0u64;
        for number in 0..node.journals {
            let part = plan.edit.get(&key.journal_key(number)).await?;
            let part = JournalPart::decode(&part.ok_or_else(|| missing("a journal"))?)?;
            bytes += u64::from(part.extent.length).next_multiple_of(sector_bytes);
        }
        let parent = plan.parent(key).await?;
        let below = match plan.successors(key).await?[..] {
            [] => {
                let floor = parent.map_or(Birth(0), |parent| parent.generation);
                self.bytes_born_after(node, floor).await?
            }
            [successor] => bytes_listed(plan, successor, parent).await?,
            _ => 0,
        };
        Ok(bytes.saturating_add(below))
    }

    /// What a tree has that was born after a generation. Reads all of that.
    async fn bytes_born_after(&self, node: &Node, floor: Birth) -> Result<u64> {
        let sector_bytes = u64::from(self.pages.disk.properties().sector_bytes);
        let mut bytes = 0u64;
        let mut items = Vec::new();
        if node.root.birth > floor && !node.root.is_nothing() {
            items.push(Dropped::Subtree(node.root));
        }
        while let Some(item) = items.pop() {
            for (part, birth) in expand(&self.pages, &item).await? {
                if birth <= floor {
                    continue;
                }
                match part {
                    Dropped::Extent(extent) => {
                        bytes += u64::from(extent.length).next_multiple_of(sector_bytes);
                    }
                    part => items.push(part),
                }
            }
        }
        Ok(bytes)
    }
}

/// What stands on the lists of a successor and is reached by no node before the one that it follows.
async fn bytes_listed(plan: &Plan, successor: Successor, parent: Option<NodeKey>) -> Result<u64> {
    let holder = plan.holder(successor).await?;
    let (mut low, end) = match parent {
        Some(parent) => lists_after(holder, parent.generation),
        None => lists_of(holder),
    };
    let mut bytes = 0u64;
    while let Some((list, size)) = plan.edit.first(&low, &end).await? {
        bytes = bytes.saturating_add(ListSize::decode(&size)?.bytes);
        low = list;
        low.extend_from_slice(&[0xff; 5]);
    }
    Ok(bytes)
}
