//! Scripts: what a test does to a store, made from a seed.

use fastrand::Rng;
use thunderhead::Durability;

use super::model::{Naming, Operation};

#[derive(Clone, Debug)]
pub enum Step {
    /// One operation as a commit of its own.
    Single(Operation, Durability),
    Transaction(Vec<Operation>, Durability),
    /// Names of snapshots, as a commit of their own.
    Name(Naming, Durability),
    /// A transaction that saves what it makes of the store under a name.
    Saving(Vec<Operation>, Vec<u8>, Durability),
    /// Goes back to what a name keeps, and gives what there is another one.
    Restore(Vec<u8>, Vec<u8>),
    /// A transaction that is dropped.
    Abandoned(Vec<Operation>),
    /// Writes into one of several batches that stay open across other steps.
    Gather(usize, Vec<Operation>),
    CommitBatch(usize, Durability),
    DropBatch(usize),
    Modify(Modify, Durability),
    /// Of one of several transactions that stay open across other steps.
    Begin(usize),
    Ask(usize, Question),
    Add(usize, Vec<Operation>),
    CommitOpen(usize, Durability),
    /// All that are open, at once.
    CommitTogether(Durability),
    DropOpen(usize),
    /// Reads several keys at once.
    GetMany(Vec<Vec<u8>>),
    Compact,
    Sync,
    Checkpoint,
    /// Maintains until there is nothing to do.
    Maintain,
    TakeSnapshot,
    CheckSnapshots,
    DropSnapshot,
    /// Closes, or drops, and opens again.
    Reopen {
        clean: bool,
    },
}

/// A write that depends on what is there.
#[derive(Clone, Debug)]
pub enum Modify {
    Insert(Vec<u8>, usize, u8),
    /// Replaces the value, if it is what there is, or as if the key had none.
    Exchange {
        key: Vec<u8>,
        matching: bool,
        length: usize,
    },
    PopFirst,
    PopLast,
    /// Keeps values whose length is no multiple of this.
    Retain(usize),
    /// From the end to the beginning at a cursor: deletes values whose length is a multiple of this,
    /// and halves those of which it is one of the next number.
    Edit(usize),
    /// Changes of parts of values, in one transaction, which is committed or dropped.
    Change(Vec<(Vec<u8>, Change)>, bool),
}

/// What becomes of a part of a value.
#[derive(Clone, Debug)]
pub enum Change {
    /// Written anew, as a stream: its length and first byte.
    Stream(usize, u8),
    /// From a place on: length and first byte.
    Overwrite(usize, usize, u8),
    Extend(usize, u8),
    Truncate(usize),
}

impl Change {
    /// Says whether it changed anything.
    pub fn apply(&self, value: &mut Option<Vec<u8>>) -> bool {
        let new = |length: usize, first: u8| super::model::value(length, first);
        match *self {
            Self::Stream(length, first) => {
                *value = Some(new(length, first));
                true
            }
            Self::Overwrite(at, length, first) if length > 0 => {
                let value = value.get_or_insert_default();
                value.resize(value.len().max(at + length), 0);
                value[at..at + length].copy_from_slice(&new(length, first));
                true
            }
            Self::Extend(length, first) if length > 0 => {
                value.get_or_insert_default().extend(new(length, first));
                true
            }
            Self::Truncate(length) if value.as_ref().is_some_and(|value| length < value.len()) => {
                value.get_or_insert_default().truncate(length);
                true
            }
            _ => false,
        }
    }
}

/// What a transaction asks for.
#[derive(Clone, Debug)]
pub enum Question {
    Key(Vec<u8>),
    Range(Vec<u8>, Vec<u8>),
    Count(Vec<u8>, Vec<u8>),
    /// So many entries from the end, backward.
    Last(usize),
}

/// How many batches may be open at a time.
pub const BATCHES: usize = 3;

/// How many transactions may be.
pub const TRANSACTIONS: usize = 3;

/// What scripts are made of.
#[derive(Clone, Copy)]
pub struct Taste {
    pub steps: usize,
    pub keys: u32,
    /// Whether there are transactions that do not go through the log.
    pub bulk: bool,
    /// Whether there are transactions that are open beside others.
    pub besides: bool,
    pub reopen: bool,
    /// The largest value, about.
    pub value_bytes: usize,
}

impl Default for Taste {
    fn default() -> Self {
        Self {
            steps: 30,
            keys: 40,
            bulk: true,
            besides: false,
            reopen: true,
            value_bytes: 6000,
        }
    }
}

