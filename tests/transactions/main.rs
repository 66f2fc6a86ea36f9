//! Transactions beside each other: what conflicts and what does not, and who is tried again.

mod watches;

use std::ops::ControlFlow;
use std::thread;

use futures::executor::block_on;
use futures::future::join_all;
use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{
    Durability, Error, ErrorKind, Isolation, Maintenance, MergeOperator, Options, Prefix, Result,
    Store, Transaction,
};

struct Sum;

impl MergeOperator for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn merge(&self, _: &[u8], existing: Option<&[u8]>, operand: &[u8], out: &mut Vec<u8>) {
        let existing = existing.map_or(0, |existing| existing[0]);
        out.push(existing.wrapping_add(operand[0]));
    }
}

fn options() -> Options {
    Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .durability(Durability::Buffered)
        .merge_operator(Sum)
}

/// A store with the keys 10, 20, … 90.
fn store() -> Store {
    filled(&options())
}

fn filled(options: &Options) -> Store {
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    for key in 1..10 {
        store.put(format!("{}", 10 * key), [key]).wait().unwrap();
    }
    store
}

/// What becomes of a transaction that reads, while a change is committed, and puts something else.
fn outcome(
    read: impl Fn(&mut Transaction) -> Result<()>,
    change: impl Fn(&Store) -> Result<()>,
) -> Result<()> {
    let mut results = Vec::new();
    // What was committed since is in the newest journal, in those of the history, or forgotten.
    for (journal_bytes, history_bytes) in [(1 << 20, 1 << 20), (256, 1 << 20), (256, 0)] {
        let options = options()
            .journal_bytes(journal_bytes)
            .history_bytes(history_bytes);
        let store = filled(&options);
        let mut transaction = store.begin().wait()?;
        read(&mut transaction)?;
        transaction.put("result", "1").wait()?;
        change(&store)?;
        if journal_bytes == 256 {
            for number in 0..50u8 {
                store.put([b'8', b'z', number], [0; 100]).wait()?;
            }
            while store.maintain().wait()? {}
        }
        results.push(transaction.commit().wait().map(|_| ()));
    }
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().map(Error::kind))
        .collect();
    assert!(kinds.windows(2).all(|pair| pair[0] == pair[1]), "{kinds:?}");
    results.swap_remove(0)
}

fn assert_conflicts(
    read: impl Fn(&mut Transaction) -> Result<()>,
    change: impl Fn(&Store) -> Result<()>,
) {
    let error = outcome(read, change).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.is_retryable());
}

fn put(key: &'static str) -> impl Fn(&Store) -> Result<()> {
    move |store| store.put(key, "changed").wait().map(|_| ())
}

#[test]
fn a_key_that_was_read_and_changed_is_a_conflict_that_names_it() {
    let read = |transaction: &mut Transaction| transaction.get("20").wait().map(|_| ());
    let error = outcome(read, put("20")).unwrap_err();
    let conflict = error.conflict().unwrap();
    assert_eq!(conflict.low, b"20");
    assert_eq!(conflict.began.0, 9);
    assert_eq!(conflict.changed.unwrap().0, 10);
    assert_eq!(conflict.age(), 1);
    assert!(error.to_string().contains("\"20\""), "{error}");
    for change in [
        |store: &Store| store.delete("20").wait(),
        |store: &Store| store.merge("20", "sum", [1]).wait(),
        |store: &Store| store.delete_range("15".."25").wait(),
        |store: &Store| store.delete_range("20"..).wait(),
    ] {
        assert_conflicts(read, |store| change(store).map(|_| ()));
    }
    for other in ["2", "200", "21", "1"] {
        outcome(read, put(other)).unwrap();
    }
    outcome(read, |store| {
        store.delete_range("200".."30").wait().map(|_| ())
    })
    .unwrap();
}

