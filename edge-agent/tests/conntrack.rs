//! Connections of cut clients against a real kernel, in a network namespace that dies with its thread. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use edge_agent::conntrack::remove;
use nix::sched::{CloneFlags, unshare};
use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};

fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The thread's own table, not that of the process.
fn table() -> String {
    std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap()
}

fn talk(from: &str, to: &str) {
    let (here, there) = (UdpSocket::bind((from, 0)).unwrap(), UdpSocket::bind((to, 0)).unwrap());
    here.send_to(b"x", there.local_addr().unwrap()).unwrap();
    let mut octet = [0];
    let (_, back) = there.recv_from(&mut octet).unwrap();
    there.send_to(b"y", back).unwrap();
    here.recv_from(&mut octet).unwrap();
}

#[test]
fn connections_of_a_cut_client_go_and_the_others_stay() {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own takes root");
        run("ip", "link set lo up");
        for address in ["10.9.0.2/32", "10.9.0.3/32", "192.168.77.5/32", "fd00:9::2/128", "fd00:9::3/128"] {
            run("ip", &format!("addr add {address} dev lo nodad"));
        }
        // Tracking begins with the first rule that asks for it.
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        let rules =
            "table inet t {\nchain c {\ntype filter hook output priority 0;\nct state new accept\n}\n}\n";
        std::io::Write::write_all(&mut nft.stdin.take().unwrap(), rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());

        talk("10.9.0.2", "192.168.77.5");
        talk("192.168.77.5", "10.9.0.2");
        talk("10.9.0.3", "192.168.77.5");
        talk("fd00:9::2", "fd00:9::3");
        let count = |address: &str| table().lines().filter(|line| line.contains(address)).count();
        assert_eq!((count("=10.9.0.2 "), count("=10.9.0.3 ")), (2, 1), "{}", table());

        let set = |addresses: &[&str]| -> HashSet<IpAddr> {
            addresses.iter().map(|address| address.parse().unwrap()).collect()
        };
        assert_eq!(remove(&set(&["10.9.0.2", "10.9.0.77"])).unwrap(), 2);
        assert_eq!((count("=10.9.0.2 "), count("=10.9.0.3 ")), (0, 1), "{}", table());
        assert_eq!(remove(&set(&["10.9.0.2"])).unwrap(), 0, "nothing is left");
        assert_eq!(remove(&set(&["fd00:9::3"])).unwrap(), 1, "by the source of its answers");
        assert!(!table().contains("ipv6"), "{}", table());
    });
    thread.join().unwrap();
}
