//! The store against a map: random calls, each compared with what a `BTreeMap` says, on nodes so
//! small that a handful of keys takes every path, and on ordinary ones.
//!
//! * `script`, `run`, `reading`, `modifying`: the random part. A failure prints its seed and the shortest
//!   script found.
//! * `branches`: lines of versions beside the newest.
//! * `concurrent`: transactions that are open beside each other.
//! * `diffs`: what differs between versions.
//! * `cursors`: seeking, stepping and editing.
//! * `limits`: arguments beyond what is possible, and ends of ranges that meet failures.
//! * `names`: snapshots that are kept.
//! * `references`: keys that stand for others.
//! * `threads`: executors, and readers beside writers.
//!
//! `THUNDERHEAD_ROUNDS` multiplies the rounds; `THUNDERHEAD_SEED` plays one seed again.

#[path = "../fixtures/append.rs"]
mod append;
mod branches;
mod concurrent;
mod cursors;
mod diffs;
mod limits;
mod modifying;
mod names;
mod reading;
mod references;
mod run;
mod script;
mod threads;

use std::path::Path;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use thunderhead::disk::{FileDiskOptions, Ledger, MemoryDisk};
use thunderhead::format::Settings;
use thunderhead::{Maintenance, Options};

use append::Append;
use run::{Last, Place, Setup, run, shrink};
use script::Shape;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// How a kind of run is made from its random numbers.
struct Kind {
    name: &'static str,
    settings: fn() -> Settings,
    steps: usize,
    maintenance: Maintenance,
    file: bool,
}

impl Kind {
    /// Everything that a seed decides but the script; the same each time.
    fn prepare(&self, seed: u64, directory: &Path) -> (Setup, Shape, Rng) {
        let mut random = Rng::with_seed(seed);
        let settings = (self.settings)();
        let mut shape = Shape::new(
            &mut random,
            settings.inline_bytes_max as usize,
            settings.block_bytes as usize,
        );
        shape.steps = self.steps;
        let tiny = settings.leaf_slots_max == 3;
        // One that goes to the disk is alone, and nobody else could commit.
        let roomy = random.bool();
        if roomy && random.bool() {
            shape.beside = random.usize(2..6);
        }
        let options = Options::new()
            .settings(settings)
            .maintenance(self.maintenance)
            .cache_bytes(1 << 20)
            .journal_bytes(match tiny {
                true => [256, 600, 3000][random.usize(..3)],
                false => [4 << 10, 64 << 10, 4 << 20][random.usize(..3)],
            })
            .checkpoint_log_bytes([4 << 10, 64 << 10, 1 << 20][random.usize(..3)])
            .transaction_bytes([64 << 10, 64 << 20][usize::from(roomy)])
            .readahead_bytes([0, 40 << 10][(seed / 2 % 2) as usize])
            .merge_operator(Append)
            .merge_operator(Last);
        let segment_bytes = match tiny {
            true => [256 << 10, 1 << 20][random.usize(..2)],
            false => 16 << 20,
        };
        let place = match self.file {
            false => {
                let ledger = Ledger::new();
                // Aborted transactions give up values that nothing ever named.
                ledger.allow_rewrites(true);
                ledger.allow_unsynced_publish(true);
                let disk = MemoryDisk::new().with_segment_bytes(segment_bytes);
                Place::Memory(disk, ledger)
            }
            true => {
                let path = directory.join("store");
                let _ = std::fs::remove_file(&path);
                let mut files = FileDiskOptions::default();
                files.segment_bytes = segment_bytes;
                Place::File(path, files)
            }
        };
        let keys = shape.keys.clone();
        // Some runs see only a part of the store, between keys of others.
        let long = keys.iter().any(|key| key.len() > 1000);
        let view: &[u8] = match (long, seed % 4) {
            (false, 1) => b"a view/",
            (false, 2) => &[255, 255],
            (false, 3) => &[0],
            _ => b"",
        };
        let setup = Setup {
            options,
            place,
            keys,
            view: view.to_vec(),
        };
        (setup, shape, random)
    }

    fn play(&self, rounds: u64) {
        let rounds = rounds * from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = from_environment("THUNDERHEAD_SEED");
        let seeds = first.map_or(0..rounds, |seed| seed..seed + 1);
        for seed in seeds {
            let (setup, shape, mut random) = self.prepare(seed, directory.path());
            let script = shape.script(&mut random);
            let Err(message) = run(&setup, &script) else {
                continue;
            };
            println!("{}: seed {seed} fails: {message}", self.name);
            let fails = |script: &[script::Step]| {
                run(&self.prepare(seed, directory.path()).0, script).is_err()
            };
            let tries = from_environment("THUNDERHEAD_SHRINK").unwrap_or(400);
            let shortest = shrink(script, tries as usize, fails);
            let again = run(&self.prepare(seed, directory.path()).0, &shortest);
            let named: Vec<_> = setup
                .keys
                .iter()
                .map(|key| &key[..key.len().min(60)])
                .collect();
            panic!(
                "{}: THUNDERHEAD_SEED={seed}\noptions {:?}\nkeys {named:?}\nscript {shortest:#?}\nsays {again:?}",
                self.name, setup.options
            );
        }
    }
}

#[test]
fn tiny_nodes_in_memory_do_what_a_map_does() {
    Kind {
        name: "tiny in memory",
        settings: Settings::tiny,
        steps: 400,
        maintenance: Maintenance::Caller,
        file: false,
    }
    .play(60);
    if from_environment("THUNDERHEAD_SEED").is_none() {
        // Or it says nothing about those that are open beside each other.
        for counted in [&concurrent::COMMITTED, &concurrent::REFUSED] {
            assert!(counted.load(Ordering::Relaxed) > 20);
        }
    }
}

#[test]
fn tiny_nodes_beside_a_background_thread_do_what_a_map_does() {
    Kind {
        name: "tiny in the background",
        settings: Settings::tiny,
        steps: 400,
        maintenance: Maintenance::Background,
        file: false,
    }
    .play(20);
}

#[test]
fn tiny_nodes_in_a_file_do_what_a_map_does() {
    Kind {
        name: "tiny in a file",
        settings: Settings::tiny,
        steps: 300,
        maintenance: Maintenance::Caller,
        file: true,
    }
    .play(8);
}

#[test]
fn ordinary_nodes_do_what_a_map_does() {
    Kind {
        name: "ordinary in memory",
        settings: Settings::default,
        steps: 600,
        maintenance: Maintenance::Caller,
        file: false,
    }
    .play(10);
}

#[test]
fn ordinary_nodes_in_a_file_beside_a_background_thread_do_what_a_map_does() {
    Kind {
        name: "ordinary in a file",
        settings: Settings::default,
        steps: 400,
        maintenance: Maintenance::Background,
        file: true,
    }
    .play(4);
}
