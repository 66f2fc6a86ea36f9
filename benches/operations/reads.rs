//! Reading what is in memory.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

use crate::data::{ENTRIES, Keys, pending, settled, update};

/// `get`, `get_with`, `contains_key`, over a tree in which nothing is pending and one with updates.
pub fn point(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("get");
    group.throughput(Throughput::Elements(1));
    for (state, (store, mut keys)) in [("settled", settled()), ("pending", pending())] {
        group.bench_function(BenchmarkId::new("hit", state), |bencher| {
            bencher.iter_batched(
                || keys.known(),
                |key| store.get(key).wait(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("miss", state), |bencher| {
            bencher.iter_batched(
                || keys.unknown(),
                |key| store.get(key).wait(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("with", state), |bencher| {
            bencher.iter_batched(
                || keys.known(),
                |key| store.get_with(key, |value| value[0]).wait(),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("contains", state), |bencher| {
            bencher.iter_batched(
                || keys.known(),
                |key| store.contains_key(key).wait(),
                BatchSize::SmallInput,
            );
        });
    }
}

/// Ten entries from a random key on, in both directions, and all entries.
pub fn ranges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("range");
    for (state, (store, mut keys)) in [("settled", settled()), ("pending", pending())] {
        group.throughput(Throughput::Elements(10));
        group.bench_function(BenchmarkId::new("10-forward", state), |bencher| {
            bencher.iter_batched(
                || keys.known(),
                |key| {
                    let mut range = store.range(&key[..]..);
                    for _ in 0..10 {
                        let entry = range.next_with(|key, value| (key[0], value[0]));
                        black_box(entry.wait().expect("pages in memory"));
                    }
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("10-backward", state), |bencher| {
            bencher.iter_batched(
                || keys.known(),
                |key| {
                    let mut range = store.range(..&key[..]);
                    for _ in 0..10 {
                        let entry = range.next_back_with(|key, value| (key[0], value[0]));
                        black_box(entry.wait().expect("pages in memory"));
                    }
                },
                BatchSize::SmallInput,
            );
        });
        group.throughput(Throughput::Elements(ENTRIES as u64));
        group.sample_size(20);
        group.bench_function(BenchmarkId::new("all", state), |bencher| {
            bencher.iter(|| {
                let mut range = store.iter();
                while let Some(byte) = range
                    .next_with(|_, value| value[0])
                    .wait()
                    .expect("pages in memory")
                {
                    black_box(byte);
                }
            });
        });
    }
}

/// `len`, `count` of a tenth of the keys, `nth`; and the first `len` after updates.
pub fn counts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("count");
    let (store, mut keys) = settled();
    group.bench_function("len/settled", |bencher| {
        bencher.iter(|| store.len().wait());
    });
    group.bench_function("tenth/settled", |bencher| {
        bencher.iter(|| store.count(&[100u8][..]..&[125u8][..]).wait());
    });
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("nth/settled", |bencher| {
        bencher.iter_batched(
            || random.u64(..ENTRIES as u64),
            |rank| store.nth(rank).wait(),
            BatchSize::SmallInput,
        );
    });
    group.sample_size(10);
    group.bench_function("len/first-after-1000-updates", |bencher| {
        bencher.iter_batched(
            || {
                update(&store, &mut keys, 1000);
                while store.maintain().wait().expect("a store that is open") {}
            },
            |()| store.len().wait(),
            BatchSize::PerIteration,
        );
    });
}

/// Taking a snapshot of a store, and giving it up.
pub fn snapshots(criterion: &mut Criterion) {
    let (store, _): (_, Keys) = settled();
    criterion.bench_function("snapshot", |bencher| {
        bencher.iter(|| drop(black_box(store.snapshot())));
    });
}
