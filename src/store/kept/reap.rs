//! Taking nodes out that no name needs, and what only they reached.
//!
//! A node without a successor is taken apart: it ends a line. One with one successor is taken out of its line: what the successor dropped and was born after
//! the node before is free, the rest is listed for both together. That takes time in proportion to what
//! is freed and to the fewer of the two's lists, and each list is among the fewer a logarithmic number
//! of times at most. A node at which lines begin stays, *hollow*, until one successor is left. What is
//! free is taken off its lists in steps, some at each checkpoint.

use std::sync::Arc;

use super::edit::Thing;
use super::plan::{Plan, missing};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Birth, SequenceNumber};
use crate::snapshot::names::sequence_range;
use crate::snapshot::{Version, each_entry};
use crate::space::kept::{
    DESTROYED, DISCARDED, FREE, JournalPart, Listed, Node, NodeKey, chunks_of, decode_chunk,
    decode_generation, list_key, lists_after, lists_of, parse_list_key, parse_reaped_key,
    reaped_range, since_key, since_range, younger_range,
};
use crate::space::{Dropped, NO_LINE};

/// A key past all pieces of the thing that has this one.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.extend_from_slice(&[0xff; 5]);
    key
}

impl Plan {
    /// The node that has the tree of a sequence.
    pub(super) async fn node_of(
        &self,
        line: u64,
        sequence: SequenceNumber,
    ) -> Result<Option<NodeKey>> {
        let (low, end) = since_range(line, sequence);
        let Some((_, generation)) = self.edit.last(&low, &end).await? else {
            return Ok(None);
        };
        let generation = decode_generation(&generation)?;
        Ok(Some(NodeKey { line, generation }))
    }

    /// A name of a sequence was deleted. `names`: the system tree with the names that are left.
    /// `newest`: the line of the newest version, and the sequence since which its tree is the present.
    pub(super) async fn name_deleted(
        &mut self,
        names: &Arc<Version>,
        line: u64,
        sequence: SequenceNumber,
        newest: (u64, SequenceNumber),
    ) -> Result<()> {
        let Some(key) = self.node_of(line, sequence).await? else {
            // Deleted before, and the log told of it once more.
            return Ok(());
        };
        let node = self.node(key).await?;
        let next = self.node_from(line, Birth(key.generation.0 + 1)).await?;
        let until = match next {
            Some(next) => Some(self.node(next).await?.since),
            None if line == newest.0 => Some(newest.1),
            None => self.line(line).await?.head.map(|head| head.since),
        };
        if node.hollow || until.is_some_and(|until| sequence >= until) {
            return Ok(());
        }
        let (low, mut end) = sequence_range(line, node.since);
        if let Some(until) = until {
            end = sequence_range(line, until).0;
        }
        if has_any(names, &low, &end).await? {
            return Ok(());
        }
        self.edit.put(key.reaped_key(), vec![1]);
        Ok(())
    }

    /// Takes nodes out that no name needs, one after the other until one has to be taken apart; says
    /// whether there are more.
    pub(super) async fn reap_waiting(&mut self) -> Result<bool> {
        let (low, end) = reaped_range();
        while let Some((waiting, _)) = self.edit.first(&low, &end).await? {
            if self.destroying {
                return Ok(true);
            }
            self.edit.delete(waiting.clone());
            self.reap(parse_reaped_key(&waiting)?).await?;
        }
        Ok(false)
    }

    /// Takes out a node that no name needs, unless it is needed for more than one successor.
    async fn reap(&mut self, key: NodeKey) -> Result<()> {
        let mut node = self.node(key).await?;
        self.free_journal(key, &mut node).await?;
        let successors = self.successors(key).await?;
        let parent = self.parent(key).await?;
        match successors[..] {
            [] => self.destroy(key, &node, parent).await?,
            [successor] => {
                let holder = self.holder(successor).await?;
                self.move_lists(holder, parent, FREE).await?;
                let united = self.unite(holder, node.holder).await?;
                self.set_holder(successor, united).await?;
                self.pass_on_fork(key, parent).await?;
            }
            _ => {
                node.hollow = true;
                self.put_node(key, &node);
                return Ok(());
            }
        }
        self.edit.delete(key.key());
        self.edit.delete(since_key(key.line, node.since));
        if self.continuation(key.line, Birth(0)).await?.is_none()
            && let Some(parent) = parent
        {
            // Nothing is left of its line.
            self.edit.delete(parent.fork_key(key.line));
        }
        // It may have been all that was in the way of the one before.
        if let Some(parent) = parent
            && self.node(parent).await?.hollow
            && self.successors(parent).await?.len() <= 1
        {
            self.edit.put(parent.reaped_key(), vec![1]);
        }
        Ok(())
    }

