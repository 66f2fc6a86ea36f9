//! What every public type promises of itself, checked by the compiler: where it can be sent, shared and
//! cloned, and that it borrows nothing.

use thunderhead::disk::{AssertingDisk, DiskModel, FileDisk, MemoryDisk};
use thunderhead::typed::{Table, TypedRange};
use thunderhead::{
    Attempt, Batch, Compaction, Components, Cursor, CursorMut, Durability, Entry, Error, ErrorKind,
    Estimate, Extract, KeyRange, Keys, Level, Maintenance, MergeOperator, Operation, Options, Pin,
    Prefix, Range, RangeGuard, Savepoint, Snapshot, Statistics, Store, Subtree, Transaction, Value,
    ValueChunks, ValueReader, ValueWriter, Watch, Watched,
};

const fn shared<T: Send + Sync>() {}
const fn owned<T: Send + 'static>() {}
const fn kept<T: Send + Sync + 'static>() {}
const fn cloned<T: Clone + Send + Sync + 'static>() {}
const fn unpinned<T: Unpin>() {}

const _: () = {
    // Handles: cheap to clone, used from anywhere.
    cloned::<Store>();
    cloned::<Snapshot>();
    cloned::<Options>();
    cloned::<Table<u64, String>>();
    cloned::<MemoryDisk>();
    // What one thread at a time uses, whichever, for as long as it likes. It can be part of what is
    // shared: whoever moves it has it to himself.
    kept::<Transaction>();
    kept::<Attempt>();
    kept::<Batch>();
    kept::<Range<'static>>();
    kept::<Keys<'static>>();
    kept::<TypedRange<'static, u64, String>>();
    kept::<Cursor<'static>>();
    kept::<Components<'static>>();
    kept::<ValueReader<'static>>();
    kept::<ValueChunks<'static>>();
    kept::<ValueWriter<'static>>();
    kept::<Watch>();
    kept::<RangeGuard>();
    // What borrows a transaction can be sent with it.
    shared::<Cursor<'_>>();
    shared::<CursorMut<'_>>();
    shared::<Extract<'_, fn(&[u8], &[u8]) -> bool>>();
    shared::<Range<'_>>();
    shared::<Savepoint<'_>>();
    shared::<Subtree<'_, Transaction>>();
    shared::<Subtree<'_, Batch>>();
    shared::<ValueReader<'_>>();
    shared::<ValueWriter<'_>>();
    // Streams that need no pinning.
    unpinned::<Range<'static>>();
    unpinned::<Keys<'static>>();
    // Plain values.
    cloned::<Value>();
    cloned::<Entry>();
    cloned::<Watched>();
    cloned::<Durability>();
    cloned::<Maintenance>();
    cloned::<Prefix<Vec<u8>>>();
    cloned::<Estimate>();
    cloned::<Level>();
    cloned::<Pin>();
    cloned::<Compaction>();
    cloned::<ErrorKind>();
    shared::<Error>();
    owned::<Error>();
    shared::<Statistics>();
    owned::<Statistics>();
    shared::<Box<dyn MergeOperator>>();
    shared::<AssertingDisk<MemoryDisk>>();
    shared::<FileDisk>();
};

const fn model<T: DiskModel + Send + Sync + 'static>() {}
const fn range<T: KeyRange>() {}
const fn error<T: std::error::Error>() {}

const _: () = {
    model::<FileDisk>();
    model::<MemoryDisk>();
    model::<AssertingDisk<MemoryDisk>>();
    range::<std::ops::RangeFull>();
    range::<Prefix<&str>>();
    error::<Error>();
};

fn sendable<F: Future + Send>(operation: Operation<F>) {
    drop(operation);
}

/// Futures can be awaited on executors of many threads. Each is dropped unpolled, which does nothing.
#[test]
fn every_operation_can_be_sent() -> thunderhead::Result<()> {
    let store = Store::in_memory()?;
    sendable(store.get("k"));
    sendable(store.get_many(["k"]));
    sendable(store.get_with("k", |_| ()));
    sendable(store.get_part("k", 0, 1));
    sendable(store.value_length("k"));
    sendable(store.contains_key("k"));
    sendable(store.first());
    sendable(store.last());
    sendable(store.len());
    sendable(store.is_empty());
    sendable(store.count(..));
    sendable(store.estimate(..));
    sendable(store.nth(0));
    sendable(store.put("k", "v"));
    sendable(store.delete("k"));
    sendable(store.delete_range(..));
    sendable(store.insert("k", "v"));
    sendable(store.remove("k"));
    sendable(store.put_if_absent("k", "v"));
    sendable(store.compare_exchange("k", None, None));
    sendable(store.update("k", |_| None));
    sendable(store.pop_first());
    sendable(store.pop_last());
    sendable(store.retain_in(.., |_, _| true));
    sendable(store.extract_if(.., |_, _| true));
    sendable(store.begin());
    sendable(store.sync());
    sendable(store.checkpoint());
    sendable(store.maintain());
    sendable(store.levels());
    sendable(store.compact());
    sendable(store.verify(|_| std::ops::ControlFlow::Continue(())));
    let mut cursor = store.cursor();
    sendable(cursor.seek("k"));
    sendable(cursor.next());
    sendable(cursor.previous());
    sendable(cursor.value());
    let mut transaction = store.begin().wait()?;
    sendable(transaction.put("k", "v"));
    sendable(transaction.delete_range(..));
    let mut cursor = transaction.cursor_mut();
    sendable(cursor.next());
    sendable(cursor.put("v"));
    sendable(cursor.delete());
    drop(cursor);
    sendable(transaction.commit());
    assert_eq!(store.sequence().0, 0, "nothing was polled");
    sendable(store.close());
    Ok(())
}
