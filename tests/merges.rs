//! Merge operands over what lies outside of the tree: they do not grow without bound.

#[path = "fixtures/append.rs"]
mod append;

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thunderhead::disk::MemoryDisk;
use thunderhead::{Maintenance, MergeOperator, Options, Result, Store};

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
fn operands_over_a_reference_are_no_fewer_than_were_merged() -> Result<()> {
    let disk = MemoryDisk::new();
    let store = open(&disk)?;
    let mut expected = b"target".to_vec();
    store.put("t", &expected).wait()?;
    store.put_reference("r", "t").wait()?;
    let mut old = None;
    for number in 0..OPERANDS {
        store.merge("r", "append", operand(number)).wait()?;
        expected.extend(operand(number));
        if number % 10 == 9 {
            store.checkpoint().wait()?;
        }
        if number == 150 {
            old = Some((store.snapshot(), expected.clone()));
        }
    }
    assert!(store.get("r").wait()?.unwrap() == expected);
    assert_sound(&store)?;
    store.compact().wait()?;
    let (old, before) = old.expect("a snapshot was taken");
    assert!(old.get("r").wait()?.unwrap() == before);
    drop(old);
    store.put("t", "another").wait()?;
    expected.splice(..6, *b"another");
    store.close().wait()?;

    let store = open(&disk)?;
    assert!(store.get("r").wait()?.unwrap() == expected);
    let entry = store.first().wait()?.expect("the reference is the first");
    assert_eq!(entry.0, b"r");
    assert_sound(&store)?;
    store.delete("r").wait()?;
    store.checkpoint().wait()?;
    assert_eq!(store.get("t").wait()?.unwrap(), "another");
    assert_sound(&store)
}

#[test]
fn operands_go_out_of_the_tree_while_their_operator_panics_and_come_back() -> Result<()> {
    /// As [`Append`], but of some operands it will have nothing.
    struct Picky(Arc<AtomicBool>);

    impl MergeOperator for Picky {
        fn name(&self) -> &str {
            "append"
        }

        fn merge(&self, key: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
            assert!(!self.0.load(Ordering::SeqCst), "not today");
            Append.merge(key, existing, operand, out);
        }
    }

    let panics = Arc::new(AtomicBool::new(true));
    let store = Options::new()
        .merge_operator(Picky(Arc::clone(&panics)))
        .maintenance(Maintenance::Caller)
        .open_disk(MemoryDisk::new())?;
    let mut expected = b"small".to_vec();
    store.put("k", &expected).wait()?;
    store.checkpoint().wait()?;
    for number in 0..OPERANDS / 4 {
        // Large enough to become a value of its own on the way, and then not.
        panics.store(number % 25 != 0, Ordering::SeqCst);
        store.merge("k", "append", operand(number)).wait()?;
        expected.extend(operand(number));
        if number % 5 == 0 {
            store.checkpoint().wait()?;
        }
    }
    store.checkpoint().wait()?;
    panics.store(false, Ordering::SeqCst);
    assert!(store.get("k").wait()?.unwrap() == expected);
    assert_sound(&store)?;
    for number in 0..3 {
        store.merge("k", "append", operand(number)).wait()?;
        expected.extend(operand(number));
        store.checkpoint().wait()?;
        assert!(store.get("k").wait()?.unwrap() == expected);
    }
    assert_sound(&store)?;
    store.delete("k").wait()?;
    store.checkpoint().wait()?;
    assert_sound(&store)
}
