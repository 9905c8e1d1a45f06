//! The cut and its proof: what remains of a disabled client, and what the center can show of it.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::parts::field;
use lab::{Flow, Namespace, Run, address, alone, wait, web};
use serde_json::Value;
use std::time::{Duration, Instant};
use verona_tests::site::{Client, PATIENCE, SERVER, Site};

/// The kernel's connections at the edge that name the client's address.
fn connections(edge: &Namespace, address: &str) -> usize {
    let table = edge.output("cat", &["/proc/net/nf_conntrack"]).unwrap();
    table.lines().filter(|line| line.contains(&format!("={address} "))).count()
}

/// A second flow beside [`Site::flow`], already arriving.
fn flow(site: &Site, client: &Client, port: u16, pace: Duration) -> Flow {
    let to = (address::LAN_HOST, port).into();
    let flow = Flow::start(client.verona.place(), &site.net.lan, to, pace).unwrap();
    wait::until("the flow to arrive", PATIENCE, || flow.balance().arrivals.count > 20).unwrap();
    flow
}

fn tunnel_address(site: &Site, client: &Client) -> String {
    let shown = site.center.admin(&["client", "show", &client.id]).unwrap();
    field(&shown, "addresses").unwrap()[0].as_str().unwrap().to_owned()
}

#[test]
fn a_cut_takes_the_clients_connections_out_of_the_kernel_and_no_others() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice", "bob"]);
    // The edge tracks and translates, as a box at a customer's site does.
    site.net
        .edge
        .nft(
            "table ip nat {\nchain post {\ntype nat hook postrouting priority srcnat;\n\
             ip daddr 192.168.77.0/24 masquerade\n}\n}\n",
        )
        .unwrap();
    let (alice, bob) = (site.connect("alice"), site.connect("bob"));
    let (alice_flow, bob_flow) = (site.flow(&alice), flow(&site, &bob, 4001, Duration::from_millis(5)));
    let (of_alice, of_bob) = (tunnel_address(&site, &alice), tunnel_address(&site, &bob));
    assert!(connections(&site.net.edge, &of_alice) > 0 && connections(&site.net.edge, &of_bob) > 0);

    site.center.admin(&["client", "disable", &alice.id]).unwrap();
    let proof = site.center.proof(&alice.id, PATIENCE).unwrap();
    // The ack comes after the removal.
    assert_eq!(connections(&site.net.edge, &of_alice), 0, "a cut client's connections are left");
    assert!(connections(&site.net.edge, &of_bob) > 0, "another client's connections are gone");
    let edge = &proof["edges"][0];
    assert_eq!((&edge["cut"], &edge["sessions_cut"]), (&Value::Bool(true), &Value::from(1)), "{proof}");
    let (cut, heard) = (edge["cut_after_ms"].as_u64().unwrap(), edge["confirmed_after_ms"].as_u64().unwrap());
    assert!(cut <= heard, "{proof}");
    drop(alice_flow);
    assert_eq!(bob_flow.finish(Duration::from_secs(1)).lost(), 0, "bob's flow");
}

#[test]
fn an_edge_that_was_away_cuts_and_reports_when_it_comes_back() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let mut site = Site::start(&run, &["alice"]);
    let alice = site.connect("alice");
    // Its agent is gone, its data plane is not: alice goes on.
    site.edge.agent.crash().unwrap();
    site.center.admin(&["client", "disable", &alice.id]).unwrap();
    let shown = site.center.admin(&["client", "show", &alice.id]).unwrap();
    let edge = &shown["edges"][0];
    assert_eq!(edge["waiting_since"], shown["change"]["changed_at"], "{shown}");
    assert_eq!((&edge["applied_at"], &edge["confirmed_after_ms"]), (&Value::Null, &Value::Null), "{shown}");
    assert!(edge["last_seen"].is_string(), "{shown}");
    web::fetch_soon(alice.verona.place(), SERVER, PATIENCE).unwrap();
    site.center.admin(&["client", "enable", &alice.id]).unwrap();
    site.center.admin(&["client", "disable", &alice.id]).unwrap();

    site.edge.agent_again().unwrap();
    let proof = site.center.proof(&alice.id, PATIENCE).unwrap();
    let number = &proof["change"]["crl_number"];
    let edge = &proof["edges"][0];
    assert_eq!(
        (&edge["cut"], &edge["waiting_since"], &edge["crl_number"]),
        (&Value::Bool(true), &Value::Null, number)
    );
    assert!(web::fetch(alice.verona.place(), SERVER).is_err());
    // The orders that it slept through are proven by the same list.
    let history = proof["history"].as_array().unwrap();
    let proven = |one: &Value| (one["change"]["action"].clone(), one["edges"][0]["crl_number"].clone());
    assert_eq!(
        history.iter().map(proven).collect::<Vec<_>>(),
        [("enable".into(), number.clone()), ("disable".into(), number.clone())]
    );
    wait::until("the refusal", PATIENCE, || site.edge.refused("revoked").is_ok_and(|count| count > 0))
        .unwrap();
}

