//! The agent's timekeeping against real time servers (chronyd), in namespaces of their own. The clock that is set is a
//! number of the test's; the machine's is only read. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own way to fail")]

use edge_agent::clock::{Clock, wall_ns};
use edge_agent::time::{TimeInfo, Timekeeper, Wall};
use edge_agent_core::clock::TrustMode;
use edge_agent_core::journal::Draft;
use lab::{Namespace, Process, Run, wait};
use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

const SOON: Duration = Duration::from_secs(60);
const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;

/// A clock that is off by some nanoseconds, and can be set.
#[derive(Clone, Default)]
struct Watch {
    off: Arc<AtomicI64>,
    slewed: Arc<AtomicI64>,
}

impl Watch {
    fn off_by(ns: i64) -> Self {
        Self { off: Arc::new(AtomicI64::new(ns)), ..Self::default() }
    }

    fn off(&self) -> i64 {
        self.off.load(Ordering::SeqCst)
    }

    fn is_right(&self) -> bool {
        self.off().abs() < SECOND / 10
    }
}

impl Wall for Watch {
    fn now_ns(&self) -> i64 {
        wall_ns() + self.off()
    }

    fn step(&self, by_ns: i64) -> io::Result<()> {
        self.off.fetch_add(by_ns, Ordering::SeqCst);
        Ok(())
    }

    fn slew(&self, by_ns: i64, _: Duration, _: Duration) -> io::Result<()> {
        self.slewed.fetch_add(1, Ordering::SeqCst);
        self.step(by_ns)
    }
}

/// A namespace of servers and one of a box, with a line between them.
struct Scene {
    servers: Namespace,
    edge: Namespace,
    clock: Arc<Clock>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(run: &Run) -> Self {
        let (servers, edge) = (run.namespace("servers").unwrap(), run.namespace("edge").unwrap());
        edge.connect("p0", &servers, "far").unwrap();
        edge.address("p0", &["192.0.2.9/24"]).unwrap();
        let addresses: Vec<String> = (1..=4).map(|host| format!("192.0.2.{host}/24")).collect();
        servers.address("far", &addresses.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(Clock::load(TrustMode::Auto, directory.path().join("clock.json")));
        Self { servers, edge, clock, directory }
    }

    /// A server at 192.0.2.`host` whose clock is `ahead` seconds ahead, and which does not touch the machine's.
    fn serve(&self, host: u8, ahead: i64) -> Process {
        let run = self.servers.run();
        let name = format!("chronyd-{host}");
        let config = run.dir().join(format!("{name}.conf"));
        let pid = self.directory.path().join(format!("{name}.pid"));
        let text = format!(
            "local stratum 3\nallow all\nbindaddress 192.0.2.{host}\ncmdport 0\nbindcmdaddress /\npidfile {}\n",
            pid.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = self.servers.command("chronyd");
        command.args(["-x", "-d", "-u", "root", "-f"]).arg(&config);
        if ahead != 0 {
            command.env("LD_PRELOAD", faketime()).env("FAKETIME", format!("{ahead:+}s"));
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        let mut process = run.start_process(&name, command).unwrap();
        process.wait_for_log("chronyd version", SOON).unwrap();
        process
    }

    fn keep(&self, watch: &Watch, hosts: &[u8]) -> Keeper {
        let servers = hosts.iter().map(|host| format!("192.0.2.{host}").parse().unwrap()).collect();
        let keeper = Arc::new(Timekeeper::new(self.clock.clone(), Box::new(watch.clone()), true, servers));
        let (stop, stopped) = oneshot::channel::<()>();
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (inside, kept, taken) = (self.edge.clone(), keeper.clone(), notes.clone());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let note = |draft: Draft| taken.lock().unwrap().push(draft.event);
            runtime.block_on(async {
                tokio::select! { () = kept.run(Vec::new, note) => {}, _ = stopped => {} }
            });
        };
        let thread = std::thread::spawn(move || inside.enter(work).unwrap());
        Keeper { keeper, notes, stop: Some(stop), thread: Some(thread) }
    }
}

/// The library that gives a process a clock of its own, in the folder of the architecture.
fn faketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    paths.find(|path| path.is_file()).unwrap()
}

struct Keeper {
    keeper: Arc<Timekeeper>,
    notes: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    fn info(&self, what: &str, fits: impl Fn(&TimeInfo) -> bool) -> TimeInfo {
        wait::for_value(what, SOON, || Ok(Some(self.keeper.info()).filter(&fits)))
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.keeper.info()))
    }

    fn noted(&self, event: &str) -> usize {
        self.notes.lock().unwrap().iter().filter(|one| *one == event).count()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn agreeing(info: &TimeInfo) -> Vec<bool> {
    info.servers.iter().map(|server| server.agrees).collect()
}

#[test]
fn a_liar_and_a_silent_server_lead_nobody_astray() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    // Nobody listens on the fourth, and its silence is not even an ICMP error.
    scene
        .edge
        .nft("table inet t { chain o { type filter hook output priority 0; ip daddr 192.0.2.4 drop; }\n}")
        .unwrap();
    let _servers = [scene.serve(1, 0), scene.serve(2, 3600), scene.serve(3, 0)];
    // A box without a battery: it wakes up in 1970, is at the floor at once, and right as soon as servers answer.
    let watch = Watch::off_by(-wall_ns());
    let keeper = scene.keep(&watch, &[1, 2, 3, 4]);
    wait::until("the clock to be right", SOON, || watch.is_right()).unwrap();
    let info = keeper.info("the outcome", |info| info.offset_ns.is_some());
    assert_eq!(agreeing(&info), [true, false, true, false], "{info:?}");
    let (liar, silent) = (&info.servers[1], &info.servers[3]);
    assert!((liar.offset_ns.unwrap() - info.offset_ns.unwrap() - HOUR).abs() < SECOND, "{liar:?}");
    assert!(silent.failure.is_some() && silent.offset_ns.is_none(), "{silent:?}");
    assert_eq!(keeper.keeper.doubt(), None);
    wait::until("records", SOON, || keeper.noted("clock.set") == 2).unwrap();
    let last = info.last_set.unwrap();
    assert_eq!((last.source.as_str(), last.step), ("servers", true));
    assert_eq!(watch.slewed.load(Ordering::SeqCst), 1, "from then on it counts as synchronised");
}

