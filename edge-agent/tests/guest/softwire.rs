//! DS-Lite (RFC 6333): IPv4 of a local network through a tunnel in IPv6 to the provider's translator, whose name Kea
//! tells and dnsmasq resolves. The translator is the kernel's own tunnel with NAT.

use crate::agent::{Agent, SOON};
use crate::ipv6::{kea, routers};
use lab::{Namespace, Run, wait};
use serde_json::json;
use std::time::Duration;

/// DHCPv6, the name, the tunnel.
const SOME_TIME: Duration = Duration::from_secs(40);

/// The translator's end of the tunnel to `line`, and the internet behind it.
fn translator(place: &Namespace, line: &str) {
    place
        .ip(&format!("link add softwire type ip6tnl mode ipip6 local 2001:db8:ff::1 remote {line}"))
        .unwrap();
    place.address("softwire", &["192.0.0.1/29"]).unwrap();
    place.ip("link set softwire up").unwrap();
    place.ip("route add 192.168.77.0/24 dev softwire").unwrap();
    place.address("lo", &["203.0.113.80/32"]).unwrap();
    let nat = "type nat hook postrouting priority srcnat; oifname != \"softwire\" masquerade;";
    let told = "type filter hook prerouting priority 0; iifname \"softwire\" ip saddr 192.168.77.9 counter;";
    place.nft(&format!("table ip aftr {{\nchain out {{ {nat} }}\nchain told {{ {told} }}\n}}")).unwrap();
}

#[test]
#[ignore = "runs in a guest"]
fn ipv4_reaches_the_internet_through_the_providers_ipv6() {
    let run = Run::start().unwrap();
    let place = |name: &str| run.namespace(name).unwrap();
    let (edge, provider, office) = (place("edge"), place("provider"), place("office"));
    edge.connect("p0", &provider, "far").unwrap();
    edge.connect("p1", &office, "far").unwrap();
    provider.address("far", &["2001:db8:ff::1/64", "2001:db8:ff::53/64"]).unwrap();
    provider.forward().unwrap();
    office.address("far", &["192.168.77.9/24"]).unwrap();
    office.ip("route add default via 192.168.77.1").unwrap();
    let _routers = routers(&provider);
    let _kea = kea(&provider, "2001:db8:1200::");
    let mut names = provider.command("dnsmasq");
    names.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"]);
    names.args([
        "--user=root",
        "--host-record=aftr.example,2001:db8:ff::1",
        "--bind-interfaces",
        "--interface=far",
    ]);
    let _names = run.start_process("names", names).unwrap();

    let mut agent = Agent::start(&edge);
    // What the box's programs ask for names is beside the network's folder: the image links to it.
    let _ = std::fs::remove_file("/etc/resolv.conf");
    std::os::unix::fs::symlink(run.dir().join("resolv.conf"), "/etc/resolv.conf").unwrap();
    let config = json!({
        "wan": [{ "name": "fiber", "port": "p0", "ipv4": { "ds-lite": {} }, "ipv6": "auto" }],
        "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24"] }],
    });
    assert_eq!(agent.order(1, config), []);
    agent.comes("an address by DHCPv6", "-6 addr show p0", "2001:db8:ff::1");
    let shown = || agent.ip("-d link show type ip6tnl");
    wait::until("the softwire", SOME_TIME, || shown().contains("remote 2001:db8:ff::1")).unwrap_or_else(
        |error| panic!("{error}: {}\n{:?}", shown(), std::fs::read_to_string("/etc/resolv.conf")),
    );
    assert!(shown().contains("encaplimit none") && shown().contains("mtu 1460"), "{}", shown());
    let line =
        shown().split_once("remote 2001:db8:ff::1 local ").unwrap().1.split(' ').next().unwrap().to_owned();
    translator(&provider, &line);
    wait::until("the internet, from a host", SOON, || {
        office.output("ping", &["-c1", "-W3", "203.0.113.80"]).is_ok()
    })
    .unwrap();
    // Translating twice would make two users one, and the translator's records useless.
    let told = provider.output("nft", &["list", "chain", "ip", "aftr", "told"]).unwrap();
    assert!(told.contains("counter packets") && !told.contains("packets 0"), "{told}");

    // Someone takes the softwire away: it is back, and with it the way out.
    edge.ip("link del ds-fiber").unwrap();
    agent.comes("the way out again", "route show", "default dev ds-fiber");
    // The line without IPv4: nothing of it stays.
    let config = json!({ "wan": [{ "name": "fiber", "port": "p0", "ipv6": "auto" }] });
    assert_eq!(agent.order(2, config), []);
    assert!(!agent.ip("link show").contains("ds-fiber"));
}
