//! [`Writes`]: what a transaction wrote, in memory or on its way to the disk, until it is committed.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::bulk::Bulk;
use super::commit::Entry;
use super::core::Core;
use super::gate::{Inside, Pass, lock};
use super::naming::{Naming, Saved, saved_bytes};
use super::options::Durability;
use super::own_values::OwnValues;
use super::reader::{check_key, half_open};
use super::subtree::{Base, Bounds};
use super::validation::Validation;
use super::writing::Writing;
use crate::disk::in_blocking_face;
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::format::record::{Tag, USER_TREE, read_range_end};
use crate::space::Urgency;
use crate::transaction::locks::{self, LockRange, OwnerId, Wanted};
use crate::transaction::{Overlay, OverlayMark, Ranges};
use crate::value::{OffTree, VALUE_BYTES_MAX};

/// The largest operand of a merge, in bytes.
const OPERAND_BYTES_MAX: usize = 64 << 10;

/// How many bytes of operations whose keys ascend are kept in memory.
const ASCENDING_BYTES: usize = 8 << 20;

/// What a transaction wrote.
pub(super) struct Writes {
    pub(super) core: Arc<Core>,
    pub(super) overlay: Arc<Mutex<Overlay>>,
    /// Off-tree values that it wrote.
    pub(super) values: OwnValues,
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
    pub(super) appended: Option<Vec<u8>>,
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
            values: OwnValues::default(),
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
        self.values.push(root, logged);
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
    pub(super) async fn share(&mut self, values: &[(Vec<u8>, OffTree)]) -> Result<()> {
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

    pub(super) async fn spill(&mut self) -> Result<()> {
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
        for (_, value) in self.values.split_off(mark.values) {
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
    pub(super) fn keys(&self) -> Ranges {
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
            let values = self.values.take();
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
            values: self.values.take(),
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
        for (_, value) in self.values.take() {
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
