//! What a configuration asks of the kernel, given what the uplinks have.
//!
//! Each uplink has a routing table of its own, so that an answer leaves where its question came in, and all of them
//! stand in the table of uplinks and in the main table, the preferred one with the lowest metric. An uplink that
//! does not carry goes behind all others but stays: with none that carries, the preferred one is tried.

use super::dhcp6::Lease as Lease6;
use super::kernel::{Actual, Desired, Kind, Link, MAIN, Route, Rule};
use super::lease::Lease;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use verona_contract::config::NetworkConfig;
use verona_contract::config::network::{Lan, Port, Wan, WanV4, WanV6};
use verona_contract::ipnet::IpNet;

/// The table of all uplinks, for the tunnel's own packets: no route into the tunnel is in it.
pub const UPLINKS: u32 = 1190;

/// What one uplink has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Whether its checks pass, or none were asked for.
    pub carries: bool,
    /// What its DHCP client or its session of PPPoE was given, if it has one.
    pub lease: Option<Lease>,
    /// What its DHCPv6 client was given, if it has one.
    pub lease6: Option<Lease6>,
    /// The router that the line told of.
    pub router6: Option<Ipv6Addr>,
    /// The addresses that the kernel made itself from what the line told.
    pub made6: Vec<Ipv6Addr>,
    /// The far end of its softwire, as soon as it is known.
    pub aftr: Option<Ipv6Addr>,
}

impl Uplink {
    /// What the line of `port` told the kernel.
    pub fn learn(&mut self, port: &str, actual: &Actual) {
        let all = IpNet::everything(true);
        let foreign = actual.routes.iter().filter(|(_, ours)| !ours).map(|(route, _)| route);
        self.router6 = foreign
            .filter(|route| route.link == port && route.to == all && route.table == MAIN)
            .find_map(|route| match route.via {
                Some(IpAddr::V6(router)) => Some(router),
                _ => None,
            });
        let here = actual.addresses.iter().filter(|(link, _, ours)| link == port && !ours);
        self.made6 = here.filter_map(|(_, net, _)| global(net.address())).collect();
    }
}

/// An address that others than neighbours know.
fn global(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(v6) if v6.segments()[0] & 0xe000 == 0x2000 || v6.segments()[0] & 0xfe00 == 0xfc00 => {
            Some(v6)
        }
        _ => None,
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self { carries: true, lease: None, lease6: None, router6: None, made6: Vec::new(), aftr: None }
    }
}

