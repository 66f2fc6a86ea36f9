//! References that lead to no value. Nothing is wrong with the file then, so each is a note.
//!
//! Whether a reference leads somewhere depends on everything that is pending above the leaves, and in
//! the log. So this goes over the newest version as readers do, and not over its pages.

use std::sync::Arc;

use super::verify::Examiner;
use crate::error::{ErrorKind, Result};
use crate::format::record::USER_TREE;
use crate::log::replay::Replay;
use crate::snapshot::{Cursor, Direction, Layered, Start, Stop, target_of, way_of};
use crate::tree::journal::Journal;

impl Examiner<'_> {
    /// Follows all references and tells of those that lead to no value. Costs reading all leaves once
    /// more, if there are references, and one `get` for each on the way.
    pub(super) async fn references(&mut self, replay: &Replay) -> Result<()> {
        if self.summary.user.references == 0 {
            return Ok(());
        }
        if self.incomplete || !self.summary.is_sound() {
            return self.note("references were not followed: not all of the store could be read");
        }
        match self.follow_all(replay).await {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                self.note(format!("not all references could be followed: {error}"))
            }
            result => result,
        }
    }

    async fn follow_all(&mut self, replay: &Replay) -> Result<()> {
        let root = self.root;
        let journal = Journal::new(0);
        let newer = replay.commits();
        let newer = newer.filter(|commit| commit.sequence > root.applied_through);
        let newer = newer.map(|commit| (commit.records, commit.sequence));
        journal.append_all(newer, USER_TREE)?;
        let over = Layered::whole(self.version(root.user, Some(Arc::new(journal))));
        let mut cursor = Cursor::new(Direction::Forward, Start::Outermost);
        let mut loaded = Vec::new();
        loop {
            match cursor.step(&over)? {
                Stop::End => return Ok(()),
                Stop::Entry => loaded.clear(),
                Stop::Need(pointer, expect) => {
                    loaded.push(over.version().pages().load(&pointer, expect).await?);
                    continue;
                }
            }
            let (tag, payload) = cursor.stored(&over);
            if target_of(tag, payload).is_none() {
                continue;
            }
            let (key, stored) = (cursor.key().to_vec(), (tag, payload.to_vec()));
            match way_of(&over, &[], &key, stored).await {
                Err(error) if error.kind() == ErrorKind::BrokenReference => {
                    self.note(error.to_string())?;
                }
                way => drop(way?),
            }
        }
    }
}
