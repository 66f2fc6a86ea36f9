//! [`Cursor`]: a place among the entries, to seek from there and to step both ways.
//!
//! It is the cursor of [`crate::snapshot`], which goes one way only, and what it takes to turn it
//! round: to turn is to begin anew at the key where it stands. Where it stands is one of four things,
//! so that a step that failed, or was dropped half-way, leaves a place from which any other goes on.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::ahead::Ahead;
use super::gate::lock;
use super::operation::Operation;
use super::reader::Noting;
use super::subtree::{Base, Bounds};
use super::value::ValueKind;
use crate::cache::Handle;
use crate::error::Result;
use crate::format::PagePointer;
use crate::format::record::Tag;
use crate::snapshot::{Cursor as Walk, Direction, Layered, Start, Stop};
use crate::transaction::Reads;
use crate::tree::ahead::Upcoming;
use crate::tree::pages::Expect;

/// Where a cursor stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It was not moved yet.
    Nowhere,
    /// On the key of the walk.
    Entry,
    /// Between what the walk has left and what it has still to go over.
    Between,
    /// Past the last entry, in a direction.
    End(Direction),
}

/// A place among the entries: seeks keys, and steps both ways.
///
/// It sees what there was when it was made, for as long as it lives; one of a transaction sees what
/// the transaction wrote, too. It stands on an entry, or beside one: before the first, past the last,
/// or nowhere, where a new one is. From nowhere, a step goes to the first or the last entry, so that
/// a loop needs nothing before it.
///
/// The key is lent by [`key`](Self::key), the value by [`value`](Self::value). A step that fails, or
/// whose future is dropped, has left its entry and not come to the next one: from there on steps go on
/// in both directions.
///
/// Costs: a step within a leaf compares two numbers and copies a key; at the end of a leaf, when it
/// turns round and when it seeks it is one descent. Nothing is allocated where nothing is loaded.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// for (key, value) in [("a", "1"), ("c", "3"), ("e", "5")] {
///     store.put(key, value).wait()?;
/// }
/// let mut cursor = store.cursor();
/// assert!(cursor.seek("b").wait()?);
/// assert_eq!(cursor.key(), Some(&b"c"[..]));
/// assert!(cursor.previous().wait()?);
/// assert_eq!(cursor.value().wait()?, Some(&b"1"[..]));
/// assert!(!cursor.previous().wait()?);
/// // Past an end, a step back comes to the outermost entry again.
/// assert!(cursor.next().wait()?);
/// assert_eq!(cursor.key(), Some(&b"a"[..]));
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "a cursor does nothing before it is moved"]
pub struct Cursor<'r> {
    over: Layered,
    /// It stays between these. With the view's prefix, as all keys here.
    bounds: Bounds,
    base: Base,
    /// In a box: it is large, and a cursor is moved about.
    walk: Box<Walk>,
    place: Place,
    /// The value of the entry, where it had to be loaded.
    value: Option<Bytes>,
    /// What is read ahead of it, on a slow disk.
    ahead: Option<Box<Ahead>>,
    /// Pages that a step asked for stay in memory until it is done, however small the cache.
    loaded: Vec<Handle>,
    /// Where a transaction notes how far it went.
    noted: Option<Box<Noted>>,
    /// Cursors of a transaction borrow it.
    borrowed: PhantomData<&'r ()>,
}

/// What a transaction notes of a cursor's ways.
struct Noted {
    reads: Arc<Mutex<Reads>>,
    /// Which of its open ranges the cursor is: one, from when it is moved until it is done.
    slot: Option<usize>,
    /// Where the present walk began.
    from: Option<Bound<Vec<u8>>>,
}

