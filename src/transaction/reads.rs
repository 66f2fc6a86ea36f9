//! [`Reads`]: what a transaction asked for; [`Ranges`]: the same in order, to be searched.
//!
//! A read is noted as a range of keys: one key, or from where a range was entered to the last position
//! that was given, gaps included. Noting is an append; order is made once, at the commit, and only if
//! anybody else committed meanwhile. A range that is still open counts as a whole, so that one which is
//! leaked and never says how far it went hides nothing.
//!
//! The memory is bounded: what exceeds it is joined with its neighbours, gaps included. That may find
//! conflicts where there are none, never the other way round.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::tree::journal::key_head;

/// Room for the keys of a transaction that reads few.
const BYTES_AT_FIRST: usize = 128;

/// Where some bytes stand.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: u32,
    length: u32,
}

/// Where a range ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With this key.
    After(Span),
    /// Just before this key.
    Before(Span),
    Unbounded,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    head: u64,
    low: Span,
    end: End,
}

/// A range whose end is not known yet.
type Open = Option<(Bound<Vec<u8>>, Bound<Vec<u8>>)>;

/// What a transaction asked for.
#[derive(Default)]
pub(crate) struct Reads {
    list: List,
    open: Vec<Open>,
    /// Which of them are closed, and can be used again.
    free: Vec<usize>,
    /// Beyond so many bytes, neighbours are joined.
    bytes_max: usize,
}

/// Ranges with their keys.
#[derive(Default, Debug)]
struct List {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

/// A range of keys that is lent: from the first on, to the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeySpan<'k> {
    pub(crate) low: &'k [u8],
    pub(crate) high: Bound<&'k [u8]>,
}

/// Disjoint ranges in ascending order.
#[derive(Default, Debug)]
pub(crate) struct Ranges {
    list: List,
}

impl List {
    fn span(&self, span: Span) -> &[u8] {
        &self.bytes[span.at as usize..][..span.length as usize]
    }

    fn push_bytes(&mut self, parts: [&[u8]; 2]) -> Span {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve(BYTES_AT_FIRST);
        }
        let at = self.bytes.len() as u32;
        parts
            .into_iter()
            .for_each(|part| self.bytes.extend_from_slice(part));
        let length = self.bytes.len() as u32 - at;
        Span { at, length }
    }

    fn push_point(&mut self, key: &[u8]) {
        let low = self.push_bytes([key, &[]]);
        let end = End::After(low);
        let head = key_head(key);
        self.items.push(Item { head, low, end });
    }

    /// Adds a range unless it is empty.
    fn push(&mut self, low: Bound<&[u8]>, high: Bound<&[u8]>) {
        let before = self.bytes.len();
        let low = match low {
            Bound::Unbounded => self.push_bytes([&[], &[]]),
            Bound::Included(key) => self.push_bytes([key, &[]]),
            // The next greater key of all there may be.
            Bound::Excluded(key) => self.push_bytes([key, &[0]]),
        };
        let end = match high {
            Bound::Unbounded => End::Unbounded,
            Bound::Included(key) => End::After(self.push_bytes([key, &[]])),
            Bound::Excluded(key) => End::Before(self.push_bytes([key, &[]])),
        };
        if self.ends_at_or_before(end, self.span(low)) {
            self.bytes.truncate(before);
            return;
        }
        let head = key_head(self.span(low));
        self.items.push(Item { head, low, end });
    }

    fn ends_at_or_before(&self, end: End, key: &[u8]) -> bool {
        match end {
            End::Unbounded => false,
            End::After(last) => self.span(last) < key,
            End::Before(end) => self.span(end) <= key,
        }
    }

    fn compare_ends(&self, left: End, right: End) -> Ordering {
        match (left, right) {
            (End::Unbounded, End::Unbounded) => Ordering::Equal,
            (End::Unbounded, _) => Ordering::Greater,
            (_, End::Unbounded) => Ordering::Less,
            (End::After(left), End::After(right)) | (End::Before(left), End::Before(right)) => {
                self.span(left).cmp(self.span(right))
            }
            (End::After(left), End::Before(right)) => match self.span(left).cmp(self.span(right)) {
                Ordering::Less => Ordering::Less,
                _ => Ordering::Greater,
            },
            (End::Before(_), End::After(_)) => self.compare_ends(right, left).reverse(),
        }
    }

    fn compare_lows(&self, left: &Item, right: &Item) -> Ordering {
        (left.head.cmp(&right.head)).then_with(|| self.span(left.low).cmp(self.span(right.low)))
    }

    /// Puts the ranges in order and joins those that overlap.
    fn normalize(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        items.sort_unstable_by(|left, right| self.compare_lows(left, right));
        items.dedup_by(|item, last| {
            let joined = !self.ends_at_or_before(last.end, self.span(item.low));
            if joined && self.compare_ends(last.end, item.end).is_lt() {
                last.end = item.end;
            }
            joined
        });
        self.items = items;
    }

    /// Joins every second range with the one after it.
    fn join_neighbours(&mut self) {
        let pairs = self.items.chunks(2);
        self.items = pairs
            .map(|pair| Item {
                end: pair[pair.len() - 1].end,
                ..pair[0]
            })
            .collect();
    }

    /// Lets go of keys that no range names.
    fn compact(&mut self) {
        let old = std::mem::take(self);
        for item in &old.items {
            let low = self.push_bytes([old.span(item.low), &[]]);
            let end = match item.end {
                End::Unbounded => End::Unbounded,
                End::After(last) if old.span(last) == old.span(item.low) => End::After(low),
                End::After(last) => End::After(self.push_bytes([old.span(last), &[]])),
                End::Before(end) => End::Before(self.push_bytes([old.span(end), &[]])),
            };
            self.items.push(Item { low, end, ..*item });
        }
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.items.len() * size_of::<Item>()
    }

    fn get(&self, item: &Item) -> KeySpan<'_> {
        let high = match item.end {
            End::Unbounded => Bound::Unbounded,
            End::After(last) => Bound::Included(self.span(last)),
            End::Before(end) => Bound::Excluded(self.span(end)),
        };
        let low = self.span(item.low);
        KeySpan { low, high }
    }
}

