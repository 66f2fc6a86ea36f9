//! Who may write: many single commits at once, or one transaction alone; first come, first served.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Locks a mutex whose holders keep what it guards consistent at every step.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a [`Gate`] is passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pass {
    Shared,
    Alone,
}

#[derive(Default)]
struct State {
    shared: usize,
    alone: bool,
    next_ticket: u64,
    /// Those who wait, in order: ticket, how, and whom to wake.
    waiting: VecDeque<(u64, Pass, Option<Waker>)>,
}

impl State {
    fn admits(&self, pass: Pass) -> bool {
        match pass {
            Pass::Shared => !self.alone,
            Pass::Alone => !self.alone && self.shared == 0,
        }
    }

    fn enter(&mut self, pass: Pass) {
        match pass {
            Pass::Shared => self.shared += 1,
            Pass::Alone => self.alone = true,
        }
    }

    /// The one whose turn it is now, if it can go.
    fn wake_first(&mut self) -> Option<Waker> {
        let admits = self
            .waiting
            .front()
            .is_some_and(|(_, pass, _)| self.admits(*pass));
        if !admits {
            return None;
        }
        self.waiting
            .front_mut()
            .and_then(|(_, _, waker)| waker.take())
    }
}

/// A fair lock for tasks and threads. See the module.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    state: Arc<Mutex<State>>,
}

impl Gate {
    /// Waits for its turn. Dropping the future gives the turn up.
    pub(crate) fn enter(&self, pass: Pass) -> Entering {
        Entering {
            gate: self.clone(),
            pass,
            ticket: None,
        }
    }
}

/// A turn that is waited for.
pub(crate) struct Entering {
    gate: Gate,
    pass: Pass,
    ticket: Option<u64>,
}

impl Future for Entering {
    type Output = Inside;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Inside> {
        let Self { gate, pass, ticket } = &mut *self;
        let mut state = lock(&gate.state);
        let first = match ticket {
            None => state.waiting.is_empty(),
            Some(ticket) => state
                .waiting
                .front()
                .is_some_and(|(first, ..)| first == ticket),
        };
        if first && state.admits(*pass) {
            if ticket.take().is_some() {
                state.waiting.pop_front();
            }
            state.enter(*pass);
            let next = state.wake_first();
            drop(state);
            next.into_iter().for_each(Waker::wake);
            return Poll::Ready(Inside {
                gate: gate.clone(),
                pass: *pass,
            });
        }
        let waker = Some(context.waker().clone());
        match *ticket {
            Some(ticket) => {
                let mine = state
                    .waiting
                    .iter_mut()
                    .find(|(other, ..)| *other == ticket);
                if let Some((_, _, slot)) = mine {
                    *slot = waker;
                }
            }
            None => {
                let mine = state.next_ticket;
                state.next_ticket += 1;
                state.waiting.push_back((mine, *pass, waker));
                *ticket = Some(mine);
            }
        }
        Poll::Pending
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = lock(&self.gate.state);
        state.waiting.retain(|(other, ..)| *other != ticket);
        let next = state.wake_first();
        drop(state);
        next.into_iter().for_each(Waker::wake);
    }
}

/// Inside the gate, until dropped.
pub(crate) struct Inside {
    gate: Gate,
    pass: Pass,
}

impl Inside {
    /// Whether nobody else is inside.
    pub(crate) fn is_alone(&self) -> bool {
        self.pass == Pass::Alone
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut state = lock(&self.gate.state);
        match self.pass {
            Pass::Shared => state.shared -= 1,
            Pass::Alone => state.alone = false,
        }
        let next = state.wake_first();
        drop(state);
        next.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::disk::block_on;

    #[test]
    fn those_alone_exclude_all_others_and_nobody_is_forgotten() {
        let gate = Gate::default();
        let inside = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..6 {
                let (gate, inside) = (gate.clone(), Arc::clone(&inside));
                scope.spawn(move || {
                    for round in 0..300 {
                        let alone = (number + round) % 3 == 0;
                        let pass = if alone { Pass::Alone } else { Pass::Shared };
                        let _inside = block_on(gate.enter(pass));
                        let weight = if alone { 1000 } else { 1 };
                        let before = inside.fetch_add(weight, Ordering::SeqCst);
                        assert!(if alone { before == 0 } else { before < 1000 });
                        inside.fetch_sub(weight, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_turn_that_is_given_up_goes_to_the_next() {
        let gate = Gate::default();
        let first = block_on(gate.enter(Pass::Alone));
        let mut given_up = Box::pin(gate.enter(Pass::Alone));
        let mut context = Context::from_waker(Waker::noop());
        assert!(given_up.as_mut().poll(&mut context).is_pending());
        let waiter = thread::spawn({
            let gate = gate.clone();
            move || drop(block_on(gate.enter(Pass::Shared)))
        });
        drop(first);
        drop(given_up);
        waiter.join().unwrap();
    }
}
