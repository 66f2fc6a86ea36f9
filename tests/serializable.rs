//! Histories of concurrent transactions: those that were committed are as if one had run after the
//! other.
//!
//! Two judges. One repeats the transactions alone, in the order of their commits, on a map: each has to
//! read what it had read. It knows of every kind of read, so it finds phantoms. The other one knows
//! nothing of the order: it draws who must come before whom, from what lists and registers show, and
//! looks for a cycle. Both are shown to find write skew where it is allowed.

#[path = "fixtures/append.rs"]
mod append;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Mutex;
use std::thread;

use thunderhead::disk::MemoryDisk;
use thunderhead::format::Settings;
use thunderhead::{
    Durability, ErrorKind, Isolation, Maintenance, Options, Result, Store, Transaction,
};

use append::Append;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// One call of a transaction. Keys are single letters.
#[derive(Clone, Debug)]
enum Call {
    Get(u8),
    Count(u8, u8),
    Length,
    /// So many entries from one end of a range.
    Walk(u8, u8, usize, bool),
    /// Seeks with a cursor and steps.
    Seek(u8, Vec<bool>),
    Nth(u64),
    PopFirst,
    Put(u8, usize),
    Delete(u8),
    DeleteRange(u8, u8),
    Append(u8),
    /// Puts something in a savepoint that is undone.
    Undone(u8),
}

const KEYS: std::ops::Range<u8> = b'a'..b'k';

fn call(random: &mut fastrand::Rng) -> Call {
    let key = random.u8(KEYS);
    let end = random.u8(KEYS.start..=KEYS.end);
    match random.usize(..16) {
        0..3 => Call::Get(key),
        3 => Call::Count(key, end),
        4 => Call::Length,
        5 => Call::Walk(key, end, random.usize(..4), random.bool()),
        6 => Call::Seek(key, (0..random.usize(..4)).map(|_| random.bool()).collect()),
        7 => Call::Nth(random.u64(..8)),
        8 => Call::PopFirst,
        9..12 => Call::Put(key, [1, 30, 3000][random.usize(..3)]),
        12 => Call::Delete(key),
        13 => Call::DeleteRange(key, end.min(key + 2)),
        14 => Call::Append(key),
        _ => Call::Undone(key),
    }
}

/// What a call gave, as text.
type Seen = String;

