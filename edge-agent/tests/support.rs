//! `edgectl support` on a real box: everything that helps, and none of its secrets in any form. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{Center, Edge};
use lab::{Plan, Run, Topology, workspace};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use verona_contract::base64;
use verona_contract::csr::DeviceKey;

const LIMIT: Duration = Duration::from_secs(60);

/// Whether `secret` is in `octets`: plainly, in hexadecimal digits, in base64, or in base64 of any of these.
fn contains(octets: &[u8], secret: &[u8], depth: u32) -> bool {
    if octets.windows(secret.len()).any(|part| part == secret) {
        return true;
    }
    let digits: Vec<u8> = octets.iter().filter(|octet| !b":\n ".contains(octet)).copied().collect();
    let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
    if digits.to_ascii_lowercase().windows(hex.len()).any(|part| part == hex.as_bytes()) {
        return true;
    }
    let is_digit = |octet: u8| octet.is_ascii_alphanumeric() || b"+/-_".contains(&octet);
    octets.split(|&octet| !is_digit(octet)).filter(|run| depth > 0 && run.len() >= 16).any(|run| {
        // A run may begin anywhere in a group of four.
        (0..4).any(|skip| {
            let text = String::from_utf8_lossy(&run[skip..]).replace('-', "+").replace('_', "/");
            let whole = &text[..text.len() / 4 * 4];
            let rest = text.len() % 4;
            let padded = if rest >= 2 { format!("{text}{}", "=".repeat(4 - rest)) } else { whole.to_owned() };
            [padded.as_str(), whole]
                .iter()
                .any(|text| base64::decode(text).is_ok_and(|inner| contains(&inner, secret, depth - 1)))
        })
    })
}

fn all_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(all_files(&path));
        } else {
            found.push((path.to_string_lossy().into_owned(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// Everything secret that the box holds, by name.
fn secrets(edge: &Edge, record: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let keys = edge_agent::identity::Keys::load_or_make(&edge.state().join("keys")).unwrap();
    let device: &DeviceKey = &keys.device;
    let der = device.to_der().unwrap();
    let number = der.windows(34).find(|part| part[..2] == [4, 32]).unwrap()[2..].to_vec();
    let record: Value = serde_json::from_slice(&std::fs::read(record).unwrap()).unwrap();
    let token = base64::decode(record["token"].as_str().unwrap()).unwrap();
    let envelopes = all_files(&edge.state().join("config"));
    let root = envelopes
        .iter()
        .find_map(|(_, content)| {
            let envelope: Value = serde_json::from_slice(content).ok()?;
            let payload = base64::decode(envelope.get("payload")?.as_str()?).ok()?;
            let config: Value = serde_json::from_slice(&payload).ok()?;
            base64::decode(config.pointer("/tunnel/owners/0/psk_root/secret")?.as_str()?).ok()
        })
        .expect("a stored configuration with a root");
    // What is looked for is really there, in the form in which it lies on the disk.
    assert!(envelopes.iter().any(|(_, content)| contains(content, &root, 2)), "the search finds nothing");
    vec![
        ("tunnel key", keys.tunnel.expose().to_vec()),
        ("device key", number),
        ("token", token),
        ("root", root),
    ]
}

#[test]
fn the_bundle_helps_and_holds_no_secret() {
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &Plan { clients: vec![] }).unwrap();
    let center = Center::start(&net.center).unwrap();
    let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
    let record = run.dir().join("factory.json");
    let id = center.add_edge(&owner, &record).unwrap();
    let edge = Edge::start(&net.edge, &record).unwrap();
    center.confirmed(&id, 1, LIMIT).unwrap();
    let secrets = secrets(&edge, &record);

    // Somebody wrote them into the log, each in every form.
    for (name, secret) in &secrets {
        let hex: String = secret.iter().map(|octet| format!("{octet:02x}")).collect();
        let shifted = base64::encode([b"x".as_slice(), secret].concat());
        for form in [
            base64::encode(secret),
            base64::encode(secret).replace('+', "-").replace('/', "_"),
            hex.to_uppercase(),
            shifted,
        ] {
            let body = format!("planted {name} {form} here");
            edge.edgectl(&["logs", "append", "--stream", "system", "--event", "test.planted", &body])
                .unwrap();
        }
    }
    let words = "planted password=correct-horse and \"psk\": \"battery-staple\"";
    edge.edgectl(&["logs", "append", "--stream", "audit", "--event", "test.words", words]).unwrap();

    let bundle = run.dir().join("bundle.tar.gz");
    let make = || {
        let mut command = edge.place().command(workspace::binary("edgectl").unwrap());
        command.arg("--socket").arg(edge.agent_socket()).args(["support", "--output"]).arg(&bundle);
        command.output().unwrap()
    };
    let made = make();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(std::fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!make().status.success(), "an older one is not overwritten");

    let folder = run.dir().join("unpacked");
    std::fs::create_dir(&folder).unwrap();
    let unpack = Command::new("tar").arg("-xzf").arg(&bundle).arg("-C").arg(&folder).status().unwrap();
    assert!(unpack.success(), "a tar of Debian's reads it");
    let files = all_files(&folder);
    for (name, secret) in &secrets {
        for (path, content) in &files {
            assert!(!contains(content, secret, 2), "{name} in {path}");
        }
    }
    let text = |name: &str| {
        let found = files.iter().find(|(path, _)| path.ends_with(name));
        String::from_utf8_lossy(&found.unwrap_or_else(|| panic!("no {name}")).1).into_owned()
    };
    assert!(!text("log.jsonl").contains("correct-horse") && !text("log.jsonl").contains("battery-staple"));
    // It was not emptied either.
    assert_eq!(text("log.jsonl").matches("test.planted").count(), secrets.len() * 4);
    assert!(text("status.json").contains("VE-000001") && text("netcheck.txt").contains("gateway"));
    assert!(text("config.json").contains("listen_port") && text("history.json").contains("confirmed"));
    assert!(text("commands/ip_address.txt").contains("203.0.113.2"));
    assert!(text("files/proc/meminfo").contains("MemTotal"));
}
