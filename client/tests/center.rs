//! The client's program against a real center: what enrolment says and stores, and one life of a tunnel.
//!
//! What the edge does with packets is the business of the workspace's `tests/`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use lab::parts::{Center, Edge, VeronaClient};
use lab::{ClientPlan, Plan, Run, Topology, address, alone, wait};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};
use verona_contract::base64;
use verona_contract::cert::Leaf;
use verona_contract::enrolment::EnrolmentCode;

const LIMIT: Duration = Duration::from_secs(30);

struct Scene {
    center: Center,
    owner: String,
    net: Topology,
    run: Run,
}

impl Scene {
    fn start() -> Self {
        let run = Run::start().unwrap();
        let plan = Plan { clients: vec![ClientPlan { name: "alice", nat: false }] };
        let net = Topology::build(&run, &plan).unwrap();
        let center = Center::start(&net.center).unwrap();
        let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
        Self { center, owner, net, run }
    }

    /// A client that is registered and not enrolled: id and code.
    fn invite(&self, name: &str) -> (String, EnrolmentCode) {
        let (id, code) = self.center.add_client(&self.owner, name, false).unwrap();
        (id, code.parse().unwrap())
    }

    fn client(&self, name: &str) -> VeronaClient {
        VeronaClient::new(&self.net.clients[0].host, name)
    }

    /// A command of a client that must fail: its exit status and standard error.
    fn refused(&self, client: &VeronaClient, arguments: &[&str]) -> String {
        let mut command = self.net.clients[0].host.command(env!("CARGO_BIN_EXE_verona-client"));
        let output = command.arg("--state").arg(client.state()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "one line: {text}");
        text
    }
}

