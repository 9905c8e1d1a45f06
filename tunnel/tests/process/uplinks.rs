//! A host with two uplinks: which of them an answer takes, before and after one goes, and what the firewall mark
//! changes.

use lab::Namespace;

use crate::pair::{Implementation, Outer, Pair};
use Implementation::{Ours, WireguardGo};

/// Addresses of the end with two uplinks: the second one's, and its gateway's.
const SECOND: [&str; 2] = ["198.51.100.1", "2001:db8:1::1"];
const GATEWAY: [&str; 2] = ["198.51.100.254", "2001:db8:1::fe"];

/// Two ends with a router between them. The left one has a second uplink, `eth1`, which the router sees as
/// `second`; its routes prefer the first. The router counts the datagrams that come by each.
fn two_uplinks() -> (Pair, Namespace) {
    let (pair, router) = Pair::routed();
    let left = &pair.left.place;
    left.connect("eth1", &router, "second").unwrap();
    for (address, gateway) in SECOND.into_iter().zip(GATEWAY) {
        let length = if address.contains(':') { 128 } else { 32 };
        left.address("eth1", &[&format!("{address}/{length}")]).unwrap();
        router.address("second", &[&format!("{gateway}/{length}")]).unwrap();
        router.ip(&format!("route add {address}/{length} dev second")).unwrap();
        left.ip(&format!("route add {gateway} dev eth1")).unwrap();
        left.ip(&format!("route add default via {gateway} dev eth1 metric 4096")).unwrap();
    }
    router
        .nft(
            "table inet uplinks { counter left {}; counter second {}; \
               chain count { type filter hook prerouting priority 0; \
                 udp sport 51820 iifname left counter name left; \
                 udp sport 51820 iifname second counter name second; }; }",
        )
        .unwrap();
    (pair, router)
}

/// Datagrams that came by the first and by the second uplink since the last call.
fn taken(router: &Namespace) -> [u64; 2] {
    ["left", "second"].map(|name| {
        let text = router.output("nft", &["reset", "counter", "inet", "uplinks", name]).unwrap();
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse().unwrap()
    })
}

#[test]
fn an_answer_takes_the_uplink_of_the_question_as_long_as_there_is_one() {
    for (outer, second) in [(Outer::V4, "198.51.100.1:51820"), (Outer::V6, "[2001:db8:1::1]:51820")] {
        let (pair, router) = two_uplinks();
        if matches!(outer, Outer::V6) {
            // To the kernel's IPv6 the interface of a datagram with a source is a wish that comes after the
            // metric, so a host with two uplinks has a rule for each of its addresses.
            pair.left.place.ip(&format!("-6 rule add from {} table 78", SECOND[1])).unwrap();
            let route = format!("-6 route add default via {} dev eth1 table 78", GATEWAY[1]);
            pair.left.place.ip(&route).unwrap();
        }
        pair.left.start(Ours);
        pair.configure(&pair.left, &pair.right, None);
        pair.left.bring_up();
        pair.right.start(WireguardGo);
        pair.configure(&pair.right, &pair.left, Some(outer));
        pair.right.set(&["peer", &pair.left.public_key, "endpoint", second]);
        pair.right.bring_up();
        pair.right.expect_ping(&pair.left.inner_v4());
        pair.left.expect_ping(&pair.right.inner_v4());
        let [by_first, by_second] = taken(&router);
        assert!(by_first == 0 && by_second >= 3, "{by_first} by the first uplink, {by_second} by the second");

        pair.left.place.ip("link set eth1 down").unwrap();
        pair.left.expect_ping(&pair.right.inner_v4());
        let [by_first, by_second] = taken(&router);
        assert!(by_first > 0 && by_second == 0, "{by_first} by the first uplink, {by_second} by the second");
        let endpoint = pair.right.show("endpoints");
        assert!(endpoint.ends_with(&pair.left.endpoint(outer)), "{endpoint}");
    }
}

#[test]
fn a_question_without_a_way_back_is_answered_by_another() {
    let (pair, router) = two_uplinks();
    // What comes by the second uplink has no route back there: a network that is not symmetric.
    let left = &pair.left.place;
    left.ip(&format!("route del default via {} dev eth1 metric 4096", GATEWAY[0])).unwrap();
    for interface in ["all", "eth1"] {
        left.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
    }
    pair.left.start(Ours);
    pair.configure(&pair.left, &pair.right, None);
    pair.left.bring_up();
    pair.right.start(WireguardGo);
    pair.configure(&pair.right, &pair.left, Some(Outer::V4));
    pair.right.set(&["peer", &pair.left.public_key, "endpoint", "198.51.100.1:51820"]);
    pair.right.bring_up();
    pair.right.expect_ping(&pair.left.inner_v4());
    let [by_first, _] = taken(&router);
    assert!(by_first >= 2, "{by_first}");
    // The address is still the one that was written to.
    let endpoint = pair.right.show("endpoints");
    assert!(endpoint.ends_with("198.51.100.1:51820"), "{endpoint}");
}

#[test]
fn the_firewall_mark_chooses_the_uplink() {
    let (pair, router) = two_uplinks();
    for (family, gateway) in ["-4", "-6"].into_iter().zip(GATEWAY) {
        pair.left.place.ip(&format!("{family} route add default via {gateway} dev eth1 table 77")).unwrap();
        pair.left.place.ip(&format!("{family} rule add fwmark 0x51 table 77")).unwrap();
    }
    for outer in [Outer::V4, Outer::V6] {
        if matches!(outer, Outer::V4) {
            pair.start_ends(Ours, WireguardGo, outer);
        } else {
            pair.left.set(&["fwmark", "off"]);
            pair.left.set(&["peer", &pair.right.public_key, "endpoint", &pair.right.endpoint(outer)]);
        }
        pair.left.expect_ping(&pair.right.inner_v4());
        taken(&router);
        pair.left.expect_ping(&pair.right.inner_v4());
        let [by_first, by_second] = taken(&router);
        assert!(by_first > 0 && by_second == 0, "{by_first} by the first uplink, {by_second} by the second");
        // The very next packet goes the other way.
        pair.left.set(&["fwmark", "0x51"]);
        taken(&router);
        pair.left.expect_ping(&pair.right.inner_v4());
        let [by_first, by_second] = taken(&router);
        assert!(by_first == 0 && by_second > 0, "{by_first} by the first uplink, {by_second} by the second");
    }
}

#[test]
fn a_mark_set_later_moves_a_peer_that_was_answered_before() {
    let (pair, router) = two_uplinks();
    pair.left.place.ip(&format!("route add default via {} dev eth1 table 77", GATEWAY[0])).unwrap();
    pair.left.place.ip("rule add fwmark 0x51 table 77").unwrap();
    pair.left.start(Ours);
    pair.configure(&pair.left, &pair.right, None);
    pair.left.bring_up();
    pair.right.start(WireguardGo);
    pair.configure(&pair.right, &pair.left, Some(Outer::V4));
    pair.right.bring_up();
    pair.right.expect_ping(&pair.left.inner_v4());
    assert_eq!(taken(&router)[1], 0);
    pair.left.set(&["fwmark", "0x51"]);
    taken(&router);
    pair.left.expect_ping(&pair.right.inner_v4());
    let [by_first, by_second] = taken(&router);
    assert!(by_first == 0 && by_second > 0, "{by_first} by the first uplink, {by_second} by the second");
}
