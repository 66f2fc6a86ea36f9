//! What each operation of a store costs: see `benches/README.md`.
//!
//! Every benchmark makes its own store, in memory where the disk is not the matter, and names what
//! it does as `group/what`. Sizes are small enough that `cargo bench -- --test` takes seconds.
#![expect(
    missing_docs,
    reason = "a macro makes functions that nobody calls by name"
)]

mod data;
mod each;
mod locks;
mod reads;
mod transactions;
mod values;
mod versions;
mod whole;
mod writes;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    all,
    reads::point,
    reads::ranges,
    reads::counts,
    reads::snapshots,
    each::reads,
    each::writes,
    each::layers,
    writes::singles,
    writes::names,
    writes::batches,
    writes::others,
    transactions::small,
    transactions::validation,
    values::off_tree,
    values::streams,
    values::parts,
    values::compressed,
    versions::lines,
    versions::copies,
    locks::locks,
    locks::tried,
    whole::bulk_load,
    whole::reopening,
    whole::checkpoints,
    whole::looking_through,
);
criterion_main!(all);
