//! Golden files: what was written once must be read for ever, and be written the same again.
//!
//! A change that breaks one of these breaks boxes in the field. Make a new version of the format instead.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use verona_contract::binding::{Binding, BindingError};
use verona_contract::cert::IdentityLeaf;
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
    include_str!("golden/heartbeats.jsonl").lines().for_each(round_trip::<api::Heartbeat>);
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
fn edge_config_with_groups() {
    let json = include_str!("golden/edge-config-groups.json");
    round_trip::<EdgeConfig>(json);
    let config = EdgeConfig::parse(json.as_bytes()).unwrap();
    assert_eq!(config.tunnel.owners[0].groups[0].rules.len(), 2);
}

#[test]
fn edge_config_with_a_trial_of_its_own() {
    let json = include_str!("golden/edge-config-trial.json");
    round_trip::<EdgeConfig>(json);
    let config = EdgeConfig::parse(json.as_bytes()).unwrap();
    assert_eq!((config.confirm_s, config.allow_shrink), (120, true));
    let plain = EdgeConfig::parse(include_bytes!("golden/edge-config.json")).unwrap();
    assert_eq!((plain.confirm_s, plain.allow_shrink), (600, false), "as before the fields existed");
}

#[test]
fn edge_config_with_a_firmware_to_run() {
    let json = include_str!("golden/edge-config-update.json");
    round_trip::<EdgeConfig>(json);
    let update = EdgeConfig::parse(json.as_bytes()).unwrap().update.unwrap();
    assert_eq!((update.version.to_string().as_str(), update.spread_s), ("1.2.0", 3600));
    assert!(EdgeConfig::parse(include_bytes!("golden/edge-config.json")).unwrap().update.is_none());
}

#[test]
fn edge_config_in_a_rotation() {
    let json = include_str!("golden/edge-config-rotation.json");
    round_trip::<EdgeConfig>(json);
    let config = EdgeConfig::parse(json.as_bytes()).unwrap();
    assert!(config.tunnel.owners[0].psk_previous.is_some());
    let mut altered: Value = serde_json::from_str(json).unwrap();
    let owner = altered.pointer_mut("/tunnel/owners/0").unwrap();
    owner["psk_previous"] = owner["psk_root"].clone();
    let error = EdgeConfig::parse(altered.to_string().as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "tunnel.owners[0].psk_previous: an id below psk_root's");
}

#[test]
fn edge_config_with_every_kind_of_member() {
    let json = include_str!("golden/edge-config-members.json");
    round_trip::<EdgeConfig>(json);
    assert!(EdgeConfig::parse(json.as_bytes()).is_ok());
    let golden: Value = serde_json::from_str(json).unwrap();
    let (identity, site) = ("/tunnel/owners/0/identities/0", "/tunnel/owners/0/sites/0");
    for (pointer, value, message) in [
        (format!("{identity}/key"), Value::from("0d69"), "identities[0].key: "),
        (
            format!("{identity}/subject"),
            Value::from("urn:verona:edge:3f2b"),
            "identities[0].subject: urn:verona",
        ),
        (format!("{identity}/addresses"), Value::Array(vec![]), "identities[0].addresses: 1 to 8 unicast"),
        (
            format!("{identity}/addresses/0"),
            Value::from("224.0.0.1"),
            "identities[0].addresses: 1 to 8 unicast",
        ),
        (format!("{site}/keepalive_s"), Value::from(0), "sites[0].keepalive_s: 1 to 65535"),
        (format!("{site}/subnets"), Value::Array(vec![]), "sites[0].subnets: at least one network"),
        (format!("{site}/subnets/0"), Value::from("0.0.0.0/0"), "sites[0].subnets: neither everything nor"),
        (format!("{site}/subnets/0"), Value::from("10.8.0.0/15"), "sites[0].subnets: neither everything nor"),
        (
            format!("{site}/subnets/0"),
            Value::from("192.168.30.9/24"),
            "sites[1].subnets: each network behind one",
        ),
    ] {
        let mut altered = golden.clone();
        *altered.pointer_mut(&pointer).unwrap() = value;
        let error = EdgeConfig::parse(altered.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("tunnel.owners[0].{message}")), "{pointer}: {error}");
    }
    let mut twice = golden;
    let identities = twice.pointer_mut("/tunnel/owners/0/identities").unwrap().as_array_mut().unwrap();
    identities.push(identities[0].clone());
    let error = EdgeConfig::parse(twice.to_string().as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "tunnel.owners[0].identities[1].key: each key once");
}

