//! What named snapshots cost: to save one in stores of different sizes, to keep ten thousand of them while
//! everything is updated, and to delete one that has a hundredth of the store to itself.
//!
//! `cargo bench --bench versions`, with `-- 100000` for another number of pairs than 1,000,000, which the
//! largest store has ten times, and with `-- saving`, `keeping` or `deleting` for one of the three. Pairs are 24 + 150 random bytes; stores are files in the directory for
//! temporary files, with 4 GiB of cache; commits are buffered, but where it says durable. Runs that are
//! compared take turns.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use fastrand::Rng;
use thunderhead::{Durability, Options, Store};

const ROUNDS: usize = 5;
const SAVES: usize = 1000;
const KEPT: usize = 10_000;
/// How many checkpoints it may take at most for space to be free.
const CHECKPOINTS: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn key(number: u64) -> [u8; 24] {
    let mut random = Rng::with_seed(number);
    std::array::from_fn(|_| random.u8(..))
}

fn value(random: &mut Rng) -> [u8; 150] {
    std::array::from_fn(|_| random.u8(..))
}

fn loaded(directory: &Path, elements: u64) -> Result<Store> {
    let path = directory.join("store");
    let _ = std::fs::remove_file(&path);
    let options = Options::new().cache_bytes(4 << 30);
    let store = options.create(&path)?;
    let mut random = Rng::with_seed(elements);
    let mut transaction = store.begin_alone().wait()?;
    for number in 0..elements {
        transaction.put(key(number), value(&mut random)).wait()?;
    }
    transaction.commit().wait()?;
    Ok(store.with_durability(Durability::Buffered))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Microseconds that each of some saves takes, each after a put.
fn saves(store: &Store, prefix: &str, saves: usize) -> Result<f64> {
    let snapshots = store.snapshots();
    let mut times = Vec::new();
    for number in 0..saves {
        store.put(number.to_be_bytes(), "changed").wait()?;
        let began = Instant::now();
        snapshots.save(format!("{prefix}{number}")).wait()?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(times))
}

fn saving(directory: &Path, most: u64) -> Result<()> {
    println!("saving a snapshot, microseconds, median of {SAVES}");
    for elements in [1000.min(most), most, 10 * most] {
        let store = loaded(directory, elements)?;
        let buffered = saves(&store, "buffered", SAVES)?;
        let durable = store.with_durability(Durability::Immediate);
        let durable = saves(&durable, "durable", SAVES / 10)?;
        println!("{elements:>12} pairs: {buffered:8.2}  durable {durable:8.1}");
        store.close().wait()?;
    }
    Ok(())
}

/// Seconds that updates take, while snapshots are saved and kept.
fn updates(directory: &Path, elements: u64, kept: usize) -> Result<f64> {
    let store = loaded(directory, elements)?;
    let snapshots = store.snapshots();
    let mut random = Rng::with_seed(7);
    let every = elements as usize / kept.max(1);
    let began = Instant::now();
    for number in 0..elements as usize {
        let changed = key(random.u64(..elements));
        store.put(changed, value(&mut random)).wait()?;
        if kept > 0 && number % every.max(1) == 0 {
            snapshots.save(number.to_be_bytes()).wait()?;
        }
    }
    store.close().wait()?;
    Ok(began.elapsed().as_secs_f64())
}

fn keeping(directory: &Path, elements: u64) -> Result<()> {
    println!("{elements} random updates of {elements} pairs, and close, seconds");
    let mut figures = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (kept, figures) in [0, KEPT].into_iter().zip(&mut figures) {
            figures.push(updates(directory, elements, kept)?);
        }
    }
    let [without, with] = figures.map(median);
    let ratio = without / with;
    println!(
        "   without {without:.2}, with {KEPT} snapshots kept {with:.2}: {ratio:.2} of the speed"
    );
    Ok(())
}

fn deleting(directory: &Path, elements: u64) -> Result<()> {
    let store = loaded(directory, elements)?;
    let snapshots = store.snapshots();
    snapshots.save("kept").wait()?;
    let mut random = Rng::with_seed(9);
    // Keys that follow one another: what is only the snapshot's is a hundredth of the leaves.
    let end = key_share(100);
    let mut batch = store.batch();
    let mut changed = 0;
    for entry in store.range(..end).keys() {
        batch.put(entry?, value(&mut random)).wait()?;
        changed += 1;
    }
    batch.commit().wait()?;
    store.checkpoint().wait()?;
    let sizes = snapshots.sizes("kept").wait()?.ok_or("the name is there")?;
    let free_before = store.stats().free_bytes;
    let began = Instant::now();
    snapshots.delete("kept").wait()?;
    let deleted = began.elapsed();
    for _ in 0..CHECKPOINTS {
        if store.stats().free_bytes >= free_before + sizes.exclusive_bytes / 2 {
            break;
        }
        store.put("another", "generation").wait()?;
        store.checkpoint().wait()?;
    }
    let back = began.elapsed();
    println!(
        "deleting a snapshot of {elements} pairs that has {changed} to itself, {} bytes: {:.1} us, and {:.1} ms until the space is back",
        sizes.exclusive_bytes,
        deleted.as_secs_f64() * 1e6,
        back.as_secs_f64() * 1e3
    );
    store.close().wait()?;
    Ok(())
}

/// The key below which one in so many random keys is.
fn key_share(parts: u64) -> [u8; 8] {
    (u64::MAX / parts).to_be_bytes()
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let number = arguments.iter().find_map(|argument| argument.parse().ok());
    let elements = number.unwrap_or(if test { 2000 } else { 1_000_000 });
    let directory = tempfile::tempdir()?;
    let asked = |part: &str| {
        let is_part = |argument: &String| ["saving", "keeping", "deleting"].contains(&&**argument);
        !arguments.iter().any(is_part) || arguments.iter().any(|argument| argument == part)
    };
    if asked("saving") {
        saving(directory.path(), elements)?;
    }
    if asked("keeping") {
        keeping(directory.path(), elements)?;
    }
    if asked("deleting") {
        deleting(directory.path(), 10 * elements)?;
    }
    Ok(())
}
