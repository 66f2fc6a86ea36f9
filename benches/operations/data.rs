//! The data that all benchmarks use: random keys of 24 bytes with random values of 150 bytes.

use thunderhead::{Durability, Maintenance, Options, Store};

/// How many entries a store has before something is measured.
pub const ENTRIES: usize = 100_000;
pub const KEY_BYTES: usize = 24;
pub const VALUE_BYTES: usize = 150;

pub type Key = [u8; KEY_BYTES];

/// Keys, always the same ones.
pub struct Keys {
    random: fastrand::Rng,
    known: Vec<Key>,
}

impl Keys {
    pub fn new(count: usize) -> Self {
        let mut keys = Self {
            random: fastrand::Rng::with_seed(7),
            known: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let key = keys.unknown();
            keys.known.push(key);
        }
        keys
    }

    /// One that is in the store.
    pub fn known(&mut self) -> Key {
        let index = self.random.usize(..self.known.len());
        self.known[index]
    }

    /// One that is not.
    pub fn unknown(&mut self) -> Key {
        let mut key = [0; KEY_BYTES];
        self.random.fill(&mut key);
        key
    }

    pub fn value(&mut self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        self.random.fill(&mut value);
        value
    }
}

/// Puts all known keys in one transaction.
pub fn load(store: &Store, keys: &mut Keys) {
    let mut transaction = store.begin_alone().wait().expect("a store that is open");
    for index in 0..keys.known.len() {
        let (key, value) = (keys.known[index], keys.value());
        transaction.put(key, value).wait().expect("room in memory");
    }
    transaction.commit().wait().expect("room in memory");
}

/// A store in memory with all entries in its tree and nothing pending.
pub fn settled() -> (Store, Keys) {
    let mut keys = Keys::new(ENTRIES);
    // What is too large for the log goes straight into the tree.
    let store = Options::new()
        .maintenance(Maintenance::Caller)
        .open_disk(thunderhead::disk::MemoryDisk::new())
        .expect("an empty disk");
    load(&store, &mut keys);
    (store, keys)
}

/// The same with a tenth of the entries updated since, by operations that are pending in the tree.
pub fn pending() -> (Store, Keys) {
    let (store, mut keys) = settled();
    update(&store, &mut keys, ENTRIES / 10);
    while store.maintain().wait().expect("a store that is open") {}
    (store, keys)
}

/// Updates known keys in batches of a thousand.
pub fn update(store: &Store, keys: &mut Keys, count: usize) {
    for _ in 0..count.div_ceil(1000) {
        let mut transaction = store.begin().wait().expect("a store that is open");
        for _ in 0..1000 {
            let (key, value) = (keys.known(), keys.value());
            transaction.put(key, value).wait().expect("room in memory");
        }
        transaction.set_durability(Durability::Deferred);
        transaction.commit().wait().expect("room in memory");
    }
}

/// A store in a file in a directory that goes away with it.
pub fn in_file(options: &Options) -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let store = options.create(directory.path().join("store"));
    (directory, store.expect("a file that is new"))
}
