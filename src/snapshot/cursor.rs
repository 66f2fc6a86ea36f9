//! Cursors: keys in order, in either direction, over the tree and everything newer than it.
//!
//! A cursor stands on a leaf and on what is pending for that leaf: slices of journals on the way
//! down, root journals, the memory of a transaction. Where nothing is pending it walks the leaf's
//! slots; else it merges, lazily, one key a step. At the end of a leaf it goes down again, to the
//! neighbour. No I/O happens here: [`Stop::Need`] asks for a page, and the step is tried again.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use smallvec::SmallVec;

use super::get::{Lookup, ask_journal, fold_chains};
use super::version::{Layer, Version};
use crate::cache::{Handle, pin};
use crate::error::Result;
use crate::format::record::Tag;
use crate::format::{PagePointer, SequenceNumber};
use crate::tree::journal::{Journal, JournalPosition};
use crate::tree::merge::needs_below;
use crate::tree::page::Page;
use crate::tree::pages::Expect;
use crate::tree::reach::{Reach, Reached, Seek, reach};
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

enum From {
    Journal {
        journal: Arc<Journal>,
        bound: SequenceNumber,
        at: Option<JournalPosition>,
    },
    /// `at`: going forward, the next slot; going backward, the slots still before it.
    Slice {
        handle: Handle,
        at: usize,
    },
    Leaf {
        handle: Handle,
        at: usize,
    },
}

/// One of the sorted things that a cursor merges.
struct Source {
    from: From,
    /// The key that it has next, unless it ended.
    key: Vec<u8>,
    ended: bool,
    /// Pages: the tag and the place of the payload of the slot on which it stands.
    tag: Tag,
    payload: Range<usize>,
    /// The cursor is on its key.
    standing: bool,
}

struct Place {
    reach: Reach,
    /// Newest first; a leaf comes last.
    sources: SmallVec<[Source; 4]>,
    /// Range deletes may hide what older sources have.
    has_range_deletes: bool,
}

/// Where the value of the current entry is.
enum Held {
    Nothing,
    /// At a place in a leaf, which is the last source.
    Leaf(Range<usize>),
    /// In the cursor's buffer.
    Buffer,
}

/// Walks over the entries of a version.
pub(crate) struct Cursor {
    version: Arc<Version>,
    layers: SmallVec<[Layer; 3]>,
    direction: Direction,
    start: Start,
    place: Option<Place>,
    key: Vec<u8>,
    tag: Tag,
    held: Held,
    buffer: Vec<u8>,
    ended: bool,
}

impl Cursor {
    /// A cursor over a version under some layers, newest first.
    pub(crate) fn new(
        version: Arc<Version>,
        layers: SmallVec<[Layer; 3]>,
        direction: Direction,
        start: Start,
    ) -> Self {
        Self {
            version,
            layers,
            direction,
            start,
            place: None,
            key: Vec::new(),
            tag: Tag::Inline,
            held: Held::Nothing,
            buffer: Vec::new(),
            ended: false,
        }
    }

    /// The key of the entry on which the cursor stopped.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// What is stored for it.
    pub(crate) fn stored(&self) -> (Tag, &[u8]) {
        let payload = match (&self.held, &self.place) {
            (Held::Leaf(payload), Some(place)) => match place.sources.last() {
                Some(Source {
                    from: From::Leaf { handle, .. },
                    ..
                }) => &handle.bytes()[payload.clone()],
                _ => &[],
            },
            _ => &self.buffer,
        };
        (self.tag, payload)
    }

