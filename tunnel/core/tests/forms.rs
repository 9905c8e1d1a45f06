//! The forms of a client beyond the plain leaf: intermediates of the policy and of the wire, and two keys.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod harness;

use edge_tunnel_core::{CrlSet, Introduction, PolicyError, VerifiedPolicy};
use harness::{Clock, Node, Site, edge, packet, reaches, secret};
use std::time::{Duration, SystemTime};
use verona_contract::base64::Octets;
use verona_contract::config::IdentityClient;
use verona_contract::control::CrlState;
use verona_tests::identity::IdentityKey;
use verona_tests::pki::{Authority, LeafPlan};

const HOUR: Duration = Duration::from_secs(3600);

/// A chain of CAs below the site's: `names` from the top, each certified by the one before.
struct Chain {
    cas: Vec<Authority>,
    certificates: Vec<Octets>,
}

impl Chain {
    fn below(top: &Authority, names: &[&str]) -> Self {
        let mut chain = Self { cas: Vec::new(), certificates: Vec::new() };
        for (place, name) in names.iter().enumerate() {
            let (seed, below) = (60 + place as u8, (names.len() - 1 - place) as u8);
            let ca = Authority::new(seed, name);
            let above = chain.cas.last().unwrap_or(top);
            chain.certificates.push(Octets(above.certify_above(&ca, 0x60 + place as u64, below)));
            chain.cas.push(ca);
        }
        chain
    }

    fn lowest(&self) -> &Authority {
        self.cas.last().unwrap()
    }
}

/// An edge of an owner whose CA allows two CAs below it.
fn deep_edge(clock: &Clock) -> (Node, Site) {
    let mut edge = Node::new(200, "198.51.100.1:51820", clock);
    let mut site = Site::new(&edge.secret);
    site.authority = Authority::with_path_len(7, "Acme clients", 2);
    site.policy.owners[0] = Site::owner("acme", &site.authority);
    site.install(clock, &mut edge);
    edge.engine.set_clock(clock.now(), true);
    site.revoke(clock, &mut edge, &[]);
    (edge, site)
}

fn put_list(clock: &Clock, edge: &mut Node, ca: &Authority, number: u64, serials: &[u64]) -> usize {
    let list = CrlSet::load(&ca.crl(number, serials, clock.now().wall), &edge.engine.issuers()).unwrap();
    edge.engine.install_crl(clock.now(), list).unwrap().cut.len()
}

/// Introduces `shown` by a client with `seed` and tells whether its packets arrive.
fn comes_in(clock: &Clock, site: &Site, edge: &mut Node, seed: u8, shown: Introduction) -> bool {
    let mut client = site.client(seed, clock, edge, Some(shown));
    reaches(clock, &mut client, edge, &format!("10.9.0.{seed}"))
}

#[test]
fn intermediates_of_the_policy_need_not_come_along() {
    let clock = Clock::new();
    let (mut edge, mut site) = deep_edge(&clock);
    let chain = Chain::below(&site.authority, &["Acme policy CA", "Acme issuing CA"]);
    site.policy.seq = 2;
    site.policy.owners[0].intermediates = chain.certificates.clone();
    site.install(&clock, &mut edge);
    let leaf = chain.lowest().leaf(&site.plan(11));
    let shown = || Introduction { leaf: leaf.clone(), ..Introduction::default() };
    let missing = edge.engine.crls(clock.now()).iter().filter(|list| list.state == CrlState::Missing).count();
    assert_eq!(missing, 2, "the lists of both are asked for");

    // Each certificate of the path is held against the list of the CA above it.
    put_list(&clock, &mut edge, chain.lowest(), 1, &[]);
    assert!(!comes_in(&clock, &site, &mut edge, 11, shown()));
    assert_eq!(edge.refused("crl_missing"), 1);
    put_list(&clock, &mut edge, &chain.cas[0], 1, &[]);
    assert!(comes_in(&clock, &site, &mut edge, 11, shown()));
    assert_eq!(put_list(&clock, &mut edge, &chain.cas[0], 2, &[0x61]), 1, "the issuing CA is revoked");
    assert_eq!(put_list(&clock, &mut edge, &chain.cas[0], 3, &[]), 0);
    assert!(comes_in(&clock, &site, &mut edge, 11, shown()));
    assert_eq!(site.revoke(&clock, &mut edge, &[0x60]).cut.len(), 1, "the policy CA is revoked");
    site.revoke(&clock, &mut edge, &[]);
    assert!(comes_in(&clock, &site, &mut edge, 11, shown()));

    // A policy without them covers their clients no more.
    site.policy.seq = 3;
    site.policy.owners[0].intermediates.clear();
    assert_eq!(site.install(&clock, &mut edge).cut.len(), 1);
    assert_eq!(edge.engine.population(), (0, 0));
}

