//! [`Batch`]: writes that are gathered without a transaction, and committed together.

use std::future::Future;

use super::gate::Pass;
use super::operation::Operation;
use super::options::Durability;
use super::writes::Writes;
use super::{Store, writing_methods};
use crate::error::Result;
use crate::format::SequenceNumber;

/// Writes that take effect together, or not at all when it is dropped.
///
/// Unlike a [`Transaction`](crate::Transaction) it reads nothing, so nothing has to be validated and
/// it is never refused. Later operations win over earlier ones. Its memory is bounded by
/// [`Options::transaction_bytes`](crate::Options::transaction_bytes): past that it waits until nobody
/// else commits, and from then on all others wait until it is done.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut batch = store.batch();
/// batch.delete_range("2025-".."2026-").wait()?;
/// batch.put("2026-01-01", "…").wait()?;
/// batch.commit().wait()?;
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub struct Batch {
    pub(super) writes: Writes,
    durability: Durability,
}

impl Batch {
    writing_methods!("store.batch()");

    /// Makes all of it take effect at once; gives the sequence of the commit. Dropping the future
    /// after its first poll does not call the commit back.
    ///
    /// Costs one write to the log, and the share of a sync that the [durability](crate::Durability)
    /// asks for; one that outgrew its memory is in the tree already. Errors: those of
    /// [`Store::put`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut batch = store.batch();
    /// batch.put("a", "1").wait()?;
    /// batch.put("b", "2").wait()?;
    /// let sequence = batch.commit().wait()?;
    /// assert_eq!(store.sequence(), sequence);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn commit(self) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send> {
        let Self {
            mut writes,
            durability,
        } = self;
        Operation::new(async move {
            writes.core.wait_for_room().await?;
            if writes.inside.is_none() {
                let pass = match writes.is_logged() {
                    true => Pass::Shared,
                    false => Pass::Alone,
                };
                writes.enter(pass).await?;
            }
            writes.commit(durability, None).await
        })
    }

    pub(super) async fn spill_if_large(&mut self) -> Result<()> {
        if self.writes.inside.is_none() && self.writes.is_large() {
            self.writes.enter(Pass::Alone).await?;
        }
        self.writes.spill_if_large().await
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// An empty batch. Free: it takes memory as it is written to.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut batch = store.batch();
    /// batch.put("k", "v").wait()?;
    /// drop(batch);
    /// assert!(store.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn batch(&self) -> Batch {
        Batch {
            writes: Writes::new(
                &self.shared.core,
                None,
                self.reader.base.clone(),
                self.party,
            ),
            durability: self.durability,
        }
    }
}
