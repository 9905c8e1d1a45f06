//! The configuration of an edge: a signed snapshot. What is left out is removed.
//!
//! The center's web tier composes it, a signer that the web tier cannot reach into signs it
//! ([`crate::dsse`]), the agent verifies it, stores it and carries it out. Unknown fields are an error that
//! names the path: a box must not believe that it did what it did not understand.

mod logs;
mod members;
pub mod network;
mod update;

pub use logs::{LogsConfig, SyslogConfig};
pub use members::{IdentityClient, SiteConfig, check as check_members};
pub use network::NetworkConfig;
pub use update::{Day, TimeOfDay, UpdateConfig, Window};

use crate::base64::Octets;
use crate::groups::{self, Group};
use crate::ipnet::IpNet;
use crate::key::Secret;
use crate::one_line::one_line;
use crate::psk;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The DSSE payload type of an [`EdgeConfig`].
pub const PAYLOAD_TYPE: &str = "application/vnd.verona.edge-config.v1+json";

/// Largest envelope accepted, in octets: 100,000 pushed clients are about 70 MB of JSON in base64.
pub const MAX_ENVELOPE: usize = 128 * 1024 * 1024;

/// One edge's whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeConfig {
    /// The edge that it is for. Another edge refuses it.
    pub edge_id: Uuid,
    /// Grows with every configuration of this edge; a lower one is refused, the same one must be the same.
    pub seq: u64,
    /// When it was composed, RFC 3339 in UTC. Also a floor for the box's clock.
    pub issued_at: jiff::Timestamp,
    /// The least agent version that understands it, such as `0.1.0`.
    pub minimum_agent: Version,
    /// Uplinks, local networks, routes; left out, the box's interfaces are left to others.
    #[serde(default, skip_serializing_if = "NetworkConfig::is_empty")]
    pub network: NetworkConfig,
    /// Seconds on trial, 5 to 86,400: what worked before must work again within them, or the configuration before
    /// comes back. Too few revert a sound change on a slow line, many leave a site cut off for that long.
    #[serde(default = "default_confirm_s", skip_serializing_if = "is_default_confirm_s")]
    pub confirm_s: u32,
    /// That it may remove most of what is there; otherwise an edge takes it for an accident and refuses it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_shrink: bool,
    /// The data plane.
    pub tunnel: TunnelConfig,
    /// Where records go besides the center.
    #[serde(default, skip_serializing_if = "LogsConfig::is_empty")]
    pub logs: LogsConfig,
    /// The firmware that the box should run; none = the one that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateConfig>,
}

impl EdgeConfig {
    /// Reads the payload of a verified envelope.
    ///
    /// # Errors
    ///
    /// One line that names the path of the field and the rule that it breaks.
    pub fn parse(payload: &[u8]) -> Result<Self, ConfigError> {
        let mut json = serde_json::Deserializer::from_slice(payload);
        let config: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| ConfigError { path: one_line(error.path()), rule: one_line(error.inner()) })?;
        json.end().map_err(|error| ConfigError { path: ".".into(), rule: one_line(error) })?;
        if !(5..=86_400).contains(&config.confirm_s) {
            return Err(ConfigError { path: "confirm_s".into(), rule: "5 to 86400".into() });
        }
        config.tunnel.check()?;
        config.network.check()?;
        config.logs.check()?;
        config.update.as_ref().map_or(Ok(()), UpdateConfig::check)?;
        Ok(config)
    }
}

/// Seconds on trial when the configuration does not say: a DHCP lease, a reboot of the provider's box and the
/// agent's back-off all fit into them.
pub const DEFAULT_CONFIRM_S: u32 = 600;

const fn default_confirm_s() -> u32 {
    DEFAULT_CONFIRM_S
}

// Left out, so that what was signed before the field existed still says the same.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_default_confirm_s(seconds: &u32) -> bool {
    *seconds == DEFAULT_CONFIRM_S
}

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {rule}")]
pub struct ConfigError {
    /// Such as `tunnel.owners[0].crl.grace_s`.
    pub path: String,
    /// What it should be.
    pub rule: String,
}

/// The data plane's part of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelConfig {
    /// The edge's own addresses in the tunnel, with the prefix of the clients' network.
    pub addresses: Vec<IpNet>,
    /// UDP port, 1 to 65535, both address families.
    pub listen_port: u16,
    /// Of the tunnel interface, 1280 to 9000. 1420 fits an outer IPv6 path of 1500.
    pub mtu: u16,
    /// Networks behind the tunnel besides `addresses`, routed into it.
    pub routes: Vec<IpNet>,
    /// Whose clients may come.
    pub owners: Vec<OwnerConfig>,
}

