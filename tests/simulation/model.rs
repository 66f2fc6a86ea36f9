//! What a store must hold: the state after every commit, and how many of them are safe.

use std::collections::BTreeMap;
use std::sync::Arc;

use thunderhead::Durability;

pub type State = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// Snapshots that have names: the sequence of each, and the bytes that were saved with it.
pub type Names = BTreeMap<Vec<u8>, (u64, Vec<u8>)>;

/// What a commit leaves behind.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Commit {
    pub entries: State,
    pub names: Names,
}

/// What a commit does to names.
#[derive(Clone, Debug)]
pub enum Naming {
    /// The store as the commit makes it, and the length of the bytes.
    Save(Vec<u8>, usize),
    Rename(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

impl Naming {
    /// Whether it can be done; else it is an error, or nothing happens.
    pub fn is_possible(&self, names: &Names) -> bool {
        match self {
            Self::Save(name, _) => !names.contains_key(name),
            Self::Rename(old, new) => names.contains_key(old) && !names.contains_key(new),
            Self::Delete(name) => names.contains_key(name),
        }
    }

    /// What it does as a part of the commit with a sequence.
    fn apply(&self, names: &mut Names, sequence: u64) {
        match self {
            Self::Save(name, length) => {
                let bytes = value(*length, name.len() as u8);
                names.insert(name.clone(), (sequence, bytes));
            }
            Self::Rename(old, new) => {
                let renamed = names.remove(old);
                names.extend(renamed.map(|named| (new.clone(), named)));
            }
            Self::Delete(name) => {
                names.remove(name);
            }
        }
    }
}

/// A commit that was tried, and what it does to names once it has a sequence.
#[derive(Clone)]
struct Tried {
    entries: State,
    names: Names,
    naming: Option<Naming>,
}

impl Tried {
    fn commit(&self, sequence: u64) -> Commit {
        let mut names = self.names.clone();
        if let Some(naming) = &self.naming {
            naming.apply(&mut names, sequence);
        }
        Commit {
            entries: self.entries.clone(),
            names,
        }
    }
}

/// One operation of a commit.
#[derive(Clone, Debug)]
pub enum Operation {
    /// A key, and the length and first byte of its value.
    Put(Vec<u8>, usize, u8),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Append(Vec<u8>, Vec<u8>),
    /// A key of those that begin with `r`, and the key for which it stands.
    Refer(Vec<u8>, Vec<u8>),
    /// A key and its whole value.
    Set(Vec<u8>, Vec<u8>),
    /// What begins with the first becomes what begins with the second, neither of which begins the other.
    Clone(Vec<u8>, Vec<u8>),
}

/// The bytes of a value, different at every place of it.
pub fn value(length: usize, first: u8) -> Vec<u8> {
    (0..length)
        .map(|at| first.wrapping_add((at ^ (at >> 8)) as u8))
        .collect()
}

pub fn apply(state: &mut State, operation: &Operation) {
    match operation {
        Operation::Put(key, length, first) => {
            state.insert(key.clone(), value(*length, *first).into());
        }
        Operation::Set(key, bytes) => {
            state.insert(key.clone(), bytes.as_slice().into());
        }
        Operation::Delete(key) => {
            state.remove(key);
        }
        Operation::DeleteRange(low, end) => {
            state.retain(|key, _| key < low || key >= end);
        }
        Operation::Clone(from, to) => {
            state.retain(|key, _| !key.starts_with(to));
            let cloned = state.iter().filter_map(|(key, value)| {
                let rest = key.strip_prefix(&from[..])?;
                Some(([to, rest].concat(), value.clone()))
            });
            let cloned: Vec<_> = cloned.collect();
            state.extend(cloned);
        }
        Operation::Refer(key, target) => {
            state.insert(key.clone(), target.as_slice().into());
        }
        Operation::Append(key, operand) => {
            let mut bytes = state.get(key).map_or(Vec::new(), |value| value.to_vec());
            bytes.extend_from_slice(operand);
            state.insert(key.clone(), bytes.into());
        }
    }
}

/// What a key gives that stands for another one: `None` if that leads to no value.
pub fn followed<'s>(state: &'s State, key: &[u8]) -> Option<&'s [u8]> {
    let mut value = state.get(key)?;
    let mut is_reference = key.starts_with(b"r");
    for _ in 0..state.len() {
        if !is_reference {
            return Some(value);
        }
        is_reference = value.starts_with(b"r");
        value = state.get(&value[..])?;
    }
    None
}

/// The history of a store.
#[derive(Clone)]
pub struct Model {
    /// The state after each commit; the first is the empty store's.
    states: Vec<Commit>,
    /// Commits that were tried after the last one that succeeded, each of which could be the next.
    tried: Vec<Tried>,
    /// What several commits that were tried together may have come to: how many, and the state.
    together: Vec<(u64, Commit)>,
    /// Compaction may have made commits of nothing after the last one.
    idle: bool,
    /// What survives the loss of power, and the death of the process.
    pub durable: u64,
    pub written: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            states: vec![Commit::default()],
            tried: Vec::new(),
            together: Vec::new(),
            idle: false,
            durable: 0,
            written: 0,
        }
    }
}

