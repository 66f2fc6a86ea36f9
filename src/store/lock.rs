//! [`RangeGuard`]: range locks of their own, in transactions, and what commits do about them.
//!
//! Who holds which range and who waits is the matter of [`crate::transaction::locks`]. Here is what
//! makes locks and commits agree: a commit looks for locks of others on what it writes *inside* the
//! gate, and leaves it to wait for them; a lock that was granted waits once until those who were inside
//! are done. So whoever has a lock sees every commit in its range, and there will be no other.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::Store;
use super::core::Core;
use super::gate::{Inside, Pass, lock};
use super::key_range::KeyRange;
use super::operation::Operation;
use super::reader::half_open;
use super::subtree::Base;
use super::transaction::Transaction;
use crate::error::{Error, ErrorKind, Result};
use crate::transaction::locks::{Blocker, LockMode, LockRange, Owner, OwnerId};

/// A range of keys that is locked, until this is dropped.
///
/// What is written meanwhile through [`store`](Self::store) passes the lock; everybody else who commits
/// to the range waits. Guards of one family, that is of one guard's store, do not exclude each other.
/// A guard keeps the store open.
/// [`Store::lock`] has an example.
pub struct RangeGuard {
    store: Store,
    _owner: Owner,
}

impl RangeGuard {
    /// The store, whose writes, batches and transactions pass this lock. To write to the range by
    /// any other means and wait for it is to wait for oneself.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::LockMode;
    ///
    /// let guard = store.lock("a".."b", LockMode::Exclusive).wait()?;
    /// let mut transaction = guard.store().begin().wait()?;
    /// transaction.put("a", "…").wait()?;
    /// transaction.commit().wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn store(&self) -> &Store {
        &self.store
    }
}

impl std::fmt::Debug for RangeGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RangeGuard").finish_non_exhaustive()
    }
}

/// How long a lock is waited for.
#[derive(Clone, Copy)]
enum Patience {
    Endless,
    Until(Duration),
    None,
}

/// What a call locks: nothing, if no key can be in the range.
fn lock_range(base: &Base, range: &impl KeyRange) -> Option<LockRange> {
    let (low, high) = range.to_bounds();
    let (low, high) = base.bounds(low, high);
    let (low, end) = half_open(low, high)?;
    LockRange::new(&low, end.as_deref())
}

impl Store {
    /// Locks a range of keys: nobody else can lock it in a way that this excludes, and nobody else can
    /// commit to it, until the guard is dropped. First come, first served, so neither readers nor
    /// writers wait for ever. Reading takes no lock and is not kept from anybody.
    ///
    /// Waits for those who hold locks on the range, or waited for them before; and for the commits
    /// that are under way, so that what is read after it is all there is. O(log n) for n ranges held.
    /// Dropping the future gives the turn up.
    ///
    /// Errors: `Deadlock`, which names those who wait for each other; `UpgradeRefused` for a range that
    /// this owner holds shared; `TooManyLocks`; `Closed`.
    ///
    /// ```
    /// use thunderhead::{LockMode, Prefix, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let guard = store.lock(Prefix("job/"), LockMode::Exclusive).wait()?;
    /// assert!(store.try_lock("job/7"..="job/7", LockMode::Shared).wait()?.is_none());
    /// guard.store().put("job/7", "mine").wait()?;
    /// drop(guard);
    /// store.put("job/7", "anybody's").wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn lock<R: KeyRange>(
        &self,
        range: R,
        mode: LockMode,
    ) -> Operation<impl Future<Output = Result<RangeGuard>> + Send + use<'_, R>> {
        let range = lock_range(&self.reader.base, &range);
        Operation::new(async move {
            let guard = self.locked(range, mode, Patience::Endless).await?;
            guard.ok_or_else(|| timed_out(None))
        })
    }

    /// The same, for so long at most. Where it has to wait, a thread keeps the time.
    ///
    /// Errors: `TimedOut` besides those of [`lock`](Self::lock).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use std::time::Duration;
    /// use thunderhead::{ErrorKind, LockMode};
    ///
    /// let _held = store.lock("a".."b", LockMode::Exclusive).wait()?;
    /// let late = store.lock_within("a".."b", LockMode::Shared, Duration::from_millis(1));
    /// assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn lock_within<R: KeyRange>(
        &self,
        range: R,
        mode: LockMode,
        most: Duration,
    ) -> Operation<impl Future<Output = Result<RangeGuard>> + Send + use<'_, R>> {
        let range = lock_range(&self.reader.base, &range);
        Operation::new(async move {
            let guard = self.locked(range, mode, Patience::Until(most)).await?;
            guard.ok_or_else(|| timed_out(None))
        })
    }

    /// The same, without waiting for locks of others: `None` if there are any in the way. It does
    /// wait for commits that are under way. Errors: those of [`lock`](Self::lock).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::LockMode;
    ///
    /// let held = store.lock("a".."b", LockMode::Shared).wait()?;
    /// assert!(store.try_lock("a".."b", LockMode::Shared).wait()?.is_some());
    /// assert!(store.try_lock("a".."b", LockMode::Exclusive).wait()?.is_none());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn try_lock<R: KeyRange>(
        &self,
        range: R,
        mode: LockMode,
    ) -> Operation<impl Future<Output = Result<Option<RangeGuard>>> + Send + use<'_, R>> {
        let range = lock_range(&self.reader.base, &range);
        Operation::new(async move { self.locked(range, mode, Patience::None).await })
    }

    async fn locked(
        &self,
        range: Option<LockRange>,
        mode: LockMode,
        patience: Patience,
    ) -> Result<Option<RangeGuard>> {
        let core = &self.shared.core;
        core.check_open()?;
        let owner = core.locks.owner_for(self.party);
        if !core.acquire(&owner, range, mode, patience).await? {
            return Ok(None);
        }
        let mut store = self.clone();
        store.party = Some(owner.id());
        Ok(Some(RangeGuard {
            store,
            _owner: owner,
        }))
    }
}

