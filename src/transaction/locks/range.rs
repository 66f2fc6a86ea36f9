//! [`LockRange`]: a range of keys that is cheap to copy; and what is asked of ranges.
//!
//! Half-open, and in one allocation: the end of a point is its key and one zero byte, so that one
//! array of bytes has both ends.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Where a range ends, which is not in it. `None`: nowhere.
pub(crate) type End<'r> = Option<&'r [u8]>;

/// How ends are ordered: the one that is nowhere is the greatest.
pub(super) fn compare_ends(one: End<'_>, other: End<'_>) -> Ordering {
    match (one, other) {
        (Some(one), Some(other)) => one.cmp(other),
        (one, other) => one.is_none().cmp(&other.is_none()),
    }
}

/// Whether a key comes before an end.
pub(super) fn is_before(key: &[u8], end: End<'_>) -> bool {
    end.is_none_or(|end| key < end)
}

/// Keys from one, to another that is not in it. Never empty.
#[derive(Clone)]
pub(crate) struct LockRange {
    bytes: Arc<[u8]>,
    /// How many of the bytes are the first key.
    low_bytes: usize,
    /// Where in them the end begins. `None`: the range has none.
    end_at: Option<usize>,
}

impl LockRange {
    /// A range; `None` if there is no key in it.
    pub(crate) fn new(low: &[u8], end: End<'_>) -> Option<Self> {
        is_before(low, end).then(|| Self {
            bytes: match end {
                Some(end) => [low, end].concat().into(),
                None => low.into(),
            },
            low_bytes: low.len(),
            end_at: end.map(|_| low.len()),
        })
    }

    /// One key.
    pub(crate) fn point(key: &[u8]) -> Self {
        Self {
            bytes: [key, &[0]].concat().into(),
            low_bytes: key.len(),
            end_at: Some(0),
        }
    }

    pub(crate) fn low(&self) -> &[u8] {
        &self.bytes[..self.low_bytes]
    }

    pub(crate) fn end(&self) -> End<'_> {
        self.end_at.map(|at| &self.bytes[at..])
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted::Range(self.low(), self.end())
    }

    /// The ends of what both have, if there is any.
    pub(super) fn intersection<'r>(&'r self, other: &'r Self) -> Option<(&'r [u8], End<'r>)> {
        let low = self.low().max(other.low());
        let end = match compare_ends(self.end(), other.end()) {
            Ordering::Less => self.end(),
            _ => other.end(),
        };
        is_before(low, end).then_some((low, end))
    }

    /// Whether no key stands between the two.
    pub(super) fn touches(&self, other: &Self) -> bool {
        let reaches = |one: &Self, other: &Self| one.end().is_none_or(|end| end >= other.low());
        reaches(self, other) && reaches(other, self)
    }

    /// Whether all of the other is in it.
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.low() <= other.low() && compare_ends(self.end(), other.end()).is_ge()
    }

    /// The smallest range that has both.
    pub(super) fn hull(&self, other: &Self) -> Self {
        if self.contains(other) {
            return self.clone();
        }
        let low = self.low().min(other.low());
        let end = match compare_ends(self.end(), other.end()) {
            Ordering::Greater => self.end(),
            _ => other.end(),
        };
        Self::new(low, end).unwrap_or_else(|| self.clone())
    }

    /// What of it comes before the other.
    pub(super) fn before(&self, other: &Self) -> Option<Self> {
        let end = match is_before(other.low(), self.end()) {
            true => Some(other.low()),
            false => self.end(),
        };
        Self::new(self.low(), end)
    }

    /// What of it comes behind the other.
    pub(super) fn behind(&self, other: &Self) -> Option<Self> {
        Self::new(other.end()?.max(self.low()), self.end())
    }
}

impl fmt::Display for LockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.low();
        match self.end() {
            Some([key @ .., 0]) if key == low => write!(f, "\"{}\"", key.escape_ascii()),
            None if low.is_empty() => f.write_str(".."),
            None => write!(f, "\"{}\"..", low.escape_ascii()),
            Some(end) => write!(f, "\"{}\"..\"{}\"", low.escape_ascii(), end.escape_ascii()),
        }
    }
}

impl fmt::Debug for LockRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Keys that are looked for among ranges.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wanted<'k> {
    Key(&'k [u8]),
    /// From one key to another that is not in it, or on. Nothing, if it ends before it begins.
    Range(&'k [u8], End<'k>),
}

impl Wanted<'_> {
    pub(super) fn low(&self) -> &[u8] {
        match self {
            Self::Key(key) => key,
            Self::Range(low, _) => low,
        }
    }

    /// Whether a range that begins there begins before these keys are over.
    #[inline]
    pub(super) fn reaches(&self, low: &[u8]) -> bool {
        match self {
            Self::Key(key) => low <= *key,
            Self::Range(_, end) => is_before(low, *end),
        }
    }

    pub(crate) fn to_range(self) -> Option<LockRange> {
        match self {
            Self::Key(key) => Some(LockRange::point(key)),
            Self::Range(low, end) => LockRange::new(low, end),
        }
    }
}
