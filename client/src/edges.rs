//! The profile's edges as peers of the data plane: configured, watched, asked again, shown.
//!
//! What to do about a silent edge is [`crate::link`]'s decision, which endpoint is next [`crate::endpoints`]',
//! which network goes where [`crate::routing`]'s; here they are carried out on the device.

use crate::endpoints::{Endpoints, Next};
use crate::link::{Link, Sample};
use crate::routing::allowed_ips;
use crate::status::{EdgeStatus, State};
use edge_tunnel::{
    AllowedIpUpdate, ConfigureError, DeviceHandle, DeviceUpdate, Introduction, IpNet, PeerStatus, PeerUpdate,
    PublicKey, Secret, Transaction,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;
use verona_contract::api::{ClientProfile, EdgeProfile};

/// A name to look up for an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) key: PublicKey,
    pub(crate) name: String,
}

/// All edges and the device that they are peers of.
pub(crate) struct Edges {
    device: DeviceHandle,
    profile: ClientProfile,
    introduction: Introduction,
    /// In the order of the profile.
    edges: Vec<Edge>,
}

struct Edge {
    profile: EdgeProfile,
    link: Link,
    endpoints: Endpoints,
    allowed_ips: Vec<IpNet>,
    /// A lookup is under way.
    resolving: bool,
    /// The last counters seen.
    peer: Option<PeerStatus>,
}

impl Edges {
    /// Gives the device its key and its peers. `mark` is put on the tunnel's own datagrams.
    pub(crate) fn configure(
        device: DeviceHandle,
        key: Secret,
        mark: u32,
        profile: &ClientProfile,
        introduction: Introduction,
    ) -> Result<Self, ConfigureError> {
        let update = DeviceUpdate { private_key: Some(Some(key)), ..DeviceUpdate::default() };
        device.configure(Transaction { fwmark: Some(mark), update, ..Transaction::default() })?;
        let none = ClientProfile { edges: Vec::new(), ..profile.clone() };
        let mut edges = Self { device, profile: none, introduction, edges: Vec::new() };
        edges.apply(profile, edges.introduction.clone(), Instant::now())?;
        Ok(edges)
    }

    /// Follows a new profile or a renewed certificate. Sessions with edges that stay go on.
    pub(crate) fn apply(
        &mut self,
        profile: &ClientProfile,
        introduction: Introduction,
        now: Instant,
    ) -> Result<(), ConfigureError> {
        let mut old: HashMap<PublicKey, Edge> =
            std::mem::take(&mut self.edges).into_iter().map(|edge| (edge.profile.public_key, edge)).collect();
        for profile in &profile.edges {
            let edge = match old.remove(&profile.public_key) {
                Some(edge) => edge.follow(profile),
                None => Edge::new(profile, now),
            };
            self.edges.push(edge);
        }
        self.profile = profile.clone();
        self.introduction = introduction;
        let mut peers: Vec<PeerUpdate> = old.into_keys().map(removal).collect();
        self.assign_networks();
        peers.extend(self.edges.iter().map(|edge| self.peer_update(edge)));
        self.device.configure(DeviceUpdate { peers, ..DeviceUpdate::default() })
    }

    /// Looks at the counters, turns to other endpoints where that is due, and returns the names to look up.
    pub(crate) fn watch(&mut self, now: Instant) -> Result<Vec<Lookup>, ConfigureError> {
        let snapshot = self.device.snapshot()?;
        let mut peers: HashMap<PublicKey, PeerStatus> =
            snapshot.device.peers.into_iter().map(|peer| (peer.public_key, peer)).collect();
        let before = self.reachable();
        let mut lookups = Vec::new();
        for index in 0..self.edges.len() {
            let edge = &mut self.edges[index];
            edge.peer = peers.remove(&edge.profile.public_key);
            let key = edge.profile.public_key;
            if !edge.link.observe(now, edge.sample()) {
                continue;
            }
            match edge.next_endpoint() {
                Next::Address(address) => self.speak_to(index, address)?,
                Next::Resolve(name) => lookups.push(Lookup { key, name }),
                Next::Nothing => {}
            }
        }
        if self.reachable() != before {
            self.log_changes(&before);
            self.move_networks()?;
        }
        Ok(lookups)
    }

    /// Takes the answer to a [`Lookup`]; no addresses when there is none.
    pub(crate) fn resolved(
        &mut self,
        lookup: &Lookup,
        addresses: Vec<SocketAddr>,
    ) -> Result<(), ConfigureError> {
        let of_key = |edge: &Edge| edge.profile.public_key == lookup.key;
        let Some(index) = self.edges.iter().position(of_key) else { return Ok(()) };
        let edge = &mut self.edges[index];
        edge.resolving = false;
        edge.endpoints.resolved(addresses);
        match edge.endpoints.next() {
            Next::Address(address) => self.speak_to(index, address),
            Next::Resolve(_) | Next::Nothing => Ok(()),
        }
    }

    /// Whether any edge answers.
    pub(crate) fn is_connected(&self) -> bool {
        self.edges.iter().any(|edge| edge.link.is_connected())
    }

