//! An engine without workers: it drives its own lane and sees to each upcall at once.
//!
//! Tests and simulations use this, so they run the workers' very code, one packet at a time.

use super::Engine;
use crate::datagram::Datagram;
use crate::output::Output;
use crate::time::Now;
use std::net::SocketAddr;

impl Engine {
    /// Takes a batch of datagrams from the network, each with its source.
    pub fn handle_datagrams<'a, D: Into<Datagram<'a>>>(
        &mut self,
        now: Now,
        batch: impl Iterator<Item = D>,
        out: &mut impl Output,
    ) {
        for datagram in batch {
            self.lane.handle_datagrams(now, std::iter::once(datagram), out, &mut self.upcalls);
            self.drain_upcalls(now, out);
        }
    }

    /// Takes a batch of inner packets, each a whole IP packet.
    pub fn handle_packets<'a>(
        &mut self,
        now: Now,
        batch: impl Iterator<Item = &'a [u8]>,
        out: &mut impl Output,
    ) {
        for packet in batch {
            self.lane.handle_packets(now, out, &mut self.upcalls, |take| take(packet));
            self.drain_upcalls(now, out);
        }
    }

    /// As [`Lane::path_too_big`](crate::Lane::path_too_big).
    pub fn path_too_big(&self, to: SocketAddr, mtu: u16, quoted: Option<&[u8]>) {
        self.lane.path_too_big(to, mtu, quoted);
    }

    fn drain_upcalls(&mut self, now: Now, out: &mut impl Output) {
        while let Some(upcall) = self.upcalls.pop_front() {
            self.handle_upcall(now, &upcall, out);
        }
    }
}
