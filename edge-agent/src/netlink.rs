//! The kernel's side of the tunnel interface, by rtnetlink: reads what is there, applies the difference, reads
//! it back. What should be there is `edge_agent_core::network`.

use edge_agent_core::network::{Actual, Change, Desired, Installed, PROTOCOL, changes};
use futures_util::TryStreamExt as _;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use verona_contract::ipnet::IpNet;

/// How often the difference is applied before it counts as impossible: removing an address can take others of
/// its network with it, which the second round puts back.
const ROUNDS: usize = 3;

/// Why the interface is not as it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// No netlink socket.
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel said no.
    #[error("{interface}: cannot {step}")]
    Step {
        /// The interface.
        interface: String,
        /// What was being done, with the address or route.
        step: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// It does not exist.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The kernel took every step and reports something else.
    #[error("{interface}: the kernel took {change:?} and does not show it")]
    NotApplied {
        /// The interface.
        interface: String,
        /// The first step still missing.
        change: Change,
    },
}

/// Makes `interface` as desired and reads it back. Returns whether anything had to change.
///
/// # Errors
///
/// [`NetworkError`]: the first step that failed.
pub async fn reconcile(interface: &str, desired: &Desired) -> Result<bool, NetworkError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetworkError::Socket)?;
    let connection = tokio::spawn(connection);
    let kernel = Kernel { handle, interface };
    let result = kernel.reconcile(desired).await;
    connection.abort();
    result
}

struct Kernel<'a> {
    handle: Handle,
    interface: &'a str,
}

impl Kernel<'_> {
    async fn reconcile(&self, desired: &Desired) -> Result<bool, NetworkError> {
        let mut changed = false;
        for _ in 0..ROUNDS {
            let (index, actual) = self.read().await?;
            let steps = changes(desired, &actual);
            if steps.is_empty() {
                return Ok(changed);
            }
            changed = true;
            for step in steps {
                let applied = self.apply(index, step).await;
                applied.map_err(|error| self.failed(describe(step), error))?;
            }
        }
        let (_, actual) = self.read().await?;
        let interface = self.interface.to_owned();
        match changes(desired, &actual).first() {
            Some(&change) => Err(NetworkError::NotApplied { interface, change }),
            None => Ok(changed),
        }
    }

    async fn read(&self) -> Result<(u32, Actual), NetworkError> {
        let fail = |step: &str| {
            let step = step.to_owned();
            move |error| self.failed(step, error)
        };
        let absent = || NetworkError::NoInterface(self.interface.to_owned());
        let mut links = Box::pin(self.handle.link().get().match_name(self.interface).execute());
        let link = links.try_next().await.map_err(|_| absent())?.ok_or_else(absent)?;
        let index = link.header.index;
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        let mut actual = Actual {
            up: link.header.flags.contains(LinkFlags::Up),
            mtu: mtu.unwrap_or_default(),
            ..Actual::default()
        };
        let addresses = self.handle.address().get().set_link_index_filter(index).execute();
        let addresses: Vec<AddressMessage> =
            Box::pin(addresses).try_collect().await.map_err(fail("list addresses"))?;
        actual.addresses = addresses.iter().filter_map(installed_address).collect();
        for route in
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
        {
            let routes = self.handle.route().get(route).execute();
            let routes: Vec<RouteMessage> =
                Box::pin(routes).try_collect().await.map_err(fail("list routes"))?;
            actual.routes.extend(routes.iter().filter_map(|route| installed_route(route, index)));
        }
        Ok((index, actual))
    }

    async fn apply(&self, index: u32, step: Change) -> Result<(), rtnetlink::Error> {
        let link =
            |builder: LinkMessageBuilder<LinkUnspec>| self.handle.link().set(builder.build()).execute();
        match step {
            Change::SetMtu(mtu) => link(LinkUnspec::new_with_index(index).mtu(mtu)).await,
            Change::SetUp => link(LinkUnspec::new_with_index(index).up()).await,
            Change::AddAddress(net) => {
                let mut request = self.handle.address().add(index, net.address(), net.prefix());
                let mark = AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL));
                request.message_mut().attributes.push(mark);
                request.execute().await
            }
            Change::RemoveAddress(net) => {
                let mut message = AddressMessage::default();
                message.header.family = family(net);
                message.header.index = index;
                message.header.prefix_len = net.prefix();
                message.attributes.push(AddressAttribute::Local(net.address()));
                self.handle.address().del(message).execute().await
            }
            Change::AddRoute(net) => self.handle.route().add(route(net, index)).execute().await,
            Change::RemoveRoute(net) => self.handle.route().del(route(net, index)).execute().await,
        }
    }

    fn failed(&self, step: String, source: rtnetlink::Error) -> NetworkError {
        NetworkError::Step { interface: self.interface.to_owned(), step, source }
    }
}

fn describe(step: Change) -> String {
    match step {
        Change::RemoveRoute(net) => format!("remove route {net}"),
        Change::RemoveAddress(net) => format!("remove address {net}"),
        Change::SetMtu(mtu) => format!("set the MTU to {mtu}"),
        Change::AddAddress(net) => format!("add address {net}"),
        Change::SetUp => "set it up".to_owned(),
        Change::AddRoute(net) => format!("add route {net}"),
    }
}

const fn family(net: IpNet) -> AddressFamily {
    if net.address().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route(net: IpNet, index: u32) -> RouteMessage {
    let mut message = match net.address() {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(v4, net.prefix()).build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(v6, net.prefix()).build(),
    };
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = if net.address().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes.push(RouteAttribute::Oif(index));
    message
}

fn installed_address(message: &AddressMessage) -> Option<Installed> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let plain = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let ours = message.attributes.contains(&AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)));
    let net = IpNet::new(local.or(plain)?, message.header.prefix_len).ok()?;
    Some(Installed { net, ours })
}

fn installed_route(message: &RouteMessage, index: u32) -> Option<Installed> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN
        || !message.attributes.contains(&RouteAttribute::Oif(index))
    {
        return None;
    }
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let unspecified = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let net =
        IpNet::new(destination.unwrap_or(unspecified), message.header.destination_prefix_length).ok()?;
    Some(Installed { net, ours: message.header.protocol == RouteProtocol::Other(PROTOCOL) })
}

/// Lets the box forward between its interfaces.
///
/// # Errors
///
/// The path that could not be written.
pub fn enable_forwarding() -> Result<(), crate::store::StoreError> {
    for path in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        let path = std::path::Path::new(path);
        let now = std::fs::read_to_string(path);
        // A kernel without IPv6 has no such file, and nothing to forward.
        if now.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            continue;
        }
        if !now.is_ok_and(|value| value.trim() == "1") {
            let written = std::fs::write(path, "1\n");
            written.map_err(|error| crate::store::StoreError::new("write", path, error))?;
        }
    }
    Ok(())
}
