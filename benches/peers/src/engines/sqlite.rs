//! SQLite, through rusqlite: a B-tree behind a write-ahead log.
//!
//! `journal_mode = WAL`, a table `WITHOUT ROWID` (for large values one with, as its documentation
//! advises, read in part by incremental I/O), prepared statements. `synchronous = FULL` syncs the log
//! with each commit; `NORMAL` hands it to the operating system. A connection serves one thread, so
//! there is one for writing and one for each reading thread, each with a cache of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{CachedStatement, Connection, MAIN_DB, OptionalExtension, params};

use super::{Direction, Engine, Kind, Lend, Reader, Result, Safety, Settings, Writer};

pub const KIND: Kind = Kind {
    name: "sqlite",
    package: "rusqlite",
    open,
    notes: &[
        ("count", "SQLite: a scan"),
        ("delete-range", "SQLite: `DELETE … WHERE`, a scan"),
        ("compact", "SQLite: `VACUUM`"),
    ],
    weaker: &[],
};

struct Sqlite {
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    path: PathBuf,
    settings: Settings,
}

fn connect(path: &Path, settings: Settings) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "cache_size", -(settings.cache_bytes as i64 / 1024))?;
    Ok(connection)
}

fn open(directory: &Path, settings: Settings) -> Result<Box<dyn Engine>> {
    let path = directory.join("sqlite");
    let writer = connect(&path, settings)?;
    let suffix = if settings.large_values {
        ""
    } else {
        "WITHOUT ROWID"
    };
    writer.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS data (key BLOB PRIMARY KEY, value BLOB NOT NULL) {suffix}"
    ))?;
    Ok(Box::new(Sqlite {
        writer: Mutex::new(writer),
        readers: Mutex::default(),
        path,
        settings,
    }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sqlite {
    /// The connection that writes, with commits that are as safe as wanted.
    fn begin(&self, safety: Safety) -> Result<MutexGuard<'_, Connection>> {
        let connection = lock(&self.writer);
        let level = match safety {
            Safety::Durable => "PRAGMA synchronous = FULL",
            Safety::Buffered | Safety::Deferred => "PRAGMA synchronous = NORMAL",
        };
        connection.prepare_cached(level)?.execute([])?;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(connection)
    }
}

fn commit(connection: &Connection) -> Result<()> {
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

impl Engine for Sqlite {
    fn offers(&self, safety: Safety) -> bool {
        safety != Safety::Deferred
    }

    fn write(
        &self,
        safety: Safety,
        work: &mut dyn FnMut(&mut dyn Writer) -> Result<()>,
    ) -> Result<()> {
        let connection = self.begin(safety)?;
        work(&mut SqliteWriter {
            put: connection.prepare_cached("INSERT OR REPLACE INTO data VALUES (?1, ?2)")?,
            delete: connection.prepare_cached("DELETE FROM data WHERE key = ?1")?,
        })?;
        commit(&connection)
    }

    fn read(&self, work: &mut dyn FnMut(&mut dyn Reader) -> Result<()>) -> Result<()> {
        let waiting = lock(&self.readers).pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => connect(&self.path, self.settings)?,
        };
        connection.prepare_cached("BEGIN")?.execute([])?;
        let result = work(&mut SqliteReader {
            connection: &connection,
        });
        commit(&connection)?;
        lock(&self.readers).push(connection);
        result
    }

    fn delete_range(&self, low: &[u8], end: &[u8]) -> Result<()> {
        let connection = self.begin(Safety::Durable)?;
        connection.execute(
            "DELETE FROM data WHERE key >= ?1 AND key < ?2",
            params![low, end],
        )?;
        commit(&connection)
    }

    fn sync(&self) -> Result<()> {
        // It syncs the log before it copies from it.
        lock(&self.writer).query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn compact(self: Box<Self>) -> Result<Box<dyn Engine>> {
        lock(&self.readers).clear();
        let connection = lock(&self.writer);
        connection.execute_batch("VACUUM")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        drop(connection);
        Ok(self)
    }

    fn close(self: Box<Self>) -> Result<()> {
        lock(&self.readers).clear();
        let writer = self.writer.into_inner();
        let writer = writer.unwrap_or_else(PoisonError::into_inner);
        writer.close().map_err(|(_, error)| error.into())
    }
}

struct SqliteWriter<'c> {
    put: CachedStatement<'c>,
    delete: CachedStatement<'c>,
}

impl Writer for SqliteWriter<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.put.execute(params![key, value])?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.delete.execute(params![key])?;
        Ok(())
    }
}

struct SqliteReader<'c> {
    connection: &'c Connection,
}

impl Reader for SqliteReader<'_> {
    fn get(&mut self, key: &[u8], lend: Lend<'_>) -> Result<bool> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT value FROM data WHERE key = ?1")?;
        let mut rows = statement.query(params![key])?;
        match rows.next()? {
            Some(row) => {
                lend(row.get_ref(0)?.as_blob()?);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn get_part(
        &mut self,
        key: &[u8],
        offset: usize,
        length: usize,
        lend: Lend<'_>,
    ) -> Result<bool> {
        let row: Option<i64> = self
            .connection
            .prepare_cached("SELECT rowid FROM data WHERE key = ?1")?
            .query_row(params![key], |row| row.get(0))
            .optional()?;
        let Some(row) = row else { return Ok(false) };
        let blob = self
            .connection
            .blob_open(MAIN_DB, "data", "value", row, true)?;
        let mut part = vec![0; length.min(blob.len().saturating_sub(offset))];
        blob.read_at_exact(&mut part, offset)?;
        lend(&part);
        Ok(true)
    }

    fn range(
        &mut self,
        from: &[u8],
        direction: Direction,
        limit: usize,
        lend: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<()> {
        let mut statement = self.connection.prepare_cached(match direction {
            Direction::Forward => {
                "SELECT key, value FROM data WHERE key >= ?1 ORDER BY key LIMIT ?2"
            }
            Direction::Backward => {
                "SELECT key, value FROM data WHERE key <= ?1 ORDER BY key DESC LIMIT ?2"
            }
        })?;
        let limit = i64::try_from(limit).unwrap_or(-1);
        let mut rows = statement.query(params![from, limit])?;
        while let Some(row) = rows.next()? {
            lend(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        let count: i64 = self
            .connection
            .query_row("SELECT count(*) FROM data", [], |row| row.get(0))?;
        Ok(count as u64)
    }
}
