//! What a revocation list decides: every row of the table against every policy, clock and kind of client.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

mod harness;

use edge_tunnel_core::{CrlSet, Introduction, Now};
use harness::{Clock, Node, Site, edge, packet, reaches};
use std::time::Duration;
use verona_contract::base64::Octets;
use verona_contract::config::{CrlPolicy, StalePolicy};
use verona_contract::control::CrlState;
use verona_tests::pki::{Authority, LeafPlan};

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);
/// From thisUpdate to nextUpdate in the tests' lists.
const LIFE: Duration = DAY;

/// Whether the client is on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    No,
    Yes,
    /// It was, and the newest list leaves it out.
    Enabled,
}

/// The table of the design, written down once more and in other words than the code's.
fn may(
    age: Duration,
    grace: Duration,
    stale: StalePolicy,
    trusted: bool,
    listed: Listed,
    live: bool,
) -> bool {
    if listed == Listed::Yes {
        return false;
    }
    let beyond = trusted && age > LIFE + grace;
    match stale {
        _ if !beyond => true,
        StalePolicy::Allow => true,
        StalePolicy::DenyNew => live,
        StalePolicy::DenyAll => false,
    }
}

struct Row {
    age: Duration,
    grace: Duration,
    stale: StalePolicy,
    trusted: bool,
    listed: Listed,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for grace in [Duration::ZERO, DAY * 7] {
        for age in [Duration::ZERO, LIFE, LIFE + SECOND, LIFE + grace, LIFE + grace + SECOND, DAY * 400] {
            for stale in [StalePolicy::DenyNew, StalePolicy::DenyAll, StalePolicy::Allow] {
                for trusted in [true, false] {
                    for listed in [Listed::No, Listed::Yes, Listed::Enabled] {
                        rows.push(Row { age, grace, stale, trusted, listed });
                    }
                }
            }
        }
    }
    rows
}

/// A client whose certificate outlives every list, so that only the list decides.
fn introduction(site: &Site, seed: u8) -> Option<Introduction> {
    let plan = LeafPlan { not_after: harness::wall() + DAY * 1000, ..site.plan(seed) };
    Some(Introduction { leaf: site.authority.leaf(&plan), ..Introduction::default() })
}

/// Hands a client's datagrams to the edge and back, at a moment of the test's own.
fn settle_at(now: Now, client: &mut Node, edge: &mut Node) {
    for _ in 0..4 {
        for (_, datagram) in client.take_datagrams() {
            let batch = std::iter::once((client.address, datagram.as_slice()));
            edge.engine.handle_datagrams(now, batch, &mut edge.out);
        }
        for (_, datagram) in edge.take_datagrams() {
            let batch = std::iter::once((edge.address, datagram.as_slice()));
            client.engine.handle_datagrams(now, batch, &mut client.out);
        }
    }
}

fn reaches_at(now: Now, client: &mut Node, edge: &mut Node, source: &str) -> bool {
    let packet = packet(source, "10.9.255.1", b"are you there");
    client.engine.handle_packets(now, std::iter::once(packet.as_slice()), &mut client.out);
    settle_at(now, client, edge);
    edge.take_packets().contains(&packet)
}

#[test]
fn every_row_of_the_table() {
    for row in rows() {
        let Row { age, grace, stale, trusted, listed } = row;
        let what = format!("age {age:?}, grace {grace:?}, {stale:?}, clock trusted {trusted}, {listed:?}");
        let clock = Clock::new();
        let (mut edge, mut site) = edge(&clock);
        site.policy.seq = 2;
        site.policy.owners[0].crl = CrlPolicy { grace_s: grace.as_secs(), stale };
        site.install(&clock, &mut edge);
        let mut live = site.client(11, &clock, &edge, introduction(&site, 11));
        assert!(reaches(&clock, &mut live, &mut edge, "10.9.0.11"), "{what}");
        if listed != Listed::No {
            site.revoke(&clock, &mut edge, &[11, 12]);
            assert_eq!(edge.sessions(), 0, "{what}: cut when the list came");
        }
        if listed == Listed::Enabled {
            site.revoke(&clock, &mut edge, &[]);
            let mut again = site.client(11, &clock, &edge, introduction(&site, 11));
            assert!(reaches(&clock, &mut again, &mut edge, "10.9.0.11"), "{what}: enabled again");
            live = again;
        }
        // Only the wall clock moves on: this is about dates.
        let mut later = clock.now();
        later.wall += age;
        edge.engine.set_clock(later, trusted);
        let expected = may(age, grace, stale, trusted, listed, true);
        assert_eq!(edge.sessions() == 1, expected, "{what}: a session");
        assert_eq!(reaches_at(later, &mut live, &mut edge, "10.9.0.11"), expected, "{what}: its packets");
        let mut newcomer = site.client(12, &clock, &edge, introduction(&site, 12));
        let expected = may(age, grace, stale, trusted, listed, false);
        assert_eq!(reaches_at(later, &mut newcomer, &mut edge, "10.9.0.12"), expected, "{what}: a newcomer");
    }
}

