//! The lab's own promises: everybody reaches whom he should, and nothing stays behind.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::{ClientPlan, Plan, Run, Topology, address, alone, wait};
use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

fn plan() -> Plan {
    Plan { clients: vec![ClientPlan { name: "open", nat: false }, ClientPlan { name: "home", nat: true }] }
}

/// Whether `from` reaches a listener of `at` at `to`, and as whom it is seen there.
fn seen_as(from: &lab::Namespace, at: &lab::Namespace, to: IpAddr) -> IpAddr {
    let listener = at.enter(|| TcpListener::bind((to, 0)).unwrap()).unwrap();
    let target = listener.local_addr().unwrap();
    from.enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(3)).unwrap()).unwrap();
    listener.accept().unwrap().1.ip()
}

#[test]
fn clients_reach_the_edge_and_only_nat_changes_their_address() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &plan()).unwrap();
    let (open, home) = (&net.client("open").unwrap().host, &net.client("home").unwrap().host);

    assert_eq!(seen_as(open, &net.edge, address::EDGE.into()).to_string(), "192.0.2.2");
    assert_eq!(seen_as(home, &net.edge, address::EDGE.into()).to_string(), "192.0.2.6");
    assert_eq!(seen_as(open, &net.edge, address::EDGE_V6.into()).to_string(), "2001:db8:c::2");
    assert_eq!(seen_as(home, &net.edge, address::EDGE_V6.into()).to_string(), "2001:db8:c:1::2");
    assert_eq!(seen_as(&net.edge, &net.lan, address::LAN_HOST.into()).to_string(), "192.168.77.1");
    assert_eq!(seen_as(&net.edge, &net.center, address::CENTER.into()).to_string(), "203.0.113.2");
}

#[test]
fn a_dropped_run_leaves_no_namespace_no_process_and_no_file() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &plan()).unwrap();
    let mut command = net.lan.command("sleep");
    command.arg("600");
    let process = run.start_process("sleeper", command).unwrap();
    let (pid, id, dir) = (process.pid(), run.id().to_owned(), run.dir().to_owned());
    // A daemon: nobody holds it as a child.
    net.lan.output("sh", &["-c", "sleep 601 >/dev/null 2>&1 &"]).unwrap();
    drop((process, net, run));

    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
    let left: Vec<_> = std::fs::read_dir("/run/netns")
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(&format!("-{id}-")))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_panic_takes_the_run_down() {
    let _turn = alone().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let run = Run::start().unwrap();
        let namespace = run.namespace("short").unwrap();
        sender.send((namespace.name().to_owned(), run.dir().to_owned())).unwrap();
        panic!("as a failing test would");
    })
    .join();
    assert!(panicked.is_err());
    let (name, dir) = receiver.recv().unwrap();
    assert!(!std::path::Path::new("/run/netns").join(name).exists());
    assert!(!dir.exists());
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next_and_a_live_run_is_not() {
    let _turn = alone().unwrap();
    let live = Run::start().unwrap();
    let live_namespace = live.namespace("live").unwrap();
    // What SIGKILL leaves: a directory whose lock nobody holds, a namespace, a process in it.
    let dead = Run::start().unwrap();
    let orphan = dead.namespace("orphan").unwrap();
    let name = orphan.name().to_owned();
    orphan.output("sh", &["-c", "sleep 602 >/dev/null 2>&1 &"]).unwrap();
    let dir = dead.dir().to_owned();
    dead.keep().unwrap();
    drop((orphan, dead));
    std::fs::remove_file(dir.join("kept")).unwrap();
    assert!(std::path::Path::new("/run/netns").join(&name).exists());

    let next = Run::start().unwrap();

    assert!(!std::path::Path::new("/run/netns").join(&name).exists());
    assert!(!dir.exists());
    live_namespace.output("true", &[]).unwrap();
    assert_ne!(next.id(), live.id());
}

#[test]
fn a_process_that_ends_early_is_reported_with_the_end_of_its_log() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let namespace = run.namespace("one").unwrap();
    let mut command = namespace.command("sh");
    command.args(["-c", "echo no such key; exit 3"]);
    let mut process = run.start_process("broken", command).unwrap();

    let error = process.wait_for_log("ready", Duration::from_secs(5)).unwrap_err().to_string();

    assert!(error.contains("broken ended early (exit status: 3)"), "{error}");
    assert!(error.ends_with("no such key"), "{error}");
}

#[test]
fn code_inside_a_namespace_sees_its_network_only() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let namespace = run.namespace("empty").unwrap();
    let interfaces = namespace
        .enter(|| {
            let mut text = String::new();
            std::fs::File::open("/proc/thread-self/net/dev").unwrap().read_to_string(&mut text).unwrap();
            text.lines().skip(2).map(|l| l.split(':').next().unwrap().trim().to_owned()).collect::<Vec<_>>()
        })
        .unwrap();
    assert_eq!(interfaces, ["lo"]);
    wait::until("loopback", Duration::from_secs(1), || {
        namespace.enter(|| TcpListener::bind("127.0.0.1:0").is_ok()).unwrap()
    })
    .unwrap();
}
