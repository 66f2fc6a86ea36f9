//! [`Range`]: the entries of a range, from both ends.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;

use super::operation::Operation;
use super::value::{Entry, Value};
use crate::cache::Handle;
use crate::disk::block_on;
use crate::error::Result;
use crate::format::record::Tag;
use crate::snapshot::{Cursor, Direction, Layered, Start, Stop, load_value};

/// What a stream waits for.
enum Loaded {
    Page(Handle),
    Value(Bytes),
}

type Loading = Pin<Box<dyn Future<Output = Result<Loaded>> + Send>>;

/// The entries of a range in the order of their keys, from either end or both at once.
///
/// It sees what there was when it was made, for as long as it lives. As an [`Iterator`] it waits, as
/// a [`Stream`] it is awaited; both own what they give. [`next_with`](Self::next_with) lends it
/// instead and allocates nothing. After an error these two end, while lending tries the same entry
/// again.
///
/// Costs: one descent a leaf; where nothing is pending, no more than a copy an entry.
#[must_use = "a range does nothing before it is asked"]
pub struct Range<'r> {
    over: Layered,
    /// Where an end is to begin. Its cursor, once there is one, takes that along, and knows what is
    /// left.
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    front: Option<Cursor>,
    back: Option<Cursor>,
    /// Ends that stopped on an entry whose value is still to be loaded: the front, the back.
    held: [bool; 2],
    /// What the front waits for.
    loading: Option<Loading>,
    /// Pages that a step asked for stay in memory until it is done, however small the cache.
    loaded: Vec<Handle>,
    /// An error was given: to those who iterate, that is the end.
    failed: bool,
    /// Nothing is left.
    finished: bool,
    /// Ranges of a transaction borrow it.
    borrowed: PhantomData<&'r ()>,
}

