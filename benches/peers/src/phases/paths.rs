//! Paths as keys: long, and with much in common, with values of 8 bytes.

use super::session::{Session, check};
use crate::data::{Random, mix};
use crate::engines::{Direction, Result, Safety};

pub const PHASES: [&str; 3] = ["paths-load", "paths-reads", "paths-scan"];

/// Puts in a batch.
const BATCH: u64 = 10_000;

/// The path of an index. Files of a directory, and directories of a project, have neighbouring
/// indices; they are written in another order, see [`shuffled`].
fn path(index: u64) -> Vec<u8> {
    let file = index;
    let module = index / 40 % 100;
    let repository = index / 4_000 % 1_000;
    let user = index / 4_000_000;
    format!("/home/user{user:03}/projects/repository-{repository:04}/src/module_{module:03}/file_{file:08}.rs")
        .into_bytes()
}

fn content(index: u64) -> [u8; 8] {
    mix(index).to_be_bytes()
}

/// The place in which an index is written: each once, in an order far from that of the keys.
fn shuffled(position: u64, elements: u64) -> u64 {
    // A stride without a common divisor with the number reaches each.
    let stride = (elements / 2 + 1..).find(|&stride| gcd(stride, elements) == 1);
    (u128::from(position) * u128::from(stride.unwrap_or(1)) % u128::from(elements)) as u64
}

fn gcd(first: u64, second: u64) -> u64 {
    match second {
        0 => first,
        _ => gcd(second, first % second),
    }
}

pub fn run(session: &mut Session) -> Result<()> {
    let elements = session.amounts.elements;
    let raw: u64 = (0..elements)
        .map(|index| path(index).len() as u64 + 8)
        .sum();
    session.store()?;
    session.measure("paths-load", elements, true, |session, metrics| {
        metrics.insert("raw_bytes".to_owned(), raw as f64);
        let store = session.store()?;
        for begin in (0..elements).step_by(BATCH as usize) {
            store.write(Safety::Durable, &mut |writer| {
                (begin..elements.min(begin + BATCH)).try_for_each(|position| {
                    let index = shuffled(position, elements);
                    writer.put(&path(index), &content(index))
                })
            })?;
        }
        Ok(())
    })?;
    if session.wants("paths-reads") {
        let reads = session.amounts.reads;
        session.measure("paths-reads", reads, false, |session, _| {
            let mut random = Random::new(session.random.next());
            session.store()?.read(&mut |reader| {
                (0..reads).try_for_each(|_| {
                    let index = random.below(elements);
                    let mut right = false;
                    reader.get(&path(index), &mut |value| right = value == content(index))?;
                    check(right, || format!("the value of path {index}"))
                })
            })
        })?;
    }
    if session.wants("paths-scan") {
        session.measure("paths-scan", elements, false, |session, _| {
            let mut next = 0;
            let mut right = true;
            session.store()?.read(&mut |reader| {
                reader.range(&[], Direction::Forward, usize::MAX, &mut |key, value| {
                    // The order of the indices is that of the paths. Every 64th key is compared
                    // as a whole: making a path costs more than a scan does.
                    right &= value == content(next);
                    right &= next % 64 != 0 || key == path(next);
                    next += 1;
                })
            })?;
            check(right && next == elements, || {
                format!("a scan of {next} paths of {elements}")
            })
        })?;
    }
    session.close()
}
