//! Cycles of waits: found at once, ended by the youngest, explained.

use std::task::Poll;

use super::LockTable;
use super::testing::{Asked, Exclusive, Shared, point, range, take};
use crate::error::ErrorKind;

#[test]
fn of_two_who_wait_for_each_other_the_younger_gives_way() {
    let table = LockTable::new();
    let [old, young] = [(); 2].map(|()| table.owner());
    take(&table, &old, point("a"), Exclusive);
    take(&table, &young, point("b"), Exclusive);
    let mut waits = Asked::new(&table, &old, point("b"), Exclusive).waits();
    let error = Asked::new(&table, &young, range("a", "b"), Shared).error();
    assert_eq!(error.kind(), ErrorKind::Deadlock);
    let text = error.to_string();
    assert_eq!(
        text,
        "a deadlock: owner 2 waits for \"a\"..\"b\" (shared), and owner 1 holds \"a\" (exclusive); \
         owner 1 waits for \"b\" (exclusive), and owner 2 holds \"b\" (exclusive); \
         owner 2 is the youngest of them and has to give way"
    );
    table.check();
    drop(young);
    waits.assert_granted();
}

#[test]
fn one_who_waits_already_gives_way_if_it_is_the_youngest() {
    let table = LockTable::new();
    let [old, young] = [(); 2].map(|()| table.owner());
    take(&table, &old, point("a"), Exclusive);
    take(&table, &young, point("b"), Exclusive);
    let mut gives_way = Asked::new(&table, &young, point("a"), Exclusive).waits();
    let mut waits = Asked::new(&table, &old, point("b"), Exclusive).waits();
    assert!(gives_way.is_woken());
    assert_eq!(gives_way.error().kind(), ErrorKind::Deadlock);
    table.check();
    assert!(!waits.is_woken());
    drop(gives_way);
    drop(young);
    waits.assert_granted();
}

#[test]
fn a_cycle_of_three_is_found_whoever_closes_it() {
    for closes in 0..3 {
        let table = LockTable::new();
        let owners = [(); 3].map(|()| table.owner());
        for (owner, key) in owners.iter().zip(["a", "b", "c"]) {
            take(&table, owner, point(key), Exclusive);
        }
        let wanted = ["b", "c", "a"];
        let mut asked: Vec<Asked<'_>> = Vec::new();
        for step in 1..3 {
            let who = (closes + step) % 3;
            asked.push(Asked::new(&table, &owners[who], point(wanted[who]), Shared).waits());
        }
        let last = Asked::new(&table, &owners[closes], point(wanted[closes]), Shared);
        asked.push(last);
        let closed_by_youngest = asked[2].poll().is_ready();
        assert_eq!(closed_by_youngest, closes == 2);
        if !closed_by_youngest {
            let youngest = (2 + 3 - closes - 1) % 3;
            let error = asked[youngest].error();
            assert_eq!(error.kind(), ErrorKind::Deadlock);
            for owner in ["owner 1", "owner 2", "owner 3"] {
                assert!(error.to_string().contains(owner), "{error}");
            }
        }
        table.check();
    }
}

#[test]
fn waiting_behind_a_request_is_waiting_for_its_owner() {
    let table = LockTable::new();
    let [reader, holder, writer] = [(); 3].map(|()| table.owner());
    take(&table, &reader, point("a"), Shared);
    take(&table, &holder, point("b"), Exclusive);
    // The writer has nothing that the holder wants but its place in the queue: a writer that waits for
    // both, and one of the two waits behind it.
    let mut waits = Asked::new(&table, &writer, range("a", "c"), Exclusive).waits();
    let mut behind = Asked::new(&table, &holder, point("a"), Shared);
    // The one that gives way stands in nobody's way.
    assert!(matches!(behind.poll(), Poll::Ready(Ok(()))));
    assert_eq!(waits.error().kind(), ErrorKind::Deadlock);
    table.check();
}

