//! [`RawFile`]: the few blocking calls that a file disk makes, and the operating system's answer.
//!
//! The trait stays inside the crate. Two things implement it: [`OperatingSystemFile`] in life and
//! the simulated file in tests, so that everything above it, slots, growth, zero-filling, naming,
//! runs under the simulation too.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Who else may hold a file at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lock {
    /// Nobody.
    Exclusive,
    /// Others that ask for the same.
    Shared,
}

/// One file. All calls block and may come from any number of threads.
pub(super) trait RawFile: Send + Sync + 'static {
    /// Fills a buffer. Past the end of the file: `UnexpectedEof`.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all parts one after the other. They are not durable yet.
    fn write_at(&self, at: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// Writes all parts one after the other; on return these bytes survive a power loss.
    fn write_at_durable(&self, at: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()>;

    /// The bytes of the file.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or lengthens it by a hole.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes all writes that returned before the call durable. When it fails, what was not durable
    /// before is in doubt for ever: calling it again proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Gives whole blocks back to the file system; they read as zeros. May be `Unsupported`.
    fn punch(&self, at: u64, length: u64) -> io::Result<()>;

    /// Takes a lock that ends with this file or its process. False: somebody else is in the way.
    fn try_lock(&self, lock: Lock) -> io::Result<bool>;

    /// Ends the creation of a file: gives it its name, durably, unless the name is taken. Before,
    /// it is as if there were no such file. A file that was opened has its name already.
    fn give_name(&self) -> io::Result<()>;

    /// Whether no call ever takes its time: then no thread is needed to make it, and calls are made in
    /// the order in which they are asked for.
    fn answers_at_once(&self) -> bool {
        false
    }
}

/// A file of the operating system.
pub(super) struct OperatingSystemFile {
    file: File,
    path: PathBuf,
    /// The name under which a file is created, until it gets its own.
    temporary: Mutex<Option<PathBuf>>,
    /// Set once the file system turned down a write that is durable in itself.
    durable_writes_unsupported: AtomicBool,
}

impl OperatingSystemFile {
    /// Opens a file that exists.
    pub(super) fn open(path: &Path, read_only: bool) -> Result<Self> {
        let opening = || format!("opening {}", path.display());
        let not_a_file = |what: &str| Error::invalid(format!("{} is {what}", path.display()));
        let opened = OpenOptions::new().read(true).write(!read_only).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(_) if path.is_dir() => return Err(not_a_file("a directory, not a file")),
            Err(error) => return Err(Error::io(opening(), error)),
        };
        let metadata = file
            .metadata()
            .map_err(|error| Error::io(opening(), error))?;
        if metadata.is_dir() {
            return Err(not_a_file("a directory, not a file"));
        }
        if !metadata.is_file() {
            return Err(not_a_file("not a regular file"));
        }
        let this = Self::new(file, path);
        if !read_only {
            this.remove_temporary_name();
        }
        Ok(this)
    }

    /// Begins a file, locked, under a temporary name beside the one that it is to get.
    ///
    /// What a creator that died left under that name is removed, never written to: it may be a
    /// second name of a whole file.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let creating = |error| Error::io(format!("creating {}", path.display()), error);
        let locked = || {
            Error::new(
                ErrorKind::Locked,
                format!("{} is being created by someone else", path.display()),
            )
        };
        if path.file_name().is_none() || path.is_dir() {
            return Err(Error::invalid(format!(
                "{} is a directory, not a file",
                path.display()
            )));
        }
        if path.try_exists().map_err(creating)? {
            return Err(already_exists(path));
        }
        let temporary = temporary_name(path);
        // Each round either ends, or removes what a dead creator left or waits for nobody: more
        // than a few rounds mean that others create and vanish all the time.
        for _ in 0..8 {
            let fresh = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&temporary);
            match fresh {
                Ok(file) => {
                    let this = Self::new(file, path);
                    if !this.try_lock(Lock::Exclusive).map_err(creating)? {
                        return Err(locked());
                    }
                    *this.temporary.lock().expect("nobody panics with it held") = Some(temporary);
                    return Ok(this);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(creating(error)),
            }
            let stale = match OpenOptions::new().read(true).write(true).open(&temporary) {
                Ok(file) => Self::new(file, &temporary),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(creating(error)),
            };
            if !stale.try_lock(Lock::Exclusive).map_err(creating)? {
                return Err(locked());
            }
            if stale.is_named(&temporary) {
                fs::remove_file(&temporary).map_err(creating)?;
            }
        }
        Err(locked())
    }

    fn new(file: File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_owned(),
            temporary: Mutex::new(None),
            durable_writes_unsupported: AtomicBool::new(false),
        }
    }

    /// Removes the second name that a creator leaves if it dies after having given the first.
    fn remove_temporary_name(&self) {
        let temporary = temporary_name(&self.path);
        if self.is_named(&temporary) {
            // Only tidiness: the name does no harm, and the next opener tries again.
            let _ = fs::remove_file(temporary);
        }
    }

    /// Whether a name stands for this very file.
    #[cfg(unix)]
    fn is_named(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let (Ok(there), Ok(here)) = (fs::symlink_metadata(path), self.file.metadata()) else {
            return false;
        };
        (there.dev(), there.ino()) == (here.dev(), here.ino())
    }

    /// Whether a name stands for this very file; elsewhere than on Unix a guess, which only decides
    /// about the removal of a temporary name.
    #[cfg(not(unix))]
    fn is_named(&self, path: &Path) -> bool {
        path == self.path && path.exists()
    }

    /// A second descriptor of the file, under the same lock, for mapping it.
    #[cfg(feature = "mapped")]
    pub(super) fn second(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn already_exists(path: &Path) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("creating {}: there is already a file", path.display()),
    )
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".creating");
    path.with_file_name(name)
}

