//! The hardware watchdog is fed while the workers of a real tunnel take their turns, and only then. A FIFO stands for the
//! device: what is written can be read. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use edge_agent::watchdog::Watchdog;
use edge_agent_core::journal::Draft;
use edge_agent_core::watchdog::Limits;
use lab::{Namespace, Process, Run, wait, workspace};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

const QUICK: Limits = Limits {
    every: Duration::from_millis(300),
    patience: Duration::from_secs(1),
    grace: Duration::from_secs(2),
    start: Duration::from_secs(30),
    well: Duration::from_secs(600),
};

fn tunnel(place: &Namespace, socket: &Path) -> Process {
    let mut command = place.command(workspace::binary("edge-tunnel").unwrap());
    command
        .arg("-f")
        .arg("--control")
        .arg(socket)
        .args(["--workers", "2"])
        .arg(place.run().interface("edge"));
    let mut tunnel = place.run().start_process("edge-tunnel", command).unwrap();
    wait::until("the tunnel", SOON, || {
        tunnel.must_run().unwrap();
        std::os::unix::net::UnixStream::connect(socket).is_ok()
    })
    .unwrap();
    tunnel
}

/// The thread of this name.
fn thread(process: &Process, name: &str) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let is_it =
        |task: &PathBuf| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let task = tasks.flatten().map(|task| task.path()).find(is_it).unwrap();
    task.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_tunnel_that_answers_and_does_not_forward_starves_the_watchdog() {
    let run = Run::start().unwrap();
    let place = run.namespace("edge").unwrap();
    let (socket, device, past) =
        (run.dir().join("tunnel.sock"), run.dir().join("watchdog"), run.dir().join("watchdog.json"));
    mkfifo(&device, Mode::from_bits_truncate(0o600)).unwrap();
    let mut food =
        File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&device).unwrap();
    let mut eaten = move || food.read(&mut [0; 4096]).unwrap_or(0);
    let tunnel = tunnel(&place, &socket);
    let watchdog = Arc::new(Watchdog::open(Some(&device), Duration::from_secs(60), past.clone()));
    let events = Arc::new(Mutex::new(Vec::new()));
    let (kept, taken, asked) = (watchdog.clone(), events.clone(), socket.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(kept.run(QUICK, &asked, |draft: Draft| taken.lock().unwrap().push(draft.event)));
    });
    wait::until("food", SOON, || eaten() > 0).unwrap();
    assert_eq!((watchdog.is_fed(), watchdog.stuck()), (Some(true), None));

    // One worker does not come back from its next system call. The process is alive, its control socket answers.
    let mut command = std::process::Command::new("strace");
    command.args([
        "-q",
        "-o",
        "/dev/null",
        "-e",
        "inject=all:delay_enter=600s",
        "-p",
        &thread(&tunnel, "worker-1"),
    ]);
    let mut tracer = run.start_process("strace", command).unwrap();
    wait::until("the end of feeding", SOON, || watchdog.is_fed() == Some(false)).unwrap();
    eaten();
    std::thread::sleep(QUICK.every * 4);
    assert_eq!(eaten(), 0, "not fed");
    let ask = |command| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(edge_agent::control::ask(&socket, command)).is_ok()
    };
    assert!(ask(verona_contract::control::Command::Status), "it answers all the same");
    assert!(watchdog.stuck().unwrap().contains("no turn"), "{:?}", watchdog.stuck());
    assert_eq!(*events.lock().unwrap(), ["watchdog.starved"]);
    assert_eq!(std::fs::read_to_string(&past).unwrap(), "{\"restarts\":1}");

    tracer.crash().unwrap();
    wait::until("food again", SOON, || eaten() > 0 && watchdog.is_fed() == Some(true)).unwrap();
    drop(tunnel);
    wait::until("the end of feeding without a tunnel", SOON, || watchdog.is_fed() == Some(false)).unwrap();
}

#[test]
fn a_box_without_a_watchdog_runs_without() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("none");
    let watchdog = Watchdog::open(Some(&nowhere), Duration::from_secs(60), directory.path().join("past"));
    assert_eq!(watchdog.is_fed(), None);
}
