//! [`Differences`]: what differs between two versions, from both ends.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;

use super::core::Core;
use super::kept::Place;
use super::key_range::KeyRange;
use super::operation::Operation;
use super::reader::Reader;
use super::snapshot::Snapshot;
use super::stored_value::StoredValue;
use super::subtree::Base;
use crate::cache::Handle;
use crate::disk::block_on;
use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::snapshot::Direction;
use crate::snapshot::diff::{Diff, Found, Stop, is_same_content, keep_loaded};

/// A key whose value is not the same in two versions: what [`Snapshot::diff`] gives.
///
/// Values are those that were found, not yet read if they are large: see [`StoredValue`].
#[derive(Clone, Debug)]
pub enum Difference {
    /// The old version does not have the key.
    Added {
        /// The key.
        key: Vec<u8>,
        /// Its value in the new version.
        new: StoredValue,
    },
    /// The new version does not have the key.
    Removed {
        /// The key.
        key: Vec<u8>,
        /// Its value in the old version.
        old: StoredValue,
    },
    /// The two have different values, or references, for the key.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// Its value in the old version.
        old: StoredValue,
        /// Its value in the new version.
        new: StoredValue,
    },
}

impl Difference {
    /// The key.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Added { key, .. } | Self::Removed { key, .. } | Self::Changed { key, .. } => key,
        }
    }

    /// The value in the old version, if there is one.
    pub fn old(&self) -> Option<&StoredValue> {
        match self {
            Self::Added { .. } => None,
            Self::Removed { old, .. } | Self::Changed { old, .. } => Some(old),
        }
    }

    /// The value in the new version, if there is one.
    #[expect(clippy::new_ret_no_self, reason = "the other one is called `old`")]
    pub fn new(&self) -> Option<&StoredValue> {
        match self {
            Self::Removed { .. } => None,
            Self::Added { new, .. } | Self::Changed { new, .. } => Some(new),
        }
    }
}

/// What a step waits for.
enum Loaded {
    Page(Handle),
    /// Whether two values that are stored differently have the same bytes.
    Same(bool),
    /// The last sequence that both versions have in common.
    InCommon(SequenceNumber),
}

type Loading = Pin<Box<dyn Future<Output = Result<Loaded>> + Send>>;

/// The keys that differ between two versions, in order, from either end or both at once: see
/// [`Snapshot::diff`].
///
/// As an [`Iterator`] it waits, as a [`Stream`] it is awaited; after an error these two end, while
/// [`next_difference`](Self::next_difference) tries again. It keeps both versions as long as it lives.
#[must_use = "nothing is compared before it is asked for"]
pub struct Differences {
    diff: Diff,
    core: Arc<Core>,
    /// The versions are on two lines: where these parted is to be looked up.
    parted: Option<[Place; 2]>,
    base: Base,
    /// Values that are stored differently are told as different, unread.
    unread: bool,
    /// What the stream waits for.
    loading: Option<Loading>,
    /// Pages that a step asked for stay in memory until it is done, however small the cache.
    loaded: Vec<Handle>,
    /// An error was given: to those who iterate, that is the end.
    failed: bool,
}

impl Differences {
    /// Reads no value to compare it: values that are too large for the tree count as changed if they
    /// were written anew, be it with the same bytes, or moved by [`Store::compact`](crate::Store::compact) beside a key that
    /// did change; and so do those for which merge operands are pending. Without this, two such values of one length are read to where they first differ.
    pub fn without_reading(mut self) -> Self {
        self.unread = true;
        self
    }

    /// The next key that differs. `None` at the end. Errors: `Corrupt`; `Io`; then the next call tries
    /// the same again.
    pub fn next_difference(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<Difference>>> + Send + use<'_>> {
        Operation::new(self.next_at(Direction::Forward))
    }

    /// The last key that differs of those that are left.
    pub fn next_back_difference(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<Difference>>> + Send + use<'_>> {
        Operation::new(self.next_at(Direction::Backward))
    }

    /// How many are left. Takes as long as telling them all.
    pub fn total(mut self) -> Operation<impl Future<Output = Result<u64>> + Send> {
        Operation::new(async move {
            let mut total = 0;
            while self.next_difference().await?.is_some() {
                total += 1;
            }
            Ok(total)
        })
    }

    async fn next_at(&mut self, direction: Direction) -> Result<Option<Difference>> {
        // What the stream waits for may be for what is given now.
        self.loading = None;
        let mut loading = None;
        poll_fn(|context| self.poll_at(direction, &mut loading, context)).await
    }

