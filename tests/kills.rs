//! Real kills: a child process commits to a real file and reports what was acknowledged; it is
//! killed at a random moment, and what it acknowledged is there, in whole commits, in order.
//!
//! The test binary runs itself as the child. `THUNDERHEAD_KILLS` says how often it is killed, 200
//! times by default. A bank moves money in transactions beside each other. What only a power failure loses is the business of the simulation.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use thunderhead::format::Settings;
use thunderhead::{Durability, ErrorKind, Options, Store};

const CHILD: &str = "THUNDERHEAD_KILLS_CHILD";
const BANK: &str = "THUNDERHEAD_KILLS_BANK";

/// The accounts of the bank, each of which begins with the same.
const ACCOUNTS: u8 = 12;
const BALANCE: u64 = 1000;
const TELLERS: u64 = 3;

/// How many keys each commit writes its number to.
const COPIES: u64 = 3;

fn options(tiny: bool) -> Options {
    let options = Options::new().cache_bytes(4 << 20);
    match tiny {
        true => options
            .settings(Settings::tiny())
            .segment_bytes(1 << 20)
            .journal_bytes(2 << 10)
            .checkpoint_log_bytes(16 << 10),
        false => options
            .journal_bytes(64 << 10)
            .checkpoint_log_bytes(256 << 10),
    }
}

/// Opens the store. While another test here starts a process, that one holds the lock for a moment.
fn open(options: &Options, path: &Path) -> Store {
    for _ in 0..500 {
        match options.open_or_create(path) {
            Err(error) if error.kind() == ErrorKind::Locked => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.expect("an undamaged store"),
        }
    }
    panic!("the store stays locked");
}

/// The value of a commit: every seventh is too large for a leaf.
fn value(number: u64, copy: u64) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    let bytes = if number.is_multiple_of(7) && copy == 0 {
        3000
    } else {
        20
    };
    value.resize(bytes, number as u8);
    value
}

fn number_of(store: &Store, key: &str) -> Option<u64> {
    let value = store.get(key).wait().expect("an undamaged store")?;
    value
        .first_chunk()
        .map(|number| u64::from_be_bytes(*number))
}

/// Commits for ever: number *n* goes to some keys, and to a history of one key a commit.
fn commit_until_killed(path: &Path, tiny: bool, durability: Durability) {
    let store = open(&options(tiny).durability(durability), path);
    let mut number = number_of(&store, "copy0").unwrap_or(0);
    let mut out = std::io::stdout().lock();
    loop {
        number += 1;
        let mut transaction = store.begin().wait().expect("a store that is open");
        for copy in 0..COPIES {
            let put = transaction.put(format!("copy{copy}"), value(number, copy));
            put.wait().expect("room");
        }
        let key = format!("history{:010}", number);
        transaction.put(key, value(number, 1)).wait().expect("room");
        if number.is_multiple_of(50) {
            // Only the last hundred commits or so keep a history.
            let end = format!("history{:010}", number.saturating_sub(100));
            let delete = transaction.delete_range("history"..end.as_str());
            delete.wait().expect("a bound that is short");
        }
        transaction.commit().wait().expect("a disk without faults");
        writeln!(out, "acknowledged {number}").expect("a parent that listens");
        out.flush().expect("a parent that listens");
    }
}

