//! [`Journal`]: appending to it, looking up in it, going through it.
//!
//! Invariant: what a reader with a bound on the sequence sees does not change while commits above
//! the bound are appended. Committers append in the order of sequences and publish a sequence
//! only after its records are in; readers and flushes take a published one as their bound.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use bytes::Bytes;
use smallvec::SmallVec;

use super::filter::Filter;
use super::ranges::RangeDeletes;
use super::skip_list::{Described, Finger, Head, Probe, SkipList};
use crate::error::{Error, Result};
use crate::format::SequenceNumber;
use crate::format::record::{KEY_BYTES_MAX, Record, Tag, hash_key, read_range_end};
use crate::tree::key_buffer::KeyBuffer;

/// Batches from this size on are inserted in order, each from where the one before stands.
const SORTED_BATCH_MIN: u32 = 32;

/// A point operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalEntry<'j> {
    pub(crate) key: &'j [u8],
    pub(crate) tag: Tag,
    pub(crate) payload: &'j [u8],
    pub(crate) sequence: SequenceNumber,
    /// The place in the order of appending, counted together with range deletes.
    pub(crate) stamp: u64,
}

/// A range delete: the keys from `low` on and before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalRangeDelete<'j> {
    pub(crate) low: &'j [u8],
    pub(crate) end: Option<&'j [u8]>,
    pub(crate) sequence: SequenceNumber,
    pub(crate) stamp: u64,
}

/// The operations that decide about a key, newest first; all but the last are merge operands.
pub(crate) type Found<'j> = SmallVec<[JournalEntry<'j>; 4]>;

/// Whether a search for a key goes on in older layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// Nothing or only merge operands were found: what they apply to is further down.
    Continue,
    /// A put or a delete was found last, or a range delete ends the search without an entry.
    Ends,
}

/// The place of a point operation in a journal. Stays valid as long as the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalPosition(NonZeroU32);

impl JournalPosition {
    fn new(index: u32) -> Self {
        Self(NonZeroU32::new(index).expect("nodes are counted from one"))
    }
}

/// The node behind a node.
fn after_node(node: u32) -> Result<u32> {
    let next = node.checked_add(1);
    next.ok_or_else(|| Error::invalid("a journal cannot hold more operations"))
}

/// What only the writer knows.
struct Writer {
    finger: Finger,
    next_node: u32,
    next_buffer: u32,
    order: Vec<(Head, u32)>,
}

/// The newest operations of one tree, in memory. See the [module](super).
pub(crate) struct Journal {
    list: SkipList,
    ranges: RangeDeletes,
    filter: Filter,
    writer: Mutex<Writer>,
    operations: AtomicUsize,
    bytes: AtomicUsize,
    buffer_bytes: AtomicUsize,
    /// Zero, or one more than the sequence.
    first_sequence: AtomicU64,
    last_sequence: AtomicU64,
}

impl Journal {
    /// An empty journal with a filter for so many bytes of records; without a filter for none.
    /// It may become larger, the filter is then worth less.
    pub(crate) fn new(bytes_expected: usize) -> Self {
        let (list, finger) = SkipList::new();
        let writer = Writer {
            finger,
            next_node: 1,
            next_buffer: 0,
            order: Vec::new(),
        };
        Self {
            list,
            ranges: RangeDeletes::new(),
            filter: Filter::new(bytes_expected),
            writer: Mutex::new(writer),
            operations: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            buffer_bytes: AtomicUsize::new(0),
            first_sequence: AtomicU64::new(0),
            last_sequence: AtomicU64::new(0),
        }
    }

    /// Takes in the records of one tree that a buffer holds, in their order, and keeps the buffer
    /// if there are any. A malformed record refuses the whole buffer. Sequences do not decrease.
    pub(crate) fn append(&self, records: Bytes, tree: u64, sequence: SequenceNumber) -> Result<()> {
        self.append_all([(records, sequence)], tree)
    }

