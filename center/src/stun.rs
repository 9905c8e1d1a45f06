//! Tells edges under which address they are seen: STUN binding over UDP, on two ports.
//!
//! What an answer says is [`verona_contract::stun`]. It is never longer than its question, and there is no state: a
//! flood of forged questions gains nothing and costs what its packets cost.

use anyhow::Context as _;
use std::net::{IpAddr, SocketAddr};
use tokio::net::UdpSocket;
use verona_contract::stun::{MOST, PORTS, reply};

/// Both ports of `address`.
///
/// # Errors
///
/// One is taken.
pub(crate) async fn bind(address: IpAddr) -> anyhow::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::new();
    for port in PORTS {
        let own = SocketAddr::new(address, port);
        sockets.push(UdpSocket::bind(own).await.with_context(|| format!("cannot listen on UDP {own}"))?);
    }
    Ok(sockets)
}

/// Answers for ever.
pub(crate) async fn serve(socket: UdpSocket) {
    let mut question = [0; MOST];
    loop {
        // An error is that of an earlier answer, which nobody took.
        let Ok((length, source)) = socket.recv_from(&mut question).await else { continue };
        if let Some(answer) = reply(&question[..length], source) {
            // Lost is lost: it is asked again.
            let _ = socket.try_send_to(&answer, source);
        }
    }
}
