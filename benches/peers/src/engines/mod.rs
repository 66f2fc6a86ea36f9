//! The engines behind one interface, each used as its documentation says it should be.
//!
//! | module | engine |
//! | --- | --- |
//! | `interface` | what all of them can be asked |
//! | `thunderhead` | this store |
//! | `redb`, `lmdb`, `fjall`, `canopydb`, `sqlite`, `sled`, `rocksdb` | its rivals, each behind the feature of its name |
//! | `faulty` | an engine that lies, to see that it is caught |

#[cfg(feature = "canopydb")]
mod canopydb;
#[cfg(test)]
pub mod faulty;
#[cfg(feature = "fjall")]
mod fjall;
mod interface;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
mod thunderhead;

pub use interface::{
    Both, Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer,
};

/// Those that were built, in the order of the columns.
pub fn built() -> Vec<Kind> {
    vec![
        thunderhead::KIND,
        #[cfg(feature = "redb")]
        redb::KIND,
        #[cfg(feature = "lmdb")]
        lmdb::KIND,
        #[cfg(feature = "fjall")]
        fjall::KIND,
        #[cfg(feature = "canopydb")]
        canopydb::KIND,
        #[cfg(feature = "sqlite")]
        sqlite::KIND,
        #[cfg(feature = "sled")]
        sled::KIND,
        #[cfg(feature = "rocksdb")]
        rocksdb::KIND,
    ]
}

/// All names, built or not.
pub const NAMES: [&str; 8] = [
    "thunderhead",
    "redb",
    "lmdb",
    "fjall",
    "canopydb",
    "sqlite",
    "sled",
    "rocksdb",
];
