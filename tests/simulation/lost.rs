//! Writes that claim success and go nowhere, or elsewhere, and roots that were damaged: an error or
//! the right answer.

use fastrand::Rng;
use thunderhead::disk::SimulatedMachine;
use thunderhead::{ErrorKind, Result};

use super::checks::contents;
use super::model::{Model, State};
use super::script::{Step, Taste, script};
use super::world::{Shape, World, shown};
use super::{place, seeds};

/// What a store that is opened and read says, or whether it notices damage.
fn answer(shape: &Shape, machine: &SimulatedMachine) -> Result<(u64, State)> {
    let store = shape.open(machine)?;
    Ok((store.sequence().0, contents(&store)?))
}

/// The newest commit that an answer has, if there is one: it must be a state that there was.
fn check_answer(model: &Model, answer: Result<(u64, State)>) -> Option<u64> {
    match answer {
        Ok((sequence, state)) => {
            let candidates = model.candidates(sequence, 0);
            assert!(
                candidates.iter().any(|commit| commit.entries == state),
                "a wrong answer at commit {sequence}"
            );
            Some(sequence)
        }
        Err(error) => {
            let kind = error.kind();
            assert_eq!(kind, ErrorKind::Corrupt, "{error:?}");
            None
        }
    }
}

#[test]
fn a_write_that_was_lost_or_misdirected_is_noticed_or_does_not_matter() {
    for seed in seeds(12) {
        let shape = Shape::of(seed);
        let script = script(seed, &Taste::of(seed, 30));
        for strike in 0..script.len() {
            let mut random = Rng::with_seed(seed << 32 | strike as u64);
            let mut world = World::new(shape.machine(seed), &shape);
            let _place = place(format!(
                "THUNDERHEAD_SEED={seed}, before step {strike}: {}",
                shown(&script[strike])
            ));
            world.open().expect("creating");
            for step in &script[..strike] {
                world.step(step).expect("nothing fails yet");
            }
            if random.bool() {
                world.machine.lose_next_write();
            } else {
                let sectors = world.machine.file_bytes() / 512;
                world
                    .machine
                    .misdirect_next_write(random.u64(..sectors) * 512);
            }
            // Later steps may meet what the write spoilt.
            for step in &script[strike..] {
                if matches!(step, Step::Reopen { .. } | Step::CheckSnapshots) {
                    break;
                }
                if let Err(error) = world.step(step) {
                    let kinds = [ErrorKind::Corrupt, ErrorKind::Poisoned];
                    assert!(kinds.contains(&error.kind()), "{error:?}");
                    break;
                }
            }
            world.machine.clear_faults();
            let machine = world.machine.fork();
            check_answer(&world.model, answer(&shape, &machine));
        }
    }
}

#[test]
fn without_the_newest_root_the_one_before_it_has_everything_or_says_that_it_has_not() {
    let mut fell_back = 0;
    for seed in seeds(60) {
        let _place = place(format!("THUNDERHEAD_SEED={seed}"));
        let shape = Shape::of(seed);
        let script = script(seed, &Taste::of(seed, 50));
        let mut world = World::new(shape.machine(seed), &shape);
        let (_, result) = world.run(&script);
        result.expect("nothing fails");
        let mut refused = 0;
        for slot in [4096, 8192] {
            let machine = world.machine.fork();
            machine.power_loss(seed);
            machine.flip(slot + 70, 3);
            match check_answer(&world.model, answer(&shape, &machine)) {
                Some(sequence) => {
                    assert!(sequence >= world.model.durable, "commits vanished silently");
                    fell_back += 1;
                }
                None => refused += 1,
            }
        }
        assert!(refused <= 1, "either root should do alone, or one of them");
    }
    assert!(
        fell_back > seeds(60).len() * 3 / 2,
        "falling back hardly ever works: {fell_back}"
    );
}
