//! A firmware update from the vendor's order to the word of the box at the center: the agent as a process, with a real
//! center and a real tunnel. The machine around it is a disk image and the chooser's rule.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

#[path = "update/bench.rs"]
mod bench;

use bench::{Bench, V1, V2, V3, run};
use edge_agent_core::update::Slot;
use lab::parts::{Center, EDGE_USER, Edge};
use lab::{Plan, Run, Topology, alone, wait, workspace};
use nix::unistd::User;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::time::Duration;
use verona_contract::config::Version;

const LIMIT: Duration = Duration::from_secs(90);

struct Scene {
    bench: Bench,
    center: Center,
    edge: Edge,
    id: String,
    _run: Run,
}

impl Scene {
    fn start() -> Self {
        let run = Run::start().unwrap();
        let net = Topology::build(&run, &Plan { clients: vec![] }).unwrap();
        let center = Center::start(&net.center).unwrap();
        let owner = center.add_owner("Example", "10.8.0.0/24").unwrap();
        let record = run.dir().join("factory.json");
        let id = center.add_edge(&owner, &record).unwrap();
        let edge = Edge::start(&net.edge, &record).unwrap();
        center.confirmed(&id, 1, LIMIT).unwrap();
        let bench = Bench::new();
        bench.fill_running();
        fs::create_dir(bench.path("firmware")).unwrap();
        // What the agent starts has no more rights than it has itself, so it writes to the agent's own folder.
        let script = format!("#!/bin/sh\necho >> {}\n", edge.state().join("restarts").display());
        fs::write(bench.path("restart"), script).unwrap();
        fs::set_permissions(bench.path("restart"), fs::Permissions::from_mode(0o755)).unwrap();
        // The disk is the agent's, as a box's slots are.
        fs::set_permissions(bench.folder(), fs::Permissions::from_mode(0o711)).unwrap();
        let user = User::from_name(EDGE_USER).unwrap().unwrap();
        chown(bench.disk(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        Self { bench, center, edge, id, _run: run }
    }

    /// The machine starts `slot`, which holds `version` and gives itself `limit_s` seconds to prove itself.
    fn boot(&mut self, slot: Slot, version: Version, limit_s: u64) {
        self.edge.agent.stop();
        let folder = self.bench.path("firmware");
        let release = format!(r#"{{"edition":"cloud","version":"{version}","floor":"{V1}"}}"#);
        fs::write(folder.join("release.json"), release).unwrap();
        fs::copy(self.bench.metadata("1.root.json"), folder.join("root.json")).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let slot = slot.to_string().to_lowercase();
        self.edge.agent_arguments = [
            "--firmware",
            &text(folder),
            "--firmware-disk",
            &text(self.bench.disk()),
            "--running-slot",
            &slot,
            "--restart-with",
            &text(self.bench.path("restart")),
            "--prove-within",
            &limit_s.to_string(),
            "--backoff-max",
            "2",
        ]
        .map(str::to_owned)
        .to_vec();
        self.edge.agent_again().unwrap();
    }

    /// The vendor publishes `version` and gives it to every edge.
    fn release(&self, version: Version) {
        self.bench.publish(version);
        let (from, data) = (self.bench.path("repository"), self.center.data().join("web"));
        let program = workspace::binary("verona-center").unwrap();
        let words =
            ["firmware", "publish", "--from", from.to_str().unwrap(), "--data", data.to_str().unwrap()];
        run(program, &words);
        let version = version.to_string();
        self.center.admin(&["firmware", "ring", "stable", "--version", &version, "--spread", "0s"]).unwrap();
    }

    /// What the box told, the newest first.
    fn told(&self) -> Vec<(String, String, String)> {
        let firmware = self.center.admin(&["firmware", "edge", &self.id]).unwrap();
        let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let event = |event: &Value| (text(event, "version"), text(event, "state"), text(event, "reason"));
        firmware["history"].as_array().unwrap().iter().map(event).collect()
    }

    fn hears(&self, version: Version, state: &str) -> String {
        let told = || {
            let told = self.told();
            Ok(told.into_iter().find(|event| event.0 == version.to_string() && event.1 == state))
        };
        let heard = wait::for_value(&format!("{version} {state} at the center"), LIMIT, told);
        heard.unwrap_or_else(|error| panic!("{error}; the agent says: {}", self.edge.agent.log())).2
    }

    fn restarted(&self, times: usize) {
        let count =
            || fs::read_to_string(self.edge.state().join("restarts")).unwrap_or_default().lines().count();
        wait::until("the box to restart", LIMIT, || count() == times)
            .unwrap_or_else(|error| panic!("{error}; the agent says: {}", self.edge.agent.log()));
    }
}

#[test]
fn the_center_sees_each_update_and_how_it_ended() {
    let _turn = alone().unwrap();
    let mut scene = Scene::start();
    scene.boot(Slot::A, V1, 60);
    scene.release(V2);
    scene.restarted(1);
    scene.hears(V2, "installed");
    assert_eq!(scene.bench.power_on(), Slot::B);
    scene.boot(Slot::B, V2, 60);
    scene.hears(V2, "confirmed");
    assert!(scene.bench.printed(Slot::B).contains("ustate:           0 (OK)"));
    let shown = scene.edge.edgectl(&["update"]).unwrap();
    assert_eq!((shown["running"].as_str(), shown["slot"].as_str()), (Some("2.0.0"), Some("b")));

    // A firmware whose tunnel does not come up.
    scene.release(V3);
    scene.restarted(2);
    assert_eq!(scene.bench.power_on(), Slot::A);
    scene.edge.tunnel.crash().unwrap();
    scene.boot(Slot::A, V3, 5);
    scene.restarted(3);
    assert_eq!(scene.bench.power_on(), Slot::B);
    scene.edge.tunnel_again().unwrap();
    scene.boot(Slot::B, V2, 60);
    let reason = scene.hears(V3, "went-back");
    assert!(reason.starts_with("after 5s still: the tunnel: "), "{reason}");
    // It is wanted still, and not tried again.
    let reason = scene.hears(V3, "refused");
    assert!(reason.contains("it failed on this box"), "{reason}");
    let firmware = scene.center.admin(&["firmware", "edge", &scene.id]).unwrap();
    assert_eq!((firmware["running"].as_str(), firmware["wanted"].as_str()), (Some("2.0.0"), Some("3.0.0")));
    // The chain of log records tells the same.
    let events = || scene.center.admin(&["log", "list", "--event", "update.went-back"]).unwrap().to_string();
    wait::until("the log record", LIMIT, || events().contains("3.0.0")).unwrap();
}

#[test]
fn the_center_takes_in_what_a_box_would_take() {
    let bench = Bench::new();
    bench.publish(V2);
    let data = bench.path("web");
    let publish = || {
        let output = std::process::Command::new(workspace::binary("verona-center").unwrap())
            .args(["firmware", "publish", "--from"])
            .arg(bench.path("repository"))
            .arg("--data")
            .arg(&data)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(publish().0);
    let published = fs::read(data.join("firmware/metadata/timestamp.json")).unwrap();
    bench.publish(V3);
    // A file that is not what its metadata says, and metadata that was altered.
    let served = bench.served("3.0.0.root");
    let good = fs::read(&served).unwrap();
    fs::write(&served, &good[..good.len() - 1]).unwrap();
    let (taken, error) = publish();
    assert!(!taken && error.contains("verona-cloud-3.0.0.root"), "{error}");
    fs::write(&served, good).unwrap();
    let metadata = bench.metadata("3.targets.json");
    let good = fs::read(&metadata).unwrap();
    fs::write(&metadata, [good.as_slice(), b" "].concat()).unwrap();
    let (taken, error) = publish();
    assert!(!taken && error.contains("a box would refuse this repository"), "{error}");
    assert_eq!(fs::read(data.join("firmware/metadata/timestamp.json")).unwrap(), published);
    fs::write(&metadata, good).unwrap();
    assert!(publish().0);
}
