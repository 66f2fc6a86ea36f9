//! [`Snapshots`]: snapshots that have names, and are kept until they are deleted.
//!
//! A name is an entry of the system tree, written by a commit like any other: see `naming`. Lists are
//! ranges of the system tree, so they are of one moment and hold no more in memory than other ranges do.

use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::Stream;

use super::bulk::Bulk;
use super::commit::Entry;
use super::gate::{Inside, Pass};
use super::key_range::KeyRange;
use super::naming::{NameChange, Naming, already_there, check_name, now_ms, shown};
use super::operation::Operation;
use super::range::Range;
use super::reader::Reader;
use super::subtree::Base;
use super::writes::Writes;
use super::{Batch, Snapshot, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::snapshot::count;
use crate::snapshot::names::{NAMES, Named, TIMES, TIMES_END, time_key};
use crate::space::Urgency;

/// How many names are deleted in one commit.
const DELETED_AT_ONCE: usize = 256;

/// What is known of a snapshot that has a name.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// Its name.
    pub name: Vec<u8>,
    /// The newest commit that it has: the one that saved it.
    pub sequence: SequenceNumber,
    /// When it was saved, to the millisecond, by the clock of the machine.
    pub time: SystemTime,
    /// What the caller saved with it.
    pub bytes: Vec<u8>,
}

impl SnapshotInfo {
    pub(super) fn new(name: Vec<u8>, named: Named) -> Self {
        let since_epoch = Duration::from_millis(named.time_ms);
        Self {
            name,
            sequence: named.sequence,
            time: UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH),
            bytes: named.bytes,
        }
    }
}

/// What [`Snapshots::sizes`] gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct SnapshotSizes {
    /// The bytes of the disk, in whole sectors, that nothing else reaches: what deleting the name would
    /// give back. None where another name was saved between the same two checkpoints: such names share
    /// what they have. Subtrees and values that were dropped as a whole count with the bytes of what is in
    /// them, and what a value shares with a [clone](Store::clone_range) as if it had that to itself.
    pub exclusive_bytes: u64,
    /// The rest of its content, keys and values: other snapshots or the newest version have it, too.
    pub shared_bytes: u64,
}

/// The snapshots of a store that have names: see [`Store::snapshots`]. Cheap to clone.
///
/// What is [saved](Self::save) here is kept until it is deleted, across crashes and reopenings; any number of
/// them, a million being nothing special: neither opening the store nor saving one more depends on how many
/// there are. They can be opened, listed and counted in a store that is open for reading only, too.
///
/// Names are bytes, 1 to 1024 of them, and belong to the whole store. Through a
/// [narrowed](Store::subtree) store the same ones are seen; what is opened there is narrowed in the same way.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("k", "old").wait()?;
/// let snapshots = store.snapshots();
/// snapshots.save("before the change").wait()?;
/// store.put("k", "new").wait()?;
/// let before = snapshots.open("before the change").wait()?;
/// assert_eq!(before.get("k").wait()?.unwrap(), "old");
///
/// for info in snapshots.list() {
///     println!("{}", info?.name.escape_ascii());
/// }
/// snapshots.delete("before the change").wait()?;
/// assert!(snapshots.is_empty().wait()?);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshots {
    store: Store,
}

impl Store {
    /// The snapshots that have names: to save, open, list and delete them.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots {
            store: self.clone(),
        }
    }
}

