//! A store from the outside: what a first user does with it.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::Path;

use thunderhead::{Durability, ErrorKind, Options, Store, inspect};

type Outcome = Result<(), Box<dyn Error>>;

/// Panics if anything is wrong with the store in a file.
fn assert_sound(path: &Path) -> Outcome {
    let mut findings = Vec::new();
    let summary = inspect::verify_file(path, |event| {
        if let inspect::Event::Finding(finding) = event {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    })?;
    assert!(
        summary.is_sound() && findings.is_empty(),
        "{findings:#?} {summary:?}"
    );
    Ok(())
}

#[test]
fn what_was_committed_is_there_after_reopening() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let store = Store::create(&path)?;
    store.put("b", "2").wait()?;
    store.put("a", "1").wait()?;
    store.delete("b").wait()?;
    store
        .with_durability(Durability::Deferred)
        .put("c", "3")
        .wait()?;
    assert_eq!(store.get("a").wait()?.as_deref(), Some(&b"1"[..]));
    drop(store);
    for clean in [false, true, true] {
        let store = Store::open(&path)?;
        assert_eq!(store.len().wait()?, 2);
        let mut keys = Vec::new();
        for entry in store.iter() {
            keys.push(entry?.0);
        }
        assert_eq!(keys, [b"a", b"c"]);
        match clean {
            true => store.close().wait()?,
            false => drop(store),
        }
        assert_sound(&path)?;
    }
    Ok(())
}

#[test]
fn a_second_opener_is_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let store = Store::create(&path)?;
    assert_eq!(Store::open(&path).unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(
        Options::new().read_only().open(&path).unwrap_err().kind(),
        ErrorKind::Locked
    );
    drop(store);
    let one = Options::new().read_only().open(&path)?;
    let two = Options::new().read_only().open(&path)?;
    assert_eq!(
        one.put("a", "b").wait().unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    assert!(two.is_empty().wait()?);
    Ok(())
}

#[test]
fn a_transaction_sees_its_own_writes_and_nobody_else_does() -> Outcome {
    let store = Store::in_memory()?;
    store.put("a", "old").wait()?;
    let mut transaction = store.begin().wait()?;
    transaction.put("a", "new").wait()?;
    transaction.put("b", vec![7; 100_000]).wait()?;
    transaction.delete_range("x"..).wait()?;
    assert_eq!(transaction.get("a").wait()?.as_deref(), Some(&b"new"[..]));
    assert_eq!(
        transaction.get("b").wait()?.map(|value| value.len()),
        Some(100_000)
    );
    assert_eq!(transaction.iter().count(), 2);
    assert_eq!(transaction.len().wait()?, 2);
    assert_eq!(store.get("a").wait()?.as_deref(), Some(&b"old"[..]));
    assert!(store.get("b").wait()?.is_none());
    transaction.commit().wait()?;
    assert_eq!(
        store.get("b").wait()?.map(|value| value.len()),
        Some(100_000)
    );
    let mut transaction = store.begin().wait()?;
    transaction.delete_range(..).wait()?;
    assert!(transaction.is_empty().wait()?);
    drop(transaction);
    assert_eq!(store.len().wait()?, 2);
    Ok(())
}

#[test]
fn a_large_transaction_goes_straight_into_the_tree() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    for transaction_bytes in [64 << 20, 1 << 20] {
        let options = Options::new()
            .transaction_bytes(transaction_bytes)
            .cache_bytes(8 << 20);
        let store = options.create(&path)?;
        store.put("small", "before").wait()?;
        let mut random = fastrand::Rng::with_seed(7);
        let mut transaction = store.begin().wait()?;
        for _ in 0..100_000 {
            let key: [u8; 24] = std::array::from_fn(|_| random.u8(..));
            transaction.put(key, [1; 150]).wait()?;
        }
        assert_eq!(transaction.len().wait()?, 100_001);
        let sequence = transaction.commit().wait()?;
        assert_eq!(sequence, store.sequence());
        store.put("small", "after").wait()?;
        drop(store);
        let store = options.open(&path)?;
        assert_eq!(store.len().wait()?, 100_001);
        assert_eq!(store.iter().count(), 100_001);
        assert_eq!(store.get("small").wait()?.as_deref(), Some(&b"after"[..]));
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let key: [u8; 24] = std::array::from_fn(|_| random.u8(..));
            assert!(store.contains_key(key).wait()?);
        }
        store.close().wait()?;
        assert_sound(&path)?;
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

#[test]
fn a_transaction_in_order_goes_into_the_tree_in_steps_and_may_lose_its_order() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let options = Options::new().cache_bytes(8 << 20);
    let store = options.create(&path)?;
    store.put(7u32.to_be_bytes(), "before").wait()?;
    let count = 200_000u32;
    let mut transaction = store.begin().wait()?;
    for number in 0..count {
        transaction.put(number.to_be_bytes(), [1; 150]).wait()?;
        if number % 50_000 == 0 {
            let first = transaction.get(7u32.to_be_bytes()).wait()?;
            let expected = if number < 7 {
                &b"before"[..]
            } else {
                &[1; 150]
            };
            assert_eq!(first.as_deref(), Some(expected));
        }
    }
    transaction
        .delete_range(100u32.to_be_bytes()..150_000u32.to_be_bytes())
        .wait()?;
    for number in (120_000..120_010u32).rev() {
        transaction.put(number.to_be_bytes(), "again").wait()?;
    }
    assert_eq!(transaction.len().wait()?, 50_110);
    transaction.commit().wait()?;
    store.close().wait()?;
    assert_sound(&path)?;
    let store = options.open(&path)?;
    assert_eq!(store.len().wait()?, 50_110);
    assert_eq!(store.iter().count(), 50_110);
    let again = store.get(120_003u32.to_be_bytes()).wait()?;
    assert_eq!(again.as_deref(), Some(&b"again"[..]));
    Ok(())
}

