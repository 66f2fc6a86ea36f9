//! Reads of a store, a snapshot or a transaction, each compared with what a map has.

use std::io::{Read as _, Seek, SeekFrom};

use thunderhead::{Snapshot, Store, Transaction};

use crate::cursors::check_cursor;
use crate::run::{Map, Outcome, Setup, between, same, told};
use crate::script::Read;

/// Whatever can be read: a store, a snapshot, a transaction.
pub trait Readable {
    fn check(&self, setup: &Setup, map: &Map, read: &Read) -> Outcome;
    fn check_all(&self, map: &Map) -> Outcome;
}

fn owned(entry: Option<(&Vec<u8>, &Vec<u8>)>) -> Option<(Vec<u8>, Vec<u8>)> {
    entry.map(|(key, value)| (key.clone(), value.clone()))
}

macro_rules! readable {
    ($type:ty) => {
        impl Readable for $type {
            fn check(&self, setup: &Setup, map: &Map, read: &Read) -> Outcome {
                let plain = |found: Option<(Vec<u8>, thunderhead::Value)>| {
                    found.map(|(key, value)| (key, value.to_vec()))
                };
                match read {
                    Read::Get(key) => {
                        let key = &setup.keys[*key];
                        let found = self.get(key).wait().map_err(told)?;
                        same(found.as_deref(), map.get(key).map(Vec::as_slice))
                    }
                    Read::GetMany(keys) => {
                        let keys = keys.iter().map(|key| &setup.keys[*key]);
                        let found = self.get_many(keys.clone()).wait().map_err(told)?;
                        let found: Vec<_> = found.iter().map(Option::as_deref).collect();
                        let expected = keys.map(|key| map.get(key).map(Vec::as_slice));
                        same(found, expected.collect())
                    }
                    Read::GetWith(key) => {
                        let key = &setup.keys[*key];
                        let found = self.get_with(key, <[u8]>::to_vec).wait().map_err(told)?;
                        same(found.as_ref(), map.get(key))
                    }
                    Read::GetPart(key, offset, length) => {
                        let key = &setup.keys[*key];
                        let found = self.get_part(key, *offset, *length).wait().map_err(told)?;
                        let expected = map.get(key).map(|value| {
                            let from = (*offset as usize).min(value.len());
                            &value[from..(from + length).min(value.len())]
                        });
                        same(found.as_deref(), expected)
                    }
                    Read::Stream(key, place, piece) => {
                        let key = &setup.keys[*key];
                        let found = self.value_reader(key).wait().map_err(told)?;
                        let expected = map.get(key);
                        same(
                            found.as_ref().map(|reader| reader.length()),
                            expected.map(|value| value.len() as u64),
                        )?;
                        let (Some(mut reader), Some(expected)) = (found, expected) else {
                            return Ok(());
                        };
                        let from = (*place as usize).min(expected.len());
                        reader
                            .seek(SeekFrom::Start(*place))
                            .map_err(|error| error.to_string())?;
                        let mut read = vec![0; (*piece).min(expected.len() - from)];
                        reader
                            .read_exact(&mut read)
                            .map_err(|error| error.to_string())?;
                        same(&read[..], &expected[from..from + read.len()])?;
                        let rest = reader
                            .chunks()
                            .collect::<Result<Vec<_>, _>>()
                            .map_err(told)?;
                        same(&rest.concat()[..], &expected[from + read.len()..])
                    }
                    Read::ValueLength(key) => {
                        let key = &setup.keys[*key];
                        let found = self.value_length(key).wait().map_err(told)?;
                        same(found, map.get(key).map(|value| value.len() as u64))
                    }
                    Read::ContainsKey(key) => {
                        let key = &setup.keys[*key];
                        let found = self.contains_key(key).wait().map_err(told)?;
                        same(found, map.contains_key(key))
                    }
                    Read::Range(low, high, ends) => {
                        let bounds = setup.bounds(*low, *high);
                        let mut range = self.range(bounds);
                        let mut expected = between(map, bounds).into_iter();
                        for (number, back) in ends.iter().enumerate() {
                            let found = match (back, number % 2) {
                                (false, 0) => range.next().transpose().map_err(told)?,
                                (false, _) => range.next_entry().wait().map_err(told)?,
                                (true, 0) => range.next_back().transpose().map_err(told)?,
                                (true, _) => range.next_back_entry().wait().map_err(told)?,
                            };
                            let expected = match back {
                                false => expected.next(),
                                true => expected.next_back(),
                            };
                            same(plain(found), owned(expected))?;
                        }
                        for found in range {
                            same(plain(Some(found.map_err(told)?)), owned(expected.next()))?;
                        }
                        same(None, owned(expected.next()))
                    }
                    Read::Keys(low, high, ends) => {
                        let bounds = setup.bounds(*low, *high);
                        let mut expected = between(map, bounds).into_iter().map(|(key, _)| key);
                        let mut range = self.range(bounds);
                        for back in ends.iter().take(3) {
                            let (found, expected) = match back {
                                false => {
                                    let found = range.next_key_with(<[u8]>::to_vec);
                                    (found.wait().map_err(told)?, expected.next())
                                }
                                true => {
                                    let found = range.next_back_key_with(<[u8]>::to_vec);
                                    (found.wait().map_err(told)?, expected.next_back())
                                }
                            };
                            same(found.as_ref(), expected)?;
                        }
                        let mut keys = range.keys();
                        for back in ends.iter().skip(3) {
                            let (found, expected) = match back {
                                false => (keys.next(), expected.next()),
                                true => (keys.next_back(), expected.next_back()),
                            };
                            same(found.transpose().map_err(told)?.as_ref(), expected)?;
                        }
                        let rest = futures::executor::block_on_stream(keys);
                        for found in rest {
                            same(Some(&found.map_err(told)?), expected.next())?;
                        }
                        same(None, expected.next())
                    }
                    Read::Cursor(low, high, moves) => {
                        let bounds = setup.bounds(*low, *high);
                        check_cursor(self.cursor_in(bounds), setup, map, bounds, moves)
                    }
                    Read::Prefix(key, length) => {
                        let key = &setup.keys[*key];
                        let prefix = &key[..(*length).min(key.len())];
                        let mut expected = map.iter().filter(|(key, _)| key.starts_with(prefix));
                        for found in self.prefix(prefix) {
                            same(plain(Some(found.map_err(told)?)), owned(expected.next()))?;
                        }
                        same(None, owned(expected.next()))
                    }
                    Read::Components(separator) => {
                        let mut expected: Vec<&[u8]> = Vec::new();
                        for key in map.keys() {
                            let end = key.iter().position(|byte| byte == separator);
                            let name = end.map_or(key.as_slice(), |end| &key[..=end]);
                            if expected.last() != Some(&name) {
                                expected.push(name);
                            }
                        }
                        let found: Result<Vec<_>, _> = self.components(*separator).collect();
                        same(
                            found.map_err(told)?.iter().map(Vec::as_slice).collect(),
                            expected,
                        )
                    }
                    Read::First => {
                        let found = self.first().wait().map_err(told)?;
                        same(plain(found), owned(map.iter().next()))
                    }
                    Read::Last => {
                        let found = self.last().wait().map_err(told)?;
                        same(plain(found), owned(map.iter().next_back()))
                    }
                    Read::Len => same(self.len().wait().map_err(told)?, map.len() as u64),
                    Read::IsEmpty => same(self.is_empty().wait().map_err(told)?, map.is_empty()),
                    Read::Count(low, high) => {
                        let bounds = setup.bounds(*low, *high);
                        let found = self.count(bounds).wait().map_err(told)?;
                        same(found, between(map, bounds).len() as u64)
                    }
                    Read::Estimate(low, high) => {
                        let bounds = setup.bounds(*low, *high);
                        let found = self.estimate(bounds).wait().map_err(told)?;
                        let exact = between(map, bounds).len() as u64;
                        let (entries, bytes) = (&found.entries, &found.bytes);
                        match entries.contains(&exact) && bytes.start() <= bytes.end() {
                            true => Ok(()),
                            false => Err(format!("{found:?}, there are {exact}")),
                        }
                    }
                    Read::Nth(rank) => {
                        let found = self.nth(*rank).wait().map_err(told)?;
                        same(plain(found), owned(map.iter().nth(*rank as usize)))
                    }
                }
                .map_err(|message| format!("{read:?}: {message}"))
            }

            fn check_all(&self, map: &Map) -> Outcome {
                let mut expected = map.iter();
                for found in self.iter() {
                    let (key, value) = found.map_err(told)?;
                    let value = value.to_vec();
                    same(Some((key, value)), owned(expected.next()))?;
                }
                same(None, owned(expected.next()))?;
                let mut expected = map.iter().rev();
                for found in self.iter().rev() {
                    let (key, value) = found.map_err(told)?;
                    let value = value.to_vec();
                    same(Some((key, value)), owned(expected.next()))
                        .map_err(|message| format!("backwards: {message}"))?;
                }
                same(None, owned(expected.next()))?;
                same(self.len().wait().map_err(told)?, map.len() as u64)?;
                for (key, value) in map {
                    let found = self.get(key).wait().map_err(told)?;
                    same(found.as_deref(), Some(value.as_slice()))?;
                }
                Ok(())
            }
        }
    };
}

readable!(Store);
readable!(Snapshot);
readable!(Transaction);
