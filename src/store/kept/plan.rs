//! [`Plan`]: what a checkpoint does to nodes and lists, made up before anything is changed.
//!
//! Whatever a version of a line reached and its successor does not is *listed* under the successor's
//! holder, labelled with the first kept generation that reaches it: as generations are kept only while
//! they are the newest, the label says for ever which nodes reach it, whatever goes in between.

use std::collections::BTreeMap;

use super::NewNode;
use super::edit::Edit;
use crate::error::{Error, Result};
use crate::format::{Address, Birth, Extent, PagePointer};
use crate::space::Dropped;
use crate::space::kept::{
    CHUNK_ITEMS, Counters, Line, ListSize, Listed, Node, NodeKey, Younger, all_nodes_range,
    chunk_key, counters_key, encode_chunk, encode_generation, line_key, list_key, nodes_range,
    parse_fork_key, since_key, younger_before_end,
};
use crate::space::runs::bounds;
use crate::value::OffTree;

/// What comes after a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Successor {
    Node(NodeKey),
    /// The newest version of a line.
    Newest(u64),
}

/// Where something that was dropped belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fate {
    /// No node reaches it.
    Free,
    /// Nodes reach it; these holders belong to versions that follow them and do not.
    Listed(Vec<u64>, Birth),
    /// A node reaches it, and what dropped it is gone.
    Passed,
}

/// See the module.
pub(super) struct Plan {
    pub(super) edit: Edit,
    pub(super) counters: Counters,
    sector_bytes: u64,
    /// There are values that are younger than their births say.
    pub(super) has_younger: bool,
    /// There are extents that values under several keys have.
    pub(super) has_cloned: bool,
    /// What nothing that is kept by name reaches.
    pub(super) freed: Vec<Listed>,
    /// A version is being taken apart: no node may be taken out meanwhile.
    pub(super) destroying: bool,
}

/// What a record that must be there is missing for.
pub(super) fn missing(what: &str) -> Error {
    Error::corrupt(format!("{what} of the kept versions is missing"))
}

impl Plan {
    pub(super) fn new(edit: Edit, counters: Counters, sector_bytes: u32) -> Self {
        Self {
            edit,
            counters,
            sector_bytes: sector_bytes.into(),
            has_younger: false,
            has_cloned: counters.cloned.is_some(),
            freed: Vec::new(),
            destroying: false,
        }
    }

    /// What is freed, and the changes.
    pub(super) async fn finish(mut self) -> Result<(Vec<Listed>, Counters, Edit)> {
        let freed = std::mem::take(&mut self.freed);
        for listed in &freed {
            if let Dropped::Extent(extent) = listed.item {
                self.forget_younger(extent, Some(listed.birth)).await?;
            }
        }
        let freed = self.without_cloned(freed).await?;
        if self.counters != Counters::default() || self.has_cloned {
            self.edit.put(counters_key(), self.counters.encode());
        }
        Ok((freed, self.counters, self.edit))
    }

    /// Which generation is the newest that is kept.
    pub(super) async fn set_newest(&mut self) -> Result<()> {
        let (low, end) = all_nodes_range();
        if self.edit.first(&low, &end).await?.is_none() {
            self.counters.newest = None;
        } else if self.counters.line == Counters::default().line {
            let last = self.node_before(0, Birth(u64::MAX)).await?;
            self.counters.newest = last.map(|last| last.generation);
        }
        Ok(())
    }

    /// What trees have from now on that were values of commits before.
    pub(super) async fn note_ages(&mut self, ages: &[(Extent, Option<Younger>)]) -> Result<()> {
        for (extent, younger) in ages {
            self.note_age(*extent, younger.as_ref()).await?;
        }
        Ok(())
    }

    /// An extent that a tree has from now on; whether it is younger than its birth says matters only
    /// where something is kept.
    async fn note_age(&mut self, extent: Extent, younger: Option<&Younger>) -> Result<()> {
        self.forget_younger(extent, None).await?;
        if let Some(younger) = younger {
            self.edit.put(younger.key(), younger.encode());
            self.has_younger = true;
        }
        Ok(())
    }

