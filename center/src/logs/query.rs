//! Reads records and alarms, a page at a time, within a scope.

use super::LogError;
use crate::clock;
use crate::db::{Scope, parsed};
use rusqlite::{Connection, params};
use uuid::Uuid;
use verona_contract::api::{LogAlarm, LogPage};
use verona_contract::log::Stream;

/// Most records of a page.
pub(crate) const MAX_PAGE: u32 = 1000;

/// Alarms that are shown.
const MAX_ALARMS: u32 = 1000;

/// Which records.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Of one edge.
    pub(crate) edge: Option<Uuid>,
    /// Of one stream.
    pub(crate) stream: Option<Stream>,
    /// Of one kind of event.
    pub(crate) event: Option<String>,
    /// After this place, in the order of arrival.
    pub(crate) after: u64,
    /// At most so many, 1 to [`MAX_PAGE`].
    pub(crate) limit: u32,
}

pub(super) fn page(connection: &Connection, scope: Scope, query: &Query) -> Result<LogPage, LogError> {
    let sql = "SELECT n, record FROM record WHERE n > ?1 AND owner = coalesce(?2, owner)
        AND edge = coalesce(?3, edge) AND stream = coalesce(?4, stream) AND event = coalesce(?5, event)
        ORDER BY n LIMIT ?6";
    let mut statement = connection.prepare(sql)?;
    let after = i64::try_from(query.after).unwrap_or(i64::MAX);
    let (edge, stream) = (query.edge.map(|edge| edge.to_string()), query.stream.map(Stream::as_str));
    let mut rows = statement.query(params![after, scope, edge, stream, query.event, query.limit])?;
    let (mut records, mut last) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let text: String = row.get(1)?;
        records.push(serde_json::from_str(&text).map_err(|source| LogError::Damaged { n: last, source })?);
    }
    let full = records.len() == query.limit as usize;
    Ok(LogPage { records, next: full.then_some(last.cast_unsigned()) })
}

pub(super) fn alarms(connection: &Connection, scope: Scope) -> Result<Vec<LogAlarm>, LogError> {
    let sql = "SELECT edge, stream, seq, detail, at_ns FROM alarm WHERE owner = coalesce(?1, owner)
        ORDER BY n DESC LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params![scope, MAX_ALARMS], |row| {
        Ok(LogAlarm {
            edge: parsed(row, 0)?,
            stream: parsed(row, 1)?,
            seq: row.get::<_, i64>(2)?.cast_unsigned(),
            detail: row.get(3)?,
            at: clock::timestamp_ns(row.get(4)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
