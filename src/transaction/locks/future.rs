//! [`Locking`]: waiting for a lock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::LockMode;
use super::owner::Owner;
use super::range::LockRange;
use super::table::{Attempt, Blocker, LockTable, Status};
use crate::error::Result;

/// A lock that is waited for. Dropping it at any time gives up what it asked for.
#[must_use = "nothing is locked before it is polled"]
pub(crate) struct Locking<'o> {
    owner: &'o Owner,
    range: LockRange,
    mode: LockMode,
    may_upgrade: bool,
    step: Step,
}

enum Step {
    Ask,
    /// The number of the request.
    Wait(u64),
    Done,
}

impl LockTable {
    /// Locks a range for an owner, when its turn has come. Dropping the future gives the turn up.
    ///
    /// Errors: `Deadlock`, `UpgradeRefused`, `TooManyLocks`.
    pub(crate) fn lock<'o>(
        &self,
        owner: &'o Owner,
        range: LockRange,
        mode: LockMode,
    ) -> Locking<'o> {
        Locking {
            owner,
            range,
            mode,
            may_upgrade: false,
            step: Step::Ask,
        }
    }

    /// The same for what a commit writes, exclusively: its owner asks for nothing after this, so what
    /// it has shared is upgraded.
    pub(crate) fn lock_to_write<'o>(&self, owner: &'o Owner, range: LockRange) -> Locking<'o> {
        let mut locking = self.lock(owner, range, LockMode::Exclusive);
        locking.may_upgrade = true;
        locking
    }
}

impl Locking<'_> {
    /// What it waits for.
    pub(crate) fn blocker(&self) -> Option<Blocker> {
        let Step::Wait(number) = self.step else {
            return None;
        };
        self.owner.shared.look(|state| {
            let Status::Waits { place, .. } = state.requests.get(&number)?.status else {
                return None;
            };
            state.blocker(state.waiting.entry(place))
        })
    }
}

impl Future for Locking<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Self {
            owner,
            range,
            mode,
            may_upgrade,
            step,
        } = &mut *self;
        let (id, mode) = (owner.id, *mode);
        let poll = owner.shared.change(|state, woken| {
            let number = match *step {
                Step::Done => return Poll::Ready(Ok(())),
                Step::Wait(number) => number,
                Step::Ask => match state.attempt(id, range, mode, *may_upgrade, woken)? {
                    Attempt::Granted => return Poll::Ready(Ok(())),
                    Attempt::Blocked(blocker) => {
                        let number = state.queue(id, range, mode, &blocker, woken);
                        *step = Step::Wait(number);
                        number
                    }
                },
            };
            if let Some(outcome) = state.outcome(number) {
                return Poll::Ready(outcome);
            }
            if let Some(request) = state.requests.get_mut(&number) {
                let waker = context.waker();
                if !request
                    .waker
                    .as_ref()
                    .is_some_and(|old| old.will_wake(waker))
                {
                    woken.drop_later(request.waker.replace(waker.clone()));
                }
            }
            Poll::Pending
        });
        if poll.is_ready() {
            *step = Step::Done;
        }
        poll
    }
}

impl Drop for Locking<'_> {
    fn drop(&mut self) {
        if let Step::Wait(number) = self.step {
            self.owner
                .shared
                .change(|state, woken| state.leave(number, woken));
        }
    }
}
