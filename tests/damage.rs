//! Damage: one bit of each byte of a small store, one sector after the other, the file cut at every
//! length. What is read is an error that says so, or the right answer.
//!
//! Every byte that is not zero is flipped; of the zeros, which are room and padding, one in 53.
//! `THUNDERHEAD_ROUNDS` says how much more of them it is to be, and from 53 on it is everything.

#[path = "fixtures/append.rs"]
mod append;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use thunderhead::disk::{FileDisk, FileDiskOptions, SimulatedMachine};
use thunderhead::format::Settings;
use thunderhead::{ErrorKind, Maintenance, Options, Result, Snapshot, Store};

use append::Append;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn rounds() -> u64 {
    let rounds = std::env::var("THUNDERHEAD_ROUNDS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

fn files() -> FileDiskOptions {
    let mut files = FileDiskOptions::default();
    files.segment_bytes = 64 << 10;
    files
}

fn options() -> Options {
    let mut settings = Settings::tiny();
    settings.log_chunk_bytes = 16 << 10;
    let options = Options::new();
    #[cfg(feature = "lz4")]
    let options = {
        // Of several sectors, so that compressing one saves some.
        settings.block_bytes = 1024;
        options.compression(thunderhead::Compression::Lz4)
    };
    options
        .settings(settings)
        .journal_bytes(512)
        .cache_bytes(1 << 20)
        .reserve_bytes(0)
        .maintenance(Maintenance::Caller)
        .merge_operator(Append)
}

/// Names of snapshots: one in the system tree, one in the log unless the store is closed.
const NAMES: [&str; 2] = ["a first name", "and one more"];

/// A store with a bit of everything, and what it held before and after its last commit.
struct Sample {
    machine: SimulatedMachine,
    before: Map,
    content: Map,
}

/// Overwrites a part of a value, and adds to it; it shares blocks with the one before.
fn change_part(store: &Store, map: &mut Map, key: &str) {
    let value = map.get_mut(key.as_bytes()).unwrap();
    let at = value.len() / 2;
    store.write_at(key, at as u64, &[7; 100]).wait().unwrap();
    value[at..at + 100].fill(7);
    store.append_to(key, b"its end").wait().unwrap();
    value.extend_from_slice(b"its end");
}

fn sample(close: bool) -> Sample {
    let machine = SimulatedMachine::new(1);
    let disk = FileDisk::create_on(&machine, &files()).unwrap();
    let store = options().open_disk(disk).unwrap();
    let mut map = Map::new();
    for number in 0..60u32 {
        let key = format!("key/{:02}", number * 7 % 60).into_bytes();
        let value = vec![number as u8 + 1; [3, 0, 40, 64][number as usize % 4]];
        store.put(&key, &value).wait().unwrap();
        map.insert(key, value);
    }
    for (key, bytes) in [("large", 900), ("larger", 5000)] {
        let value: Vec<u8> = (0..bytes).map(|at| at as u8 | 1).collect();
        store.put(key, &value).wait().unwrap();
        map.insert(key.into(), value);
    }
    // Values made of others: one in the tree, and one, over its base, pending.
    change_part(&store, &mut map, "larger");
    while store.maintain().wait().unwrap() {}
    store
        .snapshots()
        .save_with(NAMES[0], NAMES[0])
        .wait()
        .unwrap();
    store.checkpoint().wait().unwrap();
    store
        .snapshots()
        .save_with(NAMES[1], NAMES[1])
        .wait()
        .unwrap();
    change_part(&store, &mut map, "larger");
    store.merge("key/03", "append", "!").wait().unwrap();
    map.get_mut(&b"key/03"[..]).unwrap().push(b'!');
    store.delete_range("key/10".."key/15").wait().unwrap();
    map.retain(|key, _| !(&b"key/10"[..]..&b"key/15"[..]).contains(&key.as_slice()));
    if close {
        store.close().wait().unwrap();
        let before = map.clone();
        return Sample {
            machine,
            before,
            content: map,
        };
    }
    let mut before = map.clone();
    for number in 0..6u8 {
        before = map.clone();
        let value = vec![number; if number == 2 { 700 } else { 30 }];
        store.put([number], &value).wait().unwrap();
        map.insert(vec![number], value);
    }
    // Taken before the store ends.
    let machine = machine.fork();
    Sample {
        machine,
        before,
        content: map,
    }
}

fn open(machine: &SimulatedMachine, write: bool) -> Result<Store> {
    let mut files = files();
    files.read_only = !write;
    let options = match write {
        true => options(),
        false => options().read_only(),
    };
    options.open_disk(FileDisk::open_on(machine, &files)?)
}

/// Reads what a name keeps: values that were overwritten or deleted since.
fn read_kept(snapshot: &Snapshot) -> Result<()> {
    for number in 0..60u8 {
        let found = snapshot
            .get(format!("key/{:02}", u32::from(number) * 7 % 60))
            .wait()?;
        let expected = vec![number + 1; [3, 0, 40, 64][usize::from(number) % 4]];
        assert_eq!(found.as_deref(), Some(&expected[..]), "what a name keeps");
    }
    assert_eq!(snapshot.len().wait()?, 62);
    Ok(())
}

/// Reads all there is, in every way; errors are fine if they say that something is damaged.
fn read_all(store: &Store, content: &Map) -> Result<(), String> {
    fn damage(error: &thunderhead::Error) -> Result<(), String> {
        match error.kind() {
            ErrorKind::Corrupt => Ok(()),
            kind => Err(format!("an error of the kind {kind:?}: {error}")),
        }
    }
    for (key, value) in content {
        match store.get(key).wait() {
            Ok(found) if found.as_deref() == Some(value) => {}
            Ok(found) => return Err(format!("{key:?} is {found:?}")),
            Err(error) => damage(&error)?,
        }
    }
    match store.get("key/12").wait() {
        Ok(None) => {}
        Ok(found) => return Err(format!("a key that is not there is {found:?}")),
        Err(error) => damage(&error)?,
    }
    let mut names = Vec::new();
    for info in store.snapshots().list() {
        match info {
            Ok(info) => names.push((info.name, info.bytes)),
            Err(error) => damage(&error)?,
        }
    }
    for (name, bytes) in &names {
        if name != bytes || !NAMES.iter().any(|known| known.as_bytes() == *name) {
            return Err(format!("a name {name:?} with {bytes:?}"));
        }
    }
    for name in NAMES {
        match store.snapshots().get(name).wait() {
            Ok(Some(info)) if info.bytes == name.as_bytes() => {
                match store.snapshots().open(name).wait() {
                    Ok(snapshot) => read_kept(&snapshot).or_else(|error| damage(&error))?,
                    Err(error) => damage(&error)?,
                }
            }
            Ok(found) => return Err(format!("the name {name:?} is {found:?}")),
            Err(error) => damage(&error)?,
        }
    }
    for backward in [false, true] {
        let mut range = store.iter();
        let mut expected = content.iter();
        loop {
            let (found, expected) = match backward {
                false => (range.next(), expected.next()),
                true => (range.next_back(), expected.next_back()),
            };
            match (found, expected) {
                (None, None) => break,
                (Some(Err(error)), _) => {
                    damage(&error)?;
                    break;
                }
                (Some(Ok((key, value))), Some(expected)) if (&key, &value.to_vec()) == expected => {
                }
                (found, expected) => return Err(format!("{found:?} instead of {expected:?}")),
            }
        }
    }
    match store.len().wait() {
        Ok(count) if count == content.len() as u64 => Ok(()),
        Ok(count) => Err(format!("there are {count} entries")),
        Err(error) => damage(&error),
    }
}

#[derive(Default, Debug)]
struct Tally {
    right: u64,
    before: u64,
    refused: u64,
}

/// Opens a damaged store and reads it.
fn judge(sample: &Sample, machine: SimulatedMachine, write: bool, tally: &mut Tally, what: &str) {
    let judged = catch_unwind(AssertUnwindSafe(|| {
        let store = match open(&machine, write) {
            Ok(store) => store,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tally.refused += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("opening: {:?}: {error}", error.kind())),
        };
        let last = sample.content != sample.before
            && store.get([5]).wait().is_ok_and(|value| value.is_none());
        let content = match last {
            true => &sample.before,
            false => &sample.content,
        };
        match last {
            true => tally.before += 1,
            false => tally.right += 1,
        }
        read_all(&store, content)?;
        if !write {
            return Ok(());
        }
        // Whatever is damaged stays so, and nothing else becomes wrong by going on.
        let mut content = content.clone();
        for number in 0..8u8 {
            let key = vec![b'n', number];
            if store.put(&key, [number; 30]).wait().is_ok() {
                content.insert(key, vec![number; 30]);
            }
        }
        read_all(&store, &content)?;
        let closed = store.close().wait();
        if closed.is_err() {
            return Ok(());
        }
        match open(&machine, false) {
            Ok(store) => read_all(&store, &content).map_err(|told| format!("reopened: {told}")),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(()),
            Err(error) => Err(format!("reopening: {error}")),
        }
    }));
    match judged {
        Ok(Ok(())) => {}
        Ok(Err(message)) => panic!("{what}, write {write}: {message}"),
        Err(_) => panic!("{what}, write {write}: a panic"),
    }
}

/// Whether a place is in the sample.
fn chosen(number: u64, one_in: u64) -> bool {
    number.is_multiple_of((one_in / rounds()).max(1))
}

fn flip_bytes(sample: &Sample) -> Tally {
    let mut tally = Tally::default();
    let bytes = sample.machine.peek(0, sample.machine.file_bytes() as usize);
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate() {
        number += 1;
        if !chosen(number, if *byte == 0 { 53 } else { 1 }) {
            continue;
        }
        let machine = sample.machine.fork();
        machine.flip(at as u64, (at % 8) as u8);
        let write = chosen(number, 30) || rounds() > 29;
        judge(
            sample,
            machine,
            write,
            &mut tally,
            &format!("byte {at} flipped"),
        );
    }
    tally
}

fn erase_sectors(sample: &Sample) -> Tally {
    let mut tally = Tally::default();
    for sector in 0..sample.machine.file_bytes() / 512 {
        let machine = sample.machine.fork();
        let bytes = machine.peek(sector * 512, 512);
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        for (at, byte) in bytes.iter().enumerate() {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                machine.flip(sector * 512 + at as u64, bit);
            }
        }
        for write in [false, true] {
            let what = format!("sector {sector} erased");
            judge(sample, machine.fork(), write, &mut tally, &what);
        }
    }
    tally
}

