//! Seeds of the bodies of the center's API.

use super::{
    EDGE, Seed, authority, client_secret, damaged_json, edge_secret, leaf, leaf_plan, public, requests,
};
use serde_json::json;
use verona_contract::base64::encode;

pub(super) fn bodies() -> Vec<Seed> {
    let (csr, certificate) = (encode(&requests()[0].1), encode(leaf()));
    let proof = json!({ "challenge": EDGE, "proof": encode([7; 32]) });
    let profile = json!({
        "addresses": ["10.9.0.2/16"],
        "edges": [{
            "edge": EDGE,
            "name": "Tokyo",
            "public_key": encode(public(&edge_secret())),
            "preshared_key": encode([0x12; 32]),
            "endpoints": ["203.0.113.2:51820"],
            "routes": ["192.168.77.0/24"],
        }],
        "dns": ["192.168.77.1"],
        "mtu": 1420,
        "keepalive_s": 25,
        "pushed": false,
    });
    let enroll = json!({ "secret": encode([2; 16]), "csr": csr, "proof": proof });
    let ack = json!({
        "kind": "crl",
        "issuer": authority().key_id(),
        "crl_number": 5,
        "applied_at_ns": 1_800_000_000_000_000_000_i64,
        "cut": [{ "serial": "77", "subject": leaf_plan().subject, "key": encode(public(&client_secret())) }],
    });
    let config_ack = json!({
        "kind": "config",
        "seq": 7,
        "state": "confirmed",
        "rejected": [{ "path": "tunnel.owners[0].clients[0]", "reason": "expired", "used_instead": null }],
        "applied_at_ns": 1,
    });
    let edge = json!({
        "owner": "acme",
        "name": "Tokyo",
        "serial": "VE-000001",
        "fingerprint": null,
        "endpoints": ["203.0.113.2:51820"],
        "listen_port": 51820,
        "lan": ["192.168.77.0/24"],
    });
    let enrolled = json!({
        "client": EDGE,
        "tunnel_certificate": certificate,
        "device_certificate": certificate,
        "issuer": encode(authority().certificate()),
        "profile": profile,
    });
    let mut seeds = damaged_json("enroll", &serde_json::to_vec(&enroll).unwrap());
    let others = [
        ("profile", profile),
        ("enrolled", enrolled),
        ("tunnel-key", json!({ "csr": csr, "proof": proof })),
        ("crl-ack", ack),
        ("config-ack", config_ack),
        ("edge", edge),
        ("owner", json!({ "name": "Acme", "network": "10.9.0.0/16" })),
        ("client", json!({ "owner": null, "name": "alice", "push": true })),
        ("challenge", json!({})),
    ];
    seeds.extend(others.map(|(name, body)| (name.to_owned(), serde_json::to_vec(&body).unwrap())));
    seeds
}
