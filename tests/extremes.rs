//! The least and the greatest of each number that the interface takes: it works, or is an error that
//! says so. Nothing panics, hangs, or takes memory or disk without bound.

use std::error::Error;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use thunderhead::disk::{FileDiskOptions, MemoryDisk};
use thunderhead::format::Settings;
use thunderhead::{Durability, ErrorKind, LockMode, Maintenance, Options, Store};

type Outcome = Result<(), Box<dyn Error>>;

const KEYS: u32 = 400;

fn key(number: u32) -> [u8; 20] {
    let mut key = [7; 20];
    key[..4].copy_from_slice(&number.to_be_bytes());
    key
}

/// Writes in all ways, reads, checks and reopens.
fn use_store(options: &Options) -> thunderhead::Result<()> {
    let disk = MemoryDisk::new()
        .with_segment_bytes(256 << 10)
        .with_capacity_bytes(64 << 20);
    let store = options.open_disk(disk.clone())?;
    for number in 0..KEYS {
        let durability = match number % 3 {
            0 => Durability::Immediate,
            1 => Durability::Buffered,
            _ => Durability::Deferred,
        };
        let quick = store.with_durability(durability);
        quick.put(key(number), [number as u8; 50]).wait()?;
    }
    let snapshot = store.snapshot();
    let mut transaction = store.begin().wait()?;
    for number in 0..KEYS {
        let bytes = if number % 100 == 7 { 20_000 } else { 200 };
        transaction.put(key(number), vec![1; bytes]).wait()?;
    }
    transaction.delete_range(key(10)..key(20)).wait()?;
    transaction.commit().wait()?;
    store.snapshots().save("kept").wait()?;
    // It ends, whatever is due.
    let mut steps = 0;
    while store.maintain().wait()? {
        steps += 1;
        assert!(steps < 100_000, "maintenance without end");
    }
    store.checkpoint().wait()?;
    assert_eq!(store.len().wait()?, u64::from(KEYS) - 10);
    assert_eq!(store.iter().count(), KEYS as usize - 10);
    assert_eq!(snapshot.get(key(3)).wait()?.unwrap(), [3; 50]);
    let mut large = Vec::new();
    let mut reader = store.value_reader(key(107)).wait()?.expect("it was put");
    reader
        .read_to_end(&mut large)
        .expect("memory does not fail");
    assert_eq!(large, vec![1; 20_000]);
    drop((snapshot, reader));
    store.close().wait()?;
    let store = options.open_disk(disk)?;
    assert_eq!(store.get(key(3)).wait()?.unwrap(), [1; 200]);
    store.compact().wait()?;
    store.close().wait()
}

fn works_or_is_refused(what: &str, options: &Options) {
    for maintenance in [Maintenance::Caller, Maintenance::Background] {
        match use_store(&options.clone().maintenance(maintenance)) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{what}: {error}"),
        }
    }
}

const USIZES: [usize; 4] = [0, 1, isize::MAX as usize, usize::MAX];
const U64S: [u64; 4] = [0, 1, i64::MAX as u64, u64::MAX];

#[test]
fn each_size_in_the_options() {
    for bytes in USIZES {
        // What is taken as needed may be as much as one likes.
        let unbounded = Options::new().cache_bytes(bytes);
        assert!(use_store(&unbounded).is_ok());
        for options in [Options::new(), unbounded] {
            use_store(&options.clone().transaction_bytes(bytes)).unwrap();
            use_store(&options.clone().journal_bytes(bytes)).unwrap();
            use_store(&options.clone().history_bytes(bytes)).unwrap();
            use_store(&options.clone().readahead_bytes(bytes)).unwrap();
            use_store(&options.clone().checkpoint_log_bytes(bytes as u64)).unwrap();
        }
    }
}

#[test]
fn all_of_them_at_once_and_who_maintains() {
    for bytes in USIZES {
        for maintenance in [Maintenance::Caller, Maintenance::Background] {
            let options = Options::new()
                .cache_bytes(bytes)
                .transaction_bytes(bytes)
                .journal_bytes(bytes)
                .history_bytes(bytes)
                .readahead_bytes(bytes)
                .checkpoint_log_bytes(bytes as u64)
                .maintenance(maintenance);
            use_store(&options).unwrap();
        }
    }
}

#[test]
fn each_interval_of_deferred_commits() {
    for interval in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        use_store(&Options::new().deferred_interval(interval)).unwrap();
    }
}

