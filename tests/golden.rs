//! Files of each released version of the format open, and hold what was put into them.
//!
//! `tests/golden/` has two files of version 1: one of a store that was closed, one of a store that
//! was not, whose newest commits are in the log only. Both have named snapshots, a branch, values that
//! share their data with clones, and lists of what only older versions reach. They were written by
//! `THUNDERHEAD_GOLDEN=write cargo test --test golden`, which overwrites them: to be done when a
//! version is not released yet, never afterwards. A new version gets new files beside the old.
//!
//! What is compared is what can be read. How many pages it is on may change.

#[path = "fixtures/append.rs"]
mod append;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use thunderhead::format::Settings;
use thunderhead::inspect::{Event, Severity, Summary};
use thunderhead::{ErrorKind, Maintenance, Options, Snapshot, Store};

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

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    now: Map,
    /// What each named snapshot has, and the caller's bytes beside it.
    names: BTreeMap<String, (Map, Vec<u8>)>,
    branches: BTreeMap<String, Map>,
}

/// What is put into a store, if there is one, and what it holds then.
struct Writing<'s> {
    store: Option<&'s Store>,
    content: Content,
}

impl Writing<'_> {
    fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        let (key, value) = (key.into(), value.into());
        if let Some(store) = self.store {
            store.put(&key, &value).wait().unwrap();
        }
        self.content.now.insert(key, value);
    }

    fn delete(&mut self, key: &str) {
        if let Some(store) = self.store {
            store.delete(key).wait().unwrap();
        }
        self.content.now.remove(key.as_bytes());
    }

    fn delete_range(&mut self, low: &str, end: &str) {
        if let Some(store) = self.store {
            store.delete_range(low..end).wait().unwrap();
        }
        let within = low.as_bytes()..end.as_bytes();
        let content = &mut self.content.now;
        content.retain(|key, _| !within.contains(&key.as_slice()));
    }

    fn append(&mut self, key: &str, operand: &str) {
        if let Some(store) = self.store {
            store.merge(key, "append", operand).wait().unwrap();
        }
        let value = self.content.now.entry(key.into()).or_default();
        value.extend_from_slice(operand.as_bytes());
    }

    fn clone_range(&mut self, from: &str, to: &str) {
        if let Some(store) = self.store {
            store.clone_range(from, to).wait().unwrap();
        }
        let of = |(key, value): (&Vec<u8>, &Vec<u8>)| {
            let rest = key.strip_prefix(from.as_bytes())?;
            Some(([to.as_bytes(), rest].concat(), value.clone()))
        };
        let clones: Vec<_> = self.content.now.iter().filter_map(of).collect();
        self.content.now.extend(clones);
    }

    fn checkpoint(&mut self) {
        if let Some(store) = self.store {
            while store.maintain().wait().unwrap() {}
            store.checkpoint().wait().unwrap();
        }
    }

    fn save(&mut self, name: &str, beside: &str) {
        if let Some(store) = self.store {
            store.snapshots().save_with(name, beside).wait().unwrap();
        }
        let saved = (self.content.now.clone(), beside.into());
        self.content.names.insert(name.into(), saved);
    }

    fn rename(&mut self, old: &str, new: &str) {
        if let Some(store) = self.store {
            store.snapshots().rename(old, new).wait().unwrap();
        }
        let saved = self.content.names.remove(old).expect("it was saved");
        self.content.names.insert(new.into(), saved);
    }

    fn forget(&mut self, name: &str) {
        if let Some(store) = self.store {
            assert!(store.snapshots().delete(name).wait().unwrap());
        }
        self.content.names.remove(name);
    }

    fn restore(&mut self, name: &str, before: &str) {
        if let Some(store) = self.store {
            store.snapshots().restore(name, before).wait().unwrap();
        }
        let restored = self.content.names[name].0.clone();
        let was = std::mem::replace(&mut self.content.now, restored);
        self.content.names.insert(before.into(), (was, Vec::new()));
    }

    fn branch(&mut self, branch: &str, name: &str) {
        if let Some(store) = self.store {
            store.branches().create(branch, name).wait().unwrap();
        }
        let content = self.content.names[name].0.clone();
        self.content.branches.insert(branch.into(), content);
    }

    fn commit_to(&mut self, branch: &str, puts: &[(&str, Vec<u8>)], deleted: &str) {
        if let Some(store) = self.store {
            let branch = store.branches().open(branch).wait().unwrap();
            let mut transaction = branch.begin().wait().unwrap();
            for (key, value) in puts {
                transaction.put(key, value).wait().unwrap();
            }
            transaction.delete(deleted).wait().unwrap();
            transaction.commit().wait().unwrap();
        }
        let content = self.content.branches.get_mut(branch).expect("a branch");
        for (key, value) in puts {
            content.insert((*key).into(), value.clone());
        }
        content.remove(deleted.as_bytes());
    }

    fn save_branch(&mut self, branch: &str, name: &str) {
        if let Some(store) = self.store {
            let branch = store.branches().open(branch).wait().unwrap();
            branch.save(name).wait().unwrap();
        }
        let saved = (self.content.branches[branch].clone(), Vec::new());
        self.content.names.insert(name.into(), saved);
    }
}