    /// Nothing in an extent is younger than its birth says any more, or nothing of this birth. All of
    /// what is in it has one birth then: a clone of it, with another one, is as old as that says.
    async fn forget_younger(&mut self, extent: Extent, of: Option<Birth>) -> Result<()> {
        let (from, end) = bounds(extent);
        while self.has_younger
            && let Some(found) = self.last_younger(extent).await?
            && bounds(found.extent).1 > from
            && of.is_none_or(|of| of == found.birth)
        {
            self.edit.delete(found.key());
            let (before, behind) = bounds(found.extent);
            for (start, end) in [(before, from), (end, behind)] {
                if start < end {
                    let extent = Extent::new(Address::from_bits(start), (end - start) as u32);
                    let left = Younger { extent, ..found };
                    self.edit.put(left.key(), left.encode());
                }
            }
        }
        Ok(())
    }

    /// The last one that begins before the end of an extent.
    async fn last_younger(&self, extent: Extent) -> Result<Option<Younger>> {
        let (low, end) = younger_before_end(extent);
        let found = self.edit.last(&low, &end).await?;
        found
            .map(|(key, value)| Younger::decode(&key, &value))
            .transpose()
    }

    /// The generation of the first tree that had something.
    async fn born(&self, listed: &Listed) -> Result<Birth> {
        let extent = match &listed.item {
            Dropped::Extent(extent) => *extent,
            Dropped::Value(payload) => match OffTree::from_payload(payload) {
                Ok(value) => value.root.extent,
                Err(_) => return Ok(listed.birth),
            },
            Dropped::Subtree(_) => return Ok(listed.birth),
        };
        if !self.has_younger {
            return Ok(listed.birth);
        }
        let found = self.last_younger(extent).await?;
        let found = found.filter(|found| {
            bounds(found.extent).1 > bounds(extent).0 && found.birth == listed.birth
        });
        Ok(found.map_or(listed.birth, |found| found.since))
    }

    pub(super) async fn line(&self, line: u64) -> Result<Line> {
        match self.edit.get(&line_key(line)).await? {
            Some(bytes) => {
                let record = Line::decode(&bytes)?;
                // Or who goes from parent to parent might never come to an end.
                let parent = record.parent.map(|parent| parent.line);
                match parent.is_some_and(|parent| parent.max(record.origin) >= line) {
                    true => Err(Error::corrupt(
                        "a line of the kept versions begins at a later one",
                    )),
                    false => Ok(record),
                }
            }
            None if line == 0 => Ok(Line::FIRST),
            None => Err(missing("a line")),
        }
    }

    pub(super) fn put_line(&mut self, line: u64, record: &Line) {
        self.edit.put(line_key(line), record.encode());
    }

    pub(super) async fn node(&self, key: NodeKey) -> Result<Node> {
        let bytes = self.edit.get(&key.key()).await?;
        Node::decode(&bytes.ok_or_else(|| missing("a node"))?)
    }

    pub(super) fn put_node(&mut self, key: NodeKey, node: &Node) {
        self.edit.put(key.key(), node.encode());
    }

    /// The first node of a line from a generation on.
    pub(super) async fn node_from(&self, line: u64, from: Birth) -> Result<Option<NodeKey>> {
        let (low, end) = nodes_range(line, from, Birth(u64::MAX));
        let found = self.edit.first(&low, &end).await?;
        found.map(|(key, _)| NodeKey::parse(&key)).transpose()
    }

    /// The last node of a line before a generation.
    pub(super) async fn node_before(&self, line: u64, before: Birth) -> Result<Option<NodeKey>> {
        let (low, end) = nodes_range(line, Birth(0), before);
        let found = self.edit.last(&low, &end).await?;
        found.map(|(key, _)| NodeKey::parse(&key)).transpose()
    }

    /// The node before this one, be it on another line.
    pub(super) async fn parent(&self, key: NodeKey) -> Result<Option<NodeKey>> {
        match self.node_before(key.line, key.generation).await? {
            Some(before) => Ok(Some(before)),
            None => Ok(self.line(key.line).await?.parent),
        }
    }

    /// A node, or if it was taken out the nearest one before it.
    async fn nearest(&self, key: Option<NodeKey>) -> Result<Option<NodeKey>> {
        let Some(mut key) = key else {
            return Ok(None);
        };
        loop {
            if self.edit.get(&key.key()).await?.is_some() {
                return Ok(Some(key));
            }
            match self.parent(key).await? {
                Some(parent) => key = parent,
                None => return Ok(None),
            }
        }
    }

