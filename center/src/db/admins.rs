//! Admins of owners: login name and password hash; their certificates are with the others.

use super::{DbError, OwnerId};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;

/// Registers an admin. False when the login name is taken.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    id: Uuid,
    owner: OwnerId,
    login: &str,
    password_hash: &str,
) -> Result<bool, DbError> {
    let sql = "INSERT INTO admin(id, owner, login, password_hash) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO NOTHING";
    Ok(transaction.execute(sql, params![id.to_string(), owner, login, password_hash])? == 1)
}

/// Login name and password hash of the admin of a certificate.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn login(
    connection: &Connection,
    owner: OwnerId,
    id: Uuid,
) -> Result<Option<(String, String)>, DbError> {
    let sql = "SELECT login, password_hash FROM admin WHERE id = ?1 AND owner = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row(params![id.to_string(), owner], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(row.optional()?)
}
