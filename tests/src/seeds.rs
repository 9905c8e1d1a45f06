//! Real messages, and the nearest bad ones, from which the fuzz corpora grow.
//!
//! `cargo run -p verona-tests --bin seed-corpus` writes them to `tests/fuzz/corpus`. All are made from fixed
//! keys and dates, so a second run changes no file unless a format changed.

mod api;
mod data_plane;
mod identity;

pub use identity::{bindings, identities};

use crate::gate;
use crate::pki::{Authority, LeafPlan};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use edge_agent_core::spool::chain::Head;
use edge_agent_core::spool::segment::{self, HEADER, Header};
use prost::Message as _;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;
use verona_contract::base64::encode;
use verona_contract::cert::Issuer;
use verona_contract::config::PAYLOAD_TYPE;
use verona_contract::control::Policy;
use verona_contract::csr::DeviceKey;
use verona_contract::dsse::{Envelope, VerifyingKey};
use verona_contract::key::{PublicKey, Secret};
use verona_contract::log::{Hash, Record, Severity, Stream};
use verona_contract::otlp;
use x509_cert::ext::pkix::KeyUsages;

/// A seed: its file name, which says what it is, and its octets.
pub type Seed = (String, Vec<u8>);

/// The seeds of the target called `name`; none for a target that is not known here.
#[must_use]
pub fn of(name: &str) -> Vec<Seed> {
    match name {
        "api_body" => api::bodies(),
        "binding" => identity::seeds(),
        "certificate" => certificates(),
        "control_line" => control_lines(),
        "crl" => lists(),
        "csr" => requests(),
        "datagram" => data_plane::datagrams(),
        "dsse" => envelopes(),
        "edge_config" => damaged_json("config", &edge_config()),
        "enrolment_code" => codes(),
        "factory_record" => damaged_json("record", &factory_record()),
        "inner_packet" => data_plane::packets(),
        "introduction_payload" => data_plane::payloads(),
        "otlp_json" => {
            damaged_json("logs", &serde_json::to_vec(&otlp::to_request(EDGE, &records())).unwrap())
        }
        "otlp_protobuf" => damaged("logs", &otlp::to_request(EDGE, &records()).encode_to_vec()),
        "spool_segment" => segments(),
        "uapi" => operations(),
        _ => Vec::new(),
    }
}

const EDGE: Uuid = Uuid::from_u128(0xed9e);

/// The moment at which all seeds are valid.
#[must_use]
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The CA of the seeds.
#[must_use]
pub fn authority() -> Authority {
    Authority::new(0x5a, "Verona seeds CA")
}

/// The CA of the seeds, as the product reads it.
#[must_use]
pub fn issuer() -> Issuer {
    Issuer::parse(authority().certificate()).unwrap()
}

/// A client's key.
#[must_use]
pub fn client_secret() -> Secret {
    Secret::new([0x21; 32])
}

/// The edge's tunnel key.
#[must_use]
pub fn edge_secret() -> Secret {
    Secret::new([0x42; 32])
}

/// The client's leaf.
#[must_use]
pub fn leaf() -> Vec<u8> {
    authority().leaf(&leaf_plan())
}

/// What the client's leaf says.
#[must_use]
pub fn leaf_plan() -> LeafPlan {
    LeafPlan::new(public(&client_secret()), 0x77, "10.9.0.2".parse().unwrap(), now())
}

/// The policy that the agent makes of [`edge_config`].
#[must_use]
pub fn policy() -> Policy {
    gate::policy(7, &edge_secret(), &authority(), &[leaf()])
}

/// The list in force with it.
#[must_use]
pub fn list() -> Vec<u8> {
    authority().crl(5, &[0x99], now())
}

/// The key that signs the seeds' configuration.
#[must_use]
pub fn config_key() -> VerifyingKey {
    VerifyingKey::new(signer().public_key().as_ref().try_into().unwrap())
}

