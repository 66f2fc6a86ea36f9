//! Runs a script against a store and against a map, and makes failing scripts shorter.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use thunderhead::disk::{AssertingDisk, FileDiskOptions, Ledger, MemoryDisk};
use thunderhead::format::SequenceNumber;
use thunderhead::{ErrorKind, MergeOperator, Options, Snapshot, Store, Transaction};

use crate::append::Append;
use crate::branches::{self, Lines};
use crate::concurrent::Besides;
use crate::cursors::edit_at_cursor;
use crate::diffs::check_diff;
use crate::modifying::{modify_in, modify_store};
use crate::names::{self, Names, Saved, name_of};
use crate::reading::Readable;
use crate::script::{Content, Inside, Read, Step, Write};

pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;
pub type Outcome<T = ()> = Result<T, String>;
pub type Bounds<'b> = (Bound<&'b [u8]>, Bound<&'b [u8]>);

/// Operands are put behind each other, but only the last bytes are kept: the two do not commute with each other either.
pub struct Last;

const LAST_BYTES: usize = 24;

impl MergeOperator for Last {
    fn name(&self) -> &str {
        "last"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        let mut all = existing.unwrap_or_default().to_vec();
        all.extend_from_slice(operand);
        out.extend_from_slice(&all[all.len().saturating_sub(LAST_BYTES)..]);
    }
}

/// Where the bytes are.
#[derive(Clone)]
pub enum Place {
    Memory(MemoryDisk, Ledger),
    File(PathBuf, FileDiskOptions),
}

pub struct Setup {
    pub options: Options,
    pub place: Place,
    pub keys: Vec<Vec<u8>>,
    /// The prefix of the keys that a run is about.
    pub view: Vec<u8>,
}

impl Setup {
    fn open(&self) -> Outcome<Store> {
        let options = self.options.clone();
        let store = match &self.place {
            Place::Memory(disk, ledger) => {
                options.open_disk(AssertingDisk::new(disk.clone(), ledger))
            }
            Place::File(path, files) => {
                let disk = files.open_or_create(path).map_err(told)?;
                options.open_disk(disk)
            }
        };
        store.map_err(|error| format!("opening: {error}"))
    }

    /// Keys just outside the view, which nothing may touch.
    fn neighbours(&self) -> Vec<Vec<u8>> {
        let mut neighbours = Vec::new();
        if let Some((last, rest)) = self.view.split_last() {
            neighbours.extend(
                last.checked_sub(1)
                    .map(|last| [rest, &[last, 255]].concat()),
            );
            neighbours.extend(last.checked_add(1).map(|last| [rest, &[last]].concat()));
            neighbours.push(rest.to_vec());
        }
        neighbours
    }

    fn check_neighbours(&self, store: &Store) -> Outcome {
        for key in self.neighbours() {
            let found = store.get(&key).wait().map_err(told)?;
            same(found.as_deref(), Some(&b"a neighbour"[..]))?;
        }
        Ok(())
    }

    pub fn bounds(&self, low: Bound<usize>, high: Bound<usize>) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let own = |bound: Bound<usize>| bound.map(|number| self.keys[number].as_slice());
        (own(low), own(high))
    }
}

pub fn told(error: thunderhead::Error) -> String {
    error.to_string()
}

pub fn bytes_of(content: Content) -> Vec<u8> {
    let Content(length, fill) = content;
    (0..length)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add(fill))
        .collect()
}

pub fn operand(number: u8) -> Vec<u8> {
    vec![number; usize::from(number % 7)]
}

/// What is in a range of a map; nothing where the map would panic.
pub fn between<'m>(
    map: &'m Map,
    (low, high): (Bound<&[u8]>, Bound<&[u8]>),
) -> Vec<(&'m Vec<u8>, &'m Vec<u8>)> {
    let above = |key: &[u8]| match low {
        Bound::Unbounded => true,
        Bound::Included(low) => key >= low,
        Bound::Excluded(low) => key > low,
    };
    let below = |key: &[u8]| match high {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high,
        Bound::Excluded(high) => key < high,
    };
    map.iter()
        .filter(|(key, _)| above(key) && below(key))
        .collect()
}

