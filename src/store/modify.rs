//! Reading and writing in one: what depends on what was there.
//!
//! A transaction does it with its own reads and writes. A store does it in a transaction of its own,
//! which is committed only if something changed, and tried again if others were in the way.

use std::future::{Future, poll_fn};
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use futures::Stream;

use super::Store;
use super::gate::lock;
use super::key_range::KeyRange;
use super::operation::Operation;
use super::pending::PendingIn;
use super::range::Range;
use super::transaction::Transaction;
use super::value::{Entry, Value};
use crate::disk::block_on;
use crate::error::{Error, Result};

/// What [`Store::compare_exchange`] gives: `Err` has what was there instead.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// assert_eq!(store.compare_exchange("k", None, Some(b"1")).wait()?, Ok(()));
/// let found = store.compare_exchange("k", None, Some(b"2")).wait()?.unwrap_err();
/// assert_eq!(found.unwrap(), "1");
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub type Exchanged = std::result::Result<(), Option<Value>>;

impl Transaction {
    /// Puts a value and gives the one before, as `BTreeMap::insert` does. [`put`](Self::put) is
    /// cheaper: it does not look. Costs a `get` and a `put`; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// assert_eq!(transaction.insert("k", "1").wait()?, None);
    /// assert_eq!(transaction.insert("k", "2").wait()?.unwrap(), "1");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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

    /// Deletes a key and gives the value that it had, as `BTreeMap::remove` does. Costs a `get`, and a
    /// `delete` where there is one; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("k", "v").wait()?;
    /// assert_eq!(transaction.remove("k").wait()?.unwrap(), "v");
    /// assert_eq!(transaction.remove("k").wait()?, None);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// Costs a `get`, and a `put` where there is none; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// assert_eq!(transaction.put_if_absent("k", "first").wait()?, None);
    /// assert_eq!(transaction.put_if_absent("k", "second").wait()?.unwrap(), "first");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// otherwise, which is no error. `new` may be none, too: then the key is deleted. Costs a `get`
    /// and a `put`; errors: those of [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// assert!(transaction.compare_exchange("k", None, Some(b"1")).wait()?.is_ok());
    /// assert!(transaction.compare_exchange("k", Some(b"0"), None).wait()?.is_err());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// panics, nothing has changed. Costs a `get` and a `put`, and both values in memory; errors:
    /// those of [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// let longer = |old: Option<&[u8]>| Some([old.unwrap_or_default(), b"+"].concat());
    /// transaction.update("k", longer).wait()?;
    /// assert_eq!(transaction.update("k", longer).wait()?.unwrap(), "++");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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

    /// Takes the entry with the smallest key out; `None` if there is none. Costs a descent and a
    /// `delete`, and goes over what was deleted before it and is not in the tree yet, about 0.1 µs for
    /// each: many at a time are had for less by [`extract_if`](Self::extract_if). What it reads is the way to the entry, so two at the same time conflict. Errors:
    /// those of [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("a", "1").wait()?;
    /// transaction.put("b", "2").wait()?;
    /// let (key, _value) = transaction.pop_first().wait()?.expect("there are two");
    /// assert_eq!(key, b"a");
    /// assert_eq!(transaction.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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

