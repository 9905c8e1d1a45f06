//! What comes back about datagrams that were sent: the socket's error queue (IP_RECVERR of ip(7)).
//!
//! Only "too large" is of use; everything else is the peer's silence by another name, and WireGuard's timers
//! handle that. Whether to believe a report is left to the engine.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::sys::ancillary::Witness;
use crate::sys::mmsg;

/// Octets kept of a quoted datagram: enough to tell whose it was.
const QUOTE: usize = 32;
/// Batches per turn: a flood of errors must not hold the thread.
const BATCHES: usize = 4;

/// Somebody says that a datagram was too large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooBig<'a> {
    /// Where it was going; without the port if our own host says so.
    pub(crate) to: SocketAddr,
    pub(crate) witness: Witness,
    /// The size of IP packet that would pass.
    pub(crate) mtu: u16,
    /// The first octets of the datagram; none if our own host says so.
    pub(crate) quoted: &'a [u8],
}

/// Errors of one turn, in a buffer that is allocated once.
pub(crate) struct ErrorBatch {
    slots: Box<[u8]>,
    received: mmsg::Received,
    filled: Vec<usize>,
}

impl ErrorBatch {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![0; mmsg::BATCH * QUOTE].into_boxed_slice(),
            received: mmsg::Received::new(mmsg::BATCH),
            filled: Vec::with_capacity(mmsg::BATCH),
        }
    }

    /// Empties the error queue of `socket` without blocking, up to a bound, and gives what is of use to `take`.
    pub(crate) fn drain(&mut self, socket: BorrowedFd<'_>, mut take: impl FnMut(TooBig<'_>)) {
        for _ in 0..BATCHES {
            let Self { slots, received, filled } = self;
            match mmsg::receive_errors(socket, slots, QUOTE, received, filled) {
                Ok(count) if count > 0 => {}
                _ => return,
            }
            for number in filled.drain(..) {
                let Some(slot) = received.slot(number) else { continue };
                let octets = slots.chunks_exact(QUOTE).nth(number).unwrap_or_default();
                if let (Some(to), Some((witness, mtu))) = (slot.from, received.too_big(number)) {
                    let quoted = octets.get(..slot.length).unwrap_or_default();
                    take(TooBig { to, witness, mtu, quoted });
                }
            }
        }
    }
}
