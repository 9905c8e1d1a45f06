//! A policy as the engine takes it: anchors read, pushed certificates verified, our own key derived.
//!
//! [`VerifiedPolicy::new`] does the expensive part (60 µs a pushed certificate) outside the data plane's
//! thread. A policy that contradicts itself is refused as a whole; a pushed certificate that is not
//! acceptable is left out and reported, since one bad client must not take the others' tunnel away.

use crate::Introduction;
use crate::identity::Identity;
use crate::path::{self, VerifiedLeaf};
use crate::record;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::collections::HashMap;
use std::sync::Arc;
use verona_contract::base64::Octets;
use verona_contract::cert::{CertError, Issuer, Leaf};
use verona_contract::config::{CrlPolicy, OwnerCode, PskRoot};
use verona_contract::control::{MAX_ENDPOINTS, OwnerPolicy, PeerEndpoint, Policy, RejectedClient};
use verona_contract::key::KeyId;

/// An owner's place in the policy.
pub(crate) type OwnerIndex = u16;

/// A CA certificate of one owner.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) owner: OwnerIndex,
    pub(crate) issuer: Issuer,
    /// The issuer's key identifier, shared with the records.
    pub(crate) key_id: Arc<KeyId>,
    pub(crate) trust: TrustAnchor<'static>,
}

/// What an owner decided, apart from its certificates.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) code: OwnerCode,
    pub(crate) crl: CrlPolicy,
    pub(crate) psk_root: PskRoot,
    pub(crate) max_clients: usize,
}

/// Owners and their anchors. One subject DN and one key identifier stand for one anchor.
#[derive(Debug)]
pub(crate) struct Trust {
    owners: Vec<Owner>,
    anchors: Vec<Anchor>,
    by_name: HashMap<Vec<u8>, usize>,
}

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
    /// More owners than a record can name.
    #[error("owners: more than 65535")]
    TooManyOwners,
    /// One owner, twice.
    #[error("owners[{owner}].owner: occurs twice")]
    DuplicateOwner {
        /// Its place.
        owner: usize,
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
        let mut pushed = Vec::with_capacity(policy.owners.len());
        let trust = Trust::read(policy.owners, &mut pushed)?;
        let mut clients = Vec::new();
        let mut rejected = Vec::new();
        for (owner, ders) in pushed.into_iter().enumerate() {
            for (index, Octets(der)) in ders.into_iter().enumerate() {
                let path = format!("owners[{owner}].clients[{index}]");
                match trust.verify_pushed(owner, &der) {
                    Ok(verified) => {
                        clients.push(PushedClient { verified, digest: record::digest(&der), path });
                    }
                    Err(reason) => rejected.push(RejectedClient { path, reason }),
                }
            }
        }
        let mut endpoints = policy.endpoints;
        endpoints.drain(..endpoints.len().saturating_sub(MAX_ENDPOINTS));
        let (seq, listen_port) = (policy.seq, policy.listen_port);
        Ok(Self { seq, listen_port, identity, trust, clients, endpoints, rejected })
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

impl Trust {
    fn read(owners: Vec<OwnerPolicy>, pushed: &mut Vec<Vec<Octets>>) -> Result<Self, PolicyError> {
        let mut trust = Self { owners: Vec::new(), anchors: Vec::new(), by_name: HashMap::new() };
        for (place, owner) in owners.into_iter().enumerate() {
            let index = OwnerIndex::try_from(place).map_err(|_| PolicyError::TooManyOwners)?;
            if trust.owners.iter().any(|known| known.code == owner.owner) {
                return Err(PolicyError::DuplicateOwner { owner: place });
            }
            for (number, Octets(der)) in owner.anchors.iter().enumerate() {
                trust.add_anchor(index, number, der)?;
            }
            let max_clients = owner.max_clients as usize;
            trust.owners.push(Owner {
                code: owner.owner,
                crl: owner.crl,
                psk_root: owner.psk_root,
                max_clients,
            });
            pushed.push(owner.clients);
        }
        Ok(trust)
    }

    fn add_anchor(&mut self, owner: OwnerIndex, number: usize, der: &[u8]) -> Result<(), PolicyError> {
        let place = usize::from(owner);
        let issuer = Issuer::parse(der).map_err(|source| PolicyError::Anchor {
            owner: place,
            anchor: number,
            source,
        })?;
        let certificate = CertificateDer::from(der);
        let trust = webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|_| PolicyError::AnchorUnusable { owner: place, anchor: number })?
            .to_owned();
        let key_id = Arc::new(issuer.key_id.clone());
        let taken = self.anchors.iter().any(|known| known.key_id == key_id);
        if taken || self.by_name.insert(issuer.subject.clone(), self.anchors.len()).is_some() {
            return Err(PolicyError::AmbiguousAnchor { owner: place, anchor: number });
        }
        self.anchors.push(Anchor { owner, issuer, key_id, trust });
        Ok(())
    }

    fn verify_pushed(&self, owner: usize, der: &[u8]) -> Result<VerifiedLeaf, String> {
        let leaf = Leaf::parse(der).map_err(|error| error.to_string())?;
        let certificates = Introduction { leaf: der.to_vec(), intermediate: None };
        let verified = path::verify(self, leaf, &certificates).map_err(|refusal| refusal.to_string())?;
        if usize::from(self.anchors[verified.anchor].owner) != owner {
            return Err("issued by a CA of another owner".to_owned());
        }
        Ok(verified)
    }

    pub(crate) fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The anchor with this subject DN.
    pub(crate) fn anchor_named(&self, subject: &[u8]) -> Option<usize> {
        self.by_name.get(subject).copied()
    }

    pub(crate) fn owner(&self, index: OwnerIndex) -> Option<&Owner> {
        self.owners.get(usize::from(index))
    }

    pub(crate) fn owner_coded(&self, code: &OwnerCode) -> Option<(OwnerIndex, &Owner)> {
        let place = self.owners.iter().position(|owner| owner.code == *code)?;
        Some((OwnerIndex::try_from(place).ok()?, &self.owners[place]))
    }
}
