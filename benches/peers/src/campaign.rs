//! A campaign: every suite on every engine in turn, as often as was asked, and what came of it.
//!
//! Within a repetition the engines take turns suite by suite, so that whatever the machine does
//! meanwhile hits all of them. Results of peers can be kept in a file and taken from it as long as
//! version, machine and work are the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::PAIR_BYTES;
use crate::engines::{self, Result};
use crate::options::{Memory, Options};
use crate::phases::{Outcome, SUITES, Work};
use crate::process;

/// What was measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub kernel: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    pub elements: u64,
    pub repeat: u64,
    pub cache_bytes: u64,
    pub memory_bytes: Option<u64>,
    pub phases: Vec<String>,
}

/// What came of it on one engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub version: String,
    pub machine: Machine,
    pub workload: Workload,
    /// Each outcome of each repetition, by phase.
    pub phases: BTreeMap<String, Vec<Outcome>>,
    /// What went wrong, by suite.
    pub failures: Vec<String>,
    /// Not measured in this run.
    #[serde(default)]
    pub kept: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub workload: Workload,
    /// In the order of the columns.
    pub engines: Vec<(String, Measured)>,
}

impl Results {
    pub fn engine(&self, name: &str) -> Option<&Measured> {
        let mut engines = self.engines.iter();
        engines
            .find(|(other, _)| other == name)
            .map(|(_, measured)| measured)
    }

    /// What went wrong, with the engine's name.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.engines.iter().flat_map(|(name, measured)| {
            let failures = measured.failures.iter();
            failures.map(move |failure| (name.as_str(), failure.as_str()))
        })
    }
}

pub fn run(options: &Options) -> Result<Results> {
    let memory_bytes = match options.memory {
        Memory::Unlimited => None,
        Memory::Quarter => Some((options.elements * PAIR_BYTES / 4).max(LEAST_MEMORY)),
        Memory::Bytes(bytes) => Some(bytes),
    };
    let cache_bytes = match memory_bytes {
        Some(bytes) => options.cache_bytes.min(bytes / 2),
        None => options.cache_bytes,
    };
    let workload = Workload {
        elements: options.elements,
        repeat: options.repeat,
        cache_bytes,
        memory_bytes,
        phases: options.phases.clone(),
    };
    if let Some(bytes) = memory_bytes {
        // Better now than in each process.
        drop(crate::cgroup::Group::new(bytes)?);
        eprintln!("each process may use {} MiB of memory", bytes >> 20);
    }
    let machine = machine();
    let mut kept = match &options.cache_results {
        Some(path) => read_kept(path)?,
        None => Vec::new(),
    };
    let mut measured: Vec<(String, Measured)> = options
        .engines
        .iter()
        .map(|name| {
            let fresh = Measured {
                version: version(name),
                machine: machine.clone(),
                workload: workload.clone(),
                phases: BTreeMap::new(),
                failures: Vec::new(),
                kept: false,
            };
            let known = kept.iter().find(|(other, known)| {
                name != "thunderhead" && other == name && same(known, &fresh)
            });
            (
                name.clone(),
                known.map_or(fresh, |(_, known)| known.clone()),
            )
        })
        .collect();

    for repeat in 0..options.repeat {
        for suite in SUITES {
            if !suite
                .phases
                .iter()
                .any(|phase| options.phases.iter().any(|name| name == phase))
            {
                continue;
            }
            for (name, measured) in measured.iter_mut().filter(|(_, measured)| !measured.kept) {
                let work = Work {
                    engine: name.clone(),
                    suite: suite.name.to_owned(),
                    elements: options.elements,
                    phases: options.phases.clone(),
                    directory: options.directory.clone(),
                    cache_bytes: cache_bytes as usize,
                    memory_bytes,
                    repeat,
                };
                let (outcomes, failure) = process::run(work, options.timeout, &mut |outcome| {
                    progress(options, repeat, name, outcome);
                })?;
                if let Some(failure) = failure {
                    eprintln!("{name}: {} failed: {failure}", suite.name);
                    measured.failures.push(format!("{}: {failure}", suite.name));
                }
                for outcome in outcomes {
                    let phase = measured.phases.entry(outcome.phase.clone());
                    phase.or_default().push(outcome);
                }
            }
        }
    }

    if let Some(path) = &options.cache_results {
        for (name, measured) in &measured {
            if name != "thunderhead" && measured.failures.is_empty() {
                kept.retain(|(other, known)| !(other == name && same(known, measured)));
                let measured = Measured {
                    kept: true,
                    ..measured.clone()
                };
                kept.push((name.clone(), measured));
            }
        }
        fs::write(path, serde_json::to_string_pretty(&kept)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Results {
        machine,
        workload,
        engines: measured,
    })
}

/// Results that were written as JSON before.
pub fn read(path: &Path) -> Result<Results> {
    #[derive(Deserialize)]
    struct Written {
        results: Results,
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let written: Written =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(written.results)
}

/// Less would be mostly the program itself.
const LEAST_MEMORY: u64 = 32 << 20;

fn same(known: &Measured, wanted: &Measured) -> bool {
    known.version == wanted.version
        && known.machine == wanted.machine
        && known.workload == wanted.workload
}

fn read_kept(path: &Path) -> Result<Vec<(String, Measured)>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            Ok(serde_json::from_str(&text)
                .map_err(|error| format!("{}: {error}", path.display()))?)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{}: {error}", path.display()).into()),
    }
}

fn progress(options: &Options, repeat: u64, engine: &str, outcome: &Outcome) {
    let run = match options.repeat {
        1 => String::new(),
        all => format!("{}/{all} ", repeat + 1),
    };
    let phase = &outcome.phase;
    match (&outcome.error, outcome.metrics.get("seconds")) {
        (Some(error), _) => eprintln!("{run}{engine:<12}{phase:<16} FAILED: {error}"),
        (None, Some(seconds)) => {
            let cpu = outcome.metrics.get("cpu_seconds").copied().unwrap_or(0.0);
            eprintln!("{run}{engine:<12}{phase:<16} {seconds:>9.3} s  cpu {cpu:>9.3} s");
        }
        (None, None) => eprintln!("{run}{engine:<12}{phase:<16}         –"),
    }
}

fn machine() -> Machine {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, name)| name);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        processor: processor.to_owned(),
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: kernel.trim().to_owned(),
    }
}

/// The version of an engine, from the lock file that this was built with.
fn version(engine: &str) -> String {
    let package = engines::built()
        .iter()
        .find(|kind| kind.name == engine)
        .map_or("", |kind| kind.package);
    let wanted = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    lines.find(|line| *line == wanted);
    let version = lines.next().and_then(|line| line.split('"').nth(1));
    version.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_all_engines_are_found() {
        for kind in engines::built() {
            let version = version(kind.name);
            assert!(
                version.starts_with(|letter: char| letter.is_ascii_digit()),
                "{}",
                kind.name
            );
        }
    }
}
