//! Snapshots that have names, beside copies of the map as it was when they were saved.

use std::collections::BTreeMap;
use std::ops::Bound;

use thunderhead::format::SequenceNumber;
use thunderhead::{ErrorKind, Result, SnapshotInfo, Store};

use crate::diffs::check_diff;
use crate::reading::Readable;
use crate::run::{Map, Outcome, Setup, same, told};
use crate::script::NameStep;

/// What was saved under a name.
#[derive(Clone)]
pub struct Saved {
    pub map: Map,
    pub sequence: SequenceNumber,
    pub bytes: Vec<u8>,
}

pub type Names = BTreeMap<Vec<u8>, Saved>;

/// The names that scripts use, by their numbers.
pub fn name_of(number: usize) -> Vec<u8> {
    let mut name = format!("{}", number % 9).into_bytes();
    if number % 9 > 5 {
        name.resize(number * 40 % 1000 + 30, b'-');
    }
    name
}

/// The bytes that are saved with it.
pub fn bytes_beside(fill: u8) -> Vec<u8> {
    vec![fill; usize::from(fill) % 41]
}

/// Does something to names of a store.
pub fn step(
    setup: &Setup,
    store: &Store,
    map: &mut Map,
    names: &mut Names,
    step: &NameStep,
) -> Outcome {
    let snapshots = store.snapshots();
    match step {
        NameStep::Save(number, fill) => {
            let (name, bytes) = (name_of(*number), bytes_beside(*fill));
            let before = store.sequence();
            let saved = snapshots.save_with(&name, &bytes).wait();
            if names.contains_key(&name) {
                same(store.sequence(), before)?;
                return refused(saved, ErrorKind::AlreadyExists);
            }
            let info = saved.map_err(told)?;
            same(info.sequence, store.sequence())?;
            let sequence = info.sequence;
            let map = map.clone();
            names.insert(
                name,
                Saved {
                    map,
                    sequence,
                    bytes,
                },
            );
            Ok(())
        }
        NameStep::Rename(old, new) => {
            let (old, new) = (name_of(*old), name_of(*new));
            let renamed = snapshots.rename(&old, &new).wait();
            if !names.contains_key(&old) {
                return refused(renamed, ErrorKind::NotFound);
            }
            if names.contains_key(&new) {
                return refused(renamed, ErrorKind::AlreadyExists);
            }
            renamed.map_err(told)?;
            let saved = names.remove(&old);
            names.extend(saved.map(|saved| (new, saved)));
            Ok(())
        }
        NameStep::Delete(number) => {
            let name = name_of(*number);
            let deleted = snapshots.delete(&name).wait().map_err(told)?;
            same(deleted, names.remove(&name).is_some())
        }
        NameStep::DeleteRange(low, end) => {
            let (low, end) = (name_of(*low), name_of(*end));
            let (low, end) = (low.clone().min(end.clone()), low.max(end));
            let deleted = snapshots.delete_range(&low..&end).wait().map_err(told)?;
            let before = names.len();
            names.retain(|name, _| *name < low || *name >= end);
            same(deleted, (before - names.len()) as u64)
        }
        NameStep::Restore(number, before) => {
            let (name, before) = (name_of(*number), name_of(*before));
            let newest = store.sequence();
            let restored = snapshots.restore(&name, &before).wait();
            let Some(saved) = names.get(&name) else {
                return refused(restored, ErrorKind::NotFound);
            };
            if names.contains_key(&before) {
                return refused(restored, ErrorKind::AlreadyExists);
            }
            same(restored.map_err(told)?, store.sequence())?;
            let was = std::mem::replace(map, saved.map.clone());
            names.insert(
                before,
                Saved {
                    map: was,
                    sequence: newest,
                    bytes: Vec::new(),
                },
            );
            Ok(())
        }
        NameStep::Read(number, read) => {
            let name = name_of(*number);
            let opened = snapshots.open(&name).wait();
            let Some(saved) = names.get(&name) else {
                return refused(opened, ErrorKind::NotFound);
            };
            opened.map_err(told)?.check(setup, &saved.map, read)
        }
        NameStep::Diff(number, ends) => {
            let name = name_of(*number);
            let Some(saved) = names.get(&name) else {
                return Ok(());
            };
            let opened = snapshots.open(&name).wait().map_err(told)?;
            let newest = store.snapshot();
            let (then, now) = ((&opened, &saved.map), (&newest, &*map));
            let all = (Bound::Unbounded, Bound::Unbounded);
            check_diff(setup, then, now, all, ends)?;
            check_diff(setup, now, then, all, ends)
        }
        NameStep::Compare => compare_all(store, names),
    }
}

fn refused<T>(result: Result<T>, kind: ErrorKind) -> Outcome {
    match result {
        Ok(_) => Err(format!("it should be an error: {kind:?}")),
        Err(error) => same(error.kind(), kind),
    }
}

/// Compares all names, by every way of listing them, and all that they keep.
pub fn compare_all(store: &Store, names: &Names) -> Outcome {
    let snapshots = store.snapshots();
    same(snapshots.len().wait().map_err(told)?, names.len() as u64)?;
    let mut infos: Vec<SnapshotInfo> = Vec::new();
    for info in snapshots.list() {
        infos.push(info.map_err(told)?);
    }
    same(infos.len(), names.len())?;
    for (info, (name, saved)) in infos.iter().zip(names) {
        same(&info.name, name)?;
        same(info.sequence, saved.sequence)?;
        same(&info.bytes, &saved.bytes)?;
        same(
            snapshots.get(name).wait().map_err(told)?.as_ref(),
            Some(info),
        )?;
        let opened = snapshots.open(name).wait().map_err(told)?;
        same(opened.sequence(), saved.sequence)?;
        opened
            .check_all(&saved.map)
            .map_err(|message| format!("the snapshot {}: {message}", name.escape_ascii()))?;
    }
    infos.sort_by_key(|info| (info.time, info.sequence, info.name.clone()));
    let mut expected = infos.into_iter();
    let mut by_time = snapshots.by_time(..);
    // From both ends, until they meet.
    for number in 0.. {
        let (found, expected) = match number % 3 {
            0 => (by_time.next_back(), expected.next_back()),
            _ => (by_time.next(), expected.next()),
        };
        let found = found.transpose().map_err(told)?;
        same(&found, &expected)?;
        if found.is_none() {
            break;
        }
    }
    Ok(())
}
