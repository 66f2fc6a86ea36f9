//! How long durable commits of one put take while another thread reads, next to what the disk takes
//! for a bare write and sync of about the same bytes.
//!
//! Half a second of the one and of the other in turn, so that both see the same disk. The bare file
//! is filled with zeros and synced before, and written from its begin again when its end is
//! reached: nothing is allocated, as in the best log that one could write.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::reading::{present, read_one};
use super::session::Session;
use super::writing;
use crate::data::{Random, key, value};
use crate::engines::{Result, Safety};

const ROUNDS: u32 = 10;
const SLICE: Duration = Duration::from_millis(500);
/// A pair and a header, in whole sectors.
const BARE_BYTES: usize = 512;
const BARE_FILE_BYTES: u64 = 16 << 20;

pub fn run(session: &mut Session) -> Result<()> {
    session.amounts.elements = session.amounts.elements.min(100_000);
    writing::load(session)?;
    let slice = match session.amounts.elements < 10_000 {
        true => SLICE / 20,
        false => SLICE,
    };
    // Beside the store, not in it.
    let bare_path = session.directory.with_extension("bare");
    let bare = bare_file(&bare_path)?;
    let result = session.measure("latency", 1, true, |session, metrics| {
        let (mut commits, mut writes) = (Vec::new(), Vec::new());
        let (store, model, random) = session.parts()?;
        let ended = AtomicBool::new(false);
        let seed = random.next();
        let loaded = model.clone();
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut random = Random::new(seed);
                while !ended.load(Ordering::Relaxed) {
                    store.read(&mut |reader| {
                        (0..100).try_for_each(|_| {
                            let index = present(&loaded, &mut random);
                            read_one(reader, &loaded, index)
                        })
                    })?;
                }
                Ok(())
            });
            let mut at = 0;
            let mut work = || -> Result<()> {
                for _ in 0..ROUNDS {
                    let begin = Instant::now();
                    while begin.elapsed() < slice {
                        let index = model.indices();
                        let (key, value) = (key(index), value(index, model.write(index)));
                        let before = Instant::now();
                        store.put(Safety::Durable, &key, &value)?;
                        commits.push(before.elapsed());
                    }
                    let begin = Instant::now();
                    while begin.elapsed() < slice {
                        let before = Instant::now();
                        bare.write_all_at(&[at as u8; BARE_BYTES], at)?;
                        bare.sync_data()?;
                        writes.push(before.elapsed());
                        at = (at + BARE_BYTES as u64) % BARE_FILE_BYTES;
                    }
                }
                Ok(())
            };
            let result = work();
            ended.store(true, Ordering::Relaxed);
            let read: Result<()> = reading
                .join()
                .unwrap_or_else(|_| Err("the reading thread panicked".into()));
            result.and(read)
        })?;
        metrics.insert("operations".to_owned(), commits.len() as f64);
        for (prefix, times) in [("", &mut commits), ("bare_", &mut writes)] {
            times.sort_unstable();
            for (name, share) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999), ("worst", 1.0)] {
                let place = ((times.len() as f64 * share) as usize).min(times.len() - 1);
                let micros = times[place].as_secs_f64() * 1e6;
                metrics.insert(format!("{prefix}{name}_us"), micros);
            }
        }
        Ok(())
    });
    drop(bare);
    std::fs::remove_file(bare_path)?;
    result?;
    super::reading::verify(session)?;
    session.close()
}

fn bare_file(path: &std::path::Path) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)?;
    let zeros = vec![0; 1 << 20];
    for at in (0..BARE_FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at)?;
    }
    file.sync_all()?;
    Ok(file)
}
