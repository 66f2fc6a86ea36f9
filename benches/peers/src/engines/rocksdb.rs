//! RocksDB: a log-structured merge tree.
//!
//! As its wiki's "Setup Options and Basic Tuning" says: the cache that all have, index and filter
//! blocks in it, filters of 10 bits a key, blocks of 16 KiB, as many background threads as there are
//! cores; for large values blob files. Commits without sync are in the write-ahead log, which is
//! handed to the operating system.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, IteratorMode, Options, WriteBatch, WriteOptions};

use super::{Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "rocksdb",
    package: "librocksdb-sys",
    open,
    notes: &[
        ("count", "RocksDB: a scan"),
        ("load", "RocksDB: one write batch"),
    ],
    weaker: &[],
};

struct Rocksdb {
    database: DB,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(settings.cache_bytes));
    blocks.set_bloom_filter(10.0, false);
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.increase_parallelism(std::thread::available_parallelism()?.get() as i32);
    options.set_bytes_per_sync(1 << 20);
    options.set_block_based_table_factory(&blocks);
    options.set_enable_blob_files(settings.large_values);
    let database = DB::open(&options, directory.join("rocksdb"))?;
    Ok(Box::new(Rocksdb { database }))
}

fn options(safety: Safety) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(safety == Safety::Durable);
    options
}

impl Engine for Rocksdb {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Deferred
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let mut batch = WriteBatch::default();
        work(&mut batch)?;
        Ok(self.database.write_opt(batch, &options(safety))?)
    }

    fn put(&self, safety: Safety, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.database.put_opt(key, value, &options(safety))?)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        work(&mut &self.database)
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range(low, end);
        Ok(self.database.write_opt(batch, &options(Safety::Durable))?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        self.database.flush()?;
        self.database.compact_range::<&[u8], &[u8]>(None, None);
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.database.flush()?;
        Ok(self.database.flush_wal(true)?)
    }
}

impl Writer for WriteBatch {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        WriteBatch::put(self, key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        WriteBatch::delete(self, key);
        Ok(())
    }
}

impl Reader for &DB {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match self.get_pinned(key)? {
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
        let direction = match direction {
            Direction::Forward => rocksdb::Direction::Forward,
            Direction::Backward => rocksdb::Direction::Reverse,
        };
        let entries = self.iterator(IteratorMode::From(from, direction));
        for entry in entries.take(limit) {
            let (key, value) = entry?;
            lend(&key, &value);
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        let mut iterator = self.raw_iterator();
        let mut count = 0;
        iterator.seek_to_first();
        while iterator.valid() {
            count += 1;
            iterator.next();
        }
        iterator.status()?;
        Ok(count)
    }
}
