//! Asks the center's two reflectors over one line, with questions of many sizes that no router may cut.

use crate::time::past_the_tunnel_by;
use edge_agent_core::line::{SIZES, headers};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use verona_contract::stun::{self, LEAST, MOST, TransactionId};

/// Questions are asked so often, and each time answers are awaited for so long.
const ROUNDS: u32 = 3;
const PATIENCE: Duration = Duration::from_millis(800);

/// What came back over a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reflection {
    /// The address that questions leave from.
    pub own: IpAddr,
    /// The address that each of the two places sees.
    pub mapped: (Option<SocketAddr>, Option<SocketAddr>),
    /// The largest packet that arrived, octets; none = none of those that were tried.
    pub path_mtu: Option<u16>,
}

/// What a question was for.
#[derive(Clone, Copy)]
enum Purpose {
    /// Which of the two places.
    Mapping(usize),
    /// Octets of its packet.
    Size(u16),
}

/// Asks `places` over the line of `mark`.
///
/// # Errors
///
/// There is no such line: nothing could be sent.
pub async fn reflect(places: [SocketAddr; 2], mark: u32) -> io::Result<Reflection> {
    let socket = past_the_tunnel_by(places[0].ip(), mark)?;
    never_cut(&socket, places[0].is_ipv6())?;
    let own = source(places[0], mark).await?;
    let mut asked: HashMap<TransactionId, Purpose> = HashMap::new();
    let (mut mapped, mut largest) = ([None; 2], None);
    for _ in 0..ROUNDS {
        ask(&socket, places, &mapped, largest, &mut asked).await?;
        let until = Instant::now() + PATIENCE;
        while let Some((id, address)) = next(&socket, &places, until).await {
            match asked.get(&id) {
                Some(Purpose::Mapping(place)) => mapped[*place] = Some(address),
                Some(Purpose::Size(size)) => largest = largest.max(Some(*size)),
                None => {}
            }
            if mapped.iter().all(Option::is_some) && largest == SIZES.first().copied() {
                break;
            }
        }
        if mapped.iter().all(Option::is_some) && largest.is_some() {
            break;
        }
    }
    Ok(Reflection { own, mapped: (mapped[0], mapped[1]), path_mtu: largest })
}

async fn ask(
    socket: &UdpSocket,
    places: [SocketAddr; 2],
    mapped: &[Option<SocketAddr>; 2],
    largest: Option<u16>,
    asked: &mut HashMap<TransactionId, Purpose>,
) -> io::Result<()> {
    let mut failure = None;
    let mut sent = false;
    for place in (0..2).filter(|&place| mapped[place].is_none()) {
        let id = fresh();
        asked.insert(id, Purpose::Mapping(place));
        match socket.send_to(&stun::request(&id, LEAST), places[place]).await {
            Ok(_) => sent = true,
            Err(error) => failure = Some(error),
        }
    }
    let headers = headers(places[0].is_ipv6());
    for size in SIZES.into_iter().filter(|size| largest.is_none_or(|largest| *size > largest)) {
        let id = fresh();
        asked.insert(id, Purpose::Size(size));
        // The interface itself may be narrower: that is an answer, too.
        let _ = socket.send_to(&stun::request(&id, usize::from(size - headers)), places[0]).await;
    }
    match failure {
        Some(error) if !sent => Err(error),
        _ => Ok(()),
    }
}

/// The next sound answer from one of the places, or none at the deadline.
async fn next(
    socket: &UdpSocket,
    places: &[SocketAddr; 2],
    until: Instant,
) -> Option<(TransactionId, SocketAddr)> {
    let mut buffer = [0; MOST];
    loop {
        match timeout_at(until, socket.recv_from(&mut buffer)).await.ok()? {
            Ok((length, from)) if places.contains(&from) => {
                if let Some(found) = stun::mapped(&buffer[..length]) {
                    return Some(found);
                }
            }
            Ok(_) => {}
            // An ICMP error of one question, perhaps: the others go on, but not in a circle.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The address that the kernel gives to what leaves by this line.
async fn source(towards: SocketAddr, mark: u32) -> io::Result<IpAddr> {
    let socket = past_the_tunnel_by(towards.ip(), mark)?;
    socket.connect(towards).await?;
    Ok(socket.local_addr()?.ip())
}

fn fresh() -> TransactionId {
    let mut id = [0; 12];
    id[..8].copy_from_slice(&crate::center::entropy().to_be_bytes());
    id[8..].copy_from_slice(&(crate::center::entropy() as u32).to_be_bytes());
    id
}

/// Sets "don't fragment", and has the kernel try sizes that it believes to be too large: what it believes came by ICMP.
fn never_cut(socket: &UdpSocket, v6: bool) -> io::Result<()> {
    let (level, name, value) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    };
    crate::sys::set_option(socket.as_raw_fd(), level, name, value)
}
