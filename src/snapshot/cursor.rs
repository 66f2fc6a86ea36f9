//! Cursors: keys in order, in either direction, over the tree and everything newer than it.
//!
//! A cursor stands on a leaf and on what is pending for that leaf: slices of journals on the way
//! down, root journals, the memory of a transaction. Each of these *sources* knows between which
//! slots of the leaf, or on which, its next key stands: its *rank*. So where nothing is pending next,
//! a step compares two numbers and reads a slot; keys are compared only where two sources stand
//! between the same slots. At the end of a leaf the cursor goes down again, to the neighbour. No I/O
//! happens here: [`Stop::Need`] asks for a page, and the step is tried again.

use std::cmp::Ordering;
use std::ops::{Bound, Range};

use smallvec::SmallVec;

use super::get::{Lookup, ask_journal, fold_chains};
use super::version::Layered;
use crate::cache::{Handle, pin, prefetch_bytes};
use crate::error::Result;
use crate::format::PagePointer;
use crate::format::record::Tag;
use crate::tree::ahead::Upcoming;
use crate::tree::journal::{Journal, JournalPosition};
use crate::tree::key_buffer::KeyBuffer;
use crate::tree::merge::needs_below;
use crate::tree::page::Page;
use crate::tree::pages::Expect;
use crate::tree::reach::{Reached, Seek, reach};
use crate::tree::search::Chains;
use crate::tree::slice::Slice;

/// Which way a cursor goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// Where a cursor begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Start {
    /// At the first key in its direction.
    Outermost,
    /// At a key, or the next one in its direction.
    At(Vec<u8>),
    /// At the next key in its direction that is not this one.
    Past(Vec<u8>),
}

/// Why a cursor stopped.
pub(crate) enum Stop {
    /// On an entry.
    Entry,
    /// There are no more.
    End,
    /// A page has to be loaded first.
    Need(PagePointer, Expect),
}

/// How much of a leaf's records is fetched into the processor's cache at once where a cursor begins:
/// a short range waits once, while the sources are looked at, and not for one record after another.
const AHEAD_BYTES: usize = 1 << 10;

/// Where a key stands among the slots of a leaf, so that nearer keys have smaller ranks: odd on a
/// slot, even between two.
type Rank = i32;

/// The rank of what has no further key within the bounds of the leaf.
const ENDED: Rank = Rank::MAX;

enum From {
    /// One of the journals of what the cursor goes over.
    Journal {
        index: usize,
        at: Option<JournalPosition>,
    },
    /// `at`: going forward, the next slot; going backward, the slots still before it.
    Slice { handle: Handle, at: usize },
}

/// One of the sorted things that a cursor merges with a leaf.
struct Source {
    from: From,
    rank: Rank,
    /// The cursor is on its key.
    standing: bool,
}

/// Where the value of the current entry is.
enum Held {
    Nothing,
    Leaf(Range<usize>),
    /// In the slice of a source.
    Slice(usize, Range<usize>),
    /// In a journal.
    Journal(usize, JournalPosition),
    /// In the cursor's buffer.
    Buffer,
}

/// A leaf and how far a cursor is in it.
struct Place {
    direction: Direction,
    /// `None` before the first leaf, and in an empty tree.
    leaf: Option<Handle>,
    slots: usize,
    /// Going forward, the next slot; going backward, the slots still before it.
    at: usize,
    /// Where the leaf ends in the direction of the cursor, unless it is the outermost one: going
    /// forward, the first key past it; going backward, its first.
    bound: KeyBuffer,
    bounded: bool,
}

/// Walks over the entries of a version. It keeps its place only; what it goes over is told to it at
/// every step, and is the same each time.
pub(crate) struct Cursor {
    start: Start,
    /// The memory of a key for `start`, when that has none.
    spare: Vec<u8>,
    place: Place,
    /// The place is to be found, from `start` on.
    leaving: bool,
    /// Newest first: journals, for the life of the cursor, then the slices for the leaf.
    sources: SmallVec<[Source; 6]>,
    /// How many of them are journals, once these were found.
    journals: Option<usize>,
    /// The smallest rank of a source.
    nearest: Rank,
    /// Range deletes may hide what older sources have.
    has_range_deletes: bool,
    key: KeyBuffer,
    has_key: bool,
    /// For keys that are compared with `key`, or looked for in the leaf.
    other: KeyBuffer,
    tag: Tag,
    held: Held,
    buffer: Vec<u8>,
    ended: bool,
    /// How many keys without entries it has passed.
    #[cfg(test)]
    passed: u32,
}

