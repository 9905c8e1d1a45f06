//! Packets for the interface, joined where the kernel takes it.

use std::io::{self, IoSlice};

use edge_tunnel_core::offload::{Coalescer, GsoKind, Joining, MAX_PARTS, Segments, VNET_HEADER, VnetHeader};
use verona_contract::control::OffCause;

use super::{SLOT, Tun};
use crate::offloads::{Offload, Offloads};

/// The header of a packet that is complete.
const PLAIN: [u8; VNET_HEADER] = [0; VNET_HEADER];

/// Packets that wait for [`WriteQueue::flush`], back to back in one buffer.
pub(crate) struct WriteQueue {
    octets: Box<[u8]>,
    /// Length of each packet, oldest first.
    lengths: Vec<usize>,
    /// Where the next packet starts.
    end: usize,
    coalescer: Coalescer,
}

impl WriteQueue {
    /// Octets one queue holds: five packets of the largest size. It is emptied when there is no room for one of
    /// them any more, so some 180 of a usual size leave together.
    const CAPACITY: usize = 5 * SLOT;

    pub(crate) fn new() -> Self {
        Self {
            octets: vec![0; Self::CAPACITY].into_boxed_slice(),
            lengths: Vec::with_capacity(256),
            end: 0,
            coalescer: Coalescer::default(),
        }
    }

    /// Whether a packet of up to `length` octets can be queued.
    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.lengths.len() < self.lengths.capacity() && self.octets.len() - self.end >= length
    }

    /// Space for a packet of `length` octets; empty if [`Self::has_room`] was not asked.
    pub(crate) fn space(&mut self, length: usize) -> &mut [u8] {
        self.octets.get_mut(self.end..self.end + length).unwrap_or_default()
    }

    /// Queues what was written into the first `length` octets of [`Self::space`].
    pub(crate) fn push(&mut self, length: usize) {
        self.lengths.push(length);
        self.end += length;
    }

    /// Writes what is queued to `tun`, each flow in its order and joined where `tun` takes it, and returns
    /// how many packets it did not take: the interface is down or gone, or they were no IP packets.
    pub(crate) fn flush(&mut self, tun: &Tun) -> u64 {
        self.flush_to(|parts| tun.write(parts), tun.header, &tun.offloads)
    }

    fn flush_to(
        &mut self,
        write: impl Fn(&[IoSlice<'_>]) -> io::Result<()>,
        header: usize,
        offloads: &Offloads,
    ) -> u64 {
        let joining =
            Joining { tcp: offloads.is_on(Offload::TunTcpGro), udp: offloads.is_on(Offload::TunUdpGro) };
        let failed = if joining == Joining::default() {
            self.write_single(&write, header)
        } else {
            self.write_joined(&write, joining, offloads)
        };
        self.lengths.clear();
        self.end = 0;
        failed
    }

    fn write_single(&self, write: &impl Fn(&[IoSlice<'_>]) -> io::Result<()>, header: usize) -> u64 {
        let mut failed = 0;
        let mut rest = &self.octets[..self.end];
        for &length in &self.lengths {
            let (packet, after) = rest.split_at(length);
            rest = after;
            let parts = [IoSlice::new(&PLAIN[..header]), IoSlice::new(packet)];
            failed += u64::from(write(&parts).is_err());
        }
        failed
    }

    fn write_joined(
        &mut self,
        write: &impl Fn(&[IoSlice<'_>]) -> io::Result<()>,
        joining: Joining,
        offloads: &Offloads,
    ) -> u64 {
        let mut start = 0;
        for &length in &self.lengths {
            self.coalescer.push(&self.octets, start..start + length, joining);
            start += length;
        }
        self.coalescer.seal(&mut self.octets);
        let mut failed = 0;
        for frame in self.coalescer.frames() {
            let header = frame.header.to_octets();
            let (header, head) = (IoSlice::new(&header), IoSlice::new(&self.octets[frame.head.clone()]));
            let Some(kind) = frame.header.gso else {
                // Most frames of a flood of small packets: not worth the room for all the parts.
                failed += u64::from(write(&[header, head]).is_err());
                continue;
            };
            let mut parts = [IoSlice::new(&[]); 2 + MAX_PARTS];
            parts[..2].copy_from_slice(&[header, head]);
            let mut count = 2;
            for range in frame.clone() {
                parts[count] = IoSlice::new(&self.octets[range]);
                count += 1;
            }
            if let Err(error) = write(&parts[..count]) {
                let (taken, refused) = write_apart(write, frame.header, &parts[1..count]);
                failed += refused;
                // Refused joined and taken singly: this kernel (or its firewall) has no use for joined ones.
                if taken > 0 && is_refusal(&error) {
                    let offload = if kind == GsoKind::Tcp { Offload::TunTcpGro } else { Offload::TunUdpGro };
                    offloads.count_refusal();
                    offloads.turn_off(
                        offload,
                        OffCause::Refused,
                        &format!("writing to the interface: {error}"),
                    );
                }
            }
        }
        self.coalescer.clear();
        failed
    }
}

/// Writes a joined packet's parts one by one, as they came. Returns how many were taken and how many were not.
fn write_apart(
    write: &impl Fn(&[IoSlice<'_>]) -> io::Result<()>,
    header: VnetHeader,
    parts: &[IoSlice<'_>],
) -> (u64, u64) {
    // The first packet's headers speak for the whole by now, so each one's are made anew.
    let mut whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
    let Ok(mut segments) = Segments::new(header, &mut whole) else { return (0, parts.len() as u64) };
    let (mut taken, mut refused) = (0, 0);
    while let Some(segment) = segments.next_segment() {
        match write(&[IoSlice::new(&PLAIN), IoSlice::new(segment)]) {
            Ok(()) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    (taken, refused)
}

/// Whether an error may be about the header of offloads. Lack of memory, say, is not.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP))
}

#[cfg(test)]
mod tests;
