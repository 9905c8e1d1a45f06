//! Engines without sockets: what one writes is handed to the other by the test.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use edge_tunnel_core::{
    AllowedIpUpdate, CrlSet, DeviceUpdate, Engine, Introduction, Marks, Now, Output, PeerUpdate, PublicKey,
    Secret, VerifiedPolicy,
};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use verona_contract::base64::Octets;
use verona_contract::config::{CrlPolicy, PskRoot};
use verona_contract::control::{CrlInstalled, Event, OwnerPolicy, Policy, PolicyInstalled};
use verona_contract::psk;
use verona_tests::pki::{Authority, LeafPlan};

/// The clock of a test: it stands still unless told to move.
#[derive(Clone, Copy)]
pub struct Clock {
    begin: Instant,
    passed: Duration,
    /// By how many seconds the wall clock is off.
    wrong_by: i64,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
    pub fn new() -> Self {
        Self { begin: Instant::now(), passed: Duration::ZERO, wrong_by: 0 }
    }

    /// One that shows the machine's time, for certificates that openssl dates: ten minutes ahead, since they are
    /// made after it.
    #[expect(clippy::disallowed_methods, reason = "openssl reads that clock, too")]
    pub fn today() -> Self {
        Self::since(SystemTime::now() + Duration::from_secs(600))
    }

    pub fn since(begin: SystemTime) -> Self {
        let seconds = |since: Duration| since.as_secs().cast_signed();
        let wrong_by = begin.duration_since(wall()).map_or_else(|early| -seconds(early.duration()), seconds);
        Self { wrong_by, ..Self::new() }
    }

    pub fn now(&self) -> Now {
        let wall = wall() + self.passed;
        let off = Duration::from_secs(self.wrong_by.unsigned_abs());
        Now { mono: self.begin + self.passed, wall: if self.wrong_by < 0 { wall - off } else { wall + off } }
    }

    /// Makes the wall clock wrong by so many seconds.
    pub fn step(&mut self, wrong_by: i64) {
        self.wrong_by = wrong_by;
    }

    pub fn passed(&self) -> Duration {
        self.passed
    }

    pub fn set(&mut self, passed: Duration) {
        self.passed = passed;
    }
}

/// The moment at which every certificate of the tests is valid.
pub fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Keeps what an engine writes.
#[derive(Default)]
pub struct Sink {
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
    pub packets: Vec<Vec<u8>>,
    /// How each datagram is to travel.
    pub marks: Vec<Marks>,
    mark: Marks,
    datagram: (Option<SocketAddr>, Vec<u8>),
    packet: Vec<u8>,
}

impl Output for Sink {
    fn datagram_buffer(&mut self, to: SocketAddr, len: usize) -> &mut [u8] {
        self.datagram = (Some(to), vec![0xee; len]);
        self.mark = Marks::default();
        &mut self.datagram.1
    }

    fn commit_datagram(&mut self, len: usize) {
        let to = self.datagram.0.take().expect("one commit for one buffer");
        self.datagrams.push((to, self.datagram.1[..len].to_vec()));
        self.marks.push(self.mark);
    }

    fn mark_datagram(&mut self, marks: Marks) {
        self.mark = marks;
    }

    fn packet_buffer(&mut self, len: usize) -> &mut [u8] {
        self.packet = vec![0xee; len];
        &mut self.packet
    }

    fn commit_packet(&mut self, len: usize) {
        self.packets.push(self.packet[..len].to_vec());
    }
}

/// An engine with an address.
pub struct Node {
    pub engine: Engine,
    pub secret: Secret,
    pub key: PublicKey,
    pub address: SocketAddr,
    pub out: Sink,
}

impl Node {
    pub fn new(seed: u8, address: &str, clock: &Clock) -> Self {
        Self::with_secret(secret(seed), address, clock)
    }

