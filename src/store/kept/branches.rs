//! Branches: lines beside the store's own, with newest versions of their own.
//!
//! What a branch's newest version is stands with its line in the system tree, so that it changes with a
//! checkpoint, and a commit to a branch is one. Beyond that a branch is a line as any other: names can be
//! given to its versions, others can begin at these, and deleting it takes apart what only it has.

use std::sync::Arc;

use super::edit::Edit;
use super::plan::Plan;
use super::reap::has_any;
use super::{NewLine, NewNode};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Birth, SequenceNumber};
use crate::snapshot::names::sequence_range;
use crate::snapshot::{Version, View};
use crate::space::kept::{
    Head, Line, NodeKey, branch_key, branches_range, decode_branch, encode_branch, line_key,
    parse_branch_key,
};
use crate::store::core::Core;
use crate::store::current::Changing;
use crate::store::gate::lock;
use crate::store::maintenance::Maintaining;

/// What happens to a branch with the next checkpoint.
#[derive(Clone, Debug)]
pub(super) enum BranchChange {
    /// It begins, with a name.
    Begins {
        name: Vec<u8>,
        line: u64,
        time_ms: u64,
    },
    /// It has another newest version.
    Goes { line: u64, head: Head },
    /// It ends, and its name goes.
    Ends { name: Vec<u8>, line: u64 },
}

/// What is known of a branch.
pub(in crate::store) struct BranchRecord {
    pub(in crate::store) name: Vec<u8>,
    pub(in crate::store) line: u64,
    pub(in crate::store) time_ms: u64,
}

/// The newest version of a branch as a node.
fn head_node(line: u64, head: &Head) -> NewNode {
    let generation = head.generation;
    NewNode::new(NodeKey { line, generation }, head.since, head.root)
}

impl Plan {
    pub(super) async fn change_branch(
        &mut self,
        names: &Arc<Version>,
        change: &BranchChange,
    ) -> Result<()> {
        match change {
            BranchChange::Begins {
                name,
                line,
                time_ms,
            } => self
                .edit
                .put(branch_key(name), encode_branch(*line, *time_ms)),
            BranchChange::Goes { line, head } => {
                let mut record = self.line(*line).await?;
                record.head = Some(*head);
                self.put_line(*line, &record);
            }
            BranchChange::Ends { name, line } => {
                self.edit.delete(branch_key(name));
                self.end_branch(names, *line).await?;
            }
        }
        Ok(())
    }

    /// The newest version of a branch becomes its last node, which goes unless it has a name.
    async fn end_branch(&mut self, names: &Arc<Version>, line: u64) -> Result<()> {
        let mut record = self.line(line).await?;
        let Some(head) = record.head.take() else {
            return Ok(());
        };
        self.put_line(line, &record);
        let node = head_node(line, &head);
        self.add(&node).await?;
        let mut record = self.line(line).await?;
        record.ended = true;
        self.put_line(line, &record);
        let (low, end) = sequence_range(line, head.since);
        if !has_any(names, &low, &end).await? {
            self.edit.put(node.key.reaped_key(), vec![1]);
        }
        Ok(())
    }
}

impl Core {
    fn branches_edit(&self) -> Edit {
        Edit::new(self.names().version().clone())
    }

    /// The branch of a name.
    pub(in crate::store) async fn branch(&self, name: &[u8]) -> Result<Option<BranchRecord>> {
        let found = self.branches_edit().get(&branch_key(name)).await?;
        let Some(found) = found else {
            return Ok(None);
        };
        let (line, time_ms) = decode_branch(&found)?;
        let name = name.to_vec();
        Ok(Some(BranchRecord {
            name,
            line,
            time_ms,
        }))
    }

    /// All branches.
    pub(in crate::store) async fn all_branches(&self) -> Result<Vec<BranchRecord>> {
        let edit = self.branches_edit();
        let (mut low, end) = branches_range();
        let mut branches = Vec::new();
        while let Some((key, value)) = edit.first(&low, &end).await? {
            let (line, time_ms) = decode_branch(&value)?;
            branches.push(BranchRecord {
                name: parse_branch_key(&key)?.to_vec(),
                line,
                time_ms,
            });
            low = key;
            low.extend_from_slice(&[0xff; 5]);
        }
        branches.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(branches)
    }

