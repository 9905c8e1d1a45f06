//! IPv6 as a provider gives it: router advertisements by radvd, an address and a prefix by Kea, and hosts behind.

use crate::agent::{Agent, SOON};
use lab::{Namespace, Process, Run, wait};
use serde_json::{Value, json};
use std::net::Ipv6Addr;
use std::time::Duration;

const SOME_TIME: Duration = Duration::from_secs(15);

pub(crate) fn routers(place: &Namespace) -> Process {
    let run = place.run();
    let config = run.dir().join("radvd.conf");
    let text =
        "interface far { AdvSendAdvert on; AdvManagedFlag on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
        prefix 2001:db8:ff::/64 { AdvAutonomous on; }; };";
    std::fs::write(&config, text).unwrap();
    let mut command = place.command("radvd");
    command.args(["--nodaemon", "--logmethod", "stderr", "--config"]).arg(config);
    command.arg("--pidfile").arg(run.dir().join("radvd.pid"));
    run.start_process("radvd", command).unwrap()
}

pub(crate) fn kea(place: &Namespace, pool: &str) -> Process {
    let run = place.run();
    let leases = run.dir().join("kea-leases.csv");
    let config = json!({ "Dhcp6": {
        "data-directory": run.dir(),
        "interfaces-config": { "interfaces": ["far"] },
        "lease-database": { "type": "memfile", "persist": false, "name": leases },
        "valid-lifetime": 300, "preferred-lifetime": 200, "renew-timer": 100, "rebind-timer": 160,
        "option-data": [{ "name": "dns-servers", "data": "2001:db8:ff::53" },
            { "code": 64, "name": "aftr-name", "data": "aftr.example" }],
        "loggers": [{ "name": "kea-dhcp6", "output_options": [{ "output": "stderr" }], "severity": "INFO" }],
        "subnet6": [{ "id": 1, "subnet": "2001:db8:ff::/64", "interface": "far",
            "pools": [{ "pool": "2001:db8:ff::1000-2001:db8:ff::1fff" }],
            "pd-pools": [{ "prefix": pool, "prefix-len": 40, "delegated-len": 56 }] }],
    }});
    let path = run.dir().join("kea.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = place.command("kea-dhcp6");
    command.arg("-c").arg(path).env("KEA_PIDFILE_DIR", run.dir()).env("KEA_LOCKFILE_DIR", run.dir());
    let mut process = run.start_process("kea", command).unwrap();
    process.wait_for_log("DHCP6_STARTED", SOME_TIME).unwrap();
    process
}

fn by_the_provider() -> Value {
    json!({
        "wan": [{ "name": "fiber", "port": "p0", "ipv6": "auto" }],
        "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24"],
                  "ipv6": { "from": "fiber", "subnet": 3 } }],
    })
}

/// The word after `before` in what `ip` shows, if it contains `part`.
fn word(shown: &str, before: &str, part: &str) -> Option<String> {
    let mut words = shown.split_ascii_whitespace();
    while let Some(one) = words.next() {
        if one == before
            && let Some(next) = words.next().filter(|next| next.contains(part))
        {
            return Some(next.to_owned());
        }
    }
    None
}

#[test]
fn a_prefix_of_the_provider_reaches_the_hosts() {
    let run = Run::start().unwrap();
    let place = |name: &str| run.namespace(name).unwrap();
    let (edge, provider, office) = (place("edge"), place("provider"), place("office"));
    edge.connect("p0", &provider, "far").unwrap();
    edge.connect("p1", &office, "far").unwrap();
    provider.address("far", &["2001:db8:ff::1/64"]).unwrap();
    provider.forward().unwrap();
    let _routers = routers(&provider);
    let mut server = kea(&provider, "2001:db8:1200::");
    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, by_the_provider()), []);
    let shown = |arguments: &str| agent.ip(arguments);
    agent.comes("an address by DHCPv6", "-6 addr show p0", "2001:db8:ff::1");
    let given = wait::for_value("a network for the office", SOME_TIME, || {
        Ok(word(&shown("-6 addr show br-office"), "inet6", "2001:db8:12"))
    });
    let given = given.unwrap();
    let address: Ipv6Addr = given.trim_end_matches("/64").parse().unwrap();
    assert_eq!((address.segments()[3] & 0xff, address.segments()[7]), (3, 1), "{given}: the fourth network");
    agent.comes("the way out", "-6 route show", "proto 119 metric 1");
    agent.comes("the line's own table", "-6 route show table 1191", "default via fe80::");

    // The provider sends the prefix to the box. Hosts hear of their network when they come up.
    let line = word(&shown("-6 addr show p0"), "inet6", "fe80::").unwrap();
    provider
        .ip(&format!("route add 2001:db8:1200::/40 via {} dev far", line.trim_end_matches("/64")))
        .unwrap();
    office.sysctl("net/ipv6/conf/far/accept_ra", "1").unwrap();
    wait::until("the internet, from a host", SOME_TIME * 2, || {
        let _ = office.ip("link set far down").and_then(|()| office.ip("link set far up"));
        let told = || {
            office.output("ip", &["-6", "route"]).is_ok_and(|routes| routes.contains("default via fe80::"))
        };
        wait::until("a router", SOON, told).is_ok()
            && office.output("ping", &["-6", "-c1", "-W5", "2001:db8:ff::1"]).is_ok()
    })
    .unwrap();

    // The server is gone and the agent restarts: what was given still is.
    server.crash().unwrap();
    drop(agent);
    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, by_the_provider()), []);
    assert!(agent.ip("-6 addr show br-office").contains(&given));
    assert_eq!(agent.noted("network.changed"), 0, "nothing changed");
    // Nobody wants IPv6 any more: all of it goes.
    assert_eq!(agent.order(2, json!({ "wan": [{ "name": "fiber", "port": "p0" }] })), []);
    let left = agent.ip("-6 route show");
    assert!(!left.contains("proto 119"), "{left}");
}
