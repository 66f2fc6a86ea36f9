//! Branches, beside the maps that they are to be like.

use std::collections::BTreeMap;

use thunderhead::{Branch, ErrorKind, Store};

use crate::names::{Names, Saved, name_of};
use crate::reading::Readable;
use crate::run::{Map, Outcome, Setup, do_inside, same, told};
use crate::script::BranchStep;

/// What each branch has.
pub type Lines = BTreeMap<Vec<u8>, Map>;

/// The names that scripts use, by their numbers.
fn branch_name(number: usize) -> Vec<u8> {
    format!("branch {}", number % 3).into_bytes()
}

fn refused<T>(result: thunderhead::Result<T>, kind: ErrorKind) -> Outcome {
    match result {
        Ok(_) => Err(format!("it should be an error: {kind:?}")),
        Err(error) => same(error.kind(), kind),
    }
}

/// Does something to branches of a store.
pub fn step(
    setup: &Setup,
    store: &Store,
    names: &mut Names,
    lines: &mut Lines,
    step: &BranchStep,
) -> Outcome {
    let branches = store.branches();
    let opened = |number: usize| -> thunderhead::Result<Branch> {
        branches.open(branch_name(number)).wait()
    };
    match step {
        BranchStep::Create(number, from) => {
            let (name, from) = (branch_name(*number), name_of(*from));
            let created = branches.create(&name, &from).wait();
            if lines.contains_key(&name) {
                return refused(created, ErrorKind::AlreadyExists);
            }
            let Some(saved) = names.get(&from) else {
                return refused(created, ErrorKind::NotFound);
            };
            created.map_err(told)?;
            lines.insert(name, saved.map.clone());
            Ok(())
        }
        BranchStep::Change(number, inside, commit) => {
            let Some(map) = lines.get_mut(&branch_name(*number)) else {
                return refused(opened(*number), ErrorKind::NotFound);
            };
            let branch = opened(*number).map_err(told)?;
            let mut whole = branch.begin().wait().map_err(told)?;
            let mut transaction = whole.subtree(&setup.view);
            let mut own = map.clone();
            for inside in inside {
                do_inside(&mut transaction, setup, &mut own, inside)?;
            }
            transaction.check_all(&own)?;
            drop(transaction);
            if *commit {
                whole.commit().wait().map_err(told)?;
                *map = own;
            }
            Ok(())
        }
        BranchStep::Save(number, name) => {
            let name = name_of(*name);
            let Some(map) = lines.get(&branch_name(*number)) else {
                return refused(opened(*number), ErrorKind::NotFound);
            };
            let saved = opened(*number).map_err(told)?.save(&name).wait();
            if names.contains_key(&name) {
                return refused(saved, ErrorKind::AlreadyExists);
            }
            let saved = Saved {
                map: map.clone(),
                sequence: saved.map_err(told)?.sequence,
                bytes: Vec::new(),
            };
            names.insert(name, saved);
            Ok(())
        }
        BranchStep::Delete(number) => {
            let name = branch_name(*number);
            let deleted = branches.delete(&name).wait().map_err(told)?;
            same(deleted, lines.remove(&name).is_some())
        }
        BranchStep::Read(number, read) => {
            let Some(map) = lines.get(&branch_name(*number)) else {
                return refused(opened(*number), ErrorKind::NotFound);
            };
            let snapshot = opened(*number).map_err(told)?.snapshot().wait();
            let snapshot = snapshot.map_err(told)?.subtree(&setup.view);
            snapshot.check(setup, map, read)
        }
    }
}

/// Compares all branches, and all that they have.
pub fn compare_all(setup: &Setup, store: &Store, lines: &Lines) -> Outcome {
    let infos = store.branches().list().wait().map_err(told)?;
    let found: Vec<&Vec<u8>> = infos.iter().map(|info| &info.name).collect();
    same(found, lines.keys().collect())?;
    for (name, map) in lines {
        let branch = store.branches().open(name).wait().map_err(told)?;
        let snapshot = branch.snapshot().wait().map_err(told)?;
        snapshot
            .subtree(&setup.view)
            .check_all(map)
            .map_err(|message| format!("{}: {message}", name.escape_ascii()))?;
    }
    Ok(())
}
