//! Firmware updates of a whole box: what the vendor publishes, what the machine then starts, and what the center sees
//! of it. Nothing is asked of the box but by way of its center.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

#[path = "updates/hung.rs"]
mod hung;

use lab::firmware::{Edition, Image};
use lab::parts::{Appliance, Center, Start};
use lab::powercut::Dice;
use lab::vendor::{Edit, Vendor, altered_kernel, want};
use lab::{Plan, Run, Topology, alone, firmware, wait};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Two boots by translation take a minute of an idle machine, and ten times that of a busy one.
const BOOT: Duration = Duration::from_secs(600);

/// A firmware whose tunnel does not come up, and which gives itself half a minute.
const NO_TUNNEL: &[Edit] = &[
    ("rootfs/etc/inittab", "::respawn:/usr/sbin/edge-tunnel ", "::once:/bin/true "),
    ("rootfs/etc/inittab", "/usr/sbin/edge-agent ", "/usr/sbin/edge-agent --prove-within 30 "),
];

/// The kernel finds no first process, panics, and restarts after the ten seconds that its command line says.
const NO_FIRST_PROCESS: (&str, &str) = ("console=tty0 ", "rdinit=/nope ");

/// A box that runs version 1.0.0, its center, and the vendor.
struct Scene {
    vendor: Vendor,
    center: Center,
    appliance: Appliance,
    id: String,
    /// Its provider lives as long as it does.
    _net: Topology,
    run: Run,
}

impl Scene {
    fn start() -> Self {
        Self::start_of(Edition::Cloud)
    }

    fn start_of(edition: Edition) -> Self {
        let run = Run::start().unwrap();
        let vendor = Vendor::new(&run.dir().join("vendor")).unwrap();
        let first = match edition {
            Edition::Cloud => firmware::image(),
            Edition::Generic => vendor.build_for(edition, firmware::VERSION, &[]),
        };
        let net = Topology::build_for_machine(&run, &Plan { clients: vec![] }).unwrap();
        let center = Center::start(&net.center).unwrap();
        let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
        let record = run.dir().join("factory.json");
        let id = center.add_edge(&owner, &record).unwrap();
        let appliance = Appliance::start(&net.edge, &first.unwrap(), Some(&record), Start::Uefi).unwrap();
        let scene = Self { vendor, center, appliance, id, _net: net, run };
        let confirmed = scene.center.confirmed(&scene.id, 1, BOOT);
        assert!(confirmed.is_ok(), "{confirmed:?}; the console:\n{}", scene.appliance.machine.console.text());
        scene
    }

    /// Publishes `root` and `kernel` as `version`, and wants it.
    fn release(&self, version: &str, root: &Path, kernel: &Path) {
        self.vendor.add(Edition::Cloud, version, root, kernel).unwrap();
        self.vendor.publish(&self.center, version).unwrap();
    }

    fn release_image(&self, version: &str, image: &Image) {
        self.vendor.add(image.edition(), version, &image.file("root"), &image.file("efi")).unwrap();
        self.vendor.publish(&self.center, version).unwrap();
    }

    fn firmware(&self) -> Value {
        self.center.admin(&["firmware", "edge", &self.id]).unwrap()
    }

