//! Single writes: one operation, as a commit of its own.
//!
//! An operation is encoded once, into the buffer that goes to the log and into the journal. Where
//! nobody else writes and no sync is asked for, all of it happens in one function; else it is a commit
//! as any other. Only values that are too large for a leaf, and records that are too large for the
//! log, take the way of a batch.

use std::future::Future;
use std::sync::MutexGuard;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use smallvec::smallvec;

use super::Store;
use super::commit::Entry;
use super::core::Core;
use super::gate::{Inside, Pass};
use super::key_range::KeyRange;
use super::operation::{Look, LookFirst, Operation};
use super::options::Durability;
use super::reader::{check_key, half_open};
use super::writes::{check_operand, zeroed};
use crate::disk::{Page, in_blocking_face};
use crate::error::Result;
use crate::format::SequenceNumber;
use crate::format::record::{Record, Tag, USER_TREE, range_end_payload, read_range_end};
use crate::log::writer::LogWriter;
use crate::space::Urgency;
use crate::transaction::locks::{Owner, Wanted};

/// A value or a deletion that is to be committed.
struct Write<'s, K, V> {
    store: &'s Store,
    tag: Tag,
    key: K,
    value: V,
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> Look for Write<'_, K, V> {
    type Found = Result<SequenceNumber>;

    #[inline]
    fn look(self) -> std::result::Result<Self::Found, Self> {
        let (key, value) = (self.key.as_ref(), self.value.as_ref());
        self.store.commit_now(self.tag, key, value).ok_or(self)
    }
}

