//! A disk of your own: one file for each segment, and two for the roots, in a directory.
//!
//! Everything that a [`DiskModel`] must do is here, in its simplest form. Calls block: a disk for
//! programs that await would hand them to threads, as `FileDisk` does.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use thunderhead::disk::{Buffer, DiskModel, Page, Properties, Release, Roots, conformance};
use thunderhead::format::{Address, RootVersion};
use thunderhead::{Error, ErrorKind, Options, Result};

const SEGMENT_BYTES: u32 = 1 << 20;

/// A directory with files `segment-0`, `segment-1`, … and `root-0`, `root-1`.
struct DirectoryDisk {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    segments: BTreeMap<u32, File>,
    /// Segments with saves that no sync covered.
    unsynced: BTreeSet<u32>,
    /// The newest root that this opening published.
    newest: RootVersion,
}

impl DirectoryDisk {
    fn open(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|error| failed("creating", path, error))?;
        let (path, state) = (path.to_owned(), Mutex::default());
        Ok(Self { path, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it held")
    }

    /// Does something with the file of a segment, which is created if that is wanted, from an
    /// address on.
    fn at<T>(
        &self,
        state: &mut State,
        at: Address,
        create: bool,
        call: impl FnOnce(&mut File) -> io::Result<T>,
    ) -> Result<T> {
        let path = self.path.join(format!("segment-{}", at.segment()));
        let using = |error| failed("using", &path, error);
        let file = match state.segments.entry(at.segment()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(closed) => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(create);
                closed.insert(options.open(&path).map_err(using)?)
            }
        };
        let sought = file.seek(SeekFrom::Start(at.offset().into()));
        sought.and_then(|_| call(file)).map_err(using)
    }

    fn sync_all(&self, state: &mut State) -> Result<()> {
        // Forgotten before, so that a sync that fails is not tried again: it would prove nothing.
        for segment in std::mem::take(&mut state.unsynced) {
            self.at(state, Address::new(segment, 0), false, |file| {
                file.sync_data()
            })?;
        }
        self.sync_names()
    }

    /// Makes the names of new files durable. Only Unix asks for that.
    fn sync_names(&self) -> Result<()> {
        if cfg!(unix) {
            let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
            synced.map_err(|error| failed("syncing", &self.path, error))?;
        }
        Ok(())
    }
}

fn failed(doing: &str, path: &Path, error: io::Error) -> Error {
    Error::io(format!("{doing} {}", path.display()), error)
}

fn check_within_segment(at: Address, length: usize) -> Result<()> {
    if at.offset() as usize + length > SEGMENT_BYTES as usize {
        let message = format!("{length} bytes at {at} reach past the segment");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    Ok(())
}

impl DiskModel for DirectoryDisk {
    fn properties(&self) -> Properties {
        Properties::new(SEGMENT_BYTES)
    }

    async fn read(&self, at: Address, mut into: Buffer) -> Result<Buffer> {
        check_within_segment(at, into.len())?;
        let mut state = self.state();
        let fill = |file: &mut File| file.read_exact(into.as_mut_slice());
        self.at(&mut state, at, false, fill)?;
        Ok(into)
    }

    async fn save(&self, pages: Vec<Page>, sync: bool) -> Result<()> {
        let mut state = self.state();
        for page in &pages {
            check_within_segment(page.at, page.bytes.len())?;
            self.at(&mut state, page.at, true, |file| {
                file.write_all(&page.bytes)
            })?;
            state.unsynced.insert(page.at.segment());
        }
        // With `sync` more than was asked for, if there are other saves: that is always allowed.
        if sync {
            self.sync_all(&mut state)
        } else {
            Ok(())
        }
    }

    async fn sync(&self) -> Result<()> {
        self.sync_all(&mut self.state())
    }

    async fn release(&self, _releases: Vec<Release>) -> Result<()> {
        // A disk that gives nothing back is a disk too: the ranges are saved again later.
        Ok(())
    }

    async fn load_root(&self) -> Result<Roots> {
        let mut roots = Roots::default();
        for path in ["root-0", "root-1"].map(|slot| self.path.join(slot)) {
            match fs::read(&path) {
                Ok(record) => roots.records.push(record.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("reading", &path, error)),
            }
        }
        Ok(roots)
    }

    async fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: Bytes,
    ) -> Result<()> {
        let mut state = self.state();
        if expected < state.newest {
            let message = format!("root {} is published already", state.newest.0);
            return Err(Error::new(ErrorKind::Fenced, message));
        }
        // Versions have no gaps, so that this is the older of the two.
        let path = self.path.join(format!("root-{}", version.0 % 2));
        let new = self.path.join("root-new");
        let publishing = |error| failed("publishing", &path, error);
        let write = |mut file: File| file.write_all(&record).and_then(|()| file.sync_all());
        File::create(&new).and_then(write).map_err(publishing)?;
        fs::rename(&new, &path).map_err(publishing)?;
        self.sync_names()?;
        state.newest = version;
        Ok(())
    }
}

fn main() -> Result<()> {
    let directory = tempfile::tempdir().map_err(|error| Error::io("making a directory", error))?;

    let mut count = 0;
    conformance::check(|| {
        count += 1;
        let path = directory.path().join(format!("checked-{count}"));
        DirectoryDisk::open(&path).expect("a directory can be made")
    });

    let path = directory.path().join("store");
    for opening in ["first", "second"] {
        let store = Options::new().open_disk(DirectoryDisk::open(&path)?)?;
        store.put(opening, "on a disk of its own").wait()?;
        println!("at the {opening} opening: {} entries", store.len().wait()?);
        store.close().wait()?;
    }
    Ok(())
}
