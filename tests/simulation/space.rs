//! Space: overwriting reaches a plateau, and dropping everything gives all of it back.

use fastrand::Rng;
use thunderhead::Durability;

use super::model::Operation;
use super::script::Step;
use super::world::{Shape, World};
use super::{place, seeds};

fn overwrite(world: &mut World, rounds: usize, random: &mut Rng) {
    for round in 0..rounds {
        let key = format!("k{:03}", random.u32(..25)).into_bytes();
        let length = match random.u32(..6) {
            0 => random.usize(500..2500),
            _ => random.usize(..80),
        };
        let operation = match random.u32(..12) {
            0 => Operation::Delete(key),
            _ => Operation::Put(key, length, random.u8(..)),
        };
        let step = Step::Single(operation, Durability::Buffered);
        world.step(&step).expect("a commit");
        if round % 8 == 7 {
            world.step(&Step::Maintain).expect("maintenance");
        }
    }
}

#[test]
fn overwriting_a_few_keys_reaches_a_plateau_and_dropping_all_gives_all_back() {
    for seed in seeds(4) {
        let _place = place(format!("THUNDERHEAD_SEED={seed}"));
        let mut random = Rng::with_seed(seed);
        let shape = Shape::of(seed);
        let mut world = World::new(shape.machine(seed), &shape);
        world.open().expect("creating");
        overwrite(&mut world, 800, &mut random);
        if seed % 2 == 1 {
            // Held all along: what it pins is what there was, no more.
            world.step(&Step::TakeSnapshot).expect("a snapshot");
            overwrite(&mut world, 400, &mut random);
        }
        let settled = world.machine.allocated_bytes();
        overwrite(&mut world, 3000, &mut random);
        let stats = world.store().stats();
        let grown = world.machine.allocated_bytes();
        let slack = 4 * u64::from(shape.files.segment_bytes) + settled / 2;
        assert!(
            grown <= settled + slack,
            "{settled} bytes became {grown}: {stats:?}"
        );
        world.check();
        world.step(&Step::CheckSnapshots).expect("checking");
        world.step(&Step::DropSnapshot).expect("dropping");
        let all = Operation::DeleteRange(b"a".to_vec(), b"z".to_vec());
        world
            .step(&Step::Single(all, Durability::Immediate))
            .expect("deleting all");
        for number in 0..12 {
            // Something to checkpoint, so that older roots are let go.
            let put = Operation::Put(b"last".to_vec(), number, 1);
            world
                .step(&Step::Single(put, Durability::Immediate))
                .expect("a commit");
            world.step(&Step::Checkpoint).expect("a checkpoint");
            world.step(&Step::Maintain).expect("maintenance");
        }
        let stats = world.store().stats();
        // What is left is the catalogue, whose pages are as tiny as all others.
        let few = 120 * u64::from(shape.sector_bytes);
        assert!(stats.tree_bytes < few, "after dropping all: {stats:?}");
        assert!(stats.dropped_bytes < few, "after dropping all: {stats:?}");
        world
            .step(&Step::Reopen { clean: true })
            .expect("reopening");
        world.check();
        let reopened = world.store().stats();
        assert!(reopened.tree_bytes < few, "reopened: {reopened:?}");
    }
}
