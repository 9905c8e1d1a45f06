//! Owners: code, network, root of the preshared keys.

use super::{DbError, OwnerId, Scope, parsed};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use verona_contract::config::{OwnerCode, PskRoot};
use verona_contract::ipnet::IpNet;
use verona_contract::key::Secret;

/// An owner.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// The row.
    pub(crate) id: OwnerId,
    /// Keeps owners apart. Never shown to customers.
    pub(crate) code: OwnerCode,
    /// For people.
    pub(crate) name: String,
    /// Tunnel addresses come from it.
    pub(crate) network: IpNet,
    /// Root of the preshared keys.
    pub(crate) psk_root: PskRoot,
}

/// Adds an owner.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    code: &OwnerCode,
    name: &str,
    network: IpNet,
    psk_root: &Secret,
) -> Result<Owner, DbError> {
    let sql = "INSERT INTO owner(code, name, network, psk_id, psk_root) VALUES (?1, ?2, ?3, 1, ?4)
        RETURNING id, code, name, network, psk_id, psk_root";
    let values = params![code.as_str(), name, network.to_string(), psk_root.expose()];
    Ok(transaction.query_row(sql, values, owner)?)
}

/// The owners in `scope`, by name.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection, scope: Scope) -> Result<Vec<Owner>, DbError> {
    let sql = "SELECT id, code, name, network, psk_id, psk_root FROM owner
        WHERE id = coalesce(?1, id) ORDER BY name, id";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map([scope], owner)?.collect::<Result<_, _>>()?)
}

/// One owner.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_id(connection: &Connection, id: OwnerId) -> Result<Option<Owner>, DbError> {
    let sql = "SELECT id, code, name, network, psk_id, psk_root FROM owner WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.query_row([id], owner).optional()?)
}

/// The owner of a code.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_code(
    connection: &Connection,
    scope: Scope,
    code: &OwnerCode,
) -> Result<Option<Owner>, DbError> {
    let sql = "SELECT id, code, name, network, psk_id, psk_root FROM owner
        WHERE code = ?1 AND id = coalesce(?2, id)";
    Ok(connection.prepare_cached(sql)?.query_row(params![code.as_str(), scope], owner).optional()?)
}

fn owner(row: &Row<'_>) -> rusqlite::Result<Owner> {
    Ok(Owner {
        id: row.get(0)?,
        code: parsed(row, 1)?,
        name: row.get(2)?,
        network: parsed(row, 3)?,
        psk_root: PskRoot { id: row.get(4)?, secret: Secret::new(row.get(5)?) },
    })
}
