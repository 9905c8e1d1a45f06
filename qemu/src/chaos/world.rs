//! The product at work, and how each fault is made and ended in it.

use super::schedule::{CLIENTS, Fault, Line, Victim};
use crate::parts::{Center, Edge, VeronaClient};
use crate::{
    ClientPlan, Error, Flow, Impairment, Namespace, Plan, Process, Result, Run, Topology, WallClock, address,
    wait, web,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The page in the LAN.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(address::LAN_HOST), 80);

/// For everything that takes several programs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The edge's disk: its spool of 64 MiB and everything else have room in it.
const DISK: &str = "size=96m,mode=0755";

const NAMES: [&str; CLIENTS] = ["alice", "bob", "carol"];

/// A client with its traffic.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) verona: VeronaClient,
    /// Whether it may be in.
    pub(super) enabled: bool,
    /// Whether that was ever changed.
    pub(super) changed: bool,
    /// A datagram each 20 ms to the LAN.
    flow: Flow,
}

/// Everything.
pub(super) struct World {
    pub(super) center: Center,
    pub(super) edge: Edge,
    pub(super) edge_id: String,
    pub(super) clients: Vec<Client>,
    net: Topology,
    clock: WallClock,
    disk: PathBuf,
    _web: Process,
}

impl World {
    /// Brings all of it up: center, edge on a disk of its own with a clock of its own, clients with traffic.
    pub(super) fn build(run: &Run) -> Result<Self> {
        let clients = NAMES.iter().map(|name| ClientPlan { name, nat: false }).collect();
        let net = Topology::build(run, &Plan { clients })?;
        let center = Center::start(&net.center)?;
        let owner = center.add_owner("Chaos", "10.9.0.0/24")?;
        let record = run.dir().join("factory.json");
        let edge_id = center.add_edge(&owner, &record)?;
        let disk = run.dir().join("edge");
        run.mount_tmpfs(&disk, DISK)?;
        let mut edge = Edge::start(&net.edge, &record)?;
        let clock = WallClock::new(run, 0)?;
        edge.wake_with(clock.clone())?;
        center.confirmed(&edge_id, 1, PATIENCE)?;
        let web = web::start(&net.lan, SERVER)?;
        let mut world = Self { center, edge, edge_id, clients: Vec::new(), net, clock, disk, _web: web };
        for (index, name) in NAMES.into_iter().enumerate() {
            let client = world.client(&owner, name, 4000 + index)?;
            world.clients.push(client);
        }
        Ok(world)
    }

    fn client(&self, owner: &str, name: &'static str, port: usize) -> Result<Client> {
        let (id, code) = self.center.add_client(owner, name, false)?;
        let mut verona = VeronaClient::new(self.place(name)?, name);
        verona.enroll(&code)?;
        verona.up()?;
        web::fetch_soon(verona.place(), SERVER, PATIENCE)?;
        // Small numbers.
        let to = (address::LAN_HOST, port as u16).into();
        let flow = Flow::start(verona.place(), &self.net.lan, to, Duration::from_millis(20))?;
        Ok(Client { id, verona, enabled: true, changed: false, flow })
    }

    fn place(&self, name: &str) -> Result<&Namespace> {
        let site = self.net.client(name);
        Ok(&site.ok_or_else(|| Error::Environment(format!("no place for {name}")))?.host)
    }

    /// Whether the client reaches the LAN now.
    pub(super) fn reaches(&self, client: &Client) -> bool {
        web::fetch(client.verona.place(), SERVER).is_ok()
    }

    /// Datagrams of the client that have arrived in the LAN.
    pub(super) fn arrived(client: &Client) -> u64 {
        client.flow.balance().arrivals.count
    }

