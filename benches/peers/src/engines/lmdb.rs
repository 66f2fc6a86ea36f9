//! LMDB, through heed: a copy-on-write B+tree in a memory map.
//!
//! Its defaults: no write map, so that a stray pointer cannot damage it, and a sync with each
//! commit. Commits without sync turn `MDB_NOSYNC` on, which still writes: they survive the death of
//! the process. It has no cache of its own to be given a size; the map is as large as it may have
//! to be.

use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use heed::types::Bytes;
use heed::{
    CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, RoTxn, RwTxn, WithTls,
};

use super::{Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "lmdb",
    package: "heed",
    open,
    notes: &[
        (
            "compact",
            "LMDB: a compacting copy that takes the file's place, and reopening",
        ),
        ("delete-range", "LMDB: a cursor that deletes each entry"),
    ],
    weaker: &[],
};

/// Address space, of which only as much as there is data is used.
const MAP_BYTES: usize = 256 << 30;

type Data = Database<Bytes, Bytes>;

struct Lmdb {
    environment: Env<WithTls>,
    data: Data,
    syncs: AtomicBool,
    directory: PathBuf,
    settings: Settings,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    Ok(Box::new(open_environment(directory, settings)?))
}

fn open_environment(directory: &Path, settings: Settings) -> Result<Lmdb> {
    let path = directory.join("lmdb");
    fs::create_dir_all(&path)?;
    // SAFETY: nobody else has these files.
    let environment = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).open(path)? };
    let mut transaction = environment.write_txn()?;
    let data = environment.create_database(&mut transaction, None)?;
    transaction.commit()?;
    Ok(Lmdb {
        environment,
        data,
        syncs: AtomicBool::new(true),
        directory: directory.to_owned(),
        settings,
    })
}

impl Lmdb {
    fn begin(&self, safety: Safety) -> Result<RwTxn<'_>> {
        let syncs = safety == Safety::Durable;
        if self.syncs.swap(syncs, Ordering::Relaxed) != syncs {
            let mode = match syncs {
                true => FlagSetMode::Disable,
                false => FlagSetMode::Enable,
            };
            // SAFETY: without sync a power failure may damage the store; there is one writer.
            unsafe { self.environment.set_flags(EnvFlags::NO_SYNC, mode)? };
        }
        Ok(self.environment.write_txn()?)
    }
}

impl Engine for Lmdb {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Deferred
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let mut writer = LmdbWriter {
            transaction: self.begin(safety)?,
            data: self.data,
        };
        work(&mut writer)?;
        Ok(writer.transaction.commit()?)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let transaction = self.environment.read_txn()?;
        work(&mut LmdbReader {
            transaction: &transaction,
            data: self.data,
        })
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        let mut transaction = self.begin(Safety::Durable)?;
        self.data.delete_range(
            &mut transaction,
            &(Bound::Included(low), Bound::Excluded(end)),
        )?;
        Ok(transaction.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.environment.force_sync()?)
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        let (directory, settings) = (self.directory.clone(), self.settings);
        let data = self.environment.path().join("data.mdb");
        let copy = directory.join("lmdb-copy");
        self.environment
            .copy_to_path(&copy, CompactionOption::Enabled)?
            .sync_all()?;
        self.close()?;
        fs::rename(copy, data)?;
        open(&directory, settings)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.environment.force_sync()?;
        self.environment.prepare_for_closing().wait();
        Ok(())
    }
}

struct LmdbWriter<'e> {
    transaction: RwTxn<'e>,
    data: Data,
}

impl Writer for LmdbWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.data.put(&mut self.transaction, key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.data.delete(&mut self.transaction, key)?;
        Ok(())
    }
}

struct LmdbReader<'t> {
    transaction: &'t RoTxn<'t, WithTls>,
    data: Data,
}

impl Reader for LmdbReader<'_> {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match self.data.get(self.transaction, key)? {
            Some(value) => {
                lend(value);
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
                // An empty key is an error here, not the least one.
                let low = match from {
                    [] => Bound::Unbounded,
                    _ => Bound::Included(from),
                };
                let range = (low, Bound::Unbounded);
                for entry in self.data.range(self.transaction, &range)?.take(limit) {
                    let (key, value) = entry?;
                    lend(key, value);
                }
            }
            Direction::Backward => {
                let range = (Bound::Unbounded, Bound::Included(from));
                for entry in self.data.rev_range(self.transaction, &range)?.take(limit) {
                    let (key, value) = entry?;
                    lend(key, value);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.data.len(self.transaction)?)
    }
}
