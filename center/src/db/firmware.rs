//! Rings of firmware, the edges in them, and what the edges told about their updates.

use super::{DbError, Scope, parsed, to_json};
use crate::clock::timestamp_ns;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;
use verona_contract::api::{EdgeFirmware, Ring, UpdateAck, UpdateEvent, UpdateState};
use verona_contract::config::{UpdateConfig, Window};

/// Words of an edge that are kept.
const KEPT: i64 = 50;

/// All rings, by name.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn rings(connection: &Connection) -> Result<Vec<Ring>, DbError> {
    let mut statement =
        connection.prepare_cached("SELECT name, version, spread_s FROM ring ORDER BY name")?;
    let ring = |row: &rusqlite::Row<'_>| {
        Ok(Ring { name: row.get(0)?, version: parsed(row, 1)?, spread_s: row.get(2)? })
    };
    Ok(statement.query_map([], ring)?.collect::<Result<_, _>>()?)
}

/// Makes a ring, or changes it.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_ring(transaction: &Transaction<'_>, ring: &Ring) -> Result<(), DbError> {
    let sql = "INSERT OR REPLACE INTO ring(name, version, spread_s) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, params![ring.name, ring.version.to_string(), ring.spread_s])?;
    Ok(())
}

/// Puts an edge into a ring.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn join_ring(transaction: &Transaction<'_>, edge: Uuid, ring: &str) -> Result<(), DbError> {
    transaction.execute("UPDATE edge SET ring = ?2 WHERE id = ?1", params![edge.to_string(), ring])?;
    Ok(())
}

/// Sets when an edge may restart; none = at any time.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_window(
    transaction: &Transaction<'_>,
    edge: Uuid,
    window: Option<&Window>,
) -> Result<(), DbError> {
    let window = window.map(to_json).transpose()?;
    transaction
        .execute("UPDATE edge SET restart_window = ?2 WHERE id = ?1", params![edge.to_string(), window])?;
    Ok(())
}

/// The update section of an edge's configuration; none when its ring has no version.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn wish(connection: &Connection, edge: Uuid) -> Result<Option<UpdateConfig>, DbError> {
    let sql = "SELECT r.version, r.spread_s, e.restart_window FROM edge e JOIN ring r ON r.name = e.ring
        WHERE e.id = ?1";
    let wish = |row: &rusqlite::Row<'_>| {
        let window = optional_json(row, 2)?;
        Ok(UpdateConfig { version: parsed(row, 0)?, repository: None, window, spread_s: row.get(1)? })
    };
    Ok(connection.prepare_cached(sql)?.query_row([edge.to_string()], wish).optional()?)
}

/// An edge's firmware; none when there is no such edge in `scope`.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn of_edge(
    connection: &Connection,
    scope: Scope,
    edge: Uuid,
) -> Result<Option<EdgeFirmware>, DbError> {
    let sql = "SELECT e.ring, r.version, e.restart_window FROM edge e LEFT JOIN ring r ON r.name = e.ring
        WHERE e.id = ?1 AND e.owner = coalesce(?2, e.owner)";
    let row = |row: &rusqlite::Row<'_>| {
        let (ring, wanted) = (row.get(0)?, super::parsed_opt(row, 1)?);
        let window = optional_json(row, 2)?;
        Ok(EdgeFirmware { ring, wanted, window, running: None, history: Vec::new() })
    };
    let found =
        connection.prepare_cached(sql)?.query_row(params![edge.to_string(), scope], row).optional()?;
    let Some(mut firmware) = found else { return Ok(None) };
    let sql = "SELECT version, state, reason, running, at_ns, arrived_ns FROM update_ack WHERE edge = ?1
        ORDER BY id DESC";
    let event = |row: &rusqlite::Row<'_>| {
        let state: String = row.get(1)?;
        Ok(UpdateEvent {
            version: parsed(row, 0)?,
            state: state_of(&state),
            reason: row.get(2)?,
            running: parsed(row, 3)?,
            at: timestamp_ns(row.get(4)?),
            heard_at: timestamp_ns(row.get(5)?),
        })
    };
    let mut statement = connection.prepare_cached(sql)?;
    firmware.history = statement.query_map([edge.to_string()], event)?.collect::<Result<_, _>>()?;
    firmware.running = firmware.history.first().map(|event| event.running);
    Ok(Some(firmware))
}

/// Stores what an edge told. A repeated word changes nothing.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert_ack(
    transaction: &Transaction<'_>,
    edge: Uuid,
    ack: &UpdateAck,
    arrived_ns: i64,
) -> Result<(), DbError> {
    let sql = "INSERT INTO update_ack(edge, version, state, reason, running, at_ns, arrived_ns)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    let edge = edge.to_string();
    let (version, running) = (ack.version.to_string(), ack.running.to_string());
    transaction.execute(
        sql,
        params![edge, version, ack.state.as_str(), ack.reason, running, ack.at_ns, arrived_ns],
    )?;
    let sql = "DELETE FROM update_ack WHERE edge = ?1 AND id <=
        (SELECT id FROM update_ack WHERE edge = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    transaction.execute(sql, params![edge, KEPT])?;
    Ok(())
}

fn optional_json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    index: usize,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(index)?;
    if text.is_some() { super::json(row, index).map(Some) } else { Ok(None) }
}

/// Only our own words are stored.
fn state_of(text: &str) -> UpdateState {
    [UpdateState::Installed, UpdateState::Confirmed, UpdateState::WentBack]
        .into_iter()
        .find(|state| state.as_str() == text)
        .unwrap_or(UpdateState::Refused)
}
