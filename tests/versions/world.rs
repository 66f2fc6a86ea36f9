//! A store to which everything is done that versions allow, one random step after the other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use thunderhead::disk::{FileDisk, FileDiskOptions, SimulatedMachine};
use thunderhead::format::Settings;
use thunderhead::inspect::Summary;
use thunderhead::{Decision, Maintenance, Options, Snapshot, Store, StoredValue, Transaction};

use crate::{Map, contents, from_environment, verify};

pub struct World {
    machine: SimulatedMachine,
    options: Options,
    files: FileDiskOptions,
    store: Option<Store>,
    now: Map,
    names: BTreeMap<Vec<u8>, Map>,
    branches: BTreeMap<Vec<u8>, Map>,
    /// Snapshots that somebody reads, be their names deleted or not.
    held: Vec<(Snapshot, Map)>,
    random: Rng,
    value_bytes_max: usize,
    /// Names are saved many at a time, too, and versions compared and reconciled.
    busy: bool,
    /// How many of these names there were.
    many: u32,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let machine = SimulatedMachine::new(seed);
        let tiny = !random.u8(..).is_multiple_of(4);
        let options = Options::new()
            .settings(match tiny {
                true => Settings::tiny(),
                false => Settings::default(),
            })
            .maintenance(Maintenance::Caller)
            .journal_bytes([300, 2000, 20_000][random.usize(..3)])
            .checkpoint_log_bytes([4 << 10, 64 << 10][random.usize(..2)])
            .transaction_bytes([4 << 10, 64 << 20][random.usize(..2)]);
        let mut files = FileDiskOptions::default();
        files.segment_bytes = match tiny {
            true => 256 << 10,
            false => 16 << 20,
        };
        let mut world = Self {
            machine,
            options,
            files,
            store: None,
            now: Map::new(),
            names: BTreeMap::new(),
            branches: BTreeMap::new(),
            held: Vec::new(),
            random,
            value_bytes_max: if tiny { 3000 } else { 60_000 },
            busy: false,
            many: 0,
        };
        if world.random.bool() {
            world.value_bytes_max *= 5;
        }
        world.open();
        world
    }

    fn open(&mut self) {
        let disk = FileDisk::open_or_create_on(&self.machine, &self.files).expect("a disk");
        self.store = Some(self.options.open_disk(disk).expect("a store"));
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.random.u32(..60);
        format!("key{number:02}").into_bytes()
    }

    fn name(&mut self) -> Vec<u8> {
        format!("name{}", self.random.u32(..12)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let most = match self.random.u8(..4) {
            0 => self.value_bytes_max,
            _ => 40,
        };
        let length = self.random.usize(..=most);
        (0..length).map(|_| self.random.u8(..)).collect()
    }

    fn step(&mut self) {
        let kinds = if self.busy { 64 } else { 54 };
        match self.random.u8(..kinds) {
            0..=9 => {
                let (key, value) = (self.key(), self.value());
                self.store().put(&key, &value).wait().expect("a put");
                self.now.insert(key, value);
            }
            10..=12 => {
                let key = self.key();
                self.store().delete(&key).wait().expect("a deletion");
                self.now.remove(&key);
            }
            13 => {
                let (one, other) = (self.key(), self.key());
                let (low, end) = (one.clone().min(other.clone()), one.max(other));
                let range = low.as_slice()..end.as_slice();
                self.store().delete_range(range).wait().expect("a deletion");
                self.now.retain(|key, _| *key < low || *key >= end);
            }
            14 | 15 => self.transaction(),
            16..=18 => {
                let key = self.key();
                if let Some(value) = self.now.get_mut(&key) {
                    let part = vec![7; self.random.usize(..50)];
                    let at = self.random.usize(..=value.len());
                    let store = self.store.as_ref().expect("the store is open");
                    let written = store.write_at(&key, at as u64, &part).wait();
                    written.expect("a part of a value");
                    let end = value.len().max(at + part.len());
                    value.resize(end, 0);
                    value[at..at + part.len()].copy_from_slice(&part);
                }
            }
            19..=23 => {
                let name = self.name();
                let saved = self.store().snapshots().save(&name).wait();
                if self.names.contains_key(&name) {
                    saved.expect_err("the name is taken");
                } else {
                    saved.expect("a snapshot");
                    self.names.insert(name, self.now.clone());
                }
            }
            24..=26 => {
                let name = self.name();
                let deleted = self.store().snapshots().delete(&name).wait();
                let was = self.names.remove(&name).is_some();
                assert_eq!(deleted.expect("a deletion"), was);
            }
            27 => {
                let (old, new) = (self.name(), self.name());
                let renamed = self.store().snapshots().rename(&old, &new).wait();
                if renamed.is_ok() && old != new {
                    let map = self.names.remove(&old).expect("a name that was renamed");
                    self.names.insert(new, map);
                }
            }
            28 | 29 => {
                self.store().maintain().wait().expect("maintenance");
            }
            30..=32 => self.store().checkpoint().wait().expect("a checkpoint"),
            33 => {
                self.store().compact().wait().expect("a compaction");
            }
            34 => {
                self.held.clear();
                let store = self.store.take().expect("the store is open");
                store.close().wait().expect("closing");
                self.open();
            }
            35 => {
                self.held.clear();
                self.store = None;
                self.machine.process_death();
                self.open();
            }
            36 => {
                // Everything is committed durably.
                self.machine = self.machine.fork();
                self.held.clear();
                self.store = None;
                let seed = self.random.u64(..);
                self.machine.power_loss(seed);
                self.open();
            }
            44..=49 => self.branch_step(),
            54..=57 => self.diff_step(),
            58..=60 => self.reconcile_step(),
            61..=63 => self.many_names(),
            50..=53 => {
                let store = self.store().clone();
                let mut transaction = store.begin().wait().expect("a transaction");
                let mut map = std::mem::take(&mut self.now);
                for _ in 0..self.random.usize(1..3) {
                    self.clone_some(&mut transaction, &mut map);
                }
                transaction.commit().wait().expect("a commit");
                self.now = map;
            }
            40..=43 => {
                let (name, before) = (self.name(), self.name());
                let snapshots = self.store().snapshots();
                let restored = snapshots.restore(&name, &before).wait();
                match self.names.get(&name).cloned() {
                    Some(map) if !self.names.contains_key(&before) => {
                        restored.expect("restoring");
                        let was = std::mem::replace(&mut self.now, map);
                        self.names.insert(before, was);
                    }
                    _ => drop(restored.expect_err("there is no such name, or there is the other")),
                }
            }
            _ => {
                let name = self.name();
                if let Some(map) = self.names.get(&name) {
                    let snapshot = self.store().snapshots().open(&name).wait();
                    let snapshot = snapshot.expect("a snapshot");
                    self.held.push((snapshot, map.clone()));
                }
                if self.held.len() > 3 {
                    let index = self.random.usize(..self.held.len());
                    let (snapshot, map) = self.held.swap_remove(index);
                    assert_eq!(contents(&snapshot), map);
                }
            }
        }
    }

    /// Any version, and what it has.
    fn any_version(&mut self) -> (Snapshot, Map) {
        let store = self.store().clone();
        let kinds = [self.names.len(), self.branches.len(), self.held.len(), 1];
        let all: usize = kinds.iter().sum();
        let mut index = self.random.usize(..all);
        if let Some((name, map)) = self.names.iter().nth(index) {
            let snapshot = store.snapshots().open(name).wait();
            return (snapshot.expect("a snapshot"), map.clone());
        }
        index -= kinds[0];
        if let Some((name, map)) = self.branches.iter().nth(index) {
            let branch = store.branches().open(name).wait().expect("a branch");
            return (branch.snapshot().wait().expect("its newest"), map.clone());
        }
        index -= kinds[1];
        match self.held.get(index) {
            Some((snapshot, map)) => (snapshot.clone(), map.clone()),
            None => (store.snapshot(), self.now.clone()),
        }
    }

    /// The difference of two versions, applied to the one, is the other, and no more than that.
    fn diff_step(&mut self) {
        let ((old, mut map), (new, expected)) = (self.any_version(), self.any_version());
        let is_same = old.is_same(&new).wait().expect("a comparison");
        assert_eq!(is_same, map == expected);
        for difference in old.diff(&new).expect("a difference") {
            let difference = difference.expect("a difference");
            let key = difference.key().to_vec();
            let load = |value: &StoredValue| value.load().wait().expect("a value").to_vec();
            let (was, is) = (difference.old().map(load), difference.new().map(load));
            assert!(was != is, "a difference that is none");
            assert!(map.get(&key) == was.as_ref());
            match is {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        assert!(map == expected);
    }

    /// What changed from one version to another is brought into the newest one; of what collides, ours or
    /// theirs stays.
    fn reconcile_step(&mut self) {
        let ((base, old), (theirs, new)) = (self.any_version(), self.any_version());
        let takes_theirs = self.random.bool();
        let decision = match takes_theirs {
            true => Decision::Theirs,
            false => Decision::Ours,
        };
        let differences = base.diff(&theirs).expect("a difference");
        let mut transaction = self.store().begin().wait().expect("a transaction");
        let reconciled = transaction.reconcile(differences, |_| {
            let decision = decision.clone();
            async move { Ok(decision) }
        });
        reconciled.wait().expect("reconciling");
        transaction.commit().wait().expect("a commit");
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let (was, is, ours) = (old.get(key), new.get(key), self.now.get(key));
            if was == is || ours == is || (ours != was && !takes_theirs) {
                continue;
            }
            match is {
                Some(value) => drop(self.now.insert(key.clone(), value.clone())),
                None => drop(self.now.remove(key)),
            }
        }
    }

    /// Saves after each of many small commits, some of them with a transaction's own writes, or deletes many.
    fn many_names(&mut self) {
        if self.many > 60 && self.random.bool() {
            let keep = self.random.u32(..7);
            let goes = |name: &[u8]| match name.strip_prefix(b"many") {
                Some(number) => !number.ends_with(keep.to_string().as_bytes()),
                None => false,
            };
            let snapshots = self.store().snapshots();
            let retained = snapshots.retain(|info| !goes(&info.name));
            let deleted = retained.wait().expect("a deletion") as usize;
            let before = self.names.len();
            self.names.retain(|name, _| !goes(name));
            assert_eq!(deleted, before - self.names.len());
            self.many = 0;
            return;
        }
        for _ in 0..self.random.usize(1..25) {
            self.many += 1;
            let name = format!("many{:03}", self.random.u32(..1000)).into_bytes();
            let (key, value) = (self.key(), self.value());
            let is_taken = self.names.contains_key(&name);
            if self.random.bool() {
                let mut transaction = self.store().begin().wait().expect("a transaction");
                transaction.put(&key, &value).wait().expect("a put");
                transaction.save_snapshot(&name, "many").expect("a name");
                if is_taken {
                    transaction.commit().wait().expect_err("it is taken");
                    continue;
                }
                transaction.commit().wait().expect("a commit");
                self.now.insert(key, value);
            } else {
                self.store().put(&key, &value).wait().expect("a put");
                self.now.insert(key, value);
                let saved = self.store().snapshots().save(&name).wait();
                if is_taken {
                    saved.expect_err("it is taken");
                    continue;
                }
                saved.expect("a snapshot");
            }
            self.names.insert(name, self.now.clone());
            match self.random.u8(..12) {
                0 => drop(self.store().maintain().wait().expect("maintenance")),
                1 => self.store().checkpoint().wait().expect("a checkpoint"),
                _ => {}
            }
        }
    }

    /// Clones the keys with one digit under another one.
    fn clone_some(&mut self, transaction: &mut Transaction, map: &mut Map) {
        let [from, to] = [(); 2].map(|()| format!("key{}", self.random.u8(..6)).into_bytes());
        let cloned = transaction.clone_range(&from, &to).wait();
        if from == to {
            cloned.expect_err("a range into itself");
            return;
        }
        map.retain(|key, _| !key.starts_with(&to));
        let with_other_prefix = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            let rest = key.strip_prefix(&from[..])?;
            Some(([&to, rest].concat(), value.clone()))
        };
        let clones: Vec<_> = map.iter().filter_map(with_other_prefix).collect();
        assert_eq!(cloned.expect("clones"), clones.len() as u64);
        map.extend(clones);
        if self.random.bool() {
            // A part of one, and what it was made of, go their own ways.
            let (key, part) = (self.key(), vec![9; self.random.usize(..700)]);
            if let Some(value) = map.get_mut(&key) {
                let at = self.random.usize(..=value.len());
                let written = transaction.write_at(&key, at as u64, &part).wait();
                written.expect("a part of a value");
                let end = value.len().max(at + part.len());
                value.resize(end, 0);
                value[at..at + part.len()].copy_from_slice(&part);
            }
        }
    }

    fn transaction(&mut self) {
        let store = self.store.as_ref().expect("the store is open").clone();
        let mut transaction = store.begin().wait().expect("a transaction");
        for _ in 0..self.random.usize(1..60) {
            let (key, value) = (self.key(), self.value());
            transaction.put(&key, &value).wait().expect("a put");
            self.now.insert(key, value);
        }
        transaction.commit().wait().expect("a commit");
    }

    fn branch_name(&mut self) -> Vec<u8> {
        format!("branch{}", self.random.u32(..3)).into_bytes()
    }

    fn branch_step(&mut self) {
        let branches = self.store().branches();
        let (branch, name) = (self.branch_name(), self.name());
        match self.random.u8(..8) {
            0 | 1 => {
                let created = branches.create(&branch, &name).wait();
                match self.names.get(&name).cloned() {
                    Some(map) if !self.branches.contains_key(&branch) => {
                        created.expect("a branch");
                        self.branches.insert(branch, map);
                    }
                    _ => drop(created.expect_err("there is no such snapshot, or that branch")),
                }
            }
            2 => {
                let deleted = branches.delete(&branch).wait().expect("a deletion");
                assert_eq!(deleted, self.branches.remove(&branch).is_some());
            }
            3 => {
                let Some(map) = self.branches.get(&branch).cloned() else {
                    branches
                        .open(&branch)
                        .wait()
                        .expect_err("there is no such branch");
                    return;
                };
                let branch = branches.open(&branch).wait().expect("a branch");
                let saved = branch.save(&name).wait();
                match self.names.entry(name) {
                    Entry::Occupied(_) => drop(saved.expect_err("the name is taken")),
                    Entry::Vacant(entry) => {
                        saved.expect("a snapshot");
                        entry.insert(map);
                    }
                }
            }
            _ => {
                let Some(mut map) = self.branches.remove(&branch) else {
                    return;
                };
                let handle = branches.open(&branch).wait().expect("a branch");
                let mut transaction = handle.begin().wait().expect("a transaction");
                let before = map.clone();
                if self.random.u8(..3) == 0 {
                    self.clone_some(&mut transaction, &mut map);
                }
                for _ in 0..self.random.usize(1..30) {
                    let (key, value) = (self.key(), self.value());
                    if self.random.u8(..4) == 0 {
                        transaction.delete(&key).wait().expect("a deletion");
                        map.remove(&key);
                    } else {
                        transaction.put(&key, &value).wait().expect("a put");
                        map.insert(key, value);
                    }
                }
                let some = self.key();
                let read = transaction.get(&some).wait().expect("a read");
                assert_eq!(read.as_deref(), map.get(&some).map(Vec::as_slice));
                if self.random.u8(..5) == 0 {
                    drop(transaction);
                    map = before;
                } else {
                    transaction.commit().wait().expect("a commit to a branch");
                }
                self.branches.insert(branch, map);
            }
        }
    }

    fn check_names(&self) {
        for (name, map) in &self.branches {
            let branch = self.store().branches().open(name).wait();
            let snapshot = branch.expect("a branch").snapshot().wait();
            assert!(contents(&snapshot.expect("its newest version")) == *map);
        }
        let listed = self.store().branches().list().wait().expect("a list");
        let listed: Vec<_> = listed.into_iter().map(|info| info.name).collect();
        assert!(listed.iter().eq(self.branches.keys()));
        for (name, map) in &self.names {
            let snapshot = self.store().snapshots().open(name).wait();
            let snapshot = snapshot.unwrap_or_else(|error| {
                panic!("{}: {error}", name.escape_ascii());
            });
            assert!(contents(&snapshot) == *map, "{}", name.escape_ascii());
        }
        assert!(contents(&self.store().snapshot()) == self.now);
        for (snapshot, map) in &self.held {
            assert!(contents(snapshot) == *map);
        }
    }

    pub fn check_sound(&self) -> Summary {
        let (findings, summary) = verify(self.store());
        assert!(findings.is_empty(), "{findings:#?}");
        summary
    }
}

