//! A thread that moves packets: one loop over a queue of the TUN interface and a pair of UDP sockets.
//!
//! Each packet runs to completion here, in both directions: read in batches, opened or sealed on the worker's
//! lane straight into the buffers of its outlet, written out at the end of the turn. What needs a decision goes
//! up to the engine's thread, which is never waited for. Orders from there come between two turns.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use edge_tunnel_core::{Lane, Now};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::read_clocks;
use super::upcall_queue::Raiser;
use crate::outlet::{Losses, Outlet};
use crate::sources::Sources;
use crate::sys::ancillary::{Local, Witness};
use crate::tun::{PacketBatch, Tun};
use crate::udp::{DatagramBatch, ErrorBatch, Sockets};

/// Orders that may wait for one worker.
const ORDERS: usize = 4096;

/// A pause for a TUN descriptor that reports an error and then gives none: it is being deleted.
const TUN_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// What the engine's thread has a worker do.
pub(super) enum Order {
    /// Use these sockets from now on, or none, and say when the old ones are given up.
    Sockets(Option<Arc<Sockets>>, SyncSender<()>),
    /// Answer this peer from this address of ours.
    Source(SocketAddr, Local),
    /// Answer all peers from where the routes say.
    ForgetSources,
    /// Say when what was opened before this order has been written out.
    Pass(SyncSender<()>),
    Stop,
}

/// The engine's end: where orders go and losses are read.
pub(super) struct Foreman {
    orders: SyncSender<Order>,
    wake: Arc<EventFd>,
    losses: Arc<Mutex<Losses>>,
}

impl Foreman {
    /// Gives an order that must not be lost. The worker takes them all before each turn, so this waits for one
    /// batch at most.
    pub(super) fn order(&self, order: Order) {
        // Hints may have filled the queue of a worker that sleeps: it must be awake before this waits for room.
        let _ = self.wake.write(1);
        // An error means that the worker has ended, and the data plane is about to.
        let _ = self.orders.send(order);
        let _ = self.wake.write(1);
    }

    /// Gives an order that may be lost, and is taken when the worker is awake anyway.
    pub(super) fn hint(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    pub(super) fn losses(&self) -> Losses {
        *self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `epoll` watches. The discriminant is the event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Source {
    Orders = 0,
    Tun = 1,
    V4 = 2,
    V6 = 3,
}

const FAMILIES: [Source; 2] = [Source::V4, Source::V6];

/// What `epoll` reported for this turn.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    orders: bool,
    packets: bool,
    tun_error: bool,
    datagrams: [bool; 2],
    /// Errors about what was sent wait.
    errors: [bool; 2],
}

/// A worker's inner end.
pub(super) struct Queue {
    pub(super) tun: Arc<Tun>,
    /// Whether packets are read from it here, and not only written.
    pub(super) reads: bool,
}

/// State of a worker's thread.
pub(super) struct Worker {
    lane: Lane,
    outlet: Outlet,
    raiser: Raiser,
    epoll: Epoll,
    orders: Receiver<Order>,
    wake: Arc<EventFd>,
    /// Whether packets are read from the interface here, and not only written.
    reads: bool,
    /// Keeps the queues' hash from being guessed.
    seed: u64,
    /// Families whose socket is full. While one is, no packets are taken from the interface.
    blocked: [bool; 2],
    /// Beside those of the outlet.
    losses: Losses,
    published: Losses,
    publish: Arc<Mutex<Losses>>,
    stopped: bool,
}

/// The input buffers of the loop, apart from the state so that both can be borrowed.
struct Batches {
    /// IPv4, IPv6.
    datagrams: [DatagramBatch; 2],
    errors: ErrorBatch,
    packets: PacketBatch,
}

impl Worker {
    /// # Errors
    ///
    /// `epoll` or an eventfd could not be set up.
    pub(super) fn new(lane: Lane, queue: Queue, raiser: Raiser, seed: u64) -> io::Result<(Self, Foreman)> {
        let Queue { tun, reads } = queue;
        let (sender, orders) = mpsc::sync_channel(ORDERS);
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let publish = Arc::new(Mutex::new(Losses::default()));
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, Source::Orders as u64))?;
        if reads {
            epoll.add(&*tun, EpollEvent::new(EpollFlags::EPOLLIN, Source::Tun as u64))?;
        }
        let foreman = Foreman { orders: sender, wake: Arc::clone(&wake), losses: Arc::clone(&publish) };
        let worker = Self {
            lane,
            outlet: Outlet::new(tun),
            raiser,
            epoll,
            orders,
            wake,
            reads,
            seed,
            blocked: [false; 2],
            losses: Losses::default(),
            published: Losses::default(),
            publish,
            stopped: false,
        };
        Ok((worker, foreman))
    }

