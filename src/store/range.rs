//! [`Range`]: the entries of a range, from both ends.

use std::future::Future;
use std::marker::PhantomData;
use std::ops::{Bound, Deref};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;

use super::ahead::Ahead;
use super::gate::lock;
use super::operation::Operation;
use super::pending::Pending;
use super::reader::Noting;
use super::subtree::Base;
use super::value::{Entry, Value, ValueKind};
use crate::cache::Handle;
use crate::disk::block_on;
use crate::error::{Error, ErrorKind, Result};
use crate::format::PagePointer;
use crate::format::record::Tag;
use crate::snapshot::{Cursor, Direction, Layered, Start, Stop, load_value, target_of};
use crate::transaction::Reads;
use crate::tree::ahead::Upcoming;
use crate::tree::pages::{Expect, Pages};

/// What a stream waits for.
enum Loaded {
    Page(Handle),
    Value(Bytes),
}

type Loading = Pending<Result<Loaded>>;

/// The value of an entry that is lent.
enum Lent<'v> {
    InPlace(&'v [u8]),
    Loaded(Bytes),
    /// It is a reference, and not followed.
    Reference(ValueKind<'v>),
    /// It was not asked for, and is not in place.
    Unread,
}

impl Deref for Lent<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::InPlace(value) => value,
            Self::Loaded(value) => value,
            Self::Reference(kind) => kind.bytes(),
            Self::Unread => &[],
        }
    }
}

impl Lent<'_> {
    fn kind(&self) -> ValueKind<'_> {
        match self {
            Self::Reference(kind) => *kind,
            value => ValueKind::Bytes(value),
        }
    }
}

/// Lending the next entry of an end. Where nothing has to be loaded it is one step of a cursor.
struct Lend<'l, 'r, F> {
    range: &'l mut Range<'r>,
    direction: Direction,
    value_wanted: bool,
    loading: Option<Loading>,
    function: Option<F>,
}

/// The function is moved out, never pinned.
impl<F> Unpin for Lend<'_, '_, F> {}

impl<R, F: FnOnce(&[u8], Lent<'_>) -> R> Future for Lend<'_, '_, F> {
    type Output = Result<Option<R>>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            range,
            direction,
            value_wanted,
            loading,
            function,
        } = &mut *self;
        range.poll_entry(*direction, *value_wanted, loading, function, context)
    }
}

/// The entries of a range in the order of their keys, from either end or both at once.
///
/// It sees what there was when it was made, for as long as it lives. As an [`Iterator`] it waits, as
/// a [`Stream`] it is awaited; both own what they give. [`next_with`](Self::next_with) lends it
/// instead and allocates nothing. After an error these two end, while lending tries the same entry
/// again. But an entry that needs what a broken reference leads to is an error (`BrokenReference`) in
/// its place, after which all of them give the next one.
///
/// What it gives for a reference to another key is the reference:
/// [`Value::kind`] and [`next_kind_with`](Self::next_kind_with) tell. To get the
/// values in the place of references: [`following`](Self::following). Merge operands on a reference
/// are put on what it leads to, in any case.
///
/// Costs: one descent a leaf; where nothing is pending, no more than a copy an entry.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// for key in ["a", "b", "c"] {
///     store.put(key, "…").wait()?;
/// }
/// let mut range = store.range("a"..="c");
/// let mut keys = Vec::new();
/// while let Some(key) = range.next_with(|key, _value| key.to_vec()).wait()? {
///     keys.push(key);
/// }
/// assert_eq!(keys, [b"a", b"b", b"c"]);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "a range does nothing before it is asked"]
pub struct Range<'r> {
    over: Layered,
    /// Where an end is to begin. Its cursor, once there is one, takes that along, and knows what is
    /// left.
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    /// In boxes: most ranges use one, and a range is moved about.
    front: Option<Box<Cursor>>,
    back: Option<Box<Cursor>>,
    /// Ends that stopped on an entry whose value is still to be loaded: the front, the back.
    held: [bool; 2],
    /// What the front waits for.
    loading: Option<Loading>,
    /// What is read ahead of an end, on a slow disk.
    ahead: Option<Box<Ahead>>,
    /// Pages that a step asked for stay in memory until it is done, however small the cache.
    loaded: Vec<Handle>,
    /// An error was given: to those who iterate, that is the end.
    failed: bool,
    /// Nothing is left.
    finished: bool,
    /// What the view takes off each key.
    base: Base,
    /// References are followed.
    following: bool,
    /// Where a transaction notes how far it was asked, and as which of its open ranges.
    noted: Option<(Arc<Mutex<Reads>>, usize)>,
    /// An end came to the end of all there is.
    exhausted: bool,
    /// Ranges of a transaction borrow it.
    borrowed: PhantomData<&'r ()>,
}