fn seen(entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Seen {
    let entries = entries.into_iter();
    let told = entries.map(|(key, value)| {
        let tail: Vec<u8> = value.iter().rev().take(8).copied().collect();
        format!("{key:?}={}:{tail:?};", value.len())
    });
    told.collect()
}

fn value(number: usize, length: usize) -> Vec<u8> {
    let mut value = vec![7; length];
    value.extend((number as u32).to_be_bytes());
    value
}

/// Makes a call in a transaction, which has a number of its own.
fn make(transaction: &mut Transaction, number: usize, call: &Call) -> Result<Seen> {
    let mut entries = Vec::new();
    match call {
        Call::Get(key) => {
            let value = transaction.get([*key]).wait()?;
            entries.extend(value.map(|value| (vec![*key], value.to_vec())));
        }
        Call::Count(low, end) => {
            return Ok(transaction.count([*low]..[*end]).wait()?.to_string());
        }
        Call::Length => return Ok(transaction.len().wait()?.to_string()),
        Call::Walk(low, end, count, back) => {
            let mut range = transaction.range([*low]..[*end]);
            for _ in 0..*count {
                let next = if *back {
                    range.next_back()
                } else {
                    range.next()
                };
                entries.extend(next.transpose()?.map(|(key, value)| (key, value.to_vec())));
            }
        }
        Call::Seek(key, steps) => {
            let mut cursor = transaction.cursor();
            let mut found = cursor.seek([*key]).wait()?;
            for forward in std::iter::once(None).chain(steps.iter().map(Some)) {
                found = match forward {
                    None => found,
                    Some(true) => cursor.next().wait()?,
                    Some(false) => cursor.previous().wait()?,
                };
                if found {
                    let key = cursor.key().unwrap().to_vec();
                    entries.push((key, cursor.value().wait()?.unwrap().to_vec()));
                }
            }
        }
        Call::Nth(rank) => {
            let found = transaction.nth(*rank).wait()?;
            entries.extend(found.map(|(key, value)| (key, value.to_vec())));
        }
        Call::PopFirst => {
            let found = transaction.pop_first().wait()?;
            entries.extend(found.map(|(key, value)| (key, value.to_vec())));
        }
        Call::Put(key, length) => transaction.put([*key], value(number, *length)).wait()?,
        Call::Delete(key) => transaction.delete([*key]).wait()?,
        Call::DeleteRange(low, end) => transaction.delete_range([*low]..[*end]).wait()?,
        Call::Append(key) => {
            let operand = (number as u32).to_be_bytes();
            transaction.merge([*key], "append", operand).wait()?;
        }
        Call::Undone(key) => {
            let mut savepoint = transaction.savepoint();
            savepoint.put([*key], "undone").wait()?;
            savepoint.delete_range(..).wait()?;
            savepoint.roll_back()?;
        }
    }
    Ok(seen(entries))
}

/// The same with a map.
fn repeat(map: &mut Map, number: usize, call: &Call) -> Seen {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    let within = |low: u8, end: u8| {
        (
            Bound::Included(vec![low]),
            Bound::Excluded(vec![end.max(low)]),
        )
    };
    match call {
        Call::Get(key) => entries.extend(map.get_key_value(&vec![*key]).map(owned)),
        Call::Count(low, end) => return map.range(within(*low, *end)).count().to_string(),
        Call::Length => return map.len().to_string(),
        Call::Walk(low, end, count, back) => {
            let range = map.range(within(*low, *end)).map(owned);
            match back {
                true => entries.extend(range.rev().take(*count)),
                false => entries.extend(range.take(*count)),
            }
        }
        Call::Seek(key, steps) => {
            let all: Vec<_> = map.iter().map(owned).collect();
            let mut at = all.partition_point(|(other, _)| other < &vec![*key]) as isize;
            let last = all.len() as isize;
            entries.extend(all.get(at as usize).cloned());
            for forward in steps {
                at = (at + if *forward { 1 } else { -1 }).clamp(-1, last);
                if (0..last).contains(&at) {
                    entries.push(all[at as usize].clone());
                }
            }
        }
        Call::Nth(rank) => entries.extend(map.iter().nth(*rank as usize).map(owned)),
        Call::PopFirst => entries.extend(map.pop_first()),
        Call::Put(key, length) => {
            map.insert(vec![*key], value(number, *length));
        }
        Call::Delete(key) => {
            map.remove(&vec![*key]);
        }
        Call::DeleteRange(low, end) => {
            map.retain(|key, _| *key < vec![*low] || *key >= vec![*end]);
        }
        Call::Append(key) => {
            let list = map.entry(vec![*key]).or_default();
            list.extend((number as u32).to_be_bytes());
        }
        Call::Undone(_) => {}
    }
    seen(entries)
}

type Calls = Vec<(Call, Seen)>;

/// A transaction that was committed: its number, and what its calls gave.
type Committed = (usize, Calls);

/// What the first transaction saw that would have seen something else alone.
fn judge(committed: &BTreeMap<u64, Committed>) -> std::result::Result<Map, String> {
    let mut map = Map::new();
    for (sequence, (number, calls)) in committed {
        for (call, seen) in calls {
            let alone = repeat(&mut map, *number, call);
            if alone != *seen {
                return Err(format!(
                    "transaction {number}, commit {sequence}, {call:?}: {seen}, alone {alone}"
                ));
            }
        }
    }
    Ok(map)
}

/// Interleaves transactions of one thread as a seed says.
fn history(seed: u64, isolation: Isolation) -> std::result::Result<(), String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let options = Options::new()
        .settings(Settings::tiny())
        .maintenance(Maintenance::Caller)
        .durability(Durability::Deferred)
        .journal_bytes([256, 4 << 10, 1 << 20][random.usize(..3)])
        .history_bytes([0, 2 << 10, 1 << 20][random.usize(..3)])
        .merge_operator(Append);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let mut open: Vec<(usize, Transaction, Calls)> = Vec::new();
    let (mut committed, mut number, mut refused) = (BTreeMap::new(), 0, 0);
    for _ in 0..150 {
        if open.is_empty() || random.usize(..8) == 0 {
            let mut transaction = store.begin().wait().unwrap();
            transaction.set_isolation(isolation);
            open.push((number, transaction, Vec::new()));
            number += 1;
            continue;
        }
        if random.usize(..10) == 0 {
            store.maintain().wait().unwrap();
        }
        let at = random.usize(..open.len());
        if random.usize(..6) > 0 {
            let call = call(&mut random);
            let (number, transaction, calls) = &mut open[at];
            let seen = make(transaction, *number, &call).unwrap();
            calls.push((call, seen));
            continue;
        }
        let (number, transaction, calls) = open.swap_remove(at);
        let before = store.sequence().0;
        match transaction.commit().wait() {
            Ok(sequence) if sequence.0 > before => {
                _ = committed.insert(sequence.0, (number, calls))
            }
            // It wrote nothing.
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                refused += 1;
            }
        }
    }
    println!("{} committed, {refused} refused", committed.len());
    let map = judge(&committed)?;
    let left = store.iter().map(|entry| entry.unwrap());
    let left: Map = left.map(|(key, value)| (key, value.to_vec())).collect();
    match left == map {
        true => Ok(()),
        false => Err("what is left is not what the commits leave".into()),
    }
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let more = std::env::var("THUNDERHEAD_HISTORIES");
    0..more
        .ok()
        .and_then(|more| more.parse().ok())
        .unwrap_or(default)
}