pub fn apply(map: &mut Map, setup: &Setup, write: &Write) {
    match write {
        Write::Put(key, content) | Write::PutReserved(key, content) => {
            map.insert(setup.keys[*key].clone(), bytes_of(*content));
        }
        Write::Delete(key) => {
            map.remove(&setup.keys[*key]);
        }
        Write::DeleteRange(low, high) => {
            let found = between(map, setup.bounds(*low, *high));
            let found: Vec<_> = found.into_iter().map(|(key, _)| key.clone()).collect();
            for key in found {
                map.remove(&key);
            }
        }
        Write::Merge(key, first, number) => {
            let key = &setup.keys[*key];
            let mut out = Vec::new();
            let existing = map.get(key).map(Vec::as_slice);
            match first {
                true => Append.merge(key, existing, &operand(*number), &mut out),
                false => Last.merge(key, existing, &operand(*number), &mut out),
            }
            map.insert(key.clone(), out);
        }
    }
}

/// Does a write to a store or a transaction.
macro_rules! write_to {
    ($target:expr, $setup:expr, $write:expr) => {{
        let (target, setup) = ($target, $setup);
        match $write {
            Write::Put(key, content) => target
                .put(&setup.keys[*key], bytes_of(*content))
                .wait()
                .map(drop),
            Write::PutReserved(key, content) => {
                let bytes = bytes_of(*content);
                target
                    .put_reserved(&setup.keys[*key], bytes.len(), move |out: &mut [u8]| {
                        out.copy_from_slice(&bytes)
                    })
                    .wait()
                    .map(drop)
            }
            Write::Delete(key) => target.delete(&setup.keys[*key]).wait().map(drop),
            Write::DeleteRange(low, high) => target
                .delete_range(setup.bounds(*low, *high))
                .wait()
                .map(drop),
            Write::Merge(key, first, number) => target
                .merge(
                    &setup.keys[*key],
                    if *first { "append" } else { "last" },
                    operand(*number),
                )
                .wait()
                .map(drop),
        }
        .map_err(|error| format!("writing: {error}"))
    }};
}

pub fn same<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Outcome {
    match found == expected {
        true => Ok(()),
        false => {
            let (mut found, mut expected) = (format!("{found:?}"), format!("{expected:?}"));
            found.truncate(900);
            expected.truncate(900);
            Err(format!("found {found}\nexpected {expected}"))
        }
    }
}

/// Does one thing in a transaction, and to the map that it is to be like.
pub fn do_inside(
    transaction: &mut Transaction,
    setup: &Setup,
    own: &mut Map,
    inside: &Inside,
) -> Outcome {
    match inside {
        Inside::Read(read) => transaction.check(setup, own, read),
        Inside::Modify(modify) => modify_in(setup, transaction, own, modify),
        Inside::Edit(low, high, moves) => {
            let bounds = setup.bounds(*low, *high);
            edit_at_cursor(transaction, setup, own, bounds, moves)
                .map_err(|message| format!("{inside:?}: {message}"))
        }
        Inside::Clone(from, to, length) => {
            let from = &setup.keys[*from];
            let from = &from[..from.len().min(*length)];
            let to = &setup.keys[*to];
            let to = &to[..to.len().min(from.len())];
            let cloned = transaction.clone_range(from, to).wait();
            if from.starts_with(to) || to.starts_with(from) {
                return same(cloned.is_err(), true);
            }
            own.retain(|key, _| !key.starts_with(to));
            let clones = own.iter().filter_map(|(key, value)| {
                let rest = key.strip_prefix(from)?;
                Some(([to, rest].concat(), value.clone()))
            });
            let clones: Vec<_> = clones.collect();
            same(cloned.map_err(told)?, clones.len() as u64)?;
            own.extend(clones);
            Ok(())
        }
        Inside::Append(key, content) => {
            let (key, bytes) = (&setup.keys[*key], bytes_of(*content));
            let found = transaction.append(key, &bytes).wait().is_ok();
            let last = own.last_key_value();
            same(found, last.is_none_or(|(last, _)| key > last))?;
            if found {
                own.insert(key.clone(), bytes);
            }
            Ok(())
        }
        Inside::Write(write) => {
            write_to!(&mut *transaction, setup, write)?;
            apply(own, setup, write);
            Ok(())
        }
    }
}

/// What there is beside the newest version.
#[derive(Default)]
struct Others {
    /// Versions that are held.
    snapshots: Vec<(Snapshot, Map)>,
    besides: Besides,
    names: Names,
    lines: Lines,
}

