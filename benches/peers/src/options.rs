//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::engines;
use crate::phases;

pub const HELP: &str = "\
Measures the same work on Thunderhead and its peers.

  --elements N          pairs of 24 + 150 bytes (default 1000000)
  --engines A,B         default: all that were built
  --repeat N            runs of each, in turn; medians are told (default 1)
  --phases A,B          phases, or beginnings of their names, or names of suites (default: all)
  --directory DIR       where the stores are made (default: the directory for temporary files)
  --cache BYTES         the cache of each engine (default 4 GiB); K, M and G may follow
  --memory quarter      each process may use a quarter of the bytes of the pairs, at least 32 MiB,
                        page cache included, and its cache half of that; --memory BYTES sets the
                        limit itself
  --timeout SECONDS     for each process (default 3600)
  --cache-results FILE  takes the results of peers from there, and keeps them there: those of the
                        same version, machine and work are not measured again
  --json FILE           everything that was measured
  --plot FILE           an SVG
  --from FILE           measures nothing, and tells of what `--json` wrote
  --markdown            tables in Markdown
  --assert first        fails where Thunderhead misses what is required of it
  --list                the engines that were built, and the phases";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    Unlimited,
    Quarter,
    Bytes(u64),
}

#[derive(Clone, Debug)]
pub struct Options {
    pub elements: u64,
    pub engines: Vec<String>,
    pub repeat: u64,
    pub phases: Vec<String>,
    pub directory: PathBuf,
    pub cache_bytes: u64,
    pub memory: Memory,
    pub timeout: Duration,
    pub cache_results: Option<PathBuf>,
    pub json: Option<PathBuf>,
    pub plot: Option<PathBuf>,
    pub from: Option<PathBuf>,
    pub markdown: bool,
    pub assert_first: bool,
}

impl Options {
    /// `None`: the caller wants to be told how to call, or what there is.
    pub fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let mut options = Self {
            elements: 1_000_000,
            engines: built(),
            repeat: 1,
            phases: phases::names().map(str::to_owned).collect(),
            directory: std::env::temp_dir(),
            cache_bytes: 4 << 30,
            memory: Memory::Unlimited,
            timeout: Duration::from_secs(3600),
            cache_results: None,
            json: None,
            plot: None,
            from: None,
            markdown: false,
            assert_first: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (name, mut inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = || {
                inline
                    .take()
                    .or_else(|| arguments.next().cloned())
                    .ok_or_else(|| format!("{name} needs a value"))
            };
            match name {
                "--help" | "-h" => return Ok(None),
                "--list" => {
                    println!("engines: {}", built().join(", "));
                    for suite in phases::SUITES {
                        println!("{}: {}", suite.name, suite.phases.join(", "));
                    }
                    std::process::exit(0);
                }
                "--elements" => options.elements = at_least_one(name, &value()?)?,
                "--repeat" => options.repeat = at_least_one(name, &value()?)?,
                "--engines" => options.engines = chosen_engines(&value()?)?,
                "--phases" => options.phases = chosen_phases(&value()?)?,
                "--directory" => options.directory = value()?.into(),
                "--cache" => options.cache_bytes = bytes(name, &value()?)?,
                "--memory" => {
                    options.memory = match value()?.as_str() {
                        "quarter" => Memory::Quarter,
                        other => Memory::Bytes(bytes(name, other)?),
                    }
                }
                "--timeout" => {
                    options.timeout = Duration::from_secs(at_least_one(name, &value()?)?);
                }
                "--cache-results" => options.cache_results = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--plot" => options.plot = Some(value()?.into()),
                "--from" => options.from = Some(value()?.into()),
                "--markdown" => options.markdown = true,
                "--assert" => match value()?.as_str() {
                    "first" => options.assert_first = true,
                    other => return Err(format!("--assert {other}: only `first` is known")),
                },
                _ => return Err(format!("unknown argument {argument}")),
            }
            if inline.is_some() {
                return Err(format!("{name} takes no value"));
            }
        }
        Ok(Some(options))
    }
}

fn built() -> Vec<String> {
    engines::built()
        .iter()
        .map(|kind| kind.name.to_owned())
        .collect()
}

fn at_least_one(name: &str, value: &str) -> Result<u64, String> {
    let plain: String = value.chars().filter(|&letter| letter != '_').collect();
    match plain.parse() {
        Ok(0) | Err(_) => Err(format!("{name} {value}: not a number above 0")),
        Ok(number) => Ok(number),
    }
}

fn bytes(name: &str, value: &str) -> Result<u64, String> {
    let (digits, shift) = match value.chars().last() {
        Some('K' | 'k') => (&value[..value.len() - 1], 10),
        Some('M' | 'm') => (&value[..value.len() - 1], 20),
        Some('G' | 'g') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    at_least_one(name, digits)?
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{name} {value}: too many bytes"))
}

fn chosen_engines(list: &str) -> Result<Vec<String>, String> {
    let built = built();
    let mut chosen = Vec::new();
    for name in list.split(',').filter(|name| !name.is_empty()) {
        if !engines::NAMES.contains(&name) {
            let names = engines::NAMES.join(", ");
            return Err(format!("no engine {name}; there are {names}"));
        }
        if !built.iter().any(|built| built == name) {
            return Err(format!(
                "{name} was not built: turn the feature `{name}` on"
            ));
        }
        chosen.push(name.to_owned());
    }
    match chosen.is_empty() {
        true => Err("--engines names none".to_owned()),
        false => Ok(chosen),
    }
}

fn chosen_phases(list: &str) -> Result<Vec<String>, String> {
    let mut chosen: Vec<String> = Vec::new();
    for name in list.split(',').filter(|name| !name.is_empty()) {
        let suite = phases::SUITES.iter().find(|suite| suite.name == name);
        let exact = phases::names().filter(|phase| *phase == name);
        let mut found: Vec<&str> = match suite {
            Some(suite) => suite.phases.to_vec(),
            None => exact.collect(),
        };
        if found.is_empty() {
            found = phases::names()
                .filter(|phase| phase.starts_with(name))
                .collect();
        }
        if found.is_empty() {
            let names: Vec<_> = phases::names().collect();
            return Err(format!("no phase {name}; there are {}", names.join(", ")));
        }
        chosen.extend(found.into_iter().map(str::to_owned));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Ok(Options::parse(&arguments)?.expect("no help was asked for"))
    }

    #[test]
    fn what_is_given_is_taken() {
        let options = parse(
            "--elements 2_000 --engines=thunderhead --cache 64M --memory quarter --phases load,large \
             --assert first --repeat 3",
        )
        .unwrap();
        assert_eq!((options.elements, options.repeat), (2000, 3));
        assert_eq!(options.cache_bytes, 64 << 20);
        assert_eq!(options.memory, Memory::Quarter);
        assert_eq!(options.phases[0], "load");
        assert_eq!(options.phases.len(), 7);
        assert!(options.assert_first);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for line in [
            "--elements",
            "--elements 0",
            "--elements ten",
            "--engines postgres",
            "--phases nothing",
            "--memory half",
            "--assert second",
            "--markdown=yes",
            "--what",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
