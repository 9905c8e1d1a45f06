//! The zone firewall, address translation and marks of the box's own network, as one transaction of nftables.
//!
//! A table of ours is replaced as a whole, between two packets. Everything in the text is a number, an address, or a
//! name whose characters the contract checked. A configuration without a network has no table: whoever manages the
//! interfaces then manages what passes them.

use super::kernel::Actual;
use super::plan::{TUNNEL_MARK, mark};
use crate::groups::{is_plain, protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use verona_contract::config::NetworkConfig;
use verona_contract::config::network::firewall::{PortForward, Zone, ZoneRule};
use verona_contract::config::network::{Lan, Wan};
use verona_contract::groups::{Protocol, RuleAction};
use verona_contract::ipnet::IpNet;

/// The table, of family inet.
pub const TABLE: &str = "verona_network";

/// Where the technician's page is, TCP.
pub const PAGE_PORT: u16 = 80;

/// Takes the table away, whether or not it is there.
pub const NONE: &str = "table inet verona_network\ndelete table inet verona_network\n";

/// What the rules depend on besides the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// The tunnel's interface; none before the tunnel runs.
    pub tunnel: Option<String>,
    /// The tunnel's UDP port.
    pub listen_port: u16,
    /// The MTU of each interface that is there, octets.
    pub mtus: BTreeMap<String, u32>,
    /// The IPv4 addresses of each.
    pub addresses: BTreeMap<String, BTreeSet<Ipv4Addr>>,
}

impl Around {
    /// With what the kernel has.
    #[must_use]
    pub fn of(tunnel: Option<String>, listen_port: u16, actual: &Actual) -> Self {
        let mtus = actual.links.iter().map(|(name, link)| (name.clone(), link.mtu)).collect();
        let mut addresses: BTreeMap<String, BTreeSet<Ipv4Addr>> = BTreeMap::new();
        for (link, net, _) in &actual.addresses {
            if let IpAddr::V4(address) = net.address() {
                addresses.entry(link.clone()).or_default().insert(address);
            }
        }
        Self { tunnel, listen_port, mtus, addresses }
    }
}

/// The transaction that puts the firewall of `config` in force.
#[must_use]
pub fn ruleset(config: &NetworkConfig, around: &Around) -> String {
    if config.wan.is_empty() && config.lan.is_empty() {
        return NONE.to_owned();
    }
    let zones = Zones::of(config, around);
    let mut text = format!("{NONE}table inet {TABLE} {{\n");
    if let Some(most) = config.firewall.host_connections {
        for (suffix, kind, family) in [("4", "ipv4_addr", "ip"), ("6", "ipv6_addr", "ip6")] {
            let _ = writeln!(text, "set hosts_{suffix} {{ type {kind}; size 65536; flags dynamic; }}");
            let _ = writeln!(
                text,
                "chain limit_{suffix} {{ add @hosts_{suffix} {{ {family} saddr ct count over {most} }} counter drop; }}"
            );
        }
    }
    rules(&mut text, config, &zones);
    input(&mut text, around, &zones);
    forward(&mut text, config, &zones);
    translation(&mut text, config, &zones, around);
    segments(&mut text, config, around);
    marks(&mut text, config, around);
    text.push_str("}\n");
    text
}

/// The interfaces of each zone, as text for a rule; empty = none.
struct Zones<'a> {
    config: &'a NetworkConfig,
    wan: Vec<String>,
    lan: Vec<String>,
    vpn: Vec<String>,
}

impl<'a> Zones<'a> {
    fn of(config: &'a NetworkConfig, around: &Around) -> Self {
        Self {
            config,
            wan: config.wan.iter().flat_map(Wan::links).collect(),
            lan: config.lan.iter().map(Lan::bridge).collect(),
            vpn: around.tunnel.iter().filter(|name| is_plain(name)).cloned().collect(),
        }
    }

