//! The box's own network: carries the configuration's out and keeps it so.
//!
//! It does not wait for the tunnel, which may be what does not run. Each event of the kernel (a link, an address, a
//! route or a rule that changed, by whomever) has everything compared again. What it decides is in
//! `edge_agent_core::network`; the tunnel's interface is [`crate::netlink`]'s.

mod aftr;
mod child;
pub mod dhcp;
mod dhcp6;
mod events;
mod firewall;
pub mod kernel;
mod message;
mod orders;
mod pppoe;
mod probe;
mod resolver;
mod services;
mod shaper;
mod start;
mod sysctl;

pub use orders::{Down, Order, Report, Reports, orders};

use crate::center::chain;
use crate::store;
use aftr::Aftrs;
use dhcp::Clients;
use dhcp6::Clients6;
use edge_agent_core::journal::Draft;
use edge_agent_core::network::dhcp6::Lease as Lease6;
use edge_agent_core::network::firewall::{Around, ruleset};
use edge_agent_core::network::kernel::{Actual, Change};
use edge_agent_core::network::plan::{self, Uplink, plan};
use edge_agent_core::network::pppoe::Session;
use edge_agent_core::network::services::dnsmasq;
use events::Events;
use firewall::Firewall;
use pppoe::Sessions;
use probe::Probes;
use resolver::Resolver;
use services::Services;
use start::Start;
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use verona_contract::api::Rejected;
use verona_contract::config::NetworkConfig;
use verona_contract::config::network::services::Aftr;
use verona_contract::config::network::{Wan, WanV4, WanV6};
use verona_contract::log::{Severity, Stream};

/// How often everything is compared although no event came.
const COMPARE: Duration = Duration::from_secs(10);

/// How long events are collected: one command of an administrator makes several.
const SETTLE: Duration = Duration::from_millis(50);

/// Takes records.
pub type Note = Box<dyn Fn(Draft) + Send + Sync>;

/// What it needs of the machine.
#[derive(Clone, Debug)]
pub struct Place {
    /// A directory below `/run`, its own: sockets and what must outlive the agent, but not the machine.
    pub directory: PathBuf,
    /// The agent's own program: DHCP clients call it back ([`dhcp::report`]).
    pub program: PathBuf,
    /// The firmware's script that makes the network from before the first configuration; need not be there.
    pub start: PathBuf,
}

/// Carries orders out, one at a time.
pub struct Network {
    orders: watch::Receiver<Option<Order>>,
    report: watch::Sender<Option<Report>>,
    down: watch::Sender<Vec<Down>>,
    tunnel: Arc<watch::Sender<Option<String>>>,
    note: Arc<Note>,
    firewall: Firewall,
    sessions: Sessions,
    clients: Clients,
    clients6: Clients6,
    aftrs: Aftrs,
    services: Services,
    resolver: Resolver,
    probes: Probes,
    start: Start,
    /// What the kernel had the last time.
    actual: Actual,
    /// By name of the uplink, as it was told last: why it does not carry.
    told: BTreeMap<String, Option<String>>,
}

