//! Rules by group against a real kernel, in network namespaces that the test makes. Needs root and `nft`.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use edge_agent::groups::Groups;
use lab::{Namespace, Run, wait};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use verona_contract::config::{EdgeConfig, TunnelConfig};
use verona_contract::groups::Group;

const SERVER: &str = "192.168.77.5";

fn config(groups: &[(&str, &[&str], &[&str])]) -> TunnelConfig {
    let golden = include_bytes!("../../contract/tests/golden/edge-config.json");
    let mut config = EdgeConfig::parse(golden).unwrap().tunnel;
    let group = |(name, members, rules): &(&str, &[&str], &[&str])| Group {
        name: (*name).into(),
        members: members.iter().map(|text| text.parse().unwrap()).collect(),
        rules: rules.iter().map(|text| text.parse().unwrap()).collect(),
    };
    config.owners[0].groups = groups.iter().map(group).collect();
    config
}

/// A veth in the place of the tunnel: clients on one side, the box in the middle, a server in its LAN.
struct Site {
    clients: Namespace,
    edge: Namespace,
    interface: String,
    _lan: Namespace,
}

fn site(run: &Run) -> Site {
    let (clients, edge, lan) =
        (run.namespace("clients").unwrap(), run.namespace("edge").unwrap(), run.namespace("lan").unwrap());
    let name = |tail: &str| run.interface(tail);
    let interface = name("tun");
    clients.connect(&name("c0"), &edge, &interface).unwrap();
    edge.connect(&name("l0"), &lan, &name("l1")).unwrap();
    clients.address(&name("c0"), &["10.9.0.16/24", "10.9.0.17/24", "10.9.0.18/24"]).unwrap();
    edge.address(&interface, &["10.9.0.1/24"]).unwrap();
    edge.address(&name("l0"), &["192.168.77.1/24"]).unwrap();
    lan.address(&name("l1"), &[&format!("{SERVER}/24")]).unwrap();
    clients.ip("route add 192.168.77.0/24 via 10.9.0.1").unwrap();
    lan.ip("route add 10.9.0.0/24 via 192.168.77.1").unwrap();
    edge.forward().unwrap();
    for port in [443, 8443] {
        let listener = lan.enter(|| TcpListener::bind((SERVER, port)).unwrap()).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || echo(stream));
            }
        });
    }
    Site { clients, edge, interface, _lan: lan }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

impl Site {
    fn enforce(&self, groups: &mut Groups, config: &TunnelConfig) -> bool {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(groups.enforce(&self.interface, config)).unwrap()
        };
        self.edge.enter(run).unwrap()
    }

    /// A connection from a client's address.
    fn connect(&self, from: &str, port: u16) -> Option<TcpStream> {
        let connect = || {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            let address = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
            socket.bind(&address(from, 0).into()).unwrap();
            let to = address(SERVER, port).into();
            socket.connect_timeout(&to, Duration::from_millis(400)).ok().map(|()| TcpStream::from(socket))
        };
        self.clients.enter(connect).unwrap()
    }
}

fn answers(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    stream.write_all(b"ping").is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}

#[test]
fn rules_by_group_hold_and_change_under_living_connections() {
    let run = Run::start().unwrap();
    let site = site(&run);
    let (sales, bookkeeping): (&[&str], &[&str]) = (&["10.9.0.16"], &["10.9.0.17"]);
    let mut groups = Groups::default();
    site.enforce(&mut groups, &config(&[]));
    assert!(site.connect("10.9.0.16", 443).is_some(), "without groups everything is reached");

    let web: &[&str] = &["allow tcp 192.168.77.0/24 443"];
    let both: &[&str] = &["deny tcp any 8443", "allow any 192.168.77.0/24"];
    let first = config(&[("sales", sales, web), ("bookkeeping", bookkeeping, both)]);
    assert!(site.enforce(&mut groups, &first));
    assert!(!site.enforce(&mut groups, &first), "nothing is left to do");
    let reached = |from, port| site.connect(from, port).is_some();
    assert_eq!((reached("10.9.0.16", 443), reached("10.9.0.16", 8443)), (true, false), "what no rule allows");
    assert_eq!((reached("10.9.0.17", 443), reached("10.9.0.17", 8443)), (true, false), "what a rule denies");
    assert_eq!((reached("10.9.0.18", 443), reached("10.9.0.18", 8443)), (true, true), "in no group");

    // Sales loses its right, bookkeeping gains one: of two living connections one ends, the other does not notice.
    let mut of_sales = site.connect("10.9.0.16", 443).unwrap();
    let mut of_bookkeeping = site.connect("10.9.0.17", 443).unwrap();
    assert!(answers(&mut of_sales) && answers(&mut of_bookkeeping));
    let second = config(&[("sales", sales, &[]), ("bookkeeping", bookkeeping, &["allow"])]);
    assert!(site.enforce(&mut groups, &second));
    assert!(answers(&mut of_bookkeeping), "another group's connection ended with the change");
    assert!(!answers(&mut of_sales), "a right that was taken away goes on to serve");
    assert!(reached("10.9.0.17", 8443) && !reached("10.9.0.16", 443));
    // A member moves: the address counts, not the session.
    let moved = config(&[("sales", &[], &[]), ("bookkeeping", &["10.9.0.16", "10.9.0.17"], &["allow"])]);
    site.enforce(&mut groups, &moved);
    wait::until("the same connection of the client that moved", Duration::from_secs(5), || {
        answers(&mut of_sales)
    })
    .unwrap();

    // Someone flushes the rules; a later agent cleans up after an earlier one.
    site.enforce(&mut groups, &second);
    site.edge.output("nft", &["flush", "ruleset"]).unwrap();
    assert!(reached("10.9.0.16", 443), "the rules are gone");
    assert!(site.enforce(&mut groups, &second), "and are missed");
    assert!(!reached("10.9.0.16", 443));
    assert!(site.enforce(&mut Groups::default(), &config(&[])));
    assert!(reached("10.9.0.16", 443));
    assert!(!site.edge.output("nft", &["list", "tables"]).unwrap().contains("verona"), "a table is left");
}