impl Model {
    /// The sequence of the last commit that was acknowledged.
    pub fn last(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub fn newest_commit(&self) -> &Commit {
        self.states.last().expect("never empty")
    }

    pub fn newest(&self) -> &State {
        &self.newest_commit().entries
    }

    pub fn names(&self) -> &Names {
        &self.newest_commit().names
    }

    pub fn state(&self, sequence: u64) -> &State {
        &self.states[sequence as usize].entries
    }

    /// A commit is about to be tried.
    pub fn begin(&mut self, operations: &[Operation]) {
        self.begin_naming(operations, None);
    }

    /// A commit is about to be tried that does something to names, too.
    pub fn begin_naming(&mut self, operations: &[Operation], naming: Option<Naming>) {
        let mut entries = self.newest().clone();
        operations
            .iter()
            .for_each(|operation| apply(&mut entries, operation));
        self.tried.push(Tried {
            entries,
            names: self.names().clone(),
            naming,
        });
    }

    /// The store is about to become equal to what a name keeps; what there is gets another name.
    pub fn begin_restore(&mut self, name: &[u8], before: &[u8]) {
        let mut names = self.names().clone();
        let (sequence, _) = names[name];
        names.insert(before.to_vec(), (self.last(), Vec::new()));
        self.tried.push(Tried {
            entries: self.state(sequence).clone(),
            names,
            naming: None,
        });
    }

    /// The commit that was tried last was refused.
    pub fn refuse(&mut self) {
        self.tried.pop();
    }

    /// Some commits were tried together, in this order, and any of them may be there.
    pub fn doubt_together(&mut self, commits: &[Vec<Operation>]) {
        let mut together = vec![(0, self.newest_commit().clone())];
        for operations in commits {
            for at in 0..together.len() {
                let (count, mut commit) = together[at].clone();
                operations
                    .iter()
                    .for_each(|operation| apply(&mut commit.entries, operation));
                together.push((count + 1, commit));
            }
        }
        self.together = together;
    }

    /// The commit that was tried last was acknowledged.
    pub fn acknowledge(&mut self, sequence: u64, durability: Durability) {
        let tried = self.tried.pop().expect("a commit was tried");
        self.tried.clear();
        self.together.clear();
        if self.idle {
            self.pass(sequence - 1);
            self.idle = false;
        }
        self.states.push(tried.commit(sequence));
        assert_eq!(sequence, self.last(), "the sequence of a commit");
        match durability {
            Durability::Immediate => self.synced(),
            Durability::Buffered => self.written = sequence,
            Durability::Deferred => {}
        }
    }

    /// Compaction begins, which may make commits of nothing.
    pub fn begin_idle(&mut self) {
        self.idle = true;
    }

    /// Compaction ended well: all its commits are known, and durable as all others.
    pub fn end_idle(&mut self) {
        self.idle = false;
        self.tried.clear();
        self.synced();
    }

    /// All commits through this one that are not known were of nothing.
    pub fn pass(&mut self, sequence: u64) {
        assert!(
            self.idle || sequence == self.last(),
            "commits that nobody made"
        );
        while self.last() < sequence {
            let state = self.newest_commit().clone();
            self.states.push(state);
        }
    }

    /// All acknowledged commits are durable.
    pub fn synced(&mut self) {
        (self.durable, self.written) = (self.last(), self.last());
    }

    /// What a store may hold that recovered through a sequence.
    pub fn candidates(&self, sequence: u64, least: u64) -> Vec<Commit> {
        assert!(
            sequence >= least,
            "commit {least} was safe, but only {sequence} are there"
        );
        if sequence <= self.last() {
            return vec![self.states[sequence as usize].clone()];
        }
        if self.idle {
            let newest = self.newest_commit().clone();
            return self.tried_with(sequence).chain([newest]).collect();
        }
        let more = sequence - self.last();
        let together = self.together.iter().filter(|(count, _)| *count == more);
        let together = together.map(|(_, commit)| commit.clone());
        let tried = self.tried_with(sequence).filter(|_| more == 1);
        let candidates: Vec<Commit> = tried.chain(together).collect();
        assert!(!candidates.is_empty(), "commits that nobody made");
        candidates
    }

    fn tried_with(&self, sequence: u64) -> impl Iterator<Item = Commit> {
        self.tried.iter().map(move |tried| tried.commit(sequence))
    }

    /// A store recovered with this: all after it never was, and this is durable.
    pub fn recovered(&mut self, sequence: u64, state: Commit) {
        // Of several that were tried together, those before the last are not known.
        while self.last() + 1 < sequence {
            self.states.push(state.clone());
        }
        self.states.truncate(sequence as usize);
        self.states.push(state);
        assert_eq!(self.last(), sequence);
        self.tried.clear();
        self.together.clear();
        self.idle = false;
        self.synced();
    }
}