#[test]
fn one_intermediate_from_the_wire_may_stand_below_those_of_the_policy() {
    let clock = Clock::new();
    let (mut edge, mut site) = deep_edge(&clock);
    let chain = Chain::below(&site.authority, &["Acme policy CA", "Acme issuing CA"]);
    let leaf = chain.lowest().leaf(&site.plan(11));
    let shown = Introduction { leaf, intermediate: Some(chain.certificates[1].0.clone()), binding: None };
    assert!(!comes_in(&clock, &site, &mut edge, 11, shown.clone()));
    assert_eq!(edge.refused("unknown_issuer"), 1, "two of them are too many from the wire");

    site.policy.seq = 2;
    site.policy.owners[0].intermediates = vec![chain.certificates[0].clone()];
    site.install(&clock, &mut edge);
    put_list(&clock, &mut edge, &chain.cas[0], 1, &[]);
    assert!(!comes_in(&clock, &site, &mut edge, 11, shown.clone()));
    assert_eq!(edge.refused("crl_missing"), 1, "the issuing CA is known now, its list is not");
    put_list(&clock, &mut edge, chain.lowest(), 1, &[]);
    assert!(comes_in(&clock, &site, &mut edge, 11, shown));
}

#[test]
fn no_more_cas_below_an_anchor_than_it_allows() {
    let clock = Clock::new();
    for (path_len, expected) in [(0, false), (1, true)] {
        let (mut edge, mut site) = edge(&clock);
        site.authority = Authority::with_path_len(7, "Acme clients", path_len);
        site.policy.owners[0] = Site::owner("acme", &site.authority);
        site.install(&clock, &mut edge);
        let regional = Authority::new(8, "Acme regional");
        let shown = Introduction {
            leaf: regional.leaf(&site.plan(11)),
            intermediate: Some(site.authority.certify(&regional, 0x99)),
            binding: None,
        };
        assert!(!comes_in(&clock, &site, &mut edge, 11, shown), "no list yet");
        let reason = if expected { "crl_missing" } else { "path_invalid" };
        assert_eq!(edge.refused(reason), 1, "{path_len}: {:?}", edge.engine.counters().refused);
    }
}