fn cut(sample: &Sample) -> Tally {
    let mut tally = Tally::default();
    let length = sample.machine.file_bytes();
    for end in (0..length).step_by(512) {
        for cut in [end.saturating_sub(1), end, end + 1] {
            let machine = sample.machine.fork();
            machine.set_file_bytes(cut);
            let what = format!("cut at {cut} of {length}");
            judge(sample, machine, end % 3 == 0, &mut tally, &what);
        }
    }
    tally
}

#[test]
fn an_undamaged_store_is_read_without_errors() {
    for close in [true, false] {
        let sample = sample(close);
        for write in [false, true] {
            let store = open(&sample.machine.fork(), write).unwrap();
            let found: Map = store
                .iter()
                .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
                .collect();
            assert_eq!(found, sample.content);
        }
    }
}

#[test]
fn a_flipped_byte_of_a_closed_store_is_noticed_or_harmless() {
    let tally = flip_bytes(&sample(true));
    println!("{tally:?}");
    assert!(tally.right > 0 && tally.before == 0);
}

#[test]
fn a_flipped_byte_of_a_store_that_was_not_closed_is_noticed_or_harmless() {
    let tally = flip_bytes(&sample(false));
    println!("{tally:?}");
    assert!(tally.right > 0 && tally.before > 0 && tally.refused > 0);
}

#[test]
fn an_erased_sector_is_noticed_or_harmless() {
    println!("{:?}", erase_sectors(&sample(true)));
    println!("{:?}", erase_sectors(&sample(false)));
}

#[test]
fn a_cut_file_is_noticed_or_harmless() {
    println!("{:?}", cut(&sample(true)));
    println!("{:?}", cut(&sample(false)));
}
