//! Offloads of the TUN interface, without I/O: one large packet from the kernel becomes many of the wire's
//! size ([`Segments`]), and many from the wire become one large one for the kernel ([`Coalescer`]).
//!
//! The kernel describes a large packet by a [`VnetHeader`]. What may be cut and joined is defined by the
//! kernel's own GSO and GRO; which of it an interface can do is found out by the shell.

pub(crate) mod checksum;
mod coalesce;
mod inner;
mod segment;
mod vnet;

/// Whether the transport checksum of a TCP or UDP packet and IPv4's own hold. Not for fragments, nor for packets
/// with IP options or extension headers: those are never cut or joined by us, and `false` here.
#[must_use]
pub fn checksums_hold(packet: &[u8]) -> bool {
    inner::Layout::read(packet).is_some_and(|layout| layout.checksums_hold(packet))
}

pub use coalesce::{Coalescer, Frame, Joining, MAX_PARTS};
pub use segment::{SegmentError, Segments};
pub use vnet::{GsoKind, VNET_HEADER, VnetHeader};
