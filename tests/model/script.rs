//! Scripts: what a run does, made from a seed. Keys and values are named by small numbers, so that
//! a script stays valid whatever is dropped from it, and prints short.

use std::ops::Bound;

use fastrand::Rng;
use thunderhead::{Durability, Isolation};

/// One call, or a few that belong together.
#[derive(Clone, Debug)]
pub enum Step {
    Write(Write, Durability),
    Modify(Modify, Durability),
    /// Writes that are gathered without a transaction.
    Batch {
        writes: Vec<Write>,
        durability: Durability,
        commit: bool,
        save: Option<usize>,
    },
    Transaction {
        inside: Vec<Inside>,
        durability: Durability,
        commit: bool,
        save: Option<usize>,
    },
    Name(NameStep, Durability),
    Branch(BranchStep),
    /// A transaction with a savepoint: what is done before it, and after it; whether the latter is kept, and
    /// if not, whether it is undone by being dropped.
    Savepoint {
        before: Vec<Inside>,
        after: Vec<Inside>,
        kept: bool,
        dropped: bool,
    },
    Read(Read),
    /// Of one of several transactions that stay open.
    Beside(Beside),
    Snapshot,
    /// Reads from one of the snapshots that are held.
    ReadSnapshot(usize, Read),
    /// Compares all of one of the snapshots that are held, and lets it go.
    EndSnapshot(usize),
    /// Tells what differs between two versions that are held, or the newest one, in a range; from
    /// which end each is taken.
    Diff([usize; 2], Bound<usize>, Bound<usize>, Vec<bool>),
    CompareAll,
    Sync,
    Checkpoint,
    Maintain,
    MaintainAll,
    Close,
    Drop,
}

/// What is done with a transaction that is open beside others.
#[derive(Clone, Debug)]
pub enum Beside {
    Begin(Isolation),
    Within(usize, Inside),
    Commit(usize, Durability),
    Drop(usize),
}

/// What is done to names of snapshots, which go by their numbers.
#[derive(Clone, Debug)]
pub enum NameStep {
    Save(usize, u8),
    Rename(usize, usize),
    Delete(usize),
    DeleteRange(usize, usize),
    /// To what the first keeps; what there is gets the second.
    Restore(usize, usize),
    Read(usize, Read),
    /// What differs between a name and the newest version, and the other way round.
    Diff(usize, Vec<bool>),
    Compare,
}

/// What is done to branches, which go by their numbers, as names do.
#[derive(Clone, Debug)]
pub enum BranchStep {
    /// It begins at a name.
    Create(usize, usize),
    /// A transaction, and whether it is committed.
    Change(usize, Vec<Inside>, bool),
    /// It is given a name.
    Save(usize, usize),
    Delete(usize),
    Read(usize, Read),
}

#[derive(Clone, Debug)]
pub enum Inside {
    Write(Write),
    Modify(Modify),
    Append(usize, Content),
    /// At a cursor that is confined to a range.
    Edit(Bound<usize>, Bound<usize>, Vec<Move>),
    /// What begins as one key does, up to a length, becomes what begins as another, which is no longer.
    Clone(usize, usize, usize),
    Read(Read),
}

/// What is done with a cursor.
#[derive(Clone, Debug)]
pub enum Move {
    First,
    Last,
    Next,
    Previous,
    Seek(usize),
    SeekAfter(usize),
    SeekBack(usize),
    SeekBefore(usize),
    Value,
    /// These two at a cursor of a transaction only.
    Put(Content),
    Delete,
}

#[derive(Clone, Debug)]
pub enum Write {
    Put(usize, Content),
    PutReserved(usize, Content),
    Delete(usize),
    DeleteRange(Bound<usize>, Bound<usize>),
    /// With the first or the second operator.
    Merge(usize, bool, u8),
}