#[test]
fn a_key_that_was_not_there_is_a_conflict_when_it_comes() {
    for read in [
        |transaction: &mut Transaction| transaction.get("25").wait().map(|_| ()),
        |transaction: &mut Transaction| transaction.contains_key("25").wait().map(|_| ()),
        |transaction: &mut Transaction| transaction.get_many(["10", "25"]).wait().map(|_| ()),
        |transaction: &mut Transaction| transaction.value_length("25").wait().map(|_| ()),
        |transaction: &mut Transaction| transaction.get_part("25", 0, 1).wait().map(|_| ()),
        |transaction: &mut Transaction| transaction.subtree("2").get("5").wait().map(|_| ()),
        |transaction: &mut Transaction| transaction.insert("25", "mine").wait().map(|_| ()),
        |transaction: &mut Transaction| {
            transaction
                .merge("25", "sum", [1])
                .wait()
                .and_then(|()| transaction.get("25").wait().map(|_| ()))
        },
    ] {
        assert_conflicts(read, put("25"));
        outcome(read, put("26")).unwrap();
    }
}

#[test]
fn ranges_conflict_as_far_as_they_were_walked_gaps_included() {
    let two = |transaction: &mut Transaction| {
        let mut range = transaction.range("15".."75");
        assert_eq!(range.next().unwrap()?.0, b"20");
        assert_eq!(range.next().unwrap()?.0, b"30");
        Ok(())
    };
    for inside in ["15", "17", "20", "25", "30"] {
        assert_conflicts(two, put(inside));
    }
    for outside in ["10", "149", "300", "31", "40", "75", "9"] {
        outcome(two, put(outside)).unwrap();
    }
    let back = |transaction: &mut Transaction| {
        let mut range = transaction.range("15".."75");
        assert_eq!(range.next_back().unwrap()?.0, b"70");
        assert_eq!(range.next().unwrap()?.0, b"20");
        Ok(())
    };
    for inside in ["15", "20", "70", "749"] {
        assert_conflicts(back, put(inside));
    }
    for outside in ["21", "30", "69", "75"] {
        outcome(back, put(outside)).unwrap();
    }
    let all = |transaction: &mut Transaction| {
        assert_eq!(transaction.range("15".."75").keys().count(), 6);
        Ok(())
    };
    for inside in ["15", "71", "749"] {
        assert_conflicts(all, put(inside));
    }
    outcome(all, put("75")).unwrap();
    let untouched = |transaction: &mut Transaction| {
        drop(transaction.range(..));
        Ok(())
    };
    outcome(untouched, put("20")).unwrap();
    let leaked = |transaction: &mut Transaction| {
        let mut range = transaction.range("15".."75");
        range.next().unwrap()?;
        std::mem::forget(range);
        Ok(())
    };
    assert_conflicts(leaked, put("60"));
    outcome(leaked, put("75")).unwrap();
}

#[test]
fn cursors_conflict_where_they_went() {
    let sought = |transaction: &mut Transaction| {
        let mut cursor = transaction.cursor_in("15".."75");
        assert!(cursor.seek("35").wait()?);
        assert!(cursor.next().wait()?);
        assert_eq!(cursor.key(), Some(&b"50"[..]));
        Ok(())
    };
    for inside in ["35", "40", "41", "50"] {
        assert_conflicts(sought, put(inside));
    }
    for outside in ["15", "30", "349", "51", "60", "75"] {
        outcome(sought, put(outside)).unwrap();
    }
    let turned = |transaction: &mut Transaction| {
        let mut cursor = transaction.cursor_in("15".."75");
        assert!(cursor.seek("35").wait()?);
        assert!(cursor.previous().wait()?);
        assert_eq!(cursor.key(), Some(&b"30"[..]));
        assert!(!cursor.seek("71").wait()?);
        assert!(cursor.first().wait()?);
        Ok(())
    };
    for inside in ["15", "20", "30", "31", "35", "40", "71", "749"] {
        assert_conflicts(turned, put(inside));
    }
    for outside in ["149", "21", "41", "70", "75"] {
        outcome(turned, put(outside)).unwrap();
    }
    let edited = |transaction: &mut Transaction| {
        let mut cursor = transaction.cursor_mut_in("35"..);
        assert!(cursor.next().wait()?);
        cursor.put("mine").wait()?;
        assert!(cursor.next().wait()?);
        cursor.delete().wait()?;
        assert!(cursor.previous().wait()?);
        Ok(())
    };
    for inside in ["35", "40", "41", "50"] {
        assert_conflicts(edited, put(inside));
    }
    for outside in ["349", "51", "60"] {
        outcome(edited, put(outside)).unwrap();
    }
    // One that is sent to before its bounds was not there.
    let sent_out = |transaction: &mut Transaction| {
        let mut cursor = transaction.cursor_in("35".."75");
        while cursor.next().wait()? {}
        assert!(cursor.seek("15").wait()?);
        assert_eq!(cursor.key(), Some(&b"40"[..]));
        while cursor.next().wait()? {}
        assert!(cursor.seek_back("80").wait()?);
        assert_eq!(cursor.key(), Some(&b"70"[..]));
        Ok(())
    };
    for inside in ["35", "40", "749"] {
        assert_conflicts(sent_out, put(inside));
    }
    for outside in ["15", "20", "30", "349", "75", "80"] {
        outcome(sent_out, put(outside)).unwrap();
    }
    let leaked = |transaction: &mut Transaction| {
        let mut cursor = transaction.cursor_in("15".."75");
        cursor.next().wait()?;
        std::mem::forget(cursor);
        Ok(())
    };
    assert_conflicts(leaked, put("60"));
    let unmoved = |transaction: &mut Transaction| {
        drop(transaction.cursor());
        Ok(())
    };
    outcome(unmoved, put("20")).unwrap();
}

