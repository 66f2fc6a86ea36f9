//! [`Tally`]: a count of what many threads do all the time.
//!
//! A counter that all threads share would be passed from processor to processor with each call. So
//! each thread counts in a place of its own, by a load and a store. Were there more threads than
//! places, two might count at the same moment as one.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const PLACES: usize = 64;

/// Apart, as processors pass on memory in such pieces.
#[derive(Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

pub(super) struct Tally {
    places: Box<[Counter; PLACES]>,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The place of the thread.
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            places: Box::new(std::array::from_fn(|_| Counter::default())),
        }
    }

    #[inline]
    pub(super) fn count(&self) {
        let mut place = PLACE.get();
        if place == usize::MAX {
            place = new_place();
        }
        // It is below already; this way nobody has to check.
        let counter = &self.places[place % PLACES].0;
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        let places = self.places.iter();
        places.map(|place| place.0.load(Ordering::Relaxed)).sum()
    }
}

#[cold]
fn new_place() -> usize {
    let place = THREADS.fetch_add(1, Ordering::Relaxed) % PLACES;
    PLACE.set(place);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_without_losing_anything() {
        let tally = Tally::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| tally.count()));
            }
        });
        assert_eq!(tally.sum(), 40_000);
    }
}
