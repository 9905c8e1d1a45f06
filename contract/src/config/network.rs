//! The box's own network: uplinks, local networks, routes between them.
//!
//! All of it is a snapshot: what an earlier configuration asked for and this one does not is taken away, what others
//! put on the box stays. An empty one leaves the interfaces to whoever manages them. Names are checked here, since
//! they become names of interfaces; whether a port exists only the box knows.

pub mod firewall;
mod names;
mod pppoe;
pub mod services;
mod time;

pub use names::{Port, PortError, ZoneName, ZoneNameError};
pub use pppoe::{PPPOE_MTU, Pppoe, PppoePassword, PppoeText, PppoeTextError};
pub use time::{MAX_TIME_SERVERS, TimeServer, TimeServerError};

use super::ConfigError;
use crate::ipnet::IpNet;
use firewall::Firewall;
use serde::{Deserialize, Serialize};
use services::{Aftr, Dns, LanDhcp};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// What may pass.
    #[serde(default, skip_serializing_if = "Firewall::is_empty")]
    pub firewall: Firewall,
    /// Names for the local networks; none = the box answers no questions for names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Who tells the box the time, in place of those that its firmware knows; only together with `wan`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub time_servers: Vec<TimeServer>,
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wan {
    /// Names it in rules, conditions and logs.
    pub name: ZoneName,
    /// Where the line is plugged in.
    pub port: Port,
    /// Of the port, 1280 to 9000 octets; none = as it is. With PPPoE of the session, 1280 to 1492; none = 1492. Larger
    /// than the line carries loses packets, smaller costs throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// What the line carries upwards, 64 to 10,000,000 kbit/s. The box then keeps the queue itself, by CAKE: short, and
    /// fair among hosts. A little less than the line has, or the queue stands in the provider's modem. None = no queue
    /// of the box's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_kbit: Option<u32>,
    /// How it gets IPv4; none = not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<WanV4>,
    /// How it gets IPv6; none = not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<WanV6>,
    /// Name servers, besides those that the provider tells; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<IpAddr>,
    /// Hosts that are asked each second whether the line carries, at most 4; none = it is held to carry. It carries
    /// while one of them answers: hosts of the provider alone do not see that the provider is cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<IpAddr>,
}

/// How an uplink gets IPv4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WanV4 {
    /// Told by the provider (RFC 2131).
    Dhcp,
    /// Given by the provider on paper.
    Static {
        /// With the prefix of the line's network.
        address: IpNet,
        /// The provider's router.
        gateway: Ipv4Addr,
    },
    /// By a tunnel in IPv6 to the provider's translator (DS-Lite, RFC 6333). Needs `ipv6`.
    DsLite {
        /// The translator (AFTR); none = the one that DHCPv6 tells (RFC 6334).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        aftr: Option<Aftr>,
    },
    /// By a session of PPP with the provider (RFC 2516). IPv6 of the same uplink is the port's own, beside the session.
    Pppoe(Pppoe),
}

/// How an uplink gets IPv6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum WanV6 {
    /// Told by the provider: routers and addresses by router advertisements (RFC 4861, RFC 4862), addresses, name
    /// servers and a prefix for the local networks by DHCPv6 (RFC 8415).
    Auto,
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
    /// Addresses for its hosts; none = they have their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<LanDhcp>,
    /// Whether its hosts may see the technician's page, by HTTP at the box's address: state only, nothing to change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub page: bool,
    /// A network of IPv6 for its hosts, from an uplink's prefix; they make their own addresses in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<LanV6>,
}

