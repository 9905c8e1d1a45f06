//! Owners: code, network, roots of the preshared keys.

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
    /// The one before it, while a rotation's overlap lasts.
    pub(crate) psk_previous: Option<PskRoot>,
    /// When the overlap ends, Unix seconds.
    pub(crate) psk_overlap_ends: Option<i64>,
}

impl Owner {
    /// The root by which the clients of an edge speak to it: the new one once the edge has `confirmed` a
    /// configuration that brought it.
    pub(crate) fn root_at(&self, confirmed: Option<u32>) -> &PskRoot {
        match &self.psk_previous {
            Some(previous) if confirmed != Some(self.psk_root.id) => previous,
            _ => &self.psk_root,
        }
    }
}

/// The columns of an [`Owner`].
const COLUMNS: &str =
    "id, code, name, network, psk_id, psk_root, psk_previous_id, psk_previous, psk_overlap_ends_s";

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
    let sql = format!(
        "INSERT INTO owner(code, name, network, psk_id, psk_root) VALUES (?1, ?2, ?3, 1, ?4)
            RETURNING {COLUMNS}"
    );
    let values = params![code.as_str(), name, network.to_string(), psk_root.expose()];
    Ok(transaction.query_row(&sql, values, owner)?)
}

/// The owners in `scope`, by name.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection, scope: Scope) -> Result<Vec<Owner>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM owner WHERE id = coalesce(?1, id) ORDER BY name, id");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([scope], owner)?.collect::<Result<_, _>>()?)
}

/// One owner.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_id(connection: &Connection, id: OwnerId) -> Result<Option<Owner>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM owner WHERE id = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([id], owner).optional()?)
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
    let sql = format!("SELECT {COLUMNS} FROM owner WHERE code = ?1 AND id = coalesce(?2, id)");
    Ok(connection.prepare_cached(&sql)?.query_row(params![code.as_str(), scope], owner).optional()?)
}

/// Puts a new root in the place of the one before, which counts until `overlap_ends` (Unix seconds), or no more when
/// there is none. None when another overlap lasts and this one would have to begin.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn rotate(
    transaction: &Transaction<'_>,
    id: OwnerId,
    psk_root: &Secret,
    overlap_ends: Option<i64>,
) -> Result<Option<Owner>, DbError> {
    let sql = format!(
        "UPDATE owner SET psk_previous_id = iif(?3 IS NULL, NULL, psk_id),
            psk_previous = iif(?3 IS NULL, NULL, psk_root),
            psk_overlap_ends_s = ?3, psk_id = psk_id + 1, psk_root = ?2
            WHERE id = ?1 AND (?3 IS NULL OR psk_previous IS NULL) RETURNING {COLUMNS}"
    );
    Ok(transaction.query_row(&sql, params![id, psk_root.expose(), overlap_ends], owner).optional()?)
}

/// Owners whose overlap ended by `now_s`.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn overlaps_due(connection: &Connection, now_s: i64) -> Result<Vec<OwnerId>, DbError> {
    let mut statement = connection.prepare_cached("SELECT id FROM owner WHERE psk_overlap_ends_s <= ?1")?;
    Ok(statement.query_map([now_s], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// Ends the overlap of an owner: the root before is forgotten.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn end_overlap(transaction: &Transaction<'_>, id: OwnerId, now_s: i64) -> Result<(), DbError> {
    let sql = "UPDATE owner SET psk_previous_id = NULL, psk_previous = NULL, psk_overlap_ends_s = NULL
        WHERE id = ?1 AND psk_overlap_ends_s <= ?2";
    transaction.execute(sql, params![id, now_s])?;
    Ok(())
}

fn owner(row: &Row<'_>) -> rusqlite::Result<Owner> {
    let previous: (Option<u32>, Option<[u8; 32]>) = (row.get(6)?, row.get(7)?);
    Ok(Owner {
        id: row.get(0)?,
        code: parsed(row, 1)?,
        name: row.get(2)?,
        network: parsed(row, 3)?,
        psk_root: PskRoot { id: row.get(4)?, secret: Secret::new(row.get(5)?) },
        psk_previous: match previous {
            (Some(id), Some(secret)) => Some(PskRoot { id, secret: Secret::new(secret) }),
            _ => None,
        },
        psk_overlap_ends: row.get(8)?,
    })
}
