//! An `edge-tunnel` with a policy of the tests' own making: the gate alone, without agent and center.

use crate::pki::Authority;
use edge_tunnel_core::{CrlSet, Engine, Now, VerifiedPolicy};
use lab::{Namespace, Process, wait, workspace};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use verona_contract::base64::Octets;
use verona_contract::config::{CrlPolicy, PskRoot};
use verona_contract::control::{Command, Event, Line, OwnerPolicy, Policy, Reply, Request, Status, VERSION};
use verona_contract::key::Secret;

/// The UDP port of the gate.
pub const PORT: u16 = 51820;

/// A running `edge-tunnel`.
#[derive(Debug)]
pub struct Gate {
    /// The data plane.
    pub process: Process,
    /// Its interface.
    pub interface: String,
    socket: PathBuf,
}

impl Gate {
    /// Starts one in `place`, without addresses on its interface.
    ///
    /// # Panics
    ///
    /// It does not come up.
    #[must_use]
    pub fn start(place: &Namespace, name: &str) -> Self {
        let interface = place.run().interface(name);
        let socket = place.run().dir().join(format!("{name}.sock"));
        let mut command = place.command(workspace::binary("edge-tunnel").unwrap());
        command.arg("-f").arg("--control").arg(&socket).arg(&interface);
        let mut process = place.run().start_process(name, command).unwrap();
        wait::for_value("the control socket", Duration::from_secs(10), || {
            process.must_run()?;
            Ok(UnixStream::connect(&socket).ok())
        })
        .unwrap();
        Self { process, interface, socket }
    }

    /// A connection to its control socket.
    ///
    /// # Panics
    ///
    /// It refuses.
    #[must_use]
    pub fn control(&self) -> Control {
        Control::connect(&self.socket)
    }
}

/// A connection to a control socket.
#[derive(Debug)]
pub struct Control {
    stream: BufReader<UnixStream>,
    id: u64,
    /// Events that came while answers were waited for.
    pub events: Vec<Event>,
}

impl Control {
    /// Connects to the control socket at `path`.
    ///
    /// # Panics
    ///
    /// It refuses.
    #[must_use]
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        let mut control = Self { stream: BufReader::new(stream), id: 0, events: Vec::new() };
        control.ask(Command::Hello { version: VERSION }).unwrap();
        control
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    ///
    /// What the tunnel said against it.
    ///
    /// # Panics
    ///
    /// The connection breaks, or the answer is to something else.
    pub fn ask(&mut self, command: Command) -> Result<Reply, String> {
        self.id += 1;
        let mut line = serde_json::to_vec(&Request { id: self.id, command }).unwrap();
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).unwrap();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            match serde_json::from_str(&line).unwrap() {
                Line::Event(event) => self.events.push(event),
                Line::Response(response) => {
                    assert_eq!(response.id, self.id, "{line}");
                    return response.result;
                }
            }
        }
    }

    /// The state of the tunnel.
    ///
    /// # Panics
    ///
    /// It is refused.
    pub fn status(&mut self) -> Status {
        match self.ask(Command::Status).unwrap() {
            Reply::Status(status) => status,
            other => panic!("not a status: {other:?}"),
        }
    }

    /// How often `reason` was the cause of a refusal.
    pub fn refused(&mut self, reason: &str) -> u64 {
        self.status().counters.refused.get(reason).copied().unwrap_or(0)
    }

    /// Loads a list.
    ///
    /// # Errors
    ///
    /// What the tunnel said against it.
    pub fn load_crl(&mut self, der: &[u8]) -> Result<Reply, String> {
        self.ask(Command::LoadCrl { der: Octets(der.to_vec()) })
    }
}

/// A policy with one owner, whose CA is `authority` and whose pushed clients are `clients`.
#[must_use]
pub fn policy(seq: u64, private_key: &Secret, authority: &Authority, clients: &[Vec<u8>]) -> Policy {
    Policy {
        seq,
        private_key: private_key.clone(),
        certificate: None,
        listen_port: PORT,
        owners: vec![OwnerPolicy {
            owner: "acme".parse().unwrap(),
            anchors: vec![Octets(authority.certificate().to_vec())],
            intermediates: Vec::new(),
            crl: CrlPolicy::default(),
            psk_root: psk_root(),
            psk_previous: None,
            clients: clients.iter().cloned().map(Octets).collect(),
            identities: Vec::new(),
            sites: Vec::new(),
            max_clients: 1000,
        }],
        endpoints: Vec::new(),
    }
}

/// The gate's engine alone, with [`policy`] and an empty list in force and a clock that is believed.
///
/// # Panics
///
/// The policy or the list is refused.
#[must_use]
pub fn engine(private_key: &Secret, authority: &Authority, clients: &[Vec<u8>]) -> Engine {
    let now = Now { mono: Instant::now(), wall: SystemTime::now() };
    let mut engine = Engine::new([7; 32], now);
    engine.set_clock(now, true);
    let policy = VerifiedPolicy::new(policy(1, private_key, authority, clients)).unwrap();
    let installed = engine.install_policy(now, policy);
    assert_eq!(installed.rejected, []);
    let list = CrlSet::load(&authority.crl(1, &[], now.wall), &engine.issuers()).unwrap();
    assert!(engine.install_crl(now, list).is_ok());
    engine
}

/// The root of the preshared keys in [`policy`].
#[must_use]
pub fn psk_root() -> PskRoot {
    PskRoot { id: 1, secret: Secret::new([0x11; 32]) }
}
