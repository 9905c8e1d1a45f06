//! The path between the ends: narrow links with and without a router that says so, congestion marks, losses
//! in full buffers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lab::{Namespace, wait};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};

use crate::pair::{End, Implementation, Outer, PATIENCE, Pair};
use Implementation::{Ours, WireguardGo};

/// Largest IP packet on the narrow link.
const NARROW: u16 = 1300;

/// Two ends with a link of [`NARROW`] behind the router that both see.
fn narrow(left: Implementation, right: Implementation, outer: Outer, icmp: bool) -> Pair {
    let (pair, router) = Pair::routed();
    if !icmp {
        // Neither "fragmentation needed" nor "packet too big" leaves the router.
        router
            .nft(
                "table inet path { chain mute { type filter hook output priority 0; \
                 icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }",
            )
            .unwrap();
    }
    pair.start_ends(left, right, outer);
    pair.expect_traffic();
    router.ip(&format!("link set right mtu {NARROW}")).unwrap();
    pair.right.place.ip(&format!("link set eth0 mtu {NARROW}")).unwrap();
    pair
}

/// Moves `octets` over TCP and says how long that took; they must arrive as they were sent.
fn transfer(from: &End, to: &End, address: &str, octets: usize) -> Duration {
    let address: SocketAddr = address.parse().unwrap();
    let listener = to.place.enter(|| TcpListener::bind(address).unwrap()).unwrap();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).map(|_| received)
    });
    let sent: Vec<u8> = (0..octets).map(|at| ((at * 31) >> 3) as u8).collect();
    let begin = Instant::now();
    let connect = || TcpStream::connect_timeout(&address, PATIENCE);
    let mut stream = from.place.enter(connect).unwrap().unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&sent).unwrap();
    drop(stream);
    let received = receiver.join().unwrap().unwrap();
    assert!(received == sent, "{} of {octets} octets", received.len());
    begin.elapsed()
}

fn inner(end: &End) -> [String; 2] {
    [format!("{}:7001", end.inner_v4()), format!("[{}]:7001", end.inner_v6())]
}

/// One counter of the status.
fn counter(end: &End, name: &str) -> u64 {
    let status = crate::control::status(end);
    status["counters"]["totals"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {status}"))
}

/// TCP over IPv4 and IPv6 inside through a path that became narrow, and how often a packet was too large.
fn expect_tcp(pair: &Pair) {
    for address in inner(&pair.right) {
        let time = transfer(&pair.left, &pair.right, &address, 2 << 20);
        assert!(time < PATIENCE, "{address}: {time:?}");
    }
}

/// Waits until packets are refused for being too large.
fn expect_word_inward(pair: &Pair) {
    wait::until("a word inward", PATIENCE, || {
        transfer(&pair.left, &pair.right, &inner(&pair.right)[0], 100_000);
        counter(&pair.left, "packets_too_big") > 0
    })
    .unwrap();
}

#[test]
fn a_narrow_path_that_says_so_is_told_inward() {
    for outer in [Outer::V4, Outer::V6] {
        let pair = narrow(Ours, Ours, outer, true);
        expect_tcp(&pair);
        expect_word_inward(&pair);
        // The local host has learned what passes: 1300 less the outer headers.
        let route = pair.left.place.output("ip", &["route", "get", &pair.right.inner_v4()]).unwrap();
        let passes = match outer {
            Outer::V4 => "mtu 1240",
            Outer::V6 => "mtu 1220",
        };
        assert!(route.contains(passes), "{route}");
    }
}

#[test]
fn a_narrow_path_that_swallows_is_found_by_probing() {
    let pair = narrow(Ours, Ours, Outer::V4, false);
    expect_tcp(&pair);
    expect_word_inward(&pair);
    // The first size that is told is at most an eighth of the way to 1280 below the truth.
    let route = pair.left.place.output("ip", &["route", "get", &pair.right.inner_v4()]).unwrap();
    let mtu = route.split_whitespace().skip_while(|word| *word != "mtu").nth(1).unwrap();
    assert!((1240 - 200 / 8..=1240).contains(&mtu.parse::<u16>().unwrap()), "{route}");
}

#[test]
fn stock_wireguard_behind_a_narrow_path_is_reached_with_and_without_a_word() {
    for icmp in [true, false] {
        let pair = narrow(Ours, WireguardGo, Outer::V4, icmp);
        expect_tcp(&pair);
    }
}

#[test]
fn packets_that_may_be_cut_are_cut_before_they_are_sealed() {
    let pair = narrow(Ours, Ours, Outer::V4, true);
    expect_word_inward(&pair);
    let fragments = || {
        let snmp = pair.right.place.output("cat", &["/proc/net/snmp"]).unwrap();
        let mut lines = snmp.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "ReasmOKs").unwrap();
        values.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
    };
    // The local host has learned what passes, and would cut by itself.
    pair.left.place.ip("route flush cache").unwrap();
    let before = fragments();
    let ping = ["-n", "-c", "3", "-i", "0.2", "-W", "2", "-M", "dont", "-s", "1392", &pair.right.inner_v4()];
    pair.left.place.output("ping", &ping).unwrap();
    assert!(fragments() >= before + 3, "the echo requests came in pieces, and were joined inside");
    assert!(counter(&pair.left, "packets_cut") >= 3);
}

