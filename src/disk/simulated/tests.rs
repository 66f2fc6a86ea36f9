//! What the simulated machine promises to its tests.

use std::collections::BTreeSet;

use super::{Fails, SimulatedMachine};
use crate::disk::{Buffer, DiskModel, FileDisk, FileDiskOptions, Page, Release, block_on};
use crate::error::{ErrorKind, Result};
use crate::format::{Address, Extent, RootVersion};

fn small() -> FileDiskOptions {
    FileDiskOptions {
        segment_bytes: 64 << 10,
        ..FileDiskOptions::default()
    }
}

fn page(offset: u32, byte: u8, length: usize) -> Page {
    Page {
        at: Address::new(0, offset),
        bytes: vec![byte; length].into(),
    }
}

fn read(disk: &FileDisk, offset: u32, length: usize) -> Result<Vec<u8>> {
    let at = Address::new(0, offset);
    Ok(block_on(disk.read(at, Buffer::zeroed(length)))?.into_vec())
}

fn publish(disk: &FileDisk, version: u64) -> Result<()> {
    let (expected, version) = (RootVersion(version - 1), RootVersion(version));
    let record = vec![version.0 as u8; 512].into();
    block_on(disk.publish_root(expected, version, record))
}

fn created(seed: u64) -> (SimulatedMachine, FileDisk) {
    let machine = SimulatedMachine::new(seed);
    let disk = FileDisk::create_on(&machine, &small()).unwrap();
    publish(&disk, 1).unwrap();
    (machine, disk)
}

#[test]
fn a_power_loss_takes_only_what_no_sync_covered() {
    let mut fates = BTreeSet::new();
    for seed in 0..40 {
        let (machine, disk) = created(seed);
        block_on(disk.save(vec![page(0, 1, 4096)], false)).unwrap();
        block_on(disk.sync()).unwrap();
        block_on(disk.save(vec![page(4096, 2, 512)], true)).unwrap();
        block_on(disk.save(vec![page(8192, 3, 4096)], false)).unwrap();
        block_on(disk.save(vec![page(12288, 4, 512)], true)).unwrap();
        machine.power_loss(seed);
        assert!(read(&disk, 0, 1).is_err(), "the process is dead");
        let disk = FileDisk::open_on(&machine, &small()).unwrap();
        assert_eq!(read(&disk, 0, 4096).unwrap(), [1; 4096], "seed {seed}");
        assert_eq!(read(&disk, 4096, 512).unwrap(), [2; 512], "seed {seed}");
        assert_eq!(read(&disk, 12288, 512).unwrap(), [4; 512], "seed {seed}");
        let uncertain = read(&disk, 8192, 4096).unwrap();
        fates.insert(match &uncertain {
            bytes if bytes.iter().all(|byte| *byte == 3) => "kept",
            bytes if bytes.iter().all(|byte| *byte == 0) => "dropped",
            _ => "torn",
        });
    }
    assert_eq!(fates, BTreeSet::from(["dropped", "kept", "torn"]));
}

#[test]
fn the_death_of_a_process_keeps_what_a_later_power_loss_may_take() {
    let (machine, disk) = created(3);
    block_on(disk.save(vec![page(0, 9, 16384)], false)).unwrap();
    machine.process_death();
    let disk = FileDisk::open_on(&machine, &small()).unwrap();
    assert_eq!(read(&disk, 0, 16384).unwrap(), [9; 16384]);
    let taken = (0..20).filter(|seed| {
        let machine = machine.fork();
        machine.power_loss(*seed);
        let disk = FileDisk::open_on(&machine, &small()).unwrap();
        !read(&disk, 0, 16384).is_ok_and(|bytes| bytes == [9; 16384])
    });
    assert!((1..20).contains(&taken.count()));
}

#[test]
fn a_sync_after_a_failed_one_proves_nothing() {
    let lost = (0..30).filter(|seed| {
        let (machine, disk) = created(*seed);
        block_on(disk.save(vec![page(0, 5, 2048)], false)).unwrap();
        machine.fail_syncs(1);
        block_on(disk.sync()).unwrap_err();
        block_on(disk.sync()).unwrap();
        machine.power_loss(*seed);
        let disk = FileDisk::open_on(&machine, &small()).unwrap();
        !read(&disk, 0, 2048).is_ok_and(|bytes| bytes == [5; 2048])
    });
    assert!((1..30).contains(&lost.count()));
}

