//! Reconciling: what was changed somewhere else is brought into the newest version.
//!
//! Three versions of each key decide: the *base*, which both sides had once, *theirs*, and *ours*. Only
//! keys that they changed are looked at. Where we did not, theirs is taken; where both changed it to
//! the same, there is nothing to do; all else is a collision, and the caller's to decide. It is a
//! transaction that reads what is ours, so that nobody can change it meanwhile unnoticed.

use std::future::Future;
use std::ops::ControlFlow;

use bytes::Bytes;
use futures::{Stream, StreamExt};

use super::diff::Difference;
use super::operation::Operation;
use super::reader::Reader;
use super::stored_value::StoredValue;
use super::transaction::Transaction;
use super::value::ValueKind;
use super::{Snapshot, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::Tag;
use crate::snapshot::{Find, Layered, target_of};

/// A key that was changed on both sides, to different ends. Its values are to be read while it is being
/// decided about, and not after the transaction.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Collision {
    /// The key.
    pub key: Vec<u8>,
    /// What both had, if there was anything.
    pub base: Option<StoredValue>,
    /// What there is now. `None`: we deleted it.
    pub ours: Option<StoredValue>,
    /// What they have. `None`: they deleted it.
    pub theirs: Option<StoredValue>,
}

/// What becomes of a [`Collision`].
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// What there is stays.
    Ours,
    /// What they have takes its place, be it nothing.
    Theirs,
    /// This takes its place.
    Put(Bytes),
    /// Nothing takes its place.
    Delete,
    /// All of it is given up, with [`ErrorKind::Cancelled`].
    Abort,
}

/// What reconciling came to, or how far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// Keys that they changed.
    pub differences: u64,
    /// Of these, those that are changed here, too, now.
    pub applied: u64,
    /// Those that we had changed to the same.
    pub agreed: u64,
    /// Those that were changed on both sides, to different ends.
    pub collisions: u64,
}

async fn is_same(one: Option<&StoredValue>, other: Option<&StoredValue>) -> Result<bool> {
    match (one, other) {
        (None, None) => Ok(true),
        (Some(one), Some(other)) => one.is_same(other).await,
        _ => Ok(false),
    }
}

