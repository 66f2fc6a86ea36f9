//! [`LockTable`]: granting locks, first come first served, and releasing them.
//!
//! Invariants, whenever the mutex is free: no lock that is held conflicts with one of another family;
//! every request that waits is *watching* a family that stands in its way, and is looked at again
//! whenever that family releases or gives up anything. So nobody is forgotten, and of those who queue
//! for one key a release looks at one.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::task::Waker;

use super::LockMode;
use super::deadlock::{Wait, explain};
use super::held::{Held, Own};
use super::owner::{Owner, OwnerId};
use super::range::{LockRange, Wanted};
use super::tree::{Entry, IntervalTree, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::transaction::sync::{
    Arc, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError,
};

/// How many ranges are held and waited for at most, joined: some hundred bytes each.
pub(super) const RANGES_MAX: usize = 4 << 20;

/// A lock, or a request that came earlier, that stands in the way.
#[derive(Clone, Debug)]
pub(crate) struct Blocker {
    pub(super) owner: OwnerId,
    pub(super) mode: LockMode,
    pub(super) range: LockRange,
    /// It is held; if not, it was only asked for earlier.
    pub(super) is_held: bool,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            owner, mode, range, ..
        } = self;
        match self.is_held {
            true => write!(f, "{owner} holds {range} ({mode})"),
            false => write!(f, "{owner} waits for {range} ({mode}) already"),
        }
    }
}

/// A request that waited, until its future takes note of the outcome.
pub(super) struct Request {
    pub(super) owner: OwnerId,
    pub(super) status: Status,
    pub(super) waker: Option<Waker>,
}

pub(super) enum Status {
    /// It stands in the queue there, and watches that family.
    Waits {
        place: Place,
        watches: u64,
    },
    /// It was granted; the lock is kept apart there.
    Granted(Place),
    Failed(Error),
}

/// What an attempt to lock came to.
pub(super) enum Attempt {
    Granted,
    Blocked(Blocker),
}

/// What the mutex guards.
pub(super) struct State {
    pub(super) held: Held,
    /// Requests that wait; their order is that of their numbers.
    pub(super) waiting: IntervalTree,
    pub(super) requests: HashMap<u64, Request>,
    /// The requests of each family.
    pub(super) by_family: HashMap<u64, BTreeSet<u64>>,
    /// Which requests watch which family.
    watchers: HashMap<u64, BTreeSet<u64>>,
    /// The others in each family that has more than one: all but the first, whose number is its own.
    relatives: HashMap<u64, BTreeSet<u64>>,
    next_number: u64,
    ranges_max: usize,
}

pub(super) struct Shared {
    /// How many ranges are held: what commits look at first.
    held: AtomicUsize,
    next_owner: AtomicU64,
    state: Mutex<State>,
}

/// Whom to wake once the mutex is free. Whatever a waker does then may come back here: waking, and
/// dropping what may be the last trace of a task with locks of its own.
#[derive(Default)]
pub(super) struct Woken {
    wake: Vec<Waker>,
    drop: Vec<Waker>,
}

impl Woken {
    pub(super) fn drop_later(&mut self, waker: Option<Waker>) {
        self.drop.extend(waker);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Only cloning a waker may panic with it held, and then all is in order.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn look<R>(&self, function: impl FnOnce(&State) -> R) -> R {
        function(&self.state())
    }

    pub(super) fn change<R>(&self, function: impl FnOnce(&mut State, &mut Woken) -> R) -> R {
        let mut woken = Woken::default();
        let result = {
            let mut state = self.state();
            let result = function(&mut state, &mut woken);
            self.held.store(state.held.len(), Ordering::Relaxed);
            result
        };
        woken.wake.into_iter().for_each(Waker::wake);
        result
    }

    /// An owner ends.
    pub(super) fn end(&self, owner: OwnerId) {
        self.release_all(owner);
        if owner.number != owner.family {
            self.change(|state, _| state.forget_relative(owner));
        }
    }

    pub(super) fn release_all(&self, owner: OwnerId) {
        if self.held.load(Ordering::Relaxed) == 0 {
            // What the owner holds is counted, and it knows of it.
            return;
        }
        self.change(|state, woken| {
            if state.held.remove_all(owner) {
                state.settle(owner.family, woken);
            }
        });
    }
}

/// See the module. Clones are the same table.
#[derive(Clone)]
pub(crate) struct LockTable {
    pub(super) shared: Arc<Shared>,
}

impl LockTable {
    pub(crate) fn new() -> Self {
        Self::with_limit(RANGES_MAX)
    }

