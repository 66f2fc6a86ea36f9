//! [`Transaction`]: several operations that take effect together or not at all.

use std::future::Future;
use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::bulk::Bulk;
use super::commit::Entry;
use super::core::Core;
use super::gate::{Inside, Pass, lock};
use super::history::Since;
use super::maintenance::LoggedValue;
use super::naming::{Naming, Saved, saved_bytes};
use super::operation::Operation;
use super::options::{Durability, Isolation};
use super::range::Range;
use super::reader::{Reader, check_key, half_open};
use super::subtree::{Base, Bounds};
use super::validation::Validation;
use super::writing::Writing;
use super::{Store, reading_methods, writing_methods};
use crate::disk::in_blocking_face;
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Tag, USER_TREE, read_range_end};
use crate::format::{Address, SequenceNumber};
use crate::snapshot::View;
use crate::space::Urgency;
use crate::transaction::locks::{self, LockRange, OwnerId, Wanted};
use crate::transaction::{Overlay, OverlayMark, Ranges, Reads};
use crate::value::{OffTree, VALUE_BYTES_MAX};

/// The largest operand of a merge, in bytes.
const OPERAND_BYTES_MAX: usize = 64 << 10;

/// This share of the memory of a transaction is for the notes of what it read.
const READS_SHARE: usize = 8;

/// How many bytes of operations whose keys ascend are kept in memory.
const ASCENDING_BYTES: usize = 8 << 20;

/// Operations that take effect together, or not at all when it is dropped.
///
/// It reads the store as it was when it began, and its own writes. Any number are open at the same
/// time, on any threads and tasks, and none waits for another. When one commits, what it had asked for
/// must still be so: if another commit changed any of it meanwhile, it is refused with
/// [`ErrorKind::Conflict`], and one begins again; [`Store::transact`] does that. So those that commit
/// are [serializable](Isolation).
///
/// * What counts is what was *asked for*: a key, whether it was there or not; a range as far as it was
///   walked, gaps included; all of what was counted.
/// * What was only put, deleted or merged conflicts with nothing, and what was only
///   [estimated](Self::estimate) neither.
/// * One that wrote nothing is never refused.
///
/// The memory of its writes is bounded by
/// [`Options::transaction_bytes`](crate::Options::transaction_bytes), and that of the notes of what it
/// read by an eighth of that; beyond, neighbouring reads count as one range. A transaction whose writes
/// are more goes to the disk before the commit, where nobody sees it. **From then on it is alone**: it
/// waits for the commits under way, what it read is validated, and all others who commit wait until it
/// is done. The same holds during the commit of one that is too large for the log. So a task that holds
/// such a one must not commit by other means and wait for that.
///
/// Dropping it undoes it; [savepoints](Self::savepoint) undo a part.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut transaction = store.begin().wait()?;
/// transaction.put("from", "90").wait()?;
/// transaction.put("to", "110").wait()?;
/// let sequence = transaction.commit().wait()?;
/// assert_eq!(store.snapshot().sequence(), sequence);
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub struct Transaction {
    pub(super) reader: Reader,
    pub(super) writes: Writes,
    durability: Durability,
    isolation: Isolation,
    /// Keeps what is committed after it began. `None` if it is alone, or was refused.
    since: Option<Since>,
}

/// What a transaction wrote.
pub(super) struct Writes {
    pub(super) core: Arc<Core>,
    pub(super) overlay: Arc<Mutex<Overlay>>,
    /// Off-tree values that it wrote.
    pub(super) values: Vec<(Address, LoggedValue)>,
    /// Snapshots that its commit saves.
    pub(super) saved: Vec<Saved>,
    /// Whether it may make the store larger.
    pub(super) grows: bool,
    pub(super) bulk: Option<Bulk>,
    /// A spill was begun and not finished: part of the writes is in neither place.
    torn: bool,
    /// How often it spilled.
    spills: u64,
    /// The last key that was appended, while nothing was written after it.
    appended: Option<Vec<u8>>,
    pub(super) inside: Option<Inside>,
    /// In whose name it writes.
    pub(super) party: Option<OwnerId>,
    /// Who has what it locked itself.
    pub(super) owner: Option<locks::Owner>,
    /// What its commit had to wait for.
    passed: Option<locks::Owner>,
    /// What the view adds to each key.
    pub(super) base: Base,
}

