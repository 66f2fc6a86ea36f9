//! Making pages of entries, operations and children: where to cut, and what to write.

use std::borrow::Cow;

use super::batches::Keys;
use super::filter;
use super::flush::{Flush, INTERIOR_BYTES_MAX, slice_flags};
use super::interior::{Child, NodeParts, PENDING_UNIT_BYTES, RunParts, SliceParts};
use super::lineage::{has_base, supersede};
use super::merge::{
    Base, fold, needs_below, older_operands, own_operands, stored_base, with_older_operands,
    with_operands_elsewhere, with_stored_base,
};
use super::operation::{Batch, Operation, lose};
use super::page::{
    HEADER_BYTES, Kind, NewPage, NewSlot, Page, common_prefix, encode_table, finish, slot_bytes,
};
use super::pages::Expect;
use super::slice;
use crate::cache::prefetch_bytes;
use crate::disk::block_on;
use crate::error::{ErrorKind, Result};
use crate::format::record::{Tag, hash_key};
use crate::format::{PagePointer, SequenceNumber};
use crate::space::Owner;
use crate::value::{OffTree, ValueReader, ValueWriter};

/// A flush merges operands into an off-tree value, and writes it anew, when they have this share of its
/// length, but never fewer bytes than the least, nor more than the most of these.
const CHAIN_SHARE: u64 = 4;
const CHAIN_BYTES_MIN: usize = 64 << 10;
const CHAIN_BYTES_MAX: usize = 1 << 20;
/// Longer values stay as they are: a flush has to have the memory.
const RESOLVED_BYTES_MAX: u64 = 1 << 30;

/// An entry on its way into a leaf.
struct Entry<'a> {
    key: &'a [u8],
    tag: Tag,
    payload: Cow<'a, [u8]>,
}

impl Entry<'_> {
    fn bytes(&self) -> usize {
        slot_bytes(self.key.len(), self.payload.len())
    }
}