/// What depends on what is there.
#[derive(Clone, Debug)]
pub enum Modify {
    Insert(usize, Content),
    Remove(usize),
    PutIfAbsent(usize, Content),
    /// Whether what is there is expected, and what takes its place.
    CompareExchange(usize, bool, Option<Content>),
    /// What is there, cut to half and this appended; empty is none.
    Update(usize, u8),
    PopFirst,
    PopLast,
    /// Whether an entry stays depends on this and its last byte.
    RetainIn(Bound<usize>, Bound<usize>, u8),
    /// A value written in pieces of so many bytes; whether it is finished.
    Stream(usize, Content, usize, bool),
    WriteAt(usize, u64, Content),
    AppendTo(usize, Content),
    Truncate(usize, u64),
    ExtractIf(Bound<usize>, Bound<usize>, u8),
}

/// A value: a length and what it is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Content(pub usize, pub u8);

#[derive(Clone, Debug)]
pub enum Read {
    Get(usize),
    GetMany(Vec<usize>),
    GetWith(usize),
    GetPart(usize, u64, usize),
    ValueLength(usize),
    /// By a reader, in pieces of so many bytes, from one of several places.
    Stream(usize, u64, usize),
    ContainsKey(usize),
    /// Each bit says from which end the next entry is taken; then all the rest from the front.
    Range(Bound<usize>, Bound<usize>, Vec<bool>),
    /// The same, without the values.
    Keys(Bound<usize>, Bound<usize>, Vec<bool>),
    /// Moves a cursor that is confined to a range.
    Cursor(Bound<usize>, Bound<usize>, Vec<Move>),
    /// The first bytes of a key.
    Prefix(usize, usize),
    /// What comes up to a separator.
    Components(u8),
    First,
    Last,
    Len,
    IsEmpty,
    Count(Bound<usize>, Bound<usize>),
    Estimate(Bound<usize>, Bound<usize>),
    Nth(u64),
}

/// What a script is made of.
pub struct Shape {
    pub keys: Vec<Vec<u8>>,
    /// Lengths of values, the common ones several times.
    pub lengths: Vec<usize>,
    pub steps: usize,
    /// Of how many steps one is of a transaction beside others; 0: of none.
    pub beside: usize,
}

impl Shape {
    /// Keys that are prefixes of each other, share long beginnings, or are as long as can be.
    pub fn new(random: &mut Rng, inline_bytes_max: usize, block_bytes: usize) -> Self {
        let mut keys: Vec<Vec<u8>> = vec![Vec::new(), vec![0], vec![0, 0], vec![255], vec![255; 9]];
        for _ in 0..random.usize(4..60) {
            let alphabet = if random.bool() { 2 } else { 256 };
            let mut key: Vec<u8> = match random.u8(..4) {
                0 => Vec::new(),
                1 => b"a rather long beginning that many keys share/".to_vec(),
                _ => keys[random.usize(..keys.len())].clone(),
            };
            key.truncate(200);
            for _ in 0..random.usize(1..6) {
                key.push((random.u32(..alphabet) * (255 / (alphabet - 1).max(1))) as u8);
            }
            keys.push(key);
        }
        if random.u8(..4) == 0 {
            for _ in 0..2 {
                let mut key = vec![random.u8(..); 32 << 10];
                key[(32 << 10) - 1] = random.u8(..);
                keys.push(key);
            }
        }
        let mut lengths = vec![0, 1, 5, 8, 20, 3, 7, 12];
        for edge in [inline_bytes_max, block_bytes] {
            lengths.extend([edge - 1, edge, edge + 1]);
        }
        // Several extents, and an index over blocks.
        if random.u8(..4) == 0 {
            lengths.extend([block_bytes * 3 + 17, block_bytes * 40]);
        }
        Self {
            keys,
            lengths,
            steps: 0,
            beside: 0,
        }
    }

