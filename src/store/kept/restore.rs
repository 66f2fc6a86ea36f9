//! Restoring: the newest version becomes equal to one that a name keeps.
//!
//! No content is copied. The newest version becomes a node, which ends its line, and a new line begins at
//! the restored version's node. What that one's name needs of the journal behind the node is flushed on
//! top; that is all there is to write, whatever the size of the store or of the difference. The commit is
//! that of a large transaction, which has its tree from elsewhere.

use std::sync::Arc;

use super::{NewLine, NewNode};
use crate::format::SequenceNumber;
use crate::snapshot::Version;
use crate::space::kept::NodeKey;
use crate::store::core::Core;
use crate::store::gate::lock;

impl Core {
    /// The newest version ends its line, and another line begins at a node. The caller changes
    /// `Core::current`, and names the version that ended. `through`: the commit that restores.
    pub(in crate::store) fn fork_at(
        &self,
        parent: NodeKey,
        version: &Arc<Version>,
        through: SequenceNumber,
    ) {
        let mut kept = lock(&self.kept);
        let key = NodeKey {
            line: kept.line,
            generation: version.birth,
        };
        let node = NewNode::new(key, kept.since, version.root);
        kept.add(node, &self.pages);
        let line = kept.counters.line;
        kept.counters.line += 1;
        let ends = Some(kept.line);
        kept.new_lines.push(NewLine { line, parent, ends });
        (kept.line, kept.since) = (line, through);
        kept.lines.push((through, line));
        self.catalogue.forget_before(through);
        self.catalogue.set_line(line);
    }

    /// Whether the newest version's tree is that of a name.
    pub(in crate::store) fn is_present(&self, line: u64, sequence: SequenceNumber) -> bool {
        let kept = lock(&self.kept);
        line == kept.line && sequence >= kept.since
    }
}
