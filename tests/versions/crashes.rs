//! Short scripts over versions of all kinds, with a crash or a failure at every call of the disk.

use std::collections::BTreeMap;

use thunderhead::disk::{Fails, FileDisk, FileDiskOptions, SimulatedMachine};
use thunderhead::format::Settings;
use thunderhead::{Maintenance, Options, Store};

use crate::{Map, contents, from_environment, verify};

/// What a store has: its content, its names, its branches.
#[derive(Clone, Default, PartialEq)]
struct Model {
    now: Map,
    names: BTreeMap<Vec<u8>, Map>,
    branches: BTreeMap<Vec<u8>, Map>,
}

/// Something to be done, all of it or nothing.
#[derive(Clone, Debug)]
enum Action {
    Put(u8, usize),
    Save(u8),
    Delete(u8),
    Restore(u8, u8),
    Branch(u8, u8),
    CommitToBranch(u8, u8, usize),
    SaveBranch(u8, u8),
    DeleteBranch(u8),
    /// The keys that begin with one byte become those that begin with another.
    Clone(u8, u8),
    CloneInBranch(u8, u8, u8),
    Remove(u8),
    Checkpoint,
    Compact,
}

impl Action {
    fn apply(&self, store: &Store) -> Result<(), thunderhead::Error> {
        let (snapshots, branches) = (store.snapshots(), store.branches());
        match *self {
            Self::Put(key, length) => drop(store.put([key], vec![key; length]).wait()?),
            Self::Save(name) => drop(snapshots.save([name]).wait()?),
            Self::Delete(name) => drop(snapshots.delete([name]).wait()?),
            Self::Restore(name, before) => drop(snapshots.restore([name], [before]).wait()?),
            Self::Branch(branch, name) => drop(branches.create([branch], [name]).wait()?),
            Self::CommitToBranch(branch, key, length) => {
                let mut transaction = branches.open([branch]).wait()?.begin().wait()?;
                transaction.put([key], vec![key; length]).wait()?;
                transaction.commit().wait()?;
            }
            Self::SaveBranch(branch, name) => {
                drop(branches.open([branch]).wait()?.save([name]).wait()?);
            }
            Self::DeleteBranch(branch) => drop(branches.delete([branch]).wait()?),
            Self::Clone(from, to) => drop(store.clone_range([from], [to]).wait()?),
            Self::CloneInBranch(branch, from, to) => {
                let mut transaction = branches.open([branch]).wait()?.begin().wait()?;
                transaction.clone_range([from], [to]).wait()?;
                transaction.commit().wait()?;
            }
            Self::Remove(key) => drop(store.delete([key]).wait()?),
            Self::Checkpoint => store.checkpoint().wait()?,
            Self::Compact => drop(store.compact().wait()?),
        }
        Ok(())
    }

    fn change(&self, model: &mut Model) {
        match *self {
            Self::Put(key, length) => drop(model.now.insert(vec![key], vec![key; length])),
            Self::Save(name) => drop(model.names.insert(vec![name], model.now.clone())),
            Self::Delete(name) => drop(model.names.remove(&[name][..])),
            Self::Restore(name, before) => {
                let restored = model.names[&[name][..]].clone();
                let was = std::mem::replace(&mut model.now, restored);
                model.names.insert(vec![before], was);
            }
            Self::Branch(branch, name) => {
                let content = model.names[&[name][..]].clone();
                model.branches.insert(vec![branch], content);
            }
            Self::CommitToBranch(branch, key, length) => {
                let content = model.branches.get_mut(&[branch][..]).expect("a branch");
                content.insert(vec![key], vec![key; length]);
            }
            Self::SaveBranch(branch, name) => {
                let content = model.branches[&[branch][..]].clone();
                model.names.insert(vec![name], content);
            }
            Self::DeleteBranch(branch) => drop(model.branches.remove(&[branch][..])),
            Self::Clone(from, to) => clone_key(&mut model.now, from, to),
            Self::CloneInBranch(branch, from, to) => {
                let content = model.branches.get_mut(&[branch][..]).expect("a branch");
                clone_key(content, from, to);
            }
            Self::Remove(key) => drop(model.now.remove(&[key][..])),
            Self::Checkpoint | Self::Compact => {}
        }
    }
}

