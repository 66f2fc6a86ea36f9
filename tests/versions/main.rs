//! Versions that names keep, against maps: whatever is written, flushed, compacted, deleted and crashed
//! in between, each name reads what was there when it was saved, nothing is lost on the disk, and what
//! nobody needs comes back.
//!
//! `THUNDERHEAD_ROUNDS` multiplies the rounds; `THUNDERHEAD_SEED` plays one seed again.
//!
//! * `world`: random steps.
//! * `crashes`: scripts, and a crash or a failure at every call.

mod crashes;
mod world;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use fastrand::Rng;
use thunderhead::disk::{FileDisk, FileDiskOptions, SimulatedMachine};
use thunderhead::inspect::{Event, Severity, Summary};
use thunderhead::{Maintenance, Options, Snapshot, Store};

use world::World;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn contents(snapshot: &Snapshot) -> Map {
    let entries = snapshot.range(..).map(|entry| {
        let (key, _) = entry.expect("a range");
        let value = snapshot.get(&key).wait().expect("a read");
        (key, value.expect("a key of a range").to_vec())
    });
    entries.collect()
}

/// Everything that is wrong, and what there is.
fn verify(store: &Store) -> (Vec<String>, Summary) {
    let mut findings = Vec::new();
    let summary = store
        .verify(|event| {
            if let Event::Finding(finding) = event
                && finding.severity != Severity::Note
            {
                findings.push(finding.to_string());
            }
            ControlFlow::Continue(())
        })
        .wait()
        .expect("a checkpoint");
    (findings, summary)
}

/// However often journals are flushed between two checkpoints, names of that time cost one tree.
#[test]
fn names_between_two_checkpoints_share_a_tree() {
    let machine = SimulatedMachine::new(5);
    let options = Options::new()
        .maintenance(Maintenance::Caller)
        .journal_bytes(2000);
    let open = || {
        let disk = FileDisk::open_or_create_on(&machine, &FileDiskOptions::default()).unwrap();
        options.open_disk(disk).unwrap()
    };
    let store = open();
    let mut random = Rng::with_seed(5);
    let mut now = Map::new();
    let mut saved = BTreeMap::new();
    let mut write = |now: &mut Map| {
        for _ in 0..10 {
            let (key, value) = ([random.u8(..)].to_vec(), [random.u8(..); 40].to_vec());
            store.put(&key, &value).wait().unwrap();
            now.insert(key, value);
        }
    };
    write(&mut now);
    store.checkpoint().wait().unwrap();
    let flushes = store.stats().flushes;
    let mut held = None;
    for number in 0..100u32 {
        write(&mut now);
        let name = number.to_be_bytes();
        store.snapshots().save(name).wait().unwrap();
        saved.insert(name, now.clone());
        if number == 30 {
            // While somebody reads it, its tree gets the commits of later flushes.
            held = Some(store.snapshots().open(name).wait().unwrap());
        }
        while store.maintain().wait().unwrap() {}
    }
    assert!(store.stats().flushes - flushes > 10);
    let check = |store: &Store| {
        for (name, content) in &saved {
            let snapshot = store.snapshots().open(name).wait().unwrap();
            assert_eq!(contents(&snapshot), *content);
        }
    };
    check(&store);
    assert_eq!(contents(&held.unwrap()), saved[&30u32.to_be_bytes()]);
    store.checkpoint().wait().unwrap();
    let (findings, summary) = verify(&store);
    assert_eq!(findings, [""; 0]);
    assert_eq!(summary.kept_versions, 1);
    check(&store);
    // Of no flush, of the first ones and the last.
    for name in [0u32, 3, 50, 99] {
        let name = name.to_be_bytes();
        let before = format!("before {name:?}");
        store.snapshots().restore(name, before).wait().unwrap();
        assert_eq!(contents(&store.snapshot()), saved[&name]);
    }
    check(&store);
    store.close().wait().unwrap();
    let store = open();
    check(&store);
    let (findings, _) = verify(&store);
    assert_eq!(findings, [""; 0]);
}

/// A branch whose newest version has a name, at which another line begins: what that drops, the branch has.
#[test]
fn what_a_line_drops_that_began_at_a_branch_stays_in_the_branch() {
    for restores in [true, false] {
        let world = World::new(1);
        let store = world.store().clone();
        store.put("both", vec![1; 900]).wait().unwrap();
        store.snapshots().save("first").wait().unwrap();
        let branch = store.branches().create("branch", "first").wait().unwrap();
        let mut transaction = branch.begin().wait().unwrap();
        for number in 0..40 {
            let key = format!("only {number}");
            transaction.put(key, vec![2; 100 * number]).wait().unwrap();
        }
        transaction.commit().wait().unwrap();
        branch.save("second").wait().unwrap();
        let before = contents(&branch.snapshot().wait().unwrap());
        if restores {
            store.snapshots().restore("second", "third").wait().unwrap();
            store.delete_range(..).wait().unwrap();
        } else {
            let other = store.branches().create("other", "second").wait().unwrap();
            let mut transaction = other.begin().wait().unwrap();
            transaction.delete_range(..).wait().unwrap();
            transaction.commit().wait().unwrap();
        }
        let settle = || {
            for number in 0..6 {
                store.put("again", vec![3; 5000 + number]).wait().unwrap();
                store.checkpoint().wait().unwrap();
                while store.maintain().wait().unwrap() {}
            }
        };
        settle();
        world.check_sound();
        assert!(contents(&branch.snapshot().wait().unwrap()) == before);
        // The name goes, and what has none stays.
        store.snapshots().delete("second").wait().unwrap();
        settle();
        world.check_sound();
        assert!(contents(&branch.snapshot().wait().unwrap()) == before);
    }
}