    pub fn script(&self, random: &mut Rng) -> Vec<Step> {
        // Some runs write a lot, some hardly ever; some never delete ranges.
        let reads = random.u32(1..6);
        let ranges = random.u32(..3);
        (0..self.steps)
            .map(|_| match random.u32(..116) {
                _ if self.beside > 0 && random.usize(..self.beside) == 0 => {
                    Step::Beside(self.beside(random, ranges))
                }
                0..=35 => Step::Write(self.write(random, ranges), durability(random)),
                36..=41 => Step::Modify(self.modify(random), durability(random)),
                42..=44 => Step::Batch {
                    writes: (0..random.usize(..12))
                        .map(|_| self.write(random, ranges))
                        .collect(),
                    durability: durability(random),
                    commit: random.u8(..4) > 0,
                    save: save(random),
                },
                45..=54 => Step::Transaction {
                    inside: (0..random.usize(..12))
                        .map(|_| match random.u8(..16) {
                            0 => self.cloning(random),
                            _ => self.inside(random, ranges),
                        })
                        .collect(),
                    durability: durability(random),
                    commit: random.u8(..4) > 0,
                    save: save(random),
                },
                100..=109 => Step::Name(self.naming(random), durability(random)),
                110..=112 => Step::Branch(self.branching(random, ranges)),
                113.. => Step::Savepoint {
                    before: self.some_inside(random, ranges),
                    after: self.some_inside(random, ranges),
                    // With such keys it may go to the disk, and cannot be undone in part.
                    kept: random.bool() | self.keys.iter().any(|key| key.len() > 1000),
                    dropped: random.bool(),
                },
                55..=74 if random.u32(..6) < reads => Step::Read(self.read(random)),
                55..=74 => Step::Maintain,
                75..=77 => Step::Snapshot,
                78..=79 => Step::ReadSnapshot(random.usize(..), self.read(random)),
                80..=82 => self.diff(random),
                83..=84 => Step::EndSnapshot(random.usize(..)),
                85..=87 => Step::CompareAll,
                88..=89 => Step::Sync,
                90..=92 => Step::Checkpoint,
                93..=95 => Step::Maintain,
                96 => Step::MaintainAll,
                97 => Step::Close,
                _ => Step::Drop,
            })
            .collect()
    }

    fn diff(&self, random: &mut Rng) -> Step {
        let (low, high) = match random.bool() {
            true => (Bound::Unbounded, Bound::Unbounded),
            false => (self.bound(random), self.bound(random)),
        };
        let ends = (0..random.usize(..20)).map(|_| random.bool()).collect();
        Step::Diff([random.usize(..), random.usize(..)], low, high, ends)
    }

    fn inside(&self, random: &mut Rng, ranges: u32) -> Inside {
        match random.u8(..10) {
            9 => Inside::Edit(
                self.bound(random),
                self.bound(random),
                self.moves(random, true),
            ),
            0..=2 => Inside::Read(self.read(random)),
            3 => Inside::Modify(self.modify(random)),
            4 => Inside::Append(self.key(random), self.content(random)),
            _ => Inside::Write(self.write(random, ranges)),
        }
    }

    fn some_inside(&self, random: &mut Rng, ranges: u32) -> Vec<Inside> {
        (0..random.usize(..8))
            .map(|_| self.inside(random, ranges))
            .collect()
    }

    fn branching(&self, random: &mut Rng, ranges: u32) -> BranchStep {
        let number = random.usize(..3);
        match random.u8(..10) {
            0..=2 => BranchStep::Create(number, random.usize(..9)),
            3..=5 => {
                let inside = self.some_inside(random, ranges);
                BranchStep::Change(number, inside, random.u8(..4) > 0)
            }
            6 | 7 => BranchStep::Save(number, random.usize(..9)),
            8 => BranchStep::Delete(number),
            _ => BranchStep::Read(number, self.read(random)),
        }
    }

    fn cloning(&self, random: &mut Rng) -> Inside {
        Inside::Clone(self.key(random), self.key(random), random.usize(1..6))
    }

