//! [`Region`]: where something may have changed; [`Window`]: what is left to be looked at.
//!
//! Both ends of a diff take from one window, so that they meet, and nothing is given twice.

use std::cmp::Ordering;
use std::ops::Bound;

use super::super::cursor::Direction;

/// Keys of which a side says that they may have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Region {
    Key(Vec<u8>),
    /// From the first key on and before the second. `None`: to the last key.
    Span(Vec<u8>, Option<Vec<u8>>),
}

impl Region {
    /// What comes first in a direction is less. Of those that begin alike, a range comes before a key
    /// in it, which is then compared once.
    pub(super) fn compare(&self, other: &Self, direction: Direction) -> Ordering {
        match direction {
            Direction::Forward => self.low().cmp(other.low()),
            Direction::Backward => other.high().cmp(&self.high()),
        }
        .then_with(|| self.is_key().cmp(&other.is_key()))
    }

    fn is_key(&self) -> bool {
        matches!(self, Self::Key(_))
    }

    fn low(&self) -> &[u8] {
        match self {
            Self::Key(low) | Self::Span(low, _) => low,
        }
    }

    /// Where it ends, in an order: not at all, before a key, or behind it.
    fn high(&self) -> (bool, &[u8], bool) {
        match self {
            Self::Key(key) => (false, key, true),
            Self::Span(_, Some(end)) => (false, end, false),
            Self::Span(_, None) => (true, &[], false),
        }
    }
}

/// The keys that are still to be looked at: from `low` on and before `end`.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) low: Vec<u8>,
    pub(super) end: Option<Vec<u8>>,
}

/// The first key after a key.
fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

impl Window {
    pub(super) fn new(low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Self {
        Self {
            low: match low {
                Bound::Unbounded => Vec::new(),
                Bound::Included(key) => key,
                Bound::Excluded(key) => successor(&key),
            },
            end: match high {
                Bound::Unbounded => None,
                Bound::Included(key) => Some(successor(&key)),
                Bound::Excluded(key) => Some(key),
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end.as_deref().is_some_and(|end| end <= &self.low[..])
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.has_some(key, None) && key >= &self.low[..]
    }

    /// Whether some of the keys from `low` on and before `end` are left.
    pub(super) fn has_some(&self, low: &[u8], end: Option<&[u8]>) -> bool {
        self.end.as_deref().is_none_or(|mine| low < mine)
            && end.is_none_or(|end| &self.low[..] < end)
    }

    pub(super) fn has_some_of(&self, region: &Region) -> bool {
        match region {
            Region::Key(key) => self.has(key),
            Region::Span(low, end) => self.has_some(low, end.as_deref()),
        }
    }

    /// What is left of a range.
    pub(super) fn clip(&self, low: &[u8], end: Option<&[u8]>) -> Self {
        let ends = [end, self.end.as_deref()];
        Self {
            low: low.max(&self.low).to_vec(),
            end: ends.into_iter().flatten().min().map(<[u8]>::to_vec),
        }
    }

    /// A key, and all before it in a direction, was looked at.
    pub(super) fn pass_key(&mut self, key: &[u8], direction: Direction) {
        match direction {
            Direction::Forward => self.low = successor(key),
            Direction::Backward => self.end = Some(key.to_vec()),
        }
    }

    /// The same with a range.
    pub(super) fn pass(&mut self, span: &Self, direction: Direction) {
        match (direction, &span.end) {
            (Direction::Forward, Some(end)) => self.low.clone_from(end),
            (Direction::Forward, None) => self.close(),
            (Direction::Backward, _) => self.end = Some(span.low.clone()),
        }
    }

    /// Nothing is left.
    pub(super) fn close(&mut self) {
        self.end = Some(self.low.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(low: &str, end: Option<&str>) -> Region {
        Region::Span(low.into(), end.map(Into::into))
    }

    #[test]
    fn regions_come_in_the_order_of_the_direction() {
        let key = |key: &str| Region::Key(key.into());
        let mut regions = vec![key("b"), span("b", None), span("a", Some("b")), key("a")];
        regions.sort_by(|a, b| a.compare(b, Direction::Forward));
        let forward = [span("a", Some("b")), key("a"), span("b", None), key("b")];
        assert_eq!(regions, forward);
        regions.sort_by(|a, b| a.compare(b, Direction::Backward));
        let backward = [span("b", None), key("b"), span("a", Some("b")), key("a")];
        assert_eq!(regions, backward);
    }

    #[test]
    fn a_window_is_taken_from_both_ends_until_they_meet() {
        let mut window = Window::new(Bound::Unbounded, Bound::Included(b"m".to_vec()));
        assert!(window.has(b"m") && window.has(b"") && !window.has(b"m\0"));
        window.pass_key(b"c", Direction::Forward);
        window.pass_key(b"k", Direction::Backward);
        assert!(!window.has(b"c") && window.has(b"c\0") && !window.has(b"k"));
        assert!(window.has_some(b"a", Some(b"d")) && !window.has_some(b"a", Some(b"c")));
        assert!(window.has_some_of(&span("j", None)) && !window.has_some_of(&span("k", None)));
        let clipped = window.clip(b"d", Some(b"z"));
        assert_eq!(
            (&clipped.low[..], clipped.end.as_deref()),
            (&b"d"[..], Some(&b"k"[..]))
        );
        window.pass(&clipped, Direction::Backward);
        assert!(!window.is_empty() && window.has(b"c\0"));
        window.pass(&window.clone(), Direction::Forward);
        assert!(window.is_empty());
    }
}