    /// The same with many buffers: what they hold is put in order before it enters the index, which
    /// takes a fraction of the time. Nothing of them can be seen before all can. After an error the
    /// journal is of no use unless there was one buffer only.
    pub(crate) fn append_all(
        &self,
        commits: impl IntoIterator<Item = (Bytes, SequenceNumber)>,
        tree: u64,
    ) -> Result<()> {
        let mut writer = self.writer.lock().expect("appending does not panic");
        let writer = &mut *writer;
        let (mut next_node, mut next_buffer) = (writer.next_node, writer.next_buffer);
        let (mut bytes, mut buffer_bytes) = (0, 0);
        let mut sequences = None;
        for (records, sequence) in commits {
            debug_assert!(self.last_sequence().is_none_or(|last| last <= sequence));
            let (end, filled) = self.fill((next_node, next_buffer), &records, tree, sequence)?;
            if end == next_node {
                continue;
            }
            next_node = end;
            bytes += filled;
            buffer_bytes += records.len();
            self.list.keep(next_buffer, records);
            next_buffer += 1;
            let first = sequences.map_or(sequence, |(first, _)| first);
            sequences = Some((first, sequence));
        }
        if let Some(sequences) = sequences {
            writer.next_buffer = next_buffer;
            self.take_in(writer, next_node, sequences, bytes, buffer_bytes);
        }
        Ok(())
    }

    /// Takes in one record, the last thing in a buffer, that was checked, and keeps the buffer.
    pub(crate) fn append_checked(
        &self,
        record: &Record<'_>,
        buffer: Bytes,
        sequence: SequenceNumber,
    ) -> Result<()> {
        let mut writer = self.writer.lock().expect("appending does not panic");
        let writer = &mut *writer;
        debug_assert!(self.last_sequence().is_none_or(|last| last <= sequence));
        let next_node = after_node(writer.next_node)?;
        let parts = record.key.len() + record.payload.len();
        debug_assert!(buffer.ends_with(record.payload));
        self.list.made(writer.next_node).fill(&Described {
            tag: record.tag,
            key: record.key,
            sequence,
            buffer: writer.next_buffer,
            key_offset: (buffer.len() - parts) as u32,
            payload_bytes: record.payload.len() as u32,
        });
        let bytes = buffer.len();
        self.list.keep(writer.next_buffer, buffer);
        writer.next_buffer += 1;
        self.take_in(
            writer,
            next_node,
            (sequence, sequence),
            record.encoded_bytes(),
            bytes,
        );
        Ok(())
    }

    /// Makes filled nodes reachable, up to one, and counts them.
    fn take_in(
        &self,
        writer: &mut Writer,
        next_node: u32,
        (first, last): (SequenceNumber, SequenceNumber),
        bytes: usize,
        buffer_bytes: usize,
    ) {
        let new = writer.next_node..next_node;
        writer.next_node = next_node;
        // Only who has the writer changes these, so that nothing has to be exchanged.
        let add = |to: &AtomicUsize, more, order| to.store(to.load(Relaxed) + more, order);
        add(&self.buffer_bytes, buffer_bytes, Relaxed);
        self.index(writer, new.clone());
        // Whoever counts them finds them filled.
        add(&self.operations, new.len(), Release);
        add(&self.bytes, bytes, Relaxed);
        let stored = |sequence: SequenceNumber| sequence.0.saturating_add(1);
        if self.first_sequence.load(Relaxed) == 0 {
            self.first_sequence.store(stored(first), Release);
        }
        self.last_sequence.store(stored(last), Release);
    }

    /// A journal of the operations after a sequence, with a copy of their records.
    pub(crate) fn after(&self, sequence: SequenceNumber, tree: u64) -> Result<Self> {
        let mut commits: Vec<(Vec<u8>, SequenceNumber)> = Vec::new();
        for stamp in self.first_stamp_after(sequence)..self.stamps().end {
            let entry = self.entry_at(stamp);
            if commits
                .last()
                .is_none_or(|(_, last)| *last != entry.sequence)
            {
                commits.push((Vec::new(), entry.sequence));
            }
            let record = Record {
                tag: entry.tag,
                tree,
                key: entry.key,
                payload: entry.payload,
            };
            if let Some((records, _)) = commits.last_mut() {
                record.append_to(records);
            }
        }
        let bytes = commits.iter().map(|(records, _)| records.len()).sum();
        let journal = Self::new(bytes);
        let commits = commits.into_iter();
        journal.append_all(commits.map(|(records, at)| (records.into(), at)), tree)?;
        Ok(journal)
    }

