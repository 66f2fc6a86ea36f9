//! Keys and values, made from numbers, so that whatever is read can be checked without a copy of it.
//!
//! The key of an index is 24 bytes: three words, each a bijective mix of the one before, so that an
//! index can be had back from its key, and no two indices share one. A value is made of an index and
//! a version. Nothing in either repeats, so that no engine's compression finds anything.

use std::cmp::Ordering;

pub const KEY_BYTES: usize = 24;
pub const VALUE_BYTES: usize = 150;
/// Bytes of user data in one pair.
pub const PAIR_BYTES: u64 = (KEY_BYTES + VALUE_BYTES) as u64;

/// Indices from here on are never written.
pub const ABSENT: u64 = 1 << 40;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const ODD: u64 = 0xd134_2543_de82_ef95;

/// The finalizer of splitmix64: every word to another one, and each is hit.
pub fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// What [`mix`] was given.
fn unmix(word: u64) -> u64 {
    let word = (word ^ (word >> 31) ^ (word >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let word = (word ^ (word >> 27) ^ (word >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    word ^ (word >> 30) ^ (word >> 60)
}

fn word_at(bytes: &[u8], position: usize) -> Option<u64> {
    let bytes = bytes.get(8 * position..8 * position + 8)?;
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The first word of a key, which decides its place in the order.
pub fn place(index: u64) -> u64 {
    mix(index.wrapping_add(GOLDEN))
}

/// The first word of the bytes of a key.
pub fn place_of(key: &[u8]) -> u64 {
    word_at(key, 0).unwrap_or(0)
}

/// The key of an index.
pub fn key(index: u64) -> [u8; KEY_BYTES] {
    let first = place(index);
    let second = mix(first ^ ODD);
    let third = mix(second);
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..16].copy_from_slice(&second.to_be_bytes());
    key[16..].copy_from_slice(&third.to_be_bytes());
    key
}

/// The index whose key this is, if every byte is right.
pub fn index_of(bytes: &[u8]) -> Option<u64> {
    let index = unmix(word_at(bytes, 0)?).wrapping_sub(GOLDEN);
    (bytes == key(index)).then_some(index)
}

fn seed(index: u64, version: u8) -> u64 {
    mix(index ^ (u64::from(version) << 48) ^ ODD)
}

fn value_word(seed: u64, position: usize) -> u64 {
    let word = seed
        .wrapping_add((position as u64 + 1).wrapping_mul(GOLDEN))
        .wrapping_mul(ODD);
    word ^ (word >> 29)
}

/// Fills the value of an index in a version, of any length.
pub fn fill(index: u64, version: u8, into: &mut [u8]) {
    let seed = seed(index, version);
    for (position, chunk) in into.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&value_word(seed, position).to_be_bytes()[..chunk.len()]);
    }
}

/// The value of an index in a version.
pub fn value(index: u64, version: u8) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    fill(index, version, &mut value);
    value
}

/// Whether the bytes from `offset` on are those of the value of an index, each of them.
pub fn part_matches(index: u64, version: u8, offset: usize, bytes: &[u8]) -> bool {
    let seed = seed(index, version);
    debug_assert_eq!(offset % 8, 0);
    bytes.chunks(8).enumerate().all(|(position, chunk)| {
        chunk == &value_word(seed, offset / 8 + position).to_be_bytes()[..chunk.len()]
    })
}

/// Whether this is the value, every byte of it.
pub fn value_matches(index: u64, version: u8, bytes: &[u8]) -> bool {
    bytes.len() == VALUE_BYTES && part_matches(index, version, 0, bytes)
}

/// The last whole word of a value.
const LAST: usize = VALUE_BYTES / 8 - 1;

/// Whether length, first and last word are those of the value: what ranges check, where the whole
/// check would cost more than some engines take to find the entry.
pub fn ends_match(index: u64, version: u8, bytes: &[u8]) -> bool {
    let seed = seed(index, version);
    bytes.len() == VALUE_BYTES
        && word_at(bytes, 0) == Some(value_word(seed, 0))
        && word_at(bytes, LAST) == Some(value_word(seed, LAST))
}

/// Sums over entries in whatever order: what scans check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub entries: u64,
    pub keys: u64,
    pub values: u64,
}

impl Sums {
    /// Counts in what an engine gave.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries += 1;
        self.keys = self
            .keys
            .wrapping_add(word_at(key, 0).unwrap_or(0))
            .wrapping_add(word_at(key, 2).unwrap_or(0) ^ key.len() as u64);
        self.values = self
            .values
            .wrapping_add(word_at(value, 0).unwrap_or(0))
            .wrapping_add(word_at(value, LAST).unwrap_or(0) ^ value.len() as u64);
    }
}

