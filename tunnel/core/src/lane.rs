//! The fast path of one worker: transport messages in, packets out, and the reverse.
//!
//! A lane runs each packet to completion under the lock of its peer's shard; in the steady state it takes one
//! lock for a batch and allocates nothing. Everything that needs a decision or public-key work goes up to the
//! engine ([`Upcall`]); a handshake message only if its mac1 is right, so that garbage never fills the queue.

use crate::allowed_ips::{RouteReader, Routes};
use crate::datagram::Datagram;
use crate::ecn::Ecn;
use crate::events::Telling;
use crate::forwarder::{Forwarder, RUN, Shard, View};
use crate::icmp::Allowance;
use crate::ip_packet;
use crate::line::{Line, Received, Way};
use crate::mac1::{self, Unchecked};
use crate::message::Message;
use crate::output::Output;
use crate::path_reports::quoted_index;
use crate::peers::PeerId;
use crate::tally::{Ledger, Tally};
use crate::time::Now;
use crate::upcall::{Upcall, Upcalls};
use parking_lot::MutexGuard;
use std::net::SocketAddr;
use std::sync::Arc;
use verona_contract::control::Refusal;

/// Room for a padded packet of any size.
const MAX_PACKET: usize = 1 << 16;

/// One worker's entrance to the data plane. Made by [`Engine::lane`](crate::Engine::lane).
pub struct Lane {
    forwarder: Arc<Forwarder>,
    view: Arc<View>,
    version: u64,
    routes: RouteReader,
    tally: Tally,
    ledger: Arc<Ledger>,
    telling: [Telling; 3],
    padded: Box<[u8]>,
    allowance: Allowance,
    locks: u64,
}

impl Lane {
    pub(crate) fn new(forwarder: Arc<Forwarder>, routes: RouteReader) -> Self {
        Self {
            routes,
            view: forwarder.view(),
            version: u64::MAX,
            ledger: forwarder.new_ledger(),
            forwarder,
            tally: Tally::default(),
            telling: [Telling::default(); 3],
            padded: vec![0; MAX_PACKET].into(),
            allowance: Allowance::default(),
            locks: 0,
        }
    }

    /// Takes a batch of datagrams from the network, each with its source.
    pub fn handle_datagrams<'a, D: Into<Datagram<'a>>>(
        &mut self,
        now: Now,
        batch: impl Iterator<Item = D>,
        out: &mut impl Output,
        upcalls: &mut impl Upcalls,
    ) {
        self.run(|lane, hold| {
            let mut strangers = Unchecked::default();
            for datagram in batch {
                if out.is_full() {
                    hold.release();
                    out.make_room();
                }
                let datagram = datagram.into();
                let unchecked = lane.datagram(now, datagram, hold, out, upcalls);
                if unchecked.is_some_and(|key| strangers.push(key, datagram.from, datagram.octets)) {
                    lane.strangers(now, &mut strangers, upcalls);
                }
            }
            lane.strangers(now, &mut strangers, upcalls);
        });
    }

    /// Takes a batch of inner packets, each a whole IP packet: `feed` gives them one by one to the function that
    /// it gets, because a packet that was cut out of a large one exists only until the next.
    pub fn handle_packets<R>(
        &mut self,
        now: Now,
        out: &mut impl Output,
        upcalls: &mut impl Upcalls,
        feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> R,
    ) -> R {
        self.run(|lane, hold| {
            feed(&mut |packet| {
                if out.is_full() {
                    hold.release();
                    out.make_room();
                }
                lane.packet(now, packet, hold, out, upcalls);
            })
        })
    }

    /// Takes a datagram once more that came while the engine had the keys for it.
    pub(crate) fn handle_late(
        &mut self,
        now: Now,
        (from, datagram): (SocketAddr, &[u8]),
        out: &mut impl Output,
        upcalls: &mut impl Upcalls,
    ) {
        // Its octets were counted when it came.
        self.tally.rx_bytes = self.tally.rx_bytes.wrapping_sub(datagram.len() as u64);
        self.handle_datagrams(now, std::iter::once((from, datagram)), out, upcalls);
    }

    /// Takes the word of a router that a datagram to `to` was too large, with the beginning of its payload as
    /// quoted, or of our own host without any: `mtu` octets would pass. What concerns no line is of no effect.
    pub fn path_too_big(&self, to: SocketAddr, mtu: u16, quoted: Option<&[u8]>) {
        let receiver = quoted.map(quoted_index);
        // Whatever is not believed costs the lanes nothing.
        if receiver != Some(None) {
            self.forwarder.change_view(|view| match receiver.flatten() {
                Some(receiver) => view.reports.push_router(to, mtu, receiver),
                None => view.reports.push_host(to, mtu),
            });
        }
    }

