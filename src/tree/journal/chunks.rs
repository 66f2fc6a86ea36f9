//! Storage that grows while it is read: elements stay where they are for ever.
//!
//! Chunks double in size, so that a place is found by arithmetic and one look at a short table.
//! The elements are made when their chunk is, and changed through their own interior mutability:
//! atomics in the index of the journal.

use std::sync::OnceLock;

/// Elements of the first chunk, as a power of two.
const FIRST_BITS: u32 = 5;

/// Enough chunks for every `u32`.
const CHUNKS: usize = 33 - FIRST_BITS as usize;

/// An array of up to 2³² elements that are made on demand.
pub(super) struct Chunks<T> {
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T> Chunks<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
        }
    }

    /// The chunk of an element and the place in the chunk.
    #[inline]
    fn place(index: u32) -> (usize, usize) {
        let shifted = u64::from(index) + (1 << FIRST_BITS);
        let bits = shifted.ilog2();
        (
            (bits - FIRST_BITS) as usize,
            (shifted - (1 << bits)) as usize,
        )
    }

    /// An element that [`Self::made`] was called for before.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        let (chunk, offset) = Self::place(index);
        let chunk = self.chunks[chunk].get();
        &chunk.expect("only made elements are named")[offset]
    }

    /// The bytes of memory that the chunks made so far take.
    pub(super) fn memory_bytes(&self) -> usize {
        let made = self.chunks.iter().filter_map(OnceLock::get);
        made.map(|chunk| size_of_val::<[T]>(chunk)).sum()
    }
}

impl<T: Default> Chunks<T> {
    /// An element, made with its default value if it does not exist yet.
    pub(super) fn made(&self, index: u32) -> &T {
        let (chunk, offset) = Self::place(index);
        let elements = 1usize << (FIRST_BITS as usize + chunk);
        let make = || (0..elements).map(|_| T::default()).collect();
        &self.chunks[chunk].get_or_init(make)[offset]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let chunks = Chunks::<AtomicU32>::new();
        for index in 0..5000 {
            chunks.made(index).store(index, Ordering::Relaxed);
        }
        for index in 0..5000 {
            assert_eq!(chunks.get(index).load(Ordering::Relaxed), index);
        }
        let (chunk, offset) = Chunks::<u8>::place(u32::MAX);
        assert_eq!((chunk, offset), (CHUNKS - 1, (1 << FIRST_BITS) - 1));
    }
}
