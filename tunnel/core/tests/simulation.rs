//! Engines over a simulated network with a fake clock: loss, reordering, duplication, restarts, hours in
//! seconds.
//!
//! The network's dice come from one seed, which a failing run prints; `VERONA_SEED=… cargo test -p
//! edge-tunnel-core --features mock-clock --test simulation` plays it again. (boringtun draws its ephemeral
//! keys from the operating system, which changes octets but no decision.) The reference model is the plainest
//! one: what arrives was sent, by him who may use its source, and once.

mod harness;

use edge_tunnel_core::{DeviceUpdate, Output, PeerUpdate};
use harness::{Clock, Node, Sink, Site, edge, packet, peer, secret};
use mock_instant::MockClock;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::control::PeerEndpoint;

const SECOND: Duration = Duration::from_secs(1);

/// A small generator (splitmix64): its seed is the whole description of a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// What the network does to datagrams.
#[derive(Clone, Copy)]
struct Weather {
    loss: u64,
    duplication: u64,
    /// Milliseconds; each datagram gets its own, so they overtake each other.
    delay: u64,
}

const CALM: Weather = Weather { loss: 0, duplication: 0, delay: 1 };
const STORM: Weather = Weather { loss: 20, duplication: 10, delay: 300 };
const CUT_OFF: Weather = Weather { loss: 100, duplication: 0, delay: 1 };

/// Arrival, order of sending, from, to, octets.
type Flight = Reverse<(Duration, u64, SocketAddr, SocketAddr, Vec<u8>)>;

/// Delivered inner packets: when, to which node, octets.
type Delivery = (Duration, usize, Vec<u8>);

struct World {
    clock: Clock,
    dice: Dice,
    weather: Weather,
    nodes: Vec<Node>,
    flights: BinaryHeap<Flight>,
    sent: u64,
    delivered: Vec<Delivery>,
    /// When, from whom, and the first octet and length of every datagram.
    trace: Vec<(Duration, SocketAddr, u8, usize)>,
}

impl World {
    fn new(clock: Clock, seed: u64, nodes: Vec<Node>) -> Self {
        println!("VERONA_SEED={seed}");
        MockClock::set_time(clock.passed());
        Self {
            clock,
            dice: Dice(seed),
            weather: CALM,
            nodes,
            flights: BinaryHeap::new(),
            sent: 0,
            delivered: Vec::new(),
            trace: Vec::new(),
        }
    }

    fn now(&self) -> Duration {
        self.clock.passed()
    }

    fn turn(&mut self, to: Duration) {
        self.clock.set(to);
        MockClock::set_time(to);
    }

    /// Takes what every node wrote.
    fn collect(&mut self) {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let from = node.address;
            let (datagrams, packets) = (node.take_datagrams(), node.take_packets());
            self.delivered.extend(packets.into_iter().map(|packet| (self.clock.passed(), index, packet)));
            for (to, datagram) in datagrams {
                self.trace.push((self.clock.passed(), from, datagram[0], datagram.len()));
                self.launch(from, to, &datagram);
            }
        }
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        if self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = 1 + u64::from(self.dice.chance(self.weather.duplication));
        for _ in 0..copies {
            let delay = Duration::from_millis(1 + self.dice.below(self.weather.delay));
            self.sent += 1;
            self.flights.push(Reverse((self.now() + delay, self.sent, from, to, datagram.to_vec())));
        }
    }

    fn next_timer(&self) -> Option<Duration> {
        let begin = self.clock.now().mono - self.now();
        let timer =
            |node: &Node| node.engine.poll_timeout().map(|(at, _)| at.saturating_duration_since(begin));
        self.nodes.iter().filter_map(timer).min()
    }

    /// Lets `time` pass, event by event.
    fn run(&mut self, time: Duration) {
        let end = self.now() + time;
        self.collect();
        loop {
            let arrival = self.flights.peek().map(|Reverse(flight)| flight.0);
            // A deadline that is due is served at once, and never earlier than now.
            let timer = self.next_timer().map(|at| at.max(self.now()));
            let Some(next) = arrival.into_iter().chain(timer).min().filter(|next| *next <= end) else {
                break;
            };
            self.turn(next);
            if arrival == Some(next) {
                if let Some(Reverse((_, _, from, to, datagram))) = self.flights.pop()
                    && let Some(node) = self.nodes.iter_mut().find(|node| node.address == to)
                {
                    node.receive(&self.clock, from, &datagram);
                }
            } else {
                for node in &mut self.nodes {
                    node.run_timers(&self.clock);
                }
            }
            self.collect();
        }
        self.turn(end);
    }

    fn send(&mut self, node: usize, packet: &[u8]) {
        self.nodes[node].send(&self.clock, packet);
        self.collect();
    }

    /// Times of datagrams of one type from one node.
    fn times(&self, node: usize, kind: u8) -> Vec<Duration> {
        let from = self.nodes[node].address;
        self.trace.iter().filter(|entry| entry.1 == from && entry.2 == kind).map(|entry| entry.0).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "the test's own knob")]
fn seed() -> u64 {
    std::env::var("VERONA_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_123)
}

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

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const DATA: u8 = 4;

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