impl Writes {
    pub(super) fn new(
        core: &Arc<Core>,
        inside: Option<Inside>,
        base: Base,
        party: Option<OwnerId>,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            overlay: Arc::new(Mutex::new(Overlay::new(USER_TREE))),
            values: Vec::new(),
            saved: Vec::new(),
            grows: false,
            bulk: None,
            torn: false,
            spills: 0,
            appended: None,
            inside,
            party,
            owner: None,
            passed: None,
            base,
        }
    }

    pub(super) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let key = &*self.base.key(key)?;
        self.core.check_writable(true)?;
        self.grows = true;
        if value.len() <= self.core.pages.settings.inline_bytes_max as usize {
            lock(&self.overlay).put(key, Tag::Inline, value);
            return Ok(());
        }
        let mut writing = Writing::begin(&self.core)?;
        Box::pin(writing.write(value)).await?;
        Box::pin(self.put_written(key, writing)).await
    }

    /// Puts a value that was written already. `key` is that of the tree.
    pub(super) async fn put_written(&mut self, key: &[u8], mut writing: Writing) -> Result<()> {
        self.grows = true;
        let inline_bytes_max = self.core.pages.settings.inline_bytes_max as usize;
        let small = writing
            .held_back()
            .filter(|value| value.len() <= inline_bytes_max);
        if let Some(value) = small {
            lock(&self.overlay).put(key, Tag::Inline, value);
            return Ok(());
        }
        let (payload, root, logged) = writing.finish().await?;
        lock(&self.overlay).put(key, Tag::OffTree, &payload);
        self.values.push((root, logged));
        Ok(())
    }

    /// A writer of a value of this transaction.
    pub(super) fn begin_value(&mut self, key: &[u8]) -> Result<(Vec<u8>, Writing)> {
        let key = self.base.key(key)?.to_vec();
        self.core.check_writable(true)?;
        Ok((key, Writing::begin(&self.core)?))
    }

    /// Appends an operation that was checked.
    pub(super) fn append(&mut self, tag: Tag, key: &[u8], payload: &[u8]) {
        self.grows |= !matches!(tag, Tag::Delete | Tag::DeleteRange);
        lock(&self.overlay).append(tag, key, payload);
    }

    pub(super) fn delete(&mut self, key: &[u8]) -> Result<()> {
        let key = self.base.key(key)?;
        self.core.check_writable(false)?;
        lock(&self.overlay).delete(&key);
        Ok(())
    }

    /// The target is one of the view's keys, too, and stored as the whole key.
    pub(super) fn put_reference(&mut self, key: &[u8], target: &[u8]) -> Result<()> {
        let (key, target) = (self.base.key(key)?, self.base.key(target)?);
        self.core.check_writable(true)?;
        self.grows = true;
        lock(&self.overlay).put(&key, Tag::Reference, &target);
        Ok(())
    }

    pub(super) fn delete_range(&mut self, range: Bounds) -> Result<()> {
        self.core.check_writable(false)?;
        let (low, high) = self.base.bounds(range.0, range.1);
        if let Some((low, end)) = half_open(low, high) {
            check_key(&low)?;
            check_key(end.as_deref().unwrap_or(&[]))?;
            lock(&self.overlay).delete_range(&low, end.as_deref());
        }
        Ok(())
    }

    /// From now on keys are those of another view; gives the one before.
    pub(super) fn replace_base(&mut self, base: Base) -> Base {
        self.appended = None;
        std::mem::replace(&mut self.base, base)
    }

    pub(super) fn merge(&mut self, key: &[u8], operator: &str, operand: &[u8]) -> Result<()> {
        let key = self.base.key(key)?;
        self.core.check_writable(true)?;
        check_operand(operand)?;
        self.grows = true;
        let chain = self.core.pages.operators.chain_of(operator, operand)?;
        lock(&self.overlay).merge(&key, &chain);
        Ok(())
    }

    /// A value is filled in place where it fits a leaf.
    pub(super) async fn put_reserved(
        &mut self,
        key: &[u8],
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<()> {
        let full = &*self.base.key(key)?;
        self.core.check_writable(true)?;
        if length > self.core.pages.settings.inline_bytes_max as usize {
            let mut value = zeroed(length)?;
            fill(&mut value);
            return self.put(key, &value).await;
        }
        self.grows = true;
        // Filled apart: a panic of the caller's function leaves nothing behind.
        let mut filled = Overlay::new(USER_TREE);
        fill(filled.put_reserved(full, length));
        let mut overlay = lock(&self.overlay);
        if overlay.is_empty() && self.bulk.is_none() {
            *overlay = filled;
        } else {
            let mut found = crate::tree::journal::Found::new();
            let _ = filled.lookup(full, &mut found);
            found
                .iter()
                .for_each(|entry| overlay.put(full, Tag::Inline, entry.payload));
        }
        Ok(())
    }

    /// Sends what exceeds the memory of a transaction to the disk.
    pub(super) async fn spill_if_large(&mut self) -> Result<()> {
        if self.is_large() {
            Box::pin(self.spill()).await?;
        }
        Ok(())
    }

    /// Whether it exceeds the memory of a transaction.
    pub(super) fn is_large(&self) -> bool {
        let overlay = lock(&self.overlay);
        let bytes = overlay.memory_bytes();
        let most = self.core.options.transaction_bytes;
        // Where keys ascend no step makes the pages of another anew: small ones cost nothing, and the
        // log could not take so much. But what keeps nobody waiting yet, goes on so.
        let in_steps = bytes > ASCENDING_BYTES && overlay.ascends() && self.inside.is_some();
        bytes > most || (in_steps && bytes > 2 * self.core.logged_bytes_max())
    }

    /// Whether the log takes it: more goes straight into the tree.
    pub(super) fn is_logged(&self) -> bool {
        self.bulk.is_none()
            && lock(&self.overlay).bytes() + saved_bytes(&self.saved)
                <= self.core.logged_bytes_max()
    }

    /// Puts values of the version beneath under other keys, with the data that they have there. Keys
    /// ascend, and are those of the tree.
    async fn share(&mut self, values: &[(Vec<u8>, OffTree)]) -> Result<()> {
        self.spill().await?;
        self.grows = true;
        let Some(bulk) = &mut self.bulk else {
            return Ok(());
        };
        self.torn = true;
        bulk.share(&self.core, values).await?;
        self.torn = false;
        Ok(())
    }

    async fn spill(&mut self) -> Result<()> {
        self.check_whole()?;
        self.check_locks()?;
        if self.bulk.is_none() {
            self.bulk = Some(Bulk::begin(&self.core).await?);
        }
        // Until it is done: an error or a dropped future leaves it so.
        self.torn = true;
        self.spills += 1;
        let overlay = lock(&self.overlay).take();
        let bytes = overlay.bytes() as u64;
        (self.core.counters.committed_bytes).fetch_add(bytes, Ordering::Relaxed);
        let Some(bulk) = &mut self.bulk else {
            return Ok(());
        };
        if overlay.ascends() {
            bulk.apply_ascending(&self.core, &overlay).await?;
            lock(&self.overlay).reuse(overlay);
        } else {
            bulk.apply(&self.core, overlay).await?;
        }
        self.torn = false;
        Ok(())
    }

    /// Where it is by now.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            of: Arc::clone(&self.overlay),
            overlay: lock(&self.overlay).mark(),
            values: self.values.len(),
            saved: self.saved.len(),
            spills: self.spills,
        }
    }

    /// Undoes what was written after a mark. Errors: part of that is on the disk already.
    pub(super) fn roll_back(&mut self, mark: &Mark) -> Result<()> {
        if !Arc::ptr_eq(&mark.of, &self.overlay) {
            self.torn = true;
            return Err(Error::invalid(
                "another transaction stands where the savepoint was made: it can only be dropped",
            ));
        }
        if mark.spills != self.spills {
            self.torn = true;
            return Err(Error::invalid(
                "a transaction has gone to the disk since its savepoint: all of it can be dropped, not a part",
            ));
        }
        self.appended = None;
        lock(&self.overlay).roll_back(&mark.overlay);
        self.saved.truncate(mark.saved);
        for (_, value) in self.values.drain(mark.values..) {
            self.core.abandon_value(&value);
        }
        Ok(())
    }

    /// Whether nothing of it got lost on its way to the disk.
    pub(super) fn check_whole(&self) -> Result<()> {
        match self.torn {
            true => Err(Error::new(
                ErrorKind::Cancelled,
                "an earlier write of the transaction was not finished: it can only be dropped",
            )),
            false => Ok(()),
        }
    }

    /// Enters the gate, when nobody else has locked what it writes.
    pub(super) async fn enter(&mut self, pass: Pass) -> Result<()> {
        let inside = match pass {
            Pass::Shared => self.core.gate.enter(Pass::Shared).await,
            Pass::Alone => self.core.enter_alone().await,
        };
        let meet = |party| self.met(party);
        let passed = self.core.pass_locks(inside, pass, self.name(), meet);
        let (inside, owner) = passed.await?;
        self.inside = Some(inside);
        self.passed = self.passed.take().or(owner);
        Ok(())
    }

    /// Whose locks it passes.
    fn name(&self) -> Option<OwnerId> {
        self.owner.as_ref().map(locks::Owner::id).or(self.party)
    }

    /// Which of its writes others have locked.
    fn met(&self, party: Option<OwnerId>) -> Vec<LockRange> {
        if self.core.locks.is_idle() {
            return Vec::new();
        }
        let overlay = lock(&self.overlay);
        let wanted = overlay.records().map(|record| match record.tag {
            Tag::DeleteRange => {
                let end = read_range_end(record.payload).unwrap_or_default();
                Wanted::Range(record.key, end)
            }
            _ => Wanted::Key(record.key),
        });
        self.core.locks.met(party, wanted)
    }

    /// Refuses what others have locked: who is alone must not wait for them.
    fn check_locks(&self) -> Result<()> {
        let party = self.passed.as_ref().map(locks::Owner::id).or(self.name());
        let met = self.met(party);
        let holder = met.first().and_then(|range| {
            let wanted = Wanted::Range(range.low(), range.end());
            self.core.locks.holder(party, wanted)
        });
        match holder {
            None => Ok(()),
            Some(holder) => Err(Error::new(
                ErrorKind::Conflict,
                format!("a transaction that is alone cannot wait for locks: {holder}"),
            )),
        }
    }

    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.bulk.is_none() && lock(&self.overlay).is_empty() && self.saved.is_empty()
    }

    /// The keys that it put or deleted.
    fn keys(&self) -> Ranges {
        let overlay = lock(&self.overlay);
        let replaced = overlay
            .records()
            .filter(|record| !matches!(record.tag, Tag::Merge | Tag::DeleteRange));
        Ranges::of_keys(replaced.map(|record| record.key))
    }

    /// What its commit does to names of snapshots. It is inside the gate.
    async fn naming(&mut self) -> Result<Option<Box<Naming>>> {
        let saved = std::mem::take(&mut self.saved);
        match saved.is_empty() {
            true => Ok(None),
            false => Box::pin(self.core.saving(saved)).await.map(Some),
        }
    }

    /// Commits, if what the validation says has not changed.
    pub(super) async fn commit(
        mut self,
        durability: Durability,
        mut validation: Option<Box<Validation>>,
    ) -> Result<SequenceNumber> {
        let urgency = if self.grows {
            Urgency::Ordinary
        } else {
            Urgency::Emergency
        };
        // Who was inside from the beginning could not look then.
        let alone = self.inside.as_ref().is_some_and(Inside::is_alone);
        self.check_whole()?;
        self.core.check_writable(self.grows)?;
        self.core.wait_for_room().await?;
        let is_logged = self.is_logged();
        let naming = self.naming().await?;
        if !is_logged {
            self.spill().await?;
            let Some(bulk) = self.bulk.take() else {
                return self.core.sync().await;
            };
            let values = std::mem::take(&mut self.values);
            let core = Arc::clone(&self.core);
            let inside = self.inside.take();
            let work = {
                let core = Arc::clone(&core);
                async move { bulk.commit(&core, values, naming, inside).await }
            };
            return core.run_job(work).await;
        }
        if alone {
            self.check_locks()?;
        }
        let empty = Overlay::new(USER_TREE);
        let overlay = std::mem::replace(&mut *lock(&self.overlay), empty);
        if overlay.is_empty() && naming.is_none() {
            return Ok(self.core.published());
        }
        let mut turn = match in_blocking_face() {
            true => self.core.alone_waiting(durability),
            false => None,
        };
        if let Some(turn) = &mut turn
            && durability == Durability::Buffered
            && self.values.is_empty()
            && naming.is_none()
            && let Some(records) = overlay.one_piece()
        {
            let validation = validation.as_deref_mut();
            let committed = self.core.commit_validated(turn, validation, records)?;
            if let Some(sequence) = committed {
                return Ok(sequence);
            }
        }
        let entry = Entry {
            values: std::mem::take(&mut self.values),
            urgency,
            naming,
            validation,
            locks: [self.owner.take(), self.passed.take()]
                .into_iter()
                .flatten()
                .collect(),
            inside: self.inside.take(),
            ..Entry::new(overlay.into_buffers().into(), durability)
        };
        match turn {
            Some(turn) => self.core.commit_alone(turn, entry),
            None => self.core.commit(entry).await,
        }
    }
}