impl Store {
    /// Puts a value, as a commit of its own; gives its sequence. Costs a write to the log, and the
    /// share of a sync that the [durability](crate::Durability) asks for; nothing is read. A value
    /// that is too large for a leaf is written out of the tree.
    ///
    /// Errors: `InvalidArgument` for a key of more than 32 KiB or a value of more than 1 TiB;
    /// `StorageFull`; `ReadOnly`; `Closed`; `Poisoned` after a failed sync; `Io`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let first = store.put("k", "v").wait()?;
    /// let second = store.put("k", "w").wait()?;
    /// assert!(first < second);
    /// assert_eq!(store.get("k").wait()?.unwrap(), "w");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn put<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
        &self,
        key: K,
        value: V,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'_, K, V>> {
        let write = Write {
            store: self,
            tag: Tag::Inline,
            key,
            value,
        };
        Operation::new(LookFirst::new(write, |write: Write<'_, K, V>| async move {
            let (key, value) = (write.key.as_ref(), write.value.as_ref());
            write.store.put_single(key, value).await
        }))
    }

    /// Puts a value of a known length, in bytes, that a function fills in place, as a commit of its
    /// own. It is given zeros; if it panics, nothing has changed. Cost and errors: those of
    /// [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put_reserved("k", 8, |value| value.copy_from_slice(&7u64.to_be_bytes())).wait()?;
    /// assert_eq!(store.get("k").wait()?.unwrap(), 7u64.to_be_bytes());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn put_reserved<K: AsRef<[u8]> + Send>(
        &self,
        key: K,
        length: usize,
        fill: impl FnOnce(&mut [u8]) + Send,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send> {
        Operation::new(async move {
            self.reader.base.key(key.as_ref())?;
            self.shared.core.check_writable(true)?;
            let mut value = zeroed(length)?;
            fill(&mut value);
            self.put_single(key.as_ref(), &value).await
        })
    }

    /// Makes a key stand for another one, as a commit of its own: whoever reads the value of `key`
    /// by name ([`get`](Self::get), [`get_with`](Self::get_with), [`contains_key`](Self::contains_key)
    /// and the like) gets that of `target`, in the same version. In a view both are keys of the view,
    /// and what is stored is the whole key, so that wider views read it, too.
    ///
    /// * Up to 16 references are followed, one after the other. What leads to no value is an error
    ///   (`BrokenReference`) whose [`chain`](crate::Error::chain) has the keys: a target that has none,
    ///   a circle, or more of them. The target is not looked for here: it may come later.
    /// * A view is never left: a reference to a key outside of the view that is read is an error.
    /// * `put` and `delete` are about the reference itself. What depends on what is there
    ///   ([`insert`](Self::insert), [`update`](Self::update) and the like) reads what the reference
    ///   gives, and puts in the place of the reference. Operands of [`merge`](Self::merge) stay over
    ///   the reference: they change what it gives, whatever that comes to be, and not the target.
    /// * Ranges, `first`, `last`, `nth`, `pop_first` and the like give the reference itself:
    ///   [`Value::kind`](crate::Value::kind), [`Range::following`](crate::Range::following). Counts
    ///   count it as an entry.
    ///
    /// Costs as [`put`](Self::put) of the key as a value; reading it, one more `get` for each
    /// reference. [`verify`](Self::verify) lists those that lead to no value. Errors: those of `put`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("2026/report", "words").wait()?;
    /// store.put_reference("newest", "2026/report").wait()?;
    /// assert_eq!(store.get("newest").wait()?.unwrap(), "words");
    ///
    /// store.delete("2026/report").wait()?;
    /// let error = store.get("newest").wait().unwrap_err();
    /// assert_eq!(error.kind(), thunderhead::ErrorKind::BrokenReference);
    /// assert_eq!(error.chain(), [&b"newest"[..], b"2026/report"]);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn put_reference<K: AsRef<[u8]> + Send, T: AsRef<[u8]> + Send>(
        &self,
        key: K,
        target: T,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'_, K, T>> {
        Operation::new(async move {
            let target = self.reader.base.key(target.as_ref())?;
            self.commit_single(Tag::Reference, key.as_ref(), &target)
                .await
        })
    }

    /// Deletes a key, as a commit of its own. No error if there is none. Does not look whether
    /// there is. Costs a [`put`](Self::put), and has its errors; a full disk is no reason.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// store.delete("k").wait()?;
    /// store.delete("never there").wait()?;
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn delete<K: AsRef<[u8]> + Send>(
        &self,
        key: K,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'_, K>> {
        let write = Write {
            store: self,
            tag: Tag::Delete,
            key,
            value: [],
        };
        Operation::new(LookFirst::new(write, |write: Write<'_, K, _>| async move {
            write
                .store
                .commit_single(write.tag, write.key.as_ref(), &[])
                .await
        }))
    }

    /// Deletes all keys of a range, as a commit of its own. O(1) here; the store does the work in
    /// the background. Errors: those of [`put`](Self::put); a full disk is no reason.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("2025/old", "…").wait()?;
    /// store.put("2026/new", "…").wait()?;
    /// store.delete_range(.."2026/").wait()?;
    /// assert_eq!(store.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn delete_range(
        &self,
        range: impl KeyRange,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send> {
        let (low, high) = range.to_bounds();
        let (low, high) = self.reader.base.bounds(low, high);
        let range = half_open(low, high);
        Operation::new(async move {
            let Some((low, end)) = range else {
                return Ok(self.shared.core.published());
            };
            check_key(end.as_deref().unwrap_or(&[]))?;
            let end = range_end_payload(end.as_deref());
            self.commit_full(Tag::DeleteRange, &low, &end).await
        })
    }

    /// Merges an operand into the value of a key, as a commit of its own: see
    /// [`MergeOperator`](crate::MergeOperator). Does not look what there is. Errors: those of
    /// [`put`](Self::put); `InvalidArgument` for an operand of more than 64 KiB; `OperatorMissing`
    /// if the operator is not registered with
    /// [`Options::merge_operator`](crate::Options::merge_operator).
    ///
    /// Operands are merged into small values whenever these are written anyway. Into one that is too
    /// large for a leaf they are merged in the background, which reads it and writes it anew, when they
    /// have a quarter of its length, or 1 MiB, but not before they have 64 KiB.
    ///
    /// Over a [reference](Self::put_reference), whose value may be another one tomorrow, and over a value
    /// of more than 1 GiB they stay operands, out of the tree when they are many. Who reads such a key has
    /// all of them in memory, and so has the background when it writes them anew.
    ///
    /// ```
    /// use thunderhead::{MergeOperator, Options, disk::MemoryDisk};
    ///
    /// struct Longest;
    ///
    /// impl MergeOperator for Longest {
    ///     fn name(&self) -> &str {
    ///         "longest"
    ///     }
    ///
    ///     fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
    ///         let existing = existing.unwrap_or_default();
    ///         out.extend_from_slice(if existing.len() < operand.len() { operand } else { existing });
    ///     }
    /// }
    ///
    /// let store = Options::new().merge_operator(Longest).open_disk(MemoryDisk::new())?;
    /// for word in ["a", "abc", "ab"] {
    ///     store.merge("word", "longest", word).wait()?;
    /// }
    /// assert_eq!(store.get("word").wait()?.unwrap(), "abc");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn merge<K: AsRef<[u8]> + Send, V: AsRef<[u8]> + Send>(
        &self,
        key: K,
        operator: &str,
        operand: V,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send> {
        Operation::new(async move {
            let operators = &self.shared.core.pages.operators;
            check_operand(operand.as_ref())?;
            let chain = operators.chain_of(operator, operand.as_ref())?;
            self.commit_single(Tag::Merge, key.as_ref(), &chain).await
        })
    }

    async fn put_single(&self, key: &[u8], value: &[u8]) -> Result<SequenceNumber> {
        let core = &self.shared.core;
        if value.len() <= core.pages.settings.inline_bytes_max as usize {
            return self.commit_single(Tag::Inline, key, value).await;
        }
        // Boxed, as all that is rare here: an operation is moved before it is driven.
        Box::pin(async {
            let mut batch = self.batch();
            batch.put(key, value).await?;
            batch.commit().await
        })
        .await
    }

    async fn commit_single(&self, tag: Tag, key: &[u8], payload: &[u8]) -> Result<SequenceNumber> {
        let key = self.reader.base.key(key)?;
        self.commit_full(tag, &key, payload).await
    }

    /// Waits until nobody else has locked what a record writes.
    fn pass_locks<'w>(
        &'w self,
        inside: Inside,
        record: &Record<'w>,
    ) -> BoxFuture<'w, Result<(Inside, Option<Owner>)>> {
        let core = &self.shared.core;
        let wanted = match record.tag {
            Tag::DeleteRange => {
                let end = read_range_end(record.payload).unwrap_or_default();
                Wanted::Range(record.key, end)
            }
            _ => Wanted::Key(record.key),
        };
        let meet = move |party| core.locks.met(party, [wanted]);
        Box::pin(core.pass_locks(inside, Pass::Shared, self.party, meet))
    }

    /// Commits at once, if that takes nobody but this thread, and it waits: `None` if not, and then
    /// nothing was done.
    #[inline]
    fn commit_now(&self, tag: Tag, key: &[u8], payload: &[u8]) -> Option<Result<SequenceNumber>> {
        let core = &self.shared.core;
        let too_large = payload.len() > core.pages.settings.inline_bytes_max as usize;
        if too_large || !in_blocking_face() {
            return None;
        }
        match self.reader.base.key(key) {
            Ok(key) => self.commit_full_now(tag, &key, payload).transpose(),
            Err(error) => Some(Err(error)),
        }
    }

    fn commit_full_now(
        &self,
        tag: Tag,
        key: &[u8],
        payload: &[u8],
    ) -> Result<Option<SequenceNumber>> {
        let core = &self.shared.core;
        let (record, bytes) = self.checked(tag, key, payload)?;
        if bytes > core.logged_bytes_max() || !core.has_room() {
            return Ok(None);
        }
        let Some(inside) = core.gate.enter_now(Pass::Shared) else {
            return Ok(None);
        };
        if !core.locks.is_idle() {
            return Ok(None);
        }
        core.check_open()?;
        let Some(mut alone) = core.alone_waiting(self.durability) else {
            return Ok(None);
        };
        if self.durability == Durability::Buffered
            && let Some(sequence) = core.commit_small(&mut alone, &Small::One(record), bytes)?
        {
            return Ok(Some(sequence));
        }
        let encoded = core.encode(&record, bytes);
        let entry = self.entry(&record, encoded, Vec::new(), inside);
        core.commit_alone(alone, entry).map(Some)
    }

    /// A record that may be written, and how many bytes it has.
    #[inline]
    fn checked<'w>(
        &self,
        tag: Tag,
        key: &'w [u8],
        payload: &'w [u8],
    ) -> Result<(Record<'w>, usize)> {
        check_key(key)?;
        self.shared.core.check_writable(grows(tag))?;
        let record = Record {
            tag,
            tree: USER_TREE,
            key,
            payload,
        };
        Ok((record, record.encoded_bytes()))
    }

    #[inline]
    fn entry(
        &self,
        record: &Record<'_>,
        encoded: Bytes,
        locks: Vec<Owner>,
        inside: Inside,
    ) -> Entry {
        Entry {
            urgency: match grows(record.tag) {
                true => Urgency::Ordinary,
                false => Urgency::Emergency,
            },
            locks,
            inside: Some(inside),
            ..Entry::new(smallvec![encoded], self.durability)
        }
    }

    /// Commits what is too long for a record among others.
    async fn commit_as_batch(
        &self,
        tag: Tag,
        key: &[u8],
        payload: &[u8],
    ) -> Result<SequenceNumber> {
        let mut batch = self.batch();
        batch.writes.append(tag, key, payload);
        batch.commit().await
    }

    /// As [`Self::commit_single`], with a key as the tree has it.
    async fn commit_full(&self, tag: Tag, key: &[u8], payload: &[u8]) -> Result<SequenceNumber> {
        let core = &self.shared.core;
        let (record, bytes) = self.checked(tag, key, payload)?;
        if bytes > core.logged_bytes_max() {
            return Box::pin(self.commit_as_batch(tag, key, payload)).await;
        }
        let encoded = core.encode(&record, bytes);
        if !core.has_room() {
            Box::pin(core.wait_for_room()).await?;
        }
        let mut inside = core.gate.enter(Pass::Shared).await;
        let mut locks = Vec::new();
        if !core.locks.is_idle() {
            let (again, owner) = self.pass_locks(inside, &record).await?;
            inside = again;
            locks.extend(owner);
        }
        // It may have waited for a close, behind which nobody would sync it.
        core.check_open()?;
        core.commit(self.entry(&record, encoded, locks, inside))
            .await
    }
}

