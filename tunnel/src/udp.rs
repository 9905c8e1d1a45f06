//! The outer UDP sockets: one per address family, both on the same port, read and written in batches.
//!
//! Sockets are opened in the network namespace of the calling thread and stay in it, wherever the
//! interface is moved later. Errors of single datagrams (unreachable, too long, refused by a filter)
//! are counted and never end the data plane. Who sent a datagram, and whether to answer, is left to
//! the engine.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::sys::mmsg;

/// Largest UDP payload is 65,507 octets; a slot is larger, so that no datagram is ever cut.
const SLOT: usize = 65_536;

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
    pub(crate) fn open(port: u16, fwmark: u32) -> Result<Self, BindError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match Self::open_once(port, fwmark) {
                Err(error)
                    if port == 0 && error.errno() == libc::EADDRINUSE && attempt < RANDOM_PORT_ATTEMPTS => {}
                result => return result,
            }
        }
    }

    fn open_once(port: u16, fwmark: u32) -> Result<Self, BindError> {
        let v4 = open_family(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into(), fwmark)?;
        let v4_port = match &v4 {
            Some(socket) => {
                local_port(socket).map_err(|source| BindError { family: "IPv4", port, source })?
            }
            None => port,
        };
        let v6 = open_family(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, v4_port).into(), fwmark)?;
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

    /// Sets the mark of everything sent from now on.
    pub(crate) fn set_fwmark(&self, fwmark: u32) -> io::Result<()> {
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            socket.set_mark(fwmark)?;
        }
        Ok(())
    }
}

/// `None` if the host does not have the family at all.
fn open_family(domain: Domain, address: SocketAddr, fwmark: u32) -> Result<Option<Socket>, BindError> {
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        if fwmark != 0 {
            socket.set_mark(fwmark)?;
        }
        size_buffers(&socket);
        // Best effort: kernels before 5.0 give single datagrams, which is as well.
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
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

/// Datagrams of one turn, in a buffer that is allocated once.
pub(crate) struct DatagramBatch {
    slots: Box<[u8]>,
    received: mmsg::Received,
}

impl DatagramBatch {
    pub(crate) fn new() -> Self {
        Self { slots: vec![0; mmsg::BATCH * SLOT].into_boxed_slice(), received: mmsg::Received::new() }
    }

    /// Replaces the batch by what `socket` holds, up to [`mmsg::BATCH`] datagrams, without blocking,
    /// and says whether there was anything.
    ///
    /// # Errors
    ///
    /// A pending error of the socket, such as an ICMP message. Reading it clears it.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        match mmsg::receive(socket, &mut self.slots, SLOT, &mut self.received) {
            Ok(_) => Ok(self.received.count() > 0),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The datagrams received and their sources, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.slots().flat_map(|(_, slot, octets)| {
            // An empty datagram is one, too; `chunks` would make none of it.
            let empty = octets.is_empty().then_some(octets);
            let datagrams = octets.chunks(slot.segment).chain(empty);
            slot.from
                .into_iter()
                .flat_map(move |from| datagrams.clone().map(move |datagram| (from, datagram)))
        })
    }

    /// Source and local address of each datagram whose first octet satisfies `wanted`. The kernel joins
    /// datagrams of one sender and one length only, so the first one of a slot speaks for the others.
    pub(crate) fn arrivals(&self, wanted: impl Fn(u8) -> bool) -> impl Iterator<Item = (SocketAddr, IpAddr)> {
        self.slots().filter_map(move |(number, slot, octets)| {
            octets.first().filter(|first| wanted(**first))?;
            Some((slot.from?, self.received.local_address(number)?))
        })
    }

    fn slots(&self) -> impl Iterator<Item = (usize, mmsg::Slot, &[u8])> {
        let slots = self.slots.chunks_exact(SLOT).zip(self.received.iter()).enumerate();
        slots.map(|(number, (octets, slot))| {
            let octets = octets.get(..slot.length).unwrap_or_default();
            (number, slot, octets)
        })
    }
}

/// Datagrams of one family that wait for [`SendQueue::flush`], back to back in one buffer.
pub(crate) struct SendQueue {
    octets: Box<[u8]>,
    /// Where the next datagram starts.
    end: usize,
    waiting: VecDeque<Waiting>,
    /// Datagrams in `waiting`, runs counted in full.
    datagrams: usize,
    names: mmsg::Names,
    /// Whether datagrams of one length to one destination are left to the kernel to cut.
    segmentation: bool,
}