/// Certificates and signatures were made by openssl.
#[test]
fn bindings() {
    let key = Secret::new([0x21; 32]).x25519_public().unwrap();
    for (octets, der) in [
        (include_bytes!("golden/binding-p256.bin"), include_bytes!("golden/binding-p256.der").as_slice()),
        (
            include_bytes!("golden/binding-ed25519.bin"),
            include_bytes!("golden/binding-ed25519.der").as_slice(),
        ),
    ] {
        let leaf = IdentityLeaf::parse(der).unwrap();
        let binding = Binding::verify(octets, &leaf).unwrap();
        assert_eq!(binding, Binding::new(key, leaf.digest, 1_800_000_000, 1_800_086_400).unwrap());
        assert_eq!(binding.signed(octets.last_chunk().unwrap()), octets);
        for at in 0..octets.len() {
            let mut altered = octets.to_vec();
            altered[at] ^= 1;
            assert!(Binding::verify(&altered, &leaf).is_err(), "octet {at} altered");
            assert!(Binding::verify(&octets[..at], &leaf).is_err(), "cut off at {at}");
        }
        assert_eq!(Binding::verify(&[octets.as_slice(), &[0]].concat(), &leaf), Err(BindingError::Form));
    }
    // Ed25519 is deterministic: the octets of a signature are part of the format.
    let signer = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let leaf = IdentityLeaf::parse(include_bytes!("golden/binding-ed25519.der")).unwrap();
    let binding = Binding::new(key, leaf.digest, 1_800_000_000, 1_800_086_400).unwrap();
    let signature = signer.sign(&binding.message());
    assert_eq!(
        binding.signed(signature.as_ref().try_into().unwrap()),
        include_bytes!("golden/binding-ed25519.bin")
    );
    for (begin, end) in [(0, 0), (5, 4), (0, 86_401), (-1, 5), (i64::MAX - 5, i64::MAX), (i64::MIN, i64::MAX)]
    {
        assert_eq!(Binding::new(key, leaf.digest, begin, end), Err(BindingError::Life), "{begin} to {end}");
    }
}

