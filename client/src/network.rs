//! The interface's addresses and routes, by rtnetlink.
//!
//! Routes go into a table of our own, which everything but the tunnel's own marked datagrams is looked up
//! in first: so no route, not even a default route, can swallow the way to the edge, and nothing of the
//! host's own table is touched. The table goes with the interface; the rules are deleted at the end, or
//! at the next start after a crash.

use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use verona_contract::api::ClientProfile;
use verona_contract::ipnet::IpNet;

/// Of our rules: before the main table's 32766.
const PRIORITIES: [u32; 3] = [30_700, 30_701, 30_702];
/// Table numbers and marks have this upper half ("VE"), so that they meet no other program's by chance.
const UPPER_HALF: u32 = 0x5645_0000;
/// Number of the main table (linux/rtnetlink.h).
const RT_TABLE_MAIN: u32 = 254;

/// The kernel refused something: the environment's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    /// No netlink socket.
    #[error("opening a netlink socket failed")]
    Open(#[source] io::Error),
    /// The interface is gone.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// One request was refused.
    #[error("{doing} failed")]
    Request { doing: String, source: rtnetlink::Error },
}

/// Mark and table of an interface: the same after a crash, another for another interface.
pub(crate) fn mark(interface: &str) -> u32 {
    // FNV-1a, folded to the 16 bits that are left.
    let hash = interface
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    UPPER_HALF | (hash >> 16 ^ hash & 0xffff)
}

/// The part of the host's network that is ours.
pub(crate) struct Network {
    handle: Handle,
    interface: u32,
    table: u32,
    addresses: BTreeSet<IpAddr>,
    routes: BTreeSet<IpNet>,
    rules: Vec<RuleMessage>,
}

