//! Certified mode: who gets a session, who loses it, and what is told about it.

mod harness;

use edge_tunnel_core::{
    ConfigError, CrlRefused, CrlSet, DeviceUpdate, Introduction, PolicyError, VerifiedPolicy,
};
use harness::{Clock, Node, Site, edge, packet, reaches, secret, settle};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::control::{CertificateSource, CrlState, CutReason, Event, Floor, Tai64n};
use verona_contract::crl::CrlError;
use verona_tests::forgery::Initiation;
use verona_tests::pki::{Authority, LeafPlan};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_pushed_certificate_is_all_that_a_stock_client_needs() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, None);
    assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.refused("unknown_key"), 1);
    assert_eq!(edge.sessions(), 0);

    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    let installed = site.install(&clock, &mut edge);
    assert_eq!((installed.clients, installed.rejected.len()), (1, 0));
    let mut client = site.client(11, &clock, &edge, None);
    edge.events();
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert!(
        !reaches(&clock, &mut client, &mut edge, "10.9.0.12"),
        "an address that is not in the certificate"
    );
    let events = edge.events();
    let admitted = Event::Admitted {
        key: client.key,
        subject: site.plan(11).subject,
        owner: "acme".parse().unwrap(),
        endpoint: client.address,
        source: CertificateSource::Pushed,
    };
    assert_eq!(events, [admitted]);
    let peers = edge.engine.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].endpoint, &peers[0].addresses), (Some(client.address), &site.plan(11).addresses));
    let inner = packet("10.9.0.11", "10.9.255.1", b"are you there").len() as u64;
    assert_eq!((peers[0].rx_bytes, peers[0].tx_bytes), (inner, 0), "inner octets of what was delivered");
}

#[test]
fn a_client_introduces_itself_and_need_not_do_it_again() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let sizes: Vec<_> = client.out.datagrams.iter().map(|(_, datagram)| datagram.len()).collect();
    assert_eq!(sizes, [640, 148], "the introduction goes first");
    let introduction = client.out.datagrams[0].1.clone();
    settle(&clock, &mut client, &mut edge);
    assert_eq!(edge.take_packets().len(), 1);
    assert_eq!(edge.engine.peers()[0].source, CertificateSource::Introduced);
    edge.receive(&clock, client.address, &introduction);
    assert_eq!((edge.total("introductions"), edge.total("introductions_repeated")), (1, 1));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"), "a repetition harms nothing");
}

#[test]
fn an_intermediate_may_come_along_and_its_list_is_asked_for() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let regional = Authority::new(8, "Acme regional");
    let certificates = Introduction {
        leaf: regional.leaf(&site.plan(11)),
        intermediate: Some(site.authority.certify(&regional, 0x99)),
        binding: None,
    };
    let mut client = site.client(11, &clock, &edge, Some(certificates.clone()));
    assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.refused("crl_missing"), 1, "no list of the intermediate yet");
    let missing = edge.engine.crls(clock.now()).into_iter().find(|list| list.state == CrlState::Missing);
    assert_eq!(missing.map(|list| list.issuer), Some(regional.key_id()));

    let list = CrlSet::load(&regional.crl(1, &[], clock.now().wall), &edge.engine.issuers()).unwrap();
    edge.engine.install_crl(clock.now(), list).unwrap();
    let mut client = site.client(11, &clock, &edge, Some(certificates));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    assert_eq!(client.out.datagrams[0].1.len(), 1232);
    settle(&clock, &mut client, &mut edge);
    assert_eq!(edge.take_packets().len(), 1);

    // The intermediate's own serial number is held against its issuer's list.
    let mut site = site;
    let cut = site.revoke(&clock, &mut edge, &[0x99]).cut;
    assert_eq!(cut.len(), 1);
    assert_eq!(edge.sessions(), 0);
}

