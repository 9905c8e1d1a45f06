//! Floods of forged handshakes against a real `edge-tunnel` with a live session.
//!
//! For each kind of forgery the same must hold: the session goes on, a client that was never there gets in, the
//! process does not grow, nobody else gets in, and the counters say what happened. How fast all that is, is for
//! the benches.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use edge_tunnel_core::{AllowedIpUpdate, DeviceUpdate, Engine, Introduction, Now, Output, PeerUpdate};
use lab::parts::StockClient;
use lab::{ClientPlan, Namespace, Plan, Run, Topology, address, alone, wait};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant, SystemTime};
use verona_contract::base64::encode;
use verona_contract::control::{Command, Reply};
use verona_contract::key::{PublicKey, Secret};
use verona_contract::psk;
use verona_tests::flood::{self, Flood, Kind, Stranger};
use verona_tests::gate::{self, Control, Gate, policy, psk_root};
use verona_tests::pki::{Authority, LeafPlan};
use verona_tests::swarm::EdgeAddress;

const SOON: Duration = Duration::from_secs(10);
/// A new client gets in at all, under any flood: well before it would give up (REKEY_ATTEMPT_TIME, 90 s).
const GETS_IN: Duration = Duration::from_secs(20);
/// The gate's address in the tunnel, and its live client's.
const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const LIVE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// How much the process may grow in all: 1,024 unproven records, 4,096 sources and some queues are below 8 MB.
const GROWTH: u64 = 32 << 20;

struct Scene {
    net: Topology,
    gate: Gate,
    control: Control,
    authority: Authority,
    edge: Secret,
    live: Secret,
}

/// An edge, one client that is in by a pushed certificate, and an attacker with 65,536 addresses.
fn scene(run: &Run) -> Scene {
    let client = |name| ClientPlan { name, nat: false };
    let net = Topology::build(run, &Plan { clients: vec![client("client"), client("attacker")] }).unwrap();
    let authority = Authority::new(0x31, "Acme client CA 1");
    let (edge, live) = (Secret::new([0x41; 32]), Secret::new([0x51; 32]));
    let gate = Gate::start(&net.edge, "gate");
    net.edge.address(&gate.interface, &[&format!("{INSIDE}/16")]).unwrap();
    net.edge.ip(&format!("link set {} up", gate.interface)).unwrap();
    let mut control = gate.control();
    control.ask(Command::SetClock { trusted: true }).unwrap();
    let pushed = authority.leaf(&plan(&live, 1, LIVE));
    let loaded = control.ask(Command::LoadPolicy(Box::new(policy(1, &edge, &authority, &[pushed])))).unwrap();
    assert!(matches!(loaded, Reply::PolicyLoaded(ref installed) if installed.clients == 1), "{loaded:?}");
    control.load_crl(&authority.crl(10, &[], SystemTime::now())).unwrap();
    let scene = Scene { net, gate, control, authority, edge, live };
    flood::own_sources(scene.place("attacker")).unwrap();
    scene
}

fn plan(key: &Secret, serial: u64, address: Ipv4Addr) -> LeafPlan {
    LeafPlan::new(*public(key).as_bytes(), serial, address.into(), SystemTime::now())
}

fn public(secret: &Secret) -> PublicKey {
    secret.x25519_public().unwrap()
}

fn edge_address() -> SocketAddrV4 {
    SocketAddrV4::new(address::EDGE, gate::PORT)
}

impl Scene {
    fn place(&self, name: &str) -> &Namespace {
        &self.net.client(name).unwrap().host
    }

    fn psk(&self, client: &Secret) -> Secret {
        psk::derive(&psk_root().secret, &public(client), &public(&self.edge))
    }

    /// The live client: stock WireGuard.
    fn connect(&self) -> StockClient {
        let config = format!(
            "[Interface]\nPrivateKey = {}\nAddress = {LIVE}/32\n\
             [Peer]\nPublicKey = {}\nPresharedKey = {}\nEndpoint = {}\nAllowedIPs = 10.9.0.0/16\n",
            encode(self.live.expose()),
            public(&self.edge),
            encode(self.psk(&self.live).expose()),
            edge_address(),
        );
        StockClient::wireguard_go(self.place("client"), "client", &config).unwrap()
    }

    /// A client that the edge has never heard of, with a certificate that it shows itself.
    fn newcomer(&self, number: u8) -> Newcomer {
        let (secret, address) = (Secret::new([number | 0x80; 32]), Ipv4Addr::new(10, 9, 1, number));
        let leaf = self.authority.leaf(&plan(&secret, 0x2000 + u64::from(number), address));
        let now = Now { mono: Instant::now(), wall: SystemTime::now() };
        let mut engine = Engine::new([number; 32], now);
        let mut out = Outbox::default();
        let peer = PeerUpdate {
            endpoint: Some(edge_address().into()),
            allowed_ips: vec![AllowedIpUpdate::Add("0.0.0.0/0".parse().unwrap())],
            introduction: Some(Introduction { leaf, ..Introduction::default() }),
            preshared_key: Some(Some(self.psk(&secret))),
            ..PeerUpdate::new(public(&self.edge))
        };
        let private_key = Some(Some(secret));
        let update = DeviceUpdate { private_key, peers: vec![peer], ..DeviceUpdate::default() };
        engine.configure(now, update, &mut out).unwrap();
        let socket = self.place("client").enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.connect(edge_address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Newcomer { engine, out, socket, address }
    }

    fn stranger(&self) -> Stranger<'_> {
        let at = SocketAddr::V4(edge_address());
        let edge = EdgeAddress { key: public(&self.edge), at, inside: INSIDE };
        Stranger { edge, owner: &self.authority, victim: (*public(&self.live).as_bytes(), LIVE) }
    }