#[test]
fn empty_ranges_counts_and_ends_are_protected_from_phantoms() {
    let empty = |transaction: &mut Transaction| {
        assert_eq!(transaction.range("21".."29").count(), 0);
        Ok(())
    };
    assert_conflicts(empty, put("25"));
    outcome(empty, put("29")).unwrap();
    let count = |transaction: &mut Transaction| {
        assert_eq!(transaction.count("15".."75").wait()?, 6);
        Ok(())
    };
    assert_conflicts(count, put("16"));
    assert_conflicts(count, |store| store.delete("70").wait().map(|_| ()));
    outcome(count, put("75")).unwrap();
    let len = |transaction: &mut Transaction| transaction.len().wait().map(|_| ());
    assert_conflicts(len, put("0"));
    let is_empty = |transaction: &mut Transaction| transaction.is_empty().wait().map(|_| ());
    assert_conflicts(is_empty, put("0"));
    outcome(is_empty, put("11")).unwrap();
    let first = |transaction: &mut Transaction| transaction.first().wait().map(|_| ());
    assert_conflicts(first, put("0"));
    outcome(first, put("11")).unwrap();
    let last = |transaction: &mut Transaction| transaction.last().wait().map(|_| ());
    assert_conflicts(last, put("99"));
    outcome(last, put("89")).unwrap();
    let third = |transaction: &mut Transaction| {
        assert_eq!(transaction.nth(2).wait()?.unwrap().0, b"30");
        Ok(())
    };
    assert_conflicts(third, put("11"));
    assert_conflicts(third, put("30"));
    outcome(third, put("31")).unwrap();
    let beyond = |transaction: &mut Transaction| {
        assert!(transaction.nth(20).wait()?.is_none());
        Ok(())
    };
    assert_conflicts(beyond, put("99"));
    let prefix = |transaction: &mut Transaction| {
        assert_eq!(transaction.count(Prefix("2")).wait()?, 1);
        Ok(())
    };
    assert_conflicts(prefix, put("29"));
    outcome(prefix, put("3")).unwrap();
    let names = |transaction: &mut Transaction| {
        let names: Result<Vec<_>> = transaction.subtree("2").components(b'/').collect();
        assert_eq!(names?, [b"0"]);
        Ok(())
    };
    assert_conflicts(names, put("2x/y"));
    outcome(names, put("3/y")).unwrap();
    let popped = |transaction: &mut Transaction| transaction.pop_first().wait().map(|_| ());
    assert_conflicts(popped, |store| store.pop_first().wait().map(|_| ()));
}