#[test]
fn a_reserve_that_nobody_can_mean_is_refused_before_there_is_a_file() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    for bytes in [u64::MAX, i64::MAX as u64, (1 << 30) + 1] {
        let options = Options::new().reserve_bytes(bytes);
        let error = options.create(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(options.open_disk(MemoryDisk::new()).is_err());
        assert_eq!(std::fs::read_dir(directory.path())?.count(), 0);
    }
    for bytes in [0, 1, 4096, 8 << 20] {
        use_store(&Options::new().reserve_bytes(bytes))?;
    }
    // More than the disk has: it counts as full.
    let disk = MemoryDisk::new().with_capacity_bytes(48 << 20);
    let store = Options::new().reserve_bytes(1 << 30).open_disk(disk)?;
    store.checkpoint().wait()?;
    let put = (0..100).map(|number| store.put(key(number), "v").wait());
    let refused = put.filter_map(Result::err).next();
    let kind = refused.map(|error| error.kind());
    assert!(matches!(kind, None | Some(ErrorKind::StorageFull)));
    store.delete(key(0)).wait()?;
    store.close().wait()?;
    Ok(())
}

#[test]
fn each_setting_of_a_file() {
    let change = |which: usize, value: u32| {
        let mut settings = Settings::default();
        let small = u16::try_from(value).unwrap_or(u16::MAX);
        match which {
            0 => settings.page_bytes = value,
            1 => settings.leaf_slots_max = small,
            2 => settings.children_max = small,
            3 => settings.inline_bytes_max = value,
            4 => settings.slice_bytes = value,
            5 => settings.push_bytes = value,
            6 => settings.journal_bytes_max = value,
            7 => settings.runs_max = small,
            8 => settings.slice_slots_max = small,
            9 => settings.block_bytes = value,
            _ => settings.log_chunk_bytes = value,
        }
        settings
    };
    for which in 0..11 {
        for value in [0, 1, u32::MAX] {
            let options = Options::new().settings(change(which, value));
            works_or_is_refused(&format!("setting {which} as {value}"), &options);
        }
    }
}

