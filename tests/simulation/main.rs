//! The simulated machine under the whole store: crashes, faults, full disks, damage, space.
//!
//! One seed decides a test's script, its options and what the machine does. `THUNDERHEAD_SEEDS=n`
//! runs `n` times as many seeds; `THUNDERHEAD_SEED=s` runs that one alone, and
//! `THUNDERHEAD_CALL=c` crashes or fails only at that call of it. A failing test prints both.

#[path = "../fixtures/append.rs"]
mod append;
mod checks;
mod crashes;
mod faults;
mod full;
mod lost;
mod model;
mod open;
mod script;
mod space;
mod world;

/// The seeds of a test that runs `count` of them in CI.
fn seeds(count: u64) -> Vec<u64> {
    if let Some(seed) = variable("THUNDERHEAD_SEED") {
        return vec![seed];
    }
    (0..count * variable("THUNDERHEAD_SEEDS").unwrap_or(1)).collect()
}

/// The calls of a script at which to let something happen.
fn calls(calls: std::ops::Range<u64>) -> Vec<u64> {
    match variable("THUNDERHEAD_CALL") {
        Some(call) => vec![call],
        None => calls.collect(),
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Says where a test was, if it panics.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was {}", self.0);
        }
    }
}

fn place(text: String) -> Place {
    Place(text)
}
