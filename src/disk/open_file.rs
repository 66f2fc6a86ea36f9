//! [`OpenFile`]: the blocking calls of a file disk, made on a [`RawFile`].
//!
//! What it keeps: a save never meets a cut of the file's end; a root is never written over the
//! newer of the two; a sync that failed is never tried again. Called by [`FileDisk`] only.
//!
//! [`FileDisk`]: super::FileDisk

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Mutex, RwLock};

use super::layout::{self, HEADER_AT, HEADER_BYTES, Header, SEGMENTS_AT};
use super::raw::{Lock, RawFile};
use super::{Page, Release, Roots};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Address, Extent, ROOT_RECORD_BYTES, RootVersion};

const NO_PANIC: &str = "nobody panics with it held";

/// The unit in which space is given back to the file system.
const BLOCK_BYTES: u64 = 4096;

/// How much is zero-filled between two syncs. Larger steps hold commits up that run beside.
const PREPARE_STEP_BYTES: u64 = 1 << 20;

/// What one call fills with zeros. The operating system may keep what it was given at once as one
/// unit of its cache, and go through all blocks of that unit at each small write to it later: ten
/// times as much at once made such a write cost twice as much.
static ZEROS: [u8; 32 << 10] = [0; 32 << 10];

/// A file that is open and locked. Its calls block and may come from any number of threads.
pub(super) struct OpenFile {
    raw: Box<dyn RawFile>,
    name: String,
    header: Header,
    read_only: bool,
    truncates: bool,
    /// Held for writing while the file is cut, so that no save lengthens it meanwhile.
    growth: RwLock<()>,
    roots: Mutex<Published>,
}

/// What this opening knows of the roots.
struct Published {
    newest: RootVersion,
    /// The file is being created: it has no name and no root yet.
    unnamed: bool,
}

impl OpenFile {
    /// Locks a file and reads its header.
    pub(super) fn existing(raw: Box<dyn RawFile>, name: String, read_only: bool) -> Result<Self> {
        let lock = match read_only {
            true => Lock::Shared,
            false => Lock::Exclusive,
        };
        let locked = raw.try_lock(lock);
        if !locked.map_err(|error| Error::io(format!("locking {name}"), error))? {
            return Err(Error::new(
                ErrorKind::Locked,
                format!("opening {name}: somebody else has it open"),
            ));
        }
        let header = read_header(&*raw, &name, read_only)?;
        Ok(Self::over(raw, name, header, read_only, false))
    }