/// A configuration as the center composes it.
#[must_use]
pub fn edge_config() -> Vec<u8> {
    serde_json::to_vec(&json!({
        "edge_id": EDGE,
        "seq": 7,
        "issued_at": "2027-01-15T08:00:00Z",
        "minimum_agent": "0.1.0",
        "tunnel": {
            "addresses": ["10.9.0.1/16", "fd00:9::1/64"],
            "listen_port": 51820,
            "mtu": 1420,
            "routes": ["10.10.0.0/16"],
            "owners": [{
                "owner": "acme",
                "anchors": [encode(authority().certificate())],
                "crl": { "grace_s": 604_800, "stale": "deny-new" },
                "psk_root": { "id": 1, "secret": encode([0x11; 32]) },
                "clients": [encode(leaf())],
                "max_clients": 1000,
            }],
        },
    }))
    .unwrap()
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[0x33; 32]).unwrap()
}

fn public(secret: &Secret) -> [u8; 32] {
    *secret.x25519_public().unwrap().as_bytes()
}

fn certificates() -> Vec<Seed> {
    let authority = authority();
    let mut seeds = damaged("leaf", &leaf());
    let mut add = |name: &str, change: &dyn Fn(&mut LeafPlan)| {
        let mut plan = leaf_plan();
        change(&mut plan);
        seeds.push((name.to_owned(), authority.leaf(&plan)));
    };
    add("zero-key", &|plan| plan.key = [0; 32]);
    add("order-one-key", &|plan| plan.key = std::array::from_fn(|i| u8::from(i == 0)));
    add("non-canonical-key", &|plan| plan.key = [0xff; 32]);
    add("no-purpose", &|plan| plan.extended_key_usage = None);
    add("signature-usage", &|plan| plan.key_usage = KeyUsages::DigitalSignature);
    add("no-address", &|plan| plan.addresses.clear());
    add("multicast-address", &|plan| plan.addresses = vec!["224.0.0.1".parse().unwrap()]);
    add("nine-addresses", &|plan| {
        plan.addresses = (1..=9).map(|n| std::net::Ipv4Addr::new(10, 9, 0, n).into()).collect();
    });
    add("six-address", &|plan| plan.addresses = vec!["fd00:9::2".parse().unwrap()]);
    add("upper-case-subject", &|plan| plan.subject = plan.subject.to_uppercase());
    add("foreign-subject", &|plan| "https://example.com/".clone_into(&mut plan.subject));
    add("never-valid", &|plan| plan.not_after = plan.not_before - Duration::from_secs(1));
    seeds.push(("issuer".to_owned(), authority.certificate().to_vec()));
    let names = ["identity-p256", "identity-ed25519"].into_iter().zip(identities());
    seeds.extend(names.map(|(name, (_, leaf))| (name.to_owned(), leaf)));
    seeds
}

fn lists() -> Vec<Seed> {
    let mut seeds = damaged("list", &authority().crl(5, &[0x77, 0x99], now()));
    seeds.push(("empty".to_owned(), authority().crl(1, &[], now())));
    seeds.push(("largest-number".to_owned(), authority().crl(u64::MAX, &[1], now())));
    seeds.push(("of-another-ca".to_owned(), Authority::new(0x5b, "Verona seeds CA").crl(6, &[1], now())));
    seeds.push(("many".to_owned(), authority().crl(9, &(1..=40).collect::<Vec<u64>>(), now())));
    seeds
}

fn requests() -> Vec<Seed> {
    let device = DeviceKey::from_entropy(&[0x17; 32]).unwrap();
    let key = client_secret().x25519_public().unwrap();
    let mut seeds = damaged("request", &device.request("device", Some(&key)).unwrap());
    seeds.push(("without-tunnel-key".to_owned(), device.request("device", None).unwrap()));
    seeds.push(("another-name".to_owned(), device.request("x", Some(&key)).unwrap()));
    seeds
}

fn envelopes() -> Vec<Seed> {
    let signed = Envelope::sign(PAYLOAD_TYPE, edge_config(), &[&signer()]);
    let text = serde_json::to_vec(&signed).unwrap();
    let mut seeds = damaged_json("envelope", &text);
    let mut twice = signed.clone();
    twice.signatures.extend(signed.signatures.clone());
    seeds.push(("same-signature-twice".to_owned(), serde_json::to_vec(&twice).unwrap()));
    let other = Envelope::sign("application/other", edge_config(), &[&signer()]);
    seeds.push(("other-payload-type".to_owned(), serde_json::to_vec(&other).unwrap()));
    let mut bare = signed;
    bare.signatures.clear();
    seeds.push(("no-signature".to_owned(), serde_json::to_vec(&bare).unwrap()));
    seeds
}

