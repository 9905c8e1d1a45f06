//! Edge to edge: two engines in certified mode, each a client of the other, with networks behind them.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod harness;

use edge_tunnel_core::{CrlSet, Introduction, PolicyError, VerifiedPolicy};
use harness::{Clock, Node, Site, packet, secret, settle};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::config::{PskRoot, SiteConfig};
use verona_contract::key::Secret;
use verona_tests::pki::{Authority, LeafPlan};

/// Two sites of one owner: A has 192.168.1.0/24 behind it, B 192.168.2.0/24.
struct Scene {
    clock: Clock,
    a: Node,
    b: Node,
    authority: Authority,
    list_number: u64,
    seq: u64,
}

fn plan(number: u8) -> LeafPlan {
    let key = secret(number).x25519_public().unwrap();
    LeafPlan::edge(
        *key.as_bytes(),
        number.into(),
        format!("10.9.0.{number}").parse().unwrap(),
        harness::wall(),
    )
}

impl Scene {
    fn new() -> Self {
        let clock = Clock::new();
        let mut scene = Self {
            a: Node::new(1, "192.0.2.1:51820", &clock),
            b: Node::new(2, "192.0.2.2:51820", &clock),
            authority: Authority::new(7, "Acme edges"),
            list_number: 0,
            seq: 0,
            clock,
        };
        for edge in [&mut scene.a, &mut scene.b] {
            edge.engine.set_clock(clock.now(), true);
        }
        scene
    }

    fn site(&self, number: u8) -> SiteConfig {
        SiteConfig {
            certificate: Octets(self.authority.leaf(&plan(number))),
            endpoint: Some(format!("192.0.2.{number}:51820").parse().unwrap()),
            subnets: vec![format!("192.168.{number}.0/24").parse().unwrap()],
            keepalive_s: 25,
        }
    }

    fn policy(&mut self, number: u8, sites: Vec<SiteConfig>) -> verona_contract::control::Policy {
        self.seq += 1;
        let mut policy = Site::new(&secret(number)).policy;
        policy.seq = self.seq;
        policy.certificate = Some(Octets(self.authority.leaf(&plan(number))));
        policy.owners[0] = Site::owner("acme", &self.authority);
        policy.owners[0].sites = sites;
        policy
    }

    /// Loads both policies and then both lists, as the agents do.
    fn fill(&mut self, of_a: Vec<SiteConfig>, of_b: Vec<SiteConfig>) {
        for (number, sites) in [(1, of_a), (2, of_b)] {
            let policy = VerifiedPolicy::new(self.policy(number, sites)).unwrap();
            let edge = if number == 1 { &mut self.a } else { &mut self.b };
            let installed = edge.engine.install_policy(self.clock.now(), policy);
            assert_eq!(installed.rejected, []);
        }
        self.revoke(&[]);
    }

    fn revoke(&mut self, serials: &[u64]) {
        self.list_number += 1;
        let der = self.authority.crl(self.list_number, serials, self.clock.now().wall);
        for edge in [&mut self.a, &mut self.b] {
            let list = CrlSet::load(&der, &edge.engine.issuers()).unwrap();
            edge.engine.install_crl(self.clock.now(), list).unwrap();
        }
    }

    /// Lets `seconds` pass, a step of half a second at a time, and the datagrams flow.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.clock.set(self.clock.passed() + Duration::from_millis(500));
            for edge in [&mut self.a, &mut self.b] {
                edge.run_timers(&self.clock);
            }
            settle(&self.clock, &mut self.a, &mut self.b);
        }
    }

    fn crosses(&mut self, source: &str, destination: &str) -> bool {
        let packet = packet(source, destination, b"from site to site");
        self.a.send(&self.clock, &packet);
        settle(&self.clock, &mut self.a, &mut self.b);
        self.b.take_packets().contains(&packet)
    }
}

#[test]
fn two_edges_find_each_other_and_stay_together() {
    let mut scene = Scene::new();
    let (a, b) = (scene.site(1), scene.site(2));
    scene.fill(vec![b], vec![a]);
    scene.run(2);
    assert_eq!((scene.a.sessions(), scene.b.sessions()), (1, 1), "without a packet to send");
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"));
    assert!(!scene.crosses("192.168.1.7", "192.168.3.9"), "not a network of the other site");
    let introduced = scene.a.total("introductions_sent") + scene.b.total("introductions_sent");
    assert!(introduced > 0, "an edge shows its certificate as a client does");
    // Idle for longer than any session lives: the keepalives carry it.
    scene.run(400);
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"));
}

