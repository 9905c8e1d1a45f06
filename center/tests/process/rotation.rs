//! Roots of preshared keys: who is told of a new one, and when.

use crate::fixture::{Center, Tls};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use verona_contract::api::{Ack, ClientProfile, ConfigAck, ConfigState};
use verona_contract::config::{EdgeConfig, PAYLOAD_TYPE, PskRoot};
use verona_contract::dsse::Envelope;
use verona_contract::key::{PublicKey, Secret};
use verona_contract::psk;

/// The edge's configuration after number `has`: its number and its roots.
fn roots(center: &Center, edge: &Tls, has: u64) -> (u64, PskRoot, Option<PskRoot>) {
    let fields = format!("If-None-Match: \"{has}\"\r\nPrefer: wait=20");
    let answer = center.call(Some(edge), "GET", "/v1/edge/config", &fields, |_| Vec::new());
    assert_eq!(answer.status, 200, "{}", answer.problem());
    let key = serde_json::from_value(center.identity()["config_keys"][0].clone()).unwrap();
    let envelope = Envelope::parse(&answer.body).unwrap();
    let mut config = EdgeConfig::parse(envelope.verify(PAYLOAD_TYPE, &[key], 1).unwrap()).unwrap();
    let owner = config.tunnel.owners.remove(0);
    (config.seq, owner.psk_root, owner.psk_previous)
}

fn confirm(center: &Center, edge: &Tls, seq: u64, state: ConfigState) {
    let ack = Ack::Config(ConfigAck { seq, state, rejected: Vec::new(), applied_at_ns: 1 });
    let answer = center.post(Some(edge), "/v1/acks", &serde_json::to_value(&ack).unwrap());
    assert_eq!(answer.status, 204);
}

/// The preshared key in the client's profile.
fn key(center: &Center, client: &Tls) -> Secret {
    let answer = center.get(Some(client), "/v1/client/profile");
    let mut profile: ClientProfile = serde_json::from_slice(&answer.body).unwrap();
    profile.edges.remove(0).preshared_key
}

#[test]
fn an_edge_learns_a_new_root_before_its_clients_use_it() {
    let center = Center::start();
    let owner = center.owner("ACME", "10.8.0.0/24");
    let (_, edge, certified) = center.enrolled_edge(&owner, "S-1");
    let (_, code) = center.client(&owner, "alice", &[]);
    let (client, enrolled) = center.enrolled_client(&code);
    let public = |der: &[u8]| verona_contract::cert::Leaf::parse(der).unwrap().key;
    let keys: (PublicKey, PublicKey) =
        (public(&enrolled.tunnel_certificate.0), public(&certified.certificate.0));
    let derived = |root: &PskRoot| psk::derive(&root.secret, &keys.0, &keys.1);
    let (seq, first, previous) = roots(&center, &edge, 0);
    assert_eq!((first.id, previous), (1, None));
    confirm(&center, &edge, seq, ConfigState::Confirmed);
    assert_eq!(key(&center, &client), derived(&first));

    let rotate = |overlap: &str| center.cli(&["owner", "rotate-psk", &owner, "--overlap", overlap]);
    let answer: Value = serde_json::from_slice(&rotate("3s").stdout).unwrap();
    assert_eq!(answer["psk_root"], 2, "{answer}");
    assert!(answer["psk_overlap_ends"].is_string(), "{answer}");
    let (seq, second, previous) = roots(&center, &edge, seq);
    assert_eq!((second.id, previous.as_ref()), (2, Some(&first)));
    assert_ne!(second.secret, first.secret);
    assert_eq!(key(&center, &client), derived(&first), "the edge has not said that it knows");
    confirm(&center, &edge, seq, ConfigState::Refused);
    assert_eq!(key(&center, &client), derived(&first), "it refused");
    confirm(&center, &edge, seq, ConfigState::Confirmed);
    assert_eq!(key(&center, &client), derived(&second));

    // One overlap at a time, unless it is to end at once.
    let refused = String::from_utf8(rotate("1h").stderr).unwrap();
    assert!(refused.contains("the overlap of the rotation before lasts until"), "{refused}");
    // The end comes by itself, within a second or two of its time.
    let began = Instant::now();
    let (seq, current, previous) = roots(&center, &edge, seq);
    assert_eq!((current, previous), (second, None));
    assert!(began.elapsed() < Duration::from_secs(15));
    let listed = center.ok(&["owner", "list"]);
    assert_eq!((&listed[0]["psk_root"], &listed[0]["psk_overlap_ends"]), (&json!(2), &Value::Null));

    // A root that is known to somebody: no overlap, and the profile has the new key whatever the edge says.
    assert!(rotate("0s").status.success());
    let (_, third, previous) = roots(&center, &edge, seq);
    assert_eq!((third.id, previous), (3, None));
    assert_eq!(key(&center, &client), derived(&third));
    for wrong in ["7", "7w", "-1s", "91d"] {
        let output = rotate(wrong);
        assert!(!output.status.success(), "{wrong}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    }
}
