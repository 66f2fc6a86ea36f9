//! Versions that are kept by name: which trees they read, what only they reach, and how they are read
//! again.
//!
//! A name in the catalogue is a sequence on a line. As long as the tree of the newest version is that
//! of a name's time, with the name's own commits still in the root journals, a name costs nothing.
//! When a flush replaces the tree, and names are left behind, the old tree becomes a *node*
//! ([`Core::keep_tree`]): its root is written down with the next checkpoint, and so are the commits
//! that were flushed since, once for all names between this tree and the next one that is kept
//! ([`journal`]). That is usually the tree of the next checkpoint: those of the flushes between two
//! of them, with names or not, need neither be written nor kept from being used again.
//! What the new tree does not reach any more goes on lists, instead of being freed, if it was born
//! before the node ([`plan`], [`crate::space::kept`]). When a node has lost its last name it is
//! taken out, and what only it reached is free: see [`reap`]. Extents of values that were cloned
//! under other keys go through the same, once for each of them, before they are free: see [`clones`].
//!
//! All of it changes in checkpoints only, in one flush of the system tree with the names, so that a
//! root on the disk has all of a change or nothing.

mod branches;
mod clones;
mod edit;
mod journal;
mod lineage;
mod plan;
mod reap;
mod restore;
mod sizes;
mod view;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::catalogue::operations_of;
use super::checkpoint::system_operations;
use super::core::Core;
use super::gate::lock;
use super::maintenance::{Maintaining, Pace};
use super::open::system_version;
use crate::error::Result;
use crate::format::record::Tag;
use crate::format::{Birth, Extent, PagePointer, SequenceNumber};
use crate::snapshot::Version;
use crate::snapshot::names::NameKey;
use crate::space::kept::{
    Counters, JournalPart, Listed, NodeKey, Younger, counters_key, younger_range,
};
use crate::tree::journal::Journal;
use crate::tree::merge::stored_base;
use crate::tree::pages::Pages;
use branches::BranchChange;
use edit::Edit;
use plan::Plan;
use view::Opened;

pub(super) use lineage::Place;

/// How many items are taken off lists of what is free in one checkpoint.
const FREE_ITEMS: usize = 64 << 10;

/// How many bytes of commits a node has before the next flush begins another one: who opens a name
/// reads them.
const NODE_JOURNAL_BYTES: usize = 32 << 20;

/// A tree that names were left behind with, not written down yet.
#[derive(Clone)]
struct NewNode {
    key: NodeKey,
    since: SequenceNumber,
    root: PagePointer,
    /// The commits that came next, oldest first.
    journals: Vec<Arc<Journal>>,
    /// Through which of them they are needed.
    needed: SequenceNumber,
    /// The sequence through which the journals have everything, if those of the next flush may follow.
    open_at: Option<SequenceNumber>,
    /// Where they stand, once they were written.
    parts: Option<Vec<JournalPart>>,
}

impl NewNode {
    /// Only a tree: names of its own commit alone.
    fn new(key: NodeKey, since: SequenceNumber, root: PagePointer) -> Self {
        Self {
            key,
            since,
            root,
            journals: Vec::new(),
            needed: since,
            open_at: None,
            parts: None,
        }
    }

    /// Takes in the commits of the next flush, which are flushed through a sequence and needed through
    /// another one.
    fn push(&mut self, next: &Next<'_>, through: SequenceNumber, needed: SequenceNumber) {
        self.journals.push(Arc::clone(next.journal));
        self.needed = needed;
        // A journal that is flushed in parts is not as a whole before what follows. And what names an
        // off-tree value has to be in a tree: see [`Core::flushed_at_once`].
        let last = next.journal.last_sequence();
        let is_whole = last.is_none_or(|last| last <= through);
        self.open_at = (is_whole && !next.has_values).then_some(through);
    }

    /// Whether it can have the commits of the next flush, too, beginning after a sequence.
    fn goes_on(&self, line: u64, since: SequenceNumber, next: &Next<'_>) -> bool {
        let bytes: usize = self.journals.iter().map(|journal| journal.bytes()).sum();
        self.key.line == line
            && self.open_at == Some(since)
            && self.parts.is_none()
            && bytes + next.journal.bytes() <= NODE_JOURNAL_BYTES
            && !next.has_values
    }
}