    /// Runs until it is stopped, or the kernel fails a call that it cannot do without.
    pub(super) fn run(mut self) {
        let mut batches = Batches {
            datagrams: [DatagramBatch::new(self.seed), DatagramBatch::new(self.seed)],
            errors: ErrorBatch::new(),
            packets: PacketBatch::new(),
        };
        while !self.stopped {
            let turn = self.wait(&batches).and_then(|ready| self.turn(ready, &mut batches));
            if let Err(error) = turn {
                return self.raiser.fail(error);
            }
        }
    }

    fn turn(&mut self, ready: Ready, batches: &mut Batches) -> io::Result<()> {
        if ready.orders {
            let _ = self.wake.read();
        }
        while let Ok(order) = self.orders.try_recv() {
            self.take_order(order)?;
        }
        let now = read_clocks();
        for family in [0, 1] {
            if ready.errors[family] {
                self.take_errors(family, &mut batches.errors);
            }
            if ready.datagrams[family] {
                self.take_datagrams(family, now, &mut batches.datagrams[family]);
            }
        }
        if ready.packets || ready.tun_error {
            self.take_packets(now, &mut batches.packets, ready.tun_error)?;
        }
        self.flush()?;
        self.raiser.wake();
        self.publish_losses();
        Ok(())
    }

    /// Waits for input, unless datagrams are known to wait.
    fn wait(&self, batches: &Batches) -> io::Result<Ready> {
        let mut ready = Ready {
            datagrams: batches.datagrams.each_ref().map(DatagramBatch::has_more),
            ..Ready::default()
        };
        let at_once = ready.datagrams.contains(&true);
        let timeout = if at_once { EpollTimeout::ZERO } else { EpollTimeout::NONE };
        let mut events = [EpollEvent::empty(); 4];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        for event in &events[..count] {
            let readable = event.events().intersects(EpollFlags::EPOLLIN | broken);
            match event.data() {
                data if data == Source::Orders as u64 => ready.orders = true,
                data if data == Source::Tun as u64 => {
                    ready.packets = event.events().contains(EpollFlags::EPOLLIN);
                    ready.tun_error = event.events().intersects(broken);
                }
                data => {
                    let family = usize::from(data != Source::V4 as u64);
                    ready.datagrams[family] |= readable;
                    ready.errors[family] = event.events().intersects(broken);
                }
            }
        }
        Ok(ready)
    }

