//! Calls that fail: errors reach the caller, and nothing that was acknowledged is lost.

use fastrand::Rng;
use thunderhead::disk::{Fails, SimulatedMachine};
use thunderhead::{Durability, ErrorKind};

use super::checks::{check_recovered, check_store, contents, go_on};
use super::model::Operation;
use super::script::{Modify, Step, Taste, script};
use super::world::{Shape, World, shown};
use super::{calls, place, seeds};

/// Runs a script to its end whatever fails on the way; says whether anything did.
fn run_on(world: &mut World, script: &[Step]) -> bool {
    if world.open().is_err() {
        return true;
    }
    let mut failed = false;
    let mut poisoned = false;
    for step in script {
        if let Step::Reopen { .. } = step
            && failed
        {
            continue;
        }
        let durable = world.model.durable;
        let result = world.step(step);
        if world.store.is_none() {
            if let Step::Reopen { clean: false } = step {
                // Nobody is told when the sync of a store that is dropped fails.
                world.model.durable = durable;
            }
            return true;
        }
        let Err(error) = result else {
            let writes = matches!(step, Step::Modify(Modify::Insert(..), _) | Step::Compact)
                || matches!(step, Step::Single(operation, _)
                    if !matches!(operation, Operation::DeleteRange(low, end) if low >= end));
            assert!(
                !(poisoned && writes),
                "a poisoned store wrote: {}",
                shown(step)
            );
            continue;
        };
        failed = true;
        if error.kind() == ErrorKind::Corrupt {
            // A failed sync may have cost what it was to cover. Then the store is poisoned.
            let refused = world.store().put("k", "v").wait();
            assert!(
                refused.is_err_and(|error| error.kind() == ErrorKind::Poisoned),
                "step {}: {error:?}",
                shown(step)
            );
            poisoned = true;
            continue;
        }
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Io | ErrorKind::Poisoned | ErrorKind::StorageFull
            ),
            "step {}: {error:?}",
            shown(step)
        );
        if error.kind() == ErrorKind::Poisoned {
            poisoned = true;
        }
        if poisoned {
            assert!(
                world.store().put("k", "v").wait().is_err(),
                "a poisoned store wrote"
            );
        }
    }
    failed
}

/// Whatever failed: readers see what was acknowledged, and a reopened store has what was safe.
fn check_after(world: &mut World, random: &mut Rng) {
    world.machine.clear_faults();
    let shape = world.shape.clone();
    if let Some(store) = &world.store {
        let newest = world.model.newest_commit().clone();
        assert_eq!(store.sequence().0, world.model.last());
        // A failed sync may have cost what it was to cover, and reading that is an error then.
        match contents(store) {
            Ok(_) => drop(check_store(store, &world.model, &[newest])),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}"),
        }
    }
    let again = world.machine.fork();
    match random.bool() {
        true => again.power_loss(random.u64(..)),
        false => again.process_death(),
    }
    // A failed sync may have cost what it was to cover, also in the page cache.
    let least = world.model.durable;
    let store = check_recovered(&shape, &again, &world.model, least);
    if random.u32(..4) == 0 {
        go_on(&shape, &again, store, &world.model);
    }
    // In the same process: dropped and opened again.
    world.end_process();
    let store = check_recovered(&shape, &world.machine, &world.model, world.model.durable);
    drop(store);
}

fn fault_free_calls(seed: u64, shape: &Shape, script: &[Step]) -> (u64, u64) {
    let mut world = World::new(shape.machine(seed), shape);
    assert!(!run_on(&mut world, script), "nothing fails of itself");
    (world.machine.calls(), world.machine.reads())
}

fn each_failing(
    count: u64,
    fail: impl Fn(&SimulatedMachine, u64, Fails),
    which: fn((u64, u64)) -> u64,
) {
    for seed in seeds(count) {
        let shape = Shape::of(seed);
        let script = script(seed, &Taste::of(seed, 26));
        let ends = which(fault_free_calls(seed, &shape, &script));
        let stride = (ends / 80 + 1) as usize;
        for call in calls(0..ends).into_iter().step_by(stride) {
            for fails in [Fails::Once, Fails::Forever] {
                let _place = place(format!(
                    "THUNDERHEAD_SEED={seed} THUNDERHEAD_CALL={call}, failing {fails:?}"
                ));
                let mut world = World::new(shape.machine(seed), &shape);
                fail(&world.machine, call, fails);
                run_on(&mut world, &script);
                let mut random = Rng::with_seed(seed << 32 | call);
                if world.machine.exists() {
                    check_after(&mut world, &mut random);
                }
            }
        }
    }
}

#[test]
fn a_failing_call_is_an_error_and_loses_nothing() {
    each_failing(
        4,
        |machine, call, fails| machine.fail_call(call, fails),
        |(calls, _)| calls,
    );
}

#[test]
fn a_failing_read_is_an_error_and_loses_nothing() {
    each_failing(
        4,
        |machine, read, fails| machine.fail_read(read, fails),
        |(_, reads)| reads,
    );
}

#[test]
fn after_a_failed_sync_a_store_refuses_writes_and_reads_on() {
    for seed in seeds(40) {
        let _place = place(format!("THUNDERHEAD_SEED={seed}"));
        let shape = Shape::of(seed);
        let script = script(seed, &Taste::of(seed, 20));
        let mut world = World::new(shape.machine(seed), &shape);
        assert!(!run_on(&mut world, &script));
        let mut random = Rng::with_seed(seed);
        let late = Step::Single(Operation::Put("late".into(), 30, 1), Durability::Buffered);
        world.step(&late).expect("a commit that waits for no sync");
        world.machine.fail_syncs(1);
        let put = Step::Single(Operation::Put("never".into(), 30, 1), Durability::Immediate);
        let error = world.step(&put).expect_err("its sync fails");
        assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
        for _ in 0..2 {
            let error = world
                .store()
                .put("k", "v")
                .wait()
                .expect_err("it is poisoned");
            assert_eq!(error.kind(), ErrorKind::Poisoned, "{error:?}");
            assert!(world.store().checkpoint().wait().is_err());
            assert!(world.store().sync().wait().is_err());
        }
        check_after(&mut world, &mut random);
    }
}