    pub(super) fn with_limit(ranges_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                held: AtomicUsize::new(0),
                // No family has the number 0.
                next_owner: AtomicU64::new(1),
                state: Mutex::new(State {
                    held: Held::new(),
                    waiting: IntervalTree::new(),
                    requests: HashMap::new(),
                    by_family: HashMap::new(),
                    watchers: HashMap::new(),
                    relatives: HashMap::new(),
                    next_number: 0,
                    ranges_max,
                }),
            }),
        }
    }

    /// Whether nobody holds any lock: one relaxed load.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.ranges_held() == 0
    }

    /// How many ranges are held, joined by owner.
    #[inline]
    pub(crate) fn ranges_held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// A new owner, younger than all others. Takes no memory before it locks.
    pub(crate) fn owner(&self) -> Owner {
        let number = self.shared.next_owner.fetch_add(1, Ordering::Relaxed);
        let family = number;
        self.owner_with(OwnerId { number, family })
    }

    /// A new owner, in the name of another one or not.
    pub(crate) fn owner_for(&self, party: Option<OwnerId>) -> Owner {
        match party {
            Some(party) => self.owner_within(party),
            None => self.owner(),
        }
    }

    /// The same, whom the locks of another owner do not concern.
    pub(crate) fn owner_within(&self, other: OwnerId) -> Owner {
        let number = self.shared.next_owner.fetch_add(1, Ordering::Relaxed);
        let family = other.family;
        self.shared.change(|state, _| {
            let relatives = state.relatives.entry(family);
            relatives.or_default().insert(number);
        });
        self.owner_with(OwnerId { number, family })
    }

    fn owner_with(&self, id: OwnerId) -> Owner {
        let shared = Arc::clone(&self.shared);
        Owner { shared, id }
    }

    /// Locks a range if nobody else has it or waited for it before. `Some`: who does.
    ///
    /// Errors: `UpgradeRefused`, `TooManyLocks`.
    pub(crate) fn try_lock(
        &self,
        owner: &Owner,
        range: &LockRange,
        mode: LockMode,
    ) -> Result<Option<Blocker>> {
        let id = owner.id;
        let attempt = self
            .shared
            .change(|state, woken| state.attempt(id, range, mode, false, woken))?;
        Ok(match attempt {
            Attempt::Granted => None,
            Attempt::Blocked(blocker) => Some(blocker),
        })
    }
}

impl State {
    fn forget_relative(&mut self, owner: OwnerId) {
        if let Some(relatives) = self.relatives.get_mut(&owner.family) {
            relatives.remove(&owner.number);
            if relatives.is_empty() {
                self.relatives.remove(&owner.family);
            }
        }
    }

    /// The owners of a family.
    pub(super) fn members(&self, family: u64) -> impl Iterator<Item = u64> {
        let relatives = self.relatives.get(&family);
        std::iter::once(family).chain(relatives.into_iter().flatten().copied())
    }

    /// Whether anybody may wait for the family of a request: for what it holds, or waits for besides,
    /// or for those who came behind the request.
    pub(super) fn may_be_waited_for(&self, request: &Entry) -> bool {
        let family = request.owner.family;
        let requests = self.by_family.get(&family);
        request.number + 1 < self.next_number
            || self.relatives.contains_key(&family)
            || self.held.has_any(request.owner)
            || requests.is_some_and(|requests| requests.len() > 1)
    }

