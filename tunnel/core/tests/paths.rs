//! Rules of a path that its signatures alone do not enforce: which key, under which name, until when.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

mod harness;

use edge_tunnel_core::{CrlSet, Introduction};
use harness::{Clock, Node, Site, edge, reaches, secret};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::cert::{CertError, Leaf};
use verona_contract::control::CrlState;
use verona_contract::crl::CrlError;
use verona_tests::identity::IdentityKey;
use verona_tests::pki::{Authority, LeafPlan};

/// The regional CA below Acme's, whose empty list the edge has.
fn regional(clock: &Clock, edge: &mut Node, site: &Site) -> Authority {
    let regional = Authority::new(8, "Acme regional");
    let certificates = Introduction {
        leaf: regional.leaf(&site.plan(50)),
        intermediate: Some(site.authority.certify(&regional, 0x98)),
        ..Introduction::default()
    };
    // Somebody shows it once, so that its list is taken.
    let mut first = site.client(50, clock, edge, Some(certificates));
    assert!(!reaches(clock, &mut first, edge, "10.9.0.50"));
    let list = CrlSet::load(&regional.crl(1, &[], clock.now().wall), &edge.engine.issuers()).unwrap();
    edge.engine.install_crl(clock.now(), list).unwrap();
    regional
}

#[test]
fn a_leaf_by_the_right_key_under_another_key_identifier_is_refused() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let misnamed = Authority::new(7, "Acme clients").calling_its_key(&[9; 20]);
    let certificates = Introduction { leaf: misnamed.leaf(&site.plan(11)), ..Introduction::default() };
    let mut client = site.client(11, &clock, &edge, Some(certificates));
    assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.refused("path_invalid"), 1, "{:?}", edge.engine.counters().refused);
}

#[test]
fn an_intermediate_under_another_key_identifier_than_the_leaf_names_is_refused() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    regional(&clock, &mut edge, &site);
    let misnamed = Authority::new(8, "Acme regional").calling_its_key(&[9; 20]);
    let certificates = Introduction {
        leaf: misnamed.leaf(&site.plan(11)),
        intermediate: Some(site.authority.certify(&Authority::new(8, "Acme regional"), 0x98)),
        ..Introduction::default()
    };
    let mut client = site.client(11, &clock, &edge, Some(certificates));
    assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.refused("path_invalid"), 1, "{:?}", edge.engine.counters().refused);
}

#[test]
fn a_path_ends_with_the_first_of_its_certificates_that_ends() {
    let mut clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let regional = regional(&clock, &mut edge, &site);
    let end = clock.now().wall + Duration::from_secs(60);
    let certificates = Introduction {
        leaf: regional.leaf(&site.plan(11)),
        intermediate: Some(site.authority.certify_for_a_while(&regional, 0x98, end)),
        ..Introduction::default()
    };
    let mut client = site.client(11, &clock, &edge, Some(certificates));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    clock.set(Duration::from_secs(62));
    edge.engine.set_clock(clock.now(), true);
    assert_eq!(edge.sessions(), 0, "the leaf would live for hours");
}

#[test]
fn a_list_by_an_issuers_key_under_another_name_is_not_its_list() {
    let clock = Clock::new();
    let (edge, site) = edge(&clock);
    let renamed = Authority::new(7, "Acme servers");
    assert_eq!(renamed.key_id(), site.authority.key_id());
    let list = CrlSet::load(&renamed.crl(9, &[], clock.now().wall), &edge.engine.issuers());
    assert_eq!(list.err(), Some(CrlError::UnknownIssuer));
}

#[test]
fn a_certificate_over_4096_octets_is_not_read() {
    let clock = Clock::new();
    let (_, site) = edge(&clock);
    let leaf = |name: usize| Authority::new(7, &"x".repeat(name)).leaf(&site.plan(11));
    assert!(Leaf::parse(&leaf(3600)).is_ok());
    assert_eq!(Leaf::parse(&leaf(4096)), Err(CertError::Der));
}

#[test]
fn an_identity_that_names_an_edge_or_no_address_gets_no_place() {
    let clock = Clock::new();
    type Change = fn(&mut LeafPlan);
    let changes: [Change; 2] = [
        |plan| plan.subject = "urn:verona:edge:00000000-0000-4000-8000-00000000000b".into(),
        |plan| plan.addresses.clear(),
    ];
    for change in changes {
        let (mut edge, site) = edge(&clock);
        let identity = IdentityKey::p256(90);
        let mut plan = site.plan(11);
        change(&mut plan);
        let leaf = identity.leaf(&site.authority, &plan);
        let key = secret(11).x25519_public().unwrap();
        let binding = identity.bind(key, &leaf, clock.now().wall, Duration::from_secs(3600));
        let shown = Introduction { leaf, binding: Some(binding), ..Introduction::default() };
        let mut client = site.client(11, &clock, &edge, Some(shown));
        assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
        assert_eq!(edge.refused("unlisted"), 1, "{:?}", edge.engine.counters().refused);
        assert_eq!(edge.engine.population(), (0, 0));
    }
}

#[test]
fn another_ca_key_under_a_known_key_identifier_inherits_nothing() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    let other = Authority::with_key_id(30, "Acme clients", &site.authority.key_id());
    assert_eq!(other.key_id(), site.authority.key_id());
    let before = site.policy.owners[0].anchors.clone();
    site.policy.seq = 2;
    site.policy.owners[0].anchors = vec![Octets(other.certificate().to_vec())];
    assert_ne!(site.policy.owners[0].anchors, before);
    assert_eq!(site.install(&clock, &mut edge).cut.len(), 1, "its clients were the other key's");
    assert_eq!(edge.engine.population(), (0, 0));
    assert!(edge.engine.crls(clock.now()).iter().all(|list| list.state == CrlState::Missing), "nor its list");
}