#[test]
fn intermediates_that_lead_nowhere_are_refused_with_the_policy() {
    let site = Site::new(&secret(200));
    let chain = Chain::below(&site.authority, &["Acme policy CA", "Acme issuing CA"]);
    let twin = Authority::new(9, "Acme clients");
    let other = Authority::new(31, "Other clients");
    let regional = Authority::new(8, "Acme regional");
    let [policy_ca, issuing_ca] = [0, 1].map(|place| chain.certificates[place].clone());
    let load = |own: Vec<Octets>, others: Vec<Octets>| {
        let mut policy = site.policy.clone();
        policy.owners[0].intermediates = own;
        policy.owners.push(Site::owner("other", &other));
        policy.owners[1].intermediates = others;
        VerifiedPolicy::new(policy).err()
    };
    assert_eq!(load(vec![policy_ca.clone(), issuing_ca.clone()], vec![]), None);
    let not_issued = |owner, intermediate| Some(PolicyError::NotIssued { owner, intermediate });
    assert_eq!(load(vec![issuing_ca, policy_ca.clone()], vec![]), not_issued(0, 0), "order");
    assert_eq!(load(vec![Octets(twin.certify(&regional, 1))], vec![]), not_issued(0, 0), "signed by a twin");
    assert_eq!(load(vec![], vec![policy_ca.clone()]), not_issued(1, 0), "another owner's anchor");
    let twice = load(vec![policy_ca.clone(), policy_ca], vec![]);
    assert_eq!(twice, Some(PolicyError::AmbiguousIntermediate { owner: 0, intermediate: 1 }));
    let same_name = Authority::new(32, "Other clients");
    let same_name = load(vec![Octets(site.authority.certify(&same_name, 1))], vec![]);
    assert_eq!(same_name, Some(PolicyError::AmbiguousAnchor { owner: 1, anchor: 0 }), "of two owners");
    let leaf = load(vec![Octets(site.leaf(1))], vec![]);
    assert!(matches!(leaf, Some(PolicyError::Intermediate { owner: 0, intermediate: 0, .. })));
}

/// What an identity shows: certificate and binding, good unless changed.
struct Shown {
    key: IdentityKey,
    plan: LeafPlan,
    wireguard: u8,
    begin: SystemTime,
    life: Duration,
}

impl Shown {
    fn new(site: &Site, key: IdentityKey, seed: u8) -> Self {
        let plan = LeafPlan { not_after: harness::wall() + HOUR * 2000, ..site.plan(seed) };
        Self { key, plan, wireguard: seed, begin: harness::wall() - HOUR, life: HOUR * 24 }
    }

    fn introduction(&self, authority: &Authority) -> Introduction {
        let leaf = self.key.leaf(authority, &self.plan);
        let key = secret(self.wireguard).x25519_public().unwrap();
        let binding = self.key.bind(key, &leaf, self.begin, self.life);
        Introduction { leaf, intermediate: None, binding: Some(binding) }
    }
}

impl Shown {
    /// Changes the fields of the binding and signs them: nothing else is wrong with it.
    fn signs(&self, shown: &mut Introduction, change: fn(&mut [u8])) {
        let binding = shown.binding.as_mut().unwrap();
        let (fields, signature) = binding.split_at_mut(81);
        change(fields);
        let label = b"Verona Edge, WireGuard key binding v1\0".as_slice();
        signature.copy_from_slice(&self.key.sign(&[[b' '; 64].as_slice(), label, fields].concat()));
    }
}

#[test]
fn an_identity_vouches_for_a_wireguard_key() {
    let clock = Clock::new();
    for key in [IdentityKey::p256(41), IdentityKey::ed25519(41)] {
        let (mut edge, mut site) = edge(&clock);
        let shown = Shown::new(&site, key, 11);
        assert!(comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority)));
        let peers = edge.engine.peers();
        assert_eq!(peers[0].subject, shown.plan.subject);
        let end = shown.begin + shown.life;
        let end = end.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(peers[0].not_after.cast_unsigned(), end, "the binding ends before the certificate");
        // The serial number of the certificate revokes it.
        let cut = site.revoke(&clock, &mut edge, &[11]).cut;
        assert_eq!(cut.len(), 1);
        assert!(!comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority)));
    }
}

