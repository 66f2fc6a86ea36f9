//! The queue of commits, the gate, the signals and publication under a model checker: tasks that are interleaved at
//! every step of theirs, by chance and, where they are few, with every switch that matters. What must
//! hold: one writes at a time, nobody is forgotten, nothing is done twice or never, and dropped futures
//! hold nobody up. A task that waits for ever is found by the checker.

#![expect(dead_code, reason = "the library uses what is not used here")]

mod cache;
mod publication;
mod snapshot;
mod store;

mod format {
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
    pub(crate) struct SequenceNumber(pub(crate) u64);
}

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::sync::{Arc, Mutex};
use shuttle::{check_dfs, check_pct, check_random};

use store::gate::{Gate, Pass};
use store::queue::{InQueue, Queue, Write};
use store::signal::Signal;

const ROUNDS: usize = 2000;

/// By chance, with few changes of the task that runs, and at large.
fn check(test: fn()) {
    check_random(test, ROUNDS);
    check_pct(test, ROUNDS, 3);
}

fn join<T>(tasks: impl IntoIterator<Item = JoinHandle<T>>) {
    tasks
        .into_iter()
        .for_each(|task| drop(block_on(task).unwrap()));
}

/// A log that takes one group at a time, and some time for it.
#[derive(Clone)]
struct Log(Arc<Inside>);

struct Inside {
    queue: Queue<usize, usize>,
    writing: AtomicBool,
    written: Mutex<Vec<usize>>,
    together_max: usize,
}

impl Log {
    fn new(together_max: usize) -> Self {
        Self(Arc::new(Inside {
            queue: Queue::new(2),
            writing: AtomicBool::new(false),
            written: Mutex::default(),
            together_max,
        }))
    }

    async fn write_one(&self, number: usize) -> usize {
        assert!(
            !self.0.writing.swap(true, Ordering::SeqCst),
            "two at a time"
        );
        yield_now().await;
        let mut written = self.0.written.lock().unwrap();
        written.push(number);
        let place = written.len();
        drop(written);
        self.0.writing.store(false, Ordering::SeqCst);
        place
    }

    /// As a thread that waits, or as a task: alone if that is possible, else in the queue.
    async fn commit(&self, number: usize, on_thread: bool, brief: bool) {
        let place = match self.0.queue.turn_soon(brief) {
            Some(turn) => {
                let place = self.write_one(number).await;
                drop(turn);
                place
            }
            None => self.enter(number, on_thread).await,
        };
        assert_eq!(self.0.written.lock().unwrap()[place - 1], number);
    }

    fn enter(&self, number: usize, on_thread: bool) -> InQueue<'_, Self> {
        Queue::enter(self, number, on_thread)
    }

    /// Each of so many was written once.
    fn assert_written(&self, count: usize) {
        let mut written = self.0.written.lock().unwrap().clone();
        written.sort_unstable();
        assert_eq!(written, Vec::from_iter(0..count));
    }
}

impl Write for Log {
    type Entry = usize;
    type Outcome = usize;

    fn queue(&self) -> &Queue<usize, usize> {
        &self.0.queue
    }

    fn together<'e>(&self, waiting: impl Iterator<Item = &'e usize>) -> usize {
        waiting.take(self.0.together_max).count()
    }

    async fn write(&self, entries: Vec<usize>) -> Vec<usize> {
        let mut places = Vec::new();
        for entry in entries {
            places.push(self.write_one(entry).await);
        }
        places
    }
}

/// Polls a future once, with nobody to wake.
fn poll_once(future: Pin<&mut impl Future>) {
    let _ = future.poll(&mut Context::from_waker(Waker::noop()));
}

/// Threads that wait, or tasks, or both.
fn everybody_commits_once(on_thread: fn(usize) -> bool, together_max: usize) {
    let log = Log::new(together_max);
    join((0..4).map(|number| {
        let log = log.clone();
        spawn(async move { log.commit(number, on_thread(number), number != 1).await })
    }));
    log.assert_written(4);
    assert!(!block_on(Queue::advance(&log)));
}

#[test]
fn threads_write_one_at_a_time_and_none_is_forgotten() {
    check(|| everybody_commits_once(|_| true, 4));
    check(|| everybody_commits_once(|_| true, 1));
}

#[test]
fn tasks_write_one_at_a_time_and_none_is_forgotten() {
    check(|| everybody_commits_once(|_| false, 4));
    check(|| everybody_commits_once(|_| false, 1));
}

#[test]
fn threads_and_tasks_write_one_at_a_time_and_none_is_forgotten() {
    check(|| everybody_commits_once(|number| number % 2 == 0, 4));
    check(|| everybody_commits_once(|number| number % 2 == 0, 2));
}

/// A few, so that every order can be tried.
#[test]
fn the_last_to_enter_is_woken_by_the_one_who_ends_whatever_the_order() {
    for on_thread in [false, true] {
        let test = move || {
            let log = Log::new(1);
            let turn = log.0.queue.turn(false).unwrap();
            let enters = spawn({
                let log = log.clone();
                async move { log.enter(0, on_thread).await }
            });
            drop(turn);
            block_on(enters).unwrap();
            log.assert_written(1);
        };
        check_dfs(test, Some(20_000));
    }
}