/// Each refusal of a handshake or an introduction, and that none of them leaves state behind.
#[test]
fn every_refusal_has_its_counter_and_makes_no_state() {
    type Change = fn(&mut LeafPlan);
    let table: [(&str, Change); 10] = [
        ("certificate_malformed", |plan| plan.key = [0; 32]),
        ("certificate_malformed", |plan| plan.extended_key_usage = None),
        ("certificate_malformed", |plan| plan.repeats_key_usage = true),
        ("certificate_malformed", |plan| plan.addresses.clear()),
        ("certificate_malformed", |plan| plan.subject = "urn:other:1".into()),
        ("key_mismatch", |plan| plan.key = *secret(12).x25519_public().unwrap().as_bytes()),
        ("expired", |plan| plan.not_after = harness::wall() - Duration::from_secs(1)),
        ("not_yet_valid", |plan| plan.not_before = harness::wall() + Duration::from_secs(1)),
        ("revoked", |plan| plan.serial = 0x1bad),
        ("address_taken", |plan| plan.addresses = vec!["10.9.0.50".parse().unwrap()]),
    ];
    for (reason, change) in table {
        let clock = Clock::new();
        let (mut edge, mut site) = edge(&clock);
        site.policy.owners[0].clients = vec![Octets(site.leaf(50))];
        site.install(&clock, &mut edge);
        site.revoke(&clock, &mut edge, &[0x1bad]);
        let mut plan = site.plan(11);
        change(&mut plan);
        let certificates = Introduction { leaf: site.authority.leaf(&plan), ..Introduction::default() };
        let mut client = site.client(11, &clock, &edge, Some(certificates));
        assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"), "{reason}");
        assert_eq!(edge.refused(reason), 1, "{reason}: {:?}", edge.engine.counters().refused);
        assert_eq!(edge.refused("unknown_key"), 1, "{reason}: the initiation that followed");
        assert_eq!(edge.engine.population(), (0, 1), "{reason}: only the pushed record");
        assert!(edge.events().iter().any(|event| matches!(event,
            Event::Refused { reason: told, key: Some(key), .. } if told.name() == reason && *key == client.key)));
    }
}

#[test]
fn paths_that_do_not_lead_to_the_owner_are_refused() {
    let clock = Clock::new();
    let stranger = Authority::new(9, "Nobody");
    let twin = Authority::new(9, "Acme clients");
    let regional = Authority::new(8, "Acme regional");
    let (_, site) = edge(&clock);
    let mut damaged = site.leaf(11);
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let plan = site.plan(11);
    let table = [
        ("unknown_issuer", stranger.leaf(&plan), None),
        ("unknown_issuer", regional.leaf(&plan), Some(stranger.certify(&regional, 1))),
        ("path_invalid", twin.leaf(&plan), None),
        ("path_invalid", damaged, None),
        ("path_invalid", regional.leaf(&plan), Some(twin.certify(&regional, 1))),
        ("path_invalid", stranger.leaf(&plan), Some(site.authority.certify(&regional, 1))),
        ("certificate_malformed", regional.leaf(&plan), Some(site.leaf(12))),
    ];
    for (reason, leaf, intermediate) in table {
        let (mut edge, site) = edge(&clock);
        let mut client =
            site.client(11, &clock, &edge, Some(Introduction { leaf, intermediate, binding: None }));
        assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"), "{reason}");
        assert_eq!(edge.refused(reason), 1, "{reason}: {:?}", edge.engine.counters().refused);
        assert_eq!(edge.engine.population(), (0, 0), "{reason}");
    }
}

#[test]
fn a_forged_initiation_that_claims_a_known_key_makes_no_state() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    site.install(&clock, &mut edge);
    let victim = secret(11).x25519_public().unwrap();
    let forged = Initiation::forged(edge.key, *victim.as_bytes());
    edge.receive(&clock, "203.0.113.1:1".parse().unwrap(), &forged.message());
    assert_eq!(edge.refused("not_authentic"), 1);
    assert_eq!(edge.sessions(), 0);
    assert!(edge.take_datagrams().is_empty());
    // Nor does it raise the victim's floor of timestamps.
    let mut client = site.client(11, &clock, &edge, None);
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
}

#[test]
fn a_weak_key_is_refused_wherever_it_comes_from() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let plan = LeafPlan { key: [0; 32], ..site.plan(11) };
    site.policy.owners[0].clients = vec![Octets(site.authority.leaf(&plan))];
    let installed = site.install(&clock, &mut edge);
    assert_eq!(installed.clients, 0);
    assert_eq!(installed.rejected[0].path, "owners[0].clients[0]");
    assert!(installed.rejected[0].reason.contains("low order"), "{}", installed.rejected[0].reason);
    // With the all-zero static key nobody needs a private one: the shared secret is zero.
    let attack = Initiation { static_shared: [0; 32], ..Initiation::forged(edge.key, [0; 32]) };
    edge.receive(&clock, "203.0.113.1:1".parse().unwrap(), &attack.message());
    assert_eq!((edge.refused("not_authentic"), edge.sessions()), (1, 0));
}