#[test]
fn a_crash_at_every_call_of_a_creation_leaves_no_file_or_a_whole_one() {
    let (machine, disk) = created(1);
    let calls = machine.calls();
    drop(disk);
    for call in 0..=calls {
        for seed in 0..8 {
            let machine = SimulatedMachine::new(seed);
            machine.crash_at(call);
            let outcome = FileDisk::create_on(&machine, &small());
            let outcome = outcome.and_then(|disk| publish(&disk, 1));
            assert_eq!(outcome.is_ok(), call == calls);
            machine.power_loss(seed);
            let disk = FileDisk::open_or_create_on(&machine, &small()).unwrap();
            let roots = block_on(disk.load_root()).unwrap().records;
            match machine.exists() {
                true => assert_eq!(roots, [vec![1; 512], vec![1; 512]], "seed {seed}"),
                false => assert!(roots.is_empty() && call < calls),
            }
        }
    }
}

#[test]
fn a_crash_while_publishing_leaves_the_newer_root_intact() {
    for seed in 0..50 {
        let (machine, disk) = created(seed);
        publish(&disk, 2).unwrap();
        machine.crash_at(machine.calls());
        publish(&disk, 3).unwrap_err();
        machine.power_loss(seed);
        let disk = FileDisk::open_on(&machine, &small()).unwrap();
        let roots = block_on(disk.load_root()).unwrap().records;
        assert!(
            roots.iter().any(|root| *root == [2; 512][..]),
            "seed {seed}"
        );
    }
}

#[test]
fn a_full_disk_is_noticed_when_room_is_made_and_not_later() {
    let (machine, disk) = created(1);
    machine.set_capacity_bytes(Some(machine.allocated_bytes() + (32 << 10)));
    let extent = |offset, length| Extent::new(Address::new(0, offset), length);
    block_on(disk.prepare(extent(0, 24 << 10))).unwrap();
    let full = block_on(disk.prepare(extent(24 << 10, 16 << 10))).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    block_on(disk.save(vec![page(0, 1, 24 << 10)], true)).unwrap();
    let full = block_on(disk.save(vec![page(40 << 10, 1, 512)], false)).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let extent = extent(0, 8 << 10);
    block_on(disk.release(vec![Release { extent }])).unwrap();
    block_on(disk.save(vec![page(40 << 10, 1, 512)], false)).unwrap();
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let run = || {
        let (machine, disk) = created(11);
        for round in 0..30u32 {
            let _ = block_on(disk.save(vec![page(round * 700, round as u8, 900)], false));
            if round % 7 == 3 {
                machine.fail_syncs(round as u64 % 2);
                let _ = block_on(disk.sync());
            }
        }
        machine.power_loss(5);
        machine.peek(0, 64 << 10)
    };
    assert_eq!(run(), run());
}

#[test]
fn told_faults_happen_where_told() {
    let (machine, disk) = created(2);
    machine.fail_call(machine.calls(), Fails::Once);
    block_on(disk.save(vec![page(0, 1, 512)], false)).unwrap_err();
    block_on(disk.save(vec![page(0, 1, 512)], false)).unwrap();
    machine.fail_read(machine.reads() + 1, Fails::Forever);
    read(&disk, 0, 512).unwrap();
    read(&disk, 0, 512).unwrap_err();
    read(&disk, 0, 512).unwrap_err();
    machine.clear_faults();
    machine.lose_next_write();
    block_on(disk.save(vec![page(0, 2, 512)], false)).unwrap();
    machine.misdirect_next_write(16384 + 1024);
    block_on(disk.save(vec![page(0, 3, 512)], false)).unwrap();
    assert_eq!(read(&disk, 0, 512).unwrap(), [1; 512]);
    assert_eq!(read(&disk, 1024, 512).unwrap(), [3; 512]);
    machine.flip(16384, 1);
    assert_eq!(read(&disk, 0, 1).unwrap(), [3]);
    let second = FileDisk::open_on(&machine, &small()).err().unwrap();
    assert_eq!(second.kind(), ErrorKind::Locked);
}