    fn poll_at(
        &mut self,
        direction: Direction,
        loading: &mut Option<Loading>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Difference>>> {
        loop {
            if let Some(future) = loading {
                let loaded = ready!(future.as_mut().poll(context));
                *loading = None;
                match loaded? {
                    Loaded::InCommon(sequence) => {
                        if self.parted.take().is_some() {
                            self.diff.set_since(sequence);
                        }
                    }
                    Loaded::Page(page) => {
                        keep_loaded(&mut self.loaded, page);
                    }
                    Loaded::Same(same) => {
                        if let Some(found) = self.diff.resolve(direction, same) {
                            return Poll::Ready(Ok(Some(self.give(found))));
                        }
                    }
                }
            }
            if let Some([one, other]) = self.parted {
                let core = Arc::clone(&self.core);
                *loading = Some(Box::pin(async move {
                    let sequence = core.last_in_common(one, other).await;
                    sequence.map(Loaded::InCommon)
                }));
                continue;
            }
            match self.diff.step(direction)? {
                Stop::Found(found) => return Poll::Ready(Ok(Some(self.give(found)))),
                Stop::End => {
                    self.loaded.clear();
                    return Poll::Ready(Ok(None));
                }
                Stop::Need(pointer, expect) => {
                    let pages = Arc::clone(self.diff.side(0).version().pages());
                    *loading = Some(Box::pin(async move {
                        pages.load(&pointer, expect).await.map(Loaded::Page)
                    }));
                }
                Stop::Doubt if self.unread => {
                    if let Some(found) = self.diff.resolve(direction, false) {
                        return Poll::Ready(Ok(Some(self.give(found))));
                    }
                }
                Stop::Doubt => {
                    let Some(found) = self.diff.doubt(direction).cloned() else {
                        continue;
                    };
                    let [old, new] = [0, 1].map(|side| self.diff.side(side).clone());
                    let (key, [Some(one), Some(other)]) = (found.key, found.stored) else {
                        continue;
                    };
                    *loading = Some(Box::pin(async move {
                        // The versions keep what they have as long as it is read.
                        let pages = [&old, &new].map(|over| over.version().pages());
                        let same = is_same_content(pages, &key, [&one, &other]).await;
                        same.map(Loaded::Same)
                    }));
                }
            }
        }
    }

    fn give(&mut self, found: Found) -> Difference {
        self.loaded.clear();
        let Found { key, stored } = found;
        let mut values = stored.into_iter().enumerate().map(|(side, stored)| {
            let over = self.diff.side(side).clone();
            Some(StoredValue::new(
                over,
                self.base.clone(),
                key.clone(),
                stored?,
            ))
        });
        let (old, new) = (values.next().flatten(), values.next().flatten());
        drop(values);
        let key = key[self.base.bytes().len()..].to_vec();
        match (old, new) {
            (Some(old), Some(new)) => Difference::Changed { key, old, new },
            (Some(old), None) => Difference::Removed { key, old },
            (None, Some(new)) => Difference::Added { key, new },
            (None, None) => unreachable!("what neither side has does not differ"),
        }
    }

    fn next_waiting(&mut self, direction: Direction) -> Option<Result<Difference>> {
        if self.failed {
            return None;
        }
        let next = block_on(self.next_at(direction));
        self.failed = next.is_err();
        next.transpose()
    }
}

impl Iterator for Differences {
    type Item = Result<Difference>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_waiting(Direction::Forward)
    }
}

impl DoubleEndedIterator for Differences {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_waiting(Direction::Backward)
    }
}

impl Stream for Differences {
    type Item = Result<Difference>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let mut loading = self.loading.take();
        let polled = self.poll_at(Direction::Forward, &mut loading, context);
        self.loading = loading;
        let next = ready!(polled);
        self.failed = next.is_err();
        Poll::Ready(next.transpose())
    }
}

impl fmt::Debug for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Differences").finish_non_exhaustive()
    }
}

