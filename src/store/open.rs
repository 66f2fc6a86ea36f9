//! Opening: from a root record, the space maps and the log to a store that serves.
//!
//! A store that is opened for writing first finishes what a crash interrupted, and serves nothing
//! before that is durable: the accepted part of the log is copied to a fresh chunk, and a root that
//! names the copy is published into both slots. What the page cache shows after a kill, or after a
//! failed sync, may not be on the disk; after this it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use bytes::Bytes;
use smallvec::SmallVec;

use super::Store;
use super::bases::Bases;
use super::catalogue::Catalogue;
use super::checkpoint::{DISK_BLOCK_BYTES, NewRoot, verify_tail};
use super::compact::give_back_vacant;
use super::core::{Core, Log, Parts};
use super::gate::lock;
use super::kept::Kept;
use super::maintenance::{LoggedValue, Maintaining, Worker};
use super::options::{Maintenance, Options};
use super::random;
use crate::cache::FrameTable;
use crate::disk::{Disk, block_on};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record::{Record, SYSTEM_TREE, Tag, USER_TREE};
use crate::format::{
    Address, Birth, Extent, PagePointer, RootRecord, SequenceNumber, Settings, SpaceTail, StoreId,
};
use crate::log::replay::{LoggedGroup, Replay};
use crate::log::writer::LogWriter;
use crate::snapshot::names::check_record;
use crate::snapshot::{CachedPages, Version, each_pending, read_pieces};
use crate::space::{Owner, SUMMARY_SEGMENTS, Space, Urgency, catalogue};
use crate::trace::{self, Began};
use crate::tree::journal::Journal;
use crate::tree::merge::stored_base;
use crate::tree::pages::Pages;
use crate::value::{OffTree, ValueReader, each_own_extent};

/// Opens the store on a disk, or creates it where the disk has none.
pub(super) async fn open(disk: Disk, options: Options) -> Result<Store> {
    let began = Began::now();
    let store = open_or_create(disk, options).await?;
    trace::opened(began, store.sequence(), store.shared.core.log.is_none());
    Ok(store)
}

async fn open_or_create(disk: Disk, options: Options) -> Result<Store> {
    let roots = disk.load_root().await?;
    if roots.records.is_empty() {
        return create(disk, options).await;
    }
    let root = choose(&roots.records)?;
    let properties = disk.properties();
    if (root.segment_bytes, root.sector_bytes)
        != (properties.segment_bytes, properties.sector_bytes)
    {
        return Err(Error::corrupt(format!(
            "the store was made on a disk with segments of {} and sectors of {} bytes, \
             this one has {} and {}",
            root.segment_bytes,
            root.sector_bytes,
            properties.segment_bytes,
            properties.sector_bytes
        )));
    }
    let read_only = options.read_only || properties.read_only;
    if !read_only {
        // A process that died may have left this root in the page cache alone. It must not be lost
        // after what only the root before it needs was written over.
        disk.sync().await?;
    }
    let system = Arc::new(Mutex::new(root.system));
    let pages = make_pages(
        disk,
        &options,
        root.store,
        root.settings,
        root.segments,
        &system,
    )?;
    let pending = load_space(&pages, &root, read_only).await?;
    for item in pending {
        // Nothing is read yet that is not in the root.
        let free_from = item.free_from.min(root.birth);
        pages.space.free_kept(item.into(), free_from)?;
    }
    let began = Began::now();
    let mut replay = match root.clean {
        true => Replay::of_closed(&pages.disk, &root.log, logged_through(&root))?,
        false => read_log(&pages.disk, &root).await?,
    };
    cut_at_lost_values(&pages, &root, &mut replay).await?;
    for chunk in replay.chunks() {
        if !read_only {
            pages.space.mark_used(*chunk, Owner::Log)?;
        }
    }
    let journal = Arc::new(Journal::new(options.journal_bytes));
    let bases = Bases::default();
    let Replayed {
        last,
        mut values,
        names,
    } = replay_into(&pages, &root, &replay, &journal, &bases, read_only).await?;
    let applied = root.applied_through;
    let kept = Kept::load(&pages, root.system, root.line, root.since).await?;
    let present = (root.line, root.since);
    let catalogue = Catalogue::open(
        &pages,
        root.system,
        root.birth,
        applied,
        present,
        names,
        read_only,
    )
    .await?;
    let commits = last.0.saturating_sub(root.applied_through.0);
    trace::recovered(began, commits, root.clean);
    let mut journals: SmallVec<[Arc<Journal>; 2]> = SmallVec::new();
    journals.push(Arc::new(Journal::new(options.journal_bytes)));
    if !journal.is_empty() {
        journals.push(journal);
    }
    let version = Version::new(
        Arc::clone(&pages),
        root.user,
        root.birth,
        journals,
        root.applied_through,
    );
    let state = Maintaining {
        birth: root.birth,
        unwritten: BTreeMap::new(),
        roots: vec![(root.version, root.birth, root.log)],
        tail: root.tail,
        epoch: root.epoch + 1,
        checkpointed: Some((root.user, root.applied_through)),
        flushed_bytes: 0,
        more_to_free: true,
    };
    let log = match read_only {
        true => None,
        false => Some(continue_log(&pages, &root, &replay, last).await?),
    };
    let position = (log.as_ref()).map(|log| log.writer.position_at_or_before(SequenceNumber(0)));
    let maintenance = options.maintenance;
    let core = Core::new(Parts {
        pages,
        options,
        version,
        published: last,
        log,
        maintaining: state,
        system,
        catalogue,
        kept,
    });
    let Some(position) = position else {
        return Ok(Store::new(core, None));
    };
    for value in values.values_mut() {
        value.base = value
            .base
            .take()
            .map(|base| Arc::new(core.bases.hold_too(&base)));
    }
    *lock(&core.values) = values;
    {
        let mut state = core.maintaining.lock().await;
        // Twice: once into each slot. The second one ends the need for what was there before.
        for _ in 0..2 {
            let root = NewRoot {
                user: root.user,
                applied_through: root.applied_through,
                log: position,
                clean: false,
            };
            let system = *lock(&core.system);
            core.publish_root(&mut state, &root, system).await?;
        }
        for chunk in replay.chunks() {
            core.pages.space.abandon(*chunk)?;
        }
    }
    finish(core, maintenance)
}

