//! [`Content`]: the bytes of a file in blocks that are shared until written, and [`Random`].

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const BLOCK_BYTES: u64 = 4096;

#[derive(Clone, Default)]
pub(super) struct Content {
    pub(super) blocks: BTreeMap<u64, Arc<[u8; BLOCK_BYTES as usize]>>,
    pub(super) length: u64,
}

impl Content {
    pub(super) fn read(&self, at: u64, into: &mut [u8]) {
        let mut done = 0;
        while done < into.len() {
            let place = at + done as u64;
            let offset = (place % BLOCK_BYTES) as usize;
            let count = (into.len() - done).min(BLOCK_BYTES as usize - offset);
            let part = &mut into[done..done + count];
            match self.blocks.get(&(place / BLOCK_BYTES)) {
                Some(block) => part.copy_from_slice(&block[offset..offset + count]),
                None => part.fill(0),
            }
            done += count;
        }
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let offset = (place % BLOCK_BYTES) as usize;
            let count = (bytes.len() - done).min(BLOCK_BYTES as usize - offset);
            let block = self.blocks.entry(place / BLOCK_BYTES);
            let block = block.or_insert_with(|| Arc::new([0; BLOCK_BYTES as usize]));
            Arc::make_mut(block)[offset..offset + count]
                .copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// Forgets blocks that lie wholly in a range, and zeros the rest of it.
    pub(super) fn erase(&mut self, from: u64, to: u64) {
        let first = from.div_ceil(BLOCK_BYTES);
        let last = to / BLOCK_BYTES;
        let whole: Vec<u64> = match first < last {
            true => self
                .blocks
                .range(first..last)
                .map(|(block, _)| *block)
                .collect(),
            false => Vec::new(),
        };
        for block in whole {
            self.blocks.remove(&block);
        }
        let edges = match first < last {
            true => vec![(from, first * BLOCK_BYTES), (last * BLOCK_BYTES, to)],
            false => vec![(from, to)],
        };
        for (from, to) in edges {
            let mut at = from;
            while at < to {
                let end = to.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
                if self.blocks.contains_key(&(at / BLOCK_BYTES)) {
                    self.write(at, &vec![0; (end - at) as usize]);
                }
                at = end;
            }
        }
    }
}

/// What of a call that no sync covered reaches the platter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Dropped,
    Torn,
}

/// SplitMix64: small, and the same on every machine.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    pub(super) fn fate(&mut self) -> Fate {
        match self.below(3) {
            0 => Fate::Kept,
            1 => Fate::Dropped,
            _ => Fate::Torn,
        }
    }

    pub(super) fn garbage(&mut self, bytes: usize) -> Arc<[u8]> {
        (0..bytes).map(|_| self.next() as u8).collect()
    }
}
