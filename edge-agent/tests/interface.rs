//! Addresses and routes against a real kernel, in a network namespace that dies with its thread. Needs root.

#![allow(clippy::unwrap_used, reason = "helpers of a test fail as the test does")]

use edge_agent::netlink::reconcile;
use edge_agent_core::network::Desired;
use nix::sched::{CloneFlags, unshare};
use std::process::Command;
use verona_contract::config::TunnelConfig;

fn desired(mtu: u16, addresses: &[&str], routes: &[&str]) -> Desired {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Desired::of(&TunnelConfig {
        addresses: nets(addresses),
        listen_port: 1,
        mtu,
        routes: nets(routes),
        owners: vec![],
    })
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_kernel_becomes_as_desired_and_foreign_state_stays() {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own takes root");
        ip("tuntap add dev tun0 mode tun");
        ip("addr add 192.0.2.9/32 dev tun0");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let apply = |desired: &Desired| runtime.block_on(reconcile("tun0", desired)).unwrap();

        let first = desired(1400, &["10.8.0.1/16", "fd00:8::1/64"], &["10.9.0.0/24", "fd00:9::/64"]);
        assert!(apply(&first), "everything is new");
        assert!(!apply(&first), "nothing is left to do");
        let (addresses, routes) = (ip("addr show dev tun0"), ip("route show dev tun0"));
        for part in ["mtu 1400", ",UP", "inet 10.8.0.1/16", "inet6 fd00:8::1/64", "inet 192.0.2.9/32"] {
            assert!(addresses.contains(part), "{part} in {addresses}");
        }
        assert!(routes.contains("10.9.0.0/24 proto 118"), "{routes}");
        assert!(ip("-6 route show dev tun0").contains("fd00:9::/64"));

        // Someone takes an address away and adds a route: the one comes back, the other stays.
        ip("addr del 10.8.0.1/16 dev tun0");
        ip("route add 10.66.0.0/24 dev tun0");
        assert!(apply(&first));
        assert!(ip("addr show dev tun0").contains("inet 10.8.0.1/16"));

        // A new snapshot: what it leaves out goes, what is foreign stays. Both addresses share a network, and
        // the kernel takes the second away with the first.
        apply(&desired(1400, &["10.8.0.1/16", "10.8.0.2/16"], &[]));
        let last = desired(1420, &["10.8.0.2/16"], &["10.7.0.0/24"]);
        assert!(apply(&last));
        assert!(!apply(&last));
        let (addresses, routes) = (ip("addr show dev tun0"), ip("route show dev tun0"));
        assert!(addresses.contains("10.8.0.2/16") && addresses.contains("192.0.2.9/32"), "{addresses}");
        assert!(!addresses.contains("10.8.0.1/16") && !addresses.contains("fd00:8::1"), "{addresses}");
        assert!(routes.contains("10.66.0.0/24") && routes.contains("10.7.0.0/24"), "{routes}");
        assert!(!routes.contains("10.9.0.0/24"), "{routes}");

        let absent = runtime.block_on(reconcile("tun7", &last)).unwrap_err();
        assert_eq!(absent.to_string(), "there is no interface tun7");
    });
    thread.join().unwrap();
}
