//! Pages as views: the header and the table of keys that leaves, interior nodes and slices share.
//!
//! A page is checked once, when it is loaded ([`Page::check`]); after that, searching it neither
//! parses nor checks nor allocates. Invariant kept: no view of a checked page, whatever its bytes,
//! reaches outside of it. [`Interior`](super::interior::Interior) and [`Slice`](super::slice::Slice)
//! are views of what follows the table; `build` makes leaves. [`crate::format::pages`] has the bytes.
//!
//! ```text
//! | header | prefix |·| heads, 4 bytes a slot | positions, 2 |·| records …        | kind's own … |
//!                       level 0: all that a search touches       level 1: one or two
//! ```
//!
//! Counting the heads below that of a key, some of each cache line and then those of one line, measures
//! faster than a binary search: the loads do not wait for each other.

use std::cmp::Ordering;
use std::ops::Range;

use super::key_buffer::KeyBuffer;
use crate::error::{Error, Result};
use crate::format::bytes::{put_varint, read_u16, read_u32, read_u64, read_varint, varint_bytes};
use crate::format::record::Tag;
use crate::format::{Birth, PagePointer, SequenceNumber};

pub(crate) const HEADER_BYTES: usize = 40;
const HEAD_BYTES: usize = 4;
const POSITION_BYTES: usize = 2;
/// Heads in a cache line, about.
const HEADS_BLOCK_BYTES: usize = 64;
/// The largest shift: tables of 16 MiB.
const SHIFT_MAX: u8 = 8;

/// The smallest shift with which positions reach over some bytes of records.
fn shift_for(records: usize) -> u8 {
    let units = records >> 16;
    (usize::BITS - units.leading_zeros()) as u8
}

/// What a page is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Leaf = 1,
    Interior = 2,
    Slice = 3,
}

/// The head of what remains of a key after the prefix.
#[inline]
fn head_of(rest: &[u8]) -> i32 {
    let head = match rest.first_chunk::<HEAD_BYTES>() {
        Some(head) => *head,
        None => {
            let mut head = [0; HEAD_BYTES];
            head[..rest.len()].copy_from_slice(rest);
            head
        }
    };
    (u32::from_be_bytes(head) ^ 0x8000_0000) as i32
}

fn head_to_key_bytes(head: i32) -> [u8; HEAD_BYTES] {
    (head as u32 ^ 0x8000_0000).to_be_bytes()
}

/// Reads a varint that has one or two bytes mostly.
#[inline]
fn read_length(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes {
        [first, ..] if first < 0x80 => Some((u64::from(first), 1)),
        [first, second, ..] if second < 0x80 => {
            Some((u64::from(first & 0x7f) | u64::from(second) << 7, 2))
        }
        _ => read_varint(bytes),
    }
}

/// The last head of a cache line of them.
#[inline]
fn last_head(block: &[u8; HEADS_BLOCK_BYTES]) -> i32 {
    i32::from_le_bytes(*block.last_chunk().expect("a block has several heads"))
}

/// How many of the ascending heads of a cache line are below a head.
#[inline]
fn below_in_block(block: &[u8; HEADS_BLOCK_BYTES], head: i32) -> usize {
    // Four sums, so that the compiler makes vector instructions of it.
    let mut below = [0u32; 4];
    for four in block.as_chunks::<{ 4 * HEAD_BYTES }>().0 {
        for (sum, bytes) in below.iter_mut().zip(four.as_chunks::<HEAD_BYTES>().0) {
            *sum += u32::from(i32::from_le_bytes(*bytes) < head);
        }
    }
    below.into_iter().sum::<u32>() as usize
}

