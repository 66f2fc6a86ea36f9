//! The lock table under a model checker: tasks that are interleaved at every step of theirs, by chance
//! and, where they are few, with every switch that matters. What must hold: locks exclude, nobody
//! waits for ever, deadlocks are ended, and dropped futures leave nothing.

#![expect(dead_code, reason = "the library uses what is not used here")]

mod error {
    pub(crate) use thunderhead::{Error, ErrorKind, Result};
}
mod transaction;

use std::pin::pin;
use std::task::{Context, Waker};

use shuttle::future::{block_on, spawn, yield_now};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::{check_dfs, check_pct, check_random};

use error::ErrorKind;
use transaction::locks::LockMode::{Exclusive, Shared};
use transaction::locks::{LockMode, LockRange, LockTable, Wanted};

const ROUNDS: usize = 2000;

fn point(key: u8) -> LockRange {
    LockRange::point(&[key])
}

/// By chance, with few changes of the task that runs, and at large.
fn check(test: fn()) {
    check_random(test, ROUNDS);
    check_pct(test, ROUNDS, 3);
}

/// Who is inside of what a lock guards: one for each reader, a thousand for a writer.
#[derive(Clone, Default)]
struct Inside(Arc<AtomicUsize>);

impl Inside {
    async fn visit(&self, mode: LockMode) {
        let weight = if mode == Shared { 1 } else { 1000 };
        let before = self.0.fetch_add(weight, Ordering::SeqCst);
        assert!(if mode == Shared {
            before < 1000
        } else {
            before == 0
        });
        yield_now().await;
        self.0.fetch_sub(weight, Ordering::SeqCst);
    }
}

#[test]
fn locks_exclude_and_everybody_has_a_turn() {
    check(|| {
        let table = LockTable::new();
        let inside = Inside::default();
        let tasks = [Shared, Exclusive, Shared, Exclusive].map(|mode| {
            let (table, inside) = (table.clone(), inside.clone());
            spawn(async move {
                let owner = table.owner();
                table.lock(&owner, point(1), mode).await.unwrap();
                inside.visit(mode).await;
            })
        });
        for task in tasks {
            block_on(task).unwrap();
        }
        assert!(table.is_idle());
    });
}

#[test]
fn of_those_who_wait_for_each_other_one_goes_on() {
    check(|| {
        let table = LockTable::new();
        let deadlocks = Arc::new(AtomicUsize::new(0));
        let tasks = [(1, 2), (2, 3), (3, 1)].map(|(first, then)| {
            let (table, deadlocks) = (table.clone(), Arc::clone(&deadlocks));
            spawn(async move {
                let owner = table.owner();
                table.lock(&owner, point(first), Exclusive).await.unwrap();
                if let Err(error) = table.lock(&owner, point(then), Exclusive).await {
                    assert_eq!(error.kind(), ErrorKind::Deadlock);
                    deadlocks.fetch_add(1, Ordering::SeqCst);
                }
            })
        });
        for task in tasks {
            block_on(task).unwrap();
        }
        assert!(deadlocks.load(Ordering::SeqCst) <= 1);
        assert!(table.is_idle());
    });
}

#[test]
fn a_future_that_is_dropped_at_any_time_leaves_nothing() {
    check_dfs(
        || {
            let table = LockTable::new();
            let holder = table.owner();
            assert!(
                table
                    .try_lock(&holder, &point(1), Exclusive)
                    .unwrap()
                    .is_none()
            );
            let gives_up = spawn({
                let table = table.clone();
                async move {
                    let owner = table.owner();
                    let locking = pin!(table.lock(&owner, point(1), Exclusive));
                    let _ = locking.poll(&mut Context::from_waker(Waker::noop()));
                    yield_now().await;
                }
            });
            let waits = spawn({
                let table = table.clone();
                async move {
                    let owner = table.owner();
                    table.lock(&owner, point(1), Exclusive).await.unwrap();
                }
            });
            drop(holder);
            block_on(gives_up).unwrap();
            block_on(waits).unwrap();
            assert!(table.is_idle());
        },
        Some(20_000),
    );
}

#[test]
fn writes_that_met_a_lock_are_excluded_like_others() {
    check(|| {
        let table = LockTable::new();
        let inside = Inside::default();
        let writers = [(), ()].map(|()| {
            let (table, inside) = (table.clone(), inside.clone());
            spawn(async move {
                let wanted = || [Wanted::Key(&[1])];
                let mut passage = None;
                loop {
                    let party = passage.as_ref().map(transaction::locks::Owner::id);
                    let met = table.met(party, wanted());
                    if met.is_empty() {
                        break;
                    }
                    passage = Some(table.pass(None, passage, met).await.unwrap());
                }
                // Those who met nothing are not excluded: that is for the gate.
                if passage.is_some() {
                    inside.visit(Exclusive).await;
                }
            })
        });
        let locker = {
            let (table, inside) = (table.clone(), inside.clone());
            spawn(async move {
                let owner = table.owner();
                table.lock(&owner, point(1), Shared).await.unwrap();
                inside.visit(Shared).await;
            })
        };
        writers
            .into_iter()
            .for_each(|writer| block_on(writer).unwrap());
        block_on(locker).unwrap();
        assert!(table.is_idle());
    });
}

/// What the gate and the load of the number of locks promise each other, in small: a commit either sees
/// a lock, or has left before the lock is given out.
#[test]
fn a_commit_sees_a_lock_or_is_done_before_it_is_given_out() {
    check(|| {
        let table = LockTable::new();
        let gate = Arc::new(shuttle::sync::Mutex::new(0_usize));
        let value = Arc::new(AtomicUsize::new(0));
        let commits = [(), ()].map(|()| {
            let (table, gate, value) = (table.clone(), Arc::clone(&gate), Arc::clone(&value));
            spawn(async move {
                *gate.lock().unwrap() += 1;
                let sees_none = table.is_idle();
                yield_now().await;
                if sees_none {
                    value.fetch_add(1, Ordering::SeqCst);
                }
                *gate.lock().unwrap() -= 1;
            })
        });
        let locker = {
            let (table, gate, value) = (table.clone(), Arc::clone(&gate), Arc::clone(&value));
            spawn(async move {
                let owner = table.owner();
                table.lock(&owner, point(1), Shared).await.unwrap();
                while *gate.lock().unwrap() > 0 {
                    yield_now().await;
                }
                let before = value.load(Ordering::SeqCst);
                yield_now().await;
                assert_eq!(value.load(Ordering::SeqCst), before);
            })
        };
        commits
            .into_iter()
            .for_each(|commit| block_on(commit).unwrap());
        block_on(locker).unwrap();
    });
}
