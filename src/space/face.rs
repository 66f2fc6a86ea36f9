//! [`Space`]: the face of this folder, one lock around its parts, and the loading of maps.
//!
//! Nothing of the caller's runs under the lock: a map is loaded without it and put in place
//! afterwards, and if two threads load the same one, the later finds the work done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use super::allocate::Cursor;
use super::geometry::{Geometry, Range};
use super::map::{Change, Map};
use super::pins::Held;
use super::recycle::Recycling;
use super::segments::{Segments, State};
use super::tail::Tail;
use crate::disk::{Properties, Release};
use crate::error::{Error, Result};
use crate::format::{Address, Extent};

/// Reads the encoded map of a segment from the system tree; `None` if there is none. Must give what
/// [`Space::encode_segment`] gave last for it before the newest [`Space::evict`].
pub(crate) type Loader = Box<dyn Fn(u32) -> Result<Option<Vec<u8>>> + Send + Sync>;

/// What an extent is allocated for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// A page that the next root will reach.
    Tree,
    /// An off-tree value or a spilled run that no tree contains yet.
    Unattached,
    /// A chunk of the commit log.
    Log,
    /// Room kept for a full disk; see [`Space::add_reserve`].
    Reserve,
}

/// Whether an allocation may use the room that is kept for a full disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Urgency {
    Ordinary,
    Emergency,
}

/// How much space is used for what, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Statistics {
    /// Segments that exist.
    pub(crate) segments: u32,
    /// Segments whose map is in memory.
    pub(crate) segments_loaded: usize,
    /// What the newest version of the trees reaches, with what is dropped but not yet expanded.
    pub(crate) tree_bytes: u64,
    /// Extents that no tree contains yet.
    pub(crate) unattached_bytes: u64,
    /// Chunks of the commit log.
    pub(crate) log_bytes: u64,
    /// Room kept for a full disk.
    pub(crate) reserve_bytes: u64,
    /// Dropped extents that may not be used again yet.
    pub(crate) dropped_bytes: u64,
    /// What may be allocated in segments that exist.
    pub(crate) free_bytes: u64,
    /// Subtrees and values of which only the root was dropped so far.
    pub(crate) pending_items: usize,
}

/// Allocates and frees the extents of a store. All of it may be called from any thread.
pub(crate) struct Space {
    inner: Mutex<Inner>,
    /// `None`: all maps stay in memory.
    loader: Option<Loader>,
    pub(super) geometry: Geometry,
}

pub(super) struct Inner {
    pub(super) segments: Segments,
    pub(super) cursors: [Cursor; 4],
    pub(super) recycling: Recycling,
    /// The extents that are held for ever: the log's and the reserve's that is not ready yet.
    pub(super) fixed: BTreeMap<Address, (u32, Owner)>,
    /// Ranges ready for an emergency.
    pub(super) reserve: Vec<Range>,
    pub(super) reserve_sectors_wanted: u64,
    /// From here on the store is being emptied.
    pub(super) avoided_from: Option<Address>,
    /// Extents go where they leave no small rest.
    pub(super) fits_closely: bool,
}

impl Inner {
    /// The sectors that the log has, and those that the reserve has, ready or not.
    fn fixed_sectors(&self) -> (u64, u64) {
        let of = |wanted| {
            let fixed = self.fixed.values().filter(|(_, owner)| *owner == wanted);
            fixed.map(|(sectors, _)| u64::from(*sectors)).sum::<u64>()
        };
        let ready = self.reserve.iter().map(|range| u64::from(range.sectors));
        (of(Owner::Log), of(Owner::Reserve) + ready.sum::<u64>())
    }