/// The box's address on a softwire (RFC 6333 §10).
const B4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
const B4_PREFIX: u8 = 29;

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
        if let Some(net) = delegated(lan, config, uplinks) {
            desired.addresses.insert((bridge.clone(), net), format!("{path}.ipv6"));
        }
    }
    for (index, wan) in config.wan.iter().enumerate() {
        let nothing = Uplink::default();
        add_uplink(&mut desired, wan, index, uplinks.get(index).unwrap_or(&nothing));
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
                priority: 1300,
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

/// The kernel's switches that the network needs, as path below `/proc/sys/net` and value.
#[must_use]
pub fn switches(config: &NetworkConfig) -> Vec<(String, &'static str)> {
    if config.is_empty() {
        return Vec::new();
    }
    let mut switches =
        vec![("ipv4/ip_forward".to_owned(), "1"), ("ipv6/conf/all/forwarding".to_owned(), "1")];
    // What a bridge passes between its ports is not routed: address translation there would lose it.
    let bridged = ["iptables", "ip6tables"].map(|rules| (format!("bridge/bridge-nf-call-{rules}"), "0"));
    switches.extend(bridged);
    // A host that is told of a shorter way to a neighbour's port would go past the translation.
    let near = std::iter::once("all".to_owned()).chain(config.lan.iter().map(Lan::bridge));
    switches.extend(near.map(|link| (format!("ipv4/conf/{link}/send_redirects"), "0")));
    for wan in &config.wan {
        let port = &wan.port;
        // An answer may come in where the main table would not send its question.
        switches.extend(wan.links().map(|link| (format!("ipv4/conf/{link}/rp_filter"), "2")));
        // Nobody on the line may hand out addresses or routes that the configuration does not ask for.
        let told = wan.ipv6 == Some(WanV6::Auto);
        // With 2 also by a router, which the box is. The kernel's own default route stands behind ours.
        switches.push((format!("ipv6/conf/{port}/accept_ra"), if told { "2" } else { "0" }));
        switches.push((format!("ipv6/conf/{port}/ra_defrtr_metric"), "4096"));
    }
    switches
}

/// The name servers of the uplinks, each once, those of uplinks that carry first.
#[must_use]
pub fn servers(config: &NetworkConfig, uplinks: &[Uplink]) -> Vec<IpAddr> {
    let nothing = Uplink::default();
    let mut servers = Vec::new();
    for carrying in [true, false] {
        for (index, wan) in config.wan.iter().enumerate() {
            let uplink = uplinks.get(index).unwrap_or(&nothing);
            let told = uplink.lease.iter().flat_map(|lease| &lease.servers);
            let told6 = uplink.lease6.iter().flat_map(|lease| &lease.servers);
            for server in wan.servers.iter().chain(told).chain(told6).filter(|_| uplink.carries == carrying) {
                if !servers.contains(server) {
                    servers.push(*server);
                }
            }
        }
    }
    servers
}

/// Why an uplink does not carry; none = it does. `session` is what its session of PPPoE failed by, if it did. IPv6 that
/// is missing beside IPv4 is no failure: providers without it are many.
#[must_use]
pub fn failure(wan: &Wan, uplink: &Uplink, actual: &Actual, session: Option<&str>) -> Option<String> {
    let port = wan.port.to_string();
    match actual.links.get(&port).or_else(|| actual.links.get(wan.port.device())) {
        None => return Some(format!("there is no interface {}", wan.port.device())),
        Some(found) if found.up && !found.carrier => {
            return Some(format!("no cable in {}", wan.port.device()));
        }
        Some(_) => {}
    }
    let addressed = uplink.lease6.as_ref().is_some_and(|lease| lease.address.is_some());
    let missing = match (&wan.ipv4, &wan.ipv6) {
        (Some(WanV4::Dhcp), _) if uplink.lease.is_none() => Some("no address by DHCP"),
        (Some(WanV4::Pppoe(_)), _) if uplink.lease.is_none() => {
            Some(session.unwrap_or("the PPPoE session is being set up"))
        }
        (Some(WanV4::DsLite { .. }), _) if uplink.aftr.is_none() => {
            Some("the translator of DS-Lite is not known")
        }
        (None | Some(WanV4::DsLite { .. }), Some(WanV6::Auto)) if uplink.router6.is_none() => {
            Some("no IPv6 router on the line")
        }
        (None | Some(WanV4::DsLite { .. }), Some(WanV6::Auto)) if uplink.made6.is_empty() && !addressed => {
            Some("no IPv6 address")
        }
        _ => None,
    };
    let silent = || (!uplink.carries).then_some("the hosts that are asked behind it do not answer");
    missing.or_else(silent).map(ToOwned::to_owned)
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

fn add_uplink(desired: &mut Desired, wan: &Wan, index: usize, uplink: &Uplink) {
    let path = format!("network.wan[{index}]");
    let session = wan.session();
    let told = session.is_some() || wan.ipv4 == Some(WanV4::Dhcp);
    let lease = uplink.lease.as_ref().filter(|_| told);
    // That of a session is agreed on by its ends, and the port is wider than it.
    let mtu = wan.mtu.or_else(|| lease.and_then(|lease| lease.mtu)).filter(|_| session.is_none());
    add_port(desired, &wan.port, None, mtu, &format!("{path}.port"));
    if let (Some(link), Some(_)) = (&session, lease) {
        let up = Link { kind: Kind::Port, bridge: None, mtu: None };
        desired.links.insert(link.clone(), (up, format!("{path}.ipv4.pppoe")));
    }
    let link = session.unwrap_or_else(|| wan.port.to_string());
    if let Some(kbit) = wan.upload_kbit {
        desired.shapers.insert(link.clone(), (u64::from(kbit) * 1000 / 8, format!("{path}.upload_kbit")));
    }
    // At most four.
    let order = index as u32;
    let table = UPLINKS + 1 + order;
    for Reach { family, link, add, sources, out } in reaches(desired, wan, &path, lease, uplink) {
        let (path, v6) = (format!("{path}.{family}"), family == "ipv6");
        if let Some(address) = add {
            desired.addresses.insert((link.clone(), address), path.clone());
        }
        let via = match out {
            Out::Nowhere => continue,
            Out::Link => None,
            Out::Router(router) => Some(router),
        };
        let metric = order + 1 + if uplink.carries { 0 } else { 1000 };
        for (table, metric) in [(table, 1), (UPLINKS, metric), (MAIN, metric)] {
            let route = Route { to: IpNet::everything(v6), via, link: link.clone(), table, metric };
            desired.routes.insert(route, path.clone());
        }
        let priority = 1200 + order;
        let marked =
            Rule { priority, v6, from: None, mark: Some(mark(index)), table, without_default: false };
        let answers = sources.into_iter().map(|from| Rule { from: Some(from), mark: None, ..marked.clone() });
        desired.rules.extend(answers);
        desired.rules.insert(marked);
    }
}

/// How one family gets out by an uplink.
struct Reach {
    family: &'static str,
    link: String,
    /// The address that the line needs.
    add: Option<IpNet>,
    /// All addresses that are the line's.
    sources: Vec<IpAddr>,
    out: Out,
}

/// Where the way out begins.
enum Out {
    Nowhere,
    /// The other end of the link takes everything.
    Link,
    Router(IpAddr),
}

impl From<Option<IpAddr>> for Out {
    fn from(router: Option<IpAddr>) -> Self {
        router.map_or(Self::Nowhere, Self::Router)
    }
}

fn reaches(
    desired: &mut Desired,
    wan: &Wan,
    path: &str,
    lease: Option<&Lease>,
    uplink: &Uplink,
) -> Vec<Reach> {
    let port = wan.port.to_string();
    let one = |family, net: IpNet, router: Option<IpAddr>| Reach {
        family,
        link: port.clone(),
        add: Some(net),
        sources: vec![net.address()],
        out: router.into(),
    };
    let v6 = wan.ipv6.as_ref().map(|v6| match v6 {
        WanV6::Static { address, gateway } => one("ipv6", *address, Some(IpAddr::V6(*gateway))),
        WanV6::Auto => {
            let given = uplink.lease6.as_ref().and_then(|lease| lease.address).map(|(address, _)| address);
            // What was given may be what the kernel found as ours before: it is no longer among `made6`.
            let sources = given.iter().chain(&uplink.made6).copied().map(IpAddr::V6).collect();
            let add = given.map(|address| IpNet::host(address.into()));
            let out = uplink.router6.map(IpAddr::V6).into();
            Reach { family: "ipv6", link: port.clone(), add, sources, out }
        }
    });
    let v4 = wan.ipv4.as_ref().and_then(|v4| match v4 {
        WanV4::Static { address, gateway } => Some(one("ipv4", *address, Some(IpAddr::V4(*gateway)))),
        WanV4::Dhcp => lease.map(|lease| one("ipv4", lease.address, lease.gateway.map(IpAddr::V4))),
        WanV4::DsLite { .. } => softwire(desired, wan, path, uplink, v6.as_ref()?),
        WanV4::Pppoe(_) => lease.zip(wan.session()).map(|(lease, link)| {
            let (add, sources) = (Some(lease.address), vec![lease.address.address()]);
            Reach { family: "ipv4", link, add, sources, out: Out::Link }
        }),
    });
    v4.into_iter().chain(v6).collect()
}

/// The tunnel of DS-Lite. None while one of its ends is not known.
fn softwire(desired: &mut Desired, wan: &Wan, path: &str, uplink: &Uplink, v6: &Reach) -> Option<Reach> {
    let (link, remote) = (wan.softwire()?, uplink.aftr?);
    let Some(IpAddr::V6(local)) = v6.sources.first().copied() else { return None };
    let kind = Kind::Softwire { local, remote };
    desired.links.insert(link.clone(), (Link { kind, bridge: None, mtu: None }, format!("{path}.ipv4")));
    let own = IpNet::new(B4.into(), B4_PREFIX).ok()?;
    Some(Reach { family: "ipv4", link, add: Some(own), sources: vec![B4.into()], out: Out::Link })
}

/// The box's address in the network that `lan` gets from an uplink's prefix. None while there is no prefix, or it is
/// too small for that.
#[must_use]
pub fn delegated(lan: &Lan, config: &NetworkConfig, uplinks: &[Uplink]) -> Option<IpNet> {
    let wanted = lan.ipv6.as_ref()?;
    let index = config.wan.iter().position(|wan| wan.name == wanted.from)?;
    let (prefix, _) = uplinks.get(index)?.lease6.as_ref()?.prefix?;
    let IpAddr::V6(first) = prefix.address() else { return None };
    let networks = 1_u32.checked_shl(64 - u32::from(prefix.prefix())).unwrap_or(u32::MAX);
    if u32::from(wanted.subnet) >= networks {
        return None;
    }
    let address = u128::from(first) | u128::from(wanted.subnet) << 64 | 1;
    IpNet::new(IpAddr::V6(address.into()), 64).ok()
}

#[cfg(test)]
mod tests;
