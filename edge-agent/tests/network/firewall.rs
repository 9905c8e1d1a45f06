//! What passes the box, told by real connections.

use crate::agent::{Agent, SOON};
use lab::{Namespace, Run, wait};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

/// How long nothing must come before it counts as refused.
const PATIENCE: Duration = Duration::from_millis(700);

/// A provider, the box, two local networks, and someone behind a tunnel.
struct Site {
    internet: Namespace,
    office: Namespace,
    guests: Namespace,
    clients: Namespace,
    agent: Agent,
}

fn site(run: &Run) -> Site {
    let place = |name: &str| run.namespace(name).unwrap();
    let (internet, office, guests, clients, edge) =
        (place("internet"), place("office"), place("guests"), place("clients"), place("edge"));
    for (port, other) in [("p0", &internet), ("p1", &office), ("p2", &guests), ("tun", &clients)] {
        edge.connect(port, other, "far").unwrap();
    }
    internet.address("far", &["192.0.2.1/24"]).unwrap();
    for (host, address, router) in [
        (&office, "192.168.77.9/24", "192.168.77.1"),
        (&guests, "192.168.78.9/24", "192.168.78.1"),
        (&clients, "10.8.0.9/24", "10.8.0.1"),
    ] {
        host.address("far", &[address]).unwrap();
        host.ip(&format!("route add default via {router}")).unwrap();
    }
    edge.address("tun", &["10.8.0.1/24"]).unwrap();
    edge.ip("link set tun mtu 1400").unwrap();
    for (host, address) in [
        (&internet, "192.0.2.1"),
        (&office, "192.168.77.9"),
        (&guests, "192.168.78.9"),
        (&clients, "10.8.0.9"),
        (&edge, "0.0.0.0"),
    ] {
        serve(host, address);
    }
    let agent = Agent::start(&edge);
    agent.reports.tunnel_is("tun");
    Site { internet, office, guests, clients, agent }
}

/// Tells who asks, on ports 80 and 8443.
fn serve(place: &Namespace, address: &str) {
    for port in [80, 8443] {
        let listener = place.enter(|| TcpListener::bind((address, port)).unwrap()).unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let peer = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
                let _ = stream.write_all(peer.as_bytes());
            }
        });
    }
}

fn connect(from: &Namespace, to: &str, limit: Duration) -> Option<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    from.enter(|| TcpStream::connect_timeout(&to, limit).ok()).unwrap()
}

/// The address under which `from` is known at `to`.
fn seen_as(from: &Namespace, to: &str) -> String {
    let mut stream = connect(from, to, SOON).unwrap_or_else(|| panic!("{} does not reach {to}", from.name()));
    let mut said = String::new();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.read_to_string(&mut said).unwrap();
    said
}

fn reaches(from: &Namespace, to: &str) -> bool {
    connect(from, to, PATIENCE).is_some()
}

fn network() -> Value {
    json!({
        "wan": [{ "name": "fiber", "port": "p0",
                  "ipv4": { "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } } }],
        "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24"] },
                { "name": "guests", "ports": ["p2"], "addresses": ["192.168.78.1/24"] }],
    })
}

#[test]
fn zones_rules_and_port_forwards() {
    let run = Run::start().unwrap();
    let Site { internet, office, guests, clients, mut agent } = site(&run);
    assert_eq!(agent.order(1, network()), []);
    assert_eq!(seen_as(&office, "192.0.2.1:80"), "192.0.2.2", "translated on the way out");
    assert_eq!(seen_as(&clients, "192.0.2.1:80"), "192.0.2.2");
    assert_eq!(seen_as(&clients, "192.168.77.9:80"), "10.8.0.9", "and nowhere else");
    assert_eq!(seen_as(&office, "10.8.0.9:80"), "192.168.77.9");
    assert!(!reaches(&guests, "192.168.77.9:80"), "one local network does not reach another");
    for port in ["192.0.2.2:80", "192.0.2.2:8443"] {
        assert!(!reaches(&internet, port), "an uplink begins nothing");
    }
    internet.ip("route add 192.168.77.0/24 via 192.0.2.2").unwrap();
    assert!(!reaches(&internet, "192.168.77.9:80"), "nor by the inner address");
    assert!(!reaches(&office, "192.168.77.1:80"), "the box has no service that was not asked for");

    let mut wanted = network();
    wanted["firewall"] = json!({
        "forwards": [{ "wan": "fiber", "protocol": "tcp", "ports": "443", "to": "192.168.77.9", "to_port": 8443 }],
        "rules": [
            { "from": "guests", "to": "wan", "action": "deny", "protocol": "tcp", "ports": ["80"] },
            { "from": "guests", "to": "office", "action": "allow", "protocol": "tcp", "ports": ["8443"] },
            { "from": "office", "to": "box", "action": "allow", "protocol": "tcp", "ports": ["80"] },
        ],
    });
    assert_eq!(agent.order(2, wanted.clone()), []);
    assert_eq!(seen_as(&internet, "192.0.2.2:443"), "192.0.2.1", "the port leads inside");
    assert!(!reaches(&internet, "192.0.2.2:8443"));
    // Local hosts as well, by the same address: the neighbour through the box, the other network as it is.
    assert_eq!(seen_as(&office, "192.0.2.2:443"), "192.168.77.1", "the host would answer past the box");
    assert_eq!(seen_as(&guests, "192.0.2.2:443"), "192.168.78.9");
    assert!(!reaches(&office, "192.168.77.1:443"), "it is the uplink's address that leads there");
    assert!(!reaches(&guests, "192.0.2.1:80") && !reaches(&guests, "192.168.77.9:80"));
    assert_eq!(seen_as(&guests, "192.0.2.1:8443"), "192.0.2.2");
    assert_eq!(seen_as(&guests, "192.168.77.9:8443"), "192.168.78.9");
    assert_eq!(seen_as(&office, "192.168.77.1:80"), "192.168.77.9");
    assert!(!reaches(&guests, "192.168.78.1:80"));

    // Someone alters the rules: they come back. The tunnel restarts by another name: the old one has no rights.
    agent.place.output("nft", &["flush", "chain", "inet", "verona_network", "destination"]).unwrap();
    assert!(!reaches(&internet, "192.0.2.2:443"), "the rule is gone");
    agent.place.ip("link set p0 down").unwrap();
    wait::until("the rule", SOON, || reaches(&internet, "192.0.2.2:443")).unwrap();
    agent.reports.tunnel_is("wg7");
    wait::until("the end of its rights", SOON, || !reaches(&clients, "192.168.77.9:80")).unwrap();
    assert_eq!(agent.order(3, json!({})), []);
    let tables = agent.place.output("nft", &["list", "tables"]).unwrap();
    assert!(!tables.contains("verona"), "{tables}");
}

