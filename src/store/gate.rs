//! Who may write: many single commits at once, or one transaction alone; first come, first served.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::sync::{Arc, AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError};

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

/// Somebody is inside alone.
const ALONE: usize = 1;
/// Somebody waits: whoever comes goes behind them, and whoever leaves looks for them.
const AWAITED: usize = 2;
/// One of those who are inside together.
const SHARED: usize = 4;

/// Who is inside, and who waits. Where nobody waits, entering and leaving is one exchange each.
#[derive(Default)]
struct State {
    /// The marks above, and how many are inside together. Changed with or without the lock; but
    /// only with it from waited for to not waited for, or by one who waited.
    inside: AtomicUsize,
    line: Mutex<Line>,
}

/// Those who wait.
#[derive(Default)]
struct Line {
    next_ticket: u64,
    /// In order: ticket, how, and whom to wake.
    waiting: VecDeque<(u64, Pass, Option<Waker>)>,
}

/// Whether those who are inside let somebody in.
#[inline]
fn admits(inside: usize, pass: Pass) -> bool {
    match pass {
        Pass::Shared => inside & ALONE == 0,
        Pass::Alone => inside & !AWAITED == 0,
    }
}

impl State {
    /// Enters if nobody is in the way, not even one who waits unless that is the caller.
    #[inline]
    fn try_enter(&self, pass: Pass, is_first: bool) -> bool {
        let change = |inside| {
            let entered = match pass {
                Pass::Shared => inside + SHARED,
                Pass::Alone => inside | ALONE,
            };
            (admits(inside, pass) && (is_first || inside & AWAITED == 0)).then_some(entered)
        };
        let outcome = self
            .inside
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        outcome.is_ok()
    }

    #[inline]
    fn leave(&self, pass: Pass) {
        let before = match pass {
            Pass::Shared => self.inside.fetch_sub(SHARED, Ordering::AcqRel),
            Pass::Alone => self.inside.fetch_and(!ALONE, Ordering::AcqRel),
        };
        if before & AWAITED != 0 {
            self.wake_first(lock(&self.line));
        }
    }

    /// Wakes the one whose turn it is now, if it can go. Or notes that nobody waits.
    #[cold]
    fn wake_first(&self, mut line: MutexGuard<'_, Line>) {
        let first = match line.waiting.front_mut() {
            // Whoever leaves after this look does the same.
            Some((_, pass, _)) if !admits(self.inside.load(Ordering::Acquire), *pass) => None,
            Some((_, _, waker)) => waker.take(),
            None => {
                self.inside.fetch_and(!AWAITED, Ordering::AcqRel);
                None
            }
        };
        drop(line);
        first.into_iter().for_each(Waker::wake);
    }

    /// Enters, or takes a place in the line and keeps it: its ticket.
    #[cold]
    fn enter_or_wait(&self, pass: Pass, ticket: Option<u64>, waker: &Waker) -> Option<u64> {
        let waker = waker.clone();
        let mut line = lock(&self.line);
        // Before looking: who leaves after this looks for who waits.
        self.inside.fetch_or(AWAITED, Ordering::AcqRel);
        let first = line.waiting.front().map(|(first, ..)| *first);
        if first == ticket && self.try_enter(pass, true) {
            if ticket.is_some() {
                line.waiting.pop_front();
            }
            self.wake_first(line);
            return None;
        }
        let ticket = ticket.unwrap_or_else(|| {
            line.next_ticket += 1;
            let ticket = line.next_ticket;
            line.waiting.push_back((ticket, pass, None));
            ticket
        });
        let mine = line.waiting.iter_mut().find(|(other, ..)| *other == ticket);
        let replaced = mine.and_then(|(_, _, slot)| slot.replace(waker));
        // A waker may be the last that keeps its task, and that may be inside.
        drop(line);
        drop(replaced);
        Some(ticket)
    }

    /// Gives a place in the line up.
    #[cold]
    fn give_up(&self, ticket: u64) {
        let mut line = lock(&self.line);
        let place = line.waiting.iter().position(|(other, ..)| *other == ticket);
        let removed = place.and_then(|place| line.waiting.remove(place));
        self.wake_first(line);
        drop(removed);
    }
}

/// A fair lock for tasks and threads. See the module.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    state: Arc<State>,
}

impl Gate {
    /// Waits for its turn. Dropping the future gives the turn up.
    #[inline]
    pub(crate) fn enter(&self, pass: Pass) -> Entering<'_> {
        Entering {
            gate: self,
            pass,
            ticket: None,
        }
    }

    /// Enters if that takes no waiting.
    #[inline]
    pub(crate) fn enter_now(&self, pass: Pass) -> Option<Inside> {
        let entered = self.state.try_enter(pass, false);
        entered.then(|| Inside {
            gate: self.clone(),
            pass,
        })
    }
}

/// A turn that is waited for.
pub(crate) struct Entering<'g> {
    gate: &'g Gate,
    pass: Pass,
    ticket: Option<u64>,
}

impl Future for Entering<'_> {
    type Output = Inside;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Inside> {
        let Self { gate, pass, ticket } = &mut *self;
        if ticket.is_some() || !gate.state.try_enter(*pass, false) {
            *ticket = gate
                .state
                .enter_or_wait(*pass, ticket.take(), context.waker());
            if ticket.is_some() {
                return Poll::Pending;
            }
        }
        Poll::Ready(Inside {
            gate: gate.clone(),
            pass: *pass,
        })
    }
}

impl Drop for Entering<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.gate.state.give_up(ticket);
        }
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
    #[inline]
    fn drop(&mut self) {
        self.gate.state.leave(self.pass);
    }
}
