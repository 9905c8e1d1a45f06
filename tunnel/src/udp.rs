//! The outer UDP sockets: one per address family, both on the same port, read and written in batches by
//! [`receive`] and [`send`].
//!
//! Sockets are opened in the network namespace of the calling thread and stay in it, wherever the
//! interface is moved later. Errors of single datagrams (unreachable, too long, refused by a filter)
//! are counted and never end the data plane. Who sent a datagram, and whether to answer, is left to
//! the engine.

mod errors;
mod receive;
mod send;

pub(crate) use errors::ErrorBatch;
pub(crate) use receive::DatagramBatch;
pub(crate) use send::{Carriage, SendQueue};

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use verona_contract::control::OffCause;

use crate::offloads::{Offload, Offloads};
use crate::sys::path::{self, TooLarge};

/// Receive and send buffer of each socket, octets. Absorbs a burst while the thread is busy
/// elsewhere: about 60 ms at 1 Gbit/s. wireguard-go asks for the same.
const SOCKET_BUFFER: usize = 7 << 20;

/// Attempts to find a port that is free in both families when the kernel picks one.
const RANDOM_PORT_ATTEMPTS: usize = 100;

/// Why the sockets could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("opening the {family} UDP socket on port {port} failed")]
pub struct BindError {
    family: &'static str,
    port: u16,
    source: io::Error,
}

impl BindError {
    /// The kernel's error number: `EADDRINUSE` when another socket has the port.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(libc::EIO)
    }
}

/// The pair of sockets. One of them may be missing on a host without that family.
#[derive(Debug)]
pub(crate) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    port: u16,
}

impl Sockets {
    /// Opens both sockets on `port`, or on one that is free in both families if `port` is 0, with
    /// `fwmark` (SO_MARK; 0 = none) on what they send.
    ///
    /// # Errors
    ///
    /// The port is taken, or the host has neither family, or the mark is refused.
    pub(crate) fn open(port: u16, fwmark: u32, offloads: &Offloads) -> Result<Self, BindError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Self::open_once(port, fwmark, offloads) {
                Err(error)
                    if port == 0 && error.errno() == libc::EADDRINUSE && attempt < RANDOM_PORT_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    fn open_once(port: u16, fwmark: u32, offloads: &Offloads) -> Result<Self, BindError> {
        let v4 = open_family(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into(), fwmark, offloads)?;
        let v4_port = match &v4 {
            Some(socket) => {
                local_port(socket).map_err(|source| BindError { family: "IPv4", port, source })?
            }
            None => port,
        };
        let v6 = open_family(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, v4_port).into(), fwmark, offloads)?;
        let v6_port = match &v6 {
            Some(socket) => {
                local_port(socket).map_err(|source| BindError { family: "IPv6", port, source })?
            }
            None => v4_port,
        };
        if v4.is_none() && v6.is_none() {
            let source = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
            return Err(BindError { family: "IPv4 and IPv6", port, source });
        }
        Ok(Self { v4, v6, port: v6_port })
    }

    /// The port of both sockets.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The sockets that exist, in the order IPv4, IPv6.
    pub(crate) fn by_family(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.v4.as_ref().map(AsFd::as_fd), self.v6.as_ref().map(AsFd::as_fd)]
    }

    /// Datagrams that the sockets had no room for since they were opened.
    pub(crate) fn receive_dropped(&self) -> u64 {
        let count = |socket| path::receive_dropped(socket).map_or(0, u64::from);
        self.by_family().into_iter().flatten().map(count).sum()
    }

    /// Sets the mark of everything sent from now on.
    pub(crate) fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            socket.set_mark(fwmark)?;
        }
        Ok(())
    }
}

/// `None` if the host does not have the family at all.
fn open_family(
    domain: Domain,
    address: SocketAddr,
    fwmark: u32,
    offloads: &Offloads,
) -> Result<Option<Socket>, BindError> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            socket.set_recv_tclass_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            socket.set_recv_tos_v4(true)?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        }
        path::set_too_large(socket.as_fd(), address.is_ipv6(), TooLarge::Fragment)?;
        if fwmark != 0 {
            socket.set_mark(fwmark)?;
        }
        size_buffers(&socket);
        negotiate(&socket, offloads);
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match open() {
        Ok(socket) => Ok(Some(socket)),
        // The family is compiled out, or switched off (net.ipv6.conf.all.disable_ipv6).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            Ok(None)
        }
        Err(source) => Err(BindError { family, port: address.port(), source }),
    }
}

/// Finds out what the kernel knows. Without, datagrams come and go one by one.
fn negotiate(socket: &Socket, offloads: &Offloads) {
    // A kernel without UDP_SEGMENT would ignore it where it is used, and send one large datagram.
    if let Err(errno) = getsockopt(socket, sockopt::UdpGsoSegment) {
        offloads.turn_off(Offload::UdpGso, OffCause::Kernel, &format!("UDP_SEGMENT: {errno}"));
    }
    if offloads.is_on(Offload::UdpGro)
        && let Err(errno) = setsockopt(socket, sockopt::UdpGroSegment, &true)
    {
        offloads.turn_off(Offload::UdpGro, OffCause::Kernel, &format!("UDP_GRO: {errno}"));
    }
}

/// Best effort: the forced size needs CAP_NET_ADMIN, the plain one is capped by net.core.rmem_max and wmem_max.
fn size_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    }
}

fn local_port(socket: &Socket) -> io::Result<u16> {
    let address = socket.local_addr()?.as_socket();
    address.map(|address| address.port()).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
}

#[cfg(test)]
mod tests;
