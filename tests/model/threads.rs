//! The same calls awaited, and from many threads: readers see whole commits only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use futures::{StreamExt, TryStreamExt};
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{Durability, Maintenance, Options};

use crate::append::Append;

#[test]
fn every_call_can_be_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new()
        .settings(Settings::tiny())
        .journal_bytes(256)
        .cache_bytes(1 << 20)
        .merge_operator(Append);
    block_on(async {
        let store = options.create(directory.path().join("store")).unwrap();
        for key in 0..50u8 {
            store.put([key], vec![key; 3000]).await.unwrap();
            store
                .put_reserved([key, 0], 4, |bytes| bytes.fill(key))
                .await
                .unwrap();
        }
        store.delete([1]).await.unwrap();
        store.merge([2, 0], "append", "!").await.unwrap();
        store
            .delete_range([40].as_slice()..[45].as_slice())
            .await
            .unwrap();
        let snapshot = store.snapshot();
        let mut transaction = store.begin().await.unwrap();
        transaction.put("own", "write").await.unwrap();
        assert_eq!(transaction.len().await.unwrap(), 90);
        assert_eq!(StreamExt::count(transaction.iter()).await, 90);
        transaction.commit().await.unwrap();
        while store.maintain().await.unwrap() {}
        store.checkpoint().await.unwrap();
        store.sync().await.unwrap();
        assert_eq!(
            store.get([2, 0]).await.unwrap().as_deref(),
            Some(&[2, 2, 2, 2, b'!'][..])
        );
        assert_eq!(store.get_with([7], <[u8]>::len).await.unwrap(), Some(3000));
        assert_eq!(
            store.get_part([7], 2999, 5).await.unwrap().as_deref(),
            Some(&[7][..])
        );
        assert_eq!(store.value_length([7]).await.unwrap(), Some(3000));
        assert!(!store.contains_key([1]).await.unwrap());
        assert_eq!(store.first().await.unwrap().unwrap().0, [0]);
        assert_eq!(store.last().await.unwrap().unwrap().0, b"own");
        assert_eq!(store.nth(1).await.unwrap().unwrap().0, [0, 0]);
        assert_eq!(
            store.count([7].as_slice()..[8].as_slice()).await.unwrap(),
            2
        );
        let streamed: Vec<_> = store.iter().try_collect().await.unwrap();
        let waited: Vec<_> = Iterator::map(store.iter(), Result::unwrap).collect();
        assert_eq!(streamed.len(), 90);
        for (streamed, waited) in streamed.iter().zip(&waited) {
            assert!(streamed.0 == waited.0 && streamed.1 == waited.1);
        }
        assert_eq!(waited.len(), 90);
        assert_eq!(snapshot.len().await.unwrap(), 89);
        drop(snapshot);
        let snapshots = store.snapshots();
        snapshots.save("one").await.unwrap();
        snapshots.save_with("two", "bytes").await.unwrap();
        snapshots.rename("one", "three").await.unwrap();
        assert!(snapshots.get("one").await.unwrap().is_none());
        let opened = snapshots.open("three").await.unwrap();
        assert_eq!(opened.len().await.unwrap(), 90);
        let by_name: Vec<_> = snapshots.list().try_collect().await.unwrap();
        let by_time: Vec<_> = snapshots.by_time(..).try_collect().await.unwrap();
        assert_eq!(by_name[0].name, b"three");
        assert_eq!((&by_name[0], &by_name[1]), (&by_time[0], &by_time[1]));
        assert!(snapshots.delete("two").await.unwrap());
        assert_eq!(snapshots.delete_range(..).await.unwrap(), 1);
        assert_eq!(snapshots.retain(|_| false).await.unwrap(), 0);
        assert!(snapshots.is_empty().await.unwrap());
        drop(snapshots);
        store.close().await.unwrap();
    });
}

#[test]
fn tasks_of_one_thread_commit_together() {
    let store = Options::new().open_disk(MemoryDisk::new()).unwrap();
    let mut pool = LocalPool::new();
    for task in 0..20u8 {
        let store = store.clone();
        let work = async move {
            for round in 0..20u8 {
                store.put([task, round], [round]).await.unwrap();
                let counted = store.transact(|mut attempt| async move {
                    let count = attempt.get("count").await?;
                    let count = count.map_or(0, |count| count[0] as u16 * 256 + count[1] as u16);
                    attempt.put("count", (count + 1).to_be_bytes()).await
                });
                counted.await.unwrap();
            }
        };
        pool.spawner().spawn_local(work).unwrap();
    }
    pool.run();
    assert_eq!(store.len().wait().unwrap(), 401);
    let count = store.get("count").wait().unwrap().unwrap();
    assert_eq!(count, 400u16.to_be_bytes());
}

/// How many keys a transaction writes the same number to.
const COPIES: u64 = 12;

#[test]
fn readers_beside_writers_see_whole_commits() {
    for settings in [Settings::tiny(), Settings::default()] {
        let options = Options::new()
            .settings(settings)
            .journal_bytes(4 << 10)
            .checkpoint_log_bytes(64 << 10)
            .cache_bytes(1 << 20)
            .maintenance(Maintenance::Background)
            .durability(Durability::Buffered);
        let disk = MemoryDisk::new().with_segment_bytes(1 << 20);
        let store = options.open_disk(disk).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let (mut newest, mut rounds) = (0, 0u64);
                        while !done.load(Ordering::Relaxed) {
                            rounds += 1;
                            let snapshot = store.snapshot();
                            let mut numbers = Vec::new();
                            match rounds % 3 {
                                0 => {
                                    for entry in snapshot.prefix("copy") {
                                        numbers.push(entry.unwrap().1);
                                    }
                                }
                                1 => {
                                    for entry in store.prefix("copy").rev() {
                                        numbers.push(entry.unwrap().1);
                                    }
                                }
                                _ => {
                                    for copy in 0..COPIES {
                                        let key = format!("copy{copy:03}");
                                        numbers.extend(snapshot.get(key).wait().unwrap());
                                    }
                                }
                            }
                            assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]));
                            assert!(numbers.is_empty() || numbers.len() as u64 == COPIES);
                            let count = snapshot.count("copy".."copz").wait().unwrap();
                            assert!(count == 0 || count == COPIES);
                            if let Some(number) = numbers.first() {
                                let number = u64::from_be_bytes(number[..8].try_into().unwrap());
                                assert!(number >= newest, "time goes backwards");
                                newest = number;
                            }
                        }
                        rounds
                    })
                })
                .collect();
            let other = scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(1);
                while !done.load(Ordering::Relaxed) {
                    let key = format!("noise{}", random.u16(..500));
                    match random.u8(..3) {
                        0 => store.delete(key).wait().unwrap(),
                        _ => store.put(key, vec![1; random.usize(..300)]).wait().unwrap(),
                    };
                }
            });
            for number in 1..1500u64 {
                let mut transaction = store.begin().wait().unwrap();
                if number % 10 == 0 {
                    transaction.delete_range("copy".."copz").wait().unwrap();
                }
                let mut value = number.to_be_bytes().to_vec();
                value.resize(if number % 7 == 0 { 90 } else { 8 }, 0);
                for copy in 0..COPIES {
                    let key = format!("copy{copy:03}");
                    transaction.put(key, &value).wait().unwrap();
                }
                if number % 13 == 0 {
                    continue;
                }
                transaction.commit().wait().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            other.join().unwrap();
            for reader in readers {
                assert!(reader.join().unwrap() > 0);
            }
        });
        store.close().wait().unwrap();
    }
}
