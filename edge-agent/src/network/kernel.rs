//! The kernel's side of the box's own network, by rtnetlink: reads everything, applies the difference, reads it
//! back. What should be there is `edge_agent_core::network::kernel`.
//!
//! A step that fails does not keep the others from being taken: a router that is unreachable must not cost the box
//! its local networks.

use super::{message, shaper};
use edge_agent_core::network::kernel::{
    Actual, Change, Desired, Found, GROUP, Kind, PROTOCOL, Route, changes,
};
use futures_util::TryStreamExt as _;
use netlink_packet_route::IpProtocol;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoIpTunnel, InfoKind, InfoVlan, Ip6TunnelFlags, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use rtnetlink::{
    Handle, IpVersion, LinkBridge, LinkIp6Tnl, LinkMessageBuilder, LinkUnspec, LinkVlan, RouteMessageBuilder,
};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use verona_contract::ipnet::IpNet;

/// How often the difference is applied before what is left counts as impossible: one step can undo another, such as
/// an address that takes the others of its network with it.
const ROUNDS: usize = 4;

/// Why the kernel's state could not be read or changed at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel does not tell.
    #[error("cannot list {what}")]
    List {
        /// What was asked for.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
}

/// What came of an attempt.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The steps that were taken.
    pub taken: Vec<Change>,
    /// What is still not as it should be, by the path in the configuration.
    pub missing: Vec<(String, String)>,
    /// What the kernel has in the end.
    pub actual: Actual,
}

/// Makes the kernel as desired and reads it back.
///
/// # Errors
///
/// [`KernelError`] when it cannot even be read. What the kernel refuses is in the [`Outcome`].
pub async fn converge(desired: &Desired) -> Result<Outcome, KernelError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Socket)?;
    let connection = tokio::spawn(connection);
    let result = Kernel(handle).converge(desired).await;
    connection.abort();
    result
}

/// Reads what the kernel has.
///
/// # Errors
///
/// [`KernelError`].
pub async fn read() -> Result<Actual, KernelError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Socket)?;
    let connection = tokio::spawn(connection);
    let result = Kernel(handle).read().await;
    connection.abort();
    result
}

/// Takes an interface away, whoever made it. The error is one line; one that is not there is none.
///
/// # Errors
///
/// What the kernel said.
pub(crate) async fn remove_link(name: &str) -> Result<(), String> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let kernel = Kernel(handle);
    let indices = kernel.indices().await.map_err(|error| crate::center::chain(&error));
    let removed = match indices.map(|indices| indices.get(name).copied()) {
        Ok(Some(index)) => kernel.0.link().del(index).execute().await.map_err(|error| error.to_string()),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    connection.abort();
    removed
}

struct Kernel(Handle);

/// Numbers of links by name.
type Indices = HashMap<String, u32>;

impl Kernel {
    async fn converge(&self, desired: &Desired) -> Result<Outcome, KernelError> {
        let mut outcome = Outcome::default();
        let mut refused: HashMap<String, String> = HashMap::new();
        for _ in 0..ROUNDS {
            outcome.actual = self.read().await?;
            let steps = changes(desired, &outcome.actual);
            if steps.is_empty() {
                break;
            }
            let mut indices = self.indices().await?;
            for step in steps {
                match self.take(&step, &indices).await {
                    Ok(()) => {
                        if matches!(step, Change::AddLink(..) | Change::RemoveLink(_)) {
                            indices = self.indices().await?;
                        }
                        outcome.taken.push(step);
                    }
                    Err(reason) => {
                        refused.insert(describe(&step), reason);
                    }
                }
            }
        }
        outcome.actual = self.read().await?;
        let reason = |step: &Change| {
            let step_text = describe(step);
            let said =
                refused.get(&step_text).map_or("the kernel took it and does not show it", String::as_str);
            (desired.path(step), format!("cannot {step_text}: {said}"))
        };
        outcome.missing = changes(desired, &outcome.actual).iter().map(reason).collect();
        let absent = desired.absent(&outcome.actual).into_iter();
        outcome
            .missing
            .extend(absent.map(|(name, path)| (path.to_owned(), format!("there is no interface {name}"))));
        Ok(outcome)
    }

    async fn links(&self) -> Result<Vec<LinkMessage>, KernelError> {
        let list = self.0.link().get().execute();
        Box::pin(list).try_collect().await.map_err(|source| KernelError::List { what: "links", source })
    }

    async fn indices(&self) -> Result<Indices, KernelError> {
        let links = self.links().await?;
        Ok(links.iter().filter_map(|link| Some((name(link)?.to_owned(), link.header.index))).collect())
    }