#[test]
fn a_recorded_initiation_is_refused_also_after_eviction() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    site.policy.owners[0].max_clients = 1;
    site.install(&clock, &mut edge);
    let mut first = site.client(11, &clock, &edge, site.introduction(11));
    first.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let recorded: Vec<_> = first.out.datagrams.iter().map(|(_, datagram)| datagram.clone()).collect();
    settle(&clock, &mut first, &mut edge);
    assert_eq!(edge.total("handshakes"), 1);

    // A live session is not evicted …
    let mut second = site.client(12, &clock, &edge, site.introduction(12));
    assert!(!reaches(&clock, &mut second, &mut edge, "10.9.0.12"));
    assert_eq!(edge.refused("quota"), 1);
    // … but a record without one is.
    site.revoke(&clock, &mut edge, &[11]);
    site.revoke(&clock, &mut edge, &[]);
    let mut second = site.client(12, &clock, &edge, site.introduction(12));
    assert!(reaches(&clock, &mut second, &mut edge, "10.9.0.12"));
    assert_eq!(edge.total("records_evicted"), 1);

    site.revoke(&clock, &mut edge, &[12]);
    site.revoke(&clock, &mut edge, &[]);
    edge.take_datagrams();
    for datagram in &recorded {
        edge.receive(&clock, first.address, datagram);
    }
    assert_eq!(edge.total("introductions"), 3, "the introduction itself may be repeated");
    assert_eq!(edge.refused("replay"), 1);
    assert_eq!(edge.sessions(), 0);
    assert!(edge.take_datagrams().is_empty());
}

#[test]
fn a_recorded_initiation_is_refused_also_after_a_restart() {
    for handed_back in [true, false] {
        let clock = Clock::new();
        let (mut before, mut site) = edge(&clock);
        site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
        site.install(&clock, &mut before);
        let mut client = site.client(11, &clock, &before, None);
        client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
        let recorded = client.out.datagrams[0].1.clone();
        settle(&clock, &mut client, &mut before);
        let fresh = before.engine.fresh_floors();
        assert_eq!((fresh.floors.len(), fresh.floors[0].key, fresh.complete), (1, client.key, true));
        assert_eq!(before.engine.fresh_floors().floors, [], "told once");
        assert_eq!(before.engine.all_floors().floors, fresh.floors, "but never forgotten");

        let (mut after, _) = edge(&clock);
        if handed_back {
            after.engine.restore_floors(&fresh.floors);
        }
        site.install(&clock, &mut after);
        site.revoke(&clock, &mut after, &[]);
        after.take_datagrams();
        after.receive(&clock, client.address, &recorded);
        assert_eq!(after.refused("replay"), u64::from(handed_back));
        assert_eq!(after.take_datagrams().is_empty(), handed_back, "without the floor it is answered");
        // A floor is handed on even when its key has not come back meanwhile, and a lower one changes nothing.
        let zero = Floor { key: client.key, timestamp: Tai64n::default() };
        after.engine.restore_floors(&[zero]);
        assert!(after.engine.all_floors().floors.contains(&fresh.floors[0]));
    }
}

#[test]
fn a_list_cuts_whom_it_names_and_nobody_else() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut alice = site.client(11, &clock, &edge, site.introduction(11));
    let mut bob = site.client(12, &clock, &edge, site.introduction(12));
    assert!(reaches(&clock, &mut alice, &mut edge, "10.9.0.11"));
    assert!(reaches(&clock, &mut bob, &mut edge, "10.9.0.12"));
    edge.events();

    let installed = site.revoke(&clock, &mut edge, &[11]);
    let [cut] = installed.cut.as_slice() else { panic!("{:?}", installed.cut) };
    assert_eq!((cut.key, &cut.subject), (alice.key, &site.plan(11).subject));
    assert_eq!(edge.events(), [Event::Cut { cut: cut.clone(), reason: CutReason::Revoked }]);
    assert!(!reaches(&clock, &mut alice, &mut edge, "10.9.0.11"));
    assert!(reaches(&clock, &mut bob, &mut edge, "10.9.0.12"));
    edge.send(&clock, &packet("10.9.255.1", "10.9.0.11", b"x"));
    assert!(edge.take_datagrams().is_empty(), "nor does the edge call a revoked client");

    let enabled = site.revoke(&clock, &mut edge, &[]);
    assert!(enabled.cut.is_empty());
    let mut alice = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut alice, &mut edge, "10.9.0.11"), "enabled again");
}

