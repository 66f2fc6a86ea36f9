//! Writing what depends on what is there, and batches, where they outgrow their memory.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use thunderhead::{Durability, ErrorKind, Options, Store};

type Outcome = Result<(), Box<dyn Error>>;

/// A store whose transactions outgrow their memory soon.
fn cramped() -> thunderhead::Result<Store> {
    Options::new()
        .transaction_bytes(64 << 10)
        .durability(Durability::Deferred)
        .open_disk(thunderhead::disk::MemoryDisk::new())
}

fn key(number: u32) -> Vec<u8> {
    format!("a key of some length, number {number:06}").into_bytes()
}

fn filled(count: u32) -> thunderhead::Result<Store> {
    let store = cramped()?;
    let mut batch = store.batch();
    for number in 0..count {
        batch.put(key(number), number.to_le_bytes()).wait()?;
    }
    batch.commit().wait()?;
    Ok(store)
}

fn even(value: &[u8]) -> bool {
    value[0] & 1 == 0
}

#[test]
fn extracting_goes_on_over_what_spills() -> Outcome {
    let store = filled(20_000)?;
    let mut transaction = store.begin().wait()?;
    let mut expected = (0..20_000).step_by(2);
    for taken in transaction.extract_if(.., |_, value| even(value)) {
        let (key_found, value) = taken?;
        let number = expected.next().ok_or("too many")?;
        assert_eq!(key_found, key(number));
        assert_eq!(value, number.to_le_bytes());
    }
    assert_eq!(expected.next(), None);
    assert_eq!(transaction.len().wait()?, 10_000);
    transaction.commit().wait()?;
    assert_eq!(store.len().wait()?, 10_000);
    assert_eq!(store.retain_in(.., |_, value| even(value)).wait()?, 10_000);
    assert!(store.is_empty().wait()?);
    Ok(())
}

#[test]
fn what_was_not_asked_for_is_not_extracted() -> Outcome {
    let store = filled(100)?;
    let mut transaction = store.begin().wait()?;
    let taken = transaction.extract_if(key(10).., |_, _| true).take(3);
    assert_eq!(taken.count(), 3);
    transaction.commit().wait()?;
    assert_eq!(store.len().wait()?, 97);
    assert!(store.contains_key(key(13)).wait()?);
    Ok(())
}

#[test]
fn a_batch_that_spills_is_a_transaction_to_others() -> Outcome {
    let store = filled(10)?;
    let mut batch = store.batch();
    for number in 0..5_000 {
        batch.put(key(number), b"batch").wait()?;
    }
    let other = thread::spawn({
        let store = store.clone();
        move || store.put(key(3), "single").wait()
    });
    thread::sleep(Duration::from_millis(20));
    assert!(!other.is_finished());
    let of_batch = batch.commit().wait()?;
    let of_single = other.join().map_err(|_| "panicked")??;
    assert!(of_single > of_batch);
    assert_eq!(store.get(key(3)).wait()?.ok_or("none")?, "single");
    assert_eq!(store.len().wait()?, 5_000);
    Ok(())
}

#[test]
fn a_batch_that_spilled_and_is_dropped_leaves_nothing() -> Outcome {
    let store = filled(10)?;
    store.checkpoint().wait()?;
    while store.maintain().wait()? {}
    let before = store.stats();
    let mut batch = store.batch();
    for number in 0..5_000 {
        batch.put(key(number), b"batch").wait()?;
    }
    batch.put("large", vec![1; 100_000]).wait()?;
    drop(batch);
    let after = store.stats();
    assert_eq!(store.len().wait()?, 10);
    assert_eq!(before.tree_bytes, after.tree_bytes);
    store.put("k", "v").wait()?;
    Ok(())
}

#[test]
fn small_batches_do_not_wait_for_each_other() -> Outcome {
    let store = cramped()?;
    let (mut one, mut other) = (store.batch(), store.batch());
    one.put("k", "one").wait()?;
    other.put("k", "other").wait()?;
    store.put("k", "single").wait()?;
    other.commit().wait()?;
    one.commit().wait()?;
    assert_eq!(store.get("k").wait()?.ok_or("none")?, "one");
    let sequence = store.sequence();
    assert_eq!(store.batch().commit().wait()?, sequence);
    Ok(())
}

#[test]
fn a_panic_in_the_callers_function_changes_nothing() -> Outcome {
    let store = filled(10)?;
    let sequence = store.sequence();
    let update = || store.update(key(1), |_| panic!("on purpose")).wait();
    assert!(catch_unwind(AssertUnwindSafe(update)).is_err());
    let mut seen = 0;
    let retain = || {
        let keep = |_: &[u8], _: &[u8]| {
            seen += 1;
            assert!(seen < 3, "on purpose");
            false
        };
        store.retain_in(.., keep).wait()
    };
    assert!(catch_unwind(AssertUnwindSafe(retain)).is_err());
    assert_eq!(store.sequence(), sequence);
    assert_eq!(store.len().wait()?, 10);
    assert_eq!(store.pop_last().wait()?.ok_or("none")?.0, key(9));
    Ok(())
}

#[test]
fn appending_refuses_what_is_not_the_greatest() -> Outcome {
    let store = filled(10)?;
    let mut transaction = store.begin().wait()?;
    for number in [9, 3] {
        let refused = transaction.append(key(number), "v").wait().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
    for number in 10..10_000 {
        transaction.append(key(number), "v").wait()?;
    }
    transaction.put(key(20_000), "v").wait()?;
    assert!(transaction.append(key(15_000), "v").wait().is_err());
    transaction.delete(key(20_000)).wait()?;
    transaction.append(key(15_000), "v").wait()?;
    transaction.commit().wait()?;
    assert_eq!(store.len().wait()?, 10_001);
    Ok(())
}

#[test]
fn a_cursor_edits_more_than_a_transaction_has_memory_for() -> Outcome {
    let store = cramped()?;
    let key = |number: u32| format!("key {number:06}");
    let mut batch = store.batch();
    for number in 0..10_000 {
        batch.put(key(number), [1; 50]).wait()?;
    }
    batch.commit().wait()?;
    let mut transaction = store.begin().wait()?;
    let mut cursor = transaction.cursor_mut();
    let mut number = 0;
    while cursor.next().wait()? {
        assert_eq!(cursor.key(), Some(key(number).as_bytes()));
        match number % 3 {
            0 => cursor.delete().wait()?,
            1 => cursor.put([2; 400]).wait()?,
            _ => {}
        }
        if number % 300 == 1 {
            // There and back again, over what was just edited.
            assert_eq!(cursor.value().wait()?, Some(&[2; 400][..]));
            assert!(cursor.previous().wait()? != (number == 1));
            assert!(cursor.next().wait()?);
            assert_eq!(cursor.key(), Some(key(number).as_bytes()));
        }
        number += 1;
    }
    assert_eq!(number, 10_000);
    assert!(cursor.delete().wait().is_err());
    drop(cursor);
    transaction.commit().wait()?;
    let mut left = (0..10_000).filter(|number| number % 3 != 0);
    for entry in store.iter() {
        let (found, value) = entry?;
        let number = left.next().expect("no more than were left");
        assert_eq!(found, key(number).as_bytes());
        assert_eq!(value.len(), if number % 3 == 1 { 400 } else { 50 });
    }
    assert_eq!(left.next(), None);
    Ok(())
}
