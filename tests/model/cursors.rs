//! Cursors against a map: after each move, where it should stand and what is there.

use thunderhead::{Cursor, ErrorKind, Transaction};

use crate::run::{Bounds, Map, Outcome, Setup, between, bytes_of, same, told};
use crate::script::Move;

/// Where a cursor should stand.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Nowhere,
    Before,
    On(Vec<u8>),
    /// Where this key was.
    Gap(Vec<u8>),
    After,
}

impl Place {
    fn key(&self) -> Option<&[u8]> {
        match self {
            Self::On(key) => Some(key),
            _ => None,
        }
    }

    /// Where a move leads to.
    fn moved(&self, keys: &[&Vec<u8>], to: &Move, setup: &Setup) -> Self {
        let after = |key: &[u8]| keys.iter().find(|other| other.as_slice() > key);
        let before = |key: &[u8]| keys.iter().rfind(|other| other.as_slice() < key);
        let named = |number: &usize| setup.keys[*number].as_slice();
        let (found, else_at) = match (to, self) {
            (Move::First, _) | (Move::Next, Self::Nowhere | Self::Before) => {
                (keys.first(), Self::After)
            }
            (Move::Last, _) | (Move::Previous, Self::Nowhere | Self::After) => {
                (keys.last(), Self::Before)
            }
            (Move::Next, Self::After) => (None, Self::After),
            (Move::Previous, Self::Before) => (None, Self::Before),
            (Move::Next, Self::On(key) | Self::Gap(key)) => (after(key), Self::After),
            (Move::Previous, Self::On(key) | Self::Gap(key)) => (before(key), Self::Before),
            (Move::Seek(key), _) => {
                let key = named(key);
                let found = keys.iter().find(|other| other.as_slice() >= key);
                (found, Self::After)
            }
            (Move::SeekAfter(key), _) => (after(named(key)), Self::After),
            (Move::SeekBack(key), _) => {
                let key = named(key);
                let found = keys.iter().rfind(|other| other.as_slice() <= key);
                (found, Self::Before)
            }
            (Move::SeekBefore(key), _) => (before(named(key)), Self::Before),
            (Move::Value | Move::Put(_) | Move::Delete, _) => return self.clone(),
        };
        found.map_or(else_at, |key| Self::On((*key).clone()))
    }
}

/// Moves a cursor and compares where it stands.
macro_rules! go {
    ($cursor:expr, $setup:expr, $map:expr, $bounds:expr, $place:expr, $to:expr) => {{
        let (cursor, setup, to) = (&mut $cursor, $setup, $to);
        let keys: Vec<_> = between($map, $bounds)
            .into_iter()
            .map(|entry| entry.0)
            .collect();
        $place = $place.moved(&keys, to, setup);
        let found = match to {
            Move::First => cursor.first().wait(),
            Move::Last => cursor.last().wait(),
            Move::Next => cursor.next().wait(),
            Move::Previous => cursor.previous().wait(),
            Move::Seek(key) => cursor.seek(&setup.keys[*key]).wait(),
            Move::SeekAfter(key) => cursor.seek_after(&setup.keys[*key]).wait(),
            Move::SeekBack(key) => cursor.seek_back(&setup.keys[*key]).wait(),
            Move::SeekBefore(key) => cursor.seek_before(&setup.keys[*key]).wait(),
            Move::Value | Move::Put(_) | Move::Delete => {
                let found = cursor.value().wait().map_err(told)?;
                let expected = $place.key().and_then(|key| $map.get(key));
                same(found, expected.map(Vec::as_slice))?;
                Ok(found.is_some())
            }
        };
        same(found.map_err(told)?, $place.key().is_some())
            .and_then(|()| same(cursor.key(), $place.key()))
            .map_err(|message| format!("{to:?}: {message}"))?;
    }};
}

/// Moves a cursor that is confined to a range.
pub fn check_cursor(
    mut cursor: Cursor<'_>,
    setup: &Setup,
    map: &Map,
    bounds: Bounds<'_>,
    moves: &[Move],
) -> Outcome {
    let mut place = Place::Nowhere;
    for to in moves {
        go!(cursor, setup, map, bounds, place, to);
    }
    Ok(())
}

/// Moves a cursor of a transaction, and edits where it stands.
pub fn edit_at_cursor(
    transaction: &mut Transaction,
    setup: &Setup,
    map: &mut Map,
    bounds: Bounds<'_>,
    moves: &[Move],
) -> Outcome {
    let mut cursor = transaction.cursor_mut_in(bounds);
    let mut place = Place::Nowhere;
    for to in moves {
        let edited = match to {
            Move::Put(content) => cursor.put(bytes_of(*content)).wait(),
            Move::Delete => cursor.delete().wait(),
            to => {
                go!(cursor, setup, map, bounds, place, to);
                continue;
            }
        };
        match (&place, edited) {
            (Place::On(key), Ok(())) => {
                let key = key.clone();
                match to {
                    Move::Put(content) => drop(map.insert(key, bytes_of(*content))),
                    _ => {
                        map.remove(&key);
                        place = Place::Gap(key);
                    }
                }
            }
            (Place::On(_), Err(error)) => return Err(told(error)),
            (_, edited) => {
                let kind = edited.map_err(|error| error.kind());
                same(kind, Err(ErrorKind::InvalidArgument))?;
            }
        }
        same(cursor.key(), place.key()).map_err(|message| format!("{to:?}: {message}"))?;
    }
    Ok(())
}
