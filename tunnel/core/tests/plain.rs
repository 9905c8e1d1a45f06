//! Plain WireGuard between two engines.

mod harness;

use edge_tunnel_core::{AllowedIpUpdate, ConfigError, DeviceUpdate, PeerUpdate, Secret, introduction};
use harness::{Clock, Node, packet, peer, settle};

fn pair(clock: &Clock) -> (Node, Node) {
    let mut left = Node::new(1, "192.0.2.1:1000", clock);
    let mut right = Node::new(2, "[2001:db8::2]:2000", clock);
    left.update_peer(clock, peer(right.key, Some(right.address), &["10.0.0.2/32", "fd00::2/128"]));
    right.update_peer(clock, peer(left.key, None, &["10.0.0.1/32", "fd00::1/128"]));
    (left, right)
}

#[test]
fn packets_of_both_families_cross_in_both_directions() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    for len in [0, 1, 15, 16, 17, 1380] {
        let (v4, v6) =
            (packet("10.0.0.1", "10.0.0.2", &vec![7; len]), packet("fd00::1", "fd00::2", &vec![8; len]));
        left.send(&clock, &v4);
        left.send(&clock, &v6);
        settle(&clock, &mut left, &mut right);
        assert_eq!(right.take_packets(), [v4, v6], "{len} octets, the first ones from the queue");
        let back = packet("10.0.0.2", "10.0.0.1", &vec![9; len]);
        right.send(&clock, &back);
        settle(&clock, &mut left, &mut right);
        assert_eq!(left.take_packets(), [back]);
    }
    assert_eq!((left.total("handshakes"), right.total("handshakes")), (1, 1));
}

#[test]
fn plaintext_is_padded_to_16_and_not_beyond_the_mtu() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b""));
    settle(&clock, &mut left, &mut right);
    for (payload, sealed) in [(1, 32), (12, 32), (13, 48), (1399, 1420), (1400, 1420)] {
        left.send(&clock, &packet("10.0.0.1", "10.0.0.2", &vec![7; payload]));
        let datagrams = left.take_datagrams();
        assert_eq!(datagrams.len(), 1);
        assert_eq!(datagrams[0].1.len(), sealed + 32, "payload of {payload}");
    }
}

#[test]
fn a_source_counts_only_by_the_narrowest_route() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    // `left` may speak for all of 10/8, except for what another peer holds more narrowly.
    right.update_peer(&clock, peer(left.key, None, &["10.0.0.0/8"]));
    let third = Node::new(3, "192.0.2.3:3", &clock);
    right.update_peer(&clock, peer(third.key, None, &["10.3.0.0/16"]));
    for (source, passes) in [("10.0.0.1", true), ("10.2.0.1", true), ("10.3.0.1", false), ("11.0.0.1", false)]
    {
        left.send(&clock, &packet(source, "10.0.0.2", b"x"));
        settle(&clock, &mut left, &mut right);
        assert_eq!(right.take_packets().len(), usize::from(passes), "{source}");
    }
    assert_eq!(right.total("packets_wrong_source"), 2);
}

#[test]
fn an_endpoint_moves_with_transport_messages_only() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"x"));
    let initiation = left.take_datagrams().remove(0).1;
    let relay = "203.0.113.9:9".parse().unwrap();
    right.receive(&clock, relay, &initiation);
    let endpoint = |node: &Node| node.engine.device().peers[0].endpoint;
    assert_eq!(endpoint(&right), None, "an initiation may come by way of anybody");
    let (to, response) = right.take_datagrams().remove(0);
    assert_eq!(to, relay);
    left.receive(&clock, right.address, &response);
    settle(&clock, &mut left, &mut right);
    assert_eq!(endpoint(&right), Some(left.address));

    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"y"));
    let mut data = left.take_datagrams().remove(0).1;
    let last = data.len() - 1;
    data[last] ^= 1;
    right.receive(&clock, relay, &data);
    assert_eq!(endpoint(&right), Some(left.address), "not authentic");
    data[last] ^= 1;
    right.receive(&clock, relay, &data);
    assert_eq!(endpoint(&right), Some(relay));
    right.receive(&clock, left.address, &data);
    assert_eq!(endpoint(&right), Some(relay), "a replay");
}

#[test]
fn a_recorded_initiation_is_refused_also_after_the_peer_was_away() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"x"));
    let recorded = left.out.datagrams[0].1.clone();
    settle(&clock, &mut left, &mut right);
    right.receive(&clock, left.address, &recorded);
    assert_eq!(right.refused("replay"), 1);
    right.update_peer(&clock, PeerUpdate { remove: true, ..PeerUpdate::new(left.key) });
    right.receive(&clock, left.address, &recorded);
    assert_eq!(right.refused("unknown_key"), 1);
    right.update_peer(&clock, peer(left.key, None, &["10.0.0.1/32"]));
    right.receive(&clock, left.address, &recorded);
    assert_eq!(right.refused("replay"), 2);
    assert_eq!(right.sessions(), 0);
    assert!(right.take_datagrams().is_empty());
}

