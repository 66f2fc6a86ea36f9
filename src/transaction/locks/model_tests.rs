//! Random scripts against a table that is a list of keys and a list of requests, and knows nothing of
//! ranges, trees, joining or watching.

use std::task::Poll;

use super::testing::{Asked, Exclusive, Shared};
use super::{LockMode, LockRange, LockTable, Owner, Wanted};
use crate::error::{ErrorKind, Result};

const KEYS: usize = 8;
const OWNERS: usize = 6;

/// For each key the mode in which it is had.
type Keys = [Option<LockMode>; KEYS];

#[derive(Clone, Copy, Debug)]
struct Request {
    owner: usize,
    low: usize,
    end: usize,
    mode: LockMode,
    /// It was granted, and has to be taken note of.
    granted: bool,
}

#[derive(Default)]
struct Model {
    held: [Keys; OWNERS],
    /// The oldest first.
    queue: Vec<Request>,
    /// Each owner's family.
    families: [usize; OWNERS],
}

impl Model {
    fn conflict(one: LockMode, other: LockMode) -> bool {
        one == Exclusive || other == Exclusive
    }

    /// What an owner has, with what was granted and not taken note of.
    fn has(&self, owner: usize, key: usize) -> Option<LockMode> {
        let granted = self.queue.iter().filter(|request| {
            request.granted && request.owner == owner && (request.low..request.end).contains(&key)
        });
        self.held[owner][key].max(granted.map(|request| request.mode).max())
    }

    fn family_has(&self, family: usize, key: usize) -> Option<LockMode> {
        let owners = (0..OWNERS).filter(|owner| self.families[*owner] == family);
        owners.filter_map(|owner| self.has(owner, key)).max()
    }