    /// None for a zone that nothing can match now; an empty text for everything.
    fn matching(&self, zone: &Zone, side: &str) -> Option<String> {
        match zone {
            Zone::Any | Zone::Box => Some(String::new()),
            Zone::Wan => interfaces(side, &self.wan),
            Zone::Lan => interfaces(side, &self.lan),
            Zone::Vpn => interfaces(side, &self.vpn),
            Zone::Named(name) => {
                let wan = self.config.wan.iter().filter(|wan| wan.name == *name).flat_map(Wan::links);
                let lan = self.config.lan.iter().filter(|lan| lan.name == *name).map(Lan::bridge);
                interfaces(side, &wan.chain(lan).collect::<Vec<_>>())
            }
        }
    }
}

fn interfaces(side: &str, names: &[String]) -> Option<String> {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    (!quoted.is_empty()).then(|| format!("{side} {{ {} }} ", quoted.join(", ")))
}

fn rules(text: &mut String, config: &NetworkConfig, zones: &Zones<'_>) {
    for (chain, to_box) in [("rules_input", true), ("rules_forward", false)] {
        let _ = writeln!(text, "chain {chain} {{");
        let here = config.firewall.rules.iter().filter(|rule| (rule.to == Zone::Box) == to_box);
        here.for_each(|rule| zone_rule(text, rule, zones));
        text.push_str("}\n");
    }
}

fn zone_rule(text: &mut String, rule: &ZoneRule, zones: &Zones<'_>) {
    let (Some(from), Some(to)) = (zones.matching(&rule.from, "iifname"), zones.matching(&rule.to, "oifname"))
    else {
        return;
    };
    let what = protocol(rule.protocol, &rule.ports);
    let verdict = match rule.action {
        RuleAction::Allow => "accept",
        RuleAction::Deny => "drop",
    };
    for (v6, family) in [(false, "ip"), (true, "ip6")] {
        let of = |nets: &[IpNet]| -> Vec<String> {
            let nets = nets.iter().filter(|net| net.address().is_ipv6() == v6);
            nets.map(|net| net.network().to_string()).collect()
        };
        let (sources, destinations) = (of(&rule.sources), of(&rule.destinations));
        if sources.is_empty() != rule.sources.is_empty()
            || destinations.is_empty() != rule.destinations.is_empty()
        {
            continue;
        }
        if rule.sources.is_empty() && rule.destinations.is_empty() && v6 {
            // The one without addresses is for both families.
            continue;
        }
        // A line for each pair: networks in one set must not overlap.
        let side = |nets: Vec<String>, side: &str| match nets.is_empty() {
            true => vec![String::new()],
            false => nets.iter().map(|net| format!("{family} {side} {net} ")).collect(),
        };
        for source in side(sources, "saddr") {
            for destination in side(destinations.clone(), "daddr") {
                let _ = writeln!(text, "{from}{to}{source}{destination}{what}counter {verdict}");
            }
        }
    }
}

/// What is for the box itself.
fn input(text: &mut String, around: &Around, zones: &Zones<'_>) {
    let mut line = |line: &str| text.push_str(&format!("{line}\n"));
    line("chain input {\ntype filter hook input priority filter; policy drop;");
    line("iifname \"lo\" accept\nct state established,related accept\nct state invalid counter drop");
    // Without these IPv6 has no neighbours and no routers (RFC 4890 §4.4.1).
    line(
        "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept",
    );
    line("icmpv6 type { mld-listener-query, mld-listener-report, mld2-listener-report } accept");
    line("jump rules_input");
    if let Some(wan) = interfaces("iifname", &zones.wan) {
        line(&format!("{wan}ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept"));
        line(&format!("{wan}udp sport 67 udp dport 68 accept"));
    }
    if around.listen_port != 0 {
        line(&format!("udp dport {} accept", around.listen_port));
    }
    let with = |wants: fn(&Lan) -> bool| {
        let lans = zones.config.lan.iter().filter(|lan| wants(lan)).map(Lan::bridge);
        interfaces("iifname", &lans.collect::<Vec<_>>())
    };
    if let Some(lan) = with(|lan| lan.dhcp.is_some()) {
        line(&format!("{lan}udp dport 67 accept"));
    }
    if let Some(lan) = with(|lan| lan.ipv6.is_some()) {
        line(&format!("{lan}udp dport 547 accept"));
    }
    if let Some(lan) = with(|_| true).filter(|_| zones.config.dns.is_some()) {
        line(&format!("{lan}udp dport 53 accept\n{lan}tcp dport 53 accept"));
    }
    if let Some(lan) = with(|lan| lan.page) {
        line(&format!("{lan}tcp dport {PAGE_PORT} accept"));
    }
    let near: Vec<String> = zones.lan.iter().chain(&zones.vpn).cloned().collect();
    if let Some(near) = interfaces("iifname", &near) {
        line(&format!("{near}icmp type echo-request accept\n{near}icmpv6 type echo-request accept"));
    }
    line("counter\n}");
}