    /// Goes to the next entry.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<Stop> {
        if self.ended {
            return Ok(Stop::End);
        }
        loop {
            if self.place.is_none()
                && let Some((pointer, expect)) = self.enter()?
            {
                return Ok(Stop::Need(pointer, expect));
            }
            if self.advance()? {
                return Ok(Stop::Entry);
            }
            if !self.leave() {
                self.ended = true;
                return Ok(Stop::End);
            }
        }
    }

    /// Goes down to the leaf where the cursor is to begin, or go on.
    fn enter(&mut self) -> Result<Option<(PagePointer, Expect)>> {
        let guard = pin();
        let seek = match (self.direction, &self.start) {
            (Direction::Forward, Start::Outermost) => Seek::Of(&[]),
            (Direction::Backward, Start::Outermost) => Seek::Last,
            (_, Start::At(key)) | (Direction::Forward, Start::Past(key)) => Seek::Of(key),
            (Direction::Backward, Start::Past(key)) => Seek::Before(key),
        };
        let version = &self.version;
        let pages = version.pages();
        let reach = match reach(pages, &version.root, &version.root_hint, seek, &guard)? {
            Reached::At(reach) => reach,
            Reached::Need(pointer, expect) => return Ok(Some((pointer, expect))),
        };
        let mut has_range_deletes = false;
        let mut sources: SmallVec<[From; 4]> = SmallVec::new();
        for (journal, bound) in self
            .layers
            .iter()
            .filter(|(journal, _)| !journal.is_empty())
        {
            has_range_deletes |= journal.has_range_deletes();
            let from = From::Journal {
                journal: Arc::clone(journal),
                bound: *bound,
                at: None,
            };
            sources.push(from);
        }
        for handle in &reach.slices {
            has_range_deletes |= Slice::new(handle.bytes()).has_range_deletes();
            sources.push(From::Slice {
                handle: handle.clone(),
                at: 0,
            });
        }
        if let Some(handle) = &reach.leaf {
            sources.push(From::Leaf {
                handle: handle.clone(),
                at: 0,
            });
        }
        let mut sources: SmallVec<[Source; 4]> = sources
            .into_iter()
            .map(|from| Source {
                from,
                key: Vec::new(),
                ended: false,
                tag: Tag::Inline,
                payload: 0..0,
                standing: false,
            })
            .collect();
        for source in &mut sources {
            source.seek(self.direction, &self.start);
            source.load(self.direction, &reach);
        }
        let mut place = Place {
            reach,
            sources,
            has_range_deletes,
        };
        place.forget_ended();
        self.place = Some(place);
        Ok(None)
    }

    /// Goes to where the neighbouring leaf begins; says whether there can be one.
    fn leave(&mut self) -> bool {
        self.held = Held::Nothing;
        let Some(place) = self.place.take() else {
            return false;
        };
        match self.direction {
            Direction::Forward => {
                let Some(end) = place.reach.end else {
                    return false;
                };
                self.start = Start::At(end);
            }
            Direction::Backward => {
                if place.reach.low.is_empty() {
                    return false;
                }
                self.start = Start::Past(place.reach.low);
            }
        }
        true
    }

    /// Goes to the next entry of the leaf and what is pending for it; says whether there is one.
    #[inline]
    fn advance(&mut self) -> Result<bool> {
        let Some(place) = &mut self.place else {
            return Ok(false);
        };
        if let [
            only @ Source {
                from: From::Leaf { .. },
                ..
            },
        ] = &mut place.sources[..]
        {
            let taken = only.take_slot(self.direction, &mut self.key);
            return Ok(match taken {
                Some((tag, payload)) => {
                    self.tag = tag;
                    self.held = Held::Leaf(payload);
                    true
                }
                None => false,
            });
        }
        self.advance_merging()
    }

    fn advance_merging(&mut self) -> Result<bool> {
        let Some(place) = &mut self.place else {
            return Ok(false);
        };
        let direction = self.direction;
        loop {
            let Some((next, alone)) = place.next(direction) else {
                return Ok(false);
            };
            if alone && !place.has_range_deletes {
                // Most entries of a leaf have nothing pending.
                let source = &mut place.sources[next];
                if let Some((tag, payload)) = source.take_slot(direction, &mut self.key) {
                    self.tag = tag;
                    self.held = Held::Leaf(payload);
                    return Ok(true);
                }
            }
            self.key.clear();
            self.key.extend_from_slice(&place.sources[next].key);
            for source in &mut place.sources {
                source.standing = !source.ended && source.key == self.key;
            }
            let found = place.resolve(&self.version, &self.key, &mut self.buffer);
            let mut any_ended = false;
            for source in place.sources.iter_mut().filter(|source| source.standing) {
                source.advance(direction, &place.reach);
                any_ended |= source.ended;
            }
            if any_ended {
                place.forget_ended();
            }
            if let Some((tag, held)) = found {
                self.tag = tag;
                self.held = held;
                return Ok(true);
            }
        }
    }
}

