//! The space map of one segment: which sectors are in use, and which of these the next root will
//! not reach.
//!
//! The *durable view* is what a checkpoint writes: sectors in use and not held. A crash forgets
//! everything else, and rightly so, since nothing durable names it. Invariant kept: a change applies
//! only where the sectors are in the state it starts from, so that nothing is in use twice or freed
//! twice. `segments` has one map for each segment in memory. [`crate::format::space`] has the bytes.

use super::bitmap::Bitmap;
use crate::error::{Error, Result};
use crate::format::bytes::{put_varint, read_varint};

const RUNS: u8 = 1;
const BITMAP: u8 = 2;

/// What happens to a range of sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// In use and durable, whatever it was: an entry of a tail.
    Take,
    /// Free, whatever it was: an entry of a tail.
    Give,
    /// In use and durable, from now on held.
    Hold,
    /// Held, from now on durable.
    Attach,
    /// Held, from now on free.
    Free,
}

/// The map of one segment in memory.
#[derive(Debug)]
pub(super) struct Map {
    /// Sectors that must not be allocated.
    pub(super) used: Bitmap,
    /// Of these, the ones outside the durable view.
    pub(super) held: Bitmap,
}

impl Map {
    pub(super) fn empty(sectors: u32) -> Self {
        Self {
            used: Bitmap::new(sectors),
            held: Bitmap::new(sectors),
        }
    }

    /// Applies a change, if the sectors are in the state that it starts from. Whether they were.
    pub(super) fn apply(&mut self, change: Change, start: u32, sectors: u32) -> bool {
        match change {
            Change::Take => {
                self.used.fill(start, sectors, true);
                self.held.fill(start, sectors, false);
            }
            Change::Give => {
                self.used.fill(start, sectors, false);
                self.held.fill(start, sectors, false);
            }
            Change::Hold => {
                if !self.used.all(start, sectors) || !self.held.none(start, sectors) {
                    return false;
                }
                self.held.fill(start, sectors, true);
            }
            Change::Attach => {
                if !self.held.all(start, sectors) {
                    return false;
                }
                self.held.fill(start, sectors, false);
            }
            Change::Free => {
                if !self.held.all(start, sectors) {
                    return false;
                }
                self.used.fill(start, sectors, false);
                self.held.fill(start, sectors, false);
            }
        }
        true
    }

    /// The durable view as bytes.
    pub(super) fn encode(&self, sectors: u32) -> Vec<u8> {
        let durable = self.used.without(&self.held);
        let bitmap_bytes = 1 + sectors as usize / 8;
        let mut out = vec![RUNS];
        let mut at = 0;
        loop {
            let start = durable.next_one(at, sectors);
            if start == sectors {
                break;
            }
            let end = durable.next_zero(start, sectors);
            put_varint(&mut out, (start - at).into());
            put_varint(&mut out, (end - start).into());
            at = end;
            if out.len() > bitmap_bytes {
                out.clear();
                out.push(BITMAP);
                let bytes = durable.words().iter().flat_map(|word| word.to_le_bytes());
                out.extend(bytes.take(bitmap_bytes - 1));
                return out;
            }
        }
        if at == 0 {
            out.clear();
        }
        out
    }

    /// Decodes a durable view that may be damaged.
    pub(super) fn decode(bytes: &[u8], sectors: u32) -> Result<Self> {
        let mut map = Self::empty(sectors);
        match bytes.split_first() {
            None => Some(()),
            Some((&RUNS, runs)) => Self::decode_runs(&mut map.used, runs, sectors),
            Some((&BITMAP, bits)) => Self::decode_bits(&mut map.used, bits, sectors),
            Some(_) => None,
        }
        .ok_or_else(|| Error::corrupt("a space map is malformed"))?;
        Ok(map)
    }

    fn decode_runs(used: &mut Bitmap, mut runs: &[u8], sectors: u32) -> Option<()> {
        let mut next = || {
            let (value, taken) = read_varint(runs)?;
            runs = &runs[taken..];
            Some((u32::try_from(value).ok()?, runs.is_empty()))
        };
        let mut at = 0u32;
        loop {
            let (free, _) = next()?;
            let (in_use, last) = next()?;
            let start = at.checked_add(free)?;
            let end = start.checked_add(in_use)?;
            // Only the first run of free sectors may be empty, so that a map has one encoding.
            if in_use == 0 || end > sectors || (free == 0 && at != 0) {
                return None;
            }
            used.fill(start, in_use, true);
            at = end;
            if last {
                return Some(());
            }
        }
    }

    fn decode_bits(used: &mut Bitmap, bits: &[u8], sectors: u32) -> Option<()> {
        if bits.len() != sectors as usize / 8 {
            return None;
        }
        for (word, bytes) in used.words_mut().iter_mut().zip(bits.chunks(8)) {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(whole);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_map(random: &mut fastrand::Rng, sectors: u32) -> Map {
        let mut map = Map::empty(sectors);
        let longest = *random.choice(&[1, 3, 50]).unwrap();
        let mut at = 0;
        while at < sectors {
            let run = random.u32(1..=longest).min(sectors - at);
            if random.bool() {
                map.used.fill(at, run, true);
                map.held.fill(at, run, random.u8(0..4) == 0);
            }
            at += run;
        }
        map
    }

    #[test]
    fn the_durable_view_round_trips_and_never_exceeds_a_bitmap() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let sectors = *random.choice(&[16, 128, 2048]).unwrap();
            let map = random_map(&mut random, sectors);
            let bytes = map.encode(sectors);
            assert!(bytes.len() <= 1 + sectors as usize / 8, "seed {seed}");
            let decoded = Map::decode(&bytes, sectors).unwrap();
            assert_eq!(decoded.used, map.used.without(&map.held), "seed {seed}");
            assert_eq!(decoded.held, Bitmap::new(sectors), "seed {seed}");
            assert_eq!(decoded.encode(sectors), bytes, "seed {seed}");
        }
    }

    #[test]
    fn a_map_of_nothing_is_no_bytes_and_a_full_one_few() {
        let mut map = Map::empty(32768);
        assert!(map.encode(32768).is_empty());
        map.apply(Change::Take, 0, 32768);
        assert!(map.encode(32768).len() <= 5);
    }

    #[test]
    fn hostile_bytes_are_refused_or_decode_within_bounds() {
        assert!(Map::decode(&[RUNS], 128).is_err());
        assert!(Map::decode(&[RUNS, 0, 0], 128).is_err());
        assert!(Map::decode(&[RUNS, 100, 29], 128).is_err());
        assert!(Map::decode(&[BITMAP; 3], 128).is_err());
        let mut huge = vec![RUNS];
        put_varint(&mut huge, u64::MAX);
        put_varint(&mut huge, u64::MAX);
        assert!(Map::decode(&huge, 128).is_err());
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut bytes = vec![0; random.usize(0..24)];
            random.fill(&mut bytes);
            if let Some(first) = bytes.first_mut() {
                *first %= 3;
            }
            if let Ok(map) = Map::decode(&bytes, 128) {
                assert!(map.used.count(0, 128) <= 128, "seed {seed}");
            }
        }
    }
}
