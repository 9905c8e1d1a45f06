//! The box's own network: carries the configuration's out and keeps it so.
//!
//! It does not wait for the tunnel, which may be what does not run. Each event of the kernel (a link, an address, a
//! route or a rule that changed, by whomever) has everything compared again. What it decides is in
//! `edge_agent_core::network`; the tunnel's interface is [`crate::netlink`]'s.

pub mod events;
pub mod kernel;
mod message;

use crate::bundles::Wanted;
use crate::center::chain;
use edge_agent_core::journal::Draft;
use edge_agent_core::network::kernel::Change;
use edge_agent_core::network::plan::{Uplink, plan};
use events::Events;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use verona_contract::api::Rejected;
use verona_contract::config::NetworkConfig;
use verona_contract::log::{Severity, Stream};

/// How often everything is compared although no event came.
const COMPARE: Duration = Duration::from_secs(10);

/// How long events are collected: one command of an administrator makes several.
const SETTLE: Duration = Duration::from_millis(50);

/// How long an order may take before whoever waits for its report is told so.
const CARRY_OUT: Duration = Duration::from_secs(30);

/// What to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The configuration's number.
    pub seq: u64,
    /// Its part.
    pub network: NetworkConfig,
}

/// What came of the newest order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The configuration's number.
    pub seq: u64,
    /// What is not as it asks, now.
    pub rejected: Vec<Rejected>,
}

/// Takes records.
pub type Note = Box<dyn Fn(Draft) + Send + Sync>;

/// The order in each configuration that is wanted.
#[must_use]
pub fn orders(mut wanted: watch::Receiver<Option<Wanted>>) -> watch::Receiver<Option<Order>> {
    wanted.mark_changed();
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        while wanted.changed().await.is_ok() {
            let order = wanted.borrow_and_update().as_ref().map(|wanted| {
                let config = wanted.bundle.config();
                Order { seq: config.seq, network: config.network.clone() }
            });
            // The first one ever was refused: what it made goes.
            let nothing = || Order { seq: 0, network: NetworkConfig::default() };
            let order = order.or_else(|| sender.borrow().is_some().then(nothing));
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Where the outcome can be had. Clones share it.
#[derive(Clone, Debug)]
pub struct Reports(watch::Receiver<Option<Report>>);

impl Reports {
    /// What of the configuration `seq` could not be carried out, as soon as it was tried.
    pub async fn rejected(&mut self, seq: u64) -> Vec<Rejected> {
        let tried = self.0.wait_for(|report| report.as_ref().is_some_and(|report| report.seq == seq));
        match tokio::time::timeout(CARRY_OUT, tried).await {
            Ok(Ok(report)) => report.as_ref().map(|report| report.rejected.clone()).unwrap_or_default(),
            _ => {
                let reason = format!("not carried out within {} s", CARRY_OUT.as_secs());
                vec![Rejected { path: "network".into(), reason, used_instead: None }]
            }
        }
    }

    /// The newest one.
    #[must_use]
    pub fn newest(&self) -> Option<Report> {
        self.0.borrow().clone()
    }
}

/// Carries orders out, one at a time.
pub struct Network {
    orders: watch::Receiver<Option<Order>>,
    report: watch::Sender<Option<Report>>,
    note: Note,
}

impl Network {
    /// Will follow `orders`.
    #[must_use]
    pub fn new(orders: watch::Receiver<Option<Order>>, note: Note) -> Self {
        Self { orders, report: watch::Sender::new(None), note }
    }

    /// Where outcomes can be had.
    #[must_use]
    pub fn reports(&self) -> Reports {
        Reports(self.report.subscribe())
    }

    /// Runs until nobody can give orders any more.
    pub async fn run(mut self) {
        self.orders.mark_changed();
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
                () = events.next(SETTLE) => {}
                _ = compare.tick() => {}
            }
            let order = self.orders.borrow().clone();
            // Before the first one nothing is known to be wanted, or unwanted.
            if let Some(order) = order {
                self.carry_out(&order).await;
            }
        }
    }

    async fn carry_out(&self, order: &Order) {
        let uplinks: Vec<Uplink> = order.network.wan.iter().map(|_| Uplink::default()).collect();
        let rejected = match kernel::converge(&plan(&order.network, &uplinks)).await {
            Ok(outcome) => {
                self.tell(order.seq, &outcome.taken);
                let missing = outcome.missing.into_iter();
                missing.map(|(path, reason)| Rejected { path, reason, used_instead: None }).collect()
            }
            Err(error) => {
                vec![Rejected { path: "network".into(), reason: chain(&error), used_instead: None }]
            }
        };
        let report = Report { seq: order.seq, rejected };
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
