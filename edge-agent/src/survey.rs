//! Finds out what works now: the center, the gateway, name service, the tunnel.
//!
//! Each question is asked anew, over a connection of its own: one that was made before a change may outlive what the
//! change has cut. What the answers mean for a trial is `edge_agent_core::trial`.

use crate::control;
use crate::endpoint::Endpoint;
use crate::https::{Channel, Request};
use edge_agent_core::trial::Survey;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hyper::Method;
use netlink_packet_route::link::{LinkAttribute, State as LinkState};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};
use verona_contract::api::EST_CACERTS;
use verona_contract::control::{Command, Reply};

/// How long a change may wait to learn what works before it. What answers later counts as not working, which
/// reverts less, never more.
pub const BEFORE: Duration = Duration::from_millis(1500);

/// How long one question may take during a trial: a TLS handshake over a bad line.
pub const DURING: Duration = Duration::from_secs(5);

/// Where the box's name servers are told.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Name servers that are asked, as the C library does.
const SERVERS: usize = 3;

/// How often the neighbour table is looked at while an address is being resolved.
const LOOK: Duration = Duration::from_millis(50);

/// Asks.
#[derive(Clone)]
pub struct Surveyor {
    /// The center.
    pub endpoint: Arc<Endpoint>,
    /// The tunnel's control socket.
    pub tunnel: PathBuf,
}

impl Surveyor {
    /// What works now of what is `asked` for, within `limit`. The tunnel, which is always asked, works if it carries
    /// out configuration `seq`.
    pub async fn survey(&self, asked: &Survey, seq: u64, limit: Duration) -> Survey {
        let (center, gateway, dns, tunnel) = tokio::join!(
            ask(asked.center, limit, self.center(limit)),
            ask(asked.gateway, limit, gateway()),
            ask(asked.dns, limit, dns(Path::new(RESOLV_CONF))),
            ask(true, limit, self.tunnel(seq)),
        );
        Survey { center, gateway, dns, tunnel }
    }

    /// Whether the center accepts us, by the shortest question that takes our certificate.
    async fn center(&self, limit: Duration) -> bool {
        let request = Request {
            method: Method::GET,
            path: EST_CACERTS,
            headers: vec![],
            body: hyper::body::Bytes::new(),
            limit,
            max_answer: 256 * 1024,
        };
        match Channel::new(self.endpoint.clone()).send(request).await {
            Ok(_) => true,
            Err(error) => error.is_answer() && !error.refuses_us(),
        }
    }

    async fn tunnel(&self, seq: u64) -> bool {
        let answer = control::ask(&self.tunnel, Command::Status).await;
        matches!(answer, Ok(Reply::Status(status)) if status.policy_seq == Some(seq))
    }
}

async fn ask(asked: bool, limit: Duration, question: impl Future<Output = bool>) -> bool {
    asked && timeout(limit, question).await.unwrap_or(false)
}

/// Whether the next hop of a default route has a link address, or needs none.
async fn gateway() -> bool {
    let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return false };
    let connection = tokio::spawn(connection);
    let mut found = false;
    for hop in default_routes(&handle).await {
        found = found
            || match hop {
                Hop { via: Some(address), index } => resolves(&handle, address, index).await,
                // Point to point: whether the line is there is all there is to know.
                Hop { via: None, index } => is_up(&handle, index).await,
            };
    }
    connection.abort();
    found
}

/// Where a default route leads.
struct Hop {
    via: Option<IpAddr>,
    index: u32,
}

async fn default_routes(handle: &Handle) -> Vec<Hop> {
    let mut hops = Vec::new();
    for query in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        let routes = handle.route().get(query).execute();
        hops.extend(
            Box::pin(routes).filter_map(|route| async { hop(&route.ok()?) }).collect::<Vec<_>>().await,
        );
    }
    hops
}

fn hop(route: &RouteMessage) -> Option<Hop> {
    let is_default =
        route.header.destination_prefix_length == 0 && route.header.table == RouteHeader::RT_TABLE_MAIN;
    let index = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let via = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    is_default.then_some(Hop { via, index: index? })
}

/// Has the kernel resolve `address` by sending something to it, and waits for the outcome.
async fn resolves(handle: &Handle, address: IpAddr, index: u32) -> bool {
    let scope = match address {
        // Link-local next hops are the rule with IPv6.
        IpAddr::V6(v6) => SocketAddr::from(std::net::SocketAddrV6::new(v6, DISCARD, 0, index)),
        IpAddr::V4(v4) => (v4, DISCARD).into(),
    };
    let own: SocketAddr = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let Ok(socket) = UdpSocket::bind(own).await else { return false };
    // The discard port: nobody answers, and the kernel must learn the link address first.
    let _ = socket.send_to(&[0], scope).await;
    loop {
        match neighbour(handle, address, index).await {
            Some(true) => return true,
            Some(false) => return false,
            None => sleep(LOOK).await,
        }
    }
}