impl<'r> Range<'r> {
    pub(super) fn new(over: Layered, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Self {
        Self {
            over,
            low,
            high,
            front: None,
            back: None,
            held: [false; 2],
            loading: None,
            loaded: Vec::new(),
            failed: false,
            finished: false,
            borrowed: PhantomData,
        }
    }

    /// Steps one end onto its next entry, without I/O.
    #[inline]
    fn step(&mut self, direction: Direction) -> Result<Stop> {
        if self.finished {
            return Ok(Stop::End);
        }
        let (cursor, bound, other, other_bound) = match direction {
            Direction::Forward => (&mut self.front, &mut self.low, &self.back, &self.high),
            Direction::Backward => (&mut self.back, &mut self.high, &self.front, &self.low),
        };
        let other_held = self.held[1 - direction as usize];
        let cursor = cursor.get_or_insert_with(|| begin(direction, bound));
        if !self.held[direction as usize] {
            let stop = cursor.step(&self.over)?;
            if !matches!(stop, Stop::Entry) {
                return Ok(stop);
            }
        }
        // Asked of a held entry too: the other end may have given it meanwhile.
        let key = cursor.key();
        let inside = match (direction, limit(other, other_held, other_bound)) {
            (_, Bound::Unbounded) => true,
            (Direction::Forward, Bound::Included(high)) => key <= high,
            (Direction::Forward, Bound::Excluded(high)) => key < high,
            (Direction::Backward, Bound::Included(low)) => key >= low,
            (Direction::Backward, Bound::Excluded(low)) => key > low,
        };
        if !inside {
            // Whatever either end finds from here on is the other's.
            self.finish();
            return Ok(Stop::End);
        }
        self.held[direction as usize] = true;
        self.loaded.clear();
        Ok(Stop::Entry)
    }

    /// Nothing is left.
    fn finish(&mut self) {
        self.finished = true;
        self.front = None;
        self.back = None;
        self.held = [false; 2];
        self.loading = None;
    }

    /// The entry that an end holds was given: neither end is to give it again.
    #[inline]
    fn given(&mut self, direction: Direction) {
        self.held[direction as usize] = false;
        if direction == Direction::Forward {
            self.loading = None;
        }
    }

    fn standing(&self, direction: Direction) -> Option<&Cursor> {
        match direction {
            Direction::Forward => self.front.as_ref(),
            Direction::Backward => self.back.as_ref(),
        }
    }

    /// Steps one end, loading what it takes; gives the value where it is wanted and not in place.
    async fn advance(
        &mut self,
        direction: Direction,
        value_wanted: bool,
    ) -> Result<Option<Option<Bytes>>> {
        loop {
            match self.step(direction)? {
                Stop::End => return Ok(None),
                Stop::Need(pointer, expect) => {
                    let page = self.over.version().pages().load(&pointer, expect).await?;
                    self.loaded.push(page);
                }
                Stop::Entry => {
                    let Some(cursor) = self.standing(direction) else {
                        return Ok(None);
                    };
                    let (tag, payload) = cursor.stored(&self.over);
                    if tag == Tag::Inline || !value_wanted {
                        return Ok(Some(None));
                    }
                    let (key, payload) = (cursor.key().to_vec(), payload.to_vec());
                    let value =
                        load_value(self.over.version().pages(), &key, tag, &payload).await?;
                    return Ok(Some(Some(value)));
                }
            }
        }
    }

    async fn lend<R>(
        &mut self,
        direction: Direction,
        function: impl FnOnce(&[u8], &[u8]) -> R,
    ) -> Result<Option<R>> {
        let Some(loaded) = self.advance(direction, true).await? else {
            return Ok(None);
        };
        let Some(cursor) = self.standing(direction) else {
            return Ok(None);
        };
        let result = match &loaded {
            Some(value) => function(cursor.key(), value),
            None => function(cursor.key(), cursor.stored(&self.over).1),
        };
        self.given(direction);
        Ok(Some(result))
    }

    async fn lend_key<R>(
        &mut self,
        direction: Direction,
        function: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        if self.advance(direction, false).await?.is_none() {
            return Ok(None);
        }
        let result = self
            .standing(direction)
            .map(|cursor| function(cursor.key()));
        self.given(direction);
        Ok(result)
    }

    /// Lends the key of the next entry to a function, without looking at its value.
    pub fn next_key_with<R>(
        &mut self,
        function: impl FnOnce(&[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend_key(Direction::Forward, function))
    }

    /// Lends the key of the last entry that is left to a function.
    pub fn next_back_key_with<R>(
        &mut self,
        function: impl FnOnce(&[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend_key(Direction::Backward, function))
    }

    /// The keys alone: values that are not in their leaves are not read.
    pub fn keys(self) -> Keys<'r> {
        Keys { range: self }
    }

    /// Lends the next entry, key and value, to a function. `None` at the end. No allocation where
    /// the value is in its leaf.
    pub fn next_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], &[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Forward, function))
    }

    /// Lends the last entry that is left to a function.
    pub fn next_back_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], &[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Backward, function))
    }

    /// The next entry, owned.
    pub fn next_entry(&mut self) -> Operation<impl Future<Output = Result<Option<Entry>>>> {
        self.next_with(entry)
    }

    /// The last entry that is left, owned.
    pub fn next_back_entry(&mut self) -> Operation<impl Future<Output = Result<Option<Entry>>>> {
        self.next_back_with(entry)
    }

    fn next_waiting(&mut self, direction: Direction) -> Option<Result<(Vec<u8>, Value)>> {
        if self.failed {
            return None;
        }
        let next = block_on(self.lend(direction, entry));
        self.failed = next.is_err();
        next.transpose()
    }
}

/// The cursor of an end, which begins at the end's bound.
#[cold]
fn begin(direction: Direction, bound: &mut Bound<Vec<u8>>) -> Cursor {
    let start = match std::mem::replace(bound, Bound::Unbounded) {
        Bound::Unbounded => Start::Outermost,
        Bound::Included(key) => Start::At(key),
        Bound::Excluded(key) => Start::Past(key),
    };
    Cursor::new(direction, start)
}

