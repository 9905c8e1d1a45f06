//! Two engines with a path between them: congestion marks, sizes, and what is said inward.

mod harness;

use edge_tunnel_core::ecn::Ecn;
use edge_tunnel_core::{Datagram, Marks};
use harness::{Clock, Node, packet, peer, settle};
use std::time::Duration;
use verona_contract::control::Event;

/// IP and UDP headers of a datagram over IPv4.
const HEADERS: usize = 28;

fn pair(clock: &Clock) -> (Node, Node) {
    let mut left = Node::new(1, "192.0.2.1:1000", clock);
    let mut right = Node::new(2, "192.0.2.2:2000", clock);
    left.update_peer(clock, peer(right.key, Some(right.address), &["10.0.0.2/32", "fd00::2/128"]));
    right.update_peer(clock, peer(left.key, None, &["10.0.0.1/32", "fd00::1/128"]));
    left.send(clock, &packet("10.0.0.1", "10.0.0.2", b"hello"));
    settle(clock, &mut left, &mut right);
    right.take_packets();
    left.out.marks.clear();
    (left, right)
}

/// An IPv4 packet of `len` octets that must not be cut.
fn whole(len: usize) -> Vec<u8> {
    let mut packet = packet("10.0.0.1", "10.0.0.2", &vec![7; len - 20]);
    packet[6] = 0x40;
    packet
}

/// The left end's ICMP message about a packet that was too large, and the size in it.
fn told(left: &mut Node) -> Option<u16> {
    let packets = left.take_packets();
    assert!(packets.len() <= 1);
    let message = packets.first()?;
    assert_eq!((message[9], message[20], message[21]), (1, 3, 4), "fragmentation needed");
    assert_eq!((&message[12..16], &message[16..20]), (&[10, 0, 0, 2][..], &[10, 0, 0, 1][..]));
    Some(u16::from_be_bytes([message[26], message[27]]))
}

/// What a network of `width` octets does with the datagrams of the left end for `seconds`, while packets of
/// `len` octets flow.
fn flow(clock: &mut Clock, ends: (&mut Node, &mut Node), width: usize, len: usize, seconds: u64) -> usize {
    let (left, right) = ends;
    let end = clock.passed() + Duration::from_secs(seconds);
    let mut arrived = 0;
    while clock.passed() < end {
        clock.set(clock.passed() + Duration::from_millis(100));
        left.send(clock, &whole(len));
        left.run_timers(clock);
        right.run_timers(clock);
        let marks = std::mem::take(&mut left.out.marks);
        for ((_, datagram), marks) in left.take_datagrams().into_iter().zip(marks) {
            // A router cuts what it may, and the far host puts it together.
            if datagram.len() + HEADERS <= width || !marks.dont_fragment {
                right.receive(clock, left.address, &datagram);
            }
        }
        for (_, datagram) in right.take_datagrams() {
            left.receive(clock, right.address, &datagram);
        }
        arrived += right.take_packets().len();
    }
    arrived
}

#[test]
fn marks_go_out_and_come_in() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    for (inner, outer, arriving) in [
        (0b10, Ecn::Ect0, Some(0b10)),
        (0b10, Ecn::Ce, Some(0b11)),
        (0b01, Ecn::Ce, Some(0b11)),
        (0b11, Ecn::NotEct, Some(0b11)),
        (0b00, Ecn::NotEct, Some(0b00)),
        (0b00, Ecn::Ect1, Some(0b00)),
        (0b00, Ecn::Ce, None),
    ] {
        let mut packet = packet("fd00::1", "fd00::2", b"x");
        (packet[0], packet[1]) = (0x6b, 0x80 | inner << 4);
        left.send(&clock, &packet);
        assert_eq!(std::mem::take(&mut left.out.marks), [Marks { tos: inner, dont_fragment: false }]);
        let datagram = left.take_datagrams().remove(0).1;
        let datagram = Datagram { from: left.address, ecn: outer, octets: &datagram };
        right.engine.handle_datagrams(clock.now(), std::iter::once(datagram), &mut right.out);
        packet[1] = 0x80 | arriving.unwrap_or(0) << 4;
        let expected: Vec<Vec<u8>> = arriving.map(|_| packet).into_iter().collect();
        assert_eq!(right.take_packets(), expected, "{inner} in {outer:?}");
    }
    let counted = ["ecn_marked", "ecn_unexpected", "ecn_dropped"].map(|name| right.total(name));
    assert_eq!(counted, [2, 1, 1]);
    // The service class leaves only when it is asked for.
    left.engine.set_copy_dscp(true);
    let mut packet = packet("10.0.0.1", "10.0.0.2", b"x");
    packet[1] = 0xb9;
    left.send(&clock, &packet);
    assert_eq!(left.out.marks, [Marks { tos: 0xb9, dont_fragment: false }]);
}

