//! [`Pending`]: a boxed future that only whoever has it to himself touches.
//!
//! It is there so that what it is part of can be shared by reference between threads, as most types
//! of the interface can: a boxed future by itself could not.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

/// The mutex is never locked.
pub(super) struct Pending<T>(Mutex<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T> Pending<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(future)))
    }
}

impl<T> Future for Pending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let future = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        future.as_mut().poll(context)
    }
}
