//! Space on the disk: which sectors are in use, by whom, and what may be used again when.
//!
//! [`Space`] gives out extents and takes them back. It keeps invariant **I1** of the design: nothing
//! that the durable root, the root before it, or any kept version reaches is ever overwritten. To
//! that end
//!
//! * an extent that the newest version no longer reaches is *dropped*, and free only when no kept
//!   generation reaches it either ([`pins`]);
//! * what a durable root names beside its trees, the subtrees still to be freed, is protected in
//!   the same way until two later roots no longer name it;
//! * an address is not given out twice within one generation, so that address and birth name a
//!   page for ever.
//!
//! On the disk there is one map per segment ([`map`]), a summary of all segments ([`segments`]),
//! both in the system tree ([`catalogue`]), and the changes that writing these made ([`tail`]);
//! [`crate::format::space`] describes them byte by byte. What versions that are kept by name reach stands
//! on lists there, too ([`kept`]). Beside these, `allocate` chooses where an
//! extent goes, `recycle` leads what was dropped to being free, `vacant`, `geometry` and [`runs`] serve both, and
//! [`audit`] compares the maps with what was found by reading everything.

mod allocate;
pub(crate) mod audit;
mod bitmap;
pub(crate) mod catalogue;
mod face;
mod geometry;
pub(crate) mod kept;
mod map;
mod pins;
mod recycle;
pub(crate) mod runs;
mod segments;

#[cfg(test)]
mod simulation;
mod tail;
#[cfg(test)]
mod tests;
mod vacant;

#[cfg(test)]
pub(crate) use face::{Loader, Statistics};
pub(crate) use face::{Owner, Space, Urgency};
pub(crate) use recycle::{Dropped, Expansion, NO_LINE, PendingItem};
pub(crate) use segments::SUMMARY_SEGMENTS;
pub(crate) use vacant::Hopes;
