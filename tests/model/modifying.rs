//! What depends on what is there: done to a store or in a transaction, and to a map; both give the same.

use thunderhead::{Store, Transaction};

use crate::run::{Bounds, Map, Outcome, Setup, between, bytes_of, operand, same, told};
use crate::script::Modify;

/// Whether an entry is one of those that a retaining or extracting step is about.
pub fn chosen(number: u8, key: &[u8], value: &[u8]) -> bool {
    let last = key.last().unwrap_or(&0);
    (last ^ number ^ value.len() as u8) & 3 == 0
}

fn updated(before: Option<&[u8]>, number: u8) -> Option<Vec<u8>> {
    let mut after = before.unwrap_or_default().to_vec();
    after.truncate(after.len() / 2);
    after.extend(operand(number));
    (!after.is_empty()).then_some(after)
}

/// Does what depends on what is there to a store or a transaction, and to the map; compares what
/// both give.
macro_rules! modify {
    ($target:expr, $setup:expr, $map:expr, $modify:expr) => {{
        let (target, setup, map) = ($target, $setup, $map);
        let plain = |entry: Option<(Vec<u8>, thunderhead::Value)>| {
            entry.map(|(key, value)| (key, value.to_vec()))
        };
        match $modify {
            Modify::Insert(key, content) => {
                let (key, bytes) = (&setup.keys[*key], bytes_of(*content));
                let found = target.insert(key, &bytes).wait().map_err(told)?;
                let expected = map.insert(key.clone(), bytes);
                same(found.as_deref(), expected.as_deref())
            }
            Modify::Remove(key) => {
                let key = &setup.keys[*key];
                let found = target.remove(key).wait().map_err(told)?;
                same(found.as_deref(), map.remove(key).as_deref())
            }
            Modify::PutIfAbsent(key, content) => {
                let (key, bytes) = (&setup.keys[*key], bytes_of(*content));
                let found = target.put_if_absent(key, &bytes).wait().map_err(told)?;
                same(found.as_deref(), map.get(key).map(Vec::as_slice))?;
                map.entry(key.clone()).or_insert(bytes);
                Ok(())
            }
            Modify::CompareExchange(key, right, new) => {
                let key = &setup.keys[*key];
                let before = map.get(key).cloned();
                let expected = match right {
                    true => before.clone(),
                    false => Some(b"something that nobody puts".to_vec()),
                };
                let new = new.map(bytes_of);
                let found = target.compare_exchange(key, expected.as_deref(), new.as_deref());
                let found = found.wait().map_err(told)?;
                match found {
                    Ok(()) => same(expected, before)?,
                    Err(found) => {
                        same(*right, false)?;
                        return same(found.as_deref(), before.as_deref());
                    }
                }
                match new {
                    Some(new) => map.insert(key.clone(), new),
                    None => map.remove(key),
                };
                Ok(())
            }
            Modify::Update(key, number) => {
                let key = &setup.keys[*key];
                let update = |before: Option<&[u8]>| updated(before, *number);
                let found = target.update(key, update).wait().map_err(told)?;
                let expected = update(map.get(key).map(Vec::as_slice));
                match &expected {
                    Some(after) => map.insert(key.clone(), after.clone()),
                    None => map.remove(key),
                };
                same(found.as_deref(), expected.as_deref())
            }
            Modify::Stream(key, content, piece, finish) => {
                let (key, bytes) = (&setup.keys[*key], bytes_of(*content));
                let mut writer = target.value_writer(key).map_err(told)?;
                for (number, piece) in bytes.chunks(*piece).enumerate() {
                    match number % 3 {
                        0 => writer.write(piece).wait().map_err(told)?,
                        1 => std::io::Write::write_all(&mut writer, piece)
                            .map_err(|error| error.to_string())?,
                        _ => writer.write_bytes(piece.to_vec()).wait().map_err(told)?,
                    }
                }
                same(writer.length(), bytes.len() as u64)?;
                if *finish {
                    writer.finish().wait().map_err(told)?;
                    map.insert(key.clone(), bytes);
                }
                Ok(())
            }
            Modify::WriteAt(key, offset, content) => {
                let (key, bytes) = (&setup.keys[*key], bytes_of(*content));
                target.write_at(key, *offset, &bytes).wait().map_err(told)?;
                if !bytes.is_empty() {
                    let value = map.entry(key.clone()).or_default();
                    let (from, end) = (*offset as usize, *offset as usize + bytes.len());
                    value.resize(value.len().max(end), 0);
                    value[from..end].copy_from_slice(&bytes);
                }
                Ok(())
            }
            Modify::AppendTo(key, content) => {
                let (key, bytes) = (&setup.keys[*key], bytes_of(*content));
                target.append_to(key, &bytes).wait().map_err(told)?;
                if !bytes.is_empty() {
                    map.entry(key.clone()).or_default().extend(bytes);
                }
                Ok(())
            }
            Modify::Truncate(key, length) => {
                let key = &setup.keys[*key];
                target.truncate(key, *length).wait().map_err(told)?;
                if let Some(value) = map.get_mut(key) {
                    value.truncate(*length as usize);
                }
                Ok(())
            }
            Modify::PopFirst => {
                let found = target.pop_first().wait().map_err(told)?;
                same(plain(found), map.pop_first())
            }
            Modify::PopLast => {
                let found = target.pop_last().wait().map_err(told)?;
                same(plain(found), map.pop_last())
            }
            Modify::RetainIn(low, high, number) => {
                let bounds = setup.bounds(*low, *high);
                let keep = |key: &[u8], value: &[u8]| !chosen(*number, key, value);
                let found = target.retain_in(bounds, keep).wait().map_err(told)?;
                let gone: Vec<_> = between(map, bounds)
                    .into_iter()
                    .filter(|(key, value)| chosen(*number, key, value))
                    .map(|(key, _)| key.clone())
                    .collect();
                gone.iter().for_each(|key| drop(map.remove(key)));
                same(found, gone.len() as u64)
            }
            Modify::ExtractIf(low, high, number) => {
                let bounds = setup.bounds(*low, *high);
                let take = |key: &[u8], value: &[u8]| chosen(*number, key, value);
                let expected: Vec<_> = between(map, bounds)
                    .into_iter()
                    .filter(|(key, value)| take(key, value))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                expected.iter().for_each(|(key, _)| drop(map.remove(key)));
                let found = Extracts::extracted(target, bounds, take)?;
                same(found, expected)
            }
        }
        .map_err(|message| format!("{:?}: {message}", $modify))
    }};
}

