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
    pub struct Operation<F: Future> {
        #[pin]
        future: F,
        first: fn(&mut F) -> Option<F::Output>,
    }
}

impl<F: Future> Operation<F> {
    #[inline]
    pub(crate) fn new(future: F) -> Self {
        let first = |_: &mut F| None;
        Self { future, first }
    }

    /// Does the work on this thread, and blocks it until it is done. Not for code that runs on an
    /// asynchronous executor: there, `.await` it.
    ///
    /// ```
    /// let store = thunderhead::Store::in_memory()?;
    /// store.put("k", "v").wait()?;
    /// # Ok::<(), thunderhead::Error>(())
    /// ```
    #[inline(always)]
    pub fn wait(self) -> F::Output {
        let Self { mut future, first } = self;
        match first(&mut future) {
            Some(found) => found,
            None => block_on(future),
        }
    }
}

impl<A: Look, L: FnOnce(A) -> F, F: Future<Output = A::Found>> Operation<LookFirst<A, L, F>> {
    /// One that whoever waits is given at once, with nothing of a future about it, if the look is all
    /// that it takes; the look must not ask whether somebody waits.
    #[inline]
    pub(super) fn looking(future: LookFirst<A, L, F>) -> Self {
        let first = LookFirst::answer;
        Self { future, first }
    }
}

impl<F: Future> Future for Operation<F> {
    type Output = F::Output;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(context)
    }
}

/// The arguments of what can often be done without waiting for anybody.
pub(super) trait Look: Sized {
    type Found;

    /// Does it, or gives the arguments back, and then nothing was done.
    fn look(self) -> std::result::Result<Self::Found, Self>;
}

/// What can be done without waiting for anybody; a future only where that is not enough.
///
/// It keeps no state but its arguments until then, so that what succeeds at once costs what the same
/// function would, called directly.
pub(super) struct LookFirst<A, L, F> {
    /// Until it is done, or somebody has to be waited for.
    asked: Option<(A, L)>,
    loading: Option<Pin<Box<F>>>,
}

impl<A: Look, L: FnOnce(A) -> F, F: Future<Output = A::Found>> LookFirst<A, L, F> {
    /// What the look does not answer goes to `load`.
    #[inline]
    pub(super) fn new(arguments: A, load: L) -> Self {
        Self {
            asked: Some((arguments, load)),
            loading: None,
        }
    }

    /// Looks, once.
    #[inline(always)]
    fn answer(&mut self) -> Option<A::Found> {
        let (arguments, load) = self.asked.take()?;
        match arguments.look() {
            Ok(found) => Some(found),
            Err(arguments) => {
                self.loading = Some(boxed(load(arguments)));
                None
            }
        }
    }
}

/// Nothing is pinned in place: what is loaded has a box of its own.
impl<A, L, F> Unpin for LookFirst<A, L, F> {}

impl<A: Look, L: FnOnce(A) -> F, F: Future<Output = A::Found>> Future for LookFirst<A, L, F> {
    type Output = A::Found;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<A::Found> {
        if let Some(found) = self.answer() {
            return Poll::Ready(found);
        }
        let loading = self.loading.as_mut();
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
    use std::cell::Cell;

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

    /// A number that is found at once if it is even.
    struct Number<'l> {
        number: u32,
        looked: &'l Cell<u32>,
    }

    impl Look for Number<'_> {
        type Found = u32;

        fn look(self) -> Result<u32, Self> {
            self.looked.set(self.looked.get() + 1);
            match self.number.is_multiple_of(2) {
                true => Ok(self.number),
                false => Err(self),
            }
        }
    }

    #[test]
    fn what_is_not_answered_at_once_is_driven_to_its_end() {
        for number in 0..4u32 {
            let looked = &Cell::new(0);
            let first = || {
                LookFirst::new(Number { number, looked }, |asked: Number<'_>| {
                    third(asked.number)
                })
            };
            assert_eq!(Operation::new(first()).wait(), number);
            assert_eq!(looked.get(), 1);
            assert_eq!(Operation::looking(first()).wait(), number);
            assert_eq!(looked.get(), 2);
            assert_eq!(
                futures::executor::block_on(Operation::looking(first())),
                number
            );
            assert_eq!(looked.get(), 3);
        }
    }

    #[test]
    #[should_panic(expected = "over")]
    fn what_is_over_is_not_done_again() {
        let looked = &Cell::new(0);
        let number = Number { number: 2, looked };
        let mut first = LookFirst::new(number, |asked: Number<'_>| third(asked.number));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert_eq!(Pin::new(&mut first).poll(&mut context), Poll::Ready(2));
        _ = Pin::new(&mut first).poll(&mut context);
    }
}