#[test]
fn all_keys_of_a_followed_reference_count_as_read() {
    let reads: [fn(&mut Transaction) -> Result<()>; 3] = [
        |transaction| transaction.get("ref/1").wait().map(|_| ()),
        |transaction| {
            transaction
                .prefix("ref/1")
                .following()
                .next()
                .unwrap()
                .map(|_| ())
        },
        |transaction| {
            let mut cursor = transaction.cursor();
            assert!(cursor.seek("ref/1").wait()?);
            cursor.value().wait().map(|_| ())
        },
    ];
    for read in reads {
        for (key, refused) in [
            ("ref/1", true),
            ("ref/2", true),
            ("20", true),
            ("30", false),
        ] {
            let store = store();
            store.put_reference("ref/2", "20").wait().unwrap();
            store.put_reference("ref/1", "ref/2").wait().unwrap();
            let mut transaction = store.begin().wait().unwrap();
            read(&mut transaction).unwrap();
            transaction.put("result", "1").wait().unwrap();
            store.put(key, "changed").wait().unwrap();
            assert_eq!(transaction.commit().wait().is_err(), refused, "{key}");
        }
    }
}

#[test]
fn what_is_only_written_conflicts_with_nothing() {
    let blind = |transaction: &mut Transaction| {
        transaction.put("20", "mine").wait()?;
        transaction.delete("30").wait()?;
        transaction.merge("40", "sum", [1]).wait()?;
        transaction.delete_range("50".."60").wait()?;
        // What it wrote itself is known, whatever others do.
        assert_eq!(transaction.get("20").wait()?.unwrap(), "mine");
        assert_eq!(transaction.get("30").wait()?, None);
        assert_eq!(transaction.get("55").wait()?, None);
        Ok(())
    };
    for key in ["20", "30", "40", "50", "55"] {
        outcome(blind, put(key)).unwrap();
    }
}

#[test]
fn operands_of_many_transactions_on_one_key_all_count() {
    let store = store();
    let transactions: Vec<_> = (0..20).map(|_| store.begin().wait().unwrap()).collect();
    for mut transaction in transactions {
        transaction.merge("sum", "sum", [2]).wait().unwrap();
        transaction.commit().wait().unwrap();
    }
    assert_eq!(store.get("sum").wait().unwrap().unwrap(), [40]);
}

#[test]
fn a_transaction_that_only_reads_is_never_refused_and_sees_one_moment() {
    let store = store();
    let mut transaction = store.begin().wait().unwrap();
    assert_eq!(transaction.len().wait().unwrap(), 9);
    store.delete_range(..).wait().unwrap();
    assert_eq!(transaction.len().wait().unwrap(), 9);
    transaction.set_isolation(Isolation::Snapshot);
    transaction.commit().wait().unwrap();
}

/// Two who each look at both and then write one: who is refused?
fn write_skew(isolation: Isolation) -> [bool; 2] {
    let store = store();
    let skewed = ["10", "20"].map(|mine| {
        let mut transaction = store.begin().wait().unwrap();
        transaction.set_isolation(isolation);
        transaction.get("10").wait().unwrap();
        transaction.get("20").wait().unwrap();
        transaction.put(mine, "0").wait().unwrap();
        transaction
    });
    skewed.map(|transaction| transaction.commit().wait().is_err())
}

#[test]
fn write_skew_is_refused_unless_a_snapshot_is_enough() {
    assert_eq!(write_skew(Isolation::Serializable), [false, true]);
    assert_eq!(write_skew(Isolation::Snapshot), [false, false]);
}

#[test]
fn with_snapshots_the_first_who_commits_a_key_wins() {
    let snapshot = |transaction: &mut Transaction| {
        transaction.set_isolation(Isolation::Snapshot);
        transaction.get("10").wait()?;
        transaction.put("20", "mine").wait()?;
        transaction.delete("30").wait()?;
        transaction.merge("40", "sum", [1]).wait()?;
        transaction.delete_range("50".."60").wait()
    };
    for key in ["10", "40", "50"] {
        outcome(snapshot, put(key)).unwrap();
    }
    for key in ["20", "30"] {
        assert_conflicts(snapshot, put(key));
    }
    assert_conflicts(snapshot, |store| store.delete_range(..).wait().map(|_| ()));
}

