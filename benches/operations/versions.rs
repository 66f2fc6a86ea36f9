//! What is done with versions that are kept, and with copies of subtrees. How long giving names takes is in
//! `writes`; what diffs cost, and what keeping many versions does, have programs of their own.

use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use thunderhead::{Decision, Durability, Options, Store};

use crate::data::{ENTRIES, Keys, in_file, load};

/// A store in a file, with a snapshot that has a name.
fn named() -> (tempfile::TempDir, Store, Keys) {
    let (directory, store) = in_file(&Options::new().durability(Durability::Deferred));
    let mut keys = Keys::new(ENTRIES);
    load(&store, &mut keys);
    let saved = store.snapshots().save("here").wait();
    saved.expect("a name that is new");
    (directory, store, keys)
}

/// Going back to a snapshot, and lines of versions that begin at it. Each waits for the disk.
pub fn lines(criterion: &mut Criterion) {
    let (_directory, store, mut keys) = named();
    let (snapshots, branches) = (store.snapshots(), store.branches());
    let mut group = criterion.benchmark_group("version");
    group.sample_size(20);
    let mut number = 0u64;
    group.bench_function("restore-and-forget", |bencher| {
        bencher.iter(|| {
            number += 1;
            let before = number.to_be_bytes();
            let restored = snapshots.restore("here", before).wait();
            restored.expect("a name that is there");
            snapshots.delete(before).wait().expect("room on the disk")
        });
    });
    group.bench_function("branch/create-and-delete", |bencher| {
        bencher.iter(|| {
            let created = branches.create("beside", "here").wait();
            drop(created.expect("a name that is new"));
            branches.delete("beside").wait().expect("room on the disk")
        });
    });
    let branch = branches.create("beside", "here").wait();
    let branch = branch.expect("a name that is new");
    group.bench_function("branch/one-put", |bencher| {
        bencher.iter_batched(
            || (keys.known(), keys.value()),
            |(key, value)| {
                let mut transaction = branch.begin().wait().expect("a branch that is there");
                transaction.put(key, value).wait().expect("room in memory");
                transaction.commit().wait().expect("nobody else commits")
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Copies of subtrees, and bringing two together that went apart.
pub fn copies(criterion: &mut Criterion) {
    let (_directory, store, mut keys) = named();
    let value = keys.value();
    let mut group = criterion.benchmark_group("copy");
    group.sample_size(20);
    // Never a prefix of what it goes to.
    let mut prefix = || [keys.known()[0] & 0x7f];
    group.bench_function("clone_range/400-pairs", |bencher| {
        bencher.iter(|| {
            let copied = store.clone_range(prefix(), [0xff; 3]).wait();
            copied.expect("room on the disk")
        });
    });
    let put = store.put("of 4 MiB: it", vec![7; 4 << 20]).wait();
    put.expect("room on the disk");
    group.bench_function("clone_range/4-MiB", |bencher| {
        bencher.iter(|| {
            let copied = store.clone_range("of 4 MiB", "copy").wait();
            copied.expect("room on the disk")
        });
    });
    group.bench_function("reconcile/ten-of-400", |bencher| {
        bencher.iter_batched(
            || {
                let ours = store.subtree(prefix());
                let base = ours.snapshot();
                let changed = ours.range(..).keys().take(10);
                let changed: Vec<_> = changed.map(|key| key.expect("a whole store")).collect();
                for key in &changed {
                    ours.put(key, value).wait().expect("room in memory");
                }
                // What they have; ours is as it was.
                let theirs = ours.snapshot();
                for key in &changed {
                    let before = base.get(key).wait().expect("a whole store");
                    let before = before.expect("a key that is there");
                    ours.put(key, before).wait().expect("room in memory");
                }
                (ours, base, theirs)
            },
            |(ours, base, theirs)| {
                let decide = |_| async { Ok(Decision::Theirs) };
                let done = ours.reconcile(&base, &theirs, decide).wait();
                black_box(done.expect("nobody else commits"))
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}
