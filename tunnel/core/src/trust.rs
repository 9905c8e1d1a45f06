//! Whom the policy trusts: owners, their anchors and the CAs below them, and whom they list by name.
//!
//! One subject DN and one key identifier stand for one CA over all owners: the DN in a leaf chooses the owner,
//! and a list's key identifier the certificates that it decides about. Nothing is verified here but that each
//! CA below an anchor was signed by the one above it; the paths of clients are `path`'s.

use crate::IpNet;
use crate::policy::PolicyError;
use crate::psk::Roots;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use verona_contract::base64::Octets;
use verona_contract::cert::Issuer;
use verona_contract::config::{CrlPolicy, IdentityClient, OwnerCode, SiteConfig, check_members};
use verona_contract::control::OwnerPolicy;
use verona_contract::key::{Fingerprint, KeyId};
use verona_contract::psk::check_rotation;

/// An owner's place in the policy.
pub(crate) type OwnerIndex = u16;

/// A CA of the policy.
#[derive(Debug)]
pub(crate) struct Ca {
    pub(crate) owner: OwnerIndex,
    pub(crate) issuer: Issuer,
    /// The issuer's key identifier, shared with the records.
    pub(crate) key_id: Arc<KeyId>,
    pub(crate) place: Place,
}

/// Where a CA stands.
#[derive(Debug)]
pub(crate) enum Place {
    /// Trusted for itself.
    Anchor(TrustAnchor<'static>),
    /// Signed by this CA of [`Trust::cas`], which comes before it.
    Below(usize),
}

/// What an owner decided, apart from its certificates.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) code: OwnerCode,
    pub(crate) crl: CrlPolicy,
    pub(crate) psk: Roots,
    pub(crate) max_clients: usize,
    /// Names and addresses of keys whose certificates tell none.
    pub(crate) identities: HashMap<Fingerprint, Listing>,
    /// The networks behind other edges, by the names in their certificates.
    pub(crate) sites: HashMap<String, Vec<IpNet>>,
}

/// What the configuration says of an identity key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) subject: String,
    pub(crate) addresses: Vec<IpAddr>,
}

/// What an owner pushes: certificates of clients, and of other edges.
pub(crate) struct Pushed {
    pub(crate) clients: Vec<Octets>,
    pub(crate) sites: Vec<SiteConfig>,
}

/// Owners and their CAs.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    owners: Vec<Owner>,
    cas: Vec<Ca>,
    by_name: HashMap<Vec<u8>, usize>,
}

impl Trust {
    /// Reads the owners; gives what each of them pushes, in the same order.
    pub(crate) fn read(owners: Vec<OwnerPolicy>) -> Result<(Self, Vec<Pushed>), PolicyError> {
        let mut trust = Self::default();
        let mut pushed = Vec::with_capacity(owners.len());
        for (place, owner) in owners.into_iter().enumerate() {
            let index = OwnerIndex::try_from(place).map_err(|_| PolicyError::TooManyOwners)?;
            if trust.owners.iter().any(|known| known.code == owner.owner) {
                return Err(PolicyError::DuplicateOwner { owner: place });
            }
            for (number, Octets(der)) in owner.anchors.iter().enumerate() {
                trust.add_anchor(index, der).map_err(|rule| rule.of_anchor(place, number))?;
            }
            for (number, Octets(der)) in owner.intermediates.iter().enumerate() {
                trust.add_intermediate(index, der).map_err(|rule| rule.of_intermediate(place, number))?;
            }
            check_rotation(&owner.psk_root, owner.psk_previous.as_ref())
                .map_err(|rule| PolicyError::Rotation { owner: place, rule })?;
            let members = check_members(&owner.identities, &owner.sites, &[]);
            members.map_err(|source| PolicyError::Member { owner: place, source })?;
            let listing = |identity: IdentityClient| {
                (identity.key, Listing { subject: identity.subject, addresses: identity.addresses })
            };
            trust.owners.push(Owner {
                code: owner.owner,
                crl: owner.crl,
                psk: Roots { current: owner.psk_root, previous: owner.psk_previous },
                max_clients: owner.max_clients as usize,
                identities: owner.identities.into_iter().map(listing).collect(),
                sites: HashMap::new(),
            });
            pushed.push(Pushed { clients: owner.clients, sites: owner.sites });
        }
        Ok((trust, pushed))
    }

