//! Pages in memory: one table owns them all.
//!
//! * [`FrameTable`]: finds a page by address and birth, takes new ones in, lets old ones go.
//! * [`Frame`]: one page in memory, with the hints of its children; borrowed under a [`Guard`].
//! * [`Handle`]: the same, kept alive without a guard.
//!
//! Inside: `pool` has the slots in which frames live, `arena` and `granules` the memory of
//! their bytes, `eviction` the clock that chooses what leaves, `sync` the atomics, `tally` a count.
//!
//! A descent costs no shared write per level: it holds one guard, and what it passes stays valid
//! until the guard is dropped, whatever is evicted meanwhile. No guard may be held across an await
//! or a disk access, since nothing that was let go is freed meanwhile.

mod arena;
mod eviction;
mod frame;
mod granules;
mod pool;
mod sync;
mod table;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use crossbeam_epoch::Guard;

pub(crate) use frame::{Frame, FrameHint, Handle, prefetch_bytes};
pub use table::CacheStatistics;
pub(crate) use table::{FrameTable, Install};

/// Pins the current epoch: what is looked up under the guard stays until the guard is dropped.
#[inline(always)]
pub(crate) fn pin() -> Guard {
    crossbeam_epoch::pin()
}
