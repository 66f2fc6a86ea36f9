//! Merge operands over what lies outside of the tree: they do not grow without bound.

#[path = "fixtures/append.rs"]
mod append;

use std::error::Error;
use std::ops::ControlFlow;

use thunderhead::disk::MemoryDisk;
use thunderhead::{ErrorKind, Options, Result, Store};

use append::Append;

const OPERANDS: usize = 300;
const OPERAND_BYTES: usize = 64 << 10;

fn open(disk: &MemoryDisk) -> Result<Store> {
    Options::new()
        .merge_operator(Append)
        .open_disk(disk.clone())
}

fn assert_sound(store: &Store) -> Result<()> {
    let summary = store.verify(|_| ControlFlow::Continue(())).wait()?;
    assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
    Ok(())
}

/// Not one operand is like the next.
fn operand(number: usize) -> Vec<u8> {
    vec![number as u8; OPERAND_BYTES]
}

#[test]
fn operands_are_merged_into_a_value_outside_of_the_tree() -> Result<(), Box<dyn Error>> {
    let disk = MemoryDisk::new();
    let store = open(&disk)?;
    let mut expected = vec![255; 1 << 20];
    store.put("k", &expected).wait()?;
    store.put("neighbour", "stays").wait()?;
    let old = store.snapshot();
    for number in 0..OPERANDS {
        store.merge("k", "append", operand(number)).wait()?;
        expected.extend(operand(number));
        if number % 10 == 9 {
            store.checkpoint().wait()?;
        }
    }
    assert!(store.get("k").wait()?.unwrap() == expected);
    assert!(old.get("k").wait()?.unwrap() == expected[..1 << 20]);
    assert_sound(&store)?;
    drop(old);
    store.close().wait()?;

    let store = open(&disk)?;
    assert!(store.get("k").wait()?.unwrap() == expected);
    assert_eq!(store.get("neighbour").wait()?.unwrap(), "stays");
    assert_sound(&store)?;
    Ok(())
}

#[test]
fn a_value_and_its_operands_in_one_journal_or_one_transaction_are_resolved() -> Result<()> {
    let disk = MemoryDisk::new();
    let store = open(&disk)?;
    let mut expected = vec![255; 100 << 10];
    let mut transaction = store.begin().wait()?;
    for key in ["a", "b"] {
        transaction.put(key, &expected).wait()?;
    }
    for number in 0..5 {
        transaction.merge("a", "append", operand(number)).wait()?;
    }
    transaction.commit().wait()?;
    for number in 0..5 {
        store.merge("b", "append", operand(number)).wait()?;
        expected.extend(operand(number));
    }
    store.checkpoint().wait()?;
    assert_sound(&store)?;
    for key in ["a", "b"] {
        assert!(store.get(key).wait()?.unwrap() == expected, "{key}");
        store.delete(key).wait()?;
    }
    store.checkpoint().wait()?;
    assert_sound(&store)
}

#[test]
fn too_many_operands_over_a_reference_are_an_error_that_loses_nothing() -> Result<()> {
    let disk = MemoryDisk::new();
    let store = open(&disk)?;
    let mut expected = b"target".to_vec();
    store.put("t", &expected).wait()?;
    store.put_reference("r", "t").wait()?;
    let mut refused = None;
    for number in 0..OPERANDS {
        // The store's thread may be the first to meet it: then the next write is told.
        if let Err(error) = store.merge("r", "append", operand(number)).wait() {
            refused = Some(error);
            break;
        }
        expected.extend(operand(number));
        if number % 10 == 9
            && let Err(error) = store.checkpoint().wait()
        {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("no page takes so many operands");
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    assert!(store.get("r").wait()?.unwrap() == expected);
    drop(store);

    let store = open(&disk)?;
    assert!(store.get("r").wait()?.unwrap() == expected);
    assert_eq!(store.get("t").wait()?.unwrap(), "target");
    Ok(())
}
