//! Names of snapshots as entries of the system tree: keys and values, which may be damaged.
//!
//! [`crate::format::versions`] has the bytes. A name has three entries, which come and go together: by
//! name, by time and by sequence. Whoever saves, renames or deletes writes them; lists, opening and
//! `verify` read them.

use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::format::bytes::read_u64;
use crate::format::record::{Record, SYSTEM_TREE, Tag};

const BY_NAME: u8 = 16;
const BY_TIME: u8 = 17;
const BY_SEQUENCE: u8 = 18;

/// The longest name, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 1024;
/// The most that a caller may keep beside a name, in bytes.
pub(crate) const CALLERS_BYTES_MAX: usize = 1024;
/// Of the value by name, what stands before the caller's bytes.
const VALUE_HEADER_BYTES: usize = 24;
/// Of the value by time.
const TIME_VALUE_HEADER_BYTES: usize = 8;
/// Of the keys by time and by sequence, what stands before the name.
const INDEX_HEADER_BYTES: usize = 17;

/// What all keys by name begin with.
pub(crate) const NAMES: &[u8] = &[BY_NAME];
/// What all keys by time begin with.
pub(crate) const TIMES: &[u8] = &[BY_TIME];
/// The first key past those by time.
pub(crate) const TIMES_END: &[u8] = &[BY_SEQUENCE];
/// The first key past those of the three kinds.
pub(crate) const NAMES_END: &[u8] = &[BY_SEQUENCE + 1];

/// A snapshot that has a name, without that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    pub(crate) line: u64,
    pub(crate) sequence: SequenceNumber,
    /// Since 1970.
    pub(crate) time_ms: u64,
    /// The caller's.
    pub(crate) bytes: Vec<u8>,
}

/// What a key of these kinds says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NameKey<'k> {
    Name {
        name: &'k [u8],
    },
    Time {
        time_ms: u64,
        sequence: SequenceNumber,
        name: &'k [u8],
    },
    Sequence {
        line: u64,
        sequence: SequenceNumber,
        name: &'k [u8],
    },
}

impl<'k> NameKey<'k> {
    /// `None`: it is no key of these kinds.
    pub(crate) fn parse(key: &'k [u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let key = match *kind {
            BY_NAME => Self::Name { name: rest },
            kind @ (BY_TIME | BY_SEQUENCE) => {
                let (first, rest) = rest.split_first_chunk()?;
                let (second, name) = rest.split_first_chunk()?;
                let first = u64::from_be_bytes(*first);
                let sequence = SequenceNumber(u64::from_be_bytes(*second));
                match kind {
                    BY_TIME => Self::Time {
                        time_ms: first,
                        sequence,
                        name,
                    },
                    _ => Self::Sequence {
                        line: first,
                        sequence,
                        name,
                    },
                }
            }
            _ => return None,
        };
        (1..=NAME_BYTES_MAX)
            .contains(&key.name().len())
            .then_some(key)
    }

    pub(crate) fn name(&self) -> &'k [u8] {
        match *self {
            Self::Name { name } | Self::Time { name, .. } | Self::Sequence { name, .. } => name,
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Name { name } => [&[BY_NAME], name].concat(),
            Self::Time {
                time_ms,
                sequence,
                name,
            } => index_key(BY_TIME, time_ms, sequence, name),
            Self::Sequence {
                line,
                sequence,
                name,
            } => index_key(BY_SEQUENCE, line, sequence, name),
        }
    }
}

fn index_key(kind: u8, first: u64, sequence: SequenceNumber, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(INDEX_HEADER_BYTES + name.len());
    key.push(kind);
    key.extend_from_slice(&first.to_be_bytes());
    key.extend_from_slice(&sequence.0.to_be_bytes());
    key.extend_from_slice(name);
    key
}

/// The first key by time from so many milliseconds on.
pub(crate) fn time_key(time_ms: u64) -> Vec<u8> {
    [TIMES, &time_ms.to_be_bytes()].concat()
}

/// The first key by sequence of a line from a sequence on, and the first one past that line.
pub(crate) fn sequence_range(line: u64, from: SequenceNumber) -> (Vec<u8>, Vec<u8>) {
    let low = index_key(BY_SEQUENCE, line, from, &[]);
    let end = match line.checked_add(1) {
        Some(next) => index_key(BY_SEQUENCE, next, SequenceNumber(0), &[]),
        None => NAMES_END.to_vec(),
    };
    (low, end)
}

fn malformed() -> Error {
    Error::corrupt("a name of a snapshot in the system tree is malformed")
}

impl Named {
    fn to_value(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(VALUE_HEADER_BYTES + self.bytes.len());
        for number in [self.line, self.sequence.0, self.time_ms] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        value.extend_from_slice(&self.bytes);
        value
    }

