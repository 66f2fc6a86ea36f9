//! A store on a simulated machine beside its model.

use std::io::Read as _;

use fastrand::Rng;
use thunderhead::disk::{AssertingDisk, FileDisk, FileDiskOptions, Ledger, SimulatedMachine};
use thunderhead::format::Settings;
use thunderhead::{
    Batch, Compression, Durability, ErrorKind, Maintenance, Options, Result, Snapshot, Store,
    Transaction,
};

use super::append::Append;
use super::checks::{check_diff, check_names, check_snapshot, check_store};
use super::model::{Model, Naming, Operation, State, value};
use super::open::{Deed, Open};
use super::script::{BATCHES, Change, Modify, Step, TRANSACTIONS};

/// How the stores of a test are made.
#[derive(Clone)]
pub struct Shape {
    pub options: Options,
    pub files: FileDiskOptions,
    pub sector_bytes: u32,
}

impl Shape {
    /// One of several, all of them small.
    pub fn of(seed: u64) -> Self {
        let mut random = Rng::with_seed(!seed);
        let mut settings = Settings::tiny();
        settings.log_chunk_bytes = *random.choice([16 << 10, 32 << 10]).as_ref().expect("two");
        if random.u32(..3) == 0 {
            settings.page_bytes = 1024;
            settings.leaf_slots_max = 16;
            settings.children_max = 8;
            settings.slice_slots_max = 16;
            settings.slice_bytes = 1024;
            settings.journal_bytes_max = 1024;
        }
        // Blocks of several sectors, so that compressing one can save some.
        let blocks = if random.bool() { 512 } else { 2048 };
        let compressions = [
            Compression::None,
            #[cfg(feature = "lz4")]
            Compression::Lz4,
            #[cfg(feature = "zstd")]
            Compression::Zstd { level: 1 },
        ];
        let compression = compressions[random.usize(..compressions.len())];
        if compression != Compression::None {
            settings.block_bytes = blocks;
        }
        let sector_bytes = if random.u32(..4) == 0 { 4096 } else { 512 };
        let mut files = FileDiskOptions::default();
        files.segment_bytes = (64 << 10) << random.u32(..3);
        files.sector_bytes = sector_bytes;
        Self {
            options: Options::new()
                .settings(settings)
                .cache_bytes(1 << 20)
                .transaction_bytes(64 << 10)
                .journal_bytes(random.usize(500..2500))
                .checkpoint_log_bytes(random.u64(4 << 10..16 << 10))
                .compression(compression)
                .reserve_bytes(if random.bool() { 0 } else { 16 << 10 })
                .readahead_bytes(if random.bool() { 0 } else { 8 << 10 })
                .maintenance(Maintenance::Caller)
                .merge_operator(Append),
            files,
            sector_bytes,
        }
    }

    pub fn machine(&self, seed: u64) -> SimulatedMachine {
        SimulatedMachine::with_sector_bytes(seed, self.sector_bytes)
    }

    pub fn open(&self, machine: &SimulatedMachine) -> Result<Store> {
        let disk = FileDisk::open_or_create_on(machine, &self.files)?;
        self.options.open_disk(disk)
    }

    pub fn open_watched(&self, machine: &SimulatedMachine, ledger: &Ledger) -> Result<Store> {
        let disk = FileDisk::open_or_create_on(machine, &self.files)?;
        ledger.reopened();
        self.options.open_disk(AssertingDisk::new(disk, ledger))
    }
}

/// See the module.
pub struct World {
    pub machine: SimulatedMachine,
    pub shape: Shape,
    pub store: Option<Store>,
    pub model: Model,
    pub snapshots: Vec<Snapshot>,
    /// Batches that are open, and what they hold.
    batches: [Option<(Batch, Vec<Operation>)>; BATCHES],
    /// Transactions that are open.
    open: [Option<Open>; TRANSACTIONS],
    pub ledger: Option<Ledger>,
}

