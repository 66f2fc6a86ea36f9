//! [`Catalogue`]: the system tree of an open store as far as it tells of snapshots that have names.
//!
//! Commits that save, rename or delete go through the log as all others; their records enter a root
//! journal of the system tree's own, which a checkpoint flushes together with the maps of space. So what
//! readers see is a version as the user's tree has: a root, and journals. It is replaced whenever the system
//! tree is, before anything of that is dropped.
//!
//! A checkpoint freezes the journal *before* it syncs the log: no root may have names from commits that a
//! crash could take back, whose sequences others would get then.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use bytes::Bytes;
use smallvec::SmallVec;

use super::core::Core;
use super::gate::lock;
use super::naming::{NameChange, Names, Naming};
use crate::error::{Error, Result};
use crate::format::record::{SYSTEM_TREE, Tag};
use crate::format::{Birth, PagePointer, SequenceNumber};
use crate::snapshot::names::{NameKey, Named, sequence_range};
use crate::snapshot::{Find, Layered, Version, View, each_entry};
use crate::tree::frozen_batch;
use crate::tree::journal::Journal;
use crate::tree::merge::Operators;
use crate::tree::operation::Operation;
use crate::tree::pages::Pages;

/// For how many bytes of records a journal of names has a filter.
const FILTERED_BYTES: usize = 64 << 10;

/// From how many sequences with names on the newest tree is not kept for them by being the newest.
const RECENT_MAX: usize = 1024;

/// The present state of the system tree, and what is to be known of names without asking it.
pub(super) struct Catalogue {
    /// What readers see; changed while nobody else changes `Core::current`.
    current: ArcSwap<Version>,
    /// What they will see when a large transaction is published, which its tree has already.
    ahead: Mutex<Option<Arc<Version>>>,
    line: AtomicU64,
    recent: Mutex<Recent>,
    pub(super) names: Arc<Names>,
}

/// How many names the sequences of the present line have, as far as the user's tree is not past them.
#[derive(Default)]
struct Recent(BTreeMap<SequenceNumber, u32>);

impl Recent {
    /// The sequences from `from` on and before `end`.
    fn within(
        &self,
        from: SequenceNumber,
        end: SequenceNumber,
    ) -> impl DoubleEndedIterator<Item = SequenceNumber> {
        let range = self.0.range(from..end.max(from));
        range.map(|(sequence, _)| *sequence)
    }

    async fn read(version: &Arc<Version>, line: u64, since: SequenceNumber) -> Result<Self> {
        let mut recent = Self::default();
        let (low, end) = sequence_range(line, since);
        let means_nothing = || Error::corrupt("the system tree has a key that means nothing");
        each_entry(version, &low, &end, |key, _, _| {
            let Some(NameKey::Sequence { sequence, .. }) = NameKey::parse(key) else {
                return Err(means_nothing());
            };
            recent.add(sequence);
            Ok(())
        })
        .await?;
        Ok(recent)
    }

    fn add(&mut self, sequence: SequenceNumber) {
        *self.0.entry(sequence).or_default() += 1;
    }

    fn remove(&mut self, sequence: SequenceNumber) {
        if let Some(count) = self.0.get_mut(&sequence) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&sequence);
            }
        }
    }
}

/// An empty journal of names.
fn new_journal() -> Arc<Journal> {
    Arc::new(Journal::new(FILTERED_BYTES))
}

