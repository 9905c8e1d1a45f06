//! The thread that decides: commands, handshakes, timers, and the state of the interface.
//!
//! It owns the engine. Packets of live peers never come here: workers move them, and hand up what they cannot
//! decide. Commands are looked at before each handshake, so a revocation waits for one of them at most, whatever
//! flood there is. The interface's state (up, down, deleted) is followed here: the sockets are open while it is
//! up.

mod jobs;
mod passage;
mod upcall_queue;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use edge_tunnel_core::{Class, Engine, Now};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::commands::Inbox;
use crate::events::Subscribers;
use crate::outlet::{Losses, Outlet};
use crate::sys::bpf::QueueMap;
use crate::tun::{self, Queues};
use crate::udp::{BindError, Sockets};
use passage::Passage;
pub use passage::Unfinished;
use upcall_queue::UpcallQueue;
use worker::{Foreman, Order, Queue, Worker};

/// Commands per turn.
const COMMANDS: usize = 64;

/// How often the interface is asked whether it is still up. That it goes up, or away, is told at once.
const LINK_CHECK: Duration = Duration::from_secs(1);

/// Upcalls of each class that are taken in turn, in its order, and turns before timers are looked at.
const SHARES: [usize; 4] = [64, 8, 8, 2];
const ROUNDS: usize = 8;

/// How long workers may take to give up their old sockets: the engine waits for them.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Changes of routes that the kernel is told of in one turn.
const ROUTES: usize = 256;

/// How soon a full socket is tried again.
const SEND_AGAIN: Duration = Duration::from_millis(1);

/// A pause for a TUN descriptor that reports an error and then gives none: it is being deleted.
const TUN_PAUSE: Duration = Duration::from_millis(10);

/// Why the data plane ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The interface was deleted.
    InterfaceDeleted,
    /// [`Device::shutdown`](crate::Device::shutdown) was called.
    Requested,
    /// The kernel failed a call that the data plane cannot do without.
    Failed(io::Error),
}

/// What `epoll` watches. The discriminant is the event's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Source {
    Commands = 0,
    Tun = 1,
    Upcalls = 2,
}

/// What `epoll` reported for this turn.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    commands: bool,
    upcalls: bool,
    /// Only asked for while the interface is down.
    went_up: bool,
    tun_error: bool,
}

/// The inner ends of the workers.
pub(crate) struct Ends {
    pub(crate) workers: usize,
    /// One for each worker, or one for all: then only the first worker reads from it.
    pub(crate) queues: Queues,
    /// Keeps the hash of the queues of datagrams from being guessed.
    pub(crate) seed: u64,
}

/// State of the engine's thread. Jobs from other threads get it by exclusive reference.
pub(crate) struct DataPlane {
    pub(crate) engine: Engine,
    pub(crate) subscribers: Subscribers,
    /// For what the engine sends itself: by the sockets of the first worker.
    outlet: Outlet,
    /// Which worker the kernel gives the packets for a network to, with several.
    steering: Option<QueueMap>,
    epoll: Epoll,
    inbox: Inbox,
    upcalls: UpcallQueue,
    foremen: Vec<Foreman>,
    threads: Vec<JoinHandle<()>>,
    /// One pair for each worker.
    sockets: Vec<Arc<Sockets>>,
    /// What the sockets before these had no room for.
    receive_dropped: u64,
    /// The port asked for; 0 = any. The one in use is that of the sockets.
    port: u16,
    fwmark: u32,
    /// None before the first look.
    up: Option<bool>,
    next_link_check: Instant,
    /// Whether a socket is full.
    blocked: bool,
    /// The last failure to open the sockets, so that it is logged once.
    bind_failure: Option<String>,
    stop: Option<StopReason>,
}

