//! [`verify`]: the order in which a store is read, and what everything that reads it shares.
//!
//! First the trees, page by page from the roots down, with every extent entered into an [`Audit`];
//! then the log; then references are followed; then the names of snapshots; then what is pending; at
//! last the maps are compared with the audit. Memory: the nodes on the way to one page, the log, and a
//! bit for each sector in use. Every page is followed once, whoever names it again, so that it ends on
//! any input.

use std::collections::HashSet;
use std::ops::ControlFlow;

use super::clones::Clones;
use super::report::{Event, Finding, Severity, Summary, TreeSummary};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Birth, Extent, PagePointer, RootRecord, page_checksum};
use crate::log::replay::Replay;
use crate::space::audit::{Audit, Holder, Refusal};
use crate::tree::page::Page;
use crate::tree::pages::{Expect, check};
use crate::value::{DiskPages, OffTree, ValueReader, each_extent, each_own_extent};

/// What is to be verified.
pub(crate) struct VerifyInput<'a> {
    /// The disk, which may change meanwhile only where the root does not reach.
    pub(crate) disk: &'a Disk,
    /// A durable root. Its pages must stay: of an open store, one that is kept.
    pub(crate) root: &'a RootRecord,
    /// The log from the root's position on, or from an earlier one. `None`: it is read from the
    /// disk, where nobody may append to it meanwhile.
    pub(crate) replay: Option<&'a Replay>,
    /// Whether the content of off-tree values is read, too, not only their index.
    pub(crate) values: bool,
}

/// Told of everything; a break ends it.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(Event<'_>) -> ControlFlow<()> + Send);

/// Reads everything that a root reaches and tells what is wrong. Only a break of the sink makes it
/// fail, with [`ErrorKind::Cancelled`]: errors of the disk are findings, too.
pub(crate) async fn verify(input: &VerifyInput<'_>, sink: Sink<'_>) -> Result<Summary> {
    let mut examiner = Examiner {
        disk: input.disk,
        root: input.root,
        values: input.values,
        sink,
        summary: Summary::default(),
        audit: Audit::new(input.disk.properties(), input.root.segments),
        incomplete: false,
        seen: None,
        clones: Clones::default(),
        older: false,
        repeats: 0,
    };
    examiner.root_record()?;
    if examiner.keeps_versions().await {
        examiner.seen = Some(HashSet::new());
        examiner.clones = examiner.read_clones().await?;
    }
    examiner.walk(Part::User, &input.root.user).await?;
    let damages = examiner.summary.damages;
    examiner.walk(Part::System, &input.root.system).await?;
    let catalogue_is_sound = examiner.summary.damages == damages;
    examiner.tail().await?;
    let read;
    let replay = match input.replay {
        Some(replay) => Some(replay),
        None => {
            read = examiner.read_log().await?;
            read.as_ref()
        }
    };
    if let Some(replay) = replay {
        examiner.log(replay).await?;
        examiner.references(replay).await?;
    }
    if catalogue_is_sound {
        examiner.names(replay).await?;
        if examiner.keeps_versions().await {
            examiner.kept().await?;
        }
        examiner.pending().await?;
        examiner.compare_clones()?;
        examiner.compare().await?;
    } else {
        examiner.note(
            "what is in use could not be compared with the maps: the system tree is damaged",
        )?;
    }
    examiner.summary.bytes_in_use = examiner.audit.bytes();
    examiner.progress()?;
    Ok(examiner.summary)
}

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    User,
    System,
    Kept,
    Pending,
}

/// Everything that reading shares.
pub(super) struct Examiner<'a> {
    pub(super) disk: &'a Disk,
    pub(super) root: &'a RootRecord,
    values: bool,
    sink: Sink<'a>,
    pub(super) summary: Summary,
    pub(super) audit: Audit,
    /// Something was not read, so that what it leads to is not known to be in use.
    pub(super) incomplete: bool,
    /// What was entered into the audit, where versions share it.
    seen: Option<HashSet<(Extent, Birth)>>,
    /// What values under several keys have.
    pub(super) clones: Clones,
    /// From now on what was seen may be come to again.
    older: bool,
    /// How often it was: bounded, or a hostile value could name one page from many places.
    repeats: usize,
}

/// How often each thing that was seen may be come to again, before that is damage.
const REPEATS_MAX: usize = 64;

/// What an error says, without the place, which a finding has apart.
fn message_of(error: &Error) -> String {
    let message = error.to_string();
    match error.extent() {
        Some(extent) => message.replace(&format!(" (at {extent})"), ""),
        None => message,
    }
}

fn refusal_message(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoSuchExtent => "lies outside of the store",
        Refusal::Shared => "has sectors that something else has, too",
    }
}

