//! WireGuard's own timers (whitepaper §6) over hours, between two plain nodes.

use crate::SECOND;
use crate::dice::seed;
use crate::harness::{Clock, Node, Sink, packet, peer};
use crate::network::{CALM, CUT_OFF, DATA, INITIATION, RESPONSE, World};
use edge_tunnel_core::{DeviceUpdate, Output, PeerUpdate};
use mock_instant::MockClock;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

/// Left (0) initiates, right (1) learns its endpoint.
fn pair(keepalive: Option<u16>) -> World {
    let clock = Clock::new();
    MockClock::set_time(Duration::ZERO);
    let mut left = Node::new(1, "192.0.2.1:1000", &clock);
    let mut right = Node::new(2, "198.51.100.2:2000", &clock);
    right.update_peer(&clock, peer(left.key, None, &["10.0.0.1/32"]));
    let update = PeerUpdate {
        persistent_keepalive: keepalive,
        ..peer(right.key, Some(right.address), &["10.0.0.2/32"])
    };
    left.update_peer(&clock, update);
    World::new(clock, seed(), vec![left, right])
}

fn there(number: u64) -> Vec<u8> {
    packet("10.0.0.1", "10.0.0.2", &number.to_be_bytes())
}

fn back(number: u64) -> Vec<u8> {
    packet("10.0.0.2", "10.0.0.1", &number.to_be_bytes())
}

/// Both have just spoken: boringtun counts its silences from there.
fn talk(world: &mut World) -> Duration {
    world.send(0, &there(0));
    world.run(SECOND * 3);
    world.send(0, &there(1));
    world.send(1, &back(1));
    world.run(SECOND / 10);
    world.now()
}

#[test]
fn the_initiator_rekeys_after_120_s_of_use_and_nothing_is_lost() {
    let mut world = pair(None);
    for second in 0..590 {
        world.send(0, &there(second));
        world.run(SECOND / 2);
        world.send(1, &back(second));
        world.run(SECOND / 2);
    }
    assert_eq!(world.delivered.len(), 1180);
    let initiations = world.times(0, INITIATION);
    assert!(world.times(1, INITIATION).is_empty(), "the responder leaves it to the initiator");
    assert_eq!(initiations.len(), 5, "{initiations:?}");
    for pair in initiations.windows(2) {
        let interval = pair[1] - pair[0];
        assert!((SECOND * 120..SECOND * 122).contains(&interval), "{interval:?}");
    }
}

#[test]
fn keys_are_thrown_away_after_180_s() {
    let mut world = pair(None);
    world.send(0, &there(1));
    world.run(SECOND * 2);
    let clock = world.clock;
    world.nodes[0].send(&clock, &there(2));
    let recorded = world.nodes[0].take_datagrams().remove(0).1;
    world.weather = CUT_OFF;
    world.run(SECOND * 181);
    world.weather = CALM;
    let from = world.nodes[0].address;
    world.nodes[1].receive(&world.clock.clone(), from, &recorded);
    world.collect();
    assert_eq!(world.delivered.len(), 1, "a transport message under keys of 183 s");
    assert_eq!(world.nodes[1].total("data_refused"), 1);
}

#[test]
fn a_receiver_that_has_nothing_to_say_answers_after_10_s() {
    let mut world = pair(None);
    let begin = talk(&mut world);
    world.send(0, &there(2));
    world.run(SECOND * 20);
    let answers: Vec<_> = world.times(1, DATA).into_iter().filter(|at| *at > begin).collect();
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert!((SECOND * 9..SECOND * 11).contains(&(*answer - begin)), "{answer:?} after {begin:?}");
    assert_eq!(world.times(0, INITIATION).len(), 1, "so the sender does not doubt the session");
}

#[test]
fn a_sender_without_answer_makes_a_new_handshake_after_15_s() {
    let mut world = pair(None);
    let begin = talk(&mut world);
    world.weather = CUT_OFF;
    world.send(0, &there(2));
    world.run(SECOND * 18);
    let doubts: Vec<_> = world.times(0, INITIATION).into_iter().filter(|at| *at > begin).collect();
    let [doubt] = doubts.as_slice() else { panic!("{doubts:?}") };
    assert!((SECOND * 14..SECOND * 17).contains(&(*doubt - begin)), "{doubt:?} after {begin:?}");
}

#[test]
fn an_initiation_is_repeated_every_5_s_with_jitter_for_90_s_and_then_given_up() {
    let mut world = pair(None);
    world.weather = CUT_OFF;
    world.send(0, &there(1));
    world.run(SECOND * 300);
    let attempts = world.times(0, INITIATION);
    let intervals: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((16..=18).contains(&attempts.len()), "{attempts:?}");
    assert!(intervals.iter().all(|interval| (SECOND * 5..SECOND * 6).contains(interval)), "{intervals:?}");
    let distinct: HashSet<_> = intervals.iter().map(Duration::as_millis).collect();
    assert!(distinct.len() > 3, "no jitter: {intervals:?}");
    assert!(attempts.iter().all(|at| *at < SECOND * 91));

    world.weather = CALM;
    world.send(0, &there(2));
    world.run(SECOND);
    assert_eq!(world.delivered.len(), 1, "use begins again; what had waited was given up");
}

#[test]
fn a_persistent_keepalive_revives_the_link_for_ever() {
    let mut world = pair(Some(25));
    world.run(SECOND * 2);
    assert_eq!(world.times(0, INITIATION).len(), 1, "spoken to at once");
    world.run(SECOND * 600);
    let talk = world.times(0, DATA);
    assert!(talk.windows(2).all(|pair| pair[1] - pair[0] <= SECOND * 27), "silence in {talk:?}");

    world.weather = CUT_OFF;
    world.run(SECOND * 3600);
    let attempts = world.times(0, INITIATION);
    assert!(attempts.windows(2).all(|pair| pair[1] - pair[0] <= SECOND * 130), "{attempts:?}");
    world.weather = CALM;
    world.run(SECOND * 26);
    world.send(1, &back(7));
    world.run(SECOND);
    assert_eq!(world.delivered.len(), 1, "an hour later the other side reaches us again");
}

