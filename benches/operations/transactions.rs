//! Transactions beside each other: beginning, validating, committing.

use criterion::{BatchSize, Criterion};
use thunderhead::{Durability, Options};

use crate::data::{Keys, in_file, settled};

/// Those that nobody is in the way of.
pub fn small(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transaction");
    let (_directory, store) = in_file(&Options::new().durability(Durability::Buffered));
    let mut keys = Keys::new(0);
    group.bench_function("empty", |bencher| {
        bencher.iter(|| {
            let transaction = store.begin().wait().expect("a store that is open");
            transaction.commit().wait().expect("nothing to refuse")
        });
    });
    group.bench_function("one-put", |bencher| {
        bencher.iter_batched(
            || (keys.unknown(), keys.value()),
            |(key, value)| {
                let mut transaction = store.begin().wait().expect("a store that is open");
                transaction.put(key, value).wait().expect("room in memory");
                transaction.commit().wait().expect("nobody else commits")
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("read-and-put", |bencher| {
        bencher.iter_batched(
            || (keys.unknown(), keys.value()),
            |(key, value)| {
                let mut transaction = store.begin().wait().expect("a store that is open");
                transaction.get(key).wait().expect("a disk without faults");
                transaction.put(key, value).wait().expect("room in memory");
                transaction.commit().wait().expect("nobody else commits")
            },
            BatchSize::SmallInput,
        );
    });
}

/// Ten thousand ranges read, and ten thousand commits since.
pub fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validation-10000");
    group.sample_size(10);
    for history in ["journals", "read-again"] {
        let (store, mut keys) = settled();
        let store = store.with_durability(Durability::Deferred);
        group.bench_function(history, |bencher| {
            bencher.iter_batched(
                || {
                    let mut transaction = store.begin().wait().expect("a store that is open");
                    for _ in 0..10_000 {
                        // Long enough for the entry alone, and what comes just behind it.
                        let key = keys.known();
                        let mut range = transaction.range(&key[..]..);
                        range.next_key_with(|_| ()).wait().expect("a whole store");
                    }
                    for _ in 0..10_000 {
                        let (key, value) = (keys.unknown(), keys.value());
                        store.put(key, value).wait().expect("room in memory");
                    }
                    if history == "read-again" {
                        // It goes past the journals.
                        let mut large = store.begin_alone().wait().expect("a store that is open");
                        let value = vec![7; 1 << 10];
                        for number in 0..20_000u32 {
                            let key = [&[0xff; 8][..], &number.to_be_bytes()].concat();
                            large.put(key, &value).wait().expect("room in memory");
                        }
                        large.commit().wait().expect("nobody else commits");
                    }
                    transaction.put("last", "1").wait().expect("room in memory");
                    transaction
                },
                |transaction| {
                    transaction
                        .commit()
                        .wait()
                        .expect("nothing it read changed")
                },
                BatchSize::PerIteration,
            );
        });
    }
}