    /// How often a shard was locked since the lane was made.
    #[must_use]
    pub const fn locks(&self) -> u64 {
        self.locks
    }

    /// One batch, with the newest view and one hold of locks.
    fn run<R>(&mut self, work: impl FnOnce(&mut Active<'_>, &mut Hold<'_>) -> R) -> R {
        let forwarder = self.forwarder.clone();
        forwarder.refresh(&mut self.view, &mut self.version);
        let mut hold = Hold::new(&forwarder);
        let view = self.view.clone();
        let result = work(
            &mut Active {
                view: &view,
                routes: self.routes.current(),
                tally: &mut self.tally,
                telling: &mut self.telling,
                padded: &mut self.padded,
                allowance: &mut self.allowance,
            },
            &mut hold,
        );
        self.locks += hold.locks;
        self.ledger.publish(&self.tally);
        result
    }

    /// Runs `visit` on a peer's line with what is needed to send on it; for the engine's own thread.
    pub(crate) fn on_line<O: Output, R>(
        &mut self,
        id: PeerId,
        out: &mut O,
        visit: impl FnOnce(&mut Line, &mut Way<'_, O>) -> R,
    ) -> Option<R> {
        if out.is_full() {
            out.make_room();
        }
        self.run(|lane, hold| Some(visit(hold.shard(id).line(id)?, &mut lane.way(out))))
    }
}

/// The lane's state during one batch.
struct Active<'l> {
    view: &'l View,
    routes: &'l Routes,
    tally: &'l mut Tally,
    telling: &'l mut [Telling; 3],
    padded: &'l mut [u8],
    allowance: &'l mut Allowance,
}

impl<'l> Active<'l> {
    fn way<'w, O: Output>(&'w mut self, out: &'w mut O) -> Way<'w, O> {
        Way {
            out,
            routes: self.routes,
            mtu: self.view.mtu,
            copy_dscp: self.view.copy_dscp,
            reports: &self.view.reports,
            allowance: self.allowance,
            padded: self.padded,
            tally: self.tally,
        }
    }

