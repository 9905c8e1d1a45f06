//! Certified clients in bad weather: storms, revocation, restarts, certificates that end.

use crate::SECOND;
use crate::dice::seed;
use crate::harness::{Clock, Node, Site, edge, packet, secret};
use crate::network::{CALM, CUT_OFF, INITIATION, STORM, Weather, World};
use mock_instant::MockClock;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::control::PeerEndpoint;

#[test]
fn a_brisk_client_has_five_unanswered_initiations_5_s_after_its_edge_went() {
    let (mut world, _site) = certified_world(seed());
    let flow = |world: &mut World, tenths: u64| {
        for number in 0..tenths {
            world.send(1, &packet("10.9.0.11", "10.9.255.1", &number.to_be_bytes()));
            world.run(SECOND / 10);
            if number % 5 == 0 {
                world.send(0, &packet("10.9.255.1", "10.9.0.11", &number.to_be_bytes()));
            }
        }
        world.nodes[1].engine.device().peers[0].unanswered
    };
    assert_eq!(flow(&mut world, 100), 0);
    world.weather = CUT_OFF;
    let counts = [flow(&mut world, 30), flow(&mut world, 30)];
    assert!((1..5).contains(&counts[0]) && counts[1] >= 5, "{counts:?} after 3 s and 6 s");
}

/// Hours of bad weather between an edge and two clients, against the reference model.
#[test]
fn storms_deliver_only_what_was_sent_once_and_by_its_owner() {
    for round in 0..4 {
        let (mut world, site) = certified_world(seed() + round);
        world.weather = STORM;
        let mut sent = HashSet::new();
        for number in 0u64..900 {
            let from = 1 + world.dice.below(2) as usize;
            let own = format!("10.9.0.{}", 10 + from);
            let spoofed = world.dice.chance(10);
            let source = if spoofed { "10.9.0.77" } else { own.as_str() };
            let up = packet(source, "10.9.255.1", &number.to_be_bytes());
            let down = packet("10.9.255.1", &own, &number.to_be_bytes());
            if !spoofed {
                sent.insert((0, up.clone()));
            }
            sent.insert((from, down.clone()));
            world.send(from, &up);
            world.send(0, &down);
            let pause = if world.dice.chance(2) { 150_000 } else { world.dice.below(3000) };
            world.run(Duration::from_millis(pause));
        }
        let total = sent.len();
        for (at, node, packet) in &world.delivered {
            assert!(sent.remove(&(*node, packet.clone())), "twice or never sent: node {node} at {at:?}");
        }
        assert!(world.delivered.len() * 10 > total * 5, "{} of {total}", world.delivered.len());

        world.weather = CALM;
        world.run(SECOND * 20);
        world.delivered.clear();
        for from in [1, 2] {
            world.send(from, &packet(&format!("10.9.0.{}", 10 + from), "10.9.255.1", b"calm"));
        }
        world.run(SECOND * 2);
        assert_eq!(world.delivered.len(), 2, "both are back once the weather is");
        drop(site);
    }
}

fn certified_world(seed: u64) -> (World, Site) {
    MockClock::set_time(Duration::ZERO);
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    // Certificates of ten hours and a list of a day outlast the run.
    site.revoke(&clock, &mut edge, &[]);
    let clients = [11, 12].map(|seed| site.client(seed, &clock, &edge, site.introduction(seed)));
    let [first, second] = clients;
    (World::new(clock, seed, vec![edge, first, second]), site)
}

#[test]
fn a_revoked_client_hears_and_reaches_nothing_in_any_weather() {
    for round in 0..4 {
        let (mut world, mut site) = certified_world(seed() + round);
        world.weather = STORM;
        for number in 0u64..60 {
            world.send(1, &packet("10.9.0.11", "10.9.255.1", &number.to_be_bytes()));
            world.run(SECOND / 2);
        }
        let clock = world.clock;
        site.revoke(&clock, &mut world.nodes[0], &[11]);
        world.delivered.clear();
        for number in 100u64..300 {
            world.send(1, &packet("10.9.0.11", "10.9.255.1", &number.to_be_bytes()));
            world.send(0, &packet("10.9.255.1", "10.9.0.11", &number.to_be_bytes()));
            world.run(SECOND);
        }
        let beyond: Vec<_> = world.delivered.iter().filter(|(_, node, _)| *node == 0).collect();
        assert!(beyond.is_empty(), "{beyond:?}");
        // What the edge had sent before the cut may still arrive.
        let late = world.delivered.iter().filter(|(at, _, _)| *at > clock.passed() + SECOND).count();
        assert_eq!(late, 0);
    }
}

