//! The box's own network: uplinks, local networks, routes between them.
//!
//! All of it is a snapshot: what an earlier configuration asked for and this one does not is taken away, what others
//! put on the box stays. An empty one leaves the interfaces to whoever manages them. Names are checked here, since
//! they become names of interfaces; whether a port exists only the box knows.

use super::ConfigError;
use crate::ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Most uplinks. Each has routing tables of its own.
pub const MAX_WANS: usize = 4;
/// Most local networks.
pub const MAX_LANS: usize = 64;
/// Most ports of a local network.
pub const MAX_PORTS: usize = 64;
/// Most static routes.
pub const MAX_ROUTES: usize = 4096;

/// See the head of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Uplinks, the preferred one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wan: Vec<Wan>,
    /// Local networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lan: Vec<Lan>,
    /// Networks behind routers of the local networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<StaticRoute>,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    /// Names it in rules, conditions and logs.
    pub name: ZoneName,
    /// Where the line is plugged in.
    pub port: Port,
    /// Of the port, 1280 to 9000 octets; none = as it is. Larger than the line carries loses packets, smaller costs
    /// throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// How it gets IPv4; none = not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<WanV4>,
    /// How it gets IPv6; none = not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<WanV6>,
}

/// How an uplink gets IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WanV4 {
    /// Given by the provider on paper.
    Static {
        /// With the prefix of the line's network.
        address: IpNet,
        /// The provider's router.
        gateway: Ipv4Addr,
    },
}

/// How an uplink gets IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WanV6 {
    /// Given by the provider on paper.
    Static {
        /// With the prefix of the line's network.
        address: IpNet,
        /// The provider's router, often link-local.
        gateway: Ipv6Addr,
    },
}

/// One local network: a bridge over its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lan {
    /// Names it in rules; the bridge is `br-` and this.
    pub name: ZoneName,
    /// What is bridged; may be empty.
    pub ports: Vec<Port>,
    /// The box's own addresses in it, with the network's prefix.
    pub addresses: Vec<IpNet>,
}

impl Lan {
    /// The name of its bridge.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("br-{}", self.name)
    }
}

/// A network behind a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticRoute {
    /// Host bits are cleared.
    pub to: IpNet,
    /// The router, in one of the local networks or in the network of an uplink with a static address.
    pub via: IpAddr,
}

impl NetworkConfig {
    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what types cannot. Paths begin with `network.`.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |path: String, rule: &str| {
            Err(ConfigError { path: format!("network.{path}"), rule: rule.to_owned() })
        };
        for (list, length, most, rule) in [
            ("wan", self.wan.len(), MAX_WANS, "at most 4 uplinks"),
            ("lan", self.lan.len(), MAX_LANS, "at most 64 local networks"),
            ("routes", self.routes.len(), MAX_ROUTES, "at most 4096 routes"),
        ] {
            if length > most {
                return fail(list.to_owned(), rule);
            }
        }
        let (mut names, mut ports) = (HashSet::new(), HashSet::new());
        for (index, wan) in self.wan.iter().enumerate() {
            if let Some((field, rule)) = wan.broken(&mut names, &mut ports) {
                return fail(format!("wan[{index}].{field}"), rule);
            }
        }
        for (index, lan) in self.lan.iter().enumerate() {
            if let Some((field, rule)) = lan.broken(&mut names, &mut ports) {
                return fail(format!("lan[{index}].{field}"), rule);
            }
        }
        if let Some(index) = self.overlapping_lan() {
            return fail(
                format!("lan[{index}].addresses"),
                "networks of two local networks must not overlap",
            );
        }
        for (index, route) in self.routes.iter().enumerate() {
            if route.to.address().is_ipv4() != route.via.is_ipv4() {
                return fail(format!("routes[{index}].via"), "of the same family as to");
            }
            if self.interface_towards(route.via).is_none() {
                return fail(format!("routes[{index}].via"), "in a network of lan or of a static wan");
            }
            if self.routes[..index].iter().any(|other| other.to.network() == route.to.network()) {
                return fail(format!("routes[{index}].to"), "each network once");
            }
        }
        Ok(())
    }

    /// The interface whose network holds `address`.
    #[must_use]
    pub fn interface_towards(&self, address: IpAddr) -> Option<String> {
        let lans = self.lan.iter().flat_map(|lan| lan.addresses.iter().map(|net| (net, lan.bridge())));
        let wans = self.wan.iter().flat_map(|wan| {
            let v4 = wan.ipv4.iter().map(|WanV4::Static { address, .. }| address);
            let v6 = wan.ipv6.iter().map(|WanV6::Static { address, .. }| address);
            v4.chain(v6).map(|net| (net, wan.port.to_string()))
        });
        lans.chain(wans)
            .filter(|(net, _)| net.contains(address))
            .max_by_key(|(net, _)| net.prefix())
            .map(|(_, of)| of)
    }

    fn overlapping_lan(&self) -> Option<usize> {
        let overlap =
            |one: &IpNet, other: &IpNet| one.contains(other.address()) || other.contains(one.address());
        (1..self.lan.len()).find(|&index| {
            let before = || self.lan[..index].iter().flat_map(|lan| &lan.addresses);
            self.lan[index].addresses.iter().any(|net| before().any(|other| overlap(net, other)))
        })
    }
}