#[test]
fn enrolment_refuses_plainly_and_stores_privately() {
    let _turn = alone().unwrap();
    let scene = Scene::start();
    let (_, code) = scene.invite("alice");
    let alice = scene.client("alice");
    let refused = |code: &EnrolmentCode| scene.refused(&alice, &["enroll", &code.to_text()]);

    assert!(
        scene.refused(&alice, &["status"]).contains("not enrolled: run `verona-client enroll CODE` first")
    );
    let damaged = scene.refused(&alice, &["enroll", &code.to_text()[..50]]);
    assert!(damaged.contains("copied whole"), "{damaged}");
    let mut other = code.clone();
    other.pin[0] ^= 1;
    assert!(refused(&other).contains("198.51.100.10:8443 is not the center of the enrolment code"));
    let mut other = code.clone();
    other.secret[0] ^= 1;
    let unknown = refused(&other);
    assert!(unknown.contains("code"), "{unknown}");
    let mut other = code.clone();
    other.center = "https://198.51.100.10:8444".to_owned();
    let away = refused(&other);
    assert!(away.contains("center 198.51.100.10:8444 cannot be reached: Connection refused"), "{away}");

    // After all those failures the same code and keys still serve.
    let keys = |client: &VeronaClient| {
        ["device.key", "tunnel.key"].map(|name| std::fs::read(client.state().join(name)).unwrap())
    };
    let made = keys(&alice);
    alice.enroll(&code.to_text()).unwrap();
    assert!(keys(&alice) == made, "keys are made once");
    for entry in std::fs::read_dir(alice.state()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
    assert_eq!(alice.state().metadata().unwrap().permissions().mode() & 0o777, 0o700);

    assert!(refused(&code).contains("already enrolled as client"));
    let thief = scene.client("thief");
    let used = scene.refused(&thief, &["enroll", &code.to_text()]);
    assert!(used.contains("used"), "{used}");
    let status = alice.status().unwrap();
    assert_eq!(status["state"], "down");
    assert!(status["certificate_end"].as_str().unwrap().ends_with('Z'), "{status}");
}

#[test]
fn stock_tools_take_the_export() {
    let _turn = alone().unwrap();
    let scene = Scene::start();
    let (_, code) = scene.invite("alice");
    let alice = scene.client("alice");
    alice.enroll(&code.to_text()).unwrap();
    let file = scene.run.dir().join("wg0.conf");
    let mut command = alice.place().command(env!("CARGO_BIN_EXE_verona-client"));
    command.arg("--state").arg(alice.state()).args(["export-wg", "--out"]).arg(&file);
    let output = command.output().unwrap();
    assert!(output.status.success());
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.contains("does not push this client's certificate"), "{warning}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let quick = std::fs::read_to_string(&file).unwrap();
    assert!(quick.contains("\nAddress = 10.8.0.") && quick.contains("\nMTU = 1420\n"), "{quick}");

    // `wg` knows the key that `wg-quick` reads.
    let key = std::fs::read_to_string(alice.state().join("tunnel.key")).unwrap();
    assert!(quick.contains(&format!("PrivateKey = {}\n", key.trim())));
    let path = file.to_string_lossy();
    let stripped = alice.place().output("wg-quick", &["strip", &path]).unwrap();
    assert!(stripped.contains("PrivateKey") && !stripped.contains("Address"), "{stripped}");
}

#[test]
fn one_life_of_a_tunnel() {
    let _turn = alone().unwrap();
    let scene = Scene::start();
    let record = scene.run.dir().join("factory.json");
    let edge_id = scene.center.add_edge(&scene.owner, &record).unwrap();
    let mut edge = Edge::start(&scene.net.edge, &record).unwrap();
    scene.center.confirmed(&edge_id, 1, LIMIT).unwrap();
    let (id, code) = scene.invite("alice");
    let alice = scene.client("alice");
    alice.enroll(&code.to_text()).unwrap();
    let state = alice.state().to_string_lossy().into_owned();
    let client = |arguments: &[&str]| {
        let all = [&["--state", &state], arguments].concat();
        alice.place().output(env!("CARGO_BIN_EXE_verona-client"), &all).map(drop)
    };
    let up = ["up", "--interface", alice.interface()];
    let rules = || alice.place().output("ip", &["rule", "show"]).unwrap();
    let before = rules();
    let becomes = |wanted: &str| {
        wait::for_value(wanted, 2 * LIMIT, || {
            let status = alice.status()?;
            Ok((status["state"] == wanted).then_some(status))
        })
        .unwrap()
    };
    let lan = address::EDGE_LAN.to_string();
    let ping = || alice.place().output("ping", &["-c", "1", "-W", "1", &lan]).is_ok();

    // `up` returns when the interface is there, and soon there is a handshake.
    client(&up).unwrap();
    let shown = alice.place().output("ip", &["-brief", "address", "show", alice.interface()]).unwrap();
    assert!(shown.contains("10.8.0."), "{shown}");
    let connected = becomes("connected");
    let first = &connected["edges"][0];
    assert_eq!(first["endpoint"], format!("{}:51820", address::EDGE), "{connected}");
    assert!(first["last_handshake"].is_string() && first["rx_bytes"].as_u64().unwrap() > 0, "{connected}");
    assert!(ping());
    assert_ne!(rules(), before);
    assert!(scene.refused(&alice, &["up"]).contains("already up (process "));

    // A data plane that lost every session is followed by a client that merely goes on sending.
    edge.tunnel.crash().unwrap();
    edge.tunnel_again().unwrap();
    wait::until("traffic to be back after the edge's restart", Duration::from_secs(6), ping).unwrap();

    // One that stays away is told of after a few unanswered handshakes, and that it is back, too.
    edge.tunnel.crash().unwrap();
    let gone = Instant::now();
    let sending = || {
        ping();
        Ok((alice.status()?["state"] == "connecting").then_some(()))
    };
    wait::for_value("the client to know that its edge is gone", 2 * LIMIT, sending).unwrap();
    let noticed = gone.elapsed();
    assert!(noticed > Duration::from_secs(3) && noticed < Duration::from_secs(10), "{noticed:?}");
    edge.tunnel_again().unwrap();
    becomes("connected");
    wait::until("traffic to be back with the edge", LIMIT, ping).unwrap();

    // The center says why nothing works any more, and that it works again.
    scene.center.admin(&["client", "disable", &id]).unwrap();
    wait::until("the client to be cut", LIMIT, || !ping()).unwrap();
    let sending = || {
        ping();
        Ok((alice.status()?["state"] == "disabled").then_some(()))
    };
    wait::for_value("the client to know that it is disabled", 2 * LIMIT, sending).unwrap();
    assert!(alice.status().unwrap()["notice"].as_str().unwrap().contains("disabled"));
    scene.center.admin(&["client", "enable", &id]).unwrap();
    becomes("connected");
    assert!(ping());

    client(&["down"]).unwrap();
    assert_eq!(alice.status().unwrap()["state"], "down");
    assert_eq!(rules(), before, "every rule was taken back");
    let gone = alice.place().output("ip", &["link", "show", alice.interface()]);
    assert!(gone.is_err(), "the interface is gone");
    assert!(scene.refused(&alice, &["down"]).contains("not up"));

    // A certificate past two thirds of its life is renewed, with the same key.
    let identity = alice.state().join("identity.json");
    let certificate = || {
        let json: Value = serde_json::from_slice(&std::fs::read(&identity).unwrap()).unwrap();
        base64::decode(json["tunnel_certificate"].as_str().unwrap()).unwrap()
    };
    let aged = aged(&certificate());
    let json = std::fs::read_to_string(&identity).unwrap();
    let json = json.replace(&base64::encode(certificate()), &base64::encode(&aged));
    std::fs::write(&identity, json).unwrap();
    client(&up).unwrap();
    wait::until("the certificate to be renewed", LIMIT, || certificate() != aged).unwrap();
    let (old, new) = (Leaf::parse(&aged).unwrap(), Leaf::parse(&certificate()).unwrap());
    assert_eq!((new.key, new.subject), (old.key, old.subject));
    assert!(new.serial != old.serial && new.not_after >= old.not_after);
    wait::until("traffic with the renewed certificate", LIMIT, ping).unwrap();
    client(&["down"]).unwrap();

    // What a killed client leaves is no obstacle to the next.
    client(&up).unwrap();
    let pid = std::fs::read_to_string(alice.state().join("lock")).unwrap();
    alice.place().output("kill", &["-9", pid.trim()]).unwrap();
    becomes("down");
    client(&up).unwrap();
    client(&["down"]).unwrap();
    assert_eq!(rules(), before, "the killed client's rules too");
}

/// The certificate with a begin twenty years earlier. Its signature is no longer good, which only an edge
/// would see.
fn aged(certificate: &[u8]) -> Vec<u8> {
    // The first UTCTime of a certificate is notBefore; it begins with two digits of the year.
    let not_before = certificate.windows(2).position(|head| head == [0x17, 13]).unwrap() + 2;
    let mut aged = certificate.to_vec();
    aged[not_before] -= 2;
    aged
}
