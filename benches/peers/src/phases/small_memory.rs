//! A load of everything in one transaction, with 64 MiB for the cache and, where that can be set,
//! for the transaction: how much memory the process takes is what matters here.

use super::session::Session;
use crate::data::{PAIR_BYTES, key, value};
use crate::engines::{Result, Safety};

const BUDGET_BYTES: usize = 64 << 20;

pub fn run(session: &mut Session) -> Result<()> {
    session.settings.cache_bytes = BUDGET_BYTES;
    session.settings.transaction_bytes = Some(BUDGET_BYTES);
    let elements = session.amounts.elements;
    session.store()?;
    session.measure("small-memory", elements, true, |session, metrics| {
        metrics.insert("raw_bytes".to_owned(), (elements * PAIR_BYTES) as f64);
        // No model: it would count too.
        session.store()?.write(Safety::Durable, &mut |writer| {
            (0..elements).try_for_each(|index| writer.put(&key(index), &value(index, 1)))
        })
    })?;
    for index in 0..elements {
        session.model.write(index);
    }
    super::reading::verify(session)?;
    session.close()
}
