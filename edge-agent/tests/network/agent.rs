//! The agent's part under test, on a thread inside a namespace.

use edge_agent::network::{Network, Order, Place, Reports};
use edge_agent_core::journal::Draft;
use lab::{Namespace, wait};
use serde_json::Value;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use verona_contract::api::Rejected;
use verona_contract::config::NetworkConfig;

/// For what comes at once on a machine that has nothing else to do.
pub(crate) const SOON: Duration = Duration::from_secs(15);

pub(crate) struct Agent {
    pub(crate) place: Namespace,
    orders: Option<watch::Sender<Option<Order>>>,
    pub(crate) reports: Reports,
    notes: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<()>>,
    runtime: Runtime,
}

impl Agent {
    pub(crate) fn start(place: &Namespace) -> Self {
        Self::start_dialled_by(None, place)
    }

    pub(crate) fn start_dialled_by(dialler: Option<UnixStream>, place: &Namespace) -> Self {
        let (orders, receiver) = watch::channel(None);
        let notes = Arc::new(Mutex::new(Vec::new()));
        let take = notes.clone();
        let machine = Place {
            directory: place.run().dir().join(format!("{}-network", place.name())),
            program: env!("CARGO_BIN_EXE_edge-agent").into(),
            start: place.run().dir().join("start-network"),
        };
        let note = Box::new(move |draft: Draft| take.lock().unwrap().push(draft.event));
        let network = Network::new(receiver, machine, note).unwrap().dialled_by(dialler);
        let reports = network.reports();
        let inside = place.clone();
        let thread = std::thread::spawn(move || {
            inside
                .enter(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(network.run());
                })
                .unwrap();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { place: place.clone(), orders: Some(orders), reports, notes, thread: Some(thread), runtime }
    }

    /// Gives a configuration and waits for what came of it.
    pub(crate) fn order(&mut self, seq: u64, network: Value) -> Vec<Rejected> {
        let network: NetworkConfig = serde_json::from_value(network).unwrap();
        network.check().unwrap();
        self.orders.as_ref().unwrap().send(Some(Order { seq, network, listen_port: 51820 })).unwrap();
        self.runtime.block_on(self.reports.rejected(seq))
    }

    pub(crate) fn ip(&self, arguments: &str) -> String {
        self.place.output("ip", &arguments.split(' ').collect::<Vec<_>>()).unwrap()
    }

    pub(crate) fn comes(&self, what: &str, arguments: &str, text: &str) {
        let shown = || self.ip(arguments).contains(text);
        wait::until(what, SOON, shown).unwrap_or_else(|error| panic!("{error}: {}", self.ip(arguments)));
    }

    pub(crate) fn noted(&self, event: &str) -> usize {
        self.notes.lock().unwrap().iter().filter(|one| *one == event).count()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nobody can give orders any more: it ends.
        self.orders.take();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