impl Place {
    /// Sources that ended say nothing any more, unless they hide keys of others. The leaf stays:
    /// the current entry may be in it.
    fn forget_ended(&mut self) {
        if !self.has_range_deletes {
            self.sources
                .retain(|source| !source.ended || matches!(source.from, From::Leaf { .. }));
        }
    }

    /// The source with the next key, and whether it is the only one that has it.
    fn next(&self, direction: Direction) -> Option<(usize, bool)> {
        let mut next: Option<(usize, &[u8], bool)> = None;
        for (index, source) in self.sources.iter().enumerate() {
            if source.ended {
                continue;
            }
            let ordering = next.map_or(Ordering::Less, |(_, key, _)| match direction {
                Direction::Forward => source.key.as_slice().cmp(key),
                Direction::Backward => key.cmp(&source.key),
            });
            match (ordering, &mut next) {
                (Ordering::Less, _) => next = Some((index, &source.key, true)),
                (Ordering::Equal, Some((.., alone))) => *alone = false,
                _ => {}
            }
        }
        next.map(|(index, _, alone)| (index, alone))
    }

    /// What all sources together have for a key. A value that is not in a leaf goes into `buffer`.
    fn resolve(&self, version: &Version, key: &[u8], buffer: &mut Vec<u8>) -> Option<(Tag, Held)> {
        let mut chains = Chains::new();
        let mut stored: Option<(Tag, &[u8])> = None;
        let mut in_leaf = None;
        for source in &self.sources {
            let has_key = source.standing;
            match &source.from {
                From::Journal { journal, bound, .. } => {
                    if !has_key && !journal.has_range_deletes() {
                        continue;
                    }
                    if let Some(found) = ask_journal(journal, *bound, key, &mut chains) {
                        stored = found;
                        break;
                    }
                }
                From::Slice { handle, .. } => {
                    let slice = Slice::new(handle.bytes());
                    if has_key {
                        let payload = &handle.bytes()[source.payload.clone()];
                        match source.tag {
                            Tag::Delete => break,
                            Tag::Merge if needs_below(payload) => chains.push(payload.to_vec()),
                            tag => {
                                stored = Some((tag, payload));
                                break;
                            }
                        }
                    }
                    if self.has_range_deletes && slice.covers(key) {
                        break;
                    }
                }
                From::Leaf { handle, .. } => {
                    if has_key {
                        stored = Some((source.tag, &handle.bytes()[source.payload.clone()]));
                        in_leaf = Some(source.payload.clone());
                    }
                }
            }
        }
        if let (Some(payload), Some((tag, _)), true) = (in_leaf, stored, chains.is_empty()) {
            return Some((tag, Held::Leaf(payload)));
        }
        match fold_chains(version.pages(), key, stored, &chains) {
            Lookup::Stored(tag, payload) => {
                buffer.clear();
                buffer.extend_from_slice(payload);
                Some((tag, Held::Buffer))
            }
            Lookup::Folded(tag, payload) => {
                *buffer = payload;
                Some((tag, Held::Buffer))
            }
            Lookup::Absent | Lookup::Need(..) => None,
        }
    }
}

