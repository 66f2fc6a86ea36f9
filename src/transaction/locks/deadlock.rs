//! Who waits for whom: cycles in it are found the moment they would begin.
//!
//! Only a new request adds to what somebody waits for, or a release to what the same family's requests
//! wait for: a new cycle goes through one of those, and a search from there is enough. A family waits for all that its requests wait for, as it releases nothing
//! before it has them all. What a request waits for is looked up, not kept: conflicting locks that
//! others hold, and conflicting requests that came before it.

use std::collections::HashMap;
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
        let origin = first.owner;
        if !self.may_be_waited_for(first) {
            return None;
        }
        // By whom each request was reached, and by what of its family.
        let mut reached: HashMap<u64, Option<(u64, Blocker)>> = HashMap::from([(start, None)]);
        let mut next = vec![start];
        while let Some(number) = next.pop() {
            let Some(asked) = self.queued(number) else {
                continue;
            };
            let closing = self.visit_blockers(asked, &mut |entry, is_held| {
                if entry.owner.family == origin.family {
                    return ControlFlow::Break(Blocker::new(entry, is_held));
                }
                let requests = self.by_family.get(&entry.owner.family);
                for other in requests.into_iter().flatten() {
                    if self.queued(*other).is_some() && !reached.contains_key(other) {
                        let through = (number, Blocker::new(entry, is_held));
                        reached.insert(*other, Some(through));
                        next.push(*other);
                    }
                }
                ControlFlow::Continue(())
            });
            if let ControlFlow::Break(blocker) = closing {
                return Some(self.path_to(number, blocker, &reached));
            }
        }
        None
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
    for (index, wait) in cycle.iter().enumerate() {
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
    if let Some(wait) = cycle.iter().find(|wait| wait.number == victim) {
        let _ = write!(
            message,
            "; {} is the youngest of them and has to give way",
            wait.owner
        );
    }
    Error::new(ErrorKind::Deadlock, message)
}
