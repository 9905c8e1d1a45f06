//! What a configuration asks of the kernel, given what the uplinks have.
//!
//! Each uplink has a routing table of its own, so that an answer leaves where its question came in, and all of them
//! stand in the table of uplinks and in the main table, the preferred one with the lowest metric. An uplink that
//! does not carry goes behind all others but stays: with none that carries, the preferred one is tried.

use super::kernel::{Desired, Kind, Link, MAIN, Route, Rule};
use std::net::IpAddr;
use verona_contract::config::NetworkConfig;
use verona_contract::config::network::{Port, Wan, WanV4, WanV6};
use verona_contract::ipnet::IpNet;

/// The table of all uplinks, for the tunnel's own packets: no route into the tunnel is in it.
pub const UPLINKS: u32 = 1190;

/// What one uplink has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Whether its checks pass, or none were asked for.
    pub carries: bool,
}

impl Default for Uplink {
    fn default() -> Self {
        Self { carries: true }
    }
}

/// The mark of packets that must leave by the uplink of this index.
#[must_use]
pub const fn mark(index: usize) -> u32 {
    // At most four.
    0x7700_0001 + index as u32
}

/// The mark of the tunnel's own packets.
pub const TUNNEL_MARK: u32 = 0x7700_0000;

/// The kernel's part of `config`. `uplinks` are in the order of the configuration's; one that is missing has nothing.
#[must_use]
pub fn plan(config: &NetworkConfig, uplinks: &[Uplink]) -> Desired {
    let mut desired = Desired::default();
    for (index, lan) in config.lan.iter().enumerate() {
        let bridge = lan.bridge();
        let path = format!("network.lan[{index}]");
        let link = Link { kind: Kind::Bridge, bridge: None, mtu: None };
        desired.links.insert(bridge.clone(), (link, path.clone()));
        for (at, port) in lan.ports.iter().enumerate() {
            add_port(&mut desired, port, Some(&bridge), None, &format!("{path}.ports[{at}]"));
        }
        for (at, net) in lan.addresses.iter().enumerate() {
            desired.addresses.insert((bridge.clone(), *net), format!("{path}.addresses[{at}]"));
        }
    }
    for (index, wan) in config.wan.iter().enumerate() {
        let carries = uplinks.get(index).is_none_or(|uplink| uplink.carries);
        add_uplink(&mut desired, wan, index, carries);
    }
    for (index, route) in config.routes.iter().enumerate() {
        // The contract's check found the interface.
        let Some(link) = config.interface_towards(route.via) else { continue };
        let route = Route { to: route.to.network(), via: Some(route.via), link, table: MAIN, metric: 1 };
        desired.routes.insert(route, format!("network.routes[{index}]"));
    }
    if !config.wan.is_empty() {
        for v6 in [false, true] {
            // What is near is near for everyone; only the way out is chosen below.
            let near =
                Rule { priority: 1000, v6, from: None, mark: None, table: MAIN, without_default: true };
            let tunnel = Rule {
                priority: 1100,
                mark: Some(TUNNEL_MARK),
                table: UPLINKS,
                without_default: false,
                ..near
            };
            desired.rules.extend([near, tunnel]);
        }
    }
    desired
}

fn add_port(desired: &mut Desired, port: &Port, bridge: Option<&str>, mtu: Option<u16>, path: &str) {
    let (mtu, bridge) = (mtu.map(u32::from), bridge.map(ToOwned::to_owned));
    let device = port.device().to_owned();
    let Some(id) = port.vlan() else {
        // It may be there already, only as the parent of a VLAN.
        desired.links.insert(device, (Link { kind: Kind::Port, bridge, mtu }, path.to_owned()));
        return;
    };
    let parent = Link { kind: Kind::Port, bridge: None, mtu: None };
    desired.links.entry(device.clone()).or_insert_with(|| (parent, path.to_owned()));
    let vlan = Link { kind: Kind::Vlan { parent: device, id }, bridge, mtu };
    desired.links.insert(port.to_string(), (vlan, path.to_owned()));
}

fn add_uplink(desired: &mut Desired, wan: &Wan, index: usize, carries: bool) {
    let path = format!("network.wan[{index}]");
    add_port(desired, &wan.port, None, wan.mtu, &format!("{path}.port"));
    let link = wan.port.to_string();
    // At most four.
    let order = index as u32;
    let table = UPLINKS + 1 + order;
    let v4 =
        wan.ipv4.as_ref().map(|WanV4::Static { address, gateway }| (*address, IpAddr::V4(*gateway), "ipv4"));
    let v6 =
        wan.ipv6.as_ref().map(|WanV6::Static { address, gateway }| (*address, IpAddr::V6(*gateway), "ipv6"));
    for (address, gateway, family) in v4.into_iter().chain(v6) {
        let path = format!("{path}.{family}");
        desired.addresses.insert((link.clone(), address), path.clone());
        let metric = order + 1 + if carries { 0 } else { 1000 };
        for (table, metric) in [(table, 1), (UPLINKS, metric), (MAIN, metric)] {
            let route = Route {
                to: IpNet::everything(gateway.is_ipv6()),
                via: Some(gateway),
                link: link.clone(),
                table,
                metric,
            };
            desired.routes.insert(route, path.clone());
        }
        let (priority, v6, from) = (1200 + order, gateway.is_ipv6(), Some(address.address()));
        let answers = Rule { priority, v6, from, mark: None, table, without_default: false };
        let marked = Rule { from: None, mark: Some(mark(index)), ..answers };
        desired.rules.extend([answers, marked]);
    }
}

#[cfg(test)]
mod tests;
