//! Administration, `/v1/admin/…`: owners, edges, clients, logs. Operators see every owner, an admin the own
//! one only; an owner code is never in an answer to an admin.

use crate::base64::Octets;
use crate::ipnet::IpNet;
use crate::key::{KeyId, PublicKey, Secret, Serial};
use crate::log::{Record, Stream};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use uuid::Uuid;

/// `GET`, `POST` [`NewOwner`] → [`Owner`]. Operators only.
pub const ADMIN_OWNERS: &str = "/v1/admin/owners";
/// `POST` [`NewPskRoot`] to `/v1/admin/owners/<code>/psk-root` → [`Owner`]. Operators only.
pub const PSK_ROOT: &str = "psk-root";
/// `GET` → [`Edge`]s, `POST` [`NewEdge`] → [`EdgeCreated`] (operators only).
pub const ADMIN_EDGES: &str = "/v1/admin/edges";
/// `POST` to `/v1/admin/edges/<id>/allow-shrink` → [`Edge`]: the edge's next configuration may remove most of what it
/// has. Used up by the edge's confirmation.
pub const ALLOW_SHRINK: &str = "allow-shrink";
/// `GET` → [`StockBox`]es, `POST` [`NewStockBox`] → [`StockBoxCreated`] (operators only).
pub const ADMIN_STOCK: &str = "/v1/admin/stock";
/// `GET` → [`Client`]s, `POST` [`NewClient`] → [`ClientCreated`].
pub const ADMIN_CLIENTS: &str = "/v1/admin/clients";
/// `GET /v1/admin/logs?edge=&stream=&event=&after=&limit=` → [`LogPage`].
pub const ADMIN_LOGS: &str = "/v1/admin/logs";
/// `GET` → [`ChainReport`]s, one for each edge and stream.
pub const ADMIN_CHAINS: &str = "/v1/admin/logs/chains";
/// `GET` → [`LogAlarm`]s, the newest first.
pub const ADMIN_ALARMS: &str = "/v1/admin/logs/alarms";
/// `GET` → [`CrlSummary`]s.
pub const ADMIN_CRLS: &str = "/v1/admin/crls";
/// `POST` [`NewAdmin`] → [`AdminCreated`]. Operators only.
pub const ADMIN_ADMINS: &str = "/v1/admin/admins";

/// Registers an owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewOwner {
    /// For people, 1 to 100 characters.
    pub name: String,
    /// The clients' network: the edges and clients of this owner get their tunnel addresses from it.
    pub network: IpNet,
}

/// An owner as an operator sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Owner {
    /// The code that keeps owners apart.
    pub code: crate::config::OwnerCode,
    /// For people.
    pub name: String,
    /// The clients' network.
    pub network: IpNet,
    /// Key identifier of the client CA: names its list.
    pub client_ca: KeyId,
    /// Key identifier of the edge CA.
    pub edge_ca: KeyId,
    /// Which root the preshared keys come of; grows with each rotation.
    pub psk_root: u32,
    /// Until when keys of the root before count, too, while a rotation's overlap lasts.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub psk_overlap_ends: Option<jiff::Timestamp>,
}

/// Rotates the root of an owner's preshared keys.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewPskRoot {
    /// Seconds for which keys of the root before count, too, at most 90 days. Clients take their new keys within
    /// minutes, stock ones when somebody brings them, an edge that is away when it is back. After it the others stay
    /// out. 0 when the root is known to somebody: then every session ends now and comes back with the new key.
    pub overlap_s: u64,
}

/// Registers an edge before it first calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewEdge {
    /// Whose.
    pub owner: crate::config::OwnerCode,
    /// For people, 1 to 100 characters.
    pub name: String,
    /// On the box's label.
    pub serial: String,
    /// SHA-256 of the device key's `SubjectPublicKeyInfo`, hex. Without it a one-time token is made.
    pub fingerprint: Option<String>,
    /// `host:port` under which clients reach it.
    pub endpoints: Vec<String>,
    /// UDP port that it listens on.
    pub listen_port: u16,
    /// Networks behind it, for its clients.
    pub lan: Vec<IpNet>,
    /// The box is in stock ([`ADMIN_STOCK`]) and gets an owner hereby; it enrols with what it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub claim: bool,
}

