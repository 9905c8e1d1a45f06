//! What must not depend on a clock or on a process that lives on: the order of initiations, who is in, the way to
//! the center.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::parts::LISTEN_PORT;
use lab::{Run, WallClock, Wiretap, address, alone, wait, web};
use std::net::UdpSocket;
use std::time::{Duration, SystemTime};
use verona_tests::site::{PATIENCE, SERVER, Site};

const INITIATION: u8 = 1;

/// The last initiation that the edge has answered, after its client has gone.
fn record(site: &Site) -> Vec<u8> {
    let tap = Wiretap::start(&site.net.internet).unwrap();
    // Pushed: the edge knows the key from the first moment, so nothing but the floor stands in the way.
    let mut alice = site.enrol("alice", true);
    let seq = site.center.confirmed(&site.edge_id, 2, PATIENCE).unwrap();
    assert!(seq >= 2);
    alice.verona.up().unwrap();
    web::fetch_soon(alice.verona.place(), SERVER, PATIENCE).unwrap();
    drop(alice);
    let seen = tap.datagrams();
    seen.iter().rev().find(|datagram| datagram.kind() == INITIATION).unwrap().payload.clone()
}

/// Sends the initiation from elsewhere, once the edge carries out its policy again.
fn replay(site: &Site, initiation: &[u8]) {
    wait::until("the tunnel's policy", PATIENCE, || {
        site.edge.edgectl(&["status"]).is_ok_and(|status| {
            status.pointer("/tunnel/status/policy_seq").is_some_and(serde_json::Value::is_u64)
        })
    })
    .unwrap();
    wait::until("the tunnel's lists", PATIENCE, || {
        site.edge.edgectl(&["crl"]).is_ok_and(|lists| !lists.to_string().contains("\"in_force\":null"))
    })
    .unwrap();
    let socket = site.place("mallory").enter(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.connect((address::EDGE, LISTEN_PORT)).unwrap();
    assert_eq!(site.edge.refused("replay").unwrap(), 0, "a new process");
    socket.send(initiation).unwrap();
    wait::until("the refusal", PATIENCE, || site.edge.refused("replay").is_ok_and(|count| count == 1))
        .unwrap();
    assert!(socket.recv(&mut [0; 256]).is_err(), "a recorded initiation was answered");
}

#[test]
fn a_recorded_initiation_stays_old_when_tunnel_and_box_restart() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice", "mallory"]);
    let initiation = record(&site);
    let floors = site.edge.state().join("floors");
    wait::until("the floor on the disk", PATIENCE, || {
        std::fs::metadata(&floors).is_ok_and(|file| file.len() > 0)
    })
    .unwrap();

    site.edge.tunnel.crash().unwrap();
    site.edge.tunnel_again().unwrap();
    replay(&site, &initiation);

    site.edge.agent.crash().unwrap();
    site.edge.tunnel.crash().unwrap();
    site.edge.tunnel_again().unwrap();
    site.edge.agent_again().unwrap();
    replay(&site, &initiation);
}

/// Waits until the agent says of its clock that it is trusted or not, and gives the reason.
fn clock_is(site: &Site, trusted: bool) -> String {
    wait::for_value(&format!("a clock with trusted={trusted}"), PATIENCE, || {
        let clock = site.edge.edgectl(&["status"])?["clock"].clone();
        Ok((clock["trusted"] == trusted).then(|| clock["reason"].as_str().unwrap_or_default().to_owned()))
    })
    .unwrap()
}

#[test]
fn an_edge_that_wakes_up_in_1970_goes_by_numbers_until_it_knows_the_time() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice", "bob"]);
    let (alice, bob) = (site.connect("alice"), site.connect("bob"));
    site.center.admin(&["client", "disable", &bob.id]).unwrap();
    site.center.proof(&bob.id, PATIENCE).unwrap();

    // No battery, and no center that could tell the time.
    site.net.internet.ip("link set center down").unwrap();
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let clock = WallClock::new(&run, 600 - since_1970.as_secs().cast_signed()).unwrap();
    site.edge.wake_with(clock.clone()).unwrap();
    assert_eq!(clock_is(&site, false), "before the time floor");
    let place = |name| site.place(name);
    web::fetch_soon(place("alice"), SERVER, PATIENCE).unwrap();
    assert!(web::fetch(place("bob"), SERVER).is_err(), "a listed client is in");

    // The center's certificates begin long after 1970, and so does the next list.
    site.net.internet.ip("link set center up").unwrap();
    site.center.admin(&["client", "disable", &alice.id]).unwrap();
    site.center.proof(&alice.id, PATIENCE).unwrap();
    assert!(web::fetch(place("alice"), SERVER).is_err(), "not cut");
    assert_eq!(clock_is(&site, false), "before the time floor");

    // It leaps to the present; then it steps back below what has certainly passed.
    clock.set(0).unwrap();
    clock_is(&site, true);
    site.center.admin(&["client", "enable", &alice.id]).unwrap();
    web::fetch_soon(place("alice"), SERVER, PATIENCE).unwrap();
    clock.set(-2 * 24 * 3600).unwrap();
    assert_eq!(clock_is(&site, false), "before the time floor");
    web::fetch_soon(place("alice"), SERVER, PATIENCE).unwrap();
    assert!(web::fetch(place("bob"), SERVER).is_err(), "a listed client is in");
}