    /// As of the last [`Edges::watch`].
    pub(crate) fn status(&self) -> Vec<EdgeStatus> {
        self.edges.iter().map(Edge::status).collect()
    }

    fn reachable(&self) -> Vec<bool> {
        self.edges.iter().map(|edge| edge.link.is_connected()).collect()
    }

    fn log_changes(&self, before: &[bool]) {
        for (edge, was) in self.edges.iter().zip(before) {
            let name = &edge.profile.name;
            match (was, edge.link.is_connected(), edge.endpoint()) {
                (false, true, Some(endpoint)) => tracing::info!("connected to {name} at {endpoint}"),
                (true, false, _) => tracing::warn!("{name} does not answer"),
                _ => {}
            }
        }
    }

    fn assign_networks(&mut self) {
        let networks = allowed_ips(&self.profile, &self.reachable());
        for (edge, networks) in self.edges.iter_mut().zip(networks) {
            edge.allowed_ips = networks;
        }
    }

    fn move_networks(&mut self) -> Result<(), ConfigureError> {
        self.assign_networks();
        let update = |edge: &Edge| PeerUpdate {
            update_only: true,
            replace_allowed_ips: true,
            allowed_ips: edge.allowed_ips.iter().copied().map(AllowedIpUpdate::Add).collect(),
            ..PeerUpdate::new(edge.profile.public_key)
        };
        let peers = self.edges.iter().map(update).collect();
        self.device.configure(DeviceUpdate { peers, ..DeviceUpdate::default() })
    }

    /// From the first endpoint on there are keepalives, and with them the data plane starts handshakes by
    /// itself, again and again; it goes on at a new endpoint where it was.
    fn speak_to(&self, edge: usize, endpoint: SocketAddr) -> Result<(), ConfigureError> {
        let peer = PeerUpdate {
            update_only: true,
            endpoint: Some(endpoint),
            persistent_keepalive: Some(self.profile.keepalive_s),
            ..PeerUpdate::new(self.edges[edge].profile.public_key)
        };
        self.device.configure(DeviceUpdate { peers: vec![peer], ..DeviceUpdate::default() })
    }

    fn peer_update(&self, edge: &Edge) -> PeerUpdate {
        PeerUpdate {
            preshared_key: Some(Some(edge.profile.preshared_key.clone())),
            persistent_keepalive: edge.endpoint().map(|_| self.profile.keepalive_s),
            replace_allowed_ips: true,
            allowed_ips: edge.allowed_ips.iter().copied().map(AllowedIpUpdate::Add).collect(),
            // Also when the center pushes the certificate: who introduces himself follows a restarted edge
            // after two seconds, and does not wait for a push that is under way.
            introduction: Some(self.introduction.clone()),
            ..PeerUpdate::new(edge.profile.public_key)
        }
    }
}

fn removal(key: PublicKey) -> PeerUpdate {
    PeerUpdate { remove: true, ..PeerUpdate::new(key) }
}

impl Edge {
    fn new(profile: &EdgeProfile, now: Instant) -> Self {
        Self {
            profile: profile.clone(),
            link: Link::new(now),
            endpoints: Endpoints::new(profile.endpoints.clone()),
            allowed_ips: Vec::new(),
            resolving: false,
            peer: None,
        }
    }

    fn follow(self, profile: &EdgeProfile) -> Self {
        let endpoints = if self.endpoints.names() == profile.endpoints {
            self.endpoints
        } else {
            Endpoints::new(profile.endpoints.clone())
        };
        Self { profile: profile.clone(), endpoints, ..self }
    }

    fn next_endpoint(&mut self) -> Next {
        if self.resolving {
            return Next::Nothing;
        }
        let next = self.endpoints.next();
        self.resolving = matches!(next, Next::Resolve(_));
        next
    }

    fn endpoint(&self) -> Option<SocketAddr> {
        self.peer.as_ref()?.endpoint
    }

    fn sample(&self) -> Sample {
        self.peer.as_ref().map_or_else(Sample::default, |peer| Sample {
            rx_bytes: peer.rx_bytes,
            last_handshake: peer.last_handshake,
            unanswered: peer.unanswered,
        })
    }

    fn status(&self) -> EdgeStatus {
        let Sample { rx_bytes, last_handshake, .. } = self.sample();
        EdgeStatus {
            edge: self.profile.edge,
            name: self.profile.name.clone(),
            state: if self.link.is_connected() { State::Connected } else { State::Connecting },
            endpoint: self.endpoint(),
            last_handshake: last_handshake.and_then(|at| at.try_into().ok()),
            rx_bytes,
            tx_bytes: self.peer.as_ref().map_or(0, |peer| peer.tx_bytes),
        }
    }
}

/// The edges of a profile while nothing runs.
pub(crate) fn down(profile: &ClientProfile) -> Vec<EdgeStatus> {
    let edge = |edge: &EdgeProfile| EdgeStatus {
        edge: edge.edge,
        name: edge.name.clone(),
        state: State::Down,
        endpoint: None,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
    };
    profile.edges.iter().map(edge).collect()
}
