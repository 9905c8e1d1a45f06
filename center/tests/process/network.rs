//! The network of an edge, from an administrator's file to its signed configuration.

use crate::fixture::{Center, Tls};
use serde_json::{Value, json};
use verona_contract::config::{EdgeConfig, PAYLOAD_TYPE};
use verona_contract::dsse::Envelope;

/// The edge's configuration after number `has`.
pub(crate) fn config(center: &Center, edge: &Tls, has: u64) -> EdgeConfig {
    let fields = format!("If-None-Match: \"{has}\"\r\nPrefer: wait=20");
    let answer = center.call(Some(edge), "GET", "/v1/edge/config", &fields, |_| Vec::new());
    assert_eq!(answer.status, 200, "{}", answer.problem());
    let key = serde_json::from_value(center.identity()["config_keys"][0].clone()).unwrap();
    let envelope = Envelope::parse(&answer.body).unwrap();
    EdgeConfig::parse(envelope.verify(PAYLOAD_TYPE, &[key], 1).unwrap()).unwrap()
}

#[test]
fn a_network_reaches_the_edge_and_what_breaks_a_rule_does_not() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, edge, _) = center.enrolled_edge(&owner, "S-1");
    let first = config(&center, &edge, 0);
    assert!(first.network.is_empty());

    let file = center.path("network.json");
    let mut network = json!({
        "wan": [{ "name": "fiber", "port": "eth0", "ipv4": "dhcp" }],
        "lan": [{ "name": "office", "ports": ["eth1"], "addresses": ["192.168.77.1/24"] }],
    });
    std::fs::write(&file, network.to_string()).unwrap();
    let set = ["edge", "network", &id, "--set", file.to_str().unwrap()];
    assert_eq!(center.ok(&set), network);
    let second = config(&center, &edge, first.seq);
    assert_eq!(serde_json::to_value(&second.network).unwrap(), network);
    assert_eq!(center.ok(&["edge", "network", &id]), network);

    network["lan"][0]["addresses"] = json!(["192.168.77.0/24"]);
    let path = format!("/v1/admin/edges/{id}/network");
    let answer = center.post(Some(&center.operator()), &path, &network);
    assert_eq!(answer.status, 400);
    assert!(answer.problem().contains("network.lan[0].addresses"), "{}", answer.problem());
    network["lan"][0]["colour"] = Value::from("red");
    std::fs::write(&file, network.to_string()).unwrap();
    let refused = String::from_utf8(center.cli(&set).stderr).unwrap();
    assert!(refused.contains("lan[0].colour"), "{refused}");
    assert_eq!(center.post(Some(&edge), &path, &json!({})).status, 401, "an edge is no administrator");
    assert_eq!(
        serde_json::to_value(config(&center, &edge, first.seq).network).unwrap()["wan"][0]["name"],
        "fiber"
    );
    assert_eq!(center.ok(&["edge", "network", &id])["lan"][0]["addresses"][0], "192.168.77.1/24");
}