    /// Writes the header of a file that is locked already and gets its name later.
    pub(super) fn new(raw: Box<dyn RawFile>, name: String, header: Header) -> Result<Self> {
        let mut head = vec![0; SEGMENTS_AT as usize];
        for at in HEADER_AT {
            head[at as usize..][..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        }
        raw.write_at(0, &mut [IoSlice::new(&head)])
            .map_err(|error| Error::io(format!("creating {name}"), error))?;
        Ok(Self::over(raw, name, header, false, true))
    }

    fn over(
        raw: Box<dyn RawFile>,
        name: String,
        header: Header,
        read_only: bool,
        unnamed: bool,
    ) -> Self {
        Self {
            raw,
            name,
            header,
            read_only,
            truncates: true,
            growth: RwLock::new(()),
            roots: Mutex::new(Published {
                newest: RootVersion(0),
                unnamed,
            }),
        }
    }

    /// From now on the file never becomes shorter.
    #[cfg(feature = "mapped")]
    pub(super) fn never_cut(&mut self) {
        self.truncates = false;
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The name for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(super) fn answers_at_once(&self) -> bool {
        self.raw.answers_at_once()
    }

    fn failed(&self, doing: &str, error: io::Error) -> Error {
        Error::io(format!("{doing} {}", self.name), error)
    }

    /// The place in the file of a range that must lie within one segment.
    fn place(&self, at: Address, length: usize) -> Result<Range<u64>> {
        let segment = u64::from(self.header.segment_bytes);
        let end = u64::from(at.offset()).checked_add(length as u64);
        if end.is_none_or(|end| end > segment) {
            return Err(Error::invalid(format!(
                "{length} bytes at {at} of {} reach past a segment of {segment} bytes",
                self.name
            )));
        }
        let start = self.header.position(at);
        Ok(start..start + length as u64)
    }

    fn writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                format!("{} was opened for reading only", self.name),
            ));
        }
        Ok(())
    }

    pub(super) fn read(&self, at: Address, into: &mut [u8]) -> Result<()> {
        let place = self.place(at, into.len())?;
        self.raw.read_at(place.start, into).map_err(|error| {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return self.failed("reading", error);
            }
            // A segment is at most 1 GiB, and `place` keeps the range within one.
            Error::corrupt_at(
                Extent::new(at, into.len() as u32),
                format!("{} ends before what is to be read", self.name),
            )
        })
    }

    pub(super) fn save(&self, mut pages: Vec<Page>, sync: bool) -> Result<()> {
        self.writable()?;
        let saving = |error| self.failed("writing to", error);
        if let ([page], false) = (&pages[..], sync) {
            let place = self.place(page.at, page.bytes.len())?;
            let _growth = self.growth.read().expect(NO_PANIC);
            let written = self
                .raw
                .write_at(place.start, &mut [IoSlice::new(&page.bytes)]);
            return written.map_err(saving);
        }
        pages.retain(|page| !page.bytes.is_empty());
        pages.sort_by_key(|page| page.at);
        let mut runs: Vec<(Range<u64>, Vec<IoSlice<'_>>)> = Vec::new();
        for page in &pages {
            let place = self.place(page.at, page.bytes.len())?;
            let part = IoSlice::new(&page.bytes);
            match runs.last_mut() {
                Some((run, parts)) if run.end == place.start => {
                    run.end = place.end;
                    parts.push(part);
                }
                _ => runs.push((place, vec![part])),
            }
        }
        let _growth = self.growth.read().expect(NO_PANIC);
        if let ([(run, parts)], true) = (&mut runs[..], sync) {
            let outcome = self.raw.write_at_durable(run.start, parts);
            return outcome.map_err(saving);
        }
        for (run, parts) in &mut runs {
            self.raw.write_at(run.start, parts).map_err(saving)?;
        }
        match sync && !runs.is_empty() {
            true => self.sync(),
            false => Ok(()),
        }
    }

    pub(super) fn sync(&self) -> Result<()> {
        self.writable()?;
        let outcome = self.raw.sync_data();
        outcome.map_err(|error| self.failed("syncing", error))
    }

    /// Writes zeros. Space that is only allocated would cost its first real write twice, for the
    /// file system must then note that it is written.
    pub(super) fn prepare(&self, extent: Extent) -> Result<()> {
        self.writable()?;
        let place = self.place(extent.address, extent.length as usize)?;
        let preparing = |error| self.failed("making room in", error);
        let mut at = place.start;
        while at < place.end {
            let step_end = place.end.min(at + PREPARE_STEP_BYTES);
            let _growth = self.growth.read().expect(NO_PANIC);
            while at < step_end {
                let zeros = &ZEROS[..ZEROS.len().min((step_end - at) as usize)];
                let written = self.raw.write_at(at, &mut [IoSlice::new(zeros)]);
                written.map_err(preparing)?;
                at += zeros.len() as u64;
            }
            self.raw.sync_data().map_err(preparing)?;
        }
        Ok(())
    }

    pub(super) fn release(&self, releases: &[Release]) -> Result<()> {
        self.writable()?;
        let mut places = Vec::with_capacity(releases.len());
        for release in releases {
            let extent = release.extent;
            places.push(self.place(extent.address, extent.length as usize)?);
        }
        places.sort_by_key(|place| place.start);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for place in places {
            match runs.last_mut() {
                Some(run) if run.end >= place.start => run.end = run.end.max(place.end),
                _ => runs.push(place),
            }
        }
        if self.truncates {
            while self.cut(runs.last())? {
                runs.pop();
            }
        }
        for run in runs {
            let start = run.start.next_multiple_of(BLOCK_BYTES);
            let end = run.end - run.end % BLOCK_BYTES;
            if start < end && !self.given_back(self.raw.punch(start, end - start))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Cuts the file if a range reaches to its end. Whether it did.
    fn cut(&self, tail: Option<&Range<u64>>) -> Result<bool> {
        let Some(tail) = tail else { return Ok(false) };
        let _growth = self.growth.write().expect(NO_PANIC);
        let length = self.raw.len();
        let length = length.map_err(|error| self.failed("measuring", error))?;
        if tail.end < length {
            return Ok(false);
        }
        if tail.start >= length {
            return Ok(true);
        }
        self.given_back(self.raw.set_len(tail.start))
    }

    /// Giving space back is a favour: where it is impossible, nothing is lost.
    fn given_back(&self, outcome: io::Result<()>) -> Result<bool> {
        match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(self.failed("giving back space of", error)),
        }
    }

    pub(super) fn load_root(&self) -> Result<Roots> {
        let mut roots = Roots::default();
        if self.roots.lock().expect(NO_PANIC).unnamed {
            return Ok(roots);
        }
        for at in layout::root_slots() {
            let mut record = vec![0; ROOT_RECORD_BYTES];
            self.raw
                .read_at(at, &mut record)
                .map_err(|error| self.failed("reading a root of", error))?;
            roots.records.push(record.into());
        }
        Ok(roots)
    }

    pub(super) fn publish_root(
        &self,
        expected: RootVersion,
        version: RootVersion,
        record: &[u8],
    ) -> Result<()> {
        self.writable()?;
        let mut roots = self.roots.lock().expect(NO_PANIC);
        if expected < roots.newest {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "publishing root {} of {}: root {} is published already",
                    version.0, self.name, roots.newest.0
                ),
            ));
        }
        // An even distance would replace the newer of the two roots.
        let distance = version.0.saturating_sub(expected.0);
        if distance.is_multiple_of(2) || record.len() != ROOT_RECORD_BYTES {
            return Err(Error::invalid(format!(
                "publishing root {} of {} bytes after root {}",
                version.0,
                record.len(),
                expected.0
            )));
        }
        let publishing = |error| self.failed("publishing a root of", error);
        if roots.unnamed {
            for at in layout::root_slots() {
                let mut parts = [IoSlice::new(record)];
                self.raw.write_at(at, &mut parts).map_err(publishing)?;
            }
            self.raw.sync_data().map_err(publishing)?;
            self.raw
                .give_name()
                .map_err(|error| self.failed("creating", error))?;
            roots.unnamed = false;
        } else {
            let mut parts = [IoSlice::new(record)];
            self.raw
                .write_at_durable(layout::root_slot(version), &mut parts)
                .map_err(publishing)?;
        }
        roots.newest = version;
        Ok(())
    }
}