    /// The families that stand in the way of a request with so many before it.
    fn blockers(&self, request: &Request, before: usize) -> Vec<usize> {
        let family = self.families[request.owner];
        let mut found = Vec::new();
        for key in request.low..request.end {
            for owner in 0..OWNERS {
                let stands = self
                    .has(owner, key)
                    .is_some_and(|mode| Self::conflict(mode, request.mode));
                if self.families[owner] != family && stands {
                    found.push(self.families[owner]);
                }
            }
            if self.family_has(family, key) >= Some(request.mode) {
                continue;
            }
            for other in &self.queue[..before] {
                let stands = !other.granted
                    && (other.low..other.end).contains(&key)
                    && Self::conflict(other.mode, request.mode);
                if self.families[other.owner] != family && stands {
                    found.push(self.families[other.owner]);
                }
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn grant_all(&mut self) {
        for index in 0..self.queue.len() {
            let request = self.queue[index];
            if !request.granted && self.blockers(&request, index).is_empty() {
                self.queue[index].granted = true;
            }
        }
    }

    fn age(&self, owner: usize) -> (usize, usize) {
        (self.families[owner], owner)
    }

    /// Whether somebody waits for itself, of all who are not younger than one.
    fn has_cycle(&self, start: usize, youngest: Option<usize>) -> bool {
        let mut reached = vec![start];
        let mut next = vec![start];
        while let Some(family) = next.pop() {
            for (index, request) in self.queue.iter().enumerate() {
                let counts = !request.granted
                    && youngest
                        .is_none_or(|youngest| self.age(request.owner) <= self.age(youngest));
                if self.families[request.owner] != family || !counts {
                    continue;
                }
                for other in self.blockers(request, index) {
                    if other == start {
                        return true;
                    }
                    if !reached.contains(&other) {
                        reached.push(other);
                        next.push(other);
                    }
                }
            }
        }
        false
    }

    fn note(&mut self, request: &Request) {
        for key in request.low..request.end {
            let had = &mut self.held[request.owner][key];
            *had = (*had).max(Some(request.mode));
        }
    }
}

fn lock_range(low: usize, end: usize) -> LockRange {
    let end_key = [end as u8];
    let end_key = (end < KEYS).then_some(&end_key[..]);
    LockRange::new(&[low as u8], end_key).unwrap()
}

/// What the two have to agree on after every step.
fn compare(table: &LockTable, model: &Model, owners: &[Owner], asked: &[Asked<'_>]) {
    table.check();
    for (request, asked) in model.queue.iter().zip(asked) {
        assert_eq!(request.granted, asked.is_woken(), "{request:?}");
    }
    for key in 0..KEYS {
        for (number, owner) in owners.iter().enumerate() {
            let family = model.families[number];
            let met = (0..OWNERS)
                .any(|other| model.families[other] != family && model.has(other, key).is_some());
            let holder = table.holder(Some(owner.id()), Wanted::Key(&[key as u8]));
            assert_eq!(holder.is_some(), met, "{key}, {number}: {holder:?}");
        }
    }
    for family in 0..OWNERS {
        assert!(!model.has_cycle(family, None), "a deadlock was not noticed");
    }
}

fn run(seed: u64, steps: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let table = LockTable::new();
    let mut model = Model::default();
    let mut owners: Vec<Owner> = Vec::new();
    for number in 0..OWNERS {
        let of = (number > 0 && random.u8(0..5) == 0).then(|| random.usize(0..number));
        model.families[number] = of.map_or(number, |of| model.families[of]);
        owners.push(match of {
            Some(of) => table.owner_within(owners[of].id()),
            None => table.owner(),
        });
    }
    let owners = &owners[..];
    // In the order of the model's queue.
    let mut asked: Vec<Asked<'_>> = Vec::new();
    for _ in 0..steps {
        let owner = random.usize(0..OWNERS);
        match random.u8(0..12) {
            0..6 => {
                let low = random.usize(0..KEYS);
                let end = random.usize(low..KEYS.min(low + 4)) + 1;
                let mode = if random.u8(0..3) == 0 {
                    Exclusive
                } else {
                    Shared
                };
                let request = Request {
                    owner,
                    low,
                    end,
                    mode,
                    granted: false,
                };
                step_lock(&table, &mut model, owners, &mut asked, request, &mut random);
            }
            6 | 7 => {
                owners[owner].release_all();
                model.held[owner] = Keys::default();
                let start = model.families[owner];
                settle_deadlocks(&mut model, &mut asked, start, Poll::Pending);
            }
            8 if !asked.is_empty() => {
                let index = random.usize(0..asked.len());
                drop(asked.remove(index));
                let gone = model.queue.remove(index);
                let start = model.families[gone.owner];
                settle_deadlocks(&mut model, &mut asked, start, Poll::Pending);
            }
            _ => {
                // Those who have an answer take note of it.
                let mut index = 0;
                while index < asked.len() {
                    if asked[index].is_woken() && random.bool() {
                        assert!(asked[index].poll().is_ready());
                        asked.remove(index);
                        let request = model.queue.remove(index);
                        model.note(&request);
                    } else {
                        index += 1;
                    }
                }
            }
        }
        model.grant_all();
        compare(&table, &model, owners, &asked);
    }
    asked.clear();
    owners.iter().for_each(Owner::release_all);
    assert!(table.is_idle());
    assert_eq!(table.requests(), 0);
    table.check();
}

fn step_lock<'o>(
    table: &LockTable,
    model: &mut Model,
    owners: &'o [Owner],
    asked: &mut Vec<Asked<'o>>,
    request: Request,
    random: &mut fastrand::Rng,
) {
    let Request {
        owner,
        low,
        end,
        mode,
        ..
    } = request;
    let mine = &model.held[owner][low..end];
    let enough = mine.iter().all(|had| *had >= Some(mode));
    let family = model.families[owner];
    let has_relatives = (0..OWNERS).any(|other| other != owner && model.families[other] == family);
    let is_weaker = |had: Option<LockMode>| had.is_some_and(|had| had < mode);
    let is_upgrade = mine.iter().any(|had| is_weaker(*had))
        || (has_relatives && (low..end).any(|key| is_weaker(model.family_has(family, key))));
    let range = lock_range(low, end);
    let free = enough || model.blockers(&request, model.queue.len()).is_empty();
    if random.u8(0..4) == 0 {
        match table.try_lock(&owners[owner], &range, mode) {
            Ok(None) => {
                assert!(free && (enough || !is_upgrade));
                model.note(&request);
            }
            Ok(Some(_)) => assert!(!free && !is_upgrade),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UpgradeRefused);
                assert!(is_upgrade);
            }
        }
        return;
    }
    let mut future = Asked::new(table, &owners[owner], range, mode);
    match future.poll() {
        Poll::Ready(Ok(())) if free => {
            assert!(enough || !is_upgrade);
            model.note(&request);
        }
        Poll::Ready(Err(error)) if error.kind() == ErrorKind::UpgradeRefused => {
            assert!(is_upgrade);
        }
        answer => {
            assert!(!free && (enough || !is_upgrade));
            model.queue.push(request);
            asked.push(future);
            settle_deadlocks(model, asked, model.families[owner], answer);
        }
    }
}

/// After something changed for a family: who gave way must have been the youngest of a cycle through it,
/// and who got a lock thereby must have it in the model, too. `last`: what the last request was told.
fn settle_deadlocks(
    model: &mut Model,
    asked: &mut Vec<Asked<'_>>,
    start: usize,
    last: Poll<Result<()>>,
) {
    let mut answers: Vec<Poll<Result<()>>> = Vec::new();
    for (request, asked) in model.queue.iter().zip(&mut *asked) {
        let is_news = asked.is_woken() && !request.granted;
        answers.push(if is_news { asked.poll() } else { Poll::Pending });
    }
    if last.is_ready() {
        answers.pop();
        answers.push(last);
    }
    for (index, answer) in answers.iter().enumerate() {
        let Poll::Ready(Err(error)) = answer else {
            continue;
        };
        assert_eq!(error.kind(), ErrorKind::Deadlock);
        assert!(
            model.has_cycle(start, Some(model.queue[index].owner)),
            "{error}"
        );
    }
    let mut gone: Vec<usize> = (0..answers.len())
        .filter(|index| matches!(answers[*index], Poll::Ready(Err(_))))
        .collect();
    while let Some(index) = gone.pop() {
        model.queue.remove(index);
        asked.remove(index);
        drop(answers.remove(index));
    }
    model.grant_all();
    for index in (0..answers.len()).rev() {
        if answers[index].is_ready() {
            let request = model.queue.remove(index);
            assert!(request.granted);
            model.note(&request);
            asked.remove(index);
        }
    }
}

#[test]
fn it_does_what_a_list_of_keys_does() {
    let scripts = std::env::var("LOCK_SCRIPTS").map_or(400, |text| text.parse().unwrap());
    for seed in 0..scripts {
        let result = std::panic::catch_unwind(|| run(seed, 200));
        assert!(result.is_ok(), "seed {seed}");
    }
}