/// Makes the names in the directory of a file durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

impl RawFile for OperatingSystemFile {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        platform::read_exact_at(&self.file, at, into)
    }

    fn write_at(&self, at: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        write_fully(at, parts, |at, parts| {
            platform::write_some(&self.file, at, parts)
        })
    }

    fn write_at_durable(&self, at: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let unsupported = &self.durable_writes_unsupported;
        if unsupported.load(Ordering::Relaxed) {
            self.write_at(at, parts)?;
            return self.sync_data();
        }
        let mut fell_back = false;
        write_fully(at, parts, |at, parts| {
            if !fell_back {
                if let Some(written) = platform::write_some_durably(&self.file, at, parts)? {
                    return Ok(written);
                }
                fell_back = true;
            }
            platform::write_some(&self.file, at, parts)
        })?;
        if fell_back {
            unsupported.store(true, Ordering::Relaxed);
            return self.sync_data();
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn punch(&self, at: u64, length: u64) -> io::Result<()> {
        platform::punch(&self.file, at, length)
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        let outcome = match lock {
            Lock::Exclusive => self.file.try_lock(),
            Lock::Shared => self.file.try_lock_shared(),
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn give_name(&self) -> io::Result<()> {
        let mut temporary = self.temporary.lock().expect("nobody panics with it held");
        let Some(from) = temporary.as_ref() else {
            return Ok(());
        };
        match fs::hard_link(from, &self.path) {
            Ok(()) => match fs::remove_file(from) {
                // An opener that saw both names already was quicker.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            },
            // A file system without hard links: looking first leaves a moment in which a file of
            // another creator would be replaced, but that one has the same temporary name, locked.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                ) =>
            {
                if self.path.try_exists()? {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(from, &self.path)?;
            }
            Err(error) => return Err(error),
        }
        *temporary = None;
        sync_directory(&self.path)
    }
}

impl Drop for OperatingSystemFile {
    fn drop(&mut self) {
        let temporary = self.temporary.get_mut();
        if let Some(temporary) = temporary.ok().and_then(Option::take) {
            // A creation that never ended leaves nothing; if this fails, the next creator tidies.
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Repeats short writes until everything is written.
fn write_fully(
    mut at: u64,
    mut parts: &mut [IoSlice<'_>],
    mut write: impl FnMut(u64, &[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    // Also drops leading empty parts, on which a write would return zero.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match write(at, parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod platform {
    use std::fs::File;
    use std::io::{self, IoSlice};
    use std::os::unix::fs::FileExt;

    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::{Errno, ReadWriteFlags, pwritev, pwritev2};

    pub(super) fn read_exact_at(file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(into, at)
    }

    pub(super) fn write_some(file: &File, at: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match parts {
            // Cheaper for the system than a list of one.
            [only] => file.write_at(only, at),
            parts => Ok(pwritev(file, parts, at)?),
        }
    }

    /// One call instead of two, and it waits for nobody else's bytes. `None`: unsupported.
    pub(super) fn write_some_durably(
        file: &File,
        at: u64,
        parts: &[IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        match pwritev2(file, parts, at, ReadWriteFlags::DSYNC) {
            Ok(written) => Ok(Some(written)),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn punch(file: &File, at: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(file, flags, at, length)?)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod platform {
    use std::fs::File;
    use std::io::{self, IoSlice};

    #[cfg(unix)]
    pub(super) fn read_exact_at(file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, into, at)
    }

    #[cfg(windows)]
    pub(super) fn read_exact_at(file: &File, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
        use std::os::windows::fs::FileExt;
        while !into.is_empty() {
            match file.seek_read(into, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    at += read as u64;
                    into = &mut into[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes of the first part what one call writes.
    pub(super) fn write_some(file: &File, at: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(part) = parts.iter().find(|part| !part.is_empty()) else {
            return Ok(0);
        };
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::write_at(file, part, at);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_write(file, part, at);
    }

    pub(super) fn write_some_durably(
        _file: &File,
        _at: u64,
        _parts: &[IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        Ok(None)
    }

    pub(super) fn punch(_file: &File, _at: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_writes_are_continued_where_they_ended() {
        let mut disk = vec![0u8; 16];
        let (first, second) = ([1u8; 5], [2u8; 6]);
        let mut parts = [
            IoSlice::new(&[]),
            IoSlice::new(&first),
            IoSlice::new(&[]),
            IoSlice::new(&second),
        ];
        write_fully(3, &mut parts, |at, parts| {
            let part = parts.iter().find(|part| !part.is_empty()).unwrap();
            let count = part.len().min(2);
            disk[at as usize..][..count].copy_from_slice(&part[..count]);
            Ok(count)
        })
        .unwrap();
        assert_eq!(disk, [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0]);
    }

    #[test]
    fn a_durable_gathering_write_of_more_parts_than_one_call_takes_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = OperatingSystemFile::create(&directory.path().join("file")).unwrap();
        let bytes: Vec<u8> = (0..3000u32).map(|at| at as u8).collect();
        let mut parts: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
        file.write_at_durable(100, &mut parts).unwrap();
        let mut back = vec![0; bytes.len()];
        file.read_at(100, &mut back).unwrap();
        assert_eq!(back, bytes);
        assert_eq!(file.len().unwrap(), 3100);
    }

    #[test]
    fn a_creation_that_never_ends_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        drop(OperatingSystemFile::create(&directory.path().join("file")).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_temporary_name_left_by_a_dead_creator_is_taken_over_and_its_other_name_spared() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(directory.path().join("moved"), "precious").unwrap();
        fs::hard_link(directory.path().join("moved"), temporary_name(&path)).unwrap();
        let file = OperatingSystemFile::create(&path).unwrap();
        file.write_at(0, &mut [IoSlice::new(b"new")]).unwrap();
        let second = OperatingSystemFile::create(&path).err().unwrap();
        assert_eq!(second.kind(), ErrorKind::Locked);
        file.give_name().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(
            fs::read(directory.path().join("moved")).unwrap(),
            b"precious"
        );
        assert!(!temporary_name(&path).exists());
    }
}