/// Where a local network's IPv6 comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanV6 {
    /// The uplink whose prefix it is; its `ipv6` is `auto`.
    pub from: ZoneName,
    /// Which /64 of the prefix: 0 is the first, a /56 has 256 of them.
    pub subnet: u16,
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
        for (index, lan) in self.lan.iter().enumerate() {
            let broken = lan.dhcp.as_ref().and_then(|dhcp| dhcp.broken(lan));
            if let Some((field, rule)) = broken {
                return fail(format!("lan[{index}].dhcp{field}"), rule);
            }
        }
        for (index, lan) in self.lan.iter().enumerate() {
            let Some(LanV6 { from, subnet }) = &lan.ipv6 else { continue };
            if !self.wan.iter().any(|wan| wan.name == *from && wan.ipv6 == Some(WanV6::Auto)) {
                return fail(format!("lan[{index}].ipv6.from"), "an uplink whose ipv6 is auto");
            }
            if self.lan[..index].iter().any(|other| other.ipv6 == lan.ipv6) {
                return fail(
                    format!("lan[{index}].ipv6.subnet"),
                    &format!("{subnet} of {from} is taken already"),
                );
            }
        }
        if self.time_servers.len() > MAX_TIME_SERVERS {
            return fail("time_servers".to_owned(), "at most 8 time servers");
        }
        if !self.time_servers.is_empty() && self.wan.is_empty() {
            return fail("time_servers".to_owned(), "only together with wan");
        }
        if let Some((field, rule)) = self.dns.as_ref().and_then(Dns::broken) {
            return fail(format!("dns.{field}"), rule);
        }
        let wans = self.wan.iter().map(|wan| &wan.name).collect();
        self.firewall
            .broken(&wans, &names)
            .map_or(Ok(()), |(path, rule)| fail(format!("firewall.{path}"), rule))
    }

    /// The interface whose network holds `address`.
    #[must_use]
    pub fn interface_towards(&self, address: IpAddr) -> Option<String> {
        let lans = self.lan.iter().flat_map(|lan| lan.addresses.iter().map(|net| (net, lan.bridge())));
        let wans = self.wan.iter().flat_map(|wan| {
            let v4 = wan.ipv4.iter().filter_map(|v4| match v4 {
                WanV4::Static { address, .. } => Some(address),
                WanV4::Dhcp | WanV4::DsLite { .. } | WanV4::Pppoe(_) => None,
            });
            let v6 = wan.ipv6.iter().filter_map(|v6| match v6 {
                WanV6::Static { address, .. } => Some(address),
                WanV6::Auto => None,
            });
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
    /// The tunnel of DS-Lite, if it has one: `ds-` and its name.
    #[must_use]
    pub fn softwire(&self) -> Option<String> {
        matches!(self.ipv4, Some(WanV4::DsLite { .. })).then(|| format!("ds-{}", self.name))
    }

    /// The session of PPPoE, if it has one: what its link is called, `pp-` and its name.
    #[must_use]
    pub fn session(&self) -> Option<String> {
        self.pppoe().map(|_| format!("pp-{}", self.name))
    }

    /// What its session of PPPoE needs, if it has one.
    #[must_use]
    pub const fn pppoe(&self) -> Option<&Pppoe> {
        match &self.ipv4 {
            Some(WanV4::Pppoe(pppoe)) => Some(pppoe),
            _ => None,
        }
    }

    /// The interfaces that packets leave by: its port, then its softwire or session.
    pub fn links(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.port.to_string()).chain(self.softwire()).chain(self.session())
    }

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
        if self.pppoe().is_some() && self.mtu.is_some_and(|mtu| mtu > PPPOE_MTU) {
            return Some(("mtu", "1280 to 1492 with PPPoE"));
        }
        if self.upload_kbit.is_some_and(|rate| !(64..=10_000_000).contains(&rate)) {
            return Some(("upload_kbit", "64 to 10000000"));
        }
        if !services::are_servers(&self.servers) {
            return Some(("servers", services::SERVERS));
        }
        if self.check.len() > 4 || !services::are_servers(&self.check) {
            return Some(("check", "at most 4 addresses of hosts"));
        }
        if let Some(WanV4::Static { address, .. }) = &self.ipv4
            && !(address.address().is_ipv4() && is_host(address))
        {
            return Some(("ipv4.static.address", "a host's IPv4 address with the prefix of its network"));
        }
        if matches!(self.ipv4, Some(WanV4::DsLite { .. })) && self.ipv6.is_none() {
            return Some(("ipv4.ds-lite", "only with ipv6, which carries it"));
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
