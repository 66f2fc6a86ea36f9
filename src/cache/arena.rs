//! The memory of pages: runs of granules in huge pages, or plain allocations.
//!
//! A random look-up touches a few lines of each of several pages; in huge pages those cost no
//! misses of the translation buffer. Measured on two busy cores, 20,000 pages of 12 KiB: a look-up
//! with three touches takes 15 to 34 % less time, a page that replaces another one comes in in 1.9
//! instead of 3.4 µs; but the first use of each huge page costs up to 3 ms in a virtual machine.
//! So the first 4 MiB of a cache are maps of small pages, and small caches take plain allocations, as
//! do pages beyond 64 KiB and what does not fit between others when the arena has reached its limit.
//!
//! Invariant: a block belongs to one page from [`Arena::allocate`] to [`Arena::free`], and blocks
//! never overlap. Memory once mapped stays with the cache and is used again; all maps together never
//! exceed the capacity by more than an eighth, besides what is lost to alignment and never touched.
#![expect(
    unsafe_code,
    reason = "the bytes of a page and its hints share memory that is managed by hand"
)]

use std::alloc::Layout;
use std::ptr::NonNull;

use memmap2::MmapMut;

use super::granules::{GRANULES, Granules};
use super::sync::{Mutex, lock};

/// Blocks begin at a cache line.
const ALIGNMENT: usize = 64;

/// An odd number of cache lines, so that the headers of pages spread over all sets of a cache.
const GRANULE_BYTES: usize = 9 * ALIGNMENT;

const HUGE_PAGE_BYTES: usize = 2 << 20;

const _: () = assert!(GRANULES * GRANULE_BYTES <= HUGE_PAGE_BYTES);

/// Huge pages in one map, besides one that is lost to alignment.
const HUGE_PAGES_PER_MAP: usize = 16;

/// Caches below this take plain allocations: the last huge page would be too much for them.
const CAPACITY_BYTES_MIN: usize = 16 << 20;

/// The first map is of small pages, of so many bytes in all: touching a huge page clears 2 MiB, which
/// would be most of the time that a small store is open. In units of huge pages.
const SMALL_FIRST: usize = 2;

/// Pages above this take plain allocations.
const BLOCK_BYTES_MAX: usize = 64 << 10;

/// The source of a block that is a plain allocation.
const PLAIN: u32 = u32::MAX;

/// A block of memory. It must go back to the arena that it is from.
pub(super) struct Block {
    /// Its first byte, aligned to a cache line.
    pub data: NonNull<u8>,
    /// Where it is from: a number for [`Arena::free`].
    pub source: u32,
}

/// Hands out memory for pages.
pub(super) struct Arena {
    huge_pages_max: usize,
    huge: Mutex<HugePages>,
}

#[derive(Default)]
struct HugePages {
    maps: Vec<MmapMut>,
    pages: Vec<HugePage>,
    /// For each page, a length that none of its free runs exceeds.
    longest: Vec<u16>,
    /// The page that had room last.
    cursor: usize,
}

struct HugePage {
    base: NonNull<u8>,
    granules: Granules,
}

// SAFETY: `base` points into a map that the same `HugePages` owns, and that any thread may use.
unsafe impl Send for HugePage {}

impl Arena {
    /// An arena for a cache of a capacity.
    pub fn new(capacity_bytes: usize) -> Self {
        // What left the cache keeps its memory until the last guard is gone, and there are gaps.
        let limit_bytes = capacity_bytes.saturating_add(capacity_bytes / 8);
        let huge_pages_max = if cfg!(miri) || capacity_bytes < CAPACITY_BYTES_MIN {
            0
        } else {
            limit_bytes.div_ceil(HUGE_PAGE_BYTES).min(PLAIN as usize)
        };
        Self {
            huge_pages_max,
            huge: Mutex::default(),
        }
    }

    /// What a block of a size occupies.
    pub fn footprint(bytes: usize) -> usize {
        granules_for(bytes) * GRANULE_BYTES
    }

    /// A block of at least `bytes`, its content unspecified.
    pub fn allocate(&self, bytes: usize) -> Block {
        if bytes <= BLOCK_BYTES_MAX && self.huge_pages_max > 0 {
            let block = lock(&self.huge).allocate(granules_for(bytes), self.huge_pages_max);
            if let Some(block) = block {
                return block;
            }
        }
        let layout = plain_layout(bytes);
        // SAFETY: `layout` never has a size of zero.
        let data = unsafe { std::alloc::alloc(layout) };
        let Some(data) = NonNull::new(data) else {
            std::alloc::handle_alloc_error(layout)
        };
        Block {
            data,
            source: PLAIN,
        }
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// The block is from `allocate(bytes)` of this arena, and nothing refers to it any more.
    pub unsafe fn free(&self, block: Block, bytes: usize) {
        if block.source == PLAIN {
            // SAFETY: the caller hands over a block that was allocated with this very layout.
            unsafe { std::alloc::dealloc(block.data.as_ptr(), plain_layout(bytes)) };
        } else {
            lock(&self.huge).free(&block, granules_for(bytes));
        }
    }
}

impl HugePages {
    fn allocate(&mut self, length: usize, pages_max: usize) -> Option<Block> {
        loop {
            let Some(index) = self.find(length) else {
                if self.pages.len() >= pages_max {
                    return None;
                }
                self.grow(pages_max - self.pages.len())?;
                continue;
            };
            self.cursor = index;
            let page = &mut self.pages[index];
            match page.granules.take(length) {
                Ok(start) => {
                    // SAFETY: granule `start` is inside the huge page that `base` begins.
                    let data = unsafe { page.base.add(start * GRANULE_BYTES) };
                    return Some(Block {
                        data,
                        source: index as u32,
                    });
                }
                Err(longest) => self.longest[index] = longest as u16,
            }
        }
    }