#[test]
fn segments_fit_the_narrow_link_both_ways() {
    let run = Run::start().unwrap();
    let Site { office, clients, mut agent, .. } = site(&run);
    assert_eq!(agent.order(1, network()), []);
    // Neither host's own interface is narrow.
    let largest = |from: &Namespace, to: &str| {
        let stream = connect(from, to, SOON).unwrap();
        socket2::SockRef::from(&stream).tcp_mss().unwrap()
    };
    let fits = |most: u32| {
        for (from, to) in [(&office, "10.8.0.9:80"), (&clients, "192.168.77.9:80")] {
            let size = largest(from, to);
            assert!(size <= most, "{to}: {size}");
            assert!(size > most - 60, "{to}: {size}");
        }
    };
    fits(1360);
    // The line is narrower than what the tunnel's interface says: 1380 - 60, whole blocks of 16, without 40.
    let mut narrow = network();
    narrow["wan"][0]["mtu"] = 1380.into();
    assert_eq!(agent.order(2, narrow), []);
    fits(1272);
}

#[test]
fn one_host_cannot_take_the_table_of_connections() {
    let run = Run::start().unwrap();
    let Site { internet: _internet, office, guests, mut agent, .. } = site(&run);
    let mut wanted = network();
    wanted["firewall"] = json!({ "host_connections": 20 });
    assert_eq!(agent.order(1, wanted), []);
    let held: Vec<TcpStream> = (0..20).filter_map(|_| connect(&office, "192.0.2.1:80", SOON)).collect();
    assert_eq!(held.len(), 20);
    assert!(!reaches(&office, "192.0.2.1:80"), "one more");
    assert_eq!(seen_as(&guests, "192.0.2.1:80"), "192.0.2.2", "another host has its own");
}

#[test]
fn the_uplink_answers_nothing() {
    let run = Run::start().unwrap();
    let Site { internet, office, mut agent, .. } = site(&run);
    let inside = agent.place.enter(|| UdpSocket::bind("0.0.0.0:51820").unwrap()).unwrap();
    let other = agent.place.enter(|| UdpSocket::bind("0.0.0.0:5353").unwrap()).unwrap();
    inside.set_read_timeout(Some(SOON)).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(agent.order(1, network()), []);
    let send = |port: u16| {
        internet
            .enter(|| UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"x", ("192.0.2.2", port)).unwrap())
            .unwrap()
    };
    send(51820);
    send(5353);
    assert!(inside.recv(&mut [0; 8]).is_ok(), "the tunnel's port is open");
    assert!(other.recv(&mut [0; 8]).is_err(), "another is not");
    let ping = |from: &Namespace, to: &str, limit| from.output("ping", &["-c1", "-W", limit, to]).is_ok();
    assert!(!ping(&internet, "192.0.2.2", "1") && ping(&office, "192.168.77.1", "10"));
    // A closed port is as silent as an open one: nobody can tell that a box is there.
    let refused =
        internet.enter(|| TcpStream::connect_timeout(&"192.0.2.2:9".parse().unwrap(), PATIENCE).unwrap_err());
    assert_eq!(refused.unwrap().kind(), std::io::ErrorKind::TimedOut);
}
