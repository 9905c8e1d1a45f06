//! Routes, rules and addresses as messages of rtnetlink, in both directions.

use edge_agent_core::network::kernel::{Route, Rule};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::RouteMessageBuilder;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use verona_contract::ipnet::IpNet;

/// The address, and whether it carries `protocol`. None for what names no address.
pub(super) fn address(message: &AddressMessage, protocol: u8) -> Option<(IpNet, bool)> {
    let (mut local, mut plain, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the other one is the peer's.
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => plain = Some(*address),
            AddressAttribute::Protocol(of) => ours = *of == AddressProtocol::Other(protocol),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(plain)?, message.header.prefix_len).ok()?;
    Some((net, ours))
}

/// The message that removes `net`.
pub(super) fn of_address(net: IpNet, link: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(net.address().is_ipv6());
    message.header.index = link;
    message.header.prefix_len = net.prefix();
    message.attributes.push(AddressAttribute::Local(net.address()));
    message
}

/// A unicast route, and whether it carries `protocol`. None for every other kind.
pub(super) fn route(
    message: &RouteMessage,
    names: &BTreeMap<u32, String>,
    protocol: u8,
) -> Option<(Route, bool)> {
    let v6 = message.header.address_family == AddressFamily::Inet6;
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut to = if v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let (mut via, mut link, mut metric) = (None, None, 0);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(index) => link = names.get(index).cloned(),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let to = IpNet::new(to, message.header.destination_prefix_length).ok()?;
    let ours = message.header.protocol == RouteProtocol::Other(protocol);
    Some((Route { to, via, link: link?, table, metric }, ours))
}

/// The message of `route` out of the link of this number.
pub(super) fn of_route(route: &Route, link: u32, protocol: u8) -> RouteMessage {
    let Route { to, via, table, metric, .. } = route;
    let mut message = match to.address() {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, to.prefix())
            .table_id(*table)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, to.prefix())
            .table_id(*table)
            .build(),
    };
    message.header.protocol = RouteProtocol::Other(protocol);
    message.header.kind = RouteType::Unicast;
    let link_scope = via.is_none() && to.address().is_ipv4();
    message.header.scope = if link_scope { RouteScope::Link } else { RouteScope::Universe };
    message.attributes.push(RouteAttribute::Oif(link));
    message.attributes.push(RouteAttribute::Priority(*metric));
    match via {
        Some(IpAddr::V4(v4)) => message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(*v4))),
        Some(IpAddr::V6(v6)) => message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(*v6))),
        None => {}
    }
    message
}

/// A rule that carries `protocol`; none for every other.
pub(super) fn rule(message: &RuleMessage, protocol: u8) -> Option<Rule> {
    let v6 = message.header.family == AddressFamily::Inet6;
    let mut rule = Rule {
        priority: 0,
        v6,
        from: None,
        mark: None,
        table: u32::from(message.header.table),
        without_default: false,
    };
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(address) => rule.from = Some(*address),
            RuleAttribute::FwMark(mark) => rule.mark = Some(*mark),
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::SuppressPrefixLen(0) => rule.without_default = true,
            RuleAttribute::Protocol(of) => ours = *of == RouteProtocol::Other(protocol),
            _ => {}
        }
    }
    ours.then_some(rule)
}

/// The message of `rule`.
pub(super) fn of_rule(rule: &Rule, protocol: u8) -> RuleMessage {
    let Rule { priority, v6, from, mark, table, without_default } = rule;
    let mut message = RuleMessage::default();
    message.header.family = family(*v6);
    message.header.action = RuleAction::ToTable;
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(*priority));
    attributes.push(RuleAttribute::Table(*table));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(protocol)));
    if *without_default {
        attributes.push(RuleAttribute::SuppressPrefixLen(0));
    }
    if let Some(mark) = mark {
        attributes.push(RuleAttribute::FwMark(*mark));
    }
    if let Some(address) = from {
        attributes.push(RuleAttribute::Source(*address));
        message.header.src_len = if *v6 { 128 } else { 32 };
    }
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

const fn family(v6: bool) -> AddressFamily {
    if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
