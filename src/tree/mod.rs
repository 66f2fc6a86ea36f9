//! The tree: nodes, pages, journals, search, flush, build.

mod batches;
mod build;
pub(crate) mod expand;
pub(crate) mod filter;
pub(crate) mod flush;
mod frozen;
pub(crate) mod interior;
pub(crate) mod journal;
pub(crate) mod merge;
pub(crate) mod operation;
pub(crate) mod page;
pub(crate) mod pages;
pub(crate) mod reach;
pub(crate) mod relocate;
pub(crate) mod search;
pub(crate) mod slice;

pub(crate) use frozen::{fold_entries, frozen_batch};
pub use merge::MergeOperator;
