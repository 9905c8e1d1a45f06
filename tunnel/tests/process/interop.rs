//! Traffic with Debian's wireguard-go and with ourselves: either side first, either family outside,
//! both inside; roaming, new ports and other namespaces while it flows.

use std::net::SocketAddr;
use std::time::Duration;

use lab::{Flow, wait};

use crate::pair::{Implementation, Outer, PATIENCE, Pair, sockets_of_ours};
use Implementation::{Ours, WireguardGo};

fn exchange(left: Implementation, right: Implementation, outer: Outer) {
    let pair = Pair::start(left, right, outer);
    pair.expect_traffic();
    for (end, other) in [(&pair.left, &pair.right), (&pair.right, &pair.left)] {
        let dump = end.show("dump");
        let peer: Vec<&str> = dump.lines().nth(1).unwrap().split('\t').collect();
        assert_eq!(peer[0], other.public_key);
        assert_eq!(peer[2], other.endpoint(outer), "{dump}");
        let [handshake, received, sent] = [4, 5, 6].map(|column: usize| peer[column].parse::<u64>().unwrap());
        assert!(handshake > 1_600_000_000, "{dump}");
        assert!(received > 200 && sent > 200, "{dump}");
    }
}

#[test]
fn we_initiate_to_wireguard_go_over_ipv4() {
    exchange(Ours, WireguardGo, Outer::V4);
}

#[test]
fn we_initiate_to_wireguard_go_over_ipv6() {
    exchange(Ours, WireguardGo, Outer::V6);
}

#[test]
fn wireguard_go_initiates_to_us_over_ipv4() {
    exchange(WireguardGo, Ours, Outer::V4);
}

#[test]
fn wireguard_go_initiates_to_us_over_ipv6() {
    exchange(WireguardGo, Ours, Outer::V6);
}

#[test]
fn we_talk_to_ourselves_over_both_families() {
    exchange(Ours, Ours, Outer::V4);
    exchange(Ours, Ours, Outer::V6);
}

#[test]
fn large_packets_pass_in_both_directions() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V6);
    pair.expect_traffic();
    // 1392 octets of data, 8 of ICMP, 20 of IP: the whole MTU of 1420, without fragments inside.
    for (from, to) in [(&pair.left, &pair.right), (&pair.right, &pair.left)] {
        let arguments = ["-n", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do", "-s", "1392", &to.inner_v4()];
        from.place.output("ping", &arguments).unwrap();
    }
    let too_large = ["-n", "-c", "1", "-W", "1", "-M", "do", "-s", "1393", &pair.right.inner_v4()];
    assert!(pair.left.place.output("ping", &too_large).is_err());
}

#[test]
fn a_peer_that_roams_is_followed() {
    for (roams, stays) in [(WireguardGo, Ours), (Ours, WireguardGo)] {
        let pair = Pair::start(roams, stays, Outer::V4);
        pair.expect_traffic();
        assert_eq!(pair.right.show("endpoints").split('\t').nth(1), Some("192.0.2.1:51820"));
        pair.left.place.address("eth0", &["192.0.2.77/24"]).unwrap();
        pair.left.place.ip("addr del 192.0.2.1/24 dev eth0").unwrap();
        // Deleting a primary address takes its secondaries with it.
        let _ = pair.left.place.ip("addr add 192.0.2.77/24 dev eth0");
        pair.left.expect_ping(&pair.right.inner_v4());
        assert_eq!(pair.right.show("endpoints").split('\t').nth(1), Some("192.0.2.77:51820"), "{stays:?}");
        // And back the other way, without the roamer sending first.
        pair.right.expect_ping(&pair.left.inner_v4());
    }
}

#[test]
fn the_listen_port_changes_under_traffic() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    let to: SocketAddr = format!("{}:7000", pair.right.inner_v4()).parse().unwrap();
    let flow = Flow::start(&pair.left.place, &pair.right.place, to, Duration::from_millis(2)).unwrap();
    let arrived = || flow.balance().arrivals.count;
    for port in [4001, 4002, 0, 4003, 0, 51_820] {
        pair.left.set(&["listen-port", &port.to_string()]);
        let now = pair.left.show("listen-port");
        assert!(port == 0 || now == port.to_string(), "{now}");
        assert_ne!(now, "0");
        let before = arrived();
        wait::until("datagrams from the new port", PATIENCE, || arrived() > before + 20).unwrap();
        let endpoint = format!("192.0.2.1:{now}");
        let seen = || pair.right.show("endpoints").ends_with(&endpoint);
        wait::until("the new port at the other end", PATIENCE, seen).unwrap();
        // Both families have it.
        let sockets = pair.left.place.output("ss", &["-Hnlu", "sport", "=", &format!(":{now}")]).unwrap();
        assert_eq!(sockets.lines().count(), sockets_of_ours(), "{sockets}");
    }
    let balance = flow.finish(Duration::from_secs(2));
    // What the old socket held may go; the flow must not stop. 500 a second are sent.
    assert!(balance.arrivals.longest_gap < Duration::from_secs(1), "{balance:?}");
    assert!(balance.lost() * 20 < balance.sent, "{balance:?}");
}