impl<'r> Range<'r> {
    pub(super) fn new(
        over: Layered,
        low: Bound<Vec<u8>>,
        high: Bound<Vec<u8>>,
        base: Base,
        reads: Option<&Arc<Mutex<Reads>>>,
    ) -> Self {
        let noted = reads.map(|reads| {
            let slot = lock(reads).open(low.clone(), high.clone());
            (Arc::clone(reads), slot)
        });
        Self {
            over,
            low,
            high,
            front: None,
            back: None,
            held: [false; 2],
            loading: None,
            ahead: None,
            loaded: Vec::new(),
            failed: false,
            finished: false,
            base,
            following: false,
            noted,
            exhausted: false,
            borrowed: PhantomData,
        }
    }

    /// The same range, which gives the values in the place of references, as
    /// [`Store::get`](crate::Store::get) does: in the version that the range sees. Costs one more
    /// `get` for each reference on the way. A reference that leads to no value is an error
    /// (`BrokenReference`) in its place.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("2026/report", "…").wait()?;
    /// store.put_reference("newest", "2026/report").wait()?;
    /// for entry in store.iter().following() {
    ///     assert_eq!(entry?.1, "…");
    /// }
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn following(mut self) -> Self {
        self.following = true;
        self
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
        let far = limit(other, other_held, other_bound);
        if !self.held[direction as usize] {
            let stop = cursor.step_within(&self.over, far)?;
            if !matches!(stop, Stop::Entry) {
                if matches!(stop, Stop::End) {
                    self.finish();
                }
                return Ok(stop);
            }
        }
        // Asked of a held entry too: the other end may have given it meanwhile.
        let key = cursor.key();
        let inside = match (direction, far) {
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
        self.exhausted = true;
        self.front = None;
        self.back = None;
        self.held = [false; 2];
        self.loading = None;
        self.ahead = None;
    }

    #[inline]
    fn standing(&self, direction: Direction) -> Option<&Cursor> {
        match direction {
            Direction::Forward => self.front.as_deref(),
            Direction::Backward => self.back.as_deref(),
        }
    }

    /// Steps one end onto its next entry, loading what it takes, and hands that to a function.
    #[inline]
    fn poll_entry<R, F: FnOnce(&[u8], Lent<'_>) -> R>(
        &mut self,
        direction: Direction,
        value_wanted: bool,
        loading: &mut Option<Loading>,
        function: &mut Option<F>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<R>>> {
        let mut value = None;
        loop {
            if let Some(future) = loading {
                let result = ready!(Pin::new(future).poll(context));
                *loading = None;
                match result {
                    Ok(Loaded::Value(loaded)) => value = Some(loaded),
                    Ok(Loaded::Page(page)) => self.loaded.push(page),
                    // Unless the other end has given the entry meanwhile.
                    Err(error) if stands_for_entry(&error) => {
                        if let Stop::Entry = self.step(direction)? {
                            self.held[direction as usize] = false;
                            return Poll::Ready(Err(error));
                        }
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match self.step(direction)? {
                Stop::Entry => {}
                Stop::End => return Poll::Ready(Ok(None)),
                Stop::Need(pointer, expect) => {
                    let pages = Arc::clone(self.over.version().pages());
                    if pages.readahead.scan_bytes > 0 {
                        let need = (pointer, expect);
                        let page = ready!(self.poll_ahead(direction, &pages, need, context))?;
                        self.loaded.push(page);
                        continue;
                    }
                    *loading = Some(Pending::new(async move {
                        pages.load(&pointer, expect).await.map(Loaded::Page)
                    }));
                    continue;
                }
            }
            let Some(cursor) = self.standing(direction) else {
                return Poll::Ready(Ok(None));
            };
            let lent = match (cursor.stored(&self.over), value.take()) {
                ((Tag::Inline, payload), _) => Lent::InPlace(payload),
                (_, Some(value)) => Lent::Loaded(value),
                _ if !value_wanted => Lent::Unread,
                ((Tag::Reference, target), None) if !self.following => {
                    Lent::Reference(ValueKind::reference(target, self.base.bytes()))
                }
                ((tag, payload), None) => {
                    *loading = Some(self.load_value(cursor.key(), tag, payload));
                    continue;
                }
            };
            let function = function.take();
            let key = &cursor.key()[self.base.bytes().len()..];
            let result = function.map(|function| function(key, lent));
            self.held[direction as usize] = false;
            return Poll::Ready(Ok(result));
        }
    }

    /// Waits for a page that an end needs, and has those read that come after it.
    #[cold]
    fn poll_ahead(
        &mut self,
        direction: Direction,
        pages: &Arc<Pages>,
        need: (PagePointer, Expect),
        context: &mut Context<'_>,
    ) -> Poll<Result<Handle>> {
        let (cursor, other, other_bound) = match direction {
            Direction::Forward => (&self.front, &self.back, &self.high),
            Direction::Backward => (&self.back, &self.front, &self.low),
        };
        let far = limit(other, self.held[1 - direction as usize], other_bound);
        let find = |upcoming: &mut Upcoming| {
            if let Some(cursor) = cursor {
                cursor.find_upcoming(&self.over, far, upcoming);
            }
        };
        let mut ahead = Ahead::of(&mut self.ahead, direction);
        let polled = ahead.poll_page(pages, need, find, context);
        self.ahead = Some(ahead);
        polled
    }

    #[cold]
    fn load_value(&self, key: &[u8], tag: Tag, payload: &[u8]) -> Loading {
        let pages = Arc::clone(self.over.version().pages());
        let (key, payload) = (key.to_vec(), payload.to_vec());
        if target_of(tag, &payload).is_some() {
            let (over, base) = (self.over.clone(), self.base.clone());
            let reads = self.noted.as_ref().map(|(reads, _)| Arc::clone(reads));
            return Pending::new(async move {
                let (over, reads) = (&over, reads.as_deref());
                let noting = Noting { over, reads };
                let value = noting.load(base.bytes(), &key, (tag, payload));
                value.await.map(Loaded::Value)
            });
        }
        Pending::new(async move {
            load_value(&pages, &key, tag, &payload)
                .await
                .map(Loaded::Value)
        })
    }

    #[inline]
    fn lend<R, F: FnOnce(&[u8], Lent<'_>) -> R>(
        &mut self,
        direction: Direction,
        value_wanted: bool,
        function: F,
    ) -> Lend<'_, 'r, F> {
        if direction == Direction::Forward {
            // What a stream waits for may be for the entry that is given now.
            self.loading = None;
        }
        Lend {
            range: self,
            direction,
            value_wanted,
            loading: None,
            function: Some(function),
        }
    }

    /// Lends the key of the next entry to a function, without looking at its value.
    /// `None` at the end.
    /// Nothing is allocated. Errors: `Corrupt`; `Io`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut range = store.iter();
    /// assert_eq!(range.next_key_with(|key| key[0]).wait()?, Some(b'a'));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_key_with<R>(
        &mut self,
        function: impl FnOnce(&[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Forward, false, |key, _| function(key)))
    }

    /// Lends the key of the last entry that is left to a function.
    /// Cost and errors: those of
    /// [`next_key_with`](Self::next_key_with).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut range = store.iter();
    /// assert_eq!(range.next_back_key_with(|key| key[0]).wait()?, Some(b'c'));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_back_key_with<R>(
        &mut self,
        function: impl FnOnce(&[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Backward, false, |key, _| function(key)))
    }

    /// The keys alone: values that are not in their leaves are not read. Free.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let keys = store.iter().keys().collect::<thunderhead::Result<Vec<_>>>()?;
    /// assert_eq!(keys, [b"a", b"b", b"c"]);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn keys(self) -> Keys<'r> {
        Keys { range: self }
    }

    /// Lends the next entry, key and value, to a function. `None` at the end. No allocation where
    /// the value is in its leaf. Of a reference that is not followed, the key that it names is lent.
    ///
    /// Errors: those of [`Store::get`](crate::Store::get); then the function was not called.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "value").wait()?;
    /// let mut range = store.iter();
    /// assert_eq!(range.next_with(|key, value| key.len() + value.len()).wait()?, Some(6));
    /// assert_eq!(range.next_with(|_, _| ()).wait()?, None);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], &[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Forward, true, |key, lent| function(key, &lent)))
    }

    /// Lends the last entry that is left to a function.
    /// Cost and errors: those of
    /// [`next_with`](Self::next_with).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut range = store.iter();
    /// assert_eq!(range.next_back_with(|key, _| key[0]).wait()?, Some(b'c'));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_back_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], &[u8]) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Backward, true, |key, lent| function(key, &lent)))
    }