impl Transaction {
    /// Locks a range of keys until the transaction ends: see [`Store::lock`]. What it locks it can
    /// rely on: nobody else commits to the range, so it is not refused for what it reads there.
    ///
    /// The range has to be as the transaction sees it: if it was changed since the transaction began,
    /// that is a `Conflict`, at once and not at the end; if the transaction has read nothing yet, it
    /// begins anew from what is newest instead.
    ///
    /// Errors: those of [`Store::lock`]; `Conflict`, also for a transaction that is alone and would
    /// have to wait: whoever has the lock may wait for it to end.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::LockMode;
    ///
    /// let mut transaction = store.begin().wait()?;
    /// transaction.lock("a".."b", LockMode::Exclusive).wait()?;
    /// let before = transaction.get("a").wait()?;
    /// transaction.put("a", "…").wait()?;
    /// transaction.commit().wait()?;
    /// assert_eq!(before, None);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn lock<R: KeyRange>(
        &mut self,
        range: R,
        mode: LockMode,
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'_, R>> {
        let range = lock_range(&self.reader.base, &range);
        Operation::new(async move {
            match self.locked(range, mode, Patience::Endless).await? {
                true => Ok(()),
                false => Err(timed_out(None)),
            }
        })
    }

    /// The same, for so long at most. Where it has to wait, a thread keeps the time.
    ///
    /// Errors: `TimedOut` besides those of [`lock`](Self::lock). [`Store::lock_within`] has an example.
    pub fn lock_within<R: KeyRange>(
        &mut self,
        range: R,
        mode: LockMode,
        most: Duration,
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'_, R>> {
        let range = lock_range(&self.reader.base, &range);
        Operation::new(async move {
            match self.locked(range, mode, Patience::Until(most)).await? {
                true => Ok(()),
                false => Err(timed_out(None)),
            }
        })
    }

    /// The same, without waiting for locks of others: says whether there were none in the way. Errors:
    /// those of [`lock`](Self::lock). [`Store::try_lock`] has an example.
    pub fn try_lock<R: KeyRange>(
        &mut self,
        range: R,
        mode: LockMode,
    ) -> Operation<impl Future<Output = Result<bool>> + Send + use<'_, R>> {
        let range = lock_range(&self.reader.base, &range);
        Operation::new(async move { self.locked(range, mode, Patience::None).await })
    }

    async fn locked(
        &mut self,
        range: Option<LockRange>,
        mode: LockMode,
        patience: Patience,
    ) -> Result<bool> {
        let core = Arc::clone(&self.writes.core);
        core.check_open()?;
        let owner = match self.writes.owner.take() {
            Some(owner) => owner,
            None => core.locks.owner_for(self.writes.party),
        };
        let owner = self.writes.owner.insert(owner);
        if self.writes.inside.is_some() {
            // Whoever has the lock may wait for this transaction to end, and nobody else commits.
            let Some(range) = range else { return Ok(true) };
            return match (core.locks.try_lock(owner, &range, mode)?, patience) {
                (None, _) => Ok(true),
                (Some(_), Patience::None) => Ok(false),
                (Some(blocker), _) => Err(Error::new(
                    ErrorKind::Conflict,
                    format!("a transaction that is alone cannot wait for locks: {blocker}"),
                )),
            };
        }
        if !core.acquire(owner, range.clone(), mode, patience).await? {
            return Ok(false);
        }
        match range {
            Some(range) => self.rely_on(&range).await.map(|()| true),
            None => Ok(true),
        }
    }
}

