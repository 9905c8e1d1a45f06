//! Boxes that were made and belong to nobody yet: what they will show when they call, and when they last did.

use super::DbError;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use verona_contract::api::StockBox;

/// What a box shows of itself at enrolment.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// Fingerprint of its device key.
    pub(crate) fingerprint: Option<String>,
    /// SHA-256 of its one-time token, and its end in Unix seconds.
    pub(crate) token: Option<([u8; 32], i64)>,
}

/// Adds a box. False when the serial number or the fingerprint is taken, here or by an edge.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    serial: &str,
    credential: &Credential,
) -> Result<bool, DbError> {
    let sql = "INSERT INTO stock(serial, fingerprint, token_hash, token_expires_s)
        SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS
            (SELECT 1 FROM edge WHERE serial = ?1 OR fingerprint = ?2 OR device = ?2)
        ON CONFLICT DO NOTHING";
    let Credential { fingerprint, token } = credential;
    let (hash, expires) = (token.map(|(hash, _)| hash), token.map(|(_, expires)| expires));
    Ok(transaction.execute(sql, params![serial, fingerprint, hash, expires])? == 1)
}

/// Takes a box out, for an owner.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn take(transaction: &Transaction<'_>, serial: &str) -> Result<Option<Credential>, DbError> {
    let sql = "DELETE FROM stock WHERE serial = ?1 RETURNING fingerprint, token_hash, token_expires_s";
    Ok(transaction.prepare_cached(sql)?.query_row([serial], credential).optional()?)
}

/// What the box of that serial number will show.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_serial(connection: &Connection, serial: &str) -> Result<Option<Credential>, DbError> {
    let sql = "SELECT fingerprint, token_hash, token_expires_s FROM stock WHERE serial = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([serial], credential).optional()?)
}

/// The serial number of the box with that device key.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_fingerprint(connection: &Connection, fingerprint: &str) -> Result<Option<String>, DbError> {
    let sql = "SELECT serial FROM stock WHERE fingerprint = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([fingerprint], |row| row.get(0)).optional()?)
}

/// Notes that a box has called.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn seen(transaction: &Transaction<'_>, serial: &str, at_ns: i64) -> Result<(), DbError> {
    transaction.execute("UPDATE stock SET last_seen_ns = ?2 WHERE serial = ?1", params![serial, at_ns])?;
    Ok(())
}

/// All boxes, by serial number.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection) -> Result<Vec<StockBox>, DbError> {
    let mut statement =
        connection.prepare_cached("SELECT serial, last_seen_ns FROM stock ORDER BY serial")?;
    let stock_box = |row: &Row<'_>| {
        let seen: Option<i64> = row.get(1)?;
        Ok(StockBox { serial: row.get(0)?, last_seen: seen.map(crate::clock::timestamp_ns) })
    };
    Ok(statement.query_map([], stock_box)?.collect::<Result<_, _>>()?)
}

fn credential(row: &Row<'_>) -> rusqlite::Result<Credential> {
    let token: Option<[u8; 32]> = row.get(1)?;
    let expires: Option<i64> = row.get(2)?;
    Ok(Credential { fingerprint: row.get(0)?, token: token.zip(expires) })
}
