//! The data path of one live peer: what a worker needs to move its packets, and nothing else.
//!
//! Two [`Transport`]s, so that the public-key work of a handshake is done on the one that does not send, out of
//! the worker's way: the key pair in use, beside it the one before or the one to come. A session that we
//! answered sends only once the peer has used it (whitepaper §6, "next" and "current"); until then, and for
//! late packets after, the other one serves. What the engine must know is noted here ([`News`]) and told by a
//! bell that may be missed: the engine looks by itself once a second. Who may have a line is decided there.

mod carriage;

use crate::allowed_ips::Routes;
use crate::ecn::{self, Ecn, Merged};
use crate::forwarder::Glance;
use crate::icmp::Allowance;
use crate::message::DATA_OVERHEAD;
use crate::outer_path::OuterPath;
use crate::output::{Marks, Output};
use crate::path_mtu::Probe;
use crate::path_reports::Reports;
use crate::peers::PeerId;
use crate::schedule::Activity;
use crate::tally::Tally;
use crate::time::Now;
use crate::transport::{Opened, REKEY_AFTER, REKEY_AFTER_RECEIVED, Transport, sealed_len};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Packets that wait for a session, at most, as the kernel's and wireguard-go's.
const MAX_QUEUE: usize = 128;

pub(crate) struct Line {
    transports: [Option<Box<Transport>>; 2],
    /// Which of them sends, if it has keys.
    sending: usize,
    /// The one that the engine has taken for a handshake.
    taken: Option<usize>,
    /// None until the engine has let the peer have a session: packets wait.
    site: Option<Site>,
    pub(crate) activity: Activity,
    pub(crate) traffic: Traffic,
    path: OuterPath,
    queue: VecDeque<Box<[u8]>>,
    news: News,
    /// Whether the bell was rung and the engine has not come yet.
    rung: bool,
    /// Whether a handshake was asked for: it is not asked for again until the engine has seen to it.
    asked: bool,
}

/// Where the peer is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) endpoint: Option<SocketAddr>,
    /// Whether the peer was heard from there, or an administrator said so.
    pub(crate) known: bool,
}

/// Octets since the line was opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Of authenticated datagrams.
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    /// Of inner packets.
    pub(crate) rx_inner: u64,
    pub(crate) tx_inner: u64,
}

impl Traffic {
    /// The sum of both.
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            rx_bytes: self.rx_bytes + other.rx_bytes,
            tx_bytes: self.tx_bytes + other.tx_bytes,
            rx_inner: self.rx_inner + other.rx_inner,
            tx_inner: self.tx_inner + other.tx_inner,
        }
    }
}

/// What happened on a line and concerns the engine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    /// Sessions that the peer has proven by using them, and where it was then.
    pub(crate) confirmed: Option<(u32, SocketAddr)>,
    /// Moves of the endpoint, and where the peer was before the first.
    pub(crate) roamed: Option<(u32, SocketAddr)>,
    /// Packets wait for a session, or the initiator's time to rekey has come.
    pub(crate) wants_handshake: bool,
}

/// What a worker needs beside the line.
pub(crate) struct Way<'a, O> {
    pub(crate) out: &'a mut O,
    pub(crate) routes: &'a Routes,
    pub(crate) mtu: usize,
    pub(crate) copy_dscp: bool,
    pub(crate) reports: &'a Reports,
    pub(crate) allowance: &'a mut Allowance,
    /// Room for a padded packet of any size.
    pub(crate) padded: &'a mut [u8],
    pub(crate) tally: &'a mut Tally,
}

/// What became of a transport message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Delivered, or counted as refused.
    Done,
    /// The engine holds the keys at this moment, and will be done with them soon.
    Later,
    /// There are no such keys.
    UnknownSession,
}

impl Line {
    /// A line on which packets wait for the engine's word.
    pub(crate) fn waiting(now: Instant) -> Self {
        Self {
            transports: [None, None],
            sending: 0,
            taken: None,
            site: None,
            activity: Activity::new(now),
            traffic: Traffic::default(),
            path: OuterPath::new(),
            queue: VecDeque::new(),
            news: News::default(),
            rung: false,
            asked: false,
        }
    }

    /// Lets the peer have sessions.
    pub(crate) fn open(&mut self, site: Site, now: Instant) {
        self.site = Some(site);
        self.activity = Activity::new(now);
    }

    pub(crate) fn site(&self) -> Option<Site> {
        self.site
    }

    /// The endpoint is what an administrator says.
    pub(crate) fn set_endpoint(&mut self, endpoint: SocketAddr) {
        if let Some(site) = &mut self.site {
            *site = Site { endpoint: Some(endpoint), known: true };
        }
    }

