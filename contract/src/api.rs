//! The center's HTTP API: paths and bodies. JSON but for certificates, lists, envelopes and OTLP.
//!
//! Who may call is decided by the TLS client certificate: an edge's operational certificate, a client's
//! device certificate, an admin's or an operator's. Only enrolment goes without one. Failures are
//! [`crate::problem::Problem`]s.

use crate::base64::Octets;
use crate::config::ConfigError;
use crate::control::Cut;
use crate::ipnet::IpNet;
use crate::key::{KeyId, PublicKey, Secret, Serial};
use crate::log::{Record, Stream};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use uuid::Uuid;

/// `POST` PKCS#10 (base64) → certs-only PKCS#7 (RFC 7030 §4.2.1). HTTP Basic `serial:token`, or a TLS
/// certificate over the registered device key.
pub const EST_ENROLL: &str = "/.well-known/est/simpleenroll";
/// The same with the operational certificate, to renew it (RFC 7030 §4.2.2).
pub const EST_REENROLL: &str = "/.well-known/est/simplereenroll";
/// `GET` → the edge CA of the caller's owner, certs-only PKCS#7 (RFC 7030 §4.1).
pub const EST_CACERTS: &str = "/.well-known/est/cacerts";
/// `POST` [`ChallengeRequest`] → [`Challenge`]: the first half of the proof of possession.
pub const POP_CHALLENGE: &str = "/v1/pop/challenge";
/// `POST` [`TunnelKeyRequest`] → [`TunnelCertificate`]: an edge certifies its tunnel key.
pub const EDGE_TUNNEL_KEY: &str = "/v1/edge/tunnel-key";
/// `GET` → DSSE envelope of [`crate::config::EdgeConfig`]. ETag = `"seq"`; `Prefer: wait=55` with
/// `If-None-Match` waits for the next one and answers 304 when there is none.
pub const EDGE_CONFIG: &str = "/v1/edge/config";
/// `GET /v1/crl/<issuer key id>` → the list, DER. ETag = `"cRLNumber"`, long-poll as for the configuration.
pub const CRL: &str = "/v1/crl/";
/// `POST` [`Ack`] → 204.
pub const ACKS: &str = "/v1/acks";
/// `POST` OTLP/HTTP, protobuf or JSON, gzip allowed → 200 with an empty response message.
pub const LOGS: &str = "/v1/logs";
/// `POST` [`EnrollRequest`] → [`Enrolled`]: a client enrols with its code.
pub const CLIENT_ENROLL: &str = "/v1/client/enroll";
/// `POST` [`RenewRequest`] → [`Enrolled`], with the device certificate.
pub const CLIENT_RENEW: &str = "/v1/client/renew";
/// `GET` → [`ClientProfile`], with the device certificate.
pub const CLIENT_PROFILE: &str = "/v1/client/profile";

/// Longest wait of a long-poll that the center grants, in seconds.
pub const MAX_WAIT_S: u64 = 55;

/// Asks for a one-use ephemeral key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ChallengeRequest {}

/// A one-use ephemeral key; serves for one attempt, within its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Challenge {
    /// Names it in the answer.
    pub id: Uuid,
    /// The center's ephemeral X25519 key.
    pub public_key: PublicKey,
    /// Seconds until it is forgotten.
    pub expires_in_s: u64,
}

/// The answer to a challenge, over one TLS connection ([`crate::pop`]).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proof {
    /// [`Challenge::id`].
    pub challenge: Uuid,
    /// 32 octets.
    pub proof: Octets,
}

/// An edge asks for the certificate of its tunnel key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelKeyRequest {
    /// PKCS#10 by the device key, with the tunnel key as requested extension ([`crate::csr`]).
    pub csr: Octets,
    /// That the edge holds the tunnel key.
    pub proof: Proof,
}

/// A certified tunnel key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TunnelCertificate {
    /// The leaf, DER.
    pub certificate: Octets,
    /// Its issuer, DER.
    pub issuer: Octets,
}

/// A client enrols.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EnrollRequest {
    /// The secret of the enrolment code, 16 octets ([`crate::enrolment`]).
    pub secret: Octets,
    /// PKCS#10 by the device key, with the tunnel key as requested extension.
    pub csr: Octets,
    /// That the client holds the tunnel key.
    pub proof: Proof,
}

