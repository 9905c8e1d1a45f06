//! Two namespaces with a cable between them, and a tunnel end in each.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Namespace, Process, Run, wait};

/// Enough for a lost first initiation and its repetition after 5 s, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) const EDGE_TUNNEL: &str = env!("CARGO_BIN_EXE_edge-tunnel");

/// Who implements an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Implementation {
    Ours,
    WireguardGo,
}

impl Implementation {
    fn program(self) -> &'static str {
        match self {
            Self::Ours => EDGE_TUNNEL,
            Self::WireguardGo => "wireguard-go",
        }
    }
}

/// The outer address family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outer {
    V4,
    V6,
}

/// One end of a tunnel: a namespace, an interface in it, a key pair.
pub(crate) struct End {
    pub(crate) place: Namespace,
    pub(crate) interface: String,
    pub(crate) public_key: String,
    pub(crate) key_file: PathBuf,
    pub(crate) port: u16,
    /// Last octet of its addresses, outside and inside.
    number: u8,
}

/// Left and right, connected by a veth pair `eth0`.
pub(crate) struct Pair {
    pub(crate) run: Run,
    pub(crate) left: End,
    pub(crate) right: End,
    psk_file: PathBuf,
}

/// UDP sockets of our tunnel while it is up: one a family for each worker, and a worker a core.
pub(crate) fn sockets_of_ours() -> usize {
    2 * std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

impl Pair {
    /// Lays the cable; no tunnel runs yet.
    pub(crate) fn new() -> Self {
        let pair = Self::apart();
        pair.left.place.connect("eth0", &pair.right.place, "eth0").unwrap();
        for end in [&pair.left, &pair.right] {
            let addresses = [format!("192.0.2.{}/24", end.number), format!("2001:db8::{}/64", end.number)];
            end.place.address("eth0", &addresses.each_ref().map(String::as_str)).unwrap();
        }
        pair
    }

    /// With a router between the two, which has the interfaces `left` and `right`; no tunnel runs yet.
    pub(crate) fn routed() -> (Self, Namespace) {
        let pair = Self::apart();
        let router = pair.run.namespace("router").unwrap();
        router.forward().unwrap();
        for (end, port) in [(&pair.left, "left"), (&pair.right, "right")] {
            end.place.connect("eth0", &router, port).unwrap();
            let (v4, v6) = (format!("192.0.2.{}/32", end.number), format!("2001:db8::{}/128", end.number));
            end.place.address("eth0", &[&v4, &v6]).unwrap();
            router.address(port, &["192.0.2.254/32", "2001:db8::fe/128"]).unwrap();
            router.ip(&format!("route add {v4} dev {port}")).unwrap();
            router.ip(&format!("route add {v6} dev {port}")).unwrap();
            for gateway in ["192.0.2.254", "2001:db8::fe"] {
                end.place.ip(&format!("route add {gateway} dev eth0")).unwrap();
                end.place.ip(&format!("route add default via {gateway} dev eth0")).unwrap();
            }
        }
        (pair, router)
    }

    /// Two ends without a cable.
    fn apart() -> Self {
        let run = Run::start().unwrap();
        let (left, right) = (End::new(&run, "left", 1), End::new(&run, "right", 2));
        let psk_file = secret_file(&run, "psk", &wg_output(&["genpsk"], ""));
        Self { run, left, right, psk_file }
    }

    /// Starts both ends and tells only the left one where the other is, so that it initiates.
    pub(crate) fn start(left: Implementation, right: Implementation, outer: Outer) -> Self {
        let pair = Self::new();
        pair.start_ends(left, right, outer);
        pair
    }

    /// Starts both ends as [`Self::start`] does.
    pub(crate) fn start_ends(&self, left: Implementation, right: Implementation, outer: Outer) {
        self.right.start(right);
        self.configure(&self.right, &self.left, None);
        self.right.bring_up();
        self.left.start(left);
        self.configure(&self.left, &self.right, Some(outer));
        self.left.bring_up();
    }

    /// Gives `end` its key, port and the other as its only peer.
    pub(crate) fn configure(&self, end: &End, other: &End, outer: Option<Outer>) {
        let psk = self.psk_file.to_string_lossy();
        let allowed_ips = format!("{}/32,{}/128", other.inner_v4(), other.inner_v6());
        let (port, key) = (end.port.to_string(), end.key_file.to_string_lossy());
        let mut arguments = vec!["listen-port", &port, "private-key", &key, "peer", &other.public_key];
        arguments.extend(["preshared-key", &psk, "allowed-ips", &allowed_ips]);
        let endpoint = outer.map(|outer| other.endpoint(outer));
        if let Some(endpoint) = &endpoint {
            arguments.extend(["endpoint", endpoint]);
        }
        end.set(&arguments);
    }

    /// Whether packets get through both ways, both families inside.
    pub(crate) fn expect_traffic(&self) {
        self.left.expect_ping(&self.right.inner_v4());
        self.left.expect_ping(&self.right.inner_v6());
    }
}

impl End {
    fn new(run: &Run, name: &str, number: u8) -> Self {
        let key = wg_output(&["genkey"], "");
        Self {
            place: run.namespace(name).unwrap(),
            interface: run.interface(name),
            public_key: wg_output(&["pubkey"], &key),
            key_file: secret_file(run, name, &key),
            port: 51_820,
            number,
        }
    }

    pub(crate) fn inner_v4(&self) -> String {
        format!("10.9.0.{}", self.number)
    }

    pub(crate) fn inner_v6(&self) -> String {
        format!("fd09::{}", self.number)
    }

    pub(crate) fn endpoint(&self, outer: Outer) -> String {
        match outer {
            Outer::V4 => format!("192.0.2.{}:{}", self.number, self.port),
            Outer::V6 => format!("[2001:db8::{}]:{}", self.number, self.port),
        }
    }

    /// Starts the tunnel in the background, as a user does, and returns when the program does.
    pub(crate) fn start(&self, implementation: Implementation) {
        self.place.output(implementation.program(), &[&self.interface]).unwrap();
    }

    /// Starts our tunnel in the foreground and waits until it is ready.
    pub(crate) fn start_foreground(&self, run: &Run) -> Process {
        self.start_with(run, &[])
    }

    /// The same, with further arguments.
    pub(crate) fn start_with(&self, run: &Run, arguments: &[&str]) -> Process {
        let mut command = self.place.command(EDGE_TUNNEL);
        command.arg("--foreground").args(arguments).arg(&self.interface);
        let mut process = run.start_process(&self.interface, command).unwrap();
        process.wait_for_log("is ready", PATIENCE).unwrap();
        process
    }

    pub(crate) fn bring_up(&self) {
        self.bring_up_in(&self.place);
    }

    /// Addresses, routes and "up", with the interface moved to `place` before.
    pub(crate) fn bring_up_in(&self, place: &Namespace) {
        let addresses = [format!("{}/24", self.inner_v4()), format!("{}/64", self.inner_v6())];
        place.address(&self.interface, &addresses.each_ref().map(String::as_str)).unwrap();
        place.ip(&format!("link set {} up", self.interface)).unwrap();
    }

    /// `wg set` with further arguments.
    pub(crate) fn set(&self, arguments: &[&str]) {
        let all: Vec<&str> = ["set", &self.interface].into_iter().chain(arguments.iter().copied()).collect();
        self.place.output("wg", &all).unwrap();
    }

    /// `wg show <interface> <what>`, trimmed.
    pub(crate) fn show(&self, what: &str) -> String {
        self.place.output("wg", &["show", &self.interface, what]).unwrap().trim().to_owned()
    }

    pub(crate) fn ping(&self, to: &str) -> bool {
        self.place.output("ping", &["-n", "-c", "1", "-W", "1", to]).is_ok()
    }

    pub(crate) fn expect_ping(&self, to: &str) {
        wait::until(&format!("an answer of {to} to {}", self.interface), PATIENCE, || self.ping(to)).unwrap();
    }

    pub(crate) fn uapi_socket(&self) -> PathBuf {
        format!("/var/run/wireguard/{}.sock", self.interface).into()
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        format!("/run/verona/tunnel-{}.sock", self.interface).into()
    }

    /// Waits until the interface and both local sockets are gone.
    pub(crate) fn expect_gone(&self) {
        let link = format!("link show {}", self.interface);
        wait::until("interface and sockets to go", PATIENCE, || {
            self.place.ip(&link).is_err() && !self.uapi_socket().exists() && !self.control_socket().exists()
        })
        .unwrap();
    }
}

/// Output of `wg` with `input`, trimmed.
pub(crate) fn wg_output(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("wg");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("wg is not installed (Debian: wireguard-tools)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "wg {arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A file of the run with mode 0600.
pub(crate) fn secret_file(run: &Run, name: &str, content: &str) -> PathBuf {
    let path = run.dir().join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    path
}

/// CPU time that a process has used, user and system.
pub(crate) fn cpu_time(pid: nix::unistd::Pid) -> Duration {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
    // The name may hold spaces; fields 14 and 15 count from 1, the first after the name is 3.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // USER_HZ is 100 on every Linux.
    Duration::from_millis(ticks * 10)
}