    /// The sectors that the log and the reserve have in each segment.
    pub(super) fn fixed_in_segments(&self) -> BTreeMap<u32, u64> {
        let fixed = self.fixed.iter();
        let fixed = fixed.map(|(address, (sectors, _))| (address.segment(), *sectors));
        let ready = self.reserve.iter();
        let ready = ready.map(|range| (range.segment, range.sectors));
        let mut found = BTreeMap::new();
        for (segment, sectors) in fixed.chain(ready) {
            *found.entry(segment).or_default() += u64::from(sectors);
        }
        found
    }
}

impl Space {
    /// The space of an empty store that keeps all maps in memory. Segments are added as they are
    /// needed. A store whose maps are written somewhere begins with [`Self::open`] and no segments.
    pub(crate) fn new(properties: &Properties) -> Self {
        Self::with_segments(Geometry::new(properties), 0, None)
    }

    /// The space of a store that has `segments` segments, whose maps come from `loader`.
    ///
    /// In this order, before anything is allocated, the caller then
    /// 1. gives every block of the summary to [`Self::apply_summary`],
    /// 2. the tail, if there is one, to [`Self::apply_tail`],
    /// 3. calls [`Self::set_current`] and, for each durable root, [`Self::keep_root`],
    /// 4. gives what was pending to [`Self::drop_item`],
    /// 5. gives the chunks of the log, and what unattached extents its records name, to
    ///    [`Self::mark_used`].
    pub(crate) fn open(properties: &Properties, segments: u64, loader: Loader) -> Result<Self> {
        let geometry = Geometry::new(properties);
        let count = u32::try_from(segments)
            .ok()
            .filter(|count| *count <= geometry.segments_max)
            .ok_or_else(|| {
                Error::corrupt(format!(
                    "the store says that it has {segments} segments, its disk has room for {}",
                    geometry.segments_max
                ))
            })?;
        Ok(Self::with_segments(geometry, count, Some(loader)))
    }

