//! The configuration file of `dnsmasq`: addresses and names for the hosts of the local networks.
//!
//! Everything in it is a number, an address, or a name whose characters the contract checked.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use verona_contract::config::NetworkConfig;
use verona_contract::config::network::Lan;
use verona_contract::config::network::services::{Dns, LanDhcp};

/// The text; none when no local network wants anything. `uplinks` are the uplinks' name servers.
#[must_use]
pub fn dnsmasq(config: &NetworkConfig, uplinks: &[IpAddr]) -> Option<String> {
    let dhcp = config.lan.iter().any(|lan| lan.dhcp.is_some());
    let ipv6 = config.lan.iter().any(|lan| lan.ipv6.is_some());
    if config.lan.is_empty() || !(dhcp || ipv6 || config.dns.is_some()) {
        return None;
    }
    let mut text =
        String::from("no-resolv\nno-hosts\nbind-dynamic\nexcept-interface=lo\nuser=nobody\ngroup=nogroup\n");
    for lan in &config.lan {
        let _ = writeln!(text, "interface={}", lan.bridge());
    }
    match &config.dns {
        Some(dns) => names(&mut text, dns, uplinks),
        None => text.push_str("port=0\n"),
    }
    if dhcp {
        text.push_str("dhcp-authoritative\nlog-dhcp\n");
    }
    for lan in config.lan.iter().filter(|lan| lan.ipv6.is_some()) {
        // Whatever network the bridge has then, and an end to it within minutes when the provider changes it.
        let _ = writeln!(text, "dhcp-range=::,constructor:{},ra-stateless,64,600", lan.bridge());
    }
    if ipv6 {
        text.push_str("enable-ra\n");
        if config.dns.is_some() {
            text.push_str("dhcp-option=option6:dns-server,[::]\n");
        }
    }
    for lan in &config.lan {
        if let Some(dhcp) = &lan.dhcp {
            addresses(&mut text, lan, dhcp, config.dns.is_none().then_some(uplinks));
        }
    }
    Some(text)
}

fn names(text: &mut String, dns: &Dns, uplinks: &[IpAddr]) {
    // A name from outside must not lead to a host inside (DNS rebinding).
    text.push_str("cache-size=2000\ndomain-needed\nbogus-priv\nstop-dns-rebind\n");
    let servers = if dns.servers.is_empty() { uplinks } else { &dns.servers };
    for server in servers {
        let _ = writeln!(text, "server={server}");
    }
    for split in &dns.split {
        let domain = &split.domain;
        let _ = writeln!(text, "rebind-domain-ok=/{domain}/");
        if split.servers.is_empty() {
            let _ = writeln!(text, "local=/{domain}/");
        }
        for server in &split.servers {
            let _ = writeln!(text, "server=/{domain}/{server}");
        }
    }
    for host in &dns.hosts {
        let _ = writeln!(text, "host-record={},{}", host.name, host.address);
    }
}

/// `servers`: hosts are sent to these for names, since the box answers none.
fn addresses(text: &mut String, lan: &Lan, dhcp: &LanDhcp, servers: Option<&[IpAddr]>) {
    let (name, LanDhcp { first, last, lease_s, reservations }) = (&lan.name, dhcp);
    // The contract's check wants one.
    let Some(net) = LanDhcp::network(lan) else { return };
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(net.prefix())).unwrap_or(0));
    let _ = writeln!(text, "dhcp-range=set:{name},{first},{last},{mask},{lease_s}");
    let servers = servers.unwrap_or_default().iter().filter(|server| server.is_ipv4());
    let servers: Vec<String> = servers.map(ToString::to_string).collect();
    if !servers.is_empty() {
        let _ = writeln!(text, "dhcp-option=tag:{name},option:dns-server,{}", servers.join(","));
    }
    for one in reservations {
        let _ = writeln!(text, "dhcp-host={},{}", one.mac, one.address);
    }
}

/// Reads a line of its log: the lease that it gave, as address, hardware address, and name if it has one.
#[must_use]
pub fn given(line: &str) -> Option<(IpAddr, &str, Option<&str>)> {
    let mut words = line.split_once("DHCPACK(")?.1.split_once(") ")?.1.split_ascii_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?, words.next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::config::EdgeConfig;

    fn golden() -> NetworkConfig {
        let json = include_bytes!("../../../../contract/tests/golden/edge-config-network.json");
        EdgeConfig::parse(json).unwrap().network
    }

    #[test]
    fn the_text() {
        let text = dnsmasq(&golden(), &[[192, 0, 2, 53].into()]).unwrap();
        for line in [
            "interface=br-office",
            "dhcp-range=set:office,192.168.77.100,192.168.77.199,255.255.255.0,43200",
            "dhcp-host=02:00:5e:10:00:01,192.168.77.20",
            "server=192.0.2.53",
            "server=/corp.example/10.20.0.53",
            "rebind-domain-ok=/corp.example/",
            "host-record=printer.office,192.168.77.20",
            "dhcp-range=::,constructor:br-guests,ra-stateless,64,600",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} in {text}");
        }
        let mut own = golden();
        own.dns.as_mut().unwrap().servers = vec![[9, 9, 9, 9].into()];
        let text = dnsmasq(&own, &[[192, 0, 2, 53].into()]).unwrap();
        assert!(text.contains("\nserver=9.9.9.9\n") && !text.contains("192.0.2.53"), "{text}");
    }

    #[test]
    fn nothing_listens_that_nobody_asked_for() {
        let mut config = golden();
        config.dns = None;
        let text = dnsmasq(&config, &[[192, 0, 2, 53].into()]).unwrap();
        assert!(text.contains("\nport=0\n") && !text.contains("server=/"), "{text}");
        assert!(text.contains("dhcp-option=tag:office,option:dns-server,192.0.2.53"), "{text}");
        config.lan.iter_mut().for_each(|lan| (lan.dhcp, lan.ipv6) = (None, None));
        assert_eq!(dnsmasq(&config, &[]), None);
    }

    #[test]
    fn leases_in_the_log() {
        let line = "dnsmasq-dhcp[7]: 123 DHCPACK(br-office) 192.168.77.120 02:00:5e:10:00:02 desk";
        assert_eq!(given(line), Some(([192, 168, 77, 120].into(), "02:00:5e:10:00:02", Some("desk"))));
        let nameless = "dnsmasq-dhcp: DHCPACK(br-office) 192.168.77.121 02:00:5e:10:00:03";
        assert_eq!(given(nameless).map(|(_, _, name)| name), Some(None));
        for other in ["dnsmasq-dhcp: DHCPREQUEST(br-office) 192.168.77.121 02:00:5e:10:00:03", "DHCPACK(", ""]
        {
            assert_eq!(given(other), None, "{other}");
        }
    }
}
