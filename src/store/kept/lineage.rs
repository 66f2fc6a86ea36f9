//! What two versions have in common, wherever their lines parted: for diffs.

use crate::error::Result;
use crate::format::SequenceNumber;
use crate::space::kept::{Line, Node, line_key};
use crate::store::core::Core;
use crate::store::gate::lock;

use super::edit::Edit;

/// A version: a line, and the newest commit that it has.
pub(in crate::store) type Place = (u64, SequenceNumber);

impl Core {
    /// The line of a version that was the newest one of the store since it was opened. A sequence is
    /// that of one commit on one line.
    pub(in crate::store) fn line_of(&self, sequence: SequenceNumber) -> u64 {
        let kept = lock(&self.kept);
        let began = kept.lines.iter().rev();
        let mut began = began.filter(|(since, _)| *since <= sequence);
        began.next().map_or(kept.line, |(_, line)| *line)
    }

    /// A sequence through which two versions have the same commits, if need be an earlier one than the
    /// last. Costs some look-ups in the system tree for each line that began since.
    pub(in crate::store) async fn last_in_common(
        &self,
        mut one: Place,
        mut other: Place,
    ) -> Result<SequenceNumber> {
        while one.0 != other.0 {
            // Lines are numbered as they begin: of two, only the later one may have begun at the other.
            let later = if one.0 > other.0 {
                &mut one
            } else {
                &mut other
            };
            match self.origin(later.0).await? {
                Some((line, since)) => *later = (line, later.1.min(since)),
                // Nobody knows any more: nothing is in common.
                None => return Ok(SequenceNumber(0)),
            }
        }
        Ok(one.1.min(other.1))
    }

    /// The node at which a line began.
    async fn origin(&self, line: u64) -> Result<Option<Place>> {
        let edit = Edit::new(self.names().version().clone());
        let new_parent = {
            let kept = lock(&self.kept);
            let mut lines = kept.new_lines.iter();
            lines.find(|new| new.line == line).map(|new| new.parent)
        };
        let parent = match new_parent {
            Some(parent) => Some(parent),
            None => match edit.get(&line_key(line)).await? {
                Some(record) => Line::decode(&record)?.parent,
                None => None,
            },
        };
        let Some(parent) = parent.filter(|parent| parent.line < line) else {
            return Ok(None);
        };
        let new_since = {
            let kept = lock(&self.kept);
            let mut nodes = kept.new_nodes.iter();
            nodes.find(|node| node.key == parent).map(|node| node.since)
        };
        let since = match new_since {
            Some(since) => Some(since),
            None => match edit.get(&parent.key()).await? {
                Some(node) => Some(Node::decode(&node)?.since),
                None => None,
            },
        };
        Ok(since.map(|since| (parent.line, since)))
    }
}
