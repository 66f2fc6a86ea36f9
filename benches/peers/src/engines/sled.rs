//! sled: a lock-free tree over a log-structured store.
//!
//! Its defaults, with the cache that all have. What is written stays in buffers of the process for
//! up to half a second: commits that do not wait are deferred ones. Durable ones call `flush`,
//! which on Linux is `sync_file_range`: less than the `fdatasync` of the others.

use std::path::Path;

use sled::{Batch, Config, Db};

use super::{Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

const IN_MEMORY: &str =
    "sled keeps commits in memory for up to half a second: the death of the process loses them";

const NOT_FLUSHED: &str = "sled syncs its log by `sync_file_range`, which tells neither the file \
                           system nor the disk's cache to keep it: less than durable";

pub const KIND: Kind = Kind {
    name: "sled",
    package: "sled",
    open,
    notes: &[
        ("singles", NOT_FLUSHED),
        ("batches", NOT_FLUSHED),
        ("updates", NOT_FLUSHED),
        ("count", "sled: a scan"),
        ("delete-range", "sled: a scan, and a batch of deletions"),
        ("unsynced", IN_MEMORY),
        ("mixed", IN_MEMORY),
    ],
    weaker: &[
        "unsynced",
        "mixed",
        "load",
        "load-sorted",
        "singles",
        "batches",
        "updates",
        "removal",
        "delete-range",
        "paths-load",
        "large-1-write",
        "large-64-write",
        "small-memory",
        "latency",
    ],
};

struct Sled {
    database: Db,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let database = Config::new()
        .path(directory.join("sled"))
        .cache_capacity(settings.cache_bytes as u64)
        .open()?;
    Ok(Box::new(Sled { database }))
}

impl Engine for Sled {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Buffered
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let mut batch = Batch::default();
        work(&mut batch)?;
        self.database.apply_batch(batch)?;
        match safety {
            Safety::Durable => self.sync(),
            _ => Ok(()),
        }
    }

    fn put(&self, safety: Safety, key: &[u8], value: &[u8]) -> Result<()> {
        self.database.insert(key, value)?;
        match safety {
            Safety::Durable => self.sync(),
            _ => Ok(()),
        }
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        work(&mut &self.database)
    }

    fn sync(&self) -> Result<()> {
        self.database.flush()?;
        Ok(())
    }

    fn compacts(&self) -> bool {
        false
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

impl Writer for Batch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.remove(key);
        Ok(())
    }
}

impl Reader for &Db {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match sled::Tree::get(self, key)? {
            Some(value) => {
                lend(&value);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn range(
        &mut self,
        from: &[u8],
        direction: Direction,
        limit: usize,
        lend: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        match direction {
            Direction::Forward => {
                for entry in sled::Tree::range(self, from..).take(limit) {
                    let (key, value) = entry?;
                    lend(&key, &value);
                }
            }
            Direction::Backward => {
                for entry in sled::Tree::range(self, ..=from).rev().take(limit) {
                    let (key, value) = entry?;
                    lend(&key, &value);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.len() as u64)
    }
}