/// From the click to the last packet that a cut client delivered, while another client takes all of the edge's CPU.
/// `VERONA_CUTS=200` makes the measurement; the ordinary suite sees that it works at all.
#[test]
fn a_cut_is_not_starved_by_the_traffic_of_others() {
    const SILENCE: Duration = Duration::from_secs(1);
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let site = Site::start(&run, &["alice", "bob"]);
    let (mut alice, bob) = (site.connect("alice"), site.connect("bob"));
    let cuts = std::env::var("VERONA_CUTS").map_or(3, |cuts| cuts.parse().unwrap());
    let flow = site.flow(&alice);
    let (mut delays, mut busy, mut whole) = (Vec::new(), 0, 0);
    while delays.len() < cuts {
        // A new one each time: its receiver remembers every datagram.
        let flood = self::flow(&site, &bob, 4001, Duration::ZERO);
        let (before, click, processors) = (flood.balance().arrivals.count, Instant::now(), processor_time());
        site.center.admin(&["client", "disable", &alice.id]).unwrap();
        let answered = click.elapsed();
        wait::until("alice's last packet", PATIENCE, || {
            flow.balance().arrivals.last.is_some_and(|last| last.elapsed() > SILENCE)
        })
        .unwrap();
        let last = flow.balance().arrivals.last.unwrap();
        let delay = last.saturating_duration_since(click);
        if delay > Duration::from_secs(1) {
            let shown = site.center.proof(&alice.id, PATIENCE).unwrap();
            println!("{delay:?}: the click came back after {answered:?}, then {shown}");
        }
        delays.push(delay);
        assert!(flood.balance().arrivals.count > before + 1000, "the edge was not busy");
        let (worked, passed) = processor_time();
        (busy, whole) = (busy + worked - processors.0, whole + passed - processors.1);
        site.center.admin(&["client", "enable", &alice.id]).unwrap();
        site.center.proof(&alice.id, PATIENCE).unwrap();
        let silent = flow.balance().arrivals.count;
        // A fresh process has no back-off.
        alice.verona.up().unwrap();
        let again = wait::until("alice again", PATIENCE, || flow.balance().arrivals.count > silent + 20);
        again.unwrap_or_else(|error| {
            let (client, edge) = (alice.verona.status(), site.edge.edgectl(&["status"]));
            panic!("after {} cuts: {error}\nclient: {client:?}\nedge: {edge:?}", delays.len())
        });
    }
    delays.sort_unstable();
    let (median, p99) = (delays[cuts / 2], delays[(cuts * 99).div_ceil(100) - 1]);
    let busy = busy * 100 / whole;
    println!(
        "{cuts} cuts, processors {busy} % busy: median {median:?}, p99 {p99:?}, longest {:?}",
        delays[cuts - 1]
    );
    assert!(busy >= 80, "processors {busy} % busy: nothing to starve behind");
    assert!(delays[cuts - 1] < Duration::from_secs(5), "{delays:?}");
}

/// Of all processors since the machine started: ticks at work, and all ticks (proc_stat(5)).
fn processor_time() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let fields = stat.lines().next().unwrap().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.take(8).map(|field| field.parse().unwrap()).collect();
    let whole = ticks.iter().sum();
    (whole - ticks[3] - ticks[4], whole)
}
