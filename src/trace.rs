//! What the store tells of itself while it works: events for the `tracing` crate, behind the feature
//! `tracing`. Without it all of this is nothing, clocks included.
//!
//! | event | level | when |
//! | --- | --- | --- |
//! | `opened` | info | a store serves |
//! | `recovered` | info, or debug where there was nothing | the log was replayed |
//! | `flushed` | debug | a journal went into the tree |
//! | `checkpointed` | debug | a root was published |
//! | `compacted` | info | a compaction ended |
//! | `slow commit` | warn | a group of commits took longer than [`SLOW_COMMIT`] |
//! | `poisoned` | error | a write or a sync failed so that the store writes no more |
//! | `in trouble` | warn | the work in the background failed, and is tried again |
//!
//! All have the target `thunderhead`, and their durations are in microseconds.

#[cfg(feature = "tracing")]
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::format::SequenceNumber;
#[cfg(feature = "tracing")]
use tracing::{Level, event};

/// Commits that take longer are told of.
#[cfg(feature = "tracing")]
const SLOW_COMMIT: Duration = Duration::from_millis(100);

/// When something began.
#[derive(Clone, Copy)]
pub(crate) struct Began {
    #[cfg(feature = "tracing")]
    at: Instant,
}

impl Began {
    #[inline]
    pub(crate) fn now() -> Self {
        Self {
            #[cfg(feature = "tracing")]
            at: Instant::now(),
        }
    }

    #[cfg(feature = "tracing")]
    fn microseconds(self) -> u64 {
        self.at.elapsed().as_micros() as u64
    }
}

/// Defines the functions that tell: with the feature, an event; without it, nothing.
macro_rules! telling {
    ($($(#[$documentation:meta])* fn $name:ident($($argument:ident: $type:ty),*) $body:block)+) => {
        $(
            $(#[$documentation])*
            #[cfg_attr(not(feature = "tracing"), expect(unused_variables, reason = "nobody is told"))]
            #[inline]
            pub(crate) fn $name($($argument: $type),*) {
                #[cfg(feature = "tracing")]
                $body
            }
        )+
    };
}

telling! {
    /// A store serves.
    fn opened(began: Began, sequence: SequenceNumber, read_only: bool) {
        event!(target: "thunderhead", Level::INFO, sequence = sequence.0, read_only,
            duration = began.microseconds(), "opened");
    }

    /// The log was replayed.
    fn recovered(began: Began, commits: u64, clean: bool) {
        let duration = began.microseconds();
        if commits > 0 || !clean {
            event!(target: "thunderhead", Level::INFO, commits, clean, duration, "recovered");
        } else {
            event!(target: "thunderhead", Level::DEBUG, commits, clean, duration, "recovered");
        }
    }

    /// A journal went into the tree.
    fn flushed(began: Began, bytes: usize) {
        event!(target: "thunderhead", Level::DEBUG, bytes, duration = began.microseconds(),
            "flushed");
    }

    /// A root was published.
    fn checkpointed(began: Began, through: SequenceNumber) {
        event!(target: "thunderhead", Level::DEBUG, through = through.0,
            duration = began.microseconds(), "checkpointed");
    }

    /// A compaction ended.
    fn compacted(began: Began, bytes_moved: u64, bytes_released: u64) {
        event!(target: "thunderhead", Level::INFO, bytes_moved, bytes_released,
            duration = began.microseconds(), "compacted");
    }

    /// A group of commits was written.
    fn committed(began: Began, commits: usize, bytes: usize) {
        if began.at.elapsed() > SLOW_COMMIT {
            event!(target: "thunderhead", Level::WARN, commits, bytes,
                duration = began.microseconds(), "slow commit");
        }
    }

    /// The store writes no more.
    fn poisoned(error: &Error) {
        event!(target: "thunderhead", Level::ERROR, %error, "poisoned");
    }

    /// The work in the background failed.
    fn in_trouble(error: &Error) {
        event!(target: "thunderhead", Level::WARN, %error, "in trouble");
    }
}
