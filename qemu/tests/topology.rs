//! The lab's own promises: everybody reaches whom he should, and nothing stays behind.

#![allow(clippy::unwrap_used, reason = "a test's own way to fail")]

use lab::{ClientPlan, Download, Flow, Impairment, Plan, Run, Topology, Wiretap, address, alone, wait};
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

#[test]
fn traffic_is_counted_and_a_cut_line_is_seen() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &plan()).unwrap();
    let client = &net.client("home").unwrap().host;
    let to = (address::EDGE, 4000).into();

    let flow = Flow::start(client, &net.edge, to, Duration::from_millis(2)).unwrap();
    wait::until("50 datagrams", Duration::from_secs(5), || flow.balance().arrivals.count >= 50).unwrap();
    let clean = flow.finish(Duration::from_secs(1));
    assert_eq!(clean.lost(), 0, "{clean:?}");

    let flow = Flow::start(client, &net.edge, to, Duration::from_millis(2)).unwrap();
    wait::until("50 datagrams", Duration::from_secs(5), || flow.balance().arrivals.count >= 50).unwrap();
    net.internet.impair("edge", Impairment::Loss { percent: 100 }).unwrap();
    let sent = flow.balance().sent;
    wait::until("50 lost", Duration::from_secs(5), || flow.balance().sent >= sent + 50).unwrap();
    net.internet.impair("edge", Impairment::Loss { percent: 0 }).unwrap();
    let received = flow.balance().arrivals.count;
    wait::until("traffic again", Duration::from_secs(5), || flow.balance().arrivals.count > received)
        .unwrap();
    let cut = flow.finish(Duration::from_millis(200));
    assert!(cut.lost() >= 50, "{cut:?}");
    assert!(cut.arrivals.longest_gap >= Duration::from_millis(90), "{cut:?}");
}

#[test]
fn a_download_arrives_piece_by_piece() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &plan()).unwrap();
    let server = std::net::SocketAddr::from((address::LAN_HOST, 80));
    let web = lab::web::start(&net.lan, server).unwrap();
    lab::web::fetch(&net.edge, server).unwrap();

    let download = Download::start(&net.edge, server).unwrap();
    wait::until("a piece", Duration::from_secs(5), || download.arrivals().octets > 10_000).unwrap();
    drop(web);
    let last = download.arrivals().last.unwrap();
    wait::until("silence", Duration::from_secs(1), || last.elapsed() > Duration::from_millis(100)).unwrap();
    assert_eq!(download.arrivals().last, Some(last));
}

#[test]
fn a_wiretap_sees_handshake_messages_once_and_no_transport() {
    let _turn = alone().unwrap();
    let run = Run::start().unwrap();
    let net = Topology::build(&run, &plan()).unwrap();
    let tap = Wiretap::start(&net.internet).unwrap();
    for (client, to) in [("open", address::EDGE.into()), ("home", IpAddr::from(address::EDGE_V6))] {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket =
            net.client(client).unwrap().host.enter(|| std::net::UdpSocket::bind(any).unwrap()).unwrap();
        for kind in [1_u8, 4, 0x10] {
            socket.send_to(&[kind, 0, 0, 0, 9], (to, 51820)).unwrap();
        }
    }
    wait::until("four messages", Duration::from_secs(5), || tap.datagrams().len() >= 4).unwrap();

    let seen: Vec<_> = tap.datagrams().iter().map(|d| (d.from.ip().to_string(), d.kind())).collect();
    let expected = [("192.0.2.2", 1), ("192.0.2.2", 16), ("2001:db8:c:1::2", 1), ("2001:db8:c:1::2", 16)];
    assert_eq!(seen, expected.map(|(from, kind)| (from.to_owned(), kind)));
    assert_eq!(tap.datagrams()[0].payload, [1, 0, 0, 0, 9]);
}
