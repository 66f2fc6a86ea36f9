//! The same work on Thunderhead and on what one would otherwise use.
//!
//! | module | idea |
//! | --- | --- |
//! | `options` | the command line |
//! | `engines` | the engines behind one interface |
//! | `data` | keys and values that can be checked without a copy |
//! | `phases` | the work |
//! | `differential` | one random script on all of them, as a test |
//! | `measure`, `cgroup` | what it took, and limits on memory |
//! | `process` | each suite in a process of its own |
//! | `campaign` | all engines in turn, repeated; results that can be kept |
//! | `report` | tables, JSON, a plot, and requirements |

mod campaign;
mod cgroup;
mod data;
#[cfg(test)]
mod differential;
mod engines;
mod measure;
mod options;
mod phases;
mod process;
mod report;

use std::process::ExitCode;

use engines::Result;
use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(result) = process::child(&arguments) {
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match Options::parse(&arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether all that was asked for could be done, and what was required holds.
fn run(options: &Options) -> Result<bool> {
    let results = match &options.from {
        Some(path) => campaign::read(path)?,
        None => campaign::run(options)?,
    };
    println!("{}", report::tables(&results, options.markdown));
    if let Some(path) = &options.json {
        report::write_json(&results, path)?;
    }
    if let Some(path) = &options.plot {
        report::write_plot(&results, path)?;
    }
    let mut right = results.failures().next().is_none();
    if options.assert_first {
        right &= report::requirements(&results);
    }
    Ok(right)
}
