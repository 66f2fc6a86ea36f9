//! Reading a snapshot that has a name: the version that has what was committed through its sequence.

use super::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::snapshot::View;

impl Core {
    /// The store as of a sequence of a line.
    pub(super) async fn view_at(&self, line: u64, sequence: SequenceNumber) -> Result<View> {
        let view = self.view();
        let version = view.version;
        if line != self.catalogue.line() || sequence < version.tree_through {
            let message = format!("the tree has gone past commit {}", sequence.0);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(View {
            version,
            bound: sequence,
        })
    }
}
