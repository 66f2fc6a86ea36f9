//! Full disks: an error, and nothing else is lost.

use fastrand::Rng;
use thunderhead::{Durability, ErrorKind};

use super::checks::check_sound;
use super::model::Operation;
use super::script::Step;
use super::world::{Shape, World};
use super::{place, seeds};

fn put(key: String, length: usize, random: &mut Rng) -> Step {
    let durability = *random
        .choice([Durability::Immediate, Durability::Buffered].as_slice())
        .expect("two");
    Step::Single(
        Operation::Put(key.into_bytes(), length, random.u8(..)),
        durability,
    )
}

/// Puts until the disk is full.
fn fill(world: &mut World, random: &mut Rng) {
    for number in 0..20_000 {
        let length = random.usize(..200) * if random.u32(..10) == 0 { 10 } else { 1 };
        let step = put(format!("k{:05}", random.u32(..100_000)), length, random);
        let result = match number % 20 {
            19 => world.step(&step).and_then(|()| world.step(&Step::Maintain)),
            _ => world.step(&step),
        };
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
            return;
        }
    }
    panic!("the disk never got full");
}

#[track_caller]
fn may_be_full(result: thunderhead::Result<()>, certain: bool) {
    if let Err(error) = result {
        let full = error.kind() == ErrorKind::StorageFull;
        assert!(full && !certain, "{error:?}");
    }
}

/// With these, what was written where the file had holes used the reserve up, while other places that
/// were free had room on the disk.
const SCATTERED: [u64; 3] = [27, 78, 278];

#[test]
fn a_full_disk_is_read_deleted_from_and_reopened() {
    let mut seeds = seeds(12);
    if seeds.len() > 1 {
        seeds.extend(SCATTERED);
    }
    for seed in seeds {
        let _place = place(format!("THUNDERHEAD_SEED={seed}"));
        let mut random = Rng::with_seed(seed);
        let mut shape = Shape::of(seed);
        shape.options = shape.options.reserve_bytes(256 << 10);
        let mut world = World::new(shape.machine(seed), &shape);
        world.open().expect("creating");
        world.step(&Step::Checkpoint).expect("making the reserve");
        let room = random.u64(600 << 10..1200 << 10);
        world
            .machine
            .set_capacity_bytes(Some(world.machine.allocated_bytes() + room));
        for round in 0..3 {
            let _place = place(format!("round {round}"));
            fill(&mut world, &mut random);
            world.check();
            // Some more that fail, and maintenance that may.
            for number in 0..10 {
                let step = put(format!("k{number:05}"), 300, &mut random);
                match world.step(&step).and_then(|()| world.step(&Step::Maintain)) {
                    Ok(()) => {}
                    Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}"),
                }
            }
            world.check();
            match round {
                0 => {}
                // The process dies on the full disk, and the next one opens it.
                1 => {
                    world.step(&Step::Sync).expect("syncing needs no room");
                    world.end_process();
                    world.open().expect("opening a full disk");
                    world.check();
                }
                _ => {
                    let last = world.model.last();
                    world.step(&Step::Sync).expect("syncing needs no room");
                    world.machine.power_loss(random.u64(..));
                    world.end_process();
                    world.open().expect("opening a full disk after a crash");
                    assert_eq!(world.store().sequence().0, last);
                    world.check();
                }
            }
            // The reserve is made by the first checkpoint that finds room for it.
            let certain = round == 0;
            for first in 0..8 {
                let (low, end) = (format!("k{first}1"), format!("k{first}8"));
                let delete = Operation::DeleteRange(low.into_bytes(), end.into_bytes());
                let delete = Step::Single(delete, Durability::Immediate);
                may_be_full(world.step(&delete), certain);
            }
            for _ in 0..4 {
                may_be_full(world.step(&Step::Checkpoint), certain);
                may_be_full(world.step(&Step::Maintain), certain);
            }
            world.check();
            for number in 0..20 {
                let step = put(format!("k{number:05}"), 100, &mut random);
                may_be_full(world.step(&step), false);
            }
        }
        world.machine.set_capacity_bytes(None);
        world.step(&Step::Maintain).expect("maintenance");
        world.step(&Step::Checkpoint).expect("a checkpoint");
        for number in 0..20 {
            let step = put(format!("k{number:05}"), 100, &mut random);
            world.step(&step).expect("there is room again");
        }
        check_sound(world.store());
        world
            .step(&Step::Reopen { clean: true })
            .expect("closing and opening");
        world.check();
    }
}
