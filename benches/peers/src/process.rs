//! Each suite on each engine runs in a process of its own, which is this program again.
//!
//! The process writes an [`Outcome`] as a line of JSON on its standard output for each phase. One
//! that fails, hangs or is killed costs what it had not told yet, and nothing else.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::cgroup;
use crate::engines::{self, Result};
use crate::phases::{Outcome, SUITES, Session, Work, write_until_killed};

/// The hidden first arguments of the processes.
pub const SUITE: &str = "--run-suite";
pub const KILLED: &str = "--write-until-killed";

/// What a process that was started does, if this is one.
pub fn child(arguments: &[String]) -> Option<Result<()>> {
    let run = match arguments.first()?.as_str() {
        SUITE => run_suite,
        KILLED => run_killed,
        _ => return None,
    };
    end_with_parent();
    Some(arguments.get(1).ok_or("no work".into()).and_then(|work| {
        if let Some(members) = arguments.get(2) {
            cgroup::join(Path::new(members))?;
        }
        run(serde_json::from_str(work)?)
    }))
}

fn session(work: Work, emit: Box<dyn FnMut(Outcome)>) -> Result<Session> {
    let kind = engines::built()
        .into_iter()
        .find(|kind| kind.name == work.engine)
        .ok_or_else(|| format!("{} was not built", work.engine))?;
    Ok(Session::new(kind, work, emit))
}

fn run_suite(work: Work) -> Result<()> {
    let suite = SUITES
        .iter()
        .find(|suite| suite.name == work.suite)
        .ok_or("no such suite")?;
    let emit = |outcome: Outcome| {
        let line = serde_json::to_string(&outcome).expect("an outcome is plain data");
        let mut output = std::io::stdout().lock();
        let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    };
    (suite.run)(&mut session(work, Box::new(emit))?)
}

fn run_killed(work: Work) -> Result<()> {
    write_until_killed(&mut session(work, Box::new(|_| ()))?)
}

/// A directory that is removed when it is dropped.
struct Fresh(PathBuf);

impl Fresh {
    fn new(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a suite in a process of its own; gives what it told, and what became of it.
pub fn run(
    mut work: Work,
    timeout: Duration,
    progress: &mut dyn FnMut(&Outcome),
) -> Result<(Vec<Outcome>, Option<String>)> {
    let directory = Fresh::new(work.directory.join(format!(
        "thunderhead-peers-{}-{}-{}",
        std::process::id(),
        work.engine,
        work.suite
    )))?;
    work.directory.clone_from(&directory.0);
    // What was written before must not be written out beside this.
    sync_all();
    let group = work.memory_bytes.map(cgroup::Group::new).transpose()?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg(SUITE)
        .arg(serde_json::to_string(&work)?)
        .args(group.as_ref().map(cgroup::Group::members))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("the process has no output")?;
    let errors = child.stderr.take().ok_or("the process has no errors")?;
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = BufReader::new(errors).read_to_string(&mut text);
        text
    });
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(|line| line.ok()) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });

    let begin = Instant::now();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut failure = None;
    loop {
        match receiver.recv_timeout(timeout.saturating_sub(begin.elapsed())) {
            // Engines may print things of their own.
            Ok(line) => {
                if let Ok(outcome) = serde_json::from_str(&line) {
                    progress(&outcome);
                    outcomes.push(outcome);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                failure = Some(format!("not done after {} s", timeout.as_secs()));
                break;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let ended = end(&mut child)?;
    let errors = errors.join().unwrap_or_default();
    Ok((
        outcomes,
        failure.or(ended.map(|how| describe(how, &errors))),
    ))
}

/// Waits for the end of a process; says how it failed, if it did.
fn end(child: &mut Child) -> Result<Option<String>> {
    let status = child.wait()?;
    Ok(match (status.success(), status.signal()) {
        (true, _) => None,
        (false, Some(libc::SIGKILL)) => Some("killed, as when memory runs out".to_owned()),
        (false, Some(signal)) => Some(format!("killed by signal {signal}")),
        (false, None) => Some("failed".to_owned()),
    })
}

fn describe(how: String, errors: &str) -> String {
    let last: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).collect();
    match last.len() {
        0 => how,
        lines => format!("{how}: {}", last[lines.saturating_sub(3)..].join(" / ")),
    }
}

/// Nothing goes on when the program is interrupted.
fn end_with_parent() {
    // SAFETY: this call takes a number and touches no memory.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}

fn sync_all() {
    // SAFETY: it takes nothing and gives nothing.
    unsafe { libc::sync() }
}
