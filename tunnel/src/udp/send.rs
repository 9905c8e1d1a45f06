//! Datagrams for a socket: runs of one length to one destination leave as one message, for the kernel to cut.
//!
//! A run that the kernel refuses is sent again datagram by datagram, so nothing is lost. Whether the refusal
//! was about the run, the path or the local address shows when its first datagram is sent alone.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use edge_tunnel_core::Marks;
use verona_contract::control::OffCause;

use crate::offloads::{Offload, Offloads};
use crate::sys::ancillary::Local;
use crate::sys::mmsg;
use crate::sys::path::{self, TooLarge};

/// Datagrams of one family that wait for [`SendQueue::flush`], back to back in one buffer.
pub(crate) struct SendQueue {
    octets: Box<[u8]>,
    /// Where the next datagram starts.
    end: usize,
    waiting: VecDeque<Waiting>,
    /// Datagrams in `waiting`, runs counted in full.
    datagrams: usize,
    names: mmsg::Names,
    offloads: Arc<Offloads>,
    /// Whether the kernel has ever taken a run: then a refusal is about one path.
    proven: bool,
    /// The destination and error of a run that was refused and taken apart, until a datagram of it is sent.
    doubt: Option<(SocketAddr, io::Error)>,
    unjoined: Unjoined,
    /// Whether the socket forbids fragments now. Others may send by it, too: the engine does, by the first
    /// worker's. If both want another state in the same microsecond, a datagram goes with the wrong one, which
    /// loses a datagram or lets a router cut a probe; the next confirmation of the size puts that right.
    forbids_fragments: Arc<AtomicBool>,
}

/// How a datagram leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carriage {
    /// From where; the kernel chooses if there is none.
    pub(crate) from: Option<Local>,
    pub(crate) marks: Marks,
}

impl Carriage {
    /// What datagrams of `length` octets ask of the socket; none for those that are never too large, so that a
    /// batch for many peers does not change the socket's mind again and again.
    fn too_large(&self, length: usize) -> Option<TooLarge> {
        match self.marks.dont_fragment {
            true => (length > FITS_CONFIRMED).then_some(TooLarge::Drop),
            false => (length > FITS_ANYWHERE).then_some(TooLarge::Fragment),
        }
    }
}

/// Octets of a datagram that every path carries on which larger ones were confirmed: 1,280 with the headers.
const FITS_CONFIRMED: usize = 1232;

/// Octets of a datagram that every path carries: 576 with an IPv4 header and options (RFC 1122 §3.3.3).
const FITS_ANYWHERE: usize = 508;

/// Destinations that get single datagrams for now: their path is too narrow for those lengths, and cutting
/// (unlike fragmenting) is refused there. The oldest gives way.
#[derive(Default)]
struct Unjoined {
    /// Each with the datagrams that it gets before a run is tried again.
    paths: [Option<(SocketAddr, u16)>; 8],
    next: usize,
}

impl Unjoined {
    const DATAGRAMS: u16 = 4096;

    fn add(&mut self, to: SocketAddr) {
        self.paths[self.next] = Some((to, Self::DATAGRAMS));
        self.next = (self.next + 1) % self.paths.len();
    }

    /// Whether the next datagram to `to` goes alone.
    fn count(&mut self, to: SocketAddr) -> bool {
        let found = self.paths.iter_mut().find(|path| path.is_some_and(|(known, _)| known == to));
        let Some(path) = found else { return false };
        *path = path.and_then(|(to, left)| Some((to, left.checked_sub(1)?)));
        path.is_some()
    }
}

/// One message: a datagram, or a run of datagrams of one length (the last may be shorter), back to back.
struct Waiting {
    to: SocketAddr,
    carriage: Carriage,
    start: usize,
    length: usize,
    /// Octets of each datagram but the last one.
    segment: usize,
    /// Errors that were told when it was to be sent, and may have been about earlier datagrams.
    errors: u8,
    /// Nothing joins it: a shorter one has come, the run was taken apart, it is no transport message.
    complete: bool,
}

impl Waiting {
    fn datagrams(&self) -> usize {
        self.length.div_ceil(self.segment.max(1)).max(1)
    }