    /// The newest version of a branch. `NotFound` if it was deleted.
    pub(in crate::store) async fn branch_head(&self, line: u64) -> Result<Head> {
        let record = self.branches_edit().get(&line_key(line)).await?;
        let record = record.map(|record| Line::decode(&record)).transpose()?;
        let gone = || Error::new(ErrorKind::NotFound, "the branch was deleted");
        record.and_then(|record| record.head).ok_or_else(gone)
    }

    /// The newest version of a branch, to be read.
    pub(in crate::store) async fn branch_view(&self, line: u64) -> Result<View> {
        loop {
            let head = self.branch_head(line).await?;
            let pages = Arc::clone(&self.pages);
            let version = Version::new(pages, head.root, head.generation, [], head.since);
            // What it has goes only after the branch has gone on.
            if self.branch_head(line).await? == head {
                let bound = head.since;
                return Ok(View { version, bound });
            }
        }
    }

    /// Makes a node of the newest tree, which stays the newest: a line is to begin there. The caller is
    /// alone inside the gate, and all journals were flushed.
    pub(in crate::store) fn keep_newest(&self, state: &mut Maintaining) -> NodeKey {
        let mut current = self.current.change();
        self.keep_through(state, &mut current, self.published())
    }

    /// Makes a node of the newest tree if very many names are its own, because next to nothing was written
    /// between them: names since the newest node are in memory, and opening a store looks at them.
    pub(in crate::store) fn keep_for_many_names(&self, state: &mut Maintaining) {
        let mut current = self.current.change();
        let through = current.version().tree_through;
        if self.catalogue.has_many_names(through) {
            self.keep_through(state, &mut current, through);
        }
    }

    /// The newest tree, which has what was committed through a sequence, becomes a node, and stays the
    /// newest for what comes after.
    fn keep_through(
        &self,
        state: &mut Maintaining,
        current: &mut Changing<'_>,
        through: SequenceNumber,
    ) -> NodeKey {
        let version = current.version();
        let mut kept = lock(&self.kept);
        let key = NodeKey {
            line: kept.line,
            generation: version.birth,
        };
        let since = kept.since;
        kept.add(NewNode::new(key, since, version.root), &self.pages);
        kept.since = through.next();
        self.catalogue.forget_before(kept.since);
        // The same tree, as of a generation that the node is not of.
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        current.store(Version::new(
            Arc::clone(&self.pages),
            version.root,
            state.birth,
            version.journals.iter().cloned(),
            version.tree_through,
        ));
        key
    }

    /// Makes a node of the newest version of a branch, which stays that: a line is to begin there. Who
    /// gives a name to it later names another sequence.
    pub(in crate::store) fn keep_head(&self, state: &mut Maintaining, line: u64, head: Head) {
        state.birth = Birth(state.birth.0 + 1);
        self.pages.space.set_current(state.birth);
        let mut kept = lock(&self.kept);
        kept.add(head_node(line, &head), &self.pages);
        // The name at which the line begins has a later sequence than the commit that it names.
        let head = Head {
            generation: state.birth,
            since: head.since.next(),
            ..head
        };
        kept.branch_changes.push(BranchChange::Goes { line, head });
    }

    /// A branch begins at a node: its line.
    pub(in crate::store) fn begin_branch(
        &self,
        name: &[u8],
        parent: NodeKey,
        time_ms: u64,
        head: Head,
    ) -> u64 {
        let mut kept = lock(&self.kept);
        let line = kept.counters.line;
        kept.counters.line += 1;
        kept.new_lines.push(NewLine {
            line,
            parent,
            ends: None,
        });
        let name = name.to_vec();
        kept.branch_changes.extend([
            BranchChange::Begins {
                name,
                line,
                time_ms,
            },
            BranchChange::Goes { line, head },
        ]);
        line
    }

    /// A branch ends.
    pub(in crate::store) fn end_branch(&self, name: &[u8], line: u64) {
        let name = name.to_vec();
        let mut kept = lock(&self.kept);
        kept.branch_changes.push(BranchChange::Ends { name, line });
    }

    /// A branch has another newest version. The one before becomes a node if it has names.
    pub(in crate::store) async fn branch_goes(
        &self,
        line: u64,
        before: Head,
        head: Head,
    ) -> Result<()> {
        let (low, _) = sequence_range(line, before.since);
        let (end, _) = sequence_range(line, head.since);
        let named = has_any(self.names().version(), &low, &end).await?;
        let mut kept = lock(&self.kept);
        if named {
            kept.add(head_node(line, &before), &self.pages);
        }
        kept.branch_changes.push(BranchChange::Goes { line, head });
        Ok(())
    }
}
