//! The table that owns all pages in memory, keyed by address and birth.
//!
//! Invariant: under the lock of its shard, a page is in the map exactly if its frame is published.
//! Look-ups pass the map by: the parent's hint says where the frame is, and the frame says whether
//! that is still true. The tree looks up, loads and installs; the checkpoint marks what it wrote.

use std::hash::{BuildHasher, RandomState};

use crossbeam_epoch::Guard;
use hashbrown::HashTable;

use super::eviction::Clock;
use super::frame::{Filling, Frame, FrameHint, Handle};
use super::pool::Pool;
use super::sync::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use super::tally::Tally;
use crate::format::{Address, Birth};

const SHARDS: usize = if cfg!(miri) { 4 } else { 64 };

/// What the table is to know about a page besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Install {
    /// The height above the leaves; slices of journals are leaves. Others leave last.
    pub level: u8,
    /// The number of children for which the frame keeps hints.
    pub hints: usize,
    /// Whether the page waits to be written: until [`FrameTable::mark_written`] it stays.
    pub dirty: bool,
}

/// What the cache holds, and what it did since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStatistics {
    /// The bytes that the cache may have.
    pub capacity_bytes: usize,
    /// The bytes of pages that it has, those held by handles after they left included.
    pub bytes: usize,
    /// The bytes of pages that wait for a checkpoint to write them.
    pub dirty_bytes: usize,
    /// The pages that it has.
    pub frames: usize,
    /// Descents to a leaf, by a get or by a range or cursor that came to another leaf, that found all
    /// they needed. Where more than 64 threads read, a few may be missing.
    pub hits: u64,
    /// Look-ups that did not find the page.
    pub misses: u64,
    /// Pages that left to make room.
    pub evictions: u64,
    /// Times that the capacity had to be exceeded, as too much was held or unwritten.
    pub overflows: u64,
}

struct Entry {
    address: Address,
    birth: Birth,
    position: u32,
}

/// All pages in memory.
pub(crate) struct FrameTable {
    pool: Arc<Pool>,
    shards: Box<[Mutex<HashTable<Entry>>]>,
    /// Random, so that no file can be made whose addresses collide.
    seed: u64,
    capacity_bytes: usize,
    clock: Clock,
    dirty_bytes: AtomicUsize,
    frames: AtomicUsize,
    misses: AtomicU64,
    hits: Tally,
    #[cfg(test)]
    lookups: AtomicU64,
}

