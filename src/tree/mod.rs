//! The tree: nodes, pages, journals, search, flush, build.

pub(crate) mod journal;
