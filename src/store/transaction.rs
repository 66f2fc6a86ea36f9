//! [`Transaction`]: several operations that take effect together or not at all.

use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use super::bulk::Bulk;
use super::commit::Entry;
use super::core::Core;
use super::gate::{Inside, lock};
use super::maintenance::LoggedValue;
use super::operation::Operation;
use super::options::Durability;
use super::range::Range;
use super::reader::{Reader, check_key, half_open};
use super::subtree::{Base, Bounds};
use super::{Store, reading_methods, writing_methods};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Tag, USER_TREE};
use crate::format::{Address, SequenceNumber};
use crate::space::{Owner, Urgency};
use crate::transaction::Overlay;
use crate::value::{Shape, VALUE_BYTES_MAX, ValueWriter};

/// The largest operand of a merge, in bytes.
const OPERAND_BYTES_MAX: usize = 64 << 10;

/// More than the memory of a transaction grows by with a delete: a chunk of its arena.
const DELETE_MEMORY_BYTES_MAX: usize = 2 << 20;

/// How many bytes of operations whose keys ascend are kept in memory.
const ASCENDING_BYTES: usize = 8 << 20;

/// Operations that take effect together, or not at all when it is dropped.
///
/// It reads the store as it was when it began, and its own writes. Transactions queue: one at a
/// time is open, and single writes wait for it; so a task that holds one must not write by other
/// means and wait for that. Its memory is bounded by
/// [`Options::transaction_bytes`](crate::Options::transaction_bytes): what is more goes to the disk
/// before the commit, where nobody sees it.
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
}

/// What a transaction wrote.
pub(super) struct Writes {
    pub(super) core: Arc<Core>,
    pub(super) overlay: Arc<Mutex<Overlay>>,
    /// Off-tree values that it wrote.
    pub(super) values: Vec<(Address, LoggedValue)>,
    /// Whether it may make the store larger.
    grows: bool,
    pub(super) bulk: Option<Bulk>,
    /// A spill was begun and not finished: part of the writes is in neither place.
    torn: bool,
    /// The last key that was appended, while nothing was written after it.
    appended: Option<Vec<u8>>,
    pub(super) inside: Option<Inside>,
    /// What the view adds to each key.
    pub(super) base: Base,
}

