//! Large values: files put as they are read, parts of them read and changed, and listed.
//!
//! `cargo run --release --example blobs -- <directory>`, this directory's `src` if there is none.
//!
//! Nothing here holds a whole file in memory: streams go through a mebibyte at a time.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use thunderhead::Store;

/// Puts every file below a directory, under its path; gives their number.
fn put_files(store: &Store, directory: &Path, root: &Path) -> Result<usize, Box<dyn Error>> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            count += put_files(store, &path, root)?;
        } else if path.is_file() {
            let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
            let mut writer = store.value_writer(name)?;
            io::copy(&mut File::open(&path)?, &mut writer)?;
            // Only now it is there, whole.
            writer.finish().wait()?;
            count += 1;
        }
    }
    Ok(count)
}

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "src".into());
    let place = tempfile::tempdir()?;
    let store = Store::create(place.path().join("blobs"))?;
    let files = store.subtree("files/");
    let count = put_files(&files, Path::new(&directory), Path::new(&directory))?;
    println!("{count} files of {directory}");

    // Lengths come without the values.
    let mut largest = (0, Vec::new());
    for name in files.iter().keys() {
        let name = name?;
        let length = files.value_length(&name).wait()?.unwrap_or_default();
        largest = largest.max((length, name));
    }
    let (length, name) = largest;
    println!(
        "the largest, {}: {length} bytes",
        String::from_utf8_lossy(&name)
    );

    // A part of it, and from there on as a stream.
    let mut reader = files.value_reader(&name).wait()?.ok_or("just put")?;
    let part = reader.read_at(length / 2, 40).wait()?;
    println!("in its middle: {:?}", String::from_utf8_lossy(&part));
    reader.seek(SeekFrom::Start(length / 2))?;
    let mut same = vec![0; part.len()];
    reader.read_exact(&mut same)?;
    assert_eq!(part, same);

    // A log that grows: each addition costs its last block and a path of index pages.
    let journal = store.subtree("journal/");
    for number in 0..1000 {
        let line = format!("{number:>6} something happened, and was noted\n");
        journal.append_to("today", line.as_bytes()).wait()?;
    }
    let before = store.snapshot();
    journal.write_at("today", 7, b"SOMETHING").wait()?;
    journal.truncate("today", 4200).wait()?;
    let mut sum = 0;
    for chunk in journal
        .value_reader("today")
        .wait()?
        .ok_or("just put")?
        .chunks()
    {
        sum += chunk?.len();
    }
    let was = before.value_length("journal/today").wait()?;
    println!("the journal has {sum} bytes, and {was:?} in a snapshot");
    assert_eq!((sum, was), (4200, Some(41_000)));

    store.close().wait()?;
    Ok(())
}
