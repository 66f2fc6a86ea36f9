//! Counting with merge operands: how often each word occurs in the files of a directory.
//!
//! `cargo run --release --example counter_merge -- src`
//!
//! A counter that is read, increased and put back needs a transaction, and those who count the same
//! thing wait for each other. A merge operand says *add this* without looking: nobody reads, nobody
//! conflicts, and the tree adds up when it comes by.

use std::collections::HashMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use thunderhead::{Durability, MergeOperator, Options, Store};

/// Adds numbers of eight bytes, little-endian.
struct Add;

impl MergeOperator for Add {
    fn name(&self) -> &str {
        "add-u64"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        let sum = number(existing.unwrap_or_default()).wrapping_add(number(operand));
        out.extend_from_slice(&sum.to_le_bytes());
    }
}

/// What is no number counts as zero: an operator has nobody to complain to.
fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_le_bytes).unwrap_or(0)
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Adds the words of a file to the counters, all together or not at all.
fn count(store: &Store, file: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Ok(text) = fs::read_to_string(file) else {
        return Ok(()); // No text.
    };
    let mut words: HashMap<&str, u64> = HashMap::new();
    for word in text.split(|letter: char| !letter.is_alphanumeric()) {
        *words.entry(word).or_default() += 1;
    }
    words.remove("");
    let mut batch = store.batch();
    for (word, count) in words {
        let key = &word.as_bytes()[..word.len().min(1000)];
        batch.merge(key, "add-u64", count.to_le_bytes()).wait()?;
    }
    batch.commit().wait()?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let directory = env::args().nth(1).unwrap_or_else(|| "src".into());
    let mut files = Vec::new();
    files_below(directory.as_ref(), &mut files)?;

    let place = tempfile::tempdir()?;
    let options = Options::new()
        .durability(Durability::Deferred)
        .merge_operator(Add);
    let store = options.create(place.path().join("words"))?;

    // Two threads add to the same counters, and neither waits for what the other has counted.
    thread::scope(|scope| {
        let half = files.len().div_ceil(2).max(1);
        let counting: Vec<_> = files
            .chunks(half)
            .map(|files| scope.spawn(|| files.iter().try_for_each(|file| count(&store, file))))
            .collect();
        counting
            .into_iter()
            .try_for_each(|thread| thread.join().expect("counting does not panic"))
    })?;
    store.close().wait()?;

    // The operator is needed whenever the store is opened: some operands may still be just that.
    let store = options.open(place.path().join("words"))?;
    let mut words = Vec::new();
    for entry in &store {
        let (word, count) = entry?;
        words.push((number(&count), String::from_utf8_lossy(&word).into_owned()));
    }
    words.sort_unstable_by(|a, b| b.cmp(a));
    println!("{} files, {} different words", files.len(), words.len());
    for (count, word) in words.iter().take(10) {
        println!("{count:>8} {word}");
    }
    assert_eq!(words.len() as u64, store.len().wait()?);
    store.close().wait()?;
    Ok(())
}