    fn beside(&self, random: &mut Rng, ranges: u32) -> Beside {
        match random.u8(..16) {
            0 | 1 => Beside::Begin(Isolation::Serializable),
            2 => Beside::Begin(match random.u8(..3) {
                0 => Isolation::Snapshot,
                _ => Isolation::Serializable,
            }),
            3..=5 => Beside::Commit(random.usize(..), durability(random)),
            6 if random.bool() => Beside::Drop(random.usize(..)),
            // One thing or another that is worth being validated.
            7..=9 => Beside::Within(random.usize(..), Inside::Read(self.read(random))),
            _ => Beside::Within(random.usize(..), self.inside(random, ranges)),
        }
    }

    fn naming(&self, random: &mut Rng) -> NameStep {
        let name = |random: &mut Rng| random.usize(..9);
        match random.u8(..16) {
            0..=6 => NameStep::Save(name(random), random.u8(..)),
            7 => NameStep::Rename(name(random), name(random)),
            8..=10 => NameStep::Delete(name(random)),
            11 if random.bool() => NameStep::DeleteRange(name(random), name(random)),
            12 => NameStep::Compare,
            13 if random.bool() => NameStep::Restore(name(random), name(random)),
            13 | 14 => {
                let ends = (0..random.usize(..20)).map(|_| random.bool()).collect();
                NameStep::Diff(name(random), ends)
            }
            _ => NameStep::Read(name(random), self.read(random)),
        }
    }

    fn key(&self, random: &mut Rng) -> usize {
        random.usize(..self.keys.len())
    }

    fn bound(&self, random: &mut Rng) -> Bound<usize> {
        match random.u8(..5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(self.key(random)),
            _ => Bound::Excluded(self.key(random)),
        }
    }

    fn content(&self, random: &mut Rng) -> Content {
        Content(
            self.lengths[random.usize(..self.lengths.len())],
            random.u8(..),
        )
    }

    fn write(&self, random: &mut Rng, ranges: u32) -> Write {
        match random.u32(..20) {
            0..=8 => Write::Put(self.key(random), self.content(random)),
            9 => Write::PutReserved(self.key(random), self.content(random)),
            10..=13 => Write::Delete(self.key(random)),
            14..=16 => Write::Merge(self.key(random), random.bool(), random.u8(..)),
            number if number - 17 < ranges => {
                // Mostly narrow ones, or nothing would ever grow.
                let low = self.key(random);
                let high = (low + random.usize(..4)).min(self.keys.len() - 1);
                match random.u8(..8) {
                    0 => Write::DeleteRange(self.bound(random), self.bound(random)),
                    1..=3 => Write::DeleteRange(Bound::Included(low), Bound::Excluded(high)),
                    4 | 5 => Write::DeleteRange(Bound::Included(low), Bound::Included(high)),
                    6 => Write::DeleteRange(Bound::Excluded(low), Bound::Included(high)),
                    _ => Write::DeleteRange(Bound::Excluded(low), Bound::Excluded(high)),
                }
            }
            _ => Write::Put(self.key(random), self.content(random)),
        }
    }

    fn modify(&self, random: &mut Rng) -> Modify {
        match random.u8(..15) {
            9 => {
                let piece = random.usize(1..2000);
                let finish = random.u8(..5) > 0;
                Modify::Stream(self.key(random), self.content(random), piece, finish)
            }
            10 | 11 => {
                let Content(length, fill) = self.content(random);
                let most = [1, 40, 700, length][random.usize(..4)];
                let content = Content(random.usize(..=most), fill);
                let most = self.content(random).0 as u64 + 3;
                let offset = random.u64(..=most);
                Modify::WriteAt(self.key(random), offset, content)
            }
            12 | 13 => Modify::AppendTo(self.key(random), self.content(random)),
            14 => {
                let length = self.content(random).0 as u64;
                Modify::Truncate(self.key(random), random.u64(..=length))
            }
            0 => Modify::Insert(self.key(random), self.content(random)),
            1 => Modify::Remove(self.key(random)),
            2 => Modify::PutIfAbsent(self.key(random), self.content(random)),
            3 => {
                let new = random.bool().then(|| self.content(random));
                Modify::CompareExchange(self.key(random), random.bool(), new)
            }
            4 => Modify::Update(self.key(random), random.u8(..)),
            5 => Modify::PopFirst,
            6 => Modify::PopLast,
            number => {
                let low = self.key(random);
                let high = (low + random.usize(..4)).min(self.keys.len() - 1);
                let (low, high) = match random.u8(..4) {
                    0 => (self.bound(random), self.bound(random)),
                    _ => (Bound::Included(low), Bound::Included(high)),
                };
                match number {
                    7 => Modify::RetainIn(low, high, random.u8(..)),
                    _ => Modify::ExtractIf(low, high, random.u8(..)),
                }
            }
        }
    }

