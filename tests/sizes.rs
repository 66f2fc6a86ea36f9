//! Operations are small until they need the disk: what they are made of is moved before it runs.

use std::future::Future;

use thunderhead::{Operation, Store};

/// An operation that finds everything in memory must not be a copy of kilobytes.
const BYTES_MAX: usize = 900;

fn is_small<F: Future>(name: &str, operation: &Operation<F>) {
    let bytes = size_of_val(operation);
    assert!(bytes <= BYTES_MAX, "{name} is moved at {bytes} bytes");
}

#[test]
fn operations_on_what_is_in_memory_are_small() {
    let store = Store::in_memory().unwrap();
    is_small("put", &store.put("key", "value"));
    is_small("delete", &store.delete("key"));
    is_small("delete_range", &store.delete_range("a".."b"));
    is_small("merge", &store.merge("key", "operator", "operand"));
    is_small("get", &store.get("key"));
    is_small("get_with", &store.get_with("key", <[u8]>::len));
    is_small("contains_key", &store.contains_key("key"));
    is_small("sync", &store.sync());

    let mut range = store.range("a"..);
    is_small("a range's step", &range.next_with(|_, _| ()));

    let mut batch = store.batch();
    is_small("a batch's put", &batch.put("key", "value"));
    is_small("a batch's delete", &batch.delete("key"));

    let mut transaction = store.begin().wait().unwrap();
    is_small("a transaction's put", &transaction.put("key", "value"));
    is_small("a transaction's delete", &transaction.delete("key"));
    is_small("a transaction's get", &transaction.get("key"));
}