    /// What begins a line, or continues it from a generation on. `None`: nothing does.
    pub(super) async fn continuation(&self, line: u64, from: Birth) -> Result<Option<Successor>> {
        if let Some(node) = self.node_from(line, from).await? {
            return Ok(Some(Successor::Node(node)));
        }
        let ended = self.line(line).await?.ended;
        Ok((!ended).then_some(Successor::Newest(line)))
    }

    /// The lines that begin at a node.
    pub(super) async fn forks(&self, key: NodeKey) -> Result<Vec<u64>> {
        let (mut low, end) = key.forks_range();
        let mut lines = Vec::new();
        while let Some((fork, _)) = self.edit.first(&low, &end).await? {
            lines.push(parse_fork_key(&fork)?);
            low = fork;
            low.extend_from_slice(&[0xff; 5]);
        }
        Ok(lines)
    }

    /// Everything that follows a node directly.
    pub(super) async fn successors(&self, key: NodeKey) -> Result<Vec<Successor>> {
        let next = Birth(key.generation.0 + 1);
        let mut successors: Vec<_> = (self.continuation(key.line, next).await?)
            .into_iter()
            .collect();
        for line in self.forks(key).await? {
            let first = self.continuation(line, Birth(0)).await?;
            successors.push(first.ok_or_else(|| missing("a line that begins at a node"))?);
        }
        Ok(successors)
    }

    pub(super) async fn holder(&self, of: Successor) -> Result<u64> {
        Ok(match of {
            Successor::Node(key) => self.node(key).await?.holder,
            Successor::Newest(line) => self.line(line).await?.holder,
        })
    }

    pub(super) async fn set_holder(&mut self, of: Successor, holder: u64) -> Result<()> {
        match of {
            Successor::Node(key) => {
                let mut node = self.node(key).await?;
                node.holder = holder;
                self.put_node(key, &node);
            }
            Successor::Newest(line) => {
                let mut record = self.line(line).await?;
                record.holder = holder;
                self.put_line(line, &record);
            }
        }
        Ok(())
    }

    pub(super) fn new_holder(&mut self) -> u64 {
        let holder = self.counters.holder;
        self.counters.holder += 1;
        holder
    }

    /// The newest version of a line has become a node: what it dropped so far is the node's.
    pub(super) async fn add(&mut self, new: &NewNode) -> Result<()> {
        let mut line = self.line(new.key.line).await?;
        let holder = std::mem::replace(&mut line.holder, self.new_holder());
        self.put_line(new.key.line, &line);
        let parts = new.parts.as_deref().unwrap_or_default();
        let node = Node {
            since: new.since,
            root: new.root,
            holder,
            hollow: false,
            journals: parts.len() as u32,
        };
        self.put_node(new.key, &node);
        self.edit.put(
            since_key(new.key.line, new.since),
            encode_generation(new.key.generation),
        );
        for (number, part) in (0..).zip(parts) {
            self.edit.put(new.key.journal_key(number), part.encode());
        }
        Ok(())
    }

    /// A line begins at a node, in the place of another one.
    pub(super) async fn begin_line(
        &mut self,
        line: u64,
        parent: NodeKey,
        ends: Option<u64>,
    ) -> Result<()> {
        if let Some(ends) = ends {
            let mut ended = self.line(ends).await?;
            ended.ended = true;
            self.put_line(ends, &ended);
        }
        let record = Line {
            parent: Some(parent),
            origin: parent.line,
            forked_at: parent.generation,
            holder: self.new_holder(),
            ended: false,
            head: None,
        };
        self.put_line(line, &record);
        self.edit.put(parent.fork_key(line), vec![1]);
        Ok(())
    }

