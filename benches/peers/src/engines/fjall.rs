//! fjall: a log-structured merge tree.
//!
//! Its defaults, with the cache that all have and, for the large values,
//! the key-value separation that its documentation recommends for them. Each write is handed
//! to the operating system by default; durable ones are persisted with `SyncData`, as one
//! `fdatasync` is what the others do.

use std::path::Path;

use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OptimisticTxDatabase,
    OptimisticTxKeyspace, OwnedWriteBatch, PersistMode, Readable,
};

use super::{Both, Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "fjall",
    package: "fjall",
    open,
    notes: &[
        ("count", "fjall: a scan"),
        ("delete-range", "fjall: a scan, and a batch of deletions"),
        (
            "load",
            "fjall: one write batch; its transactions are such batches too",
        ),
        (
            "large-read",
            "fjall: 4 KiB are read by reading the whole value",
        ),
        (
            "compact",
            "fjall: the memtable is flushed, then `major_compact`",
        ),
    ],
    weaker: &[],
};

struct Fjall {
    database: Database,
    data: Keyspace,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    if settings.beside {
        return Beside::open(directory, settings);
    }
    let database = Database::builder(directory.join("fjall"))
        .cache_size(settings.cache_bytes as u64)
        .open()?;
    let data = database.keyspace("data", || {
        let separation = settings.large_values.then(KvSeparationOptions::default);
        let options = KeyspaceCreateOptions::default().with_kv_separation(separation);
        match settings.journal_bytes {
            // A memtable or two of them, and those that are being written.
            Some(bytes) => options.max_memtable_size(bytes as u64 * 4),
            None => options,
        }
    })?;
    Ok(Box::new(Fjall { database, data }))
}

fn mode(safety: Safety) -> PersistMode {
    match safety {
        Safety::Durable => PersistMode::SyncData,
        Safety::Buffered | Safety::Deferred => PersistMode::Buffer,
    }
}

impl Engine for Fjall {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Deferred
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let mut writer = FjallWriter {
            batch: self.database.batch().durability(Some(mode(safety))),
            data: &self.data,
        };
        work(&mut writer)?;
        Ok(writer.batch.commit()?)
    }

    fn put(&self, safety: Safety, key: &[u8], value: &[u8]) -> Result<()> {
        self.data.insert(key, value)?;
        if safety == Safety::Durable {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        work(&mut &self.data)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        self.data.rotate_memtable_and_wait()?;
        self.data.major_compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

struct FjallWriter<'d> {
    batch: OwnedWriteBatch,
    data: &'d Keyspace,
}

impl Writer for FjallWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch.insert(self.data, key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.batch.remove(self.data, key);
        Ok(())
    }
}

impl Reader for &Keyspace {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match Keyspace::get(self, key)? {
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
        let mut give = |entry: Guard| -> Result<()> {
            let (key, value) = entry.into_inner()?;
            lend(&key, &value);
            Ok(())
        };
        match direction {
            Direction::Forward => Keyspace::range(self, from..)
                .take(limit)
                .try_for_each(&mut give),
            Direction::Backward => Keyspace::range(self, ..=from)
                .rev()
                .take(limit)
                .try_for_each(&mut give),
        }
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.len()? as u64)
    }
}

/// Its database for transactions beside each other.
struct Beside {
    database: OptimisticTxDatabase,
    data: OptimisticTxKeyspace,
}

impl Beside {
    fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
        let database = OptimisticTxDatabase::builder(directory.join("fjall"))
            .cache_size(settings.cache_bytes as u64)
            .open()?;
        let data = database.keyspace("data", KeyspaceCreateOptions::default)?;
        Ok(Box::new(Self { database, data }))
    }
}

impl Engine for Beside {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Deferred
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let mut transaction = self.begin(safety)?;
        work(&mut transaction)?;
        match transaction.transaction.commit()? {
            Ok(()) => Ok(()),
            Err(conflict) => Err(conflict.into()),
        }
    }

    fn transacts(&self) -> bool {
        true
    }

    fn transact(
        &self,
        safety: Safety,
        work: &mut (dyn FnMut(&mut dyn Both) -> Result<()> + Send),
    ) -> Result<u64> {
        for refused in 0.. {
            let mut transaction = self.begin(safety)?;
            work(&mut transaction)?;
            if transaction.transaction.commit()?.is_ok() {
                return Ok(refused);
            }
        }
        Err("refused without end".into())
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        work(&mut self.data.inner())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        self.data.inner().major_compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

impl Beside {
    fn begin(&self, safety: Safety) -> Result<Transaction<'_>> {
        let transaction = self.database.write_tx()?;
        Ok(Transaction {
            transaction: transaction.durability(Some(mode(safety))),
            data: &self.data,
        })
    }
}

struct Transaction<'d> {
    transaction: fjall::OptimisticWriteTx,
    data: &'d OptimisticTxKeyspace,
}

impl Writer for Transaction<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.transaction.insert(self.data, key, value);
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.transaction.remove(self.data, key);
        Ok(())
    }
}

impl Both for Transaction<'_> {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match self.transaction.get(self.data, key)? {
            Some(value) => {
                lend(&value);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Writer::put(self, key, value)
    }
}
