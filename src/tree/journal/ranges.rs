//! The range deletes of a journal: an append-only list, searched newest first.
//!
//! They are few beside point operations, so that a scan over their heads is the cheapest search;
//! a journal without any is told apart by one load.

use std::cmp::Ordering as Order;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Acquire, Ordering::Release};

use super::chunks::Chunks;
use super::memory::JournalRangeDelete;
use super::skip_list::{SkipList, key_head};
use crate::format::SequenceNumber;
use crate::format::record::read_range_end;

/// A range delete: its node, and the heads of its bounds for a quick no.
struct Place {
    index: u32,
    low_head: u64,
    /// The greatest of all if the range has no end.
    end_head: u64,
}

/// The range deletes in the order of their stamps.
pub(super) struct RangeDeletes {
    places: Chunks<OnceLock<Place>>,
    count: AtomicU32,
}

impl RangeDeletes {
    pub(super) fn new() -> Self {
        Self {
            places: Chunks::new(),
            count: AtomicU32::new(0),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Acquire) == 0
    }

    /// Adds the range delete that a node of the list describes. One caller at a time.
    pub(super) fn push(&self, list: &SkipList, index: u32) {
        let (low, end) = bounds(list, index);
        let count = self.count.load(Acquire);
        let place = Place {
            index,
            low_head: key_head(low),
            end_head: end.map_or(u64::MAX, key_head),
        };
        let slot = self.places.made(count);
        assert!(slot.set(place).is_ok(), "a place is filled once");
        self.count.store(count + 1, Release);
    }

    /// The newest range delete with a sequence up to the bound and a stamp above the given one
    /// that covers a key: its stamp.
    pub(super) fn covering(
        &self,
        list: &SkipList,
        key: &[u8],
        bound: SequenceNumber,
        above: u32,
    ) -> Option<u32> {
        let count = self.count.load(Acquire);
        if count == 0 {
            return None;
        }
        let head = key_head(key);
        let newest_first = (0..count).rev().map(|number| self.place(number));
        newest_first
            .take_while(|place| place.index > above)
            .filter(|place| place.low_head <= head && head <= place.end_head)
            .filter(|place| list.node(place.index).sequence() <= bound)
            .find(|place| {
                let (low, end) = bounds(list, place.index);
                low <= key && end.is_none_or(|end| key.cmp(end) == Order::Less)
            })
            .map(|place| place.index)
    }

    /// All of them with a sequence up to the bound, oldest first.
    pub(super) fn visible<'j>(
        &'j self,
        list: &'j SkipList,
        bound: SequenceNumber,
    ) -> impl Iterator<Item = JournalRangeDelete<'j>> {
        let all = (0..self.count.load(Acquire)).map(|number| self.place(number));
        let visible = all.filter(move |place| list.node(place.index).sequence() <= bound);
        visible.map(|place| {
            let (low, end) = bounds(list, place.index);
            JournalRangeDelete {
                low,
                end,
                sequence: list.node(place.index).sequence(),
                stamp: u64::from(place.index),
            }
        })
    }

    fn place(&self, number: u32) -> &Place {
        let place = self.places.get(number).get();
        place.expect("places are filled before they are counted")
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.places.memory_bytes()
    }
}

/// The first key that is deleted and the first that is spared, if any.
fn bounds(list: &SkipList, index: u32) -> (&[u8], Option<&[u8]>) {
    let node = list.node(index);
    let end = read_range_end(list.payload(node));
    (
        list.key(node),
        end.expect("payloads are checked before they are appended"),
    )
}
