//! Futures that are dropped, at every point at which they can be.

use super::LockTable;
use super::testing::{Asked, Exclusive, Shared, is_free, point, range, take};

#[test]
fn a_future_that_was_never_polled_did_nothing() {
    let table = LockTable::new();
    let owner = table.owner();
    drop(Asked::new(&table, &owner, point("a"), Exclusive));
    assert!(table.is_idle());
    assert_eq!(table.requests(), 0);
}

#[test]
fn a_request_that_is_given_up_leaves_the_queue_and_those_behind_it_move_up() {
    let table = LockTable::new();
    let [holder, writer, reader] = [(); 3].map(|()| table.owner());
    take(&table, &holder, point("a"), Shared);
    let writing = Asked::new(&table, &writer, point("a"), Exclusive).waits();
    let mut reading = Asked::new(&table, &reader, point("a"), Shared).waits();
    drop(writing);
    reading.assert_granted();
    assert_eq!(table.requests(), 0);
    table.check();
}

#[test]
fn a_lock_that_was_granted_to_a_future_that_is_dropped_is_released() {
    let table = LockTable::new();
    let [holder, writer, next] = [(); 3].map(|()| table.owner());
    take(&table, &holder, point("a"), Exclusive);
    let writing = Asked::new(&table, &writer, point("a"), Exclusive).waits();
    let mut waits = Asked::new(&table, &next, point("a"), Exclusive).waits();
    drop(holder);
    assert!(writing.is_woken());
    assert!(!is_free(&table, point("a"), Shared));
    drop(writing);
    waits.assert_granted();
    drop(waits);
    drop(next);
    assert!(table.is_idle());
    table.check();
}

#[test]
fn what_the_owner_had_before_stays() {
    let table = LockTable::new();
    let [holder, owner] = [(); 2].map(|()| table.owner());
    take(&table, &holder, point("c"), Exclusive);
    take(&table, &owner, range("a", "c"), Exclusive);
    take(&table, &owner, range("c\0", "e"), Shared);
    let more = Asked::new(&table, &owner, point("c"), Exclusive).waits();
    drop(holder);
    assert!(more.is_woken());
    table.check();
    drop(more);
    table.check();
    assert!(!is_free(&table, point("b"), Shared));
    assert!(is_free(&table, point("c"), Exclusive));
    assert!(!is_free(&table, point("d"), Exclusive));
    assert!(is_free(&table, point("d"), Shared));
}

#[test]
fn a_future_that_ended_leaves_the_lock_with_its_owner() {
    let table = LockTable::new();
    let [holder, owner] = [(); 2].map(|()| table.owner());
    take(&table, &holder, point("a"), Exclusive);
    let mut asked = Asked::new(&table, &owner, point("a"), Exclusive).waits();
    drop(holder);
    asked.assert_granted();
    drop(asked);
    assert!(!is_free(&table, point("a"), Shared));
    drop(owner);
    assert!(table.is_idle());
}

#[test]
fn a_victim_that_never_hears_of_it_leaves_nothing_behind() {
    let table = LockTable::new();
    let [old, young] = [(); 2].map(|()| table.owner());
    take(&table, &old, point("a"), Exclusive);
    take(&table, &young, point("b"), Exclusive);
    let victim = Asked::new(&table, &young, point("a"), Exclusive).waits();
    let mut waits = Asked::new(&table, &old, point("b"), Exclusive).waits();
    assert!(victim.is_woken());
    drop(victim);
    table.check();
    drop(young);
    waits.assert_granted();
    assert_eq!(table.requests(), 0);
}

#[test]
fn requests_that_come_and_go_take_no_memory() {
    let table = LockTable::new();
    let [holder, owner] = [(); 2].map(|()| table.owner());
    take(&table, &holder, point("a"), Exclusive);
    for _ in 0..1000 {
        drop(Asked::new(&table, &owner, point("a"), Shared).waits());
    }
    assert_eq!(table.requests(), 0);
    table.check();
}