    fn runs(&self) -> String {
        self.firmware()["running"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the center has heard that `version` has come to `state`. Returns the reason.
    fn hears(&self, version: &str, state: &str) -> String {
        let told = wait::for_value(&format!("{version} {state} at the center"), BOOT, || {
            let firmware = self.firmware();
            let events = firmware["history"].as_array().map_or(&[][..], Vec::as_slice);
            let found = events.iter().find(|event| event["version"] == version && event["state"] == state);
            Ok(found.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()))
        });
        told.unwrap_or_else(|error| {
            let told = self.firmware();
            panic!("{error}; told: {told}; the console:\n{}", self.appliance.machine.console.text())
        })
    }

    /// The box leaves `version` again. Returns why.
    fn leaves(&self, version: &str, running: &str) -> String {
        self.hears(version, "installed");
        let reason = self.hears(version, "went-back");
        assert!(self.hears(version, "refused").contains("it failed on this box"), "it is wanted still");
        assert_eq!(self.runs(), running);
        reason
    }

    fn has_left(&self, version: &str) -> bool {
        let firmware = self.firmware();
        let events = firmware["history"].as_array().map_or(&[][..], Vec::as_slice);
        events.iter().any(|event| event["version"] == version && event["state"] == "went-back")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.run.dir().join(name)
    }

    /// What the center serves, as who holds its web tier could change it.
    fn served(&self, name: &str) -> PathBuf {
        self.center.data().join("web/firmware/metadata").join(name)
    }
}

#[test]
fn a_box_is_updated_by_its_center() {
    let _turn = alone().unwrap();
    let scene = Scene::start();
    let second = scene.vendor.build("2.0.0", &[]).unwrap();
    let begun = Instant::now();
    scene.release_image("2.0.0", &second);
    scene.hears("2.0.0", "installed");
    let installed = begun.elapsed();
    scene.hears("2.0.0", "confirmed");
    assert_eq!(scene.runs(), "2.0.0");
    let (installed, confirmed) = (installed.as_secs_f32(), begun.elapsed().as_secs_f32());
    println!("installed after {installed:.1} s, confirmed after {confirmed:.1} s");
}

#[test]
#[ignore = "full run: four boots"]
fn a_box_leaves_what_does_not_start_and_runs_what_does() {
    let _turn = alone().unwrap();
    let scene = Scene::start();
    let second = scene.vendor.build("2.0.0", &[]).unwrap();
    let kernel = altered_kernel(&second.file("efi"), &scene.at("."), NO_FIRST_PROCESS).unwrap();
    scene.release("1.5.0", &second.file("root"), &kernel);
    let reason = scene.leaves("1.5.0", "1.0.0");
    assert!(reason.starts_with("it did not come up"), "{reason}");
    let console = scene.appliance.machine.console.text();
    assert!(console.contains("Kernel panic"), "{console}");

    scene.release_image("2.0.0", &second);
    scene.hears("2.0.0", "confirmed");
    assert_eq!(scene.runs(), "2.0.0");
}

/// Octets of the disk at which the partition `name` begins.
fn partition(image: &Path, name: &str) -> u64 {
    let table = Command::new("sfdisk").arg("--json").arg(image).output().unwrap().stdout;
    let table: Value = serde_json::from_slice(&table).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|partition| partition["name"] == name).unwrap();
    found["start"].as_u64().unwrap() * 512
}

impl Scene {
    /// Cuts the power, changes the disk, and switches the box on.
    fn damage(&mut self, partition_name: &str) {
        self.appliance.machine.cut_power().unwrap();
        let at = partition(&self.at("appliance.img"), partition_name);
        let disk = self.appliance.hardware().disk.path().to_owned();
        let order = format!("write -P 0x5a {at} 1M");
        let output = Command::new("qemu-io").args(["-f", "qcow2", "-c", &order]).arg(disk).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.appliance.switch_on().unwrap();
    }

    /// How often the machine was reset.
    fn restarts(&mut self) -> usize {
        self.appliance.machine.qmp.count("RESET").unwrap()
    }

    /// Serves `from` as `name` to boxes that want `version`; returns why they refuse it.
    fn refuses(&self, version: &str, name: &str, from: &Path) -> String {
        let served = self.served(name);
        let good = fs::read(&served).unwrap();
        fs::copy(from, &served).unwrap();
        want(&self.center, version).unwrap();
        let reason = self.hears(version, "refused");
        fs::write(&served, good).unwrap();
        reason
    }
}