    /// Fills nodes from records. Nobody can reach them, so that an error leaves no trace. Returns
    /// the end of the new nodes and the bytes of their records.
    fn fill(
        &self,
        (next_node, next_buffer): (u32, u32),
        records: &Bytes,
        tree: u64,
        sequence: SequenceNumber,
    ) -> Result<(u32, usize)> {
        if u32::try_from(records.len()).is_err() {
            return Err(Error::invalid("a buffer of records is too large"));
        }
        let mut next = next_node;
        let (mut at, mut bytes) = (0, 0);
        while let Some(rest) = records.get(at..).filter(|rest| !rest.is_empty()) {
            let (record, taken) = Record::read(rest)?;
            at += taken;
            if record.tree != tree {
                continue;
            }
            let Record {
                tag, key, payload, ..
            } = record;
            if key.len() > KEY_BYTES_MAX {
                return Err(Error::corrupt("a record of the log has too long a key"));
            }
            if tag == Tag::DeleteRange && read_range_end(payload).is_none() {
                return Err(Error::corrupt("a range delete of the log is malformed"));
            }
            self.list.made(next).fill(&Described {
                tag,
                key,
                sequence,
                buffer: next_buffer,
                key_offset: (at - payload.len() - key.len()) as u32,
                payload_bytes: payload.len() as u32,
            });
            next = after_node(next)?;
            bytes += taken;
        }
        Ok((next, bytes))
    }

    /// Makes filled nodes reachable.
    fn index(&self, writer: &mut Writer, new: std::ops::Range<u32>) {
        let list = &self.list;
        let sorted = new.len() >= SORTED_BATCH_MIN as usize;
        writer.order.clear();
        for index in new {
            let node = list.node(index);
            if node.tag() == Tag::DeleteRange {
                self.ranges.push(list, index);
                continue;
            }
            let key = list.key(node);
            self.filter.insert(hash_key(key));
            if sorted {
                writer.order.push((node.head(), index));
            } else {
                list.insert(&mut writer.finger, index, key);
            }
        }
        // Of one key the oldest first, since each goes before those that are there.
        writer.order.sort_unstable_by(|left, right| {
            let key = |index| list.key(list.node(index));
            (left.0.cmp(&right.0))
                .then_with(|| key(left.1).cmp(key(right.1)))
                .then(left.1.cmp(&right.1))
        });
        for &(_, index) in &writer.order {
            list.insert(&mut writer.finger, index, list.key(list.node(index)));
        }
        list.renew_directory(&mut writer.finger);
        // A large batch is the exception: its memory is not kept.
        writer.order.shrink_to(1 << 10);
    }