    fn take_order(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Sockets(sockets, done) => {
                self.replace_sockets(sockets)?;
                // Nobody waits any more if the engine's thread has ended.
                let _ = done.send(());
            }
            Order::Source(peer, local) => self.outlet.sources().learn(peer, local),
            Order::ForgetSources => self.outlet.sources().forget_all(),
            // The outlet is empty between two turns.
            Order::Pass(done) => {
                let _ = done.send(());
            }
            Order::Stop => self.stopped = true,
        }
        Ok(())
    }

    fn take_datagrams(&mut self, family: usize, now: Now, batch: &mut DatagramBatch) {
        let Some(socket) = self.outlet.sockets().and_then(|sockets| sockets.by_family()[family]) else {
            return;
        };
        let dropped = batch.dropped();
        let received = batch.receive(socket, now.mono);
        self.losses.datagrams_crowded_out += batch.dropped() - dropped;
        match received {
            Ok(true) => {
                self.raiser.begin_batch(batch.arrivals(Sources::is_answered));
                self.lane.handle_datagrams(now, batch.iter(), &mut self.outlet, &mut self.raiser);
            }
            Ok(false) => {}
            // An ICMP error or the like: reading it cleared it, and WireGuard's timers handle loss.
            Err(_) => self.losses.socket_errors += 1,
        }
    }

    /// Tells the lane of datagrams that were too large.
    fn take_errors(&self, family: usize, batch: &mut ErrorBatch) {
        if let Some(socket) = self.outlet.sockets().and_then(|sockets| sockets.by_family()[family]) {
            batch.drain(socket, |report| {
                let quoted = (report.witness == Witness::Router).then_some(report.quoted);
                self.lane.path_too_big(report.to, report.mtu, quoted);
            });
        }
    }

    fn take_packets(&mut self, now: Now, batch: &mut PacketBatch, error_reported: bool) -> io::Result<()> {
        batch.read(self.outlet.tun())?;
        if !batch.is_empty() {
            self.losses.packets_uncut +=
                self.lane
                    .handle_packets(now, &mut self.outlet, &mut self.raiser, |take| batch.for_each(take));
        } else if error_reported {
            std::thread::sleep(TUN_PAUSE);
        }
        Ok(())
    }

    /// Empties the outlet. While a socket is full, its room is waited for and the interface is not
    /// read, so that the backlog builds up in its queue, where the kernel's own rules apply.
    fn flush(&mut self) -> io::Result<()> {
        let blocked = self.outlet.flush();
        if blocked != self.blocked {
            self.blocked = blocked;
            self.watch_tun()?;
            for family in [0, 1] {
                self.watch_socket(family)?;
            }
        }
        Ok(())
    }

    fn replace_sockets(&mut self, sockets: Option<Arc<Sockets>>) -> io::Result<()> {
        for socket in self.outlet.sockets().into_iter().flat_map(Sockets::by_family).flatten() {
            // Closing removes it too, but others hold it yet.
            self.epoll.delete(socket)?;
        }
        self.outlet.set_sockets(sockets);
        self.blocked = [false; 2];
        for (socket, source) in self.outlet.sockets().into_iter().flat_map(Sockets::by_family).zip(FAMILIES) {
            if let Some(socket) = socket {
                self.epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, source as u64))?;
            }
        }
        self.watch_tun()
    }

    fn watch_tun(&self) -> io::Result<()> {
        if self.reads {
            let mut interest = EpollFlags::empty();
            interest.set(EpollFlags::EPOLLIN, self.blocked == [false; 2]);
            self.epoll.modify(self.outlet.tun(), &mut EpollEvent::new(interest, Source::Tun as u64))?;
        }
        Ok(())
    }

    fn watch_socket(&self, family: usize) -> io::Result<()> {
        let socket: Option<BorrowedFd<'_>> =
            self.outlet.sockets().and_then(|sockets| sockets.by_family()[family]);
        if let Some(socket) = socket {
            let mut interest = EpollFlags::EPOLLIN;
            interest.set(EpollFlags::EPOLLOUT, self.blocked[family]);
            self.epoll.modify(socket, &mut EpollEvent::new(interest, FAMILIES[family] as u64))?;
        }
        Ok(())
    }

    /// Losses are rare, so the lock is, too.
    fn publish_losses(&mut self) {
        let losses = self.losses.plus(self.outlet.losses());
        if losses != self.published {
            self.published = losses;
            *self.publish.lock().unwrap_or_else(PoisonError::into_inner) = losses;
        }
    }
}
