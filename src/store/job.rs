//! Work that must not stop half-way because whoever asked for it lost interest.
//!
//! A future may be dropped at any await. What maintenance, a large commit and `close` change in
//! memory between two awaits would then contradict the disk. So such work becomes a job: a thread
//! that waits does it itself, in one go; a task hands it to the store's thread and awaits the answer.
//! Only where there is no such thread ([`Maintenance::Caller`]) does a task do it inline.
//!
//! A job that panics poisons the store. The panic goes to the caller on whose thread it was; a task
//! whose job it was on the store's thread gets the error.

use std::collections::VecDeque;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::lock::OwnedMutexGuard;

use super::core::Core;
use super::gate::lock;
use super::maintenance::Maintaining;
use super::options::Maintenance;
use crate::disk::{block_on, in_blocking_face};
use crate::error::{Error, ErrorKind, Result};

/// Jobs that wait for the store's thread. `None`: it has ended.
pub(super) struct Jobs {
    waiting: Mutex<Option<VecDeque<BoxFuture<'static, ()>>>>,
}

impl Jobs {
    pub(super) fn new(maintenance: Maintenance) -> Self {
        let waiting = match maintenance {
            Maintenance::Background => Some(VecDeque::new()),
            Maintenance::Caller => None,
        };
        Self {
            waiting: Mutex::new(waiting),
        }
    }

    /// Does those that wait: called by the store's thread.
    pub(super) fn run(&self) {
        while let Some(job) = self.next() {
            block_on(job);
        }
    }

    fn next(&self) -> Option<BoxFuture<'static, ()>> {
        lock(&self.waiting).as_mut()?.pop_front()
    }

    /// The store's thread is about to end: does what is left and takes no more.
    pub(super) fn end(&self) {
        let left = lock(&self.waiting).take();
        left.into_iter().flatten().for_each(block_on);
    }
}

/// The maintenance to oneself. A panic poisons the store before anybody else has it.
pub(super) struct Exclusive<G> {
    core: Arc<Core>,
    state: G,
}

impl<G> Exclusive<G> {
    pub(super) fn new(core: &Arc<Core>, state: G) -> Self {
        let core = Arc::clone(core);
        Self { core, state }
    }
}

impl<G: Deref<Target = Maintaining>> Deref for Exclusive<G> {
    type Target = Maintaining;

    fn deref(&self) -> &Maintaining {
        &self.state
    }
}

impl<G: DerefMut<Target = Maintaining>> DerefMut for Exclusive<G> {
    fn deref_mut(&mut self) -> &mut Maintaining {
        &mut self.state
    }
}

impl<G> Drop for Exclusive<G> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.core.poison_by_panic();
        }
    }
}

impl Core {
    /// Does some work to its end, whether the future that this gives is dropped or not.
    pub(super) async fn run_job<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let job = async move {
            // Nobody may be listening any more: the work is done all the same.
            let _ = sender.send(work.await);
        };
        let mut job = Some(job.boxed());
        if !in_blocking_face()
            && let Some(waiting) = &mut *lock(&self.jobs.waiting)
        {
            waiting.extend(job.take());
        }
        match job {
            Some(job) => {
                if let Err(panic) = self.poisoning(|| block_on(job)) {
                    resume_unwind(panic);
                }
            }
            None => self.work.give(),
        }
        receiver.await.unwrap_or_else(|_| {
            // It may have panicked there.
            self.check_poisoned()?;
            Err(Error::new(
                ErrorKind::Closed,
                "the store's thread ended before the work was done",
            ))
        })
    }

    /// Does some work with the maintenance to itself, to its end.
    pub(super) async fn exclusively<T: Send + 'static, F>(
        self: &Arc<Self>,
        work: impl FnOnce(Arc<Self>, Exclusive<OwnedMutexGuard<Maintaining>>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        // Waited for here and not in the job: who holds it may need the store's thread to go on.
        let state = Arc::clone(&self.maintaining).lock_owned().await;
        self.check_open()?;
        let state = Exclusive::new(self, state);
        self.run_job(work(Arc::clone(self), state)).await
    }
}
