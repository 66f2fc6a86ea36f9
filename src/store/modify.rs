//! Reading and writing in one: what depends on what was there.
//!
//! A transaction does it with its own reads and writes. A store does it in a transaction of its own,
//! which is committed only if something changed, and tried again if others were in the way.

use std::future::Future;
use std::ops::Bound;
use std::sync::Mutex;

use bytes::Bytes;

use super::Store;
use super::gate::lock;
use super::key_range::KeyRange;
use super::operation::Operation;
use super::range::Range;
use super::transaction::Transaction;
use super::value::{Entry, Value};
use crate::error::{Error, Result};

/// What [`Store::compare_exchange`] gives: `Err` has what was there instead.
pub type Exchanged = std::result::Result<(), Option<Value>>;

impl Transaction {
    /// Puts a value and gives the one before, as `BTreeMap::insert` does. [`put`](Self::put) is
    /// cheaper: it does not look.
    pub fn insert<K: AsRef<[u8]> + Send + Sync, V: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
        value: V,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send + use<'_, K, V>> {
        Operation::new(async move {
            let before = self.get(&key).await?;
            self.put(key, value).await?;
            Ok(before)
        })
    }

    /// Deletes a key and gives the value that it had, as `BTreeMap::remove` does.
    pub fn remove<K: AsRef<[u8]> + Send + Sync>(
        &mut self,
        key: K,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send + use<'_, K>> {
        Operation::new(async move {
            let before = self.get(&key).await?;
            if before.is_some() {
                self.delete(key).await?;
            }
            Ok(before)
        })
    }

    /// Puts a value unless the key has one; gives that one, or `None` if there was none.
    pub fn put_if_absent<K: AsRef<[u8]> + Send + Sync, V: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
        value: V,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send + use<'_, K, V>> {
        Operation::new(async move {
            let before = self.get(&key).await?;
            if before.is_none() {
                self.put(key, value).await?;
            }
            Ok(before)
        })
    }

    /// Replaces the value of a key if it is what one expects, `None` meaning none; gives what it is
    /// otherwise.
    pub fn compare_exchange<'o, K: AsRef<[u8]> + Send + Sync + 'o>(
        &'o mut self,
        key: K,
        expected: Option<&'o [u8]>,
        new: Option<&'o [u8]>,
    ) -> Operation<impl Future<Output = Result<Exchanged>> + Send + use<'o, K>> {
        Operation::new(async move {
            let before = self.get(&key).await?;
            if before.as_deref() != expected {
                return Ok(Err(before));
            }
            match new {
                Some(new) => self.put(key, new).await?,
                None if expected.is_some() => self.delete(key).await?,
                None => {}
            }
            Ok(Ok(()))
        })
    }

    /// Makes a new value of the old one; `None` is no value. Gives the new one. If the function
    /// panics, nothing has changed.
    pub fn update<K: AsRef<[u8]> + Send + Sync>(
        &mut self,
        key: K,
        function: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>> + Send,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send> {
        Operation::new(async move {
            let before = self.get(&key).await?;
            let after = function(before.as_deref());
            match &after {
                Some(after) => self.put(key, after).await?,
                None if before.is_some() => self.delete(key).await?,
                None => {}
            }
            Ok(after.map(|after| Value::new(after.into())))
        })
    }

    /// Takes the entry with the smallest key out.
    pub fn pop_first(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<Entry>>> + Send + use<'_>> {
        Operation::new(async move {
            let first = self.first().await?;
            if let Some((key, _)) = &first {
                self.delete(key).await?;
            }
            Ok(first)
        })
    }

    /// Takes the entry with the greatest key out.
    pub fn pop_last(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<Entry>>> + Send + use<'_>> {
        Operation::new(async move {
            let last = self.last().await?;
            if let Some((key, _)) = &last {
                self.delete(key).await?;
            }
            Ok(last)
        })
    }

    /// Deletes the entries of a range for which the function says `false`; gives their number.
    /// Memory: one entry, besides the transaction's own.
    pub fn retain_in(
        &mut self,
        range: impl KeyRange,
        mut keep: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        let mut extract = self.extract_if(range, move |key, value| !keep(key, value));
        Operation::new(async move {
            let mut deleted = 0;
            while extract.take_next(|_, _| ()).await?.is_some() {
                deleted += 1;
            }
            Ok(deleted)
        })
    }

    /// Takes the entries out of a range for which the function says `true`, one whenever one is
    /// asked for. Entries that were not asked for stay.
    pub fn extract_if<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        range: impl KeyRange,
        take: F,
    ) -> Extract<'_, F> {
        let (low, high) = range.to_bounds();
        Extract {
            transaction: self,
            low,
            high,
            range: None,
            take,
            failed: false,
        }
    }

    /// Puts a value under a key that is greater than all there are, as when loading what is sorted
    /// already. Only the first call, and one after other writes, looks what there is. Errors:
    /// `InvalidArgument` if the key is not greater.
    pub fn append<K: AsRef<[u8]> + Send + Sync, V: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
        value: V,
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'_, K, V>> {
        Operation::new(async move {
            let greatest = match self.appended() {
                Some(greatest) => Some(greatest.to_vec()),
                None => self.last().await?.map(|(key, _)| key),
            };
            let key = key.as_ref();
            if greatest.is_some_and(|greatest| key <= greatest.as_slice()) {
                return Err(Error::invalid(
                    "appending a key that is not greater than all there are",
                ));
            }
            self.put(key, value).await?;
            self.note_appended(key);
            Ok(())
        })
    }
}