#[test]
fn a_batch_in_order_waits_for_no_transaction_before_its_budget_is_spent() -> Outcome {
    let store = Store::in_memory()?;
    let transaction = store.begin().wait()?;
    let mut batch = store.batch();
    for number in 0..80_000u32 {
        // It would wait for the transaction, which this very thread has open.
        batch.put(number.to_be_bytes(), [1; 150]).wait()?;
    }
    drop(transaction);
    batch.commit().wait()?;
    assert_eq!(store.len().wait()?, 80_000);
    Ok(())
}

#[test]
fn many_flushes_and_checkpoints_lose_nothing() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let options = Options::new()
        .journal_bytes(64 << 10)
        .checkpoint_log_bytes(512 << 10)
        .cache_bytes(4 << 20);
    let store = options.create(&path)?.with_durability(Durability::Buffered);
    let mut map = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..60_000u32 {
        let key = random.u32(..20_000).to_be_bytes();
        if random.u8(..4) == 0 {
            store.delete(key).wait()?;
            map.remove(&key);
        } else {
            let value = round.to_le_bytes().repeat(random.usize(1..20));
            store.put(key, &value).wait()?;
            map.insert(key, value);
        }
    }
    for _ in 0..2 {
        assert_eq!(store.len().wait()?, map.len() as u64);
        for (entry, (key, value)) in store.iter().zip(&map) {
            let (found_key, found) = entry?;
            assert_eq!((found_key.as_slice(), &found[..]), (&key[..], &value[..]));
        }
    }
    println!("{:?}", store.stats());
    drop(store);
    assert_sound(&path)?;
    let store = options.open(&path)?;
    assert_eq!(store.len().wait()?, map.len() as u64);
    for (entry, (key, value)) in store.iter().rev().zip(map.iter().rev()) {
        let (found_key, found) = entry?;
        assert_eq!((found_key.as_slice(), &found[..]), (&key[..], &value[..]));
    }
    let summary = store.verify(|_| ControlFlow::Continue(())).wait()?;
    assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
    store.close().wait()?;
    assert_sound(&path)?;
    Ok(())
}