impl Flush<'_> {
    /// Applies a batch to a leaf, or to nothing: the leaves that take its place.
    pub(super) fn apply_to_leaf(
        &mut self,
        pointer: &PagePointer,
        low: &[u8],
        batch: Batch<'_>,
    ) -> Result<Vec<Child>> {
        let handle = match pointer.is_nothing() {
            true => None,
            false => Some(self.pages.load_waiting(pointer, Expect::Level(0))?),
        };
        let page = handle.as_ref().map(|handle| Page::new(handle.bytes()));
        let keys = page.as_ref().map(Keys::of);
        let slots = page.as_ref().map_or(0, Page::slots);
        let mut entries = Vec::with_capacity(slots + batch.points.len());
        let mut changed = false;
        let mut appended = 0;
        let mut points = batch.points.iter().peekable();
        for index in 0..slots {
            let (Some(page), Some(keys)) = (&page, &keys) else {
                break;
            };
            let (key, slot) = (keys.get(index), page.slot(index));
            while let Some(operation) = points.next_if(|operation| operation.key < key) {
                changed |= self.enter(&mut entries, operation)?;
            }
            let mut base = Base::Stored(Page::tag(&slot), slot.payload);
            if batch.covers(key) {
                lose(Page::tag(&slot), slot.payload, &mut |payload| {
                    self.drop_value(payload)
                });
                base = Base::Absent;
                changed = true;
            }
            match (points.next_if(|operation| operation.key == key), base) {
                (None, Base::Stored(tag, payload)) => {
                    entries.push(Entry {
                        key,
                        tag,
                        payload: Cow::Borrowed(payload),
                    });
                }
                (None, _) => {}
                (Some(operation), base) => {
                    changed = true;
                    self.replace(&mut entries, base, operation)?;
                }
            }
        }
        for operation in points {
            let entered = self.enter(&mut entries, operation)?;
            changed |= entered;
            appended += usize::from(entered);
        }
        // What changes nothing here may have taken away what was pending in an older version.
        let newest = pointer.newest.max(batch.newest());
        if !changed {
            return Ok(match pointer.is_nothing() {
                true => Vec::new(),
                false => vec![Child {
                    low: low.to_vec(),
                    pointer: PagePointer { newest, ..*pointer },
                }],
            });
        }
        if !pointer.is_nothing() {
            self.drop_page(pointer);
        }
        let at_edge = appended * 2 > batch.points.len();
        self.pack(&entries, low, newest, at_edge)
    }

    /// Enters an operation whose key the leaf does not have; says whether an entry came of it.
    fn enter<'a>(
        &mut self,
        entries: &mut Vec<Entry<'a>>,
        operation: &Operation<'a>,
    ) -> Result<bool> {
        if operation.tag == Tag::Delete {
            return Ok(false);
        }
        self.replace(entries, Base::Absent, operation)?;
        Ok(true)
    }

    /// Enters what an operation makes of an entry.
    fn replace<'a>(
        &mut self,
        entries: &mut Vec<Entry<'a>>,
        base: Base<'_>,
        operation: &Operation<'a>,
    ) -> Result<()> {
        let key = operation.key;
        let mut payload = operation.payload.clone();
        let goes_over = operation.tag != Tag::Merge || !needs_below(&payload);
        if let (Base::Stored(tag, older), true) = (base, goes_over) {
            supersede(operation.tag, &mut payload, (tag, older), &mut |lost| {
                self.drop_lost(lost);
            });
        }
        debug_assert!(
            !has_base(operation.tag, &payload),
            "a value comes to the one that it was made of"
        );
        let (tag, payload) = match operation.tag {
            Tag::Merge => {
                let (tag, folded) = fold(&self.pages.operators, key, base, &payload);
                match self.resolve_long(key, tag, &folded)? {
                    Some(value) => (Tag::Inline, Cow::Owned(value)),
                    None => self.shorten(key, tag, folded)?,
                }
            }
            tag => (tag, payload),
        };
        if tag == Tag::Delete {
            return Ok(());
        }
        let too_large = payload.len() > self.pages.settings.inline_bytes_max as usize;
        if tag == Tag::Inline && too_large {
            let payload = self.store_value(&payload)?;
            entries.push(Entry {
                key,
                tag: Tag::OffTree,
                payload: Cow::Owned(payload),
            });
        } else {
            entries.push(Entry { key, tag, payload });
        }
        Ok(())
    }

    /// What comes of an off-tree value and a chain that has grown long over it; the old value is
    /// dropped. `None`: nothing, all stays as it is.
    fn resolve_long(&mut self, key: &[u8], tag: Tag, chain: &[u8]) -> Result<Option<Vec<u8>>> {
        let (Tag::Merge, Some((Tag::OffTree, payload))) = (tag, stored_base(chain)) else {
            return Ok(None);
        };
        let length = OffTree::from_payload(payload)?.length;
        let too_long = length > RESOLVED_BYTES_MAX;
        if too_long || own_operands(chain).len() <= self.chain_bytes_allowed(length) {
            return Ok(None);
        }
        let Some(whole) = self.whole_chain(chain)? else {
            return Ok(None);
        };
        let Some(found) = self.read_value(payload)? else {
            return Ok(None);
        };
        let whole = with_stored_base(&whole, Tag::Inline, &found);
        drop(found);
        match fold(&self.pages.operators, key, Base::Absent, &whole) {
            (Tag::Inline, value) => {
                lose(tag, chain, &mut |payload| self.drop_value(payload));
                Ok(Some(value))
            }
            // An operator is missing, or panicked.
            _ => Ok(None),
        }
    }

    /// How many bytes of operands may stand over an off-tree value of some length.
    fn chain_bytes_allowed(&self, length: u64) -> usize {
        let segment_bytes = self.pages.disk.properties().segment_bytes as usize;
        let most = (segment_bytes / 8).min(CHAIN_BYTES_MAX);
        let share = usize::try_from(length / CHAIN_SHARE).unwrap_or(usize::MAX);
        share.clamp(CHAIN_BYTES_MIN.min(most), most)
    }

    /// An off-tree value; `None` if it cannot be read: damage, or a codec that is missing, must not keep
    /// all else from the disk.
    fn read_value(&self, payload: &[u8]) -> Result<Option<Vec<u8>>> {
        let pages = self.pages;
        let reader = ValueReader::new(pages.disk.clone(), pages.store, payload);
        let read = reader.and_then(|reader| block_on(reader.read_all(usize::MAX)));
        match read {
            Ok(found) => Ok(Some(found)),
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::CodecMissing) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A chain with all its operands; `None` if they cannot be read.
    fn whole_chain<'c>(&self, chain: &'c [u8]) -> Result<Option<Cow<'c, [u8]>>> {
        Ok(match older_operands(chain) {
            None => Some(Cow::Borrowed(chain)),
            Some(older) => self
                .read_value(older)?
                .map(|older| Cow::Owned(with_older_operands(chain, &older))),
        })
    }

    /// Puts the operands of a chain that stays one into an off-tree value, when they have become many:
    /// neither pages nor those who make them take any number.
    fn shorten(
        &mut self,
        key: &[u8],
        tag: Tag,
        mut chain: Vec<u8>,
    ) -> Result<(Tag, Cow<'static, [u8]>)> {
        if tag != Tag::Merge {
            return Ok((tag, Cow::Owned(chain)));
        }
        if let Some((Tag::Inline, value)) = stored_base(&chain)
            && value.len() > self.pages.settings.inline_bytes_max as usize
        {
            let stored = self.store_value(value)?;
            chain = with_stored_base(&chain, Tag::OffTree, &stored);
        }
        let older = older_operands(&chain);
        let length = match older {
            Some(older) => OffTree::from_payload(older).map_or(0, |older| older.length),
            None => 0,
        };
        if own_operands(&chain).len() <= self.chain_bytes_allowed(length) {
            return Ok((tag, Cow::Owned(chain)));
        }
        let Some(whole) = self.whole_chain(&chain)? else {
            return Ok((tag, Cow::Owned(chain)));
        };
        // An operator may be known now that was not.
        let (folded, whole) = fold(&self.pages.operators, key, Base::Absent, &whole);
        let payload = match folded {
            Tag::Merge => {
                let stored = self.store_value(own_operands(&whole))?;
                with_operands_elsewhere(&whole, &stored)
            }
            _ => whole,
        };
        if let Some(older) = older {
            self.drop_value(older);
        }
        Ok((folded, Cow::Owned(payload)))
    }

    /// Writes a value that outgrew its leaf.
    fn store_value(&mut self, value: &[u8]) -> Result<Vec<u8>> {
        let pages = self.pages;
        let shape = pages.value_shape()?;
        let urgency = self.urgency;
        let allocate = |bytes| pages.space.allocate(bytes, Owner::Tree, urgency);
        let disk = pages.disk.clone();
        let mut writer = ValueWriter::new(disk, pages.store, self.birth, shape, allocate);
        let written = block_on(async {
            writer.write(value).await?;
            writer.finish().await
        });
        match written {
            Ok(written) => {
                self.values.extend(written.extents);
                Ok(written.value.to_payload().to_vec())
            }
            Err(error) => {
                self.values.extend(writer.abandon().idle);
                Err(error)
            }
        }
    }

    /// Makes new leaves of neighbouring ones for which nothing is pending.
    pub(super) fn join_leaves(
        &mut self,
        pointers: &[PagePointer],
        pages: &[Page<'_>],
        low: &[u8],
    ) -> Result<Vec<Child>> {
        let keys: Vec<_> = pages.iter().map(Keys::of).collect();
        let mut entries = Vec::with_capacity(pages.iter().map(Page::slots).sum());
        for (page, keys) in pages.iter().zip(&keys) {
            for index in 0..page.slots() {
                let slot = page.slot(index);
                let payload = Cow::Borrowed(slot.payload);
                entries.push(Entry {
                    key: keys.get(index),
                    tag: Page::tag(&slot),
                    payload,
                });
            }
        }
        let newest = pointers.iter().map(|pointer| pointer.newest).max();
        let joined = self.pack(&entries, low, newest.unwrap_or_default(), false)?;
        for pointer in pointers {
            self.drop_page(pointer);
        }
        Ok(joined)
    }

    /// Makes leaves of entries.
    fn pack(
        &mut self,
        entries: &[Entry<'_>],
        low: &[u8],
        newest: SequenceNumber,
        at_edge: bool,
    ) -> Result<Vec<Child>> {
        let mut children = Vec::new();
        let mut start = 0;
        for end in self.cuts(entries, at_edge) {
            let part = &entries[start..end];
            let slots: Vec<NewSlot<'_>> = part
                .iter()
                .map(|entry| {
                    // They are copied next, and may lie about in the memory of a transaction.
                    prefetch_bytes(&entry.payload);
                    NewSlot {
                        key: entry.key,
                        tag: entry.tag as u8,
                        payload: &entry.payload,
                        sequence: SequenceNumber(0),
                    }
                })
                .collect();
            let new = NewPage {
                kind: Kind::Leaf,
                level: 0,
                birth: self.birth,
                newest: SequenceNumber(0),
                extra_count: 0,
                runs: 0,
            };
            let page = finish(encode_table(&new, &slots)?);
            let stored = part.iter().map(|entry| (entry.tag, &*entry.payload));
            let summary = PagePointer {
                newest,
                entries: part.len() as u64,
                off_tree_bytes: off_tree_bytes(stored),
                ..PagePointer::NOTHING
            };
            let low = match start {
                0 => low.to_vec(),
                _ => separator(entries[start - 1].key, entries[start].key).to_vec(),
            };
            let pointer = self.make(page, summary, 0, 0)?;
            children.push(Child { low, pointer });
            start = end;
        }
        Ok(children)
    }

    /// Where the leaves of some entries end. Leaves are of even size, or full where entries were
    /// appended at the end; near the ideal place the cut with the shortest separator wins.
    fn cuts(&self, entries: &[Entry<'_>], at_edge: bool) -> Vec<usize> {
        let settings = &self.pages.settings;
        let slots_max = settings.leaf_slots_max as usize;
        let Some(last) = entries.last() else {
            return Vec::new();
        };
        // What all keys share, each leaf's keys share too: an upper bound of the sizes.
        let shared = common_prefix(entries[0].key, last.key);
        let overhead = HEADER_BYTES + shared.next_multiple_of(4);
        let room = (settings.page_bytes as usize)
            .saturating_sub(overhead)
            .max(1);
        let size = |entry: &Entry<'_>| entry.bytes() - shared.min(entry.key.len());
        let total: usize = entries.iter().map(size).sum();
        if total <= room && entries.len() <= slots_max {
            return vec![entries.len()];
        }
        let leaves = total
            .div_ceil(room)
            .max(entries.len().div_ceil(slots_max))
            .max(2);
        let (target_bytes, target_slots) = match at_edge || leaves > 2 {
            true => (room, slots_max),
            false => (total.div_ceil(leaves), entries.len().div_ceil(leaves)),
        };
        let full = at_edge || leaves > 2;
        let mut cuts = Vec::with_capacity(leaves + 1);
        let (mut start, mut bytes, mut left) = (0, 0, total);
        for (index, entry) in entries.iter().enumerate() {
            let count = index - start;
            let size = size(entry);
            let over = bytes + size > if full { room } else { target_bytes };
            let enough = count >= 4 || bytes + size > 2 * room;
            if count > 0 && ((over && enough) || count >= target_slots) {
                let cut = nearby_cut(entries, start, index, full);
                cuts.push(cut);
                bytes = entries[cut..index].iter().map(self::size_of(shared)).sum();
                start = cut;
                // The last two leaves share what is left when it would make a poor last one.
                let rest = left + bytes;
                if full && !at_edge && rest > room && rest < room + room / 2 {
                    let half = halfway(entries, start, shared, rest / 2);
                    if half > index
                        && half < entries.len()
                        && half - start <= slots_max
                        && entries.len() - half <= slots_max
                    {
                        cuts.push(half);
                        break;
                    }
                }
            }
            bytes += size;
            left -= size;
        }
        cuts.push(entries.len());
        cuts
    }

    /// Makes a run of what is pending for some of `children` children, in their order.
    pub(super) fn build_run(
        &mut self,
        items: Vec<(usize, Batch<'_>)>,
        children: usize,
    ) -> Result<RunParts> {
        let settings = self.pages.settings;
        let mut run = RunParts {
            pending: vec![0; children],
            ..RunParts::default()
        };
        let units = |bytes: usize| {
            let units = bytes.div_ceil(PENDING_UNIT_BYTES);
            units.clamp(1, u16::MAX as usize) as u16
        };
        let mut items = items.into_iter().peekable();
        while let Some((first_child, mut joined)) = items.next() {
            let mut bytes = joined.bytes();
            run.pending[first_child] = units(bytes);
            let mut last_child = first_child;
            let mut more = 0;
            while let Some((child, batch)) = items.next_if(|(_, batch)| {
                more = batch.bytes();
                let operations = joined.operations() + batch.operations();
                bytes + more <= settings.slice_bytes as usize
                    && operations <= settings.slice_slots_max as usize
            }) {
                bytes += more;
                run.pending[child] = units(more);
                joined.deletes.extend(batch.deletes);
                joined.points.extend(batch.points);
                last_child = child;
            }
            run.live_operations += joined.operations() as u32;
            run.slices
                .push(self.make_slice(&joined, first_child, last_child)?);
        }
        Ok(run)
    }

    fn make_slice(
        &mut self,
        batch: &Batch<'_>,
        first_child: usize,
        last_child: usize,
    ) -> Result<SliceParts> {
        let mut words = vec![0u64; filter::words_for(batch.points.len())];
        for operation in &batch.points {
            filter::add(&mut words, hash_key(operation.key));
        }
        let stored = batch.points.iter();
        let stored = stored.map(|operation| (operation.tag, &*operation.payload));
        let summary = PagePointer {
            newest: batch.newest(),
            entries: batch.operations() as u64,
            off_tree_bytes: off_tree_bytes(stored),
            ..PagePointer::NOTHING
        };
        let page = slice::encode(batch, self.birth)?;
        let pointer = self.make(page, summary, 0, 0)?;
        Ok(SliceParts {
            pointer,
            first_child,
            last_child,
            flags: slice_flags(batch),
            filter: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        })
    }

    /// Writes a node, or as many nodes as it takes.
    pub(super) fn emit(&mut self, mut parts: NodeParts, level: u8) -> Result<Vec<Child>> {
        let children = parts.children.len();
        let children_max = self.pages.settings.children_max as usize;
        let bytes = parts.encoded_bytes();
        if children == 0 {
            return Ok(Vec::new());
        }
        let nodes = children
            .div_ceil(children_max)
            .max(bytes.div_ceil(INTERIOR_BYTES_MAX).min(children / 4));
        if nodes <= 1 {
            let low = std::mem::take(&mut parts.children[0].low);
            let hints = children + parts.runs.iter().map(|run| run.slices.len()).sum::<usize>();
            let page = parts.encode(level, self.birth)?;
            let pointer = self.make(page, parts.summary(), level, hints)?;
            return Ok(vec![Child { low, pointer }]);
        }
        // Slices belong to one node: all are written anew. Nodes are seldom split.
        let lows: Vec<Vec<u8>> = parts
            .children
            .iter()
            .map(|child| child.low.clone())
            .collect();
        let mut made = Vec::new();
        let mut start = 0;
        for node in 0..nodes {
            let end = children * (node + 1) / nodes;
            let end_key = lows.get(end).map(Vec::as_slice);
            let mut runs = Vec::new();
            for run in &parts.runs {
                let one = std::slice::from_ref(run);
                runs.extend(self.rewrite(one, &lows, end_key, start..end)?);
            }
            let part = NodeParts {
                children: parts.children[start..end].to_vec(),
                runs,
            };
            made.extend(self.emit(part, level)?);
            start = end;
        }
        for run in &parts.runs {
            run.slices
                .iter()
                .for_each(|slice| self.drop_page(&slice.pointer));
        }
        Ok(made)
    }
}

/// The lengths of the off-tree values among what is stored.
fn off_tree_bytes<'p>(stored: impl Iterator<Item = (Tag, &'p [u8])>) -> u64 {
    let mut bytes = 0u64;
    for (tag, payload) in stored {
        lose(tag, payload, &mut |payload| {
            let length = OffTree::from_payload(payload).map_or(0, |value| value.length);
            bytes = bytes.saturating_add(length);
        });
    }
    bytes
}

fn size_of(shared: usize) -> impl Fn(&Entry<'_>) -> usize {
    move |entry| entry.bytes() - shared.min(entry.key.len())
}

/// The entry at which half of some bytes are passed.
fn halfway(entries: &[Entry<'_>], start: usize, shared: usize, half: usize) -> usize {
    let mut bytes = 0;
    for (index, entry) in entries.iter().enumerate().skip(start) {
        bytes += size_of(shared)(entry);
        if bytes > half {
            return index;
        }
    }
    entries.len()
}

/// The place with the shortest separator among the last few before `index`: an eighth of the leaf
/// where leaves are to be even, a thirty-second where they are to be full.
fn nearby_cut(entries: &[Entry<'_>], start: usize, index: usize, full: bool) -> usize {
    let window = (index - start) / if full { 32 } else { 8 };
    (index - window..=index)
        .rev()
        .filter(|&cut| cut > start)
        .min_by_key(|&cut| separator(entries[cut - 1].key, entries[cut].key).len())
        .unwrap_or(index)
}

/// The shortest key above `left` and at or below `right`.
pub(crate) fn separator<'a>(left: &[u8], right: &'a [u8]) -> &'a [u8] {
    &right[..(common_prefix(left, right) + 1).min(right.len())]
}
