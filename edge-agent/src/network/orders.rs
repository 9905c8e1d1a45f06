//! What the network is told to carry out, and what others can know of the outcome.

use crate::bundles::Wanted;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use verona_contract::api::Rejected;
use verona_contract::config::NetworkConfig;

/// How long an order may take before whoever waits for its report is told so.
const CARRY_OUT: Duration = Duration::from_secs(30);

/// What to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The configuration's number.
    pub seq: u64,
    /// Its part.
    pub network: NetworkConfig,
    /// The tunnel's UDP port; 0 = it has none yet.
    pub listen_port: u16,
}

/// What came of the newest order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The configuration's number.
    pub seq: u64,
    /// What is not as it asks, now.
    pub rejected: Vec<Rejected>,
}

/// The order in each configuration that is wanted.
#[must_use]
pub fn orders(mut wanted: watch::Receiver<Option<Wanted>>) -> watch::Receiver<Option<Order>> {
    wanted.mark_changed();
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        while wanted.changed().await.is_ok() {
            let order = wanted.borrow_and_update().as_ref().map(|wanted| {
                let config = wanted.bundle.config();
                Order {
                    seq: config.seq,
                    network: config.network.clone(),
                    listen_port: config.tunnel.listen_port,
                }
            });
            // The first one ever was refused: what it made goes.
            let nothing = || Order { seq: 0, network: NetworkConfig::default(), listen_port: 0 };
            let order = order.or_else(|| sender.borrow().is_some().then(nothing));
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

/// An uplink that does not carry, and why.
pub type Down = (String, String);

/// What others have to do with it: where the outcome can be had, and who tells which interface is the tunnel's. Clones
/// share it.
#[derive(Clone, Debug)]
pub struct Reports {
    pub(super) report: watch::Receiver<Option<Report>>,
    pub(super) down: watch::Receiver<Vec<Down>>,
    pub(super) tunnel: Arc<watch::Sender<Option<String>>>,
}

impl Reports {
    /// What of the configuration `seq` could not be carried out, as soon as it was tried.
    pub async fn rejected(&mut self, seq: u64) -> Vec<Rejected> {
        let tried = self.report.wait_for(|report| report.as_ref().is_some_and(|report| report.seq == seq));
        match tokio::time::timeout(CARRY_OUT, tried).await {
            Ok(Ok(report)) => report.as_ref().map(|report| report.rejected.clone()).unwrap_or_default(),
            _ => {
                let reason = format!("not carried out within {} s", CARRY_OUT.as_secs());
                vec![Rejected { path: "network".into(), reason, used_instead: None }]
            }
        }
    }

    /// Which interface the tunnel has: until then nothing passes between it and the networks.
    pub fn tunnel_is(&self, interface: &str) {
        self.tunnel.send_if_modified(|before| {
            let changed = before.as_deref() != Some(interface);
            if changed {
                *before = Some(interface.to_owned());
            }
            changed
        });
    }

    /// The uplinks that do not carry now.
    #[must_use]
    pub fn down(&self) -> Vec<Down> {
        self.down.borrow().clone()
    }

    /// The newest one.
    #[must_use]
    pub fn newest(&self) -> Option<Report> {
        self.report.borrow().clone()
    }
}