type Plain = Vec<(Vec<u8>, Vec<u8>)>;

/// Stores give all at once, transactions one after the other.
trait Extracts {
    fn extracted(
        self,
        range: Bounds<'_>,
        take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Outcome<Plain>;
}

impl Extracts for &Store {
    fn extracted(
        self,
        range: Bounds<'_>,
        take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Outcome<Plain> {
        let found = self.extract_if(range, take).wait().map_err(told)?;
        let plain = found.into_iter().map(|(key, value)| (key, value.to_vec()));
        Ok(plain.collect())
    }
}

impl Extracts for &mut Transaction {
    fn extracted(
        self,
        range: Bounds<'_>,
        take: impl FnMut(&[u8], &[u8]) -> bool + Send,
    ) -> Outcome<Plain> {
        let found = self.extract_if(range, take);
        let plain = found.map(|entry| entry.map(|(key, value)| (key, value.to_vec())));
        plain.collect::<Result<_, _>>().map_err(told)
    }
}

/// To a store.
pub fn modify_store(setup: &Setup, store: &Store, map: &mut Map, modify: &Modify) -> Outcome {
    modify!(store, setup, map, modify)
}

/// In a transaction.
pub fn modify_in(
    setup: &Setup,
    transaction: &mut Transaction,
    map: &mut Map,
    modify: &Modify,
) -> Outcome {
    modify!(transaction, setup, map, modify)
}