#[test]
fn each_size_of_a_disk() -> Outcome {
    let directory = tempfile::tempdir()?;
    for bytes in [0, 1, 511, 1 << 31, u32::MAX] {
        let path = directory.path().join(format!("store {bytes}"));
        for options in [
            Options::new().segment_bytes(bytes),
            Options::new().sector_bytes(bytes),
        ] {
            let error = options.create(&path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{bytes}: {error}");
        }
        let mut files = FileDiskOptions::default();
        files.segment_bytes = bytes;
        assert!(files.create(&path).is_err());
        let disk = MemoryDisk::new().with_segment_bytes(bytes);
        let error = Options::new().open_disk(disk).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 0);
    for bytes in [0, 1, u64::MAX] {
        let disk = MemoryDisk::new().with_capacity_bytes(bytes);
        match Options::new().open_disk(disk) {
            Ok(store) => store.put("k", "v").wait().map(|_| ())?,
            Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
        }
    }
    Ok(())
}

/// One value in its leaf, and one out of the tree.
fn two_values() -> thunderhead::Result<Store> {
    let store = Store::in_memory()?;
    store.put("small", [1; 10]).wait()?;
    store.put("large", vec![2; 100_000]).wait()?;
    Ok(store)
}

#[test]
fn each_part_of_a_value() -> Outcome {
    let store = two_values()?;
    for (name, length) in [("small", 10), ("large", 100_000)] {
        let reader = store.value_reader(name).wait()?.ok_or("it was put")?;
        for offset in U64S.into_iter().chain([length - 1, length, length + 1]) {
            for count in USIZES {
                let expected = (count as u64).min(length.saturating_sub(offset));
                let part = store.get_part(name, offset, count).wait()?;
                assert_eq!(part.ok_or("it was put")?.len() as u64, expected);
                let read = reader.read_at(offset, count).wait()?;
                assert_eq!(read.len() as u64, expected);
            }
        }
    }
    Ok(())
}

#[test]
fn each_place_to_seek_to() -> Outcome {
    let store = two_values()?;
    for name in ["small", "large"] {
        let mut reader = store.value_reader(name).wait()?.ok_or("it was put")?;
        let length = reader.length();
        for by in [i64::MIN, -1, 0, 1, i64::MAX] {
            for to in [SeekFrom::Current(by), SeekFrom::End(by)] {
                let before = reader.stream_position()?;
                match reader.seek(to) {
                    Ok(at) => assert_eq!(reader.stream_position()?, at),
                    Err(_) => assert_eq!(reader.stream_position()?, before),
                }
            }
        }
        for at in U64S {
            if reader.seek(SeekFrom::Start(at)).is_ok() {
                let left = length.saturating_sub(at);
                assert_eq!(std::io::copy(&mut reader, &mut std::io::sink())?, left);
            }
        }
    }
    Ok(())
}

#[test]
fn each_change_of_a_part() -> Outcome {
    let store = two_values()?;
    for name in ["small", "large", "absent"] {
        let before = store.get(name).wait()?;
        for offset in [
            1 << 40,
            (1 << 40) - 1,
            i64::MAX as u64,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let error = store.write_at(name, offset, b"ab").wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            store.write_at(name, offset, b"").wait()?;
            store.truncate(name, offset).wait()?;
        }
        assert_eq!(store.get(name).wait()?, before);
        store.truncate(name, 1).wait()?;
        store.truncate(name, 0).wait()?;
        let expected = before.map(|_| 0);
        assert_eq!(store.value_length(name).wait()?, expected);
        store.write_at(name, 0, b"z").wait()?;
        assert_eq!(store.get(name).wait()?.ok_or("it was written")?, "z");
    }
    Ok(())
}

#[test]
fn each_length_of_a_reserved_value() -> Outcome {
    let store = Store::in_memory()?;
    let untouched = |_: &mut [u8]| panic!("there cannot be such a value");
    for length in [usize::MAX, isize::MAX as usize, (1 << 40) + 1] {
        let error = store
            .put_reserved("k", length, untouched)
            .wait()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let mut transaction = store.begin().wait()?;
        let error = transaction.put_reserved("k", length, untouched).wait();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
        transaction.commit().wait()?;
        assert!(store.is_empty().wait()?);
    }
    for length in [0, 1] {
        store
            .put_reserved("k", length, |value| value.fill(3))
            .wait()?;
        assert_eq!(store.get("k").wait()?.ok_or("it was put")?, vec![3; length]);
    }
    Ok(())
}

#[test]
fn each_rank_and_each_separator() -> Outcome {
    let store = two_values()?;
    let snapshot = store.snapshot();
    let transaction = store.begin().wait()?;
    for rank in [2, 3, i64::MAX as u64, u64::MAX] {
        assert!(store.nth(rank).wait()?.is_none());
        assert!(snapshot.nth(rank).wait()?.is_none());
        assert!(transaction.nth(rank).wait()?.is_none());
    }
    assert!(store.nth(0).wait()?.is_some() && store.nth(1).wait()?.is_some());
    assert!(store.iter().nth(usize::MAX).is_none());
    assert!(store.iter().nth_back(usize::MAX).is_none());
    for separator in [0, 1, u8::MAX] {
        assert_eq!(store.components(separator).count(), 2);
    }
    Ok(())
}

#[test]
fn each_patience_with_locks() -> Outcome {
    let store = Store::in_memory()?;
    for most in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        drop(
            store
                .lock_within("a".."b", LockMode::Exclusive, most)
                .wait()?,
        );
        let mut transaction = store.begin().wait()?;
        transaction.lock_within(.., LockMode::Shared, most).wait()?;
    }
    let held = store.lock(.., LockMode::Exclusive).wait()?;
    for most in [Duration::ZERO, Duration::from_nanos(1)] {
        let error = store.lock_within("a".."b", LockMode::Shared, most).wait();
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    // Whoever waits for ever does so until the other one is done.
    let waiting = std::thread::spawn({
        let store = store.clone();
        move || {
            store
                .lock_within(.., LockMode::Shared, Duration::MAX)
                .wait()
                .map(drop)
        }
    });
    drop(held);
    waiting.join().expect("it does not panic")?;
    Ok(())
}

#[test]
fn the_shortest_and_the_longest_keys() -> Outcome {
    const KEY_BYTES_MAX: usize = 32 << 10;
    let store = Store::in_memory()?;
    let longest = vec![u8::MAX; KEY_BYTES_MAX];
    let too_long = vec![u8::MAX; KEY_BYTES_MAX + 1];
    for key in [&b""[..], &longest] {
        store.put(key, key).wait()?;
        assert_eq!(store.get(key).wait()?.ok_or("it was put")?, key);
    }
    let refused = |error: thunderhead::Error| {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    };
    refused(store.put(&too_long, "").wait().unwrap_err());
    refused(store.get(&too_long).wait().unwrap_err());
    refused(store.get_with(&too_long, |_| ()).wait().unwrap_err());
    refused(store.contains_key(&too_long).wait().unwrap_err());
    refused(store.delete(&too_long).wait().unwrap_err());
    refused(store.subtree("a").get(&longest).wait().unwrap_err());
    assert_eq!(store.range(..).count(), 2);
    // Ends of ranges may be what no key can be.
    assert_eq!(store.range(&too_long[..]..).count(), 0);
    assert_eq!(store.range(..&too_long[..]).count(), 2);
    assert_eq!(store.count(&longest[..]..=&too_long[..]).wait()?, 1);
    assert_eq!(store.estimate(&too_long[..]..).wait()?.entries, 0..=0);
    store.delete_range(&longest[..]..).wait()?;
    assert_eq!(store.len().wait()?, 1);
    Ok(())
}