    /// Lists what nodes reach; the rest is free.
    pub(super) async fn list_all(&mut self, listed: &[Listed]) -> Result<()> {
        let mut alike: BTreeMap<(u64, Birth, Birth), Vec<&Listed>> = BTreeMap::new();
        for listed in listed {
            let born = self.born(listed).await?;
            let of = (listed.line, listed.dropped_at, born);
            alike.entry(of).or_default().push(listed);
        }
        let mut lists: BTreeMap<(u64, Birth), Vec<&Listed>> = BTreeMap::new();
        for ((line, dropped_at, born), alike) in alike {
            match self.fate(line, born, dropped_at).await? {
                Fate::Free => self.freed.extend(alike.into_iter().cloned()),
                Fate::Passed => {}
                Fate::Listed(holders, label) => {
                    for holder in holders {
                        lists.entry((holder, label)).or_default().extend(&alike);
                    }
                }
            }
        }
        for ((holder, label), items) in lists {
            self.write_list(holder, label, &items);
        }
        Ok(())
    }

    pub(super) fn write_list(&mut self, holder: u64, label: Birth, items: &[&Listed]) {
        let list = self.counters.list;
        self.counters.list += 1;
        let bytes = items.iter().map(|listed| self.bytes_of(&listed.item));
        let size = ListSize {
            items: items.len() as u64,
            bytes: bytes.fold(0, u64::saturating_add),
        };
        self.edit.put(list_key(holder, label, list), size.encode());
        for (number, some) in (0..).zip(items.chunks(CHUNK_ITEMS)) {
            let some: Vec<Listed> = some.iter().map(|&listed| listed.clone()).collect();
            self.edit.put(chunk_key(list, number), encode_chunk(&some));
        }
    }

    /// About how many bytes of the disk something takes.
    fn bytes_of(&self, item: &Dropped) -> u64 {
        match item {
            Dropped::Extent(extent) => u64::from(extent.length).next_multiple_of(self.sector_bytes),
            Dropped::Subtree(pointer) => bytes_below(pointer),
            Dropped::Value(payload) => {
                OffTree::from_payload(payload).map_or(0, |value| value.length)
            }
        }
    }

    /// What becomes of something that a generation of a line dropped.
    async fn fate(&self, line: u64, birth: Birth, dropped_at: Birth) -> Result<Fate> {
        let own = self.node_before(line, dropped_at).await?;
        let record = self.line(line).await?;
        let node = match own {
            Some(node) => Some(node),
            None => self.nearest(record.parent).await?,
        };
        let Some(node) = node else {
            return Ok(Fate::Free);
        };
        if node.generation < birth {
            return Ok(Fate::Free);
        }
        // What follows the node on the way to what dropped it.
        let next = match own {
            Some(node) => {
                let next = Birth(node.generation.0 + 1);
                self.continuation(line, next).await?
            }
            None => self.continuation(line, Birth(0)).await?,
        };
        let mut holders = Vec::new();
        match next {
            Some(next) => holders.push(self.holder(next).await?),
            // That is gone, but for lines that left the line behind it.
            None => {
                for fork in self.forks(node).await? {
                    if self.left_behind(fork, line, dropped_at).await?
                        && let Some(first) = self.continuation(fork, Birth(0)).await?
                    {
                        holders.push(self.holder(first).await?);
                    }
                }
            }
        }
        if holders.is_empty() {
            return Ok(Fate::Passed);
        }
        Ok(Fate::Listed(holders, self.label(node, birth).await?))
    }

    /// Whether a line left another one, be it by way of others, at a generation or behind it. The node that
    /// it begins at does not tell, once nodes in between were taken out.
    async fn left_behind(&self, mut line: u64, of: u64, generation: Birth) -> Result<bool> {
        while line > of {
            let record = self.line(line).await?;
            if record.origin == of {
                return Ok(record.forked_at >= generation);
            }
            if record.origin >= line {
                break;
            }
            line = record.origin;
        }
        Ok(false)
    }

    /// The first kept generation on the way to a node that reaches what was born then.
    async fn label(&self, node: NodeKey, birth: Birth) -> Result<Birth> {
        let mut line = node.line;
        loop {
            match self.line(line).await?.parent {
                Some(parent) if parent.generation >= birth => line = parent.line,
                _ => {
                    let first = self.node_from(line, birth).await?;
                    return Ok(first.map_or(node.generation, |first| first.generation));
                }
            }
        }
    }
}

/// About how many bytes of the disk a subtree takes.
fn bytes_below(pointer: &PagePointer) -> u64 {
    pointer.bytes.saturating_add(pointer.off_tree_bytes)
}
