//! Each rule of acceptance, broken one at a time in an otherwise good bundle.

use super::*;
use crate::revocation::fixture;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use verona_contract::base64::encode;

const EDGE: Uuid = Uuid::from_u128(0xed6e);

fn signer(seed: u8) -> (Ed25519KeyPair, VerifyingKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let key = VerifyingKey::new(pair.public_key().as_ref().try_into().unwrap());
    (pair, key)
}

fn rules() -> Rules {
    let keys = vec![signer(1).1, signer(2).1];
    Rules { edge: EDGE, keys, threshold: 2, agent: "0.3.1".parse().unwrap() }
}

fn config(seq: u64) -> Value {
    let anchor = encode(fixture::Ca::new("client CA", 1).certificate());
    json!({
        "edge_id": EDGE, "seq": seq, "issued_at": "2026-01-02T03:04:05Z", "minimum_agent": "0.3.0",
        "tunnel": {
            "addresses": ["10.8.0.1/16"], "listen_port": 51820, "mtu": 1420, "routes": [],
            "owners": [{
                "owner": "acme", "anchors": [anchor], "crl": {"grace_s": 60, "stale": "deny-new"},
                "psk_root": {"id": 1, "secret": encode([5; 32])}, "clients": [], "max_clients": 100,
            }],
        },
    })
}

fn sign(payload_type: &str, config: &Value, seeds: &[u8]) -> Vec<u8> {
    let pairs: Vec<Ed25519KeyPair> = seeds.iter().map(|seed| signer(*seed).0).collect();
    let pairs: Vec<&Ed25519KeyPair> = pairs.iter().collect();
    let envelope = Envelope::sign(payload_type, config.to_string().into_bytes(), &pairs);
    serde_json::to_vec(&envelope).unwrap()
}

fn signed(config: &Value) -> Vec<u8> {
    sign(PAYLOAD_TYPE, config, &[1, 2])
}

#[test]
fn a_good_bundle_gives_config_issuers_and_mark() {
    let accepted = rules().accept(&signed(&config(7)), None).unwrap();
    assert_eq!(accepted.config().seq, 7);
    assert_eq!(accepted.mark().seq, 7);
    assert_eq!(accepted.issuers()[0].key_id, fixture::Ca::new("client CA", 1).key_id());
}

#[test]
fn order() {
    let mark = rules().accept(&signed(&config(7)), None).unwrap().mark();
    let check = |config: &Value| rules().accept(&signed(config), Some(&mark)).map(|accepted| accepted.mark());
    assert_eq!(check(&config(7)), Ok(mark), "the same one again");
    assert!(check(&config(8)).is_ok_and(|next| next.seq == 8));
    assert_eq!(check(&config(6)), Err(Refusal::Rollback { stored: 7, offered: 6 }));
    let mut forked = config(7);
    forked["tunnel"]["listen_port"] = json!(51821);
    assert_eq!(check(&forked), Err(Refusal::Conflict(7)));
    assert!(Refusal::Conflict(7).is_alarm());
    assert!(Refusal::Rollback { stored: 7, offered: 6 }.is_alarm());
}

#[test]
fn signatures() {
    let good = config(7);
    let mut altered: Value = serde_json::from_slice(&signed(&good)).unwrap();
    altered["payload"] = json!(encode(config(8).to_string()));
    for (name, envelope, valid) in [
        ("one of two keys", sign(PAYLOAD_TYPE, &good, &[1]), 1),
        ("one key twice", sign(PAYLOAD_TYPE, &good, &[1, 1]), 1),
        ("a foreign key", sign(PAYLOAD_TYPE, &good, &[1, 3]), 1),
        ("foreign keys", sign(PAYLOAD_TYPE, &good, &[3, 4]), 0),
        ("payload altered", serde_json::to_vec(&altered).unwrap(), 0),
    ] {
        let refusal = rules().accept(&envelope, None).unwrap_err();
        assert_eq!(refusal, Refusal::Envelope(DsseError::Threshold { valid, threshold: 2 }), "{name}");
        assert!(refusal.is_alarm(), "{name}");
    }
    let other = rules().accept(&sign("application/json", &good, &[1, 2]), None).unwrap_err();
    assert!(matches!(other, Refusal::Envelope(DsseError::PayloadType { .. })));
}

#[test]
fn form() {
    let rules = rules();
    for bad in [&b""[..], b"{}", b"null", b"not JSON", b"<html>502</html>"] {
        let refusal = rules.accept(bad, None).unwrap_err();
        assert!(matches!(refusal, Refusal::Envelope(DsseError::Json(_))), "{refusal}");
        assert!(!refusal.is_alarm(), "a proxy's error page is no attack");
    }
    let refuse = |change: fn(&mut Value)| {
        let mut config = config(7);
        change(&mut config);
        rules.accept(&signed(&config), None).unwrap_err()
    };
    let other = Uuid::from_u128(1);
    assert_eq!(
        refuse(|c| c["edge_id"] = json!(Uuid::from_u128(1))),
        Refusal::OtherEdge { found: other, ours: EDGE }
    );
    let path = |refusal: Refusal| match refusal {
        Refusal::Config(error) => error.path,
        other => other.to_string(),
    };
    assert_eq!(path(refuse(|c| c["tunnel"]["mtu"] = json!(9001))), "tunnel.mtu");
    assert_eq!(path(refuse(|c| c["tunnel"]["extra"] = json!(1))), "tunnel.extra");
    assert_eq!(
        path(refuse(|c| c["tunnel"]["owners"][0]["anchors"][0] = json!("AAAA"))),
        "tunnel.owners[0].anchors[0]"
    );
    assert_eq!(
        path(refuse(|c| {
            let again = c["tunnel"]["owners"][0]["anchors"][0].clone();
            c["tunnel"]["owners"][0]["anchors"].as_array_mut().unwrap().push(again);
        })),
        "tunnel.owners[0].anchors[1]"
    );
}

#[test]
fn a_newer_format_is_refused_by_version_and_not_by_field() {
    let mut newer = config(7);
    newer["minimum_agent"] = json!("0.4.0");
    newer["wan"] = json!({});
    let refusal = rules().accept(&signed(&newer), None).unwrap_err();
    assert_eq!(refusal.to_string(), "bundle needs agent 0.4.0 or later, this is 0.3.1");
    newer["minimum_agent"] = json!("0.3.1");
    let refusal = rules().accept(&signed(&newer), None).unwrap_err();
    assert!(matches!(&refusal, Refusal::Config(error) if error.path == "wan"), "{refusal}");
}