    /// A page that may have a free run of a length, looking around from the last one.
    fn find(&self, length: usize) -> Option<usize> {
        let fits = |&longest: &u16| longest as usize >= length;
        let (before, after) = self.longest.split_at(self.cursor);
        let found = after.iter().position(fits).map(|at| self.cursor + at);
        found.or_else(|| before.iter().position(fits))
    }

    /// Maps more huge pages, up to a number, if the system has them.
    fn grow(&mut self, pages_max: usize) -> Option<()> {
        let is_first = self.pages.is_empty();
        let pages = match is_first {
            true => SMALL_FIRST,
            false => pages_max.min(HUGE_PAGES_PER_MAP),
        };
        let mut map = MmapMut::map_anon((pages + 1) * HUGE_PAGE_BYTES).ok()?;
        #[cfg(target_os = "linux")]
        {
            let advice = match is_first {
                true => memmap2::Advice::NoHugePage,
                // Without them the pages are small: slower, but not wrong.
                false => memmap2::Advice::HugePage,
            };
            let _ = map.advise(advice);
        }
        let first = NonNull::new(map.as_mut_ptr())?;
        let skipped = first.align_offset(HUGE_PAGE_BYTES);
        for page in 0..pages {
            // SAFETY: `skipped` is less than a huge page, and the map has one more than `pages`.
            let base = unsafe { first.add(skipped + page * HUGE_PAGE_BYTES) };
            let granules = Granules::new();
            self.longest.push(granules.count() as u16);
            self.pages.push(HugePage { base, granules });
        }
        self.maps.push(map);
        Some(())
    }

    fn free(&mut self, block: &Block, length: usize) {
        let index = block.source as usize;
        let page = &mut self.pages[index];
        let offset = block.data.addr().get() - page.base.addr().get();
        page.granules.give_back(offset / GRANULE_BYTES, length);
        // An upper bound; a search that fails for it finds the truth.
        self.longest[index] = page.granules.count() as u16;
    }
}

fn granules_for(bytes: usize) -> usize {
    bytes.max(1).div_ceil(GRANULE_BYTES)
}

fn plain_layout(bytes: usize) -> Layout {
    Layout::from_size_align(Arena::footprint(bytes), ALIGNMENT)
        .expect("a page is far smaller than the address space")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_bytes(block: &Block, bytes: usize) -> usize {
        match block.source {
            PLAIN => Arena::footprint(bytes),
            _ => 0,
        }
    }

    #[test]
    fn blocks_keep_their_bytes_whatever_comes_and_goes_beside_them() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let arena = Arena::new(CAPACITY_BYTES_MIN);
        let mut blocks: Vec<(Block, usize, u8)> = Vec::new();
        let mut used = 0;
        let (mut plain, mut plain_most) = (0, 0);
        for _ in 0..if cfg!(miri) { 50 } else { 8_000 } {
            let bytes = random.usize(1..24 << 10);
            while used + Arena::footprint(bytes) > CAPACITY_BYTES_MIN {
                let (block, bytes, mark) = blocks.swap_remove(random.usize(..blocks.len()));
                used -= Arena::footprint(bytes);
                plain -= plain_bytes(&block, bytes);
                // SAFETY: the block has these bytes, all written when it was allocated.
                let content = unsafe { std::slice::from_raw_parts(block.data.as_ptr(), bytes) };
                assert!(content.iter().all(|&byte| byte == mark));
                // SAFETY: it is from `allocate(bytes)`, and the slice is not used again.
                unsafe { arena.free(block, bytes) };
            }
            let block = arena.allocate(bytes);
            assert_eq!(block.data.addr().get() % ALIGNMENT, 0);
            let mark = random.u8(..);
            // SAFETY: the block has these bytes, and nobody else has it.
            unsafe { block.data.as_ptr().write_bytes(mark, bytes) };
            used += Arena::footprint(bytes);
            plain += plain_bytes(&block, bytes);
            plain_most = plain_most.max(plain);
            blocks.push((block, bytes, mark));
        }
        for (block, bytes, _) in blocks {
            // SAFETY: it is from `allocate(bytes)` and goes once.
            unsafe { arena.free(block, bytes) };
        }
        let huge = lock(&arena.huge);
        assert!(
            huge.pages
                .iter()
                .all(|page| page.granules.count() == GRANULES)
        );
        if !cfg!(miri) {
            assert!(plain_most < 1 << 20, "{plain_most} did not fit");
            assert!(huge.pages.len() <= arena.huge_pages_max);
        }
    }
}
