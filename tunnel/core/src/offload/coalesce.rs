//! Joins packets of one flow into one large packet for the kernel, without moving their payload.
//!
//! A [`Frame`] is the first packet, its headers made those of the whole, and the payloads that follow, for one
//! `writev`. The rules are those of the kernel's own GRO: same addresses, ports, TTL, DSCP and ECN, TCP options
//! and acknowledgement; sequence numbers without a gap; sizes equal but for the last; no flags but ACK and PSH;
//! and every checksum holds, since the kernel will not look again. Packets of one flow never change their order.

use super::checksum;
use super::inner::{self, ACK, Layout, PSH, TCP, UDP};
use super::vnet::{GsoKind, VnetHeader};
use std::ops::Range;

/// Flows looked at for a packet that may be joined: those that were heard last.
const OPEN_FLOWS: usize = 8;
/// UDP_MAX_SEGMENTS of the kernels in use (net/udp.h).
const MAX_DATAGRAMS: usize = 64;
/// Payloads that follow the first packet of one frame, at most; far below IOV_MAX.
pub const MAX_PARTS: usize = 126;
/// An IP packet's length is 16 bits.
const MAX_PACKET: usize = u16::MAX as usize;

/// What may be joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joining {
    /// TCP segments.
    pub tcp: bool,
    /// UDP datagrams: not every kernel takes large ones.
    pub udp: bool,
}

/// Packets of one batch on their way to the kernel. All positions are into the caller's buffer.
#[derive(Debug, Default)]
pub struct Coalescer {
    frames: Vec<State>,
    parts: Vec<Part>,
    /// The frames that may grow, the last used one first.
    open: [Option<usize>; OPEN_FLOWS],
}

#[derive(Debug)]
struct State {
    head: Range<usize>,
    layout: Option<Layout>,
    first_part: Option<usize>,
    last_part: Option<usize>,
    /// Packets in it.
    count: usize,
    /// Octets of payload in it.
    payload: usize,
    /// Whether the first packet's checksum is known to hold.
    verified: bool,
    /// A PSH came with a later packet.
    push: bool,
}

#[derive(Debug)]
struct Part {
    range: Range<usize>,
    next: Option<usize>,
}

/// One packet for the kernel.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// What to write before it.
    pub header: VnetHeader,
    /// The first packet.
    pub head: Range<usize>,
    parts: &'a [Part],
    next: Option<usize>,
}

impl Iterator for Frame<'_> {
    type Item = Range<usize>;

    /// The payloads that follow the first packet.
    fn next(&mut self) -> Option<Range<usize>> {
        let part = &self.parts[self.next?];
        self.next = part.next;
        Some(part.range.clone())
    }
}