impl Snapshots {
    /// Gives a name to the store as it is now: to all that was committed before, and nothing that is
    /// committed later. It is a commit, as durable as those of the [`Store`] that this was made of, and costs
    /// about as much as a [`put`](Store::put) of three short keys, whatever the size of the store.
    ///
    /// Errors: `AlreadyExists` if there is such a name; `InvalidArgument` for a name of no or more than 1024
    /// bytes; and those of `put`.
    pub fn save<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<SnapshotInfo>> + Send + use<'_, N>> {
        self.save_with(name, "")
    }

    /// The same, with some bytes of the caller's, which are kept with the name: at most 1024, or 24 fewer
    /// than [`Settings::inline_bytes_max`](crate::format::Settings::inline_bytes_max) if that is less.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let snapshots = store.snapshots();
    /// snapshots.save_with("nightly/42", "made by the scheduler").wait()?;
    /// let info = snapshots.get("nightly/42").wait()?.unwrap();
    /// assert_eq!(info.bytes, b"made by the scheduler");
    /// assert_eq!(info.sequence, store.sequence());
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn save_with<N: AsRef<[u8]> + Send, B: AsRef<[u8]> + Send>(
        &self,
        name: N,
        bytes: B,
    ) -> Operation<impl Future<Output = Result<SnapshotInfo>> + Send + use<'_, N, B>> {
        Operation::new(async move {
            let (name, bytes) = (name.as_ref(), bytes.as_ref());
            let core = &self.store.shared.core;
            core.check_writable(true)?;
            core.check_saved(name, bytes)?;
            core.wait_for_room_for_names().await?;
            let inside = core.gate.enter(Pass::Shared).await;
            let naming = core.saving(vec![(name.to_vec(), bytes.to_vec())]).await?;
            let time_ms = naming.time_ms();
            let named = Named {
                line: naming.line,
                sequence: self.commit(naming, inside, Urgency::Ordinary).await?,
                time_ms,
                bytes: bytes.to_vec(),
            };
            Ok(SnapshotInfo::new(name.to_vec(), named))
        })
    }

    /// The snapshot of a name, to be read for as long as one likes, also after its name was deleted.
    /// Costs some look-ups and, where more was written since, reading again what was committed between the
    /// checkpoint before it and it: at most 32 MiB, into memory, if nobody has a neighbour of it open that
    /// is as late. No more is read before it is asked for.
    ///
    /// Errors: `NotFound`; those of [`Store::get`].
    pub fn open<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<Snapshot>> + Send + use<'_, N>> {
        Operation::new(async move {
            let (core, name) = (&self.store.shared.core, name.as_ref());
            core.check_open()?;
            let named = core.named(name).await?.ok_or_else(|| not_there(name))?;
            let view = core.view_at(named.line, named.sequence).await?;
            Ok(Snapshot {
                reader: Reader {
                    fixed: Some(view),
                    ..self.store.reader.clone()
                },
                line: Some(named.line),
            })
        })
    }

    /// What is known of the snapshot of a name; `None` if there is no such name. Costs a look-up.
    pub fn get<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<Option<SnapshotInfo>>> + Send + use<'_, N>> {
        Operation::new(async move {
            let (core, name) = (&self.store.shared.core, name.as_ref());
            core.check_open()?;
            let named = core.named(name).await?;
            Ok(named.map(|named| SnapshotInfo::new(name.to_vec(), named)))
        })
    }

    /// All of them, in the order of their names, from both ends.
    pub fn list(&self) -> SnapshotList {
        self.range(..)
    }

    /// Those whose names are in a range, in the order of their names, from both ends:
    /// [`Prefix`](crate::Prefix) for those that begin with something. They are those of the moment
    /// when this is called. Costs as much memory as a [`Range`] does.
    ///
    /// ```
    /// use thunderhead::Prefix;
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// let snapshots = store.snapshots();
    /// for name in ["daily/1", "daily/2", "weekly/1"] {
    ///     snapshots.save(name).wait()?;
    /// }
    /// let newest = snapshots.range(Prefix("daily/")).next_back().transpose()?;
    /// assert_eq!(newest.unwrap().name, b"daily/2");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn range(&self, range: impl KeyRange) -> SnapshotList {
        let base = Base::default().below(NAMES);
        let (low, high) = range.to_bounds();
        let (low, high) = base.bounds(low, high);
        SnapshotList {
            range: Range::new(self.store.shared.core.names(), low, high, base, None),
            order: Order::Name,
            failed: false,
        }
    }

    /// Those that were saved within some time, from both ends, the oldest first; those of one
    /// millisecond in the order of their commits.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let snapshots = store.snapshots();
    /// snapshots.save("b").wait()?;
    /// snapshots.save("a").wait()?;
    /// let oldest = snapshots.by_time(..).next().transpose()?;
    /// assert_eq!(oldest.unwrap().name, b"b");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn by_time(&self, range: impl RangeBounds<SystemTime>) -> SnapshotList {
        // In milliseconds since 1970, which no clock comes to the end of.
        let first = match range.start_bound() {
            Bound::Unbounded => 0,
            Bound::Included(time) => milliseconds(*time).1,
            Bound::Excluded(time) => milliseconds(*time).0.saturating_add(1),
        };
        let end = match range.end_bound() {
            Bound::Unbounded => None,
            Bound::Included(time) => milliseconds(*time).0.checked_add(1),
            Bound::Excluded(time) => Some(milliseconds(*time).1),
        };
        let end = end.map_or(TIMES_END.to_vec(), time_key);
        let (low, high) = (Bound::Included(time_key(first)), Bound::Excluded(end));
        let names = self.store.shared.core.names();
        SnapshotList {
            range: Range::new(names, low, high, Base::default(), None),
            order: Order::Time,
            failed: false,
        }
    }

    /// How many there are, exactly. Costs as [`Store::len`].
    pub fn len(&self) -> Operation<impl Future<Output = Result<u64>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            core.check_open()?;
            let over = core.names();
            let layers = over.layers().into_iter().collect();
            count(over.view.version, layers, (NAMES, Some(TIMES))).await
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Operation<impl Future<Output = Result<bool>> + Send + use<'_>> {
        Operation::new(async move {
            self.store.shared.core.check_open()?;
            Ok(self.list().next_info().await?.is_none())
        })
    }

    /// Gives another name to a snapshot, as a commit of its own. Nothing of the snapshot itself changes.
    ///
    /// Errors: `NotFound`; `AlreadyExists` if there is a snapshot of the other name; those of
    /// [`save`](Self::save).
    pub fn rename<O: AsRef<[u8]> + Send, N: AsRef<[u8]> + Send>(
        &self,
        old: O,
        new: N,
    ) -> Operation<impl Future<Output = Result<()>> + Send + use<'_, O, N>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            let (old, new) = (old.as_ref(), new.as_ref());
            core.check_writable(true)?;
            check_name(new)?;
            core.wait_for_room_for_names().await?;
            let inside = core.gate.enter(Pass::Shared).await;
            let taken = core.take_names(vec![old.to_vec(), new.to_vec()]).await;
            let named = core.named(old).await?.ok_or_else(|| not_there(old))?;
            core.check_unnamed(new).await?;
            let changes = vec![
                NameChange::Take {
                    name: old.to_vec(),
                    named: named.clone(),
                },
                NameChange::Give {
                    name: new.to_vec(),
                    named,
                },
            ];
            let naming = Naming::new(core.catalogue.line(), changes, taken);
            self.commit(naming, inside, Urgency::Ordinary).await?;
            Ok(())
        })
    }

    /// How much of the disk the snapshot of a name takes: what deleting it would give back, and what it
    /// has in common with others. `None` if there is no such name. Makes a checkpoint first, as far as
    /// the store is open for writing, to be exact; then it costs a look at the lists of what only this
    /// snapshot and its neighbours reach, whatever the size of the store. Only of what a
    /// [restoring](Self::restore) replaced everything is read that is its own.
    ///
    /// Errors: those of a [checkpoint](Store::checkpoint) and of [`Store::get`].
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", vec![1; 1 << 20]).wait()?;
    /// let snapshots = store.snapshots();
    /// snapshots.save("with it").wait()?;
    /// store.delete("k").wait()?;
    /// let sizes = snapshots.sizes("with it").wait()?.unwrap();
    /// assert!(sizes.exclusive_bytes >= 1 << 20);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn sizes<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<Option<SnapshotSizes>>> + Send + use<'_, N>> {
        Operation::new(async move {
            let (core, name) = (&self.store.shared.core, name.as_ref());
            if core.log.is_some() {
                self.store.checkpoint().await?;
            }
            core.check_open()?;
            let Some(named) = core.named(name).await? else {
                return Ok(None);
            };
            let sizes = core.sizes_at(named.line, named.sequence).await?;
            Ok(Some(SnapshotSizes {
                exclusive_bytes: sizes.exclusive,
                shared_bytes: sizes.content.saturating_sub(sizes.exclusive),
            }))
        })
    }

    /// Makes the store equal to the snapshot of a name, as a commit of its own, and gives what there was
    /// before a name: restoring that one undoes it. Nothing is copied: it costs a checkpoint, whatever
    /// the size of the store and of the difference.
    ///
    /// It waits for commits that are under way, and those that begin meanwhile wait for it. Open
    /// transactions that read what it changed get a `Conflict` when they commit; watches are told that
    /// they [missed](crate::Watched::Missed) commits. Names are not restored: those that were saved
    /// later stay, and so do their snapshots.
    ///
    /// Errors: `NotFound` if there is no snapshot of the name; `AlreadyExists` if there is one of the other;
    /// those of [`save`](Self::save) and of a [checkpoint](Store::checkpoint). Then nothing has changed.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "old").wait()?;
    /// store.snapshots().save("monday").wait()?;
    /// store.put("k", "new").wait()?;
    ///
    /// store.snapshots().restore("monday", "before monday came back").wait()?;
    /// assert_eq!(store.get("k").wait()?.unwrap(), "old");
    ///
    /// store.snapshots().restore("before monday came back", "monday again").wait()?;
    /// assert_eq!(store.get("k").wait()?.unwrap(), "new");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn restore<N: AsRef<[u8]> + Send, B: AsRef<[u8]> + Send>(
        &self,
        name: N,
        before: B,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'_, N, B>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            let (name, before) = (name.as_ref(), before.as_ref());
            core.check_writable(true)?;
            core.check_saved(before, &[])?;
            let inside = core.enter_alone().await;
            core.check_open()?;
            let taken = core.take_names(vec![name.to_vec(), before.to_vec()]).await;
            let named = core.named(name).await?.ok_or_else(|| not_there(name))?;
            core.check_unnamed(before).await?;
            let mut bulk = Bulk::begin(core).await?;
            let newest = Named {
                line: core.catalogue.line(),
                sequence: core.published(),
                time_ms: now_ms(),
                bytes: Vec::new(),
            };
            let changes = vec![NameChange::Give {
                name: before.to_vec(),
                named: newest,
            }];
            let naming = Naming::new(core.catalogue.line(), changes, taken);
            if core.is_present(named.line, named.sequence) {
                // Nothing was changed since. The name is one of the present line, of the present tree.
                drop(bulk);
                return self.commit(naming, inside, Urgency::Ordinary).await;
            }
            let view = core.view_at(named.line, named.sequence).await?;
            if let Err(error) = bulk.go_on_from(core, named.line, &view).await {
                bulk.abandon(core);
                return Err(error);
            }
            bulk.commit(core, Vec::new(), Some(naming), Some(inside))
                .await
        })
    }

    /// Deletes a name, as a commit of its own, and says whether there was any. What only its snapshot had is
    /// given back in the background. Errors: those of [`Store::delete`].
    pub fn delete<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<bool>> + Send + use<'_, N>> {
        Operation::new(async move { Ok(self.delete_all(vec![name.as_ref().to_vec()]).await? > 0) })
    }

    /// Deletes all names of a range, and says how many there were: those of the moment when this is called,
    /// 256 with each commit. Errors: those of [`delete`](Self::delete); then some may be deleted.
    pub fn delete_range(
        &self,
        range: impl KeyRange,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        self.delete_some(self.range(range), |_| true)
    }

    /// Deletes those to which a function says no, and says how many there were: 256 with each commit, in the
    /// order of their time, the oldest first. What is saved meanwhile is not asked about.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    ///
    /// # let store = thunderhead::Store::in_memory()?;
    /// let snapshots = store.snapshots();
    /// snapshots.save("hourly/7").wait()?;
    /// snapshots.save("release").wait()?;
    /// let week_ago = SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
    /// let deleted = snapshots
    ///     .retain(|info| info.time >= week_ago || !info.name.starts_with(b"hourly/"))
    ///     .wait()?;
    /// assert_eq!(deleted, 0);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn retain(
        &self,
        mut keep: impl FnMut(&SnapshotInfo) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        self.delete_some(self.by_time(..), move |info| !keep(info))
    }

    fn delete_some(
        &self,
        mut list: SnapshotList,
        mut goes: impl FnMut(&SnapshotInfo) -> bool + Send,
    ) -> Operation<impl Future<Output = Result<u64>> + Send> {
        Operation::new(async move {
            self.store.shared.core.check_writable(false)?;
            let mut deleted = 0;
            let mut names = Vec::new();
            while let Some(info) = list.next_info().await? {
                if goes(&info) {
                    names.push(info.name);
                }
                if names.len() >= DELETED_AT_ONCE {
                    deleted += self.delete_all(std::mem::take(&mut names)).await?;
                }
            }
            Ok(deleted + self.delete_all(names).await?)
        })
    }

    /// Deletes some names in one commit: how many of them there were.
    async fn delete_all(&self, names: Vec<Vec<u8>>) -> Result<u64> {
        let core = &self.store.shared.core;
        core.check_writable(false)?;
        if names.is_empty() {
            return Ok(0);
        }
        core.wait_for_room_for_names().await?;
        let inside = core.gate.enter(Pass::Shared).await;
        let taken = core.take_names(names.clone()).await;
        let mut changes = Vec::with_capacity(names.len());
        for name in names {
            if let Some(named) = core.named(&name).await? {
                changes.push(NameChange::Delete { name, named });
            }
        }
        let deleted = changes.len() as u64;
        if deleted > 0 {
            let naming = Naming::new(core.catalogue.line(), changes, taken);
            self.commit(naming, inside, Urgency::Emergency).await?;
        }
        Ok(deleted)
    }

    pub(super) async fn commit(
        &self,
        naming: Box<Naming>,
        inside: Inside,
        urgency: Urgency,
    ) -> Result<SequenceNumber> {
        let core = &self.store.shared.core;
        // It may have waited for a close, behind which nobody would sync it.
        core.check_open()?;
        let entry = Entry {
            urgency,
            naming: Some(naming),
            inside: Some(inside),
            ..Entry::new(Default::default(), self.store.durability)
        };
        core.commit(entry).await
    }
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshots")
            .field("store", &self.store)
            .finish()
    }
}