#[test]
fn a_request_may_end_several_cycles() {
    let table = LockTable::new();
    let [old, one, other] = [(); 3].map(|()| table.owner());
    take(&table, &old, point("a"), Exclusive);
    take(&table, &one, point("b"), Shared);
    take(&table, &other, point("b"), Shared);
    let mut gives_way = Asked::new(&table, &one, point("a"), Shared).waits();
    let mut too = Asked::new(&table, &other, point("a"), Shared).waits();
    let mut waits = Asked::new(&table, &old, point("b"), Exclusive).waits();
    assert_eq!(gives_way.error().kind(), ErrorKind::Deadlock);
    assert_eq!(too.error().kind(), ErrorKind::Deadlock);
    one.release_all();
    assert!(!waits.is_woken());
    other.release_all();
    waits.assert_granted();
    table.check();
}

#[test]
fn two_commits_that_upgrade_what_both_share_do_not_wait_for_ever() {
    let table = LockTable::new();
    let [old, young] = [(); 2].map(|()| table.owner());
    take(&table, &old, point("a"), Shared);
    take(&table, &young, point("a"), Shared);
    let mut one = Asked::of(table.lock_to_write(&old, point("a"))).waits();
    let mut other = Asked::of(table.lock_to_write(&young, point("a")));
    assert_eq!(other.error().kind(), ErrorKind::Deadlock);
    drop(other);
    drop(young);
    one.assert_granted();
    assert_eq!(table.ranges_held(), 1);
    table.check();
}

#[test]
fn waiting_without_a_cycle_is_no_deadlock() {
    let table = LockTable::new();
    let owners = [(); 50].map(|()| table.owner());
    let key = |number: usize| format!("{number:03}");
    for (number, owner) in owners.iter().enumerate() {
        take(&table, owner, point(&key(number)), Exclusive);
    }
    // A long chain, and its end waits for nobody.
    let mut asked: Vec<Asked<'_>> = (1..50)
        .map(|number| Asked::new(&table, &owners[number], point(&key(number - 1)), Shared).waits())
        .collect();
    table.check();
    for (number, owner) in owners.iter().enumerate() {
        owner.release_all();
        if let Some(next) = asked.get_mut(number) {
            next.assert_granted();
        }
    }
}

#[test]
fn who_tries_again_with_the_same_owner_grows_older() {
    let table = LockTable::new();
    let first = table.owner();
    for _ in 0..5 {
        let later = table.owner();
        take(&table, &first, point("a"), Exclusive);
        take(&table, &later, point("b"), Exclusive);
        let mut waits = Asked::new(&table, &first, point("b"), Exclusive).waits();
        let error = Asked::new(&table, &later, point("a"), Exclusive).error();
        assert_eq!(error.kind(), ErrorKind::Deadlock);
        drop(later);
        waits.assert_granted();
        first.release_all();
    }
}

/// Whoever looked at all of a chain each time it grew would not come to an end here.
#[test]
fn long_chains_of_waits_may_grow_at_either_end() {
    const LENGTH: usize = 20_000;
    let key = |number: usize| number.to_be_bytes();
    let point = |number: usize| super::LockRange::point(&key(number));
    for grows_behind in [true, false] {
        let table = LockTable::new();
        let owners: Vec<_> = (0..LENGTH).map(|_| table.owner()).collect();
        for (number, owner) in owners.iter().enumerate() {
            take(&table, owner, point(number), Exclusive);
        }
        let mut asked: Vec<Asked<'_>> = Vec::new();
        for step in 1..LENGTH {
            let number = if grows_behind { step } else { LENGTH - step };
            let asks = Asked::new(&table, &owners[number], point(number - 1), Exclusive);
            asked.push(asks.waits());
        }
        // Its end closes it.
        let mut last = Asked::new(&table, &owners[0], point(LENGTH - 1), Shared).waits();
        let youngest = if grows_behind { LENGTH - 2 } else { 0 };
        assert_eq!(asked[youngest].error().kind(), ErrorKind::Deadlock);
        assert!(!last.is_woken());
        drop(asked);
        owners[1..].iter().for_each(super::Owner::release_all);
        last.assert_granted();
    }
}
