//! The gate under attack: forged claims, impossible keys, replayed lists, floods.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::StockClient;
use lab::{ClientPlan, Datagram, Namespace, Plan, Run, Topology, Wiretap, address, alone, wait};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use verona_contract::base64::encode;
use verona_contract::control::{Command, Reply};
use verona_contract::key::Secret;
use verona_contract::psk;
use verona_tests::forgery::Initiation;
use verona_tests::gate::{self, Control, Gate, policy, psk_root};
use verona_tests::pki::{Authority, LeafPlan};

const RESPONSE: u8 = 2;
const COOKIE_REPLY: u8 = 3;
const SOON: Duration = Duration::from_secs(10);
/// The gate's address in the tunnel, and its client's.
const INSIDE: &str = "10.9.0.1";
const CLIENT: &str = "10.9.0.2";

/// An edge with a gate, one certified client, and an attacker elsewhere.
struct Scene {
    net: Topology,
    tap: Wiretap,
    _gate: Gate,
    control: Control,
    authority: Authority,
    edge: Secret,
    client: Secret,
}

fn scene(run: &Run) -> Scene {
    let client = |name| ClientPlan { name, nat: false };
    let net = Topology::build(run, &Plan { clients: vec![client("client"), client("attacker")] }).unwrap();
    let tap = Wiretap::start(&net.internet).unwrap();
    let authority = Authority::new(0x31, "Acme client CA 1");
    let (edge, client) = (Secret::new([0x41; 32]), Secret::new([0x51; 32]));
    let leaf = leaf_for(*client.x25519_public().unwrap().as_bytes(), 100);
    let gate = Gate::start(&net.edge, "gate");
    net.edge.address(&gate.interface, &[&format!("{INSIDE}/24")]).unwrap();
    net.edge.ip(&format!("link set {} up", gate.interface)).unwrap();
    let mut control = gate.control();
    control.ask(Command::SetClock { trusted: true }).unwrap();
    let loaded = control
        .ask(Command::LoadPolicy(Box::new(policy(1, &edge, &authority, &[authority.leaf(&leaf)]))))
        .unwrap();
    assert!(matches!(loaded, Reply::PolicyLoaded(ref installed) if installed.clients == 1), "{loaded:?}");
    control.load_crl(&authority.crl(10, &[], SystemTime::now())).unwrap();
    Scene { net, tap, _gate: gate, control, authority, edge, client }
}

fn leaf_for(key: [u8; 32], serial: u64) -> LeafPlan {
    LeafPlan::new(key, serial, CLIENT.parse().unwrap(), SystemTime::now())
}

impl Scene {
    fn place(&self, name: &str) -> &Namespace {
        &self.net.client(name).unwrap().host
    }

    fn socket(&self) -> UdpSocket {
        let socket = self.place("attacker").enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        socket.connect(edge_address()).unwrap();
        socket
    }

    /// The honest client: stock WireGuard with the certified key.
    fn connect(&self) -> StockClient {
        let edge_key = self.edge.x25519_public().unwrap();
        let psk = psk::derive(&psk_root().secret, &self.client.x25519_public().unwrap(), &edge_key);
        let config = format!(
            "[Interface]\nPrivateKey = {}\nAddress = {CLIENT}/32\n\
             [Peer]\nPublicKey = {edge_key}\nPresharedKey = {}\nEndpoint = {}\nAllowedIPs = 10.9.0.0/24\n",
            encode(self.client.expose()),
            encode(psk.expose()),
            edge_address(),
        );
        StockClient::wireguard_go(self.place("client"), "client", &config).unwrap()
    }

    /// The kinds of handshake messages that the client was sent.
    fn to_client(&self) -> Vec<u8> {
        let outside = IpAddr::from([192, 0, 2, 2]);
        self.tap.datagrams().iter().filter(|d| d.to.ip() == outside).map(Datagram::kind).collect()
    }

    fn answers_to(&self, attacker: SocketAddr) -> usize {
        self.tap.datagrams().iter().filter(|d| d.to.port() == attacker.port()).count()
    }
}

fn edge_address() -> SocketAddr {
    (address::EDGE, gate::PORT).into()
}

fn ping(client: &StockClient, limit: Duration) {
    wait::for_value("a ping through the tunnel", limit, || {
        Ok(client.place().output("ping", &["-c", "1", "-W", "1", INSIDE]).ok())
    })
    .unwrap();
}

#[test]
fn a_forged_claim_of_a_known_key_makes_no_state_and_gets_no_answer() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut scene = scene(&run);
    let socket = scene.socket();
    let victim = *scene.client.x25519_public().unwrap().as_bytes();
    let edge_key = scene.edge.x25519_public().unwrap();

    for sender in 0..20 {
        let forged = Initiation { sender, ..Initiation::forged(edge_key, victim) };
        socket.send(&forged.message()).unwrap();
    }
    wait::until("twenty refusals", SOON, || scene.control.refused("not_authentic") == 20).unwrap();

    let status = scene.control.status();
    assert_eq!((status.sessions, status.records), (0, 1));
    assert_eq!(scene.answers_to(socket.local_addr().unwrap()), 0);
    // And the key's owner is none the worse for it.
    ping(&scene.connect(), SOON);
    assert_eq!(scene.control.status().sessions, 1);
}

