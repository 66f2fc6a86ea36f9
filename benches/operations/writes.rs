//! Commits, to a file where they are to be durable.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use thunderhead::{Durability, MergeOperator, Options};

use crate::data::{Keys, in_file, load, settled};

/// One put a commit, at each durability, and what it cannot beat: the same bytes to a plain file.
pub fn singles(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put");
    group.throughput(Throughput::Elements(1));
    let durabilities = [
        ("immediate", Durability::Immediate),
        ("buffered", Durability::Buffered),
        ("deferred", Durability::Deferred),
    ];
    for (name, durability) in durabilities {
        let (_directory, store) = in_file(&Options::new().durability(durability));
        let mut keys = Keys::new(0);
        group.bench_function(BenchmarkId::new("single", name), |bencher| {
            bencher.iter_batched(
                || (keys.unknown(), keys.value()),
                |(key, value)| store.put(key, value).wait().expect("room on the disk"),
                BatchSize::SmallInput,
            );
        });
    }
    bare(&mut group);
}

/// Giving a name to a snapshot, and opening one, with a thousand and a hundred thousand keys beside.
pub fn names(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("names");
    for entries in [1000, 100_000] {
        let (_directory, store) = in_file(&Options::new().durability(Durability::Deferred));
        let mut keys = Keys::new(entries);
        load(&store, &mut keys);
        let snapshots = store.snapshots();
        group.bench_function(BenchmarkId::new("save-deferred", entries), |bencher| {
            bencher.iter_batched(
                || keys.unknown(),
                |name| snapshots.save(name).wait().expect("room on the disk"),
                BatchSize::SmallInput,
            );
        });
        let name = keys.unknown();
        snapshots.save(name).wait().expect("room on the disk");
        group.bench_function(BenchmarkId::new("open", entries), |bencher| {
            bencher.iter(|| snapshots.open(name).wait().expect("a name that there is"));
        });
    }
}

/// Writing and syncing 512 bytes of a file that has its size.
#[cfg(unix)]
fn bare(group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {
    use std::os::unix::fs::FileExt;
    const FILE_BYTES: u64 = 4 << 20;
    let file = tempfile::tempfile().expect("a directory for temporary files");
    let zeros = vec![0; FILE_BYTES as usize];
    file.write_all_at(&zeros, 0).expect("room on the disk");
    file.sync_all().expect("room on the disk");
    let mut at = 0;
    group.bench_function("single/bare-write-and-sync", |bencher| {
        bencher.iter(|| {
            file.write_all_at(&[7; 512], at).expect("room on the disk");
            file.sync_data().expect("room on the disk");
            at = (at + 512) % FILE_BYTES;
        });
    });
}

#[cfg(not(unix))]
fn bare(_: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>) {}

/// A thousand puts a commit.
pub fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch-1000");
    group.throughput(Throughput::Elements(1000)).sample_size(20);
    let durabilities = [
        ("immediate", Durability::Immediate),
        ("deferred", Durability::Deferred),
    ];
    for (name, durability) in durabilities {
        let (_directory, store) = in_file(&Options::new());
        let mut keys = Keys::new(0);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || -> Vec<_> { (0..1000).map(|_| (keys.unknown(), keys.value())).collect() },
                |pairs| {
                    let mut transaction = store.begin().wait().expect("a store that is open");
                    transaction.set_durability(durability);
                    for (key, value) in &pairs {
                        transaction.put(key, value).wait().expect("room in memory");
                    }
                    transaction.commit().wait().expect("room on the disk");
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// Adds little-endian numbers.
struct Sum;

impl MergeOperator for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        let number = |bytes: &[u8]| {
            bytes
                .first_chunk()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let sum = existing.map_or(0, number).wrapping_add(number(operand));
        out.extend_from_slice(&sum.to_le_bytes());
    }
}

/// Deletes of ranges and merges, which cost no read.
pub fn others(criterion: &mut Criterion) {
    let (store, mut keys) = settled();
    let store = store.with_durability(Durability::Deferred);
    criterion.bench_function("delete_range", |bencher| {
        bencher.iter_batched(
            || (keys.unknown(), keys.unknown()),
            |(low, high)| store.delete_range(&low[..]..&high[..]).wait(),
            BatchSize::SmallInput,
        );
    });
    let options = Options::new()
        .merge_operator(Sum)
        .durability(Durability::Deferred);
    let (_directory, store) = in_file(&options);
    let mut random = fastrand::Rng::with_seed(1);
    criterion.bench_function("merge", |bencher| {
        bencher.iter_batched(
            || random.u16(..1000).to_be_bytes(),
            |key| store.merge(key, "sum", 1u64.to_le_bytes()).wait(),
            BatchSize::SmallInput,
        );
    });
}
