//! References: keys that stand for other keys.

#[path = "fixtures/append.rs"]
mod append;

use std::error::Error;
use std::ops::ControlFlow;

use futures::TryStreamExt;
use thunderhead::disk::MemoryDisk;
use thunderhead::typed::Table;
use thunderhead::{Change, ErrorKind, Options, Store, Value, ValueKind, Watched, inspect};

use append::Append;

type Outcome = Result<(), Box<dyn Error>>;

fn broken(store: &Store, key: &str) -> thunderhead::Error {
    let error = store.get(key).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenReference, "{error}");
    assert!(!error.is_retryable());
    error
}

#[test]
fn sixteen_references_are_followed_and_no_more() -> Outcome {
    let store = Store::in_memory()?;
    store.put("00", "the value").wait()?;
    for number in 1..=17 {
        let (key, target) = (format!("{number:02}"), format!("{:02}", number - 1));
        store.put_reference(key, target).wait()?;
    }
    assert_eq!(store.get("16").wait()?.unwrap(), "the value");
    let error = broken(&store, "17");
    assert_eq!(error.chain().len(), 18);
    assert_eq!(error.chain()[0], b"17");
    assert_eq!(error.chain()[17], b"00");
    assert!(error.to_string().contains("17 -> 16 -> 15"), "{error}");
    Ok(())
}

#[test]
fn circles_are_told_with_the_key_that_comes_back() -> Outcome {
    let store = Store::in_memory()?;
    store.put_reference("itself", "itself").wait()?;
    assert_eq!(broken(&store, "itself").chain(), [b"itself", b"itself"]);
    store.put_reference("in", "a").wait()?;
    store.put_reference("a", "b").wait()?;
    store.put_reference("b", "a").wait()?;
    let error = broken(&store, "in");
    assert_eq!(error.chain(), [&b"in"[..], b"a", b"b", b"a"]);
    assert!(error.to_string().contains("circle"));
    // Writing is not kept from it.
    store.put("b", "ends it").wait()?;
    assert_eq!(store.get("in").wait()?.unwrap(), "ends it");
    Ok(())
}

#[test]
fn what_is_written_is_the_reference_itself() -> Outcome {
    let store = Store::in_memory()?;
    store.put("target", "1").wait()?;
    store.put_reference("name", "target").wait()?;
    store.put("name", "2").wait()?;
    assert_eq!(store.get("target").wait()?.unwrap(), "1");
    store.put_reference("name", "target").wait()?;
    store.delete("name").wait()?;
    assert!(store.contains_key("target").wait()?);
    assert!(!store.contains_key("name").wait()?);
    // What depends on what is there reads through it.
    store.put_reference("name", "target").wait()?;
    assert_eq!(store.insert("name", "3").wait()?.unwrap(), "1");
    assert_eq!(store.get("target").wait()?.unwrap(), "1");
    // And what cannot be read is not replaced, unless blindly.
    store.put_reference("name", "nothing").wait()?;
    assert!(store.remove("name").wait().is_err());
    assert!(store.put_if_absent("name", "4").wait().is_err());
    assert_eq!(broken(&store, "name").chain(), [&b"name"[..], b"nothing"]);
    store.put("name", "4").wait()?;
    assert_eq!(store.get("name").wait()?.unwrap(), "4");
    Ok(())
}

