//! A tour: puts a directory tree into a store, asks the store about it, and checks every byte.
//!
//! ```text
//! cargo run --release --example tour -- [DIRECTORY]
//! ```
//!
//! A file has a key `meta/<path>`, whose value is its [`Meta`], and keys `data/<path>`, a zero byte,
//! and the number of a piece (4 bytes, big endian, so that they sort), whose values are the pieces.
//! There is no put that streams yet: pieces keep the memory bounded. Values too large for a leaf go
//! off-tree by themselves. Paths are bytes, relative to the directory, and need not be UTF-8.
//!
//! Symbolic links are not followed. They, special files and what cannot be read are counted and left
//! out, as is the store's own file, which is in the system's directory for temporary files (on Unix
//! `TMPDIR` names another one) and goes away at the end.

use std::error::Error;
use std::fs::{self, File, Metadata, ReadDir};
use std::io::{self, IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use thunderhead::inspect::Event;
use thunderhead::{Durability, Entry, Options, Prefix, Store};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const PIECE_BYTES: u64 = 8 << 20;
/// A transaction is committed when it has put so much, in bytes and in files.
const BATCH: (u64, u64) = (64 << 20, 10_000);

fn main() -> ExitCode {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    match tour(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tour: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tour(directory: &Path) -> Outcome {
    let named = |error| format!("{}: {error}", directory.display());
    let root = fs::canonicalize(directory).map_err(named)?;
    fs::read_dir(&root).map_err(named)?;
    let temporary = tempfile::tempdir()?;
    let path = fs::canonicalize(temporary.path())?.join("tour.store");

    title("Create a store");
    // With `Buffered`, a commit does not wait for the disk; closing the store does.
    let store = Options::new()
        .durability(Durability::Buffered)
        .create(&path)?;
    println!("in {}", path.display());

    title(&format!("Put {} into it", root.display()));
    let raw_bytes = index(&store, &root, &path)?;

    title("Compare sizes");
    sizes(&store, &path, raw_bytes)?;

    title("Ask it");
    ask(&store)?;

    title("Take a snapshot, and change the store");
    change(&store)?;

    title("Close it, and open it again");
    let (entries, started) = (store.len().wait()?, Instant::now());
    store.close().wait()?;
    println!("closed in {:.1?}", started.elapsed());
    let started = Instant::now();
    let store = Store::open(&path)?;
    println!("opened in {:.1?}", started.elapsed());
    assert_eq!(store.len().wait()?, entries);

    title("Verify it");
    verify(&store)?;

    title("Read every file back");
    read_back(&store, &root)?;
    store.close().wait()?;
    Ok(())
}

/// Puts every file, in transactions of many; gives their bytes.
fn index(store: &Store, root: &Path, own: &Path) -> Outcome<u64> {
    let mut expected = (0, 0);
    for (_, _, metadata) in Files::new(root, own)? {
        expected = (expected.0 + metadata.len(), expected.1 + 1);
    }

    let mut bar = Bar::new(expected);
    let (mut bytes, mut count, mut committed) = (0, 0, (0, 0));
    let mut piece = Vec::new();
    let mut files = Files::new(root, own)?;
    let mut batch = store.begin().wait()?;
    while let Some((path, relative, metadata)) = files.next() {
        let Ok(mut file) = File::open(&path) else {
            files.unreadable += 1;
            continue;
        };
        let mut length = 0;
        let mut readable = true;
        for number in 0.. {
            piece.clear();
            match (&mut file).take(PIECE_BYTES).read_to_end(&mut piece) {
                Ok(0) => break,
                Ok(read) => length += read as u64,
                Err(_) => readable = false,
            }
            if !readable {
                break;
            }
            batch.put(data_key(&relative, number), &piece).wait()?;
        }
        if !readable {
            // What was put of it goes again, before anybody could see it.
            batch.delete_range(pieces_of(&relative)).wait()?;
            files.unreadable += 1;
            continue;
        }
        let modified = modified(&metadata);
        let meta = Meta { length, modified }.to_bytes();
        batch.put([b"meta/", &relative[..]].concat(), meta).wait()?;

        (bytes, count) = (bytes + length, count + 1);
        if bytes - committed.0 >= BATCH.0 || count - committed.1 >= BATCH.1 {
            batch.commit().wait()?;
            batch = store.begin().wait()?;
            committed = (bytes, count);
        }
        bar.show((bytes, count));
    }
    batch.commit().wait()?;
    bar.finish();

    let elapsed = bar.started.elapsed();
    println!("{count} files, {} in {elapsed:.1?}", human(bytes));
    println!(
        "left out: {} symbolic links, {} special files, {} unreadable{}",
        files.links,
        files.special,
        files.unreadable,
        if files.own_met {
            ", the store's own file"
        } else {
            ""
        },
    );
    Ok(bytes)
}

/// Compares the store's file with what was put into it.
fn sizes(store: &Store, path: &Path, raw_bytes: u64) -> Outcome {
    // Writes what is still only in memory and in the log into the tree.
    store.checkpoint().wait()?;
    let metadata = fs::metadata(path)?;
    println!("files       {}", human(raw_bytes));
    println!("store       {} long", human(metadata.len()));
    #[cfg(unix)]
    println!(
        "            {} on the disk",
        human(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512)
    );
    let stats = store.stats();
    println!("of these    {} trees and values", human(stats.tree_bytes));
    println!("            {} log", human(stats.log_space_bytes));
    println!("            {} free", human(stats.free_bytes));
    Ok(())
}

/// Looks up, ranges and counts.
fn ask(store: &Store) -> Outcome {
    // Counting needs no scan.
    let files = store.count(Prefix("meta/")).wait()?;
    let pieces = store.count(Prefix("data/")).wait()?;
    println!("{files} files in {pieces} pieces");

    println!("the first and the last three:");
    for entry in store.prefix("meta/").take(3) {
        show(entry?)?;
    }
    for entry in store.prefix("meta/").rev().take(3) {
        show(entry?)?;
    }

    // All of "data/" sorts before all of "meta/".
    let Some((key, _)) = store.nth(pieces + files / 2).wait()? else {
        println!("  none, so there is nothing more to ask");
        return Ok(());
    };
    println!("the one in the middle, by its rank and by its key:");
    let value = store.get(&key).wait()?.ok_or("it was there just now")?;
    let length = Meta::from_bytes(&value)?.length;
    show((key.clone(), value))?;

    let first_piece = data_key(&key[b"meta/".len()..], 0);
    let start = store.get_part(&first_piece, 0, 40).wait()?;
    match start {
        Some(start) => println!("  of {length} bytes begins {:?}", lossy(&start)),
        None => println!("  is empty"),
    }
    assert!(!store.contains_key("meta/\0no such file").wait()?);

    // Lends keys and values instead of copying them.
    let (mut range, mut largest) = (store.prefix("meta/"), (0, Vec::new()));
    let mut look = |key: &[u8], value: &[u8]| {
        let length = Meta::from_bytes(value)?.length;
        if length >= largest.0 {
            largest = (length, key.to_vec());
        }
        Ok::<(), Box<dyn Error>>(())
    };
    while let Some(result) = range.next_with(&mut look).wait()? {
        result?;
    }
    println!("the largest: {}, {}", lossy(&largest.1), human(largest.0));
    Ok(())
}

/// Changes the store, sees both versions, and puts back what was.
fn change(store: &Store) -> Outcome {
    let before = store.snapshot();
    let mut transaction = store.begin().wait()?;
    transaction.delete_range(Prefix("meta/")).wait()?;
    transaction.put("note", "the metadata is gone").wait()?;
    let sequence = transaction.commit().wait()?;

    println!(
        "snapshot, as of commit {}: {} of metadata, note: {:?}",
        before.sequence().0,
        before.count(Prefix("meta/")).wait()?,
        before.get("note").wait()?
    );
    println!(
        "store, as of commit {}: {} of metadata, note: {:?}",
        sequence.0,
        store.count(Prefix("meta/")).wait()?,
        store.get("note").wait()?
    );

    let mut transaction = store.begin().wait()?;
    for entry in before.prefix("meta/") {
        let (key, value) = entry?;
        transaction.put(key, value).wait()?;
    }
    transaction.delete("note").wait()?;
    transaction.commit().wait()?;
    let (now, then) = (store.len().wait()?, before.len().wait()?);
    println!("put back: {now} entries, {then} in the snapshot");
    Ok(())
}

/// Reads everything that the store has on the disk, and checks that it fits together.
fn verify(store: &Store) -> Outcome {
    let started = Instant::now();
    let summary = store.verify(|event| {
        if let Event::Finding(finding) = event {
            println!("{finding}");
        }
        ControlFlow::Continue(())
    });
    let summary = summary.wait()?;
    println!(
        "{} pages and {} off-tree values in {:.1?}: {} damages, {} leaks",
        summary.user.pages(),
        summary.user.values,
        started.elapsed(),
        summary.damages,
        summary.leaks
    );
    if summary.is_sound() {
        Ok(())
    } else {
        Err("the store is damaged".into())
    }
}

/// Compares all files with what the store has of them.
fn read_back(store: &Store, root: &Path) -> Outcome {
    let mut bar = Bar::new((0, store.count(Prefix("meta/")).wait()?));
    let (mut bytes, mut same, mut changed, mut different) = (0, 0, 0, 0);
    for entry in store.prefix("meta/") {
        let (key, value) = entry?;
        let (relative, meta) = (&key[b"meta/".len()..], Meta::from_bytes(&value)?);
        let path = root.join(path_of(relative)?);
        if matches_file(store, relative, &path)? {
            (same, bytes) = (same + 1, bytes + meta.length);
        } else if fs::metadata(&path)
            .is_ok_and(|now| now.len() == meta.length && modified(&now) == meta.modified)
        {
            bar.finish();
            println!("different: {}", path.display());
            different += 1;
        } else {
            changed += 1;
        }
        bar.show((0, same + changed + different));
    }
    bar.finish();
    println!("{same} files, {}: byte for byte the same", human(bytes));
    println!("{changed} changed on the disk meanwhile");
    match different {
        0 => Ok(()),
        _ => Err(format!("{different} files came back different").into()),
    }
}

/// Whether a file can be read, and is what the store has of it.
fn matches_file(store: &Store, relative: &[u8], path: &Path) -> Outcome<bool> {
    let Ok(mut file) = File::open(path) else {
        return Ok(false);
    };
    let mut buffer = Vec::new();
    let mut pieces = store.range(pieces_of(relative));
    let mut same = |_: &[u8], piece: &[u8]| {
        buffer.resize(piece.len(), 0);
        file.read_exact(&mut buffer).is_ok() && buffer == piece
    };
    while let Some(same) = pieces.next_with(&mut same).wait()? {
        if !same {
            return Ok(false);
        }
    }
    Ok(matches!(file.read(&mut [0]), Ok(0)))
}

/// What the store knows of a file besides its bytes. 16 bytes, little endian.
struct Meta {
    /// At 0: bytes that were read of it.
    length: u64,
    /// At 8: when it was modified, in seconds since 1970.
    modified: i64,
}

impl Meta {
    fn to_bytes(&self) -> [u8; 16] {
        let bytes = u128::from(self.length) | (self.modified as u64 as u128) << 64;
        bytes.to_le_bytes()
    }

    fn from_bytes(bytes: &[u8]) -> Outcome<Self> {
        let bytes = u128::from_le_bytes(bytes.try_into()?);
        let (length, modified) = (bytes as u64, (bytes >> 64) as i64);
        Ok(Self { length, modified })
    }
}

fn modified(metadata: &Metadata) -> i64 {
    match metadata.modified().map(|at| at.duration_since(UNIX_EPOCH)) {
        Ok(Ok(after)) => after.as_secs() as i64,
        Ok(Err(before)) => -(before.duration().as_secs() as i64),
        Err(_) => 0,
    }
}

fn data_key(relative: &[u8], piece: u32) -> Vec<u8> {
    [b"data/", relative, b"\0", &piece.to_be_bytes()].concat()
}

/// The keys of all pieces of a file.
fn pieces_of(relative: &[u8]) -> Prefix<Vec<u8>> {
    Prefix([b"data/", relative, b"\0"].concat())
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Outcome<&Path> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Outcome<&Path> {
    Ok(Path::new(std::str::from_utf8(bytes)?))
}

/// The regular files below a directory: where they are, their path from there on, their metadata.
struct Files<'p> {
    root: &'p Path,
    own: &'p Path,
    open: ReadDir,
    directories: Vec<PathBuf>,
    own_met: bool,
    links: u64,
    special: u64,
    unreadable: u64,
}

impl<'p> Files<'p> {
    fn new(root: &'p Path, own: &'p Path) -> io::Result<Self> {
        Ok(Self {
            root,
            own,
            open: fs::read_dir(root)?,
            directories: Vec::new(),
            own_met: false,
            links: 0,
            special: 0,
            unreadable: 0,
        })
    }
}

impl Iterator for Files<'_> {
    type Item = (PathBuf, Vec<u8>, Metadata);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(entry) = self.open.next() else {
                let directory = self.directories.pop()?;
                match fs::read_dir(directory) {
                    Ok(open) => self.open = open,
                    Err(_) => self.unreadable += 1,
                }
                continue;
            };
            // Of a symbolic link, this is the metadata of the link.
            let found = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
            match found {
                Err(_) => self.unreadable += 1,
                Ok((path, _)) if path == self.own => self.own_met = true,
                Ok((_, metadata)) if metadata.is_symlink() => self.links += 1,
                Ok((path, metadata)) if metadata.is_dir() => self.directories.push(path),
                Ok((path, metadata)) if metadata.is_file() => {
                    let relative = path.strip_prefix(self.root).unwrap_or(&path);
                    let relative = relative.as_os_str().as_encoded_bytes().to_vec();
                    return Some((path, relative, metadata));
                }
                Ok(_) => self.special += 1,
            }
        }
    }
}

