//! Datagrams from a socket, a batch a turn, joined ones taken apart.
//!
//! A batch that does not fill is handed on as it came. One that does means overload: then the socket is emptied
//! at each turn, so that nobody's datagrams wait behind another's in its buffer, and the batch is what
//! [`FairQueue`] chooses. What it drops was not opened yet, and costs a tenth of what opening does.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use edge_tunnel_core::Datagram;
use edge_tunnel_core::ecn::Ecn;
use edge_tunnel_core::fair_queue::{FairQueue, flow_of};

use crate::sys::ancillary::Local;
use crate::sys::mmsg;

/// Largest UDP payload is 65,507 octets; a slot is larger, so that no datagram is ever cut. Only the pages that
/// datagrams reach become resident. An odd number of cache lines, so that the heads of many small datagrams do
/// not compete for the same sets of the cache.
const SLOT: usize = 64 * 1025;

/// Slots, each with a datagram or several that the kernel joined.
const SLOTS: usize = 256;

/// Calls per turn under overload. Twice the slots: a flood that comes at twice the pace of our turns is still
/// read to its end.
const CALLS: usize = 8;

/// Cost of a batch under overload, about: half a millisecond, so that the other direction is not kept waiting.
const BATCH_COST: usize = 512 * 1024;

/// What handling a datagram costs beside its octets, in octets: as long as opening so many takes.
const DATAGRAM: usize = 256;

/// Datagrams of one turn, in a buffer that is allocated once, and those that wait for the next one.
pub(crate) struct DatagramBatch {
    slots: Box<[u8]>,
    received: mmsg::Received,
    free: [bool; SLOTS],
    /// The slots of this turn, in order.
    batch: Vec<usize>,
    /// Slots just received, to be queued.
    fresh: Vec<usize>,
    queue: FairQueue<usize>,
    dropped: u64,
}

/// Errors in a row that are passed over: an ICMP message about what was sent tells nothing of what has come, and
/// anybody can forge one.
const STRAY_ERRORS: usize = 8;

impl DatagramBatch {
    /// `seed` must be unpredictable: see [`FairQueue::new`].
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            slots: vec![0; SLOTS * SLOT].into_boxed_slice(),
            received: mmsg::Received::new(SLOTS),
            free: [true; SLOTS],
            batch: Vec::with_capacity(SLOTS),
            fresh: Vec::with_capacity(mmsg::BATCH),
            queue: FairQueue::new(SLOTS as u32, seed),
            dropped: 0,
        }
    }

    /// Replaces the batch by what `socket` holds, without blocking, and says whether there was anything. `now`
    /// is only compared with other such times.
    ///
    /// # Errors
    ///
    /// A pending error of the socket, such as an ICMP message. Reading it clears it.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, now: Instant) -> io::Result<bool> {
        for slot in self.batch.drain(..) {
            self.free[slot] = true;
        }
        let mut filled = self.read(socket);
        if self.queue.is_empty() && !matches!(filled, Ok(mmsg::BATCH)) {
            std::mem::swap(&mut self.batch, &mut self.fresh);
            return filled.map(|_| !self.batch.is_empty());
        }
        for _ in 1..CALLS {
            self.enqueue(now);
            if !matches!(filled, Ok(mmsg::BATCH)) {
                break;
            }
            filled = self.read(socket);
        }
        self.enqueue(now);
        self.choose(now);
        if self.batch.is_empty() { filled.map(|_| false) } else { Ok(true) }
    }

    /// Whether datagrams wait for the next turn. The socket does not tell.
    pub(crate) fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Datagrams dropped under overload since start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The datagrams of the batch and their sources, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.slots().flat_map(|(_, slot, octets)| {
            // An empty datagram is one, too; `chunks` would make none of it.
            let empty = octets.is_empty().then_some(octets);
            let datagrams = octets.chunks(slot.segment).chain(empty);
            let ecn = Ecn::of_octet(slot.tos);
            slot.from
                .into_iter()
                .flat_map(move |from| datagrams.clone().map(move |octets| Datagram { from, ecn, octets }))
        })
    }

    /// Source, local address and interface of each datagram whose first octet satisfies `wanted`. The kernel joins
    /// datagrams of one sender and one length only, so the first one of a slot speaks for the others.
    pub(crate) fn arrivals(&self, wanted: impl Fn(u8) -> bool) -> impl Iterator<Item = (SocketAddr, Local)> {
        self.slots().filter_map(move |(number, slot, octets)| {
            octets.first().filter(|first| wanted(**first))?;
            Some((slot.from?, self.received.local(number)?))
        })
    }

    fn slots(&self) -> impl Iterator<Item = (usize, mmsg::Slot, &[u8])> {
        self.batch.iter().filter_map(|&number| {
            let slot = self.received.slot(number)?;
            let octets = self.slots.get(number * SLOT..)?.get(..slot.length)?;
            Some((number, slot, octets))
        })
    }

    /// One call into `fresh`. Makes room for it first.
    fn read(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let Self { slots, received, free, fresh, queue, dropped, .. } = self;
        while queue.len() > SLOTS - mmsg::BATCH {
            let Some(slot) = queue.evict() else { break };
            free[slot] = true;
            *dropped += load(received, slot).1;
        }
        let mut receive =
            || mmsg::receive(socket, slots, SLOT, |slot| free.get(slot) == Some(&true), received, fresh);
        let stray = |result: &io::Result<usize>| {
            let kind = result.as_ref().map_err(io::Error::kind);
            !matches!(kind, Ok(_) | Err(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
        };
        let mut result = receive();
        for _ in 1..STRAY_ERRORS {
            if !stray(&result) {
                break;
            }
            result = receive();
        }
        fresh.iter().for_each(|&slot| free[slot] = false);
        match result {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            other => other,
        }
    }

    fn enqueue(&mut self, now: Instant) {
        let Self { slots, received, fresh, queue, .. } = self;
        for slot in fresh.drain(..) {
            let (octets, datagrams) = load(received, slot);
            let head = slots.get(slot * SLOT..).and_then(|octets_on| octets_on.get(..octets));
            let cost = octets + datagrams as usize * DATAGRAM;
            // There are as many nodes as slots, so nothing gives way here.
            let _ = queue.push(now, flow_of(head.unwrap_or_default()), cost as u32, slot);
        }
    }

    fn choose(&mut self, now: Instant) {
        let Self { received, free, batch, queue, dropped, .. } = self;
        let mut cost = 0;
        while cost < BATCH_COST {
            let late = |slot: usize| {
                free[slot] = true;
                *dropped += load(received, slot).1;
            };
            let Some(slot) = queue.pop(now, late) else { return };
            let (octets, datagrams) = load(received, slot);
            cost += octets + datagrams as usize * DATAGRAM;
            batch.push(slot);
        }
    }
}

/// Octets and datagrams in a slot.
fn load(received: &mmsg::Received, slot: usize) -> (usize, u64) {
    received.slot(slot).map_or((0, 0), |slot| (slot.length, slot.length.div_ceil(slot.segment).max(1) as u64))
}

#[cfg(test)]
mod tests;
