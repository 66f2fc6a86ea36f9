//! Large transactions: straight into the tree, in generations that nobody sees before the commit.
//!
//! What does not fit the memory of a transaction, or the log, is sorted and flushed into private
//! generations on top of the newest version; their pages go to the disk as they are made. The
//! commit is a checkpoint that publishes the last of them, and a mark in the log, which has nothing
//! else of it. The maintenance is held all the while: no other generation can come between.
//! Abandoning it gives back everything that was made; a crash leaves nothing, since the space maps
//! on the disk never knew of it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::lock::OwnedMutexGuard;
use smallvec::smallvec;

use super::checkpoint::NewRoot;
use super::commit::{Elsewhere, Entry};
use super::core::Core;
use super::gate::{Inside, lock};
use super::job::Exclusive;
use super::maintenance::{LoggedValue, Maintaining, Pace, off_tree_payloads};
use super::naming::{Naming, now_ms};
use super::options::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Record, Tag, USER_TREE};
use crate::format::{Address, Birth, Extent, PagePointer, SequenceNumber};
use crate::snapshot::{CachedPages, Version, View};
use crate::space::kept::{Head, Listed, NodeKey};
use crate::space::runs::Runs;
use crate::space::{Dropped, Owner, Urgency};
use crate::transaction::Overlay;
use crate::tree::flush::Outcome;
use crate::tree::journal::Journal;
use crate::tree::lineage::{has_base, supersede};
use crate::tree::operation::{Batch, Operation, RangeDelete};
use crate::tree::{fold_entries, frozen_batch};
use crate::value::{OffTree, ValueWriter, each_extent};

/// How many operations, and bytes of them, one private generation takes.
const CHUNK_OPERATIONS: usize = 32 << 10;
const CHUNK_BYTES: usize = 8 << 20;

/// The part of a transaction that went into the tree already.
pub(super) struct Bulk {
    state: Exclusive<OwnedMutexGuard<Maintaining>>,
    version: Arc<Version>,
    sequence: SequenceNumber,
    first_birth: Birth,
    /// Everything that was allocated and not given back, by address.
    made: HashMap<Address, (Extent, Birth)>,
    dropped: Vec<(Dropped, Birth)>,
    /// The roots of off-tree values that operations named.
    named: HashSet<Address>,
    /// What it shares with values under other keys, and the births of those.
    clones: Vec<(Extent, Birth)>,
    /// All of that, as a set.
    shared: Runs,
    /// It goes on from here, and not from the newest version.
    fork: Option<NodeKey>,
    /// That version is the newest one of its branch, and no node yet.
    head: Option<Head>,
    /// It goes on from the newest version of a branch, and becomes that.
    branch: Option<(u64, Head)>,
}

/// For keys with values that were made of others: the off-tree values that they had one after the
/// other.
fn values_made_of_others(overlay: &Overlay) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut found: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    let made = overlay.records();
    for record in made.filter(|record| has_base(record.tag, record.payload)) {
        found.entry(record.key.to_vec()).or_default();
    }
    if found.is_empty() {
        return found;
    }
    for record in overlay.records() {
        if let (Tag::OffTree, Some(values)) = (record.tag, found.get_mut(record.key)) {
            values.push(record.payload.to_vec());
        }
    }
    found
}

impl Bulk {
    /// Begins on top of the newest version. The caller is alone inside the gate.
    pub(super) async fn begin(core: &Arc<Core>) -> Result<Self> {
        // Nobody else can commit now; what was committed goes into the tree first.
        core.finish_groups().await;
        let state = Arc::clone(&core.maintaining).lock_owned().await;
        let mut state = Exclusive::new(core, state);
        core.freeze();
        while core.flush_oldest(&mut state)? {}
        if state.checkpointed.is_none() {
            // What is found now must still be there after a crash.
            core.checkpoint_tree(&mut state, Pace::Hurried, false)
                .await?;
        }
        let version = core.current.load_full();
        let first_birth = Birth(state.birth.0 + 1);
        let sequence = lock(core.log()?).next;
        Ok(Self {
            state,
            version,
            sequence,
            first_birth,
            made: HashMap::new(),
            dropped: Vec::new(),
            named: HashSet::new(),
            clones: Vec::new(),
            shared: Runs::default(),
            fork: None,
            head: None,
            branch: None,
        })
    }