#[test]
fn a_session_ends_with_its_binding_and_a_newer_one_prolongs_it() {
    let mut clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut shown = Shown::new(&site, IdentityKey::p256(41), 11);
    shown.life = HOUR * 2;
    let first = shown.introduction(&site.authority);
    assert!(comes_in(&clock, &site, &mut edge, 11, first.clone()));
    shown.begin += HOUR;
    let second = shown.introduction(&site.authority);
    let mut helper = site.client(11, &clock, &edge, Some(second));
    helper.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let introduction = helper.take_datagrams().remove(0).1;
    edge.receive(&clock, helper.address, &introduction);
    assert_eq!((edge.total("introductions"), edge.total("handshakes")), (2, 1), "the session goes on");
    let mut old = site.client(11, &clock, &edge, Some(first));
    old.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let introduction = old.take_datagrams().remove(0).1;
    edge.receive(&clock, old.address, &introduction);
    assert_eq!(edge.refused("superseded"), 1, "the binding before it");

    clock.set(HOUR * 2);
    edge.engine.set_clock(clock.now(), true);
    assert_eq!(edge.sessions(), 1, "the first binding would have ended it here");
    clock.set(HOUR * 2 + Duration::from_secs(1));
    edge.engine.set_clock(clock.now(), true);
    assert_eq!(edge.sessions(), 0);
}

#[test]
fn bindings_that_do_not_hold_are_refused() {
    let clock = Clock::new();
    type Change = fn(&mut Shown, &mut Introduction);
    let table: [(&str, &str, Change); 11] = [
        ("binding_invalid", "signature", |_, shown| shown.binding.as_mut().unwrap()[100] ^= 1),
        ("binding_invalid", "not the signed key", |_, shown| {
            let other = secret(12).x25519_public().unwrap();
            shown.binding.as_mut().unwrap()[17..49].copy_from_slice(other.as_bytes());
        }),
        ("binding_invalid", "longer than a day", |old, shown| {
            old.signs(shown, |fields| fields[9] += 1);
        }),
        ("binding_invalid", "version", |old, shown| old.signs(shown, |fields| fields[0] = 2)),
        ("binding_invalid", "a key of low order", |old, shown| {
            old.signs(shown, |fields| fields[17..49].fill(0));
        }),
        ("binding_invalid", "signed without the label", |old, shown| {
            let binding = shown.binding.as_mut().unwrap();
            let signature = old.key.sign(&binding[..81]);
            binding[81..].copy_from_slice(&signature);
        }),
        ("binding_invalid", "cut off", |_, shown| shown.binding.as_mut().unwrap().truncate(144)),
        ("binding_invalid", "another identity signed", |old, shown| {
            let key = secret(11).x25519_public().unwrap();
            shown.binding = Some(IdentityKey::p256(42).bind(key, &shown.leaf, old.begin, old.life));
        }),
        ("binding_invalid", "for another certificate", |old, shown| {
            let key = secret(11).x25519_public().unwrap();
            shown.binding = Some(old.key.bind(key, b"another", old.begin, old.life));
        }),
        ("certificate_malformed", "no binding", |_, shown| shown.binding = None),
        ("key_mismatch", "another key introduces itself", |old, shown| {
            let key = secret(12).x25519_public().unwrap();
            shown.binding = Some(old.key.bind(key, &shown.leaf, old.begin, old.life));
        }),
    ];
    for (reason, what, change) in table {
        let (mut edge, site) = edge(&clock);
        let mut old = Shown::new(&site, IdentityKey::p256(41), 11);
        let mut shown = old.introduction(&site.authority);
        change(&mut old, &mut shown);
        assert!(!comes_in(&clock, &site, &mut edge, 11, shown), "{what}");
        assert_eq!(edge.refused(reason), 1, "{what}: {:?}", edge.engine.counters().refused);
        assert_eq!(edge.engine.population(), (0, 0), "{what}");
    }
}

#[test]
fn dates_of_bindings() {
    let clock = Clock::new();
    for (begin, reason) in [(HOUR * 25, "expired"), (HOUR * 24, ""), (Duration::ZERO, "")] {
        let (mut edge, site) = edge(&clock);
        let mut shown = Shown::new(&site, IdentityKey::p256(41), 11);
        shown.begin = harness::wall() - begin;
        let came = comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority));
        assert_eq!((came, edge.refused("expired")), (reason.is_empty(), u64::from(!reason.is_empty())));
    }
    let (mut edge, site) = edge(&clock);
    let mut shown = Shown::new(&site, IdentityKey::p256(41), 11);
    shown.begin = harness::wall() + HOUR;
    assert!(!comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority)));
    assert_eq!(edge.refused("not_yet_valid"), 1);
}