impl Network {
    /// Finds the interface and removes what a crash left of our rules. Needs a tokio runtime.
    pub(crate) async fn open(interface: &str) -> Result<Self, NetworkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Open)?;
        tokio::spawn(connection);
        let query = handle.link().get().match_name(interface.to_owned()).execute().try_next().await;
        let link = query.map_err(failed(format!("looking for interface {interface}")))?;
        let link = link.ok_or_else(|| NetworkError::NoInterface(interface.to_owned()))?;
        let network = Self {
            handle,
            interface: link.header.index,
            table: mark(interface),
            addresses: BTreeSet::new(),
            routes: BTreeSet::new(),
            rules: Vec::new(),
        };
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for with_default in [false, true] {
                network.delete_rules(&rules(family, network.table, with_default)).await;
            }
        }
        Ok(network)
    }

    /// Brings the interface to what the profile says, and up: adds what is missing, removes what is left out.
    pub(crate) async fn apply(&mut self, profile: &ClientProfile) -> Result<(), NetworkError> {
        let addresses: BTreeSet<IpAddr> = profile.addresses.iter().map(IpNet::address).collect();
        let routes: BTreeSet<IpNet> = crate::routing::routes(profile).into_iter().collect();
        for address in addresses.difference(&self.addresses) {
            self.add_address(*address).await?;
        }
        let link = LinkUnspec::new_with_index(self.interface).up().mtu(u32::from(profile.mtu)).build();
        let set = self.handle.link().set(link).execute().await;
        set.map_err(failed(format!("setting the interface up with MTU {}", profile.mtu)))?;
        for route in &routes {
            // Repeated for routes that exist: the kernel drops a route when its last address goes.
            self.add_route(*route).await?;
        }
        for route in self.routes.difference(&routes) {
            let message = self.route(*route);
            ignore_absent(self.handle.route().del(message).execute().await)
                .map_err(failed(format!("deleting the route to {route}")))?;
        }
        for address in self.addresses.difference(&addresses) {
            self.delete_address(*address).await?;
        }
        (self.addresses, self.routes) = (addresses, routes);
        self.apply_rules().await
    }

    /// Deletes our rules; addresses and routes go with the interface.
    pub(crate) async fn close(self) {
        self.delete_rules(&self.rules).await;
    }

    async fn apply_rules(&mut self) -> Result<(), NetworkError> {
        let mut wanted = Vec::new();
        for (family, is_of_family) in [
            (AddressFamily::Inet, IpAddr::is_ipv4 as fn(&IpAddr) -> bool),
            (AddressFamily::Inet6, IpAddr::is_ipv6),
        ] {
            let mut routes = self.routes.iter().filter(|route| is_of_family(&route.address())).peekable();
            if routes.peek().is_some() {
                wanted.extend(rules(family, self.table, routes.any(|route| route.prefix() == 0)));
            }
        }
        if wanted == self.rules {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.rules, wanted);
        self.delete_rules(&old).await;
        for rule in &self.rules {
            let mut request = self.handle.rule().add();
            *request.message_mut() = rule.clone();
            request.execute().await.map_err(failed("adding a routing rule".to_owned()))?;
        }
        Ok(())
    }

    /// What is absent is no error.
    async fn delete_rules(&self, rules: &[RuleMessage]) {
        for rule in rules {
            while self.handle.rule().del(rule.clone()).execute().await.is_ok() {}
        }
    }

    async fn add_address(&self, address: IpAddr) -> Result<(), NetworkError> {
        // As a host: the network's route is ours to set, in our own table.
        let prefix = IpNet::host(address).prefix();
        let request = self.handle.address().add(self.interface, address, prefix).replace();
        request.execute().await.map_err(failed(format!("adding address {address}")))
    }

    async fn delete_address(&self, address: IpAddr) -> Result<(), NetworkError> {
        let prefix = IpNet::host(address).prefix();
        let message = self.handle.address().add(self.interface, address, prefix).message_mut().clone();
        ignore_absent(self.handle.address().del(message).execute().await)
            .map_err(failed(format!("deleting address {address}")))
    }

    async fn add_route(&self, route: IpNet) -> Result<(), NetworkError> {
        let request = self.handle.route().add(self.route(route)).replace();
        request.execute().await.map_err(failed(format!("adding the route to {route}")))
    }

    fn route(&self, route: IpNet) -> RouteMessage {
        match route.address() {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, route.prefix())
                .output_interface(self.interface)
                .table_id(self.table)
                .protocol(RouteProtocol::Static)
                .scope(RouteScope::Link)
                .kind(RouteType::Unicast)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(address, route.prefix())
                .output_interface(self.interface)
                .table_id(self.table)
                .protocol(RouteProtocol::Static)
                .kind(RouteType::Unicast)
                .build(),
        }
    }
}

/// `not fwmark M lookup T`. With a default route in T there are two more, as wg-quick has them: first only
/// what is narrower in T, then what is narrower in the main table (the host's own networks), then all of T.
fn rules(family: AddressFamily, table: u32, with_default: bool) -> Vec<RuleMessage> {
    let [narrow, main, all] = PRIORITIES.map(|priority| rule(family, table, priority));
    let lookup = |mut rule: RuleMessage, table, narrow: bool| {
        rule.attributes.push(RuleAttribute::Table(table));
        rule.attributes.extend(narrow.then_some(RuleAttribute::SuppressPrefixLen(0)));
        rule
    };
    if with_default {
        vec![lookup(narrow, table, true), lookup(main, RT_TABLE_MAIN, true), lookup(all, table, false)]
    } else {
        vec![lookup(narrow, table, false)]
    }
}

/// For everything without our mark.
fn rule(family: AddressFamily, mark: u32, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.header.flags = RuleFlags::Invert;
    rule.attributes = vec![RuleAttribute::Priority(priority), RuleAttribute::FwMark(mark)];
    rule
}

fn ignore_absent(result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message))
            if [-libc::ESRCH, -libc::ENOENT, -libc::EADDRNOTAVAIL].contains(&message.raw_code()) =>
        {
            Ok(())
        }
        result => result,
    }
}

fn failed(doing: String) -> impl FnOnce(rtnetlink::Error) -> NetworkError {
    move |source| NetworkError::Request { doing, source }
}
