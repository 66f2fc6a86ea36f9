//! Durable commits of one thread and of 64 at once, beside a bare write and sync.
//!
//! `cargo bench --bench committers`. Takes turns of a tenth of a second each, so that all see the same
//! disk, that of the directory for temporary files; medians of the turns are told. The bare file has its
//! length and was synced before: nothing is allocated, as in the best log that one could write.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use thunderhead::{Options, Result, Store};

const TURN: Duration = Duration::from_millis(100);
const TURNS: usize = 20;
const COMMITTERS: u64 = 64;
const BARE_BYTES: usize = 512;
const BARE_FILE_BYTES: u64 = 4 << 20;

fn main() -> Result<()> {
    // As a test it is only to be seen that it works.
    let (turns, turn) = match std::env::args().any(|argument| argument == "--test") {
        true => (1, TURN / 10),
        false => (TURNS, TURN),
    };
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let bare = Bare::new(&directory.path().join("bare"));
    let store = Options::new().create(directory.path().join("store"))?;
    let number = AtomicU64::new(0);
    let mut per_second = [const { Vec::new() }; 3];
    let mut place = 0;
    for round in 0..turns + 1 {
        let rates = [
            rate(turn, 1, || {
                bare.write(place);
                place = (place + BARE_BYTES as u64) % BARE_FILE_BYTES;
            }),
            together(turn, &store, &number, 1),
            together(turn, &store, &number, COMMITTERS),
        ];
        // The first one makes what the others use again.
        if round > 0 {
            for (all, rate) in per_second.iter_mut().zip(rates) {
                all.push(rate);
            }
        }
    }
    assert_eq!(store.len().wait()?, number.load(Ordering::Relaxed));
    let [bare, one, many] = per_second.map(median);
    println!("bare writes and syncs of {BARE_BYTES} bytes: {bare:.0} a second");
    println!(
        "commits of one: {one:.0} a second, each {:.2} times a bare write and sync",
        bare / one
    );
    println!(
        "commits of {COMMITTERS}: {many:.0} a second, {:.1} times those of one",
        many / one
    );
    Ok(())
}

/// How often a second something is done.
fn rate(turn: Duration, each: u64, mut work: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut done = 0;
    while begin.elapsed() < turn {
        work();
        done += each;
    }
    done as f64 / begin.elapsed().as_secs_f64()
}

/// Puts of so many threads at once, each a durable commit of its own.
fn together(turn: Duration, store: &Store, number: &AtomicU64, committers: u64) -> f64 {
    let ended = AtomicBool::new(false);
    let before = number.load(Ordering::Relaxed);
    let begin = Instant::now();
    let put = || {
        let number = number.fetch_add(1, Ordering::Relaxed);
        let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        store.put(key, [7; 150]).wait().expect("room on the disk");
    };
    if committers == 1 {
        while begin.elapsed() < turn {
            put();
        }
    } else {
        thread::scope(|scope| {
            for _ in 0..committers {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        put();
                    }
                });
            }
            thread::sleep(turn);
            ended.store(true, Ordering::Relaxed);
        });
    }
    let done = number.load(Ordering::Relaxed) - before;
    done as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// A file that is written and synced without a store.
struct Bare(File);

impl Bare {
    fn new(path: &Path) -> Self {
        std::fs::write(path, vec![0; BARE_FILE_BYTES as usize]).expect("room on the disk");
        let file = File::options().write(true).open(path);
        let file = file.expect("it was just made");
        file.sync_all().expect("a disk without faults");
        Self(file)
    }

    #[cfg(unix)]
    fn write(&self, place: u64) {
        use std::os::unix::fs::FileExt;
        let written = self.0.write_all_at(&[7; BARE_BYTES], place);
        written.expect("room on the disk");
        self.0.sync_data().expect("a disk without faults");
    }

    #[cfg(windows)]
    fn write(&self, place: u64) {
        use std::os::windows::fs::FileExt;
        let written = self.0.seek_write(&[7; BARE_BYTES], place);
        written.expect("room on the disk");
        self.0.sync_data().expect("a disk without faults");
    }
}
