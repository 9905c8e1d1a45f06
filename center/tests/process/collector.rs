//! Where an edge's records go besides the center, from an administrator's file to its signed configuration.

use crate::fixture::Center;
use crate::network::config;
use serde_json::{Value, json};
use verona_contract::base64;

#[test]
fn a_collector_reaches_the_edge_and_what_breaks_a_rule_does_not() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, edge, _) = center.enrolled_edge(&owner, "S-1");
    let first = config(&center, &edge, 0);
    assert!(first.logs.is_empty());

    let ca = base64::encode(&first.tunnel.owners[0].anchors[0].0);
    let file = center.path("logs.json");
    let mut logs =
        json!({ "syslog": { "host": "siem.example.com", "port": 6514, "ca": [ca], "streams": ["audit"] } });
    std::fs::write(&file, logs.to_string()).unwrap();
    let set = ["edge", "logs", &id, "--set", file.to_str().unwrap()];
    assert_eq!(center.ok(&set), logs);
    let second = config(&center, &edge, first.seq);
    assert_eq!(serde_json::to_value(&second.logs).unwrap(), logs);
    assert_eq!(center.ok(&["edge", "logs", &id]), logs);

    logs["syslog"]["port"] = Value::from(0);
    let path = format!("/v1/admin/edges/{id}/logs");
    let answer = center.post(Some(&center.operator()), &path, &logs);
    assert_eq!(answer.status, 400);
    assert!(answer.problem().contains("logs.syslog.port"), "{}", answer.problem());
    std::fs::write(&file, logs.to_string()).unwrap();
    let refused = String::from_utf8(center.cli(&set).stderr).unwrap();
    assert!(refused.contains("logs.syslog.port"), "{refused}");
    assert_eq!(center.post(Some(&edge), &path, &json!({})).status, 401, "an edge is no administrator");
    assert_eq!(center.ok(&["edge", "logs", &id])["syslog"]["port"], 6514);

    std::fs::write(&file, "{}").unwrap();
    center.ok(&set);
    assert!(config(&center, &edge, second.seq).logs.is_empty());
}