#[test]
fn those_of_one_group_are_validated_against_each_other() {
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        let store = store();
        let commits: Vec<_> = (0..20)
            .map(|number| {
                let mut transaction = store.begin().wait().unwrap();
                transaction.set_isolation(isolation);
                let key = ["10", "20"][number % 2];
                transaction.get(key).wait().unwrap();
                transaction.put(key, number.to_string()).wait().unwrap();
                transaction.commit()
            })
            .collect();
        let results = block_on(join_all(commits));
        assert!(store.stats().groups < 20, "they were to be one group");
        let accepted: Vec<_> = results.iter().map(Result::is_ok).collect();
        assert!(accepted[0] && accepted[1]);
        assert!(
            accepted[2..].iter().all(|accepted| !accepted),
            "{accepted:?}"
        );
        let refused = results.into_iter().find_map(Result::err).unwrap();
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert_eq!(store.get("10").wait().unwrap().unwrap(), "0");
        assert_eq!(store.get("20").wait().unwrap().unwrap(), "1");
    }
}

fn fill(transaction: &mut Transaction, entries: u32) -> Result<()> {
    for number in 0..entries {
        let key = number.wrapping_mul(0x9E37_79B9).to_be_bytes();
        transaction
            .put([b"x", &key[..]].concat(), [7; 100])
            .wait()?;
    }
    Ok(())
}

#[test]
fn a_large_transaction_is_validated_before_it_is_alone() {
    let options = options()
        .transaction_bytes(64 << 10)
        .segment_bytes(256 << 10);
    for entries in [1500, 300] {
        let store = filled(&options);
        // Nobody waits for one that has not gone to the disk.
        let mut lost = store.begin().wait().unwrap();
        lost.get("20").wait().unwrap();
        let mut won = store.begin().wait().unwrap();
        won.get("30").wait().unwrap();
        store.put("20", "changed").wait().unwrap();
        let result = fill(&mut lost, entries).and_then(|()| lost.commit().wait().map(|_| ()));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict);
        fill(&mut won, entries).unwrap();
        if entries == 1500 {
            // It is alone by now, and reads what is newest.
            assert_eq!(won.get("20").wait().unwrap().unwrap(), "changed");
        }
        won.commit().wait().unwrap();
        assert_eq!(store.len().wait().unwrap(), 9 + u64::from(entries));
        let summary = store.verify(|_| ControlFlow::Continue(())).wait().unwrap();
        assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
    }
}

#[test]
fn a_cursor_that_goes_to_the_disk_has_read_what_it_passed_and_no_more() {
    let options = options()
        .transaction_bytes(64 << 10)
        .segment_bytes(256 << 10);
    for (key, conflicts) in [("15", true), ("zz", false)] {
        let store = filled(&options);
        for number in 0..2000u16 {
            let key = [&b"2"[..], &number.to_be_bytes()].concat();
            store.put(key, "old").wait().unwrap();
        }
        let mut transaction = store.begin().wait().unwrap();
        let mut cursor = transaction.cursor_mut();
        store.put(key, "changed").wait().unwrap();
        let mut edit = || -> Result<()> {
            for _ in 0..1500 {
                assert!(cursor.next().wait()?);
                cursor.put([7; 100]).wait()?;
            }
            // It is alone by now, and goes on.
            while cursor.next().wait()? {}
            Ok(())
        };
        match (edit(), conflicts) {
            (Ok(()), false) => {
                drop(cursor);
                transaction.commit().wait().unwrap();
                assert_eq!(store.get("zz").wait().unwrap().unwrap(), "changed");
            }
            (Err(error), true) => assert_eq!(error.kind(), ErrorKind::Conflict),
            (result, _) => panic!("{result:?} where {key} was put"),
        }
    }
}

#[test]
fn a_large_commit_conflicts_with_those_who_read_what_it_wrote() {
    let options = options()
        .transaction_bytes(64 << 10)
        .segment_bytes(256 << 10);
    let large = |store: &Store| -> Result<()> {
        let mut transaction = store.begin().wait()?;
        fill(&mut transaction, 1500)?;
        transaction.put("25", "large").wait()?;
        transaction.commit().wait().map(|_| ())
    };
    for (key, refused) in [("25", true), ("26", false), ("20", false)] {
        let store = filled(&options);
        let mut transaction = store.begin().wait().unwrap();
        transaction.get(key).wait().unwrap();
        transaction.put("result", "1").wait().unwrap();
        large(&store).unwrap();
        assert_eq!(transaction.commit().wait().is_err(), refused, "{key}");
    }
}

