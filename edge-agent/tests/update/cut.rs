//! Downloads and disks that end in the middle.

use super::bench::{Bench, Build, V1, V2};
use edge_agent::update::Pass;
use edge_agent_core::update::Slot;
use edge_agent_core::update::trial::{Record, Stage};
use lab::wait;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

/// Names the bench's folder to a process that this test starts of itself.
const FOLDER: &str = "VERONA_TEST_UPDATE_IN";

const LIMIT: Duration = Duration::from_secs(60);

/// Not a test by itself: the agent of another test's bench, in a process that can be killed. One pass.
#[tokio::test]
#[ignore = "started by other tests, as a process of its own"]
async fn agent_process() {
    let folder = std::env::var_os(FOLDER).unwrap();
    let bench = Bench::of(Path::new(&folder));
    match bench.agent(Slot::A, V1).pass().await {
        Ok(pass) => println!("came to {pass:?}"),
        Err(error) => println!("failed: {}", edge_agent::center::chain(&error)),
    }
}

/// Starts [`agent_process`] after `prefix`, a command that runs its arguments.
fn start(bench: &Bench, prefix: &[&str]) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<&str> = prefix.to_vec();
    words.extend(["setpriv", "--pdeathsig", "KILL", own.to_str().unwrap()]);
    words.extend(["--exact", "cut::agent_process", "--ignored", "--nocapture"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(FOLDER, bench.folder()).stdout(std::process::Stdio::piped());
    command.process_group(0).spawn().unwrap()
}

fn record(bench: &Bench) -> Option<Record> {
    serde_json::from_slice(&fs::read(bench.path("state/record.json")).ok()?).ok()
}

#[tokio::test]
async fn a_download_goes_on_where_the_agent_was_killed() {
    let bench = Bench::new();
    let build = Build::new(bench.folder(), 3, 30 << 20);
    bench.publish_build(V2, &build, &[]).unwrap();
    bench.want(V2);
    bench.save_wish();
    let mut child = start(&bench, &[]);
    let begun = || match record(&bench)?.attempt?.stage {
        Stage::Writing { root, kernel: 0 } if root > 0 => Some(root),
        _ => None,
    };
    let done = wait::for_value("eight MiB", LIMIT, || Ok(begun())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.power_on(), Slot::A);
    assert!(done < build.root.len() as u64, "killed too late");
    // What was fetched is not fetched again: the server would give something else now.
    let served = bench.served(".root");
    let mut octets = fs::read(&served).unwrap();
    octets[..4 << 20].fill(0);
    fs::write(&served, octets).unwrap();
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert!(bench.root_is(Slot::B, &build.root));
    assert_eq!(bench.power_on(), Slot::B);
}

#[tokio::test]
async fn a_full_data_partition_installs_nothing_and_says_so() {
    let bench = Bench::new();
    bench.publish(V2);
    bench.want(V2);
    bench.save_wish();
    // In a mount namespace of its own, which ends with the process.
    let state = bench.path("state");
    let mount = format!("mount -t tmpfs -o size=16k tmpfs {} && exec \"$@\"", state.display());
    let child = start(&bench, &["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"]);
    let output = child.wait_with_output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout);
    assert!(output.contains("failed: ") && output.contains("No space left on device"), "{output}");
    assert_eq!(bench.power_on(), Slot::A);
    // With room again it goes on.
    assert_eq!(bench.agent(Slot::A, V1).pass().await.unwrap(), Pass::Restarting);
    assert_eq!(bench.power_on(), Slot::B);
}
