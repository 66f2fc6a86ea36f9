//! [`SimulatedMachine`]: one file on a machine that fails as told, crueller than any real one.
//!
//! **Not part of the stable interface**: it may change in any release. It is here so that the crash
//! tests of this crate, and of programs on top of it, can cut the power at every single call.
//!
//! Between the writes and the platter stands a page cache. A write is seen at once and durable
//! after a sync. Until then every sector keeps each content that it had since the last sync, along
//! with the call that gave it; a power loss decides for every *call* whether all of it, nothing of
//! it or a random choice of its sectors reached the platter, which also reorders calls, and torn
//! sectors may hold garbage. Everything is drawn from one seed: the same calls fail the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use super::raw::{Lock, RawFile};
use super::{FileDisk, FileDiskOptions};
use crate::error::{Error, ErrorKind, Result};

const BLOCK_BYTES: u64 = 4096;

/// How long a call that was told to fail keeps failing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fails {
    /// Only this one.
    Once,
    /// This one and all later ones.
    Forever,
}

/// A machine with one file. Clones are the same machine; it survives the processes on it.
///
/// *Mutating calls* (writes, durable writes, syncs, changes of length, holes, the naming of a new
/// file) are numbered from 0 over the machine's whole life, as are reads.
///
/// ```
/// use thunderhead::disk::{FileDisk, FileDiskOptions, SimulatedMachine};
///
/// let machine = SimulatedMachine::new(7);
/// let disk = FileDisk::create_on(&machine, &FileDiskOptions::default())?;
/// machine.crash_at(machine.calls() + 3);
/// // … whatever writes until it gets errors …
/// drop(disk);
/// machine.power_loss(8);
/// # Ok::<(), thunderhead::Error>(())
/// ```
#[derive(Clone)]
pub struct SimulatedMachine {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    random: Random,
    sector_bytes: u64,
    /// What a power loss leaves.
    durable: Content,
    /// What processes see.
    visible: Content,
    /// What sectors were since they were last known to be durable, oldest first.
    unsynced: BTreeMap<u64, Vec<Change>>,
    /// What the length was, likewise.
    unsynced_lengths: Vec<(u64, u64)>,
    /// The file has its name.
    named: bool,
    capacity_bytes: Option<u64>,
    faults: Faults,
    counters: Counters,
    /// Counts processes; files of earlier ones are dead.
    process: u64,
    process_died: bool,
    lock_exclusive: bool,
    locks_shared: usize,
}

/// What a call made of a sector.
type Change = (u64, Arc<[u8]>);

#[derive(Clone, Default)]
struct Content {
    blocks: BTreeMap<u64, Arc<[u8; BLOCK_BYTES as usize]>>,
    length: u64,
}

#[derive(Clone, Default)]
struct Faults {
    crash_at: Option<u64>,
    fail_call: Option<(u64, Fails)>,
    fail_read: Option<(u64, Fails)>,
    fail_syncs: u64,
    misdirect_to: Option<u64>,
    lose_write: bool,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    calls: u64,
    reads: u64,
    syncs: u64,
    bytes_written: u64,
}

/// What becomes of one mutating call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    Fails,
    /// The process dies in the middle of it.
    Dies,
}

/// What of a call that no sync covered reaches the platter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    Torn,
}

/// SplitMix64: small, and the same on every machine.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    fn fate(&mut self) -> Fate {
        match self.below(3) {
            0 => Fate::Kept,
            1 => Fate::Dropped,
            _ => Fate::Torn,
        }
    }

    fn garbage(&mut self, bytes: usize) -> Arc<[u8]> {
        (0..bytes).map(|_| self.next() as u8).collect()
    }
}