/// Receives one datagram, with its ToS.
fn receive_tos(socket: &UdpSocket) -> Option<(usize, u8)> {
    use std::os::fd::AsRawFd;
    let mut buffer = [0; 2048];
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(u8);
    let message =
        recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).ok()?;
    let tos = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Tos(tos) => Some(tos),
        _ => None,
    });
    Some((message.bytes, tos.unwrap_or(0)))
}

fn udp(place: &Namespace, address: &str) -> UdpSocket {
    let socket = place.enter(|| UdpSocket::bind(address).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    setsockopt(&socket, sockopt::IpRecvTos, &true).unwrap();
    socket
}

#[test]
fn congestion_marks_cross_the_tunnel() {
    // The outer ToS that leaves, as the router counts it; the ToS that arrives inside; what the router does.
    let (pair, router) = Pair::routed();
    router
        .nft(
            "table ip path { \
               counter ect0 {}; counter ect1 {}; counter ce {}; counter dscp {}; \
               chain count { type filter hook forward priority 0; \
                 udp dport 51820 udp length > 400 ip ecn ect0 counter name ect0; \
                 udp dport 51820 udp length > 400 ip ecn ect1 counter name ect1; \
                 udp dport 51820 udp length > 400 ip ecn ce counter name ce; \
                 udp dport 51820 udp length > 400 ip dscp != 0 counter name dscp; }; }",
        )
        .unwrap();
    pair.start_ends(Ours, Ours, Outer::V4);
    pair.expect_traffic();
    let receiver = udp(&pair.right.place, &format!("{}:7002", pair.right.inner_v4()));
    let sender = udp(&pair.left.place, &format!("{}:0", pair.left.inner_v4()));
    let send = |tos: u8| {
        socket2::SockRef::from(&sender).set_tos_v4(tos.into()).unwrap();
        sender.send_to(&[7; 500], format!("{}:7002", pair.right.inner_v4())).unwrap();
        receive_tos(&receiver)
    };
    // DSCP EF and each mark: the mark goes out, DSCP stays inside, all arrives.
    for mark in [0b10, 0b01, 0b11, 0b00] {
        assert_eq!(send(0xb8 | mark), Some((500, 0xb8 | mark)));
    }
    let counted = |name: &str| {
        let text = router.output("nft", &["list", "counter", "ip", "path", name]).unwrap();
        text.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(["ect0", "ect1", "ce", "dscp"].map(counted), [1, 1, 1, 0]);
    // A congested router: marks become CE inside, and what cannot be marked is dropped.
    router
        .nft(
            "table ip mangle { chain congested { type filter hook forward priority 1; \
             udp dport 51820 udp length > 400 ip ecn set ce; }; }",
        )
        .unwrap();
    for mark in [0b10, 0b01, 0b11] {
        assert_eq!(send(0xb8 | mark), Some((500, 0xbb)));
    }
    assert_eq!(counter(&pair.right, "ecn_dropped"), 0);
    assert_eq!(send(0xb8), None);
    assert_eq!(counter(&pair.right, "ecn_dropped"), 1);
    assert_eq!(counter(&pair.right, "ecn_marked"), 2);
}

#[test]
fn what_full_buffers_cost_is_counted() {
    let pair = Pair::new();
    pair.right.start(Ours);
    pair.configure(&pair.right, &pair.left, None);
    pair.right.bring_up();
    let tunnel = pair.left.start_foreground(&pair.run);
    pair.configure(&pair.left, &pair.right, Some(Outer::V4));
    pair.left.bring_up();
    pair.expect_traffic();
    assert_eq!(counter(&pair.left, "udp_receive_dropped"), 0);
    assert_eq!(counter(&pair.left, "tun_dropped"), 0);
    // While the process sleeps nobody empties its buffers: 7 MB of the socket, 500 packets of the interface.
    tunnel.signal(Signal::SIGSTOP).unwrap();
    let outside = udp(&pair.right.place, "0.0.0.0:0");
    let inside = udp(&pair.left.place, "0.0.0.0:0");
    let (to, through) = (pair.left.endpoint(Outer::V4), format!("{}:9", pair.right.inner_v4()));
    wait::until("a full socket", PATIENCE, || {
        for _ in 0..1000 {
            let _ = outside.send_to(&[4; 1400], &to);
            let _ = inside.send_to(&[7; 100], &through);
        }
        // The last column of the kernel's own table.
        let table = pair.left.place.output("cat", &["/proc/net/udp"]).unwrap();
        table.lines().any(|line| line.contains(":CA6C") && !line.trim_end().ends_with(" 0"))
    })
    .unwrap();
    tunnel.signal(Signal::SIGCONT).unwrap();
    wait::until("losses in the counters", PATIENCE, || {
        counter(&pair.left, "udp_receive_dropped") > 0 && counter(&pair.left, "tun_dropped") > 0
    })
    .unwrap();
    let before = counter(&pair.left, "udp_receive_dropped");
    // A new socket begins at 0, the counter does not.
    pair.left.set(&["listen-port", "4001"]);
    assert!(counter(&pair.left, "udp_receive_dropped") >= before);
}
