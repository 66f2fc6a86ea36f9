//! Names of snapshots: whether each has its three entries, and each entry its name.
//!
//! Entries come and go with commits, so this goes over the system tree together with the log, as readers
//! do, and not over its pages.

use std::sync::Arc;

use super::verify::Examiner;
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::format::record::{SYSTEM_TREE, Tag};
use crate::log::replay::Replay;
use crate::snapshot::names::{NAMES_END, NameKey, Named};
use crate::snapshot::{Cursor, Direction, Find, Layered, Start, Stop};
use crate::space::catalogue::KINDS_END;
use crate::space::kept;
use crate::tree::journal::Journal;

impl Examiner<'_> {
    /// Looks at all names. Costs two look-ups for each of the three entries of a name at most.
    pub(super) async fn names(&mut self, replay: Option<&Replay>) -> Result<()> {
        match self.each_name(replay).await {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                self.incomplete = true;
                let error = error.while_doing("reading the names of snapshots");
                self.failed(&error, None)
            }
            result => result,
        }
    }

    async fn each_name(&mut self, replay: Option<&Replay>) -> Result<()> {
        let root = self.root;
        let journal = Journal::new(0);
        let newer = replay.into_iter().flat_map(Replay::commits);
        let newer = newer.filter(|commit| commit.sequence > root.applied_through);
        let newer = newer.map(|commit| (commit.records, commit.sequence));
        journal.append_all(newer, SYSTEM_TREE)?;
        // Without the log nobody knows which one it is.
        let last = replay.map_or(SequenceNumber(u64::MAX), Replay::last_sequence);
        let last = last.max(root.applied_through);
        let over = Layered::whole(self.version(root.system, Some(Arc::new(journal))));
        let mut cursor = Cursor::new(Direction::Forward, Start::At(vec![KINDS_END]));
        let mut loaded = Vec::new();
        loop {
            match cursor.step(&over)? {
                // What the names keep is looked at elsewhere.
                Stop::Entry if (NAMES_END..&[kept::KINDS_END]).contains(&cursor.key()) => {
                    let behind = Start::At(vec![kept::KINDS_END]);
                    cursor = Cursor::new(Direction::Forward, behind);
                    continue;
                }
                Stop::End => return Ok(()),
                Stop::Entry => loaded.clear(),
                Stop::Need(pointer, expect) => {
                    loaded.push(over.version().pages().load(&pointer, expect).await?);
                    continue;
                }
            }
            let key = cursor.key().to_vec();
            let (tag, payload) = cursor.stored(&over);
            let payload = payload.to_vec();
            if let Some(fault) = fault_of_name(&over, &key, tag, &payload, last).await? {
                self.failed(&Error::corrupt(fault), None)?;
            }
            let by_name = matches!(NameKey::parse(&key), Some(NameKey::Name { .. }));
            self.summary.snapshots += u64::from(by_name);
            self.progress()?;
        }
    }
}

/// What is wrong with an entry of the system tree that does not tell of space.
async fn fault_of_name(
    over: &Layered,
    key: &[u8],
    tag: Tag,
    payload: &[u8],
    last: SequenceNumber,
) -> Result<Option<String>> {
    let Some(parsed) = NameKey::parse(key) else {
        return Ok(Some("the system tree has a key that means nothing".into()));
    };
    let name = parsed.name().escape_ascii();
    let malformed = Ok(Some(format!(
        "an entry of the name \"{name}\" is malformed"
    )));
    if tag != Tag::Inline {
        return malformed;
    }
    if let NameKey::Name { name } = parsed {
        let Ok(named) = Named::from_value(payload) else {
            return malformed;
        };
        if named.sequence > last {
            return Ok(Some(format!(
                "the name \"{}\" is that of commit {}, but the last one is {}",
                name.escape_ascii(),
                named.sequence.0,
                last.0
            )));
        }
        for (key, value) in named.entries(name) {
            if over.find_stored(&key).await? != Some((Tag::Inline, value)) {
                return Ok(Some(format!(
                    "the name \"{}\" lacks an entry by time or by sequence",
                    name.escape_ascii()
                )));
            }
        }
        return Ok(None);
    }
    let by_name = NameKey::Name {
        name: parsed.name(),
    };
    let found = over.find_stored(&by_name.to_bytes()).await?;
    let named = found.and_then(|(_, value)| Named::from_value(&value).ok());
    let entries = named.map(|named| named.entries(parsed.name()));
    let is_one = entries.is_some_and(|entries| {
        entries
            .iter()
            .any(|(its, value)| its == key && value == payload)
    });
    Ok((!is_one).then(|| format!("there is an entry of the name \"{name}\", but not that name")))
}
