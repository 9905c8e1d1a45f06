//! Power cuts, replayed: every write to the disk is recorded as it happens, and then each test looks at hundreds of
//! disks that a cut could have left. On each the old or the new system starts, whole, and nothing that was
//! acknowledged is lost.
//!
//! A short run here; `cargo lab powercut` makes more states, of any seed. Needs root, for mounts in a namespace.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

#[path = "update/bench.rs"]
mod bench;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use bench::{Bench, V1, V2, run};
use edge_agent::acks::Acks;
use edge_agent::bundles::Bundles;
use edge_agent::store;
use edge_agent::update::{BootControl as _, BootGuard, Disk, Pass};
use edge_agent_core::bundle::Rules;
use edge_agent_core::update::Slot;
use edge_agent_core::update::chooser::next_start;
use lab::powercut::{Dice, Log, Recording};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use uuid::Uuid;
use verona_contract::api::{Ack, UpdateAck, UpdateState};
use verona_contract::config::PAYLOAD_TYPE;
use verona_contract::dsse::{Envelope, VerifyingKey};

const STATES: &str = "VERONA_POWERCUT_STATES";
const SEED: &str = "VERONA_POWERCUT_SEED";

/// States of a short run.
const FEW: u64 = 60;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Set in the process that runs a test apart.
const APART: &str = "VERONA_POWERCUT_APART";

