//! [`State`]: platter, page cache and faults of a simulated machine.
//!
//! Until a sync, every sector keeps each content that it had since the last one, along with the
//! call that gave it; [`State::settle`] decides for every call what of it reached the platter.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::Fails;
use super::content::{BLOCK_BYTES, Content, Fate, Random};

#[derive(Clone)]
pub(super) struct State {
    pub(super) random: Random,
    pub(super) sector_bytes: u64,
    /// What a power loss leaves.
    pub(super) durable: Content,
    /// What processes see.
    pub(super) visible: Content,
    /// What sectors were since they were last known to be durable, oldest first.
    pub(super) unsynced: BTreeMap<u64, Vec<Change>>,
    /// What the length was, likewise.
    pub(super) unsynced_lengths: Vec<(u64, u64)>,
    /// The file has its name.
    pub(super) named: bool,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
    /// Counts processes; files of earlier ones are dead.
    pub(super) process: u64,
    pub(super) process_died: bool,
    pub(super) lock_exclusive: bool,
    pub(super) locks_shared: usize,
}

/// What a call made of a sector.
type Change = (u64, Arc<[u8]>);

#[derive(Clone, Default)]
pub(super) struct Faults {
    pub(super) crash_at: Option<u64>,
    pub(super) fail_call: Option<(u64, Fails)>,
    pub(super) fail_read: Option<(u64, Fails)>,
    pub(super) fail_syncs: u64,
    pub(super) misdirect_to: Option<u64>,
    pub(super) lose_write: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Counters {
    pub(super) calls: u64,
    pub(super) reads: u64,
    pub(super) syncs: u64,
    pub(super) bytes_written: u64,
}

/// What becomes of one mutating call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    Fails,
    /// The process dies in the middle of it.
    Dies,
}

impl State {
    /// A machine without a file.
    pub(super) fn new(seed: u64, sector_bytes: u64) -> Self {
        Self {
            random: Random(seed),
            sector_bytes,
            durable: Content::default(),
            visible: Content::default(),
            unsynced: BTreeMap::new(),
            unsynced_lengths: Vec::new(),
            named: false,
            capacity_bytes: None,
            faults: Faults::default(),
            counters: Counters::default(),
            process: 0,
            process_died: false,
            lock_exclusive: false,
            locks_shared: 0,
        }
    }

    /// Counts a mutating call, and says what becomes of it.
    pub(super) fn begin_call(&mut self) -> Outcome {
        let call = self.counters.calls;
        self.counters.calls += 1;
        if self.faults.crash_at.is_some_and(|at| call >= at) {
            self.process_died = true;
            return Outcome::Dies;
        }
        match self.faults.fail_call {
            Some((at, Fails::Once)) if call == at => Outcome::Fails,
            Some((at, Fails::Forever)) if call >= at => Outcome::Fails,
            _ => Outcome::Done,
        }
    }

    /// The number by which the latest call is known among the unsynced ones.
    pub(super) fn this_call(&self) -> u64 {
        self.counters.calls
    }

    pub(super) fn sector(&self, sector: u64) -> Arc<[u8]> {
        let mut bytes = vec![0; self.sector_bytes as usize];
        self.visible.read(sector * self.sector_bytes, &mut bytes);
        bytes.into()
    }

    pub(super) fn sectors(&self, from: u64, to: u64) -> Range<u64> {
        from / self.sector_bytes..to.div_ceil(self.sector_bytes)
    }