impl Catalogue {
    /// The one of a store that is opened, with what its log has of names.
    pub(super) async fn open(
        pages: &Arc<Pages>,
        root: PagePointer,
        birth: Birth,
        applied: SequenceNumber,
        (line, since): (u64, SequenceNumber),
        logged: Vec<(Bytes, SequenceNumber)>,
        read_only: bool,
    ) -> Result<Self> {
        let replayed = new_journal();
        replayed.append_all(logged, SYSTEM_TREE)?;
        let journals: SmallVec<[_; 2]> = match replayed.is_empty() {
            true => [new_journal()].into_iter().collect(),
            false => [new_journal(), replayed].into_iter().collect(),
        };
        let version = Version::new(Arc::clone(pages), root, birth, journals, applied);
        // Who only reads keeps nothing: damage here is no reason not to read the rest.
        let recent = match read_only {
            true => Recent::default(),
            false => Recent::read(&version, line, since).await?,
        };
        Ok(Self {
            current: ArcSwap::new(version),
            ahead: Mutex::new(None),
            line: AtomicU64::new(line),
            recent: Mutex::new(recent),
            names: Arc::default(),
        })
    }

    /// The line of versions that is committed to.
    pub(super) fn line(&self) -> u64 {
        self.line.load(Ordering::Acquire)
    }

    /// Another line is committed to from now on. The caller changes `Core::current`.
    pub(super) fn set_line(&self, line: u64) {
        self.line.store(line, Ordering::Release);
    }

    /// The generation of the system tree that it keeps.
    pub(super) fn birth(&self) -> Birth {
        self.current.load().birth
    }

    /// Bytes of records that the system tree does not have.
    pub(super) fn journal_bytes(&self) -> usize {
        let version = self.current.load();
        version.journals.iter().map(|journal| journal.bytes()).sum()
    }

    /// The newest sequence from `from` on and before `end` of the present line that has a name.
    pub(super) fn newest_name(
        &self,
        from: SequenceNumber,
        end: SequenceNumber,
    ) -> Option<SequenceNumber> {
        lock(&self.recent).within(from, end).next_back()
    }

    /// The first sequence from `from` on and before `end` of the present line that has a name.
    pub(super) fn first_name(
        &self,
        from: SequenceNumber,
        end: SequenceNumber,
    ) -> Option<SequenceNumber> {
        lock(&self.recent).within(from, end).next()
    }

    /// Whether very many sequences through this one have names, and the user's tree is not past them.
    pub(super) fn has_many_names(&self, through: SequenceNumber) -> bool {
        let recent = lock(&self.recent);
        let mut sequences = recent.0.range(..=through);
        sequences.nth(RECENT_MAX).is_some()
    }

    /// The user's tree is past all sequences before this one.
    pub(super) fn forget_before(&self, sequence: SequenceNumber) {
        let mut recent = lock(&self.recent);
        recent.0 = recent.0.split_off(&sequence);
    }

    /// Whether the system tree has all records.
    pub(super) fn is_flushed(&self) -> bool {
        let version = self.current.load();
        version.journals.iter().all(|journal| journal.is_empty())
    }

    /// The journals that are to be flushed, newest first.
    pub(super) fn frozen(&self) -> SmallVec<[Arc<Journal>; 2]> {
        self.current.load().journals[1..].iter().cloned().collect()
    }

    /// Takes in what a commit with this sequence does. The caller changes `Core::current`.
    pub(super) fn enter(&self, naming: &mut Naming, sequence: SequenceNumber) -> Result<()> {
        let records = naming.sealed.clone().filter(|_| !naming.entered);
        if let Some(records) = records {
            let version = self.current.load();
            version.journals[0].append(records, SYSTEM_TREE, sequence)?;
            naming.entered = true;
        }
        Ok(())
    }

    /// Counts what a commit with this sequence did, which is being published. The caller
    /// changes `Core::current`.
    pub(super) fn count(&self, naming: &Naming, sequence: SequenceNumber) {
        let mut recent = lock(&self.recent);
        for change in &naming.changes {
            match change {
                NameChange::Save { .. } => recent.add(sequence),
                NameChange::Take { named, .. } | NameChange::Delete { named, .. }
                    if named.line == self.line() =>
                {
                    recent.remove(named.sequence);
                }
                // Of trees that are gone, too: the next flush forgets them.
                NameChange::Give { named, .. } if named.line == self.line() => {
                    recent.add(named.sequence);
                }
                _ => {}
            }
        }
    }

