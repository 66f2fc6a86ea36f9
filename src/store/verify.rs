//! Verifying an open store, and a file that is not open.

use std::future::Future;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use futures::lock::OwnedMutexGuard;

use super::Store;
use super::core::Core;
use super::job::Exclusive;
use super::maintenance::{Maintaining, Pace};
use super::open::{choose, read_log};
use super::operation::Operation;
use crate::disk::{Disk, DiskModel, FileDiskOptions, block_on};
use crate::error::{Error, Result};
use crate::format::{Birth, RootRecord};
use crate::inspect::verify::{VerifyInput, verify};
use crate::inspect::{Event, Summary};
use crate::log::replay::Replay;

/// A root that stays readable while it is being verified.
struct KeptRoot {
    core: Arc<Core>,
    birth: Birth,
}

impl Drop for KeptRoot {
    fn drop(&mut self) {
        self.core.pages.space.release_root(self.birth);
    }
}

impl Store {
    /// Makes a checkpoint, then reads everything that it made durable, from the disk, and tells
    /// `visit` what is wrong, and how far it is; answering with a break ends it (`Cancelled`).
    /// Reads and writes go on meanwhile. Costs reading the whole store, and the leaves twice if there
    /// are references: those that lead to no value are notes.
    ///
    /// Errors: those of a checkpoint. What is wrong with the store is no error but a
    /// [`Finding`](crate::inspect::Finding).
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// use std::ops::ControlFlow;
    /// use thunderhead::inspect::Event;
    ///
    /// store.put("k", "v").wait()?;
    /// let summary = store.verify(|event| {
    ///     if let Event::Finding(finding) = event {
    ///         println!("{finding}");
    ///     }
    ///     ControlFlow::Continue(())
    /// });
    /// let summary = summary.wait()?;
    /// assert!(summary.is_sound());
    /// assert_eq!(summary.user.entries, 1);
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    pub fn verify(
        &self,
        mut visit: impl FnMut(Event<'_>) -> ControlFlow<()> + Send,
    ) -> Operation<impl Future<Output = Result<Summary>> + Send> {
        Operation::new(async move {
            let core = &self.shared.core;
            core.check_open()?;
            let (root, replay, _kept) = core.exclusively(keep_newest_root).await?;
            let input = VerifyInput {
                disk: &core.pages.disk,
                root: &root,
                replay: Some(&replay),
                values: true,
            };
            verify(&input, &mut visit).await
        })
    }
}

/// Makes a checkpoint, unless the store is open for reading only, and keeps its root.
async fn keep_newest_root(
    core: Arc<Core>,
    mut state: Exclusive<OwnedMutexGuard<Maintaining>>,
) -> Result<(RootRecord, Replay, KeptRoot)> {
    if core.log.is_some() {
        core.checkpoint(&mut state, Pace::Hurried).await?;
    }
    let roots = core.pages.disk.load_root().await?;
    let root = choose(&roots.records)?;
    let replay = read_log(&core.pages.disk, &root).await?;
    core.pages.space.keep_root(root.birth);
    let birth = root.birth;
    Ok((root, replay, KeptRoot { core, birth }))
}

/// Verifies the store in a file that nobody has open for writing, without changing it, and tells
/// `visit` what is wrong. Works as far as anything can be read at all.
///
/// Errors: those of opening a file for reading; `Corrupt` if there is no whole root record to begin
/// with; `Cancelled`.
///
/// ```
/// use std::ops::ControlFlow;
/// use thunderhead::{Store, inspect};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("store");
/// let store = Store::create(&path)?;
/// store.put("k", "v").wait()?;
/// store.close().wait()?;
/// let summary = inspect::verify_file(&path, |event| {
///     if let inspect::Event::Finding(finding) = event {
///         println!("{finding}");
///     }
///     ControlFlow::Continue(())
/// })?;
/// assert!(summary.is_sound());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify_file(
    path: impl AsRef<Path>,
    visit: impl FnMut(Event<'_>) -> ControlFlow<()> + Send,
) -> Result<Summary> {
    let options = FileDiskOptions {
        read_only: true,
        ..FileDiskOptions::default()
    };
    verify_disk(options.open(path)?, visit)
}

/// As [`verify_file`], for the store on any disk that nobody else has open. Errors: `Corrupt` if
/// there is no whole root record to begin with; `Io`; `Cancelled`.
///
/// ```
/// use std::ops::ControlFlow;
/// use thunderhead::{Options, disk::MemoryDisk, inspect};
///
/// let disk = MemoryDisk::new();
/// Options::new().open_disk(disk.clone())?.close().wait()?;
/// let summary = inspect::verify_disk(disk, |_| ControlFlow::Continue(()))?;
/// assert!(summary.is_sound());
/// # Ok::<(), thunderhead::Error>(())
/// ```
pub fn verify_disk(
    disk: impl DiskModel,
    mut visit: impl FnMut(Event<'_>) -> ControlFlow<()> + Send,
) -> Result<Summary> {
    let disk = Disk::new(disk)?;
    block_on(async {
        let roots = disk.load_root().await?;
        if roots.records.is_empty() {
            return Err(Error::corrupt("there is no store on the disk"));
        }
        let root = choose(&roots.records)?;
        let input = VerifyInput {
            disk: &disk,
            root: &root,
            replay: None,
            values: true,
        };
        verify(&input, &mut visit).await
    })
}
