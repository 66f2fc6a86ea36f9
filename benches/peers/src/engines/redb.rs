//! redb: a copy-on-write B-tree in one file.
//!
//! Its defaults, with the cache that all have. `Durability::None` is the only way not to sync: it
//! keeps commits in memory, so it is measured as deferred, and shown beside those that hand each
//! commit to the operating system with a note.

use std::path::Path;

use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition, WriteTransaction,
};

use super::{Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "redb",
    package: "redb",
    open,
    notes: &[
        (
            "unsynced",
            "redb's `Durability::None` keeps commits in memory: the death of the process loses them",
        ),
        (
            "mixed",
            "redb's `Durability::None` keeps commits in memory: the death of the process loses them",
        ),
        ("delete-range", "redb: `retain_in`, a scan"),
        ("saves", "redb: a persistent savepoint and its commit"),
    ],
    weaker: &["unsynced", "mixed"],
};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("data");

struct Redb {
    database: Database,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let database = Database::builder()
        .set_cache_size(settings.cache_bytes)
        .create(directory.join("redb"))?;
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(Box::new(Redb { database }))
}

impl Redb {
    fn begin(&self, safety: Safety) -> Result<WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(match safety {
            Safety::Durable => Durability::Immediate,
            Safety::Buffered | Safety::Deferred => Durability::None,
        })?;
        Ok(transaction)
    }
}

impl Engine for Redb {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Buffered
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let transaction = self.begin(safety)?;
        work(&mut transaction.open_table(TABLE)?)?;
        Ok(transaction.commit()?)
    }

    fn keeps_versions(&self) -> bool {
        true
    }

    fn keep_version(&self, _name: u64) -> Result<()> {
        let transaction = self.begin(Safety::Durable)?;
        transaction.persistent_savepoint()?;
        Ok(transaction.commit()?)
    }

    fn versions(&self) -> Result<u64> {
        let transaction = self.begin(Safety::Durable)?;
        Ok(transaction.list_persistent_savepoints()?.count() as u64)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let transaction = self.database.begin_read()?;
        work(&mut transaction.open_table(TABLE)?)
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        let transaction = self.begin(Safety::Durable)?;
        transaction
            .open_table(TABLE)?
            .retain_in(low..end, |_, _| false)?;
        Ok(transaction.commit()?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.begin(Safety::Durable)?.commit()?)
    }

    fn compact(mut self: Box<Self>) -> Result<Box<dyn Engine>> {
        self.database.compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        // What was committed without sync becomes durable when the database is dropped.
        Ok(())
    }
}

impl Writer for Table<'_, &'static [u8], &'static [u8]> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.insert(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.remove(key)?;
        Ok(())
    }
}

impl Reader for ReadOnlyTable<&'static [u8], &'static [u8]> {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match ReadableTable::get(self, key)? {
            Some(value) => {
                lend(value.value());
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
                for entry in ReadableTable::range::<&[u8]>(self, from..)?.take(limit) {
                    let (key, value) = entry?;
                    lend(key.value(), value.value());
                }
            }
            Direction::Backward => {
                for entry in ReadableTable::range::<&[u8]>(self, ..=from)?
                    .rev()
                    .take(limit)
                {
                    let (key, value) = entry?;
                    lend(key.value(), value.value());
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.len()?)
    }
}
