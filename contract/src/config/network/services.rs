//! Addresses and names for the hosts of the local networks.

use super::Lan;
use super::names::text;
use crate::ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Most reservations of a local network.
pub const MAX_RESERVATIONS: usize = 1024;
/// Most domains with name servers of their own, and most names of local hosts.
pub const MAX_DOMAINS: usize = 256;
/// Most name servers in one place.
pub const MAX_SERVERS: usize = 8;

/// Addresses by DHCP (RFC 2131), from the network of the first IPv4 address of the local network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanDhcp {
    /// The first address to give.
    pub first: Ipv4Addr,
    /// The last one.
    pub last: Ipv4Addr,
    /// Seconds, 120 to 604800. A short one is traffic and stops hosts sooner when the box is away, a long one keeps
    /// addresses of hosts that are gone.
    pub lease_s: u32,
    /// Hosts that always get the same address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
}

/// A host that always gets the same address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reservation {
    /// Of its interface.
    pub mac: MacAddress,
    /// In the local network.
    pub address: Ipv4Addr,
}

/// Names (RFC 1035) for local networks, answered by the box.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Who is asked; empty = the name servers of the uplinks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Domains that others are asked about, such as a company's own behind the tunnel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub split: Vec<SplitDomain>,
    /// Names that the box knows itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<LocalHost>,
}

/// A domain with name servers of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitDomain {
    /// The domain and everything below it. Private addresses in its answers are let through.
    pub domain: DomainName,
    /// Who is asked; empty = nobody, such names do not exist.
    pub servers: Vec<IpAddr>,
}

/// A name that the box knows itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalHost {
    /// The name.
    pub name: DomainName,
    /// Its address.
    pub address: IpAddr,
}

/// A hardware address as `02:00:5e:10:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// Text that is not a hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hardware address is six pairs of hexadecimal digits such as 02:00:5e:10:00:01, not of a group")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let mut octets = [0; 6];
        let mut pairs = text.split(':');
        for octet in &mut octets {
            let pair = pairs.next().filter(|pair| pair.len() == 2).ok_or(MacAddressError)?;
            let digits = pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            *octet = u8::from_str_radix(pair, 16).ok().filter(|_| digits).ok_or(MacAddressError)?;
        }
        let group = octets[0] & 1 == 1 || octets == [0; 6];
        if pairs.next().is_some() || group { Err(MacAddressError) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A domain or host name (RFC 1123 §2.1): labels of letters, digits and hyphens, in small letters, without the dot at
/// the end.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainName(String);

/// Text that is not a domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is labels of a-z, 0-9, - and _, each 1 to 63 characters, with dots between, 253 characters at most"
)]
pub struct DomainNameError;

impl FromStr for DomainName {
    type Err = DomainNameError;

    fn from_str(text: &str) -> Result<Self, DomainNameError> {
        let allowed =
            |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || matches!(octet, b'-' | b'_');
        let label = |label: &str| {
            let hyphen = label.starts_with('-') || label.ends_with('-');
            (1..=63).contains(&label.len()) && !hyphen && label.bytes().all(allowed)
        };
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DomainNameError)
        }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The far end of DS-Lite: an address, or a name that has one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Aftr {
    /// Of IPv6.
    Address(Ipv6Addr),
    /// With an AAAA record.
    Name(DomainName),
}

/// Text that is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the translator of DS-Lite is an IPv6 address or a name")]
pub struct AftrError;

impl FromStr for Aftr {
    type Err = AftrError;

    fn from_str(text: &str) -> Result<Self, AftrError> {
        if text.parse::<Ipv4Addr>().is_ok() {
            return Err(AftrError);
        }
        let address = text.parse().map(Self::Address);
        address.or_else(|_| text.parse().map(Self::Name)).map_err(|_| AftrError)
    }
}

impl fmt::Display for Aftr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

text!(MacAddress, MacAddressError);
text!(DomainName, DomainNameError);
text!(Aftr, AftrError);

/// A path below the part, and the rule that is broken there.
pub(super) type Broken = (String, &'static str);

impl LanDhcp {
    /// The network that addresses are given from.
    #[must_use]
    pub fn network(lan: &Lan) -> Option<IpNet> {
        lan.addresses.iter().find(|net| net.address().is_ipv4()).copied()
    }

    pub(super) fn broken(&self, lan: &Lan) -> Option<Broken> {
        let Some(net) = Self::network(lan) else {
            return Some((String::new(), "a local network with an IPv4 address"));
        };
        let inside = |address: Ipv4Addr| net.contains(address.into()) && net.address() != IpAddr::V4(address);
        if !inside(self.first) || !inside(self.last) || self.first > self.last {
            return Some((
                ".first".into(),
                "first to last in the local network, without the box's own address at the ends",
            ));
        }
        if !(120..=604_800).contains(&self.lease_s) {
            return Some((".lease_s".into(), "120 to 604800"));
        }
        if self.reservations.len() > MAX_RESERVATIONS {
            return Some((".reservations".into(), "at most 1024"));
        }
        for (index, one) in self.reservations.iter().enumerate() {
            let before = &self.reservations[..index];
            if !inside(one.address) {
                return Some((
                    format!(".reservations[{index}].address"),
                    "in the local network, not the box's own",
                ));
            }
            if before.iter().any(|other| other.mac == one.mac || other.address == one.address) {
                return Some((
                    format!(".reservations[{index}]"),
                    "each hardware address and each address once",
                ));
            }
        }
        None
    }
}

impl Dns {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn broken(&self) -> Option<Broken> {
        if !are_servers(&self.servers) {
            return Some(("servers".into(), SERVERS));
        }
        if self.split.len() > MAX_DOMAINS || self.hosts.len() > MAX_DOMAINS {
            return Some(("split".into(), "at most 256 domains, and 256 hosts"));
        }
        for (index, split) in self.split.iter().enumerate() {
            if !are_servers(&split.servers) {
                return Some((format!("split[{index}].servers"), SERVERS));
            }
            if self.split[..index].iter().any(|other| other.domain == split.domain) {
                return Some((format!("split[{index}].domain"), "each domain once"));
            }
        }
        None
    }
}

pub(super) const SERVERS: &str = "at most 8 addresses of hosts";

pub(super) fn are_servers(servers: &[IpAddr]) -> bool {
    servers.len() <= MAX_SERVERS && servers.iter().all(|one| !one.is_unspecified() && !one.is_multicast())
}
