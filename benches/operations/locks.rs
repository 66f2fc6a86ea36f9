//! Range locks: taking one and giving it up, beside so many others.

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
