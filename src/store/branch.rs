//! [`Branches`]: versions beside the store's own that can be written to.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::bulk::Bulk;
use super::gate::Pass;
use super::naming::{NameChange, Naming, now_ms, shown};
use super::operation::Operation;
use super::reader::Reader;
use super::snapshots::not_there;
use super::{Snapshot, SnapshotInfo, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::format::SequenceNumber;
use crate::snapshot::names::Named;
use crate::space::Urgency;
use crate::space::kept::BRANCH_NAME_BYTES_MAX;

/// The branches of a store: see [`Store::branches`]. Cheap to clone.
///
/// A branch begins at a [snapshot that has a name](super::Snapshots), and from there on has commits of its
/// own: it shares with the store, and with other branches, whatever none of them has changed since. It
/// is kept until it is deleted, across crashes and reopenings.
///
/// Branches are for work that takes its time, such as trying a change of all data, and not for many small
/// commits: each commit to one costs a [checkpoint](Store::checkpoint), and while a transaction of a branch is
/// open, nobody else commits. Where the disk fails, what was asked for has happened or has not, as a whole; which
/// of them is seen by looking, for it may still come to the disk with the next checkpoint.
///
/// ```
/// # let store = thunderhead::Store::in_memory()?;
/// store.put("greeting", "hello").wait()?;
/// store.snapshots().save("release").wait()?;
/// let branch = store.branches().create("experiment", "release").wait()?;
///
/// let mut transaction = branch.begin().wait()?;
/// transaction.put("greeting", "hi").wait()?;
/// transaction.commit().wait()?;
///
/// assert_eq!(branch.snapshot().wait()?.get("greeting").wait()?.unwrap(), "hi");
/// assert_eq!(store.get("greeting").wait()?.unwrap(), "hello");
///
/// branch.save("experiment, done").wait()?;
/// store.snapshots().restore("experiment, done", "before").wait()?;
/// assert_eq!(store.get("greeting").wait()?.unwrap(), "hi");
/// store.branches().delete("experiment").wait()?;
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone)]
pub struct Branches {
    store: Store,
}

/// What is known of a branch.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BranchInfo {
    /// Its name.
    pub name: Vec<u8>,
    /// When it was made, to the millisecond, by the clock of the machine.
    pub time: SystemTime,
}

/// A branch: see [`Branches`]. Cheap to clone. If it is deleted, what one does with it is an error
/// (`NotFound`); snapshots that were taken can be read.
#[derive(Clone)]
pub struct Branch {
    store: Store,
    name: Arc<[u8]>,
    line: u64,
}

impl Store {
    /// The branches: to make, open, list and delete them.
    pub fn branches(&self) -> Branches {
        Branches {
            store: self.clone(),
        }
    }
}

fn no_such_branch(name: &[u8]) -> Error {
    let message = format!("there is no branch {}", shown(name));
    Error::new(ErrorKind::NotFound, message)
}

impl Branches {
    fn branch(&self, name: &[u8], line: u64) -> Branch {
        Branch {
            store: self.store.clone(),
            name: name.into(),
            line,
        }
    }

    /// Makes a branch that begins with what the snapshot of a name has. Nothing is copied: it costs a
    /// checkpoint, whatever the size of the store. Waits for commits that are under way.
    ///
    /// Errors: `NotFound` if there is no such snapshot; `AlreadyExists` if there is such a branch;
    /// `InvalidArgument` for a name of no or more than 1024 bytes; those of a
    /// [checkpoint](Store::checkpoint).
    pub fn create<N: AsRef<[u8]> + Send, S: AsRef<[u8]> + Send>(
        &self,
        name: N,
        snapshot: S,
    ) -> Operation<impl Future<Output = Result<Branch>> + Send + use<'_, N, S>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            let (name, snapshot) = (name.as_ref(), snapshot.as_ref());
            core.check_writable(true)?;
            if !(1..=BRANCH_NAME_BYTES_MAX).contains(&name.len()) {
                return Err(Error::invalid(format!(
                    "a name of {} bytes for a branch: 1 to {BRANCH_NAME_BYTES_MAX} are possible",
                    name.len()
                )));
            }
            let _inside = core.enter_alone().await;
            core.check_open()?;
            let mut bulk = Bulk::begin(core).await?;
            if core.branch(name).await?.is_some() {
                let message = format!("there is a branch {} already", shown(name));
                return Err(Error::new(ErrorKind::AlreadyExists, message));
            }
            let named = core.named(snapshot).await?;
            let named = named.ok_or_else(|| not_there(snapshot))?;
            if !core.is_present(named.line, named.sequence) {
                let view = core.view_at(named.line, named.sequence).await?;
                if let Err(error) = bulk.go_on_from(core, named.line, &view).await {
                    bulk.abandon(core);
                    return Err(error);
                }
            }
            let line = bulk.begin_branch(core, name, named.sequence).await?;
            Ok(self.branch(name, line))
        })
    }

    /// The branch of a name. Costs a look-up. Errors: `NotFound`; those of [`Store::get`].
    pub fn open<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<Branch>> + Send + use<'_, N>> {
        Operation::new(async move {
            let (core, name) = (&self.store.shared.core, name.as_ref());
            core.check_open()?;
            let found = core.branch(name).await?;
            let found = found.ok_or_else(|| no_such_branch(name))?;
            Ok(self.branch(name, found.line))
        })
    }

    /// All branches, in the order of their names. Errors: those of [`Store::get`].
    pub fn list(
        &self,
    ) -> Operation<impl Future<Output = Result<Vec<BranchInfo>>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            core.check_open()?;
            let branches = core.all_branches().await?.into_iter();
            let info = branches.map(|branch| {
                let since_epoch = Duration::from_millis(branch.time_ms);
                let time = UNIX_EPOCH.checked_add(since_epoch).unwrap_or(UNIX_EPOCH);
                let name = branch.name;
                BranchInfo { name, time }
            });
            Ok(info.collect())
        })
    }

    /// Deletes a branch, and says whether there was any. Its snapshots that have names stay. What only
    /// the branch had is given back in the background, in bounded steps. Costs a checkpoint.
    ///
    /// Errors: those of a [checkpoint](Store::checkpoint).
    pub fn delete<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<bool>> + Send + use<'_, N>> {
        Operation::new(async move {
            let (core, name) = (&self.store.shared.core, name.as_ref());
            core.check_writable(false)?;
            let _inside = core.enter_alone().await;
            core.check_open()?;
            let bulk = Bulk::begin(core).await?;
            let Some(branch) = core.branch(name).await? else {
                return Ok(false);
            };
            bulk.end_branch(core, name, branch.line).await?;
            Ok(true)
        })
    }
}