    fn is_run(&self) -> bool {
        self.length > self.segment
    }

    /// Whether an error is worth another try.
    fn may_be_of_another(&mut self) -> bool {
        self.errors = self.errors.saturating_add(1);
        self.errors < STRAY_ERRORS
    }

    fn too_large(&self) -> Option<TooLarge> {
        self.carriage.too_large(self.segment)
    }

    /// Takes the next datagram into the run, if it belongs there.
    fn extend(&mut self, to: SocketAddr, carriage: Carriage, length: usize) -> bool {
        let fits = !self.complete
            && (self.to, self.carriage) == (to, carriage)
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

/// Whether the datagrams of a run that failed so may be sent alone. An unreachable network, say, is none.
fn is_about_run(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOMEM))
}

/// How often in a row an error is taken to be about another datagram: a flood of forged ICMP messages makes two
/// in a row likely, and not this many in the few microseconds that they take.
const STRAY_ERRORS: u8 = 8;

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

    pub(crate) fn new(offloads: Arc<Offloads>) -> Self {
        Self {
            octets: vec![0; Self::CAPACITY].into_boxed_slice(),
            end: 0,
            waiting: VecDeque::with_capacity(Self::LIMIT),
            datagrams: 0,
            names: mmsg::Names::new(),
            offloads,
            proven: false,
            doubt: None,
            unjoined: Unjoined::default(),
            forbids_fragments: Arc::default(),
        }
    }

    /// Whether a datagram of up to `length` octets can be queued.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.datagrams < Self::LIMIT && self.octets.len() - self.end >= length
    }

    /// Whether `count` datagrams can be queued, one of them of up to `length` octets and the others of a usual
    /// size.
    pub(crate) fn has_room_for(&self, count: usize, length: usize) -> bool {
        const USUAL: usize = 1600;
        self.datagrams + count <= Self::LIMIT && self.octets.len() - self.end >= length + count * USUAL
    }

    /// Space for a datagram of `length` octets; empty if [`Self::has_room`] was not asked.
    pub(crate) fn space(&mut self, length: usize) -> &mut [u8] {
        self.octets.get_mut(self.end..self.end + length).unwrap_or_default()
    }

    /// The next flush is to another socket, with this state.
    pub(crate) fn socket_replaced(&mut self, forbids_fragments: Arc<AtomicBool>) {
        self.forbids_fragments = forbids_fragments;
    }

    /// Queues what was written into the first `length` octets of [`Self::space`].
    pub(crate) fn push(&mut self, to: SocketAddr, carriage: Carriage, length: usize) {
        let start = self.end;
        self.end += length;
        self.datagrams += 1;
        // Only transport messages: a handshake message is worth a datagram of its own on every path.
        let joins = self.octets.get(start) == Some(&TRANSPORT)
            && self.offloads.is_on(Offload::UdpGso)
            && !self.unjoined.count(to);
        let last = self.waiting.back_mut().filter(|_| joins);
        if !last.is_some_and(|last| last.extend(to, carriage, length)) {
            let complete = !joins;
            let segment = length;
            self.waiting.push_back(Waiting { to, carriage, start, length, segment, errors: 0, complete });
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
        while let Some(first) = self.waiting.front().map(Waiting::too_large) {
            let wanted = self.have_too_large(socket, first);
            let alike = |waiting: &&Waiting| waiting.too_large().is_none_or(|too_large| too_large == wanted);
            let alike = self.waiting.iter().take_while(alike);
            let datagrams = alike.map(|waiting| mmsg::Outgoing {
                to: waiting.to,
                from: waiting.carriage.from,
                tos: waiting.carriage.marks.tos,
                octets: &self.octets[waiting.start..waiting.start + waiting.length],
                // A segment of a run is far below 64 KiB.
                segment: waiting.is_run().then_some(waiting.segment as u16),
            });
            match mmsg::send(socket, datagrams, &mut self.names) {
                Ok(sent) => self.sent(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    result.blocked = true;
                    return result;
                }
                // A queue of the network's is full; it would be no less so for the same datagrams again.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.drop_first(&mut result),
                // An ICMP error of an earlier datagram comes first, and is gone when it was told. Anybody can
                // forge one, so only what stays is about this message.
                Err(_) if self.waiting.front_mut().is_some_and(Waiting::may_be_of_another) => {}
                // The device, the path's MTU or the kernel does not take the run: then one by one.
                Err(error) if is_about_run(&error) && self.waiting.front().is_some_and(Waiting::is_run) => {
                    self.doubt = self.waiting.front().map(|run| (run.to, error));
                    self.scatter_first();
                }
                Err(_) if self.waiting.front().is_some_and(|waiting| waiting.carriage.from.is_some()) => {
                    // It was not about the run.
                    self.doubt = None;
                    if let Some(to) = self.give_up_source() {
                        unusable(to);
                    }
                }
                // EMSGSIZE, ENETUNREACH, EPERM of a filter: a fact about this destination, and WireGuard's
                // timers already handle loss.
                Err(_) => self.drop_first(&mut result),
            }
        }
        self.end = 0;
        result
    }

    /// Has the socket forbid fragments or not, if that is of importance. Returns what it does now.
    fn have_too_large(&self, socket: BorrowedFd<'_>, wanted: Option<TooLarge>) -> TooLarge {
        let state = |forbids| if forbids { TooLarge::Drop } else { TooLarge::Fragment };
        let now = state(self.forbids_fragments.load(Relaxed));
        let Some(wanted) = wanted.filter(|wanted| *wanted != now) else { return now };
        let v6 = self.waiting.front().is_some_and(|first| first.to.is_ipv6());
        if path::set_too_large(socket, v6, wanted).is_ok() {
            self.forbids_fragments.store(wanted == TooLarge::Drop, Relaxed);
        }
        // If it cannot be had, the datagrams go all the same.
        wanted
    }

    fn drop_first(&mut self, result: &mut Flushed) {
        self.doubt = None;
        let dropped = self.waiting.pop_front().map_or(0, |first| first.datagrams());
        self.datagrams -= dropped;
        result.failed += dropped as u64;
    }

    /// Forgets the first `count` messages, which the kernel took.
    fn sent(&mut self, count: usize) {
        if let Some((to, error)) = self.doubt.take() {
            self.blame(to, &error);
        }
        for message in self.waiting.drain(..count) {
            let datagrams = message.datagrams();
            self.proven |= datagrams > 1;
            self.datagrams -= datagrams;
        }
    }

    /// A run to `to` was refused, and its first datagram was taken alone.
    fn blame(&mut self, to: SocketAddr, error: &io::Error) {
        self.offloads.count_refusal();
        // EIO: the route's device or transform cannot do it. EINVAL before any run was taken: the kernel; after:
        // the path is narrower than the datagrams.
        let everywhere = match error.raw_os_error() {
            Some(libc::EIO) => true,
            Some(libc::EINVAL) => !self.proven,
            _ => false,
        };
        if everywhere {
            self.offloads.turn_off(Offload::UdpGso, OffCause::Refused, &format!("sending to {to}: {error}"));
        } else {
            self.unjoined.add(to);
        }
    }

    /// Has the first message, and all that follow it with the same destination and source, leave from a source
    /// of the kernel's choice. Returns the destination.
    fn give_up_source(&mut self) -> Option<SocketAddr> {
        let first = self.waiting.front()?;
        let (to, from) = (first.to, first.carriage.from);
        let same = |message: &&mut Waiting| (message.to, message.carriage.from) == (to, from);
        for message in self.waiting.iter_mut().filter(same) {
            message.carriage.from = None;
            message.errors = 0;
        }
        Some(to)
    }

    /// Replaces the first run by its datagrams.
    fn scatter_first(&mut self) {
        let Some(Waiting { to, carriage, start: first, length, segment, .. }) = self.waiting.pop_front()
        else {
            return;
        };
        // Tried twice each: a path that takes none of them must not cost much.
        let errors = STRAY_ERRORS - 2;
        for offset in (0..length).step_by(segment).rev() {
            let length = segment.min(length - offset);
            let start = first + offset;
            let (segment, complete) = (length, true);
            self.waiting.push_front(Waiting { to, carriage, start, length, segment, errors, complete });
        }
    }
}

#[cfg(test)]
mod tests;
