//! Clients: what was registered, what was learnt at enrolment, and what they may.

use super::{DbError, OwnerId, Scope, parsed, parsed_opt};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use std::net::IpAddr;
use uuid::Uuid;
use verona_contract::api::{Client, ClientState};
use verona_contract::ipnet::IpNet;
use verona_contract::key::{PublicKey, Serial};

/// A client.
#[derive(Clone, Debug)]
pub(crate) struct ClientRow {
    /// Its id.
    pub(crate) id: Uuid,
    /// Whose.
    pub(crate) owner: OwnerId,
    /// For people.
    pub(crate) name: String,
    /// Its host in the owner's network.
    pub(crate) host: i64,
    /// Whether its certificate is pushed.
    pub(crate) push: bool,
    /// What it may.
    pub(crate) state: ClientState,
    /// End of its code, Unix seconds.
    pub(crate) code_expires: i64,
    /// Fingerprint of the device key that enrolled.
    pub(crate) device: Option<String>,
    /// Its WireGuard key.
    pub(crate) tunnel_key: Option<PublicKey>,
    network: IpNet,
    newest: Option<(Serial, i64)>,
}

impl ClientRow {
    /// Its addresses in the tunnel.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        vec![super::addresses::host_address(self.network, self.host)]
    }

    /// As the API shows it.
    pub(crate) fn to_api(&self) -> Client {
        Client {
            id: self.id,
            name: self.name.clone(),
            state: self.state,
            addresses: self.addresses(),
            push: self.push,
            tunnel_key: self.tunnel_key,
            serial: self.newest.map(|(serial, _)| serial),
            not_after: self.newest.map(|(_, end)| crate::clock::timestamp_s(end)),
        }
    }
}

/// A client to be registered.
#[derive(Clone, Debug)]
pub(crate) struct NewClient {
    /// Its id.
    pub(crate) id: Uuid,
    /// Whose.
    pub(crate) owner: OwnerId,
    /// For people.
    pub(crate) name: String,
    /// Its host in the owner's network.
    pub(crate) host: i64,
    /// Whether its certificate is pushed.
    pub(crate) push: bool,
    /// SHA-256 of the enrolment code's secret.
    pub(crate) code_hash: [u8; 32],
    /// End of the code, Unix seconds.
    pub(crate) code_expires: i64,
}

const SELECT: &str = "SELECT k.id, k.owner, k.name, k.host, k.push, k.state, k.code_expires_s, k.device,
    k.tunnel_key, o.network, c.serial, c.not_after_s
    FROM client k JOIN owner o ON o.id = k.owner
    LEFT JOIN certificate c ON c.subject = k.id AND c.use = 'tunnel' AND c.not_after_s =
        (SELECT max(not_after_s) FROM certificate WHERE subject = k.id AND use = 'tunnel')";

/// Registers a client.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(transaction: &Transaction<'_>, client: &NewClient) -> Result<(), DbError> {
    let sql = "INSERT INTO client(id, owner, name, host, push, state, code_hash, code_expires_s)
        VALUES (?1, ?2, ?3, ?4, ?5, 'invited', ?6, ?7)";
    transaction.execute(
        sql,
        params![
            client.id.to_string(),
            client.owner,
            client.name,
            client.host,
            client.push,
            client.code_hash,
            client.code_expires
        ],
    )?;
    Ok(())
}

/// The clients in `scope`, by name.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection, scope: Scope) -> Result<Vec<ClientRow>, DbError> {
    let sql = format!("{SELECT} WHERE k.owner = coalesce(?1, k.owner) GROUP BY k.id ORDER BY k.name, k.id");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([scope], client)?.collect::<Result<_, _>>()?)
}

/// One client.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_id(connection: &Connection, scope: Scope, id: Uuid) -> Result<Option<ClientRow>, DbError> {
    let sql = format!("{SELECT} WHERE k.id = ?1 AND k.owner = coalesce(?2, k.owner) LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row(params![id.to_string(), scope], client).optional()?)
}

/// The client of an enrolment code.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_code(connection: &Connection, code_hash: &[u8; 32]) -> Result<Option<ClientRow>, DbError> {
    let sql = format!("{SELECT} WHERE k.code_hash = ?1 LIMIT 1");
    Ok(connection.prepare_cached(&sql)?.query_row([code_hash], client).optional()?)
}

/// Notes the keys that enrolled or renewed; an invited client is enabled with it. False when the client
/// was revoked, or enrolled with another device, in the meantime.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_keys(
    transaction: &Transaction<'_>,
    id: Uuid,
    device: &str,
    tunnel_key: &PublicKey,
) -> Result<bool, DbError> {
    let sql = "UPDATE client SET device = ?2, tunnel_key = ?3,
        state = CASE state WHEN 'invited' THEN 'enabled' ELSE state END
        WHERE id = ?1 AND coalesce(device, ?2) = ?2 AND state IN ('invited', 'enabled')";
    Ok(transaction.execute(sql, params![id.to_string(), device, tunnel_key.to_string()])? == 1)
}

/// Sets what a client may.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_state(transaction: &Transaction<'_>, id: Uuid, state: ClientState) -> Result<(), DbError> {
    let sql = "UPDATE client SET state = ?2 WHERE id = ?1";
    transaction.execute(sql, params![id.to_string(), state_name(state)])?;
    Ok(())
}

const fn state_name(state: ClientState) -> &'static str {
    match state {
        ClientState::Invited => "invited",
        ClientState::Enabled => "enabled",
        ClientState::Disabled => "disabled",
        ClientState::Revoked => "revoked",
    }
}

fn state(row: &Row<'_>, index: usize) -> rusqlite::Result<ClientState> {
    let name: String = row.get(index)?;
    [ClientState::Invited, ClientState::Enabled, ClientState::Disabled, ClientState::Revoked]
        .into_iter()
        .find(|state| state_name(*state) == name)
        .ok_or_else(|| rusqlite::Error::InvalidColumnType(index, name, Type::Text))
}

fn client(row: &Row<'_>) -> rusqlite::Result<ClientRow> {
    let serial: Option<Serial> = parsed_opt(row, 10)?;
    let end: Option<i64> = row.get(11)?;
    Ok(ClientRow {
        id: parsed(row, 0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        host: row.get(3)?,
        push: row.get(4)?,
        state: state(row, 5)?,
        code_expires: row.get(6)?,
        device: row.get(7)?,
        tunnel_key: parsed_opt(row, 8)?,
        network: parsed(row, 9)?,
        newest: serial.zip(end),
    })
}