fn step(
    setup: &Setup,
    store: &mut Option<Store>,
    map: &mut Map,
    others: &mut Others,
    step: &Step,
) -> Outcome {
    let Others {
        snapshots,
        besides,
        names,
        lines,
    } = others;
    let root = store.as_ref().ok_or("the store is open")?;
    let view = root.subtree(&setup.view);
    let open = &view;
    match step {
        Step::Write(write, durability) => {
            write_to!(&open.with_durability(*durability), setup, write)?;
            apply(map, setup, write);
            Ok(())
        }
        Step::Modify(modify, durability) => {
            modify_store(setup, &open.with_durability(*durability), map, modify)
        }
        Step::Batch {
            writes,
            durability,
            commit,
            save,
        } => {
            let mut batch = root.batch();
            batch.set_durability(*durability);
            let mut narrow = batch.subtree(&setup.view);
            for write in writes {
                write_to!(&mut narrow, setup, write)?;
            }
            drop(narrow);
            open.check(setup, map, &Read::Len)?;
            if let Some(name) = save {
                batch.save_snapshot(name_of(*name), "").map_err(told)?;
            }
            if *commit {
                let Some(sequence) = committed(batch.commit().wait(), names, *save)? else {
                    return Ok(());
                };
                same(open.sequence(), sequence)?;
                writes.iter().for_each(|write| apply(map, setup, write));
                saved(names, *save, map, sequence);
            }
            Ok(())
        }
        Step::Transaction {
            inside,
            durability,
            commit,
            save,
        } => {
            let mut whole = root.begin().wait().map_err(told)?;
            whole.set_durability(*durability);
            let mut transaction = whole.subtree(&setup.view);
            let mut own = map.clone();
            for inside in inside {
                do_inside(&mut transaction, setup, &mut own, inside)?;
            }
            transaction.check_all(&own)?;
            drop(transaction);
            open.check(setup, map, &Read::Len)?;
            if let Some(name) = save {
                whole.save_snapshot(name_of(*name), "").map_err(told)?;
            }
            if *commit {
                let Some(sequence) = committed(whole.commit().wait(), names, *save)? else {
                    return Ok(());
                };
                same(open.sequence(), sequence)?;
                *map = own;
                saved(names, *save, map, sequence);
            }
            Ok(())
        }
        Step::Read(read) => open.check(setup, map, read),
        Step::Beside(beside) => besides.step(setup, root, map, beside),
        Step::Name(name, durability) => {
            names::step(setup, &open.with_durability(*durability), map, names, name)
        }
        Step::Branch(branch) => branches::step(setup, root, names, lines, branch),
        Step::Savepoint {
            before,
            after,
            kept,
            dropped,
        } => {
            let mut whole = root.begin().wait().map_err(told)?;
            let mut transaction = whole.subtree(&setup.view);
            let mut own = map.clone();
            for inside in before {
                do_inside(&mut transaction, setup, &mut own, inside)?;
            }
            let mut part = transaction.savepoint();
            let mut with_part = own.clone();
            for inside in after {
                do_inside(&mut part, setup, &mut with_part, inside)?;
            }
            part.check_all(&with_part)?;
            if *kept {
                part.keep();
                own = with_part;
            } else if *dropped {
                drop(part);
            } else {
                part.roll_back().map_err(told)?;
                part.check_all(&own)?;
                part.keep();
            }
            transaction.check_all(&own)?;
            drop(transaction);
            let sequence = whole.commit().wait().map_err(told)?;
            same(open.sequence(), sequence)?;
            *map = own;
            Ok(())
        }
        Step::Snapshot => {
            if snapshots.len() < 6 {
                snapshots.push((open.snapshot(), map.clone()));
            }
            Ok(())
        }
        Step::ReadSnapshot(..) | Step::EndSnapshot(_) if snapshots.is_empty() => Ok(()),
        Step::ReadSnapshot(number, read) => {
            let (snapshot, map) = &snapshots[number % snapshots.len()];
            snapshot.check(setup, map, read)
        }
        Step::EndSnapshot(number) => {
            let (snapshot, map) = snapshots.swap_remove(number % snapshots.len());
            snapshot.check_all(&map)
        }
        Step::Diff(numbers, low, high, ends) => {
            let newest = (open.snapshot(), map.clone());
            let [old, new] = numbers.map(|number| match number % (snapshots.len() + 1) {
                0 => &newest,
                held => &snapshots[held - 1],
            });
            check_diff(
                setup,
                (&old.0, &old.1),
                (&new.0, &new.1),
                (*low, *high),
                ends,
            )
        }
        Step::CompareAll => {
            setup.check_neighbours(root)?;
            names::compare_all(open, names)?;
            branches::compare_all(setup, root, lines)?;
            open.check_all(map)
        }
        Step::Sync => open.sync().wait().map(drop).map_err(told),
        Step::Checkpoint => open.checkpoint().wait().map_err(told),
        Step::Maintain => open.maintain().wait().map(drop).map_err(told),
        Step::MaintainAll => {
            for _ in 0..10_000 {
                if !open.maintain().wait().map_err(told)? {
                    return Ok(());
                }
            }
            Err("maintenance does not end".into())
        }
        Step::Close => {
            besides.end();
            drop(view);
            let open = store.take().ok_or("the store is open")?;
            open.close().wait().map_err(told)?;
            // Snapshots outlive the closing, but hold the file.
            for (snapshot, map) in snapshots.drain(..) {
                snapshot.check_all(&map)?;
            }
            *store = Some(setup.open()?);
            Ok(())
        }
        Step::Drop => {
            besides.end();
            // A view keeps the store open, too.
            drop(view);
            for (snapshot, map) in snapshots.drain(..) {
                snapshot.check_all(&map)?;
            }
            drop(store.take());
            *store = Some(setup.open()?);
            Ok(())
        }
    }
}