/// How many of some ascending heads are below a head.
#[inline]
fn heads_below(heads: &[u8], head: i32) -> usize {
    let slots = heads.len() / HEAD_BYTES;
    let Some(last_block) = heads.last_chunk() else {
        let heads = heads.as_chunks::<HEAD_BYTES>().0;
        return heads.partition_point(|bytes| i32::from_le_bytes(*bytes) < head);
    };
    // Of four blocks the last head, of each block of four the last one; then one block whole.
    let blocks = heads.as_chunks::<HEADS_BLOCK_BYTES>().0;
    let mut whole = 0;
    for four in blocks.as_chunks::<4>().0 {
        whole += 4 * usize::from(last_head(&four[3]) < head);
    }
    whole += blocks[whole..]
        .iter()
        .take(3)
        .map(|block| usize::from(last_head(block) < head))
        .sum::<usize>();
    // What is left behind the last block that is whole ends another one.
    let (before, block) = match blocks.get(whole) {
        Some(block) => (whole * (HEADS_BLOCK_BYTES / HEAD_BYTES), block),
        None => (slots - HEADS_BLOCK_BYTES / HEAD_BYTES, last_block),
    };
    before + below_in_block(block, head)
}

/// One record of a table.
#[derive(Clone, Copy)]
pub(crate) struct Slot<'p> {
    /// The tag byte: 0 in separators.
    pub(crate) tag: u8,
    /// The length of the key after the prefix.
    key_length: usize,
    /// The key after prefix and head.
    rest: &'p [u8],
    pub(crate) payload: &'p [u8],
    /// Slices: how much older than the slice's newest operation.
    age: u64,
}

/// The same by its places in the page, for those who need little of it.
struct Located {
    tag: u8,
    key_length: usize,
    rest_at: usize,
    payload: Range<usize>,
}

impl Located {
    #[inline]
    fn tag(&self) -> Tag {
        Tag::from_byte(self.tag).expect("the page was checked when it was loaded")
    }
}

/// The header of a checked page.
#[inline]
fn header_of(bytes: &[u8]) -> &[u8; HEADER_BYTES] {
    let header = bytes.first_chunk();
    header.expect("the page was checked when it was loaded")
}

/// The table of keys of a checked page.
#[derive(Clone, Copy)]
pub(crate) struct Page<'p> {
    bytes: &'p [u8],
    slots: usize,
    prefix_length: usize,
    /// Where the heads begin.
    heads_at: usize,
}

impl<'p> Page<'p> {
    /// A view of a page that was checked when it was loaded, or that a builder of this crate made.
    #[inline]
    pub(crate) fn new(bytes: &'p [u8]) -> Self {
        let header = header_of(bytes);
        let slots = u16::from_le_bytes([header[2], header[3]]) as usize;
        let prefix_length = u16::from_le_bytes([header[16], header[17]]) as usize;
        let heads_at = HEADER_BYTES + prefix_length.next_multiple_of(4);
        Self {
            bytes,
            slots,
            prefix_length,
            heads_at,
        }
    }

    #[inline]
    pub(crate) fn kind_is(&self, kind: Kind) -> bool {
        header_of(self.bytes)[0] == kind as u8
    }

    #[inline]
    pub(crate) fn level(&self) -> u8 {
        header_of(self.bytes)[1]
    }

