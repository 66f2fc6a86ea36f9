//! Crashes at every mutating call of short scripts, and inside recovery.

use fastrand::Rng;
use thunderhead::disk::{Ledger, SimulatedMachine};

use super::checks::{check_recovered, go_on};
use super::model::Model;
use super::script::{Step, Taste, script};
use super::world::{Shape, World};
use super::{calls, place, seeds};

/// Runs a script without faults; gives the number of its calls.
fn whole_run(seed: u64, shape: &Shape, script: &[Step]) -> u64 {
    let mut world = World::new(shape.machine(seed), shape);
    let (done, result) = world.run(script);
    result.unwrap_or_else(|error| panic!("step {done} {:?}: {error:?}", script[done]));
    world
        .step(&Step::CheckSnapshots)
        .expect("checking snapshots");
    world.check();
    world.machine.calls()
}

/// Runs a script on a machine that crashes at a call.
fn crashed_run(seed: u64, shape: &Shape, script: &[Step], call: u64) -> (SimulatedMachine, Model) {
    let mut world = World::new(shape.machine(seed), shape);
    world.machine.crash_at(call);
    let (done, result) = world.run(script);
    assert!(
        world.machine.has_crashed(),
        "the run is not repeatable: it ended at step {done}"
    );
    world.end_process();
    if super::variable("THUNDERHEAD_CALL").is_some() {
        for (index, step) in script.iter().enumerate().take(done + 1) {
            eprintln!("step {index}: {}", super::world::shown(step));
        }
        eprintln!("crashed in step {done}: {result:?}");
    }
    (world.machine, world.model)
}

/// Crashes at each call of recovery, then once more in the recovery after it.
fn crash_in_recovery(
    shape: &Shape,
    machine: &SimulatedMachine,
    model: &Model,
    least: u64,
    random: &mut Rng,
) {
    let whole = machine.fork();
    let first = whole.calls();
    drop(shape.open(&whole).expect("a store that crashed opens"));
    for call in first..whole.calls() {
        let once = machine.fork();
        once.crash_at(call);
        drop(shape.open(&once));
        let power = random.bool();
        let _place = place(format!(
            "recovery crashed at call {call} of {first}.., power lost {power}"
        ));
        if power {
            once.power_loss(random.u64(..));
        } else {
            once.process_death();
        }
        if random.u32(..3) == 0 {
            once.crash_at(once.calls() + random.u64(..12));
            drop(shape.open(&once));
            once.power_loss(random.u64(..));
        }
        let store = check_recovered(shape, &once, model, least);
        if random.u32(..4) == 0 {
            go_on(shape, &once, store, model);
        }
    }
}

#[test]
fn scripts_run_without_faults_and_keep_the_protocol_of_the_disk() {
    for seed in seeds(60) {
        let _place = place(format!("THUNDERHEAD_SEED={seed}"));
        let shape = Shape::of(seed);
        let mut world = World::new(shape.machine(seed), &shape);
        let ledger = Ledger::new();
        ledger.allow_unsynced_publish(true);
        ledger.allow_rewrites(true);
        world.ledger = Some(ledger);
        let script = script(seed, &Taste::of(seed, 80));
        let (done, result) = world.run(&script);
        result.unwrap_or_else(|error| panic!("step {done} {:?}: {error:?}", script[done]));
        world
            .step(&Step::CheckSnapshots)
            .expect("checking snapshots");
        world.check();
    }
}

#[test]
fn a_crash_at_every_call_loses_nothing_that_was_acknowledged() {
    for seed in seeds(4) {
        let shape = Shape::of(seed);
        let script = script(seed, &Taste::of(seed, 26));
        let ends = {
            let _place = place(format!("THUNDERHEAD_SEED={seed}"));
            whole_run(seed, &shape, &script)
        };
        // Large transactions and bulky maintenance are many calls of a kind.
        let step = (ends / 250 + 1) as usize;
        for call in calls(0..ends).into_iter().step_by(step) {
            let _place = place(format!("THUNDERHEAD_SEED={seed} THUNDERHEAD_CALL={call}"));
            let (machine, model) = crashed_run(seed, &shape, &script, call);
            let mut random = Rng::with_seed(seed << 32 | call);
            // The power fails.
            let lost = machine.fork();
            lost.power_loss(random.u64(..));
            if random.u32(..24) == 0 {
                crash_in_recovery(&shape, &lost, &model, model.durable, &mut random);
            }
            let store = check_recovered(&shape, &lost, &model, model.durable);
            if random.u32(..4) == 0 {
                go_on(&shape, &lost, store, &model);
            } else {
                drop(store);
            }
            // The process dies; the power fails after the next one recovered.
            let died = machine.fork();
            died.process_death();
            if random.u32(..24) == 0 {
                let both = died.fork();
                both.power_loss(random.u64(..));
                drop(check_recovered(&shape, &both, &model, model.durable));
                crash_in_recovery(&shape, &died, &model, model.durable, &mut random);
            }
            let store = check_recovered(&shape, &died, &model, model.written);
            let seen = store.sequence().0;
            died.power_loss(random.u64(..));
            drop(store);
            drop(check_recovered(&shape, &died, &model, seen));
        }
    }
}

#[test]
fn a_crash_after_every_step_of_long_scripts_loses_nothing() {
    for seed in seeds(28) {
        let shape = Shape::of(seed);
        let script = script(seed, &Taste::of(seed, 120));
        let mut world = World::new(shape.machine(seed), &shape);
        let mut random = Rng::with_seed(seed);
        let _place = place(format!("THUNDERHEAD_SEED={seed}"));
        world.open().expect("creating");
        for (index, step) in script.iter().enumerate() {
            let _place = place(format!("after step {index}: {}", super::world::shown(step)));
            world.step(step).expect("nothing fails");
            if random.u32(..3) > 0 {
                continue;
            }
            let lost = world.machine.fork();
            let (least, power) = match random.bool() {
                true => (world.model.durable, true),
                false => (world.model.written, false),
            };
            if power {
                lost.power_loss(random.u64(..));
            }
            let store = check_recovered(&shape, &lost, &world.model, least);
            if random.u32(..8) == 0 {
                go_on(&shape, &lost, store, &world.model);
            }
        }
    }
}
