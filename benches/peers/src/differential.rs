//! One random script on all engines that were built: what each answers is compared with the others,
//! and with a map.
//!
//! Transactions that are committed and such that are given up, deletes, ranges both ways, counts, and
//! reopening. A failure says which engine, which step and which seed; `THUNDERHEAD_SEED` plays one seed
//! again, `THUNDERHEAD_ROUNDS` multiplies them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::data::Random;
use crate::engines::faulty::{self, Fault};
use crate::engines::{self, Direction, Engine, Kind, Result, Safety, Settings};

/// Enough for each script to be opened, and given up, more than once.
const STEPS: usize = 150;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

#[derive(Clone, Debug)]
enum Step {
    Put(Safety, Vec<u8>, Vec<u8>),
    Transaction {
        safety: Safety,
        changes: Vec<Change>,
        commit: bool,
    },
    DeleteRange(Vec<u8>, Vec<u8>),
    Get(Vec<u8>),
    Range(Vec<u8>, Direction, usize),
    Count,
    Sync,
    Compact,
    Reopen,
}

/// What a step gives.
type Answer = Vec<(Vec<u8>, Vec<u8>)>;

/// What scripts are made of: few keys, so that they meet, some the beginnings of others.
struct Maker {
    random: Random,
    keys: u64,
}

impl Maker {
    fn key(&mut self) -> Vec<u8> {
        let number = self.random.below(self.keys);
        let mut key = format!("{:03}", number / 3).into_bytes();
        // Not empty, and not long: not every engine takes such.
        key.resize(key.len() + 40 * (number % 3) as usize, 0xA5);
        key
    }

    fn value(&mut self) -> Vec<u8> {
        let length = match self.random.below(10) {
            0 => 1 + self.random.below(20_000),
            _ => 1 + self.random.below(100),
        };
        vec![self.random.below(256) as u8; length as usize]
    }

    fn safety(&mut self) -> Safety {
        match self.random.below(3) {
            0 => Safety::Durable,
            1 => Safety::Buffered,
            _ => Safety::Deferred,
        }
    }

    fn step(&mut self) -> Step {
        match self.random.below(40) {
            0..8 => Step::Put(self.safety(), self.key(), self.value()),
            8..16 => {
                // Now and then more than what is kept in memory.
                let count = match self.random.below(12) {
                    0 => 600,
                    _ => self.random.below(12),
                };
                Step::Transaction {
                    safety: self.safety(),
                    commit: self.random.below(4) > 0,
                    changes: (0..count)
                        .map(|_| match self.random.below(3) {
                            0 => Change::Delete(self.key()),
                            _ => Change::Put(self.key(), self.value()),
                        })
                        .collect(),
                }
            }
            16 | 17 => {
                let (one, two) = (self.key(), self.key());
                Step::DeleteRange(one.clone().min(two.clone()), one.max(two))
            }
            18..24 => Step::Get(self.key()),
            24..34 => {
                let direction = match self.random.below(2) {
                    0 => Direction::Forward,
                    _ => Direction::Backward,
                };
                let limit = match self.random.below(4) {
                    0 => 1 << 30,
                    _ => 1 + self.random.below(20) as usize,
                };
                Step::Range(self.key(), direction, limit)
            }
            34..36 => Step::Count,
            36 => Step::Sync,
            37 => Step::Compact,
            _ => Step::Reopen,
        }
    }
}

/// What the map answers.
fn expected(map: &mut Map, step: &Step) -> Answer {
    let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    match step {
        Step::Put(_, key, value) => drop(map.insert(key.clone(), value.clone())),
        Step::Transaction {
            changes, commit, ..
        } => {
            for change in changes.iter().filter(|_| *commit) {
                match change {
                    Change::Put(key, value) => map.insert(key.clone(), value.clone()),
                    Change::Delete(key) => map.remove(key),
                };
            }
        }
        Step::DeleteRange(low, end) => map.retain(|key, _| key < low || key >= end),
        Step::Get(key) => return map.get_key_value(key).map(owned).into_iter().collect(),
        Step::Range(from, Direction::Forward, limit) => {
            return map.range(from.clone()..).take(*limit).map(owned).collect();
        }
        Step::Range(from, Direction::Backward, limit) => {
            let range = map.range(..=from.clone()).rev();
            return range.take(*limit).map(owned).collect();
        }
        Step::Count => return vec![(Vec::new(), map.len().to_string().into_bytes())],
        Step::Sync | Step::Compact | Step::Reopen => {}
    }
    Answer::new()
}

/// An engine under test.
struct Subject {
    kind: Kind,
    directory: PathBuf,
    engine: Option<Box<dyn Engine>>,
}

impl Subject {
    fn open(kind: Kind, directory: &Path) -> Result<Self> {
        let directory = directory.join(kind.name);
        std::fs::create_dir_all(&directory)?;
        let mut subject = Self {
            kind,
            directory,
            engine: None,
        };
        subject.engine = Some(subject.opened()?);
        Ok(subject)
    }

    fn opened(&self) -> Result<Box<dyn Engine>> {
        // Little memory, so that what is kept and what is not are both met.
        let settings = Settings {
            beside: false,
            cache_bytes: 4 << 20,
            transaction_bytes: Some(1 << 20),
            journal_bytes: Some(64 << 10),
            large_values: false,
        };
        (self.kind.open)(&self.directory, settings)
    }