#[test]
fn counters_of_many_threads_and_tasks_lose_nothing() {
    for maintenance in [Maintenance::Background, Maintenance::Caller] {
        let options = options().journal_bytes(2 << 10).maintenance(maintenance);
        let store = options.open_disk(MemoryDisk::new()).unwrap();
        let increment = |store: Store| async move {
            let up = |old: Option<&[u8]>| {
                let old = old.map_or(0, |old| u32::from_be_bytes(old.try_into().unwrap()));
                Some((old + 1).to_be_bytes().to_vec())
            };
            store.update("by update", up).await.unwrap();
            let transact = store.transact(|mut attempt| async move {
                let old = attempt.get("by transact").await?;
                attempt
                    .put("by transact", up(old.as_deref()).unwrap())
                    .await
            });
            transact.await.unwrap();
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| block_on(join_all((0..100).map(|_| increment(store.clone())))));
                scope.spawn(|| {
                    for _ in 0..50 {
                        let up = |old: Option<&[u8]>| {
                            let old =
                                old.map_or(0, |old| u32::from_be_bytes(old.try_into().unwrap()));
                            Some((old + 1).to_be_bytes().to_vec())
                        };
                        store.update("by update", up).wait().unwrap();
                    }
                });
            }
        });
        assert_eq!(
            store.get("by update").wait().unwrap().unwrap(),
            300u32.to_be_bytes()
        );
        assert_eq!(
            store.get("by transact").wait().unwrap().unwrap(),
            200u32.to_be_bytes()
        );
    }
}

#[test]
fn a_transaction_that_is_always_too_slow_has_its_turn() {
    let store = store();
    let mut attempts = 0;
    let result = store.transact(|mut attempt| {
        attempts += 1;
        let (store, number) = (store.clone(), attempts);
        async move {
            attempt.get("10").await?;
            if number <= 8 {
                store.put("10", "faster").await?;
            }
            attempt.put("20", "slow").await?;
            Ok(number)
        }
    });
    assert_eq!(result.wait().unwrap(), 9);
    assert_eq!(store.get("20").wait().unwrap().unwrap(), "slow");
}

#[test]
fn what_a_function_refuses_is_not_committed_and_what_it_keeps_neither() {
    let store = store();
    let refused = store.transact(|mut attempt| async move {
        attempt.delete_range(..).await?;
        Err::<(), _>(Error::new(ErrorKind::NotFound, "no"))
    });
    assert_eq!(refused.wait().unwrap_err().kind(), ErrorKind::NotFound);
    let kept = store.transact(|mut attempt| async move {
        attempt.delete_range(..).await?;
        Ok(attempt)
    });
    assert_eq!(kept.wait().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(store.len().wait().unwrap(), 9);
}

#[test]
fn a_transaction_that_is_open_when_the_store_is_closed_reads_and_is_not_committed() {
    let store = store();
    let mut transaction = store.begin().wait().unwrap();
    transaction.put("late", "1").wait().unwrap();
    store.close().wait().unwrap();
    let refused = transaction.commit().wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
}

#[test]
fn savepoints_undo_what_came_after_them() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let store = store();
        let mut transaction = store.begin().wait().unwrap();
        let mut model: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = transaction
            .iter()
            .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
            .collect();
        write(&mut random, &mut transaction, &mut model, 0);
        let left: Vec<_> = transaction
            .iter()
            .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
            .collect();
        assert_eq!(left, model.clone().into_iter().collect::<Vec<_>>());
        transaction.commit().wait().unwrap();
        assert_eq!(store.len().wait().unwrap(), model.len() as u64);
        for (key, value) in &model {
            assert_eq!(store.get(key).wait().unwrap().unwrap(), value);
        }
        let summary = store.verify(|_| ControlFlow::Continue(())).wait().unwrap();
        assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
    }
}

type Model = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;

