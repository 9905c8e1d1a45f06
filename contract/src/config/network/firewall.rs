//! What may pass the box, beyond what every box does.
//!
//! Every box with a network of its own lets local networks and the tunnel out, the tunnel and local networks to each
//! other, one local network not to another, and nothing in from an uplink but answers and the tunnel's port. The
//! rules here come before that, and the first that matches counts. What a group of clients may reach is
//! [`crate::groups`]: a packet must pass both.

use super::names::{ZoneName, text};
use crate::groups::{MAX_PARTS, PortRange, Protocol, RuleAction};
use crate::ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// Most rules, and most port forwards.
pub const MAX_RULES: usize = 1024;

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// Ports of the uplinks that lead to a local host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<PortForward>,
    /// In their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ZoneRule>,
    /// Most connections that one local host or client may have open through the box, 16 to 1,000,000; none = as many
    /// as the kernel tracks. Few break browsers (hundreds) and file sharing; without a limit one infected host
    /// takes the table of connections from everyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_connections: Option<u32>,
}

/// A port of the uplinks that leads to a local host. IPv4 only: IPv6 hosts have addresses, and a rule lets them be
/// reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortForward {
    /// The uplink; none = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wan: Option<ZoneName>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// On the uplink's address.
    pub ports: PortRange,
    /// Who may come; empty = everyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<IpNet>,
    /// The local host.
    pub to: Ipv4Addr,
    /// Its port, with a single port only; none = the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_port: Option<u16>,
}

/// What may pass from one zone to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneRule {
    /// Where the connection begins.
    pub from: Zone,
    /// Where it leads; `box` is the box itself.
    pub to: Zone,
    /// What happens to it.
    pub action: RuleAction,
    /// Sources; empty = any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<IpNet>,
    /// Destinations; empty = any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<IpNet>,
    /// None = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Destination ports, with TCP and UDP only; empty = any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
}

/// Where packets come from or go to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Zone {
    /// `any`: everywhere but the box itself.
    Any,
    /// `wan`: all uplinks.
    Wan,
    /// `lan`: all local networks.
    Lan,
    /// `vpn`: the tunnel.
    Vpn,
    /// `box`: the box itself, as a destination.
    Box,
    /// One uplink or local network.
    Named(ZoneName),
}

/// Text that is not a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a zone is any, wan, lan, vpn, box, or the name of an uplink or local network")]
pub struct ZoneError;

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        Ok(match text {
            "any" => Self::Any,
            "wan" => Self::Wan,
            "lan" => Self::Lan,
            "vpn" => Self::Vpn,
            "box" => Self::Box,
            name => Self::Named(name.parse().map_err(|_| ZoneError)?),
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Wan => "wan",
            Self::Lan => "lan",
            Self::Vpn => "vpn",
            Self::Box => "box",
            Self::Named(name) => name.as_str(),
        })
    }
}

text!(Zone, ZoneError);

/// A path below `network.firewall`, and the rule that is broken there.
pub(super) type Broken = (String, &'static str);

impl Firewall {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `wans` and `zones` are the names of the uplinks, and of uplinks and local networks.
    pub(super) fn broken(&self, wans: &HashSet<&ZoneName>, zones: &HashSet<&ZoneName>) -> Option<Broken> {
        for (list, length) in [("forwards", self.forwards.len()), ("rules", self.rules.len())] {
            if length > MAX_RULES {
                return Some((list.to_owned(), "at most 1024"));
            }
        }
        if self.host_connections.is_some_and(|most| !(16..=1_000_000).contains(&most)) {
            return Some(("host_connections".to_owned(), "16 to 1000000"));
        }
        let forwards = self.forwards.iter().map(|forward| forward.broken(wans)).enumerate();
        for (index, broken) in forwards {
            if let Some((field, rule)) = broken {
                return Some((format!("forwards[{index}].{field}"), rule));
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if let Some((field, broken)) = rule.broken(zones) {
                return Some((format!("rules[{index}].{field}"), broken));
            }
        }
        None
    }
}

impl PortForward {
    fn broken(&self, wans: &HashSet<&ZoneName>) -> Option<(&'static str, &'static str)> {
        if self.wan.as_ref().is_some_and(|wan| !wans.contains(wan)) {
            return Some(("wan", "the name of an uplink"));
        }
        if self.protocol == Protocol::Icmp {
            return Some(("protocol", "tcp or udp"));
        }
        if self.to_port == Some(0) {
            return Some(("to_port", "1 to 65535"));
        }
        if self.to_port.is_some() && self.ports.first() != self.ports.last() {
            return Some(("to_port", "with a single port only"));
        }
        if self.from.len() > MAX_PARTS || !self.from.iter().all(|net| net.address().is_ipv4()) {
            return Some(("from", "at most 64 networks of IPv4"));
        }
        let host = !(self.to.is_unspecified()
            || self.to.is_loopback()
            || self.to.is_multicast()
            || self.to.is_broadcast());
        (!host).then_some(("to", "a local host's address"))
    }
}

impl ZoneRule {
    fn broken(&self, zones: &HashSet<&ZoneName>) -> Option<(&'static str, &'static str)> {
        const NAMED: &str =
            "any, wan, lan, vpn, box (as destination), or the name of an uplink or local network";
        let known = |zone: &Zone| !matches!(zone, Zone::Named(name) if !zones.contains(name));
        if self.from == Zone::Box || !known(&self.from) {
            return Some(("from", NAMED));
        }
        if !known(&self.to) {
            return Some(("to", NAMED));
        }
        if !self.ports.is_empty() && !matches!(self.protocol, Some(Protocol::Tcp | Protocol::Udp)) {
            return Some(("ports", "only tcp and udp have ports"));
        }
        for (field, nets) in [("sources", &self.sources), ("destinations", &self.destinations)] {
            if nets.len() > MAX_PARTS {
                return Some((field, "at most 64 networks"));
            }
        }
        let families = |nets: &[IpNet]| {
            let v6 = nets.iter().any(|net| net.address().is_ipv6());
            let v4 = nets.iter().any(|net| net.address().is_ipv4());
            (v4 || nets.is_empty(), v6 || nets.is_empty())
        };
        let ((from4, from6), (to4, to6)) = (families(&self.sources), families(&self.destinations));
        if !(from4 && to4 || from6 && to6) {
            return Some(("destinations", "of a family that sources has, too"));
        }
        (self.ports.len() > MAX_PARTS).then_some(("ports", "at most 64 ranges"))
    }
}
