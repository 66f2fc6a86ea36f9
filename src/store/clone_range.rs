//! Copies of subtrees: [`Transaction::clone_range`].
//!
//! Entries are read from the transaction in pieces and written to it again under another prefix. The
//! first few large values are copied as they are read. Where there is more, the transaction goes to the
//! disk, as one that is too large for memory does, and shares from then on: a value under the other
//! prefix gets an index of its own over the data of the first one, which stays where it is until neither
//! needs it. Who has what is counted by checkpoints: see [`kept`](super::kept).

use std::future::Future;
use std::ops::Bound;

use super::gate::lock;
use super::operation::Operation;
use super::reader::{Reader, half_open, prefix_end};
use super::stored_value::StoredValue;
use super::transaction::Transaction;
use super::{Prefix, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::snapshot::{Cursor, Direction, Start, Stop};

/// How many entries, and bytes of those at hand, are read before they are written.
const PIECE_ENTRIES: usize = 512;
const PIECE_BYTES: usize = 1 << 20;

/// How many blocks of large values are copied, before it is worth a checkpoint to share them.
const COPIED_BLOCKS: u64 = 8;

/// A key without the prefix, and what is stored for it.
type Piece = Vec<(Vec<u8>, StoredValue)>;

impl Transaction {
    /// Makes the keys with one prefix those with another, with the same values: what there was under
    /// the second one is gone. References are copied as they are, and lead where they led. Gives the
    /// number of entries.
    ///
    /// Costs reading and writing all of them; memory as [`reconcile`](Self::reconcile). Large values,
    /// if they have more than eight blocks (256 KiB) together, share their data on the disk with those
    /// that they are cloned from, whatever becomes of either later: what is written is an index, about a
    /// thousandth of them. For that the transaction goes to the disk before the commit, **and is alone from
    /// then on**, like one that is large. Values that it wrote itself, and those with merge operands, are
    /// copied. What is shared stays where it is when the store is [compacted](Store::compact).
    ///
    /// Errors: `InvalidArgument` if one prefix begins with the other, or a key becomes longer than 32
    /// KiB; those of reading and writing. Then a part of it is in the transaction, which is to be
    /// dropped.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("plan/a", "1").wait()?;
    /// store.put("plan/b", "2").wait()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("plan/c", "3").wait()?;
    /// assert_eq!(transaction.clone_range("plan/", "trial/").wait()?, 3);
    /// transaction.commit().wait()?;
    /// assert_eq!(store.get("trial/c").wait()?.unwrap(), "3");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn clone_range<'t, K: AsRef<[u8]> + Send, L: AsRef<[u8]> + Send>(
        &'t mut self,
        from: K,
        to: L,
    ) -> Operation<impl Future<Output = Result<u64>> + Send + use<'t, K, L>> {
        Operation::new(async move {
            let (from, to) = (from.as_ref(), to.as_ref());
            if from.starts_with(to) || to.starts_with(from) {
                return Err(Error::invalid(
                    "a subtree cannot be cloned into itself, nor into one that it is in",
                ));
            }
            self.delete_range(Prefix(to)).await?;
            let mut next = Some(from.to_vec());
            let mut cloned = 0;
            let blocks = u64::from(self.writes.core.pages.settings.block_bytes);
            let mut copied_max = COPIED_BLOCKS * blocks;
            while let Some(low) = next.take() {
                let was_alone = self.writes.bulk.is_some();
                let (piece, rest) = self.reader.read_piece(from, low).await?;
                next = rest;
                let mut shared = Vec::new();
                for (key, value) in &piece {
                    let target = [to, &key[from.len()..]].concat();
                    // Its own are not in the tree as long as this is not committed.
                    let own = &self.writes.values;
                    let large = value.off_tree().filter(|large| {
                        large.length > 0 && !own.contains(large.root.extent.address)
                    });
                    let length = large.map_or(0, |large| large.length);
                    if let Some(large) = large
                        && length > copied_max
                    {
                        if !was_alone {
                            // Somebody may have moved meanwhile what was read.
                            self.spill().await?;
                            (next, copied_max) = (Some(key.clone()), 0);
                            break;
                        }
                        shared.push((self.writes.base.key(&target)?.to_vec(), large));
                    } else {
                        copied_max -= length;
                        self.put_stored(&target, Some(value)).await?;
                    }
                    cloned += 1;
                }
                if !shared.is_empty() {
                    self.share(&shared).await?;
                }
            }
            Ok(cloned)
        })
    }
}

impl Reader {
    /// Some entries with a prefix, from a key of the view on, and where the next ones begin.
    async fn read_piece(&self, prefix: &[u8], low: Vec<u8>) -> Result<(Piece, Option<Vec<u8>>)> {
        let stripped = self.base.bytes().len();
        let bounds = self.base.bounds(Bound::Included(low), prefix_end(prefix));
        let Some((low, end)) = half_open(bounds.0, bounds.1) else {
            return Ok((Vec::new(), None));
        };
        let over = self.layered();
        let far = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut cursor = Cursor::new(Direction::Forward, Start::At(low.clone()));
        let (mut piece, mut bytes, mut loaded) = (Vec::new(), 0, Vec::new());
        let mut next = None;
        loop {
            match cursor.step_within(&over, far)? {
                Stop::Entry => {}
                Stop::End => break,
                Stop::Need(pointer, expect) => {
                    loaded.push(over.version().pages().load(&pointer, expect).await?);
                    continue;
                }
            }
            loaded.clear();
            let key = cursor.key();
            if end.as_deref().is_some_and(|end| key >= end) {
                break;
            }
            if piece.len() >= PIECE_ENTRIES || bytes >= PIECE_BYTES {
                next = Some(key.to_vec());
                break;
            }
            let (tag, payload) = cursor.stored(&over);
            bytes += key.len() + payload.len();
            let stored = (tag, payload.to_vec());
            let value = self.value_of(key.to_vec(), stored);
            piece.push((key[stripped..].to_vec(), value));
        }
        if let Some(reads) = &self.reads {
            let high = next.as_deref().or(end.as_deref());
            let high = high.map_or(Bound::Unbounded, Bound::Excluded);
            lock(reads).note_range(Bound::Included(&low), high);
        }
        Ok((piece, next.map(|key| key[stripped..].to_vec())))
    }
}

impl Store {
    /// Makes the keys with one prefix those with another, with the same values, as one commit: see
    /// [`Transaction::clone_range`]. Gives the number of entries. If others change meanwhile what is
    /// copied, it is done again, alone this time.
    pub fn clone_range<'s, K: AsRef<[u8]> + Send + Sync + 's, L: AsRef<[u8]> + Send + Sync + 's>(
        &'s self,
        from: K,
        to: L,
    ) -> Operation<impl Future<Output = Result<u64>> + Send + use<'s, K, L>> {
        Operation::new(async move {
            let mut transaction = self.begin().await?;
            loop {
                let alone = transaction.is_alone();
                let tried = async {
                    let cloned = transaction.clone_range(&from, &to).await?;
                    transaction.commit().await?;
                    Ok(cloned)
                };
                let tried: Result<u64> = tried.await;
                match tried {
                    Err(error) if error.kind() == ErrorKind::Conflict && !alone => {}
                    result => return result,
                }
                transaction = self.begin_alone().await?;
            }
        })
    }
}
