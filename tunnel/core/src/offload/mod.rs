//! Offloads of the TUN interface, without I/O: one large packet from the kernel becomes many of the wire's
//! size ([`segment`]), and many from the wire become one large one for the kernel ([`coalesce`]).
//!
//! The kernel describes a large packet by a [`VnetHeader`]. What it accepts and what it makes is defined by
//! its own GSO and GRO; the tests hold this code against it.

mod checksum;
mod coalesce;
mod inner;
mod segment;
mod vnet;

pub use coalesce::{Coalescer, Frame, MAX_PARTS};
pub use segment::{SegmentError, Segments};
pub use vnet::{GsoKind, VNET_HEADER, VnetHeader};