/// The commits of a flush, for names between the tree before it and the one after it.
pub(super) struct Next<'j> {
    journal: &'j Arc<Journal>,
    /// Some name off-tree values, or nobody looked, as there are no names.
    has_values: bool,
}

/// A line that began, not written down yet.
#[derive(Clone, Copy)]
struct NewLine {
    line: u64,
    parent: NodeKey,
    /// The one that it takes the place of; `None`: it is a branch.
    ends: Option<u64>,
}

/// What an open store knows of the versions that it keeps.
pub(super) struct Kept {
    /// The line of the newest version.
    pub(super) line: u64,
    /// The newest tree has what was committed through this sequence, and what came right after it
    /// changed nothing or is still in the root journals.
    pub(super) since: SequenceNumber,
    /// Which lines were the store's own since it was opened, each from a sequence on.
    lines: Vec<(SequenceNumber, u64)>,
    counters: Counters,
    new_nodes: Vec<NewNode>,
    new_lines: Vec<NewLine>,
    /// What happened to branches since the last checkpoint.
    branch_changes: Vec<BranchChange>,
    /// Extents of values that a tree has since the last checkpoint, and how old it looks to versions
    /// that are kept.
    ages: Vec<(Extent, Option<Younger>)>,
    has_ages: bool,
    /// What values share since the last checkpoint with clones of them, and the births of those that
    /// they were cloned from.
    clones: Vec<(Extent, Birth)>,
    /// Versions that somebody reads.
    opened: HashMap<NodeKey, Opened>,
    /// Lists wait to be taken apart.
    more_to_free: bool,
    /// Nodes wait to be taken out until another one is taken apart.
    more_to_reap: bool,
}

impl Kept {
    /// What a root says, for a store that is being opened.
    pub(super) async fn load(
        pages: &Arc<Pages>,
        system: PagePointer,
        line: u64,
        since: SequenceNumber,
    ) -> Result<Self> {
        let edit = Edit::new(system_version(pages, system));
        let counters = match edit.get(&counters_key()).await? {
            Some(counters) => Counters::decode(&counters)?,
            None => Counters::default(),
        };
        pages.space.set_kept_through(counters.newest);
        pages.space.set_cloned_through(counters.cloned);
        Ok(Self {
            line,
            since,
            lines: vec![(SequenceNumber(0), line)],
            counters,
            new_nodes: Vec::new(),
            new_lines: Vec::new(),
            branch_changes: Vec::new(),
            ages: Vec::new(),
            has_ages: counters != Counters::default(),
            clones: Vec::new(),
            opened: HashMap::new(),
            // Nobody knows whether the last opening finished.
            more_to_free: counters != Counters::default(),
            more_to_reap: false,
        })
    }

    /// The newest generation of which a version is kept by name.
    pub(super) fn through(&self) -> Option<Birth> {
        self.counters.newest
    }

    /// A tree is kept from now on.
    fn add(&mut self, node: NewNode, pages: &Pages) {
        self.counters.newest = self.counters.newest.max(Some(node.key.generation));
        pages.space.set_kept_through(self.counters.newest);
        self.new_nodes.push(node);
    }
}

