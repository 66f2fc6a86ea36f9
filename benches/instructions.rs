//! How many instructions a cached read takes, beside the bare descent that every read is.
//!
//! `cargo bench --bench instructions` runs itself under callgrind. Each way to read is run for two numbers
//! of reads, so that what is done once cancels out, and only while it reads is anything counted. Without
//! valgrind, and with `-- --test`, it only sees that all ways find the same.

use std::error::Error;
use std::hint::black_box;

use thunderhead::disk::MemoryDisk;
use thunderhead::{Maintenance, Options, Snapshot, Store, bare_descent, bare_search};

/// As in the README's figures.
const PAIRS: usize = 200_000;
const KEY_BYTES: usize = 24;
const VALUE_BYTES: usize = 150;
/// The second run reads twice as many.
const READS: usize = 50_000;

#[path = "support/callgrind.rs"]
mod callgrind;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Key = [u8; KEY_BYTES];

/// What is counted, by its name in the program.
const COUNTED: &str = "*read_each*";
/// `nothing` is the loop alone; `bare` what no reader can leave out; `search` of that the way down.
const WAYS: [&str; 7] = [
    "nothing",
    "bare",
    "search",
    "get_with",
    "contains_key",
    "get",
    "snapshot",
];

struct Data {
    store: Store,
    snapshot: Snapshot,
    keys: Vec<Key>,
}

/// A store whose entries are all in leaves in memory, and its keys in another order.
fn data(pairs: usize) -> Result<Data> {
    // No thread but this one, so that each run is the same.
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(MemoryDisk::new())?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut keys: Vec<Key> = Vec::with_capacity(pairs);
    let mut load = store.begin().wait()?;
    for _ in 0..pairs {
        let mut key = [0; KEY_BYTES];
        let mut value = [0; VALUE_BYTES];
        random.fill(&mut key);
        random.fill(&mut value);
        load.put(key, value).wait()?;
        keys.push(key);
    }
    load.commit().wait()?;
    store.checkpoint().wait()?;
    random.shuffle(&mut keys);
    let snapshot = store.snapshot();
    let data = Data {
        store,
        snapshot,
        keys,
    };
    // Everything is in memory and in its place from here on.
    read(&data, "get_with", pairs)?;
    read(&data, "snapshot", pairs)?;
    Ok(data)
}

/// Gives the sum of what a way to read finds, over so many keys in turn.
#[inline(never)]
fn read_each(keys: &[Key], reads: usize, mut one: impl FnMut(&Key) -> usize) -> usize {
    let mut sum = 0;
    for key in keys.iter().cycle().take(reads) {
        sum += one(black_box(key));
    }
    sum
}

/// Reads in one way, and checks that it found everything.
fn read(data: &Data, way: &str, reads: usize) -> Result<()> {
    let Data {
        store,
        snapshot,
        keys,
    } = data;
    let length = |value: &[u8]| value.len();
    let found = |length: thunderhead::Result<Option<usize>>| length.ok().flatten().unwrap_or(0);
    let sum = match way {
        "nothing" => read_each(keys, reads, |_| VALUE_BYTES),
        "bare" => read_each(keys, reads, |key| bare_descent(store, key).unwrap_or(0)),
        "search" => read_each(keys, reads, |key| bare_search(store, key).unwrap_or(0)),
        "get_with" => read_each(keys, reads, |key| found(store.get_with(key, length).wait())),
        "snapshot" => read_each(keys, reads, |key| {
            found(snapshot.get_with(key, length).wait())
        }),
        "contains_key" => read_each(keys, reads, |key| match store.contains_key(key).wait() {
            Ok(true) => VALUE_BYTES,
            _ => 0,
        }),
        "get" => read_each(keys, reads, |key| {
            let value = store.get(key).wait();
            found(value.map(|value| value.map(|value| value.len())))
        }),
        other => return Err(format!("no way to read: {other}").into()),
    };
    match sum == reads * VALUE_BYTES {
        true => Ok(()),
        false => Err(format!("{way} does not find everything").into()),
    }
}

/// The instructions of so many reads.
fn counted(way: &str, reads: usize) -> Result<u64> {
    callgrind::counted(COUNTED, &[way.into(), reads.to_string()])
}

fn count_all() -> Result<()> {
    println!("instructions a read, and more than a bare descent takes, {PAIRS} pairs:");
    let mut counts = Vec::new();
    for way in WAYS {
        // The warming up is the same in both.
        let instructions = counted(way, 2 * READS)? - counted(way, READS)?;
        counts.push(instructions as f64 / READS as f64);
    }
    let [nothing, bare, ..] = counts[..] else {
        return Err("no counts".into());
    };
    for (way, count) in WAYS.iter().zip(&counts).skip(1) {
        println!("{way:>14}: {:7.1} {:+7.1}", count - nothing, count - bare);
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [way, reads] = &arguments[..]
        && let Ok(reads) = reads.parse()
    {
        return read(&data(PAIRS)?, way, reads);
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    if !is_test && callgrind::is_there() {
        return count_all();
    }
    let data = data(1_000)?;
    WAYS.iter().try_for_each(|way| read(&data, way, 2_000))?;
    println!("all ways to read find the same; valgrind, if it is there, counts their instructions");
    Ok(())
}