/// Takes entries out of a range: see [`Transaction::extract_if`]. An [`Iterator`] that waits;
/// [`next_entry`](Self::next_entry) can be awaited.
#[must_use = "nothing is taken before it is asked for"]
pub struct Extract<'t, F> {
    transaction: &'t mut Transaction,
    /// What has not been looked at.
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    range: Option<Range<'static>>,
    take: F,
    failed: bool,
}

impl<F: FnMut(&[u8], &[u8]) -> bool> Extract<'_, F> {
    /// Takes the next entry that the function chooses.
    pub fn next_entry(&mut self) -> Operation<impl Future<Output = Result<Option<Entry>>>> {
        Operation::new(self.take_next(|key, value| {
            let value = Value::new(Bytes::copy_from_slice(value));
            (key.to_vec(), value)
        }))
    }

    async fn take_next<R>(&mut self, mut give: impl FnMut(&[u8], &[u8]) -> R) -> Result<Option<R>> {
        loop {
            let range = self.range.get_or_insert_with(|| {
                self.transaction
                    .detached_range(self.low.clone(), self.high.clone())
            });
            let take = &mut self.take;
            let looked_at = range
                .next_with(|key, value| take(key, value).then(|| (key.to_vec(), give(key, value))));
            let Some(taken) = looked_at.await? else {
                return Ok(None);
            };
            let Some((key, given)) = taken else { continue };
            if self.transaction.may_spill() {
                // What spills replaces the version that the range reads.
                self.range = None;
            }
            self.transaction.delete(&key).await?;
            self.low = Bound::Excluded(key);
            return Ok(Some(given));
        }
    }
}

impl<F: FnMut(&[u8], &[u8]) -> bool> Iterator for Extract<'_, F> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_entry().wait();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// What depends on what is there: each a transaction of its own, which is
/// [tried again](Store::transact) when another commit was in the way, and commits with the store's
/// durability. If nothing changes, nothing is committed.
impl Store {
    /// Puts a value and gives the one before, as `BTreeMap::insert` does. [`put`](Self::put) is
    /// cheaper: it does not look.
    pub fn insert<K: AsRef<[u8]> + Send + Sync, V: AsRef<[u8]> + Send>(
        &self,
        key: K,
        value: V,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send + use<'_, K, V>> {
        Operation::new(async move {
            let (key, value) = (key.as_ref(), value.as_ref());
            self.transact(|mut attempt| async move { attempt.insert(key, value).await })
                .await
        })
    }

    /// Deletes a key and gives the value that it had, as `BTreeMap::remove` does.
    /// [`delete`](Self::delete) is cheaper: it does not look.
    pub fn remove<K: AsRef<[u8]> + Send + Sync>(
        &self,
        key: K,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send + use<'_, K>> {
        Operation::new(async move {
            let key = key.as_ref();
            self.transact(|mut attempt| async move { attempt.remove(key).await })
                .await
        })
    }