fn overlapping(extent: Extent, refusal: Refusal) -> Error {
    let message = format!(
        "an extent of an off-tree value {}",
        refusal_message(refusal)
    );
    Error::corrupt_at(extent, message)
}

/// The error of a caller who has enough.
pub(super) fn unless_broken(flow: ControlFlow<()>) -> Result<()> {
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(
            ErrorKind::Cancelled,
            "verifying was ended by its caller",
        )),
    }
}

impl Examiner<'_> {
    fn tell(&mut self, severity: Severity, extent: Option<Extent>, message: String) -> Result<()> {
        match severity {
            Severity::Note => self.summary.notes += 1,
            Severity::Leak => self.summary.leaks += 1,
            Severity::Damage => self.summary.damages += 1,
        }
        let finding = Finding {
            severity,
            extent,
            message,
        };
        unless_broken((self.sink)(Event::Finding(&finding)))
    }

    pub(super) fn progress(&mut self) -> Result<()> {
        unless_broken((self.sink)(Event::Progress(&self.summary)))
    }

    pub(super) fn note(&mut self, message: impl Into<String>) -> Result<()> {
        self.tell(Severity::Note, None, message.into())
    }

    pub(super) fn leak(&mut self, extent: Extent, message: impl Into<String>) -> Result<()> {
        self.tell(Severity::Leak, Some(extent), message.into())
    }

    pub(super) fn damage(&mut self, extent: Extent, message: impl Into<String>) -> Result<()> {
        self.tell(Severity::Damage, Some(extent), message.into())
    }

    /// Damage that an error tells of; `at` if it does not say where.
    pub(super) fn failed(&mut self, error: &Error, at: Option<Extent>) -> Result<()> {
        let extent = error.extent().or(at);
        self.tell(Severity::Damage, extent, message_of(error))
    }

    pub(super) fn tally(&mut self, part: Part) -> &mut TreeSummary {
        match part {
            Part::User => &mut self.summary.user,
            Part::System => &mut self.summary.system,
            Part::Kept => &mut self.summary.kept,
            Part::Pending => &mut self.summary.pending,
        }
    }

    /// What follows belongs to versions that share much with what was read before.
    pub(super) fn begin_older(&mut self) {
        self.older = true;
    }

    /// Whether exactly this was entered before, by a version that may share it.
    fn was_seen(&self, extent: Extent, birth: Birth) -> bool {
        self.older
            && self
                .seen
                .as_ref()
                .is_some_and(|seen| seen.contains(&(extent, birth)))
    }

    /// Enters an extent that stands on a list: a page, or a part of a value, be it of one that has more.
    pub(super) fn reach_listed(&mut self, extent: Extent, birth: Birth) -> Result<()> {
        if self.audit.has_only_values(extent) {
            self.clones.reach(extent, birth);
            let _ = self.audit.reach(extent, Holder::Root);
            self.audit.is_of_value(extent);
            return Ok(());
        }
        self.reach((extent, birth), Holder::Root, "an extent on a list")?;
        Ok(())
    }

    /// Enters an extent into the audit; says whether it is the first to have its sectors.
    pub(super) fn reach(
        &mut self,
        (extent, birth): (Extent, Birth),
        holder: Holder,
        what: &str,
    ) -> Result<bool> {
        if self.was_seen(extent, birth) {
            return Ok(false);
        }
        match self.audit.reach(extent, holder) {
            Ok(()) => {
                if let Some(seen) = &mut self.seen {
                    seen.insert((extent, birth));
                }
                Ok(true)
            }
            Err(refusal) => {
                self.damage(extent, format!("{what} {}", refusal_message(refusal)))?;
                Ok(false)
            }
        }
    }

    /// Reads a page of a tree, checks it alone, and enters it. `None`: there is a finding instead,
    /// and what is below stays unknown.
    pub(super) async fn page(
        &mut self,
        pointer: &PagePointer,
        expect: Expect,
    ) -> Result<Option<Vec<u8>>> {
        let extent = pointer.extent();
        if !self.audit.has(extent) {
            self.incomplete = true;
            self.damage(
                extent,
                "a pointer names a page that lies outside of the store",
            )?;
            return Ok(None);
        }
        if self.was_seen(extent, pointer.birth) {
            return Ok(None);
        }
        let read = self.disk.read(extent).await.and_then(|bytes| {
            pointer.verify(self.root.store, &bytes)?;
            check(pointer, &bytes)?;
            if !expect.admits(&Page::new(&bytes)) {
                let message = format!("a page is not what its pointer promises: {expect:?}");
                return Err(Error::corrupt_at(extent, message));
            }
            Ok(bytes)
        });
        match read {
            Ok(bytes) => {
                if self.reach((extent, pointer.birth), Holder::Root, "a page")? {
                    return Ok(Some(bytes));
                }
            }
            Err(error) => {
                // Its sectors are taken, whatever is in them.
                let _ = self.audit.reach(extent, Holder::Root);
                self.failed(&error, Some(extent))?;
            }
        }
        self.incomplete = true;
        Ok(None)
    }

    /// Reads an off-tree value that something at `at` names, and enters its extents.
    pub(super) async fn value(
        &mut self,
        payload: &[u8],
        holder: Holder,
        at: Option<Extent>,
    ) -> Result<Option<OffTree>> {
        match self.try_value(payload, holder).await {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                self.incomplete = true;
                self.failed(&error, at)?;
                Ok(None)
            }
        }
    }

    /// The same, with an error in the place of a finding.
    pub(super) async fn try_value(&mut self, payload: &[u8], holder: Holder) -> Result<OffTree> {
        let value = OffTree::from_payload(payload)?;
        if self.was_seen(value.root.extent, value.root.birth) {
            return Ok(value);
        }
        let (audit, seen, clones) = (&mut self.audit, &mut self.seen, &mut self.clones);
        let (older, repeats) = (self.older, &mut self.repeats);
        // Values end here at the first extent that was seen before, or a hostile index could name
        // one page from many places; but an older version's value may have parts of a newer one's.
        let enter = |extent, birth| {
            let Some(seen) = seen else {
                let refused = audit.reach(extent, holder);
                return refused.map_err(|refusal| overlapping(extent, refusal));
            };
            let parts = match holder {
                Holder::Root => clones.reach(extent, birth),
                Holder::Log => vec![(extent, false)],
            };
            for (part, is_cloned) in parts {
                let may_share = holder == Holder::Root && audit.has_only_values(part);
                let repeats_max = (seen.len() + 1) * REPEATS_MAX;
                match audit.reach(part, holder) {
                    Err(Refusal::Shared) if may_share && is_cloned => {}
                    Err(Refusal::Shared) if may_share && older && *repeats < repeats_max => {
                        *repeats += 1;
                    }
                    refused => refused.map_err(|refusal| overlapping(extent, refusal))?,
                }
            }
            seen.insert((extent, birth));
            audit.is_of_value(extent);
            Ok(())
        };
        let store = self.root.store;
        let pages = DiskPages::new(self.disk.clone(), store);
        let reader = ValueReader::new(self.disk.clone(), store, payload)?;
        match (self.values, holder) {
            // What the log names may share extents with what the trees have, or the log before it.
            (true, Holder::Log) => reader.verify_own(payload, enter).await?,
            (false, Holder::Log) => drop(each_own_extent(payload, &pages, enter).await?),
            (true, Holder::Root) => reader.verify(enter).await?,
            (false, Holder::Root) => each_extent(&value, &pages, enter).await?,
        }
        Ok(value)
    }

    /// Whether the root record agrees with the disk and with itself.
    fn root_record(&mut self) -> Result<()> {
        let root = self.root;
        let properties = self.disk.properties();
        let (segment, sector) = (properties.segment_bytes, properties.sector_bytes);
        if (root.segment_bytes, root.sector_bytes) != (segment, sector) {
            self.tell(
                Severity::Damage,
                None,
                format!(
                    "the root record speaks of segments of {} bytes in sectors of {}, the disk has {segment} and {sector}",
                    root.segment_bytes, root.sector_bytes
                ),
            )?;
        }
        for (pointer, name) in [(&root.user, "user's"), (&root.system, "system")] {
            if pointer.birth > root.birth {
                let message =
                    format!("the root of the {name} tree is younger than the root record");
                self.damage(pointer.extent(), message)?;
            }
        }
        if root.user.newest > root.applied_through {
            let message = "the user's tree has later commits than the root record says";
            self.damage(root.user.extent(), message)?;
        }
        Ok(())
    }

    /// The tail of the space maps.
    async fn tail(&mut self) -> Result<()> {
        let tail = &self.root.tail;
        let extent = tail.extent;
        if extent.length == 0 {
            return Ok(());
        }
        let what = "the tail of the space maps";
        if !self.reach((extent, tail.birth), Holder::Root, what)? {
            self.incomplete = true;
            return Ok(());
        }
        if tail.birth > self.root.birth {
            self.damage(
                extent,
                "the tail of the space maps is younger than the root record",
            )?;
        }
        let read = self.disk.read(extent).await.and_then(|bytes| {
            if page_checksum(self.root.store, extent.address, tail.birth, &bytes) != tail.checksum {
                let message = "the checksum of the tail of the space maps does not match";
                return Err(Error::corrupt_at(extent, message));
            }
            self.audit.set_tail(&bytes)
        });
        match read {
            Ok(()) => Ok(()),
            Err(error) => {
                self.incomplete = true;
                self.failed(&error, Some(extent))
            }
        }
    }
}
