//! Edges: what was registered, and what was learnt at enrolment.

use super::{DbError, OwnerId, Scope, json, parsed, parsed_opt, to_json};
use crate::heartbeats::Heard;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use uuid::Uuid;
use verona_contract::api::{ConfigAck, Edge, EdgeHealth};
use verona_contract::config::{LogsConfig, NetworkConfig};
use verona_contract::ipnet::IpNet;
use verona_contract::key::PublicKey;

/// An edge.
#[derive(Clone, Debug)]
pub(crate) struct EdgeRow {
    /// Its id.
    pub(crate) id: Uuid,
    /// Whose.
    pub(crate) owner: OwnerId,
    /// For people.
    pub(crate) name: String,
    /// On the box's label.
    pub(crate) serial: String,
    /// Its host in the owner's network.
    pub(crate) host: i64,
    /// `host:port` under which clients reach it.
    pub(crate) endpoints: Vec<String>,
    /// UDP port.
    pub(crate) listen_port: u16,
    /// Networks behind it.
    pub(crate) lan: Vec<IpNet>,
    /// Registered fingerprint of the device key.
    pub(crate) fingerprint: Option<String>,
    /// SHA-256 of the one-time token.
    pub(crate) token_hash: Option<[u8; 32]>,
    /// Unix seconds.
    pub(crate) token_expires: Option<i64>,
    /// Fingerprint of the device key that enrolled.
    pub(crate) device: Option<String>,
    /// Its WireGuard key.
    pub(crate) tunnel_key: Option<PublicKey>,
    /// Its own network.
    pub(crate) network: NetworkConfig,
    /// Where its records go besides the center.
    pub(crate) logs: LogsConfig,
    last_seen_ns: Option<i64>,
    config_seq: i64,
    confirmed_seq: Option<i64>,
    /// An admin's leave to remove most of what the edge has.
    pub(crate) allow_shrink: Leave,
    outcome: Option<ConfigAck>,
}

/// How far an admin's leave to shrink has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// None, or used up.
    None = 0,
    /// Given, and in no configuration yet.
    Given = 1,
    /// In the newest configuration.
    Signed = 2,
}

impl EdgeRow {
    /// As the API shows it; `seen_ns` is newer than what is stored, where there is one.
    pub(crate) fn to_api(&self, seen_ns: Option<i64>, heard: Option<Heard>) -> Edge {
        let health = heard.map(|Heard { at_ns, from, heartbeat }| EdgeHealth {
            heard: crate::clock::timestamp_ns(at_ns),
            from,
            heartbeat,
        });
        let codes = |health: &EdgeHealth| {
            health.heartbeat.conditions.iter().map(|condition| condition.code.clone()).collect()
        };
        Edge {
            conditions: health.as_ref().map(codes),
            versions: health.as_ref().map(|health| health.heartbeat.versions.clone()),
            health,
            id: self.id,
            name: self.name.clone(),
            serial: self.serial.clone(),
            tunnel_key: self.tunnel_key,
            enrolled: self.device.is_some(),
            config_seq: self.config_seq.cast_unsigned(),
            confirmed_seq: self.confirmed_seq.map(i64::cast_unsigned),
            outcome: self.outcome.clone(),
            last_seen: seen_ns.or(self.last_seen_ns).map(crate::clock::timestamp_ns),
        }
    }
}

/// An edge to be registered.
#[derive(Clone, Debug)]
pub(crate) struct NewEdge {
    /// Its id.
    pub(crate) id: Uuid,
    /// Whose.
    pub(crate) owner: OwnerId,
    /// For people.
    pub(crate) name: String,
    /// On the box's label.
    pub(crate) serial: String,
    /// Its host in the owner's network.
    pub(crate) host: i64,
    /// `host:port` under which clients reach it.
    pub(crate) endpoints: Vec<String>,
    /// UDP port.
    pub(crate) listen_port: u16,
    /// Networks behind it.
    pub(crate) lan: Vec<IpNet>,
    /// Fingerprint of the device key.
    pub(crate) fingerprint: Option<String>,
    /// SHA-256 of the one-time token, and its end in Unix seconds.
    pub(crate) token: Option<([u8; 32], i64)>,
}

const SELECT: &str =
    "SELECT id, owner, name, serial, host, endpoints, listen_port, lan, fingerprint, token_hash,
    token_expires_s, device, tunnel_key, last_seen_ns,
    coalesce((SELECT max(seq) FROM config WHERE edge = edge.id), 0),
    (SELECT max(seq) FROM config_ack WHERE edge = edge.id AND state = 'confirmed'), allow_shrink,
    (SELECT json_object('seq', seq, 'state', state, 'rejected', json(rejected), 'applied_at_ns', applied_ns)
        FROM config_ack WHERE edge = edge.id ORDER BY arrived_ns DESC LIMIT 1),
    coalesce(network, '{}'), coalesce(logs, '{}') FROM edge";

/// Registers an edge. False when the serial number or the fingerprint is taken.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn insert(transaction: &Transaction<'_>, edge: &NewEdge) -> Result<bool, DbError> {
    let sql = "INSERT INTO edge(id, owner, name, serial, host, endpoints, listen_port, lan, fingerprint,
        token_hash, token_expires_s) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
        ON CONFLICT DO NOTHING";
    let inserted = transaction.execute(
        sql,
        params![
            edge.id.to_string(),
            edge.owner,
            edge.name,
            edge.serial,
            edge.host,
            to_json(&edge.endpoints)?,
            edge.listen_port,
            to_json(&edge.lan)?,
            edge.fingerprint,
            edge.token.map(|(hash, _)| hash),
            edge.token.map(|(_, expires)| expires)
        ],
    )?;
    Ok(inserted == 1)
}

