//! Who waits for whom: cycles in it are found the moment they would begin.
//!
//! Only a new request adds to what somebody waits for, or a release to what the same family's requests
//! wait for: a new cycle goes through one of those, and a search from there is enough. A family waits for
//! all that its requests wait for, as it releases nothing before it has them all. What a request waits for
//! is looked up, not kept: conflicting locks that others hold, and conflicting requests that came before
//! it.
//!
//! One can follow the waits from the request on, or back from those who wait for its family; where either
//! ends without a cycle, there is none. Both are tried in turn, each time a few times as far: so what it
//! costs is in proportion to the lesser of the two. Long chains of waits grow at one end or the other.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::ops::ControlFlow;

use super::LockMode;
use super::owner::OwnerId;
use super::range::LockRange;
use super::table::{Blocker, State, Status};
use super::tree::Entry;
use crate::error::{Error, ErrorKind};

/// Somebody in a cycle, and what it waits for.
pub(super) struct Wait {
    /// The number of the request.
    pub(super) number: u64,
    pub(super) owner: OwnerId,
    mode: LockMode,
    range: LockRange,
    for_what: Blocker,
}

/// How many steps a search takes at first.
const STEPS_FIRST: usize = 16;

/// How many of the waits of a cycle an error tells of.
const WAITS_SHOWN: usize = 16;

/// What following waits leads to.
enum Search {
    Cycle(Vec<Wait>),
    Nothing,
    /// It took more steps than it might.
    GaveUp,
}

/// Counts a step; ends the search, giving nothing, if there were enough.
fn take_step<T>(steps: &mut usize) -> ControlFlow<Option<T>> {
    match steps.checked_sub(1) {
        Some(left) => {
            *steps = left;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(None),
    }
}

impl State {
    fn queued(&self, number: u64) -> Option<&Entry> {
        match self.requests.get(&number)?.status {
            Status::Waits { place, .. } => Some(self.waiting.entry(place)),
            _ => None,
        }
    }

    /// A cycle of waits that a request is part of.
    pub(super) fn cycle_through(&self, start: u64) -> Option<Vec<Wait>> {
        let first = self.queued(start)?;
        if !self.may_be_waited_for(first) {
            return None;
        }
        let mut most = STEPS_FIRST;
        loop {
            let mut steps = most;
            match self.follow(start, &mut steps) {
                Search::Cycle(cycle) => return Some(cycle),
                Search::Nothing => return None,
                Search::GaveUp => {}
            }
            let mut steps = most;
            if let Some(false) = self.is_waited_for_by_itself(first.owner.family, &mut steps) {
                return None;
            }
            most = most.saturating_mul(4);
        }
    }

    /// Follows the waits from a request on.
    fn follow(&self, start: u64, steps: &mut usize) -> Search {
        let Some(origin) = self.queued(start).map(|first| first.owner) else {
            return Search::Nothing;
        };
        // By whom each request was reached, and by what of its family.
        let mut reached: HashMap<u64, Option<(u64, Blocker)>> = HashMap::from([(start, None)]);
        let mut next = vec![start];
        while let Some(number) = next.pop() {
            let Some(asked) = self.queued(number) else {
                continue;
            };
            let found = self.visit_blockers(asked, &mut |entry, is_held| {
                if entry.owner.family == origin.family {
                    return ControlFlow::Break(Some(Blocker::new(entry, is_held)));
                }
                take_step(steps)?;
                let requests = self.by_family.get(&entry.owner.family);
                for other in requests.into_iter().flatten() {
                    take_step(steps)?;
                    if self.queued(*other).is_some() && !reached.contains_key(other) {
                        let through = (number, Blocker::new(entry, is_held));
                        reached.insert(*other, Some(through));
                        next.push(*other);
                    }
                }
                ControlFlow::Continue(())
            });
            match found {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(None) => return Search::GaveUp,
                ControlFlow::Break(Some(blocker)) => {
                    return Search::Cycle(self.path_to(number, blocker, &reached));
                }
            }
        }
        Search::Nothing
    }

    /// Whether a family may be among those who wait for it, directly or not. Those who queue behind
    /// it count, even where they need not wait. `None`: that takes more steps.
    fn is_waited_for_by_itself(&self, family: u64, steps: &mut usize) -> Option<bool> {
        let mut reached = HashSet::from([family]);
        let mut next = vec![family];
        while let Some(blocking) = next.pop() {
            let mut visit = |entry: &Entry, behind: Option<u64>| {
                take_step(steps)?;
                // Whom a lock or a request holds up: those who want it otherwise than shared by both.
                let shared = entry.mode == LockMode::Shared;
                let wanted = entry.range.wanted();
                self.waiting.visit(wanted, shared, &mut |_, waiting| {
                    take_step(steps)?;
                    let waits = behind.is_none_or(|number| waiting.number > number);
                    let other = waiting.owner.family;
                    if !waits || other == blocking {
                        return ControlFlow::Continue(());
                    }
                    if other == family {
                        return ControlFlow::Break(Some(()));
                    }
                    if reached.insert(other) {
                        next.push(other);
                    }
                    ControlFlow::Continue(())
                })
            };
            let found = self.visit_own(blocking, &mut visit);
            match found {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(None) => return None,
                ControlFlow::Break(Some(())) => return Some(true),
            }
        }
        Some(false)
    }

    /// Calls a function for the locks of a family, and for its requests with their numbers.
    fn visit_own<B>(
        &self,
        family: u64,
        function: &mut impl FnMut(&Entry, Option<u64>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for owner in self.members(family) {
            for held in self.held.of_owner(owner) {
                function(held, None)?;
            }
        }
        let requests = self.by_family.get(&family);
        for number in requests.into_iter().flatten() {
            match self.requests.get(number).map(|request| &request.status) {
                Some(Status::Granted(place)) => function(self.held.tree.entry(*place), None)?,
                Some(Status::Waits { place, .. }) => {
                    function(self.waiting.entry(*place), Some(*number))?;
                }
                Some(Status::Failed(_)) | None => {}
            }
        }
        ControlFlow::Continue(())
    }

    /// How a search came to a request, and what closed the cycle there.
    fn path_to(
        &self,
        end: u64,
        closing: Blocker,
        reached: &HashMap<u64, Option<(u64, Blocker)>>,
    ) -> Vec<Wait> {
        let mut cycle = Vec::new();
        let mut step = Some((end, closing));
        while let Some((number, for_what)) = step {
            if let Some(asked) = self.queued(number) {
                cycle.push(Wait {
                    number,
                    owner: asked.owner,
                    mode: asked.mode,
                    range: asked.range.clone(),
                    for_what,
                });
            }
            step = reached.get(&number).cloned().flatten();
        }
        cycle.reverse();
        cycle
    }
}

/// The error of the one that has to give way.
pub(super) fn explain(cycle: &[Wait], victim: u64) -> Error {
    let mut message = String::from("a deadlock: ");
    for (index, wait) in cycle.iter().take(WAITS_SHOWN).enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        let Wait {
            owner,
            mode,
            range,
            for_what,
            ..
        } = wait;
        let _ = write!(
            message,
            "{separator}{owner} waits for {range} ({mode}), and {for_what}"
        );
    }
    if let Some(more) = cycle.len().checked_sub(WAITS_SHOWN + 1) {
        let _ = write!(message, "; and {} more", more + 1);
    }
    if let Some(wait) = cycle.iter().find(|wait| wait.number == victim) {
        let _ = write!(
            message,
            "; {} is the youngest of them and has to give way",
            wait.owner
        );
    }
    Error::new(ErrorKind::Deadlock, message)
}
