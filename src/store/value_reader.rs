//! [`ValueReader`]: a value that is read as it is wanted, from the beginning or from any place on.

use std::fmt;
use std::future::Future;
use std::io::{self, SeekFrom};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use futures::io::{AsyncBufRead, AsyncRead, AsyncSeek};

use super::operation::Operation;
use super::value_ahead::Pieces;
use crate::disk::{block_on, overlapping};
use crate::error::Result;
use crate::snapshot::{View, off_tree_reader};
use crate::tree::pages::Pages;
use crate::value::OffTree;

/// How much is read at a time at most: this, and so many blocks. At first, and after a jump, it is a
/// block; twice as much each time while one reads on.
const STEP_BYTES_MAX: u64 = 1 << 20;
const STEP_BLOCKS_MAX: u64 = 256;

/// Reads a value of any size in bounded memory: at most 1 MiB of it at a time, and what it reads ahead.
///
/// One that goes on from one piece to the next asks for those after it, too: as many at a time as the
/// disk serves at once, and up to [`Options::readahead_bytes`](crate::Options::readahead_bytes), by
/// default 2 MiB. What was read ahead and is not wanted after a jump is forgotten, as it is when the
/// reader is dropped.
///
/// It shows the value as it was when the reader was made, whatever is written since, and keeps what
/// that takes from being used again. Bytes are verified when they are read.
///
/// It is [`io::Read`], [`io::BufRead`] and [`io::Seek`], and the same of [`futures::io`];
/// [`chunks`](Self::chunks) gives a stream and an iterator of [`Bytes`], and
/// [`read_at`](Self::read_at) any part. Seeking costs nothing: the next read goes down the index.
///
/// ```
/// use std::io::{Read, Seek, SeekFrom};
///
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("film", vec![7; 3_000_000]).wait()?;
/// let mut reader = store.value_reader("film").wait()?.expect("it was just put");
/// assert_eq!(reader.length(), 3_000_000);
/// reader.seek(SeekFrom::End(-10))?;
/// let mut end = Vec::new();
/// reader.read_to_end(&mut end)?;
/// assert_eq!(end, [7; 10]);
/// assert_eq!(reader.read_at(1_000_000, 4).wait()?, [7; 4][..]);
///
/// reader.rewind()?;
/// let mut sum = 0;
/// for chunk in reader.chunks() {
///     sum += chunk?.len();
/// }
/// assert_eq!(sum, 3_000_000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ValueReader<'r> {
    pages: Arc<Pages>,
    /// Keeps the value.
    view: View,
    content: Content,
    length: u64,
    position: u64,
    /// What was read last, and where it begins.
    chunk: Bytes,
    chunk_at: u64,
    block_bytes: u64,
    step_bytes: u64,
    /// What was asked for.
    pieces: Pieces,
    /// For whom: a poll waits for what is here.
    wanted: Option<u64>,
    borrowed: PhantomData<&'r ()>,
}

#[derive(Clone)]
enum Content {
    Whole(Bytes),
    /// The payload.
    OffTree(Vec<u8>),
}

impl<'r> ValueReader<'r> {
    pub(super) fn whole(pages: Arc<Pages>, view: View, value: Bytes) -> Self {
        let length = value.len() as u64;
        Self::new(pages, view, Content::Whole(value), (length, STEP_BYTES_MAX))
    }

    pub(super) fn off_tree(pages: Arc<Pages>, view: View, payload: Vec<u8>) -> Result<Self> {
        let value = OffTree::from_payload(&payload)?;
        let cut = (value.length, value.block_bytes.into());
        Ok(Self::new(pages, view, Content::OffTree(payload), cut))
    }

    fn new(
        pages: Arc<Pages>,
        view: View,
        content: Content,
        (length, block_bytes): (u64, u64),
    ) -> Self {
        Self {
            pages,
            view,
            content,
            length,
            position: 0,
            chunk: Bytes::new(),
            chunk_at: 0,
            block_bytes,
            step_bytes: block_bytes,
            pieces: Pieces::default(),
            wanted: None,
            borrowed: PhantomData,
        }
    }

    /// The length of the value in bytes. Free.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The bytes from `offset` on, at most `length`, fewer at the end; wherever the reader is. Reads
    /// the blocks that they are in. Memory: as many bytes. Errors: `Corrupt`; `Io`; `CodecMissing`.
    pub fn read_at(
        &self,
        offset: u64,
        length: usize,
    ) -> Operation<impl Future<Output = Result<Bytes>> + Send + use<>> {
        Operation::new(self.part(offset, length))
    }

