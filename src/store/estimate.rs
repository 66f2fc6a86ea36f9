//! [`Estimate`]: about how much there is in a range.

use std::ops::RangeInclusive;

use crate::snapshot::Interval;

/// Between which bounds the entries of a range lie, and the bytes that they take: what
/// [`Store::estimate`](crate::Store::estimate) gives. The bounds are sure, however far apart.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Estimate {
    /// The number of entries is in here.
    pub entries: RangeInclusive<u64>,
    /// How many bytes of the disk they take: pages with what is pending in them, and large values.
    /// The lower bound is of what belongs to nothing else, the upper one counts pages that others
    /// have a part in, too, and the commits that are not in the tree yet; but not large values that
    /// only such commits name. Where operations are pending in the tree, the lower bound leaves out
    /// large values, and the upper one counts one of them again for each time it was moved. What was deleted counts as long as it takes its room.
    pub bytes: RangeInclusive<u64>,
}

impl Estimate {
    /// The estimate of an empty range.
    pub(super) const NOTHING: Self = Self {
        entries: 0..=0,
        bytes: 0..=0,
    };

    pub(super) fn new(entries: Interval, bytes: Interval) -> Self {
        Self {
            entries: entries.low..=entries.high,
            bytes: bytes.low..=bytes.high,
        }
    }
}