impl FrameTable {
    /// An empty table that evicts to stay within a number of bytes.
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            pool: Arc::new(Pool::new(capacity_bytes)),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            seed: RandomState::new().hash_one(capacity_bytes),
            capacity_bytes,
            clock: Clock::default(),
            dirty_bytes: AtomicUsize::new(0),
            frames: AtomicUsize::new(0),
            misses: AtomicU64::new(0),
            hits: Tally::new(),
            #[cfg(test)]
            lookups: AtomicU64::new(0),
        }
    }

    /// How often a page was looked up.
    #[cfg(test)]
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    /// Finds a page. Three dependent loads if the hint is right; else the map is asked and the
    /// hint corrected. Writes to memory that others share only the first time after the clock
    /// passed.
    #[inline]
    pub fn lookup<'g>(
        &self,
        address: Address,
        birth: Birth,
        hint: &FrameHint,
        guard: &'g Guard,
    ) -> Option<&'g Frame> {
        #[cfg(test)]
        self.lookups.fetch_add(1, Ordering::Relaxed);
        if let Some(slot) = self.pool.slot(hint.position())
            && let Some(frame) = slot.seen_as(address, birth, guard)
        {
            frame.touch();
            return Some(frame);
        }
        self.lookup_in_map(address, birth, hint, guard)
    }

    /// Has the processor fetch what a look-up with this hint is going to read first, so that several
    /// look-ups wait together.
    #[inline]
    pub fn prefetch(&self, hint: &FrameHint) {
        if let Some(slot) = self.pool.slot(hint.position()) {
            slot.prefetch_frame();
        }
    }

    #[cold]
    #[inline(never)]
    fn lookup_in_map<'g>(
        &self,
        address: Address,
        birth: Birth,
        hint: &FrameHint,
        guard: &'g Guard,
    ) -> Option<&'g Frame> {
        let Some(frame) = self.find(address, birth, guard) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        frame.touch();
        hint.point_to(frame.position());
        Some(frame)
    }

    fn find<'g>(&self, address: Address, birth: Birth, guard: &'g Guard) -> Option<&'g Frame> {
        let hash = self.hash(address, birth);
        let shard = lock(self.shard(hash));
        self.find_in(&shard, hash, address, birth, guard)
    }

    fn find_in<'g>(
        &self,
        shard: &HashTable<Entry>,
        hash: u64,
        address: Address,
        birth: Birth,
        guard: &'g Guard,
    ) -> Option<&'g Frame> {
        let entry = shard.find(hash, |entry| entry.is(address, birth))?;
        let slot = self.pool.slot(entry.position);
        slot?.seen_as(address, birth, guard)
    }

    /// The page, kept alive, if it is in memory.
    pub fn get(&self, address: Address, birth: Birth) -> Option<Handle> {
        let guard = super::pin();
        let frame = self.find(address, birth, &guard)?;
        Some(frame.handle(&guard))
    }

    /// Takes a page in, evicting others to stay within the capacity. If it is there already, that
    /// one is returned, and the bytes are dropped.
    pub fn install(
        &self,
        address: Address,
        birth: Birth,
        bytes: Vec<u8>,
        options: Install,
    ) -> Handle {
        if let Some(present) = self.get(address, birth) {
            return present;
        }
        let guard = super::pin();
        let filling = Filling {
            address,
            birth,
            bytes: &bytes,
            level: options.level,
            hints: options.hints,
            dirty: options.dirty,
        };
        let footprint = filling.footprint();
        // Charged before room is made, so that two who come together make room for both.
        self.pool.charge(footprint);
        self.make_room(footprint, &guard);
        let coming = self.pool.fill(&filling);

        let hash = self.hash(address, birth);
        let mut shard = lock(self.shard(hash));
        if let Some(present) = self.find_in(&shard, hash, address, birth, &guard) {
            return present.handle(&guard);
        }
        let entry = Entry {
            address,
            birth,
            position: coming.position(),
        };
        shard.insert_unique(hash, entry, |entry| self.hash(entry.address, entry.birth));
        coming.publish();
        self.frames.fetch_add(1, Ordering::Relaxed);
        if options.dirty {
            self.dirty_bytes.fetch_add(footprint, Ordering::Relaxed);
        }
        coming
    }

    /// The page has been written: it may be evicted from now on.
    pub fn mark_written(&self, address: Address, birth: Birth) {
        let guard = super::pin();
        let hash = self.hash(address, birth);
        let shard = lock(self.shard(hash));
        if let Some(frame) = self.find_in(&shard, hash, address, birth, &guard) {
            self.clean(frame);
        }
    }

    /// Drops a page from the table, written or not: nothing refers to it any more. Who still holds
    /// it by a guard or a handle keeps it.
    pub fn forget(&self, address: Address, birth: Birth) {
        self.remove(address, birth, |_| true, &super::pin());
    }

    /// Lets a page go that only versions before the newest one reach, unless it waits to be written: what
    /// takes its place then finds memory that is in use already. Who reads such a version loads it again.
    pub fn let_go(&self, address: Address, birth: Birth) {
        let is_written = |frame: &Frame| !frame.is_dirty();
        self.remove(address, birth, is_written, &super::pin());
    }

    /// A descent found all it needed.
    #[inline]
    pub fn count_hit(&self) {
        self.hits.count();
    }

    /// The bytes of pages that wait to be written.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    /// What the table holds and did. The numbers are read one after the other.
    pub fn stats(&self) -> CacheStatistics {
        CacheStatistics {
            capacity_bytes: self.capacity_bytes,
            bytes: self.pool.bytes(),
            dirty_bytes: self.dirty_bytes(),
            frames: self.frames.load(Ordering::Relaxed),
            hits: self.hits.sum(),
            misses: self.misses.load(Ordering::Relaxed),
            evictions: self.clock.evictions(),
            overflows: self.clock.overflows(),
        }
    }

    /// Removes a page from the map, and its frame from reach, if the frame agrees under the lock.
    pub(super) fn remove(
        &self,
        address: Address,
        birth: Birth,
        agrees: impl FnOnce(&Frame) -> bool,
        guard: &Guard,
    ) -> bool {
        let hash = self.hash(address, birth);
        let mut shard = lock(self.shard(hash));
        let Ok(entry) = shard.find_entry(hash, |entry| entry.is(address, birth)) else {
            return false;
        };
        let frame = self.pool.slot(entry.get().position);
        let frame = frame.expect("the map names slots that exist");
        if !agrees(frame) {
            return false;
        }
        entry.remove();
        self.clean(frame);
        self.frames.fetch_sub(1, Ordering::Relaxed);
        frame.retire(guard);
        true
    }

    fn clean(&self, frame: &Frame) {
        if frame.clear_dirty() {
            let footprint = frame.footprint();
            self.dirty_bytes.fetch_sub(footprint, Ordering::Relaxed);
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    #[cfg(test)]
    pub(super) fn pool_for_test(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    fn shard(&self, hash: u64) -> &Mutex<HashTable<Entry>> {
        // Bits that the map itself uses neither to find a bucket nor to tag it.
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    fn hash(&self, address: Address, birth: Birth) -> u64 {
        let fold = |state: u64, word: u64| {
            let product = u128::from(state ^ word) * 0x9E37_79B9_7F4A_7C15;
            product as u64 ^ (product >> 64) as u64
        };
        fold(
            fold(self.seed, address.to_bits()),
            birth.0 ^ self.seed.rotate_left(32),
        )
    }
}

impl Entry {
    fn is(&self, address: Address, birth: Birth) -> bool {
        self.address == address && self.birth == birth
    }
}

impl Drop for FrameTable {
    fn drop(&mut self) {
        let guard = super::pin();
        for shard in &self.shards {
            for entry in lock(shard).drain() {
                let frame = self.pool.slot(entry.position);
                frame
                    .expect("the map names slots that exist")
                    .retire(&guard);
            }
        }
        drop(guard);
        // Nobody may ever pin again, so the garbage is collected here as far as others' guards
        // allow: 512 frames in a step at the most.
        let mut steps = 16 + self.frames.load(Ordering::Relaxed) / 256;
        while Arc::strong_count(&self.pool) > 1 && steps > 0 {
            super::pin().flush();
            steps -= 1;
        }
    }
}
