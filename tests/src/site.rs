//! The whole product at work: center, signer, edge, a web server in the LAN, and one Verona Client.

use lab::parts::{Center, Edge, VeronaClient};
use lab::{ClientPlan, Flow, Namespace, Plan, Process, Run, Topology, address, wait, web};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The page in the LAN.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(address::LAN_HOST), 80);
/// For everything that takes several programs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A site with an enrolled edge.
#[derive(Debug)]
pub struct Site {
    /// The center, at work.
    pub center: Center,
    /// The edge, with its configuration confirmed.
    pub edge: Edge,
    /// The edge's id.
    pub edge_id: String,
    /// The owner's code.
    pub owner: String,
    /// The networks.
    pub net: Topology,
    _web: Process,
}

/// A client and its id at the center.
#[derive(Debug)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// The client.
    pub verona: VeronaClient,
}

impl Site {
    /// Brings all of it up, with places for the clients called `names`.
    ///
    /// # Panics
    ///
    /// Something does not come up.
    #[must_use]
    pub fn start(run: &Run, names: &[&'static str]) -> Self {
        let clients = names.iter().map(|name| ClientPlan { name, nat: false }).collect();
        let net = Topology::build(run, &Plan { clients }).unwrap();
        let center = Center::start(&net.center).unwrap();
        let owner = center.add_owner("Acme", "10.9.0.0/24").unwrap();
        let record = run.dir().join("factory.json");
        let edge_id = center.add_edge(&owner, &record).unwrap();
        let edge = Edge::start(&net.edge, &record).unwrap();
        center.confirmed(&edge_id, 1, PATIENCE).unwrap();
        let web = web::start(&net.lan, SERVER).unwrap();
        Self { center, edge, edge_id, owner, net, _web: web }
    }

    /// The place of the client called `name`.
    ///
    /// # Panics
    ///
    /// There is none.
    #[must_use]
    pub fn place(&self, name: &str) -> &Namespace {
        &self.net.client(name).unwrap().host
    }

    /// Enrols the client called `name`, not up yet.
    ///
    /// # Panics
    ///
    /// The center refuses.
    #[must_use]
    pub fn enrol(&self, name: &str, push: bool) -> Client {
        let (id, code) = self.center.add_client(&self.owner, name, push).unwrap();
        let verona = VeronaClient::new(self.place(name), name);
        verona.enroll(&code).unwrap();
        Client { id, verona }
    }

    /// Enrols the client called `name` and waits until it reaches the LAN.
    ///
    /// # Panics
    ///
    /// It does not.
    #[must_use]
    pub fn connect(&self, name: &str) -> Client {
        let mut client = self.enrol(name, false);
        client.verona.up().unwrap();
        web::fetch_soon(client.verona.place(), SERVER, PATIENCE).unwrap();
        client
    }

    /// A datagram each 5 ms from the client through the tunnel to the LAN host, already arriving.
    ///
    /// # Panics
    ///
    /// Nothing arrives.
    #[must_use]
    pub fn flow(&self, client: &Client) -> Flow {
        let to = (address::LAN_HOST, 4000).into();
        let pace = Duration::from_millis(5);
        let flow = Flow::start(client.verona.place(), &self.net.lan, to, pace).unwrap();
        wait::until("the flow to arrive", PATIENCE, || flow.balance().arrivals.count > 20).unwrap();
        flow
    }
}
