//! Typed tables in stores, snapshots and transactions.

use std::error::Error;

use futures::TryStreamExt;
use thunderhead::typed::{DecodeKey, DecodeValue, EncodeKey, EncodeValue, Table};
use thunderhead::{ErrorKind, Store};

type Outcome = Result<(), Box<dyn Error>>;

const PEOPLE: Table<u64, Person> = Table::new("people");
const BY_NAME: Table<(String, u64), ()> = Table::new("people by name");

/// A value with an encoding of its own.
#[derive(Clone, Debug, PartialEq)]
struct Person {
    name: String,
    born: i16,
}

impl EncodeValue for Person {
    fn append_value(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.born.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
    }
}

impl DecodeValue for Person {
    fn type_name() -> String {
        "person".into()
    }

    fn read_value(bytes: &[u8]) -> Option<Self> {
        let (born, name) = bytes.split_first_chunk()?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let born = i16::from_le_bytes(*born);
        Some(Self { name, born })
    }
}

/// A key with an encoding of its own: the greatest first.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Descending(u32);

impl EncodeKey for Descending {
    fn append_delimited(&self, out: &mut Vec<u8>) {
        (!self.0).append_delimited(out);
    }
}

impl DecodeKey for Descending {
    fn type_name() -> String {
        "descending u32".into()
    }

    fn take_delimited(bytes: &mut &[u8]) -> Option<Self> {
        u32::take_delimited(bytes).map(|number| Self(!number))
    }
}

fn person(name: &str, born: i16) -> Person {
    let name = name.to_owned();
    Person { name, born }
}

#[test]
fn rows_and_an_index_change_together_and_come_back() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("store");
    let store = Store::create(&path)?;
    let mut transaction = store.begin().wait()?;
    for (id, who) in [person("ann", 1980), person("bob", -44), person("ann", 2001)]
        .iter()
        .enumerate()
    {
        let id = id as u64;
        PEOPLE
            .within(&mut transaction)
            .wait()?
            .put(&id, who)
            .wait()?;
        let mut index = BY_NAME.within(&mut transaction).wait()?;
        index.put(&(who.name.as_str(), id), &()).wait()?;
        assert!(index.contains_key(&(&who.name, id)).wait()?);
    }
    let before = store.snapshot();
    transaction.commit().wait()?;
    store.close().wait()?;
    assert!(PEOPLE.in_snapshot(&before).wait()?.is_empty().wait()?);
    drop(before);

    let store = Store::open(&path)?;
    let (people, index) = (PEOPLE.of(&store).wait()?, BY_NAME.of(&store).wait()?);
    assert_eq!(people.len().wait()?, 3);
    let mut anns = Vec::new();
    for row in index.prefix(&("ann",)).rev() {
        anns.push(row?.0.1);
    }
    assert_eq!(anns, [2, 0]);
    assert_eq!(people.get(&1).wait()?, Some(person("bob", -44)));
    assert_eq!(
        people.insert(&1, &person("bo", 1)).wait()?,
        Some(person("bob", -44))
    );
    assert_eq!(people.remove(&1).wait()?, Some(person("bo", 1)));
    assert_eq!(people.count(1..).wait()?, 1);
    let rows: Vec<(u64, Person)> = futures::executor::block_on(people.range(..=2).try_collect())?;
    assert_eq!(rows, [(0, person("ann", 1980)), (2, person("ann", 2001))]);
    people.delete_range(..2).wait()?;
    people.delete(&2).wait()?;
    assert!(people.is_empty().wait()?);
    assert_eq!(index.len().wait()?, 3);
    Ok(())
}

#[test]
fn orders_of_ones_own() -> Outcome {
    let store = Store::in_memory()?;
    let newest = Table::<Descending, String>::new("newest")
        .of(&store)
        .wait()?;
    for number in [3, 900, 40_000] {
        newest.put(&Descending(number), "event").wait()?;
    }
    let first = newest.iter().next().ok_or("no rows")??;
    assert_eq!(first, (Descending(40_000), "event".to_owned()));
    assert_eq!(newest.count(Descending(900)..).wait()?, 2);
    Ok(())
}

#[test]
fn tables_whose_names_begin_alike_are_apart() -> Outcome {
    let store = Store::in_memory()?;
    let names = ["", "a", "a\0", "a\0\u{1}", "ab", "a\u{1}"];
    for (number, name) in names.into_iter().enumerate() {
        let table = Table::<Vec<u8>, u64>::new(name).of(&store).wait()?;
        for key in [&[][..], &[0], &[1], &[0xFF, 0xFF]] {
            assert_eq!(table.insert(key, &(number as u64)).wait()?, None);
        }
        assert_eq!(table.len().wait()?, 4);
    }
    for (number, name) in names.into_iter().enumerate() {
        let table = Table::<Vec<u8>, u64>::new(name).of(&store).wait()?;
        for row in table.iter() {
            assert_eq!(row?.1, number as u64);
        }
        table.delete_range::<[u8]>(..).wait()?;
        assert!(table.is_empty().wait()?);
    }
    Ok(())
}

#[test]
fn another_type_is_refused_and_changes_nothing() -> Outcome {
    let store = Store::in_memory()?;
    PEOPLE
        .of(&store)
        .wait()?
        .put(&1, &person("ann", 1))
        .wait()?;
    let wrong = Table::<u64, String>::new("people");
    let refused = wrong.of(&store).wait().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TypeMismatch);
    let told = refused.to_string();
    assert!(told.contains("person") && told.contains("string"), "{told}");
    assert!(wrong.in_snapshot(&store.snapshot()).wait().is_err());
    let mut transaction = store.begin().wait()?;
    assert!(wrong.within(&mut transaction).wait().is_err());
    drop(transaction);
    assert_eq!(PEOPLE.of(&store).wait()?.len().wait()?, 1);
    Ok(())
}

#[test]
fn what_is_no_row_is_an_error_that_says_so() -> Outcome {
    let store = Store::in_memory()?;
    let people = PEOPLE.of(&store).wait()?;
    people.untyped().put(7u64.to_be_bytes(), [1]).wait()?;
    let error = people.get(&7).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    people.untyped().put("no number", person_bytes()).wait()?;
    people.delete(&7).wait()?;
    let error = people.iter().next().ok_or("no rows")?.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeMismatch);
    Ok(())
}

fn person_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    person("ann", 1).append_value(&mut bytes);
    bytes
}