    /// Closes it, or gives space back; it is the one to go on with that comes of it.
    fn replace(
        &mut self,
        with: impl FnOnce(&Self, Box<dyn Engine>) -> Result<Box<dyn Engine>>,
    ) -> Result<()> {
        let engine = self.engine.take().ok_or("the engine is open")?;
        self.engine = Some(with(self, engine)?);
        Ok(())
    }

    fn answer(&mut self, step: &Step) -> Result<Answer> {
        let engine = self.engine.as_ref().ok_or("the engine is open")?;
        let offered = |safety: Safety| match engine.offers(safety) {
            true => safety,
            false => Safety::Durable,
        };
        let mut answer = Answer::new();
        match step {
            Step::Put(safety, key, value) => engine.put(offered(*safety), key, value)?,
            Step::Transaction {
                safety,
                changes,
                commit,
            } => {
                let given_up = "given up";
                let result = engine.write(offered(*safety), &mut |writer| {
                    for change in changes {
                        match change {
                            Change::Put(key, value) => writer.put(key, value)?,
                            Change::Delete(key) => writer.delete(key)?,
                        }
                    }
                    commit.then_some(()).ok_or(given_up.into())
                });
                match result {
                    Err(error) if !commit && error.to_string() == given_up => {}
                    result => result?,
                }
            }
            Step::DeleteRange(low, end) => engine.delete_range(low, end)?,
            Step::Get(key) => engine.read(&mut |reader| {
                let mut found = Vec::new();
                if reader.get(key, &mut |value| found = value.to_vec())? {
                    answer.push((key.clone(), std::mem::take(&mut found)));
                }
                Ok(())
            })?,
            Step::Range(from, direction, limit) => engine.read(&mut |reader| {
                reader.range(from, *direction, *limit, &mut |key, value| {
                    answer.push((key.to_vec(), value.to_vec()));
                })
            })?,
            Step::Count => engine.read(&mut |reader| {
                let count = reader.count()?.to_string().into_bytes();
                answer.push((Vec::new(), count));
                Ok(())
            })?,
            Step::Sync => engine.sync()?,
            Step::Compact if !engine.compacts() => {}
            Step::Compact => self.replace(|_, engine| engine.compact())?,
            Step::Reopen => self.replace(|subject, engine| {
                engine.close()?;
                subject.opened()
            })?,
        }
        Ok(answer)
    }
}

/// An answer, or a step, in short.
fn short(what: impl std::fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    text.truncate(text.floor_char_boundary(600));
    text
}

/// Plays a script; an error says who answered wrongly to what.
fn play(seed: u64, kinds: &[Kind]) -> Result<()> {
    let name = format!("peers-differential-{}-{seed}", std::process::id());
    let directory = std::env::temp_dir().join(format!("{name}-{}", kinds[0].name));
    std::fs::create_dir_all(&directory)?;
    let result = played(seed, kinds, &directory);
    std::fs::remove_dir_all(&directory)?;
    result
}

fn played(seed: u64, kinds: &[Kind], directory: &Path) -> Result<()> {
    let mut random = Random::new(seed);
    let keys = [6, 60, 600][random.below(3) as usize];
    let mut maker = Maker { random, keys };
    let mut map = Map::new();
    let mut subjects = Vec::new();
    for kind in kinds {
        subjects.push(Subject::open(*kind, directory)?);
    }
    let ending = [
        Step::Reopen,
        Step::Count,
        Step::Range(Vec::new(), Direction::Forward, 1 << 30),
        Step::Range(vec![0xFF], Direction::Backward, 1 << 30),
    ];
    let steps = (0..STEPS).map(|_| maker.step());
    for (number, step) in steps.collect::<Vec<_>>().iter().chain(&ending).enumerate() {
        let expected = expected(&mut map, step);
        for subject in &mut subjects {
            let name = subject.kind.name;
            let doing = || format!("seed {seed}, step {number}, {}", short(step));
            let found = subject
                .answer(step)
                .map_err(|error| format!("{}: {name} fails: {error}", doing()))?;
            if found != expected {
                let (found, expected) = (short(found), short(expected));
                let wrong = format!("{name} answers {found}, not {expected}");
                return Err(format!("{}: {wrong}", doing()).into());
            }
        }
    }
    for mut subject in subjects {
        if let Some(engine) = subject.engine.take() {
            engine.close()?;
        }
    }
    Ok(())
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn all_engines_answer_alike() {
    let kinds = engines::built();
    let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
    println!("engines: {names:?}");
    let rounds = 12 * from_environment("THUNDERHEAD_ROUNDS").unwrap_or(1);
    let first = from_environment("THUNDERHEAD_SEED");
    for seed in first.map_or(0..rounds, |seed| seed..seed + 1) {
        if let Err(error) = play(seed, &kinds) {
            panic!("THUNDERHEAD_SEED={seed}: {error}");
        }
    }
}

#[test]
fn an_engine_that_lies_is_noticed() {
    for fault in [
        Fault::FlipsAByte,
        Fault::ForgetsUpdates,
        Fault::InventsValues,
        Fault::CountsWrongly,
        Fault::SkipsInRanges,
        Fault::StopsRangesEarly,
        Fault::MixesUpOrder,
        Fault::KeepsRemoved,
        Fault::KeepsRange,
        Fault::LosesOnClose,
        Fault::KeepsWhatWasGivenUp,
    ] {
        let error = play(7, &[faulty::kind(fault)]).expect_err("the fault has to be noticed");
        assert!(
            error.to_string().contains("faulty answers"),
            "{fault:?}: {error}"
        );
    }
    play(8, &[faulty::kind(Fault::Nothing)]).expect("nothing is wrong with it");
}
