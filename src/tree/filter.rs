//! Filters over the keys of a slice, so that a search need not touch slices that cannot answer it.
//!
//! Blocked Bloom filters (Putze et al. 2007): a key has up to four bits, all in one 64-bit word, so
//! that a question costs one load. Invariant kept: a key that was added always passes. Filters stand
//! in interior nodes beside the pointers to the slices; flushes make them, searches ask them.
//! [`crate::format::journals`] has the bits.

/// The words of a filter for some number of keys.
pub(crate) fn words_for(keys: usize) -> usize {
    (keys * 12).div_ceil(64).max(1)
}

fn place(hash: u64, words: usize) -> (usize, u64) {
    let word = ((hash >> 32) * words as u64) >> 32;
    let bit = |shift: u32| 1u64 << ((hash >> shift) & 63);
    (word as usize, bit(0) | bit(6) | bit(12) | bit(18))
}

/// Adds a key to a filter.
pub(crate) fn add(filter: &mut [u64], hash: u64) {
    let (word, mask) = place(hash, filter.len());
    filter[word] |= mask;
}

/// Whether a key may be in a filter, given as its bytes.
#[inline]
pub(crate) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let words = filter.as_chunks::<8>().0;
    if words.is_empty() {
        return true;
    }
    let (word, mask) = place(hash, words.len());
    u64::from_le_bytes(words[word]) & mask == mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::hash_key;

    #[test]
    fn a_filter_never_misses_and_seldom_lies() {
        let mut filter = vec![0; words_for(200)];
        for n in 0..200u32 {
            add(&mut filter, hash_key(&n.to_le_bytes()));
        }
        let bytes: Vec<u8> = filter.iter().flat_map(|word| word.to_le_bytes()).collect();
        for n in 0..200u32 {
            assert!(may_contain(&bytes, hash_key(&n.to_le_bytes())));
        }
        let lies = (1000..11_000u32)
            .filter(|n| may_contain(&bytes, hash_key(&n.to_le_bytes())))
            .count();
        assert!(lies < 600, "{lies} of 10,000 absent keys pass");
    }
}
