//! boringtun's own program as the other end, once as initiator and once as responder.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::parts::StockClient;
use lab::{Namespace, Run, Wiretap, alone, workspace};
use std::ffi::OsStr;
use std::net::IpAddr;

/// Two hosts on a wire with a router between them.
struct Wire {
    ours: Namespace,
    theirs: Namespace,
    tap: Wiretap,
}

const OURS: &str = "192.0.2.2";
const THEIRS: &str = "198.51.100.2";

fn wire(run: &Run) -> Wire {
    let (ours, router, theirs) =
        (run.namespace("ours").unwrap(), run.namespace("router").unwrap(), run.namespace("theirs").unwrap());
    router.forward().unwrap();
    for (host, port, network) in [(&ours, "a", "192.0.2"), (&theirs, "b", "198.51.100")] {
        router.connect(port, host, "eth0").unwrap();
        router.address(port, &[&format!("{network}.1/24")]).unwrap();
        host.address("eth0", &[&format!("{network}.2/24")]).unwrap();
        host.ip(&format!("route add default via {network}.1")).unwrap();
    }
    let tap = Wiretap::start(&router).unwrap();
    Wire { ours, theirs, tap }
}

fn keys(place: &Namespace) -> (String, String) {
    let private = place.output("wg", &["genkey"]).unwrap().trim().to_owned();
    let public = place.output("sh", &["-c", &format!("echo {private} | wg pubkey")]).unwrap();
    (private, public.trim().to_owned())
}

/// One end's configuration; without `endpoint` it can only answer.
fn config(private: &str, address: &str, peer: &str, psk: &str, endpoint: Option<&str>) -> String {
    let endpoint = endpoint.map(|host| format!("Endpoint = {host}:51820\n")).unwrap_or_default();
    format!(
        "[Interface]\nPrivateKey = {private}\nListenPort = 51820\nAddress = {address}\n\
         [Peer]\nPublicKey = {peer}\nPresharedKey = {psk}\n{endpoint}\
         AllowedIPs = 10.8.0.0/24, fd00:8::/64\n"
    )
}

/// Sets up both ends, of which one knows the other's endpoint, and pings from that one.
fn converse(ours_first: bool) {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let wire = wire(&run);
    let ((our_private, our_public), (their_private, their_public)) = (keys(&wire.ours), keys(&wire.theirs));
    let psk = wire.ours.output("wg", &["genpsk"]).unwrap();
    let psk = psk.trim();
    let our_config =
        config(&our_private, "10.8.0.1/32, fd00:8::1/128", &their_public, psk, ours_first.then_some(THEIRS));
    let their_config =
        config(&their_private, "10.8.0.2/32, fd00:8::2/128", &our_public, psk, (!ours_first).then_some(OURS));
    let boringtun = workspace::boringtun_cli().unwrap();
    let edge_tunnel = workspace::binary("edge-tunnel").unwrap();
    let start = |place, name, program: &OsStr, options: &[&str], config: &str| {
        StockClient::start(place, name, program, options, config).unwrap()
    };
    let theirs = start(
        &wire.theirs,
        "boringtun",
        boringtun.as_os_str(),
        &["-f", "--disable-drop-privileges"],
        &their_config,
    );
    let control = run.dir().join("control.sock");
    let ours = start(
        &wire.ours,
        "ours",
        edge_tunnel.as_os_str(),
        &["-f", "--control", &control.to_string_lossy()],
        &our_config,
    );

    let (first, other) = if ours_first { (&ours, ".2") } else { (&theirs, ".1") };
    for target in [format!("10.8.0{other}"), format!("fd00:8::{}", &other[1..])] {
        let small = first.place().output("ping", &["-c", "3", "-i", "0.2", "-W", "5", &target]).unwrap();
        assert!(small.contains(" 0% packet loss"), "{small}");
        // Fills the interface's MTU, so padding and lengths are at their limits.
        let size = if target.contains(':') { "1372" } else { "1392" };
        let large =
            first.place().output("ping", &["-c", "2", "-i", "0.2", "-M", "do", "-s", size, &target]).unwrap();
        assert!(large.contains(" 0% packet loss"), "{large}");
    }
    for end in [&ours, &theirs] {
        let handshakes = end.show("latest-handshakes").unwrap();
        let time: u64 = handshakes.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(time > 0, "{}: {handshakes}", end.interface());
    }
    let initiator: IpAddr = if ours_first { OURS } else { THEIRS }.parse().unwrap();
    let seen = wire.tap.datagrams();
    assert_eq!(seen.first().map(|d| (d.kind(), d.from.ip())), Some((1, initiator)));
    assert!(seen.iter().any(|d| d.kind() == 2 && d.to.ip() == initiator));
}

#[test]
fn we_initiate_and_boringtun_responds() {
    converse(true);
}

#[test]
fn boringtun_initiates_and_we_respond() {
    converse(false);
}