#[test]
fn without_a_majority_the_clock_stays_until_the_center_speaks() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    let _servers = [scene.serve(1, 0), scene.serve(2, 3600)];
    let watch = Watch::off_by(-HOUR);
    let keeper = scene.keep(&watch, &[1, 2]);
    let info = keeper.info("the outcome", |info| info.doubt.is_some());
    assert_eq!(agreeing(&info), [false, false]);
    assert!(info.doubt.unwrap().contains("no majority"));
    assert!(keeper.keeper.doubt().is_some(), "a condition");
    assert_eq!(watch.off(), -HOUR, "neither of the two is believed");
    scene.clock.heard_center(wall_ns() / SECOND);
    wait::until("the center's time", SOON, || watch.off().abs() < 3 * SECOND).unwrap();
    assert_eq!(keeper.info("who set it", |info| info.last_set.is_some()).last_set.unwrap().source, "center");
}

#[test]
fn servers_that_all_lie_do_not_win_against_the_center() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    let servers = [scene.serve(1, -3600), scene.serve(2, -3600), scene.serve(3, -3600)];
    scene.clock.heard_center(wall_ns() / SECOND);
    let watch = Watch::default();
    let keeper = scene.keep(&watch, &[1, 2, 3]);
    let info = keeper.info("the outcome", |info| info.doubt.is_some());
    assert_eq!(agreeing(&info), [true; 3]);
    let doubt = info.doubt.unwrap();
    let behind: i64 = doubt.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(doubt.contains("s behind the center") && (3590..=3610).contains(&behind), "{doubt}");
    assert!(watch.is_right(), "{}", watch.off());

    wait::until("a record of it", SOON, || keeper.noted("clock.servers.lost") == 1).unwrap();
    drop(keeper);

    // They are put right, and the box takes their word.
    drop(servers);
    let _servers = [scene.serve(1, 0), scene.serve(2, 0), scene.serve(3, 0)];
    let keeper = scene.keep(&watch, &[1, 2, 3]);
    let info = keeper.info("their word", |info| info.offset_ns.is_some());
    assert_eq!((info.doubt, keeper.noted("clock.servers.lost")), (None, 0));
}

#[test]
fn the_question_goes_past_the_tunnel() {
    let run = Run::start().unwrap();
    let scene = Scene::new(&run);
    let elsewhere = run.namespace("tunnel").unwrap();
    scene.edge.connect("tun", &elsewhere, "far").unwrap();
    elsewhere.address("far", &["192.0.2.1/32", "10.8.0.2/24"]).unwrap();
    scene.edge.address("tun", &["10.8.0.1/24"]).unwrap();
    // The clients' side has the servers' address as well, and the box a route to it into the tunnel. What bears the
    // mark goes by the uplinks, as on a box.
    for line in [
        "route add 192.0.2.1/32 via 10.8.0.2 dev tun",
        "route add 192.0.2.0/24 dev p0 table 1190",
        "rule add fwmark 0x77000000 lookup 1190 priority 1300",
    ] {
        scene.edge.ip(line).unwrap();
    }
    let inside = elsewhere.enter(|| UdpSocket::bind("192.0.2.1:123").unwrap()).unwrap();
    inside.set_nonblocking(true).unwrap();
    let probe =
        scene.edge.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"x", "192.0.2.1:123")).unwrap();
    probe.unwrap();
    wait::until("what bears no mark, in the tunnel", SOON, || inside.recv(&mut [0; 64]).is_ok()).unwrap();
    let _server = scene.serve(1, 0);
    let watch = Watch::off_by(HOUR);
    let _keeper = scene.keep(&watch, &[1]);
    wait::until("the time", SOON, || watch.is_right()).unwrap();
    assert!(inside.recv(&mut [0; 64]).is_err(), "a question went into the tunnel");
}