#[test]
fn a_view_is_never_left() -> Outcome {
    let store = Store::in_memory()?;
    let (users, other) = (store.subtree("users/"), store.subtree("other/"));
    other.put("secret", "…").wait()?;
    users.put("ann", "41").wait()?;
    // In a view both are keys of the view.
    users.put_reference("boss", "ann").wait()?;
    assert_eq!(users.get("boss").wait()?.unwrap(), "41");
    assert_eq!(store.get("users/boss").wait()?.unwrap(), "41");
    users.put_reference("thief", "../other/secret").wait()?;
    assert_eq!(broken(&users, "thief").chain()[1], b"users/../other/secret");
    // Only who sees both can lead from one to the other, and only they can read it.
    store.put_reference("users/key", "other/secret").wait()?;
    assert_eq!(store.get("users/key").wait()?.unwrap(), "…");
    let error = broken(&users, "key");
    assert!(error.to_string().contains("outside of the view"), "{error}");
    assert_eq!(error.chain(), [&b"users/key"[..], b"other/secret"]);
    let found = users.range("boss"..="boss").next().unwrap()?.1;
    assert_eq!(found.kind(), ValueKind::Reference(b"ann"));
    let found = users.range("key"..="key").next().unwrap()?.1;
    assert_eq!(found.kind(), ValueKind::ReferenceOutside(b"other/secret"));
    Ok(())
}

#[test]
fn a_broken_reference_is_an_error_in_its_place_and_ranges_go_on() -> Outcome {
    let store = Options::new()
        .merge_operator(Append)
        .open_disk(MemoryDisk::new())?;
    store.put("a", "1").wait()?;
    store.put("c", "3").wait()?;
    store.put("target", "value").wait()?;
    // Operands on a reference are put on what it leads to.
    store.put_reference("b", "target").wait()?;
    store.merge("b", "append", "!").wait()?;
    assert_eq!(store.get("b").wait()?.unwrap(), "value!");
    store.delete("target").wait()?;
    let is_broken = |error: &thunderhead::Error| error.kind() == ErrorKind::BrokenReference;
    for following in [false, true] {
        let range = || match following {
            false => store.iter(),
            true => store.iter().following(),
        };
        let shown = |results: Vec<thunderhead::Result<(Vec<u8>, Value)>>| -> Vec<String> {
            let shown = results.into_iter().map(|result| match result {
                Ok((key, _)) => String::from_utf8(key).unwrap(),
                Err(error) => format!("{}", is_broken(&error)),
            });
            shown.collect()
        };
        assert_eq!(shown(range().collect()), ["a", "true", "c"]);
        assert_eq!(shown(range().rev().collect()), ["c", "true", "a"]);
        let stream = futures::executor::block_on(futures::StreamExt::collect(range()));
        assert_eq!(shown(stream), ["a", "true", "c"]);
        let mut lent = range();
        assert_eq!(lent.next_with(|key, _| key == b"a").wait()?, Some(true));
        assert!(is_broken(&lent.next_entry().wait().unwrap_err()));
        assert_eq!(lent.next_with(|key, _| key == b"c").wait()?, Some(true));
        assert_eq!(lent.next_with(|_, _| ()).wait()?, None);
        assert_eq!(range().keys().count(), 3);
    }
    Ok(())
}

