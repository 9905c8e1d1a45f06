//! Senders whom the edge does not listen to, or does not follow.

mod harness;

use harness::{Clock, edge, packet, reaches};
use std::time::{Duration, UNIX_EPOCH};
use verona_contract::key::Secret;
use verona_contract::psk;
use verona_tests::initiator::Initiator;

#[test]
fn a_sound_message_without_the_right_mac1_is_not_looked_at() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let datagrams = client.take_datagrams();
    assert_eq!(datagrams.len(), 2, "an introduction and an initiation");
    for (_, mut datagram) in datagrams {
        let mac1 = datagram.len() - 32;
        datagram[mac1] ^= 1;
        edge.receive(&clock, client.address, &datagram);
    }
    assert_eq!(edge.refused("mac1"), 2, "{:?}", edge.engine.counters().refused);
    assert_eq!(edge.engine.population(), (0, 0));
    assert!(edge.take_datagrams().is_empty());
}

#[test]
fn a_rekey_by_way_of_a_relay_does_not_move_the_endpoint() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    // The client's next initiation, which somebody holds back and sends on from his own address.
    let psk = psk::derive(&site.policy.owners[0].psk_root.secret, &client.key, &edge.key);
    // The one before carries the real time, by boringtun's clock; this one is of 2096.
    let later = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let initiator = Initiator::new(&client.secret, edge.key, psk);
    let initiation = initiator.initiate(Secret::new([0x5c; 32]), 7, later).message;
    let relay = "203.0.113.9:9".parse().unwrap();
    edge.receive(&clock, relay, &initiation);
    let answers = edge.take_datagrams();
    assert_eq!(answers.iter().map(|(to, datagram)| (*to, datagram[0])).collect::<Vec<_>>(), [(relay, 2)]);

    edge.send(&clock, &packet("10.9.255.1", "10.9.0.11", b"x"));
    let sent = edge.take_datagrams();
    assert!(!sent.is_empty() && sent.iter().all(|(to, _)| *to == client.address), "{sent:?}");
    assert_eq!(edge.engine.peers()[0].endpoint, Some(client.address));
}
