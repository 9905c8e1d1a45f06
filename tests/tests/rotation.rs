//! A new root of an owner's preshared keys, from the operator's command to a live client's last packet.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::parts::field;
use lab::{Run, alone, wait, web};
use serde_json::Value;
use std::time::Duration;
use verona_tests::site::{Client, PATIENCE, SERVER, Site};

/// The ids of the edge's roots: the current one, and the one before.
fn roots(site: &Site) -> (u64, Option<u64>) {
    let config = site.edge.edgectl(&["config"]).unwrap();
    let id = |name: &str| field(&config, name).and_then(|root| root["id"].as_u64());
    (id("psk_root").unwrap(), id("psk_previous"))
}

/// The key in force at the client, as a stock client would be given it.
fn key(client: &Client) -> String {
    let config = client.verona.export().unwrap();
    config.lines().find(|line| line.starts_with("PresharedKey")).unwrap().to_owned()
}

fn rotate(site: &Site, overlap: &str) -> lab::Result<Value> {
    site.center.admin(&["owner", "rotate-psk", &site.owner, "--overlap", overlap])
}

#[test]
fn a_live_client_passes_through_a_rotation_without_losing_a_packet() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice", "bob"]);
    let alice = site.connect("alice");
    let bob = site.connect("bob");
    let bobs = key(&bob);
    let (flow, before) = (site.flow(&alice), key(&alice));
    let handshake = |client: &Client| {
        let status = client.verona.status().unwrap();
        field(&status, "last_handshake").unwrap().to_string()
    };
    let first = handshake(&alice);

    let seq = site.center.confirmed(&site.edge_id, 1, PATIENCE).unwrap();
    let answer = rotate(&site, "30s").unwrap();
    assert_eq!(answer["psk_root"], 2);
    site.center.confirmed(&site.edge_id, seq + 1, PATIENCE).unwrap();
    assert_eq!(roots(&site), (2, Some(1)));
    let second = rotate(&site, "1h").unwrap_err().to_string();
    assert!(second.contains("the overlap of the rotation before lasts until"), "{second}");

    // Alice takes the new key; bob sleeps over it, and nothing changes for him yet.
    alice.verona.refresh().unwrap();
    wait::until("alice's new key", PATIENCE, || key(&alice) != before).unwrap();
    wait::until("alice's handshake with the new key", PATIENCE, || handshake(&alice) != first).unwrap();
    web::fetch(bob.verona.place(), SERVER).unwrap();

    // The center ends the overlap by itself. Bob finds that his edge is silent, and asks the center why.
    wait::until("the end of the overlap", PATIENCE + PATIENCE, || roots(&site) == (2, None)).unwrap();
    web::fetch_soon(bob.verona.place(), SERVER, PATIENCE).unwrap();
    assert_ne!(key(&bob), bobs);
    let arrived = flow.balance().arrivals.count;
    wait::until("the flow to go on", PATIENCE, || flow.balance().arrivals.count > arrived + 200).unwrap();
    let balance = flow.finish(Duration::from_secs(2));
    assert_eq!(balance.lost(), 0, "{balance:?}");
}

#[test]
fn after_the_overlap_a_key_of_the_old_root_opens_nothing() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let mut alice = site.enrol("alice", false);
    let path = alice.verona.state().join("profile.json");
    let old = std::fs::read(&path).unwrap();
    alice.verona.up().unwrap();
    web::fetch_soon(alice.verona.place(), SERVER, PATIENCE).unwrap();

    let seq = site.center.confirmed(&site.edge_id, 1, PATIENCE).unwrap();
    rotate(&site, "3s").unwrap();
    site.center.confirmed(&site.edge_id, seq + 2, PATIENCE).unwrap();
    assert_eq!(roots(&site), (2, None), "the center ended the overlap by itself");
    alice.verona.refresh().unwrap();
    wait::until("the new key", PATIENCE, || std::fs::read(&path).unwrap() != old).unwrap();
    let new = std::fs::read(&path).unwrap();

    // With the center away nobody tells her again.
    site.center.serving.crash().unwrap();
    let mut up_with = |profile: &[u8]| {
        alice.verona.process = None;
        std::fs::write(&path, profile).unwrap();
        alice.verona.up().unwrap();
    };
    let answers = || {
        let status = site.edge.edgectl(&["status"]).unwrap();
        field(&status, "responses_sent").and_then(Value::as_u64).unwrap()
    };
    let before = answers();
    up_with(&old);
    wait::until("answers that she cannot open", PATIENCE, || answers() > before + 1).unwrap();
    assert!(web::fetch(site.place("alice"), SERVER).is_err());
    up_with(&new);
    web::fetch_soon(site.place("alice"), SERVER, PATIENCE).unwrap();
}