#[test]
fn another_preshared_key_lets_nothing_through() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    let psk = |octet| PeerUpdate {
        preshared_key: Some(Some(Secret::new([octet; 32]))),
        ..PeerUpdate::new(Node::new(1, "192.0.2.1:1", &clock).key)
    };
    right.update_peer(&clock, psk(5));
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"x"));
    settle(&clock, &mut left, &mut right);
    assert!(right.take_packets().is_empty());
    assert_eq!(left.refused("not_authentic"), 1, "the response does not open");
}

#[test]
fn a_transaction_moves_networks_and_removes_what_it_replaces() {
    let clock = Clock::new();
    let (mut left, right) = pair(&clock);
    let third = Node::new(3, "192.0.2.3:3", &clock);
    left.update_peer(&clock, peer(third.key, None, &["10.0.0.2/32"]));
    let networks = |node: &Node, key| {
        let status = node.engine.device();
        let peer = status.peers.into_iter().find(|peer| peer.public_key == key);
        peer.map(|peer| peer.allowed_ips.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(networks(&left, right.key), Some(vec!["fd00::2/128".into()]));
    assert_eq!(networks(&left, third.key), Some(vec!["10.0.0.2/32".into()]));

    let removal = vec![AllowedIpUpdate::Remove("10.0.0.2/32".parse().unwrap())];
    left.update_peer(&clock, PeerUpdate { allowed_ips: removal, ..PeerUpdate::new(third.key) });
    assert_eq!(networks(&left, third.key), Some(Vec::new()));

    let unknown = Node::new(4, "192.0.2.4:4", &clock).key;
    left.update_peer(&clock, PeerUpdate { update_only: true, ..PeerUpdate::new(unknown) });
    assert_eq!(networks(&left, unknown), None);

    let own = left.key;
    left.update_peer(&clock, PeerUpdate::new(own));
    assert_eq!(networks(&left, own), None, "a device is not its own peer");

    left.configure(&clock, DeviceUpdate { replace_peers: true, ..DeviceUpdate::default() });
    assert!(left.engine.device().peers.is_empty());
}

#[test]
fn an_introduction_that_does_not_fit_changes_nothing() {
    let clock = Clock::new();
    let (mut left, right) = pair(&clock);
    let certificates = edge_tunnel_core::Introduction {
        binding: None,
        leaf: vec![1; introduction::MAX_CERTIFICATES - 2],
        intermediate: None,
    };
    let update = DeviceUpdate {
        replace_peers: true,
        peers: vec![PeerUpdate { introduction: Some(certificates), ..PeerUpdate::new(right.key) }],
        ..DeviceUpdate::default()
    };
    let refused = left.engine.configure(clock.now(), update, &mut left.out);
    let octets = introduction::MAX_CERTIFICATES + 1;
    assert_eq!(refused, Err(ConfigError::IntroductionTooLarge { octets }));
    assert_eq!(left.engine.device().peers.len(), 1);
}

#[test]
fn a_new_private_key_ends_all_sessions() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"x"));
    settle(&clock, &mut left, &mut right);
    assert_eq!(right.sessions(), 1);
    let private_key = Some(Some(Secret::new([99; 32])));
    right.configure(&clock, DeviceUpdate { private_key, ..DeviceUpdate::default() });
    assert_eq!(right.sessions(), 0);
    let none = DeviceUpdate { private_key: Some(None), ..DeviceUpdate::default() };
    right.configure(&clock, none);
    assert!(right.engine.device().public_key.is_none());
    right.receive(&clock, left.address, &[1; 148]);
    assert!(right.take_datagrams().is_empty());
}

#[test]
fn a_flood_of_initiations_is_answered_by_cookies() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    // Strangers who know the key: mac1 is right, the rest is not.
    let forged = verona_tests::forgery::Initiation::forged(right.key, [9; 32]).message();
    let flood: std::net::SocketAddr = "203.0.113.1:1".parse().unwrap();
    for _ in 0..1000 {
        right.receive(&clock, flood, &forged);
    }
    right.receive(&clock, flood, &forged);
    let cookie_replies = right.take_datagrams();
    assert_eq!(cookie_replies.len(), 1, "the first that is over the rate");
    assert_eq!((cookie_replies[0].1[0], cookie_replies[0].1.len()), (3, 64));
    assert_eq!(right.refused("cookie_demanded"), 1);

    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"x"));
    settle(&clock, &mut left, &mut right);
    assert!(right.take_packets().is_empty());
    assert_eq!(left.total("cookies_taken"), 1);
}

#[test]
fn no_datagram_brings_it_down() {
    let clock = Clock::new();
    let (mut left, mut right) = pair(&clock);
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"x"));
    let mut seen = vec![left.out.datagrams[0].1.clone()];
    settle(&clock, &mut left, &mut right);
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"y"));
    seen.push(left.take_datagrams().remove(0).1);
    for message in &seen {
        for len in 0..=message.len() {
            right.receive(&clock, left.address, &message[..len]);
        }
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 0x80;
            right.receive(&clock, left.address, &altered);
        }
    }
    for len in 0..100 {
        right.send(&clock, &vec![0x45; len]);
        right.send(&clock, &vec![0x60; len]);
    }
    left.send(&clock, &packet("10.0.0.1", "10.0.0.2", b"z"));
    right.take_packets();
    settle(&clock, &mut left, &mut right);
    assert_eq!(right.take_packets().len(), 1, "the session has outlived it all");
}
