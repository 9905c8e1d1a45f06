//! Handshake messages as they pass a router, with the time: what an observer of the line sees.
//!
//! Transport packets are not kept: their number has no bound, and their times are the business of
//! [`crate::Download`] and [`crate::Flow`].

use crate::{Error, Namespace, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// WireGuard's transport data message.
const TRANSPORT: u8 = 4;
/// From linux/sockios.h, for machines of 64 bits; the libc crate does not have it.
const SIOCGSTAMPNS: libc::Ioctl = 0x8907;
/// Most messages kept; later ones are not.
const KEPT: usize = 100_000;

/// One UDP datagram of the handshake kind.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// When it passed, by the kernel's stamp: the reader may be scheduled later.
    pub at: SystemTime,
    /// Its source.
    pub from: SocketAddr,
    /// Its destination.
    pub to: SocketAddr,
    /// The UDP payload.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// The message type: 1 initiation, 2 response, 3 cookie reply, 0x10 introduction.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.payload.first().copied().unwrap_or(0)
    }
}

/// Listens at a router until dropped.
#[derive(Debug)]
pub struct Wiretap {
    seen: Arc<Mutex<Vec<Datagram>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wiretap {
    /// Starts to listen on all interfaces of `router`.
    ///
    /// # Errors
    ///
    /// A packet socket cannot be opened.
    pub fn start(router: &Namespace) -> Result<Self> {
        let socket = router.enter(open)??;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let end = Arc::new(AtomicBool::new(false));
        let (list, stop) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Some(length) = receive(&socket, &mut buffer) else { continue };
                let Some(datagram) = udp(&buffer[..length], stamp(&socket)) else { continue };
                let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
                if datagram.kind() != TRANSPORT && list.len() < KEPT {
                    list.push(datagram);
                }
            }
        });
        Ok(Self { seen, end, thread: Some(thread) })
    }

    /// What has passed so far, oldest first.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Datagram> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Wiretap {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A packet socket (packet(7)) for all IP packets, without the link layer's header.
fn open() -> Result<OwnedFd> {
    let protocol = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap_or(3).to_be());
    // SAFETY: no pointers; the descriptor is owned from here on.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(Error::io("open a packet socket")(std::io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, and nobody else has this descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let patience = nix::sys::time::TimeVal::new(0, 50_000);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &patience)
        .map_err(Error::os("set a timeout on a packet socket"))?;
    // The first question turns the stamps on.
    stamp(&socket);
    Ok(socket)
}

/// When the kernel saw the packet that was received last (SIOCGSTAMPNS, socket(7)).
fn stamp(socket: &OwnedFd) -> SystemTime {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the request writes one timespec to a valid address.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut time) };
    match (answer, u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec)) {
        (0, Ok(seconds), Ok(nanoseconds)) => UNIX_EPOCH + Duration::new(seconds, nanoseconds),
        // Nothing received yet.
        _ => SystemTime::now(),
    }
}

/// One packet that came in; what goes out of a router came in before.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&from)).ok()?;
    // SAFETY: buffer and address are valid for the lengths that are passed.
    let octets = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut length,
        )
    };
    let incoming = from.sll_pkttype != libc::PACKET_OUTGOING;
    usize::try_from(octets).ok().filter(|_| incoming)
}

/// The UDP datagram in an IP packet, if it is one and not a fragment.
fn udp(packet: &[u8], at: SystemTime) -> Option<Datagram> {
    let (from, to, segment): (IpAddr, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 if *packet.get(9)? == 17 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let address = |at: usize| -> Option<Ipv4Addr> {
                Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
            };
            (address(12)?.into(), address(16)?.into(), packet.get(header..)?)
        }
        6 if *packet.get(6)? == 17 => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into())
            };
            (address(8)?.into(), address(24)?.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?));
    Some(Datagram {
        at,
        from: (from, port(0)?).into(),
        to: (to, port(2)?).into(),
        payload: segment.get(8..)?.to_vec(),
    })
}
