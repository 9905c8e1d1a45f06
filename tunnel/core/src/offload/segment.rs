//! Cuts a large packet of the kernel into packets of the path's size, in place.
//!
//! Each segment's headers are written right before its payload, over the end of the payload before it, which
//! was sent by then: the payload itself is never copied. The kernel's own software GSO is the model: IPv4
//! identification counts up, FIN and PSH stay with the last segment, CWR with the first.

use super::checksum;
use super::inner::{self, CWR, FIN, PSH, TCP, TCP_CHECKSUM, UDP, UDP_CHECKSUM};
use super::vnet::{GsoKind, VnetHeader};

/// Longest headers of a packet that is cut: IPv6 with extension headers, TCP with options.
const MAX_HEADER: usize = 256;

/// Why a packet of the interface cannot be used: the kernel never makes such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The offsets of the header lie outside of the packet.
    #[error("offsets of the virtio header lie outside of the packet")]
    Offsets,
    /// The headers are longer than 256 octets, or not those that the kind of GSO needs.
    #[error("headers of the packet do not fit its kind of segmentation")]
    Headers,
}

/// The segments of one packet. A lending iterator: each is gone when the next one is asked for.
#[derive(Debug)]
pub struct Segments<'a> {
    packet: &'a mut [u8],
    plan: Plan,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack")]
enum Plan {
    /// One packet as it is.
    Whole {
        given: bool,
    },
    Cut(Cut),
}

#[derive(Debug)]
struct Cut {
    header: [u8; MAX_HEADER],
    header_len: usize,
    transport: usize,
    protocol: u8,
    v6: bool,
    size: usize,
    /// Where the next segment's payload begins.
    next: usize,
    index: u16,
    /// Sum of the pseudo header without the length.
    pseudo: u64,
}

impl<'a> Segments<'a> {
    /// Prepares `packet`, the octets after the virtio header.
    ///
    /// # Errors
    ///
    /// [`SegmentError`]: drop the packet.
    pub fn new(header: VnetHeader, packet: &'a mut [u8]) -> Result<Self, SegmentError> {
        let Some(kind) = header.gso else {
            if header.needs_checksum {
                complete_checksum(header, packet)?;
            }
            return Ok(Self { packet, plan: Plan::Whole { given: false } });
        };
        let cut = Cut::plan(header, kind, packet)?;
        Ok(Self { packet, plan: Plan::Cut(cut) })
    }

    /// The next packet for the wire.
    pub fn next_segment(&mut self) -> Option<&[u8]> {
        match &mut self.plan {
            Plan::Whole { given } => (!std::mem::replace(given, true)).then_some(&*self.packet),
            Plan::Cut(cut) => cut.next_segment(self.packet),
        }
    }
}

/// Does what the kernel left to the device: the checksum over the transport header and payload. Its field
/// holds the sum of the pseudo header.
fn complete_checksum(header: VnetHeader, packet: &mut [u8]) -> Result<(), SegmentError> {
    let start = usize::from(header.checksum_start);
    let field = start + usize::from(header.checksum_offset);
    if field + 2 > packet.len() {
        return Err(SegmentError::Offsets);
    }
    let sum = checksum::finish(checksum::add(0, &packet[start..]));
    // Zero would say that there is none (RFC 768).
    let is_udp = header.checksum_offset as usize == UDP_CHECKSUM;
    packet[field..field + 2].copy_from_slice(if is_udp && sum == [0, 0] { &[0xff, 0xff] } else { &sum });
    Ok(())
}

impl Cut {
    fn plan(header: VnetHeader, kind: GsoKind, packet: &[u8]) -> Result<Self, SegmentError> {
        let transport = usize::from(header.checksum_start);
        let v6 = match packet.first().map(|first| first >> 4) {
            Some(4) if transport >= 20 => false,
            Some(6) if transport >= 40 => true,
            _ => return Err(SegmentError::Headers),
        };
        let (protocol, transport_len) = match kind {
            GsoKind::Tcp => {
                let offset = packet.get(transport + 12).ok_or(SegmentError::Offsets)?;
                (TCP, usize::from(offset >> 4) * 4)
            }
            GsoKind::Udp => (UDP, 8),
        };
        let header_len = transport + transport_len;
        let size = usize::from(header.gso_size);
        if size == 0 || header_len >= packet.len() || packet.len() > usize::from(u16::MAX) + 40 {
            return Err(SegmentError::Offsets);
        }
        if header_len > MAX_HEADER || (protocol == TCP && transport_len < 20) {
            return Err(SegmentError::Headers);
        }
        let addresses = if v6 { &packet[8..40] } else { &packet[12..20] };
        let pseudo = checksum::pseudo_header(addresses, protocol, 0);
        let mut saved = [0; MAX_HEADER];
        saved[..header_len].copy_from_slice(&packet[..header_len]);
        Ok(Self {
            header: saved,
            header_len,
            transport,
            protocol,
            v6,
            size,
            next: header_len,
            index: 0,
            pseudo,
        })
    }

    fn next_segment<'p>(&mut self, packet: &'p mut [u8]) -> Option<&'p [u8]> {
        if self.next >= packet.len() {
            return None;
        }
        let end = (self.next + self.size).min(packet.len());
        let last = end == packet.len();
        let segment = &mut packet[self.next - self.header_len..end];
        segment[..self.header_len].copy_from_slice(&self.header[..self.header_len]);
        self.write_ip(segment);
        self.write_transport(segment, last);
        self.next = end;
        self.index = self.index.wrapping_add(1);
        Some(segment)
    }

    fn write_ip(&self, segment: &mut [u8]) {
        if !self.v6 {
            let id = u16::from_be_bytes([segment[4], segment[5]]).wrapping_add(self.index);
            segment[4..6].copy_from_slice(&id.to_be_bytes());
        }
        inner::set_ip_len(segment, self.v6, segment.len());
    }

    fn write_transport(&self, segment: &mut [u8], last: bool) {
        let len = segment.len() - self.transport;
        let transport = &mut segment[self.transport..];
        let field = if self.protocol == TCP {
            let sequence = u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]);
            // At most 64 KiB further.
            let sequence = sequence.wrapping_add(u32::from(self.index) * self.size as u32);
            transport[4..8].copy_from_slice(&sequence.to_be_bytes());
            if !last {
                transport[13] &= !(FIN | PSH);
            }
            if self.index > 0 {
                transport[13] &= !CWR;
            }
            TCP_CHECKSUM
        } else {
            transport[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            UDP_CHECKSUM
        };
        transport[field..field + 2].fill(0);
        let sum = checksum::add(self.pseudo, &(len as u32).to_be_bytes());
        let sum = checksum::finish(checksum::add(sum, transport));
        let absent = self.protocol == UDP && sum == [0, 0];
        transport[field..field + 2].copy_from_slice(if absent { &[0xff, 0xff] } else { &sum });
    }
}