#[test]
fn ranges_show_references_and_follow_them_on_request() -> Outcome {
    let store = Store::in_memory()?;
    store.put("a", "value").wait()?;
    store.put_reference("b", "a").wait()?;
    store.put_reference("c", "nothing").wait()?;
    let kinds = |store: &Store| -> thunderhead::Result<Vec<String>> {
        let mut range = store.iter();
        let mut shown = Vec::new();
        while let Some(kind) = range
            .next_kind_with(|_, kind| format!("{kind:?}").replace(|byte| byte > 'z', ""))
            .wait()?
        {
            shown.push(kind);
        }
        Ok(shown)
    };
    assert_eq!(kinds(&store)?.len(), 3);
    assert!(kinds(&store)?[1].starts_with("Reference"));
    let mut range = store.iter();
    let back = range.next_back_kind_with(|_, kind| kind == ValueKind::Reference(b"nothing"));
    assert_eq!(back.wait()?, Some(true));

    let mut range = store.iter().following();
    assert_eq!(range.next().unwrap()?.1, "value");
    let (key, value) = range.next().unwrap()?;
    assert_eq!(
        (&key[..], value.kind()),
        (&b"b"[..], ValueKind::Bytes(b"value"))
    );
    let error = range.next().unwrap().unwrap_err();
    assert_eq!(error.chain(), [&b"c"[..], b"nothing"]);
    assert!(range.next().is_none());

    // As a stream, lent, and without its value.
    store.delete("c").wait()?;
    let all = futures::executor::block_on(store.iter().following().try_collect::<Vec<_>>())?;
    assert!(all.iter().all(|(_, value)| *value == "value"));
    let mut range = store.range("b"..).following();
    assert_eq!(range.next_with(|_, value| value.len()).wait()?, Some(5));
    assert_eq!(store.iter().following().keys().count(), 2);
    // A cursor gives the value of where it stands, and tells what is there.
    let mut cursor = store.cursor();
    assert!(cursor.last().wait()?);
    assert_eq!(cursor.kind().wait()?, Some(ValueKind::Reference(b"a")));
    assert_eq!(cursor.value().wait()?, Some(&b"value"[..]));
    assert!(cursor.previous().wait()?);
    assert_eq!(cursor.kind().wait()?, Some(ValueKind::Bytes(b"value")));
    // One that edits sees what it has put, there and elsewhere.
    let mut transaction = store.begin().wait()?;
    let mut cursor = transaction.cursor_mut();
    assert!(cursor.first().wait()?);
    cursor.put("other").wait()?;
    assert!(cursor.next().wait()?);
    assert_eq!(cursor.value().wait()?, Some(&b"other"[..]));
    cursor.put("own").wait()?;
    assert_eq!(cursor.kind().wait()?, Some(ValueKind::Bytes(b"own")));
    drop(cursor);
    drop(transaction);
    // Taking out is about what is there.
    assert_eq!(
        store.pop_last().wait()?.unwrap().1.kind(),
        ValueKind::Reference(b"a")
    );
    assert_eq!(store.len().wait()?, 1);
    Ok(())
}

#[test]
fn a_version_is_followed_in_itself() -> Outcome {
    let store = Store::in_memory()?;
    store.put("target", "old").wait()?;
    store.put_reference("name", "target").wait()?;
    let before = store.snapshot();
    let range = store.iter().following();
    store.put("target", "new").wait()?;
    assert_eq!(before.get("name").wait()?.unwrap(), "old");
    assert!(
        range
            .map(|entry| entry.unwrap().1)
            .all(|value| value == "old")
    );
    assert_eq!(store.get("name").wait()?.unwrap(), "new");
    let mut transaction = store.begin().wait()?;
    transaction.put("target", "own").wait()?;
    assert_eq!(transaction.get("name").wait()?.unwrap(), "own");
    transaction.put_reference("name", "elsewhere").wait()?;
    transaction.put("elsewhere", "there").wait()?;
    let found = transaction.get_many(["name", "target"]).wait()?;
    assert_eq!(found[0].as_ref().unwrap(), "there");
    let followed: Vec<_> = transaction
        .range("name"..)
        .following()
        .map(|entry| entry.map(|(_, value)| value.to_vec()))
        .collect::<Result<_, _>>()?;
    assert_eq!(followed, [b"there".to_vec(), b"own".to_vec()]);
    drop(transaction);
    assert_eq!(store.get("name").wait()?.unwrap(), "new");
    // What is told of a commit is the reference itself.
    let mut watch = store.watch(.., store.sequence());
    store.put_reference("other", "target").wait()?;
    let told = match watch.next().transpose()? {
        Some(Watched::Commit { changes, .. }) => changes,
        _ => Vec::new(),
    };
    let [
        Change::Put {
            value: Some(value), ..
        },
    ] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!(value.kind(), ValueKind::Reference(b"target"));
    Ok(())
}