    pub fn with_secret(secret: Secret, address: &str, clock: &Clock) -> Self {
        let key = secret.x25519_public().unwrap();
        let engine = Engine::new(*secret.expose(), clock.now());
        let mut node = Self { engine, secret, key, address: address.parse().unwrap(), out: Sink::default() };
        let private_key = Some(Some(node.secret.clone()));
        node.configure(clock, DeviceUpdate { private_key, ..DeviceUpdate::default() });
        node
    }

    pub fn configure(&mut self, clock: &Clock, update: DeviceUpdate) {
        self.engine.configure(clock.now(), update, &mut self.out).unwrap();
    }

    pub fn update_peer(&mut self, clock: &Clock, peer: PeerUpdate) {
        self.configure(clock, DeviceUpdate { peers: vec![peer], ..DeviceUpdate::default() });
    }

    pub fn take_datagrams(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        std::mem::take(&mut self.out.datagrams)
    }

    pub fn take_packets(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out.packets)
    }

    pub fn receive(&mut self, clock: &Clock, from: SocketAddr, datagram: &[u8]) {
        self.engine.handle_datagrams(clock.now(), std::iter::once((from, datagram)), &mut self.out);
    }

    pub fn send(&mut self, clock: &Clock, packet: &[u8]) {
        self.engine.handle_packets(clock.now(), std::iter::once(packet), &mut self.out);
    }

    pub fn run_timers(&mut self, clock: &Clock) {
        self.engine.handle_timeout(clock.now(), &mut self.out);
    }

    pub fn refused(&self, reason: &str) -> u64 {
        self.engine.counters().refused.get(reason).copied().unwrap_or(0)
    }

    pub fn total(&self, name: &str) -> u64 {
        self.engine.counters().totals[name]
    }

    pub fn sessions(&self) -> usize {
        self.engine.population().0
    }

    pub fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }
}

pub fn secret(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

/// An update that makes a peer with these networks.
pub fn peer(key: PublicKey, endpoint: Option<SocketAddr>, networks: &[&str]) -> PeerUpdate {
    let allowed_ips = networks.iter().map(|net| AllowedIpUpdate::Add(net.parse().unwrap())).collect();
    PeerUpdate { endpoint, allowed_ips, ..PeerUpdate::new(key) }
}

/// Hands datagrams between two nodes until both are silent.
pub fn settle(clock: &Clock, one: &mut Node, other: &mut Node) {
    loop {
        let (from_one, from_other) = (one.take_datagrams(), other.take_datagrams());
        if from_one.is_empty() && from_other.is_empty() {
            return;
        }
        for (to, datagram) in from_one {
            if to == other.address {
                other.receive(clock, one.address, &datagram);
            }
        }
        for (to, datagram) in from_other {
            if to == one.address {
                one.receive(clock, other.address, &datagram);
            }
        }
    }
}

/// An inner UDP-less IPv4 packet with `payload` after its header.
pub fn packet(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = vec![0; 20];
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
            packet[12..16].copy_from_slice(&source.octets());
            packet[16..20].copy_from_slice(&destination.octets());
            packet.extend_from_slice(payload);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = vec![0; 40];
            packet[0] = 0x60;
            packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
            packet[8..24].copy_from_slice(&source.octets());
            packet[24..40].copy_from_slice(&destination.octets());
            packet.extend_from_slice(payload);
            packet
        }
        _ => panic!("one family"),
    }
}

/// One owner with a CA, and the policy that an edge gets of it.
pub struct Site {
    pub authority: Authority,
    pub policy: Policy,
    pub list_number: u64,
}

impl Site {
    pub fn new(edge: &Secret) -> Self {
        let authority = Authority::new(7, "Acme clients");
        let policy = Policy {
            seq: 1,
            private_key: edge.clone(),
            certificate: None,
            listen_port: 51820,
            owners: vec![Self::owner("acme", &authority)],
            endpoints: Vec::new(),
        };
        Self { authority, policy, list_number: 0 }
    }

