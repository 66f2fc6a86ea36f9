//! [`Space`] as a whole, against sets of sectors.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;
use crate::disk::Properties;
use crate::error::{Error, ErrorKind};
use crate::format::{Address, Birth, Extent, PagePointer};

fn properties() -> Properties {
    Properties::new(64 << 10)
}

#[test]
fn consecutive_allocations_lie_side_by_side() {
    let space = Space::new(&properties());
    let mut expected = 0;
    for _ in 0..20 {
        let extent = space
            .allocate(1000, Owner::Tree, Urgency::Ordinary)
            .unwrap();
        assert_eq!((extent.address.offset(), extent.length), (expected, 1000));
        expected += 1024;
    }
}

#[test]
fn a_dropped_extent_is_free_when_no_kept_generation_reaches_it() {
    let space = Space::new(&properties());
    space.set_current(Birth(1));
    let extent = space
        .allocate(64 << 10, Owner::Tree, Urgency::Ordinary)
        .unwrap();
    space.keep(Birth(1));
    space.set_current(Birth(2));
    space
        .drop_item(Dropped::Extent(extent), Birth(1), Birth(2))
        .unwrap();
    assert!(space.collect().freed.is_empty());
    assert!(space.encode_segment(0).unwrap().is_empty());
    let pins = space.pins();
    let pinned: Vec<_> = pins
        .iter()
        .map(|(held, roots)| (held.generation, held.bytes, *roots))
        .collect();
    assert_eq!(pinned, [(Birth(1), 64 << 10, 0)]);
    space.release(Birth(1));
    assert_eq!(space.collect().freed, [(extent, Birth(1))]);
    let again = space.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
    assert_eq!(again.address, extent.address);
}

