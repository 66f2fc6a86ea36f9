//! [`Diff`]: the keys that differ between two versions, in order, from either end.
//!
//! Each end goes over the regions that the trees and journals of both sides name, nearest first, and
//! compares what there is, old and new. Does no I/O: what is not in memory is asked for, and the step
//! is tried again.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Bound;

use super::super::cursor::{self, Cursor, Direction, Start};
use super::super::get::{Lookup, lookup_below};
use super::super::reference::target_of;
use super::super::value::stored_length;
use super::super::version::{Layered, View};
use super::recent::{Recent, recent_deletes};
use super::region::{Region, Window};
use super::tree::{TreeWalk, Walked};
use crate::cache::pin;
use crate::error::Result;
use crate::format::record::Tag;
use crate::format::{PagePointer, SequenceNumber};
use crate::tree::pages::Expect;
use crate::tree::search::Chains;
use crate::value::OffTree;

/// What is stored for a key.
pub(crate) type Stored = (Tag, Vec<u8>);

/// A key, and what is stored for it on the old and the new side.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: Vec<u8>,
    pub(crate) stored: [Option<Stored>; 2],
}

/// Why a step stopped.
pub(crate) enum Stop {
    /// At a key that differs.
    Found(Found),
    /// At a key whose values are stored differently, and may still be the same: see [`Diff::doubt`].
    Doubt,
    /// There are no more.
    End,
    /// A page has to be loaded first.
    Need(PagePointer, Expect),
}

/// What two stored things are to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Same,
    Different,
    /// Only their bytes would tell.
    Unsure,
}

/// Where regions come from.
struct Source {
    side: usize,
    more: More,
    /// In the order of the direction.
    regions: VecDeque<Region>,
}

enum More {
    Tree(TreeWalk),
    /// Of a journal by its number.
    Journal(usize, Recent),
    Nothing,
}

/// Where the cursor of a side is in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Before the next entry.
    Between,
    On,
    Ended,
}

/// One end of a diff.
struct End {
    sources: Vec<Source>,
    /// The range that is being compared.
    span: Option<Window>,
    cursors: [Cursor; 2],
    standing: [Standing; 2],
    doubt: Option<Found>,
}

/// The keys in a range that differ between two versions.
pub(crate) struct Diff {
    /// The old one and the new one.
    sides: [Layered; 2],
    /// The last sequence that both have in common.
    since: SequenceNumber,
    window: Window,
    ends: [Option<Box<End>>; 2],
}