fn finish(core: Arc<Core>, maintenance: Maintenance) -> Result<Store> {
    let worker = match maintenance {
        Maintenance::Background => Some(Worker::start(&core)?),
        Maintenance::Caller => None,
    };
    core.work.give();
    Ok(Store::new(core, worker))
}

/// Makes a store where there is none.
async fn create(disk: Disk, mut options: Options) -> Result<Store> {
    if options.read_only || disk.properties().read_only {
        return Err(Error::new(
            ErrorKind::NotFound,
            "there is no store on the disk",
        ));
    }
    let segment_bytes = disk.properties().segment_bytes;
    options.settings.log_chunk_bytes = options.settings.log_chunk_bytes.min(segment_bytes / 2);
    options.settings.check(segment_bytes)?;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random::number().to_le_bytes());
    id[8..].copy_from_slice(&random::number().to_le_bytes());
    let store = StoreId(id);
    let system = Arc::new(Mutex::new(PagePointer::NOTHING));
    let pages = make_pages(disk, &options, store, options.settings, 0, &system)?;
    let sequence = SequenceNumber(1);
    let chunk = first_chunk(&pages).await?;
    let writer = new_writer(&pages, chunk, sequence);
    let position = writer.position();
    let log = Log {
        writer,
        next: sequence,
        deferred: Vec::new(),
        deferred_bytes: 0,
        unsynced: false,
        since_checkpoint: 0,
        until_told: 0,
    };
    let state = Maintaining {
        birth: Birth(0),
        unwritten: BTreeMap::new(),
        roots: Vec::new(),
        tail: SpaceTail {
            extent: Extent::new(Address::new(0, 0), 0),
            checksum: 0,
            birth: Birth(0),
        },
        epoch: 1,
        checkpointed: Some((PagePointer::NOTHING, SequenceNumber(0))),
        flushed_bytes: 0,
        more_to_free: false,
    };
    let journal = Arc::new(Journal::new(options.journal_bytes));
    let nothing = PagePointer::NOTHING;
    let through = SequenceNumber(0);
    let version = Version::new(Arc::clone(&pages), nothing, Birth(0), [journal], through);
    let present = (0, through);
    let kept = Kept::load(&pages, nothing, present.0, present.1).await?;
    let catalogue = Catalogue::open(
        &pages,
        nothing,
        Birth(0),
        through,
        present,
        Vec::new(),
        false,
    )
    .await?;
    let maintenance = options.maintenance;
    let core = Core::new(Parts {
        pages,
        options,
        version,
        published: through,
        log: Some(log),
        maintaining: state,
        system,
        catalogue,
        kept,
    });
    {
        let mut state = core.maintaining.lock().await;
        let root = NewRoot {
            user: nothing,
            applied_through: through,
            log: position,
            clean: false,
        };
        core.publish_root(&mut state, &root, nothing).await?;
    }
    finish(core, maintenance)
}