#[test]
fn an_older_list_is_an_alarm_and_changes_nothing() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    site.revoke(&clock, &mut edge, &[11]);
    let load = |number, serials: &[u64]| {
        let der = site.authority.crl(number, serials, clock.now().wall);
        CrlSet::load(&der, &edge.engine.issuers()).unwrap()
    };
    let (older, forked, same) = (load(1, &[]), load(2, &[]), load(2, &[11]));
    let refused = edge.engine.install_crl(clock.now(), older);
    assert_eq!(refused, Err(CrlRefused::Order(CrlError::Rollback { stored: 2, offered: 1 })));
    assert_eq!(edge.engine.install_crl(clock.now(), forked), Err(CrlRefused::Order(CrlError::Conflict(2))));
    assert!(edge.engine.install_crl(clock.now(), same).is_ok());
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
}

#[test]
fn a_policy_cuts_whom_it_leaves_out_and_keeps_the_rest() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    site.policy.owners[0].clients = vec![Octets(site.leaf(11)), Octets(site.leaf(12))];
    site.install(&clock, &mut edge);
    let mut alice = site.client(11, &clock, &edge, None);
    let mut bob = site.client(12, &clock, &edge, None);
    let mut carol = site.client(13, &clock, &edge, site.introduction(13));
    for (client, source) in [(&mut alice, "10.9.0.11"), (&mut bob, "10.9.0.12"), (&mut carol, "10.9.0.13")] {
        assert!(reaches(&clock, client, &mut edge, source));
    }
    site.policy.seq = 2;
    site.policy.owners[0].clients.remove(0);
    let installed = site.install(&clock, &mut edge);
    assert_eq!(installed.cut.iter().map(|cut| cut.key).collect::<Vec<_>>(), [alice.key]);
    assert_eq!(installed.clients, 2);
    assert!(!reaches(&clock, &mut alice, &mut edge, "10.9.0.11"));
    assert!(reaches(&clock, &mut bob, &mut edge, "10.9.0.12"), "same session, same list");
    assert!(reaches(&clock, &mut carol, &mut edge, "10.9.0.13"), "introduced, still covered");
    assert_eq!(edge.total("handshakes"), 3);

    // Another CA for the same owner: nobody is covered any more.
    site.policy.seq = 3;
    site.policy.owners[0] = Site::owner("acme", &Authority::new(17, "Acme clients 2"));
    assert_eq!(site.install(&clock, &mut edge).cut.len(), 2);
    assert_eq!(edge.engine.population(), (0, 0));
}

#[test]
fn a_renewal_keeps_the_session_and_a_stranger_does_not_get_the_key() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let other_ca = Authority::new(21, "Other clients");
    site.policy.owners.push(Site::owner("other", &other_ca));
    site.install(&clock, &mut edge);
    let list = CrlSet::load(&other_ca.crl(1, &[], clock.now().wall), &edge.engine.issuers()).unwrap();
    edge.engine.install_crl(clock.now(), list).unwrap();
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));

    let introduce = |edge: &mut Node, leaf: Vec<u8>| {
        let mut helper =
            site.client(11, &clock, edge, Some(Introduction { leaf, ..Introduction::default() }));
        helper.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
        let introduction = helper.take_datagrams().remove(0).1;
        edge.receive(&clock, helper.address, &introduction);
    };
    let renewed = LeafPlan { serial: 111, not_after: harness::wall() + DAY, ..site.plan(11) };
    let renewed = LeafPlan { subject: site.plan(11).subject, ..renewed };
    introduce(&mut edge, site.authority.leaf(&renewed));
    assert_eq!(edge.engine.peers()[0].serial.to_string(), "6f");
    introduce(&mut edge, site.leaf(11));
    assert_eq!(edge.refused("superseded"), 1, "the older certificate of the key");
    introduce(&mut edge, other_ca.leaf(&renewed));
    assert_eq!(edge.refused("key_taken"), 1, "another owner certifies the key");
    introduce(&mut edge, site.authority.leaf(&LeafPlan { subject: site.plan(99).subject, ..renewed }));
    assert_eq!(edge.refused("key_taken"), 2, "another subject");
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.total("handshakes"), 1, "still the first session");
}

