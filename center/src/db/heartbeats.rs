//! The newest heartbeat of each edge.

use super::{DbError, json, parsed, to_json};
use crate::heartbeats::Heard;
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

/// Every edge's. One that does not read was written by another version, and is left out: the next comes in a minute.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn all(connection: &Connection) -> Result<Vec<(Uuid, Heard)>, DbError> {
    let mut statement = connection.prepare_cached("SELECT edge, arrived_ns, source, body FROM heartbeat")?;
    let rows = statement.query_map([], |row| {
        let heard = Heard { at_ns: row.get(1)?, from: parsed(row, 2)?, heartbeat: json(row, 3)? };
        Ok((parsed(row, 0)?, heard))
    })?;
    Ok(rows.filter_map(Result::ok).collect())
}

/// Stores newer ones.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn store(transaction: &Transaction<'_>, fresh: &[(Uuid, Heard)]) -> Result<(), DbError> {
    let sql = "INSERT OR REPLACE INTO heartbeat(edge, arrived_ns, source, body) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = transaction.prepare_cached(sql)?;
    for (edge, heard) in fresh {
        let body = to_json(&heard.heartbeat)?;
        statement.execute(params![edge.to_string(), heard.at_ns, heard.from.to_string(), body])?;
    }
    Ok(())
}
