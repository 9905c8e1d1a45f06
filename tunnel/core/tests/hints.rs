//! Hinted endpoints: whom a restarted edge calls, whom it does not, and what a wrong hint does.

mod harness;

use edge_tunnel_core::{PublicKey, Secret, VerifiedPolicy};
use harness::{Clock, Node, Site, edge, packet, reaches, secret, settle};
use std::net::SocketAddr;
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::control::{CertificateSource, Event, MAX_ENDPOINTS, PeerEndpoint};

const INITIATION: usize = 148;

/// An edge that has just started and was given the policy, with hints, and the clock, but no list.
fn restarted(clock: &Clock, site: &mut Site, hints: &[(PublicKey, SocketAddr)]) -> Node {
    let mut edge = Node::new(200, "198.51.100.1:51820", clock);
    let endpoint =
        |(key, endpoint): &(PublicKey, SocketAddr)| PeerEndpoint { key: *key, endpoint: *endpoint };
    site.policy.endpoints = hints.iter().map(endpoint).collect();
    site.install(clock, &mut edge);
    edge.engine.set_clock(clock.now(), true);
    edge
}

/// Whom the edge calls within a second.
fn calls(clock: &mut Clock, edge: &mut Node) -> Vec<SocketAddr> {
    clock.set(clock.passed() + Duration::from_secs(1));
    edge.run_timers(clock);
    let initiation = |(_, datagram): &&(SocketAddr, Vec<u8>)| datagram.len() == INITIATION;
    edge.out.datagrams.iter().filter(initiation).map(|(to, _)| *to).collect()
}

#[test]
fn a_restarted_edge_calls_its_clients() {
    let mut clock = Clock::new();
    let (mut first, mut site) = edge(&clock);
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    site.install(&clock, &mut first);
    let mut client = site.client(11, &clock, &first, None);
    assert!(reaches(&clock, &mut client, &mut first, "10.9.0.11"));

    let mut edge = restarted(&clock, &mut site, &[(client.key, client.address)]);
    assert!(!reaches(&clock, &mut client, &mut edge, "10.9.0.11"), "the old session is gone");
    assert_eq!(calls(&mut clock, &mut edge), [], "nobody is admitted without a list");
    assert_eq!(edge.engine.peers()[0].endpoint, None, "a hint is not where it was heard from");
    site.revoke(&clock, &mut edge, &[]);
    assert!(edge.engine.poll_timeout().is_some_and(|(_, why)| why == "call of a hinted endpoint"));
    assert_eq!(calls(&mut clock, &mut edge), [client.address]);
    assert_eq!(edge.engine.peers()[0].endpoint, None, "still not");
    settle(&clock, &mut edge, &mut client);
    assert_eq!(edge.engine.peers()[0].endpoint, Some(client.address));
    let events = edge.events();
    assert!(
        matches!(&events[..], [.., Event::Admitted { endpoint, source: CertificateSource::Pushed, .. }]
            if *endpoint == client.address),
        "{events:?}"
    );
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    site.install(&clock, &mut edge);
    assert_eq!(calls(&mut clock, &mut edge), [], "who has a session is not called");
}

#[test]
fn a_hint_opens_nothing() {
    type Change = fn(&Clock, &mut Site, &mut Node);
    let table: [(&str, u8, Change); 5] = [
        ("revoked", 11, |clock, site, edge| drop(site.revoke(clock, edge, &[11]))),
        ("no list", 11, |_, _, _| {}),
        ("not in the policy", 12, |clock, site, edge| drop(site.revoke(clock, edge, &[]))),
        ("expired", 13, |clock, site, edge| drop(site.revoke(clock, edge, &[]))),
        ("the edge itself", 200, |clock, site, edge| drop(site.revoke(clock, edge, &[]))),
    ];
    for (case, seed, change) in table {
        let mut clock = Clock::new();
        let (_, mut site) = edge(&clock);
        let mut expired = site.plan(13);
        expired.not_after = harness::wall() - Duration::from_secs(1);
        site.policy.owners[0].clients = vec![Octets(site.leaf(11)), Octets(site.authority.leaf(&expired))];
        let key = secret(seed).x25519_public().unwrap();
        let mut edge = restarted(&clock, &mut site, &[(key, "192.0.2.11:1000".parse().unwrap())]);
        change(&clock, &mut site, &mut edge);
        assert_eq!(calls(&mut clock, &mut edge), [], "{case}");
        assert_eq!((edge.sessions(), edge.out.datagrams.len()), (0, 0), "{case}");
    }
}

