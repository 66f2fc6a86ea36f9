//! Subtree views: a store, a snapshot, a transaction or a batch narrowed to the keys with a prefix,
//! which is taken off.
//!
//! A view is of the same type as what it narrows, with a [`Base`] that is put in front of every key
//! on the way in and taken off on the way out; so it has the whole interface, costs a copy of the
//! prefix an operation, and can be narrowed again. Nothing in the tree knows of views.

use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::ops::{Bound, Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use futures::Stream;
use smallvec::SmallVec;

use super::batch::Batch;
use super::operation::Operation;
use super::range::Range;
use super::reader::{check_key, prefix_end};
use super::transaction::Transaction;
use super::{Snapshot, Store};
use crate::disk::block_on;
use crate::error::Result;
use crate::snapshot::Layered;
use crate::transaction::Reads;

/// The ends of a range of keys.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// What a view puts in front of every key. Nothing: the whole store.
#[derive(Clone, Default)]
pub(super) struct Base(Option<Arc<[u8]>>);

/// A key as the tree has it.
pub(super) enum FullKey<'k> {
    Same(&'k [u8]),
    Joined(SmallVec<[u8; 64]>),
}

impl Deref for FullKey<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Same(key) => key,
            Self::Joined(key) => key,
        }
    }
}

impl Base {
    /// The key in the tree of a key in the view. Errors: `InvalidArgument` if it is too long.
    #[inline]
    pub(super) fn key<'k>(&self, key: &'k [u8]) -> Result<FullKey<'k>> {
        let full = match &self.0 {
            None => FullKey::Same(key),
            Some(base) => FullKey::Joined([base, key].into_iter().flatten().copied().collect()),
        };
        check_key(&full)?;
        Ok(full)
    }

    /// Whether the view is the whole tree.
    #[inline]
    pub(super) fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The bounds in the tree of bounds in the view.
    pub(super) fn bounds(&self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Bounds {
        let Some(base) = &self.0 else {
            return (low, high);
        };
        let full = |key: Vec<u8>| [base, key.as_slice()].concat();
        let low = match low {
            Bound::Unbounded => Bound::Included(base.to_vec()),
            bound => bound.map(full),
        };
        let high = match high {
            Bound::Unbounded => prefix_end(base),
            bound => bound.map(full),
        };
        (low, high)
    }

    /// The base of a view within this one.
    pub(super) fn below(&self, prefix: &[u8]) -> Self {
        let joined = [self.bytes(), prefix].concat();
        Self((!joined.is_empty()).then(|| joined.into()))
    }
}

impl Store {
    /// The same store, narrowed to the keys that begin with a prefix, without it. Snapshots,
    /// transactions and batches of it are narrowed, too; one of the whole store changes several views
    /// in one commit. What is not about keys (durability, checkpoints, closing, statistics) is about
    /// the whole store still.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let users = store.subtree("users/");
    /// users.put("ann", "…").wait()?;
    /// assert!(store.contains_key("users/ann").wait()?);
    /// store.put("other", "…").wait()?;
    /// assert_eq!(users.len().wait()?, 1);
    /// users.subtree("ann").delete_range(..).wait()?;
    /// assert!(users.is_empty().wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn subtree(&self, prefix: impl AsRef<[u8]>) -> Self {
        let mut view = self.clone();
        view.reader.base = self.reader.base.below(prefix.as_ref());
        view
    }
}

impl Snapshot {
    /// The same snapshot, narrowed to the keys that begin with a prefix, without it.
    /// Costs the prefix, at each key. See [`Store::subtree`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("users/ann", "…").wait()?;
    /// let users = store.snapshot().subtree("users/");
    /// assert!(users.contains_key("ann").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn subtree(&self, prefix: impl AsRef<[u8]>) -> Self {
        let mut view = self.clone();
        view.reader.base = self.reader.base.below(prefix.as_ref());
        view
    }
}

impl Transaction {
    /// The same transaction, narrowed to the keys that begin with a prefix, without it, until the
    /// view is dropped.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.subtree("users/").put("ann", "…").wait()?;
    /// transaction.subtree("by-age/").put("042/ann", "").wait()?;
    /// assert_eq!(transaction.len().wait()?, 2);
    /// transaction.commit().wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn subtree(&mut self, prefix: impl AsRef<[u8]>) -> Subtree<'_, Self> {
        Subtree::new(self, prefix.as_ref())
    }
}

impl Batch {
    /// The same batch, narrowed to the keys that begin with a prefix, without it, until the view is
    /// dropped.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut batch = store.batch();
    /// batch.subtree("users/").put("ann", "…").wait()?;
    /// batch.put("other", "…").wait()?;
    /// batch.commit().wait()?;
    /// assert!(store.contains_key("users/ann").wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn subtree(&mut self, prefix: impl AsRef<[u8]>) -> Subtree<'_, Self> {
        Subtree::new(self, prefix.as_ref())
    }
}

/// What can be narrowed for a while.
#[expect(private_interfaces, reason = "nobody else implements or calls it")]
pub trait Narrow: sealed::Sealed {
    /// Another base; gives the one before.
    #[doc(hidden)]
    fn replace_base(&mut self, base: Base) -> Base;
    /// The base.
    #[doc(hidden)]
    fn base(&self) -> &Base;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Transaction {}
    impl Sealed for super::Batch {}
}