/// Versions of all kinds: names that share a flush, and such that do not; one that was renamed, one that is
/// gone; a line that ended when an older version was restored; branches; clones.
fn versions(writing: &mut Writing) {
    writing.put("large/one", bytes(9_000, 13));
    writing.put("large/two", bytes(700, 17));
    writing.put("large/three", bytes(40, 19));
    writing.checkpoint();
    writing.save("first", "by the caller");
    writing.clone_range("large/", "clone/");
    writing.put("clone/two", bytes(1_300, 23));
    writing.save("second", "");
    writing.put("between", "two checkpoints");
    writing.save("third", "with another one");
    writing.delete_range("entry/80", "entry/85");
    writing.checkpoint();
    // A value that is older than a version that has not got it.
    let under_way = writing.store.map(|store| {
        let mut transaction = store.begin().wait().unwrap();
        let written = transaction.put("late", bytes(3_000, 29));
        written.wait().unwrap();
        transaction
    });
    writing.put("large/one", bytes(4_000, 31));
    writing.save("doomed", "");
    writing.checkpoint();
    if let Some(transaction) = under_way {
        transaction.commit().wait().unwrap();
    }
    let late = bytes(3_000, 29);
    writing.content.now.insert(b"late".to_vec(), late);
    writing.save("late", "a value of before");
    writing.rename("second", "renamed");
    writing.branch("branch", "first");
    let puts = [
        ("large/one", bytes(6_000, 37)),
        ("only in the branch", b"small".to_vec()),
    ];
    writing.commit_to("branch", &puts, "entry/07");
    writing.save_branch("branch", "of the branch");
    let puts = [("later in the branch", bytes(2_000, 41))];
    writing.commit_to("branch", &puts, "large/two");
    writing.branch("unchanged", "third");
    writing.forget("doomed");
    writing.checkpoint();
    writing.put("given up", bytes(5_000, 43));
    writing.restore("renamed", "before restoring");
    writing.put("after restoring", "more");
    writing.clone_range("clone/", "again/");
    writing.save("after restoring", "");
    writing.checkpoint();
}

/// What the closed store holds; fills it on the way if there is one.
fn closed(store: Option<&Store>) -> Content {
    let mut writing = Writing {
        store,
        content: Content::default(),
    };
    fill(&mut writing);
    writing.content
}

fn fill(writing: &mut Writing) {
    for number in 0..90u32 {
        let key = format!("entry/{:02}", number * 7 % 90);
        writing.put(key, bytes(number as usize % 50, 3));
    }
    writing.put("", "");
    writing.put([255; 300], "a long key");
    writing.put("off-tree", bytes(5_000, 5));
    writing.put("one block", bytes(512, 7));
    versions(writing);
    // These stay in the journals of the tree: a range delete, a delete, a chain of operands.
    writing.delete_range("entry/20", "entry/30");
    writing.delete("entry/50");
    for operand in ["+one", "+two"] {
        writing.append("entry/60", operand);
        writing.append("new", operand);
    }
}

/// The same for the store that was not closed.
fn unclosed(store: Option<&Store>) -> Content {
    let mut writing = Writing {
        store,
        content: Content::default(),
    };
    fill(&mut writing);
    if let Some(store) = store {
        store.checkpoint().wait().unwrap();
    }
    writing.put("logged", "in the log");
    writing.save("logged", "in the log");
    writing.forget("late");
    writing.rename("third", "renamed in the log");
    writing.put("off-tree", bytes(2_000, 11));
    if let Some(store) = store {
        let mut transaction = store.begin().wait().unwrap();
        let deleted = transaction.delete_range("entry/70".."entry/75");
        deleted.wait().unwrap();
        let merged = transaction.merge("entry/60", "append", "+three");
        merged.wait().unwrap();
        transaction.delete("entry/00").wait().unwrap();
        transaction.save_snapshot("with a commit", "three").unwrap();
        transaction.commit().wait().unwrap();
    }
    let now = &mut writing.content.now;
    now.retain(|key, _| !(&b"entry/70"[..]..&b"entry/75"[..]).contains(&key.as_slice()));
    now.entry(b"entry/60".to_vec())
        .or_default()
        .extend_from_slice(b"+three");
    now.remove(&b"entry/00"[..]);
    let saved = (now.clone(), b"three".to_vec());
    writing.content.names.insert("with a commit".into(), saved);
    writing.content
}

