//! One question to one time server, over UDP, past the tunnel.
//!
//! The socket bears the mark of the tunnel's own packets, so no route into the tunnel applies: the time must not depend
//! on what needs the time. Each question has a port and a cookie of its own; what else arrives is passed over.

use super::wall::Wall;
use crate::center::entropy;
use edge_agent_core::network::plan::TUNNEL_MARK;
use edge_agent_core::time::packet::{self, Exchange, PORT, Unfit};
use edge_agent_core::time::{PATIENCE, Sample};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// Longer than any answer without extensions; what is cut off is not read.
const MAX_ANSWER: usize = 512;

/// Why a question has no usable answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// It could not be asked.
    #[error("cannot be asked: {0}")]
    Io(#[from] io::Error),
    /// Silence.
    #[error("no answer")]
    Silence,
    /// An answer without a time.
    #[error("{0}")]
    Unfit(#[from] Unfit),
}

/// Asks `server` for the time; `pivot_s` is a time within 68 years of now.
pub(crate) async fn ask(server: IpAddr, pivot_s: i64, wall: &dyn Wall) -> Result<Sample, QueryError> {
    let socket = past_the_tunnel_by(server, TUNNEL_MARK)?;
    socket.connect(SocketAddr::new(server, PORT)).await?;
    let cookie = entropy();
    let (sent_ns, begun) = (wall.now_ns(), Instant::now());
    socket.send(&packet::request(cookie)).await?;
    let mut buffer = [0; MAX_ANSWER];
    loop {
        let received = timeout_at(begun + PATIENCE, socket.recv(&mut buffer)).await;
        let length = received.map_err(|_| QueryError::Silence)??;
        let elapsed_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let exchange = Exchange { cookie, sent_ns, elapsed_ns, pivot_s };
        match packet::answer(&buffer[..length], &exchange) {
            Err(Unfit::Foreign) => {}
            answer => return Ok(answer?),
        }
    }
}

/// A socket whose packets leave by an uplink, whatever is routed into the tunnel: by any of them, or by that of `mark`.
pub(crate) fn past_the_tunnel_by(towards: IpAddr, mark: u32) -> io::Result<UdpSocket> {
    let (domain, own): (_, SocketAddr) = match towards {
        IpAddr::V4(_) => (Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()),
        IpAddr::V6(_) => (Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), None)?;
    socket.set_mark(mark)?;
    socket.bind(&own.into())?;
    UdpSocket::from_std(socket.into())
}
