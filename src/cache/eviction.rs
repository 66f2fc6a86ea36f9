//! Which page leaves when the cache is full: a clock over the slots.
//!
//! A page that was used since the hand passed gets another round, an interior page a few more.
//! Pages that wait to be written, and those that handles hold, stay. Invariant: the work for one
//! page that comes in is bounded, whatever the size of the table; what cannot be evicted within
//! it makes the cache exceed its capacity, and is made good by those that come later.

use super::frame::Frame;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::table::FrameTable;
use crossbeam_epoch::Guard;

/// Pages looked at for one page that comes in, and one more for each KiB of it.
const STEPS_MAX: usize = 256;

/// Vacant slots that cost as much as a page.
const VACANT_PER_STEP: usize = 8;

/// Evictions after which garbage is collected at the latest, so that memory follows soon.
const FLUSH_INTERVAL: u64 = 16;

/// The hand of the clock and what it did.
#[derive(Default)]
pub(super) struct Clock {
    hand: AtomicU32,
    evictions: AtomicU64,
    overflows: AtomicU64,
}

impl Clock {
    /// Pages evicted.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// Times that not enough could be evicted.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }
}

impl FrameTable {
    /// Evicts until the bytes, those of a coming page included, are within the capacity.
    pub(super) fn make_room(&self, coming_bytes: usize, guard: &Guard) {
        let mut effort = (STEPS_MAX + coming_bytes / 1024) * VACANT_PER_STEP;
        while self.pool().bytes() > self.capacity_bytes() {
            let slots = self.pool().slots();
            if effort == 0 || slots == 0 {
                self.clock().overflows.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let hand = self.clock().hand.fetch_add(1, Ordering::Relaxed) % slots;
            let frame = self.pool().nth_slot(hand);
            let cost = match frame {
                Some(frame) if frame.is_published() => {
                    self.pass(frame, guard);
                    VACANT_PER_STEP
                }
                _ => 1,
            };
            effort = effort.saturating_sub(cost);
        }
    }

    fn pass(&self, frame: &Frame, guard: &Guard) {
        let Some((address, birth)) = frame.pass_clock(guard) else {
            return;
        };
        if self.remove(address, birth, Frame::is_evictable, guard) {
            let before = self.clock().evictions.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(FLUSH_INTERVAL) {
                guard.flush();
            }
        }
    }
}