/// A time in milliseconds since 1970, rounded down and up.
fn milliseconds(time: SystemTime) -> (u64, u64) {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let whole = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
    let exact = since_epoch.subsec_nanos().is_multiple_of(1_000_000);
    (whole, whole.saturating_add(u64::from(!exact)))
}

pub(super) fn not_there(name: &[u8]) -> Error {
    let message = format!("there is no snapshot {}", shown(name));
    Error::new(ErrorKind::NotFound, message)
}

#[derive(Clone, Copy)]
enum Order {
    Name,
    Time,
}

/// Snapshots that have names, one after the other, from either end or both at once: see
/// [`Snapshots::range`] and [`Snapshots::by_time`]. As an [`Iterator`] it waits, as a [`Stream`] it is
/// awaited; after an error these two end.
#[must_use = "a list does nothing before it is asked"]
pub struct SnapshotList {
    range: Range<'static>,
    order: Order,
    failed: bool,
}

impl SnapshotList {
    fn info(order: Order, key: Vec<u8>, value: &[u8]) -> Result<SnapshotInfo> {
        let (name, named) = match order {
            Order::Name => (key, Named::from_value(value)?),
            Order::Time => Named::from_time_entry(&key, value)?,
        };
        Ok(SnapshotInfo::new(name, named))
    }

