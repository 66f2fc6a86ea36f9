//! Values as streams, and changes of parts of them, as one uses them: by waiting and by awaiting.

#[path = "fixtures/around.rs"]
mod around;

use std::future::poll_fn;
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use around::{Around, Before};
use futures::executor::block_on;
use futures::future::try_join;
use futures::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use futures::{StreamExt, TryStreamExt};
use thunderhead::disk::MemoryDisk;
use thunderhead::format::SequenceNumber;
use thunderhead::inspect::{Event, Severity};
use thunderhead::{Compression, ErrorKind, Maintenance, Options, Result, Store};

fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| random.u8(..))
        .take(length)
        .collect()
}

fn options() -> Options {
    Options::new()
        .cache_bytes(4 << 20)
        .journal_bytes(2000)
        .maintenance(Maintenance::Caller)
}

fn check_sound(store: &Store, context: &str) {
    let mut findings = Vec::new();
    let summary = store.verify(|event| {
        if let Event::Finding(finding) = event
            && finding.severity != Severity::Note
        {
            findings.push(finding.to_string());
        }
        ControlFlow::Continue(())
    });
    let summary = summary.wait().expect("verifying");
    assert!(
        summary.is_sound() && findings.is_empty(),
        "{context}: {findings:#?}"
    );
}

fn used_bytes(store: &Store) -> u64 {
    for _ in 0..4 {
        while store.maintain().wait().unwrap() {}
        store.put("a key of no interest", "x").wait().unwrap();
        store.checkpoint().wait().unwrap();
    }
    let statistics = store.stats();
    statistics.tree_bytes + statistics.dropped_bytes
}

#[test]
fn a_value_that_is_not_finished_leaves_nothing() {
    let store = options().open_disk(MemoryDisk::new()).unwrap();
    store.put("k", "before").wait().unwrap();
    let before = used_bytes(&store);
    let mut writer = store.value_writer("k").unwrap();
    writer.write(&content(1, 5_000_000)).wait().unwrap();
    assert_eq!(store.get("k").wait().unwrap().unwrap(), "before");
    drop(writer);
    let mut transaction = store.begin().wait().unwrap();
    let mut writer = transaction.value_writer("k").unwrap();
    writer.write(&content(2, 5_000_000)).wait().unwrap();
    writer.finish().wait().unwrap();
    assert_eq!(
        transaction.value_length("k").wait().unwrap(),
        Some(5_000_000)
    );
    drop(transaction);
    assert_eq!(store.get("k").wait().unwrap().unwrap(), "before");
    assert_eq!(used_bytes(&store), before);
    check_sound(&store, "at the end");
}

#[test]
fn a_stream_outlives_what_it_reads() {
    let store = options().open_disk(MemoryDisk::new()).unwrap();
    let value = content(3, 3_333_333);
    store.put("k", &value).wait().unwrap();
    let mut reader = store.value_reader("k").wait().unwrap().unwrap();
    store
        .write_at("k", 1_000_000, &[0; 1_000_000])
        .wait()
        .unwrap();
    store.truncate("k", 2_500_000).wait().unwrap();
    store.delete("k").wait().unwrap();
    store.checkpoint().wait().unwrap();
    while store.maintain().wait().unwrap() {}
    store.checkpoint().wait().unwrap();
    store.put("other", &value[1..]).wait().unwrap();
    let mut read = Vec::new();
    Read::read_to_end(&mut reader, &mut read).unwrap();
    assert!(read == value);
    assert!(store.value_reader("k").wait().unwrap().is_none());
    check_sound(&store, "at the end");
}

