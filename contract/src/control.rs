//! The control socket of `edge-tunnel`: JSON lines on a Unix socket, one [`Request`] a line, one
//! [`Response`] to each in order, and [`Event`]s to a connection that subscribed.
//!
//! The socket's mode is 0600 and the peer's credentials are checked, since a [`Policy`] carries the
//! tunnel's private key. The data plane believes nothing that it can check itself: certificates and lists
//! come as DER and are verified there again, against the anchors of the policy.

mod floors;
mod offload;

pub use floors::*;
pub use offload::{OffCause, OffloadState};

use crate::base64::Octets;
use crate::config::{CrlPolicy, IdentityClient, OwnerCode, PskRoot, SiteConfig};
use crate::key::{KeyId, PublicKey, Secret, Serial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The version that [`Command::Hello`] asks for. A tunnel of another version answers with an error.
pub const VERSION: u32 = 2;

/// The longest line, in octets: a list of a million entries is 35 MB of DER, 47 MB of base64; a policy with
/// 100,000 certificates of 530 octets is 72 MB.
pub const MAX_LINE: usize = 96 * 1024 * 1024;
/// What the agent accepts from the center it can hand on.
const _: () = assert!(MAX_LINE > crate::crl::MAX_CRL.div_ceil(3) * 4 + 4096);

/// Endpoints in a policy that are looked at, from the last one backwards: as many half-open handshakes of 11 kB
/// each are what a restart with nothing but wrong hints costs for 90 s.
pub const MAX_ENDPOINTS: usize = 4096;

/// One line from the agent to the tunnel.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Chosen by the agent, repeated in the answer.
    pub id: u64,
    /// What to do.
    pub command: Command,
}

/// What the agent asks of the tunnel.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// First on each connection: agrees on [`VERSION`].
    Hello {
        /// The agent's version of this protocol.
        version: u32,
    },
    /// Replaces the whole policy at once; sessions that it does not cover are cut. From the first policy on,
    /// only certified peers exist.
    LoadPolicy(Box<Policy>),
    /// Replaces one issuer's list and cuts whom it lists.
    LoadCrl {
        /// The `CertificateList` in DER, as the issuer signed it.
        der: Octets,
    },
    /// Tells whether the wall clock may be believed. Until then lists are ordered by number only.
    SetClock {
        /// Whether the clock is synchronised.
        trusted: bool,
    },
    /// Raises the timestamp floors of keys, at most [`FLOORS_AT_ONCE`]. Before the first policy, so that nobody is
    /// answered without them.
    LoadFloors {
        /// A lower one than the tunnel has changes nothing.
        floors: Vec<Floor>,
    },
    /// Asks for [`Reply::Floors`].
    Floors {
        /// Every floor; otherwise those raised since the last such question, on whichever connection.
        all: bool,
    },
    /// Answered when every worker of the data plane has taken a whole turn since it was asked: it forwards.
    Pulse,
    /// Asks for [`Reply::Status`].
    Status,
    /// Asks for [`Reply::Peers`].
    Peers,
    /// Asks for [`Reply::Crls`].
    Crls,
    /// From here on this connection gets an [`Event`] a line between its answers.
    Subscribe,
}

/// Who may have a session, and by what keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The configuration that this came from ([`crate::config::EdgeConfig::seq`]).
    pub seq: u64,
    /// The edge's X25519 private key.
    pub private_key: Secret,
    /// The certificate of that key, DER: shown to other sites. An edge without sites needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Octets>,
    /// UDP port, both address families. 0 chooses one.
    pub listen_port: u16,
    /// The owners whose clients this edge serves.
    pub owners: Vec<OwnerPolicy>,
    /// Where pushed clients were heard from last, oldest first, at most [`MAX_ENDPOINTS`]. A hint, never an
    /// authority: a tunnel that has lost its sessions calls them there, so that a stock client need not wait
    /// WireGuard's 15 s. A wrong one costs a few datagrams; the endpoint counts once the peer has answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<PeerEndpoint>,
}

/// Where a client was heard from last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEndpoint {
    /// Its WireGuard key.
    pub key: PublicKey,
    /// The source of its last authenticated datagrams, as far as the agent knows.
    pub endpoint: SocketAddr,
}