/// The newest root that is whole.
pub(super) fn choose(records: &[Bytes]) -> Result<RootRecord> {
    let mut newest: Option<RootRecord> = None;
    let mut failure = None;
    for record in records {
        match RootRecord::from_bytes(record) {
            Ok(root)
                if newest
                    .as_ref()
                    .is_none_or(|newest| newest.version < root.version) =>
            {
                newest = Some(root);
            }
            Ok(_) => {}
            // A root of another version may be the newer one: it is not passed over.
            Err(error) if error.kind() == ErrorKind::UnsupportedVersion => return Err(error),
            Err(error) => failure = Some(error),
        }
    }
    newest.ok_or_else(|| {
        failure
            .unwrap_or_else(|| Error::corrupt("the disk has no root record"))
            .while_doing("neither of the two root records is whole")
    })
}

pub(super) fn make_pages(
    disk: Disk,
    options: &Options,
    store: StoreId,
    settings: Settings,
    segments: u64,
    system: &Arc<Mutex<PagePointer>>,
) -> Result<Arc<Pages>> {
    let shared: Arc<OnceLock<Weak<Pages>>> = Arc::default();
    let loader = {
        let (shared, system) = (Arc::clone(&shared), Arc::clone(system));
        move |segment| {
            let pages = shared.get().and_then(Weak::upgrade);
            let pages = pages.ok_or_else(|| {
                Error::new(
                    ErrorKind::Closed,
                    "the store was closed while space was allocated",
                )
            })?;
            let (low, end) = catalogue::segment_range(segment);
            let version = system_version(&pages, *lock(&system));
            let map = block_on(read_pieces(&version, &low, &end))?;
            Ok((!map.is_empty()).then_some(map))
        }
    };
    let space = Space::open(disk.properties(), segments, Box::new(loader))?;
    let readahead = options.readahead_on(disk.properties());
    let pages = Arc::new(Pages {
        readahead,
        frames: FrameTable::new(options.cache_bytes),
        disk,
        space,
        store,
        settings,
        operators: options.operators.clone(),
        compression: options.compression,
    });
    shared.get_or_init(|| Arc::downgrade(&pages));
    Ok(pages)
}

/// The system tree of a root, to be read.
pub(super) fn system_version(pages: &Arc<Pages>, root: PagePointer) -> Arc<Version> {
    Version::new(Arc::clone(pages), root, root.birth, [], SequenceNumber(0))
}

/// Makes the space as the root has it; gives the items that are still to be freed.
async fn load_space(
    pages: &Arc<Pages>,
    root: &RootRecord,
    read_only: bool,
) -> Result<Vec<crate::space::PendingItem>> {
    let space = &pages.space;
    if read_only {
        return Ok(Vec::new());
    }
    let system = system_version(pages, root.system);
    for block in 0..root.segments.div_ceil(u64::from(SUMMARY_SEGMENTS)) as u32 {
        let (low, end) = catalogue::summary_range(block);
        let summary = read_pieces(&system, &low, &end).await?;
        if !summary.is_empty() {
            space.apply_summary(block, &summary)?;
        }
    }
    if root.tail.extent.length > 0 {
        let bytes = pages.disk.read(root.tail.extent).await?;
        verify_tail(&root.tail, root.store, &bytes)?;
        space.apply_tail(&bytes)?;
    }
    space.set_current(root.birth);
    space.keep_root(root.birth);
    let mut pending = Vec::new();
    each_pending(&system, |_, item| {
        pending.push(item);
        Ok(())
    })
    .await?;
    Ok(pending)
}

/// Reads the log from the root's position on.
pub(super) async fn read_log(disk: &Disk, root: &RootRecord) -> Result<Replay> {
    Replay::read(disk, root.store, &root.log, logged_through(root)).await
}

