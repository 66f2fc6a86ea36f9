//! A session: one engine, one store, what must be in it, and the measuring of each phase.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::data::{Model, Random};
use crate::engines::{Engine, Kind, Result, Settings};
use crate::measure::{Used, Watch, forget_peak, peak_bytes, settle, size};

/// What a process is asked to do; handed to it as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    pub engine: String,
    pub suite: String,
    pub elements: u64,
    pub phases: Vec<String>,
    pub directory: PathBuf,
    pub cache_bytes: usize,
    /// The limit of memory that the process runs under.
    pub memory_bytes: Option<u64>,
    pub repeat: u64,
}

/// What became of a phase; one line of JSON each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub phase: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the engine has nothing to measure here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
}

/// How many operations the phases have: those of the tables, less where the store is so small that
/// they would be most of it.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    pub elements: u64,
    pub singles: u64,
    pub batches: u64,
    pub unsynced: u64,
    pub reads: u64,
    pub ranges: u64,
    pub updates: u64,
    pub mixed: u64,
}

/// Puts in a batch.
pub const BATCH: u64 = 1000;

impl Amounts {
    pub fn of(elements: u64) -> Self {
        Self {
            elements,
            singles: elements.min(10_000),
            batches: elements.div_ceil(BATCH).min(100),
            unsynced: elements.min(50_000),
            reads: (elements * 20).min(1_000_000),
            ranges: (elements * 10).min(500_000),
            updates: elements.min(5_000_000),
            mixed: elements.min(100_000),
        }
    }
}

pub struct Session {
    pub kind: Kind,
    pub settings: Settings,
    pub work: Work,
    pub amounts: Amounts,
    pub directory: PathBuf,
    pub model: Model,
    pub random: Random,
    store: Option<Box<dyn Engine>>,
    watch: Watch,
    emit: Box<dyn FnMut(Outcome)>,
}

impl Session {
    pub fn new(kind: Kind, work: Work, emit: Box<dyn FnMut(Outcome)>) -> Self {
        Self {
            kind,
            settings: Settings {
                cache_bytes: work.cache_bytes,
                transaction_bytes: work.memory_bytes.map(|bytes| bytes as usize / 8),
                // Engines may fill several before the first is written.
                journal_bytes: work.memory_bytes.map(|bytes| bytes as usize / 128),
                large_values: false,
                beside: false,
            },
            amounts: Amounts::of(work.elements),
            directory: work.directory.clone(),
            model: Model::default(),
            random: Random::new(work.repeat + 1),
            store: None,
            watch: Watch::start(),
            emit,
            work,
        }
    }

    pub fn wants(&self, phase: &str) -> bool {
        self.work.phases.iter().any(|wanted| wanted == phase)
    }

    /// The store, opened if it is not.
    pub fn store(&mut self) -> Result<&dyn Engine> {
        if self.store.is_none() {
            self.store = Some((self.kind.open)(&self.directory, self.settings)?);
        }
        Ok(self.store.as_deref().expect("it was just opened"))
    }

    /// The open store, and what else reading needs.
    pub fn parts(&mut self) -> Result<(&dyn Engine, &mut Model, &mut Random)> {
        self.store()?;
        let store = self.store.as_deref().expect("it was just opened");
        Ok((store, &mut self.model, &mut self.random))
    }

    pub fn close(&mut self) -> Result<()> {
        match self.store.take() {
            Some(store) => store.close(),
            None => Ok(()),
        }
    }

    pub fn compact(&mut self) -> Result<()> {
        self.store()?;
        let store = self.store.take().expect("it was just opened");
        self.store = Some(store.compact()?);
        Ok(())
    }

    /// Does work and tells what it took. `operations` is by what the time is divided.
    ///
    /// The clock stops when the work returns. Processor time and bytes written go on until what it
    /// left to be synced and done in the background is done, and that is waited for in any case, so
    /// that no phase pays for the one before it. Bytes in sizes are those after that.
    pub fn measure(
        &mut self,
        phase: &str,
        operations: u64,
        writes: bool,
        work: impl FnOnce(&mut Self, &mut BTreeMap<String, f64>) -> Result<()>,
    ) -> Result<()> {
        let mut metrics = BTreeMap::new();
        forget_peak();
        self.watch.take();
        let before = Used::now();
        let result = work(self, &mut metrics);
        let seconds = before.at.elapsed().as_secs_f64();
        let result = result.and_then(|()| match (&self.store, writes) {
            (Some(store), true) => store.sync(),
            _ => Ok(()),
        });
        if let Err(error) = result {
            (self.emit)(Outcome {
                phase: phase.to_owned(),
                metrics,
                error: Some(error.to_string()),
                absent: None,
            });
            return Err(error);
        }
        let synced = Instant::now();
        if writes {
            settle();
        }
        let after = Used::now();
        let size = size(&self.directory);
        let mut note = |name: &str, value: f64| {
            metrics.entry(name.to_owned()).or_insert(value);
        };
        note("operations", operations as f64);
        note("seconds", seconds);
        note("settle_seconds", synced.elapsed().as_secs_f64());
        note("cpu_seconds", after.cpu_seconds - before.cpu_seconds);
        note(
            "written_bytes",
            (after.written_bytes - before.written_bytes) as f64,
        );
        note("length_bytes", size.length as f64);
        note("block_bytes", size.blocks as f64);
        note("peak_bytes", peak_bytes() as f64);
        note("peak_anonymous_bytes", self.watch.take() as f64);
        (self.emit)(Outcome {
            phase: phase.to_owned(),
            metrics,
            error: None,
            absent: None,
        });
        Ok(())
    }

    /// Tells that the engine has nothing like this.
    pub fn absent(&mut self, phase: &str, reason: &str) {
        (self.emit)(Outcome {
            phase: phase.to_owned(),
            metrics: BTreeMap::new(),
            error: None,
            absent: Some(reason.to_owned()),
        });
    }
}

/// An error if something read was wrong.
pub fn check(right: bool, what: impl FnOnce() -> String) -> Result<()> {
    match right {
        true => Ok(()),
        false => Err(format!("wrong data: {}", what()).into()),
    }
}
