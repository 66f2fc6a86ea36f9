//! The tree: a persistent hitchhiker B+tree over pages that are written once.
//!
//! A B+tree whose interior nodes also hold *journals*: operations that are meant for the leaves below
//! and have not got there yet. New operations enter at the root in batches and hitch a ride down: a
//! flush takes them along only to children for which enough is waiting, so that a page is rewritten
//! for many operations at once (write-optimized trees: Brodal and Fagerberg 2003; the hitchhiker tree
//! of Greenberg 2016). A reader going down passes the journals, newest first, on the way it goes
//! anyway.
//!
//! ```text
//!      root journal, in memory: the newest commits, durable in the log
//!                                  │ flush
//!                    ┌─────────────▼──────────────┐      run 2 ─▶ [slice a..f][slice g..z]
//!      root          │ separators · pointers · ───┼──▶
//!                    └──┬────────┬────────┬───────┘      run 1 ─▶ [slice c..m]      older
//!                       │        │        │
//!                 ┌─────▼─┐  ┌───▼───┐  ┌─▼─────┐
//!      nodes      │ · · ──┼─▶│ · · ──┼─▶│ · · ──┼─▶  journals of their own
//!                 └┬──┬───┘  └┬──┬───┘  └┬──┬───┘
//!      leaves      ▼  ▼       ▼  ▼       ▼  ▼         entries: key, tag, payload
//! ```
//!
//! *Persistent*: no page is ever changed. A flush makes new pages along the ways it goes and shares
//! all others with the versions before; whoever holds an old root still reads the old tree. A page
//! that the new root no longer reaches is dropped, and reused when no kept version reaches it. Even
//! handing pending operations down rewrites the node alone: which part of a slice is consumed stands
//! in the node ([`interior`]).
//!
//! # Views and builders instead of a node type
//!
//! There are nodes of two kinds in such a tree, persistent ones, shared and immutable, and transient
//! ones, private to the flush that makes them. They could be two implementations of one trait, behind
//! a pointer. They are two families of types instead:
//!
//! * *Persistent* nodes are **checked views over bytes**: [`Page`](page::Page) (the table of keys that
//!   all kinds share, and all that a leaf is), [`Interior`](interior::Interior),
//!   [`Slice`](slice::Slice). A page is checked once, when it is loaded, and is then read where it
//!   lies: no parsing, no allocation, no second form in memory to be kept in step. A view is a slice
//!   and a few numbers, and is copied freely. It has no method that changes anything.
//! * *Transient* nodes are **builders**: [`NodeParts`](interior::NodeParts) for an interior node taken
//!   apart, lists of entries in `build` for leaves, [`Batch`](operation::Batch) for what goes into
//!   slices, and [`Flush`](flush::Flush), which owns what one generation made. They become pages by
//!   being encoded, once.
//!
//! A trait object would unite what has no operation in common: readers only search, flushes only take
//! apart and put together, and neither ever holds "some node" without knowing of which kind it is. It
//! would put an indirect call and an allocation on the way of every search, and invite code that asks
//! at run time whether a node may be changed; so the compiler answers that. The price is that a flush
//! copies the separators and pointers of the interior nodes on its way, which encoding them anew does
//! in any case.
//!
//! # Modules
//!
//! [`crate::format::pages`] and [`crate::format::journals`] describe all pages byte by byte.
//!
//! | module | idea |
//! | --- | --- |
//! | [`page`], [`interior`], [`slice`](mod@slice), [`filter`] | the views, and how pages are encoded |
//! | [`pages`] | from a pointer to a page that was verified and checked |
//! | [`search`] | finding one key, without I/O |
//! | [`reach`], [`key_buffer`] | a leaf with everything that is pending for it, and its keys, for cursors |
//! | [`ahead`] | which pages a scan will need next and has not in memory |
//! | [`journal`] | the root journal, in memory |
//! | `frozen`, [`operation`], `batches` | from a journal to a batch, and batches on their way down |
//! | [`merge`] | merge operands |
//! | [`lineage`] | off-tree values that share extents, on their way down |
//! | [`flush`], `build` | one generation: nodes from the root down, pages out of entries |
//! | [`expand`] | what a dropped subtree consists of, step by step |
//! | [`relocate`] | moving pages out of segments that are to be given back |

pub(crate) mod ahead;
mod batches;
mod build;
pub(crate) mod expand;
pub(crate) mod filter;
pub(crate) mod flush;
mod frozen;
pub(crate) mod interior;
pub(crate) mod journal;
pub(crate) mod key_buffer;
pub(crate) mod lineage;
pub(crate) mod merge;
pub(crate) mod operation;
pub(crate) mod page;
pub(crate) mod pages;
pub(crate) mod reach;
pub(crate) mod relocate;
pub(crate) mod search;
pub(crate) mod slice;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use frozen::{fold_entries, frozen_batch};
pub use merge::MergeOperator;
