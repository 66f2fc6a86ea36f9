//! Which granules of a huge page are free: a bitmap that hands out runs.
//!
//! Invariant: a granule is free or part of exactly one run handed out. Runs of any length share a
//! huge page, so pages of changing sizes do not strand memory as size classes would.

/// The granules of one huge page.
pub(super) const GRANULES: usize = 3640;

const WORDS: usize = GRANULES.div_ceil(64);

/// The free granules of one huge page.
pub(super) struct Granules {
    free: [u64; WORDS],
    count: usize,
}

impl Granules {
    /// All free.
    pub fn new() -> Self {
        let mut free = [u64::MAX; WORDS];
        if !GRANULES.is_multiple_of(64) {
            free[WORDS - 1] = (1 << (GRANULES % 64)) - 1;
        }
        Self {
            free,
            count: GRANULES,
        }
    }

    /// How many are free.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes the first run of a length; else says how long the longest one is.
    pub fn take(&mut self, length: usize) -> Result<usize, usize> {
        let mut longest = 0;
        let mut end = 0;
        while let Some(start) = self.next(end, true) {
            end = self.next(start, false).unwrap_or(GRANULES);
            if end - start >= length {
                self.flip(start, length, true);
                self.count -= length;
                return Ok(start);
            }
            longest = longest.max(end - start);
        }
        Err(longest)
    }

    /// Takes a run back.
    pub fn give_back(&mut self, start: usize, length: usize) {
        self.flip(start, length, false);
        self.count += length;
    }

    /// The first granule from a place on that is free, or that is not.
    fn next(&self, from: usize, free: bool) -> Option<usize> {
        let mut index = from / 64;
        let mut mask = u64::MAX << (from % 64);
        while let Some(&word) = self.free.get(index) {
            let found = if free { word } else { !word } & mask;
            if found != 0 {
                let at = index * 64 + found.trailing_zeros() as usize;
                return (at < GRANULES).then_some(at);
            }
            mask = u64::MAX;
            index += 1;
        }
        None
    }

    fn flip(&mut self, start: usize, length: usize, were_free: bool) {
        let end = start + length;
        let mut at = start;
        while at < end {
            let bits = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - bits)) << (at % 64);
            let word = &mut self.free[at / 64];
            debug_assert_eq!(*word & mask, if were_free { mask } else { 0 });
            *word ^= mask;
            at += bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_never_overlap_and_are_found_while_there_is_room() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut granules = Granules::new();
        let mut taken = vec![false; GRANULES];
        let mut runs = Vec::new();
        for _ in 0..if cfg!(miri) { 8 } else { 20_000 } {
            if random.u8(..5) < 3 {
                let longest = if random.u8(..8) == 0 { 300 } else { 30 };
                let length = random.usize(1..=longest);
                let longest = taken.split(|&taken| taken).map(<[bool]>::len).max();
                match granules.take(length) {
                    Ok(start) => {
                        let run = &mut taken[start..start + length];
                        assert!(run.iter().all(|taken| !taken));
                        run.fill(true);
                        runs.push((start, length));
                    }
                    Err(found) => {
                        assert!(found < length);
                        assert_eq!(Some(found), longest);
                    }
                }
            } else if !runs.is_empty() {
                let (start, length) = runs.swap_remove(random.usize(..runs.len()));
                taken[start..start + length].fill(false);
                granules.give_back(start, length);
            }
            let free = taken.iter().filter(|taken| !**taken).count();
            assert_eq!(granules.count(), free);
        }
        for (start, length) in runs {
            granules.give_back(start, length);
        }
        assert_eq!(granules.take(GRANULES), Ok(0));
        assert_eq!(granules.take(1), Err(0));
    }
}