impl Reads {
    /// Nothing read yet; the notes take so many bytes at most.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: bytes_max.min(1 << 30),
            ..Self::default()
        }
    }

    /// Notes that a key was asked for.
    pub(crate) fn note_key(&mut self, key: &[u8]) {
        let list = &mut self.list;
        // Often the same one again.
        let last = list.items.last();
        if last.is_some_and(|last| {
            matches!(last.end, End::After(end) if end.at == last.low.at)
                && list.span(last.low) == key
        }) {
            return;
        }
        list.push_point(key);
        self.bound();
    }

    /// Notes that all of a range was asked for.
    pub(crate) fn note_range(&mut self, low: Bound<&[u8]>, high: Bound<&[u8]>) {
        self.list.push(low, high);
        self.bound();
    }

    /// Notes that a range will be asked for, all of it as long as nobody says how far.
    pub(crate) fn open(&mut self, low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> usize {
        let open = Some((low, high));
        match self.free.pop() {
            Some(slot) => {
                self.open[slot] = open;
                slot
            }
            None => {
                self.open.push(open);
                self.open.len() - 1
            }
        }
    }

    /// An open range was asked for from its ends to these places; `None`: all of it.
    pub(crate) fn close(&mut self, slot: usize, asked: Option<[Bound<&[u8]>; 2]>) {
        let Some((low, high)) = self.open.get_mut(slot).and_then(Option::take) else {
            return;
        };
        self.free.push(slot);
        let (low, high) = (
            low.as_ref().map(Vec::as_slice),
            high.as_ref().map(Vec::as_slice),
        );
        let Some([front, back]) = asked else {
            return self.note_range(low, high);
        };
        match front {
            Bound::Unbounded => {}
            // Past the last key that was given.
            Bound::Excluded(key) => self.list.push(low, Bound::Included(key)),
            Bound::Included(key) => self.list.push(low, Bound::Excluded(key)),
        }
        match back {
            Bound::Unbounded => {}
            Bound::Excluded(key) => self.list.push(Bound::Included(key), high),
            Bound::Included(key) => self.list.push(Bound::Excluded(key), high),
        }
        self.bound();
    }

    /// Whether nothing was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.items.is_empty() && self.free.len() == self.open.len()
    }

    fn bound(&mut self) {
        if self.list.memory_bytes() <= self.bytes_max {
            return;
        }
        self.list.normalize();
        self.list.compact();
        while self.list.memory_bytes() > self.bytes_max / 2 && self.list.items.len() > 1 {
            self.list.join_neighbours();
            self.list.compact();
        }
    }

    /// Everything that was asked for, in order.
    pub(crate) fn take_ranges(&mut self) -> Ranges {
        self.free.clear();
        for (low, high) in self.open.drain(..).flatten() {
            let (low, high) = (
                low.as_ref().map(Vec::as_slice),
                high.as_ref().map(Vec::as_slice),
            );
            self.list.push(low, high);
        }
        let mut list = std::mem::take(&mut self.list);
        list.normalize();
        Ranges { list }
    }

    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        self.list.memory_bytes()
    }
}

impl Ranges {
    /// Single keys.
    pub(crate) fn of_keys<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Self {
        let mut list = List::default();
        keys.for_each(|key| list.push_point(key));
        list.normalize();
        Self { list }
    }

    /// One range.
    pub(crate) fn of_range(low: &[u8], end: Option<&[u8]>) -> Self {
        let mut list = List::default();
        list.push(
            Bound::Included(low),
            end.map_or(Bound::Unbounded, Bound::Excluded),
        );
        Self { list }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.items.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.items.len()
    }