impl Cursor {
    /// A cursor that begins somewhere.
    pub(crate) fn new(direction: Direction, start: Start) -> Self {
        Self {
            start,
            spare: Vec::new(),
            place: Place {
                direction,
                leaf: None,
                slots: 0,
                at: 0,
                bound: KeyBuffer::new(),
                bounded: false,
            },
            leaving: true,
            sources: SmallVec::new(),
            journals: None,
            nearest: ENDED,
            has_range_deletes: false,
            key: KeyBuffer::new(),
            has_key: false,
            other: KeyBuffer::new(),
            tag: Tag::Inline,
            held: Held::Nothing,
            buffer: Vec::new(),
            ended: false,
            #[cfg(test)]
            passed: 0,
        }
    }

    #[cfg(test)]
    /// How many keys without entries it has passed.
    pub(crate) fn passed(&self) -> u32 {
        self.passed
    }

    /// The key of the entry on which the cursor stopped.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.key.as_slice()
    }

    /// What is stored for it.
    #[inline]
    pub(crate) fn stored<'s>(&'s self, over: &'s Layered) -> (Tag, &'s [u8]) {
        let payload = match &self.held {
            Held::Leaf(payload) => self
                .place
                .leaf
                .as_ref()
                .map_or(&[][..], |leaf| &leaf.bytes()[payload.clone()]),
            Held::Slice(index, payload) => match &self.sources[*index].from {
                From::Slice { handle, .. } => &handle.bytes()[payload.clone()],
                From::Journal { .. } => &[],
            },
            Held::Journal(index, position) => over.journal(*index).0.entry(*position).payload,
            Held::Buffer => &self.buffer,
            Held::Nothing => &[],
        };
        (self.tag, payload)
    }

    /// From where on the cursor has still to go. `given`: not at the key itself. Between the last
    /// entry and the end of a step that did not come to one, this may be a key without an entry.
    #[inline]
    pub(crate) fn frontier(&self, given: bool) -> Bound<&[u8]> {
        match (self.has_key, given, &self.start) {
            (true, true, _) => Bound::Excluded(self.key()),
            (true, false, _) => Bound::Included(self.key()),
            (false, _, Start::Outermost) => Bound::Unbounded,
            (false, _, Start::At(key)) => Bound::Included(key),
            (false, _, Start::Past(key)) => Bound::Excluded(key),
        }
    }

    /// Which way it goes.
    #[inline]
    pub(crate) fn direction(&self) -> Direction {
        self.place.direction
    }

    /// Has it begin anew somewhere else, and gives up the pages that it holds. The key on which it
    /// stood can be asked for until the next step.
    pub(crate) fn restart(&mut self, direction: Direction, start: Start) {
        let place = &mut self.place;
        place.direction = direction;
        place.leaf = None;
        (place.slots, place.at) = (0, 0);
        place.bounded = false;
        if let Start::At(key) | Start::Past(key) = std::mem::replace(&mut self.start, start) {
            self.spare = key;
        }
        self.leaving = true;
        self.sources.clear();
        self.journals = None;
        self.nearest = ENDED;
        self.has_range_deletes = false;
        self.has_key = false;
        self.held = Held::Nothing;
        self.ended = false;
    }

    /// The memory of the key at which it began, for another one.
    pub(crate) fn take_start(&mut self) -> Vec<u8> {
        let mut key = match std::mem::replace(&mut self.start, Start::Outermost) {
            Start::At(key) | Start::Past(key) => key,
            Start::Outermost => std::mem::take(&mut self.spare),
        };
        key.clear();
        key
    }

    /// After a step that needs a page: finds what the next ones will need, as far as a bound.
    pub(crate) fn find_upcoming(&self, over: &Layered, far: Bound<&[u8]>, upcoming: &mut Upcoming) {
        let version = over.version();
        let root = (&version.root, &version.root_hint);
        let direction = self.place.direction;
        let seek = leaf_of(direction, &self.start);
        let forward = direction == Direction::Forward;
        upcoming.find(version.pages(), root, seek, forward, far, &pin());
    }

    /// Goes to the next entry.
    #[inline]
    pub(crate) fn step(&mut self, over: &Layered) -> Result<Stop> {
        self.step_within(over, Bound::Unbounded)
    }

    /// The same, but does not go far beyond where entries are wanted: neither on to leaves that have
    /// none of them, nor over keys without entries. `End` where it would; an entry that it comes to before
    /// is given whether it is wanted or not.
    #[inline]
    pub(crate) fn step_within(&mut self, over: &Layered, far: Bound<&[u8]>) -> Result<Stop> {
        loop {
            // Most entries of a leaf have nothing pending.
            let rank = self.place.rank();
            if rank < self.nearest && !self.has_range_deletes {
                self.take_slot();
                return Ok(Stop::Entry);
            }
            if self.nearest != ENDED || rank != ENDED {
                if self.merge(over, rank) {
                    return Ok(Stop::Entry);
                }
                #[cfg(test)]
                {
                    self.passed += 1;
                }
                if self.place.direction.is_beyond(self.key(), far) {
                    self.ended = true;
                    return Ok(Stop::End);
                }
                continue;
            }
            if self.ended || self.place.ends_by(far) || !self.leave() {
                self.ended = true;
                return Ok(Stop::End);
            }
            if let Some((pointer, expect)) = self.enter(over)? {
                return Ok(Stop::Need(pointer, expect));
            }
        }
    }

    /// Takes the leaf's next slot.
    #[inline]
    fn take_slot(&mut self) {
        let Some(leaf) = &self.place.leaf else { return };
        let page = Page::new(leaf.bytes());
        let (tag, payload) = page.read_into(self.place.slot(), &mut self.key);
        self.place.advance();
        self.has_key = true;
        self.tag = tag;
        self.held = Held::Leaf(payload);
    }

    /// Goes to where the neighbouring leaf begins; says whether there can be one.
    fn leave(&mut self) -> bool {
        if self.leaving {
            return true;
        }
        if !self.place.bounded {
            return false;
        }
        let mut key = self.take_start();
        key.extend_from_slice(self.place.bound.as_slice());
        self.start = match self.place.direction {
            Direction::Forward => Start::At(key),
            Direction::Backward => Start::Past(key),
        };
        self.held = Held::Nothing;
        self.leaving = true;
        true
    }

    /// Goes down to the leaf where the cursor is to begin, or go on.
    fn enter(&mut self, over: &Layered) -> Result<Option<(PagePointer, Expect)>> {
        let guard = pin();
        let direction = self.place.direction;
        let seek = leaf_of(direction, &self.start);
        let version = over.version();
        let pages = version.pages();
        let reach = match reach(pages, &version.root, &version.root_hint, seek, &guard)? {
            Reached::At(reach) => reach,
            Reached::Need(pointer, expect) => return Ok(Some((pointer, expect))),
        };
        pages.frames.count_hit();
        let place = &mut self.place;
        place.bounded = match direction {
            Direction::Forward => reach.read_end(&mut place.bound),
            Direction::Backward => reach.read_low(&mut place.bound),
        };
        (place.slots, place.at) = reach.leaf.map_or((0, 0), |leaf| {
            let page = Page::new(leaf.bytes());
            let at = seek_in(&page, direction, &self.start);
            let backward = direction == Direction::Backward;
            prefetch_bytes(page.records_beside(at, AHEAD_BYTES, backward));
            (page.slots(), at)
        });
        place.leaf = reach.leaf.map(|leaf| leaf.handle(&guard));
        let journals = match self.journals {
            Some(journals) => journals,
            None => self.find_journals(over),
        };
        self.sources.truncate(journals);
        self.has_range_deletes = false;
        for source in &mut self.sources {
            source.load(over, &self.place, &mut self.other);
            self.has_range_deletes |= match source.from {
                From::Journal { index, .. } => over.journal(index).0.has_range_deletes(),
                From::Slice { .. } => false,
            };
        }
        for frame in &reach.slices {
            let slice = Slice::new(frame.bytes());
            let at = seek_in(&slice.page, direction, &self.start);
            let rank = self.place.rank_in_slice(&slice.page, at, &mut self.other);
            // Short ranges need few of the slices: no count is taken of the others.
            if rank != ENDED || slice.has_range_deletes() {
                self.has_range_deletes |= slice.has_range_deletes();
                self.sources.push(Source {
                    from: From::Slice {
                        handle: frame.handle(&guard),
                        at,
                    },
                    rank,
                    standing: false,
                });
            }
        }
        self.find_nearest();
        self.leaving = false;
        Ok(None)
    }

    /// Finds where the journals are to begin. They go on from there at every leaf: what is appended
    /// meanwhile is not visible.
    fn find_journals(&mut self, over: &Layered) -> usize {
        for index in 0..over.journals() {
            let (journal, _) = over.journal(index);
            if journal.is_empty() {
                continue;
            }
            let at = seek_in_journal(journal, self.place.direction, &self.start);
            self.sources.push(Source {
                from: From::Journal { index, at },
                rank: ENDED,
                standing: false,
            });
        }
        self.journals = Some(self.sources.len());
        self.sources.len()
    }

    fn find_nearest(&mut self) {
        let ranks = self.sources.iter().map(|source| source.rank);
        self.nearest = ranks.min().unwrap_or(ENDED);
    }

    /// Goes past the next key of all sources and the leaf, whose rank is given; says whether there
    /// is an entry for it.
    fn merge(&mut self, over: &Layered, leaf_rank: Rank) -> bool {
        let in_leaf = leaf_rank <= self.nearest;
        if leaf_rank < self.nearest {
            let Some(leaf) = &self.place.leaf else {
                return false;
            };
            Page::new(leaf.bytes()).read_key(self.place.slot(), &mut self.key);
            for source in &mut self.sources {
                source.standing = false;
            }
        } else {
            self.choose(over);
        }
        self.has_key = true;
        let found = self.resolve(over, in_leaf);
        if in_leaf {
            self.place.advance();
        }
        for source in &mut self.sources {
            if source.standing {
                source.advance(over, &self.place, &mut self.other);
            }
        }
        self.find_nearest();
        match found {
            Some((tag, held)) => {
                self.tag = tag;
                self.held = held;
                true
            }
            None => false,
        }
    }

    /// Makes the next key of the sources the current one, and has those stand that have it.
    fn choose(&mut self, over: &Layered) {
        let direction = self.place.direction;
        // On a slot they all have the key of the slot.
        let alike = self.nearest & 1 == 1;
        let mut first = true;
        for index in 0..self.sources.len() {
            let source = &mut self.sources[index];
            source.standing = source.rank == self.nearest;
            if !source.standing {
                continue;
            }
            if first {
                first = false;
                source.read_key(over, direction, &mut self.key);
            } else if !alike {
                source.read_key(over, direction, &mut self.other);
                let ordering = self.other.as_slice().cmp(self.key.as_slice());
                let ordering = match direction {
                    Direction::Forward => ordering,
                    Direction::Backward => ordering.reverse(),
                };
                source.standing = ordering != Ordering::Greater;
                if ordering == Ordering::Less {
                    std::mem::swap(&mut self.key, &mut self.other);
                    for source in &mut self.sources[..index] {
                        source.standing = false;
                    }
                }
            }
        }
    }

    /// What the sources that stand and, if it has the key, the leaf have together for the current
    /// key.
    fn resolve(&mut self, over: &Layered, in_leaf: bool) -> Option<(Tag, Held)> {
        let key = self.key.as_slice();
        let mut chains = Chains::new();
        // What the search ended with, and where that is if it can be lent from there.
        let mut stored: Option<(Tag, &[u8], Held)> = None;
        let mut ends = false;
        for (number, source) in self.sources.iter().enumerate() {
            match &source.from {
                From::Journal { index, at } => {
                    let (journal, bound) = over.journal(*index);
                    if journal.has_range_deletes() {
                        if let Some(found) = ask_journal(journal, bound, key, &mut chains) {
                            stored = found.map(|(tag, payload)| (tag, payload, Held::Nothing));
                            ends = true;
                        }
                    } else if source.standing
                        && let Some(position) = at.and_then(|at| journal.visible(at, bound))
                    {
                        let entry = journal.entry(position);
                        match entry.tag {
                            Tag::Delete => ends = true,
                            Tag::Merge => {
                                if let Some(found) = ask_journal(journal, bound, key, &mut chains) {
                                    stored =
                                        found.map(|(tag, payload)| (tag, payload, Held::Nothing));
                                    ends = true;
                                }
                            }
                            tag => {
                                let held = Held::Journal(*index, position);
                                stored = Some((tag, entry.payload, held));
                                ends = true;
                            }
                        }
                    }
                }
                From::Slice { handle, at } => {
                    let slice = Slice::new(handle.bytes());
                    if source.standing {
                        let slot = self.place.direction.slot(*at);
                        let (tag, place) = slice.page.stored(slot);
                        let payload = &handle.bytes()[place.clone()];
                        match tag {
                            Tag::Delete => ends = true,
                            Tag::Merge if needs_below(payload) => chains.push(payload.to_vec()),
                            tag => {
                                stored = Some((tag, payload, Held::Slice(number, place)));
                                ends = true;
                            }
                        }
                    }
                    ends |= self.has_range_deletes && slice.covers(key);
                }
            }
            if ends {
                break;
            }
        }
        if !ends
            && in_leaf
            && let Some(leaf) = &self.place.leaf
        {
            let (tag, place) = Page::new(leaf.bytes()).stored(self.place.slot());
            stored = Some((tag, &leaf.bytes()[place.clone()], Held::Leaf(place)));
        }
        let stored = match stored {
            Some((tag, _, held)) if chains.is_empty() && !matches!(held, Held::Nothing) => {
                return Some((tag, held));
            }
            stored => stored.map(|(tag, payload, _)| (tag, payload)),
        };
        match fold_chains(over.version().pages(), key, stored, &chains) {
            Lookup::Stored(tag, payload) => {
                self.buffer.clear();
                self.buffer.extend_from_slice(payload);
                Some((tag, Held::Buffer))
            }
            Lookup::Folded(tag, payload) => {
                self.buffer = payload;
                Some((tag, Held::Buffer))
            }
            Lookup::Absent | Lookup::Need(..) => None,
        }
    }
}