#[test]
fn a_disk_of_limited_capacity_fills_up_to_its_last_sector() {
    let mut properties = properties();
    properties.capacity_bytes = Some((64 << 10) + 1024);
    let space = Space::new(&properties);
    let allocate = |bytes| space.allocate(bytes, Owner::Tree, Urgency::Ordinary);
    allocate(64 << 10).unwrap();
    assert_eq!(allocate(1025).unwrap_err().kind(), ErrorKind::StorageFull);
    allocate(1024).unwrap();
    assert_eq!(allocate(1).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(allocate(0).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn twenty_thousand_extents_and_as_many_holes_do_not_overlap() {
    let space = Space::new(&Properties::new(16 << 20));
    let allocate = || space.allocate(12 << 10, Owner::Tree, Urgency::Ordinary);
    let extents: Vec<_> = (0..20_000).map(|_| allocate().unwrap()).collect();
    let adjacent = extents
        .windows(2)
        .filter(|pair| pair[0].address.plus(12 << 10) == pair[1].address);
    assert!(adjacent.count() > 19_900);
    let segments = space.segments();
    for extent in extents.iter().step_by(2) {
        space.abandon(*extent).unwrap();
    }
    space.set_current(Birth(1));
    let mut seen: BTreeSet<_> = extents.iter().skip(1).step_by(2).copied().collect();
    for _ in 0..10_000 {
        assert!(seen.insert(allocate().unwrap()), "it was given out twice");
    }
    assert!(space.segments() <= segments + 1);
}

#[test]
fn an_address_does_not_come_up_again_in_the_same_generation() {
    let space = Space::new(&properties());
    space.set_current(Birth(5));
    let allocate = || space.allocate(512, Owner::Unattached, Urgency::Ordinary);
    let first = allocate().unwrap();
    space.abandon(first).unwrap();
    let mut seen = BTreeSet::from([first]);
    for _ in 0..300 {
        assert!(seen.insert(allocate().unwrap()));
    }
    space.set_current(Birth(6));
    let reused = (0..300).any(|_| allocate().unwrap() == first);
    assert!(reused);
}

#[test]
fn an_extent_that_is_dropped_twice_or_does_not_exist_is_refused() {
    let space = Space::new(&properties());
    let extent = space.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
    let drop_it = |extent| space.drop_item(Dropped::Extent(extent), Birth(0), Birth(1));
    drop_it(extent).unwrap();
    for wrong in [
        extent,
        Extent::new(Address::new(0, 512), 512),
        Extent::new(Address::new(0, 3), 512),
        Extent::new(Address::new(0, 512), u32::MAX),
        Extent::new(Address::new(7, 0), 512),
        Extent::new(Address::new(u32::MAX, 0), 512),
        Extent::new(Address::new(0, 0), 0),
    ] {
        assert_eq!(drop_it(wrong).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(
            space.attach(wrong).is_err(),
            wrong != extent,
            "only what is held can be attached"
        );
        if wrong == extent {
            drop_it(extent).unwrap();
        }
    }
}

#[test]
fn what_the_log_names_is_marked_once_even_in_segments_that_the_root_does_not_know() {
    let space = Space::open(&properties(), 1, Box::new(|_| Ok(None))).unwrap();
    let chunk = Extent::new(Address::new(3, 0), 32 << 10);
    space.mark_used(chunk, Owner::Log).unwrap();
    let value = Extent::new(Address::new(3, 32 << 10), 700);
    space.mark_used(value, Owner::Unattached).unwrap();
    for again in [chunk, value, Extent::new(Address::new(3, 512), 512)] {
        let error = space.mark_used(again, Owner::Unattached).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    assert_eq!(space.segments(), 4);
    let statistics = space.statistics();
    assert_eq!(statistics.log_bytes, 32 << 10);
    assert_eq!(statistics.unattached_bytes, 1024);
    for _ in 0..2 * 128 {
        let extent = space.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
        assert!(extent.address.segment() < 3, "free segments come first");
    }
    space.attach(value).unwrap();
    assert!(!space.encode_segment(3).unwrap().is_empty());
}

#[test]
fn an_emergency_uses_the_reserve_and_others_do_not() {
    let mut properties = properties();
    properties.capacity_bytes = Some(64 << 10);
    let space = Space::new(&properties);
    space.set_reserve(8 << 10);
    assert_eq!(space.reserve_missing(), 8 << 10);
    let reserve = space
        .allocate(8 << 10, Owner::Reserve, Urgency::Ordinary)
        .unwrap();
    assert_eq!(space.reserve_missing(), 0);
    space.add_reserve(reserve).unwrap();
    assert!(space.add_reserve(reserve).is_err());
    space
        .allocate(56 << 10, Owner::Tree, Urgency::Ordinary)
        .unwrap();
    let allocate = |urgency| space.allocate(4 << 10, Owner::Tree, urgency);
    assert!(allocate(Urgency::Ordinary).is_err());
    let first = allocate(Urgency::Emergency).unwrap();
    assert_eq!(first.address, reserve.address);
    assert_eq!(space.reserve_missing(), 4 << 10);
    assert_eq!(space.statistics().tree_bytes, 60 << 10);
    allocate(Urgency::Emergency).unwrap();
    let error = allocate(Urgency::Emergency).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);

    space.abandon(first).unwrap();
    space.set_current(Birth(1));
    let again = space
        .allocate(4 << 10, Owner::Reserve, Urgency::Ordinary)
        .unwrap();
    space.add_reserve(again).unwrap();
    assert_eq!(space.reserve_missing(), 4 << 10);
    space.set_reserve(0);
    assert_eq!(space.statistics().reserve_bytes, 0);
    allocate(Urgency::Ordinary).unwrap();
}

#[test]
fn the_part_that_is_being_emptied_is_avoided_while_there_is_other_room() {
    let mut properties = properties();
    properties.capacity_bytes = Some(128 << 10);
    let space = Space::new(&properties);
    let allocate = || space.allocate(16 << 10, Owner::Tree, Urgency::Ordinary);
    let first = [(); 4].map(|()| allocate().unwrap())[1];
    space.abandon(first).unwrap();
    space.set_current(Birth(1));
    space.avoid(Some(Address::new(0, 32 << 10)));
    assert_eq!(allocate().unwrap(), first);
    let before_end = space.allocate_before_end(16 << 10);
    let before_end = before_end.map_err(|error| error.kind());
    assert_eq!(before_end, Err(ErrorKind::StorageFull));
    assert_eq!(
        allocate().unwrap().address,
        Address::new(1, 0),
        "room of any kind is better than none"
    );
    space.avoid(Some(Address::new(1, 0)));
    assert_eq!(allocate().unwrap().address, Address::new(1, 16 << 10));
    space.avoid(None);
    space.allocate_before_end(16 << 10).unwrap();
}

#[test]
fn the_end_is_chosen_so_that_what_lies_behind_finds_room() {
    let space = Space::new(&properties());
    let hopes = Hopes::new(15, 0);
    assert_eq!(space.end_for_all(hopes).unwrap(), None);
    let allocate = |owner| space.allocate(16 << 10, owner, Urgency::Ordinary);
    let extents: Vec<_> = (0..16).map(|_| allocate(Owner::Tree).unwrap()).collect();
    allocate(Owner::Log).unwrap();
    let end = space.end_for_all(hopes).unwrap();
    assert_eq!(end, Some(Address::new(4, 0)), "all is full but for the log");
    for extent in &extents[..12] {
        space.abandon(*extent).unwrap();
    }
    space.set_current(Birth(1));
    let end = space.end_for_all(hopes).unwrap().unwrap();
    assert!(
        end > Address::new(1, 0) && end < Address::new(2, 0),
        "{end}"
    );
    let later = space.end_for_all(Hopes::new(15, 4)).unwrap().unwrap();
    assert!(later > end && later < Address::new(4, 0), "{later}");
    assert!(space.is_used_from(end).unwrap());
    assert!(!space.is_used_from(Address::new(5, 0)).unwrap());
    let behind = space.place_behind(Address::new(1, 60 << 10), 8 << 10);
    assert_eq!(behind, Address::new(2, 8 << 10));
    let behind = space.place_behind(Address::new(1, 8 << 10), 8 << 10);
    assert_eq!(behind, Address::new(1, 16 << 10));
}

#[test]
fn empty_segments_are_given_back_and_not_used_meanwhile() {
    let space = Space::new(&properties());
    let allocate = |bytes| space.allocate(bytes, Owner::Tree, Urgency::Ordinary);
    let extents: Vec<_> = (0..4).map(|_| allocate(64 << 10).unwrap()).collect();
    for extent in [extents[1], extents[3]] {
        space.abandon(extent).unwrap();
    }
    assert!(space.releasable().unwrap().is_empty());
    space.set_current(Birth(1));
    let releases = space.releasable().unwrap();
    let numbers: Vec<_> = releases
        .iter()
        .map(|release| release.extent.address.segment())
        .collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(allocate(512).unwrap().address.segment(), 4);
    space.released(&releases[1..], true);
    space.released(&releases[..1], true);
    assert!(space.releasable().unwrap().is_empty(), "once is enough");
    assert_eq!(space.segments(), 5);
    assert_eq!(allocate(64 << 10).unwrap().address.segment(), 1);
    space.abandon(extents[2]).unwrap();
    space.abandon(Extent::new(Address::new(4, 0), 512)).unwrap();
    space.set_current(Birth(2));
    space.released(&space.releasable().unwrap(), true);
    assert_eq!(space.segments(), 2);
    assert!(space.changed_segments().contains(&4));
    assert!(space.encode_segment(4).unwrap().is_empty());
}

#[test]
fn maps_load_on_demand_and_only_where_there_is_room() {
    let full = Space::new(&properties());
    for _ in 0..3 {
        full.allocate(64 << 10, Owner::Tree, Urgency::Ordinary)
            .unwrap();
    }
    full.allocate(32 << 10, Owner::Tree, Urgency::Ordinary)
        .unwrap();
    let maps: Vec<_> = (0..4)
        .map(|segment| full.encode_segment(segment).unwrap())
        .collect();
    let summary = full.encode_summary(0);

    let loads = Arc::new(AtomicUsize::new(0));
    let counted = loads.clone();
    let loader = move |segment: u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(maps.get(segment as usize).cloned())
    };
    let space = Space::open(&properties(), 4, Box::new(loader)).unwrap();
    space.apply_summary(0, &summary).unwrap();
    assert_eq!(space.statistics().tree_bytes, full.statistics().tree_bytes);
    let extent = space.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
    assert_eq!(extent.address, Address::new(3, 32 << 10));
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    space
        .drop_item(
            Dropped::Extent(Extent::new(Address::new(1, 0), 1024)),
            Birth(0),
            Birth(1),
        )
        .unwrap();
    assert_eq!(loads.load(Ordering::Relaxed), 1, "a drop waits for the map");
    assert_eq!(space.changed_segments(), [1, 3]);
    let map = map::Map::decode(&space.encode_segment(1).unwrap(), 128).unwrap();
    assert!(map.used.none(0, 2) && map.used.all(2, 126));
    assert_eq!(loads.load(Ordering::Relaxed), 2);
}

#[test]
fn a_loader_that_fails_or_gives_damaged_maps_is_an_error_and_no_more() {
    for damaged in [false, true] {
        let loader = move |_| match damaged {
            true => Ok(Some(vec![9; 9])),
            false => Err(Error::new(ErrorKind::Io, "no")),
        };
        let space = Space::open(&properties(), 1, Box::new(loader)).unwrap();
        let error = space
            .allocate(512, Owner::Tree, Urgency::Ordinary)
            .unwrap_err();
        let expected = if damaged {
            ErrorKind::Corrupt
        } else {
            ErrorKind::Io
        };
        assert_eq!(error.kind(), expected);
        assert_eq!(space.encode_segment(0).unwrap_err().kind(), expected);
        space.statistics();
    }
}

#[test]
fn a_damaged_count_of_segments_takes_no_memory_and_summaries_are_checked() {
    assert!(Space::open(&properties(), u64::MAX, Box::new(|_| Ok(None))).is_err());
    let space = Space::open(&properties(), 1 << 26, Box::new(|_| Ok(None))).unwrap();
    space.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
    assert!(space.releasable().unwrap().len() <= 2 * SUMMARY_SEGMENTS as usize);

    let space = Space::open(&properties(), 1500, Box::new(|_| Ok(None))).unwrap();
    assert!(space.apply_summary(0, &[128, 1]).is_err());
    assert!(space.apply_summary(1, &[5, 0xff, 0x07]).is_err());
    assert!(space.apply_summary(2, &[5, 0]).is_err());
    assert!(space.apply_summary(u32::MAX, &[5, 0]).is_err());
    assert!(space.apply_summary(0, &[0x81, 1, 0]).is_err());
    for seed in 0..1000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; random.usize(0..12)];
        random.fill(&mut bytes);
        let _ = space.apply_summary(random.u32(0..3), &bytes);
    }
    let space = Space::open(&properties(), 1500, Box::new(|_| Ok(None))).unwrap();
    space.apply_summary(0, &[5, 1, 0x80, 1, 0]).unwrap();
    assert_eq!(space.encode_summary(0), [5, 1, 0x80, 1, 0]);
}

#[test]
fn what_was_listed_for_a_root_outlives_that_root() {
    let space = Space::new(&properties());
    space.set_current(Birth(1));
    let allocate = || space.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
    let (page, leaf) = (allocate(), allocate());
    let pointer = PagePointer {
        address: page.address,
        length: page.length,
        ..PagePointer::NOTHING
    };
    let publish = |at| {
        space.set_current(Birth(at));
        let listed = space.pending_items().len();
        space.keep_root(Birth(at));
        listed
    };
    assert_eq!(publish(1), 0);
    space.set_current(Birth(2));
    space
        .drop_item(Dropped::Subtree(pointer), Birth(1), Birth(2))
        .unwrap();
    assert_eq!(publish(2), 1);
    assert!(space.collect().expand.is_empty(), "root 1 reaches it");
    assert_eq!(publish(3), 1);
    space.release_root(Birth(1));
    let expansion = space.collect().expand.pop().unwrap();
    assert_eq!(space.statistics().pending_items, 1, "until it is expanded");
    let parts = [page, leaf].map(|extent| (Dropped::Extent(extent), Birth(1)));
    space.expanded(expansion, parts).unwrap();
    assert_eq!(publish(4), 0);
    space.release_root(Birth(2));
    assert!(space.collect().freed.is_empty(), "root 3 lists it");
    assert_eq!(publish(5), 0);
    space.release_root(Birth(3));
    assert_eq!(space.collect().freed.len(), 2);
}

#[test]
fn threads_that_allocate_and_load_at_the_same_time_share_nothing() {
    // A thread whose finds are snatched away again and again would rather add a segment: there is
    // no room for one, so that every hole has to be found by somebody.
    let mut properties = properties();
    properties.capacity_bytes = Some(8 * (64 << 10));
    let full = Space::new(&properties);
    for _ in 0..8 * 64 {
        full.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
        let hole = full.allocate(512, Owner::Tree, Urgency::Ordinary).unwrap();
        full.abandon(hole).unwrap();
    }
    full.set_current(Birth(1));
    let maps: Vec<_> = (0..8).map(|at| full.encode_segment(at).unwrap()).collect();
    let loader = move |segment: u32| {
        thread::yield_now();
        Ok(maps.get(segment as usize).cloned())
    };
    let space = Space::open(&properties, 8, Box::new(loader)).unwrap();
    space.apply_summary(0, &full.encode_summary(0)).unwrap();
    let all = thread::scope(|scope| {
        let work = || {
            let allocate = || space.allocate(512, Owner::Unattached, Urgency::Ordinary);
            (0..128).map(|_| allocate().unwrap()).collect::<Vec<_>>()
        };
        let threads = [(); 4].map(|()| scope.spawn(work));
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), 4 * 128);
    assert!(
        all.iter()
            .all(|extent| extent.address.offset() % 1024 == 512)
    );
    let more = space.allocate(512, Owner::Unattached, Urgency::Ordinary);
    assert_eq!(more.unwrap_err().kind(), ErrorKind::StorageFull);
}
