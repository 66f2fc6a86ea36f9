//! [`Overlay`]: the memory of one transaction, append-only and already in the form of the log.
//!
//! Operations are encoded once, into chunks that go to the log and into the journal as they are.
//! Nothing else happens until somebody reads: the first point read indexes what is there by key,
//! the first ordered read builds a [`Journal`] over the same bytes; both then catch up with later
//! operations when they are asked again.
//!
//! ```text
//! frozen  [put b|delete a|…] [put c|…]   open [merge c|delete b..d|        ]
//!          place (0, 0)       (1, 0)           (2, 0)  (2, 30)
//! ```
//!
//! An operation's *place*, chunk and offset, is also its age: the later decides. A record never
//! straddles chunks, and no byte before the end of the arena is ever changed, but for those that
//! [`Overlay::put_reserved`] hands out.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::index::Index;
use super::sorted::SortedOperations;
use crate::cache::prefetch_bytes;
use crate::format::SequenceNumber;
use crate::format::record::{KEY_BYTES_MAX, Record, Tag, range_end_payload};
use crate::tree::journal::{Found, Journal, JournalEntry, Outcome};

/// Chunks grow with the arena between these.
const CHUNK_BYTES_MIN: usize = 4 << 10;
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Buffers for the log that are smaller than this are joined with their neighbours.
const BUFFER_BYTES_MIN: usize = 4 << 10;

/// What the first chunk has room for, if no record is larger.
const CHUNK_BYTES_AT_FIRST: usize = 512;

/// A key, most of which are short.
type LastKey = SmallVec<[u8; 32]>;

/// Two lines of the processor's cache.
const PREFETCH_BYTES: usize = 128;

/// Where a record begins: chunk and offset. Later records have greater places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    pub(super) chunk: u32,
    pub(super) offset: u32,
}

impl Place {
    /// The first place of all.
    pub(super) const START: Self = Self {
        chunk: 0,
        offset: 0,
    };

    /// The place as a number, never zero.
    pub(super) fn stamp(self) -> u64 {
        (u64::from(self.chunk) << 32 | u64::from(self.offset)) + 1
    }
}

/// The records themselves.
pub(super) struct Arena {
    frozen: Vec<Bytes>,
    open: Vec<u8>,
    /// When the open chunk is full.
    open_bytes_max: usize,
    bytes: usize,
    /// Chunks of the largest size that were used before, empty.
    spare: Vec<Vec<u8>>,
}

impl Arena {
    fn chunk(&self, chunk: u32) -> &[u8] {
        self.frozen
            .get(chunk as usize)
            .map_or(&self.open, |frozen| frozen)
    }

