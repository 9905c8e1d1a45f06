//! The kernel's links, addresses, routes and rules of the box's own network: what should be there, what is, and the
//! steps from one to the other.
//!
//! What the agent made carries its mark (a link's group, the protocol of an address, a route or a rule), so it takes
//! its own away when it is no longer wanted, also after a restart, and never touches what someone else put there.
//! Links go by name here: their numbers change under the steps. The tunnel's interface is not among them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use verona_contract::ipnet::IpNet;

/// Marks addresses, routes and rules. Not the tunnel's ([`super::PROTOCOL`]): each part removes only its own.
pub const PROTOCOL: u8 = 119;

/// Marks links (`IFLA_GROUP`).
pub const GROUP: u32 = 119;

/// The routing table that everything falls back to.
pub const MAIN: u32 = 254;

/// What the kernel should have. The text with each part is the path in the configuration that asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// By name, all of them up.
    pub links: BTreeMap<String, (Link, String)>,
    /// By link and address.
    pub addresses: BTreeMap<(String, IpNet), String>,
    /// Each once.
    pub routes: BTreeMap<Route, String>,
    /// Each once.
    pub rules: BTreeSet<Rule>,
    /// Queues that send no more than so many octets a second, by link.
    pub shapers: BTreeMap<String, (u64, String)>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it comes from.
    pub kind: Kind,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// Octets; none = as it is.
    pub mtu: Option<u32>,
}

/// Where an interface comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The machine has it, or not.
    Port,
    /// Made here.
    Bridge,
    /// Made here, on a port.
    Vlan {
        /// The port.
        parent: String,
        /// 1 to 4094.
        id: u16,
    },
    /// Made here: IPv4 in IPv6 (RFC 2473).
    Softwire {
        /// The box's end.
        local: Ipv6Addr,
        /// The provider's.
        remote: Ipv6Addr,
    },
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Host bits clear.
    pub to: IpNet,
    /// The router; none = on the link itself.
    pub via: Option<IpAddr>,
    /// The interface.
    pub link: String,
    /// The table.
    pub table: u32,
    /// The lowest counts. From 1 up: the kernel makes 1024 of an IPv6 route's 0.
    pub metric: u32,
}

/// One rule of policy routing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The lowest is asked first.
    pub priority: u32,
    /// Of IPv6, or of IPv4.
    pub v6: bool,
    /// Only for packets from this address.
    pub from: Option<IpAddr>,
    /// Only for packets with this mark.
    pub mark: Option<u32>,
    /// The table that is asked.
    pub table: u32,
    /// Whether its default route does not count.
    pub without_default: bool,
}

/// What the kernel reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// By name.
    pub links: BTreeMap<String, Found>,
    /// All, with the name of their link, and whether they are ours.
    pub addresses: Vec<(String, IpNet, bool)>,
    /// All of unicast, and whether they are ours.
    pub routes: Vec<(Route, bool)>,
    /// Ours.
    pub rules: Vec<Rule>,
    /// Ours.
    pub shapers: BTreeMap<String, u64>,
}

/// A link as the kernel reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// None = some other.
    pub kind: Option<Kind>,
    /// The bridge, or whatever else it is a part of.
    pub bridge: Option<String>,
    /// Octets.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether there is anything at its other end.
    pub carrier: bool,
    /// Whether it carries [`GROUP`].
    pub ours: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Takes a rule of ours away.
    RemoveRule(Rule),
    /// Takes a route of ours away.
    RemoveRoute(Route),
    /// Takes an address of ours away.
    RemoveAddress(String, IpNet),
    /// Takes a link out of a bridge of ours.
    Release(String),
    /// Takes a link of ours away.
    RemoveLink(String),
    /// Makes a bridge or a VLAN.
    AddLink(String, Kind),
    /// In octets.
    SetMtu(String, u32),
    /// Makes it a port of a bridge.
    Enslave(String, String),
    /// Addresses of IPv6 and routes need it up.
    SetUp(String),
    /// Adds an address.
    AddAddress(String, IpNet),
    /// Adds a route.
    AddRoute(Route),
    /// Adds a rule.
    AddRule(Rule),
    /// Has a link send no more than so many octets a second.
    Shape(String, u64),
    /// Gives a link its ordinary queue.
    Unshape(String),
}

impl Desired {
    /// The path in the configuration that asks for what a step does.
    #[must_use]
    pub fn path(&self, change: &Change) -> String {
        let link = |name: &String| self.links.get(name).map(|(_, path)| path.clone());
        let path = match change {
            Change::AddAddress(name, net) => self.addresses.get(&(name.clone(), *net)).cloned(),
            Change::AddRoute(route) => self.routes.get(route).cloned(),
            Change::Shape(name, _) => self.shapers.get(name).map(|(_, path)| path.clone()),
            Change::AddLink(name, _)
            | Change::SetMtu(name, _)
            | Change::Enslave(name, _)
            | Change::SetUp(name) => link(name),
            _ => None,
        };
        path.unwrap_or_else(|| "network".to_owned())
    }

