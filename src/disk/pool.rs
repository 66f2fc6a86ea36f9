//! A few threads for blocking calls, started when first needed, for callers that must not block.
//!
//! Used by the file disks in the asynchronous face. A call whose future was dropped before a
//! thread took it up is skipped. Dropping the pool waits for the calls that are running.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use futures::channel::oneshot;

type Job = Box<dyn FnOnce() + Send>;

pub(super) struct Pool {
    shared: Arc<Shared>,
    threads_max: usize,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: Vec<JoinHandle<()>>,
    idle: usize,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it held")
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                // What can panic here is the waker of a caller; that must not cost the thread.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = self.state();
            } else if state.stopped {
                return;
            } else {
                state.idle += 1;
                state = self
                    .changed
                    .wait(state)
                    .expect("nobody panics with it held");
                state.idle -= 1;
            }
        }
    }
}

impl Pool {
    /// A pool of at most so many threads, none of them started.
    pub(super) fn new(threads_max: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            threads_max: threads_max.max(1),
        }
    }

    /// Does a piece of work on a thread of the pool. `None`: it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(move || {
            if !sender.is_canceled() {
                let _ = sender.send(work());
            }
        }));
        receiver.await.ok()
    }

    fn submit(&self, job: Job) {
        let mut state = self.shared.state();
        state.jobs.push_back(job);
        if state.idle < state.jobs.len() && state.threads.len() < self.threads_max {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new()
                .name("thunderhead-disk".into())
                .spawn(move || shared.work());
            if let Ok(thread) = started {
                state.threads.push(thread);
            } else if state.threads.is_empty() {
                // No thread is to be had at all: better to block this caller than to fail.
                let job = state.jobs.pop_back().expect("it was put there above");
                drop(state);
                return job();
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopped = true;
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.shared.changed.notify_all();
        for thread in threads {
            // A waker may drop the last owner on one of the threads themselves.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;
    use futures::future::join_all;

    use super::super::block_on;
    use super::*;

    #[test]
    fn no_thread_is_started_before_there_is_work_and_no_more_than_allowed_after() {
        let pool = Pool::new(3);
        assert_eq!(pool.shared.state().threads.len(), 0);
        let results = block_on(join_all((0..50).map(|n| pool.run(move || n * 2))));
        assert_eq!(results, (0..50).map(|n| Some(n * 2)).collect::<Vec<_>>());
        assert!((1..=3).contains(&pool.shared.state().threads.len()));
    }

    #[test]
    fn a_dropped_future_does_no_harm_and_a_panic_is_no_answer() {
        let pool = Pool::new(1);
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..20 {
            let done = Arc::clone(&done);
            let run = pool.run(move || done.fetch_add(1, Ordering::Relaxed));
            assert!(run.now_or_never().is_none_or(|value| value.is_some()));
        }
        assert_eq!(block_on(pool.run(|| panic!("on purpose"))), None::<()>);
        assert_eq!(block_on(pool.run(|| 5)), Some(5));
        drop(pool);
        assert!(done.load(Ordering::Relaxed) <= 20);
    }
}
