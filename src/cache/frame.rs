//! One page in memory, and the two ways to hold on to it: a guard or a handle.
//!
//! Frames live in the slots of a [`Pool`], whose memory never moves, and a slot is used again and
//! again. Three rules keep that sound, and all of them are kept in this file:
//!
//! * *Counts.* The table's own interest in a published frame is one reference, each [`Handle`] is
//!   another. The slot is free for another page only when the count reaches zero.
//! * *Epochs.* The table gives up its reference only after every guard that could have seen the
//!   frame published. So who sees `heat >= FRESH` under a guard may use the frame until the
//!   guard is dropped, and may make a handle of it.
//! * *Identity.* `address` and `birth` stand in the frame itself and change only while its count
//!   is zero, so a stale hint finds another page there, and never mistakes it for its own.
//!
//! Every field is atomic since a stale hint may look at a slot that is being filled; on the usual
//! machines such loads cost what plain ones do.
#![expect(
    unsafe_code,
    reason = "frames are borrowed for the life of a guard and counted by hand"
)]

use std::ops::Deref;
use std::ptr::{self, NonNull};

use crossbeam_epoch::Guard;

use super::arena::{Arena, Block};
use super::pool::Pool;
use super::sync::{Arc, AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use crate::format::{Address, Birth};

/// The slot has no page.
const FREE: u8 = 0;
/// Filled, not published yet.
const PRIVATE: u8 = 1;
/// No longer in the table; what still refers to it counts against the capacity no more.
const DISCHARGED: u8 = 2;
/// No longer in the table, but held by handles, and counted against the capacity.
const DETACHED: u8 = 3;
/// Published, never looked up. The first look-up belongs to the load that installed the page.
const FRESH: u8 = 4;
/// Published, not used since the clock passed.
const COLD: u8 = 5;
/// Published and used since the clock passed.
const REFERENCED: u8 = 6;

/// Rounds of the clock that an unused interior page survives longer than a leaf.
const INTERIOR_PATIENCE: u8 = 3;

/// Handles of one frame beyond which the process is stopped: only a leak in a loop gets there.
const REFERENCES_MAX: u32 = 1 << 31;

/// Where a child was last seen in the table: a guess that is checked at each use.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct FrameHint(AtomicU32);

impl FrameHint {
    /// A hint that knows nothing.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    #[inline]
    pub(super) fn position(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn point_to(&self, position: u32) {
        self.0.store(position, Ordering::Relaxed);
    }
}

/// A page in memory. Exactly one cache line, besides its bytes and hints.
#[repr(C, align(64))]
pub(crate) struct Frame {
    heat: AtomicU8,
    patience: AtomicU8,
    level: AtomicU8,
    dirty: AtomicBool,
    length: AtomicU32,
    address: AtomicU64,
    birth: AtomicU64,
    /// The bytes of the page, then its hints at the next multiple of four.
    data: AtomicPtr<u8>,
    hint_count: AtomicU32,
    references: AtomicU32,
    memo: AtomicU64,
    /// While the slot is in use: a counted pointer to the pool that the slot is part of.
    pool: AtomicPtr<Pool>,
    position: AtomicU32,
    source: AtomicU32,
}

const _: () = assert!(size_of::<Frame>() == 64);

/// The header and the heads of most pages.
const PREFETCH_LINES: usize = 6;

/// What the processor fetches at a time.
const LINE_BYTES: usize = 64;

/// Has the processor fetch a cache line, if it can be asked to.
#[inline]
fn prefetch(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing that the program sees, and faults at no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// Has the processor fetch some bytes, all at once, before they are read one after the other.
#[inline]
pub(crate) fn prefetch_bytes(bytes: &[u8]) {
    for line in bytes.chunks(LINE_BYTES) {
        prefetch(line.as_ptr());
    }
}

/// What a frame is filled with.
pub(super) struct Filling<'b> {
    pub address: Address,
    pub birth: Birth,
    pub bytes: &'b [u8],
    pub level: u8,
    pub hints: usize,
    pub dirty: bool,
}

impl Filling<'_> {
    /// What it adds to the bytes of the cache.
    pub fn footprint(&self) -> usize {
        Arena::footprint(block_bytes(self.bytes.len(), self.hints))
    }
}

const fn block_bytes(length: usize, hints: usize) -> usize {
    hints_offset(length) + hints * size_of::<FrameHint>()
}

const fn hints_offset(length: usize) -> usize {
    length.next_multiple_of(align_of::<FrameHint>())
}

impl Frame {
    /// A slot without a page.
    pub(super) fn vacant() -> Self {
        Self {
            heat: AtomicU8::new(FREE),
            patience: AtomicU8::new(0),
            level: AtomicU8::new(0),
            dirty: AtomicBool::new(false),
            length: AtomicU32::new(0),
            address: AtomicU64::new(0),
            birth: AtomicU64::new(0),
            data: AtomicPtr::new(ptr::null_mut()),
            hint_count: AtomicU32::new(0),
            references: AtomicU32::new(0),
            memo: AtomicU64::new(u64::MAX),
            pool: AtomicPtr::new(ptr::null_mut()),
            position: AtomicU32::new(0),
            source: AtomicU32::new(0),
        }
    }

    /// The bytes of the page.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let data = self.data.load(Ordering::Relaxed);
        let length = self.length.load(Ordering::Relaxed) as usize;
        // SAFETY: outside this folder a frame is reached only through `seen_as` or a handle, so
        // its count stays above zero for the life of the borrow. Until then `data` has `length`
        // bytes, initialized by `fill` and not written since.
        unsafe { std::slice::from_raw_parts(data, length) }
    }

    /// Has the processor fetch the beginning of the page, where a search goes first.
    #[inline]
    pub fn prefetch(&self) {
        let data = self.data.load(Ordering::Relaxed);
        for line in 0..PREFETCH_LINES {
            prefetch(data.wrapping_add(LINE_BYTES * line));
        }
    }

    /// Has the processor fetch the frame itself.
    #[inline]
    pub(super) fn prefetch_frame(&self) {
        prefetch(ptr::from_ref(self).cast());
    }

    /// The hint of a child. The index is below the number given when the page was installed.
    #[inline]
    pub fn hint(&self, index: usize) -> &FrameHint {
        let count = self.hint_count.load(Ordering::Relaxed) as usize;
        assert!(index < count, "a page has a hint for each of its children");
        let length = self.length.load(Ordering::Relaxed) as usize;
        let data = self.data.load(Ordering::Relaxed);
        // SAFETY: as in `bytes`; `fill` put `count` hints there, and `data` is aligned to a cache
        // line, so that they are aligned, too.
        unsafe {
            &*data
                .add(hints_offset(length))
                .cast::<FrameHint>()
                .add(index)
        }
    }

    /// A number that readers of the page may leave for each other; `u64::MAX`: none yet.
    #[inline]
    pub fn memo(&self) -> &AtomicU64 {
        &self.memo
    }

    /// Where the page is on the disk.
    pub fn address(&self) -> Address {
        Address::from_bits(self.address.load(Ordering::Relaxed))
    }

    /// The generation that made the page.
    pub fn birth(&self) -> Birth {
        Birth(self.birth.load(Ordering::Relaxed))
    }

    /// The height of the page above the leaves, as given when it was installed.
    pub fn level(&self) -> u8 {
        self.level.load(Ordering::Relaxed)
    }

    /// Whether the page waits to be written.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Keeps the page without the guard under which it was found, or beside another handle.
    pub fn handle(&self, _guard: &Guard) -> Handle {
        self.another_handle()
    }

    fn another_handle(&self) -> Handle {
        // Relaxed: whoever gets here has a claim already that keeps the count above zero.
        if self.references.fetch_add(1, Ordering::Relaxed) >= REFERENCES_MAX {
            std::process::abort();
        }
        Handle {
            frame: NonNull::from(self),
        }
    }

    /// The frame for the life of the guard, if it is the published frame of this page.
    #[inline]
    pub(super) fn seen_as<'g>(
        &self,
        address: Address,
        birth: Birth,
        _guard: &'g Guard,
    ) -> Option<&'g Self> {
        // Acquire, and first: what follows belongs to the page that was published with it.
        let heat = self.heat.load(Ordering::Acquire);
        if heat < FRESH || self.address() != address || self.birth() != birth {
            return None;
        }
        // SAFETY: it was seen published under the guard, so the table's reference is given up
        // only after the guard is dropped, and with it the slot's count of the pool, which keeps
        // the memory of the slot.
        Some(unsafe { &*ptr::from_ref(self) })
    }

    /// Notes a use for the clock. Writes nothing if one is noted already.
    #[inline]
    pub(super) fn touch(&self) {
        let heat = self.heat.load(Ordering::Relaxed);
        if heat != REFERENCED {
            self.warm(heat);
        }
    }

    #[cold]
    fn warm(&self, heat: u8) {
        let next = match heat {
            FRESH => COLD,
            COLD => REFERENCED,
            _ => return,
        };
        // Exchanged, not stored: the frame may be leaving the table.
        let _ = self
            .heat
            .compare_exchange(heat, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Fills a slot that the pool has taken from its free ones for the caller.
    ///
    /// # Safety
    ///
    /// The slot is at `position` of the pool, free, and the caller's alone.
    pub(super) unsafe fn fill(
        &self,
        pool: &Arc<Pool>,
        position: u32,
        filling: &Filling<'_>,
    ) -> Handle {
        debug_assert_eq!(self.heat.load(Ordering::Relaxed), FREE);
        let length = u32::try_from(filling.bytes.len()).expect("a page is shorter than 4 GiB");
        let hints = u32::try_from(filling.hints).expect("a page has fewer than 2^32 children");
        let block = pool
            .arena()
            .allocate(block_bytes(filling.bytes.len(), filling.hints));
        // SAFETY: the block has room for the bytes, padding, and the hints behind them, and
        // nobody else has it. All zero is a hint that knows nothing.
        unsafe {
            let data = block.data.as_ptr();
            ptr::copy_nonoverlapping(filling.bytes.as_ptr(), data, filling.bytes.len());
            let hints = data.add(hints_offset(filling.bytes.len()));
            ptr::write_bytes(hints, 0, filling.hints * size_of::<FrameHint>());
        }
        let set = Ordering::Relaxed;
        self.level.store(filling.level, set);
        self.patience.store(patience(filling.level), set);
        self.dirty.store(filling.dirty, set);
        self.length.store(length, set);
        self.address.store(filling.address.to_bits(), set);
        self.birth.store(filling.birth.0, set);
        self.data.store(block.data.as_ptr(), set);
        self.hint_count.store(hints, set);
        self.memo.store(u64::MAX, set);
        self.pool
            .store(Arc::into_raw(Arc::clone(pool)).cast_mut(), set);
        self.position.store(position, set);
        self.source.store(block.source, set);
        self.heat.store(PRIVATE, set);
        self.references.store(1, set);
        Handle {
            frame: NonNull::from(self),
        }
    }

    /// Takes the mark of an unwritten page away; whether it was there.
    pub(super) fn clear_dirty(&self) -> bool {
        self.dirty.swap(false, Ordering::Relaxed)
    }

    /// Where the frame is in its pool.
    pub(super) fn position(&self) -> u32 {
        self.position.load(Ordering::Relaxed)
    }

    /// What the page adds to the bytes of the cache.
    pub(super) fn footprint(&self) -> usize {
        Arena::footprint(self.block_bytes())
    }

    fn block_bytes(&self) -> usize {
        let length = self.length.load(Ordering::Relaxed) as usize;
        block_bytes(length, self.hint_count.load(Ordering::Relaxed) as usize)
    }

    /// Whether look-ups may find the frame at this moment.
    pub(super) fn is_published(&self) -> bool {
        self.heat.load(Ordering::Relaxed) >= FRESH
    }

    /// The page of the frame, if it may leave by the clock now. Else it is a step nearer to that.
    /// The answer is good for the life of the guard, but may be outdated: see
    /// [`is_evictable`](Self::is_evictable).
    pub(super) fn pass_clock(&self, _guard: &Guard) -> Option<(Address, Birth)> {
        let heat = self.heat.load(Ordering::Acquire);
        if heat < FRESH || self.is_dirty() || self.is_held() {
            return None;
        }
        if heat == REFERENCED {
            self.patience
                .store(patience(self.level()), Ordering::Relaxed);
            let _ = self
                .heat
                .compare_exchange(heat, COLD, Ordering::Relaxed, Ordering::Relaxed);
            return None;
        }
        match self.patience.load(Ordering::Relaxed) {
            0 => Some((self.address(), self.birth())),
            rounds => {
                self.patience.store(rounds - 1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Whether nothing speaks against evicting the frame.
    pub(super) fn is_evictable(&self) -> bool {
        let heat = self.heat.load(Ordering::Relaxed);
        (heat == FRESH || heat == COLD) && !self.is_dirty() && !self.is_held()
    }

    /// Whether handles hold the frame.
    pub(super) fn is_held(&self) -> bool {
        self.references.load(Ordering::Relaxed) > 1
    }

    /// Takes a published frame out of reach; the page goes when the last guard and the last handle
    /// let go of it. Its bytes count against the capacity as long as handles hold them.
    pub(super) fn retire(&self, guard: &Guard) {
        let next = if self.is_held() { DETACHED } else { DISCHARGED };
        let mut heat = self.heat.load(Ordering::Relaxed);
        loop {
            if heat < FRESH {
                return;
            }
            // Exchanged, so that exactly one caller gives up the table's reference.
            match self
                .heat
                .compare_exchange(heat, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => heat = now,
            }
        }
        if next == DISCHARGED {
            // SAFETY: the table's reference keeps the slot's count of the pool; it is given up
            // below at the earliest.
            let pool = unsafe { &*self.pool.load(Ordering::Relaxed) };
            pool.discharge(self.footprint());
        }
        let frame = NonNull::from(self);
        // SAFETY: `release` gives up the reference that `publish` took for the table, once, since
        // the frame leaves the published states once. It is not run before every guard is gone
        // that could have seen the frame published. Any thread may run it.
        unsafe { guard.defer_unchecked(move || release(frame)) };
    }
}

fn patience(level: u8) -> u8 {
    if level > 0 { INTERIOR_PATIENCE } else { 0 }
}

/// Gives up a reference; the last one empties the slot.
///
/// # Safety
///
/// The caller owns a reference of the frame and does not use it any more.
unsafe fn release(frame: NonNull<Frame>) {
    let pool = {
        // SAFETY: the reference keeps the slot in use, hence its memory.
        let frame = unsafe { frame.as_ref() };
        // Release and the fence: all uses by others come before the slot is emptied.
        if frame.references.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        // SAFETY: `fill` put a counted pointer there, and only the last reference takes it. The
        // count keeps the memory of the slot until `pool` is dropped.
        let pool = unsafe { Arc::from_raw(frame.pool.load(Ordering::Relaxed).cast_const()) };
        let bytes = frame.block_bytes();
        let data = NonNull::new(frame.data.load(Ordering::Relaxed));
        let block = Block {
            data: data.expect("a frame in use has memory"),
            source: frame.source.load(Ordering::Relaxed),
        };
        // SAFETY: the block is from `fill` and of this size; the last reference is gone, and with
        // it every borrow of the bytes and hints.
        unsafe { pool.arena().free(block, bytes) };
        if frame.heat.swap(FREE, Ordering::Relaxed) != DISCHARGED {
            pool.discharge(Arena::footprint(bytes));
        }
        pool.put_back(frame.position());
        pool
    };
    // Last: it may be the end of the pool, and of the slot in it.
    drop(pool);
}

/// Keeps a page in memory, whatever the table does. Its bytes count against the capacity.
pub(crate) struct Handle {
    frame: NonNull<Frame>,
}

// SAFETY: a handle is a counted reference to a `Frame`, which is `Send + Sync`: its fields are
// atomic, its bytes never change, and its memory may be given back by any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Handle {
    /// Makes a private frame one that look-ups find, and takes the table's reference for it.
    pub(super) fn publish(&self) {
        let table = self.clone();
        // Release: who sees it published sees it filled.
        if self
            .heat
            .compare_exchange(PRIVATE, FRESH, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            std::mem::forget(table);
        }
    }
}

impl Deref for Handle {
    type Target = Frame;

    #[inline]
    fn deref(&self) -> &Frame {
        // SAFETY: the handle's reference keeps the slot in use, hence its memory.
        unsafe { self.frame.as_ref() }
    }
}

/// A page can be lent as it is, to be written.
impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.another_handle()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle owns a reference and ends here.
        unsafe { release(self.frame) };
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("address", &self.address())
            .field("birth", &self.birth())
            .field("bytes", &self.bytes().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_may_be_prefetched_and_nothing_there_changes() {
        let on_heap = vec![7u8; 4096];
        let on_stack = [7u8; 64];
        let empty: &[u8] = &[];
        let dropped = {
            let dropped = Box::new([7u8; 64]);
            ptr::from_ref(&*dropped).cast::<u8>()
        };
        let code = prefetch as fn(*const u8);
        for address in [
            on_heap.as_ptr(),
            on_heap.as_ptr().wrapping_add(1),
            on_heap.as_ptr_range().end,
            on_stack.as_ptr(),
            empty.as_ptr(),
            b"constant".as_ptr(),
            code as *const u8,
            dropped,
            ptr::null(),
            ptr::without_provenance(1),
            ptr::without_provenance(4095),
            // Neither half of the address space of a 64-bit processor has it.
            ptr::without_provenance(1 << (usize::BITS - 2)),
            ptr::without_provenance(isize::MIN as usize),
            ptr::without_provenance(usize::MAX),
        ] {
            prefetch(address);
        }
        Frame::vacant().prefetch();
        Frame::vacant().prefetch_frame();
        assert!(on_heap.iter().chain(&on_stack).all(|&byte| byte == 7));
    }
}
