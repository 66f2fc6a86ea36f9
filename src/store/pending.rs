//! [`Pending`]: a boxed future that only whoever has it to himself touches.
//!
//! It is there so that what it is part of can be shared by reference between threads, as most types
//! of the interface can: a boxed future by itself could not.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// One that borrows nothing.
pub(super) type Pending<T> = PendingIn<'static, T>;

/// The mutex is never locked.
pub(super) struct PendingIn<'p, T>(Mutex<Pin<Box<dyn Future<Output = T> + Send + 'p>>>);

impl<'p, T> PendingIn<'p, T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'p) -> Self {
        Self(Mutex::new(Box::pin(future)))
    }
}

impl<T> Future for PendingIn<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        future.as_mut().poll(context)
    }
}
