//! Opening after the process was killed while it committed, and that nothing is missing.
//!
//! A process of its own loads the store and then commits: durable puts and, where the engine has
//! them, buffered ones in turn. After each it tells the index on its standard output, and is killed
//! after enough of them. All that was told must be there, since a kill, unlike a power failure, loses
//! nothing that was handed to the operating system.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::reading::read_one;
use super::session::{Session, check};
use super::writing;
use crate::data::{key, value};
use crate::engines::{Result, Safety};

/// Commits before the kill.
const COMMITS: u64 = 10_000;

/// One in so many commits is durable.
const DURABLE_EVERY: u64 = 10;

pub fn run(session: &mut Session) -> Result<()> {
    let commits = session.amounts.elements.min(COMMITS);
    let mut child = Command::new(std::env::current_exe()?)
        .arg(crate::process::KILLED)
        .arg(serde_json::to_string(&session.work)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("the process has no output")?;
    let mut acknowledged = 0;
    for line in BufReader::new(output).lines() {
        acknowledged = line?.parse()?;
        if acknowledged >= commits {
            child.kill()?;
            break;
        }
    }
    child.wait()?;
    check(acknowledged >= commits, || {
        format!("the process to be killed ended by itself after {acknowledged} commits")
    })?;

    for index in 0..session.amounts.elements {
        session.model.write(index);
    }
    let loaded = session.model.indices();
    for commit in 0..acknowledged {
        session.model.write(loaded + commit);
    }
    session.measure("reopen-killed", 1, true, |session, metrics| {
        metrics.insert("acknowledged".to_owned(), acknowledged as f64);
        let (store, model, _) = session.parts()?;
        store.read(&mut |reader| read_one(reader, model, loaded + acknowledged - 1))
    })?;
    let (store, model, random) = session.parts()?;
    store.read(&mut |reader| {
        (loaded..loaded + acknowledged).try_for_each(|index| read_one(reader, model, index))?;
        (0..1000).try_for_each(|_| read_one(reader, model, random.below(loaded)))
    })?;
    session.close()
}

/// What the process that is to be killed does.
pub fn write_until_killed(session: &mut Session) -> Result<()> {
    writing::load(session)?;
    let begin = session.model.indices();
    let mut output = std::io::stdout();
    for commit in 0.. {
        let (store, model, _) = session.parts()?;
        let safety = match store.offers(Safety::Buffered) && commit % DURABLE_EVERY != 0 {
            true => Safety::Buffered,
            false => Safety::Durable,
        };
        let index = begin + commit;
        store.put(safety, &key(index), &value(index, model.write(index)))?;
        writeln!(output, "{}", commit + 1)?;
        output.flush()?;
    }
    Ok(())
}
