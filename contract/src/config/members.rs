//! Who comes besides clients of our own CA: identities of the owner's own PKI, and other sites.
//!
//! Both get their place in the tunnel from the signed configuration and nowhere else: an identity its name and
//! addresses, a site its networks.

use super::ConfigError;
use crate::base64::Octets;
use crate::cert::{CLIENT_URN, MAX_ADDRESSES, is_subject, is_tunnel_address};
use crate::ipnet::IpNet;
use crate::key::Fingerprint;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// A client of the two-key form whose certificate, made by a foreign PKI, tells no name and address of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityClient {
    /// SHA-256 of the `SubjectPublicKeyInfo` in its certificate: renewals with the same key need no change here.
    pub key: Fingerprint,
    /// `urn:verona:client:<uuid>`: its name in events and acknowledgements.
    pub subject: String,
    /// Its addresses in the tunnel, 1 to 8.
    pub addresses: Vec<IpAddr>,
}

/// Another edge of the same owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// Its tunnel certificate (X25519, `urn:verona:edge:<uuid>`), DER.
    pub certificate: Octets,
    /// Where it is called. None: it is behind NAT, and calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The networks behind it: what it may send from, and what is routed to it. Nothing else is.
    pub subnets: Vec<IpNet>,
    /// Seconds between two signs of life, 1 to 65535. 25 keeps a NAT open; more may lose it, less is traffic.
    pub keepalive_s: u16,
}

/// Checks the fields that types cannot. `own` are the edge's addresses in the tunnel.
///
/// # Errors
///
/// The first rule that is broken, with the path below the owner.
pub fn check(identities: &[IdentityClient], sites: &[SiteConfig], own: &[IpNet]) -> Result<(), ConfigError> {
    for (index, identity) in identities.iter().enumerate() {
        if let Some(rule) = broken_identity(identity, &identities[..index]) {
            return Err(ConfigError {
                path: format!("identities[{index}].{}", rule.0),
                rule: rule.1.to_owned(),
            });
        }
    }
    for (index, site) in sites.iter().enumerate() {
        if let Some(rule) = broken_site(site, &sites[..index], own) {
            return Err(ConfigError { path: format!("sites[{index}].{}", rule.0), rule: rule.1.to_owned() });
        }
    }
    Ok(())
}

type Broken = (&'static str, &'static str);

fn broken_identity(identity: &IdentityClient, before: &[IdentityClient]) -> Option<Broken> {
    let IdentityClient { key, subject, addresses } = identity;
    if before.iter().any(|other| other.key == *key) {
        return Some(("key", "each key once"));
    }
    if !subject.starts_with(CLIENT_URN) || !is_subject(subject) {
        return Some(("subject", "urn:verona:client:<uuid>"));
    }
    let sound = (1..=MAX_ADDRESSES).contains(&addresses.len())
        && addresses.iter().all(|address| is_tunnel_address(*address));
    (!sound).then_some(("addresses", "1 to 8 unicast addresses"))
}

fn broken_site(site: &SiteConfig, before: &[SiteConfig], own: &[IpNet]) -> Option<Broken> {
    if site.keepalive_s == 0 {
        return Some(("keepalive_s", "1 to 65535"));
    }
    if site.subnets.is_empty() {
        return Some(("subnets", "at least one network"));
    }
    let taken = |net: &IpNet| {
        before.iter().flat_map(|other| &other.subnets).any(|other| other.network() == net.network())
    };
    if site.subnets.iter().any(taken) {
        return Some(("subnets", "each network behind one site only"));
    }
    // A default route would take the box's own way to the center into the tunnel.
    let unsafe_net = |net: &IpNet| net.prefix() == 0 || own.iter().any(|own| net.contains(own.address()));
    site.subnets
        .iter()
        .any(unsafe_net)
        .then_some(("subnets", "neither everything nor our own tunnel address"))
}