/// What somebody else than the vendor can do, with all of the center's web tier in his hands.
fn forged_old_and_mixed_metadata_is_refused(scene: &Scene, second: &Image) {
    let (root, kernel) = (second.file("root"), second.file("efi"));
    scene.vendor.add(Edition::Cloud, "1.1.0", &root, &kernel).unwrap();
    let newest = || {
        let timestamp: Value =
            serde_json::from_slice(&fs::read(scene.served("timestamp.json")).unwrap()).unwrap();
        timestamp["signed"]["meta"]["snapshot.json"]["version"].as_u64().unwrap()
    };
    scene.vendor.publish(&scene.center, "0.9.0").unwrap();
    assert_eq!(scene.hears("0.9.0", "refused"), "version 0.9.0: it is older than 1.0.0");

    let stranger = Vendor::stranger(&scene.at("stranger")).unwrap();
    stranger.add(Edition::Cloud, "1.1.0", &root, &kernel).unwrap();
    let forged = stranger.repository().join("metadata/timestamp.json");
    let reason = scene.refuses("1.2.0", "timestamp.json", &forged);
    assert!(reason.contains("Failed to verify timestamp metadata"), "{reason}");

    // Good metadata, held back until it has ended.
    scene.vendor.sign(&["renew", "--timestamp-life", "1s"]).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let metadata = scene.vendor.repository().join("metadata");
    let good = fs::read(scene.served("timestamp.json")).unwrap();
    for file in fs::read_dir(&metadata).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), scene.served(file.file_name().to_str().unwrap())).unwrap();
    }
    fs::write(scene.served("timestamp.json"), good).unwrap();
    let frozen = metadata.join("timestamp.json");
    let reason = scene.refuses("1.3.0", "timestamp.json", &frozen);
    assert!(reason.contains("expired"), "{reason}");

    // Each file was signed by the right keys; together they never were.
    scene.vendor.sign(&["renew"]).unwrap();
    scene.vendor.publish(&scene.center, "0.9.1").unwrap();
    let version = newest();
    let older = scene.served(&format!("{}.snapshot.json", version - 1));
    let reason = scene.refuses("1.4.0", &format!("{version}.snapshot.json"), &older);
    assert!(reason.contains("snapshot"), "{reason}");
    assert_eq!(scene.runs(), "1.0.0");
}

/// A root larger than its partition.
fn what_does_not_fit_is_refused(scene: &Scene, second: &Image) {
    let large = scene.at("large.root");
    fs::File::create(&large).unwrap().set_len(513 << 20).unwrap();
    scene.release("1.5.0", &large, &second.file("efi"));
    let reason = scene.hears("1.5.0", "refused");
    assert!(reason.contains("does not fit root-b"), "{reason}");
}

/// A window that opens in three days.
fn closed_window() -> String {
    const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // 1970-01-01 was a Thursday.
    format!("{} 12:00 5", WEEK[((now / 86_400 + 3 + 3) % 7) as usize])
}

#[test]
#[ignore = "full run: three boots"]
fn metadata_that_is_not_the_vendors_newest_is_refused_and_lost_keys_are_replaced() {
    let _turn = alone().unwrap();
    let scene = Scene::start();
    let second = scene.vendor.build("2.0.0", &[]).unwrap();
    forged_old_and_mixed_metadata_is_refused(&scene, &second);
    what_does_not_fit_is_refused(&scene, &second);

    // The vendor has lost keys; boxes that know the first root alone follow to the next ones, two times in a row.
    for (version, key) in [("2.0.0", "targets"), ("3.0.0", "timestamp")] {
        fs::remove_file(scene.vendor.keys().join(format!("{key}.pk8"))).unwrap();
        scene.vendor.sign(&["rotate", key]).unwrap();
        let image = scene.vendor.build(version, &[]).unwrap();
        scene.release_image(version, &image);
        scene.hears(version, "confirmed");
        assert_eq!(scene.runs(), version);
    }
}

