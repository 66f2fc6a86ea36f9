//! [`Space`] as a whole, against sets of sectors.

use super::*;
use crate::disk::Properties;
use crate::error::ErrorKind;
use crate::format::Birth;

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
    assert_eq!(space.pins(), [(Birth(1), 64 << 10)]);
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