/// What a store must hold: a version for each index, 0 where there is nothing.
#[derive(Clone, Default)]
pub struct Model {
    versions: Vec<u8>,
}

impl Model {
    /// As many indices as were ever written.
    pub fn indices(&self) -> u64 {
        self.versions.len() as u64
    }

    pub fn version(&self, index: u64) -> u8 {
        self.versions.get(index as usize).copied().unwrap_or(0)
    }

    /// Notes one more write of an index, and gives the version to write.
    pub fn write(&mut self, index: u64) -> u8 {
        let index = index as usize;
        if self.versions.len() <= index {
            self.versions.resize(index + 1, 0);
        }
        let version = &mut self.versions[index];
        *version = version.checked_add(1).unwrap_or(1);
        *version
    }

    pub fn remove(&mut self, index: u64) {
        self.versions[index as usize] = 0;
    }

    pub fn present(&self) -> impl Iterator<Item = (u64, u8)> {
        let numbered = self.versions.iter().enumerate();
        numbered
            .filter(|&(_, version)| *version != 0)
            .map(|(index, version)| (index as u64, *version))
    }

    pub fn entries(&self) -> u64 {
        self.present().count() as u64
    }

    /// What a scan of everything must add up to.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for (index, version) in self.present() {
            sums.add(&key(index), &value(index, version));
        }
        sums
    }

    /// Where the keys of the first sixteenth of the order stand, sorted: ranges that stay in there
    /// are checked to leave nothing out. All keys would be too much memory of the wrong kind.
    pub fn sorted_sixteenth(&self) -> Vec<u64> {
        let mut places: Vec<u64> = self
            .present()
            .map(|(index, _)| place(index))
            .filter(|place| place >> 60 == 0)
            .collect();
        places.sort_unstable();
        places
    }
}

/// A generator of numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// Less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Numbers below an end, of which few come often: Zipf's law with the exponent 0.99, as in YCSB,
/// after Gray and others, "Quickly generating billion-record synthetic databases" (1994).
pub struct Zipf {
    end: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    pub fn new(end: u64) -> Self {
        let zeta =
            |end: u64| -> f64 { (1..=end).map(|rank| (rank as f64).powf(-Self::THETA)).sum() };
        let all = zeta(end);
        let eta = (1.0 - (2.0 / end as f64).powf(1.0 - Self::THETA)) / (1.0 - zeta(2) / all);
        Self {
            end: end as f64,
            alpha: 1.0 / (1.0 - Self::THETA),
            zeta: all,
            eta,
        }
    }

    pub fn next(&self, random: &mut Random) -> u64 {
        let uniform = random.fraction();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            0
        } else if scaled < 1.0 + 0.5f64.powf(Self::THETA) {
            1
        } else {
            let rank = self.end * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
            (rank as u64).min(self.end as u64 - 1)
        }
    }
}

/// Whether keys come in the order that was asked for.
pub struct Order {
    wanted: Ordering,
    last: Option<[u8; KEY_BYTES]>,
}

impl Order {
    pub fn new(wanted: Ordering) -> Self {
        Self { wanted, last: None }
    }

    pub fn holds(&mut self, key: &[u8]) -> bool {
        let holds = self.last.is_none_or(|last| key.cmp(&last) == self.wanted);
        self.last = key.try_into().ok();
        holds && self.last.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_had_back_from_its_key() {
        for index in (0..10_000).chain([ABSENT, ABSENT + 7, u64::MAX]) {
            assert_eq!(unmix(mix(index)), index);
            assert_eq!(index_of(&key(index)), Some(index));
        }
        let mut damaged = key(3);
        damaged[20] ^= 1;
        assert_eq!(index_of(&damaged), None);
    }

    #[test]
    fn each_changed_byte_of_a_value_is_noticed() {
        let right = value(5, 2);
        assert!(value_matches(5, 2, &right) && ends_match(5, 2, &right));
        assert!(!value_matches(5, 1, &right) && !value_matches(6, 2, &right));
        for position in 0..VALUE_BYTES {
            let mut wrong = right;
            wrong[position] ^= 1;
            assert!(!value_matches(5, 2, &wrong));
        }
        assert!(!value_matches(5, 2, &right[..149]));
        assert!(part_matches(5, 2, 40, &right[40..80]));
    }

    #[test]
    fn few_numbers_come_often() {
        let zipf = Zipf::new(1000);
        let mut random = Random::new(1);
        let mut counts = vec![0u32; 1000];
        for _ in 0..100_000 {
            counts[zipf.next(&mut random) as usize] += 1;
        }
        assert!(counts[0] > 10_000 && counts[0] < 16_000, "{}", counts[0]);
        assert!(counts[999] < 100);
    }
}