fn clone_key(map: &mut Map, from: u8, to: u8) {
    match map.get(&[from][..]).cloned() {
        Some(value) => drop(map.insert(vec![to], value)),
        None => drop(map.remove(&[to][..])),
    }
}

fn model_of(store: &Store) -> Model {
    let names = store.snapshots().list().map(|info| {
        let name = info.expect("a list").name;
        let snapshot = store.snapshots().open(&name).wait();
        let content = contents(&snapshot.expect("a snapshot"));
        (name, content)
    });
    let names = names.collect();
    let listed = store.branches().list().wait().expect("a list");
    let branches = listed.into_iter().map(|info| {
        let branch = store.branches().open(&info.name).wait().expect("a branch");
        let content = contents(&branch.snapshot().wait().expect("its newest version"));
        (info.name, content)
    });
    Model {
        now: contents(&store.snapshot()),
        branches: branches.collect(),
        names,
    }
}

/// Versions are saved, restored, branched, taken apart and compacted.
fn keeping() -> Vec<Action> {
    use Action::*;
    vec![
        Put(1, 20),
        Put(2, 900),
        Save(b'a'),
        Put(1, 30),
        Checkpoint,
        Put(2, 1500),
        Save(b'b'),
        Put(3, 40),
        Checkpoint,
        Restore(b'a', b'c'),
        Put(4, 700),
        Branch(b'x', b'b'),
        CommitToBranch(b'x', 5, 800),
        SaveBranch(b'x', b'd'),
        CommitToBranch(b'x', 6, 60),
        Delete(b'b'),
        Checkpoint,
        Restore(b'c', b'e'),
        DeleteBranch(b'x'),
        Delete(b'c'),
        Compact,
        Delete(b'a'),
        Delete(b'e'),
        Checkpoint,
        Delete(b'd'),
        Checkpoint,
        Checkpoint,
    ]
}

/// The same while values share their data with clones, which are cloned, overwritten and deleted, in
/// branches too.
fn cloning() -> Vec<Action> {
    use Action::*;
    vec![
        Put(1, 9000),
        Put(2, 900),
        Clone(1, 3),
        Save(b'a'),
        Clone(3, 4),
        Put(1, 5000),
        Checkpoint,
        Branch(b'x', b'a'),
        CloneInBranch(b'x', 1, 5),
        CloneInBranch(b'x', 5, 1),
        SaveBranch(b'x', b'b'),
        Remove(3),
        Checkpoint,
        Compact,
        DeleteBranch(b'x'),
        Restore(b'a', b'c'),
        Clone(1, 6),
        Delete(b'a'),
        Remove(1),
        Delete(b'b'),
        Checkpoint,
        Remove(6),
        Delete(b'c'),
        Checkpoint,
        Remove(3),
        Checkpoint,
        Checkpoint,
    ]
}

/// Every call of the disk in which power may fail: afterwards everything is as before the call or as after
/// it.
#[test]
fn a_crash_in_the_midst_of_anything_leaves_what_was_before_or_after() {
    crash_everywhere(&keeping());
}

#[test]
fn a_crash_in_the_midst_of_cloning_leaves_what_was_before_or_after() {
    crash_everywhere(&cloning());
}

/// Every call of the disk that may fail, and every read, once: what was asked for has happened or has not, and
/// the store, or one that is opened after it if it was poisoned, goes on.
#[test]
fn a_call_that_fails_leaves_what_was_before_or_after_and_a_store_that_goes_on() {
    for script in [keeping(), cloning()] {
        let fail = |machine: &SimulatedMachine, call| machine.fail_call(call, Fails::Once);
        fail_everywhere(&script, fail, SimulatedMachine::calls);
    }
}

