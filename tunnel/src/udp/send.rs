//! Datagrams for a socket: runs of one length to one destination leave as one message, for the kernel to cut.
//!
//! A run that the kernel refuses is sent again datagram by datagram, so nothing is lost. Whether the refusal
//! was about the run, the path or the local address shows when its first datagram is sent alone.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use verona_contract::control::OffCause;

use crate::offloads::{Offload, Offloads};
use crate::sys::mmsg;

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
}

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

    fn is_run(&self) -> bool {
        self.length > self.segment
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

/// Whether the datagrams of a run that failed so may be sent alone. An unreachable network, say, is none.
fn is_about_run(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP | libc::ENOMEM))
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
        let joins = self.octets.get(start) == Some(&TRANSPORT)
            && self.offloads.is_on(Offload::UdpGso)
            && !self.unjoined.count(to);
        let last = self.waiting.back_mut().filter(|_| joins);
        if !last.is_some_and(|last| last.extend(to, from, length)) {
            let complete = !joins;
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
                segment: waiting.is_run().then_some(waiting.segment as u16),
            });
            match mmsg::send(socket, datagrams, &mut self.names) {
                Ok(sent) => self.sent(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    result.blocked = true;
                    return result;
                }
                // The device, the path's MTU or the kernel does not take the run: then one by one.
                Err(error) if is_about_run(&error) && self.waiting.front().is_some_and(Waiting::is_run) => {
                    self.doubt = self.waiting.front().map(|run| (run.to, error));
                    self.scatter_first();
                }
                Err(_) if self.waiting.front().is_some_and(|waiting| waiting.from.is_some()) => {
                    // It was not about the run.
                    self.doubt = None;
                    if let Some(to) = self.give_up_source() {
                        unusable(to);
                    }
                }
                // EMSGSIZE, ENETUNREACH, EPERM of a filter, an ICMP error of an earlier datagram: a
                // fact about this destination, and WireGuard's timers already handle loss.
                Err(_) => {
                    self.doubt = None;
                    let datagrams = self.waiting.pop_front().map_or(0, |message| message.datagrams());
                    self.datagrams -= datagrams;
                    result.failed += datagrams as u64;
                }
            }
        }
        self.end = 0;
        result
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
        let (to, from) = (first.to, first.from);
        for message in self.waiting.iter_mut().filter(|message| (message.to, message.from) == (to, from)) {
            message.from = None;
        }
        Some(to)
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
mod tests;
