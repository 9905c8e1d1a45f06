//! One owner cannot take another's place, nor push out his own live clients: by sealed introductions.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod harness;

use edge_tunnel_core::{CrlSet, Introduction, Secret};
use harness::{Clock, Node, Site, edge, packet, reaches, settle};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_tests::pki::{Authority, LeafPlan};

/// The unproven records of all owners together.
const SEGMENT: usize = 1024;

/// An owner who mints certificates without end, each for a key, a name and an address of its own.
struct Hostile {
    authority: Authority,
    minted: u32,
}

impl Hostile {
    /// Joins the edge of `site` with a quota.
    fn join(clock: &Clock, edge: &mut Node, site: &mut Site, max_clients: u32) -> Self {
        let hostile = Self { authority: Authority::new(21, "Hostile clients"), minted: 0 };
        site.policy.seq += 1;
        let mut owner = Site::owner("hostile", &hostile.authority);
        owner.max_clients = max_clients;
        site.policy.owners.push(owner);
        site.install(clock, edge);
        let list = CrlSet::load(&hostile.authority.crl(1, &[], clock.now().wall), &edge.engine.issuers());
        edge.engine.install_crl(clock.now(), list.unwrap()).unwrap();
        hostile
    }

    /// The next client; its introduction and initiation lie in its outbox.
    fn mint(&mut self, clock: &Clock, edge: &Node, site: &Site) -> (Node, Ipv4Addr) {
        self.minted += 1;
        let mut octets = [0x5a; 32];
        octets[..4].copy_from_slice(&self.minted.to_be_bytes());
        let secret = Secret::new(octets);
        let address = Ipv4Addr::from(0x0a40_0000 + self.minted);
        let key = secret.x25519_public().unwrap();
        let plan =
            LeafPlan::new(*key.as_bytes(), u64::from(self.minted), IpAddr::V4(address), harness::wall());
        let shown = Introduction { leaf: self.authority.leaf(&plan), ..Introduction::default() };
        let mut client = site.client_with(&secret, clock, edge, Some(shown));
        client.send(clock, &packet(&address.to_string(), "10.9.255.1", b"are you there"));
        (client, address)
    }

    /// Introduces so many keys that never prove themselves, slowly enough for the limits on introductions.
    fn flood(&mut self, clock: &mut Clock, edge: &mut Node, site: &Site, count: usize) {
        for _ in 0..count {
            let (mut client, _) = self.mint(clock, edge, site);
            let introduction = client.take_datagrams().remove(0).1;
            edge.receive(clock, client.address, &introduction);
            clock.set(clock.passed() + Duration::from_millis(10));
        }
    }
}

#[test]
fn a_flood_of_valid_certificates_keeps_the_other_owners_newcomer() {
    let mut clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut hostile = Hostile::join(&clock, &mut edge, &mut site, 100);
    hostile.flood(&mut clock, &mut edge, &site, SEGMENT - 1);
    // A client of the other owner is introduced; its initiation is still on the way.
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let [introduction, initiation] = client.take_datagrams().try_into().unwrap();
    edge.receive(&clock, client.address, &introduction.1);
    assert_eq!(edge.engine.population(), (0, SEGMENT));
    hostile.flood(&mut clock, &mut edge, &site, SEGMENT);
    assert!(edge.engine.population().1 <= SEGMENT, "the segment is full and stays so");
    edge.receive(&clock, client.address, &initiation.1);
    settle(&clock, &mut client, &mut edge);
    assert_eq!(edge.take_packets().len(), 1, "{:?}", edge.engine.counters().refused);
    // All of the flood is forgotten after 30 s.
    clock.set(clock.passed() + Duration::from_secs(31));
    edge.run_timers(&clock);
    assert_eq!(edge.engine.population(), (1, 1));
}