    /// Mostly steps, mostly on in the same direction.
    fn moves(&self, random: &mut Rng, edits: bool) -> Vec<Move> {
        let mut forward = random.bool();
        (0..random.usize(..30))
            .map(|_| match random.u8(..if edits { 20 } else { 16 }) {
                0 => Move::First,
                1 => Move::Last,
                2 => Move::Seek(self.key(random)),
                3 => Move::SeekAfter(self.key(random)),
                4 => Move::SeekBack(self.key(random)),
                5 => Move::SeekBefore(self.key(random)),
                6 | 7 => Move::Value,
                16 | 17 => Move::Put(self.content(random)),
                18 | 19 => Move::Delete,
                number => {
                    forward ^= number > 13;
                    match forward {
                        true => Move::Next,
                        false => Move::Previous,
                    }
                }
            })
            .collect()
    }

    fn read(&self, random: &mut Rng) -> Read {
        match random.u8(..16) {
            15 => Read::Estimate(self.bound(random), self.bound(random)),
            14 => Read::Cursor(
                self.bound(random),
                self.bound(random),
                self.moves(random, false),
            ),
            0 => Read::Get(self.key(random)),
            1 => Read::GetMany((0..random.usize(..20)).map(|_| self.key(random)).collect()),
            2 => Read::GetWith(self.key(random)),
            3 => {
                let length = self.content(random).0;
                let offset = random.u64(..=length as u64 + 2);
                Read::GetPart(self.key(random), offset, random.usize(..=length + 2))
            }
            4 if random.bool() => {
                let most = self.content(random).0 as u64;
                let place = random.u64(..=most);
                Read::Stream(self.key(random), place, random.usize(1..3000))
            }
            4 => Read::ValueLength(self.key(random)),
            5 => Read::ContainsKey(self.key(random)),
            6 => Read::Keys(
                self.bound(random),
                self.bound(random),
                (0..random.usize(..20)).map(|_| random.bool()).collect(),
            ),
            7 => Read::Range(
                self.bound(random),
                self.bound(random),
                (0..random.usize(..20)).map(|_| random.bool()).collect(),
            ),
            8 => Read::Prefix(self.key(random), random.usize(..4)),
            9 if random.bool() => {
                let key = &self.keys[self.key(random)];
                Read::Components(key.last().copied().unwrap_or(b'/'))
            }
            9 => Read::First,
            10 => Read::Last,
            11 => match random.bool() {
                true => Read::Len,
                false => Read::IsEmpty,
            },
            12 => Read::Count(self.bound(random), self.bound(random)),
            _ => Read::Nth(random.u64(..self.keys.len() as u64 + 1)),
        }
    }
}

/// A name under which a commit saves what it makes of the store.
fn save(random: &mut Rng) -> Option<usize> {
    (random.u8(..6) == 0).then(|| random.usize(..9))
}

fn durability(random: &mut Rng) -> Durability {
    match random.u8(..4) {
        0 => Durability::Immediate,
        1 => Durability::Buffered,
        _ => Durability::Deferred,
    }
}