    /// Goes on from the newest version of a branch.
    pub(super) fn go_on_with(&mut self, core: &Arc<Core>, line: u64, head: Head) {
        self.branch = Some((line, head));
        self.version = Version::new(
            Arc::clone(&core.pages),
            head.root,
            head.generation,
            [Arc::new(Journal::new(0))],
            self.sequence,
        );
    }

    /// What it goes on from has to be a node.
    fn keep_head(&mut self, core: &Core, parent: NodeKey) {
        if let Some(head) = self.head.take() {
            core.keep_head(&mut self.state, parent.line, head);
        }
    }

    /// Makes a branch begin with what it has.
    pub(super) async fn begin_branch(
        mut self,
        core: &Arc<Core>,
        name: &[u8],
        sequence: SequenceNumber,
    ) -> Result<u64> {
        if let Err(error) = core.write_pages(&mut self.state, Pace::Hurried).await {
            self.abandon(core);
            return Err(error);
        }
        let published = async {
            let parent = match self.fork {
                Some(parent) => {
                    self.keep_head(core, parent);
                    parent
                }
                None => core.keep_newest(&mut self.state),
            };
            let head = Head {
                root: self.version.root,
                generation: self.version.birth,
                since: sequence,
            };
            let line = core.begin_branch(name, parent, now_ms(), head);
            self.drop_of_branch(core, line)?;
            core.checkpoint_tree(&mut self.state, Pace::Hurried, false)
                .await?;
            Ok(line)
        };
        published.await.inspect_err(|error| core.poison(error))
    }

    /// Ends a branch.
    pub(super) async fn end_branch(
        mut self,
        core: &Arc<Core>,
        name: &[u8],
        line: u64,
    ) -> Result<()> {
        core.end_branch(name, line);
        core.checkpoint_tree(&mut self.state, Pace::Hurried, false)
            .await
    }

    /// What its line does not reach any more.
    fn drop_of_branch(&mut self, core: &Core, line: u64) -> Result<()> {
        self.note_clones(core);
        let dropped_at = self.state.birth;
        for (item, birth) in std::mem::take(&mut self.dropped) {
            core.pages.space.drop_of_line(Listed {
                item,
                birth,
                dropped_at,
                line,
            })?;
        }
        self.state.more_to_free = true;
        Ok(())
    }

    /// Makes it the newest version of its branch.
    async fn commit_to_branch(
        self,
        core: &Arc<Core>,
        (line, before): (u64, Head),
        values: Vec<(Address, LoggedValue)>,
        inside: Option<Inside>,
    ) -> Result<SequenceNumber> {
        // Dropped before who is inside, if anything panics, and that poisons the store.
        let mut bulk = self;
        if let Err(error) = core.write_pages(&mut bulk.state, Pace::Hurried).await {
            values
                .iter()
                .for_each(|(_, value)| core.abandon_value(value));
            bulk.abandon(core);
            return Err(error);
        }
        let sequence = bulk.sequence;
        let published = async {
            let head = Head {
                root: bulk.version.root,
                generation: bulk.version.birth,
                since: sequence,
            };
            core.branch_goes(line, before, head).await?;
            bulk.attach(core, values)?;
            bulk.drop_of_branch(core, line)?;
            core.checkpoint_tree(&mut bulk.state, Pace::Hurried, false)
                .await
        };
        published.await.inspect_err(|error| core.poison(error))?;
        drop(bulk);
        // No commit to the store itself may have the same sequence.
        let entry = Entry {
            inside,
            ..Entry::new(smallvec![Bytes::new()], Durability::Immediate)
        };
        core.commit(entry).await
    }

    /// Its tree has these values now.
    fn attach(&self, core: &Core, values: Vec<(Address, LoggedValue)>) -> Result<()> {
        for (root, value) in values {
            if !self.named.contains(&root) {
                core.abandon_value(&value);
                continue;
            }
            core.note_ages(&value.extents, value.birth, self.version.birth);
            for extent in value.extents {
                core.pages.space.attach(extent)?;
            }
        }
        Ok(())
    }