#[test]
fn proven_records_beyond_the_quota_push_out_only_idle_ones_of_the_same_owner() {
    let mut clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut alice = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut alice, &mut edge, "10.9.0.11"));
    // An idle record of the good owner: proven, and its session is over.
    let mut bob = site.client(12, &clock, &edge, site.introduction(12));
    assert!(reaches(&clock, &mut bob, &mut edge, "10.9.0.12"));
    site.revoke(&clock, &mut edge, &[12]);
    site.revoke(&clock, &mut edge, &[]);

    let mut hostile = Hostile::join(&clock, &mut edge, &mut site, 3);
    let mut live = Vec::new();
    for _ in 0..3 {
        let (mut client, address) = hostile.mint(&clock, &edge, &site);
        settle(&clock, &mut client, &mut edge);
        live.push((client, address.to_string()));
    }
    assert_eq!(edge.take_packets().len(), 3);
    for _ in 0..50 {
        let (mut client, _) = hostile.mint(&clock, &edge, &site);
        settle(&clock, &mut client, &mut edge);
        clock.set(clock.passed() + Duration::from_millis(10));
    }
    assert_eq!(edge.refused("quota"), 50, "three live ones are the quota");
    assert_eq!(edge.engine.population(), (4, 5));
    for (client, address) in &mut live {
        assert!(reaches(&clock, client, &mut edge, address), "a live one of his own");
    }
    assert!(reaches(&clock, &mut alice, &mut edge, "10.9.0.11"));
    let known = edge.engine.peers().iter().any(|peer| peer.key == bob.key);
    assert!(known, "the other owner's idle record");
    assert_eq!(edge.total("records_evicted"), 0);

    // One of the hostile owner's own becomes idle: then it gives way, and nobody else.
    let der = hostile.authority.crl(2, &[1], clock.now().wall);
    let list = CrlSet::load(&der, &edge.engine.issuers()).unwrap();
    assert_eq!(edge.engine.install_crl(clock.now(), list).unwrap().cut.len(), 1);
    let (mut client, address) = hostile.mint(&clock, &edge, &site);
    assert!(reaches(&clock, &mut client, &mut edge, &address.to_string()));
    assert_eq!((edge.total("records_evicted"), edge.engine.population()), (1, (4, 5)));
}

#[test]
fn unproven_records_that_passed_the_quota_together_leave_no_more_than_it() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut hostile = Hostile::join(&clock, &mut edge, &mut site, 3);
    // Introduced while there was room, proven all at once.
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let (mut client, address) = hostile.mint(&clock, &edge, &site);
        let mut sent = client.take_datagrams();
        let from = client.address;
        edge.receive(&clock, from, &sent.remove(0).1);
        waiting.push((client, address, sent.remove(0).1));
    }
    for (client, _, initiation) in &mut waiting {
        edge.receive(&clock, client.address, initiation);
        settle(&clock, client, &mut edge);
    }
    // Live sessions are never pushed out, so they stay for now; the idle go first when room is needed.
    assert_eq!(edge.sessions(), 10);
    let (mut late, _) = hostile.mint(&clock, &edge, &site);
    settle(&clock, &mut late, &mut edge);
    assert_eq!(edge.refused("quota"), 1);
}

/// Ends the sessions of so many of the hostile owner's clients, counted from the first; their records stay.
fn make_idle(clock: &Clock, edge: &mut Node, hostile: &Hostile, number: &mut u64, serials: &[u64]) {
    for listed in [serials, &[]] {
        *number += 1;
        let der = hostile.authority.crl(*number, listed, clock.now().wall);
        let list = CrlSet::load(&der, &edge.engine.issuers()).unwrap();
        assert_eq!(edge.engine.install_crl(clock.now(), list).unwrap().cut.len(), listed.len());
    }
}

