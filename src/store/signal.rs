//! A signal that tasks and threads wait for: something changed, look again.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::gate::lock;

/// Wakes everybody who waits, each time it is given.
#[derive(Default)]
pub(crate) struct Signal {
    given: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Signal {
    /// How often it was given: to be asked before the condition is, so that no signal is missed.
    pub(crate) fn count(&self) -> u64 {
        self.given.load(Ordering::Acquire)
    }

    pub(crate) fn give(&self) {
        self.given.fetch_add(1, Ordering::AcqRel);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until it has been given more often than `count`.
    pub(crate) async fn after(&self, count: u64) {
        poll_fn(|context| {
            let mut waiting = lock(&self.waiting);
            if self.count() > count {
                return Poll::Ready(());
            }
            waiting.retain(|waker| !waker.will_wake(context.waker()));
            waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The same for a thread, for some time at most.
    pub(crate) fn after_or_timeout(&self, count: u64, timeout: Duration) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let until = Instant::now() + timeout;
        loop {
            {
                let mut waiting = lock(&self.waiting);
                if self.count() > count {
                    return;
                }
                waiting.retain(|other| !other.will_wake(&waker));
                waiting.push(waker.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                lock(&self.waiting).retain(|other| !other.will_wake(&waker));
                return;
            }
            thread::park_timeout(left);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
