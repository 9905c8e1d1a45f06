//! The agent against a real center and a real tunnel: enrolment by a registered key, renewal of both
//! certificates, a log record that the center refuses. Needs root, for network namespaces.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use edge_agent::identity::Keys;
use edge_agent::spool::Spool;
use edge_agent_core::journal::Draft;
use edge_agent_core::spool::chain::Stamp;
use edge_agent_core::spool::quota::MIN_QUOTA;
use lab::parts::{Center, Edge};
use lab::{Plan, Run, Topology, address, alone, wait, workspace};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;
use verona_contract::cert::Leaf;
use verona_contract::log::{MAX_ATTRIBUTE, Stream};

const LIMIT: Duration = Duration::from_secs(60);

/// Records that wait when the agent starts.
const PAST: usize = 2000;

struct Scene {
    net: Topology,
    center: Center,
    owner: String,
    run: Run,
}

impl Scene {
    /// A center whose certificates for edges live `edge_life` seconds.
    fn start(edge_life: u32) -> Self {
        let run = Run::start().unwrap();
        let net = Topology::build(&run, &Plan { clients: vec![] }).unwrap();
        let mut center = Center::start(&net.center).unwrap();
        center.signer.stop();
        let socket = center.data().join("sign.sock");
        let mut command = net.center.command(workspace::binary("verona-center").unwrap());
        command.arg("sign").arg("--data").arg(center.data().join("signer")).arg("--socket").arg(&socket);
        command.args(["--edge-life", &edge_life.to_string()]);
        center.signer = run.start_process("signer", command).unwrap();
        let ready = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
        wait::until("the signer's socket", LIMIT, ready).unwrap();
        let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
        Self { net, center, owner, run }
    }

    /// An edge with its first configuration in force, and its id; its agent has crashed.
    fn edge_whose_agent_is_gone(&self) -> (Uuid, Edge) {
        let record = self.run.dir().join("factory.json");
        let id = self.center.add_edge(&self.owner, &record).unwrap();
        let mut edge = Edge::start(&self.net.edge, &record).unwrap();
        self.center.confirmed(&id, 1, LIMIT).unwrap();
        edge.agent.crash().unwrap();
        (id.parse().unwrap(), edge)
    }

    /// Registers a box by the fingerprint of its device key. Returns its id and the factory record.
    fn register(&self, fingerprint: &str) -> (String, PathBuf) {
        let record = self.run.dir().join("factory.json");
        let endpoint = format!("{}:51820", address::EDGE);
        let path = record.to_string_lossy();
        let added = self.center.admin(&[
            "edge",
            "add",
            "--owner",
            &self.owner,
            "--name",
            "Tokyo",
            "--serial",
            "VE-000001",
            "--fingerprint",
            fingerprint,
            "--endpoint",
            &endpoint,
            "--listen-port",
            "51820",
            "--lan",
            "192.168.77.0/24",
            "--record",
            &path,
        ]);
        let id = added.unwrap().pointer("/edge/id").unwrap().as_str().unwrap().to_owned();
        (id, record)
    }

    /// How many records of stream auth the center has; none while numbers are missing.
    fn auth(&self) -> Option<u64> {
        let chains = self.center.admin(&["log", "verify"]).ok()?;
        let chains = lab::parts::field(&chains, "chains").unwrap_or(&chains).as_array()?;
        chains.iter().find(|chain| chain["stream"] == "auth")?["records"].as_u64()
    }

    /// The records of one event, as the center tells.
    fn events_of(&self, event: &str) -> String {
        self.center.admin(&["log", "list", "--event", event]).unwrap().to_string()
    }

    /// The events of this edge that the center has.
    fn events(&self) -> BTreeSet<String> {
        let list = self.center.admin(&["log", "list", "--limit", "1000"]).unwrap();
        let text = list.to_string();
        // Whatever the answer's shape: an event is a field of that name.
        let after = text.split("\"event\":\"").skip(1);
        after.filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
    }
}

/// The state directory that [`Edge::start`] will use.
fn state_of(run: &Run) -> PathBuf {
    run.dir().join("edge/state")
}

fn certificate(state: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(state.join("certificates").join(name)).ok()
}