impl World {
    pub fn new(machine: SimulatedMachine, shape: &Shape) -> Self {
        Self {
            machine,
            shape: shape.clone(),
            store: None,
            model: Model::default(),
            snapshots: Vec::new(),
            batches: Default::default(),
            open: Default::default(),
            ledger: None,
        }
    }

    pub fn open(&mut self) -> Result<()> {
        self.store = Some(match &self.ledger {
            Some(ledger) => self.shape.open_watched(&self.machine, ledger)?,
            None => self.shape.open(&self.machine)?,
        });
        Ok(())
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    /// Opens and runs a script until something fails: how many steps succeeded.
    pub fn run(&mut self, script: &[Step]) -> (usize, Result<()>) {
        if let Err(error) = self.open() {
            return (0, Err(error));
        }
        for (done, step) in script.iter().enumerate() {
            if let Err(error) = self.step(step) {
                return (done, Err(error));
            }
        }
        (script.len(), Ok(()))
    }

    pub fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Single(operation, durability) => {
                let store = self.store().with_durability(*durability);
                self.model.begin(std::slice::from_ref(operation));
                let sequence = match operation {
                    Operation::Put(key, length, first) => {
                        store.put(key, value(*length, *first)).wait()?
                    }
                    Operation::Set(key, bytes) => store.put(key, bytes).wait()?,
                    Operation::Delete(key) => store.delete(key).wait()?,
                    Operation::DeleteRange(low, end) => {
                        if low >= end {
                            return Ok(());
                        }
                        store.delete_range(low.as_slice()..end.as_slice()).wait()?
                    }
                    Operation::Append(key, operand) => {
                        store.merge(key, "append", operand).wait()?
                    }
                    Operation::Refer(key, target) => store.put_reference(key, target).wait()?,
                    Operation::Clone(..) => unreachable!("cloned in transactions only"),
                };
                self.model.acknowledge(sequence.0, *durability);
            }
            Step::Transaction(operations, durability) => {
                let mut transaction = self.store().begin().wait()?;
                self.model.begin(operations);
                write(&mut transaction, operations)?;
                transaction.set_durability(*durability);
                let before = self.model.last();
                let sequence = transaction.commit().wait()?;
                if sequence.0 > before {
                    self.model.acknowledge(sequence.0, *durability);
                }
            }
            Step::Saving(operations, name, durability) => {
                let mut transaction = self.store().begin().wait()?;
                let naming = Naming::Save(name.clone(), 3);
                let possible = naming.is_possible(self.model.names());
                if possible {
                    self.model.begin_naming(operations, Some(naming));
                }
                write(&mut transaction, operations)?;
                transaction.save_snapshot(name, value(3, name.len() as u8))?;
                transaction.set_durability(*durability);
                let committed = transaction.commit().wait();
                if let Some(sequence) = done(committed, possible)? {
                    self.model.acknowledge(sequence.0, *durability);
                }
            }
            Step::Name(naming, durability) => {
                let store = self.store().with_durability(*durability);
                let snapshots = store.snapshots();
                let possible = naming.is_possible(self.model.names());
                if possible {
                    self.model.begin_naming(&[], Some(naming.clone()));
                }
                let named = match naming {
                    Naming::Save(name, length) => snapshots
                        .save_with(name, value(*length, name.len() as u8))
                        .wait()
                        .map(drop),
                    Naming::Rename(old, new) => snapshots.rename(old, new).wait(),
                    Naming::Delete(name) => {
                        let deleted = snapshots.delete(name).wait()?;
                        assert_eq!(deleted, possible);
                        if !deleted {
                            return Ok(());
                        }
                        Ok(())
                    }
                };
                if done(named, possible)?.is_some() {
                    self.model.acknowledge(store.sequence().0, *durability);
                }
            }
            Step::Restore(name, before) => {
                let names = self.model.names();
                let possible = names.contains_key(name) && !names.contains_key(before);
                if possible {
                    self.model.begin_restore(name, before);
                }
                let restored = self.store().snapshots().restore(name, before).wait();
                if let Some(sequence) = done(restored, possible)? {
                    self.model.acknowledge(sequence.0, Durability::Immediate);
                }
            }
            Step::Abandoned(operations) => {
                let mut transaction = self.store().begin().wait()?;
                write(&mut transaction, operations)?;
            }
            Step::Gather(at, operations) => {
                let (mut batch, mut held) = match self.batches[*at].take() {
                    Some(open) => open,
                    None => (self.store().batch(), Vec::new()),
                };
                let mut result = Ok(());
                for operation in operations {
                    result = gather(&mut batch, operation);
                    if result.is_err() {
                        break;
                    }
                    held.push(operation.clone());
                }
                self.batches[*at] = Some((batch, held));
                result?;
            }
            Step::CommitBatch(at, durability) => {
                let Some((mut batch, operations)) = self.batches[*at].take() else {
                    return Ok(());
                };
                self.model.begin(&operations);
                batch.set_durability(*durability);
                let before = self.model.last();
                let sequence = batch.commit().wait()?;
                if sequence.0 > before {
                    self.model.acknowledge(sequence.0, *durability);
                }
            }
            Step::DropBatch(at) => self.batches[*at] = None,
            Step::Modify(modify, durability) => self.modify(modify, *durability)?,
            Step::Begin(at) => {
                let transaction = self.store().begin().wait()?;
                self.open[*at] = Some(Open::new(transaction, self.model.newest()));
            }
            Step::Ask(at, question) => {
                if let Some(open) = &mut self.open[*at] {
                    open.ask(question)?;
                }
            }
            Step::Add(at, operations) => {
                if let Some(open) = &mut self.open[*at] {
                    open.add(operations)?;
                }
            }
            Step::CommitOpen(at, durability) => {
                if let Some(open) = self.open[*at].take() {
                    self.commit_open(open, *durability)?;
                }
            }
            Step::CommitTogether(durability) => self.commit_together(*durability)?,
            Step::DropOpen(at) => self.open[*at] = None,
            Step::GetMany(keys) => {
                let found = self.store().get_many(keys).wait()?;
                assert_eq!(found.len(), keys.len());
                for (key, found) in keys.iter().zip(&found) {
                    let expected = self.model.newest().get(key);
                    assert_eq!(found.as_deref(), expected.map(|value| &value[..]));
                    let Some(mut reader) = self.store().value_reader(key).wait()? else {
                        continue;
                    };
                    let mut read = Vec::new();
                    if let Err(error) = reader.read_to_end(&mut read) {
                        return Err(error.downcast().expect("an error of the store"));
                    }
                    assert_eq!(found.as_deref(), Some(&read[..]));
                }
            }
            Step::Compact => {
                self.model.begin_idle();
                let compacted = self.store().compact().wait();
                self.model.pass(self.store().sequence().0);
                compacted?;
                self.model.end_idle();
            }
            Step::Sync => {
                self.store().sync().wait()?;
                self.model.synced();
            }
            Step::Checkpoint => {
                self.store().checkpoint().wait()?;
                self.model.synced();
            }
            Step::Maintain => while self.store().maintain().wait()? {},
            Step::TakeSnapshot => self.snapshots.push(self.store().snapshot()),
            Step::CheckSnapshots => {
                for snapshot in &self.snapshots {
                    let state = self.model.state(snapshot.sequence().0);
                    check_snapshot(snapshot, state)?;
                }
                let newest = self.store().snapshot();
                for snapshot in &self.snapshots {
                    check_diff(&self.model, snapshot, &newest)?;
                    check_diff(&self.model, &newest, snapshot)?;
                }
                let names = check_names(self.store(), &self.model)?;
                assert_eq!(names, *self.model.names());
            }
            Step::DropSnapshot => {
                if !self.snapshots.is_empty() {
                    self.snapshots.remove(0);
                }
            }
            Step::Reopen { clean } => {
                self.snapshots.clear();
                self.open = Default::default();
                let batches = std::mem::take(&mut self.batches);
                let store = self.store.take().expect("the store is open");
                if *clean {
                    store.close().wait()?;
                    self.model.synced();
                    for (batch, operations) in batches.into_iter().flatten() {
                        let late = batch.commit().wait();
                        let closed = late.is_err_and(|error| error.kind() == ErrorKind::Closed);
                        assert!(closed || operations.is_empty(), "a closed store wrote");
                    }
                } else {
                    // Dropping a store syncs what it has.
                    drop(store);
                    // They keep the file as long as they are there.
                    drop(batches);
                    if !self.machine.has_crashed() {
                        self.model.synced();
                    }
                }
                self.open()?;
                assert_eq!(self.store().sequence().0, self.model.last());
            }
        }
        Ok(())
    }

    /// Commits a transaction that was open beside others, unless what it asked for has changed.
    fn commit_open(&mut self, open: Open, durability: Durability) -> Result<()> {
        let fits = open.fits(self.model.newest());
        let (mut transaction, operations) = open.into_parts();
        // If it may not be committed, it is in doubt at no time.
        if fits {
            self.model.begin(&operations);
        }
        transaction.set_durability(durability);
        let before = self.model.last();
        match transaction.commit().wait() {
            Ok(sequence) if sequence.0 > before => {
                assert!(fits, "committed although what it asked for has changed");
                self.model.acknowledge(sequence.0, durability);
            }
            Ok(_) => assert!(operations.is_empty(), "nothing was committed"),
            Err(error) if error.kind() == ErrorKind::Conflict => {
                assert!(!operations.is_empty(), "it wrote nothing");
                if fits {
                    self.model.refuse();
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Commits all that are open, each as a task: several are validated and written as one group.
    fn commit_together(&mut self, durability: Durability) -> Result<()> {
        let mut deeds: Vec<(Vec<Deed>, Vec<Operation>)> = Vec::new();
        let mut commits = Vec::new();
        for open in self.open.iter_mut().filter_map(Option::take) {
            let deeds_of_it = open.deeds.clone();
            let (mut transaction, operations) = open.into_parts();
            transaction.set_durability(durability);
            deeds.push((deeds_of_it, operations));
            commits.push(transaction.commit());
        }
        let results = futures::executor::block_on(futures::future::join_all(commits));
        let (mut failed, mut doubtful) = (None, Vec::new());
        for (result, (deeds, operations)) in results.into_iter().zip(deeds) {
            match result {
                Ok(sequence) if sequence.0 > self.model.last() => {
                    let fits = super::open::fits(&deeds, self.model.newest());
                    assert!(fits, "committed although what it asked for has changed");
                    self.model.begin(&operations);
                    self.model.acknowledge(sequence.0, durability);
                    doubtful.clear();
                }
                Ok(_) => assert!(operations.is_empty(), "nothing was committed"),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    assert!(!operations.is_empty(), "it wrote nothing");
                }
                Err(error) => {
                    failed = Some(error);
                    doubtful.push(operations);
                }
            }
        }
        self.model.doubt_together(&doubtful);
        failed.map_or(Ok(()), Err)
    }

    /// Does what depends on what is there, and tells the model what that comes to.
    fn modify(&mut self, modify: &Modify, durability: Durability) -> Result<()> {
        let store = self.store().with_durability(durability);
        let state = self.model.newest().clone();
        let removed = |entry: Option<(&Vec<u8>, &std::sync::Arc<[u8]>)>| {
            let (key, value) = entry?;
            Some((key.clone(), value.clone()))
        };
        let expected = match modify {
            Modify::PopFirst => removed(state.first_key_value()),
            Modify::PopLast => removed(state.last_key_value()),
            _ => None,
        };
        let keeps = |length: usize, divisor: usize| !length.is_multiple_of(divisor);
        let operations = match modify {
            Modify::Insert(key, length, first) => {
                vec![Operation::Put(key.clone(), *length, *first)]
            }
            Modify::Exchange {
                key,
                matching,
                length,
            } => match *matching || !state.contains_key(key) {
                true => vec![Operation::Put(key.clone(), *length, 5)],
                false => Vec::new(),
            },
            Modify::PopFirst | Modify::PopLast => expected
                .iter()
                .map(|(key, _)| Operation::Delete(key.clone()))
                .collect(),
            Modify::Retain(divisor) => state
                .iter()
                .filter(|(_, value)| !keeps(value.len(), *divisor))
                .map(|(key, _)| Operation::Delete(key.clone()))
                .collect(),
            // References are followed at a cursor, and may lead nowhere.
            Modify::Edit(divisor) => state
                .iter()
                .filter(|(key, _)| !key.starts_with(b"r"))
                .filter_map(|(key, value)| match value.len() {
                    length if !keeps(length, *divisor) => Some(Operation::Delete(key.clone())),
                    length if !keeps(length, *divisor + 1) => {
                        Some(Operation::Put(key.clone(), length / 2, 9))
                    }
                    _ => None,
                })
                .collect(),
            Modify::Change(changes, commit) => {
                let mut own = State::new();
                for (key, change) in changes {
                    let before = own.get(key).or(state.get(key));
                    let mut value = before.map(|value| value.to_vec());
                    if change.apply(&mut value) {
                        own.insert(key.clone(), value.unwrap_or_default().into());
                    }
                }
                own.retain(|_, _| *commit);
                own.iter()
                    .map(|(key, value)| Operation::Set(key.clone(), value.to_vec()))
                    .collect()
            }
        };
        if !operations.is_empty() {
            self.model.begin(&operations);
        }
        let before = store.sequence();
        match modify {
            Modify::Insert(key, length, first) => {
                let found = store.insert(key, value(*length, *first)).wait()?;
                let expected = state.get(key).map(|value| &value[..]);
                assert_eq!(found.as_deref(), expected);
            }
            Modify::Exchange {
                key,
                matching,
                length,
            } => {
                let there = state.get(key).map(|value| &value[..]);
                let expected = there.filter(|_| *matching);
                let new = value(*length, 5);
                let exchanged = store.compare_exchange(key, expected, Some(&new)).wait()?;
                let found = exchanged.map_err(|found| found.map(|value| value.to_vec()));
                match there == expected {
                    true => assert_eq!(found, Ok(())),
                    false => assert_eq!(found, Err(there.map(<[u8]>::to_vec))),
                }
            }
            Modify::PopFirst | Modify::PopLast => {
                let popped = match modify {
                    Modify::PopFirst => store.pop_first().wait()?,
                    _ => store.pop_last().wait()?,
                };
                let popped = popped.map(|(key, value)| (key, value.to_vec().into()));
                assert_eq!(popped, expected);
            }
            Modify::Change(changes, commit) => {
                let mut transaction = store.begin().wait()?;
                let mut seen = std::collections::BTreeMap::new();
                for (key, change) in changes {
                    change_part(&mut transaction, key, change)?;
                    let mut value = seen.remove(key).or_else(|| {
                        let value = state.get(key);
                        value.map(|value| value.to_vec())
                    });
                    change.apply(&mut value);
                    let found = match transaction.value_reader(key).wait()? {
                        Some(reader) => Some(reader.read_at(0, usize::MAX).wait()?),
                        None => None,
                    };
                    assert_eq!(found.as_deref(), value.as_deref());
                    seen.extend(value.map(|value| (key.clone(), value)));
                }
                if *commit {
                    transaction.commit().wait()?;
                }
            }
            Modify::Retain(divisor) => {
                let keep = |_: &[u8], value: &[u8]| keeps(value.len(), *divisor);
                let deleted = store.retain_in(.., keep).wait()?;
                assert_eq!(deleted, operations.len() as u64);
            }
            Modify::Edit(divisor) => {
                let mut transaction = store.begin().wait()?;
                let mut cursor = transaction.cursor_mut();
                while cursor.previous().wait()? {
                    if cursor.key().is_some_and(|key| key.starts_with(b"r")) {
                        continue;
                    }
                    let length = cursor.value().wait()?.map_or(0, <[u8]>::len);
                    if !keeps(length, *divisor) {
                        cursor.delete().wait()?;
                    } else if !keeps(length, *divisor + 1) {
                        cursor.put(value(length / 2, 9)).wait()?;
                    }
                }
                drop(cursor);
                transaction.commit().wait()?;
            }
        }
        match operations.is_empty() {
            true => assert_eq!(store.sequence(), before, "a commit of nothing"),
            false => self.model.acknowledge(store.sequence().0, durability),
        }
        Ok(())
    }

    /// Checks everything the store says against the newest state.
    pub fn check(&self) {
        let newest = self.model.newest_commit().clone();
        check_store(self.store(), &self.model, &[newest]);
    }

    /// Everything of the process is gone: its errors have nobody to be told to.
    pub fn end_process(&mut self) {
        self.snapshots.clear();
        self.batches = Default::default();
        self.open = Default::default();
        self.store = None;
    }
}

pub fn write(transaction: &mut Transaction, operations: &[Operation]) -> Result<()> {
    for operation in operations {
        match operation {
            Operation::Put(key, length, first) => {
                transaction.put(key, value(*length, *first)).wait()?;
            }
            Operation::Set(key, bytes) => transaction.put(key, bytes).wait()?,
            Operation::Delete(key) => transaction.delete(key).wait()?,
            Operation::DeleteRange(low, end) => {
                transaction
                    .delete_range(low.as_slice()..end.as_slice())
                    .wait()?;
            }
            Operation::Append(key, operand) => {
                transaction.merge(key, "append", operand).wait()?;
            }
            Operation::Refer(key, target) => transaction.put_reference(key, target).wait()?,
            Operation::Clone(from, to) => {
                transaction.clone_range(from, to).wait()?;
            }
        }
    }
    Ok(())
}

fn change_part(transaction: &mut Transaction, key: &[u8], change: &Change) -> Result<()> {
    match *change {
        Change::Stream(length, first) => {
            let mut writer = transaction.value_writer(key)?;
            for piece in value(length, first).chunks(700) {
                writer.write(piece).wait()?;
            }
            writer.finish().wait()
        }
        Change::Overwrite(at, length, first) => {
            let bytes = value(length, first);
            transaction.write_at(key, at as u64, &bytes).wait()
        }
        Change::Extend(length, first) => transaction.append_to(key, &value(length, first)).wait(),
        Change::Truncate(length) => transaction.truncate(key, length as u64).wait(),
    }
}

fn gather(batch: &mut Batch, operation: &Operation) -> Result<()> {
    match operation {
        Operation::Put(key, length, first) => batch.put(key, value(*length, *first)).wait(),
        Operation::Set(key, bytes) => batch.put(key, bytes).wait(),
        Operation::Delete(key) => batch.delete(key).wait(),
        Operation::DeleteRange(low, end) => {
            batch.delete_range(low.as_slice()..end.as_slice()).wait()
        }
        Operation::Append(key, operand) => batch.merge(key, "append", operand).wait(),
        Operation::Refer(key, target) => batch.put_reference(key, target).wait(),
        Operation::Clone(..) => unreachable!("cloned in transactions only"),
    }
}

/// Whether something was done; where it is impossible, an error says so.
fn done<T>(result: Result<T>, possible: bool) -> Result<Option<T>> {
    let refusals = [ErrorKind::AlreadyExists, ErrorKind::NotFound];
    match result {
        Err(error) if !possible && refusals.contains(&error.kind()) => Ok(None),
        Ok(_) if !possible => panic!("a name was given or taken that cannot be"),
        result => result.map(Some),
    }
}

/// A step in short.
pub fn shown(step: &Step) -> String {
    let mut text = format!("{step:?}");
    text.truncate(
        text.char_indices()
            .nth(150)
            .map_or(text.len(), |(at, _)| at),
    );
    text
}