    /// The next one; `None` at the end.
    pub fn next_info(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<SnapshotInfo>>> + Send> {
        Operation::new(async move {
            let next = self.range.next_entry().await?;
            let info = next.map(|(key, value)| Self::info(self.order, key, &value));
            info.transpose()
        })
    }

    /// The last one that is left; `None` at the end.
    pub fn next_back_info(
        &mut self,
    ) -> Operation<impl Future<Output = Result<Option<SnapshotInfo>>> + Send> {
        Operation::new(async move {
            let next = self.range.next_back_entry().await?;
            let info = next.map(|(key, value)| Self::info(self.order, key, &value));
            info.transpose()
        })
    }

    fn told(&mut self, next: Result<Option<SnapshotInfo>>) -> Option<Result<SnapshotInfo>> {
        self.failed = next.is_err();
        next.transpose()
    }
}

impl Iterator for SnapshotList {
    type Item = Result<SnapshotInfo>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_info().wait();
        self.told(next)
    }
}

impl DoubleEndedIterator for SnapshotList {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_back_info().wait();
        self.told(next)
    }
}

impl Stream for SnapshotList {
    type Item = Result<SnapshotInfo>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut self.range).poll_next(context));
        let order = self.order;
        let info = next.map(|entry| entry.and_then(|(key, value)| Self::info(order, key, &value)));
        let told = self.told(info.transpose());
        Poll::Ready(told)
    }
}

