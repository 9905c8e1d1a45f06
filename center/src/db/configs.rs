//! Signed configurations of edges, the newest revisions of each.

use super::DbError;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;

/// Revisions that are kept of each edge.
const KEPT: i64 = 20;

/// Digest of what an edge's newest configuration says; none before the first.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn digest(connection: &Connection, edge: Uuid) -> Result<Option<[u8; 32]>, DbError> {
    let sql = "SELECT digest FROM config WHERE edge = ?1 ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([edge.to_string()], |row| row.get(0)).optional()?)
}

/// Seq of an edge's newest configuration; 0 before the first.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn newest_seq(connection: &Connection, edge: Uuid) -> Result<u64, DbError> {
    let sql = "SELECT coalesce(max(seq), 0) FROM config WHERE edge = ?1";
    let seq: i64 = connection.query_row(sql, [edge.to_string()], |row| row.get(0))?;
    Ok(seq.cast_unsigned())
}

/// Takes the next seq of an edge.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn take_seq(transaction: &Transaction<'_>, edge: Uuid) -> Result<u64, DbError> {
    let sql = "UPDATE edge SET config_seq = config_seq + 1 WHERE id = ?1 RETURNING config_seq";
    let seq: i64 = transaction.query_row(sql, [edge.to_string()], |row| row.get(0))?;
    Ok(seq.cast_unsigned())
}

/// The newest envelope of an edge, with its seq.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn envelope(connection: &Connection, edge: Uuid) -> Result<Option<(u64, Vec<u8>)>, DbError> {
    let sql = "SELECT seq, envelope FROM config WHERE edge = ?1 ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement
        .query_row([edge.to_string()], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)));
    Ok(row.optional()?)
}

/// The root of preshared keys in the newest configuration that an edge has confirmed; none when that one is not kept
/// any more.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn confirmed_psk(connection: &Connection, edge: Uuid) -> Result<Option<u32>, DbError> {
    let sql = "SELECT c.psk_id FROM config_ack a LEFT JOIN config c ON c.edge = a.edge AND c.seq = a.seq
        WHERE a.edge = ?1 AND a.state = 'confirmed' ORDER BY a.seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row([edge.to_string()], |row| row.get(0)).optional()?.flatten())
}

/// Stores an envelope and which root of preshared keys it brings, and drops the revisions that are too old.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    edge: Uuid,
    seq: u64,
    (digest, psk_id): (&[u8; 32], u32),
    envelope: &[u8],
) -> Result<(), DbError> {
    let (edge, seq) = (edge.to_string(), seq.cast_signed());
    let sql = "INSERT INTO config(edge, seq, digest, envelope, psk_id) VALUES (?1, ?2, ?3, ?4, ?5)";
    transaction.execute(sql, params![edge, seq, digest, envelope, psk_id])?;
    transaction.execute("DELETE FROM config WHERE edge = ?1 AND seq <= ?2", params![edge, seq - KEPT])?;
    Ok(())
}
