//! Space under values of very different sizes that come and go at random, while snapshots are kept and
//! dropped: without compaction the file stays under one and a half times the most that was live or kept; and once
//! snapshots, branches, clones and data are deleted, compaction gives the rest back, and the file ends soon
//! after what is left.
//!
//! `cargo test --release --test space`; `THUNDERHEAD_ROUNDS` makes it so many times longer.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use thunderhead::inspect::{Event, Summary};
use thunderhead::{Options, Store};

/// About how many bytes are live.
const LIVE_BYTES: u64 = 192 << 20;
const SNAPSHOTS_MAX: usize = 4;
const STEPS: usize = 900;
/// The commit log, what is kept ready for a full disk, and the superblock.
const FIXED_BYTES: u64 = 40 << 20;

/// The length of each value, by key. Shared with snapshots, so that what they have in common counts once.
type Lengths = BTreeMap<u64, Arc<u64>>;

fn from_environment(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// From 200 bytes to 8 MiB.
const LENGTHS: (u32, u32) = (200, 8 << 20);

/// Each order of magnitude as often.
fn length(random: &mut Rng, (least, most): (u32, u32)) -> u64 {
    let (least, most) = (f64::from(least).ln(), f64::from(most).ln());
    (least + random.f64() * (most - least)).exp() as u64
}

fn bytes<'a>(all: impl Iterator<Item = &'a Lengths>) -> u64 {
    let mut counted: BTreeMap<*const u64, u64> = BTreeMap::new();
    for lengths in all {
        counted.extend(
            lengths
                .values()
                .map(|length| (Arc::as_ptr(length), **length)),
        );
    }
    counted.values().sum()
}

/// The blocks that a file takes.
fn disk_bytes(path: &Path) -> u64 {
    let metadata = std::fs::metadata(path).expect("the file is there");
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::blocks(&metadata) * 512;
    #[cfg(not(unix))]
    metadata.len()
}

fn settle(store: &Store) {
    // What one checkpoint lets go of, the next can use.
    for _ in 0..3 {
        store.put("settled", "").wait().unwrap();
        store.checkpoint().wait().unwrap();
    }
}

#[test]
fn values_of_all_sizes_that_come_and_go_leave_little_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = Options::new().cache_bytes(64 << 20).create(&path).unwrap();
    let mut random = Rng::with_seed(11);
    let mut live = Lengths::new();
    let mut kept: BTreeMap<String, Lengths> = BTreeMap::new();
    // The most so far: only compaction makes the file shorter.
    let (mut needed, mut worst) = (0, 0f64);
    let steps = STEPS * from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1);
    for step in 0..steps {
        let key = random.u64(..);
        let length = length(&mut random, LENGTHS);
        let value = vec![step as u8; length as usize];
        store.put(key.to_be_bytes(), value).wait().unwrap();
        live.insert(key, Arc::new(length));
        while bytes([&live].into_iter()) > LIVE_BYTES {
            let from = random.u64(..);
            let next = live.range(from..).next().or(live.iter().next());
            let key = *next.expect("something is live").0;
            store.delete(key.to_be_bytes()).wait().unwrap();
            live.remove(&key);
        }
        if step % 60 == 30 {
            let name = format!("{step}");
            store.snapshots().save(&name).wait().unwrap();
            kept.insert(name, live.clone());
            if kept.len() > SNAPSHOTS_MAX {
                let index = random.usize(..kept.len());
                let name = kept.keys().nth(index).unwrap().clone();
                assert!(store.snapshots().delete(&name).wait().unwrap());
                kept.remove(&name);
            }
        }
        if step % 100 == 99 && step > steps / 3 {
            settle(&store);
            needed = needed.max(bytes(kept.values().chain([&live])));
            let ratio = disk_bytes(&path).saturating_sub(FIXED_BYTES) as f64 / needed as f64;
            worst = worst.max(ratio);
        }
    }
    assert!(worst < 1.5, "{worst} times what is live or kept");
    // One that is kept, and half of what is live.
    let names: Vec<_> = kept.keys().skip(1).cloned().collect();
    for name in names {
        store.snapshots().delete(&name).wait().unwrap();
        kept.remove(&name);
    }
    for key in live.keys().copied().collect::<Vec<_>>() {
        if key % 2 != 0 {
            store.delete(key.to_be_bytes()).wait().unwrap();
            live.remove(&key);
        }
    }
    for (name, lengths) in std::mem::take(&mut kept) {
        let snapshot = store.snapshots().open(&name).wait().unwrap();
        for (key, length) in lengths {
            let found = snapshot.value_length(key.to_be_bytes()).wait().unwrap();
            assert_eq!(found, Some(*length));
        }
        drop(snapshot);
        store.snapshots().delete(&name).wait().unwrap();
    }
    settle(&store);
    store.compact().wait().unwrap();
    let needed = bytes([&live].into_iter());
    // Holes are given back, too, where a value of many mebibytes keeps the file from being cut.
    let ratio = disk_bytes(&path) as f64 / needed as f64;
    assert!(ratio < 1.15, "{ratio} times what is live after compaction");
    assert_eq!(sound(&store).kept_versions, 0);
    store.close().wait().unwrap();
}

