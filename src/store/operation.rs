//! [`Operation`]: what every call that may touch the disk returns.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::disk::block_on;

pin_project! {
    /// Work that may touch the disk: to be awaited, on any executor, or waited for.
    ///
    /// Nothing happens before the first poll. No runtime is needed and none is started: waiting
    /// does blocking calls on the caller's own thread, awaiting hands them to a small pool of the
    /// disk. What is in memory is answered at the first poll, without a wake-up.
    ///
    /// ```
    /// # let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// let value = futures::executor::block_on(async { store.get("k").await })?;
    /// assert_eq!(value.as_deref(), Some(&b"v"[..]));
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[must_use = "nothing happens before an operation is awaited or waited for"]
    pub struct Operation<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Operation<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future }
    }

    /// Does the work on this thread, and blocks it until it is done. Not for code that runs on an
    /// asynchronous executor: there, `.await` it.
    ///
    /// ```
    /// let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[inline]
    pub fn wait(self) -> F::Output {
        block_on(self.future)
    }
}

impl<F: Future> Future for Operation<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(context)
    }
}