#[test]
fn readers_seek_and_read_by_waiting_and_by_awaiting() {
    let store = Store::in_memory().unwrap();
    let large = content(4, 2_000_000);
    for (key, value) in [
        ("large", &large[..]),
        ("small", b"ab\ncd\nef"),
        ("empty", b""),
    ] {
        store.put(key, value).wait().unwrap();
        let mut reader = store.value_reader(key).wait().unwrap().unwrap();
        let mut read = Vec::new();
        Read::read_to_end(&mut reader, &mut read).unwrap();
        assert!(read == value);
        assert_eq!(Read::read(&mut reader, &mut [0; 9]).unwrap(), 0);
        let half = value.len() / 2;
        Seek::seek(&mut reader, SeekFrom::Start(half as u64)).unwrap();
        read.clear();
        block_on(AsyncReadExt::read_to_end(&mut reader, &mut read)).unwrap();
        assert!(read == value[half..]);
        assert_eq!(
            block_on(AsyncSeekExt::seek(&mut reader, SeekFrom::Current(5))).unwrap(),
            value.len() as u64 + 5
        );
        assert_eq!(Read::read(&mut reader, &mut [0; 9]).unwrap(), 0);
        assert!(Seek::seek(&mut reader, SeekFrom::End(-1 - value.len() as i64)).is_err());
        assert_eq!(
            block_on(reader.read_at(0, 3)).unwrap(),
            value[..value.len().min(3)]
        );
        assert!(reader.read_at(u64::MAX, 3).wait().unwrap().is_empty());
        Seek::seek(&mut reader, SeekFrom::Start(0)).unwrap();
        let chunks: Vec<_> = block_on(reader.chunks().try_collect()).unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= 1 << 20));
        assert!(chunks.concat() == value);
    }
    let reader = store
        .snapshot()
        .value_reader("small")
        .wait()
        .unwrap()
        .unwrap();
    let lines: Vec<_> = BufRead::lines(reader).map(Result::unwrap).collect();
    assert_eq!(lines, ["ab", "cd", "ef"]);
    let chunks = store
        .value_reader("small")
        .wait()
        .unwrap()
        .unwrap()
        .chunks();
    assert_eq!(block_on(StreamExt::count(chunks)), 1);
}

#[test]
fn what_reads_can_be_copied_into_a_value() {
    let store = Store::in_memory().unwrap();
    let value = content(5, 3_500_001);
    let mut writer = store.value_writer("waited").unwrap();
    assert_eq!(
        std::io::copy(&mut &value[..], &mut writer).unwrap(),
        value.len() as u64
    );
    Write::flush(&mut writer).unwrap();
    writer.finish().wait().unwrap();
    block_on(async {
        let mut writer = store.value_writer("awaited")?;
        futures::io::copy(&value[..], &mut writer).await?;
        AsyncWriteExt::close(&mut writer).await?;
        writer.write(b"more").await?;
        writer.finish().await?;
        Ok::<_, std::io::Error>(())
    })
    .unwrap();
    assert!(store.get("waited").wait().unwrap().unwrap() == value);
    let awaited = store.get("awaited").wait().unwrap().unwrap();
    assert!(awaited[..value.len()] == value && awaited[value.len()..] == *b"more");
}

#[test]
fn writers_of_small_values_keep_to_the_memory_of_a_transaction() {
    const MEMORY_BYTES: usize = 64 << 10;
    const COUNT: usize = 20_000;
    let key = |number: usize| format!("number {number:05}");
    let value = |number: usize| content(number as u64, 60);
    let open = || {
        options()
            .transaction_bytes(MEMORY_BYTES)
            .open_disk(MemoryDisk::new())
            .unwrap()
    };
    // What went to the disk counts as committed bytes; the rest is in memory.
    let fill = |store: &Store, put: &mut dyn FnMut(String, Vec<u8>)| {
        let mut sent = store.stats().committed_bytes;
        let mut unsent = 0;
        for number in 0..COUNT {
            let (key, value) = (key(number), value(number));
            unsent += key.len() + value.len();
            put(key, value);
            let now = store.stats().committed_bytes;
            if now > sent {
                (sent, unsent) = (now, 0);
            }
            assert!(unsent <= MEMORY_BYTES, "{unsent} bytes at {number}");
        }
    };
    let check = |store: &Store, context: &str| {
        let mut numbers = 0..COUNT;
        for entry in store {
            let (found, bytes) = entry.unwrap();
            let number = numbers.next().unwrap();
            assert_eq!(found, key(number).as_bytes(), "{context}");
            assert_eq!(bytes, value(number), "{context}");
        }
        assert_eq!(numbers.next(), None, "{context}");
        check_sound(store, context);
    };

    let store = open();
    let mut transaction = store.begin().wait().unwrap();
    fill(&store, &mut |key, value| {
        let mut writer = transaction.value_writer(key).unwrap();
        writer.write(&value).wait().unwrap();
        writer.finish().wait().unwrap();
    });
    assert_eq!(transaction.len().wait().unwrap(), COUNT as u64);
    transaction.commit().wait().unwrap();
    check(&store, "a transaction");

    let store = open();
    let mut batch = store.batch();
    fill(&store, &mut |key, value| {
        let mut writer = batch.value_writer(key).unwrap();
        writer.write(&value).wait().unwrap();
        writer.finish().wait().unwrap();
    });
    batch.commit().wait().unwrap();
    check(&store, "a batch");
}

