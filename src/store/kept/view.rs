//! Reading a version that is kept by name.

use std::sync::{Arc, Weak};

use super::edit::Edit;
use super::journal::read_journal;
use super::plan::{Plan, missing};
use super::{Kept, NewNode};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::snapshot::{Version, View};
use crate::space::kept::{JournalPart, NodeKey};
use crate::store::core::Core;
use crate::store::gate::lock;
use crate::tree::journal::Journal;

/// How many versions that were opened are remembered before those that nobody reads are forgotten.
const OPENED_MAX: usize = 64;

/// A version that somebody may still read, and through which commit it has those behind its tree.
pub(super) struct Opened {
    version: Weak<Version>,
    through: SequenceNumber,
}

impl Kept {
    /// The tree of a sequence, if it is one that is not written down yet.
    fn new_node(&self, line: u64, sequence: SequenceNumber) -> Option<&NewNode> {
        let nodes = self.new_nodes.iter().rev();
        let mut of_line = nodes.filter(|node| node.key.line == line);
        of_line.find(|node| node.since <= sequence)
    }

    fn remember(&mut self, key: NodeKey, version: &Arc<Version>, through: SequenceNumber) {
        if self.opened.len() >= OPENED_MAX {
            self.opened
                .retain(|_, opened| opened.version.strong_count() > 0);
        }
        let version = Arc::downgrade(version);
        self.opened.insert(key, Opened { version, through });
    }

    /// The version of a node that somebody reads, if it has the commits through a sequence.
    fn opened(&self, key: NodeKey, sequence: SequenceNumber) -> Option<Arc<Version>> {
        let opened = self.opened.get(&key)?;
        let reaches = opened.through >= sequence;
        opened.version.upgrade().filter(|_| reaches)
    }
}

impl Core {
    /// The version of a sequence on a line, which a name keeps. `NotFound` if no name does any more.
    ///
    /// Costs a few lookups in the system tree; where the name stands between two trees, also reading the
    /// commits from the first of them on, at most [`NODE_JOURNAL_BYTES`](super::NODE_JOURNAL_BYTES) or those of a
    /// journal, unless somebody has them open.
    pub(in crate::store) async fn view_at(
        &self,
        line: u64,
        sequence: SequenceNumber,
    ) -> Result<View> {
        loop {
            if let Some(view) = self.present_view_at(line, sequence) {
                return Ok(view);
            }
            let system = *lock(&self.system);
            let edit = Edit::new(self.names_version());
            let plan = Plan::new(edit, Default::default(), 1);
            let gone = || Error::new(ErrorKind::NotFound, "the version is kept no longer");
            let head = plan.line(line).await?.head;
            if head.is_some_and(|head| sequence >= head.since) {
                return self.branch_view(line).await;
            }
            let key = plan.node_of(line, sequence).await?.ok_or_else(gone)?;
            let version = lock(&self.kept).opened(key, sequence);
            let is_new = version.is_none();
            let opened = match version {
                Some(version) => Ok(version),
                None => self.open_node(&plan, key, sequence).await,
            };
            // What a node reaches is free only after the system tree has it no longer: if that is
            // still the same one, the version has kept it in time.
            if *lock(&self.system) == system || self.has_node(key).await? {
                let version = opened?;
                if is_new {
                    lock(&self.kept).remember(key, &version, sequence);
                }
                let bound = sequence;
                return Ok(View { version, bound });
            }
        }
    }

    /// The version, if it is that of the newest tree, or of one that was the newest since the last
    /// checkpoint.
    fn present_view_at(&self, line: u64, sequence: SequenceNumber) -> Option<View> {
        // What replaces the newest version changes what is kept at the same time.
        let _changing = self.current.change();
        let mut kept = lock(&self.kept);
        if line == kept.line && sequence >= kept.since {
            let version = self.current.load_full();
            let bound = sequence;
            return Some(View { version, bound });
        }
        let node = kept.new_node(line, sequence)?;
        let (key, root, since, needed) = (node.key, node.root, node.since, node.needed);
        // A version has the newest first.
        let journals: Vec<_> = node.journals.iter().rev().cloned().collect();
        let version = kept.opened(key, sequence).unwrap_or_else(|| {
            let pages = Arc::clone(&self.pages);
            let version = Version::new(pages, root, key.generation, journals, since);
            kept.remember(key, &version, needed);
            version
        });
        Some(View {
            version,
            bound: sequence,
        })
    }

    async fn has_node(&self, key: NodeKey) -> Result<bool> {
        let edit = Edit::new(self.names_version());
        Ok(edit.get(&key.key()).await?.is_some())
    }

    /// The system tree, kept from being reused.
    fn names_version(&self) -> Arc<Version> {
        self.names().version().clone()
    }

    /// Reads a node with the commits through a sequence.
    async fn open_node(
        &self,
        plan: &Plan,
        key: NodeKey,
        through: SequenceNumber,
    ) -> Result<Arc<Version>> {
        let node = plan.node(key).await?;
        let mut parts = Vec::new();
        for number in 0..node.journals {
            let part = plan.edit.get(&key.journal_key(number)).await?;
            let part = part.ok_or_else(|| missing("a journal"))?;
            parts.push(JournalPart::decode(&part)?);
        }
        let pages = Arc::clone(&self.pages);
        // Before its commits are read, whose extents go with the rest of it.
        let kept = Version::new(
            Arc::clone(&pages),
            node.root,
            key.generation,
            [],
            node.since,
        );
        let journal: Option<Arc<Journal>> = match parts.is_empty() {
            true => None,
            false => Some(read_journal(&pages, &parts, through).await?),
        };
        let version = Version::new(pages, node.root, key.generation, journal, node.since);
        drop(kept);
        Ok(version)
    }
}