/// Through which commit the log must be whole.
fn logged_through(root: &RootRecord) -> SequenceNumber {
    let applied = root.applied_through;
    // The root of a large transaction is published before the mark of its commit is logged, at the
    // very position that the root names. Whatever else a root contains was synced in the log.
    // Names of later commits are in the system tree only if these were synced, too.
    match root.log.sequence == applied {
        true => SequenceNumber(applied.0.saturating_sub(1)),
        false => applied.max(root.system.newest),
    }
}

/// What a commit has beside operations on the user's tree alone.
#[derive(Default)]
struct Named {
    /// Off-tree values.
    values: Vec<Vec<u8>>,
    /// Whether it does anything to names of snapshots.
    names: bool,
}

/// What a commit names.
fn named_in(records: &[u8]) -> Result<Named> {
    let mut named = Named::default();
    let mut at = 0;
    while at < records.len() {
        let (record, taken) = Record::read(&records[at..])?;
        at += taken;
        let values = &mut named.values;
        match record.tag {
            _ if record.tree == SYSTEM_TREE => {
                check_record(&record)?;
                named.names = true;
            }
            Tag::OffTree => values.push(record.payload.to_vec()),
            Tag::Merge => {
                if let Some((Tag::OffTree, payload)) = stored_base(record.payload) {
                    values.push(payload.to_vec());
                }
            }
            Tag::Elsewhere => {
                return Err(Error::corrupt(
                    "a commit that only a newer root contains: that root is damaged",
                ));
            }
            _ => {}
        }
    }
    Ok(named)
}

