//! Waiting for a future on the caller's own thread, without a runtime.
//!
//! While a thread waits here, models may do blocking calls inline: [`in_blocking_face`] tells.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use pin_project_lite::pin_project;

thread_local! {
    static WAITING: Cell<bool> = const { Cell::new(false) };
    static WAKER: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

struct Waiting {
    before: bool,
}

impl Drop for Waiting {
    #[inline]
    fn drop(&mut self) {
        WAITING.set(self.before);
    }
}

/// Whether this thread is inside [`block_on`], so that blocking calls hold nobody else up.
#[inline]
pub(crate) fn in_blocking_face() -> bool {
    WAITING.get()
}

/// Drives a future to its end on this thread. A ready future costs one poll and nothing else.
///
/// All of it is one function, so that a future whose `poll` is inlined need not be in memory: what
/// answers at once costs what the same code would without a future.
#[inline(always)]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let _waiting = Waiting {
        before: WAITING.replace(true),
    };
    let mut future = pin!(future);
    // What is in memory is ready at once, and needs nobody to be woken.
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
        return output;
    }
    let waker = waker();
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}

/// Wakes this thread when it is parked.
#[cold]
fn waker() -> Waker {
    WAKER.with(Waker::clone)
}

pin_project! {
    /// See [`overlapping`].
    pub(crate) struct Overlapping<F> {
        #[pin]
        future: F,
    }
}

/// Has the blocking calls of a future done by others although somebody waits for it: for one that
/// asks for several things at once.
pub(crate) fn overlapping<F: Future>(future: F) -> Overlapping<F> {
    Overlapping { future }
}

impl<F: Future> Future for Overlapping<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _waiting = Waiting {
            before: WAITING.replace(false),
        };
        self.project().future.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_future_woken_by_another_thread_is_waited_for() {
        let (sender, receiver) = futures::channel::oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver), Ok(7));
        thread.join().unwrap().unwrap();
        assert!(!in_blocking_face());
    }
}
