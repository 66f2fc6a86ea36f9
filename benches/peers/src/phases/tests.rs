//! That each phase notices when an engine lies.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{SUITES, Session, Work};
use crate::engines::Result;
use crate::engines::faulty::{self, Fault};

/// Runs a suite on an engine with a fault, in those phases.
fn run(suite: &str, fault: Fault, phases: &[&str]) -> Result<()> {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let directory = std::env::temp_dir().join(format!("peers-test-{}-{run}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let suite = SUITES.iter().find(|other| other.name == suite).unwrap();
    let work = Work {
        engine: "faulty".to_owned(),
        suite: suite.name.to_owned(),
        elements: 3000,
        phases: phases.iter().map(|phase| (*phase).to_owned()).collect(),
        directory: directory.clone(),
        cache_bytes: 1 << 20,
        memory_bytes: None,
        repeat: 0,
    };
    let mut session = Session::new(faulty::kind(fault), work, Box::new(|_| ()));
    let result = (suite.run)(&mut session);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn noticed(suite: &str, fault: Fault, phase: &str) {
    let error = run(suite, fault, &[phase]).expect_err("the fault has to be noticed");
    assert!(
        error.to_string().starts_with("wrong data"),
        "{fault:?} in {phase}: {error}"
    );
}

#[test]
fn an_engine_without_a_fault_passes() {
    for suite in SUITES.iter().filter(|suite| suite.name != "killed") {
        run(suite.name, Fault::Nothing, suite.phases)
            .unwrap_or_else(|error| panic!("{}: {error}", suite.name));
    }
}

#[test]
fn wrong_values_are_noticed_by_reads() {
    for fault in [Fault::FlipsAByte, Fault::LosesAPut] {
        for phase in ["reads", "reads-4", "reopen"] {
            noticed("life", fault, phase);
        }
    }
    noticed("life", Fault::InventsValues, "misses");
    noticed("life", Fault::CountsWrongly, "count");
}

#[test]
fn wrong_ranges_are_noticed() {
    for fault in [
        Fault::SkipsInRanges,
        Fault::StopsRangesEarly,
        Fault::MixesUpOrder,
    ] {
        for phase in ["ranges", "ranges-backward", "scan", "scan-backward"] {
            noticed("life", fault, phase);
        }
    }
}

#[test]
fn writes_that_do_nothing_are_noticed() {
    for phase in ["updates", "mixed"] {
        noticed("life", Fault::ForgetsUpdates, phase);
    }
    for phase in ["removal", "compact"] {
        let phases = ["removal", phase];
        assert!(run("life", Fault::KeepsRemoved, &phases).is_err());
    }
    noticed("life", Fault::KeepsRange, "delete-range");
    noticed("life", Fault::LosesOnClose, "reopen");
}

#[test]
fn the_other_suites_notice_too() {
    for suite in ["sorted", "small-memory", "latency"] {
        noticed(suite, Fault::LosesAPut, "latency");
    }
    for fault in [Fault::ForgetsUpdates, Fault::LosesOneOfTwo] {
        noticed("transactions", fault, "transactions-few-conflicts");
        noticed("transactions", fault, "transactions-many-conflicts");
    }
    noticed("paths", Fault::FlipsAByte, "paths-reads");
    noticed("paths", Fault::SkipsInRanges, "paths-scan");
    noticed("large", Fault::FlipsAByte, "large-1-read");
    noticed("large", Fault::FlipsAByte, "large-64-read");
    noticed("large", Fault::GivesAnotherPart, "large-1-part");
}
