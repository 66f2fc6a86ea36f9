//! Typed tables in stores, snapshots and transactions.

use std::error::Error;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use thunderhead::typed::{DecodeKey, DecodeValue, EncodeKey, EncodeValue, Serde, Table};
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
fn rows_at_the_ends_and_those_that_depend_on_what_is_there() -> Outcome {
    let store = Store::in_memory()?;
    let people = PEOPLE.of(&store).wait()?;
    assert_eq!(people.first().wait()?, None);
    for id in 0..6 {
        people.put(&id, &person("one", id as i16)).wait()?;
    }
    assert_eq!(people.first().wait()?, Some((0, person("one", 0))));
    assert_eq!(people.last().wait()?, Some((5, person("one", 5))));
    let several = people.get_many(&[3, 9, 1]).wait()?;
    assert_eq!(
        several,
        [Some(person("one", 3)), None, Some(person("one", 1))]
    );
    let before = people.put_if_absent(&5, &person("other", 5)).wait()?;
    assert_eq!(before, Some(person("one", 5)));
    assert_eq!(people.put_if_absent(&6, &person("one", 6)).wait()?, None);

    let mut transaction = store.begin().wait()?;
    let mut rows = PEOPLE.within(&mut transaction).wait()?;
    assert_eq!(rows.pop_first().wait()?, Some((0, person("one", 0))));
    assert_eq!(rows.pop_last().wait()?, Some((6, person("one", 6))));
    let older = |who: Option<Person>| {
        who.map(|who| Person {
            born: who.born - 10,
            ..who
        })
    };
    assert_eq!(rows.update(&1, older).wait()?, Some(person("one", -9)));
    assert_eq!(rows.update(&2, |_| None).wait()?, None);
    assert_eq!(rows.update(&0, older).wait()?, None);
    assert_eq!(
        rows.retain_in::<u64>(.., |id, who| id != 3 && who.born != 4)
            .wait()?,
        2
    );
    drop(rows);
    transaction.commit().wait()?;
    let left: Vec<_> = people.iter().collect::<Result<_, _>>()?;
    assert_eq!(left, [(1, person("one", -9)), (5, person("one", 5))]);

    // What is no row is told, and nothing of it is lost but by a commit.
    people.untyped().put(0u64.to_be_bytes(), [1]).wait()?;
    let mut transaction = store.begin().wait()?;
    let mut rows = PEOPLE.within(&mut transaction).wait()?;
    let refused = [
        rows.pop_first().wait().map(drop).unwrap_err(),
        rows.update(&0, |_| None).wait().map(drop).unwrap_err(),
        rows.retain_in::<u64>(.., |_, _| false)
            .wait()
            .map(drop)
            .unwrap_err(),
    ];
    assert!(
        refused
            .iter()
            .all(|error| error.kind() == ErrorKind::TypeMismatch)
    );
    drop(rows);
    drop(transaction);
    assert_eq!(people.len().wait()?, 3);
    Ok(())
}

#[test]
fn a_table_that_is_deleted_can_be_made_with_other_types() -> Outcome {
    let store = Store::in_memory()?;
    PEOPLE
        .of(&store)
        .wait()?
        .put(&1, &person("ann", 1))
        .wait()?;
    let neighbour = Table::<u64, u64>::new("people by age");
    neighbour.of(&store).wait()?.put(&1, &1).wait()?;
    let other = Table::<String, u8>::new("people");
    let mut transaction = store.begin().wait()?;
    PEOPLE.delete(&mut transaction).wait()?;
    other
        .within(&mut transaction)
        .wait()?
        .put("ann", &1)
        .wait()?;
    transaction.commit().wait()?;
    assert!(PEOPLE.of(&store).wait().is_err());
    assert_eq!(other.of(&store).wait()?.get("ann").wait()?, Some(1));
    assert_eq!(neighbour.of(&store).wait()?.len().wait()?, 1);
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Circle { radius: f64 },
    Polygon(Vec<(i32, i32)>),
    Nothing,
}

/// It contains itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Drawing {
    shape: Shape,
    parts: Vec<Drawing>,
    title: Option<String>,
}

#[test]
fn what_serde_knows_can_be_a_value() -> Outcome {
    let store = Store::in_memory()?;
    let table = Table::<u8, Serde<Drawing>>::new("drawings");
    let drawings = table.of(&store).wait()?;
    let small = Drawing {
        shape: Shape::Circle { radius: 1.5 },
        parts: Vec::new(),
        title: None,
    };
    let drawing = Drawing {
        shape: Shape::Polygon(vec![(0, 0), (-3, 400_000)]),
        parts: vec![small.clone(), small],
        title: Some("two".into()),
    };
    drawings.put(&1, &Serde(&drawing)).wait()?;
    drawings.put(&2, &Serde(drawing.clone())).wait()?;
    for row in drawings.iter() {
        assert_eq!(row?.1, Serde(drawing.clone()));
    }
    // Bytes that are not all of a value, or more than it.
    let bytes = drawings.untyped().get([1]).wait()?.ok_or("no row")?;
    for wrong in [&bytes[..bytes.len() - 1], &[&bytes[..], b"."].concat()] {
        drawings.untyped().put([3], wrong).wait()?;
        let error = drawings.get(&3).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TypeMismatch, "{error}");
    }
    Ok(())
}

/// The same bytes as that of another layout.
mod later {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    pub enum Shape {
        Circle { radius: f64 },
        Polygon(Vec<(i32, i32)>),
        Empty,
    }
}

#[test]
fn another_layout_is_another_type() -> Outcome {
    let store = Store::in_memory()?;
    Table::<u8, Serde<Shape>>::new("shapes").of(&store).wait()?;
    let refused = Table::<u8, Serde<later::Shape>>::new("shapes").of(&store);
    let refused = refused.wait().map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TypeMismatch);
    assert!(
        refused.to_string().contains("Circle|Polygon|Nothing"),
        "{refused}"
    );
    let names = [
        Serde::<Shape>::type_name(),
        Serde::<Vec<Shape>>::type_name(),
        Serde::<Option<u8>>::type_name(),
        Serde::<(u8, u16)>::type_name(),
        Serde::<[u8; 3]>::type_name(),
        Serde::<Drawing>::type_name(),
        Serde::<std::collections::BTreeMap<String, u64>>::type_name(),
        Serde::<()>::type_name(),
        Serde::<std::net::Ipv4Addr>::type_name(),
    ];
    let expected = [
        "postcard Shape Circle|Polygon|Nothing",
        "postcard sequence of Shape Circle|Polygon|Nothing",
        "postcard option of u8",
        "postcard 2 parts, first u8",
        "postcard 3 parts, first u8",
        "postcard Drawing {shape, parts, title}, first Shape Circle|Polygon|Nothing",
        "postcard map from string",
        "postcard ()",
        // As it is written: postcard is not for people to read.
        "postcard 4 parts, first u8",
    ];
    assert_eq!(names, expected);
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