/// One message: a datagram, or a run of datagrams of one length (the last may be shorter), back to back.
struct Waiting {
    to: SocketAddr,
    from: Option<IpAddr>,
    start: usize,
    length: usize,
    /// Octets of each datagram but the last one.
    segment: usize,
    /// Nothing joins it: a shorter one has come, the run was taken apart, it is no transport message.
    complete: bool,
}

impl Waiting {
    fn datagrams(&self) -> usize {
        self.length.div_ceil(self.segment.max(1)).max(1)
    }

    /// Takes the next datagram into the run, if it belongs there.
    fn extend(&mut self, to: SocketAddr, from: Option<IpAddr>, length: usize) -> bool {
        let fits = !self.complete
            && (self.to, self.from) == (to, from)
            && (1..=self.segment).contains(&length)
            && self.length + length <= MAX_RUN
            && self.datagrams() < MAX_SEGMENTS;
        if fits {
            self.length += length;
            self.complete = length < self.segment;
        }
        fits
    }
}

/// The first octet of a transport data message (whitepaper §5.4.6).
const TRANSPORT: u8 = 4;

/// UDP_MAX_SEGMENTS of the kernels in use (linux/udp.h).
const MAX_SEGMENTS: usize = 64;

/// Octets of a run: a UDP payload of the largest IP packet, less a margin for its headers.
const MAX_RUN: usize = 65_000;

/// Result of a [`SendQueue::flush`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Datagrams the kernel refused for a reason of their own; they are gone.
    pub(crate) failed: u64,
    /// The socket takes no more for now; the rest is still queued.
    pub(crate) blocked: bool,
}

impl SendQueue {
    /// Octets one queue holds: some 700 full-size datagrams.
    const CAPACITY: usize = 1 << 20;
    /// Datagrams one queue holds: bounds the memory and time of many small ones.
    const LIMIT: usize = 1024;

    pub(crate) fn new() -> Self {
        Self {
            octets: vec![0; Self::CAPACITY].into_boxed_slice(),
            end: 0,
            waiting: VecDeque::with_capacity(Self::LIMIT),
            datagrams: 0,
            names: mmsg::Names::new(),
            segmentation: true,
        }
    }