#[test]
fn a_client_that_enrolled_again_takes_its_address_to_its_new_key() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut old = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut old, &mut edge, "10.9.0.11"));
    let plan = site.plan(12);
    let plan = LeafPlan {
        subject: site.plan(11).subject,
        addresses: site.plan(11).addresses,
        not_before: plan.not_before + Duration::from_secs(60),
        ..plan
    };
    let certificates = Introduction { leaf: site.authority.leaf(&plan), ..Introduction::default() };
    let mut new = site.client(12, &clock, &edge, Some(certificates));
    assert!(reaches(&clock, &mut new, &mut edge, "10.9.0.11"));
    assert_eq!(edge.engine.population(), (1, 1));
    let mut old = site.client(11, &clock, &edge, site.introduction(11));
    assert!(!reaches(&clock, &mut old, &mut edge, "10.9.0.11"));
    assert_eq!(edge.refused("superseded"), 1);
}

#[test]
fn an_introduced_key_that_proves_nothing_is_forgotten_after_30_s() {
    let mut clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let introduction = client.take_datagrams().remove(0).1;
    edge.receive(&clock, client.address, &introduction);
    assert_eq!(edge.engine.population(), (0, 1));
    let (due, reason) = edge.engine.poll_timeout().unwrap();
    assert_eq!((due, reason), (clock.now().mono + Duration::from_secs(30), "unproven introduction"));
    clock.set(Duration::from_secs(30));
    edge.run_timers(&clock);
    assert_eq!(edge.engine.population(), (0, 0));
}

#[test]
fn the_first_policy_ends_plain_mode() {
    let clock = Clock::new();
    let mut edge = Node::new(200, "198.51.100.1:51820", &clock);
    edge.update_peer(&clock, harness::peer(secret(11).x25519_public().unwrap(), None, &["10.9.0.11/32"]));
    let site = Site::new(&edge.secret);
    site.install(&clock, &mut edge);
    assert!(edge.engine.device().peers.is_empty());
    let update = DeviceUpdate { replace_peers: true, ..DeviceUpdate::default() };
    let refused = edge.engine.configure(clock.now(), update, &mut edge.out);
    assert_eq!(refused, Err(ConfigError::CertifiedMode));
}

#[test]
fn policies_that_contradict_themselves_are_refused_whole() {
    let site = Site::new(&secret(200));
    let ambiguous = |change: &dyn Fn(&mut Site)| {
        let mut site = Site::new(&secret(200));
        change(&mut site);
        VerifiedPolicy::new(site.policy).err()
    };
    let twice = ambiguous(&|site| site.policy.owners.push(Site::owner("acme", &Authority::new(9, "x"))));
    assert_eq!(twice, Some(PolicyError::DuplicateOwner { owner: 1 }));
    let same_name = Authority::new(9, "Acme clients");
    let same_name = ambiguous(&|site| site.policy.owners.push(Site::owner("b", &same_name)));
    assert_eq!(same_name, Some(PolicyError::AmbiguousAnchor { owner: 1, anchor: 0 }));
    let not_a_ca = ambiguous(&|site| site.policy.owners[0].anchors = vec![Octets(site.leaf(1))]);
    assert!(matches!(not_a_ca, Some(PolicyError::Anchor { owner: 0, anchor: 0, .. })));
    assert!(VerifiedPolicy::new(site.policy).is_ok());
}

#[test]
fn a_pushed_certificate_of_another_owner_is_left_out() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let other_ca = Authority::new(21, "Other clients");
    site.policy.owners.push(Site::owner("other", &other_ca));
    site.policy.owners[1].clients = vec![Octets(site.leaf(11)), Octets(b"garbage".to_vec())];
    let installed = site.install(&clock, &mut edge);
    let paths: Vec<_> = installed.rejected.iter().map(|client| client.path.as_str()).collect();
    assert_eq!(paths, ["owners[1].clients[0]", "owners[1].clients[1]"]);
    assert_eq!(installed.clients, 0);
}

