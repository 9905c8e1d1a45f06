//! Datagrams from a socket, a batch a turn, joined ones taken apart.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use crate::sys::mmsg;

/// Largest UDP payload is 65,507 octets; a slot is larger, so that no datagram is ever cut.
const SLOT: usize = 65_536;

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
