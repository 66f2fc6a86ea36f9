//! What `verify` tells: findings, and a summary of what it read.

use std::fmt;

use crate::format::Extent;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Severity {
    /// Worth knowing; nothing is wrong with what is stored.
    Note,
    /// Space is in use for nothing: nothing is lost but the room.
    Leak,
    /// Something cannot be read, or contradicts something else. What was stored there may be lost.
    Damage,
}

/// One thing that `verify` found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is, if it is at one place.
    pub extent: Option<Extent>,
    /// What it is, for people.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Leak => "leak",
            Severity::Damage => "damage",
        };
        write!(f, "{severity}: {}", self.message)?;
        match self.extent {
            Some(extent) => write!(f, " (at {extent})"),
            None => Ok(()),
        }
    }
}

/// What one tree consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TreeSummary {
    /// Levels of nodes; 0 in an empty tree.
    pub levels: u32,
    /// Leaves.
    pub leaves: u64,
    /// Interior nodes.
    pub interior_nodes: u64,
    /// Slices of journals.
    pub slices: u64,
    /// Bytes of all these pages, not rounded to sectors.
    pub page_bytes: u64,
    /// Entries of the leaves. Operations that are still pending above may hide or add some.
    pub entries: u64,
    /// Operations pending in journals.
    pub unresolved: u64,
    /// Off-tree values, pending ones included.
    pub values: u64,
    /// The lengths of the off-tree values.
    pub value_bytes: u64,
    /// Entries and pending operations that are references to other keys.
    pub references: u64,
}

impl TreeSummary {
    /// The pages of all kinds, summed up.
    pub fn pages(&self) -> u64 {
        self.leaves + self.interior_nodes + self.slices
    }
}

/// What a store consists of, as far as it could be read, and how many findings there were.
/// [`Store::verify`](crate::Store::verify) has an example.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The user's tree.
    pub user: TreeSummary,
    /// The system tree.
    pub system: TreeSummary,
    /// What only versions that names keep reach: the newest is not among them.
    pub kept: TreeSummary,
    /// Versions that names keep, and the newest ones of branches.
    pub kept_versions: u64,
    /// What was deleted and waits for its space to be given back.
    pub pending: TreeSummary,
    /// Subtrees and values that `pending` sums up.
    pub pending_items: u64,
    /// Groups of commits in the log, from where replay starts.
    pub log_groups: u64,
    /// Commits in the log, from where replay starts.
    pub log_commits: u64,
    /// Of these, the commits that the trees do not contain yet.
    pub log_commits_unapplied: u64,
    /// Bytes in use on the disk, in whole sectors, the log included.
    pub bytes_in_use: u64,
    /// Snapshots that have names.
    pub snapshots: u64,
    /// Findings that are notes.
    pub notes: u64,
    /// Findings that are leaks.
    pub leaks: u64,
    /// Findings that are damage.
    pub damages: u64,
}

impl Summary {
    /// Whether there is no damage. Leaks and notes do not matter to what is stored.
    pub fn is_sound(&self) -> bool {
        self.damages == 0
    }
}

/// What is told while `verify` reads.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// Something was found.
    Finding(&'e Finding),
    /// This was read so far: after every page, value and part of the log.
    Progress(&'e Summary),
}