/// The same reasons at the handshake of a client that is known already.
#[test]
fn a_known_record_is_checked_again_at_each_handshake() {
    let hour = Duration::from_secs(3600);
    let table: [(&str, u64, Duration, bool); 4] = [
        ("revoked", 11, Duration::ZERO, true),
        ("expired", 0, hour * 6, true),
        ("crl_stale", 0, DAY * 9, true),
        ("crl_stale", 0, DAY * 9, false),
    ];
    for (reason, revoked, age, trusted) in table {
        let clock = Clock::new();
        let (mut edge, mut site) = edge(&clock);
        let lives = if reason == "expired" { hour * 5 } else { DAY * 30 };
        let plan = LeafPlan { not_after: harness::wall() + lives, ..site.plan(11) };
        site.policy.owners[0].clients = vec![Octets(site.authority.leaf(&plan))];
        site.install(&clock, &mut edge);
        site.revoke(&clock, &mut edge, &[revoked.max(1)]);
        let mut later = clock.now();
        later.wall += age;
        edge.engine.set_clock(later, trusted);
        let initiation = Initiation::honest(edge.key, &secret(11)).message();
        let batch = std::iter::once(("192.0.2.11:1".parse().unwrap(), initiation.as_slice()));
        edge.engine.handle_datagrams(later, batch, &mut edge.out);
        assert_eq!(edge.refused(reason), u64::from(trusted), "{reason}, clock trusted: {trusted}");
        assert_eq!(edge.sessions(), usize::from(!trusted), "{reason}");
    }
}

#[test]
fn under_load_an_introduction_needs_the_cookie_and_a_flood_of_them_stays_small() {
    let clock = Clock::new();
    let (mut edge, site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let introduction = client.take_datagrams().remove(0).1;
    let mut cookie_reply = None;
    for _ in 0..501 {
        edge.receive(&clock, client.address, &introduction);
        cookie_reply = edge.take_datagrams().pop();
    }
    assert_eq!((edge.total("introductions"), edge.total("introductions_repeated")), (1, 499));
    assert_eq!(edge.refused("cookie_demanded"), 1);
    let (_, cookie_reply) = cookie_reply.unwrap();
    assert_eq!(cookie_reply.len(), 64, "a tenth of what it answers");
    client.receive(&clock, edge.address, &cookie_reply);
    assert_eq!(client.total("cookies_taken"), 1);
    client.receive(&clock, edge.address, &[&[3, 0, 0, 0], &cookie_reply[4..63], &[0]].concat());
    assert_eq!(client.refused("not_authentic"), 1, "an altered one");

    // The same client, introducing itself to the same edge again, shows the cookie.
    let key = Some(Some(client.secret.clone()));
    client.configure(&clock, DeviceUpdate { private_key: Some(None), ..DeviceUpdate::default() });
    client.configure(&clock, DeviceUpdate { private_key: key, ..DeviceUpdate::default() });
    client.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let introduction = client.take_datagrams().remove(0).1;
    assert_ne!(introduction[624..], [0; 16], "mac2");
    edge.receive(&clock, client.address, &introduction);
    assert_eq!(edge.total("introductions_repeated"), 500, "processed under load");
}

#[test]
fn another_ca_key_under_a_known_name_inherits_neither_lists_nor_clients() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    site.policy.seq = 2;
    site.policy.owners[0] = Site::owner("acme", &Authority::new(17, "Acme clients"));
    assert_eq!(site.install(&clock, &mut edge).cut.len(), 1);
    assert_eq!(edge.engine.crls(clock.now())[0].state, CrlState::Missing);

    // A new preshared root ends sessions without cutting anybody: the clients come back with the new keys.
    let (mut edge, mut site) = harness::edge(&clock);
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    site.policy.owners[0].psk_root.id = 2;
    site.policy.owners[0].psk_root.secret = secret(0x99);
    assert!(site.install(&clock, &mut edge).cut.is_empty());
    assert_eq!(edge.engine.population(), (0, 1));
    let mut client = site.client(11, &clock, &edge, site.introduction(11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
}