    /// Grants a lock if nothing stands in its way.
    pub(super) fn attempt(
        &mut self,
        owner: OwnerId,
        range: &LockRange,
        mode: LockMode,
        may_upgrade: bool,
        woken: &mut Woken,
    ) -> Result<Attempt> {
        let touching = self.held.touching(owner, range);
        match self.held.own(&touching, range, mode) {
            Own::Enough => return Ok(Attempt::Granted),
            Own::Weaker(shared) if !may_upgrade => return Err(upgrade_refused(range, &shared)),
            Own::Weaker(_) | Own::Nothing => {}
        }
        let has_relatives = self.relatives.contains_key(&owner.family);
        if has_relatives && mode == LockMode::Exclusive && !may_upgrade {
            let shared = self.held.family_shares(owner.family, range);
            if let Some(shared) = shared {
                return Err(upgrade_refused(range, &shared));
            }
        }
        if self.held.len() + self.waiting.len() >= self.ranges_max {
            return Err(Error::new(
                ErrorKind::TooManyLocks,
                format!(
                    "locking {range}: {} ranges are locked or waited for, and no more are possible",
                    self.ranges_max
                ),
            ));
        }
        let asked = self.request(owner, range, mode);
        if let Some(blocker) = self.blocker(&asked) {
            return Ok(Attempt::Blocked(blocker));
        }
        self.held.add(owner, asked.range, mode, touching);
        self.look_at_own(owner.family, woken);
        Ok(Attempt::Granted)
    }

    fn request(&self, owner: OwnerId, range: &LockRange, mode: LockMode) -> Entry {
        Entry {
            range: range.clone(),
            mode,
            owner,
            number: self.next_number,
        }
    }

    /// Has a request wait that something stands in the way of; gives its number. It may have an outcome
    /// already: it ended a deadlock, or a deadlock it.
    pub(super) fn queue(
        &mut self,
        owner: OwnerId,
        range: &LockRange,
        mode: LockMode,
        blocker: &Blocker,
        woken: &mut Woken,
    ) -> u64 {
        let asked = self.request(owner, range, mode);
        let number = asked.number;
        self.next_number += 1;
        let place = self.waiting.insert(asked);
        let watches = blocker.owner.family;
        self.watchers.entry(watches).or_default().insert(number);
        self.by_family
            .entry(owner.family)
            .or_default()
            .insert(number);
        let status = Status::Waits { place, watches };
        self.requests.insert(
            number,
            Request {
                owner,
                status,
                waker: None,
            },
        );
        self.resolve(number, woken);
        number
    }

    /// Calls the function for what stands in the way of a request: those who queue before it, then
    /// what is held.
    pub(super) fn visit_blockers<B>(
        &self,
        asked: &Entry,
        function: &mut impl FnMut(&Entry, bool) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let exclusive_only = asked.mode == LockMode::Shared;
        let family = asked.owner.family;
        let wanted = asked.range.wanted();
        self.waiting
            .visit(wanted, exclusive_only, &mut |_, entry| {
                if entry.number >= asked.number || entry.owner.family == family {
                    return ControlFlow::Continue(());
                }
                // Where the family has what it asks for, the other one waits for it, and not it for the
                // other one.
                let common = asked.range.intersection(&entry.range);
                let has_it = common
                    .is_some_and(|(low, end)| self.held.family_has(family, low, end, asked.mode));
                match has_it {
                    true => ControlFlow::Continue(()),
                    false => function(entry, false),
                }
            })?;
        let held = &self.held.tree;
        held.visit(
            wanted,
            exclusive_only,
            &mut |_, entry| match entry.owner.family == family {
                true => ControlFlow::Continue(()),
                false => function(entry, true),
            },
        )
    }

