//! Reads, ranges and scans, each of which checks what it is given.

use std::cmp::Ordering;

use super::session::{Session, check};
use crate::data::{
    ABSENT, Model, Order, Random, Sums, ends_match, index_of, key, place, place_of, value_matches,
};
use crate::engines::{Direction, Engine, Reader, Result};

/// An index that has a value.
pub fn present(model: &Model, random: &mut Random) -> u64 {
    loop {
        let index = random.below(model.indices());
        if model.version(index) != 0 {
            return index;
        }
    }
}

/// Reads a key and compares each byte of its value with what it must be, be it nothing.
pub fn read_one(reader: &mut dyn Reader, model: &Model, index: u64) -> Result<()> {
    let version = model.version(index);
    let mut right = false;
    let found = reader.get(&key(index), &mut |value| {
        right = value_matches(index, version, value);
    })?;
    check(found == (version != 0) && (right || !found), || {
        format!("the value of index {index}, version {version}, found: {found}, right: {right}")
    })
}

fn read_many(store: &dyn Engine, model: &Model, random: &mut Random, reads: u64) -> Result<()> {
    store.read(&mut |reader| {
        (0..reads).try_for_each(|_| read_one(reader, model, present(model, random)))
    })
}

pub fn reads(session: &mut Session) -> Result<()> {
    let reads = session.amounts.reads;
    session.measure("reads", reads, false, |session, _| {
        let (store, model, random) = session.parts()?;
        read_many(store, model, random, reads)
    })
}

pub fn misses(session: &mut Session) -> Result<()> {
    let reads = session.amounts.reads;
    session.measure("misses", reads, false, |session, _| {
        let (store, model, random) = session.parts()?;
        store.read(&mut |reader| {
            (0..reads).try_for_each(|_| read_one(reader, model, ABSENT + random.below(ABSENT)))
        })
    })
}

pub fn threads(session: &mut Session, phase: &str, threads: u64) -> Result<()> {
    let reads = session.amounts.reads;
    session.measure(phase, reads, false, |session, _| {
        let (store, model, random) = session.parts()?;
        let seed = random.next();
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    let model = &*model;
                    let mut random = Random::new(seed ^ thread);
                    scope.spawn(move || read_many(store, model, &mut random, reads / threads))
                })
                .collect();
            running.into_iter().try_for_each(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a reading thread panicked".into()))
            })
        })
    })
}

/// Entries of a range.
const RANGE: usize = 10;

pub fn ranges(session: &mut Session, phase: &str, direction: Direction) -> Result<()> {
    let ranges = session.amounts.ranges;
    let sorted = session.model.sorted_sixteenth();
    session.measure(phase, ranges, false, |session, _| {
        let (store, model, random) = session.parts()?;
        store.read(&mut |reader| {
            (0..ranges).try_for_each(|_| {
                let from = present(model, random);
                range_one(reader, model, &sorted, from, direction)
            })
        })
    })
}

fn range_one(
    reader: &mut dyn Reader,
    model: &Model,
    sorted: &[u64],
    from: u64,
    direction: Direction,
) -> Result<()> {
    let mut places = [0; RANGE];
    let mut entries = 0;
    let mut right = true;
    let mut order = Order::new(wanted(direction));
    reader.range(&key(from), direction, RANGE, &mut |key, value| {
        right &= order.holds(key);
        right &= index_of(key).is_some_and(|index| {
            let version = model.version(index);
            version != 0 && ends_match(index, version, value)
        });
        if let Some(place) = places.get_mut(entries) {
            *place = place_of(key);
        }
        entries += 1;
    })?;
    // The range begins with the key that was asked for. How many follow is known to be ten but at
    // the ends of the store, and which ones, in the part of which the order is kept.
    right &= (1..=RANGE).contains(&entries) && places[0] == place(from);
    let at = sorted.partition_point(|&other| other < place(from));
    let known = place(from) >> 60 == 0;
    match direction {
        Direction::Forward if known => {
            let expected = &sorted[at..sorted.len().min(at + RANGE)];
            right &= places[..entries].starts_with(&expected[..expected.len().min(entries)]);
            right &= entries >= expected.len();
        }
        Direction::Backward if known => {
            let expected = sorted[..=at].iter().rev().take(RANGE);
            right &= expected.copied().eq(places[..entries].iter().copied());
        }
        Direction::Forward => {
            right &= entries == RANGE || place(from) >> 60 == 15 || model.indices() < 10_000;
        }
        Direction::Backward => right &= entries == RANGE || model.indices() < 10_000,
    }
    check(right, || {
        format!("a range of {entries} from index {from}, {direction:?}")
    })
}

fn wanted(direction: Direction) -> Ordering {
    match direction {
        Direction::Forward => Ordering::Greater,
        Direction::Backward => Ordering::Less,
    }
}

/// Reads everything in order; gives what it adds up to.
pub fn scan_all(store: &dyn Engine, direction: Direction) -> Result<Sums> {
    let from: &[u8] = match direction {
        Direction::Forward => &[],
        Direction::Backward => &[0xff; 32],
    };
    let mut sums = Sums::default();
    let mut right = true;
    let mut order = Order::new(wanted(direction));
    store.read(&mut |reader| {
        reader.range(from, direction, usize::MAX, &mut |key, value| {
            right &= order.holds(key);
            sums.add(key, value);
        })
    })?;
    check(right, || "keys out of order".to_owned())?;
    Ok(sums)
}

pub fn scan(session: &mut Session, phase: &str, direction: Direction) -> Result<()> {
    let expected = session.model.sums();
    session.measure(phase, expected.entries, false, |session, _| {
        let sums = scan_all(session.store()?, direction)?;
        check(sums == expected, || {
            format!("a scan gave {sums:?} instead of {expected:?}")
        })
    })
}

pub fn count(session: &mut Session) -> Result<()> {
    let expected = session.model.entries();
    session.measure("count", 1, false, |session, _| {
        let mut count = 0;
        session.store()?.read(&mut |reader| {
            count = reader.count()?;
            Ok(())
        })?;
        check(count == expected, || {
            format!("a count of {count} instead of {expected}")
        })
    })
}

/// Looks at everything, outside all timing: after work that reads do not follow.
pub fn verify(session: &mut Session) -> Result<()> {
    let expected = session.model.sums();
    let sums = scan_all(session.store()?, Direction::Forward)?;
    check(sums == expected, || {
        format!("the store holds {sums:?} instead of {expected:?}")
    })?;
    let (store, model, random) = session.parts()?;
    store.read(&mut |reader| {
        (0..1000).try_for_each(|_| {
            let index = random.below(model.indices() + 10);
            read_one(reader, model, index)
        })
    })
}
