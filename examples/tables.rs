//! Tables: rows of two types, and indexes that change in the same transaction as the rows.
//!
//! `cargo run --release --example tables`
//!
//! A table is a subtree whose keys and values have types. An index is a table too: its keys are what
//! one looks for, followed by the key of the row; or, where there can be one row only, its values are
//! the keys of the rows. Nothing keeps them together but the transaction that changes both.

use std::error::Error;

use thunderhead::typed::{DecodeValue, EncodeValue, Table};
use thunderhead::{Store, Transaction};

/// Members by number.
const MEMBERS: Table<u64, Member> = Table::new("members");
/// Who lives where: the place, then the number.
const BY_PLACE: Table<(String, u64), ()> = Table::new("members by place");
/// Each address has one member.
const BY_ADDRESS: Table<String, u64> = Table::new("members by address");

#[derive(Clone, Debug, PartialEq)]
struct Member {
    name: String,
    place: String,
    address: String,
}

/// The parts with their lengths before them; with the feature `serde` this is derived.
impl EncodeValue for Member {
    fn append_value(&self, out: &mut Vec<u8>) {
        for part in [&self.name, &self.place, &self.address] {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl DecodeValue for Member {
    /// Another layout gets another name, so that it is not read as this one.
    fn type_name() -> String {
        "member 1".into()
    }

    fn read_value(mut bytes: &[u8]) -> Option<Self> {
        let mut part = || {
            let (length, rest) = bytes.split_first_chunk()?;
            let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            bytes = rest;
            String::from_utf8(part.to_vec()).ok()
        };
        let (name, place, address) = (part()?, part()?, part()?);
        bytes.is_empty().then_some(Self {
            name,
            place,
            address,
        })
    }
}

/// Puts a member, new or not, and what the indexes have of it.
fn put(transaction: &mut Transaction, number: u64, member: &Member) -> Result<(), Box<dyn Error>> {
    let mut addresses = BY_ADDRESS.within(transaction).wait()?;
    match addresses.get(&member.address).wait()? {
        Some(other) if other != number => {
            return Err(format!("{} is the address of member {other}", member.address).into());
        }
        _ => addresses.put(&member.address, &number).wait()?,
    }
    // The view is over with this, and the transaction whole again.
    drop(addresses);
    let mut members = MEMBERS.within(transaction).wait()?;
    let before = members.insert(&number, member).wait()?;
    drop(members);
    if let Some(before) = &before
        && before.address != member.address
    {
        let mut addresses = BY_ADDRESS.within(transaction).wait()?;
        addresses.delete(&before.address).wait()?;
    }
    let mut places = BY_PLACE.within(transaction).wait()?;
    if let Some(before) = before {
        places.delete(&(before.place, number)).wait()?;
    }
    places.put(&(&member.place, number), &()).wait()?;
    Ok(())
}

/// Puts a member in a transaction of its own: all of it, or nothing.
fn put_member(store: &Store, number: u64, member: &Member) -> Result<(), Box<dyn Error>> {
    let mut transaction = store.begin().wait()?;
    // An error drops the transaction.
    put(&mut transaction, number, member)?;
    transaction.commit().wait()?;
    Ok(())
}

/// The names of those who live in a place, all as of one moment.
fn living_in(store: &Store, place: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let snapshot = store.snapshot();
    let members = MEMBERS.in_snapshot(&snapshot).wait()?;
    let mut names = Vec::new();
    for row in BY_PLACE.in_snapshot(&snapshot).wait()?.prefix(&(place,)) {
        let ((_, number), ()) = row?;
        let member = members.get(&number).wait()?;
        names.push(member.ok_or("an index without its row")?.name);
    }
    Ok(names)
}

fn main() -> Result<(), Box<dyn Error>> {
    let place = tempfile::tempdir()?;
    let store = Store::create(place.path().join("members"))?;
    let member = |name: &str, place: &str| Member {
        name: name.into(),
        place: place.into(),
        address: format!("{}@example.org", name.to_lowercase()),
    };
    for (number, (name, place)) in (1..).zip([
        ("Ada", "London"),
        ("Emmy", "Erlangen"),
        ("Grace", "New York"),
        ("Mary", "London"),
    ]) {
        put_member(&store, number, &member(name, place))?;
    }
    assert_eq!(living_in(&store, "London")?, ["Ada", "Mary"]);

    // A row moves, and its places in the indexes with it.
    put_member(&store, 2, &member("Emmy", "Bryn Mawr"))?;
    assert!(living_in(&store, "Erlangen")?.is_empty());
    assert_eq!(living_in(&store, "Bryn Mawr")?, ["Emmy"]);

    // What must be unique is: nothing of this is done.
    let mut other = member("Ada", "Paris");
    other.name = "Another Ada".into();
    let refused = put_member(&store, 5, &other).unwrap_err();
    println!("refused: {refused}");
    assert!(living_in(&store, "Paris")?.is_empty());

    // Tables remember their types, and what is kept is kept.
    let path = place.path().join("members");
    store.close().wait()?;
    let store = Store::open(path)?;
    let wrong: Table<u64, String> = Table::new("members");
    println!("refused: {}", wrong.of(&store).wait().unwrap_err());
    let members = MEMBERS.of(&store).wait()?;
    for row in members.iter().rev() {
        let (number, member) = row?;
        println!("{number}: {} of {}", member.name, member.place);
        let found = BY_ADDRESS.of(&store).wait()?.get(&member.address).wait()?;
        assert_eq!(found, Some(number));
    }
    assert_eq!(members.len().wait()?, 4);
    assert_eq!(BY_PLACE.of(&store).wait()?.len().wait()?, 4);
    store.close().wait()?;
    Ok(())
}
