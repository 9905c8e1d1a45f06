//! Where the engine writes.
//!
//! The buffers are the shell's own send buffers, so a datagram is written once, by the cipher. A call to
//! one of the `*_buffer` functions is followed by exactly one matching commit, or by none: then the buffer
//! is abandoned and the next call may hand out the same one. Both are called with locks held: they must not block.

use std::net::SocketAddr;

/// The shell's two directions: datagrams to the network, packets to the TUN device.
pub trait Output {
    /// A buffer of at least `len` octets for one datagram to `to`.
    fn datagram_buffer(&mut self, to: SocketAddr, len: usize) -> &mut [u8];
    /// Sends the first `len` octets of the last datagram buffer.
    fn commit_datagram(&mut self, len: usize);
    /// How the datagram in the last buffer is to travel; asked before its commit, if it is not the default. An
    /// output that cannot do it sends the datagram all the same.
    fn mark_datagram(&mut self, marks: Marks) {
        let _ = marks;
    }
    /// A buffer of at least `len` octets for one inner IP packet.
    fn packet_buffer(&mut self, len: usize) -> &mut [u8];
    /// Hands the first `len` octets of the last packet buffer to the TUN device.
    fn commit_packet(&mut self, len: usize);
    /// Whether a datagram or a packet of the largest size might find no room. Asked before each one, and
    /// followed by [`Output::make_room`] if so.
    fn is_full(&self) -> bool {
        false
    }
    /// Empties the buffers. No lock is held here, so it may take a system call, which nothing else may.
    fn make_room(&mut self) {}
}

/// What the IP header of a datagram says beside its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// ToS (IPv4) or traffic class (IPv6): DSCP and ECN.
    pub tos: u8,
    /// Routers must not cut it, nor our own host: what is too large is dropped, and said so.
    pub dont_fragment: bool,
}

/// Sends octets that exist already: handshake messages and the flushed queue, never the fast path.
pub(crate) fn send_datagram(out: &mut impl Output, to: SocketAddr, octets: &[u8]) {
    if out.is_full() {
        out.make_room();
    }
    out.datagram_buffer(to, octets.len())[..octets.len()].copy_from_slice(octets);
    out.commit_datagram(octets.len());
}