#[test]
fn every_key_on_the_way_is_read_by_a_transaction() -> Outcome {
    let store = Store::in_memory()?;
    store.put("c", "value").wait()?;
    store.put_reference("b", "c").wait()?;
    store.put_reference("a", "b").wait()?;
    store.put("beside", "…").wait()?;
    type Read = fn(&thunderhead::Transaction) -> thunderhead::Result<()>;
    let reads: [(&str, Read); 6] = [
        ("get", |transaction| transaction.get("a").wait().map(drop)),
        ("length", |transaction| {
            transaction.value_length("a").wait().map(drop)
        }),
        ("contains", |transaction| {
            transaction.contains_key("a").wait().map(drop)
        }),
        ("part", |transaction| {
            transaction.get_part("a", 1, 1).wait().map(drop)
        }),
        ("range", |transaction| {
            for entry in transaction.range("a"..="a").following() {
                entry?;
            }
            Ok(())
        }),
        ("cursor", |transaction| {
            let mut cursor = transaction.cursor();
            cursor.first().wait()?;
            cursor.value().wait().map(drop)
        }),
    ];
    for (what, read) in reads {
        for (changed, refused) in [("a", true), ("b", true), ("c", true), ("beside", false)] {
            let mut transaction = store.begin().wait()?;
            read(&transaction)?;
            transaction.put("written", what).wait()?;
            match changed {
                "a" | "b" => drop(store.put_reference(changed, "c").wait()?),
                other => drop(store.put(other, "another").wait()?),
            }
            let found = transaction.commit().wait().map(drop);
            let kind = found.map_err(|error| error.kind());
            let expected = match refused {
                true => Err(ErrorKind::Conflict),
                false => Ok(()),
            };
            assert_eq!(kind, expected, "{what}, {changed}");
            store.put_reference("a", "b").wait()?;
        }
    }
    Ok(())
}

#[test]
fn large_values_and_the_longest_keys_can_be_referred_to() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let store = Store::create(&path)?;
    let large: Vec<u8> = (0..300_000u32).map(|at| at as u8).collect();
    let (one, two) = (vec![1; 32 << 10], vec![2; 32 << 10]);
    store.put(&one, &large).wait()?;
    store.put_reference(&two, &one).wait()?;
    let error = store.put_reference("short", vec![1; (32 << 10) + 1]).wait();
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
    for round in 0..2 {
        assert_eq!(store.value_length(&two).wait()?, Some(300_000));
        let part = store.get_part(&two, 70_000, 10).wait()?.unwrap();
        assert_eq!(part, &large[70_000..70_010]);
        assert_eq!(
            store.get_with(&two, |value| value == large).wait()?,
            Some(true)
        );
        if round == 0 {
            store.checkpoint().wait()?;
        }
    }
    store.close().wait()?;
    assert_eq!(Store::open(&path)?.get(&two).wait()?.unwrap(), large);
    Ok(())
}

#[test]
fn changing_a_part_through_a_reference_leaves_the_target_alone() -> Outcome {
    let directory = tempfile::tempdir()?;
    let store = Store::create(directory.path().join("store"))?;
    let large = vec![1; 300_000];
    store.put("large", &large).wait()?;
    store.put_reference("name", "large").wait()?;
    store.checkpoint().wait()?;
    store.write_at("name", 100_000, b"changed").wait()?;
    let mut expected = large.clone();
    expected[100_000..100_007].copy_from_slice(b"changed");
    assert_eq!(store.get("name").wait()?.unwrap(), expected);
    assert_eq!(store.get("large").wait()?.unwrap(), large);
    // It has nothing of the other's.
    store.delete("large").wait()?;
    for _ in 0..3 {
        store.put("room", &large).wait()?;
        store.checkpoint().wait()?;
    }
    assert_eq!(store.get("name").wait()?.unwrap(), expected);
    let summary = store.verify(|_| ControlFlow::Continue(())).wait()?;
    assert_eq!((summary.damages, summary.leaks, summary.notes), (0, 0, 0));
    Ok(())
}

