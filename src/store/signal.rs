//! A signal that tasks and threads wait for: something changed, look again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::gate::lock;
use super::sync::{AtomicU64, Mutex, Ordering};

/// Wakes everybody who waits, each time it is given.
#[derive(Default)]
pub(crate) struct Signal {
    given: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// Who waits, in the order of their tickets.
#[derive(Default)]
struct Waiting {
    wakers: Vec<(u64, Waker)>,
    tickets: u64,
}

impl Signal {
    /// How often it was given: to be asked before the condition is, so that no signal is missed.
    pub(crate) fn count(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    pub(crate) fn give(&self) {
        self.given.fetch_add(1, Ordering::AcqRel);
        let wakers = std::mem::take(&mut lock(&self.waiting).wakers);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Waits until it has been given more often than `count`. Keeps nothing when dropped.
    pub(crate) fn after(&self, count: u64) -> After<'_> {
        After {
            signal: self,
            count,
            ticket: None,
        }
    }

    /// The same for a thread, for some time at most.
    pub(crate) fn after_or_timeout(&self, count: u64, timeout: Duration) {
        let waker = Waker::from(std::sync::Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut after = self.after(count);
        // So long that nobody will see it is for ever.
        let until = Instant::now().checked_add(timeout);
        while Pin::new(&mut after).poll(&mut context).is_pending() {
            let Some(until) = until else {
                thread::park();
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }
}

/// See [`Signal::after`]. Has one waker with the signal at most.
pub(crate) struct After<'a> {
    signal: &'a Signal,
    count: u64,
    /// Under which its waker is kept, once it is.
    ticket: Option<u64>,
}

impl Future for After<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut new = context.waker().clone();
        let mut waiting = lock(&self.signal.waiting);
        if self.signal.count() > self.count {
            return Poll::Ready(());
        }
        let kept = self.ticket.and_then(|ticket| waiting.find(ticket));
        let replaced = match kept {
            Some(at) => {
                std::mem::swap(&mut waiting.wakers[at].1, &mut new);
                Some(new)
            }
            None => {
                waiting.tickets += 1;
                let ticket = waiting.tickets;
                waiting.wakers.push((ticket, new));
                self.ticket = Some(ticket);
                None
            }
        };
        // A waker may be the last that keeps its task, and that may wait for this signal too.
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for After<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let mut waiting = lock(&self.signal.waiting);
        let removed = waiting.find(ticket).map(|at| waiting.wakers.remove(at));
        // As when it is polled: not under the lock.
        drop(waiting);
        drop(removed);
    }
}

impl Waiting {
    fn find(&self, ticket: u64) -> Option<usize> {
        let found = (self.wakers).binary_search_by_key(&ticket, |(ticket, _)| *ticket);
        found.ok()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}