/// One owner's trust, kept apart from every other's by the issuer DNs of its anchors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerPolicy {
    /// Names the owner in counters and events. Customers never see it.
    pub owner: OwnerCode,
    /// CA certificates, DER. One subject DN stands for one key, over all owners.
    pub anchors: Vec<Octets>,
    /// CA certificates below the anchors, DER, each after its issuer; the same rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<Octets>,
    /// What to do about old or missing lists.
    pub crl: CrlPolicy,
    /// Root of the preshared keys ([`crate::psk`]).
    pub psk_root: PskRoot,
    /// The root before it, while peers may hold keys of either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk_previous: Option<PskRoot>,
    /// Client certificates that the center pushes, DER: these clients need no introduction.
    pub clients: Vec<Octets>,
    /// Names and addresses of clients of the two-key form, by their keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<IdentityClient>,
    /// Other edges of the owner, with the networks behind them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteConfig>,
    /// Most records of introduced clients that this owner may hold at once.
    pub max_clients: u32,
}

/// One line from the tunnel to the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Line {
    /// The answer to one request.
    Response(Response),
    /// Something happened.
    Event(Event),
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// As in the request; 0 when the line could not be read so far.
    pub id: u64,
    /// The result, or one line that names the thing and the rule.
    pub result: Result<Reply, String>,
}

/// What a request was answered with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// To [`Command::Hello`].
    Hello {
        /// The tunnel's version of this protocol.
        version: u32,
        /// The tunnel's package version.
        software: String,
    },
    /// To [`Command::LoadPolicy`].
    PolicyLoaded(PolicyInstalled),
    /// To [`Command::LoadCrl`].
    CrlLoaded(CrlInstalled),
    /// To [`Command::Floors`].
    Floors(Floors),
    /// To [`Command::Status`].
    Status(Status),
    /// To [`Command::Peers`].
    Peers(Vec<PeerInfo>),
    /// To [`Command::Crls`].
    Crls(Vec<CrlInfo>),
}

/// What a policy changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInstalled {
    /// As in the policy.
    pub seq: u64,
    /// Certified peers known now: pushed ones, and introduced ones that the policy still covers.
    pub clients: usize,
    /// Sessions that ended with it.
    pub cut: Vec<Cut>,
    /// Pushed certificates that were not accepted; the rest of the policy stands.
    pub rejected: Vec<RejectedClient>,
}

/// A pushed certificate that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedClient {
    /// Where it stood, such as `owners[0].clients[3]`.
    pub path: String,
    /// The rule that it broke.
    pub reason: String,
}

/// What a list changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrlInstalled {
    /// The issuer's key identifier.
    pub issuer: KeyId,
    /// cRLNumber (RFC 5280 §5.2.3).
    pub number: u64,
    /// Entries in the list.
    pub entries: usize,
    /// When it took effect, Unix nanoseconds: no packet of a cut peer is delivered after it.
    pub applied_at_ns: i64,
    /// Sessions that ended with it.
    pub cut: Vec<Cut>,
}

/// A session that was ended by a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cut {
    /// The certificate's serial number.
    pub serial: Serial,
    /// The client's name in its certificate, `urn:verona:client:<uuid>`.
    pub subject: String,
    /// Its WireGuard key.
    pub key: PublicKey,
    /// Its addresses in the tunnel: the kernel's connections of these are to go, too. The center is not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
}

/// The state of the tunnel as a whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Interface name.
    pub interface: String,
    /// Our public key, once there is a private one.
    pub public_key: Option<PublicKey>,
    /// UDP port in use.
    pub listen_port: u16,
    /// The policy's sequence number; none = no policy yet.
    pub policy_seq: Option<u64>,
    /// Whether the wall clock is believed.
    pub clock_trusted: bool,
    /// Sessions alive.
    pub sessions: usize,
    /// Certified records known.
    pub records: usize,
    /// Counters since start.
    pub counters: Counters,
    /// What is done in batches with the kernel, by name: `tun-tso`, `udp-gso`, … Empty: a tunnel that does not
    /// tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offloads: BTreeMap<String, OffloadState>,
}

/// Counters since start, by stable names such as `unknown_key`, `mac1`, `revoked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Handshakes and introductions refused, by [`Refusal`] in snake case.
    pub refused: BTreeMap<String, u64>,
    /// Everything else, by name: `handshakes`, `introductions`, `cookies_sent`, `rx_bytes`, …
    pub totals: BTreeMap<String, u64>,
}

