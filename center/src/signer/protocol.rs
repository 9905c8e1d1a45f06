//! The signer's socket: JSON lines, one [`Request`] a line, one [`Answer`] to each in order.
//!
//! Every request says *what* is to be certified, never how: profile, dates, serial numbers and list numbers
//! are the signer's.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use uuid::Uuid;
use verona_contract::base64::Octets;
use verona_contract::config::OwnerCode;
use verona_contract::dsse::Envelope;
use verona_contract::ipnet::IpNet;
use verona_contract::key::{KeyId, Serial};

/// Longest line, in octets: the largest envelope once more in base64.
pub(crate) const MAX_LINE: u64 = 192 * 1024 * 1024;

/// What the web tier asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Makes an owner's three CAs; an owner that exists is answered with what he has.
    CreateOwner {
        /// Whose.
        owner: OwnerCode,
        /// Tunnel leaves of this owner carry addresses of this network only.
        network: IpNet,
    },
    /// Binds an edge to an owner, once and for all.
    RegisterEdge {
        /// The edge.
        edge: Uuid,
        /// Whose.
        owner: OwnerCode,
    },
    /// Certifies the tunnel key of a request. The issuer's kind decides between client and edge.
    TunnelLeaf {
        /// A client CA or an edge CA.
        issuer: KeyId,
        /// The client or edge.
        subject: Uuid,
        /// PKCS#10 with the tunnel key.
        csr: Octets,
        /// The tunnel addresses that it may use.
        addresses: Vec<IpAddr>,
    },
    /// Certifies the device key of a request, for TLS to the center.
    DeviceLeaf {
        /// A client CA, an edge CA or an admin CA.
        issuer: KeyId,
        /// The client, edge or admin.
        subject: Uuid,
        /// PKCS#10.
        csr: Octets,
    },
    /// Certifies the center's TLS key, for the host name fixed at `init`.
    ServerLeaf {
        /// PKCS#10.
        csr: Octets,
    },
    /// Makes the next list of an issuer.
    Crl {
        /// A client CA or an edge CA.
        issuer: KeyId,
        /// All that is on hold or revoked. Each was issued by this CA; what was revoked for good before is
        /// listed in any case.
        entries: Vec<CrlEntry>,
    },
    /// Signs an [`verona_contract::config::EdgeConfig`].
    Bundle {
        /// JSON.
        payload: Octets,
    },
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CrlEntry {
    /// Which certificate.
    pub(crate) serial: Serial,
    /// Why.
    pub(crate) reason: Reason,
    /// Since when, Unix seconds.
    pub(crate) since: i64,
}

/// Why a certificate is listed (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// certificateHold: may come back.
    Hold,
    /// superseded: the subject has another key now.
    Superseded,
    /// privilegeWithdrawn: revoked for good.
    Withdrawn,
}

/// The answer to one request.
pub(crate) type Answer = Result<Reply, String>;

/// What the signer did.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reply {
    /// Nothing to tell.
    Done,
    /// To [`Request::CreateOwner`].
    Owner(OwnerCas),
    /// A certificate, DER.
    Certificate(Octets),
    /// To [`Request::Crl`].
    Crl(IssuedCrl),
    /// To [`Request::Bundle`].
    Bundle(Envelope),
}

/// The CA certificates of an owner, DER.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnerCas {
    /// Issues to clients.
    pub(crate) client: Octets,
    /// Issues to edges.
    pub(crate) edge: Octets,
    /// Issues to admins.
    pub(crate) admin: Octets,
}

/// A list as it was issued.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IssuedCrl {
    /// cRLNumber.
    pub(crate) number: u64,
    /// Listed certificates: those asked for, and those that are revoked for good.
    pub(crate) entries: u64,
    /// Unix seconds.
    pub(crate) this_update: i64,
    /// Unix seconds.
    pub(crate) next_update: i64,
    /// `CertificateList`, DER.
    pub(crate) der: Octets,
}