/// Cuts the log at the first commit whose off-tree values did not reach the disk. Only commits that
/// are not known to have been synced can be such.
async fn cut_at_lost_values(
    pages: &Arc<Pages>,
    root: &RootRecord,
    replay: &mut Replay,
) -> Result<()> {
    let mut lost = None;
    for commit in replay.commits() {
        if commit.sequence <= root.applied_through || commit.synced {
            continue;
        }
        for payload in named_in(&commit.records)?.values {
            let verified = async {
                let reader = ValueReader::new(pages.disk.clone(), root.store, &payload)?;
                reader.verify_own(&payload, |_, _| Ok(())).await
            };
            match verified.await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    lost = Some(commit.sequence);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if lost.is_some() {
            break;
        }
    }
    match lost {
        Some(sequence) => replay.cut_before(sequence),
        None => Ok(()),
    }
}

/// What replay found beside the user's operations.
struct Replayed {
    last: SequenceNumber,
    /// Off-tree values that no tree has.
    values: HashMap<Address, LoggedValue>,
    /// The commits that do something to names of snapshots.
    names: Vec<(Bytes, SequenceNumber)>,
}

/// Enters the log's commits into a journal and marks what they name as used.
async fn replay_into(
    pages: &Arc<Pages>,
    root: &RootRecord,
    replay: &Replay,
    journal: &Journal,
    bases: &Bases,
    read_only: bool,
) -> Result<Replayed> {
    let mut values = HashMap::new();
    let mut names = Vec::new();
    let mut last = root.applied_through;
    let source = CachedPages {
        pages: Arc::clone(pages),
    };
    for commit in replay.commits() {
        if commit.sequence <= root.applied_through {
            continue;
        }
        let named = named_in(&commit.records)?;
        if named.names {
            names.push((commit.records.clone(), commit.sequence));
        }
        for payload in named.values {
            if read_only {
                break;
            }
            let mut extents = Vec::new();
            let value = each_own_extent(&payload, &source, |extent, _| {
                pages.space.mark_used(extent, Owner::Unattached)?;
                extents.push(extent);
                Ok(())
            })
            .await?;
            let (_, base) = OffTree::with_base(&payload)?;
            let logged = LoggedValue {
                birth: value.root.birth,
                extents,
                base: base.map(|base| Arc::new(bases.hold(&base))),
            };
            values.insert(value.root.extent.address, logged);
        }
        last = commit.sequence;
    }
    let commits = replay.commits();
    let newer = commits.filter(|commit| commit.sequence > root.applied_through);
    let newer = newer.map(|commit| (commit.records, commit.sequence));
    journal.append_all(newer, USER_TREE)?;
    Ok(Replayed {
        last,
        values,
        names,
    })
}

/// In how many places of a full disk room is looked for.
const PLACES_MAX: usize = 32;

/// Allocates an extent and prepares it. A disk may be full where its file has holes, and yet have
/// room for what goes where the file was written before.
pub(super) async fn prepared(
    pages: &Pages,
    bytes: u32,
    owner: Owner,
    urgency: Urgency,
) -> Result<Extent> {
    let mut full = Vec::new();
    let outcome = loop {
        let extent = match pages.space.allocate(bytes, owner, urgency) {
            Ok(extent) => extent,
            Err(error) => break Err(error),
        };
        match pages.disk.prepare(extent).await {
            Ok(()) => break Ok(extent),
            Err(error) => {
                full.push(extent);
                if error.kind() != ErrorKind::StorageFull || full.len() >= PLACES_MAX {
                    break Err(error);
                }
            }
        }
    };
    for extent in full {
        pages.space.abandon(extent)?;
    }
    outcome
}

/// The first chunk of the log is this short: to prepare a whole one takes longer than all else that
/// opening does, and is done beside the first commits. See [`LogWriter::wants_chunk`].
const FIRST_CHUNK_BYTES: u32 = 256 << 10;

/// The chunk of a log in which there is nothing yet.
async fn first_chunk(pages: &Pages) -> Result<Extent> {
    prepared_chunk(pages, FIRST_CHUNK_BYTES.min(pages.settings.log_chunk_bytes)).await
}

async fn prepared_chunk(pages: &Pages, bytes: u32) -> Result<Extent> {
    let chunk = || prepared(pages, bytes, Owner::Log, Urgency::Emergency);
    let mut ready = chunk().await;
    if let Err(error) = &ready
        && error.kind() == ErrorKind::StorageFull
        && give_back_vacant(pages, DISK_BLOCK_BYTES).await? > 0
    {
        ready = chunk().await;
    }
    ready.map_err(|error| error.while_doing("preparing a chunk of the commit log"))
}

fn new_writer(pages: &Pages, chunk: Extent, next: SequenceNumber) -> LogWriter {
    let sector_bytes = pages.disk.properties().sector_bytes;
    let chunk_bytes = pages.settings.log_chunk_bytes;
    LogWriter::new(
        pages.store,
        sector_bytes,
        chunk_bytes,
        chunk,
        random::number(),
        next,
    )
}

/// How many bytes of groups become one group when they are copied: each begins a sector, and takes a
/// write.
const JOINED_BYTES: usize = 256 << 10;

/// How many groups, one at least, are copied together.
fn joined(groups: &[&LoggedGroup], bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |group: &&&LoggedGroup| {
        bytes += group.bytes();
        bytes <= bytes_max
    };
    groups.iter().take_while(fits).count().max(1)
}

/// Copies what replay accepted to a fresh chunk, durably.
async fn continue_log(
    pages: &Arc<Pages>,
    root: &RootRecord,
    replay: &Replay,
    last: SequenceNumber,
) -> Result<Log> {
    let through = replay.last_sequence().max(root.applied_through).max(last);
    let accepted: Vec<_> = replay
        .groups()
        .iter()
        .filter(|group| group.last() > root.applied_through)
        .collect();
    let first = accepted
        .first()
        .map_or(through.next(), |group| group.first());
    let chunk = match accepted.is_empty() {
        true => first_chunk(pages).await?,
        false => prepared_chunk(pages, pages.settings.log_chunk_bytes).await?,
    };
    let mut writer = new_writer(pages, chunk, first);
    let joined_bytes_max = JOINED_BYTES.min(pages.settings.log_chunk_bytes as usize / 4);
    let mut rest = &accepted[..];
    while !rest.is_empty() {
        let (joined, others) = rest.split_at(joined(rest, joined_bytes_max));
        rest = others;
        let saved = loop {
            match writer.append_accepted(joined, replay.last_sequence()) {
                Ok(saved) => break saved,
                Err(need) => {
                    let bytes = u32::try_from(need.bytes)
                        .map_err(|_| Error::corrupt("a group of the log exceeds a segment"))?;
                    let chunk = prepared_chunk(pages, bytes).await?;
                    writer.add_chunk(chunk, random::number());
                }
            }
        };
        pages.disk.save(saved, false).await?;
    }
    if !accepted.is_empty() {
        let synced = writer.begin_sync();
        pages.disk.sync().await?;
        writer.synced_through(synced);
    }
    Ok(Log {
        writer,
        next: through.next(),
        deferred: Vec::new(),
        deferred_bytes: 0,
        unsynced: false,
        since_checkpoint: 0,
        until_told: 0,
    })
}