impl Taste {
    /// One of several: a few keys that are overwritten again and again with values of several
    /// blocks, or many keys with small ones, or transactions beside each other, or a bit of all.
    pub fn of(seed: u64, steps: usize) -> Self {
        let usual = Self {
            steps,
            ..Self::default()
        };
        match seed % 4 {
            3 => Self {
                keys: 20,
                besides: true,
                ..usual
            },
            1 => Self {
                keys: 3,
                bulk: false,
                value_bytes: 3000,
                ..usual
            },
            2 => Self {
                keys: 200,
                value_bytes: 100,
                ..usual
            },
            _ => usual,
        }
    }
}

fn key(random: &mut Rng, taste: &Taste) -> Vec<u8> {
    let number = random.u32(..taste.keys);
    let mut key = format!("k{number:03}").into_bytes();
    key.resize(key.len() + number as usize % 7 * 3, b'x');
    key
}

fn length(random: &mut Rng, taste: &Taste) -> usize {
    let near = |random: &mut Rng, length: usize| length - 1 + random.usize(..3);
    let small = if taste.keys < 10 { 3 } else { 10 };
    let length = match random.u32(..20) {
        least if least < small => random.usize(..40),
        0..13 => near(random, 64),
        13..15 => near(random, 512),
        15..17 => near(random, 1024),
        17..19 => random.usize(..4000),
        _ => random.usize(..taste.value_bytes.max(1)),
    };
    length.min(taste.value_bytes)
}

/// How many names there are.
const NAMES: u32 = 7;

fn name(random: &mut Rng) -> Vec<u8> {
    let number = random.u32(..NAMES);
    let mut name = format!("name {number}").into_bytes();
    name.resize(name.len() + number as usize % 3 * 40, b'y');
    name
}

fn naming(random: &mut Rng) -> Naming {
    match random.u32(..6) {
        0..3 => Naming::Save(name(random), random.usize(..40)),
        3 => Naming::Rename(name(random), name(random)),
        _ => Naming::Delete(name(random)),
    }
}

fn operation(random: &mut Rng, taste: &Taste) -> Operation {
    match random.u32(..20) {
        0..12 => Operation::Put(key(random, taste), length(random, taste), random.u8(..)),
        12..15 => Operation::Delete(key(random, taste)),
        15..16 => {
            let (one, two) = (key(random, taste), key(random, taste));
            Operation::DeleteRange(one.clone().min(two.clone()), one.max(two))
        }
        16..19 => Operation::Append(key(random, taste), vec![random.u8(..); random.usize(..12)]),
        _ => {
            let one = |random: &mut Rng| format!("r{}", random.u32(..6)).into_bytes();
            let target = match random.u32(..4) {
                0 => one(random),
                _ => key(random, taste),
            };
            Operation::Refer(one(random), target)
        }
    }
}

fn durability(random: &mut Rng) -> Durability {
    match random.u32(..4) {
        0 => Durability::Deferred,
        1 => Durability::Buffered,
        _ => Durability::Immediate,
    }
}

/// Operations of a transaction, sometimes with a range of keys cloned among them.
fn with_clone(random: &mut Rng, taste: &Taste, mut operations: Vec<Operation>) -> Vec<Operation> {
    let prefix = |random: &mut Rng| key(random, taste)[..3].to_vec();
    let (from, to) = (prefix(random), prefix(random));
    if random.u32(..4) == 0 && from != to {
        let at = random.usize(..=operations.len());
        operations.insert(at, Operation::Clone(from, to));
    }
    operations
}

/// A transaction of more than a commit that goes through the log can hold.
fn bulk(random: &mut Rng, taste: &Taste) -> Vec<Operation> {
    let count = match random.u32(..4) {
        0 => random.u32(1000..1400),
        _ => random.u32(450..700),
    };
    let first = random.u32(..100_000);
    let mut operations = vec![Operation::DeleteRange(b"b".to_vec(), b"c".to_vec())];
    let ordered = random.bool();
    for number in 0..count {
        let number = if ordered {
            first + number
        } else {
            random.u32(..200_000)
        };
        let key = format!("b{number:06}").into_bytes();
        operations.push(Operation::Put(key, 40, random.u8(..)));
        if random.u32(..60) == 0 {
            operations.push(operation(random, taste));
        }
    }
    operations
}

fn modify(random: &mut Rng, taste: &Taste) -> Modify {
    match random.u32(..14) {
        6.. => {
            let changes = (0..random.usize(1..4))
                .map(|_| (key(random, taste), change(random, taste)))
                .collect();
            Modify::Change(changes, random.u32(..6) > 0)
        }
        0 | 1 => Modify::Insert(key(random, taste), length(random, taste), random.u8(..)),
        2 => Modify::Exchange {
            key: key(random, taste),
            matching: random.bool(),
            length: length(random, taste),
        },
        3 => Modify::PopFirst,
        4 => Modify::PopLast,
        5 if random.bool() => Modify::Edit(random.usize(5..40)),
        _ => Modify::Retain(random.usize(5..40)),
    }
}

