//! Changing a part of a value: overwriting, appending, truncating.
//!
//! A large value is made of the old one, with which it shares what stays: a change costs the blocks
//! that it touches and a path of index pages. Snapshots keep seeing the old one.

use std::future::Future;

use bytes::Bytes;

use super::Store;
use super::bases::HeldBase;
use super::operation::Operation;
use super::reader::Reader;
use super::transact::Attempt;
use super::transaction::Transaction;
use super::writing::Writing;
use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::format::record::Tag;
use crate::snapshot::{Find, Settled, load_value, off_tree_reader};
use crate::value::{OffTree, Splice, VALUE_BYTES_MAX};

/// What a change does to a value of some length; `None`: nothing.
type Plan<'b> = Box<dyn FnOnce(u64) -> Option<Splice<'b>> + Send + 'b>;

fn overwriting(offset: u64, bytes: &[u8]) -> Plan<'_> {
    Box::new(move |length| {
        let end = offset.saturating_add(bytes.len() as u64);
        (!bytes.is_empty()).then_some(Splice {
            keep: offset.min(length),
            zeros: offset.saturating_sub(length),
            bytes,
            resume: end.min(length),
        })
    })
}

fn appending(bytes: &[u8]) -> Plan<'_> {
    Box::new(move |length| {
        (!bytes.is_empty()).then_some(Splice {
            keep: length,
            zeros: 0,
            bytes,
            resume: length,
        })
    })
}

fn truncating<'b>(to: u64) -> Plan<'b> {
    Box::new(move |length| {
        (to < length).then_some(Splice {
            keep: to,
            zeros: 0,
            bytes: &[],
            resume: length,
        })
    })
}

impl Transaction {
    /// Overwrites a part of a value. What lies past its end makes it longer, a gap before that is
    /// filled with zeros; a key without a value counts as one with an empty value. No bytes change
    /// nothing. A reference is replaced by what its target's value becomes.
    ///
    /// Cost, for a value out of the tree: the blocks (32 KiB by default) that are touched, read
    /// where they are touched in part, and a path of index pages. A gap is written. Errors:
    /// `InvalidArgument` if the value gets longer than 1 TiB; those of [`get`](Self::get) and
    /// [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("k", "0123").wait()?;
    /// transaction.write_at("k", 2, b"abc").wait()?;
    /// assert_eq!(transaction.get("k").wait()?.unwrap(), "01abc");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn write_at<'o, K: AsRef<[u8]> + Send + 'o>(
        &'o mut self,
        key: K,
        offset: u64,
        bytes: &'o [u8],
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'o, K>> {
        Operation::new(async move { self.splice(key.as_ref(), overwriting(offset, bytes)).await })
    }

    /// Adds bytes to the end of a value; a key without one counts as one with an empty value, and no
    /// bytes change nothing. To put
    /// a key behind all others, there is [`append`](Self::append). Cost and errors: those of
    /// [`write_at`](Self::write_at).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.append_to("k", b"ab").wait()?;
    /// transaction.append_to("k", b"cd").wait()?;
    /// assert_eq!(transaction.get("k").wait()?.unwrap(), "abcd");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn append_to<'o, K: AsRef<[u8]> + Send + 'o>(
        &'o mut self,
        key: K,
        bytes: &'o [u8],
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'o, K>> {
        Operation::new(async move { self.splice(key.as_ref(), appending(bytes)).await })
    }

    /// Cuts a value to a length; one that is as short already, or absent, stays as it is. Cost and
    /// errors: those of [`write_at`](Self::write_at).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("k", "0123").wait()?;
    /// transaction.truncate("k", 1).wait()?;
    /// assert_eq!(transaction.get("k").wait()?.unwrap(), "0");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn truncate<'o, K: AsRef<[u8]> + Send + 'o>(
        &'o mut self,
        key: K,
        length: u64,
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'o, K>> {
        Operation::new(async move { self.splice(key.as_ref(), truncating(length)).await })
    }

    async fn splice(&mut self, key: &[u8], plan: Plan<'_>) -> Result<()> {
        let writing = self.spliced(key, plan).await?;
        if let Some(writing) = writing {
            let key = self.writes.base.key(key)?.to_vec();
            self.writes.put_written(&key, writing).await?;
        }
        self.spill_if_large().await
    }

    /// What becomes of the value of a key; `None` if it stays as it is.
    async fn spliced(&mut self, key: &[u8], plan: Plan<'_>) -> Result<Option<Writing>> {
        let core = self.writes.core.clone();
        core.check_writable(true)?;
        let full = self.reader.base.key(key)?.to_vec();
        let settled = self.reader.settled(&full).await?;
        let before = match settled {
            None => Bytes::new(),
            Some(Settled {
                tag: Tag::OffTree,
                payload,
                key: own,
            }) => {
                let reader = off_tree_reader(&core.pages, &payload)?;
                let Some(splice) = checked(plan, reader.value().length)? else {
                    return Ok(None);
                };
                // The value of another key, for which this one stands, is copied.
                let held = match own == full {
                    true => self.hold_base(&full, reader.value()).await?,
                    false => None,
                };
                let writing = Writing::of(&core, &reader, &splice, held).await?;
                return Ok(Some(writing));
            }
            Some(Settled { key, tag, payload }) => {
                load_value(&core.pages, &key, tag, &payload).await?
            }
        };
        let Some(splice) = checked(plan, before.len() as u64)? else {
            return Ok(None);
        };
        let mut writing = Writing::begin(&core)?;
        writing.write(&before[..splice.keep as usize]).await?;
        writing.write_new(&splice).await?;
        writing.write(&before[splice.resume as usize..]).await?;
        Ok(Some(writing))
    }

    /// Keeps a value of the key where it is, so that another one can share extents with it; `None` if
    /// it is not there any more.
    async fn hold_base(&self, key: &[u8], value: &OffTree) -> Result<Option<HeldBase>> {
        let core = &self.writes.core;
        let held = core.bases.hold(value);
        let root = value.root.extent.address;
        // Nobody moves anything while a large transaction builds on the newest version, nor what is
        // not in the tree.
        let is_own = self.writes.values.contains(root);
        if is_own || self.writes.bulk.is_some() {
            return Ok(Some(held));
        }
        let newest = Reader {
            fixed: None,
            overlay: None,
            reads: None,
            ..self.reader.clone()
        };
        let is_there = match newest.find_stored(key).await? {
            Some((Tag::OffTree, payload)) => OffTree::from_payload(&payload)?.is_same(value),
            _ => false,
        };
        Ok(is_there.then_some(held))
    }
}

