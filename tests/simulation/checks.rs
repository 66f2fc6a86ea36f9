//! Whether a store is what its model says, by every way of asking; and whether it goes on from there.

use std::ops::ControlFlow;

use thunderhead::disk::SimulatedMachine;
use thunderhead::inspect::{Event, Severity};
use thunderhead::{Durability, ErrorKind, Result, Snapshot, Store};

use super::model::{Commit, Model, Names, Naming, Operation, State, followed};
use super::script::Step;
use super::world::{Shape, World};

/// What a store holds, by iteration.
pub fn contents(store: &Store) -> Result<State> {
    let mut state = State::new();
    for entry in store.iter() {
        let (key, value) = entry?;
        assert!(state.insert(key, value.to_vec().into()).is_none());
    }
    Ok(state)
}

/// How two states differ, in short.
pub fn difference(found: &State, expected: &State) -> String {
    let show = |state: &State, key: &[u8]| {
        let value = state.get(key).map(|value| value.len());
        format!("{value:?}")
    };
    let keys: std::collections::BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    keys.into_iter()
        .filter(|key| found.get(*key) != expected.get(*key))
        .take(8)
        .map(|key| {
            format!(
                "{}: {} instead of {} bytes; ",
                String::from_utf8_lossy(key),
                show(found, key),
                show(expected, key)
            )
        })
        .collect()
}

/// Checks that a store is in one of some states, by every way of reading; gives that state.
pub fn check_store(store: &Store, model: &Model, commits: &[Commit]) -> Commit {
    let found = contents(store).expect("reading everything");
    let names = check_names(store, model).expect("reading all names");
    let mut same = commits.iter().filter(|commit| commit.entries == found);
    let Some(commit) = same.find(|commit| commit.names == names) else {
        let expected = commits.last().expect("a state to compare with");
        panic!(
            "a wrong state: {}\nnames {names:?} instead of {:?}",
            difference(&found, &expected.entries),
            expected.names
        );
    };
    let state = &commit.entries;
    assert_eq!(store.len().wait().expect("the length"), state.len() as u64);
    let backward = store.iter().rev().map(|entry| entry.expect("backward"));
    let mut count = 0;
    for ((key, value), (expected_key, expected)) in backward.zip(state.iter().rev()) {
        assert_eq!((&key, &value[..]), (expected_key, &expected[..]));
        count += 1;
    }
    assert_eq!(count, state.len());
    let mut cursor = store.cursor();
    for key in state.keys() {
        // Two steps on and one back.
        assert!(cursor.next().wait().expect("a step"));
        cursor.next().wait().expect("a step beyond");
        assert!(cursor.previous().wait().expect("a step back"));
        assert_eq!(cursor.key(), Some(key.as_slice()));
    }
    assert!(!cursor.next().wait().expect("the last step"));
    let bounds = b"k010".as_slice()..b"k025".as_slice();
    let counted = store.count(bounds.clone()).wait().expect("a count");
    let within = |key: &&Vec<u8>| (bounds.start..bounds.end).contains(&key.as_slice());
    let expected = state.keys().filter(within).count() as u64;
    assert_eq!(counted, expected, "the count of a range");
    let step = state.len() / 8 + 1;
    for (rank, (key, value)) in state.iter().enumerate().step_by(step) {
        match key.starts_with(b"r") {
            false => {
                let found = store.get(key).wait().expect("a get");
                assert_eq!(found.as_deref(), Some(&value[..]));
            }
            true => match store.get(key).wait() {
                Ok(found) => assert_eq!(found.as_deref(), followed(state, key)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::BrokenReference, "{error}");
                    assert_eq!(followed(state, key), None);
                }
            },
        }
        let nth = store.nth(rank as u64).wait().expect("an nth");
        assert_eq!(nth.map(|(key, _)| key).as_ref(), Some(key));
    }
    assert!(store.get("absent").wait().expect("a get").is_none());
    commit.clone()
}

