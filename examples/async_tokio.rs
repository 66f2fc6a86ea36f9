//! Many tasks on tokio share one store: group commit, transactions, snapshots beside them.
//!
//! `cargo run --release --example async_tokio`
//!
//! Every call is a future for any executor; the store starts no runtime and needs none. Those who
//! commit at the same time share one write and one sync, so a hundred tasks that each wait for their
//! own durable commit are about as fast as one that commits a hundred things together.

use std::error::Error;
use std::time::Instant;

use futures::TryStreamExt;
use thunderhead::{Result, Snapshot, Store};
use tokio::task::JoinSet;

const TASKS: usize = 100;
const EVENTS: usize = 20;
const ACCOUNTS: u32 = 10;
const WRITERS: u32 = 4;
const TRANSFERS: u32 = 50;

fn number(bytes: &[u8]) -> i64 {
    bytes.try_into().map_or(0, i64::from_le_bytes)
}

fn account(number: u32) -> String {
    format!("account/{number:03}")
}

/// Each event is durable when its put has come back.
async fn log_events(store: Store, task: usize) -> Result<()> {
    for event in 0..EVENTS {
        let key = format!("event/{task:03}/{event:03}");
        store.put(key, "something happened").await?;
    }
    Ok(())
}

/// Moves something from one account to the next: both are changed, or neither. If somebody else was
/// in the way, it is tried again.
async fn transfer(store: &Store, round: u32) -> Result<()> {
    let (from, to) = (account(round % ACCOUNTS), account((round + 1) % ACCOUNTS));
    let amount = i64::from(round % 7);
    store
        .transact(|mut attempt| {
            let changes = [(from.clone(), -amount), (to.clone(), amount)];
            async move {
                for (key, change) in changes {
                    let add = |old: Option<&[u8]>| {
                        let sum = old.map_or(0, number) + change;
                        Some(sum.to_le_bytes().to_vec())
                    };
                    attempt.update(key, add).await?;
                }
                Ok(())
            }
        })
        .await
}

/// What all accounts have together, at one moment.
async fn total(snapshot: &Snapshot) -> Result<i64> {
    snapshot
        .prefix("account/")
        .try_fold(0, async |sum, (_, balance)| Ok(sum + number(&balance)))
        .await
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error + Send + Sync>> {
    let place = tempfile::tempdir()?;
    let store = Store::create(place.path().join("shared"))?;

    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for task in 0..TASKS {
        // A clone is the same store.
        tasks.spawn(log_events(store.clone(), task));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let stats = store.stats();
    println!(
        "{} durable commits of {TASKS} tasks in {:?}: {} writes and syncs",
        stats.commits,
        start.elapsed(),
        stats.groups,
    );
    assert_eq!(
        store.count("event/".."event0").await?,
        (TASKS * EVENTS) as u64
    );

    let mut batch = store.batch();
    for number in 0..ACCOUNTS {
        batch.put(account(number), 100i64.to_le_bytes()).await?;
    }
    batch.commit().await?;
    // Several at the same time, on the same accounts.
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for round in 0..TRANSFERS {
                transfer(&store, writer + round).await?;
            }
            Ok::<(), thunderhead::Error>(())
        });
    }
    // Whoever reads from a snapshot sees whole transactions, and waits for nobody.
    let mut looks = 0;
    while !writers.is_empty() {
        assert_eq!(total(&store.snapshot()).await?, i64::from(ACCOUNTS) * 100);
        looks += 1;
        if let Some(done) = writers.try_join_next() {
            done??;
        }
        tokio::task::yield_now().await;
    }
    let transfers = WRITERS * TRANSFERS;
    println!("{transfers} transfers, and {looks} looks at all accounts meanwhile");
    assert_eq!(total(&store.snapshot()).await?, i64::from(ACCOUNTS) * 100);
    store.close().await?;
    Ok(())
}