/// Runs `test` of this file once more, in a mount namespace that takes its mounts with it when it ends. False in
/// there: the test itself is to go on.
fn ran_apart(test: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        return false;
    }
    if !Recording::is_possible() {
        println!("not run: this machine has no FUSE");
        return true;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "setpriv", "--pdeathsig", "KILL"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(APART, "1")
        .stdin(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{test}");
    true
}

/// The moments to look at: after each flush with everything before it, then others by the dice.
fn moments(log: &Log, dice: &mut Dice) -> Vec<(usize, Option<Dice>)> {
    let states = setting(STATES, FEW) as usize;
    let flushes = log.flushes();
    let every = flushes.len().div_ceil(states / 2).max(1);
    let mut moments: Vec<(usize, Option<Dice>)> =
        flushes.into_iter().step_by(every).map(|moment| (moment, None)).collect();
    while moments.len() < states {
        let moment = dice.below(log.len() as u64 + 1) as usize;
        moments.push((moment, Some(Dice::new(dice.roll()))));
    }
    moments
}

#[tokio::test]
async fn an_update_that_is_cut_leaves_the_old_or_the_new_system() {
    if ran_apart("an_update_that_is_cut_leaves_the_old_or_the_new_system") {
        return;
    }
    let mut bench = Bench::new();
    let old = bench.fill_running();
    let new = bench.publish(V2);
    bench.want(V2);
    let base = bench.disk();
    let recording = Recording::start(bench.folder(), &base).unwrap();
    bench.use_disk(recording.disk());
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
    fs::File::open(recording.disk()).unwrap().sync_all().unwrap();
    assert_eq!(bench.agent(Slot::B, V2).begin().await.unwrap(), Pass::Idle);
    // From here on the box has told the center that version 2 is what it runs.
    let confirmed = recording.entries().unwrap() as usize;
    let log = recording.finish().unwrap();
    assert!(confirmed > 20 && confirmed <= log.len(), "{confirmed} of {}", log.len());

    let seed = setting(SEED, 1);
    let mut dice = Dice::new(seed);
    let work = bench.path("work.img");
    fs::copy(&base, &work).unwrap();
    bench.use_disk(&work);
    let mut taken = [0; 2];
    for (number, (moment, mut state_dice)) in moments(&log, &mut dice).into_iter().enumerate() {
        let state = format!("state {number} of seed {seed}: after {moment} of {} writes", log.len());
        log.reset(&base, &work).unwrap();
        log.replay(moment, state_dice.as_mut(), &work).unwrap();
        let [a, b] = BootGuard::new(Disk::Image(work.clone())).environments();
        let start = next_start([a.as_ref(), b.as_ref()]);
        let slot = start.unwrap_or_else(|| panic!("{state}: nothing starts: {a:?} {b:?}")).slot;
        let build = if slot == Slot::A { &old } else { &new };
        assert!(bench.boot_file(slot, "linux.efi") == build.kernel, "{state}: the kernel of slot {slot}");
        assert!(bench.root_is(slot, &build.root), "{state}: the root of slot {slot}");
        if moment >= confirmed {
            assert_eq!(slot, Slot::B, "{state}: it was confirmed");
        }
        taken[slot.index()] += 1;
        // Whatever lies in the other slot, the next attempt writes it anew.
        if slot == Slot::A && number.is_multiple_of(8) {
            let _ = fs::remove_dir_all(bench.path("state"));
            fs::create_dir(bench.path("state")).unwrap();
            let again = bench.agent(Slot::A, V1).pass().await;
            assert_eq!(again.unwrap_or_else(|error| panic!("{state}: {error}")), Pass::Restarting);
            assert_eq!(bench.power_on(), Slot::B, "{state}");
            fs::copy(&base, &work).unwrap();
        }
    }
    println!("{} states: slot A {} times, slot B {} times", taken[0] + taken[1], taken[0], taken[1]);
    assert!(taken.iter().all(|count| *count > 0), "{taken:?}");
}

/// Revision `number` of a revocation list: as long as it says, and filled with what it says.
fn content(number: u64) -> Vec<u8> {
    let length = 64 + (Dice::new(number).roll() % 20_000) as usize;
    let mut octets = format!("{number} {length} ").into_bytes();
    octets.resize(length, number as u8);
    octets
}

/// The revision of a file; 0 = there is no such file.
fn revision(path: &Path) -> u64 {
    let Ok(octets) = fs::read(path) else { return 0 };
    let head = String::from_utf8_lossy(&octets[..octets.len().min(20)]).into_owned();
    let number =
        head.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{}: {head}", path.display()));
    assert!(octets == content(number), "{} is not revision {number}", path.display());
    number
}

fn told(number: u64) -> Ack {
    let version = V1;
    let state = UpdateState::Confirmed;
    Ack::Update(UpdateAck { version, state, reason: None, running: V1, at_ns: number.cast_signed() })
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

const EDGE: Uuid = Uuid::from_u128(7);

/// Configuration `number`, signed.
fn envelope(number: u64) -> Vec<u8> {
    let config = json!({
        "edge_id": EDGE, "seq": number, "issued_at": "2026-01-02T03:04:05Z", "minimum_agent": "0.1.0",
        "tunnel": { "addresses": ["10.8.0.1/16"], "listen_port": 1, "mtu": 1420, "routes": [], "owners": [] },
    });
    serde_json::to_vec(&Envelope::sign(PAYLOAD_TYPE, config.to_string().into_bytes(), &[&signer()])).unwrap()
}

/// What the agent keeps on `data`: configurations on trial and in force, a revocation list, and acknowledgements
/// that wait for the center.
struct Kept {
    bundles: Bundles,
    list: PathBuf,
    acks: Acks,
}

impl Kept {
    fn open(folder: &Path) -> Self {
        let key = VerifyingKey::new(signer().public_key().as_ref().try_into().unwrap());
        let rules = Rules { edge: EDGE, keys: vec![key], threshold: 1, agent: "0.1.0".parse().unwrap() };
        let bundles = Bundles::load(folder.join("config"), rules).unwrap();
        Self { bundles, list: folder.join("list.der"), acks: Acks::load(folder.join("acks.json")).unwrap() }
    }

    /// One of the four steps of revision `number`.
    async fn step(&self, step: usize, number: u64) {
        match step {
            0 => assert!(self.bundles.take(&envelope(number)).unwrap().is_some()),
            1 => {
                let wanted = self.bundles.wanted().borrow().clone().unwrap().bundle;
                self.bundles.confirm(&wanted).unwrap();
            }
            2 => store::replace(&self.list, &content(number)).unwrap(),
            _ => self.acks.push(told(number)).await,
        }
    }

    /// The revision that each step has reached.
    async fn reached(&self) -> [u64; 4] {
        let wanted = self.bundles.wanted().borrow().as_ref().map_or(0, |wanted| wanted.bundle.config().seq);
        let in_force = self.bundles.current().map_or(0, |bundle| bundle.config().seq);
        [wanted, in_force, revision(&self.list), self.acks.pending().await as u64]
    }
}

/// Revisions that are written.
const REVISIONS: u64 = 20;

#[tokio::test]
async fn what_is_stored_survives_whole() {
    if ran_apart("what_is_stored_survives_whole") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (base, mount) = (folder.path().join("base.img"), folder.path().join("mount"));
    fs::create_dir(&mount).unwrap();
    fs::File::create(&base).unwrap().set_len(16 << 20).unwrap();
    run("mkfs.ext4", &["-q", base.to_str().unwrap()]);
    let recording = Recording::start(folder.path(), &base).unwrap();
    let on = |disk: &Path| run("mount", &["-o", "loop", disk.to_str().unwrap(), mount.to_str().unwrap()]);
    let off = || run("umount", &[mount.to_str().unwrap()]);
    on(recording.disk());
    let kept = Kept::open(&mount);
    // After each step: how many writes there were when it was acknowledged.
    let mut acknowledged: Vec<(usize, [u64; 4])> = vec![(0, [0; 4])];
    for number in 1..=REVISIONS {
        for step in 0..4 {
            kept.step(step, number).await;
            let mut done = acknowledged.last().unwrap().1;
            done[step] = number;
            acknowledged.push((recording.entries().unwrap() as usize, done));
        }
    }
    drop(kept);
    off();
    let log = recording.finish().unwrap();

    let seed = setting(SEED, 1);
    let mut dice = Dice::new(seed);
    let work = folder.path().join("work.img");
    let mut between = 0;
    for (number, (moment, mut state_dice)) in moments(&log, &mut dice).into_iter().enumerate() {
        let state = format!("state {number} of seed {seed}: after {moment} of {} writes", log.len());
        // Whole: a mount writes what the log does not know of.
        fs::copy(&base, &work).unwrap();
        log.replay(moment, state_dice.as_mut(), &work).unwrap();
        on(&work);
        let found = Kept::open(&mount).reached().await;
        off();
        let least = acknowledged.iter().rev().find(|(at, _)| *at <= moment).unwrap().1;
        let names = ["the wanted configuration", "the configuration in force", "the list", "acks"];
        for (what, (found, least)) in names.iter().zip(found.iter().zip(least)) {
            assert!(*found >= least && *found <= least + 1, "{state}: {what}: {found}, acknowledged {least}");
        }
        between += u64::from(found != least);
    }
    println!("{} states, {between} of them with a step that was not acknowledged yet", setting(STATES, FEW));
}