#[test]
fn limits_are_told() {
    let store = Store::in_memory().unwrap();
    let kind = |result: Result<SequenceNumber>| result.unwrap_err().kind();
    store.put("k", "v").wait().unwrap();
    let before = store.sequence();
    assert_eq!(
        kind(store.write_at("k", 1 << 40, b"x").wait()),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(store.write_at("k", u64::MAX, b"x").wait()),
        ErrorKind::InvalidArgument
    );
    assert_eq!(
        kind(store.append_to(vec![0; 40_000], b"x").wait()),
        ErrorKind::InvalidArgument
    );
    assert!(store.value_writer(vec![0; 40_000]).is_err());
    store.append_to("k", b"").wait().unwrap();
    store.write_at("k", 77, b"").wait().unwrap();
    store.truncate("k", 9).wait().unwrap();
    store.truncate("absent", 0).wait().unwrap();
    assert_eq!(store.sequence(), before, "a commit of nothing");
}

/// Counts the bytes that are saved in this disk. Whoever saves lets others go first.
struct Counting(Arc<AtomicU64>);

impl Before for Counting {
    async fn save(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut waited = false;
        poll_fn(|context| match std::mem::replace(&mut waited, true) {
            true => Poll::Ready(()),
            false => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await;
    }
}

#[test]
fn changing_a_part_costs_the_part_and_a_path() {
    let saved = Arc::new(AtomicU64::new(0));
    let store = Options::new()
        .maintenance(Maintenance::Caller)
        .open_disk(Around(MemoryDisk::new(), Counting(Arc::clone(&saved))))
        .unwrap();
    store.put("k", content(6, 50_000_000)).wait().unwrap();
    store.checkpoint().wait().unwrap();
    let cost = |change: &dyn Fn() -> Result<SequenceNumber>| {
        let before = saved.load(Ordering::Relaxed);
        change().unwrap();
        let bytes = saved.load(Ordering::Relaxed) - before;
        // A block of 32 KiB, a page of level 1, the root, and the log.
        assert!(bytes < 50_000, "{bytes}");
    };
    cost(&|| store.write_at("k", 20_000_000, b"some bytes").wait());
    cost(&|| store.append_to("k", b"some bytes").wait());
    cost(&|| store.truncate("k", 33_000_000).wait());
    check_sound(&store, "before the checkpoint");
    store.checkpoint().wait().unwrap();
    check_sound(&store, "after the checkpoint");
}

#[test]
fn changes_of_parts_take_turns() {
    const ROUNDS: usize = 200;
    // So large that changing a part of it waits for the disk, and the other one's turn comes.
    const BEFORE: usize = 100_000;
    let store = Options::new()
        .open_disk(Around(MemoryDisk::new(), Counting(Arc::default())))
        .unwrap();
    for key in ["grows", "filled", "shrinks"] {
        store.put(key, [9; BEFORE]).wait().unwrap();
    }
    let change = |own: u8| {
        let store = &store;
        async move {
            let mut sequence = store.sequence();
            for round in 0..ROUNDS {
                let at = 2 * round + usize::from(own);
                for changed in [
                    store.append_to("grows", &[own]).await?,
                    store.write_at("filled", at as u64, &[own]).await?,
                    store.truncate("shrinks", (BEFORE - at) as u64).await?,
                ] {
                    assert!(changed >= sequence, "{changed:?} after {sequence:?}");
                    sequence = changed;
                }
            }
            Ok::<_, thunderhead::Error>(())
        }
    };
    block_on(try_join(change(0), change(1))).unwrap();
    let grown = store.get("grows").wait().unwrap().unwrap();
    assert_eq!(grown.len(), BEFORE + 2 * ROUNDS);
    for own in [0, 1] {
        let of_own = grown.iter().filter(|byte| **byte == own).count();
        assert_eq!(of_own, ROUNDS);
    }
    let filled = store.get("filled").wait().unwrap().unwrap();
    assert_eq!(filled.len(), BEFORE);
    assert_eq!(filled[..2 * ROUNDS], [0, 1].repeat(ROUNDS));
    let length = store.value_length("shrinks").wait().unwrap();
    assert_eq!(length, Some((BEFORE - 2 * ROUNDS + 1) as u64));
    check_sound(&store, "at the end");
}

/// Random changes of a few values beside snapshots, with everything that can come between: flushes,
/// checkpoints, compaction, large transactions, reopening.
#[test]
fn changed_values_keep_their_space_in_order() {
    let compressions = [
        Compression::None,
        #[cfg(feature = "lz4")]
        Compression::Lz4,
        #[cfg(feature = "zstd")]
        Compression::Zstd { level: 3 },
    ];
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = MemoryDisk::new().with_segment_bytes(4 << 20);
        let compression = compressions[seed as usize % compressions.len()];
        let open = || {
            options()
                .compression(compression)
                .transaction_bytes(64 << 10)
                .open_disk(disk.clone())
                .unwrap()
        };
        let mut store = Some(open());
        let mut values = vec![None::<Vec<u8>>; 3];
        let mut snapshots = Vec::new();
        for step in 0..60 {
            let context = format!("seed {seed}, step {step}");
            let open_store = store.as_ref().unwrap();
            match random.u8(..20) {
                0..12 => {
                    let mut transaction = open_store.begin().wait().unwrap();
                    let mut own = values.clone();
                    for _ in 0..random.usize(1..4) {
                        let number = random.usize(..3);
                        let key = format!("value {number}");
                        let value = &mut own[number];
                        let length = value.as_ref().map_or(0, Vec::len);
                        let new_bytes = [10, 5000, 70_000, 400_000][random.usize(..4)];
                        let mut bytes = content(step, new_bytes);
                        // Some of it compresses.
                        let from = random.usize(..new_bytes);
                        bytes[from..].fill(step as u8);
                        match random.u8(..8) {
                            0 => {
                                let mut writer = transaction.value_writer(&key).unwrap();
                                writer.write(&bytes).wait().unwrap();
                                writer.finish().wait().unwrap();
                                *value = Some(bytes);
                            }
                            1 => {
                                transaction.delete(&key).wait().unwrap();
                                *value = None;
                            }
                            2 => {
                                let to = random.usize(length / 2..=length);
                                transaction.truncate(&key, to as u64).wait().unwrap();
                                if let Some(value) = value {
                                    value.truncate(to);
                                }
                            }
                            3 | 4 => {
                                transaction.append_to(&key, &bytes).wait().unwrap();
                                value.get_or_insert_default().extend_from_slice(&bytes);
                            }
                            _ => {
                                let at = random.usize(..=length + 1000);
                                transaction
                                    .write_at(&key, at as u64, &bytes)
                                    .wait()
                                    .unwrap();
                                let value = value.get_or_insert_default();
                                value.resize(value.len().max(at + bytes.len()), 0);
                                value[at..at + bytes.len()].copy_from_slice(&bytes);
                            }
                        }
                        if random.u8(..6) == 0 {
                            // More than the log takes.
                            for number in 0..2000 {
                                let key = format!("filling {number}");
                                transaction.put(key, content(step, 40)).wait().unwrap();
                            }
                        }
                        let found = transaction.get(&key).wait().unwrap();
                        assert!(found.as_deref() == own[number].as_deref(), "{context}");
                    }
                    if random.u8(..5) > 0 {
                        transaction.commit().wait().unwrap();
                        values = own;
                    }
                }
                12 => drop(open_store.maintain().wait().unwrap()),
                13 => while open_store.maintain().wait().unwrap() {},
                14 => open_store.checkpoint().wait().unwrap(),
                15 => drop(open_store.compact().wait().unwrap()),
                16 | 17 => snapshots.push((open_store.snapshot(), values.clone())),
                18 if !snapshots.is_empty() => {
                    snapshots.remove(random.usize(..snapshots.len()));
                }
                _ => {
                    snapshots.clear();
                    let closing = store.take().unwrap();
                    match random.bool() {
                        true => closing.close().wait().unwrap(),
                        false => drop(closing),
                    }
                    store = Some(open());
                }
            }
            let open_store = store.as_ref().unwrap();
            for (snapshot, values) in &snapshots {
                let number = random.usize(..3);
                let found = snapshot.get(format!("value {number}")).wait().unwrap();
                assert!(found.as_deref() == values[number].as_deref(), "{context}");
            }
            for (number, value) in values.iter().enumerate() {
                let found = open_store.get(format!("value {number}")).wait().unwrap();
                assert!(
                    found.as_deref() == value.as_deref(),
                    "{context}: value {number}"
                );
            }
            check_sound(open_store, &context);
        }
        snapshots.clear();
        let store = store.unwrap();
        let live: u64 = values
            .iter()
            .flatten()
            .map(|value| value.len() as u64)
            .sum();
        // What changes replaced is let go of when they come to the leaves.
        store.compact().wait().unwrap();
        check_sound(&store, "at the end");
        let used = used_bytes(&store);
        assert!(
            used < live + live / 8 + (2 << 20),
            "seed {seed}: {used} bytes for {live}"
        );
    }
}