impl Diff {
    /// What is different in `new`. `since`: the last sequence that both have in common, that is, all
    /// operations of either side that the other one does not have are after it. Of versions of which
    /// one came out of the other that is the sequence of the older one; of others, that at which they
    /// forked. It may be less: then more is compared than needs to be.
    pub(crate) fn new(
        old: View,
        new: View,
        since: SequenceNumber,
        (low, high): (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> Self {
        Self {
            sides: [old, new].map(|view| Layered {
                view,
                overlay: None,
            }),
            since,
            window: Window::new(low, high),
            ends: [None, None],
        }
    }

    /// The last sequence that both have in common is another one. Before the first step.
    pub(crate) fn set_since(&mut self, since: SequenceNumber) {
        debug_assert!(
            self.ends.iter().all(Option::is_none),
            "nothing was compared"
        );
        self.since = since;
    }

    /// The old or the new version.
    pub(crate) fn side(&self, number: usize) -> &Layered {
        &self.sides[number]
    }

    /// Goes to the next key that differs.
    pub(crate) fn step(&mut self, direction: Direction) -> Result<Stop> {
        let Self {
            sides,
            since,
            window,
            ends,
        } = self;
        let end = ends[direction as usize]
            .get_or_insert_with(|| Box::new(End::new(sides, *since, direction)));
        loop {
            if end.doubt.is_some() {
                return Ok(Stop::Doubt);
            }
            match end.compare_next(sides, window, direction)? {
                Compared::Stop(stop) => return Ok(stop),
                Compared::Nothing => {}
                Compared::Found(found, Verdict::Unsure) => end.doubt = Some(found),
                Compared::Found(found, _) => return Ok(Stop::Found(found)),
            }
        }
    }

    /// The key about which an end is in doubt.
    pub(crate) fn doubt(&self, direction: Direction) -> Option<&Found> {
        self.ends[direction as usize].as_ref()?.doubt.as_ref()
    }

    /// Ends a doubt: gives the key if its values are not the same.
    pub(crate) fn resolve(&mut self, direction: Direction, same: bool) -> Option<Found> {
        let end = self.ends[direction as usize].as_mut()?;
        end.doubt.take().filter(|_| !same)
    }
}

/// What came of comparing some more.
enum Compared {
    Found(Found, Verdict),
    Nothing,
    Stop(Stop),
}

impl End {
    fn new(sides: &[Layered; 2], since: SequenceNumber, direction: Direction) -> Self {
        let mut sources = Vec::new();
        let mut add = |side, more, regions| {
            sources.push(Source {
                side,
                more,
                regions,
            });
        };
        for (number, side) in sides.iter().enumerate() {
            let tree = TreeWalk::new(since, direction);
            add(number, More::Tree(tree), VecDeque::new());
            for index in 0..side.journals() {
                let (journal, bound) = side.journal(index);
                if journal.last_sequence().is_none_or(|last| last <= since) {
                    continue;
                }
                let recent = Recent::new(since, bound, direction);
                add(number, More::Journal(index, recent), VecDeque::new());
                let deletes = recent_deletes(journal, (since, bound), direction);
                if !deletes.is_empty() {
                    add(number, More::Nothing, deletes);
                }
            }
        }
        Self {
            sources,
            span: None,
            cursors: [(); 2].map(|()| Cursor::new(direction, Start::Outermost)),
            standing: [Standing::Between; 2],
            doubt: None,
        }
    }

    /// Compares the next key, or enters the next range.
    fn compare_next(
        &mut self,
        sides: &[Layered; 2],
        window: &mut Window,
        direction: Direction,
    ) -> Result<Compared> {
        if window.is_empty() {
            self.span = None;
            return Ok(Compared::Stop(Stop::End));
        }
        if self.span.is_some() {
            return self.compare_in_span(sides, window, direction);
        }
        for source in &mut self.sources {
            if let Some((pointer, expect)) = source.prepare(sides, window)? {
                return Ok(Compared::Stop(Stop::Need(pointer, expect)));
            }
        }
        let sources = self.sources.iter_mut();
        let ready = sources.filter(|source| !source.regions.is_empty());
        let nearest = ready.min_by(|a, b| match (a.regions.front(), b.regions.front()) {
            (Some(a), Some(b)) => a.compare(b, direction),
            _ => Ordering::Equal,
        });
        let Some(nearest) = nearest else {
            window.close();
            return Ok(Compared::Stop(Stop::End));
        };
        match nearest.regions.front() {
            Some(Region::Key(key)) => {
                let compared = compare_key(sides, key)?;
                if !matches!(compared, Compared::Stop(_)) {
                    window.pass_key(key, direction);
                    nearest.regions.pop_front();
                }
                Ok(compared)
            }
            Some(Region::Span(low, end)) => {
                let span = window.clip(low, end.as_deref());
                nearest.regions.pop_front();
                for cursor in &mut self.cursors {
                    cursor.restart(direction, start_of(&span, direction));
                }
                self.standing = [Standing::Between; 2];
                self.span = Some(span);
                Ok(Compared::Nothing)
            }
            None => Ok(Compared::Nothing),
        }
    }

    /// Compares the next key of the range in which the end is.
    fn compare_in_span(
        &mut self,
        sides: &[Layered; 2],
        window: &mut Window,
        direction: Direction,
    ) -> Result<Compared> {
        let Some(span) = &self.span else {
            return Ok(Compared::Nothing);
        };
        let far = match direction {
            Direction::Forward => span
                .end
                .as_deref()
                .map_or(Bound::Unbounded, Bound::Excluded),
            Direction::Backward => Bound::Included(&span.low[..]),
        };
        let cursors = self.cursors.iter_mut().zip(sides);
        for ((cursor, side), standing) in cursors.zip(&mut self.standing) {
            if *standing != Standing::Between {
                continue;
            }
            *standing = match cursor.step_within(side, far)? {
                cursor::Stop::Entry if span.has(cursor.key()) => Standing::On,
                cursor::Stop::Entry | cursor::Stop::End => Standing::Ended,
                cursor::Stop::Need(pointer, expect) => {
                    return Ok(Compared::Stop(Stop::Need(pointer, expect)));
                }
            };
        }
        let [old, new] = &self.cursors;
        let has = match self.standing.map(|standing| standing == Standing::On) {
            [false, false] => {
                window.pass(span, direction);
                self.span = None;
                return Ok(Compared::Nothing);
            }
            [true, true] => {
                let ordering = match direction {
                    Direction::Forward => old.key().cmp(new.key()),
                    Direction::Backward => new.key().cmp(old.key()),
                };
                [ordering != Ordering::Greater, ordering != Ordering::Less]
            }
            one => one,
        };
        let key = if has[0] { old.key() } else { new.key() };
        if !window.has(key) {
            // The other end has come past it; whatever is further on is the other's.
            window.close();
            self.span = None;
            return Ok(Compared::Stop(Stop::End));
        }
        let stored = [0, 1].map(|side| has[side].then(|| self.cursors[side].stored(&sides[side])));
        let compared = compared(key, stored);
        if let Compared::Found(..) = &compared {
            window.pass_key(key, direction);
        }
        for (standing, has) in self.standing.iter_mut().zip(has) {
            if has {
                *standing = Standing::Between;
            }
        }
        Ok(compared)
    }
}

impl Source {
    /// Has it know its next region within a window, if there is one, or says which page that takes.
    fn prepare(
        &mut self,
        sides: &[Layered; 2],
        window: &Window,
    ) -> Result<Option<(PagePointer, Expect)>> {
        let side = &sides[self.side];
        loop {
            while let Some(region) = self.regions.front() {
                if window.has_some_of(region) {
                    return Ok(None);
                }
                self.regions.pop_front();
            }
            match &mut self.more {
                More::Tree(walk) => match walk.step(side.version(), window, &mut self.regions)? {
                    Walked::Found => {}
                    Walked::End => return Ok(None),
                    Walked::Need(pointer, expect) => return Ok(Some((pointer, expect))),
                },
                More::Journal(index, recent) => {
                    recent.step(side.journal(*index).0, window, &mut self.regions);
                    if self.regions.is_empty() {
                        return Ok(None);
                    }
                }
                More::Nothing => return Ok(None),
            }
        }
    }
}

fn start_of(span: &Window, direction: Direction) -> Start {
    match (direction, &span.end) {
        (Direction::Forward, _) => Start::At(span.low.clone()),
        (Direction::Backward, Some(end)) => Start::Past(end.clone()),
        (Direction::Backward, None) => Start::Outermost,
    }
}

/// Looks a key up on both sides.
fn compare_key(sides: &[Layered; 2], key: &[u8]) -> Result<Compared> {
    let guard = pin();
    let mut found = [None, None];
    for (side, found) in sides.iter().zip(&mut found) {
        let view = &side.view;
        let looked = lookup_below(
            view.version.pages(),
            &view.version,
            view.bound,
            key,
            Chains::new(),
            &guard,
        )?;
        *found = match looked {
            Lookup::Need(pointer, expect) => {
                return Ok(Compared::Stop(Stop::Need(pointer, expect)));
            }
            looked => Some(looked),
        };
    }
    let stored = found.each_ref().map(|found| match found {
        Some(Lookup::Stored(tag, payload)) => Some((*tag, *payload)),
        Some(Lookup::Folded(tag, payload)) => Some((*tag, &payload[..])),
        _ => None,
    });
    Ok(compared(key, stored))
}

/// Puts together what was found for a key, unless that is the same on both sides.
fn compared(key: &[u8], stored: [Option<(Tag, &[u8])>; 2]) -> Compared {
    match verdict(stored) {
        Verdict::Same => Compared::Nothing,
        verdict => {
            let key = key.to_vec();
            let own = |(tag, payload): (Tag, &[u8])| (tag, payload.to_vec());
            let stored = stored.map(|stored| stored.map(own));
            Compared::Found(Found { key, stored }, verdict)
        }
    }
}

/// Compares what is stored, not what it stands for.
pub(crate) fn verdict([old, new]: [Option<(Tag, &[u8])>; 2]) -> Verdict {
    let (old, new) = match (old, new) {
        (None, None) => return Verdict::Same,
        (Some(old), Some(new)) if old == new => return Verdict::Same,
        (Some(old), Some(new)) => (old, new),
        _ => return Verdict::Different,
    };
    let [is_inline, is_reference] =
        [Tag::Inline, Tag::Reference].map(|tag| [old.0, new.0].map(|it| it == tag));
    // What a reference gives depends on other keys: it is compared as it is, operands on it too.
    let names_key = |(tag, payload): (Tag, &[u8])| target_of(tag, payload).is_some();
    if is_inline == [true; 2] || is_reference != [false; 2] || names_key(old) || names_key(new) {
        return Verdict::Different;
    }
    let value = |(tag, payload): (Tag, &[u8])| match tag {
        Tag::OffTree => OffTree::from_payload(payload).ok(),
        _ => None,
    };
    if let (Some(old), Some(new)) = (value(old), value(new))
        && old.is_same(&new)
    {
        return Verdict::Same;
    }
    let length = |(tag, payload): (Tag, &[u8])| stored_length(tag, payload).ok().flatten();
    match (length(old), length(new)) {
        (Some(old), Some(new)) if old != new => Verdict::Different,
        _ => Verdict::Unsure,
    }
}