impl DataPlane {
    /// Starts a worker for each queue.
    ///
    /// # Errors
    ///
    /// `epoll`, an eventfd or a thread could not be had.
    pub(crate) fn new(ends: Ends, engine: Engine, inbox: Inbox, now: Now) -> io::Result<Self> {
        let Queues { first, others, steering } = ends.queues;
        let first = Arc::new(first);
        let upcalls = UpcallQueue::new()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&inbox, EpollEvent::new(EpollFlags::EPOLLIN, Source::Commands as u64))?;
        epoll.add(&upcalls, EpollEvent::new(EpollFlags::EPOLLIN, Source::Upcalls as u64))?;
        let mut plane = Self {
            engine,
            subscribers: Subscribers::default(),
            outlet: Outlet::new(Arc::clone(&first)),
            steering,
            epoll,
            inbox,
            upcalls,
            foremen: Vec::new(),
            threads: Vec::new(),
            sockets: Vec::new(),
            receive_dropped: 0,
            port: 0,
            fwmark: 0,
            up: None,
            next_link_check: now.mono,
            blocked: false,
            bind_failure: None,
            stop: None,
        };
        if plane.steering.is_some() {
            plane.engine.follow_routes();
        }
        let mut others = others.into_iter().map(Arc::new);
        for number in 0..ends.workers {
            let own = if number == 0 { Some(Arc::clone(&first)) } else { others.next() };
            let reads = own.is_some();
            plane.start_worker(Queue { tun: own.unwrap_or_else(|| Arc::clone(&first)), reads }, ends.seed)?;
        }
        Ok(plane)
    }

    fn start_worker(&mut self, queue: Queue, seed: u64) -> io::Result<()> {
        let (worker, foreman) = Worker::new(self.engine.lane(), queue, self.upcalls.raiser(), seed)?;
        let thread = thread::Builder::new().name(format!("worker-{}", self.foremen.len()));
        self.foremen.push(foreman);
        self.threads.push(thread.spawn(move || worker.run())?);
        Ok(())
    }

    /// Runs until the interface is deleted or [`Self::request_stop`] was called.
    pub(crate) fn run(mut self) -> StopReason {
        // A new interface is down; this also arms the wake-up for when it goes up.
        let mut result = self.follow_link(read_clocks());
        let mut more = false;
        while self.stop.is_none() {
            match result.and_then(|()| self.wait(more)).and_then(|ready| self.turn(ready)) {
                Ok(left) => {
                    more = left;
                    result = Ok(());
                }
                Err(error) if tun::is_gone(&error) => return StopReason::InterfaceDeleted,
                Err(error) => return StopReason::Failed(error),
            }
        }
        self.stop.take().unwrap_or(StopReason::Requested)
    }

    /// Ends the loop after this turn.
    pub(crate) fn request_stop(&mut self) {
        self.stop = Some(StopReason::Requested);
    }

    /// One turn. Returns whether commands or upcalls are left over.
    fn turn(&mut self, ready: Ready) -> io::Result<bool> {
        let mut more = self.take_commands(ready.commands);
        if ready.upcalls {
            self.upcalls.clear_wake_up();
            if let Some(error) = self.upcalls.take_failure() {
                return Err(error);
            }
        }
        more |= self.take_upcalls();
        let now = read_clocks();
        if self.engine.poll_timeout().is_some_and(|(deadline, _)| deadline <= now.mono) {
            self.engine.handle_timeout(now, &mut self.outlet);
        }
        self.flush();
        more |= self.steer();
        while let Some(event) = self.engine.poll_event() {
            self.subscribers.publish(&event);
        }
        if ready.tun_error {
            // It is being deleted: the worker that reads from it will tell.
            thread::sleep(TUN_PAUSE);
        }
        if ready.went_up || now.mono >= self.next_link_check {
            self.follow_link(now)?;
        }
        Ok(more)
    }

    /// Waits for input, a deadline, or neither if there is `more` to do.
    fn wait(&self, more: bool) -> io::Result<Ready> {
        let timeout = if more { EpollTimeout::ZERO } else { self.timeout(Instant::now()) };
        let mut events = [EpollEvent::empty(); 3];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let mut ready = Ready::default();
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        for event in &events[..count] {
            match event.data() {
                data if data == Source::Commands as u64 => ready.commands = true,
                data if data == Source::Upcalls as u64 => ready.upcalls = true,
                _ => {
                    ready.went_up = event.events().contains(EpollFlags::EPOLLOUT);
                    ready.tun_error = event.events().intersects(broken);
                }
            }
        }
        Ok(ready)
    }

    /// Time to the next deadline, rounded up to what `epoll` can count.
    fn timeout(&self, now: Instant) -> EpollTimeout {
        let deadline = self.engine.poll_timeout().map(|(deadline, _)| deadline);
        let again = self.blocked.then(|| now + SEND_AGAIN);
        let deadline = deadline.into_iter().chain(again).fold(self.next_link_check, Instant::min);
        let millis = deadline.saturating_duration_since(now).as_micros().div_ceil(1000);
        // At most LINK_CHECK, so it always fits.
        EpollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
    }

    fn take_commands(&mut self, woken: bool) -> bool {
        if woken {
            self.inbox.clear_wake_up();
        }
        for _ in 0..COMMANDS {
            let Some(job) = self.inbox.next() else { return false };
            job(self);
        }
        true
    }

    /// Takes upcalls, the classes in turn by their shares; true when some are left. A command goes before each
    /// handshake.
    fn take_upcalls(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let mut taken = false;
            for (class, share) in Class::ALL.into_iter().zip(SHARES) {
                for _ in 0..share {
                    let Some(raised) = self.upcalls.next(class) else { break };
                    taken = true;
                    let now = read_clocks();
                    self.outlet.sources().begin_batch(now.mono, raised.arrival.into_iter());
                    self.engine.handle_upcall(now, &raised.upcall, &mut self.outlet);
                    self.take_commands(false);
                    if self.stop.is_some() {
                        return false;
                    }
                }
            }
            // Answers do not wait for the next flood.
            self.flush();
            if !taken {
                return false;
            }
        }
        true
    }

    /// Tells the kernel of routes that have changed; true when some are left.
    fn steer(&mut self) -> bool {
        let Some(map) = &self.steering else { return false };
        for _ in 0..ROUTES {
            let Some((net, shard)) = self.engine.poll_route() else { return false };
            let told = match shard.map(u32::try_from) {
                Some(Ok(queue)) => map.insert(net.address(), net.prefix(), queue),
                _ => map.remove(net.address(), net.prefix()),
            };
            if let Err(error) = told {
                // Its packets go to another worker than their peer's, which is right, too, and slower.
                tracing::debug!(%net, %error, "packets are not steered to their worker");
            }
        }
        true
    }

    fn flush(&mut self) {
        self.blocked = self.outlet.flush() != [false; 2];
        for (peer, local) in self.outlet.sources().take_learned() {
            for foreman in &self.foremen {
                foreman.hint(Order::Source(peer, local));
            }
        }
    }

    /// Has everybody answer by the routes alone: they have changed.
    fn forget_sources(&mut self) {
        self.outlet.sources().forget_all();
        for foreman in &self.foremen {
            foreman.order(Order::ForgetSources);
        }
    }

    /// Opens or closes the sockets when the interface went up or down.
    fn follow_link(&mut self, now: Now) -> io::Result<()> {
        self.next_link_check = now.mono + LINK_CHECK;
        let up = self.outlet.tun().is_up();
        if let Some(mtu) = self.outlet.tun().mtu() {
            self.engine.set_mtu(mtu);
        }
        if up && self.sockets.is_empty() {
            match self.open_sockets(self.port, self.fwmark) {
                Ok(sockets) => {
                    self.replace_sockets(sockets);
                    self.engine.sockets_opened(now);
                }
                Err(error) => self.report_bind_failure(&error),
            }
        } else if !up && !self.sockets.is_empty() {
            self.replace_sockets(Vec::new());
        }
        if self.up != Some(up) {
            tracing::debug!(up, "interface changed");
            // While it is down, the driver tells by EPOLLOUT that it went up.
            let tun = self.outlet.tun();
            match (self.up, up) {
                (None, true) => {}
                (_, true) => self.epoll.delete(tun)?,
                (_, false) => {
                    self.epoll.add(tun, EpollEvent::new(EpollFlags::EPOLLOUT, Source::Tun as u64))?;
                }
            }
            self.up = Some(up);
        }
        Ok(())
    }

    fn open_sockets(&self, port: u16, fwmark: u32) -> Result<Vec<Sockets>, BindError> {
        Sockets::open(self.foremen.len(), port, fwmark, self.outlet.tun().offloads())
    }

    /// Logged once per cause: it is tried again at each check.
    fn report_bind_failure(&mut self, error: &BindError) {
        let text = format!("{error}: {}", io::Error::from_raw_os_error(error.errno()));
        if self.bind_failure.as_ref() != Some(&text) {
            tracing::error!("{text}; trying again every {} s", LINK_CHECK.as_secs());
            self.bind_failure = Some(text);
        }
    }

    /// Gives each worker its pair of sockets, or none, and waits until the old ones are closed: their port may
    /// be asked for next.
    fn replace_sockets(&mut self, sockets: Vec<Sockets>) {
        self.receive_dropped = self.receive_dropped();
        self.sockets = sockets.into_iter().map(Arc::new).collect();
        // A port that the kernel chose is kept over down and up, as the kernel's WireGuard does.
        self.port = self.sockets.first().map_or(self.port, |sockets| sockets.port());
        self.outlet.set_sockets(self.sockets.first().map(Arc::clone));
        self.bind_failure = None;
        let (passage, done) = Passage::of(self.foremen.len());
        for (number, foreman) in self.foremen.iter().enumerate() {
            foreman.order(Order::Sockets(self.sockets.get(number).map(Arc::clone), done.clone()));
        }
        drop(done);
        if passage.wait_until(Instant::now() + HAND_OVER).is_err() {
            tracing::warn!("a worker still has its old sockets");
        }
    }

    /// What to wait for, in another thread, until nothing that was opened before this call is on its way inward.
    fn passage(&mut self) -> Passage {
        self.flush();
        let (passage, done) = Passage::of(self.foremen.len());
        for foreman in &self.foremen {
            foreman.order(Order::Pass(done.clone()));
        }
        passage
    }

    /// Datagrams that the sockets had no room for.
    fn receive_dropped(&self) -> u64 {
        self.receive_dropped + self.sockets.iter().map(|sockets| sockets.receive_dropped()).sum::<u64>()
    }

    /// What was lost on the way to the kernel and from it.
    fn losses(&self) -> Losses {
        self.foremen.iter().fold(self.outlet.losses(), |sum, foreman| sum.plus(foreman.losses()))
    }
}

impl Drop for DataPlane {
    /// The interface and the sockets are gone when the last worker has let go of them.
    fn drop(&mut self) {
        for foreman in &self.foremen {
            foreman.order(Order::Stop);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Both clocks, read together.
pub(crate) fn read_clocks() -> Now {
    Now { mono: Instant::now(), wall: SystemTime::now() }
}
