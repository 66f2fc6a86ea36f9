//! [`SetOnce`]: a value that one thread sets and any number read afterwards, for a journal's buffers.
//!
//! As `OnceLock`, but whoever comes second is a mistake and need not be waited for, so that setting is
//! one exchange and a store.
#![expect(unsafe_code, reason = "the value is written while it is shared")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, Ordering};

const EMPTY: u8 = 0;
const TAKEN: u8 = 1;
const SET: u8 = 2;

/// See the module.
pub(super) struct SetOnce<T> {
    state: AtomicU8,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: it hands out `&T`, and takes and drops `T`, on any thread that has it.
unsafe impl<T: Send + Sync> Sync for SetOnce<T> {}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(EMPTY),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

impl<T> SetOnce<T> {
    /// Sets the value. Panics if that was done before.
    #[inline]
    pub(super) fn set(&self, value: T) {
        let (relaxed, state) = (Ordering::Relaxed, &self.state);
        let taken = state.compare_exchange(EMPTY, TAKEN, relaxed, relaxed);
        assert!(taken.is_ok(), "it is set once");
        // SAFETY: only the one who took it gets here, and nobody reads it before it is set.
        unsafe { (*self.value.get()).write(value) };
        self.state.store(SET, Ordering::Release);
    }

    /// The value, once it is set.
    #[inline]
    pub(super) fn get(&self) -> Option<&T> {
        let is_set = self.state.load(Ordering::Acquire) == SET;
        // SAFETY: it is written, and was so before it was said to be set; it does not change again.
        is_set.then(|| unsafe { (*self.value.get()).assume_init_ref() })
    }
}

impl<T> Drop for SetOnce<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() == SET {
            // SAFETY: it is written, and nobody else has it any more.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_set_is_seen_whole_and_dropped_once() {
        let value = Arc::new([7u64; 16]);
        let cells: Vec<SetOnce<Arc<[u64; 16]>>> = (0..50).map(|_| SetOnce::default()).collect();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for cell in &cells[..40] {
                        let value = loop {
                            match cell.get() {
                                Some(value) => break value,
                                None => thread::yield_now(),
                            }
                        };
                        assert_eq!(**value, [7; 16]);
                    }
                });
            }
            cells[..40]
                .iter()
                .for_each(|cell| cell.set(Arc::clone(&value)));
        });
        assert_eq!(Arc::strong_count(&value), 41);
        assert!(cells[40].get().is_none());
        drop(cells);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    #[should_panic(expected = "it is set once")]
    fn a_second_value_is_refused() {
        let cell = SetOnce::default();
        cell.set(1);
        cell.set(2);
    }
}