    /// Something that stands in the way of a request.
    pub(super) fn blocker(&self, asked: &Entry) -> Option<Blocker> {
        let found = self.visit_blockers(asked, &mut |entry, is_held| {
            ControlFlow::Break(Blocker::new(entry, is_held))
        });
        found.break_value()
    }

    /// Something that is held by another family and has some of the keys.
    pub(super) fn holder(&self, family: u64, keys: Wanted<'_>) -> Option<Blocker> {
        let found =
            self.held.tree.visit(
                keys,
                false,
                &mut |_, entry| match entry.owner.family == family {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(Blocker::new(entry, true)),
                },
            );
        found.break_value()
    }

    /// A family released or gave up something: looks again at those who watched it, in their order.
    fn settle(&mut self, family: u64, woken: &mut Woken) {
        if self.requests.is_empty() {
            return;
        }
        let watchers = self.watchers.remove(&family).unwrap_or_default();
        for number in watchers {
            self.look_again(number, woken);
        }
        self.look_at_own(family, woken);
        // What it had may have spared it to wait for those who came before.
        for number in self.requests_of(family) {
            self.resolve(number, woken);
        }
    }

    fn requests_of(&self, family: u64) -> Vec<u64> {
        let requests = self.by_family.get(&family);
        requests.into_iter().flatten().copied().collect()
    }

    /// What a family has changed: that decides what its other requests wait for.
    fn look_at_own(&mut self, family: u64, woken: &mut Woken) {
        if self.requests.is_empty() {
            return;
        }
        for number in self.requests_of(family) {
            self.look_again(number, woken);
        }
    }

    /// Grants a request that waits, or has it watch somebody who is in its way.
    fn look_again(&mut self, number: u64, woken: &mut Woken) {
        let Some(request) = self.requests.get(&number) else {
            return;
        };
        let Status::Waits { place, watches } = request.status else {
            return;
        };
        self.unwatch(number, watches);
        let asked = self.waiting.entry(place).clone();
        let status = if let Some(blocker) = self.blocker(&asked) {
            let watches = blocker.owner.family;
            self.watchers.entry(watches).or_default().insert(number);
            Status::Waits { place, watches }
        } else {
            self.waiting.remove(place);
            Status::Granted(self.held.keep_apart(asked.owner, asked.range, asked.mode))
        };
        let is_granted = matches!(status, Status::Granted(_));
        if let Some(request) = self.requests.get_mut(&number) {
            request.status = status;
            if is_granted {
                woken.wake.extend(request.waker.take());
            }
        }
        if is_granted {
            self.look_at_own(asked.owner.family, woken);
        }
    }

    /// Ends the deadlocks that a request is part of.
    fn resolve(&mut self, number: u64, woken: &mut Woken) {
        while let Some(cycle) = self.cycle_through(number) {
            // Of a family, which is as old as its first, the youngest.
            let age = |wait: &&Wait| (wait.owner.family, wait.owner.number);
            let victim = cycle.iter().max_by_key(age);
            let victim = victim.map_or(number, |wait| wait.number);
            self.fail(victim, explain(&cycle, victim), woken);
        }
    }

    /// Takes a request off the queue.
    fn dequeue(&mut self, number: u64, place: Place, watches: u64) {
        self.waiting.remove(place);
        self.unwatch(number, watches);
    }

    fn unwatch(&mut self, number: u64, watches: u64) {
        if let Some(others) = self.watchers.get_mut(&watches) {
            others.remove(&number);
            if others.is_empty() {
                self.watchers.remove(&watches);
            }
        }
    }

    fn forget(&mut self, number: u64) -> Option<Request> {
        let request = self.requests.remove(&number)?;
        let family = request.owner.family;
        if let Some(others) = self.by_family.get_mut(&family) {
            others.remove(&number);
            if others.is_empty() {
                self.by_family.remove(&family);
            }
        }
        Some(request)
    }