    /// Takes the entry with the greatest key out; `None` if there is none. Costs a descent and a
    /// `delete`. What it reads is the way to the entry, so two at the same time conflict. Errors:
    /// those of [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("a", "1").wait()?;
    /// transaction.put("b", "2").wait()?;
    /// let (key, _value) = transaction.pop_last().wait()?.expect("there are two");
    /// assert_eq!(key, b"b");
    /// assert_eq!(transaction.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// Costs reading the range, large values too, and
    /// a `delete` for each that goes. Memory: one entry, besides the transaction's own. If the function
    /// panics, those before are deleted. Errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// for (key, value) in [("a", "keep"), ("b", "drop"), ("c", "keep")] {
    ///     transaction.put(key, value).wait()?;
    /// }
    /// assert_eq!(transaction.retain_in(.., |_, value| value == b"keep").wait()?, 1);
    /// assert_eq!(transaction.len().wait()?, 2);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn retain_in(
        &mut self,
        range: impl KeyRange,
        mut keep: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        let mut extract = self.extract_if(range, move |key, value| !keep(key, value));
        Operation::new(async move {
            let mut deleted = 0;
            while let Some(()) = poll_fn(|context| extract.poll_take(|_, _| (), context)).await? {
                deleted += 1;
            }
            Ok(deleted)
        })
    }

    /// Takes the entries out of a range for which the function says `true`, one whenever one is
    /// asked for. Entries that were not asked for stay. Costs reading the range as far as it is
    /// asked for. Errors come in the place of entries: those of [`get`](Self::get) and
    /// [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// for (key, value) in [("a", "1"), ("b", "2"), ("c", "2")] {
    ///     transaction.put(key, value).wait()?;
    /// }
    /// let mut taken = transaction.extract_if(.., |_, value| value == b"2");
    /// assert_eq!(taken.next().transpose()?.unwrap().0, b"b");
    /// drop(taken);
    /// assert_eq!(transaction.len().wait()?, 2);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn extract_if<F: FnMut(&[u8], &[u8]) -> bool>(
        &mut self,
        range: impl KeyRange,
        take: F,
    ) -> Extract<'_, F> {
        let (low, high) = range.to_bounds();
        Extract {
            transaction: Some(self),
            spilling: None,
            low,
            high,
            range: None,
            take,
            failed: false,
        }
    }

    /// Puts a value under a key that is greater than all there are, as when loading what is sorted
    /// already. Only the first call, and one after other writes, looks what there is. Errors:
    /// `InvalidArgument` if the key is not greater; those of [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin_alone().wait()?;
    /// for number in 0..1000u32 {
    ///     transaction.append(number.to_be_bytes(), "…").wait()?;
    /// }
    /// assert!(transaction.append(7u32.to_be_bytes(), "…").wait().is_err());
    /// transaction.commit().wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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

/// Takes entries out of a range: see [`Transaction::extract_if`]. As an [`Iterator`] it waits, as a
/// [`Stream`] it is awaited; both end after an error. An entry that was taken is given: a future or a
/// stream that is dropped while it waits has taken nothing.
///
/// A transaction that has outgrown its memory goes to the disk before the next entry is looked for. If
/// this is dropped in the middle of that, the transaction can only be dropped, too.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut transaction = store.begin().wait()?;
/// transaction.put("a", "1").wait()?;
/// let mut taken = transaction.extract_if(.., |_, _| true);
/// let (key, value) = taken.next_entry().wait()?.expect("there is one");
/// assert_eq!(key, b"a");
/// assert_eq!(value, "1");
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "nothing is taken before it is asked for"]
pub struct Extract<'t, F> {
    /// `None` while it goes to the disk.
    transaction: Option<&'t mut Transaction>,
    /// The transaction on its way to the disk. It stays here, whatever future waits for it.
    spilling: Option<PendingIn<'t, (&'t mut Transaction, Result<()>)>>,
    /// What has not been looked at.
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    range: Option<Range<'static>>,
    take: F,
    failed: bool,
}

/// The function is never pinned.
impl<F> Unpin for Extract<'_, F> {}

impl<F: FnMut(&[u8], &[u8]) -> bool> Extract<'_, F> {
    /// Takes the next entry that the function chooses; `None` when there is none left. After an error
    /// it can be asked again. Errors: those of [`Transaction::extract_if`], which has an example at
    /// [`Extract`].
    pub fn next_entry(&mut self) -> Operation<impl Future<Output = Result<Option<Entry>>>> {
        Operation::new(poll_fn(|context| self.poll_take(entry, context)))
    }

    /// Takes the next entry, and gives what a function makes of it.
    fn poll_take<R>(
        &mut self,
        mut give: impl FnMut(&[u8], &[u8]) -> R,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<R>>> {
        if let Some(transaction) = self.transaction.take_if(|it| it.is_large()) {
            // What goes to the disk replaces the version that the range reads.
            self.range = None;
            self.spilling = Some(PendingIn::new(async move {
                let spilled = transaction.spill_if_large().await;
                (transaction, spilled)
            }));
        }
        if let Some(spilling) = &mut self.spilling {
            let (transaction, spilled) = ready!(Pin::new(spilling).poll(context));
            self.spilling = None;
            self.transaction = Some(transaction);
            spilled?;
        }
        let transaction = self.transaction.as_deref_mut();
        let transaction = transaction.expect("it is here unless it is on its way to the disk");
        let range = self.range.get_or_insert_with(|| {
            let (low, high) = (self.low.clone(), self.high.clone());
            transaction.detached_range(low, high)
        });
        loop {
            let take = &mut self.take;
            let choose = |key: &[u8], value: &[u8]| {
                take(key, value).then(|| (key.to_vec(), give(key, value)))
            };
            let Some(looked_at) = ready!(range.poll_with(choose, context))? else {
                return Poll::Ready(Ok(None));
            };
            if let Some((key, given)) = looked_at {
                // Nothing is waited for from here on, so that what is deleted is given.
                transaction.delete_now(&key)?;
                self.low = Bound::Excluded(key);
                return Poll::Ready(Ok(Some(given)));
            }
        }
    }
}