    /// From what stands by name.
    pub(crate) fn from_value(value: &[u8]) -> Result<Self> {
        let number = |at| read_u64(value, at).ok_or_else(malformed);
        Ok(Self {
            line: number(0)?,
            sequence: SequenceNumber(number(8)?),
            time_ms: number(16)?,
            bytes: callers_bytes(value, VALUE_HEADER_BYTES)?,
        })
    }

    /// From what stands by time: the name, and the rest.
    pub(crate) fn from_time_entry(key: &[u8], value: &[u8]) -> Result<(Vec<u8>, Self)> {
        let Some(NameKey::Time {
            time_ms,
            sequence,
            name,
        }) = NameKey::parse(key)
        else {
            return Err(malformed());
        };
        let named = Self {
            line: read_u64(value, 0).ok_or_else(malformed)?,
            sequence,
            time_ms,
            bytes: callers_bytes(value, TIME_VALUE_HEADER_BYTES)?,
        };
        Ok((name.to_vec(), named))
    }

    /// The keys and values of its three entries under a name.
    pub(crate) fn entries(&self, name: &[u8]) -> [(Vec<u8>, Vec<u8>); 3] {
        let (line, sequence) = (self.line, self.sequence);
        let by_name = NameKey::Name { name };
        let by_time = NameKey::Time {
            time_ms: self.time_ms,
            sequence,
            name,
        };
        let by_sequence = NameKey::Sequence {
            line,
            sequence,
            name,
        };
        let time_value = [&line.to_le_bytes()[..], &self.bytes].concat();
        [
            (by_name.to_bytes(), self.to_value()),
            (by_time.to_bytes(), time_value),
            (by_sequence.to_bytes(), Vec::new()),
        ]
    }

    /// Appends the records that give it a name.
    pub(crate) fn append_to(&self, name: &[u8], out: &mut Vec<u8>) {
        self.append_records_to(Tag::Inline, name, out);
    }

    /// Appends the records that take a name from it.
    pub(crate) fn append_removal_to(&self, name: &[u8], out: &mut Vec<u8>) {
        self.append_records_to(Tag::Delete, name, out);
    }

    /// Those of [`Self::entries`], without making these one by one.
    fn append_records_to(&self, tag: Tag, name: &[u8], out: &mut Vec<u8>) {
        let payload_bytes = payload_bytes(tag, self.bytes.len());
        let mut key = Vec::with_capacity(INDEX_HEADER_BYTES + name.len());
        let numbers = [
            &[][..],
            &[self.time_ms, self.sequence.0],
            &[self.line, self.sequence.0],
        ];
        for (at, (kind, numbers)) in [BY_NAME, BY_TIME, BY_SEQUENCE]
            .into_iter()
            .zip(numbers)
            .enumerate()
        {
            key.clear();
            key.push(kind);
            for number in numbers {
                key.extend_from_slice(&number.to_be_bytes());
            }
            key.extend_from_slice(name);
            Record::append_head_to(out, tag, SYSTEM_TREE, &key, payload_bytes[at]);
            if payload_bytes[at] == 0 {
                continue;
            }
            out.extend_from_slice(&self.line.to_le_bytes());
            if kind == BY_NAME {
                out.extend_from_slice(&self.sequence.0.to_le_bytes());
                out.extend_from_slice(&self.time_ms.to_le_bytes());
            }
            out.extend_from_slice(&self.bytes);
        }
    }

    /// How many bytes the records take that give a name to a snapshot with so many of the caller's bytes,
    /// or take it away.
    pub(crate) fn records_bytes(tag: Tag, name: usize, callers: usize) -> usize {
        let keys = [1, INDEX_HEADER_BYTES, INDEX_HEADER_BYTES];
        let payloads = payload_bytes(tag, callers);
        let each = keys.into_iter().zip(payloads);
        each.map(|(key, payload)| Record::bytes_of(SYSTEM_TREE, key + name, payload))
            .sum()
    }
}

/// How many bytes stand by name, by time and by sequence.
fn payload_bytes(tag: Tag, callers: usize) -> [usize; 3] {
    match tag {
        Tag::Delete => [0; 3],
        _ => [
            VALUE_HEADER_BYTES + callers,
            TIME_VALUE_HEADER_BYTES + callers,
            0,
        ],
    }
}

fn callers_bytes(value: &[u8], at: usize) -> Result<Vec<u8>> {
    let bytes = value.get(at..).ok_or_else(malformed)?;
    match bytes.len() <= CALLERS_BYTES_MAX {
        true => Ok(bytes.to_vec()),
        false => Err(malformed()),
    }
}

