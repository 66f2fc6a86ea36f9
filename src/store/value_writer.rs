//! [`ValueWriter`]: a value that is written as its bytes come.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::io::AsyncWrite;

use super::Store;
use super::batch::Batch;
use super::operation::Operation;
use super::pending::Pending;
use super::transaction::Transaction;
use super::writes::Writes;
use super::writing::Writing;
use crate::disk::block_on;
use crate::error::{Error, Result};

/// Writes a value whose length need not be known, in bounded memory: at most 1 MiB of its bytes are
/// held back, and 16 bytes for each MiB that was written.
///
/// Nobody sees anything of the value before [`finish`](Self::finish) is done; that of a store commits,
/// that of a transaction adds it to the transaction. Dropped before, it leaves nothing behind. A
/// value that turns out to be small ends up in its leaf, as if it had been put.
///
/// It is an [`io::Write`] and a [`futures::io::AsyncWrite`], too; flushing or closing these does not
/// finish the value.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut writer = store.value_writer("log/today")?;
/// for line in ["first", "second"] {
///     writer.write(line.as_bytes()).wait()?;
/// }
/// assert_eq!(store.get("log/today").wait()?, None);
/// writer.finish().wait()?;
/// assert_eq!(store.get("log/today").wait()?.unwrap(), "firstsecond");
///
/// // What reads can be copied from.
/// let mut file = std::io::Cursor::new(vec![7; 100_000]);
/// let mut writer = store.value_writer("file")?;
/// std::io::copy(&mut file, &mut writer)?;
/// writer.finish().wait()?;
/// assert_eq!(store.value_length("file").wait()?, Some(100_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a value that is not finished is not written"]
pub struct ValueWriter<'t> {
    target: Target<'t>,
    /// As the tree has it.
    key: Vec<u8>,
    state: State,
}

/// Where a value goes.
pub(super) enum Target<'t> {
    Store(Box<Batch>),
    Batch(&'t mut Batch),
    Transaction(&'t mut Transaction),
}

impl Target<'_> {
    fn writes(&mut self) -> &mut Writes {
        match self {
            Self::Store(batch) => &mut batch.writes,
            Self::Batch(batch) => &mut batch.writes,
            Self::Transaction(transaction) => &mut transaction.writes,
        }
    }
}

impl<'t> From<&'t mut Batch> for Target<'t> {
    fn from(batch: &'t mut Batch) -> Self {
        Self::Batch(batch)
    }
}

impl<'t> From<&'t mut Transaction> for Target<'t> {
    fn from(transaction: &'t mut Transaction) -> Self {
        Self::Transaction(transaction)
    }
}

enum State {
    Ready(Box<Writing>),
    /// A poll began to save what was held back.
    Saving(Pending<(Box<Writing>, Result<()>)>),
    Failed,
}

fn failed() -> Error {
    Error::invalid("writing to a value of which an earlier write failed")
}

impl<'t> ValueWriter<'t> {
    pub(super) fn begin(target: impl Into<Target<'t>>, key: &[u8]) -> Result<Self> {
        let mut target = target.into();
        let (key, writing) = target.writes().begin_value(key)?;
        Ok(Self {
            target,
            key,
            state: State::Ready(Box::new(writing)),
        })
    }

    /// How many bytes were taken so far. Free; 0 after an error.
    pub fn length(&mut self) -> u64 {
        match &mut self.state {
            State::Ready(writing) => writing.length(),
            State::Saving(_) | State::Failed => 0,
        }
    }

    /// Appends bytes by copying them. After an error, or if the future is dropped before it is
    /// done, the value can only be dropped. Errors: `InvalidArgument` if the value gets longer than
    /// 1 TiB; `StorageFull`; `Io`.
    pub fn write<'w>(
        &'w mut self,
        bytes: &'w [u8],
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'w, 't>> {
        Operation::new(async move { self.ready().await?.write(bytes).await })
    }

    /// Appends bytes; large ones are not copied. Errors: those of [`write`](Self::write).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut writer = store.value_writer("film")?;
    /// writer.write_bytes(vec![7; 1 << 20]).wait()?;
    /// assert_eq!(writer.length(), 1 << 20);
    /// writer.finish().wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn write_bytes(
        &mut self,
        bytes: impl Into<Bytes>,
    ) -> Operation<impl Future<Output = Result<()>> + Send> {
        let bytes = bytes.into();
        Operation::new(async move { self.ready().await?.write_bytes(bytes).await })
    }

    /// Puts the value in the place of what the key had: as a commit of its own, with the store's
    /// durability, or into the transaction or batch that the writer is of, which goes to the disk if
    /// it outgrows its memory, as with a put there. Costs writing what was held back,
    /// and the index. Errors: those of a [`put`](Store::put).
    pub fn finish(mut self) -> Operation<impl Future<Output = Result<()>> + Send + use<'t>> {
        Operation::new(async move {
            self.ready().await?;
            let State::Ready(writing) = self.state else {
                return Err(failed());
            };
            let writes = self.target.writes();
            writes.put_written(&self.key, *writing).await?;
            match self.target {
                Target::Store(batch) => batch.commit().await.map(drop),
                Target::Batch(batch) => batch.spill_if_large().await,
                Target::Transaction(transaction) => transaction.spill_if_large().await,
            }
        })
    }

    /// Waits for what a poll began.
    async fn ready(&mut self) -> Result<&mut Writing> {
        std::future::poll_fn(|context| self.poll_ready(context)).await?;
        match &mut self.state {
            State::Ready(writing) => Ok(writing),
            State::Saving(_) | State::Failed => Err(failed()),
        }
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let State::Saving(saving) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        let (writing, saved) = ready!(Pin::new(saving).poll(context));
        self.state = match saved {
            Ok(()) => State::Ready(writing),
            Err(_) => State::Failed,
        };
        Poll::Ready(saved)
    }

    /// Takes some bytes; saves first what was taken before, if it has to.
    fn poll_take(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        loop {
            ready!(self.poll_ready(context))?;
            let State::Ready(writing) = &mut self.state else {
                return Poll::Ready(Err(failed()));
            };
            let taken = writing.take_some(bytes)?;
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            let State::Ready(mut writing) = mem::replace(&mut self.state, State::Failed) else {
                return Poll::Ready(Err(failed()));
            };
            let saving = async move {
                let saved = writing.save_taken().await;
                (writing, saved)
            };
            self.state = State::Saving(Pending::new(saving));
        }
    }
}

impl io::Write for ValueWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = std::future::poll_fn(|context| self.poll_take(context, bytes));
        Ok(block_on(taken)?)
    }

    /// Does nothing: [`finish`](ValueWriter::finish) is what makes the value visible.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncWrite for ValueWriter<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_take(context, bytes).map_err(io::Error::from)
    }

    /// Does nothing: [`finish`](ValueWriter::finish) is what makes the value visible.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing, as flushing.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ValueWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueWriter").finish_non_exhaustive()
    }
}

impl Store {
    /// A writer of a value whose length need not be known, in bounded memory: see [`ValueWriter`].
    /// The value is committed when it is [finished](ValueWriter::finish). Others write meanwhile.
    ///
    /// Errors: `InvalidArgument` for a key of more than 32 KiB; `ReadOnly`; `StorageFull`; `Closed`;
    /// `Poisoned` after a failed sync.
    pub fn value_writer(&self, key: impl AsRef<[u8]>) -> Result<ValueWriter<'static>> {
        let batch = Box::new(self.batch());
        ValueWriter::begin(Target::Store(batch), key.as_ref())
    }
}