#[test]
fn committed_transactions_read_what_they_would_have_read_alone() {
    for seed in seeds(1500) {
        println!("seed {seed}");
        if let Err(message) = history(seed, Isolation::Serializable) {
            panic!("seed {seed}: {message}");
        }
    }
}

#[test]
fn the_judge_finds_what_snapshots_allow() {
    let found = (0..50).filter(|&seed| history(seed, Isolation::Snapshot).is_err());
    assert!(found.count() > 5, "it finds nothing");
}

/// What a transaction did with lists and registers: of each key what it read, and what it wrote.
#[derive(Clone, Debug, Default)]
struct Did {
    /// Elements of lists, and the one of a register, that were there.
    read: Vec<(u8, Vec<u32>)>,
    wrote: Vec<u8>,
}

const LISTS: std::ops::Range<u8> = b'a'..b'e';
const REGISTERS: std::ops::Range<u8> = b'p'..b't';

fn elements(value: &[u8]) -> Vec<u32> {
    let elements = value.as_chunks().0.iter();
    elements.map(|bytes| u32::from_be_bytes(*bytes)).collect()
}

/// Reads some keys and writes others. What is written to a register has the one before behind it.
async fn work(
    transaction: &mut Transaction,
    random: &mut fastrand::Rng,
    number: u32,
) -> Result<Did> {
    let mut did = Did::default();
    for _ in 0..random.usize(1..4) {
        let key = random.u8(LISTS);
        if did.wrote.contains(&key) {
            continue;
        }
        let found = transaction.get([key]).await?;
        did.read.push((key, elements(&found.unwrap_or_default())));
        let key = random.u8(LISTS);
        if !did.wrote.contains(&key) {
            let element = number.to_be_bytes();
            transaction.merge([key], "append", element).await?;
            did.wrote.push(key);
        }
    }
    let key = random.u8(REGISTERS);
    let before = transaction.get([key]).await?.unwrap_or_default();
    let before = elements(&before);
    let element = [
        &number.to_be_bytes()[..],
        &before.first().unwrap_or(&0).to_be_bytes(),
    ]
    .concat();
    transaction.put([key], element).await?;
    did.read.push((key, before));
    did.wrote.push(key);
    Ok(did)
}

/// Who must come before whom: pairs of numbers.
fn dependencies(history: &BTreeMap<u32, Did>) -> BTreeSet<(u32, u32)> {
    let mut orders: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
    let mut successors: BTreeMap<(u8, u32), u32> = BTreeMap::new();
    for (number, did) in history {
        for (key, read) in &did.read {
            if LISTS.contains(key) {
                let longest = orders.entry(*key).or_default();
                if read.len() > longest.len() {
                    assert!(read.starts_with(longest), "lists of {key} fork");
                    longest.clone_from(read);
                } else {
                    assert!(longest.starts_with(read), "lists of {key} fork");
                }
            } else {
                let before = read.first().copied().unwrap_or(0);
                let other = successors.insert((*key, before), *number);
                assert_eq!(other, None, "two updates of {key} from the same one");
            }
        }
    }
    let mut pairs = BTreeSet::new();
    for order in orders.values() {
        pairs.extend(order.windows(2).map(|pair| (pair[0], pair[1])));
    }
    for (number, did) in history {
        for (key, read) in &did.read {
            if REGISTERS.contains(key) {
                pairs.extend(read.first().map(|before| (*before, *number)));
                continue;
            }
            pairs.extend(read.last().map(|last| (*last, *number)));
            // Whoever appended next was not there yet.
            let next = orders.get(key).and_then(|order| order.get(read.len()));
            pairs.extend(next.map(|next| (*number, *next)));
        }
    }
    pairs.retain(|(before, after)| before != after);
    pairs
}

