//! The headers of an inner packet, as far as offloads look at them: IPv4 or IPv6 without extension headers,
//! then TCP or UDP. Everything else is no candidate and passes as it is.

use super::checksum;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

pub(crate) const TCP_CHECKSUM: usize = 16;
pub(crate) const UDP_CHECKSUM: usize = 6;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const CWR: u8 = 0x80;

/// Where the parts of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) v6: bool,
    pub(crate) protocol: u8,
    /// Where the transport header begins.
    pub(crate) transport: usize,
    /// Where the payload begins.
    pub(crate) payload: usize,
}

impl Layout {
    /// Reads a packet whose IP length is exactly its own length; fragments and options make it no candidate.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let (v6, protocol, transport) = match packet.first()? >> 4 {
            4 => {
                let header = packet.get(..20)?;
                // Options would have to be repeated or not, each by its own rule (RFC 791 §3.1).
                let plain = header[0] == 0x45 && header[6] & 0x3f == 0 && header[7] == 0;
                let whole = usize::from(u16::from_be_bytes([header[2], header[3]])) == packet.len();
                (plain && whole).then_some((false, header[9], 20))?
            }
            6 => {
                let header = packet.get(..40)?;
                let whole = usize::from(u16::from_be_bytes([header[4], header[5]])) + 40 == packet.len();
                whole.then_some((true, header[6], 40))?
            }
            _ => return None,
        };
        let payload = transport + transport_len(packet, protocol, transport)?;
        (payload <= packet.len()).then_some(Self { v6, protocol, transport, payload })
    }

    /// Source and destination address.
    pub(crate) fn addresses<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        if self.v6 { &packet[8..40] } else { &packet[12..20] }
    }

    /// Where the transport checksum is.
    pub(crate) const fn checksum(&self) -> usize {
        self.transport + if self.protocol == TCP { TCP_CHECKSUM } else { UDP_CHECKSUM }
    }

    /// Whether the transport checksum and IPv4's own hold: joining writes both anew, which must not heal a
    /// damaged packet. An absent one (UDP over IPv4) does not hold.
    pub(crate) fn checksums_hold(&self, packet: &[u8]) -> bool {
        let field = self.checksum();
        if self.protocol == UDP && packet[field..field + 2] == [0, 0] {
            return false;
        }
        if !self.v6 && checksum::finish(checksum::add(0, &packet[..self.transport])) != [0, 0] {
            return false;
        }
        let len = packet.len() - self.transport;
        let sum = checksum::pseudo_header(self.addresses(packet), self.protocol, len);
        checksum::finish(checksum::add(sum, &packet[self.transport..])) == [0, 0]
    }
}

/// Length of the transport header, if it is TCP or UDP and complete.
pub(crate) fn transport_len(packet: &[u8], protocol: u8, transport: usize) -> Option<usize> {
    match protocol {
        TCP => {
            let len = usize::from(packet.get(transport + 12)? >> 4) * 4;
            (len >= 20).then_some(len)
        }
        UDP => {
            let len = packet.get(transport + 4..transport + 6)?;
            let whole = usize::from(u16::from_be_bytes([len[0], len[1]])) == packet.len() - transport;
            whole.then_some(8)
        }
        _ => None,
    }
}

/// Writes the IP length and, for IPv4, the header checksum.
pub(crate) fn set_ip_len(packet: &mut [u8], v6: bool, len: usize) {
    // The callers keep packets below 64 KiB.
    if v6 {
        packet[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
    } else {
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[10..12].fill(0);
        let header = usize::from(packet[0] & 0x0f) * 4;
        let checksum = checksum::finish(checksum::add(0, &packet[..header]));
        packet[10..12].copy_from_slice(&checksum);
    }
}
