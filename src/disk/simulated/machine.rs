//! [`SimulatedMachine`]: what a test tells the machine to do, and asks of it.

use std::sync::{Arc, Mutex, MutexGuard};

use super::content::{BLOCK_BYTES, Random};
use super::file::SimulatedFile;
use super::state::{Faults, State};
use crate::disk::raw::{Lock, RawFile};
use crate::disk::{FileDisk, FileDiskOptions};
use crate::error::{Error, ErrorKind, Result};

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
/// **Not part of the stable interface.**
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

impl SimulatedMachine {
    /// A machine without a file, whose sectors have 512 bytes.
    pub fn new(seed: u64) -> Self {
        Self::with_sector_bytes(seed, 512)
    }

    /// A machine without a file, whose crashes damage sectors of so many bytes: 512 or 4096.
    pub fn with_sector_bytes(seed: u64, sector_bytes: u32) -> Self {
        assert!(matches!(sector_bytes, 512 | 4096), "sectors of 512 or 4096");
        Self {
            state: Arc::new(Mutex::new(State::new(seed, sector_bytes.into()))),
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

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it held")
    }

    /// The machine's file, of the process that runs now.
    fn file(&self) -> SimulatedFile {
        SimulatedFile::new(self)
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
            state.forget_file();
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