    /// Octets of memory that the gate holds.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.gate.process.pid());
        let statm = std::fs::read_to_string(path).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    fn refusals(&mut self) -> u64 {
        self.control.status().counters.refused.values().sum()
    }
}

#[derive(Default)]
struct Outbox {
    datagrams: Vec<Vec<u8>>,
    packets: usize,
    buffer: Vec<u8>,
}

impl Output for Outbox {
    fn datagram_buffer(&mut self, _: SocketAddr, len: usize) -> &mut [u8] {
        self.packet_buffer(len)
    }
    fn commit_datagram(&mut self, len: usize) {
        self.datagrams.push(self.buffer[..len].to_vec());
    }
    fn packet_buffer(&mut self, len: usize) -> &mut [u8] {
        self.buffer = vec![0; len];
        &mut self.buffer
    }
    fn commit_packet(&mut self, _: usize) {
        self.packets += 1;
    }
}

/// The engine of a Verona client with a real socket.
struct Newcomer {
    engine: Engine,
    out: Outbox,
    socket: UdpSocket,
    address: Ipv4Addr,
}

impl Newcomer {
    /// Pings the edge through the tunnel until the answer comes; how long that took, [`GETS_IN`] at most.
    fn get_in(&mut self) -> Duration {
        let begin = Instant::now();
        let ping = echo_request(self.address, INSIDE);
        let (mut asked, mut buffer) = (None, [0; 2048]);
        let from = SocketAddr::V4(edge_address());
        while self.out.packets == 0 {
            assert!(begin.elapsed() < GETS_IN, "not in after {:?}", begin.elapsed());
            let now = Now { mono: Instant::now(), wall: SystemTime::now() };
            if asked.is_none_or(|asked: Instant| asked.elapsed() > Duration::from_secs(1)) {
                asked = Some(now.mono);
                self.engine.handle_packets(now, std::iter::once(ping.as_slice()), &mut self.out);
            }
            self.engine.handle_timeout(now, &mut self.out);
            for datagram in self.out.datagrams.drain(..) {
                let _ = self.socket.send(&datagram);
            }
            if let Ok(len) = self.socket.recv(&mut buffer) {
                let now = Now { mono: Instant::now(), wall: SystemTime::now() };
                let batch = std::iter::once((from, &buffer[..len]));
                self.engine.handle_datagrams(now, batch, &mut self.out);
            }
        }
        begin.elapsed()
    }
}

/// ICMP echo request (RFC 792) without data.
fn echo_request(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0];
    packet.extend(from.octets().into_iter().chain(to.octets()));
    packet.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What the edge must have counted of a kind, one of them at least; more than the flood of any other kind makes.
const fn counters(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::InitiationWrongMac1 | Kind::IntroductionWrongMac1 => &["mac1"],
        Kind::CookieReplyGarbage | Kind::TransportGarbage => &["unknown_session"],
        _ => &["cookie_demanded"],
    }
}

#[test]
fn no_flood_of_forgeries_stops_a_session_or_keeps_a_new_client_out() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut scene = scene(&run);
    let live = scene.connect();
    let inside = INSIDE.to_string();
    wait::for_value("the first ping", SOON, || {
        Ok(live.place().output("ping", &["-c", "1", "-W", "1", &inside]).ok())
    })
    .unwrap();
    let memory = scene.memory();

    for (number, kind) in (1..).zip(Kind::ALL) {
        let name = kind.name();
        let before = scene.refusals();
        let pool = kind.datagrams(&scene.stranger(), 128);
        let plan = flood::Plan { to: edge_address(), per_second: 50_000, sources: 5000 };
        let flood = Flood::start(scene.place("attacker"), plan, pool).unwrap();
        wait::until("the flood to be there", SOON, || scene.refusals() > before + 2000).unwrap();

        // Three of four, with patience: the two ends and the flood share the cores of the tests.
        let pings = live.place().output("ping", &["-c", "4", "-i", "0.1", "-W", "3", &inside]);
        let pings = pings.unwrap_or_else(|error| panic!("{name}: the session is dead: {error}"));
        assert!(pings.contains("4 received") || pings.contains("3 received"), "{name}: {pings}");
        let took = scene.newcomer(number).get_in();
        println!("{name}: a new client was in after {took:?}");

        let sent = flood.stop();
        let status = scene.control.status();
        for reason in counters(kind) {
            let count = status.counters.refused.get(*reason).copied().unwrap_or(0);
            assert!(
                count > 500,
                "{name}: {count} counted as {reason} of {sent:?}: {:?}",
                status.counters.refused
            );
        }
        // The live one and the newcomers: nobody of the flood is in, whatever it claimed.
        assert_eq!(status.sessions, 1 + usize::from(number), "{name}");
        let grown = scene.memory().saturating_sub(memory);
        assert!(grown < GROWTH, "{name}: the process has grown by {grown} octets");
    }
}