#[test]
fn no_list_ever_denies_everyone_whatever_the_policy_and_the_clock() {
    for stale in [StalePolicy::DenyNew, StalePolicy::DenyAll, StalePolicy::Allow] {
        for trusted in [true, false] {
            let clock = Clock::new();
            let mut edge = Node::new(200, "198.51.100.1:51820", &clock);
            let mut site = Site::new(&edge.secret);
            site.policy.owners[0].crl.stale = stale;
            site.policy.owners[0].clients = vec![Octets(site.leaf(11))];
            site.install(&clock, &mut edge);
            edge.engine.set_clock(clock.now(), trusted);
            let mut pushed = site.client(11, &clock, &edge, None);
            assert!(!reaches(&clock, &mut pushed, &mut edge, "10.9.0.11"));
            let mut introduced = site.client(12, &clock, &edge, introduction(&site, 12));
            assert!(!reaches(&clock, &mut introduced, &mut edge, "10.9.0.12"));
            assert_eq!(edge.refused("crl_missing"), 2);
            assert_eq!(edge.engine.population(), (0, 1));
        }
    }
}

/// After a rekey it is still the same session to the table: `deny-new` is for those who have none.
#[test]
fn a_live_session_rekeys_on_a_stale_list_under_deny_new() {
    let mut clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    site.policy.seq = 2;
    site.policy.owners[0].crl = CrlPolicy { grace_s: 0, stale: StalePolicy::DenyNew };
    site.install(&clock, &mut edge);
    let mut client = site.client(11, &clock, &edge, introduction(&site, 11));
    assert!(reaches(&clock, &mut client, &mut edge, "10.9.0.11"));
    let handshakes = edge.total("handshakes");
    // Ten days of a session that is used all the time would take long to simulate: the wall clock jumps.
    edge.engine.set_clock(Now { wall: clock.now().wall + DAY * 10, ..clock.now() }, true);
    for _ in 0..130 {
        clock.set(clock.passed() + SECOND);
        let now = Now { wall: clock.now().wall + DAY * 10, ..clock.now() };
        client.engine.handle_timeout(now, &mut client.out);
        edge.engine.handle_timeout(now, &mut edge.out);
        assert!(reaches_at(now, &mut client, &mut edge, "10.9.0.11"), "at {:?}", clock.passed());
    }
    assert!(edge.total("handshakes") > handshakes, "there was a rekey");
}

/// A new CA beside the old one, clients moving over one by one, then the old one goes.
#[test]
fn a_roll_over_to_a_new_ca() {
    let clock = Clock::new();
    let (mut edge, mut site) = edge(&clock);
    let next = Authority::new(17, "Acme clients 2");
    let mut moved = site.client(11, &clock, &edge, site.introduction(11));
    let mut left = site.client(12, &clock, &edge, site.introduction(12));
    assert!(reaches(&clock, &mut moved, &mut edge, "10.9.0.11"));
    assert!(reaches(&clock, &mut left, &mut edge, "10.9.0.12"));

    site.policy.seq = 2;
    site.policy.owners[0].anchors.push(Octets(next.certificate().to_vec()));
    assert!(site.install(&clock, &mut edge).cut.is_empty());
    let renewed = LeafPlan { not_after: harness::wall() + DAY, ..site.plan(11) };
    let shown = Introduction { leaf: next.leaf(&renewed), ..Introduction::default() };
    let mut helper = site.client(11, &clock, &edge, Some(shown));
    helper.send(&clock, &packet("10.9.0.11", "10.9.255.1", b"x"));
    let introduction = helper.take_datagrams().remove(0).1;
    edge.receive(&clock, helper.address, &introduction);
    assert_eq!(edge.refused("crl_missing"), 1, "the new CA has no list yet: the old certificate serves on");
    let put = |edge: &mut Node, number, serials: &[u64]| {
        let list =
            CrlSet::load(&next.crl(number, serials, clock.now().wall), &edge.engine.issuers()).unwrap();
        edge.engine.install_crl(clock.now(), list).unwrap().cut.len()
    };
    put(&mut edge, 1, &[]);
    edge.receive(&clock, helper.address, &introduction);
    let handshakes = edge.total("handshakes");
    assert!(reaches(&clock, &mut moved, &mut edge, "10.9.0.11"));
    assert_eq!(edge.total("handshakes"), handshakes, "the session goes on");

    // Both certificates of the client have serial 11; each list speaks of its own issuer's alone.
    assert_eq!(site.revoke(&clock, &mut edge, &[11]).cut.len(), 0, "of the old CA: superseded anyway");
    assert_eq!(put(&mut edge, 2, &[12]), 0, "of the new CA: nobody there has it");
    assert_eq!(put(&mut edge, 3, &[11]), 1);
    put(&mut edge, 4, &[]);
    let shown = Introduction { leaf: next.leaf(&renewed), ..Introduction::default() };
    let mut moved = site.client(11, &clock, &edge, Some(shown));
    assert!(reaches(&clock, &mut moved, &mut edge, "10.9.0.11"));

    // Each list ages for itself.
    let states =
        |edge: &Node| edge.engine.crls(clock.now()).iter().map(|list| list.state).collect::<Vec<_>>();
    assert_eq!(states(&edge), [CrlState::Fresh; 2]);

    // The old CA goes: who has not moved is cut.
    site.policy.seq = 3;
    site.policy.owners[0].anchors.remove(0);
    let cut = site.install(&clock, &mut edge).cut;
    assert_eq!(cut.iter().map(|cut| cut.key).collect::<Vec<_>>(), [left.key]);
    assert!(reaches(&clock, &mut moved, &mut edge, "10.9.0.11"));
    let mut left = site.client(12, &clock, &edge, site.introduction(12));
    assert!(!reaches(&clock, &mut left, &mut edge, "10.9.0.12"));
    assert_eq!(edge.refused("unknown_issuer"), 1);
}
