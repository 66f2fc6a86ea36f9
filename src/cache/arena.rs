//! The memory of pages.
//!
//! Invariant: a block belongs to one page from [`Arena::allocate`] to [`Arena::free`], and blocks
//! never overlap.
#![expect(
    unsafe_code,
    reason = "the bytes of a page and its hints share memory that is managed by hand"
)]

use std::alloc::Layout;
use std::ptr::NonNull;

/// Blocks begin at a cache line.
const ALIGNMENT: usize = 64;

/// A block of memory. It must go back to the arena that it is from.
pub(super) struct Block {
    /// Its first byte, aligned to a cache line.
    pub data: NonNull<u8>,
    /// Where it is from: a number for [`Arena::free`].
    pub source: u32,
}

/// Hands out memory for pages.
pub(super) struct Arena {}

impl Arena {
    /// An arena for a cache of a capacity.
    pub fn new(_capacity_bytes: usize) -> Self {
        Self {}
    }

    /// What a block of a size really occupies.
    pub fn footprint(bytes: usize) -> usize {
        bytes.max(1).next_multiple_of(ALIGNMENT)
    }

    /// A block of at least `bytes`, its content unspecified.
    pub fn allocate(&self, bytes: usize) -> Block {
        let layout = layout(bytes);
        // SAFETY: `layout` never has a size of zero.
        let data = unsafe { std::alloc::alloc(layout) };
        let Some(data) = NonNull::new(data) else {
            std::alloc::handle_alloc_error(layout)
        };
        Block { data, source: 0 }
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// The block is from `allocate(bytes)` of this arena, and nothing refers to it any more.
    pub unsafe fn free(&self, block: Block, bytes: usize) {
        // SAFETY: the caller hands over a block that was allocated with this very layout.
        unsafe { std::alloc::dealloc(block.data.as_ptr(), layout(bytes)) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(Arena::footprint(bytes), ALIGNMENT)
        .expect("a page is far smaller than the address space")
}