fn write(
    random: &mut fastrand::Rng,
    transaction: &mut Transaction,
    model: &mut Model,
    depth: usize,
) {
    for _ in 0..random.usize(..10) {
        let key = random.u8(..20).to_string().into_bytes();
        match random.usize(..9) {
            0 | 1 => {
                // Some of them off the tree, or of a chunk of their own.
                let value = vec![7; [1, 5000, 100][random.usize(..3)]];
                transaction.put(&key, &value).wait().unwrap();
                model.insert(key, value);
            }
            2 => {
                transaction
                    .put_reserved(&key, 3, |value| value.fill(9))
                    .wait()
                    .unwrap();
                model.insert(key, vec![9; 3]);
            }
            3 => {
                transaction.delete(&key).wait().unwrap();
                model.remove(&key);
            }
            4 => {
                let end = [&key[..], b"5"].concat();
                transaction.delete_range(&key[..]..&end[..]).wait().unwrap();
                model.retain(|other, _| *other < key || *other >= end);
            }
            5 => {
                let found = transaction.get(&key).wait().unwrap();
                assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice));
            }
            6 => assert_eq!(transaction.len().wait().unwrap(), model.len() as u64),
            _ if depth < 3 => {
                let before = model.clone();
                let mut savepoint = transaction.savepoint();
                write(random, &mut savepoint, model, depth + 1);
                match random.usize(..3) {
                    0 => savepoint.keep(),
                    1 => {
                        savepoint.roll_back().unwrap();
                        model.clone_from(&before);
                        write(random, &mut savepoint, model, depth + 1);
                        savepoint.keep();
                    }
                    _ => {
                        drop(savepoint);
                        *model = before;
                    }
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_part_that_went_to_the_disk_is_undone_with_all_the_rest_only() {
    let store = filled(
        &options()
            .transaction_bytes(64 << 10)
            .segment_bytes(256 << 10),
    );
    let mut transaction = store.begin().wait().unwrap();
    let mut savepoint = transaction.savepoint();
    fill(&mut savepoint, 1500).unwrap();
    let refused = savepoint.roll_back().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    drop(savepoint);
    assert!(transaction.commit().wait().is_err());
    assert_eq!(store.len().wait().unwrap(), 9);
    let summary = store.verify(|_| ControlFlow::Continue(())).wait().unwrap();
    assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
}

#[test]
fn a_transaction_of_ten_times_its_memory_leaves_no_space_behind() {
    let options = options()
        .transaction_bytes(64 << 10)
        .segment_bytes(256 << 10)
        .reserve_bytes(0);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = options.create(&path).unwrap();
    let sound = |store: &Store| {
        let summary = store.verify(|_| ControlFlow::Continue(())).wait().unwrap();
        assert!(summary.is_sound() && summary.leaks == 0, "{summary:?}");
    };
    let tree_bytes = store.stats().tree_bytes;
    // Ten times the memory, and values off the tree besides.
    let large = |transaction: &mut Transaction| {
        fill(transaction, 6500).unwrap();
        for number in 0..20u8 {
            transaction
                .put([b'v', number], vec![number; 20_000])
                .wait()
                .unwrap();
        }
    };
    let mut dropped = store.begin().wait().unwrap();
    large(&mut dropped);
    drop(dropped);
    assert_eq!(
        store.stats().tree_bytes,
        tree_bytes,
        "what was dropped is given back"
    );
    assert!(store.is_empty().wait().unwrap());
    sound(&store);
    // The process ends in the middle of one.
    let mut lost = store.begin().wait().unwrap();
    large(&mut lost);
    std::mem::forget(lost);
    let copy = directory.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    let crashed = options.open(&copy).unwrap();
    assert!(crashed.is_empty().wait().unwrap());
    sound(&crashed);
    let mut committed = crashed.begin().wait().unwrap();
    large(&mut committed);
    committed.commit().wait().unwrap();
    assert_eq!(crashed.len().wait().unwrap(), 6520);
    sound(&crashed);
    crashed.close().wait().unwrap();
    let again = options.open(&copy).unwrap();
    assert_eq!(again.len().wait().unwrap(), 6520);
    sound(&again);
}
