//! Faults at every step that a change of configuration takes on the disk: kill -9, a full disk, a failing disk. The
//! outcome is the old or the new configuration, and the next agent can go on from there.
//!
//! Log records, too: what was acknowledged stands, whatever the disk does.
//!
//! The steps are done by a real process, this test program again; `strace` kills it or fails its n-th system call
//! that changes the disk. Needs root (ptrace, a tmpfs of its own) and `strace`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use edge_agent::bundles::{Bundles, Fate};
use edge_agent::spool::Spool;
use edge_agent_core::bundle::Rules;
use edge_agent_core::journal::Draft;
use edge_agent_core::spool::chain::Stamp;
use edge_agent_core::spool::quota::MIN_QUOTA;
use edge_agent_core::trial::{Moment, Survey};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use uuid::Uuid;
use verona_contract::config::PAYLOAD_TYPE;
use verona_contract::dsse::{Envelope, VerifyingKey};
use verona_contract::log::Stream;

/// Tells the child where its files are, and which change it makes.
const DIRECTORY: &str = "VERONA_TEST_DIRECTORY";
const CHANGE: &str = "VERONA_TEST_CHANGE";

/// Whatever changes a file system by name or makes it last.
const CALLS: &str = "rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync";

/// More steps than any change takes.
const MANY: u32 = 200;

/// A change of configuration from revision 4, with 3 before it, and what may be in force after it.
#[derive(Clone, Copy, Debug)]
enum Change {
    Confirm,
    Revert,
    RollBack,
}

impl Change {
    const ALL: [Self; 3] = [Self::Confirm, Self::Revert, Self::RollBack];

    fn run(self, bundles: &Bundles) {
        let all = Survey { center: true, gateway: true, dns: true, tunnel: true };
        let now = Moment { boot: Uuid::nil(), ns: 1 };
        // An error leaves the change where it is: it is what the agent traces and lives with.
        let staged = match self {
            Self::RollBack => bundles.roll_back(None).ok(),
            _ => bundles.take(&envelope(5)).ok().flatten(),
        };
        let Some(bundle) = staged else { return };
        if bundles.begin(&bundle, Some(all), now).is_err() {
            return;
        }
        let _ = match self {
            Self::Revert => bundles.reject(&bundle, Fate::Reverted, "center"),
            Self::Confirm | Self::RollBack => bundles.confirm(&bundle),
        };
    }