impl Cursor<'_> {
    pub(super) fn new(
        over: Layered,
        bounds: Bounds,
        base: Base,
        reads: Option<&Arc<Mutex<Reads>>>,
    ) -> Self {
        let noted = reads.map(|reads| {
            let (low, high) = bounds.clone();
            Box::new(Noted {
                reads: Arc::clone(reads),
                slot: Some(lock(reads).open(low, high)),
                from: None,
            })
        });
        Self {
            over,
            bounds,
            base,
            walk: Box::new(Walk::new(Direction::Forward, Start::Outermost)),
            place: Place::Nowhere,
            value: None,
            ahead: None,
            loaded: Vec::new(),
            noted,
            borrowed: PhantomData,
        }
    }

    /// The key of the entry on which the cursor stands, if it stands on one. Lent from the cursor's own
    /// buffer: free.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// let mut cursor = store.cursor();
    /// assert_eq!(cursor.key(), None);
    /// cursor.next().wait()?;
    /// assert_eq!(cursor.key(), Some(&b"k"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        let stripped = self.base.bytes().len();
        (self.place == Place::Entry).then(|| &self.walk.key()[stripped..])
    }

    /// The value of the entry on which the cursor stands, if it stands on one. Lent from its leaf;
    /// one that is not there is read, once for as long as the cursor stands here. A reference is
    /// followed.
    ///
    /// Errors: those of [`get`](crate::Store::get).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// let mut cursor = store.cursor();
    /// cursor.next().wait()?;
    /// assert_eq!(cursor.value().wait()?, Some(&b"v"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn value(&mut self) -> Operation<impl Future<Output = Result<Option<&[u8]>>> + Send> {
        Operation::new(async move {
            if self.place != Place::Entry {
                return Ok(None);
            }
            if self.value.is_none() {
                let (tag, payload) = self.walk.stored(&self.over);
                if tag != Tag::Inline {
                    let (key, stored) = (self.walk.key(), (tag, payload.to_vec()));
                    let within = self.base.bytes();
                    let reads = self.noted.as_ref().map(|noted| &*noted.reads);
                    let over = &self.over;
                    let noting = Noting { over, reads };
                    self.value = Some(noting.load(within, key, stored).await?);
                }
            }
            Ok(Some(match &self.value {
                Some(value) => value,
                None => self.walk.stored(&self.over).1,
            }))
        })
    }

    /// The same, but of a reference the key that it names. Cost and errors: those of
    /// [`value`](Self::value).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use thunderhead::ValueKind;
    ///
    /// store.put_reference("newest", "2026").wait()?;
    /// let mut cursor = store.cursor();
    /// cursor.next().wait()?;
    /// assert_eq!(cursor.kind().wait()?, Some(ValueKind::Reference(b"2026")));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn kind(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<ValueKind<'_>>>> + Send> {
        Operation::new(async move {
            if self.place == Place::Entry
                && let (Tag::Reference, _) = self.walk.stored(&self.over)
            {
                let target = self.walk.stored(&self.over).1;
                return Ok(Some(ValueKind::reference(target, self.base.bytes())));
            }
            Ok(self.value().await?.map(ValueKind::Bytes))
        })
    }

    /// Goes to the first entry whose key is this one or greater; says whether there is one. If not,
    /// the cursor stands past the last entry.
    ///
    /// Costs a descent; errors, as of all that moves it: `Corrupt`; `Io`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// assert!(cursor.seek("b").wait()?);
    /// assert_eq!(cursor.key(), Some(&b"c"[..]));
    /// assert!(!cursor.seek("d").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn seek<K: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.seek_from(key, Direction::Forward, true)
    }

    /// Goes to the first entry whose key is greater; says whether there is one. Cost and
    /// errors: those of [`seek`](Self::seek).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// assert!(cursor.seek_after("a").wait()?);
    /// assert_eq!(cursor.key(), Some(&b"c"[..]));
    /// assert!(!cursor.seek_after("c").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn seek_after<K: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.seek_from(key, Direction::Forward, false)
    }

    /// Goes to the last entry whose key is this one or smaller; says whether there is one. If not,
    /// the cursor stands before the first entry. Cost and errors: those of [`seek`](Self::seek).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// assert!(cursor.seek_back("b").wait()?);
    /// assert_eq!(cursor.key(), Some(&b"a"[..]));
    /// assert!(!cursor.seek_back("A").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn seek_back<K: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.seek_from(key, Direction::Backward, true)
    }

    /// Goes to the last entry whose key is smaller; says whether there is one. Cost and
    /// errors: those of [`seek`](Self::seek).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// assert!(cursor.seek_before("c").wait()?);
    /// assert_eq!(cursor.key(), Some(&b"a"[..]));
    /// assert!(!cursor.seek_before("a").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn seek_before<K: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.seek_from(key, Direction::Backward, false)
    }

    /// Goes to the first entry; says whether there is one.
    /// Cost and errors: those of [`seek`](Self::seek).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// assert!(cursor.first().wait()?);
    /// assert_eq!(cursor.key(), Some(&b"a"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn first(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.outermost(Direction::Forward)
    }

    /// Goes to the last entry; says whether there is one.
    /// Cost and errors: those of [`seek`](Self::seek).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// assert!(cursor.last().wait()?);
    /// assert_eq!(cursor.key(), Some(&b"c"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn last(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        self.outermost(Direction::Backward)
    }

    /// Goes to the entry after this place; says whether there is one. If not, the cursor stands
    /// past the last entry. Costs comparing two numbers and copying a key within a leaf, a descent
    /// at its end; errors: those of [`seek`](Self::seek).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// let mut count = 0;
    /// while cursor.next().wait()? {
    ///     count += 1;
    /// }
    /// assert_eq!(count, 2);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend")]
    #[inline]
    pub fn next(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        Operation::new(self.step(Direction::Forward))
    }

    /// Goes to the entry before this place; says whether there is one. If not, the cursor stands
    /// before the first entry.
    /// Cost and errors: those of [`next`](Self::next); to turn round is a descent.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// for key in ["a", "c"] {
    ///     store.put(key, "…").wait()?;
    /// }
    /// let mut cursor = store.cursor();
    /// cursor.seek("c").wait()?;
    /// assert!(cursor.previous().wait()?);
    /// assert_eq!(cursor.key(), Some(&b"a"[..]));
    /// assert!(!cursor.previous().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[inline]
    pub fn previous(&mut self) -> Operation<impl Future<Output = Result<bool>> + Send> {
        Operation::new(self.step(Direction::Backward))
    }

    fn seek_from<K: AsRef<[u8]> + Send>(
        &mut self,
        key: K,
        direction: Direction,
        inclusive: bool,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        Operation::new(async move { self.seek_to(key.as_ref(), direction, inclusive).await })
    }

    fn outermost(
        &mut self,
        direction: Direction,
    ) -> Operation<impl Future<Output = Result<bool>> + Send> {
        Operation::new(async move {
            self.forget_place();
            self.step(direction).await
        })
    }

    /// Stands nowhere, as in the beginning.
    pub(super) fn forget_place(&mut self) {
        self.note();
        self.place = Place::Nowhere;
    }

    /// Begins another walk.
    fn restart(&mut self, direction: Direction, start: Start) {
        self.note();
        if let Some(noted) = &mut self.noted {
            noted.slot.get_or_insert_with(|| {
                let (low, high) = self.bounds.clone();
                lock(&noted.reads).open(low, high)
            });
            noted.from = Some(match &start {
                Start::Outermost => Bound::Unbounded,
                Start::At(key) => Bound::Included(key.clone()),
                Start::Past(key) => Bound::Excluded(key.clone()),
            });
        }
        // What is under way is not where it goes next.
        self.ahead = None;
        self.walk.restart(direction, start);
    }

    /// Notes how far the present walk went, which is not gone on with.
    #[inline]
    fn note(&mut self) {
        if self.noted.is_some() {
            self.note_walk();
        }
    }

    #[cold]
    fn note_walk(&mut self) {
        let direction = self.walk.direction();
        let Some(noted) = &mut self.noted else { return };
        let Some(from) = noted.from.take() else {
            return;
        };
        let from = from.as_ref().map(Vec::as_slice);
        let (low, high) = &self.bounds;
        let to = match (self.place == Place::End(direction), direction) {
            (true, Direction::Forward) => high.as_ref().map(Vec::as_slice),
            (true, Direction::Backward) => low.as_ref().map(Vec::as_slice),
            // What it has left was given.
            (false, _) => match self.walk.frontier(true) {
                Bound::Unbounded => return,
                Bound::Excluded(key) => Bound::Included(key),
                Bound::Included(key) => Bound::Excluded(key),
            },
        };
        let mut reads = lock(&noted.reads);
        match direction {
            Direction::Forward => reads.note_range(from, to),
            Direction::Backward => reads.note_range(to, from),
        }
    }

    /// Seeks a key in a direction.
    pub(super) async fn seek_to(
        &mut self,
        key: &[u8],
        direction: Direction,
        inclusive: bool,
    ) -> Result<bool> {
        let mut start = self.walk.take_start();
        start.extend_from_slice(self.base.bytes());
        start.extend_from_slice(key);
        self.begin(direction, start, inclusive);
        self.advance().await
    }

    /// Steps in a direction.
    #[inline]
    pub(super) async fn step(&mut self, direction: Direction) -> Result<bool> {
        let turned = self.walk.direction() != direction;
        match self.place {
            Place::Entry | Place::Between if !turned => {}
            Place::End(end) if end == direction => return Ok(false),
            Place::Nowhere | Place::End(_) => self.begin_outermost(direction),
            Place::Entry => {
                let mut start = self.walk.take_start();
                start.extend_from_slice(self.walk.key());
                self.begin(direction, start, false);
            }
            Place::Between => {
                if !self.turn(direction) {
                    self.place = Place::End(direction);
                    return Ok(false);
                }
            }
        }
        self.advance().await
    }

    /// Goes to where the walk comes next.
    #[inline]
    async fn advance(&mut self) -> Result<bool> {
        self.place = Place::Between;
        self.value = None;
        loop {
            let far = match self.walk.direction() {
                Direction::Forward => &self.bounds.1,
                Direction::Backward => &self.bounds.0,
            };
            let far = far.as_ref().map(Vec::as_slice);
            match self.walk.step_within(&self.over, far)? {
                Stop::Entry if self.is_inside() => {
                    self.place = Place::Entry;
                    break;
                }
                Stop::Entry | Stop::End => {
                    self.place = Place::End(self.walk.direction());
                    break;
                }
                Stop::Need(pointer, expect) => {
                    let page = self.load(pointer, expect).await?;
                    self.loaded.push(page);
                }
            }
        }
        self.loaded.clear();
        Ok(self.place == Place::Entry)
    }

    /// Reads a page that the walk needs, and has those read that come after it.
    async fn load(&mut self, pointer: PagePointer, expect: Expect) -> Result<Handle> {
        let pages = Arc::clone(self.over.version().pages());
        if pages.readahead.scan_bytes == 0 {
            return pages.load(&pointer, expect).await;
        }
        let direction = self.walk.direction();
        let far = match direction {
            Direction::Forward => &self.bounds.1,
            Direction::Backward => &self.bounds.0,
        };
        let far = far.as_ref().map(Vec::as_slice);
        poll_fn(|context| {
            let mut ahead = Ahead::of(&mut self.ahead, direction);
            let find = |upcoming: &mut Upcoming| self.walk.find_upcoming(&self.over, far, upcoming);
            let polled = ahead.poll_page(&pages, (pointer, expect), find, context);
            self.ahead = Some(ahead);
            polled
        })
        .await
    }

    /// Whether the walk, which began inside the bounds, is still there.
    #[inline]
    fn is_inside(&self) -> bool {
        let key = self.walk.key();
        match self.walk.direction() {
            Direction::Forward => match &self.bounds.1 {
                Bound::Unbounded => true,
                Bound::Included(high) => key <= high.as_slice(),
                Bound::Excluded(high) => key < high.as_slice(),
            },
            Direction::Backward => match &self.bounds.0 {
                Bound::Unbounded => true,
                Bound::Included(low) => key >= low.as_slice(),
                Bound::Excluded(low) => key > low.as_slice(),
            },
        }
    }

    /// Has the walk begin at the end of the bounds from which a direction leads inside.
    fn begin_outermost(&mut self, direction: Direction) {
        let bound = match direction {
            Direction::Forward => &self.bounds.0,
            Direction::Backward => &self.bounds.1,
        };
        let mut copy = |key: &[u8]| {
            let mut start = self.walk.take_start();
            start.extend_from_slice(key);
            start
        };
        let start = match bound {
            Bound::Unbounded => Start::Outermost,
            Bound::Included(key) => Start::At(copy(key)),
            Bound::Excluded(key) => Start::Past(copy(key)),
        };
        self.restart(direction, start);
    }

    /// Has the walk begin at a key, or past it, but within the bounds.
    fn begin(&mut self, direction: Direction, mut key: Vec<u8>, mut inclusive: bool) {
        let (nearest, outside) = match (direction, &self.bounds) {
            (Direction::Forward, (nearest @ Bound::Included(low), _)) => (nearest, key < *low),
            (Direction::Forward, (nearest @ Bound::Excluded(low), _)) => (nearest, key <= *low),
            (Direction::Backward, (_, nearest @ Bound::Included(high))) => (nearest, key > *high),
            (Direction::Backward, (_, nearest @ Bound::Excluded(high))) => (nearest, key >= *high),
            (_, _) => (&Bound::Unbounded, false),
        };
        if outside && let Bound::Included(bound) | Bound::Excluded(bound) = nearest {
            inclusive = matches!(nearest, Bound::Included(_));
            key.clear();
            key.extend_from_slice(bound);
        }
        let start = match inclusive {
            true => Start::At(key),
            false => Start::Past(key),
        };
        // Once: what it does not begin with is noted as gone over.
        self.restart(direction, start);
    }

    /// Turns round where the walk stands on no entry; says whether anything can be there.
    #[cold]
    fn turn(&mut self, direction: Direction) -> bool {
        // What was left is behind, what comes next is not.
        let (key, inclusive) = match self.walk.frontier(true) {
            Bound::Unbounded => return false,
            Bound::Included(key) => (key.to_vec(), false),
            Bound::Excluded(key) => (key.to_vec(), true),
        };
        self.begin(direction, key, inclusive);
        true
    }

    /// Goes over something else from here on, and gives up the pages that it holds. The entries
    /// that it has left, and the one on which it stands, stay behind.
    pub(super) fn renew(&mut self, over: Layered) {
        let left = match self.place {
            Place::Entry => Bound::Excluded(self.walk.key()),
            Place::Between => self.walk.frontier(true),
            // A step begins anew from there.
            Place::Nowhere | Place::End(_) => Bound::Unbounded,
        };
        let start = match left {
            Bound::Unbounded => Start::Outermost,
            Bound::Included(key) => Start::At(key.to_vec()),
            Bound::Excluded(key) => Start::Past(key.to_vec()),
        };
        let nowhere = start == Start::Outermost;
        self.restart(self.walk.direction(), start);
        if nowhere && let Some(noted) = &mut self.noted {
            noted.from = None;
        }
        self.loaded.clear();
        self.over = over;
    }

    /// Notes that until it begins anew it goes no further than it went.
    pub(super) fn rest(&mut self) {
        self.note();
        if let Some(noted) = &mut self.noted
            && let Some(slot) = noted.slot.take()
        {
            let nothing_more = [Bound::Unbounded, Bound::Unbounded];
            lock(&noted.reads).close(slot, Some(nothing_more));
        }
    }

    /// Looks anew for the entry on which it stands, which is there. Until it is found, the cursor
    /// goes on as if it had been.
    pub(super) async fn find_again(&mut self, over: Layered) -> Result<()> {
        self.renew(over);
        let key = self.walk.key().to_vec();
        self.restart(self.walk.direction(), Start::At(key.clone()));
        self.value = None;
        let stop = loop {
            match self.walk.step(&self.over)? {
                Stop::Need(pointer, expect) => {
                    let page = self.over.version().pages().load(&pointer, expect).await?;
                    self.loaded.push(page);
                }
                stop => break stop,
            }
        };
        self.loaded.clear();
        if !matches!(stop, Stop::Entry) || self.walk.key() != key {
            // Never on a neighbour: what is put or deleted here would be that one's.
            debug_assert!(false, "the entry is there");
            self.place = Place::Between;
            self.restart(self.walk.direction(), Start::At(key));
        }
        Ok(())
    }

    /// The entry on which it stands is gone.
    pub(super) fn forget_entry(&mut self) {
        self.place = Place::Between;
        self.value = None;
    }

    /// Whether a step in a direction goes on with the walk.
    pub(super) fn goes_on(&self, direction: Direction) -> bool {
        matches!(self.place, Place::Entry | Place::Between) && self.walk.direction() == direction
    }
}

impl Drop for Cursor<'_> {
    fn drop(&mut self) {
        self.rest();
    }
}

impl fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}
