//! A store from its load to its compaction: the suite of most phases, each of which finds what those
//! before it left.

use super::session::Session;
use super::{reading, writing};
use crate::engines::{Direction, Result, Safety};

pub const PHASES: [&str; 21] = [
    "load",
    "singles",
    "batches",
    "unsynced",
    "deferred",
    "count",
    "reads",
    "misses",
    "ranges",
    "ranges-backward",
    "scan",
    "scan-backward",
    "reads-2",
    "reads-4",
    "reads-8",
    "updates",
    "reopen",
    "mixed",
    "removal",
    "delete-range",
    "compact",
];

/// The load comes first in any case: all others need it.
pub fn run(session: &mut Session) -> Result<()> {
    writing::load(session)?;
    let amounts = session.amounts;
    for phase in &PHASES[1..] {
        if !session.wants(phase) {
            continue;
        }
        match *phase {
            "singles" => writing::singles(session, phase, amounts.singles, Safety::Durable)?,
            "batches" => writing::batches(session)?,
            "unsynced" => writing::singles(session, phase, amounts.unsynced, Safety::Buffered)?,
            "deferred" => writing::singles(session, phase, amounts.unsynced, Safety::Deferred)?,
            "count" => reading::count(session)?,
            "reads" => reading::reads(session)?,
            "misses" => reading::misses(session)?,
            "ranges" => reading::ranges(session, phase, Direction::Forward)?,
            "ranges-backward" => reading::ranges(session, phase, Direction::Backward)?,
            "scan" => reading::scan(session, phase, Direction::Forward)?,
            "scan-backward" => reading::scan(session, phase, Direction::Backward)?,
            "reads-2" => reading::threads(session, phase, 2)?,
            "reads-4" => reading::threads(session, phase, 4)?,
            "reads-8" => reading::threads(session, phase, 8)?,
            "updates" => writing::updates(session)?,
            "reopen" => reopen(session)?,
            "mixed" => writing::mixed(session)?,
            "removal" => writing::removal(session)?,
            "delete-range" => writing::delete_range(session)?,
            "compact" => compact(session)?,
            other => return Err(format!("no phase {other}").into()),
        }
    }
    reading::verify(session)?;
    session.close()
}

/// Opening after a clean close, and one read.
fn reopen(session: &mut Session) -> Result<()> {
    session.close()?;
    let index = reading::present(&session.model, &mut session.random);
    session.measure("reopen", 1, true, |session, _| {
        let (store, model, _) = session.parts()?;
        store.read(&mut |reader| reading::read_one(reader, model, index))
    })?;
    reading::verify(session)
}

fn compact(session: &mut Session) -> Result<()> {
    // What was removed is really gone, and nothing else.
    reading::verify(session)?;
    if !session.store()?.compacts() {
        session.absent("compact", "it has no way to give space back");
        return Ok(());
    }
    session.measure("compact", 1, true, |session, metrics| {
        writing::note_live(session, metrics);
        session.compact()
    })?;
    reading::verify(session)
}
