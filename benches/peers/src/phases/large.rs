//! Large values: written, read, and read in part.

use super::session::{Session, check};
use crate::data::{fill, key, part_matches};
use crate::engines::{Result, Safety};

pub const PHASES: [&str; 6] = [
    "large-1-write",
    "large-1-read",
    "large-1-part",
    "large-64-write",
    "large-64-read",
    "large-64-part",
];

const MEBIBYTE: usize = 1 << 20;
const PART: usize = 4096;

/// Where the keys of the second kind begin.
const SECOND: u64 = 1000;

pub fn run(session: &mut Session) -> Result<()> {
    session.settings.large_values = true;
    let few = session.amounts.elements < 10_000;
    let (mut first, mut second) = ((100, MEBIBYTE), (4, 64 * MEBIBYTE));
    // At a tiny size it is only to be seen that it works.
    if few {
        (first, second) = ((4, MEBIBYTE), (1, 4 * MEBIBYTE));
    }
    kind(session, 0, first, &PHASES[..3])?;
    kind(session, SECOND, second, &PHASES[3..])?;
    session.close()
}

fn kind(
    session: &mut Session,
    begin: u64,
    (values, length): (u64, usize),
    phases: &[&str],
) -> Result<()> {
    let mut value = vec![0; length];
    let indices = begin..begin + values;
    session.store()?;
    session.measure(phases[0], values, true, |session, metrics| {
        metrics.insert("raw_bytes".to_owned(), (values * length as u64) as f64);
        let store = session.store()?;
        indices.clone().try_for_each(|index| {
            fill(index, 1, &mut value);
            store.put(Safety::Durable, &key(index), &value)
        })
    })?;
    drop(value);
    if session.wants(phases[1]) {
        session.measure(phases[1], values, false, |session, _| {
            session.store()?.read(&mut |reader| {
                indices.clone().try_for_each(|index| {
                    let mut right = false;
                    reader.get(&key(index), &mut |value| {
                        right = value.len() == length && part_matches(index, 1, 0, value);
                    })?;
                    check(right, || format!("the large value of index {index}"))
                })
            })
        })?;
    }
    if session.wants(phases[2]) {
        // Parts of each value, at offsets all over it.
        let parts = values * 10;
        session.measure(phases[2], parts, false, |session, _| {
            let (store, _, random) = session.parts()?;
            store.read(&mut |reader| {
                (0..parts).try_for_each(|part| {
                    let index = begin + part % values;
                    let offset = random.below((length - PART) as u64 / 8) as usize * 8;
                    let mut right = false;
                    reader.get_part(&key(index), offset, PART, &mut |value| {
                        right = value.len() == PART && part_matches(index, 1, offset, value);
                    })?;
                    check(right, || {
                        format!("a part at {offset} of the value of index {index}")
                    })
                })
            })
        })?;
    }
    Ok(())
}
