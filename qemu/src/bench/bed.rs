//! The networks of the benchmark: two ends, a third that looks on, and a crowd, joined by virtual wires.
//!
//! ```text
//!   sender 192.0.2.1 ── wire ── 192.0.2.2 receiver 198.51.100.2 ── wire ── 198.51.100.1 onlooker
//!   10.200.0.1          (tunnel)      10.200.0.2        (tunnel)                    10.200.0.3
//!                                   203.0.113.2 ── wire ── 203.0.113.1 crowd: other clients, attackers
//! ```
//!
//! The wires are left as the kernel makes them: frames of many segments cross them whole, so that what is
//! measured is the tunnel and not the wire.

use super::implementation::Program;
use super::load;
use lab::parts::StockClient;
use lab::relay::{self, Line};
use lab::{Namespace, Process, Result, Run, wait};
use nix::unistd::Pid;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

/// Outer addresses.
pub(super) const RECEIVER: &str = "192.0.2.2";
/// Addresses in the tunnel.
pub(super) const RECEIVER_INSIDE: &str = "10.200.0.2";
const PORT: u16 = 51820;
const LINE_PORT: u16 = PORT + 1;
/// The bad line: 10 ms ± 1 ms each way, one datagram of a thousand lost.
const LINE: Line =
    Line { delay: Duration::from_millis(10), jitter: Duration::from_millis(1), loss_per_mille: 1.0 };

/// Namespaces and wires.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) sender: Namespace,
    pub(super) receiver: Namespace,
    pub(super) onlooker: Namespace,
    pub(super) crowd: Namespace,
}

/// A key pair as `wg` writes it.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) private: String,
    pub(super) public: String,
}

/// Daemons at both ends, and later the onlooker's.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) sender: StockClient,
    pub(super) receiver: StockClient,
    onlooker: StockClient,
    line: Option<Process>,
    crowd: Option<Process>,
}

/// What a tunnel is built for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// The sender reaches the receiver over [`LINE`].
    pub(super) bad_line: bool,
    /// The receiver admits certified peers only, and has so many others.
    pub(super) others: Option<u32>,
}

impl Tunnel {
    /// What else runs for it than the two daemons measured.
    pub(super) fn others(&self) -> Vec<Pid> {
        [&self.onlooker.process].into_iter().chain(&self.line).chain(&self.crowd).map(Process::pid).collect()
    }
}

impl Bed {
    pub(super) fn build(run: &Run) -> Result<Self> {
        let (sender, receiver) = (run.namespace("sender")?, run.namespace("receiver")?);
        let (onlooker, crowd) = (run.namespace("onlooker")?, run.namespace("crowd")?);
        wire(&sender, "wire", &receiver, "wire")?;
        wire(&onlooker, "wire", &receiver, "side")?;
        sender.address("wire", &["192.0.2.1/24"])?;
        receiver.address("wire", &["192.0.2.2/24"])?;
        receiver.address("side", &["198.51.100.2/24"])?;
        onlooker.address("wire", &["198.51.100.1/24"])?;
        wire(&crowd, "wire", &receiver, "crowd")?;
        receiver.address("crowd", &["203.0.113.2/24"])?;
        crowd.address("wire", &["203.0.113.1/24"])?;
        for network in load::CROWD_NETWORKS {
            crowd.ip(&format!("route replace local {network} dev lo"))?;
            receiver.ip(&format!("route replace {network} via 203.0.113.1"))?;
        }
        for place in [&sender, &receiver, &onlooker] {
            // One run must not teach the next one its window.
            place.sysctl("net/ipv4/tcp_no_metrics_save", "1")?;
        }
        Ok(Self { sender, receiver, onlooker, crowd })
    }

    /// Starts `program` at all three places and waits until the tunnels carry packets.
    pub(super) fn tunnel(&self, program: &Program, wanted: Wanted) -> Result<Tunnel> {
        let line = wanted.bad_line.then(|| self.bad_line()).transpose()?;
        let port = if wanted.bad_line { LINE_PORT } else { PORT };
        let endpoints = [format!("{RECEIVER}:{port}"), format!("198.51.100.2:{PORT}")];
        let (receiver, [sends, looks_on]) = match wanted.others {
            None => self.configured(program, &endpoints)?,
            Some(_) => self.certified(program, &endpoints)?,
        };
        let sender = start(&self.sender, "tx", program, &sends)?;
        let onlooker = start(&self.onlooker, "look", &program.undisturbed(), &looks_on)?;
        answers(&self.sender, RECEIVER_INSIDE)?;
        answers(&self.onlooker, RECEIVER_INSIDE)?;
        let others = wanted.others.filter(|others| *others > 0);
        let crowd = others.map(|others| load::crowd(self, others)).transpose()?;
        Ok(Tunnel { sender, receiver, onlooker, line, crowd })
    }