/// RFC 863.
const DISCARD: u16 = 9;

/// Whether the kernel knows the link address; none = it is still asking.
async fn neighbour(handle: &Handle, address: IpAddr, index: u32) -> Option<bool> {
    let list = Box::pin(handle.neighbours().get().execute());
    let entries: Vec<NeighbourMessage> = list.try_collect().await.ok()?;
    let is_it = |entry: &&NeighbourMessage| {
        entry.header.ifindex == index
            && entry.attributes.iter().any(|attribute| match (attribute, address) {
                (NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)), IpAddr::V4(ours)) => {
                    *v4 == ours
                }
                (NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)), IpAddr::V6(ours)) => {
                    *v6 == ours
                }
                _ => false,
            })
    };
    match entries.iter().find(is_it)?.header.state {
        NeighbourState::Incomplete | NeighbourState::None => None,
        NeighbourState::Failed => Some(false),
        _ => Some(true),
    }
}

/// Whether the host `address` behind `interface` has a link address.
pub(crate) async fn is_there(address: IpAddr, interface: &str) -> bool {
    let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return false };
    let connection = tokio::spawn(connection);
    let answer = match index_of(&handle, interface).await {
        Some(index) => resolves(&handle, address, index).await,
        None => false,
    };
    connection.abort();
    answer
}

/// Whether `interface` is there and hears something at the other end.
pub(crate) async fn has_carrier(interface: &str) -> bool {
    let Ok((connection, handle, _)) = rtnetlink::new_connection() else { return false };
    let connection = tokio::spawn(connection);
    let answer = match index_of(&handle, interface).await {
        Some(index) => is_up(&handle, index).await,
        None => false,
    };
    connection.abort();
    answer
}

async fn index_of(handle: &Handle, interface: &str) -> Option<u32> {
    let mut links = Box::pin(handle.link().get().match_name(interface.to_owned()).execute());
    Some(links.try_next().await.ok()??.header.index)
}

/// Whether one of the box's name servers answers.
pub(crate) async fn names() -> bool {
    dns(Path::new(RESOLV_CONF)).await
}

async fn is_up(handle: &Handle, index: u32) -> bool {
    let mut links = Box::pin(handle.link().get().match_index(index).execute());
    let Ok(Some(link)) = links.try_next().await else { return false };
    // A point-to-point line has no state of its own: unknown is up.
    !link.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::OperState(LinkState::Down | LinkState::LowerLayerDown))
    })
}

/// Whether a name server in `resolv_conf` answers, whatever it says.
async fn dns(resolv_conf: &Path) -> bool {
    let Ok(text) = tokio::fs::read_to_string(resolv_conf).await else { return false };
    let servers: Vec<IpAddr> = name_servers(&text).take(SERVERS).collect();
    let mut asked: futures_util::stream::FuturesUnordered<_> = servers.into_iter().map(answers).collect();
    while let Some(answered) = asked.next().await {
        if answered {
            return true;
        }
    }
    false
}

fn name_servers(resolv_conf: &str) -> impl Iterator<Item = IpAddr> {
    let values = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver"));
    values.filter_map(|value| value.split('%').next()?.trim().parse().ok())
}

/// Asks for the name servers of the root, which every resolver knows (RFC 1035 §4.1).
async fn answers(server: IpAddr) -> bool {
    let id = (crate::center::entropy() as u16).to_be_bytes();
    let question = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0], /* root, NS, IN */ &[0, 0, 2, 0, 1]].concat();
    let own: SocketAddr = match server {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let exchange = async {
        let socket = UdpSocket::bind(own).await?;
        socket.connect((server, 53)).await?;
        let mut answer = [0; 1500];
        loop {
            socket.send(&question).await?;
            let again = Instant::now() + Duration::from_secs(1);
            // Otherwise it was lost on its way, perhaps.
            if let Ok(received) = tokio::time::timeout_at(again, socket.recv(&mut answer)).await
                && received? >= 12
                && answer[..2] == id
                && answer[2] & 0x80 != 0
            {
                return Ok::<bool, std::io::Error>(true);
            }
        }
    };
    exchange.await.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_as_the_c_library_reads_them() {
        let text = "# by hand\nnameserver 192.0.2.1\nnameserver\tfe80::1%eth0\n nameserver 192.0.2.9\nnameserver x\n";
        let found: Vec<String> = name_servers(text).map(|one| one.to_string()).collect();
        assert_eq!(found, ["192.0.2.1", "fe80::1"]);
    }
}