#[test]
#[ignore = "full run: seven boots"]
fn a_box_leaves_what_starts_badly() {
    let _turn = alone().unwrap();
    let mut scene = Scene::start();
    // Good as it is built; each time something happens to it on the way.
    let second = scene.vendor.build("2.0.0", &[]).unwrap();
    let (root, kernel) = (second.file("root"), second.file("efi"));

    // A kernel image that the firmware cannot start: without a watchdog, somebody has to cut the power.
    let dead = scene.at("dead.efi");
    let mut octets = fs::read(&kernel).unwrap();
    let middle = octets.len() / 2;
    octets[1 << 20..middle].fill(0);
    fs::write(&dead, octets).unwrap();
    let before = scene.restarts();
    scene.release("1.5.0", &root, &dead);
    scene.hears("1.5.0", "installed");
    wait::until("the box to restart", BOOT, || scene.restarts() > before).unwrap();
    // Long enough for firmware and chooser to have given up.
    std::thread::sleep(Duration::from_secs(30));
    scene.appliance.power_cycle().unwrap();
    assert!(scene.leaves("1.5.0", "1.0.0").starts_with("it did not come up"));

    // A root that the disk lost between its installation and the restart.
    scene.center.admin(&["firmware", "edge", &scene.id, "--window", &closed_window()]).unwrap();
    scene.release("2.0.0", &root, &kernel);
    scene.hears("2.0.0", "installed");
    scene.damage("root-b");
    scene.center.admin(&["firmware", "edge", &scene.id, "--any-time"]).unwrap();
    assert!(scene.leaves("2.0.0", "1.0.0").starts_with("it did not come up"));

    let sick = scene.vendor.build("3.0.0", NO_TUNNEL).unwrap();
    scene.release_image("3.0.0", &sick);
    let reason = scene.leaves("3.0.0", "1.0.0");
    assert!(reason.starts_with("after 30s still: the tunnel: "), "{reason}");
}

/// Cuts of the power in a full run; `cargo lab powercut` sets it.
const KILLS: &str = "VERONA_POWERCUT_KILLS";
const SEED: &str = "VERONA_POWERCUT_SEED";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The power goes at any moment: while an update is fetched, written, started or on trial, and while configurations
/// come in.
#[test]
#[ignore = "full run: twenty boots"]
fn a_box_survives_power_cuts_at_any_moment() {
    let _turn = alone().unwrap();
    let mut scene = Scene::start();
    let (kills, seed) = (setting(KILLS, 20), setting(SEED, 1));
    let mut dice = Dice::new(seed);
    let mut running = "1.0.0".to_owned();
    let mut next = (2..).map(|major| format!("{major}.0.0"));
    let mut wanted = running.clone();
    let (mut updates, mut confirmed) = (0, 1);
    for kill in 1..=kills {
        // One whose trial was cut counts as failed, and the next one is another matter.
        if wanted == running || scene.has_left(&wanted) {
            wanted = next.next().unwrap();
            let image = scene.vendor.build(&wanted, &[]).unwrap();
            scene.release_image(&wanted, &image);
        }
        // A configuration comes in some time before the cut, and another one after it: who confirms that is back.
        scene.center.admin(&["firmware", "edge", &scene.id, "--window", "daily 00:00 1440"]).unwrap();
        std::thread::sleep(Duration::from_millis(dice.below(45_000)));
        scene.appliance.power_cycle().unwrap();
        scene.center.admin(&["firmware", "edge", &scene.id, "--any-time"]).unwrap();
        // It comes back by itself, in the old or the new system, with what was confirmed and all that came since.
        let state = format!("cut {kill} of seed {seed}, with {wanted} wanted");
        let back = scene.center.confirmed(&scene.id, confirmed + 2, BOOT);
        confirmed = back.unwrap_or_else(|error| {
            panic!("{state}: {error}; the console:\n{}", scene.appliance.machine.console.text())
        });
        let runs = scene.runs();
        assert!(runs.is_empty() || runs == running || runs == wanted, "{state}: {runs}");
        if runs == wanted {
            running = runs;
            updates += 1;
        }
    }
    // And then an update goes as if nothing had been.
    if scene.has_left(&wanted) {
        wanted = next.next().unwrap();
        let image = scene.vendor.build(&wanted, &[]).unwrap();
        scene.release_image(&wanted, &image);
    }
    scene.hears(&wanted, "confirmed");
    let verified = scene.center.admin(&["log", "verify"]).unwrap();
    let unbroken = verified.as_array().unwrap().iter().all(|chain| chain["unbroken"] == true);
    assert!(unbroken, "what was acknowledged of the logs is lost: {verified}");
    println!("{kills} cuts of the power, {updates} updates between them");
}
