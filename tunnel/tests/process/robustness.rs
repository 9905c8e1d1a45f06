//! What the network and the kernel may do to it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::wait;

use crate::pair::{Implementation, Outer, PATIENCE, Pair};
use Implementation::{Ours, WireguardGo};

/// A fixed sequence of octets that look random (SplitMix64), so that a failure repeats.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn datagram(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn garbage_does_not_harm_it() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    // Every length near the protocol's own, the extremes, and a spread; from the peer's own address.
    let lengths: Vec<usize> =
        (0..160).chain([640, 1232, 1420, 1452, 1472, 9000, 65_507]).chain((160..1500).step_by(61)).collect();
    for (bind, to) in [("0.0.0.0:0", Outer::V4), ("[::]:0", Outer::V6)] {
        let socket = pair.right.place.enter(|| UdpSocket::bind(bind).unwrap()).unwrap();
        let to: SocketAddr = pair.left.endpoint(to).parse().unwrap();
        let mut noise = Noise(1);
        for round in 0..4 {
            for &length in &lengths {
                let mut datagram = noise.datagram(length);
                // Most look like a message of ours: type, then zeroes; the rest stays random.
                if round > 0 && length >= 4 {
                    let kind = [1, 2, 3, 4, 0x10, 0, 5, 0xff][noise.next() as usize % 8];
                    datagram[..4].copy_from_slice(&[kind, u8::from(kind == 0x10), 0, 0]);
                }
                // A full buffer of the sender is no failure of what is tested.
                let _ = socket.send_to(&datagram, to);
            }
        }
    }
    assert!(pair.left.ping(&pair.right.inner_v4()), "the session did not survive");
    pair.expect_traffic();
    // A second of as much as goes, while the session lives on.
    let socket = pair.right.place.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let to: SocketAddr = pair.left.endpoint(Outer::V4).parse().unwrap();
    let mut noise = Noise(2);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        let mut datagram = noise.datagram(148);
        datagram[..4].copy_from_slice(&[1, 0, 0, 0]);
        let _ = socket.send_to(&datagram, to);
    }
    pair.expect_traffic();
}

#[test]
fn packets_that_are_no_ip_or_of_nobody_do_not_harm_it() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    // No peer has these addresses.
    let stranger = pair.left.place.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    for number in 0..200_u8 {
        let _ = stranger.send_to(b"to nobody", (std::net::Ipv4Addr::new(10, 9, 0, 50 + number / 2), 9));
    }
    pair.expect_traffic();
}

#[test]
fn an_unreachable_peer_and_lost_routes_are_survived() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    // No route at all: every send fails at once.
    pair.left.place.ip("link set eth0 down").unwrap();
    for _ in 0..3 {
        assert!(!pair.left.ping(&pair.right.inner_v4()));
    }
    pair.left.place.ip("link set eth0 up").unwrap();
    pair.expect_traffic();
    // Port unreachable: the other end is gone, ICMP errors come back.
    pair.right.place.ip(&format!("link del {}", pair.right.interface)).unwrap();
    wait::until("the other end to go", PATIENCE, || !pair.right.uapi_socket().exists()).unwrap();
    for _ in 0..3 {
        assert!(!pair.left.ping(&pair.right.inner_v4()));
    }
    pair.right.start(WireguardGo);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    pair.expect_traffic();
}

#[test]
fn an_outer_mtu_below_the_tunnels_costs_fragments_not_the_connection() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    for end in [&pair.left, &pair.right] {
        end.place.ip("link set eth0 mtu 1300").unwrap();
    }
    pair.left
        .place
        .output("ping", &["-n", "-c", "3", "-i", "0.2", "-W", "2", "-s", "1392", &pair.right.inner_v4()])
        .unwrap();
}

#[test]
fn a_bulk_transfer_is_whole() {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    let pair = Pair::start(Ours, Ours, Outer::V4);
    pair.expect_traffic();
    let length = 32 << 20;
    let address: SocketAddr = format!("{}:7001", pair.right.inner_v4()).parse().unwrap();
    let listener = pair.right.place.enter(|| TcpListener::bind(address).unwrap()).unwrap();
    let sum = |octets: &[u8], sum: u64| octets.iter().fold(sum, |sum, &o| sum.rotate_left(5) ^ u64::from(o));
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        (octets.len(), sum(&octets, 0))
    });
    let mut stream = pair.left.place.enter(|| TcpStream::connect(address).unwrap()).unwrap();
    let mut noise = Noise(3);
    let sent: Vec<u8> = (0..length / 8).flat_map(|_| noise.next().to_le_bytes()).collect();
    stream.write_all(&sent).unwrap();
    drop(stream);
    assert_eq!(receiver.join().unwrap(), (length, sum(&sent, 0)));
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_configuration_answers_while_packets_flood_it() {
    let pair = Pair::start(Ours, WireguardGo, Outer::V4);
    pair.expect_traffic();
    let stop = AtomicBool::new(false);
    let into_tunnel: SocketAddr = format!("{}:9", pair.right.inner_v4()).parse().unwrap();
    let onto_port: SocketAddr = pair.left.endpoint(Outer::V4).parse().unwrap();
    let udp = |place: &lab::Namespace| place.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    let floods = [(udp(&pair.left.place), into_tunnel), (udp(&pair.right.place), onto_port)];
    std::thread::scope(|scope| {
        // Ends the floods also when an assertion fails, or the scope would wait for ever.
        let _end = SetOnDrop(&stop);
        for (socket, to) in &floods {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // As much as goes; what does not go is no failure.
                    let _ = socket.send_to(&[4; 1200], to);
                }
            });
        }
        let mut times: Vec<Duration> = (0..30)
            .map(|round: u16| {
                let start = Instant::now();
                pair.left.set(&["listen-port", "51820", "fwmark", &round.to_string()]);
                start.elapsed()
            })
            .collect();
        times.sort();
        // Starting `wg` is most of it, on cores that are shared with both floods, wireguard-go and other tests.
        assert!(times[15] < Duration::from_secs(1), "median {:?}, longest {:?}", times[15], times[29]);
    });
    pair.expect_traffic();
}