/// A progress bar, where somebody sees it.
struct Bar {
    expected: (u64, u64),
    started: Instant,
    shown: Instant,
    visible: bool,
}

impl Bar {
    fn new(expected: (u64, u64)) -> Self {
        let (started, shown) = (Instant::now(), Instant::now());
        let visible = io::stderr().is_terminal();
        Self {
            expected,
            started,
            shown,
            visible,
        }
    }

    /// Shows how far it is, in bytes and files, ten times a second.
    fn show(&mut self, (bytes, files): (u64, u64)) {
        if !self.visible || self.shown.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.shown = Instant::now();
        // A file counts as much as a kilobyte.
        let work = |(bytes, files): (u64, u64)| bytes as f64 + files as f64 * 1024.0;
        let part = (work((bytes, files)) / work(self.expected).max(1.0)).min(1.0);
        let filled = "#".repeat((part * 40.0) as usize);
        eprint!("\r[{filled:<40}] {:3.0} %, {files} files ", part * 100.0);
    }

    fn finish(&mut self) {
        if self.visible {
            eprint!("\r{:70}\r", "");
            // The bar is only for looking at.
            let _ = io::stderr().flush();
        }
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn show((key, value): Entry) -> Outcome {
    let length = Meta::from_bytes(&value)?.length;
    println!("  {}, {length} bytes", lossy(&key));
    Ok(())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}