/// The edges in `scope`, by name.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn list(connection: &Connection, scope: Scope) -> Result<Vec<EdgeRow>, DbError> {
    let sql = format!("{SELECT} WHERE owner = coalesce(?1, owner) ORDER BY name, id");
    let mut statement = connection.prepare_cached(&sql)?;
    Ok(statement.query_map([scope], edge)?.collect::<Result<_, _>>()?)
}

/// One edge.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_id(connection: &Connection, scope: Scope, id: Uuid) -> Result<Option<EdgeRow>, DbError> {
    let sql = format!("{SELECT} WHERE id = ?1 AND owner = coalesce(?2, owner)");
    Ok(connection.prepare_cached(&sql)?.query_row(params![id.to_string(), scope], edge).optional()?)
}

/// The edge of a label.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_serial(connection: &Connection, serial: &str) -> Result<Option<EdgeRow>, DbError> {
    let sql = format!("{SELECT} WHERE serial = ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([serial], edge).optional()?)
}

/// The edge whose device key was registered, or has enrolled by token: a box that was away until both its
/// certificate and its token ended comes back by its key.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn by_fingerprint(connection: &Connection, fingerprint: &str) -> Result<Option<EdgeRow>, DbError> {
    let sql = format!("{SELECT} WHERE device = ?1 OR fingerprint = ?1 ORDER BY device IS NOT ?1");
    Ok(connection.prepare_cached(&sql)?.query_row([fingerprint], edge).optional()?)
}

/// Binds an edge to the device key that enrolled. False when it is bound to another one already, or the key
/// belongs to another edge: one key on two boxes is a cloned disk.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn bind_device(
    transaction: &Transaction<'_>,
    id: Uuid,
    fingerprint: &str,
) -> Result<bool, DbError> {
    let sql = "UPDATE OR IGNORE edge SET device = ?2 WHERE id = ?1 AND coalesce(device, ?2) = ?2";
    Ok(transaction.execute(sql, params![id.to_string(), fingerprint])? == 1)
}

/// Sets the certified tunnel key.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_tunnel_key(
    transaction: &Transaction<'_>,
    id: Uuid,
    key: &PublicKey,
) -> Result<(), DbError> {
    let sql = "UPDATE edge SET tunnel_key = ?2 WHERE id = ?1";
    transaction.execute(sql, params![id.to_string(), key.to_string()])?;
    Ok(())
}

/// Replaces the network of an edge.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_network(
    transaction: &Transaction<'_>,
    id: Uuid,
    network: &NetworkConfig,
) -> Result<(), DbError> {
    let sql = "UPDATE edge SET network = ?2 WHERE id = ?1";
    transaction.execute(sql, params![id.to_string(), to_json(network)?])?;
    Ok(())
}

/// Replaces where the records of an edge go besides the center.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_logs(transaction: &Transaction<'_>, id: Uuid, logs: &LogsConfig) -> Result<(), DbError> {
    let sql = "UPDATE edge SET logs = ?2 WHERE id = ?1";
    transaction.execute(sql, params![id.to_string(), to_json(logs)?])?;
    Ok(())
}

/// Stores how far an admin's leave to shrink has come.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn set_leave(transaction: &Transaction<'_>, id: Uuid, leave: Leave) -> Result<(), DbError> {
    let sql = "UPDATE edge SET allow_shrink = ?2 WHERE id = ?1";
    transaction.execute(sql, params![id.to_string(), leave as i64])?;
    Ok(())
}

/// Stores when edges were last heard.
///
/// # Errors
///
/// [`DbError`].
pub(crate) fn store_seen(transaction: &Transaction<'_>, seen: &[(Uuid, i64)]) -> Result<(), DbError> {
    let mut statement = transaction.prepare_cached("UPDATE edge SET last_seen_ns = ?2 WHERE id = ?1")?;
    for (id, at_ns) in seen {
        statement.execute(params![id.to_string(), at_ns])?;
    }
    Ok(())
}

fn edge(row: &Row<'_>) -> rusqlite::Result<EdgeRow> {
    Ok(EdgeRow {
        id: parsed(row, 0)?,
        owner: row.get(1)?,
        name: row.get(2)?,
        serial: row.get(3)?,
        host: row.get(4)?,
        endpoints: json(row, 5)?,
        listen_port: row.get(6)?,
        lan: json(row, 7)?,
        fingerprint: row.get(8)?,
        token_hash: row.get(9)?,
        token_expires: row.get(10)?,
        device: row.get(11)?,
        tunnel_key: parsed_opt(row, 12)?,
        last_seen_ns: row.get(13)?,
        config_seq: row.get(14)?,
        confirmed_seq: row.get(15)?,
        allow_shrink: match row.get(16)? {
            1 => Leave::Given,
            2 => Leave::Signed,
            _ => Leave::None,
        },
        outcome: if row.get::<_, Option<String>>(17)?.is_some() { Some(json(row, 17)?) } else { None },
        network: json(row, 18)?,
        logs: json(row, 19)?,
    })
}