impl Branch {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The branch as it is now, to be read for as long as one likes. Costs a look-up.
    ///
    /// Errors: `NotFound` if the branch was deleted; those of [`Store::get`].
    pub fn snapshot(&self) -> Operation<impl Future<Output = Result<Snapshot>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            core.check_open()?;
            let view = core.branch_view(self.line).await?;
            Ok(Snapshot {
                reader: Reader {
                    fixed: Some(view),
                    ..self.store.reader.clone()
                },
                line: Some(self.line),
            })
        })
    }

    /// Begins a transaction on the branch. It is alone, as with [`Store::begin_alone`]: nobody else
    /// commits, to the store or to any branch, until it is committed or dropped. Its commit costs a
    /// checkpoint. It can save no snapshots: see [`Self::save`].
    ///
    /// Errors: `NotFound` if the branch was deleted; those of [`Store::begin_alone`] and of a
    /// [checkpoint](Store::checkpoint).
    pub fn begin(&self) -> Operation<impl Future<Output = Result<Transaction>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            core.check_writable(false)?;
            let inside = core.enter_alone().await;
            core.check_writable(false)?;
            let mut bulk = Bulk::begin(core).await?;
            let head = core.branch_head(self.line).await?;
            bulk.go_on_with(core, self.line, head);
            Ok(self.store.transaction_of(bulk, inside))
        })
    }

    /// Gives a name to the branch as it is now: see [`Snapshots::save`](super::Snapshots::save), whose
    /// cost and errors it has; `NotFound` if the branch was deleted.
    pub fn save<N: AsRef<[u8]> + Send>(
        &self,
        name: N,
    ) -> Operation<impl Future<Output = Result<SnapshotInfo>> + Send + use<'_, N>> {
        self.save_with(name, "")
    }

    /// The same, with some bytes of the caller's: see
    /// [`Snapshots::save_with`](super::Snapshots::save_with).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.snapshots().save("release").wait()?;
    /// let branch = store.branches().create("experiment", "release").wait()?;
    /// branch.save_with("first try", "made by the optimizer").wait()?;
    /// let info = store.snapshots().get("first try").wait()?.unwrap();
    /// assert_eq!(info.bytes, b"made by the optimizer");
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn save_with<N: AsRef<[u8]> + Send, B: AsRef<[u8]> + Send>(
        &self,
        name: N,
        bytes: B,
    ) -> Operation<impl Future<Output = Result<SnapshotInfo>> + Send + use<'_, N, B>> {
        Operation::new(async move {
            let (core, name, bytes) = (&self.store.shared.core, name.as_ref(), bytes.as_ref());
            core.check_writable(true)?;
            core.check_saved(name, bytes)?;
            core.wait_for_room_for_names().await?;
            let inside = core.gate.enter(Pass::Shared).await;
            let taken = core.take_names(vec![name.to_vec()]).await;
            core.check_unnamed(name).await?;
            let head = core.branch_head(self.line).await?;
            let named = Named {
                line: self.line,
                sequence: head.since,
                time_ms: now_ms(),
                bytes: bytes.to_vec(),
            };
            let changes = vec![NameChange::Give {
                name: name.to_vec(),
                named: named.clone(),
            }];
            let naming = Naming::new(core.catalogue.line(), changes, taken);
            self.store
                .snapshots()
                .commit(naming, inside, Urgency::Ordinary)
                .await?;
            Ok(SnapshotInfo::new(name.to_vec(), named))
        })
    }

    /// The newest commit that it has. Errors: `NotFound` if the branch was deleted; those of
    /// [`Store::get`].
    pub fn sequence(
        &self,
    ) -> Operation<impl Future<Output = Result<SequenceNumber>> + Send + use<'_>> {
        Operation::new(async move {
            let core = &self.store.shared.core;
            core.check_open()?;
            Ok(core.branch_head(self.line).await?.since)
        })
    }
}

impl std::fmt::Debug for Branches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branches").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Branch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Branch")
            .field("name", &shown(&self.name))
            .finish_non_exhaustive()
    }
}