    /// Whether there may be a point operation for a key with this [`hash_key`]. No lock, one cache
    /// line. Range deletes are not in the filter: see [`Self::has_range_deletes`].
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter.may_contain(hash)
    }

    #[cfg(test)]
    /// The visible point operations of a key, newest first, whether range deletes cover them or
    /// not.
    pub(crate) fn entries_of<'j>(
        &'j self,
        key: &[u8],
        bound: SequenceNumber,
    ) -> impl Iterator<Item = JournalEntry<'j>> + use<'j> {
        let newest = self.find(key, bound);
        std::iter::successors(newest, |&position| self.older(position))
            .map(|position| self.entry(position))
    }

    /// The newest visible operation of a key.
    #[inline]
    fn find(&self, key: &[u8], bound: SequenceNumber) -> Option<JournalPosition> {
        let probe = Probe::new(key);
        let index = self.list.at_or_after(&probe, bound)?;
        let same = self.list.compare(self.list.node(index), &probe).is_eq();
        same.then(|| JournalPosition::new(index))
    }

    #[cfg(test)]
    /// What decides about a key, of all operations: see [`Self::lookup_after`].
    pub(crate) fn lookup<'j>(
        &'j self,
        key: &[u8],
        bound: SequenceNumber,
        out: &mut Found<'j>,
    ) -> Outcome {
        self.lookup_above(key, 0, bound, out)
    }

    /// Collects the operations that decide about a key: after a sequence, visible, not covered by a
    /// range delete, newest first, to the first that is no merge operand. Appends them to `out`.
    ///
    /// A caller that asked [`Self::may_contain`] in vain and knows that there are no range deletes
    /// need not call.
    pub(crate) fn lookup_after<'j>(
        &'j self,
        key: &[u8],
        after: SequenceNumber,
        bound: SequenceNumber,
        out: &mut Found<'j>,
    ) -> Outcome {
        let oldest = match after {
            SequenceNumber(0) => 0,
            after => self.first_stamp_after(after) - 1,
        };
        self.lookup_above(key, oldest, bound, out)
    }

    /// The same, of the operations with stamps above one.
    fn lookup_above<'j>(
        &'j self,
        key: &[u8],
        oldest: u32,
        bound: SequenceNumber,
        out: &mut Found<'j>,
    ) -> Outcome {
        let newest = self.find(key, bound);
        let covered = match self.has_range_deletes() {
            true => {
                // An older range delete changes nothing if the newest operation is a put.
                let settled = newest.filter(|position| self.node(*position).tag() != Tag::Merge);
                let above = settled.map_or(0, |position| position.0.get());
                (self.ranges).covering(&self.list, key, bound, above.max(oldest))
            }
            false => None,
        };
        let older = covered.unwrap_or(0).max(oldest);
        let alive = |position: &JournalPosition| older < position.0.get();
        let mut position = newest;
        while let Some(current) = position.filter(alive) {
            let entry = self.entry(current);
            out.push(entry);
            if entry.tag != Tag::Merge {
                return Outcome::Ends;
            }
            position = self.older(current);
        }
        match covered {
            Some(_) => Outcome::Ends,
            None => Outcome::Continue,
        }
    }

    /// The newest visible range delete that covers a key: its stamp. Operations with smaller
    /// stamps are dead, and so is what older layers have for the key.
    pub(crate) fn covering(&self, key: &[u8], bound: SequenceNumber) -> Option<u64> {
        let stamp = self.ranges.covering(&self.list, key, bound, 0);
        stamp.map(u64::from)
    }

    /// Whether there is any range delete, visible or not. One load.
    #[inline]
    pub(crate) fn has_range_deletes(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// The visible range deletes, oldest first.
    pub(crate) fn range_deletes(&self, bound: SequenceNumber) -> Vec<JournalRangeDelete<'_>> {
        self.ranges.visible(&self.list, bound).collect()
    }

    /// The newest operation of the first key that is not smaller. As all that follow: visible or
    /// not; see [`Self::visible`].
    pub(crate) fn seek_at_or_after(&self, key: &[u8]) -> Option<JournalPosition> {
        let bound = SequenceNumber(u64::MAX);
        let index = self.list.at_or_after(&Probe::new(key), bound);
        index.map(JournalPosition::new)
    }

    /// The newest operation of the first key that is greater.
    pub(crate) fn seek_after(&self, key: &[u8]) -> Option<JournalPosition> {
        let index = self.list.after(&Probe::new(key));
        index.map(JournalPosition::new)
    }

    /// The newest operation of the last key that is smaller.
    pub(crate) fn seek_before(&self, key: &[u8]) -> Option<JournalPosition> {
        let index = self.list.before(&Probe::new(key));
        index.map(JournalPosition::new)
    }

    /// The newest operation of the last key that is not greater.
    pub(crate) fn seek_at_or_before(&self, key: &[u8]) -> Option<JournalPosition> {
        let index = self.list.at_or_before(&Probe::new(key));
        index.map(JournalPosition::new)
    }

    /// The newest operation of the first key.
    pub(crate) fn first(&self) -> Option<JournalPosition> {
        self.list.first().map(JournalPosition::new)
    }

    /// The newest operation of the last key.
    pub(crate) fn last(&self) -> Option<JournalPosition> {
        self.list.last().map(JournalPosition::new)
    }

    /// The newest operation of the next key. One step, or a search if the key has older ones.
    pub(crate) fn next_key(&self, position: JournalPosition) -> Option<JournalPosition> {
        let node = self.node(position);
        if node.has_older() {
            return self.seek_after(self.list.key(node));
        }
        let next = self.list.next(position.0.get());
        next.map(JournalPosition::new)
    }

    /// The newest operation of the previous key. One step, or a search if one of the two keys has
    /// several operations.
    pub(crate) fn previous_key(&self, position: JournalPosition) -> Option<JournalPosition> {
        let previous = self.list.previous_key(position.0.get());
        previous.map(JournalPosition::new)
    }

    /// The operation at a position.
    pub(crate) fn entry(&self, position: JournalPosition) -> JournalEntry<'_> {
        let node = self.node(position);
        JournalEntry {
            key: self.list.key(node),
            tag: node.tag(),
            payload: self.list.payload(node),
            sequence: node.sequence(),
            stamp: u64::from(position.0.get()),
        }
    }

    /// Puts the key of the operation at a position into a buffer.
    #[inline]
    pub(crate) fn read_key(&self, position: JournalPosition, into: &mut KeyBuffer) {
        self.list.read_key(self.node(position), into);
    }

    /// The next older operation of the same key.
    pub(crate) fn older(&self, position: JournalPosition) -> Option<JournalPosition> {
        let older = self.node(position).has_older();
        let next = older.then(|| self.list.next(position.0.get())).flatten();
        next.map(JournalPosition::new)
    }

    /// The newest visible operation of the same key, from a position on.
    pub(crate) fn visible(
        &self,
        position: JournalPosition,
        bound: SequenceNumber,
    ) -> Option<JournalPosition> {
        let node = self.node(position);
        if node.sequence() <= bound {
            return Some(position);
        }
        // A key that is written over and over must not cost an old snapshot a walk.
        self.find(self.list.key(node), bound)
    }

    /// The stamps of its operations, range deletes included, in the order of commits.
    pub(crate) fn stamps(&self) -> std::ops::Range<u32> {
        1..self.operations.load(Acquire) as u32 + 1
    }

    /// The first stamp whose commit is after a sequence. O(log n).
    pub(crate) fn first_stamp_after(&self, sequence: SequenceNumber) -> u32 {
        let std::ops::Range { mut start, mut end } = self.stamps();
        while start < end {
            let middle = start.midpoint(end);
            match self.list.node(middle).sequence() <= sequence {
                true => start = middle + 1,
                false => end = middle,
            }
        }
        start
    }

    /// The operation with a stamp, a range delete too: its key is the first that it deletes.
    pub(crate) fn entry_at(&self, stamp: u32) -> JournalEntry<'_> {
        self.entry(JournalPosition::new(stamp))
    }

    fn node(&self, position: JournalPosition) -> &super::skip_list::Node {
        self.list.node(position.0.get())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.operations() == 0
    }

    /// The bytes of the records.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// The number of operations, range deletes included.
    pub(crate) fn operations(&self) -> usize {
        self.operations.load(Relaxed)
    }

    /// Whether it has reached so many bytes of records, or its index the half of that besides.
    pub(crate) fn is_full(&self, bytes: usize) -> bool {
        let indexed = self.bytes() + self.operations() * SkipList::NODE_BYTES;
        self.bytes() >= bytes || indexed >= bytes + bytes / 2
    }

    /// The memory taken: kept buffers, index and filter.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.buffer_bytes.load(Relaxed)
            + self.list.memory_bytes()
            + self.ranges.memory_bytes()
            + self.filter.memory_bytes()
    }

    #[cfg(test)]
    fn is_complete(&self) -> bool {
        self.list.is_complete()
    }

    #[cfg(test)]
    fn forget_searches(&self) {
        self.list.forget_searches();
    }

    /// The sequence of the first operation, if there is one.
    pub(crate) fn first_sequence(&self) -> Option<SequenceNumber> {
        let stored = self.first_sequence.load(Acquire);
        stored.checked_sub(1).map(SequenceNumber)
    }

    /// The sequence of the last operation, if there is one.
    pub(crate) fn last_sequence(&self) -> Option<SequenceNumber> {
        let stored = self.last_sequence.load(Acquire);
        stored.checked_sub(1).map(SequenceNumber)
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