impl Core {
    /// What [`Self::keep_tree`] has to know of a journal that is flushed through a sequence: found out before
    /// committers are held up.
    pub(super) fn next_of<'j>(
        &self,
        journal: &'j Arc<Journal>,
        through: SequenceNumber,
    ) -> Next<'j> {
        let since = lock(&self.kept).since;
        let is_named = self.catalogue.newest_name(since, through).is_some();
        Next {
            journal,
            has_values: !is_named || first_value(journal).is_some(),
        }
    }

    /// The tree of a version is about to be replaced by one that has what was committed through a
    /// later sequence: if names are left behind, it becomes a node. `next`: the commits that the new
    /// tree has in addition. The caller changes `Core::current`.
    pub(super) fn keep_tree(
        &self,
        version: &Version,
        next: Option<&Next<'_>>,
        through: SequenceNumber,
    ) {
        let mut kept = lock(&self.kept);
        let newest_name = self.catalogue.newest_name(kept.since, through);
        self.catalogue.forget_before(through);
        if let Some(newest_name) = newest_name {
            let (line, since) = (kept.line, kept.since);
            match (kept.new_nodes.last_mut(), next) {
                (Some(last), Some(next)) if last.goes_on(line, since, next) => {
                    last.push(next, through, newest_name);
                }
                (_, next) => {
                    let generation = version.birth;
                    let key = NodeKey { line, generation };
                    let mut node = NewNode::new(key, since, version.root);
                    if let Some(next) = next {
                        node.push(next, through, newest_name);
                    }
                    kept.add(node, &self.pages);
                }
            }
        }
        kept.since = through;
    }

    /// Up to which commit a journal is flushed at once, if not as a whole. A name between two trees has the
    /// commits between them, but no off-tree values: those that a tree has are told from others by the
    /// generation, whichever nodes there are. So where a journal has values, it is flushed up to the
    /// next name, and that has a tree of its own.
    pub(super) fn flushed_at_once(&self, journal: &Journal) -> Option<SequenceNumber> {
        let (first, last) = (journal.first_sequence()?, journal.last_sequence()?);
        self.catalogue.first_name(first, last)?;
        self.catalogue.first_name(first_value(journal)?, last)
    }

    /// Extents of a value, born then, are in the tree that is about to be the newest, and in none before
    /// `since`. Their births may be those of kept versions, that of the root on the disk when they were
    /// written: this tells them apart.
    pub(super) fn note_ages(&self, extents: &[Extent], birth: Birth, since: Birth) {
        let mut kept = lock(&self.kept);
        let younger = Some(birth) <= kept.counters.newest;
        kept.has_ages |= younger;
        if !kept.has_ages {
            return;
        }
        for extent in extents {
            let age = younger.then_some(Younger {
                extent: *extent,
                birth,
                since,
            });
            kept.ages.push((*extent, age));
        }
    }

    /// The newest generation of which a version is kept by name.
    pub(super) fn kept_through(&self) -> Option<Birth> {
        lock(&self.kept).through()
    }

    /// Whether a checkpoint would free something that it did not before.
    pub(super) fn kept_is_due(&self) -> bool {
        let (free, reap) = {
            let kept = lock(&self.kept);
            (kept.more_to_free, kept.more_to_reap)
        };
        let space = &self.pages.space;
        free || space.lists_cloned() || space.lists_destroyed() || (reap && !space.is_destroying())
    }

    /// Writes down what changed of the versions that are kept, with the names that were frozen before
    /// the log was synced: the first part of publishing a root. `through`: what its trees have.
    pub(super) async fn write_kept(
        &self,
        state: &mut Maintaining,
        through: SequenceNumber,
    ) -> Result<()> {
        let names = self.catalogue.frozen();
        let nothing = {
            let kept = lock(&self.kept);
            kept.new_nodes.is_empty()
                && kept.ages.is_empty()
                && kept.clones.is_empty()
                && kept.branch_changes.is_empty()
                && !kept.more_to_free
                && !kept.more_to_reap
        };
        if nothing && names.is_empty() && !self.pages.space.has_listed() {
            return Ok(());
        }
        let destroying = self.pages.space.is_destroying();
        let listed = self.pages.space.take_listed();
        let result = self
            .write_kept_with(state, &names, &listed, destroying, through)
            .await;
        if result.is_err() {
            self.pages.space.put_back_listed(listed);
        }
        result
    }

    async fn write_kept_with(
        &self,
        state: &mut Maintaining,
        names: &[Arc<Journal>],
        listed: &[Listed],
        destroying: bool,
        through: SequenceNumber,
    ) -> Result<()> {
        // Those of a large transaction's way; the others were paced.
        self.write_journals(state, Pace::Hurried).await?;
        let new_nodes = lock(&self.kept).new_nodes.clone();
        let system = *lock(&self.system);
        let (counters, line, since, new_lines) = {
            let kept = lock(&self.kept);
            (kept.counters, kept.line, kept.since, kept.new_lines.clone())
        };
        let sector_bytes = self.pages.disk.properties().sector_bytes;
        let edit = Edit::new(system_version(&self.pages, system));
        let mut plan = Plan::new(edit, counters, sector_bytes);
        plan.destroying = destroying;
        for node in &new_nodes {
            plan.add(node).await?;
        }
        let clones = lock(&self.kept).clones.clone();
        plan.note_clones(&clones).await?;
        let ages = lock(&self.kept).ages.clone();
        let (low, end) = younger_range();
        plan.has_younger = plan.edit.first(&low, &end).await?.is_some();
        plan.note_ages(&ages).await?;
        for new in &new_lines {
            plan.begin_line(new.line, new.parent, new.ends).await?;
        }
        plan.list_all(listed).await?;
        let branch_changes = lock(&self.kept).branch_changes.clone();
        let names_after = Version::new(
            Arc::clone(&self.pages),
            system,
            system.birth,
            names.iter().cloned(),
            through,
        );
        for change in &branch_changes {
            plan.change_branch(&names_after, change).await?;
        }
        for (of, sequence) in deleted_names(names) {
            if of != line || sequence < since {
                plan.name_deleted(&names_after, of, sequence, (line, since))
                    .await?;
            }
        }
        let more_to_reap = plan.reap_waiting().await?;
        plan.set_newest().await?;
        let more_to_free = plan.drain(FREE_ITEMS).await?;
        let (freed, counters, edit) = plan.finish().await?;
        let operations = edit
            .into_operations(self.pages.settings.inline_bytes_max)
            .await?;
        let mut points: Vec<_> = operations_of(names, &self.pages.operators).collect();
        // Their keys are greater than those of names.
        points.extend(system_operations(&operations, through));
        self.flush_system(state, points, names.len(), through)?;
        {
            let mut kept = lock(&self.kept);
            // No flush of the user's tree came between.
            kept.new_nodes.clear();
            kept.new_lines.clear();
            kept.branch_changes.clear();
            kept.ages.clear();
            kept.clones.clear();
            kept.counters = counters;
            kept.more_to_free = more_to_free;
            kept.more_to_reap = more_to_reap;
        }
        let mut result = Ok(());
        for item in freed {
            // Whoever reads it began before the generation that says that nobody needs it.
            let freed = self.pages.space.free_kept(item, state.birth);
            result = result.and(freed);
        }
        self.pages.space.set_kept_through(counters.newest);
        self.pages.space.set_cloned_through(counters.cloned);
        state.more_to_free = true;
        result
    }

    /// Writes the commits of nodes that are to be written down.
    pub(super) async fn write_journals(&self, state: &Maintaining, pace: Pace) -> Result<()> {
        let nodes = lock(&self.kept).new_nodes.clone();
        for (index, node) in nodes.iter().enumerate() {
            if node.parts.is_none() {
                let parts = self.write_journals_of(state.birth, node, pace).await?;
                lock(&self.kept).new_nodes[index].parts = Some(parts);
            }
        }
        Ok(())
    }
}

/// The first commit of a journal that names an off-tree value.
fn first_value(journal: &Journal) -> Option<SequenceNumber> {
    journal.stamps().find_map(|stamp| {
        let entry = journal.entry_at(stamp);
        has_value(entry.tag, entry.payload).then_some(entry.sequence)
    })
}

/// Whether an operation names an off-tree value.
fn has_value(tag: Tag, payload: &[u8]) -> bool {
    match tag {
        Tag::OffTree => true,
        Tag::Merge => matches!(stored_base(payload), Some((Tag::OffTree, _))),
        _ => false,
    }
}

/// The names that journals take away: line and sequence of each.
fn deleted_names(names: &[Arc<Journal>]) -> BTreeSet<(u64, SequenceNumber)> {
    let mut deleted = BTreeSet::new();
    for journal in names {
        for stamp in journal.stamps() {
            let entry = journal.entry_at(stamp);
            if let (Tag::Delete, Some(NameKey::Sequence { line, sequence, .. })) =
                (entry.tag, NameKey::parse(entry.key))
            {
                deleted.insert((line, sequence));
            }
        }
    }
    deleted
}