impl Transaction {
    /// Brings differences into the transaction: those between a base and a version that came out of it
    /// elsewhere, be it one of this store ([`Snapshot::diff`]), or received from another one.
    ///
    /// A difference is taken if the transaction sees for its key what the base had, and is none of its
    /// business if it sees what theirs has. Else the function decides; it is called for one key after
    /// the other, and may read the values that collide. What was read here must still be so when the
    /// transaction commits, as ever.
    ///
    /// Takes one look-up a difference; values out of the tree are compared only where their lengths are
    /// the same, and copied piece by piece. Memory: that of a transaction, which goes to the disk if it
    /// is too small, and one difference. After an error, or if the future is dropped, a part of the
    /// differences is in the transaction: it is to be dropped.
    ///
    /// Errors: those of the stream and of the function; `Cancelled` if it decided so;
    /// `InvalidArgument` for a reference that leaves the view; those of reading and writing.
    ///
    /// ```
    /// use futures::stream;
    /// use thunderhead::{Decision, Difference};
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("likes", "17").wait()?;
    /// // Somebody says that it was 15, and is 20.
    /// let received = Difference::Changed {
    ///     key: b"likes".to_vec(),
    ///     old: b"15".to_vec().into(),
    ///     new: b"20".to_vec().into(),
    /// };
    /// let mut transaction = store.begin().wait()?;
    /// let done = transaction
    ///     .reconcile(stream::iter([Ok(received)]), |collision| async move {
    ///         let number = |value: Option<thunderhead::StoredValue>| -> i64 {
    ///             let text = value.and_then(|value| String::from_utf8(value.at_hand()?.to_vec()).ok());
    ///             text.and_then(|text| text.parse().ok()).unwrap_or(0)
    ///         };
    ///         let added = number(collision.theirs) - number(collision.base);
    ///         let sum = number(collision.ours) + added;
    ///         Ok(Decision::Put(sum.to_string().into()))
    ///     })
    ///     .wait()?;
    /// transaction.commit().wait()?;
    /// assert_eq!((done.collisions, done.applied), (1, 1));
    /// assert_eq!(store.get("likes").wait()?.unwrap(), "22");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn reconcile<'t, S, F, T>(
        &'t mut self,
        differences: S,
        decide: F,
    ) -> Operation<impl Future<Output = Result<Reconciled>> + Send + use<'t, S, F, T>>
    where
        S: Stream<Item = Result<Difference>> + Send,
        F: FnMut(Collision) -> T + Send,
        T: Future<Output = Result<Decision>> + Send,
    {
        self.reconcile_with(differences, decide, |_| ControlFlow::Continue(()))
    }

    /// The same, with a function that is told after each difference how far it is, and can stop it
    /// (`Cancelled`).
    pub fn reconcile_with<'t, S, F, T, P>(
        &'t mut self,
        differences: S,
        mut decide: F,
        mut progress: P,
    ) -> Operation<impl Future<Output = Result<Reconciled>> + Send + use<'t, S, F, T, P>>
    where
        S: Stream<Item = Result<Difference>> + Send,
        F: FnMut(Collision) -> T + Send,
        T: Future<Output = Result<Decision>> + Send,
        P: FnMut(&Reconciled) -> ControlFlow<()> + Send,
    {
        Operation::new(async move {
            let mut differences = std::pin::pin!(differences);
            let mut done = Reconciled::default();
            while let Some(difference) = differences.next().await {
                self.take_over(difference?, &mut decide, &mut done).await?;
                if progress(&done).is_break() {
                    return Err(cancelled("its caller"));
                }
            }
            Ok(done)
        })
    }

    async fn take_over<T: Future<Output = Result<Decision>> + Send>(
        &mut self,
        difference: Difference,
        decide: &mut (impl FnMut(Collision) -> T + Send),
        done: &mut Reconciled,
    ) -> Result<()> {
        done.differences += 1;
        let (key, base, theirs) = match difference {
            Difference::Added { key, new } => (key, None, Some(new)),
            Difference::Removed { key, old } => (key, Some(old), None),
            Difference::Changed { key, old, new } => (key, Some(old), Some(new)),
        };
        let ours = self.reader.stored_value(&key).await?;
        if is_same(ours.as_ref(), theirs.as_ref()).await? {
            done.agreed += 1;
            return Ok(());
        }
        if is_same(ours.as_ref(), base.as_ref()).await? {
            done.applied += 1;
            return self.put_stored(&key, theirs.as_ref()).await;
        }
        done.collisions += 1;
        let decision = decide(Collision {
            key: key.clone(),
            base,
            ours,
            theirs: theirs.clone(),
        });
        match decision.await? {
            Decision::Ours => return Ok(()),
            Decision::Theirs => self.put_stored(&key, theirs.as_ref()).await?,
            Decision::Put(bytes) => self.put(&key, bytes).await?,
            Decision::Delete => self.delete(&key).await?,
            Decision::Abort => return Err(cancelled("a collision")),
        }
        done.applied += 1;
        Ok(())
    }

    /// Puts what is stored elsewhere, in bounded memory, or deletes.
    pub(super) async fn put_stored(
        &mut self,
        key: &[u8],
        value: Option<&StoredValue>,
    ) -> Result<()> {
        let Some(value) = value else {
            return self.delete(key).await;
        };
        match value.reference() {
            Some(ValueKind::Reference(target)) => return self.put_reference(key, target).await,
            Some(_) => {
                return Err(Error::invalid(
                    "a reference leaves the view in which it is to be put",
                ));
            }
            None => {}
        }
        if let Some(bytes) = value.at_hand() {
            return self.put(key, bytes).await;
        }
        let Some(reader) = value.reader().await? else {
            return self.put(key, value.load().await?).await;
        };
        let mut writer = self.value_writer(key)?;
        let mut chunks = reader.chunks();
        while let Some(chunk) = StreamExt::next(&mut chunks).await {
            writer.write_bytes(chunk?).await?;
        }
        writer.finish().await
    }
}