/// What is to be done, unless it makes the value too long.
fn checked(plan: Plan<'_>, length: u64) -> Result<Option<Splice<'_>>> {
    let splice = plan(length);
    let after = splice.as_ref().map_or(0, |splice| splice.length(length));
    if after > VALUE_BYTES_MAX {
        return Err(Error::invalid(format!(
            "changing a part of a value: it would have {after} bytes, at most {VALUE_BYTES_MAX} are possible"
        )));
    }
    Ok(splice)
}

/// Changes of a part of a value: each a transaction of its own, which is [tried again](Store::transact)
/// when another commit was in the way, and commits with the store's durability.
impl Store {
    /// Overwrites a part of a value: see [`Transaction::write_at`]. Gives the sequence of the
    /// commit.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "some bytes").wait()?;
    /// store.write_at("k", 5, b"BYTES and more").wait()?;
    /// assert_eq!(store.get("k").wait()?.unwrap(), "some BYTES and more");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn write_at<'o, K: AsRef<[u8]> + Send + 'o>(
        &'o self,
        key: K,
        offset: u64,
        bytes: &'o [u8],
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'o, K>> {
        Operation::new(async move {
            let key = key.as_ref();
            let mut change =
                |mut attempt: Attempt| async move { attempt.write_at(key, offset, bytes).await };
            let changed = self.transact_once_or_more(&mut change).await;
            changed.map(|(_, sequence)| sequence)
        })
    }

    /// Adds bytes to the end of a value: see [`Transaction::append_to`]. Gives the sequence of the
    /// commit.
    /// Cost and errors: those of [`write_at`](Self::write_at).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.append_to("log", b"one, ").wait()?;
    /// store.append_to("log", b"two").wait()?;
    /// assert_eq!(store.get("log").wait()?.unwrap(), "one, two");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn append_to<'o, K: AsRef<[u8]> + Send + 'o>(
        &'o self,
        key: K,
        bytes: &'o [u8],
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'o, K>> {
        Operation::new(async move {
            let key = key.as_ref();
            let mut change =
                |mut attempt: Attempt| async move { attempt.append_to(key, bytes).await };
            let changed = self.transact_once_or_more(&mut change).await;
            changed.map(|(_, sequence)| sequence)
        })
    }

    /// Cuts a value to a length: see [`Transaction::truncate`]. Gives the sequence of the commit.
    /// Cost and errors:
    /// those of [`write_at`](Self::write_at).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "0123").wait()?;
    /// store.truncate("k", 1).wait()?;
    /// assert_eq!(store.get("k").wait()?.unwrap(), "0");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn truncate<'o, K: AsRef<[u8]> + Send + 'o>(
        &'o self,
        key: K,
        length: u64,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'o, K>> {
        Operation::new(async move {
            let key = key.as_ref();
            let mut change =
                |mut attempt: Attempt| async move { attempt.truncate(key, length).await };
            let changed = self.transact_once_or_more(&mut change).await;
            changed.map(|(_, sequence)| sequence)
        })
    }
}
