//! Golden files: what was written once must be read for ever, and be written the same again.
//!
//! A change that breaks one of these breaks boxes in the field. Make a new version of the format instead.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use verona_contract::config::EdgeConfig;
use verona_contract::control::{Line, Request};
use verona_contract::dsse::{Envelope, VerifyingKey};
use verona_contract::key::Secret;
use verona_contract::log::Record;
use verona_contract::{api, config, pop, psk};

/// Reads `json` as `T`, writes it again, and compares the two as JSON values.
#[expect(clippy::unwrap_used, clippy::panic, reason = "a failure here is the test's failure")]
fn round_trip<T: Serialize + DeserializeOwned>(json: &str) {
    let value: T = serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    let again = serde_json::to_value(&value).unwrap();
    assert_eq!(again, serde_json::from_str::<Value>(json).unwrap(), "{json}");
}

#[test]
fn lines_on_sockets_and_wires() {
    include_str!("golden/control.jsonl").lines().for_each(round_trip::<Request>);
    include_str!("golden/lines.jsonl").lines().for_each(round_trip::<Line>);
    include_str!("golden/acks.jsonl").lines().for_each(round_trip::<api::Ack>);
}

#[test]
fn log_record_and_its_hash() {
    let json = include_str!("golden/log-record.json");
    round_trip::<Record>(json);
    let record: Record = serde_json::from_str(json).unwrap();
    assert_eq!(record.hash().to_string(), "0d69380fa29419879d47c1ed94ffbc54c87055862893da58663f6200019e0ae1");
}

#[test]
fn edge_config() {
    let json = include_str!("golden/edge-config.json");
    round_trip::<EdgeConfig>(json);
    assert_eq!(EdgeConfig::parse(json.as_bytes()).unwrap().seq, 42);
}

#[test]
fn edge_config_rules() {
    let golden: Value = serde_json::from_str(include_str!("golden/edge-config.json")).unwrap();
    for (pointer, value, message) in [
        ("/tunnel/colour", Value::from("red"), "tunnel.colour: unknown field `colour`"),
        ("/tunnel/owners/0/crl/grace_s", Value::from(-1), "tunnel.owners[0].crl.grace_s: invalid value"),
        ("/tunnel/owners/0/anchors", Value::Array(Vec::new()), "tunnel.owners[0].anchors: at least one CA"),
        ("/tunnel/owners/0/owner", Value::from("Kaigan"), "tunnel.owners[0].owner: an owner code is"),
        ("/tunnel/addresses", Value::Array(Vec::new()), "tunnel.addresses: at least one address"),
        ("/tunnel/addresses/0", Value::from("10.8.0.1"), "tunnel.addresses[0]: expected an IP network"),
        ("/tunnel/listen_port", Value::from(0), "tunnel.listen_port: 1 to 65535"),
        ("/tunnel/mtu", Value::from(1279), "tunnel.mtu: 1280 to 9000"),
        ("/minimum_agent", Value::from("1"), "minimum_agent: a version is major.minor.patch"),
        ("/seq", Value::from("42"), "seq: invalid type: string"),
    ] {
        let mut altered = golden.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match altered.pointer_mut(parent).unwrap() {
            Value::Object(object) => {
                object.insert(field.to_owned(), value);
            }
            other => other[field.parse::<usize>().unwrap()] = value,
        }
        let error = EdgeConfig::parse(altered.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(message), "{pointer}: {error}");
    }
    for missing in ["edge_id", "seq", "issued_at", "minimum_agent", "tunnel"] {
        let mut altered = golden.clone();
        altered.as_object_mut().unwrap().remove(missing);
        let error = EdgeConfig::parse(altered.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(&format!("missing field `{missing}`")), "{error}");
    }
    let twice = format!("{golden}{golden}");
    assert!(EdgeConfig::parse(twice.as_bytes()).is_err(), "something follows the configuration");
}

#[test]
fn envelope() {
    // Ed25519 is deterministic: the octets of a signature are part of the format.
    let signer = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let payload = include_bytes!("golden/edge-config.json").to_vec();
    let envelope = Envelope::sign(config::PAYLOAD_TYPE, payload.clone(), &[&signer]);
    let golden = Envelope::parse(include_bytes!("golden/envelope.json")).unwrap();
    assert_eq!(envelope, golden);
    let key: VerifyingKey = "/RckOFqgx1tk+3jNYC+h2ZH96/drE8WO1wLqyDXp9hg=".parse().unwrap();
    assert_eq!(golden.verify(config::PAYLOAD_TYPE, &[key], 1).unwrap(), payload);
}

/// The expected values were computed by another implementation (X25519, HKDF and HMAC of their RFCs).
#[test]
fn derivations() {
    let (client, edge) = (Secret::new([0x21; 32]), Secret::new([0x42; 32]));
    let (client_key, edge_key) = (client.x25519_public().unwrap(), edge.x25519_public().unwrap());
    let shared = psk::derive(&Secret::new([7; 32]), &client_key, &edge_key);
    assert_eq!(
        verona_contract::key::to_hex(shared.expose()),
        "28f598581de1f9e6e31e835addeeb0949d07a6bfcb57c98770bfd8149febe037"
    );
    let proof = pop::prove(&client, &edge_key, &[1; 32], b"request").unwrap();
    assert_eq!(
        verona_contract::key::to_hex(&proof),
        "a72e82b24a87bd6bc1662457e6e87e597b5760d80a391cf263ef679d62255f77"
    );
}