    /// Whether a datagram of up to `length` octets can be queued.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.datagrams < Self::LIMIT && self.octets.len() - self.end >= length
    }

    /// Space for a datagram of `length` octets; empty if [`Self::has_room`] was not asked.
    pub(crate) fn space(&mut self, length: usize) -> &mut [u8] {
        self.octets.get_mut(self.end..self.end + length).unwrap_or_default()
    }

    /// Queues what was written into the first `length` octets of [`Self::space`], to be sent from local
    /// address `from`, or from one of the kernel's choice.
    pub(crate) fn push(&mut self, to: SocketAddr, from: Option<IpAddr>, length: usize) {
        let start = self.end;
        self.end += length;
        self.datagrams += 1;
        // Only transport messages: a handshake message is worth a datagram of its own on every path.
        let transport = self.segmentation && self.octets.get(start) == Some(&TRANSPORT);
        let last = self.waiting.back_mut().filter(|_| transport);
        if !last.is_some_and(|last| last.extend(to, from, length)) {
            let complete = !transport;
            self.waiting.push_back(Waiting { to, from, start, length, segment: length, complete });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops what is queued and says how many datagrams that were.
    pub(crate) fn clear(&mut self) -> u64 {
        let dropped = std::mem::take(&mut self.datagrams) as u64;
        self.waiting.clear();
        self.end = 0;
        dropped
    }

    /// Sends what is queued, in order. A local address that cannot be used (any more) is reported to
    /// `unusable` with its destination, and the kernel chooses another.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>, mut unusable: impl FnMut(SocketAddr)) -> Flushed {
        let mut result = Flushed::default();
        while !self.waiting.is_empty() {
            let datagrams = self.waiting.iter().map(|waiting| mmsg::Outgoing {
                to: waiting.to,
                from: waiting.from,
                octets: &self.octets[waiting.start..waiting.start + waiting.length],
                // A segment of a run is far below 64 KiB.
                segment: (waiting.datagrams() > 1).then_some(waiting.segment as u16),
            });
            match mmsg::send(socket, datagrams, &mut self.names) {
                Ok(sent) => {
                    self.datagrams -= self.waiting.drain(..sent).map(|run| run.datagrams()).sum::<usize>();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    result.blocked = true;
                    return result;
                }
                Err(_) if self.waiting.front().is_some_and(|waiting| waiting.from.is_some()) => {
                    if let Some(waiting) = self.waiting.front_mut() {
                        waiting.from = None;
                        unusable(waiting.to);
                    }
                }
                // The device, the path's MTU or the kernel does not take the run: then one by one.
                Err(error) if self.waiting.front().is_some_and(|run| run.datagrams() > 1) => {
                    self.scatter_first();
                    // EIO is the device's: it lacks the checksum offload that segmentation needs.
                    self.segmentation &= error.raw_os_error() != Some(libc::EIO);
                }
                // EMSGSIZE, ENETUNREACH, EPERM of a filter, an ICMP error of an earlier datagram: a
                // fact about this destination, and WireGuard's timers already handle loss.
                Err(_) => {
                    self.waiting.pop_front();
                    self.datagrams -= 1;
                    result.failed += 1;
                }
            }
        }
        self.end = 0;
        result
    }

    /// Replaces the first run by its datagrams.
    fn scatter_first(&mut self) {
        let Some(Waiting { to, from, start: first, length, segment, .. }) = self.waiting.pop_front() else {
            return;
        };
        for offset in (0..length).step_by(segment).rev() {
            let length = segment.min(length - offset);
            let start = first + offset;
            self.waiting.push_front(Waiting { to, from, start, length, segment: length, complete: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn both_families_share_a_random_port() {
        let sockets = Sockets::open(0, 0).unwrap();
        assert_ne!(sockets.port(), 0);
        for socket in [&sockets.v4, &sockets.v6].into_iter().flatten() {
            assert_eq!(local_port(socket).unwrap(), sockets.port());
        }
    }

    #[test]
    fn a_port_in_use_is_eaddrinuse_in_either_family() {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let taken = UdpSocket::bind(address).unwrap();
            let port = taken.local_addr().unwrap().port();
            assert_eq!(Sockets::open(port, 0).unwrap_err().errno(), libc::EADDRINUSE, "{address}");
        }
    }

    #[test]
    fn a_batch_goes_out_and_comes_in_despite_a_datagram_that_is_refused() {
        let receiver = Sockets::open(0, 0).unwrap();
        let sender = Sockets::open(0, 0).unwrap();
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, receiver.port()));
        let mut queue = SendQueue::new();
        for length in [0_usize, 1, 1452, 65_507] {
            assert!(queue.has_room(length));
            queue.space(length).fill(length as u8);
            queue.push(to, None, length);
            // Over the largest UDP payload: EMSGSIZE.
            queue.push(to, None, 65_508);
        }
        let [Some(out), _] = sender.by_family() else { panic!("no IPv4 socket") };
        assert_eq!(queue.flush(out, |_| {}), Flushed { failed: 4, blocked: false });
        assert!(queue.is_empty());
        let mut batch = DatagramBatch::new();
        let [Some(into), _] = receiver.by_family() else { panic!("no IPv4 socket") };
        assert!(batch.receive(into).unwrap());
        let lengths: Vec<usize> = batch.iter().map(|(_, octets)| octets.len()).collect();
        assert_eq!(lengths, [0, 1, 1452, 65_507]);
        assert!(batch.iter().all(|(from, octets)| {
            from == (Ipv4Addr::LOCALHOST, sender.port()).into()
                && octets.iter().all(|&o| o == octets.len() as u8)
        }));
        assert!(!batch.receive(into).unwrap());
    }

    #[test]
    fn the_local_address_is_seen_chosen_and_given_up_when_unusable() {
        let (receiver, sender) = (Sockets::open(0, 0).unwrap(), Sockets::open(0, 0).unwrap());
        let [Some(out), _] = sender.by_family() else { panic!("no IPv4 socket") };
        let [Some(into), _] = receiver.by_family() else { panic!("no IPv4 socket") };
        let to: SocketAddr = ([127, 0, 0, 2], receiver.port()).into();
        // The whole of 127/8 is local; 192.0.2.1 is not.
        let mut queue = SendQueue::new();
        for from in ["127.0.0.3", "192.0.2.1", "127.0.0.4"] {
            queue.space(1)[0] = 7;
            queue.push(to, Some(from.parse().unwrap()), 1);
        }
        let mut unusable = Vec::new();
        assert_eq!(queue.flush(out, |to| unusable.push(to)), Flushed::default());
        assert_eq!(unusable, [to]);
        let mut batch = DatagramBatch::new();
        assert!(batch.receive(into).unwrap());
        let arrivals: Vec<_> = batch.arrivals(|kind| kind == 7).collect();
        let expected = ["127.0.0.3", "127.0.0.1", "127.0.0.4"]
            .map(|from| (SocketAddr::new(from.parse().unwrap(), sender.port()), to.ip()));
        assert_eq!(arrivals, expected);
        assert_eq!(batch.arrivals(|kind| kind == 8).count(), 0);
    }

    #[test]
    fn runs_of_one_length_arrive_as_the_datagrams_they_are() {
        let sender = Sockets::open(0, 0).unwrap();
        let joining = Sockets::open(0, 0).unwrap();
        let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
        plain.set_nonblocking(true).unwrap();
        // Runs end with a shorter datagram and after 64. All fits the plain socket's default buffer.
        let lengths: Vec<usize> = [&[1000; 5][..], &[10], &[1000], &[0], &[600; 40], &[48; 70]].concat();
        let octets = |number: usize, length: usize| -> Vec<u8> {
            (0..length).map(|at| if at == 0 { TRANSPORT } else { (number * 7 + at) as u8 }).collect()
        };
        for port in [joining.port(), plain.local_addr().unwrap().port()] {
            let mut queue = SendQueue::new();
            for (number, &length) in lengths.iter().enumerate() {
                assert!(queue.has_room(length));
                queue.space(length).copy_from_slice(&octets(number, length));
                queue.push((Ipv4Addr::LOCALHOST, port).into(), None, length);
            }
            assert!(queue.waiting.len() < 12, "{} messages", queue.waiting.len());
            let [Some(out), _] = sender.by_family() else { panic!("no IPv4 socket") };
            let flushed = queue.flush(out, |_| {});
            assert_eq!(flushed, Flushed { failed: 0, blocked: false });
            assert_eq!(queue.datagrams, 0);
        }
        let expected: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(number, &length)| octets(number, length)).collect();
        let mut batch = DatagramBatch::new();
        let mut joined = Vec::new();
        let [Some(into), _] = joining.by_family() else { panic!("no IPv4 socket") };
        while batch.receive(into).unwrap() {
            joined.extend(batch.iter().map(|(_, octets)| octets.to_vec()));
        }
        let arrived: Vec<usize> = joined.iter().map(Vec::len).collect();
        assert_eq!(arrived, lengths);
        assert!(joined == expected, "octets differ");
        let mut buffer = [0; 4096];
        let single: Vec<Vec<u8>> =
            std::iter::from_fn(|| plain.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()))
                .collect();
        assert!(single == expected, "octets differ");
    }

    #[test]
    fn a_run_that_is_taken_apart_is_still_whole() {
        let mut queue = SendQueue::new();
        let to = (Ipv4Addr::LOCALHOST, 1).into();
        let push = |queue: &mut SendQueue, first: u8, length: usize| {
            queue.space(length)[0] = first;
            queue.push(to, None, length);
        };
        for length in [100, 100, 40] {
            push(&mut queue, TRANSPORT, length);
        }
        assert_eq!(queue.waiting.len(), 1);
        queue.scatter_first();
        let places: Vec<_> =
            queue.waiting.iter().map(|one| (one.start, one.length, one.datagrams())).collect();
        assert_eq!(places, [(0, 100, 1), (100, 100, 1), (200, 40, 1)]);
        // What comes later does not join them again: it would be refused again.
        push(&mut queue, TRANSPORT, 40);
        assert_eq!(queue.waiting.len(), 4);
        // An introduction and the initiation after it: no run.
        push(&mut queue, 0x10, 640);
        push(&mut queue, 1, 148);
        assert_eq!(queue.waiting.len(), 6);
        assert_eq!(queue.clear(), 6);
    }

    #[test]
    fn a_full_queue_says_so() {
        let mut queue = SendQueue::new();
        assert!(!queue.has_room(SendQueue::CAPACITY + 1));
        for _ in 0..SendQueue::LIMIT {
            assert!(queue.has_room(1));
            queue.push((Ipv4Addr::LOCALHOST, 1).into(), None, 1);
        }
        assert!(!queue.has_room(1));
        assert_eq!(queue.clear(), SendQueue::LIMIT as u64);
        assert!(queue.has_room(1));
    }
}