    /// Lends the next entry to a function, which is told whether it has a value or a reference.
    /// Cost and errors:
    /// those of [`next_with`](Self::next_with).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::ValueKind;
    ///
    /// store.put_reference("newest", "2026").wait()?;
    /// let mut range = store.iter();
    /// let is_reference = |_: &[u8], kind: ValueKind<'_>| matches!(kind, ValueKind::Reference(_));
    /// assert_eq!(range.next_kind_with(is_reference).wait()?, Some(true));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_kind_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], ValueKind<'_>) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Forward, true, |key, lent| {
            function(key, lent.kind())
        }))
    }

    /// Lends the last entry that is left to a function, which is told whether it has a value or a
    /// reference.
    /// Cost and errors: those of [`next_with`](Self::next_with).
    pub fn next_back_kind_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], ValueKind<'_>) -> R,
    ) -> Operation<impl Future<Output = Result<Option<R>>>> {
        Operation::new(self.lend(Direction::Backward, true, |key, lent| {
            function(key, lent.kind())
        }))
    }

    /// The next entry, owned.
    /// `None` at the end. Copies key and value. Errors: those of
    /// [`Store::get`](crate::Store::get).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// let mut range = store.iter();
    /// let (key, value) = range.next_entry().wait()?.expect("there is one");
    /// assert_eq!((&key[..], &value[..]), (&b"k"[..], &b"v"[..]));
    /// assert!(range.next_entry().wait()?.is_none());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_entry(&mut self) -> Operation<impl Future<Output = Result<Option<Entry>>>> {
        Operation::new(self.lend(Direction::Forward, true, entry))
    }

    /// The last entry that is left, owned.
    /// Cost and errors: those of [`next_entry`](Self::next_entry).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "b", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut range = store.iter();
    /// let (key, _value) = range.next_back_entry().wait()?.expect("there are three");
    /// assert_eq!(key, b"c");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn next_back_entry(&mut self) -> Operation<impl Future<Output = Result<Option<Entry>>>> {
        Operation::new(self.lend(Direction::Backward, true, entry))
    }

    fn next_waiting(&mut self, direction: Direction) -> Option<Result<(Vec<u8>, Value)>> {
        if self.failed {
            return None;
        }
        let next = block_on(self.lend(direction, true, entry));
        self.failed = (next.as_ref()).is_err_and(|error| !stands_for_entry(error));
        next.transpose()
    }
}

