//! How every SQLite file of the center is opened, and its numbered migrations.
//!
//! WAL so that readers never wait for the writer, `synchronous = FULL` so that what was acknowledged
//! survives a power cut, foreign keys on. The schema belongs to who opens the file.

use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What went wrong with a database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteError {
    /// SQLite refused.
    #[error("database {path}: {action} failed")]
    At {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The file was written by a newer release.
    #[error("database {path} has schema {found}, this release knows {known}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// In the file.
        found: usize,
        /// In this release.
        known: usize,
    },
}

/// Opens a database, makes it where there is none, and brings its schema up to date: `migrations[n]` leads
/// from schema n to n + 1.
///
/// # Errors
///
/// [`SqliteError`].
pub(crate) fn open(path: &Path, migrations: &[&str]) -> Result<Connection, SqliteError> {
    let mut connection = connect(path)?;
    let at = |action| {
        let path = path.to_owned();
        move |source| SqliteError::At { action, path, source }
    };
    let transaction = connection.transaction().map_err(at("begin"))?;
    let found: usize = transaction
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(at("reading the schema version"))?
        .try_into()
        .unwrap_or(usize::MAX);
    let known = migrations.len();
    let missing =
        migrations.get(found..).ok_or_else(|| SqliteError::Newer { path: path.to_owned(), found, known })?;
    for migration in missing {
        transaction.execute_batch(migration).map_err(at("migration"))?;
    }
    transaction.pragma_update(None, "user_version", known as i64).map_err(at("migration"))?;
    transaction.commit().map_err(at("migration"))?;
    Ok(connection)
}

/// Opens one more connection to a database whose schema is up to date.
///
/// # Errors
///
/// [`SqliteError::At`].
pub(crate) fn connect(path: &Path) -> Result<Connection, SqliteError> {
    let at = |action| {
        let path = path.to_owned();
        move |source| SqliteError::At { action, path, source }
    };
    let connection = Connection::open(path).map_err(at("open"))?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(at("setting the busy timeout"))?;
    for (name, value) in [("journal_mode", "WAL"), ("synchronous", "FULL"), ("foreign_keys", "ON")] {
        // journal_mode answers with a row, the others do not.
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .or_else(no_row)
            .map_err(at("setup"))?;
    }
    Ok(connection)
}

fn no_row(error: rusqlite::Error) -> rusqlite::Result<()> {
    if matches!(error, rusqlite::Error::QueryReturnedNoRows) { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_run_once_and_a_newer_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let first = ["CREATE TABLE a(x INTEGER)"];
        open(&path, &first).unwrap().execute("INSERT INTO a VALUES (1)", []).unwrap();
        let second = ["CREATE TABLE a(x INTEGER)", "ALTER TABLE a ADD COLUMN y INTEGER"];
        let connection = open(&path, &second).unwrap();
        let rows: i64 = connection.query_row("SELECT count(y IS NULL) FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 1);
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let synchronous: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        let error = open(&path, &first).unwrap_err().to_string();
        assert!(error.ends_with("has schema 2, this release knows 1"), "{error}");
    }
}