    /// The namespace and the interface whose egress is a line's far end, and the same of its near end.
    fn ends(&self, line: Line) -> Result<[(&Namespace, &'static str); 2]> {
        let internet = &self.net.internet;
        Ok(match line {
            Line::Wan => [(internet, "edge"), (&self.net.edge, "wan")],
            Line::Center => [(internet, "center"), (&self.net.center, "eth0")],
            Line::Client(index) => {
                const PORTS: [&str; CLIENTS] = ["client0", "client1", "client2"];
                [(internet, PORTS[index % CLIENTS]), (self.place(NAMES[index % CLIENTS])?, "eth0")]
            }
        })
    }

    fn lose(&self, line: Line, percent: u32) -> Result<()> {
        self.ends(line)?
            .into_iter()
            .try_for_each(|(place, interface)| place.impair(interface, Impairment::Loss { percent }))
    }

    /// Makes a fault.
    pub(super) fn begin(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(Victim::Agent) => self.edge.agent.crash(),
            Fault::Kill(Victim::Tunnel) => self.edge.tunnel.crash(),
            Fault::Kill(Victim::Center) => self.center.serving.crash(),
            Fault::Kill(Victim::Client(index)) => {
                self.clients[index].verona.process.as_mut().map_or(Ok(()), Process::crash)
            }
            Fault::Cut(line) => self.lose(line, 100),
            Fault::Loss(line, percent) => self.lose(line, percent),
            Fault::DiskFull => fill(&self.disk.join("filler")),
            Fault::Clock(seconds) => self.clock.set(seconds),
        }
    }

    /// Ends it.
    pub(super) fn end(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill(Victim::Agent) => self.edge.agent_again(),
            Fault::Kill(Victim::Tunnel) => self.edge.tunnel_again(),
            Fault::Kill(Victim::Center) => self.center.serve_again(),
            Fault::Kill(Victim::Client(index)) => self.clients[index].verona.up(),
            Fault::Cut(line) | Fault::Loss(line, _) => self.lose(line, 0),
            Fault::DiskFull => {
                let filler = self.disk.join("filler");
                std::fs::remove_file(&filler).map_err(Error::io(format!("remove {}", filler.display())))
            }
            Fault::Clock(_) => self.clock.set(0),
        }
    }

    /// Disables the client at the center, or enables it again; returns whether the center took it.
    pub(super) fn toggle(&mut self, index: usize) -> bool {
        let (action, id) =
            (if self.clients[index].enabled { "disable" } else { "enable" }, &self.clients[index].id);
        let taken = self.center.admin(&["client", action, id]).is_ok();
        self.clients[index].enabled ^= taken;
        self.clients[index].changed |= taken;
        taken
    }

    /// Has the edge write a record. Its number, if it was acknowledged.
    pub(super) fn append(&self, body: &str) -> Option<u64> {
        let answer =
            self.edge.edgectl(&["logs", "append", "--stream", "audit", "--event", "chaos", body]).ok()?;
        crate::parts::field(&answer, "seq")?.as_u64()
    }

    /// The configuration in force, as the edge tells.
    pub(super) fn config_seq(&self) -> Option<u64> {
        self.edge.edgectl(&["status"]).ok()?.pointer("/config/seq")?.as_u64()
    }

    /// Whether every record of the chain is as it was written.
    pub(super) fn chains_hold(&self) -> Result<bool> {
        let chains = self.center.admin(&["log", "verify"])?;
        Ok(!chains.to_string().contains("\"unbroken\":false"))
    }

    /// The bodies of the records that the episodes wrote, as the center has them.
    pub(super) fn told(&self) -> Result<Vec<String>> {
        let arguments = ["log", "list", "--edge", &self.edge_id, "--event", "chaos", "--limit", "1000000"];
        let list = self.center.admin(&arguments)?;
        let records = crate::parts::field(&list, "records").and_then(serde_json::Value::as_array);
        let bodies = records.into_iter().flatten().filter_map(|record| record["body"].as_str());
        Ok(bodies.map(str::to_owned).collect())
    }

    /// Waits until `condition` holds.
    pub(super) fn soon(&self, what: &str, limit: Duration, condition: impl FnMut() -> bool) -> Result<()> {
        wait::until(what, limit, condition)
    }
}

/// Writes until nothing more fits.
fn fill(path: &PathBuf) -> Result<()> {
    use std::io::Write as _;
    let failed = || format!("fill the disk by {}", path.display());
    let mut file = std::fs::File::create(path).map_err(Error::io(failed()))?;
    let block = vec![0x55; 1 << 20];
    // The last blocks in small pieces, so that not even a short file fits.
    for piece in [block.len(), 4096, 1] {
        loop {
            match file.write_all(&block[..piece]) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => return Err(Error::io(failed())(error)),
            }
        }
    }
    Ok(())
}