impl Writes {
    pub(super) fn new(core: &Arc<Core>, inside: Option<Inside>, base: Base) -> Self {
        Self {
            core: Arc::clone(core),
            overlay: Arc::new(Mutex::new(Overlay::new(USER_TREE))),
            values: Vec::new(),
            grows: false,
            bulk: None,
            torn: false,
            appended: None,
            inside,
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
        let payload = Box::pin(self.write_value(value)).await?;
        lock(&self.overlay).put(key, Tag::OffTree, &payload);
        Ok(())
    }

    /// Writes an off-tree value, which nothing names yet.
    async fn write_value(&mut self, value: &[u8]) -> Result<Vec<u8>> {
        if value.len() as u64 > VALUE_BYTES_MAX {
            return Err(Error::invalid(format!(
                "a value of {} bytes: at most {VALUE_BYTES_MAX} are possible",
                value.len()
            )));
        }
        let pages = &self.core.pages;
        let segment_bytes = pages.disk.properties().segment_bytes;
        let shape = Shape::new(pages.settings.block_bytes, segment_bytes)?;
        let birth = self.core.value_birth();
        let space = Arc::clone(pages);
        let allocate = move |bytes| {
            space
                .space
                .allocate(bytes, Owner::Unattached, Urgency::Ordinary)
        };
        let disk = pages.disk.clone();
        let writer = ValueWriter::new(disk, pages.store, birth, shape, allocate);
        let mut unfinished = Unfinished {
            core: &self.core,
            writer: Some(writer),
        };
        let Some(writer) = &mut unfinished.writer else {
            return Err(Error::invalid("a writer that was just made"));
        };
        writer.write(value).await?;
        let written = writer.finish().await?;
        unfinished.writer = None;
        let logged = LoggedValue {
            birth,
            extents: written.extents,
        };
        self.values
            .push((written.value.root.extent.address, logged));
        Ok(written.value.to_payload().to_vec())
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
            let mut value = vec![0; length];
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
        self.exceeds_memory_with(0)
    }

    /// The same, were so many bytes added.
    fn exceeds_memory_with(&self, more_bytes: usize) -> bool {
        let overlay = lock(&self.overlay);
        let bytes = overlay.memory_bytes() + more_bytes;
        let most = self.core.options.transaction_bytes;
        // Where keys ascend no step makes the pages of another anew: small ones cost nothing, and the
        // log could not take so much. But what keeps nobody waiting yet, goes on so.
        let in_steps = bytes > ASCENDING_BYTES && overlay.ascends() && self.inside.is_some();
        bytes > most || (in_steps && bytes > 2 * self.core.logged_bytes_max())
    }

    /// Whether the log takes it: more goes straight into the tree.
    pub(super) fn is_logged(&self) -> bool {
        self.bulk.is_none() && lock(&self.overlay).bytes() <= self.core.logged_bytes_max()
    }

    async fn spill(&mut self) -> Result<()> {
        self.check_whole()?;
        if self.bulk.is_none() {
            self.bulk = Some(Bulk::begin(&self.core).await?);
        }
        // Until it is done: an error or a dropped future leaves it so.
        self.torn = true;
        let overlay = lock(&self.overlay).take();
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

    fn check_whole(&self) -> Result<()> {
        match self.torn {
            true => Err(Error::new(
                ErrorKind::Cancelled,
                "an earlier write of the transaction was not finished: it can only be dropped",
            )),
            false => Ok(()),
        }
    }

    pub(super) async fn commit(mut self, durability: Durability) -> Result<SequenceNumber> {
        let urgency = if self.grows {
            Urgency::Ordinary
        } else {
            Urgency::Emergency
        };
        self.check_whole()?;
        self.core.check_writable(self.grows)?;
        self.core.wait_for_room().await?;
        if !self.is_logged() {
            self.spill().await?;
            let Some(bulk) = self.bulk.take() else {
                return self.core.sync().await;
            };
            let values = std::mem::take(&mut self.values);
            let core = Arc::clone(&self.core);
            let inside = self.inside.take();
            let work = {
                let core = Arc::clone(&core);
                async move { bulk.commit(&core, values, inside).await }
            };
            return core.run_job(work).await;
        }
        let empty = Overlay::new(USER_TREE);
        let overlay = std::mem::replace(&mut *lock(&self.overlay), empty);
        if overlay.is_empty() {
            return Ok(self.core.published());
        }
        let entry = Entry {
            records: overlay.into_buffers().into(),
            durability,
            values: std::mem::take(&mut self.values),
            urgency,
            elsewhere: None,
            inside: self.inside.take(),
        };
        self.core.commit(entry).await
    }
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

/// A value that is being written; what it took is given back when it does not get finished.
struct Unfinished<'c, A: crate::value::Allocate> {
    core: &'c Core,
    writer: Option<ValueWriter<A>>,
}

impl<A: crate::value::Allocate> Drop for Unfinished<'_, A> {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        // What a save may still be writing to is not used again before the store is reopened.
        for extent in writer.abandon().idle {
            if let Err(error) = self.core.pages.space.abandon(extent) {
                debug_assert!(false, "an extent that was allocated: {error}");
            }
        }
    }
}

impl Transaction {
    reading_methods!('_);

    writing_methods!();

    /// Makes all of it take effect at once; gives the sequence of the commit. Dropping the future
    /// after its first poll does not call the commit back.
    pub fn commit(self) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send> {
        let Self {
            reader,
            writes,
            durability,
        } = self;
        Operation::new(async move {
            // The view it read is not needed any more, and would keep what the commit replaces.
            drop(reader);
            writes.commit(durability).await
        })
    }

    /// The greatest key of all, where it is known without looking.
    pub(super) fn appended(&self) -> Option<&[u8]> {
        self.writes.appended.as_deref()
    }

    /// A key that was just put is greater than all others.
    pub(super) fn note_appended(&mut self, key: &[u8]) {
        self.writes.appended = Some(key.to_vec());
    }

    /// Whether deleting a key may spill.
    pub(super) fn may_spill(&self) -> bool {
        self.writes.exceeds_memory_with(DELETE_MEMORY_BYTES_MAX)
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
        self.writes.spill_if_large().await?;
        if let Some(bulk) = &self.writes.bulk {
            self.reader.fixed = Some(bulk.view());
        }
        Ok(())
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Begins a transaction, when those before it are done.
    pub fn begin(&self) -> Operation<impl Future<Output = Result<Transaction>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_writable(false)?;
            let inside = core.enter_alone().await;
            core.check_writable(false)?;
            let base = self.reader.base.clone();
            let writes = Writes::new(core, Some(inside), base.clone());
            let reader = Reader {
                core: Arc::clone(core),
                fixed: Some(core.view()),
                overlay: Some(Arc::clone(&writes.overlay)),
                base,
            };
            Ok(Transaction {
                reader,
                writes,
                durability: self.durability,
            })
        })
    }
}