#[test]
fn each_name_reads_what_was_there_and_nothing_is_lost_or_left_over() {
    let rounds = 60 * from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1);
    let first = from_environment("THUNDERHEAD_SEED");
    let mut seeds: Vec<u64> = first.map_or((0..rounds).collect(), |seed| vec![seed]);
    if first.is_none() {
        // Restored from within a line that is gone, and from the newest version of a branch.
        seeds.extend([149, 369]);
    }
    play(&seeds, false);
}

/// The same while names are saved many at a time, between few checkpoints, and all these versions are
/// compared and reconciled.
#[test]
fn names_that_are_saved_often_can_be_compared_and_reconciled_with_any() {
    let rounds = 20 * from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1);
    let first = from_environment("THUNDERHEAD_SEED");
    let seeds: Vec<u64> = first.map_or((0..rounds).collect(), |seed| vec![seed]);
    play(&seeds, true);
}

fn play(seeds: &[u64], busy: bool) {
    for &seed in seeds {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.busy = busy;
        for step in 0..150 {
            world.step();
            if step % 25 == 24 {
                world.check_names();
                world.check_sound();
            }
        }
        for name in world.names.keys().cloned().collect::<Vec<_>>() {
            world.store().snapshots().delete(name).wait().unwrap();
        }
        world.names.clear();
        for branch in world.branches.keys().cloned().collect::<Vec<_>>() {
            assert!(world.store().branches().delete(branch).wait().unwrap());
        }
        world.branches.clear();
        world.held.clear();
        // Each checkpoint takes apart what the one before made free, one version after the other.
        for _ in 0..12 {
            world.store().put("again", "and again").wait().unwrap();
            world.store().checkpoint().wait().unwrap();
            while world.store().maintain().wait().unwrap() {}
            let summary = world.check_sound();
            if summary.kept_versions == 0 && summary.kept.pages() == 0 {
                break;
            }
        }
        let summary = world.check_sound();
        assert_eq!(summary.kept_versions, 0, "seed {seed}");
        assert_eq!(summary.kept.pages(), 0, "seed {seed}");
        world.now.insert("again".into(), "and again".into());
        world.check_names();
        world.store().delete_range(..).wait().expect("a deletion");
        for _ in 0..6 {
            world.store().put("again", "and again").wait().unwrap();
            world.store().checkpoint().wait().unwrap();
            while world.store().maintain().wait().unwrap() {}
        }
        let summary = world.check_sound();
        assert_eq!(summary.pending.values, 0, "seed {seed}");
    }
}