/// How often a transaction looks at what was committed meanwhile while others go on committing.
const ROUNDS_BESIDE_OTHERS: u32 = 2;

/// A place in the writes of a transaction.
pub(super) struct Mark {
    /// Whose place it is: transactions can be swapped behind a savepoint.
    of: Arc<Mutex<Overlay>>,
    overlay: OverlayMark,
    values: usize,
    saved: usize,
    spills: u64,
}

impl Drop for Writes {
    fn drop(&mut self) {
        if let Some(bulk) = self.bulk.take() {
            bulk.abandon(&self.core);
        }
        for (_, value) in self.values.drain(..) {
            self.core.abandon_value(&value);
        }
    }
}

/// Refuses operands that are too large.
pub(super) fn check_operand(operand: &[u8]) -> Result<()> {
    if operand.len() > OPERAND_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a merge operand of {} bytes: at most {OPERAND_BYTES_MAX} are possible",
            operand.len()
        )));
    }
    Ok(())
}

/// Refuses values that are too long, before there is memory for them.
pub(super) fn check_length(length: usize) -> Result<()> {
    if length as u64 > VALUE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "a value of {length} bytes: at most {VALUE_BYTES_MAX} are possible"
        )));
    }
    Ok(())
}

/// Zeros for a value to be filled in. Whoever asks for more than there is gets an error, where one can
/// be told before the memory is used.
pub(super) fn zeroed(length: usize) -> Result<Vec<u8>> {
    check_length(length)?;
    let room = Vec::<u8>::new().try_reserve_exact(length);
    room.map_err(|_| {
        Error::invalid(format!(
            "no memory for a value of {length} bytes: one that is written by `value_writer` needs little"
        ))
    })?;
    Ok(vec![0; length])
}

