//! Keeping versions: how long it takes to keep one, durably, in a store of this size.
//!
//! Before each, one pair is updated and synced, so that there is something new to keep; only the keeping is
//! timed. In the end all of them must be there, and all pairs.

use std::time::Instant;

use super::reading;
use super::session::{Session, check};
use super::writing::{put_all, transaction_limit};
use crate::data::{key, value};
use crate::engines::{Result, Safety};

const KEPT: u64 = 200;

pub fn run(session: &mut Session) -> Result<()> {
    if !session.store()?.keeps_versions() {
        session.absent("saves", "no versions are kept across openings");
        return session.close();
    }
    let elements = session.amounts.elements;
    let limit = transaction_limit(session);
    put_all(session, 0..elements, limit)?;
    session.measure("saves", KEPT, true, |session, metrics| {
        let (store, model, random) = session.parts()?;
        let mut times = Vec::new();
        for name in 0..KEPT {
            let index = random.below(elements);
            let version = model.write(index);
            store.put(Safety::Durable, &key(index), &value(index, version))?;
            let began = Instant::now();
            store.keep_version(name)?;
            times.push(began.elapsed().as_secs_f64() * 1e6);
        }
        times.sort_unstable_by(f64::total_cmp);
        metrics.insert("save_us".to_owned(), times[times.len() / 2]);
        Ok(())
    })?;
    session.close()?;
    let kept = session.store()?.versions()?;
    check(kept == KEPT, || {
        format!("{kept} of {KEPT} versions are there")
    })?;
    reading::verify(session)?;
    session.close()
}