#[test]
fn a_client_follows_a_restarted_edge_within_3_s() {
    for round in 0..8 {
        let (mut world, site) = certified_world(seed() + round);
        world.weather = Weather { loss: 0, duplication: 0, delay: 40 };
        let ping = |world: &mut World, number: u64| {
            world.send(1, &packet("10.9.0.11", "10.9.255.1", &number.to_be_bytes()));
            world.run(SECOND / 10);
            world.send(0, &packet("10.9.255.1", "10.9.0.11", &number.to_be_bytes()));
        };
        for number in 0..200 {
            ping(&mut world, number);
        }
        let crash = world.now();
        let delivered = world.delivered.len();
        // A new process: no sessions, no records, no floors; policy and list again after half a second.
        world.nodes[0] = Node::new(201, "203.0.113.250:1", &world.clock);
        let died_at: SocketAddr = "198.51.100.1:51820".parse().unwrap();
        world.run(SECOND / 2);
        let clock = world.clock;
        let mut fresh = Node::new(200, &died_at.to_string(), &clock);
        site.install(&clock, &mut fresh);
        fresh.engine.set_clock(clock.now(), true);
        let list = site.authority.crl(9, &[], clock.now().wall);
        let list = edge_tunnel_core::CrlSet::load(&list, &fresh.engine.issuers()).unwrap();
        fresh.engine.install_crl(clock.now(), list).unwrap();
        world.nodes[0] = fresh;
        let mut number = 1000;
        while world.delivered.len() == delivered {
            ping(&mut world, number);
            number += 1;
            assert!(world.now() < crash + SECOND * 3, "round {round}: no traffic 3 s after the crash");
        }
    }
}

#[test]
fn a_client_that_never_doubts_is_back_3_s_after_a_restart_by_a_hint() {
    let (mut world, mut site) = certified_world(seed());
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    let clock = world.clock;
    site.install(&clock, &mut world.nodes[0]);
    let client = site.client(11, &clock, &world.nodes[0], None);
    let hint = PeerEndpoint { key: client.key, endpoint: client.address };
    world.nodes.truncate(1);
    world.nodes.push(client);
    let flow = |world: &mut World, seconds: u64| {
        for number in 0..seconds * 10 {
            world.send(1, &packet("10.9.0.11", "10.9.255.1", &number.to_be_bytes()));
            world.run(SECOND / 10);
        }
    };
    flow(&mut world, 10);
    assert_eq!(world.delivered.len(), 100);

    for (hints, back) in [(vec![hint], 0..3), (Vec::new(), 5..20)] {
        let restart = world.now();
        let clock = world.clock;
        let mut edge = Node::new(200, "198.51.100.1:51820", &clock);
        site.policy.endpoints = hints;
        site.install(&clock, &mut edge);
        edge.engine.set_clock(clock.now(), true);
        site.revoke(&clock, &mut edge, &[]);
        world.nodes[0] = edge;
        world.delivered.clear();
        flow(&mut world, 25);
        let first = world.delivered.first().map(|(at, ..)| (*at - restart).as_secs()).unwrap();
        assert!(back.contains(&first), "{first} s, {} hints", site.policy.endpoints.len());
    }
}

#[test]
fn a_hint_where_nobody_is_costs_90_s_of_attempts_and_no_word() {
    let (mut world, mut site) = certified_world(seed());
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    let key = secret(11).x25519_public().unwrap();
    site.policy.endpoints = vec![PeerEndpoint { key, endpoint: "203.0.113.9:9".parse().unwrap() }];
    let clock = world.clock;
    site.install(&clock, &mut world.nodes[0]);
    world.nodes[0].events();
    world.nodes.truncate(1);
    world.run(SECOND * 300);
    let attempts = world.times(0, INITIATION);
    assert!((16..=18).contains(&attempts.len()), "{attempts:?}");
    assert_eq!((world.nodes[0].sessions(), world.nodes[0].events()), (0, Vec::new()));
    site.install(&world.clock.clone(), &mut world.nodes[0]);
    world.run(SECOND * 30);
    assert_eq!(world.times(0, INITIATION).len(), attempts.len(), "the same hint again is no reason");
}

#[test]
fn a_certificate_that_ends_takes_its_session_with_it() {
    let (mut world, _site) = certified_world(seed());
    world.send(1, &packet("10.9.0.11", "10.9.255.1", b"x"));
    world.run(SECOND);
    assert_eq!(world.nodes[0].sessions(), 1);
    let end = SECOND * 5 * 3600;
    while world.now() < end + SECOND * 3 {
        world.send(1, &packet("10.9.0.11", "10.9.255.1", b"y"));
        world.run(SECOND * 20);
    }
    let last = world.delivered.iter().map(|(at, _, _)| *at).max();
    assert!(last.is_some_and(|last| last > end - SECOND * 30 && last <= end + SECOND * 2), "{last:?}");
    assert_eq!(world.nodes[0].sessions(), 0);
}
