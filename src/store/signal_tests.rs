//! A thread that waits for a signal.

use std::thread;
use std::time::Duration;

use super::signal::Signal;

#[test]
fn a_time_without_end_is_waited_for_until_the_signal() {
    let signal = Signal::default();
    let count = signal.count();
    thread::scope(|scope| {
        scope.spawn(|| signal.give());
        signal.after_or_timeout(count, Duration::MAX);
    });
    signal.after_or_timeout(signal.count(), Duration::ZERO);
}