#[test]
fn giving_up_is_not_the_end_however_long_the_keepalive_interval() {
    let mut world = pair(Some(3600));
    world.weather = CUT_OFF;
    world.run(SECOND * 600);
    let attempts = world.times(0, INITIATION);
    let longest = attempts.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(longest.is_some_and(|longest| longest < SECOND * 12), "{attempts:?}");
    assert!(attempts.last().is_some_and(|last| *last > SECOND * 580), "{attempts:?}");
}

#[test]
fn unanswered_initiations_are_counted_until_a_handshake_ends() {
    let unanswered = |world: &World| world.nodes[0].engine.device().peers[0].unanswered;
    let mut world = pair(Some(25));
    assert_eq!(unanswered(&world), 1, "spoken to at once");
    world.run(SECOND * 2);
    assert_eq!(unanswered(&world), 0);
    let mut most = 0;
    for number in 0..200 {
        // One way only: the receiver's keepalives are all that comes back, and no handshake stays open.
        world.send(0, &there(number));
        world.run(SECOND);
        most = most.max(unanswered(&world));
    }
    assert!(most <= 1, "{most} in a one-way flow, where each is answered at once");
    world.weather = CUT_OFF;
    let before = world.times(0, INITIATION).len();
    let mut last = 0;
    for second in 0..300 {
        world.run(SECOND);
        let now = unanswered(&world);
        assert_eq!(now as usize, world.times(0, INITIATION).len() - before, "after {second} s");
        last = now;
    }
    assert!(last > 20, "{last}: giving up after 90 s does not clear it");
    world.weather = CALM;
    world.run(SECOND * 30);
    assert_eq!(unanswered(&world), 0);
}

#[test]
fn an_idle_link_comes_back_with_its_first_packet_after_hours() {
    let mut world = pair(None);
    world.send(0, &there(1));
    world.run(SECOND * 4 * 3600);
    world.send(0, &there(2));
    world.run(SECOND);
    // The responder's state was not ticked for hours either: its fresh session must live.
    world.send(1, &back(3));
    world.run(SECOND * 5);
    world.send(1, &back(4));
    world.run(SECOND);
    assert_eq!(world.delivered.len(), 4);
    assert_eq!(world.times(1, RESPONSE).len(), 2);
}

#[test]
fn under_load_the_second_initiation_carries_a_cookie() {
    let mut world = pair(None);
    let forged = verona_tests::forgery::Initiation::forged(world.nodes[1].key, [9; 32]).message();
    let from = world.nodes[0].address;
    // Gives the responder's answer to an initiation that comes in the middle of a flood.
    let answer = |world: &mut World, initiation: &[u8]| {
        let clock = world.clock;
        for _ in 0..1100 {
            world.nodes[1].receive(&clock, "203.0.113.1:1".parse().unwrap(), &forged);
        }
        world.nodes[1].take_datagrams();
        world.nodes[1].receive(&clock, from, initiation);
        world.nodes[1].take_datagrams().remove(0).1
    };
    let clock = world.clock;
    world.nodes[0].send(&clock, &there(1));
    let initiation = world.nodes[0].take_datagrams().remove(0).1;
    let cookie_reply = answer(&mut world, &initiation);
    assert_eq!(cookie_reply[0], 3);
    let edge = world.nodes[1].address;
    world.nodes[0].receive(&clock, edge, &cookie_reply);

    let retry = loop {
        let next = world.next_timer().unwrap();
        world.turn(next);
        let clock = world.clock;
        world.nodes[0].run_timers(&clock);
        if let Some((_, initiation)) = world.nodes[0].take_datagrams().pop() {
            break initiation;
        }
    };
    assert_ne!(retry[132..], [0; 16], "mac2");
    let response = answer(&mut world, &retry);
    assert_eq!(response[0], RESPONSE);
}

/// An output that is never asked for a buffer.
struct Silent(Sink);

impl Output for Silent {
    fn datagram_buffer(&mut self, _: SocketAddr, _: usize) -> &mut [u8] {
        unreachable!("nothing to send")
    }
    fn commit_datagram(&mut self, _: usize) {}
    fn packet_buffer(&mut self, len: usize) -> &mut [u8] {
        self.0.packet_buffer(len)
    }
    fn commit_packet(&mut self, _: usize) {}
}

#[test]
fn a_peer_without_endpoint_is_never_spoken_to() {
    MockClock::set_time(Duration::ZERO);
    let mut clock = Clock::new();
    let mut node = Node::new(1, "192.0.2.1:1", &clock);
    let other = Node::new(2, "192.0.2.2:2", &clock);
    let update = PeerUpdate { persistent_keepalive: Some(25), ..peer(other.key, None, &["10.0.0.2/32"]) };
    node.update_peer(&clock, update);
    let mut out = Silent(Sink::default());
    for second in 0..200 {
        clock.set(SECOND * second);
        MockClock::set_time(clock.passed());
        let packet = there(second.into());
        node.engine.handle_packets(clock.now(), std::iter::once(packet.as_slice()), &mut out);
        node.engine.handle_timeout(clock.now(), &mut out);
    }
    assert_eq!((node.sessions(), node.total("packets_unroutable")), (0, 200));
    node.configure(&clock, DeviceUpdate::default());
}