/// One certified peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PeerInfo {
    /// Its WireGuard key.
    pub key: PublicKey,
    /// The name in its certificate.
    pub subject: String,
    /// The owner it belongs to.
    pub owner: OwnerCode,
    /// The certificate's serial number.
    pub serial: Serial,
    /// End of the certificate's validity, Unix seconds.
    pub not_after: i64,
    /// How the certificate came.
    pub source: CertificateSource,
    /// Its addresses in the tunnel.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub addresses: Vec<IpAddr>,
    /// Where it was heard from last, once proven.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub endpoint: Option<SocketAddr>,
    /// Last completed handshake, Unix seconds.
    pub last_handshake: Option<i64>,
    /// Octets received from it inside the tunnel.
    pub rx_bytes: u64,
    /// Octets sent to it inside the tunnel.
    pub tx_bytes: u64,
    /// The largest IP packet on the way to its endpoint, octets, where that is known to be less than the
    /// interface's MTU asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
}

/// How a certificate came to the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CertificateSource {
    /// In the policy.
    Pushed,
    /// By the client itself.
    Introduced,
}

/// One issuer's list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CrlInfo {
    /// The issuer's key identifier.
    pub issuer: KeyId,
    /// cRLNumber; none = no list ever, so its clients are denied.
    pub number: Option<u64>,
    /// thisUpdate, Unix seconds.
    pub this_update: Option<i64>,
    /// nextUpdate, Unix seconds.
    pub next_update: Option<i64>,
    /// Entries.
    pub entries: usize,
    /// What the list allows now.
    pub state: CrlState,
}

/// What a list allows now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CrlState {
    /// No list ever: everyone is denied.
    Missing,
    /// Before nextUpdate.
    Fresh,
    /// Past nextUpdate, within the grace period: allow and alarm.
    Grace,
    /// Past the grace period: the owner's choice.
    Stale,
    /// The clock is not trusted, so the dates say nothing yet.
    Undated,
}

/// What happened in the data plane. Best effort: under a flood events are dropped and counted, never queued
/// without bound. What must not be lost (a cut) is in the answer to the command that caused it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// A certified peer has a proven session.
    Admitted {
        /// Its key.
        key: PublicKey,
        /// The name in its certificate.
        subject: String,
        /// Its owner.
        owner: OwnerCode,
        /// Where from.
        #[serde(rename = "from")]
        endpoint: SocketAddr,
        /// How its certificate came.
        source: CertificateSource,
    },
    /// A handshake or an introduction was refused.
    Refused {
        /// Why.
        reason: Refusal,
        /// The key that it claimed, where that was readable. A claim is no proof.
        key: Option<PublicKey>,
        /// Where from.
        #[serde(rename = "from")]
        endpoint: SocketAddr,
        /// Like refusals since the last such event that were not told one by one.
        suppressed: u64,
    },
    /// A session was ended by a policy or a list.
    Cut {
        /// Who.
        #[serde(flatten)]
        cut: Cut,
        /// Why.
        reason: CutReason,
    },
    /// A proven peer speaks from another address.
    Roamed {
        /// Its key.
        key: PublicKey,
        /// Before.
        old: SocketAddr,
        /// Now.
        new: SocketAddr,
    },
    /// A session ended by time: nothing was heard for the protocol's limit.
    Expired {
        /// Its key.
        key: PublicKey,
    },
    /// What is known of the path to a peer has changed. Packets that are too large for it are cut or refused one
    /// by one, so nothing has to be done; an interface with one peer may take the MTU as its own.
    PathMtu {
        /// The peer's key.
        key: PublicKey,
        /// The largest IP packet on the way, octets; none = as large as the interface asks for.
        path_mtu: Option<u16>,
        /// The MTU at which nothing in the tunnel is too large for this path, octets, from 1280 up.
        interface_mtu: u16,
    },
}

/// Why a session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutReason {
    /// The serial number is on the list.
    Revoked,
    /// The list is stale and the owner chose `deny-all`.
    CrlStale,
    /// The certificate's validity has ended.
    CertificateExpired,
    /// The policy no longer covers the peer.
    Policy,
}