#[test]
fn a_site_sends_only_from_the_networks_of_the_configuration() {
    let mut scene = Scene::new();
    let (a, mut b) = (scene.site(1), scene.site(2));
    b.subnets.push("192.168.20.0/24".parse().unwrap());
    scene.fill(vec![b], vec![a]);
    scene.run(2);
    for source in ["192.168.9.7", "10.9.0.1", "192.168.2.7"] {
        assert!(!scene.crosses(source, "192.168.2.9"), "{source}");
    }
    assert_eq!(scene.b.total("packets_wrong_source"), 3, "also the address in A's own certificate");
    // A sends what B would route to it, and B has not been given to A's networks.
    assert!(scene.crosses("192.168.1.200", "192.168.20.9"));

    // Fewer networks in the next configuration: the session goes on, the packets do not.
    let (mut a, b) = (scene.site(1), scene.site(2));
    a.subnets = vec!["192.168.1.0/25".parse().unwrap()];
    scene.fill(vec![b], vec![a]);
    let handshakes = scene.b.total("handshakes");
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"));
    assert!(!scene.crosses("192.168.1.200", "192.168.2.9"));
    assert_eq!(scene.b.total("handshakes"), handshakes);
}

#[test]
fn an_edge_without_a_place_in_the_configuration_gets_none() {
    let mut scene = Scene::new();
    let b = scene.site(2);
    scene.fill(vec![b], vec![]);
    scene.run(3);
    assert_eq!(scene.b.engine.population(), (0, 0));
    assert!(scene.b.refused("unlisted") > 0, "{:?}", scene.b.engine.counters().refused);
    // Neither is an edge's certificate a client's when it is pushed.
    let mut policy = scene.policy(2, vec![]);
    policy.owners[0].clients = vec![scene.site(1).certificate];
    let policy = VerifiedPolicy::new(policy).unwrap();
    assert_eq!(policy.rejected()[0].path, "owners[0].clients[0]");
}

#[test]
fn a_site_that_was_lost_is_called_for_ever() {
    let mut scene = Scene::new();
    let (a, mut b) = (scene.site(1), scene.site(2));
    let far = b.endpoint.replace("192.0.2.99:51820".parse().unwrap());
    scene.fill(vec![b], vec![SiteConfig { endpoint: None, ..a }]);
    scene.run(300);
    assert_eq!(scene.b.sessions(), 0, "B waits to be called, and A calls elsewhere");
    assert!(scene.a.total("initiations_sent") > 20, "{}", scene.a.total("initiations_sent"));
    let (a, b) = (scene.site(1), scene.site(2));
    assert_eq!(b.endpoint, far);
    scene.fill(vec![b], vec![SiteConfig { endpoint: None, ..a }]);
    scene.run(20);
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"));

    // B restarts with everything lost.
    let clock = scene.clock;
    scene.b = Node::new(2, "192.0.2.2:51820", &clock);
    scene.b.engine.set_clock(clock.now(), true);
    let (a, b) = (scene.site(1), scene.site(2));
    scene.fill(vec![b], vec![SiteConfig { endpoint: None, ..a }]);
    scene.run(30);
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"), "A has noticed by itself");
}

#[test]
fn a_revoked_site_is_cut_and_comes_back_when_it_is_enabled() {
    let mut scene = Scene::new();
    let (a, b) = (scene.site(1), scene.site(2));
    scene.fill(vec![b], vec![a]);
    scene.run(2);
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"));
    scene.revoke(&[1]);
    scene.run(60);
    assert_eq!(scene.b.sessions(), 0);
    assert!(!scene.crosses("192.168.1.7", "192.168.2.9"));
    scene.revoke(&[]);
    scene.run(60);
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"));
}

#[test]
fn a_renewed_certificate_is_introduced_before_the_configuration_has_it() {
    let mut scene = Scene::new();
    let (a, b) = (scene.site(1), scene.site(2));
    scene.fill(vec![b.clone()], vec![a]);
    scene.run(2);
    let renewed =
        LeafPlan { serial: 101, not_after: harness::wall() + Duration::from_secs(86_400), ..plan(1) };
    let mut policy = scene.policy(1, vec![b]);
    policy.certificate = Some(Octets(scene.authority.leaf(&renewed)));
    let policy = VerifiedPolicy::new(policy).unwrap();
    scene.a.engine.install_policy(scene.clock.now(), policy);
    scene.run(150);
    assert_eq!(scene.b.engine.peers()[0].serial.to_string(), "65", "shown with the next handshake");
    assert!(scene.crosses("192.168.1.7", "192.168.2.9"), "and the networks are still the configuration's");
}