impl Direction {
    /// Whether a key comes after a bound.
    #[inline]
    fn is_beyond(self, key: &[u8], far: Bound<&[u8]>) -> bool {
        match (self, far) {
            (_, Bound::Unbounded) => false,
            (Self::Forward, Bound::Included(far)) => key > far,
            (Self::Forward, Bound::Excluded(far)) => key >= far,
            (Self::Backward, Bound::Included(far)) => key < far,
            (Self::Backward, Bound::Excluded(far)) => key <= far,
        }
    }

    /// The slot that comes next where `at` is kept as in [`Place`].
    #[inline]
    fn slot(self, at: usize) -> usize {
        match self {
            Self::Forward => at,
            Self::Backward => at - 1,
        }
    }
}

/// The leaf where a cursor is to begin.
fn leaf_of(direction: Direction, start: &Start) -> Seek<'_> {
    match (direction, start) {
        (Direction::Forward, Start::Outermost) => Seek::Of(&[]),
        (Direction::Backward, Start::Outermost) => Seek::Last,
        (_, Start::At(key)) | (Direction::Forward, Start::Past(key)) => Seek::Of(key),
        (Direction::Backward, Start::Past(key)) => Seek::Before(key),
    }
}

/// Where a journal is to be entered.
fn seek_in_journal(
    journal: &Journal,
    direction: Direction,
    start: &Start,
) -> Option<JournalPosition> {
    match (direction, start) {
        (Direction::Forward, Start::Outermost) => journal.first(),
        (Direction::Forward, Start::At(key)) => journal.seek_at_or_after(key),
        (Direction::Forward, Start::Past(key)) => journal.seek_after(key),
        (Direction::Backward, Start::Outermost) => journal.last(),
        (Direction::Backward, Start::At(key)) => journal.seek_at_or_before(key),
        (Direction::Backward, Start::Past(key)) => journal.seek_before(key),
    }
}

