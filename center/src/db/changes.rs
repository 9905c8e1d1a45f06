//! The orders about a client, newest first: what an admin did, when, and the list that carries it.

use super::DbError;
use rusqlite::types::Type;
use rusqlite::{Connection, Row, Transaction, params};
use uuid::Uuid;
use verona_contract::api::ClientAction;
use verona_contract::key::KeyId;

/// One order.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// What was ordered.
    pub(crate) action: ClientAction,
    /// An admin's login name, or `operator`.
    pub(crate) by: String,
    /// When, Unix nanoseconds.
    pub(crate) changed_ns: i64,
    /// The wish of the issuer's list.
    pub(crate) wanted: i64,
    /// The list that carries it, once it is made.
    pub(crate) number: Option<u64>,
}

/// Stores an order whose list is still to be made.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(transaction: &Transaction<'_>, client: Uuid, change: &Change) -> Result<(), DbError> {
    let sql = "INSERT INTO client_change(client, wanted, action, ordered_by, changed_ns) VALUES (?1, ?2, ?3, ?4, ?5)";
    let Change { action, by, changed_ns, wanted, .. } = change;
    transaction.execute(sql, params![client.to_string(), wanted, action_name(*action), by, changed_ns])?;
    Ok(())
}

/// The newest orders about a client, at most `limit`, the newest first.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn newest(connection: &Connection, client: Uuid, limit: u32) -> Result<Vec<Change>, DbError> {
    let sql = "SELECT action, ordered_by, changed_ns, wanted, number FROM client_change
        WHERE client = ?1 ORDER BY wanted DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![client.to_string(), limit], |row| {
        Ok(Change {
            action: action(row, 0)?,
            by: row.get(1)?,
            changed_ns: row.get(2)?,
            wanted: row.get(3)?,
            number: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Notes that list `number` of a client CA carries every wish up to `made`.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn carried(
    transaction: &Transaction<'_>,
    issuer: &KeyId,
    made: i64,
    number: i64,
) -> Result<(), DbError> {
    let sql = "UPDATE client_change SET number = ?3 WHERE number IS NULL AND wanted <= ?2 AND client IN
        (SELECT k.id FROM client k JOIN issuer i ON i.owner = k.owner WHERE i.key_id = ?1 AND i.kind = 'client')";
    transaction.execute(sql, params![issuer.to_string(), made, number])?;
    Ok(())
}

const fn action_name(action: ClientAction) -> &'static str {
    match action {
        ClientAction::Disable => "disable",
        ClientAction::Enable => "enable",
        ClientAction::Revoke => "revoke",
    }
}

fn action(row: &Row<'_>, index: usize) -> rusqlite::Result<ClientAction> {
    let name: String = row.get(index)?;
    [ClientAction::Disable, ClientAction::Enable, ClientAction::Revoke]
        .into_iter()
        .find(|action| action_name(*action) == name)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(index, name, Type::Text))
}