    /// Takes a datagram. A stranger's handshake message is given back with the key of its mac1, to be checked
    /// together with others.
    fn datagram<O: Output>(
        &mut self,
        now: Now,
        Datagram { from, ecn, octets: datagram }: Datagram<'_>,
        hold: &mut Hold<'_>,
        out: &mut O,
        upcalls: &mut impl Upcalls,
    ) -> Option<&'l [u8; 32]> {
        self.tally.rx_bytes = self.tally.rx_bytes.wrapping_add(datagram.len() as u64);
        // Without a key of ours there is no mac1 that could be right.
        let reach = self.view.reach.as_ref();
        let result = match Message::parse(datagram) {
            None => Err(Refusal::Malformed),
            Some(Message::Data { receiver }) => {
                self.data(now, (from, ecn, receiver, datagram), hold, out, upcalls)
            }
            // Nobody needs our key to make one, so at least it must name a line that there is.
            Some(Message::CookieReply(reply)) => hold.check_line(reply.receiver).map(|()| true),
            Some(Message::Response { receiver, .. }) => match reach {
                Some(reach) if mac1::is_valid(&reach.handshake_mac1, datagram) => {
                    hold.check_line(receiver).map(|()| true)
                }
                _ => Err(Refusal::Mac1),
            },
            // Only an edge with a policy knows what to do with a certificate.
            Some(Message::Introduction { .. }) if !self.view.certified => Err(Refusal::Malformed),
            Some(message @ (Message::Initiation(_) | Message::Introduction { .. })) => match (reach, message)
            {
                (None, _) => Err(Refusal::Mac1),
                (Some(reach), Message::Introduction { .. }) => return Some(&reach.introduction_mac1),
                (Some(reach), _) => return Some(&reach.handshake_mac1),
            },
        };
        match result {
            Ok(false) => {}
            Ok(true) => self.push(Upcall::Datagram(from, datagram), upcalls),
            Err(reason) => self.refuse(reason, from, now, upcalls),
        }
        None
    }

    /// Checks mac1 of handshake messages, and hands on those that deserve it.
    fn strangers(&mut self, now: Now, unchecked: &mut Unchecked<'_>, upcalls: &mut impl Upcalls) {
        for (from, datagram, is_valid) in unchecked.judge() {
            if is_valid {
                self.push(Upcall::Datagram(from, datagram), upcalls);
            } else {
                self.refuse(Refusal::Mac1, from, now, upcalls);
            }
        }
    }

    /// A transport message; true when it is for the engine.
    fn data<O: Output>(
        &mut self,
        now: Now,
        (from, ecn, receiver, datagram): (SocketAddr, Ecn, u32, &[u8]),
        hold: &mut Hold<'_>,
        out: &mut O,
        upcalls: &mut impl Upcalls,
    ) -> Result<bool, Refusal> {
        let id = PeerId::of_session(receiver);
        let line = hold.shard(id).line(id).ok_or(Refusal::UnknownSession)?;
        let received = line.receive(id, now, (from, ecn, receiver), datagram, &mut self.way(out));
        self.ring(id, line, upcalls);
        match received {
            Received::Done => Ok(false),
            Received::Later => Ok(true),
            Received::UnknownSession => Err(Refusal::UnknownSession),
        }
    }

    fn packet<O: Output>(
        &mut self,
        now: Now,
        packet: &[u8],
        hold: &mut Hold<'_>,
        out: &mut O,
        upcalls: &mut impl Upcalls,
    ) {
        let address = ip_packet::destination(packet);
        let Some(id) = address.and_then(|address| self.routes.lookup(address)) else {
            self.tally.packets_unroutable += 1;
            return;
        };
        let shard = hold.shard(id);
        let line = shard.line_or_waiting(id, now.mono);
        line.send(now.mono, packet, &mut self.way(out));
        let heard = self.ring(id, line, upcalls);
        if !heard {
            // Nobody will come for a line that the engine does not know of.
            shard.drop_waiting(id);
        }
    }

    /// Tells the engine that there is news; false when it could not be told.
    fn ring(&mut self, id: PeerId, line: &mut Line, upcalls: &mut impl Upcalls) -> bool {
        if !line.must_ring() || upcalls.push(Upcall::Attention(id)) {
            return true;
        }
        line.unring();
        self.tally.upcalls_dropped += 1;
        false
    }

    fn push(&mut self, upcall: Upcall<&[u8]>, upcalls: &mut impl Upcalls) {
        if !upcalls.push(upcall) {
            self.tally.upcalls_dropped += 1;
        }
    }

    fn refuse(&mut self, reason: Refusal, from: SocketAddr, now: Now, upcalls: &mut impl Upcalls) {
        let (count, telling) = match reason {
            Refusal::Malformed => (&mut self.tally.malformed, &mut self.telling[0]),
            Refusal::Mac1 => (&mut self.tally.mac1, &mut self.telling[1]),
            _ => (&mut self.tally.unknown_session, &mut self.telling[2]),
        };
        *count += 1;
        if let Some(suppressed) = telling.tell(now.mono) {
            self.push(Upcall::Refused { reason, from, suppressed }, upcalls);
        }
    }
}

/// The lock of a lane: one shard's, taken when first needed and kept for the packets that follow.
struct Hold<'f> {
    forwarder: &'f Forwarder,
    shard: Option<(usize, MutexGuard<'f, Shard>)>,
    /// Packets until the shard is given up.
    left: u32,
    locks: u64,
}

impl<'f> Hold<'f> {
    const fn new(forwarder: &'f Forwarder) -> Self {
        Self { forwarder, shard: None, left: 0, locks: 0 }
    }

    /// The shard of a peer.
    fn shard(&mut self, id: PeerId) -> &mut Shard {
        let number = self.forwarder.shard_of(id);
        if self.left == 0 || self.shard.as_ref().is_none_or(|(held, _)| *held != number) {
            // Before the next one is waited for: never two at a time.
            self.release();
            self.left = RUN;
        }
        self.left -= 1;
        let (forwarder, locks) = (self.forwarder, &mut self.locks);
        let (_, shard) = self.shard.get_or_insert_with(|| {
            *locks += 1;
            (number, forwarder.lock(number))
        });
        shard
    }

    /// Whether there is a line that an answer may be for.
    fn check_line(&mut self, receiver: u32) -> Result<(), Refusal> {
        let id = PeerId::of_session(receiver);
        self.shard(id).line(id).map(|_| ()).ok_or(Refusal::UnknownSession)
    }

    fn release(&mut self) {
        self.shard = None;
    }
}