    /// The ranges, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = KeySpan<'_>> {
        self.list.items.iter().map(|item| self.list.get(item))
    }

    /// The range that has a key.
    pub(crate) fn containing(&self, key: &[u8]) -> Option<KeySpan<'_>> {
        let list = &self.list;
        let head = key_head(key);
        let after = list.items.partition_point(|item| {
            (item.head.cmp(&head))
                .then_with(|| list.span(item.low).cmp(key))
                .is_le()
        });
        let item = &list.items[after.checked_sub(1)?];
        (!list.ends_at_or_before(item.end, key)).then(|| list.get(item))
    }

    /// The first range that has keys from one on and before another.
    pub(crate) fn overlapping(&self, low: &[u8], end: Option<&[u8]>) -> Option<KeySpan<'_>> {
        let list = &self.list;
        let first = list
            .items
            .partition_point(|item| list.ends_at_or_before(item.end, low));
        let item = list.items.get(first)?;
        end.is_none_or(|end| list.span(item.low) < end && low < end)
            .then(|| list.get(item))
    }
}

impl KeySpan<'_> {
    /// Whether it is one key alone.
    pub(crate) fn is_key(&self) -> bool {
        self.high == Bound::Included(self.low)
    }

    /// Whether it ends before a key, which is not smaller than its first.
    pub(crate) fn ends_before(&self, key: &[u8]) -> bool {
        match self.high {
            Bound::Unbounded => false,
            Bound::Included(last) => last < key,
            Bound::Excluded(end) => end <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(random: &mut fastrand::Rng) -> Vec<u8> {
        (0..random.usize(..4)).map(|_| random.u8(..3)).collect()
    }

    fn bound(random: &mut fastrand::Rng) -> Bound<Vec<u8>> {
        match random.usize(..5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(key(random)),
            _ => Bound::Excluded(key(random)),
        }
    }

    fn contains(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>), key: &Vec<u8>) -> bool {
        let low = match &range.0 {
            Bound::Unbounded => true,
            Bound::Included(low) => key >= low,
            Bound::Excluded(low) => key > low,
        };
        let high = match &range.1 {
            Bound::Unbounded => true,
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
        };
        low && high
    }

    fn all_keys() -> Vec<Vec<u8>> {
        let mut keys = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..4 {
            let to = keys.len();
            for at in from..to {
                for byte in 0..4 {
                    keys.push([&keys[at][..], &[byte]].concat());
                }
            }
            from = to;
        }
        keys.sort();
        keys
    }

    #[test]
    fn what_was_asked_for_is_found_and_nothing_else() {
        let keys = all_keys();
        for seed in 0..300 {
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut reads = Reads::new(1 << 20);
            let mut ranges = Vec::new();
            for _ in 0..random.usize(..8) {
                if random.bool() {
                    let key = key(&mut random);
                    reads.note_key(&key);
                    ranges.push((Bound::Included(key.clone()), Bound::Included(key)));
                    continue;
                }
                let (low, high) = (bound(&mut random), bound(&mut random));
                ranges.push((low.clone(), high.clone()));
                let slot = reads.open(low.clone(), high.clone());
                match random.usize(..3) {
                    0 => {}
                    1 => reads.close(slot, None),
                    _ => {
                        let last = key(&mut random);
                        if contains(&(low.clone(), high.clone()), &last) {
                            reads.close(slot, Some([Bound::Excluded(&last), Bound::Unbounded]));
                            ranges.pop();
                            ranges.push((low, Bound::Included(last)));
                        }
                    }
                }
            }
            let found = reads.take_ranges();
            for key in &keys {
                let expected = ranges.iter().any(|range| contains(range, key));
                assert_eq!(found.containing(key).is_some(), expected, "{key:?}");
            }
            for _ in 0..20 {
                let low = key(&mut random);
                let end = random.bool().then(|| key(&mut random));
                let inside =
                    |key: &&Vec<u8>| **key >= low && end.as_ref().is_none_or(|end| *key < end);
                let expected = keys
                    .iter()
                    .filter(inside)
                    .any(|key| found.containing(key).is_some());
                let overlapping = found.overlapping(&low, end.as_deref());
                assert_eq!(overlapping.is_some(), expected, "{low:?} {end:?}");
            }
        }
    }

    #[test]
    fn notes_past_their_memory_are_joined_and_none_is_lost() {
        let mut reads = Reads::new(2000);
        let mut random = fastrand::Rng::with_seed(7);
        let keys: Vec<u64> = (0..5000).map(|_| random.u64(..)).collect();
        for key in &keys {
            reads.note_key(&key.to_be_bytes());
            assert!(reads.memory_bytes() <= 2000 + 100);
        }
        let ranges = reads.take_ranges();
        for key in &keys {
            assert!(ranges.containing(&key.to_be_bytes()).is_some());
        }
    }
}
