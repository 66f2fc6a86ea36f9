//! Tells quickly that a key has no operation in a journal: one cache line a question.
//!
//! A blocked Bloom filter (Putze, Sanders, Singler 2007): the hash of a key chooses a block of 512
//! bits, and in it one bit of each of its eight words. Bits are only ever set, so that readers need
//! no lock; whoever may see an operation came after its bits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const WORDS: usize = 8;
const BITS_PER_OPERATION: usize = 12;
const OPERATION_BYTES_EXPECTED: usize = 100;

#[derive(Default)]
#[repr(align(64))]
struct Block([AtomicU64; WORDS]);

/// A set of hashes with rare false positives, about one in a hundred at its expected size.
pub(super) struct Filter {
    /// None if the filter says "perhaps" to everything.
    blocks: Box<[Block]>,
}

impl Filter {
    /// A filter for a journal of some bytes. For none it says "perhaps" to everything.
    pub(super) fn new(bytes_expected: usize) -> Self {
        let bits = bytes_expected.div_ceil(OPERATION_BYTES_EXPECTED) * BITS_PER_OPERATION;
        let blocks = bits.div_ceil(WORDS * 64).min(u32::MAX as usize);
        Self {
            blocks: (0..blocks).map(|_| Block::default()).collect(),
        }
    }

    /// The block of a hash, and the bits of its words in the lowest bits, six for each.
    #[inline]
    fn block(&self, hash: u64) -> Option<(&Block, u64)> {
        let block = ((hash >> 32) * self.blocks.len() as u64) >> 32;
        let bits = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
        Some((self.blocks.get(block as usize)?, bits))
    }

    /// Adds a hash. One caller at a time: others could take each other's bits away.
    #[inline]
    pub(super) fn insert(&self, hash: u64) {
        let Some((block, mut bits)) = self.block(hash) else {
            return;
        };
        for word in &block.0 {
            word.store(word.load(Relaxed) | 1 << (bits % 64), Relaxed);
            bits >>= 6;
        }
    }

    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        let Some((block, mut bits)) = self.block(hash) else {
            return true;
        };
        let mut all = 1;
        for word in &block.0 {
            all &= word.load(Relaxed) >> (bits % 64);
            bits >>= 6;
        }
        all & 1 == 1
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val::<[Block]>(&self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::hash_key;

    #[test]
    fn what_was_inserted_is_found_and_little_else() {
        let operations = 10_000u64;
        let filter = Filter::new(operations as usize * OPERATION_BYTES_EXPECTED);
        for number in 0..operations {
            filter.insert(hash_key(&number.to_be_bytes()));
        }
        let contained = |number: &u64| filter.may_contain(hash_key(&number.to_be_bytes()));
        assert!((0..operations).all(|number| contained(&number)));
        let wrong = (operations..10 * operations).filter(contained).count();
        assert!(wrong < 9 * operations as usize / 50, "{wrong}");
    }

    #[test]
    fn a_filter_for_nothing_says_perhaps() {
        assert!(Filter::new(0).may_contain(1));
    }
}