/// What passes the box.
fn forward(text: &mut String, config: &NetworkConfig, zones: &Zones<'_>) {
    let mut line = |line: &str| text.push_str(&format!("{line}\n"));
    line("chain forward {\ntype filter hook forward priority filter; policy drop;");
    let near: Vec<String> = zones.lan.iter().chain(&zones.vpn).cloned().collect();
    if config.firewall.host_connections.is_some()
        && let Some(near) = interfaces("iifname", &near)
    {
        line(&format!("{near}ct state new meta nfproto ipv4 jump limit_4"));
        line(&format!("{near}ct state new meta nfproto ipv6 jump limit_6"));
    }
    line("ct state established,related accept\nct state invalid counter drop");
    line("jump rules_forward");
    line("ct status dnat accept");
    let pairs = [
        (&zones.lan, &zones.wan),
        (&zones.lan, &zones.vpn),
        (&zones.vpn, &zones.lan),
        (&zones.vpn, &zones.wan),
        (&zones.vpn, &zones.vpn),
    ];
    for (from, to) in pairs {
        if let (Some(from), Some(to)) = (interfaces("iifname", from), interfaces("oifname", to)) {
            line(&format!("{from}{to}accept"));
        }
    }
    for lan in &zones.lan {
        // Through a router that is in the same network.
        line(&format!("iifname \"{lan}\" oifname \"{lan}\" accept"));
    }
    line("counter\n}");
}

fn translation(text: &mut String, config: &NetworkConfig, zones: &Zones<'_>, around: &Around) {
    // A softwire leads to the provider's translator: not twice (RFC 6333 §4.2).
    let ports = config.wan.iter().flat_map(|wan| std::iter::once(wan.port.to_string()).chain(wan.session()));
    let ports: Vec<String> = ports.collect();
    let Some(out) = interfaces("oifname", &ports) else { return };
    text.push_str("chain destination {\ntype nat hook prerouting priority dstnat; policy accept;\n");
    for forward in &config.firewall.forwards {
        port_forward(text, forward, zones, around);
    }
    text.push_str("}\nchain source {\ntype nat hook postrouting priority srcnat; policy accept;\n");
    for lan in &config.lan {
        for net in lan.addresses.iter().filter(|net| net.address().is_ipv4()).map(IpNet::network) {
            // The host would answer its neighbour itself, who asked somebody else.
            let (bridge, both) = (lan.bridge(), format!("ip saddr {net} ip daddr {net}"));
            let _ = writeln!(text, "oifname \"{bridge}\" {both} ct status dnat masquerade");
        }
    }
    let _ = writeln!(text, "{out}meta nfproto ipv4 masquerade\n}}");
}