impl Transaction {
    reading_methods!('_);

    writing_methods!("store.begin().wait()?");

    /// Makes all of it take effect at once; gives the sequence of the commit. If nobody else
    /// committed since it began, validating it costs nothing; else about as much as looking up what
    /// was committed in what was read, or the other way round, whichever is less.
    ///
    /// If the future is dropped, the transaction is committed as a whole or not at all: not, if it
    /// was never polled; which, can be seen by [beginning](Store::begin) another one.
    ///
    /// Errors: `Conflict`, with [what was changed](Error::conflict): begin again; and those of
    /// [`Store::put`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::ErrorKind;
    ///
    /// let mut transaction = store.begin().wait()?;
    /// let count = transaction.get("count").wait()?.map_or(0, |value| value[0]);
    /// transaction.put("count", [count + 1]).wait()?;
    /// // Somebody is faster.
    /// store.put("count", [7]).wait()?;
    /// let error = transaction.commit().wait().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Conflict);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn commit(self) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send> {
        Operation::new(async move {
            let mut transaction = self;
            if transaction.writes.is_empty() {
                let Writes { core, .. } = &transaction.writes;
                transaction.writes.check_whole()?;
                core.check_open()?;
                return Ok(core.published());
            }
            let validation = transaction.validate().await?;
            let Self {
                reader,
                writes,
                durability,
                ..
            } = transaction;
            // The view it read is not needed any more, and would keep what the commit replaces.
            drop(reader);
            writes.commit(durability, validation).await
        })
    }

