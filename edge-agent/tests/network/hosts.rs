//! Hosts of a local network: a real DHCP client, and real questions for names.

use crate::agent::{Agent, SOON};
use lab::{Namespace, Process, Run, wait};
use serde_json::json;
use std::fs::Permissions;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

/// A name server that knows one name, on an address of its own.
fn name_server(place: &Namespace, name: &str, records: &[&str], listen: &str) -> Process {
    let mut command = place.command("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--log-facility=-",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--no-resolv",
    ]);
    command.args([
        "--no-hosts",
        "--user=root",
        "--log-queries",
        "--bind-interfaces",
        "--except-interface=lo",
    ]);
    command.arg(format!("--listen-address={listen}"));
    command.args(records.iter().map(|record| format!("--host-record={record}")));
    let mut process = place.run().start_process(name, command).unwrap();
    process.wait_for_log("started", SOON).unwrap();
    process
}

/// The address of `name`, as the box tells it (RFC 1035 §4.1).
fn resolve(from: &Namespace, name: &str) -> Option<Ipv4Addr> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = from.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&question, "192.168.77.1:53").ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    let answers = u16::from_be_bytes([answer[6], answer[7]]);
    (answers == 1).then(|| answer[..length].last_chunk::<4>().copied().unwrap().into())
}

#[test]
fn addresses_and_names_for_a_local_network() {
    let run = Run::start().unwrap();
    let place = |name: &str| run.namespace(name).unwrap();
    let (edge, internet, office, company) =
        (place("edge"), place("internet"), place("office"), place("company"));
    edge.connect("p0", &internet, "far").unwrap();
    edge.connect("p1", &office, "far").unwrap();
    edge.connect("tun", &company, "far").unwrap();
    internet.address("far", &["192.0.2.1/24"]).unwrap();
    company.address("far", &["10.20.0.53/16"]).unwrap();
    edge.address("tun", &["10.20.0.1/16"]).unwrap();
    office.ip("link set far address 02:00:5e:10:00:01").unwrap();
    let records = ["www.example.com,93.184.216.34", "rebind.example.com,192.168.77.30"];
    let outside = name_server(&internet, "outside", &records, "192.0.2.1");
    let inside = name_server(&company, "inside", &["files.corp.example,10.20.0.80"], "10.20.0.53");
    let known = |address: [u8; 4]| Some(Ipv4Addr::from(address));
    let mut agent = Agent::start(&edge);
    let network = json!({
        "wan": [{ "name": "fiber", "port": "p0", "servers": ["192.0.2.1"],
                  "ipv4": { "static": { "address": "192.0.2.2/24", "gateway": "192.0.2.1" } } }],
        "lan": [{ "name": "office", "ports": ["p1"], "addresses": ["192.168.77.1/24"],
                  "dhcp": { "first": "192.168.77.100", "last": "192.168.77.109", "lease_s": 600,
                            "reservations": [{ "mac": "02:00:5e:10:00:01", "address": "192.168.77.20" }] } }],
        "dns": { "split": [{ "domain": "corp.example", "servers": ["10.20.0.53"] }],
                 "hosts": [{ "name": "printer.office", "address": "192.168.77.30" }] },
    });
    assert_eq!(agent.order(1, network.clone()), []);

    // The client prints what it was given instead of setting it.
    let script = run.dir().join("print");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = bound ] && echo \"got $ip/$mask router $router dns $dns\"\nexit 0\n",
    )
    .unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let ask = || {
        let script = script.to_str().unwrap();
        office
            .output("busybox", &["udhcpc", "-f", "-q", "-n", "-i", "far", "-t", "5", "-T", "1", "-s", script])
            .ok()
    };
    let given = wait::for_value("a lease", SOON * 3, || Ok(ask())).unwrap();
    assert!(given.contains("got 192.168.77.20/24 router 192.168.77.1 dns 192.168.77.1"), "{given}");
    wait::until("a record of the lease", SOON, || agent.noted("dhcp.lease") == 1).unwrap();

    office.address("far", &["192.168.77.20/24"]).unwrap();
    wait::until("a name from outside", SOON, || {
        resolve(&office, "www.example.com") == known([93, 184, 216, 34])
    })
    .unwrap();
    assert_eq!(resolve(&office, "files.corp.example"), known([10, 20, 0, 80]), "split DNS");
    assert_eq!(resolve(&office, "printer.office"), known([192, 168, 77, 30]));
    assert_eq!(resolve(&office, "rebind.example.com"), None, "a name from outside for a host inside");
    assert!(
        inside.log().contains("files.corp.example") && !outside.log().contains("corp.example"),
        "it leaked"
    );

    // What nobody asks for any more does not listen.
    let mut silent = network;
    silent.as_object_mut().unwrap().remove("dns");
    silent["lan"][0].as_object_mut().unwrap().remove("dhcp");
    assert_eq!(agent.order(2, silent), []);
    wait::until("silence", SOON, || agent.place.output("ss", &["-Hlun"]).unwrap().is_empty()).unwrap();
}
