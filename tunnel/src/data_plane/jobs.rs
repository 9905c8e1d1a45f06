//! What other threads have the data plane do between two batches: change its configuration, put a
//! policy or a list in force, tell its state.
//!
//! Each is short: whatever takes long was done before, in the thread that asks.

use edge_tunnel_core::{CrlRefused, CrlSet, VerifiedPolicy};
use verona_contract::control::{CrlInfo, CrlInstalled, PeerInfo, PolicyInstalled, Status};

use super::passage::Passage;
use super::{DataPlane, read_clocks};
use crate::transaction::{ConfigureError, Snapshot, Transaction};
use crate::udp::{BindError, Sockets};

impl DataPlane {
    /// Applies a transaction: all of it or nothing. The passage is to be waited for before the end of a peer is
    /// told.
    pub(crate) fn configure(&mut self, transaction: Transaction) -> Result<Passage, ConfigureError> {
        let fwmark = transaction.fwmark.unwrap_or(self.fwmark);
        // The new port is taken before anything changes, the old one is given up after.
        let sockets = self.sockets_for(transaction.listen_port, fwmark)?;
        self.mark_sockets(fwmark)?;
        if let Err(error) = self.engine.configure(read_clocks(), transaction.update, &mut self.outlet) {
            self.mark_sockets(self.fwmark)?;
            return Err(error.into());
        }
        // As the kernel's WireGuard does: the mark may choose other routes.
        if std::mem::replace(&mut self.fwmark, fwmark) != fwmark {
            self.forget_sources();
        }
        self.port = transaction.listen_port.unwrap_or(self.port);
        if let Some(sockets) = sockets {
            self.replace_sockets(sockets);
        }
        Ok(self.passage())
    }

    /// New sockets, if `port` asks for other ones than there are and the interface is up. 0 asks for
    /// a new random port.
    fn sockets_for(&self, port: Option<u16>, fwmark: u32) -> Result<Option<Vec<Sockets>>, BindError> {
        match (port, self.sockets.first()) {
            (Some(port), Some(current)) if port == 0 || port != current.port() => {
                self.open_sockets(port, fwmark).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn mark_sockets(&self, fwmark: u32) -> Result<(), ConfigureError> {
        self.sockets.iter().try_for_each(|sockets| sockets.set_fwmark(fwmark)).map_err(ConfigureError::Mark)
    }

    /// The state as UAPI shows it.
    pub(crate) fn snapshot(&mut self) -> Snapshot {
        Snapshot { listen_port: self.port, fwmark: self.fwmark, device: self.engine.device() }
    }

    /// Puts a policy in force, on its port. 0 leaves the port as it is. The passage is to be waited for before the
    /// cuts are told.
    pub(crate) fn install_policy(
        &mut self,
        policy: VerifiedPolicy,
    ) -> Result<(PolicyInstalled, Passage), ConfigureError> {
        let port = Some(policy.listen_port()).filter(|&port| port != 0);
        let sockets = self.sockets_for(port, self.fwmark)?;
        self.port = port.unwrap_or(self.port);
        if let Some(sockets) = sockets {
            self.replace_sockets(sockets);
        }
        Ok((self.engine.install_policy(read_clocks(), policy), self.passage()))
    }

    /// Puts a list in force and cuts whom it lists. The passage is to be waited for before the cuts are told.
    pub(crate) fn install_crl(&mut self, list: CrlSet) -> Result<(CrlInstalled, Passage), CrlRefused> {
        Ok((self.engine.install_crl(read_clocks(), list)?, self.passage()))
    }

    /// Tells the engine whether the wall clock may be believed.
    pub(crate) fn set_clock(&mut self, trusted: bool) -> Passage {
        self.engine.set_clock(read_clocks(), trusted);
        self.passage()
    }

    /// What to wait for, in another thread, to know that every worker takes its turns.
    pub(crate) fn pulse(&mut self) -> Passage {
        self.passage()
    }

    /// The state of the tunnel as a whole. The engine's counters, and beside them what was lost here.
    pub(crate) fn status(&self, interface: String) -> Status {
        let device = self.engine.device();
        let mut counters = self.engine.counters();
        let losses = self.losses();
        for (name, value) in [
            ("workers", self.foremen.len() as u64),
            ("send_failed", losses.send_failed),
            ("send_dropped", losses.send_dropped),
            ("tun_failed", losses.tun_failed),
            ("udp_receive_dropped", self.receive_dropped()),
            ("socket_errors", losses.socket_errors),
            ("packets_uncut", losses.packets_uncut),
            ("datagrams_crowded_out", losses.datagrams_crowded_out),
            ("offload_refusals", self.outlet.tun().offloads().refusals()),
            ("events_unread", self.subscribers.dropped()),
        ] {
            counters.totals.insert(name.to_owned(), value);
        }
        let (sessions, records) = self.engine.population();
        Status {
            interface,
            public_key: device.public_key,
            // The port in use, so none while the interface is down or the port is taken.
            listen_port: self.sockets.first().map_or(0, |sockets| sockets.port()),
            policy_seq: self.engine.policy_seq(),
            clock_trusted: self.engine.clock_trusted(),
            sessions,
            records,
            counters,
            offloads: self.outlet.tun().offloads().report(),
        }
    }

    /// The certified peers.
    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        self.engine.peers()
    }

    /// The lists and what they allow.
    pub(crate) fn crls(&self) -> Vec<CrlInfo> {
        self.engine.crls(read_clocks())
    }
}
