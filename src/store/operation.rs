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
    #[inline]
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

/// What can be done without waiting for anybody; a future only where that is not enough.
///
/// It keeps no state but its arguments until then, so that what succeeds at once costs what the same
/// function would, called directly.
pub(super) struct LookFirst<A, N, L, F> {
    look: N,
    /// Until it is done, or somebody has to be waited for.
    asked: Option<(A, L)>,
    loading: Option<Pin<Box<F>>>,
}

impl<A, N, L, F> LookFirst<A, N, L, F> {
    /// What `look` does not answer goes to `load`, with its arguments.
    #[inline]
    pub(super) fn new<T>(arguments: A, look: N, load: L) -> Self
    where
        N: Fn(&mut A) -> Option<T>,
        L: FnOnce(A) -> F,
        F: Future<Output = T>,
    {
        Self {
            look,
            asked: Some((arguments, load)),
            loading: None,
        }
    }
}

/// Nothing is pinned in place: what is loaded has a box of its own.
impl<A, N, L, F> Unpin for LookFirst<A, N, L, F> {}

impl<T, A, N, L, F> Future for LookFirst<A, N, L, F>
where
    N: Fn(&mut A) -> Option<T>,
    L: FnOnce(A) -> F,
    F: Future<Output = T>,
{
    type Output = T;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Self {
            look,
            asked,
            loading,
        } = &mut *self;
        if let Some((arguments, _)) = asked
            && let Some(found) = look(arguments)
        {
            *asked = None;
            return Poll::Ready(found);
        }
        if let Some((arguments, load)) = asked.take() {
            *loading = Some(boxed(load(arguments)));
        }
        let loading = loading.as_mut();
        let loading = loading.expect("an operation is over and polled again");
        loading.as_mut().poll(context)
    }
}

#[cold]
fn boxed<F>(future: F) -> Pin<Box<F>> {
    Box::pin(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready when it is polled for the third time.
    async fn third<T>(value: T) -> T {
        let mut polls = 0;
        std::future::poll_fn(|context| {
            polls += 1;
            context.waker().wake_by_ref();
            match polls {
                3 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        value
    }

    #[test]
    fn what_is_not_answered_at_once_is_driven_to_its_end() {
        for number in 0..4u32 {
            let looked = std::cell::Cell::new(0);
            let look = |number: &mut u32| {
                looked.set(looked.get() + 1);
                number.is_multiple_of(2).then_some(*number)
            };
            let operation = Operation::new(LookFirst::new(number, look, third));
            assert_eq!(operation.wait(), number);
            assert_eq!(looked.get(), 1);
        }
    }

    #[test]
    #[should_panic(expected = "over")]
    fn what_is_over_is_not_done_again() {
        let mut first = LookFirst::new(1u32, |number: &mut u32| Some(*number), third);
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(Pin::new(&mut first).poll(&mut context), Poll::Ready(1));
        _ = Pin::new(&mut first).poll(&mut context);
    }
}