    /// Goes on from a version that is kept by a name, in the place of the newest one, with what its
    /// journal has of it.
    pub(super) async fn go_on_from(
        &mut self,
        core: &Arc<Core>,
        line: u64,
        view: &View,
    ) -> Result<()> {
        let version = &view.version;
        self.head = match core.branch_head(line).await {
            Ok(head) => (head.generation == version.birth).then_some(head),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.fork = Some(NodeKey {
            line,
            generation: version.birth,
        });
        self.state.birth = Birth(self.state.birth.0 + 1);
        core.pages.space.set_current(self.state.birth);
        self.show(core, version.root);
        let operators = &core.pages.operators;
        for journal in version.journals.iter().rev() {
            let batch = frozen_batch(journal, view.bound, operators, &mut |_| {});
            if !batch.points.is_empty() || !batch.deletes.is_empty() {
                self.flush(core, batch).await?;
            }
        }
        Ok(())
    }

    /// What the transaction reads beneath what it has in memory.
    pub(super) fn view(&self) -> View {
        View {
            version: Arc::clone(&self.version),
            bound: SequenceNumber(u64::MAX),
        }
    }

    /// Flushes operations into private generations.
    pub(super) async fn apply(&mut self, core: &Arc<Core>, overlay: Overlay) -> Result<()> {
        let sequence = self.sequence;
        let made_of = values_made_of_others(&overlay);
        let sorted = overlay.into_sorted();
        let deletes: Vec<RangeDelete<'_>> = sorted
            .range_deletes()
            .iter()
            .map(|range| RangeDelete {
                low: &range.low,
                end: range.end.as_deref(),
                sequence,
            })
            .collect();
        if !deletes.is_empty() {
            let points = Vec::new();
            self.flush(core, Batch { deletes, points }).await?;
        }
        let operators = &core.pages.operators;
        let mut lost = Vec::new();
        let folded = sorted.keys().map(|key| {
            let (tag, mut payload) = fold_entries(operators, &key);
            for older in made_of.get(key.key()).into_iter().flatten().rev() {
                // What it goes over without being made of it is not named by anything.
                if has_base(tag, &payload) {
                    supersede(tag, &mut payload, (Tag::OffTree, older), &mut |value| {
                        if value.has_heir {
                            lost.push(value);
                        }
                    });
                }
            }
            (key.key(), tag, payload)
        });
        self.apply_points(core, folded).await?;
        for value in lost {
            self.named.insert(value.value.root.extent.address);
            self.dropped.extend(value.parts(&core.pages)?);
        }
        Ok(())
    }

    /// The same for operations whose keys ascend. Their pages are written at once, while the
    /// processor's cache has them: hardly any will be made anew.
    pub(super) async fn apply_ascending(
        &mut self,
        core: &Arc<Core>,
        overlay: &Overlay,
    ) -> Result<()> {
        let records = overlay.records();
        let points = records.map(|record| (record.key, record.tag, Cow::Borrowed(record.payload)));
        self.apply_points(core, points).await?;
        core.write_pages(&mut self.state, Pace::Hurried).await
    }

    async fn apply_points<'a>(
        &mut self,
        core: &Arc<Core>,
        operations: impl Iterator<Item = (&'a [u8], Tag, Cow<'a, [u8]>)>,
    ) -> Result<()> {
        let sequence = self.sequence;
        let mut points: Vec<Operation<'a>> = Vec::new();
        let mut bytes = 0;
        for (key, tag, payload) in operations {
            let operation = Operation {
                key,
                sequence,
                tag,
                payload,
            };
            bytes += operation.bytes();
            points.push(operation);
            if points.len() >= CHUNK_OPERATIONS || bytes >= CHUNK_BYTES {
                let points = std::mem::take(&mut points);
                self.flush(core, Batch::of(points)).await?;
                bytes = 0;
            }
        }
        if !points.is_empty() {
            self.flush(core, Batch::of(points)).await?;
        }
        Ok(())
    }

    /// Puts values of its version under other keys, which ascend: of each only the index is written, the
    /// data is shared. Nothing that is not in the tree may be in its way.
    pub(super) async fn share(
        &mut self,
        core: &Arc<Core>,
        values: &[(Vec<u8>, OffTree)],
    ) -> Result<()> {
        let mut rest = values;
        while !rest.is_empty() {
            // No generation of their own pages: these come with the flush.
            self.state.birth = Birth(self.state.birth.0 + 1);
            core.pages.space.set_current(self.state.birth);
            let mut points = Vec::new();
            let mut shared = Runs::default();
            while let Some(((key, value), after)) = rest.split_first()
                && points.len() < CHUNK_OPERATIONS
            {
                let Some(payload) = self.share_one(core, value, &mut shared).await? else {
                    // The data stands here under another key already: see `kept::clones`.
                    break;
                };
                points.push(Operation {
                    key,
                    sequence: self.sequence,
                    tag: Tag::OffTree,
                    payload: Cow::Owned(payload),
                });
                rest = after;
            }
            self.flush(core, Batch::of(points)).await?;
        }
        Ok(())
    }

