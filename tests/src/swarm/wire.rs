//! One UDP socket for a whole swarm: each datagram leaves from its client's address and comes back to it.
//!
//! The addresses are 10.65.0.0/16, one a client; the namespace owns them all ([`own_addresses`]), and the
//! kernel tells by IP_PKTINFO to which one a datagram came.

use lab::{Error, Namespace, Result};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The first client's address.
const FIRST: u32 = u32::from_be_bytes([10, 65, 0, 0]);
/// For the answers of 10,000 clients that all begin at once.
const BUFFER: usize = 8 << 20;

/// The network of the clients' addresses; the edge's side needs a route to it.
pub const ADDRESSES: &str = "10.65.0.0/16";

/// The socket.
#[derive(Debug)]
pub(super) struct Wire(UdpSocket);

/// Makes all of [`ADDRESSES`] addresses of `place`.
///
/// # Errors
///
/// `ip` refuses.
pub fn own_addresses(place: &Namespace) -> Result<()> {
    place.ip(&format!("route replace local {ADDRESSES} dev lo"))
}

impl Wire {
    /// Opens the socket in the namespace of the calling thread.
    pub(super) fn open() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(Error::io("open a socket"))?;
        socket.set_nonblocking(true).map_err(Error::io("make a socket non-blocking"))?;
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).map_err(Error::os("ask for IP_PKTINFO"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).map_err(Error::os("enlarge a buffer"))?;
        Ok(Self(socket))
    }

    /// Sends from client `number`. What the kernel does not take is lost, as on any line.
    pub(super) fn send(&self, number: u16, to: SocketAddr, octets: &[u8]) {
        let SocketAddr::V4(to) = to else { return };
        let source = libc::in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: libc::in_addr { s_addr: (FIRST + u32::from(number)).to_be() },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        let control = [ControlMessage::Ipv4PacketInfo(&source)];
        let (slices, to) = ([IoSlice::new(octets)], SockaddrIn::from(to));
        let _ = sendmsg(self.0.as_raw_fd(), &slices, &control, MsgFlags::empty(), Some(&to));
    }

    /// The next datagram: for which client, from where, and how long it is.
    pub(super) fn receive(&self, octets: &mut [u8]) -> Option<(u16, SocketAddr, usize)> {
        let mut slices = [IoSliceMut::new(octets)];
        let mut control = nix::cmsg_space!(libc::in_pktinfo);
        let message = recvmsg::<SockaddrIn>(
            self.0.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let number = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                u16::try_from(u32::from_be(info.ipi_addr.s_addr).wrapping_sub(FIRST)).ok()
            }
            _ => None,
        })?;
        Some((number, SocketAddr::V4(SocketAddrV4::from(message.address?)), message.bytes))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
