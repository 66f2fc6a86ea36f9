//! What differs between two versions, at a cost in proportion to the difference.
//!
//! Two versions have a last sequence in common: that of the older one, if one came out of the other,
//! else that at which they forked. Every key that differs was touched after it, by an operation that
//! one of the two still shows: in a root journal, in a slice of the tree's journals, or as something
//! that was applied to a leaf. Operations carry their sequences, and so do pointers: `newest` is at or
//! above every sequence that was applied or is pending below, deletions included. So each side names
//! the *regions* in which it may have changed, in order, and passes by everything whose `newest` is not
//! above the bound, whatever its address: a flush or a compaction that wrote a page anew changed
//! neither what is in it nor its `newest`.
//!
//! ```text
//!              root journal        ·    ·  k        a key for each operation above the bound
//!              slices              ·  [d   e)       the same, and the ranges that were deleted
//!              newest > bound   ┌──┴──┐             go down
//!                               ▼     ✕             newest ≤ bound: nothing below has changed
//!              leaves           [a  c)              a leaf: all of its keys are compared
//! ```
//!
//! What is in a region is then compared, old and new: two look-ups for a key, two cursors for a range.
//! An operation that only moved down, or that put what was there, makes a region and no difference. A
//! range that was deleted is gone through on the other side; so what was in it is told key by key.
//!
//! Stored bytes that are the same are the same value; so are two names of one value out of the tree.
//! Other values are only the same if their bytes are, which somebody has to read: [`Stop::Doubt`].
//! References are compared as they are stored, and not followed.
//!
//! | module | idea |
//! | --- | --- |
//! | `region` | where something may have changed, and what of a range is left |
//! | `tree` | the regions of a tree: the walk down |
//! | `recent` | the regions of a journal in memory |
//! | `compare` | what is in the regions, old and new ([`Diff`]) |
//! | `same` | whether values that are stored differently are the same |

mod compare;
mod recent;
mod region;
mod same;
mod tree;

use crate::cache::Handle;

pub(crate) use compare::{Diff, Found, Stop, Stored, Verdict, verdict};
pub(crate) use same::is_same_content;

/// How many pages that a step asked for are kept in memory at the most, until it is done.
const LOADED_PAGES_MAX: usize = 256;

/// Keeps a page that a step asked for, and lets go of those that it had to pass long ago.
pub(crate) fn keep_loaded(loaded: &mut Vec<Handle>, page: Handle) {
    if loaded.len() >= LOADED_PAGES_MAX {
        loaded.drain(..LOADED_PAGES_MAX / 2);
    }
    loaded.push(page);
}