#[test]
fn who_is_enabled_again_is_called_then() {
    let mut clock = Clock::new();
    let (_, mut site) = edge(&clock);
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    let address = "192.0.2.11:1000".parse().unwrap();
    let mut edge = restarted(&clock, &mut site, &[(secret(11).x25519_public().unwrap(), address)]);
    site.revoke(&clock, &mut edge, &[11]);
    assert_eq!(calls(&mut clock, &mut edge), []);
    site.revoke(&clock, &mut edge, &[]);
    assert_eq!(calls(&mut clock, &mut edge), [address]);
    let cut = site.revoke(&clock, &mut edge, &[11]).cut;
    assert_eq!((cut.len(), edge.sessions()), (0, 0), "a call without an answer is no session to be cut");
}

#[test]
fn a_wrong_hint_is_forgotten_when_the_peer_speaks() {
    let mut clock = Clock::new();
    let (mut first, mut site) = edge(&clock);
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    let mut client = site.client(11, &clock, &first, None);
    let elsewhere: SocketAddr = "203.0.113.9:9".parse().unwrap();
    let mut edge = restarted(&clock, &mut site, &[(client.key, elsewhere)]);
    site.revoke(&clock, &mut edge, &[]);
    assert_eq!(calls(&mut clock, &mut edge), [elsewhere]);
    edge.take_datagrams();
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    assert_eq!(edge.engine.peers()[0].endpoint, Some(client.address));
    let back = packet("10.9.255.1", "10.9.0.11", b"back");
    edge.send(&clock, &back);
    settle(&clock, &mut edge, &mut client);
    assert_eq!(client.take_packets(), [back]);
    let roamed = edge.events().iter().any(|event| matches!(event, Event::Roamed { .. }));
    assert!(!roamed && edge.total("roamed") == 0, "it was never there");
    // Nor does a hint move a peer that was heard of.
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    site.install(&clock, &mut first);
    site.install(&clock, &mut edge);
    assert_eq!(edge.engine.peers()[0].endpoint, Some(client.address));
    assert_eq!(calls(&mut clock, &mut edge), []);
}

#[test]
fn what_was_lost_before_the_sockets_opened_is_sent_again() {
    let mut clock = Clock::new();
    let (_, mut site) = edge(&clock);
    site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
    let address = "192.0.2.11:1000".parse().unwrap();
    let mut edge = restarted(&clock, &mut site, &[(secret(11).x25519_public().unwrap(), address)]);
    site.revoke(&clock, &mut edge, &[]);
    assert_eq!(calls(&mut clock, &mut edge), [address]);
    edge.take_datagrams();
    edge.engine.sockets_opened(clock.now());
    assert_eq!(calls(&mut clock, &mut edge), [address]);
}

#[test]
fn a_thousand_clients_are_not_called_at_once() {
    const CLIENTS: usize = 1000;
    let mut clock = Clock::new();
    let (_, mut site) = edge(&clock);
    let mut hints = Vec::new();
    for number in 0..CLIENTS as u16 {
        let [high, low] = number.to_be_bytes();
        let mut octets = [0x42; 32];
        octets[1..3].copy_from_slice(&[high, low]);
        let key = Secret::new(octets).x25519_public().unwrap();
        let mut plan = site.plan(1);
        plan.key = *key.as_bytes();
        plan.serial = 0x1_0000 + u64::from(number);
        plan.subject = format!("urn:verona:client:00000000-0000-4000-8000-{:012x}", plan.serial);
        plan.addresses = vec![[10, 10, high, low].into()];
        site.policy.owners[0].clients.push(Octets(site.authority.leaf(&plan)));
        hints.push((key, SocketAddr::from(([192, 0, 2, 1], 1000 + number))));
    }
    let mut edge = restarted(&clock, &mut site, &hints);
    site.revoke(&clock, &mut edge, &[]);
    let mut called = Vec::new();
    // A deadline comes up within the 16 ms after it.
    clock.set(clock.passed() + Duration::from_millis(16));
    for _ in 0..15 {
        clock.set(clock.passed() + Duration::from_millis(100));
        edge.run_timers(&clock);
        let now = edge.take_datagrams().len();
        assert!((20..200).contains(&now), "{now} within 100 ms");
        called.push(now);
    }
    assert_eq!(called.iter().sum::<usize>(), CLIENTS, "each once: {called:?}");

    let many = hints[0];
    site.policy.endpoints = vec![PeerEndpoint { key: many.0, endpoint: many.1 }; MAX_ENDPOINTS];
    site.policy.endpoints.insert(0, PeerEndpoint { key: hints[1].0, endpoint: hints[1].1 });
    let mut edge = Node::new(200, "198.51.100.1:51820", &clock);
    edge.engine.install_policy(clock.now(), VerifiedPolicy::new(site.policy.clone()).unwrap());
    edge.engine.set_clock(clock.now(), true);
    site.revoke(&clock, &mut edge, &[]);
    assert_eq!(calls(&mut clock, &mut edge), [many.1], "the oldest of too many is left out");
}