    /// The payload of a value with the data of another one. `None`, and nothing is done: something of the
    /// present generation shares that already.
    async fn share_one(
        &mut self,
        core: &Arc<Core>,
        value: &OffTree,
        shared: &mut Runs,
    ) -> Result<Option<Vec<u8>>> {
        let pages = &core.pages;
        let source = CachedPages {
            pages: Arc::clone(pages),
        };
        let mut is_new = true;
        each_extent(value, &source, |extent, _| {
            is_new &= shared.is_disjoint(extent);
            Ok(())
        })
        .await?;
        if !is_new {
            return Ok(None);
        }
        let birth = self.state.birth;
        let shape = pages.value_shape_of(value)?;
        let allocate = |bytes| {
            let space = &pages.space;
            space.allocate(bytes, Owner::Tree, Urgency::Ordinary)
        };
        let mut writer = ValueWriter::new(pages.disk.clone(), pages.store, birth, shape, allocate);
        let written = match writer.take_anew(value, &source).await {
            Ok(clones) => writer.finish().await.map(|written| (written, clones)),
            Err(error) => Err(error),
        };
        let (written, clones) = match written {
            Ok(written) => written,
            Err(error) => {
                for extent in writer.abandon().idle {
                    self.give_back(core, extent, birth)?;
                }
                return Err(error);
            }
        };
        for extent in written.extents {
            self.made.insert(extent.address, (extent, birth));
        }
        for (extent, _) in &clones {
            shared.add(*extent);
            self.shared.add(*extent);
        }
        self.clones.extend(clones);
        Ok(Some(written.value.to_payload().to_vec()))
    }

    /// What it shares is to be written down, before anything that it dropped.
    fn note_clones(&mut self, core: &Core) {
        core.note_clones(std::mem::take(&mut self.clones), self.state.birth);
    }

    async fn flush(&mut self, core: &Arc<Core>, batch: Batch<'_>) -> Result<()> {
        let values = off_tree_payloads(&batch);
        let root = self.version.root;
        let outcome = core.flush(&mut self.state, &root, batch, 0)?;
        for payload in &values {
            if let Ok(value) = OffTree::from_payload(payload) {
                self.named.insert(value.root.extent.address);
            }
        }
        self.take_over(core, outcome)?;
        if core.pages.frames.dirty_bytes() > core.options.cache_bytes / 4 {
            core.write_pages(&mut self.state, Pace::Hurried).await?;
        }
        Ok(())
    }

    fn take_over(&mut self, core: &Arc<Core>, outcome: Outcome) -> Result<()> {
        let birth = self.state.birth;
        for extent in outcome.values {
            self.made.insert(extent.address, (extent, birth));
        }
        for page in outcome.pages {
            self.made.insert(
                page.pointer.address,
                (page.pointer.extent(), page.pointer.birth),
            );
            self.state.unwritten.insert(page.pointer.address, page);
        }
        // Readers of the private versions are this transaction's own, and hold no page now.
        for (item, birth) in outcome.dropped {
            match item {
                // A part of one may be dropped while another value has the rest.
                Dropped::Extent(extent)
                    if birth >= self.first_birth
                        && self.shared.is_disjoint(extent)
                        && self.made.get(&extent.address) == Some(&(extent, birth)) =>
                {
                    self.made.remove(&extent.address);
                    self.give_back(core, extent, birth)?;
                }
                item => self.dropped.push((item, birth)),
            }
        }
        self.show(core, outcome.root);
        Ok(())
    }

    /// From now on this is its tree.
    fn show(&mut self, core: &Arc<Core>, root: PagePointer) {
        self.version = Version::new(
            Arc::clone(&core.pages),
            root,
            self.state.birth,
            [Arc::new(Journal::new(0))],
            self.sequence,
        );
    }

