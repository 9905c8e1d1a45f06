//! Packets from the interface, a batch a turn, large ones cut to the path's size.

use std::io::{self, Read};

use edge_tunnel_core::offload::{Segments, VNET_HEADER, VnetHeader};

use super::{SLOT, Tun};

/// Packets per [`PacketBatch::read`].
pub(crate) const BATCH: usize = 64;

/// Octets per [`PacketBatch::read`], about: large packets must not hold the thread for long.
const BATCH_OCTETS: usize = 512 * 1024;

/// Where packets start: each on cache lines of its own.
const LINE: usize = 64;

/// Packets of one turn, close together in a buffer that is allocated once: the small ones of a flood stay within
/// a few pages, and the same pages serve each turn.
pub(crate) struct PacketBatch {
    octets: Box<[u8]>,
    lengths: Vec<usize>,
    header: usize,
}

impl PacketBatch {
    pub(crate) fn new() -> Self {
        // The last packet may start at the very end of what a batch is to hold.
        let octets = vec![0; BATCH_OCTETS + BATCH * LINE + SLOT].into_boxed_slice();
        Self { octets, lengths: Vec::with_capacity(BATCH), header: 0 }
    }

    /// Replaces the batch by what the interface holds, up to [`BATCH`] packets, without blocking.
    ///
    /// # Errors
    ///
    /// Only if nothing was read and the interface reports more than "nothing there".
    pub(crate) fn read(&mut self, tun: &Tun) -> io::Result<()> {
        self.lengths.clear();
        self.header = tun.header;
        let (mut octets, mut rest) = (0, &mut *self.octets);
        while octets < BATCH_OCTETS && self.lengths.len() < BATCH {
            let Some(slot) = rest.get_mut(..SLOT) else { break };
            match (&tun.file).read(slot) {
                Ok(length) => {
                    self.lengths.push(length);
                    octets += length;
                    rest = &mut rest[length.next_multiple_of(LINE)..];
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => break,
                    _ if !self.lengths.is_empty() => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Gives each packet read to `take`, oldest first, large ones cut to the path's size. Returns how many
    /// could not be cut.
    pub(crate) fn for_each(&mut self, mut take: impl FnMut(&[u8])) -> u64 {
        let (mut failed, mut rest) = (0, &mut *self.octets);
        for &length in &self.lengths {
            let slot;
            (slot, rest) = rest.split_at_mut(length.next_multiple_of(LINE));
            let Some((header, packet)) = slot[..length].split_at_mut_checked(self.header) else {
                failed += 1;
                continue;
            };
            let header = match header.first_chunk::<VNET_HEADER>() {
                Some(octets) => VnetHeader::parse(octets),
                None => Some(VnetHeader::default()),
            };
            let Some(Ok(mut segments)) = header.map(|header| Segments::new(header, packet)) else {
                failed += 1;
                continue;
            };
            while let Some(segment) = segments.next_segment() {
                take(segment);
            }
        }
        failed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}
