//! Range locks: taking one and giving it up, beside so many others, and being told that one is taken.

use criterion::{BenchmarkId, Criterion};
use thunderhead::{LockMode, RangeGuard, Store};

use crate::data::Keys;

/// One key, that nobody else wants.
pub fn locks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lock");
    for held in [1, 1_000, 1_000_000] {
        let store = Store::in_memory().expect("memory");
        let mut keys = Keys::new(0);
        let mut lock = || {
            let key = keys.unknown();
            let guard = store.lock(key..=key, LockMode::Exclusive).wait();
            guard.expect("nobody has it")
        };
        let others: Vec<RangeGuard> = (0..held).map(|_| lock()).collect();
        group.bench_function(BenchmarkId::new("uncontended", held), |bencher| {
            bencher.iter(&mut lock);
        });
        drop(others);
    }
}

/// One that somebody has: what it costs to be told so.
pub fn tried(criterion: &mut Criterion) {
    let store = Store::in_memory().expect("memory");
    let held = store.lock(.., LockMode::Shared).wait();
    let held = held.expect("nobody has it");
    criterion.bench_function("lock/refused", |bencher| {
        bencher.iter(|| {
            let tried = store.try_lock("a".."b", LockMode::Exclusive).wait();
            assert!(tried.expect("a range that is one").is_none());
        });
    });
    drop(held);
}