    #[inline]
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    pub(crate) fn bytes(&self) -> &'p [u8] {
        self.bytes
    }

    #[inline]
    pub(crate) fn prefix(&self) -> &'p [u8] {
        &self.bytes[HEADER_BYTES..HEADER_BYTES + self.prefix_length]
    }

    /// Where what is particular to the kind begins.
    #[inline]
    pub(crate) fn records_end(&self) -> usize {
        let header = header_of(self.bytes);
        u32::from_le_bytes([header[20], header[21], header[22], header[23]]) as usize
    }

    /// Slices: the newest sequence of the operations.
    pub(crate) fn newest(&self) -> SequenceNumber {
        SequenceNumber(read_u64(self.bytes, 24).unwrap_or(0))
    }

    /// The number in the header whose meaning depends on the kind.
    #[inline]
    pub(crate) fn extra_count(&self) -> usize {
        let header = header_of(self.bytes);
        u16::from_le_bytes([header[32], header[33]]) as usize
    }

    #[inline]
    pub(crate) fn runs(&self) -> usize {
        let header = header_of(self.bytes);
        u16::from_le_bytes([header[34], header[35]]) as usize
    }

    #[inline]
    fn heads(&self) -> &'p [u8] {
        &self.bytes[self.heads_at..self.heads_at + HEAD_BYTES * self.slots]
    }

    #[inline]
    fn head(&self, slot: usize) -> i32 {
        let at = self.heads_at + HEAD_BYTES * slot;
        let head = self.bytes[at..].first_chunk();
        i32::from_le_bytes(*head.expect("the page was checked when it was loaded"))
    }

    #[inline]
    fn records_at(&self) -> usize {
        let positions_end = self.heads_at + (HEAD_BYTES + POSITION_BYTES) * self.slots;
        positions_end.next_multiple_of(1 << header_of(self.bytes)[18])
    }

    #[inline]
    fn record_at(&self, slot: usize) -> usize {
        let at = self.heads_at + HEAD_BYTES * self.slots + POSITION_BYTES * slot;
        let position = self.bytes[at..].first_chunk();
        let position = *position.expect("the page was checked when it was loaded");
        let shift = header_of(self.bytes)[18];
        self.records_at() + (usize::from(u16::from_le_bytes(position)) << shift)
    }

    /// Where the record of a slot has its parts.
    #[inline(always)]
    fn locate(&self, slot: usize) -> Located {
        let at = self.record_at(slot);
        if let Some(&[tag, key_length, first, second]) = self.bytes[at..].first_chunk()
            && key_length < 0x80
            && (first < 0x80 || second < 0x80)
            && !self.kind_is(Kind::Slice)
        {
            let (payload_length, rest_at) = match first < 0x80 {
                true => (usize::from(first), at + 3),
                false => (usize::from(first & 0x7f) | usize::from(second) << 7, at + 4),
            };
            let key_length = usize::from(key_length);
            let payload_at = rest_at + key_length.saturating_sub(HEAD_BYTES);
            return Located {
                tag,
                key_length,
                rest_at,
                payload: payload_at..payload_at + payload_length,
            };
        }
        self.locate_any(at)
    }

    fn locate_any(&self, at: usize) -> Located {
        let (slot, end) = self
            .parse(&self.bytes[at..])
            .expect("the page was checked when it was loaded");
        let payload_at = at + end - slot.payload.len();
        Located {
            tag: slot.tag,
            key_length: slot.key_length,
            rest_at: payload_at - slot.rest.len(),
            payload: payload_at..at + end,
        }
    }

    /// So many bytes of the records from a slot on, or of those before it, fewer at the ends.
    #[inline]
    pub(crate) fn records_beside(&self, slot: usize, bytes: usize, before: bool) -> &'p [u8] {
        if slot >= self.slots {
            return match before {
                true => &self.bytes[self.bytes.len() - self.bytes.len().min(bytes)..],
                false => &[],
            };
        }
        let at = self.record_at(slot);
        match before {
            true => &self.bytes[at.saturating_sub(bytes)..at],
            false => &self.bytes[at..self.bytes.len().min(at + bytes)],
        }
    }

    /// The record of a slot.
    #[inline]
    pub(crate) fn slot(&self, slot: usize) -> Slot<'p> {
        let record = &self.bytes[self.record_at(slot)..];
        self.parse(record)
            .expect("the page was checked when it was loaded")
            .0
    }

    /// Reads a record and says how many bytes it has.
    #[inline]
    fn parse(&self, record: &'p [u8]) -> Option<(Slot<'p>, usize)> {
        let tag = *record.first()?;
        let mut at = 1;
        let (key_length, taken) = read_length(record.get(at..)?)?;
        at += taken;
        let (payload_length, taken) = read_length(record.get(at..)?)?;
        at += taken;
        let mut age = 0;
        if self.kind_is(Kind::Slice) {
            let (read, taken) = read_varint(record.get(at..)?)?;
            age = read;
            at += taken;
        }
        let key_length = usize::try_from(key_length).ok()?;
        let rest_end = at.checked_add(key_length.saturating_sub(HEAD_BYTES))?;
        let end = rest_end.checked_add(usize::try_from(payload_length).ok()?)?;
        let slot = Slot {
            tag,
            key_length,
            rest: record.get(at..rest_end)?,
            payload: record.get(rest_end..end)?,
            age,
        };
        Some((slot, end))
    }

    /// The tag of a slot of a leaf or a slice.
    #[inline]
    pub(crate) fn tag(slot: &Slot<'_>) -> Tag {
        Tag::from_byte(slot.tag).expect("the page was checked when it was loaded")
    }

    /// Slices: the sequence of an operation.
    pub(crate) fn sequence(&self, slot: &Slot<'_>) -> SequenceNumber {
        SequenceNumber(self.newest().0.saturating_sub(slot.age))
    }

    /// Appends the whole key of a slot to a buffer.
    #[inline]
    pub(crate) fn append_key(&self, index: usize, slot: &Slot<'_>, out: &mut Vec<u8>) {
        out.reserve(self.prefix_length + slot.key_length);
        out.extend_from_slice(self.prefix());
        let head = head_to_key_bytes(self.head(index));
        out.extend_from_slice(&head[..slot.key_length.min(HEAD_BYTES)]);
        out.extend_from_slice(slot.rest);
    }

    /// Puts the beginning of the key of a slot into a buffer, without a look at the record; says
    /// whether that could be done. The key has at least these bytes, and perhaps others behind.
    #[inline]
    pub(crate) fn read_beginning(&self, index: usize, key: &mut KeyBuffer) -> bool {
        let head = head_to_key_bytes(self.head(index));
        let prefix = HEADER_BYTES..HEADER_BYTES + self.prefix_length;
        key.join(self.bytes, prefix, head, 0, HEAD_BYTES);
        // Else it may be padding.
        head[HEAD_BYTES - 1] != 0
    }

    /// Whether a slot's key may begin with some bytes, as far as can be said without a look at the
    /// record.
    #[inline]
    pub(crate) fn may_begin_with(&self, index: usize, beginning: &[u8]) -> bool {
        let head = head_to_key_bytes(self.head(index));
        let prefix = self.prefix();
        let (in_prefix, in_head) = beginning.split_at(prefix.len().min(beginning.len()));
        let in_head = &in_head[..in_head.len().min(HEAD_BYTES)];
        prefix.starts_with(in_prefix) && head.starts_with(in_head)
    }

    /// Puts the whole key of a slot into a buffer.
    #[inline]
    pub(crate) fn read_key(&self, index: usize, key: &mut KeyBuffer) {
        self.join(index, &self.locate(index), key);
    }

    #[inline]
    fn join(&self, index: usize, record: &Located, key: &mut KeyBuffer) {
        let head = head_to_key_bytes(self.head(index));
        let prefix = HEADER_BYTES..HEADER_BYTES + self.prefix_length;
        key.join(self.bytes, prefix, head, record.rest_at, record.key_length);
    }

    /// Puts the whole key of a slot of a leaf or a slice into a buffer; gives its tag and where in
    /// the page its payload is.
    #[inline]
    pub(crate) fn read_into(&self, index: usize, key: &mut KeyBuffer) -> (Tag, Range<usize>) {
        let record = self.locate(index);
        self.join(index, &record, key);
        (record.tag(), record.payload)
    }

    /// The tag of a slot of a leaf or a slice, and where in the page its payload is.
    #[inline]
    pub(crate) fn stored(&self, index: usize) -> (Tag, Range<usize>) {
        let record = self.locate(index);
        (record.tag(), record.payload)
    }

    /// The whole key of a slot.
    pub(crate) fn key(&self, index: usize) -> Vec<u8> {
        let slot = self.slot(index);
        let mut key = Vec::with_capacity(self.prefix_length + slot.key_length);
        self.append_key(index, &slot, &mut key);
        key
    }

    /// Compares the key of a slot with a key whose remains after the prefix have the same head.
    #[inline]
    fn compare_rest(&self, record: &Located, remains: &[u8]) -> Ordering {
        if record.key_length.min(remains.len()) < HEAD_BYTES {
            // The shorter one is the other's beginning: the zeros of its padding are the other's.
            return record.key_length.cmp(&remains.len());
        }
        let rest = record.rest_at..record.rest_at + record.key_length - HEAD_BYTES;
        self.bytes[rest].cmp(&remains[HEAD_BYTES..])
    }

    /// Where a key without the page's prefix would stand.
    #[cold]
    fn beside(&self, key: &[u8]) -> usize {
        match key < self.prefix() {
            true => 0,
            false => self.slots,
        }
    }

    /// What remains of a key after the prefix, if it has that.
    #[inline]
    fn remains<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        match self.prefix_length {
            0 => Some(key),
            _ => key.strip_prefix(self.prefix()),
        }
    }

    /// The slot of a key and its record, or the slot before which it would stand.
    #[inline(always)]
    fn seek(&self, key: &[u8]) -> std::result::Result<(usize, Located), usize> {
        let Some(remains) = self.remains(key) else {
            return Err(self.beside(key));
        };
        let head = head_of(remains);
        let below = heads_below(self.heads(), head);
        if below == self.slots || self.head(below) != head {
            return Err(below);
        }
        // Slots with the same head: usually one.
        let record = self.locate(below);
        match self.compare_rest(&record, remains) {
            Ordering::Equal => Ok((below, record)),
            Ordering::Greater => Err(below),
            Ordering::Less => self.seek_among(below + 1, head, remains),
        }
    }

    /// The same from a slot on, where the slot before it has the same head and a smaller key.
    #[inline(never)]
    fn seek_among(
        &self,
        mut low: usize,
        head: i32,
        remains: &[u8],
    ) -> std::result::Result<(usize, Located), usize> {
        let mut high = low;
        let mut step = 1;
        while high < self.slots && self.head(high) == head {
            high = (high + step).min(self.slots);
            step *= 2;
        }
        while low < high {
            let middle = low.midpoint(high);
            let record = self.locate(middle);
            let ordering = self
                .head(middle)
                .cmp(&head)
                .then_with(|| self.compare_rest(&record, remains));
            match ordering {
                Ordering::Equal => return Ok((middle, record)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }

    /// The slot of a key, or the slot before which it would stand.
    pub(crate) fn search(&self, key: &[u8]) -> std::result::Result<usize, usize> {
        self.seek(key).map(|(slot, _)| slot)
    }

    /// What a leaf or a slice has for a key.
    #[inline(always)]
    pub(crate) fn find(&self, key: &[u8]) -> Option<(Tag, &'p [u8])> {
        let remains = self.remains(key)?;
        let head = head_of(remains);
        let below = heads_below(self.heads(), head);
        if below == self.slots || self.head(below) != head {
            return None;
        }
        // As in `seek`, which tells where a key would stand, too: that costs a tenth of a descent.
        let record = self.locate(below);
        match self.compare_rest(&record, remains) {
            Ordering::Equal => Some((record.tag(), &self.bytes[record.payload])),
            Ordering::Greater => None,
            Ordering::Less => self.find_among(below + 1, head, remains),
        }
    }

    #[inline(never)]
    fn find_among(&self, from: usize, head: i32, remains: &[u8]) -> Option<(Tag, &'p [u8])> {
        let (_, record) = self.seek_among(from, head, remains).ok()?;
        Some((record.tag(), &self.bytes[record.payload]))
    }

    /// The first slot whose key is at or after a key.
    #[inline]
    pub(crate) fn at_or_after(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|slot| slot)
    }

    /// The first slot whose key is after a key.
    #[inline(always)]
    pub(crate) fn after(&self, key: &[u8]) -> usize {
        let Some(remains) = self.remains(key) else {
            return self.beside(key);
        };
        let head = head_of(remains);
        let below = heads_below(self.heads(), head);
        if below == self.slots || self.head(below) != head {
            return below;
        }
        // Of separators, hardly ever one has the head of the key.
        self.after_same(key)
    }

    #[inline(never)]
    fn after_same(&self, key: &[u8]) -> usize {
        match self.seek(key) {
            Ok((slot, _)) => slot + 1,
            Err(slot) => slot,
        }
    }

    /// Checks everything that the views rely on, once, when a page is loaded. The checksum has been
    /// checked before; this is what keeps a file made by somebody hostile from doing harm.
    pub(crate) fn check(bytes: &'p [u8], pointer: &PagePointer, kind: Kind) -> Result<Self> {
        Self::check_table(bytes, pointer, kind).ok_or_else(|| {
            Error::corrupt_at(pointer.extent(), format!("a malformed {kind:?} page"))
        })
    }

    fn check_table(bytes: &'p [u8], pointer: &PagePointer, kind: Kind) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let sound = header[0] == kind as u8
            && (kind == Kind::Interior) == (header[1] > 0)
            && read_u32(header, 4)? as usize == bytes.len()
            && read_u64(header, 8)? == pointer.birth.0
            && header[18] <= SHIFT_MAX;
        if !sound {
            return None;
        }
        let slots = read_u16(header, 2)? as usize;
        let prefix_length = read_u16(header, 16)? as usize;
        let records_end = read_u32(header, 20)? as usize;
        let heads_at = HEADER_BYTES + prefix_length.next_multiple_of(4);
        let positions_end = heads_at + slots * (HEAD_BYTES + POSITION_BYTES);
        if positions_end.next_multiple_of(1 << header[18]) > records_end
            || records_end > bytes.len()
        {
            return None;
        }
        let page = Self {
            bytes,
            slots,
            prefix_length,
            heads_at,
        };
        page.check_records(kind, records_end)?;
        Some(page)
    }

    fn check_records(&self, kind: Kind, records_end: usize) -> Option<()> {
        let mut before: Option<(i32, Slot<'_>)> = None;
        for index in 0..self.slots {
            let record = self.bytes.get(self.record_at(index)..records_end)?;
            let (slot, _) = self.parse(record)?;
            let tag = match (kind, slot.tag) {
                (Kind::Interior, 0) => None,
                (Kind::Interior, _) => return None,
                (_, tag) => Some(Tag::from_byte(tag)?),
            };
            let allowed = match kind {
                Kind::Interior => true,
                Kind::Leaf => tag.is_some_and(Tag::is_present),
                Kind::Slice => !matches!(tag, Some(Tag::DeleteRange | Tag::Elsewhere)),
            };
            let head = self.head(index);
            let short = slot.key_length < HEAD_BYTES
                && head_to_key_bytes(head)[slot.key_length..]
                    .iter()
                    .any(|&byte| byte != 0);
            if !allowed || short {
                return None;
            }
            if let Some((head_before, slot_before)) = before {
                let ordering = head_before.cmp(&head).then_with(|| {
                    if slot_before.key_length.min(slot.key_length) < HEAD_BYTES {
                        slot_before.key_length.cmp(&slot.key_length)
                    } else {
                        slot_before.rest.cmp(slot.rest)
                    }
                });
                if ordering != Ordering::Less {
                    return None;
                }
            }
            before = Some((head, slot));
        }
        Some(())
    }
}

/// What goes into a slot.
#[derive(Clone, Copy)]
pub(crate) struct NewSlot<'a> {
    pub(crate) key: &'a [u8],
    /// 0 in separators.
    pub(crate) tag: u8,
    pub(crate) payload: &'a [u8],
    /// Slices only.
    pub(crate) sequence: SequenceNumber,
}

/// What goes into a header.
pub(crate) struct NewPage {
    pub(crate) kind: Kind,
    pub(crate) level: u8,
    pub(crate) birth: Birth,
    /// Slices only.
    pub(crate) newest: SequenceNumber,
    pub(crate) extra_count: usize,
    pub(crate) runs: usize,
}

/// The bytes that a slot takes in a table, its key counted whole.
pub(crate) fn slot_bytes(key: usize, payload: usize) -> usize {
    HEAD_BYTES
        + POSITION_BYTES
        + 1
        + varint_bytes(key as u64)
        + varint_bytes(payload as u64)
        + key.saturating_sub(HEAD_BYTES)
        + payload
}

/// How many bytes two keys have in common at their beginnings.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Encodes a header and a table. The slots are in strictly ascending order of their keys; what is
/// particular to the kind is appended by the caller, who then calls [`finish`].
///
/// Error: the records have 16 MiB or more. Of the entries of a page it takes at most one that is much
/// larger than the page is to be, and only merge operands that cannot be resolved grow so large.
pub(crate) fn encode_table(new: &NewPage, slots: &[NewSlot<'_>]) -> Result<Vec<u8>> {
    let prefix = match slots {
        [] => &[][..],
        [only] => only.key,
        [first, .., last] => &first.key[..common_prefix(first.key, last.key)],
    };
    let records: usize = slots
        .iter()
        .map(|slot| slot_bytes(slot.key.len(), slot.payload.len()))
        .sum();
    let mut shift = shift_for(records);
    if shift > 0 {
        // Padding enlarges the records, at most to this.
        shift = shift_for(records + (slots.len() << (shift + 1)));
    }
    if shift > SHIFT_MAX {
        let largest = slots.iter().max_by_key(|slot| slot.payload.len());
        let (key, bytes) = largest.map_or((&[][..], 0), |slot| (slot.key, slot.payload.len()));
        return Err(Error::invalid(format!(
            "a page cannot have 16 MiB: the merge operands of the key \"{}\" have {bytes} bytes, and \
             what they are merged into is not known here",
            key[..key.len().min(64)].escape_ascii()
        )));
    }
    let heads_at = HEADER_BYTES + prefix.len().next_multiple_of(4);
    let positions_at = heads_at + HEAD_BYTES * slots.len();
    let records_at = (positions_at + POSITION_BYTES * slots.len()).next_multiple_of(1 << shift);
    let mut page = Vec::with_capacity(records_at + records + 12 * slots.len());
    page.resize(records_at, 0);
    page[0] = new.kind as u8;
    page[1] = new.level;
    page[2..4].copy_from_slice(&(slots.len() as u16).to_le_bytes());
    page[8..16].copy_from_slice(&new.birth.0.to_le_bytes());
    page[16..18].copy_from_slice(&(prefix.len() as u16).to_le_bytes());
    page[18] = shift;
    page[24..32].copy_from_slice(&new.newest.0.to_le_bytes());
    page[32..34].copy_from_slice(&(new.extra_count as u16).to_le_bytes());
    page[34..36].copy_from_slice(&(new.runs as u16).to_le_bytes());
    page[HEADER_BYTES..HEADER_BYTES + prefix.len()].copy_from_slice(prefix);
    for (index, slot) in slots.iter().enumerate() {
        let remains = &slot.key[prefix.len()..];
        let head = head_of(remains);
        let at = heads_at + HEAD_BYTES * index;
        page[at..at + HEAD_BYTES].copy_from_slice(&head.to_le_bytes());
        page.resize(page.len().next_multiple_of(1 << shift), 0);
        let position = ((page.len() - records_at) >> shift) as u16;
        let at = positions_at + POSITION_BYTES * index;
        page[at..at + POSITION_BYTES].copy_from_slice(&position.to_le_bytes());
        page.push(slot.tag);
        put_varint(&mut page, remains.len() as u64);
        put_varint(&mut page, slot.payload.len() as u64);
        if new.kind == Kind::Slice {
            put_varint(&mut page, new.newest.0 - slot.sequence.0);
        }
        page.extend_from_slice(remains.get(HEAD_BYTES..).unwrap_or(&[]));
        page.extend_from_slice(slot.payload);
    }
    let records_end = page.len() as u32;
    page[20..24].copy_from_slice(&records_end.to_le_bytes());
    Ok(page)
}

/// Enters the length of a page, the last thing that is known of it.
pub(crate) fn finish(mut page: Vec<u8>) -> Vec<u8> {
    let length = page.len() as u32;
    page[4..8].copy_from_slice(&length.to_le_bytes());
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let slots: Vec<NewSlot<'_>> = entries
            .iter()
            .map(|(key, value)| NewSlot {
                key,
                tag: Tag::Inline as u8,
                payload: value,
                sequence: SequenceNumber(0),
            })
            .collect();
        let new = NewPage {
            kind: Kind::Leaf,
            level: 0,
            birth: Birth(3),
            newest: SequenceNumber(0),
            extra_count: 0,
            runs: 0,
        };
        finish(encode_table(&new, &slots).unwrap())
    }

    fn pointer(page: &[u8]) -> PagePointer {
        PagePointer {
            length: page.len() as u32,
            birth: Birth(3),
            ..PagePointer::NOTHING
        }
    }

    #[test]
    fn searching_a_page_agrees_with_a_sorted_list() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let alphabet = random.usize(1..4);
            let mut key = |length: usize| -> Vec<u8> {
                let mut key = vec![0; random.usize(0..=length)];
                key.iter_mut()
                    .for_each(|byte| *byte = random.usize(0..=alphabet) as u8);
                key
            };
            let mut keys: Vec<Vec<u8>> = (0..60).map(|_| key(12)).collect();
            let probes: Vec<Vec<u8>> = (0..100).map(|_| key(14)).collect();
            keys.sort();
            keys.dedup();
            let entries: Vec<_> = keys
                .iter()
                .map(|key| (key.clone(), vec![7; key.len()]))
                .collect();
            let bytes = leaf(&entries);
            let page = Page::check(&bytes, &pointer(&bytes), Kind::Leaf).unwrap();
            for (index, (key, value)) in entries.iter().enumerate() {
                assert_eq!(page.search(key), Ok(index), "seed {seed}");
                assert_eq!(&page.key(index), key, "seed {seed}");
                assert_eq!(page.slot(index).payload, value, "seed {seed}");
            }
            for (index, (key, _)) in entries.iter().enumerate() {
                let mut beginning = KeyBuffer::new();
                if page.read_beginning(index, &mut beginning) {
                    assert!(key.starts_with(beginning.as_slice()), "seed {seed}");
                }
                for length in 0..=key.len() {
                    assert!(page.may_begin_with(index, &key[..length]), "seed {seed}");
                }
            }
            for probe in probes {
                assert_eq!(
                    page.search(&probe),
                    keys.binary_search(&probe),
                    "seed {seed} {probe:?}"
                );
            }
        }
    }

    #[test]
    fn a_page_of_huge_keys_is_wider_than_64_kib_and_still_searchable() {
        let entries: Vec<_> = (0..4u8)
            .map(|n| (vec![n; 32 << 10], vec![n; 100]))
            .collect();
        let bytes = leaf(&entries);
        assert!(bytes.len() > 128 << 10);
        let page = Page::check(&bytes, &pointer(&bytes), Kind::Leaf).unwrap();
        for (index, (key, value)) in entries.iter().enumerate() {
            assert_eq!(page.search(key), Ok(index));
            assert_eq!(page.slot(index).payload, value);
        }
    }

    #[test]
    fn malformed_pages_are_refused_or_harmless() {
        let entries: Vec<_> = (0..20u8)
            .map(|n| (vec![b'k', n / 3, n], vec![n; n as usize]))
            .collect();
        let good = leaf(&entries);
        let pointer = pointer(&good);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bad.len());
                bad[at] = random.u8(..);
            }
            if let Ok(page) = Page::check(&bad, &pointer, Kind::Leaf) {
                for index in 0..page.slots() {
                    let key = page.key(index);
                    let _ = page.search(&key);
                }
            }
        }
    }

    /// The bytes of a block of text in hex.
    fn bytes_of(hex: &str) -> Vec<u8> {
        hex.split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    #[test]
    fn the_leaf_in_the_description_of_the_format_is_what_is_encoded() {
        let text = include_str!("../format/pages.md");
        let (_, from) = text.split_once("```text hex\n").unwrap();
        let (hex, _) = from.split_once("```").unwrap();
        let slots =
            [("ap", ""), ("apple", "red"), ("apricot", "orange")].map(|(key, value)| NewSlot {
                key: key.as_bytes(),
                tag: Tag::Inline as u8,
                payload: value.as_bytes(),
                sequence: SequenceNumber(0),
            });
        let new = NewPage {
            kind: Kind::Leaf,
            level: 0,
            birth: Birth(7),
            newest: SequenceNumber(0),
            extra_count: 0,
            runs: 0,
        };
        let page = finish(encode_table(&new, &slots).unwrap());
        assert_eq!(page, bytes_of(hex), "{page:02x?}");
    }
}