    async fn read(&self) -> Result<Actual, KernelError> {
        let fail = |what| move |source| KernelError::List { what, source };
        let messages = self.links().await?;
        let names: BTreeMap<u32, String> =
            messages.iter().filter_map(|link| Some((link.header.index, name(link)?.to_owned()))).collect();
        let mut actual = Actual::default();
        for link in &messages {
            if let Some(name) = name(link) {
                actual.links.insert(name.to_owned(), found(link, &names));
            }
        }
        let list = self.0.address().get().execute();
        let addresses: Vec<AddressMessage> = Box::pin(list).try_collect().await.map_err(fail("addresses"))?;
        for one in &addresses {
            let link = names.get(&one.header.index).cloned();
            if let (Some(link), Some((net, ours))) = (link, message::address(one, PROTOCOL)) {
                actual.addresses.push((link, net, ours));
            }
        }
        for filter in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let list = self.0.route().get(filter).execute();
            let routes: Vec<RouteMessage> = Box::pin(list).try_collect().await.map_err(fail("routes"))?;
            actual.routes.extend(routes.iter().filter_map(|one| message::route(one, &names, PROTOCOL)));
        }
        for version in [IpVersion::V4, IpVersion::V6] {
            let list = self.0.rule().get(version).execute();
            let rules: Vec<RuleMessage> = Box::pin(list).try_collect().await.map_err(fail("rules"))?;
            actual.rules.extend(rules.iter().filter_map(|one| message::rule(one, PROTOCOL)));
        }
        actual.shapers = shaper::read(&self.0, &names).await.map_err(fail("queues"))?;
        Ok(actual)
    }

    /// Takes one step; the error is one line.
    async fn take(&self, step: &Change, indices: &Indices) -> Result<(), String> {
        let index =
            |name: &String| indices.get(name).copied().ok_or_else(|| format!("there is no interface {name}"));
        let set = |builder: LinkMessageBuilder<LinkUnspec>| self.0.link().set(builder.build()).execute();
        let by_name = |name: &String| index(name).map(LinkUnspec::new_with_index);
        let taken = match step {
            Change::RemoveRule(rule) => self.0.rule().del(message::of_rule(rule, PROTOCOL)).execute().await,
            Change::AddRule(rule) => {
                let mut request = self.0.rule().add();
                *request.message_mut() = message::of_rule(rule, PROTOCOL);
                request.execute().await
            }
            Change::RemoveRoute(route) => {
                self.0.route().del(message::of_route(route, index(&route.link)?, PROTOCOL)).execute().await
            }
            Change::AddRoute(route) => {
                self.0.route().add(message::of_route(route, index(&route.link)?, PROTOCOL)).execute().await
            }
            Change::RemoveAddress(link, net) => {
                let message = message::of_address(*net, index(link)?);
                self.0.address().del(message).execute().await
            }
            Change::AddAddress(link, net) => {
                let mut request = self.0.address().add(index(link)?, net.address(), net.prefix());
                let mark = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
                request.message_mut().attributes.push(mark);
                request.execute().await
            }
            Change::Release(link) => set(by_name(link)?.nocontroller()).await,
            Change::RemoveLink(link) => self.0.link().del(index(link)?).execute().await,
            Change::AddLink(name, kind) => {
                let Some(message) = new_link(name, kind, indices)? else { return Ok(()) };
                self.0.link().add(message).execute().await
            }
            Change::SetMtu(link, mtu) => set(by_name(link)?.mtu(*mtu)).await,
            Change::Enslave(link, bridge) => set(by_name(link)?.controller(index(bridge)?)).await,
            Change::SetUp(link) => set(by_name(link)?.up()).await,
            Change::Shape(link, rate) => shaper::set(&self.0, index(link)?, *rate).await,
            Change::Unshape(link) => shaper::remove(&self.0, index(link)?).await,
        };
        taken.map_err(|error| match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io().to_string(),
            other => other.to_string(),
        })
    }
}

/// None for what nobody can make.
fn new_link(name: &str, kind: &Kind, indices: &Indices) -> Result<Option<LinkMessage>, String> {
    let mark = LinkAttribute::Group(GROUP);
    Ok(match kind {
        Kind::Port => None,
        // Without a spanning tree the delay would only keep a port silent after it is plugged in.
        Kind::Bridge => {
            let bridge = LinkBridge::new(name).append_info_data(InfoBridge::ForwardDelay(0));
            Some(bridge.append_extra_attribute(mark).build())
        }
        Kind::Vlan { parent, id } => {
            let parent = indices.get(parent).ok_or_else(|| format!("there is no interface {parent}"))?;
            Some(LinkVlan::new(name, *parent, *id).append_extra_attribute(mark).build())
        }
        Kind::Softwire { local, remote } => {
            let tunnel = LinkIp6Tnl::new(name).local(*local).remote(*remote).ttl(64);
            let mut message = tunnel.protocol(IpProtocol::Ipip).append_extra_attribute(mark).build();
            without_encapsulation_limit(&mut message);
            Some(message)
        }
    })
}

