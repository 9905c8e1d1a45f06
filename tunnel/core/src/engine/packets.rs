//! What comes from the TUN device: cryptokey routing, and a session where there is none yet.

use super::Engine;
use crate::ip_packet;
use crate::output::Output;
use crate::peers::PeerId;
use crate::session::{Step, sealed_len};
use crate::time::Now;

impl Engine {
    /// Takes a batch of inner packets, each a whole IP packet.
    pub fn handle_packets<'a>(
        &mut self,
        now: Now,
        batch: impl Iterator<Item = &'a [u8]>,
        out: &mut impl Output,
    ) {
        for packet in batch {
            let route = ip_packet::destination(packet).and_then(|address| self.routes.lookup(address));
            match route {
                Some(id) => self.send_packet(id, packet, now, out),
                None => self.journal.totals.packets_unroutable += 1,
            }
        }
    }

    /// Seals a packet to a peer, or keeps it and asks for a session. An empty one is a keepalive.
    pub(super) fn send_packet(&mut self, id: PeerId, packet: &[u8], now: Now, out: &mut impl Output) {
        if !self.is_ready(id, now) {
            self.journal.totals.packets_unroutable += 1;
            return;
        }
        self.tick_before_use(id, now.mono, out);
        let mtu = self.mtu;
        let Some(peer) = self.peers.peer_mut(id) else { return };
        let (Some(session), Some(endpoint)) = (&mut peer.session, peer.endpoint) else { return };
        if !session.has_keys() {
            if !packet.is_empty() {
                session.enqueue(packet);
            }
            self.initiate(id, false, now, out);
            return;
        }
        let buffer = out.datagram_buffer(endpoint, sealed_len(packet.len(), mtu));
        let Step::Send(len) = session.seal(packet, mtu, &mut self.padded, buffer) else { return };
        session.schedule.sent(now.mono, !packet.is_empty());
        peer.tx_bytes += len as u64;
        peer.tx_inner += packet.len() as u64;
        out.commit_datagram(len);
        self.journal.totals.tx_bytes += len as u64;
        self.journal.totals.tx_packets += u64::from(!packet.is_empty());
    }

    /// Whether the peer can be sent to: an endpoint, and a session or the right to one.
    fn is_ready(&mut self, id: PeerId, now: Now) -> bool {
        match self.peers.peer(id) {
            Some(peer) if peer.endpoint.is_none() || self.identity.is_none() => false,
            Some(peer) if peer.session.is_some() => true,
            Some(_) => {
                let Ok(admitted) = self.admit(id, now) else { return false };
                self.ensure_session(id, &admitted, now.mono);
                true
            }
            None => false,
        }
    }
}