/// Why a handshake or an introduction was refused. In the order of the checks, cheapest first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// Not a message of the protocol: type, length or reserved octets.
    #[error("not a WireGuard message")]
    Malformed,
    /// mac1 is wrong: the sender does not know our public key.
    #[error("mac1 is wrong")]
    Mac1,
    /// Under load and without a valid mac2; a cookie was sent.
    #[error("under load, cookie demanded")]
    CookieDemanded,
    /// The source is over its rate.
    #[error("source is over its rate")]
    RateLimited,
    /// No such session index.
    #[error("unknown session")]
    UnknownSession,
    /// No certificate for the static key that the initiation claims.
    #[error("no certificate for this key")]
    UnknownKey,
    /// The certificate is not valid yet.
    #[error("certificate is not yet valid")]
    NotYetValid,
    /// The certificate's validity has ended.
    #[error("certificate has expired")]
    Expired,
    /// The serial number is on the issuer's list.
    #[error("certificate is revoked")]
    Revoked,
    /// The issuer has no list at all.
    #[error("no revocation list for the issuer")]
    CrlMissing,
    /// The list is past its grace period.
    #[error("revocation list is stale")]
    CrlStale,
    /// The message does not decrypt: the sender lacks the private key that it claims, or garbage.
    #[error("handshake does not authenticate")]
    NotAuthentic,
    /// The timestamp is not newer than the last one of this key (WireGuard paper §5.1).
    #[error("handshake is a replay")]
    Replay,
    /// The certificate does not parse or breaks the profile.
    #[error("certificate is malformed")]
    CertificateMalformed,
    /// The certificate speaks of another key than the sender's.
    #[error("certificate is for another key")]
    KeyMismatch,
    /// No owner has an anchor of this name.
    #[error("issuer is unknown")]
    UnknownIssuer,
    /// The path does not verify: signature, constraints, purpose.
    #[error("certificate path does not verify")]
    PathInvalid,
    /// The binding of a WireGuard key does not hold: form, life, certificate or signature.
    #[error("binding of the WireGuard key does not hold")]
    BindingInvalid,
    /// The certificate tells no tunnel address, or is another edge's, and the configuration does not list it.
    #[error("certificate has no place in the configuration")]
    Unlisted,
    /// The key is certified for another subject or owner already.
    #[error("key belongs to another subject")]
    KeyTaken,
    /// An older certificate of a key that has a newer one.
    #[error("certificate is older than the known one")]
    Superseded,
    /// The owner's quota of records is used up by live sessions.
    #[error("quota of the owner is used up")]
    Quota,
    /// A tunnel address in the certificate belongs to another peer.
    #[error("tunnel address belongs to another peer")]
    AddressTaken,
}

impl Refusal {
    /// The name in [`Counters::refused`]: as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Mac1 => "mac1",
            Self::CookieDemanded => "cookie_demanded",
            Self::RateLimited => "rate_limited",
            Self::UnknownSession => "unknown_session",
            Self::UnknownKey => "unknown_key",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::CrlMissing => "crl_missing",
            Self::CrlStale => "crl_stale",
            Self::NotAuthentic => "not_authentic",
            Self::Replay => "replay",
            Self::CertificateMalformed => "certificate_malformed",
            Self::KeyMismatch => "key_mismatch",
            Self::UnknownIssuer => "unknown_issuer",
            Self::PathInvalid => "path_invalid",
            Self::BindingInvalid => "binding_invalid",
            Self::Unlisted => "unlisted",
            Self::KeyTaken => "key_taken",
            Self::Superseded => "superseded",
            Self::Quota => "quota",
            Self::AddressTaken => "address_taken",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_json_name_a_refusal_alike() {
        for refusal in
            [Refusal::Mac1, Refusal::UnknownKey, Refusal::NotYetValid, Refusal::CrlStale, Refusal::Quota]
        {
            assert_eq!(serde_json::to_value(refusal).unwrap(), refusal.name());
        }
    }

    #[test]
    fn requests_read_as_documented() {
        let line = r#"{"id":7,"command":{"set-clock":{"trusted":true}}}"#;
        let request: Request = serde_json::from_str(line).unwrap();
        assert!(matches!(request.command, Command::SetClock { trusted: true }));
        let line = r#"{"id":8,"command":"status"}"#;
        assert!(matches!(serde_json::from_str::<Request>(line).unwrap().command, Command::Status));
        let unknown = r#"{"id":7,"command":{"set-clock":{"trusted":true,"force":true}}}"#;
        assert!(serde_json::from_str::<Request>(unknown).unwrap_err().to_string().contains("force"));
    }
}