impl std::fmt::Debug for SnapshotList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotList").finish_non_exhaustive()
    }
}

impl Writes {
    /// Gives a name to what its commit makes of the store.
    fn save_snapshot(&mut self, name: &[u8], bytes: &[u8]) -> Result<()> {
        self.core.check_writable(true)?;
        self.core.check_saved(name, bytes)?;
        if self.saved.iter().any(|(other, _)| other == name) {
            return Err(already_there(name));
        }
        self.grows = true;
        self.saved.push((name.to_vec(), bytes.to_vec()));
        Ok(())
    }
}

impl Transaction {
    /// Gives a name to the store as the commit of this transaction makes it, with some bytes of the
    /// caller's: both happen or neither. See [`Snapshots::save_with`]. Undone with a
    /// [savepoint](Self::savepoint). A transaction that saves a snapshot and writes nothing else is validated,
    /// too: what it read is so in the snapshot.
    ///
    /// Errors: those of `save_with`; but whether others have the name is found out by
    /// [`commit`](Self::commit), which then fails with `AlreadyExists` and does nothing.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// let mut transaction = store.begin().wait()?;
    /// transaction.put("balance", "90").wait()?;
    /// transaction.save_snapshot("after booking 17", "")?;
    /// let sequence = transaction.commit().wait()?;
    /// let info = store.snapshots().get("after booking 17").wait()?.unwrap();
    /// assert_eq!(info.sequence, sequence);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn save_snapshot(&mut self, name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.writes.save_snapshot(name.as_ref(), bytes.as_ref())
    }
}

impl Batch {
    /// Gives a name to the store as the commit of this batch makes it: see
    /// [`Transaction::save_snapshot`].
    pub fn save_snapshot(&mut self, name: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.writes.save_snapshot(name.as_ref(), bytes.as_ref())
    }
}