    pub fn owner(code: &str, authority: &Authority) -> OwnerPolicy {
        OwnerPolicy {
            owner: code.parse().unwrap(),
            anchors: vec![Octets(authority.certificate().to_vec())],
            intermediates: Vec::new(),
            crl: CrlPolicy::default(),
            psk_root: PskRoot { id: 1, secret: Secret::new([0x77; 32]) },
            psk_previous: None,
            clients: Vec::new(),
            identities: Vec::new(),
            sites: Vec::new(),
            max_clients: 100,
        }
    }

    /// What the leaf of the client with `seed` says: serial = seed, address 10.9.0.seed.
    pub fn plan(&self, seed: u8) -> LeafPlan {
        let key = secret(seed).x25519_public().unwrap();
        let address = format!("10.9.0.{seed}").parse().unwrap();
        LeafPlan::new(*key.as_bytes(), seed.into(), address, wall())
    }

    pub fn leaf(&self, seed: u8) -> Vec<u8> {
        self.authority.leaf(&self.plan(seed))
    }

    pub fn install(&self, clock: &Clock, edge: &mut Node) -> PolicyInstalled {
        let policy = VerifiedPolicy::new(self.policy.clone()).unwrap();
        edge.engine.install_policy(clock.now(), policy)
    }

    /// Puts the next list in force, with these serial numbers.
    pub fn revoke(&mut self, clock: &Clock, edge: &mut Node, serials: &[u64]) -> CrlInstalled {
        self.list_number += 1;
        let der = self.authority.crl(self.list_number, serials, clock.now().wall);
        let list = CrlSet::load(&der, &edge.engine.issuers()).unwrap();
        edge.engine.install_crl(clock.now(), list).unwrap()
    }

    /// A client that knows the edge and, with `certificates`, introduces itself.
    pub fn client(&self, seed: u8, clock: &Clock, edge: &Node, certificates: Option<Introduction>) -> Node {
        let client = Node::new(seed, &format!("192.0.2.{seed}:1000"), clock);
        self.introduced(client, clock, edge, certificates)
    }

    /// The same with a key of its own instead of a small number's.
    pub fn client_with(
        &self,
        secret: &Secret,
        clock: &Clock,
        edge: &Node,
        certificates: Option<Introduction>,
    ) -> Node {
        let [a, b, c, d, ..] = *secret.expose();
        let address = format!("203.0.{a}.{b}:{}", 1024 + u16::from_be_bytes([c, d]) % 60_000);
        let client = Node::with_secret(secret.clone(), &address, clock);
        self.introduced(client, clock, edge, certificates)
    }

    fn introduced(
        &self,
        mut client: Node,
        clock: &Clock,
        edge: &Node,
        certificates: Option<Introduction>,
    ) -> Node {
        let root = &self.policy.owners[0].psk_root.secret;
        let update = PeerUpdate {
            preshared_key: Some(Some(psk::derive(root, &client.key, &edge.key))),
            introduction: certificates,
            ..peer(edge.key, Some(edge.address), &["0.0.0.0/0", "::/0"])
        };
        client.update_peer(clock, update);
        client
    }

    pub fn introduction(&self, seed: u8) -> Option<Introduction> {
        Some(Introduction { leaf: self.leaf(seed), ..Introduction::default() })
    }
}

/// An edge with a policy, an empty list and a trusted clock.
pub fn edge(clock: &Clock) -> (Node, Site) {
    let mut edge = Node::new(200, "198.51.100.1:51820", clock);
    let mut site = Site::new(&edge.secret);
    site.install(clock, &mut edge);
    edge.engine.set_clock(clock.now(), true);
    site.revoke(clock, &mut edge, &[]);
    (edge, site)
}

/// Sends a packet of the client to the edge's side and tells whether it arrived.
pub fn reaches(clock: &Clock, client: &mut Node, edge: &mut Node, source: &str) -> bool {
    let packet = packet(source, "10.9.255.1", b"are you there");
    client.send(clock, &packet);
    settle(clock, client, edge);
    edge.take_packets().contains(&packet)
}
