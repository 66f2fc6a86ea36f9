//! [`Naming`]: what a commit does to names of snapshots.
//!
//! A snapshot is saved with the sequence of the very commit that saves it, which is known only when it is
//! about to be written. So a commit carries what it is to do, and becomes records then; how many bytes
//! these take is known before.
//!
//! Whoever saves, renames or deletes has the names concerned to himself from before he looks whether they
//! are there until his commit is published: so what he found is exact. Names are taken inside the gate
//! only, all of a commit at once, so nobody waits for one who waits for him.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::select;

use super::core::Core;
use super::gate::lock;
use super::signal::Signal;
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::format::record::Tag;
use crate::snapshot::names::{NAME_BYTES_MAX, Named, callers_bytes_max};

/// How much of a name a message shows.
const SHOWN_BYTES: usize = 64;

/// A name as it is shown in messages.
pub(super) fn shown(name: &[u8]) -> String {
    let shown = &name[..name.len().min(SHOWN_BYTES)];
    let more = if shown.len() < name.len() { "…" } else { "" };
    format!("\"{}{more}\"", shown.escape_ascii())
}

/// What is done to one name.
pub(super) enum NameChange {
    /// It is given to what the commit makes of the store.
    Save {
        name: Vec<u8>,
        time_ms: u64,
        bytes: Vec<u8>,
    },
    /// It is given to a snapshot that has another one.
    Give { name: Vec<u8>, named: Named },
    /// It is taken from a snapshot, which has another one from now on.
    Take { name: Vec<u8>, named: Named },
    /// It is taken from a snapshot, which goes.
    Delete { name: Vec<u8>, named: Named },
}

impl NameChange {
    fn records_bytes(&self) -> usize {
        let (tag, name, bytes) = match self {
            Self::Save { name, bytes, .. } => (Tag::Inline, name, bytes),
            Self::Give { name, named } => (Tag::Inline, name, &named.bytes),
            Self::Take { name, named } | Self::Delete { name, named } => {
                (Tag::Delete, name, &named.bytes)
            }
        };
        Named::records_bytes(tag, name.len(), bytes.len())
    }
}

/// What a commit does to names.
pub(super) struct Naming {
    /// The line of versions that is committed to.
    pub(super) line: u64,
    pub(super) changes: Vec<NameChange>,
    /// Of its records.
    bytes: usize,
    /// The records, once the sequence of the commit is known.
    pub(super) sealed: Option<Bytes>,
    /// The records are in the catalogue's journal already.
    pub(super) entered: bool,
    _taken: TakenNames,
}

impl Naming {
    pub(super) fn new(line: u64, changes: Vec<NameChange>, taken: TakenNames) -> Box<Self> {
        let mut naming = Self {
            line,
            changes,
            bytes: 0,
            sealed: None,
            entered: false,
            _taken: taken,
        };
        naming.bytes = naming.changes.iter().map(NameChange::records_bytes).sum();
        Box::new(naming)
    }

    fn encode(&mut self, sequence: SequenceNumber) -> Vec<u8> {
        let mut records = Vec::with_capacity(self.bytes);
        for change in &mut self.changes {
            match change {
                NameChange::Save {
                    name,
                    time_ms,
                    bytes,
                } => {
                    let named = Named {
                        line: self.line,
                        sequence,
                        time_ms: *time_ms,
                        bytes: std::mem::take(bytes),
                    };
                    named.append_to(name, &mut records);
                    *bytes = named.bytes;
                }
                NameChange::Give { name, named } => named.append_to(name, &mut records),
                NameChange::Take { name, named } | NameChange::Delete { name, named } => {
                    named.append_removal_to(name, &mut records);
                }
            }
        }
        records
    }

    /// When what it saves was saved.
    pub(super) fn time_ms(&self) -> u64 {
        let times = self.changes.iter().map(|change| match change {
            NameChange::Save { time_ms, .. } => *time_ms,
            NameChange::Give { named, .. }
            | NameChange::Take { named, .. }
            | NameChange::Delete { named, .. } => named.time_ms,
        });
        times.max().unwrap_or_default()
    }

    /// How many bytes of records it adds to its commit.
    pub(super) fn bytes_to_come(&self) -> usize {
        match self.sealed {
            None => self.bytes,
            Some(_) => 0,
        }
    }

    /// Makes it records of the commit with this sequence.
    pub(super) fn seal(&mut self, sequence: SequenceNumber) -> Bytes {
        let records = Bytes::from(self.encode(sequence));
        debug_assert_eq!(records.len(), self.bytes, "a sequence has one length");
        self.sealed = Some(records.clone());
        records
    }
}

