//! The work itself, in *suites*: each runs in a process and a store of its own, and is a list of
//! *phases*, which are timed apart.
//!
//! | module | suite |
//! | --- | --- |
//! | `session` | what all suites share: the store, the model of what must be in it, measuring |
//! | `life` | a store from its load to its compaction |
//! | `reading` | reads, ranges and scans |
//! | `writing` | commits, updates, removals |
//! | `sorted` | a load in order |
//! | `small_memory` | a load with little memory |
//! | `killed` | opening after the process was killed |
//! | `paths` | paths as keys |
//! | `large` | values of 1 MiB and 64 MiB |
//! | `transactions` | transactions beside each other |
//! | `versions` | versions that are kept |
//! | `latency` | how long durable commits take under load |

mod killed;
mod large;
mod latency;
mod life;
mod paths;
mod reading;
mod session;
mod small_memory;
mod sorted;
#[cfg(test)]
mod tests;
mod transactions;
mod versions;
mod writing;

pub use killed::write_until_killed;
pub use session::{Outcome, Session, Work};

use crate::engines::Result;

/// One process's share of the work.
pub struct Suite {
    pub name: &'static str,
    pub phases: &'static [&'static str],
    pub run: fn(&mut Session) -> Result<()>,
}

/// All of them, in the order in which they run.
pub const SUITES: [Suite; 9] = [
    Suite {
        name: "life",
        phases: &life::PHASES,
        run: life::run,
    },
    Suite {
        name: "sorted",
        phases: &["load-sorted"],
        run: sorted::run,
    },
    Suite {
        name: "small-memory",
        phases: &["small-memory"],
        run: small_memory::run,
    },
    Suite {
        name: "killed",
        phases: &["reopen-killed"],
        run: killed::run,
    },
    Suite {
        name: "paths",
        phases: &paths::PHASES,
        run: paths::run,
    },
    Suite {
        name: "large",
        phases: &large::PHASES,
        run: large::run,
    },
    Suite {
        name: "transactions",
        phases: &transactions::PHASES,
        run: transactions::run,
    },
    Suite {
        name: "versions",
        phases: &["saves"],
        run: versions::run,
    },
    Suite {
        name: "latency",
        phases: &["latency"],
        run: latency::run,
    },
];

/// The names of all phases.
pub fn names() -> impl Iterator<Item = &'static str> {
    SUITES.iter().flat_map(|suite| suite.phases).copied()
}
