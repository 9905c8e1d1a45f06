//! The outer UDP sockets: one per address family for each worker, all on the same port, read and written in batches by
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
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use verona_contract::control::OffCause;

use crate::offloads::{Offload, Offloads};
use crate::sys::path::{self, TooLarge};
use crate::sys::steering;

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
    /// Whether each forbids fragments: one state for all who send by it.
    forbids_fragments: [Arc<AtomicBool>; 2],
}

impl Sockets {
    /// Opens `count` pairs on `port`, or on one that is free in both families if `port` is 0, with `fwmark`
    /// (SO_MARK; 0 = none) on what they send. With several, the kernel gives each transport message to the pair
    /// whose shard it is for.
    ///
    /// # Errors
    ///
    /// The port is taken, or the host has neither family, or the mark is refused.
    pub(crate) fn open(
        count: usize,
        port: u16,
        fwmark: u32,
        offloads: &Offloads,
    ) -> Result<Vec<Self>, BindError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Self::open_once(count, port, fwmark, offloads) {
                Err(error)
                    if port == 0 && error.errno() == libc::EADDRINUSE && attempt < RANDOM_PORT_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    fn open_once(count: usize, port: u16, fwmark: u32, offloads: &Offloads) -> Result<Vec<Self>, BindError> {
        let options = Options { fwmark, offloads };
        let (v4, port) = open_group(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into(), count, options)?;
        let (v6, port) = open_group(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into(), count, options)?;
        if v4.is_empty() && v6.is_empty() {
            let source = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
            return Err(BindError { family: "IPv4 and IPv6", port, source });
        }
        let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
        Ok((0..count)
            .map(|_| Self { v4: v4.next(), v6: v6.next(), port, forbids_fragments: Default::default() })
            .collect())
    }

    /// The port of both sockets.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The sockets that exist, in the order IPv4, IPv6.
    pub(crate) fn by_family(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [self.v4.as_ref().map(AsFd::as_fd), self.v6.as_ref().map(AsFd::as_fd)]
    }

    /// Whether the socket of each family forbids fragments now. Who changes it says so here.
    pub(crate) fn forbids_fragments(&self) -> &[Arc<AtomicBool>; 2] {
        &self.forbids_fragments
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

#[derive(Clone, Copy)]
struct Options<'a> {
    fwmark: u32,
    offloads: &'a Offloads,
}

/// Opens the sockets of one family and gives their port; none if the host does not have the family at all.
fn open_group(
    domain: Domain,
    mut address: SocketAddr,
    count: usize,
    options: Options<'_>,
) -> Result<(Vec<Socket>, u16), BindError> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut open = || -> io::Result<Vec<Socket>> {
        let mut group = Vec::with_capacity(count);
        for number in 0..count {
            let socket = unbound(domain, options)?;
            // Not for the first: a port that another process has is taken, even if that one would share it.
            if number > 0 {
                socket.set_reuse_port(true)?;
            }
            socket.bind(&address.into())?;
            if number == 0 {
                address.set_port(local_port(&socket)?);
                if count > 1 {
                    socket.set_reuse_port(true)?;
                }
            }
            group.push(socket);
        }
        if let Some(first) = group.first().filter(|_| count > 1)
            && let Err(error) = steering::by_receiver(first.as_fd(), count)
        {
            tracing::debug!(%error, "datagrams are not steered to their workers");
        }
        Ok(group)
    };
    match open() {
        Ok(group) => Ok((group, address.port())),
        // The family is compiled out, or switched off (net.ipv6.conf.all.disable_ipv6).
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            Ok((Vec::new(), address.port()))
        }
        Err(source) => Err(BindError { family, port: address.port(), source }),
    }
}

fn unbound(domain: Domain, options: Options<'_>) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        socket.set_recv_tclass_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        socket.set_recv_tos_v4(true)?;
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    }
    path::set_too_large(socket.as_fd(), domain == Domain::IPV6, TooLarge::Fragment)?;
    if options.fwmark != 0 {
        socket.set_mark(options.fwmark)?;
    }
    size_buffers(&socket);
    negotiate(&socket, options.offloads);
    Ok(socket)
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