impl Network {
    /// Will follow `orders`.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub fn new(
        orders: watch::Receiver<Option<Order>>,
        place: Place,
        note: Note,
    ) -> Result<Self, store::StoreError> {
        store::make_directory(&place.directory)?;
        let start = Start::new(place.start, &place.directory);
        let note = Arc::new(note);
        Ok(Self {
            orders,
            report: watch::Sender::new(None),
            down: watch::Sender::default(),
            sessions: Sessions::default(),
            tunnel: Arc::new(watch::Sender::new(None)),
            firewall: Firewall::default(),
            clients6: Clients6::new(&place.directory),
            clients: Clients::new(&place.directory, place.program),
            aftrs: Aftrs::default(),
            resolver: Resolver::new(&place.directory),
            services: Services::new(place.directory, note.clone()),
            probes: Probes::default(),
            start,
            actual: Actual::default(),
            told: BTreeMap::new(),
            note,
        })
    }

    /// Has sessions of PPPoE dialled by who is at the other end of `socket` ([`crate::dialler`]); none = not at all.
    #[must_use]
    pub fn dialled_by(self, socket: Option<UnixStream>) -> Self {
        Self { sessions: Sessions::new(socket), ..self }
    }

    /// Where outcomes can be had.
    #[must_use]
    pub fn reports(&self) -> Reports {
        let (report, down) = (self.report.subscribe(), self.down.subscribe());
        Reports { report, down, tunnel: self.tunnel.clone() }
    }

    /// Runs until nobody can give orders any more, or a part is lost that only a new start brings back.
    pub async fn run(mut self) {
        self.orders.mark_changed();
        let mut tunnel = self.tunnel.subscribe();
        let mut events = Events::default();
        let mut compare = tokio::time::interval_at(Instant::now() + COMPARE, COMPARE);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.orders.mark_unchanged();
                }
                // The sender lives as long as this value.
                _ = tunnel.changed() => {}
                () = self.probes.next() => {}
                () = self.sessions.next() => {
                    if self.sessions.is_lost() {
                        tracing::error!("the dialler has ended");
                        return;
                    }
                }
                () = self.clients.next() => {}
                () = self.clients6.next() => {}
                () = self.aftrs.next() => {}
                () = events.next(SETTLE) => {}
                _ = compare.tick() => {}
            }
            let order = self.orders.borrow().clone();
            // Before the first one nothing is known to be wanted, or unwanted.
            if let Some(order) = order {
                let rejected = self.carry_out(&order).await;
                self.publish(Report { seq: order.seq, rejected });
            }
        }
    }

    async fn carry_out(&mut self, order: &Order) -> Vec<Rejected> {
        let config = &order.network;
        let fail =
            |path: &str, reason: String| Rejected { path: path.to_owned(), reason, used_instead: None };
        self.sessions.run(config.wan.iter().filter_map(Session::of).collect());
        let leased = config.wan.iter().filter(|wan| wan.ipv4 == Some(WanV4::Dhcp));
        self.clients.run_on(&leased.map(|wan| wan.port.to_string()).collect::<Vec<_>>());
        let told = config.wan.iter().filter(|wan| wan.ipv6 == Some(WanV6::Auto));
        self.clients6.run_on(&told.map(|wan| wan.port.to_string()).collect::<Vec<_>>());
        self.probes.follow(config);
        let actual = match kernel::read().await {
            Ok(actual) => actual,
            Err(error) => return vec![fail("network", chain(&error))],
        };
        let uplinks = self.uplinks(config, &actual);
        self.actual = actual;
        // What nothing guards does not come up.
        if let Err(error) = self.guard(order).await {
            return vec![fail("network.firewall", chain(&error))];
        }
        if !config.is_empty() {
            self.start.take().await;
        }
        let mut rejected = self.cannot_dial(config);
        // Before a line comes up, so that it is listened to as it should.
        if let Err(error) = sysctl::set(&plan::switches(config)) {
            rejected.push(fail("network", chain(&error)));
        }
        match kernel::converge(&plan(config, &uplinks)).await {
            Ok(outcome) => {
                self.tell(order.seq, &outcome.taken);
                rejected.extend(outcome.missing.into_iter().map(|(path, reason)| fail(&path, reason)));
                self.actual = outcome.actual;
            }
            Err(error) => rejected.push(fail("network", chain(&error))),
        }
        // And those of interfaces that were just made.
        if let Err(error) = sysctl::set(&plan::switches(config)) {
            rejected.push(fail("network", chain(&error)));
        }
        // Now the MTU and the addresses of each interface are known, also of those that were just made.
        if let Err(error) = self.guard(order).await {
            rejected.push(fail("network.firewall", chain(&error)));
        }
        let servers = plan::servers(config, &uplinks);
        if let Err(error) = self.resolver.ask(&servers) {
            rejected.push(fail("network.wan", chain(&error)));
        }
        if let Err(reason) = self.services.run(dnsmasq(config, &servers)) {
            rejected.push(fail("network.lan", reason));
        }
        if config.is_empty() {
            self.start.give_back().await;
        }
        rejected
    }

    fn cannot_dial(&self, config: &NetworkConfig) -> Vec<Rejected> {
        let sessions = config.wan.iter().enumerate().filter(|(_, wan)| wan.pppoe().is_some());
        let refuse = |(index, _)| Rejected {
            path: format!("network.wan[{index}].ipv4.pppoe"),
            reason: "this box has no program for PPPoE".to_owned(),
            used_instead: None,
        };
        sessions.filter(|_| !self.sessions.can_dial()).map(refuse).collect()
    }

    async fn guard(&mut self, order: &Order) -> Result<(), crate::nft::NftError> {
        let tunnel = self.tunnel.borrow().clone();
        let around = Around::of(tunnel, order.listen_port, &self.actual);
        if self.firewall.enforce(ruleset(&order.network, &around)).await? {
            tracing::info!(seq = order.seq, "firewall set");
        }
        Ok(())
    }

    /// What each uplink has; news about it become records.
    fn uplinks(&mut self, config: &NetworkConfig, actual: &Actual) -> Vec<Uplink> {
        self.told.retain(|name, _| config.wan.iter().any(|wan| wan.name.as_str() == name));
        let (mut uplinks, mut down) = (Vec::new(), Vec::new());
        for (index, wan) in config.wan.iter().enumerate() {
            let (name, port) = (wan.name.to_string(), wan.port.to_string());
            let carries = self.probes.carries(&name, index);
            let lease6 = self.clients6.lease(&port).cloned();
            self.sessions.plugged(&wan.name, actual.links.get(&port).is_some_and(|link| link.carrier));
            let lease = match wan.session() {
                // Its link is gone before anybody says so.
                Some(link) => self.sessions.lease(&wan.name).filter(|_| actual.links.contains_key(&link)),
                None => self.clients.lease(&port).cloned(),
            };
            let aftr = self.aftrs.find(&name, translator(wan, lease6.as_ref()).as_ref());
            let mut uplink = Uplink { carries, lease, lease6, aftr, ..Uplink::default() };
            uplink.learn(&port, actual);
            let reason = plan::failure(wan, &uplink, actual, self.sessions.failure(&wan.name));
            self.tell_of_uplink(&name, reason.as_ref());
            down.extend(reason.map(|reason| (name, reason)));
            uplinks.push(uplink);
        }
        self.down.send_replace(down);
        uplinks
    }

    /// The first news of an uplink is none: it is about to come up.
    fn tell_of_uplink(&mut self, name: &str, failure: Option<&String>) {
        let before = self.told.insert(name.to_owned(), failure.cloned());
        if before.is_none_or(|before| before.as_ref() == failure) {
            return;
        }
        let (event, severity, words) = match failure {
            None => ("uplink.up", Severity::Info, "carries again".to_owned()),
            Some(reason) => ("uplink.down", Severity::Warn, format!("does not carry: {reason}")),
        };
        tracing::warn!(name, words, "uplink");
        let draft = Draft::new(Stream::System, event, format!("uplink {name} {words}"));
        (self.note)(draft.severity(severity).with("uplink", name));
    }

    fn publish(&self, report: Report) {
        self.report.send_if_modified(|before| {
            if before.as_ref() == Some(&report) {
                return false;
            }
            for Rejected { path, reason, .. } in &report.rejected {
                tracing::warn!(path, reason, "network");
            }
            *before = Some(report);
            true
        });
    }

    /// Changes for an order that was carried out before are repairs.
    fn tell(&self, seq: u64, taken: &[Change]) {
        if taken.is_empty() {
            return;
        }
        let repair = self.report.borrow().as_ref().is_some_and(|report| report.seq == seq);
        let steps: Vec<String> = taken.iter().map(kernel::describe).collect();
        let steps = steps.join("; ");
        tracing::info!(seq, repair, steps, "network");
        let (event, severity, body) = if repair {
            ("network.repaired", Severity::Warn, format!("someone else changed the network: {steps}"))
        } else {
            ("network.changed", Severity::Info, format!("configuration {seq}: {steps}"))
        };
        (self.note)(Draft::new(Stream::System, event, body).severity(severity).with("seq", seq));
    }
}

/// The far end of the softwire that `wan` wants.
fn translator(wan: &Wan, lease6: Option<&Lease6>) -> Option<Aftr> {
    let Some(WanV4::DsLite { aftr }) = &wan.ipv4 else { return None };
    aftr.clone().or_else(|| lease6?.aftr.clone().map(Aftr::Name))
}
