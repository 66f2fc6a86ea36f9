//! The gate under threads.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::thread;

use super::gate::{Gate, Pass};
use crate::disk::block_on;

#[test]
fn those_alone_exclude_all_others_and_nobody_is_forgotten() {
    let gate = Gate::default();
    let inside = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        for number in 0..6 {
            let (gate, inside) = (gate.clone(), Arc::clone(&inside));
            scope.spawn(move || {
                for round in 0..300 {
                    let alone = (number + round) % 3 == 0;
                    let pass = if alone { Pass::Alone } else { Pass::Shared };
                    let _inside = block_on(gate.enter(pass));
                    let weight = if alone { 1000 } else { 1 };
                    let before = inside.fetch_add(weight, Ordering::SeqCst);
                    assert!(if alone { before == 0 } else { before < 1000 });
                    inside.fetch_sub(weight, Ordering::SeqCst);
                }
            });
        }
    });
}

#[test]
fn a_turn_that_is_given_up_goes_to_the_next() {
    let gate = Gate::default();
    let first = block_on(gate.enter(Pass::Alone));
    let mut given_up = Box::pin(gate.enter(Pass::Alone));
    let mut context = Context::from_waker(Waker::noop());
    assert!(given_up.as_mut().poll(&mut context).is_pending());
    let waiter = thread::spawn({
        let gate = gate.clone();
        move || drop(block_on(gate.enter(Pass::Shared)))
    });
    drop(first);
    drop(given_up);
    waiter.join().unwrap();
}
