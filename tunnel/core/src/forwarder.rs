//! The half of the data plane that workers share: the lines of live peers, and what a lane must know of the
//! device.
//!
//! Lines are spread over shards by the low bits of the peer's number, which are also in the receiver index of
//! every transport message, so that the kernel can give a datagram to the worker whose shard it is for. Any
//! worker may still handle any packet: it locks the shard it needs. Locks: one shard at a time and nothing
//! beside it, for [`RUN`] packets at most and never across a system call (an [`Output`](crate::Output) is
//! asked for room before). The mutexes hand over to a waiter after half a millisecond (parking_lot's "eventual
//! fairness"), so a busy worker cannot starve the engine, and the engine holds them for a few lines only.

use crate::identity::ReachKeys;
use crate::line::{Line, Site, Traffic};
use crate::path_reports::Reports;
use crate::peers::PeerId;
use crate::schedule::Activity;
use crate::tally::{Ledger, Tally};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Packets for which a lane holds a shard at most: a quarter of a millisecond of full-size ones.
pub(crate) const RUN: u32 = 256;
/// Lines that the engine visits under one lock.
const VISIT: usize = 256;

pub(crate) struct Forwarder {
    shards: Box<[Mutex<Shard>]>,
    view: Mutex<Arc<View>>,
    version: AtomicU64,
    ledgers: Mutex<Vec<Arc<Ledger>>>,
}

/// What a lane must know of the device. Replaced as a whole.
#[derive(Clone)]
pub(crate) struct View {
    /// Our own key's; none without a key.
    pub(crate) reach: Option<ReachKeys>,
    /// Whether introductions are for us.
    pub(crate) certified: bool,
    pub(crate) mtu: usize,
    /// Whether the service class of packets is copied to their datagrams.
    pub(crate) copy_dscp: bool,
    /// What is known of narrow paths, and no line has read yet.
    pub(crate) reports: Reports,
}

/// The lines of some peers, by number.
#[derive(Default)]
pub(crate) struct Shard {
    lines: Vec<Option<Box<Line>>>,
}

/// A line at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glance {
    pub(crate) site: Option<Site>,
    pub(crate) activity: Activity,
    pub(crate) traffic: Traffic,
    /// When the keys to send with end.
    pub(crate) keys_until: Option<Instant>,
    /// When the next handshake is for us to begin.
    pub(crate) rekey_at: Option<Instant>,
    /// When the path has to be asked again.
    pub(crate) path_due: Option<Instant>,
    /// Whether that has changed and nobody was told.
    pub(crate) path_news: bool,
    /// The largest IP packet on the way to the peer, where that is known to be less than asked for.
    pub(crate) path_mtu: Option<u16>,
    /// Whether the line asks for no session any more, because it has done so.
    pub(crate) asked: bool,
    /// Whether there is news that nobody was told, or the bell for it was not heard.
    pub(crate) has_news: bool,
}

impl Forwarder {
    /// `shards` is between 1 and 128.
    pub(crate) fn new(shards: usize, mtu: usize) -> Self {
        Self {
            shards: (0..shards.clamp(1, 128)).map(|_| Mutex::default()).collect(),
            view: Mutex::new(Arc::new(View {
                reach: None,
                certified: false,
                mtu,
                copy_dscp: false,
                reports: Reports::default(),
            })),
            version: AtomicU64::new(0),
            ledgers: Mutex::default(),
        }
    }

    /// The shard that a peer's line is in.
    pub(crate) fn shard_of(&self, id: PeerId) -> usize {
        // Seven bits, because a classic BPF program has just one octet of the index to go by.
        (id.number() & 127) as usize % self.shards.len()
    }

    pub(crate) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock()
    }

    /// Runs `visit` on a peer's line, if there is one.
    pub(crate) fn with_line<R>(&self, id: PeerId, visit: impl FnOnce(&mut Line) -> R) -> Option<R> {
        self.lock(self.shard_of(id)).line(id).map(visit)
    }

    /// Lets a peer have sessions. Packets that wait on the line stay.
    pub(crate) fn open_line(&self, id: PeerId, site: Site, now: Instant) {
        let mut shard = self.lock(self.shard_of(id));
        shard.place(id).get_or_insert_with(|| Box::new(Line::waiting(now))).open(site, now);
    }

    /// Takes a line out: from the moment this returns none of its keys opens or seals anything.
    pub(crate) fn close_line(&self, id: PeerId) -> Option<Box<Line>> {
        let mut shard = self.lock(self.shard_of(id));
        shard.lines.get_mut(id.number() as usize)?.take()
    }

    /// Looks at many lines with few locks; those without a line are left out. The order is not kept.
    pub(crate) fn glance(&self, ids: &[PeerId]) -> Vec<(PeerId, Glance)> {
        let mut glances = Vec::with_capacity(ids.len());
        for number in 0..self.shards.len() {
            let mut own = ids.iter().copied().filter(|id| self.shard_of(*id) == number).peekable();
            while own.peek().is_some() {
                let mut shard = self.lock(number);
                let visited = own.by_ref().take(VISIT);
                glances.extend(visited.filter_map(|id| Some((id, shard.line(id)?.glance()))));
            }
        }
        glances
    }

    pub(crate) fn view(&self) -> Arc<View> {
        self.view.lock().clone()
    }

    /// Brings a lane's copy of the view up to date.
    pub(crate) fn refresh(&self, view: &mut Arc<View>, version: &mut u64) {
        let newest = self.version.load(Ordering::Acquire);
        if *version != newest {
            (*view, *version) = (self.view(), newest);
        }
    }

    pub(crate) fn change_view(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.lock();
        change(Arc::make_mut(&mut view));
        self.version.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn new_ledger(&self) -> Arc<Ledger> {
        let ledger = Arc::new(Ledger::default());
        self.ledgers.lock().push(ledger.clone());
        ledger
    }

    /// All lanes' counts together.
    pub(crate) fn tally(&self) -> Tally {
        self.ledgers.lock().iter().fold(Tally::default(), |sum, ledger| sum.plus(ledger.read()))
    }
}

impl Shard {
    pub(crate) fn line(&mut self, id: PeerId) -> Option<&mut Line> {
        self.lines.get_mut(id.number() as usize)?.as_deref_mut()
    }

    /// The line of a peer that a packet is for: a waiting one where there is none yet.
    pub(crate) fn line_or_waiting(&mut self, id: PeerId, now: Instant) -> &mut Line {
        self.place(id).get_or_insert_with(|| Box::new(Line::waiting(now)))
    }

    /// Drops a line on which nothing but packets waits.
    pub(crate) fn drop_waiting(&mut self, id: PeerId) {
        if let Some(place) = self.lines.get_mut(id.number() as usize)
            && place.as_ref().is_some_and(|line| line.site().is_none())
        {
            *place = None;
        }
    }

    fn place(&mut self, id: PeerId) -> &mut Option<Box<Line>> {
        let number = id.number() as usize;
        if self.lines.len() <= number {
            self.lines.resize_with(number + 1, || None);
        }
        &mut self.lines[number]
    }
}