#[test]
fn among_an_owners_idle_records_the_one_not_used_for_longest_gives_way() {
    let mut clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let (mut hostile, mut list) = (Hostile::join(&clock, &mut edge, &mut site, 3), 1);
    let mut known = Vec::new();
    for _ in 0..3 {
        let (mut client, address) = hostile.mint(&clock, &edge, &site);
        settle(&clock, &mut client, &mut edge);
        known.push((client.secret.clone(), client.key, address.to_string()));
    }
    make_idle(&clock, &mut edge, &hostile, &mut list, &[1, 2, 3]);
    // The first one comes back for a moment: without an introduction, so its record is still there.
    clock.set(clock.passed() + Duration::from_secs(1));
    let mut first = site.client_with(&known[0].0, &clock, &edge, None);
    assert!(reaches(&clock, &mut first, &mut edge, &known[0].2));
    make_idle(&clock, &mut edge, &hostile, &mut list, &[1]);

    for given_way in [[false, true, false], [false, true, true], [true, true, true]] {
        let (mut client, address) = hostile.mint(&clock, &edge, &site);
        assert!(reaches(&clock, &mut client, &mut edge, &address.to_string()));
        let peers = edge.engine.peers();
        let gone: Vec<_> =
            known.iter().map(|(_, key, _)| !peers.iter().any(|peer| peer.key == *key)).collect();
        assert_eq!(gone, given_way);
    }
    let (mut client, _) = hostile.mint(&clock, &edge, &site);
    settle(&clock, &mut client, &mut edge);
    assert_eq!(edge.refused("quota"), 1, "all that are left are live");
}

#[test]
fn what_the_center_pushes_neither_counts_nor_gives_way() {
    let mut clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    site.policy.seq += 1;
    site.policy.owners[0].max_clients = 1;
    site.policy.owners[0].clients = [11, 12].map(|seed| Octets(site.leaf(seed))).to_vec();
    site.install(&clock, &mut edge);
    let mut pushed = site.client(11, &clock, &edge, None);
    assert!(reaches(&clock, &mut pushed, &mut edge, "10.9.0.11"));
    for (seed, admitted) in [(13, true), (14, false)] {
        let mut introduced = site.client(seed, &clock, &edge, site.introduction(seed));
        assert_eq!(reaches(&clock, &mut introduced, &mut edge, &format!("10.9.0.{seed}")), admitted);
        clock.set(clock.passed() + Duration::from_secs(1));
    }
    assert_eq!((edge.refused("quota"), edge.total("records_evicted")), (1, 0));
    let mut idle = site.client(12, &clock, &edge, None);
    assert!(reaches(&clock, &mut idle, &mut edge, "10.9.0.12"), "pushed, and idle until now");
}

#[test]
fn an_initiation_that_overtakes_its_introduction_is_answered_after_it() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let [introduction, initiation] = client.take_datagrams().try_into().unwrap();
    edge.receive(&clock, client.address, &initiation.1);
    assert_eq!((edge.refused("unknown_key"), edge.take_datagrams().len()), (1, 0));
    edge.receive(&clock, client.address, &introduction.1);
    settle(&clock, &mut client, &mut edge);
    assert_eq!(edge.take_packets().len(), 1, "{:?}", edge.engine.counters().refused);
}

#[test]
fn records_that_were_proven_leave_the_segment_to_those_that_wait() {
    let mut clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut owner = Hostile::join(&clock, &mut edge, &mut site, 2000);
    let (mut late, _) = owner.mint(&clock, &edge, &site);
    let [introduction, initiation] = late.take_datagrams().try_into().unwrap();
    edge.receive(&clock, late.address, &introduction.1);
    // As many of the same owner come and are live; nobody else waits.
    for _ in 0..=SEGMENT {
        let (mut client, _) = owner.mint(&clock, &edge, &site);
        settle(&clock, &mut client, &mut edge);
        clock.set(clock.passed() + Duration::from_millis(10));
    }
    let _ = edge.take_packets();
    edge.receive(&clock, late.address, &initiation.1);
    settle(&clock, &mut late, &mut edge);
    assert_eq!(edge.take_packets().len(), 1, "{:?}", edge.engine.counters().refused);
}
