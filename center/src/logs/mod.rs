//! Log records of the edges: stored once each, their chains checked, queried by scope.
//!
//! They have a database file and a thread of their own, so that a flood of records delays other records and
//! nothing else. What an OTLP request is, the contract knows; who may send it, the HTTP side.

mod chain;
mod ingest;
mod query;

pub(crate) use ingest::Stored;
pub(crate) use query::{MAX_PAGE, Query};

use crate::db::{OwnerId, Scope};
use crate::sqlite::{self, SqliteError};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use verona_contract::api::{ChainReport, LogAlarm, LogPage};
use verona_contract::log::Record;

const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Queries at once. A check of all chains reads everything.
const MAX_QUERIES: usize = 2;

/// Why the log store gave nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// Opening.
    #[error(transparent)]
    Open(#[from] SqliteError),
    /// A statement.
    #[error("log database statement failed")]
    Sql(#[from] rusqlite::Error),
    /// A stored record does not parse.
    #[error("stored log record {n} is damaged")]
    Damaged {
        /// Its row.
        n: i64,
        /// How.
        #[source]
        source: serde_json::Error,
    },
    /// The thread that did it panicked, or the process ends.
    #[error("log thread ended")]
    Thread,
}

/// The log database.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    writer: Mutex<Connection>,
    queries: Semaphore,
}

impl LogStore {
    /// Opens or makes the database.
    ///
    /// # Errors
    ///
    /// [`LogError::Open`].
    pub(crate) fn open(path: &Path) -> Result<Self, LogError> {
        let writer = Mutex::new(sqlite::open(path, &MIGRATIONS)?);
        let queries = Semaphore::new(MAX_QUERIES);
        Ok(Self { shared: Arc::new(Shared { path: path.to_owned(), writer, queries }) })
    }

    /// Stores the records of an edge of `owner`; on disk when it returns.
    ///
    /// # Errors
    ///
    /// [`LogError`]; nothing is stored then.
    pub(crate) async fn store(&self, owner: OwnerId, records: Vec<Record>) -> Result<Stored, LogError> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            let mut writer = shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
            ingest::store(&mut writer, owner, &records)
        };
        tokio::task::spawn_blocking(run).await.map_err(|_| LogError::Thread)?
    }

    /// One page of records.
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub(crate) async fn page(&self, scope: Scope, query: Query) -> Result<LogPage, LogError> {
        self.read(move |db| query::page(db, scope, &query)).await
    }

    /// The state of each chain, from the stored records themselves.
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub(crate) async fn chains(&self, scope: Scope) -> Result<Vec<ChainReport>, LogError> {
        self.read(move |db| chain::reports(db, scope)).await
    }

    /// The newest alarms.
    ///
    /// # Errors
    ///
    /// [`LogError`].
    pub(crate) async fn alarms(&self, scope: Scope) -> Result<Vec<LogAlarm>, LogError> {
        self.read(move |db| query::alarms(db, scope)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let _permit = self.shared.queries.acquire().await.map_err(|_| LogError::Thread)?;
        let shared = Arc::clone(&self.shared);
        let run = move || query(&sqlite::connect(&shared.path)?);
        tokio::task::spawn_blocking(run).await.map_err(|_| LogError::Thread)?
    }
}

#[cfg(test)]
mod tests;