    /// Ends a request whose outcome nobody wants to know: it leaves the queue, or gives back what it
    /// was granted.
    pub(super) fn leave(&mut self, number: u64, woken: &mut Woken) {
        let Some(mut request) = self.forget(number) else {
            return;
        };
        woken.drop_later(request.waker.take());
        match request.status {
            Status::Waits { place, watches } => self.dequeue(number, place, watches),
            Status::Granted(place) => drop(self.held.take_apart(place)),
            Status::Failed(_) => return,
        }
        self.settle(request.owner.family, woken);
    }

    /// Ends a request that waits with an error.
    fn fail(&mut self, number: u64, error: Error, woken: &mut Woken) {
        let Some(request) = self.requests.get_mut(&number) else {
            return;
        };
        let family = request.owner.family;
        woken.wake.extend(request.waker.take());
        let before = std::mem::replace(&mut request.status, Status::Failed(error));
        if let Status::Waits { place, watches } = before {
            self.dequeue(number, place, watches);
        }
        self.settle(family, woken);
    }

    /// The outcome of a request, if there is one; from then on it is forgotten.
    pub(super) fn outcome(&mut self, number: u64) -> Option<Result<()>> {
        if let Status::Waits { .. } = self.requests.get(&number)?.status {
            return None;
        }
        match self.forget(number)?.status {
            Status::Granted(place) => {
                let Entry {
                    owner, range, mode, ..
                } = self.held.take_apart(place);
                let touching = self.held.touching(owner, &range);
                self.held.add(owner, range, mode, touching);
                Some(Ok(()))
            }
            Status::Failed(error) => Some(Err(error)),
            Status::Waits { .. } => None,
        }
    }
}

impl Blocker {
    pub(super) fn new(entry: &Entry, is_held: bool) -> Self {
        Self {
            owner: entry.owner,
            mode: entry.mode,
            range: entry.range.clone(),
            is_held,
        }
    }
}

fn upgrade_refused(range: &LockRange, shared: &LockRange) -> Error {
    Error::new(
        ErrorKind::UpgradeRefused,
        format!(
            "locking {range} exclusively while holding {shared} shared: two who did so would wait for \
             each other, a deadlock in waiting; lock exclusively at first, or release before"
        ),
    )
}

#[cfg(test)]
impl LockTable {
    /// That everything in it agrees.
    pub(super) fn check(&self) {
        self.shared.look(|state| {
            state.held.check();
            state.waiting.check();
            assert_eq!(self.ranges_held(), state.held.len());
            let mut apart = 0;
            for (number, request) in &state.requests {
                assert!(state.by_family[&request.owner.family].contains(number));
                match request.status {
                    Status::Waits { place, watches } => {
                        let asked = state.waiting.entry(place);
                        assert_eq!(asked.number, *number);
                        assert!(state.watchers[&watches].contains(number));
                        let mut blocks = false;
                        let _: ControlFlow<()> = state.visit_blockers(asked, &mut |entry, _| {
                            blocks |= entry.owner.family == watches;
                            ControlFlow::Continue(())
                        });
                        assert!(blocks, "{asked:?} watches somebody who is not in its way");
                    }
                    Status::Granted(_) => apart += 1,
                    Status::Failed(_) => {}
                }
            }
            let members = |of: &HashMap<u64, BTreeSet<u64>>| -> usize {
                of.values()
                    .inspect(|one| assert!(!one.is_empty()))
                    .map(BTreeSet::len)
                    .sum()
            };
            assert_eq!(members(&state.by_family), state.requests.len());
            assert_eq!(members(&state.watchers), state.waiting.len());
            state.held.check_apart(apart);
        });
    }

    /// How many requests wait or have an outcome that nobody took.
    pub(super) fn requests(&self) -> usize {
        self.shared.look(|state| state.requests.len())
    }
}