    /// Opens a transport message and delivers what is in it.
    pub(crate) fn receive<O: Output>(
        &mut self,
        id: PeerId,
        now: Now,
        (from, ecn, receiver): (SocketAddr, Ecn, u32),
        datagram: &[u8],
        way: &mut Way<'_, O>,
    ) -> Received {
        let which = PeerId::transport_of(receiver);
        let Some(transport) = self.transports[which].as_deref_mut() else {
            return if self.taken == Some(which) { Received::Later } else { Received::UnknownSession };
        };
        let buffer = way.out.packet_buffer(datagram.len());
        let opened = transport.open(datagram, receiver, now.mono, buffer);
        let mut probe = None;
        match opened {
            Opened::Packet(len, source) if way.routes.lookup(source) == Some(id) => {
                if way.tally.note(ecn::merge(ecn, &mut buffer[..len])) != Merged::Dropped {
                    way.out.commit_packet(len);
                    way.tally.rx_packets += 1;
                    self.traffic.rx_inner += len as u64;
                }
            }
            Opened::Packet(..) => way.tally.packets_wrong_source += 1,
            Opened::NotIp => probe = Probe::parse(&buffer[..datagram.len() - DATA_OVERHEAD]),
            Opened::Keepalive => {}
            Opened::Refused => {
                way.tally.data_refused += 1;
                return Received::Done;
            }
        }
        let confirmed = transport.is_confirmed_by(receiver);
        let data = opened != Opened::Keepalive;
        let rekey = data && transport.wants_rekey(now.mono, REKEY_AFTER_RECEIVED);
        self.authentic((from, datagram.len()), data, now.mono);
        self.ask(rekey);
        if confirmed {
            let count = self.news.confirmed.map_or(0, |(count, _)| count);
            self.news.confirmed = Some((count + 1, from));
            self.sending = which;
            self.flush(now.mono, way);
        }
        if let Some(probe) = probe {
            self.take_probe(now.mono, probe, way);
        }
        Received::Done
    }

    /// The peer has shown by keys that it sent this: it is heard, and it is there.
    pub(crate) fn authentic(&mut self, (from, octets): (SocketAddr, usize), data: bool, now: Instant) {
        self.traffic.rx_bytes += octets as u64;
        self.activity.heard(now, data);
        let Some(site) = &mut self.site else { return };
        let before = site.endpoint.replace(from).filter(|_| site.known);
        site.known = true;
        if let Some(old) = before.filter(|old| *old != from) {
            let (count, first) = self.news.roamed.unwrap_or((0, old));
            self.news.roamed = Some((count + 1, first));
        }
    }

    /// Seals a packet to the peer, or keeps it and asks for a session. An empty one is a keepalive.
    pub(crate) fn send<O: Output>(&mut self, now: Instant, packet: &[u8], way: &mut Way<'_, O>) {
        let endpoint = match &self.site {
            Some(Site { endpoint: None, .. }) => {
                way.tally.packets_unroutable += 1;
                return;
            }
            Some(site) => site.endpoint,
            None => None,
        };
        match endpoint.filter(|_| self.has_keys(now)) {
            Some(endpoint) => self.carry(now, endpoint, packet, way),
            None => {
                if !packet.is_empty() {
                    if self.queue.len() >= MAX_QUEUE {
                        // The oldest gives way.
                        self.queue.pop_front();
                        way.tally.packets_unroutable += 1;
                    }
                    self.queue.push_back(packet.into());
                }
                // While the engine has the keys a handshake is on its way already.
                self.ask(self.taken.is_none());
            }
        }
    }

    /// Seals a packet that fits the path.
    fn seal<O: Output>(
        &mut self,
        now: Instant,
        (endpoint, marks): (SocketAddr, Marks),
        packet: &[u8],
        way: &mut Way<'_, O>,
    ) {
        let Some(transport) = self.transports[self.sending].as_deref_mut() else { return };
        let mtu = self.path.padding_limit(endpoint, way.mtu);
        let buffer = way.out.datagram_buffer(endpoint, sealed_len(packet.len(), mtu));
        let Some(len) = transport.seal(packet, mtu, way.padded, buffer) else { return };
        self.path.sealed(buffer);
        if marks != Marks::default() {
            way.out.mark_datagram(marks);
        }
        way.out.commit_datagram(len);
        let rekey = !packet.is_empty() && transport.wants_rekey(now, REKEY_AFTER);
        self.activity.sent(now, !packet.is_empty());
        self.traffic.tx_bytes += len as u64;
        self.traffic.tx_inner += packet.len() as u64;
        way.tally.tx_bytes += len as u64;
        way.tally.tx_packets += u64::from(!packet.is_empty());
        self.ask(rekey);
    }

