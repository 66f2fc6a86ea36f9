//! What differs between two versions, against what differs between two maps.

use std::ops::Bound;

use thunderhead::{Difference, Snapshot};

use crate::run::{Map, Outcome, Setup, between, told};

/// A key, and what two maps have for it.
type Changed = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

fn expected(old: &Map, new: &Map, bounds: (Bound<&[u8]>, Bound<&[u8]>)) -> Vec<Changed> {
    let mut keys: Vec<&Vec<u8>> = [old, new]
        .into_iter()
        .flat_map(|map| between(map, bounds))
        .map(|(key, _)| key)
        .collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| (key.clone(), old.get(key).cloned(), new.get(key).cloned()))
        .collect()
}

fn read(difference: Difference) -> Outcome<Changed> {
    let load = |value: Option<&thunderhead::StoredValue>| -> Outcome<Option<Vec<u8>>> {
        let Some(value) = value else { return Ok(None) };
        let loaded = value.load().wait().map_err(told)?;
        if value.length().wait().map_err(told)? != loaded.len() as u64 {
            return Err("another length than that of the value".into());
        }
        if value.at_hand().is_some_and(|bytes| loaded != bytes) {
            return Err("other bytes at hand than those of the value".into());
        }
        Ok(Some(loaded.to_vec()))
    };
    let key = difference.key().to_vec();
    Ok((key, load(difference.old())?, load(difference.new())?))
}

/// Compares what differs between two versions. Each bit says from which end the next one is taken;
/// then all the rest from the front.
pub fn check_diff(
    setup: &Setup,
    (old, old_map): (&Snapshot, &Map),
    (new, new_map): (&Snapshot, &Map),
    (low, high): (Bound<usize>, Bound<usize>),
    ends: &[bool],
) -> Outcome {
    let bounds = setup.bounds(low, high);
    let expected = expected(old_map, new_map, bounds);
    let mut differences = old.diff_range(new, bounds).map_err(told)?;
    let (mut front, mut back) = (Vec::new(), Vec::new());
    for end in ends {
        let next = match end {
            true => differences.next(),
            false => differences.next_back(),
        };
        let Some(next) = next.transpose().map_err(told)? else {
            break;
        };
        match end {
            true => front.push(read(next)?),
            false => back.push(read(next)?),
        }
    }
    for next in differences.by_ref() {
        front.push(read(next.map_err(told)?)?);
    }
    if differences.next_back().is_some() {
        return Err("more differences after the last".into());
    }
    front.extend(back.into_iter().rev());
    if front != expected {
        let keys = |changes: &[Changed]| {
            let keys = changes
                .iter()
                .map(|(key, ..)| key[..key.len().min(60)].to_vec());
            keys.collect::<Vec<_>>()
        };
        let (found, expected) = (keys(&front), keys(&expected));
        return Err(format!("differences in {found:?} and not in {expected:?}"));
    }
    if old.is_same(new).wait().map_err(told)? != (old_map == new_map) {
        return Err("another answer to whether two versions are the same".into());
    }
    Ok(())
}