fn amount(value: Option<thunderhead::Value>) -> u64 {
    let bytes = value.as_deref().and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Tellers move money for ever, each in transactions beside those of the others. Each counts what it
/// has done in the store, and reports it.
fn move_money_until_killed(path: &Path, tiny: bool, durability: Durability) {
    let store = open(&options(tiny).durability(durability), path);
    let opened = store.transact(|mut bank| async move {
        if bank.is_empty().await? {
            for account in 0..ACCOUNTS {
                bank.put([b'a', account], BALANCE.to_be_bytes()).await?;
            }
        }
        Ok(())
    });
    opened.wait().expect("room");
    thread::scope(|scope| {
        for teller in 0..TELLERS {
            let store = &store;
            scope.spawn(move || {
                let seed = teller ^ u64::from(std::process::id());
                let mut random = fastrand::Rng::with_seed(seed);
                loop {
                    let (from, to) = (random.u8(..ACCOUNTS), random.u8(..ACCOUNTS));
                    let some = random.u64(..300);
                    let moved = store.transact(|mut bank| async move {
                        let (from, to) = ([b'a', from], [b'a', to]);
                        let left = amount(bank.get(from).await?);
                        let moved = some.min(left);
                        bank.put(from, (left - moved).to_be_bytes()).await?;
                        let there = amount(bank.get(to).await?);
                        bank.put(to, (there + moved).to_be_bytes()).await?;
                        let teller = format!("teller{teller}");
                        let number = amount(bank.get(&teller).await?) + 1;
                        bank.put(&teller, number.to_be_bytes()).await?;
                        Ok(number)
                    });
                    let number = moved.wait().expect("a disk without faults");
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "teller{teller} {number}").expect("a parent that listens");
                    out.flush().expect("a parent that listens");
                }
            });
        }
    });
}

/// What the newest reports of a child that was killed say of each teller.
fn told(child: &mut Child) -> [u64; TELLERS as usize] {
    let out = child.stdout.take().expect("it was piped");
    let mut told = [0; TELLERS as usize];
    let lines: Vec<Vec<u8>> = BufReader::new(out).split(b'\n').flatten().collect();
    // The last line may be cut short.
    for line in lines.iter().rev().skip(1) {
        let line = String::from_utf8_lossy(line);
        for (teller, told) in told.iter_mut().enumerate() {
            let number = line.split_once(&format!("teller{teller} "));
            let number = number.and_then(|(_, number)| number.trim().parse().ok());
            *told = number.unwrap_or(0).max(*told);
        }
    }
    told
}

fn bank_under_kills(tiny: bool, durability: Durability, seed: u64) {
    let kills = std::env::var("THUNDERHEAD_KILLS").ok();
    let kills: u64 = kills.and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut known = [0; TELLERS as usize];
    for _ in 0..kills.div_ceil(8) {
        let mut child = start(&path, tiny, durability, true);
        thread::sleep(Duration::from_micros(random.u64(1000..80_000)));
        child.kill().expect("it can be killed");
        let told = told(&mut child);
        child.wait().expect("it was killed");
        let store = open(&options(tiny), &path);
        if store.is_empty().wait().expect("an undamaged store") {
            continue;
        }
        let get = |key: &[u8]| amount(store.get(key).wait().expect("an undamaged store"));
        let sum: u64 = (0..ACCOUNTS).map(|account| get(&[b'a', account])).sum();
        assert_eq!(sum, u64::from(ACCOUNTS) * BALANCE, "money is made or lost");
        for (teller, known) in known.iter_mut().enumerate() {
            let done = get(format!("teller{teller}").as_bytes());
            let acknowledged = told[teller].max(*known);
            assert!(
                done >= acknowledged,
                "teller {teller}: {done} of {acknowledged}"
            );
            *known = done;
        }
    }
    println!("{known:?} transfers");
    assert!(
        known.iter().sum::<u64>() > 0,
        "no teller came to do anything"
    );
}

#[test]
fn a_bank_with_tellers_beside_each_other_keeps_its_money_over_kills() {
    bank_under_kills(true, Durability::Immediate, 5);
    bank_under_kills(false, Durability::Buffered, 6);
}

