//! The DHCPv6 clients of the uplinks: sockets and files around `edge_agent_core::network::dhcp6`.
//!
//! Leases outlive the agent in a file below `/run`, as those of IPv4 do: see [`super::dhcp`].

use crate::clock::since_boot_ns;
use crate::store;
use aws_lc_rs::rand;
use edge_agent_core::network::dhcp6::{Client, Lease};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// All_DHCP_Relay_Agents_and_Servers, and the ports of both sides (RFC 8415 §7.1).
const SERVERS: (Ipv6Addr, u16) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), 547);
const CLIENT_PORT: u16 = 546;

/// Until the next attempt when the line is not there or gives no socket.
const AGAIN: Duration = Duration::from_secs(2);

/// A lease with the end of its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    lease: Lease,
    /// Nanoseconds since the machine started.
    ends_ns: u64,
}

/// What a client tells: its line, and what it holds now.
type News = (String, Option<Lease>);

/// The clients of all uplinks that want one.
pub(crate) struct Clients6 {
    file: PathBuf,
    running: HashMap<String, Task>,
    leases: BTreeMap<String, Stored>,
    tell: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

/// Ends with its owner.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Clients6 {
    /// Takes over the leases of an agent before this one. `directory` is below `/run`.
    pub(crate) fn new(directory: &Path) -> Self {
        let file = directory.join("leases6.json");
        let read = store::read_replaceable(&file, 256 * 1024).ok().flatten();
        let leases = read.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let (tell, news) = mpsc::channel(8);
        Self { file, running: HashMap::new(), leases, tell, news }
    }

    /// Runs a client on each of `ports` and none elsewhere.
    pub(crate) fn run_on(&mut self, ports: &[String]) {
        self.running.retain(|port, _| ports.contains(port));
        self.leases.retain(|port, _| ports.contains(port));
        for port in ports {
            if !self.running.contains_key(port) {
                let (tell, line) = (self.tell.clone(), port.clone());
                self.running.insert(port.clone(), Task(tokio::spawn(keep(line, tell))));
            }
        }
    }

    /// Waits for the next news and takes it. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // A sender lives as long as this value.
        let Some((port, lease)) = self.news.recv().await else { return };
        if !self.running.contains_key(&port) {
            return;
        }
        match lease {
            Some(lease) => {
                let prefix = lease.prefix.map(|(net, _)| net.to_string()).unwrap_or_default();
                let address = lease.address.map(|(one, _)| one.to_string()).unwrap_or_default();
                tracing::info!(port, prefix, address, "dhcpv6 lease");
                let ends_ns = since_boot_ns().saturating_add(u64::from(lease.valid()) * 1_000_000_000);
                self.leases.insert(port, Stored { lease, ends_ns });
            }
            None => {
                tracing::warn!(port, "the dhcpv6 lease is over");
                self.leases.remove(&port);
            }
        }
        let json = serde_json::to_vec(&self.leases).unwrap_or_default();
        if let Err(error) = store::replace(&self.file, &json) {
            tracing::warn!(error = crate::center::chain(&error), "leases are not saved");
        }
    }

    /// The lease that is held on `port` now.
    pub(crate) fn lease(&self, port: &str) -> Option<&Lease> {
        let now = since_boot_ns();
        self.leases.get(port).filter(|stored| now < stored.ends_ns).map(|stored| &stored.lease)
    }
}

/// Asks on the line `port`, for ever.
async fn keep(port: String, tell: mpsc::Sender<News>) {
    loop {
        if let Err(error) = serve(&port, &tell).await {
            tracing::debug!(port, %error, "dhcpv6");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn serve(port: &str, tell: &mpsc::Sender<News>) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(port.as_bytes()))?;
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let everyone = SocketAddrV6::new(SERVERS.0, SERVERS.1, 0, if_nametoindex(port)?);
    ask_for_routers(port)?;
    let mut client = Client::new(identity(port)?, now_ms());
    loop {
        let mut entropy = [0; 4];
        rand::fill(&mut entropy).map_err(|_| io::Error::other("no randomness"))?;
        let held = client.lease().is_some();
        if let Some(question) = client.poll(now_ms(), u32::from_be_bytes(entropy)) {
            socket.send_to(&question, everyone).await?;
        }
        if held && client.lease().is_none() {
            let _ = tell.send((port.to_owned(), None)).await;
        }
        let mut buffer = [0; 2048];
        let pause = Duration::from_millis(client.deadline().saturating_sub(now_ms()));
        let Ok(received) = tokio::time::timeout(pause, socket.recv_from(&mut buffer)).await else { continue };
        let (length, _) = received?;
        let before = client.lease().cloned();
        let changed = client.handle(&buffer[..length], now_ms());
        // A longer life is news, too: the file must know when it ends.
        if changed || client.lease() != before.as_ref() || matches!(buffer[0], 7) {
            let _ = tell.send((port.to_owned(), client.lease().cloned())).await;
        }
    }
}

/// A router solicitation (RFC 4861 §4.1). The kernel sends its own only when a line comes up.
fn ask_for_routers(port: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(port.as_bytes()))?;
    socket.set_multicast_hops_v6(255)?;
    let everyone = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), 0, 0, if_nametoindex(port)?);
    socket.send_to(&[133, 0, 0, 0, 0, 0, 0, 0], &everyone.into())?;
    Ok(())
}

fn now_ms() -> u64 {
    since_boot_ns() / 1_000_000
}

/// DUID-LL (RFC 8415 §11.4): the line's hardware address.
fn identity(port: &str) -> io::Result<Vec<u8>> {
    let mac = getifaddrs()?
        .filter(|one| one.interface_name == port)
        .find_map(|one| one.address?.as_link_addr()?.addr());
    let mac = mac.ok_or_else(|| io::Error::other("the line has no hardware address"))?;
    Ok([&[0, 3, 0, 1][..], &mac].concat())
}
