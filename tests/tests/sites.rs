//! Two sites with real data planes and real packets: what crosses, and what a site may not send.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::{Namespace, Run, wait};
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};
use verona_contract::base64::Octets;
use verona_contract::config::SiteConfig;
use verona_contract::control::{Command, Policy, Reply};
use verona_contract::key::Secret;
use verona_tests::gate::{self, Control, Gate, policy};
use verona_tests::pki::{Authority, LeafPlan};

const SOON: Duration = Duration::from_secs(20);

/// An edge with a LAN: number 1 is 192.0.2.1 outside, with 192.168.1.0/24 behind it.
struct Edge {
    place: Namespace,
    gate: Gate,
    control: Control,
    secret: Secret,
    number: u8,
}

impl Edge {
    fn start(run: &Run, number: u8) -> Self {
        let place = run.namespace(&format!("site{number}")).unwrap();
        let gate = Gate::start(&place, &format!("gate{number}"));
        // The LAN is the edge's own address in it: what counts here is between the sites.
        place.address(&gate.interface, &[&format!("192.168.{number}.1/32")]).unwrap();
        place.ip(&format!("link set {} up", gate.interface)).unwrap();
        let other = 3 - number;
        place.ip(&format!("route add 192.168.{other}.0/24 dev {}", gate.interface)).unwrap();
        let mut control = gate.control();
        control.ask(Command::SetClock { trusted: true }).unwrap();
        Self { place, gate, control, secret: Secret::new([number; 32]), number }
    }

    fn certificate(&self, authority: &Authority) -> Octets {
        let key = *self.secret.x25519_public().unwrap().as_bytes();
        let address = format!("10.9.0.{}", self.number).parse().unwrap();
        Octets(authority.leaf(&LeafPlan::edge(key, self.number.into(), address, SystemTime::now())))
    }

    /// How another edge is told of this one.
    fn site(&self, authority: &Authority, endpoint: bool) -> SiteConfig {
        let endpoint = endpoint.then(|| format!("192.0.2.{}:{}", self.number, gate::PORT).parse().unwrap());
        let subnets = vec![format!("192.168.{}.0/24", self.number).parse().unwrap()];
        SiteConfig { certificate: self.certificate(authority), endpoint, subnets, keepalive_s: 25 }
    }

    fn load(&mut self, seq: u64, authority: &Authority, sites: Vec<SiteConfig>) {
        let mut policy: Policy = policy(seq, &self.secret, authority, &[]);
        policy.certificate = Some(self.certificate(authority));
        policy.owners[0].sites = sites;
        match self.control.ask(Command::LoadPolicy(Box::new(policy))).unwrap() {
            Reply::PolicyLoaded(installed) => assert_eq!(installed.rejected, []),
            other => panic!("{other:?}"),
        }
        self.control.load_crl(&authority.crl(seq, &[], SystemTime::now())).unwrap();
    }

    fn reaches(&self, address: &str, from: &str) -> bool {
        self.place.output("ping", &["-c", "1", "-W", "1", "-I", from, address]).is_ok()
    }

    fn total(&mut self, name: &str) -> u64 {
        self.control.status().counters.totals[name]
    }
}

#[test]
fn two_sites_exchange_what_the_configuration_gives_them_and_nothing_else() {
    let run = Run::start().unwrap();
    let authority = Authority::new(0x31, "Acme edges");
    let (mut one, mut two) = (Edge::start(&run, 1), Edge::start(&run, 2));
    one.place.connect("eth0", &two.place, "eth0").unwrap();
    one.place.address("eth0", &["192.0.2.1/24"]).unwrap();
    two.place.address("eth0", &["192.0.2.2/24"]).unwrap();

    // Only one of them knows where the other is.
    let (of_one, of_two) = (two.site(&authority, true), one.site(&authority, false));
    one.load(1, &authority, vec![of_one]);
    two.load(1, &authority, vec![of_two]);
    wait::until("the way between the sites", SOON, || one.reaches("192.168.2.1", "192.168.1.1")).unwrap();
    assert!(two.reaches("192.168.1.1", "192.168.2.1"));

    // A source that the configuration does not give site one: sent, dropped there, counted.
    one.place.address(&one.gate.interface, &["192.168.77.1/32"]).unwrap();
    two.place.ip(&format!("route add 192.168.77.0/24 dev {}", two.gate.interface)).unwrap();
    let ear = two.place.enter(|| UdpSocket::bind("192.168.2.1:4000").unwrap()).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let speak = |from: &str| {
        let socket = one.place.enter(|| UdpSocket::bind(from).unwrap()).unwrap();
        socket.send_to(from.as_bytes(), "192.168.2.1:4000").unwrap();
        let mut heard = [0; 64];
        ear.recv(&mut heard).is_ok()
    };
    assert!(speak("192.168.1.1:4001"));
    let before = two.total("packets_wrong_source");
    assert!(!speak("192.168.77.1:4001"), "a source that is not the site's");
    assert_eq!(two.total("packets_wrong_source"), before + 1);

    // The next configuration of site two has no site one any more: not its networks, and not its call.
    two.load(2, &authority, vec![]);
    assert!(!one.reaches("192.168.2.1", "192.168.1.1"));
    wait::until("the refusal", SOON, || {
        two.control.refused("unlisted") > 0 || two.control.refused("unknown_key") > 0
    })
    .unwrap();
    assert_eq!(two.control.status().sessions, 0);
}