    /// The value in pieces of at most 1 MiB, from where the reader is.
    /// Their memory is yours; what is read
    /// ahead is the reader's.
    pub fn chunks(mut self) -> ValueChunks<'r> {
        self.step_bytes = self.step_bytes_max();
        ValueChunks {
            reader: self,
            failed: false,
        }
    }

    fn part(
        &self,
        offset: u64,
        length: usize,
    ) -> impl Future<Output = Result<Bytes>> + Send + use<> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let (pages, content) = (Arc::clone(&self.pages), self.content.clone());
        let view = self.view.clone();
        async move {
            let part = match content {
                _ if length == 0 => Bytes::new(),
                Content::Whole(value) => value.slice(offset as usize..offset as usize + length),
                Content::OffTree(payload) => {
                    let reader = off_tree_reader(&pages, &payload)?;
                    reader.read(offset, length).await?.into()
                }
            };
            drop(view);
            Ok(part)
        }
    }

    /// What was read and is still to be taken.
    fn buffered(&self) -> &[u8] {
        let skip = self.position.checked_sub(self.chunk_at);
        let skip = skip.and_then(|skip| usize::try_from(skip).ok());
        skip.and_then(|skip| self.chunk.get(skip..)).unwrap_or(&[])
    }

    /// Sees to it that something is buffered, unless the value is at its end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.position < self.length && self.buffered().is_empty() {
            let at = self.position;
            if self.wanted != Some(at) {
                self.want(at);
            }
            let loaded = ready!(self.pieces.poll_first(context));
            self.wanted = None;
            (self.chunk_at, self.chunk) = loaded?;
        }
        Poll::Ready(Ok(()))
    }

    /// Asks for the piece from here on and, if the reader goes on from the last one, for those after it.
    fn want(&mut self, at: u64) {
        let goes_on = at == self.chunk_at + self.chunk.len() as u64 && at > 0;
        self.step_bytes = match goes_on {
            true => (self.step_bytes * 2).min(self.step_bytes_max()),
            false if at == 0 => self.step_bytes,
            false => self.block_bytes,
        };
        self.wanted = Some(at);
        // What was taken makes room.
        (self.chunk_at, self.chunk) = (at, Bytes::new());
        let ahead_bytes = match self.content {
            Content::OffTree(_) if goes_on => self.pages.readahead.value_bytes as u64,
            _ => 0,
        };
        if self.pieces.go_to(at) {
            let (end, part) = self.step(at);
            match ahead_bytes {
                // A thread that waits for nothing else reads by itself.
                0 => self.pieces.push(at, end, part),
                _ => self.pieces.push(at, end, overlapping(part)),
            }
        }
        let at_once = self.pages.disk.properties().concurrency;
        while let Some(from) = self.pieces.end().filter(|end| *end < self.length) {
            let (end, part) = self.step(from);
            let bytes = self.pieces.bytes_ahead() + (end - from);
            if bytes > ahead_bytes || self.pieces.under_way() >= at_once {
                break;
            }
            self.pieces.push(from, end, overlapping(part));
        }
    }

    fn step_bytes_max(&self) -> u64 {
        (self.block_bytes * STEP_BLOCKS_MAX).min(STEP_BYTES_MAX)
    }

    /// The piece from a byte to the end of a step, which is that of a block, and where it ends.
    fn step(&self, at: u64) -> (u64, impl Future<Output = Result<Bytes>> + Send + use<>) {
        let end = (at + 1).next_multiple_of(self.step_bytes).min(self.length);
        (end, self.part(at, (end - at) as usize))
    }

    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>>> {
        ready!(self.poll_fill(context))?;
        let length = self.buffered().len();
        let chunk = self.chunk.slice(self.chunk.len() - length..);
        self.position += length as u64;
        Poll::Ready(Ok((length > 0).then_some(chunk)))
    }

    fn take(&mut self, into: &mut [u8]) -> usize {
        let buffered = self.buffered();
        let length = buffered.len().min(into.len());
        into[..length].copy_from_slice(&buffered[..length]);
        self.position += length as u64;
        length
    }

    fn go_to(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(from) => self.length.checked_add_signed(from),
            SeekFrom::Current(from) => self.position.checked_add_signed(from),
        };
        self.position = place.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "seeking before the beginning of a value",
            )
        })?;
        Ok(self.position)
    }
}

impl io::Read for ValueReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        block_on(std::future::poll_fn(|context| self.poll_fill(context)))?;
        Ok(self.take(into))
    }
}

impl io::BufRead for ValueReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        block_on(std::future::poll_fn(|context| self.poll_fill(context)))?;
        Ok(self.buffered())
    }

    fn consume(&mut self, bytes: usize) {
        self.position += bytes as u64;
    }
}

impl io::Seek for ValueReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.go_to(to)
    }
}

impl AsyncRead for ValueReader<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_fill(context))?;
        Poll::Ready(Ok(self.take(into)))
    }
}

impl AsyncBufRead for ValueReader<'_> {
    fn poll_fill_buf(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill(context))?;
        Poll::Ready(Ok(this.buffered()))
    }

    fn consume(mut self: Pin<&mut Self>, bytes: usize) {
        self.position += bytes as u64;
    }
}

impl AsyncSeek for ValueReader<'_> {
    fn poll_seek(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        to: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        Poll::Ready(self.go_to(to))
    }
}

impl fmt::Debug for ValueReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueReader")
            .field("length", &self.length)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// A value in pieces: see [`ValueReader::chunks`]. A [`Stream`], and an [`Iterator`] that waits;
/// after an error they end.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("film", vec![7; 3_000_000]).wait()?;
/// let mut chunks = store.value_reader("film").wait()?.expect("it was just put").chunks();
/// let mut length = 0;
/// while let Some(chunk) = chunks.next_chunk().wait()? {
///     length += chunk.len();
/// }
/// assert_eq!(length, 3_000_000);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "nothing is read before it is asked for"]
#[derive(Debug)]
pub struct ValueChunks<'r> {
    reader: ValueReader<'r>,
    failed: bool,
}

impl<'r> ValueChunks<'r> {
    /// The next piece.
    /// `None` at the end. Errors: `Corrupt`; `Io`; `CodecMissing`.
    pub fn next_chunk(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<Bytes>>> + Send + use<'_, 'r>> {
        Operation::new(std::future::poll_fn(|context| {
            self.reader.poll_chunk(context)
        }))
    }
}

impl Iterator for ValueChunks<'_> {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_chunk().wait();
        self.failed = next.is_err();
        next.transpose()
    }
}

impl Stream for ValueChunks<'_> {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = ready!(self.reader.poll_chunk(context));
        self.failed = next.is_err();
        Poll::Ready(next.transpose())
    }
}
