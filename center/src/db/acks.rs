//! What edges said they did, with the time at which it arrived here: the proof of a revocation.

use super::{DbError, OwnerId, json, parsed, to_json};
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;
use verona_contract::api::{ConfigAck, ConfigState, CrlAck};
use verona_contract::control::Cut;
use verona_contract::key::KeyId;

/// Stores the ack of a list. A repeated one changes nothing: the first arrival is the proof.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert_crl(
    transaction: &Transaction<'_>,
    edge: Uuid,
    ack: &CrlAck,
    arrived_ns: i64,
) -> Result<(), DbError> {
    let sql = "INSERT INTO crl_ack(edge, issuer, number, applied_ns, arrived_ns, cut)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
    transaction.execute(
        sql,
        params![
            edge.to_string(),
            ack.issuer.to_string(),
            ack.crl_number.cast_signed(),
            ack.applied_at_ns,
            arrived_ns,
            to_json(&ack.cut)?
        ],
    )?;
    Ok(())
}

/// Stores the ack of a configuration; a later word on the same one replaces it.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert_config(
    transaction: &Transaction<'_>,
    edge: Uuid,
    ack: &ConfigAck,
    arrived_ns: i64,
) -> Result<(), DbError> {
    let state = match ack.state {
        ConfigState::Confirmed => "confirmed",
        ConfigState::Refused => "refused",
        ConfigState::Reverted => "reverted",
    };
    let sql = "INSERT OR REPLACE INTO config_ack(edge, seq, state, rejected, applied_ns, arrived_ns)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    transaction.execute(
        sql,
        params![
            edge.to_string(),
            ack.seq.cast_signed(),
            state,
            to_json(&ack.rejected)?,
            ack.applied_at_ns,
            arrived_ns
        ],
    )?;
    Ok(())
}

/// The first ack of an edge to a list that carries a change.
#[derive(Clone, Debug)]
pub(crate) struct FirstAck {
    /// The edge.
    pub(crate) edge: Uuid,
    /// The list that it acknowledged.
    pub(crate) number: u64,
    /// The edge's clock, Unix nanoseconds.
    pub(crate) applied_ns: i64,
    /// Our clock, Unix nanoseconds.
    pub(crate) arrived_ns: i64,
    /// The sessions that ended.
    pub(crate) cut: Vec<Cut>,
}

/// For each edge of an owner, its first ack to list `number` or a later one. A client that reconnects while
/// the list travels is cut by the first list only, so that one tells.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn first_since(
    connection: &Connection,
    owner: OwnerId,
    issuer: &KeyId,
    number: u64,
) -> Result<Vec<FirstAck>, DbError> {
    // SQLite takes the bare columns from the row of the minimum.
    let sql = "SELECT a.edge, a.applied_ns, a.arrived_ns, a.cut, min(a.number) FROM crl_ack a
        JOIN edge e ON e.id = a.edge WHERE e.owner = ?1 AND a.issuer = ?2 AND a.number >= ?3 GROUP BY a.edge";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![owner, issuer.to_string(), number.cast_signed()], |row| {
        Ok(FirstAck {
            edge: parsed(row, 0)?,
            number: row.get::<_, i64>(4)?.cast_unsigned(),
            applied_ns: row.get(1)?,
            arrived_ns: row.get(2)?,
            cut: json(row, 3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
