//! What the center knows of a box: a real center, agent and tunnel. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{Center, Edge};
use lab::{Plan, Run, Topology, address, wait};
use serde_json::{Value, json};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

fn codes(shown: &Value) -> Vec<String> {
    let conditions = shown["conditions"].as_array().into_iter().flatten();
    conditions.filter_map(|code| code.as_str().map(str::to_owned)).collect()
}

#[test]
fn the_center_knows_how_the_box_is() {
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &Plan { clients: vec![] }).unwrap();
    let mut center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record).unwrap();
    let show = |center: &Center| center.admin(&["edge", "show", &id]).unwrap();
    assert_eq!(show(&center).get("conditions"), None, "it has not told anything yet");
    let mut edge = Edge::start(&net.edge, &record).unwrap();
    center.confirmed(&id, 1, LIMIT).unwrap();

    let clock_only = |code: &String| code.starts_with("clock");
    let told = |shown: &Value| {
        let line = shown.pointer("/health/heartbeat/uplinks/0/path_mtu") == Some(&json!(1500));
        line && codes(shown).iter().all(clock_only)
    };
    wait::until("a heartbeat with the line's facts", LIMIT * 2, || told(&show(&center))).unwrap();
    let shown = show(&center);
    let health = &shown["health"];
    assert_eq!(health["from"], json!(address::EDGE));
    let line = health.pointer("/heartbeat/uplinks/0").unwrap();
    let here = json!(address::EDGE);
    assert_eq!((&line["address"], &line["public"], &line["nat"]), (&here, &here, &json!("none")), "{line}");
    assert_eq!(shown["versions"]["tunnel"], shown["versions"]["agent"]);

    // Trouble is told at once, not at the next minute.
    edge.tunnel.crash().unwrap();
    wait::until("the trouble", Duration::from_secs(40), || {
        codes(&show(&center)).contains(&"tunnel-down".into())
    })
    .unwrap();
    let wrong = center.admin(&["edge", "list", "--wrong"]).unwrap().to_string();
    assert!(wrong.contains(&id) && !wrong.contains("heartbeat"), "{wrong}");

    // The center restarts: what it had heard is still there, with the edge away.
    edge.agent.crash().unwrap();
    let heard = show(&center)["health"]["heard"].clone();
    center.serving.stop();
    center.serve_again().unwrap();
    assert_eq!(show(&center)["health"]["heard"], heard);
}
