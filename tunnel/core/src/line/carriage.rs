//! How a line's packets fit the path: whole, in pieces, or refused with a word to their sender; and the probes
//! by which both ends find out what fits.

use super::{Line, Way};
use crate::fragment;
use crate::icmp;
use crate::outer_path::{Departure, Fit};
use crate::output::{Marks, Output};
use crate::path_mtu::Probe;
use crate::transport::sealed_len;
use std::net::SocketAddr;
use std::time::Instant;

impl Line {
    /// Sends a packet as the path to the peer allows. There are keys.
    pub(super) fn carry<O: Output>(
        &mut self,
        now: Instant,
        endpoint: SocketAddr,
        packet: &[u8],
        way: &mut Way<'_, O>,
    ) {
        let fit = self.path.fit(packet, Departure { endpoint, mtu: way.mtu, now }, way.reports);
        let marks = self.path.marks(packet, fit, way.copy_dscp);
        match fit {
            Fit::Whole | Fit::Fragmented => self.seal(now, (endpoint, marks), packet, way),
            Fit::Cut(size) => self.cut(now, (endpoint, marks), packet, size, way),
            Fit::TooBig(size) => refuse(now, packet, size, way),
        }
    }

    /// Sends a packet in pieces of at most `size` octets. One that is damaged goes nowhere, as at any router.
    fn cut<O: Output>(
        &mut self,
        now: Instant,
        to: (SocketAddr, Marks),
        packet: &[u8],
        size: u16,
        way: &mut Way<'_, O>,
    ) {
        way.tally.packets_cut += 1;
        let (room, padded) = way.padded.split_at_mut(size.into());
        let mut way = Way {
            out: &mut *way.out,
            routes: way.routes,
            mtu: way.mtu,
            copy_dscp: way.copy_dscp,
            reports: way.reports,
            allowance: &mut *way.allowance,
            padded,
            tally: &mut *way.tally,
        };
        fragment::cut(packet, size.into(), room, |piece| self.seal(now, to, piece, &mut way));
    }

    /// Asks the path what passes, if it is time to.
    pub(crate) fn probe_path<O: Output>(&mut self, now: Instant, way: &mut Way<'_, O>) {
        let Some(endpoint) = self.site.and_then(|site| site.endpoint).filter(|_| self.has_keys(now)) else {
            return;
        };
        let questions = self.path.questions(Departure { endpoint, mtu: way.mtu, now });
        for (question, len) in questions {
            // What is too large must not arrive in fragments.
            self.send_probe(now, question, (len, Marks { tos: 0, dont_fragment: true }), way);
        }
    }

    /// What is known of the path, once after it has changed.
    pub(crate) fn take_path_news(&mut self) -> Option<Option<u16>> {
        self.path.take_news()
    }

    /// The MTU at which no packet is too large for the path, given the interface's.
    pub(crate) fn inner_mtu(&self, mtu: usize) -> u16 {
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
        let Some(endpoint) = self.site.and_then(|site| site.endpoint) else { return mtu };
        self.path.inner_mtu(&endpoint).map_or(mtu, |inner| inner.min(mtu))
    }

    /// The peer asks whether a size arrives, or says that it has.
    pub(super) fn take_probe<O: Output>(&mut self, now: Instant, probe: Probe, way: &mut Way<'_, O>) {
        match probe.answer() {
            Some(answer) if self.has_keys(now) => {
                self.send_probe(now, answer, (Probe::LEN, Marks::default()), way);
            }
            Some(_) => {}
            None => self.path.answered(probe, now),
        }
    }

    fn send_probe<O: Output>(
        &mut self,
        now: Instant,
        probe: Probe,
        (len, marks): (usize, Marks),
        way: &mut Way<'_, O>,
    ) {
        let endpoint = self.site.and_then(|site| site.endpoint);
        let transport = self.transports[self.sending].as_deref_mut();
        let (Some(endpoint), Some(transport)) = (endpoint, transport) else { return };
        let Some(plaintext) = way.padded.get_mut(..len) else { return };
        let Some((head, zeros)) = plaintext.split_first_chunk_mut() else { return };
        *head = probe.to_octets();
        zeros.fill(0);
        // Padded already: to its own length.
        let buffer = way.out.datagram_buffer(endpoint, sealed_len(len, len));
        let Some(len) = transport.seal(plaintext, len, &mut [], buffer) else { return };
        way.out.mark_datagram(marks);
        way.out.commit_datagram(len);
        self.activity.sent(now, false);
        self.traffic.tx_bytes += len as u64;
        way.tally.tx_bytes += len as u64;
    }
}

/// Drops a packet that does not fit, and tells its sender what would.
fn refuse<O: Output>(now: Instant, packet: &[u8], size: u16, way: &mut Way<'_, O>) {
    way.tally.packets_too_big += 1;
    let mut message = [0; icmp::MAX_MESSAGE];
    if way.allowance.take(now)
        && let Some(len) = icmp::too_big(packet, size, &mut message)
    {
        way.out.packet_buffer(len)[..len].copy_from_slice(&message[..len]);
        way.out.commit_packet(len);
    }
}