#[expect(private_interfaces, reason = "nobody else implements or calls it")]
impl Narrow for Transaction {
    fn replace_base(&mut self, base: Base) -> Base {
        self.reader.base = base.clone();
        self.writes.replace_base(base)
    }

    fn base(&self) -> &Base {
        &self.reader.base
    }
}

#[expect(private_interfaces, reason = "nobody else implements or calls it")]
impl Narrow for Batch {
    fn replace_base(&mut self, base: Base) -> Base {
        self.writes.replace_base(base)
    }

    fn base(&self) -> &Base {
        &self.writes.base
    }
}

/// A [`Transaction`] or a [`Batch`] that is narrowed to the keys with a prefix, until this is
/// dropped. It is used as the thing itself.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// let mut transaction = store.begin().wait()?;
/// let mut users = transaction.subtree("users/");
/// users.put("ann", "…").wait()?;
/// assert_eq!(users.first().wait()?.unwrap().0, b"ann");
/// drop(users);
/// assert_eq!(transaction.first().wait()?.unwrap().0, b"users/ann");
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub struct Subtree<'t, T: Narrow> {
    of: &'t mut T,
    before: Base,
}

impl<'t, T: Narrow> Subtree<'t, T> {
    fn new(of: &'t mut T, prefix: &[u8]) -> Self {
        let narrow = of.base().below(prefix);
        let before = of.replace_base(narrow);
        Self { of, before }
    }
}

impl<T: Narrow> Deref for Subtree<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.of
    }
}

impl<T: Narrow> DerefMut for Subtree<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.of
    }
}

impl<T: Narrow> Drop for Subtree<'_, T> {
    fn drop(&mut self) {
        self.of.replace_base(std::mem::take(&mut self.before));
    }
}

impl<T: Narrow + fmt::Debug> fmt::Debug for Subtree<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subtree").field("of", &self.of).finish()
    }
}

/// What comes next below a view, up to a separator, each once: see
/// [`Store::components`]. As an [`Iterator`] it waits, as a [`Stream`] it is awaited; both end after an
/// error.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// for path in ["etc/hosts", "etc/ssh", "home"] {
///     store.put(path, "…").wait()?;
/// }
/// let mut names = store.components(b'/');
/// assert_eq!(names.next_component().wait()?.unwrap(), b"etc/");
/// assert_eq!(names.next_component().wait()?.unwrap(), b"home");
/// assert_eq!(names.next_component().wait()?, None);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[must_use = "nothing is looked up before it is asked for"]
pub struct Components<'r> {
    over: Layered,
    base: Base,
    separator: u8,
    /// What has not been looked at, in the tree's keys. `None`: nothing.
    left: Option<Bounds>,
    /// In which the next one is looked for.
    range: Option<Range<'static>>,
    /// Where a transaction notes what it asked for.
    reads: Option<Arc<Mutex<Reads>>>,
    failed: bool,
    borrowed: PhantomData<&'r ()>,
}

impl Components<'_> {
    pub(super) fn new(
        over: Layered,
        base: Base,
        separator: u8,
        reads: Option<Arc<Mutex<Reads>>>,
    ) -> Self {
        let left = Some(base.bounds(Bound::Unbounded, Bound::Unbounded));
        Self {
            over,
            base,
            separator,
            left,
            range: None,
            reads,
            failed: false,
            borrowed: PhantomData,
        }
    }

    /// The next component: a key without the separator, or what keys have up to the first
    /// separator, that included. One descent, whatever there is below it. After an error it can be
    /// asked again. Errors: `Corrupt`; `Io`.
    pub fn next_component(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<Vec<u8>>>> + Send> {
        Operation::new(poll_fn(|context| self.poll_component(context)))
    }

    /// What it waits for stays here.
    fn poll_component(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Vec<u8>>>> {
        let Some((low, high)) = &self.left else {
            return Poll::Ready(Ok(None));
        };
        let range = self.range.get_or_insert_with(|| {
            let (over, reads) = (self.over.clone(), self.reads.as_ref());
            Range::new(over, low.clone(), high.clone(), Base::default(), reads)
        });
        let found = ready!(range.poll_key_with(<[u8]>::to_vec, context))?;
        self.range = None;
        let Some(key) = found else {
            self.left = None;
            return Poll::Ready(Ok(None));
        };
        let stripped = self.base.bytes().len();
        let name = &key[stripped..];
        let separated = name.iter().position(|byte| *byte == self.separator);
        let name = separated.map_or(name, |at| &name[..=at]).to_vec();
        let next = match separated {
            None => Some(Bound::Excluded(key)),
            Some(_) => match prefix_end(&key[..stripped + name.len()]) {
                Bound::Excluded(end) => Some(Bound::Included(end)),
                _ => None,
            },
        };
        self.left = self
            .left
            .take()
            .zip(next)
            .map(|((_, high), low)| (low, high));
        Poll::Ready(Ok(Some(name)))
    }
}

impl Iterator for Components<'_> {
    type Item = Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        block_on(poll_fn(|context| Pin::new(&mut *self).poll_next(context)))
    }
}

impl Stream for Components<'_> {
    type Item = Result<Vec<u8>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = ready!(self.poll_component(context));
        self.failed = next.is_err();
        Poll::Ready(next.transpose())
    }
}