impl Content {
    fn read(&self, at: u64, into: &mut [u8]) {
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

    fn write(&mut self, at: u64, bytes: &[u8]) {
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
    fn erase(&mut self, from: u64, to: u64) {
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

impl State {
    /// Counts a mutating call, and says what becomes of it.
    fn begin_call(&mut self) -> Outcome {
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
    fn this_call(&self) -> u64 {
        self.counters.calls
    }

    fn sector(&self, sector: u64) -> Arc<[u8]> {
        let mut bytes = vec![0; self.sector_bytes as usize];
        self.visible.read(sector * self.sector_bytes, &mut bytes);
        bytes.into()
    }

    fn sectors(&self, from: u64, to: u64) -> std::ops::Range<u64> {
        from / self.sector_bytes..to.div_ceil(self.sector_bytes)
    }

    /// Puts bytes into the page cache.
    fn write(&mut self, at: u64, bytes: &[u8]) {
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
    fn note(&mut self, from: u64, to: u64) {
        let call = self.this_call();
        for sector in self.sectors(from, to) {
            let now = self.sector(sector);
            self.unsynced.entry(sector).or_default().push((call, now));
        }
    }

    fn erase(&mut self, from: u64, to: u64) {
        let blocks = from / BLOCK_BYTES..to.div_ceil(BLOCK_BYTES);
        let there: Vec<u64> = self.visible.blocks.range(blocks).map(|(b, _)| *b).collect();
        self.visible.erase(from, to);
        for block in there {
            let start = from.max(block * BLOCK_BYTES);
            let end = to.min((block + 1) * BLOCK_BYTES);
            self.note(start, end);
        }
    }

    fn set_len(&mut self, length: u64) {
        let before = self.visible.length;
        if length < before {
            self.erase(length, before);
        }
        self.visible.length = length;
        self.unsynced_lengths.push((self.this_call(), length));
    }

    /// How much of a write there is room for. A block that exists has its room.
    fn room(&self, at: u64, bytes: u64) -> u64 {
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
    fn make_durable(&mut self, from: u64, to: u64) {
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

    fn make_all_durable(&mut self) {
        self.unsynced.clear();
        self.unsynced_lengths.clear();
        self.durable = self.visible.clone();
    }

    /// Decides what of the unsynced calls reached the platter, within some sectors or all of them.
    fn settle(&mut self, only: Option<std::ops::Range<u64>>) {
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
    fn settle_after_failure(&mut self, only: Option<std::ops::Range<u64>>) {
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

    fn block_of(&self, sector: u64) -> u64 {
        sector * self.sector_bytes / BLOCK_BYTES
    }

    fn fails_this_sync(&mut self) -> bool {
        let fails = self.faults.fail_syncs > 0;
        self.faults.fail_syncs = self.faults.fail_syncs.saturating_sub(1);
        fails
    }

    fn leave_process(&mut self) {
        self.process += 1;
        self.process_died = false;
        self.faults = Faults::default();
        self.lock_exclusive = false;
        self.locks_shared = 0;
    }
}

impl SimulatedMachine {
    /// A machine without a file, whose sectors have 512 bytes.
    pub fn new(seed: u64) -> Self {
        Self::with_sector_bytes(seed, 512)
    }

    /// A machine without a file, whose crashes damage sectors of so many bytes: 512 or 4096.
    pub fn with_sector_bytes(seed: u64, sector_bytes: u32) -> Self {
        assert!(matches!(sector_bytes, 512 | 4096), "sectors of 512 or 4096");
        Self {
            state: Arc::new(Mutex::new(State {
                random: Random(seed),
                sector_bytes: sector_bytes.into(),
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
            })),
        }
    }

    /// Another machine in the same state, which goes its own way from here. Cheap: blocks are
    /// shared until written. No process runs on it.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut state = self.state().clone();
        state.leave_process();
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The process dies in the middle of this mutating call, part of which may take effect; every
    /// later call fails until [`power_loss`](Self::power_loss) or
    /// [`process_death`](Self::process_death).
    pub fn crash_at(&self, call: u64) {
        self.state().faults.crash_at = Some(call);
    }

    /// This mutating call fails with an I/O error, once or with all later ones. Part of a failed
    /// write may take effect; a failed sync leaves what it was to cover in doubt for ever.
    pub fn fail_call(&self, call: u64, fails: Fails) {
        self.state().faults.fail_call = Some((call, fails));
    }

    /// This read fails with an I/O error, once or with all later ones.
    pub fn fail_read(&self, read: u64, fails: Fails) {
        self.state().faults.fail_read = Some((read, fails));
    }

    /// The next so many syncs and durable writes fail.
    pub fn fail_syncs(&self, count: u64) {
        self.state().faults.fail_syncs = count;
    }

    /// The next write claims success but goes to another offset of the file.
    pub fn misdirect_next_write(&self, to: u64) {
        self.state().faults.misdirect_to = Some(to);
    }

    /// The next write claims success but goes nowhere.
    pub fn lose_next_write(&self) {
        self.state().faults.lose_write = true;
    }

    /// Takes back every fault that has not happened yet.
    pub fn clear_faults(&self) {
        self.state().faults = Faults::default();
    }

    /// How much there is room for, in blocks of 4 KiB. Blocks once written stay; punching and
    /// cutting frees them.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// Flips a bit, in the cache and on the platter.
    pub fn flip(&self, offset: u64, bit: u8) {
        let mut state = self.state();
        let state = &mut *state;
        for content in [&mut state.durable, &mut state.visible] {
            let mut byte = [0];
            content.read(offset, &mut byte);
            content.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        }
    }

    /// Cuts or lengthens the file, in the cache and on the platter.
    pub fn set_file_bytes(&self, length: u64) {
        let mut state = self.state();
        state.set_len(length);
        state.make_all_durable();
    }

    /// The power fails and comes back: no process lives, the cache is gone, what was not synced is
    /// there or not, each call for itself, decided by the seed. Faults are cleared.
    pub fn power_loss(&self, seed: u64) {
        let mut state = self.state();
        state.random = Random(seed);
        state.settle(None);
        state.visible = state.durable.clone();
        state.leave_process();
    }

    /// The process ends without warning. What it wrote is still in the cache: the next process sees
    /// it, and a later power loss may still take it. Faults are cleared.
    pub fn process_death(&self) {
        self.state().leave_process();
    }

    /// Whether the process met [`crash_at`](Self::crash_at).
    pub fn has_crashed(&self) -> bool {
        self.state().process_died
    }

    /// Whether the file has its name, that is, was created completely.
    pub fn exists(&self) -> bool {
        self.state().named
    }

    /// The number of mutating calls until now, which is also the number of the next one.
    pub fn calls(&self) -> u64 {
        self.state().counters.calls
    }

    /// The number of reads until now, which is also the number of the next one.
    pub fn reads(&self) -> u64 {
        self.state().counters.reads
    }

    /// The number of syncs until now, durable writes among them.
    pub fn syncs(&self) -> u64 {
        self.state().counters.syncs
    }

    /// The bytes of all writes until now.
    pub fn bytes_written(&self) -> u64 {
        self.state().counters.bytes_written
    }

    /// The sectors whose present content a power loss may take.
    pub fn unsynced_sectors(&self) -> usize {
        self.state().unsynced.len()
    }

    /// The length of the file as processes see it.
    pub fn file_bytes(&self) -> u64 {
        self.state().visible.length
    }

    /// The bytes of all blocks that the file takes.
    pub fn allocated_bytes(&self) -> u64 {
        self.state().visible.blocks.len() as u64 * BLOCK_BYTES
    }

    /// A copy of part of the file as processes see it; zeros past its end.
    pub fn peek(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        self.state().visible.read(offset, &mut out);
        out
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it held")
    }

    /// The machine's file, of the process that runs now.
    fn file(&self) -> SimulatedFile {
        SimulatedFile {
            machine: self.clone(),
            process: self.state().process,
            held: Mutex::new(None),
        }
    }
}

/// The file of a [`SimulatedMachine`] as one process has it open.
struct SimulatedFile {
    machine: SimulatedMachine,
    process: u64,
    held: Mutex<Option<Lock>>,
}

fn dead() -> io::Error {
    io::Error::other("simulated: the process is dead")
}

fn refused() -> io::Error {
    io::Error::other("simulated: an input/output error")
}

impl SimulatedFile {
    /// The machine's state, as long as this file's process lives.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.machine.state();
        match state.process == self.process && !state.process_died {
            true => Ok(state),
            false => Err(dead()),
        }
    }

    fn write(&self, at: u64, parts: &[IoSlice<'_>], durable: bool) -> io::Result<()> {
        let mut state = self.alive()?;
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let outcome = state.begin_call();
        if state.faults.lose_write && outcome == Outcome::Done {
            state.faults.lose_write = false;
            return Ok(());
        }
        let at = state.faults.misdirect_to.take().unwrap_or(at);
        let room = state.room(at, bytes.len() as u64);
        let full = room < bytes.len() as u64;
        bytes.truncate(room as usize);
        if outcome != Outcome::Done {
            let sectors = bytes.len() as u64 / state.sector_bytes;
            let part = state.random.below(sectors + 2) * state.sector_bytes;
            bytes.truncate(part as usize);
        }
        state.write(at, &bytes);
        let end = at + bytes.len() as u64;
        match outcome {
            Outcome::Dies => return Err(dead()),
            Outcome::Fails => {
                let sectors = state.sectors(at, end);
                if durable {
                    state.settle_after_failure(Some(sectors));
                }
                return Err(refused());
            }
            Outcome::Done if full => return Err(io::ErrorKind::StorageFull.into()),
            Outcome::Done => {}
        }
        if durable && !bytes.is_empty() {
            state.counters.syncs += 1;
            if state.fails_this_sync() {
                let sectors = state.sectors(at, end);
                state.settle_after_failure(Some(sectors));
                return Err(refused());
            }
            state.make_durable(at, end);
        }
        Ok(())
    }

    /// Does to the file what a call is for, unless the call fails before.
    fn change(&self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let mut state = self.alive()?;
        let outcome = state.begin_call();
        if outcome == Outcome::Done || state.random.coin() {
            change(&mut state);
        }
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Fails => Err(refused()),
            Outcome::Dies => Err(dead()),
        }
    }
}

impl RawFile for SimulatedFile {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let mut state = self.alive()?;
        let read = state.counters.reads;
        state.counters.reads += 1;
        match state.faults.fail_read {
            Some((failing, Fails::Once)) if read == failing => return Err(refused()),
            Some((failing, Fails::Forever)) if read >= failing => return Err(refused()),
            _ => {}
        }
        if at + into.len() as u64 > state.visible.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        state.visible.read(at, into);
        Ok(())
    }

    fn write_at(&self, at: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.write(at, parts, false)
    }

    fn write_at_durable(&self, at: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        self.write(at, parts, true)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.alive()?.visible.length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(|state| state.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        let outcome = state.begin_call();
        state.counters.syncs += 1;
        match outcome {
            // Some of it may have reached the platter by now; the power loss decides.
            Outcome::Dies => Err(dead()),
            Outcome::Fails => {
                state.settle_after_failure(None);
                Err(refused())
            }
            Outcome::Done if state.fails_this_sync() => {
                state.settle_after_failure(None);
                Err(refused())
            }
            Outcome::Done => {
                state.make_all_durable();
                Ok(())
            }
        }
    }

    fn punch(&self, at: u64, length: u64) -> io::Result<()> {
        self.change(|state| {
            let end = (at + length).min(state.visible.length);
            if at < end {
                state.erase(at, end);
            }
        })
    }

    fn try_lock(&self, lock: Lock) -> io::Result<bool> {
        let mut state = self.alive()?;
        let free = match lock {
            Lock::Exclusive => !state.lock_exclusive && state.locks_shared == 0,
            Lock::Shared => !state.lock_exclusive,
        };
        if free {
            match lock {
                Lock::Exclusive => state.lock_exclusive = true,
                Lock::Shared => state.locks_shared += 1,
            }
            *self.held.lock().expect("nobody panics with it held") = Some(lock);
        }
        Ok(free)
    }

    fn give_name(&self) -> io::Result<()> {
        if self.alive()?.named {
            return Ok(());
        }
        self.change(|state| state.named = true)
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.machine.state();
        let held = self.held.get_mut().ok().and_then(Option::take);
        if state.process != self.process {
            return;
        }
        match held {
            Some(Lock::Exclusive) => state.lock_exclusive = false,
            Some(Lock::Shared) => state.locks_shared -= 1,
            None => {}
        }
    }
}

const NAME: &str = "the simulated file";

/// File disks on a [`SimulatedMachine`]; not part of the stable interface.
impl FileDisk {
    /// Begins the machine's file. Errors as of [`FileDisk::create`].
    pub fn create_on(machine: &SimulatedMachine, options: &FileDiskOptions) -> Result<Self> {
        let file = machine.file();
        if machine.exists() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("creating {NAME}: there is already a file"),
            ));
        }
        let creating = |error| Error::io(format!("creating {NAME}"), error);
        if !file.try_lock(Lock::Exclusive).map_err(creating)? {
            return Err(Error::new(
                ErrorKind::Locked,
                format!("{NAME} is being created by someone else"),
            ));
        }
        let number = {
            let mut state = machine.state();
            // What a dead creator left under the temporary name is not a file that anybody knows.
            state.durable = Content::default();
            state.visible = Content::default();
            state.unsynced.clear();
            state.unsynced_lengths.clear();
            let halves = [state.random.next(), state.random.next()];
            (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_le_bytes()
        };
        Self::over_new(Box::new(file), NAME.to_owned(), number, options)
    }

    /// Opens the machine's file. Errors as of [`FileDisk::open`].
    pub fn open_on(machine: &SimulatedMachine, options: &FileDiskOptions) -> Result<Self> {
        if !machine.exists() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("opening {NAME}: there is none"),
            ));
        }
        Self::over_existing(Box::new(machine.file()), NAME.to_owned(), options)
    }

    /// Opens the machine's file, or begins it if there is none.
    pub fn open_or_create_on(
        machine: &SimulatedMachine,
        options: &FileDiskOptions,
    ) -> Result<Self> {
        match machine.exists() {
            true => Self::open_on(machine, options),
            false => Self::create_on(machine, options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Buffer, DiskModel, Page, block_on};
    use super::*;
    use crate::format::{Address, Extent, RootVersion};

    fn small() -> FileDiskOptions {
        FileDiskOptions {
            segment_bytes: 64 << 10,
            ..FileDiskOptions::default()
        }
    }

    fn page(offset: u32, byte: u8, length: usize) -> Page {
        Page {
            at: Address::new(0, offset),
            bytes: vec![byte; length].into(),
        }
    }

    fn read(disk: &FileDisk, offset: u32, length: usize) -> Result<Vec<u8>> {
        let at = Address::new(0, offset);
        Ok(block_on(disk.read(at, Buffer::zeroed(length)))?.into_vec())
    }

    fn publish(disk: &FileDisk, version: u64) -> Result<()> {
        let (expected, version) = (RootVersion(version - 1), RootVersion(version));
        let record = vec![version.0 as u8; 512].into();
        block_on(disk.publish_root(expected, version, record))
    }

    fn created(seed: u64) -> (SimulatedMachine, FileDisk) {
        let machine = SimulatedMachine::new(seed);
        let disk = FileDisk::create_on(&machine, &small()).unwrap();
        publish(&disk, 1).unwrap();
        (machine, disk)
    }

    #[test]
    fn a_power_loss_takes_only_what_no_sync_covered() {
        let mut fates = BTreeSet::new();
        for seed in 0..40 {
            let (machine, disk) = created(seed);
            block_on(disk.save(vec![page(0, 1, 4096)], false)).unwrap();
            block_on(disk.sync()).unwrap();
            block_on(disk.save(vec![page(4096, 2, 512)], true)).unwrap();
            block_on(disk.save(vec![page(8192, 3, 4096)], false)).unwrap();
            block_on(disk.save(vec![page(12288, 4, 512)], true)).unwrap();
            machine.power_loss(seed);
            assert!(read(&disk, 0, 1).is_err(), "the process is dead");
            let disk = FileDisk::open_on(&machine, &small()).unwrap();
            assert_eq!(read(&disk, 0, 4096).unwrap(), [1; 4096], "seed {seed}");
            assert_eq!(read(&disk, 4096, 512).unwrap(), [2; 512], "seed {seed}");
            assert_eq!(read(&disk, 12288, 512).unwrap(), [4; 512], "seed {seed}");
            let uncertain = read(&disk, 8192, 4096).unwrap();
            fates.insert(match &uncertain {
                bytes if bytes.iter().all(|byte| *byte == 3) => "kept",
                bytes if bytes.iter().all(|byte| *byte == 0) => "dropped",
                _ => "torn",
            });
        }
        assert_eq!(fates, BTreeSet::from(["dropped", "kept", "torn"]));
    }

    #[test]
    fn the_death_of_a_process_keeps_what_a_later_power_loss_may_take() {
        let (machine, disk) = created(3);
        block_on(disk.save(vec![page(0, 9, 16384)], false)).unwrap();
        machine.process_death();
        let disk = FileDisk::open_on(&machine, &small()).unwrap();
        assert_eq!(read(&disk, 0, 16384).unwrap(), [9; 16384]);
        let taken = (0..20).filter(|seed| {
            let machine = machine.fork();
            machine.power_loss(*seed);
            let disk = FileDisk::open_on(&machine, &small()).unwrap();
            !read(&disk, 0, 16384).is_ok_and(|bytes| bytes == [9; 16384])
        });
        assert!((1..20).contains(&taken.count()));
    }

    #[test]
    fn a_sync_after_a_failed_one_proves_nothing() {
        let lost = (0..30).filter(|seed| {
            let (machine, disk) = created(*seed);
            block_on(disk.save(vec![page(0, 5, 2048)], false)).unwrap();
            machine.fail_syncs(1);
            block_on(disk.sync()).unwrap_err();
            block_on(disk.sync()).unwrap();
            machine.power_loss(*seed);
            let disk = FileDisk::open_on(&machine, &small()).unwrap();
            !read(&disk, 0, 2048).is_ok_and(|bytes| bytes == [5; 2048])
        });
        assert!((1..30).contains(&lost.count()));
    }

    #[test]
    fn a_crash_at_every_call_of_a_creation_leaves_no_file_or_a_whole_one() {
        let (machine, disk) = created(1);
        let calls = machine.calls();
        drop(disk);
        for call in 0..=calls {
            for seed in 0..8 {
                let machine = SimulatedMachine::new(seed);
                machine.crash_at(call);
                let outcome = FileDisk::create_on(&machine, &small());
                let outcome = outcome.and_then(|disk| publish(&disk, 1));
                assert_eq!(outcome.is_ok(), call == calls);
                machine.power_loss(seed);
                let disk = FileDisk::open_or_create_on(&machine, &small()).unwrap();
                let roots = block_on(disk.load_root()).unwrap().records;
                match machine.exists() {
                    true => assert_eq!(roots, [vec![1; 512], vec![1; 512]], "seed {seed}"),
                    false => assert!(roots.is_empty() && call < calls),
                }
            }
        }
    }

    #[test]
    fn a_crash_while_publishing_leaves_the_newer_root_intact() {
        for seed in 0..50 {
            let (machine, disk) = created(seed);
            publish(&disk, 2).unwrap();
            machine.crash_at(machine.calls());
            publish(&disk, 3).unwrap_err();
            machine.power_loss(seed);
            let disk = FileDisk::open_on(&machine, &small()).unwrap();
            let roots = block_on(disk.load_root()).unwrap().records;
            assert!(
                roots.iter().any(|root| *root == [2; 512][..]),
                "seed {seed}"
            );
        }
    }

    #[test]
    fn a_full_disk_is_noticed_when_room_is_made_and_not_later() {
        let (machine, disk) = created(1);
        machine.set_capacity_bytes(Some(machine.allocated_bytes() + (32 << 10)));
        let extent = |offset, length| Extent::new(Address::new(0, offset), length);
        block_on(disk.prepare(extent(0, 24 << 10))).unwrap();
        let full = block_on(disk.prepare(extent(24 << 10, 16 << 10))).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        block_on(disk.save(vec![page(0, 1, 24 << 10)], true)).unwrap();
        let full = block_on(disk.save(vec![page(40 << 10, 1, 512)], false)).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        let extent = extent(0, 8 << 10);
        block_on(disk.release(vec![super::super::Release { extent }])).unwrap();
        block_on(disk.save(vec![page(40 << 10, 1, 512)], false)).unwrap();
    }

    #[test]
    fn the_same_seed_gives_the_same_disk() {
        let run = || {
            let (machine, disk) = created(11);
            for round in 0..30u32 {
                let _ = block_on(disk.save(vec![page(round * 700, round as u8, 900)], false));
                if round % 7 == 3 {
                    machine.fail_syncs(round as u64 % 2);
                    let _ = block_on(disk.sync());
                }
            }
            machine.power_loss(5);
            machine.peek(0, 64 << 10)
        };
        assert_eq!(run(), run());
    }

    #[test]
    fn told_faults_happen_where_told() {
        let (machine, disk) = created(2);
        machine.fail_call(machine.calls(), Fails::Once);
        block_on(disk.save(vec![page(0, 1, 512)], false)).unwrap_err();
        block_on(disk.save(vec![page(0, 1, 512)], false)).unwrap();
        machine.fail_read(machine.reads() + 1, Fails::Forever);
        read(&disk, 0, 512).unwrap();
        read(&disk, 0, 512).unwrap_err();
        read(&disk, 0, 512).unwrap_err();
        machine.clear_faults();
        machine.lose_next_write();
        block_on(disk.save(vec![page(0, 2, 512)], false)).unwrap();
        machine.misdirect_next_write(16384 + 1024);
        block_on(disk.save(vec![page(0, 3, 512)], false)).unwrap();
        assert_eq!(read(&disk, 0, 512).unwrap(), [1; 512]);
        assert_eq!(read(&disk, 1024, 512).unwrap(), [3; 512]);
        machine.flip(16384, 1);
        assert_eq!(read(&disk, 0, 1).unwrap(), [3]);
        let second = FileDisk::open_on(&machine, &small()).err().unwrap();
        assert_eq!(second.kind(), ErrorKind::Locked);
    }
}
