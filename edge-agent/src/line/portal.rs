//! The question for nothing, by plain HTTP: the center answers 204 without a body, a portal that wants a login something
//! else.

use edge_agent_core::line;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// For the whole exchange.
const PATIENCE: Duration = Duration::from_secs(5);

/// A portal's headers are shorter.
const MOST: usize = 8192;

/// Where the center serves it.
const PORT: u16 = 80;

/// Asks `host` at `address` over the line of `mark`: what a portal said, or none = it was the center.
///
/// # Errors
///
/// Nobody answered, or nothing could be sent: there may be a portal or not.
pub async fn ask(host: &str, address: IpAddr, mark: u32) -> io::Result<Option<String>> {
    let exchange = async {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        socket.set_mark(mark)?;
        let socket = TcpSocket::from_std_stream(socket.into());
        let mut stream = socket.connect(SocketAddr::new(address, PORT)).await?;
        // A number that was never asked for before: what is in a cache is not the answer.
        let nonce = crate::center::entropy();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let question =
            format!("GET /generate_204?{nonce:016x} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(question.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MOST as u64).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(line::portal(&answer))
}
