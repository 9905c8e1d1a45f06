//! A policy as the engine takes it: anchors read, pushed certificates verified, our own key derived.
//!
//! [`VerifiedPolicy::new`] does the expensive part (60 µs a pushed certificate) outside the data plane's
//! thread. A policy that contradicts itself is refused as a whole; a pushed certificate that is not
//! acceptable is left out and reported, since one bad client must not take the others' tunnel away.

use crate::credentials::{self, VerifiedLeaf};
use crate::identity::Identity;
use crate::neighbour::{self, Plan};
use crate::trust::{Pushed, Trust};
use crate::{introduction, record};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::cert::{CertError, Leaf};
use verona_contract::control::{MAX_ENDPOINTS, PeerEndpoint, Policy, RejectedClient};

/// A pushed certificate that leads to an anchor.
pub(crate) struct PushedClient {
    pub(crate) verified: VerifiedLeaf,
    /// As in the record: recognises a client that has not changed.
    pub(crate) digest: [u8; 16],
    /// Its place in the policy, for reports.
    pub(crate) path: String,
}

/// A policy whose certificates were verified.
pub struct VerifiedPolicy {
    pub(crate) seq: u64,
    pub(crate) listen_port: u16,
    pub(crate) identity: Identity,
    pub(crate) trust: Trust,
    pub(crate) clients: Vec<PushedClient>,
    pub(crate) neighbours: Vec<(PushedClient, Plan)>,
    /// Of our own key, for the neighbours; DER.
    pub(crate) certificate: Option<Vec<u8>>,
    /// At most [`MAX_ENDPOINTS`], oldest first.
    pub(crate) endpoints: Vec<PeerEndpoint>,
    pub(crate) rejected: Vec<RejectedClient>,
}

/// Why a policy is refused as a whole: the configuration's fault. The one before it stays in force.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No public key follows from it.
    #[error("private_key: not an X25519 private key")]
    PrivateKey,
    /// Not over our own key, or too long for an introduction.
    #[error("certificate: not a certificate of an edge over private_key that fits into an introduction")]
    Certificate,
    /// More owners than a record can name.
    #[error("owners: more than 65535")]
    TooManyOwners,
    /// One owner, twice.
    #[error("owners[{owner}].owner: occurs twice")]
    DuplicateOwner {
        /// Its place.
        owner: usize,
    },
    /// Two roots of preshared keys that are no rotation.
    #[error("owners[{owner}].psk_previous: {rule}")]
    Rotation {
        /// The owner's place.
        owner: usize,
        /// What it should be.
        rule: &'static str,
    },
    /// An anchor is not a CA certificate.
    #[error("owners[{owner}].anchors[{anchor}]: {source}")]
    Anchor {
        /// The owner's place.
        owner: usize,
        /// The anchor's place.
        anchor: usize,
        /// The rule.
        source: CertError,
    },
    /// The path builder does not take the anchor.
    #[error("owners[{owner}].anchors[{anchor}]: not usable as a trust anchor")]
    AnchorUnusable {
        /// The owner's place.
        owner: usize,
        /// The anchor's place.
        anchor: usize,
    },
    /// One name or key identifier for two CAs: the name chooses the owner, so it must be unique.
    #[error("owners[{owner}].anchors[{anchor}]: name or key identifier of another anchor")]
    AmbiguousAnchor {
        /// The owner's place.
        owner: usize,
        /// The anchor's place.
        anchor: usize,
    },
    /// An intermediate is not a CA certificate.
    #[error("owners[{owner}].intermediates[{intermediate}]: {source}")]
    Intermediate {
        /// The owner's place.
        owner: usize,
        /// The intermediate's place.
        intermediate: usize,
        /// The rule.
        source: CertError,
    },
    /// It leads to no anchor of its owner.
    #[error("owners[{owner}].intermediates[{intermediate}]: not signed by a CA of this owner before it")]
    NotIssued {
        /// The owner's place.
        owner: usize,
        /// The intermediate's place.
        intermediate: usize,
    },
    /// As for anchors.
    #[error("owners[{owner}].intermediates[{intermediate}]: name or key identifier of another CA")]
    AmbiguousIntermediate {
        /// The owner's place.
        owner: usize,
        /// The intermediate's place.
        intermediate: usize,
    },
    /// An identity or a site breaks a rule.
    #[error("owners[{owner}].{source}")]
    Member {
        /// The owner's place.
        owner: usize,
        /// Path below the owner, and the rule.
        source: verona_contract::config::ConfigError,
    },
}

impl VerifiedPolicy {
    /// Reads and verifies a policy.
    ///
    /// # Errors
    ///
    /// The first [`PolicyError`]. Pushed certificates that are not acceptable are no error:
    /// [`Self::rejected`] names them.
    pub fn new(policy: Policy) -> Result<Self, PolicyError> {
        let identity = Identity::new(&policy.private_key).ok_or(PolicyError::PrivateKey)?;
        let certificate =
            policy.certificate.map(|Octets(der)| own_certificate(&identity, der)).transpose()?;
        let (mut trust, pushed) = Trust::read(policy.owners)?;
        let mut clients = Vec::new();
        let mut rejected = Vec::new();
        let mut neighbours = Vec::new();
        for (owner, Pushed { clients: ders, sites }) in pushed.into_iter().enumerate() {
            for (index, site) in sites.into_iter().enumerate() {
                let path = format!("owners[{owner}].sites[{index}]");
                let digest = record::digest(site.certificate.as_ref(), None);
                let keepalive = Duration::from_secs(site.keepalive_s.into());
                let plan = Plan { endpoint: site.endpoint, keepalive };
                match credentials::verify_site(&mut trust, owner, &site) {
                    Ok(verified) => neighbours.push((PushedClient { verified, digest, path }, plan)),
                    Err(reason) => rejected.push(RejectedClient { path, reason }),
                }
            }
            for (index, Octets(der)) in ders.into_iter().enumerate() {
                let path = format!("owners[{owner}].clients[{index}]");
                match credentials::verify_pushed(&trust, owner, &der) {
                    Ok(verified) => {
                        clients.push(PushedClient { verified, digest: record::digest(&der, None), path });
                    }
                    Err(reason) => rejected.push(RejectedClient { path, reason }),
                }
            }
        }
        let mut endpoints = policy.endpoints;
        endpoints.drain(..endpoints.len().saturating_sub(MAX_ENDPOINTS));
        let (seq, listen_port) = (policy.seq, policy.listen_port);
        Ok(Self { seq, listen_port, identity, trust, clients, neighbours, certificate, endpoints, rejected })
    }

    /// The policy's sequence number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// UDP port, both families; 0 lets the system choose.
    #[must_use]
    pub const fn listen_port(&self) -> u16 {
        self.listen_port
    }

    /// Pushed certificates that are left out, and why.
    #[must_use]
    pub fn rejected(&self) -> &[RejectedClient] {
        &self.rejected
    }
}

fn own_certificate(identity: &Identity, der: Vec<u8>) -> Result<Vec<u8>, PolicyError> {
    let leaf = Leaf::parse(&der).map_err(|_| PolicyError::Certificate)?;
    let ours = leaf.key == *identity.public() && neighbour::is_edge(&leaf.subject);
    // Three octets of header.
    if ours && der.len() + 3 <= introduction::MAX_CERTIFICATES {
        Ok(der)
    } else {
        Err(PolicyError::Certificate)
    }
}