#[test]
fn edge_config_rules() {
    let golden: Value = serde_json::from_str(include_str!("golden/edge-config-groups.json")).unwrap();
    for (pointer, value, message) in [
        ("/tunnel/colour", Value::from("red"), "tunnel.colour: unknown field `colour`"),
        ("/tunnel/owners/0/crl/grace_s", Value::from(-1), "tunnel.owners[0].crl.grace_s: invalid value"),
        ("/tunnel/owners/0/anchors", Value::Array(Vec::new()), "tunnel.owners[0].anchors: at least one CA"),
        ("/tunnel/owners/0/owner", Value::from("Kaigan"), "tunnel.owners[0].owner: an owner code is"),
        (
            "/tunnel/owners/0/groups/0/name",
            Value::from(""),
            "tunnel.owners[0].groups[0].name: 1 to 100 characters",
        ),
        (
            "/tunnel/owners/0/groups/0/rules/1/protocol",
            Value::from("icmp"),
            "tunnel.owners[0].groups[0].rules[1].ports: only tcp and udp",
        ),
        (
            "/tunnel/owners/0/groups/0/rules/1/ports/1",
            Value::from("9-8"),
            "tunnel.owners[0].groups[0].rules[1].ports[1]: ports are 1 to 65535",
        ),
        (
            "/tunnel/owners/0/groups/0/rules/0/via",
            Value::from("wg0"),
            "tunnel.owners[0].groups[0].rules[0].via: unknown field",
        ),
        (
            "/tunnel/owners/0/groups/0/members/0",
            Value::from("alice"),
            "tunnel.owners[0].groups[0].members[0]: ",
        ),
        ("/tunnel/addresses", Value::Array(Vec::new()), "tunnel.addresses: at least one address"),
        ("/tunnel/addresses/0", Value::from("10.8.0.1"), "tunnel.addresses[0]: expected an IP network"),
        ("/tunnel/listen_port", Value::from(0), "tunnel.listen_port: 1 to 65535"),
        ("/tunnel/mtu", Value::from(1279), "tunnel.mtu: 1280 to 9000"),
        ("/minimum_agent", Value::from("1"), "minimum_agent: a version is major.minor.patch"),
        ("/seq", Value::from("42"), "seq: invalid type: string"),
        ("/confirm_s", Value::from(4), "confirm_s: 5 to 86400"),
        ("/confirm_s", Value::from(86_401), "confirm_s: 5 to 86400"),
        ("/allow_shrink", Value::from(1), "allow_shrink: invalid type: integer"),
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
fn time_servers_of_a_network() {
    let golden: Value = serde_json::from_str(include_str!("golden/edge-config-network.json")).unwrap();
    let with = |servers: Value, wan: bool| {
        let mut altered = golden.clone();
        let network = altered["network"].as_object_mut().unwrap();
        network.insert("time_servers".to_owned(), servers);
        if !wan {
            network.retain(|name, _| name == "time_servers");
        }
        EdgeConfig::parse(altered.to_string().as_bytes()).map_err(|error| error.to_string())
    };
    let servers = with(json!(["ntp.nict.jp", "2001:db8::1"]), true).unwrap().network.time_servers;
    assert_eq!(servers[1].address(), Some("2001:db8::1".parse().unwrap()));
    for (servers, wan, message) in [
        (json!(["no host"]), true, "network.time_servers[0]: a time server is a host's name"),
        (json!(vec!["ntp.example"; 9]), true, "network.time_servers: at most 8 time servers"),
        (json!(["ntp.example"]), false, "network.time_servers: only together with wan"),
    ] {
        let error = with(servers, wan).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn edge_config_with_a_network() {
    let json = include_str!("golden/edge-config-network.json");
    round_trip::<EdgeConfig>(json);
    assert!(!EdgeConfig::parse(json.as_bytes()).unwrap().network.is_empty());
    let golden: Value = serde_json::from_str(json).unwrap();
    for (pointer, value, message) in [
        ("wan/0/colour", json!("red"), "wan[0].colour: unknown field `colour`"),
        ("wan/0/ipv4/static/colour", json!("red"), "wan[0].ipv4.static.colour: unknown field"),
        ("wan/0/ipv4", json!("carrier-pigeon"), "wan[0].ipv4: unknown variant `carrier-pigeon`"),
        ("wan/0/name", json!("WAN"), "wan[0].name: a name is 1 to 12 characters"),
        ("wan/0/name", json!("vpn"), "wan[0].name: a name is 1 to 12 characters"),
        ("wan/0/port", json!("eth0.4095"), "wan[0].port: a port is an interface"),
        ("wan/0/port", json!("br-office"), "wan[0].port: a port is an interface"),
        ("wan/0/port", json!("eth0\""), "wan[0].port: a port is an interface"),
        ("wan/0/mtu", json!(1279), "wan[0].mtu: 1280 to 9000"),
        ("wan/0/port", json!("ds-fiber"), "wan[0].port: a port is an interface"),
        ("wan/0/upload_kbit", json!(63), "wan[0].upload_kbit: 64 to 10000000"),
        ("wan/2/ipv4", json!({ "ds-lite": {} }), "wan[2].ipv4.ds-lite: only with ipv6"),
        (
            "wan/0/ipv4",
            json!({ "ds-lite": { "aftr": "192.0.2.1" } }),
            "wan[0].ipv4.ds-lite.aftr: the translator of DS-Lite",
        ),
        ("wan/3/mtu", json!(1493), "wan[3].mtu: 1280 to 1492 with PPPoE"),
        ("wan/3/port", json!("pp-flets"), "wan[3].port: a port is an interface"),
        ("wan/3/ipv4/pppoe/user", json!("a\nnoauth"), "wan[3].ipv4.pppoe.user: 1 to 255 printable"),
        ("wan/3/ipv4/pppoe/password", json!(""), "wan[3].ipv4.pppoe.password: 1 to 255 printable"),
        ("wan/3/ipv4/pppoe/plugin", json!("x"), "wan[3].ipv4.pppoe.plugin: unknown field"),
        ("lan/0/page", json!("yes"), "lan[0].page: invalid type"),
        ("wan/0/ipv4/static/address", json!("192.0.2.0/29"), "wan[0].ipv4.static.address: a host's IPv4"),
        ("wan/0/ipv4/static/address", json!("fd00::1/64"), "wan[0].ipv4.static.address: a host's IPv4"),
        ("wan/0/ipv6/static/address", json!("192.0.2.2/29"), "wan[0].ipv6.static.address: a host's IPv6"),
        ("wan/1/name", json!("fiber"), "wan[1].name: each name once"),
        ("lan/0/name", json!("fiber"), "lan[0].name: each name once"),
        ("lan/0/ports/1", json!("eth0"), "lan[0].ports: each port once"),
        ("lan/0/addresses", json!([]), "lan[0].addresses: at least one"),
        ("lan/1/addresses/0", json!("192.168.77.255/24"), "lan[1].addresses: at least one, each a host's"),
        ("lan/1/addresses/0", json!("192.168.1.1/16"), "lan[1].addresses: networks of two local networks"),
        ("wan/0/servers/0", json!("0.0.0.0"), "wan[0].servers: at most 8 addresses of hosts"),
        (
            "wan/0/check",
            json!(["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5"]),
            "wan[0].check: at most 4",
        ),
        ("lan/0/dhcp/last", json!("192.168.78.9"), "lan[0].dhcp.first: first to last in the local network"),
        ("lan/0/dhcp/first", json!("192.168.77.1"), "lan[0].dhcp.first: first to last in the local network"),
        ("lan/0/dhcp/lease_s", json!(119), "lan[0].dhcp.lease_s: 120 to 604800"),
        (
            "lan/0/dhcp/reservations/0/mac",
            json!("01:00:5e:10:00:01"),
            "lan[0].dhcp.reservations[0].mac: a hardware",
        ),
        (
            "lan/0/dhcp/reservations/0/address",
            json!("10.0.0.1"),
            "lan[0].dhcp.reservations[0].address: in the",
        ),
        ("lan/0/dhcp/colour", json!("red"), "lan[0].dhcp.colour: unknown field"),
        ("lan/1/ipv6/from", json!("fiber"), "lan[1].ipv6.from: an uplink whose ipv6 is auto"),
        ("dns/split/0/domain", json!("corp.example/#"), "dns.split[0].domain: a name is labels"),
        ("dns/hosts/0/name", json!("a\nserver=6.6.6.6"), "dns.hosts[0].name: a name is labels"),
        ("firewall/forwards/0/wan", json!("office"), "firewall.forwards[0].wan: the name of an uplink"),
        ("firewall/forwards/0/protocol", json!("icmp"), "firewall.forwards[0].protocol: tcp or udp"),
        ("firewall/forwards/1/to_port", json!(7), "firewall.forwards[1].to_port: with a single port only"),
        (
            "firewall/forwards/0/from/0",
            json!("fd00::/8"),
            "firewall.forwards[0].from: at most 64 networks of IPv4",
        ),
        ("firewall/forwards/0/to", json!("0.0.0.0"), "firewall.forwards[0].to: a local host's address"),
        ("firewall/rules/0/from", json!("box"), "firewall.rules[0].from: any, wan, lan, vpn"),
        ("firewall/rules/0/to", json!("nowhere"), "firewall.rules[0].to: any, wan, lan, vpn"),
        ("firewall/rules/0/ports", json!(["80"]), "firewall.rules[0].ports: only tcp and udp"),
        ("firewall/rules/2/destinations", json!(["fd00::/8"]), "firewall.rules[2].destinations: of a family"),
        ("firewall/host_connections", json!(15), "firewall.host_connections: 16 to 1000000"),
        ("routes/0/via", json!("192.168.79.1"), "routes[0].via: in a network of lan or of a static wan"),
        ("routes/0/via", json!("fd00:77::9"), "routes[0].via: of the same family as to"),
    ] {
        let mut altered = golden.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        match altered.pointer_mut(&format!("/network/{parent}")).unwrap() {
            Value::Object(object) => drop(object.insert(field.to_owned(), value)),
            other => other[field.parse::<usize>().unwrap()] = value,
        }
        let error = EdgeConfig::parse(altered.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("network.{message}")), "{pointer}: {error}");
    }
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