/// A field and the rule that it breaks.
type Broken = (&'static str, &'static str);

const ONCE: Broken = ("name", "each name once, whether of wan or lan");

impl Wan {
    fn broken<'a>(
        &'a self,
        names: &mut HashSet<&'a ZoneName>,
        ports: &mut HashSet<&'a Port>,
    ) -> Option<Broken> {
        if !names.insert(&self.name) {
            return Some(ONCE);
        }
        if !ports.insert(&self.port) {
            return Some(("port", "each port once"));
        }
        if self.mtu.is_some_and(|mtu| !(1280..=9000).contains(&mtu)) {
            return Some(("mtu", "1280 to 9000"));
        }
        if let Some(WanV4::Static { address, .. }) = &self.ipv4
            && !(address.address().is_ipv4() && is_host(address))
        {
            return Some(("ipv4.static.address", "a host's IPv4 address with the prefix of its network"));
        }
        if let Some(WanV6::Static { address, .. }) = &self.ipv6
            && !(address.address().is_ipv6() && is_host(address))
        {
            return Some(("ipv6.static.address", "a host's IPv6 address with the prefix of its network"));
        }
        None
    }
}

impl Lan {
    fn broken<'a>(
        &'a self,
        names: &mut HashSet<&'a ZoneName>,
        ports: &mut HashSet<&'a Port>,
    ) -> Option<Broken> {
        if !names.insert(&self.name) {
            return Some(ONCE);
        }
        if self.ports.len() > MAX_PORTS {
            return Some(("ports", "at most 64 ports"));
        }
        if !self.ports.iter().all(|port| ports.insert(port)) {
            return Some(("ports", "each port once"));
        }
        if self.addresses.is_empty() || !self.addresses.iter().all(is_host) {
            return Some(("addresses", "at least one, each a host's address with the prefix of its network"));
        }
        None
    }
}

/// Whether a host may have this address: unicast, and neither the network's own nor its broadcast.
fn is_host(net: &IpNet) -> bool {
    let address = net.address();
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return false;
    }
    match address {
        IpAddr::V4(v4) if net.prefix() < 31 => {
            let host = u32::MAX >> net.prefix();
            !v4.is_broadcast() && u32::from(v4) & host != 0 && u32::from(v4) & host != host
        }
        _ => true,
    }
}

/// Names an uplink or a local network: 1 to 12 characters of `a-z`, `0-9` and `-`, the first a letter. With a prefix
/// of three it is still a name for an interface. `wan`, `lan`, `vpn`, `box` and `any` mean something else in rules.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ZoneName(String);

/// Text that is not a zone's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name is 1 to 12 characters of a-z, 0-9 and -, the first a letter, and not wan, lan, vpn, box or any"
)]
pub struct ZoneNameError;

impl ZoneName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ZoneName {
    type Err = ZoneNameError;

    fn from_str(text: &str) -> Result<Self, ZoneNameError> {
        let allowed = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
        let begins = text.bytes().next().is_some_and(|octet| octet.is_ascii_lowercase());
        let reserved = ["wan", "lan", "vpn", "box", "any"].contains(&text);
        if begins && text.len() <= 12 && text.bytes().all(allowed) && !reserved {
            Ok(Self(text.to_owned()))
        } else {
            Err(ZoneNameError)
        }
    }
}

/// An Ethernet port of the box as the kernel names it, or one 802.1Q VLAN on it: `eth1` or `eth1.20`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Port {
    device: String,
    vlan: Option<u16>,
}

/// Text that is not a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a port is an interface such as eth1, or a VLAN on it such as eth1.20, 15 characters at most, VLAN 1 to 4094"
)]
pub struct PortError;

impl Port {
    /// The physical interface.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// The VLAN identifier, 1 to 4094; none = untagged.
    #[must_use]
    pub const fn vlan(&self) -> Option<u16> {
        self.vlan
    }
}

impl FromStr for Port {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (device, vlan) = match text.split_once('.') {
            None => (text, None),
            Some((device, id)) => {
                let plain = !id.starts_with('0') && id.bytes().all(|octet| octet.is_ascii_digit());
                let id = id.parse().ok().filter(|id| plain && (1..=4094).contains(id));
                (device, Some(id.ok_or(PortError)?))
            }
        };
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        // Bridges are the agent's own, and the loopback is nobody's port.
        let ours = device.starts_with("br-") || device == "lo";
        if device.is_empty() || text.len() > 15 || !device.bytes().all(allowed) || ours {
            return Err(PortError);
        }
        Ok(Self { device: device.to_owned(), vlan })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.vlan {
            None => f.write_str(&self.device),
            Some(id) => write!(f, "{}.{id}", self.device),
        }
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! text {
    ($type:ty, $error:ty) => {
        impl TryFrom<String> for $type {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

text!(ZoneName, ZoneNameError);
text!(Port, PortError);