/// The most that a caller may keep beside a name where values of so many bytes fit a leaf. `None`: there
/// are no names in such a store.
pub(crate) fn callers_bytes_max(inline_bytes_max: u32) -> Option<usize> {
    let left = (inline_bytes_max as usize).checked_sub(VALUE_HEADER_BYTES)?;
    Some(left.min(CALLERS_BYTES_MAX))
}

/// Checks a record of the system tree in the log.
pub(crate) fn check_record(record: &Record<'_>) -> Result<()> {
    let known = match (NameKey::parse(record.key), record.tag) {
        (Some(_), Tag::Delete) => record.payload.is_empty(),
        (Some(NameKey::Name { .. }), Tag::Inline) => Named::from_value(record.payload).is_ok(),
        (Some(NameKey::Time { .. }), Tag::Inline) => {
            Named::from_time_entry(record.key, record.payload).is_ok()
        }
        (Some(NameKey::Sequence { .. }), Tag::Inline) => record.payload.is_empty(),
        _ => false,
    };
    match known {
        true => Ok(()),
        false => Err(Error::corrupt(
            "a record of the system tree in the log is no name of a snapshot",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(random: &mut fastrand::Rng) -> Named {
        let bytes = (0..random.usize(..50)).map(|_| random.u8(..)).collect();
        Named {
            line: random.u64(..3),
            sequence: SequenceNumber(random.u64(..1000)),
            time_ms: random.u64(..),
            bytes,
        }
    }

    #[test]
    fn the_three_entries_of_a_name_say_the_same() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..500 {
            let named = named(&mut random);
            let name = vec![random.u8(..); random.usize(1..=NAME_BYTES_MAX)];
            let [by_name, by_time, by_sequence] = named.entries(&name);
            assert_eq!(
                NameKey::parse(&by_name.0),
                Some(NameKey::Name { name: &name })
            );
            assert_eq!(Named::from_value(&by_name.1).unwrap(), named);
            let found = Named::from_time_entry(&by_time.0, &by_time.1).unwrap();
            assert_eq!(found, (name.clone(), named.clone()));
            let expected = NameKey::Sequence {
                line: named.line,
                sequence: named.sequence,
                name: &name,
            };
            assert_eq!(NameKey::parse(&by_sequence.0), Some(expected));
            let (low, end) = sequence_range(named.line, named.sequence);
            assert!(low <= by_sequence.0 && by_sequence.0 < end);
            let (low, _) = sequence_range(named.line, named.sequence.next());
            assert!(by_sequence.0 < low);
            assert!(time_key(named.time_ms) <= by_time.0);
            if let Some(later) = named.time_ms.checked_add(1) {
                assert!(by_time.0 < time_key(later));
            }
            let mut records = Vec::new();
            named.append_to(&name, &mut records);
            let callers = named.bytes.len();
            let bytes = Named::records_bytes(Tag::Inline, name.len(), callers);
            assert_eq!(records.len(), bytes);
            named.append_removal_to(&name, &mut records);
            let bytes = bytes + Named::records_bytes(Tag::Delete, name.len(), callers);
            assert_eq!(records.len(), bytes);
            let mut rest = &records[..];
            let entries = [by_name, by_time, by_sequence];
            for tag in [Tag::Inline, Tag::Delete] {
                for (key, value) in &entries {
                    let (record, taken) = Record::read(rest).unwrap();
                    check_record(&record).unwrap();
                    let payload = if tag == Tag::Delete { &[] } else { &value[..] };
                    assert_eq!(
                        (record.tag, record.key, record.payload),
                        (tag, &key[..], payload)
                    );
                    rest = &rest[taken..];
                }
            }
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn hostile_entries_are_refused_or_mean_something() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..20_000 {
            let length = *random
                .choice(&[0, 1, 2, 9, 16, 17, 18, 30, 1025, 1026, 1041, 1042])
                .unwrap();
            let mut key: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            if let Some(kind) = key.first_mut() {
                *kind = 15 + *kind % 5;
            }
            if let Some(parsed) = NameKey::parse(&key) {
                assert_eq!(parsed.to_bytes(), key);
                assert!((1..=NAME_BYTES_MAX).contains(&parsed.name().len()));
            }
            let length = *random.choice(&[0, 7, 8, 23, 24, 25, 1048, 1049]).unwrap();
            let value: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            if let Ok(named) = Named::from_value(&value) {
                assert_eq!(named.to_value(), value);
            }
            let _ = Named::from_time_entry(&key, &value);
            for tag in [Tag::Inline, Tag::Delete, Tag::OffTree, Tag::DeleteRange] {
                let _ = check_record(&Record {
                    tag,
                    tree: SYSTEM_TREE,
                    key: &key,
                    payload: &value,
                });
            }
        }
    }
}
