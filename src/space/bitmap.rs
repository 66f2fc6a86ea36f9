//! A bitmap over the sectors of a segment that is read and written a word at a time.
//!
//! Callers keep every range within the number of bits that the map was made with.

/// One bit per sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bitmap {
    words: Box<[u64]>,
}

impl Bitmap {
    /// A map of zeros.
    pub(super) fn new(bits: u32) -> Self {
        Self {
            words: vec![0; bits.div_ceil(64) as usize].into(),
        }
    }

    /// Calls `act` with each word that the range touches and the range's bits in it, until it
    /// says no. Whether it never did.
    fn every_word(
        words: impl Iterator<Item = (usize, u64)>,
        mut act: impl FnMut(usize, u64) -> bool,
    ) -> bool {
        for (index, mask) in words {
            if !act(index, mask) {
                return false;
            }
        }
        true
    }

    fn masks(start: u32, bits: u32) -> impl Iterator<Item = (usize, u64)> {
        let end = start + bits;
        (start / 64..end.div_ceil(64)).map(move |index| {
            let base = index * 64;
            let mut mask = u64::MAX;
            if start > base {
                mask &= u64::MAX << (start - base);
            }
            if end < base + 64 {
                mask &= u64::MAX >> (base + 64 - end);
            }
            (index as usize, mask)
        })
    }

    /// Sets every bit of a range to one value.
    pub(super) fn fill(&mut self, start: u32, bits: u32, value: bool) {
        for (index, mask) in Self::masks(start, bits) {
            if value {
                self.words[index] |= mask;
            } else {
                self.words[index] &= !mask;
            }
        }
    }

    /// Whether every bit of a range is one.
    pub(super) fn all(&self, start: u32, bits: u32) -> bool {
        Self::every_word(Self::masks(start, bits), |index, mask| {
            self.words[index] & mask == mask
        })
    }

    /// Whether every bit of a range is zero.
    pub(super) fn none(&self, start: u32, bits: u32) -> bool {
        Self::every_word(Self::masks(start, bits), |index, mask| {
            self.words[index] & mask == 0
        })
    }

    /// How many bits of a range are one.
    pub(super) fn count(&self, start: u32, bits: u32) -> u32 {
        Self::masks(start, bits)
            .map(|(index, mask)| (self.words[index] & mask).count_ones())
            .sum()
    }

    /// The first one at or after `from`; `end` if there is none before it.
    pub(super) fn next_one(&self, from: u32, end: u32) -> u32 {
        self.next(from, end, 0)
    }

    /// The first zero at or after `from`; `end` if there is none before it.
    pub(super) fn next_zero(&self, from: u32, end: u32) -> u32 {
        self.next(from, end, u64::MAX)
    }

    fn next(&self, from: u32, end: u32, flip: u64) -> u32 {
        if from >= end {
            return end;
        }
        let mut index = from / 64;
        let mut word = (self.words[index as usize] ^ flip) & (u64::MAX << (from % 64));
        while word == 0 {
            index += 1;
            if index * 64 >= end {
                return end;
            }
            word = self.words[index as usize] ^ flip;
        }
        end.min(index * 64 + word.trailing_zeros())
    }

    /// The start of the run of zeros that ends at `before`: `before` itself if there is none.
    fn zeros_begin(&self, before: u32) -> u32 {
        let mut end = before;
        while end > 0 {
            let index = (end - 1) / 64;
            let unused = (index + 1) * 64 - end;
            let ahead = (self.words[index as usize] << unused).leading_zeros();
            if ahead < 64 - unused {
                return end - ahead;
            }
            end = index * 64;
        }
        0
    }

    /// The length of the run of zeros around a range of zeros, up to `end`.
    pub(super) fn zeros_around(&self, start: u32, bits: u32, end: u32) -> u32 {
        self.next_one(start + bits, end) - self.zeros_begin(start)
    }

    /// The start of the first run of at least `bits` zeros between `from` and `end`; failing that,
    /// the length of the longest run there.
    pub(super) fn find_zeros(&self, bits: u32, from: u32, end: u32) -> Result<u32, u32> {
        let mut longest = 0;
        let mut at = from;
        loop {
            let start = self.next_zero(at, end);
            if start == end {
                return Err(longest);
            }
            let stop = self.next_one(start, end.min(start.saturating_add(bits)));
            if stop - start == bits {
                return Ok(start);
            }
            longest = longest.max(stop - start);
            at = stop;
        }
    }

    /// The start of the first run of zeros between `from` and `end` that has just `bits` of them, or
    /// at least `spare` more.
    pub(super) fn find_fitting(&self, bits: u32, spare: u32, from: u32, end: u32) -> Option<u32> {
        let mut start = self.next_zero(from, end);
        while start < end {
            let stop = self.next_one(start, end);
            if stop - start == bits || stop - start >= bits + spare {
                return Some(start);
            }
            start = self.next_zero(stop, end);
        }
        None
    }

    /// The bits that are one here and zero in `other`.
    pub(super) fn without(&self, other: &Self) -> Self {
        let words = self.words.iter().zip(&other.words);
        Self {
            words: words.map(|(here, there)| here & !there).collect(),
        }
    }

    /// The words, lowest bits first.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The words, to be set as a whole.
    pub(super) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_searches_agree_with_single_bits() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let bits = random.u32(1..400);
            let mut map = Bitmap::new(bits);
            let mut model = vec![false; bits as usize];
            for _ in 0..200 {
                let start = random.u32(0..bits);
                let length = random.u32(0..=bits - start).min(random.u32(1..100));
                let range = start as usize..(start + length) as usize;
                let part = &mut model[range];
                let ones = part.iter().filter(|bit| **bit).count();
                assert_eq!(map.all(start, length), ones == part.len(), "seed {seed}");
                assert_eq!(map.none(start, length), ones == 0, "seed {seed}");
                assert_eq!(map.count(start, length), ones as u32, "seed {seed}");
                let value = random.bool();
                part.fill(value);
                map.fill(start, length, value);

                let wanted = random.u32(1..20);
                let found = map.find_zeros(wanted, start, bits);
                let runs = |least: u32| {
                    (start..bits).find(|&at| {
                        at + least <= bits && (at..at + least).all(|bit| !model[bit as usize])
                    })
                };
                match found {
                    Ok(at) => assert_eq!(Some(at), runs(wanted), "seed {seed}"),
                    Err(longest) => {
                        assert_eq!(runs(wanted), None, "seed {seed}");
                        assert!(longest < wanted && runs(longest + 1).is_none());
                        assert!(longest == 0 || runs(longest).is_some(), "seed {seed}");
                    }
                }
                if let Some(at) = runs(1) {
                    let before = (0..at).rev().take_while(|&bit| !model[bit as usize]);
                    let after = (at..bits).take_while(|&bit| !model[bit as usize]);
                    let around = before.count() + after.count();
                    assert_eq!(map.zeros_around(at, 1, bits), around as u32, "seed {seed}");
                }
            }
        }
    }
}
