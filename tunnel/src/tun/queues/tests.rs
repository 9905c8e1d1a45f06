use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::offloads::Switches;
use crate::tun::PacketBatch;

const QUEUES: usize = 3;

/// An interface that is up in a namespace of the calling thread, with everything routed to it.
fn queues() -> Queues {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let offloads = Arc::new(Offloads::new(Switches::default()));
    let queues = Queues::create(&"steer%d".parse().unwrap(), 1420, QUEUES, &offloads).unwrap();
    let name = queues.first.name();
    for line in [
        format!("addr add 192.0.2.1/32 dev {name}"),
        format!("-6 addr add fd00::1/128 dev {name} nodad"),
        format!("link set {name} up"),
        format!("route add default dev {name}"),
        format!("-6 route add default dev {name}"),
    ] {
        // A child of this thread is in this thread's namespace.
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    }
    queues
}

/// The queue that a packet to `to` comes out of.
fn queue_of(queues: &Queues, to: &str) -> usize {
    let to: IpAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).unwrap().send_to(&[7], (to, 7)).unwrap();
    let tuns: Vec<_> = std::iter::once(&queues.first).chain(&queues.others).collect();
    assert_eq!(tuns.len(), QUEUES);
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut batch = PacketBatch::new();
    while Instant::now() < deadline {
        for (number, tun) in tuns.iter().enumerate() {
            batch.read(tun).unwrap();
            let mut found = false;
            batch.for_each(|packet| {
                found |= edge_tunnel_core::ip_packet::destination(packet) == Some(to);
            });
            if found {
                return number;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("no packet to {to}");
}

#[test]
fn a_packet_goes_to_the_queue_of_its_narrowest_network() {
    // The namespace goes with the thread that is in it.
    thread::spawn(|| {
        let queues = queues();
        let map = queues.steering.as_ref().unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        for (network, prefix, queue) in [
            ("10.0.0.0", 8, 1),
            ("10.1.0.0", 16, 2),
            ("10.1.2.3", 32, 1),
            ("fd01::", 16, 2),
            ("fd01::5", 128, 1),
        ] {
            map.insert(address(network), prefix, queue).unwrap();
        }
        for (to, queue) in [
            ("10.9.9.9", 1),
            ("10.1.9.9", 2),
            ("10.1.2.3", 1),
            ("10.1.2.4", 2),
            ("203.0.113.1", 0),
            ("fd01::4", 2),
            ("fd01::5", 1),
            ("fd02::5", 0),
        ] {
            assert_eq!(queue_of(&queues, to), queue, "{to}");
        }
        map.insert(address("0.0.0.0"), 0, 2).unwrap();
        assert_eq!(queue_of(&queues, "203.0.113.1"), 2);
        assert_eq!(queue_of(&queues, "fd02::5"), 0, "all of IPv4 is nothing of IPv6");
        map.remove(address("10.1.2.3"), 32).unwrap();
        assert_eq!(queue_of(&queues, "10.1.2.3"), 2);
        // Another one takes it over.
        map.insert(address("10.1.0.0"), 16, 1).unwrap();
        assert_eq!(queue_of(&queues, "10.1.2.3"), 1);
    })
    .join()
    .unwrap();
}
