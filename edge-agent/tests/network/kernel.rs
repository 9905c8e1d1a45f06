//! Links, addresses, routes and rules against a real kernel.

use crate::agent::{Agent, SOON};
use lab::{Namespace, Run, wait};
use serde_json::{Value, json};

/// A box with two ports, `p0` and `p1`, each with a cable to a namespace of its own.
fn two_ports(run: &Run) -> (Namespace, [Namespace; 2]) {
    let (edge, one, two) =
        (run.namespace("edge").unwrap(), run.namespace("one").unwrap(), run.namespace("two").unwrap());
    edge.connect("p0", &one, "far").unwrap();
    edge.connect("p1", &two, "far").unwrap();
    (edge, [one, two])
}

fn office() -> Value {
    json!({
        "wan": [{ "name": "fiber", "port": "p0",
                  "ipv4": { "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } },
                  "ipv6": { "static": { "address": "2001:db8::2/64", "gateway": "2001:db8::1" } } }],
        "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24", "fd00:77::1/64"] }],
        "routes": [{ "to": "10.20.0.0/16", "via": "192.168.77.254" }],
    })
}

#[test]
fn a_configuration_is_carried_out_and_taken_back() {
    let run = Run::start().unwrap();
    let (edge, [provider, desk]) = two_ports(&run);
    provider.address("far", &["192.0.2.1/24", "2001:db8::1/64"]).unwrap();
    desk.address("far", &["192.168.77.9/24"]).unwrap();
    edge.address("p0", &["203.0.113.9/32"]).unwrap();
    edge.ip("route add 10.66.0.0/16 dev p0").unwrap();
    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, office()), []);
    for (arguments, texts) in [
        ("addr show br-office", &["inet 192.168.77.1/24", "inet6 fd00:77::1/64", ",UP", "group 119"][..]),
        ("link show p1", &["master br-office", ",UP"]),
        ("addr show p0", &["inet 192.0.2.2/24", "inet6 2001:db8::2/64", "203.0.113.9"]),
        (
            "route show",
            &["default via 192.0.2.1 dev p0 proto 119", "10.20.0.0/16 via 192.168.77.254 dev br-office"],
        ),
        ("-6 route show", &["default via 2001:db8::1 dev p0 proto 119"]),
        ("rule show", &["from 192.0.2.2 lookup 1191", "suppress_prefixlength 0"]),
        ("route show table 1191", &["default via 192.0.2.1"]),
    ] {
        let shown = agent.ip(arguments);
        texts.iter().for_each(|text| assert!(shown.contains(text), "{arguments}: {text} in {shown}"));
    }
    desk.output("ping", &["-c1", "-W5", "192.168.77.1"]).unwrap();
    edge.output("ping", &["-c1", "-W5", "192.0.2.1"]).unwrap();

    // The agent restarts: nothing changes. A new configuration: what it leaves out goes, what is foreign stays.
    drop(agent);
    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, office()), []);
    assert_eq!(agent.noted("network.changed"), 0, "there was nothing to do");
    assert_eq!(agent.order(2, json!({})), []);
    assert_eq!(agent.ip("rule show").lines().count(), 3, "{}", agent.ip("rule show"));
    assert!(!agent.ip("link show").contains("br-office"));
    let (addresses, routes) = (agent.ip("addr show p0"), agent.ip("route show"));
    assert!(addresses.contains("203.0.113.9") && !addresses.contains("192.0.2.2"), "{addresses}");
    assert!(routes.contains("10.66.0.0/16") && !routes.contains("default"), "{routes}");
}

#[test]
fn what_somebody_else_takes_away_comes_back() {
    let run = Run::start().unwrap();
    let (edge, _far) = two_ports(&run);
    let mut agent = Agent::start(&edge);
    assert_eq!(agent.order(1, office()), []);
    edge.ip("addr del 192.168.77.1/24 dev br-office").unwrap();
    agent.comes("the address", "addr show br-office", "192.168.77.1/24");
    edge.ip("route del default").unwrap();
    agent.comes("the default route", "route show", "default via 192.0.2.1");
    agent.comes("the route through the router", "route show", "10.20.0.0/16");
    edge.ip("link set p1 nomaster").unwrap();
    agent.comes("the port", "link show p1", "master br-office");
    edge.ip("link del br-office").unwrap();
    agent.comes("the bridge", "addr show", "192.168.77.1/24");
    agent.comes("the port of the new bridge", "link show p1", "master br-office");
    edge.ip("link set p0 down").unwrap();
    agent.comes("the uplink", "link show p0", ",UP");
    agent.comes("its address of IPv6", "addr show p0", "2001:db8::2/64");
    agent.comes("its route", "-6 route show", "default via 2001:db8::1");
    edge.ip("rule del priority 1200").unwrap();
    agent.comes("the rule", "rule show", "from 192.0.2.2 lookup 1191");
    wait::until("a record of each", SOON, || agent.noted("network.repaired") >= 5).unwrap();
}

#[test]
fn what_cannot_be_done_is_named_and_the_rest_is_done() {
    let run = Run::start().unwrap();
    let (edge, _far) = two_ports(&run);
    // A foreign interface has the bridge's name.
    edge.ip("link add br-guests type veth peer name other").unwrap();
    let mut agent = Agent::start(&edge);
    let rejected = agent.order(
        1,
        json!({
            "lan": [{ "name": "office", "ports": ["p1", "usb0"], "addresses": ["192.168.77.1/24"] },
                    { "name": "guests", "ports": [], "addresses": ["192.168.78.1/24"] }],
        }),
    );
    let find = |path: &str| rejected.iter().find(|one| one.path == path).map(|one| one.reason.as_str());
    assert_eq!(find("network.lan[0].ports[1]"), Some("there is no interface usb0"), "{rejected:?}");
    let reason = find("network.lan[1]").unwrap();
    assert!(reason.starts_with("cannot make bridge br-guests: File exists"), "{reason}");
    assert!(agent.ip("addr show br-office").contains("192.168.77.1/24"));
    // It is plugged in later, and the name becomes free.
    edge.ip("link add usb0 type veth peer name cable").unwrap();
    agent.comes("the port", "link show usb0", "master br-office");
    edge.ip("link del br-guests").unwrap();
    agent.comes("the bridge", "addr show", "192.168.78.1/24");
    wait::until("a clean report", SOON, || {
        agent.reports.newest().is_some_and(|report| report.rejected.is_empty())
    })
    .unwrap();
}