    /// Puts bytes into the page cache.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len() as u64;
        self.visible.write(at, bytes);
        if end > self.visible.length {
            self.visible.length = end;
            self.unsynced_lengths.push((self.this_call(), end));
        }
        self.note(at, end);
        self.counters.bytes_written += bytes.len() as u64;
    }

    /// Notes what sectors of a range are now, as not synced.
    pub(super) fn note(&mut self, from: u64, to: u64) {
        let call = self.this_call();
        for sector in self.sectors(from, to) {
            let now = self.sector(sector);
            self.unsynced.entry(sector).or_default().push((call, now));
        }
    }

    pub(super) fn erase(&mut self, from: u64, to: u64) {
        let blocks = from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES);
        let there: Vec<u64> = self.visible.blocks.range(blocks).map(|(b, _)| *b).collect();
        self.visible.erase(from, to);
        for block in there {
            let start = from.max(block * BLOCK_BYTES);
            let end = to.min((block + 1) * BLOCK_BYTES);
            self.note(start, end);
        }
    }

    pub(super) fn set_len(&mut self, length: u64) {
        let before = self.visible.length;
        if length < before {
            self.erase(length, before);
        }
        self.visible.length = length;
        self.unsynced_lengths.push((self.this_call(), length));
    }

    /// How much of a write there is room for. A block that exists has its room.
    pub(super) fn room(&self, at: u64, bytes: u64) -> u64 {
        let Some(capacity) = self.capacity_bytes else {
            return bytes;
        };
        let mut free = (capacity / BLOCK_BYTES).saturating_sub(self.visible.blocks.len() as u64);
        for block in at / BLOCK_BYTES..(at + bytes).div_ceil(BLOCK_BYTES) {
            if self.visible.blocks.contains_key(&block) {
                continue;
            }
            if free == 0 {
                return (block * BLOCK_BYTES).saturating_sub(at);
            }
            free -= 1;
        }
        bytes
    }

    /// Makes a range durable, and with it the length that reading it needs.
    pub(super) fn make_durable(&mut self, from: u64, to: u64) {
        for sector in self.sectors(from, to) {
            self.unsynced.remove(&sector);
            let bytes = self.sector(sector);
            self.durable.write(sector * self.sector_bytes, &bytes);
        }
        self.durable.length = self.durable.length.max(to);
        for (_, length) in &mut self.unsynced_lengths {
            *length = (*length).max(to);
        }
    }

    pub(super) fn make_all_durable(&mut self) {
        self.unsynced.clear();
        self.unsynced_lengths.clear();
        self.durable = self.visible.clone();
    }

    /// Decides what of the unsynced calls reached the platter, within some sectors or all of them.
    pub(super) fn settle(&mut self, only: Option<Range<u64>>) {
        let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
        let sectors: Vec<u64> = match &only {
            Some(range) => self
                .unsynced
                .range(range.clone())
                .map(|(s, _)| *s)
                .collect(),
            None => self.unsynced.keys().copied().collect(),
        };
        for sector in sectors {
            let Some(contents) = self.unsynced.remove(&sector) else {
                continue;
            };
            for (call, bytes) in contents {
                let random = &mut self.random;
                let bytes = match *fates.entry(call).or_insert_with(|| random.fate()) {
                    Fate::Kept => bytes,
                    Fate::Dropped => continue,
                    Fate::Torn => match random.below(8) {
                        0..4 => bytes,
                        4..7 => continue,
                        _ => random.garbage(bytes.len()),
                    },
                };
                self.durable.write(sector * self.sector_bytes, &bytes);
            }
        }
        if only.is_none() {
            for (call, length) in std::mem::take(&mut self.unsynced_lengths) {
                let random = &mut self.random;
                match *fates.entry(call).or_insert_with(|| random.fate()) {
                    Fate::Dropped => {}
                    Fate::Torn if random.coin() => {}
                    _ => self.durable.length = length,
                }
            }
            // What lies past the end is not in the file.
            let length = self.durable.length;
            self.durable.erase(length, u64::MAX / 2);
        }
    }

    /// A sync that failed: the pages count as clean from now on, whatever became of them, and some
    /// have already left the cache, so that the platter shows.
    pub(super) fn settle_after_failure(&mut self, only: Option<Range<u64>>) {
        let range = only.clone().unwrap_or(0..u64::MAX);
        let in_doubt: BTreeSet<u64> = self.unsynced.range(range).map(|(s, _)| *s).collect();
        self.settle(only);
        for sector in in_doubt {
            if self.random.coin() && self.visible.blocks.contains_key(&self.block_of(sector)) {
                let mut bytes = vec![0; self.sector_bytes as usize];
                self.durable.read(sector * self.sector_bytes, &mut bytes);
                self.visible.write(sector * self.sector_bytes, &bytes);
            }
        }
    }

    pub(super) fn block_of(&self, sector: u64) -> u64 {
        sector * self.sector_bytes / BLOCK_BYTES
    }

    pub(super) fn fails_this_sync(&mut self) -> bool {
        let fails = self.faults.fail_syncs > 0;
        self.faults.fail_syncs = self.faults.fail_syncs.saturating_sub(1);
        fails
    }

    /// Forgets the content of the file.
    pub(super) fn forget_file(&mut self) {
        self.visible = Content::default();
        self.make_all_durable();
    }

    pub(super) fn leave_process(&mut self) {
        self.process += 1;
        self.process_died = false;
        self.faults = Faults::default();
        self.lock_exclusive = false;
        self.locks_shared = 0;
    }
}
