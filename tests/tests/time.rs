//! What must not depend on a clock or on a process that lives on: the order of initiations.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::parts::LISTEN_PORT;
use lab::{Run, Wiretap, address, alone, wait, web};
use std::net::UdpSocket;
use std::time::Duration;
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
