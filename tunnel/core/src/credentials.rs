//! What a client shows, and which WireGuard key, name and addresses follow from it: the two forms.
//!
//! In the first the certificate is over the WireGuard key itself. In the second it is over a signing key, which
//! vouches for the WireGuard key by a binding of a day at most; name and addresses are the certificate's own
//! or, for a foreign PKI, those that the configuration lists for the signing key. Both end as one
//! [`VerifiedLeaf`], and from there on nothing tells them apart.

use crate::path::{self, Claim, Path};
use crate::trust::Trust;
use crate::{Introduction, IpNet, PublicKey, neighbour};
use verona_contract::binding::Binding;
use verona_contract::cert::{CLIENT_URN, IdentityLeaf, Leaf};
use verona_contract::config::SiteConfig;
use verona_contract::control::Refusal;
use verona_contract::key::{Fingerprint, Serial};

/// A WireGuard key with a path to an anchor of the policy. Only this module makes one.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedLeaf {
    pub(crate) key: PublicKey,
    pub(crate) subject: String,
    /// What it may send from: its addresses, or the networks behind another edge.
    pub(crate) networks: Vec<IpNet>,
    pub(crate) serial: Serial,
    pub(crate) path: Path,
    /// The signing key whose name and addresses came from the configuration.
    pub(crate) listed: Option<Fingerprint>,
}

/// Verifies what the holder of `sender` has introduced.
///
/// # Errors
///
/// The first rule that it breaks: form, key, path, binding, place in the configuration.
pub(crate) fn verify(
    trust: &Trust,
    shown: &Introduction,
    sender: &PublicKey,
) -> Result<VerifiedLeaf, Refusal> {
    let verified = match &shown.binding {
        None => {
            let leaf = Leaf::parse(&shown.leaf).map_err(|_| Refusal::CertificateMalformed)?;
            tunnel_key(trust, leaf, shown, sender)?
        }
        Some(binding) => identity(trust, shown, binding, sender)?,
    };
    if verified.key == *sender { Ok(verified) } else { Err(Refusal::KeyMismatch) }
}

/// Verifies a certificate over a WireGuard key that the center pushes.
///
/// # Errors
///
/// The rule that it breaks, as text.
pub(crate) fn verify_pushed(trust: &Trust, owner: usize, der: &[u8]) -> Result<VerifiedLeaf, String> {
    let leaf = Leaf::parse(der).map_err(|error| error.to_string())?;
    let shown = Introduction { leaf: der.to_vec(), ..Introduction::default() };
    let key = leaf.key;
    let verified = tunnel_key(trust, leaf, &shown, &key).map_err(|refusal| refusal.to_string())?;
    if usize::from(trust.cas()[verified.path.ca].owner) != owner {
        return Err("issued by a CA of another owner".to_owned());
    }
    Ok(verified)
}

/// Verifies the certificate of another edge, and gives it the networks that stand beside it.
///
/// # Errors
///
/// The rule that it breaks, as text.
pub(crate) fn verify_site(
    trust: &mut Trust,
    owner: usize,
    site: &SiteConfig,
) -> Result<VerifiedLeaf, String> {
    let der = site.certificate.as_ref();
    let leaf = Leaf::parse(der).map_err(|error| error.to_string())?;
    if !neighbour::is_edge(&leaf.subject) {
        return Err("not the certificate of an edge (urn:verona:edge:<uuid>)".to_owned());
    }
    if !trust.add_site(owner, leaf.subject, site.subnets.clone()) {
        return Err("another site has the same name".to_owned());
    }
    verify_pushed(trust, owner, der)
}

/// The first form. The key is compared before the path, since that costs nothing.
fn tunnel_key(
    trust: &Trust,
    leaf: Leaf,
    shown: &Introduction,
    sender: &PublicKey,
) -> Result<VerifiedLeaf, Refusal> {
    if leaf.key != *sender {
        return Err(Refusal::KeyMismatch);
    }
    let claim = Claim {
        issuer: &leaf.issuer,
        issuer_key_id: &leaf.issuer_key_id,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    };
    let path = path::verify(trust, &claim, &shown.leaf, shown.intermediate.as_deref())?;
    let Leaf { key, subject, addresses, serial, .. } = leaf;
    let networks = if neighbour::is_edge(&subject) {
        // An edge has the networks that the configuration gives it, and without these no place at all.
        let owner = trust.owner(trust.cas()[path.ca].owner).ok_or(Refusal::UnknownIssuer)?;
        owner.sites.get(&subject).cloned().ok_or(Refusal::Unlisted)?
    } else {
        addresses.into_iter().map(IpNet::host).collect()
    };
    Ok(VerifiedLeaf { key, subject, networks, serial, path, listed: None })
}

/// The second form. The binding's signature comes first: a path costs up to three.
fn identity(
    trust: &Trust,
    shown: &Introduction,
    binding: &[u8],
    sender: &PublicKey,
) -> Result<VerifiedLeaf, Refusal> {
    let leaf = IdentityLeaf::parse(&shown.leaf).map_err(|_| Refusal::CertificateMalformed)?;
    let binding = Binding::verify(binding, &leaf).map_err(|_| Refusal::BindingInvalid)?;
    if binding.key() != sender {
        return Err(Refusal::KeyMismatch);
    }
    let claim = Claim {
        issuer: &leaf.issuer,
        issuer_key_id: &leaf.issuer_key_id,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    };
    let mut path = path::verify(trust, &claim, &shown.leaf, shown.intermediate.as_deref())?;
    path.not_before = path.not_before.max(binding.not_before());
    path.not_after = path.not_after.min(binding.not_after());
    if path.not_after < path.not_before {
        return Err(Refusal::BindingInvalid);
    }
    let owner = trust.owner(trust.cas()[path.ca].owner).ok_or(Refusal::UnknownIssuer)?;
    let (subject, addresses, listed) = match owner.identities.get(&leaf.fingerprint) {
        Some(listing) => (listing.subject.clone(), listing.addresses.clone(), Some(leaf.fingerprint)),
        None => (leaf.subject.ok_or(Refusal::Unlisted)?, leaf.addresses, None),
    };
    if addresses.is_empty() || !subject.starts_with(CLIENT_URN) {
        return Err(Refusal::Unlisted);
    }
    let networks = addresses.into_iter().map(IpNet::host).collect();
    Ok(VerifiedLeaf { key: *binding.key(), subject, networks, serial: leaf.serial, path, listed })
}
