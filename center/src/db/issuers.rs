//! CAs as the web tier knows them, and the newest list of each.

use super::certificates::Status;
use super::{DbError, OwnerId, Scope, changes, parsed};
use crate::signer::protocol::{CrlEntry, IssuedCrl};
use crate::signer::state::IssuerKind;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use verona_contract::key::KeyId;

/// A CA.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    /// subjectKeyIdentifier.
    pub(crate) key_id: KeyId,
    /// Whose; none for the center's own.
    pub(crate) owner: Option<OwnerId>,
    /// What it issues.
    pub(crate) kind: IssuerKind,
    /// DER.
    pub(crate) certificate: Vec<u8>,
}

/// A stored list.
#[derive(Clone, Debug)]
pub(crate) struct StoredCrl {
    /// Whose.
    pub(crate) issuer: Issuer,
    /// cRLNumber.
    pub(crate) number: u64,
    /// Listed certificates.
    pub(crate) entries: u64,
    /// Unix seconds.
    pub(crate) this_update: i64,
    /// Unix seconds.
    pub(crate) next_update: i64,
    /// DER.
    pub(crate) der: Vec<u8>,
}

/// Adds a CA.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    key_id: &KeyId,
    owner: Option<OwnerId>,
    kind: IssuerKind,
    certificate: &[u8],
) -> Result<(), DbError> {
    let sql = "INSERT INTO issuer(key_id, owner, kind, certificate) VALUES (?1, ?2, ?3, ?4)";
    transaction.execute(sql, params![key_id.to_string(), owner, kind.as_str(), certificate])?;
    Ok(())
}

/// The CA of a key identifier.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_key_id(
    connection: &Connection,
    scope: Scope,
    key_id: &KeyId,
) -> Result<Option<Issuer>, DbError> {
    // The center's own CAs have no owner, so no owner's scope holds them.
    let sql = "SELECT key_id, owner, kind, certificate FROM issuer
        WHERE key_id = ?1 AND (?2 IS NULL OR owner = ?2)";
    Ok(connection.prepare_cached(sql)?.query_row(params![key_id.to_string(), scope], issuer).optional()?)
}

/// The CAs in `scope`; the center's own are in nobody's but an operator's.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection, scope: Scope) -> Result<Vec<Issuer>, DbError> {
    let sql = "SELECT key_id, owner, kind, certificate FROM issuer WHERE (?1 IS NULL OR owner = ?1)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map([scope], issuer)?.collect::<Result<_, _>>()?)
}

/// An owner's CA of a kind. There is one from the owner's first moment.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn of_owner(connection: &Connection, owner: OwnerId, kind: IssuerKind) -> Result<Issuer, DbError> {
    let sql = "SELECT key_id, owner, kind, certificate FROM issuer WHERE owner = ?1 AND kind = ?2";
    Ok(connection.prepare_cached(sql)?.query_row(params![owner, kind.as_str()], issuer)?)
}

/// Number of the newest list of an issuer; 0 before the first.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn newest_number(connection: &Connection, key_id: &KeyId) -> Result<u64, DbError> {
    let sql = "SELECT coalesce(crl_number, 0) FROM issuer WHERE key_id = ?1";
    let number: i64 = connection.query_row(sql, [key_id.to_string()], |row| row.get(0))?;
    Ok(number.cast_unsigned())
}

/// Notes that an issuer's list should say something else, and answers the number of this wish.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn want_list(transaction: &Transaction<'_>, key_id: &KeyId) -> Result<i64, DbError> {
    let sql = "UPDATE issuer SET wanted = wanted + 1 WHERE key_id = ?1 RETURNING wanted";
    Ok(transaction.query_row(sql, [key_id.to_string()], |row| row.get(0))?)
}

/// The newest wish, and the one that the stored list carries.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn wishes(connection: &Connection, key_id: &KeyId) -> Result<(i64, i64), DbError> {
    let sql = "SELECT wanted, made FROM issuer WHERE key_id = ?1";
    Ok(connection.query_row(sql, [key_id.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Issuers whose list is behind a wish, absent, or past half of its life at `now_s`.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn due(connection: &Connection, now_s: i64) -> Result<Vec<KeyId>, DbError> {
    let sql = "SELECT key_id FROM issuer WHERE kind IN ('client', 'edge')
        AND (crl IS NULL OR made < wanted OR ?1 >= (this_update_s + next_update_s) / 2)";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map([now_s], |row| parsed(row, 0))?.collect::<Result<_, _>>()?)
}

/// What an issuer's list should say now, with the wish that this fulfils.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn entries(
    connection: &Connection,
    key_id: &KeyId,
    now_s: i64,
) -> Result<(i64, Vec<CrlEntry>), DbError> {
    let (wanted, _) = wishes(connection, key_id)?;
    let sql = "SELECT serial, status, since_s FROM certificate
        WHERE issuer = ?1 AND status <> 'good' AND not_after_s > ?2 ORDER BY serial";
    let mut statement = connection.prepare_cached(sql)?;
    // Expired ones stay for a day: RFC 5280 §3.3 wants each on one regular list beyond its end.
    let rows = statement.query_map(params![key_id.to_string(), now_s - 24 * 3600], |row| {
        Ok((parsed(row, 0)?, parsed::<Status>(row, 1)?, row.get::<_, Option<i64>>(2)?))
    })?;
    let mut entries = Vec::new();
    for row in rows {
        let (serial, status, since) = row?;
        if let Some(reason) = status.reason() {
            entries.push(CrlEntry { serial, reason, since: since.unwrap_or(0) });
        }
    }
    Ok((wanted, entries))
}

/// Stores a list in place of an older one, and notes which clients' changes it carries.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn store_list(
    transaction: &Transaction<'_>,
    key_id: &KeyId,
    made: i64,
    list: &IssuedCrl,
) -> Result<(), DbError> {
    let sql =
        "UPDATE issuer SET made = ?2, crl_number = ?3, crl = ?4, this_update_s = ?5, next_update_s = ?6,
        crl_entries = ?7 WHERE key_id = ?1 AND coalesce(crl_number, 0) < ?3";
    let number = list.number.cast_signed();
    transaction.execute(
        sql,
        params![
            key_id.to_string(),
            made,
            number,
            list.der.0,
            list.this_update,
            list.next_update,
            list.entries.cast_signed()
        ],
    )?;
    changes::carried(transaction, key_id, made, number)
}

/// The stored lists in `scope`.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn lists(connection: &Connection, scope: Scope) -> Result<Vec<StoredCrl>, DbError> {
    let sql =
        "SELECT key_id, owner, kind, certificate, crl_number, crl_entries, this_update_s, next_update_s, crl
        FROM issuer WHERE crl IS NOT NULL AND (?1 IS NULL OR owner = ?1) ORDER BY owner, kind";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([scope], |row| {
        Ok(StoredCrl {
            issuer: issuer(row)?,
            number: row.get::<_, i64>(4)?.cast_unsigned(),
            entries: row.get::<_, i64>(5)?.cast_unsigned(),
            this_update: row.get(6)?,
            next_update: row.get(7)?,
            der: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn issuer(row: &Row<'_>) -> rusqlite::Result<Issuer> {
    let kind: String = row.get(2)?;
    Ok(Issuer {
        key_id: parsed(row, 0)?,
        owner: row.get(1)?,
        kind: IssuerKind::from_name(&kind).ok_or(rusqlite::Error::InvalidQuery)?,
        certificate: row.get(3)?,
    })
}
