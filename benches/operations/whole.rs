//! What is done to a store as a whole.

use std::ops::ControlFlow;

use criterion::{BatchSize, Criterion, Throughput};
use thunderhead::{Maintenance, Options, Store};

use crate::data::{ENTRIES, Keys, in_file, load, update};

/// All entries in one transaction, into a file, durably.
pub fn bulk_load(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bulk-load");
    group
        .throughput(Throughput::Elements(ENTRIES as u64))
        .sample_size(10);
    let mut keys = Keys::new(ENTRIES);
    for (name, transaction_bytes) in [("in-memory", 256 << 20), ("spilling", 4 << 20)] {
        let options = Options::new().transaction_bytes(transaction_bytes);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || in_file(&options),
                |(directory, store)| {
                    load(&store, &mut keys);
                    (directory, store)
                },
                BatchSize::PerIteration,
            );
        });
    }
}

/// Opening a store that was closed, up to the first read.
pub fn reopening(criterion: &mut Criterion) {
    let (directory, store) = in_file(&Options::new());
    let mut keys = Keys::new(ENTRIES);
    load(&store, &mut keys);
    store.close().wait().expect("room on the disk");
    let path = directory.path().join("store");
    let mut group = criterion.benchmark_group("open");
    group.sample_size(20);
    group.bench_function("after-close", |bencher| {
        bencher.iter(|| {
            let store = Store::open(&path).expect("a file that was closed");
            store.get(keys.known()).wait().expect("a whole file")
        });
    });
}

/// A checkpoint after 10,000 updates of random keys.
pub fn checkpoints(criterion: &mut Criterion) {
    let (_directory, store) = in_file(&Options::new().maintenance(Maintenance::Caller));
    let mut keys = Keys::new(ENTRIES);
    load(&store, &mut keys);
    let mut group = criterion.benchmark_group("checkpoint");
    group.sample_size(10);
    group.bench_function("after-10000-updates", |bencher| {
        bencher.iter_batched(
            || update(&store, &mut keys, 10_000),
            |()| store.checkpoint().wait().expect("room on the disk"),
            BatchSize::PerIteration,
        );
    });
}

/// All of a store verified; and what a tenth of it, removed, leaves behind given back.
pub fn looking_through(criterion: &mut Criterion) {
    let (_directory, store) = in_file(&Options::new().maintenance(Maintenance::Caller));
    let mut keys = Keys::new(ENTRIES);
    load(&store, &mut keys);
    let mut group = criterion.benchmark_group("whole");
    group
        .throughput(Throughput::Elements(ENTRIES as u64))
        .sample_size(10);
    group.bench_function("verify", |bencher| {
        bencher.iter(|| {
            let verified = store.verify(|_| ControlFlow::Continue(())).wait();
            verified.expect("a whole store")
        });
    });
    group.bench_function("compact-after-10000-removals", |bencher| {
        bencher.iter_batched(
            || {
                load(&store, &mut keys);
                let mut removal = store.begin().wait().expect("a store that is open");
                for _ in 0..10_000 {
                    let removed = removal.delete(keys.known()).wait();
                    removed.expect("room in memory");
                }
                removal.commit().wait().expect("nobody else commits");
            },
            |()| store.compact().wait().expect("room on the disk"),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}