fn port_forward(text: &mut String, forward: &PortForward, zones: &Zones<'_>, around: &Around) {
    let zone = forward.wan.clone().map_or(Zone::Wan, Zone::Named);
    let Some(wan) = zones.matching(&zone, "iifname") else { return };
    let protocol = if forward.protocol == Protocol::Udp { "udp" } else { "tcp" };
    let port = forward.to_port.map_or_else(String::new, |port| format!(":{port}"));
    let what = format!("{protocol} dport {} counter dnat ip to {}{port}", forward.ports, forward.to);
    let sources: Vec<String> =
        forward.from.iter().map(|net| format!("ip saddr {} ", net.network())).collect();
    let everyone = [String::new()];
    // Local hosts know the service by the uplink's address, too.
    let wans =
        zones.config.wan.iter().filter(|wan| forward.wan.as_ref().is_none_or(|name| wan.name == *name));
    let own = wans.flat_map(Wan::links).filter_map(|link| around.addresses.get(&link)).flatten();
    let own: Vec<String> = own.map(ToString::to_string).collect();
    let inside = interfaces("iifname", &zones.lan).filter(|_| !own.is_empty());
    for source in if sources.is_empty() { &everyone[..] } else { &sources } {
        let _ = writeln!(text, "{wan}meta nfproto ipv4 {source}{what}");
        if let Some(lan) = &inside {
            let _ = writeln!(text, "{lan}ip daddr {{ {} }} {source}{what}", own.join(", "));
        }
    }
}

/// Hosts do not know that the path is narrower than their own network, and ICMP that would tell them is often lost:
/// the size of segments is cut in both directions, to what the narrow link carries.
fn segments(text: &mut String, config: &NetworkConfig, around: &Around) {
    text.push_str("chain segments {\ntype filter hook forward priority mangle; policy accept;\n");
    let mtu = |name: &String| around.mtus.get(name).copied();
    let tunnel = around.tunnel.iter().filter(|name| is_plain(name));
    let tunnel = tunnel.map(|name| (name.clone(), mtu(name).map(|mtu| mtu.min(inside(config, around)))));
    let lines = config.wan.iter().flat_map(Wan::links).map(|name| (name.clone(), mtu(&name)));
    for (name, mtu) in lines.chain(tunnel) {
        let Some(mtu) = mtu.filter(|mtu| (1280..=65535).contains(mtu)) else {
            continue;
        };
        for (family, headers) in [("ipv4", 40), ("ipv6", 60)] {
            for side in ["iifname", "oifname"] {
                // It only ever makes it smaller.
                let _ = writeln!(
                    text,
                    "{side} \"{name}\" meta nfproto {family} tcp flags syn / syn,rst tcp option maxseg size set {}",
                    mtu - headers
                );
            }
        }
    }
    text.push_str("}\n");
}

/// What fits into the tunnel's datagrams on the narrowest line, whichever carries them: IP, UDP and WireGuard's own 32
/// octets around it, its padding to 16. A client's own path may be narrower still, which the tunnel finds out and tells.
fn inside(config: &NetworkConfig, around: &Around) -> u32 {
    let of = |wan: &Wan| {
        let overhead = if wan.ipv6.is_some() { 80 } else { 60 };
        let links = wan.links().filter_map(|link| around.mtus.get(&link).copied());
        links.min().map(|mtu| mtu.saturating_sub(overhead) & !15)
    };
    config.wan.iter().filter_map(of).min().unwrap_or(u32::MAX).max(1280)
}

/// Answers leave by the uplink of their question, and the tunnel's own packets by an uplink and not by the tunnel.
fn marks(text: &mut String, config: &NetworkConfig, around: &Around) {
    if config.wan.is_empty() {
        return;
    }
    text.push_str("chain arriving {\ntype filter hook prerouting priority mangle; policy accept;\n");
    for (index, wan) in config.wan.iter().enumerate() {
        for link in wan.links() {
            let _ = writeln!(text, "iifname \"{link}\" ct state new ct mark set {:#x}", mark(index));
        }
    }
    for (index, _) in config.wan.iter().enumerate() {
        let _ = writeln!(text, "ct direction reply ct mark {0:#x} meta mark set {0:#x}", mark(index));
    }
    text.push_str("}\nchain leaving {\ntype route hook output priority mangle; policy accept;\n");
    if around.listen_port != 0 {
        let _ = writeln!(text, "udp sport {} meta mark set {TUNNEL_MARK:#x}", around.listen_port);
    }
    for (index, _) in config.wan.iter().enumerate() {
        let _ = writeln!(text, "ct direction reply ct mark {0:#x} meta mark set {0:#x}", mark(index));
    }
    text.push_str("}\n");
}

#[cfg(test)]
mod tests;
