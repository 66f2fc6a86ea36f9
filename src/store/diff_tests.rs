//! How many pages a difference looks at: in proportion to what differs and to the height of the tree, whatever
//! was flushed in between, and however many keys there are.

use super::{Maintenance, Options, Snapshot, Store};
use crate::disk::MemoryDisk;
use crate::format::Settings;
use crate::tree::page::Page;

/// A store whose keys are all in the leaves.
struct Filled {
    store: Store,
    keys: u64,
}

/// Spread over everything in an order of its own.
fn key(number: u64) -> [u8; 8] {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

impl Filled {
    fn new(settings: Settings, keys: u64) -> Self {
        let options = Options::new()
            .settings(settings)
            .cache_bytes(1 << 30)
            .maintenance(Maintenance::Caller);
        let store = options.open_disk(MemoryDisk::new()).unwrap();
        let mut transaction = store.begin_alone().wait().unwrap();
        for number in 0..keys {
            transaction.put(key(number), [7; 20]).wait().unwrap();
        }
        transaction.commit().wait().unwrap();
        let filled = Self { store, keys };
        filled.flush_all();
        filled
    }

    /// As a settled store would be: nothing is pending anywhere.
    fn flush_all(&self) {
        self.store.compact().wait().unwrap();
    }

    /// Deletes, changes and adds so many keys, spread over all of them, from one on.
    fn change(&self, first: u64, count: u64) {
        let mut batch = self.store.batch();
        for number in 0..count {
            let number = first + number * (self.keys / count);
            match number % 3 {
                0 => batch.delete(key(number)).wait().unwrap(),
                1 => batch.put(key(number), [8; 20]).wait().unwrap(),
                _ => batch.put(key(self.keys + number), [9; 20]).wait().unwrap(),
            }
        }
        batch.commit().wait().unwrap();
    }

    /// How many levels the tree has.
    fn height(&self) -> u64 {
        let core = &self.store.shared.core;
        let root = core.current.load_full().root;
        let page = core.pages.frames.get(root.address, root.birth);
        let page = page.expect("the cache has room for all");
        1 + u64::from(Page::new(page.bytes()).level())
    }

    /// Compares two versions: how many keys differ, and how many pages were looked at.
    fn looked_at(&self, old: &Snapshot, new: &Snapshot) -> (u64, u64) {
        let frames = &self.store.shared.core.pages.frames;
        // What a flush to the leaves or a reopening did not leave in memory is read, once.
        old.diff(new).unwrap().total().wait().unwrap();
        let before = frames.lookups();
        let found = old.diff(new).unwrap().total().wait().unwrap();
        (found, frames.lookups() - before)
    }

    /// Of each difference: the way down to it, with a slice of newer operations at each node, and once more on
    /// either side to compare, of which only the new one has slices.
    fn most(&self, differences: u64) -> u64 {
        let height = self.height();
        let (nodes, slices) = (3 * height, 2 * (height - 1));
        differences * (nodes + slices)
    }
}

fn differences_are_in_proportion(settings: Settings, keys: u64, counts: &[u64]) {
    let filled = Filled::new(settings, keys);
    for (first, &count) in (0..).zip(counts) {
        let before = filled.store.snapshot();
        filled.change(first, count);
        let most = filled.most(count);
        let check = |when: &str| {
            let now = filled.store.snapshot();
            for (old, new) in [(&before, &now), (&now, &before)] {
                let (found, looked_at) = filled.looked_at(old, new);
                assert_eq!(found, count, "{when}");
                assert!(
                    looked_at <= most,
                    "{count} differences {when}: {looked_at} pages of at most {most}"
                );
            }
            now
        };
        check("in the journal");
        filled.store.checkpoint().wait().unwrap();
        check("after a checkpoint");
        while filled.store.maintain().wait().unwrap() {}
        let flushed = check("after what the maintenance does");
        filled.flush_all();
        let settled = check("after a flush of everything");
        // All pages on the way to what changed are others, and nothing differs.
        assert_eq!(filled.looked_at(&flushed, &settled), (0, 0));
    }
}

#[test]
fn a_difference_looks_at_pages_in_proportion_to_what_differs() {
    differences_are_in_proportion(Settings::default(), 200_000, &[1, 100, 10_000]);
}

#[test]
fn a_difference_in_a_high_tree_looks_at_pages_in_proportion_to_its_height() {
    differences_are_in_proportion(Settings::tiny(), 10_000, &[1, 100, 1000]);
}