#[test]
fn sites_and_clients_do_not_take_each_others_networks() {
    let mut scene = Scene::new();
    let (a, b) = (scene.site(1), scene.site(2));
    scene.fill(vec![b], vec![a]);
    // A client's certificate with an address inside A's network.
    let key = secret(11).x25519_public().unwrap();
    let plan = LeafPlan::new(*key.as_bytes(), 11, "192.168.1.7".parse().unwrap(), harness::wall());
    let shown = Introduction { leaf: scene.authority.leaf(&plan), ..Introduction::default() };
    let site = Site::new(&scene.b.secret);
    let mut client = site.client(11, &scene.clock, &scene.b, Some(shown));
    assert!(!harness::reaches(&scene.clock, &mut client, &mut scene.b, "192.168.1.7"));
    assert_eq!(scene.b.refused("address_taken"), 1);
}

#[test]
fn certificates_of_sites_that_do_not_fit_are_refused() {
    let mut scene = Scene::new();
    let client = LeafPlan { subject: format!("urn:verona:client:{}", uuid()), ..plan(1) };
    let mut of_client = scene.site(1);
    of_client.certificate = Octets(scene.authority.leaf(&client));
    let mut of_stranger = scene.site(1);
    of_stranger.certificate = Octets(Authority::new(9, "Nobody").leaf(&plan(1)));
    let mut twice = scene.site(1);
    twice.subnets = vec!["192.168.77.0/24".parse().unwrap()];
    for (sites, path, reason) in [
        (vec![of_client], "owners[0].sites[0]", "not the certificate of an edge"),
        (vec![of_stranger], "owners[0].sites[0]", "issuer is unknown"),
        (vec![scene.site(1), twice], "owners[0].sites[1]", "another site has the same name"),
    ] {
        let policy = VerifiedPolicy::new(scene.policy(2, sites)).unwrap();
        assert_eq!(policy.rejected()[0].path, path);
        assert!(policy.rejected()[0].reason.starts_with(reason), "{}", policy.rejected()[0].reason);
    }
    let mut policy = scene.policy(2, vec![]);
    policy.certificate = Some(Octets(scene.authority.leaf(&plan(1))));
    assert_eq!(VerifiedPolicy::new(policy).err(), Some(PolicyError::Certificate), "over another key");
    let everything = SiteConfig { subnets: vec!["0.0.0.0/0".parse().unwrap()], ..scene.site(1) };
    let everything = VerifiedPolicy::new(scene.policy(2, vec![everything])).err();
    assert!(matches!(everything, Some(PolicyError::Member { owner: 0, .. })), "{everything:?}");
}

#[test]
fn two_sites_pass_through_a_rotation_that_reaches_them_one_after_the_other() {
    let mut scene = Scene::new();
    let (a, b) = (scene.site(1), scene.site(2));
    scene.fill(vec![b.clone()], vec![a.clone()]);
    scene.run(2);
    let old = PskRoot { id: 1, secret: Secret::new([0x77; 32]) };
    let new = PskRoot { id: 2, secret: Secret::new([0x99; 32]) };
    let both = (new.clone(), Some(old));
    for (number, roots) in [(1, both.clone()), (2, both), (1, (new.clone(), None)), (2, (new, None))] {
        let sites = vec![if number == 1 { b.clone() } else { a.clone() }];
        let mut policy = scene.policy(number, sites);
        (policy.owners[0].psk_root, policy.owners[0].psk_previous) = roots;
        let policy = VerifiedPolicy::new(policy).unwrap();
        let edge = if number == 1 { &mut scene.a } else { &mut scene.b };
        assert!(edge.engine.install_policy(scene.clock.now(), policy).cut.is_empty());
        for second in 0..300 {
            assert!(scene.crosses("192.168.1.7", "192.168.2.9"), "edge {number} told, second {second}");
            scene.run(1);
        }
    }
}

fn uuid() -> &'static str {
    "00000000-0000-4000-8000-000000000001"
}