    /// The links that the machine should have and does not, with their paths.
    #[must_use]
    pub fn absent<'a>(&'a self, actual: &Actual) -> Vec<(&'a str, &'a str)> {
        let absent = |(name, (link, _)): &(&String, &(Link, String))| {
            link.kind == Kind::Port && !actual.links.contains_key(*name)
        };
        self.links.iter().filter(absent).map(|(name, (_, path))| (name.as_str(), path.as_str())).collect()
    }
}

/// The steps from `actual` to `desired`, in the order in which the kernel accepts them. None when they agree. What
/// needs a link that is not there has no step: see [`Desired::absent`].
#[must_use]
pub fn changes(desired: &Desired, actual: &Actual) -> Vec<Change> {
    let mut steps = Vec::new();
    steps.extend(
        actual.rules.iter().filter(|rule| !desired.rules.contains(rule)).cloned().map(Change::RemoveRule),
    );
    for (route, ours) in &actual.routes {
        if *ours && !desired.routes.contains_key(route) {
            steps.push(Change::RemoveRoute(route.clone()));
        }
    }
    for (link, net, ours) in &actual.addresses {
        if *ours && !desired.addresses.contains_key(&(link.clone(), *net)) {
            steps.push(Change::RemoveAddress(link.clone(), *net));
        }
    }
    let plain = |link: &&String| !desired.shapers.contains_key(*link);
    steps.extend(actual.shapers.keys().filter(plain).cloned().map(Change::Unshape));
    links(desired, actual, &mut steps);
    let usable = |name: &String| {
        actual.links.contains_key(name)
            || steps.iter().any(|step| matches!(step, Change::AddLink(made, _) if made == name))
    };
    let mut late = Vec::new();
    for (link, net) in desired.addresses.keys() {
        let there = actual.addresses.iter().any(|(of, one, _)| of == link && one == net);
        if !there && usable(link) {
            late.push(Change::AddAddress(link.clone(), *net));
        }
    }
    let missing = |route: &&Route| usable(&route.link) && !actual.routes.iter().any(|(one, _)| one == *route);
    // A router must be reachable before it is used.
    let (direct, through): (Vec<&Route>, Vec<&Route>) =
        desired.routes.keys().filter(missing).partition(|route| route.via.is_none());
    late.extend(direct.into_iter().chain(through).cloned().map(Change::AddRoute));
    late.extend(
        desired.rules.iter().filter(|rule| !actual.rules.contains(rule)).cloned().map(Change::AddRule),
    );
    for (link, (rate, _)) in &desired.shapers {
        if actual.shapers.get(link) != Some(rate) && usable(link) {
            late.push(Change::Shape(link.clone(), *rate));
        }
    }
    steps.append(&mut late);
    steps
}

fn links(desired: &Desired, actual: &Actual, steps: &mut Vec<Change>) {
    let fits = |name: &String, found: &Found| {
        let wanted = desired.links.get(name).map(|(link, _)| &link.kind);
        wanted.is_some_and(|kind| *kind == Kind::Port || found.kind.as_ref() == Some(kind))
    };
    let is_ours = |name: &String| actual.links.get(name).is_some_and(|found| found.ours);
    for (name, found) in &actual.links {
        let wanted = desired.links.get(name).and_then(|(link, _)| link.bridge.as_ref());
        if found.bridge.as_ref().is_some_and(|bridge| is_ours(bridge) && wanted != Some(bridge)) {
            steps.push(Change::Release(name.clone()));
        }
    }
    let unfit = |(name, found): &(&String, &Found)| found.ours && !fits(name, found);
    steps.extend(actual.links.iter().filter(unfit).map(|(name, _)| Change::RemoveLink(name.clone())));
    let found = |name: &String| actual.links.get(name).filter(|found| fits(name, found));
    // Bridges have their ports, and VLANs their parents, before them in the order of names or not: two passes.
    for (name, (link, _)) in &desired.links {
        let possible = match &link.kind {
            Kind::Port => false,
            Kind::Bridge | Kind::Softwire { .. } => true,
            Kind::Vlan { parent, .. } => actual.links.contains_key(parent),
        };
        if possible && found(name).is_none() {
            steps.push(Change::AddLink(name.clone(), link.kind.clone()));
        }
    }
    let made: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Change::AddLink(name, _) => Some(name.clone()),
            _ => None,
        })
        .collect();
    for (name, (link, _)) in &desired.links {
        let now = match found(name) {
            Some(found) => found.clone(),
            None if made.contains(name) => Found::default(),
            None => continue,
        };
        if let Some(mtu) = link.mtu.filter(|mtu| *mtu != now.mtu) {
            steps.push(Change::SetMtu(name.clone(), mtu));
        }
        if let Some(bridge) = link.bridge.as_ref().filter(|bridge| now.bridge.as_ref() != Some(*bridge)) {
            steps.push(Change::Enslave(name.clone(), bridge.clone()));
        }
        if !now.up {
            steps.push(Change::SetUp(name.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