    /// A large transaction is being published. The caller changes `Core::current`.
    pub(super) fn show_ahead(&self) {
        if let Some(version) = lock(&self.ahead).take() {
            self.current.store(version);
        }
    }

    /// A system tree in which the oldest `done` journals are, too. `ahead`: together with what is not
    /// published. The caller changes `Core::current`.
    fn install(&self, root: PagePointer, birth: Birth, done: usize, ahead: bool) {
        let version = match lock(&self.ahead).take() {
            Some(version) if ahead => version,
            _ => self.current.load_full(),
        };
        let keep = version.journals.len() - done;
        let journals = version.journals[..keep].iter().cloned();
        let pages = Arc::clone(version.pages());
        let new = Version::new(pages, root, birth, journals, version.tree_through);
        match ahead {
            true => *lock(&self.ahead) = Some(new),
            false => self.current.store(new),
        }
    }
}

/// What some frozen journals, newest first, do to the system tree, in the order of its keys.
pub(super) fn operations_of<'j>(
    journals: &'j [Arc<Journal>],
    operators: &Operators,
) -> impl Iterator<Item = Operation<'j>> + use<'j> {
    let newest = SequenceNumber(u64::MAX);
    let mut operations = BTreeMap::new();
    for journal in journals.iter().rev() {
        let batch = frozen_batch(journal, newest, operators, &mut |_| {});
        let points = batch.points.into_iter();
        operations.extend(points.map(|operation| (operation.key, operation)));
    }
    operations.into_values()
}

impl Core {
    /// The system tree as of now, to read names in.
    pub(super) fn names(&self) -> Layered {
        loop {
            let version = self.catalogue.current.load_full();
            let bound = self.published();
            // As in `view`: all through the bound is in the version if it is still the newest.
            if Arc::ptr_eq(&version, &self.catalogue.current.load()) {
                return Layered {
                    view: View { version, bound },
                    overlay: None,
                };
            }
        }
    }

    /// The snapshot that has a name.
    pub(super) async fn named(&self, name: &[u8]) -> Result<Option<Named>> {
        let key = NameKey::Name { name }.to_bytes();
        match self.names().find_stored(&key).await? {
            None => Ok(None),
            Some((Tag::Inline, value)) => Named::from_value(&value).map(Some),
            Some(_) => Err(Error::corrupt("a name of a snapshot has no inline value")),
        }
    }

    /// Begins a new journal of names, unless the present one is empty: to be called before the log is
    /// synced.
    pub(super) fn freeze_names(&self) {
        let _changing = self.current.change();
        let version = self.catalogue.current.load_full();
        if version.journals[0].is_empty() {
            return;
        }
        let journals = std::iter::once(new_journal()).chain(version.journals.iter().cloned());
        self.catalogue.current.store(Version::new(
            Arc::clone(&self.pages),
            version.root,
            version.birth,
            journals,
            version.tree_through,
        ));
    }

    /// Whether names are a reason for a checkpoint.
    pub(super) fn names_are_due(&self) -> bool {
        self.catalogue.journal_bytes() as u64 >= self.options.checkpoint_log_bytes
    }

    /// Waits while far more names are in memory than should be.
    pub(super) async fn wait_for_room_for_names(self: &Arc<Self>) -> Result<()> {
        self.wait_while(|core| {
            let names_bytes = core.catalogue.journal_bytes() as u64;
            names_bytes / 2 > core.options.checkpoint_log_bytes
        })
        .await
    }

    /// The system tree is another one, in which the oldest `names` journals of names are, too. `through`:
    /// what the root that it is for has applied. Before anything of the old one is dropped.
    pub(super) fn install_system(
        &self,
        root: PagePointer,
        birth: Birth,
        names: usize,
        through: SequenceNumber,
    ) {
        let _changing = self.current.change();
        *lock(&self.system) = root;
        let ahead = through > self.published();
        self.catalogue.install(root, birth, names, ahead);
    }
}
