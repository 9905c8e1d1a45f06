//! The DHCP client of an uplink: busybox's `udhcpc` as a child, and the leases it tells.
//!
//! The client calls this program back for each event ([`report`]), which sends it to the agent's socket and ends.
//! The client itself changes nothing on the box. Leases outlive the agent in a file below `/run`: an agent that
//! restarts must not take its own uplink down until the server answers again.

use super::child::Child;
use crate::clock::since_boot_ns;
use crate::store;
use edge_agent_core::network::lease::{Lease, News};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::net::UnixDatagram;

/// In the environment of the client: where its news go.
const SOCKET: &str = "VERONA_LEASE_SOCKET";

/// Longest message: an environment of the client.
const MAX_MESSAGE: usize = 16 * 1024;

/// The variables that say something; the others stay where they are.
const VARIABLES: &[&str] = &["ip", "mask", "router", "dns", "mtu", "lease"];

/// What is sent for an event.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    event: String,
    port: String,
    variables: BTreeMap<String, String>,
}

/// If this process was started by the client, tells the agent what for. None if it was not.
#[must_use]
pub fn report() -> Option<ExitCode> {
    let socket = std::env::var_os(SOCKET)?;
    let text = |name: &str| std::env::var(name).unwrap_or_default();
    let message = Message {
        event: std::env::args().nth(1).unwrap_or_default(),
        port: text("interface"),
        variables: VARIABLES.iter().map(|name| ((*name).to_owned(), text(name))).collect(),
    };
    let sent = serde_json::to_vec(&message)
        .map_err(std::io::Error::from)
        .and_then(|octets| StdDatagram::unbound()?.send_to(&octets, socket));
    Some(if sent.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A lease with the end of its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    lease: Lease,
    /// Nanoseconds since the machine started.
    ends_ns: u64,
}

/// The clients of all uplinks that want one.
pub struct Clients {
    socket: Option<UnixDatagram>,
    path: PathBuf,
    file: PathBuf,
    program: PathBuf,
    running: HashMap<String, Child>,
    leases: BTreeMap<String, Stored>,
}

impl Clients {
    /// Takes over the leases of an agent before this one. `directory` is below `/run`, `program` is what the client
    /// calls back: the agent's own program.
    #[must_use]
    pub fn new(directory: &Path, program: PathBuf) -> Self {
        let file = directory.join("leases.json");
        let read = store::read_replaceable(&file, 256 * 1024).ok().flatten();
        let leases = read.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        Self {
            socket: None,
            path: directory.join("lease.sock"),
            file,
            program,
            running: HashMap::new(),
            leases,
        }
    }

    /// Runs a client on each of `ports` and none elsewhere.
    pub fn run_on(&mut self, ports: &[String]) {
        self.running.retain(|port, _| ports.contains(port));
        self.leases.retain(|port, _| ports.contains(port));
        if ports.is_empty() {
            return;
        }
        if self.socket.is_none() {
            // One that a killed agent left is in the way.
            let _ = std::fs::remove_file(&self.path);
            match UnixDatagram::bind(&self.path) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "cannot listen for leases");
                    return;
                }
            }
        }
        for port in ports {
            if !self.running.contains_key(port) {
                self.running.insert(port.clone(), self.client(port));
            }
        }
    }

    fn client(&self, port: &str) -> Child {
        let arguments = ["udhcpc", "-f", "-i", port, "-t", "4", "-T", "2", "-A", "5", "-O", "mtu", "-s"];
        let mut arguments: Vec<OsString> = arguments.map(Into::into).to_vec();
        arguments.push(self.program.clone().into());
        let environment = vec![(SOCKET.into(), self.path.clone().into())];
        Child::keep(format!("dhcp client on {port}"), "busybox".into(), arguments, environment, None)
    }

    /// Waits for the next news and takes it. Cancel safe.
    pub async fn next(&mut self) {
        let Some(socket) = &self.socket else { return std::future::pending().await };
        let mut buffer = vec![0; MAX_MESSAGE];
        let Ok(length) = socket.recv(&mut buffer).await else { return };
        let Ok(message) = serde_json::from_slice::<Message>(&buffer[..length]) else { return };
        let Message { event, port, variables } = message;
        if !self.running.contains_key(&port) {
            return;
        }
        match News::read(&event, &variables) {
            Ok(News::Held(lease)) => {
                tracing::info!(port, address = %lease.address, seconds = lease.seconds, "dhcp lease");
                let ends_ns = since_boot_ns().saturating_add(u64::from(lease.seconds) * 1_000_000_000);
                self.leases.insert(port, Stored { lease, ends_ns });
                self.save();
            }
            Ok(News::Lost) => {
                tracing::warn!(port, "the dhcp server took the lease back");
                self.leases.remove(&port);
                self.save();
            }
            Ok(News::Nothing) => tracing::debug!(port, event, "dhcp"),
            Err(error) => tracing::warn!(port, %error, "dhcp"),
        }
    }

    /// The lease that is held on `port` now.
    #[must_use]
    pub fn lease(&self, port: &str) -> Option<&Lease> {
        let now = since_boot_ns();
        self.leases.get(port).filter(|stored| now < stored.ends_ns).map(|stored| &stored.lease)
    }

    fn save(&self) {
        let json = serde_json::to_vec(&self.leases).unwrap_or_default();
        if let Err(error) = store::replace(&self.file, &json) {
            tracing::warn!(error = crate::center::chain(&error), "leases are not saved");
        }
    }
}
