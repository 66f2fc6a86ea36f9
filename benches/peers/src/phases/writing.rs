//! Commits, updates and removals.

use std::collections::BTreeMap;

use super::reading::{present, read_one};
use super::session::{BATCH, Session};
use crate::data::{Model, PAIR_BYTES, Zipf, key, mix, place, value};
use crate::engines::{Engine, Result, Safety};

/// Under a limit of memory, what would be one transaction is cut into such ones, for all engines
/// alike: some keep all of a transaction in memory, LMDB a page for each put.
const BOUNDED: u64 = 1_000;

/// How many operations a large transaction may have.
pub fn transaction_limit(session: &Session) -> u64 {
    match session.work.memory_bytes {
        Some(_) => BOUNDED,
        None => u64::MAX,
    }
}

/// Puts an index range, in the order of the indices, which is no order of the keys.
pub fn put_all(
    session: &mut Session,
    indices: impl Iterator<Item = u64>,
    limit: u64,
) -> Result<()> {
    let mut indices = indices.peekable();
    while indices.peek().is_some() {
        let (store, model, _) = session.parts()?;
        store.write(Safety::Durable, &mut |writer| {
            let mut left = limit;
            while left > 0
                && let Some(index) = indices.next()
            {
                writer.put(&key(index), &value(index, model.write(index)))?;
                left -= 1;
            }
            Ok(())
        })?;
    }
    Ok(())
}

pub fn load(session: &mut Session) -> Result<()> {
    let elements = session.amounts.elements;
    let limit = transaction_limit(session);
    session.store()?;
    session.measure("load", elements, true, |session, metrics| {
        metrics.insert("raw_bytes".to_owned(), (elements * PAIR_BYTES) as f64);
        put_all(session, 0..elements, limit)
    })
}

/// The load in the order of the keys.
pub fn load_sorted(session: &mut Session) -> Result<()> {
    let elements = session.amounts.elements;
    let limit = transaction_limit(session);
    session.store()?;
    let mut indices: Vec<u64> = (0..elements).collect();
    indices.sort_unstable_by_key(|&index| place(index));
    session.measure("load-sorted", elements, true, |session, metrics| {
        metrics.insert("raw_bytes".to_owned(), (elements * PAIR_BYTES) as f64);
        put_all(session, indices.into_iter(), limit)
    })
}

/// The safest way to commit without waiting for the disk. Engines that cannot hand a commit to the
/// operating system keep it in memory, which is less: a note says so.
fn unsynced(store: &dyn Engine) -> Safety {
    match store.offers(Safety::Buffered) {
        true => Safety::Buffered,
        false => Safety::Deferred,
    }
}

/// Single puts of new keys.
pub fn singles(session: &mut Session, phase: &str, puts: u64, safety: Safety) -> Result<()> {
    let safety = match safety {
        Safety::Buffered => unsynced(session.store()?),
        _ => safety,
    };
    if !session.store()?.offers(safety) {
        session.absent(phase, "it has no such commits");
        return Ok(());
    }
    session.measure(phase, puts, true, |session, _| {
        let (store, model, _) = session.parts()?;
        let begin = model.indices();
        (begin..begin + puts)
            .try_for_each(|index| store.put(safety, &key(index), &value(index, model.write(index))))
    })
}

/// Durable batches of new keys.
pub fn batches(session: &mut Session) -> Result<()> {
    let puts = session.amounts.batches * BATCH;
    session.measure("batches", puts, true, |session, _| {
        let begin = session.model.indices();
        put_all(session, begin..begin + puts, BATCH)
    })
}

/// Random updates in durable batches, and the closing of the store.
pub fn updates(session: &mut Session) -> Result<()> {
    let updates = session.amounts.updates;
    session.measure("updates", updates, true, |session, metrics| {
        metrics.insert("raw_bytes".to_owned(), (updates * PAIR_BYTES) as f64);
        let mut left = updates;
        while left > 0 {
            let puts = left.min(BATCH);
            let (store, model, random) = session.parts()?;
            store.write(Safety::Durable, &mut |writer| {
                (0..puts).try_for_each(|_| {
                    let index = present(model, random);
                    writer.put(&key(index), &value(index, model.write(index)))
                })
            })?;
            left -= puts;
        }
        session.close()?;
        note_live(session, metrics);
        Ok(())
    })
}

/// Half reads, half writes that are not synced, of keys of which few come often.
pub fn mixed(session: &mut Session) -> Result<()> {
    let operations = session.amounts.mixed;
    let zipf = Zipf::new(session.amounts.elements);
    session.measure("mixed", operations, true, |session, _| {
        let (store, model, random) = session.parts()?;
        let safety = unsynced(store);
        for _ in 0..operations {
            let index = mix(zipf.next(random)) % model.indices();
            if random.below(2) == 0 {
                store.read(&mut |reader| read_one(reader, model, index))?;
            } else {
                store.put(safety, &key(index), &value(index, model.write(index)))?;
            }
        }
        Ok(())
    })
}

/// Removes every other index in one transaction.
pub fn removal(session: &mut Session) -> Result<()> {
    let is_removed =
        |model: &Model, index: u64| index.is_multiple_of(2) && model.version(index) != 0;
    // A list of them would be much of a small limit of memory.
    let indices = 0..session.model.indices();
    let removed = indices
        .clone()
        .filter(|&index| is_removed(&session.model, index));
    let (removals, limit) = (removed.count() as u64, transaction_limit(session));
    session.measure("removal", removals, true, |session, metrics| {
        let mut indices = indices;
        while !indices.is_empty() {
            let (store, model, _) = session.parts()?;
            store.write(Safety::Durable, &mut |writer| {
                let mut left = limit;
                while left > 0
                    && let Some(index) = indices.find(|&index| is_removed(model, index))
                {
                    writer.delete(&key(index))?;
                    model.remove(index);
                    left -= 1;
                }
                Ok(())
            })?;
        }
        note_live(session, metrics);
        Ok(())
    })
}

/// Notes how many bytes of data there are now, to which sizes are compared.
pub fn note_live(session: &Session, metrics: &mut BTreeMap<String, f64>) {
    let live = session.model.entries() * PAIR_BYTES;
    metrics.insert("live_bytes".to_owned(), live as f64);
}

/// Deletes the middle third of the order of keys.
pub fn delete_range(session: &mut Session) -> Result<()> {
    const LOW: u64 = 0x5555_5555_0000_0000;
    const END: u64 = 0xaaaa_aaaa_0000_0000;
    // Before the clock runs: going through all indices takes longer than a fast engine does.
    for index in 0..session.model.indices() {
        if (LOW..END).contains(&place(index)) {
            session.model.remove(index);
        }
    }
    session.measure("delete-range", 1, true, |session, metrics| {
        session
            .store()?
            .delete_range(&LOW.to_be_bytes(), &END.to_be_bytes())?;
        note_live(session, metrics);
        Ok(())
    })
}
