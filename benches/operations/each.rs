//! Every operation that has no group of its own, one row each: with random keys, on all entries, in
//! memory or deferred, so that it is the operation that is measured, and not the disk.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkGroup, Criterion, measurement::WallTime};
use thunderhead::typed::Table;
use thunderhead::{Durability, Options, Prefix, Result, Store};

use crate::data::{ENTRIES, Key, Keys, in_file, load, settled};

type Group<'g> = BenchmarkGroup<'g, WallTime>;

/// What cannot fail here.
fn sure<T>(result: Result<T>) -> T {
    result.expect("room, and nothing damaged")
}

/// One row: an operation with a key that is in the store.
fn row<T>(group: &mut Group<'_>, name: &str, keys: &mut Keys, mut run: impl FnMut(Key) -> T) {
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || keys.known(),
            |key| black_box(run(key)),
            BatchSize::SmallInput,
        );
    });
}

/// Reads of a store that has everything in its leaves.
pub fn reads(criterion: &mut Criterion) {
    let (store, mut keys) = settled();
    let keys = &mut keys;
    let mut group = criterion.benchmark_group("read");
    let group = &mut group;
    row(group, "value_length", keys, |key| {
        sure(store.value_length(key).wait())
    });
    row(group, "get_part", keys, |key| {
        sure(store.get_part(key, 50, 20).wait())
    });
    let mut several = Keys::new(ENTRIES);
    row(group, "get_many-16", keys, |_| {
        let keys: Vec<_> = (0..16).map(|_| several.known()).collect();
        sure(store.get_many(keys).wait())
    });
    row(group, "first", keys, |_| sure(store.first().wait()));
    row(group, "last", keys, |_| sure(store.last().wait()));
    row(group, "is_empty", keys, |_| sure(store.is_empty().wait()));
    row(group, "prefix/first-entry", keys, |key| {
        store.prefix(&key[..2]).next().map(sure)
    });
    row(group, "keys/ten", keys, |key| {
        store.range(&key[..]..).keys().take(10).map(sure).count()
    });
    row(group, "components/ten", keys, |key| {
        let view = store.subtree(&key[..1]);
        view.components(key[1]).take(10).map(sure).count()
    });
    row(group, "subtree/get", keys, |key| {
        sure(store.subtree(&key[..1]).get(&key[1..]).wait())
    });
    let mut cursor = store.cursor();
    row(group, "cursor/seek", keys, |key| {
        sure(cursor.seek(key).wait())
    });
    row(group, "cursor/seek_back", keys, |key| {
        sure(cursor.seek_back(key).wait())
    });
    row(group, "cursor/next", keys, |_| {
        sure(cursor.next().wait()) || sure(cursor.first().wait())
    });
    row(group, "cursor/previous", keys, |_| {
        sure(cursor.previous().wait()) || sure(cursor.last().wait())
    });
    row(group, "cursor/value", keys, |_| {
        sure(cursor.value().wait()).map(<[u8]>::len)
    });
    row(group, "estimate", keys, |key| {
        sure(store.estimate(&key[..]..).wait())
    });
    row(group, "stats", keys, |_| store.stats().commits);
    row(group, "levels", keys, |_| sure(store.levels().wait()));
}