/// Whether what is written may take more space.
fn grows(tag: Tag) -> bool {
    !matches!(tag, Tag::Delete | Tag::DeleteRange)
}

/// How much memory a store sets aside at a time for the records of single writes.
const ENCODED_BYTES: usize = 32 << 10;

impl Core {
    /// Memory for so few bytes, which it shares with those before and after them: the journals keep
    /// and give it up together.
    fn shared_memory(&self, bytes: usize) -> Option<MutexGuard<'_, BytesMut>> {
        if bytes > ENCODED_BYTES / 16 {
            return None;
        }
        let mut shared = self.encoded.try_lock().ok()?;
        if shared.capacity() < bytes {
            *shared = BytesMut::with_capacity(ENCODED_BYTES);
        }
        Some(shared)
    }

    /// Puts a record of so many bytes into memory.
    fn encode(&self, record: &Record<'_>, bytes: usize) -> Bytes {
        let Some(mut shared) = self.shared_memory(bytes) else {
            let mut encoded = Vec::with_capacity(bytes);
            record.append_to(&mut encoded);
            return encoded.into();
        };
        record.append_to(&mut *shared);
        shared.split().freeze()
    }

    /// Puts what is written, so many bytes, into memory as a page of the log, where it comes last.
    /// `None`: it is too large for that, or the log has no room at hand.
    pub(super) fn encode_page(
        &self,
        log: &mut LogWriter,
        written: &Small<'_>,
        bytes: usize,
    ) -> Option<Page> {
        let mut shared = self.shared_memory(LogWriter::group_bytes(bytes))?;
        let append = |to: &mut &mut [u8]| match written {
            Small::One(record) => record.append_to(to),
            Small::Encoded(records) => to.put_slice(records),
        };
        log.append_small(bytes, append, &mut shared)
    }
}

/// What a commit writes that goes to the log in one piece.
pub(super) enum Small<'r> {
    /// One record, which was checked.
    One(Record<'r>),
    /// Some records, encoded.
    Encoded(&'r [u8]),
}
