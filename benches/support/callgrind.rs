//! Counting the instructions of a benchmark by running it again under callgrind, which is a part of
//! valgrind: what is counted is the same on every run of the same program, whatever else the machine does.

use std::error::Error;
use std::process::Command;

/// Whether there is a valgrind to count with.
pub fn is_there() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok()
}

/// The instructions that this program, run with some arguments, takes inside the functions of a name, which
/// may have wildcards.
pub fn counted(functions: &str, arguments: &[String]) -> Result<u64, Box<dyn Error>> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([
            "--collect-atstart=no",
            &format!("--toggle-collect={functions}"),
        ])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .output()?;
    let said = String::from_utf8_lossy(&run.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "))
        .and_then(|(_, number)| number.trim().parse().ok());
    match (run.status.success(), collected) {
        (true, Some(collected)) => Ok(collected),
        _ => Err(format!("callgrind gives no number:\n{said}").into()),
    }
}