/// What a commit gives that may save a snapshot. `None`: it was refused, as it should be.
fn committed(
    result: thunderhead::Result<SequenceNumber>,
    names: &Names,
    save: Option<usize>,
) -> Outcome<Option<SequenceNumber>> {
    let is_there = save.is_some_and(|name| names.contains_key(&name_of(name)));
    match result {
        Ok(_) if is_there => Err("a name was given twice".into()),
        Err(error) if is_there => {
            same(error.kind(), ErrorKind::AlreadyExists)?;
            Ok(None)
        }
        result => result.map(Some).map_err(told),
    }
}

fn saved(names: &mut Names, save: Option<usize>, map: &Map, sequence: SequenceNumber) {
    let name = save.map(name_of);
    names.extend(name.map(|name| {
        let saved = Saved {
            map: map.clone(),
            sequence,
            bytes: Vec::new(),
        };
        (name, saved)
    }));
}

/// Runs a script; an error names the step that went wrong. A panic is an error.
pub fn run(setup: &Setup, script: &[Step]) -> Outcome {
    let mut at = 0;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut store = Some(setup.open()?);
        for key in setup.neighbours() {
            let root = store.as_ref().ok_or("the store is open")?;
            root.put(key, "a neighbour").wait().map_err(told)?;
        }
        let (mut map, mut others) = (Map::new(), Others::default());
        let ends = [Step::CompareAll, Step::Close];
        let ends = ends.iter().chain(&ends);
        for (number, now) in script.iter().chain(ends).enumerate() {
            at = number;
            let before = map.clone();
            step(setup, &mut store, &mut map, &mut others, now)?;
            others.besides.note(setup, now, &before, &map);
        }
        Ok(())
    }));
    let result = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    });
    result.map_err(|message| format!("step {at}, {:?}: {message}", script.get(at)))
}

/// A shorter script that fails too: drops ever smaller pieces for as long as that helps.
pub fn shrink(script: Vec<Step>, tries: usize, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut script = script;
    let mut left = tries;
    let mut piece = script.len().div_ceil(2).max(1);
    loop {
        let (mut at, mut helped) = (0, false);
        while at < script.len() && left > 0 {
            left -= 1;
            let mut shorter = script.clone();
            shorter.drain(at..(at + piece).min(script.len()));
            if fails(&shorter) {
                script = shorter;
                helped = true;
            } else {
                at += piece;
            }
        }
        if left == 0 || (piece == 1 && !helped) {
            break;
        }
        piece = (piece / 2).max(1);
    }
    // Transactions too.
    for at in 0..script.len() {
        let mut number = 0;
        while let Step::Transaction { inside, .. } = &script[at]
            && number < inside.len()
            && left > 0
        {
            left -= 1;
            let mut shorter = script.clone();
            if let Step::Transaction { inside, .. } = &mut shorter[at] {
                inside.remove(number);
            }
            if fails(&shorter) {
                script = shorter;
            } else {
                number += 1;
            }
        }
    }
    script
}