impl Drop for Range<'_> {
    fn drop(&mut self) {
        let Some((reads, slot)) = self.noted.take() else {
            return;
        };
        let place = |end: &'_ Option<Box<Cursor>>| match end {
            Some(cursor) => cursor.frontier(true).map(<[u8]>::to_vec),
            None => Bound::Unbounded,
        };
        let asked = (!self.exhausted).then(|| [place(&self.front), place(&self.back)]);
        let asked = asked.as_ref();
        let asked = asked.map(|ends| ends.each_ref().map(|end| end.as_ref().map(Vec::as_slice)));
        lock(&reads).close(slot, asked);
    }
}

/// The cursor of an end, which begins at the end's bound.
#[cold]
fn begin(direction: Direction, bound: &mut Bound<Vec<u8>>) -> Box<Cursor> {
    let start = match std::mem::replace(bound, Bound::Unbounded) {
        Bound::Unbounded => Start::Outermost,
        Bound::Included(key) => Start::At(key),
        Bound::Excluded(key) => Start::Past(key),
    };
    Box::new(Cursor::new(direction, start))
}

/// How far the other end may go: to what this end has given, or to where it is to begin.
#[inline]
fn limit<'c>(
    end: &'c Option<Box<Cursor>>,
    held: bool,
    bound: &'c Bound<Vec<u8>>,
) -> Bound<&'c [u8]> {
    match end {
        Some(cursor) => cursor.frontier(!held),
        None => bound.as_ref().map(Vec::as_slice),
    }
}

