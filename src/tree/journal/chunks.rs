//! Storage that grows while it is read: elements stay where they are for ever.
//!
//! Chunks double in size, each time after four of a size, so that a place is found by arithmetic and
//! one look at a short table, and at most a fifth of what is taken is not used.
//! The elements are made when their chunk is, and changed through their own interior mutability:
//! atomics in the index of the journal. A search looks at many of them, one after the other, so that
//! an element is found without asking for the length of its chunk.
#![expect(unsafe_code, reason = "chunks are found by a pointer alone")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Elements of the first chunk, as a power of two.
const FIRST_BITS: u32 = 4;

/// Chunks of a size, as a power of two.
const STEP_BITS: u32 = 2;

/// Enough chunks for every `u32`.
const CHUNKS: usize = (33 - (FIRST_BITS + STEP_BITS) as usize) << STEP_BITS;

/// An array of up to 2³² elements that are made on demand.
pub(super) struct Chunks<T> {
    /// Boxed slices, of `chunk_elements` each, or null. Once made, a chunk stays.
    chunks: [AtomicPtr<T>; CHUNKS],
}

// SAFETY: it owns boxed slices of `T`, and lends their elements to any thread that has it.
unsafe impl<T: Send> Send for Chunks<T> {}
// SAFETY: as above; a thread that has it shared may make elements that another one drops.
unsafe impl<T: Send + Sync> Sync for Chunks<T> {}

const fn chunk_elements(chunk: usize) -> usize {
    1 << (FIRST_BITS as usize + (chunk >> STEP_BITS))
}

impl<T> Chunks<T> {
    pub(super) fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
        }
    }

    /// The chunk of an element and the place in the chunk.
    #[inline]
    fn place(index: u32) -> (usize, usize) {
        const STEPS: u64 = 1 << STEP_BITS;
        let shifted = u64::from(index) + (STEPS << FIRST_BITS);
        let bits = shifted.ilog2() - STEP_BITS;
        // The step is from `STEPS` on.
        let step = shifted >> bits;
        let chunk = u64::from(bits - FIRST_BITS) * STEPS + step - STEPS;
        (chunk as usize, (shifted & ((1 << bits) - 1)) as usize)
    }

    #[inline]
    fn find(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = Self::place(index);
        // Acquire: who sees a chunk sees its elements made.
        let chunk = NonNull::new(self.chunks[chunk].load(Ordering::Acquire))?;
        // SAFETY: the chunk has `chunk_elements` elements, more than any offset in it, and stays as
        // long as `self`.
        Some(unsafe { chunk.add(offset).as_ref() })
    }

    /// An element that [`Self::made`] was called for before.
    #[inline]
    pub(super) fn get(&self, index: u32) -> &T {
        self.find(index).expect("only made elements are named")
    }

    /// The bytes of memory that the chunks made so far take.
    pub(super) fn memory_bytes(&self) -> usize {
        let made =
            (0..CHUNKS).filter(|&chunk| !self.chunks[chunk].load(Ordering::Relaxed).is_null());
        made.map(|chunk| chunk_elements(chunk) * size_of::<T>())
            .sum()
    }
}

impl<T: Default> Chunks<T> {
    /// An element, made with its default value if it does not exist yet.
    #[inline]
    pub(super) fn made(&self, index: u32) -> &T {
        match self.find(index) {
            Some(element) => element,
            None => self.make(index),
        }
    }

    #[cold]
    fn make(&self, index: u32) -> &T {
        let (chunk, _) = Self::place(index);
        let elements: Box<[T]> = (0..chunk_elements(chunk)).map(|_| T::default()).collect();
        let made = Box::into_raw(elements);
        let (null, slot) = (ptr::null_mut(), &self.chunks[chunk]);
        let (release, relaxed) = (Ordering::Release, Ordering::Relaxed);
        if slot
            .compare_exchange(null, made.cast(), release, relaxed)
            .is_err()
        {
            // SAFETY: it came from a box, and nobody else got to see it: another one was quicker.
            drop(unsafe { Box::from_raw(made) });
        }
        self.get(index)
    }
}

impl<T> Drop for Chunks<T> {
    fn drop(&mut self) {
        for (chunk, slot) in self.chunks.iter_mut().enumerate() {
            let elements = ptr::slice_from_raw_parts_mut(*slot.get_mut(), chunk_elements(chunk));
            if !elements.is_null() {
                // SAFETY: `make` put a boxed slice of so many elements there, and only here it is
                // taken out.
                drop(unsafe { Box::from_raw(elements) });
            }
        }
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
        // Four each of 16 to 512, and of 1024 those up to the last.
        assert_eq!(chunks.memory_bytes(), 4 * (4 * 1008 + 1024));
        assert!(Chunks::<u8>::place(u32::MAX).0 < CHUNKS);
    }

    #[test]
    fn elements_are_dropped_once_and_those_made_by_two_are_the_same() {
        let counted = std::sync::Arc::new(());
        #[derive(Default)]
        struct Slot(std::sync::OnceLock<std::sync::Arc<()>>);
        let chunks = Chunks::<Slot>::new();
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (chunks, counted) = (&chunks, &counted);
                scope.spawn(move || {
                    for index in (0..300).filter(|index| index % 2 == thread) {
                        let slot = chunks.made(index);
                        assert!(slot.0.set(std::sync::Arc::clone(counted)).is_ok());
                    }
                });
            }
        });
        assert!((0..300).all(|index| chunks.get(index).0.get().is_some()));
        assert_eq!(std::sync::Arc::strong_count(&counted), 301);
        drop(chunks);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }
}
