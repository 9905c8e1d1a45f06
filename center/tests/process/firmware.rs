//! Firmware: who may say what runs where, what reaches the edge, what the center shows, and the files themselves.

use crate::fixture::{BINARY, Center, Tls};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use verona_contract::config::{EdgeConfig, PAYLOAD_TYPE, UpdateConfig};
use verona_contract::dsse::Envelope;

const PASSWORD: &str = "correct horse battery";

/// The update section of the edge's configuration after number `has`, and its number.
fn section(center: &Center, edge: &Tls, has: u64) -> (u64, Option<UpdateConfig>) {
    let fields = format!("If-None-Match: \"{has}\"\r\nPrefer: wait=20");
    let answer = center.call(Some(edge), "GET", "/v1/edge/config", &fields, |_| Vec::new());
    assert_eq!(answer.status, 200, "{}", answer.problem());
    let key = serde_json::from_value(center.identity()["config_keys"][0].clone()).unwrap();
    let envelope = Envelope::parse(&answer.body).unwrap();
    let config = EdgeConfig::parse(envelope.verify(PAYLOAD_TYPE, &[key], 1).unwrap()).unwrap();
    (config.seq, config.update)
}

/// An admin of `owner`, and his command line.
fn admin(center: &Center, owner: &str) -> impl Fn(&[&str]) -> Output {
    let path = center.path("admin.json");
    let call = |identity: &Path, arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--json").env("VERONA_IDENTITY", identity);
        command.env("VERONA_ADMIN_PASSWORD", PASSWORD).env("VERONA_PASSWORD", PASSWORD).output().unwrap()
    };
    let arguments =
        ["admin", "add", "--owner", owner, "--id", "anna", "--identity-out", path.to_str().unwrap()];
    let added = call(&center.path("c/operator.json"), &arguments);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    move |arguments| call(&path, arguments)
}

#[test]
fn the_vendor_says_what_runs_and_the_customer_when() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, edge, _) = center.enrolled_edge(&owner, "S-1");
    let (seq, update) = section(&center, &edge, 0);
    assert_eq!(update, None, "as it is");

    center.ok(&["firmware", "ring", "pilot", "--version", "2.0.0", "--spread", "1h"]);
    center.ok(&["firmware", "ring", "stable", "--version", "1.5.0", "--spread", "0s"]);
    let (seq, update) = section(&center, &edge, seq);
    let update = update.unwrap();
    assert_eq!((update.version.to_string().as_str(), update.window, update.spread_s), ("1.5.0", None, 0));

    let admin = admin(&center, &owner);
    let done = admin(&["firmware", "edge", &id, "--window", "sat,sun 17:00 120"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (seq, update) = section(&center, &edge, seq);
    let window = serde_json::to_value(update.unwrap().window).unwrap();
    assert_eq!(window, json!({ "days": ["sat", "sun"], "start": "17:00", "minutes": 120 }));
    for refused in [
        ["firmware", "edge", &id, "--ring", "pilot"].as_slice(),
        &["firmware", "ring", "stable", "--version", "9.9.9"],
        &["firmware", "rings"],
    ] {
        let output = admin(refused);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains("only an operator may do this"), "{error}");
    }
    let other = center.owner("Other", "10.9.0.0/24");
    let (foreign, _, _) = center.enrolled_edge(&other, "S-2");
    let output = admin(&["firmware", "edge", &foreign]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("no edge"), "{error}");

    center.ok(&["firmware", "edge", &id, "--ring", "pilot", "--any-time"]);
    let (_, update) = section(&center, &edge, seq);
    let update = update.unwrap();
    assert_eq!((update.version.to_string().as_str(), update.window, update.spread_s), ("2.0.0", None, 3600));
    let missing = center.cli(&["firmware", "edge", &id, "--ring", "none"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no ring none"));
}

#[test]
fn what_an_edge_tells_is_kept_once_and_bounded() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (id, edge, _) = center.enrolled_edge(&owner, "S-1");
    let tell = |state: &str, reason: Option<String>, at_ns: u64| {
        let ack = json!({ "kind": "update", "version": "2.0.0", "state": state, "reason": reason,
            "running": "1.0.0", "at_ns": at_ns });
        center.post(Some(&edge), "/v1/acks", &ack)
    };
    assert_eq!(tell("installed", None, 1).status, 204);
    assert_eq!(tell("went-back", Some("it hung".to_owned()), 2).status, 204);
    assert_eq!(tell("went-back", Some("it hung".to_owned()), 2).status, 204, "it was told again");
    let shown = center.ok(&["firmware", "edge", &id]);
    let history = shown["history"].as_array().unwrap();
    let states: Vec<&Value> = history.iter().map(|event| &event["state"]).collect();
    assert_eq!(states, [&json!("went-back"), &json!("installed")]);
    assert_eq!((&history[0]["reason"], &shown["running"]), (&json!("it hung"), &json!("1.0.0")));

    assert_eq!(tell("refused", Some("x".repeat(4096)), 3).status, 204);
    let long = tell("refused", Some("x".repeat(4097)), 4);
    assert_eq!((long.status, long.problem().as_str()), (400, "ack: reason must be at most 4096 octets"));
    for at in 10..80 {
        assert_eq!(tell("installed", None, at).status, 204);
    }
    assert_eq!(center.ok(&["firmware", "edge", &id])["history"].as_array().unwrap().len(), 50);
}

#[test]
fn files_come_whole_or_in_pieces_and_nothing_else_comes() {
    let center = Center::start();
    let folder = center.path("c/web/firmware");
    fs::create_dir_all(folder.join("metadata")).unwrap();
    fs::create_dir_all(folder.join("targets")).unwrap();
    let small = b"{\"signed\":{}}".to_vec();
    let large: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    fs::write(folder.join("metadata/timestamp.json"), &small).unwrap();
    fs::write(folder.join("targets/1.root"), &large).unwrap();
    fs::write(folder.join("secret"), "not served").unwrap();
    // Anyone may read them: no certificate.
    let get = |path: &str, fields: &str| {
        center.call(None, "GET", &format!("/v1/firmware/{path}"), fields, |_| vec![])
    };
    let whole = get("metadata/timestamp.json", "Accept: */*");
    assert_eq!(
        (whole.status, whole.body, whole.head.contains("no-cache")),
        (200, small, true),
        "{}",
        whole.head
    );

    let piece = get("targets/1.root", "Range: bytes=1000000-1999999");
    assert_eq!((piece.status, piece.body == large[1_000_000..2_000_000]), (206, true));
    assert_eq!(piece.field("Content-Range").as_deref(), Some("bytes 1000000-1999999/3000000"));
    let last = get("targets/1.root", "Range: bytes=2999999-3999999");
    assert_eq!((last.status, last.body == large[2_999_999..]), (206, true));
    for (path, fields, status) in [
        ("targets/1.root", "Range: bytes=3000000-3000001", 416),
        ("targets/1.root", "Range: bytes=0-1048576", 400),
        ("targets/1.root", "Accept: */*", 400),
        ("targets/2.root", "Accept: */*", 404),
        ("secret", "Accept: */*", 404),
        ("targets/..", "Accept: */*", 404),
        ("targets/%2e%2e%2fsecret", "Accept: */*", 404),
        ("targets/..%2f..%2f..%2foperator.json", "Accept: */*", 404),
        ("checked/root.json", "Accept: */*", 404),
    ] {
        let answer = get(path, fields);
        assert_eq!(answer.status, status, "{path} {fields}: {}", answer.head);
    }
}