fn content_of(snapshot: &Snapshot) -> Map {
    let entries: Map = snapshot
        .iter()
        .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
        .collect();
    assert_eq!(snapshot.len().wait().unwrap(), entries.len() as u64);
    for (key, value) in &entries {
        assert_eq!(
            snapshot.get(key).wait().unwrap().as_deref(),
            Some(value.as_slice())
        );
    }
    entries
}

/// Everything that a store holds, and that nothing is wrong with it.
fn read_all(store: &Store) -> Content {
    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    let (snapshots, branches) = (store.snapshots(), store.branches());
    let names = snapshots.list().map(|info| {
        let info = info.unwrap();
        let snapshot = snapshots.open(&info.name).wait().unwrap();
        (text(&info.name), (content_of(&snapshot), info.bytes))
    });
    let names: BTreeMap<_, _> = names.collect();
    let times = snapshots.by_time(..).map(|info| info.unwrap());
    let times: Vec<_> = times.map(|info| (info.time, info.name)).collect();
    assert!(times.is_sorted_by_key(|(time, _)| *time));
    let mut by_time: Vec<_> = times.iter().map(|(_, name)| text(name)).collect();
    by_time.sort();
    assert!(by_time.iter().eq(names.keys()));
    let listed = branches.list().wait().unwrap().into_iter();
    let listed = listed.map(|info| {
        let branch = branches.open(&info.name).wait().unwrap();
        let snapshot = branch.snapshot().wait().unwrap();
        (text(&info.name), content_of(&snapshot))
    });
    let content = Content {
        now: content_of(&store.snapshot()),
        branches: listed.collect(),
        names,
    };
    let summary = sound(store);
    assert_eq!(summary.snapshots, content.names.len() as u64);
    content
}

fn sound(store: &Store) -> Summary {
    let mut findings = Vec::new();
    let summary = store.verify(|event| {
        if let Event::Finding(finding) = event
            && finding.severity != Severity::Note
        {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    });
    let summary = summary.wait().unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
    summary
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
        assert_same(&read_all(&store), &content, name);
        drop(store);
        let path = copy_of(name, folder.path());
        let before = std::fs::read(&path).unwrap();
        drop(options.clone().read_only().open(&path).unwrap());
        assert!(
            before == std::fs::read(&path).unwrap(),
            "{name} was changed"
        );
        let store = options.open(&path).unwrap();
        assert_same(&read_all(&store), &content, name);
        let mut writing = Writing {
            store: Some(&store),
            content,
        };
        go_on(&mut writing);
        let content = writing.content;
        store.close().wait().unwrap();
        let store = options.open(&path).unwrap();
        assert_same(&read_all(&store), &content, name);
        give_back(&store);
        let now = Content {
            now: content.now,
            ..Content::default()
        };
        assert_same(&read_all(&store), &now, name);
    }
}

/// Goes on with everything that a golden file has.
fn go_on(writing: &mut Writing) {
    writing.put("added", "now");
    writing.delete("off-tree");
    writing.delete_range("clone/", "clone0");
    writing.save("added", "now");
    let puts = [("large/one", bytes(4_500, 47))];
    writing.commit_to("branch", &puts, "large/three");
    writing.commit_to("unchanged", &puts, "between");
    writing.checkpoint();
    writing.forget("first");
    writing.restore("before restoring", "restored again");
    writing.rename("of the branch", "as it was");
    writing.checkpoint();
}

/// Deletes all names and branches: nothing is left of what only they had.
fn give_back(store: &Store) {
    store.snapshots().delete_range(..).wait().unwrap();
    for branch in store.branches().list().wait().unwrap() {
        assert!(store.branches().delete(branch.name).wait().unwrap());
    }
    for _ in 0..12 {
        store.checkpoint().wait().unwrap();
        while store.maintain().wait().unwrap() {}
    }
    store.compact().wait().unwrap();
    let summary = sound(store);
    assert_eq!((summary.kept_versions, summary.kept.pages()), (0, 0));
}

fn assert_same(found: &Content, expected: &Content, file: &str) {
    assert!(found.now == expected.now, "{file}: its newest version");
    let names = |content: &Content| content.names.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{file}");
    for (name, saved) in &expected.names {
        assert!(found.names[name] == *saved, "{file}: snapshot {name}");
    }
    assert!(found.branches == expected.branches, "{file}: branches");
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