#[test]
fn who_is_dropped_on_the_way_holds_nobody_up_and_is_written_all_the_same() {
    fn test(on_thread: fn(usize) -> bool) {
        let log = Log::new(2);
        let dropped = Arc::new(AtomicUsize::new(0));
        let gives_up = [0, 1].map(|number| {
            let (log, dropped) = (log.clone(), Arc::clone(&dropped));
            spawn(async move {
                let mut waits = log.enter(number, on_thread(number));
                let mut polls = 0;
                poll_fn(|context| {
                    polls += 1;
                    if Pin::new(&mut waits).poll(context).is_ready() || polls > number {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                })
                .await;
                drop(waits);
                dropped.fetch_add(1, Ordering::SeqCst);
            })
        });
        let waits = [2, 3].map(|number| {
            let log = log.clone();
            spawn(async move { log.commit(number, on_thread(number), true).await })
        });
        join(waits);
        join(gives_up);
        // What the maintenance does when it hears of that.
        while block_on(Queue::advance(&log)) {}
        log.assert_written(4);
    }
    check(|| test(|_| true));
    check(|| test(|_| false));
    check(|| test(|number| number % 2 == 0));
}

#[test]
fn a_task_that_is_never_polled_again_holds_no_thread_up() {
    check(|| {
        let log = Log::new(2);
        let forgotten = spawn({
            let log = log.clone();
            async move {
                let mut waits = pin!(log.enter(0, false));
                poll_once(waits.as_mut());
                // Kept, and neither polled nor dropped, until the others are done.
                while log.0.written.lock().unwrap().len() < 3 {
                    yield_now().await;
                }
            }
        });
        join([1, 2].map(|number| {
            let log = log.clone();
            spawn(async move { log.commit(number, true, false).await })
        }));
        while block_on(Queue::advance(&log)) {}
        block_on(forgotten).unwrap();
        log.assert_written(3);
    });
}

#[test]
fn who_is_not_in_the_queue_waits_for_the_turn_to_end() {
    check(|| {
        let log = Log::new(4);
        let commits = [0, 1].map(|number| {
            let log = log.clone();
            spawn(async move { log.commit(number, true, number == 0).await })
        });
        let gives_up = spawn({
            let log = log.clone();
            async move { poll_once(pin!(log.enter(2, true))) }
        });
        let outside = spawn({
            let log = log.clone();
            async move { while Queue::advance(&log).await {} }
        });
        block_on(outside).unwrap();
        join(commits);
        block_on(gives_up).unwrap();
        while block_on(Queue::advance(&log)) {}
        log.assert_written(3);
    });
}

/// Who is inside the gate: one for each of many, a thousand for one alone.
async fn visit(inside: &AtomicUsize, pass: Pass) {
    let alone = pass == Pass::Alone;
    let weight = if alone { 1000 } else { 1 };
    let before = inside.fetch_add(weight, Ordering::SeqCst);
    assert!(if alone { before == 0 } else { before < 1000 });
    yield_now().await;
    inside.fetch_sub(weight, Ordering::SeqCst);
}

#[test]
fn those_alone_exclude_all_others_and_everybody_has_a_turn() {
    check(|| {
        let gate = Gate::default();
        let visitors = Arc::new(AtomicUsize::new(0));
        let passes = [Pass::Shared, Pass::Alone, Pass::Shared, Pass::Alone];
        join(passes.map(|pass| {
            let (gate, visitors) = (gate.clone(), Arc::clone(&visitors));
            spawn(async move {
                for _ in 0..2 {
                    let _inside = gate.enter(pass).await;
                    visit(&visitors, pass).await;
                }
            })
        }));
        assert!(
            gate.enter_now(Pass::Alone).is_some(),
            "nobody is left inside"
        );
    });
}

#[test]
fn a_place_at_the_gate_that_is_given_up_holds_nobody_up() {
    for pass in [Pass::Shared, Pass::Alone] {
        let test = move || {
            let gate = Gate::default();
            let inside = gate.enter_now(Pass::Alone).unwrap();
            let gives_up = spawn({
                let gate = gate.clone();
                async move {
                    poll_once(pin!(gate.enter(Pass::Alone)));
                }
            });
            let waits = spawn({
                let gate = gate.clone();
                async move { drop(gate.enter(pass).await) }
            });
            drop(inside);
            join([gives_up, waits]);
            assert!(gate.enter_now(Pass::Alone).is_some());
        };
        check_dfs(test, Some(20_000));
    }
}

#[test]
fn nobody_goes_ahead_of_one_who_waits_at_the_gate() {
    check_dfs(
        || {
            let gate = Gate::default();
            let inside = gate.enter_now(Pass::Shared).unwrap();
            let mut waits = pin!(gate.enter(Pass::Alone));
            poll_once(waits.as_mut());
            let leaves = spawn(async move { drop(inside) });
            for pass in [Pass::Shared, Pass::Alone] {
                assert!(gate.enter_now(pass).is_none());
            }
            block_on(leaves).unwrap();
            assert!(gate.enter_now(Pass::Alone).is_none());
            drop(block_on(waits));
            assert!(gate.enter_now(Pass::Alone).is_some());
        },
        Some(20_000),
    );
}

#[test]
fn a_signal_between_the_look_and_the_wait_is_not_missed() {
    check_dfs(
        || {
            let shared = Arc::new((Signal::default(), AtomicUsize::new(0)));
            let gives = spawn({
                let shared = Arc::clone(&shared);
                async move {
                    for _ in 0..2 {
                        shared.1.fetch_add(1, Ordering::SeqCst);
                        shared.0.give();
                    }
                }
            });
            let waits = spawn({
                let shared = Arc::clone(&shared);
                async move {
                    loop {
                        let count = shared.0.count();
                        if shared.1.load(Ordering::SeqCst) == 2 {
                            return;
                        }
                        // One that is dropped takes nothing with it.
                        poll_once(pin!(shared.0.after(count)));
                        shared.0.after(count).await;
                    }
                }
            });
            join([gives, waits]);
        },
        Some(20_000),
    );
}