    /// Puts a value unless the key has one; gives that one, or `None` if there was none.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// assert_eq!(store.put_if_absent("k", "first").wait()?, None);
    /// assert_eq!(store.put_if_absent("k", "second").wait()?.unwrap(), "first");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn put_if_absent<K: AsRef<[u8]> + Send + Sync, V: AsRef<[u8]> + Send>(
        &self,
        key: K,
        value: V,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send + use<'_, K, V>> {
        Operation::new(async move {
            let (key, value) = (key.as_ref(), value.as_ref());
            self.transact(|mut attempt| async move { attempt.put_if_absent(key, value).await })
                .await
        })
    }

    /// Replaces the value of a key if it is what one expects, `None` meaning none; gives what it is
    /// otherwise.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// assert!(store.compare_exchange("k", None, Some(b"1")).wait()?.is_ok());
    /// let other = store.compare_exchange("k", Some(b"0"), None).wait()?;
    /// assert_eq!(other.unwrap_err().unwrap(), "1");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn compare_exchange<'o, K: AsRef<[u8]> + Send + Sync + 'o>(
        &'o self,
        key: K,
        expected: Option<&'o [u8]>,
        new: Option<&'o [u8]>,
    ) -> Operation<impl Future<Output = Result<Exchanged>> + Send + use<'o, K>> {
        Operation::new(async move {
            let key = key.as_ref();
            self.transact(|mut attempt| async move {
                attempt.compare_exchange(key, expected, new).await
            })
            .await
        })
    }

    /// Makes a new value of the old one; `None` is no value. Gives the new one. If the function
    /// panics, nothing has changed. It is asked again when another commit changed the key meanwhile.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let longer = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"+"].concat());
    /// store.update("k", longer).wait()?;
    /// assert_eq!(store.update("k", longer).wait()?.unwrap(), "++");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn update<K: AsRef<[u8]> + Send + Sync>(
        &self,
        key: K,
        function: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>> + Send,
    ) -> Operation<impl Future<Output = Result<Option<Value>>> + Send> {
        Operation::new(async move {
            let key = key.as_ref();
            let function = Mutex::new(function);
            let function = &function;
            self.transact(|mut attempt| async move {
                let update = |old: Option<&[u8]>| (*lock(function))(old);
                attempt.update(key, update).await
            })
            .await
        })
    }

    /// Takes the entry with the smallest key out.
    pub fn pop_first(
        &self,
    ) -> Operation<impl Future<Output = Result<Option<Entry>>> + Send + use<'_>> {
        Operation::new(async move {
            self.transact(|mut attempt| async move { attempt.pop_first().await })
                .await
        })
    }

    /// Takes the entry with the greatest key out.
    pub fn pop_last(
        &self,
    ) -> Operation<impl Future<Output = Result<Option<Entry>>> + Send + use<'_>> {
        Operation::new(async move {
            self.transact(|mut attempt| async move { attempt.pop_last().await })
                .await
        })
    }

    /// Deletes the entries of a range for which the function says `false`; gives their number. All
    /// others who commit wait meanwhile, so that the function is asked once an entry.
    pub fn retain_in(
        &self,
        range: impl KeyRange + Send,
        keep: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        Operation::new(async move {
            let mut transaction = self.begin_alone().await?;
            let deleted = transaction.retain_in(range, keep).await?;
            transaction.commit().await?;
            Ok(deleted)
        })
    }

    /// Takes the entries out of a range for which the function says `true`. Memory: all that it
    /// gives; a transaction's [`extract_if`](Transaction::extract_if) gives them one by one. All others
    /// who commit wait meanwhile, so that the function is asked once an entry.
    pub fn extract_if(
        &self,
        range: impl KeyRange + Send,
        take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<Vec<Entry>>> + Send> {
        Operation::new(async move {
            let mut transaction = self.begin_alone().await?;
            let mut taken = Vec::new();
            let mut extract = transaction.extract_if(range, take);
            while let Some(entry) = extract.next_entry().await? {
                taken.push(entry);
            }
            transaction.commit().await?;
            Ok(taken)
        })
    }
}