/// Where a page is to be entered, kept as in [`Place`].
fn seek_in(page: &Page<'_>, direction: Direction, start: &Start) -> usize {
    match (direction, start) {
        (Direction::Forward, Start::Outermost) => 0,
        (Direction::Backward, Start::Outermost) => page.slots(),
        (Direction::Forward, Start::At(key)) => page.at_or_after(key),
        (Direction::Forward, Start::Past(key)) => page.after(key),
        (Direction::Backward, Start::At(key)) => page.after(key),
        (Direction::Backward, Start::Past(key)) => page.at_or_after(key),
    }
}

impl Place {
    /// The rank of the leaf's own next key.
    #[inline]
    fn rank(&self) -> Rank {
        match self.direction {
            Direction::Forward if self.at < self.slots => 2 * self.at as Rank + 1,
            Direction::Backward if self.at > 0 => 1 - 2 * self.at as Rank,
            _ => ENDED,
        }
    }

    #[inline]
    fn slot(&self) -> usize {
        self.direction.slot(self.at)
    }

    #[inline]
    fn advance(&mut self) {
        match self.direction {
            Direction::Forward => self.at += 1,
            Direction::Backward => self.at -= 1,
        }
    }

    /// The rank of a key at or after where the cursor is.
    fn rank_of(&self, key: &[u8]) -> Rank {
        let leaf = self.leaf.as_ref().map(|leaf| Page::new(leaf.bytes()));
        match leaf.map_or(Err(0), |page| page.search(key)) {
            Ok(slot) => self.toward(2 * slot as Rank + 1),
            Err(slot) if self.is_outermost(slot) && self.bounded && self.is_past(key) => ENDED,
            Err(slot) => self.toward(2 * slot as Rank),
        }
    }