#[test]
fn the_defaults_fit_segments_of_every_size() -> Outcome {
    let directory = tempfile::tempdir()?;
    for segment_bytes in [64 << 10, 256 << 10, 1 << 20, 4 << 20] {
        let path = directory.path().join(format!("{segment_bytes}"));
        let options = Options::new().segment_bytes(segment_bytes);
        let store = options.create(&path)?.with_durability(Durability::Buffered);
        for key in 0..3_000u32 {
            store.put(key.to_be_bytes(), [7; 300]).wait()?;
        }
        store.put("large", vec![8; 3 << 20]).wait()?;
        let mut transaction = store.begin().wait()?;
        for key in 3_000..9_000u32 {
            transaction.put(key.to_be_bytes(), [7; 300]).wait()?;
        }
        transaction.commit().wait()?;
        store.close().wait()?;
        let store = options.open(&path)?;
        assert_eq!(store.len().wait()?, 9_001);
        assert_eq!(store.value_length("large").wait()?, Some(3 << 20));
    }
    Ok(())
}

#[test]
fn compaction_gives_back_what_deletions_left() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let options = Options::new().segment_bytes(1 << 20).reserve_bytes(0);
    let store = options.create(&path)?.with_durability(Durability::Buffered);
    let mut random = fastrand::Rng::with_seed(5);
    let mut map = BTreeMap::new();
    let mut transaction = store.begin().wait()?;
    for number in 0..60_000u32 {
        let key: [u8; 16] = std::array::from_fn(|_| random.u8(..));
        let value = vec![number as u8; if number % 1000 == 0 { 30_000 } else { 100 }];
        transaction.put(key, &value).wait()?;
        map.insert(key, value);
    }
    transaction.commit().wait()?;
    store.checkpoint().wait()?;
    let full = std::fs::metadata(&path)?.len();
    for key in map.keys().copied().collect::<Vec<_>>() {
        if random.u8(..4) != 0 {
            store.delete(key).wait()?;
            map.remove(&key);
        }
    }
    let mut told = 0;
    let report = store
        .compact_with(|_| {
            told += 1;
            std::ops::ControlFlow::Continue(())
        })
        .wait()?;
    assert!(told > 1 && report.pages_moved > 0, "{report:?}");
    let compacted = std::fs::metadata(&path)?.len();
    println!(
        "{full} bytes, then {compacted}: {report:?} {:?}",
        store.stats()
    );
    let live: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    let most = live as u64 * 23 / 20 + (1 << 20);
    assert!(compacted < most, "{compacted} of {full} bytes for {live}");
    for _ in 0..2 {
        assert_eq!(store.len().wait()?, map.len() as u64);
        for (entry, (key, value)) in store.iter().zip(&map) {
            let (found_key, found) = entry?;
            assert_eq!((found_key.as_slice(), &found[..]), (&key[..], &value[..]));
        }
        store.put("more", "writes").wait()?;
        store.delete("more").wait()?;
    }
    store.close().wait()?;
    assert_sound(&path)?;
    let store = options.open(&path)?;
    assert_eq!(store.len().wait()?, map.len() as u64);
    Ok(())
}

#[test]
fn under_load_checkpoints_come_and_neither_the_log_nor_the_file_grows_on() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let options = Options::new()
        .segment_bytes(1 << 20)
        .cache_bytes(16 << 20)
        .journal_bytes(64 << 10)
        .checkpoint_log_bytes(1 << 20);
    let store = options.create(&path)?.with_durability(Durability::Buffered);
    let mut random = fastrand::Rng::with_seed(6);
    let update = |random: &mut fastrand::Rng, batches: usize| -> Outcome {
        for _ in 0..batches {
            let mut transaction = store.begin().wait()?;
            for _ in 0..100 {
                let key = random.u32(..20_000).reverse_bits().to_be_bytes();
                transaction.put(key, [random.u8(..); 100]).wait()?;
            }
            transaction.commit().wait()?;
        }
        Ok(())
    };
    update(&mut random, 1500)?;
    let (early, length) = (store.stats(), std::fs::metadata(&path)?.len());
    update(&mut random, 3000)?;
    let (late, grown) = (store.stats(), std::fs::metadata(&path)?.len());
    assert!(late.checkpoints > early.checkpoints + 5, "{late:?}");
    assert!(late.log_space_bytes < 32 << 20, "{late:?}");
    assert!(grown < length * 3 / 2, "{length} bytes, then {grown}");
    store.close().wait()?;
    assert_sound(&path)
}