fn sound(store: &Store) -> Summary {
    let mut findings = Vec::new();
    let summary = store.verify(|event| {
        if let Event::Finding(finding) = event {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    });
    let summary = summary.wait().unwrap();
    assert!(summary.is_sound() && summary.leaks == 0, "{findings:#?}");
    summary
}

/// Deletes some keys at random until less than so much is live.
fn delete_down_to(store: &Store, live: &mut BTreeMap<u64, u64>, most: u64, random: &mut Rng) {
    let mut total: u64 = live.values().sum();
    while total > most {
        let from = random.u64(..);
        let next = live.range(from..).next().or(live.iter().next());
        let (key, length) = next.expect("something is live");
        let (key, length) = (*key, *length);
        store.delete(key.to_be_bytes()).wait().unwrap();
        live.remove(&key);
        total -= length;
    }
}

/// What is left lies anywhere, in extents of up to a mebibyte, when most of the data goes with all
/// snapshots, branches and clones.
#[test]
fn the_file_ends_soon_after_what_is_left_of_large_values() {
    let rounds = from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1) as u64;
    for (seed, lengths) in (0..2 * rounds).zip([(1 << 20, 40 << 20), LENGTHS].iter().cycle()) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let store = Options::new().cache_bytes(64 << 20).create(&path).unwrap();
        let (snapshots, branches) = (store.snapshots(), store.branches());
        let mut random = Rng::with_seed(seed);
        let mut live = BTreeMap::new();
        for number in 0..8u8 {
            let mut written = 0;
            while written < LIVE_BYTES / 4 {
                let (key, length) = (random.u64(..), length(&mut random, *lengths));
                let value = vec![number; length as usize];
                store.put(key.to_be_bytes(), value).wait().unwrap();
                live.insert(key, length);
                written += length;
                delete_down_to(&store, &mut live, LIVE_BYTES, &mut random);
            }
            snapshots.save([number]).wait().unwrap();
            if number % 3 == 1 {
                let branch = branches.create([number], [number]).wait().unwrap();
                let mut transaction = branch.begin().wait().unwrap();
                let changed = vec![number; 3 << 20];
                transaction.put("changed", changed).wait().unwrap();
                transaction.commit().wait().unwrap();
                let from = 32 * number..32 * number + 16;
                for first in from {
                    store.clone_range([first], [b'c', first]).wait().unwrap();
                }
            }
        }
        snapshots.delete_range(..).wait().unwrap();
        for branch in branches.list().wait().unwrap() {
            assert!(branches.delete(branch.name).wait().unwrap());
        }
        store.delete_range(&[b'c'][..]..&[b'd'][..]).wait().unwrap();
        live.retain(|key, _| key.to_be_bytes()[0] != b'c');
        delete_down_to(&store, &mut live, LIVE_BYTES / 3, &mut random);
        settle(&store);
        store.compact().wait().unwrap();
        let needed: u64 = live.values().sum();
        let ratio = std::fs::metadata(&path).unwrap().len() as f64 / needed as f64;
        assert!(ratio < 1.15, "{ratio} times what is live, seed {seed}");
        assert_eq!(sound(&store).kept_versions, 0);
        for (key, length) in live {
            let found = store.value_length(key.to_be_bytes()).wait().unwrap();
            assert_eq!(found, Some(length));
        }
        store.close().wait().unwrap();
    }
}
