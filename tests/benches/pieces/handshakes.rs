//! What strangers and clients cost the edge before a packet of theirs is moved. Its half only: what the
//! client does for a handshake happens outside of the measured time.

use crate::edge::Edge;
use divan::Bencher;
use divan::counter::ItemsCount;
use edge_tunnel_core::Now;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};
use verona_contract::key::Secret;
use verona_tests::flood::{Kind, Stranger};
use verona_tests::forgery::Initiation;
use verona_tests::initiator::{Attempt, Initiator};
use verona_tests::swarm::{Client, Identity};

/// Long enough for the limits on handshakes and introductions to fill up again.
const REST: Duration = Duration::from_millis(5);
/// What an index of the initiator's does not matter for.
const SENDER: u32 = 0x0100;

/// The edge and the clients that it has seen.
struct Scene {
    edge: Edge,
    count: u32,
}

struct Newcomer {
    introduction: Vec<u8>,
    initiation: Vec<u8>,
}

impl Scene {
    fn new() -> RefCell<Self> {
        RefCell::new(Self { edge: Edge::new(), count: 0 })
    }

    fn identity(&mut self) -> Identity {
        self.count += 1;
        self.edge.owner.client(self.count, 0)
    }

    fn introduction(&self, identity: Identity) -> Vec<u8> {
        let address = self.edge.owner.edge(SocketAddr::from(([192, 0, 2, 1], 51820)));
        let now = Now { mono: Instant::now(), wall: SystemTime::now() };
        Client::introduction(identity, &address, now)
    }

    fn newcomer(&mut self) -> Newcomer {
        self.edge.rest(REST);
        let identity = self.identity();
        let edge = self.edge.owner.edge(SocketAddr::from(([192, 0, 2, 1], 51820))).key;
        let initiation = Initiation { sender: SENDER, ..Initiation::honest(edge, &identity.secret) };
        Newcomer { initiation: initiation.message(), introduction: self.introduction(identity) }
    }

    /// A client with a live session, and its next initiation.
    fn rekey(&mut self) -> Vec<u8> {
        self.edge.rest(REST);
        let identity = self.identity();
        let edge = self.edge.owner.edge(SocketAddr::from(([192, 0, 2, 1], 51820))).key;
        let psk = identity.psk.clone().unwrap();
        let initiator = Initiator::new(&identity.secret, edge, psk);
        let source = identity.address;
        let now = SystemTime::now();
        let attempt = |nonce: u8, at| -> Attempt {
            let mut ephemeral = *identity.secret.expose();
            ephemeral[31] ^= nonce;
            initiator.initiate(Secret::new(ephemeral), SENDER * u32::from(nonce), at)
        };
        let first = attempt(1, now);
        let introduction = self.introduction(identity.clone());
        self.edge.receive(&introduction);
        self.edge.receive(&first.message);
        let mut transport = initiator.finish(&first, self.edge.out.last()).expect("a response");
        let before = self.edge.out.packets;
        self.edge.receive(&transport.seal(&packet(source)));
        assert_eq!(self.edge.out.packets, before + 1, "a live session delivers");
        self.edge.rest(REST);
        attempt(2, now + Duration::from_secs(1)).message
    }
}

fn packet(from: std::net::Ipv4Addr) -> [u8; 32] {
    let mut packet = [0; 32];
    packet[0] = 0x45;
    packet[3] = 32;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&[10, 200, 0, 2]);
    packet
}

#[divan::bench(sample_count = 20, sample_size = 10)]
fn new_certified_peer(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| scene.borrow_mut().newcomer())
        .bench_local_values(|newcomer| {
            let edge = &mut scene.borrow_mut().edge;
            edge.receive(&newcomer.introduction);
            edge.receive(&newcomer.initiation);
        });
    let scene = scene.into_inner();
    assert_eq!(
        scene.edge.total("introductions"),
        u64::from(scene.count),
        "{:?}",
        scene.edge.engine.counters()
    );
    assert_eq!(scene.edge.out.datagrams, u64::from(scene.count), "each is answered");
}

#[divan::bench(sample_count = 20, sample_size = 10)]
fn rekey(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| scene.borrow_mut().rekey())
        .bench_local_values(|initiation| scene.borrow_mut().edge.receive(&initiation));
    let scene = scene.into_inner();
    assert_eq!(scene.edge.out.datagrams, 2 * u64::from(scene.count), "both handshakes are answered");
}

/// Opening the datagram and finding that the certificate is known: two Diffie-Hellmans and a hash.
#[divan::bench(sample_count = 20, sample_size = 10)]
fn introduction_of_a_known_certificate(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    let known = {
        let mut scene = scene.borrow_mut();
        let identity = scene.identity();
        let introduction = scene.introduction(identity);
        scene.edge.receive(&introduction);
        introduction
    };
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| scene.borrow_mut().edge.rest(REST))
        .bench_local_values(|()| scene.borrow_mut().edge.receive(&known));
    assert!(scene.borrow().edge.total("introductions_repeated") > 0);
}

/// Each kind of forgery until it is refused.
#[divan::bench(args = Kind::ALL.map(Kind::name), sample_count = 20, sample_size = 10)]
fn refusal(bencher: Bencher<'_, '_>, name: &str) {
    let kind: Kind = name.parse().unwrap();
    let scene = Scene::new();
    let pool = {
        let owner = &scene.borrow().edge.owner;
        let edge = owner.edge(SocketAddr::from(([192, 0, 2, 1], 51820)));
        let stranger = Stranger { edge, owner: owner.authority(), victim: owner.victim() };
        kind.datagrams(&stranger, 64)
    };
    let mut next = pool.iter().cycle();
    bencher
        .counter(ItemsCount::new(1_usize))
        .with_inputs(|| {
            scene.borrow_mut().edge.rest(REST);
            next.next().unwrap()
        })
        .bench_local_values(|datagram| scene.borrow_mut().edge.receive(datagram));
    assert_eq!(scene.borrow().edge.out.datagrams, 0, "nobody is answered");
}

/// As in a flood: a thousand a batch, no other work between them.
#[divan::bench]
fn wrong_mac1_batch(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    let pool = {
        let owner = &scene.borrow().edge.owner;
        let edge = owner.edge(SocketAddr::from(([192, 0, 2, 1], 51820)));
        let stranger = Stranger { edge, owner: owner.authority(), victim: owner.victim() };
        Kind::InitiationWrongMac1.datagrams(&stranger, 1000)
    };
    let from = SocketAddr::from(([192, 0, 2, 9], 9));
    bencher.counter(ItemsCount::new(pool.len())).bench_local(|| {
        let edge = &mut scene.borrow_mut().edge;
        let (now, batch) = (edge.now(), pool.iter().map(|octets| (from, octets.as_slice())));
        edge.engine.handle_datagrams(now, batch, &mut edge.out);
    });
    assert!(scene.borrow().edge.refused("mac1") >= 1000);
}
