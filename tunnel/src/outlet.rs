//! Where the engine's output goes: the UDP sockets on the outside, the TUN interface on the inside.
//!
//! Each datagram and packet is written straight into a queue of here; the queues go out once a turn, or when
//! nearly full, but never while the one who writes holds a lock. What finds no room or no socket is dropped and counted, as a network does:
//! nothing here waits.

use std::net::SocketAddr;
use std::sync::Arc;

use edge_tunnel_core::{Marks, Output};

use crate::sources::Sources;
use crate::tun::{Tun, WriteQueue};
use crate::udp::{Carriage, SendQueue, Sockets};

/// Losses on the way to the kernel and from it, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Datagrams the kernel refused: no route, too long, filtered.
    pub(crate) send_failed: u64,
    /// Datagrams dropped because the socket was full, missing, or the interface down.
    pub(crate) send_dropped: u64,
    /// Packets that the TUN interface did not take.
    pub(crate) tun_failed: u64,
    /// Errors read from the sockets (ICMP and the like).
    pub(crate) socket_errors: u64,
    /// Packets of the interface that could not be cut to the path's size.
    pub(crate) packets_uncut: u64,
    /// Datagrams dropped unopened, because more came than could be opened.
    pub(crate) datagrams_crowded_out: u64,
}

impl Losses {
    /// The sum of both.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            send_failed: self.send_failed + other.send_failed,
            send_dropped: self.send_dropped + other.send_dropped,
            tun_failed: self.tun_failed + other.tun_failed,
            socket_errors: self.socket_errors + other.socket_errors,
            packets_uncut: self.packets_uncut + other.packets_uncut,
            datagrams_crowded_out: self.datagrams_crowded_out + other.datagrams_crowded_out,
        }
    }
}

/// Octets of the largest packet or datagram there is.
const LARGEST: usize = 65_536;
/// The packets that waited for a session leave together, under one lock.
const WAITING: usize = 130;

/// The queues and what they empty into.
pub(crate) struct Outlet {
    tun: Arc<Tun>,
    sockets: Option<Arc<Sockets>>,
    /// IPv4, IPv6.
    datagrams: [SendQueue; 2],
    packets: WriteQueue,
    sources: Sources,
    /// The datagram being written: its family's index and destination.
    open: Option<(usize, SocketAddr)>,
    /// How it is to travel.
    marks: Marks,
    /// Whether the packet being written has its place in the queue.
    packet_open: bool,
    /// Written to when there is no room, so that the engine need not care.
    discard: Vec<u8>,
    losses: Losses,
}

impl Outlet {
    pub(crate) fn new(tun: Arc<Tun>) -> Self {
        let queue = || SendQueue::new(Arc::clone(tun.offloads()));
        Self {
            datagrams: [queue(), queue()],
            tun,
            sockets: None,
            packets: WriteQueue::new(),
            sources: Sources::new(),
            open: None,
            marks: Marks::default(),
            packet_open: false,
            discard: Vec::new(),
            losses: Losses::default(),
        }
    }

    pub(crate) fn tun(&self) -> &Tun {
        &self.tun
    }

    pub(crate) fn sockets(&self) -> Option<&Sockets> {
        self.sockets.as_deref()
    }

    /// Replaces the sockets. What still waits goes out by the new ones, or is dropped without any.
    pub(crate) fn set_sockets(&mut self, sockets: Option<Arc<Sockets>>) {
        self.sockets = sockets;
        for (family, queue) in self.datagrams.iter_mut().enumerate() {
            match &self.sockets {
                Some(sockets) => queue.socket_replaced(Arc::clone(&sockets.forbids_fragments()[family])),
                None => self.losses.send_dropped += queue.clear(),
            }
        }
    }

    /// From which addresses of ours peers are written to.
    pub(crate) fn sources(&mut self) -> &mut Sources {
        &mut self.sources
    }

    pub(crate) fn losses(&self) -> Losses {
        self.losses
    }

    /// Empties the queues as far as the sockets take it. Returns whether each family's socket is full,
    /// in the order IPv4, IPv6; the rest stays queued.
    pub(crate) fn flush(&mut self) -> [bool; 2] {
        self.losses.tun_failed += self.packets.flush(&self.tun);
        [self.flush_datagrams(0), self.flush_datagrams(1)]
    }

    fn flush_datagrams(&mut self, family: usize) -> bool {
        let queue = &mut self.datagrams[family];
        if queue.is_empty() {
            return false;
        }
        let Some(socket) = self.sockets.as_ref().and_then(|sockets| sockets.by_family()[family]) else {
            self.losses.send_dropped += queue.clear();
            return false;
        };
        let sources = &mut self.sources;
        let flushed = queue.flush(socket, |to| sources.forget(to));
        self.losses.send_failed += flushed.failed;
        flushed.blocked
    }

    fn discard(&mut self, length: usize) -> &mut [u8] {
        if self.discard.len() < length {
            self.discard.resize(length, 0);
        }
        &mut self.discard[..length]
    }
}

impl Output for Outlet {
    fn datagram_buffer(&mut self, to: SocketAddr, len: usize) -> &mut [u8] {
        let family = usize::from(to.is_ipv6());
        self.open = None;
        self.marks = Marks::default();
        if self.sockets.is_none() || !self.datagrams[family].has_room(len) {
            return self.discard(len);
        }
        self.open = Some((family, to));
        self.datagrams[family].space(len)
    }

    fn commit_datagram(&mut self, len: usize) {
        match self.open.take() {
            Some((family, to)) => {
                let queue = &mut self.datagrams[family];
                let kind = queue.space(len).first().copied().unwrap_or_default();
                let carriage = Carriage { from: self.sources.choose(to, kind), marks: self.marks };
                queue.push(to, carriage, len);
            }
            None => self.losses.send_dropped += 1,
        }
    }

    fn mark_datagram(&mut self, marks: Marks) {
        self.marks = marks;
    }

    fn packet_buffer(&mut self, len: usize) -> &mut [u8] {
        self.packet_open = self.packets.has_room(len);
        if self.packet_open { self.packets.space(len) } else { self.discard(len) }
    }

    fn commit_packet(&mut self, len: usize) {
        if std::mem::take(&mut self.packet_open) {
            self.packets.push(len);
        } else {
            self.losses.tun_failed += 1;
        }
    }

    fn is_full(&self) -> bool {
        !self.packets.has_room(LARGEST)
            || self.datagrams.iter().any(|queue| !queue.has_room_for(WAITING, LARGEST))
    }

    fn make_room(&mut self) {
        self.flush();
    }
}