impl Coalescer {
    /// Takes the packet at `range` of `buffer`, joined or not.
    pub fn push(&mut self, buffer: &[u8], range: Range<usize>, joining: Joining) {
        let packet = &buffer[range.clone()];
        let layout = Layout::read(packet)
            .filter(|layout| if layout.protocol == TCP { joining.tcp } else { joining.udp });
        if let Some(layout) = &layout
            && let Some(slot) = self.find(buffer, layout, packet)
        {
            if self.join(buffer, slot, layout, &range) {
                return;
            }
            // What follows in this flow must not overtake this packet.
            self.close(slot);
        }
        let grows = layout.as_ref().is_some_and(|layout| may_begin(packet, layout));
        let payload = layout.as_ref().map_or(0, |layout| packet.len() - layout.payload);
        self.frames.push(State {
            head: range,
            layout,
            first_part: None,
            last_part: None,
            count: 1,
            payload,
            verified: false,
            push: false,
        });
        if grows {
            self.open.rotate_right(1);
            self.open[0] = Some(self.frames.len() - 1);
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Writes the joined headers into `buffer`; then [`Self::frames`] are ready.
    pub fn seal(&mut self, buffer: &mut [u8]) {
        for frame in self.frames.iter().filter(|frame| frame.count > 1) {
            if let Some(layout) = &frame.layout {
                frame.write_headers(layout, &mut buffer[frame.head.clone()]);
            }
        }
    }

    /// The packets, each flow in its order.
    pub fn frames(&self) -> impl Iterator<Item = Frame<'_>> {
        self.frames.iter().map(|frame| Frame {
            header: frame.vnet_header(),
            head: frame.head.clone(),
            parts: &self.parts,
            next: frame.first_part,
        })
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.parts.clear();
        self.open = [None; OPEN_FLOWS];
    }

    /// The open frame of the same flow: addresses, protocol, ports.
    fn find(&self, buffer: &[u8], layout: &Layout, packet: &[u8]) -> Option<usize> {
        let ports = &packet[layout.transport..layout.transport + 4];
        self.open.iter().position(|open| {
            let Some(state) = open.map(|index| &self.frames[index]) else { return false };
            let Some(other) = &state.layout else { return false };
            let head = &buffer[state.head.clone()];
            other.v6 == layout.v6
                && other.protocol == layout.protocol
                && head[other.transport..other.transport + 4] == *ports
                && other.addresses(head) == layout.addresses(packet)
        })
    }

    fn join(&mut self, buffer: &[u8], slot: usize, layout: &Layout, range: &Range<usize>) -> bool {
        let Some(index) = self.open[slot] else { return false };
        let packet = &buffer[range.clone()];
        let frame = &mut self.frames[index];
        let head = &buffer[frame.head.clone()];
        let Some(head_layout) = frame.layout else { return false };
        let size = head.len() - head_layout.payload;
        let more = packet.len() - layout.payload;
        if *layout != head_layout
            || more == 0
            || more > size
            || frame.head.len() + frame.payload - size + more > MAX_PACKET
            || frame.count > MAX_PARTS
            || !same_headers(head, packet, layout, frame)
            || !layout.checksums_hold(packet)
        {
            return false;
        }
        if !frame.verified && !layout.checksums_hold(head) {
            return false;
        }
        frame.verified = true;
        let pushed = layout.protocol == TCP && packet[layout.transport + 13] & PSH != 0;
        frame.push |= pushed;
        frame.count += 1;
        frame.payload += more;
        let full = layout.protocol == UDP && frame.count == MAX_DATAGRAMS;
        let part = self.parts.len();
        self.parts.push(Part { range: range.start + layout.payload..range.end, next: None });
        match frame.last_part.replace(part) {
            Some(last) => self.parts[last].next = Some(part),
            None => frame.first_part = Some(part),
        }
        if more < size || pushed || full {
            self.close(slot);
        } else {
            self.open[..=slot].rotate_right(1);
        }
        true
    }

    fn close(&mut self, slot: usize) {
        self.open[slot] = None;
    }
}

/// Whether others may be joined to this packet.
fn may_begin(packet: &[u8], layout: &Layout) -> bool {
    let has_payload = packet.len() > layout.payload;
    match layout.protocol {
        TCP => {
            has_payload && packet[layout.transport + 13] == ACK && packet[layout.transport + 12] & 0x0f == 0
        }
        _ => has_payload,
    }
}

/// Whether everything but lengths, checksums, PSH and what counts up is the same.
fn same_headers(head: &[u8], packet: &[u8], layout: &Layout, frame: &State) -> bool {
    let same_ip = if layout.v6 {
        // Version, traffic class and flow label; hop limit.
        head[..4] == packet[..4] && head[7] == packet[7]
    } else {
        // With DF the identification means nothing (RFC 6864 §4.1); without, it must count up as GSO will.
        let id = |octets: &[u8]| u16::from_be_bytes([octets[4], octets[5]]);
        let counts = id(packet) == id(head).wrapping_add(frame.count as u16);
        head[1] == packet[1]
            && head[6] == packet[6]
            && head[8] == packet[8]
            && (head[6] & 0x40 != 0 || counts)
    };
    if !same_ip || layout.protocol == UDP {
        return same_ip;
    }
    let (head, packet) = (&head[layout.transport..layout.payload], &packet[layout.transport..layout.payload]);
    let sequence = |tcp: &[u8]| u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    sequence(packet) == sequence(head).wrapping_add(frame.payload as u32)
        && head[8..13] == packet[8..13]
        && packet[13] & !PSH == ACK
        && head[14..16] == packet[14..16]
        && head[18..] == packet[18..]
}

impl State {
    fn vnet_header(&self) -> VnetHeader {
        let Some(layout) = self.layout.filter(|_| self.count > 1) else { return VnetHeader::default() };
        VnetHeader {
            needs_checksum: true,
            gso: Some(if layout.protocol == TCP { GsoKind::Tcp } else { GsoKind::Udp }),
            v6: layout.v6,
            // Both are below 64 KiB, as the packet is.
            header_len: layout.payload as u16,
            gso_size: (self.head.len() - layout.payload) as u16,
            checksum_start: layout.transport as u16,
            checksum_offset: (layout.checksum() - layout.transport) as u16,
        }
    }

    fn write_headers(&self, layout: &Layout, head: &mut [u8]) {
        let len = layout.payload + self.payload;
        inner::set_ip_len(head, layout.v6, len);
        let transport_len = len - layout.transport;
        if layout.protocol == UDP {
            head[layout.transport + 4..layout.transport + 6]
                .copy_from_slice(&(transport_len as u16).to_be_bytes());
        } else if self.push {
            head[layout.transport + 13] |= PSH;
        }
        // CHECKSUM_PARTIAL: the field holds the sum of the pseudo header, the kernel adds the rest.
        let sum = checksum::pseudo_header(layout.addresses(head), layout.protocol, transport_len);
        let field = layout.checksum();
        head[field..field + 2].copy_from_slice(&checksum::fold(sum));
    }
}
