//! Versions that are replaced under those who look at them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::cache::pin;
use crate::disk::MemoryDisk;
use crate::{Maintenance, Options};

#[test]
fn parts_stay_whole_while_versions_are_replaced() {
    let options = Options::new().maintenance(Maintenance::Caller);
    let store = options.open_disk(MemoryDisk::new()).unwrap();
    let core = &store.shared.core;
    let done = AtomicBool::new(false);
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let guard = pin();
                    let parts = core.current.parts(&guard);
                    let first = parts.journals.len();
                    let operations = parts.journals.iter().map(|it| it.operations());
                    assert!(operations.sum::<usize>() <= 2 * first);
                    assert!(first > 0);
                }
            });
        }
        for number in 0..rounds {
            store.put("k", [number as u8; 100]).wait().unwrap();
            core.freeze();
            if number % 3 == 0 {
                while store.maintain().wait().unwrap() {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_replaced_version_lets_go_of_the_disk_at_once_and_of_its_parts_after_the_guards() {
    let store = Options::new().open_disk(MemoryDisk::new()).unwrap();
    let core = &store.shared.core;
    let guard = pin();
    let parts = core.current.parts(&guard);
    let version = std::sync::Arc::downgrade(&core.current.load_full());
    store.put("k", "v").wait().unwrap();
    core.freeze();
    assert!(version.upgrade().is_none());
    assert_eq!(parts.journals.len(), 1);
    assert_eq!(parts.journals[0].operations(), 1);
}