#[test]
fn a_router_that_quotes_us_is_believed_and_a_stranger_is_not() {
    let clock = Clock::new();
    let (mut left, right) = pair(&clock);
    left.send(&clock, &whole(1420));
    let datagram = left.take_datagrams().remove(0).1;
    let mut forged = datagram.clone();
    forged[4] ^= 1;
    for quoted in [&forged[..], &datagram[..7], &[]] {
        left.engine.path_too_big(right.address, 1300, Some(quoted));
    }
    left.engine.path_too_big("192.0.2.3:2000".parse().unwrap(), 1300, Some(&datagram));
    left.send(&clock, &whole(1420));
    assert_eq!((left.take_datagrams().len(), told(&mut left)), (1, None));

    left.engine.path_too_big(right.address, 1300, Some(&datagram[..8]));
    left.send(&clock, &whole(1420));
    assert_eq!((left.take_datagrams().len(), told(&mut left)), (0, Some(1240)));
    left.send(&clock, &whole(1240));
    let fitting = left.take_datagrams().remove(0).1;
    assert_eq!(fitting.len() + HEADERS, 1300, "not padded beyond what passes");
    assert_eq!(left.total("packets_too_big"), 1);
}

#[test]
fn what_may_be_cut_arrives_in_pieces_and_ipv6_of_1280_as_it_is() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    left.engine.path_too_big(right.address, 1290, None);
    let mut packet_v4 = packet("10.0.0.1", "10.0.0.2", &[7; 1380]);
    // The header checksum that a host would have written.
    let sum: u32 = packet_v4[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    packet_v4[10..12].copy_from_slice(&(!(sum + (sum >> 16)) as u16).to_be_bytes());
    left.send(&clock, &packet_v4);
    assert!(left.out.datagrams.iter().all(|(_, datagram)| datagram.len() + HEADERS <= 1290));
    settle(&clock, &mut left, &mut right);
    let lengths: Vec<usize> = right.take_packets().iter().map(Vec::len).collect();
    assert_eq!(lengths, [1228, 192]);
    assert_eq!(left.total("packets_cut"), 1);

    let packet_v6 = packet("fd00::1", "fd00::2", &[7; 1240]);
    left.send(&clock, &packet_v6);
    settle(&clock, &mut left, &mut right);
    assert_eq!(right.take_packets(), [packet_v6]);
    left.send(&clock, &packet("fd00::1", "fd00::2", &[7; 1241]));
    let message = left.take_packets().remove(0);
    assert_eq!((message[40], &message[44..48]), (2, &1280_u32.to_be_bytes()[..]), "packet too big");
}

#[test]
fn two_of_ours_find_out_what_passes() {
    for width in [1480, 1454, 1300] {
        let mut clock = Clock::new();
        let (mut left, mut right) = pair(&clock);
        flow(&mut clock, (&mut left, &mut right), width, 1420, 12);
        left.take_packets();
        left.send(&clock, &whole(1420));
        let size = told(&mut left).map_or(1480, |inner| usize::from(inner) + 60);
        assert!(size <= width && width - size <= 8, "{size} for {width}");
        let news: Vec<Event> =
            left.events().into_iter().filter(|event| matches!(event, Event::PathMtu { .. })).collect();
        let expected = Event::PathMtu {
            key: right.key,
            path_mtu: Some(size as u16),
            interface_mtu: (size as u16 - 60).max(1280),
        };
        assert_eq!(news.last(), (width < 1480).then_some(&expected), "{news:?}");
        // From now on no router may cut; whatever fits arrives.
        left.take_datagrams();
        left.out.marks.clear();
        left.send(&clock, &whole(size - 60));
        assert!(left.out.marks[0].dont_fragment);
        settle(&clock, &mut left, &mut right);
        assert_eq!(right.take_packets(), [whole(size - 60)], "a probe is never delivered");
    }
}

#[test]
fn a_path_that_becomes_narrow_in_silence_carries_again_within_40_s() {
    let mut clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    assert_eq!(flow(&mut clock, (&mut left, &mut right), 1500, 1420, 10), 100);
    // 1380 outside: the first size that the search tells, on its way to 1400.
    let arrived = flow(&mut clock, (&mut left, &mut right), 1400, 1320, 40);
    assert_eq!(arrived, 400, "what fits is not lost while the search runs");
    flow(&mut clock, (&mut left, &mut right), 1400, 1420, 40);
    left.take_packets();
    left.send(&clock, &whole(1420));
    let inner = told(&mut left);
    assert!(inner.is_some_and(|inner| (1332..=1340).contains(&inner)), "{inner:?}");
}

#[test]
fn a_peer_that_answers_no_probe_gets_what_routers_may_cut() {
    let mut clock = Clock::new();
    let (mut left, right) = pair(&clock);
    let mut questions = 0;
    for _ in 0..100 {
        clock.set(clock.passed() + Duration::from_millis(100));
        left.send(&clock, &whole(1420));
        left.run_timers(&clock);
        let marks = std::mem::take(&mut left.out.marks);
        for ((_, datagram), marks) in left.take_datagrams().into_iter().zip(marks) {
            assert!(datagram.len() == 1420 + 32 || datagram.len() == 1220 + 32);
            questions += usize::from(marks.dont_fragment);
        }
    }
    assert_eq!(questions, 6, "three times two, and then nothing for ten minutes");
    assert_eq!(told(&mut left), None);
    assert!(left.events().iter().all(|event| !matches!(event, Event::PathMtu { .. })));
    drop(right);
}
