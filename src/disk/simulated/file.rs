//! [`SimulatedFile`]: the file of a simulated machine, as one process has it open.

use std::io::{self, IoSlice};
use std::sync::{Mutex, MutexGuard};

use super::Fails;
use super::machine::SimulatedMachine;
use super::state::{Outcome, State};
use crate::disk::raw::{Lock, RawFile};

/// The file of a [`SimulatedMachine`] as one process has it open.
pub(super) struct SimulatedFile {
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
    /// Opens the file in the process that runs now.
    pub(super) fn new(machine: &SimulatedMachine) -> Self {
        Self {
            machine: machine.clone(),
            process: machine.state().process,
            held: Mutex::new(None),
        }
    }

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

    fn answers_at_once(&self) -> bool {
        true
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
