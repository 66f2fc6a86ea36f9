//! What the tests of the lock table share: futures that are polled by hand, and ranges in short.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::future::Locking;
use super::{LockMode, LockRange, LockTable, Owner};
use crate::error::Result;

pub(super) use super::LockMode::{Exclusive, Shared};

/// A range of keys; no end if that is empty.
pub(super) fn range(low: &str, end: &str) -> LockRange {
    let end = (!end.is_empty()).then_some(end.as_bytes());
    LockRange::new(low.as_bytes(), end).unwrap()
}

pub(super) fn point(key: &str) -> LockRange {
    LockRange::point(key.as_bytes())
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A lock that is asked for, and polled by hand.
pub(super) struct Asked<'o> {
    future: Pin<Box<Locking<'o>>>,
    flag: Arc<Flag>,
}

impl<'o> Asked<'o> {
    pub(super) fn new(
        table: &LockTable,
        owner: &'o Owner,
        range: LockRange,
        mode: LockMode,
    ) -> Self {
        Self::of(table.lock(owner, range, mode))
    }

    pub(super) fn of(future: Locking<'o>) -> Self {
        Self {
            future: Box::pin(future),
            flag: Arc::new(Flag(AtomicBool::new(false))),
        }
    }

    pub(super) fn poll(&mut self) -> Poll<Result<()>> {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.flag));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Polls it for the first time, which must not be enough.
    pub(super) fn waits(mut self) -> Self {
        assert!(self.poll().is_pending());
        self
    }

    /// Whether it was woken since it was polled.
    pub(super) fn is_woken(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst)
    }

    /// It was woken, as it has the lock.
    pub(super) fn assert_granted(&mut self) {
        assert!(self.is_woken());
        assert!(matches!(self.poll(), Poll::Ready(Ok(()))));
    }

    pub(super) fn error(&mut self) -> crate::error::Error {
        match self.poll() {
            Poll::Ready(Err(error)) => error,
            other => panic!("{other:?} instead of an error"),
        }
    }
}

/// Locks what must be free.
pub(super) fn take(table: &LockTable, owner: &Owner, range: LockRange, mode: LockMode) {
    let blocker = table.try_lock(owner, &range, mode).unwrap();
    assert!(blocker.is_none(), "{blocker:?}");
}

/// Whether somebody new could lock it.
pub(super) fn is_free(table: &LockTable, range: LockRange, mode: LockMode) -> bool {
    let somebody = table.owner();
    table.try_lock(&somebody, &range, mode).unwrap().is_none()
}
