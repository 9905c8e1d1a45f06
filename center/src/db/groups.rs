//! Groups of clients: rules and members. A member is a client of the same owner.

use super::addresses::host_address;
use super::{DbError, OwnerId, Scope, json, parsed, to_json};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use uuid::Uuid;
use verona_contract::api::ClientGroup;
use verona_contract::groups::{Group, Rule};
use verona_contract::ipnet::IpNet;

/// A group with its owner.
#[derive(Clone, Debug)]
pub(crate) struct GroupRow {
    /// Whose.
    pub(crate) owner: OwnerId,
    /// As the API shows it.
    pub(crate) group: ClientGroup,
}

/// Makes a group, the last of its owner. False when the name is taken.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(
    transaction: &Transaction<'_>,
    owner: OwnerId,
    (id, name, rules): (Uuid, &str, &[Rule]),
) -> Result<bool, DbError> {
    let sql = "INSERT INTO client_group(id, owner, place, name, rules) VALUES (?1, ?2,
        (SELECT coalesce(max(place), 0) + 1 FROM client_group WHERE owner = ?2), ?3, ?4) ON CONFLICT DO NOTHING";
    Ok(transaction.execute(sql, params![id.to_string(), owner, name, to_json(&rules)?])? == 1)
}

/// How many groups an owner has.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn count(connection: &Connection, owner: OwnerId) -> Result<usize, DbError> {
    let sql = "SELECT count(*) FROM client_group WHERE owner = ?1";
    let count: i64 = connection.query_row(sql, [owner], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The groups in `scope`, in their order.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection, scope: Scope) -> Result<Vec<GroupRow>, DbError> {
    let sql = "SELECT id, owner, name, rules FROM client_group
        WHERE owner = coalesce(?1, owner) ORDER BY owner, place";
    let mut statement = connection.prepare_cached(sql)?;
    let mut groups: Vec<GroupRow> = statement.query_map([scope], group)?.collect::<Result<_, _>>()?;
    for row in &mut groups {
        row.group.members = members(connection, row.group.id)?;
    }
    Ok(groups)
}

/// One group.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_id(connection: &Connection, scope: Scope, id: Uuid) -> Result<Option<GroupRow>, DbError> {
    let sql = "SELECT id, owner, name, rules FROM client_group WHERE id = ?1 AND owner = coalesce(?2, owner)";
    let row = connection.prepare_cached(sql)?.query_row(params![id.to_string(), scope], group).optional()?;
    let Some(mut row) = row else { return Ok(None) };
    row.group.members = members(connection, id)?;
    Ok(Some(row))
}

/// Replaces the rules.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_rules(transaction: &Transaction<'_>, id: Uuid, rules: &[Rule]) -> Result<(), DbError> {
    let sql = "UPDATE client_group SET rules = ?2 WHERE id = ?1";
    transaction.execute(sql, params![id.to_string(), to_json(&rules)?])?;
    Ok(())
}

/// Puts a client of the owner in, or takes it out.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_member(
    transaction: &Transaction<'_>,
    (id, client): (Uuid, Uuid),
    member: bool,
) -> Result<(), DbError> {
    let sql = if member {
        "INSERT INTO group_member(client_group, client) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
    } else {
        "DELETE FROM group_member WHERE client_group = ?1 AND client = ?2"
    };
    transaction.execute(sql, params![id.to_string(), client.to_string()])?;
    Ok(())
}

/// Removes a group; its members stay clients.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn remove(transaction: &Transaction<'_>, id: Uuid) -> Result<(), DbError> {
    transaction.execute("DELETE FROM client_group WHERE id = ?1", [id.to_string()])?;
    Ok(())
}

/// An owner's groups as an edge gets them: by address. Revoked clients are left out.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn for_edges(
    connection: &Connection,
    owner: OwnerId,
    network: IpNet,
) -> Result<Vec<Group>, DbError> {
    let sql = "SELECT k.host FROM group_member m JOIN client k ON k.id = m.client
        WHERE m.client_group = ?1 AND k.state <> 'revoked' ORDER BY k.host";
    let mut statement = connection.prepare_cached(sql)?;
    let mut groups = Vec::new();
    for GroupRow { group, .. } in list(connection, Scope::of(owner))? {
        let hosts = statement.query_map([group.id.to_string()], |row| row.get::<_, i64>(0))?;
        let members = hosts.map(|host| host.map(|host| host_address(network, host)));
        groups.push(Group {
            members: members.collect::<Result<_, _>>()?,
            name: group.name,
            rules: group.rules,
        });
    }
    Ok(groups)
}

fn members(connection: &Connection, group: Uuid) -> Result<Vec<Uuid>, DbError> {
    let sql = "SELECT client FROM group_member WHERE client_group = ?1 ORDER BY client";
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_map([group.to_string()], |row| parsed(row, 0))?.collect::<Result<_, _>>()?)
}

fn group(row: &Row<'_>) -> rusqlite::Result<GroupRow> {
    let (id, name, rules) = (parsed(row, 0)?, row.get(2)?, json(row, 3)?);
    Ok(GroupRow { owner: row.get(1)?, group: ClientGroup { id, name, rules, members: Vec::new() } })
}
