//! The center's HTTP API: paths and bodies. JSON but for certificates, lists, envelopes and OTLP.
//!
//! Who may call is decided by the TLS client certificate: an edge's operational certificate, a client's
//! device certificate, an admin's or an operator's. Only enrolment goes without one. Failures are
//! [`crate::problem::Problem`]s.

mod admin;
mod firmware;
mod groups;
mod heartbeat;

pub use admin::*;
pub use firmware::*;
pub use groups::*;
pub use heartbeat::*;

use crate::base64::Octets;
use crate::config::{ConfigError, Version};
use crate::control::Cut;
use crate::ipnet::IpNet;
use crate::key::{KeyId, PublicKey, Secret};
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
/// `GET <this>metadata/NAME`, `GET <this>targets/NAME` → the files of the firmware repository (TUF), with range
/// requests of at most [`FIRMWARE_PIECE`]. Anyone may read them.
pub const FIRMWARE: &str = "/v1/firmware/";
/// Most octets of the firmware repository that one answer has.
pub const FIRMWARE_PIECE: u64 = 1 << 20;
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
    /// A firmware update came a step further, or ended.
    Update(UpdateAck),
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

/// Longest [`UpdateAck::reason`], in octets: an error with its causes.
pub const MAX_UPDATE_REASON: usize = 4096;

/// What became of a firmware update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateAck {
    /// The version that was to be installed.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub version: Version,
    /// How far it came.
    pub state: UpdateState,
    /// Why it came no further, at most [`MAX_UPDATE_REASON`] octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version that runs now.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub running: Version,
    /// The edge's clock, Unix nanoseconds.
    pub at_ns: i64,
}

/// How far a firmware update came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum UpdateState {
    /// On the disk and checked; it runs after the next restart.
    Installed,
    /// It runs and has proven itself.
    Confirmed,
    /// It did not prove itself: the version before runs again, and this one is not tried again.
    WentBack,
    /// It was not installed.
    Refused,
}

impl UpdateState {
    /// The text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Confirmed => "confirmed",
            Self::WentBack => "went-back",
            Self::Refused => "refused",
        }
    }
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
    /// It was carried out and what worked before did not, or a technician took it back; the one before is in
    /// force again. The edge does not try it again: a later one it will.
    Reverted,
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