/// Reads the header or its copy; if one of them is damaged and the file may be written, mends it.
fn read_header(raw: &dyn RawFile, name: &str, read_only: bool) -> Result<Header> {
    let opening = |error| Error::io(format!("opening {name}"), error);
    let length = raw.len().map_err(opening)?;
    if length < SEGMENTS_AT {
        return Err(Error::corrupt(match length {
            0 => format!("opening {name}: the file is empty"),
            _ => format!("opening {name}: a file of {length} bytes has no room for a header"),
        }));
    }
    let mut copies = Vec::with_capacity(HEADER_AT.len());
    for at in HEADER_AT {
        let mut bytes = [0; HEADER_BYTES];
        raw.read_at(at, &mut bytes).map_err(opening)?;
        match Header::from_bytes(&bytes) {
            Err(error) if error.kind() == ErrorKind::UnsupportedVersion => {
                return Err(error.while_doing(&format!("opening {name}")));
            }
            outcome => copies.push((at, outcome)),
        }
    }
    let whole = copies
        .iter()
        .find_map(|(_, copy)| copy.as_ref().ok())
        .copied();
    let mut first_error = None;
    for (at, copy) in copies {
        let Err(error) = copy else { continue };
        if let (Some(header), false) = (whole, read_only) {
            let mended = header.to_bytes();
            raw.write_at_durable(at, &mut [IoSlice::new(&mended)])
                .map_err(opening)?;
        }
        first_error.get_or_insert(error);
    }
    match (whole, first_error) {
        (Some(header), _) => Ok(header),
        (None, Some(error)) => Err(error.while_doing(&format!("opening {name}"))),
        (None, None) => unreachable!("each copy is whole or has an error"),
    }
}