impl Source {
    /// Goes to where a cursor begins.
    fn seek(&mut self, direction: Direction, start: &Start) {
        match &mut self.from {
            From::Journal { journal, at, .. } => {
                *at = match (direction, start) {
                    (Direction::Forward, Start::Outermost) => journal.first(),
                    (Direction::Forward, Start::At(key)) => journal.seek_at_or_after(key),
                    (Direction::Forward, Start::Past(key)) => journal.seek_after(key),
                    (Direction::Backward, Start::Outermost) => journal.last(),
                    (Direction::Backward, Start::At(key)) => journal.seek_at_or_before(key),
                    (Direction::Backward, Start::Past(key)) => journal.seek_before(key),
                };
            }
            From::Slice { handle, at } | From::Leaf { handle, at } => {
                let page = Page::new(handle.bytes());
                *at = match (direction, start) {
                    (Direction::Forward, Start::Outermost) => 0,
                    (Direction::Backward, Start::Outermost) => page.slots(),
                    (Direction::Forward, Start::At(key)) => page.at_or_after(key),
                    (Direction::Forward, Start::Past(key)) => page.after(key),
                    (Direction::Backward, Start::At(key)) => page.after(key),
                    (Direction::Backward, Start::Past(key)) => page.at_or_after(key),
                };
            }
        }
    }

    /// Makes the next key known; beyond the leaf's bounds the source has ended.
    fn load(&mut self, direction: Direction, reach: &Reach) {
        match &mut self.from {
            From::Journal { journal, at, .. } => match at {
                Some(position) => {
                    self.key.clear();
                    self.key.extend_from_slice(journal.entry(*position).key);
                }
                None => self.ended = true,
            },
            From::Slice { handle, at } | From::Leaf { handle, at } => {
                let page = Page::new(handle.bytes());
                if direction == Direction::Backward {
                    // From here on `at` is the slot itself.
                    match at.checked_sub(1) {
                        Some(slot) => *at = slot,
                        None => self.ended = true,
                    }
                }
                if *at >= page.slots() {
                    self.ended = true;
                }
                if !self.ended {
                    (self.tag, self.payload) = page.read_into(*at, &mut self.key);
                }
            }
        }
        let outside = match direction {
            Direction::Forward => reach.end.as_ref().is_some_and(|end| self.key >= *end),
            Direction::Backward => self.key < reach.low,
        };
        self.ended |= outside;
    }

    /// Goes past the key on which the source stands.
    fn advance(&mut self, direction: Direction, reach: &Reach) {
        match (&mut self.from, direction) {
            (From::Journal { journal, at, .. }, Direction::Forward) => {
                *at = at.and_then(|position| journal.next_key(position));
            }
            (From::Journal { journal, at, .. }, Direction::Backward) => {
                *at = at.and_then(|position| journal.previous_key(position));
            }
            (From::Slice { at, .. } | From::Leaf { at, .. }, Direction::Forward) => *at += 1,
            (From::Slice { .. } | From::Leaf { .. }, Direction::Backward) => {}
        }
        self.load(direction, reach);
    }

    /// Takes the slot of a leaf for which nothing is pending: its key is put into `key`. `None`: it
    /// ended, or is no leaf.
    #[inline]
    fn take_slot(
        &mut self,
        direction: Direction,
        key: &mut Vec<u8>,
    ) -> Option<(Tag, Range<usize>)> {
        if self.ended {
            return None;
        }
        let From::Leaf { handle, at } = &mut self.from else {
            return None;
        };
        let page = Page::new(handle.bytes());
        std::mem::swap(key, &mut self.key);
        let taken = (self.tag, self.payload.clone());
        match direction {
            Direction::Forward => *at += 1,
            Direction::Backward if *at == 0 => self.ended = true,
            Direction::Backward => *at -= 1,
        }
        // All keys of a leaf lie within its bounds.
        self.ended |= *at >= page.slots();
        if !self.ended {
            (self.tag, self.payload) = page.read_into(*at, &mut self.key);
        }
        Some(taken)
    }
}