    /// What the commit makes sure of: see [`Isolation`]. Default: [`Isolation::Serializable`]. A
    /// transaction that goes to the disk before the commit is always validated as a serializable
    /// one.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.set_isolation(thunderhead::Isolation::Snapshot);
    /// let other = transaction.get("other").wait()?;
    /// transaction.put("k", other.unwrap_or_default()).wait()?;
    /// store.put("other", "…").wait()?;
    /// // It was only read.
    /// transaction.commit().wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn set_isolation(&mut self, isolation: Isolation) {
        self.isolation = isolation;
    }

    /// What must not have changed for the transaction to be committed.
    fn validation(&mut self, isolation: Isolation) -> Result<Option<Box<Validation>>> {
        let Some(since) = self.since.take() else {
            return Err(refused_before());
        };
        let ranges = match (isolation, self.reader.reads.take()) {
            (Isolation::Snapshot, _) => self.writes.keys(),
            (Isolation::Serializable, reads) => reads
                .map(|reads| lock(&reads).take_ranges())
                .unwrap_or_default(),
        };
        Ok((!ranges.is_empty()).then(|| Box::new(Validation::new(ranges, since))))
    }

    /// Finds out whether the transaction may commit, as far as one can before it is its turn; enters
    /// the gate.
    async fn validate(&mut self) -> Result<Option<Box<Validation>>> {
        if self.writes.inside.is_some() {
            return Ok(None);
        }
        if !self.writes.is_logged() {
            Box::pin(self.be_alone()).await?;
            return Ok(None);
        }
        self.writes.core.check_writable(false)?;
        let mut validation = self.validation(self.isolation)?;
        self.writes.core.wait_for_room().await?;
        let was = self.view();
        let mut rounds = 0;
        loop {
            // Who reads much is overtaken again and again: then the others wait.
            let pass = match rounds < ROUNDS_BESIDE_OTHERS {
                true => Pass::Shared,
                false => Pass::Alone,
            };
            if pass == Pass::Alone {
                self.writes.enter(pass).await?;
            }
            if let (Some(validation), Some(was)) = (&mut validation, &was) {
                validation.catch_up(&self.writes.core, was).await?;
            }
            if pass == Pass::Alone {
                return Ok(validation);
            }
            self.writes.enter(pass).await?;
            // It may have waited for many commits.
            let kept = match &mut validation {
                Some(validation) => validation.advance(&self.writes.core)?,
                None => true,
            };
            if kept {
                return Ok(validation);
            }
            rounds += 1;
            self.writes.inside = None;
        }
    }

    /// The version that it reads.
    fn view(&self) -> Option<View> {
        self.reader.fixed.clone()
    }

    /// Keeps all others from committing, from now on. What was read until now is validated, so what
    /// will be read may be as it is by now.
    async fn be_alone(&mut self) -> Result<()> {
        if self.writes.inside.is_some() {
            return Ok(());
        }
        let core = Arc::clone(&self.writes.core);
        core.check_writable(false)?;
        self.writes.enter(Pass::Alone).await?;
        // Who is refused, or is not waited for, does not stay: it would keep everybody out, and might
        // pass for one that was validated.
        let inside = self.writes.inside.take();
        // Reads go on with what is newest: with any isolation they have to agree with those before.
        let validation = self.validation(Isolation::Serializable)?;
        if let (Some(mut validation), Some(was)) = (validation, self.view()) {
            validation.catch_up(&core, &was).await?;
        }
        self.writes.inside = inside;
        self.reader.fixed = Some(core.view());
        Ok(())
    }

    /// Makes sure that a range, which it has locked, is as the transaction sees it.
    pub(super) async fn rely_on(&mut self, range: &LockRange) -> Result<()> {
        let core = Arc::clone(&self.writes.core);
        let Some(since) = &self.since else {
            return Err(refused_before());
        };
        let has_read = self.reader.reads.as_ref();
        if has_read.is_none_or(|reads| lock(reads).is_empty()) {
            let (view, since) = core.view_since();
            self.reader.fixed = Some(view);
            self.since = Some(since);
            return Ok(());
        }
        let ranges = Ranges::of_range(range.low(), range.end());
        let mut validation = Validation::new(ranges, core.since(since.sequence()));
        match self.view() {
            Some(was) => validation.catch_up(&core, &was).await,
            None => Ok(()),
        }
    }

    /// Whether it began alone: then no other commit can be in its way.
    pub(super) fn is_alone(&self) -> bool {
        self.since.is_none()
    }

    /// The greatest key of all, where it is known without looking.
    pub(super) fn appended(&self) -> Option<&[u8]> {
        self.writes.appended.as_deref()
    }

    /// A key that was just put is greater than all others.
    pub(super) fn note_appended(&mut self, key: &[u8]) {
        self.writes.appended = Some(key.to_vec());
    }

    /// Whether it has outgrown its memory.
    pub(super) fn is_large(&self) -> bool {
        self.writes.is_large()
    }

    /// Deletes a key without waiting for anything: whoever does must see to what is large by then.
    pub(super) fn delete_now(&mut self, key: &[u8]) -> Result<()> {
        self.writes.appended = None;
        self.writes.delete(key)
    }

    /// A range that does not borrow the transaction. It must be gone before anything spills.
    pub(super) fn detached_range(
        &self,
        low: Bound<Vec<u8>>,
        high: Bound<Vec<u8>>,
    ) -> Range<'static> {
        self.reader.range(low, high)
    }

    pub(super) async fn spill_if_large(&mut self) -> Result<()> {
        self.writes.appended = None;
        if self.writes.is_large() {
            Box::pin(self.be_alone()).await?;
        }
        self.writes.spill_if_large().await?;
        self.read_bulk();
        Ok(())
    }

    /// Goes to the disk, as one that is too large for memory does. What was read may stand elsewhere
    /// afterwards.
    pub(super) async fn spill(&mut self) -> Result<()> {
        self.writes.appended = None;
        Box::pin(self.be_alone()).await?;
        Box::pin(self.writes.spill()).await?;
        self.read_bulk();
        Ok(())
    }

    /// Puts values of what is on the disk of it under other keys of the tree, which ascend, with the same
    /// data.
    pub(super) async fn share(&mut self, values: &[(Vec<u8>, OffTree)]) -> Result<()> {
        Box::pin(self.writes.share(values)).await?;
        self.read_bulk();
        Ok(())
    }

    fn read_bulk(&mut self) {
        if let Some(bulk) = &self.writes.bulk {
            self.reader.fixed = Some(bulk.view());
        }
    }
}