/// Nobody tunnels a tunnel here: the option (RFC 2473 §4.1.1) would take eight octets of each packet, and some
/// providers drop what carries it.
fn without_encapsulation_limit(message: &mut LinkMessage) {
    for attribute in &mut message.attributes {
        let LinkAttribute::LinkInfo(parts) = attribute else { continue };
        for part in parts {
            if let LinkInfo::Data(InfoData::IpTunnel(parts)) = part {
                parts.push(InfoIpTunnel::Ipv6Flags(Ip6TunnelFlags::IgnEncapLimit));
            }
        }
    }
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn found(link: &LinkMessage, names: &BTreeMap<u32, String>) -> Found {
    let flags = link.header.flags;
    let (up, carrier) = (flags.contains(LinkFlags::Up), flags.contains(LinkFlags::LowerUp));
    let mut found = Found { up, carrier, ..Found::default() };
    let (mut parent, mut info) = (None, &[][..]);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Group(group) => found.ours = *group == GROUP,
            LinkAttribute::Controller(index) => found.bridge = names.get(index).cloned(),
            LinkAttribute::Link(index) => parent = names.get(index).cloned(),
            LinkAttribute::LinkInfo(parts) => info = parts.as_slice(),
            _ => {}
        }
    }
    let id = info.iter().find_map(|part| match part {
        LinkInfo::Data(InfoData::Vlan(parts)) => parts.iter().find_map(|part| match part {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        }),
        _ => None,
    });
    found.kind = info.iter().find_map(|part| match part {
        LinkInfo::Kind(InfoKind::Bridge) => Some(Kind::Bridge),
        LinkInfo::Kind(InfoKind::Vlan) => Some(Kind::Vlan { parent: parent.clone()?, id: id? }),
        LinkInfo::Kind(InfoKind::Ip6Tnl) => softwire(info),
        _ => None,
    });
    found
}

fn softwire(info: &[LinkInfo]) -> Option<Kind> {
    let parts = info.iter().find_map(|part| match part {
        LinkInfo::Data(InfoData::IpTunnel(parts)) => Some(parts),
        _ => None,
    })?;
    let (mut local, mut remote) = (None, None);
    for part in parts {
        match part {
            InfoIpTunnel::Local(IpAddr::V6(address)) => local = Some(*address),
            InfoIpTunnel::Remote(IpAddr::V6(address)) => remote = Some(*address),
            _ => {}
        }
    }
    Some(Kind::Softwire { local: local?, remote: remote? })
}

/// In words, for who reads the log or the center's page.
#[must_use]
pub fn describe(step: &Change) -> String {
    let route = |route: &Route| {
        let via = route.via.map_or_else(String::new, |via| format!(" via {via}"));
        format!("route {}{via} on {} in table {}", route.to, route.link, route.table)
    };
    let address = |link: &str, net: &IpNet| format!("address {net} on {link}");
    match step {
        Change::RemoveRule(rule) => format!("remove rule {} to table {}", rule.priority, rule.table),
        Change::RemoveRoute(one) => format!("remove {}", route(one)),
        Change::RemoveAddress(link, net) => format!("remove {}", address(link, net)),
        Change::Release(link) => format!("take {link} out of its bridge"),
        Change::RemoveLink(link) => format!("remove interface {link}"),
        Change::AddLink(link, Kind::Vlan { parent, id }) => format!("make {link}, VLAN {id} on {parent}"),
        Change::AddLink(link, Kind::Softwire { remote, .. }) => format!("make {link}, softwire to {remote}"),
        Change::AddLink(link, _) => format!("make bridge {link}"),
        Change::SetMtu(link, mtu) => format!("set the MTU of {link} to {mtu}"),
        Change::Enslave(link, bridge) => format!("put {link} into {bridge}"),
        Change::SetUp(link) => format!("set {link} up"),
        Change::AddAddress(link, net) => format!("add {}", address(link, net)),
        Change::AddRoute(one) => format!("add {}", route(one)),
        Change::AddRule(rule) => format!("add rule {} to table {}", rule.priority, rule.table),
        Change::Shape(link, rate) => format!("shape {link} to {} kbit/s by CAKE", rate / 125),
        Change::Unshape(link) => format!("give {link} its ordinary queue"),
    }
}
