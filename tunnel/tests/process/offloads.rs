//! Traffic with each offload forced off, at both ends in turn: what the kernel does not do is done by us, and
//! every octet arrives.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;
use verona_contract::control::VERSION;

use crate::pair::{End, Implementation, Outer, PATIENCE, Pair};

/// All there are, and what else is off without the kernel's help.
const SWITCHES: [&str; 8] =
    ["", "tun-tso", "tun-uso", "tun-tcp-gro", "tun-udp-gro", "udp-gso", "udp-gro", "all"];

/// One octet stream each way through the tunnel, and joined datagrams.
const OCTETS: usize = 3_000_000;

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8) ^ (at >> 8) as u8 ^ (at >> 16) as u8 ^ seed).collect()
}

/// Sends `OCTETS` by TCP from one end to the other and as much back.
fn stream(from: &End, to: &End, address: &str) {
    let listener = to.place.enter(|| TcpListener::bind((address, 7))).unwrap().unwrap();
    let serve = |mut connection: TcpStream| {
        let mut came = Vec::new();
        connection.read_to_end(&mut came).unwrap();
        connection.write_all(&pattern(OCTETS, 2)).unwrap();
        came
    };
    let server = thread::spawn(move || serve(listener.accept().unwrap().0));
    let to: SocketAddr = format!("{}:7", bracketed(address)).parse().unwrap();
    let connect = || TcpStream::connect_timeout(&to, PATIENCE);
    let mut connection = from.place.enter(connect).unwrap().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.write_all(&pattern(OCTETS, 1)).unwrap();
    connection.shutdown(Shutdown::Write).unwrap();
    let mut came = Vec::new();
    connection.read_to_end(&mut came).unwrap();
    assert!(came == pattern(OCTETS, 2), "{} octets came back", came.len());
    assert!(server.join().unwrap() == pattern(OCTETS, 1));
}

/// Sends runs of datagrams, joined by the sending socket, and compares what comes. On a busy machine a few
/// may be lost, but those that come must be whole and in order.
fn datagrams(from: &End, to: &End, address: &str) {
    let receiver = to.place.enter(|| UdpSocket::bind((address, 7))).unwrap().unwrap();
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let unspecified = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let sender = from.place.enter(|| UdpSocket::bind(unspecified)).unwrap().unwrap();
    for (run, length) in [1000_usize, 64, 1200, 1].into_iter().enumerate() {
        setsockopt(&sender, sockopt::UdpGsoSegment, &i32::try_from(length).unwrap()).unwrap();
        let sent = pattern(length * 20 - length / 2, run as u8);
        sender.send_to(&sent, (address, 7)).unwrap();
        let mut came = Vec::new();
        let mut buffer = [0; 2048];
        while came.len() < sent.len() {
            let length = receiver.recv(&mut buffer).unwrap_or_else(|error| panic!("run {run}: {error}"));
            came.extend_from_slice(&buffer[..length]);
        }
        assert!(came == sent, "run {run} differs");
    }
}

fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// The state of each offload as the control socket tells it.
fn told(end: &End) -> BTreeMap<String, String> {
    let mut connection = BufReader::new(UnixStream::connect(end.control_socket()).unwrap());
    let mut last = String::new();
    let hello = format!("{{\"id\":1,\"command\":{{\"hello\":{{\"version\":{VERSION}}}}}}}\n");
    for line in [hello.as_str(), "{\"id\":2,\"command\":\"status\"}\n"] {
        connection.get_mut().write_all(line.as_bytes()).unwrap();
        last.clear();
        connection.read_line(&mut last).unwrap();
    }
    let answer: Value = serde_json::from_str(&last).unwrap();
    let states = answer["response"]["result"]["Ok"]["status"]["offloads"].as_object().unwrap();
    let state = |state: &Value| match state["cause"].as_str() {
        None => state["state"].as_str().unwrap().to_owned(),
        Some(cause) => cause.to_owned(),
    };
    states.iter().map(|(name, value)| (name.clone(), state(value))).collect()
}

#[test]
fn every_octet_arrives_with_each_offload_off() {
    let pair = Pair::new();
    pair.right.start(Implementation::Ours);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    for switch in SWITCHES {
        let mut left = pair.left.start_with(&pair.run, &["--no-offload", switch]);
        pair.configure(&pair.left, &pair.right, Some(Outer::V4));
        pair.left.bring_up();
        pair.left.expect_ping(&pair.right.inner_v4());
        for (name, state) in told(&pair.left) {
            let off = switch == "all" || switch == name;
            assert_eq!(state, if off { "switch" } else { "on" }, "{name} with {switch:?} off");
        }
        for (from, to) in [(&pair.left, &pair.right), (&pair.right, &pair.left)] {
            datagrams(from, to, &to.inner_v4());
            datagrams(from, to, &to.inner_v6());
        }
        stream(&pair.left, &pair.right, &pair.right.inner_v4());
        stream(&pair.right, &pair.left, &pair.left.inner_v6());
        assert_eq!(told(&pair.left).values().filter(|state| *state == "refused").count(), 0, "{switch:?}");
        left.stop();
        pair.left.expect_gone();
    }
}

#[test]
fn a_foreign_end_understands_us_without_any_offload() {
    let pair = Pair::new();
    pair.right.start(Implementation::WireguardGo);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    let _left = pair.left.start_with(&pair.run, &["--no-offload", "all"]);
    pair.configure(&pair.left, &pair.right, Some(Outer::V6));
    pair.left.bring_up();
    pair.expect_traffic();
    stream(&pair.left, &pair.right, &pair.right.inner_v6());
}
