//! Files of each released version of the format open, and hold what was put into them.
//!
//! `tests/golden/` has two files of version 1: one of a store that was closed, one of a store that
//! was not, whose newest commits are in the log only. They were written by
//! `THUNDERHEAD_GOLDEN=write cargo test --test golden`, which overwrites them: to be done when a
//! version is not released yet, never afterwards. A new version gets new files beside the old.

#[path = "fixtures/append.rs"]
mod append;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use thunderhead::format::Settings;
use thunderhead::{ErrorKind, Maintenance, Options, Store};

use append::Append;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn options() -> Options {
    let mut settings = Settings::tiny();
    settings.log_chunk_bytes = 16 << 10;
    Options::new()
        .settings(settings)
        .segment_bytes(64 << 10)
        .journal_bytes(1 << 10)
        .reserve_bytes(0)
        .maintenance(Maintenance::Caller)
}

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    folder.join(format!("version-1-{name}.thunderhead"))
}

fn bytes(length: usize, factor: u8) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u8).wrapping_mul(factor) ^ (at >> 8) as u8)
        .collect()
}

/// What the closed store holds; fills it on the way if there is one.
fn closed(store: Option<&Store>) -> Map {
    let mut map = Map::new();
    let mut put = |key: Vec<u8>, value: Vec<u8>| {
        if let Some(store) = store {
            store.put(&key, &value).wait().unwrap();
        }
        map.insert(key, value);
    };
    for number in 0..90u32 {
        let key = format!("entry/{:02}", number * 7 % 90).into_bytes();
        put(key, bytes(number as usize % 50, 3));
    }
    put(Vec::new(), Vec::new());
    put(vec![255; 300], b"a long key".to_vec());
    put(b"off-tree".to_vec(), bytes(5_000, 5));
    put(b"one block".to_vec(), bytes(512, 7));
    if let Some(store) = store {
        while store.maintain().wait().unwrap() {}
        store.checkpoint().wait().unwrap();
        // These stay in the journals of the tree: a range delete, a delete, a chain of operands.
        store.delete_range("entry/20".."entry/30").wait().unwrap();
        store.delete("entry/50").wait().unwrap();
        for operand in ["+one", "+two"] {
            store.merge("entry/60", "append", operand).wait().unwrap();
            store.merge("new", "append", operand).wait().unwrap();
        }
    }
    map.retain(|key, _| !(&b"entry/20"[..]..&b"entry/30"[..]).contains(&key.as_slice()));
    map.remove(&b"entry/50"[..]);
    for key in ["entry/60", "new"] {
        let value = map.entry(key.into()).or_default();
        value.extend_from_slice(b"+one+two");
    }
    map
}

/// The same for the store that was not closed.
fn unclosed(store: Option<&Store>) -> Map {
    let mut map = closed(store);
    if let Some(store) = store {
        store.checkpoint().wait().unwrap();
        store.put("logged", "in the log").wait().unwrap();
        store.put("off-tree", bytes(2_000, 11)).wait().unwrap();
        let mut transaction = store.begin().wait().unwrap();
        transaction
            .delete_range("entry/70".."entry/75")
            .wait()
            .unwrap();
        transaction
            .merge("entry/60", "append", "+three")
            .wait()
            .unwrap();
        transaction.delete("entry/00").wait().unwrap();
        transaction.commit().wait().unwrap();
    }
    map.insert(b"logged".to_vec(), b"in the log".to_vec());
    map.insert(b"off-tree".to_vec(), bytes(2_000, 11));
    map.retain(|key, _| !(&b"entry/70"[..]..&b"entry/75"[..]).contains(&key.as_slice()));
    map.entry(b"entry/60".to_vec())
        .or_default()
        .extend_from_slice(b"+three");
    map.remove(&b"entry/00"[..]);
    map
}

fn read_all(store: &Store) -> Map {
    let entries: Map = store
        .iter()
        .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
        .collect();
    assert_eq!(store.len().wait().unwrap(), entries.len() as u64);
    for (key, value) in &entries {
        assert_eq!(
            store.get(key).wait().unwrap().as_deref(),
            Some(value.as_slice())
        );
    }
    entries
}

/// A copy of a golden file that can be written to.
fn copy_of(name: &str, folder: &Path) -> PathBuf {
    let path = folder.join(name);
    // Read and written, so that the copy is not as read-only as a checkout may be.
    std::fs::write(&path, std::fs::read(golden(name)).unwrap()).unwrap();
    path
}

#[test]
fn golden_files_hold_what_was_put_into_them() {
    let folder = tempfile::tempdir().unwrap();
    write_if_asked_to(folder.path());
    let options = options().merge_operator(Append);
    for (name, content) in [("closed", closed(None)), ("unclosed", unclosed(None))] {
        let store = options.clone().read_only().open(golden(name)).unwrap();
        assert_eq!(read_all(&store), content, "{name}");
        drop(store);
        let path = copy_of(name, folder.path());
        let before = std::fs::read(&path).unwrap();
        drop(options.clone().read_only().open(&path).unwrap());
        assert!(
            before == std::fs::read(&path).unwrap(),
            "{name} was changed"
        );
        let store = options.open(&path).unwrap();
        assert_eq!(read_all(&store), content, "{name}");
        store.put("added", "now").wait().unwrap();
        store.delete("off-tree").wait().unwrap();
        while store.maintain().wait().unwrap() {}
        store.close().wait().unwrap();
        let mut content = content;
        content.insert(b"added".to_vec(), b"now".to_vec());
        content.remove(&b"off-tree"[..]);
        let store = options.open(&path).unwrap();
        assert_eq!(read_all(&store), content, "{name}");
    }
}

#[test]
fn another_version_is_refused_and_the_file_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    // The header and its copy, the two slots of the root: see `thunderhead::disk::layout`.
    for places in [[0, 12288], [4096, 8192]] {
        let path = copy_of("closed", folder.path());
        let mut file = std::fs::read(&path).unwrap();
        for at in places {
            let record = &mut file[at..at + 512];
            assert_eq!(record[8..12], 1u32.to_le_bytes());
            record[8..12].copy_from_slice(&2u32.to_le_bytes());
            let checksum = crc32fast::hash(&record[..508]);
            record[508..].copy_from_slice(&checksum.to_le_bytes());
        }
        std::fs::write(&path, &file).unwrap();
        for options in [options(), options().read_only()] {
            let error = options.open(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{error}");
            let message = error.to_string();
            assert!(message.contains("version 2"), "{message}");
            assert!(message.contains("version 1"), "{message}");
            let again = options.open_or_create(&path).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::UnsupportedVersion, "{again}");
        }
        assert!(std::fs::read(&path).unwrap() == file, "it was changed");
    }
}

fn write_if_asked_to(folder: &Path) {
    if std::env::var("THUNDERHEAD_GOLDEN").as_deref() != Ok("write") {
        return;
    }
    let path = folder.join("new");
    let options = options().merge_operator(Append);
    let store = options.create(&path).unwrap();
    closed(Some(&store));
    store.close().wait().unwrap();
    std::fs::copy(&path, golden("closed")).unwrap();
    std::fs::remove_file(&path).unwrap();
    let store = options.create(&path).unwrap();
    unclosed(Some(&store));
    std::fs::copy(&path, golden("unclosed")).unwrap();
    drop(store);
    std::fs::remove_file(&path).unwrap();
}