impl TunnelConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |path: &str, rule: &str| {
            Err(ConfigError { path: format!("tunnel.{path}"), rule: rule.to_owned() })
        };
        if self.addresses.is_empty() {
            return fail("addresses", "at least one address");
        }
        if self.listen_port == 0 {
            return fail("listen_port", "1 to 65535");
        }
        if !(1280..=9000).contains(&self.mtu) {
            return fail("mtu", "1280 to 9000");
        }
        for (index, owner) in self.owners.iter().enumerate() {
            if owner.anchors.is_empty() {
                return fail(&format!("owners[{index}].anchors"), "at least one CA certificate");
            }
            if self.owners[..index].iter().any(|other| other.owner == owner.owner) {
                return fail(&format!("owners[{index}].owner"), "each owner once");
            }
            psk::check_rotation(&owner.psk_root, owner.psk_previous.as_ref())
                .or_else(|rule| fail(&format!("owners[{index}].psk_previous"), rule))?;
            members::check(&owner.identities, &owner.sites, &self.addresses).map_err(|error| {
                ConfigError { path: format!("tunnel.owners[{index}].{}", error.path), ..error }
            })?;
            groups::check(&owner.groups, &format!("tunnel.owners[{index}]"))?;
        }
        Ok(())
    }
}

/// One owner's trust at this edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerConfig {
    /// Keeps owners apart. Customers never see it.
    pub owner: OwnerCode,
    /// CA certificates, DER.
    pub anchors: Vec<Octets>,
    /// CA certificates below the anchors, DER, each after its issuer: their clients need not send them along.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub intermediates: Vec<Octets>,
    /// What to do about old or missing lists.
    pub crl: CrlPolicy,
    /// Root of the preshared keys.
    pub psk_root: PskRoot,
    /// The root before it, of a lower id, while a rotation's overlap lasts: peers may hold keys of either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psk_previous: Option<PskRoot>,
    /// Client certificates, DER, of clients that cannot introduce themselves (stock WireGuard).
    pub clients: Vec<Octets>,
    /// Clients of the two-key form whose certificates tell no tunnel address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<IdentityClient>,
    /// Other edges of the owner.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<SiteConfig>,
    /// Most records of introduced clients, 1 to 1,000,000.
    pub max_clients: u32,
    /// Who may reach what. Without groups everyone goes wherever the edge routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
}

/// What an owner wants done about old or missing lists (the table is in `tunnel/core`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CrlPolicy {
    /// Seconds after nextUpdate in which clients that are not listed are still allowed, with an alarm.
    /// 0 cuts the customer off at the center's first hiccup; years make revocation a wish.
    pub grace_s: u64,
    /// What happens after that.
    pub stale: StalePolicy,
}

impl Default for CrlPolicy {
    fn default() -> Self {
        Self { grace_s: 7 * 24 * 3600, stale: StalePolicy::DenyNew }
    }
}

/// What happens to clients that are not listed when the list is past its grace period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StalePolicy {
    /// Sessions go on and rekey; who has none gets none.
    DenyNew,
    /// Sessions end, too.
    DenyAll,
    /// As if the list were fresh.
    Allow,
}

/// Root of an owner's preshared keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PskRoot {
    /// Grows with each rotation.
    pub id: u32,
    /// The root itself.
    pub secret: Secret,
}

/// Names an owner among the vendor's parts: 1 to 32 characters of `a-z`, `0-9` and `-`. Never shown to
/// customers, never in a certificate.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
pub struct OwnerCode(String);

/// Text that is not an owner code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an owner code is 1 to 32 characters of a-z, 0-9 and -")]
pub struct OwnerCodeError;

impl OwnerCode {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OwnerCode {
    type Err = OwnerCodeError;

    fn from_str(text: &str) -> Result<Self, OwnerCodeError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for OwnerCode {
    type Error = OwnerCodeError;

    fn try_from(text: String) -> Result<Self, OwnerCodeError> {
        let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(OwnerCodeError)
        }
    }
}

impl From<OwnerCode> for String {
    fn from(code: OwnerCode) -> Self {
        code.0
    }
}

impl fmt::Display for OwnerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OwnerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A released version: `major.minor.patch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u16,
    minor: u16,
    patch: u16,
}

impl Version {
    /// `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

/// Text that is not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is major.minor.patch, three numbers")]
pub struct VersionError;

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let number = |part: Option<&str>| {
            part.filter(|part| part.bytes().all(|octet| octet.is_ascii_digit()))
                .and_then(|part| part.parse().ok())
                .ok_or(VersionError)
        };
        let mut parts = text.split('.');
        let version =
            Self { major: number(parts.next())?, minor: number(parts.next())?, patch: number(parts.next())? };
        if parts.next().is_some() { Err(VersionError) } else { Ok(version) }
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
