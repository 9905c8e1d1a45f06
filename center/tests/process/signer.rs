//! What a breached web tier can have signed, and what not: straight at the signer's socket.

use crate::fixture::{Center, entropy};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use verona_contract::base64::{decode, encode};
use verona_contract::cert::{Issuer, Leaf};
use verona_contract::crl::VerifiedCrl;
use verona_contract::csr::DeviceKey;
use verona_contract::key::Secret;

fn refused(answer: &Value) -> &str {
    answer["Err"].as_str().unwrap_or_else(|| panic!("not refused: {answer}"))
}

/// A name, what the web tier alters, and the rule that the signer names.
type Refusal<'a> = (&'a str, &'a dyn Fn(&mut Value), &'a str);

/// The newest configuration of an edge as a JSON value.
fn config(center: &Center, tls: &crate::fixture::Tls) -> Value {
    let fields = "Prefer: wait=20";
    let answer = center.call(Some(tls), "GET", "/v1/edge/config", fields, |_| Vec::new());
    let payload = decode(answer.json()["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[test]
fn configurations_must_fit_the_signers_memory() {
    let center = Center::start();
    let (a, b) = (center.owner("A", "10.8.0.0/24"), center.owner("B", "10.9.0.0/24"));
    let (_, tls, _) = center.enrolled_edge(&a, "S-A");
    let (_, tls_b, _) = center.enrolled_edge(&b, "S-B");
    let (_, code) = center.client(&b, "bob", &[]);
    let (_, foreign) = center.enrolled_client(&code);
    let good = config(&center, &tls);
    let anchor_b = config(&center, &tls_b)["tunnel"]["owners"][0]["anchors"][0].clone();
    let sign = |change: &dyn Fn(&mut Value)| {
        let mut config = good.clone();
        config["seq"] = json!(100);
        change(&mut config);
        center.ask_signer(&json!({"bundle": {"payload": encode(config.to_string())}}))
    };
    let owner = |config: &mut Value| config["tunnel"]["owners"][0].take();
    let anchor = good["tunnel"]["owners"][0]["anchors"][1].clone();
    let refusals: [Refusal<'_>; 10] = [
        ("lower seq", &|c| c["seq"] = json!(1), "seq: must be above 1"),
        (
            "foreign anchor",
            &|c| c["tunnel"]["owners"][0]["anchors"][0] = anchor_b.clone(),
            "anchors[0]: must be a CA",
        ),
        (
            "foreign certificate",
            &|c| c["tunnel"]["owners"][0]["clients"] = json!([foreign.tunnel_certificate]),
            "clients[0]: does not verify under this owner's CAs",
        ),
        (
            "no certificate",
            &|c| c["tunnel"]["owners"][0]["clients"] = json!(["AAAA"]),
            "clients[0]: not a certificate",
        ),
        (
            "another owner",
            &|c| {
                let mut other = owner(c);
                other["owner"] = json!(b);
                c["tunnel"]["owners"] = json!([other]);
            },
            "owners[0].owner: must be the owner of this edge",
        ),
        (
            "far future",
            &|c| c["issued_at"] = json!("2090-01-01T00:00:00Z"),
            "issued_at: must be at most 300 s ahead",
        ),
        (
            "an intermediate",
            &|c| c["tunnel"]["owners"][0]["intermediates"] = json!([anchor]),
            "owners[0].intermediates: not known to the signer",
        ),
        (
            "another's place for a key",
            &|c| {
                c["tunnel"]["owners"][0]["identities"] = json!([{
                    "key": "00".repeat(32), "addresses": ["10.8.0.9"],
                    "subject": "urn:verona:client:3f2b0f4e-8c1d-4d52-9b5a-0d6c3f0e9a11",
                }]);
            },
            "owners[0].identities: not known to the signer",
        ),
        (
            "a site with networks of its choice",
            &|c| {
                let site = json!({"certificate": anchor, "subnets": ["10.8.0.8/29"], "keepalive_s": 25});
                c["tunnel"]["owners"][0]["sites"] = json!([site]);
            },
            "owners[0].sites: not known to the signer",
        ),
        ("unknown field", &|c| c["tunnel"]["x"] = json!(1), "unknown field"),
    ];
    for (name, change, rule) in refusals {
        let answer = sign(change);
        assert!(refused(&answer).contains(rule), "{name}: {answer}");
    }
    assert!(sign(&|_| ())["Ok"]["bundle"].is_object());
    assert!(refused(&sign(&|_| ())).contains("seq: must be above 100"), "the same seq twice");
}

#[test]
fn leaves_keep_to_their_issuer_and_lists_grow() {
    let center = Center::start();
    let (a, b) = (center.owner("A", "10.8.0.0/24"), center.owner("B", "10.9.0.0/24"));
    let (edge, _) = center.edge(&a, "S-A");
    let owners = center.ok(&["owner", "list"]);
    let of =
        |code: &str| owners.as_array().unwrap().iter().find(|owner| owner["code"] == json!(code)).unwrap();
    let register = center.ask_signer(&json!({"register-edge": {"edge": edge, "owner": b}}));
    assert!(refused(&register).contains("belongs to another owner"), "{register}");
    let device = DeviceKey::from_entropy(&entropy()).unwrap();
    let csr = encode(device.request("x", None).unwrap());
    let leaf = json!({"device-leaf": {"issuer": of(&b)["edge_ca"], "subject": edge, "csr": csr}});
    assert!(refused(&center.ask_signer(&leaf)).contains("not registered with this owner"));
    let stray = json!({"tunnel-leaf": {"issuer": of(&a)["edge_ca"], "subject": edge, "csr": csr,
        "addresses": ["10.9.0.1"]}});
    assert!(refused(&center.ask_signer(&stray)).contains("not in the owner's network"));
    let numbers: Vec<u64> = (0..3)
        .map(|_| center.ask_signer(&json!({"crl": {"issuer": of(&a)["client_ca"], "entries": []}})))
        .map(|answer| answer["Ok"]["crl"]["number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [2, 3, 4]);
    for bad in ["{}", "nonsense", "{\"crl\":{}}"] {
        let answer = center.ask_signer(&serde_json::from_str(bad).unwrap_or(json!(bad)));
        assert!(refused(&answer).starts_with("request: "), "{answer}");
    }
}

#[test]
fn who_was_revoked_for_good_stays_so() {
    let center = Center::start();
    let owner = center.owner("A", "10.8.0.0/24");
    let (alice, code) = center.client(&owner, "alice", &[]);
    let (_, enrolled) = center.enrolled_client(&code);
    let (_, code) = center.client(&owner, "bob", &[]);
    let (_, bob) = center.enrolled_client(&code);
    let issuer = Issuer::parse(&enrolled.issuer.0).unwrap();
    let serial = |der: &[u8]| Leaf::parse(der).unwrap().serial;
    let (of_alice, of_bob) = (serial(&enrolled.tunnel_certificate.0), serial(&bob.tunnel_certificate.0));
    let ask =
        |entries: Value| center.ask_signer(&json!({"crl": {"issuer": issuer.key_id, "entries": entries}}));
    let listed = |answer: &Value| {
        let der = decode(answer["Ok"]["crl"]["der"].as_str().unwrap()).unwrap();
        VerifiedCrl::verify(&der, [&issuer]).unwrap().revoked().iter().copied().collect::<Vec<_>>()
    };
    center.ok(&["client", "revoke", &alice]);
    let silent = ask(json!([]));
    assert_eq!(listed(&silent).len(), 2, "tunnel and device leaf of alice: {silent}");
    assert!(listed(&silent).contains(&of_alice));
    assert_eq!(silent["Ok"]["crl"]["entries"], 2);
    let hold = json!([{"serial": of_alice, "reason": "hold", "since": 0},
        {"serial": of_bob, "reason": "hold", "since": 0}]);
    assert_eq!(listed(&ask(hold)).len(), 3, "a hold of bob beside the two");
    assert_eq!(listed(&ask(json!([]))).len(), 2, "bob's hold is gone, alice stays");

    let foreign = "7f00000000000000000000000000beef";
    let answer = ask(json!([{"serial": foreign, "reason": "hold", "since": 0}]));
    let rule = format!("entries: this CA issued no certificate with serial number {foreign}");
    assert_eq!(refused(&answer), rule);

    let device = DeviceKey::from_entropy(&entropy()).unwrap();
    let csr = device.request("x", Some(&Secret::new(entropy()).x25519_public().unwrap())).unwrap();
    let device_leaf = json!({"issuer": issuer.key_id, "subject": alice, "csr": encode(&csr)});
    let mut tunnel_leaf = device_leaf.clone();
    tunnel_leaf["addresses"] = json!(["10.8.0.16"]);
    for request in [json!({"device-leaf": device_leaf}), json!({"tunnel-leaf": tunnel_leaf})] {
        let answer = center.ask_signer(&request);
        assert_eq!(refused(&answer), format!("urn:verona:client:{alice} was revoked for good"));
    }
}

#[test]
fn a_list_is_signed_while_a_large_configuration_is_checked() {
    let center = Center::start();
    let owner = center.owner("A", "10.8.0.0/24");
    let (_, tls, _) = center.enrolled_edge(&owner, "S-1");
    let (_, code) = center.client(&owner, "bob", &[]);
    let (_, bob) = center.enrolled_client(&code);
    let issuer = Issuer::parse(&bob.issuer.0).unwrap().key_id;
    let mut large = config(&center, &tls);
    large["seq"] = json!(100);
    large["tunnel"]["owners"][0]["clients"] = json!(vec![bob.tunnel_certificate; 30_000]);
    let large = json!({"bundle": {"payload": encode(large.to_string())}});
    std::thread::scope(|scope| {
        let bundle = scope.spawn(|| center.ask_signer(&large));
        let (mut lists, mut slowest) = (0, Duration::ZERO);
        while !bundle.is_finished() {
            let asked = Instant::now();
            let answer = center.ask_signer(&json!({"crl": {"issuer": issuer, "entries": []}}));
            assert!(answer["Ok"]["crl"].is_object(), "{answer}");
            lists += 1;
            slowest = slowest.max(asked.elapsed());
        }
        let answer = bundle.join().unwrap();
        assert!(answer["Ok"]["bundle"].is_object(), "{answer}");
        println!("{lists} lists meanwhile, the slowest took {slowest:?}");
        assert!(lists >= 10 && slowest < Duration::from_millis(700), "{lists} lists, slowest {slowest:?}");
    });
}

#[test]
fn secrets_are_their_users_alone() {
    let center = Center::start();
    center.owner("A", "10.8.0.0/24");
    let mut directories = vec![center.path("c")];
    for log in ["web/center.db-wal", "web/center.db-shm", "web/logs.db-wal", "signer/signer.db-wal"] {
        assert!(center.path("c").join(log).exists(), "SQLite's own file {log} is looked at below");
    }
    while let Some(directory) = directories.pop() {
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o077, 0, "{directory:?}");
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            assert_eq!(metadata.permissions().mode() & 0o077, 0, "{:?}", entry.path());
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    let again = center.cli(&["init", "--data", center.path("c").to_str().unwrap(), "--url", "https://x"]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("holds a center already"));
}
