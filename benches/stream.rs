//! A value far larger than memory, streamed in and out, beside a file written and read plainly.
//!
//! `cargo bench --bench stream`, with `-- 1024` for another number of MiB than 4096. The store has
//! 32 MiB of cache; the most memory that the process ever had is told. Both are written durably,
//! and read with nothing of them in the operating system's cache, on the disk of the directory for
//! temporary files. Each round does all four, one after the other.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use thunderhead::{Options, Store};

const PIECE_BYTES: usize = 1 << 20;
const ROUNDS: usize = 3;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Pieces of bytes that do not compress, no two of them the same.
struct Pieces {
    bytes: Vec<u8>,
}

impl Pieces {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let bytes = std::iter::repeat_with(|| random.u8(..));
        Self {
            bytes: bytes.take(PIECE_BYTES).collect(),
        }
    }

    fn piece(&mut self, number: usize) -> &[u8] {
        self.bytes[..8].copy_from_slice(&number.to_le_bytes());
        &self.bytes
    }
}

/// Gives the bytes of a file up from the operating system's cache; they are on the disk.
fn forget(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    file.sync_data()?;
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// The most memory that this process had, in MiB, where the system tells.
fn peak_mebibytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes >> 10)
}

fn timed(what: &str, mebibytes: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    work()?;
    let seconds = began.elapsed().as_secs_f64();
    let peak = peak_mebibytes().map_or_else(String::new, |peak| format!(", peak {peak} MiB"));
    let speed = mebibytes as f64 / seconds;
    println!("{what:>20}: {seconds:6.2} s, {speed:5.0} MiB/s{peak}");
    Ok(())
}

fn check(number: usize, piece: &[u8]) -> Result<()> {
    match piece.first_chunk() == Some(&number.to_le_bytes()) {
        true => Ok(()),
        false => Err(format!("piece {number} is another").into()),
    }
}

fn write_store(store: &Store, pieces: &mut Pieces, mebibytes: usize) -> Result<()> {
    let mut writer = store.value_writer("value")?;
    for number in 0..mebibytes {
        writer.write(pieces.piece(number)).wait()?;
    }
    Ok(writer.finish().wait()?)
}

fn read_store(store: &Store, mebibytes: usize) -> Result<()> {
    let reader = store.value_reader("value").wait()?.ok_or("no value")?;
    let mut count = 0;
    for (number, piece) in reader.chunks().enumerate() {
        check(number, &piece?)?;
        count += 1;
    }
    match count == mebibytes {
        true => Ok(()),
        false => Err(format!("{count} pieces").into()),
    }
}

fn write_file(path: &Path, pieces: &mut Pieces, mebibytes: usize) -> Result<()> {
    let mut file = File::create(path)?;
    for number in 0..mebibytes {
        file.write_all(pieces.piece(number))?;
    }
    Ok(file.sync_data()?)
}

fn read_file(path: &Path, mebibytes: usize) -> Result<()> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    for number in 0..mebibytes {
        file.read_exact(&mut piece)?;
        check(number, &piece)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let given = arguments.iter().find_map(|argument| argument.parse().ok());
    let mebibytes = given.unwrap_or(if is_test { 16 } else { 4096 });
    let rounds = if is_test { 1 } else { ROUNDS };
    let place = tempfile::tempdir()?;
    let mut pieces = Pieces::new();
    println!(
        "{mebibytes} MiB in pieces of 1 MiB, to {}",
        place.path().display()
    );
    for _ in 0..rounds {
        let path = place.path().join("store");
        let store = Options::new()
            .cache_bytes(32 << 20)
            .transaction_bytes(4 << 20)
            .create(&path)?;
        timed("store, written", mebibytes, || {
            write_store(&store, &mut pieces, mebibytes)
        })?;
        forget(&path)?;
        timed("store, read", mebibytes, || read_store(&store, mebibytes))?;
        store.close().wait()?;
        std::fs::remove_file(&path)?;

        let path = place.path().join("file");
        timed("file, written", mebibytes, || {
            write_file(&path, &mut pieces, mebibytes)
        })?;
        forget(&path)?;
        timed("file, read", mebibytes, || read_file(&path, mebibytes))?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}