#[test]
fn an_interface_moved_to_another_namespace_keeps_its_sockets_where_it_was_made() {
    let pair = Pair::new();
    let inside = pair.run.namespace("inside").unwrap();
    pair.right.start(WireguardGo);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    pair.left.start(Ours);
    pair.configure(&pair.left, &pair.right, Some(Outer::V4));
    let name = &pair.left.interface;
    pair.left.place.ip(&format!("link set {name} netns {}", inside.name())).unwrap();
    pair.left.bring_up_in(&inside);
    let ping = ["-n", "-c", "1", "-W", "1", &pair.right.inner_v4()];
    wait::until("an answer inside", PATIENCE, || inside.output("ping", &ping).is_ok()).unwrap();
    // Still configurable, still in the first namespace, and so after a new port.
    pair.left.set(&["listen-port", "4711"]);
    wait::until("an answer inside", PATIENCE, || inside.output("ping", &ping).is_ok()).unwrap();
    let sockets = |place: &lab::Namespace| place.output("ss", &["-Hnlu", "sport", "=", ":4711"]).unwrap();
    assert_eq!(sockets(&pair.left.place).lines().count(), sockets_of_ours());
    assert_eq!(sockets(&inside), "");
    inside.ip(&format!("link del {name}")).unwrap();
    pair.left.expect_gone();
}

#[test]
fn the_firewall_mark_is_on_both_sockets_and_follows_a_new_port() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    let marks = |mark: &str| {
        let port = format!(":{}", pair.left.show("listen-port"));
        let sockets = pair.left.place.output("ss", &["-Hnlue", "sport", "=", &port]).unwrap();
        sockets.lines().filter(|line| line.contains(mark)).count()
    };
    assert_eq!(marks("fwmark:"), 0);
    pair.left.set(&["fwmark", "0x51"]);
    assert_eq!(marks("fwmark:0x51"), sockets_of_ours());
    pair.left.set(&["listen-port", "4001"]);
    assert_eq!(marks("fwmark:0x51"), sockets_of_ours());
    pair.left.set(&["listen-port", "4002", "fwmark", "0x52"]);
    assert_eq!(marks("fwmark:0x52"), sockets_of_ours());
    pair.expect_traffic();
    pair.left.set(&["fwmark", "off"]);
    assert_eq!(marks("fwmark:"), 0);
}

#[test]
fn we_answer_from_the_address_that_was_written_to() {
    for (outer, second, first) in [
        (Outer::V4, "192.0.2.3:51820", "192.0.2.2:51820"),
        (Outer::V6, "[2001:db8::3]:51820", "[2001:db8::2]:51820"),
    ] {
        let pair = Pair::new();
        pair.right.place.address("eth0", &["192.0.2.3/24"]).unwrap();
        // The routes prefer the other address also in IPv6.
        pair.right.place.ip("addr add 2001:db8::3/64 dev eth0 nodad preferred_lft 0").unwrap();
        pair.right.start(Ours);
        pair.configure(&pair.right, &pair.left, None);
        pair.right.bring_up();
        pair.left.start(WireguardGo);
        pair.configure(&pair.left, &pair.right, Some(outer));
        pair.left.set(&["peer", &pair.right.public_key, "endpoint", second]);
        pair.left.bring_up();
        pair.expect_traffic();
        pair.right.expect_ping(&pair.left.inner_v4());
        let endpoint = || pair.left.show("endpoints").split('\t').nth(1).map(str::to_owned);
        assert_eq!(endpoint().as_deref(), Some(second));
        // When that address goes, the other one takes over with the next packet of ours.
        let (address, _) = second.trim_start_matches('[').rsplit_once(':').unwrap();
        let prefix = if address.contains('.') { 24 } else { 64 };
        let address = address.trim_end_matches(']');
        pair.right.place.ip(&format!("addr del {address}/{prefix} dev eth0")).unwrap();
        pair.right.expect_ping(&pair.left.inner_v4());
        assert_eq!(endpoint().as_deref(), Some(first));
    }
}
