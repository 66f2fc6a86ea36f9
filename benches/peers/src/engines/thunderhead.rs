//! This store, as a user of the crate would use it.

use std::path::Path;

use thunderhead::{Durability, Options, Store, Transaction};

use super::{Both, Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "thunderhead",
    package: "thunderhead",
    open,
    notes: &[],
    weaker: &[],
};

struct Thunderhead {
    store: Store,
    /// The same, whose commits are handed to the operating system.
    buffered: Store,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let mut options = Options::new().cache_bytes(settings.cache_bytes);
    if let Some(bytes) = settings.transaction_bytes {
        options = options.transaction_bytes(bytes);
    }
    if let Some(bytes) = settings.journal_bytes {
        options = options.journal_bytes(bytes);
    }
    let store = options.open_or_create(directory.join("thunderhead.store"))?;
    let buffered = store.with_durability(Durability::Buffered);
    Ok(Box::new(Thunderhead { store, buffered }))
}

fn durability(safety: Safety) -> Durability {
    match safety {
        Safety::Durable => Durability::Immediate,
        Safety::Buffered => Durability::Buffered,
        Safety::Deferred => Durability::Deferred,
    }
}

impl Engine for Thunderhead {
    fn offers(&self, _safety: Safety) -> bool {
        true
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        // Nothing else commits beside it here, and it is not read from.
        let mut transaction = self.store.begin_alone().wait()?;
        transaction.set_durability(durability(safety));
        work(&mut transaction)?;
        transaction.commit().wait()?;
        Ok(())
    }

    fn put(&self, safety: Safety, key: &[u8], value: &[u8]) -> Result<()> {
        match safety {
            Safety::Durable => self.store.put(key, value).wait()?,
            _ => self
                .store
                .with_durability(durability(safety))
                .put(key, value)
                .wait()?,
        };
        Ok(())
    }

    fn transacts(&self) -> bool {
        true
    }

    fn transact(
        &self,
        safety: Safety,
        work: &mut (dyn FnMut(&mut dyn Both) -> Result<()> + Send),
    ) -> Result<u64> {
        let mut attempts = 0;
        let store = match safety {
            Safety::Buffered => self.buffered.clone(),
            _ => self.store.with_durability(durability(safety)),
        };
        let done = store.transact(|mut attempt| {
            attempts += 1;
            let done = work(&mut *attempt);
            drop(attempt);
            async move { Ok(done) }
        });
        done.wait()??;
        Ok(attempts - 1)
    }

    fn keeps_versions(&self) -> bool {
        true
    }

    fn keep_version(&self, name: u64) -> Result<()> {
        self.store.snapshots().save(name.to_be_bytes()).wait()?;
        Ok(())
    }

    fn versions(&self) -> Result<u64> {
        Ok(self.store.snapshots().len().wait()?)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        work(&mut &self.store)
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        self.store.delete_range(low..end).wait()?;
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.store.sync().wait()?;
        Ok(())
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        self.store.compact().wait()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.store.close().wait()?)
    }
}

impl Writer for Transaction {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(Transaction::put(self, key, value).wait()?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Ok(Transaction::delete(self, key).wait()?)
    }
}

impl Both for Transaction {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        Ok(self.get_with(key, lend).wait()?.is_some())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(Transaction::put(self, key, value).wait()?)
    }
}

impl Reader for &Store {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        Ok(self.get_with(key, lend).wait()?.is_some())
    }

    fn get_part(
        &mut self,
        key: &[u8],
        offset: usize,
        length: usize,
        lend: Lend<'_>,
    ) -> Result<bool> {
        match Store::get_part(self, key, offset as u64, length).wait()? {
            Some(part) => {
                lend(&part);
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
                let mut range = Store::range(self, from..);
                for _ in 0..limit {
                    if range.next_with(&mut *lend).wait()?.is_none() {
                        break;
                    }
                }
            }
            Direction::Backward => {
                let mut range = Store::range(self, ..=from);
                for _ in 0..limit {
                    if range.next_back_with(&mut *lend).wait()?.is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.len().wait()?)
    }
}