#[test]
fn a_replayed_initiation_makes_no_state_and_gets_no_answer() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut scene = scene(&run);
    ping(&scene.connect(), SOON);
    let edge = edge_address();
    let recorded = scene.tap.datagrams().into_iter().find(|d| d.kind() == 1 && d.to == edge).unwrap();
    let socket = scene.socket();

    socket.send(&recorded.payload).unwrap();

    wait::until("the refusal", SOON, || scene.control.refused("replay") == 1).unwrap();
    assert_eq!(scene.answers_to(socket.local_addr().unwrap()), 0);
}

#[test]
fn an_all_zero_key_in_a_well_signed_certificate_is_refused() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut scene = scene(&run);
    let zero = scene.authority.leaf(&leaf_for([0; 32], 101));

    let pushed = policy(2, &scene.edge, &scene.authority, &[zero]);
    let loaded = scene.control.ask(Command::LoadPolicy(Box::new(pushed))).unwrap();
    let Reply::PolicyLoaded(installed) = loaded else { panic!("{loaded:?}") };
    assert_eq!(installed.clients, 0);
    assert_eq!(installed.rejected.len(), 1);
    assert_eq!(installed.rejected[0].path, "owners[0].clients[0]");

    // Who claims that key needs no private key: every shared secret with it is zero.
    let socket = scene.socket();
    socket.send(&Initiation::forged(scene.edge.x25519_public().unwrap(), [0; 32]).message()).unwrap();
    wait::until("a refusal", SOON, || !scene.control.status().counters.refused.is_empty()).unwrap();
    assert_eq!(scene.control.status().sessions, 0);
    assert_eq!(scene.answers_to(socket.local_addr().unwrap()), 0);
}

#[test]
fn a_replayed_older_list_is_refused_and_the_newer_one_stays() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut scene = scene(&run);
    let client = scene.connect();
    ping(&client, SOON);

    // Number 11 disables the client; number 10, recorded earlier, would bring it back.
    let cut = scene.control.load_crl(&scene.authority.crl(11, &[100], SystemTime::now())).unwrap();
    let Reply::CrlLoaded(installed) = cut else { panic!("{cut:?}") };
    assert_eq!((installed.number, installed.entries, installed.cut.len()), (11, 1, 1));
    let refused = scene.control.load_crl(&scene.authority.crl(10, &[], SystemTime::now())).unwrap_err();
    assert!(refused.contains("10") && refused.contains("11"), "the error names both numbers: {refused}");
    let forked = scene.control.load_crl(&scene.authority.crl(11, &[], SystemTime::now()));
    assert!(forked.is_err(), "the same number with other entries: {forked:?}");
    let foreign = Authority::new(0x32, "Acme client CA 1");
    let stranger = scene.control.load_crl(&foreign.crl(12, &[], SystemTime::now()));
    assert!(stranger.is_err(), "another key under the same name: {stranger:?}");

    assert!(client.place().output("ping", &["-c", "2", "-i", "0.2", "-W", "1", INSIDE]).is_err());
    // Number 12 enables it again; the same process comes back without help.
    scene.control.load_crl(&scene.authority.crl(12, &[], SystemTime::now())).unwrap();
    ping(&client, Duration::from_secs(30));
}

#[test]
fn under_a_flood_a_client_gets_in_by_the_cookie() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut scene = scene(&run);
    let edge_key = scene.edge.x25519_public().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let socket = scene.socket();
        // Well-formed initiations of unknown keys, with the right mac1: each costs the edge a decryption.
        let messages: Vec<Vec<u8>> = (0..64_u8)
            .map(|n| {
                let own = Secret::new([n | 0x80; 32]);
                Initiation { ephemeral: Secret::new([n | 0x40; 32]), ..Initiation::honest(edge_key, &own) }
                    .message()
            })
            .collect();
        let stop = &stop;
        threads.spawn(move || {
            for message in messages.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                // 5,000 a second, five times what the edge takes without a cookie.
                for _ in 0..10 {
                    let _ = socket.send(message);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait::until("cookies to be demanded", SOON, || scene.control.refused("cookie_demanded") > 1000)
                .unwrap();
            // One initiation in five finds the edge's budget refilled and needs no cookie; the next client
            // then tries its luck.
            for _ in 0..20 {
                ping(&scene.connect(), Duration::from_secs(40));
                if scene.to_client().contains(&COOKIE_REPLY) {
                    break;
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    let kinds = scene.to_client();
    let cookie = kinds.iter().position(|kind| *kind == COOKIE_REPLY);
    let cookie = cookie.unwrap_or_else(|| panic!("no client got a cookie: {kinds:?}"));
    assert!(kinds[cookie..].contains(&RESPONSE), "no response after the cookie: {kinds:?}");
}
