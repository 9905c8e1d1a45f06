//! A new root of the preshared keys, with an overlap in which peers hold keys of either.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod harness;

use edge_tunnel_core::{PeerUpdate, PolicyError, VerifiedPolicy};
use harness::{Clock, Node, Site, edge, packet, settle};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::config::PskRoot;
use verona_contract::key::Secret;
use verona_contract::psk;

/// The harness begins with root 1.
fn new_root() -> PskRoot {
    PskRoot { id: 2, secret: Secret::new([0x99; 32]) }
}

/// An edge, its owner, and a client that sends and is sent a packet ten times a second.
struct Scene {
    clock: Clock,
    edge: Node,
    site: Site,
    client: Node,
    sent: u32,
    arrived: [u32; 2],
}

impl Scene {
    fn new(client: impl FnOnce(&Site, &Clock, &Node) -> Node) -> Self {
        let clock = Clock::new();
        let (edge, site) = edge(&clock);
        let client = client(&site, &clock, &edge);
        Self { clock, edge, site, client, sent: 0, arrived: [0, 0] }
    }

    fn load(&mut self, root: PskRoot, previous: Option<PskRoot>) {
        self.site.policy.seq += 1;
        let owner = &mut self.site.policy.owners[0];
        (owner.psk_root, owner.psk_previous) = (root, previous);
        assert!(self.site.install(&self.clock, &mut self.edge).cut.is_empty(), "nobody loses a right");
    }

    fn run(&mut self, seconds: u32) {
        let inward = packet("10.9.0.11", "10.9.255.1", b"inward");
        let outward = packet("10.9.255.1", "10.9.0.11", b"outward");
        for _ in 0..seconds * 10 {
            self.clock.set(self.clock.passed() + Duration::from_millis(100));
            self.client.run_timers(&self.clock);
            self.edge.run_timers(&self.clock);
            self.client.send(&self.clock, &inward);
            self.edge.send(&self.clock, &outward);
            self.sent += 1;
            settle(&self.clock, &mut self.client, &mut self.edge);
            for (count, node) in self.arrived.iter_mut().zip([&mut self.edge, &mut self.client]) {
                *count += u32::try_from(node.take_packets().len()).unwrap();
            }
        }
    }

    /// The client takes the key of this root, as it does with a new profile.
    fn take(&mut self, root: &PskRoot) {
        let key = psk::derive(&root.secret, &self.client.key, &self.edge.key);
        let update = PeerUpdate {
            update_only: true,
            preshared_key: Some(Some(key)),
            ..PeerUpdate::new(self.edge.key)
        };
        self.client.update_peer(&self.clock, update);
    }
}

fn introduced(site: &Site, clock: &Clock, edge: &Node) -> Node {
    site.client(11, clock, edge, site.introduction(11))
}

#[test]
fn a_live_client_loses_no_packet_in_a_rotation() {
    let mut scene = Scene::new(introduced);
    let old = scene.site.policy.owners[0].psk_root.clone();
    // The edge knows nobody's address before the first packet from there.
    scene.run(1);
    scene.load(new_root(), Some(old));
    let (lost_before, began) = (scene.sent - scene.arrived[1], scene.edge.total("handshakes"));
    // Long enough for rekeys with the old root, which the client still holds.
    scene.run(300);
    assert!(scene.edge.total("handshakes") >= began + 2, "rekeyed by the old root");
    scene.take(&new_root());
    scene.run(10);
    let renewed = scene.edge.total("handshakes");
    // The old root ends; the client has left it.
    scene.load(new_root(), None);
    scene.run(300);
    assert!(scene.edge.total("handshakes") >= renewed + 2, "rekeyed by the new root");
    assert_eq!(scene.arrived[0], scene.sent, "inward");
    assert_eq!(scene.arrived[1], scene.sent - lost_before, "outward");
}

#[test]
fn after_the_overlap_the_old_root_opens_nothing() {
    let mut scene = Scene::new(introduced);
    let old = scene.site.policy.owners[0].psk_root.clone();
    scene.load(new_root(), Some(old.clone()));
    scene.run(20);
    assert_eq!(
        scene.arrived[0], scene.sent,
        "a client that comes in the overlap; packets wait for its session"
    );
    scene.load(new_root(), None);
    assert_eq!(scene.edge.sessions(), 0, "keys that came of the old root are gone at once");
    let before = scene.arrived;
    scene.run(200);
    assert_eq!(scene.arrived, before, "neither the session nor a new handshake");
    scene.take(&new_root());
    scene.run(10);
    assert!(scene.arrived[0] > before[0]);
    // A root that is back under its number is not the one that was proven.
    scene.load(PskRoot { id: 3, ..old }, None);
    assert_eq!(scene.edge.sessions(), 0);
}

#[test]
fn a_stock_client_of_either_root_comes_in_during_the_overlap() {
    for taken in [1, 2] {
        let mut scene = Scene::new(|site, clock, edge| site.client(11, clock, edge, None));
        scene.site.policy.owners[0].clients = vec![Octets(scene.site.leaf(11))];
        let old = scene.site.policy.owners[0].psk_root.clone();
        let held = if taken == 1 { old.clone() } else { new_root() };
        scene.load(new_root(), Some(old));
        scene.take(&held);
        // Two initiations of WireGuard's, 5 s and some jitter apart.
        scene.run(7);
        assert_eq!(scene.arrived[0], scene.sent, "root {taken}: what waited comes after");
        // An edge that restarts has forgotten which.
        let (policy, list) = (scene.site.policy.clone(), scene.site.list_number);
        scene.edge = Node::new(200, "198.51.100.1:51820", &scene.clock);
        scene.site.policy = policy;
        scene.site.list_number = list;
        scene.site.install(&scene.clock, &mut scene.edge);
        scene.edge.engine.set_clock(scene.clock.now(), true);
        scene.site.revoke(&scene.clock, &mut scene.edge, &[]);
        let before = scene.arrived[0];
        scene.run(40);
        assert!(scene.arrived[0] > before + 100, "root {taken} after a restart");
    }
}

#[test]
fn roots_that_are_no_rotation_are_refused() {
    let clock = Clock::new();
    let (_, mut site) = edge(&clock);
    let root = site.policy.owners[0].psk_root.clone();
    for (previous, rule) in [
        (PskRoot { id: 1, secret: Secret::new([5; 32]) }, "an id below psk_root's"),
        (PskRoot { id: 0, ..root }, "another secret than psk_root's"),
    ] {
        site.policy.owners[0].psk_previous = Some(previous);
        let error = VerifiedPolicy::new(site.policy.clone()).err().unwrap();
        assert!(matches!(error, PolicyError::Rotation { owner: 0, .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("owners[0].psk_previous: {rule}"));
    }
}