fn start(path: &Path, tiny: bool, durability: Durability, bank: bool) -> Child {
    let name = match durability {
        Durability::Immediate => "immediate",
        _ => "buffered",
    };
    Command::new(std::env::current_exe().expect("this binary has a name"))
        .args(["--exact", "the_child_of_the_tests_here", "--nocapture"])
        .env(CHILD, path)
        .env("THUNDERHEAD_KILLS_TINY", tiny.to_string())
        .env("THUNDERHEAD_KILLS_DURABILITY", name)
        .env(BANK, bank.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a process can be started")
}

/// The newest commit that a child that was killed acknowledged.
fn acknowledged(child: &mut Child) -> Option<u64> {
    let out = child.stdout.take().expect("it was piped");
    let mut newest = None;
    for line in BufReader::new(out).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line).into_owned();
        // The last line may be cut short; then it is not counted.
        if let Some((_, number)) = line.split_once("acknowledged ") {
            newest = number.trim().parse().ok().max(newest);
        }
    }
    newest
}

/// Checks what is there after a kill; gives the newest commit.
fn check(path: &Path, tiny: bool, acknowledged: u64) -> u64 {
    let store = open(&options(tiny), path);
    let newest = number_of(&store, "copy0").unwrap_or(0);
    assert!(
        newest >= acknowledged,
        "commit {acknowledged} was acknowledged, {newest} is there"
    );
    for copy in 0..COPIES {
        let key = format!("copy{copy}");
        let found = store.get(&key).wait().expect("an undamaged store");
        let expected = (newest > 0).then(|| value(newest, copy));
        assert_eq!(found.as_deref(), expected.as_deref(), "{key} of {newest}");
    }
    let mut number = newest;
    for entry in store.prefix("history").rev() {
        let (key, found) = entry.expect("an undamaged store");
        assert_eq!(key, format!("history{number:010}").into_bytes());
        assert_eq!(found, value(number, 1));
        number -= 1;
    }
    let kept = newest - (newest / 50 * 50).saturating_sub(100);
    let kept = if newest < 50 { newest } else { kept + 1 };
    assert_eq!(newest - number, kept.min(newest), "the history of {newest}");
    assert_eq!(
        store.len().wait().expect("an undamaged store"),
        newest - number + if newest > 0 { COPIES } else { 0 }
    );
    newest
}

fn kill_often(tiny: bool, durability: Durability, seed: u64) {
    let kills = std::env::var("THUNDERHEAD_KILLS").ok();
    let kills: u64 = kills.and_then(|kills| kills.parse().ok()).unwrap_or(200);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut newest, mut known) = (0, 0);
    for _ in 0..kills.div_ceil(4) {
        let mut child = start(&path, tiny, durability, false);
        thread::sleep(Duration::from_micros(random.u64(1000..60_000)));
        child.kill().expect("it can be killed");
        known = acknowledged(&mut child).unwrap_or(0).max(known);
        child.wait().expect("it was killed");
        newest = check(&path, tiny, known.max(newest));
    }
    println!("{newest} commits survived {} kills", kills.div_ceil(4));
    assert!(newest > 0, "no child came to commit anything");
}

#[test]
fn the_child_of_the_tests_here() {
    let Some(path) = std::env::var_os(CHILD) else {
        return;
    };
    let tiny = std::env::var("THUNDERHEAD_KILLS_TINY").is_ok_and(|tiny| tiny == "true");
    let durability = match std::env::var("THUNDERHEAD_KILLS_DURABILITY").as_deref() {
        Ok("buffered") => Durability::Buffered,
        _ => Durability::Immediate,
    };
    match std::env::var(BANK).is_ok_and(|bank| bank == "true") {
        true => move_money_until_killed(Path::new(&path), tiny, durability),
        false => commit_until_killed(Path::new(&path), tiny, durability),
    }
}

#[test]
fn tiny_nodes_keep_immediate_commits_over_kills() {
    kill_often(true, Durability::Immediate, 1);
}

#[test]
fn tiny_nodes_keep_buffered_commits_over_kills() {
    kill_often(true, Durability::Buffered, 2);
}

#[test]
fn ordinary_nodes_keep_immediate_commits_over_kills() {
    kill_often(false, Durability::Immediate, 3);
}

#[test]
fn ordinary_nodes_keep_buffered_commits_over_kills() {
    kill_often(false, Durability::Buffered, 4);
}
