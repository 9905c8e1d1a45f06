//! Asks hosts behind each uplink whether it carries: one ICMP echo a second to each of its targets.
//!
//! The packets bear the uplink's mark, so they leave by it even when it is not the preferred one: an uplink that
//! failed must be able to show that it is well again. What counts as failed is `edge_agent_core::network::health`.

use edge_agent_core::network::health::Health;
use edge_agent_core::network::icmp;
use edge_agent_core::network::plan::mark;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use verona_contract::config::NetworkConfig;

/// Between two questions.
const ROUND: Duration = Duration::from_secs(1);

/// How many changes may wait for somebody to look: one is enough to make him look at all.
const WAITING: usize = 1;

/// The checks of all uplinks that have some.
pub(crate) struct Probes {
    lines: HashMap<(String, usize), Line>,
    changed: mpsc::Sender<()>,
    changes: mpsc::Receiver<()>,
}

struct Line {
    targets: Vec<IpAddr>,
    carries: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Probes {
    fn default() -> Self {
        let (changed, changes) = mpsc::channel(WAITING);
        Self { lines: HashMap::new(), changed, changes }
    }
}

impl Probes {
    /// Checks the uplinks of `config` and no others.
    pub(crate) fn follow(&mut self, config: &NetworkConfig) {
        let wanted: HashMap<(String, usize), &[IpAddr]> = config
            .wan
            .iter()
            .enumerate()
            .filter(|(_, wan)| !wan.check.is_empty())
            .map(|(index, wan)| ((wan.name.to_string(), index), wan.check.as_slice()))
            .collect();
        self.lines.retain(|key, line| wanted.get(key) == Some(&line.targets.as_slice()));
        for (key, targets) in wanted {
            let changed = &self.changed;
            self.lines
                .entry(key)
                .or_insert_with_key(|(_, index)| Line::start(targets.to_vec(), *index, changed.clone()));
        }
    }

    /// Whether the uplink of this name and place carries; one that nobody checks does.
    #[must_use]
    pub(crate) fn carries(&self, name: &str, index: usize) -> bool {
        self.lines.get(&(name.to_owned(), index)).is_none_or(|line| *line.carries.borrow())
    }

    /// Waits until one of them changed its mind. Cancel safe.
    pub(crate) async fn next(&mut self) {
        // The sender lives as long as this value.
        let _ = self.changes.recv().await;
    }
}

impl Line {
    fn start(targets: Vec<IpAddr>, index: usize, changed: mpsc::Sender<()>) -> Self {
        let (sender, carries) = watch::channel(true);
        let asked = targets.clone();
        let task = tokio::spawn(async move {
            let mut health = Health::default();
            let mut rounds = tokio::time::interval(ROUND);
            rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for sequence in (0..=u16::MAX).cycle() {
                let tick = rounds.tick().await;
                let answered = round(&asked, index, sequence, tick + ROUND).await.unwrap_or_else(|error| {
                    tracing::debug!(%error, "probe");
                    false
                });
                if health.round(answered) {
                    sender.send_replace(health.carries());
                    // Full: somebody will look anyway.
                    let _ = changed.try_send(());
                }
                // A lost route fails at once: the next question is due a second later all the same.
                tokio::time::sleep_until(tick + ROUND).await;
            }
        });
        Self { targets, carries, task }
    }
}

/// Whether any of the targets answers before `until`.
async fn round(targets: &[IpAddr], index: usize, sequence: u16, until: Instant) -> io::Result<bool> {
    let asked = targets.iter().map(|target| Box::pin(ask(*target, index, sequence)));
    match tokio::time::timeout_at(until, futures_util::future::select_ok(asked)).await {
        Ok(outcome) => outcome.map(|_| true),
        Err(_) => Ok(false),
    }
}

/// Ends when the target answered, or with an error when it could not be asked.
async fn ask(target: IpAddr, index: usize, sequence: u16) -> io::Result<()> {
    let (domain, protocol) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))?;
    socket.set_mark(mark(index))?;
    // From now on it hears this target only.
    socket.connect(&SocketAddr::new(target, 0).into())?;
    let identity = std::process::id() as u16;
    // A raw socket sends and receives as one of UDP does.
    let socket = UdpSocket::from_std(socket.into())?;
    socket.send(&icmp::request(target.is_ipv6(), identity, sequence)).await?;
    loop {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).await?;
        if icmp::is_answer(&buffer[..length], target.is_ipv6(), identity, sequence) {
            return Ok(());
        }
    }
}