    /// Sends what waited, if there are keys; true when there was something.
    pub(crate) fn flush<O: Output>(&mut self, now: Instant, way: &mut Way<'_, O>) -> bool {
        if self.queue.is_empty() || !self.has_keys(now) {
            return false;
        }
        for packet in std::mem::take(&mut self.queue) {
            self.send(now, &packet, way);
        }
        true
    }

    /// Drops what waits; how many packets that were.
    pub(crate) fn clear_queue(&mut self) -> usize {
        std::mem::take(&mut self.queue).len()
    }

    fn ask(&mut self, wanted: bool) {
        if wanted && !self.asked {
            self.asked = true;
            self.news.wants_handshake = true;
        }
    }

    /// Whether the bell must be rung now; from then on it counts as rung.
    pub(crate) fn must_ring(&mut self) -> bool {
        let News { confirmed, roamed, wants_handshake } = self.news;
        let wanted = !self.rung && (wants_handshake || confirmed.is_some() || roamed.is_some());
        self.rung |= wanted;
        wanted
    }

    /// The bell was not heard: the next packet rings again.
    pub(crate) fn unring(&mut self) {
        self.rung = false;
    }

    /// What happened since the last time this was asked.
    pub(crate) fn take_news(&mut self) -> News {
        self.rung = false;
        std::mem::take(&mut self.news)
    }

    /// From now on a missing session is asked for again.
    pub(crate) fn forget_asking(&mut self) {
        self.asked = false;
    }

    /// Whether there are keys to send with.
    pub(crate) fn has_keys(&self, now: Instant) -> bool {
        self.transports[self.sending].as_ref().is_some_and(|transport| transport.has_keys(now))
    }

    /// All that the engine's timers ask for.
    pub(crate) fn glance(&self) -> Glance {
        let News { confirmed, roamed, wants_handshake } = self.news;
        Glance {
            site: self.site,
            activity: self.activity,
            traffic: self.traffic,
            keys_until: self.keys_until(),
            rekey_at: self.transports[self.sending].as_ref().and_then(|transport| transport.rekey_at()),
            path_due: self.path.due(),
            path_mtu: self.path.limit(),
            path_news: self.path.has_news(),
            asked: self.asked,
            has_news: wants_handshake || confirmed.is_some() || roamed.is_some(),
        }
    }

    /// When the keys to send with end.
    pub(crate) fn keys_until(&self) -> Option<Instant> {
        self.transports[self.sending].as_ref()?.keys_until()
    }

    /// The place of the transport that a handshake may use without touching the one that sends.
    pub(crate) fn standby(&self, now: Instant) -> usize {
        if self.has_keys(now) { 1 - self.sending } else { self.sending }
    }

    /// The id of the preshared key of the keys that send.
    pub(crate) fn psk(&self) -> Option<u32> {
        Some(self.transports[self.sending].as_ref()?.psk())
    }

    /// The preshared key of our last answer that the peer has not used, and for how long its like were not.
    pub(crate) fn unused(&self, now: Instant) -> Option<(u32, Duration)> {
        let unused = |transport: &Transport| Some((transport.unused_since()?, transport.psk()));
        let (since, psk) = self.transports.iter().flatten().filter_map(|t| unused(t)).max()?;
        Some((psk, now.saturating_duration_since(since)))
    }

    /// Forgets what was made with this preshared key; true when the keys that send were.
    pub(crate) fn forget_psk(&mut self, psk: u32) -> bool {
        let sends = self.psk() == Some(psk);
        for transport in &mut self.transports {
            *transport = transport.take().filter(|transport| transport.psk() != psk);
        }
        sends
    }

    /// Takes a transport away for public-key work; [`Self::put`] must follow soon.
    pub(crate) fn take(&mut self, which: usize) -> Option<Box<Transport>> {
        self.taken = Some(which);
        self.transports[which].take()
    }

    /// Puts a transport in its place; with `send` it sends from now on.
    pub(crate) fn put(&mut self, which: usize, transport: Box<Transport>, send: bool) {
        self.taken = None;
        self.transports[which] = Some(transport);
        if send {
            self.sending = which;
        }
    }

    /// Takes a cookie reply to one of our messages; false when it is not one.
    pub(crate) fn take_cookie(&mut self, which: usize, reply: &[u8]) -> bool {
        self.transports[which].as_mut().is_some_and(|transport| transport.take_cookie(reply))
    }

    /// The protocol gave up: nothing waits any more, and the keys go.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.clear_queue();
        self.activity.expired();
        self.asked = false;
        self.transports.iter_mut().flatten().for_each(|transport| transport.expire(now));
    }
}