/// Writes to a store in a file whose commits wait for nothing.
pub fn writes(criterion: &mut Criterion) {
    let options = Options::new().durability(Durability::Deferred);
    let (_directory, store) = in_file(&options);
    let mut keys = Keys::new(ENTRIES);
    load(&store, &mut keys);
    let keys = &mut keys;
    let value = keys.value();
    let mut group = criterion.benchmark_group("write");
    let group = &mut group;
    row(group, "put", keys, |key| sure(store.put(key, value).wait()));
    row(group, "put_reserved", keys, |key| {
        sure(
            store
                .put_reserved(key, value.len(), |room| room.fill(7))
                .wait(),
        )
    });
    row(group, "delete", keys, |key| sure(store.delete(key).wait()));
    row(group, "insert", keys, |key| {
        sure(store.insert(key, value).wait())
    });
    row(group, "remove", keys, |key| sure(store.remove(key).wait()));
    row(group, "put_if_absent", keys, |key| {
        sure(store.put_if_absent(key, value).wait())
    });
    row(group, "compare_exchange", keys, |key| {
        sure(
            store
                .compare_exchange(key, Some(&value), Some(&value))
                .wait(),
        )
    });
    row(group, "update", keys, |key| {
        sure(store.update(key, |_| Some(value.to_vec())).wait())
    });
    row(group, "batch-10", keys, |mut key| {
        let mut batch = store.batch();
        for last in 0..10 {
            key[23] = last;
            sure(batch.put(key, value).wait());
        }
        sure(batch.commit().wait())
    });
    row(group, "transaction/nothing", keys, |_| {
        sure(sure(store.begin().wait()).commit().wait())
    });
    row(group, "transaction/get-and-put", keys, |key| {
        let mut transaction = sure(store.begin().wait());
        black_box(sure(transaction.get(key).wait()));
        sure(transaction.put(key, value).wait());
        sure(transaction.commit().wait())
    });
    row(group, "transaction/dropped", keys, |key| {
        let mut transaction = sure(store.begin().wait());
        sure(transaction.put(key, value).wait());
    });
    row(group, "transaction/savepoint-undone", keys, |key| {
        let mut transaction = sure(store.begin().wait());
        sure(transaction.put(key, value).wait());
        let mut part = transaction.savepoint();
        sure(part.put(&key[1..], value).wait());
        sure(part.roll_back());
        drop(part);
        sure(transaction.commit().wait())
    });
    row(group, "transaction/cursor-edits-10", keys, |key| {
        let mut transaction = sure(store.begin().wait());
        let mut cursor = transaction.cursor_mut_in(&key[..]..);
        for _ in 0..10 {
            if sure(cursor.next().wait()) {
                sure(cursor.put(value).wait());
            }
        }
        drop(cursor);
        sure(transaction.commit().wait())
    });
    // What goes is put back, so that there is always something.
    row(group, "pop_first-and-put", keys, |_| {
        sure(store.pop_first().wait()).map(|(key, value)| sure(store.put(key, value).wait()))
    });
    row(group, "pop_last-and-put", keys, |_| {
        sure(store.pop_last().wait()).map(|(key, value)| sure(store.put(key, value).wait()))
    });
    row(group, "retain_in/some-of-400", keys, |key| {
        sure(
            store
                .retain_in(Prefix(&key[..1]), |key, _| key[1] != 7)
                .wait(),
        )
    });
    row(group, "extract_if/some-of-400", keys, |key| {
        sure(
            store
                .extract_if(Prefix(&key[..1]), |key, _| key[1] == 8)
                .wait(),
        )
    });
    let ordered = store.subtree([0xFF; 30]);
    let mut next = 0u64;
    row(group, "append-10", keys, |_| {
        let mut transaction = sure(ordered.begin().wait());
        for _ in 0..10 {
            next += 1;
            sure(transaction.append(next.to_be_bytes(), value).wait());
        }
        sure(transaction.commit().wait())
    });
    let mut watch = store.watch(.., store.sequence());
    row(group, "put-and-watch", keys, |key| {
        sure(store.put(key, value).wait());
        sure(watch.next_commit().wait())
    });
    drop(watch);
    row(group, "sync", keys, |_| sure(store.sync().wait()));
}

/// References, which cost one more read each, and rows of tables, which cost their encoding.
pub fn layers(criterion: &mut Criterion) {
    const ROWS: Table<u64, [u8; 8]> = Table::new("rows");
    let store = sure(Store::in_memory()).with_durability(Durability::Deferred);
    let mut keys = Keys::new(ENTRIES);
    load(&store, &mut keys);
    let keys = &mut keys;
    let mut names = Keys::new(ENTRIES);
    for _ in 0..1000 {
        let key = names.known();
        sure(
            store
                .put_reference([b"name", &key[..2]].concat(), key)
                .wait(),
        );
    }
    let mut group = criterion.benchmark_group("reference");
    row(&mut group, "put", keys, |key| {
        sure(
            store
                .put_reference([b"name", &key[..2]].concat(), key)
                .wait(),
        )
    });
    row(&mut group, "get", keys, |key| {
        sure(store.get([b"name", &key[..2]].concat()).wait())
    });
    row(&mut group, "range/ten-followed", keys, |_| {
        let range = store.prefix("name").following();
        range.take(10).map(sure).count()
    });
    group.finish();
    let rows = sure(ROWS.of(&store).wait());
    let mut group = criterion.benchmark_group("table");
    let number = |key: Key| u64::from(u16::from_le_bytes([key[0], key[1]]));
    row(&mut group, "put", keys, |key| {
        sure(rows.put(&number(key), &[7; 8]).wait())
    });
    row(&mut group, "get", keys, |key| {
        sure(rows.get(&number(key)).wait())
    });
    row(&mut group, "range/ten", keys, |key| {
        rows.range(number(key)..).take(10).map(sure).count()
    });
}
