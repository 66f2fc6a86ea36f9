//! Values that are too large for a leaf.

use criterion::{BatchSize, Criterion, Throughput};
use thunderhead::{Durability, Options};

use crate::data::in_file;

const VALUE_BYTES: usize = 4 << 20;
const PART_BYTES: usize = 4 << 10;

/// Writing one of 4 MiB, reading it whole, reading 4 KiB of it.
pub fn off_tree(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("off-tree-4MiB");
    group.sample_size(20);
    let value = vec![7; VALUE_BYTES];
    let (_directory, store) = in_file(&Options::new());
    group.throughput(Throughput::Bytes(VALUE_BYTES as u64));
    for (name, durability) in [
        ("write/immediate", Durability::Immediate),
        ("write/buffered", Durability::Buffered),
    ] {
        let store = store.with_durability(durability);
        group.bench_function(name, |bencher| {
            bencher.iter(|| store.put("large", &value).wait().expect("room on the disk"));
        });
    }
    store.put("large", &value).wait().expect("room on the disk");
    group.bench_function("read", |bencher| {
        bencher.iter(|| store.get("large").wait().expect("a whole file"));
    });
    group.throughput(Throughput::Bytes(PART_BYTES as u64));
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function("part-4KiB", |bencher| {
        bencher.iter_batched(
            || random.u64(..(VALUE_BYTES - PART_BYTES) as u64),
            |offset| store.get_part("large", offset, PART_BYTES).wait(),
            BatchSize::SmallInput,
        );
    });
}