/// Those that cannot be put in an order.
fn cycle(pairs: &BTreeSet<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut left: Vec<(u32, u32)> = pairs.iter().copied().collect();
    loop {
        let after: BTreeSet<u32> = left.iter().map(|pair| pair.1).collect();
        let before = left.len();
        left.retain(|pair| after.contains(&pair.0));
        if left.len() == before {
            return left;
        }
    }
}

fn lists(store: &Store, isolation: Isolation, seed: u64, transactions: u32) -> Vec<(u32, u32)> {
    let history = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for worker in 0..4u32 {
            let history = &history;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed * 4 + u64::from(worker));
                for round in 0..transactions {
                    let number = 1 + worker * transactions + round;
                    let mut transaction = store.begin().wait().unwrap();
                    transaction.set_isolation(isolation);
                    let did =
                        futures::executor::block_on(work(&mut transaction, &mut random, number));
                    if random.bool() {
                        thread::yield_now();
                    }
                    let result = match random.bool() {
                        true => transaction.commit().wait(),
                        false => futures::executor::block_on(transaction.commit()),
                    };
                    match result {
                        Ok(_) => _ = history.lock().unwrap().insert(number, did.unwrap()),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
                    }
                }
            });
        }
    });
    let mut history = history.into_inner().unwrap();
    // Somebody reads everything in the end.
    let mut last = Did::default();
    for key in LISTS {
        let list = store.get([key]).wait().unwrap().unwrap_or_default();
        last.read.push((key, elements(&list)));
    }
    history.insert(u32::MAX, last);
    for did in history.values() {
        let seen = did.read.iter().flat_map(|(_, read)| read);
        assert!(
            seen.filter(|number| **number > 0)
                .all(|number| history.contains_key(number))
        );
    }
    println!("{} committed", history.len() - 1);
    cycle(&dependencies(&history))
}

#[test]
fn what_threads_see_of_lists_and_registers_has_an_order() {
    for (seed, durability) in [
        Durability::Immediate,
        Durability::Buffered,
        Durability::Deferred,
    ]
    .into_iter()
    .enumerate()
    {
        for (journal_bytes, history_bytes) in [(4 << 20, 1 << 20), (1 << 10, 0), (1 << 10, 8 << 10)]
        {
            let options = Options::new()
                .settings(Settings::tiny())
                .durability(durability)
                .journal_bytes(journal_bytes)
                .history_bytes(history_bytes)
                .merge_operator(Append);
            let store = options.open_disk(MemoryDisk::new()).unwrap();
            let found = lists(&store, Isolation::Serializable, seed as u64, 150);
            assert!(found.is_empty(), "{found:?}");
        }
    }
}

#[test]
fn write_skew_of_two_is_a_cycle() {
    for (isolation, cycles) in [
        (Isolation::Serializable, false),
        (Isolation::Snapshot, true),
    ] {
        let options = Options::new().merge_operator(Append);
        let store = options.open_disk(MemoryDisk::new()).unwrap();
        let mut history = BTreeMap::new();
        let open = [(1, b'a', b'b'), (2, b'b', b'a')].map(|(number, read, wrote)| {
            let mut transaction = store.begin().wait().unwrap();
            transaction.set_isolation(isolation);
            assert_eq!(transaction.get([read]).wait().unwrap(), None);
            let append = transaction.merge([wrote], "append", u32::to_be_bytes(number));
            append.wait().unwrap();
            let did = Did {
                read: vec![(read, Vec::new())],
                wrote: vec![wrote],
            };
            (number, transaction, did)
        });
        for (number, transaction, did) in open {
            if transaction.commit().wait().is_ok() {
                history.insert(number, did);
            }
        }
        let mut last = Did::default();
        for key in [b'a', b'b'] {
            let list = store.get([key]).wait().unwrap().unwrap_or_default();
            last.read.push((key, elements(&list)));
        }
        history.insert(u32::MAX, last);
        assert_eq!(!cycle(&dependencies(&history)).is_empty(), cycles);
    }
}
