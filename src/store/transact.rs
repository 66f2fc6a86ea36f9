//! [`Store::transact`]: a transaction that is tried again when others were in its way.

use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::Store;
use super::gate::lock;
use super::operation::Operation;
use super::transaction::Transaction;
use crate::disk::in_blocking_face;
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::transaction::locks::Owner;

/// How often a transaction is tried beside others. After that it is alone, and cannot be refused.
const ATTEMPTS_BESIDE_OTHERS: u32 = 8;

/// How many times others are let pass at most before the next attempt, as a power of two.
const BACK_OFF_MAX: u32 = 6;

/// A transaction that is being tried: see [`Store::transact`]. It is used as the transaction itself,
/// and gives that back when it is dropped; committing is not its business.
pub struct Attempt {
    /// `None` only while it is dropped.
    transaction: Option<Transaction>,
    back: Arc<Mutex<Option<Transaction>>>,
}

const HELD: &str = "an attempt has its transaction until it is dropped";

impl Deref for Attempt {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        self.transaction.as_ref().expect(HELD)
    }
}

impl DerefMut for Attempt {
    fn deref_mut(&mut self) -> &mut Transaction {
        self.transaction.as_mut().expect(HELD)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        *lock(&self.back) = self.transaction.take();
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").finish_non_exhaustive()
    }
}

/// Lets others go on for a while, longer after each attempt.
async fn back_off(attempt: u32, seed: u64) {
    let most = 1u64 << attempt.min(BACK_OFF_MAX);
    // Not the same for those who were refused together.
    let times = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % most;
    for _ in 0..=times {
        if in_blocking_face() {
            std::thread::yield_now();
            continue;
        }
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl Store {
    /// Runs a function in a transaction and commits it; gives what the function gave. If another
    /// commit was in the way, all of that is tried again, so the function should do nothing that must
    /// not be done twice.
    ///
    /// It is tried up to 8 times beside others, who are let pass for a while after each, longer each
    /// time; and after that once [alone](Self::begin_alone), which cannot fail for others. So a
    /// transaction that is always slower than those beside it has its turn, too. Deadlocks are tried
    /// again likewise, and those who try again are older than whoever came after their first attempt:
    /// the younger ones give way to them. [`ErrorKind::Conflict`] is what is left only where others have locked what it
    /// wants to lock or to write even then. The function must not commit by other means
    /// and wait for that: in the last attempt it would wait for itself.
    ///
    /// Errors of the function end it; nothing is committed then. Dropping the future is as for
    /// [`Transaction::commit`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let number = store
    ///     .transact(|mut attempt| async move {
    ///         let number = attempt.get("next").await?;
    ///         let number = number.map_or(0, |bytes| bytes[0]);
    ///         attempt.put("next", [number + 1]).await?;
    ///         Ok(number)
    ///     })
    ///     .wait()?;
    /// assert_eq!(number, 0);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn transact<R: Send, F, T>(
        &self,
        mut function: F,
    ) -> Operation<impl Future<Output = Result<R>> + Send + use<'_, R, F, T>>
    where
        F: FnMut(Attempt) -> T + Send,
        T: Future<Output = Result<R>> + Send,
    {
        Operation::new(async move {
            let given = self.transact_once_or_more(&mut function).await;
            given.map(|(given, _)| given)
        })
    }

    /// The same; gives the sequence of the commit, too.
    pub(super) async fn transact_once_or_more<R, T: Future<Output = Result<R>>>(
        &self,
        function: &mut impl FnMut(Attempt) -> T,
    ) -> Result<(R, SequenceNumber)> {
        let mut attempt = 0;
        // In whose name all attempts after the first lock what they lock: so they are no younger than
        // that, and the youngest of a deadlock ever less often.
        let mut elder: Option<Owner> = None;
        loop {
            let mut transaction = match attempt {
                ATTEMPTS_BESIDE_OTHERS => self.begin_alone().await?,
                _ => self.begin().await?,
            };
            if let Some(elder) = &elder {
                transaction.writes.party = Some(elder.id());
            }
            match try_once(transaction, function).await {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Deadlock)
                        && attempt < ATTEMPTS_BESIDE_OTHERS => {}
                result => return result,
            }
            let core = &self.shared.core;
            elder.get_or_insert_with(|| core.locks.owner_for(self.party));
            let seed = core.history.next_number();
            back_off(attempt, seed).await;
            attempt += 1;
        }
    }
}

async fn try_once<R, T: Future<Output = Result<R>>>(
    transaction: Transaction,
    function: &mut impl FnMut(Attempt) -> T,
) -> Result<(R, SequenceNumber)> {
    let back = Arc::new(Mutex::new(None));
    let attempt = Attempt {
        transaction: Some(transaction),
        back: Arc::clone(&back),
    };
    let given = function(attempt).await?;
    let transaction = lock(&back).take();
    let Some(transaction) = transaction else {
        return Err(Error::invalid(
            "a transaction was kept by the function that ran in it: it cannot be committed",
        ));
    };
    let sequence = transaction.commit().await?;
    Ok((given, sequence))
}
