//! What transactions and locks cost by themselves, on the clock and in instructions.
//!
//! `cargo bench --bench transactions` measures each on the clock, and then runs itself under callgrind.
//! Without valgrind, and with `-- --test`, nothing is counted.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use tempfile::TempDir;
use thunderhead::{Durability, LockMode, Maintenance, Options, RangeGuard, Store, Transaction};

#[path = "support/callgrind.rs"]
mod callgrind;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Key = [u8; 24];

const VALUE: [u8; 150] = [7; 150];
/// How many ranges one transaction reads, and how many commits there are meanwhile.
const MANY: usize = 10_000;

/// A name, how many are measured on the clock, and how many are counted.
struct Way {
    name: &'static str,
    clocked: usize,
    counted: usize,
}

const WAYS: [Way; 7] = [
    way("begin and commit", 200_000, 5_000),
    way("begin, put one, commit", 50_000, 5_000),
    way("begin, get and put one, commit", 50_000, 5_000),
    way("lock beside 1", 200_000, 5_000),
    way("lock beside 1000", 200_000, 5_000),
    way("lock beside 1000000", 200_000, 5_000),
    way("validate 10000 ranges against 10000 commits", 5, 1),
];

const fn way(name: &'static str, clocked: usize, counted: usize) -> Way {
    Way {
        name,
        clocked,
        counted,
    }
}

/// What is counted, by its name in the program.
const COUNTED: &str = "*measured_each*";

/// Gives the time, in microseconds, that each of so many takes.
#[inline(never)]
fn measured_each<T>(things: Vec<T>, mut one: impl FnMut(T) -> Result<()>) -> Result<f64> {
    let (count, begin) = (things.len(), Instant::now());
    for thing in things {
        one(black_box(thing))?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / count as f64)
}

fn keys(random: &mut fastrand::Rng, count: usize) -> Vec<Key> {
    let mut keys = vec![[0; 24]; count];
    keys.iter_mut().for_each(|key| random.fill(key));
    keys
}

/// A store on a file, that hands commits to the operating system, with keys in it.
fn store(keys: &[Key]) -> Result<(Store, TempDir)> {
    let directory = tempfile::tempdir()?;
    // No thread but this one, so that each run is the same.
    let options = Options::new()
        .maintenance(Maintenance::Caller)
        .durability(Durability::Buffered);
    let store = options.create(directory.path().join("store"))?;
    let mut load = store.begin().wait()?;
    for key in keys {
        load.put(key, VALUE).wait()?;
    }
    load.commit().wait()?;
    store.checkpoint().wait()?;
    Ok((store, directory))
}

fn locked(store: &Store, key: &Key) -> Result<RangeGuard> {
    Ok(store.lock(key..=key, LockMode::Exclusive).wait()?)
}

fn locks(held: usize, count: usize) -> Result<f64> {
    let store = Store::in_memory()?;
    let mut random = fastrand::Rng::with_seed(2);
    let others = keys(&mut random, held);
    let others: Result<Vec<_>> = others.iter().map(|key| locked(&store, key)).collect();
    let others = others?;
    let each = measured_each(keys(&mut random, count), |key| {
        drop(locked(&store, &key)?);
        Ok(())
    });
    drop(others);
    each
}

/// Transactions that each have read so much, and meanwhile as much was committed.
fn validations(count: usize) -> Result<f64> {
    let mut random = fastrand::Rng::with_seed(3);
    let read = keys(&mut random, MANY);
    let (store, _directory) = store(&read)?;
    let mut sum = 0.0;
    for _ in 0..count {
        let mut transaction = store.begin().wait()?;
        for key in &read {
            let mut range = transaction.range(key..);
            black_box(range.next().transpose()?);
        }
        transaction.put("result", VALUE).wait()?;
        for key in keys(&mut random, MANY) {
            // After the ranges, each of which ends with the key where it begins.
            store.put([&key[..], b"+"].concat(), VALUE).wait()?;
        }
        sum += measured_each(vec![transaction], |transaction| {
            transaction.commit().wait()?;
            Ok(())
        })?;
    }
    Ok(sum / count as f64)
}

fn transactions(count: usize, work: impl Fn(&mut Transaction, &Key) -> Result<()>) -> Result<f64> {
    let mut random = fastrand::Rng::with_seed(1);
    let known = keys(&mut random, 1000);
    let (store, _directory) = store(&known)?;
    let used = known.iter().cycle().take(count).collect();
    measured_each(used, |key| {
        let mut transaction = store.begin().wait()?;
        work(&mut transaction, key)?;
        transaction.commit().wait()?;
        Ok(())
    })
}

/// Measures one way so many times: microseconds each.
fn measure(way: usize, count: usize) -> Result<f64> {
    let put = |transaction: &mut Transaction, key: &Key| Ok(transaction.put(key, VALUE).wait()?);
    match way {
        0 => transactions(count, |_, _| Ok(())),
        1 => transactions(count, put),
        2 => transactions(count, |transaction, key| {
            black_box(transaction.get(key).wait()?);
            put(transaction, key)
        }),
        3 => locks(1, count),
        4 => locks(1_000, count),
        5 => locks(1_000_000, count),
        _ => validations(count),
    }
}

/// The instructions of one.
fn counted(way: usize) -> Result<f64> {
    let counted = callgrind::counted(COUNTED, &[way.to_string()])?;
    Ok(counted as f64 / WAYS[way].counted as f64)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [way] = &arguments[..]
        && let Ok(way) = way.parse::<usize>()
    {
        return measure(way, WAYS[way].counted).map(|_| ());
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let counts = !is_test && callgrind::is_there();
    for (way, Way { name, clocked, .. }) in WAYS.iter().enumerate() {
        let count = if is_test { 1 } else { *clocked };
        print!("{name:>44}: {:9.2} µs", measure(way, count)?);
        match counts {
            true => println!(" {:11.0} instructions", counted(way)?),
            false => println!(),
        }
    }
    Ok(())
}
