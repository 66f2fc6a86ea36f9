//! [`Transaction`]: several operations that take effect together or not at all.

use std::future::Future;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use super::bulk::Bulk;
use super::gate::{Inside, Pass, lock};
use super::history::Since;
use super::operation::Operation;
use super::options::{Durability, Isolation};
use super::range::Range;
use super::reader::Reader;
use super::validation::Validation;
use super::writes::Writes;
use super::{Store, reading_methods, writing_methods};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::snapshot::View;
use crate::transaction::locks::LockRange;
use crate::transaction::{Ranges, Reads};
use crate::value::OffTree;

/// This share of the memory of a transaction is for the notes of what it read.
const READS_SHARE: usize = 8;

/// How often a transaction looks at what was committed meanwhile while others go on committing.
const ROUNDS_BESIDE_OTHERS: u32 = 2;

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