fn condition_codes(edge: &Edge) -> BTreeSet<String> {
    let status = edge.edgectl(&["status"]).unwrap();
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_registered_key_enrols_and_both_certificates_are_renewed() {
    let _turn = alone().unwrap();
    let scene = Scene::start(30);
    let state = state_of(&scene.run);
    let keys = Keys::load_or_make(&state.join("keys")).unwrap();
    let (id, record) = scene.register(&keys.device.fingerprint().unwrap());
    let text = std::fs::read_to_string(&record).unwrap();
    assert!(serde_json::from_str::<Value>(&text).unwrap().get("token").is_none(), "no token was made");
    let mut edge = Edge::start(&scene.net.edge, &record).unwrap();

    scene.center.confirmed(&id, 1, LIMIT).unwrap();
    let (first, first_tunnel) =
        (certificate(&state, "operational.pem").unwrap(), certificate(&state, "tunnel.pem").unwrap());
    let status = edge.edgectl(&["status"]).unwrap();
    assert_eq!(status["edge"], Value::String(id.clone()));

    // Two thirds of the life later.
    let renewed = |name, old: &str| certificate(&state, name).is_some_and(|now| now != old);
    wait::until("the operational certificate to be renewed", LIMIT, || renewed("operational.pem", &first))
        .unwrap();
    wait::until("the tunnel certificate to be renewed", LIMIT, || renewed("tunnel.pem", &first_tunnel))
        .unwrap();
    let told = || scene.events().is_superset(&["enrolled", "certificate.renewed"].map(str::to_owned).into());
    wait::until("enrolment and renewal in the log at the center", LIMIT, told).unwrap();
    let renewed = edge.edgectl(&["status"]).unwrap();
    assert!(renewed["certificate"]["not_after"].as_i64() > status["certificate"]["not_after"].as_i64());
    let leaf = {
        let pem = certificate(&state, "tunnel.pem").unwrap();
        let body: String = pem.lines().skip(1).take_while(|line| !line.starts_with('-')).collect();
        Leaf::parse(&verona_contract::base64::decode(&body).unwrap()).unwrap()
    };
    assert_eq!(leaf.key, keys.tunnel_public, "the same key");

    // A box that was switched off until its certificate had ended enrols again by its key.
    edge.agent.crash().unwrap();
    std::thread::sleep(Duration::from_secs(33));
    let ended = certificate(&state, "operational.pem").unwrap();
    edge.agent_again().unwrap();
    let again = || certificate(&state, "operational.pem").is_some_and(|now| now != ended);
    wait::until("the enrolment after the end", LIMIT, again).unwrap();
    wait::until("nothing to be wrong", LIMIT, || condition_codes(&edge).is_empty()).unwrap();
}

/// Puts a record into the spool that no agent would accept and no center does: an event name too long.
fn append_unacceptable(state: &Path, edge: Uuid) -> u64 {
    let stamp = move || Stamp {
        edge,
        boot: Uuid::nil(),
        time_ns: 1_767_225_600_000_000_000,
        monotonic_ns: 0,
        clock_synced: true,
    };
    let spool = Spool::open(state.join("spool"), edge, MIN_QUOTA, Box::new(stamp)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let append = |event: &str| {
        runtime.block_on(spool.append(Draft::new(Stream::Audit, event, "between two good ones"))).unwrap()
    };
    append("before");
    let seq = append(&"x".repeat(MAX_ATTRIBUTE + 1));
    append("after");
    seq
}

/// Fills the spool with `count` records of 8 kB, as weeks without a center do.
fn append_past(state: &Path, edge: Uuid, count: usize) {
    let stamp = move || Stamp {
        edge,
        boot: Uuid::nil(),
        time_ns: 1_767_225_600_000_000_000,
        monotonic_ns: 0,
        clock_synced: true,
    };
    let spool = Spool::open(state.join("spool"), edge, 1 << 28, Box::new(stamp)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let body = "x".repeat(8000);
    runtime.block_on(async {
        for _ in 0..count / 100 {
            let append = |_| spool.append(Draft::new(Stream::Auth, "past", body.clone()));
            for appended in futures_util::future::join_all((0..100).map(append)).await {
                appended.unwrap();
            }
        }
    });
    drop(spool);
    closed();
}

/// Waits for the thread of a spool of this process: it may still be beginning a segment, which the agent then finds
/// half-made.
fn closed() {
    wait::until("the spool to be closed", LIMIT, || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let mut names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        !names.any(|name| name.trim() == "spool")
    })
    .unwrap();
}

#[test]
fn what_happens_now_does_not_wait_for_what_the_center_has_missed() {
    let _turn = alone().unwrap();
    let scene = Scene::start(86_400);
    let (id, mut edge) = scene.edge_whose_agent_is_gone();
    // Some sixteen segments, of which one goes in 200 ms at most.
    append_past(&edge.state(), id, PAST);
    edge.agent_again().unwrap();
    let arguments = ["logs", "append", "--stream", "auth", "--event", "now", "what happens now"];
    wait::for_value("the record to be taken", LIMIT, || Ok(edge.edgectl(&arguments).ok())).unwrap();
    wait::until("what happens now at the center", LIMIT, || {
        scene.events_of("now").contains("what happens now")
    })
    .unwrap();
    assert_eq!(scene.auth(), None, "the past is not there yet");
    // And then it is, whole.
    wait::until("everything at the center", LIMIT, || scene.auth().is_some_and(|count| count > PAST as u64))
        .unwrap();
}

#[test]
fn a_record_that_the_center_refuses_is_set_aside_and_the_others_pass() {
    let _turn = alone().unwrap();
    let scene = Scene::start(86_400);
    let (id, mut edge) = scene.edge_whose_agent_is_gone();
    let seq = append_unacceptable(&edge.state(), id);
    edge.agent_again().unwrap();

    let passed = || scene.events().is_superset(&["before", "after", "log.refused"].map(str::to_owned).into());
    wait::until("the other records at the center", LIMIT, passed)
        .unwrap_or_else(|error| panic!("{error}; the agent says: {}", edge.agent.log()));
    assert!(condition_codes(&edge).contains("log-refused"));
    let kept = std::fs::read_to_string(edge.state().join("spool/refused.jsonl")).unwrap();
    let lines: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "only the offending one: {kept}");
    assert_eq!(lines[0]["record"]["seq"], seq);
    assert!(lines[0]["reason"].as_str().unwrap().contains("event_name must be at most"), "{kept}");
}