impl Reader {
    /// What there is for a key of the view, a reference being a reference.
    async fn stored_value(&self, key: &[u8]) -> Result<Option<StoredValue>> {
        let key = self.base.key(key)?.to_vec();
        let stored = self.find_stored(&key).await?;
        Ok(stored.map(|stored| self.value_of(key, stored)))
    }

    /// What was found for a key of the tree.
    pub(super) fn value_of(&self, key: Vec<u8>, (tag, payload): (Tag, Vec<u8>)) -> StoredValue {
        let over = match target_of(tag, &payload) {
            // A transaction's own writes may be among what it stands for.
            Some(_) => self.layered(),
            None => Layered {
                view: self.fixed.clone().unwrap_or_else(|| self.core.view()),
                overlay: None,
            },
        };
        StoredValue::new(over, self.base.clone(), key, (tag, payload))
    }
}

fn cancelled(by: &str) -> Error {
    Error::new(
        ErrorKind::Cancelled,
        format!("reconciling was ended by {by}"),
    )
}

impl Store {
    /// Brings what differs between two snapshots, a base and one that came out of it elsewhere, into
    /// the newest version, as one commit: see [`Transaction::reconcile`]. The snapshots may be of
    /// another store that began with the same data, and be narrowed to other prefixes than this one.
    ///
    /// If others change meanwhile what it read, it is done again, alone this time: then others wait to
    /// commit, and the function is asked again. If the future is dropped, all of it took place or
    /// nothing.
    ///
    /// Errors: those of [`Snapshot::diff`] and of [`Transaction::reconcile`], and of a commit. Then
    /// nothing has changed.
    ///
    /// ```
    /// use thunderhead::Decision;
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// let (draft, published) = (store.subtree("draft/"), store.subtree("published/"));
    /// published.put("title", "A book").wait()?;
    /// published.put("text", "Once").wait()?;
    /// store.clone_range("published/", "draft/").wait()?;
    /// let base = draft.snapshot();
    ///
    /// draft.put("text", "Once upon a time").wait()?;
    /// published.put("title", "A great book").wait()?;
    /// let done = published
    ///     .reconcile(&base, &draft.snapshot(), |_| async { Ok(Decision::Ours) })
    ///     .wait()?;
    /// assert_eq!((done.applied, done.collisions), (1, 0));
    /// assert_eq!(published.get("text").wait()?.unwrap(), "Once upon a time");
    /// assert_eq!(published.get("title").wait()?.unwrap(), "A great book");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn reconcile<'s, F, T>(
        &'s self,
        base: &'s Snapshot,
        theirs: &'s Snapshot,
        mut decide: F,
    ) -> Operation<impl Future<Output = Result<Reconciled>> + Send + use<'s, F, T>>
    where
        F: FnMut(Collision) -> T + Send,
        T: Future<Output = Result<Decision>> + Send,
    {
        Operation::new(async move {
            let mut transaction = self.begin().await?;
            loop {
                let alone = transaction.is_alone();
                let tried = async {
                    let differences = base.diff(theirs)?;
                    let done = transaction.reconcile(differences, &mut decide).await?;
                    transaction.commit().await?;
                    Ok(done)
                };
                let tried: Result<Reconciled> = tried.await;
                match tried {
                    Err(error) if error.kind() == ErrorKind::Conflict && !alone => {}
                    result => return result,
                }
                transaction = self.begin_alone().await?;
            }
        })
    }
}