fn control_lines() -> Vec<Seed> {
    let policy = policy();
    let commands = [
        ("hello", json!({ "hello": { "version": 2 } })),
        ("load-policy", json!({ "load-policy": policy })),
        ("load-crl", json!({ "load-crl": { "der": encode(list()) } })),
        ("set-clock", json!({ "set-clock": { "trusted": true } })),
        ("status", json!("status")),
        ("peers", json!("peers")),
        ("crls", json!("crls")),
        ("subscribe", json!("subscribe")),
        ("unknown-command", json!("reboot")),
    ];
    let mut seeds: Vec<Seed> = commands
        .into_iter()
        .map(|(name, command)| {
            let line = json!({ "id": 1, "command": command });
            (name.to_owned(), serde_json::to_vec(&line).unwrap())
        })
        .collect();
    let key = PublicKey::new(public(&client_secret())).unwrap();
    let refused = json!({ "event": { "refused": {
        "reason": "unknown_key", "key": key, "from": "192.0.2.2:51820", "suppressed": 3,
    } } });
    let done = json!({ "response": { "id": 1, "result": { "Ok": "done" } } });
    let failed = json!({ "response": { "id": 0, "result": { "Err": "line 1: not JSON" } } });
    for (name, line) in [("event", refused), ("response", done), ("error", failed)] {
        seeds.extend(damaged_json(name, &serde_json::to_vec(&line).unwrap()));
    }
    seeds
}

fn codes() -> Vec<Seed> {
    let code = verona_contract::enrolment::EnrolmentCode {
        pin: [1; 32],
        secret: [2; 16].into(),
        center: "https://center.example:8443".into(),
    };
    let text = code.to_text();
    let mut seeds = damaged("code", text.as_bytes());
    seeds.push(("spaces".to_owned(), format!(" {}\n", *text).into_bytes()));
    seeds.push(("version-2".to_owned(), text.replace("VC1-", "VC2-").into_bytes()));
    seeds
}

fn factory_record() -> Vec<u8> {
    serde_json::to_vec(&json!({
        "serial": "VE-000001",
        "center": "https://198.51.100.10:8443",
        "center_ca": "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
        "config_keys": [config_key()],
        "config_threshold": 1,
        "token": encode([0x44; 32]),
    }))
    .unwrap()
}

fn records() -> Vec<Record> {
    let mut previous = Hash::GENESIS;
    (1..=3)
        .map(|seq| {
            let record = Record {
                edge: EDGE,
                stream: Stream::Auth,
                seq,
                boot: Uuid::from_u128(0xb007),
                time_ns: 1_800_000_000_000_000_000,
                monotonic_ns: 5_000_000 * seq,
                clock_synced: true,
                severity: Severity::Info,
                event: "client.admitted".into(),
                body: "クライアント接続".into(),
                attributes: BTreeMap::from([("client".into(), "urn:verona:client:1".into())]),
                previous,
            };
            previous = record.hash();
            record
        })
        .collect()
}

