//! What all engines can be asked: the narrowest interface that lets each be used as it is meant to.
//!
//! Values and keys are lent to a function, so that engines that need not copy do not. Reads happen
//! in a [`Reader`], which is a read transaction where the engine has such a thing, so that its
//! beginning is paid once for many reads.

use std::error::Error;
use std::path::Path;

pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Who is lent a value.
pub type Lend<'l> = &'l mut (dyn FnMut(&[u8]) + Send);

/// What a commit has survived when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// A power failure.
    Durable,
    /// The death of the process.
    Buffered,
    /// Nothing; it becomes durable soon, or with the next durable one.
    Deferred,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub cache_bytes: usize,
    /// The memory for one transaction, where that can be set.
    pub transaction_bytes: Option<usize>,
    /// The memory for one of the buffers in which commits gather, where that can be set.
    pub journal_bytes: Option<usize>,
    /// Whether values of a mebibyte and more are to come, for engines with a setting for that.
    pub large_values: bool,
    /// Whether transactions beside each other are to come, for engines with a database for that.
    pub beside: bool,
}

/// An engine that can be opened.
#[derive(Clone, Copy)]
pub struct Kind {
    pub name: &'static str,
    /// The package whose version is told.
    pub package: &'static str,
    /// Opens the store in a directory, or creates it.
    pub open: fn(&Path, Settings) -> Result<Box<dyn Engine>>,
    /// What to know about a phase on this engine.
    pub notes: &'static [(&'static str, &'static str)],
    /// Phases in which it promises less than the others: it is never marked as the best there.
    pub weaker: &'static [&'static str],
}

pub trait Writer {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, key: &[u8]) -> Result<()>;
}

/// A transaction that reads what it writes to.
pub trait Both {
    /// Lends the value of a key; says whether there was one.
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool>;
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
}

pub trait Reader {
    /// Lends the value of a key; says whether there was one.
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool>;

    /// Lends a part of a value. Engines that cannot read a part read the whole.
    fn get_part(
        &mut self,
        key: &[u8],
        offset: usize,
        length: usize,
        lend: Lend<'_>,
    ) -> Result<bool> {
        self.get(key, &mut |value| {
            let end = value.len().min(offset + length);
            lend(value.get(offset..end).unwrap_or(&[]));
        })
    }

    /// Lends up to `limit` entries in order: from the first key that is not less than `from`, or
    /// backward from the last that is not greater.
    fn range(
        &mut self,
        from: &[u8],
        direction: Direction,
        limit: usize,
        lend: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<()>;

    fn count(&mut self) -> Result<u64>;
}

pub trait Engine: Send + Sync {
    /// Whether there is a way to commit like this.
    fn offers(&self, safety: Safety) -> bool;

    /// One transaction.
    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()>;

    /// One put as a commit of its own.
    fn put(&self, safety: Safety, key: &[u8], value: &[u8]) -> Result<()> {
        self.write(safety, &mut |writer| writer.put(key, value))
    }

    /// Whether there are transactions beside each other, of which one that others were in the way of
    /// is refused.
    fn transacts(&self) -> bool {
        false
    }

    /// One of those, tried until it is committed: how often it was refused.
    fn transact(
        &self,
        _safety: Safety,
        _work: &mut (dyn FnMut(&mut dyn Both) -> Result<()> + Send),
    ) -> Result<u64> {
        Err("transactions are one at a time".into())
    }

    /// Whether versions can be kept for as long as one likes, across openings.
    fn keeps_versions(&self) -> bool {
        false
    }

    /// Keeps the present version, durably.
    fn keep_version(&self, _name: u64) -> Result<()> {
        Err("no versions are kept".into())
    }

    /// How many versions are kept.
    fn versions(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()>;

    /// Deletes the keys from `low` up to and without `end`, durably. Here for engines that have no
    /// such operation: a scan for the keys, and a transaction that deletes each.
    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        let mut keys = Vec::new();
        self.read(&mut |reader| {
            let mut from = low.to_vec();
            // Piecewise, since a range here has a limit and no end.
            loop {
                let before = keys.len();
                let mut past = false;
                reader.range(&from, Direction::Forward, 1024, &mut |key, _| {
                    past |= key >= end;
                    if !past {
                        keys.push(key.to_vec());
                    }
                })?;
                if past || keys.len() == before {
                    return Ok(());
                }
                from.clone_from(&keys[keys.len() - 1]);
                from.push(0);
            }
        })?;
        self.write(Safety::Durable, &mut |writer| {
            keys.iter().try_for_each(|key| writer.delete(key))
        })
    }

    /// Makes everything committed durable.
    fn sync(&self) -> Result<()>;

    /// Whether there is a way to give space back.
    fn compacts(&self) -> bool {
        true
    }

    /// Gives space back in the engine's own way. The store that is given is the one to go on with.
    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>>;

    /// Ends the store in good order.
    fn close(self: Box<Self>) -> Result<()>;
}