/// How far the other end may go: to what this end has given, or to where it is to begin.
#[inline]
fn limit<'c>(end: &'c Option<Cursor>, held: bool, bound: &'c Bound<Vec<u8>>) -> Bound<&'c [u8]> {
    match end {
        Some(cursor) => cursor.frontier(!held),
        None => bound.as_ref().map(Vec::as_slice),
    }
}

fn entry(key: &[u8], value: &[u8]) -> (Vec<u8>, Value) {
    (key.to_vec(), Value::new(Bytes::copy_from_slice(value)))
}

impl Iterator for Range<'_> {
    type Item = Result<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_waiting(Direction::Forward)
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_waiting(Direction::Backward)
    }
}

impl Range<'_> {
    /// Steps the front, as [`advance`](Self::advance) does, for a stream.
    fn poll_advance(
        &mut self,
        context: &mut Context<'_>,
        value_wanted: bool,
    ) -> Poll<Option<Result<Option<Bytes>>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        loop {
            let mut value = None;
            if let Some(loading) = &mut self.loading {
                let result = ready!(loading.as_mut().poll(context));
                self.loading = None;
                match result {
                    Ok(Loaded::Value(loaded)) => value = Some(loaded),
                    Ok(Loaded::Page(page)) => self.loaded.push(page),
                    Err(error) => {
                        self.failed = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
            let pages = Arc::clone(self.over.version().pages());
            match self.step(Direction::Forward) {
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(error)));
                }
                Ok(Stop::End) => return Poll::Ready(None),
                Ok(Stop::Need(pointer, expect)) => {
                    self.loading = Some(Box::pin(async move {
                        pages.load(&pointer, expect).await.map(Loaded::Page)
                    }));
                }
                Ok(Stop::Entry) => {
                    let Some(cursor) = &self.front else {
                        return Poll::Ready(None);
                    };
                    let (tag, payload) = cursor.stored(&self.over);
                    if tag == Tag::Inline || !value_wanted || value.is_some() {
                        return Poll::Ready(Some(Ok(value)));
                    }
                    let (key, payload) = (cursor.key().to_vec(), payload.to_vec());
                    self.loading = Some(Box::pin(async move {
                        load_value(&pages, &key, tag, &payload)
                            .await
                            .map(Loaded::Value)
                    }));
                }
            }
        }
    }
}

impl Stream for Range<'_> {
    type Item = Result<(Vec<u8>, Value)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let advanced = ready!(self.poll_advance(context, true));
        Poll::Ready(match (advanced, &self.front) {
            (Some(Ok(value)), Some(cursor)) => {
                let (key, stored) = (cursor.key().to_vec(), cursor.stored(&self.over).1);
                let value = value.unwrap_or_else(|| Bytes::copy_from_slice(stored));
                self.given(Direction::Forward);
                Some(Ok((key, Value::new(value))))
            }
            (Some(Err(error)), _) => Some(Err(error)),
            _ => None,
        })
    }
}

/// The keys of a range, from either end or both at once: see [`Range::keys`]. As an [`Iterator`] it
/// waits, as a [`Stream`] it is awaited.
#[must_use = "a range does nothing before it is asked"]
pub struct Keys<'r> {
    range: Range<'r>,
}

impl Keys<'_> {
    fn next_waiting(&mut self, direction: Direction) -> Option<Result<Vec<u8>>> {
        if self.range.failed {
            return None;
        }
        let next = block_on(self.range.lend_key(direction, <[u8]>::to_vec));
        self.range.failed = next.is_err();
        next.transpose()
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_waiting(Direction::Forward)
    }
}

impl DoubleEndedIterator for Keys<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_waiting(Direction::Backward)
    }
}

impl Stream for Keys<'_> {
    type Item = Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let range = &mut self.range;
        let advanced = ready!(range.poll_advance(context, false));
        Poll::Ready(match (advanced, &range.front) {
            (Some(Ok(_)), Some(cursor)) => {
                let key = cursor.key().to_vec();
                range.given(Direction::Forward);
                Some(Ok(key))
            }
            (Some(Err(error)), _) => Some(Err(error)),
            _ => None,
        })
    }
}