    /// A receiver with two configured peers, and their configurations.
    fn configured(&self, program: &Program, endpoints: &[String; 2]) -> Result<(StockClient, [String; 2])> {
        let (ours, theirs) = (Keys::generate(&self.sender)?, Keys::generate(&self.receiver)?);
        let looks_on = Keys::generate(&self.onlooker)?;
        let config = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\nAddress = {RECEIVER_INSIDE}/24\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 10.200.0.1/32\n\
             [Peer]\nPublicKey = {}\nAllowedIPs = 10.200.0.3/32\n",
            theirs.private, ours.public, looks_on.public
        );
        let client = |keys: &Keys, address: &str, endpoint: &str| {
            format!(
                "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\nAddress = {address}/24\n\
                 [Peer]\nPublicKey = {}\nAllowedIPs = {RECEIVER_INSIDE}/32\nEndpoint = {endpoint}\n",
                keys.private, theirs.public
            )
        };
        let clients =
            [client(&ours, "10.200.0.1", &endpoints[0]), client(&looks_on, "10.200.0.3", &endpoints[1])];
        Ok((start(&self.receiver, "rx", program, &config)?, clients))
    }

    /// A receiver with an owner's policy, and the configurations of two stock clients of that owner.
    fn certified(&self, program: &Program, endpoints: &[String; 2]) -> Result<(StockClient, [String; 2])> {
        let control = self.receiver.run().dir().join("rx.sock");
        let mut program = program.clone();
        program.options.extend(["--control".to_owned(), control.to_string_lossy().into_owned()]);
        let config = format!("[Interface]\nAddress = {RECEIVER_INSIDE}/24\n");
        let receiver = start(&self.receiver, "rx", &program, &config)?;
        self.receiver.ip(&format!("route replace {} dev {}", load::CROWD_INSIDE, receiver.interface()))?;
        load::admit(&self.receiver, &control)?;
        let client = |number: usize| load::stock_config(&self.sender, number, &endpoints[number]);
        Ok((receiver, [client(0)?, client(1)?]))
    }

    /// The line's near end is in the receiver's namespace, its far end the receiver's daemon by loopback.
    fn bad_line(&self) -> Result<Process> {
        let near = (Ipv4Addr::new(192, 0, 2, 2), LINE_PORT);
        relay::start(&self.receiver, "line", near.into(), (Ipv4Addr::LOCALHOST, PORT).into(), LINE)
    }
}

impl Keys {
    pub(super) fn generate(place: &Namespace) -> Result<Self> {
        let private = place.output("wg", &["genkey"])?.trim().to_owned();
        let doing = || "run wg pubkey";
        let mut child = place
            .command("wg")
            .arg("pubkey")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(lab::Error::io(doing()))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(private.as_bytes()).map_err(lab::Error::io(doing()))?;
        }
        let output = child.wait_with_output().map_err(lab::Error::io(doing()))?;
        Ok(Self { private, public: String::from_utf8_lossy(&output.stdout).trim().to_owned() })
    }
}

/// Starts a daemon with `config`.
pub(super) fn start(place: &Namespace, name: &str, program: &Program, config: &str) -> Result<StockClient> {
    let options: Vec<&str> = program.options.iter().map(String::as_str).collect();
    StockClient::start(place, name, program.path.as_os_str(), &options, config)
}

/// Waits for the first answer to a ping.
pub(super) fn answers(place: &Namespace, to: &str) -> Result<()> {
    wait::for_value(&format!("an answer of {to}"), Duration::from_secs(20), || {
        Ok(place.output("ping", &["-n", "-c", "1", "-W", "1", to]).ok().map(drop))
    })
}

fn wire(one: &Namespace, ours: &str, other: &Namespace, theirs: &str) -> Result<()> {
    one.ip(&format!("link add name {ours} type veth peer name {theirs} netns {}", other.name()))?;
    one.ip(&format!("link set dev {ours} mtu 1500 up"))?;
    other.ip(&format!("link set dev {theirs} mtu 1500 up"))
}