    /// The record at a place.
    #[inline]
    pub(super) fn record(&self, place: Place) -> Record<'_> {
        let bytes = &self.chunk(place.chunk)[place.offset as usize..];
        Record::read(bytes).expect("the arena wrote it").0
    }

    /// Has the processor fetch the beginning of the record at a place: its lengths, and most keys.
    pub(super) fn prefetch(&self, place: Place) {
        let chunk = self.chunk(place.chunk);
        let from = (place.offset as usize).min(chunk.len());
        prefetch_bytes(&chunk[from..chunk.len().min(from + PREFETCH_BYTES)]);
    }

    /// The record at a place as an entry of a journal.
    pub(super) fn entry(&self, place: Place) -> JournalEntry<'_> {
        let Record {
            tag, key, payload, ..
        } = self.record(place);
        JournalEntry {
            key,
            tag,
            payload,
            sequence: SequenceNumber(0),
            stamp: place.stamp(),
        }
    }

    /// The records from a place on, oldest first, with their places.
    pub(super) fn records_from(&self, from: Place) -> impl Iterator<Item = (Place, Record<'_>)> {
        let mut place = from;
        std::iter::from_fn(move || {
            loop {
                let chunk = self.chunk(place.chunk);
                let rest = &chunk[place.offset as usize..];
                if !rest.is_empty() {
                    let (record, taken) = Record::read(rest).expect("the arena wrote it");
                    let at = place;
                    place.offset += taken as u32;
                    return Some((at, record));
                }
                if place.chunk as usize >= self.frozen.len() {
                    return None;
                }
                place = Place {
                    chunk: place.chunk + 1,
                    offset: 0,
                };
            }
        })
    }

    /// Forgets the records from a place on.
    fn truncate(&mut self, end: Place) {
        let chunk = end.chunk as usize;
        if chunk < self.frozen.len() {
            self.open = Vec::new();
            self.open_bytes_max = CHUNK_BYTES_MIN;
            // No chunk is left empty: an arena without records has none.
            self.frozen.truncate(chunk + usize::from(end.offset > 0));
            if end.offset > 0 {
                self.frozen[chunk].truncate(end.offset as usize);
            }
        } else {
            self.open.truncate(end.offset as usize);
        }
        let frozen: usize = self.frozen.iter().map(Bytes::len).sum();
        self.bytes = frozen + self.open.len();
    }

    /// The end of the arena, where the next record will begin unless it opens a chunk.
    pub(super) fn end(&self) -> Place {
        Place {
            chunk: self.frozen.len() as u32,
            offset: self.open.len() as u32,
        }
    }

    /// Makes room for a record in one chunk and returns the chunk.
    fn room(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.open.len() + bytes > self.open_bytes_max && !self.open.is_empty() {
            self.freeze();
            let full = self.bytes.next_power_of_two();
            self.open_bytes_max = full.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
            if self.open_bytes_max == CHUNK_BYTES_MAX {
                self.open = self.spare.pop().unwrap_or_default();
            }
            self.open.reserve_exact(self.open_bytes_max.max(bytes));
        } else if self.open.is_empty() {
            // Most transactions are small: little more than is needed, and doubling from there.
            let least = match self.frozen.is_empty() {
                true => CHUNK_BYTES_AT_FIRST,
                false => 0,
            };
            self.open.reserve_exact(bytes.max(least));
        }
        self.bytes += bytes;
        &mut self.open
    }

    /// Makes the open chunk shareable. The next one begins small.
    fn freeze(&mut self) {
        if !self.open.is_empty() {
            self.frozen
                .push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The ordered view, and how many chunks are in it.
struct Ordered {
    journal: Arc<Journal>,
    chunks: usize,
}

/// The operations of one transaction on one tree. See the [module](self).
pub(crate) struct Overlay {
    tree: u64,
    arena: Arena,
    operations: usize,
    range_deletes: usize,
    index: Option<Box<Index>>,
    ordered: Option<Box<Ordered>>,
    /// The last key, as long as the keys ascend and none is deleted by a range.
    ascending: Option<LastKey>,
}

/// A place in an overlay, to come back to.
#[derive(Clone)]
pub(crate) struct Mark {
    end: Place,
    operations: usize,
    range_deletes: usize,
    ascending: Option<LastKey>,
}

impl Overlay {
    /// The place where it is by now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            end: self.arena.end(),
            operations: self.operations,
            range_deletes: self.range_deletes,
            ascending: self.ascending.clone(),
        }
    }

    /// Forgets the operations after a mark: the index by key, too, at a cost in proportion to them. The
    /// ordered view cannot, and is made anew when it is asked for, if it has any of them.
    pub(crate) fn roll_back(&mut self, mark: &Mark) {
        if self.operations == mark.operations {
            return;
        }
        if let Some(index) = &mut self.index {
            index.forget_from(&self.arena, mark.end);
        }
        let chunks = mark.end.chunk as usize;
        self.ordered = self.ordered.take().filter(|view| view.chunks <= chunks);
        self.arena.truncate(mark.end);
        self.operations = mark.operations;
        self.range_deletes = mark.range_deletes;
        self.ascending.clone_from(&mark.ascending);
    }

    /// An overlay without operations. Takes no memory of its own.
    pub(crate) fn new(tree: u64) -> Self {
        Self {
            tree,
            arena: Arena {
                frozen: Vec::new(),
                open: Vec::new(),
                open_bytes_max: CHUNK_BYTES_MIN,
                bytes: 0,
                spare: Vec::new(),
            },
            operations: 0,
            range_deletes: 0,
            index: None,
            ordered: None,
            ascending: Some(LastKey::new()),
        }
    }

    /// Begins anew after what it has, and returns that. Whether keys ascend is asked of both.
    pub(crate) fn take(&mut self) -> Self {
        let mut after = Self::new(self.tree);
        after.ascending.clone_from(&self.ascending);
        std::mem::replace(self, after)
    }

    /// Whether the keys ascend, each with one operation and none deleted by a range, those included
    /// of what was [taken](Self::take) before.
    pub(crate) fn ascends(&self) -> bool {
        self.ascending.is_some()
    }

    /// The operations in the order in which they came.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.arena
            .records_from(Place::START)
            .map(|(_, record)| record)
    }

    /// Uses the memory of another one, which is done with, for what will come.
    pub(crate) fn reuse(&mut self, mut done: Self) {
        done.arena.freeze();
        drop((done.index, done.ordered));
        for chunk in done.arena.frozen {
            let Ok(mut chunk) = chunk.try_into_mut() else {
                continue;
            };
            // First, so that nothing is moved.
            chunk.clear();
            let chunk = Vec::from(chunk);
            if chunk.capacity() == CHUNK_BYTES_MAX {
                self.arena.spare.push(chunk);
            }
        }
    }

    /// Appends an operation. The caller has checked the limits: keys of at most
    /// [`KEY_BYTES_MAX`], payloads that a chunk can hold, well below 4 GiB.
    pub(crate) fn append(&mut self, tag: Tag, key: &[u8], payload: &[u8]) {
        let tree = self.tree;
        let record = Record {
            tag,
            tree,
            key,
            payload,
        };
        let room = self.room(tag, key, record.encoded_bytes());
        record.append_to(room);
    }

    /// Counts an operation and makes room for it.
    fn room(&mut self, tag: Tag, key: &[u8], bytes: usize) -> &mut Vec<u8> {
        assert!(key.len() <= KEY_BYTES_MAX, "the caller checks keys");
        assert!(
            u32::try_from(bytes).is_ok(),
            "the caller moves large values off the tree"
        );
        self.operations += 1;
        self.range_deletes += usize::from(tag == Tag::DeleteRange);
        if let Some(last) = &mut self.ascending {
            // The empty key is the first of all: there is none before it.
            if tag == Tag::DeleteRange || key <= last.as_slice() {
                self.ascending = None;
            } else {
                last.clear();
                last.extend_from_slice(key);
            }
        }
        self.arena.room(bytes)
    }

    /// Puts a value of the kind that the tag says.
    pub(crate) fn put(&mut self, key: &[u8], tag: Tag, payload: &[u8]) {
        debug_assert!(matches!(tag, Tag::Inline | Tag::OffTree | Tag::Reference));
        self.append(tag, key, payload);
    }

    /// Deletes a key.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.append(Tag::Delete, key, &[]);
    }

    /// Deletes the keys from `low` on and before `end`.
    pub(crate) fn delete_range(&mut self, low: &[u8], end: Option<&[u8]>) {
        self.append(Tag::DeleteRange, low, &range_end_payload(end));
    }

    /// Adds operands, encoded as a chain, to what the key has.
    pub(crate) fn merge(&mut self, key: &[u8], chain: &[u8]) {
        self.append(Tag::Merge, key, chain);
    }

    /// Puts an inline value of some zeros and hands out its bytes to be filled: they are the ones
    /// that will be written to the log.
    pub(crate) fn put_reserved(&mut self, key: &[u8], value_bytes: usize) -> &mut [u8] {
        let tree = self.tree;
        let empty = Record {
            tag: Tag::Inline,
            tree,
            key,
            payload: &[],
        };
        // The length of an empty payload takes one byte.
        let head_bytes =
            empty.encoded_bytes() - 1 + crate::format::bytes::varint_bytes(value_bytes as u64);
        let room = self.room(Tag::Inline, key, head_bytes.saturating_add(value_bytes));
        Record::append_head_to(room, Tag::Inline, tree, key, value_bytes);
        let from = room.len();
        room.resize(from + value_bytes, 0);
        &mut room[from..]
    }

    /// As [`Journal::lookup_after`]: collects the operations that decide about a key, newest first.
    /// The entries have sequence 0; their stamps order them among each other only.
    ///
    /// The first call, and each after new operations, indexes what is not indexed yet.
    pub(crate) fn lookup<'o>(&'o mut self, key: &[u8], out: &mut Found<'o>) -> Outcome {
        if self.operations == 0 {
            return Outcome::Continue;
        }
        let Self { index, arena, .. } = self;
        let index = index.get_or_insert_with(Default::default);
        index.catch_up(arena);
        index.lookup(arena, key, out)
    }

    /// The ordered view: a journal with all operations so far, each with sequence 0.
    ///
    /// The first call, and each after new operations, takes in what is not in it yet. Positions
    /// stay valid as long as the overlay.
    pub(crate) fn journal(&mut self) -> &Arc<Journal> {
        self.arena.freeze();
        let ordered = self.ordered.get_or_insert_with(|| {
            let journal = Arc::new(Journal::new(0));
            Box::new(Ordered { journal, chunks: 0 })
        });
        for chunk in &self.arena.frozen[ordered.chunks..] {
            let appended = ordered
                .journal
                .append(chunk.clone(), self.tree, SequenceNumber(0));
            appended.expect("the arena's records are well formed and in bounds");
        }
        ordered.chunks = self.arena.frozen.len();
        &ordered.journal
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.operations == 0
    }

    #[cfg(test)]
    /// The number of operations, range deletes included.
    pub(crate) fn operations(&self) -> usize {
        self.operations
    }

    #[cfg(test)]
    pub(crate) fn has_range_deletes(&self) -> bool {
        self.range_deletes != 0
    }

    /// The bytes of the records, as the log will hold them.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.bytes()
    }

    /// The memory taken: chunks and, where there was reading, indexes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| index.memory_bytes());
        let ordered = self.ordered.as_ref().map_or(0, |ordered| {
            // The chunks are the arena's.
            let records = ordered.journal.bytes();
            ordered.journal.memory_bytes().saturating_sub(records)
        });
        self.bytes() + (self.arena.open.capacity() - self.arena.open.len()) + index + ordered
    }

    /// All records in the order of appending, if they are in one piece.
    pub(crate) fn one_piece(&self) -> Option<&[u8]> {
        let Arena { frozen, open, .. } = &self.arena;
        match &frozen[..] {
            [] => Some(open),
            [only] if open.is_empty() => Some(only),
            _ => None,
        }
    }

    /// The records in the order of appending, for the log and the journal. One buffer if they are
    /// few; nothing is copied but small pieces, which an ordered view may have left.
    pub(crate) fn into_buffers(mut self) -> Vec<Bytes> {
        // The journal keeps it.
        self.arena.open.shrink_to_fit();
        self.arena.freeze();
        let frozen = self.arena.frozen;
        if frozen.iter().all(|chunk| chunk.len() >= BUFFER_BYTES_MIN) || frozen.len() == 1 {
            return frozen;
        }
        let mut buffers = Vec::new();
        let mut joined = Vec::new();
        for chunk in frozen {
            if chunk.len() >= BUFFER_BYTES_MIN && joined.is_empty() {
                buffers.push(chunk);
                continue;
            }
            joined.extend_from_slice(&chunk);
            if joined.len() >= BUFFER_BYTES_MIN {
                buffers.push(Bytes::from(std::mem::take(&mut joined)));
            }
        }
        if !joined.is_empty() {
            buffers.push(Bytes::from(joined));
        }
        buffers
    }

    /// The operations in the order of keys, reduced to those that have an effect, for a
    /// transaction that is built straight into the tree.
    pub(crate) fn into_sorted(self) -> SortedOperations {
        SortedOperations::new(self.arena)
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
pub(super) mod tests;