    /// The rank of a key of which some beginning is known, if that is enough.
    fn rank_of_beginning(&self, beginning: &[u8]) -> Option<Rank> {
        let leaf = self.leaf.as_ref().map(|leaf| Page::new(leaf.bytes()))?;
        let slot = leaf.search(beginning).err()?;
        if slot < self.slots && leaf.may_begin_with(slot, beginning) {
            return None;
        }
        if self.is_outermost(slot) && self.bounded {
            if self.bound.as_slice().starts_with(beginning) {
                return None;
            }
            if self.is_past(beginning) {
                return Some(ENDED);
            }
        }
        Some(self.toward(2 * slot as Rank))
    }

    #[inline]
    fn toward(&self, rank: Rank) -> Rank {
        match self.direction {
            Direction::Forward => rank,
            Direction::Backward => -rank,
        }
    }

    /// Whether what stands before a slot and after the one before may be beyond the leaf's bound.
    #[inline]
    fn is_outermost(&self, slot: usize) -> bool {
        match self.direction {
            Direction::Forward => slot == self.slots,
            Direction::Backward => slot == 0,
        }
    }

    /// Whether all that is beyond the leaf is beyond a bound, too.
    fn ends_by(&self, far: Bound<&[u8]>) -> bool {
        let bound = self.bound.as_slice();
        self.bounded
            && match (self.direction, far) {
                (_, Bound::Unbounded) => false,
                // The bound is past the leaf.
                (Direction::Forward, far) => self.direction.is_beyond(bound, far),
                // The bound is the first of the leaf.
                (Direction::Backward, Bound::Included(far) | Bound::Excluded(far)) => bound <= far,
            }
    }