/// Names that somebody has to himself.
#[derive(Default)]
pub(super) struct Names {
    taken: Mutex<BTreeSet<Vec<u8>>>,
    given_back: Signal,
}

/// Some of them, until dropped.
pub(super) struct TakenNames {
    of: Arc<Names>,
    names: Vec<Vec<u8>>,
}

impl Names {
    /// All of them or none.
    fn try_take(self: &Arc<Self>, names: &mut Vec<Vec<u8>>) -> Option<TakenNames> {
        let mut taken = lock(&self.taken);
        if names.iter().any(|name| taken.contains(name)) {
            return None;
        }
        taken.extend(names.iter().cloned());
        Some(TakenNames {
            of: Arc::clone(self),
            names: std::mem::take(names),
        })
    }
}

impl TakenNames {
    pub(super) fn names(&self) -> &[Vec<u8>] {
        &self.names
    }
}

impl Drop for TakenNames {
    fn drop(&mut self) {
        let mut taken = lock(&self.of.taken);
        for name in &self.names {
            taken.remove(name);
        }
        drop(taken);
        self.of.given_back.give();
    }
}

/// A snapshot that a commit is to save: its name, and the caller's bytes.
pub(super) type Saved = (Vec<u8>, Vec<u8>);

/// More than the bytes of the records that save them.
pub(super) fn saved_bytes(saved: &[Saved]) -> usize {
    const HEADS: usize = 128;
    let bytes = saved.iter();
    bytes
        .map(|(name, bytes)| 3 * name.len() + 2 * bytes.len() + HEADS)
        .sum()
}

impl Core {
    /// Waits until nobody else has some names. The caller is inside the gate.
    pub(super) async fn take_names(self: &Arc<Self>, mut names: Vec<Vec<u8>>) -> TakenNames {
        let all = &self.catalogue.names;
        loop {
            let (count, work) = (all.given_back.count(), self.work.count());
            if let Some(taken) = all.try_take(&mut names) {
                return taken;
            }
            // Who has one of them may have lost interest in his commit. Of others, who go on
            // committing, there may be no end.
            let finishing = Box::pin(async {
                self.finish_groups().await;
                self.work.after(work).await;
            });
            select(all.given_back.after(count), finishing).await;
        }
    }

    /// What a commit that saves snapshots is to do. The caller is inside the gate.
    ///
    /// Errors: `AlreadyExists`.
    pub(super) async fn saving(self: &Arc<Self>, saved: Vec<Saved>) -> Result<Box<Naming>> {
        let names = saved.iter().map(|(name, _)| name.clone()).collect();
        let taken = self.take_names(names).await;
        for name in taken.names() {
            self.check_unnamed(name).await?;
        }
        let time_ms = now_ms();
        let changes = saved.into_iter().map(|(name, bytes)| NameChange::Save {
            name,
            time_ms,
            bytes,
        });
        Ok(Naming::new(self.catalogue.line(), changes.collect(), taken))
    }

    /// Refuses a name that there is.
    pub(super) async fn check_unnamed(&self, name: &[u8]) -> Result<()> {
        match self.named(name).await? {
            None => Ok(()),
            Some(_) => Err(already_there(name)),
        }
    }

    /// Refuses what cannot be saved, whatever there is.
    pub(super) fn check_saved(&self, name: &[u8], bytes: &[u8]) -> Result<()> {
        check_name(name)?;
        let inline_bytes_max = self.pages.settings.inline_bytes_max;
        let Some(most) = callers_bytes_max(inline_bytes_max) else {
            return Err(Error::invalid(format!(
                "snapshots cannot be saved in a store whose leaves take values of {inline_bytes_max} bytes only"
            )));
        };
        if bytes.len() > most {
            return Err(Error::invalid(format!(
                "{} bytes beside the name of a snapshot: at most {most} are possible",
                bytes.len()
            )));
        }
        Ok(())
    }
}

pub(super) fn already_there(name: &[u8]) -> Error {
    let message = format!("there is a snapshot {} already", shown(name));
    Error::new(ErrorKind::AlreadyExists, message)
}

/// Refuses what cannot be a name.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return Err(Error::invalid(format!(
            "a name of {} bytes for a snapshot: 1 to {NAME_BYTES_MAX} are possible",
            name.len()
        )));
    }
    Ok(())
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_millis() as u64
}