/// A step of a transaction that is open beside others. What it writes is small: one that goes to the
/// disk is alone from then on, and the other steps would wait for it.
fn beside(random: &mut Rng, taste: &Taste) -> Step {
    let at = random.usize(..TRANSACTIONS);
    match random.u32(..16) {
        0..5 => Step::Ask(at, question(random, taste)),
        5..10 => {
            let operations = (0..random.usize(1..4)).map(|_| match operation(random, taste) {
                Operation::Put(key, length, first) => Operation::Put(key, length % 60, first),
                operation => operation,
            });
            Step::Add(at, operations.collect())
        }
        10..12 => Step::CommitOpen(at, durability(random)),
        12..14 => Step::CommitTogether(durability(random)),
        14 if random.bool() => Step::DropOpen(at),
        _ => Step::Begin(at),
    }
}

fn question(random: &mut Rng, taste: &Taste) -> Question {
    let (one, two) = (key(random, taste), key(random, taste));
    let (low, end) = (one.clone().min(two.clone()), one.clone().max(two));
    match random.u32(..6) {
        0..3 => Question::Key(one),
        3 => Question::Range(low, end),
        4 => Question::Count(low, end),
        _ => Question::Last(random.usize(1..4)),
    }
}

fn change(random: &mut Rng, taste: &Taste) -> Change {
    let some = length(random, taste);
    match random.u32(..8) {
        0 | 1 => Change::Stream(random.usize(..=taste.value_bytes), random.u8(..)),
        2..5 => Change::Overwrite(random.usize(..=taste.value_bytes), some, random.u8(..)),
        5 | 6 => Change::Extend(some, random.u8(..)),
        _ => Change::Truncate(random.usize(..=taste.value_bytes)),
    }
}

pub fn script(seed: u64, taste: &Taste) -> Vec<Step> {
    let mut random = Rng::with_seed(seed);
    let operations = |random: &mut Rng| -> Vec<Operation> {
        (0..random.usize(1..8))
            .map(|_| operation(random, taste))
            .collect()
    };
    let mut bulks = if taste.bulk { 2 } else { 0 };
    (0..taste.steps)
        .map(|_| match random.u32(..150) {
            _ if taste.besides && random.bool() => beside(&mut random, taste),
            136.. => match random.u32(..5) {
                0 => {
                    let operations = match bulks > 0 && random.u32(..8) == 0 {
                        true => bulk(&mut random, taste),
                        false => operations(&mut random),
                    };
                    let operations = with_clone(&mut random, taste, operations);
                    Step::Saving(operations, name(&mut random), durability(&mut random))
                }
                1 if random.bool() => Step::Restore(name(&mut random), name(&mut random)),
                _ => Step::Name(naming(&mut random), durability(&mut random)),
            },
            0..45 => Step::Single(operation(&mut random, taste), durability(&mut random)),
            45..65 => {
                let operations = operations(&mut random);
                let operations = with_clone(&mut random, taste, operations);
                Step::Transaction(operations, durability(&mut random))
            }
            65..67 => {
                let operations = operations(&mut random);
                Step::Abandoned(with_clone(&mut random, taste, operations))
            }
            67..71 if bulks > 0 => {
                bulks -= 1;
                let operations = bulk(&mut random, taste);
                match random.u32(..5) {
                    0 => Step::Abandoned(operations),
                    _ => Step::Transaction(operations, durability(&mut random)),
                }
            }
            71..74 => Step::Sync,
            74..80 => Step::Checkpoint,
            80..88 => Step::Maintain,
            88..91 => Step::TakeSnapshot,
            91..93 => Step::CheckSnapshots,
            93..95 => Step::DropSnapshot,
            95..98 if taste.reopen => Step::Reopen {
                clean: random.bool(),
            },
            95..100 => Step::Maintain,
            100..108 => Step::Gather(random.usize(..BATCHES), operations(&mut random)),
            108..112 => Step::CommitBatch(random.usize(..BATCHES), durability(&mut random)),
            112..113 => Step::DropBatch(random.usize(..BATCHES)),
            113..119 => Step::Modify(modify(&mut random, taste), durability(&mut random)),
            124.. => Step::Modify(modify(&mut random, taste), durability(&mut random)),
            119..121 => Step::GetMany((0..9).map(|_| key(&mut random, taste)).collect()),
            _ => Step::Compact,
        })
        .collect()
}
