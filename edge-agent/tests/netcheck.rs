//! `edgectl netcheck` on a real box with a real center, and each trouble made on the way. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{Center, Edge};
use lab::{Namespace, Plan, Process, Run, Topology, wait, workspace};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Item → (verdict, remedy), and the exit status.
type Seen = (BTreeMap<String, (String, String)>, bool);

fn netcheck(edge: &Edge) -> Seen {
    let mut command = edge.place().command(workspace::binary("edgectl").unwrap());
    command.arg("--socket").arg(edge.agent_socket()).args(["netcheck", "--json"]);
    let output = command.output().unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found =
        findings.iter().map(|one| (text(&one["item"]), (text(&one["verdict"]), text(&one["remedy"]))));
    (found.collect(), output.status.success())
}

fn assert_wrong(edge: &Edge, expected: &[(&str, &str, &str)]) {
    let (found, success) = netcheck(edge);
    for (item, verdict, remedy) in expected {
        let (is, to_do) = found.get(*item).unwrap_or_else(|| panic!("no {item} in {found:?}"));
        assert_eq!((is.as_str(), to_do.as_str()), (*verdict, *remedy), "{item}: {found:?}");
    }
    let fails = expected.iter().any(|(_, verdict, _)| *verdict == "failed");
    assert_eq!(success, !fails, "{found:?}");
}

/// The machine's name servers, as far as the box can reach them: inside, on their addresses.
fn name_server(net: &Topology) -> Vec<Process> {
    let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    let addresses =
        resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse().ok());
    let addresses: Vec<IpAddr> = addresses.take(1).collect();
    assert!(!addresses.is_empty(), "the machine has no name server");
    addresses
        .into_iter()
        .map(|address| {
            let place = if address.is_loopback() { &net.edge } else { &net.internet };
            place.ip("link set lo up").unwrap();
            if !address.is_loopback() {
                place
                    .address("lo", &[&format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })])
                    .unwrap();
            }
            let mut command = place.command("dnsmasq");
            command.args([
                "--keep-in-foreground",
                "--log-facility=-",
                "--conf-file=/dev/null",
                "--pid-file=",
            ]);
            command.args([
                "--no-resolv",
                "--no-hosts",
                "--user=root",
                "--bind-interfaces",
                "--except-interface=lo",
            ]);
            command.args(["--log-queries", &format!("--listen-address={address}")]);
            let mut process = place.run().start_process("dns", command).unwrap();
            process.wait_for_log("started", LIMIT).unwrap();
            process
        })
        .collect()
}

/// Answers as a hotel's network does.
fn portal(place: &Namespace) {
    let listener = place.enter(|| TcpListener::bind("0.0.0.0:8080").unwrap()).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let answer = "HTTP/1.1 302 Found\r\nLocation: http://login.hotel/\r\n\r\n";
            let _ = (stream.read(&mut [0; 2048]), stream.write_all(answer.as_bytes()));
        }
    });
}

/// A proxy that opens TLS: another CA's certificate for the center's address.
fn interceptor(place: &Namespace) -> Process {
    let folder = place.run().dir();
    let (key, certificate) = (folder.join("proxy.key"), folder.join("proxy.pem"));
    let mut make = std::process::Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]);
    make.args(["-subj", "/CN=Proxy", "-addext", "subjectAltName=IP:198.51.100.10"]);
    make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    assert!(make.output().unwrap().status.success());
    let mut command = place.command("openssl");
    command.args(["s_server", "-accept", "8444", "-quiet", "-groups", "X25519:P-256"]);
    command.arg("-key").arg(key).arg("-cert").arg(certificate);
    let process = place.run().start_process("proxy", command).unwrap();
    let up = || place.enter(|| std::net::TcpStream::connect("127.0.0.1:8444").is_ok()).unwrap();
    place.ip("link set lo up").unwrap();
    wait::until("the proxy", LIMIT, up).unwrap();
    process
}

#[test]
fn each_trouble_is_named() {
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &Plan { clients: vec![] }).unwrap();
    let dns = name_server(&net);
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record).unwrap();
    let mut edge = Edge::start(&net.edge, &record).unwrap();
    center.confirmed(&id, 1, LIMIT).unwrap();

    let healthy = || netcheck(&edge);
    wait::until("a good report", LIMIT, || healthy().1).unwrap();
    let (found, _) = healthy();
    assert!(found.values().all(|(verdict, _)| verdict == "ok"), "{found:?}");
    assert_eq!(found.len(), 11, "{found:?}");

    // What does not disturb each other: a portal, no UDP, no name server, no data plane.
    portal(&net.internet);
    let rules = |text: &str| {
        net.internet
            .nft(&format!("table ip trouble\ndelete table ip trouble\ntable ip trouble {{ {text}\n}}"))
            .unwrap();
    };
    rules(
        "chain in { type nat hook prerouting priority -100; tcp dport 80 redirect to :8080; }
         chain f { type filter hook forward priority 0; udp dport { 3478, 3479 } drop; }",
    );
    drop(dns);
    edge.tunnel.crash().unwrap();
    assert_wrong(
        &edge,
        &[
            ("portal", "failed", "log-in"),
            ("udp", "failed", "open-udp"),
            ("names", "failed", "check-name-servers"),
            ("tunnel", "failed", "restart-box"),
            ("center", "ok", ""),
            ("gateway", "ok", ""),
        ],
    );

    // Somebody else with a certificate of his own in place of the center; a narrow path.
    let _proxy = interceptor(&net.internet);
    rules("chain in { type nat hook prerouting priority -100; tcp dport 8443 redirect to :8444; }");
    net.center.ip("link set eth0 mtu 1300").unwrap();
    assert_wrong(
        &edge,
        &[
            ("center", "failed", "tls-intercepted"),
            ("path-mtu", "warning", "check-mtu"),
            ("portal", "ok", ""),
        ],
    );

    // The center's port is closed.
    rules("chain f { type filter hook forward priority 0; tcp dport 8443 drop; }");
    assert_wrong(&edge, &[("center", "failed", "open-https"), ("udp", "ok", "")]);

    // The router is there and says nothing; then the cable is out; then there is no address.
    net.internet.ip("link set edge arp off").unwrap();
    net.edge.ip("neigh flush dev wan").unwrap();
    assert_wrong(&edge, &[("gateway", "failed", "restart-providers-box"), ("address", "ok", "")]);
    net.edge.ip("address flush dev wan scope global").unwrap();
    net.edge.ip("route add default dev wan").unwrap();
    assert_wrong(&edge, &[("port", "ok", ""), ("address", "failed", "ask-provider-for-address")]);
    net.edge.ip("route flush table main").unwrap();
    net.edge.ip("-6 route flush table main").unwrap();
    assert_wrong(&edge, &[("gateway", "failed", "no-route")]);
}
