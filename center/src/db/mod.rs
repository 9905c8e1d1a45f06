//! The center's database: one writer, any number of readers, each call off the async threads.
//!
//! A file per table family. Every query about an owner's objects takes a [`Scope`], so that one owner's admin
//! cannot name another's. Log records are elsewhere ([`crate::logs`]): a flood of them must not make a
//! revocation wait.

pub(crate) mod acks;
pub(crate) mod addresses;
pub(crate) mod admins;
pub(crate) mod certificates;
pub(crate) mod changes;
pub(crate) mod clients;
pub(crate) mod configs;
pub(crate) mod edges;
pub(crate) mod firmware;
pub(crate) mod groups;
pub(crate) mod heartbeats;
pub(crate) mod issuers;
pub(crate) mod owners;
pub(crate) mod scope;
pub(crate) mod stock;

pub(crate) use scope::{OwnerId, Scope};

use crate::sqlite::{self, SqliteError};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

const MIGRATIONS: [&str; 10] = [
    include_str!("schema.sql"),
    include_str!("changes.sql"),
    include_str!("groups.sql"),
    include_str!("rotation.sql"),
    include_str!("network.sql"),
    include_str!("trial.sql"),
    include_str!("firmware.sql"),
    include_str!("stock.sql"),
    include_str!("heartbeat.sql"),
    include_str!("logs.sql"),
];

/// Idle reading connections that are kept.
const READERS: usize = 8;

/// Why the database gave nothing. None of it is the caller's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DbError {
    /// Opening.
    #[error(transparent)]
    Open(#[from] SqliteError),
    /// A statement.
    #[error("database statement failed")]
    Sql(#[from] rusqlite::Error),
    /// The thread that ran it panicked.
    #[error("database thread ended")]
    Thread,
}

/// The database.
#[derive(Clone)]
pub(crate) struct Db {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Db {
    /// Opens or makes the database.
    ///
    /// # Errors
    ///
    /// [`DbError::Open`].
    pub(crate) fn open(path: &Path) -> Result<Self, DbError> {
        let writer = Mutex::new(sqlite::open(path, &MIGRATIONS)?);
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), writer, readers: Mutex::default() }) })
    }

    /// Runs a query.
    ///
    /// # Errors
    ///
    /// [`DbError`].
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let idle = shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => sqlite::connect(&shared.path)?,
            };
            let result = query(&connection);
            let mut readers = shared.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS {
                readers.push(connection);
            }
            result
        })
        .await
        .map_err(|_| DbError::Thread)?
    }

    /// Runs a change as one transaction: all of it on disk, or nothing.
    ///
    /// # Errors
    ///
    /// [`DbError`], or the change's own error; nothing is changed then.
    pub(crate) async fn write<T, E>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            // A panic rolled its transaction back; the connection is as before.
            let mut writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let sql = |error: rusqlite::Error| E::from(error.into());
            let transaction =
                writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql)?;
            let result = change(&transaction)?;
            transaction.commit().map_err(sql)?;
            Ok(result)
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| E::from(DbError::Thread))?
    }
}

/// A text column as its type. What does not parse was not written by us.
pub(crate) fn parsed<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(index)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(FromSqlError::other(error)))
    })
}

/// The same for a column that may be NULL.
pub(crate) fn parsed_opt<T>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    if row.get_ref(index)?.as_bytes_or_null()?.is_none() { Ok(None) } else { parsed(row, index).map(Some) }
}

/// A JSON column as its type.
pub(crate) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, index: usize) -> rusqlite::Result<T> {
    let text: String = row.get(index)?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(FromSqlError::other(error)))
    })
}

/// A value as a JSON column.
pub(crate) fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