#[test]
fn a_read_that_fails_leaves_what_was_before_or_after_and_a_store_that_goes_on() {
    for script in [keeping(), cloning()] {
        let fail = |machine: &SimulatedMachine, read| machine.fail_read(read, Fails::Once);
        fail_everywhere(&script, fail, SimulatedMachine::reads);
    }
}

fn crash_options() -> Options {
    Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .journal_bytes(300)
}

fn open_on(machine: &SimulatedMachine) -> Result<Store, thunderhead::Error> {
    let mut files = FileDiskOptions::default();
    files.segment_bytes = 256 << 10;
    crash_options().open_disk(FileDisk::open_or_create_on(machine, &files)?)
}

/// How many calls of the disk are passed by.
fn stride() -> u64 {
    1 + 6 / from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1)
}

fn fail_everywhere(
    script: &[Action],
    fail: impl Fn(&SimulatedMachine, u64),
    count: impl Fn(&SimulatedMachine) -> u64,
) {
    let mut call = 1;
    loop {
        let machine = SimulatedMachine::new(call);
        let again = |store: Option<Store>| {
            drop(store);
            machine.process_death();
            fail(&machine, call);
            // If it is opening that fails, it does so once.
            open_on(&machine).or_else(|_| open_on(&machine))
        };
        let mut store = again(None).expect("a store");
        let mut model = Model::default();
        for (step, action) in script.iter().enumerate() {
            if step % 4 == 3 {
                // With nothing in memory.
                store = again(Some(store)).expect("a store");
            }
            let mut after = model.clone();
            action.change(&mut after);
            let applied = action.apply(&store);
            if applied.is_err() {
                machine.clear_faults();
                if store.checkpoint().wait().is_err() {
                    store = again(Some(store)).expect("a store");
                }
                let found = model_of(&store);
                let context = format!("{action:?}, failed call {call}");
                assert!(found == model || found == after, "{context}");
                if found == model {
                    let result = action.apply(&store);
                    result.unwrap_or_else(|error| panic!("{context}: {error}"));
                }
            }
            model = after;
        }
        machine.clear_faults();
        let found = model_of(&store);
        assert!(found == model, "failed call {call}");
        let (findings, _) = verify(&store);
        assert!(findings.is_empty(), "failed call {call}: {findings:#?}");
        give_all_back(&store, &model, call);
        if count(&machine) < call {
            break;
        }
        call += stride();
    }
}

/// It goes on, and gives back what is not needed.
fn give_all_back(store: &Store, model: &Model, call: u64) {
    for name in model.names.keys() {
        store.snapshots().delete(name).wait().expect("a deletion");
    }
    for branch in model.branches.keys() {
        store.branches().delete(branch).wait().expect("a deletion");
    }
    for _ in 0..6 {
        store.put("again", "and again").wait().expect("a put");
        store.checkpoint().wait().expect("a checkpoint");
        while store.maintain().wait().expect("maintenance") {}
    }
    let (findings, summary) = verify(store);
    assert!(findings.is_empty(), "call {call}: {findings:#?}");
    assert_eq!(summary.kept_versions, 0, "call {call}");
}

fn crash_everywhere(script: &[Action]) {
    let mut call = 1;
    loop {
        let machine = SimulatedMachine::new(call);
        machine.crash_at(call);
        let (mut before, mut after) = (Model::default(), Model::default());
        let mut finished = false;
        if let Ok(store) = open_on(&machine) {
            finished = true;
            for action in script {
                action.change(&mut after);
                if action.apply(&store).is_err() {
                    finished = false;
                    break;
                }
                before = after.clone();
            }
        }
        let machine = machine.fork();
        machine.power_loss(call);
        let store = open_on(&machine).expect("a store after a crash");
        let found = model_of(&store);
        assert!(found == before || found == after, "crash at call {call}");
        let (findings, _) = verify(&store);
        assert!(findings.is_empty(), "crash at call {call}: {findings:#?}");
        give_all_back(&store, &found, call);
        if finished {
            break;
        }
        call += stride();
    }
}