fn timed_out(blocker: Option<Blocker>) -> Error {
    let mut message = "a range that was to be locked was not free in time".to_owned();
    if let Some(blocker) = blocker {
        message += &format!(": {blocker}");
    }
    Error::new(ErrorKind::TimedOut, message)
}

impl Core {
    /// Locks a range and waits for those who may commit to it at the moment.
    async fn acquire(
        self: &Arc<Self>,
        owner: &Owner,
        range: Option<LockRange>,
        mode: LockMode,
        patience: Patience,
    ) -> Result<bool> {
        let Some(range) = range else { return Ok(true) };
        let granted = match patience {
            Patience::None => self.locks.try_lock(owner, &range, mode)?.is_none(),
            Patience::Endless => {
                self.locks.lock(owner, range, mode).await?;
                true
            }
            Patience::Until(most) => {
                let mut waiting = pin!(self.locks.lock(owner, range, mode));
                let Some(result) = within(most, waiting.as_mut()).await else {
                    return Err(timed_out(waiting.blocker()));
                };
                result?;
                true
            }
        };
        if granted {
            // Those who looked for locks before this one was there.
            drop(self.enter_alone().await);
        }
        Ok(granted)
    }

    /// Waits until nobody else has locked what is to be written. `meet` says which of that is
    /// locked by others than somebody; it is asked inside the gate, which is left to wait.
    pub(super) async fn pass_locks(
        self: &Arc<Self>,
        mut inside: Inside,
        pass: Pass,
        party: Option<OwnerId>,
        meet: impl Fn(Option<OwnerId>) -> Vec<LockRange>,
    ) -> Result<(Inside, Option<Owner>)> {
        let mut owner: Option<Owner> = None;
        loop {
            let met = meet(owner.as_ref().map(Owner::id).or(party));
            if met.is_empty() {
                return Ok((inside, owner));
            }
            drop(inside);
            owner = Some(self.locks.pass(party, owner, met).await?);
            inside = match pass {
                Pass::Shared => self.gate.enter(Pass::Shared).await,
                Pass::Alone => self.enter_alone().await,
            };
        }
    }
}

/// A thread that wakes somebody when it is time, or ends before.
struct Alarm {
    waker: Arc<Mutex<Option<Waker>>>,
    ended: Arc<AtomicBool>,
    thread: Thread,
}

impl Alarm {
    fn set(at: Instant) -> Result<Self> {
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new()
            .name("thunderhead-alarm".into())
            .spawn({
                let (waker, ended) = (Arc::clone(&waker), Arc::clone(&ended));
                move || {
                    while !ended.load(Ordering::Acquire) {
                        let left = at.saturating_duration_since(Instant::now());
                        if left.is_zero() {
                            break;
                        }
                        thread::park_timeout(left);
                    }
                    let waker = lock(&waker).take();
                    waker.into_iter().for_each(Waker::wake);
                }
            })
            .map_err(|error| Error::io("starting a thread that keeps the time", error))?;
        let thread = thread.thread().clone();
        Ok(Self {
            waker,
            ended,
            thread,
        })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        lock(&self.waker).take();
        self.thread.unpark();
    }
}

/// What a future gives, if it does so in time.
async fn within<T>(most: Duration, future: impl Future<Output = Result<T>>) -> Option<Result<T>> {
    let at = Instant::now().checked_add(most);
    let mut future = pin!(future);
    let mut alarm: Option<Alarm> = None;
    poll_fn(|context| {
        if let Poll::Ready(result) = future.as_mut().poll(context) {
            return Poll::Ready(Some(result));
        }
        // So long that nobody will see it is for ever.
        let Some(at) = at else { return Poll::Pending };
        if let Some(alarm) = &alarm {
            *lock(&alarm.waker) = Some(context.waker().clone());
        }
        if Instant::now() >= at {
            return Poll::Ready(None);
        }
        if alarm.is_none() {
            match Alarm::set(at) {
                Ok(set) => {
                    *lock(&set.waker) = Some(context.waker().clone());
                    if set.ended.load(Ordering::Acquire) || Instant::now() >= at {
                        context.waker().wake_by_ref();
                    }
                    alarm = Some(set);
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Pending
    })
    .await
}