/// A client renews its certificates, with the same or a new tunnel key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RenewRequest {
    /// PKCS#10 by the device key, with the tunnel key as requested extension.
    pub csr: Octets,
    /// That the client holds the tunnel key.
    pub proof: Proof,
}

/// What a client gets at enrolment and renewal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enrolled {
    /// The client's id, also in its certificates.
    pub client: Uuid,
    /// The tunnel leaf, DER: X25519.
    pub tunnel_certificate: Octets,
    /// The device leaf, DER: P-256, for TLS to the center.
    pub device_certificate: Octets,
    /// The issuer of both, DER.
    pub issuer: Octets,
    /// Where to connect and how.
    pub profile: ClientProfile,
}

/// Where a client connects and how. Changes without a new enrolment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientProfile {
    /// The client's own addresses in the tunnel, with the prefix of the network.
    pub addresses: Vec<IpNet>,
    /// The edges that it may use, the preferred one first.
    pub edges: Vec<EdgeProfile>,
    /// DNS servers inside the tunnel.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub dns: Vec<IpAddr>,
    /// Of the tunnel interface.
    pub mtu: u16,
    /// Seconds between keepalives; 25 keeps a NAT binding alive.
    pub keepalive_s: u16,
    /// Whether the center pushes the certificate to the edges, so that no introduction is needed.
    pub pushed: bool,
}

/// One edge as a client sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EdgeProfile {
    /// The edge's id.
    pub edge: Uuid,
    /// Its name, for a person.
    pub name: String,
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// The client's preshared key with it.
    pub preshared_key: Secret,
    /// `host:port`, the first reachable one counts.
    pub endpoints: Vec<String>,
    /// Networks behind it.
    pub routes: Vec<IpNet>,
}

/// What an edge reports after it acted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Ack {
    /// A list took effect.
    Crl(CrlAck),
    /// A configuration took effect, or did not.
    Config(ConfigAck),
}

/// A list took effect: no packet of a cut client was delivered after `applied_at_ns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CrlAck {
    /// The issuer's key identifier.
    pub issuer: KeyId,
    /// cRLNumber.
    pub crl_number: u64,
    /// The edge's clock, Unix nanoseconds.
    pub applied_at_ns: i64,
    /// The sessions that ended with it.
    pub cut: Vec<Cut>,
}

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ConfigAck {
    /// The configuration.
    pub seq: u64,
    /// In force, or not.
    pub state: ConfigState,
    /// What the edge could not do, and what it does instead.
    pub rejected: Vec<Rejected>,
    /// The edge's clock, Unix nanoseconds.
    pub applied_at_ns: i64,
}

/// The state of a configuration at an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConfigState {
    /// In force and read back.
    Confirmed,
    /// Refused; the one before stays in force.
    Refused,
}

/// One part of a configuration that is not as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rejected {
    /// Such as `tunnel.owners[0].clients[3]`.
    pub path: String,
    /// Why.
    pub reason: String,
    /// What is in force in its place.
    pub used_instead: Option<String>,
}

impl From<ConfigError> for Rejected {
    fn from(error: ConfigError) -> Self {
        Self { path: error.path, reason: error.rule, used_instead: None }
    }
}

// ---- administration: /v1/admin/… ----

/// `GET`, `POST` [`NewOwner`] → [`Owner`]. Operators only.
pub const ADMIN_OWNERS: &str = "/v1/admin/owners";
/// `GET` → [`Edge`]s, `POST` [`NewEdge`] → [`EdgeCreated`] (operators only).
pub const ADMIN_EDGES: &str = "/v1/admin/edges";
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
    /// Last request of any kind, RFC 3339.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub last_seen: Option<jiff::Timestamp>,
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

/// `POST /v1/admin/clients/<id>/disable|enable|revoke` →: the click, and the list that carries it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StateChanged {
    /// The new state.
    pub state: ClientState,
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
    /// Whether a live session of this client was cut there.
    pub cut: bool,
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
    /// Whether each stored record follows from the one before it, from 1 on.
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