/// Checks all that a store says of names; gives what that is. A read that failed is an error.
pub fn check_names(store: &Store, model: &Model) -> Result<Names> {
    let snapshots = store.snapshots();
    let mut names = Names::new();
    let mut by_time = Vec::new();
    for info in snapshots.list() {
        let info = info?;
        let found = snapshots.get(&info.name).wait()?;
        assert_eq!(found.as_ref(), Some(&info));
        by_time.push((info.time, info.sequence, info.name.clone()));
        names.insert(info.name, (info.sequence.0, info.bytes));
    }
    by_time.sort();
    let mut listed = Vec::new();
    for info in snapshots.by_time(..).rev() {
        let info = info?;
        listed.insert(0, (info.time, info.sequence, info.name));
    }
    assert_eq!(listed, by_time);
    assert_eq!(snapshots.len().wait()?, names.len() as u64);
    for (name, (sequence, _)) in &names {
        let snapshot = snapshots.open(name).wait()?;
        assert_eq!(snapshot.sequence().0, *sequence);
        match *sequence <= model.last() {
            true => check_snapshot(&snapshot, model.state(*sequence))?,
            // It is of the commit of which nobody knows whether it happened: the newest.
            false => check_snapshot(&snapshot, &contents(store)?)?,
        }
    }
    Ok(names)
}

/// Checks what a snapshot says. A read that failed is an error, and never a wrong answer.
pub fn check_snapshot(snapshot: &Snapshot, state: &State) -> Result<()> {
    let mut entries = state.iter();
    for entry in snapshot.iter() {
        let (key, value) = entry?;
        let (expected_key, expected) = entries.next().expect("no more entries");
        assert_eq!((&key, &value[..]), (expected_key, &expected[..]));
    }
    assert_eq!(entries.count(), 0, "entries that a snapshot lost");
    assert_eq!(snapshot.len().wait()?, state.len() as u64);
    Ok(())
}

/// Applies what differs between two versions to the old one. A read that failed is an error, and never
/// a wrong answer.
pub fn check_diff(model: &Model, old: &Snapshot, new: &Snapshot) -> Result<()> {
    let [before, after] = [old, new].map(|snapshot| model.state(snapshot.sequence().0));
    let mut state = before.clone();
    for difference in old.diff(new)? {
        let difference = difference?;
        let key = difference.key().to_vec();
        let was = match difference.old() {
            Some(value) => Some(value.load().wait()?),
            None => None,
        };
        let expected = before.get(&key);
        assert_eq!(was.as_deref(), expected.map(|value| &value[..]));
        match difference.new() {
            Some(value) => state.insert(key.clone(), value.load().wait()?.to_vec().into()),
            None => state.remove(&key),
        };
        assert_ne!(
            before.get(&key),
            state.get(&key),
            "a difference that is none"
        );
    }
    assert_eq!(&state, after, "the difference applied to the old version");
    Ok(())
}

/// Checks a store that recovered, that it takes writes, and that they stay.
pub fn check_recovered(
    shape: &Shape,
    machine: &SimulatedMachine,
    model: &Model,
    least: u64,
) -> Store {
    let store = shape.open(machine).expect("a store that crashed opens");
    let sequence = store.sequence().0;
    check_store(&store, model, &model.candidates(sequence, least));
    store
}

/// Lets a recovered store go on: writes, a checkpoint, closing, opening.
pub fn go_on(shape: &Shape, machine: &SimulatedMachine, store: Store, model: &Model) {
    let sequence = store.sequence().0;
    let state = check_store(&store, model, &model.candidates(sequence, 0));
    let mut model = model.clone();
    model.recovered(sequence, state);
    let mut world = World::new(machine.clone(), shape);
    (world.store, world.model) = (Some(store), model);
    let put = |key: &str, length| {
        let operation = Operation::Put(key.into(), length, 9);
        Step::Single(operation, Durability::Immediate)
    };
    let name = |naming| Step::Name(naming, Durability::Deferred);
    let steps = [
        name(Naming::Delete("new name".into())),
        put("k000", 30),
        name(Naming::Save("new name".into(), 5)),
        put("k015", 700),
        Step::Single(
            Operation::DeleteRange("k02".into(), "k03".into()),
            Durability::Buffered,
        ),
        Step::Checkpoint,
        put("k020", 3000),
        Step::Single(
            Operation::Append("k020".into(), b"more".to_vec()),
            Durability::Deferred,
        ),
        Step::Maintain,
        Step::Checkpoint,
        Step::Reopen { clean: true },
        put("k021", 10),
    ];
    for step in &steps {
        world
            .step(step)
            .expect("a store that recovered takes writes");
    }
    world.check();
    check_sound(world.store());
    world
        .step(&Step::Reopen { clean: false })
        .expect("reopening");
    world.check();
}

/// Lets the store verify itself: nothing is damaged, and no space is lost.
pub fn check_sound(store: &Store) {
    let mut findings = Vec::new();
    let summary = store.verify(|event| {
        if let Event::Finding(finding) = event
            && finding.severity != Severity::Note
        {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    });
    let summary = summary.wait().expect("verifying");
    assert!(summary.is_sound() && findings.is_empty(), "{findings:#?}");
}
