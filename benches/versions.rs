//! What named snapshots cost: to save one in stores of different sizes, to keep ten thousand of them while
//! everything is updated, and to delete one that has a hundredth of the store to itself; and how long a file
//! stays that is compacted while a few are kept.
//!
//! `cargo bench --bench versions`, with `-- 100000` for another number of pairs than 1,000,000, which the
//! largest store has ten times, and with `-- saving`, `keeping`, `deleting` or `pinning` for one of the four.
//! Pairs are 24 + 150 random bytes; stores are files in the directory for temporary files, with 4 GiB of
//! cache; commits are buffered, but where it says durable. Runs that are compared take turns.

use std::error::Error;
use std::ops::ControlFlow;
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

/// The bytes of a large value.
const LARGE_BYTES: usize = 300_000;
const MEBIBYTE: f64 = 1048576.0;

/// A store in which snapshots of three ages are kept, and of whose newest version a tenth is left when it is
/// compacted. `large`: half of the bytes are in large values.
fn pinning(directory: &Path, elements: u64, large: bool) -> Result<()> {
    let pairs = if large { elements / 2 } else { elements };
    let store = loaded(directory, pairs)?;
    let values = if large {
        (elements - pairs) * 174 / LARGE_BYTES as u64
    } else {
        0
    };
    let put_large = |number: u64, byte: u8| {
        let key = [&b"large"[..], &number.to_be_bytes()].concat();
        store.put(key, vec![byte; LARGE_BYTES]).wait()
    };
    for number in 0..values {
        put_large(number, 0)?;
    }
    let mut random = Rng::with_seed(13);
    for age in 0..3 {
        store.snapshots().save([age]).wait()?;
        for _ in 0..pairs / 5 {
            let changed = key(random.u64(..pairs));
            store.put(changed, value(&mut random)).wait()?;
        }
        for _ in 0..values / 5 {
            put_large(random.u64(..values), age + 1)?;
        }
    }
    store.retain_in(.., |_, _| random.u8(..10) == 0).wait()?;
    for _ in 0..3 {
        store.put("another", "generation").wait()?;
        store.checkpoint().wait()?;
    }
    let path = directory.join("store");
    let mebibytes = |bytes: u64| bytes as f64 / MEBIBYTE;
    let before = std::fs::metadata(&path)?.len();
    let began = Instant::now();
    store.compact().wait()?;
    let seconds = began.elapsed().as_secs_f64();
    let summary = store.verify(|_| ControlFlow::Continue(())).wait()?;
    let metadata = std::fs::metadata(&path)?;
    #[cfg(unix)]
    let on_disk = std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    let on_disk = metadata.len();
    println!(
        "compacting while three snapshots are kept, {pairs} pairs and {values} large values, in MiB: \
         live {:.1}, all in use {:.1}; the file was {:.1} long, and is {:.1}, {:.1} of it on the disk; \
         {seconds:.2} s",
        mebibytes(summary.user.page_bytes + summary.user.value_bytes),
        mebibytes(summary.bytes_in_use),
        mebibytes(before),
        mebibytes(metadata.len()),
        mebibytes(on_disk),
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
        let parts = ["saving", "keeping", "deleting", "pinning"];
        let is_part = |argument: &String| parts.contains(&&**argument);
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
    if asked("pinning") {
        for large in [false, true] {
            pinning(directory.path(), elements, large)?;
        }
    }
    Ok(())
}
