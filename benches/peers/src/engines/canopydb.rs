//! canopydb: a copy-on-write B+tree behind a write-ahead log.
//!
//! Its defaults, with the cache that all have. Commits without sync go through its log to the
//! operating system, by its documentation. It is closed with a checkpoint, as its documentation
//! advises those who want to open it fast.

use std::path::Path;

use canopydb::{Database, DbOptions, EnvOptions, Error, Tree};

use super::{Both, Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "canopydb",
    package: "canopydb",
    open,
    notes: &[
        (
            "large-64-write",
            "canopydb compresses overflow values by default, here in vain",
        ),
        (
            "transactions-few-conflicts",
            "canopydb: snapshot isolation, conflicts by the page",
        ),
        (
            "transactions-many-conflicts",
            "canopydb: snapshot isolation, conflicts by the page",
        ),
    ],
    weaker: &[],
};

const TREE: &[u8] = b"data";

struct Canopydb {
    database: Database,
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let path = directory.join("canopydb");
    // It makes the directory, but looks for its options in it first.
    std::fs::create_dir_all(&path)?;
    let mut environment = EnvOptions::new(path);
    environment.page_cache_size = settings.cache_bytes;
    let mut options = DbOptions::new();
    if let Some(bytes) = settings.transaction_bytes {
        options.write_txn_memory_limit = bytes;
    }
    let database = Database::with_options(environment, options)?;
    let transaction = database.begin_write()?;
    transaction.get_or_create_tree(TREE)?;
    transaction.commit()?;
    Ok(Box::new(Canopydb { database }))
}

impl Canopydb {
    fn change(&self, sync: bool, work: impl FnOnce(&mut Tree<'_>) -> Result<()>) -> Result<()> {
        let transaction = self.database.begin_write()?;
        let mut tree = transaction.get_or_create_tree(TREE)?;
        work(&mut tree)?;
        drop(tree);
        transaction.commit_with(sync)?;
        Ok(())
    }
}

impl Engine for Canopydb {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Deferred
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        self.change(safety == Safety::Durable, |tree| work(tree))
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
            let transaction = self.database.begin_write_concurrent()?;
            let mut tree = transaction.get_or_create_tree(TREE)?;
            work(&mut tree)?;
            drop(tree);
            match transaction.commit_with(safety == Safety::Durable) {
                Ok(_) => return Ok(refused),
                Err(Error::WriteConflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err("refused without end".into())
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let transaction = self.database.begin_read()?;
        let mut tree = transaction.get_tree(TREE)?.ok_or("the tree is gone")?;
        work(&mut tree)
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        self.change(true, |tree| Ok(tree.delete_range(low..end)?))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.sync()?)
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        self.database.compact()?;
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.database.sync()?;
        Ok(self.database.checkpoint()?)
    }
}

impl Writer for Tree<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.insert(key, value)?)
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        Tree::delete(self, key)?;
        Ok(())
    }
}

impl Both for Tree<'_> {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        Reader::get(self, key, lend)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.insert(key, value)?)
    }
}

impl Reader for Tree<'_> {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        match Tree::get(self, key)? {
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
                for entry in Tree::range(self, from..)?.take(limit) {
                    let (key, value) = entry?;
                    lend(&key, &value);
                }
            }
            Direction::Backward => {
                for entry in Tree::range(self, ..=from)?.rev().take(limit) {
                    let (key, value) = entry?;
                    lend(&key, &value);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.len())
    }
}
