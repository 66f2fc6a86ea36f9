//! Off-tree values: values too large for a leaf, in extents of their own.
//!
//! A leaf keeps 48 bytes for such a value, an [`OffTree`], the payload of
//! [`Tag::OffTree`](crate::format::record::Tag::OffTree): nothing if it is empty, its one extent if it
//! has one block, else an index page, or a tree of them, over data extents of several blocks.
//! [`crate::format::values`] describes all of it byte by byte.
//!
//! A *block* (32 KiB by default) is what a checksum covers, so that 4 KiB of a terabyte cost one
//! block and one path of index pages. Invariant kept: nothing here is ever changed after it was
//! written. A part of a value is replaced by writing its blocks elsewhere, splitting the entry of one
//! index page around them, and writing the path above: a new value, which shares all else with the old
//! one. While the new one is on its way to the old one's place in the tree, its payload names the old
//! one, too, as its *base*: what happens to the two on the way is in [`crate::tree::lineage`].
//!
//! * `payload`: [`OffTree`]. A subtree of an index is described by the same type, as a value of its
//!   own, which is what makes it possible to read, check and free values step by step.
//! * `index`: the index pages.
//! * `codec`: [`Compression`] of blocks.
//! * `writer`: [`ValueWriter`], which writes a value of unknown length in bounded memory.
//! * `reader`: [`ValueReader`], which reads any part of a value, verified.
//! * `splice`: [`Splice`], how a value is made of another that it shares extents with, and the value
//!   of another key that has all of them.
//! * `difference`: [`each_unshared`], what a value has and others do not: what is freed with it.
//! * `same`: [`is_same_value`], whether two have the same bytes.
//! * `walk`: [`expand`], what a value consists of, one page at a time; and the check of a whole value.
//! * `source`: [`PageSource`], where index pages come from, so that a cache can stand before the disk.

mod codec;
mod difference;
mod index;
mod payload;
mod reader;
mod same;
mod source;
mod splice;
#[cfg(test)]
mod testing;
mod walk;
mod writer;

pub use codec::Compression;
pub(crate) use difference::{Unshared, each_unshared};
pub(crate) use payload::{ExtentPointer, OffTree, VALUE_BYTES_MAX};
pub(crate) use reader::ValueReader;
pub(crate) use same::is_same_value;
pub(crate) use source::{DiskPages, PageSource};
pub(crate) use splice::Splice;
pub(crate) use walk::{each_extent, each_own_extent, expand};
#[cfg(test)]
pub(crate) use writer::WrittenValue;
pub(crate) use writer::{Allocate, Shape, ValueWriter};
