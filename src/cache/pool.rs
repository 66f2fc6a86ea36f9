//! The slots in which frames live.
//!
//! Slots stand in chunks of doubling size that never move, so a position is translated with two
//! loads and no lock. Invariant: a position is either on the free list, or in the hands of one
//! caller of [`Pool::fill`], or in use by a frame, which then owns a count of the pool; so the pool
//! outlives the table as long as any handle does.
#![expect(
    unsafe_code,
    reason = "slots are filled and emptied by the rules of `frame`"
)]

use super::arena::Arena;
use super::frame::{Filling, Frame, Handle};
use super::sync::{Arc, AtomicU32, AtomicUsize, Mutex, OnceLock, Ordering, lock};

/// The first position; that of chunk `k` is `1 << k`. Position 0 is nowhere.
const FIRST: u32 = 1 << FIRST_CHUNK;
const FIRST_CHUNK: u32 = if cfg!(miri) { 4 } else { 9 };
const CHUNKS: usize = 32;

/// Slots, their memory, and what of it counts against the capacity.
pub(super) struct Pool {
    chunks: [OnceLock<Box<[Frame]>>; CHUNKS],
    free: Mutex<Vec<u32>>,
    /// All positions from `FIRST` to this have been used.
    next: AtomicU32,
    bytes: AtomicUsize,
    arena: Arena,
}

impl Pool {
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
            free: Mutex::new(Vec::new()),
            next: AtomicU32::new(FIRST),
            bytes: AtomicUsize::new(0),
            arena: Arena::new(capacity_bytes),
        }
    }

    /// The slot at a position, which may be stale or nowhere.
    #[inline]
    pub fn slot(&self, position: u32) -> Option<&Frame> {
        let chunk = (position | 1).ilog2();
        let chunks = self.chunks[chunk as usize].get()?;
        chunks.get((position ^ (1 << chunk)) as usize)
    }

    /// The slots ever used.
    pub fn slots(&self) -> u32 {
        self.next.load(Ordering::Relaxed) - FIRST
    }

    /// A slot by its number below [`slots`](Self::slots).
    pub fn nth_slot(&self, index: u32) -> Option<&Frame> {
        self.slot(FIRST + index)
    }

    /// Bytes that count against the capacity.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Puts a page into a free slot, not yet published. The caller has charged its footprint.
    pub fn fill(self: &Arc<Self>, filling: &Filling<'_>) -> Handle {
        let position = self.take();
        let slot = self.slot(position).expect("a taken position has a slot");
        // SAFETY: `take` gives a position to one caller, and its frame is free.
        unsafe { slot.fill(self, position, filling) }
    }

    fn take(&self) -> u32 {
        let mut free = lock(&self.free);
        if let Some(position) = free.pop() {
            return position;
        }
        let position = self.next.load(Ordering::Relaxed);
        let chunk = position.ilog2();
        self.chunks[chunk as usize]
            .get_or_init(|| (0..1u32 << chunk).map(|_| Frame::vacant()).collect());
        let next = position.checked_add(1);
        self.next.store(
            next.expect("fewer than 2^32 pages are in memory"),
            Ordering::Relaxed,
        );
        position
    }

    /// A slot is free again.
    pub fn put_back(&self, position: u32) {
        lock(&self.free).push(position);
    }

    /// Counts bytes against the capacity; returns their new sum.
    pub fn charge(&self, bytes: usize) -> usize {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Counts bytes no more.
    pub fn discharge(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn arena(&self) -> &Arena {
        &self.arena
    }
}