    /// A node without a successor goes: what was born after the one before is only its own. That is
    /// found page by page; parts that turn out to be older belong to others.
    async fn destroy(&mut self, key: NodeKey, node: &Node, parent: Option<NodeKey>) -> Result<()> {
        let floor = parent.map_or(Birth(0), |parent| parent.generation);
        if !node.root.is_nothing() && (parent.is_none() || node.root.birth > floor) {
            self.destroying = true;
            self.freed.push(Listed {
                item: Dropped::Subtree(node.root),
                birth: node.root.birth,
                dropped_at: DESTROYED,
                line: key.line,
            });
        }
        // What the one before reaches and it does not, the one before reaches.
        self.move_lists(node.holder, None, DISCARDED).await
    }

    /// The line that begins at a node that goes begins at the one before from now on.
    async fn pass_on_fork(&mut self, key: NodeKey, parent: Option<NodeKey>) -> Result<()> {
        for line in self.forks(key).await? {
            self.edit.delete(key.fork_key(line));
            let mut record = self.line(line).await?;
            record.parent = parent;
            self.put_line(line, &record);
            if let Some(parent) = parent {
                self.edit.put(parent.fork_key(line), vec![1]);
            }
        }
        Ok(())
    }

    /// Nobody needs the commits that came after a node.
    async fn free_journal(&mut self, key: NodeKey, node: &mut Node) -> Result<()> {
        for number in 0..std::mem::take(&mut node.journals) {
            let at = key.journal_key(number);
            let part = self.edit.get(&at).await?;
            let part = JournalPart::decode(&part.ok_or_else(|| missing("a journal"))?)?;
            self.freed.push(Listed {
                item: Dropped::Extent(part.extent),
                // Whoever opens the node, and reads it, keeps this.
                birth: key.generation.min(part.birth),
                dropped_at: part.birth,
                line: NO_LINE,
            });
            self.edit.delete(at);
        }
        Ok(())
    }

    /// Moves lists of what was born after a node, or all, to another holder.
    async fn move_lists(&mut self, holder: u64, parent: Option<NodeKey>, to: u64) -> Result<()> {
        let (mut low, end) = match parent {
            Some(parent) => lists_after(holder, parent.generation),
            None => lists_of(holder),
        };
        while let Some((list, size)) = self.edit.first(&low, &end).await? {
            let (_, label, number) = parse_list_key(&list)?;
            self.edit.put(list_key(to, label, number), size);
            self.edit.delete(list.clone());
            low = after(list);
        }
        Ok(())
    }

    /// All lists of two holders under one of them: that which has more.
    async fn unite(&mut self, one: u64, other: u64) -> Result<u64> {
        let sides = [one, other];
        let mut at = sides.map(|holder| lists_of(holder).0);
        let mut found: [Vec<Thing>; 2] = Default::default();
        loop {
            for side in 0..2 {
                let (_, end) = lists_of(sides[side]);
                let Some((key, size)) = self.edit.first(&at[side], &end).await? else {
                    let into = sides[1 - side];
                    for (key, size) in std::mem::take(&mut found[side]) {
                        let (_, label, number) = parse_list_key(&key)?;
                        self.edit.delete(key);
                        self.edit.put(list_key(into, label, number), size);
                    }
                    return Ok(into);
                };
                at[side] = after(key.clone());
                found[side].push((key, size));
            }
        }
    }

    /// Takes about so many items off the lists of what is free; says whether there are more.
    pub(super) async fn drain(&mut self, items_max: usize) -> Result<bool> {
        let mut left = items_max;
        for holder in [FREE, DISCARDED] {
            let (low, end) = lists_of(holder);
            while let Some((list, _)) = self.edit.first(&low, &end).await? {
                let (_, _, number) = parse_list_key(&list)?;
                let (low, end) = chunks_of(number);
                while let Some((chunk, bytes)) = self.edit.first(&low, &end).await? {
                    if left == 0 {
                        return Ok(true);
                    }
                    let items = decode_chunk(&bytes)?;
                    left = left.saturating_sub(items.len().max(1));
                    if holder == FREE {
                        self.freed.extend(items);
                    }
                    self.edit.delete(chunk);
                }
                self.edit.delete(list);
            }
        }
        // Without nodes, it does not matter how old values are.
        let (low, end) = younger_range();
        while self.counters.newest.is_none()
            && let Some((age, _)) = self.edit.first(&low, &end).await?
        {
            if left == 0 {
                return Ok(true);
            }
            left -= 1;
            self.edit.delete(age);
        }
        Ok(false)
    }
}

/// Whether a version of the system tree has any entry in a range.
pub(super) async fn has_any(version: &Arc<Version>, low: &[u8], end: &[u8]) -> Result<bool> {
    let mut any = false;
    each_entry(version, low, end, |_, _, _| {
        any = true;
        Err(Error::new(ErrorKind::Cancelled, "one is enough"))
    })
    .await
    .or_else(|error| match any {
        true => Ok(()),
        false => Err(error),
    })?;
    Ok(any)
}