    fn give_back(&mut self, core: &Arc<Core>, extent: Extent, birth: Birth) -> Result<()> {
        self.state.unwritten.remove(&extent.address);
        core.pages.frames.forget(extent.address, birth);
        core.pages.space.abandon(extent)
    }

    /// Makes it durable; its mark in the log then makes it the newest version.
    pub(super) async fn commit(
        self,
        core: &Arc<Core>,
        values: Vec<(Address, LoggedValue)>,
        mut naming: Option<Box<Naming>>,
        inside: Option<Inside>,
    ) -> Result<SequenceNumber> {
        // Dropped before who is inside, if anything panics, and that poisons the store.
        let mut bulk = self;
        if let Some(branch) = bulk.branch {
            if naming.is_some() {
                values
                    .iter()
                    .for_each(|(_, value)| core.abandon_value(value));
                bulk.abandon(core);
                return Err(Error::invalid(
                    "a transaction of a branch saves no snapshots: the branch does",
                ));
            }
            return bulk.commit_to_branch(core, branch, values, inside).await;
        }
        // The log reaches as far as the root will say, and most of what can fail comes before
        // anything is given up.
        let prepared = async {
            core.sync().await?;
            core.write_pages(&mut bulk.state, Pace::Hurried).await
        };
        if let Err(error) = prepared.await {
            values
                .iter()
                .for_each(|(_, value)| core.abandon_value(value));
            bulk.abandon(core);
            return Err(error);
        }
        let published = bulk.publish(core, values, naming.as_deref_mut()).await;
        // From here on the space says what the new root says: if that could not be published, only
        // a reopening knows which of the two roots counts.
        let user = published.inspect_err(|error| core.poison(error))?;
        let expected = bulk.sequence;
        let elsewhere = Elsewhere {
            user,
            birth: bulk.version.birth,
            _state: bulk.state,
        };
        let mut marker = Vec::new();
        let record = Record {
            tag: Tag::Elsewhere,
            tree: USER_TREE,
            key: &[],
            payload: &[],
        };
        record.append_to(&mut marker);
        let entry = Entry {
            elsewhere: Some(Box::new(elsewhere)),
            naming,
            inside,
            ..Entry::new(smallvec![Bytes::from(marker)], Durability::Immediate)
        };
        // The root contains this sequence already: without its mark no later commit may take it.
        let sequence = core
            .commit(entry)
            .await
            .inspect_err(|error| core.poison(error))?;
        debug_assert_eq!(sequence, expected, "nobody else commits meanwhile");
        Ok(sequence)
    }

    async fn publish(
        &mut self,
        core: &Arc<Core>,
        values: Vec<(Address, LoggedValue)>,
        naming: Option<&mut Naming>,
    ) -> Result<PagePointer> {
        if let Some(parent) = self.fork {
            self.keep_head(core, parent);
        }
        let birth = self.state.birth;
        {
            let changing = core.current.change();
            let newest = changing.version();
            match self.fork {
                Some(parent) => core.fork_at(parent, &newest, self.sequence),
                None => core.keep_tree(&newest, None, self.sequence),
            }
        }
        self.attach(core, values)?;
        self.note_clones(core);
        let dropped = std::mem::take(&mut self.dropped);
        core.take_over(&mut self.state, Vec::new(), dropped, birth)?;
        if let Some(naming) = naming {
            // The mark in the log stands alone: what is done to names is in the root.
            naming.seal(self.sequence);
            let _changing = core.current.change();
            core.catalogue.enter(naming, self.sequence)?;
        }
        core.freeze_names();
        let log = {
            let mut log = lock(core.log()?);
            log.since_checkpoint = 0;
            log.writer.position_at_or_before(self.sequence)
        };
        let user: PagePointer = self.version.root;
        let root = NewRoot {
            user,
            applied_through: self.sequence,
            log,
            clean: false,
        };
        core.write_root(&mut self.state, root).await?;
        Ok(user)
    }

    /// Gives back everything that was made.
    pub(super) fn abandon(mut self, core: &Arc<Core>) {
        for (_, (extent, birth)) in std::mem::take(&mut self.made) {
            if let Err(error) = self.give_back(core, extent, birth) {
                debug_assert!(false, "an extent that was allocated: {error}");
            }
        }
    }
}