#[test]
fn operands_over_a_reference_change_what_it_gives_and_not_the_target() -> Outcome {
    let options = Options::new().merge_operator(Append);
    let store = options.open_disk(thunderhead::disk::MemoryDisk::new())?;
    store.put("a", "1").wait()?;
    store.put_reference("b", "a").wait()?;
    store.merge("b", "append", "2").wait()?;
    store.put_reference("c", "b").wait()?;
    store.merge("c", "append", "3").wait()?;
    for round in 0..2 {
        assert_eq!(store.get("a").wait()?.unwrap(), "1");
        assert_eq!(store.get("b").wait()?.unwrap(), "12");
        assert_eq!(store.get("c").wait()?.unwrap(), "123");
        assert_eq!(store.value_length("c").wait()?, Some(3));
        // They have values of their own, so a range gives those.
        let all = store
            .iter()
            .map(|entry| entry.map(|(_, value)| value.to_vec()));
        let all: Vec<_> = all.collect::<Result<_, _>>()?;
        assert_eq!(all, [b"1".to_vec(), b"12".to_vec(), b"123".to_vec()]);
        if round == 0 {
            store.checkpoint().wait()?;
        }
    }
    // The reference under them is looked at when it is read.
    store.put("a", vec![b'-'; 5000]).wait()?;
    assert_eq!(store.get_part("c", 4999, 9).wait()?.unwrap(), "-23");
    store.delete("a").wait()?;
    assert_eq!(broken(&store, "c").chain(), [b"c", b"b", b"a"]);
    store.put("b", "").wait()?;
    assert_eq!(store.get("c").wait()?.unwrap(), "3");
    Ok(())
}

#[test]
fn verifying_lists_references_that_lead_nowhere_and_finds_no_damage() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let store = Store::create(&path)?;
    store.put("there", "…").wait()?;
    store.put_reference("good", "there").wait()?;
    store.put_reference("dangling", "nowhere").wait()?;
    store.put_reference("circle", "circle").wait()?;
    let mut notes = Vec::new();
    let mut note = |event: inspect::Event<'_>| {
        if let inspect::Event::Finding(finding) = event {
            notes.push(finding.to_string());
        }
        ControlFlow::Continue(())
    };
    let summary = store.verify(&mut note).wait()?;
    assert!(summary.is_sound());
    assert_eq!((summary.user.references, summary.notes), (3, 2));
    // Of these the file has no page yet.
    store.put_reference("late", "nowhere").wait()?;
    store.put("circle", "…").wait()?;
    drop(store);
    let summary = inspect::verify_file(&path, &mut note)?;
    assert!(summary.is_sound());
    let told = |what: &str| notes.iter().filter(|note| note.contains(what)).count();
    assert_eq!(told("circle -> circle"), 1, "{notes:#?}");
    assert_eq!(told("dangling -> nowhere"), 2, "{notes:#?}");
    assert_eq!(told("late -> nowhere"), 1, "{notes:#?}");
    assert_eq!(notes.len(), 4, "{notes:#?}");
    Ok(())
}

#[test]
fn rows_of_tables_can_stand_for_others() -> Outcome {
    const AGES: Table<String, u32> = Table::new("ages");
    let store = Store::in_memory()?;
    let ages = AGES.of(&store).wait()?;
    ages.put("ann", &41).wait()?;
    ages.put_reference("anna", "ann").wait()?;
    assert_eq!(ages.get("anna").wait()?, Some(41));
    let all: Vec<_> = ages.iter().collect::<Result<_, _>>()?;
    assert_eq!(all, [("ann".into(), 41), ("anna".into(), 41)]);
    let mut transaction = store.begin().wait()?;
    let mut rows = AGES.within(&mut transaction).wait()?;
    rows.put_reference("a", "anna").wait()?;
    assert_eq!(rows.remove("a").wait()?, Some(41));
    Ok(())
}