#[test]
fn an_estimate_is_exact_where_nothing_is_pending_and_narrow_where_little_is() -> Outcome {
    let store = Store::in_memory()?;
    let key = |number: u32| format!("key {number:06}");
    let mut batch = store.batch();
    for number in 0..20_000 {
        batch.put(key(number), [7; 100]).wait()?;
    }
    batch.commit().wait()?;
    store.compact().wait()?;
    let all = store.estimate(..).wait()?;
    assert_eq!(all.entries, 20_000..=20_000);
    let some = store.estimate(key(1_234)..key(17_001)).wait()?;
    assert_eq!(some.entries, 15_767..=15_767);
    // Both ends are in the midst of a page each, and of the nodes above.
    assert!(*some.bytes.start() > 1_000_000 && *some.bytes.end() < 2_500_000);
    assert!(some.bytes.end() - some.bytes.start() < 100_000);
    for number in 0..50 {
        store.put(key(number * 300), "another").wait()?;
        store.delete(key(number * 300 + 1)).wait()?;
    }
    let exact = store.count(..).wait()?;
    let all = store.estimate(..).wait()?;
    assert!(all.entries.contains(&exact));
    assert!(all.entries.end() - all.entries.start() <= 100);
    assert_eq!(store.estimate("b".."a").wait()?.entries, 0..=0);
    Ok(())
}

#[test]
fn an_estimate_knows_of_large_values_wherever_they_wait() -> Outcome {
    let store = Store::in_memory()?;
    let key = |number: u32| format!("key {number:06}");
    for number in 0..20_000 {
        store.put(key(number), "small").wait()?;
    }
    store.checkpoint().wait()?;
    store.put(key(10_000), vec![7; 4 << 20]).wait()?;
    store.checkpoint().wait()?;
    for range in [key(0)..key(20_000), key(5_000)..key(15_000)] {
        assert!(*store.estimate(range).wait()?.bytes.end() >= 4 << 20);
    }
    // When it has come to its leaf, it counts once, for sure.
    store.compact().wait()?;
    let settled = store.estimate(..).wait()?.bytes;
    assert!(
        *settled.start() >= 4 << 20 && *settled.end() < 6 << 20,
        "{settled:?}"
    );
    Ok(())
}

#[test]
fn levels_are_what_verifying_counts() -> Outcome {
    let options = Options::new().settings(thunderhead::format::Settings::tiny());
    let options = options.maintenance(thunderhead::Maintenance::Caller);
    let store = options.open_disk(thunderhead::disk::MemoryDisk::new())?;
    assert_eq!(store.levels().wait()?, []);
    let quick = store.with_durability(Durability::Deferred);
    for number in 0..900u32 {
        let key = format!("{:04}", number * 7919 % 1000);
        match number % 5 {
            0 => quick.delete(key).wait()?,
            _ => quick.put(key, "a value").wait()?,
        };
    }
    let verified = store.verify(|_| ControlFlow::Continue(())).wait()?.user;
    let levels = store.levels().wait()?;
    let sum = |of: fn(&thunderhead::Level) -> u64| levels.iter().map(of).sum::<u64>();
    assert_eq!(levels.len(), verified.levels as usize);
    assert_eq!(levels[0].nodes, verified.leaves);
    assert_eq!(levels[0].entries, verified.entries);
    assert_eq!(
        sum(|level| level.nodes),
        verified.leaves + verified.interior_nodes
    );
    assert_eq!(sum(|level| level.slices), verified.slices);
    assert_eq!(sum(|level| level.pending), verified.unresolved);
    let bytes = sum(|level| level.node_bytes + level.slice_bytes);
    assert_eq!(bytes, verified.page_bytes);
    assert!(
        levels
            .iter()
            .all(|level| level.fill > 0.0 && level.fill <= 1.0)
    );
    Ok(())
}

#[test]
fn a_reserved_value_that_no_store_could_hold_is_refused_before_memory_is_taken() {
    let store = Store::in_memory().unwrap();
    let refused = store.put_reserved("key", usize::MAX, |_| ()).wait();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut batch = store.batch();
    let refused = batch.put_reserved("key", usize::MAX, |_| ()).wait();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument);
    batch.put("other", "value").wait().unwrap();
    batch.commit().wait().unwrap();
    assert_eq!(store.len().wait().unwrap(), 1);
}