    fn with_segments(geometry: Geometry, count: u32, loader: Option<Loader>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                segments: Segments::new(geometry.clone(), count),
                cursors: [Cursor::default(); 4],
                recycling: Recycling::default(),
                fixed: BTreeMap::new(),
                reserve: Vec::new(),
                reserve_sectors_wanted: 0,
                avoided_from: None,
                fits_closely: false,
            }),
            loader,
            geometry,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing of the caller's runs under this lock, so nothing panics")
    }

    /// Allocates `bytes` bytes, whole sectors of one segment, beside what was allocated for this
    /// owner before if possible.
    ///
    /// Looks through segments whose maps are in memory, then loads others that have room, then adds
    /// a segment. Errors: `StorageFull`; what the loader says; `Corrupt` if a loaded map is damaged;
    /// `InvalidArgument` for nothing or for more than a segment.
    pub(crate) fn allocate(&self, bytes: u32, owner: Owner, urgency: Urgency) -> Result<Extent> {
        self.allocate_in(bytes, owner, urgency, true)
    }

    /// The same for a tree, but not in what is to be [avoided](Self::avoid), nor in the reserve.
    pub(crate) fn allocate_before_end(&self, bytes: u32) -> Result<Extent> {
        self.allocate_in(bytes, Owner::Tree, Urgency::Ordinary, false)
    }

    fn allocate_in(
        &self,
        bytes: u32,
        owner: Owner,
        urgency: Urgency,
        anywhere: bool,
    ) -> Result<Extent> {
        let sectors = self.geometry.sectors_for(bytes)?;
        let mut loads = 0;
        loop {
            use super::allocate::Attempt;
            let number = match self
                .lock()
                .allocate(sectors, owner, urgency, (loads, anywhere))
            {
                Attempt::Done(range) => {
                    return Ok(Extent::new(self.geometry.address(range), bytes));
                }
                Attempt::Load(number) => number,
                Attempt::Full => return Err(super::allocate::full(bytes)),
            };
            drop(self.loaded(number)?);
            loads += 1;
        }
    }

    /// Locks, with the map of a segment in memory if the segment exists.
    pub(super) fn loaded(&self, number: u32) -> Result<MutexGuard<'_, Inner>> {
        loop {
            let mut inner = self.lock();
            let Some(unloads) = inner.segments.must_load(number) else {
                return Ok(inner);
            };
            drop(inner);
            let bytes = match &self.loader {
                Some(loader) => loader(number)?,
                None => None,
            };
            let map = Map::decode(bytes.as_deref().unwrap_or_default(), self.geometry.sectors)
                .map_err(|error| error.while_doing(&format!("loading segment {number}")))?;
            self.lock().segments.install(number, unloads, map)?;
        }
    }

    /// An unattached extent is now contained in a tree.
    pub(crate) fn attach(&self, extent: Extent) -> Result<()> {
        let range = self.geometry.range(extent)?;
        self.lock().segments.change(range, Change::Attach)
    }

    /// Frees an extent that nobody but its owner ever could see: an unattached one, one allocated
    /// for a tree that was never published, or a chunk of the log. It is used again after the
    /// present generation.
    pub(crate) fn abandon(&self, extent: Extent) -> Result<()> {
        let range = self.geometry.range(extent)?;
        let mut inner = self.lock();
        inner.fixed.remove(&extent.address);
        let held = inner.segments.get(range.segment).is_some_and(|segment| {
            matches!(&segment.state, State::Loaded(map)
                if map.held.all(range.start, range.sectors))
        });
        if !held {
            inner.segments.change(range, Change::Hold)?;
        }
        inner.recycling.abandon(range);
        Ok(())
    }

    /// After opening, before anything is allocated: an extent that the log, or a record that the log
    /// replays, has in use. `Corrupt` if it does not exist or is in use already.
    pub(crate) fn mark_used(&self, extent: Extent, owner: Owner) -> Result<()> {
        let range = self.geometry.range(extent)?;
        self.lock().segments.grow(range.segment + 1);
        let mut inner = self.loaded(range.segment)?;
        let free = inner
            .segments
            .get(range.segment)
            .is_some_and(|segment| match &segment.state {
                State::Fresh => true,
                State::Loaded(map) => map.used.none(range.start, range.sectors),
                State::Unloaded(_) => false,
            });
        if !free {
            return Err(Error::corrupt_at(
                extent,
                "the log names an extent that is in use already",
            ));
        }
        inner.segments.take(range, owner != Owner::Tree);
        if matches!(owner, Owner::Log | Owner::Reserve) {
            let entry = (range.sectors, owner);
            inner.fixed.insert(extent.address, entry);
        }
        Ok(())
    }

    /// How many segments there are: for the root record, after [`Self::encode_tail`].
    pub(crate) fn segments(&self) -> u64 {
        self.lock().segments.count().into()
    }

    /// The segments whose durable view changed since this was last called, for a checkpoint to write.
    /// Some may not exist any more. The blocks of the summary to write are those they belong to:
    /// their numbers divided by [`SUMMARY_SEGMENTS`](super::SUMMARY_SEGMENTS).
    ///
    /// If the checkpoint fails, [`Self::put_back_changed`] undoes this.
    pub(crate) fn changed_segments(&self) -> Vec<u32> {
        let changed = std::mem::take(&mut self.lock().segments.changed);
        changed.into_iter().collect()
    }

    /// These segments are still to be written by a checkpoint.
    pub(crate) fn put_back_changed(&self, segments: &[u32]) {
        self.lock().segments.changed.extend(segments);
    }

    /// The durable view of a segment as bytes: none if it is empty or does not exist. At most one
    /// byte more than an eighth of the sectors of a segment.
    pub(crate) fn encode_segment(&self, segment: u32) -> Result<Vec<u8>> {
        let inner = self.loaded(segment)?;
        Ok(match inner.segments.get(segment) {
            Some(segment) => match &segment.state {
                State::Loaded(map) => map.encode(self.geometry.sectors),
                State::Fresh | State::Unloaded(_) => Vec::new(),
            },
            None => Vec::new(),
        })
    }

    /// A block of the summary as bytes: none if its segments are empty or do not exist.
    pub(crate) fn encode_summary(&self, block: u32) -> Vec<u8> {
        self.lock().segments.encode_summary(block)
    }

    /// After opening: a block of the summary, which may be damaged.
    pub(crate) fn apply_summary(&self, block: u32, bytes: &[u8]) -> Result<()> {
        self.lock().segments.apply_summary(block, bytes)
    }

    /// Begins to record changes of the durable view. A checkpoint does so before it asks for
    /// [`Self::changed_segments`].
    pub(crate) fn begin_tail(&self) {
        self.lock().segments.tail = Some(Tail::default());
    }

    /// How many bytes the tail takes at most, if one more extent is allocated and nothing else.
    pub(crate) fn tail_bytes_max(&self) -> usize {
        let inner = self.lock();
        inner.segments.tail.as_ref().map_or(0, Tail::bytes_max)
    }

    /// Ends the recording: `length` bytes, to be written to an extent of this length that was
    /// allocated for the tree after asking for [`Self::tail_bytes_max`] and nothing else since.
    /// `None`, and the recording goes on, if the list is longer.
    pub(crate) fn encode_tail(&self, length: usize) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let bytes = inner.segments.tail.as_ref()?.encode(length)?;
        inner.segments.tail = None;
        Some(bytes)
    }

    /// After opening: the tail, which may be damaged. Its segments count as changed.
    pub(crate) fn apply_tail(&self, bytes: &[u8]) -> Result<()> {
        let mut inner = self.lock();
        let count = inner.segments.count();
        for (range, taken) in Tail::decode(bytes, &self.geometry, count)? {
            let change = if taken { Change::Take } else { Change::Give };
            inner.segments.change(range, change)?;
        }
        Ok(())
    }

    /// Forgets maps that equal what is on the disk, so that at most about `segments` are in memory.
    /// Called after a root was published, while no checkpoint is under way.
    pub(crate) fn evict(&self, segments: usize) {
        if self.loader.is_none() {
            return;
        }
        let inner = &mut *self.lock();
        let spared = inner.cursors.map(|cursor| cursor.segment);
        inner.segments.evict(segments, &spared);
    }

    /// How many bytes are to be kept ready for a full disk.
    pub(crate) fn set_reserve(&self, bytes: u64) {
        let inner = &mut *self.lock();
        inner.reserve_sectors_wanted = bytes.div_ceil(self.geometry.sector_bytes.into());
        while let Some(range) = inner.reserve.last().copied() {
            let left = inner.fixed_sectors().1 - u64::from(range.sectors);
            if left < inner.reserve_sectors_wanted {
                break;
            }
            inner.reserve.pop();
            let freed = inner.segments.change(range, Change::Free);
            debug_assert!(freed.is_ok(), "the reserve is held");
        }
    }

    /// How many bytes the reserve lacks: to be allocated with [`Owner::Reserve`], prepared on the
    /// disk and given to [`Self::add_reserve`], or to [`Self::abandon`] if preparing fails.
    pub(crate) fn reserve_missing(&self) -> u64 {
        let inner = self.lock();
        let (_, present) = inner.fixed_sectors();
        let missing = inner.reserve_sectors_wanted.saturating_sub(present);
        self.geometry.bytes(missing)
    }

    /// An extent allocated with [`Owner::Reserve`] is ready for an emergency.
    pub(crate) fn add_reserve(&self, extent: Extent) -> Result<()> {
        let range = self.geometry.range(extent)?;
        let mut inner = self.lock();
        match inner.fixed.remove(&extent.address) {
            Some((sectors, Owner::Reserve)) if sectors == range.sectors => {
                inner.reserve.push(range);
                Ok(())
            }
            _ => Err(Error::invalid("the extent was not allocated as a reserve")),
        }
    }

    /// The store is being emptied from here on: nothing is allocated there while there is other
    /// room. Replaces what was said before.
    pub(crate) fn avoid(&self, from: Option<Address>) {
        let mut inner = self.lock();
        inner.avoided_from = from;
        inner.segments.has_more_room();
        // What is copied from there fills the store from its beginning.
        inner.cursors = Default::default();
    }

    /// Whether extents go where they leave no small rest, which takes longer to find.
    pub(crate) fn fit_closely(&self, closely: bool) {
        self.lock().fits_closely = closely;
    }

    /// Whether the store is being compacted.
    pub(crate) fn is_fitting_closely(&self) -> bool {
        self.lock().fits_closely
    }

    /// Whole segments that hold nothing, to be given back to the disk. Nothing is allocated in them
    /// until [`Self::released`] is called, which must follow. Loads maps of segments that the
    /// summary shows empty.
    pub(crate) fn releasable(&self) -> Result<Vec<Release>> {
        let mut from = 0;
        loop {
            let inner = self.lock();
            let count = inner.segments.count();
            let found = inner.segments.find(from, count, |_, segment| {
                matches!(segment.state, State::Unloaded(_)) && segment.durable + segment.held == 0
            });
            drop(inner);
            let Some(number) = found else {
                break;
            };
            drop(self.loaded(number)?);
            from = number + 1;
        }
        let mut inner = self.lock();
        let mut releases = Vec::new();
        let mut from = 0;
        let count = inner.segments.count();
        while let Some(number) = inner.segments.find(from, count, |_, segment| {
            segment.is_empty() && !segment.withheld && !segment.punched
        }) {
            from = number + 1;
            if let Some(segment) = inner.segments.get_mut(number) {
                segment.withheld = true;
                releases.push(Release {
                    extent: Extent::new(Address::new(number, 0), self.geometry.segment_bytes),
                });
            }
        }
        Ok(releases)
    }

    /// The disk has released these segments, or failed to: they may be used again. Empty segments at
    /// the end of the store, once released, do not exist any more.
    pub(crate) fn released(&self, releases: &[Release], done: bool) {
        let mut inner = self.lock();
        for release in releases {
            if let Some(segment) = inner.segments.get_mut(release.extent.address.segment()) {
                segment.withheld = false;
                segment.punched = done;
            }
        }
        inner.segments.has_more_room();
        while let Some(last) = inner.segments.count().checked_sub(1)
            && let Some(segment) = inner.segments.get(last)
            && segment.is_empty()
            && segment.punched
        {
            inner.segments.shrink();
        }
    }

    /// What the space is used for.
    pub(crate) fn statistics(&self) -> Statistics {
        let inner = self.lock();
        let totals = inner.segments.totals;
        let (log, reserve) = inner.fixed_sectors();
        let dropped = inner.recycling.held_sectors();
        let bytes = |sectors| self.geometry.bytes(sectors);
        let count = inner.segments.count();
        let limit = match count.checked_sub(1) {
            None => 0,
            Some(last) => {
                u64::from(last) * u64::from(self.geometry.sectors)
                    + u64::from(self.geometry.limit(last))
            }
        };
        Statistics {
            segments: count,
            segments_loaded: inner.segments.loaded(),
            tree_bytes: bytes(totals.durable),
            unattached_bytes: bytes(totals.held.saturating_sub(log + reserve + dropped)),
            log_bytes: bytes(log),
            reserve_bytes: bytes(reserve),
            dropped_bytes: bytes(dropped),
            free_bytes: bytes(limit.saturating_sub(totals.durable + totals.held)),
            pending_items: inner.recycling.pending_items(),
        }
    }

    /// Each kept generation, oldest first, with the bytes that it, and perhaps older ones, but no
    /// newer one keeps from being used again, and how often roots keep it. Off-tree values not yet
    /// expanded are not counted.
    pub(crate) fn pins(&self) -> Vec<(Held, u64)> {
        self.lock().recycling.pins()
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Space").field(&self.statistics()).finish()
    }
}