    /// What is in force when nothing went wrong.
    const fn outcome(self) -> u64 {
        match self {
            Self::Confirm => 5,
            Self::Revert => 4,
            Self::RollBack => 3,
        }
    }
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

fn load(directory: &Path) -> Bundles {
    let key = VerifyingKey::new(signer().public_key().as_ref().try_into().unwrap());
    let rules = Rules { edge: Uuid::nil(), keys: vec![key], threshold: 1, agent: "0.1.0".parse().unwrap() };
    Bundles::load(directory.join("config"), rules).unwrap()
}

fn envelope(seq: u64) -> Vec<u8> {
    let config = json!({
        "edge_id": Uuid::nil(), "seq": seq, "issued_at": "2026-01-02T03:04:05Z", "minimum_agent": "0.1.0",
        "tunnel": { "addresses": ["10.8.0.1/16"], "listen_port": seq, "mtu": 1420, "routes": [], "owners": [] },
    });
    serde_json::to_vec(&Envelope::sign(PAYLOAD_TYPE, config.to_string().into_bytes(), &[&signer()])).unwrap()
}

/// Revision 4 in force, 3 before it.
fn prepare(directory: &Path) {
    let bundles = load(directory);
    for seq in [3, 4] {
        let bundle = bundles.take(&envelope(seq)).unwrap().unwrap();
        bundles.confirm(&bundle).unwrap();
    }
}

/// What a crashed or failed change may leave: one of its two ends in force and whole, and a sound way on.
fn assert_sound(directory: &Path, change: Change, fault: &str) {
    let bundles = load(directory);
    let current = bundles.current().unwrap_or_else(|| panic!("{change:?}, {fault}: nothing is in force"));
    let config = current.config();
    assert!([4, change.outcome()].contains(&config.seq), "{change:?}, {fault}: {} is in force", config.seq);
    assert_eq!(u64::from(config.tunnel.listen_port), config.seq, "{change:?}, {fault}: a mixture");
    let wanted = bundles.wanted().borrow().clone().unwrap();
    let seq = wanted.bundle.config().seq;
    if wanted.confirmed {
        assert_eq!(seq, config.seq, "{change:?}, {fault}");
    } else {
        // Still on trial: the next agent ends it.
        let now = Moment { boot: Uuid::nil(), ns: 2 };
        bundles
            .begin(&wanted.bundle, None, now)
            .unwrap_or_else(|error| panic!("{change:?}, {fault}: {error}"));
        bundles.confirm(&wanted.bundle).unwrap();
        assert_eq!(
            load(directory).current().map(|bundle| bundle.config().seq),
            Some(seq),
            "{change:?}, {fault}"
        );
    }
    // And a later one goes through as ever.
    let bundles = load(directory);
    let next = bundles.take(&envelope(9)).unwrap().unwrap();
    bundles.confirm(&next).unwrap();
    let bundles = load(directory);
    assert_eq!(bundles.current().map(|bundle| bundle.config().seq), Some(9), "{change:?}, {fault}");
    assert_eq!(bundles.barred(), None, "{change:?}, {fault}");
}

#[test]
#[ignore = "the other end of the tests below"]
fn child() {
    let (Ok(directory), Ok(change)) = (std::env::var(DIRECTORY), std::env::var(CHANGE)) else { return };
    let change = Change::ALL.into_iter().find(|one| format!("{one:?}") == change).unwrap();
    change.run(&load(Path::new(&directory)));
}

/// Runs `change` in a child whose `n`-th call that changes the disk meets `fault`. Returns whether it got that far.
fn run_with(directory: &Path, change: Change, fault: &str, n: u32) -> bool {
    let log = directory.join("strace.log");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-e", &format!("trace={CALLS}"), "-e", "signal=none"])
        .args(["-e", &format!("inject={CALLS}:{fault}:when={n}"), "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--quiet"])
        .env(DIRECTORY, directory)
        .env(CHANGE, format!("{change:?}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("strace runs (Debian package strace; tracing a process takes root)");
    let log = std::fs::read_to_string(&log).unwrap();
    if fault.starts_with("signal") {
        return status.signal().is_some() || status.code() == Some(128 + 9);
    }
    assert!(status.success(), "{change:?}, {fault} at {n}: the process failed");
    log.contains("(INJECTED)")
}

/// Meets each step in turn with `fault`, until there is none left.
fn at_every_step(fault: &str) {
    for change in Change::ALL {
        let mut steps = 0;
        for n in 1..MANY {
            let directory = tempfile::tempdir().unwrap();
            prepare(directory.path());
            let met = run_with(directory.path(), change, fault, n);
            assert_sound(directory.path(), change, &format!("{fault} at step {n}"));
            if !met {
                break;
            }
            steps = n;
        }
        println!("{change:?}: {fault} at each of {steps} steps");
        assert!((8..MANY - 1).contains(&steps), "{change:?}: {steps} steps met {fault}");
    }
}

#[test]
fn killed_at_every_step() {
    at_every_step("signal=KILL");
}

#[test]
fn the_disk_fails_at_every_step() {
    at_every_step("error=EIO");
}

#[test]
fn the_disk_is_full_at_every_step() {
    at_every_step("error=ENOSPC");
}

#[test]
fn a_disk_that_is_really_full() {
    let thread = std::thread::spawn(|| {
        // The mounts of this thread only, and they go with it.
        let place = tmpfs("256k");
        let mut refused = 0;
        for change in Change::ALL {
            for free in 0..12 {
                let place = tempfile::tempdir_in(place.path()).unwrap();
                prepare(place.path());
                let filler = place.path().join("filler");
                fill(&filler, free);
                change.run(&load(place.path()));
                let done = load(place.path()).current().map(|bundle| bundle.config().seq);
                refused += u32::from(done != Some(change.outcome()));
                std::fs::remove_file(&filler).unwrap();
                assert_sound(place.path(), change, &format!("{free} pages free"));
            }
        }
        assert!(refused > 0, "it was never full");
    });
    thread.join().unwrap();
}

/// A mount namespace of its own for the calling thread, and a tmpfs of `size` in it. Both go with the thread.
fn tmpfs(size: &str) -> Tmpfs {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of its own takes root");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let place = tempfile::tempdir().unwrap();
    let options = format!("size={size},mode=0700");
    mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    Tmpfs(place)
}

struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Otherwise the folder below it stays behind.
        let _ = nix::mount::umount2(self.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn logs_on_a_disk_that_is_full_for_a_while() {
    let thread = std::thread::spawn(|| {
        let place = tmpfs("2m");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stamp = || Stamp {
            edge: Uuid::nil(),
            boot: Uuid::nil(),
            time_ns: 1,
            monotonic_ns: 1,
            clock_synced: true,
        };
        let spool = Spool::open(place.path().join("spool"), Uuid::nil(), MIN_QUOTA, Box::new(stamp)).unwrap();
        let append = |text: String| {
            let appended = runtime.block_on(spool.append(Draft::new(Stream::Audit, "test", text)));
            appended.map_err(|error| error.to_string())
        };
        let filler = place.path().join("filler");
        let mut taken = Vec::new();
        for round in 0..3 {
            taken.push(append(format!("before {round}")).unwrap());
            fill(&filler, 2);
            // Whoever asks is told, and what was told before stands.
            let refused = (0..9).find_map(|_| append("x".repeat(8000)).map(|seq| taken.push(seq)).err());
            assert!(refused.as_ref().is_some_and(|text| text.contains("cannot write")), "{refused:?}");
            std::fs::remove_file(&filler).unwrap();
            taken.push(append(format!("after {round}")).unwrap());
        }
        let records = spool.unsent(Stream::Audit).unwrap();
        assert_eq!(
            records.iter().map(|record| record.seq).collect::<Vec<_>>(),
            taken,
            "all that was acknowledged"
        );
        assert!(records.windows(2).all(|pair| pair[1].previous == pair[0].hash()), "one chain");
        assert_eq!(spool.usage().damaged, 0);
    });
    thread.join().unwrap();
}

/// Leaves `free` pages of the file system of `path`.
fn fill(path: &Path, free: usize) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    let mut pages = 0_u64;
    while file.write_all(&[1; 4096]).is_ok() {
        pages += 1;
    }
    file.set_len((pages.saturating_sub(free as u64)) * 4096).unwrap();
}