fn refused_before() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the transaction was refused before, or its validation was given up: it can only be dropped",
    )
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Begins a transaction on what is committed by now. It waits for nobody, and reads nothing.
    /// Errors: `ReadOnly`; `Closed`; `Poisoned`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("k", "v").wait()?;
    /// assert!(store.is_empty().wait()?);
    /// transaction.commit().wait()?;
    /// assert_eq!(store.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn begin(&self) -> Operation<impl Future<Output = Result<Transaction>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_writable(false)?;
            let (view, since) = core.view_since();
            let mut transaction = self.transaction(view, None);
            let reads = Reads::new(core.options.transaction_bytes / READS_SHARE);
            transaction.reader.reads = Some(Arc::new(Mutex::new(reads)));
            transaction.since = Some(since);
            Ok(transaction)
        })
    }

    /// Begins a transaction that is alone: it waits until nobody else commits, and all who want to
    /// commit wait until it is done; so it is never refused but for writing what others have
    /// locked, for whom it cannot wait. For loading much data at once, of which what comes in
    /// ascending order goes into the tree while it comes; and for what must not be tried twice.
    /// First come, first served.
    ///
    /// A task that holds it must not commit by other means and wait for that.
    ///
    /// Errors: those of [`begin`](Self::begin).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin_alone().wait()?;
    /// for number in 0..1000u32 {
    ///     transaction.put(number.to_be_bytes(), "…").wait()?;
    /// }
    /// transaction.commit().wait()?;
    /// assert_eq!(store.len().wait()?, 1000);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn begin_alone(
        &self,
    ) -> Operation<impl Future<Output = Result<Transaction>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_writable(false)?;
            let inside = core.enter_alone().await;
            core.check_writable(false)?;
            Ok(self.transaction(core.view(), Some(inside)))
        })
    }

    /// A transaction that is alone, and goes on from something else than the newest version.
    pub(super) fn transaction_of(&self, bulk: Bulk, inside: Inside) -> Transaction {
        let mut transaction = self.transaction(bulk.view(), Some(inside));
        transaction.writes.bulk = Some(bulk);
        transaction
    }

    fn transaction(&self, view: View, inside: Option<Inside>) -> Transaction {
        let core = &self.shared.core;
        let base = self.reader.base.clone();
        let writes = Writes::new(core, inside, base.clone(), self.party);
        let reader = Reader {
            core: Arc::clone(core),
            fixed: Some(view),
            overlay: Some(Arc::clone(&writes.overlay)),
            reads: None,
            base,
        };
        Transaction {
            reader,
            writes,
            durability: self.durability,
            isolation: Isolation::default(),
            since: None,
        }
    }
}