    #[inline]
    fn is_past(&self, key: &[u8]) -> bool {
        match self.direction {
            Direction::Forward => key >= self.bound.as_slice(),
            Direction::Backward => key < self.bound.as_slice(),
        }
    }

    /// The rank of the next key of a slice. The records of keys whose turn may never come are left
    /// alone where the table tells enough: each would be waited for.
    fn rank_in_slice(&self, page: &Page<'_>, at: usize, buffer: &mut KeyBuffer) -> Rank {
        let ended = match self.direction {
            Direction::Forward => at >= page.slots(),
            Direction::Backward => at == 0,
        };
        if ended {
            return ENDED;
        }
        let slot = self.direction.slot(at);
        if page.read_beginning(slot, buffer)
            && let Some(rank) = self.rank_of_beginning(buffer.as_slice())
        {
            return rank;
        }
        page.read_key(slot, buffer);
        self.rank_of(buffer.as_slice())
    }
}

impl Source {
    /// Finds the rank of its next key.
    fn load(&mut self, over: &Layered, place: &Place, buffer: &mut KeyBuffer) {
        self.rank = match &self.from {
            From::Journal { index, at } => at.map_or(ENDED, |at| {
                over.journal(*index).0.read_key(at, buffer);
                place.rank_of(buffer.as_slice())
            }),
            From::Slice { handle, at } => {
                place.rank_in_slice(&Page::new(handle.bytes()), *at, buffer)
            }
        };
    }

    /// Puts its next key into a buffer.
    fn read_key(&self, over: &Layered, direction: Direction, into: &mut KeyBuffer) {
        match &self.from {
            From::Journal { index, at } => {
                if let Some(at) = at {
                    over.journal(*index).0.read_key(*at, into);
                }
            }
            From::Slice { handle, at } => {
                Page::new(handle.bytes()).read_key(direction.slot(*at), into);
            }
        }
    }

    /// Goes past the key on which the source stands.
    fn advance(&mut self, over: &Layered, place: &Place, buffer: &mut KeyBuffer) {
        match (&mut self.from, place.direction) {
            (From::Journal { index, at }, Direction::Forward) => {
                let (journal, _) = over.journal(*index);
                *at = at.and_then(|position| journal.next_key(position));
            }
            (From::Journal { index, at }, Direction::Backward) => {
                let (journal, _) = over.journal(*index);
                *at = at.and_then(|position| journal.previous_key(position));
            }
            (From::Slice { at, .. }, Direction::Forward) => *at += 1,
            (From::Slice { at, .. }, Direction::Backward) => *at -= 1,
        }
        self.load(over, place, buffer);
    }
}