impl Snapshot {
    /// What is different in another snapshot of the same store, key by key, in order: an
    /// [`Iterator`], from both ends, that waits, and a [`Stream`]. Applied to this one, it gives the
    /// other one. `new` may be the older one: then what was added is told as removed.
    ///
    /// Costs as much as there is different, whatever the size of the store, and whatever flushes,
    /// checkpoints and compactions came between the two: it reads the pages that were changed since
    /// the older one, or since the two parted if they are of different branches or a restoring came
    /// between them, on both sides, and passes by all others. A range that was deleted is gone
    /// through, entry by entry. What was written and is the same still, or again, is no difference.
    /// Where a large value was written anew with as many bytes, it is read to find out; see
    /// [`without_reading`](Differences::without_reading). Other values are read if they are
    /// [asked for](StoredValue::load). References are compared, not followed.
    ///
    /// Of [subtrees](Self::subtree) it gives what differs in them; both must be narrowed alike.
    ///
    /// Errors: `InvalidArgument` if the other one is of another store, or narrowed differently. What
    /// it gives may be an error: `Corrupt`; `Io`.
    ///
    /// ```
    /// use thunderhead::Difference;
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("apple", "red").wait()?;
    /// store.put("pear", "green").wait()?;
    /// let before = store.snapshot();
    /// store.delete("apple").wait()?;
    /// store.put("pear", "yellow").wait()?;
    /// store.put("plum", "blue").wait()?;
    ///
    /// let mut told = Vec::new();
    /// for difference in before.diff(&store.snapshot())? {
    ///     told.push(match difference? {
    ///         Difference::Added { key, .. } => (key, "added"),
    ///         Difference::Removed { key, .. } => (key, "removed"),
    ///         Difference::Changed { key, old, new } => {
    ///             assert_eq!(old.load().wait()?, "green");
    ///             assert_eq!(new.load().wait()?, "yellow");
    ///             (key, "changed")
    ///         }
    ///     });
    /// }
    /// let expected = [("apple", "removed"), ("pear", "changed"), ("plum", "added")];
    /// assert_eq!(told, expected.map(|(key, what)| (key.as_bytes().to_vec(), what)));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn diff(&self, new: &Self) -> Result<Differences> {
        self.diff_range(new, ..)
    }

    /// The same within a range of keys.
    ///
    /// ```
    /// use thunderhead::Prefix;
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// let before = store.snapshot();
    /// store.put("fruit/plum", "blue").wait()?;
    /// store.put("root/beet", "red").wait()?;
    /// let fruit = before.diff_range(&store.snapshot(), Prefix("fruit/"))?;
    /// assert_eq!(fruit.total().wait()?, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn diff_range(&self, new: &Self, range: impl KeyRange) -> Result<Differences> {
        check_comparable(&self.reader, &new.reader)?;
        let [old_view, new_view] = [self, new].map(|snapshot| snapshot.reader.layered().view);
        let core = Arc::clone(&self.reader.core);
        let places = [(self, &old_view), (new, &new_view)].map(|(snapshot, view)| {
            let line = snapshot.line.unwrap_or_else(|| core.line_of(view.bound));
            (line, view.bound)
        });
        // On one line, the newer one has all that the older one has.
        let since = old_view.bound.min(new_view.bound);
        let parted = (places[0].0 != places[1].0).then_some(places);
        let base = self.reader.base.clone();
        let (low, high) = range.to_bounds();
        let bounds = base.bounds(low, high);
        Ok(Differences {
            diff: Diff::new(old_view, new_view, since, bounds),
            core,
            parted,
            base,
            unread: false,
            loading: None,
            loaded: Vec::new(),
            failed: false,
        })
    }

    /// Whether another snapshot of the same store has the same keys with the same values. Costs what
    /// [`diff`](Self::diff) does up to the first difference. Errors: those of `diff`.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let before = store.snapshot();
    /// store.put("k", "v").wait()?;
    /// assert!(!before.is_same(&store.snapshot()).wait()?);
    /// store.delete("k").wait()?;
    /// assert!(before.is_same(&store.snapshot()).wait()?);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn is_same<'s>(
        &'s self,
        other: &'s Self,
    ) -> Operation<impl Future<Output = Result<bool>> + Send + use<'s>> {
        Operation::new(async move {
            let mut differences = self.diff(other)?;
            Ok(differences.next_difference().await?.is_none())
        })
    }
}

/// Refuses what has nothing to do with each other.
fn check_comparable(one: &Reader, other: &Reader) -> Result<()> {
    if !Arc::ptr_eq(&one.core, &other.core) {
        return Err(Error::invalid("the two snapshots are of different stores"));
    }
    if one.base.bytes() != other.base.bytes() {
        return Err(Error::invalid(
            "the two snapshots are narrowed to different prefixes",
        ));
    }
    Ok(())
}