/// Adds a box that has no owner yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewStockBox {
    /// On the box's label.
    pub serial: String,
    /// SHA-256 of the device key's `SubjectPublicKeyInfo`, hex. Without it a one-time token is made.
    pub fingerprint: Option<String>,
}

/// A box that has no owner yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StockBox {
    /// On the box's label.
    pub serial: String,
    /// When it last asked for its owner, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub last_seen: Option<jiff::Timestamp>,
}

/// A box in stock, new.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StockBoxCreated {
    /// The box.
    #[serde(rename = "box")]
    pub stock_box: StockBox,
    /// For the factory record; shown once.
    pub token: Option<Secret>,
}

/// A registered edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeCreated {
    /// The edge.
    pub edge: Edge,
    /// For the factory record; shown once.
    pub token: Option<Secret>,
}

/// An edge.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Edge {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// On the box's label.
    pub serial: String,
    /// Its WireGuard key, once certified.
    pub tunnel_key: Option<PublicKey>,
    /// Whether it has an operational certificate.
    pub enrolled: bool,
    /// The newest configuration made for it.
    pub config_seq: u64,
    /// The newest configuration that it confirmed.
    pub confirmed_seq: Option<u64>,
    /// What it said last of a configuration, and of which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<super::ConfigAck>,
    /// Last request of any kind, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub last_seen: Option<jiff::Timestamp>,
    /// Codes of what is wrong with it, as it told last; none = it has not told yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<String>>,
    /// What runs there, as it told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versions: Option<super::Versions>,
    /// All that it told last; only where one edge is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<EdgeHealth>,
}

/// What an edge told of itself last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeHealth {
    /// When it arrived, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub heard: jiff::Timestamp,
    /// Where it came from: the edge's own address, or that of the NAT before it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub from: IpAddr,
    /// What it said.
    pub heartbeat: super::Heartbeat,
}

/// Registers a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewClient {
    /// Whose. An admin leaves it out: it is the admin's own.
    pub owner: Option<crate::config::OwnerCode>,
    /// For people, 1 to 100 characters.
    pub name: String,
    /// Whether the center pushes the certificate to the edges, for stock WireGuard.
    #[serde(default)]
    pub push: bool,
}

/// A registered client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientCreated {
    /// The client.
    pub client: Client,
    /// The one-time enrolment code; shown once.
    pub code: String,
    /// When the code ends, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub expires: jiff::Timestamp,
}

/// A client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Client {
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// What it may.
    pub state: ClientState,
    /// Its addresses in the tunnel.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// Whether its certificate is pushed.
    pub push: bool,
    /// Its WireGuard key, once enrolled.
    pub tunnel_key: Option<PublicKey>,
    /// Serial number of its newest tunnel certificate.
    pub serial: Option<Serial>,
    /// End of that certificate, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub not_after: Option<jiff::Timestamp>,
}

/// What a client may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ClientState {
    /// Has a code, no certificate yet.
    Invited,
    /// May connect.
    Enabled,
    /// certificateHold: may not connect until enabled again.
    Disabled,
    /// Revoked for good.
    Revoked,
}

/// What an admin orders about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ClientAction {
    /// certificateHold.
    Disable,
    /// Takes the hold back.
    Enable,
    /// For good.
    Revoke,
}

/// `POST /v1/admin/clients/<id>/disable|enable|revoke` →: the click, and the list that carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StateChanged {
    /// The state since then.
    pub state: ClientState,
    /// What was ordered.
    pub action: ClientAction,
    /// Who ordered it: an admin's login name, or `operator`.
    pub by: String,
    /// The issuer whose list changed.
    pub issuer: KeyId,
    /// The list that carries the change.
    pub crl_number: u64,
    /// When, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub changed_at: jiff::Timestamp,
}

