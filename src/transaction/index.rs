//! Finding a transaction's own operations on a key.
//!
//! Few operations are found by their heads alone, newest first; more of them by a hash table that
//! names the newest of each key, from which older ones are chained. Made when first asked, and
//! brought up to date with the arena when asked again.

use hashbrown::HashTable;

use super::overlay::{Arena, Place};
use crate::format::record::{Record, Tag, hash_key, read_range_end};
use crate::tree::journal::{Found, Outcome, key_head};

/// Up to so many operations are searched one after the other.
const SCANNED_MAX: usize = 32;

/// No older operation of the key.
const NONE: u32 = u32::MAX;

struct Point {
    head: u64,
    place: Place,
    /// The number of the next older operation of the same key. Known once there is a table.
    older: u32,
}

struct RangeDelete {
    low_head: u64,
    place: Place,
}

/// The operations of an arena by key.
pub(super) struct Index {
    points: Vec<Point>,
    ranges: Vec<RangeDelete>,
    /// Numbers of the newest operations of their keys, with the hash.
    newest: HashTable<(u64, u32)>,
    /// Points before this number are in the table.
    hashed: usize,
    /// Records before this place are indexed.
    end: Place,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            points: Vec::new(),
            ranges: Vec::new(),
            newest: HashTable::new(),
            hashed: 0,
            end: Place::START,
        }
    }
}

impl Index {
    /// Takes in the records that were appended since the last call.
    pub(super) fn catch_up(&mut self, arena: &Arena) {
        if self.end == arena.end() {
            return;
        }
        for (place, record) in arena.records_from(self.end) {
            let head = key_head(record.key);
            if record.tag == Tag::DeleteRange {
                let low_head = head;
                self.ranges.push(RangeDelete { low_head, place });
            } else {
                let older = NONE;
                self.points.push(Point { head, place, older });
            }
        }
        self.end = arena.end();
        if self.hashed == 0 && self.points.len() <= SCANNED_MAX {
            return;
        }
        for number in self.hashed..self.points.len() {
            let key = arena.record(self.points[number].place).key;
            let hash = hash_key(key);
            let points = &self.points;
            let same = |&(other, newest): &(u64, u32)| {
                other == hash && arena.record(points[newest as usize].place).key == key
            };
            match self.newest.entry(hash, same, |&(hash, _)| hash) {
                hashbrown::hash_table::Entry::Occupied(mut entry) => {
                    self.points[number].older = entry.get().1;
                    entry.get_mut().1 = number as u32;
                }
                hashbrown::hash_table::Entry::Vacant(entry) => {
                    entry.insert((hash, number as u32));
                }
            }
        }
        self.hashed = self.points.len();
    }

    /// Forgets the records from a place on, which are still there. Costs in proportion to those.
    pub(super) fn forget_from(&mut self, arena: &Arena, end: Place) {
        let left = self.points.partition_point(|point| point.place < end);
        for number in (left..self.hashed).rev() {
            let Point { place, older, .. } = self.points[number];
            let hash = hash_key(arena.record(place).key);
            let same = |&(_, newest): &(u64, u32)| newest as usize == number;
            // Newer ones of the key have made place for it.
            if let Ok(mut entry) = self.newest.find_entry(hash, same) {
                match older {
                    NONE => drop(entry.remove()),
                    older => entry.get_mut().1 = older,
                }
            }
        }
        self.points.truncate(left);
        self.hashed = self.hashed.min(left);
        let left = self.ranges.partition_point(|range| range.place < end);
        self.ranges.truncate(left);
        self.end = self.end.min(end);
    }

    /// As [`Journal::lookup_after`](crate::tree::journal::Journal::lookup_after). The index is up to date.
    pub(super) fn lookup<'o>(&self, arena: &'o Arena, key: &[u8], out: &mut Found<'o>) -> Outcome {
        let covered = self.covering(arena, key);
        let mut number = self.newest(arena, key);
        while let Some(current) = number {
            let place = self.points[current].place;
            if covered > Some(place) {
                break;
            }
            let entry = arena.entry(place);
            out.push(entry);
            if entry.tag != Tag::Merge {
                return Outcome::Ends;
            }
            number = self.older(arena, key, current);
        }
        match covered {
            Some(_) => Outcome::Ends,
            None => Outcome::Continue,
        }
    }

    /// The number of the newest operation of a key.
    fn newest(&self, arena: &Arena, key: &[u8]) -> Option<usize> {
        if self.hashed == 0 {
            return self.scan(arena, key, self.points.len());
        }
        let hash = hash_key(key);
        let same = |&(other, newest): &(u64, u32)| {
            other == hash && arena.record(self.points[newest as usize].place).key == key
        };
        let found = self.newest.find(hash, same)?;
        Some(found.1 as usize)
    }

    fn older(&self, arena: &Arena, key: &[u8], number: usize) -> Option<usize> {
        if self.hashed == 0 {
            return self.scan(arena, key, number);
        }
        let older = self.points[number].older;
        (older != NONE).then_some(older as usize)
    }

    /// The last operation of a key before a number.
    fn scan(&self, arena: &Arena, key: &[u8], before: usize) -> Option<usize> {
        let head = key_head(key);
        self.points[..before]
            .iter()
            .rposition(|point| point.head == head && arena.record(point.place).key == key)
    }

    /// The place of the newest range delete that covers a key.
    fn covering(&self, arena: &Arena, key: &[u8]) -> Option<Place> {
        if self.ranges.is_empty() {
            return None;
        }
        let head = key_head(key);
        let newest_first = self.ranges.iter().rev();
        let mut covering = newest_first
            .filter(|range| range.low_head <= head)
            .filter(|range| {
                let (low, end) = bounds(arena.record(range.place));
                low <= key && end.is_none_or(|end| key < end)
            });
        covering.next().map(|range| range.place)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.points.capacity() * size_of::<Point>()
            + self.ranges.capacity() * size_of::<RangeDelete>()
            + self.newest.allocation_size()
    }
}

/// The first key that a range delete deletes and the first that it spares, if any.
pub(super) fn bounds(record: Record<'_>) -> (&[u8], Option<&[u8]>) {
    let end = read_range_end(record.payload).expect("the arena's range deletes are well formed");
    (record.key, end)
}