fn segments() -> Vec<Seed> {
    let header = Header { edge: EDGE, stream: Stream::Auth, head: Head::GENESIS }.encode();
    let mut frames = Vec::new();
    for record in records() {
        segment::encode(&record, &mut frames).unwrap();
    }
    let whole = [&header[..], &frames].concat();
    let mut seeds = damaged("segment", &whole);
    seeds.push(("header-only".to_owned(), header.to_vec()));
    seeds.push(("zeros-behind".to_owned(), [&whole[..], &[0; 64]].concat()));
    let mut length = whole.clone();
    length[HEADER..HEADER + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    seeds.push(("largest-length".to_owned(), length));
    let second = frames.len() / 3;
    seeds.push(("first-frame-missing".to_owned(), [&header[..], &frames[second..]].concat()));
    seeds
}

fn operations() -> Vec<Seed> {
    let key = verona_contract::key::to_hex(&public(&client_secret()));
    let secret = verona_contract::key::to_hex(edge_secret().expose());
    let whole = format!(
        "private_key={secret}\nlisten_port=51820\nfwmark=1\nreplace_peers=true\npublic_key={key}\n\
         preshared_key={secret}\nendpoint=[2001:db8::1]:51820\npersistent_keepalive_interval=25\n\
         replace_allowed_ips=true\nallowed_ip=10.9.0.2/32\nallowed_ip=-fd00:9::/64\nprotocol_version=1\n"
    );
    let mut seeds = damaged("set", whole.as_bytes());
    for (name, text) in [
        ("remove", format!("public_key={key}\nremove=true\n")),
        ("update-only", format!("public_key={key}\nupdate_only=true\nendpoint=192.0.2.1:1\n")),
        ("zero-public-key", format!("public_key={}\n", "0".repeat(64))),
        ("peer-key-before-a-peer", "allowed_ip=10.9.0.2/32\n".to_owned()),
        ("port-65536", "listen_port=65536\n".to_owned()),
        ("prefix-33", format!("public_key={key}\nallowed_ip=10.9.0.2/33\n")),
        ("no-equals-sign", "private_key\n".to_owned()),
    ] {
        seeds.push((name.to_owned(), text.into_bytes()));
    }
    seeds
}

/// A message, and what transport or malice make of it: nothing, half, one bit more, something behind it.
fn damaged(name: &str, message: &[u8]) -> Vec<Seed> {
    let mut flipped = message.to_vec();
    if let Some(octet) = flipped.get_mut(message.len() / 2) {
        *octet ^= 1;
    }
    vec![
        (name.to_owned(), message.to_vec()),
        (format!("{name}-empty"), Vec::new()),
        (format!("{name}-half"), message[..message.len() / 2].to_vec()),
        (format!("{name}-bit-flipped"), flipped),
        (format!("{name}-trailing"), [message, b"\0"].concat()),
    ]
}

/// As [`damaged`], and the mistakes of JSON: a field too many, a wrong type, a field twice.
fn damaged_json(name: &str, message: &[u8]) -> Vec<Seed> {
    let text = String::from_utf8(message.to_vec()).unwrap();
    let mut seeds = damaged(name, message);
    seeds.push((format!("{name}-unknown-field"), text.replacen('{', "{\"surprise\":1,", 1).into_bytes()));
    seeds.push((format!("{name}-array"), format!("[{text}]").into_bytes()));
    seeds.push((format!("{name}-deep"), "[".repeat(500).into_bytes()));
    let twice = text.trim_end_matches('}').to_owned() + "," + text.trim_start_matches('{');
    seeds.push((format!("{name}-fields-twice"), twice.into_bytes()));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use verona_contract::config::EdgeConfig;
    use verona_contract::provisioning::FactoryRecord;

    #[test]
    fn the_good_seeds_are_good() {
        EdgeConfig::parse(&edge_config()).unwrap();
        FactoryRecord::parse(&factory_record()).unwrap();
        let requests = control_lines();
        for (name, line) in requests.iter().take(8) {
            serde_json::from_slice::<verona_contract::control::Request>(line)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for name in ["event", "response", "error"] {
            let (_, line) = requests.iter().find(|(seed, _)| seed == name).unwrap();
            serde_json::from_slice::<verona_contract::control::Line>(line).unwrap();
        }
        let enroll = &api::bodies()[0].1;
        serde_json::from_slice::<verona_contract::api::EnrollRequest>(enroll).unwrap();
        let enrolled = api::bodies().into_iter().find(|(seed, _)| seed == "enrolled").unwrap().1;
        serde_json::from_slice::<verona_contract::api::Enrolled>(&enrolled).unwrap();
        let envelope = Envelope::parse(&envelopes()[0].1).unwrap();
        assert_eq!(envelope.verify(PAYLOAD_TYPE, &[config_key()], 1).unwrap(), edge_config());
        let logs = otlp::ExportLogsServiceRequest::decode(of("otlp_protobuf")[0].1.as_slice()).unwrap();
        assert_eq!(otlp::from_request(logs).unwrap(), records());
    }
}