/// `GET /v1/admin/clients/<id>` →: the client and the proof of its last change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientDetail {
    /// The client.
    pub client: Client,
    /// Its last change of state.
    pub change: Option<StateChanged>,
    /// Each edge of the owner: confirmed, or still to hear.
    pub edges: Vec<EdgeProof>,
    /// The changes before that one with their proof, the newest first, at most 20.
    pub history: Vec<ChangeProof>,
}

/// One change and what each edge did about it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChangeProof {
    /// The change.
    pub change: StateChanged,
    /// Each edge of the owner.
    pub edges: Vec<EdgeProof>,
}

/// One edge's part in the proof.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeProof {
    /// The edge.
    pub edge: Uuid,
    /// Its name.
    pub name: String,
    /// When the edge put the list in force, RFC 3339; none = not heard yet.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub applied_at: Option<jiff::Timestamp>,
    /// From the change to the arrival of the ack at the center, milliseconds, by the center's clock.
    pub confirmed_after_ms: Option<u64>,
    /// The list by which it was confirmed: that of the change, or a later one of an edge that was away.
    pub crl_number: Option<u64>,
    /// From the change to the moment after which no packet was delivered, milliseconds, by the edge's clock. None
    /// when that clock contradicts the center's: then [`Self::confirmed_after_ms`] is the bound.
    pub cut_after_ms: Option<u64>,
    /// Whether a live session of this client was cut there.
    pub cut: bool,
    /// How many sessions of this client were cut there.
    pub sessions_cut: u32,
    /// Since when the center waits for this edge, RFC 3339; none once it has confirmed.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub waiting_since: Option<jiff::Timestamp>,
    /// Last request of any kind, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub last_seen: Option<jiff::Timestamp>,
}

/// One page of log records, in the order of arrival.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogPage {
    /// The records.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub records: Vec<Record>,
    /// Pass as `after` for the next page; none = no more.
    pub next: Option<u64>,
}

/// The state of one chain of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChainReport {
    /// The edge.
    pub edge: Uuid,
    /// The stream.
    pub stream: Stream,
    /// Records stored.
    pub records: u64,
    /// The highest sequence number.
    pub last_seq: u64,
    /// Numbers that are missing and that the edge itself declared missing (`log.gap`, `log.refused`).
    #[serde(default)]
    pub declared_missing: u64,
    /// Whether each stored record follows from the one before it, from 1 on, but for declared gaps.
    pub unbroken: bool,
    /// Where it breaks: the first sequence number that does not follow.
    pub first_break: Option<u64>,
}

/// A record that was refused although its form is right: someone edits a log, or two boxes are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LogAlarm {
    /// The edge.
    pub edge: Uuid,
    /// The stream.
    pub stream: Stream,
    /// The sequence number that was claimed twice.
    pub seq: u64,
    /// What is wrong with it.
    pub detail: String,
    /// When it arrived, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub at: jiff::Timestamp,
}

/// One issuer's newest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CrlSummary {
    /// The issuer's key identifier.
    pub issuer: KeyId,
    /// `client` or `edge`: whose certificates it issues.
    pub kind: String,
    /// cRLNumber.
    pub number: u64,
    /// Listed certificates.
    pub entries: u64,
    /// RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub this_update: jiff::Timestamp,
    /// RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub next_update: jiff::Timestamp,
}

/// Registers an admin of one owner.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewAdmin {
    /// Whose.
    pub owner: crate::config::OwnerCode,
    /// Login name: 1 to 64 characters of `A-Z a-z 0-9 . _ @ -`.
    pub id: String,
    /// 12 to 128 characters. A secret: the value has no `Debug` and is wiped when dropped.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub password: zeroize::Zeroizing<String>,
    /// PKCS#10 by the admin's own key.
    pub csr: Octets,
}

/// A registered admin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AdminCreated {
    /// Login name.
    pub id: String,
    /// For TLS, DER.
    pub certificate: Octets,
}