    fn add_anchor(&mut self, owner: OwnerIndex, der: &[u8]) -> Result<(), CaError> {
        let issuer = Issuer::parse(der)?;
        let certificate = CertificateDer::from(der);
        let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|_| CaError::Unusable)?;
        self.add(owner, issuer, Place::Anchor(anchor.to_owned()))
    }

    fn add_intermediate(&mut self, owner: OwnerIndex, der: &[u8]) -> Result<(), CaError> {
        let issuer = Issuer::parse(der)?;
        let above = self.named(&issuer.issuer).ok_or(CaError::NotIssued)?;
        // At each introduction webpki verifies the signature again; here it keeps a mistake from being loaded.
        let holds = self.cas[above].owner == owner && issuer.is_issued_by(&self.cas[above].issuer);
        if !holds {
            return Err(CaError::NotIssued);
        }
        self.add(owner, issuer, Place::Below(above))
    }

    fn add(&mut self, owner: OwnerIndex, issuer: Issuer, place: Place) -> Result<(), CaError> {
        let key_id = Arc::new(issuer.key_id.clone());
        let taken = self.cas.iter().any(|known| known.key_id == key_id);
        if taken || self.by_name.contains_key(&issuer.subject) {
            return Err(CaError::Ambiguous);
        }
        self.by_name.insert(issuer.subject.clone(), self.cas.len());
        self.cas.push(Ca { owner, issuer, key_id, place });
        Ok(())
    }

    /// Every CA, each after the one above it.
    pub(crate) fn cas(&self) -> &[Ca] {
        &self.cas
    }

    /// The CA with this subject DN.
    pub(crate) fn named(&self, subject: &[u8]) -> Option<usize> {
        self.by_name.get(subject).copied()
    }

    /// The CA itself and those above it, up to the anchor.
    pub(crate) fn upwards(&self, from: usize) -> impl Iterator<Item = &Ca> {
        std::iter::successors(self.cas.get(from), |ca| match ca.place {
            Place::Anchor(_) => None,
            Place::Below(above) => self.cas.get(above),
        })
    }

    pub(crate) fn owner(&self, index: OwnerIndex) -> Option<&Owner> {
        self.owners.get(usize::from(index))
    }

    /// Gives the edge called `subject` its networks; false when another certificate has the name already.
    pub(crate) fn add_site(&mut self, owner: usize, subject: String, subnets: Vec<IpNet>) -> bool {
        let Some(owner) = self.owners.get_mut(owner) else { return false };
        let first = !owner.sites.contains_key(&subject);
        owner.sites.entry(subject).or_insert(subnets);
        first
    }

    pub(crate) fn owner_coded(&self, code: &OwnerCode) -> Option<(OwnerIndex, &Owner)> {
        let place = self.owners.iter().position(|owner| owner.code == *code)?;
        Some((OwnerIndex::try_from(place).ok()?, &self.owners[place]))
    }
}

/// Why a CA is not taken; where it stood is added above.
enum CaError {
    Profile(verona_contract::cert::CertError),
    Unusable,
    Ambiguous,
    NotIssued,
}

impl From<verona_contract::cert::CertError> for CaError {
    fn from(error: verona_contract::cert::CertError) -> Self {
        Self::Profile(error)
    }
}

impl CaError {
    fn of_anchor(self, owner: usize, anchor: usize) -> PolicyError {
        match self {
            Self::Profile(source) => PolicyError::Anchor { owner, anchor, source },
            Self::Unusable | Self::NotIssued => PolicyError::AnchorUnusable { owner, anchor },
            Self::Ambiguous => PolicyError::AmbiguousAnchor { owner, anchor },
        }
    }

    fn of_intermediate(self, owner: usize, intermediate: usize) -> PolicyError {
        match self {
            Self::Profile(source) => PolicyError::Intermediate { owner, intermediate, source },
            Self::Unusable | Self::NotIssued => PolicyError::NotIssued { owner, intermediate },
            Self::Ambiguous => PolicyError::AmbiguousIntermediate { owner, intermediate },
        }
    }
}
