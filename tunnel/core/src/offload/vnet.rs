//! `struct virtio_net_hdr` (virtio 1.2 §5.1.6), the ten octets before each packet of a TUN interface that was
//! opened with `IFF_VNET_HDR`. Host byte order, as the legacy interface has it.

/// Octets of the header.
pub const VNET_HEADER: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// What a packet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP segments. `cwr`: the first one carries CWR, as RFC 3168 demands.
    Tcp,
    /// UDP datagrams of one size, the last one may be shorter.
    Udp,
}

/// What the kernel says of a packet that it gives, or is told of one that it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// The transport checksum is not complete: from `checksum_start` on, into `checksum_start + checksum_offset`.
    pub needs_checksum: bool,
    /// Whether the packet is to be cut, and how.
    pub gso: Option<GsoKind>,
    /// Whether it is IPv6 (of use only with `gso`).
    pub v6: bool,
    /// Octets of all headers before the payload; a hint only.
    pub header_len: u16,
    /// Octets of payload in each segment but the last.
    pub gso_size: u16,
    /// Where the transport header begins.
    pub checksum_start: u16,
    /// Where in it the checksum is: 16 in TCP, 6 in UDP.
    pub checksum_offset: u16,
}

impl VnetHeader {
    /// Reads a header; `None` for a kind of GSO that was not asked for.
    #[must_use]
    pub fn parse(octets: &[u8; VNET_HEADER]) -> Option<Self> {
        let field = |at: usize| u16::from_ne_bytes([octets[at], octets[at + 1]]);
        let (gso, v6) = match octets[1] & !GSO_ECN {
            GSO_NONE => (None, false),
            GSO_TCPV4 => (Some(GsoKind::Tcp), false),
            GSO_TCPV6 => (Some(GsoKind::Tcp), true),
            GSO_UDP_L4 => (Some(GsoKind::Udp), false),
            _ => return None,
        };
        Some(Self {
            needs_checksum: octets[0] & F_NEEDS_CSUM != 0,
            gso,
            v6,
            header_len: field(2),
            gso_size: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        })
    }

    /// Writes the header.
    #[must_use]
    pub fn to_octets(self) -> [u8; VNET_HEADER] {
        let kind = match (self.gso, self.v6) {
            (None, _) => GSO_NONE,
            (Some(GsoKind::Tcp), false) => GSO_TCPV4,
            (Some(GsoKind::Tcp), true) => GSO_TCPV6,
            (Some(GsoKind::Udp), _) => GSO_UDP_L4,
        };
        let mut octets = [0; VNET_HEADER];
        octets[0] = if self.needs_checksum { F_NEEDS_CSUM } else { 0 };
        octets[1] = kind;
        for (at, field) in
            [(2, self.header_len), (4, self.gso_size), (6, self.checksum_start), (8, self.checksum_offset)]
        {
            octets[at..at + 2].copy_from_slice(&field.to_ne_bytes());
        }
        octets
    }
}