/// Without a clock a binding's dates say little, but not nothing: a list witnesses that its own date has passed.
#[test]
fn without_a_clock_the_newest_list_bounds_the_age_of_a_binding() {
    let clock = Clock::new();
    for (ended_before_the_list, expected) in [(HOUR * 24, true), (HOUR * 25, false)] {
        let (mut edge, site) = edge(&clock);
        edge.engine.set_clock(clock.now(), false);
        let mut shown = Shown::new(&site, IdentityKey::p256(41), 11);
        shown.begin = harness::wall() - ended_before_the_list;
        let came = comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority));
        assert_eq!((came, edge.refused("expired")), (expected, u64::from(!expected)));
    }
    // Whatever its clock says: a box that believes to live in 1970 accepts a sound binding.
    let (mut edge, site) = edge(&clock);
    let mut early = clock.now();
    early.wall = SystemTime::UNIX_EPOCH;
    edge.engine.set_clock(early, false);
    let shown = Shown::new(&site, IdentityKey::p256(41), 11).introduction(&site.authority);
    assert!(comes_in(&clock, &site, &mut edge, 11, shown));
}

#[test]
fn a_foreign_certificate_gets_name_and_addresses_from_the_configuration() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut shown = Shown::new(&site, IdentityKey::p256(41), 11);
    let listing = IdentityClient {
        key: shown.key.fingerprint(),
        subject: std::mem::take(&mut shown.plan.subject),
        addresses: std::mem::take(&mut shown.plan.addresses),
    };
    assert!(!comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority)));
    assert_eq!(edge.refused("unlisted"), 1);

    site.policy.seq = 2;
    site.policy.owners[0].identities = vec![listing.clone()];
    site.install(&clock, &mut edge);
    assert!(comes_in(&clock, &site, &mut edge, 11, shown.introduction(&site.authority)));
    assert_eq!(edge.engine.peers()[0].subject, listing.subject);
    // A renewed certificate over the same key, and another WireGuard key: still the same place.
    shown.plan.serial = 12;
    shown.wireguard = 12;
    shown.begin += HOUR;
    let mut client = site.client(12, &clock, &edge, Some(shown.introduction(&site.authority)));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.engine.population(), (1, 1), "the key before it has lost its place");

    // The same configuration again keeps the session; a changed place ends it; so does none.
    site.policy.seq = 3;
    assert!(site.install(&clock, &mut edge).cut.is_empty());
    site.policy.seq = 4;
    site.policy.owners[0].identities[0].addresses = vec!["10.9.0.77".parse().unwrap()];
    assert_eq!(site.install(&clock, &mut edge).cut.len(), 1);
    let mut client = site.client(12, &clock, &edge, Some(shown.introduction(&site.authority)));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.77"));
    site.policy.seq = 5;
    site.policy.owners[0].identities.clear();
    assert_eq!(site.install(&clock, &mut edge).cut.len(), 1);
}

#[test]
fn an_identity_of_another_owner_gets_no_place_here() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let other_ca = Authority::new(21, "Other clients");
    let mut shown = Shown::new(&site, IdentityKey::p256(41), 11);
    let listing = IdentityClient {
        key: shown.key.fingerprint(),
        subject: std::mem::take(&mut shown.plan.subject),
        addresses: std::mem::take(&mut shown.plan.addresses),
    };
    site.policy.owners[0].identities = vec![listing];
    site.policy.owners.push(Site::owner("other", &other_ca));
    site.install(&clock, &mut edge);
    put_list(&clock, &mut edge, &other_ca, 1, &[]);
    // The listing of one owner does not serve a certificate of the other's CA over the same key.
    assert!(!comes_in(&clock, &site, &mut edge, 11, shown.introduction(&other_ca)));
    assert_eq!(edge.refused("unlisted"), 1);
}