/// Whether an error is given in the place of an entry, after which the next one comes.
fn stands_for_entry(error: &Error) -> bool {
    error.kind() == ErrorKind::BrokenReference
}

fn entry(key: &[u8], value: Lent<'_>) -> (Vec<u8>, Value) {
    let value = match value {
        Lent::InPlace(value) => Value::copied(value),
        Lent::Loaded(value) => Value::new(value),
        Lent::Reference(kind) => Value::of(kind),
        Lent::Unread => Value::default(),
    };
    (key.to_vec(), value)
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
    /// Lends the next entry; what that waits for stays here, and not in a future that may be dropped.
    fn poll_lent<R>(
        &mut self,
        value_wanted: bool,
        function: impl FnOnce(&[u8], Lent<'_>) -> R,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<R>>> {
        let (mut loading, mut function) = (self.loading.take(), Some(function));
        let polled = self.poll_entry(
            Direction::Forward,
            value_wanted,
            &mut loading,
            &mut function,
            context,
        );
        self.loading = loading;
        polled
    }

    /// The same for other streams.
    pub(super) fn poll_with<R>(
        &mut self,
        function: impl FnOnce(&[u8], &[u8]) -> R,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<R>>> {
        self.poll_lent(true, |key, value| function(key, &value), context)
    }

    /// The same without values.
    pub(super) fn poll_key_with<R>(
        &mut self,
        function: impl FnOnce(&[u8]) -> R,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<R>>> {
        self.poll_lent(false, |key, _| function(key), context)
    }

    /// The next entry for a stream.
    fn poll_owned<R>(
        &mut self,
        value_wanted: bool,
        function: impl FnOnce(&[u8], Lent<'_>) -> R,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<R>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_lent(value_wanted, function, context));
        self.failed = (next.as_ref()).is_err_and(|error| !stands_for_entry(error));
        Poll::Ready(next.transpose())
    }
}

impl Stream for Range<'_> {
    type Item = Result<(Vec<u8>, Value)>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_owned(true, entry, context)
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
        let next = block_on(self.range.lend(direction, false, |key, _| key.to_vec()));
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
        self.range.poll_owned(false, |key, _| key.to_vec(), context)
    }
}