fn entry(key: &[u8], value: &[u8]) -> Entry {
    (key.to_vec(), Value::copied(value))
}

impl<F: FnMut(&[u8], &[u8]) -> bool> Iterator for Extract<'_, F> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(poll_fn(|context| Pin::new(&mut *self).poll_next(context)))
    }
}

impl<F: FnMut(&[u8], &[u8]) -> bool> Stream for Extract<'_, F> {
    type Item = Result<Entry>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_take(entry, context));
        self.failed = next.is_err();
        Poll::Ready(next.transpose())
    }
}

/// What depends on what is there: each a transaction of its own, which is
/// [tried again](Store::transact) when another commit was in the way, and commits with the store's
/// durability. If nothing changes, nothing is committed.
impl Store {
    /// Puts a value and gives the one before, as `BTreeMap::insert` does. [`put`](Self::put) is
    /// cheaper: it does not look. Costs a `get` and a commit; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// assert_eq!(store.insert("k", "1").wait()?, None);
    /// assert_eq!(store.insert("k", "2").wait()?.unwrap(), "1");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// [`delete`](Self::delete) is cheaper: it does not look. Costs a `get`, and a
    /// commit where there is one; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// assert_eq!(store.remove("k").wait()?.unwrap(), "v");
    /// assert_eq!(store.remove("k").wait()?, None);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// Costs a `get`, and a commit where there is none; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
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
    /// otherwise, which is no error. `new` may be none, too: then the key is deleted. Costs a `get`
    /// and a commit; errors: those of [`get`](Self::get) and [`put`](Self::put).
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
    /// Costs a `get` and a commit for each time; errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
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

    /// Takes the entry with the smallest key out; `None` if there is none. Costs a descent and a
    /// commit, and goes over what was deleted before it and is not in the tree yet: see
    /// [`Transaction::pop_first`]. Errors: those of [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("a", "1").wait()?;
    /// store.put("b", "2").wait()?;
    /// let (key, _value) = store.pop_first().wait()?.expect("there are two");
    /// assert_eq!(key, b"a");
    /// assert_eq!(store.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn pop_first(
        &self,
    ) -> Operation<impl Future<Output = Result<Option<Entry>>> + Send + use<'_>> {
        Operation::new(async move {
            self.transact(|mut attempt| async move { attempt.pop_first().await })
                .await
        })
    }

    /// Takes the entry with the greatest key out; `None` if there is none. Costs a descent and a
    /// commit. Errors: those of [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("a", "1").wait()?;
    /// store.put("b", "2").wait()?;
    /// let (key, _value) = store.pop_last().wait()?.expect("there are two");
    /// assert_eq!(key, b"b");
    /// assert_eq!(store.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn pop_last(
        &self,
    ) -> Operation<impl Future<Output = Result<Option<Entry>>> + Send + use<'_>> {
        Operation::new(async move {
            self.transact(|mut attempt| async move { attempt.pop_last().await })
                .await
        })
    }

    /// Deletes the entries of a range for which the function says `false`; gives their number. All
    /// others who commit wait meanwhile, so that the function is asked once an entry. If it panics,
    /// nothing has changed. Costs reading the range, large values too, and a commit. Errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for (key, value) in [("a", "keep"), ("b", "drop"), ("c", "keep")] {
    ///     store.put(key, value).wait()?;
    /// }
    /// assert_eq!(store.retain_in(.., |_, value| value == b"keep").wait()?, 1);
    /// assert_eq!(store.len().wait()?, 2);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
    /// who commit wait meanwhile, so that the function is asked once an entry. If it panics, nothing
    /// has changed. Costs reading the range, large values too, and a commit. Errors: those of
    /// [`get`](Self::get) and [`put`](Self::put).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for (key, value) in [("a", "1"), ("b", "2"), ("c", "2")] {
    ///     store.put(key, value).wait()?;
    /// }
    /// let taken = store.extract_if(.., |_, value| value == b"2").wait()?;
    /// assert_eq!(taken.len(), 2);
    /// assert_eq!(store.len().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
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
            drop(extract);
            transaction.commit().await?;
            Ok(taken)
        })
    }
}
